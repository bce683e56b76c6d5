//! `sheaf demo`: an example at work, end to end, with a receiver on loopback in place of the vendor.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use serde_json::json;
use sheaf_bundles::{
    event::{Event, Received},
    id::EventId,
    plan::{Plan, Verdict},
    words::{Language, Words},
};
use sheaf_connectors::decode::decode;
use tokio::{sync::mpsc::UnboundedReceiver, time::timeout};

use super::{
    output::{Failure, Output},
    receiver::{self, Got},
    sample::{self, Sample},
    send::send,
    serve::until_stopped,
};
use crate::{
    app::{self, Running},
    clock::Clock,
    config::{Config, Environment, LogFormat, MASTER_KEY_VARIABLE},
    directory,
    live::LiveHook,
    telemetry,
    token::MasterKey,
};

/// How long the demo waits for a request at its receiver, milliseconds.
const REQUEST_MS: u64 = 10_000;
/// The events shown, by file name below `events/`: one for each of the example's bundles.
const SHOWN: [&str; 3] = ["dynamic.form", "static.form", "session-without-cookie.form"];

/// Serve an example against a local receiver, show events routed, and stay up for more.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// An example of calls, with dynamic.form, static.form and session-without-cookie.form in its events/.
    #[arg(value_name = "DIR", default_value = "examples/calltouch-mindbox")]
    directory: PathBuf,
    /// End after the events were shown.
    #[arg(long)]
    once: bool,
}

impl Demo {
    /// Exit code 0 when every event was routed.
    pub fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        telemetry::start(LogFormat::Text, "warn")?;
        tokio::runtime::Runtime::new()?.block_on(self.show(output))
    }

    async fn show(self, output: &Output) -> anyhow::Result<ExitCode> {
        let (receiver, mut got, _task) = receiver::start().await?;
        let mut config = Config::new(&self.directory);
        (config.hooks_address, config.management_address) = ("127.0.0.1:0".parse()?, "127.0.0.1:0".parse()?);
        for origin in origins(&self.directory)? {
            config.egress_override.push(format!("{origin}=http://{receiver}").parse()?);
        }
        let key_folder = config.data_directory();
        let environment = Environment::of_process();
        let running = app::serve(config, environment.clone(), Clock::system()).await?;
        let key = MasterKey::existing(environment.get(MASTER_KEY_VARIABLE), &key_folder)?;
        let stage = Stage { running: &running, key, output };
        stage.introduce(&self.directory);
        for (number, file) in SHOWN.iter().enumerate() {
            stage.show(number + 1, &self.directory.join("events").join(file), &mut got).await?;
        }
        if self.once {
            running.stop().await;
            return Ok(ExitCode::SUCCESS);
        }
        stage.invite();
        let language = *output;
        tokio::spawn(async move {
            while let Some(request) = got.recv().await {
                print_request(&request, &language);
            }
        });
        until_stopped(running).await
    }
}

/// Every origin the example's bundles send to: all of them go to the receiver instead.
fn origins(directory: &std::path::Path) -> anyhow::Result<BTreeSet<String>> {
    let compiled = directory::compile(&directory::read(directory)?);
    let connections = compiled.integrations().flat_map(|integration| &integration.connections);
    Ok(connections.flat_map(|connection| connection.secret_origins.clone()).collect())
}

/// A running example and how to show it.
struct Stage<'a> {
    running: &'a Running,
    key: MasterKey,
    output: &'a Output,
}

