//! A reference such as `attrs.mindboxDeviceUUID`: its text, its root, and walking values by it.

use std::fmt;

use crate::value::{Map, Value};

/// Most segments a reference may have.
pub const SEGMENTS_MAX: usize = 32;

/// What the first name of a reference stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Root {
    /// A field of the trigger's event: a bare name, or `event.name` where the name is a reserved one.
    Event,
    /// `steps.<name>.…`: what an earlier step answered.
    Steps,
    /// `connection.settings.…`, `connection.secrets.…`.
    Connection,
    /// The item of a loop.
    Item,
    /// `input.…`: what a bundle gave an action (connector manifests only).
    Input,
    /// `delivery.…`: facts of one delivery, such as its idempotency key (connector manifests only).
    Delivery,
    /// `response.status`, `response.body`, `response.headers` (verdicts only).
    Response,
    /// `workspace.…`.
    Workspace,
}

impl Root {
    /// Every root that has a word of its own.
    pub const NAMED: [Root; 7] = [
        Root::Steps,
        Root::Connection,
        Root::Item,
        Root::Input,
        Root::Delivery,
        Root::Response,
        Root::Workspace,
    ];

    /// The word a reference starts with.
    pub fn word(self) -> &'static str {
        match self {
            Root::Event => "event",
            Root::Steps => "steps",
            Root::Connection => "connection",
            Root::Item => "item",
            Root::Input => "input",
            Root::Delivery => "delivery",
            Root::Response => "response",
            Root::Workspace => "workspace",
        }
    }

    fn from_word(word: &str) -> Option<Root> {
        if word == Root::Event.word() {
            return Some(Root::Event);
        }
        Root::NAMED.into_iter().find(|root| root.word() == word)
    }
}

/// One name or number of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Segment {
    /// The key in an object.
    pub key: Box<str>,
    /// The position in a list, when the key is a number.
    pub index: Option<u32>,
}

impl Segment {
    /// A segment from its text; digits also work as a position in a list.
    pub fn new(key: &str) -> Segment {
        let digits = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
        Segment { key: key.into(), index: digits.then(|| key.parse().ok()).flatten() }
    }
}

/// A parsed reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    /// Where it starts.
    pub root: Root,
    /// The names after the root; for a bare name, the name itself is the first.
    pub segments: Vec<Segment>,
}

/// The text is not a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing stands where a name must be.
    #[error("a name is missing at byte {0}")]
    NameMissing(usize),
    /// A `[` is never closed.
    #[error("the bracket at byte {0} is not closed")]
    BracketOpen(usize),
    /// More segments than [`SEGMENTS_MAX`].
    #[error("more than {SEGMENTS_MAX} names")]
    TooLong,
}

impl Path {
    /// A field of the event by its name.
    pub fn field(name: &str) -> Path {
        Path { root: Root::Event, segments: vec![Segment::new(name)] }
    }

    /// Reads `a.b[0].c`, `a.0.b`, `a.[key with dots.]`. The words of [`Root`] are reserved as first names;
    /// a field of such a name is reached by `event.<name>`.
    pub fn parse(text: &str) -> Result<Path, PathError> {
        let mut segments = split(text)?;
        // A bracketed first name is always a field, so any name can be written.
        let root = if text.starts_with('[') {
            None
        } else {
            segments.first().and_then(|first| Root::from_word(&first.key))
        };
        if root.is_some() && (segments.len() > 1 || root != Some(Root::Event)) {
            segments.remove(0);
        }
        Ok(Path { root: root.unwrap_or(Root::Event), segments })
    }

    /// Whether it is `connection.secrets.<name>`, and the name.
    pub fn secret(&self) -> Option<&str> {
        match (self.root, self.segments.as_slice()) {
            (Root::Connection, [group, name]) if &*group.key == "secrets" => Some(&name.key),
            _ => None,
        }
    }

    /// The last name as written.
    pub fn last(&self) -> &str {
        self.segments.last().map_or(self.root.word(), |segment| &segment.key)
    }
}

fn split(text: &str) -> Result<Vec<Segment>, PathError> {
    let mut segments = Vec::new();
    let mut position = 0;
    loop {
        let rest = &text[position..];
        let (key, length) = if rest.starts_with('[') {
            let close = rest.find(']').ok_or(PathError::BracketOpen(position))?;
            (&rest[1..close], close + 1)
        } else {
            let end = rest.find(['.', '[', '/']).unwrap_or(rest.len());
            (&rest[..end], end)
        };
        if key.is_empty() {
            return Err(PathError::NameMissing(position));
        }
        if segments.len() == SEGMENTS_MAX {
            return Err(PathError::TooLong);
        }
        segments.push(Segment::new(key));
        position += length;
        match text.as_bytes().get(position) {
            None => return Ok(segments),
            Some(b'[') => {}
            Some(_) => position += 1,
        }
    }
}

/// Whether a name can stand in a path without brackets.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_name_char)
}

