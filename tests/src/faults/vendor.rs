//! F8: vendors answer badly in every way. Each call is repeated on the schedule and arrives, or is parked; no answer holds a
//! slot longer than its time; another vendor's calls do not notice, not even when a vendor that does not answer at all has
//! many more calls than there are slots.
//!
//! Each sickness has a connection of its own: one that fails again and again would be left alone, and off the schedule.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{
    equations,
    report::Outcome,
    rig::{Plan, SLOTS},
};
use crate::{
    clock::unix_ns,
    latencies::Latencies,
    load::Template,
    product::{Product, Setup},
    sink::{Sink, call_id},
    wire::{Client, Reply, Server},
};

/// The sick vendor's connector: a request may take two seconds.
const CONNECTOR: &str = "
kind: connector
name: sick
title: {en: Sick, ru: Больной}
settings:
  base_url: {type: url, default: 'https://sick.example', title: {en: Address, ru: Адрес}}
actions:
  send:
    title: {en: Send, ru: Отправить}
    unknown: keyed
    input:
      callId: {type: text, required: true, title: {en: Call, ru: Звонок}}
    request:
      method: POST
      url: '{{ connection.settings.base_url }}/'
      headers: {Idempotency-Key: '{{ delivery.key }}'}
      encoding: json
      body: {callId: '{{ input.callId }}'}
      timeout: 2s
verdicts:
  - {when: response.status = 200, verdict: ok}
  - {when: response.status = 401, verdict: auth_refresh}
  - {when: response.status = 429, verdict: rate_limited}
  - {when: response.status >= 500, verdict: retry}
  - {when: response.status >= 300, verdict: bad_request}
";
/// Calls to the vendor that does not answer at all: many more than there are slots.
const FLOOD: i64 = 10 * SLOTS as i64;
/// The campaign that leads to it.
const FLOODED: usize = SICKNESSES.len();
/// Where the sick vendor and the healthy one are in production.
const ORIGINS: [&str; 2] = ["https://sick.example", "https://api.mindbox.ru"];
/// The longest exchange that connector allows.
const TIMEOUT_MS: i64 = 2_000;
/// The first wait of the schedule, and how much later the repeat may come for jitter and a busy machine.
pub const WAIT_MS: i64 = 5_000;
/// See above.
pub const LATE_MS_MAX: i64 = 1_500;
/// A wait that a vendor asks for, seconds.
const RETRY_AFTER_S: i64 = 3;
/// How often a healthy call is sent, and for how long at a time.
const EVERY: Duration = Duration::from_millis(25);
const WINDOW: Duration = Duration::from_secs(3);
/// Under this a median says more about a busy machine than about the product, milliseconds. A call that waits for a slot waits
/// for the sick vendor's two seconds, and with it all behind it; a disk that stands still for a second makes a few wait, so
/// the slowest of a hundred calls prove nothing here (`scale dead-vendor` measures those, in pairs).
const NOISE_MS: f64 = 250.0;
/// Longest time until everything is done.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the sick vendor answers a call's first request; it answers the second well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sickness {
    Status(u16),
    RetryAfter,
    Redirect,
    Garbage,
    Half,
    Cut,
    EndlessHeaders,
    ByteASecond,
    Silence,
    ResetAfterAnswer,
}

const SICKNESSES: [Sickness; 13] = [
    Sickness::Status(429),
    Sickness::Status(500),
    Sickness::Status(503),
    Sickness::Status(401),
    Sickness::RetryAfter,
    Sickness::Redirect,
    Sickness::Garbage,
    Sickness::Half,
    Sickness::Cut,
    Sickness::EndlessHeaders,
    Sickness::ByteASecond,
    Sickness::Silence,
    Sickness::ResetAfterAnswer,
];

/// What becomes of a call whose first request was answered so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// A second request after this many milliseconds, at least.
    Again(i64),
    /// No second request.
    Once,
}

