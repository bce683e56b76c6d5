//! F12: one vendor takes every request and answers none, and more and more runs gather behind it; the calls of a hundred
//! others do not notice. Then it answers again, and gets all of them, once.
//!
//! `scale dead-vendor` measures the same at size, with vendors that are dead in other ways.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    equations,
    report::Outcome,
    rig::{Plan, SENDERS},
    vendor,
};
use crate::{
    bench::{Drained, arrived, drained},
    load::{Load, Pace, Template},
    product::Setup,
    scale::pairs::nothing_lost,
    sink::Sink,
    wire::{Reply, Server},
};

/// Vendors that are well, and their calls a second, all together.
const HEALTHY: usize = 100;
const HEALTHY_PER_S: f64 = 100.0;
/// How long they are looked at.
const LOOK: Duration = Duration::from_millis(700);
/// How long more calls for the dead one are sent before each look, as many as are taken.
const GATHER: Duration = Duration::from_millis(300);
/// How long a request waits for an answer. Who waits for a slot of the dead one waits for that: for some looks, until its
/// breaker opens.
const TIMEOUT: &str = "timeout: 3s";
/// Under this a median says more about a busy machine than about the product, milliseconds.
const NOISE_MS: f64 = 250.0;
/// What the connections are sent to in production.
const ORIGINS: [&str; 2] = ["https://dead.example", "https://healthy.example"];
/// The campaign of the dead one's calls.
const DEAD: &str = "dead";
/// When nothing has come to it for so long, it has all it will get: it is asked once a minute whether it is well.
const STUCK: Duration = Duration::from_secs(90);
/// How long a drain may take once everything has arrived.
const DRAIN: Duration = Duration::from_secs(60);

/// So many times more behind it.
pub async fn run(plan: Plan, cycles: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let folder = tempfile::Builder::new().prefix("dead-").tempdir_in(&plan.data_root)?;
    let (healthy, got) = (Sink::start().await?, Arc::new(Sink::start().await?));
    let is_dead = Arc::new(AtomicBool::new(true));
    let dead = dead(Arc::clone(&is_dead), Arc::clone(&got)).await?;
    let origins = [dead.origin(), healthy.origin()];
    let overrides: Vec<String> =
        ORIGINS.iter().zip(origins).map(|(from, to)| format!("{from}={to}")).collect();
    let setup =
        plan.with("SHEAF_EGRESS_OVERRIDE", overrides.join(",")).setup(folder.path(), String::new())?;
    write_files(&setup)?;
    let product = setup.start().await?;
    let path = setup.hook_path()?;
    let load = |campaigns: Vec<String>, pace, duration| Load {
        address: product.hooks,
        templates: campaigns.iter().map(|it| Template::call_of_campaign(product.hooks, &path, it)).collect(),
        connections: SENDERS,
        pace,
        duration,
    };
    let others = load((0..HEALTHY).map(well).collect(), Pace::Open { per_second: HEALTHY_PER_S }, LOOK);

    let usual = drained(others.clone(), &healthy).await?;
    let mut behind = Vec::new();
    for _ in 0..cycles {
        behind.extend(load(vec![DEAD.to_owned()], Pace::Closed, GATHER).run().await.acknowledged);
        let beside = drained(others.clone(), &healthy).await?;
        judge(&usual, &beside, behind.len(), &mut outcome);
        let waiting = pending(&setup)?;
        outcome.cycle(
            format!("{waiting} runs wait, {} of them behind the dead one", behind.len()),
            !behind.is_empty() && waiting >= behind.len() && got.unique() == 0,
        );
    }
    is_dead.store(false, Ordering::Relaxed);
    arrived(&got, &behind, STUCK).await;
    equations::drained(&setup, DRAIN).await?;
    let missing = got.missing(&behind);
    outcome.count("acknowledged for the dead one", behind.len());
    outcome.count("missing at the dead one, back again", missing);
    outcome.expect(missing == 0, || format!("{missing} acknowledged never came to the vendor that was dead"));
    outcome.expect(got.repeats() == 0, || format!("{} came to it again", got.repeats()));
    Ok(outcome)
}

/// The others' calls took no longer than usual, and none is missing.
fn judge(usual: &Drained, beside: &Drained, behind: usize, outcome: &mut Outcome) {
    const LONGEST: &str = "others' longest median beside the dead one, ms";
    let (usual_ms, beside_ms) = (usual.end_to_end.p50_ms, beside.end_to_end.p50_ms);
    let longest_ms = outcome.figures.get(LONGEST).copied().unwrap_or(0.0);
    outcome.figure("others' usual median, ms", usual_ms);
    outcome.figure(LONGEST, longest_ms.max(beside_ms));
    nothing_lost(beside, outcome);
    outcome.expect(beside_ms < (2.0 * usual_ms).max(NOISE_MS), || {
        format!("beside {behind} dead runs the others' median went from {usual_ms:.1} to {beside_ms:.1} ms")
    });
}

fn well(number: usize) -> String {
    format!("healthy-{number}")
}

/// A vendor that answers nothing until it does.
async fn dead(is_dead: Arc<AtomicBool>, got: Arc<Sink>) -> anyhow::Result<Server> {
    let server = Server::start(move |message| {
        let reply = (!is_dead.load(Ordering::Relaxed)).then(|| got.take(&message.body));
        async move {
            match reply {
                Some(reply) => reply,
                None => std::future::pending::<Reply>().await,
            }
        }
    });
    Ok(server.await?)
}

/// Every vendor has a connection and a bundle that takes the campaign of its name.
fn write_files(setup: &Setup) -> anyhow::Result<()> {
    let [dead, healthy] = ORIGINS.map(|origin| format!("settings: {{base_url: '{origin}'}}"));
    let others = (0..HEALTHY).map(|number| (well(number), healthy.clone()));
    vendor::write_files(&setup.directory, [(DEAD.to_owned(), dead)].into_iter().chain(others))?;
    let connector = setup.directory.join("connectors/sick/connector.yaml");
    let text = fs::read_to_string(&connector)?;
    Ok(fs::write(connector, text.replace("timeout: 2s", TIMEOUT))?)
}

fn pending(setup: &Setup) -> anyhow::Result<usize> {
    let ledger = equations::read(&setup.ledger(false)?)?;
    equations::check(&ledger)?;
    Ok(usize::try_from(ledger.connections.iter().map(|it| it.pending).sum::<u64>())?)
}
