//! The conformance suite on SQLite, and what only SQLite can get wrong.

use std::sync::Arc;

use sea_orm::{ConnectionTrait, DatabaseConnection};

use super::connect;
use crate::{
    clock::Clock,
    queue::{
        Claims, Health, LEASE_MS, Queue, QueueError, Settings,
        conformance::{Bench, Place, conformance, delivered},
    },
    storage::Store,
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
        let path = self.0.path().join("sheaf.db");
        Queue::serve(Settings { path, slots, lease_ms: LEASE_MS, clock }).await
    }

    async fn store(&self, clock: Clock) -> Result<Store, QueueError> {
        Store::open(&self.0.path().join("sheaf.db"), clock).await
    }
}

conformance!(Folder);

impl Folder {
    /// A connection that does to the database what a broken disk would.
    async fn saboteur(&self) -> DatabaseConnection {
        connect::writer(&self.0.path().join("sheaf.db"), true).await.unwrap()
    }
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
    let unusable =
        Settings { path: "/dev/null/sheaf.db".into(), slots: 1, lease_ms: LEASE_MS, clock: Clock::system() };
    let refused = Queue::serve(unusable).await;
    assert!(matches!(refused, Err(QueueError::Storage(reason)) if reason != Arc::from("")));
}

#[tokio::test]
async fn a_claim_and_its_sweep_use_the_index_on_due_times() {
    let folder = Folder::default();
    let connection = folder.saboteur().await;
    super::schema::migrate(&connection).await.unwrap();
    for sql in [
        "SELECT id FROM queue WHERE due_ms <= 1 ORDER BY due_ms, id LIMIT 5",
        "SELECT min(due_ms) FROM queue",
        "UPDATE queue SET owner = 0 WHERE owner <> 0 AND due_ms <= 1",
    ] {
        let plan = format!("EXPLAIN QUERY PLAN {sql}");
        let rows = connection.query_all_raw(super::shape::fixed(&plan, [])).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.try_get("", "detail").unwrap()).collect();
        assert!(plan.iter().any(|step| step.contains("queue_due")), "{plan:?}");
        assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE")), "{plan:?}");
    }
}
