//! What every backend must do with gates: hold runs back, lose none, let nobody wait for another's vendor.

use std::collections::HashMap;

use sheaf_bundles::request::Request;

use super::*;
use crate::queue::{
    breaker::{Answered, FAILURES_MAX, OPEN_MS_FIRST},
    gate::Limit,
    types::Contact,
};

const SECOND_MS: i64 = 1_000;

fn sms() -> GateId {
    GateId::of(GateKind::Connection, "sms")
}

pub fn limits(connections: &[(&str, Option<usize>)]) -> HashMap<GateId, Limit> {
    let limit = |(name, concurrency): &(&str, Option<usize>)| {
        let limit = Limit { concurrency: *concurrency, ..Limit::none(*name) };
        (GateId::of(GateKind::Connection, name), limit)
    };
    connections.iter().map(limit).collect()
}

/// The end of an attempt as its connection sees it.
pub fn ended(outcome: Outcome, through: GateId, answered: Answered, started_ms: i64) -> Settle {
    ended_by(outcome, &[(through, answered)], started_ms)
}

/// The same of one that sent through several connections, one after the other.
fn ended_by(outcome: Outcome, contacts: &[(GateId, Answered)], started_ms: i64) -> Settle {
    let mut settle = Settle { started_ms, ..settle(outcome) };
    contacts.iter().for_each(|&(through, answered)| settle.contacts.note(Contact { through, answered }));
    settle
}

impl<P: Place> Bench<P> {
    /// Other processes' changes are seen.
    pub async fn a_second_later(&mut self) {
        self.set.advance_ms(SECOND_MS);
        self.queue.flush().await.unwrap();
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// An event whose run goes through this connection.
    fn event_through(&self, identity: u64, through: GateId) -> Publish {
        let take = Decision { through, ..self.take(0) };
        publish(self.epoch, Some([identity, identity]), vec![take])
    }

    /// The runs that are claimed now, settled as delivered.
    pub async fn deliver_all(&mut self) -> Vec<RunId> {
        let mut runs = Vec::new();
        loop {
            self.queue.flush().await.unwrap();
            let Ok(claim) = self.claims.try_recv() else { return runs };
            runs.push(claim.run);
            let now_ms = self.now_ms();
            claim.settle(ended(Outcome::Delivered, crm(), Answered::Well, now_ms));
        }
    }

    /// As many failures as open the breaker.
    pub async fn break_crm(&mut self, first_identity: u64) {
        for identity in (first_identity..).take(FAILURES_MAX as usize) {
            self.accept(self.event(identity, 0)).await;
            let claim = self.claim().await;
            let now_ms = self.now_ms();
            let again = Outcome::Retry { due_ms: now_ms + 3_600_000, state: Vec::new() };
            claim.settle(ended(again, crm(), Answered::Failing, now_ms));
        }
        self.queue.flush().await.unwrap();
    }
}

pub async fn a_paused_bundle_holds_its_runs_and_goes_on_without_having_lost_one<P: Place>() {
    let mut bench = Bench::<P>::new(2).await;
    for identity in 0..4 {
        bench.accept(bench.event(identity, 0)).await;
    }
    // Two are under way, two are ready when the pause comes from another process.
    let (first, second) = (bench.claim().await, bench.claim().await);
    let store = bench.place.store(bench.clock.clone()).await.unwrap();
    assert!(store.pause(GateKind::Bundle, "one", true).await.unwrap());
    assert!(!store.pause(GateKind::Bundle, "one", true).await.unwrap(), "it is already");
    bench.a_second_later().await;
    first.settle(delivered());
    second.settle(delivered());
    bench.nothing_to_claim().await;
    bench.accept(bench.event(10, 0)).await;
    bench.accept(bench.event(11, bench.now_ms() + SECOND_MS)).await;
    bench.nothing_to_claim().await;
    let mut bench = bench.restart(2).await;
    bench.a_second_later().await;
    bench.nothing_to_claim().await;
    let line = bench.line().await;
    assert_eq!((line.delivered, line.pending), (2, 4));
    let [held] = store.closed_gates().await.unwrap().try_into().expect("one gate");
    assert_eq!((held.name.as_str(), held.why, held.waiting), ("one", "paused", 4));

    assert!(store.pause(GateKind::Bundle, "one", false).await.unwrap());
    assert!(!store.pause(GateKind::Bundle, "one", false).await.unwrap());
    bench.a_second_later().await;
    assert_eq!(bench.deliver_all().await.len(), 4);
    assert_eq!(store.closed_gates().await.unwrap(), []);
    let line = bench.line().await;
    assert_eq!((line.delivered, line.pending), (6, 0));
}

pub async fn a_paused_connection_holds_what_it_brought_and_what_goes_through_it<P: Place>() {
    for (name, held) in [("calls", 2), ("crm", 1), ("other", 0)] {
        let mut bench = Bench::<P>::new(8).await;
        bench.queue.store().pause(GateKind::Connection, name, true).await.unwrap();
        bench.a_second_later().await;
        bench.accept(bench.event_through(1, crm())).await;
        bench.accept(bench.event_through(2, sms())).await;
        assert_eq!(bench.deliver_all().await.len(), 2 - held, "{name}");
        assert_eq!(bench.line().await.pending, i64::try_from(held).unwrap());
        bench.queue.store().pause(GateKind::Connection, name, false).await.unwrap();
        bench.a_second_later().await;
        assert_eq!(bench.deliver_all().await.len(), held, "{name}");
    }
}

pub async fn a_connection_that_fails_is_left_alone_until_one_run_went_well<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.limit(limits(&[("crm", None)])).await;
    bench.break_crm(100).await;
    for identity in 0..4 {
        bench.accept(bench.event(identity, 0)).await;
    }
    bench.nothing_to_claim().await;
    let mut bench = bench.restart(8).await;
    bench.nothing_to_claim().await;
    let [open] = bench.queue.store().closed_gates().await.unwrap().try_into().expect("one gate");
    assert_eq!((open.name.as_str(), open.why, open.waiting), ("crm", "failing", 4));

