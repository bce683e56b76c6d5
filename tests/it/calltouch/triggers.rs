use sheaf_tests::calltouch::{Method, Moment, Payload};

use super::inbound::Inbound;

fn inbound() -> Inbound {
    Inbound::with("settings: {attributes: [mindboxDeviceUUID]}")
}

#[test]
fn each_of_the_ten_moments_fires_its_trigger_and_no_other() {
    let inbound = inbound();
    let fires = |payload: &Payload, trigger: &str| {
        assert_eq!(inbound.triggers(payload, Method::Post), [trigger], "{:?}", payload.get("changedFields"));
    };
    for (moment, trigger) in Moment::ALL.into_iter().zip([
        "call_started",
        "call_ended",
        "request_created",
        "status_changed",
        "spam_changed",
        "call_transcribed",
        "tags_changed",
        "comments_changed",
        "manager_changed",
        "rating_changed",
    ]) {
        if moment != Moment::RequestCreated {
            fires(&Payload::call(moment, 1), trigger);
        }
        if Payload::requests_have(moment) {
            fires(&Payload::request(moment, 1), trigger);
        }
    }
    fires(&Payload::call_end_after_start(1), "call_ended");
}

#[test]
fn a_send_that_changes_tags_and_a_comment_fires_both() {
    let payload = Payload::call(Moment::TagsChanged, 1).set("changedFields", "tags_manual,comment");
    assert_eq!(inbound().triggers(&payload, Method::Post), ["tags_changed", "comments_changed"]);
}
