//! `sheaf runs`: what became of events.

use std::process::ExitCode;

use serde_json::{Value, json};
use sheaf_bundles::{
    id::RunId,
    request::{Piece, Request},
};

use super::{
    again::Again,
    chosen::{Chosen, Why},
    events::ROWS,
    output::{Failure, Output, table, time},
    project::Project,
};
use crate::queue::{
    delivery::{Answer, DeliveryRecord, SentRequest},
    gate::GateKind,
    history::{AttemptRecord, PAGE_MAX, RunDetail, RunFilter, RunStateName, RunSummary},
    types::Replay,
};

/// List runs, newest first, show one with every request and answer, replay or discard some.
#[derive(Debug, clap::Args)]
pub struct Runs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// One run: every attempt, request and answer. Secrets are masked; personal data stand there as they were sent.
    Show {
        /// Its id: run_….
        id: RunId,
        #[command(flatten)]
        project: Project,
    },
    /// Make runs due again: from the step they stopped at, with the same idempotency keys, unless --new.
    Replay {
        #[command(flatten)]
        chosen: Chosen,
        /// From the first step with new idempotency keys: the vendor acts again even if it had acted before. The only way
        /// for a delivered run.
        #[arg(long)]
        new: bool,
    },
    /// Give up parked runs for good: they are told of no more, and stay in the ledger as discarded.
    Discard {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        why: Why,
    },
}

#[derive(Debug, clap::Args)]
struct List {
    /// Of one connection.
    #[arg(long)]
    connection: Option<String>,
    /// Of one bundle.
    #[arg(long)]
    bundle: Option<String>,
    /// In one state.
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only older ones than this: the last id of the page before.
    #[arg(long, value_name = "ID")]
    before: Option<RunId>,
    /// How many, at most 1000.
    #[arg(long, default_value_t = ROWS, value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_MAX)))]
    limit: u32,
    #[command(flatten)]
    project: Project,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum State {
    Pending,
    Delivered,
    Parked,
    Discarded,
}

impl Runs {
    /// Exit code 0; 1 when a run is not there, or was not replayed or discarded.
    pub fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        match self.command {
            Some(Command::Show { id, project }) => show(id, &project, output),
            Some(Command::Replay { chosen, new }) => {
                chosen.replay(if new { Replay::New { version: None } } else { Replay::Retry }, output)
            }
            Some(Command::Discard { chosen, why }) => chosen.discard(&why, output),
            None => list(self.list, output),
        }
    }
}

fn list(list: List, output: &Output) -> anyhow::Result<ExitCode> {
    let state = list.state.map(|state| match state {
        State::Pending => RunStateName::Pending,
        State::Delivered => RunStateName::Delivered,
        State::Parked => RunStateName::Parked,
        State::Discarded => RunStateName::Discarded,
    });
    let filter = RunFilter {
        connection: list.connection,
        bundle: list.bundle,
        state,
        since_ms: None,
        before: list.before,
        limit: list.limit,
    };
    let runs = list.project.read(async |store| store.runs(&filter).await)?;
    if runs.is_empty() {
        list.project.refuse_bare(GateKind::Bundle, filter.bundle.as_deref())?;
        list.project.refuse_bare(GateKind::Connection, filter.connection.as_deref())?;
    }
    output.print(&Value::Array(runs.iter().map(summary).collect()), || {
        let header = [
            output.words("RUN", "ЗАПУСК"),
            output.words("BUNDLE", "СВЯЗКА"),
            output.words("STATE", "СОСТОЯНИЕ"),
            output.words("WHEN", "КОГДА"),
            output.words("WHY", "ПОЧЕМУ"),
        ];
        table(header, runs.iter().map(|run| row(run, output)))
    });
    Ok(ExitCode::SUCCESS)
}

fn row(run: &RunSummary, output: &Output) -> [String; 5] {
    let when = match (run.finished_ms, run.due_ms) {
        (Some(finished_ms), _) => time(finished_ms),
        (None, Some(due_ms)) => format!("{} {}", output.words("due", "в"), time(due_ms)),
        (None, None) => String::new(),
    };
    [
        run.id.to_string(),
        run.bundle.clone(),
        state_words(run, output).to_owned(),
        when,
        run.reason.clone().unwrap_or_default(),
    ]
}

fn state_words<'a>(run: &RunSummary, output: &Output) -> &'a str {
    match run.state {
        RunStateName::Pending if run.behind_its_key => output.words("behind its key", "ждёт свой ключ"),
        RunStateName::Pending => output.words("pending", "ждёт"),
        RunStateName::Delivered if run.is_in_part() => {
            output.words("delivered in part", "доставлено частично")
        }
        RunStateName::Delivered => output.words("delivered", "доставлено"),
        RunStateName::Parked => output.words("parked", "отложено"),
        RunStateName::Discarded => output.words("discarded", "отменено"),
    }
}

