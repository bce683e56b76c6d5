use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use sheaf_tests::{
    calltouch::{DEVICE, Method, Moment, Payload},
    mindbox::Answer,
};

use super::world::World;

/// Longer than the first pauses of the retry schedule with their jitter.
const A_WHILE: Duration = Duration::from_secs(15 * 60);

fn ended(id: u64) -> Payload {
    Payload::call(Moment::CallEnded, id)
}

#[tokio::test]
async fn a_call_reaches_mindbox_by_both_methods_as_nested_json_with_its_device() {
    let world = World::start("calltouch-mindbox").await;
    for (id, method) in [(1, Method::Post), (2, Method::Get)] {
        let calltouch = world.calltouch(method);
        assert!(calltouch.happens(Moment::CallEnded, &ended(id)).await.expect("an answer").succeeded());
    }
    let records = world.requests(2).await;
    for record in &records {
        assert_eq!(record.answer, Answer::Success, "{record:?}");
        assert_eq!(
            (record.path.as_str(), record.parameter("operation")),
            ("/v3/operations/async", Some("CallTouch"))
        );
        assert_eq!(record.parameter("deviceUUID"), Some(DEVICE));
        assert_eq!(record.body["customer"], json!({"mobilePhone": "79990000001"}));
        assert_eq!(record.body["executionDateTimeUtc"], "2026-03-05T07:15:30Z");
    }
    let calls: BTreeSet<_> =
        records.iter().map(|it| it.body["customerAction"]["customFields"]["callId"].to_string()).collect();
    assert_eq!(calls, ["\"1\"", "\"2\""].map(str::to_owned).into());
    let ledger = world.until(|ledger| ledger.pending == 0).await;
    assert_eq!((ledger.received, ledger.accepted, ledger.delivered, ledger.parked), (2, 2, 2, 0));
    assert_eq!(ledger.decisions, ledger.delivered + ledger.filtered);
}

#[tokio::test]
async fn the_recipe_word_for_word_by_http_reaches_mindbox_too() {
    let world = World::start("calltouch-mindbox-http").await;
    let static_call = ended(2).set("sessionId", "").without("attrs");
    let calltouch = world.calltouch(Method::Post);
    for payload in [ended(1), static_call] {
        assert!(calltouch.happens(Moment::CallEnded, &payload).await.expect("an answer").succeeded());
    }
    let records = world.requests(2).await;
    let went: BTreeSet<_> =
        records.iter().map(|it| (it.parameter("operation"), it.parameter("deviceUUID"))).collect();
    assert_eq!(went, BTreeSet::from([(Some("CallTouch"), Some(DEVICE)), (Some("CallTouchStatic"), None)]));
    assert!(records.iter().all(|it| it.answer == Answer::Success), "{records:?}");
    assert_eq!(world.until(|ledger| ledger.pending == 0).await.delivered, 2);
}

#[tokio::test]
async fn a_failure_and_a_lost_answer_are_repeated_later_with_the_same_transaction_and_counted_once() {
    let world = World::start("calltouch-mindbox").await;
    world.mindbox.script([Answer::InternalServerError(503), Answer::Lost]);
    world.calltouch(Method::Post).happens(Moment::CallEnded, &ended(1)).await.expect("an answer");
    for attempt in 1..=3 {
        assert_eq!(world.requests(attempt).await.len(), attempt, "nothing is repeated before its time");
        // The failed attempt is settled only a little after its answer; then its next time is known.
        world.attempted(attempt).await;
        world.pass(A_WHILE);
    }
    let ledger = world.until(|ledger| ledger.pending == 0).await;
    assert_eq!((ledger.delivered, ledger.parked), (1, 0));
    let records = world.mindbox.records();
    let answers: Vec<&Answer> = records.iter().map(|it| &it.answer).collect();
    assert_eq!(answers, [&Answer::InternalServerError(503), &Answer::Lost, &Answer::AlreadyProcessed(200)]);
    let keys: BTreeSet<_> = records.iter().map(|it| it.parameter("transactionId")).collect();
    assert!(keys.len() == 1 && !keys.contains(&None), "{keys:?}");
    let bodies: Vec<_> = records.iter().map(|it| &it.body).collect();
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "a repeat is the same request");
}

#[tokio::test]
async fn data_that_mindbox_does_not_take_waits_for_a_person_although_its_status_is_200() {
    let world = World::start("calltouch-mindbox").await;
    let calltouch = world.calltouch(Method::Post);
    calltouch.happens(Moment::CallEnded, &ended(1).set("callerphone", "anonymous")).await.expect("an answer");
    let ledger = world.until(|ledger| ledger.pending == 0).await;
    assert_eq!((ledger.delivered, ledger.parked), (0, 1));
    assert_eq!(world.mindbox.records().len(), 1, "and is not repeated");
}

#[tokio::test]
async fn each_status_of_mindbox_leads_to_what_its_manifest_says() {
    let refused = |status| Answer::ProtocolError { status, message: "no".to_owned() };
    for (answer, delivered, parked, pending) in [
        (Answer::Success, 1, 0, 0),
        (Answer::AlreadyProcessed(409), 1, 0, 0),
        (refused(400), 0, 1, 0),
        (refused(404), 0, 1, 0),
        (refused(409), 0, 1, 0),
        (refused(429), 0, 0, 1),
        (Answer::InternalServerError(500), 0, 0, 1),
        (Answer::InternalServerError(503), 0, 0, 1),
        (Answer::Empty(200), 0, 0, 1),
    ] {
        let world = World::start("calltouch-mindbox").await;
        world.mindbox.script([answer.clone()]);
        world.calltouch(Method::Post).happens(Moment::CallEnded, &ended(1)).await.expect("an answer");
        world.requests(1).await;
        world.attempted(1).await;
        let ledger = world.ledger().await;
        assert_eq!(
            (ledger.delivered, ledger.parked, ledger.pending),
            (delivered, parked, pending),
            "{answer:?}"
        );
    }
}
