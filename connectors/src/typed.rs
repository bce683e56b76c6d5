//! A value as it came to a value of its field's type.

use sheaf_bundles::{
    json::{self, Limits},
    types::{Field, Type, read::ReadError},
    value::{Map, Value},
};

use crate::pairs;

/// Types the value in place. On an error it is null; an enum keeps the unknown text, since vendors add values.
///
/// - An empty text and the field's "no value" words are null; for a map or a list, also its items that are such words.
/// - A list or an object may come as JSON text; an object also as pairs (see [`crate::pairs`]), a list also divided by
///   commas. Past as many values as JSON may have, either is an error.
/// - A text field that came as a number, a list or an object holds its JSON.
pub fn convert(value: &mut Value, ty: &Type, no_value: &[String]) -> Result<(), ReadError> {
    if is_no_value(value, no_value) {
        *value = Value::Null;
    }
    match ty {
        Type::Any => Ok(()),
        Type::Text => {
            write_as_text(value);
            Ok(())
        }
        Type::List(items) => list(value, items, no_value),
        Type::Map(items) => map(value, items, no_value),
        Type::Object { fields, .. } => object(value, fields),
        Type::Boolean
        | Type::Integer
        | Type::Decimal
        | Type::Phone
        | Type::Email
        | Type::Url
        | Type::Instant(_)
        | Type::LocalTime(_)
        | Type::Duration(_)
        | Type::Enum(_)
        | Type::Filter => scalar(value, ty),
    }
}

/// Whether a value as it came is an empty text or one of the field's words for "no value".
pub(crate) fn is_no_value(value: &Value, words: &[String]) -> bool {
    match value {
        Value::Text(text) => text.is_empty() || words.iter().any(|word| word == text),
        Value::Number(_) | Value::Bool(_) if !words.is_empty() => {
            let text = json::to_text(value);
            words.contains(&text)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Object(_) => false,
    }
}

fn write_as_text(value: &mut Value) {
    match value {
        Value::Null | Value::Text(_) => {}
        Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Object(_) => {
            *value = Value::text(json::to_text(value))
        }
    }
}

fn scalar(value: &mut Value, ty: &Type) -> Result<(), ReadError> {
    let read = match value {
        Value::Null => return Ok(()),
        // Nothing to read and nothing to copy.
        Value::Text(_) if matches!(ty, Type::Phone | Type::Email | Type::Url | Type::Filter) => return Ok(()),
        Value::Text(text) if is_choice(ty, text) => return Ok(()),
        Value::Text(text) => ty.read(text),
        Value::Bool(_) | Value::Number(_) => ty.read(&json::to_text(value)),
        Value::List(_) | Value::Object(_) => Err(wrong(ty)),
    };
    let keep = matches!((ty, &*value), (Type::Enum(_), Value::Text(_)));
    match read {
        Ok(read) => *value = read,
        Err(error) => {
            if !keep {
                *value = Value::Null;
            }
            return Err(error);
        }
    }
    Ok(())
}

fn is_choice(ty: &Type, text: &str) -> bool {
    matches!(ty, Type::Enum(choices) if choices.iter().any(|choice| choice.value == text))
}

fn list(value: &mut Value, items: &Type, no_value: &[String]) -> Result<(), ReadError> {
    if let Value::Text(text) = value {
        let json =
            text.trim_start().starts_with('[').then(|| json::parse(text.as_bytes(), Limits::default()).ok());
        let nested = matches!(items, Type::List(_) | Type::Map(_) | Type::Object { .. });
        *value = match json.flatten() {
            Some(list) => list,
            None if nested || is_over_limit(text) => Value::Null,
            None => Value::List(text.split(',').map(|item| Value::from(item.trim())).collect()),
        };
        if value == &Value::Null {
            return Err(wrong_word("list"));
        }
    }
    match value {
        Value::Null => Ok(()),
        Value::List(values) => all(values.iter_mut(), items, no_value),
        Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Object(_) => refuse(value, "list"),
    }
}

/// More items between commas than a JSON text may have values. A short text is not even counted.
fn is_over_limit(text: &str) -> bool {
    let most = Limits::default().nodes_max as usize;
    text.len() >= most && text.split(',').nth(most).is_some()
}

fn map(value: &mut Value, items: &Type, no_value: &[String]) -> Result<(), ReadError> {
    match opened(value)? {
        Some(map) => all(map.values_mut(), items, no_value),
        None => Ok(()),
    }
}

fn object(value: &mut Value, fields: &[Field]) -> Result<(), ReadError> {
    let Some(map) = opened(value)? else { return Ok(()) };
    let mut outcome = Ok(());
    for field in fields {
        if let Some(value) = map.get_mut(field.name.as_str()) {
            outcome = outcome.and(convert(value, &field.ty, &field.no_value));
        }
    }
    outcome
}

/// The object the value is or holds as text; `None` for no value. PHP writes an empty object as `[]`.
fn opened(value: &mut Value) -> Result<Option<&mut Map>, ReadError> {
    if let Value::Text(text) = value {
        *value = match json::parse(text.as_bytes(), Limits::default()) {
            // JSON inside a JSON string: once more, and only once.
            Ok(Value::Text(inner)) => json::parse(inner.as_bytes(), Limits::default()).unwrap_or_default(),
            Ok(other) => other,
            Err(_) => match pairs::read(text) {
                Some(pairs) => pairs.into(),
                None => return refuse(value, "object").map(|()| None),
            },
        };
    }
    if matches!(value, Value::List(items) if items.is_empty()) {
        *value = Value::Null;
    }
    match value {
        Value::Object(map) => Ok(Some(map)),
        Value::Null => Ok(None),
        Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
            refuse(value, "object").map(|()| None)
        }
    }
}

