//! The one value type of the language: JSON's shapes with exact numbers and ordered objects.

use indexmap::IndexMap;

/// An object; keys keep their order.
pub type Map = IndexMap<String, Value>;

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
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// An object.
    Object(Map),
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
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
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
        Value::Text(text.to_owned())
    }
}
