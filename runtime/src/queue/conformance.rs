//! What every backend of the queue must do. Each case is generic over a place where queues can be opened again and
//! again; a backend instantiates them all with `conformance!`.

pub mod aged;
pub mod budgeted;
pub mod failing;
pub mod gated;
pub mod laned;
pub mod observed;
pub mod shared;
pub mod workspaces;

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    sync::Arc,
};

use sheaf_bundles::{
    artefact::{Artefact, SharedText},
    event::{Event, Received},
    hook::DEDUPE_WINDOW_MS_MAX,
    id::{EventId, RunId, VersionId},
    value::Map,
    verdict::Class,
};

use super::{
    Claims, LEASE_MS, Queue, QueueError,
    backend::{CRASH_PAUSE_MS, CRASHES_MAX},
    claim::Claim,
    delivery::{Answer, BodyText, DeliveryRecord, SentRequest},
    gate::{GateId, GateKind, Limit},
    history::{AttemptOutcome, EventFilter, LedgerLine, RunFilter, RunStateName},
    types::{
        Accepted, Activated, Activation, ClaimedEvent, Contacts, Content, Decision, NewVersion, Outcome,
        Publish, Published, Replay, ReplayRefusal, Settle, Verdict,
    },
};
use crate::{
    clock::{Clock, SetClock},
    storage::store::Store,
};

/// Where the tests' time begins, unix milliseconds.
pub const START_MS: i64 = 1_772_694_930_000;

/// A place for one test's database.
pub trait Place: Default {
    /// Whether there can be such places on this machine.
    fn is_there() -> bool {
        true
    }
    /// Opens the queue as a server process would.
    fn serve(&self, slots: usize, clock: Clock) -> impl Future<Output = Result<(Queue, Claims), QueueError>>;
    /// Opens the store as another process would.
    fn store(&self, clock: Clock) -> impl Future<Output = Result<Store, QueueError>>;
    /// Changes what is stored behind the queue's back.
    fn harm(&self, sql: &str) -> impl Future<Output = ()>;
}

/// A queue under test.
pub struct Bench<P> {
    pub place: P,
    pub queue: Queue,
    pub claims: Claims,
    clock: Clock,
    pub set: SetClock,
    epoch: u64,
    versions: Vec<VersionId>,
    /// What the files say of connections.
    limits: HashMap<GateId, Limit>,
}

impl<P: Place> Bench<P> {
    /// A queue with two active bundle versions, and nothing said of any connection.
    pub async fn new(slots: usize) -> Bench<P> {
        let place = P::default();
        let (clock, set) = Clock::stopped_at(START_MS);
        let (queue, claims) = place.serve(slots, clock.clone()).await.unwrap();
        let limits = HashMap::new();
        queue.limit(limits.clone()).await.unwrap();
        let Activated { epoch, versions, .. } =
            queue.activate(vec![version("one", 1), version("two", 2)]).await.unwrap();
        Bench { place, queue, claims, clock, set, epoch, versions, limits }
    }

    /// The files say this of connections from now on.
    async fn limit(&mut self, limits: HashMap<GateId, Limit>) {
        self.limits = limits;
        self.queue.limit(self.limits.clone()).await.unwrap();
    }

    /// As after kill -9: the writer ends in the middle of what it does; the claims in hand stay with the caller.
    async fn restart(self, slots: usize) -> Bench<P> {
        let bench = self.reopened(slots).await;
        bench.queue.limit(bench.limits.clone()).await.unwrap();
        bench
    }

    /// The same, before the files are read.
    async fn reopened(self, slots: usize) -> Bench<P> {
        let Bench { place, queue, claims, clock, .. } = self;
        queue.kill().await;
        drop(claims);
        let (queue, claims) = place.serve(slots, clock.clone()).await.unwrap();
        Bench { place, queue, claims, clock, ..self }
    }

    fn take(&self, due_ms: i64) -> Decision {
        Decision {
            version: self.versions[0],
            bundle: bundle("one"),
            through: crm(),
            lane: None,
            verdict: Verdict::Take { due_ms },
        }
    }

    fn filtered(&self) -> Decision {
        Decision {
            version: self.versions[1],
            bundle: bundle("two"),
            through: crm(),
            lane: None,
            verdict: Verdict::Filtered,
        }
    }

    /// An event that one bundle takes and another filters.
    pub fn event(&self, identity: u64, due_ms: i64) -> Publish {
        publish(self.epoch, Some([identity, identity]), vec![self.take(due_ms), self.filtered()])
    }

    pub async fn accept(&self, publish: Publish) -> EventId {
        match self.queue.publish(publish).await.unwrap() {
            Published::Accepted { event, .. } => event,
            other => panic!("expected an accepted event, got {other:?}"),
        }
    }

