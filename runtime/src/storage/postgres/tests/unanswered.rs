//! Turns that are not plainly answered: a commit that is lost or refused, an identity that was taken for new and is known.

use sqlx::PgConnection;

use super::*;
use crate::{
    queue::backend::{Committed, Failure},
    storage::{
        identity::key,
        postgres::{
            backend::WARY_TURNS,
            connect,
            node::{self, Node},
        },
    },
};

/// Enough to take identities boldly.
const EVENTS: u64 = 100;
/// Spreads identities, as hashes are.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// A commit that waits for a standby which is not there: it is on disk already.
const WAITING: &str =
    "pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep' AND query = 'COMMIT'";

/// A statement that waits for an identity.
const HELD_UP: &str = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INTO dedupe%'";

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

async fn ledger(shared: &Shared, clock: Clock) -> LedgerLine {
    let store = shared.store(clock).await.unwrap();
    assert_eq!(store.verify_ledger().await.unwrap(), []);
    let [line] = store.ledger().await.unwrap().try_into().expect("one connection");
    assert!(line.events_balance && line.decisions_balance, "{line:?}");
    line
}

/// Asks in a way that lets the turn go on.
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

/// Lets the commit come to disk and loses its connection before it is answered. Answers are held already.
async fn lose(shared: &Shared) {
    until(shared, &format!("SELECT count(*) FROM {WAITING}"), "1").await;
    shared.database.sql("ALTER SYSTEM RESET synchronous_standby_names");
    shared.database.sql(&format!("SELECT pg_terminate_backend(pid) FROM {WAITING}"));
    shared.database.sql("SELECT pg_reload_conf()");
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
    let mut duplicates = 0;
    for (batch, known) in [(2, vec![0]), (3, vec![EVENTS - 1]), (4, vec![0, 50])] {
        // So that the next one takes them for new again.
        for pause in 1..=u64::from(WARY_TURNS) {
            backend.commit(&publishing(batch * 1_000 + pause, &gates, &[])).await.unwrap();
        }
        let before = turn();
        let mut publishes = events(&active, batch * EVENTS);
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
async fn a_commit_may_go_unanswered_and_everything_is_counted_once() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared { database: TestDatabase::alone(), ..Shared::default() };
    let (clock, _) = Clock::stopped_at(START_MS);
    let mut backend = shared.backend("a", clock.clone()).await;
    let gates = Gates::new(4);
    let active = backend.activate(&vec![version("one", 1)].into(), START_MS).await.unwrap();
    // So that the connection has its number, which is a commit of its own.
    backend.commit(&publishing(1, &gates, &events(&active, 1_000))).await.unwrap();
    let publishes = events(&active, 0);
    // The first time they are new; the second time there is nothing to find but counts.
    for (number, new, known) in [(2, EVENTS, 0), (3, 0, EVENTS)] {
        let batch = publishing(number, &gates, &publishes);
        hold_answers(&shared).await;
        let ((), answer) = tokio::join!(lose(&shared), backend.commit(&batch));
        assert_eq!(answer.unwrap_err().failure, Failure::Unknown);
        let committed = backend.commit(&batch).await.unwrap();
        assert_eq!(committed.published.len() as u64, EVENTS);
        assert_eq!((accepted(&committed) as u64, handed(&committed) as u64), (new, new.min(4)));
        let line = ledger(&shared, clock.clone()).await;
        assert_eq!((line.accepted.unsigned_abs(), line.duplicate.unsigned_abs()), (2 * EVENTS, known));
    }
    backend.close().await;
}

/// Takes the identity of an event that is about to come: the turn that brings it waits until this transaction ends.
async fn hold_one(shared: &Shared, event: u64) -> PgConnection {
    let number: i64 = shared.database.sql("SELECT id FROM connection").parse().unwrap();
    let identity = event.wrapping_mul(SPREAD);
    let [h1, h2] = key(number, [identity, identity]);
    let mut holder = connect::writer(&shared.database.url().parse().unwrap()).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut holder).await.unwrap();
    let hold = sqlx::query("INSERT INTO dedupe VALUES ($1, $2, 1)").bind(h1).bind(h2);
    hold.execute(&mut holder).await.unwrap();
    holder
}

#[tokio::test]
async fn nobody_takes_a_node_over_that_is_committing() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (clock, _) = Clock::stopped_at(START_MS);
    let mut backend = shared.backend("a", clock.clone()).await;
    let gates = Gates::new(4);
    let active = backend.activate(&vec![version("one", 1)].into(), START_MS).await.unwrap();
    backend.commit(&publishing(1, &gates, &events(&active, 1_000))).await.unwrap();
    let mut holder = hold_one(&shared, 7).await;
    let pool = sqlx::PgPool::connect(&shared.database.url()).await.unwrap();
    let late_ms = clock.now_ms() + SILENCE_MS + 1;
    let take_over = || node::take_over(&pool, Node { id: 9, epoch: i64::MAX }, late_ms, SILENCE_MS);
    let taking = async {
        until(&shared, &format!("SELECT count(*) FROM {HELD_UP}"), "1").await;
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
async fn a_node_that_is_taken_over_while_its_commit_is_unanswered_keeps_nothing_of_it() {
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
    let ((), answer) = tokio::join!(lose(&shared), backend.commit(&batch));
    assert_eq!(answer.unwrap_err().failure, Failure::Unknown);
    let owned = "SELECT count(*) FROM queue WHERE owner <> 0";
    assert_eq!(shared.database.sql(owned), (4 + EVENTS).to_string());
    shared.database.sql(
        "UPDATE node SET epoch = 0; UPDATE queue SET due_ms = 0, owner = 0, lost = lost + 1 WHERE owner <> 0",
    );
    let committed = backend.commit(&batch).await.unwrap();
    assert_eq!((accepted(&committed) as u64, handed(&committed)), (EVENTS, 0));
    assert_eq!(committed.soonest_due_ms, Some(START_MS));
    backend.close().await;
}
