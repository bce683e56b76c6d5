//! Forms of a phone number. Russian national forms are understood: ten digits of a Russian area or mobile code, eight before
//! them, and how abroad is dialled. Any other number needs its country code, and one that begins with eight its `+`.

/// Digits of a number by E.164: from the shortest in use to the longest allowed.
const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// Digits of a Russian number with the country's code.
const RUSSIAN_DIGITS: usize = 11;

/// ASCII digits only.
pub fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// `+79990000001`; none when the text is not a phone number.
pub fn e164(text: &str) -> Option<String> {
    let allowed = |c: char| {
        c.is_ascii_digit() || c.is_whitespace() || matches!(c, '+' | '-' | '(' | ')' | '.' | '–' | '\u{a0}')
    };
    text.chars().all(allowed).then(|| number(text))?.map(|number| format!("+{number}"))
}

/// What every way of writing a number has in common: its digits with the country's code, else those that are there. Text
/// that has no digits stays itself.
pub fn comparable(text: &str) -> String {
    number(text).unwrap_or_else(|| match digits(text) {
        none if none.is_empty() => text.to_owned(),
        digits => digits,
    })
}

/// The digits of a number with its country's code; none when nobody can say which country's it is. Rather none than another
/// subscriber: a national form that is a digit too long or too short is a number abroad.
fn number(text: &str) -> Option<String> {
    let digits = digits(text);
    let is_international =
        text.split(|c: char| c.is_ascii_digit()).next().is_some_and(|lead| lead.contains('+'));
    let number = if is_international {
        digits
    } else if let Some(abroad) = digits.strip_prefix("810").filter(|_| digits.len() >= RUSSIAN_DIGITS) {
        abroad.to_owned()
    } else if let Some(abroad) = digits.strip_prefix("00") {
        abroad.to_owned()
    } else {
        match (digits.len(), digits.as_bytes().first()?) {
            (RUSSIAN_DIGITS, b'8') => format!("7{}", &digits[1..]),
            (10, _) if begins_as_russian(&digits) => format!("7{digits}"),
            (..RUSSIAN_DIGITS, _) | (_, b'8') => return None,
            (RUSSIAN_DIGITS.., _) => digits,
        }
    };
    let fits = match number.as_bytes().first()? {
        b'0' => false,
        b'7' => number.len() == RUSSIAN_DIGITS,
        // No country has 89: it is eight and a mobile number, with a plus.
        _ => DIGITS.contains(&number.len()) && !number.starts_with("89"),
    };
    fits.then_some(number)
}

/// Whether ten digits begin with an area code, the code of a service, or as a mobile number does. What else begins so is a number
/// abroad without its `+`; `89…` is a mobile number with a digit missing.
fn begins_as_russian(digits: &str) -> bool {
    const AREAS: [&str; 20] = [
        "30", "34", "35", "365", "38", "39", "40", "41", "42", "47", "48", "49", "80", "81", "82", "83",
        "84", "85", "86", "87",
    ];
    digits.starts_with('9') || AREAS.iter().any(|area| digits.starts_with(area))
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
            ("495 000-00-01", Some("+74950000001"), Some("84950000001")),
            ("(812) 000-00-01", Some("+78120000001"), Some("88120000001")),
            ("8 800 555-35-35", Some("+78005553535"), Some("88005553535")),
            ("800 555-35-35", Some("+78005553535"), Some("88005553535")),
            ("+7 701 000-00-01", Some("+77010000001"), Some("87010000001")),
            ("8 10 49 30 123456", Some("+4930123456"), None),
            ("00 49 30 123456", Some("+4930123456"), None),
            ("00 7 999 000-00-01", Some("+79990000001"), Some("89990000001")),
            ("(+49) 30 123456", Some("+4930123456"), None),
            ("375290000001", Some("+375290000001"), None),
            ("+7 999 000-00-01 (12)", None, None),
            ("+7 999 000-00-0", None, None),
            ("8 999 000-00-0", None, None),
            ("8 999 000-00-011", None, None),
            ("+8 999 000-00-01", None, None),
            ("+0 999 000-00-01", None, None),
            ("0 30 123 456 78", None, None),
            ("000 999 000-00-01", None, None),
            ("123-45-67", None, None),
            ("4521234567", None, None),
            ("3725012345", None, None),
            ("+4521234567", Some("+4521234567"), None),
            ("8999000001", None, None),
            ("+", None, None),
            ("аноним", None, None),
            ("12", None, None),
            ("", None, None),
        ] {
            assert_eq!(e164(text).as_deref(), international, "{text}");
            assert_eq!(national(text).as_deref(), inside, "{text}");
        }
    }

    #[test]
    fn a_number_is_compared_the_same_however_it_is_written() {
        for text in [
            "+7 495 000-00-01",
            "495 000-00-01",
            "8 (495) 000-00-01",
            "тел. 8 495 0000001",
            "810 7 495 000-00-01",
        ] {
            assert_eq!(comparable(text), "74950000001", "{text}");
        }
        for (text, compared) in
            [("123-45-67", "1234567"), ("аноним", "аноним"), ("", ""), ("8 999 000", "8999000")]
        {
            assert_eq!(comparable(text), compared, "{text}");
        }
    }
}
