//! A sample as the request a vendor would send, of a connector's trigger or of a file: `.form` is a form body, `.query` a
//! query string, `.json` a JSON body.
//!
//! Forms and queries may be broken into lines for reading, as `curl --data @file` allows: line breaks are not sent.

use std::path::Path;

use anyhow::Context;
use serde_json::json;
use sheaf_bundles::{
    hook::{Content, Hook, Trigger},
    json,
    outgoing::url::percent,
    value::Value,
};

use super::output::Failure;

/// A request ready to be sent to a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// `POST`, or another that the hook takes.
    pub method: String,
    /// What goes behind `?`; empty for none.
    pub query: String,
    /// The `Content-Type`, where there is a body.
    pub content_type: Option<&'static str>,
    /// The body.
    pub body: Vec<u8>,
}

impl Sample {
    fn form(body: Vec<u8>) -> Sample {
        Sample {
            method: "POST".to_owned(),
            query: String::new(),
            content_type: Some("application/x-www-form-urlencoded"),
            body,
        }
    }

    fn query(query: String) -> Sample {
        Sample { method: "GET".to_owned(), query, content_type: None, body: Vec::new() }
    }

    fn json(body: Vec<u8>) -> Sample {
        Sample { content_type: Some("application/json"), ..Sample::form(body) }
    }
}

/// The example of a trigger by the first of the ways that its hook reads; `None` when the manifest has none.
pub fn of_trigger(hook: &Hook, trigger: &Trigger) -> Option<Sample> {
    if trigger.sample.is_empty() {
        return None;
    }
    let pairs = || {
        let pair = |(name, value): &(String, Value)| format!("{}={}", percent(name), percent(&text(value)));
        trigger.sample.iter().map(pair).collect::<Vec<_>>().join("&")
    };
    let sample = match hook.content.first()? {
        Content::Form => Sample::form(pairs().into_bytes()),
        Content::Query => Sample::query(pairs()),
        Content::Json => {
            let object: serde_json::Map<_, _> =
                trigger.sample.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            Sample::json(serde_json::Value::Object(object).to_string().into_bytes())
        }
    };
    let method = match hook.methods.contains(&sample.method) {
        true => sample.method,
        false => hook.methods.first()?.clone(),
    };
    Some(Sample { method, ..sample })
}

fn text(value: &Value) -> String {
    value.as_text().map_or_else(|| json::to_text(value), str::to_owned)
}

/// Reads a sample file.
///
/// # Errors
/// The file cannot be read, or its ending is not one of the three.
pub fn read(path: &Path) -> anyhow::Result<Sample> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("form") => Ok(Sample::form(one_line(bytes))),
        Some("query") => {
            Ok(Sample::query(String::from_utf8(one_line(bytes)).context("a query string is ASCII")?))
        }
        Some("json") => Ok(Sample::json(bytes)),
        Some(_) | None => {
            let path = path.display();
            Err(Failure::error(
                format!("{path}: a sample ends in .form, .query or .json"),
                format!("{path}: имя примера кончается на .form, .query или .json"),
            ))
        }
    }
}

fn one_line(bytes: Vec<u8>) -> Vec<u8> {
    bytes.into_iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_in_lines_is_sent_in_one() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("call.form");
        std::fs::write(&path, "id=1\n&callphase=callconnected\n").expect("written");
        let sample = read(&path).expect("read");
        assert_eq!(sample.body, b"id=1&callphase=callconnected");
        assert_eq!(sample.method, "POST");
    }

    #[test]
    fn another_ending_is_refused_with_the_three_that_are_known() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("call.txt");
        std::fs::write(&path, "").expect("written");
        let error = read(&path).expect_err("refused").to_string();
        assert!(error.contains(".form, .query or .json"), "{error}");
    }
}
