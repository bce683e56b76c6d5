//! Bundles that send through one connection, of which one has a hundred times as much to send, over real HTTP.

use std::time::Duration;

use sheaf_tests::{
    calltouch::{Method, Moment, Payload},
    receiver::{Behaviour, Receiver},
    wire::Message,
};
use tokio::task::JoinSet;

use super::{
    outcomes::{CONNECTION, start_sized},
    world::World,
};

/// Runs at once.
const SLOTS: usize = 4;
/// Calls for the noisy bundle.
const NOISE: u64 = 200;
/// How long the vendor keeps the first of them, so that the others pile up.
const HELD: Duration = Duration::from_millis(1_500);
const NOISY: &str = "79990000001";
const QUIET: &str = "79990000002";

fn bundle(name: &str, phone: &str) -> String {
    format!(
        "kind: bundle\nname: {name}\non: {{connection: calltouch-main, trigger: call_ended}}\n\
         filter: callerphone = {phone:?}\n\
         steps: [{{name: create, action: vendor.create, connection: vendor-main, with: {{lead: {name}}}}}]\n"
    )
}

async fn call(world: &World, id: u64, phone: &str) {
    let payload = Payload::call(Moment::CallEnded, id).set("callerphone", phone);
    let sent = world.calltouch(Method::Post).happens(Moment::CallEnded, &payload).await;
    assert!(sent.expect("an answer").succeeded());
}

fn is_quiet(message: &Message) -> bool {
    String::from_utf8_lossy(&message.body).contains("quiet")
}

/// Waits for the quiet bundle's request; how many came before it.
async fn before_the_quiet_one(vendor: &Receiver) -> usize {
    for at_least in 1.. {
        let messages = vendor.at_least(at_least).await;
        if let Some(at) = messages.iter().position(is_quiet) {
            return at;
        }
    }
    unreachable!("it waits until it is there")
}

#[tokio::test]
async fn a_quiet_bundle_is_delivered_at_once_though_two_hundred_runs_of_another_wait_for_the_same_vendor() {
    let (noisy, quiet) = (bundle("noisy", NOISY), bundle("quiet", QUIET));
    let files = [("bundles/mindbox-dynamic.yaml", noisy.as_str()), ("bundles/quiet.yaml", &quiet)];
    let (world, vendor) = start_sized("steps: []", CONNECTION, &files, SLOTS).await;
    let held = || Behaviour::After(HELD, Box::new(Behaviour::success()));
    vendor.script((0..SLOTS).map(|_| held()));
    let mut calling = JoinSet::new();
    let world = std::sync::Arc::new(world);
    for id in 0..NOISE {
        let world = world.clone();
        calling.spawn(async move { call(&world, id, NOISY).await });
    }
    calling.join_all().await;
    let arrived = vendor.messages().len();
    assert!(arrived <= NOISE as usize / 2, "{arrived}: nothing has piled up");
    call(&world, NOISE, QUIET).await;
    let waiting = tokio::time::timeout(super::world::BROKEN_AFTER, before_the_quiet_one(&vendor));
    let before = waiting.await.expect("it comes");
    assert!(before <= arrived + 2 * SLOTS, "{before} came before it, {arrived} before its event");
    let ledger = world.until(|ledger| ledger.pending == 0).await;
    assert_eq!(ledger.delivered, NOISE as i64 + 1, "and nobody was forgotten");
}
