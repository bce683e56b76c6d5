//! What an operator's eye sees of the queue: who waits and since when, what is set aside, and a recount of the ledger.

use serde::{Deserialize, Serialize};
use sheaf_bundles::id::RunId;

/// Rows looked at for ages, of each thing that runs wait for, from the oldest on; what is behind them is younger. Of runs behind
/// gates the same share of these at each gate, at least one. Keeps a look cheap with a million waiting.
pub const WAITING_ROWS_MAX: u32 = 10_000;
/// Versions with parked runs looked at from either end: what nobody has cared for in years hides nothing new, and is known
/// to be old.
pub const PARKED_VERSIONS_MAX: u32 = 500;
/// Parked runs of one version and class that are counted; more are "at least".
pub const PARKED_COUNT_MAX: u32 = 1_000;
/// Examples of runs that were parked for a refused authorisation, at least so many where there are: each names the connection
/// that refused. A breaker lets few such runs through, so these are of the last hours.
pub const REFUSED_EXAMPLES_MIN: u32 = 100;

/// Why a pending run waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitingFor {
    /// A slot, a place of its connection, its turn: it is due, nothing holds it back, and nobody has taken it.
    Slot,
    /// A gate that is shut: a pause, a vendor that is ill, a spent budget.
    Gate,
    /// The time it was delayed to.
    Delay,
    /// The vendor: it was refused at least once and is or will be tried again.
    Vendor,
    /// Another run of its key, which comes first.
    Key,
}

impl WaitingFor {
    /// Its stable name, as in metrics and JSON: the state of the run.
    pub fn state(self) -> &'static str {
        match self {
            WaitingFor::Slot => "ready",
            WaitingFor::Gate => "held",
            WaitingFor::Delay => "delayed",
            WaitingFor::Vendor => "retrying",
            WaitingFor::Key => "behind",
        }
    }
}

/// Pending runs of one connection that wait for the same thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The connection their events came through.
    pub connection: String,
    /// What for.
    pub waiting_for: WaitingFor,
    /// Of those looked at (see [`WAITING_ROWS_MAX`]): how many.
    pub count: u64,
    /// The oldest: due since (`Slot`, `Gate`), made at (`Delay`), first attempt at (`Vendor`); unix milliseconds.
    pub since_ms: i64,
    /// The run that waits longest; `None` for those that wait for a slot or a gate.
    pub oldest: Option<RunId>,
}

/// Parked runs of one version that ended with the same class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The bundle.
    pub bundle: String,
    /// The connection their events came through.
    pub connection: String,
    /// The class of the last delivery; empty when none was made.
    pub class: String,
    /// How many; [`PARKED_COUNT_MAX`] stands for that many or more.
    pub count: u64,
    /// When the first of them was parked, unix milliseconds.
    pub since_ms: i64,
    /// When the last of them was parked, unix milliseconds.
    pub newest_ms: i64,
}

/// A parked run to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedExample {
    /// Its id.
    pub run: RunId,
    /// When it was parked, unix milliseconds.
    pub parked_ms: i64,
    /// The step of its last delivery; empty when there was none.
    pub step: String,
    /// The connection that delivery was sent through; empty when there was none.
    pub through: String,
    /// The vendor's status, if it answered.
    pub status: Option<u16>,
}

/// The oldest transaction or snapshot that is open in a database: what was changed since then cannot be forgotten, by
/// whomever it was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Horizon {
    /// The number of the oldest transaction that it may have to see; moves on with time, unless one stays open.
    pub xid: i64,
    /// Who holds it: `pid 4711`, `prepared transaction`, `replication slot NAME`.
    pub holder: String,
}

/// What became of one connection's events and runs, counted in one place or the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// The connection's name.
    pub connection: String,
    /// Accepted events.
    pub accepted: i64,
    /// Events that could not be decoded.
    pub quarantined: i64,
    /// Versions whose filter said no, summed over events.
    pub filtered: i64,
    /// Runs, pending or finished.
    pub runs: i64,
}

/// The ledger at one moment, and the newest id of that moment. Rows up to that id are never added or removed later: ids
/// grow, events are kept, and a run only moves from the queue to history and back. So they can be counted at leisure,
/// in chunks, and must come to exactly this.
///
/// A backend whose ids are not committed in order (several nodes) takes an id some seconds old, and leaves out of the
/// counters what is newer, counted in the same snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// The newest id.
    pub until_id: i64,
    /// What the counters say.
    pub said: Vec<Rows>,
}

/// One chunk of a recount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The last id of the chunk.
    pub until_id: i64,
    /// How many of each there are in it.
    pub rows: Vec<Rows>,
}

/// A text kept for the next process, and which state of it this is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// Grows with every change; 0 when there was none yet.
    pub revision: i64,
    /// The text; empty when there was none yet.
    pub text: String,
}
