//! What every backend must do with lanes: one run of a key at a time, in order; nobody waits for another's key.

use std::collections::HashMap;

use sheaf_bundles::lane::{Keeps, Lane, LaneId};

use super::*;
use crate::queue::{backend::LOST_MAX, observe::WaitingFor};

/// The lane of a key of the bundle `one`.
fn lane(key: &str, keeps: Keeps) -> Option<Lane> {
    Some(Lane { id: LaneId::of("one", key), keeps })
}

impl<P: Place> Bench<P> {
    /// An event whose run waits for those of its key.
    fn event_of(&self, key: &str, identity: u64) -> Publish {
        let take = Decision { lane: lane(key, Keeps::Every), ..self.take(0) };
        publish(self.epoch, Some([identity, identity]), vec![take])
    }

    /// An event whose run takes over from those of its key, due then.
    fn latest_of(&self, key: &str, identity: u64, due_ms: i64) -> Publish {
        let take = Decision { lane: lane(key, Keeps::Latest), ..self.take(due_ms) };
        publish(self.epoch, Some([identity, identity]), vec![take])
    }

    /// Brings events of one key, and waits until each is stored.
    pub async fn bring(&self, key: &str, identities: std::ops::Range<u64>) -> Vec<EventId> {
        let mut events = Vec::new();
        for identity in identities {
            events.push(self.accept(self.event_of(key, identity)).await);
        }
        events
    }

    /// The claims that are there now.
    pub async fn claims_now(&mut self) -> Vec<Claim> {
        self.queue.flush().await.unwrap();
        std::iter::from_fn(|| self.claims.try_recv().ok()).collect()
    }

    /// Delivers until nothing is due, one round after another; the events in the order their runs came.
    async fn deliver_in_rounds(&mut self) -> Vec<Vec<EventId>> {
        let mut rounds = Vec::new();
        loop {
            let claims = self.claims_now().await;
            if claims.is_empty() {
                return rounds;
            }
            rounds.push(claims.iter().map(|claim| claim.event.id()).collect());
            claims.into_iter().for_each(|claim| claim.settle(delivered()));
        }
    }

    /// The first claim's event is this one, and there is no other claim.
    async fn only(&mut self, event: EventId) -> Claim {
        let claim = self.claim().await;
        assert_eq!(claim.event.id(), event);
        self.nothing_to_claim().await;
        claim
    }
}

fn again(due_ms: i64) -> Settle {
    settle(Outcome::Retry { due_ms, state: b"sent".to_vec() })
}

pub async fn runs_of_a_key_go_one_after_another_and_keys_side_by_side<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let events: Vec<Publish> =
        (0..9).map(|identity| bench.event_of(["a", "b", "c"][identity as usize % 3], identity)).collect();
    // In one commit or in several: whoever is first in the queue goes first.
    let accepted = futures(events.into_iter().map(|event| bench.accept(event))).await;
    let rounds = bench.deliver_in_rounds().await;
    assert_eq!(rounds.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3]);
    for key in 0..3 {
        let of_key = |events: &Vec<EventId>| {
            let mine = |event: &EventId| accepted.iter().skip(key).step_by(3).any(|own| own == event);
            let mine: Vec<EventId> = events.iter().copied().filter(mine).collect();
            assert_eq!(mine.len(), 1, "one of each key at a time");
            mine[0]
        };
        let order: Vec<EventId> = rounds.iter().map(of_key).collect();
        assert!(order.is_sorted(), "{order:?}");
    }
    let line = bench.line().await;
    assert_eq!((line.delivered, line.pending), (9, 0));
}

/// Waits for all of them at once.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

pub async fn a_head_that_is_tried_again_holds_its_own_key_and_no_other<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let a = bench.bring("a", 0..3).await;
    let b = bench.bring("b", 10..12).await;
    let mut claims = bench.claims_now().await;
    assert_eq!(claims.iter().map(|claim| claim.event.id()).collect::<Vec<_>>(), [a[0], b[0]]);
    let due_ms = START_MS + 60_000;
    claims.remove(0).settle(again(due_ms));
    bench.queue.flush().await.unwrap();
    claims.remove(0).settle(delivered());
    bench.only(b[1]).await.settle(delivered());
    bench.set.set_ms(due_ms - 1);
    bench.nothing_to_claim().await;
    bench.set.set_ms(due_ms);
    let head = bench.only(a[0]).await;
    assert_eq!(head.attempt, 1);
    head.settle(delivered());
    assert_eq!(bench.deliver_in_rounds().await, [vec![a[1]], vec![a[2]]]);
}

