//! What every backend must do where several workspaces have runs: none of them keeps the others waiting, whatever it has.

use std::collections::HashMap;

use super::*;
use crate::queue::gate::Limit;

/// Slots of the node under test.
const SLOTS: usize = 8;
/// Of the quiet workspace.
const QUIET: &str = "quiet/crm";

fn gate(name: &str) -> GateId {
    GateId::of(GateKind::Connection, name)
}

/// The connections of a workspace.
fn of(workspace: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{workspace}/{number}")).collect()
}

impl<P: Place> Bench<P> {
    /// Active bundles send through these.
    async fn of_workspaces(connections: &[String]) -> Bench<P> {
        let mut bench = Bench::new(SLOTS).await;
        let connections = connections.iter().map(String::as_str).chain([QUIET]);
        bench.limit(connections.map(|name| (gate(name), Limit::none(name))).collect::<HashMap<_, _>>()).await;
        bench
    }

    fn event_to(&self, connection: &str, identity: u64, due_ms: i64) -> Publish {
        let quiet = connection == QUIET;
        let take = Decision {
            version: self.versions[usize::from(quiet)],
            bundle: bundle(if quiet { "two" } else { "one" }),
            through: gate(connection),
            ..self.take(due_ms)
        };
        publish(self.epoch, Some([identity, identity]), vec![take])
    }

    /// So many events at once, in turn through each of these.
    async fn flood(&self, connections: &[String], events: usize, due_ms: i64) {
        let mut publishing = tokio::task::JoinSet::new();
        for number in 0..events {
            let identity = 1_000_000 + number as u64;
            let event = self.event_to(&connections[number % connections.len()], identity, due_ms);
            let queue = self.queue.clone();
            publishing.spawn(async move { queue.publish(event).await.is_ok() });
        }
        assert!(publishing.join_all().await.into_iter().all(|accepted| accepted));
    }

    async fn handed_out(&mut self) -> Vec<Claim> {
        self.queue.flush().await.unwrap();
        std::iter::from_fn(|| self.claims.try_recv().ok()).collect()
    }

    /// How many turns it takes until a run of the quiet workspace is claimed while nothing ends, and what was claimed.
    async fn until_the_quiet_one(&mut self, turns_max: usize) -> Vec<Claim> {
        let mut held = Vec::new();
        for _ in 0..turns_max {
            held.extend(self.handed_out().await);
            if held.iter().any(|claim| claim.version == self.versions[1]) {
                return held;
            }
        }
        panic!("{} are claimed, and the quiet one is not among them", held.len());
    }

    /// All that is left, each as soon as it is claimed.
    async fn work_off(&mut self) -> usize {
        let mut done = 0;
        loop {
            let claims = self.handed_out().await;
            if claims.is_empty() {
                return done;
            }
            done += claims.len();
            claims.into_iter().for_each(|claim| claim.settle(delivered()));
        }
    }
}

pub async fn fifty_connections_of_one_workspace_leave_half_of_the_slots_to_the_others<P: Place>() {
    const NOISE: usize = 1_000;
    let noisy = of("noisy", 50);
    let mut bench = Bench::<P>::of_workspaces(&noisy).await;
    bench.flood(&noisy, NOISE, 0).await;
    let held = bench.handed_out().await;
    assert_eq!(held.len(), SLOTS / 2, "and nobody of these ends");
    for identity in 0..5 {
        bench.accept(bench.event_to(QUIET, identity, 0)).await;
        let claim = bench.claim().await;
        assert_eq!(claim.version, bench.versions[1]);
        claim.settle(delivered());
    }
    drop(held);
    assert_eq!(bench.work_off().await, NOISE);
    assert_eq!(bench.line().await.pending, 0);
}

pub async fn a_quiet_workspace_whose_delay_is_over_is_found_among_the_runs_of_another<P: Place>() {
    const NOISE: usize = 6_000;
    const LATER_MS: i64 = START_MS + 60_000;
    let noisy = of("noisy", 20);
    let mut bench = Bench::<P>::of_workspaces(&noisy).await;
    bench.flood(&noisy, NOISE, LATER_MS).await;
    bench.accept(bench.event_to(QUIET, 0, LATER_MS + 1)).await;
    bench.set.set_ms(LATER_MS + 1);
    // Some thousand are sorted at a turn.
    let held = bench.until_the_quiet_one(6).await;
    assert_eq!(held.len(), SLOTS / 2 + 1, "the noisy ones have their half");
    drop(held);
    assert_eq!(bench.work_off().await, NOISE + 1);
}

