//! The conformance suite on SQLite, and what only SQLite can get wrong.

use std::{sync::Arc, time::Duration};

use sea_orm::{ConnectionTrait, DatabaseConnection};

use super::connect;
use crate::{
    clock::Clock,
    queue::{
        Claims, Health, LEASE_MS, Queue, QueueError, Settings,
        conformance::{
            Bench, Place, START_MS,
            aged::{self, Aged},
            budgeted::budgeted,
            conformance, delivered,
            failing::failing,
            gated::gated,
            laned::laned,
            observed::observed,
            shared::shared_by_bundles,
            workspaces::of_workspaces,
        },
    },
    storage::{database::Database, observe, recount, store::Store},
};

/// A database file in a folder of its own.
struct Folder(tempfile::TempDir);

impl Default for Folder {
    fn default() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }
}

impl Place for Folder {
    async fn serve(&self, slots: usize, clock: Clock) -> Result<(Queue, Claims), QueueError> {
        let database = Database::File(self.0.path().join("sheaf.db"));
        Queue::serve(Settings { database, slots, lease_ms: LEASE_MS, clock }).await
    }

    async fn store(&self, clock: Clock) -> Result<Store, QueueError> {
        Store::open(&Database::File(self.0.path().join("sheaf.db")), clock).await
    }

    async fn harm(&self, sql: &str) {
        self.saboteur().await.execute_unprepared(sql).await.unwrap();
    }
}

impl Aged for Folder {
    const LANES_SINCE: i64 = 5;

    fn schema() -> i64 {
        super::schema::known()
    }

    async fn age(&self, schema: i64) {
        let (present, older) = (self.0.path().join("sheaf.db"), self.0.path().join("older.db"));
        let connection = connect::writer(&older, true).await.unwrap();
        super::schema::migrate_to(&connection, schema).await.unwrap();
        connection.execute_unprepared(&format!("ATTACH '{}' AS present", present.display())).await.unwrap();
        let all = "SELECT name FROM main.sqlite_schema WHERE type = 'table'";
        for table in texts(&connection, all).await {
            let shared = format!(
                "SELECT name FROM pragma_table_info('{table}', 'main') \
                 INTERSECT SELECT name FROM pragma_table_info('{table}', 'present')"
            );
            let columns = texts(&connection, &shared).await.join(", ");
            let copy = format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM present.{table}");
            connection.execute_unprepared(&copy).await.unwrap();
        }
        connection.execute_unprepared("DETACH present").await.unwrap();
        connection.close().await.unwrap();
        for left in ["sheaf.db-wal", "sheaf.db-shm"] {
            let _ = std::fs::remove_file(self.0.path().join(left));
        }
        std::fs::rename(older, present).unwrap();
    }
}

