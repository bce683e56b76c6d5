//! Forms of a phone number. Russian national forms are understood; any other number needs its country code.

/// Digits of a number by E.164: from the shortest in use to the longest allowed.
const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// ASCII digits only.
pub fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// `+79990000001`; none when the text is not a phone number.
pub fn e164(text: &str) -> Option<String> {
    let allowed = |c: char| {
        c.is_ascii_digit() || c.is_whitespace() || matches!(c, '+' | '-' | '(' | ')' | '.' | '–' | '\u{a0}')
    };
    if !text.chars().all(allowed) {
        return None;
    }
    let number = digits(text);
    let international = text.trim_start().starts_with('+');
    let number = match (number.len(), number.as_bytes().first()) {
        (11, Some(b'8')) if !international => format!("7{}", &number[1..]),
        (10, Some(b'9')) if !international => format!("7{number}"),
        _ => number,
    };
    DIGITS.contains(&number.len()).then(|| format!("+{number}"))
}

/// The digits, Russian national forms with the country's code, so that every way of writing a number is the same; text that
/// has no digits stays itself.
pub fn comparable(text: &str) -> String {
    let digits = digits(text);
    let international = text.trim_start().starts_with('+');
    match (digits.len(), digits.as_bytes().first()) {
        (0, _) => text.to_owned(),
        (11, Some(b'8')) if !international => format!("7{}", &digits[1..]),
        (10, Some(b'9')) if !international => format!("7{digits}"),
        (_, _) => digits,
    }
}

/// `89990000001`; none when it is not a Russian number.
pub fn national(text: &str) -> Option<String> {
    let number = e164(text)?;
    let rest = number.strip_prefix("+7").filter(|rest| rest.len() == 10)?;
    Some(format!("8{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phones_are_written_in_one_form() {
        for (text, international, inside) in [
            ("79990000001", Some("+79990000001"), Some("89990000001")),
            ("8 (999) 000-00-01", Some("+79990000001"), Some("89990000001")),
            ("9990000001", Some("+79990000001"), Some("89990000001")),
            ("+7 999 000 00 01", Some("+79990000001"), Some("89990000001")),
            ("+375 29 000-00-01", Some("+375290000001"), None),
            ("+81 3 0000 0001", Some("+81300000001"), None),
            ("аноним", None, None),
            ("12", None, None),
            ("", None, None),
        ] {
            assert_eq!(e164(text).as_deref(), international, "{text}");
            assert_eq!(national(text).as_deref(), inside, "{text}");
        }
    }
}