pub async fn a_head_that_is_parked_lets_its_key_go_on<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let a = bench.bring("a", 0..3).await;
    bench.only(a[0]).await.settle(parked());
    assert_eq!(bench.deliver_in_rounds().await, [vec![a[1]], vec![a[2]]]);
    let line = bench.line().await;
    assert_eq!((line.delivered, line.parked, line.pending), (2, 1, 0));
}

pub async fn a_replayed_run_goes_behind_the_one_of_its_key_that_is_in_flight<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let a = bench.bring("a", 0..3).await;
    let claim = bench.only(a[0]).await;
    let run = claim.run;
    claim.settle(parked());
    let second = bench.only(a[1]).await;
    bench.queue.store().replay(&[run], Replay::Retry).await.unwrap();
    bench.a_second_later().await;
    bench.nothing_to_claim().await;
    second.settle(delivered());
    assert_eq!(bench.deliver_in_rounds().await, [vec![a[0]], vec![a[2]]], "the oldest that waits is next");
    // Alone with its key, it is its head.
    let b = bench.bring("b", 10..11).await;
    let claim = bench.only(b[0]).await;
    let run = claim.run;
    claim.settle(parked());
    bench.queue.flush().await.unwrap();
    bench.queue.store().replay(&[run], Replay::New { version: None }).await.unwrap();
    bench.a_second_later().await;
    bench.only(b[0]).await.settle(delivered());
    assert_eq!(bench.line().await.pending, 0);
}

pub async fn the_order_of_a_key_outlives_a_killed_process<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let a = bench.bring("a", 0..4).await;
    bench.only(a[0]).await.settle(delivered());
    let lost = bench.only(a[1]).await;
    let mut bench = bench.restart(8).await;
    let again = bench.only(a[1]).await;
    assert_eq!(again.run, lost.run);
    // What the dead process says now is stale.
    lost.settle(delivered());
    bench.nothing_to_claim().await;
    again.settle(delivered());
    assert_eq!(bench.deliver_in_rounds().await, [vec![a[2]], vec![a[3]]]);
    let line = bench.line().await;
    assert_eq!((line.delivered, line.pending), (4, 0));
}

pub async fn a_head_whose_lease_is_lost_again_and_again_gives_its_key_free<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let a = bench.bring("a", 0..2).await;
    let head = bench.only(a[0]).await;
    std::mem::forget(head);
    for _ in 1..LOST_MAX {
        bench = bench.restart(8).await;
        std::mem::forget(bench.only(a[0]).await);
    }
    let mut bench = bench.restart(8).await;
    // It is claimed once more, and parked then.
    bench.queue.flush().await.unwrap();
    bench.only(a[1]).await.settle(delivered());
    let line = bench.line().await;
    assert_eq!((line.delivered, line.parked, line.pending), (1, 1, 0));
}

pub async fn a_panic_holds_its_key_until_it_is_parked<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let a = bench.bring("a", 0..2).await;
    for _ in 0..CRASHES_MAX {
        let claim = bench.only(a[0]).await;
        let panicked = tokio::spawn(async move {
            let _held = claim;
            std::panic::panic_any("a bug");
        });
        assert!(panicked.await.is_err());
        bench.queue.flush().await.unwrap();
        bench.set.advance_ms(CRASH_PAUSE_MS);
    }
    bench.only(a[1]).await.settle(delivered());
    let line = bench.line().await;
    assert_eq!((line.delivered, line.parked, line.pending), (1, 1, 0));
}

pub async fn a_paused_head_stays_the_head_of_its_key<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let store = bench.queue.store().clone();
    store.pause(GateKind::Connection, "crm", true).await.unwrap();
    bench.a_second_later().await;
    let a = bench.bring("a", 0..3).await;
    bench.a_second_later().await;
    bench.nothing_to_claim().await;
    store.pause(GateKind::Connection, "crm", false).await.unwrap();
    bench.a_second_later().await;
    assert_eq!(bench.deliver_in_rounds().await, [vec![a[0]], vec![a[1]], vec![a[2]]]);
}

