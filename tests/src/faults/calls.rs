//! F2: a fixed script of 50 events, killed at every write, every fsync and every send, one after the other.
//!
//! A kill at a call comes before the call is carried out, so a kill at the first write of a commit is one after the commit
//! before, and a kill at the send of an answer is one between the commit and the answer.

use std::{
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{
    judge::Rules,
    lab::Lab,
    report::Outcome,
    rig::{Plan, Rig, SLOTS},
    script::{self, EVENTS},
    strace::{self, Injection},
};
use crate::{process::Process, product::Ended};

/// What reaches a disk or a network.
pub const CALLS: [&str; 9] =
    ["pwrite64", "fdatasync", "fsync", "ftruncate", "unlink", "rename", "sendto", "writev", "sendmsg"];
/// The signal's number.
const SIGKILL: i32 = 9;
/// Longest time that a product which was killed at a call takes to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Kills at about so many calls, as many of each kind; at every one when there are no more than that.
pub async fn run(lab: &Lab, plan: Plan, kills: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome { missing_tool: strace::missing(), ..Outcome::default() };
    if outcome.missing_tool.is_some() {
        return Ok(outcome);
    }
    let calls = counted(&plan).await?;
    for (call, count) in &calls {
        outcome.figure(&format!("{call} calls of the script"), *count as f64);
    }
    let each = kills.div_ceil(calls.len().max(1));
    let chosen = |(call, count)| spread(count, each, lab.seed).map(move |at| (call, at));
    for (call, at) in calls.iter().copied().flat_map(chosen) {
        let injection = Injection { call: call.to_owned(), what: "signal=KILL", when: at.to_string() };
        killed(&plan, &injection, &mut outcome).await.with_context(|| format!("{call} number {at}"))?;
        outcome.count(&format!("kills at {call}"), 1);
    }
    if outcome.figures.get("acknowledged").is_none_or(|count| *count == 0.0) {
        outcome.invalid.push("nothing was acknowledged".to_owned());
    }
    Ok(outcome)
}

/// How often the script makes each call.
async fn counted(plan: &Plan) -> anyhow::Result<Vec<(&'static str, usize)>> {
    let mut rig = Rig::new(plan.clone()).await?;
    let trace = rig.folder().join("trace");
    rig.setup.launcher = strace::launcher(&CALLS, None, &trace);
    let mut product = rig.setup.start().await?;
    let path = rig.setup.hook_path()?;
    let played = script::play(&rig, product.hooks, &path, &mut product.process, EVENTS).await?;
    ensure!(played.acknowledged == EVENTS, "without any fault {played:?}");
    rig.drain().await?;
    product.process.kill()?;
    let mut counts = strace::counts(&trace)?;
    let syncs: usize = ["fsync", "fdatasync"].iter().filter_map(|call| counts.get(*call)).sum();
    ensure!(syncs >= EVENTS, "strace saw {syncs} commits of {EVENTS} events: {counts:?}");
    Ok(CALLS.iter().filter_map(|call| Some((*call, counts.remove(*call)?))).collect())
}

/// So many of the numbers from 1, evenly, from a place that the seed chooses; every one when there are no more.
pub fn spread(count: usize, wanted: usize, seed: u64) -> impl Iterator<Item = usize> {
    let wanted = wanted.min(count);
    let step = count as f64 / wanted.max(1) as f64;
    let from = (seed % 1_000) as f64 / 1_000.0 * step;
    (0..wanted).map(move |index| (from + index as f64 * step) as usize + 1)
}

/// One kill: the script until it, then what was acknowledged before must come.
async fn killed(plan: &Plan, injection: &Injection, outcome: &mut Outcome) -> anyhow::Result<()> {
    let mut rig = Rig::new(plan.clone()).await?;
    rig.setup.launcher = strace::launcher(&CALLS, Some(injection), &rig.folder().join("trace"));
    let died = played(&rig).await?;
    rig.died(0).await;
    rig.setup.launcher = Vec::new();
    let last = rig.start().await?;
    let judgement = rig.finish(Rules { concurrency: SLOTS, ..Rules::default() }).await?;
    drop(last);
    outcome.cycle(format!("{} {}", injection.call, injection.when), died);
    let (acknowledged, invalid) = (judgement.acknowledged, outcome.invalid.len());
    judgement.tell(outcome);
    // A kill while it starts leaves nothing to acknowledge.
    outcome.invalid.truncate(invalid);
    outcome.count("kills before the first acknowledgement", usize::from(acknowledged == 0));
    Ok(())
}

/// Whether it died on the way, while it started or during the script.
async fn played(rig: &Rig) -> anyhow::Result<bool> {
    let mut product = match rig.setup.start().await {
        Ok(product) => product,
        Err(error) => match error.downcast_ref::<Ended>() {
            Some(ended) => return Ok(was_killed(ended.status)),
            None => return Err(error),
        },
    };
    let Ok(path) = rig.setup.hook_path() else { return gone(&mut product.process).await };
    script::play(rig, product.hooks, &path, &mut product.process, 2 * EVENTS).await?;
    gone(&mut product.process).await
}

/// Whether it ended by that signal.
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(SIGKILL)
}

/// Whether it was killed by now; one that was not is killed, which does not count.
pub async fn gone(process: &mut Process) -> anyhow::Result<bool> {
    let begun = Instant::now();
    while begun.elapsed() < GONE_WITHIN {
        if let Some(status) = process.ended()? {
            return Ok(was_killed(status));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    process.kill()?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_over_all_calls_and_moves_with_the_seed() {
        assert!(spread(100, usize::MAX, 7).eq(1..=100) && spread(1, 9, 999).eq(1..=1));
        let some: Vec<usize> = spread(100, 10, 7).collect();
        assert_eq!(some.len(), 10);
        assert!(some.windows(2).all(|pair| pair[1] - pair[0] == 10));
        assert!(!spread(100, 10, 500).eq(some));
    }
}