/// A character of a bare name: letters of any alphabet, digits, `_`, `-`, `$`.
pub fn is_name_char(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-' | '$')
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reserved = self.segments.first().is_some_and(|first| Root::from_word(&first.key).is_some());
        let mut first = self.root == Root::Event && !(reserved && self.segments.len() > 1);
        if !first {
            f.write_str(self.root.word())?;
        }
        if self.root == Root::Event && reserved && self.segments.len() == 1 {
            return write!(f, "[{}]", self.segments[0].key);
        }
        for segment in &self.segments {
            match (is_plain_name(&segment.key), first) {
                (true, true) => write!(f, "{}", segment.key)?,
                (true, false) if segment.index.is_some() => write!(f, "[{}]", segment.key)?,
                (true, false) => write!(f, ".{}", segment.key)?,
                (false, true) => write!(f, "[{}]", segment.key)?,
                (false, false) => write!(f, ".[{}]", segment.key)?,
            }
            first = false;
        }
        Ok(())
    }
}

/// The value that a reference's names lead to, starting at a key of `map`. At each level a key that has dots in it is found
/// by its whole name too, as declared fields are.
pub fn lookup<'v>(map: &'v Map, segments: &[Segment]) -> Option<&'v Value> {
    let (first, rest) = segments.split_first()?;
    map.get(&*first.key).and_then(|value| lookup_in(value, rest)).or_else(|| {
        (2..=segments.len())
            .find_map(|length| lookup_in(map.get(join(&segments[..length]).as_str())?, &segments[length..]))
    })
}

/// The same inside a value; the value itself when there are no names.
pub fn lookup_in<'v>(value: &'v Value, segments: &[Segment]) -> Option<&'v Value> {
    let Some((first, rest)) = segments.split_first() else { return Some(value) };
    match value {
        Value::Object(map) => lookup(map, segments),
        Value::List(items) => lookup_in(items.get(first.index? as usize)?, rest),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => None,
    }
}

/// The names as one, with dots between them.
pub fn join(segments: &[Segment]) -> String {
    segments.iter().map(|segment| &*segment.key).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(path: &Path) -> Vec<&str> {
        path.segments.iter().map(|segment| &*segment.key).collect()
    }

    #[test]
    fn a_bare_name_is_a_field_and_reserved_words_are_roots() {
        for (text, root, names) in [
            ("sessionId", Root::Event, vec!["sessionId"]),
            ("attrs.mindboxDeviceUUID", Root::Event, vec!["attrs", "mindboxDeviceUUID"]),
            ("event.input", Root::Event, vec!["input"]),
            ("event", Root::Event, vec!["event"]),
            ("[input]", Root::Event, vec!["input"]),
            ("comment[0].party", Root::Event, vec!["comment", "0", "party"]),
            ("comment.0.party", Root::Event, vec!["comment", "0", "party"]),
            ("город.название", Root::Event, vec!["город", "название"]),
            ("a.[b.c]", Root::Event, vec!["a", "b.c"]),
            ("steps.send.body.id", Root::Steps, vec!["send", "body", "id"]),
            ("connection.settings.base_url", Root::Connection, vec!["settings", "base_url"]),
            ("response.status", Root::Response, vec!["status"]),
            ("input", Root::Input, vec![]),
        ] {
            let path = Path::parse(text).unwrap();
            assert_eq!((path.root, keys(&path)), (root, names), "{text}");
        }
    }

    #[test]
    fn a_path_is_read_back_from_its_text() {
        for text in [
            "a",
            "a.b",
            "a[0].b",
            "event.input.x",
            "[input]",
            "a.[b.c]",
            "[a.b].c",
            "steps.x.body",
            "input",
            "event",
            "0",
        ] {
            let path = Path::parse(text).unwrap();
            assert_eq!(Path::parse(&path.to_string()), Ok(path), "{text}");
        }
    }

    #[test]
    fn a_broken_path_is_refused() {
        for text in ["", ".", "a.", "a..b", "a[", "a[]", &"a.".repeat(40)] {
            assert!(Path::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_is_known_by_its_path() {
        assert_eq!(Path::parse("connection.secrets.key").unwrap().secret(), Some("key"));
        assert_eq!(Path::parse("connection.settings.key").unwrap().secret(), None);
    }

    #[test]
    fn a_path_leads_to_keys_and_positions_and_at_each_level_to_keys_with_dots() {
        let text = r#"{"a": [1, 2, {"x.y": 3}], "b": {"c": {"d": 4}, "c.e": {"f.g": 5}}, "b.h": 6}"#;
        let value = crate::json::parse(text.as_bytes(), crate::json::Limits::default()).unwrap();
        let at = |text: &str| lookup_in(&value, &Path::parse(text).unwrap().segments).cloned();
        for (path, found) in [
            ("a[1]", Some(2)),
            ("a[3]", None),
            ("a.b", None),
            ("a[2].x.y", Some(3)),
            ("b.c.d", Some(4)),
            ("b.c.e.f.g", Some(5)),
            ("b.[c.e].f.g", Some(5)),
            ("b.h", Some(6)),
            ("[b.h]", Some(6)),
            ("b.c.e.f", None),
            ("[b.c].d", None),
        ] {
            assert_eq!(at(path), found.map(Value::from), "{path}");
        }
    }
}
