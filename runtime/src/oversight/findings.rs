//! From what was seen to what is wrong. Pure.

use sheaf_bundles::{
    alerts::{
        decide::Observed,
        message::{EXAMPLES_MAX, Example, Finding, Kind, SPOOLED_BYTES},
    },
    budget::DAY_MS,
    verdict::Class,
};

use super::{Part, Seen, Snapshot};
use crate::queue::{
    breaker::Why,
    gate::{BudgetLeft, ClosedGate, GateKind, WAITING_COUNT_MAX},
    observe::{PARKED_COUNT_MAX, Parked, ParkedExample, Waiting, WaitingFor},
};

/// A transaction or snapshot that is open for longer than this is told of, milliseconds: 10 minutes.
pub const SNAPSHOT_MS_MAX: i64 = 600_000;
/// What runs that were parked before a request was made are called in a message.
const NOT_SENT: &str = "not_sent";
/// What runs that wait for a budget are called in a message.
const SPENT: &str = "spent";
/// When a thing grew that does not grow, unix milliseconds.
const NEVER_MS: i64 = 0;

impl Seen {
    /// Everything that is wrong, when runs of a connection may wait for `waiting_max_ms` of it.
    pub fn observed(&self, waiting_max_ms: impl Fn(&str) -> i64) -> Observed {
        let mut observed = Observed::default();
        if self.failing {
            let failing = Finding::new(Kind::QueueFailing, "", 1, self.at_ms, self.at_ms);
            let kept = self.spooled_bytes.map(|bytes| (SPOOLED_BYTES.to_owned(), bytes));
            observed.findings.push(Finding { parts: kept.into_iter().collect(), ..failing });
        }
        let cut = self.parked_more.then_some(&Part::Parked);
        let hidden = |kind: &Kind| self.unread.iter().chain(cut).any(|part| part.kinds().contains(kind));
        observed.unseen = Kind::ALL.into_iter().filter(hidden).collect();
        observed.quarantined = (!self.unread.contains(&Part::Ledger)).then(|| self.quarantined());
        for part in Part::ALL.into_iter().filter(|part| !self.unread.contains(part)) {
            self.find(part, &waiting_max_ms, &mut observed.findings);
        }
        observed
    }

    /// What is wrong by one part of what was seen.
    fn find(&self, part: Part, waiting_max_ms: &impl Fn(&str) -> i64, findings: &mut Vec<Finding>) {
        match part {
            Part::Ledger => self.ledger(findings),
            Part::Waiting => {
                let long =
                    |waiting: &&Waiting| self.at_ms - waiting.since_ms > waiting_max_ms(&waiting.connection);
                let long = self.waiting.iter().filter(long).filter_map(waits);
                long.for_each(|waits| merge(findings, waits));
            }
            Part::Gates => {
                self.gates.iter().filter_map(held_back).for_each(|held| merge(findings, held));
            }
            Part::Budgets => {
                // A budget of a second or a minute is spent now and then, and whole again before anybody has read of it.
                let told =
                    |budget: &&BudgetLeft| budget.spent && budget.window_ms >= DAY_MS && budget.waiting > 0;
                self.budgets.iter().filter(told).for_each(|budget| spent(budget, self.at_ms, findings));
            }
            Part::Snapshot => findings.extend(self.snapshot.as_ref().and_then(|open| old(open, self.at_ms))),
            Part::Parked => {
                let aside = self.parked.iter().flat_map(|(parked, examples)| set_aside(parked, examples));
                aside.for_each(|aside| merge(findings, aside));
            }
        }
    }

    /// How many events of each connection could never be read.
    fn quarantined(&self) -> Vec<(String, u64)> {
        let some = self.ledger.iter().filter(|line| line.quarantined > 0);
        some.map(|line| (line.connection.clone(), line.quarantined.unsigned_abs())).collect()
    }

    fn ledger(&self, findings: &mut Vec<Finding>) {
        for line in &self.ledger {
            let events = line.accepted + line.duplicate + line.quarantined;
            let decisions = line.delivered + line.filtered + line.parked + line.pending + line.discarded;
            let mut facts = Vec::new();
            if !line.events_balance {
                facts.push(format!("received {} ≠ {events}", line.received));
            }
            if !line.decisions_balance {
                facts.push(format!("decisions {} ≠ {decisions}", line.decisions));
            }
            if !facts.is_empty() {
                let count = facts.len() as u64;
                let broken =
                    Finding::new(Kind::LedgerBroken, line.connection.as_str(), count, self.at_ms, self.at_ms);
                merge(findings, Finding { facts, ..broken });
            }
        }
        for mismatch in &self.mismatches {
            let since_ms = self.recounted_ms.unwrap_or(self.at_ms);
            let broken =
                Finding::new(Kind::LedgerBroken, mismatch.connection.as_str(), 1, since_ms, since_ms);
            let fact = format!("{} {} ≠ {} rows", mismatch.counter, mismatch.counted, mismatch.rows);
            merge(findings, Finding { facts: vec![fact], ..broken });
        }
    }
}

/// A delay is what the bundle asked for.
fn waits(waiting: &Waiting) -> Option<Finding> {
    match waiting.waiting_for {
        WaitingFor::Delay => return None,
        WaitingFor::Slot | WaitingFor::Gate | WaitingFor::Vendor | WaitingFor::Key => {}
    }
    let (connection, count) = (waiting.connection.as_str(), waiting.count);
    let oldest =
        waiting.oldest.map(|run| Example { run: run.to_string(), step: String::new(), status: None });
    Some(Finding {
        parts: vec![(waiting.waiting_for.state().to_owned(), count)],
        examples: oldest.into_iter().collect(),
        ..Finding::new(Kind::WaitingLong, connection, count, waiting.since_ms, waiting.since_ms)
    })
}

