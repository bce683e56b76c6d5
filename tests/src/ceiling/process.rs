//! A ceiling as a process of its own.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::process::Process;

/// A ceiling, running.
pub struct Running {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    /// From start to ready.
    pub ready_after: Duration,
}

/// Starts the harness's binary as a ceiling: (b) when there is a database, otherwise (a).
pub fn start(harness: &Path, receiver: &str, database: Option<&OsStr>) -> anyhow::Result<Running> {
    let mut command = Command::new(harness);
    command.args(["ceiling", "--receiver", receiver]).stdout(Stdio::piped());
    if let Some(database) = database {
        command.arg("--database").arg(database);
    }
    let started = Instant::now();
    let mut process = Process::start(&mut command).with_context(|| harness.display().to_string())?;
    let mut line = String::new();
    BufReader::new(process.take_stdout().context("its output is a pipe")?).read_line(&mut line)?;
    let address = line.trim().parse().with_context(|| format!("the ceiling said {line:?}"))?;
    Ok(Running { process, address, ready_after: started.elapsed() })
}
