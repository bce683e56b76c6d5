//! Turns that are two transactions: either commit may be lost or refused for itself.

use sqlx::PgConnection;

use super::*;
use crate::{
    queue::backend::{Committed, Failure},
    storage::{
        identity::key,
        postgres::{
            connect,
            node::{self, Node},
            turn::HALVES_MIN,
        },
    },
};

/// Enough for two halves.
const EVENTS: u64 = 64;
/// Spreads identities over both, as hashes are.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
const _: () = assert!(EVENTS as usize > 2 * HALVES_MIN);

/// Commits that wait for a standby which is not there: they are on disk already.
const WAITING: &str = "pg_stat_activity WHERE wait_event = 'SyncRep' AND query = 'COMMIT'";

fn events(active: &Activated, from: u64) -> Vec<Publish> {
    (from..from + EVENTS).map(|n| event(active, n.wrapping_mul(SPREAD), 0)).collect()
}

/// A turn that claims nothing.
fn publishing<'a>(number: u64, gates: &'a Gates, publishes: &'a [Publish]) -> Batch<'a> {
    Batch { claim_max: 0, ..batch(number, gates, &[], publishes) }
}

fn accepted(committed: &Committed) -> usize {
    let is_new = |published: &&PublishedRow| published.new_event().is_some();
    committed.published.iter().filter(is_new).count()
}

fn handed(committed: &Committed) -> usize {
    let of = |published: &PublishedRow| match published {
        PublishedRow::Accepted { handed, .. } => handed.len(),
        _ => 0,
    };
    committed.published.iter().map(of).sum()
}

/// How many rows the second of two transactions counted.
fn counted_beside(shared: &Shared) -> i64 {
    shared.database.sql("SELECT sum(received) FROM ledger_of_node WHERE node < 0").parse().unwrap()
}

async fn ledger(shared: &Shared, clock: Clock) -> LedgerLine {
    let store = shared.store(clock).await.unwrap();
    assert_eq!(store.verify_ledger().await.unwrap(), []);
    let [line] = store.ledger().await.unwrap().try_into().expect("one connection");
    assert!(line.events_balance && line.decisions_balance, "{line:?}");
    line
}

async fn until(shared: &Shared, sql: &str, answer: &str) {
    while shared.database.sql(sql) != answer {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn two_halves_are_answered_in_order_and_their_counts_add_up() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (clock, _) = Clock::stopped_at(START_MS);
    let mut backend = shared.backend("a", clock.clone()).await;
    let gates = Gates::new(4);
    let active = backend.activate(&[version("one", 1)], START_MS).await.unwrap();
    // Each twice, the second time at the other end.
    let once = events(&active, 0);
    let twice: Vec<Publish> = once.iter().chain(once.iter().rev()).cloned().collect();
    let committed = backend.commit(&publishing(1, &gates, &twice)).await.unwrap();
    let ids: Vec<_> = committed.published[..once.len()].iter().map(|one| one.new_event().unwrap()).collect();
    let again: Vec<_> = ids.iter().rev().map(|of| PublishedRow::Duplicate { of: *of }).collect();
    assert_eq!(committed.published[once.len()..], again);
    assert_eq!(handed(&committed), 4, "both halves share the slots");
    let beside = counted_beside(&shared);
    assert!(0 < beside && beside < 2 * EVENTS.cast_signed(), "{beside} of them in the second");
    let line = ledger(&shared, clock).await;
    assert_eq!((line.received, line.accepted, line.duplicate, line.pending), (128, 64, 64, 64));
    backend.close().await;
}

#[tokio::test]
async fn of_two_commits_any_may_go_unanswered_and_everything_is_counted_once() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared { database: TestDatabase::alone(), ..Shared::default() };
    let (clock, _) = Clock::stopped_at(START_MS);
    let mut backend = shared.backend("a", clock.clone()).await;
    let gates = Gates::new(4);
    let active = backend.activate(&[version("one", 1)], START_MS).await.unwrap();
    // So that both connections are there.
    backend.commit(&publishing(1, &gates, &events(&active, 1_000))).await.unwrap();
    let (mut batches, mut new, mut known) = (1, EVENTS, 0);
    for lost in ["ORDER BY backend_start LIMIT 1", "ORDER BY backend_start DESC LIMIT 1", ""] {
        // The first time they are new; the second time there is nothing to find but counts.
        for is_new in [true, false] {
            batches += 1;
            let publishes = events(&active, batches / 2 * EVENTS);
            let batch = publishing(batches, &gates, &publishes);
            shared.database.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
            shared.database.sql("SELECT pg_reload_conf()");
            let losing = async {
                until(&shared, &format!("SELECT count(*) FROM {WAITING}"), "2").await;
                shared.database.sql("ALTER SYSTEM RESET synchronous_standby_names");
                let pids = format!("SELECT pid FROM {WAITING} {lost}");
                shared.database.sql(&format!("SELECT pg_terminate_backend(pid) FROM ({pids}) one"));
                shared.database.sql("SELECT pg_reload_conf()");
            };
            let (answer, ()) = tokio::join!(backend.commit(&batch), losing);
            assert_eq!(answer.unwrap_err().failure, Failure::Unknown);
            let committed = backend.commit(&batch).await.unwrap();
            assert_eq!(committed.published.len() as u64, EVENTS);
            assert_eq!(accepted(&committed) as u64, if is_new { EVENTS } else { 0 }, "{lost}");
            assert_eq!(handed(&committed), if is_new { 4 } else { 0 });
            (new, known) = if is_new { (new + EVENTS, known) } else { (new, known + EVENTS) };
            let line = ledger(&shared, clock.clone()).await;
            let counts = (line.accepted.unsigned_abs(), line.duplicate.unsigned_abs());
            assert_eq!(counts, (new, known), "{lost}");
        }
    }
    backend.close().await;
}

