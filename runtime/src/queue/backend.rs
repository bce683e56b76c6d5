//! The seam to a database: one function commits one batch.

use std::{future::Future, sync::Arc, time::Duration};

use sheaf_bundles::{
    budget::{Accounts, Bill},
    id::{EventId, RunId, VersionId},
    lane::LaneId,
};
use tokio::sync::Notify;

use super::{
    delivery::DeliveryRecord,
    gate::{GateId, Stand},
    gates::{BreakerChange, Gates, Stored},
    types::{Activated, Activation, ClaimedEvent, Decision, Publish},
};

/// Runs a claim may take from the database in one turn.
pub const CLAIM_MAX: usize = 256;
/// Publishes in one commit.
pub const PUBLISH_MAX: usize = 512;
/// A run that panicked this often is parked.
pub const CRASHES_MAX: u32 = 3;
/// A run whose lease was lost this often (its process died or stood still) is parked. Higher than [`CRASHES_MAX`]:
/// whatever else was in flight when a process died is innocent.
pub const LOST_MAX: u32 = 12;
/// How long a run waits after a panic, milliseconds.
pub const CRASH_PAUSE_MS: i64 = 5_000;

/// A database that can hold the queue. What it can put right by doing a turn again it does again (a stale fence, a deadlock);
/// of the rest see [`Failure`].
pub trait Backend: Send + 'static {
    /// How long the writer looks away while a turn of many waits for more; zero, as it must be unless the writer has a thread of
    /// its own, is that none waits.
    const LOOK_AWAY: Duration;

    /// Commits one turn: extends leases, settles, claims, publishes, in this order and in one transaction.
    fn commit(&mut self, batch: &Batch<'_>) -> impl Future<Output = Result<Committed, BackendError>> + Send;

    /// Makes exactly these versions active, beside those of workspaces that keep theirs, and moves the epoch if the set changed,
    /// in one transaction.
    fn activate(
        &mut self,
        activation: &Activation,
        now_ms: i64,
    ) -> impl Future<Output = Result<Activated, BackendError>> + Send;

    /// Reads what is stored about gates, also by others; `stands` where runs wait as well, which takes the longer the more
    /// such places there are.
    fn gates(&mut self, stands: bool) -> impl Future<Output = Result<Stored, BackendError>> + Send;

    /// Fires when another process may have made something due. Never relied upon: the writer looks by itself each second.
    fn hint(&self) -> Arc<Notify>;

    /// Closes the database.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// One turn.
#[derive(Debug)]
pub struct Batch<'a> {
    /// Tells this batch from others of the same writer: after an unknown answer the very same one is tried again.
    pub number: u64,
    /// Unix milliseconds.
    pub now_ms: i64,
    /// Where the leases given or extended in this turn end, unix milliseconds.
    pub lease_end_ms: i64,
    /// Claims whose lease is to be extended: run and fence.
    pub extended: &'a [(RunId, u32)],
    /// Attempts that ended. Those with a stale fence change nothing and are reported.
    pub settles: &'a [SettleRow],
    /// Requests that were paid for and have ended, where that changes what is left of a connection's budgets.
    pub bills: &'a [BillRow],
    /// At most this many due runs are claimed; 0 when none can be due.
    pub claim_max: usize,
    /// Free slots: claimed runs take them first, runs published as due now take the rest.
    pub slots: usize,
    /// Which runs may run: asked about each that is due, unless all may.
    pub gates: &'a Gates,
    /// Breakers to be stored.
    pub breakers: &'a [BreakerChange],
    /// Versions whose bundles keep failing, and are to be paused.
    pub failing: &'a [VersionId],
    /// Publishes, answered in order.
    pub publishes: &'a [Publish],
    /// Write something even if there is nothing to write: the last commit was refused, and this one finds out whether
    /// the disk takes writes again.
    pub probe: bool,
}

