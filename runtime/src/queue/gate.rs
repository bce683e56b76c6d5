//! What may hold runs back: a connection whose vendor is ill, busy or full, a pause that a person asked for.
//!
//! A run that meets a closed gate is put behind it, out of the way of those that may run, and comes out when it opens.

use sheaf_bundles::{budget::Budget, id::VersionId, plan::Plan, workspace};

/// What a gate is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GateKind {
    /// Every run whose next step sends through it.
    Connection,
    /// Every run of any version of it.
    Bundle,
    /// Every run of an event that came through the connection.
    Source,
}

impl GateKind {
    /// Its stable name, as in commands and metrics.
    pub fn name(self) -> &'static str {
        match self {
            GateKind::Connection => "connection",
            GateKind::Bundle => "bundle",
            GateKind::Source => "source",
        }
    }
}

/// A gate's number: made from kind and name alone, so that every process knows it without asking. Stored, so it never
/// changes. 51 bits: rows of the queue stay narrow, and among ten thousand names two that meet are one in five million.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GateId(pub i64);

/// Bits of the name's hash.
const HASH_BITS: u32 = 48;

impl GateId {
    /// A run that belongs to no connection: nothing holds it back.
    pub const NONE: GateId = GateId(0);
    /// Where runs stand whose key has another one before them; see [`super::lane`]. Below every place, so that nobody takes
    /// it for one.
    pub const LANE: GateId = GateId(-(1 << 62));

    /// The gate of a connection or bundle.
    pub fn of(kind: GateKind, name: &str) -> GateId {
        let mask = (1 << HASH_BITS) - 1;
        let hash = (spread(name.as_bytes()) & mask).max(1).cast_signed();
        match kind {
            GateKind::Connection => GateId(hash),
            GateKind::Bundle => GateId(hash | 1 << HASH_BITS),
            GateKind::Source => GateId(hash | 2 << HASH_BITS),
        }
    }

    /// The gate of the connection that a bundle's first step sends through.
    pub fn of_first_step(plan: &Plan) -> GateId {
        GateId::of_step(plan, 0)
    }

    /// The gate of the connection that a step sends through; none for a step that sends nothing.
    pub fn of_step(plan: &Plan, step: usize) -> GateId {
        plan.step_connection(step)
            .map_or(GateId::NONE, |connection| GateId::of(GateKind::Connection, &connection.name))
    }

    /// Whether it is a connection's.
    pub fn is_connection(self) -> bool {
        self.0 >> HASH_BITS == 0
    }

    /// How a run is marked that holds one of the places of a connection with a limit.
    pub fn place(self) -> i64 {
        -self.0
    }

    /// Where replays wait apart for a connection whose budgets keep a share for new events.
    pub fn of_replays(self) -> GateId {
        GateId(self.0 | 3 << HASH_BITS)
    }

    /// Whether replays wait here.
    pub fn is_of_replays(self) -> bool {
        (self.0 >> HASH_BITS) & 3 == 3
    }

    /// The gate itself; of a gate where replays wait the connection's.
    pub fn itself(self) -> GateId {
        if self.is_of_replays() { GateId(self.0 & ((1 << HASH_BITS) - 1)) } else { self }
    }
}

/// Where runs wait: at a gate, and there apart for each bundle that shares its connection, so that one with many leaves the
/// others their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stand {
    /// The gate.
    pub gate: GateId,
    /// What their rows say: the gate itself, or a number of gate and bundle together. A node of an older sheaf takes that
    /// for the gate of a bundle that was resumed, and lets the runs out to the connection's own.
    pub row: GateId,
}

/// Tells the number of gate and bundle together from that of a gate.
const OF_BUNDLE: i64 = 1 << 50;

impl Stand {
    /// At the gate itself.
    pub fn at(gate: GateId) -> Stand {
        Stand { gate, row: gate }
    }

    /// With the runs of a bundle, whose own gate is given, at that of a connection.
    pub fn of_bundle(gate: GateId, bundle: GateId) -> Stand {
        let both = [gate.0.to_be_bytes(), bundle.0.to_be_bytes()].concat();
        let hash = (spread(&both) & ((1 << HASH_BITS) - 1)).cast_signed();
        let row = GateId(hash | OF_BUNDLE);
        Stand { gate, row: if gate.is_of_replays() { row.of_replays() } else { row } }
    }

    /// As a row says it whose run goes through this connection.
    pub fn read(row: GateId, through: GateId) -> Stand {
        match row.0 & OF_BUNDLE {
            0 => Stand::at(row),
            _ if row.is_of_replays() => Stand { gate: through.of_replays(), row },
            _ => Stand { gate: through, row },
        }
    }
}

/// FNV-1a, then SplitMix64's finaliser: neighbouring names give unrelated numbers.
fn spread(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// What may be set for a connection, as the files in force say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The connection's name.
    pub name: String,
    /// Runs at once over all nodes; `None` when the vendor does not mind.
    pub concurrency: Option<usize>,
    /// What may be sent in which time over all nodes.
    pub budgets: Vec<Budget>,
    /// What a request takes from each: the dearest of those that bundles make.
    pub cost: i64,
    /// Active bundles that send through it.
    pub bundles: usize,
}

