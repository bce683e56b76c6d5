//! What every backend must let an operator see, and remember for a process: ages, parked runs, the recount, notes.

use sheaf_bundles::alerts::{
    decide::{Observed, decide},
    message::{Finding, Kind},
};

use super::*;
use crate::{
    alerts::memory::Memory,
    oversight::recount::Recount,
    queue::{
        gate::Limit,
        observe::{Chunk, Note, PARKED_VERSIONS_MAX, Rows, Waiting, WaitingFor},
    },
};

const MINUTE_MS: i64 = 60_000;

fn waits(waiting_for: WaitingFor, count: u64, since_ms: i64, oldest: Option<RunId>) -> Waiting {
    Waiting { connection: "calls".to_owned(), waiting_for, count, since_ms, oldest }
}

pub async fn who_waits_is_told_by_what_for_and_since_when<P: Place>() {
    let mut bench = Bench::<P>::new(2).await;
    // Two take the slots, of which one is refused at its first attempt; one waits for a slot, one for its time.
    bench.accept(bench.event(1, 0)).await;
    bench.accept(bench.event(2, 0)).await;
    let (refused, _held) = (bench.claim().await, bench.claim().await);
    bench.set.advance_ms(MINUTE_MS);
    let delayed = bench.accept(bench.event(4, START_MS + 60 * MINUTE_MS)).await;
    bench.accept(bench.event(3, 0)).await;
    let run = refused.run;
    let again = Outcome::Retry { due_ms: START_MS + 30 * MINUTE_MS, state: Vec::new() };
    refused.settle(Settle { started_ms: START_MS + 7, ..settle(again) });
    bench.queue.flush().await.unwrap();
    // The freed slot took the waiting one; another takes its place in the line.
    bench.accept(bench.event(5, 0)).await;
    // Less than a lease: what is held stays held.
    bench.set.advance_ms(5_000);

    let waiting = bench.queue.store().waiting(100).await.unwrap();
    let of = |waiting_for| waiting.iter().find(|it| it.waiting_for == waiting_for).cloned();
    assert_eq!(of(WaitingFor::Vendor), Some(waits(WaitingFor::Vendor, 1, START_MS + 7, Some(run))));
    let delay = of(WaitingFor::Delay).expect("one is delayed");
    assert_eq!((delay.count, delay.since_ms), (1, START_MS + MINUTE_MS));
    assert!(delay.oldest.is_some_and(|run| run.0 > delayed.0));
    let slot = of(WaitingFor::Slot).expect("one waits for a slot");
    assert_eq!((slot.count, slot.since_ms), (1, START_MS + MINUTE_MS));
}

pub async fn runs_at_open_gates_wait_for_a_slot_and_no_gate_hides_another<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let sms = GateId::of(GateKind::Connection, "sms");
    let place = Limit { concurrency: Some(1), bundles: 2, ..Limit::none("crm") };
    bench.limit([(crm(), place), (sms, Limit::none("sms"))].into()).await;
    bench.queue.store().pause(GateKind::Connection, "sms", true).await.unwrap();
    bench.set.advance_ms(1_000);
    for identity in 0..12 {
        let take = Decision { through: sms, ..bench.take(0) };
        bench.accept(publish(bench.epoch, Some([identity, identity]), vec![take])).await;
        bench.accept(Publish { connection: Arc::from("forms"), ..bench.event(identity, 0) }).await;
    }
    bench.queue.flush().await.unwrap();
    let one = bench.claims.try_recv().expect("it has the place");
    let waits = async |rows_max| {
        let waiting = bench.queue.store().waiting(rows_max).await.unwrap();
        let told = |it: &Waiting| (it.connection.clone(), it.waiting_for, it.count);
        waiting.iter().map(told).collect::<std::collections::BTreeSet<_>>()
    };
    let told = |calls, forms| {
        [("calls".to_owned(), WaitingFor::Gate, calls), ("forms".to_owned(), WaitingFor::Slot, forms)].into()
    };
    assert_eq!(waits(100).await, told(12, 11));
    assert_eq!(waits(9).await, told(3, 3), "each gate has its share of what is looked at");
    drop(one);
}

pub async fn runs_of_a_spent_budget_are_held<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let limit = Limit { budgets: vec![budgeted::a_second(1)], ..Limit::none("crm") };
    bench.limit([(crm(), limit)].into()).await;
    for identity in 0..3 {
        bench.accept(bench.event(identity, 0)).await;
    }
    bench.queue.flush().await.unwrap();
    let [waiting] = bench.queue.store().waiting(100).await.unwrap().try_into().expect("one line");
    assert_eq!((waiting.waiting_for, waiting.count), (WaitingFor::Gate, 2));
}

