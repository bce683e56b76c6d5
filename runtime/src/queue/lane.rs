//! Lanes: the runs of one key of a bundle, of which one is in flight at a time.
//!
//! Of a lane's rows in the queue one is its head and lives like any other run: it is ready, leased, tried again, behind a
//! connection's gate. The others stand behind [`GateId::LANE`], where no claim reads. When the head leaves the queue, in
//! whatever way, the one with the lowest id becomes the head in the same commit.

use std::collections::BTreeSet;

use sheaf_bundles::{
    id::RunId,
    lane::{Keeps, LaneId},
};

use super::{
    backend::{Batch, SettleRow},
    types::{Content, Decision, Publish},
};

/// [`super::gate::GateId::LANE`] as SQL spells it.
macro_rules! lane_gate {
    () => {
        "-4611686018427387904"
    };
}
pub(crate) use lane_gate;

/// An event that was received later from now than this was received by a clock that was wrong, milliseconds. Nodes have the
/// database's time, to within far less.
const AHEAD_MS_MAX: i64 = 60_000;

/// What a run has the more of the newer it is. That is the time at which its event was received, for an event may have waited
/// in a spool while newer ones came by another node. Without a believable time it is old: whatever came since the clock
/// was put right is newer.
pub fn newness(received_ms: i64, run: RunId, now_ms: i64) -> (bool, i64, RunId) {
    (received_ms <= now_ms.saturating_add(AHEAD_MS_MAX), received_ms, run)
}

impl Batch<'_> {
    /// Lanes that its publishes put runs in, of those that keep this much.
    pub fn lanes_entered(&self, keeps: Keeps) -> BTreeSet<LaneId> {
        let lanes = self.publishes.iter().flat_map(decisions).filter_map(|decision| decision.lane);
        lanes.filter(|lane| lane.keeps == keeps).map(|lane| lane.id).collect()
    }

    /// Lanes whose head leaves the queue, unless its settle is among the stale.
    pub fn lanes_left(&self, stale: &[(RunId, u32)]) -> BTreeSet<LaneId> {
        let leaves = |settle: &&SettleRow| {
            settle.step.next_due_ms(0).is_none() && !stale.contains(&(settle.row.run, settle.row.fence))
        };
        self.settles.iter().filter(leaves).filter_map(|settle| settle.row.lane).collect()
    }
}

fn decisions(publish: &Publish) -> &[Decision] {
    match &publish.content {
        Content::Event(accepted) => &accepted.decisions,
        Content::Quarantine { .. } => &[],
    }
}

/// Why a run was given up that a newer event of its key took over.
pub fn superseded_by(event: sheaf_bundles::id::EventId) -> String {
    format!("the newer event {event} of the same key took over")
}

#[cfg(test)]
mod tests {
    use crate::queue::gate::{GateId, GateKind};

    #[test]
    fn the_gate_of_lanes_is_no_other_gate_and_no_place() {
        assert_eq!(lane_gate!().parse(), Ok(GateId::LANE.0));
        let furthest = GateId(GateId::of(GateKind::Source, "a").0 | ((1 << 51) - 1));
        assert!(GateId::LANE.0 < furthest.place());
    }
}
