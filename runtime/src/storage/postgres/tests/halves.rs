//! Turns that are two transactions: either commit may be lost or refused for itself.

use std::time::Instant;

use sqlx::PgConnection;

use super::*;
use crate::{
    queue::backend::{Committed, Failure},
    storage::{
        identity::key,
        postgres::{
            backend::WARY_TURNS,
            beside::{Beside, PAUSE, UNUSED_MAX},
            connect,
            node::{self, Node},
            turn::{HALVES_MIN, is_committed},
        },
    },
};

/// Enough for two halves.
const EVENTS: u64 = 100;
/// Spreads identities over both, as hashes are.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
const _: () = assert!(EVENTS as usize > 2 * HALVES_MIN);

/// Commits that wait for a standby which is not there: they are on disk already.
const WAITING: &str =
    "pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep' AND query = 'COMMIT'";

/// One of these.
const FIRST: &str = "ORDER BY backend_start LIMIT 1";
const SECOND: &str = "ORDER BY backend_start DESC LIMIT 1";

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
    committed.published.iter().map(|published| published.handed().len()).sum()
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

/// Asks in a way that lets the turn go on: it does without its second connection when that takes long to make.
async fn until(shared: &Shared, sql: &str, answer: &str) {
    /// Longer than anything takes here.
    const WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(60);
    let mut connection = connect::writer(&shared.database.url().parse().unwrap()).await.unwrap();
    let sql = format!("SELECT ({sql})::text");
    let begun = std::time::Instant::now();
    loop {
        assert!(begun.elapsed() < WAIT_MAX, "waited for {answer} from {sql}");
        let asked = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.clone()));
        let said: String = asked.fetch_one(&mut connection).await.unwrap();
        if said == answer {
            break;
        }
    }
}

/// From now on no commit is answered. The server takes the setting up when it gets round to it, so commits are tried until
/// one waits.
async fn hold_answers(shared: &Shared) {
    shared.database.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    shared.database.sql("SELECT pg_reload_conf()");
    loop {
        let mut probe = connect::writer(&shared.database.url().parse().unwrap()).await.unwrap();
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut probe).await.unwrap();
        let waiting =
            format!("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = {pid}");
        let write = sqlx::AssertSqlSafe(format!("CREATE TABLE probe_{pid} ()"));
        tokio::select! {
            _ = sqlx::raw_sql(write).execute(&mut probe) => {}
            () = until(shared, &waiting, "1") => {
                shared.database.sql(&format!("SELECT pg_terminate_backend({pid})"));
                return until(shared, &format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"), "0").await;
            }
        }
    }
}

/// Lets both commits come to disk and loses the connections of some before they are answered. The second one's process.
/// Answers are held already.
async fn lose(shared: &Shared, lost: &str) -> String {
    until(shared, &format!("SELECT count(*) FROM {WAITING}"), "2").await;
    shared.database.sql("ALTER SYSTEM RESET synchronous_standby_names");
    let second = shared.database.sql(&format!("SELECT pid FROM {WAITING} {SECOND}"));
    let pids = format!("SELECT pid FROM {WAITING} {lost}");
    shared.database.sql(&format!("SELECT pg_terminate_backend(pid) FROM ({pids}) one"));
    shared.database.sql("SELECT pg_reload_conf()");
    second
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
    let active = backend.activate(&vec![version("one", 1)].into(), START_MS).await.unwrap();
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
    assert_eq!((line.received, line.accepted, line.duplicate, line.pending), (200, 100, 100, 100));
    backend.close().await;
}