pub async fn a_workspace_that_comes_when_every_slot_is_held_gets_the_next_ones<P: Place>() {
    let workspaces: Vec<Vec<String>> = (0..6).map(|number| of(&format!("noisy{number}"), 4)).collect();
    let noisy = workspaces.concat();
    let mut bench = Bench::<P>::of_workspaces(&noisy).await;
    for connections in &workspaces {
        for number in 0..40 {
            let connection = &connections[number % connections.len()];
            let identity = u64::try_from(number).unwrap() + (gate(connection).0.cast_unsigned() << 8);
            bench.accept(bench.event_to(connection, identity, 0)).await;
        }
    }
    let mut held = std::collections::VecDeque::from(bench.handed_out().await);
    assert_eq!(held.len(), SLOTS);
    bench.accept(bench.event_to(QUIET, 0, 0)).await;
    let mut before = 0;
    loop {
        held.pop_front().expect("there is more to do").settle(delivered());
        let claims = bench.handed_out().await;
        if claims.iter().any(|claim| claim.version == bench.versions[1]) {
            break;
        }
        before += claims.len();
        held.extend(claims);
    }
    assert!(before <= workspaces.len(), "{before} before it: no more than one of each that holds none");
}

pub async fn each_workspace_has_its_turns_while_another_has_more_than_every_slot<P: Place>() {
    const NOISE: usize = 600;
    const QUIET_RUNS: usize = 20;
    let noisy = of("noisy", 100);
    let mut bench = Bench::<P>::of_workspaces(&noisy).await;
    bench.flood(&noisy, NOISE, 0).await;
    for identity in 0..QUIET_RUNS as u64 {
        bench.accept(bench.event_to(QUIET, identity, 0)).await;
    }
    let (mut quiet, mut others) = (0, 0);
    while quiet < QUIET_RUNS {
        let claims = bench.handed_out().await;
        assert!(!claims.is_empty(), "{quiet} of the quiet one, {others} of the other");
        let of_quiet = claims.iter().filter(|claim| claim.version == bench.versions[1]).count();
        (quiet, others) = (quiet + of_quiet, others + claims.len() - of_quiet);
        claims.into_iter().for_each(|claim| claim.settle(delivered()));
    }
    assert!(others <= 4 * QUIET_RUNS, "{others} of the other before the last");
    assert_eq!(bench.work_off().await, NOISE - others);
}

pub async fn a_restart_finds_what_every_workspace_has_waiting<P: Place>() {
    let noisy = of("noisy", 20);
    let mut bench = Bench::<P>::of_workspaces(&noisy).await;
    bench.flood(&noisy, 200, 0).await;
    let held = bench.handed_out().await;
    for identity in 0..10 {
        bench.accept(bench.event_to(QUIET, identity, 0)).await;
    }
    let quiet = bench.handed_out().await;
    let mut bench = bench.restart(SLOTS).await;
    drop((held, quiet));
    // On a shared database the leases have to end.
    bench.set.advance_ms(LEASE_MS);
    assert_eq!(bench.work_off().await, 210);
    let line = bench.line().await;
    assert_eq!((line.delivered, line.pending), (210, 0));
}

/// Instantiates these cases for one kind of place.
macro_rules! of_workspaces {
    ($place:ty: $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                if !<$place as $crate::queue::conformance::Place>::is_there() {
                    return;
                }
                $crate::queue::conformance::workspaces::$case::<$place>().await;
            }
        )*
    };
    ($place:ty) => {
        $crate::queue::conformance::workspaces::of_workspaces! { $place:
            fifty_connections_of_one_workspace_leave_half_of_the_slots_to_the_others
            a_quiet_workspace_whose_delay_is_over_is_found_among_the_runs_of_another
            a_workspace_that_comes_when_every_slot_is_held_gets_the_next_ones
            each_workspace_has_its_turns_while_another_has_more_than_every_slot
            a_restart_finds_what_every_workspace_has_waiting
        }
    };
}
pub(crate) use of_workspaces;
