//! People are told: once, grouped, signed, in their language, and of nothing that is not theirs to know.

use std::{fs, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sea_orm::{ConnectionTrait as _, Database};
use serde_json::Value;
use sheaf_bundles::alerts::decide::{OVER_AFTER_MS, State};
use sheaf_runtime::{
    alerts::{self, Told, channel::Sender, memory::NOTE},
    clock::Clock,
    config::Environment,
    directory,
    egress::{Egress, Rules as EgressRules},
    secrets::Secrets,
};
use sheaf_tests::{
    calltouch::{Method, Moment, Payload},
    mindbox::Answer,
    receiver::{Behaviour, Receiver},
    smtp::{AUTHORITY, Protection, Refuses, Rules, Smtp},
    standard_webhooks::verify,
    wire::Message,
};

use super::world::{HOOK, World};

/// A signing key, base64 of 24 bytes: it must be found in no message.
const KEY: &str = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktMQ==";
/// A password that must be found in no message, no answer and no file.
const PASSWORD: &str = "canary-7731-password";
/// A phone that the vendor repeats in its answer.
const PHONE: &str = "79995550123";
const SECRETS: [(&str, &str); 2] = [("ALERTS_KEY", KEY), ("SMTP_PASSWORD", PASSWORD)];
/// A little more than one look.
pub const LOOK: Duration = Duration::from_secs(6);
const REPEAT: Duration = Duration::from_secs(30 * 60);
/// Nothing here takes as long unless it is broken.
const BROKEN_AFTER: Duration = Duration::from_secs(20);

const WEBHOOK: &str = "kind: alerts\nwaiting_max: 10m\nwebhooks:\n  duty: {url: \"https://ops.example/alerts?team=1\", secret: {env: ALERTS_KEY}}\n";

pub async fn world_told_by(receiver: &Receiver) -> World {
    let to = receiver.origin();
    World::start_set("calltouch-mindbox", &[("alerts.yaml", WEBHOOK)], &SECRETS, |config| {
        config.egress_override.push(format!("https://ops.example={to}").parse().expect("an override"));
    })
    .await
}

fn refusal() -> Answer {
    Answer::ValidationError { message: format!("{PHONE} is no phone"), location: "/customer".to_owned() }
}

/// Calls that Mindbox does not take.
async fn parked(world: &World, ids: std::ops::Range<u64>, in_all: i64) {
    world.mindbox.script(ids.clone().map(|_| refusal()));
    for id in ids {
        let payload = Payload::call(Moment::CallEnded, id).set("callerphone", PHONE);
        world.calltouch(Method::Post).happens(Moment::CallEnded, &payload).await.expect("an answer");
    }
    world.until(|ledger| ledger.parked == in_all).await;
}

/// The messages so far once there are that many, each checked by its signature, as (webhook-id, body).
pub async fn told(world: &World, receiver: &Receiver, count: usize) -> Vec<(String, Value)> {
    let messages =
        tokio::time::timeout(BROKEN_AFTER, receiver.at_least(count)).await.expect("so many messages");
    settled(world).await;
    assert_eq!(receiver.messages().len(), count, "and no more");
    messages.iter().map(|message| checked(world, message)).collect()
}

fn checked(world: &World, message: &Message) -> (String, Value) {
    let now_s = u64::try_from(world.now_ms() / 1_000).expect("after 1970");
    assert_eq!((message.method(), message.path()), ("POST", "/alerts"));
    let all = format!("{}\r\n\r\n{}", message.head, String::from_utf8_lossy(&message.body));
    for canary in ["test-key", KEY, KEY.trim_start_matches("whsec_"), PASSWORD, PHONE, "is no phone"] {
        assert!(!all.contains(canary), "{canary} is in {all}");
    }
    let signed_s: u64 =
        message.header("webhook-timestamp").and_then(|time| time.parse().ok()).expect("a time");
    assert!(signed_s <= now_s, "signed in the future");
    let id = verify(message, KEY, signed_s).expect("it is signed");
    (id, serde_json::from_slice(&message.body).expect("JSON"))
}

async fn state(world: &World) -> State {
    let note = world.running().queue().store().note(NOTE).await.expect("a note");
    if note.text.is_empty() { State::default() } else { serde_json::from_str(&note.text).expect("a state") }
}

/// Waits until nothing is on its way.
async fn settled(world: &World) {
    let waiting = async {
        while !state(world).await.letters().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BROKEN_AFTER, waiting).await.expect("all arrives");
}

/// Does to the database what no code of ours does.
async fn harm(world: &World, sql: &str) {
    let url = format!("sqlite://{}", world.config().data_directory().join("sheaf.db").display());
    let connection = Database::connect(url).await.expect("the database");
    connection.execute_unprepared(sql).await.expect("it is done");
    connection.close().await.expect("it closes");
}

async fn page(world: &World, path: &str) -> String {
    sheaf_tests::product::get(world.running().addresses().management, path).await.expect("a page")
}

#[tokio::test]
async fn parked_runs_are_told_once_as_one_message_again_when_more_come_and_once_when_they_are_gone() {
    let receiver = Receiver::start().await.expect("a receiver");
    let world = world_told_by(&receiver).await;
    parked(&world, 1..4, 3).await;
    world.look_for(LOOK).await;
    let messages = told(&world, &receiver, 1).await;
    let data = &messages[0].1["data"];
    assert_eq!(messages[0].1["type"], "run_parked.opened");
    assert_eq!(
        (&data["bundle"], &data["count"], &data["workspace"]),
        (&"mindbox-dynamic".into(), &3.into(), &"calltouch-mindbox".into())
    );
    assert_eq!(data["parts"]["bad_request"], 3);
    let example = &data["examples"][0];
    assert!(example["run"].as_str().is_some_and(|run| run.starts_with("run_")), "{example}");
    assert_eq!((&example["step"], &example["status"]), (&"send".into(), &200.into()));
    assert!(data["text"].as_str().is_some_and(|text| text.contains("sheaf runs show run_")), "{data}");

    parked(&world, 4..6, 5).await;
    world.look_for(REPEAT / 2).await;
    assert_eq!(receiver.messages().len(), 1, "grouped until the pause is over");
    world.look_for(REPEAT / 2).await;
    let messages = told(&world, &receiver, 2).await;
    assert_eq!(
        (&messages[1].1["type"], &messages[1].1["data"]["count"]),
        (&"run_parked.lasting".into(), &5.into())
    );
    world.look_for(REPEAT * 2).await;
    assert_eq!(receiver.messages().len(), 2, "nothing new");

    let store = world.running().queue().store();
    let runs = store.parked_ids(None).await.expect("runs");
    assert_eq!(store.discard(&runs, "by a test").await.expect("given up").runs.len(), 5);
    world.look_for(Duration::from_millis(OVER_AFTER_MS.unsigned_abs()) + 2 * LOOK).await;
    let messages = told(&world, &receiver, 3).await;
    assert_eq!(messages[2].1["type"], "run_parked.over");
    let ids: std::collections::BTreeSet<&String> = messages.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 3, "each message has its own id");
}

