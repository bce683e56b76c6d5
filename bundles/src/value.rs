//! The one value type of the language: JSON's shapes with exact numbers and ordered objects.

use indexmap::IndexMap;

/// Text. Up to 24 bytes stand in the value itself: nearly every name and most values of an event are as short, and an
/// event of 66 fields would otherwise be 130 allocations, made on one thread and freed on another.
pub type Text = compact_str::CompactString;

/// An object; keys keep their order. Its hash is seeded by the process; see [`crate::json::Limits`] for how many keys
/// a stranger can send.
pub type Map = IndexMap<Text, Value, foldhash::fast::RandomState>;

/// A value of an event, a request or an answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A number, exact.
    Number(Number),
    /// Text.
    Text(Text),
    /// A list.
    List(Vec<Value>),
    /// An object; boxed, so that a value is 32 bytes.
    Object(Box<Map>),
}

/// A JSON number kept exactly: an `i64`, or the digits as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Number {
    /// Fits 64 bits.
    Integer(i64),
    /// Any other JSON number, as written (valid by RFC 8259).
    Exact(Box<str>),
}

impl Value {
    /// A text value.
    pub fn text(text: impl Into<Text>) -> Value {
        Value::Text(text.into())
    }

    /// An object of these entries; of equal keys the last wins and keeps the first's place.
    pub fn object<K: Into<Text>>(entries: impl IntoIterator<Item = (K, Value)>) -> Value {
        entries.into_iter().map(|(key, value)| (key.into(), value)).collect::<Map>().into()
    }

    /// Null, "", [] or {}.
    pub fn is_empty(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Text(text) => text.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// The text inside, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Number(Number::Integer(number))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.into())
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Value {
        Value::Object(Box::new(map))
    }
}
