//! Several workspaces in one directory, each compiled by itself.

use std::sync::Arc;

use sheaf_bundles::{
    compile::Integration,
    connection::SecretSource,
    diagnostic::{Diagnostics, render},
    event::Event,
    id::EventId,
    plan::{Next, Plan},
    run::RunState,
    value::{Map, Text},
    words::Language,
};
use sheaf_connectors::Compiler;

const FILES: [(&str, &str); 4] = [
    ("sheaf.yaml", "kind: workspace\nname: shop\ntime_zone: Europe/Moscow\n"),
    (
        "connections/site.yaml",
        "kind: connection\nname: site\nconnector: webhook\nsettings:\n  fields:\n    number: {type: text, always: true, title: {en: Number, ru: Номер}}\n",
    ),
    (
        "connections/crm.yaml",
        "kind: connection\nname: crm\nconnector: http\nsettings:\n  base_url: https://crm.example\n  parameters: [number]\n  authentication: bearer\n\
         secrets: {token: {file: keys/crm}}\n",
    ),
    (
        "bundles/lead.yaml",
        "kind: bundle\nname: lead\nactive: true\non: {connection: site, trigger: received}\norder_by: number\n\
         steps:\n  - {name: send, action: http.request, connection: crm, with: {parameters: {number: \"{{ number }}\"}}}\n",
    ),
];

/// The files as those of a workspace.
fn of(key: &str) -> Vec<(String, String)> {
    let named = |text: &str| text.replace("name: shop", &format!("name: {key}"));
    FILES.iter().map(|(path, text)| (format!("workspaces/{key}/{path}"), named(text))).collect()
}

fn compiled(key: &str, files: &[(String, String)]) -> (Option<Integration>, Diagnostics, String) {
    let mut compiler = Compiler::new();
    let (integration, out) = compiler.compile(key, files);
    let said = render::text(&compiler.sources, &out, Language::En, false);
    (integration, out, said)
}

fn sound(key: &str) -> Integration {
    let (integration, out, said) = compiled(key, &of(key));
    assert!(out.is_empty(), "{said}");
    integration.expect("an integration")
}

fn event() -> Event {
    let fields: Map = [(Text::from("number"), "17".into())].into_iter().collect();
    Event { id: EventId(1), connection: "any".into(), received_ms: 0, fields }
}

/// Whose secrets the request of a plan's first step asks for.
fn asks_for(plan: &Plan) -> String {
    match plan.next(&RunState::new(Arc::new(event()), 0)) {
        Next::Send { request, .. } => request.connection.to_string(),
        next => panic!("{next:?}"),
    }
}

#[test]
fn everything_of_a_workspace_is_called_by_its_name_outside_and_nothing_is_shared() {
    let (shop, depot) = (sound("shop"), sound("depot"));
    assert_eq!((shop.key.as_str(), shop.plans[0].bundle.as_str()), ("shop", "shop/lead"));
    assert_eq!(shop.plans[0].connection.name, "shop/site");
    assert_eq!(asks_for(&shop.plans[0]), "shop/crm");
    assert_eq!(shop.plans[0].title, "lead");
    let crm = shop.connection("shop/crm").expect("the connection");
    assert_eq!(crm.secret("token"), Some(&SecretSource::File("workspaces/shop/keys/crm".to_owned())));
    let (ours, theirs) = (&shop.plans[0], &depot.plans[0]);
    assert_ne!(ours.artefact().hash, theirs.artefact().hash);
    assert!(ours.lane(&event()).is_some());
    assert_ne!(ours.lane(&event()), theirs.lane(&event()));
}

#[test]
fn a_stored_version_of_a_workspace_has_its_names_again() {
    let shop = sound("shop");
    let again = sheaf_connectors::plan_of_artefact(shop.plans[0].artefact().clone()).expect("the same plan");
    assert_eq!((again.bundle.as_str(), again.connection.name.as_str()), ("shop/lead", "shop/site"));
    assert_eq!(asks_for(&again), "shop/crm");
    assert_eq!(again.artefact(), shop.plans[0].artefact());
}

