//! Runs what stands in the `tests/` folder of each connector: a request as captured -> the event it becomes, and an
//! action's input -> the request it makes and what each answer means.
//!
//! ```yaml
//! - name: …
//!   settings: {…}                # of the connection
//!   receive: {method, query, form | json}    # line breaks in a form are dropped
//!   triggers: [call_ended]       # exactly these fire (not looked at when left out)
//!   fields: {…}                  # these fields have exactly these values
//!   absent: […]                  # these fields are not there
//!   notes: ["absent: sessionId"] # these are told;  silent: […]  these are not
//! - name: …
//!   settings: {…}
//!   action: operation_async
//!   with: {…}                    # as a bundle writes it
//!   request: {method, url, headers, json | text}   # <key> is the idempotency key, <name> the secret of that name
//!   answers: [{status, json, verdict}]
//! ```

mod emptiness;
mod examples;
mod files;
mod names;
mod outbound;
mod own;
mod repeats;
mod workspace;
mod workspaces;

use std::collections::HashMap;

use sheaf_bundles::{
    event::{Event, Received},
    hook::Hook,
    id::EventId,
    json,
    value::{Map, Value},
    yaml::Node,
};
use sheaf_connectors::decode::{Note, decode};
use workspace::Workspace;

/// Every case of a connector, and how many there are.
fn run(connector: &str) -> usize {
    let cases = files::cases_of(connector);
    // Most cases share their settings, and compiling is what takes time here.
    let mut workspaces: HashMap<String, Workspace> = HashMap::new();
    for case in &cases {
        let name = format!("{connector}: {}", text(case, "name"));
        if case.get("receive").is_some() {
            let settings = case.get("settings");
            let key = settings.map(|settings| json::to_text(&settings.to_value())).unwrap_or_default();
            let workspace =
                workspaces.entry(key).or_insert_with(|| Workspace::receiving(&name, connector, settings));
            inbound(&name, &workspace.integration.hooks[0], case);
        } else {
            outbound::check(&name, connector, case);
        }
    }
    cases.len()
}

fn inbound(name: &str, hook: &Hook, case: &Node) {
    let received = received(case.get("receive").expect("checked by the caller"));
    let decoded = decode(hook, &received).unwrap_or_else(|error| panic!("{name}: {error}"));
    for (field, expected) in map(case, "fields") {
        assert_eq!(shown(decoded.fields.get(field.as_str())), shown(Some(&expected)), "{name}: {field}");
    }
    for field in list(case, "absent") {
        assert_eq!(decoded.fields.get(field.as_str()), None, "{name}: {field}");
    }
    let notes: Vec<String> = decoded.notes.iter().map(note).collect();
    for note in list(case, "notes") {
        assert!(notes.contains(&note), "{name}: {note} is not among {notes:?}");
    }
    for note in list(case, "silent") {
        assert!(!notes.contains(&note), "{name}: {note}");
    }
    if case.get("triggers").is_some() {
        assert_eq!(fired(hook, decoded.fields), list(case, "triggers"), "{name}");
    }
}

fn fired(hook: &Hook, fields: Map) -> Vec<String> {
    let event =
        Event { id: EventId(1), connection: hook.connection.name.as_str().into(), received_ms: 0, fields };
    hook.triggers(&event).into_iter().map(str::to_owned).collect()
}

/// A form as Calltouch posts it.
fn received_form(form: &str) -> Received {
    Received {
        method: "POST".into(),
        query: "".into(),
        headers: vec![("content-type".into(), "application/x-www-form-urlencoded".into())],
        body: form.as_bytes().to_vec(),
        source: None,
        received_ms: 0,
    }
}

fn received(node: &Node) -> Received {
    let part = |key: &str| node.get(key).and_then(Node::as_text);
    let (content_type, body) = match (part("form"), part("json")) {
        (Some(form), _) => ("application/x-www-form-urlencoded", form.replace(['\n', ' '], "")),
        (None, Some(json)) => ("application/json", json.to_owned()),
        (None, None) => ("", String::new()),
    };
    Received {
        method: part("method").unwrap_or("POST").into(),
        query: part("query").unwrap_or_default().into(),
        headers: vec![("content-type".into(), content_type.into())],
        body: body.into_bytes(),
        source: None,
        received_ms: 0,
    }
}

fn note(note: &Note) -> String {
    match note {
        Note::Absent { field } => format!("absent: {field}"),
        Note::Unreadable { field, expected: _ } => format!("unreadable: {field}"),
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or("nothing".to_owned(), json::to_text)
}

fn text(node: &Node, key: &str) -> String {
    node.get(key).and_then(Node::as_text).unwrap_or_default().to_owned()
}

fn list(node: &Node, key: &str) -> Vec<String> {
    let items = node.get(key).and_then(Node::as_list).unwrap_or_default();
    items.iter().filter_map(Node::as_text).map(str::to_owned).collect()
}

fn map(node: &Node, key: &str) -> Map {
    match node.get(key).map(Node::to_value) {
        Some(Value::Object(map)) => *map,
        _ => Map::default(),
    }
}

#[test]
fn calltouchs_captured_requests_become_the_events_they_should() {
    assert!(run("calltouch") >= 50);
}

#[test]
fn the_generic_webhooks_requests_become_the_events_they_should() {
    assert!(run("webhook") >= 3);
}

#[test]
fn mindboxs_operations_make_the_requests_they_should_and_read_every_answer() {
    assert!(run("mindbox") >= 2);
}

#[test]
fn the_http_connectors_inputs_make_the_requests_they_should() {
    assert!(run("http") >= 5);
}

#[test]
fn each_of_calltouchs_ten_samples_fires_its_own_trigger_and_no_other() {
    let workspace = Workspace::receiving("samples", "calltouch", None);
    let hook = &workspace.integration.hooks[0];
    assert_eq!(hook.triggers.len(), 10);
    for trigger in &hook.triggers {
        let pairs = trigger.sample.iter().map(|(name, value)| {
            let value = value.as_text().expect("a sample is what the vendor sends, all texts");
            format!(
                "{name}={}",
                percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC)
            )
        });
        let form = pairs.collect::<Vec<_>>().join("&");
        let decoded = decode(hook, &received_form(&form)).expect("a sample decodes");
        assert_eq!(fired(hook, decoded.fields), [trigger.name.as_str()]);
    }
}
