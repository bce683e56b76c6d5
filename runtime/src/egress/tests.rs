//! The guard is judged by listeners that count connections, not by its own verdicts.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::BoxFuture;
use sheaf_bundles::request::{Exchange, TransportErrorKind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{Egress, Outgoing, RESPONSE_BYTES_MAX, RESPONSE_HEADERS_MAX, Rules, resolver::Names};

/// A listener on loopback that counts connections and gives every request the same bytes back.
struct Canary {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Canary {
    async fn answering(answer: impl Into<Vec<u8>>) -> Canary {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (connections.clone(), Arc::new(answer.into()));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, answer.clone()));
            }
        });
        Canary { address, connections }
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn seen(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: tokio::net::TcpStream, answer: Arc<Vec<u8>>) -> io::Result<()> {
    let mut head = Vec::new();
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            head.clear();
            stream.write_all(&answer).await?;
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-answer: yes\r\n\r\nok";

/// Answers every look-up with the same addresses.
struct Fixed(Vec<IpAddr>);

impl Names for Fixed {
    fn look_up(&self, _name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let addresses = self.0.clone();
        Box::pin(async move { Ok(addresses) })
    }
}

fn request(origin: &str, path: &str) -> Outgoing {
    Outgoing {
        method: "GET".into(),
        origin: origin.into(),
        url: format!("{origin}{path}"),
        headers: Vec::new(),
        body: Vec::new(),
        timeout_ms: 2_000,
    }
}

fn kind(exchange: Exchange) -> TransportErrorKind {
    exchange.expect_err("must not be answered").kind
}

#[tokio::test]
async fn literal_addresses_of_this_machine_are_never_connected_to_however_written() {
    let canary = Canary::answering(OK).await;
    let egress = Egress::new(Rules::default()).unwrap();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:7f00:0001]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
    ] {
        let origin = format!("http://{host}:{}", canary.port());
        assert_eq!(kind(egress.send(request(&origin, "/")).await), TransportErrorKind::Blocked, "{host}");
    }
    assert_eq!(canary.seen(), 0);
}

#[tokio::test]
async fn a_name_that_resolves_to_this_machine_is_never_connected_to() {
    let canary = Canary::answering(OK).await;
    for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"] {
        let names = Arc::new(Fixed(vec![address.parse().unwrap()]));
        let egress = Egress::with_names(Rules::default(), names).unwrap();
        let origin = format!("http://vendor.example:{}", canary.port());
        assert_eq!(kind(egress.send(request(&origin, "/")).await), TransportErrorKind::Blocked, "{address}");
    }
    let system = Egress::new(Rules::default()).unwrap();
    let origin = format!("http://localhost:{}", canary.port());
    assert_eq!(kind(system.send(request(&origin, "/")).await), TransportErrorKind::Blocked);
    assert_eq!(canary.seen(), 0);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_its_target_sees_nothing() {
    let target = Canary::answering(OK).await;
    let moved = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n",
        target.address
    );
    let first = Canary::answering(moved).await;
    let egress = Egress::new(allow(first.port())).unwrap();
    let answer = egress.send(request(&format!("http://{}", first.address), "/")).await.unwrap();
    assert_eq!((answer.status, first.seen(), target.seen()), (307, 1, 0));
}

fn allow(port: u16) -> Rules {
    Rules { allowed: vec![format!("127.0.0.0/8:{port}").parse().unwrap()], overrides: Vec::new() }
}

#[tokio::test]
async fn an_allowed_network_opens_its_port_and_no_other_for_literals_and_names() {
    let (open, shut) = (Canary::answering(OK).await, Canary::answering(OK).await);
    let names = Arc::new(Fixed(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]));
    let egress = Egress::with_names(allow(open.port()), names).unwrap();
    for host in ["127.0.0.1", "onprem.example"] {
        let good = egress.send(request(&format!("http://{host}:{}", open.port()), "/")).await;
        assert_eq!(good.expect("allowed").status, 200, "{host}");
        let bad = egress.send(request(&format!("http://{host}:{}", shut.port()), "/")).await;
        assert_eq!(kind(bad), TransportErrorKind::Blocked, "{host}");
    }
    assert_eq!(shut.seen(), 0);
}

#[tokio::test]
async fn an_override_moves_one_exact_origin_and_opens_nothing_else() {
    let canary = Canary::answering(OK).await;
    let rule = format!("https://api.mindbox.ru=http://{}", canary.address);
    let rules = Rules { allowed: Vec::new(), overrides: vec![rule.parse().unwrap()] };
    let egress = Egress::with_names(rules, Arc::new(Fixed(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]))).unwrap();
    assert_eq!(egress.send(request("https://api.mindbox.ru", "/v3")).await.unwrap().status, 200);
    assert_eq!(canary.seen(), 1);
    for origin in [
        format!("http://{}", canary.address),
        "http://api.mindbox.ru".into(),
        "https://api.mindbox.ru:444".into(),
    ] {
        assert_eq!(kind(egress.send(request(&origin, "/")).await), TransportErrorKind::Blocked, "{origin}");
    }
    let user =
        Outgoing { url: "https://user@api.mindbox.ru/".into(), ..request("https://api.mindbox.ru", "/") };
    assert_eq!(kind(egress.send(user).await), TransportErrorKind::Blocked, "checks come before the override");
    assert_eq!(canary.seen(), 1);
}

