//! What becomes of a run when a step does not succeed, over real HTTP.

use std::{fs, time::Duration};

use sheaf_bundles::verdict::Class;
use sheaf_runtime::queue::{
    history::{RunDetail, RunStateName},
    types::{Replay, ReplayRefusal},
};
use sheaf_tests::{
    calltouch::{Method, Moment, Payload},
    receiver::{Behaviour, Receiver},
    wire::Message,
};

use super::world::World;

/// Nothing here takes as long unless it is broken.
const BROKEN_AFTER: Duration = Duration::from_secs(20);
/// Longer than any wait.
const A_DAY: Duration = Duration::from_secs(27 * 3_600);
/// Jitter lengthens a wait by a tenth at most.
const JITTER: f64 = 1.1;

/// A vendor without idempotency keys that says in its answers which class they are of.
const CONNECTOR: &str = r#"
kind: connector
name: vendor
title: {en: Vendor, ru: Сервис}
settings:
  base_url: {type: url, default: "https://vendor.example", title: {en: Address, ru: Адрес}}
secrets:
  key: {required: true, title: {en: Key, ru: Ключ}}
secret_hosts: ["{{ connection.settings.base_url }}"]
authentication:
  - headers: {X-Key: "{{ connection.secrets.key }}"}
actions:
  order:
    title: {en: Place an order, ru: Создать заказ}
    input:
      number: {type: text, required: true, title: {en: Number, ru: Номер}}
    request:
      url: "{{ connection.settings.base_url }}/orders"
      body: {number: "{{ input.number }}"}
    probe:
      request: {url: "{{ connection.settings.base_url }}/orders", query: {number: "{{ input.number }}"}}
      found: response.status = 200 and response.body.total > 0
      absent: response.status = 200 and response.body.total = 0
  create:
    title: {en: Create a lead, ru: Создать лид}
    input:
      path: {type: text, default: leads, title: {en: Path, ru: Путь}}
      lead: {type: any, required: true, title: {en: Lead, ru: Лид}}
    request:
      url: "{{ connection.settings.base_url }}/{{ input.path }}"
      body: {lead: "{{ input.lead }}"}
verdicts:
  - {when: 'response.body.say = "rate_limited"', verdict: rate_limited, until: "{{ response.headers.[x-reset] }}"}
  - {when: 'response.body.say = "quota_exhausted"', verdict: quota_exhausted, until: "{{ response.body.until }}"}
"#;

/// The connector with a rule for each class, so that the vendor can say any of them.
fn connector() -> String {
    let rule = |class: &Class| {
        let name = class.name();
        format!("  - {{when: 'response.body.say = \"{name}\"', verdict: {name}}}\n")
    };
    CONNECTOR.trim_start().to_owned() + &Class::ALL.iter().map(rule).collect::<String>()
}

pub const CONNECTION: &str =
    "kind: connection\nname: vendor-main\nconnector: vendor\nsecrets: {key: {env: VENDOR_KEY}}\n";
/// What the vendor asks for.
const KEY: &str = "s3cr3t-of-the-vendor";

/// A vendor, and a server whose bundle for calls has these steps.
async fn start(steps: &str) -> (World, Receiver) {
    start_with(steps, CONNECTION, &[]).await
}

/// The same with another connection and further files.
pub async fn start_with(steps: &str, connection: &str, more: &[(&str, &str)]) -> (World, Receiver) {
    start_sized(steps, connection, more, sheaf_runtime::config::SLOTS).await
}

/// The same with so many runs at once.
pub async fn start_sized(
    steps: &str,
    connection: &str,
    more: &[(&str, &str)],
    slots: usize,
) -> (World, Receiver) {
    let vendor = Receiver::start().await.expect("a vendor");
    let bundle = format!(
        "kind: bundle\nname: leads\non: {{connection: calltouch-main, trigger: call_ended}}\n\
         filter: sessionId is not empty\n{steps}"
    );
    let connector = connector();
    let files = [
        ("connectors/vendor/connector.yaml", connector.as_str()),
        ("connections/vendor-main.yaml", connection),
        // In the place of the only bundle of the example that takes such a call.
        ("bundles/mindbox-dynamic.yaml", &bundle),
    ];
    let files = [&files, more].concat();
    let origin = vendor.origin();
    let world = World::start_set("calltouch-mindbox", &files, &[("VENDOR_KEY", KEY)], |config| {
        config.slots = slots;
        config.egress_override.push(format!("https://vendor.example={origin}").parse().expect("an override"));
    })
    .await;
    (world, vendor)
}