    pub async fn claim(&mut self) -> Claim {
        self.queue.flush().await.unwrap();
        self.claims.try_recv().expect("a run is due and there is a slot")
    }

    async fn nothing_to_claim(&mut self) {
        self.queue.flush().await.unwrap();
        assert!(self.claims.try_recv().is_err());
    }

    pub async fn line(&self) -> LedgerLine {
        self.queue.flush().await.unwrap();
        let lines = self.queue.store().ledger().await.unwrap();
        assert_eq!(self.queue.store().verify_ledger().await.unwrap(), []);
        let [line] = lines.try_into().expect("one connection");
        assert!(line.events_balance && line.decisions_balance, "{line:?}");
        line
    }
}

pub fn version(bundle: &str, hash: u8) -> NewVersion {
    let shared = vec![SharedText::new("a text of every version"), SharedText::new(format!("text {hash}"))];
    let artefact = Artefact::stored(vec![hash; 100], shared);
    NewVersion { bundle: bundle.to_owned(), connection: "calls".to_owned(), through: crm(), artefact }
}

/// The connection that every version sends through.
pub fn crm() -> GateId {
    GateId::of(GateKind::Connection, "crm")
}

/// A bundle's own gate.
pub fn bundle(name: &str) -> GateId {
    GateId::of(GateKind::Bundle, name)
}

fn received() -> Received {
    Received {
        method: "POST".into(),
        query: "a=b".into(),
        headers: vec![("content-type".into(), "application/octet-stream".into())],
        body: vec![0, 159, 146, 150],
        source: None,
        received_ms: START_MS,
    }
}

pub fn publish(epoch: u64, dedupe: Option<[u64; 2]>, decisions: Vec<Decision>) -> Publish {
    let event =
        Event { id: EventId(0), connection: "calls".into(), received_ms: START_MS, fields: Map::default() };
    let content =
        Content::Event(Accepted { epoch, dedupe, window_ms: DEDUPE_WINDOW_MS_MAX, event, decisions });
    Publish { connection: Arc::from("calls"), received: received(), content }
}

fn quarantine() -> Publish {
    let content = Content::Quarantine { reason: "not a form".to_owned(), dedupe: None };
    Publish { connection: Arc::from("calls"), received: received(), content }
}

fn delivery(class: Class) -> DeliveryRecord {
    DeliveryRecord {
        step: "send".to_owned(),
        generation: 0,
        probe: false,
        started_ms: START_MS,
        took_ms: 12,
        request: SentRequest::Hash("ab".repeat(32)),
        answer: Answer::Response { status: 200, body: None },
        class,
        message: None,
    }
}

/// An attempt that went well.
pub fn delivered() -> Settle {
    settle(Outcome::Delivered)
}

fn settle(outcome: Outcome) -> Settle {
    let deliveries = vec![delivery(Class::Ok)];
    Settle { outcome, started_ms: START_MS, deliveries, contacts: Contacts::default(), sent: None }
}

pub fn parked() -> Settle {
    settle(Outcome::Parked { reason: "refused".to_owned(), state: b"state".to_vec() })
}

pub async fn an_event_is_kept_as_received_with_a_run_per_bundle_that_took_it<P: Place>() {
    let bench = Bench::<P>::new(4).await;
    let id = bench.accept(bench.event(1, 0)).await;

    let detail = bench.queue.store().event(id).await.unwrap().expect("it was accepted");
    assert_eq!(detail.received, received());
    assert_eq!(detail.summary.filtered, [bench.versions[1]]);
    let [run] = detail.runs.try_into().expect("one bundle took it");
    assert_eq!((run.event, run.version, run.state), (id, bench.versions[0], RunStateName::Pending));
    assert_eq!(run.bundle, "one");
}

pub async fn a_run_due_now_is_handed_over_in_memory_and_settles<P: Place>() {
    let mut bench = Bench::<P>::new(4).await;
    let id = bench.accept(bench.event(1, 0)).await;
    let claim = bench.claims.try_recv().expect("handed over before the publish is answered");
    assert!(matches!(&claim.event, ClaimedEvent::Decoded(event) if event.id == id));
    let run = claim.run;
    claim.settle(settle(Outcome::Delivered));

    let line = bench.line().await;
    assert_eq!((line.delivered, line.pending, line.filtered, line.decisions), (1, 0, 1, 2));
    let detail = bench.queue.store().run(run).await.unwrap().expect("it is in history");
    assert_eq!(detail.summary.state, RunStateName::Delivered);
    assert_eq!(detail.attempts.len(), 1);
    assert_eq!(detail.attempts[0].deliveries, [delivery(Class::Ok)]);
    bench.nothing_to_claim().await;
}

