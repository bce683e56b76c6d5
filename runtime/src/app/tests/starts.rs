//! What a start waits for, takes and hands out.

use super::*;
use crate::storage::postgres::tests::server;

#[tokio::test]
async fn a_start_with_wrong_files_serves_what_was_live_last_and_refuses_when_nothing_was() {
    let mut world = World::new().await;
    let running = world.start().await;
    let hook = world.hook(&running);
    running.stop().await;
    world.write("bundles/order.yaml", "kind: bundle\nnmae: order\n");
    let running = world.start().await;
    assert!(is_ok(&post(&running, &hook, r#"{"number": "A-1"}"#).await));
    assert!(world.requests.recv().await.unwrap().ends_with(r#"{"number":"A-1"}"#));
    running.stop().await;

    let fresh = Config { data: Some(world.folder.path().join("fresh")), ..world.config.clone() };
    let refused = serve(fresh, Environment::of([]), world.clock.clone()).await.unwrap_err().to_string();
    assert!(refused.contains("bundles/order.yaml") && refused.contains("nmae"), "{refused}");
}

/// `crm` with room for one run at a time.
fn one_at_a_time() -> String {
    format!("{CRM}concurrency: 1\n")
}

/// Events whose runs wait until [`DELAY_MS`] is over.
async fn delayed(running: &Running, world: &World, events: u32) {
    for number in 0..events {
        let body = format!(r#"{{"number": "A-{number}"}}"#);
        assert!(is_ok(&post(running, &world.hook(running), &body).await));
    }
}

/// `5m` of [`bundle`], milliseconds.
const DELAY_MS: i64 = 300_000;

/// Starts it once the delay of all is over, with a vendor that answers nothing: one run is handed out and no other.
async fn starts_one_at_a_time(world: &mut World) {
    world.says.send_replace(Says::Nothing);
    world.set.advance_ms(DELAY_MS);
    let running = world.start().await;
    world.requests.recv().await.unwrap();
    running.queue().flush().await.unwrap();
    assert_eq!(running.queue().stats().claimed, 1);
    world.says.send_replace(Says::Ok);
    running.stop().await;
}

#[tokio::test]
async fn a_connection_keeps_its_limit_for_runs_that_wait_when_no_active_bundle_sends_through_it() {
    let mut world = World::new().await;
    world.write("connections/crm.yaml", &one_at_a_time());
    world.write("bundles/order.yaml", &bundle("5m", "{{ number }}"));
    let running = world.start().await;
    delayed(&running, &world, 4).await;
    running.stop().await;
    world.write("bundles/order.yaml", &bundle("5m", "{{ number }}").replace("active: true", "active: false"));
    for is_removed in [false, true] {
        if is_removed {
            fs::remove_file(world.folder.path().join("bundles/order.yaml")).unwrap();
        }
        while world.requests.try_recv().is_ok() {}
        starts_one_at_a_time(&mut world).await;
    }
}

#[tokio::test]
async fn a_node_that_starts_with_old_files_hands_out_nothing_past_the_limits_in_force() {
    if !server::is_installed() {
        return;
    }
    let database = server::TestDatabase::new();
    let (mut old, mut new) = (World::new().await, World::new().await);
    for world in [&mut old, &mut new] {
        world.config.database = Some(database.url().parse().unwrap());
        world.write("bundles/order.yaml", &bundle("5m", "{{ number }}"));
    }
    new.clock = old.clock.clone();
    new.write("connections/crm.yaml", &one_at_a_time());
    let running = old.start().await;
    delayed(&running, &old, 4).await;
    running.stop().await;
    new.start().await.stop().await;
    starts_one_at_a_time(&mut old).await;
}

#[tokio::test]
async fn a_start_that_fails_claims_nothing() {
    let mut world = World::new().await;
    world.write("bundles/order.yaml", &bundle("5m", "{{ number }}"));
    let running = world.start().await;
    delayed(&running, &world, 1).await;
    running.stop().await;
    world.set.advance_ms(DELAY_MS);
    let obstacle = world.config.data_directory().join("addresses.json.new");
    fs::create_dir(&obstacle).unwrap();
    for _ in 0..20 {
        let (config, clock) = (world.config.clone(), world.clock.clone());
        // As a process that exits: what it was doing ends with it.
        let failed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(config, Environment::of([]), clock)).is_err()
        });
        assert!(failed.join().unwrap());
    }
    fs::remove_dir(&obstacle).unwrap();
    let running = world.start().await;
    settled(&running, |run| run.state == RunStateName::Delivered).await;
    world.requests.recv().await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn files_that_change_while_the_server_starts_are_taken() {
    let mut world = World::new().await;
    world.start().await.stop().await;
    // The start stands still where it reads the key, which is after it has read the files.
    let key = world.config.data_directory().join("master.key");
    let text = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&key).status().unwrap().success());
    let path = world.folder.path().join("bundles/order.yaml");
    let pipe = key.clone();
    let changed = std::thread::spawn(move || {
        let mut pipe = fs::OpenOptions::new().write(true).open(pipe).unwrap();
        fs::write(path, bundle("0m", "changed {{ number }}")).unwrap();
        std::io::Write::write_all(&mut pipe, &text).unwrap();
        text
    });
    let running = world.start().await;
    fs::remove_file(&key).unwrap();
    fs::write(&key, changed.join().unwrap()).unwrap();
    running.catalogue().after(running.catalogue().live().epoch).await.unwrap();
    assert!(is_ok(&post(&running, &world.hook(&running), r#"{"number": "A-1"}"#).await));
    assert!(world.requests.recv().await.unwrap().ends_with(r#"{"number":"changed A-1"}"#));
    running.stop().await;
}
