//! The conformance suite on PostgreSQL, and what only nodes on PostgreSQL can get wrong.

use server::TestDatabase;

use crate::{
    clock::Clock,
    queue::{
        Claims, LEASE_MS, Queue, QueueError, Settings,
        conformance::{Place, conformance, observed::observed},
    },
    storage::{database::Database, postgres::node::SILENCE_MS, store::Store},
};

#[path = "../../../../tests/src/postgres.rs"]
#[expect(dead_code, reason = "some of it is for whole-product tests")]
mod server;

/// A database of its own, and one node's directory.
struct Shared {
    database: TestDatabase,
    folder: tempfile::TempDir,
}

impl Default for Shared {
    fn default() -> Shared {
        Shared { database: TestDatabase::new(), folder: tempfile::tempdir().unwrap() }
    }
}

impl Shared {
    /// The database as the node of that name sees it.
    fn seen_by(&self, node: &str) -> Database {
        Database::Postgres {
            url: self.database.url().parse().unwrap(),
            data: self.folder.path().join(node),
            node_silence_ms: SILENCE_MS,
        }
    }

    async fn node(&self, node: &str, slots: usize, clock: Clock) -> Result<(Queue, Claims), QueueError> {
        let database = self.seen_by(node);
        Queue::serve(Settings { database, slots, lease_ms: LEASE_MS, clock }).await
    }
}

impl Place for Shared {
    fn is_there() -> bool {
        server::is_installed()
    }

    async fn serve(&self, slots: usize, clock: Clock) -> Result<(Queue, Claims), QueueError> {
        self.node("a", slots, clock).await
    }

    async fn store(&self, clock: Clock) -> Result<Store, QueueError> {
        Store::open(&self.seen_by("a"), clock).await
    }
}

conformance!(Shared);
observed!(Shared);
