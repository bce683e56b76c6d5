//! Where a server has several workspaces, each is told of its own things, by its own file.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use sheaf_bundles::{
    alerts::decide::OVER_AFTER_MS,
    catalog::Catalog,
    compile::{self, Integration},
};
use sheaf_runtime::{
    alerts::{self, Told, channel::Sender, teller::Teller},
    clock::{Clock, SetClock},
    config::Environment,
    egress::{Egress, Rules},
    metrics::Metrics,
    oversight::Seen,
    queue::{
        LEASE_MS, Queue, Settings,
        gate::{ClosedGate, GateKind},
        observe::{Parked, Waiting, WaitingFor},
    },
    secrets::Secrets,
    storage::database::Database,
};
use sheaf_tests::{
    receiver::{Behaviour, Receiver},
    standard_webhooks::verify,
};
use tokio::sync::watch;

const START_MS: i64 = 1_700_000_000_000;
const MINUTE_MS: i64 = 60_000;
/// The signing keys of the operator and of the shop, base64 of 24 bytes.
const OPS_KEY: &str = "whsec_b3BzLW9wcy1vcHMtb3BzLW9wcy0x";
const SHOP_KEY: &str = "whsec_c2hvcC1zaG9wLXNob3Atc2hvcC0x";

/// A workspace with this `alerts.yaml`, if any.
fn workspace(key: &str, name: &str, alerts: Option<&str>) -> Integration {
    let sheaf = format!("kind: workspace\nname: {name}\ntime_zone: Europe/Moscow\n");
    let mut files = vec![("sheaf.yaml", sheaf.as_str())];
    files.extend(alerts.map(|text| ("alerts.yaml", text)));
    let (integration, _, out) = compile::compile(&files, &Catalog::default());
    assert!(!out.has_errors(), "{alerts:?}");
    Integration { key: key.to_owned(), ..integration.expect("a workspace") }
}

/// The operator's directory, the shop, which has a channel of the same name and waits for less long, and the bank, which has none.
fn told() -> Told {
    let ops = "kind: alerts\nwebhooks:\n  duty: {url: \"https://ops.example/\", secret: {env: OPS_KEY}}\n";
    let shop = "kind: alerts\nlanguage: ru\nwaiting_max: 1m\nwebhooks:\n  duty: {url: \"https://shop.example/\", secret: {env: SHOP_KEY}}\n";
    Told::of(&[
        workspace("", "ops", Some(ops)),
        workspace("shop", "shop", Some(shop)),
        workspace("bank", "bank", Some("kind: alerts\nwaiting_max: 1m\n")),
    ])
}

/// A teller beside a queue that has nothing to do, and both receivers.
struct Bench {
    _folder: tempfile::TempDir,
    queue: Queue,
    clock: Clock,
    set: SetClock,
    ops: Receiver,
    shop: Receiver,
    metrics: Arc<Metrics>,
    told: watch::Sender<Told>,
    teller: Teller,
}

impl Bench {
    async fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let (clock, set) = Clock::stopped_at(START_MS);
        let database = Database::of(None, folder.path().to_owned());
        let settings = Settings { database, slots: 1, lease_ms: LEASE_MS, clock: clock.clone() };
        let (queue, _claims) = Queue::serve(settings).await.expect("a queue");
        let ops = Receiver::start().await.expect("a receiver");
        let shop = Receiver::start().await.expect("a receiver");
        let metrics = Arc::new(Metrics::new());
        let (told, told_now) = watch::channel(told());
        let sender = sender(&ops, &shop, &clock);
        let teller = Teller::new(told_now, sender, metrics.clone(), clock.clone());
        Bench { _folder: folder, queue, clock, set, ops, shop, metrics, told, teller }
    }

    /// As after a restart: what was told is in the database.
    fn restarted(&mut self) {
        let sender = sender(&self.ops, &self.shop, &self.clock);
        self.teller = Teller::new(self.told.subscribe(), sender, self.metrics.clone(), self.clock.clone());
    }

    /// Tells of what is seen now, and waits until nothing is under way.
    async fn tell(&mut self, seen: &mut Seen) {
        seen.at_ms = self.clock.now_ms();
        self.teller.tell(self.queue.store(), seen).await;
        while let Some(sent) = self.teller.sent().await {
            self.teller.settle(self.queue.store(), sent).await;
        }
    }
}

fn sender(ops: &Receiver, shop: &Receiver, clock: &Clock) -> Sender {
    let to = |name: &str, receiver: &Receiver| format!("https://{name}.example={}", receiver.origin());
    let overrides = [to("ops", ops), to("shop", shop)].map(|it| it.parse().expect("an override"));
    Sender {
        egress: Egress::new(Rules { overrides: overrides.into(), ..Rules::default() })
            .expect("a client")
            .into(),
        secrets: Secrets::new(Environment::of([("OPS_KEY", OPS_KEY), ("SHOP_KEY", SHOP_KEY)]), "/nowhere")
            .into(),
        clock: clock.clone(),
        directory: "/nowhere".into(),
    }
}

