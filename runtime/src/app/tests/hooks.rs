//! What comes to a hook: who is let in, what is kept, how it is answered.

use super::*;

#[tokio::test]
async fn whatever_is_no_hook_of_ours_gets_one_and_the_same_answer() {
    let world = World::new().await;
    let running = world.start().await;
    let good = world.hook(&running);
    let mut answers = std::collections::BTreeSet::new();
    let wrong = [
        "/".to_owned(),
        "/hooks/".to_owned(),
        "/hooks/short".to_owned(),
        format!("/hooks/{}", "a".repeat(32)),
        format!("{good}a"),
        format!("{good}/"),
        good.to_uppercase(),
        good.replace("/hooks/", "/hook/"),
        "/metrics".to_owned(),
        "/readyz".to_owned(),
    ];
    for path in &wrong {
        for method in ["GET", "POST", "DELETE"] {
            let answer = send(&running, method, path, "", "").await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
            let told: Vec<&str> = answer.lines().filter(|line| !line.starts_with("date:")).collect();
            answers.insert(told.join("\n"));
        }
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(send(&running, "DELETE", &good, "", "").await.starts_with("HTTP/1.1 405 "));
    assert!(
        send(&running, "POST", &good, "Content-Encoding: gzip\r\n", "x").await.starts_with("HTTP/1.1 415 ")
    );
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_and_answered_ok_and_a_probe_is_no_event() {
    let world = World::new().await;
    let running = world.start().await;
    let hook = world.hook(&running);
    for broken in ["{\"number\": ", "[1]", "\u{0}\u{1}", &format!("{}1{}", "[".repeat(200), "]".repeat(200))]
    {
        assert!(is_ok(&post(&running, &hook, broken).await), "{broken:?}");
    }
    for nothing in ["", "{}"] {
        assert!(is_ok(&post(&running, &hook, nothing).await), "{nothing:?}");
    }
    let line = ledger(running.queue().store()).await;
    assert_eq!((line.received, line.quarantined, line.accepted), (4, 4, 0));
    running.stop().await;
}

#[tokio::test]
async fn what_was_sent_without_a_name_is_kept_and_not_taken_for_somebody_trying_the_address() {
    let world = World::new().await;
    world.write(
        "connections/shop.yaml",
        &format!("kind: connection\nname: shop\nconnector: webhook\nsettings:\n  content: [form, json, query]\n{FIELDS}"),
    );
    let running = world.start().await;
    let hook = world.hook(&running);
    for (query, body) in [
        ("", "=hello"),
        ("", "&&"),
        ("", "=a&=b"),
        ("?=hello", ""),
        ("?=a", "{}"),
        ("?=a", "=b"),
        ("?number=1", "=hello"),
    ] {
        let answer = send(&running, "POST", &format!("{hook}{query}"), "", body).await;
        assert!(is_ok(&answer), "{query} {body}: {answer}");
    }
    let line = ledger(running.queue().store()).await;
    assert_eq!((line.received, line.quarantined, line.accepted), (7, 6, 1));
    running.stop().await;
}

#[tokio::test]
async fn parameters_in_a_query_that_is_not_read_are_kept_and_it_is_said_what_to_write() {
    let world = World::new().await;
    let running = world.start().await;
    let hook = format!("{}?phone=79990000001&order=5", world.hook(&running));
    for body in ["", "{}"] {
        assert!(is_ok(&post(&running, &hook, body).await), "{body:?}");
    }
    let line = ledger(running.queue().store()).await;
    assert_eq!((line.received, line.quarantined, line.accepted), (2, 2, 0));
    let all = EventFilter { limit: 10, ..EventFilter::default() };
    for event in running.queue().store().events(&all).await.unwrap() {
        let reason = event.quarantined.unwrap();
        assert!(reason.contains("query") && reason.contains("`content`"), "{reason}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_request_whose_parameters_nobody_declared_is_an_event_and_not_a_probe() {
    let world = World::new().await;
    let running = world.start().await;
    let hook = world.hook(&running);
    assert!(is_ok(&post(&running, &hook, r#"{"renamed_at_the_vendor": "A-1"}"#).await));
    let line = ledger(running.queue().store()).await;
    assert_eq!((line.received, line.accepted), (1, 1));
    running.stop().await;
}

#[tokio::test]
async fn what_is_sent_again_is_processed_again_where_the_connection_says_so_but_for_a_clients_own_repeat() {
    let world = World::new().await;
    world.write(
        "connections/shop.yaml",
        &format!("kind: connection\nname: shop\nconnector: webhook\nsettings:\n  dedupe: [number]\n  on_resend: reprocess\n{FIELDS}"),
    );
    let running = world.start().await;
    let hook = world.hook(&running);
    let counts = async || {
        let line = ledger(running.queue().store()).await;
        (line.accepted, line.duplicate)
    };
    let order = r#"{"number": "A-1"}"#;
    for (advance_ms, expected) in [(0, (1, 0)), (30_000, (1, 1)), (31_000, (2, 1)), (1_000, (2, 2))] {
        world.set.advance_ms(advance_ms);
        assert!(is_ok(&post(&running, &hook, order).await));
        assert_eq!(counts().await, expected, "{advance_ms} ms later");
    }
    assert!(is_ok(&post(&running, &hook, r#"{"number": "A-1", "sent": 2}"#).await));
    assert_eq!(counts().await, (3, 2));
    running.stop().await;
}

#[tokio::test]
async fn a_sender_that_is_not_proven_is_refused_before_anything_is_stored() {
    let world = World::new().await;
    world.write(
        "connections/shop.yaml",
        &format!("kind: connection\nname: shop\nconnector: webhook\nsettings:\n  authentication: header\n{FIELDS}secrets:\n  token: {{env: SHOP_TOKEN}}\n"),
    );
    let running = world.start().await;
    let hook = world.hook(&running);
    for headers in ["", "X-Webhook-Token: wrong\r\n", "X-Webhook-Token:\r\n"] {
        let answer = send(&running, "POST", &hook, headers, r#"{"number": "A-1"}"#).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(!answer.contains(CANARY));
    }
    assert_eq!(
        running.queue().store().ledger().await.unwrap().iter().map(|line| line.received).sum::<i64>(),
        0
    );
    let headers = format!("Content-Type: application/json\r\nX-Webhook-Token: {CANARY}\r\n");
    assert!(is_ok(&send(&running, "POST", &hook, &headers, r#"{"number": "A-1"}"#).await));
    running.stop().await;
    assert!(!contains(&world.kept(), CANARY), "the header that proves the sender is not stored");
}

#[tokio::test]
async fn a_header_that_is_kept_with_events_is_not_when_it_proves_the_sender() {
    let world = World::new().await;
    world.write(
        "connections/shop.yaml",
        &format!("kind: connection\nname: shop\nconnector: webhook\nsettings:\n  authentication: header\n  header: X-Request-Id\n{FIELDS}secrets:\n  token: {{env: SHOP_TOKEN}}\n"),
    );
    let running = world.start().await;
    let headers = format!("Content-Type: application/json\r\nX-Request-Id: {CANARY}\r\n");
    assert!(is_ok(&send(&running, "POST", &world.hook(&running), &headers, r#"{"number": "A-1"}"#).await));
    assert_eq!(ledger(running.queue().store()).await.accepted, 1);
    running.stop().await;
    assert!(!contains(&world.kept(), CANARY));
}

#[tokio::test]
async fn a_hook_answers_as_its_connection_says() {
    let world = World::new().await;
    let answer =
        "  answer_status: 202\n  answer_type: application/json\n  answer_body: '{\"taken\": true}'\n";
    let shop = format!("kind: connection\nname: shop\nconnector: webhook\nsettings:\n{answer}{FIELDS}");
    world.write("connections/shop.yaml", &shop);
    let running = world.start().await;
    let answer = post(&running, &world.hook(&running), r#"{"number": "A-1"}"#).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert!(
        answer.contains("content-type: application/json") && answer.ends_with(r#"{"taken": true}"#),
        "{answer}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_bundle_that_is_not_active_decides_about_nothing() {
    let world = World::new().await;
    world.write("bundles/order.yaml", &bundle("0m", "{{ number }}").replace("active: true", "active: false"));
    let running = world.start().await;
    assert!(is_ok(&post(&running, &world.hook(&running), r#"{"number": "A-1"}"#).await));
    let line = ledger(running.queue().store()).await;
    assert_eq!((line.accepted, line.unrouted, line.decisions), (1, 1, 0));
    running.stop().await;
}

#[tokio::test]
async fn a_parameter_that_a_filter_reads_and_that_did_not_come_is_reported() {
    let world = World::new().await;
    world.write("connections/shop.yaml", "kind: connection\nname: shop\nconnector: calltouch\n");
    let on = "{connection: shop, trigger: call_ended}";
    let step =
        "{name: send, action: http.request, connection: crm, with: {parameters: {number: '{{ id }}'}}}";
    let bundle = format!(
        "kind: bundle\nname: order\nactive: true\non: {on}\nfilter: sessionId is empty\nsteps:\n  - {step}\n"
    );
    world.write("bundles/order.yaml", &bundle);
    let running = world.start().await;
    let hook = world.hook(&running);
    let reported = "sheaf_parameter_absent_total{connection=\"shop\",parameter=\"sessionId\"} 1";
    for (call, is_reported) in [("id=1&sessionId=7", false), ("id=2", true)] {
        let body = format!("leadtype=call&callphase=calldisconnected&changedFields=null&{call}");
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        assert!(is_ok(&send(&running, "POST", &hook, form, &body).await));
        let metrics = page(running.addresses().management, "/metrics").await;
        assert_eq!(metrics.contains(reported), is_reported, "{call}: {metrics}");
    }
    running.stop().await;
}