#[test]
fn what_is_said_of_a_workspaces_files_has_their_whole_paths_and_their_own_names() {
    let mut files = of("shop");
    files[3].1 = files[3].1.replace("connection: crm", "connection: site");
    let (_, _, said) = compiled("shop", &files);
    assert!(said.contains("workspaces/shop/bundles/lead.yaml:7:"), "{said}");
    assert!(said.contains("a connection of `http`, and `site` is one of `webhook`"), "{said}");
}

#[test]
fn a_folder_that_is_called_otherwise_than_its_workspace_or_has_no_file_is_found() {
    for (folder, expected) in [
        ("depot", "the workspace is called `shop`, and its folder `depot`"),
        ("My Shop", "the workspace is called `shop`, and its folder `My Shop`"),
    ] {
        let path = |path: &str| path.replace("workspaces/shop", &format!("workspaces/{folder}"));
        let files: Vec<_> = of("shop").iter().map(|(own, text)| (path(own), text.clone())).collect();
        let (_, out, said) = compiled(folder, &files);
        assert!(out.has_errors() && said.contains(expected), "{said}");
        assert!(said.contains(&format!("workspaces/{folder}/sheaf.yaml:2:7")), "{said}");
    }
    for files in [&of("shop")[1..], &[]] {
        let (integration, _, said) = compiled("shop", files);
        assert!(integration.is_none() && said.contains("workspaces/shop/sheaf.yaml"), "{said}");
    }
}

#[test]
fn each_workspace_has_its_own_connectors() {
    const CONNECTOR: &str = "kind: connector\nname: http2\ntitle: {en: Two, ru: Два}\n\
        actions:\n  go:\n    title: {en: Go, ru: Идти}\n    unknown: keyed\n    request: {method: GET, url: \"https://two.example\"}\n\
        verdicts:\n  - {when: response.status = 200, verdict: ok}\n";
    let mut files = of("shop");
    files.push(("workspaces/shop/connectors/http2/connector.yaml".to_owned(), CONNECTOR.to_owned()));
    files[2].1 = "kind: connection\nname: crm\nconnector: http2\n".to_owned();
    files[3].1 = files[3]
        .1
        .replace("http.request", "http2.go")
        .replace(", with: {parameters: {number: \"{{ number }}\"}}", "");
    let mut compiler = Compiler::new();
    let (integration, out) = compiler.compile("shop", &files);
    assert!(out.is_empty(), "{}", render::text(&compiler.sources, &out, Language::En, false));
    let plan = &integration.expect("an integration").plans[0];
    sheaf_connectors::plan_of_artefact(plan.artefact().clone()).expect("its connector is in the version");
    let (_, out) =
        compiler.compile("depot", &[("workspaces/depot/connections/crm.yaml", files[2].1.as_str())]);
    let said = render::text(&compiler.sources, &out, Language::En, false);
    assert!(said.contains("there is no connector `http2`"), "{said}");
}

#[test]
fn a_directory_that_only_says_whom_to_tell_is_no_mistake() {
    let alerts =
        "kind: alerts\nemails: {duty: {server: smtp.example, from: a@b.example, to: [c@d.example]}}\n";
    let (integration, out, said) = compiled("", &[("alerts.yaml".to_owned(), alerts.to_owned())]);
    let integration = integration.expect("an integration");
    assert!(out.is_empty(), "{said}");
    assert_eq!((integration.workspace.as_str(), integration.alerts.channels.len()), ("", 1));
    let (_, _, said) = compiled("shop", &[("workspaces/shop/alerts.yaml".to_owned(), alerts.to_owned())]);
    assert!(said.contains("there is no `sheaf.yaml`"), "{said}");
}
