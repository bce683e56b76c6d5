//! Several workspaces served at once: nothing of theirs is shared, and none is in the way of another.

use super::*;

/// The directory's own workspace and two others, which say the very same but for their names and secrets.
const KEYS: [&str; 3] = ["", "depot", "store"];
const NUMBER: &str = r#"{"number": "A-1"}"#;

impl World {
    /// The `crm` of each has a token of its own, in a file below its own folder.
    async fn with_workspaces() -> World {
        let world = World::new().await;
        for key in KEYS {
            world.write_of(key, "connections/crm.yaml", &CRM.replace("env: CRM_TOKEN", "file: keys/crm"));
            world.write_of(key, "keys/crm", &format!("token-of-{key}"));
            let shop = format!(
                "kind: connection\nname: shop\nconnector: webhook\nsettings:\n{FIELDS}  dedupe: [number]\n"
            );
            world.write_of(key, "connections/shop.yaml", &shop);
            world.write_of(key, "bundles/order.yaml", &bundle("0m", "{{ number }}"));
            if !key.is_empty() {
                world.write_of(key, "sheaf.yaml", &WORKSPACE.replace("test", key));
            }
        }
        world
    }

    fn write_of(&self, key: &str, path: &str, text: &str) {
        self.write(&sheaf_bundles::workspace::path(key, path), text);
    }

    /// Posts an order through the hook of a workspace; whether it was answered ok.
    async fn post_to(&self, running: &Running, key: &str, body: &str) -> bool {
        let key_of = MasterKey::load(None, &self.config.data_directory()).unwrap();
        let name = sheaf_bundles::workspace::qualified(key, "shop");
        is_ok(&post(running, &format!("/hooks/{}", key_of.token(&name, 1).expose()), body).await)
    }

    /// The number in the next request, and whose token it came with.
    async fn next(&mut self) -> (String, String) {
        let request = self.requests.recv().await.unwrap();
        let of = header(&request, "authorization").unwrap().trim_start_matches("Bearer token-of-").to_owned();
        (of, request.rsplit('"').nth(1).unwrap().to_owned())
    }

    /// What a request of each of these workspaces says now.
    async fn says(&mut self, running: &Running, keys: &[&str], number: &str) -> Vec<(String, String)> {
        let mut said = Vec::new();
        for key in keys {
            assert!(self.post_to(running, key, &format!(r#"{{"number": "{number}"}}"#)).await, "{key}");
            said.push(self.next().await);
        }
        said
    }
}

fn said(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(of, number)| ((*of).to_owned(), (*number).to_owned())).collect()
}

const BROKEN: &str = "kind: bundle\nnmae: order\n";

#[tokio::test]
async fn workspaces_with_the_same_names_share_neither_hooks_nor_identities_nor_secrets_nor_runs() {
    let mut world = World::with_workspaces().await;
    let running = world.start().await;
    let sent = world.says(&running, &KEYS, "A-1").await;
    assert_eq!(sent, said(&[("", "A-1"), ("depot", "A-1"), ("store", "A-1")]));
    assert!(world.post_to(&running, "depot", NUMBER).await, "a duplicate is answered ok");
    let store = running.queue().store().clone();
    let count = async |bundle: &str| {
        let filter = RunFilter { bundle: Some(bundle.to_owned()), limit: 10, ..RunFilter::default() };
        store.runs(&filter).await.unwrap().len()
    };
    assert_eq!((count("order").await, count("depot/order").await, count("store/order").await), (1, 1, 1));
    let lines = store.ledger().await.unwrap();
    let counts = lines.iter().map(|line| (line.connection.as_str(), line.received, line.duplicate));
    assert_eq!(counts.collect::<Vec<_>>(), [("depot/shop", 2, 1), ("shop", 1, 0), ("store/shop", 1, 0)]);
    running.stop().await;
}

#[tokio::test]
async fn a_workspace_that_is_wrong_stays_as_it_was_while_another_switches() {
    let mut world = World::with_workspaces().await;
    let running = world.start().await;
    let epoch = running.catalogue().live().epoch;
    world.write_of("depot", "bundles/order.yaml", BROKEN);
    world.write_of("store", "bundles/order.yaml", &bundle("0m", "new {{ number }}"));
    running.catalogue().after(epoch).await.unwrap();
    let sent = world.says(&running, &KEYS, "A-1").await;
    assert_eq!(sent, said(&[("", "A-1"), ("depot", "A-1"), ("store", "new A-1")]));

    let epoch = running.catalogue().live().epoch;
    world.write_of("depot", "bundles/order.yaml", &bundle("0m", "put right {{ number }}"));
    running.catalogue().after(epoch).await.unwrap();
    let sent = world.says(&running, &KEYS, "A-2").await;
    assert_eq!(sent, said(&[("", "A-2"), ("depot", "put right A-2"), ("store", "new A-2")]));
    running.stop().await;
}

#[tokio::test]
async fn a_start_serves_what_was_live_of_a_workspace_that_is_wrong_beside_the_files_of_the_others() {
    let mut world = World::with_workspaces().await;
    world.start().await.stop().await;
    world.write("sheaf.yaml", "kind: workspace\n");
    world.write_of("depot", "bundles/order.yaml", BROKEN);
    world.write_of("store", "bundles/order.yaml", &bundle("0m", "new {{ number }}"));
    world.write_of("fresh", "bundles/order.yaml", &bundle("0m", "{{ number }}"));
    let running = world.start().await;
    let sent = world.says(&running, &KEYS, "A-1").await;
    assert_eq!(sent, said(&[("", "A-1"), ("depot", "A-1"), ("store", "new A-1")]));
    assert!(!world.post_to(&running, "fresh", NUMBER).await, "it has never been live");
    running.stop().await;
}

#[tokio::test]
async fn a_workspace_whose_folder_is_gone_is_off_and_its_runs_that_wait_are_run() {
    let mut world = World::with_workspaces().await;
    world.write_of("depot", "bundles/order.yaml", &bundle("5m", "old {{ number }}"));
    let running = world.start().await;
    assert!(world.post_to(&running, "depot", NUMBER).await);
    let epoch = running.catalogue().live().epoch;
    fs::rename(world.folder.path().join("workspaces/depot/sheaf.yaml"), world.folder.path().join("aside"))
        .unwrap();
    world.write_of("store", "bundles/order.yaml", &bundle("0m", "new {{ number }}"));
    let live = running.catalogue().after(epoch).await.unwrap();
    assert!(live.hook_of("depot/shop").is_some_and(|hook| hook.plans.len() == 1), "it is only wrong");
    fs::remove_dir_all(world.folder.path().join("workspaces/depot")).unwrap();
    let live = running.catalogue().after(live.epoch).await.unwrap();
    assert!(live.hook_of("depot/shop").is_none() && live.hook_of("store/shop").is_some());
    assert!(!world.post_to(&running, "depot", NUMBER).await);
    world.set.advance_ms(300_000);
    assert_eq!(world.next().await, ("depot".to_owned(), "old A-1".to_owned()));
    running.stop().await;
}