impl Sickness {
    fn expected(self) -> Expected {
        match self {
            Sickness::RetryAfter => Expected::Again(RETRY_AFTER_S * 1_000),
            Sickness::ByteASecond | Sickness::Silence => Expected::Again(TIMEOUT_MS + WAIT_MS),
            Sickness::Redirect | Sickness::ResetAfterAnswer => Expected::Once,
            Sickness::Status(_)
            | Sickness::Garbage
            | Sickness::Half
            | Sickness::Cut
            | Sickness::EndlessHeaders => Expected::Again(WAIT_MS),
        }
    }

    async fn reply(self) -> Reply {
        match self {
            Sickness::Status(status) => Reply::answer(status, &[], b""),
            Sickness::RetryAfter => Reply::answer(503, &[("Retry-After", &RETRY_AFTER_S.to_string())], b""),
            Sickness::Redirect => Reply::answer(302, &[("Location", "http://127.0.0.1:1/")], b""),
            Sickness::Garbage => Reply::BytesThenClose(b"\x00\xff\x13 not HTTP\r\n\r\n".to_vec()),
            Sickness::Half => {
                Reply::BytesThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"sta".to_vec())
            }
            Sickness::Cut => Reply::BytesThenClose(Vec::new()),
            Sickness::EndlessHeaders => Reply::Endless {
                first: b"HTTP/1.1 200 OK\r\n".to_vec(),
                then: b"X-More: of the same\r\n".repeat(200),
                every: Duration::ZERO,
            },
            Sickness::ByteASecond => Reply::Endless {
                first: b"HTTP/1.1 200 OK\r\nX: ".to_vec(),
                then: b"x".to_vec(),
                every: Duration::from_secs(1),
            },
            Sickness::Silence => std::future::pending().await,
            Sickness::ResetAfterAnswer => {
                Reply::BytesThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec())
            }
        }
    }
}

/// When a call's requests came, nanoseconds since 1970.
#[derive(Default)]
struct Book {
    sick: HashMap<i64, Sickness>,
    came: HashMap<i64, Vec<i64>>,
    /// Calls of the vendor that does not answer, and whether it still does not.
    flood: HashSet<i64>,
    silent: bool,
}

/// Every sickness so often.
pub async fn run(plan: Plan, rounds: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let folder = tempfile::Builder::new().prefix("vendor-").tempdir_in(&plan.data_root)?;
    let book = Arc::new(Mutex::new(Book::default()));
    let vendor = vendor(Arc::clone(&book)).await?;
    let healthy = Sink::start().await?;
    let origins = [vendor.origin(), healthy.origin()];
    let overrides: Vec<String> =
        ORIGINS.iter().zip(origins).map(|(from, to)| format!("{from}={to}")).collect();
    let setup =
        plan.with("SHEAF_EGRESS_OVERRIDE", overrides.join(",")).setup(folder.path(), String::new())?;
    write_files(&setup.directory, (0..=FLOODED).map(|number| (campaign(number), String::new())))?;
    let product = setup.start().await?;
    let path = setup.hook_path()?;
    for _ in 0..rounds {
        round(&product, &path, &book, &healthy, &mut outcome).await?;
        flood(&product, &path, &book, &healthy, &mut outcome).await?;
    }
    let parked = SICKNESSES.iter().filter(|it| **it == Sickness::Redirect).count() * rounds;
    drained(&setup, parked as u64).await?;
    drop(product);
    Ok(outcome)
}

