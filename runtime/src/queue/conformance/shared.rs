//! What every backend must do where bundles share a connection: nobody waits for more than the others' turn.

use std::collections::HashMap;

use super::*;
use crate::queue::{breaker::OPEN_MS_FIRST, gate::Limit};

/// Slots of the node under test.
const SLOTS: usize = 8;

/// What is said of a connection through which both bundles send.
pub fn shared(concurrency: Option<usize>) -> HashMap<GateId, Limit> {
    HashMap::from([(crm(), Limit { bundles: 2, concurrency, ..Limit::none("crm") })])
}

impl<P: Place> Bench<P> {
    async fn of_shared(concurrency: Option<usize>) -> Bench<P> {
        let mut bench = Bench::new(SLOTS).await;
        bench.limit(shared(concurrency)).await;
        bench
    }

    /// An event that one of the two bundles takes.
    fn event_for(&self, bundle_index: usize, identity: u64, due_ms: i64) -> Publish {
        let take = Decision {
            version: self.versions[bundle_index],
            bundle: bundle(["one", "two"][bundle_index]),
            ..self.take(due_ms)
        };
        publish(self.epoch, Some([identity, identity]), vec![take])
    }

    /// Many events at once that the first bundle takes.
    async fn noise(&self, identities: std::ops::Range<u64>, due_ms: i64) {
        let mut publishing = tokio::task::JoinSet::new();
        for identity in identities {
            let (queue, event) = (self.queue.clone(), self.event_for(0, identity, due_ms));
            publishing.spawn(async move { queue.publish(event).await.is_ok() });
        }
        assert!(publishing.join_all().await.into_iter().all(|accepted| accepted));
    }

    /// What is claimed now.
    async fn in_hand(&mut self) -> Vec<Claim> {
        self.queue.flush().await.unwrap();
        std::iter::from_fn(|| self.claims.try_recv().ok()).collect()
    }

    /// How many runs of the first bundle are claimed before the next of the second, each when one before it has ended.
    async fn before_the_quiet_one(&mut self, held: Vec<Claim>) -> usize {
        let mut held = std::collections::VecDeque::from(held);
        for before in 0.. {
            held.pop_front().expect("there is more to do").settle(delivered());
            let claims = self.in_hand().await;
            if claims.iter().any(|claim| claim.version == self.versions[1]) {
                return before;
            }
            held.extend(claims);
        }
        unreachable!("it counts until it is there")
    }
}

pub async fn a_quiet_bundle_is_served_next_though_ten_thousand_runs_of_another_wait<P: Place>() {
    const NOISE: u64 = 10_000;
    let mut bench = Bench::<P>::of_shared(None).await;
    bench.noise(0..NOISE, 0).await;
    let held = bench.in_hand().await;
    assert_eq!(held.len(), SLOTS, "a bundle that is alone has every slot");
    bench.accept(bench.event_for(1, NOISE, 0)).await;
    // One of each that waits, in turn.
    assert!(bench.before_the_quiet_one(held).await <= 1);

    // And when all slots come back at once, half of them are the quiet one's.
    let held = bench.in_hand().await;
    for identity in NOISE + 1..NOISE + 1 + SLOTS as u64 {
        bench.accept(bench.event_for(1, identity, 0)).await;
    }
    drop(held);
    let mut bench = bench.restart(SLOTS).await;
    // On a shared database the leases have to end.
    bench.set.advance_ms(LEASE_MS);
    let (mut quiet, mut all) = (0, 0);
    while quiet < SLOTS {
        let claims = bench.in_hand().await;
        assert!(!claims.is_empty(), "{quiet} of the quiet one, {all} in all");
        all += claims.len();
        quiet += claims.iter().filter(|claim| claim.version == bench.versions[1]).count();
        claims.into_iter().for_each(|claim| claim.settle(delivered()));
    }
    // Those whose leases ended come first, and one turn before it is known that there is more than slots.
    assert!(all <= 5 * SLOTS, "{all}");
}

pub async fn what_waits_with_its_bundle_loses_nothing_and_a_restart_finds_it<P: Place>() {
    const NOISE: u64 = 100;
    let mut bench = Bench::<P>::of_shared(None).await;
    bench.noise(0..NOISE, 0).await;
    for identity in NOISE..NOISE + 10 {
        bench.accept(bench.event_for(1, identity, 0)).await;
    }
    let held = bench.in_hand().await;
    let line = bench.line().await;
    assert_eq!((held.len(), line.pending), (SLOTS, 110));
    // The files changed meanwhile: nobody shares the connection any more.
    bench.limits = HashMap::new();
    let mut bench = bench.restart(SLOTS).await;
    drop(held);
    bench.set.advance_ms(LEASE_MS);
    assert_eq!(bench.deliver_all().await.len(), 110);
    let line = bench.line().await;
    assert_eq!((line.delivered, line.pending), (110, 0));
}

