//! `sheaf send`: a sample file goes to a connection's hook, as the vendor would send it.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context;
use serde_json::json;
use sheaf_bundles::words::Language;

use super::{
    output::Output,
    project::Project,
    sample::{self, Sample},
};
use crate::egress::{Egress, Outgoing, Rules};

/// The longest a hook may take to answer, milliseconds.
const ANSWER_MS: u32 = 30_000;

/// Send a sample file to a connection's hook, as the vendor would.
#[derive(Debug, clap::Args)]
pub struct Send {
    /// Name of the connection.
    #[arg(value_name = "CONNECTION")]
    connection: String,
    /// The sample: .form (form body), .query (query string) or .json.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    project: Project,
}

impl Send {
    /// Exit code 0 when the hook answered 2xx.
    pub fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let sample = sample::read(&self.project.file(&self.file))?;
        let token = self.project.token(&self.connection)?;
        let url = self.project.addresses().local_url(&token);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (status, body) = runtime.block_on(send(&url, sample))?;
        output.print(&json!({"status": status, "body": body}), || match output.language {
            Language::En => format!("The hook answered {status}: {body}"),
            Language::Ru => format!("Хук ответил {status}: {body}"),
        });
        Ok(if (200..300).contains(&status) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
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
    let answer = answer.map_err(|error| anyhow::anyhow!("the hook did not answer: {}", error.detail))?;
    Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
}

/// The guard refuses loopback and private addresses; our own listener is the one exception, by its exact address.
fn own_listener(origin: &str) -> anyhow::Result<Egress> {
    let address: SocketAddr = origin.trim_start_matches("http://").parse().context("a listener's address")?;
    Ok(Egress::new(Rules { allowed: vec![address.to_string().parse()?], overrides: Vec::new() })?)
}
