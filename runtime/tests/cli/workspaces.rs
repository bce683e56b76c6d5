//! A directory with several workspaces: every command takes and shows their names.

use std::fs;

use insta::assert_snapshot;

use crate::{shop::Shop, vendor};

const CONNECTOR: &str = "\
kind: connector
name: bell
title: {en: Bell, ru: Звонок}
actions:
  ring:
    title: {en: Ring, ru: Позвонить}
    unknown: keyed
    request: {method: GET, url: 'https://bell.example'}
verdicts:
  - {when: response.status = 200, verdict: ok}
";
const SITE: &str = "kind: connection\nname: site\nconnector: webhook\nsettings: {fields: {phone: {type: phone, personal: true, title: {en: Phone, ru: Телефон}}}}\n";
const CRM: &str = "kind: connection\nname: crm\nconnector: http\nsettings: {base_url: 'https://crm.example', parameters: [phone]}\n";
const LEAD: &str = "kind: bundle\nname: lead\nactive: true\non: {connection: site, trigger: received}\nsteps:\n  - {name: lead, action: http.request, connection: crm, with: {parameters: {phone: \"{{ phone }}\"}}}\n";

/// Two workspaces of the same names; `shop` has a connection more.
fn two() -> Shop {
    let shop = Shop::of(&[]);
    for key in ["shop", "depot"] {
        let write = |path: &str, text: &str| shop.write(&format!("workspaces/{key}/{path}"), text);
        write("sheaf.yaml", &format!("kind: workspace\nname: {key}\ntime_zone: Europe/Moscow\n"));
        write("connections/site.yaml", SITE);
        write("connections/crm.yaml", CRM);
        write("bundles/lead.yaml", LEAD);
    }
    shop.write("workspaces/shop/connections/form.yaml", &SITE.replace("name: site", "name: form"));
    shop
}

#[test]
fn check_tells_the_mistakes_and_counts_of_each() {
    let shop = two();
    assert_snapshot!(shop.sheaf(&["check", "DIR"]).text);
    shop.write("workspaces/depot/sheaf.yaml", "kind: workspace\nname: store\ntime_zone: Europe/Moscow\n");
    shop.write("workspaces/depot/bundles/lead.yaml", &LEAD.replace("connection: crm", "connection: sms"));
    fs::create_dir_all(shop.directory.join("workspaces/empty")).expect("a folder");
    let (words, russian) = (shop.sheaf(&["check", "DIR"]), shop.sheaf(&["check", "DIR", "--lang", "ru"]));
    assert!(!words.ok && !russian.ok);
    assert_snapshot!(words.text);
    assert_snapshot!(russian.text);
    let json = shop.json(&["check", "DIR"]);
    assert_eq!(
        json["workspaces"][2],
        serde_json::json!({"workspace": "shop", "ok": true, "bundles": 1, "connections": 3})
    );
    assert_eq!(json["diagnostics"][0]["path"], "workspaces/depot/bundles/lead.yaml");
}

#[test]
fn connectors_of_a_workspace_are_listed_by_its_name() {
    let shop = two();
    shop.write("workspaces/depot/connectors/bell/connector.yaml", CONNECTOR);
    let listed = shop.json(&["connectors", "DIR"]);
    let names: Vec<_> = listed.as_array().expect("a list").iter().map(|it| it["name"].as_str()).collect();
    assert_eq!(names, ["calltouch", "http", "mindbox", "webhook", "depot/bell"].map(Some));
}

#[test]
fn one_is_served_alone_from_its_own_folder() {
    let shop = two();
    let alone = shop.directory.join("workspaces/shop");
    let said = shop.sheaf(&["check", alone.to_str().expect("a plain path")]);
    assert_eq!(said.text, "Nothing is wrong. Bundles: 1, connections: 3.\n");
}

#[test]
fn commands_take_and_show_the_names_of_workspaces_and_say_which_a_bare_one_may_mean() {
    let shop = two();
    let vendor = vendor::answering("200 OK", "{}");
    let _server = shop.serve(&["--egress-override", &format!("https://crm.example=http://{vendor}")]);
    shop.write("lead.json", r#"{"phone":"79990000001"}"#);
    assert!(shop.sheaf(&["send", "shop/site", "lead.json"]).ok);
    let delivered = |runs: &serde_json::Value| runs[0]["state"] == "delivered";
    let runs = shop.until(&["runs", "--bundle", "shop/lead"], delivered);
    assert_eq!(runs[0]["connection"], "shop/site");
    assert_eq!(shop.json(&["runs", "--bundle", "depot/lead"]), serde_json::json!([]));
    let events = shop.json(&["events", "--connection", "shop/site"]);
    let shown = shop.json(&["events", "show", events[0]["id"].as_str().expect("an id")]);
    assert_eq!(
        (&shown["fields"]["phone"], &shown["bundles"][0]["bundle"]),
        (&"••••".into(), &"shop/lead".into())
    );
    let hooks = ["shop/site", "depot/site"].map(|name| shop.json(&["hook", name])["url"].clone());
    assert_ne!(hooks[0], hooks[1]);
    assert!(shop.sheaf(&["pause", "bundle", "depot/lead"]).ok);
    let ledger = shop.json(&["ledger"]);
    assert_eq!(
        (&ledger["connections"][0]["connection"], &ledger["held"][0]["name"]),
        (&"shop/site".into(), &"depot/lead".into())
    );

    for words in [
        &["hook", "form"][..],
        &["send", "form", "lead.json"],
        &["events", "--connection", "form"],
        &["runs", "--connection", "form"],
        &["pause", "connection", "form"],
        &["resume", "connection", "form"],
    ] {
        let said = shop.sheaf(words);
        assert!(!said.ok && said.text.contains("did you mean \"shop/form\"?"), "{words:?}: {}", said.text);
    }
    let several = shop.sheaf(&["hook", "site"]);
    assert!(
        !several.ok && several.text.contains("there are: depot/site, shop/form, shop/site"),
        "{}",
        several.text
    );
}
