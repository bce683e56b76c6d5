//! What the settings of a connection do: to its hook, to its requests, and what is said when they are wrong.

use std::sync::Arc;

use sheaf_bundles::{
    catalog::Catalog,
    compile::{Integration, compile},
    connection::Placement,
    diagnostic::{Diagnostics, Sources, code::Code, render},
    hook::{Content, DedupeFields, HmacStyle, Hook, SourceCheck},
    request::{Encoding, Piece},
    words::Language,
};

fn compiled(connection: &str) -> (Option<Integration>, Sources, Diagnostics) {
    let (catalog, sources, out) = Catalog::load(sheaf_connectors::builtin());
    assert!(out.is_empty(), "{}", render::text(&sources, &out, Language::En, false));
    let workspace = "kind: workspace\nname: test\ntime_zone: Europe/Moscow\n";
    let files = [
        ("sheaf.yaml", workspace.to_owned()),
        ("connections/c.yaml", format!("kind: connection\nname: c\n{connection}")),
    ];
    compile(&files, &catalog)
}

fn integration(connection: &str) -> Integration {
    let (integration, sources, out) = compiled(connection);
    assert!(out.is_empty(), "{}", render::text(&sources, &out, Language::En, false));
    integration.expect("a workspace")
}

fn hook(connection: &str) -> Arc<Hook> {
    Arc::clone(integration(connection).hook("c").expect("a hook"))
}

/// Code and the text under it, of everything that is wrong.
fn wrong(connection: &str) -> Vec<(Code, String)> {
    let (_, sources, out) = compiled(connection);
    out.sorted().iter().map(|found| (found.code, sources.slice(found.span).to_owned())).collect()
}

#[test]
fn attributes_become_fields_also_by_their_bare_names() {
    let hook = hook("connector: calltouch\nsettings: {attributes: [mindboxDeviceUUID]}\n");
    assert!(hook.fields.iter().any(|field| field.field.name == "attrs.mindboxDeviceUUID"));
    assert_eq!(hook.aliases[0].0, "mindboxDeviceUUID");
    assert_eq!(hook.aliases[0].1.to_string(), "attrs.mindboxDeviceUUID");
    assert_eq!(hook.closed.as_deref(), Some("attrs"));
}

#[test]
fn a_local_time_takes_its_connections_zone_and_else_the_workspaces() {
    let zone = |settings: &str| {
        let integration = integration(&format!("connector: calltouch\nsettings: {{{settings}}}\n"));
        integration.connection("c").expect("a connection").time_zone.clone()
    };
    assert_eq!(zone("time_zone: Asia/Omsk"), "Asia/Omsk");
    assert_eq!(zone("site_id: 1"), "Europe/Moscow");
}

#[test]
fn calltouchs_hook_takes_both_methods_and_tells_repeats_by_all_but_the_volatile() {
    let hook = hook("connector: calltouch\nsettings: {addresses: [92.118.66.0/23, \"2001:db8::/32\"]}\n");
    assert_eq!(hook.methods, ["POST", "GET"]);
    assert_eq!(hook.content, [Content::Form, Content::Query, Content::Json]);
    assert_eq!(hook.triggers.len(), 10);
    assert_eq!(hook.answer.status, 200);
    let dedupe = hook.dedupe.as_ref().expect("a rule");
    assert_eq!(dedupe.window_ms, 35 * 86_400_000);
    assert_eq!(
        dedupe.fields,
        DedupeFields::AllExcept(vec!["reclink".to_owned(), "sendingTimestamp".to_owned()])
    );
    assert!(
        matches!(&hook.checks[..], [SourceCheck::Addresses(networks)] if networks.len() == 2 && networks[0].prefix == 23)
    );
}

#[test]
fn with_reprocess_only_a_request_repeated_as_it_was_within_a_minute_is_a_repeat() {
    let rule =
        |connection: &str| hook(connection).dedupe.as_ref().map(|rule| (rule.fields.clone(), rule.window_ms));
    let all = Some((DedupeFields::AllExcept(Vec::new()), 60_000));
    assert_eq!(rule("connector: calltouch\nsettings: {on_resend: reprocess}\n"), all);

    let webhook = |settings: &str| {
        rule(&format!("connector: webhook\nsettings: {{fields: {{n: {{type: text}}}}{settings}}}\n"))
    };
    assert_eq!(webhook(", on_resend: reprocess, dedupe: [n]"), all);
    assert_eq!(webhook(", on_resend: reprocess"), None, "a webhook that names no fields tells no repeats");
    assert_eq!(webhook(""), None);
    let only = DedupeFields::Only(vec!["n".to_owned()]);
    assert_eq!(webhook(", dedupe: [n]"), Some((only, 35 * 86_400_000)));
}

#[test]
fn renamed_and_unticked_parameters_are_known_to_decoding() {
    let hook =
        hook("connector: calltouch\nsettings: {renames: {callerphone: phone}, unticked: [userAgent]}\n");
    assert_eq!(hook.renames, [("phone".to_owned(), "callerphone".to_owned())]);
    let unticked: Vec<_> =
        hook.fields.iter().filter(|field| field.unticked).map(|field| &field.field.name).collect();
    assert_eq!(unticked, ["userAgent"]);
}

