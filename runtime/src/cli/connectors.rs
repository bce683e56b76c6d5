//! `sheaf connectors`: what can be connected.

use std::{path::PathBuf, process::ExitCode};

use serde_json::{Value, json};
use sheaf_bundles::{diagnostic::render, manifest::Manifest, words::Words};

use super::output::{Output, table};
use crate::directory;

/// The connectors that are known, with their triggers and actions.
#[derive(Debug, clap::Args)]
pub struct Connectors {
    /// A directory whose own connectors/ are listed too.
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Connectors {
    /// Exit code 0; 1 when a connector of the directory is wrong, which is then said on standard error.
    pub fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let files = self.directory.as_deref().map(directory::read).transpose()?.unwrap_or_default();
        let (catalog, sources, diagnostics) = sheaf_connectors::catalog(&files);
        let manifests: Vec<&Manifest> = catalog.iter().map(|connector| &connector.manifest).collect();
        let listed = manifests.iter().map(|manifest| as_json(manifest)).collect();
        output.print(&Value::Array(listed), || in_words(&manifests, output));
        if output.json && !diagnostics.is_empty() {
            eprintln!("{}", json!({"diagnostics": render::json(&sources, &diagnostics, output.language)}));
        } else {
            eprint!("{}", render::text(&sources, &diagnostics, output.language, false));
        }
        Ok(if diagnostics.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn as_json(manifest: &Manifest) -> Value {
    let named = |name: &str, title: &Words| json!({"name": name, "title": {"en": title.en, "ru": title.ru}});
    json!({
        "name": manifest.name,
        "title": {"en": manifest.title.en, "ru": manifest.title.ru},
        "triggers": manifest.triggers.iter().map(|trigger| named(&trigger.name, &trigger.title)).collect::<Vec<_>>(),
        "actions": manifest.actions.iter().map(|action| named(&action.name, &action.title)).collect::<Vec<_>>(),
    })
}

fn in_words(manifests: &[&Manifest], output: &Output) -> String {
    let words = |words: &Words| words.in_language(output.language).to_owned();
    let (connector, what, title) = (
        output.words("CONNECTOR", "КОННЕКТОР"),
        output.words("WHAT", "ЧТО"),
        output.words("TITLE", "НАЗВАНИЕ"),
    );
    let rows = manifests.iter().flat_map(|manifest| {
        let head = [manifest.name.clone(), String::new(), words(&manifest.title)];
        let triggers = manifest.triggers.iter().map(|trigger| {
            [
                String::new(),
                format!("{} {}", output.words("on", "когда"), trigger.name),
                words(&trigger.title),
            ]
        });
        let actions = manifest.actions.iter().map(|action| {
            [
                String::new(),
                format!("{} {}", output.words("do", "сделать"), action.name),
                words(&action.title),
            ]
        });
        std::iter::once(head).chain(triggers).chain(actions).collect::<Vec<_>>()
    });
    table([connector, what, title], rows)
}
