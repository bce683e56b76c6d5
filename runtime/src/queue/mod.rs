//! The durable queue: publish, claim, settle; one group-committing writer.

pub mod claim;
pub mod delivery;
pub mod types;

use std::{path::PathBuf, sync::Arc};

use sheaf_bundles::id::VersionId;
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use claim::Claim;
use types::{Activated, NewVersion, Publish, Published, Version};

/// How a queue is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The database file; made when it is not there, with its folder.
    pub path: PathBuf,
    /// How many runs this node executes at once.
    pub slots: usize,
    /// How long a claim is this node's before another may take it, milliseconds.
    pub lease_ms: i64,
    /// The clock.
    pub clock: Clock,
}

/// The lease when nothing else is set, milliseconds.
pub const LEASE_MS: i64 = 20_000;

/// Where claims arrive, at most `slots` unsettled at any time.
pub type Claims = mpsc::Receiver<Claim>;

/// Why the queue could not do what was asked. Nothing was stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueueError {
    /// The database refused (disk full, read-only, input or output error). The caller answers 503.
    #[error("the database refused: {0}")]
    Storage(Arc<str>),
    /// Another server process has this database open.
    #[error("another sheaf server is using {}; stop it first, or give this one its own data directory", .0.display())]
    InUse(PathBuf),
    /// The database was made by a newer sheaf.
    #[error("the database has schema {found}, this sheaf knows up to {known}; use the newer sheaf")]
    Newer {
        /// The schema found.
        found: i64,
        /// The newest schema this binary knows.
        known: i64,
    },
    /// The SQLite inside this binary is too old to be trusted with write-ahead logs.
    #[error("SQLite {0} is older than 3.51.3, which may corrupt a write-ahead log")]
    OldSqlite(String),
    /// The queue is stopping.
    #[error("the queue is stopping")]
    Stopping,
}

/// Whether the queue can commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Ready,
    /// Commits fail for now; the writer keeps trying. Not ready for traffic.
    Failing(Arc<str>),
    /// An fsync failed: what the disk holds is unknown, so the process must exit and recover at its next start.
    Broken(Arc<str>),
}

/// A handle to the queue; cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {}

impl Queue {
    /// Opens the database for serving: checks SQLite, refuses a second server, migrates, takes back what the last process left,
    /// starts the writer. Claims arrive on the returned receiver.
    ///
    /// # Errors
    /// `InUse`, `Newer`, `OldSqlite`, or `Storage`.
    pub async fn serve(settings: Settings) -> Result<(Queue, Claims), QueueError> {
        let _ = settings;
        Err(QueueError::Stopping)
    }

    /// Commits a request; returns after the fsync. Waits while the intake is full.
    ///
    /// # Errors
    /// `Storage` or `Stopping`; nothing was stored then.
    pub async fn publish(&self, publish: Publish) -> Result<Published, QueueError> {
        let _ = publish;
        Err(QueueError::Stopping)
    }

    /// Makes exactly these bundle versions active in one commit. Versions that are known keep their ids;
    /// the epoch grows only when the active set changed.
    ///
    /// # Errors
    /// `Storage` or `Stopping`.
    pub async fn activate(&self, versions: Vec<NewVersion>) -> Result<Activated, QueueError> {
        let _ = versions;
        Err(QueueError::Stopping)
    }

    /// A stored version with its artefact.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn version(&self, id: VersionId) -> Result<Option<Version>, QueueError> {
        let _ = id;
        Err(QueueError::Stopping)
    }

    /// Whether the queue can commit; changes are seen by the receiver.
    pub fn health(&self) -> watch::Receiver<Health> {
        watch::Sender::new(Health::Ready).subscribe()
    }

    /// Returns when everything published and settled before the call is committed.
    ///
    /// # Errors
    /// `Storage` or `Stopping`.
    pub async fn flush(&self) -> Result<(), QueueError> {
        Err(QueueError::Stopping)
    }

    /// Stops: no more claims are given out, everything settled is committed, the database is closed.
    /// Call it after the claims in hand are settled.
    pub async fn stop(self) {}
}
