//! What a vendor lets us send is never passed, over real HTTP, by a vendor that counts and refuses.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use sheaf_bundles::alerts::message::Kind;
use sheaf_tests::{
    calltouch::{Method, Moment, Payload},
    wire::{Reply, Server},
};

use super::world::{BROKEN_AFTER, World};

const CONNECTOR: &str = r#"kind: connector
name: counter
title: {en: Counter, ru: Счётчик}
budgets:
  second: {amount: 7, per: 1s}
actions:
  count:
    title: {en: Count, ru: Посчитать}
    input: {number: {type: text, required: true, title: {en: Number, ru: Номер}}}
    request: {url: "https://vendor.example/count", body: {number: "{{ input.number }}"}}
"#;
const BUNDLE: &str = r#"kind: bundle
name: counted
on: {connection: calltouch-main, trigger: call_ended}
filter: sessionId is not empty
steps:
  - {name: first, action: counter.count, connection: counter-main, with: {number: "{{ id }}"}}
  - {name: second, action: counter.count, connection: counter-main, with: {number: "{{ id }}"}}
"#;
const WITH_BUDGET: &str = "kind: connection\nname: counter-main\nconnector: counter\n";
/// The connector's budget is so large that it holds nothing back.
const WITHOUT: &str =
    "kind: connection\nname: counter-main\nconnector: counter\nbudgets: {second: 1000000}\n";
/// What the vendor allows in any second.
const A_SECOND: usize = 7;
/// How the time passes. Requests are paid for up to one such step before they arrive.
const STEP: Duration = Duration::from_millis(25);

/// A vendor that counts the requests of any second of the time it is told, and refuses those that are too many.
struct Vendor {
    server: Server,
    now_ms: Arc<AtomicI64>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    taken_ms: Vec<i64>,
    refused: usize,
}

impl Vendor {
    async fn start() -> Vendor {
        let (now_ms, seen) = (Arc::new(AtomicI64::new(0)), Arc::new(Mutex::new(Seen::default())));
        let (time, book) = (Arc::clone(&now_ms), Arc::clone(&seen));
        let server = Server::start(move |_| {
            let now_ms = time.load(Ordering::SeqCst);
            let mut seen = book.lock().expect("nobody panics with it");
            let lately = seen.taken_ms.iter().filter(|at_ms| **at_ms > now_ms - 1_000).count();
            let taken = lately < A_SECOND;
            if taken {
                seen.taken_ms.push(now_ms);
            } else {
                seen.refused += 1;
            }
            let status = if taken { 200 } else { 429 };
            async move { Reply::answer(status, &[], b"{}") }
        });
        Vendor { server: server.await.expect("a vendor"), now_ms, seen }
    }

    /// Requests taken, and refused.
    fn counts(&self) -> (usize, usize) {
        let seen = self.seen.lock().expect("nobody panics with it");
        (seen.taken_ms.len(), seen.refused)
    }
}

async fn world(connection: &str, bundle: &str, origin: String) -> World {
    let files = [
        ("connectors/counter/connector.yaml", CONNECTOR),
        ("connections/counter-main.yaml", connection),
        ("bundles/mindbox-dynamic.yaml", bundle),
    ];
    World::start_set("calltouch-mindbox", &files, &[], |config| {
        config.egress_override.push(format!("https://vendor.example={origin}").parse().expect("an override"));
    })
    .await
}

async fn calls(world: &World, count: u64) {
    let calltouch = world.calltouch(Method::Post);
    for id in 1..=count {
        let payload = Payload::call(Moment::CallEnded, id);
        let sent = calltouch.happens(Moment::CallEnded, &payload).await;
        assert!(sent.expect("an answer").succeeded());
    }
}