pub async fn a_run_without_a_free_slot_waits_in_the_store_and_comes_with_its_request<P: Place>() {
    let mut bench = Bench::<P>::new(1).await;
    bench.accept(bench.event(1, 0)).await;
    let second = bench.accept(bench.event(2, 0)).await;
    let first = bench.claim().await;
    bench.nothing_to_claim().await;
    first.settle(settle(Outcome::Delivered));

    let claim = bench.claim().await;
    match claim.event.clone() {
        ClaimedEvent::Stored { id, connection, received: stored } => {
            assert_eq!((id, &*connection, stored), (second, "calls", received()));
        }
        other => panic!("{other:?} instead of what is stored"),
    }
}

pub async fn an_event_that_cannot_be_read_comes_with_the_reason_and_holds_up_nobody<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let mut events = Vec::new();
    for identity in 0..3 {
        events.push(bench.accept(bench.event(identity, START_MS + 1)).await);
    }
    bench.place.harm(&format!("UPDATE body SET head = 'of a newer sheaf' WHERE id = {}", events[0].0)).await;
    bench.place.harm(&format!("DELETE FROM body WHERE id = {}", events[1].0)).await;
    bench.set.advance_ms(1);
    bench.accept(bench.event(3, 0)).await;
    let mut whys = HashMap::new();
    for _ in 0..4 {
        let claim = bench.claim().await;
        if let ClaimedEvent::Unreadable { id, why } = &claim.event {
            whys.insert(*id, why.clone());
        }
        claim.settle(parked());
    }
    assert_eq!(whys.len(), 2);
    assert!(whys[&events[0]].contains("head"), "{whys:?}");
    assert!(whys[&events[1]].contains("not in the database"), "{whys:?}");
    assert_eq!(bench.line().await.parked, 4);
}

pub async fn a_duplicate_is_counted_and_makes_no_run<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let (one, same) =
        tokio::join!(bench.queue.publish(bench.event(7, 0)), bench.queue.publish(bench.event(7, 0)));
    let later = bench.queue.publish(bench.event(7, 0)).await.unwrap();
    let accepted = [one.unwrap(), same.unwrap(), later];
    let accepted: Vec<_> =
        accepted.iter().filter(|published| matches!(published, Published::Accepted { .. })).collect();
    assert_eq!(accepted.len(), 1);

    let line = bench.line().await;
    assert_eq!((line.received, line.accepted, line.duplicate, line.pending), (3, 1, 2, 1));
    drop(bench.claim().await);
}

pub async fn the_same_identity_under_another_connection_is_another_event<P: Place>() {
    let bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(7, 0)).await;
    bench.accept(Publish { connection: Arc::from("forms"), ..bench.event(7, 0) }).await;
}

pub async fn an_event_without_an_identity_is_always_new<P: Place>() {
    let bench = Bench::<P>::new(8).await;
    let first = bench.accept(publish(bench.epoch, None, Vec::new())).await;
    assert_ne!(first, bench.accept(publish(bench.epoch, None, Vec::new())).await);
    assert_eq!(bench.line().await.unrouted, 2);
}

pub async fn a_duplicate_is_known_after_a_restart_and_forgotten_after_the_window<P: Place>() {
    let bench = Bench::<P>::new(8).await;
    let first = bench.accept(bench.event(7, i64::MAX)).await;
    let bench = bench.restart(8).await;
    let again = bench.queue.publish(bench.event(7, i64::MAX)).await.unwrap();
    assert!(matches!(again, Published::Duplicate { of } if of == first), "{again:?}");

    bench.set.advance_ms(35 * 24 * 60 * 60 * 1000 + 1);
    bench.accept(bench.event(7, i64::MAX)).await;
}

pub async fn an_identity_is_known_for_the_window_of_its_publish_however_long_its_copy_waited<P: Place>() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    async fn is_of<P: Place>(bench: &Bench<P>, window_ms: i64, received_ms: i64) -> Option<EventId> {
        let mut publish = bench.event(7, i64::MAX);
        publish.received.received_ms = received_ms;
        if let Content::Event(accepted) = &mut publish.content {
            accepted.window_ms = window_ms;
        }
        match bench.queue.publish(publish).await.unwrap() {
            Published::Duplicate { of } => Some(of),
            Published::Accepted { .. } => None,
            other => panic!("{other:?}"),
        }
    }

    let bench = Bench::<P>::new(8).await;
    let first = bench.accept(bench.event(7, i64::MAX)).await;
    bench.set.advance_ms(2 * DAY_MS);
    let now_ms = START_MS + 2 * DAY_MS;
    assert_eq!(is_of(&bench, 35 * DAY_MS, now_ms).await, Some(first));
    assert_eq!(is_of(&bench, DAY_MS, START_MS).await, Some(first), "a copy of the first");
    assert_eq!(is_of(&bench, DAY_MS, now_ms).await, None, "a new event of the same identity");

    let second = is_of(&bench, DAY_MS, now_ms).await.expect("it is known");
    assert_ne!(second, first);
    let bench = bench.restart(8).await;
    for (window_ms, received_ms) in [(DAY_MS, now_ms), (35 * DAY_MS, now_ms), (DAY_MS, START_MS)] {
        assert_eq!(is_of(&bench, window_ms, received_ms).await, Some(second));
    }
    let line = bench.line().await;
    assert_eq!((line.received, line.accepted, line.duplicate), (8, 2, 6));
}

