//! A sample file as the request a vendor would send: `.form` is a form body, `.query` a query string, `.json` a JSON body.
//!
//! Forms and queries may be broken into lines for reading, as `curl --data @file` allows: line breaks are not sent.

use std::path::Path;

use anyhow::{Context, bail};

/// A request ready to be sent to a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// `POST` or `GET`.
    pub method: &'static str,
    /// What goes behind `?`; empty for none.
    pub query: String,
    /// The `Content-Type`, where there is a body.
    pub content_type: Option<&'static str>,
    /// The body.
    pub body: Vec<u8>,
}

/// Reads a sample file.
///
/// # Errors
/// The file cannot be read, or its ending is not one of the three.
pub fn read(path: &Path) -> anyhow::Result<Sample> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("form") => Ok(Sample {
            method: "POST",
            query: String::new(),
            content_type: Some("application/x-www-form-urlencoded"),
            body: one_line(bytes),
        }),
        Some("query") => Ok(Sample {
            method: "GET",
            query: String::from_utf8(one_line(bytes)).context("a query string is ASCII")?,
            content_type: None,
            body: Vec::new(),
        }),
        Some("json") => Ok(Sample {
            method: "POST",
            query: String::new(),
            content_type: Some("application/json"),
            body: bytes,
        }),
        Some(_) | None => bail!("{}: a sample ends in .form, .query or .json", path.display()),
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
