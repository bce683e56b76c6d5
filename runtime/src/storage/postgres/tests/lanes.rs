//! Keys whose runs come to several nodes at once.

use super::*;

/// As [`event`], of a key whose runs go one after another.
fn event_of(active: &Activated, identity: u64, key: &str) -> Publish {
    let lane = Some(Lane { id: LaneId::of("one", key), keeps: Keeps::Every });
    let verdict = Verdict::Take { due_ms: 0 };
    let take = Decision { version: active.versions[0], bundle: bundle("one"), through: crm(), lane, verdict };
    publish(active.epoch, Some([identity, identity]), vec![take])
}

#[tokio::test]
async fn of_a_key_that_two_nodes_bring_and_run_at_once_one_run_is_in_flight_and_none_is_left() {
    const EVENTS: u64 = 600;
    const KEYS: u64 = 16;
    const SLOTS: usize = 4;
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (a, mut of_a) = shared.node("a", SLOTS, Clock::system()).await.unwrap();
    let (b, mut of_b) = shared.node("b", SLOTS, Clock::system()).await.unwrap();
    let active = activate(&a, 1).await;
    let key = |identity: u64| (identity % KEYS).to_string();
    let mut publishing = tokio::task::JoinSet::new();
    for identity in 0..EVENTS {
        let queue = if identity % 2 == 0 { a.clone() } else { b.clone() };
        let event = event_of(&active, identity, &key(identity));
        publishing.spawn(async move {
            match queue.publish(event).await.unwrap() {
                Published::Accepted { event, .. } => (event, identity),
                other => panic!("{other:?}"),
            }
        });
    }
    // Claims may come before their publish is answered: which key each is of is known at the end.
    let (mut begun, mut in_flight, mut done) = (Vec::new(), Vec::new(), 0);
    let mut longest = 0;
    while done < EVENTS {
        let (claim, node) = tokio::select! {
            Some(claim) = of_a.recv() => (claim, 0),
            Some(claim) = of_b.recv() => (claim, 1),
        };
        let held: Vec<_> =
            in_flight.iter().map(|claim: &crate::queue::claim::Claim| claim.event.id()).collect();
        begun.push((claim.event.id(), node, held));
        in_flight.push(claim);
        longest = longest.max(in_flight.len());
        // Which of them ends is not the order they came in.
        while in_flight.len() >= 2 * SLOTS || (!in_flight.is_empty() && of_a.is_empty() && of_b.is_empty()) {
            let next = begun.len() % in_flight.len();
            in_flight.swap_remove(next).settle(delivered());
            done += 1;
        }
    }
    let of: std::collections::HashMap<_, _> = publishing.join_all().await.into_iter().collect();
    let nodes: std::collections::HashSet<_> = begun.iter().map(|(_, node, _)| node).collect();
    assert_eq!((begun.len() as u64, nodes.len()), (EVENTS, 2));
    assert!(longest > 1, "keys go side by side");
    for (event, _, held) in &begun {
        let rival = held.iter().find(|other| key(of[*other]) == key(of[event]));
        assert_eq!(rival, None, "{event} began while another of its key was in flight");
    }
    b.flush().await.unwrap();
    let line = line(&a).await;
    assert_eq!((line.accepted, line.delivered, line.pending), (600, 600, 0));
    assert_eq!(a.stats().stale + b.stats().stale, 0);
}

#[tokio::test]
async fn of_a_key_whose_latest_two_nodes_bring_at_once_one_run_is_left() {
    const EVENTS: u64 = 100;
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (a, _of_a) = shared.node("a", 8, Clock::system()).await.unwrap();
    let (b, _of_b) = shared.node("b", 8, Clock::system()).await.unwrap();
    let active = activate(&a, 1).await;
    let lane = Some(Lane { id: LaneId::of("one", "a"), keeps: Keeps::Latest });
    let verdict = Verdict::Take { due_ms: i64::MAX };
    let take = Decision { version: active.versions[0], bundle: bundle("one"), through: crm(), lane, verdict };
    let mut publishing = tokio::task::JoinSet::new();
    for identity in 0..EVENTS {
        let queue = if identity % 2 == 0 { a.clone() } else { b.clone() };
        let event = publish(active.epoch, Some([identity, identity]), vec![take]);
        publishing.spawn(async move { queue.publish(event).await });
    }
    assert!(publishing.join_all().await.into_iter().all(|one| is_accepted(&one.unwrap())));
    b.flush().await.unwrap();
    let line = line(&a).await;
    assert_eq!((line.accepted, line.discarded, line.pending), (100, 99, 1));
    let head = shared.database.sql("SELECT count(*) FROM queue WHERE gate IS NULL");
    assert_eq!(head, "1");
}

#[tokio::test]
async fn a_run_that_comes_while_the_last_of_its_key_is_settled_elsewhere_is_not_left_behind() {
    const WAITING: &str = "SELECT count(*) FROM pg_stat_activity \
                           WHERE (wait_event = 'SyncRep' AND query = 'COMMIT') OR wait_event = 'advisory'";
    if !server::is_installed() {
        return;
    }
    let shared = Shared { database: TestDatabase::alone(), ..Shared::default() };
    let (clock, set) = Clock::stopped_at(START_MS);
    let (a, mut of_a) = shared.node("a", 1, clock.clone()).await.unwrap();
    let (b, mut of_b) = shared.node("b", 1, clock).await.unwrap();
    let active = activate(&a, 1).await;
    assert!(is_accepted(&a.publish(event_of(&active, 1, "a")).await.unwrap()));
    b.flush().await.unwrap();
    let waits_for = async |count: &str| {
        while shared.database.sql(WAITING) != count {
            tokio::task::yield_now().await;
        }
    };
    // One node's commit hangs in its last step: nobody sees yet that the key has no run any more.
    shared.database.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    shared.database.sql("SELECT pg_reload_conf()");
    of_a.recv().await.expect("handed over").settle(delivered());
    waits_for("1").await;
    let publishing = tokio::spawn(async move { b.publish(event_of(&active, 2, "a")).await });
    waits_for("2").await;
    shared.database.sql("ALTER SYSTEM RESET synchronous_standby_names");
    shared.database.sql("SELECT pg_reload_conf()");
    assert!(is_accepted(&publishing.await.unwrap().unwrap()));
    set.advance_ms(1_000);
    assert_eq!(shared.database.sql("SELECT count(*) FROM queue WHERE gate IS NULL"), "1");
    tokio::select! {
        Some(claim) = of_a.recv() => claim.settle(delivered()),
        Some(claim) = of_b.recv() => claim.settle(delivered()),
    }
    let line = line(&a).await;
    assert_eq!(line.accepted, 2);
}

#[tokio::test]
async fn a_key_whose_head_a_node_that_knows_no_keys_gave_up_goes_on() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (a, mut of_a) = shared.node("a", 8, Clock::system()).await.unwrap();
    let active = activate(&a, 1).await;
    for identity in 0..2 {
        assert!(is_accepted(&a.publish(event_of(&active, identity, "a")).await.unwrap()));
    }
    let mut lanes = crate::oversight::lanes::Lanes::default();
    assert_eq!(lanes.step(a.store()).await.unwrap(), 0);
    let head = of_a.recv().await.expect("handed over");
    shared.database.sql(&format!("DELETE FROM queue WHERE id = {}", head.run.0));
    assert_eq!(lanes.step(a.store()).await.unwrap(), 1);
    let next = of_a.recv().await.expect("it is found");
    assert_ne!(next.run, head.run);
    assert_eq!(lanes.step(a.store()).await.unwrap(), 0);
}