pub async fn of_two_that_come_at_once_the_later_is_new_though_the_earlier_is_known<P: Place>() {
    const HOUR_MS: i64 = 60 * 60 * 1000;
    let bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(7, i64::MAX)).await;
    bench.set.advance_ms(30 * HOUR_MS);
    let [earlier, later] = [20, 30].map(|hours| {
        let mut publish = bench.event(7, i64::MAX);
        publish.received.received_ms = START_MS + hours * HOUR_MS;
        if let Content::Event(accepted) = &mut publish.content {
            accepted.window_ms = 24 * HOUR_MS;
        }
        bench.queue.publish(publish)
    });
    let (earlier, later) = tokio::join!(earlier, later);
    let is_new = |published: &Published| matches!(published, Published::Accepted { .. });
    let new = [earlier.unwrap(), later.unwrap()].iter().filter(|one| is_new(one)).count();
    assert_eq!(new, 1);
}

pub async fn what_cannot_be_decoded_is_kept_and_counted<P: Place>() {
    let bench = Bench::<P>::new(8).await;
    let published = bench.queue.publish(quarantine()).await.unwrap();
    let Published::Quarantined { event } = published else { panic!("{published:?}") };

    let line = bench.line().await;
    assert_eq!((line.received, line.quarantined, line.accepted, line.decisions), (1, 1, 0, 0));
    let filter = EventFilter { quarantined: Some(true), limit: 10, ..EventFilter::default() };
    let listed = bench.queue.store().events(&filter).await.unwrap();
    assert_eq!(listed[0].id, event);
    assert_eq!(listed[0].quarantined.as_deref(), Some("not a form"));
    assert_eq!(bench.queue.store().event(event).await.unwrap().expect("kept").received, received());
}

pub async fn what_cannot_be_decoded_and_comes_again_under_its_identity_is_one<P: Place>() {
    let bench = Bench::<P>::new(8).await;
    let content = Content::Quarantine { reason: "not a form".to_owned(), dedupe: Some([3, 4]) };
    let same = Publish { content, ..quarantine() };
    let first = bench.queue.publish(same.clone()).await.unwrap();
    let Published::Quarantined { event } = first else { panic!("{first:?}") };
    let (again, later) = tokio::join!(bench.queue.publish(same.clone()), bench.queue.publish(same));
    for again in [again.unwrap(), later.unwrap()] {
        assert!(matches!(again, Published::Duplicate { of } if of == event), "{again:?}");
    }
    let line = bench.line().await;
    assert_eq!((line.received, line.quarantined, line.duplicate), (3, 1, 2));
}

pub async fn a_stale_epoch_stores_nothing_and_hands_the_event_back<P: Place>() {
    let bench = Bench::<P>::new(8).await;
    let switched = bench.queue.activate(vec![version("one", 3)]).await.unwrap();
    assert_eq!(switched.epoch, bench.epoch + 1);
    let published = bench.queue.publish(bench.event(1, 0)).await.unwrap();
    let Published::StaleEpoch { epoch, publish } = published else { panic!("{published:?}") };
    assert_eq!(epoch, switched.epoch);
    assert_eq!(bench.queue.store().ledger().await.unwrap(), []);

    let Content::Event(accepted) = publish.content else { panic!("it was an event") };
    let content = Content::Event(Accepted { epoch, ..accepted });
    bench.accept(Publish { connection: publish.connection, received: publish.received, content }).await;
}

pub async fn a_version_keeps_its_id_and_the_epoch_moves_only_with_the_active_set<P: Place>() {
    let bench = Bench::<P>::new(8).await;
    let same = bench.queue.activate(vec![version("two", 2), version("one", 1)]).await.unwrap();
    assert_eq!((same.epoch, same.versions), (bench.epoch, vec![bench.versions[1], bench.versions[0]]));

    let bench = bench.restart(8).await;
    let fewer = bench.queue.activate(vec![version("one", 1)]).await.unwrap();
    assert_eq!((fewer.epoch, fewer.versions.as_slice()), (bench.epoch + 1, &bench.versions[..1]));
    let old = bench.queue.store().version(bench.versions[1]).await.unwrap().expect("versions are kept");
    assert_eq!(
        (old.active, old.bundle.as_str(), old.artefact.clone()),
        (false, "two", version("two", 2).artefact)
    );
}

