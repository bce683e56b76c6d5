//! Diagnostics for a terminal and for programs.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value as Json, json};

use super::{Diagnostic, Diagnostics, Position, Severity, Sources, excerpt};
use crate::{
    words::{Language, Words},
    yaml::Span,
};

/// How many characters of a source line are shown; a longer one is cut around its caret.
const LINE_CHARS_MAX: usize = 120;
/// How many characters before the caret a cut line keeps.
const BEFORE_CHARS: usize = 50;
/// The width the terminal text is laid out for, columns; nothing is cut by it, since no line is that long.
const WIDTH: usize = 1_000;

/// For a terminal: `severity[code]: message`, file:line:column, the line with carets, the hint. Empty for no diagnostics.
pub fn text(sources: &Sources, diagnostics: &Diagnostics, language: Language, color: bool) -> String {
    let hidden = hidden(diagnostics);
    let renderer = if color { Renderer::styled() } else { Renderer::plain() }.term_width(WIDTH);
    let mut out = String::new();
    for diagnostic in diagnostics.sorted() {
        out.push_str(&renderer.render(&[group(sources, &hidden, diagnostic, language)]));
        out.push_str("\n\n");
    }
    if diagnostics.dropped() > 0 {
        let count = diagnostics.dropped();
        let words = Words::new(format!("… and {count} more\n"), format!("… и ещё {count}\n"));
        out.push_str(words.in_language(language));
    }
    out
}

/// For programs: a list of objects, sorted by place. `end_line` and `end_column` are those of one past the last character.
pub fn json(sources: &Sources, diagnostics: &Diagnostics, language: Language) -> Json {
    let objects = diagnostics.sorted().into_iter().map(|diagnostic| {
        let related: Vec<Json> = diagnostic
            .related
            .iter()
            .map(|(span, words)| {
                let mut object = place(sources, *span);
                object["message"] = shown(words, language).into();
                object
            })
            .collect();
        let mut object = place(sources, diagnostic.span);
        object["code"] = diagnostic.code.as_str().into();
        object["severity"] = severity_code(diagnostic.severity).into();
        object["message"] = shown(&diagnostic.message, language).into();
        object["hint"] = diagnostic.hint.as_ref().map(|words| shown(words, language)).into();
        object["related"] = related.into();
        object
    });
    Json::Array(objects.collect())
}

fn place(sources: &Sources, span: Span) -> Json {
    let start = sources.position(span.file, span.start);
    let end = sources.position(span.file, span.end.max(span.start));
    json!({
        "path": sources.path(span.file),
        "line": start.line,
        "column": start.column,
        "end_line": end.line,
        "end_column": end.column,
    })
}

fn shown(words: &Words, language: Language) -> String {
    excerpt::escape(words.in_language(language))
}

fn severity_code(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn group<'a>(sources: &Sources, hidden: &[Span], diagnostic: &Diagnostic, language: Language) -> Group<'a> {
    let level = level(diagnostic.severity, language);
    let title = level.primary_title(shown(&diagnostic.message, language)).id(diagnostic.code.as_str());
    let mut group = title.elements(excerpt_of(sources, hidden, diagnostic.span, None));
    for (span, words) in &diagnostic.related {
        group = group.elements(excerpt_of(sources, hidden, *span, Some(shown(words, language))));
    }
    match &diagnostic.hint {
        Some(hint) => group.element(help(language).message(shown(hint, language))),
        None => group,
    }
}

fn level(severity: Severity, language: Language) -> Level<'static> {
    match (severity, language) {
        (Severity::Error, Language::En) => Level::ERROR,
        (Severity::Error, Language::Ru) => Level::ERROR.with_name("ошибка"),
        (Severity::Warning, Language::En) => Level::WARNING,
        (Severity::Warning, Language::Ru) => Level::WARNING.with_name("предупреждение"),
    }
}

fn help(language: Language) -> Level<'static> {
    match language {
        Language::En => Level::HELP,
        Language::Ru => Level::HELP.with_name("подсказка"),
    }
}

/// `path:line:column` and the line with its carets; a span of several lines is shown by its first.
fn excerpt_of<'a>(sources: &Sources, hidden: &[Span], span: Span, label: Option<String>) -> Vec<Element<'a>> {
    let start = sources.position(span.file, span.start);
    let end = sources.position(span.file, span.end.max(span.start));
    let path = excerpt::escape(sources.path(span.file));
    let origin = Origin::path(path.clone()).line(start.line).char_column(start.column);
    let last = if end.line == start.line { end.column - 1 } else { usize::MAX };
    let window = Window::around(sources, hidden, span, start);
    let Some(window) = window else { return vec![origin.into()] };
    let carets = window.bytes(start.column - 1..last);
    let kind = if label.is_some() { AnnotationKind::Context } else { AnnotationKind::Primary };
    let snippet =
        Snippet::source(window.text()).line_start(start.line).annotation(kind.span(carets).label(label));
    // The renderer counts the column in what it is given: right for a whole line, not for a part of one.
    if window.from == 0 { vec![snippet.path(path).into()] } else { vec![origin.into(), snippet.into()] }
}

fn hidden(diagnostics: &Diagnostics) -> Vec<Span> {
    diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.code.hides_source())
        .map(|diagnostic| diagnostic.span)
        .collect()
}

/// The part of a line that is shown.
struct Window {
    /// The first character of the line that is shown, from 0.
    from: usize,
    /// The characters; what must not be seen is `*` already.
    shown: Vec<char>,
    /// The line goes on.
    more: bool,
}

impl Window {
    /// `None` for an empty line.
    fn around(sources: &Sources, hidden: &[Span], span: Span, start: Position) -> Option<Window> {
        let line = sources.line(span.file, start.line);
        let first = sources.line_start(span.file, start.line);
        let long = line.chars().nth(LINE_CHARS_MAX).is_some();
        let from = if long { (start.column - 1).saturating_sub(BEFORE_CHARS) } else { 0 };
        let is_hidden = |at: usize| {
            hidden.iter().any(|span_| {
                span_.file == span.file && (span_.start as usize..span_.end as usize).contains(&at)
            })
        };
        let mut rest = line.char_indices().skip(from);
        let shown: Vec<char> = rest
            .by_ref()
            .take(LINE_CHARS_MAX)
            .map(|(at, c)| if is_hidden(first + at) { '*' } else { excerpt::visible(c) })
            .collect();
        (!shown.is_empty()).then(|| Window { from, shown, more: rest.next().is_some() })
    }

    fn lead(&self) -> &'static str {
        if self.from > 0 { "…" } else { "" }
    }

    fn text(&self) -> String {
        let tail = if self.more { "…" } else { "" };
        format!("{}{}{tail}", self.lead(), self.shown.iter().collect::<String>())
    }

    /// The bytes of [`Window::text`] under these characters of the line.
    fn bytes(&self, characters: Range<usize>) -> Range<usize> {
        let byte = |character: usize| {
            let inside = character.saturating_sub(self.from).min(self.shown.len());
            self.lead().len() + self.shown[..inside].iter().map(|c| c.len_utf8()).sum::<usize>()
        };
        let start = byte(characters.start);
        start..byte(characters.end).max(start)
    }
}