/// What a receiver was told, each signed with its own key: type, workspace and whose it is. No word of `others` is in it.
pub fn heard(receiver: &Receiver, key: &str, others: &[&str]) -> Vec<(String, String, String)> {
    let heard = receiver.messages().into_iter().map(|message| {
        let signed_s =
            message.header("webhook-timestamp").and_then(|time| time.parse().ok()).expect("a time");
        verify(&message, key, signed_s).expect("it is signed");
        let text = String::from_utf8(message.body.clone()).expect("text");
        assert!(others.iter().all(|other| !text.contains(other)), "{text}");
        let body: Value = serde_json::from_str(&text).expect("JSON");
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let data = &body["data"];
        let whose = data.get("bundle").or(data.get("connection")).map_or_else(String::new, word);
        (word(&body["type"]), word(&data["workspace"]), whose)
    });
    let mut heard: Vec<_> = heard.collect();
    heard.sort();
    heard
}

pub fn owned(told: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    told.iter()
        .map(|(kind, workspace, whose)| ((*kind).into(), (*workspace).into(), (*whose).into()))
        .collect()
}

fn parked(bundle: &str, connection: &str) -> (Parked, Vec<sheaf_runtime::queue::observe::ParkedExample>) {
    let (bundle, connection) = (bundle.to_owned(), connection.to_owned());
    let parked =
        Parked { bundle, connection, class: "bad_request".to_owned(), count: 3, since_ms: 5, newest_ms: 9 };
    (parked, Vec::new())
}

#[tokio::test]
async fn each_workspace_is_told_of_its_own_and_the_directory_of_the_rest_once_over_a_restart() {
    let mut bench = Bench::new().await;
    let waits = |connection: &str| Waiting {
        connection: connection.to_owned(),
        waiting_for: WaitingFor::Slot,
        count: 1,
        since_ms: START_MS - 2 * MINUTE_MS,
        oldest: None,
    };
    let paused = ClosedGate {
        kind: GateKind::Bundle,
        name: "bank/cards".to_owned(),
        why: "paused",
        since_ms: 5,
        until_ms: None,
        waiting: 1,
    };
    let mut seen = Seen {
        parked: vec![parked("shop/leads", "shop/calls"), parked("bank/leads", "bank/calls")],
        waiting: vec![waits("shop/calls"), waits("bank/calls"), waits("calls")],
        gates: vec![paused],
        failing: true,
        ..Seen::default()
    };
    bench.tell(&mut seen).await;
    bench.restarted();
    bench.tell(&mut seen).await;
    let ops = [
        ("bundle_paused.opened", "bank", "bank/cards"),
        ("queue_failing.opened", "ops", ""),
        ("run_parked.opened", "bank", "bank/leads"),
    ];
    assert_eq!(heard(&bench.ops, OPS_KEY, &["shop"]), owned(&ops));
    let shop = [("run_parked.opened", "shop", "shop/leads"), ("waiting_long.opened", "shop", "shop/calls")];
    assert_eq!(heard(&bench.shop, SHOP_KEY, &["bank", "ops"]), owned(&shop), "it waits for less long");
    let message = String::from_utf8(bench.shop.messages()[0].body.clone()).expect("text");
    assert!(message.contains("[sheaf] shop: ") && message.contains("связка shop/leads"), "{message}");

    let mut well = Seen::default();
    bench.tell(&mut well).await;
    bench.set.advance_ms(OVER_AFTER_MS);
    bench.tell(&mut well).await;
    assert_eq!((bench.ops.messages().len(), bench.shop.messages().len()), (6, 4), "each hears the end");
    heard(&bench.ops, OPS_KEY, &["shop"]);
    heard(&bench.shop, SHOP_KEY, &["bank", "ops"]);
}

#[tokio::test]
async fn channels_of_one_name_in_two_workspaces_are_told_apart_wherever_they_are_shown() {
    let mut bench = Bench::new().await;
    bench.shop.script([Behaviour::Status(500, String::new())]);
    let parked = vec![parked("shop/leads", "shop/calls"), parked("leads", "calls")];
    let mut seen = Seen { parked, ..Seen::default() };
    bench.tell(&mut seen).await;
    bench.tell(&mut seen).await;
    assert_eq!(seen.late, [("shop/webhooks.duty".to_owned(), 1)]);
    assert_eq!(seen.wrong(), ["alerts do not arrive: shop/webhooks.duty, 1"]);
    let page = bench.metrics.page(&bench.queue, &[], &seen);
    for line in [
        "sheaf_alerts_total{channel=\"shop/webhooks.duty\",fate=\"again\"} 1",
        "sheaf_alerts_total{channel=\"webhooks.duty\",fate=\"arrived\"} 1",
        "sheaf_alerts_late{channel=\"shop/webhooks.duty\"} 1",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
    bench.set.advance_ms(MINUTE_MS);
    bench.tell(&mut seen).await;
    let ids: Vec<_> =
        bench.shop.messages().iter().map(|it| it.header("webhook-id").map(str::to_owned)).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "the same message again: {ids:?}");

    let sent: BTreeMap<String, Result<(), String>> =
        alerts::test(&sender(&bench.ops, &bench.shop, &bench.clock), &told()).await.into_iter().collect();
    let names = ["shop/webhooks.duty", "webhooks.duty"].map(|name| (name.to_owned(), Ok(())));
    assert_eq!(sent, names.into());
    assert_eq!((bench.ops.messages().len(), bench.shop.messages().len()), (2, 3));
}