fn summary(run: &RunSummary) -> Value {
    json!({
        "id": run.id.to_string(),
        "event": run.event.to_string(),
        "version": run.version.to_string(),
        "bundle": run.bundle,
        "connection": run.connection,
        "state": run.state,
        "attempt": run.attempt,
        "generation": run.generation,
        "due_ms": run.due_ms,
        "behind_its_key": run.behind_its_key,
        "finished_ms": run.finished_ms,
        "in_part": run.is_in_part(),
        "reason": run.reason,
    })
}

fn show(id: RunId, project: &Project, output: &Output) -> anyhow::Result<ExitCode> {
    let run = project.read(async |store| store.run(id).await)?;
    let run = run.ok_or_else(|| Failure::error(format!("there is no {id}"), format!("{id} не найден")))?;
    let shown = detail(&run, project);
    output.print(&shown, || format!("{shown:#}"));
    Ok(ExitCode::SUCCESS)
}

fn detail(run: &RunDetail, project: &Project) -> Value {
    let mut shown = summary(&run.summary);
    let again = Again::of(project, run);
    let attempts = run.attempts.iter().enumerate().map(|(number, attempt)| {
        attempt_json(attempt, |delivery| again.as_ref().and_then(|again| again.request(number, delivery)))
    });
    shown["attempts"] = attempts.collect();
    shown["asked"] = json!(run.asked);
    shown
}

fn attempt_json<'a>(attempt: &AttemptRecord, again: impl Fn(usize) -> Option<&'a Request>) -> Value {
    let deliveries = attempt.deliveries.iter().enumerate();
    let deliveries = deliveries.map(|(number, delivery)| delivery_json(delivery, again(number)));
    json!({
        "outcome": attempt.outcome,
        "started_ms": attempt.started_ms,
        "finished_ms": attempt.finished_ms,
        "reason": attempt.reason,
        "deliveries": deliveries.collect::<Vec<_>>(),
    })
}

fn delivery_json(delivery: &DeliveryRecord, again: Option<&Request>) -> Value {
    let request = match &delivery.request {
        SentRequest::Stored(request) => request_json(request),
        SentRequest::Hash(hash) => match again {
            Some(request) if crate::executor::hash(request) == *hash => request_json(request),
            Some(_) => json!({"hash": hash, "note": "rendered again it differs from what was sent"}),
            None => json!({"hash": hash}),
        },
    };
    let answer = match &delivery.answer {
        Answer::Response { status, body } => {
            json!({"status": status, "body": body.as_ref().map(|body| &body.text)})
        }
        Answer::Error { kind, detail } => json!({"error": kind, "detail": detail}),
    };
    json!({
        "step": delivery.step,
        "generation": delivery.generation,
        "probe": delivery.probe,
        "started_ms": delivery.started_ms,
        "took_ms": delivery.took_ms,
        "class": delivery.class,
        "message": delivery.message,
        "request": request,
        "answer": answer,
    })
}

/// A request as people read it: placeholders where secrets will stand.
pub fn request_json(request: &Request) -> Value {
    let body = masked(&request.body);
    json!({
        "method": request.method,
        "url": masked(&request.url),
        "headers": request.headers.iter().map(|(name, value)| (name.to_string(), json!(masked(value)))).collect::<serde_json::Map<_, _>>(),
        "body": serde_json::from_str::<Value>(&body).unwrap_or(Value::String(body)),
    })
}

fn masked(pieces: &[Piece]) -> String {
    let show = |piece: &Piece| match piece {
        Piece::Text(text) => text.to_string(),
        Piece::Secret { name, .. } => format!("[{name}]"),
    };
    pieces.iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use sheaf_bundles::{
        id::{EventId, VersionId},
        words::Language,
    };

    use super::*;

    #[test]
    fn a_run_that_was_delivered_although_a_step_failed_or_waits_for_its_key_is_told_apart() {
        let whole = RunSummary {
            id: RunId(1),
            event: EventId(1),
            version: VersionId(1),
            bundle: "calls".to_owned(),
            connection: "main".to_owned(),
            state: RunStateName::Delivered,
            attempt: 0,
            generation: 0,
            due_ms: None,
            behind_its_key: false,
            finished_ms: Some(0),
            reason: None,
        };
        let in_part = RunSummary { reason: Some("the step `a` failed".to_owned()), ..whole.clone() };
        let waits = RunSummary {
            state: RunStateName::Pending,
            due_ms: Some(0),
            finished_ms: None,
            behind_its_key: true,
            ..whole.clone()
        };
        let output = Output::new(false, Language::En);
        let shown = |run| row(run, &output)[2..].join("|");
        assert_eq!(shown(&whole), "delivered|1970-01-01 00:00:00Z|");
        assert_eq!(shown(&waits), "behind its key|due 1970-01-01 00:00:00Z|");
        assert_eq!(shown(&in_part), "delivered in part|1970-01-01 00:00:00Z|the step `a` failed");
        assert_eq!(
            (&summary(&whole)["in_part"], &summary(&in_part)["in_part"]),
            (&json!(false), &json!(true))
        );
    }
}
