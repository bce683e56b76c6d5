//! The product's own binary as a child process, with the Calltouch-Mindbox bundles.

use std::{
    error::Error,
    ffi::OsStr,
    fmt, fs,
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use crate::{process::Process, wire};

/// What the bundles' connections are sent to in production.
const MINDBOX_ORIGIN: &str = "https://api.mindbox.ru";
/// Longest time to become ready.
const READY_MAX: Duration = Duration::from_secs(30);
/// How often readiness is asked for.
const READY_EVERY: Duration = Duration::from_millis(2);
/// The connection that takes the webhooks.
const HOOK: &str = "calltouch-main";

/// The files of an integration: two bundles that take every ended call between them.
const FILES: [(&str, &str); 5] = [
    ("sheaf.yaml", include_str!("../../examples/calltouch-mindbox/sheaf.yaml")),
    (
        "connections/calltouch-main.yaml",
        include_str!("../../examples/calltouch-mindbox/connections/calltouch-main.yaml"),
    ),
    (
        "connections/mindbox-main.yaml",
        include_str!("../../examples/calltouch-mindbox/connections/mindbox-main.yaml"),
    ),
    (
        "bundles/mindbox-dynamic.yaml",
        include_str!("../../examples/calltouch-mindbox/bundles/mindbox-dynamic.yaml"),
    ),
    (
        "bundles/mindbox-static.yaml",
        include_str!("../../examples/calltouch-mindbox/bundles/mindbox-static.yaml"),
    ),
];

/// Writes those files.
pub fn write_bundles(directory: &Path) -> anyhow::Result<()> {
    for (name, text) in FILES {
        let file = directory.join(name);
        fs::create_dir_all(file.parent().context("every file is in a folder")?)?;
        fs::write(&file, text).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// How to start the product.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The binary `sheaf`.
    pub binary: PathBuf,
    /// The integration's files.
    pub directory: PathBuf,
    /// Its data; kept over restarts.
    pub data: PathBuf,
    /// Who stands in for Mindbox, `http://127.0.0.1:port`.
    pub receiver: String,
    /// More settings, as environment variables.
    pub settings: Vec<(String, String)>,
    /// A command in front of `sheaf serve`, with its arguments.
    pub launcher: Vec<String>,
}

/// The product's process, not ready yet.
pub struct Starting {
    /// The process.
    pub process: Process,
    addresses: PathBuf,
    log: PathBuf,
    started: Instant,
}

/// The product ended before it was ready.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it said.
    pub log: PathBuf,
}

impl Error for Ended {}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it ended before it was ready ({}); see {}", self.status, self.log.display())
    }
}

/// The product, running.
pub struct Product {
    /// The process.
    pub process: Process,
    /// Where vendors' hooks are served.
    pub hooks: SocketAddr,
    /// Where health and metrics are served.
    pub management: SocketAddr,
    /// From start to ready.
    pub ready_after: Duration,
}

#[derive(serde::Deserialize)]
struct Addresses {
    hooks: SocketAddr,
    management: SocketAddr,
}

impl Setup {
    /// The Calltouch-Mindbox bundles and an empty data directory in that folder, everything else at its default.
    pub fn fresh(binary: &Path, folder: &Path, receiver: String) -> anyhow::Result<Setup> {
        let directory = folder.join("integration");
        write_bundles(&directory)?;
        Ok(Setup {
            binary: binary.to_owned(),
            directory,
            data: folder.join("data"),
            receiver,
            ..Setup::default()
        })
    }

    /// The same with one setting in place of what it had.
    pub fn with(mut self, name: &str, value: &str) -> Setup {
        self.settings.retain(|(own, _)| own != name);
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&self) -> anyhow::Result<Product> {
        self.spawn()?.ready().await
    }

    /// Starts it.
    pub fn spawn(&self) -> anyhow::Result<Starting> {
        fs::create_dir_all(&self.data)?;
        let addresses = self.data.join("addresses.json");
        // The last process left it behind if it was killed.
        let _ = fs::remove_file(&addresses);
        let log = File::options().create(true).append(true).open(self.log())?;
        let started = Instant::now();
        let launched =
            self.launcher.iter().map(String::as_str).map(OsStr::new).chain([self.binary.as_os_str()]);
        let mut command = self.environment(launched, &["serve"]);
        command.arg(&self.directory).stdout(log.try_clone()?).stderr(log);
        let process = Process::start(&mut command).with_context(|| format!("{command:?}"))?;
        Ok(Starting { process, addresses, log: self.log(), started })
    }

