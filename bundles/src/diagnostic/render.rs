//! Diagnostics for a terminal and for programs.

use super::{Diagnostics, Sources};
use crate::words::Language;

/// For a terminal: `severity[code]: message`, file:line:column, the line with carets, the hint.
pub fn text(sources: &Sources, diagnostics: &Diagnostics, language: Language, color: bool) -> String {
    let _ = (sources, diagnostics, language, color);
    String::new()
}

/// For programs: a list of objects, sorted by place.
pub fn json(sources: &Sources, diagnostics: &Diagnostics, language: Language) -> serde_json::Value {
    let _ = (sources, diagnostics, language);
    serde_json::Value::Null
}
