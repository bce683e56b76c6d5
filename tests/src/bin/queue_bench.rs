//! The queue alone, beside a plain store: what one event costs from publish to settle, without HTTP.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use axum::body::Bytes;
use clap::{Parser, ValueEnum};
use sheaf_bundles::{
    artefact::Artefact,
    event::{Event, Received},
    hook::DEDUPE_WINDOW_MS_MAX,
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
        types::{
            Accepted, Contacts, Content, Decision, NewVersion, Outcome, Publish, Published, Settle, Verdict,
        },
    },
    storage::database::Database,
};
use sheaf_tests::{
    bench::databases::fill,
    calltouch::{Moment, Payload, Spaces},
    ceiling::{self, store::Store},
    postgres::{TestDatabase, missing},
    process::own_usage,
};
use tokio::task::JoinSet;

/// Where the events come from.
const CONNECTION: &str = "calls";
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
    /// Of PostgreSQL: the queue and the plain store in turns, so often.
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// Of PostgreSQL: runs that are in both already.
    #[arg(long, default_value_t = 0)]
    filled: u64,
    /// Where databases are made; a real disk.
    #[arg(long, default_value = "target")]
    data_root: PathBuf,
}

#[derive(Clone, Copy, PartialEq, ValueEnum, Debug)]
enum What {
    /// The product's queue.
    Queue,
    /// A body row and a done flag.
    Plain,
    /// The product's queue on PostgreSQL beside batched publish and settle, on a server of its own.
    Postgres,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if options.what == What::Postgres {
        return postgres_pairs(&options).await;
    }
    let folder = tempfile::tempdir_in(&options.data_root)?;
    let file = folder.path().join("bench.db");
    let body = Payload::call(Moment::CallEnded, 1).encode(Spaces::Percent).into_bytes();
    let before = own_usage()?;
    let begun = Instant::now();
    let commits = match options.what {
        What::Queue => queue(&options, Database::File(file), &body, || {}).await?.1,
        What::Plain | What::Postgres => plain(&options, ceiling::sqlite::open(&file).await?, &body).await?.1,
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

/// The product's queue and its ceiling in turns, each on a database of its own; the ratio of each pair.
async fn postgres_pairs(options: &Options) -> anyhow::Result<()> {
    let body = Payload::call(Moment::CallEnded, 1).encode(Spaces::Percent).into_bytes();
    ensure!(missing().is_none(), "PostgreSQL is not installed; `make postgres` installs it");
    let server = TestDatabase::measured(&options.data_root);
    let events = options.events as f64;
    let mut ratios = Vec::new();
    for pair in 1..=options.pairs {
        let (folder, database) = (tempfile::tempdir()?, server.beside());
        let place = Database::of(Some(&database.url().parse()?), folder.path().to_owned());
        let fill = || fill(&database, CONNECTION, options.filled);
        let (took, commits) = queue(options, place, &body, fill).await?;
        let queue = events / took.as_secs_f64();
        drop(database);
        let database = server.beside();
        ceiling::postgres::fill(&database.url(), options.filled).await?;
        let store = ceiling::postgres::open(&database.url()).await?;
        let (took, plain_commits) = plain(options, store, &body).await?;
        let plain = events / took.as_secs_f64();
        println!(
            "pair {pair}: queue {queue:.0} events/s ({:.1} per commit), batched publish and settle {plain:.0} ({:.1}): {:.0} %",
            events / commits as f64,
            events / plain_commits as f64,
            100.0 * queue / plain
        );
        ratios.push(100.0 * queue / plain);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let median = ratios.get(ratios.len() / 2).context("at least one pair")?;
    println!("median {median:.0} % of the ceiling, with {} runs in it before", options.filled);
    Ok(())
}

/// From the first publish to the last settle: how long, and in how many commits. `prepare` fills the database before.
async fn queue(
    options: &Options,
    database: Database,
    body: &[u8],
    prepare: impl FnOnce(),
) -> anyhow::Result<(Duration, u64)> {
    let settings = Settings { database, slots: SLOTS, lease_ms: LEASE_MS, clock: Clock::system() };
    let (queue, claims) = Queue::serve(settings).await?;
    queue.limit(HashMap::new()).await?;
    let version = |name: &str, hash| NewVersion {
        bundle: name.to_owned(),
        connection: CONNECTION.into(),
        through: GateId::of(GateKind::Connection, "crm"),
        artefact: Artefact::stored(vec![hash], Vec::new()),
    };
    let active = queue.activate(vec![version("dynamic", 1), version("static", 2)]).await?;
    prepare();
    let before = queue.stats().commits;
    let begun = Instant::now();
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
    let took = begun.elapsed();
    let ledger = queue.store().ledger().await?;
    let line = ledger.first().context("a connection")?;
    ensure!(line.delivered == i64::try_from(options.events + options.filled)?, "{line:?}");
    ensure!(queue.store().verify_ledger().await?.is_empty(), "the ledger differs from the rows");
    let commits = queue.stats().commits - before;
    queue.stop().await;
    Ok((took, commits))
}

async fn settle_all(mut claims: Claims, events: u64) {
    for _ in 0..events {
        let Some(claim) = claims.recv().await else { return };
        let delivery = DeliveryRecord {
            generation: 0,
            probe: false,
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
        claim.settle(Settle {
            outcome: Outcome::Delivered,
            started_ms,
            deliveries,
            contacts: Contacts::default(),
            sent: None,
        });
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
    let event = Event { id: EventId(0), connection: CONNECTION.into(), received_ms, fields: Map::default() };
    let through = GateId::of(GateKind::Connection, "crm");
    let decisions = vec![
        Decision {
            version: versions[0],
            bundle: GateId::of(GateKind::Bundle, "one"),
            through,
            lane: None,
            verdict: Verdict::Take { due_ms: 0 },
        },
        Decision {
            version: versions[1],
            bundle: GateId::of(GateKind::Bundle, "two"),
            through,
            lane: None,
            verdict: Verdict::Filtered,
        },
    ];
    let content = Content::Event(Accepted {
        epoch,
        dedupe: Some([hash, hash.rotate_left(32)]),
        window_ms: DEDUPE_WINDOW_MS_MAX,
        event,
        decisions,
    });
    Publish { connection: Arc::from(CONNECTION), received, content }
}

async fn plain(options: &Options, store: Store, body: &[u8]) -> anyhow::Result<(Duration, u64)> {
    let body = Bytes::copy_from_slice(body);
    let begun = Instant::now();
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
    Ok((begun.elapsed(), commits))
}
