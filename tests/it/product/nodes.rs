//! The whole product on PostgreSQL: one node, and several that share a database.

use std::{collections::BTreeSet, fs, time::Duration};

use sheaf_runtime::config::Config;
use sheaf_tests::{
    calltouch::{Method, Moment, Payload},
    postgres::{self, TestDatabase},
    product::get,
    wire,
};

use super::world::{BROKEN_AFTER, World, copy};

fn ended(id: u64) -> Payload {
    Payload::call(Moment::CallEnded, id)
}

async fn world(database: &TestDatabase) -> World {
    let url = database.url().parse().expect("a URL");
    World::start_set("calltouch-mindbox", &[], &[], |config: &mut Config| config.database = Some(url)).await
}

#[tokio::test]
async fn a_call_is_kept_in_postgres_and_reaches_mindbox_and_a_resend_is_no_new_event() {
    if !postgres::is_installed() {
        return;
    }
    let database = TestDatabase::new();
    let world = world(&database).await;
    let calltouch = world.calltouch(Method::Post);
    assert!(calltouch.happens(Moment::CallEnded, &ended(1)).await.expect("an answer").succeeded());
    world.requests(1).await;
    let world = world.restart().await;
    let calltouch = world.calltouch(Method::Get);
    assert!(calltouch.happens(Moment::CallEnded, &ended(1)).await.expect("an answer").succeeded());
    let ledger = world.until(|ledger| ledger.pending == 0 && ledger.received == 2).await;
    assert_eq!((ledger.accepted, ledger.duplicate, ledger.delivered), (1, 1, 1));
    assert_eq!(world.mindbox.records().len(), 1);
    assert_eq!(database.sql("SELECT count(*) FROM event"), "1", "and it is PostgreSQL that keeps it");
}

#[tokio::test]
async fn of_two_nodes_either_takes_any_event_and_each_is_delivered_once() {
    const CALLS: u64 = 30;
    if !postgres::is_installed() {
        return;
    }
    let database = TestDatabase::new();
    let world = world(&database).await;
    let folder = tempfile::tempdir().expect("a directory");
    let other = world.one_more(&world.config().directory, folder.path()).await;
    let (one, two) = (world.calltouch(Method::Post), world.calltouch_to(&other, Method::Post));
    for id in 0..CALLS {
        let (first, again) = if id % 2 == 0 { (&one, &two) } else { (&two, &one) };
        assert!(first.happens(Moment::CallEnded, &ended(id)).await.expect("an answer").succeeded());
        assert!(again.happens(Moment::CallEnded, &ended(id)).await.expect("an answer").succeeded());
    }
    let records = world.requests(usize::try_from(CALLS).expect("few")).await;
    let calls: BTreeSet<_> =
        records.iter().map(|it| it.body["customerAction"]["customFields"]["callId"].to_string()).collect();
    assert_eq!(calls.len() as u64, CALLS);
    let calls = i64::try_from(CALLS).expect("few");
    other.queue().flush().await.expect("the queue works");
    let ledger = world.until(|ledger| ledger.pending == 0).await;
    assert_eq!((ledger.received, ledger.accepted, ledger.duplicate), (2 * calls, calls, calls));
    assert_eq!(ledger.delivered, calls);
    assert_eq!(world.mindbox.records().len() as u64, CALLS, "each once");
    other.stop().await;
}

#[tokio::test]
async fn in_a_rolling_update_the_nodes_that_still_have_the_old_files_serve_the_new_ones() {
    if !postgres::is_installed() {
        return;
    }
    let database = TestDatabase::new();
    let world = world(&database).await;
    let folder = tempfile::tempdir().expect("a directory");
    let (directory, data) = (folder.path().join("integration"), folder.path().join("data"));
    copy(&world.config().directory, &directory);
    let bundle = directory.join("bundles/mindbox-dynamic.yaml");
    let text = fs::read_to_string(&bundle).expect("a bundle");
    fs::write(&bundle, text.replace("active: true", "active: false")).expect("a file");
    let other = world.one_more(&directory, &data).await;
    let epoch = other.catalogue().live().epoch;
    assert!(epoch > world.running().catalogue().live().epoch);

    // The old node decides this event under its own epoch first, is told so, and decides again.
    let calltouch = world.calltouch(Method::Post);
    assert!(calltouch.happens(Moment::CallEnded, &ended(1)).await.expect("an answer").succeeded());
    assert_eq!(world.running().catalogue().live().epoch, epoch);
    let ledger = world.ledger().await;
    assert_eq!(
        (ledger.accepted, ledger.delivered + ledger.pending),
        (1, 0),
        "the old bundle is out of force"
    );

    // Started again with its old files it does not put them back.
    let world = world.restart().await;
    assert_eq!(world.running().catalogue().live().epoch, epoch);
    other.stop().await;
}

