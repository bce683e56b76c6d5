//! Runs that wait for each other: `order_by` and `settle`, over real HTTP.

use std::{collections::HashMap, time::Duration};

use sheaf_runtime::queue::history::{RunFilter, RunStateName};
use sheaf_tests::{
    calltouch::{Method, Moment, Payload},
    receiver::{Behaviour, Receiver},
    wire::Message,
};

use super::{
    outcomes::{CONNECTION, requests, start_with},
    world::World,
};

/// The vendor's bundle, with further keys of `on` and of its own.
async fn start(on: &str, more: &str, lead: &str) -> (World, Receiver) {
    let bundle = format!(
        "kind: bundle\nname: leads\non: {{connection: calltouch-main, trigger: call_ended{on}}}\n\
         filter: sessionId is not empty\n{more}\n\
         steps: [{{name: create, action: vendor.create, connection: vendor-main, with: {{lead: {lead}}}}}]\n"
    );
    start_with("steps: []", CONNECTION, &[("bundles/mindbox-dynamic.yaml", &bundle)]).await
}

async fn call(world: &World, payload: Payload) {
    let sent = world.calltouch(Method::Post).happens(Moment::CallEnded, &payload).await;
    assert!(sent.expect("an answer").succeeded());
}

fn of_phone(id: u64, phone: &str) -> Payload {
    Payload::call(Moment::CallEnded, id).set("callerphone", phone)
}

fn leads(messages: &[Message]) -> Vec<String> {
    let lead = |message: &Message| {
        let body: serde_json::Value = serde_json::from_slice(&message.body).expect("JSON");
        match &body["lead"] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    };
    messages.iter().map(lead).collect()
}

#[tokio::test]
async fn calls_of_a_phone_arrive_in_their_order_though_the_vendor_is_slow_at_random() {
    const CALLS: u64 = 60;
    const PHONES: u64 = 5;
    let (world, vendor) = start("", "order_by: callerphone", "'{{ id }}'").await;
    // Up to 20 ms, as a seed says: some answers take many times as long as others.
    let waits =
        (1..=CALLS).map(|call| Duration::from_millis(call.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40 & 15));
    vendor.script(waits.map(|wait| Behaviour::After(wait, Box::new(Behaviour::success()))));
    for id in 1..=CALLS {
        call(&world, of_phone(id, &format!("7999000000{}", id % PHONES))).await;
    }
    let arrived = leads(&requests(&vendor, CALLS as usize).await);
    let mut by_phone: HashMap<u64, Vec<u64>> = HashMap::new();
    for id in arrived.iter().map(|id| id.parse::<u64>().expect("a number")) {
        by_phone.entry(id % PHONES).or_default().push(id);
    }
    for (phone, ids) in by_phone {
        assert!(ids.is_sorted() && ids.len() == (CALLS / PHONES) as usize, "{phone}: {ids:?}");
    }
    let ledger = world.until(|ledger| ledger.pending == 0).await;
    assert_eq!((ledger.accepted, ledger.delivered), (CALLS as i64, CALLS as i64));
}

#[tokio::test]
async fn a_call_that_fails_holds_the_calls_of_its_phone_and_no_others() {
    let (world, vendor) = start("", "order_by: callerphone", "'{{ id }}'").await;
    vendor.script([Behaviour::Status(503, "{}".to_owned())]);
    call(&world, of_phone(1, "79990000001")).await;
    assert_eq!(leads(&requests(&vendor, 1).await), ["1"]);
    // The same phone, written in another way.
    call(&world, of_phone(2, "8 (999) 000-00-01")).await;
    call(&world, of_phone(3, "79990000002")).await;
    call(&world, of_phone(4, "79990000001")).await;
    assert_eq!(leads(&requests(&vendor, 2).await), ["1", "3"]);
    world.until(|ledger| ledger.pending == 3).await;
    let pending = RunFilter { state: Some(RunStateName::Pending), limit: 10, ..RunFilter::default() };
    let runs = world.running().queue().store().runs(&pending).await.expect("runs");
    assert_eq!(runs.iter().map(|run| run.behind_its_key).collect::<Vec<_>>(), [true, true, false]);
    world.pass(Duration::from_secs(6));
    assert_eq!(leads(&requests(&vendor, 5).await), ["1", "3", "1", "2", "4"]);
    assert_eq!(world.until(|ledger| ledger.pending == 0).await.delivered, 4);
}

#[tokio::test]
async fn a_call_that_is_parked_lets_the_calls_of_its_phone_go_on() {
    let (world, vendor) = start("", "order_by: callerphone", "'{{ id }}'").await;
    let slow = Behaviour::Status(200, r#"{"say":"bad_request"}"#.to_owned());
    vendor.script([Behaviour::After(Duration::from_millis(50), Box::new(slow))]);
    for id in 1..=3 {
        call(&world, of_phone(id, "79990000001")).await;
    }
    assert_eq!(leads(&requests(&vendor, 3).await), ["1", "2", "3"]);
    let ledger = world.until(|ledger| ledger.pending == 0).await;
    assert_eq!((ledger.delivered, ledger.parked), (2, 1));
}

#[tokio::test]
async fn five_states_of_a_call_become_one_delivery_with_the_latest_once_it_is_quiet() {
    const QUIET: Duration = Duration::from_secs(600);
    let (world, vendor) =
        start(", settle: {by: id, quiet: 10m}", "", "{value: '{{ duration }}', default: 0}").await;
    for seconds in 1..=5 {
        let state = Payload::call(Moment::CallEnded, 1).set("duration", &seconds.to_string());
        call(&world, state).await;
        world.pass(Duration::from_secs(60));
    }
    let ledger = world.until(|ledger| ledger.accepted == 5).await;
    assert_eq!((ledger.pending, ledger.discarded), (1, 4));
    // A restart changes nothing about it.
    let world = world.restart().await;
    world.pass(QUIET - Duration::from_secs(61));
    world.running().queue().flush().await.expect("the queue works");
    assert_eq!(world.ledger().await.pending, 1);
    world.pass(Duration::from_secs(1));
    assert_eq!(leads(&requests(&vendor, 1).await), ["5"]);
    let ledger = world.until(|ledger| ledger.pending == 0).await;
    assert_eq!((ledger.delivered, ledger.discarded), (1, 4));
    assert_eq!(vendor.messages().len(), 1);
}
