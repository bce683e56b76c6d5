//! `sheaf events`: what came in.

use std::{path::Path, process::ExitCode, sync::Arc};

use anyhow::Context;
use serde_json::{Value, json};
use sheaf_bundles::{
    event::{Event, Received},
    hook::Hook,
    id::EventId,
    value::Map,
};
use sheaf_connectors::decode::{Note, decode};

use super::{
    output::{Output, table, time},
    project::Project,
};
use crate::{
    directory,
    queue::history::{EventDetail, EventFilter, EventSummary},
};

/// Rows shown when no other number is asked for.
pub const ROWS: u32 = 30;
/// What stands for a value that only those with the permission may see.
const MASK: &str = "••••";

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
        /// Show personal and sensitive fields, and the request as received.
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
    /// How many.
    #[arg(long, default_value_t = ROWS)]
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
    let event =
        project.read(async |store| store.event(id).await)?.with_context(|| format!("there is no {id}"))?;
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
        let Some(integration) =
            directory::read(directory).ok().and_then(|files| directory::compile(&files).integration)
        else {
            return Reading::default();
        };
        let connection = &event.summary.connection;
        let Some(hook) = integration.hooks.iter().find(|hook| hook.connection.name == *connection) else {
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
        let fields = shown_fields(hook, Arc::new(event.fields), reveal);
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

/// The decoded fields; personal and sensitive ones masked unless they are asked for.
fn shown_fields(hook: &Hook, fields: Arc<Map>, reveal: bool) -> Value {
    let masked = |name: &str| {
        hook.fields.iter().any(|own| own.field.name == name && (own.field.personal || own.field.sensitive))
    };
    let shown = fields.iter().map(|(name, value)| {
        let value = if !reveal && !value.is_empty() && masked(name) { json!(MASK) } else { json!(value) };
        (name.to_string(), value)
    });
    Value::Object(shown.collect())
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
