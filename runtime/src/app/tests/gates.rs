//! Runs of several steps at the gates of their connections, over real sockets.

use super::*;
use crate::queue::{
    breaker::{FAILURES_MAX, OPEN_MS_FIRST},
    gate::GateKind,
    gates::failing::PARKED_MAX,
};

/// A connector whose vendor is asked whether it has what was sent.
const ASKED: &str = "kind: connector\nname: asked\ntitle: {en: Asked, ru: Вопрос}\nactions:\n  order:\n    title: {en: Order, ru: Заказ}\n    input:\n      number: {type: text, required: true, title: {en: Number, ru: Номер}}\n    request:\n      url: https://crm.example/orders\n      encoding: json\n      body: {number: \"{{ input.number }}\"}\n    probe:\n      request: {url: https://crm.example/orders, query: {number: \"{{ input.number }}\"}}\n      found: response.status = 200\n      absent: response.status = 404\n";

impl World {
    /// A bundle that sends through each of these connections, one after the other.
    async fn with_steps(connections: &[&str]) -> World {
        let world = World::new().await;
        world.write("connections/sms.yaml", &CRM.replace("crm", "sms"));
        let step = |connection: &&str| {
            format!(
                "  - name: {connection}\n    action: http.request\n    connection: {connection}\n    with:\n      method: POST\n      parameters: {{number: \"{{{{ number }}}}\"}}\n"
            )
        };
        let steps: String = connections.iter().map(step).collect();
        let on = "{connection: shop, trigger: received}";
        let bundle = format!("kind: bundle\nname: order\nactive: true\non: {on}\nsteps:\n{steps}");
        world.write("bundles/order.yaml", &bundle);
        world
    }

    async fn send(&self, running: &Running, events: u32) {
        for number in 0..events {
            let body = format!(r#"{{"number": "A-{number}"}}"#);
            assert!(is_ok(&post(running, &self.hook(running), &body).await));
        }
    }

    /// The hosts of the next requests.
    async fn hosts(&mut self, requests: u32) -> Vec<String> {
        let mut hosts = Vec::new();
        for _ in 0..requests {
            let request = self.requests.recv().await.unwrap();
            hosts.push(header(&request, "host").unwrap().trim_end_matches(".example").to_owned());
        }
        hosts
    }
}

/// Waits until the ledger is as described.
async fn counted(running: &Running, as_described: impl Fn(&LedgerLine) -> bool) {
    loop {
        running.queue().flush().await.unwrap();
        if as_described(&ledger(running.queue().store()).await) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Waits until so many attempts were refused.
async fn refused(running: &Running, attempts: u32) {
    let all = RunFilter { limit: 100, ..RunFilter::default() };
    loop {
        running.queue().flush().await.unwrap();
        let runs = running.queue().store().runs(&all).await.unwrap();
        if runs.iter().map(|run| run.attempt).sum::<u32>() == attempts {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_vendor_that_is_well_again_gets_all_its_runs_though_they_go_on_to_another() {
    let mut world = World::with_steps(&["crm", "sms"]).await;
    let running = world.start().await;
    world.says.send_replace(Says::Busy);
    world.send(&running, FAILURES_MAX).await;
    refused(&running, FAILURES_MAX).await;
    let store = running.queue().store().clone();
    assert_eq!(store.closed_gates().await.unwrap().len(), 1);
    world.says.send_replace(Says::Ok);
    world.set.advance_ms(2 * OPEN_MS_FIRST);
    counted(&running, |line| line.delivered == i64::from(FAILURES_MAX)).await;
    assert_eq!(store.closed_gates().await.unwrap(), []);
    assert_eq!(world.hosts(3 * FAILURES_MAX).await.iter().filter(|host| *host == "sms").count(), 5);
    running.stop().await;
}

#[tokio::test]
async fn a_later_step_waits_for_its_own_connection_and_the_earlier_one_is_not_repeated() {
    let mut world = World::with_steps(&["sms", "crm"]).await;
    let running = world.start().await;
    let store = running.queue().store().clone();
    store.pause(GateKind::Connection, "crm", true).await.unwrap();
    world.set.advance_ms(1_000);
    running.queue().flush().await.unwrap();
    world.send(&running, 2).await;
    assert_eq!(world.hosts(2).await, ["sms", "sms"]);
    while store.closed_gates().await.unwrap()[0].waiting < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ledger(&store).await.pending, 2);
    assert!(world.requests.try_recv().is_err(), "nothing reaches a connection that is paused");
    store.pause(GateKind::Connection, "crm", false).await.unwrap();
    world.set.advance_ms(1_000);
    assert_eq!(world.hosts(2).await, ["crm", "crm"]);
    counted(&running, |line| line.delivered == 2).await;
    assert!(world.requests.try_recv().is_err());
    running.stop().await;
}

#[tokio::test]
async fn a_vendor_that_answers_no_question_about_what_was_sent_is_failing() {
    let world = World::new().await;
    world.write("connectors/asked/connector.yaml", ASKED);
    world.write("connections/crm.yaml", "kind: connection\nname: crm\nconnector: asked\n");
    let sends = "action: asked.order\n    connection: crm\n    with: {number: \"{{ number }}\"}\n";
    let on = "{connection: shop, trigger: received}";
    let bundle =
        format!("kind: bundle\nname: order\nactive: true\non: {on}\nsteps:\n  - name: order\n    {sends}");
    world.write("bundles/order.yaml", &bundle);
    let running = world.start().await;
    world.says.send_replace(Says::HangsUp);
    world.send(&running, FAILURES_MAX - 2).await;
    refused(&running, FAILURES_MAX - 2).await;
    assert_eq!(running.queue().store().closed_gates().await.unwrap(), []);
    world.set.advance_ms(2 * OPEN_MS_FIRST);
    refused(&running, 2 * (FAILURES_MAX - 2)).await;
    let [held] = running.queue().store().closed_gates().await.unwrap().try_into().expect("one gate");
    assert_eq!((held.kind, held.name.as_str(), held.why), (GateKind::Connection, "crm", "failing"));
    running.stop().await;
}

#[tokio::test]
async fn a_bundle_whose_data_the_vendor_refuses_every_time_is_paused_and_its_events_wait() {
    let mut world = World::new().await;
    let running = world.start().await;
    let store = running.queue().store().clone();
    world.says.send_replace(Says::Echo);
    world.send(&running, PARKED_MAX).await;
    counted(&running, |line| line.parked == i64::from(PARKED_MAX)).await;
    let [held] = store.closed_gates().await.unwrap().try_into().expect("one gate");
    assert_eq!((held.kind, held.name.as_str(), held.why), (GateKind::Bundle, "order", "failing"));
    world.hosts(PARKED_MAX).await;
    world.says.send_replace(Says::Ok);
    world.send(&running, 2).await;
    assert_eq!(store.closed_gates().await.unwrap()[0].waiting, 2);
    assert!(world.requests.try_recv().is_err(), "its events wait");
    store.pause(GateKind::Bundle, "order", false).await.unwrap();
    world.set.advance_ms(1_000);
    counted(&running, |line| line.delivered == 2).await;
    running.stop().await;
}
