//! From what was seen to what is wrong. Pure.

use sheaf_bundles::{
    alerts::{
        decide::Observed,
        message::{Example, Finding, Kind, SPOOLED_BYTES},
    },
    budget::DAY_MS,
    verdict::Class,
};

use super::Seen;
use crate::queue::{
    breaker::Why,
    gate::{BudgetLeft, ClosedGate, GateKind, WAITING_COUNT_MAX},
    observe::{PARKED_COUNT_MAX, Parked, ParkedExample, Waiting, WaitingFor},
};

/// What runs that were parked before a request was made are called in a message.
const NOT_SENT: &str = "not_sent";

impl Seen {
    /// Everything that is wrong, when runs may wait for `waiting_max_ms`.
    pub fn observed(&self, waiting_max_ms: i64) -> Observed {
        let mut observed = Observed::default();
        if self.failing {
            let failing = Finding::new(Kind::QueueFailing, "", 1, self.at_ms, self.at_ms);
            let kept = self.spooled_bytes.map(|bytes| (SPOOLED_BYTES.to_owned(), bytes));
            observed.findings.push(Finding { parts: kept.into_iter().collect(), ..failing });
        }
        if self.blind.is_some() {
            observed.unseen = Kind::ALL.into_iter().filter(|kind| *kind != Kind::QueueFailing).collect();
            return observed;
        }
        if self.parked_more {
            observed.unseen = vec![Kind::RunParked, Kind::AuthorisationBroken];
        }
        self.ledger(&mut observed.findings);
        for waiting in self.waiting.iter().filter(|waiting| self.at_ms - waiting.since_ms > waiting_max_ms) {
            match waiting.waiting_for {
                // A delay is what the bundle asked for.
                WaitingFor::Delay => {}
                WaitingFor::Slot | WaitingFor::Gate | WaitingFor::Vendor | WaitingFor::Key => {
                    merge(&mut observed.findings, waits(waiting))
                }
            }
        }
        observed.findings.extend(self.gates.iter().filter_map(held_back));
        // A budget of a second or a minute is spent now and then, and whole again before anybody has read of it.
        for budget in self.budgets.iter().filter(|budget| budget.spent && budget.window_ms >= DAY_MS) {
            merge(&mut observed.findings, spent(budget, self.at_ms));
        }
        for (parked, examples) in &self.parked {
            merge(&mut observed.findings, set_aside(parked, examples));
        }
        observed
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

fn waits(waiting: &Waiting) -> Finding {
    let oldest =
        waiting.oldest.map(|run| Example { run: run.to_string(), step: String::new(), status: None });
    Finding {
        parts: vec![(waiting.waiting_for.state().to_owned(), waiting.count)],
        examples: oldest.into_iter().collect(),
        ..Finding::new(
            Kind::WaitingLong,
            waiting.connection.as_str(),
            waiting.count,
            waiting.since_ms,
            waiting.since_ms,
        )
    }
}

/// A vendor that asked for a pause gets it, and that is nothing to tell of; a refused authorisation is told as such.
fn held_back(gate: &ClosedGate) -> Option<Finding> {
    if [Why::Busy, Why::Refused].iter().any(|why| gate.why == why.name()) {
        return None;
    }
    let kind = match gate.kind {
        _ if gate.why == Why::Quota.name() => Kind::QuotaExhausted,
        GateKind::Connection | GateKind::Source => Kind::ConnectionClosed,
        GateKind::Bundle => Kind::BundlePaused,
    };
    Some(Finding {
        at_least: gate.waiting >= u64::from(WAITING_COUNT_MAX),
        parts: vec![(gate.why.to_owned(), gate.waiting)],
        ..Finding::new(kind, gate.name.as_str(), gate.waiting, gate.since_ms, gate.since_ms)
    })
}

fn spent(budget: &BudgetLeft, at_ms: i64) -> Finding {
    Finding {
        at_least: budget.waiting >= u64::from(WAITING_COUNT_MAX),
        parts: vec![(budget.budget.clone(), budget.waiting)],
        ..Finding::new(Kind::QuotaExhausted, budget.connection.as_str(), budget.waiting, at_ms, at_ms)
    }
}

/// A refused authorisation is about the connection that was refused, whatever the bundle; all else is about the bundle.
fn set_aside(parked: &Parked, examples: &[ParkedExample]) -> Finding {
    let refused = parked.class == Class::AuthBroken.name();
    let through = examples.iter().map(|example| example.through.as_str()).find(|through| !through.is_empty());
    let (kind, subject) = if refused {
        (Kind::AuthorisationBroken, through.unwrap_or(&parked.connection))
    } else {
        (Kind::RunParked, parked.bundle.as_str())
    };
    let class = if parked.class.is_empty() { NOT_SENT } else { &parked.class };
    let example = |example: &ParkedExample| Example {
        run: example.run.to_string(),
        step: example.step.clone(),
        status: example.status,
    };
    Finding {
        at_least: parked.count >= u64::from(PARKED_COUNT_MAX),
        parts: vec![(class.to_owned(), parked.count)],
        examples: examples.iter().map(example).collect(),
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
mod tests {
    use sheaf_bundles::alerts::message::KEEPS_FAILING;

    use super::*;

    fn parked(bundle: &str, class: &str, count: u64, since_ms: i64) -> (Parked, Vec<ParkedExample>) {
        let (bundle, connection, class) = (bundle.to_owned(), "shop".to_owned(), class.to_owned());
        let parked = Parked { bundle, connection, class, count, since_ms, newest_ms: since_ms + 10 };
        (parked, Vec::new())
    }

    #[test]
    fn versions_and_classes_of_a_bundle_are_one_finding_and_a_refused_authorisation_is_another() {
        let seen = Seen {
            parked: vec![
                parked("crm", "bad_request", 2, 100),
                parked("crm", "bad_request", u64::from(PARKED_COUNT_MAX), 50),
                parked("crm", "", 1, 70),
                parked("crm", "auth_broken", 4, 60),
            ],
            ..Seen::default()
        };
        let found = seen.observed(0).findings;
        let told: Vec<_> =
            found.iter().map(|it| (it.kind, it.subject.as_str(), it.count, it.at_least)).collect();
        assert_eq!(
            told,
            [(Kind::RunParked, "crm", 1_003, true), (Kind::AuthorisationBroken, "shop", 4, false)]
        );
        assert_eq!((found[0].since_ms, found[0].newest_ms), (50, 110));
        assert_eq!(found[0].parts, [("bad_request".to_owned(), 1_002), (NOT_SENT.to_owned(), 1)]);
    }

    #[test]
    fn a_broken_connection_and_a_paused_bundle_are_told_and_a_busy_vendor_is_not() {
        let gate = |kind, name: &str, why| ClosedGate {
            kind,
            name: name.to_owned(),
            why,
            since_ms: 100,
            until_ms: None,
            waiting: 7,
        };
        let seen = Seen {
            gates: vec![
                gate(GateKind::Connection, "crm", "failing"),
                gate(GateKind::Connection, "sms", "busy"),
                gate(GateKind::Connection, "mail", "refused"),
                gate(GateKind::Connection, "reports", "quota"),
                gate(GateKind::Bundle, "leads", "paused"),
            ],
            ..Seen::default()
        };
        let found = seen.observed(0).findings;
        let told: Vec<_> = found.iter().map(|it| (it.kind, it.subject.as_str(), it.count)).collect();
        let quota = (Kind::QuotaExhausted, "reports", 7);
        assert_eq!(told, [(Kind::ConnectionClosed, "crm", 7), quota, (Kind::BundlePaused, "leads", 7)]);
    }

    #[test]
    fn a_bundle_that_keeps_failing_is_told_as_paused_with_the_reason() {
        let (name, why) = ("leads".to_owned(), KEEPS_FAILING);
        let kind = GateKind::Bundle;
        let gate = ClosedGate { kind, name, why, since_ms: 100, until_ms: None, waiting: 7 };
        let [told] =
            Seen { gates: vec![gate], ..Seen::default() }.observed(0).findings.try_into().expect("one");
        assert_eq!((told.kind, told.subject.as_str()), (Kind::BundlePaused, "leads"));
        assert_eq!(told.parts, [(KEEPS_FAILING.to_owned(), 7)]);
    }

    #[test]
    fn a_daily_budget_that_is_spent_is_told_and_one_of_a_second_is_not() {
        let budget = |budget: &str, window_ms, spent: bool| BudgetLeft {
            connection: "crm".to_owned(),
            budget: budget.to_owned(),
            amount: 7,
            left: i64::from(!spent),
            window_ms,
            whole_ms: 0,
            spent,
            waiting: 5,
        };
        let mut seen = Seen {
            at_ms: 100,
            budgets: vec![budget("second", 1_000, true), budget("day", DAY_MS, false)],
            ..Seen::default()
        };
        assert_eq!(seen.observed(0).findings, []);
        seen.budgets.push(budget("month", 30 * DAY_MS, true));
        let [told] = seen.observed(0).findings.try_into().expect("one");
        assert_eq!((told.kind, told.subject.as_str(), told.count), (Kind::QuotaExhausted, "crm", 5));
        assert_eq!(told.parts, [("month".to_owned(), 5)]);
    }

    #[test]
    fn what_could_not_be_seen_is_said_and_nothing_is_found_in_old_sights() {
        let mut seen = Seen { parked: vec![parked("crm", "", 1, 0)], parked_more: true, ..Seen::default() };
        assert_eq!(seen.observed(0).unseen, [Kind::RunParked, Kind::AuthorisationBroken]);
        seen.blind = Some("disk".to_owned());
        seen.failing = true;
        let observed = seen.observed(0);
        assert_eq!(observed.findings.iter().map(|it| it.kind).collect::<Vec<_>>(), [Kind::QueueFailing]);
        assert_eq!(observed.unseen.len(), Kind::ALL.len() - 1);
        assert!(observed.findings[0].parts.is_empty(), "nothing is kept: requests are refused");
        seen.spooled_bytes = Some(7);
        let kept = seen.observed(0).findings.remove(0).parts;
        assert_eq!(kept, [(SPOOLED_BYTES.to_owned(), 7)]);
    }

    #[test]
    fn a_wait_is_too_long_only_past_the_limit_and_never_for_a_delay() {
        let waiting = |waiting_for, since_ms| Waiting {
            connection: "shop".to_owned(),
            waiting_for,
            count: 1,
            since_ms,
            oldest: None,
        };
        let seen = Seen {
            at_ms: 1_000,
            waiting: vec![
                waiting(WaitingFor::Slot, 500),
                waiting(WaitingFor::Vendor, 499),
                waiting(WaitingFor::Delay, 0),
            ],
            ..Seen::default()
        };
        let found = seen.observed(500).findings;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].parts, [("retrying".to_owned(), 1)]);
    }
}
