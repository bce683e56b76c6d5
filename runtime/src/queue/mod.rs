//! The durable queue: publish, claim, settle; one group-committing writer.

mod apart;
mod ask;
pub mod backend;
pub mod breaker;
pub mod claim;
#[cfg(test)]
pub(crate) mod conformance;
pub mod delivery;
pub mod gate;
pub mod gates;
pub mod history;
pub mod ids;
pub mod lane;
pub mod observe;
pub mod stats;
pub mod types;
mod writer;

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    clock::Clock,
    storage::{
        database::Database,
        postgres::backend::{Membership, PostgresBackend},
        sqlite::backend::SqliteBackend,
        store::Store,
    },
};
use apart::Apart;
use claim::Claim;
use gate::{GateId, Limit};
use stats::{Stats, StatsSnapshot};
use types::{Activated, Activation, Publish, Published};
use writer::{Ends, Writer, gathered::Command};

/// How a queue is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The database. A file is made when it is not there, with its folder.
    pub database: Database,
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
    /// The database was made by an older sheaf that still has to be brought up to date by serving it once.
    #[error(
        "the database has schema {found}, this sheaf needs {known}; start `sheaf serve` once to migrate it"
    )]
    Older {
        /// The schema found.
        found: i64,
        /// The schema this binary needs.
        known: i64,
    },
    /// The schema has to change a table that something else does not let go of.
    #[error(
        "the database has to change a table that others use, and did not get it in {tries} tries; \
         a backup or another long transaction holds it (see pg_stat_activity): start again when that is over"
    )]
    TableInUse {
        /// How often it tried.
        tries: u32,
    },
    /// There is no database yet.
    #[error("there is no database at {}; `sheaf serve` makes it", .0.display())]
    Missing(PathBuf),
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
    /// An fsync failed and what the disk holds is unknown, or the writer has ended without having been told to: the process
    /// must exit and recover at its next start.
    Broken(Arc<str>),
}

/// Requests that may wait for the writer; beyond them a publish waits for room, so answers slow down before any is refused.
const INTAKE_MAX: usize = 4_096;

/// A handle to the queue; cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    commands: mpsc::Sender<Command>,
    health: watch::Receiver<Health>,
    epoch: watch::Receiver<u64>,
    stats: Arc<Stats>,
    store: Store,
    #[cfg(test)]
    kill: Arc<tokio::sync::Notify>,
}

impl Queue {
    /// Opens the database for serving: refuses a second server on the same data, migrates, takes back what the last process
    /// left, starts the writer. Claims arrive on the returned receiver, from the first [`Queue::limit`] on; once it is dropped
    /// nothing more is claimed.
    ///
    /// # Errors
    /// `InUse`, `Newer`, `OldSqlite`, or `Storage`.
    pub async fn serve(settings: Settings) -> Result<(Queue, Claims), QueueError> {
        match settings.database.clone() {
            Database::File(path) => {
                let backend = SqliteBackend::open(&path, &settings).await?;
                let (queue, ends, claims) = Queue::over(&settings).await?;
                tokio::spawn(Writer::new(backend, &settings, ends).run());
                Ok((queue, claims))
            }
            Database::Postgres { url, data, node_silence_ms } => {
                let membership = Membership {
                    url,
                    data,
                    silence_ms: node_silence_ms,
                    lease_ms: settings.lease_ms,
                    clock: settings.clock.clone(),
                };
                let own = settings.clone();
                let writer = Apart::start(
                    async || PostgresBackend::open(membership).await,
                    async move |backend, ends| Writer::new(backend, &own, ends).run().await,
                )?;
                let writer = writer.opened().await?;
                let (queue, ends, claims) = Queue::over(&settings).await?;
                writer.run(ends);
                Ok((queue, claims))
            }
        }
    }

