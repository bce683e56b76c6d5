//! What nodes share of gates: a breaker and its probe, pauses, places, budgets.

use std::collections::HashMap;

use super::*;
use crate::queue::gate::{GateId, Limit};

#[tokio::test]
async fn of_several_nodes_one_sends_the_probe_and_all_see_a_breaker_and_a_pause() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (clock, set) = Clock::stopped_at(START_MS);
    let (a, mut of_a) = shared.node("a", 8, clock.clone()).await.unwrap();
    let (b, mut of_b) = shared.node("b", 8, clock.clone()).await.unwrap();
    let active = activate(&a, 1).await;
    assert_eq!(activate(&b, 1).await, active);
    for identity in 0..u64::from(FAILURES_MAX) {
        assert!(is_accepted(&a.publish(event(&active, identity, 0)).await.unwrap()));
        let claim = of_a.recv().await.expect("in hand");
        let again = Outcome::Retry { due_ms: i64::MAX / 4, state: Vec::new() };
        claim.settle(ended(again, crm(), Answered::Failing, START_MS));
    }
    a.flush().await.unwrap();
    set.advance_ms(1_000);
    for identity in 10..20 {
        assert!(is_accepted(&b.publish(event(&active, identity, 0)).await.unwrap()));
    }
    b.flush().await.unwrap();
    assert!(of_b.try_recv().is_err(), "it heard of it");

    set.advance_ms(OPEN_MS_FIRST);
    let (one, two) = tokio::join!(a.flush(), b.flush());
    one.unwrap();
    two.unwrap();
    let mut probes: Vec<_> = [of_a.try_recv(), of_b.try_recv()].into_iter().flatten().collect();
    assert_eq!(probes.len(), 1);
    let probe = probes.remove(0);
    assert!(of_a.try_recv().is_err() && of_b.try_recv().is_err());
    a.store().pause(GateKind::Connection, "crm", true).await.unwrap();
    set.advance_ms(1_000);
    a.flush().await.unwrap();
    b.flush().await.unwrap();
    probe.settle(ended(Outcome::Delivered, crm(), Answered::Well, clock.now_ms()));
    a.flush().await.unwrap();
    set.advance_ms(1_000);
    b.flush().await.unwrap();
    assert!(of_a.try_recv().is_err() && of_b.try_recv().is_err(), "well, and paused");
    a.store().pause(GateKind::Connection, "crm", false).await.unwrap();
    set.advance_ms(1_000);
    for _ in 0..9 {
        let claim = tokio::select! {
            Some(claim) = of_a.recv() => claim,
            Some(claim) = of_b.recv() => claim,
        };
        claim.settle(delivered());
    }
    a.flush().await.unwrap();
    b.flush().await.unwrap();
    let line = line(&a).await;
    assert_eq!((line.delivered, line.pending), (10, i64::from(FAILURES_MAX)));
}

#[tokio::test]
async fn a_bundle_that_keeps_failing_on_one_node_is_paused_on_all_until_a_person_lets_it_go_on() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (clock, set) = Clock::stopped_at(START_MS);
    let (a, mut of_a) = shared.node("a", 8, clock.clone()).await.unwrap();
    let (b, mut of_b) = shared.node("b", 8, clock.clone()).await.unwrap();
    let active = activate(&a, 1).await;
    assert_eq!(activate(&b, 1).await, active);
    let take = Decision {
        version: active.versions[0],
        bundle: bundle("one"),
        through: crm(),
        lane: None,
        verdict: Verdict::Take { due_ms: 0 },
    };
    // No more at once than the node has slots for: the other is to set none aside.
    for _ in 0..PARKED_MAX / 5 {
        assert!(is_accepted(&a.publish(publish(active.epoch, None, vec![take; 5])).await.unwrap()));
        for _ in 0..5 {
            of_a.recv().await.expect("in hand").settle(parked());
        }
        a.flush().await.unwrap();
    }
    set.advance_ms(1_000);
    assert!(is_accepted(&b.publish(event(&active, 100, 0)).await.unwrap()));
    b.flush().await.unwrap();
    assert!(of_b.try_recv().is_err(), "it heard of it");
    assert!(b.store().pause(GateKind::Bundle, "one", false).await.unwrap());
    set.advance_ms(1_000);
    a.flush().await.unwrap();
    b.flush().await.unwrap();
    let claim = tokio::select! {
        Some(claim) = of_a.recv() => claim,
        Some(claim) = of_b.recv() => claim,
    };
    claim.settle(parked());
    a.flush().await.unwrap();
    b.flush().await.unwrap();
    assert_eq!(b.store().closed_gates().await.unwrap(), [], "the count starts anew");
}