#[tokio::test]
async fn a_restart_neither_repeats_what_was_told_nor_forgets_what_is_open() {
    let receiver = Receiver::start().await.expect("a receiver");
    let world = world_told_by(&receiver).await;
    parked(&world, 1..2, 1).await;
    world.look_for(LOOK).await;
    told(&world, &receiver, 1).await;

    let world = world.restart().await;
    world.look_for(3 * LOOK).await;
    told(&world, &receiver, 1).await;
    assert_eq!(state(&world).await.open().count(), 1);
    let store = world.running().queue().store();
    store.discard(&store.parked_ids(None).await.expect("runs"), "by a test").await.expect("given up");
    world.look_for(LOOK).await;
    let world = world.restart().await;
    world.look_for(Duration::from_millis(OVER_AFTER_MS.unsigned_abs()) + 2 * LOOK).await;
    assert_eq!(told(&world, &receiver, 2).await[1].1["type"], "run_parked.over");
}

#[tokio::test]
async fn a_channel_that_is_added_while_it_runs_hears_of_what_is_open() {
    let receiver = Receiver::start().await.expect("a receiver");
    let to = receiver.origin();
    let world = World::start_set("calltouch-mindbox", &[], &SECRETS, |config| {
        config.egress_override.push(format!("https://ops.example={to}").parse().expect("an override"));
        config.watch_ms = 5;
    })
    .await;
    parked(&world, 1..3, 2).await;
    world.look_for(LOOK).await;
    assert_eq!(state(&world).await.open().count(), 1, "known, and nobody to tell");
    fs::write(world.config().directory.join("alerts.yaml"), WEBHOOK).expect("written");
    let live = async {
        while state(&world).await.letters().is_empty() && receiver.messages().is_empty() {
            world.look_for(LOOK).await;
        }
    };
    tokio::time::timeout(BROKEN_AFTER, live).await.expect("the file goes live");
    let messages = told(&world, &receiver, 1).await;
    assert_eq!(
        (&messages[0].1["type"], &messages[0].1["data"]["count"]),
        (&"run_parked.opened".into(), &2.into())
    );
}

