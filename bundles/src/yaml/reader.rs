//! Events of the YAML crate to nodes, without recursion: the depth of a file is not the depth of our stack.

use std::{collections::HashMap, ops::Range};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as Marks, StrInput};

use super::{DEPTH_MAX, Entry, FILE_BYTES_MAX, FileId, Kind, NODES_MAX, Node, Span, places, scalar, syntax};
use crate::{
    diagnostic::{
        Diagnostic, Diagnostics,
        code::Code,
        excerpt::{escape, excerpt},
    },
    words::Words,
};

pub(super) fn read(file: FileId, text: &str, out: &mut Diagnostics) -> Option<Node> {
    if text.len() > FILE_BYTES_MAX {
        let (code, words) = super::too_large(text.len());
        out.push(Diagnostic::error(code, Span { file, start: 0, end: 0 }, words));
        return None;
    }
    if let Some(problem) = forbidden_character(file, text) {
        out.push(problem);
        return None;
    }
    let mut reader = Reader {
        file,
        text,
        offsets: Offsets::new(text),
        out,
        open: Vec::new(),
        nodes: 0,
        documents: 0,
        root: Node { span: Span { file, start: 0, end: 0 }, kind: Kind::Null },
    };
    reader.run().map(|()| reader.root)
}

/// YAML's own rule for what may stand in a file, and a carriage return only before a line feed: editors and we must count the same lines.
fn forbidden_character(file: FileId, text: &str) -> Option<Diagnostic> {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let lone_return = c == '\r' && chars.peek().is_none_or(|(_, next)| *next != '\n');
        let allowed =
            matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..);
        let late_mark = c == '\u{feff}' && at > 0;
        if lone_return || late_mark || !allowed {
            let span = Span { file, start: at as u32, end: (at + c.len_utf8()) as u32 };
            let words = Words::new(
                format!("the character U+{:04X} may not stand in a file", c as u32),
                format!("символу U+{:04X} нет места в файле", c as u32),
            );
            return Some(Diagnostic::error(Code::ForbiddenCharacter, span, words));
        }
    }
    None
}

struct Reader<'a> {
    file: FileId,
    text: &'a str,
    offsets: Offsets,
    out: &'a mut Diagnostics,
    open: Vec<Open>,
    nodes: usize,
    documents: usize,
    root: Node,
}

/// A list or a mapping whose end has not come yet.
struct Open {
    start: u32,
    flow: bool,
    what: Collection,
}

enum Collection {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        /// Where each key stands in `entries`.
        places: HashMap<String, usize>,
        key: Pending,
    },
}

/// What a mapping waits for.
enum Pending {
    /// A key.
    Key,
    /// The value of this key.
    Value { key: String, span: Span, places: places::Places },
    /// The value of a key that was refused; it will be dropped.
    Refused,
}

/// The reading is over before the end; what is wrong has been said.
struct Stop;