#[tokio::test]
async fn among_many_events_that_are_taken_for_new_one_that_is_known_is_found_and_all_others_are_stored() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (clock, _) = Clock::stopped_at(START_MS);
    let mut backend = shared.backend("a", clock.clone()).await;
    let gates = Gates::new(4);
    let active = backend.activate(&vec![version("one", 1)].into(), START_MS).await.unwrap();
    let turn = || shared.database.sql("SELECT turn FROM node").parse::<i64>().unwrap();
    let stored = backend.commit(&publishing(1, &gates, &events(&active, 0))).await.unwrap();
    let number: i64 = shared.database.sql("SELECT id FROM connection").parse().unwrap();
    let mut duplicates = 0;
    // Of one half, of the other, of both.
    for (batch, known) in [(2, vec![0]), (3, vec![1]), (4, vec![0, 1])] {
        // So that the next one takes them for new again.
        for pause in 1..=u64::from(WARY_TURNS) {
            backend.commit(&publishing(batch * 1_000 + pause, &gates, &[])).await.unwrap();
        }
        let before = turn();
        let mut publishes = events(&active, batch * EVENTS);
        let of_half = |half: usize| {
            let is_of = |n: &u64| {
                let identity = n.wrapping_mul(SPREAD);
                (key(number, [identity, identity])[0] < 0) == (half == 1)
            };
            (0..EVENTS).find(is_of).unwrap()
        };
        let known: Vec<u64> = known.into_iter().map(of_half).collect();
        for n in &known {
            publishes[*n as usize] = event(&active, n.wrapping_mul(SPREAD), 0);
        }
        let committed = backend.commit(&publishing(batch, &gates, &publishes)).await.unwrap();
        assert_eq!(accepted(&committed), publishes.len() - known.len());
        for n in &known {
            let of = stored.published[*n as usize].new_event().unwrap();
            assert_eq!(committed.published[*n as usize], PublishedRow::Duplicate { of });
        }
        assert_eq!(handed(&committed), 4, "what is done twice has all the slots still");
        assert_eq!(turn(), before + 2, "done twice");
        duplicates += known.len() as u64;
        assert_eq!(ledger(&shared, clock.clone()).await.duplicate.unsigned_abs(), duplicates);
    }
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
    let active = backend.activate(&vec![version("one", 1)].into(), START_MS).await.unwrap();
    // So that both connections are there.
    backend.commit(&publishing(1, &gates, &events(&active, 1_000))).await.unwrap();
    let (mut batches, mut new, mut known) = (1, EVENTS, 0);
    for lost in [FIRST, SECOND, ""] {
        // The first time they are new; the second time there is nothing to find but counts.
        for is_new in [true, false] {
            batches += 1;
            let publishes = events(&active, batches / 2 * EVENTS);
            let batch = publishing(batches, &gates, &publishes);
            hold_answers(&shared).await;
            let (_, answer) = tokio::join!(lose(&shared, lost), backend.commit(&batch));
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
    let [h1, h2] = keys.filter(|[h1, _]| *h1 < 0).min().expect("one of a hundred");
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
    until(shared, "SELECT count(*) > 100 FROM event", "true").await;
}

const HELD_UP: &str = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INTO dedupe%'";

#[tokio::test]
async fn what_one_half_stored_stays_while_the_other_is_refused_and_done_again() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (clock, _) = Clock::stopped_at(START_MS);
    let mut backend = shared.backend("a", clock.clone()).await;
    let gates = Gates::new(4);
    let active = backend.activate(&vec![version("one", 1)].into(), START_MS).await.unwrap();
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
    let committed = committed.unwrap();
    assert_eq!((accepted(&committed) as u64, handed(&committed)), (EVENTS, 4), "no slot is given twice");
    let line = ledger(&shared, clock).await;
    assert_eq!((line.received, line.accepted, line.duplicate), (200, 200, 0));
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
    let active = backend.activate(&vec![version("one", 1)].into(), START_MS).await.unwrap();
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
    let active = backend.activate(&vec![version("one", 1)].into(), START_MS).await.unwrap();
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
    assert_eq!((line.received, line.accepted, line.pending), (200, 200, 200));
    backend.close().await;
}

#[tokio::test]
async fn a_node_that_is_taken_over_while_one_commit_is_unanswered_keeps_nothing_of_either_half() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared { database: TestDatabase::alone(), ..Shared::default() };
    let (clock, _) = Clock::stopped_at(START_MS);
    let mut backend = shared.backend("a", clock.clone()).await;
    let gates = Gates::new(2 * EVENTS as usize);
    let active = backend.activate(&vec![version("one", 1)].into(), START_MS).await.unwrap();
    backend.commit(&publishing(1, &gates, &events(&active, 1_000))).await.unwrap();
    let publishes = events(&active, 0);
    let batch = Batch { slots: EVENTS as usize, ..publishing(2, &gates, &publishes) };
    hold_answers(&shared).await;
    let (_, answer) = tokio::join!(lose(&shared, SECOND), backend.commit(&batch));
    assert_eq!(answer.unwrap_err().failure, Failure::Unknown);
    let owned = "SELECT count(*) FROM queue WHERE owner <> 0";
    assert_eq!(shared.database.sql(owned), (4 + EVENTS).to_string(), "both halves hand runs over");
    shared.database.sql(
        "UPDATE node SET epoch = 0; UPDATE queue SET due_ms = 0, owner = 0, lost = lost + 1 WHERE owner <> 0",
    );
    let committed = backend.commit(&batch).await.unwrap();
    assert_eq!((accepted(&committed) as u64, handed(&committed)), (EVENTS, 0));
    assert_eq!(committed.soonest_due_ms, Some(START_MS));
    backend.close().await;
}