#[tokio::test]
async fn a_message_that_did_not_arrive_is_sent_again_as_the_same_and_the_failing_channel_is_seen() {
    let receiver = Receiver::start().await.expect("a receiver");
    receiver.script([Behaviour::Status(500, PASSWORD.to_owned()), Behaviour::Cut]);
    let world = world_told_by(&receiver).await;
    parked(&world, 1..2, 1).await;
    world.look_for(LOOK).await;
    for (attempts, longer_than_the_pause) in [(1, 20), (2, 40)] {
        tokio::time::timeout(BROKEN_AFTER, receiver.at_least(attempts)).await.expect("an attempt");
        let noted = format!("sheaf_alerts_total{{channel=\"webhooks.duty\",fate=\"again\"}} {attempts}\n");
        let waiting = async {
            while !page(&world, "/metrics").await.contains(&noted) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(BROKEN_AFTER, waiting).await.expect("it is noted");
        // The next look is before its next time, and shows it.
        world.look_for(LOOK).await;
        assert_eq!(page(&world, "/healthz").await, "alerts do not arrive: webhooks.duty, 1\n");
        world.look_for(Duration::from_secs(longer_than_the_pause)).await;
    }
    let messages = tokio::time::timeout(BROKEN_AFTER, receiver.at_least(3)).await.expect("the third attempt");
    let ids: Vec<String> = messages.iter().map(|message| checked(&world, message).0).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    settled(&world).await;
    let metrics = page(&world, "/metrics").await;
    for line in [
        "sheaf_alerts_total{channel=\"webhooks.duty\",fate=\"again\"} 2",
        "sheaf_alerts_open{kind=\"run_parked\"} 1",
        "sheaf_oldest_seconds{connection=\"calltouch-main\",state=\"parked\"}",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_refused_authorisation_is_told_of_the_connection_it_belongs_to() {
    let receiver = Receiver::start().await.expect("a receiver");
    let world = world_told_by(&receiver).await;
    world.mindbox.script([Answer::ProtocolError { status: 401, message: PHONE.to_owned() }]);
    world
        .calltouch(Method::Post)
        .happens(Moment::CallEnded, &Payload::call(Moment::CallEnded, 1))
        .await
        .expect("an answer");
    world.until(|ledger| ledger.parked == 1).await;
    world.look_for(LOOK).await;
    let messages = told(&world, &receiver, 1).await;
    let (kind, data) = (&messages[0].1["type"], &messages[0].1["data"]);
    assert_eq!((kind, &data["connection"]), (&"authorisation_broken.opened".into(), &"mindbox-main".into()));
}

#[tokio::test]
async fn a_refused_authorisation_is_told_when_its_runs_go_on_without_the_step_too() {
    const BUNDLE: &str = include_str!("../../../examples/calltouch-mindbox/bundles/mindbox-dynamic.yaml");
    let bundle = BUNDLE.replace("  - name: send\n", "  - name: send\n    on_failure: continue\n");
    let receiver = Receiver::start().await.expect("a receiver");
    let to = receiver.origin();
    let files = [("alerts.yaml", WEBHOOK), ("bundles/mindbox-dynamic.yaml", bundle.as_str())];
    let world = World::start_set("calltouch-mindbox", &files, &SECRETS, |config| {
        config.egress_override.push(format!("https://ops.example={to}").parse().expect("an override"));
    })
    .await;
    let refusal = || Answer::ProtocolError { status: 401, message: PHONE.to_owned() };
    world.mindbox.script((0..10).map(|_| refusal()));
    let call = Payload::call(Moment::CallEnded, 1);
    world.calltouch(Method::Post).happens(Moment::CallEnded, &call).await.expect("an answer");
    world.until(|ledger| ledger.delivered == 1).await;
    world.look_for(LOOK).await;
    let messages = told(&world, &receiver, 1).await;
    let (kind, data) = (&messages[0].1["type"], &messages[0].1["data"]);
    assert_eq!((kind, &data["connection"]), (&"authorisation_broken.opened".into(), &"mindbox-main".into()));
    assert!(data["parts"]["refused"].is_u64(), "{data}");
}

#[tokio::test]
async fn a_run_that_is_refused_for_too_long_is_told_of_and_a_delay_is_not() {
    let receiver = Receiver::start().await.expect("a receiver");
    let world = world_told_by(&receiver).await;
    world.mindbox.script((0..10).map(|_| Answer::InternalServerError(503)));
    world
        .calltouch(Method::Post)
        .happens(Moment::CallEnded, &Payload::call(Moment::CallEnded, 1))
        .await
        .expect("an answer");
    world.requests(1).await;
    world.attempted(1).await;
    world.look_for(Duration::from_secs(9 * 60)).await;
    assert_eq!(receiver.messages().len(), 0, "not longer than the limit");
    world.look_for(Duration::from_secs(2 * 60)).await;
    let messages = told(&world, &receiver, 1).await;
    let (kind, data) = (&messages[0].1["type"], &messages[0].1["data"]);
    assert_eq!((kind, &data["connection"]), (&"waiting_long.opened".into(), &HOOK.into()));
    assert_eq!(data["parts"]["retrying"], 1);
}

#[tokio::test]
async fn an_equation_that_does_not_hold_is_told_everywhere_and_traffic_goes_on() {
    let receiver = Receiver::start().await.expect("a receiver");
    let world = world_told_by(&receiver).await;
    let calltouch = world.calltouch(Method::Post);
    calltouch.happens(Moment::CallEnded, &Payload::call(Moment::CallEnded, 1)).await.expect("an answer");
    world.until(|ledger| ledger.pending == 0).await;
    world.look_for(LOOK).await;
    assert_eq!(page(&world, "/healthz").await, "ok\n");

    harm(&world, "UPDATE ledger SET received = received + 1").await;
    world.look_for(LOOK).await;
    let messages = told(&world, &receiver, 1).await;
    let (kind, data) = (&messages[0].1["type"], &messages[0].1["data"]);
    assert_eq!((kind, &data["connection"]), (&"ledger_broken.opened".into(), &HOOK.into()));
    assert_eq!(data["facts"][0], "received 2 ≠ 1");
    assert_eq!(page(&world, "/healthz").await, format!("the ledger does not balance: {HOOK}\n"));
    assert_eq!(page(&world, "/readyz").await, "ready\n");
    let metrics = page(&world, "/metrics").await;
    assert!(metrics.contains("sheaf_ledger_balanced{connection=\"calltouch-main\"} 0"), "{metrics}");
    assert!(
        calltouch
            .happens(Moment::CallEnded, &Payload::call(Moment::CallEnded, 2))
            .await
            .expect("an answer")
            .succeeded()
    );
}

#[tokio::test]
async fn a_row_that_is_gone_is_found_by_the_recount_and_told() {
    let receiver = Receiver::start().await.expect("a receiver");
    let world = world_told_by(&receiver).await;
    world
        .calltouch(Method::Post)
        .happens(Moment::CallEnded, &Payload::call(Moment::CallEnded, 1))
        .await
        .expect("an answer");
    world.until(|ledger| ledger.pending == 0).await;
    harm(&world, "DELETE FROM run").await;
    let world = world.restart().await;
    world.look_for(LOOK).await;
    let messages = told(&world, &receiver, 1).await;
    let facts = messages[0].1["data"]["facts"].to_string();
    assert!(facts.contains("runs 1 ≠ 0 rows"), "{facts}");
    let metrics = page(&world, "/metrics").await;
    let line = "sheaf_ledger_mismatch{connection=\"calltouch-main\",counter=\"runs\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_queue_that_cannot_commit_is_told_once_even_when_that_cannot_be_kept() {
    let receiver = Receiver::start().await.expect("a receiver");
    let world = world_told_by(&receiver).await;
    world.look_for(LOOK).await;
    harm(&world, "ALTER TABLE body RENAME TO body_away; ALTER TABLE note RENAME TO note_away").await;
    let sent =
        world.calltouch(Method::Post).happens(Moment::CallEnded, &Payload::call(Moment::CallEnded, 1)).await;
    assert!(!sent.expect("an answer").succeeded(), "nothing is promised");
    world.look_for(4 * LOOK).await;
    let messages = tokio::time::timeout(BROKEN_AFTER, receiver.at_least(1)).await.expect("a message");
    let (_, body) = checked(&world, &messages[0]);
    assert_eq!(body["type"], "queue_failing.opened");
    world.look_for(4 * LOOK).await;
    assert_eq!(receiver.messages().len(), 1, "it is remembered by the process");
    harm(&world, "ALTER TABLE body_away RENAME TO body; ALTER TABLE note_away RENAME TO note").await;
    let mut health = world.running().queue().health();
    let well = health.wait_for(|health| *health == sheaf_runtime::queue::Health::Ready);
    drop(tokio::time::timeout(BROKEN_AFTER, well).await.expect("it recovers").expect("the queue runs"));
    world.look_for(Duration::from_millis(OVER_AFTER_MS.unsigned_abs()) + 2 * LOOK).await;
    assert_eq!(told(&world, &receiver, 2).await[1].1["type"], "queue_failing.over");
}

fn mail_server(protection: Protection, refuses: Refuses) -> Rules {
    let login = (protection != Protection::Plain).then(|| ("sheaf".to_owned(), PASSWORD.to_owned()));
    Rules { protection, login, refuses }
}

/// `alerts.yaml` for a mail server of that kind.
fn mailing(smtp: &Smtp, security: &str) -> String {
    let login = if security == "plain" {
        ""
    } else {
        "    login: {user: sheaf, password: {env: SMTP_PASSWORD}}\n    authority: authority.pem\n"
    };
    format!(
        "kind: alerts\nlanguage: ru\nemails:\n  owner:\n    server: localhost\n    port: {}\n    security: {security}\n    from: sheaf@shop.example\n    to: [a@shop.example, b@shop.example]\n{login}",
        smtp.address().port()
    )
}

#[tokio::test]
async fn a_mail_arrives_by_each_protection_in_the_language_that_was_asked_for() {
    for (protection, security) in
        [(Protection::Plain, "plain"), (Protection::StartTls, "starttls"), (Protection::Tls, "tls")]
    {
        let smtp = Smtp::start(mail_server(protection, Refuses::Nothing)).await.expect("a mail server");
        let text = mailing(&smtp, security);
        let files = [("alerts.yaml", text.as_str()), ("authority.pem", AUTHORITY)];
        let allowed = format!("127.0.0.1/32:{}", smtp.address().port());
        let world = World::start_set("calltouch-mindbox", &files, &SECRETS, |config| {
            config.egress_allow.push(allowed.parse().expect("a network"));
        })
        .await;
        parked(&world, 1..3, 2).await;
        world.look_for(LOOK).await;
        let taken = tokio::time::timeout(BROKEN_AFTER, smtp.at_least(1)).await.expect("a mail");
        settled(&world).await;
        assert_eq!(smtp.taken().len(), 1);
        let (mail, body) = (&taken[0], taken[0].body());
        assert_eq!(
            (mail.from.as_str(), mail.encrypted),
            ("sheaf@shop.example", protection != Protection::Plain)
        );
        assert_eq!(mail.to, ["a@shop.example", "b@shop.example"]);
        assert!(body.contains("связка mindbox-dynamic: отложено до решения человека запусков: 2"), "{body}");
        assert!(body.contains("sheaf runs show run_"), "{body}");
        for canary in ["test-key", PASSWORD, PHONE, "is no phone"] {
            assert!(!mail.text.contains(canary) && !body.contains(canary), "{canary} is in {body}");
        }
    }
}

/// What the test command says of each channel.
async fn tested(alerts: &str, egress: EgressRules) -> Vec<(String, Result<(), String>)> {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("sheaf.yaml"), "kind: workspace\nname: shop\ntime_zone: Europe/Moscow\n")
        .expect("written");
    fs::write(folder.path().join("alerts.yaml"), alerts).expect("written");
    fs::write(folder.path().join("authority.pem"), AUTHORITY).expect("written");
    let compiled = directory::compile(&directory::read(folder.path()).expect("files"));
    let told = Told::of([compiled.workspaces[0].sound().expect("they are sound")]);
    let sender = Sender {
        egress: Egress::new(egress).expect("a client").into(),
        secrets: Secrets::new(Environment::of(SECRETS), folder.path()).into(),
        clock: Clock::system(),
        directory: folder.path().to_owned(),
    };
    alerts::test(&sender, &told).await
}

fn allowing(smtp: &Smtp) -> EgressRules {
    let allowed = format!("127.0.0.1/32:{}", smtp.address().port()).parse().expect("a network");
    EgressRules { allowed: vec![allowed], overrides: Vec::new() }
}

#[tokio::test]
async fn a_test_says_what_happened_at_each_channel() {
    let receiver = Receiver::start().await.expect("a receiver");
    let smtp = Smtp::start(mail_server(Protection::StartTls, Refuses::Nothing)).await.expect("a mail server");
    let two = "webhooks:\n  duty: {url: \"https://ops.example/x\", secret: {env: ALERTS_KEY}}\n  nobody: {url: \"https://ops.example/x\", secret: {env: NOT_SET}}\n";
    let mut rules = allowing(&smtp);
    rules.overrides.push(format!("https://ops.example={}", receiver.origin()).parse().expect("an override"));
    let results = tested(&(mailing(&smtp, "starttls") + two), rules).await;
    let said: Vec<(&str, Option<&str>)> =
        results.iter().map(|(name, sent)| (name.as_str(), sent.as_ref().err().map(String::as_str))).collect();
    assert_eq!(
        said,
        [
            ("webhooks.duty", None),
            ("webhooks.nobody", Some("the signing key is not there")),
            ("emails.owner", None)
        ]
    );
    let body: Value = serde_json::from_slice(&receiver.messages()[0].body).expect("JSON");
    assert_eq!(body["type"], "alert.test");
    assert!(smtp.taken()[0].body().contains("это проверка оповещений"), "{}", smtp.taken()[0].body());
}

#[tokio::test]
async fn a_mail_server_that_refuses_is_quoted_without_our_password_and_nothing_is_called_sent() {
    let login = STANDARD.encode(format!("\0sheaf\0{PASSWORD}"));
    let inside = &login[12..login.len() - 4];
    for (refuses, said) in [
        (Refuses::Login, "[secret]"),
        (Refuses::LoginLine, "[secret]"),
        (Refuses::Receiver, "550"),
        (Refuses::Data, "451"),
    ] {
        let smtp = Smtp::start(mail_server(Protection::Tls, refuses)).await.expect("a mail server");
        let [(_, sent)] =
            tested(&mailing(&smtp, "tls"), allowing(&smtp)).await.try_into().expect("one channel");
        let why = sent.expect_err("it was refused");
        assert!(why.contains(said) && !why.contains(PASSWORD) && !why.contains(inside), "{why}");
        assert_eq!(smtp.taken(), []);
    }
}

#[tokio::test]
async fn a_mail_server_that_never_ends_a_line_is_not_listened_to_for_long() {
    for (protection, security) in [(Protection::Plain, "plain"), (Protection::StartTls, "starttls")] {
        let smtp = Smtp::start(mail_server(protection, Refuses::End)).await.expect("a mail server");
        let [(_, sent)] =
            tested(&mailing(&smtp, security), allowing(&smtp)).await.try_into().expect("one channel");
        let why = sent.expect_err("it says no end");
        assert!(why.contains("said more than 1048576 bytes"), "{why}");
    }
}

#[tokio::test]
async fn a_password_goes_nowhere_without_tls_and_a_mail_to_no_stranger() {
    // A server that does not offer what was asked for gets neither login nor mail.
    let smtp = Smtp::start(mail_server(Protection::Plain, Refuses::Nothing)).await.expect("a mail server");
    let [(_, sent)] =
        tested(&mailing(&smtp, "starttls"), allowing(&smtp)).await.try_into().expect("one channel");
    assert!(sent.expect_err("no STARTTLS").contains("STARTTLS"));
    // A certificate that nobody we trust has signed.
    let smtp = Smtp::start(mail_server(Protection::Tls, Refuses::Nothing)).await.expect("a mail server");
    let strangers = mailing(&smtp, "tls").replace("    authority: authority.pem\n", "");
    let [(_, sent)] = tested(&strangers, allowing(&smtp)).await.try_into().expect("one channel");
    assert!(sent.is_err());
    assert_eq!(smtp.taken(), []);
}

#[tokio::test]
async fn a_mail_server_on_this_machine_is_not_connected_to_unless_the_operator_allows_it() {
    let smtp = Smtp::start(mail_server(Protection::Plain, Refuses::Nothing)).await.expect("a mail server");
    for server in ["localhost", "127.0.0.1"] {
        let text = mailing(&smtp, "plain").replace("localhost", server);
        let [(_, sent)] = tested(&text, EgressRules::default()).await.try_into().expect("one channel");
        let why = sent.expect_err("it is refused");
        assert!(why.contains("loopback"), "{why}");
    }
    assert_eq!(smtp.connections(), 0);
    let [(_, sent)] =
        tested(&mailing(&smtp, "plain"), allowing(&smtp)).await.try_into().expect("one channel");
    assert_eq!((sent, smtp.connections()), (Ok(()), 1));
}