impl Reader<'_> {
    fn run(&mut self) -> Option<()> {
        let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str(self.text);
        while let Some(event) = parser.next_event() {
            let stopped = match event {
                Ok((event, marks)) => self.event(event, marks),
                Err(error) => self.syntax(&error),
            };
            if stopped.is_err() {
                return None;
            }
        }
        Some(())
    }

    fn event(&mut self, event: Event<'_>, marks: Marks) -> Result<(), Stop> {
        let range = self.offsets.range(marks);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => self.document(range),
            Event::Alias(_) => {
                self.unsupported(range.clone(), "an alias", "ссылка на якорь");
                let span = self.span(range);
                self.value(Node { span, kind: Kind::Null })
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.properties(anchor, tag.is_some(), &range);
                self.scalar(&text, style, range)
            }
            Event::SequenceStart(anchor, tag) => {
                self.properties(anchor, tag.is_some(), &range);
                self.open(range, Collection::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.properties(anchor, tag.is_some(), &range);
                let map = Collection::Map { entries: Vec::new(), places: HashMap::new(), key: Pending::Key };
                self.open(range, map)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(range),
        }
    }

    fn document(&mut self, range: Range<usize>) -> Result<(), Stop> {
        self.documents += 1;
        if self.documents == 1 {
            return Ok(());
        }
        let words = Words::new("a file holds one document", "в файле может быть только один документ");
        let hint =
            Words::new("put what follows into a file of its own", "перенесите остальное в отдельный файл");
        let span = self.span(range);
        self.out.push(Diagnostic::error(Code::YamlUnsupported, span, words).with_hint(hint));
        Err(Stop)
    }

    fn properties(&mut self, anchor: usize, tag: bool, range: &Range<usize>) {
        if anchor > 0 {
            self.unsupported(range.clone(), "an anchor (`&name`)", "якорь (`&имя`)");
        }
        if tag {
            self.unsupported(range.clone(), "a tag (`!name`)", "тег (`!имя`)");
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, range: Range<usize>) -> Result<(), Stop> {
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        let range = match block {
            true => self.without_blank_end(range),
            // the crate gives a value that is not there the place of what follows
            false if text.is_empty() && style == ScalarStyle::Plain => range.start..range.start,
            false => range,
        };
        let span = self.span(range.clone());
        if matches!(self.open.last(), Some(Open { what: Collection::Map { key: Pending::Key, .. }, .. })) {
            let key_places = places::find(text, self.text, range, style);
            self.key(text, span, key_places);
            return Ok(());
        }
        let kind = match style {
            ScalarStyle::Plain => self.plain(text, span),
            ScalarStyle::SingleQuoted
            | ScalarStyle::DoubleQuoted
            | ScalarStyle::Literal
            | ScalarStyle::Folded => None,
        };
        let kind = kind.unwrap_or_else(|| Kind::Text {
            text: text.to_owned(),
            places: places::find(text, self.text, range, style),
        });
        self.value(Node { span, kind })
    }

    /// What an unquoted scalar is; `None` for text.
    fn plain(&mut self, text: &str, span: Span) -> Option<Kind> {
        match scalar::resolve(text) {
            scalar::Plain::Value(kind) => Some(kind),
            scalar::Plain::Text => None,
            scalar::Plain::Respelt(number) => {
                self.out.push(respelt(text, &number, span));
                Some(Kind::Number(number))
            }
            scalar::Plain::NoNumber => {
                self.out.push(no_number(text, span));
                Some(Kind::Null)
            }
        }
    }

    fn key(&mut self, text: &str, span: Span, key_places: places::Places) {
        let Some(Open { what: Collection::Map { entries, places, key }, .. }) = self.open.last_mut() else {
            return;
        };
        if let Some(first) = places.get(text) {
            let shown = excerpt(text);
            let words = Words::new(
                format!("the key `{shown}` is here twice"),
                format!("ключ `{shown}` указан дважды"),
            );
            let before = Words::new("it is here already", "впервые он здесь");
            let hint = Words::new("keep one of them", "оставьте один из них");
            let duplicate = Diagnostic::error(Code::DuplicateKey, span, words);
            self.out.push(duplicate.with_related(entries[*first].key_span, before).with_hint(hint));
            *key = Pending::Refused;
            return;
        }
        *key = Pending::Value { key: text.to_owned(), span, places: key_places };
    }

    /// A finished node goes to where it belongs.
    fn value(&mut self, mut node: Node) -> Result<(), Stop> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return self.too_complex(node.span, NODES_MAX, "nodes", "узлов");
        }
        let Some(open) = self.open.last_mut() else {
            self.root = node;
            return Ok(());
        };
        match &mut open.what {
            Collection::List(items) => items.push(node),
            Collection::Map { entries, places, key } => match std::mem::replace(key, Pending::Key) {
                Pending::Value { key, span, places: key_places } => {
                    if node.is_null() && node.span.start == node.span.end {
                        node.span = span;
                    }
                    places.insert(key.clone(), entries.len());
                    entries.push(Entry { key, key_span: span, key_places, value: node });
                }
                Pending::Refused => {}
                Pending::Key => {
                    *key = Pending::Refused;
                    let span = node.span;
                    self.out.push(complex_key(self.text, span));
                }
            },
        }
        Ok(())
    }

    fn open(&mut self, range: Range<usize>, what: Collection) -> Result<(), Stop> {
        if self.open.len() == DEPTH_MAX {
            let span = self.span(range);
            return self.too_complex(span, DEPTH_MAX, "levels of nesting", "уровней вложенности");
        }
        let flow = self.text[range.start..].starts_with(['{', '[']) && range.end > range.start;
        self.open.push(Open { start: range.start as u32, flow, what });
        Ok(())
    }

    fn close(&mut self, range: Range<usize>) -> Result<(), Stop> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let (kind, last) = match open.what {
            Collection::List(items) => {
                let last = items.last().map(|node| node.span.end);
                (Kind::List(items), last)
            }
            Collection::Map { entries, .. } => {
                let last = entries.last().map(|entry| entry.value.span.end);
                (Kind::Map(entries), last)
            }
        };
        // The crate ends a block collection where the next thing starts, past blank lines and comments.
        let end = if open.flow { range.end as u32 } else { last.unwrap_or(open.start) };
        let span = Span { file: self.file, start: open.start, end: end.max(open.start) };
        self.value(Node { span, kind })
    }

    fn syntax(&mut self, error: &ScanError) -> Result<(), Stop> {
        let at = self.offsets.byte(error.marker().index());
        let end = at + self.text[at..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
        let span = self.span(at..end);
        let (words, hint) = syntax::explain(&escape(error.info()));
        let code =
            if error.info().contains("recursion limit") { Code::YamlTooComplex } else { Code::YamlSyntax };
        let mut diagnostic = Diagnostic::error(code, span, words);
        diagnostic.hint = hint;
        self.out.push(match self.open.last() {
            Some(Open { start, flow: true, .. }) => {
                let bracket = Span { end: start + 1, start: *start, ..span };
                diagnostic.with_related(bracket, Words::new("this is not closed yet", "это ещё не закрыто"))
            }
            Some(_) | None => diagnostic,
        });
        Err(Stop)
    }

    fn unsupported(&mut self, range: Range<usize>, en: &str, ru: &str) {
        let span = self.span(range);
        let words = Words::new(format!("{en} is not used here"), format!("{ru} здесь не используется"));
        let hint = Words::new("write the value out in full", "запишите значение полностью");
        self.out.push(Diagnostic::error(Code::YamlUnsupported, span, words).with_hint(hint));
    }

    fn too_complex(&mut self, span: Span, most: usize, en: &str, ru: &str) -> Result<(), Stop> {
        let words = Words::new(
            format!("more than {most} {en} in one file"),
            format!("больше {most} {ru} в одном файле"),
        );
        self.out.push(Diagnostic::error(Code::YamlTooComplex, Span { end: span.start, ..span }, words));
        Err(Stop)
    }

    /// A block scalar's blank lines at the end are not worth a caret.
    fn without_blank_end(&self, range: Range<usize>) -> Range<usize> {
        range.start..range.start + self.text[range].trim_end().len()
    }

    fn span(&self, range: Range<usize>) -> Span {
        Span { file: self.file, start: range.start as u32, end: range.end as u32 }
    }
}

