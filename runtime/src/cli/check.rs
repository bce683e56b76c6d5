//! `sheaf check`: compile everything, print every diagnostic.

use std::{path::PathBuf, process::ExitCode};

use serde_json::{Value, json};
use sheaf_bundles::{diagnostic::render, words::Language};

use super::output::Output;
use crate::directory::{self, Compiled, Workspace};

/// Compile a directory and print every mistake with its place and a hint.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// Directory with sheaf.yaml, connections/ and bundles/, or with several such below workspaces/.
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
}

impl Check {
    /// Exit code 0 when nothing is wrong, 1 otherwise.
    pub fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let compiled = directory::compile(&directory::read(&self.directory)?);
        output.print(&as_json(&compiled, output), || in_words(&compiled, output));
        Ok(if compiled.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn as_json(compiled: &Compiled, output: &Output) -> Value {
    let found = compiled.workspaces.iter().flat_map(|own| {
        match render::json(&compiled.sources, &own.diagnostics, output.language) {
            Value::Array(found) => found,
            other => vec![other],
        }
    });
    let counts = compiled.workspaces.iter().map(|own| {
        let (bundles, connections) = counts(own);
        json!({"workspace": own.key, "ok": own.sound().is_some(), "bundles": bundles, "connections": connections})
    });
    json!({
        "ok": compiled.is_sound(),
        "diagnostics": found.collect::<Vec<_>>(),
        "workspaces": counts.collect::<Vec<_>>(),
    })
}

/// Bundles and connections without an error.
fn counts(workspace: &Workspace) -> (usize, usize) {
    let integration = workspace.integration.as_ref();
    integration.map_or((0, 0), |it| (it.plans.len(), it.connections.len()))
}

fn in_words(compiled: &Compiled, output: &Output) -> String {
    let mut text = compiled.text(output.language, output.color());
    match compiled.workspaces.as_slice() {
        [only] if only.key.is_empty() => {
            if only.sound().is_some() {
                text.push_str(&verdict(only, output));
            }
        }
        several => {
            let lines = several.iter().map(|own| format!("{}: {}", name(own), verdict(own, output)));
            text.push_str(&lines.collect::<Vec<_>>().join("\n"));
        }
    }
    text
}

/// The directory itself is `.` beside its workspaces.
fn name(workspace: &Workspace) -> &str {
    if workspace.key.is_empty() { "." } else { &workspace.key }
}

fn verdict(workspace: &Workspace, output: &Output) -> String {
    let (bundles, connections) = counts(workspace);
    let verdict = match (workspace.sound(), workspace.diagnostics.is_empty()) {
        (None, _) => output.words("IT HAS ERRORS.", "ЕСТЬ ОШИБКИ."),
        (Some(_), true) => output.words("Nothing is wrong.", "Всё в порядке."),
        (Some(_), false) => output.words("No errors.", "Ошибок нет."),
    };
    match output.language {
        Language::En => format!("{verdict} Bundles: {bundles}, connections: {connections}."),
        Language::Ru => format!("{verdict} Связок: {bundles}, подключений: {connections}."),
    }
}
