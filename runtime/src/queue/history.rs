//! What readers of the queue see: events, runs, attempts, the ledger.

use sheaf_bundles::{
    event::Received,
    id::{EventId, RunId, VersionId},
};

use super::delivery::DeliveryRecord;

/// Which events to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Of one connection.
    pub connection: Option<String>,
    /// Only quarantined, or only accepted ones.
    pub quarantined: Option<bool>,
    /// Received at or after, unix milliseconds.
    pub since_ms: Option<i64>,
    /// The cursor: only events older than this one.
    pub before: Option<EventId>,
    /// At most so many; see [`PAGE_MAX`].
    pub limit: u32,
}

/// Which runs to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Of one connection.
    pub connection: Option<String>,
    /// Of one bundle, any version.
    pub bundle: Option<String>,
    /// In one state.
    pub state: Option<RunStateName>,
    /// Made at or after, unix milliseconds.
    pub since_ms: Option<i64>,
    /// The cursor: only runs older than this one.
    pub before: Option<RunId>,
    /// At most so many; see [`PAGE_MAX`].
    pub limit: u32,
}

/// Rows on one page at most.
pub const PAGE_MAX: u32 = 1_000;

/// One event in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSummary {
    /// Its id.
    pub id: EventId,
    /// Name of its connection.
    pub connection: String,
    /// When it was received, unix milliseconds.
    pub received_ms: i64,
    /// Why it could not be decoded; `None` for an accepted event.
    pub quarantined: Option<String>,
    /// Versions whose filter said no.
    pub filtered: Vec<VersionId>,
}

/// One event with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventDetail {
    /// As in the list.
    pub summary: EventSummary,
    /// The request as received.
    pub received: Received,
    /// Its runs, oldest first.
    pub runs: Vec<RunSummary>,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStateName {
    /// Waiting for its time, or being attempted.
    Pending,
    /// Every step done.
    Delivered,
    /// Waiting for a person.
    Parked,
    /// Given up by a person, or for a newer event of its key (`settle`).
    Discarded,
}

/// One run in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// Its id.
    pub id: RunId,
    /// Its event.
    pub event: EventId,
    /// Its bundle version.
    pub version: VersionId,
    /// The bundle's name.
    pub bundle: String,
    /// Name of its connection.
    pub connection: String,
    /// Where it stands.
    pub state: RunStateName,
    /// How often the vendor refused it since it was made or replayed.
    pub attempt: u32,
    /// How often it was replayed as new.
    pub generation: u32,
    /// When it is due, or its lease ends; pending runs only; unix milliseconds.
    pub due_ms: Option<i64>,
    /// Whether it waits for another run of its key; pending runs only.
    pub behind_its_key: bool,
    /// When it was finished; unix milliseconds.
    pub finished_ms: Option<i64>,
    /// Why it was parked or discarded, or which steps failed of a run that was delivered all the same.
    pub reason: Option<String>,
}

impl RunSummary {
    /// Whether it was delivered although a step failed.
    pub fn is_in_part(&self) -> bool {
        self.state == RunStateName::Delivered && self.reason.is_some()
    }
}

/// One run with its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDetail {
    /// As in the list.
    pub summary: RunSummary,
    /// Its attempts, oldest first.
    pub attempts: Vec<AttemptRecord>,
    /// What the next attempt or a replay starts from, opaque to the queue.
    pub state: Option<Vec<u8>>,
    /// What people did to it, oldest first.
    pub asked: Vec<AuditRecord>,
}

/// What a person did to a run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AuditRecord {
    /// When; unix milliseconds.
    pub at_ms: i64,
    /// What, and where it is known who, and why.
    pub action: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// Every step done.
    Delivered,
    /// Given up.
    Parked,
    /// To be repeated.
    Repeat,
    /// It panicked.
    Crashed,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// The claim's number; grows over the life of the run.
    pub fence: u32,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Unix milliseconds; 0 when unknown (a panic).
    pub started_ms: i64,
    /// Unix milliseconds.
    pub finished_ms: i64,
    /// Why it was parked.
    pub reason: Option<String>,
    /// Its deliveries, in order.
    pub deliveries: Vec<DeliveryRecord>,
}

/// One connection in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LedgerLine {
    /// Name of the connection.
    pub connection: String,
    /// Requests answered "ok".
    pub received: i64,
    /// New events.
    pub accepted: i64,
    /// Events known within the window.
    pub duplicate: i64,
    /// Requests that could not be decoded.
    pub quarantined: i64,
    /// Accepted events that no bundle took.
    pub unrouted: i64,
    /// One for each accepted event and bundle whose trigger fired.
    pub decisions: i64,
    /// Runs done.
    pub delivered: i64,
    /// Events a bundle's filter refused.
    pub filtered: i64,
    /// Runs that wait for a person.
    pub parked: i64,
    /// Runs that wait for their time or are being attempted.
    pub pending: i64,
    /// Runs given up by a person, or for a newer event of their key.
    pub discarded: i64,
    /// `received = accepted + duplicate + quarantined`.
    pub events_balance: bool,
    /// `decisions = delivered + filtered + parked + pending + discarded`.
    pub decisions_balance: bool,
}

/// A counter that differs from the rows it counts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LedgerMismatch {
    /// Name of the connection.
    pub connection: String,
    /// The counter's name.
    pub counter: String,
    /// What the ledger says.
    pub counted: i64,
    /// How many rows there are.
    pub rows: i64,
}