pub async fn a_delay_of_a_key_is_kept_and_its_order_too<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let delayed = |identity, due_ms| {
        let take = Decision { lane: lane("a", Keeps::Every), ..bench.take(due_ms) };
        publish(bench.epoch, Some([identity, identity]), vec![take])
    };
    let (first, second) = (delayed(1, START_MS + 1_000), delayed(2, START_MS + 5_000));
    let a = [bench.accept(first).await, bench.accept(second).await];
    bench.nothing_to_claim().await;
    bench.set.set_ms(START_MS + 1_000);
    bench.only(a[0]).await.settle(delivered());
    bench.set.set_ms(START_MS + 4_999);
    bench.nothing_to_claim().await;
    bench.set.set_ms(START_MS + 5_000);
    bench.only(a[1]).await.settle(delivered());
}

pub async fn runs_behind_their_key_keep_nobody_waiting_and_are_told_of<P: Place>() {
    let mut bench = Bench::<P>::new(2).await;
    let a = bench.bring("a", 0..50).await;
    let head = bench.only(a[0]).await;
    bench.set.advance_ms(1_000);
    let b = bench.bring("b", 100..101).await;
    assert_eq!(bench.only(b[0]).await.event.id(), b[0]);
    bench.queue.flush().await.unwrap();
    let waiting = bench.queue.store().waiting(100).await.unwrap();
    let behind = waiting.iter().find(|it| it.waiting_for == WaitingFor::Key).expect("49 wait for their key");
    assert_eq!((behind.count, behind.since_ms), (49, START_MS));
    let filter = RunFilter { limit: 100, ..RunFilter::default() };
    let runs = bench.queue.store().runs(&filter).await.unwrap();
    assert_eq!(runs.iter().filter(|run| run.behind_its_key).count(), 49);
    drop(head);
}

pub async fn of_several_events_of_a_key_the_latest_is_run_when_it_is_quiet<P: Place>() {
    const QUIET_MS: i64 = 10_000;
    let mut bench = Bench::<P>::new(8).await;
    let mut events = Vec::new();
    for identity in 0..5 {
        let due_ms = bench.clock.now_ms() + QUIET_MS;
        events.push(bench.accept(bench.latest_of("a", identity, due_ms)).await);
        bench.set.advance_ms(1_000);
    }
    let (in_one, together) = (START_MS + 5_000 + QUIET_MS, |bench: &Bench<P>| {
        (10..13)
            .map(|identity| bench.latest_of("b", identity, START_MS + 5_000 + QUIET_MS))
            .collect::<Vec<_>>()
    });
    let of_b = together(&bench);
    let of_b = futures(of_b.into_iter().map(|event| bench.accept(event))).await;
    let line = bench.line().await;
    assert_eq!((line.accepted, line.pending, line.discarded), (8, 2, 6));
    bench.set.set_ms(START_MS + 4_000 + QUIET_MS - 1);
    bench.nothing_to_claim().await;
    bench.set.set_ms(START_MS + 4_000 + QUIET_MS);
    bench.only(events[4]).await.settle(delivered());
    bench.set.set_ms(in_one);
    let latest = of_b.into_iter().max().expect("three");
    bench.only(latest).await.settle(delivered());
    let line = bench.line().await;
    assert_eq!((line.delivered, line.discarded, line.pending), (2, 6, 0));

    let first = bench.queue.store().event(events[0]).await.unwrap().expect("kept");
    let [run] = first.runs.try_into().expect("one");
    assert_eq!(run.state, RunStateName::Discarded);
    let detail = bench.queue.store().run(run.id).await.unwrap().expect("kept");
    assert!(detail.attempts.is_empty(), "it was never begun: {:?}", detail.attempts);
    let reason = run.reason.expect("it says who took over");
    assert!(reason.contains(&events[1].to_string()), "{reason}");
}

/// The same, received then.
fn came(mut publish: Publish, received_ms: i64) -> Publish {
    publish.received.received_ms = received_ms;
    if let Content::Event(accepted) = &mut publish.content {
        accepted.event.received_ms = received_ms;
    }
    publish
}

