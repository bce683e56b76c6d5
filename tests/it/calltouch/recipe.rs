//! The recipe for Calltouch and Mindbox: which calls go to `CallTouch`, which to `CallTouchStatic`, which nowhere.

use std::collections::BTreeMap;

use sheaf_connectors::auth::authorize;
use sheaf_tests::{
    calltouch::{AttributesForm, DEVICE, DEVICE_ATTRIBUTE, Method, Moment, Payload},
    mindbox::{Answer, Mindbox, Project, Record},
    wire,
};

use super::inbound::Inbound;

/// Where a call goes, by (session given, cookie given).
type Routes = [((bool, bool), Option<&'static str>); 4];

const BY_ACTION: Routes = [
    ((true, true), Some("CallTouch")),
    ((false, false), Some("CallTouchStatic")),
    ((true, false), Some("CallTouchStatic")),
    ((false, true), Some("CallTouchStatic")),
];

/// The vendor's own recipe: a call with only one of the two goes nowhere.
const BY_HTTP: Routes = [
    ((true, true), Some("CallTouch")),
    ((false, false), Some("CallTouchStatic")),
    ((true, false), None),
    ((false, true), None),
];

#[tokio::test]
async fn every_combination_and_every_way_of_being_empty_goes_where_the_example_with_the_mindbox_connector_says()
 {
    follow("calltouch-mindbox", &BY_ACTION).await;
}

#[tokio::test]
async fn every_combination_and_every_way_of_being_empty_goes_where_the_vendors_recipe_by_http_says() {
    follow("calltouch-mindbox-http", &BY_HTTP).await;
}

async fn follow(example: &str, routes: &Routes) {
    let inbound = Inbound::example(example);
    let mindbox = Mindbox::start(Project::default()).await.expect("a stand-in");
    let mut expected = BTreeMap::new();
    let mut call_id = 700_000_u64;
    for ((session, cookie), operation) in routes {
        for with_session in sessions(&inbound, *session) {
            for with_both in cookies(&inbound, &with_session, *cookie) {
                call_id += 1;
                let payload = with_both.set("id", &call_id.to_string());
                expected.extend(operation.map(|it| (call_id.to_string(), it)));
                for request in inbound.requests(&payload, Method::Post) {
                    deliver(&mindbox, &request).await;
                }
            }
        }
    }
    let records = mindbox.records();
    let got: BTreeMap<String, &str> = records.iter().map(|it| (call_of(it), operation_of(it))).collect();
    assert_eq!(got, expected);
    assert_eq!(records.len(), expected.len(), "each call once");
    assert!(expected.len() > 20, "every way of being empty is tried");
    for record in &records {
        assert_eq!(record.answer, Answer::Success, "{record:?}");
        let device = (operation_of(record) == "CallTouch").then_some(DEVICE);
        assert_eq!(record.parameter("deviceUUID"), device, "a static call has no device at all");
    }
}

fn call_of(record: &Record) -> String {
    let id = record.body.pointer("/customerAction/customFields/callId").and_then(serde_json::Value::as_str);
    id.expect("every request says which call it is about").to_owned()
}

fn operation_of(record: &Record) -> &str {
    record.parameter("operation").expect("every request names its operation")
}

/// The sample call with a session, or without one in every way its manifest declares.
fn sessions(inbound: &Inbound, given: bool) -> Vec<Payload> {
    let call = Payload::call(Moment::CallEnded, 1);
    if given {
        return vec![call];
    }
    let words = inbound.words("sessionId");
    let written = words.iter().map(|word| call.clone().set("sessionId", word));
    written.chain([call.clone().without("sessionId")]).collect()
}

/// The call with the visitor's cookie in every form, or without it in every way.
fn cookies(inbound: &Inbound, call: &Payload, given: bool) -> Vec<Payload> {
    let written = |value: &str| {
        AttributesForm::ALL.map(|form| call.clone().attributes(form, &[(DEVICE_ATTRIBUTE, value)]))
    };
    if given {
        return written(DEVICE).to_vec();
    }
    let mut without = vec![call.clone().without("attrs")];
    without
        .extend(inbound.words("attrs").iter().map(|word| call.clone().without("attrs").set("attrs", word)));
    without.push(call.clone().without("attrs").set("attrs", "{}"));
    without.extend(AttributesForm::ALL.map(|form| call.clone().attributes(form, &[("other", "x")])));
    without.extend(inbound.words("attrs.mindboxDeviceUUID").iter().flat_map(|word| written(word)));
    without
}

async fn deliver(mindbox: &Mindbox, request: &sheaf_bundles::request::Request) {
    let authorized = authorize(request, &|_| Some("test-key")).expect("the secret is there");
    assert_eq!(request.origin, "https://api.mindbox.ru");
    let target = authorized.url.strip_prefix("https://api.mindbox.ru").expect("its origin");
    let headers: Vec<_> =
        authorized.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let bytes = wire::request(&authorized.method, target, &headers, &authorized.body);
    let address = mindbox.origin().trim_start_matches("http://").parse().expect("an address");
    let answer = wire::Client::connect(address)
        .await
        .expect("a connection")
        .exchange(&bytes)
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200, "{}", String::from_utf8_lossy(&answer.body));
}
