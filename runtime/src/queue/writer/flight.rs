//! Runs in flight: handed out, their leases kept, their ends made rows.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use sheaf_bundles::{budget::Bill, event::Event, id::RunId};
use tokio::time::Instant;

use super::Writer;
use crate::queue::{
    backend::{
        Backend, BillRow, CRASH_PAUSE_MS, CRASHES_MAX, ClaimedRow, LOST_MAX, PublishedRow, QueueRow,
        SettleRow, SettleStep,
    },
    breaker::Answered,
    claim::{Claim, End, Ended, Pass},
    gate::GateId,
    types::{ClaimedEvent, Contact, Content, Outcome, Publish, Published, Settle},
};

/// A run in flight here.
#[derive(Debug)]
pub struct InFlight {
    pub row: QueueRow,
    pub lease: Arc<AtomicI64>,
    pub extend_ms: i64,
    /// The gate of a broken connection that it finds out about.
    pub probe: Option<GateId>,
    /// What was paid for its request from its connection's budgets, and when in unix milliseconds.
    pub paid: Option<(i64, i64)>,
}

impl<B: Backend> Writer<B> {
    pub fn take_ended(&mut self, Ended { run, fence, how }: Ended) {
        let Some(held) = self.held.remove(&run) else { return };
        if held.row.fence != fence {
            self.held.insert(run, held);
            self.ends.stats.stale(1);
            return;
        }
        if let End::Settled(settle) = &how {
            self.learn(&held, settle);
            self.bill(&held, settle);
        }
        self.freed(&held);
        let (settle, met_ill) = match how {
            End::Settled(settle) => {
                let met_ill = settle.contacts.iter().any(|contact| contact.answered != Answered::Well);
                (settle_row(held.row, settle), met_ill)
            }
            End::Panicked => (crashed_row(held.row, self.clock.now_ms()), false),
        };
        self.push_settle(settle, met_ill);
    }

    /// The gates hear what a run found out about each connection that it sent through.
    fn learn(&mut self, held: &InFlight, settle: &Settle) {
        let now_ms = self.clock.now_ms();
        for Contact { through, answered } in settle.contacts.iter() {
            let probe = held.probe == Some(through);
            self.gates.answered(through, answered, settle.started_ms, probe, now_ms);
        }
    }

    /// The gates hear how the runs of a bundle end. One that is set aside after it met a vendor who is ill, or refuses the
    /// authorisation, says nothing about the bundle.
    fn count(&mut self, settle: &SettleRow, met_ill: bool) {
        match settle.step {
            SettleStep::Delivered { .. } => self.gates.finished(settle.row.version, true),
            SettleStep::Parked { .. } if !met_ill => self.gates.finished(settle.row.version, false),
            _ => {}
        }
    }

    /// A slot is free. A probe that has asked the vendor is over by now.
    pub fn freed(&mut self, held: &InFlight) {
        self.gates.gave(held.row.through);
        if let Some(gate) = held.probe {
            self.gates.probing(gate, 0);
        }
    }

    /// Notes what became of a request that was paid for, if that changes anything.
    fn bill(&mut self, held: &InFlight, settle: &Settle) {
        let Some((paid, paid_ms)) = held.paid else { return };
        let through = held.row.through;
        let bill = Bill { paid, paid_ms, sent: settle.sent.clone() };
        if self.gates.budgets(through).is_some_and(|limit| bill.counts(&limit.budgets)) {
            self.gates.look_into(through);
            self.bills.push(BillRow { run: held.row.run, fence: held.row.fence, gate: through, bill });
        }
    }

    fn push_settle(&mut self, settle: SettleRow, met_ill: bool) {
        self.count(&settle, met_ill);
        // Settles are written before the claim of the same turn, which may then take the run again.
        let now_ms = self.clock.now_ms();
        let next_ms = settle.step.next_due_ms(now_ms);
        self.settles_awaited |= next_ms.is_none() && settle.row.lane.is_some();
        // The next of its lane comes in its place.
        if let Some(due_ms) = next_ms.or_else(|| settle.row.lane.map(|_| now_ms)) {
            self.soonest_due_ms = self.soonest_due_ms.min(due_ms);
        }
        self.settles_since.get_or_insert_with(Instant::now);
        self.settles.push(settle);
    }

    /// Claims whose lease has run a third; they are extended in this turn.
    pub fn take_extensions(&mut self, now_ms: i64) -> Vec<(RunId, u32)> {
        if now_ms < self.extend_ms {
            return Vec::new();
        }
        let old = self.held.iter().filter(|(_, held)| held.extend_ms <= now_ms);
        old.map(|(run, held)| (*run, held.row.fence)).collect()
    }