fn respelt(text: &str, number: &crate::value::Number, span: Span) -> Diagnostic {
    let shown = excerpt(text);
    let read = match number {
        crate::value::Number::Integer(value) => value.to_string(),
        crate::value::Number::Exact(digits) => digits.to_string(),
    };
    let words = Words::new(
        format!("`{shown}` is read as the number {read}"),
        format!("`{shown}` читается как число {read}"),
    );
    let hint = Words::new(
        format!("put it in quotes to keep it as text: \"{shown}\""),
        format!("возьмите в кавычки, чтобы осталось текстом: \"{shown}\""),
    );
    Diagnostic::warning(Code::BadNumber, span, words).with_hint(hint)
}

fn no_number(text: &str, span: Span) -> Diagnostic {
    let shown = excerpt(text);
    let words = Words::new(
        format!("`{shown}` is not a number that can be sent"),
        format!("`{shown}` — не число, которое можно передать"),
    );
    let hint = Words::new("put it in quotes if it is text", "возьмите в кавычки, если это текст");
    Diagnostic::error(Code::BadNumber, span, words).with_hint(hint)
}

fn complex_key(text: &str, span: Span) -> Diagnostic {
    let words = Words::new("a key must be text", "ключом может быть только текст");
    let braces = text[..span.start as usize].ends_with('{');
    let hint = if braces {
        Words::new(
            "a value with `{{ … }}` must be in quotes: \"{{ … }}\"",
            "значение с `{{ … }}` пишется в кавычках: \"{{ … }}\"",
        )
    } else {
        Words::new("write `key: value`", "пишите `ключ: значение`")
    };
    Diagnostic::error(Code::YamlUnsupported, span, words).with_hint(hint)
}

/// The crate counts characters, we count bytes.
enum Offsets {
    /// All ASCII: the same, up to this many.
    Same(usize),
    /// The byte of every character, and of the end.
    Table(Vec<u32>),
}

impl Offsets {
    fn new(text: &str) -> Offsets {
        if text.is_ascii() {
            return Offsets::Same(text.len());
        }
        Offsets::Table(text.char_indices().map(|(at, _)| at as u32).chain([text.len() as u32]).collect())
    }

    fn byte(&self, character: usize) -> usize {
        match self {
            Offsets::Same(end) => character.min(*end),
            Offsets::Table(bytes) => bytes.get(character).or(bytes.last()).map_or(0, |byte| *byte as usize),
        }
    }

    fn range(&self, marks: Marks) -> Range<usize> {
        let start = self.byte(marks.start.index());
        start..self.byte(marks.end.index()).max(start)
    }
}
