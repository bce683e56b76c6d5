//! F1: kill -9 at random moments under load, and again while the restarted process starts or drains what was left.
//!
//! It shows that a crash of the process loses nothing; a power cut is another matter, since the page cache survives a kill.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    judge::Rules,
    lab::Lab,
    report::Outcome,
    rig::{Plan, Rig, SENDERS, SLOTS},
};
use crate::{
    process::Process,
    product::{self, Setup},
};

/// Longest random wait between the first acknowledgement after a start and the kill.
const KILL_AFTER_MS_MAX: u64 = 250;
/// Longest time from a start to a kill during recovery, as a share of what the last start took until ready, percent.
const RECOVERY_PERCENT_MAX: u32 = 130;

/// Kills so often in all; after every second kill under load the restart is killed too.
pub async fn run(lab: &Lab, plan: Plan, kills: usize) -> anyhow::Result<Outcome> {
    let mut randomness = StdRng::seed_from_u64(lab.seed);
    let rig = Rig::new(Plan { senders: SENDERS, ..plan }).await?;
    let mut outcome = Outcome::default();
    while outcome.cycles.len() < kills {
        let mut product = rig.start().await?;
        rig.aim(&product)?;
        let after = Duration::from_millis(randomness.random_range(0..=KILL_AFTER_MS_MAX));
        let struck = rig.ripe(after).await;
        let under_way = outcome.cycles.len();
        rig.kill(&mut product.process, under_way).await?;
        outcome.cycle(
            format!("under load: {} in flight, {} acknowledged", struck.in_flight, struck.acknowledged),
            struck.bit(),
        );
        if under_way.is_multiple_of(3) && outcome.cycles.len() < kills {
            let share = randomness.random_range(0..=RECOVERY_PERCENT_MAX);
            let (fault, bit) =
                recovery(&rig, product.ready_after * share / 100, outcome.cycles.len()).await?;
            outcome.count("kills during recovery", 1);
            outcome.cycle(fault, bit && struck.bit());
        }
    }
    let last = rig.start().await?;
    rig.finish(Rules { concurrency: SLOTS, ..Rules::default() }).await?.tell(&mut outcome);
    drop(last);
    Ok(outcome)
}

/// Starts it and kills it so long after, while it starts or while it has something left from before.
async fn recovery(rig: &Rig, after: Duration, number: usize) -> anyhow::Result<(String, bool)> {
    let begun = Instant::now();
    let mut starting = rig.setup.spawn()?;
    tokio::time::sleep(after.saturating_sub(begun.elapsed())).await;
    let (alive, phase) = phase(&rig.setup, &mut starting.process).await?;
    rig.kill(&mut starting.process, number).await?;
    Ok((format!("recovery: after {} ms, {phase}", after.as_millis()), alive))
}

/// What it is doing: nothing is sent to it now, so whatever is pending is left from before.
async fn phase(setup: &Setup, process: &mut Process) -> anyhow::Result<(bool, String)> {
    if process.has_ended()? {
        return Ok((false, "it had ended by itself".to_owned()));
    }
    let Some(management) = setup.management() else { return Ok((true, "starting".to_owned())) };
    let Ok(page) = product::get(management, "/metrics").await else {
        return Ok((true, "starting".to_owned()));
    };
    let pending: f64 = page
        .lines()
        .filter(|line| line.starts_with("sheaf_ledger{") && line.contains("count=\"pending\""))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    Ok((true, format!("up, {pending} pending")))
}