impl Stage<'_> {
    fn introduce(&self, directory: &std::path::Path) {
        let hooks = self.running.addresses().hooks;
        let directory = directory.display();
        self.output.note(&Words::new(
            format!("Sheaf runs {directory} on http://{hooks}; requests for the vendor go to a receiver here.\n"),
            format!("Sheaf исполняет {directory} на http://{hooks}; запросы к сервису приходят в приёмник здесь же.\n"),
        ));
    }

    fn invite(&self) {
        let url = self.hook().map(|hook| self.url(&hook)).unwrap_or_default();
        self.output.note(&Words::new(
            format!("Ready for more; each request is printed here. Ctrl-C ends the demo. Send to:\n  {url}"),
            format!("Жду новых событий; каждый запрос печатается здесь. Ctrl-C завершает. Адрес для отправки:\n  {url}"),
        ));
    }

    /// The example's hook.
    fn hook(&self) -> Option<std::sync::Arc<LiveHook>> {
        self.running.catalogue().live().hooks().next().cloned()
    }

    fn url(&self, hook: &LiveHook) -> String {
        let connection = &hook.decoder.hook().connection;
        self.running.addresses().local_url(&self.key.token(&connection.name, connection.hook_generation))
    }

    async fn show(
        &self,
        number: usize,
        file: &std::path::Path,
        got: &mut UnboundedReceiver<Got>,
    ) -> anyhow::Result<()> {
        let hook = self.hook().context("the example has no hook")?;
        let sample = fresh(sample::read(file)?, number);
        let event = event(&hook, &sample)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.output
            .note(&Words::new(format!("{number}. {name} arrives"), format!("{number}. приходит {name}")));
        for (_, plan) in &hook.plans {
            self.explain(plan, &event);
        }
        let (status, body) = send(&self.url(&hook), sample).await?;
        if status != 200 {
            return Err(Failure::error(
                format!("the hook answered {status}: {body}"),
                format!("хук ответил {status}: {body}"),
            ));
        }
        let taken =
            hook.plans.iter().filter(|(_, plan)| matches!(plan.decide(&event), Verdict::Take { .. })).count();
        for _ in 0..taken {
            let request = timeout(Duration::from_millis(REQUEST_MS), got.recv()).await;
            let request = request
                .context("no request came to the receiver in time")?
                .context("the receiver is gone")?;
            print_request(&request, self.output);
        }
        Ok(())
    }

    fn explain(&self, plan: &Plan, event: &Event) {
        let (mark, why) = match plan.decide(event) {
            Verdict::Take { .. } => ("→", String::new()),
            Verdict::Filtered | Verdict::NotFired => {
                ("–", format!(": {}", plan.explain(event).in_language(self.output.language)))
            }
        };
        self.output.note(&Words::new(
            format!("   {mark} {}{why}", plan.bundle),
            format!("   {mark} {}{why}", plan.bundle),
        ));
    }
}

/// Another id each time the demo runs: the same call twice is one event.
fn fresh(mut sample: Sample, number: usize) -> Sample {
    let body = String::from_utf8_lossy(&sample.body).into_owned();
    #[expect(clippy::disallowed_methods, reason = "an id for the demo, not a time the product works with")]
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let pairs = body.split('&').map(|pair| match pair.strip_prefix("id=") {
        Some(_) => format!("id={now_ms}{number}"),
        None => pair.to_owned(),
    });
    sample.body = pairs.collect::<Vec<_>>().join("&").into_bytes();
    sample
}

/// What the product will make of it, to tell why each bundle takes it or not.
fn event(hook: &LiveHook, sample: &Sample) -> anyhow::Result<Event> {
    let content_type = sample.content_type.map(|kind| ("content-type".into(), kind.into()));
    let received = Received {
        method: sample.method.as_str().into(),
        query: sample.query.as_str().into(),
        headers: content_type.into_iter().collect(),
        body: sample.body.clone(),
        source: None,
        received_ms: 0,
    };
    let decoded = decode(hook.decoder.hook(), &received)?;
    Ok(Event { id: EventId(0), connection: hook.connection.clone(), received_ms: 0, fields: decoded.fields })
}

fn print_request(request: &Got, output: &Output) {
    let headers: Vec<String> =
        request.headers.iter().map(|(name, value)| format!("   {name}: {value}")).collect();
    let body = request.body.replace('\n', "\n   ");
    output.print(&json!({"request": request.line, "headers": request.headers, "body": request.body}), || {
        let heading = match output.language {
            Language::En => "   the vendor gets:",
            Language::Ru => "   сервис получает:",
        };
        format!("{heading}\n   {}\n{}\n   {body}\n\n", request.line, headers.join("\n"))
    });
}