    bench.set.advance_ms(OPEN_MS_FIRST);
    let probe = bench.claim().await;
    bench.nothing_to_claim().await;
    bench.a_second_later().await;
    bench.nothing_to_claim().await;
    let now_ms = bench.now_ms();
    let again = Outcome::Retry { due_ms: now_ms + 3_600_000, state: Vec::new() };
    probe.settle(ended(again, crm(), Answered::Failing, now_ms));
    bench.queue.flush().await.unwrap();
    bench.set.advance_ms(OPEN_MS_FIRST);
    bench.nothing_to_claim().await;
    bench.set.advance_ms(OPEN_MS_FIRST);
    let probe = bench.claim().await;
    bench.nothing_to_claim().await;
    let now_ms = bench.now_ms();
    probe.settle(ended(Outcome::Delivered, crm(), Answered::Well, now_ms));
    assert_eq!(bench.deliver_all().await.len(), 2);
    assert_eq!(bench.queue.store().closed_gates().await.unwrap(), []);
    let line = bench.line().await;
    assert_eq!((line.delivered, line.pending), (3, i64::from(FAILURES_MAX) + 1));
}

pub async fn a_connection_is_judged_by_its_own_answers_whatever_another_said_later<P: Place>() {
    use Answered::{Failing, Refused, Well};
    let mut bench = Bench::<P>::new(8).await;
    bench.limit(limits(&[("crm", None), ("sms", None)])).await;
    bench.break_crm(100).await;
    for identity in 0..4 {
        bench.accept(bench.event(identity, 0)).await;
    }
    bench.set.advance_ms(OPEN_MS_FIRST);
    // Its step may fail; another connection is well.
    let probe = bench.claim().await;
    let now_ms = bench.now_ms();
    probe.settle(ended_by(Outcome::Delivered, &[(crm(), Failing), (sms(), Well)], now_ms));
    bench.queue.flush().await.unwrap();
    bench.set.advance_ms(2 * OPEN_MS_FIRST - 1);
    bench.nothing_to_claim().await;
    bench.set.advance_ms(1);
    let probe = bench.claim().await;
    bench.nothing_to_claim().await;
    let now_ms = bench.now_ms();
    probe.settle(ended_by(Outcome::Delivered, &[(crm(), Well), (sms(), Well)], now_ms));
    let (first, second) = (bench.claim().await, bench.claim().await);
    assert_eq!(bench.queue.store().closed_gates().await.unwrap(), []);
    let now_ms = bench.now_ms();
    first.settle(ended_by(Outcome::Delivered, &[(crm(), Refused), (sms(), Well)], now_ms));
    drop(second);
    bench.nothing_to_claim().await;
    let [refused] = bench.queue.store().closed_gates().await.unwrap().try_into().expect("one gate");
    assert_eq!((refused.name.as_str(), refused.why), ("crm", "refused"));
}

