//! Commands that need files only: `check`, `connectors`, `schema`.

use insta::assert_snapshot;

use crate::shop::{CALLTOUCH, Shop};

/// A bundle with a misspelt field.
const WRONG: &str = "\
kind: bundle
name: wrong
on: {connection: calltouch-main, trigger: call_ended}
filter: sesionId is not empty
steps:
  - name: send
    action: mindbox.operation_async
    connection: mindbox-main
    with: {operation: CallTouch, body: {a: 1}}
";
/// A connection that takes requests whose parameters it does not read.
const ODD: &str = "\
kind: connection
name: odd
connector: webhook
settings: {methods: [GET], content: [json]}
";

#[test]
fn check_shows_every_mistake_at_its_place_for_people_and_for_scripts() {
    let shop = Shop::with(CALLTOUCH);
    let sound = shop.sheaf(&["check", "DIR"]);
    assert!(sound.ok);
    assert_eq!(sound.text, "Nothing is wrong. Bundles: 3, connections: 2.\n");
    shop.write("bundles/wrong.yaml", WRONG);
    let (words, russian, json) = (
        shop.sheaf(&["check", "DIR"]),
        shop.sheaf(&["check", "DIR", "--lang", "ru"]),
        shop.sheaf(&["check", "DIR", "--json"]),
    );
    assert!(!words.ok && !russian.ok && !json.ok);
    assert_snapshot!(words.text);
    assert_snapshot!(russian.text);
    assert_snapshot!(json.text);
}

#[test]
fn check_does_not_say_that_nothing_is_wrong_beside_a_warning() {
    let shop = Shop::with(CALLTOUCH);
    shop.write("connections/odd.yaml", ODD);
    let said = shop.sheaf(&["check", "DIR"]);
    assert!(said.ok && said.text.contains("warning"), "{}", said.text);
    assert!(said.text.ends_with("No errors. Bundles: 3, connections: 3.\n"), "{}", said.text);
}

#[test]
fn serve_says_what_is_wrong_with_the_files_in_the_language_asked_for() {
    let shop = Shop::with(CALLTOUCH);
    shop.write("bundles/wrong.yaml", WRONG);
    for (language, lead) in [("en", "error: the files have errors:"), ("ru", "ошибка: в файлах ошибки:")]
    {
        let said = shop.sheaf(&[
            "serve",
            "DIR",
            "--lang",
            language,
            "--hooks-address",
            "127.0.0.1:0",
            "--management-address",
            "127.0.0.1:0",
        ]);
        assert!(!said.ok && said.text.starts_with(lead), "{}", said.text);
    }
}

#[test]
fn connectors_are_listed_and_one_that_is_wrong_is_said() {
    let shop = Shop::with(CALLTOUCH);
    assert_snapshot!(shop.sheaf(&["connectors"]).text);
    let listed = shop.json(&["connectors", "DIR"]);
    let names: Vec<_> = listed.as_array().expect("a list").iter().map(|it| it["name"].as_str()).collect();
    assert_eq!(names, ["calltouch", "http", "mindbox", "webhook"].map(Some));
    shop.write("connectors/acme/connector.yaml", "kind: connector\nname: acme\n");
    let said = shop.sheaf(&["connectors", "DIR"]);
    assert!(!said.ok && said.text.contains("connectors/acme/connector.yaml"), "{}", said.text);
}

#[test]
fn schemas_are_printed_and_written_but_not_over_other_peoples_files() {
    let shop = Shop::with(CALLTOUCH);
    let printed = shop.json(&["schema"]);
    let names: Vec<&str> = printed.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_snapshot!(names.join("\n"));
    assert!(shop.sheaf(&["schema", "--write", "schemas"]).ok);
    assert_eq!(shop.json(&["schema", "--write", "schemas"])["written"], names.len());
    let refused = shop.sheaf(&["schema", "--write", "DIR"]);
    assert!(!refused.ok && shop.directory.join("sheaf.yaml").exists(), "{}", refused.text);
}
