//! Form bodies and query strings with brackets (`comment[0][party]=user1`) to a tree.
//!
//! Written rules, all of them total (only a passed limit is an error):
//! - Pairs are divided by `&`, name from value by the first `=`; a pair without a name is dropped, one without `=` has an empty value.
//! - `+` is a space; `%` that two hexadecimal digits do not follow stays as it is. Bytes become text by [`crate::charset`];
//!   a declared charset that does not hold ASCII (UTF-16) cannot be that of a form, and is passed over.
//! - A name is read as a path only when its brackets are well formed to the end (`a[b][c]`); any other name is plain text.
//! - Names are keys: an index allocates nothing. A branch becomes a list only when its keys are exactly 0, 1, … n-1, in
//!   whatever order they came; otherwise it stays an object by text key.
//! - `a[]` takes the number after the greatest index used so far (0 at first), so `a[]=x&a[0]=y` is one element, `y`.
//! - Of two pairs that cannot both hold (`a=1&a=2`, `a=1&a[b]=2`) the later one wins.

use std::ops::Range;

use encoding_rs::Encoding;
use indexmap::IndexMap;
use sheaf_bundles::value::{Map, Text, Value};

use crate::charset;

/// Most pairs of one form.
pub const PAIRS_MAX: usize = 10_000;
/// Most parts of one name, the head counted: `a[b]` has two.
pub const DEPTH_MAX: usize = 16;
/// Most nodes of the tree, branches and values together.
pub const NODES_MAX: usize = 100_000;

/// Most fields that room is made for at once, before they are seen.
const FIELDS_EXPECTED_MAX: usize = 128;
/// How long a pair usually is; only a guess of how much room to make.
const PAIR_BYTES_TYPICAL: usize = 28;

/// Room that is made for escaped texts, bytes; it grows for a longer one.
const ROOM_BYTES: usize = 256;

/// The form passes a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// More than [`PAIRS_MAX`] pairs.
    #[error("more than {PAIRS_MAX} pairs")]
    TooManyPairs,
    /// A name of more than [`DEPTH_MAX`] parts.
    #[error("a name of more than {DEPTH_MAX} parts")]
    TooDeep,
    /// More than [`NODES_MAX`] nodes.
    #[error("more than {NODES_MAX} nodes")]
    TooManyNodes,
}

/// The tree of a form body or a query string (without `?`). `declared` is the charset of the `Content-Type`, if any.
pub fn parse(raw: &[u8], declared: Option<&'static Encoding>) -> Result<Map, FormError> {
    let declared = declared.filter(|encoding| encoding.is_ascii_compatible());
    let mut form = Form::default();
    form.top.values.reserve((raw.len() / PAIR_BYTES_TYPICAL).min(FIELDS_EXPECTED_MAX));
    let mut reader =
        Reader { declared, whole: std::str::from_utf8(raw).ok(), room: Vec::with_capacity(ROOM_BYTES) };
    let mut pairs = 0;
    let mut begin = 0;
    while begin <= raw.len() {
        let end = find(b'&', raw, begin, raw.len()).unwrap_or(raw.len());
        let (name, value) = match find(b'=', raw, begin, end) {
            Some(equals) => (begin..equals, equals + 1..end),
            None => (begin..end, end..end),
        };
        begin = end + 1;
        if name.is_empty() {
            continue;
        }
        pairs += 1;
        if pairs > PAIRS_MAX {
            return Err(FormError::TooManyPairs);
        }
        form.add(reader.text(raw, name), reader.text(raw, value))?;
    }
    Ok(form.top.into_map())
}

fn find(mark: u8, raw: &[u8], begin: usize, end: usize) -> Option<usize> {
    memchr::memchr(mark, &raw[begin..end]).map(|at| begin + at)
}

/// Makes texts of the parts of a form.
struct Reader<'r> {
    declared: Option<&'static Encoding>,
    /// The whole form as text, when it is one: then it is not looked at again part by part.
    whole: Option<&'r str>,
    /// For the bytes of an escaped part, kept from part to part.
    room: Vec<u8>,
}

impl Reader<'_> {
    fn text(&mut self, raw: &[u8], part: Range<usize>) -> Text {
        let bytes = &raw[part.clone()];
        if let Some(first) = memchr::memchr2(b'%', b'+', bytes) {
            self.unescape(bytes, first);
            return charset::text(&self.room, self.declared);
        }
        match self.whole.filter(|_| self.declared.is_none()) {
            // The marks a part lies between are ASCII, so it begins and ends at letters.
            Some(whole) => Text::from(&whole[part]),
            None => charset::text(bytes, self.declared),
        }
    }

    /// By hand: the library yields single bytes without a known length, which costs three times as much here.
    fn unescape(&mut self, bytes: &[u8], first: usize) {
        self.room.clear();
        self.room.extend_from_slice(&bytes[..first]);
        let mut rest = &bytes[first..];
        loop {
            rest = match rest {
                [b'%', high, low, beyond @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    self.room.push(digit(*high) << 4 | digit(*low));
                    beyond
                }
                [b'+', beyond @ ..] => {
                    self.room.push(b' ');
                    beyond
                }
                [other, beyond @ ..] => {
                    self.room.push(*other);
                    beyond
                }
                [] => return,
            };
        }
    }
}

