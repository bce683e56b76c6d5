//! Helpers of text.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    expression::{TEXT_BYTES_MAX, error::EvalErrorKind, text_of},
    types::Type,
    value::{Number, Value},
};

/// What a percent-encoded value keeps as it is: RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How [`TEXT_BYTES_MAX`] is called.
pub const TEXT_LIMIT: &str = "1 MiB";
/// Most items `split` gives.
const ITEMS_MAX: usize = 10_000;

type Arguments<'v, 'a> = &'v [Cow<'a, Value>];
type Outcome<'a> = Result<Cow<'a, Value>, EvalErrorKind>;

/// Percent-encodes everything but unreserved characters.
pub fn percent(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, RESERVED).into()
}

/// The text of an argument; "" when it is empty or was not given.
pub fn text<'v>(arguments: Arguments<'v, '_>, position: usize) -> Result<Cow<'v, str>, EvalErrorKind> {
    let value = arguments.get(position).map_or(&Value::Null, AsRef::as_ref);
    Ok(text_of(value)?.unwrap_or(Cow::Borrowed("")))
}

/// A text as a result, within the limit.
pub fn limited<'a>(text: String) -> Outcome<'a> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(EvalErrorKind::TooLong(TEXT_LIMIT));
    }
    Ok(Cow::Owned(Value::text(text)))
}

pub(super) fn map<'a>(arguments: Arguments<'_, '_>, change: impl Fn(&str) -> String) -> Outcome<'a> {
    limited(change(&text(arguments, 0)?))
}

pub(super) fn try_map<'a>(
    arguments: Arguments<'_, '_>,
    to: Type,
    change: impl Fn(&str) -> Option<String>,
) -> Outcome<'a> {
    limited(change(&text(arguments, 0)?).ok_or(EvalErrorKind::NotConvertible(to))?)
}

pub(super) fn replace<'a>(arguments: Arguments<'_, '_>) -> Outcome<'a> {
    let (value, from, to) = (text(arguments, 0)?, text(arguments, 1)?, text(arguments, 2)?);
    if from.is_empty() {
        return limited(value.into_owned());
    }
    // Counted before it is made: a short text can become a very long one.
    let grown = value.len() + value.matches(&*from).count() * to.len();
    if grown > TEXT_BYTES_MAX {
        Err(EvalErrorKind::TooLong(TEXT_LIMIT))
    } else {
        limited(value.replace(&*from, &to))
    }
}

pub(super) fn substring<'a>(arguments: Arguments<'_, '_>) -> Outcome<'a> {
    let start = count(arguments, 1).unwrap_or(0);
    let length = count(arguments, 2).unwrap_or(usize::MAX);
    limited(text(arguments, 0)?.chars().skip(start).take(length).collect())
}

fn count(arguments: Arguments<'_, '_>, position: usize) -> Option<usize> {
    match arguments.get(position)?.as_ref() {
        Value::Number(Number::Integer(number)) => usize::try_from(*number).ok(),
        Value::Number(Number::Exact(_))
        | Value::Null
        | Value::Bool(_)
        | Value::Text(_)
        | Value::List(_)
        | Value::Object(_) => None,
    }
}

pub(super) fn split<'a>(arguments: Arguments<'_, '_>) -> Outcome<'a> {
    let (value, separator) = (text(arguments, 0)?, text(arguments, 1)?);
    if separator.is_empty() {
        return Ok(Cow::Owned(Value::List(vec![Value::from(&*value)])));
    }
    if value.matches(&*separator).count() >= ITEMS_MAX {
        return Err(EvalErrorKind::TooLong("10,000 items"));
    }
    Ok(Cow::Owned(Value::List(value.split(&*separator).map(Value::from).collect())))
}

pub(super) fn join<'a>(arguments: Arguments<'_, '_>) -> Outcome<'a> {
    let separator = text(arguments, 1)?;
    let Some(Value::List(items)) = arguments.first().map(AsRef::as_ref) else {
        return limited(text(arguments, 0)?.into());
    };
    let mut joined = String::new();
    for part in items.iter().filter_map(|item| text_of(item).transpose()) {
        if !joined.is_empty() {
            joined.push_str(&separator);
        }
        joined.push_str(&part?);
        if joined.len() > TEXT_BYTES_MAX {
            return Err(EvalErrorKind::TooLong(TEXT_LIMIT));
        }
    }
    limited(joined)
}

pub(super) fn number<'a>(arguments: Arguments<'_, '_>) -> Outcome<'a> {
    let text = text(arguments, 0)?;
    to_number(&text)
        .map(|number| Cow::Owned(Value::Number(number)))
        .ok_or(EvalErrorKind::NotConvertible(Type::Decimal))
}

/// A number from a text: blanks at both ends and between digits, and a decimal comma, are understood.
pub fn to_number(text: &str) -> Option<Number> {
    let plain: String =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| if c == ',' { '.' } else { c }).collect();
    let unsigned = plain.strip_prefix('+').unwrap_or(&plain);
    Number::parse(unsigned).or_else(|| match Type::Integer.read(unsigned) {
        Ok(Value::Number(number)) => Some(number),
        Ok(_) | Err(_) => None,
    })
}
