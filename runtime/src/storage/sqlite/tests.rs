//! The conformance suite on SQLite, and what only SQLite can get wrong.

use crate::{
    clock::Clock,
    queue::{
        Claims, LEASE_MS, Queue, QueueError, Settings,
        conformance::{Place, conformance},
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
