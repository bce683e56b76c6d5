//! What is found in what was seen.

use sheaf_bundles::alerts::{
    decide::{State, decide},
    message::KEEPS_FAILING,
};

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
    let found = seen.observed(|_| 0).findings;
    let told: Vec<_> = found.iter().map(|it| (it.kind, it.subject.as_str(), it.count, it.at_least)).collect();
    assert_eq!(told, [(Kind::RunParked, "crm", 1_003, true), (Kind::AuthorisationBroken, "shop", 4, false)]);
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
    let found = seen.observed(|_| 0).findings;
    let told: Vec<_> = found.iter().map(|it| (it.kind, it.subject.as_str(), it.count)).collect();
    let (refused, quota) = ((Kind::AuthorisationBroken, "mail", 7), (Kind::QuotaExhausted, "reports", 7));
    let (closed, paused) = ((Kind::ConnectionClosed, "crm", 7), (Kind::BundlePaused, "leads", 7));
    assert_eq!(told, [closed, refused, quota, paused]);
}

#[test]
fn a_bundle_that_keeps_failing_is_told_as_paused_with_the_reason() {
    let seen = Seen { gates: vec![gate(GateKind::Bundle, "leads", KEEPS_FAILING)], ..Seen::default() };
    let [told] = seen.observed(|_| 0).findings.try_into().expect("one");
    assert_eq!((told.kind, told.subject.as_str()), (Kind::BundlePaused, "leads"));
    assert_eq!(told.parts, [(KEEPS_FAILING.to_owned(), told.count)]);
}

#[test]
fn a_refused_authorisation_is_one_message_of_what_waits_and_what_is_set_aside() {
    let mut seen = Seen { gates: vec![gate(GateKind::Connection, "shop", "refused")], ..Seen::default() };
    let alone = seen.observed(|_| 0).findings;
    assert_eq!(alone.iter().map(|it| it.kind).collect::<Vec<_>>(), [Kind::AuthorisationBroken]);
    seen.parked = vec![parked("crm", "auth_broken", 4, 60)];
    let [both] = seen.observed(|_| 0).findings.try_into().expect("one");
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
    let found = seen.observed(|_| 0).findings;
    let told: Vec<_> =
        found.iter().map(|it| (it.subject.as_str(), it.count, it.at_least, it.newest_ms)).collect();
    assert_eq!(told, [("b", 1, true, 6), ("a", 2, true, 5)]);
    assert!(
        found.iter().all(|it| it.kind == Kind::AuthorisationBroken && it.examples.len() as u64 == it.count)
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
    assert_eq!(seen.observed(|_| 0).findings, []);
    seen.budgets.push(budget("month", 30 * DAY_MS, true));
    let [told] = seen.observed(|_| 0).findings.try_into().expect("one");
    assert_eq!((told.kind, told.subject.as_str(), told.count), (Kind::QuotaExhausted, "crm", 5));
    assert_eq!(told.facts, ["month 0 / 7"]);
    // The same runs wait for each.
    seen.budgets.push(budget("day", DAY_MS, true));
    let [told] = seen.observed(|_| 0).findings.try_into().expect("one");
    assert_eq!((told.count, told.facts.len()), (5, 2));
    seen.gates = vec![gate(GateKind::Connection, "crm", "quota")];
    let [told] = seen.observed(|_| 0).findings.try_into().expect("one");
    assert_eq!((told.count, told.facts.len()), (7, 2));
    seen.gates.clear();
    seen.budgets.iter_mut().for_each(|budget| budget.waiting = 0);
    assert_eq!(seen.observed(|_| 0).findings, [], "nobody waits for it");
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
    let seen = |at_ms| Seen { at_ms, budgets: vec![spent.clone()], ..Seen::default() }.observed(|_| 0);
    let (state, first) = decide(State::default(), &seen(100), |_| REPEAT_MS, 100);
    assert_eq!(first.len(), 1);
    let later_ms = 100 + 2 * REPEAT_MS;
    let (_, again) = decide(state, &seen(later_ms), |_| REPEAT_MS, later_ms);
    assert_eq!(again, []);
}

#[test]
fn what_could_not_be_seen_is_said_and_nothing_is_found_in_old_sights() {
    let mut seen = Seen { parked: vec![parked("crm", "", 1, 0)], parked_more: true, ..Seen::default() };
    assert_eq!(seen.observed(|_| 0).unseen, [Kind::RunParked, Kind::AuthorisationBroken]);
    seen.unread = Part::ALL.to_vec();
    seen.failing = true;
    let observed = seen.observed(|_| 0);
    assert_eq!(observed.findings.iter().map(|it| it.kind).collect::<Vec<_>>(), [Kind::QueueFailing]);
    let known_all_the_same = [Kind::QueueFailing, Kind::EventsQuarantined];
    assert!(Kind::ALL.iter().all(|kind| observed.unseen.contains(kind) != known_all_the_same.contains(kind)));
    assert_eq!(observed.quarantined, None);
    assert!(observed.findings[0].parts.is_empty(), "nothing is kept: requests are refused");
    seen.spooled_bytes = Some(7);
    let kept = seen.observed(|_| 0).findings.remove(0).parts;
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
    let Observed { findings, unseen, .. } = seen.observed(|_| 0);
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
    assert_eq!(seen.observed(|_| 0).findings, []);
    seen.at_ms += 1;
    let [old] = seen.observed(|_| 0).findings.try_into().expect("one");
    assert_eq!((old.kind, old.since_ms, old.facts), (Kind::SnapshotOld, 100, vec!["pid 4711".to_owned()]));
    let mut page = String::new();
    seen.write_metrics(&mut page);
    assert!(page.contains("sheaf_oldest_snapshot_seconds 600\n"), "{page}");
    seen.snapshot = seen.snapshot.map(|known| Snapshot::seen(Some(known), horizon(8), seen.at_ms));
    assert_eq!(seen.observed(|_| 0).findings, [], "time goes on");
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
    let found = seen.observed(|_| 500).findings;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].parts, [("retrying".to_owned(), 1)]);
}
