//! What the other commands say after the demo: `events`, `runs`, `ledger`, `hook`, `pause`.

use std::{fs, os::unix::fs::PermissionsExt as _};

use insta::assert_snapshot;

use crate::shop::{CALLTOUCH, HOOK, Shop};

#[test]
fn events_are_listed_and_one_is_shown_without_what_is_personal() {
    let shop = Shop::after_the_demo();
    assert_snapshot!(shop.redacted(&shop.sheaf(&["events"]).text));
    let newest = shop.json(&["events", "--limit", "1"]);
    let id = newest[0]["id"].as_str().expect("an id");
    let shown = shop.sheaf(&["events", "show", id]).text;
    assert!(!shown.contains("79990000001"), "{shown}");
    assert_snapshot!(shop.redacted(&shown));
    assert!(shop.sheaf(&["events", "show", id, "--reveal"]).text.contains("79990000001"));
    let missing = shop.sheaf(&["events", "show", "evt_0000000000000001", "--lang", "ru"]);
    assert!(!missing.ok);
    assert_eq!(missing.text, "ошибка: evt_0000000000000001 не найдено\n");
}

#[test]
fn runs_are_listed_and_one_is_shown_with_its_request_and_answer() {
    let shop = Shop::after_the_demo();
    assert_snapshot!(shop.redacted(&shop.sheaf(&["runs"]).text));
    assert_snapshot!(
        shop.redacted(&shop.sheaf(&["runs", "--lang", "ru", "--bundle", "mindbox-static"]).text)
    );
    let of_dynamic = shop.json(&["runs", "--bundle", "mindbox-dynamic"]);
    let id = of_dynamic[0]["id"].as_str().expect("an id");
    assert_snapshot!(shop.redacted(&shop.sheaf(&["runs", "show", id]).text));
}

#[test]
fn the_ledger_balances_after_the_demo() {
    let shop = Shop::after_the_demo();
    let said = shop.sheaf(&["ledger", "--verify"]);
    assert!(said.ok);
    assert_snapshot!(said.text);
    assert_eq!(shop.json(&["ledger"])["balanced"], true);
}

#[test]
fn a_page_longer_than_there_is_is_refused_instead_of_cut() {
    let shop = Shop::after_the_demo();
    for what in ["events", "runs"] {
        assert!(shop.sheaf(&[what, "--limit", "1000"]).ok);
        let said = shop.sheaf(&[what, "--limit", "1001", "--json"]);
        assert!(!said.ok && said.text.starts_with(r#"{"error":"#), "{}", said.text);
    }
}

#[test]
fn a_hooks_url_says_when_only_this_machine_reaches_it() {
    let shop = Shop::after_the_demo();
    let said = shop.sheaf(&["hook", HOOK]);
    assert!(said.ok);
    assert_snapshot!(shop.redacted(&said.text));
    let unknown = shop.sheaf(&["hook", "calltouch"]);
    assert!(!unknown.ok);
    let said = "error: no connection \"calltouch\" with a hook here; there are: calltouch-main\n";
    assert_eq!(unknown.text, said);
}

#[test]
fn a_hook_that_nobody_ever_served_has_no_url_and_no_key_is_made() {
    let shop = Shop::with(CALLTOUCH);
    for words in [&["hook", HOOK][..], &["send", HOOK, "events/dynamic.form"]] {
        let said = shop.sheaf(words);
        assert!(!said.ok && said.text.contains("master.key: has `sheaf serve` run here?"), "{}", said.text);
        assert!(!shop.directory.join(".sheaf").exists());
    }
}

#[test]
fn a_bundle_is_paused_whose_file_is_broken_or_gone_and_a_misspelt_one_is_not() {
    let shop = Shop::after_the_demo();
    let misspelt = shop.sheaf(&["pause", "bundle", "mindbox-dynamc"]);
    assert!(!misspelt.ok);
    let said = "error: no bundle \"mindbox-dynamc\" here; there are: mindbox-dynamic, mindbox-one-sided, mindbox-static\n";
    assert_eq!(misspelt.text, said);
    shop.write("bundles/mindbox-dynamic.yaml", "kind: bundle\nname: [");
    fs::remove_file(shop.directory.join("bundles/mindbox-static.yaml")).expect("gone");
    fs::remove_file(shop.directory.join("connections/mindbox-main.yaml")).expect("gone");
    for (kind, name) in
        [("bundle", "mindbox-dynamic"), ("bundle", "mindbox-static"), ("connection", "mindbox-main")]
    {
        let said = shop.sheaf(&["pause", kind, name]);
        assert!(said.ok, "{}", said.text);
    }
    assert_snapshot!(shop.redacted(&shop.sheaf(&["ledger", "--lang", "ru"]).text));
}

#[test]
fn the_database_is_its_owners_alone_whatever_the_folder_it_lies_in() {
    let shop = Shop::with(CALLTOUCH);
    let data = shop.directory.join(".sheaf");
    fs::create_dir(&data).expect("a folder");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("open to all");
    for again in [false, true] {
        let _server = shop.serve(&[]);
        let files = fs::read_dir(&data).expect("the folder").map(|entry| entry.expect("an entry"));
        let database: Vec<_> = files
            .filter(|file| {
                ["sheaf.db", "sheaf.db-wal", "sheaf.db-shm"].iter().any(|name| file.file_name() == *name)
            })
            .collect();
        assert_eq!(database.len(), 3);
        for file in database {
            let mode = file.metadata().expect("rights").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}, again: {again}", file.path().display());
            fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644))
                .expect("as an older sheaf made it");
        }
    }
}
