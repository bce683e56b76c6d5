//! A directory of two clients' workspaces: each gets its own calls sent with its own secret, and is told of its own troubles.

use std::time::Duration;

use sheaf_tests::{
    calltouch::{Method, Moment, Payload},
    mindbox::Answer,
    receiver::{Behaviour, Receiver},
};

use super::{
    alerts_of_workspaces::{heard, owned},
    outcomes::requests,
    world::World,
};

/// Signing keys, base64 of 24 bytes.
const AGENCY_KEY: &str = "whsec_YWdlbmN5LWFnZW5jeS1hZ2VuY3kt";
const OPTICS_KEY: &str = "whsec_b3B0aWNzLW9wdGljcy1vcHRpY3Mt";
const SECRETS: [(&str, &str); 5] = [
    // What other examples send: nobody here may.
    ("MINDBOX_SECRET_KEY", "of-nobody"),
    ("AGENCY_ALERTS_KEY", AGENCY_KEY),
    ("OPTICS_ALERTS_KEY", OPTICS_KEY),
    ("OPTICS_MINDBOX_KEY", "test-key"),
    ("DENTAL_CRM_TOKEN", "token-of-dental"),
];
/// A little more than one look.
const LOOK: Duration = Duration::from_secs(6);

/// A call of this number, through the hook of a workspace.
async fn call(world: &mut World, workspace: &str, id: u64) {
    world.through(&format!("{workspace}/calltouch-main"));
    let payload = Payload::call(Moment::CallEnded, id);
    let sent = world.calltouch(Method::Post).happens(Moment::CallEnded, &payload).await;
    assert!(sent.expect("an answer").succeeded(), "{workspace}");
}

#[tokio::test]
async fn the_clients_of_an_agency_have_their_own_calls_and_their_own_troubles() {
    let [agency, optics, crm] = [Receiver::start().await, Receiver::start().await, Receiver::start().await]
        .map(|it| it.expect("a receiver"));
    let mut world = World::start_set("agency", &[], &SECRETS, |config| {
        for (name, to) in [("agency", &agency), ("optics", &optics), ("crm", &crm)] {
            let redirected = format!("https://{name}.example={}", to.origin());
            config.egress_override.push(redirected.parse().expect("an override"));
        }
    })
    .await;
    call(&mut world, "optics", 1).await;
    world.requests(1).await;
    assert_eq!(world.until(|ledger| ledger.delivered == 1).await.received, 1);
    call(&mut world, "dental", 1).await;
    let sent = &requests(&crm, 1).await[0];
    assert_eq!(sent.header("authorization"), Some("Bearer token-of-dental"));
    assert_eq!(world.until(|ledger| ledger.delivered == 1).await.received, 1);

    world
        .mindbox
        .script([Answer::ValidationError { message: "no phone".into(), location: "/customer".into() }]);
    call(&mut world, "optics", 2).await;
    world.until(|ledger| ledger.parked == 1).await;
    crm.script([Behaviour::Status(400, "{}".to_owned())]);
    call(&mut world, "dental", 2).await;
    world.until(|ledger| ledger.parked == 1).await;
    world.look_for(LOOK).await;
    requests(&optics, 1).await;
    requests(&agency, 1).await;
    let told = owned(&[("run_parked.opened", "optics", "optics/calls")]);
    assert_eq!(heard(&optics, OPTICS_KEY, &["dental"]), told);
    let told = owned(&[("run_parked.opened", "dental", "dental/calls")]);
    assert_eq!(heard(&agency, AGENCY_KEY, &["optics"]), told, "dental has nobody of its own");
}
