//! F6: PostgreSQL has a synchronous standby. The server is killed under load, with all its processes, and the standby takes its
//! place. Every call is answered ok and arrives, once: what was committed is on both, and what was not is told by our own ids.

use std::time::{Duration, Instant};

use anyhow::Context;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    lab::Lab,
    postgres::{SENDERS, answered_and_delivered, recovered},
    postmaster,
    report::Outcome,
    rig::{Plan, Rig},
    way::Way,
};
use crate::postgres::{self, TestDatabase};

/// Longest random wait between an acknowledgement and the kill.
const AFTER_MS_MAX: u64 = 500;

/// So many failovers, each to a fresh standby of the server before.
pub async fn run(lab: &Lab, plan: Plan, failovers: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome { missing_tool: postgres::missing(), ..Outcome::default() };
    if outcome.missing_tool.is_some() {
        return Ok(outcome);
    }
    let mut randomness = StdRng::seed_from_u64(lab.seed);
    let mut database = TestDatabase::alone();
    let way = Way::to(database.server()).await?;
    let mut rig = Rig::new(Plan { senders: SENDERS, ..plan.on(&database) }).await?;
    rig.setup = rig.setup.with("SHEAF_DATABASE", &way.url(&database)?);
    let product = rig.start().await?;
    rig.aim(&product)?;
    let mut longest = Duration::ZERO;
    for _ in 0..failovers {
        let standby = tokio::task::block_in_place(|| database.standby()).context("a standby")?;
        let before = product.metric("sheaf_spooled_total").await?;
        let struck = rig.ripe(Duration::from_millis(randomness.random_range(0..=AFTER_MS_MAX))).await;
        tokio::task::block_in_place(|| postmaster::kill_hard(database.server()))?;
        let begun = Instant::now();
        tokio::task::block_in_place(|| standby.server().promote())?;
        way.lead_to(standby.server());
        recovered(&product).await.context("after the failover")?;
        longest = longest.max(begun.elapsed());
        let kept = product.metric("sheaf_spooled_total").await? - before;
        outcome.count("kept in the spool", kept);
        outcome.cycle(
            format!("failover: {} in flight, {kept} kept in the spool", struck.in_flight),
            struck.bit(),
        );
        database = standby;
    }
    rig.ripe(Duration::ZERO).await;
    outcome.figure("longest failover, s", longest.as_secs_f64());
    answered_and_delivered(rig, &product, &mut outcome).await?;
    drop((product, database));
    Ok(outcome)
}