pub async fn a_workspace_that_keeps_its_versions_has_them_whatever_is_activated_beside<P: Place>() {
    let bench = Bench::<P>::new(8).await;
    let all = vec![version("one", 1), version("shop/one", 2), version("depot/one", 3)];
    let before = bench.queue.activate(all).await.unwrap();
    let keeping = BTreeSet::from(["shop".to_owned()]);
    let same = vec![version("one", 1), version("depot/one", 3)];
    let same = Activation { versions: same, keeping: keeping.clone() };
    let activated = bench.queue.activate(same).await.unwrap();
    assert_eq!((activated.epoch, &activated.versions[1..]), (before.epoch, &before.versions[2..]));

    let fewer = Activation { versions: vec![version("one", 4)], keeping };
    let activated = bench.queue.activate(fewer.clone()).await.unwrap();
    assert_eq!((activated.epoch, activated.versions.len()), (before.epoch + 1, 1));
    let (_, in_force) = bench.queue.store().versions_in_force().await.unwrap();
    let mut names: Vec<&str> = in_force.iter().map(|version| version.bundle.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["one", "shop/one"]);

    let without = bench.queue.activate(fewer.versions).await.unwrap();
    assert_eq!((without.epoch, without.in_force), (activated.epoch + 1, true), "its folder is gone now");
    assert_eq!(bench.queue.store().versions_in_force().await.unwrap().1.len(), 1);
}

pub async fn a_delayed_run_fires_at_its_time_and_not_before<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(1, START_MS + 60_000)).await;
    bench.nothing_to_claim().await;
    bench.set.set_ms(START_MS + 59_999);
    bench.nothing_to_claim().await;
    bench.set.set_ms(START_MS + 60_000);
    let claim = bench.claims.recv().await.expect("the writer wakes by itself");
    assert!(matches!(claim.event, ClaimedEvent::Stored { .. }));
}

pub async fn a_delay_survives_a_restart_unchanged<P: Place>() {
    let bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(1, START_MS + 60_000)).await;
    bench.set.set_ms(START_MS + 50_000);
    let mut bench = bench.restart(8).await;
    bench.nothing_to_claim().await;
    bench.set.set_ms(START_MS + 60_000);
    bench.claim().await.settle(settle(Outcome::Delivered));
    assert_eq!(bench.line().await.delivered, 1);
}

pub async fn a_retry_comes_back_at_its_time_with_its_state_and_history<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(1, 0)).await;
    let claim = bench.claim().await;
    let run = claim.run;
    let due_ms = START_MS + 5_000;
    claim.settle(settle(Outcome::Retry { due_ms, state: b"sent".to_vec() }));
    bench.nothing_to_claim().await;
    assert_eq!(bench.line().await.pending, 1);

    bench.set.set_ms(due_ms);
    let claim = bench.claim().await;
    assert_eq!((claim.run, claim.attempt, claim.state.as_deref()), (run, 1, Some(b"sent".as_slice())));
    claim.settle(settle(Outcome::Delivered));
    bench.queue.flush().await.unwrap();
    let detail = bench.queue.store().run(run).await.unwrap().expect("known");
    let outcomes: Vec<_> = detail.attempts.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [AttemptOutcome::Repeat, AttemptOutcome::Delivered]);
    assert_eq!(detail.state, None);
}

pub async fn a_run_delivered_in_part_counts_as_delivered_and_says_why<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(1, 0)).await;
    let claim = bench.claim().await;
    let run = claim.run;
    claim.settle(settle(Outcome::DeliveredInPart { reason: "the step `a` failed".to_owned() }));

    let line = bench.line().await;
    assert_eq!((line.delivered, line.parked, line.pending), (1, 0, 0));
    let summary = bench.queue.store().run(run).await.unwrap().expect("known").summary;
    assert_eq!((summary.state, summary.is_in_part()), (RunStateName::Delivered, true));
    assert_eq!(summary.reason.as_deref(), Some("the step `a` failed"));
    assert!(bench.queue.store().parked_ids(None).await.unwrap().is_empty());
}

pub async fn a_restarted_process_takes_back_its_own_runs_at_once<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(1, 0)).await;
    let lost = bench.claim().await;
    let mut bench = bench.restart(8).await;

    let again = bench.claim().await;
    assert_eq!(again.run, lost.run);
    again.settle(settle(Outcome::Delivered));
    assert_eq!(bench.line().await.delivered, 1);
}

