use sheaf_tests::calltouch::{Method, Moment, Payload};

use super::inbound::Inbound;

fn inbound() -> Inbound {
    Inbound::with("settings: {attributes: [mindboxDeviceUUID]}")
}

#[test]
fn two_tag_changes_of_one_call_are_two_events() {
    let first = Payload::call(Moment::TagsChanged, 1).set("tags_manual", "VIP");
    let second = first.clone().set("tags_manual", "VIP,спор");
    assert_ne!(inbound().identity(&first, Method::Post), inbound().identity(&second, Method::Post));
}

#[test]
fn one_call_under_two_attribution_models_is_two_events() {
    let model = |value| Payload::call(Moment::CallEnded, 1).set("attribution", value);
    assert_ne!(inbound().identity(&model("1"), Method::Post), inbound().identity(&model("0"), Method::Post));
}

#[test]
fn a_resend_is_the_same_event_whatever_the_method() {
    let inbound = inbound();
    let moments = Moment::ALL.into_iter().filter(|moment| *moment != Moment::RequestCreated);
    let calls = moments.map(|moment| Payload::call(moment, 1));
    for first in calls.chain([Payload::request(Moment::RequestCreated, 1)]) {
        let again = first.sent_again(7);
        assert_ne!(first, again);
        let identity = inbound.identity(&first, Method::Post);
        assert!(identity.is_some());
        assert_eq!(identity, inbound.identity(&again, Method::Post));
        assert_eq!(identity, inbound.identity(&again, Method::Get));
    }
}
