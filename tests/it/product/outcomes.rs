//! What becomes of a run when a step does not succeed, over real HTTP.

use std::time::Duration;

use sheaf_runtime::queue::history::{RunDetail, RunStateName};
use sheaf_tests::{
    calltouch::{Method, Moment, Payload},
    receiver::{Behaviour, Receiver},
    wire::Message,
};

use super::world::World;

/// Nothing here takes as long unless it is broken.
const BROKEN_AFTER: Duration = Duration::from_secs(20);
/// Jitter lengthens a wait by a tenth at most.
const JITTER: f64 = 1.1;

/// A vendor without idempotency keys that says in its answers which class they are of.
const CONNECTOR: &str = r#"
kind: connector
name: vendor
title: {en: Vendor, ru: Сервис}
settings:
  base_url: {type: url, default: "https://vendor.example", title: {en: Address, ru: Адрес}}
actions:
  create:
    title: {en: Create a lead, ru: Создать лид}
    input:
      path: {type: text, default: leads, title: {en: Path, ru: Путь}}
      lead: {type: any, required: true, title: {en: Lead, ru: Лид}}
    request:
      url: "{{ connection.settings.base_url }}/{{ input.path }}"
      body: {lead: "{{ input.lead }}"}
verdicts:
  - {when: 'response.body.say = "refused"', verdict: bad_request}
"#;

const CONNECTION: &str = "kind: connection\nname: vendor-main\nconnector: vendor\n";

/// A vendor, and a server whose bundle for calls has these steps.
async fn start(steps: &str) -> (World, Receiver) {
    let vendor = Receiver::start().await.expect("a vendor");
    let bundle = format!(
        "kind: bundle\nname: leads\non: {{connection: calltouch-main, trigger: call_ended}}\n\
         filter: sessionId is not empty\n{steps}"
    );
    let files = [
        ("connectors/vendor/connector.yaml", CONNECTOR),
        ("connections/vendor-main.yaml", CONNECTION),
        // In the place of the only bundle of the example that takes such a call.
        ("bundles/mindbox-dynamic.yaml", &bundle),
    ];
    let origin = vendor.origin();
    let world = World::start_set("calltouch-mindbox", &files, &[], |config| {
        config.egress_override.push(format!("https://vendor.example={origin}").parse().expect("an override"));
    })
    .await;
    (world, vendor)
}

/// A call comes in.
async fn call(world: &World) {
    let payload = Payload::call(Moment::CallEnded, 1);
    let sent = world.calltouch(Method::Post).happens(Moment::CallEnded, &payload).await;
    assert!(sent.expect("an answer").succeeded());
}

/// The requests the vendor got, once there are so many.
async fn requests(vendor: &Receiver, count: usize) -> Vec<Message> {
    tokio::time::timeout(BROKEN_AFTER, vendor.at_least(count)).await.expect("so many requests")
}

fn paths(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(Message::path).collect()
}