pub async fn an_event_that_waited_elsewhere_does_not_take_over_from_one_that_came_after_it<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let (first_ms, second_ms, due_ms) = (START_MS, START_MS + 1, START_MS + 5_000);
    bench.set.set_ms(second_ms);
    let newer = bench.accept(came(bench.latest_of("a", 1, due_ms), second_ms)).await;
    let older = bench.accept(came(bench.latest_of("a", 2, due_ms), first_ms)).await;
    assert!(older > newer);
    let both = [(3, second_ms), (4, first_ms)];
    let both = both.map(|(identity, ms)| came(bench.latest_of("b", identity, due_ms), ms));
    let both = futures(both.into_iter().map(|event| bench.accept(event))).await;
    // What a clock that was put right says of later times is not believed.
    let wrong_ms = START_MS + 3_600_000;
    bench.accept(came(bench.latest_of("c", 5, due_ms), wrong_ms)).await;
    let right = bench.accept(came(bench.latest_of("c", 6, due_ms), second_ms)).await;
    let line = bench.line().await;
    assert_eq!((line.pending, line.discarded), (3, 3));
    bench.set.set_ms(due_ms);
    let mut run: Vec<EventId> = bench.deliver_in_rounds().await.concat();
    run.sort_unstable();
    let mut expected = vec![newer, both[0], right];
    expected.sort_unstable();
    assert_eq!(run, expected);
}

pub async fn an_event_that_waited_elsewhere_does_not_follow_one_that_came_after_it_and_is_under_way<
    P: Place,
>() {
    let mut bench = Bench::<P>::new(8).await;
    let newer = bench.accept(came(bench.latest_of("a", 1, 0), START_MS)).await;
    let under_way = bench.only(newer).await;
    let older = bench.accept(came(bench.latest_of("a", 2, 0), START_MS - 1)).await;
    let line = bench.line().await;
    assert_eq!((line.pending, line.discarded), (1, 1));
    let latest = bench.accept(came(bench.latest_of("a", 3, 0), START_MS + 1)).await;
    under_way.settle(delivered());
    bench.only(latest).await.settle(delivered());
    let [run] = bench.queue.store().event(older).await.unwrap().expect("kept").runs.try_into().expect("one");
    assert!(run.reason.expect("it says who took over").contains(&newer.to_string()));
    assert_eq!(bench.line().await.delivered, 2);
}

pub async fn a_run_in_flight_or_refused_is_not_taken_over_and_the_latest_follows_it<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let first = bench.accept(bench.latest_of("a", 1, 0)).await;
    let head = bench.only(first).await;
    let _second = bench.accept(bench.latest_of("a", 2, 0)).await;
    let third = bench.accept(bench.latest_of("a", 3, 0)).await;
    bench.nothing_to_claim().await;
    let due_ms = START_MS + 5_000;
    head.settle(again(due_ms));
    bench.nothing_to_claim().await;
    let fourth = bench.accept(bench.latest_of("a", 4, 0)).await;
    assert!(fourth > third);
    let line = bench.line().await;
    assert_eq!((line.pending, line.discarded), (2, 2));
    bench.set.set_ms(due_ms);
    bench.only(first).await.settle(delivered());
    bench.only(fourth).await.settle(delivered());
    let line = bench.line().await;
    assert_eq!((line.delivered, line.discarded, line.pending), (2, 2, 0));
}

pub async fn a_run_that_was_taken_over_can_be_replayed<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let due_ms = START_MS + 5_000;
    let first = bench.accept(bench.latest_of("a", 1, due_ms)).await;
    let second = bench.accept(bench.latest_of("a", 2, due_ms)).await;
    let [run] = bench.queue.store().event(first).await.unwrap().expect("kept").runs.try_into().expect("one");
    let replayed = bench.queue.store().replay(&[run.id], Replay::Retry).await.unwrap();
    assert_eq!(replayed.runs, [run.id]);
    bench.set.set_ms(due_ms);
    bench.only(second).await.settle(delivered());
    bench.only(first).await.settle(delivered());
    let line = bench.line().await;
    assert_eq!((line.delivered, line.discarded, line.pending), (2, 0, 0));
}