/// A queue row as the writer keeps it while the run is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueRow {
    /// The run.
    pub run: RunId,
    /// Its event.
    pub event: EventId,
    /// Its bundle version.
    pub version: VersionId,
    /// The number of its connection in this database.
    pub connection: i64,
    /// The gate of the connection that its next step sends through.
    pub through: GateId,
    /// Its lane.
    pub lane: Option<LaneId>,
    /// Grows with every claim; what a settle compares.
    pub fence: u32,
    /// The vendor's refusals.
    pub attempt: u32,
    /// Replays as new.
    pub generation: u32,
    /// Panics.
    pub crashes: u32,
    /// Leases lost.
    pub lost: u32,
    /// Whether a state is stored.
    pub has_state: bool,
}

impl QueueRow {
    /// A run of a new event; one that is handed out at once is claimed for the first time.
    pub fn of_new(
        run: RunId,
        event: EventId,
        connection: i64,
        decision: &Decision,
        is_handed_out: bool,
    ) -> QueueRow {
        QueueRow {
            run,
            event,
            version: decision.version,
            connection,
            through: decision.through,
            lane: decision.lane.map(|lane| lane.id),
            fence: u32::from(is_handed_out),
            attempt: 0,
            generation: 0,
            crashes: 0,
            lost: 0,
            has_state: false,
        }
    }
}

/// The end of an attempt, ready to be written.
#[derive(Debug, Clone)]
pub struct SettleRow {
    /// The row as it was claimed.
    pub row: QueueRow,
    /// What becomes of the run.
    pub step: SettleStep,
    /// The gate that it waits for, if it goes on.
    pub through: GateId,
    /// When the attempt began, unix milliseconds.
    pub started_ms: i64,
    /// Its deliveries.
    pub deliveries: Vec<DeliveryRecord>,
}

/// A request that was paid for and has ended, ready to be written. It counts once, as the settle of the same run and fence
/// does.
#[derive(Debug, Clone)]
pub struct BillRow {
    /// The run.
    pub run: RunId,
    /// Its fence.
    pub fence: u32,
    /// The gate of the connection whose budgets paid.
    pub gate: GateId,
    /// The bill.
    pub bill: Bill,
}

/// What becomes of a run when an attempt ends.
#[derive(Debug, Clone)]
pub enum SettleStep {
    /// History, delivered.
    Delivered {
        /// Which steps failed all the same, and why.
        reason: Option<String>,
    },
    /// History, parked. `None` leaves the stored state as it is.
    Parked {
        /// Why.
        reason: String,
        /// The state to keep for a replay.
        state: Option<Vec<u8>>,
    },
    /// Due again later; the vendor's refusal is counted.
    Retry {
        /// When, unix milliseconds.
        due_ms: i64,
        /// The state for the next attempt.
        state: Vec<u8>,
    },
    /// Due again at once, for a step through another gate; no refusal is counted.
    Onward {
        /// The state for that step.
        state: Vec<u8>,
    },
    /// Due again; nothing is counted.
    Released {
        /// When, unix milliseconds; a time that is past means now.
        due_ms: i64,
    },
    /// Due again after a pause; the panic is counted.
    Crashed {
        /// When, unix milliseconds.
        due_ms: i64,
    },
}

impl SettleStep {
    /// When the run is due again, unix milliseconds; `None` when it is finished.
    pub fn next_due_ms(&self, now_ms: i64) -> Option<i64> {
        match self {
            SettleStep::Delivered { .. } | SettleStep::Parked { .. } => None,
            SettleStep::Retry { due_ms, .. } | SettleStep::Crashed { due_ms } => Some(*due_ms),
            SettleStep::Onward { .. } => Some(now_ms),
            SettleStep::Released { due_ms } => Some(now_ms.max(*due_ms)),
        }
    }
}