impl Limit {
    /// Of a connection of this name, without any.
    pub fn none(name: impl Into<String>) -> Limit {
        Limit { name: name.into(), concurrency: None, budgets: Vec::new(), cost: 1, bundles: 1 }
    }

    /// The workspace it belongs to; empty for the directory's own.
    pub fn workspace(&self) -> &str {
        workspace::of(&self.name)
    }

    /// Whether its runs hold places, and come out from behind its gate alone.
    pub fn holds_places(&self) -> bool {
        self.concurrency.is_some() || !self.budgets.is_empty()
    }

    /// Whether a bundle sends through it; else it is told of for runs that wait.
    pub fn is_used(&self) -> bool {
        self.bundles > 0
    }

    /// Whether bundles share it, so that those that wait for it take turns.
    pub fn is_shared(&self) -> bool {
        self.bundles > 1
    }

    /// Whether replays leave something to new events.
    pub fn keeps_a_reserve(&self) -> bool {
        self.budgets.iter().any(|budget| budget.reserve_percent > 0)
    }
}

/// What is left of one budget, for people. One that nothing is spent of is not told of.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BudgetLeft {
    /// The connection.
    pub connection: String,
    /// The budget.
    pub budget: String,
    /// What may be spent in one window.
    pub amount: i64,
    /// What is left; below zero when more was spent than there was.
    pub left: i64,
    /// The window, milliseconds.
    pub window_ms: i64,
    /// When all of it is back, unix milliseconds.
    pub whole_ms: i64,
    /// Too little is left for one more request.
    pub spent: bool,
    /// Runs behind the connection's gate; [`WAITING_COUNT_MAX`] stands for that many or more.
    pub waiting: u64,
}

/// A gate that is not plainly open, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateRow {
    /// Its number.
    pub gate: GateId,
    /// What it is about.
    pub kind: GateKind,
    /// The name of that.
    pub name: String,
    /// Since when it is paused, unix milliseconds.
    pub paused_ms: Option<i64>,
    /// Nobody paused this bundle: its runs were set aside one after the other.
    pub failing: bool,
    /// Its breaker.
    pub breaker: super::breaker::Breaker,
}

/// A version whose runs a pause holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PausedVersion {
    /// The version.
    pub version: VersionId,
    /// The gate of its bundle, or of the connection its events come through.
    pub gate: GateId,
}

/// A gate that holds runs back, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ClosedGate {
    /// What it is about.
    pub kind: GateKind,
    /// The name of that.
    pub name: String,
    /// `paused` by a person; else why a connection's breaker is open, or that a bundle keeps `failing`.
    pub why: &'static str,
    /// Since when, unix milliseconds.
    pub since_ms: i64,
    /// When one run tries again, unix milliseconds; `None` for a pause.
    pub until_ms: Option<i64>,
    /// Runs behind it; [`WAITING_COUNT_MAX`] stands for that many or more.
    pub waiting: u64,
}

/// Runs behind one gate that are counted.
pub const WAITING_COUNT_MAX: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_older_databases_hold() {
        assert_eq!(GateId::of(GateKind::Connection, "crm"), GateId(CRM));
        assert_eq!(GateId::of(GateKind::Bundle, "crm"), GateId(CRM | 1 << 48));
    }

    /// Written down once: it is stored in rows.
    const CRM: i64 = 69432125279814;

    #[test]
    fn where_the_runs_of_a_bundle_wait_is_what_older_databases_hold_and_says_which_gate_it_is() {
        let (crm, leads) = (GateId::of(GateKind::Connection, "crm"), GateId::of(GateKind::Bundle, "leads"));
        let stand = Stand::of_bundle(crm, leads);
        assert_eq!(stand, Stand { gate: crm, row: GateId(CRM_LEADS) });
        assert_eq!(Stand::read(stand.row, crm), stand);
        let replays = Stand::of_bundle(crm.of_replays(), leads);
        assert_eq!(Stand::read(replays.row, crm), replays);
        assert_eq!(replays.gate, crm.of_replays());
        for gate in [crm, crm.of_replays(), leads] {
            assert_eq!(Stand::read(gate, crm), Stand::at(gate));
        }
        assert!(!stand.row.is_connection() && !stand.row.is_of_replays(), "as an older sheaf sees it");
    }

    /// Written down once: it is stored in rows.
    const CRM_LEADS: i64 = 1281415736818063;

    #[test]
    fn ten_thousand_names_are_ten_thousand_gates() {
        let names = (0..10_000).map(|number| format!("crm-{number}"));
        let gates: std::collections::HashSet<GateId> = names
            .flat_map(|name| {
                [GateKind::Connection, GateKind::Bundle, GateKind::Source].map(|kind| GateId::of(kind, &name))
            })
            .collect();
        assert_eq!(gates.len(), 30_000);
        assert!(gates.iter().all(|gate| gate.0 > 0));
    }
}
