//! Text to a tree in which every node knows its place. Only this folder knows the YAML crate.
//!
//! YAML 1.2 with the core schema, one document a file. Anchors, aliases, tags and keys that are not scalars are refused: nothing
//! in a file may mean more than it shows.

pub mod places;
mod reader;
mod scalar;
mod syntax;

use std::ops::Range;

use crate::{
    diagnostic::{Diagnostic, Diagnostics, Sources, code::Code},
    value::{Number, Value},
    words::Words,
};
use places::Places;

/// The largest file, bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// The deepest nesting of lists and mappings.
pub const DEPTH_MAX: usize = 64;
/// The most nodes in one file, keys not counted.
pub const NODES_MAX: usize = 100_000;
/// The longest number, characters.
pub const NUMBER_CHARS_MAX: usize = 100;

/// Index of a file in [`crate::diagnostic::Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// A place in a file: byte offsets, end exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// A YAML node with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
}

/// What a node is (YAML 1.2 core schema).
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, exact.
    Number(Number),
    /// Text.
    Text {
        /// The text, unescaped and unfolded.
        text: String,
        /// Where in the file each of its bytes stands.
        places: Places,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in order, keys unique.
    Map(Vec<Entry>),
}

/// One `key: value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// Where in the file each byte of the key stands.
    pub key_places: Places,
    /// The value.
    pub value: Node,
}

/// Reads one file into its tree. `None` when there is no tree to speak of: not YAML, or past a limit; what is wrong with the
/// file is in `out` either way. A file with nothing in it is `Null`.
pub fn parse(file: FileId, text: &str, out: &mut Diagnostics) -> Option<Node> {
    reader::read(file, text, out)
}

/// Adds a file to the sources and reads it; a file that is too large or not UTF-8 is kept as an empty text.
/// A byte order mark is not part of the text.
pub fn load(
    path: &str,
    bytes: &[u8],
    sources: &mut Sources,
    out: &mut Diagnostics,
) -> (FileId, Option<Node>) {
    match add(path, bytes, sources, out) {
        Ok(file) => (file, parse(file, sources.text(file), out)),
        Err(file) => (file, None),
    }
}

/// Adds a file to the sources; an error when it is too large or not UTF-8, which is reported.
pub(crate) fn add(
    path: &str,
    bytes: &[u8],
    sources: &mut Sources,
    out: &mut Diagnostics,
) -> Result<FileId, FileId> {
    let problem = match std::str::from_utf8(bytes) {
        _ if bytes.len() > FILE_BYTES_MAX => too_large(bytes.len()),
        Ok(text) => {
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            return Ok(sources.add(path, text));
        }
        Err(error) => (
            Code::NotUtf8,
            Words::new(
                format!("the file is not UTF-8: byte {} cannot be read", error.valid_up_to()),
                format!("файл не в UTF-8: байт {} не читается", error.valid_up_to()),
            ),
        ),
    };
    let file = sources.add(path, "");
    out.push(Diagnostic::error(problem.0, Span { file, start: 0, end: 0 }, problem.1));
    Err(file)
}

fn too_large(bytes: usize) -> (Code, Words) {
    let words = Words::new(
        format!("the file has {bytes} bytes; at most {FILE_BYTES_MAX} are read"),
        format!("в файле {bytes} байт, читается не больше {FILE_BYTES_MAX}"),
    );
    (Code::FileTooLarge, words)
}

impl Node {
    /// A text that stands in no file of its own; `span` is where to point.
    pub fn text(text: impl Into<String>, span: Span) -> Node {
        Node { span, kind: Kind::Text { text: text.into(), places: Places::default() } }
    }

    /// The value under a key; a key with nothing under it (null) counts as not given.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value).filter(|value| !value.is_null())
    }

    /// The entry of a key, also when there is nothing under it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.as_map()?.iter().find(|entry| entry.key == key)
    }

    /// Is it `null`?
    pub fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }

    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        if let Kind::Text { text, .. } = &self.kind { Some(text) } else { None }
    }

    /// True or false, if it is that.
    pub fn as_bool(&self) -> Option<bool> {
        if let Kind::Bool(value) = self.kind { Some(value) } else { None }
    }

    /// The number, if it is an integer of 64 bits.
    pub fn as_integer(&self) -> Option<i64> {
        if let Kind::Number(Number::Integer(value)) = self.kind { Some(value) } else { None }
    }

    /// The items, if it is a list.
    pub fn as_list(&self) -> Option<&[Node]> {
        if let Kind::List(items) = &self.kind { Some(items) } else { None }
    }

    /// The entries, if it is a mapping.
    pub fn as_map(&self) -> Option<&[Entry]> {
        if let Kind::Map(entries) = &self.kind { Some(entries) } else { None }
    }

    /// The same without places.
    pub fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text { text, .. } => Value::from(text.as_str()),
            Kind::List(items) => Value::List(items.iter().map(Node::to_value).collect()),
            Kind::Map(entries) => {
                Value::object(entries.iter().map(|entry| (&entry.key, entry.value.to_value())))
            }
        }
    }

    /// Where a part of this node's text stands (`range` in bytes of the text); the whole node when that is not known.
    pub fn span_of(&self, range: Range<usize>) -> Span {
        match &self.kind {
            Kind::Text { places, .. } => places.span_of(range, self.span),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::List(_) | Kind::Map(_) => self.span,
        }
    }

    /// What it is, for a message: "a list".
    pub fn kind_words(&self) -> Words {
        match &self.kind {
            Kind::Null => Words::new("nothing", "пусто"),
            Kind::Bool(value) => Words::new(format!("`{value}`"), format!("`{value}`")),
            Kind::Number(_) => Words::new("a number", "число"),
            Kind::Text { .. } => Words::new("text", "текст"),
            Kind::List(_) => Words::new("a list", "список"),
            Kind::Map(_) => Words::new("a mapping", "набор ключей"),
        }
    }
}

impl Entry {
    /// Where a part of the key stands (`range` in bytes of the key); the whole key when that is not known.
    pub fn key_span_of(&self, range: Range<usize>) -> Span {
        self.key_places.span_of(range, self.key_span)
    }
}
