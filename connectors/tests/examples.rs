//! Every example compiles without a diagnostic, and its events lead to the requests written beside them.

#![expect(clippy::disallowed_methods, reason = "reads the examples of the repository")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use sheaf_bundles::{
    catalog::Catalog,
    compile::{Integration, compile},
    diagnostic::{Diagnostics, Sources, render},
    event::{Event, Received},
    id::EventId,
    json,
    plan::{Next, Plan, Verdict},
    run::{RunState, delivery_key},
    value::{Map, Value},
    words::Language,
    yaml,
};
use sheaf_connectors::{auth::authorize, decode::decode};

/// The value of every secret in the examples.
const SECRET: &str = "test-key";

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.join("expected.yaml").exists());
    found.sort();
    assert!(found.len() >= 4, "the examples have gone");
    found
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![("sheaf.yaml".to_owned(), fs::read(folder.join("sheaf.yaml")).unwrap())];
    for part in ["connections", "bundles"] {
        for entry in fs::read_dir(folder.join(part)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            files.push((format!("{part}/{name}"), fs::read(entry.path()).unwrap()));
        }
    }
    files
}

fn said(sources: &Sources, out: &Diagnostics) -> String {
    render::text(sources, out, Language::En, false)
}

fn catalog() -> Catalog {
    let (catalog, sources, out) = Catalog::load(sheaf_connectors::builtin());
    assert!(out.is_empty(), "{}", said(&sources, &out));
    catalog
}

fn integration(folder: &Path, catalog: &Catalog) -> Integration {
    let (integration, sources, out) = compile(&files(folder), catalog);
    assert!(out.is_empty(), "{}:\n{}", folder.display(), said(&sources, &out));
    integration.unwrap()
}

fn event(integration: &Integration, folder: &Path, expected: &Map) -> Arc<Event> {
    let path = expected["event"].as_text().unwrap();
    let connection = expected["connection"].as_text().unwrap();
    let hook = integration.hook(connection).unwrap();
    let content_type = match path.rsplit_once('.').unwrap().1 {
        "json" => "application/json",
        _ => "application/x-www-form-urlencoded",
    };
    let written = fs::read(folder.join(path)).unwrap();
    // A form is written one parameter a line for people; on the wire it has no line breaks.
    let body = match content_type {
        "application/json" => written,
        _ => written.into_iter().filter(|byte| !b"\r\n".contains(byte)).collect(),
    };
    let received = Received {
        method: "POST".to_owned(),
        query: String::new(),
        headers: vec![("content-type".to_owned(), content_type.to_owned())],
        body,
        source: None,
        received_ms: 0,
    };
    let decoded = decode(hook, &received).unwrap();
    assert!(!hook.is_probe(&decoded.fields), "{path}");
    Arc::new(Event {
        id: EventId(7),
        connection: connection.to_owned(),
        received_ms: 0,
        fields: decoded.fields,
    })
}

/// The request as `expected.yaml` writes it.
fn sent(plan: &Plan, event: &Arc<Event>) -> Value {
    let request = match plan.next(&RunState::new(Arc::clone(event), 0)) {
        Next::Send { request, .. } => request,
        other => panic!("{}: {other:?}", plan.bundle),
    };
    let authorized = authorize(&request, &|_| Some(SECRET)).unwrap();
    let step = plan.step_names().next().unwrap();
    let key = delivery_key(event.id, &plan.artefact().hash, step, 0);
    let shown = |text: &str| Value::Text(text.replace(&key, "<key>"));
    let headers = authorized.headers.iter().map(|(name, value)| (name.clone(), shown(value)));
    Value::Object(Map::from_iter([
        ("method".to_owned(), Value::from(authorized.method.as_str())),
        ("url".to_owned(), shown(&authorized.url)),
        ("headers".to_owned(), Value::Object(headers.collect())),
        ("json".to_owned(), json::parse(&authorized.body, json::Limits::default()).unwrap()),
    ]))
}

#[test]
fn every_event_of_an_example_leads_to_the_requests_written_beside_it() {
    let catalog = catalog();
    for folder in examples() {
        let integration = integration(&folder, &catalog);
        let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
        let bytes = fs::read(folder.join("expected.yaml")).unwrap();
        let (_, node) = yaml::load("expected.yaml", &bytes, &mut sources, &mut out);
        for item in node.unwrap().as_list().unwrap() {
            let Value::Object(expected) = item.to_value() else { panic!("an object for each event") };
            let event = event(&integration, &folder, &expected);
            for plan in &integration.plans {
                let place = format!("{} {:?} {}", folder.display(), expected["event"], plan.bundle);
                let wanted = expected.get(&plan.bundle);
                match (plan.decide(&event), wanted) {
                    (Verdict::Take { .. }, Some(wanted @ Value::Object(_))) => {
                        assert_eq!(&sent(plan, &event), wanted, "{place}");
                    }
                    (Verdict::Filtered, Some(Value::Text(word))) if word == "filtered" => {}
                    (verdict, wanted) => {
                        panic!("{place}: {verdict:?}, not {wanted:?}; {:?}", plan.explain(&event))
                    }
                }
            }
        }
    }
}

#[test]
fn a_plan_compiled_again_from_its_artefact_sends_the_same_bytes() {
    let catalog = catalog();
    for folder in examples() {
        let integration = integration(&folder, &catalog);
        for plan in &integration.plans {
            let again = Plan::from_artefact(&plan.artefact().bytes).unwrap();
            assert_eq!(again.artefact(), plan.artefact(), "{}", plan.bundle);
            assert_eq!(format!("{again:?}").len(), format!("{plan:?}").len(), "{}", plan.bundle);
        }
    }
}
