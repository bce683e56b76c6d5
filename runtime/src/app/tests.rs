//! The whole server in one process: real sockets, a real database, a clock that is set.

use std::{fs, net::Ipv4Addr};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

mod gates;
mod hooks;
mod shares;
mod starts;
mod stops;
mod workspaces;

use super::*;
use crate::{
    clock::SetClock,
    queue::history::{EventFilter, LedgerLine, RunFilter, RunStateName},
    storage::store::Store,
};

const WORKSPACE: &str = "kind: workspace\nname: test\ntime_zone: Europe/Moscow\n";
const CRM: &str = "kind: connection\nname: crm\nconnector: http\nsettings:\n  base_url: https://crm.example/\n  parameters: [number]\n  authentication: bearer\n  idempotency_header: Idempotency-Key\nsecrets:\n  token: {env: CRM_TOKEN}\n";
const FIELDS: &str = "  fields:\n    number: {type: text, always: true, title: {en: Number, ru: Номер}}\n";
/// A secret that must be found nowhere but in requests.
const CANARY: &str = "canary-8f2c71";
/// The time at which tests begin, unix milliseconds.
const NOW_MS: i64 = 1_800_000_000_000;

/// What the receiver answers.
#[derive(Debug, Clone, Copy)]
enum Says {
    Ok,
    Busy,
    /// Nothing, until it is told to say something else.
    Nothing,
    /// It hangs up.
    HangsUp,
    /// A refusal that repeats the credential it was sent.
    Echo,
}

struct World {
    folder: TempDir,
    config: Config,
    clock: Clock,
    set: SetClock,
    requests: mpsc::UnboundedReceiver<String>,
    says: tokio::sync::watch::Sender<Says>,
}

impl World {
    async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        let (says, answers) = tokio::sync::watch::channel(Says::Ok);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(receive(stream, sender.clone(), answers.clone()));
            }
        });
        let (clock, set) = Clock::stopped_at(NOW_MS);
        let mut config = Config::new(folder.path());
        config.hooks_address = (Ipv4Addr::LOCALHOST, 0).into();
        config.management_address = (Ipv4Addr::LOCALHOST, 0).into();
        let leads = |host| format!("https://{host}.example=http://{address}").parse().unwrap();
        config.egress_override = ["crm", "sms"].map(leads).to_vec();
        config.watch_ms = 5;
        let world = World { folder, config, clock, set, requests, says };
        world.write("sheaf.yaml", WORKSPACE);
        world.write("connections/crm.yaml", CRM);
        world.write(
            "connections/shop.yaml",
            &format!("kind: connection\nname: shop\nconnector: webhook\nsettings:\n{FIELDS}"),
        );
        world.write("bundles/order.yaml", &bundle("0m", "{{ number }}"));
        world
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    async fn start(&self) -> Running {
        let environment = Environment::of([("CRM_TOKEN", CANARY), ("SHOP_TOKEN", CANARY)]);
        serve(self.config.clone(), environment, self.clock.clone()).await.unwrap()
    }

    fn hook(&self, running: &Running) -> String {
        let live = running.catalogue().live();
        let connection = &live.hook_of("shop").unwrap().decoder.hook().connection;
        let key = MasterKey::load(None, &self.config.data_directory()).unwrap();
        format!("/hooks/{}", key.token(&connection.name, connection.hook_generation).expose())
    }

    /// Every byte the server keeps on disk.
    fn kept(&self) -> Vec<u8> {
        let files = fs::read_dir(self.config.data_directory()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.is_file()).flat_map(|path| fs::read(path).unwrap()).collect()
    }
}

fn bundle(delay: &str, number: &str) -> String {
    format!(
        "kind: bundle\nname: order\nactive: true\non: {{connection: shop, trigger: received, delay: {delay}}}\nsteps:\n  - name: send\n    action: http.request\n    connection: crm\n    with:\n      method: POST\n      parameters:\n        number: \"{number}\"\n"
    )
}

