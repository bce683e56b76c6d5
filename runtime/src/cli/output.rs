//! Printing: a table or sentence for people, JSON for scripts. One place decides which.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

use chrono::DateTime;
use comfy_table::{Table, presets::NOTHING};
use serde_json::{Value, json};
use sheaf_bundles::words::{Language, Words};

/// How the user wants to read.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Print JSON instead of words.
    pub json: bool,
    /// Language of the words.
    pub language: Language,
}

/// An error of a command, in every language the product speaks.
#[derive(Debug)]
pub struct Failure(Words);

impl Failure {
    /// Both languages at once.
    pub fn error(en: impl Into<String>, ru: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Failure(Words::new(en, ru)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.en)
    }
}

impl std::error::Error for Failure {}

impl Output {
    /// As asked on the command line.
    pub fn new(json: bool, language: Language) -> Self {
        Output { json, language }
    }

    /// Whether colours help: a person reads a terminal.
    pub fn color(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Prints JSON or what the closure renders for a person.
    pub fn print(&self, value: &Value, human: impl FnOnce() -> String) {
        let text = if self.json { value.to_string() } else { human() };
        // A closed pipe (`sheaf runs | head`) is the reader's choice, not an error.
        let _ = writeln!(io::stdout(), "{}", text.trim_end());
    }

    /// One sentence, on standard error, so standard output stays for results.
    pub fn note(&self, words: &Words) {
        if !self.json {
            eprintln!("{}", words.in_language(self.language));
        }
    }

    /// A failure with its causes.
    pub fn error(&self, error: &anyhow::Error) {
        let text = match error.downcast_ref::<Failure>() {
            Some(Failure(words)) => words.in_language(self.language).to_owned(),
            None => format!("{error:#}"),
        };
        if self.json {
            eprintln!("{}", json!({"error": text}));
        } else {
            eprintln!("{}: {text}", self.words("error", "ошибка"));
        }
    }

    /// The one of two texts that the user reads.
    pub fn words<'w>(&self, en: &'w str, ru: &'w str) -> &'w str {
        match self.language {
            Language::En => en,
            Language::Ru => ru,
        }
    }
}

/// A borderless table with a header.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// A moment as people read it, in UTC to the second.
pub fn time(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .map_or_else(String::new, |time| time.format("%Y-%m-%d %H:%M:%SZ").to_string())
}
