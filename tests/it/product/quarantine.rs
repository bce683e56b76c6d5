//! What cannot be read is answered "ok" like anything else, so its owner must hear of it from us.

use std::time::Duration;

use sheaf_bundles::alerts::decide::OVER_AFTER_MS;
use sheaf_tests::receiver::Receiver;

use super::{
    alerts::{LOOK, told, world_told_by},
    world::World,
};

/// Longer than people are told of it.
const TWO_DAYS: Duration = Duration::from_secs(48 * 3_600);

/// A request in a format that Calltouch does not have.
async fn unreadable(world: &World, body: &str) {
    assert_eq!(world.post("application/json", body).await, 200, "the vendor never hears of it");
}

#[tokio::test]
async fn events_that_cannot_be_read_are_told_of_and_kept() {
    let receiver = Receiver::start().await.expect("a receiver");
    let world = world_told_by(&receiver).await;
    world.look_for(LOOK).await;
    unreadable(&world, r#"["79995550123"]"#).await;
    unreadable(&world, r#"["79995550123", 2]"#).await;
    assert_eq!(world.until(|ledger| ledger.quarantined == 2).await.received, 2);
    world.look_for(LOOK).await;
    let messages = told(&world, &receiver, 1).await;
    let (kind, data) = (&messages[0].1["type"], &messages[0].1["data"]);
    assert_eq!(kind, "events_quarantined.opened");
    assert_eq!((&data["connection"], &data["count"]), (&"calltouch-main".into(), &2.into()));
    let look = "sheaf events --quarantined --connection calltouch-main";
    assert!(data["text"].as_str().is_some_and(|text| text.contains(look)), "{data}");

    let world = world.restart().await;
    world.look_for(LOOK).await;
    told(&world, &receiver, 1).await;
    world.pass(TWO_DAYS);
    world.look_for(LOOK).await;
    world.look_for(Duration::from_millis(OVER_AFTER_MS.unsigned_abs()) + LOOK).await;
    assert_eq!(told(&world, &receiver, 2).await[1].1["type"], "events_quarantined.over");
}
