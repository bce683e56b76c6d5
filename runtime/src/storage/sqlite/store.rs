//! Reading the database, and what people do to it: beside a serving process or without one.

use std::{path::Path, sync::Arc};

use sea_orm::DatabaseConnection;
use sheaf_bundles::id::{EventId, RunId, VersionId};
use tokio::sync::OnceCell;

use super::{connect, history, ledger, replay, schema, versions};
use crate::{
    clock::Clock,
    queue::{
        QueueError,
        history::{
            EventDetail, EventFilter, EventSummary, LedgerLine, LedgerMismatch, RunDetail, RunFilter,
            RunSummary,
        },
        types::{Discarded, Replay, Replayed, Version},
    },
};

/// The stored events, runs and versions; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: std::path::PathBuf,
    clock: Clock,
    readers: DatabaseConnection,
    /// Opened by the first replay.
    writer: OnceCell<DatabaseConnection>,
}

impl Store {
    /// Opens an existing database. A process may serve it at the same time.
    ///
    /// # Errors
    /// `Missing` when there is no such file, `Newer` or `Older` when another sheaf made it, `Storage`.
    pub async fn open(path: &Path, clock: Clock) -> Result<Store, QueueError> {
        if !path.exists() {
            return Err(QueueError::Missing(path.to_owned()));
        }
        let readers = connect::readers(path).await?;
        schema::expect_current(&readers).await?;
        Ok(Store(Arc::new(Inner { path: path.to_owned(), clock, readers, writer: OnceCell::new() })))
    }

    /// Events, newest first.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn events(&self, filter: &EventFilter) -> Result<Vec<EventSummary>, QueueError> {
        Ok(history::events(&self.0.readers, filter).await?)
    }

    /// One event with its request and runs.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn event(&self, id: EventId) -> Result<Option<EventDetail>, QueueError> {
        Ok(history::event_detail(&self.0.readers, id).await?)
    }

    /// Runs, newest first.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, QueueError> {
        Ok(history::runs(&self.0.readers, filter).await?)
    }

    /// One run with its attempts.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn run(&self, id: RunId) -> Result<Option<RunDetail>, QueueError> {
        Ok(history::run_detail(&self.0.readers, id).await?)
    }

    /// A stored version with its artefact.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn version(&self, id: VersionId) -> Result<Option<Version>, QueueError> {
        Ok(versions::version(&self.0.readers, id).await?)
    }

    /// Every version that is active or that a pending run still needs: what a starting process compiles.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn versions_needed(&self) -> Result<Vec<Version>, QueueError> {
        Ok(versions::needed(&self.0.readers).await?)
    }

    /// The ledger and whether its equations hold, in one snapshot.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn ledger(&self) -> Result<Vec<LedgerLine>, QueueError> {
        Ok(ledger::lines(&self.0.readers).await?)
    }

    /// Counters that differ from the rows they count; empty when all is well. Reads every event and run.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn verify_ledger(&self) -> Result<Vec<LedgerMismatch>, QueueError> {
        Ok(ledger::mismatches(&self.0.readers).await?)
    }

    /// Parked runs, oldest first, of one bundle or of all.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn parked(&self, bundle: Option<&str>) -> Result<Vec<RunId>, QueueError> {
        Ok(replay::parked(&self.0.readers, bundle).await?)
    }

    /// Makes finished runs due again and notes who asked for what in the audit log. A serving process takes them within a second.
    ///
    /// # Errors
    /// `Storage`; chunks committed before it stay replayed.
    pub async fn replay(&self, runs: &[RunId], how: Replay) -> Result<Replayed, QueueError> {
        Ok(replay::replay(self.writer().await?, runs, how, self.0.clock.now_ms()).await?)
    }

    /// Gives up parked runs, noted in the audit log.
    ///
    /// # Errors
    /// `Storage`; chunks committed before it stay discarded.
    pub async fn discard(&self, runs: &[RunId]) -> Result<Discarded, QueueError> {
        Ok(replay::discard(self.writer().await?, runs, self.0.clock.now_ms()).await?)
    }

    /// Closes the database.
    pub async fn close(&self) {
        // Nothing is at stake: every answer was given after its commit.
        let _ = self.0.readers.close_by_ref().await;
        if let Some(writer) = self.0.writer.get() {
            let _ = writer.close_by_ref().await;
        }
    }

    async fn writer(&self) -> Result<&DatabaseConnection, QueueError> {
        self.0.writer.get_or_try_init(|| connect::writer(&self.0.path, false)).await
    }
}
