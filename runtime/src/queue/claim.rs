//! A run this node may execute now.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use sheaf_bundles::id::{RunId, VersionId};
use tokio::sync::mpsc;

use super::{
    gate::GateId,
    types::{ClaimedEvent, Outcome, Settle},
};

/// A run under lease. Settle it; one that is dropped is due again, and a panic while it was held is counted.
#[derive(Debug)]
pub struct Claim {
    /// The run.
    pub run: RunId,
    /// The bundle version to run.
    pub version: VersionId,
    /// The event.
    pub event: ClaimedEvent,
    /// How many attempts the vendor has refused so far; 0 for the first attempt.
    pub attempt: u32,
    /// How often it was replayed as new; part of the idempotency key.
    pub generation: u32,
    /// What the last attempt left; `None` before the first.
    pub state: Option<Vec<u8>>,
    /// What it may send.
    pub pass: Pass,
    pub(super) fence: u32,
    pub(super) lease: Arc<AtomicI64>,
    pub(super) ended: Option<mpsc::UnboundedSender<Ended>>,
}

/// What the gates let a run send when it was claimed.
#[derive(Debug, Clone, Default)]
pub struct Pass {
    /// The gate that it passed: of the connection that its next step sends through.
    pub through: GateId,
    /// One request through it is paid for from its connection's budgets; no other goes through it without.
    pub paid: bool,
    /// Connections whose gate every run passes that sends through them.
    pub gated: Arc<HashSet<GateId>>,
}

impl Pass {
    /// Whether a request may go through a connection; `used` when what was paid for was sent before.
    pub fn covers(&self, through: GateId, used: bool) -> bool {
        if through == self.through { !(self.paid && used) } else { !self.gated.contains(&through) }
    }
}

/// The end of a claim on its way to the writer.
#[derive(Debug)]
pub(super) struct Ended {
    pub run: RunId,
    pub fence: u32,
    pub how: End,
}

#[derive(Debug)]
pub(super) enum End {
    Settled(Settle),
    Panicked,
}

impl Claim {
    /// Ends the attempt. It returns at once; the writer commits it within milliseconds and keeps trying while the disk refuses.
    /// A settle whose lease was taken over changes nothing.
    pub fn settle(mut self, settle: Settle) {
        self.end(End::Settled(settle));
    }

    /// When the lease ends, unix milliseconds. The writer extends it while the claim is held.
    pub fn lease_end_ms(&self) -> i64 {
        self.lease.load(Ordering::Relaxed)
    }

    fn end(&mut self, how: End) {
        if let Some(ended) = self.ended.take() {
            // The writer is gone only when the process stops; the lease then ends by itself.
            let _ = ended.send(Ended { run: self.run, fence: self.fence, how });
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.end(End::Panicked);
        } else {
            self.end(End::Settled(Settle::unsent(Outcome::Released { due_ms: 0 })));
        }
    }
}