/// Types every one, also after one that failed.
fn all<'v>(
    values: impl Iterator<Item = &'v mut Value>,
    ty: &Type,
    no_value: &[String],
) -> Result<(), ReadError> {
    let mut outcome = Ok(());
    for value in values {
        outcome = outcome.and(convert(value, ty, no_value));
    }
    outcome
}

fn refuse(value: &mut Value, expected: &'static str) -> Result<(), ReadError> {
    *value = Value::Null;
    Err(wrong_word(expected))
}

fn wrong(ty: &Type) -> ReadError {
    wrong_word(ty.word())
}

fn wrong_word(expected: &'static str) -> ReadError {
    ReadError { expected }
}

#[cfg(test)]
mod tests {
    use sheaf_bundles::{types::Choice, words::Words};

    use super::*;

    fn typed(ty: &Type, json: &str) -> (String, bool) {
        let mut value = json::parse(json.as_bytes(), Limits::default()).expect("JSON");
        let fine = convert(&mut value, ty, &["null".into(), "undefined".into()]).is_ok();
        (json::to_text(&value), fine)
    }

    fn fine(text: &str) -> (String, bool) {
        (text.to_owned(), true)
    }

    #[test]
    fn empty_texts_and_no_value_words_are_null_also_inside_a_map() {
        let map = Type::Map(Box::new(Type::Text));
        for ty in [Type::Text, Type::Integer, Type::List(Box::new(Type::Text)), map.clone()] {
            for text in [r#""""#, r#""null""#, r#""undefined""#, "null"] {
                assert_eq!(typed(&ty, text), fine("null"), "{ty:?} {text}");
            }
        }
        assert_eq!(
            typed(&map, r#"{"a":"undefined","b":"","c":"x","d":null}"#),
            fine(r#"{"a":null,"b":null,"c":"x","d":null}"#)
        );
    }

    #[test]
    fn a_map_comes_as_an_object_as_json_text_twice_so_and_as_pairs() {
        let map = Type::Map(Box::new(Type::Text));
        for text in [
            r#"{"a":"1"}"#,
            r#""{\"a\":\"1\"}""#,
            r#""{\"a\":1}""#,
            r#""\"{\\\"a\\\":\\\"1\\\"}\"""#,
            r#""attrs: {\"a\" \"1\"""#,
        ] {
            assert_eq!(typed(&map, text), fine(r#"{"a":"1"}"#), "{text}");
        }
        assert_eq!(typed(&map, r#""[]""#), fine("null"));
        assert_eq!(typed(&map, r#""hello""#), ("null".to_owned(), false));
        assert_eq!(typed(&map, r#""5""#), ("null".to_owned(), false));
    }

    #[test]
    fn a_list_comes_as_a_list_as_json_text_and_divided_by_commas() {
        let list = Type::List(Box::new(Type::Text));
        for text in [r#"["a","b"]"#, r#""a, b""#, r#""[\"a\",\"b\"]""#] {
            assert_eq!(typed(&list, text), fine(r#"["a","b"]"#), "{text}");
        }
        assert_eq!(typed(&Type::List(Box::new(Type::Integer)), r#""1,2""#), fine("[1,2]"));
    }

    #[test]
    fn a_list_divided_by_commas_has_a_limit() {
        let list = Type::List(Box::new(Type::Text));
        let of = |count: usize| typed(&list, &format!("\"{}\"", ",".repeat(count - 1)));
        let most = Limits::default().nodes_max as usize;
        for count in [most + 1, 2 * most] {
            assert!(of(count) == ("null".to_owned(), false), "{count} items");
        }
        assert!(of(most).1);
    }

    #[test]
    fn a_text_that_came_as_something_else_holds_its_json() {
        assert_eq!(typed(&Type::Text, "700101"), fine(r#""700101""#));
        assert_eq!(typed(&Type::Text, "[1]"), fine(r#""[1]""#));
    }

    #[test]
    fn a_value_that_does_not_fit_is_null_and_an_unknown_enum_value_stays() {
        assert_eq!(typed(&Type::Integer, r#""soon""#), ("null".to_owned(), false));
        assert_eq!(typed(&Type::Integer, "1.5"), ("null".to_owned(), false));
        assert_eq!(typed(&Type::Phone, "[1]"), ("null".to_owned(), false));
        let status = Type::Enum(vec![Choice { value: "ok".into(), title: Words::default() }]);
        assert_eq!(typed(&status, r#""ok""#), fine(r#""ok""#));
        assert_eq!(typed(&status, r#""new""#), (r#""new""#.to_owned(), false));
    }

    #[test]
    fn numbers_stay_exact() {
        assert_eq!(typed(&Type::Decimal, "2490.50"), fine("2490.50"));
        assert_eq!(typed(&Type::Decimal, r#""2490.50""#), fine("2490.50"));
    }
}