/// Numbers that a seed gives, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

pub async fn whatever_becomes_of_runs_each_key_goes_in_order_and_none_is_left<P: Place>() {
    const EVENTS: usize = 120;
    const RESTARTS: u64 = 4;
    let (mut bench, mut dice) = (Bench::<P>::new(6).await, Dice(7));
    let mut keys: HashMap<EventId, u64> = HashMap::new();
    let mut newest_ended: HashMap<u64, EventId> = HashMap::new();
    let (mut in_flight, mut ended, mut restarts): (Vec<Claim>, usize, u64) = (Vec::new(), 0, 0);
    while ended < EVENTS {
        bench.set.advance_ms(200);
        if keys.len() < EVENTS && dice.below(2) == 0 {
            let key = dice.below(8);
            let event = bench.event_of(&key.to_string(), keys.len() as u64);
            keys.insert(bench.accept(event).await, key);
        }
        if restarts < RESTARTS && dice.below(60) == 0 {
            restarts += 1;
            // An end that is not stored when the process is killed comes again, which this test is not about.
            bench.queue.flush().await.unwrap();
            bench = bench.restart(6).await;
            in_flight.clear();
        }
        for claim in bench.claims_now().await {
            let (event, key) = (claim.event.id(), keys[&claim.event.id()]);
            let rival = in_flight.iter().map(|other| other.event.id()).find(|other| keys[other] == key);
            assert_eq!(rival, None, "{event} began while another of its key was in flight");
            let before = newest_ended.get(&key);
            assert!(before.is_none_or(|before| *before < event), "{event} came after {before:?}");
            in_flight.push(claim);
        }
        if in_flight.is_empty() || dice.below(3) == 0 {
            continue;
        }
        let at = usize::try_from(dice.below(in_flight.len() as u64)).unwrap();
        let claim = in_flight.swap_remove(at);
        let settle = match dice.below(10) {
            0..6 => delivered(),
            6 => parked(),
            7 | 8 => again(bench.clock.now_ms() + i64::try_from(dice.below(3_000)).unwrap()),
            // Given back: due again at once.
            _ => continue,
        };
        if settle.outcome == Outcome::Delivered || matches!(settle.outcome, Outcome::Parked { .. }) {
            newest_ended.insert(keys[&claim.event.id()], claim.event.id());
            ended += 1;
        }
        claim.settle(settle);
    }
    let line = bench.line().await;
    assert_eq!((line.accepted, line.delivered + line.parked, line.pending), (120, 120, 0));
    assert!(restarts > 0 && line.parked > 0);
}

/// Instantiates these cases for one kind of place.
macro_rules! laned {
    ($place:ty: $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                if !<$place as $crate::queue::conformance::Place>::is_there() {
                    return;
                }
                $crate::queue::conformance::laned::$case::<$place>().await;
            }
        )*
    };
    ($place:ty) => {
        $crate::queue::conformance::laned::laned! { $place:
            runs_of_a_key_go_one_after_another_and_keys_side_by_side
            a_head_that_is_tried_again_holds_its_own_key_and_no_other
            a_head_that_is_parked_lets_its_key_go_on
            a_replayed_run_goes_behind_the_one_of_its_key_that_is_in_flight
            the_order_of_a_key_outlives_a_killed_process
            a_head_whose_lease_is_lost_again_and_again_gives_its_key_free
            a_panic_holds_its_key_until_it_is_parked
            a_paused_head_stays_the_head_of_its_key
            a_delay_of_a_key_is_kept_and_its_order_too
            runs_behind_their_key_keep_nobody_waiting_and_are_told_of
            of_several_events_of_a_key_the_latest_is_run_when_it_is_quiet
            an_event_that_waited_elsewhere_does_not_take_over_from_one_that_came_after_it
            an_event_that_waited_elsewhere_does_not_follow_one_that_came_after_it_and_is_under_way
            a_run_in_flight_or_refused_is_not_taken_over_and_the_latest_follows_it
            a_run_that_was_taken_over_can_be_replayed
            whatever_becomes_of_runs_each_key_goes_in_order_and_none_is_left
        }
    };
}
pub(crate) use laned;