#[tokio::test]
async fn a_limit_is_kept_over_all_nodes() {
    const PLACES: usize = 3;
    const EVENTS: u64 = 60;
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (a, mut of_a) = shared.node("a", 8, Clock::system()).await.unwrap();
    let (b, mut of_b) = shared.node("b", 8, Clock::system()).await.unwrap();
    let active = activate(&a, 1).await;
    for queue in [&a, &b] {
        queue.limit(limits(&[("crm", Some(PLACES))])).await.unwrap();
    }
    for identity in 0..EVENTS {
        let queue = if identity % 2 == 0 { &a } else { &b };
        assert!(is_accepted(&queue.publish(event(&active, identity, 0)).await.unwrap()));
    }
    let (mut held, mut ended, mut nodes) = (std::collections::VecDeque::new(), 0, [0, 0]);
    while ended < EVENTS {
        let (claim, node) = tokio::select! {
            Some(claim) = of_a.recv() => (claim, 0),
            Some(claim) = of_b.recv() => (claim, 1),
        };
        nodes[node] += 1;
        held.push_back(claim);
        assert!(held.len() <= PLACES, "{} at once", held.len());
        if held.len() == PLACES || ended + held.len() as u64 == EVENTS {
            held.pop_front().expect("one is held").settle(delivered());
            ended += 1;
        }
        while ended + held.len() as u64 == EVENTS
            && let Some(claim) = held.pop_front()
        {
            claim.settle(delivered());
            ended += 1;
        }
    }
    a.flush().await.unwrap();
    b.flush().await.unwrap();
    assert_eq!(line(&a).await.delivered, i64::try_from(EVENTS).unwrap());
}

#[tokio::test]
async fn a_place_comes_back_once_its_lease_ran_out_though_nobody_else_waits_and_its_node_lives() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (clock, set) = Clock::stopped_at(START_MS);
    let (a, mut of_a) = shared.node("a", 8, clock).await.unwrap();
    let active = activate(&a, 1).await;
    a.limit(limits(&[("crm", Some(1))])).await.unwrap();
    assert!(is_accepted(&a.publish(event(&active, 1, i64::MAX / 4)).await.unwrap()));
    // As when the commit of a claim was not answered for so long that its node went on without it.
    let forgotten = format!(
        "UPDATE queue SET gate = {}, due_ms = {}, fence = fence + 1, owner = (SELECT epoch FROM node)",
        crm().place(),
        START_MS + LEASE_MS
    );
    shared.database.sql(&forgotten);
    set.set_ms(START_MS + LEASE_MS - 1);
    a.flush().await.unwrap();
    assert!(of_a.try_recv().is_err(), "it may still be under way");
    set.set_ms(START_MS + LEASE_MS + SILENCE_MS);
    let claim = tokio::time::timeout(Duration::from_secs(60), of_a.recv()).await;
    claim.expect("it comes back within a round of its node's").expect("a node").settle(delivered());
    assert_eq!(line(&a).await.delivered, 1);
}

