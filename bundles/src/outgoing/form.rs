//! A value as `application/x-www-form-urlencoded`, nested by brackets.

use super::{BuildError, url::percent};
use crate::{
    expression::{error::EvalError, text_of},
    value::Value,
};

/// Writes the pairs of an object; what is empty is left out.
pub fn write(value: &Value) -> Result<Vec<u8>, BuildError> {
    let mut out = String::with_capacity(256);
    if let Value::Object(map) = value {
        for (name, value) in map.iter() {
            push(&mut out, &percent(name), value)?;
        }
    }
    Ok(out.into_bytes())
}

/// Appends a value under its name, which is encoded already.
fn push(out: &mut String, name: &str, value: &Value) -> Result<(), BuildError> {
    match value {
        Value::Object(map) => {
            map.iter().try_for_each(|(key, value)| push(out, &format!("{name}%5B{}%5D", percent(key)), value))
        }
        Value::List(items) => {
            let numbered = items.iter().enumerate();
            numbered
                .into_iter()
                .try_for_each(|(index, item)| push(out, &format!("{name}%5B{index}%5D"), item))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
            if let Some(text) = text_of(value).map_err(|kind| EvalError::at(name, kind))? {
                if !out.is_empty() {
                    out.push('&');
                }
                out.push_str(name);
                out.push('=');
                out.push_str(&percent(&text));
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn nested_values_stand_in_brackets_and_empty_ones_nowhere() {
        let value = json::parse(
            r#"{"a":"б&=","n":{"x":1,"empty":""},"l":[true,{"k":"v"}],"none":null}"#.as_bytes(),
            json::Limits::default(),
        );
        let written = write(&value.expect("json")).expect("texts only");
        assert_eq!(
            String::from_utf8(written).expect("ascii"),
            "a=%D0%B1%26%3D&n%5Bx%5D=1&l%5B0%5D=true&l%5B1%5D%5Bk%5D=v"
        );
    }
}
