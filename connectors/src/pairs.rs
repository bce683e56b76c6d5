//! Name-value pairs from a text that should have been a JSON object and is not.
//!
//! Calltouch's own description of webhooks prints `attrs: {"param1" "value1","param2""value2"`: no colons, no closing
//! brace. So the reader needs neither. It takes, in any mix: a `name:` label before the brace, quotes of either kind
//! or none, `:`, `=`, blanks or nothing between name and value, `,` or `;` between pairs, and a missing end. A name
//! without a value has none; of equal names the later wins.

use percent_encoding::percent_decode_str;
use sheaf_bundles::{
    json::Limits,
    value::{Map, Value},
};

/// The pairs of the text; `None` when it does not look like pairs at all, or there are more than JSON may have values.
pub fn read(text: &str) -> Option<Map> {
    let text = text.trim();
    if text.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("%7b")) {
        return read(&percent_decode_str(text).decode_utf8_lossy());
    }
    let mut reader = Reader { rest: after_label(text) };
    if !reader.rest.starts_with(['{', '"', '\'']) {
        return None;
    }
    reader.skip("{");
    let mut pairs = Map::default();
    while let Some((name, value)) = reader.pair() {
        pairs.insert(name.into(), value);
        if pairs.len() > Limits::default().nodes_max as usize {
            return None;
        }
    }
    Some(pairs)
}

/// `attrs: {…` without its label.
fn after_label(text: &str) -> &str {
    match text.split_once('{') {
        Some((label, _)) if is_label(label.trim_end()) => &text[label.len()..],
        Some(_) | None => text,
    }
}

fn is_label(text: &str) -> bool {
    text.strip_suffix([':', '='])
        .is_some_and(|name| name.trim_end().chars().all(|c| c.is_alphanumeric() || c == '_'))
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn pair(&mut self) -> Option<(String, Value)> {
        self.skip(",;");
        let name = self.token(":=,;}\"'")?;
        let mut separators = self.rest.len();
        self.skip(":=");
        separators -= self.rest.len();
        let value = match self.rest.chars().next() {
            None | Some(',' | ';' | '}') if separators == 0 => None,
            _ => self.token(",;}"),
        };
        Some((name.text, value.map_or(Value::Null, Token::into_value)))
    }

    fn skip(&mut self, marks: &str) {
        self.rest =
            self.rest.trim_start_matches(|letter: char| letter.is_whitespace() || marks.contains(letter));
    }

    /// A quoted text, or a bare one that ends before one of `ends`.
    fn token(&mut self, ends: &str) -> Option<Token> {
        match self.rest.chars().next()? {
            '}' | ',' | ';' => None,
            quote @ ('"' | '\'') => Some(self.quoted(quote)),
            _ => Some(self.bare(ends)),
        }
    }

    fn quoted(&mut self, quote: char) -> Token {
        let mut text = String::new();
        let mut letters = self.rest.char_indices().skip(1);
        let mut end = self.rest.len();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => match letters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'u')) => text.push(unicode(&mut letters)),
                    Some((_, other)) => text.push(other),
                    None => {}
                },
                _ if letter == quote => {
                    end = at + letter.len_utf8();
                    break;
                }
                _ => text.push(letter),
            }
        }
        self.rest = &self.rest[end..];
        Token { text, quoted: true }
    }

    fn bare(&mut self, ends: &str) -> Token {
        let end = self.rest.find(|letter| ends.contains(letter)).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        Token { text: text.trim_end().to_owned(), quoted: false }
    }
}

/// The letter of `\uXXXX`; U+FFFD when the digits are wrong or are half of a pair.
fn unicode(letters: &mut impl Iterator<Item = (usize, char)>) -> char {
    let digits: String = letters.take(4).map(|(_, digit)| digit).collect();
    u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

struct Token {
    text: String,
    quoted: bool,
}

impl Token {
    fn into_value(self) -> Value {
        if !self.quoted && self.text == "null" { Value::Null } else { Value::text(self.text) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, Option<String>)> {
        let map = read(text).expect("looks like pairs");
        map.into_iter().map(|(name, value)| (name.into(), value.as_text().map(str::to_owned))).collect()
    }

    fn two() -> Vec<(String, Option<String>)> {
        vec![("param1".into(), Some("value1".into())), ("param2".into(), Some("value2".into()))]
    }

    #[test]
    fn the_form_calltouch_prints_is_read() {
        assert_eq!(pairs(r#"attrs: {"param1" "value1","param2""value2""#), two());
        assert_eq!(pairs(r#"{"param1" "value1","param2""value2""#), two());
    }

    #[test]
    fn there_are_never_more_than_a_json_text_may_have() {
        let of = |count: u32| (0..count).map(|at| format!("{at:x},")).collect::<String>();
        let most = Limits::default().nodes_max;
        assert_eq!(read(&format!("{{{}", of(most))).map(|pairs| pairs.len()), Some(most as usize));
        assert!(read(&format!("{{{}", of(most + 1))).is_none());
    }

    #[test]
    fn its_relatives_are_read() {
        for text in [
            r#"{"param1":"value1","param2":"value2""#,
            r#"{"param1":"value1","param2":"value2",}"#,
            r#"{'param1': 'value1', 'param2': 'value2'}"#,
            "{param1: value1, param2: value2}",
            "{param1=value1;param2=value2}",
            r#"attrs={"param1""value1""param2""value2"}"#,
            r#""param1":"value1","param2":"value2""#,
            r#"%7B%22param1%22%20%22value1%22%2C%22param2%22%22value2%22"#,
        ] {
            assert_eq!(pairs(text), two(), "{text}");
        }
    }

    #[test]
    fn a_name_without_a_value_has_none() {
        let expected = vec![("a".to_owned(), None), ("b".into(), None), ("c".into(), Some(String::new()))];
        assert_eq!(pairs(r#"{"a","b":null,"c":"""#), expected);
    }

    #[test]
    fn escapes_and_punctuation_inside_quotes_are_text() {
        assert_eq!(
            pairs(r#"{"a" "x, \"y\": {z}\u0416""#),
            [("a".to_owned(), Some("x, \"y\": {z}Ж".to_owned()))]
        );
    }

    #[test]
    fn names_with_dots_dashes_and_cyrillic_are_names() {
        assert_eq!(pairs(r#"{"моя-кука.v2" "1""#), [("моя-кука.v2".to_owned(), Some("1".to_owned()))]);
    }

    #[test]
    fn a_text_that_is_no_pairs_is_refused() {
        assert_eq!(read("hello"), None);
        assert_eq!(read(""), None);
        assert_eq!(read("{}"), Some(Map::default()));
    }

    proptest! {
        #[test]
        fn any_text_ends(text in "([{}\"':=,;\\\\a%u ]|Ж){0,60}") {
            let _ = read(&text);
        }
    }
}