/// Reads requests with a length, tells each, and answers.
async fn receive(
    mut stream: TcpStream,
    told: mpsc::UnboundedSender<String>,
    mut says: tokio::sync::watch::Receiver<Says>,
) {
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = header(head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if body.len() < length {
            continue;
        }
        let _ = told.send(text.clone());
        let Ok(says) = says.wait_for(|says| !matches!(says, Says::Nothing)).await.map(|says| *says) else {
            return;
        };
        let (status, answer) = match says {
            Says::HangsUp => return,
            Says::Ok | Says::Nothing => ("200 OK", "{}".to_owned()),
            Says::Busy => ("503 Service Unavailable", "{}".to_owned()),
            Says::Echo => {
                ("400 Bad Request", format!("you are {}", header(head, "authorization").unwrap_or_default()))
            }
        };
        let reply = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
        bytes.clear();
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

/// One exchange at the hooks' listener; the whole answer.
async fn send(running: &Running, method: &str, path: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(running.addresses().hooks).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn post(running: &Running, path: &str, body: &str) -> String {
    send(running, "POST", path, "Content-Type: application/json\r\n", body).await
}

fn is_ok(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok")
}

async fn ledger(store: &Store) -> LedgerLine {
    let lines = store.ledger().await.unwrap();
    assert!(lines.iter().all(|line| line.events_balance && line.decisions_balance));
    lines.into_iter().find(|line| line.connection == "shop").unwrap()
}

#[tokio::test]
async fn an_event_is_answered_delivered_and_balanced() {
    let mut world = World::new().await;
    let running = world.start().await;
    assert!(is_ok(&post(&running, &world.hook(&running), r#"{"number": "A-1"}"#).await));
    let request = world.requests.recv().await.unwrap();
    assert!(
        request.starts_with("POST / HTTP/1.1\r\n") && request.ends_with(r#"{"number":"A-1"}"#),
        "{request}"
    );
    assert_eq!(header(&request, "host"), Some("crm.example"));
    assert_eq!(header(&request, "authorization"), Some(format!("Bearer {CANARY}").as_str()));
    assert_eq!(header(&request, "idempotency-key").map(str::len), Some(36));
    let queue = running.queue().clone();
    let (health, store) = (queue.health(), queue.store().clone());
    assert_eq!(*health.borrow(), Health::Ready);
    running.stop().await;
    drop(store);
    let running = world.start().await;
    let line = ledger(running.queue().store()).await;
    assert_eq!((line.received, line.accepted, line.decisions, line.delivered), (1, 1, 1, 1));
    running.stop().await;
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_retry_sends_the_same_bytes_when_its_time_has_come() {
    let mut world = World::new().await;
    let running = world.start().await;
    world.says.send_replace(Says::Busy);
    assert!(is_ok(&post(&running, &world.hook(&running), r#"{"number": "A-1"}"#).await));
    let first = world.requests.recv().await.unwrap();
    settled(&running, |run| run.attempt == 1).await;
    world.set.advance_ms(4_999);
    running.queue().flush().await.unwrap();
    assert!(world.requests.try_recv().is_err(), "nothing fires early");
    world.says.send_replace(Says::Ok);
    world.set.advance_ms(1_000);
    assert_eq!(world.requests.recv().await.unwrap(), first);
    settled(&running, |run| run.state == RunStateName::Delivered).await;
    running.stop().await;
}

/// Waits until the only run is as described.
async fn settled(running: &Running, as_described: impl Fn(&crate::queue::history::RunSummary) -> bool) {
    loop {
        running.queue().flush().await.unwrap();
        let runs =
            running.queue().store().runs(&RunFilter { limit: 1, ..RunFilter::default() }).await.unwrap();
        if runs.first().is_some_and(&as_described) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_secret_that_a_vendor_repeats_is_in_no_row() {
    let mut world = World::new().await;
    let running = world.start().await;
    world.says.send_replace(Says::Echo);
    assert!(is_ok(&post(&running, &world.hook(&running), r#"{"number": "A-1"}"#).await));
    assert!(world.requests.recv().await.unwrap().contains(CANARY));
    settled(&running, |run| run.state == RunStateName::Parked).await;
    running.stop().await;
    assert!(!contains(&world.kept(), CANARY));
}

#[tokio::test]
async fn a_run_under_way_finishes_on_its_own_version_and_the_next_event_takes_the_new_one() {
    let mut world = World::new().await;
    world.write("bundles/order.yaml", &bundle("5m", "old {{ number }}"));
    let running = world.start().await;
    let hook = world.hook(&running);
    assert!(is_ok(&post(&running, &hook, r#"{"number": "A-1"}"#).await));
    let epoch = running.catalogue().live().epoch;
    world.write("bundles/order.yaml", "kind: bundle\nname: order\n");
    world.write("bundles/order.yaml", &bundle("0m", "new {{ number }}"));
    running.catalogue().after(epoch).await.unwrap();
    assert!(is_ok(&post(&running, &hook, r#"{"number": "A-2"}"#).await));
    assert!(world.requests.recv().await.unwrap().ends_with(r#"{"number":"new A-2"}"#));
    world.set.advance_ms(300_000);
    assert!(world.requests.recv().await.unwrap().ends_with(r#"{"number":"old A-1"}"#));
    running.stop().await;
}

/// The head of a request at a hook, of which the server waits for the body: it has looked the hook up.
async fn head_sent(running: &Running, path: &str, kind: &str, body: &str) -> TcpStream {
    const GO_ON: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    let mut stream = TcpStream::connect(running.addresses().hooks).await.unwrap();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nExpect: 100-continue\r\n\
         Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; GO_ON.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, GO_ON.as_bytes());
    stream
}

#[tokio::test]
async fn a_request_under_way_while_the_catalogue_changes_is_read_as_the_new_one_says() {
    let mut world = World::new().await;
    let running = world.start().await;
    let hook = world.hook(&running);
    let epoch = running.catalogue().live().epoch;
    let mut requests = Vec::new();
    for (kind, body) in [
        ("application/x-www-form-urlencoded", r#"order={"number":"A-1"}"#),
        ("application/json", r#"{"order": {"number": "A-2"}}"#),
    ] {
        requests.push((head_sent(&running, &hook, kind, body).await, body));
    }
    // Until the connection declares what the filter reads, the files are wrong, and nothing changes.
    let filter = "filter: order.number is not empty\nsteps:";
    world.write("bundles/order.yaml", &bundle("0m", "new {{ order.number }}").replace("steps:", filter));
    // A text is opened where a map is declared; and what is no form is not read any more.
    world.write(
        "connections/shop.yaml",
        "kind: connection\nname: shop\nconnector: webhook\nsettings:\n  content: [form]\n  fields:\n    \
         order: {type: map, items: {type: text}, title: {en: Order, ru: Заказ}}\n",
    );
    running.catalogue().after(epoch).await.unwrap();
    for (stream, body) in &mut requests {
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(is_ok(&answer), "{answer}");
    }
    let line = ledger(running.queue().store()).await;
    assert_eq!((line.accepted, line.filtered, line.quarantined), (1, 0, 1));
    assert!(world.requests.recv().await.unwrap().ends_with(r#"{"number":"new A-1"}"#));
    running.stop().await;
}

#[tokio::test]
async fn the_token_of_the_generation_before_works_until_the_next() {
    let world = World::new().await;
    let running = world.start().await;
    let old = world.hook(&running);
    running.stop().await;
    for (generation, works) in [(2, true), (3, false)] {
        world.write(
            "connections/shop.yaml",
            &format!("kind: connection\nname: shop\nconnector: webhook\nhook_generation: {generation}\nsettings:\n{FIELDS}"),
        );
        let running = world.start().await;
        assert_eq!(is_ok(&post(&running, &old, "{}").await), works, "generation {generation}");
        assert!(is_ok(&post(&running, &world.hook(&running), "{}").await));
        running.stop().await;
    }
}

#[tokio::test]
async fn the_management_listener_tells_health_counts_and_the_ledger() {
    let mut world = World::new().await;
    let running = world.start().await;
    assert!(is_ok(&post(&running, &world.hook(&running), r#"{"number": "A-1"}"#).await));
    world.requests.recv().await.unwrap();
    settled(&running, |run| run.state == RunStateName::Delivered).await;
    let mut pages = Vec::new();
    for path in ["/healthz", "/readyz", "/metrics"] {
        let page = page(running.addresses().management, path).await;
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
        pages.push(page);
    }
    for line in [
        "sheaf_hook_requests_total{connection=\"shop\",answer=\"200\"} 1",
        "sheaf_ledger{connection=\"shop\",count=\"delivered\"} 1",
        "sheaf_ledger_balanced{connection=\"shop\"} 1",
        "sheaf_queue_published_total 1",
    ] {
        assert!(pages[2].contains(line), "{line} in {}", pages[2]);
    }
    running.stop().await;
}

async fn page(management: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(management).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page
}

#[tokio::test]
async fn a_server_whose_writer_has_ended_is_not_ready_and_exits() {
    let world = World::new().await;
    let mut running = world.start().await;
    let settings = Settings {
        database: world.config.database(),
        slots: 1,
        lease_ms: crate::queue::LEASE_MS,
        clock: world.clock.clone(),
    };
    running.queue = Queue::orphaned(&settings).await;
    // People have been told.
    running.seen = watch::channel(Arc::new(Seen { failing: true, ..Seen::default() })).1;
    let why = timeout(Duration::from_secs(5), running.broken()).await.expect("it exits");
    assert!(why.contains("writer"), "{why}");

    let (_stopper, stopping) = stop::channel();
    let pages = Management {
        metrics: Arc::default(),
        queue: running.queue.clone(),
        catalogue: running.catalogue.clone(),
        stopping,
        spool: None,
        seen: running.seen(),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(management::serve(listener, pages));
    let page = page(address, "/readyz").await;
    assert!(page.starts_with("HTTP/1.1 503 ") && page.contains("writer"), "{page}");
    serving.abort();
    running.stop().await;
}