async fn texts(connection: &DatabaseConnection, sql: &str) -> Vec<String> {
    let rows = connection.query_all_raw(super::shape::fixed(sql, [])).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

conformance!(Folder);
observed!(Folder);
gated!(Folder);
failing!(Folder);
laned!(Folder);
budgeted!(Folder);
shared_by_bundles!(Folder);
of_workspaces!(Folder);

impl Folder {
    /// A connection that does to the database what a broken disk would.
    async fn saboteur(&self) -> DatabaseConnection {
        connect::writer(&self.0.path().join("sheaf.db"), true).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lease_that_nobody_holds_any_more_keeps_nobody_busy() {
    let mut bench = Bench::<Folder>::new(4).await;
    bench.accept(bench.event(1, 0)).await;
    bench.claim().await.settle(delivered());
    // It looks into the database here, and not again for a second.
    bench.set.advance_ms(LEASE_MS / 3 - 500);
    bench.queue.flush().await.unwrap();
    bench.set.advance_ms(600);
    bench.queue.flush().await.unwrap();
    let (ran, has_run) = std::sync::mpsc::channel();
    tokio::spawn(async move { ran.send(()) });
    let idle = has_run.recv_timeout(Duration::from_secs(5)).is_ok();
    bench.set.advance_ms(1_000);
    assert!(idle, "the writer left the only thread to nobody");
}

#[tokio::test]
async fn a_refused_commit_is_an_error_to_the_publisher_and_the_queue_recovers_by_itself() {
    let bench = Bench::<Folder>::new(4).await;
    let saboteur = bench.place.saboteur().await;
    saboteur.execute_unprepared("ALTER TABLE body RENAME TO body_away").await.unwrap();
    let refused = bench.queue.publish(bench.event(1, 0)).await;
    assert!(matches!(refused, Err(QueueError::Storage(_))), "{refused:?}");
    assert!(matches!(*bench.queue.health().borrow(), Health::Failing(_)));

    saboteur.execute_unprepared("ALTER TABLE body_away RENAME TO body").await.unwrap();
    bench.queue.health().wait_for(|health| *health == Health::Ready).await.unwrap();
    bench.accept(bench.event(1, 0)).await;
    let line = bench.line().await;
    assert_eq!((line.received, line.pending), (1, 1));
}

#[tokio::test]
async fn a_settle_that_the_disk_refused_is_kept_and_committed_later() {
    let mut bench = Bench::<Folder>::new(4).await;
    bench.accept(bench.event(1, 0)).await;
    let claim = bench.claim().await;
    let saboteur = bench.place.saboteur().await;
    saboteur.execute_unprepared("ALTER TABLE run RENAME TO run_away").await.unwrap();
    claim.settle(delivered());
    assert!(bench.queue.flush().await.is_err());

    saboteur.execute_unprepared("ALTER TABLE run_away RENAME TO run").await.unwrap();
    bench.queue.health().wait_for(|health| *health == Health::Ready).await.unwrap();
    let line = bench.line().await;
    assert_eq!((line.delivered, line.pending), (1, 0));
}

#[tokio::test]
async fn a_settle_that_the_disk_refuses_during_the_stop_is_committed_before_its_end() {
    let mut bench = Bench::<Folder>::new(4).await;
    bench.accept(bench.event(1, 0)).await;
    let claim = bench.claim().await;
    let saboteur = bench.place.saboteur().await;
    saboteur.execute_unprepared("ALTER TABLE run RENAME TO run_away").await.unwrap();
    claim.settle(delivered());
    assert!(bench.queue.flush().await.is_err());

    let Bench { place, queue, .. } = bench;
    let mut health = queue.health();
    health.mark_unchanged();
    let stopped = tokio::spawn(queue.stop());
    for _ in 0..2 {
        health.changed().await.expect("it is tried once more");
    }
    saboteur.execute_unprepared("ALTER TABLE run_away RENAME TO run").await.unwrap();
    stopped.await.unwrap();
    let lines = place.store(Clock::system()).await.unwrap().ledger().await.unwrap();
    assert_eq!((lines[0].delivered, lines[0].pending), (1, 0));
}

#[tokio::test]
async fn a_queue_that_is_told_to_stop_claims_nothing_in_its_last_turn() {
    let bench = Bench::<Folder>::new(4).await;
    bench.accept(bench.event(1, START_MS + 1_000)).await;
    bench.set.advance_ms(1_000);
    let Bench { queue, mut claims, .. } = bench;
    queue.stop().await;
    assert!(claims.try_recv().is_err());
}

#[tokio::test]
async fn a_database_of_any_older_schema_goes_on_with_all_that_it_holds() {
    aged::a_database_of_any_older_schema_goes_on_with_all_that_it_holds::<Folder>().await;
}

#[tokio::test]
async fn a_database_of_a_newer_sheaf_is_refused() {
    let folder = Folder::default();
    folder.saboteur().await.execute_unprepared("PRAGMA user_version = 99").await.unwrap();
    let refused = folder.serve(1, Clock::system()).await;
    assert!(matches!(refused, Err(QueueError::Newer { found: 99, .. })), "{refused:?}");
    let refused = folder.store(Clock::system()).await;
    assert!(matches!(refused, Err(QueueError::Newer { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_store_without_a_database_says_where_it_looked() {
    let folder = Folder::default();
    let missing = folder.store(Clock::system()).await;
    assert!(matches!(missing, Err(QueueError::Missing(_))), "{missing:?}");
    let database = Database::File("/dev/null/sheaf.db".into());
    let unusable = Settings { database, slots: 1, lease_ms: LEASE_MS, clock: Clock::system() };
    let refused = Queue::serve(unusable).await;
    assert!(matches!(refused, Err(QueueError::Storage(reason)) if reason != Arc::from("")));
}

#[tokio::test]
async fn a_claim_and_its_sweep_use_the_index_on_due_times() {
    let folder = Folder::default();
    let connection = folder.saboteur().await;
    super::schema::migrate(&connection).await.unwrap();
    for sql in [
        super::claim::READY.replace('?', "5").as_str(),
        "SELECT min(due_ms) FROM queue WHERE gate IS NULL",
        "UPDATE queue SET owner = 0 WHERE owner <> 0 AND due_ms <= 1 AND gate IS NULL",
    ] {
        let plan = format!("EXPLAIN QUERY PLAN {sql}");
        let rows = connection.query_all_raw(super::shape::fixed(&plan, [])).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.try_get("", "detail").unwrap()).collect();
        assert!(plan.iter().any(|step| step.contains("queue_due")), "{plan:?}");
        assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE")), "{plan:?}");
    }
}

/// The plan of a statement, one step a line.
async fn plan(connection: &DatabaseConnection, sql: &str, values: &[i64]) -> String {
    let values = values.iter().map(|value| sea_orm::Value::from(*value));
    let explained = sea_orm::Statement::from_sql_and_values(
        sea_orm::DbBackend::Sqlite,
        format!("EXPLAIN QUERY PLAN {sql}"),
        values,
    );
    let rows = connection.query_all_raw(explained).await.unwrap();
    let steps = rows.iter().map(|row| row.try_get::<String>("", "detail").unwrap());
    steps.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_look_reads_no_more_than_its_limits_of_queue_and_history() {
    let folder = Folder::default();
    let connection = folder.saboteur().await;
    super::schema::migrate(&connection).await.unwrap();
    let ready = plan(&connection, observe::READY, &[1, 5]).await;
    assert!(ready.contains("queue USING INDEX queue_due (due_ms<?)"), "{ready}");
    let retrying = plan(&connection, observe::RETRYING, &[5]).await;
    assert!(retrying.contains("queue_again") && !retrying.contains("SCAN queue\n"), "{retrying}");
    let parked = plan(&connection, &observe::parked_sql(sea_orm::DbBackend::Sqlite), &[5, 5]).await;
    assert!(!parked.contains("SCAN run"), "{parked}");
    assert!(parked.matches("run_parked").count() >= 8, "{parked}");
    let examples = plan(&connection, &observe::examples_sql(sea_orm::DbBackend::Sqlite), &[1, 1, 3]).await;
    assert!(examples.contains("run_parked") && !examples.contains("TEMP B-TREE"), "{examples}");
    let behind = plan(&connection, super::claim::BEHIND, &[1, 2, 5]).await;
    assert!(
        behind.contains("queue_gate (gate=? AND due_ms<?)") && !behind.contains("TEMP B-TREE"),
        "{behind}"
    );
    let gates = plan(&connection, crate::storage::gates::BEHIND, &[]).await;
    assert!(gates.matches("SEARCH queue USING COVERING INDEX queue_gate").count() >= 3, "{gates}");
    let at_gates = plan(&connection, &observe::at_gates_sql(sea_orm::DbBackend::Sqlite), &[5]).await;
    assert!(at_gates.contains("SEARCH q USING INTEGER PRIMARY KEY"), "{at_gates}");
    assert!(!at_gates.contains("SCAN q"), "{at_gates}");
    let few = plan(&connection, recount::FEW, &[5]).await;
    assert!(few.contains("run_parked"), "{few}");
    let chunk = plan(&connection, recount::CHUNK, &[1, 2]).await;
    for table in ["event", "queue", "run"] {
        assert!(chunk.contains(&format!("SEARCH {table} USING INTEGER PRIMARY KEY")), "{chunk}");
    }
    // The list of parked runs stays in the order of ids, without sorting.
    let list = "SELECT id FROM run r WHERE r.state <> 0 AND r.state = 1 ORDER BY 1 DESC LIMIT 50";
    let list = plan(&connection, list, &[]).await;
    assert!(list.contains("run_not_ok") && !list.contains("TEMP B-TREE"), "{list}");
}

#[tokio::test]
async fn a_row_that_went_missing_or_a_counter_that_drifted_is_found_by_the_recount() {
    for (harm, counter, by) in [
        ("DELETE FROM event WHERE id = (SELECT max(id) FROM event)", "accepted", 1),
        ("DELETE FROM queue", "runs", 3),
        ("UPDATE ledger SET filtered = filtered + 2, decisions = decisions + 2", "filtered", 2),
        ("UPDATE ledger SET pending = pending - 1, delivered = delivered + 1", "pending", -1),
        ("UPDATE ledger SET parked = parked + 1, delivered = delivered - 1", "parked", 1),
    ] {
        let bench = Bench::<Folder>::new(1).await;
        for identity in 0..3 {
            bench.accept(bench.event(identity, i64::MAX / 4)).await;
        }
        bench.place.saboteur().await.execute_unprepared(harm).await.unwrap();
        let store = bench.queue.store();
        let mut recount = crate::oversight::recount::Recount::load(store).await;
        let found = recount.step(store, 0).await.unwrap().expect("it fits into one chunk");
        let mismatch =
            found.iter().find(|it| it.counter == counter).unwrap_or_else(|| panic!("{harm}: {found:?}"));
        assert_eq!(mismatch.counted - mismatch.rows, by, "{harm}: {found:?}");
    }
}

#[tokio::test]
async fn a_key_is_asked_about_by_its_index_however_many_wait() {
    let folder = Folder::default();
    let connection = folder.saboteur().await;
    super::schema::migrate(&connection).await.unwrap();
    let open = super::lanes::OPEN;
    let open = plan(&connection, &format!("{}VALUES (?,?){}", open.before, open.after), &[1, 2]).await;
    assert_eq!(open.matches("queue_lane (lane=? AND gate").count(), 3, "{open}");
    assert!(!open.contains("SCAN q") && !open.contains("TEMP B-TREE"), "{open}");
    let look = plan(&connection, crate::storage::lanes::LOOK, &[-1, 5]).await;
    assert_eq!(look.matches("USING COVERING INDEX queue_lane (lane=? AND gate").count(), 2, "{look}");
    assert!(look.matches("queue_lane (lane>?)").count() >= 2, "{look}");
}

#[tokio::test]
async fn a_key_without_a_head_is_found_and_goes_on() {
    let mut bench = Bench::<Folder>::new(8).await;
    let mut lanes = crate::oversight::lanes::Lanes::default();
    let a = bench.bring("a", 0..3).await;
    bench.bring("b", 10..12).await;
    assert_eq!(lanes.step(bench.queue.store()).await.unwrap(), 0);
    // What a node does that does not know of lanes.
    let head = format!("DELETE FROM queue WHERE event = {}", a[0].0);
    bench.place.saboteur().await.execute_unprepared(&head).await.unwrap();
    assert_eq!(lanes.step(bench.queue.store()).await.unwrap(), 1);
    assert_eq!(lanes.step(bench.queue.store()).await.unwrap(), 0);
    bench.a_second_later().await;
    let claims: Vec<_> = bench.claims_now().await.iter().map(|claim| claim.event.id()).collect();
    assert!(claims.contains(&a[1]) && !claims.contains(&a[2]), "{claims:?}");
}