    /// A handle, and what a writer needs to serve it.
    async fn over(settings: &Settings) -> Result<(Queue, Ends, Claims), QueueError> {
        let store = Store::open(&settings.database, settings.clock.clone()).await?;
        let (commands, command_receiver) = mpsc::channel(INTAKE_MAX);
        let (ended_sender, ended) = mpsc::unbounded_channel();
        let (claims, claim_receiver) = mpsc::channel(settings.slots.max(1));
        let (health, epoch) = (watch::Sender::new(Health::Ready), watch::Sender::new(0));
        let stats = Arc::new(Stats::default());
        #[cfg(test)]
        let kill = Arc::new(tokio::sync::Notify::new());
        let queue = Queue {
            commands,
            health: health.subscribe(),
            epoch: epoch.subscribe(),
            stats: stats.clone(),
            store,
            #[cfg(test)]
            kill: kill.clone(),
        };
        let ends = Ends {
            commands: command_receiver,
            ended,
            ended_sender,
            claims,
            health,
            epoch,
            stats,
            stopping: false,
            #[cfg(test)]
            kill,
        };
        Ok((queue, ends, claim_receiver))
    }

    /// A handle whose writer is gone.
    #[cfg(test)]
    pub(crate) async fn orphaned(settings: &Settings) -> Queue {
        let (queue, _ends, _claims) = Queue::over(settings).await.unwrap();
        queue
    }

    /// Commits a request; returns after the fsync. Waits while the intake is full.
    ///
    /// # Errors
    /// `Storage` or `Stopping`; nothing was stored then.
    pub async fn publish(&self, publish: Publish) -> Result<Published, QueueError> {
        #[cfg(feature = "faulty")]
        if crate::faulty::has(crate::faulty::Fault::AnswerBeforeCommit) {
            return Ok(crate::faulty::answer_before_commit(self, publish));
        }
        self.commit(publish).await
    }

    pub(crate) async fn commit(&self, publish: Publish) -> Result<Published, QueueError> {
        self.ask(|answer| Command::Publish(publish, answer)).await?
    }

    /// Makes exactly these bundle versions active in one commit, beside those of workspaces that keep theirs. Versions that are
    /// known keep their ids; the epoch grows only when the active set changed.
    ///
    /// # Errors
    /// `Storage` or `Stopping`.
    pub async fn activate(&self, activation: impl Into<Activation>) -> Result<Activated, QueueError> {
        self.ask(|answer| Command::Activate(activation.into(), answer)).await?
    }

    /// What the files in force say of connections. Returns once it holds for every run that is taken from now on. What was
    /// spent of budgets that they do not name any more is forgotten.
    ///
    /// # Errors
    /// `Stopping`.
    pub async fn limit(&self, limits: HashMap<GateId, Limit>) -> Result<(), QueueError> {
        let free =
            limits.iter().filter(|(_, limit)| limit.budgets.is_empty()).map(|(gate, _)| *gate).collect();
        self.ask(|answer| Command::Limit(limits, answer)).await?;
        if let Err(error) = self.store.forget_budgets(&free).await {
            // It holds up nobody, it is only shown.
            tracing::warn!(%error, "what was spent of budgets that are gone could not be forgotten");
        }
        Ok(())
    }

    /// The stored events, runs and versions.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whether the queue can commit; changes are seen by the receiver.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// The catalogue's epoch as the writer saw it last; 0 before its first turn. Another node may move it.
    pub fn epoch(&self) -> watch::Receiver<u64> {
        self.epoch.clone()
    }

    /// What the writer has done so far.
    pub fn stats(&self) -> StatsSnapshot {
        self.stats.snapshot()
    }

    /// Returns when everything published and settled before the call is committed, and what is due by then is handed out.
    ///
    /// # Errors
    /// `Storage` or `Stopping`.
    pub async fn flush(&self) -> Result<(), QueueError> {
        self.ask(Command::Flush).await?
    }

    /// Stops: everything settled before the call is committed, the database is closed. Drop the receiver of claims and
    /// settle the claims in hand first; what is still in flight is due again at the next start.
    pub async fn stop(self) {
        // The writer may be gone already; then it is stopped.
        let _ = self.ask(Command::Stop).await;
        self.store.close().await;
    }

    /// Ends the writer as kill -9 ends its process: wherever it waits, also in the middle of a commit, and nothing is put in
    /// order. Returns once its hold of the database is gone.
    #[cfg(test)]
    pub(crate) async fn kill(mut self) {
        self.kill.notify_one();
        // The sender goes with the writer.
        let _ = self.health.wait_for(|_| false).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, QueueError> {
        ask::ask(&self.commands, command).await
    }
}
