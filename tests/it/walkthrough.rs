//! The README's ten-minute walk-through, done word for word.

use std::{fs, path::Path, sync::Arc};

use sheaf_bundles::{
    event::{Event, Received},
    id::EventId,
    plan::{Next, Verdict},
    request::Piece,
    run::RunState,
};
use sheaf_runtime::directory;

use crate::repo::root;

/// The README's code blocks that name a file: path and text.
fn files_of_the_readme() -> Vec<(String, String)> {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let blocks = readme.split("```yaml ").skip(1).map(|rest| {
        let (path, rest) = rest.split_once('\n').expect("a path behind the fence");
        let (text, _) = rest.split_once("```").expect("a closing fence");
        (path.trim().to_owned(), text.to_owned())
    });
    blocks.collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copied");
        }
    }
}

#[test]
fn a_connector_is_one_new_folder_and_nothing_else() {
    let files = files_of_the_readme();
    let connector: Vec<&str> =
        files.iter().map(|(path, _)| path.as_str()).filter(|path| path.starts_with("connectors/")).collect();
    assert_eq!(connector, ["connectors/acme-sms/connector.yaml"], "one folder, one file");

    let folder = tempfile::tempdir().expect("a folder");
    for part in ["sheaf.yaml", "connections", "bundles"] {
        let from = root().join("examples/calltouch-mindbox").join(part);
        if from.is_dir() {
            copy(&from, &folder.path().join(part));
        } else {
            fs::copy(from, folder.path().join(part)).expect("copied");
        }
    }
    for (path, text) in &files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("written");
    }
    let compiled = directory::compile(&directory::read(folder.path()).expect("read"));
    let [own] = compiled.workspaces.as_slice() else { panic!("one workspace") };
    assert!(own.diagnostics.is_empty(), "{}", compiled.text(Default::default(), false));
    let integration = own.sound().expect("sound");
    let plan = integration.plans.iter().find(|plan| plan.bundle == "text-the-caller").expect("the bundle");

    let body = b"leadtype=call&callphase=calldisconnected&id=7&changedFields=null&callerphone=79990000001&status=unsuccessful";
    let received = Received {
        method: "POST".into(),
        query: "".into(),
        headers: vec![("content-type".into(), "application/x-www-form-urlencoded".into())],
        body: body.to_vec(),
        source: None,
        received_ms: 1_772_694_930_000,
    };
    let decoded = sheaf_connectors::decode::decode(plan.hook(), &received).expect("decoded");
    let event = Event {
        id: EventId(1),
        connection: "calltouch-main".into(),
        received_ms: received.received_ms,
        fields: decoded.fields,
    };
    assert_eq!(plan.decide(&event), Verdict::Take { delay_ms: 0 });
    let Next::Send { request, .. } = plan.next(&RunState::new(Arc::new(event), 0)) else {
        panic!("nothing is sent")
    };
    assert_eq!(request.origin, "https://sms.acme.example");
    assert_eq!(request.url, [Piece::Text("https://sms.acme.example/v1/messages".into())]);
    let text = r#"{"from":"Shop","to":"+79990000001","text":"Мы перезвоним. Звонок 7"}"#;
    assert_eq!(request.body, [Piece::Text(text.into())]);
    let key = request.headers.iter().find(|(name, _)| name == "X-Api-Key").expect("the credential's header");
    assert!(matches!(key.1.as_slice(), [Piece::Secret { name, .. }] if name == "api_key"), "{key:?}");
}
