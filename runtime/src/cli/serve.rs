//! `sheaf serve`: run the bundles of a directory until told to stop.

use std::{num::NonZero, process::ExitCode, thread::available_parallelism};

use anyhow::Context;
use serde_json::json;
use sheaf_bundles::words::Words;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

use super::output::{Failure, Output};
use crate::{
    app::{self, AppError, Running},
    clock::Clock,
    config::{Config, Environment},
    telemetry,
};

/// Run the bundles of a directory. Stops on SIGTERM or Ctrl-C, after what is in hand is done.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "SHEAF_MASTER_KEY, a variable only, is the master key as 64 hexadecimal digits, in place of the one in the data directory."
)]
pub struct Serve {
    #[command(flatten)]
    config: Config,
}

impl Serve {
    /// Exit code 0 after a stop, 1 when it could not start, the disk failed or the queue's writer ended.
    pub fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        telemetry::start(self.config.log_format, &self.config.log).context("--log")?;
        let cores = available_parallelism().map_or(1, NonZero::get);
        let workers = workers(cores, self.config.database.is_some());
        let runtime = Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
        runtime.block_on(async {
            let started = app::serve(self.config, Environment::of_process(), Clock::system()).await;
            let running = started.map_err(in_words)?;
            announce(&running, output);
            until_stopped(running).await
        })
    }
}

/// Threads that serve requests and execute runs: one for each core. The writer of a PostgreSQL has a thread of its own, which
/// is one of them: with one more than there are cores each event costs a tenth more (`make bench-postgres`).
fn workers(cores: usize, writer_apart: bool) -> usize {
    cores.saturating_sub(usize::from(writer_apart)).max(1)
}

/// The diagnostics of files are there in either language.
fn in_words(error: AppError) -> anyhow::Error {
    match error {
        AppError::Invalid(found) => Failure::error(
            format!("the files have errors:\n{}", found.en),
            format!("в файлах ошибки:\n{}", found.ru),
        ),
        error => error.into(),
    }
}

fn announce(running: &Running, output: &Output) {
    let addresses = running.addresses();
    let (hooks, management) = (addresses.hooks, addresses.management);
    if output.json {
        output.print(&json!({"hooks": hooks, "management": management}), String::new);
    }
    output.note(&Words::new(
        format!("Sheaf listens for hooks on http://{hooks}, health and metrics on http://{management}"),
        format!("Sheaf принимает хуки на http://{hooks}, здоровье и метрики на http://{management}"),
    ));
}

/// Until SIGTERM or SIGINT; then stops in order. Exits when the disk failed or the queue's writer ended.
pub async fn until_stopped(running: Running) -> anyhow::Result<ExitCode> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        why = running.broken() => {
            tracing::error!(why, "the queue can store nothing any more: exiting, so that the next start recovers from what the disk holds");
            return Ok(ExitCode::FAILURE);
        }
    }
    tracing::info!("stopping");
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_threads_work_than_there_are_cores_and_one_always_does() {
        assert_eq!([1, 2, 8].map(|cores| workers(cores, false)), [1, 2, 8]);
        assert_eq!([1, 2, 8].map(|cores| workers(cores, true)), [1, 1, 7]);
    }
}
