//! From the wire's text to a typed value.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

use super::{InstantFormat, Type};
use crate::{
    json::{self, Limits},
    value::{Number, Value},
};

/// The text is not a value of the type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct ReadError {
    /// [`Type::word`] of what was expected; the text itself is not repeated, for it may be personal.
    pub expected: &'static str,
}

impl Type {
    /// Reads the text a vendor sent. The caller has made the vendor's "no value" words null before.
    ///
    /// Rules: booleans are `true false 1 0`; whole numbers may have leading zeros and are exact at any size; a list is split
    /// at commas and its items trimmed; maps and objects are JSON; texts, phones, addresses are kept as they are.
    pub fn read(&self, text: &str) -> Result<Value, ReadError> {
        let wrong = || ReadError { expected: self.word() };
        let value = match self {
            Type::Any | Type::Text | Type::Phone | Type::Email | Type::Url | Type::Filter => {
                Some(Value::from(text))
            }
            Type::Integer | Type::Instant(InstantFormat::UnixSeconds | InstantFormat::UnixMilliseconds) => {
                integer(text)
            }
            Type::Decimal => Number::parse(text.trim()).map(Value::Number).or_else(|| integer(text)),
            Type::Duration(_) => Number::parse(text.trim()).map(Value::Number).or_else(|| integer(text)),
            Type::Boolean => boolean(text.trim()).map(Value::Bool),
            Type::Instant(InstantFormat::Rfc3339) => {
                DateTime::parse_from_rfc3339(text).ok().map(|_| Value::from(text))
            }
            Type::LocalTime(_) => local_time(text).map(|_| Value::from(text)),
            Type::Enum(choices) => {
                choices.iter().any(|choice| choice.value == text).then(|| Value::from(text))
            }
            Type::List(items) => return list(items, text),
            Type::Map(_) | Type::Object { .. } => json::parse(text.as_bytes(), Limits::default())
                .ok()
                .filter(|value| matches!(value, Value::Object(_))),
        };
        value.ok_or_else(wrong)
    }
}

fn list(items: &Type, text: &str) -> Result<Value, ReadError> {
    if text.trim().is_empty() {
        return Ok(Value::List(Vec::new()));
    }
    text.split(',').map(|item| items.read(item.trim())).collect::<Result<_, _>>().map(Value::List)
}

fn integer(text: &str) -> Option<Value> {
    let text = text.trim();
    if let Ok(integer) = text.parse::<i64>() {
        return Some(Value::from(integer));
    }
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain
        .then(|| format!("{sign}{}", digits.trim_start_matches('0')))
        .and_then(|text| Number::parse(&text))
        .map(Value::Number)
}

/// Reads a boolean as vendors write it.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Reads `2026-03-05 10:15:30`, with `T`, without seconds, with a fraction, or a bare date (its midnight).
pub fn local_time(text: &str) -> Option<NaiveDateTime> {
    const FORMATS: [&str; 4] =
        ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
    usual_time(text).or_else(|| {
        FORMATS
            .iter()
            .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
            .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))
    })
}

/// `2026-03-05 10:15:30`, which nearly every one is: a tenth of the price of reading it by a format.
fn usual_time(text: &str) -> Option<NaiveDateTime> {
    let bytes: &[u8; 19] = text.as_bytes().try_into().ok()?;
    let marks = [(4, b'-'), (7, b'-'), (10, b' '), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| bytes[*at] != *mark) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        bytes[range].iter().try_fold(0_u32, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0'))
        })
    };
    let year = i32::try_from(number(0..4)?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(5..7)?, number(8..10)?)?;
    date.and_hms_opt(number(11..13)?, number(14..16)?, number(17..19)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{duration::Unit, types::Choice, words::Words};

    fn choice(value: &str) -> Choice {
        Choice { value: value.to_owned(), title: Words::default() }
    }

    #[test]
    fn texts_from_the_wire_become_typed_values() {
        let list = Type::List(Box::new(Type::Text));
        for (ty, text, expected) in [
            (Type::Text, "Москва", r#""Москва""#),
            (Type::Integer, "42", "42"),
            (Type::Integer, " 007 ", "7"),
            (Type::Integer, "123456789012345678901234567890", "123456789012345678901234567890"),
            (Type::Decimal, "10.50", "10.50"),
            (Type::Boolean, "true", "true"),
            (Type::Boolean, "0", "false"),
            (Type::Instant(InstantFormat::UnixSeconds), "1772694930", "1772694930"),
            (
                Type::Instant(InstantFormat::Rfc3339),
                "2026-03-05T10:15:30+03:00",
                r#""2026-03-05T10:15:30+03:00""#,
            ),
            (Type::LocalTime(None), "2026-03-05 10:15:30", r#""2026-03-05 10:15:30""#),
            (Type::Duration(Unit::Seconds), "15", "15"),
            (Type::Enum(vec![choice("call"), choice("request")]), "call", r#""call""#),
            (list.clone(), "а, б", r#"["а","б"]"#),
            (list, "", "[]"),
            (Type::Map(Box::new(Type::Text)), r#"{"k":"я"}"#, r#"{"k":"я"}"#),
        ] {
            assert_eq!(json::to_text(&ty.read(text).unwrap()), expected, "{} {text}", ty.word());
        }
    }

    #[test]
    fn a_text_that_is_not_of_the_type_is_refused() {
        for (ty, text) in [
            (Type::Integer, "1.5"),
            (Type::Integer, ""),
            (Type::Integer, "семь"),
            (Type::Decimal, "1,5"),
            (Type::Boolean, "да"),
            (Type::LocalTime(None), "05.03.2026"),
            (Type::Instant(InstantFormat::Rfc3339), "2026-03-05 10:15:30"),
            (Type::Enum(vec![choice("call")]), "mail"),
            (Type::Map(Box::new(Type::Text)), "[1]"),
        ] {
            assert_eq!(ty.read(text), Err(ReadError { expected: ty.word() }), "{text}");
        }
    }

    #[test]
    fn the_quick_way_to_read_a_time_reads_what_the_slow_one_does() {
        let slow = |text| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").ok();
        for text in ["2026-03-05 10:15:30", "2024-02-29 23:59:59", "0001-01-01 00:00:00"] {
            assert!(slow(text).is_some());
            assert_eq!(usual_time(text), slow(text), "{text}");
        }
        for text in
            ["2026-02-29 10:15:30", "2026-03-05 24:00:00", "2026-03-05 1a:15:30", "2026-03-05T10:15:30"]
        {
            assert_eq!(usual_time(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in ".{0,40}") {
            for ty in [Type::Integer, Type::Decimal, Type::Boolean, Type::LocalTime(None), Type::Instant(InstantFormat::Rfc3339), Type::Map(Box::new(Type::Any))] {
                let _ = ty.read(&text);
            }
        }

        #[test]
        fn a_whole_number_of_any_size_is_exact(text in "-?[1-9][0-9]{0,60}") {
            prop_assert_eq!(json::to_text(&Type::Integer.read(&text).unwrap()), text);
        }
    }
}
