//! What every backend must do with a bundle that keeps failing: pause it, say so, and let it go on when a person says so.

use super::{gated::ended, *};
use crate::queue::{
    breaker::{Answered, OPEN_MS_FIRST},
    gates::failing::PARKED_MAX,
};

/// So many runs in a row, all set aside.
async fn park<P: Place>(bench: &mut Bench<P>, runs: u32, end: impl Fn() -> Settle) {
    let takes = vec![bench.take(0); runs as usize];
    bench.accept(publish(bench.epoch, None, takes)).await;
    assert_eq!(park_all(bench, end).await, runs);
}

/// The runs that are claimed now, set aside; how many they were.
async fn park_all<P: Place>(bench: &mut Bench<P>, end: impl Fn() -> Settle) -> u32 {
    let mut runs = 0;
    loop {
        bench.queue.flush().await.unwrap();
        let before = runs;
        while let Ok(claim) = bench.claims.try_recv() {
            claim.settle(end());
            runs += 1;
        }
        if runs == before {
            return runs;
        }
    }
}

pub async fn a_bundle_that_keeps_failing_is_paused_and_a_person_lets_it_go_on<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let store = bench.place.store(bench.clock.clone()).await.unwrap();
    park(&mut bench, PARKED_MAX - 1, parked).await;
    let refused = || ended(parked().outcome, crm(), Answered::Refused, START_MS);
    park(&mut bench, 1, refused).await;
    let [refused] = store.closed_gates().await.unwrap().try_into().expect("one gate");
    assert_eq!(
        (refused.kind, refused.why),
        (GateKind::Connection, "refused"),
        "that is its connection's matter"
    );
    bench.set.advance_ms(OPEN_MS_FIRST);
    bench.accept(bench.event(200, 0)).await;
    assert_eq!(bench.deliver_all().await.len(), 1);

    // Two more are under way when it is paused: they end as they end.
    bench.accept(bench.event(300, 0)).await;
    bench.accept(bench.event(301, 0)).await;
    let under_way = (bench.claim().await, bench.claim().await);
    park(&mut bench, PARKED_MAX, parked).await;
    under_way.0.settle(parked());
    under_way.1.settle(parked());
    bench.queue.flush().await.unwrap();
    for identity in 500..504 {
        bench.accept(bench.event(identity, 0)).await;
    }
    bench.nothing_to_claim().await;
    // Another bundle that sends through the same connection goes on.
    let other = Decision { version: bench.versions[1], bundle: bundle("two"), ..bench.take(0) };
    bench.accept(publish(bench.epoch, None, vec![other])).await;
    assert_eq!(bench.deliver_all().await.len(), 1);
    let [held] = store.closed_gates().await.unwrap().try_into().expect("one gate");
    let told = (held.kind, held.name.as_str(), held.why, held.waiting, held.until_ms);
    assert_eq!(told, (GateKind::Bundle, "one", "failing", 4, None));
    assert!(!store.pause(GateKind::Bundle, "one", true).await.unwrap(), "it is paused already");

    assert!(store.pause(GateKind::Bundle, "one", false).await.unwrap());
    bench.a_second_later().await;
    assert_eq!(park_all(&mut bench, parked).await, 4);
    park(&mut bench, PARKED_MAX - 5, parked).await;
    assert_eq!(store.closed_gates().await.unwrap(), [], "the count starts anew");
    park(&mut bench, 1, parked).await;
    bench.accept(bench.event(800, 0)).await;
    // Those that were set aside wait with the others when they are replayed.
    let aside = store.parked_ids(Some("one")).await.unwrap();
    let replayed = store.replay(&aside, Replay::Retry).await.unwrap().runs.len();
    let mut bench = bench.restart(8).await;
    bench.nothing_to_claim().await;
    let [held] = store.closed_gates().await.unwrap().try_into().expect("one gate");
    assert_eq!((held.why, held.waiting), ("failing", replayed as u64 + 1));
    assert_eq!(bench.line().await.pending.unsigned_abs(), held.waiting);
}

pub async fn runs_that_crash_count_for_their_bundle_and_those_of_a_version_that_was_replaced_do_not<
    P: Place,
>() {
    let mut bench = Bench::<P>::new(8).await;
    let store = bench.queue.store().clone();
    // Another version has taken its place: how the last runs of this one end is not its fault.
    let old = bench.take(0);
    let later = Decision { verdict: Verdict::Take { due_ms: START_MS + 1 }, ..old };
    let later = publish(bench.epoch, None, vec![later; PARKED_MAX as usize]);
    bench.accept(later).await;
    let activated = bench.queue.activate(vec![version("one", 3), version("two", 2)]).await.unwrap();
    (bench.epoch, bench.versions) = (activated.epoch, activated.versions);
    bench.set.advance_ms(1);
    assert_eq!(park_all(&mut bench, parked).await, PARKED_MAX);
    assert_eq!(store.closed_gates().await.unwrap(), []);

    bench.accept(bench.event(1, 0)).await;
    for crash in 1..=CRASHES_MAX {
        let claim = bench.claim().await;
        let crashed = tokio::spawn(async move {
            let _held = claim;
            panic!("crash {crash}");
        });
        assert!(crashed.await.is_err());
        bench.queue.flush().await.unwrap();
        bench.set.advance_ms(CRASH_PAUSE_MS);
    }
    assert_eq!(bench.line().await.parked, i64::from(PARKED_MAX) + 1);
    park(&mut bench, PARKED_MAX - 1, parked).await;
    let [held] = store.closed_gates().await.unwrap().try_into().expect("one gate");
    assert_eq!((held.name.as_str(), held.why), ("one", "failing"));
}

/// Instantiates these cases for one kind of place.
macro_rules! failing {
    ($place:ty: $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                if !<$place as $crate::queue::conformance::Place>::is_there() {
                    return;
                }
                $crate::queue::conformance::failing::$case::<$place>().await;
            }
        )*
    };
    ($place:ty) => {
        $crate::queue::conformance::failing::failing! { $place:
            a_bundle_that_keeps_failing_is_paused_and_a_person_lets_it_go_on
            runs_that_crash_count_for_their_bundle_and_those_of_a_version_that_was_replaced_do_not
        }
    };
}
pub(crate) use failing;
