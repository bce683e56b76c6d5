//! Every `diagnostics/*.yaml` is read and checked against the shapes below; what is said about it stands in the `.snap` beside it,
//! for a terminal in both languages and as JSON.

#![expect(clippy::disallowed_methods, reason = "reads the cases beside it")]

use std::{fs, path::Path};

use sheaf_bundles::{
    diagnostic::{Diagnostics, Sources, code::Code, render},
    shape::{Choice, Key, Shape, check::check},
    words::Language,
    yaml,
};

#[test]
fn every_mistake_is_shown_at_its_place_with_a_hint() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().into_string().unwrap().strip_suffix(".yaml").map(str::to_owned)
        })
        .collect();
    names.sort();
    assert!(names.len() >= 10, "the cases have gone");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder.clone());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for name in names {
            let bytes = fs::read(folder.join(format!("{name}.yaml"))).unwrap();
            insta::assert_snapshot!(name.clone(), said_about(&format!("{name}.yaml"), &bytes));
        }
    });
}

#[test]
fn every_code_of_files_and_shapes_has_a_case() {
    let cases = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics")).unwrap();
    let said: String = cases
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "snap"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let here = [
        Code::NotUtf8,
        Code::ForbiddenCharacter,
        Code::YamlSyntax,
        Code::YamlUnsupported,
        Code::YamlTooComplex,
        Code::DuplicateKey,
        Code::BadNumber,
        Code::UnknownKey,
        Code::MissingKey,
        Code::WrongKind,
        Code::BadValue,
        Code::BadName,
        Code::BadDuration,
        Code::SecretValue,
    ];
    for code in here {
        assert!(said.contains(&format!("[{}]", code.as_str())), "no case for {}", code.as_str());
    }
}

#[test]
fn no_two_codes_share_a_text() {
    let mut texts: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), Code::ALL.len());
}

#[test]
fn a_file_that_fits_its_shape_is_left_alone() {
    let text = r#"
kind: sample
name: mindbox-2_a
text: "12345"
active: false
count: 9
share: 0.5
delay: 1h30m
url: https://пример.рф/path?x=1
time_zone: Europe/Moscow
direction: out
list: []
words: {en: Hello, ru: Привет}
named: {a: 1, b-2: -3}
filter: {all: [{field: sessionId, op: is empty}, {not: {field: id, op: =, value: 1}}]}
secrets: {token: {env: TOKEN}, key: {file: /run/secrets/key}}
steps:
  - name: send
    action: mindbox.send
    count: {path: "$.a", default: 1, when_empty: omit, as: integer}
    with: {customer.phone: "{{ phone }}", nested: {value: 1, other: [1, {a: b}]}}
    steps: [{name: inner, action: a, count: "{{ number }}", with: "{{ steps.send.body }}"}, {name: last, action: a, count: 3, with: }]
  - {name: other, action: b, count: {value: "{{ n }}"}}
"#;
    assert_eq!(said_about("fine.yaml", text.as_bytes()), "[]");
    let least = said_about(
        "least.yaml",
        b"kind: sample\nname: a\ntext:\ncount: ~\nsecrets:\nsteps:\nfilter: id is empty\n",
    );
    assert_eq!(least, "[]");
}

#[test]
fn a_file_past_the_limit_is_refused_and_not_kept() {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let (file, node) = yaml::load("big.yaml", &vec![b'#'; yaml::FILE_BYTES_MAX + 1], &mut sources, &mut out);
    assert_eq!((node, sources.text(file)), (None, ""));
    assert_eq!(out.iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>(), [Code::FileTooLarge]);
}

#[test]
fn a_secret_in_a_file_is_never_shown_again() {
    let text = "kind: sample\nname: a\nsecrets:\n  token: {env: 'hunter2 hunter2'}\n  other: {vlue: hunter2, x: hunter2}\n  third: hunter2\n";
    let said = said_about("secret.yaml", text.as_bytes());
    assert!(said.contains("secret-value") && !said.contains("hunter2"), "{said}");
}

#[test]
fn a_long_line_is_cut_around_its_caret_and_keeps_its_column() {
    let text = format!("kind: sample\nname: a\nlist: [{}{{}}]\n", "\"щщщщщщщщ\", ".repeat(1_000));
    let said = said_about("long.yaml", text.as_bytes());
    assert!(said.contains("long.yaml:3:12008"), "{said}");
    assert!(said.lines().all(|line| line.chars().count() < 200), "{said}");
}

#[test]
fn a_path_and_a_file_cannot_write_to_the_terminal() {
    let text = "kind: sample\nname: \"\\u001b[2J\\u202e\"\nother: \u{202e}x\n";
    let said = said_about("\u{1b}]0;x\u{7}.yaml", text.as_bytes());
    assert!(!said.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{said}");
}

#[test]
fn a_flood_of_mistakes_is_cut_off_and_counted() {
    let keys: String = (0..2_000).map(|number| format!("k{number}: 1\n")).collect();
    let said = said_about("flood.yaml", format!("kind: sample\nname: a\n{keys}").as_bytes());
    assert!(said.contains("… and 1500 more"), "{}", &said[said.len() - 200..]);
}

/// What is said about one file: English, Russian, JSON.
fn said_about(path: &str, bytes: &[u8]) -> String {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let (_, node) = yaml::load(path, bytes, &mut sources, &mut out);
    if let Some(node) = node {
        let fine = check(&sample(), &node, &mut out);
        assert!(fine || out.has_errors(), "a check that fails says why");
    }
    let english = render::text(&sources, &out, Language::En, false);
    let russian = render::text(&sources, &out, Language::Ru, false);
    let json = serde_json::to_string_pretty(&render::json(&sources, &out, Language::En)).unwrap();
    format!("{english}{russian}{json}")
}

/// A shape with one key of every kind.
fn sample() -> Shape {
    let titled =
        [Choice::titled("in", "Incoming", "Входящие"), Choice::titled("out", "Outgoing", "Исходящие")];
    Shape::object([
        Key::required("kind", Shape::Const("sample".to_owned())),
        Key::required("name", Shape::Name).title("Name", "Имя"),
        Key::optional("text", Shape::Text),
        Key::optional("active", Shape::Bool),
        Key::optional("count", Shape::Integer { min: Some(1), max: Some(9) }),
        Key::optional("share", Shape::Number),
        Key::optional("delay", Shape::Duration),
        Key::optional("url", Shape::Url),
        Key::optional("time_zone", Shape::TimeZone),
        Key::optional("direction", Shape::Choice(titled.into())),
        Key::optional("list", Shape::list(Shape::Text)),
        Key::optional("words", Shape::OneOf(vec![Shape::Text, Shape::words()])),
        Key::optional("named", Shape::named_map(Shape::integer())),
        Key::optional("filter", Shape::Filter),
        Key::optional("secrets", Shape::named_map(Shape::Secret)),
        Key::optional("steps", Shape::list(Shape::Named { name: "step", shape: step })),
    ])
}

fn step() -> Shape {
    Shape::object([
        Key::required("name", Shape::Name),
        Key::required("action", Shape::Text).title("Action", "Действие"),
        Key::optional("count", Shape::template(Shape::integer())),
        Key::optional("with", Shape::Mapping(Vec::new())),
        Key::optional("steps", Shape::list(Shape::Named { name: "step", shape: step })),
    ])
}