/// What a turn did.
#[derive(Debug, Default)]
pub struct Committed {
    /// One for each publish, in order.
    pub published: Vec<PublishedRow>,
    /// Runs claimed from the database.
    pub claimed: Vec<ClaimedRow>,
    /// Settles and extensions that found another fence, or no row: run and the fence they came with.
    pub stale: Vec<(RunId, u32)>,
    /// Where runs wait, in the order in which it happened.
    pub behind: Vec<GateNote>,
    /// Whether more was ready than there were slots for; `None` when nobody looked.
    pub crowded: Option<bool>,
    /// Claimed runs that find out whether a vendor is well, and its gate.
    pub probes: Vec<(RunId, GateId)>,
    /// What is spent now of the budgets of connections that this turn paid from or settled.
    pub accounts: Vec<(GateId, Accounts)>,
    /// The soonest due time known after this turn, apart from runs behind gates: of the whole queue when all that was due
    /// could be claimed, now when there may be more, else of what this turn itself put in.
    pub soonest_due_ms: Option<i64>,
    /// The catalogue's epoch.
    pub epoch: u64,
    /// Why no publish was stored although the rest was: there is room to finish what is in hand, and for nothing new.
    pub full: Option<String>,
}

/// What a turn knows of runs that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateNote {
    /// Runs were put there.
    Put(Stand),
    /// It was looked for runs there that may come out.
    Looked {
        /// Where.
        stand: Stand,
        /// When to look again, unix milliseconds; `None` when none are left.
        again_ms: Option<i64>,
    },
    /// Another node has for now what comes out there.
    Elsewhere {
        /// The gate.
        gate: GateId,
        /// When to ask again, unix milliseconds.
        again_ms: i64,
    },
}

impl Committed {
    /// Others have taken over what this turn claimed: it is due by now, for whoever claims it anew.
    pub fn keep_nothing(&mut self, now_ms: i64) {
        self.claimed.clear();
        self.published.iter_mut().for_each(PublishedRow::keep_nothing);
        self.soonest_due_ms = Some(now_ms);
    }
}

/// What became of one publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishedRow {
    /// A new event.
    Accepted {
        /// Its id.
        event: EventId,
        /// Runs made.
        runs: usize,
        /// Those of them that are claimed already.
        handed: Vec<QueueRow>,
    },
    /// Known within the window.
    Duplicate {
        /// The first one.
        of: EventId,
    },
    /// Kept for a person.
    Quarantined {
        /// Its id.
        event: EventId,
    },
    /// Nothing stored.
    StaleEpoch {
        /// The current epoch.
        epoch: u64,
    },
}

impl PublishedRow {
    /// The event that it put in.
    pub fn new_event(&self) -> Option<EventId> {
        match self {
            PublishedRow::Accepted { event, .. } | PublishedRow::Quarantined { event } => Some(*event),
            PublishedRow::Duplicate { .. } | PublishedRow::StaleEpoch { .. } => None,
        }
    }

    /// Runs of it that are claimed already.
    pub fn handed(&self) -> &[QueueRow] {
        match self {
            PublishedRow::Accepted { handed, .. } => handed,
            _ => &[],
        }
    }

    /// See [`Committed::keep_nothing`].
    pub fn keep_nothing(&mut self) {
        if let PublishedRow::Accepted { handed, .. } = self {
            handed.clear();
        }
    }
}

/// A run claimed from the database.
#[derive(Debug)]
pub struct ClaimedRow {
    /// The row.
    pub row: QueueRow,
    /// Its event.
    pub event: ClaimedEvent,
    /// What the last attempt left.
    pub state: Option<Vec<u8>>,
}

/// A refused commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BackendError {
    /// What that means.
    pub failure: Failure,
    /// What the database said.
    pub message: String,
}

/// What a refused commit means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was stored.
    Refused,
    /// The answer to the commit was lost, or of two transactions one was stored and the other refused. The same batch again finds out, and does what was not done.
    Unknown,
    /// An fsync failed: what the disk holds is unknown until the database is opened anew.
    Broken,
}
