//! Hooks of several workspaces: whoever sends much to one keeps nobody from the others.

use sheaf_bundles::workspace;

use super::*;
use crate::intake::{body::LARGE_BODIES_MAX, share::Share};

/// A server whose hooks belong to two workspaces, and their paths.
async fn of_two(world: &World) -> (Running, [String; 2]) {
    let stall = [
        ("sheaf.yaml", "kind: workspace\nname: stall\ntime_zone: Europe/Moscow\n".to_owned()),
        (
            "connections/stall.yaml",
            format!("kind: connection\nname: stall\nconnector: webhook\nsettings:\n{FIELDS}"),
        ),
    ];
    for (path, text) in stall {
        world.write(&workspace::path("stall", path), &text);
    }
    let running = world.start().await;
    let key = MasterKey::load(None, &world.config.data_directory()).unwrap();
    let paths = ["shop", "stall/stall"].map(|name| format!("/hooks/{}", key.token(name, 1).expose()));
    (running, paths)
}

fn share(running: &Running, connection: &str) -> Arc<Share> {
    let live = running.catalogue().live();
    live.share(live.hook_of(connection).unwrap()).unwrap().clone()
}

#[tokio::test]
async fn one_workspace_alone_has_all_of_intake() {
    let world = World::new().await;
    let running = world.start().await;
    let live = running.catalogue().live();
    assert!(live.share(live.hook_of("shop").unwrap()).is_none());
    running.stop().await;
}

#[tokio::test]
async fn callers_of_one_workspace_who_wait_for_their_commits_keep_out_no_others() {
    let world = World::new().await;
    let (running, [shop, stall]) = of_two(&world).await;
    for hook in [&shop, &stall] {
        assert!(is_ok(&post(&running, hook, r#"{"number": "A-1"}"#).await));
    }
    let of_shop = share(&running, "shop");
    let waiting: Vec<_> = std::iter::from_fn(|| of_shop.take()).collect();

    // Answered though the body never comes, and the connection is free for others.
    let mut stream = TcpStream::connect(running.addresses().hooks).await.unwrap();
    let head = format!("POST {shop} HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut refused = String::new();
    stream.read_to_string(&mut refused).await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert_eq!(header(&refused, "retry-after"), Some("5"));
    assert!(refused.ends_with("{\"reason\":\"too-many-at-once\"}\n"), "{refused}");
    assert!(is_ok(&post(&running, &stall, r#"{"number": "A-2"}"#).await));
    let metrics = page(running.addresses().management, "/metrics").await;
    assert!(metrics.contains("sheaf_hook_requests_total{connection=\"shop\",answer=\"503\"} 1"), "{metrics}");

    drop(waiting);
    assert!(is_ok(&post(&running, &shop, r#"{"number": "A-3"}"#).await));
    let lines = running.queue().store().ledger().await.unwrap();
    let received: Vec<_> = lines.iter().map(|line| (line.connection.as_str(), line.received)).collect();
    assert_eq!(received, [("shop", 2), ("stall/stall", 2)], "nothing was taken that was refused");
    running.stop().await;
}

#[tokio::test]
async fn large_bodies_of_one_workspace_leave_room_for_those_of_others() {
    let world = World::new().await;
    let (running, [shop, stall]) = of_two(&world).await;
    let large = format!(r#"{{"number": "{}"}}"#, "1".repeat(40 * 1024));
    let mut slow = Vec::new();
    for _ in 0..LARGE_BODIES_MAX {
        let mut stream = TcpStream::connect(running.addresses().hooks).await.unwrap();
        let head = format!("POST {shop} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", large.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&large.as_bytes()[..20 * 1024]).await.unwrap();
        slow.push(stream);
    }
    let of_shop = share(&running, "shop");
    while of_shop.large.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    // None of them ends.
    assert!(is_ok(&post(&running, &stall, &large).await));
    drop(slow);
    running.stop().await;
}
