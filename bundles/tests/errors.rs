//! Every `errors/*.yaml` joins the workspace beside it as what its `kind` says; what is said about it stands in the `.snap`.

#![expect(clippy::disallowed_methods, reason = "reads the cases beside it")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use sheaf_bundles::{
    catalog::Catalog,
    compile::{Integration, compile},
    diagnostic::{Diagnostics, Sources, code::Code, render},
    words::Language,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/errors")
}

fn read(path: &str) -> (String, Vec<u8>) {
    (path.to_owned(), fs::read(folder().join("workspace").join(path)).unwrap())
}

const MANIFESTS: [&str; 2] = ["catalog/calls/connector.yaml", "catalog/crm/connector.yaml"];

fn catalog() -> Catalog {
    let (catalog, sources, out) = Catalog::load(&MANIFESTS.map(read));
    assert!(out.is_empty(), "{}", render::text(&sources, &out, Language::En, false));
    catalog
}

fn case(name: &str) -> Vec<u8> {
    fs::read(folder().join(format!("{name}.yaml"))).unwrap()
}

/// A case as a file of the workspace: a connector of the catalog, a connection, or a bundle.
fn compiled(name: &str) -> (Option<Integration>, Sources, Diagnostics) {
    let bytes = case(name);
    if bytes.starts_with(b"kind: connector\n") {
        let mut files = MANIFESTS.map(read).to_vec();
        files.push((format!("connectors/{name}/connector.yaml"), bytes));
        let (_, sources, out) = Catalog::load(&files);
        return (None, sources, out);
    }
    let mut files = vec![read("sheaf.yaml"), read("connections/calls.yaml"), read("connections/crm.yaml")];
    let part = if bytes.starts_with(b"kind: connection\n") { "connections" } else { "bundles" };
    files.push((format!("{part}/{name}.yaml"), bytes));
    compile(&files, &catalog())
}

fn said_about(case: &str) -> String {
    let (_, sources, out) = compiled(case);
    let english = render::text(&sources, &out, Language::En, false);
    let russian = render::text(&sources, &out, Language::Ru, false);
    format!("{english}\n---\n{russian}")
}

fn snapshots(run: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(run);
}

#[test]
fn every_mistake_is_shown_at_its_place_with_a_hint() {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().into_string().unwrap().strip_suffix(".yaml").map(str::to_owned)
        })
        .collect();
    names.sort();
    snapshots(|| {
        for name in names.into_iter().filter(|name| name != "good") {
            insta::assert_snapshot!(name.clone(), said_about(&name));
        }
    });
}

#[test]
fn a_bundle_without_a_mistake_has_a_plan_and_no_diagnostics() {
    let (integration, sources, out) = compiled("good");
    assert!(out.is_empty(), "{}", render::text(&sources, &out, Language::En, false));
    let integration = integration.unwrap();
    assert_eq!(integration.plans.len(), 1);
    assert_eq!(integration.plans[0].delay_ms, 300_000);
}

#[test]
fn ten_mistakes_in_one_file_are_all_found_and_each_has_a_hint() {
    let (integration, sources, out) = compiled("ten");
    let found: Vec<(Code, String, usize)> = out
        .sorted()
        .iter()
        .map(|diagnostic| {
            assert!(diagnostic.hint.is_some(), "{:?} has no hint", diagnostic.code);
            let place = sources.position(diagnostic.span.file, diagnostic.span.start);
            (diagnostic.code, sources.slice(diagnostic.span).to_owned(), place.line)
        })
        .collect();
    for (code, line) in [
        (Code::UnknownKey, 3),
        (Code::BadFilter, 5),
        (Code::UnknownField, 13),
        (Code::TargetClash, 15),
        (Code::UnavailableField, 16),
        (Code::WrongType, 17),
        (Code::UnknownConnection, 20),
        (Code::MissingTarget, 21),
        (Code::BadTemplate, 22),
        (Code::SecretValue, 29),
        (Code::UnknownSecret, 30),
        (Code::SecretPlace, 31),
    ] {
        assert!(
            found.iter().any(|(own, _, at)| *own == code && *at == line),
            "{code:?} on line {line}: {found:#?}"
        );
    }
    assert!(integration.unwrap().plans.is_empty());
}

#[test]
fn a_secret_written_as_a_value_is_refused_and_never_shown() {
    let connection = "kind: connection\nname: crm-main\nconnector: crm\nsettings: {base_url: https://crm.example}\nsecrets:\n  key: s3cr3t-value\n";
    let files = [read("sheaf.yaml"), ("connections/crm.yaml".to_owned(), connection.as_bytes().to_vec())];
    let (_, sources, out) = compile(&files, &catalog());
    let shown = render::text(&sources, &out, Language::En, false);
    assert!(out.iter().any(|diagnostic| diagnostic.code == Code::SecretValue), "{shown}");
    assert!(!shown.contains("s3cr3t"), "{shown}");
}

#[test]
fn without_a_workspace_file_it_is_said_what_to_write() {
    let (integration, _, out) = compile::<String, Vec<u8>>(&[], &catalog());
    assert!(integration.is_none());
    assert_eq!(out.iter().map(|found| found.code).collect::<Vec<_>>(), [Code::BadWorkspace]);
}

#[test]
fn a_broken_bundle_leaves_the_others_standing() {
    let mut files = vec![read("sheaf.yaml"), read("connections/calls.yaml"), read("connections/crm.yaml")];
    files.extend(["good", "ten"].map(|name| (format!("bundles/{name}.yaml"), case(name))));
    let (integration, _, out) = compile(&files, &catalog());
    assert!(out.has_errors());
    let plans = integration.unwrap().plans;
    assert_eq!(plans.iter().map(|plan| plan.bundle.as_str()).collect::<Vec<_>>(), ["good"]);
}

#[test]
fn every_code_has_a_case() {
    let snapshots = |folder: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "snap")).collect::<Vec<_>>()
    };
    let files = ["errors", "diagnostics"].into_iter().flat_map(snapshots);
    let said: String = files.map(|path| fs::read_to_string(path).unwrap()).collect();
    for code in Code::ALL.iter().filter(|code| **code != Code::FileTooLarge) {
        assert!(said.contains(&format!("[{}]", code.as_str())), "no case for {}", code.as_str());
    }
}
