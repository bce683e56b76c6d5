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
    /// Everything that is wrong, when runs may wait for `waiting_max_ms`.
    pub fn observed(&self, waiting_max_ms: i64) -> Observed {
        let mut observed = Observed::default();
        if self.failing {
            let failing = Finding::new(Kind::QueueFailing, "", 1, self.at_ms, self.at_ms);
            let kept = self.spooled_bytes.map(|bytes| (SPOOLED_BYTES.to_owned(), bytes));
            observed.findings.push(Finding { parts: kept.into_iter().collect(), ..failing });
        }
        let cut = self.parked_more.then_some(&Part::Parked);
        let hidden = |kind: &Kind| self.unread.iter().chain(cut).any(|part| part.kinds().contains(kind));
        observed.unseen = Kind::ALL.into_iter().filter(hidden).collect();
        for part in Part::ALL.into_iter().filter(|part| !self.unread.contains(part)) {
            self.find(part, waiting_max_ms, &mut observed.findings);
        }
        observed
    }

    /// What is wrong by one part of what was seen.
    fn find(&self, part: Part, waiting_max_ms: i64, findings: &mut Vec<Finding>) {
        match part {
            Part::Ledger => self.ledger(findings),
            Part::Waiting => {
                let long = |waiting: &&Waiting| self.at_ms - waiting.since_ms > waiting_max_ms;
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
mod tests {
    use sheaf_bundles::alerts::decide::{State, decide};

    use super::*;
    use crate::queue::{history::LedgerMismatch, observe::Horizon};

    fn parked(bundle: &str, class: &str, count: u64, since_ms: i64) -> (Parked, Vec<ParkedExample>) {
        let (bundle, connection, class) = (bundle.to_owned(), "shop".to_owned(), class.to_owned());
        let parked = Parked { bundle, connection, class, count, since_ms, newest_ms: since_ms + 10 };
        (parked, Vec::new())
    }

    fn gate(kind: GateKind, name: &str, why: &'static str) -> ClosedGate {
        ClosedGate { kind, name: name.to_owned(), why, since_ms: 100, until_ms: None, waiting: 7 }
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
        let (refused, quota) = ((Kind::AuthorisationBroken, "mail", 7), (Kind::QuotaExhausted, "reports", 7));
        let (closed, paused) = ((Kind::ConnectionClosed, "crm", 7), (Kind::BundlePaused, "leads", 7));
        assert_eq!(told, [closed, refused, quota, paused]);
    }

    #[test]
    fn a_refused_authorisation_is_one_message_of_what_waits_and_what_is_set_aside() {
        let mut seen = Seen { gates: vec![gate(GateKind::Connection, "shop", "refused")], ..Seen::default() };
        let alone = seen.observed(0).findings;
        assert_eq!(alone.iter().map(|it| it.kind).collect::<Vec<_>>(), [Kind::AuthorisationBroken]);
        seen.parked = vec![parked("crm", "auth_broken", 4, 60)];
        let [both] = seen.observed(0).findings.try_into().expect("one");
        assert_eq!((both.kind, both.subject.as_str(), both.count), (Kind::AuthorisationBroken, "shop", 11));
        assert_eq!(both.parts, [("refused".to_owned(), 7), ("auth_broken".to_owned(), 4)]);
    }

    #[test]
    fn each_connection_that_refuses_is_told_of_by_its_own_name() {
        let example = |number, through: &str| ParkedExample {
            run: sheaf_bundles::id::RunId(number),
            parked_ms: number,
            step: "send".to_owned(),
            through: through.to_owned(),
            status: Some(401),
        };
        let (group, _) = parked("crm", "auth_broken", 6, 60);
        let examples = vec![example(6, "b"), example(5, "a"), example(4, "a")];
        let seen = Seen { parked: vec![(group, examples)], ..Seen::default() };
        let found = seen.observed(0).findings;
        let told: Vec<_> =
            found.iter().map(|it| (it.subject.as_str(), it.count, it.at_least, it.newest_ms)).collect();
        assert_eq!(told, [("b", 1, true, 6), ("a", 2, true, 5)]);
        assert!(
            found
                .iter()
                .all(|it| it.kind == Kind::AuthorisationBroken && it.examples.len() as u64 == it.count)
        );
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
        assert_eq!(told.facts, ["month 0 / 7"]);
        // The same runs wait for each.
        seen.budgets.push(budget("day", DAY_MS, true));
        let [told] = seen.observed(0).findings.try_into().expect("one");
        assert_eq!((told.count, told.facts.len()), (5, 2));
        seen.gates = vec![gate(GateKind::Connection, "crm", "quota")];
        let [told] = seen.observed(0).findings.try_into().expect("one");
        assert_eq!((told.count, told.facts.len()), (7, 2));
        seen.gates.clear();
        seen.budgets.iter_mut().for_each(|budget| budget.waiting = 0);
        assert_eq!(seen.observed(0).findings, [], "nobody waits for it");
    }

    #[test]
    fn a_budget_that_stays_spent_is_told_once_a_day() {
        const REPEAT_MS: i64 = 30 * 60_000;
        let spent = BudgetLeft {
            connection: "crm".to_owned(),
            budget: "day".to_owned(),
            amount: 7,
            left: 0,
            window_ms: DAY_MS,
            whole_ms: 0,
            spent: true,
            waiting: 5,
        };
        let seen = |at_ms| Seen { at_ms, budgets: vec![spent.clone()], ..Seen::default() }.observed(0);
        let (state, first) = decide(State::default(), &seen(100), REPEAT_MS, 100);
        assert_eq!(first.len(), 1);
        let later_ms = 100 + 2 * REPEAT_MS;
        let (_, again) = decide(state, &seen(later_ms), REPEAT_MS, later_ms);
        assert_eq!(again, []);
    }

    #[test]
    fn what_could_not_be_seen_is_said_and_nothing_is_found_in_old_sights() {
        let mut seen = Seen { parked: vec![parked("crm", "", 1, 0)], parked_more: true, ..Seen::default() };
        assert_eq!(seen.observed(0).unseen, [Kind::RunParked, Kind::AuthorisationBroken]);
        seen.unread = Part::ALL.to_vec();
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
    fn what_could_not_be_read_hides_nothing_of_what_could() {
        let (connection, counter) = ("shop".to_owned(), "runs".to_owned());
        let mismatch = LedgerMismatch { connection, counter, counted: 1, rows: 0 };
        let seen = Seen {
            unread: vec![Part::Parked, Part::Waiting],
            mismatches: vec![mismatch],
            parked: vec![parked("crm", "", 1, 0)],
            gates: vec![gate(GateKind::Connection, "crm", "failing")],
            ..Seen::default()
        };
        let Observed { findings, unseen } = seen.observed(0);
        let found: Vec<_> = findings.iter().map(|it| it.kind).collect();
        assert_eq!(found, [Kind::LedgerBroken, Kind::ConnectionClosed]);
        assert_eq!(unseen, [Kind::RunParked, Kind::AuthorisationBroken, Kind::WaitingLong]);
    }

    #[test]
    fn a_snapshot_is_old_when_the_same_one_is_open_past_the_limit() {
        let horizon = |xid| Horizon { xid, holder: "pid 4711".to_owned() };
        let begun = Snapshot::seen(None, horizon(7), 100);
        let lasting = Snapshot::seen(Some(begun.clone()), horizon(7), 100 + SNAPSHOT_MS_MAX);
        assert_eq!(lasting, begun);
        let mut seen = Seen { at_ms: 100 + SNAPSHOT_MS_MAX, snapshot: Some(lasting), ..Seen::default() };
        assert_eq!(seen.observed(0).findings, []);
        seen.at_ms += 1;
        let [old] = seen.observed(0).findings.try_into().expect("one");
        assert_eq!(
            (old.kind, old.since_ms, old.facts),
            (Kind::SnapshotOld, 100, vec!["pid 4711".to_owned()])
        );
        let mut page = String::new();
        seen.write_metrics(&mut page);
        assert!(page.contains("sheaf_oldest_snapshot_seconds 600\n"), "{page}");
        seen.snapshot = seen.snapshot.map(|known| Snapshot::seen(Some(known), horizon(8), seen.at_ms));
        assert_eq!(seen.observed(0).findings, [], "time goes on");
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
