//! F7: one of two nodes on a PostgreSQL dies, or is cut from the database but not from its vendors. The other takes its runs
//! when their lease ends; what the first had in hand may come twice, never more of it than it had slots.

use std::time::{Duration, Instant};

use anyhow::ensure;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    judge::Rules,
    lab::Lab,
    ledger::Entry,
    report::Outcome,
    rig::{Plan, Rig, SENDERS, SLOTS, Struck},
    way::Way,
};
use crate::{
    clock::unix_ns,
    postgres::{self, TestDatabase},
    product::{Product, Setup},
};

/// The lease of both nodes.
pub const LEASE: Duration = Duration::from_secs(2);
/// How long after the lease another node has taken the runs and finished them: it looks once a second.
const SWEEP: Duration = Duration::from_secs(4);
/// Longest random wait between an acknowledgement and the fault.
const AFTER_MS_MAX: u64 = 150;
/// Deliveries that were in hand at a cut or a kill are read within this time; far less than the lease.
const IN_HAND: Duration = Duration::from_millis(500);
/// How long a node is cut off: its lease ends, and the other has finished its runs.
const CUT: Duration = Duration::from_secs(5);
/// Longest time until a node that was cut off has told the database everything.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often something is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Kills and cuts, in turns.
pub async fn run(lab: &Lab, plan: Plan, cycles: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome { missing_tool: postgres::missing(), ..Outcome::default() };
    if outcome.missing_tool.is_some() {
        return Ok(outcome);
    }
    let mut randomness = StdRng::seed_from_u64(lab.seed);
    let database = TestDatabase::new();
    let way = Way::to(database.server()).await?;
    let rig = Rig::new(Plan { senders: SENDERS, ..plan.on(&database) }).await?;
    let behind = Setup { data: rig.folder().join("first-data"), ..rig.setup.clone() };
    let behind = behind.with("SHEAF_DATABASE", &way.url(&database)?);
    let other = rig.start().await?;
    let mut first = behind.start().await?;
    for number in 0..cycles {
        rig.aim(&first)?;
        let struck = rig.ripe(Duration::from_millis(randomness.random_range(0..=AFTER_MS_MAX))).await;
        if number % 2 == 0 {
            kill(&rig, &mut first, number).await?;
            taken_over(&rig, &mut outcome).await?;
            outcome.cycle(format!("killed: {} in flight", struck.in_flight), struck.bit());
            first = behind.start().await?;
        } else {
            cut(&rig, &way, &first, number, struck, &mut outcome).await?;
        }
    }
    rig.aim(&other)?;
    rig.ripe(Duration::ZERO).await;
    rig.finish(Rules { concurrency: SLOTS, ..Rules::default() }).await?.tell(&mut outcome);
    drop((first, other));
    Ok(outcome)
}

/// Kills a node. What it had sent is read before the other may take its runs; the other's connections, which stay open
/// for a while, are not waited for: it would take over meanwhile, and its deliveries would look like the dead one's.
async fn kill(rig: &Rig, node: &mut Product, number: usize) -> anyhow::Result<()> {
    rig.hold();
    node.process.kill()?;
    tokio::time::sleep(IN_HAND).await;
    rig.pen().write(Entry::Killed(number, unix_ns()));
    Ok(())
}

/// The other finishes what the dead one had, soon after its lease.
async fn taken_over(rig: &Rig, outcome: &mut Outcome) -> anyhow::Result<()> {
    let begun = Instant::now();
    while rig.pending(false)? > 0 && begun.elapsed() < LEASE + SWEEP + PATIENCE {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let took = begun.elapsed();
    outcome.expect(took < LEASE + SWEEP, || format!("it took {} ms to take over", took.as_millis()));
    let longest = outcome.figures.get("longest takeover, ms").copied().unwrap_or(0.0);
    outcome.figure("longest takeover, ms", longest.max(took.as_secs_f64() * 1_000.0));
    Ok(())
}

/// Cut off it takes calls all the same; they are in the database soon after.
async fn cut(
    rig: &Rig,
    way: &Way,
    first: &Product,
    number: usize,
    struck: Struck,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let (kept, stale) =
        (first.metric("sheaf_spooled_total").await?, first.metric("sheaf_queue_stale_total").await?);
    way.cut();
    tokio::time::sleep(IN_HAND).await;
    rig.pen().write(Entry::Killed(number, unix_ns()));
    tokio::time::sleep(CUT).await;
    way.open();
    let begun = Instant::now();
    while first.metric("sheaf_queue_ready").await? == 0 || first.metric("sheaf_spool_bytes").await? > 0 {
        ensure!(begun.elapsed() < PATIENCE, "the spool was not emptied in {} s", PATIENCE.as_secs());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let kept = first.metric("sheaf_spooled_total").await? - kept;
    let stale = first.metric("sheaf_queue_stale_total").await? - stale;
    outcome.count("kept in the spool", kept);
    outcome.count("stale settles refused", stale);
    let fault = format!("cut off: {} in flight, {kept} kept, {stale} settles were stale", struck.in_flight);
    outcome.cycle(fault, struck.bit() && kept > 0);
    Ok(())
}