pub async fn a_probe_that_was_lost_is_sent_again_after_a_restart<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.break_crm(100).await;
    bench.accept(bench.event(1, 0)).await;
    bench.set.advance_ms(OPEN_MS_FIRST);
    let lost = bench.claim().await;
    let mut bench = bench.restart(8).await;
    // On a shared database the lease of the probe has to end.
    bench.set.advance_ms(LEASE_MS);
    let again = bench.claim().await;
    assert_eq!(again.run, lost.run);
    bench.nothing_to_claim().await;
}

pub async fn a_vendor_that_asks_for_a_pause_gets_it<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(1, 0)).await;
    let claim = bench.claim().await;
    let until_ms = START_MS + 60 * SECOND_MS;
    let again = Outcome::Retry { due_ms: until_ms, state: Vec::new() };
    claim.settle(ended(again, crm(), Answered::Busy { until_ms }, START_MS));
    bench.accept(bench.event(2, 0)).await;
    bench.set.set_ms(until_ms - 1);
    bench.nothing_to_claim().await;
    bench.set.set_ms(until_ms);
    assert_eq!(bench.deliver_all().await.len(), 2);
}

pub async fn a_noisy_connection_leaves_slots_to_the_others_and_nobody_waits_behind_its_runs<P: Place>() {
    const NOISE: u64 = 3_000;
    let mut bench = Bench::<P>::new(8).await;
    bench.limit(limits(&[("crm", None), ("sms", None)])).await;
    let mut publishing = tokio::task::JoinSet::new();
    for identity in 0..NOISE {
        let (queue, event) = (bench.queue.clone(), bench.event_through(identity, crm()));
        publishing.spawn(async move { queue.publish(event).await.is_ok() });
    }
    assert!(publishing.join_all().await.into_iter().all(|accepted| accepted));
    bench.accept(bench.event_through(NOISE, sms())).await;
    bench.queue.flush().await.unwrap();
    let mut held = Vec::new();
    while let Ok(claim) = bench.claims.try_recv() {
        held.push(claim);
    }
    // Nobody of the noisy ones ends; the quiet connection is served all the same.
    assert_eq!(held.len(), 5, "four of eight, and the quiet one");
    for identity in NOISE + 1..NOISE + 4 {
        bench.accept(bench.event_through(identity, sms())).await;
        let claim = bench.claim().await;
        claim.settle(ended(Outcome::Delivered, sms(), Answered::Well, START_MS));
    }
    drop(held);
    assert_eq!(bench.deliver_all().await.len() as u64, NOISE + 1);
    assert_eq!(bench.line().await.pending, 0);
}

pub async fn runs_that_came_back_from_a_replay_wait_at_the_gate_they_stopped_at<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(1, 0)).await;
    let claim = bench.claim().await;
    let run = claim.run;
    claim.settle(parked());
    bench.queue.flush().await.unwrap();
    let store = bench.queue.store().clone();
    store.pause(GateKind::Connection, "crm", true).await.unwrap();
    store.replay(&[run], Replay::Retry).await.unwrap();
    bench.a_second_later().await;
    bench.nothing_to_claim().await;
    assert_eq!(store.replay(&[run], Replay::Retry).await.unwrap().refused, [(run, ReplayRefusal::Pending)]);
    store.pause(GateKind::Connection, "crm", false).await.unwrap();
    bench.a_second_later().await;
    assert_eq!(bench.deliver_all().await, [run]);
}