pub async fn a_settle_of_a_lost_claim_changes_nothing<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(1, 0)).await;
    let zombie = bench.claim().await;
    let mut bench = bench.restart(8).await;
    let mut zombie = zombie;
    let holder = bench.claim().await;
    zombie.ended = holder.ended.clone();
    zombie.settle(parked());
    assert_eq!(bench.line().await.pending, 1);
    assert_eq!(bench.queue.stats().stale, 1);
    holder.settle(settle(Outcome::Delivered));
    let line = bench.line().await;
    assert_eq!((line.delivered, line.parked), (1, 0));
}

pub async fn a_lease_is_extended_while_its_claim_is_held<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(1, 0)).await;
    let claim = bench.claim().await;
    for step in 1..=9 {
        bench.set.set_ms(START_MS + step * LEASE_MS / 3);
        bench.nothing_to_claim().await;
    }
    assert!(claim.lease_end_ms() >= START_MS + 3 * LEASE_MS);
    claim.settle(settle(Outcome::Delivered));
    let line = bench.line().await;
    assert_eq!((line.delivered, line.pending), (1, 0));
}

pub async fn a_process_that_stood_still_past_its_lease_keeps_its_claim_if_nobody_took_it<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(1, 0)).await;
    let claim = bench.claim().await;
    bench.set.advance_ms(10 * LEASE_MS);
    bench.nothing_to_claim().await;
    claim.settle(settle(Outcome::Delivered));
    assert_eq!(bench.line().await.delivered, 1);
}

pub async fn a_dropped_claim_is_due_again_and_nothing_is_counted<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(1, 0)).await;
    let first = bench.claim().await;
    let run = first.run;
    drop(first);
    let second = bench.claim().await;
    assert_eq!((second.run, second.attempt), (run, 0));
}

pub async fn a_run_that_panics_thrice_is_parked<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(1, 0)).await;
    for crash in 1..=CRASHES_MAX {
        let claim = bench.claim().await;
        let panicked = tokio::spawn(async move {
            let _held = claim;
            std::panic::panic_any("a bug");
        });
        assert!(panicked.await.is_err());
        assert_eq!(bench.line().await.parked, i64::from(crash == CRASHES_MAX));
        bench.set.advance_ms(CRASH_PAUSE_MS);
    }
    bench.nothing_to_claim().await;
}

pub async fn a_replay_as_retry_runs_again_from_what_was_stored<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(1, 0)).await;
    let claim = bench.claim().await;
    let run = claim.run;
    claim.settle(parked());
    assert_eq!(bench.line().await.parked, 1);

    // Another process, while this one serves.
    let store = bench.place.store(bench.clock.clone()).await.unwrap();
    assert_eq!(store.parked_ids(Some("one")).await.unwrap(), [run]);
    assert_eq!(store.parked_ids(Some("two")).await.unwrap(), []);
    assert_eq!(store.replay(&[run], Replay::Retry).await.unwrap().runs, [run]);
    assert_eq!(store.replay(&[run], Replay::Retry).await.unwrap().refused, [(run, ReplayRefusal::Pending)]);
    assert_eq!(bench.line().await.pending, 1);
    bench.set.advance_ms(1_000);
    let claim = bench.claims.recv().await.expect("found within a second");
    assert_eq!((claim.run, claim.attempt, claim.generation), (run, 0, 0));
    assert_eq!(claim.state.as_deref(), Some(b"state".as_slice()));
    claim.settle(settle(Outcome::Delivered));
    assert_eq!(bench.line().await.delivered, 1);
    assert_eq!(store.run(run).await.unwrap().expect("known").attempts.len(), 2);
}

pub async fn a_delivered_run_is_replayed_as_new_only<P: Place>() {
    for outcome in [Outcome::Delivered, Outcome::DeliveredInPart { reason: "the step `b` failed".to_owned() }]
    {
        let mut bench = Bench::<P>::new(8).await;
        bench.accept(bench.event(1, 0)).await;
        let claim = bench.claim().await;
        let run = claim.run;
        claim.settle(settle(outcome));
        bench.queue.flush().await.unwrap();

        let store = bench.queue.store();
        let refused = store.replay(&[run], Replay::Retry).await.unwrap();
        assert_eq!((refused.runs, refused.refused), (vec![], vec![(run, ReplayRefusal::Delivered)]));
        assert_eq!(store.run(run).await.unwrap().expect("known").summary.state, RunStateName::Delivered);
        bench.set.advance_ms(1_000);
        bench.nothing_to_claim().await;
        assert_eq!(bench.line().await.delivered, 1);

        let store = bench.queue.store();
        assert_eq!(store.replay(&[run], Replay::New { version: None }).await.unwrap().runs, [run]);
        bench.set.advance_ms(1_000);
        assert_eq!(bench.claim().await.generation, 1);
    }
}

