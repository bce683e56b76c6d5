//! What a stop finishes, and what it does not begin.

use super::*;

#[tokio::test]
async fn a_stop_lets_the_run_in_flight_finish_and_settles_it() {
    let mut world = World::new().await;
    let running = world.start().await;
    world.says.send_replace(Says::Nothing);
    assert!(is_ok(&post(&running, &world.hook(&running), r#"{"number": "A-1"}"#).await));
    world.requests.recv().await.unwrap();
    let stopped = tokio::spawn(running.stop());
    world.says.send_replace(Says::Ok);
    stopped.await.unwrap();
    let running = world.start().await;
    settled(&running, |run| run.state == RunStateName::Delivered).await;
    assert!(world.requests.try_recv().is_err(), "it was sent once");
    running.stop().await;
}

/// A request in hand, with half of its body.
async fn half_a_request(running: &Running, hook: &str) -> TcpStream {
    let mut stream = head_sent(running, hook, "application/json", r#"{"number": "A-3"}"#).await;
    stream.write_all(br#"{"number"#).await.unwrap();
    stream
}

#[tokio::test]
async fn a_stop_begins_no_run_while_a_slow_sender_finishes_its_request() {
    let mut world = World::new().await;
    world.config.slots = 1;
    let running = world.start().await;
    let hook = world.hook(&running);
    world.says.send_replace(Says::Nothing);
    for number in ["A-1", "A-2"] {
        assert!(is_ok(&post(&running, &hook, &format!(r#"{{"number": "{number}"}}"#)).await));
    }
    assert!(world.requests.recv().await.unwrap().contains("A-1"));
    let mut slow = half_a_request(&running, &hook).await;
    let queue = running.queue().clone();
    let stopped = tokio::spawn(running.stop());
    world.says.send_replace(Says::Ok);
    let delivered = RunFilter { state: Some(RunStateName::Delivered), limit: 1, ..RunFilter::default() };
    while queue.store().runs(&delivered).await.unwrap().is_empty() {
        queue.flush().await.unwrap();
    }
    slow.write_all(br#"": "A-3"}"#).await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(is_ok(&answer), "{answer}");
    drop(queue);
    stopped.await.unwrap();
    assert!(world.requests.try_recv().is_err(), "a run was begun after the order to stop");

    let running = world.start().await;
    for number in ["A-2", "A-3"] {
        assert!(world.requests.recv().await.unwrap().contains(number));
    }
    running.stop().await;
}

#[tokio::test]
async fn a_stop_whose_grace_a_sender_uses_up_begins_no_run_either() {
    let mut world = World::new().await;
    world.config.slots = 1;
    world.config.stop_grace_ms = 200;
    let running = world.start().await;
    let hook = world.hook(&running);
    world.says.send_replace(Says::Nothing);
    for number in ["A-1", "A-2"] {
        assert!(is_ok(&post(&running, &hook, &format!(r#"{{"number": "{number}"}}"#)).await));
    }
    assert!(world.requests.recv().await.unwrap().contains("A-1"));
    let slow = half_a_request(&running, &hook).await;
    let stopped = tokio::spawn(running.stop());
    world.says.send_replace(Says::Ok);
    stopped.await.unwrap();
    assert!(world.requests.try_recv().is_err(), "a run was begun after the order to stop");
    drop(slow);
}