/// The value of a hexadecimal digit.
fn digit(byte: u8) -> u8 {
    (byte & 0x0F) + if byte.is_ascii_digit() { 0 } else { 9 }
}

/// A form being read.
#[derive(Default)]
struct Form {
    top: Level,
    nodes: usize,
}

/// Values under their keys. Those that are levels themselves grow beside and keep their place among the values.
#[derive(Default)]
struct Level {
    values: Map,
    levels: IndexMap<Text, Level, foldhash::fast::RandomState>,
    /// What `[]` means next.
    next: u64,
}

impl Form {
    fn add(&mut self, name: Text, value: Text) -> Result<(), FormError> {
        let Some((head, keys)) = path(&name)? else {
            self.count(1)?;
            self.top.put(name, value);
            return Ok(());
        };
        let keys = keys.as_slice();
        self.count(keys.len() + 1)?;
        let mut level = self.top.enter(head.into());
        let (last, inner) = keys.split_last().expect("a path has at least one bracket");
        for key in inner {
            let key = level.key(key);
            level = level.enter(key);
        }
        let key = level.key(last);
        level.put(key, value);
        Ok(())
    }

    /// Counts the most nodes a pair can make; a form that shares levels is counted too high rather than too low.
    fn count(&mut self, nodes: usize) -> Result<(), FormError> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX { Err(FormError::TooManyNodes) } else { Ok(()) }
    }
}

impl Level {
    fn put(&mut self, key: Text, value: Text) {
        let (at, before) = self.values.insert_full(key, Value::Text(value));
        if before.is_some()
            && let Some((key, _)) = self.values.get_index(at)
        {
            self.levels.swap_remove(key);
        }
    }

    fn enter(&mut self, key: Text) -> &mut Level {
        if !self.levels.contains_key(&key) {
            self.values.insert(key.clone(), Value::Null);
        }
        self.levels.entry(key).or_default()
    }

    fn key(&mut self, key: &str) -> Text {
        if key.is_empty() {
            let index = self.next;
            self.next = index.saturating_add(1);
            return index.to_string().into();
        }
        if let Some(index) = index(key) {
            self.next = self.next.max(index.saturating_add(1));
        }
        key.into()
    }

    fn into_map(mut self) -> Map {
        for (key, level) in self.levels {
            self.values.insert(key, level.into_value());
        }
        self.values
    }

    /// A list when the keys are exactly 0..n, an object otherwise.
    fn into_value(self) -> Value {
        let next = self.next;
        let mut map = self.into_map();
        let dense = next == map.len() as u64 && map.keys().all(|key| index(key).is_some());
        if !dense {
            return map.into();
        }
        map.sort_by_cached_key(|key, _| index(key));
        Value::List(map.into_values().collect())
    }
}

/// The keys in the brackets of a name; on the stack, for there are few and many names.
struct Keys<'n> {
    keys: [&'n str; DEPTH_MAX],
    count: usize,
}

impl<'n> Keys<'n> {
    fn as_slice(&self) -> &[&'n str] {
        &self.keys[..self.count]
    }
}

/// `a[b][c]` as its head and the keys inside; `None` when it is a plain name.
fn path(name: &str) -> Result<Option<(&str, Keys<'_>)>, FormError> {
    let Some(open) = name.bytes().position(|byte| byte == b'[') else { return Ok(None) };
    let (head, mut rest) = name.split_at(open);
    if head.is_empty() || !name.ends_with(']') {
        return Ok(None);
    }
    let mut keys = Keys { keys: [""; DEPTH_MAX], count: 0 };
    while let Some(inside) = rest.strip_prefix('[') {
        let Some((key, after)) = inside.split_once(']') else { return Ok(None) };
        if keys.count + 1 == DEPTH_MAX {
            return Err(FormError::TooDeep);
        }
        keys.keys[keys.count] = key;
        keys.count += 1;
        rest = after;
    }
    Ok(rest.is_empty().then_some((head, keys)))
}

