//! `sheaf connectors`: what can be connected.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use serde_json::{Value, json};
use sheaf_bundles::{
    catalog::Connector,
    diagnostic::{Diagnostics, render},
    words::Words,
    workspace,
};
use sheaf_connectors::Compiler;

use super::output::{Output, table};
use crate::directory::{self, Read};

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
        let read = self.directory.as_deref().map(directory::read).transpose()?.unwrap_or_default();
        let (mut compiler, mut diagnostics) = (Compiler::new(), Diagnostics::default());
        let mut known: Vec<Named> = of_workspace("", compiler.builtin.iter());
        let own = known.len();
        for Read { key, files } in read {
            let catalog = compiler.catalog(&files?, &mut diagnostics);
            known.extend(of_workspace(&key, catalog.iter().skip(own)));
        }
        let sources = compiler.sources;
        let listed = known.iter().map(as_json).collect();
        output.print(&Value::Array(listed), || in_words(&known, output));
        if output.json && !diagnostics.is_empty() {
            eprintln!("{}", json!({"diagnostics": render::json(&sources, &diagnostics, output.language)}));
        } else {
            eprint!("{}", render::text(&sources, &diagnostics, output.language, false));
        }
        Ok(if diagnostics.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// A connector and what it is called outside its workspace.
type Named = (String, Arc<Connector>);

fn of_workspace<'c>(key: &str, connectors: impl Iterator<Item = &'c Arc<Connector>>) -> Vec<Named> {
    connectors.map(|it| (workspace::qualified(key, &it.manifest.name), it.clone())).collect()
}

fn as_json((name, connector): &Named) -> Value {
    let manifest = &connector.manifest;
    let named = |name: &str, title: &Words| json!({"name": name, "title": {"en": title.en, "ru": title.ru}});
    json!({
        "name": name,
        "title": {"en": manifest.title.en, "ru": manifest.title.ru},
        "triggers": manifest.triggers.iter().map(|trigger| named(&trigger.name, &trigger.title)).collect::<Vec<_>>(),
        "actions": manifest.actions.iter().map(|action| named(&action.name, &action.title)).collect::<Vec<_>>(),
    })
}

fn in_words(known: &[Named], output: &Output) -> String {
    let words = |words: &Words| words.in_language(output.language).to_owned();
    let (connector, what, title) = (
        output.words("CONNECTOR", "КОННЕКТОР"),
        output.words("WHAT", "ЧТО"),
        output.words("TITLE", "НАЗВАНИЕ"),
    );
    let rows = known.iter().flat_map(|(name, connector)| {
        let manifest = &connector.manifest;
        let head = [name.clone(), String::new(), words(&manifest.title)];
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
