//! `sheaf send`: a sample of the connector, or a file, goes to a connection's hook as the vendor would send it.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context;
use serde_json::{Value, json};
use sheaf_bundles::hook::Hook;

use super::{
    output::{Failure, Output, table},
    project::Project,
    sample::{self, Sample},
};
use crate::egress::{Egress, Outgoing, Rules};

/// The longest a hook may take to answer, milliseconds.
const ANSWER_MS: u32 = 30_000;

/// Send a sample or a file to a connection's hook, as the vendor would. The same one twice is one event.
#[derive(Debug, clap::Args)]
pub struct Send {
    /// Name of the connection.
    #[arg(value_name = "CONNECTION")]
    connection: String,
    /// What to send: .form (form body), .query (query string) or .json.
    #[arg(value_name = "FILE", required_unless_present = "sample", conflicts_with = "sample")]
    file: Option<PathBuf>,
    /// The connector's own example of this trigger instead of a file; without a name, list those there are.
    #[arg(long, value_name = "TRIGGER", num_args = 0..=1)]
    sample: Option<Option<String>>,
    #[command(flatten)]
    project: Project,
}

impl Send {
    /// Exit code 0 when the hook answered 2xx, or the samples were listed.
    pub fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let hook = self.project.hook(&self.connection)?;
        let sample = match (self.file, self.sample) {
            (Some(file), _) => sample::read(&self.project.file(&file))?,
            (None, Some(Some(trigger))) => of_trigger(&hook, &trigger)?,
            (None, Some(None) | None) => {
                list(&hook, output);
                return Ok(ExitCode::SUCCESS);
            }
        };
        let token = self.project.token(&hook.connection)?;
        let url = self.project.addresses().local_url(&token);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (status, body) = runtime.block_on(send(&url, sample))?;
        output.print(&json!({"status": status, "body": body}), || {
            format!("{} {status}: {body}", output.words("The hook answered", "Хук ответил"))
        });
        Ok(if (200..300).contains(&status) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn of_trigger(hook: &Hook, name: &str) -> anyhow::Result<Sample> {
    hook.trigger(name).and_then(|trigger| sample::of_trigger(hook, trigger)).ok_or_else(|| {
        let connection = &hook.connection.name;
        Failure::error(
            format!(
                "there is no sample of {name:?}; `sheaf send {connection} --sample` lists those there are"
            ),
            format!("примера {name:?} нет; какие есть, покажет `sheaf send {connection} --sample`"),
        )
    })
}

fn list(hook: &Hook, output: &Output) {
    let triggers: Vec<_> = hook.triggers.iter().filter(|trigger| !trigger.sample.is_empty()).collect();
    let all = triggers
        .iter()
        .map(|trigger| json!({"trigger": trigger.name, "title": trigger.title.in_language(output.language)}));
    output.print(&Value::Array(all.collect()), || {
        if triggers.is_empty() {
            return output
                .words(
                    "This connector has no samples: send a file.",
                    "У этого коннектора нет примеров: отправьте файл.",
                )
                .to_owned();
        }
        let header = [output.words("SAMPLE", "ПРИМЕР"), output.words("TITLE", "НАЗВАНИЕ")];
        let title = |words: &sheaf_bundles::words::Words| words.in_language(output.language).to_owned();
        table(header, triggers.iter().map(|trigger| [trigger.name.clone(), title(&trigger.title)]))
    });
}

/// Sends a sample to a hook of our own; gives status and body.
pub async fn send(url: &str, sample: Sample) -> anyhow::Result<(u16, String)> {
    let (origin, _) = url.split_once("/hooks/").context("a hook's URL")?;
    let url = if sample.query.is_empty() { url.to_owned() } else { format!("{url}?{}", sample.query) };
    let outgoing = Outgoing {
        method: sample.method.into(),
        origin: origin.into(),
        url,
        headers: sample.content_type.map(|kind| ("content-type".into(), kind.into())).into_iter().collect(),
        body: sample.body,
        timeout_ms: ANSWER_MS,
    };
    let answer = own_listener(origin)?.send(outgoing).await;
    let answer = answer.map_err(|error| {
        let why = error.detail;
        Failure::error(format!("the hook did not answer: {why}"), format!("хук не ответил: {why}"))
    })?;
    Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
}

/// The guard refuses loopback and private addresses; our own listener is the one exception, by its exact address.
fn own_listener(origin: &str) -> anyhow::Result<Egress> {
    let address: SocketAddr = origin.trim_start_matches("http://").parse().context("a listener's address")?;
    Ok(Egress::new(Rules { allowed: vec![address.to_string().parse()?], overrides: Vec::new() })?)
}