pub async fn a_replay_as_new_starts_afresh_on_the_version_asked_for<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(1, 0)).await;
    let claim = bench.claim().await;
    let run = claim.run;
    claim.settle(parked());
    bench.queue.flush().await.unwrap();

    let store = bench.queue.store();
    let unknown = Replay::New { version: Some(VersionId(1)) };
    assert_eq!(store.replay(&[run], unknown).await.unwrap().refused, [(run, ReplayRefusal::UnknownVersion)]);
    let missing = [(RunId(5), ReplayRefusal::Unknown)];
    assert_eq!(store.replay(&[RunId(5)], Replay::Retry).await.unwrap().refused, missing);
    store.replay(&[run], Replay::New { version: Some(bench.versions[1]) }).await.unwrap();
    bench.set.advance_ms(1_000);
    let claim = bench.claim().await;
    assert_eq!(
        (claim.run, claim.version, claim.generation, &claim.state),
        (run, bench.versions[1], 1, &None)
    );
}

pub async fn a_discarded_run_leaves_the_parked_ones_and_stays_in_the_ledger<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(1, 0)).await;
    let claim = bench.claim().await;
    let run = claim.run;
    claim.settle(parked());
    bench.queue.flush().await.unwrap();
    assert_eq!(bench.queue.store().discard(&[run, RunId(5)], "by a test").await.unwrap().refused, [RunId(5)]);
    let line = bench.line().await;
    assert_eq!((line.parked, line.discarded), (0, 1));
}

pub async fn lists_page_by_cursor_and_filter<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    for identity in 0..5 {
        bench.accept(bench.event(identity, 0)).await;
    }
    bench.claim().await.settle(settle(Outcome::Delivered));
    bench.claim().await.settle(parked());
    bench.queue.flush().await.unwrap();

    let store = bench.queue.store();
    let mut seen = Vec::new();
    let mut filter = RunFilter { limit: 2, ..RunFilter::default() };
    loop {
        let page = store.runs(&filter).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        seen.extend(page.iter().map(|run| run.id));
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.is_sorted_by(|newer, older| newer > older));
    for (state, count) in
        [(RunStateName::Pending, 3), (RunStateName::Delivered, 1), (RunStateName::Parked, 1)]
    {
        let filter = RunFilter { state: Some(state), limit: 10, ..RunFilter::default() };
        assert_eq!(store.runs(&filter).await.unwrap().len(), count);
    }
    let none = RunFilter { bundle: Some("two".to_owned()), limit: 10, ..RunFilter::default() };
    assert_eq!(store.runs(&none).await.unwrap(), []);
    let mine = EventFilter { connection: Some("calls".to_owned()), limit: 3, ..EventFilter::default() };
    assert_eq!(store.events(&mine).await.unwrap().len(), 3);
}

pub async fn many_at_once_are_each_answered_once_and_the_ledger_balances<P: Place>() {
    const EVENTS: u64 = 1_500;
    let mut bench = Bench::<P>::new(64).await;
    let mut publishing = tokio::task::JoinSet::new();
    for identity in 0..EVENTS {
        let (queue, event) = (bench.queue.clone(), bench.event(identity / 2, 0));
        publishing.spawn(async move {
            queue.publish(event).await.map(|published| matches!(published, Published::Accepted { .. }))
        });
    }
    let mut runs = std::collections::HashSet::new();
    while runs.len() < usize::try_from(EVENTS / 2).unwrap() {
        let claim = bench.claims.recv().await.expect("the writer lives");
        assert!(runs.insert(claim.run), "claimed twice");
        let outcome = if runs.len() % 10 == 0 { parked() } else { settle(Outcome::Delivered) };
        claim.settle(outcome);
    }
    let accepted =
        publishing.join_all().await.into_iter().filter(|accepted| *accepted.as_ref().unwrap()).count();
    assert_eq!(accepted, runs.len());
    let line = bench.line().await;
    assert_eq!((line.received, line.accepted, line.duplicate), (1_500, 750, 750));
    assert_eq!((line.delivered, line.parked, line.pending, line.filtered), (675, 75, 0, 750));
}

