//! What may be put into what, and how a value is made to fit.

use std::borrow::Cow;

use super::{InstantFormat, Type, read};
use crate::{
    expression::{error::EvalErrorKind, text_of},
    function,
    value::{Number, Value},
    words::Words,
};

/// Whether a value of one type fits a target of another.
#[derive(Debug, Clone, PartialEq)]
pub enum Fit {
    /// As it is.
    Same,
    /// After [`convert`] at run time, which may fail for a value of type `any`.
    Convert,
    /// Never; with a hint.
    Never(Option<Words>),
}

/// A target whose name says UTC: `executionDateTimeUtc`, `created_at_utc`, `dateUTC`.
pub fn names_utc(name: &str) -> bool {
    name.ends_with("Utc")
        || name.ends_with("UTC")
        || name == "utc"
        || name.ends_with("_utc")
        || name.ends_with("-utc")
}

/// Whether `source` fits `target`, a field of this name.
pub fn fit(source: &Type, target: &Type, name: &str) -> Fit {
    let utc_hint = || {
        Some(Words::new(
            "write `{{ utc … }}` around it to say the moment in UTC",
            "оберните в `{{ utc … }}`, чтобы передать момент в UTC",
        ))
    };
    if matches!(source, Type::LocalTime(_)) && (names_utc(name) || matches!(target, Type::Instant(_))) {
        return Fit::Never(utc_hint());
    }
    if source == target || matches!(target, Type::Any) {
        return Fit::Same;
    }
    match (source, target) {
        (Type::Any, _) => Fit::Convert,
        (Type::List(source), Type::List(target)) => match fit(source, target, name) {
            Fit::Same => Fit::Same,
            Fit::Convert => Fit::Convert,
            Fit::Never(hint) => Fit::Never(hint),
        },
        (Type::Map(_) | Type::Object { .. }, Type::Map(_) | Type::Object { .. }) => Fit::Same,
        (Type::List(_), Type::Text) => Fit::Never(Some(Words::new(
            "`join` makes one text of a list",
            "`join` делает из списка один текст",
        ))),
        (Type::List(_) | Type::Map(_) | Type::Object { .. }, _)
        | (_, Type::List(_) | Type::Map(_) | Type::Object { .. }) => Fit::Never(None),
        (Type::Instant(_) | Type::Text, Type::Instant(_)) => Fit::Never(utc_hint()),
        (Type::LocalTime(_), Type::LocalTime(_)) => Fit::Same,
        (Type::Phone | Type::Email | Type::Url | Type::Enum(_) | Type::LocalTime(_), Type::Text) => Fit::Same,
        (Type::Instant(InstantFormat::Rfc3339), Type::Text) => Fit::Same,
        (
            Type::Integer | Type::Decimal | Type::Boolean | Type::Duration(_) | Type::Instant(_),
            Type::Text,
        ) => Fit::Convert,
        (Type::Text, Type::Phone | Type::Email | Type::Url) | (Type::Integer, Type::Phone) => Fit::Convert,
        (Type::Text | Type::Enum(_) | Type::Integer, Type::Enum(_)) => Fit::Convert,
        (Type::Integer, Type::Decimal | Type::Duration(_)) => Fit::Same,
        (Type::Duration(_), Type::Integer | Type::Decimal) => Fit::Same,
        (
            Type::Instant(InstantFormat::UnixSeconds | InstantFormat::UnixMilliseconds),
            Type::Integer | Type::Decimal,
        ) => Fit::Same,
        (Type::Decimal, Type::Integer | Type::Duration(_)) => Fit::Convert,
        (Type::Text | Type::Enum(_), Type::Integer | Type::Decimal | Type::Duration(_)) => Fit::Never(Some(
            Words::new("`number` makes a number of a text", "`number` делает из текста число"),
        )),
        (Type::Text, Type::LocalTime(_) | Type::Boolean) | (Type::Enum(_), Type::Boolean) => Fit::Convert,
        // Every other pair of scalars means different things.
        (_, _) => Fit::Never(None),
    }
}

