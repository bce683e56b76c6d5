//! A user's own connector: one new folder, read by the loader of the built-in ones.

use std::sync::Arc;

use sheaf_bundles::{
    diagnostic::render,
    event::{Event, Received},
    hook::SourceCheck,
    id::EventId,
    plan::{Next, Verdict},
    run::RunState,
    words::Language,
};
use sheaf_connectors::{auth::authorize, decode::decode};

const CONNECTOR: &str = r#"
kind: connector
name: doorbell
title: {en: Doorbell, ru: Звонок}
settings:
  address: {type: url, required: true, title: {en: Address, ru: Адрес}}
secrets:
  key: {required: true, title: {en: Key, ru: Ключ}}
secret_hosts: ["{{ connection.settings.address }}"]
authentication:
  - headers: {X-Key: "{{ connection.secrets.key }}"}
webhook:
  content: [json]
  fields:
    door: {type: text, always: true, title: {en: Door, ru: Дверь}}
    rings: {type: integer, title: {en: Rings, ru: Звонков}}
triggers:
  rang:
    title: {en: Somebody rang, ru: Позвонили}
    when: rings > 0
actions:
  open:
    title: {en: Open, ru: Открыть}
    unknown: idempotent
    input:
      door: {type: text, required: true, title: {en: Door, ru: Дверь}}
    request:
      method: PUT
      url: "{{ connection.settings.address }}/open"
      encoding: json
      body: {door: "{{ input.door }}"}
verdicts:
  - {when: response.status = 200, verdict: ok}
  - {when: response.status >= 500, verdict: retry}
"#;

const FILES: [(&str, &str); 4] = [
    ("sheaf.yaml", "kind: workspace\nname: house\ntime_zone: Europe/Moscow\n"),
    ("connectors/doorbell/connector.yaml", CONNECTOR),
    (
        "connections/gate.yaml",
        "kind: connection\nname: gate\nconnector: doorbell\nsettings: {address: https://gate.example}\nsecrets: {key: {env: KEY}}\n",
    ),
    (
        "bundles/let-in.yaml",
        "kind: bundle\nname: let-in\ntitle: Let in\nactive: true\non: {connection: gate, trigger: rang}\n\
         steps:\n  - {name: open, action: doorbell.open, connection: gate, with: {door: \"{{ door }}\"}}\n",
    ),
];

#[test]
fn a_users_own_connector_is_one_new_folder_that_receives_and_sends() {
    let (integration, sources, problems) = sheaf_connectors::compile(&FILES);
    assert!(problems.is_empty(), "{}", render::text(&sources, &problems, Language::En, false));
    let integration = integration.expect("no diagnostics, so an integration");
    let received = Received {
        method: "POST".into(),
        query: "".into(),
        headers: vec![("content-type".into(), "application/json".into())],
        body: br#"{"door": "front", "rings": "2"}"#.to_vec(),
        source: None,
        received_ms: 0,
    };
    let fields = decode(&integration.hooks[0], &received).expect("decodes").fields;
    let event = Event { id: EventId(1), connection: "gate".into(), received_ms: 0, fields };
    let plan = &integration.plans[0];
    assert_eq!(plan.decide(&event), Verdict::Take { delay_ms: 0 });
    let Next::Send { request, .. } = plan.next(&RunState::new(Arc::new(event), 0)) else {
        panic!("a request")
    };
    let sent = authorize(&request, &|name| (name == "key").then_some("s3cret")).expect("authorised");
    assert_eq!((sent.method.as_str(), sent.url.as_str()), ("PUT", "https://gate.example/open"));
    assert!(sent.headers.contains(&("X-Key".into(), "s3cret".into())));
    assert_eq!(sent.body, br#"{"door":"front"}"#);
}

#[test]
fn a_users_connector_cannot_take_the_name_of_a_built_in_one() {
    let mut files = FILES;
    let taken = CONNECTOR.replace("name: doorbell", "name: http");
    files[1].1 = &taken;
    let (_, sources, problems) = sheaf_connectors::compile(&files);
    let text = render::text(&sources, &problems, Language::En, false);
    assert!(text.contains("connectors/doorbell/connector.yaml:3:7"), "{text}");
}

#[test]
fn a_stored_version_makes_the_same_plan_again() {
    let (integration, ..) = sheaf_connectors::compile(&FILES);
    let plan = &integration.expect("an integration").plans[0];
    let again = sheaf_connectors::plan_of_artefact(plan.artefact().clone()).expect("the same plan");
    assert_eq!(again.artefact(), plan.artefact());
}

#[test]
fn a_version_of_the_directorys_own_workspace_is_the_one_that_older_databases_hold() {
    let (integration, ..) = sheaf_connectors::compile(&FILES);
    let plan = &integration.expect("an integration").plans[0];
    let hash: String = plan.artefact().hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, "90eccc377939f36ae63c5963bf5bb3c0bac5572291d30c5bc7cc60d25635713c");
}

#[test]
fn a_header_of_an_own_connector_that_cannot_be_sent_is_found_at_its_place() {
    for (header, name) in [("\"X Key\"", "X Key"), ("Keep-Alive", "Keep-Alive")] {
        let files = FILES.map(|(path, text)| (path, text.replace("X-Key", header)));
        let (_, _, out) = sheaf_connectors::compile(&files);
        let said: Vec<_> =
            out.iter().map(|found| (found.code.as_str(), found.message.en.contains(name))).collect();
        assert_eq!(said[0], ("bad-header", true), "{header}: {said:?}");
    }
    let open = FILES.map(|(path, text)| {
        (path, text.replace("      encoding: json", "      headers: {Expect: x}\n      encoding: json"))
    });
    let (_, _, out) = sheaf_connectors::compile(&open);
    assert_eq!(out.iter().next().map(|found| found.code.as_str()), Some("bad-header"));
}

#[test]
fn a_network_that_is_written_without_a_list_is_checked_all_the_same() {
    let checks = "  content: [json]\n  checks: [{addresses: 203.0.113.0/24}]\n";
    let files = FILES.map(|(path, text)| (path, text.replace("  content: [json]\n", checks)));
    let (integration, sources, problems) = sheaf_connectors::compile(&files);
    assert!(problems.is_empty(), "{}", render::text(&sources, &problems, Language::En, false));
    let hooks = integration.expect("an integration").hooks;
    assert!(matches!(hooks[0].checks.as_slice(), [SourceCheck::Addresses(networks)] if networks.len() == 1));
}
