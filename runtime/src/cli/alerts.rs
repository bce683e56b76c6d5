//! `sheaf alerts`: what is told of right now, and a test of every channel.

use std::{process::ExitCode, sync::Arc};

use serde_json::json;
use sheaf_bundles::{
    alerts::{decide::State, message::time},
    words::Language,
};

use super::{
    output::{Failure, Output, table},
    project::{self, Project},
};
use crate::{
    alerts::{self, Told, channel::Sender},
    clock::Clock,
    config::Environment,
    directory::Workspace,
    egress::{Egress, Rules, address::Allowed, origin::Override},
    secrets::Secrets,
};

/// Show what people are told of right now, or test every channel of alerts.yaml.
#[derive(Debug, clap::Args)]
pub struct AlertsCommand {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    project: Project,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Send a message to every channel and print what happened at each.
    Test {
        #[command(flatten)]
        project: Project,
        /// Networks that may be reached although they are not public, as for `serve`.
        #[arg(
            long = "egress-allow",
            env = "SHEAF_EGRESS_ALLOW",
            value_name = "CIDR:PORT",
            value_delimiter = ','
        )]
        allow: Vec<Allowed>,
        /// Origins that are sent elsewhere, as for `serve`.
        #[arg(
            long = "egress-override",
            env = "SHEAF_EGRESS_OVERRIDE",
            value_name = "ORIGIN=ORIGIN",
            value_delimiter = ','
        )]
        overrides: Vec<Override>,
    },
}

impl AlertsCommand {
    /// Exit code 0; 1 when something is told of, or a channel does not work.
    pub fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        match self.command {
            Some(Command::Test { project, allow, overrides }) => {
                test(&project, Rules { allowed: allow, overrides }, output)
            }
            None => show(&self.project, output),
        }
    }
}

fn test(project: &Project, rules: Rules, output: &Output) -> anyhow::Result<ExitCode> {
    let compiled = project.compile()?;
    let sound: Vec<_> = compiled.workspaces.iter().filter_map(Workspace::sound).collect();
    if sound.is_empty() {
        return Err(project::does_not_compile(&project.directory));
    }
    let told = Told::of(sound);
    if told.channels().next().is_none() {
        let directory = project.directory.display();
        return Err(Failure::error(
            format!("nobody is told: {directory} has no channels in alerts.yaml"),
            format!("оповещать некого: в alerts.yaml каталога {directory} нет каналов"),
        ));
    }
    let sender = Sender {
        egress: Arc::new(Egress::new(rules)?),
        secrets: Arc::new(Secrets::new(Environment::of_process(), &project.directory)),
        clock: Clock::system(),
        directory: project.directory.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let results = runtime.block_on(alerts::test(&sender, &told));
    let all = results
        .iter()
        .map(|(name, sent)| json!({"channel": name, "ok": sent.is_ok(), "error": sent.as_ref().err()}));
    output.print(&json!({"channels": all.collect::<Vec<_>>()}), || {
        let lines = results.iter().map(|(name, sent)| match sent {
            Ok(()) => format!("{name}: {}", output.words("sent", "отправлено")),
            Err(why) => format!("{name}: {}: {why}", output.words("FAILED", "НЕ ОТПРАВЛЕНО")),
        });
        lines.collect::<Vec<_>>().join("\n")
    });
    let worked = results.iter().all(|(_, sent)| sent.is_ok());
    Ok(if worked { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(project: &Project, output: &Output) -> anyhow::Result<ExitCode> {
    let note = project.read(async |store| store.note(alerts::memory::NOTE).await)?;
    let state: State =
        if note.text.is_empty() { State::default() } else { serde_json::from_str(&note.text)? };
    let open: Vec<_> = state.open().collect();
    let letters = state.letters();
    let unsent = letters.iter().map(|letter| json!({"channel": letter.channel, "attempts": letter.attempts, "message": letter.message.id}));
    output.print(&json!({"open": open, "unsent": unsent.collect::<Vec<_>>()}), || {
        let nothing = output.words("Nothing is wrong.", "Всё в порядке.").to_owned();
        if open.is_empty() && letters.is_empty() {
            return nothing;
        }
        let header = match output.language {
            Language::En => ["WHAT", "whose", "count", "since"],
            Language::Ru => ["ЧТО", "чьё", "сколько", "с какого времени"],
        };
        let rows = open.iter().map(|it| {
            [it.kind.name().to_owned(), it.subject.clone(), it.count.to_string(), time(it.since_ms)]
        });
        let unsent = output.words("messages that have not arrived", "не доставлено сообщений");
        format!("{}\n{unsent}: {}", table(header, rows), letters.len())
    });
    Ok(if open.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