fn say(what: &str) -> Behaviour {
    Behaviour::Status(200, format!(r#"{{"say":"{what}"}}"#))
}

fn failure() -> Behaviour {
    Behaviour::Status(503, "{}".to_owned())
}

/// How the deliveries of an attempt were judged, by step.
fn judged(run: &RunDetail, attempt: usize) -> Vec<(&str, &str)> {
    let deliveries = run.attempts[attempt].deliveries.iter();
    deliveries.map(|delivery| (delivery.step.as_str(), delivery.class.name())).collect()
}

#[tokio::test]
async fn a_step_is_repeated_on_its_own_schedule_and_then_parked() {
    let (world, vendor) = start(
        "steps:\n  - {name: create, action: vendor.create, connection: vendor-main, retry: {after: [1m, 2h]}, with: {lead: '{{ id }}'}}\n",
    )
    .await;
    vendor.otherwise(failure());
    call(&world).await;
    for (attempt, wait) in [(1, Duration::from_secs(60)), (2, Duration::from_secs(7_200))] {
        let run = world.attempted(attempt).await;
        let due_ms = run.summary.due_ms.expect("it is pending") - world.now_ms();
        let wait_ms = wait.as_millis() as i64;
        assert!((wait_ms..=(wait_ms as f64 * JITTER) as i64).contains(&due_ms), "{due_ms}");
        assert_eq!(vendor.messages().len(), attempt);
        world.pass(wait.mul_f64(JITTER));
    }
    let run = world.attempted(3).await;
    assert_eq!(run.summary.state, RunStateName::Parked);
    assert!(
        run.summary.reason.as_deref().is_some_and(|reason| reason.starts_with("given up after 2 retries"))
    );
    let bodies: Vec<_> = vendor.messages().into_iter().map(|message| message.body).collect();
    assert_eq!(bodies.len(), 3);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "a repeat is the same request");
}

#[tokio::test]
async fn a_step_that_may_fail_does_not_hold_up_the_next_and_the_run_says_so() {
    let (world, vendor) = start(
        r#"retry: none
steps:
  - {name: mark, action: vendor.create, connection: vendor-main, on_failure: continue, with: {path: marks, lead: "{{ id }}"}}
  - name: create
    action: vendor.create
    connection: vendor-main
    with: {lead: {value: "{{ steps.mark.status }}", default: unmarked}}
"#,
    )
    .await;
    vendor.script([say("refused")]);
    call(&world).await;
    let messages = requests(&vendor, 2).await;
    assert_eq!(paths(&messages), ["/marks", "/leads"]);
    assert_eq!(String::from_utf8_lossy(&messages[1].body), r#"{"lead":"unmarked"}"#, "there is no answer");
    let ledger = world.until(|ledger| ledger.pending == 0).await;
    assert_eq!((ledger.delivered, ledger.parked), (1, 0));
    let run = world.attempted(1).await;
    assert!(run.summary.is_in_part());
    assert!(run.summary.reason.as_deref().is_some_and(|reason| reason.starts_with("the step `mark` failed")));
    assert_eq!(judged(&run, 0), [("mark", "bad_request"), ("create", "ok")]);
}

#[tokio::test]
async fn other_steps_are_run_once_a_step_has_failed_for_good_also_after_a_restart() {
    let (world, vendor) = start(
        r#"steps:
  - name: create
    action: vendor.create
    connection: vendor-main
    retry: {after: [5s]}
    on_failure:
      steps:
        - {name: mail, action: vendor.create, connection: vendor-main, with: {path: mails, lead: "{{ id }}"}}
        - {name: tell, action: vendor.create, connection: vendor-main, with: {path: tells, lead: "{{ id }}"}}
    with: {lead: "{{ id }}"}
  - {name: after, action: vendor.create, connection: vendor-main, with: {path: after, lead: "{{ id }}"}}
"#,
    )
    .await;
    let well = Behaviour::success;
    vendor.script([failure(), failure(), well(), failure(), well()]);
    call(&world).await;
    world.attempted(1).await;
    world.pass(Duration::from_secs(6));
    let run = world.attempted(2).await;
    assert_eq!(run.summary.state, RunStateName::Pending, "the second of the other steps waits");
    let world = world.restart().await;
    world.pass(Duration::from_secs(6));
    let run = world.attempted(3).await;
    assert_eq!(paths(&vendor.messages()), ["/leads", "/leads", "/mails", "/tells", "/tells"]);
    assert!(run.summary.is_in_part(), "{:?}", run.summary);
    assert_eq!(judged(&run, 1), [("create", "retry"), ("mail", "ok"), ("tell", "retry")]);
    let ledger = world.ledger().await;
    assert_eq!((ledger.delivered, ledger.parked, ledger.pending), (1, 0, 0));
}

#[tokio::test]
async fn a_run_whose_first_step_succeeds_runs_no_step_for_failures_and_is_delivered_whole() {
    let (world, vendor) = start(
        r#"steps:
  - name: create
    action: vendor.create
    connection: vendor-main
    on_failure: {steps: [{name: mail, action: vendor.create, connection: vendor-main, with: {path: mails, lead: "{{ id }}"}}]}
    with: {lead: "{{ id }}"}
"#,
    )
    .await;
    call(&world).await;
    world.until(|ledger| ledger.delivered == 1).await;
    assert_eq!(paths(&vendor.messages()), ["/leads"]);
    let run = world.attempted(1).await;
    assert_eq!((run.summary.is_in_part(), run.summary.reason), (false, None));
}
