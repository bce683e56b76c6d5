//! The product beside its ceilings: started one after another in pairs, under the same load, on the same machine.

mod contender;
pub mod databases;
mod report;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

pub use contender::Contender;
use contender::{Running, batches};
use databases::Databases;
pub use report::{Half, Report, Sample, median};

use crate::{
    clock::unix_ns,
    load::{self, Load, Outcome, Pace},
    process::{Usage, own_usage},
    sink::Sink,
};

/// How long a process is left alone before its idle memory is read.
const IDLE_AFTER: Duration = Duration::from_millis(500);
/// Longest time that a contender takes to end.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// How long the load runs before anything is measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// How often the sink is asked whether everything came.
const DRAIN_EVERY: Duration = Duration::from_millis(5);
/// A drain without a new arrival for so long has failed.
const DRAIN_STUCK: Duration = Duration::from_secs(10);

/// What to measure.
#[derive(Debug)]
pub struct Plan {
    /// The product's binary.
    pub sheaf: PathBuf,
    /// This harness's binary, for the ceilings.
    pub harness: PathBuf,
    /// Where data directories are made; a real disk, or written bytes say nothing.
    pub data_root: PathBuf,
    /// Rounds of product and ceilings.
    pub pairs: usize,
    /// How long each load runs.
    pub duration: Duration,
    /// Connections of the generator.
    pub connections: usize,
    /// Who takes part.
    pub contenders: Vec<Contender>,
    /// Where they store, if not in files.
    pub postgres: Option<Databases>,
}

/// How much is done, where things are compared in rounds.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Effort {
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Seconds of each load of a round.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Connections of the generator, so requests in flight at most.
    #[arg(long, default_value_t = 128)]
    pub connections: usize,
    /// One round of one second, and small sizes: shows that it works, measures little.
    #[arg(long)]
    pub short: bool,
}

impl Effort {
    /// Rounds.
    pub fn pairs(self) -> usize {
        if self.short { 1 } else { self.pairs }
    }

    /// How long each load of a round runs.
    pub fn duration(self) -> Duration {
        Duration::from_secs_f64(if self.short { 1.0 } else { self.seconds })
    }
}

/// Runs all rounds; `tell` hears of every sample as it is there.
pub async fn run(plan: &Plan, sink: Arc<Sink>, mut tell: impl FnMut(&Sample)) -> anyhow::Result<Report> {
    let mut samples = Vec::new();
    for pair in 0..plan.pairs {
        let mut order = plan.contenders.clone();
        // Whoever runs second meets a warmer machine, so they take turns.
        if pair % 2 == 1 {
            order.reverse();
        }
        for contender in order {
            let sample =
                measure(plan, contender, pair, &sink).await.with_context(|| format!("{contender:?}"))?;
            tell(&sample);
            samples.push(sample);
        }
    }
    Ok(Report::new(samples, plan))
}

async fn measure(plan: &Plan, contender: Contender, pair: usize, sink: &Sink) -> anyhow::Result<Sample> {
    let data = tempfile::tempdir_in(&plan.data_root)?;
    if let Some(databases) = &plan.postgres {
        databases.tidy();
    }
    let mut running = Running::start(contender, plan, data.path(), &sink.origin()).await?;
    tokio::time::sleep(IDLE_AFTER).await;
    let (idle_kib, _) = running.process.memory_kib()?;

    let load = Load {
        address: running.address,
        templates: load::calls(running.address, &running.path),
        connections: plan.connections,
        pace: Pace::Closed,
        duration: WARM_UP,
    };
    drained(load.clone(), sink).await?;
    let writer_before = running.counters().await?;
    let before = (running.process.usage()?, own_usage()?);
    let full = drained(Load { duration: plan.duration, ..load.clone() }, sink).await?;
    let after = (running.process.usage()?, own_usage()?);
    let writer_after = running.counters().await?;
    let (_, peak_kib) = running.process.memory_kib()?;

    let pace = Pace::Open { per_second: full.events_per_s / 2.0 };
    let half = drained(Load { duration: plan.duration, pace, ..load }, sink).await?;
    // Not killed: an instrumented build writes down what it counted when it ends.
    running.process.stop(STOPPED_WITHIN).await?.context("it did not stop")?;
    let thousands = full.outcome.acknowledged.len() as f64 / 1000.0;
    let spent = |from: Usage, to: Usage| (to.cpu_s - from.cpu_s) / thousands;
    Ok(Sample {
        contender,
        pair,
        ready_ms: running.ready_after.as_secs_f64() * 1000.0,
        idle_mib: idle_kib as f64 / 1024.0,
        peak_mib: peak_kib as f64 / 1024.0,
        events: full.outcome.acknowledged.len(),
        events_per_s: full.events_per_s,
        lost: full.lost + half.lost,
        repeated: full.repeated + half.repeated,
        refused: full.outcome.refused
            + full.outcome.unanswered
            + half.outcome.refused
            + half.outcome.unanswered,
        cpu_s_per_1000: spent(before.0, after.0),
        harness_cpu_s_per_1000: spent(before.1, after.1),
        written_per_received: (after.0.written_bytes - before.0.written_bytes) as f64
            / full.outcome.body_bytes as f64,
        half: Half {
            events_per_s: half.events_per_s,
            ack: half.outcome.latencies.points(),
            end_to_end: half.end_to_end,
        },
        batches: batches(&writer_before, &writer_after),
    })
}

/// One load whose every acknowledged event was waited for.
pub struct Drained {
    /// What was sent.
    pub outcome: Outcome,
    /// From the first request to the last arrival.
    pub events_per_s: f64,
    /// Acknowledged and never arrived.
    pub lost: usize,
    /// Arrived again.
    pub repeated: u64,
    /// From due to arrived.
    pub end_to_end: crate::latencies::Points,
}

/// Runs a load and waits until what it brought has come to the sink, which forgets what came before.
pub async fn drained(load: Load, sink: &Sink) -> anyhow::Result<Drained> {
    sink.reset();
    let started_ns = unix_ns();
    let outcome = load.run().await;
    ensure!(!outcome.acknowledged.is_empty(), "nothing was acknowledged, so nothing was measured");
    arrived(sink, &outcome.acknowledged, DRAIN_STUCK).await;
    ensure!(sink.unreadable() == 0, "requests without a call id came");
    let seconds = (sink.last_ns() - started_ns) as f64 / 1e9;
    Ok(Drained {
        events_per_s: sink.unique() as f64 / seconds,
        lost: sink.missing(&outcome.acknowledged),
        repeated: sink.repeats(),
        end_to_end: sink.latencies().points(),
        outcome,
    })
}

/// Waits for these calls, but not when none has come for `stuck`. Their number says nothing: a server that was killed, and goes
/// on, brings others as well.
pub async fn arrived(sink: &Sink, calls: &[i64], stuck: Duration) {
    let mut seen = (sink.unique(), Instant::now());
    while (seen.0 < calls.len() || sink.missing(calls) > 0) && seen.1.elapsed() < stuck {
        tokio::time::sleep(DRAIN_EVERY).await;
        if sink.unique() > seen.0 {
            seen = (sink.unique(), Instant::now());
        }
    }
}