#[tokio::test]
async fn a_budget_is_kept_over_all_nodes_at_once() {
    const AMOUNT: usize = 5;
    const EVENTS: u64 = 20;
    const STEP_MS: i64 = 50;
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (clock, set) = Clock::stopped_at(START_MS);
    let (a, mut of_a) = shared.node("a", 8, clock.clone()).await.unwrap();
    let (b, mut of_b) = shared.node("b", 8, clock.clone()).await.unwrap();
    let active = activate(&a, 1).await;
    for queue in [&a, &b] {
        let budget = a_second(i64::try_from(AMOUNT).unwrap());
        queue.limit(budgeted::limits(&[budget])).await.unwrap();
    }
    for identity in 0..EVENTS {
        let queue = if identity % 2 == 0 { &a } else { &b };
        assert!(is_accepted(&queue.publish(event(&active, identity, 0)).await.unwrap()));
    }
    let mut sent = Vec::new();
    for _ in 0..200 {
        let flushed = tokio::join!(a.flush(), b.flush());
        assert!(flushed.0.is_ok() && flushed.1.is_ok());
        let (first, second) =
            (std::iter::from_fn(|| of_a.try_recv().ok()), std::iter::from_fn(|| of_b.try_recv().ok()));
        for claim in first.chain(second) {
            sent.push(clock.now_ms());
            claim.settle(budgeted::done(budgeted::sent(true, clock.now_ms(), None)));
        }
        if sent.len() as u64 == EVENTS {
            break;
        }
        set.advance_ms(STEP_MS);
    }
    assert_eq!(sent.len() as u64, EVENTS, "after {} ms", clock.now_ms() - START_MS);
    for from_ms in &sent {
        let within = sent.iter().filter(|at_ms| (*from_ms..from_ms + 1_000).contains(*at_ms)).count();
        assert!(within <= AMOUNT, "{within} in a second: {sent:?}");
    }
    let took_ms = clock.now_ms() - START_MS;
    assert!(
        took_ms < 1_500 * i64::try_from(EVENTS).unwrap() / i64::try_from(AMOUNT).unwrap(),
        "{took_ms} ms"
    );

    // Chance says which node spends a second's budget; what is spent the other knows, and what comes after it may take.
    a.flush().await.unwrap();
    a.stop().await;
    assert!(is_accepted(&b.publish(event(&active, EVENTS, 0)).await.unwrap()));
    b.flush().await.unwrap();
    assert!(of_b.try_recv().is_err(), "the budget of this second is spent");
    set.advance_ms(1_100);
    b.flush().await.unwrap();
    of_b.try_recv().expect("a run").settle(budgeted::done(budgeted::sent(true, clock.now_ms(), None)));
}

#[tokio::test]
async fn what_waits_with_its_bundle_on_one_node_is_run_by_another_that_has_slots() {
    is_run_by_another_that_has_slots(shared(None), 40).await;
}

#[tokio::test]
async fn what_waits_for_the_share_of_its_workspace_on_one_node_is_run_by_another_that_has_slots() {
    is_run_by_another_that_has_slots(limits(&[("crm", None), ("other/crm", None)]), 3).await;
    is_run_by_another_that_has_slots(limits(&[("crm", None), ("other/crm", None)]), 30).await;
}

async fn is_run_by_another_that_has_slots(limits: HashMap<GateId, Limit>, events: usize) {
    if !server::is_installed() {
        return;
    }
    let shared_place = Shared::default();
    // Time stands still, so that nobody looks by itself: it is told.
    let (clock, _set) = Clock::stopped_at(START_MS);
    let (a, mut of_a) = shared_place.node("a", 4, clock.clone()).await.unwrap();
    let (b, mut of_b) = shared_place.node("b", 64, clock).await.unwrap();
    let active = activate(&a, 1).await;
    for queue in [&a, &b] {
        queue.limit(limits.clone()).await.unwrap();
        queue.flush().await.unwrap();
    }
    for identity in 0..events {
        assert!(is_accepted(&a.publish(event(&active, identity as u64, 0)).await.unwrap()));
    }
    let mut held = Vec::new();
    while held.len() < events {
        let claim = tokio::select! {
            Some(claim) = of_a.recv() => claim,
            Some(claim) = of_b.recv() => claim,
        };
        held.push(claim);
    }
    let runs: std::collections::HashSet<_> = held.iter().map(|claim| claim.run).collect();
    assert_eq!(runs.len(), events, "each is claimed once");
    held.into_iter().for_each(|claim| claim.settle(delivered()));
    a.flush().await.unwrap();
    b.flush().await.unwrap();
    assert_eq!(line(&a).await.delivered, i64::try_from(events).unwrap());
}
