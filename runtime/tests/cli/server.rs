//! Commands beside a running server: `send`, `runs discard`, `runs show` of several steps.

use insta::assert_snapshot;

use crate::{
    shop::{CALLTOUCH, HOOK, Shop},
    vendor,
};

#[test]
fn a_sample_of_the_connector_or_a_file_is_sent_to_the_hook() {
    let shop = Shop::with(CALLTOUCH);
    assert_snapshot!(shop.sheaf(&["send", HOOK, "--sample"]).text);
    let unknown = shop.sheaf(&["send", HOOK, "--sample", "call_endet"]);
    assert!(!unknown.ok);
    let said = "error: there is no sample of \"call_endet\"; `sheaf send calltouch-main --sample` lists those there are\n";
    assert_eq!(unknown.text, said);
    let _server = shop.serve(&[]);
    for words in
        [&["send", HOOK, "--sample", "call_ended"][..], &["send", HOOK, "events/static.form", "--lang", "ru"]]
    {
        let said = shop.sheaf(words);
        assert!(said.ok, "{}", said.text);
        assert_snapshot!(said.text);
    }
    assert_eq!(shop.json(&["ledger"])["connections"][0]["accepted"], 2);
}

#[test]
fn nobody_at_the_hook_is_said() {
    let shop = Shop::after_the_demo();
    let said = shop.sheaf(&["send", HOOK, "events/static.form"]);
    assert!(!said.ok && said.text.starts_with("error: the hook did not answer"), "{}", said.text);
}

#[test]
fn what_cannot_be_read_as_a_databases_url_is_not_repeated_into_the_log() {
    let shop = Shop::with(CALLTOUCH).set("SHEAF_DATABASE", "postgres://sheaf:canary/4711@db/sheaf");
    for words in [&["serve", "DIR"][..], &["ledger"], &["ledger", "--json"]] {
        let said = shop.sheaf(words);
        assert!(
            !said.ok && !said.text.contains("canary") && said.text.contains("--database"),
            "{}",
            said.text
        );
    }
}

#[test]
fn parked_runs_are_given_up_and_it_is_known_by_whom_and_why() {
    // Without its key every call is parked at once.
    let shop = Shop::with(CALLTOUCH).set("MINDBOX_SECRET_KEY", "");
    let _server = shop.serve(&["--watch-ms", "0"]);
    assert!(shop.sheaf(&["send", HOOK, "events/dynamic.form"]).ok);
    let parked = shop
        .until(&["runs", "--state", "parked"], |runs| runs.as_array().is_some_and(|runs| !runs.is_empty()));
    let id = parked[0]["id"].as_str().expect("an id");
    let given_up = shop.sheaf(&["runs", "discard", "--parked", "--why", "test calls"]);
    assert!(given_up.ok);
    assert_eq!(given_up.text, "given up: 1\n");
    let again = shop.sheaf(&["runs", "discard", id]);
    assert!(!again.ok);
    assert_eq!(again.text, format!("given up: 0\n{id}: it is not parked\n"));
    let nothing = shop.sheaf(&["runs", "discard", "--parked"]);
    assert!(!nothing.ok);
    assert_eq!(nothing.text, "error: there are no such runs\n");
    let shown = shop.json(&["runs", "show", id]);
    assert_eq!(
        (&shown["state"], &shown["asked"][0]["action"]),
        (&"discarded".into(), &"discard by alice: test calls".into())
    );
    let line = &shop.json(&["ledger", "--verify"])["connections"][0];
    assert_eq!(
        (&line["parked"], &line["discarded"], &line["decisions_balance"]),
        (&0.into(), &1.into(), &true.into())
    );
}

/// A lead is made, and a task for it by the number that the vendor gave it.
const TWO_STEPS: [(&str, &str); 4] = [
    ("sheaf.yaml", "kind: workspace\nname: shop\ntime_zone: Europe/Moscow\n"),
    (
        "connections/site.yaml",
        "kind: connection\nname: site\nconnector: webhook\nsettings: {fields: {phone: {type: phone, personal: true, title: {en: Phone, ru: Телефон}}}}\n",
    ),
    (
        "connections/crm.yaml",
        "kind: connection\nname: crm\nconnector: http\nsettings: {base_url: 'https://crm.example', parameters: [phone, lead, status], idempotency_header: Idempotency-Key}\n",
    ),
    (
        "bundles/lead.yaml",
        r#"kind: bundle
name: lead
active: true
on: {connection: site, trigger: received}
steps:
  - {name: lead, action: http.request, connection: crm, with: {parameters: {phone: "{{ phone }}"}}}
  - name: task
    action: http.request
    connection: crm
    with: {parameters: {lead: "{{ steps.lead.body.id }}", status: "{{ steps.lead.status }}"}}
"#,
    ),
];

#[test]
fn every_request_of_a_delivered_run_is_shown_also_when_it_read_an_answer_or_was_replayed_as_new() {
    let shop = Shop::of(&TWO_STEPS);
    let vendor = vendor::answering("201 Created", r#"{"id":17}"#);
    let _server = shop.serve(&["--egress-override", &format!("https://crm.example=http://{vendor}")]);
    shop.write("events/lead.json", r#"{"phone":"79990000001"}"#);
    assert!(shop.sheaf(&["send", "site", "events/lead.json"]).ok);
    let delivered = ["runs", "--state", "delivered"];
    let runs = shop.until(&delivered, |runs| runs.as_array().is_some_and(|runs| !runs.is_empty()));
    let id = runs[0]["id"].as_str().expect("an id");
    assert_snapshot!(shop.redacted(&shop.sheaf(&["runs", "show", id]).text));
    assert!(shop.sheaf(&["runs", "replay", id, "--new"]).ok);
    let again = |runs: &serde_json::Value| runs[0]["generation"] == 1;
    shop.until(&delivered, again);
    let shown = shop.json(&["runs", "show", id]);
    let attempts = shown["attempts"].as_array().expect("attempts");
    let deliveries =
        attempts.iter().flat_map(|attempt| attempt["deliveries"].as_array().expect("deliveries"));
    let requests: Vec<_> = deliveries.map(|delivery| &delivery["request"]).collect();
    assert_eq!(requests.len(), 4, "{shown:#}");
    assert!(
        requests.iter().all(|request| request["hash"].is_null() && request["body"].is_object()),
        "{shown:#}"
    );
    let keys: std::collections::BTreeSet<_> =
        requests.iter().map(|request| request["headers"]["Idempotency-Key"].to_string()).collect();
    assert_eq!(keys.len(), 4, "each step has a key of its own in each generation: {keys:?}");
}