/// A request of a connection, as it is kept of a delivery that failed.
fn request_through(connection: &str) -> Request {
    Request {
        connection: connection.into(),
        method: "POST".into(),
        origin: "https://sms.example:443".into(),
        url: Vec::new(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout_ms: 1_000,
    }
}

pub async fn a_later_step_passes_the_gate_of_its_own_connection<P: Place>() {
    let onward = || settle(Outcome::Onward { through: sms(), state: b"text next".to_vec() });
    let mut bench = Bench::<P>::new(8).await;
    bench.limit(limits(&[("crm", None), ("sms", None)])).await;
    bench.accept(bench.event(1, 0)).await;
    let claim = bench.claim().await;
    assert!(claim.pass.covers(crm(), true) && claim.pass.covers(sms(), false), "nothing holds it back");
    claim.settle(delivered());
    // A pause, a breaker that is open, places.
    let store = bench.queue.store().clone();
    store.pause(GateKind::Connection, "sms", true).await.unwrap();
    bench.a_second_later().await;
    bench.accept(bench.event(9, 0)).await;
    let claim = bench.claim().await;
    assert!(claim.pass.covers(crm(), true) && !claim.pass.covers(sms(), false));
    claim.settle(onward());
    bench.nothing_to_claim().await;
    let [paused] = store.closed_gates().await.unwrap().try_into().expect("one gate");
    assert_eq!((paused.name.as_str(), paused.waiting), ("sms", 1));
    store.pause(GateKind::Connection, "sms", false).await.unwrap();
    bench.a_second_later().await;
    let claim = bench.claim().await;
    assert!(claim.pass.covers(sms(), false) && claim.state.as_deref() == Some(b"text next"));
    let until_ms = bench.now_ms() + 60 * SECOND_MS;
    claim.settle(ended(Outcome::Delivered, sms(), Answered::Busy { until_ms }, bench.now_ms()));
    bench.accept(bench.event(2, 0)).await;
    let claim = bench.claim().await;
    assert!(!claim.pass.covers(sms(), false));
    claim.settle(onward());
    bench.nothing_to_claim().await;
    bench.set.set_ms(until_ms);
    let probe = bench.claim().await;
    assert!(probe.pass.covers(sms(), true), "the one that finds out");
    probe.settle(ended(Outcome::Delivered, sms(), Answered::Well, until_ms));

    bench.limit(limits(&[("crm", None), ("sms", Some(1))])).await;
    let mut claims = Vec::new();
    for identity in 3..6 {
        bench.accept(bench.event(identity, 0)).await;
        claims.push(bench.claim().await);
    }
    assert!(claims.iter().all(|claim| !claim.pass.covers(sms(), false)));
    claims.into_iter().for_each(|claim| claim.settle(onward()));
    let first = bench.claim().await;
    assert!(first.pass.covers(sms(), true));
    bench.nothing_to_claim().await;
    drop(first);
    assert_eq!(bench.deliver_all().await.len(), 3);
}

pub async fn a_run_that_is_replayed_as_new_passes_the_gate_of_its_first_step<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.accept(bench.event(1, 0)).await;
    let claim = bench.claim().await;
    let run = claim.run;
    let request = SentRequest::Stored(Box::new(request_through("sms")));
    claim.settle(Settle {
        deliveries: vec![DeliveryRecord { request, ..delivery(Class::BadRequest) }],
        ..parked()
    });
    bench.queue.flush().await.unwrap();
    let store = bench.queue.store().clone();
    store.pause(GateKind::Connection, "crm", true).await.unwrap();
    store.replay(&[run], Replay::New { version: None }).await.unwrap();
    bench.a_second_later().await;
    bench.nothing_to_claim().await;
    store.pause(GateKind::Connection, "crm", false).await.unwrap();
    bench.a_second_later().await;
    assert_eq!(bench.deliver_all().await, [run]);
}