/// A canonical index: decimal, no sign, no leading zero, below 2^63.
fn index(key: &str) -> Option<u64> {
    let canonical = key == "0" || (!key.starts_with('0') && key.bytes().all(|byte| byte.is_ascii_digit()));
    key.parse().ok().filter(|index| canonical && *index <= i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(raw: &str) -> String {
        fn write(value: &Value) -> serde_json::Value {
            match value {
                Value::Null => serde_json::Value::Null,
                Value::Bool(flag) => (*flag).into(),
                Value::Number(_) => unreachable!("a form holds texts"),
                Value::Text(text) => text.as_str().into(),
                Value::List(items) => items.iter().map(write).collect(),
                Value::Object(map) => {
                    map.iter().map(|(key, value)| (key.to_string(), write(value))).collect()
                }
            }
        }
        write(&parse(raw.as_bytes(), None).expect("within limits").into()).to_string()
    }

    #[test]
    fn plain_pairs_are_texts_in_their_order() {
        assert_eq!(json("b=1&a=%D0%B0+b&&c&=x"), r#"{"b":"1","a":"а b","c":""}"#);
    }

    #[test]
    fn brackets_build_lists_of_objects() {
        assert_eq!(
            json("comment%5B0%5D%5Bparty%5D=u1&comment[0][comment]=hi&comment[1][party]=u2"),
            r#"{"comment":[{"party":"u1","comment":"hi"},{"party":"u2"}]}"#
        );
    }

    #[test]
    fn a_list_needs_indexes_dense_from_zero_in_any_order() {
        assert_eq!(json("a[1]=y&a[0]=x"), r#"{"a":["x","y"]}"#);
        assert_eq!(json("a[1]=x"), r#"{"a":{"1":"x"}}"#);
        assert_eq!(json("a[0]=x&a[01]=y"), r#"{"a":{"0":"x","01":"y"}}"#);
        assert_eq!(json("a[0]=x&a[b]=y"), r#"{"a":{"0":"x","b":"y"}}"#);
    }

    #[test]
    fn a_huge_index_allocates_nothing() {
        assert_eq!(json("a[18446744073709551615]=x"), r#"{"a":{"18446744073709551615":"x"}}"#);
        assert_eq!(
            json("a[9223372036854775807]=x&a[]=y"),
            r#"{"a":{"9223372036854775807":"x","9223372036854775808":"y"}}"#
        );
    }

    #[test]
    fn empty_brackets_take_the_number_after_the_greatest() {
        assert_eq!(json("a[]=x&a[]=y"), r#"{"a":["x","y"]}"#);
        assert_eq!(json("a[]=x&a[0]=y"), r#"{"a":["y"]}"#);
        assert_eq!(json("a[1]=x&a[]=y"), r#"{"a":{"1":"x","2":"y"}}"#);
    }

    #[test]
    fn of_two_pairs_that_cannot_both_hold_the_later_wins() {
        assert_eq!(json("a=1&a=2"), r#"{"a":"2"}"#);
        assert_eq!(json("a=1&a[b]=2"), r#"{"a":{"b":"2"}}"#);
        assert_eq!(json("a[b]=2&a=1"), r#"{"a":"1"}"#);
        assert_eq!(json("a[b]=2&a=1&a[c]=3"), r#"{"a":{"c":"3"}}"#);
        assert_eq!(json("a[b]=1&a[b][c]=2&a[b][d][]=3"), r#"{"a":{"b":{"c":"2","d":["3"]}}}"#);
        assert_eq!(json("a[b][c]=1&a[b]=2"), r#"{"a":{"b":"2"}}"#);
    }

    #[test]
    fn a_name_with_malformed_brackets_is_plain_text() {
        assert_eq!(
            json("a[b=1&[c]=2&a]b=3&a[b]c=4&a[b]]=5"),
            r#"{"a[b":"1","[c]":"2","a]b":"3","a[b]c":"4","a[b]]":"5"}"#
        );
    }

    #[test]
    fn a_malformed_percent_sign_stays() {
        assert_eq!(json("a=100%&b=%zz%41&c=%4"), r#"{"a":"100%","b":"%zzA","c":"%4"}"#);
    }

    #[test]
    fn windows_1251_is_read_value_by_value() {
        assert_eq!(json("a=%CF%F0%E8%E2%E5%F2&b=%D0%9F"), r#"{"a":"Привет","b":"П"}"#);
    }

    #[test]
    fn a_charset_that_cannot_be_a_forms_is_passed_over() {
        let read = parse("a=%D0%B0".as_bytes(), Some(encoding_rs::UTF_16LE)).expect("within limits");
        assert_eq!(read.get("a"), Some(&Value::from("а")));
    }

    #[test]
    fn every_limit_is_an_error_one_past_it() {
        let pairs = |count: usize| vec!["a=1"; count].join("&");
        assert!(parse(pairs(PAIRS_MAX).as_bytes(), None).is_ok());
        assert_eq!(parse(pairs(PAIRS_MAX + 1).as_bytes(), None), Err(FormError::TooManyPairs));

        let deep = |parts: usize| format!("a{}=1", "[b]".repeat(parts - 1));
        assert!(parse(deep(DEPTH_MAX).as_bytes(), None).is_ok());
        assert_eq!(parse(deep(DEPTH_MAX + 1).as_bytes(), None), Err(FormError::TooDeep));

        let wide: Vec<String> =
            (0..PAIRS_MAX).map(|index| format!("a[{index}]{}=1", "[b]".repeat(14))).collect();
        assert_eq!(parse(wide.join("&").as_bytes(), None), Err(FormError::TooManyNodes));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(raw in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&raw, None);
        }

        #[test]
        fn any_tangle_of_brackets_is_read(raw in "([ab0-2\\[\\]=&%]){0,80}") {
            let _ = parse(raw.as_bytes(), None);
        }
    }
}