pub async fn no_older_runs_hide_one_that_is_refused_again_and_again<P: Place>() {
    let mut bench = Bench::<P>::new(2).await;
    for identity in 0..20 {
        bench.accept(bench.event(identity, START_MS + 60 * MINUTE_MS)).await;
    }
    bench.accept(bench.event(20, 0)).await;
    let refused = bench.claim().await;
    let run = refused.run;
    let again = Outcome::Retry { due_ms: START_MS + 30 * MINUTE_MS, state: Vec::new() };
    refused.settle(Settle { started_ms: START_MS + 7, ..settle(again) });
    bench.queue.flush().await.unwrap();
    let waiting = bench.queue.store().waiting(5).await.unwrap();
    let refused = waiting.iter().find(|it| it.waiting_for == WaitingFor::Vendor);
    assert_eq!(refused, Some(&waits(WaitingFor::Vendor, 1, START_MS + 7, Some(run))));
}

pub async fn ages_are_told_from_the_oldest_rows_on<P: Place>() {
    let bench = Bench::<P>::new(1).await;
    for identity in 0..20 {
        bench.accept(bench.event(identity, START_MS + 60 * MINUTE_MS)).await;
        bench.set.advance_ms(1_000);
    }
    let [waiting] = bench.queue.store().waiting(5).await.unwrap().try_into().expect("one line");
    assert_eq!(
        (waiting.count, waiting.since_ms),
        (5, START_MS),
        "few rows are read, and the oldest is among them"
    );
}

/// Ends the attempt with this class.
fn parked_as(class: Class) -> Settle {
    Settle { deliveries: vec![delivery(class)], ..parked() }
}

pub async fn parked_runs_are_told_by_bundle_and_class_with_their_newest<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    let mut runs = Vec::new();
    let endings = [Some(Class::BadRequest), Some(Class::BadRequest), Some(Class::AuthBroken), None];
    for (identity, ending) in (0..).zip(endings) {
        bench.accept(bench.event(identity, 0)).await;
        let claim = bench.claim().await;
        runs.push(claim.run);
        bench.set.advance_ms(1_000);
        claim.settle(ending.map_or(Settle { deliveries: Vec::new(), ..parked() }, parked_as));
        bench.queue.flush().await.unwrap();
    }
    let store = bench.queue.store();
    let (groups, all) = store.parked_groups(PARKED_VERSIONS_MAX, 1).await.unwrap();
    assert!(all);
    let told = |class: &str| {
        let (parked, examples) = groups.iter().find(|(parked, _)| parked.class == class).expect("the class");
        let runs: Vec<RunId> = examples.iter().map(|example| example.run).collect();
        (parked.bundle.as_str(), parked.count, parked.since_ms - START_MS, parked.newest_ms - START_MS, runs)
    };
    assert_eq!(groups.len(), 3);
    assert_eq!(told("bad_request"), ("one", 2, 1_000, 2_000, vec![runs[1]]));
    assert_eq!(told("auth_broken"), ("one", 1, 3_000, 3_000, vec![runs[2]]));
    assert_eq!(told(""), ("one", 1, 4_000, 4_000, vec![runs[3]]));
    let (_, examples) = groups.iter().find(|(parked, _)| parked.class == "auth_broken").expect("the class");
    assert_eq!((examples[0].step.as_str(), examples[0].status), ("send", Some(200)));

    store.replay(&[runs[2]], Replay::Retry).await.unwrap();
    store.discard(&[runs[3]], "by a test").await.unwrap();
    let (groups, _) = store.parked_groups(PARKED_VERSIONS_MAX, 1).await.unwrap();
    assert_eq!(groups.iter().map(|(parked, _)| parked.class.as_str()).collect::<Vec<_>>(), ["bad_request"]);

    bench.set.advance_ms(1_000);
    bench.claim().await.settle(delivered());
    let all = ["one", "two", "three"].into_iter().zip(1..);
    let activated = bench.queue.activate(all.map(|(name, hash)| version(name, hash)).collect::<Vec<_>>());
    let Activated { epoch, versions, .. } = activated.await.unwrap();
    for (version, name) in versions.into_iter().zip(["one", "two", "three"]).skip(1) {
        bench.set.advance_ms(1_000);
        let newer = Decision { version, bundle: bundle(name), ..bench.take(0) };
        bench.accept(publish(epoch, None, vec![newer])).await;
        bench.claim().await.settle(parked_as(Class::BadRequest));
        bench.queue.flush().await.unwrap();
    }
    for (versions_max, expected, is_all) in
        [(1, &["three", "one"][..], false), (2, &["three", "two", "one"], true)]
    {
        let (groups, all) = bench.queue.store().parked_groups(versions_max, 1).await.unwrap();
        let bundles: Vec<&str> = groups.iter().map(|(parked, _)| parked.bundle.as_str()).collect();
        assert_eq!((bundles.as_slice(), all), (expected, is_all));
    }
}

