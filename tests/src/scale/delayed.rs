//! P7: a million delayed events cost the ready path little, keep their times over a restart, and are no flood it drowns in.
//!
//! They come in as webhooks of a campaign whose bundle waits a day. That they are all due at once is the harness's doing: it
//! moves their times in the file while the server is down.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{
    duplicates::STUCK,
    lab::{Lab, tell},
    pairs::{self, Compared},
    snapshot::Snapshot,
    volume,
};
use crate::{
    clock::unix_ns,
    faults::{equations, report::Outcome},
    load::{self, Load, Pace, Template},
    product::{Product, Setup},
    sink::Sink,
};

/// The least speed beside delayed events, as a share of an empty queue's.
const SHARE_MIN: f64 = 0.8;
/// The slowest drain when all are due at once, events a second.
const DRAIN_PER_S_MIN: f64 = 2_000.0;
/// Longest time until a server with all of them in its queue is ready.
const READY_MAX: Duration = Duration::from_secs(5);
/// The campaign that waits, and for how long.
const CAMPAIGN: &str = "later";
const DELAY: &str = "24h";
/// Runs due later than this from now are the delayed ones, milliseconds.
const LATER_MS: i64 = 60 * 60 * 1_000;
/// From the start of the last server until all are due: it is ready by then.
const DUE_IN: Duration = Duration::from_secs(10);
/// How long the load runs during which the server is killed, and when that happens.
const KILL_LOAD: Duration = Duration::from_secs(4);
const KILL_AFTER: Duration = Duration::from_secs(2);
/// Longest time until what a killed server had in hand is delivered: its lease is the new one's to end.
const SETTLED: Duration = Duration::from_secs(60);

/// So many delayed events.
pub async fn run(lab: &Lab, events: usize, outcome: &mut Outcome) -> anyhow::Result<()> {
    let folder = lab.folder()?;
    let sink = lab.sink(Duration::ZERO).await?;
    let fresh = |folder: &Path| {
        let setup = Setup::fresh(&lab.sheaf, folder, sink.origin())?;
        write_files(&setup.directory)?;
        anyhow::Ok(setup)
    };
    let setup = fresh(folder.path())?;
    let delayed = fill(lab, &setup, events, outcome).await?;
    ensure!(sink.unique() == 0, "{} delayed events were delivered at once", sink.unique());
    let compared = Compared { what: "beside delayed", this: &setup, fresh: &fresh, share_min: SHARE_MIN };
    pairs::compare(lab, &sink, &compared, outcome).await?;

    let product = setup.start().await?;
    let later_ms = unix_ns() / 1_000_000 + LATER_MS;
    let snapshot = Snapshot::take(&setup.data, later_ms, folder.path().join("due.db")).await?;
    outcome.expect(snapshot.runs == delayed.len() as u64, || {
        format!("{} runs are delayed, {} were acknowledged", snapshot.runs, delayed.len())
    });
    let product = killed(lab, &setup, product, &sink, outcome).await?;
    let changed = snapshot.changed().await?;
    outcome.figure("due times that a restart changed", changed as f64);
    outcome.expect(changed == 0, || format!("{changed} due times are not what they were before the restart"));
    ready_in_time(&product, outcome);
    drop(product);
    all_at_once(&setup, snapshot, &sink, &delayed, outcome).await?;
    Ok(())
}

/// The usual bundle of known visitors leaves that campaign to one that waits.
fn write_files(directory: &Path) -> anyhow::Result<()> {
    const KNOWN: &str = "filter: sessionId is not empty";
    const NOW: &str = "delay: 0m";
    let bundle = directory.join("bundles/mindbox-dynamic.yaml");
    let text = fs::read_to_string(&bundle)?;
    ensure!(text.contains(KNOWN) && text.contains(NOW), "the example's bundle reads otherwise");
    let later = text
        .replace("name: mindbox-dynamic", "name: mindbox-later")
        .replace(NOW, &format!("delay: {DELAY}"))
        .replace(KNOWN, &format!("{KNOWN} and utm_campaign = \"{CAMPAIGN}\""));
    fs::write(directory.join("bundles/mindbox-later.yaml"), later)?;
    fs::write(bundle, text.replace(KNOWN, &format!("{KNOWN} and utm_campaign != \"{CAMPAIGN}\"")))?;
    Ok(())
}

