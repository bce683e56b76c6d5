//! `sheaf pause` and `sheaf resume`: hold the runs of a bundle or a connection, and let them go on, also those of a bundle
//! that was paused since it keeps failing. Events are taken all the while.

use std::process::ExitCode;

use serde_json::json;
use sheaf_bundles::words::Words;

use super::{
    output::Output,
    project::{Project, unknown},
};
use crate::queue::gate::GateKind;

/// What is held or let go.
#[derive(Debug, clap::Args)]
pub struct Pause {
    /// A bundle, or a connection: runs that it brought, and those that go through it.
    #[arg(value_enum)]
    what: What,
    /// Its name.
    name: String,
    #[command(flatten)]
    project: Project,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum What {
    Bundle,
    Connection,
}

impl Pause {
    /// Exit code 0, also when it was so already; a server that is running follows within a second.
    pub fn run(self, paused: bool, output: &Output) -> anyhow::Result<ExitCode> {
        let kind = match self.what {
            What::Bundle => GateKind::Bundle,
            What::Connection => GateKind::Connection,
        };
        // What is gone from the files may still be paused, and must be let go.
        if paused {
            self.is_there(kind)?;
        }
        let changed = self.project.read(async |store| store.pause(kind, &self.name, paused).await)?;
        if !changed && !paused {
            self.project.refuse_bare(kind, Some(&self.name))?;
        }
        let (what, name) = (kind.name(), self.name.as_str());
        output.print(&json!({what: name, "paused": paused, "changed": changed}), || {
            let words = said(paused, changed);
            format!("{what} {name}: {}", words.in_language(output.language))
        });
        Ok(ExitCode::SUCCESS)
    }

    /// A misspelt name would hold nothing, and nobody would notice. The file may be broken or gone: what it said last runs on.
    fn is_there(&self, kind: GateKind) -> anyhow::Result<()> {
        let named = self.project.named(kind);
        if named.contains(&self.name) || self.is_live(kind)? {
            return Ok(());
        }
        Err(unknown(kind, &self.name, &named))
    }

    /// Whether the server knows it: from events, runs, or the bundles in force.
    fn is_live(&self, kind: GateKind) -> anyhow::Result<bool> {
        self.project.read(async |store| {
            if store.knows(kind, &self.name).await? {
                return Ok(true);
            }
            let (_, in_force) = store.versions_in_force().await?;
            let plans =
                in_force.into_iter().filter_map(|it| sheaf_connectors::plan_of_artefact(it.artefact).ok());
            Ok(kind == GateKind::Connection
                && plans
                    .flat_map(|plan| {
                        plan.step_connections().map(|(it, _)| it.name.clone()).collect::<Vec<_>>()
                    })
                    .any(|name| name == self.name))
        })
    }
}

fn said(paused: bool, changed: bool) -> Words {
    match (paused, changed) {
        (true, true) => Words::new("paused; its runs wait", "на паузе; запуски ждут"),
        (true, false) => Words::new("was paused already", "уже на паузе"),
        (false, true) => Words::new("goes on", "снова работает"),
        (false, false) => Words::new("was not paused", "на паузе не было"),
    }
}