    /// Notes the extended leases and finds the next one to extend.
    pub fn renew(&mut self, now_ms: i64, lease_end_ms: i64) {
        if now_ms < self.extend_ms {
            return;
        }
        self.extend_ms = i64::MAX;
        for held in self.held.values_mut() {
            if held.extend_ms <= now_ms {
                held.lease.store(lease_end_ms, Ordering::Relaxed);
                if let Some(gate) = held.probe {
                    self.gates.probing(gate, lease_end_ms);
                }
                held.extend_ms = now_ms + self.lease_ms / 3;
            }
            self.extend_ms = self.extend_ms.min(held.extend_ms);
        }
    }

    pub fn published(
        &mut self,
        publish: Publish,
        row: PublishedRow,
        now_ms: i64,
        lease_end_ms: i64,
    ) -> Published {
        match row {
            PublishedRow::Accepted { event, runs, handed } => {
                if let Content::Event(accepted) = publish.content
                    && !handed.is_empty()
                {
                    let shared = Arc::new(Event { id: event, ..accepted.event });
                    for row in handed {
                        self.give(
                            row,
                            ClaimedEvent::Decoded(shared.clone()),
                            None,
                            None,
                            now_ms,
                            lease_end_ms,
                        );
                    }
                }
                Published::Accepted { event, runs }
            }
            PublishedRow::Duplicate { of } => Published::Duplicate { of },
            PublishedRow::Quarantined { event } => Published::Quarantined { event },
            PublishedRow::StaleEpoch { epoch } => Published::StaleEpoch { epoch, publish: Box::new(publish) },
        }
    }

    pub fn hand_out(
        &mut self,
        claimed: ClaimedRow,
        probes: &[(RunId, GateId)],
        now_ms: i64,
        lease_end_ms: i64,
    ) {
        let ClaimedRow { row, event, state } = claimed;
        let probe = probes.iter().find(|(run, _)| *run == row.run).map(|(_, gate)| *gate);
        if row.lost >= LOST_MAX {
            let reason = format!(
                "its lease was lost {} times: the process died or stood still while it ran",
                row.lost
            );
            let step = SettleStep::Parked { reason, state: None };
            let through = row.through;
            let deliveries = Vec::new();
            self.push_settle(SettleRow { row, step, through, started_ms: now_ms, deliveries }, false);
            if let Some(gate) = probe {
                self.gates.probe_noted(gate, lease_end_ms);
                self.gates.probing(gate, 0);
            }
            return;
        }
        self.give(row, event, state, probe, now_ms, lease_end_ms);
    }

    fn give(
        &mut self,
        row: QueueRow,
        event: ClaimedEvent,
        state: Option<Vec<u8>>,
        probe: Option<GateId>,
        now_ms: i64,
        lease_end_ms: i64,
    ) {
        self.gates.took(row.through);
        if let Some(gate) = probe {
            self.gates.probe_noted(gate, lease_end_ms);
        }
        let lease = Arc::new(AtomicI64::new(lease_end_ms));
        let extend_ms = now_ms + self.lease_ms / 3;
        self.extend_ms = self.extend_ms.min(extend_ms);
        // Such a run came out from behind its connection's gate, and so was paid for.
        let paid = self.gates.budgets(row.through).map(|limit| (limit.cost, now_ms));
        let pass = Pass { through: row.through, paid: paid.is_some(), gated: self.gates.gated() };
        self.held.insert(row.run, InFlight { row, lease: lease.clone(), extend_ms, probe, paid });
        let claim = Claim {
            run: row.run,
            version: row.version,
            event,
            attempt: row.attempt,
            generation: row.generation,
            state,
            pass,
            fence: row.fence,
            lease,
            ended: Some(self.ends.ended_sender.clone()),
        };
        // There is room for every slot. Nobody listens while the node stops: the claim is dropped and so released.
        let _ = self.ends.claims.try_send(claim);
    }
}

fn settle_row(row: QueueRow, Settle { outcome, started_ms, deliveries, contacts, .. }: Settle) -> SettleRow {
    let through = match (&outcome, contacts.last) {
        (Outcome::Onward { through, .. }, _) => *through,
        (_, Some(contact)) => contact.through,
        (_, None) => row.through,
    };
    let step = match outcome {
        Outcome::Delivered => SettleStep::Delivered { reason: None },
        Outcome::DeliveredInPart { reason } => SettleStep::Delivered { reason: Some(reason) },
        Outcome::Parked { reason, state } => SettleStep::Parked { reason, state: Some(state) },
        Outcome::Retry { due_ms, state } => SettleStep::Retry { due_ms, state },
        Outcome::Onward { state, .. } => SettleStep::Onward { state },
        Outcome::Released { due_ms } => SettleStep::Released { due_ms },
    };
    SettleRow { row, step, through, started_ms, deliveries }
}

fn crashed_row(row: QueueRow, now_ms: i64) -> SettleRow {
    let step = if row.crashes + 1 >= CRASHES_MAX {
        let reason = format!("it panicked {CRASHES_MAX} times");
        SettleStep::Parked { reason, state: None }
    } else {
        SettleStep::Crashed { due_ms: now_ms + CRASH_PAUSE_MS }
    };
    SettleRow { row, step, through: row.through, started_ms: 0, deliveries: Vec::new() }
}
