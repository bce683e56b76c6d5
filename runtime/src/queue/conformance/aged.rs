//! What every backend must do with a database that an older sheaf left behind: bring it up to date and go on with all of it.

use super::*;

/// A place whose database can be made one of an older sheaf's.
pub trait Aged: Place {
    /// The first schema that knows lanes.
    const LANES_SINCE: i64;
    /// The schema of this binary.
    fn schema() -> i64;
    /// Makes the database, which nobody serves, one of that schema, made by the older migrations. It holds of each row what
    /// that schema has room for.
    fn age(&self, schema: i64) -> impl Future<Output = ()>;
}

/// When the run that was refused is tried again, and when the delay of another is over.
const RETRY_MS: i64 = START_MS + 5_000;
const LATER_MS: i64 = START_MS + 10_000;

pub async fn a_database_of_any_older_schema_goes_on_with_all_that_it_holds<P: Aged>() {
    for schema in 1..P::schema() {
        let mut bench = Bench::<P>::new(8).await;
        let run = filled(&mut bench).await;
        let keyed = if schema >= P::LANES_SINCE { bench.bring("a", 100..103).await } else { Vec::new() };
        let before = bench.line().await;
        let mut bench = brought_up(bench, schema).await;
        let now = bench.line().await;
        assert_eq!(now, before, "schema {schema}");
        for identity in 1..=5 {
            let known = bench.queue.publish(bench.event(identity, 0)).await.unwrap();
            assert!(matches!(known, Published::Duplicate { .. }), "schema {schema}: {known:?}");
        }
        bench.accept(bench.event(6, 0)).await;

        let at_once = delivered_now(&mut bench).await;
        let of_key = |came: &[Claimed]| {
            came.iter().filter(|it| keyed.contains(&it.0)).map(|it| it.0).collect::<Vec<_>>()
        };
        assert_eq!((at_once.len(), of_key(&at_once)), (2 + keyed.len(), keyed.clone()), "schema {schema}");
        bench.set.set_ms(RETRY_MS);
        let [(_, attempt, state)] = delivered_now(&mut bench).await.try_into().expect("the refused one");
        assert_eq!((attempt, state.as_deref()), (1, Some(b"sent".as_slice())), "schema {schema}");
        bench.set.set_ms(LATER_MS);
        assert_eq!(delivered_now(&mut bench).await.len(), 1, "schema {schema}");
        assert_eq!(bench.queue.store().replay(&[run], Replay::Retry).await.unwrap().runs, [run]);
        bench.set.advance_ms(1_000);
        let [(_, _, state)] = delivered_now(&mut bench).await.try_into().expect("the parked one");
        assert_eq!(state.as_deref(), Some(b"state".as_slice()), "schema {schema}");
        let line = bench.line().await;
        assert_eq!((line.pending, line.parked, line.delivered), (0, 0, line.accepted), "schema {schema}");
    }
}

/// A run of every kind: delivered, parked (this one), to be tried again, waiting for its time, in flight.
async fn filled<P: Place>(bench: &mut Bench<P>) -> RunId {
    bench.accept(bench.event(1, 0)).await;
    bench.claim().await.settle(delivered());
    bench.accept(bench.event(2, 0)).await;
    let refused = bench.claim().await;
    let run = refused.run;
    refused.settle(parked());
    bench.accept(bench.event(3, 0)).await;
    let outcome = Outcome::Retry { due_ms: RETRY_MS, state: b"sent".to_vec() };
    bench.claim().await.settle(settle(outcome));
    bench.accept(bench.event(4, LATER_MS)).await;
    bench.accept(bench.event(5, 0)).await;
    run
}

/// The same after its process was killed, its database was of that schema, and this binary has opened it.
async fn brought_up<P: Aged>(bench: Bench<P>, schema: i64) -> Bench<P> {
    let Bench { place, queue, claims, clock, .. } = bench;
    queue.kill().await;
    drop(claims);
    place.age(schema).await;
    let (queue, claims) = place.serve(8, clock.clone()).await.unwrap();
    let bench = Bench { place, queue, claims, clock, ..bench };
    bench.queue.limit(HashMap::new()).await.unwrap();
    let Activated { epoch, versions, .. } =
        bench.queue.activate(vec![version("one", 1), version("two", 2)]).await.unwrap();
    assert_eq!((epoch, &versions), (bench.epoch, &bench.versions), "schema {schema}");
    bench
}

/// What was claimed: the event, how often it was refused, what the last attempt left.
type Claimed = (EventId, u32, Option<Vec<u8>>);

/// Delivers until nothing is due; in the order in which it came.
async fn delivered_now<P: Place>(bench: &mut Bench<P>) -> Vec<Claimed> {
    let mut came = Vec::new();
    loop {
        let claims = bench.claims_now().await;
        if claims.is_empty() {
            return came;
        }
        for claim in claims {
            came.push((claim.event.id(), claim.attempt, claim.state.clone()));
            claim.settle(delivered());
        }
    }
}