#[test]
fn what_is_wrong_with_a_setting_is_said_at_the_setting() {
    assert_eq!(
        wrong("connector: calltouch\nsettings: {addresses: [92.118.66.0/33]}\n"),
        [(Code::BadValue, "[92.118.66.0/33]".to_owned())]
    );
    for blank in [r#"[""]"#, "[92.118.66.0/23, '']"] {
        assert_eq!(
            wrong(&format!("connector: calltouch\nsettings: {{addresses: {blank}}}\n")),
            [(Code::BadValue, blank.to_owned())]
        );
    }
    assert_eq!(
        wrong("connector: calltouch\nsettings: {unticked: [userAgnt]}\n"),
        [(Code::UnknownField, "[userAgnt]".to_owned())]
    );
    assert_eq!(wrong("connector: caltouch\n"), [(Code::UnknownConnector, "caltouch".to_owned())]);
    assert_eq!(wrong("connector: calltouch\nsettings: {site: 1}\n"), [(Code::UnknownKey, "site".to_owned())]);
    assert_eq!(
        wrong("connector: mindbox\nsettings: {endpoint_id: x}\nsecrets: {secret_key: abc}\n"),
        [(Code::SecretValue, "abc".to_owned())]
    );
    assert_eq!(wrong("connector: mindbox\nsettings: {endpoint_id: x}\n").len(), 1);
}

#[test]
fn a_setting_that_cannot_stand_in_a_request_is_found_before_anything_is_sent() {
    let said = |settings: &str| {
        let secrets = "secrets: {token: {env: X}}";
        wrong(&format!(
            "connector: http\nsettings: {{base_url: 'https://x.example', {settings}}}\n{secrets}\n"
        ))
    };
    let bad = |text: &str| vec![(Code::BadHeader, text.to_owned())];
    assert_eq!(said("idempotency_header: Idempotency Key"), bad("Idempotency Key"));
    assert_eq!(said("idempotency_header: Host"), bad("Host"));
    assert_eq!(said("authentication: header, auth_header: Content-Length"), bad("Content-Length"));
    assert_eq!(said(r#"media_type: "text/plain\nX: y""#), bad(r#""text/plain\nX: y""#));
    assert_eq!(said("idempotency_header: Idempotency-Key, media_type: text/csv"), []);
}

#[test]
fn a_hook_that_takes_get_and_does_not_read_the_query_is_warned_of() {
    let said = |settings: &str| wrong(&format!("connector: webhook\nsettings: {{{settings}}}\n"));
    assert_eq!(said("methods: [GET]"), [(Code::QueryNotRead, "[GET]".to_owned())]);
    assert_eq!(said("methods: [GET], content: [json, query]"), []);
    assert_eq!(said("methods: [PUT]"), []);
}

#[test]
fn a_signed_hook_that_reads_the_query_is_warned_of() {
    let said = |settings: &str| {
        wrong(&format!(
            "connector: webhook\nsettings: {{{settings}}}\nsecrets: {{signing_key: {{env: X}}, token: {{env: Y}}}}\n"
        ))
    };
    for style in ["standard_webhooks", "github", "timestamped"] {
        assert_eq!(
            said(&format!("authentication: hmac, signature: {style}, content: [json, query]")),
            [(Code::UnsignedQuery, "[json, query]".to_owned())]
        );
    }
    assert_eq!(said("authentication: hmac, content: [json, form]"), []);
    assert_eq!(said("authentication: header, content: [json, query]"), []);
}

#[test]
fn a_webhook_checks_its_sender_the_way_its_connection_says() {
    let checks = |settings: &str, secret: &str| {
        let text =
            format!("connector: webhook\nsettings: {{{settings}}}\nsecrets: {{{secret}: {{env: X}}}}\n");
        hook(&text).checks.clone()
    };
    assert_eq!(
        checks("authentication: header, header: X-Token, header_prefix: 'Bearer '", "token"),
        [SourceCheck::Header {
            name: "x-token".to_owned(),
            prefix: "Bearer ".to_owned(),
            secret: "token".to_owned()
        }]
    );
    assert_eq!(
        checks("authentication: basic, user: shop", "password"),
        [SourceCheck::Basic { user: "shop".to_owned(), secret: "password".to_owned() }]
    );
    let style = |signature: &str| match checks(
        &format!("authentication: hmac, signature: {signature}"),
        "signing_key",
    )
    .pop()
    {
        Some(SourceCheck::Hmac { style, tolerance_ms: 300_000, .. }) => style,
        other => panic!("{other:?}"),
    };
    assert_eq!(style("standard_webhooks"), HmacStyle::StandardWebhooks);
    assert_eq!(style("github"), HmacStyle::Github { header: "x-hub-signature-256".to_owned() });
    assert_eq!(style("timestamped"), HmacStyle::Timestamped { header: "x-hub-signature-256".to_owned() });
    assert_eq!(
        wrong("connector: webhook\nsettings: {authentication: basic, user: shop}\n"),
        [(Code::UnknownSecret, "c".to_owned())]
    );
}

#[test]
fn mindboxs_authorization_is_spelt_as_the_connection_says() {
    let header = |settings: &str| {
        let text = format!(
            "connector: mindbox\nsettings: {{endpoint_id: x{settings}}}\nsecrets: {{secret_key: {{env: X}}}}\n"
        );
        let integration = integration(&text);
        match &integration.connection("c").expect("a connection").authentication[..] {
            [Placement::Header { name, value }] => (name.clone(), value.clone()),
            other => panic!("{other:?}"),
        }
    };
    let key = || Piece::Secret { name: "secret_key".into(), encoding: Encoding::Plain };
    let text = |text: &str| Piece::Text(text.into());
    assert_eq!(
        header(""),
        ("Authorization".to_owned(), vec![text("Mindbox secretKey=\""), key(), text("\"")])
    );
    assert_eq!(
        header(", authorization: secret_key"),
        ("Authorization".to_owned(), vec![text("SecretKey "), key()])
    );
}
