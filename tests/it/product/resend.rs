use sheaf_tests::calltouch::{Calltouch, Method, Moment, Payload};

use super::world::World;

const REPROCESS: (&str, &str) = (
    "connections/calltouch-main.yaml",
    "kind: connection\nname: calltouch-main\nconnector: calltouch\n\
     settings: {site_id: 12345, attributes: [mindboxDeviceUUID], on_resend: reprocess}\n",
);

/// Every moment of one call, and the end of the call under the other attribution model.
async fn send_all(calltouch: &Calltouch) -> usize {
    let moments = Moment::ALL.into_iter().filter(|moment| *moment != Moment::RequestCreated);
    let mut sends: Vec<_> = moments.map(|moment| (moment, Payload::call(moment, 700_101))).collect();
    sends.push((Moment::CallEnded, Payload::call(Moment::CallEnded, 700_101).set("attribution", "0")));
    sends.push((
        Moment::TagsChanged,
        Payload::call(Moment::TagsChanged, 700_101).set("tags_manual", "VIP,спор"),
    ));
    sends.push((Moment::RequestCreated, Payload::request(Moment::RequestCreated, 501_200)));
    for (moment, payload) in &sends {
        assert!(calltouch.happens(*moment, payload).await.expect("an answer").succeeded());
    }
    sends.len()
}

#[tokio::test]
async fn a_resend_of_everything_is_answered_well_and_is_no_new_event() {
    let world = World::start("calltouch-mindbox").await;
    let calltouch = world.calltouch(Method::Post);
    let sent = i64::try_from(send_all(&calltouch).await).expect("few");
    let before = world.until(|ledger| ledger.pending == 0).await;
    assert_eq!(
        (before.accepted, before.duplicate, before.delivered),
        (sent, 0, 1),
        "one ended call of the model"
    );

    let answers = calltouch.resend().await.expect("answers");
    assert!(answers.iter().all(sheaf_tests::calltouch::Sent::succeeded), "or the vendor would show failures");
    let after = world.ledger().await;
    assert_eq!((after.received, after.accepted, after.duplicate), (2 * sent, sent, sent));
    assert_eq!((after.decisions, after.delivered), (before.decisions, before.delivered));
    assert_eq!(world.mindbox.records().len(), 1);
}

#[tokio::test]
async fn a_resend_is_processed_again_where_the_connection_says_so() {
    let world = World::start_with("calltouch-mindbox", &[REPROCESS]).await;
    let calltouch = world.calltouch(Method::Get);
    let sent = i64::try_from(send_all(&calltouch).await).expect("few");
    calltouch.resend().await.expect("answers");
    let ledger = world.until(|ledger| ledger.pending == 0).await;
    assert_eq!((ledger.accepted, ledger.duplicate, ledger.delivered), (2 * sent, 0, 2));
    let records = world.requests(2).await;
    let key = |index: usize| records[index].parameter("transactionId");
    assert_ne!(key(0), key(1), "another event, another key");
}

#[tokio::test]
async fn turning_the_webhook_on_is_answered_well_and_is_no_event() {
    let world = World::start("calltouch-mindbox").await;
    for method in [Method::Post, Method::Get] {
        assert!(world.calltouch(method).activate().await.expect("an answer").succeeded());
    }
    let sent = i64::try_from(send_all(&world.calltouch(Method::Post)).await).expect("few");
    let ledger = world.ledger().await;
    assert_eq!((ledger.received, ledger.accepted, ledger.quarantined), (sent, sent, 0));
}