pub async fn a_connection_that_the_files_do_not_name_any_more_keeps_its_places_for_what_waits<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.limit(limits(&[("crm", Some(2))])).await;
    for identity in 0..7 {
        bench.accept(bench.event(identity, 0)).await;
    }
    bench.limit(limits(&[("sms", None)])).await;
    let _held = (bench.claim().await, bench.claim().await);
    bench.nothing_to_claim().await;
    // Named again and limited no more, though no bundle sends there.
    let unused = Limit { bundles: 0, ..Limit::none("crm") };
    bench.limit([(crm(), unused)].into()).await;
    assert_eq!(bench.deliver_all().await.len(), 5);
}

pub async fn a_connection_that_no_bundle_sends_through_takes_no_slots_from_the_one_in_use<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let unused = Limit { bundles: 0, concurrency: Some(4), ..Limit::none("sms") };
    bench.limit([(crm(), Limit::none("crm")), (sms(), unused)].into()).await;
    for identity in 0..9 {
        bench.accept(bench.event(identity, 0)).await;
    }
    bench.queue.flush().await.unwrap();
    let held: Vec<Claim> = std::iter::from_fn(|| bench.claims.try_recv().ok()).collect();
    assert_eq!(held.len(), 8);
}

pub async fn nothing_is_handed_out_before_it_is_known_what_the_files_say_of_connections<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let places = limits(&[("crm", Some(2))]);
    bench.limit(places.clone()).await;
    for identity in 0..7 {
        bench.accept(bench.event(identity, 0)).await;
    }
    let mut bench = bench.reopened(8).await;
    // On a shared database the leases have to end.
    bench.set.advance_ms(LEASE_MS);
    bench.nothing_to_claim().await;
    bench.accept(bench.event(7, 0)).await;
    bench.nothing_to_claim().await;
    bench.limit(places).await;
    let _held = (bench.claim().await, bench.claim().await);
    bench.nothing_to_claim().await;
    assert_eq!(bench.line().await.pending, 8);
}

pub async fn a_limit_is_never_passed_and_every_place_is_given_again<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.limit(limits(&[("crm", Some(2))])).await;
    for identity in 0..7 {
        bench.accept(bench.event(identity, 0)).await;
    }
    let (first, second) = (bench.claim().await, bench.claim().await);
    bench.nothing_to_claim().await;
    first.settle(ended(Outcome::Delivered, crm(), Answered::Well, START_MS));
    let third = bench.claim().await;
    bench.nothing_to_claim().await;
    drop(second);
    let mut bench = bench.restart(8).await;
    bench.a_second_later().await;
    drop(third);
    assert_eq!(bench.deliver_all().await.len(), 6);
    let line = bench.line().await;
    assert_eq!((line.delivered, line.pending), (7, 0));
}

/// Instantiates these cases for one kind of place.
macro_rules! gated {
    ($place:ty: $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                if !<$place as $crate::queue::conformance::Place>::is_there() {
                    return;
                }
                $crate::queue::conformance::gated::$case::<$place>().await;
            }
        )*
    };
    ($place:ty) => {
        $crate::queue::conformance::gated::gated! { $place:
            a_paused_bundle_holds_its_runs_and_goes_on_without_having_lost_one
            a_paused_connection_holds_what_it_brought_and_what_goes_through_it
            a_connection_that_fails_is_left_alone_until_one_run_went_well
            a_connection_is_judged_by_its_own_answers_whatever_another_said_later
            a_probe_that_was_lost_is_sent_again_after_a_restart
            a_vendor_that_asks_for_a_pause_gets_it
            a_noisy_connection_leaves_slots_to_the_others_and_nobody_waits_behind_its_runs
            runs_that_came_back_from_a_replay_wait_at_the_gate_they_stopped_at
            a_later_step_passes_the_gate_of_its_own_connection
            a_run_that_is_replayed_as_new_passes_the_gate_of_its_first_step
            a_connection_that_the_files_do_not_name_any_more_keeps_its_places_for_what_waits
            a_connection_that_no_bundle_sends_through_takes_no_slots_from_the_one_in_use
            nothing_is_handed_out_before_it_is_known_what_the_files_say_of_connections
            a_limit_is_never_passed_and_every_place_is_given_again
        }
    };
}
pub(crate) use gated;