pub async fn a_kill_at_any_moment_loses_nothing_that_was_answered<P: Place>() {
    const KILLS: u64 = 12;
    const SENDERS: u64 = 4;
    const EACH: u64 = 8;
    let mut bench = Bench::<P>::new(8).await;
    let (mut answered, mut unanswered) = (Vec::new(), 0);
    for kill in 0..KILLS {
        let (answers, mut of_senders) = tokio::sync::mpsc::unbounded_channel();
        for sender in 0..SENDERS {
            let (queue, answers) = (bench.queue.clone(), answers.clone());
            let from = (kill * SENDERS + sender) * EACH;
            let events: Vec<_> = (from..from + EACH).map(|it| (it, bench.event(it, 0))).collect();
            tokio::spawn(async move {
                for (identity, event) in events {
                    let is_stored = queue.publish(event).await.is_ok();
                    let _ = answers.send((identity, is_stored));
                }
            });
        }
        drop(answers);
        // The others are under way, somewhere in a commit.
        for _ in 0..=kill * 2 {
            answered.extend(of_senders.recv().await);
            if let Ok(claim) = bench.claims.try_recv() {
                claim.settle(delivered());
            }
        }
        bench = bench.restart(8).await;
        while let Some((identity, is_stored)) = of_senders.recv().await {
            if is_stored { answered.push((identity, true)) } else { unanswered += 1 }
        }
    }
    assert!(unanswered >= KILLS, "kills came when all was done");
    for (identity, is_stored) in answered {
        let again = bench.queue.publish(bench.event(identity, 0)).await.unwrap();
        assert!(is_stored && matches!(again, Published::Duplicate { .. }), "{identity}: {again:?}");
    }
    loop {
        let claims = bench.claims_now().await;
        if claims.is_empty() {
            break;
        }
        claims.into_iter().for_each(|claim| claim.settle(delivered()));
    }
    let line = bench.line().await;
    assert_eq!((line.pending, line.delivered), (0, line.accepted));
}

pub async fn a_second_server_is_refused<P: Place>() {
    let bench = Bench::<P>::new(1).await;
    let second = bench.place.serve(1, bench.clock.clone()).await;
    assert!(matches!(second, Err(QueueError::InUse(_))), "{second:?}");
    let bench = bench.restart(1).await;
    bench.accept(bench.event(1, 0)).await;
}

pub async fn a_stopped_queue_says_so<P: Place>() {
    let bench = Bench::<P>::new(1).await;
    let handle = bench.queue.clone();
    bench.queue.stop().await;
    assert!(matches!(handle.publish(quarantine()).await, Err(QueueError::Stopping)));
}

/// Instantiates the suite for one kind of place.
macro_rules! conformance {
    ($place:ty: $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                if !<$place as $crate::queue::conformance::Place>::is_there() {
                    return;
                }
                $crate::queue::conformance::$case::<$place>().await;
            }
        )*
    };
    ($place:ty) => {
        $crate::queue::conformance::conformance! { $place:
            an_event_is_kept_as_received_with_a_run_per_bundle_that_took_it
            a_run_due_now_is_handed_over_in_memory_and_settles
            a_run_without_a_free_slot_waits_in_the_store_and_comes_with_its_request
            an_event_that_cannot_be_read_comes_with_the_reason_and_holds_up_nobody
            a_duplicate_is_counted_and_makes_no_run
            the_same_identity_under_another_connection_is_another_event
            an_event_without_an_identity_is_always_new
            a_duplicate_is_known_after_a_restart_and_forgotten_after_the_window
            an_identity_is_known_for_the_window_of_its_publish_however_long_its_copy_waited
            of_two_that_come_at_once_the_later_is_new_though_the_earlier_is_known
            what_cannot_be_decoded_is_kept_and_counted
            what_cannot_be_decoded_and_comes_again_under_its_identity_is_one
            a_stale_epoch_stores_nothing_and_hands_the_event_back
            a_version_keeps_its_id_and_the_epoch_moves_only_with_the_active_set
            a_workspace_that_keeps_its_versions_has_them_whatever_is_activated_beside
            a_delayed_run_fires_at_its_time_and_not_before
            a_delay_survives_a_restart_unchanged
            a_retry_comes_back_at_its_time_with_its_state_and_history
            a_run_delivered_in_part_counts_as_delivered_and_says_why
            a_restarted_process_takes_back_its_own_runs_at_once
            a_settle_of_a_lost_claim_changes_nothing
            a_lease_is_extended_while_its_claim_is_held
            a_process_that_stood_still_past_its_lease_keeps_its_claim_if_nobody_took_it
            a_dropped_claim_is_due_again_and_nothing_is_counted
            a_run_that_panics_thrice_is_parked
            a_replay_as_retry_runs_again_from_what_was_stored
            a_delivered_run_is_replayed_as_new_only
            a_replay_as_new_starts_afresh_on_the_version_asked_for
            a_discarded_run_leaves_the_parked_ones_and_stays_in_the_ledger
            lists_page_by_cursor_and_filter
            many_at_once_are_each_answered_once_and_the_ledger_balances
            a_kill_at_any_moment_loses_nothing_that_was_answered
            a_second_server_is_refused
            a_stopped_queue_says_so
        }
    };
}
pub(crate) use conformance;
