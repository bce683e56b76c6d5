//! Messages about a user's files: where, what, and how to put it right. All of them are collected; none stops the work.

pub mod code;
pub mod excerpt;
pub mod render;
pub mod suggest;

use crate::{
    words::Words,
    yaml::{FileId, Span},
};
use code::Code;

/// How many diagnostics are kept; past this a reader needs no more, and a hostile file costs no more memory.
pub const DIAGNOSTICS_MAX: usize = 500;

/// The files that were read: what a [`Span`] points into.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<Source>,
}

#[derive(Debug, Clone)]
struct Source {
    path: String,
    text: String,
    /// Byte offset of the first byte of every line.
    line_starts: Vec<usize>,
}

/// A place as a person counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Sources {
    /// Keeps a file's text under the path shown to people.
    pub fn add(&mut self, path: impl Into<String>, text: impl Into<String>) -> FileId {
        let text = text.into();
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        self.files.push(Source { path: path.into(), text, line_starts });
        FileId(u32::try_from(self.files.len() - 1).expect("a workspace holds far fewer than 2^32 files"))
    }

    /// The path of a file; empty for a file of other sources.
    pub fn path(&self, file: FileId) -> &str {
        self.source(file).map_or("", |source| &source.path)
    }

    /// The text of a file; empty for a file of other sources.
    pub fn text(&self, file: FileId) -> &str {
        self.source(file).map_or("", |source| &source.text)
    }

    /// The text under a span; empty when the span is not inside the file.
    pub fn slice(&self, span: Span) -> &str {
        self.text(span.file).get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// Line and column of a byte; a byte past the end is the end, one inside a character is that character.
    pub fn position(&self, file: FileId, byte: u32) -> Position {
        let Some(source) = self.source(file) else { return Position { line: 1, column: 1 } };
        let byte = (byte as usize).min(source.text.len());
        let line = source.line_starts.partition_point(|start| *start <= byte);
        let start = source.line_starts[line - 1];
        let before =
            source.text[start..].char_indices().take_while(|(at, c)| start + at + c.len_utf8() <= byte);
        Position { line, column: before.count() + 1 }
    }

    /// A line's text without its line break, lines counted from 1.
    pub fn line(&self, file: FileId, line: usize) -> &str {
        let Some(source) = self.source(file) else { return "" };
        let Some(start) = line.checked_sub(1).and_then(|index| source.line_starts.get(index)) else {
            return "";
        };
        let end = source.line_starts.get(line).copied().unwrap_or(source.text.len());
        source.text[*start..end].trim_end_matches(['\n', '\r'])
    }

    /// The byte a line starts at, lines counted from 1.
    fn line_start(&self, file: FileId, line: usize) -> usize {
        let starts = self.source(file).map_or(&[][..], |source| &source.line_starts);
        line.checked_sub(1).and_then(|index| starts.get(index)).copied().unwrap_or(0)
    }

    fn source(&self, file: FileId) -> Option<&Source> {
        self.files.get(file.0 as usize)
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can, and probably does not do what was meant.
    Warning,
}

/// One message about one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Which rule was broken.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub span: Span,
    /// What is wrong. Values quoted in it go through [`excerpt::excerpt`].
    pub message: Words,
    /// How to put it right.
    pub hint: Option<Words>,
    /// Other places that matter, each with its own words.
    pub related: Vec<(Span, Words)>,
}

impl Diagnostic {
    /// A diagnostic that makes the file unusable.
    pub fn error(code: Code, span: Span, message: Words) -> Self {
        Diagnostic { code, severity: Severity::Error, span, message, hint: None, related: Vec::new() }
    }

    /// A diagnostic that does not.
    pub fn warning(code: Code, span: Span, message: Words) -> Self {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, span, message) }
    }

    /// The same with a hint.
    pub fn with_hint(mut self, hint: Words) -> Self {
        self.hint = Some(hint);
        self
    }

    /// The same with "did you mean …" as the hint, when there is a suggestion and no hint yet.
    pub fn with_suggestion(self, suggestion: Option<String>) -> Self {
        match suggestion {
            Some(word) if self.hint.is_none() => self
                .with_hint(Words::new(format!("did you mean `{word}`?"), format!("может быть, `{word}`?"))),
            Some(_) | None => self,
        }
    }

    /// The same with one more place.
    pub fn with_related(mut self, span: Span, words: Words) -> Self {
        self.related.push((span, words));
        self
    }
}

/// Collects diagnostics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
    dropped: usize,
}

impl Diagnostics {
    /// Keeps one; past [`DIAGNOSTICS_MAX`] only counts it, except that an error takes the place of a warning.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.items.len() < DIAGNOSTICS_MAX {
            self.items.push(diagnostic);
            return;
        }
        self.dropped += 1;
        let warning = self.items.iter().rposition(|kept| kept.severity == Severity::Warning);
        if let (Severity::Error, Some(place)) = (diagnostic.severity, warning) {
            self.items[place] = diagnostic;
        }
    }

    /// Takes over all of another collector.
    pub fn append(&mut self, other: Diagnostics) {
        self.dropped += other.dropped;
        other.items.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }

    /// Is there an error among them?
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Is there an error about that file?
    pub fn has_errors_in(&self, file: FileId) -> bool {
        self.items
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error && diagnostic.span.file == file)
    }

    /// Nothing to say?
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// How many were not kept.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// By file, then by place.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut sorted: Vec<_> = self.items.iter().collect();
        sorted.sort_by_key(|diagnostic| (diagnostic.span, diagnostic.severity, diagnostic.code));
        sorted
    }

    /// In the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.items.iter()
    }
}
