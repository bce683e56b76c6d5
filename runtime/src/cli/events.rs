//! `sheaf events`: what came in.

use std::{path::Path, process::ExitCode};

use serde_json::{Value, json};
use sheaf_bundles::{
    event::{Event, Received},
    id::EventId,
};
use sheaf_connectors::decode::{Note, decode};

use super::{
    masked::{clear, masked},
    output::{Failure, Output, table, time},
    project::Project,
};
use crate::{
    directory,
    queue::{
        gate::GateKind,
        history::{EventDetail, EventFilter, EventSummary, PAGE_MAX},
    },
};

/// Rows shown when no other number is asked for.
pub const ROWS: u32 = 30;

/// List events, newest first, or show one.
#[derive(Debug, clap::Args)]
pub struct Events {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// One event: its fields, what each bundle said of it, its runs.
    Show {
        /// Its id: evt_….
        id: EventId,
        /// Show personal, sensitive and undeclared fields, and the request as received.
        #[arg(long)]
        reveal: bool,
        #[command(flatten)]
        project: Project,
    },
}

#[derive(Debug, clap::Args)]
struct List {
    /// Of one connection.
    #[arg(long)]
    connection: Option<String>,
    /// Only those that could not be decoded.
    #[arg(long)]
    quarantined: bool,
    /// Only older ones than this: the last id of the page before.
    #[arg(long, value_name = "ID")]
    before: Option<EventId>,
    /// How many, at most 1000.
    #[arg(long, default_value_t = ROWS, value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_MAX)))]
    limit: u32,
    #[command(flatten)]
    project: Project,
}

impl Events {
    /// Exit code 0; 1 when the event is not there.
    pub fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        match self.command {
            Some(Command::Show { id, reveal, project }) => show(id, reveal, &project, output),
            None => list(self.list, output),
        }
    }
}

fn list(list: List, output: &Output) -> anyhow::Result<ExitCode> {
    let filter = EventFilter {
        connection: list.connection,
        quarantined: list.quarantined.then_some(true),
        since_ms: None,
        before: list.before,
        limit: list.limit,
    };
    let events = list.project.read(async |store| store.events(&filter).await)?;
    if events.is_empty() {
        list.project.refuse_bare(GateKind::Connection, filter.connection.as_deref())?;
    }
    let listed = events.iter().map(summary).collect();
    output.print(&Value::Array(listed), || {
        let header = [
            output.words("EVENT", "СОБЫТИЕ"),
            output.words("RECEIVED", "ПОЛУЧЕНО"),
            output.words("CONNECTION", "ПОДКЛЮЧЕНИЕ"),
            "",
        ];
        table(header, events.iter().map(|event| row(event, output)))
    });
    Ok(ExitCode::SUCCESS)
}

fn row(event: &EventSummary, output: &Output) -> [String; 4] {
    let note =
        event.quarantined.as_ref().map(|why| format!("{}: {why}", output.words("quarantined", "карантин")));
    [event.id.to_string(), time(event.received_ms), event.connection.clone(), note.unwrap_or_default()]
}

fn summary(event: &EventSummary) -> Value {
    json!({
        "id": event.id.to_string(),
        "connection": event.connection,
        "received_ms": event.received_ms,
        "quarantined": event.quarantined,
        "filtered": event.filtered.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn show(id: EventId, reveal: bool, project: &Project, output: &Output) -> anyhow::Result<ExitCode> {
    let event = project.read(async |store| store.event(id).await)?;
    let event =
        event.ok_or_else(|| Failure::error(format!("there is no {id}"), format!("{id} не найдено")))?;
    let read = Reading::of(&project.directory, &event, reveal, output);
    let runs: Vec<Value> = event
        .runs
        .iter()
        .map(|run| json!({"id": run.id.to_string(), "bundle": run.bundle, "state": run.state, "reason": run.reason}))
        .collect();
    let mut shown = summary(&event.summary);
    shown["fields"] = read.fields;
    shown["notes"] = json!(read.notes);
    shown["bundles"] = Value::Array(read.bundles);
    shown["runs"] = Value::Array(runs);
    if reveal {
        shown["received"] = raw(&event.received);
    }
    output.print(&shown, || format!("{shown:#}"));
    Ok(ExitCode::SUCCESS)
}

/// What the files of today make of a stored event.
#[derive(Default)]
struct Reading {
    fields: Value,
    notes: Vec<String>,
    bundles: Vec<Value>,
}

impl Reading {
    fn of(directory: &Path, event: &EventDetail, reveal: bool, output: &Output) -> Reading {
        let Ok(compiled) = directory::read(directory).map(|read| directory::compile(&read)) else {
            return Reading::default();
        };
        let connection = &event.summary.connection;
        let found = compiled
            .integrations()
            .find_map(|integration| Some((integration, integration.hook(connection)?)));
        let Some((integration, hook)) = found else {
            return Reading::default();
        };
        let Ok(decoded) = decode(hook, &event.received) else { return Reading::default() };
        let event = Event {
            id: event.summary.id,
            connection: connection.as_str().into(),
            received_ms: event.summary.received_ms,
            fields: decoded.fields,
        };
        let explained = integration.plans.iter().filter(|plan| plan.connection.name == *connection);
        let bundles = explained
            .map(|plan| json!({"bundle": plan.bundle, "said": plan.explain(&event).in_language(output.language)}))
            .collect();
        let notes = decoded.notes.iter().map(|note| in_words(note, output)).collect();
        let fields = if reveal { clear(&event.fields) } else { masked(hook, &event.fields) };
        Reading { fields, notes, bundles }
    }
}

fn in_words(note: &Note, output: &Output) -> String {
    match note {
        Note::Absent { field } => {
            format!(
                "{field}: {}",
                output.words(
                    "did not arrive; is it turned off at the vendor?",
                    "не пришёл; не отключён ли он у сервиса?"
                )
            )
        }
        Note::Unreadable { field, expected } => {
            format!("{field}: {} {expected}", output.words("is not of its type:", "не того типа:"))
        }
    }
}

fn raw(received: &Received) -> Value {
    json!({
        "method": received.method,
        "query": received.query,
        "headers": received.headers,
        "body": String::from_utf8_lossy(&received.body),
        "source": received.source.map(|source| source.to_string()),
    })
}