/// One that is open for long makes every look for work read all that was done since, and its rows stay on the disk.
fn old(open: &Snapshot, at_ms: i64) -> Option<Finding> {
    let facts = vec![open.horizon.holder.clone()];
    let finding = Finding::new(Kind::SnapshotOld, "", 1, open.since_ms, open.since_ms);
    (at_ms - open.since_ms > SNAPSHOT_MS_MAX).then_some(Finding { facts, ..finding })
}

/// A vendor that asked for a pause gets it, and that is nothing to tell of.
fn held_back(gate: &ClosedGate) -> Option<Finding> {
    let because = |why: Why| gate.why == why.name();
    let kind = match gate.kind {
        _ if because(Why::Busy) => return None,
        _ if because(Why::Refused) => Kind::AuthorisationBroken,
        _ if because(Why::Quota) => Kind::QuotaExhausted,
        GateKind::Connection | GateKind::Source => Kind::ConnectionClosed,
        GateKind::Bundle => Kind::BundlePaused,
    };
    Some(Finding {
        at_least: gate.waiting >= u64::from(WAITING_COUNT_MAX),
        parts: vec![(gate.why.to_owned(), gate.waiting)],
        ..Finding::new(kind, gate.name.as_str(), gate.waiting, gate.since_ms, gate.since_ms)
    })
}

/// The same runs wait for all budgets of a connection, and for its vendor's own quota: they are counted once. When a budget
/// was spent is not known, so it does not grow.
fn spent(budget: &BudgetLeft, at_ms: i64, findings: &mut Vec<Finding>) {
    let fact = format!("{} {} / {}", budget.budget, budget.left, budget.amount);
    let same = |own: &&mut Finding| own.kind == Kind::QuotaExhausted && own.subject == budget.connection;
    match findings.iter_mut().find(same) {
        Some(own) => own.facts.push(fact),
        None => findings.push(Finding {
            at_least: budget.waiting >= u64::from(WAITING_COUNT_MAX),
            parts: vec![(SPENT.to_owned(), budget.waiting)],
            facts: vec![fact],
            ..Finding::new(Kind::QuotaExhausted, budget.connection.as_str(), budget.waiting, at_ms, NEVER_MS)
        }),
    }
}

/// A refused authorisation is about the connection that was refused, whatever the bundle; all else is about the bundle.
fn set_aside(parked: &Parked, examples: &[ParkedExample]) -> Vec<Finding> {
    if parked.class != Class::AuthBroken.name() {
        return vec![aside(Kind::RunParked, &parked.bundle, parked, examples.iter().collect())];
    }
    let mut refused: Vec<(&str, Vec<&ParkedExample>)> = Vec::new();
    for example in examples.iter().filter(|example| !example.through.is_empty()) {
        match refused.iter_mut().find(|(through, _)| *through == example.through) {
            Some((_, of_it)) => of_it.push(example),
            None => refused.push((&example.through, vec![example])),
        }
    }
    match refused.as_slice() {
        [] => vec![aside(Kind::AuthorisationBroken, &parked.connection, parked, examples.iter().collect())],
        [(through, of_it)] => vec![aside(Kind::AuthorisationBroken, through, parked, of_it.clone())],
        _ => {
            let more = parked.count > examples.len() as u64;
            refused.into_iter().map(|(through, of_it)| aside_of_some(through, parked, of_it, more)).collect()
        }
    }
}

/// Of a group whose runs were refused by several connections, those of one, as far as they are among the examples.
fn aside_of_some(through: &str, group: &Parked, examples: Vec<&ParkedExample>, more: bool) -> Finding {
    let parked_ms = || examples.iter().map(|example| example.parked_ms);
    let of_it = Parked {
        count: examples.len() as u64,
        since_ms: parked_ms().min().unwrap_or(group.since_ms),
        newest_ms: parked_ms().max().unwrap_or(group.newest_ms),
        ..group.clone()
    };
    Finding { at_least: more, ..aside(Kind::AuthorisationBroken, through, &of_it, examples) }
}

fn aside(kind: Kind, subject: &str, parked: &Parked, examples: Vec<&ParkedExample>) -> Finding {
    let class = if parked.class.is_empty() { NOT_SENT } else { &parked.class };
    let example = |example: &ParkedExample| Example {
        run: example.run.to_string(),
        step: example.step.clone(),
        status: example.status,
    };
    Finding {
        at_least: parked.count >= u64::from(PARKED_COUNT_MAX),
        parts: vec![(class.to_owned(), parked.count)],
        examples: examples.into_iter().take(EXAMPLES_MAX).map(example).collect(),
        ..Finding::new(kind, subject, parked.count, parked.since_ms, parked.newest_ms)
    }
}

/// Several versions or classes of one subject are one finding.
fn merge(findings: &mut Vec<Finding>, more: Finding) {
    let same = |own: &&mut Finding| own.kind == more.kind && own.subject == more.subject;
    match findings.iter_mut().find(same) {
        Some(own) => own.absorb(&more),
        None => findings.push(more),
    }
}

#[cfg(test)]
mod tests;
