//! What a person does to finished runs: `sheaf runs replay` and `sheaf runs discard`.

use std::process::ExitCode;

use serde_json::{Value, json};
use sheaf_bundles::id::RunId;

use super::{
    output::{Failure, Output},
    project::Project,
};
use crate::{
    config::Environment,
    queue::{
        gate::GateKind,
        types::{Discarded, Replay, ReplayRefusal, Replayed},
    },
};

/// The longest reason that the audit log keeps, characters.
const WHY_CHARS_MAX: usize = 500;

/// Which runs.
#[derive(Debug, clap::Args)]
pub struct Chosen {
    /// Their ids.
    #[arg(value_name = "ID", required_unless_present = "parked")]
    ids: Vec<RunId>,
    /// Every parked run, of --bundle when given.
    #[arg(long)]
    parked: bool,
    /// With --parked: only of this bundle.
    #[arg(long, requires = "parked")]
    bundle: Option<String>,
    #[command(flatten)]
    project: Project,
}

/// Why runs are given up.
#[derive(Debug, clap::Args)]
pub struct Why {
    /// Why, for the audit log; who is the user of this terminal.
    #[arg(long, value_name = "TEXT", value_parser = short)]
    why: Option<String>,
}

fn short(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0..=WHY_CHARS_MAX => Ok(text.to_owned()),
        _ => Err(format!("at most {WHY_CHARS_MAX} characters")),
    }
}

impl Chosen {
    /// Makes them due again. Exit code 1 when one was not, an error when there are none.
    pub fn replay(self, how: Replay, output: &Output) -> anyhow::Result<ExitCode> {
        let Replayed { runs, refused } = self.project.read(async |store| {
            let ids = self.ids(async |bundle| store.parked_ids(bundle).await).await?;
            store.replay(&ids, how).await
        })?;
        let refused = refused.iter().map(|(run, why)| (*run, refusal_words(*why, output))).collect();
        self.told("replayed", output.words("due now", "поставлено в очередь"), &runs, refused, output)
    }

    /// Gives them up for good. Exit code 1 when one was not, an error when there are none.
    pub fn discard(self, why: &Why, output: &Output) -> anyhow::Result<ExitCode> {
        let said = said(&Environment::of_process(), why.why.as_deref());
        let Discarded { runs, refused } = self.project.read(async |store| {
            let ids = self.ids(async |bundle| store.parked_ids(bundle).await).await?;
            store.discard(&ids, &said).await
        })?;
        let why = output.words("it is not parked", "он не отложен");
        let refused = refused.into_iter().map(|run| (run, why)).collect();
        self.told("discarded", output.words("given up", "отменено"), &runs, refused, output)
    }

    /// Those that were named, and all parked ones when that was asked for.
    async fn ids<E>(
        &self,
        parked: impl AsyncFnOnce(Option<&str>) -> Result<Vec<RunId>, E>,
    ) -> Result<Vec<RunId>, E> {
        let mut ids = self.ids.clone();
        if self.parked {
            ids.extend(parked(self.bundle.as_deref()).await?);
        }
        Ok(ids)
    }

    fn told(
        &self,
        key: &str,
        done: &str,
        runs: &[RunId],
        refused: Vec<(RunId, &str)>,
        output: &Output,
    ) -> anyhow::Result<ExitCode> {
        if runs.is_empty() && refused.is_empty() {
            self.project.refuse_bare(GateKind::Bundle, self.bundle.as_deref())?;
            return Err(Failure::error("there are no such runs", "таких запусков нет"));
        }
        let ids: Vec<String> = runs.iter().map(ToString::to_string).collect();
        let not: Vec<Value> =
            refused.iter().map(|(run, why)| json!({"id": run.to_string(), "why": why})).collect();
        output.print(&json!({key: ids, "refused": not}), || {
            let lines = refused.iter().map(|(run, why)| format!("\n{run}: {why}"));
            format!("{done}: {}{}", runs.len(), lines.collect::<String>())
        });
        Ok(if refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Who, and why, as the audit log keeps it.
fn said(environment: &Environment, why: Option<&str>) -> String {
    let who = ["SUDO_USER", "LOGNAME", "USER"].into_iter().find_map(|name| environment.get(name));
    let who = who.unwrap_or_else(|| "somebody".to_owned());
    why.map_or_else(|| format!("by {who}"), |why| format!("by {who}: {why}"))
}

fn refusal_words<'a>(refusal: ReplayRefusal, output: &Output) -> &'a str {
    match refusal {
        ReplayRefusal::Unknown => output.words("there is no such run", "такого запуска нет"),
        ReplayRefusal::Pending => output.words("it is pending and runs by itself", "он ждёт и пойдёт сам"),
        ReplayRefusal::Delivered => output.words(
            "it is delivered and would do every step again: say --new if that is meant",
            "он доставлен и повторил бы все шаги: если это и нужно, добавьте --new",
        ),
        ReplayRefusal::UnknownVersion => output.words("its version is not known", "его версия неизвестна"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_log_says_who_gave_runs_up_and_why() {
        let alice = Environment::of([("USER", "alice")]);
        assert_eq!(said(&alice, Some("test calls")), "by alice: test calls");
        assert_eq!(said(&Environment::of([]), None), "by somebody");
        assert!(short(&"a".repeat(WHY_CHARS_MAX + 1)).is_err());
    }
}
