//! Takes a secret out of a text that repeats it, however its letters are escaped there.
//!
//! An answer in JSON may spell any letter as `\u002B`, and `/` as `\/`; one that quotes other JSON escapes that again; one
//! that quotes a URL has `%2b`. A letter is looked for in all of these, so whoever reads the text later finds it in none. It
//! is no reader of JSON: a text that is cut, or only holds JSON, is cleaned like any other.

/// Backslashes before a letter that are taken for its escape: JSON in JSON in JSON has seven before a quote.
const SLASHES_MAX: usize = 8;

/// The text with `instead` wherever the secret stood; none when it stands nowhere. An empty secret stands nowhere.
pub fn without(text: &[u8], secret: &str, instead: &str) -> Option<Vec<u8>> {
    let first = *secret.as_bytes().first()?;
    // Most answers escape nothing, and then there is one way to spell it.
    if !text.iter().any(begins_escape) && !contains(text, secret.as_bytes()) {
        return None;
    }
    let (mut kept, mut start, mut at) = (Vec::new(), 0, 0);
    while let Some(byte) = text.get(at) {
        let begins = *byte == first || begins_escape(byte);
        let found = || {
            let plain = text[at..].starts_with(secret.as_bytes()).then_some(secret.len());
            plain.or_else(|| spelled(&text[at..], secret))
        };
        match begins.then(found).flatten() {
            Some(length) => {
                kept.extend_from_slice(&text[start..at]);
                kept.extend_from_slice(instead.as_bytes());
                at += length;
                start = at;
            }
            None => at += 1,
        }
    }
    (start > 0).then(|| {
        kept.extend_from_slice(&text[start..]);
        kept
    })
}

fn begins_escape(byte: &u8) -> bool {
    matches!(byte, b'\\' | b'%' | b'+')
}

fn contains(text: &[u8], secret: &[u8]) -> bool {
    text.windows(secret.len()).any(|window| window == secret)
}

/// How many bytes at the start of the text spell the secret.
fn spelled(text: &[u8], secret: &str) -> Option<usize> {
    secret.chars().try_fold(0, |at, letter| Some(at + letter_spelled(&text[at..], letter)?))
}

/// How many bytes at the start of the text spell the letter.
fn letter_spelled(text: &[u8], letter: char) -> Option<usize> {
    let slashes = slashes(text);
    let rest = &text[slashes..];
    if slashes > 0
        && let Some(length) = units_spelled(rest, letter)
    {
        return Some(slashes + length);
    }
    if letter == '\\' && slashes > 0 {
        // What is left of them belongs to the letter after it.
        return Some(slashes.min(2));
    }
    let short = match letter {
        '\n' => Some(b"n"),
        '\r' => Some(b"r"),
        '\t' => Some(b"t"),
        '\u{8}' => Some(b"b"),
        '\u{c}' => Some(b"f"),
        _ => None,
    };
    if slashes > 0 && short.is_some_and(|short| rest.starts_with(short)) {
        return Some(slashes + 1);
    }
    let mut plain = [0; 4];
    let plain = letter.encode_utf8(&mut plain).as_bytes();
    let length = if rest.starts_with(plain) { plain.len() } else { percent_spelled(rest, plain)? };
    Some(slashes + length)
}

fn slashes(text: &[u8]) -> usize {
    text.iter().take(SLASHES_MAX).take_while(|byte| **byte == b'\\').count()
}

/// `u002B`, or `ud83d\ude00`; the first backslash is before it.
fn units_spelled(text: &[u8], letter: char) -> Option<usize> {
    let mut at = 0;
    for unit in letter.encode_utf16(&mut [0; 2]) {
        at += slashes(&text[at..]);
        let digits = text[at..].strip_prefix(b"u")?;
        if hexadecimal(digits.get(..4)?)? != u32::from(*unit) {
            return None;
        }
        at += 5;
    }
    Some(at)
}

/// `%d0%9a`, or the `+` of forms for a space.
fn percent_spelled(text: &[u8], plain: &[u8]) -> Option<usize> {
    if plain == b" " && text.first() == Some(&b'+') {
        return Some(1);
    }
    let digits = |byte: &[u8]| hexadecimal(byte.strip_prefix(b"%")?);
    let same = |(triple, byte): (&[u8], &u8)| digits(triple) == Some(u32::from(*byte));
    let length = plain.len() * 3;
    text.get(..length)?.chunks(3).zip(plain).all(same).then_some(length)
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, secret: &str) -> Option<String> {
        without(text.as_bytes(), secret, "*").map(|left| String::from_utf8(left).expect("text"))
    }

    #[test]
    fn a_letter_is_found_in_every_spelling_and_what_is_around_stays() {
        let secret = "k/\"+\\\n😀 ж";
        for spelled in [
            "k/\"+\\\n😀 ж",
            r#"k\/\"+\\\n😀 ж"#,
            r"\u006b\u002F\u0022\u002b\u005c\u000A\uD83D\ude00\u0020\u0436",
            r"\\u006b\\/\\\u0022\\u002b\\\\\\n\\uD83D\\ude00 \\u0436",
            "k%2f%22%2B%5C%0a%F0%9f%98%80+%D0%b6",
            "k/%22%2B%5c%0A%f0%9F%98%80%20%d0%B6",
        ] {
            assert_eq!(shown(&format!("a {spelled} b, {spelled}"), secret).as_deref(), Some("a * b, *"));
        }
    }

    #[test]
    fn what_is_not_the_secret_stays() {
        for text in ["", "k", r"k\u002", r"k\u002b", "k%2", "%", r"\", r"\\\\\\\\\\\\\\\\\\k", "k%2b%"] {
            assert_eq!(shown(text, "k/"), None, "{text}");
        }
        assert_eq!(shown(r"\u", ""), None);
        assert_eq!(shown("text", ""), None);
    }

    #[test]
    fn backslashes_of_the_secret_itself_are_found_as_they_are_and_escaped() {
        let secret = r"ab\\cd";
        assert_eq!(shown(r"key: ab\\cd.", secret).as_deref(), Some("key: *."));
        assert_eq!(shown(r#"{"key":"ab\\\\cd"}"#, secret).as_deref(), Some(r#"{"key":"*"}"#));
    }

    #[test]
    fn a_space_may_be_a_plus() {
        assert_eq!(shown("?key=the+key&", "the key").as_deref(), Some("?key=*&"));
    }

    #[test]
    fn bytes_that_are_not_text_stay_as_they_are() {
        assert_eq!(without(b"\xff\\key\xfe", "key", "*").as_deref(), Some(&b"\xff*\xfe"[..]));
    }
}
