//! The queue alone, beside ceiling (b)'s plain store: what one event costs from publish to settle, without HTTP.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, bail};
use axum::body::Bytes;
use clap::{Parser, ValueEnum};
use sheaf_bundles::{
    artefact::Artefact,
    event::{Event, Received},
    id::{EventId, VersionId},
    value::Map,
    verdict::Class,
};
use sheaf_runtime::{
    clock::Clock,
    queue::{
        Claims, LEASE_MS, Queue, Settings,
        delivery::{Answer, DeliveryRecord, SentRequest},
        gate::{GateId, GateKind},
        types::{Accepted, Content, Decision, NewVersion, Outcome, Publish, Published, Settle, Verdict},
    },
    storage::database::Database,
};
use sheaf_tests::{
    calltouch::{Moment, Payload, Spaces},
    ceiling::store::Store,
    process::own_usage,
};
use tokio::task::JoinSet;

/// Runs in flight at once.
const SLOTS: usize = 256;

#[derive(Parser)]
struct Options {
    /// What to measure.
    what: What,
    /// Events in all.
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Publishers at once, each waiting for its answer.
    #[arg(long, default_value_t = 128)]
    waiting: u64,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum What {
    /// The product's queue.
    Queue,
    /// A body row and a done flag.
    Plain,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bench.db");
    let body = Payload::call(Moment::CallEnded, 1).encode(Spaces::Percent).into_bytes();
    let before = own_usage()?;
    let begun = Instant::now();
    let commits = match options.what {
        What::Queue => queue(&options, &file, &body).await?,
        What::Plain => plain(&options, &file, &body).await?,
    };
    let seconds = begun.elapsed().as_secs_f64();
    let after = own_usage()?;
    let events = options.events as f64;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!(
        "{:?}: {:.0} events/s, {:.1} us CPU per event, {:.2} bytes written per byte of body ({} bytes), {:.1} events per commit, {peak}",
        options.what,
        events / seconds,
        (after.cpu_s - before.cpu_s) / events * 1e6,
        (after.written_bytes - before.written_bytes) as f64 / events / body.len() as f64,
        body.len(),
        events / commits as f64,
    );
    Ok(())
}

async fn queue(options: &Options, file: &std::path::Path, body: &[u8]) -> anyhow::Result<u64> {
    let database = Database::File(file.to_owned());
    let settings = Settings { database, slots: SLOTS, lease_ms: LEASE_MS, clock: Clock::system() };
    let (queue, claims) = Queue::serve(settings).await?;
    let version = |name: &str, hash| NewVersion {
        bundle: name.to_owned(),
        connection: "calls".into(),
        through: GateId::of(GateKind::Connection, "crm"),
        artefact: Artefact::stored(vec![hash], Vec::new()),
    };
    let active = queue.activate(vec![version("dynamic", 1), version("static", 2)]).await?;
    let settling = tokio::spawn(settle_all(claims, options.events));
    let versions: Arc<[VersionId]> = active.versions.into();
    let mut publishing = JoinSet::new();
    for publisher in 0..options.waiting {
        let (queue, body, versions) = (queue.clone(), body.to_vec(), versions.clone());
        let (events, waiting, epoch) = (options.events, options.waiting, active.epoch);
        publishing.spawn(async move {
            for id in (publisher..events).step_by(usize::try_from(waiting)?) {
                match queue.publish(event(id, epoch, &body, &versions)).await? {
                    Published::Accepted { .. } => {}
                    other => bail!("a new event was not accepted: {other:?}"),
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = publishing.join_next().await {
        ended??;
    }
    settling.await?;
    queue.flush().await?;
    let ledger = queue.store().ledger().await?;
    let line = ledger.first().context("a connection")?;
    anyhow::ensure!(line.delivered == i64::try_from(options.events)?, "{line:?}");
    anyhow::ensure!(queue.store().verify_ledger().await?.is_empty(), "the ledger differs from the rows");
    Ok(queue.stats().commits)
}

async fn settle_all(mut claims: Claims, events: u64) {
    for _ in 0..events {
        let Some(claim) = claims.recv().await else { return };
        let delivery = DeliveryRecord {
            step: "send".to_owned(),
            started_ms: 1_772_694_930_000,
            took_ms: 5,
            request: SentRequest::Hash("ab".repeat(32)),
            answer: Answer::Response { status: 200, body: None },
            class: Class::Ok,
            message: None,
        };
        let started_ms = 1_772_694_930_000;
        let deliveries = vec![delivery];
        claim.settle(Settle { outcome: Outcome::Delivered, started_ms, deliveries, contact: None });
    }
}

fn event(id: u64, epoch: u64, body: &[u8], versions: &[VersionId]) -> Publish {
    /// Spreads ids over the whole word, as a hash would.
    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
    let received_ms = 1_772_694_930_000;
    let received = Received {
        method: "POST".into(),
        query: "".into(),
        headers: vec![("content-type".into(), "application/x-www-form-urlencoded".into())],
        body: body.to_vec(),
        source: None,
        received_ms,
    };
    let hash = id.wrapping_add(1).wrapping_mul(SPREAD);
    let event = Event { id: EventId(0), connection: "calls".into(), received_ms, fields: Map::default() };
    let through = GateId::of(GateKind::Connection, "crm");
    let decisions = vec![
        Decision { version: versions[0], through, verdict: Verdict::Take { due_ms: 0 } },
        Decision { version: versions[1], through, verdict: Verdict::Filtered },
    ];
    let content =
        Content::Event(Accepted { epoch, dedupe: Some([hash, hash.rotate_left(32)]), event, decisions });
    Publish { connection: Arc::from("calls"), received, content }
}

async fn plain(options: &Options, file: &std::path::Path, body: &[u8]) -> anyhow::Result<u64> {
    let store = Store::open(file).await?;
    let body = Bytes::copy_from_slice(body);
    let mut publishing = JoinSet::new();
    for publisher in 0..options.waiting {
        let (store, body) = (store.clone(), body.clone());
        let (events, waiting) = (options.events, options.waiting);
        publishing.spawn(async move {
            for _ in (publisher..events).step_by(usize::try_from(waiting)?) {
                let row = store.append(body.clone()).await.context("not stored")?;
                store.done(row).await;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = publishing.join_next().await {
        ended??;
    }
    let [(_, commits), ..] = store.counted();
    Ok(commits)
}
