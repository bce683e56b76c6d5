//! F6: the PostgreSQL that nodes share is hurt under load. Every call is answered ok, from the spool where the database does
//! not commit, and arrives once: no process died and no lease was lost, so nothing explains a repeat.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection};

use super::{
    judge::Rules,
    lab::Lab,
    postmaster,
    report::Outcome,
    rig::{Plan, Rig},
};
use crate::{
    postgres::{self, TestDatabase},
    product::Product,
};

/// Senders: a spool takes calls faster than the product delivers them, and what is kept has to be delivered in the end.
pub const SENDERS: usize = 4;
/// Longest random wait between an acknowledgement and the fault.
const AFTER_MS_MAX: u64 = 150;
/// Longest random time from a kill to the next start.
const DOWN_MS_MAX: u64 = 1_000;
/// How long the server stands still, or has no connection left: longer than a request waits for a commit.
const STILL: Duration = Duration::from_secs(3);
/// How long it is away in a short run.
const AWAY_SHORT: Duration = Duration::from_secs(8);
/// How long it is away in a long run.
const AWAY_LONG: Duration = Duration::from_secs(60);
/// Longest time until everything kept meanwhile is in the database.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest time for one connection of the crowd.
const CONNECT_WITHIN: Duration = Duration::from_millis(200);
/// Ends every session but the crowd's own, so that whoever had one has to ask for another.
const END_OTHERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                          WHERE backend_type = 'client backend' AND application_name <> 'crowd'";

/// What happens to it.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// All its processes are killed, and it is started some time later.
    Killed(Duration),
    /// All its processes stand still for a while: nothing is refused, nothing answered.
    Still,
    /// Others have all its connections for a while.
    Crowded,
    /// It is killed, and away for so long.
    Away(Duration),
}

/// Kills it so often. The first time it is away as long as it may be, so that however few the kills are, requests go to the
/// spool.
pub async fn kills(lab: &Lab, plan: Plan, kills: usize) -> anyhow::Result<Outcome> {
    let mut randomness = StdRng::seed_from_u64(lab.seed);
    let down = |round| match round {
        0 => DOWN_MS_MAX,
        _ => randomness.random_range(0..=DOWN_MS_MAX),
    };
    run(lab, plan, (0..kills).map(down).map(Duration::from_millis).map(Fault::Killed)).await
}

/// Everything else, in turns.
pub async fn away(lab: &Lab, plan: Plan, cycles: usize) -> anyhow::Result<Outcome> {
    let time = |round: usize| if round == 0 { AWAY_SHORT } else { AWAY_LONG };
    let faults = (0..).flat_map(|round| [Fault::Still, Fault::Crowded, Fault::Away(time(round))]);
    run(lab, plan, faults.take(cycles)).await
}

async fn run(lab: &Lab, plan: Plan, faults: impl Iterator<Item = Fault>) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome { missing_tool: postgres::missing(), ..Outcome::default() };
    if outcome.missing_tool.is_some() {
        return Ok(outcome);
    }
    let mut randomness = StdRng::seed_from_u64(lab.seed);
    let database = TestDatabase::alone();
    let rig = Rig::new(Plan { senders: SENDERS, ..plan.on(&database) }).await?;
    let product = rig.start().await?;
    rig.aim(&product)?;
    let mut longest = Duration::ZERO;
    for fault in faults {
        let before = number(&product, "sheaf_spooled_total").await?;
        let after = Duration::from_millis(randomness.random_range(0..=AFTER_MS_MAX));
        let struck = rig.ripe(after).await;
        hurt(fault, &database).await.with_context(|| format!("{fault:?}"))?;
        let begun = Instant::now();
        recovered(&product).await.with_context(|| format!("{fault:?}"))?;
        longest = longest.max(begun.elapsed());
        let kept = number(&product, "sheaf_spooled_total").await? - before;
        outcome.count("kept in the spool", kept);
        outcome.cycle(
            format!("{fault:?}: {} in flight, {kept} kept in the spool", struck.in_flight),
            struck.bit() && (kept > 0 || matches!(fault, Fault::Killed(_))),
        );
    }
    // A short absence may be over before a request goes to the spool; not all of them are.
    if outcome.figures.get("kept in the spool").is_none_or(|kept| *kept == 0.0) {
        outcome.invalid.push("nothing was kept in the spool".to_owned());
    }
    outcome.figure("longest until all of it was in the database, s", longest.as_secs_f64());
    answered_and_delivered(rig, &product, &mut outcome).await?;
    drop(product);
    Ok(outcome)
}

async fn hurt(fault: Fault, database: &TestDatabase) -> anyhow::Result<()> {
    let server = database.server();
    match fault {
        Fault::Killed(down) | Fault::Away(down) => {
            tokio::task::block_in_place(|| postmaster::kill_hard(server))?;
            tokio::time::sleep(down).await;
            tokio::task::block_in_place(|| server.start())?;
        }
        Fault::Still => {
            postmaster::stand_still(server)?;
            tokio::time::sleep(STILL).await;
            postmaster::go_on(server)?;
        }
        Fault::Crowded => crowd(&database.url()).await?,
    }
    Ok(())
}

/// Takes every connection there is, and each that another gives up.
async fn crowd(url: &str) -> anyhow::Result<()> {
    let mut options = ConnectOptions::new(format!("{url}?application_name=crowd"));
    options.max_connections(1).connect_timeout(CONNECT_WITHIN).acquire_timeout(CONNECT_WITHIN);
    options.sqlx_logging(false);
    let mut held: Vec<DatabaseConnection> = Vec::new();
    let mut full_since = None;
    while full_since.is_none_or(|since: Instant| since.elapsed() < STILL) {
        match Database::connect(options.clone()).await {
            Ok(connection) => held.push(connection),
            Err(_) => {
                full_since.get_or_insert_with(Instant::now);
                let first = held.first().context("not one connection was to be had")?;
                first.execute_unprepared(END_OTHERS).await?;
            }
        }
    }
    for connection in held {
        connection.close().await?;
    }
    Ok(())
}

/// Ends the load: every call was answered ok, and arrived once.
pub async fn answered_and_delivered(
    rig: Rig,
    product: &Product,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    rig.end_load().await?;
    recovered(product).await?;
    let judgement = rig.finish(Rules::default()).await?;
    judgement.tell(outcome);
    let (refused, unknown) = (judgement.refused, judgement.unknown);
    outcome
        .expect(refused + unknown == 0, || format!("{refused} calls were refused, {unknown} not answered"));
    Ok(())
}

/// Waits until it commits again and all that was kept meanwhile is in the database; calls keep coming.
pub async fn recovered(product: &Product) -> anyhow::Result<()> {
    let begun = Instant::now();
    while number(product, "sheaf_queue_ready").await? == 0 || number(product, "sheaf_spool_bytes").await? > 0
    {
        ensure!(begun.elapsed() < PATIENCE, "the spool was not emptied in {} s", PATIENCE.as_secs());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

async fn number(product: &Product, metric: &str) -> anyhow::Result<usize> {
    let page = product.metrics().await?;
    let value = page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    Ok(value.with_context(|| metric.to_owned())?.parse()?)
}