#[tokio::test]
async fn a_url_outside_its_checked_origin_or_scheme_is_not_sent() {
    let canary = Canary::answering(OK).await;
    let egress = Egress::new(allow(canary.port())).unwrap();
    let origin = format!("http://{}", canary.address);
    for (checked, url) in [
        ("https://api.mindbox.ru", origin.clone()),
        (origin.as_str(), origin.replace("http:", "https:")),
        (origin.as_str(), origin.replace("127.0.0.1", "127.0.0.2")),
        (origin.as_str(), origin.replace("http://", "http://user:pass@")),
        ("ftp://127.0.0.1", "ftp://127.0.0.1/".into()),
        ("file:///etc", "file:///etc/passwd".into()),
        (origin.as_str(), "not a url".into()),
    ] {
        let outgoing = Outgoing { url, ..request(checked, "/") };
        assert_eq!(kind(egress.send(outgoing).await), TransportErrorKind::Blocked, "{checked}");
    }
    assert_eq!(canary.seen(), 0);
}

#[tokio::test]
async fn headers_that_would_split_or_frame_the_message_are_not_sent() {
    let canary = Canary::answering(OK).await;
    let egress = Egress::new(allow(canary.port())).unwrap();
    let origin = format!("http://{}", canary.address);
    for (name, value) in [
        ("X-A", "a\r\nX-B: b"),
        ("X-A", "a\nb"),
        ("X-A", "a\0b"),
        ("X A", "b"),
        ("X-A\r\nX-B", "b"),
        ("Host", "other.example"),
        ("Content-Length", "3"),
        ("transfer-encoding", "chunked"),
        ("Connection", "upgrade"),
    ] {
        let outgoing = Outgoing { headers: vec![(name.into(), value.into())], ..request(&origin, "/") };
        assert_eq!(kind(egress.send(outgoing).await), TransportErrorKind::Blocked, "{name:?}: {value:?}");
    }
    assert_eq!(canary.seen(), 0);
}

#[tokio::test]
async fn an_endless_answer_is_cut_at_the_limit() {
    let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunk = vec![b'x'; 65_536];
    for _ in 0..=RESPONSE_BYTES_MAX / chunk.len() {
        answer.extend_from_slice(b"10000\r\n");
        answer.extend_from_slice(&chunk);
        answer.extend_from_slice(b"\r\n");
    }
    let canary = Canary::answering(answer).await;
    let egress = Egress::new(allow(canary.port())).unwrap();
    let exchange = egress.send(request(&format!("http://{}", canary.address), "/")).await;
    assert_eq!(kind(exchange), TransportErrorKind::TooLarge);
}

#[tokio::test]
async fn an_answer_with_too_many_headers_is_no_answer() {
    for (count, is_answer) in [(RESPONSE_HEADERS_MAX - 1, true), (RESPONSE_HEADERS_MAX, false)] {
        let headers: String = (0..count).map(|number| format!("x-{number}: y\r\n")).collect();
        let canary =
            Canary::answering(format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{headers}\r\n")).await;
        let egress = Egress::new(allow(canary.port())).unwrap();
        let exchange = egress.send(request(&format!("http://{}", canary.address), "/")).await;
        assert_eq!(exchange.is_ok(), is_answer, "{count}: {exchange:?}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_end_frees_its_slot_at_the_deadline() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"] {
        let canary = Canary::answering(answer).await;
        let egress = Egress::new(allow(canary.port())).unwrap();
        let outgoing = Outgoing { timeout_ms: 50, ..request(&format!("http://{}", canary.address), "/") };
        assert_eq!(kind(egress.send(outgoing).await), TransportErrorKind::Timeout, "{answer:?}");
    }
}

#[tokio::test]
async fn a_refused_connection_and_a_missing_name_are_told_apart_from_a_lost_answer() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let egress = Egress::with_names(allow(closed.port()), Arc::new(Fixed(Vec::new()))).unwrap();
    let refused = egress.send(request(&format!("http://{closed}"), "/?key=secret")).await.unwrap_err();
    assert_eq!(refused.kind, TransportErrorKind::Connect);
    assert!(!refused.detail.contains("secret"), "{}", refused.detail);
    assert_eq!(kind(egress.send(request("http://nobody.example", "/")).await), TransportErrorKind::Dns);

    let garbage = Canary::answering("\0\0\0garbage\r\n\r\n").await;
    let egress = Egress::new(allow(garbage.port())).unwrap();
    assert_eq!(
        kind(egress.send(request(&format!("http://{}", garbage.address), "/")).await),
        TransportErrorKind::Cut
    );
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls_is_a_tls_failure_before_anything_was_sent() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = [0; 64];
        stream.read_exact(&mut hello).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let egress = Egress::new(allow(address.port())).unwrap();
    assert_eq!(kind(egress.send(request(&format!("https://{address}"), "/")).await), TransportErrorKind::Tls);
    peer.await.unwrap();
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let canary = Canary::answering(OK).await;
    let egress = Egress::new(allow(canary.port())).unwrap();
    for _ in 0..20 {
        assert_eq!(
            egress.send(request(&format!("http://{}", canary.address), "/")).await.unwrap().body,
            b"ok"
        );
    }
    assert_eq!(canary.seen(), 1);
}