pub async fn a_quiet_bundle_whose_delay_is_over_is_found_among_those_of_another<P: Place>() {
    const NOISE: u64 = 5_000;
    const LATER_MS: i64 = START_MS + 60_000;
    let mut bench = Bench::<P>::of_shared(None).await;
    bench.noise(0..NOISE, LATER_MS).await;
    bench.accept(bench.event_for(1, NOISE, LATER_MS + 1)).await;
    bench.set.set_ms(LATER_MS + 1);
    let held = bench.in_hand().await;
    assert_eq!(held.len(), SLOTS);
    let before = bench.before_the_quiet_one(held).await;
    assert!(before <= 2 * SLOTS, "{before}");
}

pub async fn the_places_of_a_limited_connection_are_shared_by_its_bundles<P: Place>() {
    let mut bench = Bench::<P>::of_shared(Some(2)).await;
    bench.noise(0..100, 0).await;
    let held = bench.in_hand().await;
    assert_eq!(held.len(), 2);
    bench.accept(bench.event_for(1, 100, 0)).await;
    assert!(bench.before_the_quiet_one(held).await <= 1);
}

pub async fn a_bundle_that_is_paused_while_it_waits_leaves_its_turns_to_the_others<P: Place>() {
    let mut bench = Bench::<P>::of_shared(None).await;
    bench.noise(0..50, 0).await;
    let held = bench.in_hand().await;
    for identity in 50..60 {
        bench.accept(bench.event_for(1, identity, 0)).await;
    }
    bench.queue.store().pause(GateKind::Bundle, "one", true).await.unwrap();
    bench.a_second_later().await;
    held.into_iter().for_each(|claim| claim.settle(delivered()));
    assert_eq!(bench.deliver_all().await.len(), 10);
    let [closed] = bench.queue.store().closed_gates().await.unwrap().try_into().expect("one gate");
    assert_eq!((closed.name.as_str(), closed.waiting), ("one", 42));
    bench.queue.store().pause(GateKind::Connection, "crm", true).await.unwrap();
    bench.queue.store().pause(GateKind::Bundle, "one", false).await.unwrap();
    bench.a_second_later().await;
    for _ in 0..42 / SLOTS + 1 {
        bench.nothing_to_claim().await;
    }
    let closed = bench.queue.store().closed_gates().await.unwrap();
    let waiting: Vec<_> = closed.iter().map(|gate| (gate.name.as_str(), gate.waiting)).collect();
    assert_eq!(waiting, [("crm", 42)], "those that wait apart are counted together");
    bench.queue.store().pause(GateKind::Connection, "crm", false).await.unwrap();
    bench.a_second_later().await;
    assert_eq!(bench.deliver_all().await.len(), 42);
    assert_eq!(bench.line().await.pending, 0);
}

pub async fn what_there_was_no_slot_for_is_claimed_next_though_what_came_before_it_is_paused<P: Place>() {
    let mut bench = Bench::<P>::new(SLOTS).await;
    bench.noise(0..50, 0).await;
    let held = bench.in_hand().await;
    for identity in 50..60 {
        bench.accept(bench.event_for(1, identity, 0)).await;
    }
    bench.queue.store().pause(GateKind::Bundle, "one", true).await.unwrap();
    bench.a_second_later().await;
    held.into_iter().for_each(|claim| claim.settle(delivered()));
    assert_eq!(bench.deliver_all().await.len(), 10, "more than there are slots, and all of them are due");
}

/// The gate of one of so many connections that each has room for one more: what they have is ready, not behind a gate.
fn one_of_many(number: u64) -> GateId {
    GateId::of(GateKind::Connection, &format!("own-{}", number % 200))
}

/// Files in force that say this of `crm`, and nothing of the many others.
fn among_many(limit: Limit) -> HashMap<GateId, Limit> {
    let others = (0..200).map(|number| (one_of_many(number), Limit::none("own")));
    others.chain([(crm(), limit)]).collect()
}

