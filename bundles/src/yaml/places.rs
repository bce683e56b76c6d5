//! From a byte of a scalar's text to its byte in the file, through quotes, escapes, folding and indentation.

use std::ops::Range;

use saphyr_parser::ScalarStyle;

use super::Span;

/// Where the bytes of a text stand in its file. Empty when nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    /// Where the two part company: from this byte of the text on, bytes stand one after another from that byte of the file.
    anchors: Box<[Anchor]>,
    /// How many bytes of the text the anchors speak for.
    known: u32,
    /// One past the scalar's last byte in the file; a block's last line break may not be in the file at all.
    end: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Anchor {
    text: u32,
    file: u32,
}

impl Places {
    /// The part of the file under a part of the text, or `whole` when that is not known.
    pub fn span_of(&self, range: Range<usize>, whole: Span) -> Span {
        let (Ok(start), Ok(end)) = (u32::try_from(range.start), u32::try_from(range.end)) else {
            return whole;
        };
        if self.anchors.is_empty() || start > end || end > self.known {
            return whole;
        }
        let first = self.place(start);
        let last = if end > start { self.place_after(end - 1) } else { first };
        let end = last.max(first).min(self.end);
        Span { file: whole.file, start: first.min(end), end }
    }

    /// Where a byte of the text stands; one that folding made stands where the line ended.
    fn place(&self, byte: u32) -> u32 {
        let (straight, next) = self.straight(byte);
        next.map_or(straight, |next| straight.min(next.file.saturating_sub(1)))
    }

    /// One past the place of a byte of the text.
    fn place_after(&self, byte: u32) -> u32 {
        let (straight, next) = self.straight(byte);
        next.map_or(straight + 1, |next| (straight + 1).min(next.file))
    }

    /// The place by the last anchor at or before the byte, and the anchor after it. Before the first one stands indentation.
    fn straight(&self, byte: u32) -> (u32, Option<Anchor>) {
        let next = self.anchors.partition_point(|anchor| anchor.text <= byte);
        let straight = match next.checked_sub(1).map(|index| self.anchors[index]) {
            Some(anchor) => anchor.file + (byte - anchor.text),
            None => self.anchors[0].file.saturating_sub(self.anchors[0].text - byte),
        };
        (straight, self.anchors.get(next).copied())
    }
}

/// Finds the places of a scalar's text in the file; stops at the first byte that is not where it should be.
pub(super) fn find(text: &str, file: &str, raw: Range<usize>, style: ScalarStyle) -> Places {
    let mut walk = Walk { text, file, end: raw.end, at_text: 0, at_file: raw.start, anchors: Vec::new() };
    let end = raw.end as u32;
    match style {
        ScalarStyle::Plain | ScalarStyle::Literal | ScalarStyle::Folded => walk.lines(),
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
            walk.quoted(style == ScalarStyle::DoubleQuoted)
        }
    }
    Places { end, known: walk.at_text as u32, anchors: walk.anchors.into_boxed_slice() }
}

struct Walk<'a> {
    text: &'a str,
    file: &'a str,
    /// One past the scalar's last byte in the file.
    end: usize,
    at_text: usize,
    at_file: usize,
    anchors: Vec<Anchor>,
}

impl Walk<'_> {
    /// Plain and block scalars: every line of the file, without the blanks around it, is in the text as it is.
    fn lines(&mut self) {
        while self.at_file < self.end {
            let line = self.file[self.at_file..self.end].split('\n').next().unwrap_or("");
            let next = self.at_file + line.len() + 1;
            let content = line.trim_matches([' ', '\t', '\r']);
            if !content.is_empty() {
                let blanks = self.text[self.at_text..].find(|c| !matches!(c, ' ' | '\t' | '\n')).unwrap_or(0);
                if !self.text[self.at_text + blanks..].starts_with(content) {
                    return;
                }
                self.at_text += blanks;
                self.at_file += line.find(content).unwrap_or(0);
                self.anchor();
                self.at_text += content.len();
            }
            self.at_file = next;
        }
        self.at_text = self.text.len();
    }

    fn quoted(&mut self, escapes: bool) {
        self.at_file += 1;
        self.end = self.end.saturating_sub(1);
        self.anchor();
        while self.at_file < self.end {
            let rest = &self.file[self.at_file..self.end];
            let blanks = rest.len() - rest.trim_start_matches([' ', '\t', '\r']).len();
            let known = if rest[blanks..].starts_with('\n') {
                self.fold(blanks)
            } else if escapes && rest.starts_with('\\') {
                self.escape(rest)
            } else if !escapes && rest.starts_with("''") {
                self.replaced(2)
            } else {
                self.verbatim(rest)
            };
            if !known {
                return;
            }
        }
    }

    /// A line break in a quoted scalar: blanks around it go; one break is a space, more are one less.
    fn fold(&mut self, blanks: usize) -> bool {
        self.at_file += blanks;
        let breaks = self.skip_breaks();
        self.advance_text(if breaks == 1 { 1 } else { breaks - 1 })
    }

    /// Skips blanks and line breaks; how many breaks there were.
    fn skip_breaks(&mut self) -> usize {
        let rest = &self.file[self.at_file..self.end];
        let skipped = &rest[..rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len()];
        self.at_file += skipped.len();
        skipped.matches('\n').count()
    }

    fn escape(&mut self, rest: &str) -> bool {
        match rest.as_bytes().get(1) {
            Some(b'\n' | b'\r') => {
                self.at_file += 1;
                let breaks = self.skip_breaks();
                self.advance_text(breaks.saturating_sub(1))
            }
            Some(b'x') => self.replaced(4),
            Some(b'u') => self.replaced(6),
            Some(b'U') => self.replaced(10),
            Some(_) => self.replaced(2),
            None => false,
        }
    }

    /// One character of the text that takes that many bytes of the file.
    fn replaced(&mut self, bytes: usize) -> bool {
        let Some(c) = self.text[self.at_text..].chars().next() else { return false };
        self.at_file += bytes;
        self.advance_text(c.len_utf8())
    }

    fn verbatim(&mut self, rest: &str) -> bool {
        let (Some(raw), Some(c)) = (rest.chars().next(), self.text[self.at_text..].chars().next()) else {
            return false;
        };
        self.at_file += raw.len_utf8();
        self.at_text += c.len_utf8();
        raw == c
    }

    fn advance_text(&mut self, bytes: usize) -> bool {
        if self.at_text + bytes > self.text.len() {
            return false;
        }
        self.at_text += bytes;
        self.anchor();
        true
    }

    fn anchor(&mut self) {
        self.anchors.push(Anchor { text: self.at_text as u32, file: self.at_file as u32 });
    }
}