/// A call comes in.
async fn call(world: &World) {
    call_of(world, 1).await;
}

async fn call_of(world: &World, id: u64) {
    let payload = Payload::call(Moment::CallEnded, id);
    let sent = world.calltouch(Method::Post).happens(Moment::CallEnded, &payload).await;
    assert!(sent.expect("an answer").succeeded());
}

/// The requests the vendor got, once there are so many.
pub async fn requests(vendor: &Receiver, count: usize) -> Vec<Message> {
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

/// Creates a lead, with all the defaults.
const LEAD: &str =
    "steps: [{name: create, action: vendor.create, connection: vendor-main, with: {lead: '{{ id }}'}}]\n";

#[tokio::test]
async fn what_is_done_empty_or_done_before_is_delivered_and_not_sent_again() {
    let (world, vendor) = start(LEAD).await;
    for (id, class) in (1..).zip(["ok", "empty", "duplicate_ok"]) {
        vendor.script([say(class)]);
        call_of(&world, id).await;
        let ledger = world.until(|ledger| ledger.pending == 0).await;
        assert_eq!((ledger.delivered, ledger.parked), (id.cast_signed(), 0), "{class}");
        let run = world.attempted(1).await;
        assert_eq!((judged(&run, 0), &run.summary.reason), (vec![("create", class)], &None));
    }
    world.pass(A_DAY);
    world.ledger().await;
    assert_eq!(vendor.messages().len(), 3);
}

#[tokio::test]
async fn an_answer_in_an_old_encoding_or_with_a_byte_order_mark_is_read_and_nothing_is_sent_again() {
    let connection = "kind: connection\nname: vendor-main\nconnector: http\nsettings: {base_url: 'https://vendor.example', \
                      parameters: [id], success: 'response.body.ok = true and response.body.message = \"Принято\"'}\n";
    let steps = "steps: [{name: create, action: http.request, connection: vendor-main, with: {parameters: {id: '{{ id }}'}}}]\n";
    let (world, vendor) = start_with(steps, connection, &[]).await;
    let windows_1251 = b"{\"ok\":true,\"message\":\"\xcf\xf0\xe8\xed\xff\xf2\xee\"}".to_vec();
    let utf_8 = r#"{"ok":true,"message":"Принято"}"#;
    for (id, (content_type, body)) in (1..).zip([
        ("application/json; charset=windows-1251", windows_1251.clone()),
        ("application/json", windows_1251),
        ("application/json; charset=utf-8", format!("\u{feff}{utf_8}").into_bytes()),
        // A server's default that the script behind it does not keep to.
        ("text/html; charset=windows-1251", utf_8.into()),
    ]) {
        let headers = vec![("Content-Type".to_owned(), content_type.to_owned())];
        vendor.script([Behaviour::Answer(200, headers, body)]);
        call_of(&world, id).await;
        let run = world.attempted(1).await;
        assert_eq!((run.summary.state, judged(&run, 0)), (RunStateName::Delivered, vec![("create", "ok")]));
        assert_eq!(vendor.messages().len() as u64, id, "{content_type}");
    }
}

#[tokio::test]
async fn what_a_repeat_cannot_help_waits_for_a_person_at_once_and_is_not_sent_again() {
    let (world, vendor) = start(LEAD).await;
    // The refused authorisation last: nothing else is sent through its connection after that.
    let classes = ["bad_request", "not_found", "plan_denied", "unknown", "auth_broken"];
    for (id, class) in (1..).zip(classes) {
        vendor.script([say(class)]);
        call_of(&world, id).await;
        let ledger = world.until(|ledger| ledger.pending == 0).await;
        assert_eq!((ledger.delivered, ledger.parked), (0, id.cast_signed()), "{class}");
        let run = world.attempted(1).await;
        assert_eq!(judged(&run, 0), [("create", class)]);
        assert!(run.summary.reason.is_some_and(|reason| reason.contains(class)));
    }
    world.pass(A_DAY);
    world.ledger().await;
    assert_eq!(vendor.messages().len(), classes.len());
}

#[tokio::test]
async fn what_passes_is_sent_again_byte_for_byte_on_the_schedule_and_not_before() {
    for class in ["retry", "rate_limited", "quota_exhausted", "auth_refresh"] {
        let (world, vendor) = start(LEAD).await;
        vendor.script([say(class)]);
        call(&world).await;
        let run = world.attempted(1).await;
        let wait_ms = run.summary.due_ms.expect("it is pending") - world.now_ms();
        assert!((5_000..=5_500).contains(&wait_ms), "{class}: {wait_ms}");
        assert_eq!((judged(&run, 0), vendor.messages().len()), (vec![("create", class)], 1));
        world.pass(Duration::from_millis(5_500));
        let run = world.attempted(2).await;
        assert_eq!(run.summary.state, RunStateName::Delivered, "{class}");
        let messages = vendor.messages();
        assert_eq!((messages.len(), &messages[0].body), (2, &messages[1].body), "{class}");
    }
}

#[tokio::test]
async fn a_vendor_that_says_until_when_is_left_alone_until_then() {
    let date = ("Date", "Thu, 05 Mar 2026 07:15:00 GMT");
    for (class, headers, until, wait_s) in [
        ("rate_limited", [("X-Reset", "90"), date], "", 90),
        ("rate_limited", [("X-Reset", "1772695200"), date], "", 300),
        ("rate_limited", [("Retry-After", "45"), date], "", 45),
        ("quota_exhausted", [("Retry-After", "45"), date], "2026-03-05T12:15:00+03:00", 7_200),
        ("quota_exhausted", [("Retry-After", "45"), date], "2026-04-01T00:00:00Z", 86_400),
        ("retry", [("Retry-After", "0"), date], "", 1),
    ] {
        let (world, vendor) = start(LEAD).await;
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let body = format!(r#"{{"say":"{class}","until":"{until}"}}"#);
        vendor.script([Behaviour::Answer(429, headers.to_vec(), body.into_bytes())]);
        call(&world).await;
        let run = world.attempted(1).await;
        let wait_ms = run.summary.due_ms.expect("it is pending") - world.now_ms();
        let most_ms = (f64::from(wait_s) * 1_000.0 * JITTER) as i64;
        assert!((i64::from(wait_s) * 1_000..=most_ms).contains(&wait_ms), "{class} {until}: {wait_ms}");
    }
}

#[tokio::test]
async fn stale_access_is_read_anew_before_the_repeat() {
    let connection = CONNECTION.replace("{env: VENDOR_KEY}", "{file: vendor.key}");
    let (world, vendor) = start_with(LEAD, &connection, &[("vendor.key", "the-first-key\n")]).await;
    call(&world).await;
    world.until(|ledger| ledger.delivered == 1).await;
    fs::write(world.config().directory.join("vendor.key"), "the-next-key-of-all\n").expect("written");
    vendor.script([say("auth_refresh")]);
    call_of(&world, 2).await;
    world.attempted(1).await;
    world.pass(Duration::from_secs(6));
    world.until(|ledger| ledger.delivered == 2).await;
    let messages = vendor.messages();
    let keys: Vec<_> = messages.iter().map(|message| message.header("X-Key").unwrap_or_default()).collect();
    assert_eq!((keys[0], keys[2]), ("the-first-key", "the-next-key-of-all"));
}

/// Places an order, and asks about it after these waits.
fn order(own: &str) -> String {
    format!(
        "steps:\n  - {{name: order, action: vendor.order, connection: vendor-main, retry: {{after: [1m, 10m]}}, \
         {own}with: {{number: '{{{{ id }}}}'}}}}\n"
    )
}

/// What the vendor says of how many such orders it has.
fn total(count: u32) -> Behaviour {
    Behaviour::Status(200, format!(r#"{{"total":{count}}}"#))
}

fn methods(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(Message::method).collect()
}

#[tokio::test]
async fn an_order_whose_answer_was_lost_is_asked_about_and_not_repeated_when_the_vendor_has_it() {
    let (world, vendor) = start(&order("")).await;
    vendor.script([Behaviour::Cut, total(1)]);
    call(&world).await;
    world.attempted(1).await;
    assert_eq!(methods(&vendor.messages()), ["POST"], "it may still be at it");
    assert_eq!((world.ledger().await.pending, world.ledger().await.delivered), (1, 0));
    world.pass(Duration::from_secs(66));
    let run = world.attempted(2).await;
    assert_eq!((run.summary.state, run.summary.is_in_part()), (RunStateName::Delivered, false));
    let messages = vendor.messages();
    assert_eq!(methods(&messages), ["POST", "GET"]);
    assert_eq!(messages[1].query(), [("number".to_owned(), "1".to_owned())]);
    assert!(
        messages.iter().all(|message| message.header("X-Key") == Some(KEY)),
        "a question is authorised too"
    );
    assert_eq!(
        (judged(&run, 0), judged(&run, 1)),
        (vec![("order", "unknown")], vec![("order", "duplicate_ok")])
    );
    assert!(!run.attempts[0].deliveries[0].probe && run.attempts[1].deliveries[0].probe);
    assert!(!format!("{run:?}").contains(KEY));
}

#[tokio::test]
async fn an_order_whose_answer_was_lost_is_repeated_when_the_vendor_does_not_have_it() {
    let (world, vendor) = start(&order("")).await;
    vendor.script([Behaviour::Cut, total(0), Behaviour::HalfAnswer, total(0)]);
    call(&world).await;
    world.attempted(1).await;
    world.pass(Duration::from_secs(66));
    let run = world.attempted(2).await;
    assert_eq!(judged(&run, 1), [("order", "not_found"), ("order", "unknown")]);
    world.pass(Duration::from_secs(660));
    let run = world.attempted(3).await;
    assert_eq!(run.summary.state, RunStateName::Delivered);
    assert_eq!(judged(&run, 2), [("order", "not_found"), ("order", "ok")]);
    let messages = vendor.messages();
    assert_eq!(methods(&messages), ["POST", "GET", "POST", "GET", "POST"]);
    assert!(messages[0].body == messages[2].body && messages[2].body == messages[4].body);
}

#[tokio::test]
async fn a_vendor_that_cannot_say_is_asked_on_the_schedule_then_a_person_is_and_a_replay_asks_first() {
    let (world, vendor) = start(&order("on_failure: continue, ")).await;
    vendor.script([Behaviour::Cut, failure(), Behaviour::Cut, total(1)]);
    call(&world).await;
    world.attempted(1).await;
    world.pass(Duration::from_secs(66));
    world.attempted(2).await;
    world.pass(Duration::from_secs(660));
    let run = world.attempted(3).await;
    assert_eq!(run.summary.state, RunStateName::Parked, "it has not failed: nobody knows");
    let store = world.running().queue().store();
    store.replay(&[run.summary.id], Replay::Retry).await.expect("replayed");
    // What another process put into the queue is found at the next look.
    world.pass(Duration::from_secs(1));
    let run = world.attempted(4).await;
    assert_eq!(run.summary.state, RunStateName::Delivered);
    assert_eq!(methods(&vendor.messages()), ["POST", "GET", "GET", "GET"]);
}

#[tokio::test]
async fn a_lost_answer_waits_for_a_person_where_nobody_can_be_asked_and_is_repeated_only_on_demand() {
    for (own, requests, state) in [
        ("", 1, RunStateName::Parked),
        ("unknown: park, ", 1, RunStateName::Parked),
        ("unknown: repeat, ", 2, RunStateName::Delivered),
    ] {
        let action = if own.is_empty() { "action: vendor.create" } else { "action: vendor.order" };
        let with = if own.is_empty() { "with: {lead:" } else { "with: {number:" };
        let steps = order(own).replace("action: vendor.order", action).replace("with: {number:", with);
        let (world, vendor) = start(&steps).await;
        vendor.script([Behaviour::Cut]);
        call(&world).await;
        world.attempted(1).await;
        world.pass(Duration::from_secs(66));
        let ledger = world.until(|ledger| ledger.pending == 0).await;
        assert_eq!(ledger.delivered + ledger.parked, 1, "{own}");
        let run = world.attempted(requests).await;
        assert_eq!((run.summary.state, vendor.messages().len()), (state, requests), "{own}");
    }
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
    vendor.script([say("bad_request")]);
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
async fn a_step_that_has_succeeded_is_not_sent_again_by_a_replay_of_what_was_delivered_in_part() {
    let (world, vendor) = start(
        r#"retry: none
steps:
  - {name: create, action: vendor.create, connection: vendor-main, with: {lead: "{{ id }}"}}
  - {name: mark, action: vendor.create, connection: vendor-main, on_failure: continue, with: {path: marks, lead: "{{ id }}"}}
"#,
    )
    .await;
    vendor.script([say("ok"), say("bad_request"), say("ok"), say("ok")]);
    call(&world).await;
    let run = world.attempted(1).await;
    assert!(run.summary.is_in_part());
    let id = run.summary.id;
    let store = world.running().queue().store();
    let replayed = store.replay(&[id], Replay::Retry).await.expect("an answer");
    assert_eq!((replayed.runs, replayed.refused), (vec![], vec![(id, ReplayRefusal::Delivered)]));
    world.pass(Duration::from_secs(1));
    world.ledger().await;
    assert_eq!(paths(&vendor.messages()), ["/leads", "/marks"]);

    store.replay(&[id], Replay::New { version: None }).await.expect("replayed");
    world.pass(Duration::from_secs(1));
    world.until(|ledger| ledger.pending == 0).await;
    assert_eq!(paths(&vendor.messages()), ["/leads", "/marks", "/leads", "/marks"]);
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