/// The ids of the delayed events.
async fn fill(lab: &Lab, setup: &Setup, events: usize, outcome: &mut Outcome) -> anyhow::Result<Vec<i64>> {
    let product = setup.start().await?;
    let template = Template::call_of_campaign(product.hooks, &setup.hook_path()?, CAMPAIGN);
    let sent = volume::send(&lab.load(product.hooks, [template].into()), events).await?;
    let ledger = equations::read(&setup.ledger(true)?)?;
    equations::check(&ledger)?;
    let pending: u64 = ledger.connections.iter().map(|it| it.pending).sum();
    outcome.figure("delayed events", sent.acknowledged.len() as f64);
    outcome.figure("delayed events taken/s", sent.per_second());
    outcome.expect(pending == sent.acknowledged.len() as u64, || {
        format!("{pending} are pending, {} were acknowledged", sent.acknowledged.len())
    });
    tell(&format!("{} are delayed, taken at {:.0}/s", sent.acknowledged.len(), sent.per_second()));
    Ok(sent.acknowledged)
}

/// A kill -9 under load, and the next server, which delivers what the first had answered.
async fn killed(
    lab: &Lab,
    setup: &Setup,
    mut product: Product,
    sink: &Sink,
    outcome: &mut Outcome,
) -> anyhow::Result<Product> {
    sink.reset();
    let load = lab.load(product.hooks, load::calls(product.hooks, &setup.hook_path()?));
    let load = Load { duration: KILL_LOAD, pace: Pace::Open { per_second: 500.0 }, ..load };
    let sending = tokio::spawn(load.run());
    tokio::time::sleep(KILL_AFTER).await;
    product.process.kill()?;
    let sent = sending.await?;
    let next = setup.start().await?;
    volume::arrived(sink, &sent.acknowledged, SETTLED).await;
    let missing = sink.missing(&sent.acknowledged);
    outcome.cycle(
        format!("kill -9: {} acknowledged, {} not", sent.acknowledged.len(), sent.unanswered + sent.refused),
        !sent.acknowledged.is_empty() && sent.unanswered > 0,
    );
    outcome.expect(missing == 0, || format!("{missing} acknowledged before the kill are missing"));
    Ok(next)
}

fn ready_in_time(product: &Product, outcome: &mut Outcome) {
    let took = product.ready_after;
    let name = "ready after a kill with all of them pending, ms";
    let longest = outcome.figures.get(name).copied().unwrap_or(0.0);
    outcome.figure(name, longest.max(took.as_secs_f64() * 1_000.0));
    outcome.expect_speed(took < READY_MAX, || format!("ready only after {} ms", took.as_millis()));
}

/// All of them are due at the same moment, and come, once.
async fn all_at_once(
    setup: &Setup,
    snapshot: Snapshot,
    sink: &Arc<Sink>,
    delayed: &[i64],
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    sink.reset();
    let due_ms = unix_ns() / 1_000_000 + i64::try_from(DUE_IN.as_millis())?;
    let (begun, moved) = (Instant::now(), snapshot.make_due(due_ms).await?);
    snapshot.close().await?;
    tell(&format!("{moved} are due at once, moved in {:.1} s", begun.elapsed().as_secs_f64()));
    sink.expect_none_before(due_ms * 1_000_000);
    let product = setup.start().await?;
    ready_in_time(&product, outcome);
    let wait_ms = due_ms - unix_ns() / 1_000_000;
    tokio::time::sleep(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0))).await;
    volume::arrived(sink, delayed, STUCK).await;
    let seconds = (sink.last_ns() - due_ms * 1_000_000) as f64 / 1e9;
    let (missing, repeats) = (sink.missing(delayed), sink.repeats());
    let per_second = sink.unique() as f64 / seconds;
    outcome.figure("all due at once: events/s", per_second);
    outcome.figure("all due at once: drained after, s", seconds);
    outcome.figure("all due at once: memory at most, MiB", product.process.memory_kib()?.1 as f64 / 1024.0);
    let early = sink.early();
    outcome.expect(early == 0, || format!("{early} came before they were due"));
    outcome.expect(missing == 0, || format!("{missing} delayed events are missing"));
    outcome.expect(repeats == 0, || format!("{repeats} delayed events came twice"));
    outcome.expect_speed(per_second >= DRAIN_PER_S_MIN, || {
        format!("all due at once drain at {per_second:.0}/s, wanted {DRAIN_PER_S_MIN:.0}")
    });
    outcome.cycle(format!("{moved} due at once"), moved as usize == delayed.len());
    equations::drained(setup, SETTLED).await.context("after the drain")?;
    Ok(())
}
