//! Shapes: one table says what a file or a value may look like. The check, the JSON Schema and the editor's forms come from it.

pub mod check;
mod describe;
pub mod schema;
mod secret;
mod word;

use crate::{value::Value, words::Words};

/// What may stand in a place.
#[derive(Debug, Clone)]
pub enum Shape {
    /// Anything.
    Any,
    /// Text. A number or a boolean must be quoted.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number, in bounds, both inclusive.
    Integer {
        /// The least.
        min: Option<i64>,
        /// The greatest.
        max: Option<i64>,
    },
    /// A number.
    Number,
    /// A duration: `30s`, `15m`, `1h30m`, `35d`.
    Duration,
    /// The name of a thing: lower-case letters, digits, `-` and `_`, up to [`NAME_CHARS_MAX`].
    Name,
    /// An address that starts with `http://` or `https://`.
    Url,
    /// A time zone of the IANA database: `Europe/Moscow`.
    TimeZone,
    /// One of some words.
    Choice(Vec<Choice>),
    /// Exactly this word.
    Const(String),
    /// A list.
    List(Box<Shape>),
    /// A mapping with keys of the writer's choice.
    Map {
        /// What a key may be.
        keys: KeyRule,
        /// What stands under each.
        values: Box<Shape>,
    },
    /// A mapping with known keys.
    Object(Object),
    /// Any one of these.
    OneOf(Vec<Shape>),
    /// A filter, as text or as a tree; what is inside is checked by the filter's own parser.
    Filter,
    /// A value of the inner shape, written as such or computed: a template, `{path: …}`, or the long form with `value`, `default`,
    /// `when_empty`, `as`. What is inside the braces is checked by the template's own parser.
    Template(Box<Shape>),
    /// Dotted keys to values or templates, nested at will; the keys are known to editors, and are checked by the mapping's own compiler.
    Mapping(Vec<Key>),
    /// A reference to a secret, `{env: NAME}` or `{file: path}`, never the secret.
    Secret,
    /// A shape by name: written once in a schema, and able to contain itself.
    Named {
        /// Its name in `$defs`.
        name: &'static str,
        /// The shape.
        shape: fn() -> Shape,
    },
}

/// The longest name, characters.
pub const NAME_CHARS_MAX: usize = 64;

/// What the keys of a [`Shape::Map`] may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRule {
    /// Any text.
    Any,
    /// A name, as [`Shape::Name`].
    Name,
}

/// One word of a [`Shape::Choice`].
#[derive(Debug, Clone)]
pub struct Choice {
    /// As it is written.
    pub value: String,
    /// As people call it; empty when there is nothing to add.
    pub title: Words,
}

/// A mapping with known keys.
#[derive(Debug, Clone, Default)]
pub struct Object {
    /// The keys, in the order a person should see them.
    pub keys: Vec<Key>,
    /// What other keys may hold; `None` when there may be none.
    pub open: Option<Box<Shape>>,
}

/// One key of an object.
#[derive(Debug, Clone)]
pub struct Key {
    /// As it is written.
    pub name: String,
    /// What stands under it.
    pub shape: Shape,
    /// Must it be there?
    pub required: bool,
    /// A short name; empty when the key says it all.
    pub title: Words,
    /// A sentence of help; may be empty.
    pub help: Words,
    /// What holds when the key is not there, when that is a constant.
    pub default: Option<Value>,
    /// An example of a value.
    pub sample: Option<Value>,
}

impl Key {
    /// A key that must be there.
    pub fn required(name: impl Into<String>, shape: Shape) -> Key {
        Key { required: true, ..Key::optional(name, shape) }
    }

    /// A key that may be there; with nothing under it (null) it counts as not given.
    pub fn optional(name: impl Into<String>, shape: Shape) -> Key {
        Key {
            name: name.into(),
            shape,
            required: false,
            title: Words::default(),
            help: Words::default(),
            default: None,
            sample: None,
        }
    }

    /// The same with a title.
    pub fn title(mut self, en: impl Into<String>, ru: impl Into<String>) -> Key {
        self.title = Words::new(en, ru);
        self
    }

    /// The same with help.
    pub fn help(mut self, en: impl Into<String>, ru: impl Into<String>) -> Key {
        self.help = Words::new(en, ru);
        self
    }

    /// The same with a default.
    pub fn default(mut self, value: impl Into<Value>) -> Key {
        self.default = Some(value.into());
        self
    }

    /// The same with a sample.
    pub fn sample(mut self, value: impl Into<Value>) -> Key {
        self.sample = Some(value.into());
        self
    }
}

impl Choice {
    /// A word that needs no title.
    pub fn plain(value: impl Into<String>) -> Choice {
        Choice { value: value.into(), title: Words::default() }
    }

    /// A word with a title.
    pub fn titled(value: impl Into<String>, en: impl Into<String>, ru: impl Into<String>) -> Choice {
        Choice { value: value.into(), title: Words::new(en, ru) }
    }
}

impl Shape {
    /// A mapping with these keys and no others.
    pub fn object(keys: impl IntoIterator<Item = Key>) -> Shape {
        Shape::Object(Object { keys: keys.into_iter().collect(), open: None })
    }

    /// A mapping with these keys, and others holding `open`.
    pub fn open_object(keys: impl IntoIterator<Item = Key>, open: Shape) -> Shape {
        Shape::Object(Object { keys: keys.into_iter().collect(), open: Some(Box::new(open)) })
    }

    /// A list of these.
    pub fn list(items: Shape) -> Shape {
        Shape::List(Box::new(items))
    }

    /// A mapping from any key to these.
    pub fn map(values: Shape) -> Shape {
        Shape::Map { keys: KeyRule::Any, values: Box::new(values) }
    }

    /// A mapping from names to these.
    pub fn named_map(values: Shape) -> Shape {
        Shape::Map { keys: KeyRule::Name, values: Box::new(values) }
    }

    /// A template or a value of that shape.
    pub fn template(of: Shape) -> Shape {
        Shape::Template(Box::new(of))
    }

    /// Any whole number.
    pub fn integer() -> Shape {
        Shape::Integer { min: None, max: None }
    }

    /// One of these words.
    pub fn choice<'a>(words: impl IntoIterator<Item = &'a str>) -> Shape {
        Shape::Choice(words.into_iter().map(Choice::plain).collect())
    }

    /// Text for people in both languages: `{en: …, ru: …}`.
    pub fn words() -> Shape {
        Shape::object([Key::required("en", Shape::Text), Key::required("ru", Shape::Text)])
    }
}
