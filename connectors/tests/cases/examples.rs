//! Every example leads to the requests its `expected.yaml` says, built by the plans themselves.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use sheaf_bundles::{
    compile::Integration,
    diagnostic::render,
    event::{Event, Received},
    id::EventId,
    plan::{Next, Plan, Verdict},
    run::{RunState, delivery_key},
    words::Language,
    yaml::Node,
};
use sheaf_connectors::decode::Decoder;

use crate::{files::read_cases, outbound::compare, text};

/// Keys of an entry that name no bundle.
const OWN_KEYS: [&str; 2] = ["event", "connection"];

/// An example, compiled without a single diagnostic.
pub fn integration(example: &str) -> Integration {
    let (integration, sources, problems) = sheaf_connectors::compile(&workspace_files(&folder(example)));
    assert!(problems.is_empty(), "{example}\n{}", render::text(&sources, &problems, Language::En, false));
    integration.expect("no diagnostics, so an integration")
}

fn folder(example: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(example)
}

fn run(example: &str) -> usize {
    let (integration, folder) = (integration(example), folder(example));
    let entries = read_cases(&folder.join("expected.yaml"));
    for entry in &entries {
        let hook = integration.hook(&text(entry, "connection")).expect("a hook of that connection");
        let name = format!("{example}, {}", text(entry, "event"));
        let decoded = Decoder::new(Arc::clone(hook)).decode(&received(&folder.join(text(entry, "event"))));
        let fields = decoded.unwrap_or_else(|error| panic!("{name}: {error}")).fields;
        let event = Event {
            id: EventId(7),
            connection: hook.connection.name.as_str().into(),
            received_ms: 0,
            fields,
        };
        let expected =
            entry.as_map().expect("a mapping").iter().filter(|pair| !OWN_KEYS.contains(&pair.key.as_str()));
        for pair in expected {
            let plan = integration.plans.iter().find(|plan| plan.bundle == pair.key);
            let plan = plan.unwrap_or_else(|| panic!("{name}: no bundle {}", pair.key));
            check(&format!("{name}, {}", pair.key), plan, event.clone(), &pair.value);
        }
    }
    entries.len()
}

fn check(name: &str, plan: &Plan, event: Event, expected: &Node) {
    let verdict = plan.decide(&event);
    if expected.as_text() == Some("filtered") {
        assert_eq!(verdict, Verdict::Filtered, "{name}");
        return;
    }
    assert!(matches!(verdict, Verdict::Take { .. }), "{name}: {}", plan.explain(&event).en);
    let step = plan.step_names().next().expect("a step").to_owned();
    let key = delivery_key(event.id, &plan.artefact().hash, &step, 0);
    match plan.next(&RunState::new(Arc::new(event), 0)) {
        Next::Send { step: 0, request } => compare(name, &request, &key, expected, |_| "test-key"),
        other => panic!("{name}: {other:?}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "examples are read as they stand in their folders")]
fn workspace_files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files =
        vec![("sheaf.yaml".to_owned(), fs::read(folder.join("sheaf.yaml")).expect("a workspace file"))];
    for part in ["connections", "bundles"] {
        for entry in fs::read_dir(folder.join(part)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            files.push((format!("{part}/{name}"), fs::read(path).expect("a readable file")));
        }
    }
    files
}

#[expect(clippy::disallowed_methods, reason = "examples are read as they stand in their folders")]
fn received(path: &Path) -> Received {
    let text = fs::read_to_string(path).expect("a sample");
    let form = path.extension().is_some_and(|ending| ending == "form");
    let (content_type, body) = if form {
        ("application/x-www-form-urlencoded", text.replace('\n', ""))
    } else {
        ("application/json", text)
    };
    Received {
        method: "POST".into(),
        query: "".into(),
        headers: vec![("content-type".into(), content_type.into())],
        body: body.into_bytes(),
        source: None,
        received_ms: 0,
    }
}

#[test]
fn the_mindbox_example_sends_every_combination_of_session_and_cookie_somewhere() {
    assert_eq!(run("calltouch-mindbox"), 4);
}

#[test]
fn the_published_recipe_word_for_word_sends_what_it_says_and_leaves_its_gap() {
    assert_eq!(run("calltouch-mindbox-http"), 4);
}

#[test]
fn the_request_example_sends_what_it_says() {
    assert_eq!(run("calltouch-request"), 2);
}

#[test]
fn the_webhook_example_sends_what_it_says() {
    assert_eq!(run("webhook-to-http"), 2);
}

#[test]
fn the_clients_of_the_agency_send_what_they_say() {
    assert_eq!(["optics", "dental"].map(|client| run(&format!("agency/workspaces/{client}"))), [1, 2]);
}
