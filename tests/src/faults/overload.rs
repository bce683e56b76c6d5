//! F11: ten times the load that it can take, open loop. Answers become slow, then refusals; memory stays flat, the work done
//! stays near what it was, and soon after it is as fast as before.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{equations, report::Outcome, rig::Plan};
use crate::{
    load::{self, Load, Pace},
    sink::Sink,
};

/// How long the usual load, the overload and the looks afterwards take.
const USUAL: Duration = Duration::from_secs(3);
const OVERLOAD: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(2);
/// Connections of the usual load and of the overload.
const CONNECTIONS: usize = 32;
const CONNECTIONS_OVER: usize = 512;
/// The overload, in multiples of what it took.
const TIMES: f64 = 10.0;
/// A load that it takes without effort, as a share of what it took.
const EASY: f64 = 0.2;
/// The least work done under overload, as a share of the usual.
const GOODPUT_MIN: f64 = 0.8;
/// Longest time until it is as fast as before.
const NORMAL_WITHIN: Duration = Duration::from_secs(60);
/// Under this a 99th percentile says more about the machine than about the product, milliseconds.
const NOISE_MS: f64 = 100.0;
/// The most it may hold more than before, KiB: buffers of the connections, and events that wait for the writer.
const GROWTH_KIB_MAX: u64 = 96 * 1024;
/// How long a drain may take.
const DRAIN: Duration = Duration::from_secs(120);

/// So many overloads.
pub async fn run(plan: Plan, cycles: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let folder = tempfile::Builder::new().prefix("overload-").tempdir_in(&plan.data_root)?;
    let sink = Sink::start().await?;
    let setup = plan.setup(folder.path(), sink.origin())?;
    let product = setup.start().await?;
    let templates = load::calls(product.hooks, &setup.hook_path()?);
    let load = |pace, connections, duration| Load {
        address: product.hooks,
        templates: Arc::clone(&templates),
        connections,
        pace,
        duration,
    };
    let mut acknowledged = Vec::new();
    for _ in 0..cycles {
        let usual = load(Pace::Closed, CONNECTIONS, USUAL).run().await;
        let capacity = usual.acknowledged.len() as f64 / USUAL.as_secs_f64();
        let easy = Pace::Open { per_second: capacity * EASY };
        let before = load(easy, CONNECTIONS, LOOK).run().await;
        let (before_kib, _) = product.process.memory_kib()?;

        let over = load(Pace::Open { per_second: capacity * TIMES }, CONNECTIONS_OVER, OVERLOAD);
        let begun = Instant::now();
        let over = over.run().await;
        let goodput = over.acknowledged.len() as f64 / begun.elapsed().as_secs_f64();
        let (_, most_kib) = product.process.memory_kib()?;
        let normal = normal_after(
            || load(easy, CONNECTIONS, LOOK),
            before.latencies.points().p99_ms,
            &mut acknowledged,
        )
        .await;

        outcome.figure("usual, calls/s", capacity);
        outcome.figure("under overload, calls/s", goodput);
        outcome.figure("memory before, KiB", before_kib as f64);
        outcome.figure("most memory, KiB", most_kib as f64);
        outcome.figure("answer p99 under overload, ms", over.latencies.points().p99_ms);
        outcome.count("refused", usize::try_from(over.refused).unwrap_or(usize::MAX));
        outcome.count("without an answer", usize::try_from(over.unanswered).unwrap_or(usize::MAX));
        outcome.expect(goodput >= capacity * GOODPUT_MIN, || {
            format!("{goodput:.0} calls/s under overload, {capacity:.0} before")
        });
        outcome.expect(most_kib <= before_kib + GROWTH_KIB_MAX, || {
            format!("memory grew from {before_kib} to {most_kib} KiB")
        });
        outcome.expect(normal.is_some(), || "it was not as fast as before within a minute".to_owned());
        outcome.figure("as fast as before after, s", normal.unwrap_or(NORMAL_WITHIN).as_secs_f64());
        let slower = over.latencies.points().p50_ms > before.latencies.points().p50_ms;
        outcome
            .cycle(format!("{:.0} calls/s asked", capacity * TIMES), slower && !over.acknowledged.is_empty());
        for done in [usual, before, over] {
            acknowledged.extend(done.acknowledged);
        }
    }
    equations::drained(&setup, DRAIN).await?;
    let missing = sink.missing(&acknowledged);
    outcome.count("acknowledged", acknowledged.len());
    outcome.count("acknowledged and missing", missing);
    outcome.expect(missing == 0, || format!("{missing} acknowledged are missing"));
    let repeats = sink.repeats();
    outcome.expect(repeats == 0, || format!("{repeats} repeats without a fault"));
    Ok(outcome)
}

/// Looks again and again until an easy load is answered as fast as before; how long that took.
async fn normal_after(
    look: impl Fn() -> Load,
    before_ms: f64,
    acknowledged: &mut Vec<i64>,
) -> Option<Duration> {
    let begun = Instant::now();
    while begun.elapsed() < NORMAL_WITHIN {
        let seen: load::Outcome = look().run().await;
        let p99_ms = seen.latencies.points().p99_ms;
        let fine = seen.refused + seen.unanswered == 0 && p99_ms < (2.0 * before_ms).max(NOISE_MS);
        acknowledged.extend(seen.acknowledged);
        if fine {
            return Some(begun.elapsed());
        }
    }
    None
}