async fn round(
    product: &Product,
    path: &str,
    book: &Mutex<Book>,
    healthy: &Sink,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let mut usual = latencies(product, path, healthy).await?;
    let calls = sick_calls(product, path, book).await?;
    outcome.count("acknowledged", calls.len());
    let begun = Instant::now();
    let mut beside = Latencies::default();
    while !calls.iter().all(|(id, sickness)| is_done(book, *id, *sickness)) && begun.elapsed() < PATIENCE {
        beside.merge(&latencies(product, path, healthy).await?);
    }
    // Before and after, so that a machine that is busy all of a sudden is not taken for a vendor that is.
    usual.merge(&latencies(product, path, healthy).await?);
    let (usual_ms, beside_ms) = (usual.points().p50_ms, beside.points().p50_ms);
    outcome.figure("other vendor's usual median, ms", usual_ms);
    outcome.figure("other vendor's median beside the sick one, ms", beside_ms);
    outcome.expect(beside_ms < (2.0 * usual_ms).max(NOISE_MS), || {
        format!("the other vendor's median went from {usual_ms:.1} to {beside_ms:.1} ms")
    });
    for (id, sickness) in calls {
        let came = lock(book).came.get(&id).cloned().unwrap_or_default();
        outcome.cycle(format!("{sickness:?}: {} requests", came.len()), !came.is_empty());
        let gap_ms = came.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000_000).next();
        let as_promised = match sickness.expected() {
            Expected::Once => came.len() == 1,
            Expected::Again(wait_ms) => {
                let most_ms = wait_ms + wait_ms / 10 + LATE_MS_MAX;
                came.len() == 2 && gap_ms.is_some_and(|gap_ms| (wait_ms..=most_ms).contains(&gap_ms))
            }
        };
        outcome.expect(as_promised, || {
            format!(
                "{sickness:?}: {} requests, {gap_ms:?} ms apart; expected {:?}",
                came.len(),
                sickness.expected()
            )
        });
    }
    Ok(())
}

/// One vendor does not answer, and has far more calls than there are slots.
async fn flood(
    product: &Product,
    path: &str,
    book: &Mutex<Book>,
    healthy: &Sink,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let mut usual = latencies(product, path, healthy).await?;
    lock(book).silent = true;
    let template = Template::call_of_campaign(product.hooks, path, &campaign(FLOODED));
    let (mut client, mut buffer) = (Client::connect(product.hooks).await?, Vec::new());
    for _ in 0..FLOOD {
        let id = unix_ns();
        lock(book).flood.insert(id);
        template.fill(id, &mut buffer);
        let status = client.exchange(&buffer).await?.status();
        ensure!(status == 200, "a call was answered {status}");
    }
    let beside = latencies(product, path, healthy).await?;
    let came = {
        let mut book = lock(book);
        book.silent = false;
        book.flood.iter().filter(|id| book.came.contains_key(id)).count()
    };
    usual.merge(&latencies(product, path, healthy).await?);
    let (usual_ms, beside_ms) = (usual.points().p50_ms, beside.points().p50_ms);
    outcome.count("acknowledged", FLOOD as usize);
    outcome.figure("other vendor's median beside a silent one with a backlog, ms", beside_ms);
    outcome.cycle(format!("flood: {came} of {FLOOD} calls reached the silent vendor"), came > 0);
    outcome.expect(beside_ms < (2.0 * usual_ms).max(NOISE_MS), || {
        format!("beside a silent vendor the other's median went from {usual_ms:.1} to {beside_ms:.1} ms")
    });
    Ok(())
}

/// The campaign whose calls go to the connection of that number.
fn campaign(number: usize) -> String {
    format!("sick-{number}")
}

fn is_done(book: &Mutex<Book>, id: i64, sickness: Sickness) -> bool {
    let wanted = if sickness.expected() == Expected::Once { 1 } else { 2 };
    lock(book).came.get(&id).is_some_and(|came| came.len() >= wanted)
}

/// One call for each sickness.
async fn sick_calls(
    product: &Product,
    path: &str,
    book: &Mutex<Book>,
) -> anyhow::Result<Vec<(i64, Sickness)>> {
    let (mut client, mut buffer, mut calls) = (Client::connect(product.hooks).await?, Vec::new(), Vec::new());
    for (number, sickness) in SICKNESSES.into_iter().enumerate() {
        let template = Template::call_of_campaign(product.hooks, path, &campaign(number));
        let id = unix_ns();
        lock(book).sick.insert(id, sickness);
        template.fill(id, &mut buffer);
        let status = client.exchange(&buffer).await?.status();
        ensure!(status == 200, "a call was answered {status}");
        calls.push((id, sickness));
    }
    Ok(calls)
}