pub async fn a_replayed_run_that_is_refused_again_waits_since_its_replay<P: Place>() {
    let mut bench = Bench::<P>::new(1).await;
    bench.accept(bench.event(1, 0)).await;
    let claim = bench.claim().await;
    let run = claim.run;
    claim.settle(parked());
    bench.queue.flush().await.unwrap();
    bench.set.advance_ms(60 * MINUTE_MS);
    bench.queue.store().replay(&[run], Replay::Retry).await.unwrap();
    bench.set.advance_ms(1_000);
    let again = Outcome::Retry { due_ms: START_MS + 120 * MINUTE_MS, state: Vec::new() };
    let started_ms = START_MS + 60 * MINUTE_MS;
    bench.claim().await.settle(Settle { started_ms, ..settle(again) });
    bench.queue.flush().await.unwrap();
    let waiting = bench.queue.store().waiting(100).await.unwrap();
    assert_eq!(waiting, [waits(WaitingFor::Vendor, 1, started_ms, Some(run))]);
}

pub async fn an_answer_with_a_nul_hides_no_parked_run<P: Place>() {
    let mut bench = Bench::<P>::new(1).await;
    bench.accept(bench.event(1, 0)).await;
    let claim = bench.claim().await;
    let run = claim.run;
    let body = BodyText { text: "no such\0customer".to_owned(), cut: false };
    let refused = DeliveryRecord {
        answer: Answer::Response { status: 400, body: Some(body) },
        message: Some("no such\0customer".to_owned()),
        ..delivery(Class::BadRequest)
    };
    claim.settle(Settle { deliveries: vec![refused], ..parked() });
    bench.queue.flush().await.unwrap();
    let (groups, _) = bench.queue.store().parked_groups(PARKED_VERSIONS_MAX, 1).await.unwrap();
    let [(parked, examples)] = groups.try_into().expect("one group");
    assert_eq!((parked.count, parked.class.as_str()), (1, "bad_request"));
    assert_eq!((examples[0].run, examples[0].step.as_str(), examples[0].status), (run, "send", Some(400)));
    let detail = bench.queue.store().run(run).await.unwrap().expect("known");
    let message = detail.attempts[0].deliveries[0].message.as_deref().unwrap_or_default();
    assert!(message.starts_with("no such") && message.ends_with("customer"), "{message:?}");
}

pub async fn rows_come_to_what_the_counters_say_while_runs_go_on<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    for identity in 0..6 {
        bench.accept(bench.event(identity, 0)).await;
    }
    bench.queue.publish(quarantine()).await.unwrap();
    // Several nodes are counted only up to a while ago.
    bench.set.advance_ms(2 * MINUTE_MS);
    let store = bench.queue.store().clone();
    let counters = store.counters().await.unwrap();
    let expected = Rows { connection: "calls".to_owned(), accepted: 6, quarantined: 1, filtered: 6, runs: 6 };
    assert_eq!(counters.said, std::slice::from_ref(&expected));

    // All moves on between the chunks: runs end, are replayed, and new events come.
    let mut counted = Rows { connection: "calls".to_owned(), ..Rows::default() };
    let (mut after, mut chunks) = (0, 0);
    while after < counters.until_id {
        let Chunk { until_id, rows } = store.count_chunk(after, counters.until_id, 2).await.unwrap();
        assert!(until_id > after, "each chunk goes on");
        (after, chunks) = (until_id, chunks + 1);
        for rows in rows {
            counted.accepted += rows.accepted;
            counted.quarantined += rows.quarantined;
            counted.filtered += rows.filtered;
            counted.runs += rows.runs;
        }
        let claim = bench.claim().await;
        let run = claim.run;
        claim.settle(if chunks == 1 { parked() } else { delivered() });
        bench.queue.flush().await.unwrap();
        if chunks == 1 {
            store.replay(&[run], Replay::Retry).await.unwrap();
        }
        bench.accept(bench.event(100 + chunks, 0)).await;
    }
    assert!(chunks >= 3, "{chunks}");
    assert_eq!(counted, expected);
    assert_eq!(store.few_mismatches(1_000).await.unwrap(), []);
}

