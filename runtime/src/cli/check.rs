//! `sheaf check`: compile everything, print every diagnostic.

use std::{path::PathBuf, process::ExitCode};

use serde_json::json;
use sheaf_bundles::{diagnostic::render, words::Language};

use super::output::Output;
use crate::directory::{self, Compiled};

/// Compile a directory and print every mistake with its place and a hint.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// Directory with sheaf.yaml, connections/ and bundles/.
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
}

impl Check {
    /// Exit code 0 when nothing is wrong, 1 otherwise.
    pub fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let compiled = directory::compile(&directory::read(&self.directory)?);
        let failed = compiled.diagnostics.has_errors();
        let found = render::json(&compiled.sources, &compiled.diagnostics, output.language);
        output.print(&json!({"ok": !failed, "diagnostics": found}), || in_words(&compiled, output));
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn in_words(compiled: &Compiled, output: &Output) -> String {
    let mut text = compiled.text(output.language, output.color());
    if let Some(integration) = compiled.sound() {
        let (bundles, connections) = (integration.plans.len(), integration.connections.len());
        let verdict = match compiled.diagnostics.is_empty() {
            true => output.words("Nothing is wrong.", "Всё в порядке."),
            false => output.words("No errors.", "Ошибок нет."),
        };
        text.push_str(&match output.language {
            Language::En => format!("{verdict} Bundles: {bundles}, connections: {connections}."),
            Language::Ru => format!("{verdict} Связок: {bundles}, подключений: {connections}."),
        });
    }
    text
}
