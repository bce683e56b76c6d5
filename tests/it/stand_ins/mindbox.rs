use std::time::Duration;

use serde_json::{Value, json};
use sheaf_tests::{
    mindbox::{Answer, CONTENT_TYPE, Mindbox, Project},
    wire::{self, Client},
};

const TRANSACTION: &str = "5a000000-0000-8000-8000-000000000001";
const SENT: &str = r#"{"customer":{"mobilePhone":"79990000001"}}"#;

/// A request that Mindbox takes; each test spoils one thing.
#[derive(Clone)]
struct Asked {
    method: &'static str,
    target: String,
    authorization: Option<&'static str>,
    content_type: &'static str,
    body: &'static str,
}

fn good() -> Asked {
    Asked {
        method: "POST",
        target: format!(
            "/v3/operations/async?endpointId=shop-site&operation=CallTouch&transactionId={TRANSACTION}"
        ),
        authorization: Some("Mindbox secretKey=\"test-key\""),
        content_type: CONTENT_TYPE,
        body: SENT,
    }
}

async fn ask(mindbox: &Mindbox, asked: &Asked) -> (u16, Value) {
    let address = mindbox.origin().trim_start_matches("http://").parse().expect("an address");
    let mut headers = vec![("Content-Type", asked.content_type), ("Accept", "application/json")];
    headers.extend(asked.authorization.map(|value| ("Authorization", value)));
    let request = wire::request(asked.method, &asked.target, &headers, asked.body.as_bytes());
    let answer =
        Client::connect(address).await.expect("a connection").exchange(&request).await.expect("an answer");
    (answer.status(), serde_json::from_slice(&answer.body).unwrap_or_default())
}

async fn mindbox() -> Mindbox {
    Mindbox::start(Project::default()).await.expect("a stand-in")
}

#[tokio::test]
async fn a_good_request_is_taken_in_both_spellings_of_the_authorization_and_both_kinds_of_operation() {
    let mindbox = mindbox().await;
    for authorization in ["Mindbox secretKey=\"test-key\"", "SecretKey test-key"] {
        for kind in ["async", "sync"] {
            let target = format!("/v3/operations/{kind}?endpointId=shop-site&operation=CallTouchStatic");
            let asked = Asked { authorization: Some(authorization), target, ..good() };
            assert_eq!(ask(&mindbox, &asked).await, (200, json!({"status": "Success"})));
        }
    }
    let records =
        tokio::time::timeout(Duration::from_secs(5), mindbox.at_least(4)).await.expect("four records");
    assert_eq!(records[1].path, "/v3/operations/sync");
    assert_eq!(records[0].parameter("operation"), Some("CallTouchStatic"));
    assert_eq!(records[0].body, json!({"customer": {"mobilePhone": "79990000001"}}));
}

#[tokio::test]
async fn what_mindbox_refuses_is_refused() {
    let mindbox = mindbox().await;
    let to = |query: &str| Asked { target: format!("/v3/operations/async?{query}"), ..good() };
    let spoilt: Vec<(&str, u16, Asked)> = vec![
        ("a GET", 404, Asked { method: "GET", ..good() }),
        ("another path", 404, Asked { target: good().target.replace("v3", "v2"), ..good() }),
        ("no authorization", 401, Asked { authorization: None, ..good() }),
        ("a wrong key", 403, Asked { authorization: Some("SecretKey other"), ..good() }),
        (
            "another case of the scheme",
            403,
            Asked { authorization: Some("mindbox secretKey=\"test-key\""), ..good() },
        ),
        (
            "another case of the key's name",
            403,
            Asked { authorization: Some("Mindbox SecretKey=\"test-key\""), ..good() },
        ),
        ("no quotes", 403, Asked { authorization: Some("Mindbox secretKey=test-key"), ..good() }),
        ("no endpoint", 400, to("operation=CallTouch")),
        ("an unknown endpoint", 403, to("endpointId=other&operation=CallTouch")),
        ("no operation", 400, to("endpointId=shop-site")),
        ("an operation nobody registered", 400, to("endpointId=shop-site&operation=calltouch")),
        ("an empty device", 400, to("endpointId=shop-site&operation=CallTouch&deviceUUID=")),
        (
            "a device twice",
            400,
            to(&format!(
                "endpointId=shop-site&operation=CallTouch&deviceUUID={TRANSACTION}&deviceUUID={TRANSACTION}"
            )),
        ),
        (
            "a transaction that is no GUID",
            400,
            to("endpointId=shop-site&operation=CallTouch&transactionId=1"),
        ),
        ("another content type", 400, Asked { content_type: "application/json", ..good() }),
        ("a body that is not JSON", 400, Asked { body: r#"{"a":1,}"#, ..good() }),
        ("a body that is no object", 400, Asked { body: "[1]", ..good() }),
    ];
    for (what, status, asked) in spoilt {
        let (got, body) = ask(&mindbox, &asked).await;
        assert_eq!((got, body["status"].as_str()), (status, Some("ProtocolError")), "{what}: {body}");
        assert_eq!(body["httpStatusCode"], status, "{what}");
    }
}

#[tokio::test]
async fn a_wrong_phone_is_a_validation_error_with_status_200() {
    let mindbox = mindbox().await;
    let (status, body) =
        ask(&mindbox, &Asked { body: r#"{"customer":{"mobilePhone":"abc"}}"#, ..good() }).await;
    assert_eq!((status, &body["status"]), (200, &json!("ValidationError")));
    assert_eq!(body["validationMessages"][0]["location"], "/customer/mobilePhone");
}

#[tokio::test]
async fn a_transaction_is_processed_once_even_if_its_answer_was_lost() {
    let mindbox = mindbox().await;
    mindbox.script([Answer::InternalServerError(503), Answer::Lost]);
    assert_eq!(ask(&mindbox, &good()).await.0, 503, "a failure does not process it");
    let address = mindbox.origin().trim_start_matches("http://").parse().expect("an address");
    let asked = good();
    let headers = [("Content-Type", CONTENT_TYPE), ("Authorization", "SecretKey test-key")];
    let request = wire::request("POST", &asked.target, &headers, asked.body.as_bytes());
    assert!(Client::connect(address).await.expect("a connection").exchange(&request).await.is_err());
    assert_eq!(ask(&mindbox, &good()).await, (200, json!({"status": "TransactionAlreadyProcessed"})));
}

#[tokio::test]
async fn every_status_of_the_table_comes_on_demand() {
    let mindbox = mindbox().await;
    let protocol = |status| Answer::ProtocolError { status, message: "no".to_owned() };
    let codes = [400, 401, 403, 404, 409, 429];
    mindbox.script(codes.map(protocol));
    for status in codes {
        let (got, body) = ask(&mindbox, &good()).await;
        assert_eq!(
            (got, &body["status"], &body["errorMessage"]),
            (status, &json!("ProtocolError"), &json!("no"))
        );
    }
    mindbox.script([500, 503].map(Answer::InternalServerError));
    for status in [500, 503] {
        let (got, body) = ask(&mindbox, &good()).await;
        assert_eq!((got, &body["status"]), (status, &json!("InternalServerError")));
    }
    mindbox.script([Answer::AlreadyProcessed(409), Answer::Empty(200)]);
    assert_eq!(ask(&mindbox, &good()).await, (409, json!({"status": "TransactionAlreadyProcessed"})));
    assert_eq!(ask(&mindbox, &good()).await, (200, Value::Null));
}