/// Waits until no run is under way.
async fn quiet(world: &World) {
    let queue = world.running().queue();
    let quiet = async {
        loop {
            queue.flush().await.expect("the queue works");
            let stats = queue.stats();
            if stats.claimed == stats.settled {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BROKEN_AFTER, quiet).await.expect("every attempt ends");
}

#[tokio::test]
async fn a_declared_budget_means_no_refusal_and_every_step_of_every_run_is_delivered() {
    const CALLS: u64 = 14;
    let vendor = Vendor::start().await;
    let world = world(WITH_BUDGET, BUNDLE, vendor.server.origin()).await;
    let begun_ms = world.now_ms();
    vendor.now_ms.store(begun_ms, Ordering::SeqCst);
    calls(&world, CALLS).await;
    while vendor.counts().0 < 2 * CALLS as usize && world.now_ms() < begun_ms + 60_000 {
        quiet(&world).await;
        vendor.now_ms.store(world.now_ms() + STEP.as_millis() as i64, Ordering::SeqCst);
        world.pass(STEP);
    }
    let ledger = world.until(|ledger| ledger.pending == 0).await;
    assert_eq!((vendor.counts(), ledger.delivered), ((2 * CALLS as usize, 0), CALLS as i64));
    // 28 requests are four seconds' worth; the margins and the way behind the gate take some more.
    assert!(world.now_ms() - begun_ms < 6_000, "{} ms", world.now_ms() - begun_ms);
}

#[tokio::test]
async fn without_it_the_same_vendor_refuses() {
    let vendor = Vendor::start().await;
    let world = world(WITHOUT, BUNDLE, vendor.server.origin()).await;
    vendor.now_ms.store(world.now_ms(), Ordering::SeqCst);
    calls(&world, 14).await;
    quiet(&world).await;
    let (taken, refused) = vendor.counts();
    assert!(taken == A_SECOND && refused > 0, "{taken} taken, {refused} refused");
}

#[tokio::test]
async fn a_vendor_that_says_that_a_day_is_spent_is_believed_until_it_is_over_and_people_are_told() {
    const TOLD: &str = r#"kind: connection
name: counter-main
connector: counter
budgets:
  day:
    amount: 1000
    per: 1d
    resets: {at: "00:00"}
    truth: {remaining: "{{ response.headers.[x-left] }}", reset: "{{ response.headers.[x-reset] }}"}
"#;
    let got = Arc::new(AtomicI64::new(0));
    let counted = Arc::clone(&got);
    let server = Server::start(move |_| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        // Somebody else has used nearly all of it.
        let left = if number < 2 { 1 - number } else { 1_000 - number };
        async move {
            let left = left.to_string();
            Reply::answer(200, &[("X-Left", left.as_str()), ("X-Reset", "600")], b"{}")
        }
    });
    let server = server.await.expect("a vendor");
    let one_step: String =
        BUNDLE.lines().filter(|line| !line.contains("second")).map(|line| format!("{line}\n")).collect();
    let world = world(TOLD, &one_step, server.origin()).await;
    for id in 1..=3 {
        let payload = Payload::call(Moment::CallEnded, id);
        let sent = world.calltouch(Method::Post).happens(Moment::CallEnded, &payload).await;
        assert!(sent.expect("an answer").succeeded());
        quiet(&world).await;
    }
    let ledger = world.until(|ledger| ledger.delivered == 2).await;
    assert_eq!((ledger.pending, got.load(Ordering::SeqCst)), (1, 2));
    world.look_for(Duration::from_secs(10)).await;
    let mut seen = world.running().seen();
    let told = seen.wait_for(|seen| seen.open.contains(&(Kind::QuotaExhausted, 1)));
    let told =
        tokio::time::timeout(BROKEN_AFTER, told).await.expect("it is told").expect("the server runs").clone();
    let day = told.budgets.iter().find(|budget| budget.budget == "day").expect("it is shown");
    assert_eq!((day.left, day.amount, day.spent, day.waiting), (0, 1_000, true, 1));
    let mut page = String::new();
    told.write_metrics(&mut page);
    assert!(page.contains("sheaf_budget_left{connection=\"counter-main\",budget=\"day\"} 0\n"), "{page}");
    world.pass(Duration::from_secs(580));
    quiet(&world).await;
    assert_eq!(got.load(Ordering::SeqCst), 2, "not before the vendor's time");
    world.pass(Duration::from_secs(20));
    assert_eq!(world.until(|ledger| ledger.pending == 0).await.delivered, 3);
}