/// The value as one of `target`; borrowed when nothing has to change. Empty values stay as they are.
pub fn convert<'a>(value: Cow<'a, Value>, target: &Type) -> Result<Cow<'a, Value>, EvalErrorKind> {
    if value.is_empty() || fits(&value, target) {
        return Ok(value);
    }
    let wrong = || EvalErrorKind::NotConvertible(target.clone());
    let converted = match target {
        Type::Text | Type::Phone => Value::from(&*text_of(&value)?.ok_or_else(wrong)?),
        Type::Integer | Type::Decimal | Type::Duration(_) => {
            let number =
                value.as_text().and_then(function::text::to_number).map(Value::Number).ok_or_else(wrong)?;
            if fits(&number, target) { number } else { return Err(wrong()) }
        }
        Type::Boolean => {
            Value::Bool(text_of(&value)?.and_then(|text| read::boolean(&text)).ok_or_else(wrong)?)
        }
        Type::Enum(_) => {
            let text = Value::from(&*text_of(&value)?.ok_or_else(wrong)?);
            if fits(&text, target) { text } else { return Err(wrong()) }
        }
        Type::List(items) => {
            let Value::List(values) = value.as_ref() else { return Err(wrong()) };
            let made = values.iter().map(|value| convert(Cow::Borrowed(value), items).map(Cow::into_owned));
            Value::List(made.collect::<Result<_, _>>()?)
        }
        Type::Any
        | Type::Email
        | Type::Url
        | Type::Instant(_)
        | Type::LocalTime(_)
        | Type::Map(_)
        | Type::Object { .. }
        | Type::Filter => return Err(wrong()),
    };
    Ok(Cow::Owned(converted))
}

/// Whether a value is one of the type already.
pub fn fits(value: &Value, ty: &Type) -> bool {
    match (ty, value) {
        (Type::Any, _) => true,
        (Type::Text | Type::Phone | Type::Filter, Value::Text(_)) => true,
        (Type::Email, Value::Text(text)) => text.contains('@'),
        (Type::Url, Value::Text(text)) => text.starts_with("https://") || text.starts_with("http://"),
        (Type::Integer, Value::Number(number)) => is_whole(number),
        (Type::Decimal | Type::Duration(_), Value::Number(_)) => true,
        (Type::Boolean, Value::Bool(_)) => true,
        (
            Type::Instant(InstantFormat::UnixSeconds | InstantFormat::UnixMilliseconds),
            Value::Number(number),
        ) => is_whole(number),
        (Type::Instant(InstantFormat::Rfc3339), Value::Text(text)) => {
            chrono::DateTime::parse_from_rfc3339(text).is_ok()
        }
        (Type::LocalTime(_), Value::Text(text)) => read::local_time(text).is_some(),
        (Type::Enum(choices), Value::Text(text)) => choices.iter().any(|choice| choice.value == *text),
        (Type::List(items), Value::List(values)) => values.iter().all(|value| fits(value, items)),
        (Type::Map(items), Value::Object(map)) => map.values().all(|value| fits(value, items)),
        (Type::Object { .. }, Value::Object(_)) => true,
        (_, _) => false,
    }
}

fn is_whole(number: &Number) -> bool {
    match number {
        Number::Integer(_) => true,
        Number::Exact(digits) => digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'),
    }
}

/// The type of a constant.
pub fn of_value(value: &Value) -> Type {
    match value {
        Value::Null => Type::Any,
        Value::Bool(_) => Type::Boolean,
        Value::Number(number) if is_whole(number) => Type::Integer,
        Value::Number(_) => Type::Decimal,
        Value::Text(_) => Type::Text,
        Value::List(items) => {
            Type::List(Box::new(common(items.iter().map(of_value).collect::<Vec<_>>().iter())))
        }
        Value::Object(_) => Type::Map(Box::new(Type::Any)),
    }
}

/// The type that all of these are: their own when they are alike, else text or anything.
pub fn common<'t>(types: impl Iterator<Item = &'t Type>) -> Type {
    let mut all: Option<Type> = None;
    for ty in types {
        all = Some(match all {
            None => ty.clone(),
            Some(before) if before == *ty => before,
            Some(before) if is_text(&before) && is_text(ty) => Type::Text,
            Some(_) => Type::Any,
        });
    }
    all.unwrap_or(Type::Any)
}

fn is_text(ty: &Type) -> bool {
    matches!(ty, Type::Text | Type::Phone | Type::Email | Type::Url | Type::Enum(_))
}