/// Takes an identity that the second half brings: its transaction waits until this one ends.
async fn hold_one_of_the_second(shared: &Shared, from: u64) -> PgConnection {
    let number: i64 = shared.database.sql("SELECT id FROM connection").parse().unwrap();
    let keys = (from..from + EVENTS).map(|n| n.wrapping_mul(SPREAD)).map(|n| key(number, [n, n]));
    // The lower half of all hashes, as unsigned numbers, is the first's.
    let [h1, h2] = keys.filter(|[h1, _]| *h1 < 0).min().expect("one of sixty-four");
    let mut holder = connect::writer(&shared.database.url().parse().unwrap()).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut holder).await.unwrap();
    let hold = sqlx::query("INSERT INTO dedupe VALUES ($1, $2, 1)").bind(h1).bind(h2);
    hold.execute(&mut holder).await.unwrap();
    holder
}

/// The second half waits for an identity, and the first is committed.
async fn until_the_first_is_stored(shared: &Shared) {
    let waiting = format!("SELECT count(*) FROM {HELD_UP}");
    until(shared, &waiting, "1").await;
    until(shared, "SELECT count(*) > 64 FROM event", "t").await;
}

const HELD_UP: &str = "pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%INTO dedupe%'";

#[tokio::test]
async fn what_one_half_stored_stays_while_the_other_is_refused_and_done_again() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (clock, _) = Clock::stopped_at(START_MS);
    let mut backend = shared.backend("a", clock.clone()).await;
    let gates = Gates::new(4);
    let active = backend.activate(&[version("one", 1)], START_MS).await.unwrap();
    backend.commit(&publishing(1, &gates, &events(&active, 1_000))).await.unwrap();
    let mut holder = hold_one_of_the_second(&shared, 0).await;
    let refusing = async {
        until_the_first_is_stored(&shared).await;
        shared.database.sql(&format!("SELECT pg_terminate_backend(pid) FROM {HELD_UP}"));
        until(&shared, &format!("SELECT count(*) FROM {HELD_UP}"), "1").await;
        sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    };
    let publishes = events(&active, 0);
    let batch = publishing(2, &gates, &publishes);
    let (committed, ()) = tokio::join!(backend.commit(&batch), refusing);
    assert_eq!(accepted(&committed.unwrap()) as u64, EVENTS);
    let line = ledger(&shared, clock).await;
    assert_eq!((line.received, line.accepted, line.duplicate), (128, 128, 0));
    backend.close().await;
}

#[tokio::test]
async fn nobody_takes_a_node_over_between_the_commits_of_its_halves() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (clock, _) = Clock::stopped_at(START_MS);
    let mut backend = shared.backend("a", clock.clone()).await;
    let gates = Gates::new(4);
    let active = backend.activate(&[version("one", 1)], START_MS).await.unwrap();
    backend.commit(&publishing(1, &gates, &events(&active, 1_000))).await.unwrap();
    let mut holder = hold_one_of_the_second(&shared, 0).await;
    let pool = sqlx::PgPool::connect(&shared.database.url()).await.unwrap();
    let late_ms = clock.now_ms() + SILENCE_MS + 1;
    let take_over = || node::take_over(&pool, Node { id: 9, epoch: i64::MAX }, late_ms, SILENCE_MS);
    let taking = async {
        until_the_first_is_stored(&shared).await;
        assert_eq!(take_over().await.unwrap(), 0, "it is committing right now");
        sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    };
    let publishes = events(&active, 0);
    let batch = publishing(2, &gates, &publishes);
    let (committed, ()) = tokio::join!(backend.commit(&batch), taking);
    assert_eq!((accepted(committed.as_ref().unwrap()) as u64, handed(&committed.unwrap())), (EVENTS, 4));
    assert_eq!(take_over().await.unwrap(), 8, "four of either turn");
    backend.close().await;
}

#[tokio::test]
async fn a_node_that_is_taken_over_after_one_half_joins_again_for_the_other_and_keeps_nothing_of_the_first() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (clock, _) = Clock::stopped_at(START_MS);
    let mut backend = shared.backend("a", clock.clone()).await;
    let gates = Gates::new(4);
    let active = backend.activate(&[version("one", 1)], START_MS).await.unwrap();
    backend.commit(&publishing(1, &gates, &events(&active, 1_000))).await.unwrap();
    let mut holder = hold_one_of_the_second(&shared, 0).await;
    let fencing = async {
        until_the_first_is_stored(&shared).await;
        // In one go: others fence the node off and free what it held, and its second half is lost.
        shared.database.sql(&format!(
            "UPDATE node SET epoch = 0;
             UPDATE queue SET due_ms = 0, owner = 0, lost = lost + 1 WHERE owner <> 0;
             SELECT pg_terminate_backend(pid) FROM {HELD_UP}"
        ));
        until(&shared, &format!("SELECT count(*) FROM {HELD_UP}"), "1").await;
        sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    };
    let publishes = events(&active, 0);
    let batch = publishing(2, &gates, &publishes);
    let (committed, ()) = tokio::join!(backend.commit(&batch), fencing);
    let committed = committed.unwrap();
    assert_eq!(accepted(&committed) as u64, EVENTS);
    let held = shared.database.sql("SELECT count(*) FROM queue WHERE owner <> 0");
    assert_eq!(handed(&committed).to_string(), held, "what it has in hand is its own");
    assert_eq!(committed.soonest_due_ms, Some(START_MS), "the rest is due for whoever claims it");
    let line = ledger(&shared, clock).await;
    assert_eq!((line.received, line.accepted, line.pending), (128, 128, 128));
    backend.close().await;
}
