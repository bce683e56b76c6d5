//! An action's input to its request and to what each answer means.

use std::sync::Arc;

use sheaf_bundles::{
    event::Event,
    id::EventId,
    json::{self, Limits},
    plan::{Next, Plan},
    request::{Request, Response},
    run::{RunState, delivery_key},
    value::Map,
    yaml::Node,
};
use sheaf_connectors::auth::authorize;

use crate::{text, workspace::Workspace};

pub fn check(name: &str, connector: &str, case: &Node) {
    let with = case.get("with").unwrap_or_else(|| panic!("{name}: `with` is missing"));
    let workspace = Workspace::sending(name, connector, case.get("settings"), &text(case, "action"), with);
    let plan = &workspace.integration.plans[0];
    let event = Event { id: EventId(7), connection: "source".into(), received_ms: 0, fields: Map::default() };
    let state = RunState::new(Arc::new(event), 0);
    let request = match plan.next(&state) {
        Next::Send { step: 0, request } => request,
        other => panic!("{name}: {other:?}"),
    };
    let key = delivery_key(EventId(7), &plan.artefact().hash, "send", 0);
    compare(
        name,
        &request,
        &key,
        case.get("request").unwrap_or_else(|| panic!("{name}: `request` is missing")),
        marker,
    );
    for answer in case.get("answers").and_then(Node::as_list).unwrap_or_default() {
        judge(name, plan, answer);
    }
}

/// The request with its secrets filled in is the expected one.
pub fn compare(name: &str, request: &Request, key: &str, expected: &Node, secret: fn(&str) -> &'static str) {
    let sent =
        authorize(request, &|name| Some(secret(name))).unwrap_or_else(|error| panic!("{name}: {error}"));
    let in_full = |text: String| text.replace("<key>", key);
    assert_eq!(sent.method, text(expected, "method"), "{name}");
    assert_eq!(sent.url, in_full(text(expected, "url")), "{name}");
    let mut headers: Vec<_> =
        sent.headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    headers.sort();
    let declared = expected.get("headers").and_then(Node::as_map).unwrap_or_default();
    let mut wanted: Vec<_> = declared
        .iter()
        .map(|entry| (entry.key.clone(), in_full(entry.value.as_text().unwrap_or_default().to_owned())))
        .collect();
    wanted.sort();
    assert_eq!(headers, wanted, "{name}");
    let body = String::from_utf8(sent.body).expect("text");
    match expected.get("json") {
        Some(json) => {
            let sent = json::parse(body.as_bytes(), Limits::default())
                .unwrap_or_else(|error| panic!("{name}: {error}: {body}"));
            assert_eq!(json::to_text(&sent), json::to_text(&json.to_value()), "{name}");
        }
        None => assert_eq!(body, text(expected, "text"), "{name}"),
    }
}

/// Each secret's value is its name, so that it shows where it went.
fn marker(secret: &str) -> &'static str {
    match secret {
        "secret_key" => "<secret_key>",
        "token" => "<token>",
        "password" => "<password>",
        other => panic!("no case expects secret {other}"),
    }
}

fn judge(name: &str, plan: &Plan, answer: &Node) {
    let status =
        answer.get("status").and_then(Node::as_integer).and_then(|status| u16::try_from(status).ok());
    let response = Response {
        status: status.unwrap_or_else(|| panic!("{name}: an answer without a status")),
        headers: vec![("content-type".into(), "application/json".into())],
        body: text(answer, "json").into_bytes(),
    };
    let shown = format!("{name}: {} {}", response.status, text(answer, "json"));
    assert_eq!(plan.judge(0, &Ok(response)).class.name(), text(answer, "verdict"), "{shown}");
}