/// Sends calls to the healthy vendor for a while; how long each took from sending to arrival.
async fn latencies(product: &Product, path: &str, healthy: &Sink) -> anyhow::Result<Latencies> {
    healthy.reset();
    let template = Template::call(product.hooks, path, false);
    let (mut client, mut buffer) = (Client::connect(product.hooks).await?, Vec::new());
    let (begun, mut ids) = (Instant::now(), Vec::new());
    let mut ticks = tokio::time::interval(EVERY);
    while begun.elapsed() < WINDOW {
        ticks.tick().await;
        let id = unix_ns();
        template.fill(id, &mut buffer);
        let status = client.exchange(&buffer).await?.status();
        ensure!(status == 200, "a call was answered {status}");
        ids.push(id);
    }
    let waited = Instant::now();
    while healthy.missing(&ids) > 0 {
        ensure!(waited.elapsed() < PATIENCE, "{} healthy calls did not arrive", healthy.missing(&ids));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(healthy.latencies())
}

/// The sick vendor: it knows the illness by the call.
async fn vendor(book: Arc<Mutex<Book>>) -> anyhow::Result<Server> {
    let server = Server::start(move |message| {
        let id = call_id(&message.body).unwrap_or_default();
        let sickness = {
            let mut book = lock(&book);
            let came = book.came.entry(id).or_default();
            came.push(unix_ns());
            let first = came.len() == 1;
            let silent = (book.silent && book.flood.contains(&id)).then_some(Sickness::Silence);
            silent.or(book.sick.get(&id).copied().filter(|_| first))
        };
        async move {
            match sickness {
                Some(sickness) => sickness.reply().await,
                None => Reply::answer(200, &[], b""),
            }
        }
    })
    .await?;
    Ok(server)
}

/// The calls of known visitors go to the sick vendor, each campaign's through a connection of its own; by name, with what its
/// file says beside.
pub fn write_files(
    directory: &Path,
    connections: impl Iterator<Item = (String, String)>,
) -> anyhow::Result<()> {
    let connector = directory.join("connectors/sick");
    fs::create_dir_all(&connector)?;
    fs::write(connector.join("connector.yaml"), CONNECTOR)?;
    let bundle = directory.join("bundles/mindbox-dynamic.yaml");
    let text = fs::read_to_string(&bundle)?;
    let (before, _) = text.split_once("filter:").context("a bundle has a filter")?;
    fs::remove_file(&bundle)?;
    for (name, more) in connections {
        let connection = format!("kind: connection\nname: {name}\nconnector: sick\n{more}\n");
        fs::write(directory.join(format!("connections/{name}.yaml")), connection)?;
        let before = before.replace("name: mindbox-dynamic", &format!("name: {name}"));
        let filter = format!("filter: sessionId is not empty and utm_campaign = \"{name}\"\n");
        let step = format!(
            "steps: [{{name: send, action: sick.send, connection: {name}, with: {{callId: '{{{{ id }}}}'}}}}]\n"
        );
        fs::write(directory.join(format!("bundles/{name}.yaml")), before + &filter + &step)?;
    }
    Ok(())
}

/// Nothing is left to do, exactly so many are parked, and both equations hold.
async fn drained(setup: &Setup, parked: u64) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let ledger = equations::read(&setup.ledger(true)?)?;
        equations::check(&ledger)?;
        let sum = |of: fn(&equations::Counters) -> u64| ledger.connections.iter().map(of).sum::<u64>();
        if sum(|it| it.pending) == 0 {
            ensure!(sum(|it| it.parked) == parked, "{} are parked, not {parked}", sum(|it| it.parked));
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{} decisions stay pending", sum(|it| it.pending));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn lock(book: &Mutex<Book>) -> std::sync::MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