    /// The path that Calltouch's webhooks go to.
    pub fn hook_path(&self) -> anyhow::Result<String> {
        let url = self.output(self.command(&["hook", HOOK, "--dir"]).arg(&self.directory))?;
        let url = url.trim();
        let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
        let path = after_scheme.find('/').map(|at| after_scheme[at..].to_owned());
        path.with_context(|| format!("`sheaf hook` printed {url:?}"))
    }

    /// What `sheaf ledger --json` says, while the product runs; `verify` has it count every row as well.
    pub fn ledger(&self, verify: bool) -> anyhow::Result<serde_json::Value> {
        if verify { self.printed(&["ledger", "--verify"]) } else { self.printed(&["ledger"]) }
    }

    /// What a command prints as JSON.
    pub fn printed(&self, arguments: &[&str]) -> anyhow::Result<serde_json::Value> {
        let text = self.output(self.command(arguments).args(["--json", "--dir"]).arg(&self.directory))?;
        serde_json::from_str(&text).with_context(|| format!("`sheaf {arguments:?}` printed {text:?}"))
    }

    /// Where a process that runs serves health and metrics.
    pub fn management(&self) -> Option<SocketAddr> {
        Some(read_addresses(&self.data.join("addresses.json"))?.management)
    }

    /// Everything it logged; not among its data, which may be on a disk that fails.
    pub fn log(&self) -> PathBuf {
        self.directory.with_file_name("sheaf.log")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.environment([self.binary.as_os_str()].into_iter(), arguments)
    }

    /// Settings go by environment variables, so they reach every subcommand alike.
    fn environment<'a>(&self, program: impl Iterator<Item = &'a OsStr>, arguments: &'a [&str]) -> Command {
        let mut line = program.chain(arguments.iter().map(OsStr::new));
        let mut command = Command::new(line.next().unwrap_or_default());
        command
            .args(line)
            .env("SHEAF_DATA", &self.data)
            .env("SHEAF_HOOKS_ADDRESS", "127.0.0.1:0")
            .env("SHEAF_MANAGEMENT_ADDRESS", "127.0.0.1:0")
            .env("SHEAF_EGRESS_OVERRIDE", format!("{MINDBOX_ORIGIN}={}", self.receiver))
            .env("MINDBOX_SECRET_KEY", "test-key")
            .envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    fn output(&self, command: &mut Command) -> anyhow::Result<String> {
        let output = command.output().with_context(|| self.binary.display().to_string())?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("{command:?}: {}", String::from_utf8_lossy(&said));
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Starting {
    /// Waits until it is ready.
    pub async fn ready(mut self) -> anyhow::Result<Product> {
        let log = self.log.display();
        loop {
            if let Some(found) = read_addresses(&self.addresses)
                && get(found.management, "/readyz").await.is_ok()
            {
                let ready_after = self.started.elapsed();
                return Ok(Product {
                    process: self.process,
                    hooks: found.hooks,
                    management: found.management,
                    ready_after,
                });
            }
            if let Some(status) = self.process.ended()? {
                return Err(Ended { status, log: self.log }.into());
            }
            ensure!(self.started.elapsed() < READY_MAX, "it is not ready; see {log}");
            tokio::time::sleep(READY_EVERY).await;
        }
    }
}

impl Product {
    /// What `/metrics` says.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        get(self.management, "/metrics").await
    }

    /// One number of it, by its whole name.
    pub async fn metric(&self, name: &str) -> anyhow::Result<usize> {
        let page = self.metrics().await?;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| name.to_owned())?.parse()?)
    }
}

fn read_addresses(file: &Path) -> Option<Addresses> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// The body of a GET; any status but 200 is an error.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let request = wire::request("GET", path, &[], b"");
    let answer = wire::Client::connect(address).await?.exchange(&request).await?;
    ensure!(answer.status() == 200, "{path} answered {}", answer.status());
    Ok(String::from_utf8(answer.body)?)
}