impl<P: Place> Bench<P> {
    /// More that is ready than there will be slots for in the whole test.
    async fn overload(&self, through: impl Fn(u64) -> GateId) {
        const READY: u64 = 400;
        let mut publishing = tokio::task::JoinSet::new();
        for identity in 100_000..100_000 + READY {
            let mut event = self.event_for(0, identity, 0);
            if let Content::Event(accepted) = &mut event.content {
                accepted.decisions[0].through = through(identity);
            }
            let queue = self.queue.clone();
            publishing.spawn(async move { queue.publish(event).await.is_ok() });
        }
        assert!(publishing.join_all().await.into_iter().all(|accepted| accepted));
    }

    /// Gives two slots back at a time until so many runs of the second bundle are claimed; how many of the first were. They come
    /// back in one turn, or in two when the writer is quick.
    async fn others_before(&mut self, quiet_runs: usize) -> usize {
        let mut held = self.in_hand().await;
        let (mut quiet, mut others) = (0, 0);
        while quiet < quiet_runs {
            held.drain(..held.len().min(2)).for_each(|claim| claim.settle(delivered()));
            let claims = self.in_hand().await;
            assert!(!claims.is_empty(), "{quiet} of the quiet one, {others} of the others");
            let of_quiet = claims.iter().filter(|claim| claim.version == self.versions[1]).count();
            (quiet, others) = (quiet + of_quiet, others + claims.len() - of_quiet);
            held.extend(claims);
        }
        others
    }
}

pub async fn a_connection_has_its_turns_while_others_have_more_ready_than_every_slot<P: Place>() {
    let none = || Limit::none("crm");
    let budget = budgeted::a_second(1_000);
    for (what, limit) in [
        ("shared", Limit { bundles: 2, ..none() }),
        ("limited", Limit { concurrency: Some(SLOTS), ..none() }),
        ("limited and shared", Limit { bundles: 2, concurrency: Some(SLOTS), ..none() }),
        ("paid for", Limit { budgets: vec![budget], ..none() }),
    ] {
        let mut bench = Bench::<P>::new(SLOTS).await;
        bench.limit(among_many(limit)).await;
        bench.overload(one_of_many).await;
        bench.queue.flush().await.unwrap();
        for identity in 0..20 {
            bench.accept(bench.event_for(1, identity, 0)).await;
        }
        let others = bench.others_before(20).await;
        assert!(others <= 100, "{what}: {others} of the others before the twentieth, of 400");
    }
}

pub async fn what_is_ready_has_its_turns_while_a_limited_connection_could_have_every_slot<P: Place>() {
    let mut bench = Bench::<P>::new(SLOTS).await;
    let limit = Limit { concurrency: Some(SLOTS), ..Limit::none("crm") };
    bench.limit(HashMap::from([(crm(), limit)])).await;
    bench.overload(|_| GateId::NONE).await;
    for identity in 0..100 {
        bench.accept(bench.event_for(1, identity, 0)).await;
    }
    let others = bench.others_before(60).await;
    assert!((40..=80).contains(&others), "{others} of the others before the sixtieth");
}

pub async fn a_broken_connection_is_tried_while_others_have_more_ready_than_every_slot<P: Place>() {
    let mut bench = Bench::<P>::new(SLOTS).await;
    bench.limit(among_many(Limit::none("crm"))).await;
    bench.break_crm(0).await;
    bench.accept(bench.event_for(1, 100, 0)).await;
    bench.overload(one_of_many).await;
    bench.set.advance_ms(OPEN_MS_FIRST);
    let others = bench.others_before(1).await;
    assert!(others <= 4, "{others} of the others before the probe");
}

/// Instantiates these cases for one kind of place.
macro_rules! shared_by_bundles {
    ($place:ty: $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                if !<$place as $crate::queue::conformance::Place>::is_there() {
                    return;
                }
                $crate::queue::conformance::shared::$case::<$place>().await;
            }
        )*
    };
    ($place:ty) => {
        $crate::queue::conformance::shared::shared_by_bundles! { $place:
            a_quiet_bundle_is_served_next_though_ten_thousand_runs_of_another_wait
            what_waits_with_its_bundle_loses_nothing_and_a_restart_finds_it
            a_quiet_bundle_whose_delay_is_over_is_found_among_those_of_another
            the_places_of_a_limited_connection_are_shared_by_its_bundles
            what_there_was_no_slot_for_is_claimed_next_though_what_came_before_it_is_paused
            a_bundle_that_is_paused_while_it_waits_leaves_its_turns_to_the_others
            a_connection_has_its_turns_while_others_have_more_ready_than_every_slot
            what_is_ready_has_its_turns_while_a_limited_connection_could_have_every_slot
            a_broken_connection_is_tried_while_others_have_more_ready_than_every_slot
        }
    };
}
pub(crate) use shared_by_bundles;
