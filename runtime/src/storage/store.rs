//! Reading the database, and what people do to it: beside a serving process or without one.

use std::{collections::HashSet, sync::Arc};

use sea_orm::DatabaseConnection;
use sheaf_bundles::{
    id::{EventId, RunId, VersionId},
    lane::LaneId,
};
use tokio::sync::OnceCell;

use super::{
    budgets, database::Database, gates, history, horizon, lanes, ledger, names, note, observe, recount,
    replay, versions,
};
use crate::{
    clock::Clock,
    queue::{
        QueueError,
        gate::{BudgetLeft, ClosedGate, GateId, GateKind},
        history::{
            EventDetail, EventFilter, EventSummary, LedgerLine, LedgerMismatch, RunDetail, RunFilter,
            RunSummary,
        },
        observe::{Chunk, Counters, Horizon, Note, Parked, ParkedExample, Waiting},
        types::{Discarded, Replay, Replayed, Version},
    },
};

/// The stored events, runs and versions; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: Database,
    clock: Clock,
    readers: DatabaseConnection,
    /// Opened by the first thing that is done to runs or gates, or noted.
    writer: OnceCell<DatabaseConnection>,
}

impl Store {
    /// Opens an existing database. A process may serve it at the same time.
    ///
    /// # Errors
    /// `Missing` when there is no such file, `Newer` or `Older` when another sheaf made it, `Storage`.
    pub async fn open(database: &Database, clock: Clock) -> Result<Store, QueueError> {
        let readers = database.readers().await?;
        Ok(Store(Arc::new(Inner { database: database.clone(), clock, readers, writer: OnceCell::new() })))
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

    /// The catalogue's epoch and the versions that are active in it.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn versions_in_force(&self) -> Result<(u64, Vec<Version>), QueueError> {
        Ok(versions::in_force(&self.0.readers).await?)
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

    /// Pending runs by connection and what they wait for; at most `rows_max` rows of each are looked at, oldest first.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn waiting(&self, rows_max: u32) -> Result<Vec<Waiting>, QueueError> {
        Ok(observe::waiting(&self.0.readers, self.0.clock.now_ms(), rows_max).await?)
    }

    /// Parked runs by version and class, of the `versions_max` newest and as many oldest versions that have any, newest first,
    /// each with its newest examples; and whether that is surely all of them.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn parked_groups(
        &self,
        versions_max: u32,
        examples_max: u32,
    ) -> Result<(Vec<(Parked, Vec<ParkedExample>)>, bool), QueueError> {
        Ok(observe::parked(&self.0.readers, versions_max, examples_max).await?)
    }

    /// What the counters say now, to be compared with a recount.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn counters(&self) -> Result<Counters, QueueError> {
        Ok(recount::counters(&self.0.readers, self.0.clock.now_ms()).await?)
    }

    /// Counts rows with ids after `after` up to `until`, at most `events_max` events and their runs.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn count_chunk(&self, after: i64, until: i64, events_max: u32) -> Result<Chunk, QueueError> {
        Ok(recount::chunk(&self.0.readers, after, until, events_max).await?)
    }

    /// Counters of pending and parked runs that differ from their rows, when there are no more than `rows_max` of them.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn few_mismatches(&self, rows_max: u32) -> Result<Vec<LedgerMismatch>, QueueError> {
        Ok(recount::few_mismatches(&self.0.readers, rows_max).await?)
    }

    /// The note of that name; an empty one when there is none.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn note(&self, name: &str) -> Result<Note, QueueError> {
        Ok(note::read(&self.0.readers, name).await?)
    }

    /// Keeps a note unless somebody changed it since that revision was read: `false` then, and nothing is changed.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn keep_note(&self, name: &str, text: &str, seen_revision: i64) -> Result<bool, QueueError> {
        Ok(note::keep(self.writer().await?, name, text, seen_revision).await?)
    }

    /// Lanes after that one in which runs wait for a head that is not there, and where to look on. There are none unless a node
    /// of an older sheaf gave up a run of a lane that it does not know of.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn headless_lanes(&self, after: LaneId) -> Result<(Vec<LaneId>, LaneId), QueueError> {
        Ok(lanes::headless(&self.0.readers, after).await?)
    }

    /// Gives these lanes a head; how many got one.
    ///
    /// # Errors
    /// `Storage`; those before it keep theirs.
    pub async fn mend_lanes(&self, without: &[LaneId]) -> Result<usize, QueueError> {
        Ok(lanes::mend(self.writer().await?, without, self.0.clock.now_ms()).await?)
    }

    /// Parked runs, oldest first, of one bundle or of all.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn parked_ids(&self, bundle: Option<&str>) -> Result<Vec<RunId>, QueueError> {
        Ok(replay::parked(&self.0.readers, bundle).await?)
    }

    /// Makes finished runs due again, noted in the audit log. A serving process takes them within a second.
    ///
    /// # Errors
    /// `Storage`; chunks committed before it stay replayed.
    pub async fn replay(&self, runs: &[RunId], how: Replay) -> Result<Replayed, QueueError> {
        Ok(replay::replay(self.writer().await?, runs, how, self.0.clock.now_ms()).await?)
    }

    /// Gives up parked runs; `said` (who, and why) is noted in the audit log.
    ///
    /// # Errors
    /// `Storage`; chunks committed before it stay discarded.
    pub async fn discard(&self, runs: &[RunId], said: &str) -> Result<Discarded, QueueError> {
        Ok(replay::discard(self.writer().await?, runs, said, self.0.clock.now_ms()).await?)
    }

    /// Holds the runs of a bundle, or those that a connection brought or that go through it, or lets them go on; `false` when
    /// it was so already. Noted in the audit log. A serving process follows within a second.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn pause(&self, kind: GateKind, name: &str, paused: bool) -> Result<bool, QueueError> {
        Ok(gates::pause(self.writer().await?, kind, name, paused, self.0.clock.now_ms()).await?)
    }

    /// Whether a bundle was ever in force, or a connection brought an event or has runs that go through it now.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn knows(&self, kind: GateKind, name: &str) -> Result<bool, QueueError> {
        Ok(names::known(&self.0.readers, kind, name).await?)
    }

    /// Gates that hold runs back.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn closed_gates(&self) -> Result<Vec<ClosedGate>, QueueError> {
        Ok(gates::closed(&self.0.readers).await?)
    }

    /// What the database still keeps old rows for: the oldest transaction or snapshot that is open. Always `None` of a file.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn horizon(&self) -> Result<Option<Horizon>, QueueError> {
        Ok(horizon::oldest(&self.0.readers).await?)
    }

    /// What is left of the budgets that something was spent of.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn budgets_left(&self) -> Result<Vec<BudgetLeft>, QueueError> {
        Ok(budgets::left(&self.0.readers, self.0.clock.now_ms()).await?)
    }

    /// Forgets what was spent of the budgets of these connections: the files name none any more.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn forget_budgets(&self, free: &HashSet<GateId>) -> Result<(), QueueError> {
        for gate in budgets::noted(&self.0.readers, free).await? {
            budgets::forget(self.writer().await?, gate).await?;
        }
        Ok(())
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
        self.0.writer.get_or_try_init(|| self.0.database.writer()).await
    }
}