pub async fn a_whole_recount_finds_nothing_where_nothing_is_wrong<P: Place>() {
    let mut bench = Bench::<P>::new(4).await;
    bench.accept(bench.event(1, 0)).await;
    bench.accept(bench.event(2, START_MS + MINUTE_MS)).await;
    bench.claim().await.settle(parked());
    bench.queue.flush().await.unwrap();
    let store = bench.queue.store();
    let mut recount = Recount::load(store).await;
    assert_eq!(recount.step(store, START_MS).await.unwrap(), Some(Vec::new()));
    assert_eq!(recount.step(store, START_MS + 1).await.unwrap(), None, "the next one is due later");
}

pub async fn rows_that_no_counter_knows_of_are_found<P: Place>() {
    let bench = Bench::<P>::new(1).await;
    bench.accept(bench.event(1, START_MS + MINUTE_MS)).await;
    assert_eq!(bench.queue.store().verify_ledger().await.unwrap(), []);
    bench.place.harm("UPDATE event SET connection = 99").await;
    let found = bench.queue.store().verify_ledger().await.unwrap();
    let found: Vec<_> =
        found.iter().map(|it| (it.connection.as_str(), it.counter.as_str(), it.counted, it.rows)).collect();
    let calls = [("calls", "accepted", 1, 0), ("calls", "filtered", 1, 0)];
    assert_eq!(found, [[("", "accepted", 0, 1), ("", "filtered", 0, 1)], calls].concat());
}

pub async fn of_two_who_change_a_note_at_once_one_wins<P: Place>() {
    let bench = Bench::<P>::new(1).await;
    let (ours, theirs) = (bench.queue.store(), bench.place.store(bench.clock.clone()).await.unwrap());
    assert_eq!(ours.note("n").await.unwrap(), Note::default());
    assert!(ours.keep_note("n", "a", 0).await.unwrap());
    assert!(!theirs.keep_note("n", "b", 0).await.unwrap());
    let note = theirs.note("n").await.unwrap();
    assert_eq!(note.text, "a");
    assert!(theirs.keep_note("n", "c", note.revision).await.unwrap());
    assert!(!ours.keep_note("n", "d", note.revision).await.unwrap());
    assert_eq!(ours.note("n").await.unwrap(), Note { revision: note.revision + 1, text: "c".to_owned() });
    assert_eq!(ours.note("m").await.unwrap(), Note::default(), "another name is another note");
}

pub async fn of_two_nodes_that_decide_at_once_one_tells<P: Place>() {
    let bench = Bench::<P>::new(1).await;
    let (ours, theirs) = (bench.queue.store(), bench.place.store(bench.clock.clone()).await.unwrap());
    let (mut one, mut two) = (Memory::default(), Memory::default());
    let broken = Finding::new(Kind::LedgerBroken, "calls", 1, START_MS, START_MS);
    let observed = Observed { findings: vec![broken], ..Observed::default() };
    for (memory, store) in [(&mut one, ours), (&mut two, &theirs)] {
        memory.recall(store).await;
    }
    let (state, messages) = decide(one.state().clone(), &observed, |_| MINUTE_MS, START_MS);
    assert_eq!(messages.len(), 1);
    assert!(one.keep(ours, state).await, "the first tells");
    let (state, messages) = decide(two.state().clone(), &observed, |_| MINUTE_MS, START_MS);
    assert_eq!(messages.len(), 1, "the second would");
    assert!(!two.keep(&theirs, state).await, "and does not");
    assert_eq!(two.state(), one.state(), "it knows what was told");
    let (_, messages) = decide(two.state().clone(), &observed, |_| MINUTE_MS, START_MS + 1);
    assert_eq!(messages, []);
}

/// Instantiates these cases for one kind of place.
macro_rules! observed {
    ($place:ty: $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                if !<$place as $crate::queue::conformance::Place>::is_there() {
                    return;
                }
                $crate::queue::conformance::observed::$case::<$place>().await;
            }
        )*
    };
    ($place:ty) => {
        $crate::queue::conformance::observed::observed! { $place:
            who_waits_is_told_by_what_for_and_since_when
            runs_at_open_gates_wait_for_a_slot_and_no_gate_hides_another
            runs_of_a_spent_budget_are_held
            no_older_runs_hide_one_that_is_refused_again_and_again
            ages_are_told_from_the_oldest_rows_on
            parked_runs_are_told_by_bundle_and_class_with_their_newest
            a_replayed_run_that_is_refused_again_waits_since_its_replay
            an_answer_with_a_nul_hides_no_parked_run
            rows_come_to_what_the_counters_say_while_runs_go_on
            a_whole_recount_finds_nothing_where_nothing_is_wrong
            rows_that_no_counter_knows_of_are_found
            of_two_who_change_a_note_at_once_one_wins
            of_two_nodes_that_decide_at_once_one_tells
        }
    };
}
pub(crate) use observed;