/// Lets an idle node look at the database, and waits until it serves what is in force there, or cannot.
async fn until_it_serves(world: &World, serves: bool) {
    world.pass(Duration::from_secs(2));
    let mut refused = world.running().catalogue().refused();
    let waiting = refused.wait_for(|why| why.is_none() == serves);
    drop(tokio::time::timeout(BROKEN_AFTER, waiting).await.expect("it comes to that").expect("it runs"));
}

/// What a balancer is told, and whether it may send traffic.
async fn ready(world: &World) -> (u16, String) {
    let mut client =
        wire::Client::connect(world.running().addresses().management).await.expect("it is served");
    let answer = client.exchange(&wire::request("GET", "/readyz", &[], b"")).await.expect("an answer");
    (answer.status(), String::from_utf8(answer.body).expect("a text"))
}

#[tokio::test]
async fn a_node_that_cannot_serve_what_is_in_force_is_not_ready_and_follows_a_restored_database_back() {
    if !postgres::is_installed() {
        return;
    }
    let database = TestDatabase::new();
    let world = world(&database).await;
    assert_eq!(ready(&world).await, (200, "ready\n".to_owned()));
    let before = world.running().catalogue().live().epoch;
    // As a newer sheaf would leave it: artefacts that this one cannot read, in force.
    database.sql(
        "CREATE TABLE kept AS SELECT id, artefact FROM version;
         UPDATE version SET artefact = ''; UPDATE meta SET value = value + 1 WHERE key = 'epoch'",
    );
    until_it_serves(&world, false).await;
    let (status, why) = ready(&world).await;
    assert!(status == 503 && why.contains("cannot be served here"), "{status} {why}");
    // As a restore would leave it: the last activation never happened.
    database.sql(
        "UPDATE version SET artefact = kept.artefact FROM kept WHERE kept.id = version.id;
         UPDATE meta SET value = value - 2 WHERE key = 'epoch'",
    );
    until_it_serves(&world, true).await;
    assert_eq!(ready(&world).await, (200, "ready\n".to_owned()));
    assert_eq!(world.running().catalogue().live().epoch, before - 1);
    let calltouch = world.calltouch(Method::Post);
    assert!(calltouch.happens(Moment::CallEnded, &ended(1)).await.expect("an answer").succeeded());
    world.until(|ledger| ledger.delivered == 1).await;
}

#[tokio::test]
async fn while_the_database_is_away_calls_are_taken_and_they_are_delivered_once_it_is_back() {
    if !postgres::is_installed() {
        return;
    }
    let database = TestDatabase::alone();
    let world = world(&database).await;
    let calltouch = world.calltouch(Method::Post);
    database.server().kill().expect("it ends");
    for id in [1, 2, 1] {
        assert!(calltouch.happens(Moment::CallEnded, &ended(id)).await.expect("an answer").succeeded());
    }
    let management = world.running().addresses().management;
    assert!(get(management, "/readyz").await.expect("it stays ready").contains("the database is away"));
    let metrics = get(management, "/metrics").await.expect("they are served");
    assert!(metrics.contains("sheaf_spooled_total 3\n"), "{metrics}");
    database.server().start().expect("it starts");
    let ledger = world.until(|ledger| ledger.received >= 3 && ledger.pending == 0).await;
    assert_eq!((ledger.accepted, ledger.duplicate, ledger.delivered), (2, 1, 2));
    assert_eq!(world.mindbox.records().len(), 2);
}

#[tokio::test]
async fn what_a_node_took_while_the_database_was_away_is_delivered_after_its_next_start() {
    if !postgres::is_installed() {
        return;
    }
    let database = TestDatabase::alone();
    let world = world(&database).await;
    let calltouch = world.calltouch(Method::Get);
    database.server().stop_in_order().expect("it ends");
    assert!(calltouch.happens(Moment::CallEnded, &ended(1)).await.expect("an answer").succeeded());
    let world = world.restart_after(|| database.server().start().expect("it starts")).await;
    let ledger = world.until(|ledger| ledger.delivered == 1 && ledger.pending == 0).await;
    assert_eq!((ledger.received, ledger.accepted), (1, 1));
    let spool = world.config().data_directory().join("spool");
    let empty = || fs::read_dir(&spool).expect("a spool").next().is_none();
    while !empty() {
        tokio::task::yield_now().await;
    }
}