#[tokio::test]
async fn the_second_connection_does_not_outlive_the_first() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared { database: TestDatabase::alone(), ..Shared::default() };
    let (clock, _) = Clock::stopped_at(START_MS);
    let mut backend = shared.backend("a", clock.clone()).await;
    let gates = Gates::new(4);
    let active = backend.activate(&vec![version("one", 1)].into(), START_MS).await.unwrap();
    backend.commit(&publishing(1, &gates, &events(&active, 1_000))).await.unwrap();
    let publishes = events(&active, 0);
    let batch = publishing(2, &gates, &publishes);
    hold_answers(&shared).await;
    let (second, answer) = tokio::join!(lose(&shared, FIRST), backend.commit(&batch));
    assert_eq!(answer.unwrap_err().failure, Failure::Unknown);
    let is_there = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {second}");
    assert_eq!(shared.database.sql(&is_there), "1");
    backend.commit(&batch).await.unwrap();
    until(&shared, &is_there, "0").await;
    backend.close().await;
}

async fn process_of(connection: &mut PgConnection) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn a_second_connection_that_was_not_used_for_long_is_made_anew() {
    if !server::is_installed() {
        return;
    }
    let database = TestDatabase::new();
    let url = database.url().parse().unwrap();
    let mut writer = connect::writer(&url).await.unwrap();
    let (mut beside, now) = (Beside::default(), Instant::now());
    let mut connection = beside.take(&url, &mut writer, now).await.unwrap();
    let first = process_of(&mut connection).await;
    beside.keep(connection, now);
    let mut connection = beside.take(&url, &mut writer, now + UNUSED_MAX).await.unwrap();
    assert_eq!(process_of(&mut connection).await, first, "it is used again");
    beside.keep(connection, now);
    let late = now + UNUSED_MAX + Duration::from_millis(1);
    let mut connection = beside.take(&url, &mut writer, late).await.unwrap();
    assert_ne!(process_of(&mut connection).await, first);
}

#[tokio::test]
async fn a_second_connection_that_leads_to_another_server_is_not_used() {
    if !server::is_installed() {
        return;
    }
    let (here, there) = (TestDatabase::alone(), TestDatabase::alone());
    let url = here.url().parse().unwrap();
    let mut writer = connect::writer(&there.url().parse().unwrap()).await.unwrap();
    let (mut beside, now) = (Beside::default(), Instant::now());
    assert!(beside.take(&url, &mut writer, now).await.is_none());
    let mut writer = connect::writer(&url).await.unwrap();
    assert!(beside.take(&url, &mut writer, now).await.is_none(), "not tried again at once");
    assert!(beside.take(&url, &mut writer, now + PAUSE).await.is_some());
}

#[tokio::test]
async fn of_what_a_server_says_about_a_transaction_only_that_it_does_not_know_it_is_a_no() {
    if !server::is_installed() {
        return;
    }
    let database = TestDatabase::new();
    let mut connection = connect::writer(&database.url().parse().unwrap()).await.unwrap();
    let own: String =
        sqlx::query_scalar("SELECT pg_current_xact_id()::text").fetch_one(&mut connection).await.unwrap();
    assert!(is_committed(&mut connection, &own).await.unwrap());
    assert!(!is_committed(&mut connection, "999999999999").await.unwrap(), "one in the future");
    sqlx::raw_sql("BEGIN").execute(&mut connection).await.unwrap();
    sqlx::raw_sql("SELECT 1 / 0").execute(&mut connection).await.unwrap_err();
    is_committed(&mut connection, &own).await.unwrap_err();
}
