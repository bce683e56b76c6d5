//! What hostile senders get, over real connections.

use std::net::Ipv4Addr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Semaphore,
};

use super::*;
use crate::intake::body::{BODY_BYTES_MAX, LARGE_BODIES_MAX, Reader};

/// Answers with the body's length.
struct Echo(Reader);

impl Handler for Echo {
    async fn handle(&self, request: Request<Incoming>, _peer: IpAddr) -> Reply {
        match self.0.read(request.into_body(), None).await {
            Ok((body, _room)) => Reply::new(format!("{} bytes", body.len()).into()),
            Err(refusal) => refusal.reply(),
        }
    }
}

struct Server {
    address: std::net::SocketAddr,
    stop: crate::stop::Stopper,
    task: tokio::task::JoinHandle<()>,
}

async fn server() -> Server {
    server_within(Duration::from_secs(10)).await
}

/// Heads and bodies must each come within `limit`.
async fn server_within(limit: Duration) -> Server {
    server_of(Echo(Reader::within(limit)), limit).await
}

async fn server_of(handler: impl Handler, limit: Duration) -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = crate::stop::channel();
    let task = tokio::spawn(serve(listener, Arc::new(handler), limit, stopping));
    Server { address, stop, task }
}

/// Sends the bytes and reads until the other side closes or `end` has come.
async fn exchange(server: &Server, bytes: &[u8], end: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    loop {
        match stream.read_buf(&mut answer).await {
            Ok(0) | Err(_) => break,
            Ok(_) if !end.is_empty() && String::from_utf8_lossy(&answer).contains(end) => break,
            Ok(_) => {}
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(headers: &str, body: &str) -> Vec<u8> {
    format!("POST /hooks/x HTTP/1.1\r\nHost: h\r\n{headers}\r\n{body}").into_bytes()
}

#[tokio::test]
async fn both_length_and_transfer_encoding_is_400_and_closes() {
    let server = server().await;
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        let answer = exchange(&server, &post(headers, "0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"), "").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
}

/// Answers nobody before it is let go.
struct Held(Reader, Arc<Semaphore>);

impl Handler for Held {
    async fn handle(&self, request: Request<Incoming>, _peer: IpAddr) -> Reply {
        match self.0.read(request.into_body(), None).await {
            Ok(_body_and_room) => {
                let _ = self.1.acquire().await;
                Reply::default()
            }
            Err(refusal) => refusal.reply(),
        }
    }
}

#[tokio::test]
async fn large_bodies_that_are_not_answered_yet_leave_room_for_no_more() {
    let let_go = Arc::new(Semaphore::new(0));
    let reader = Reader::within(Duration::from_millis(500));
    let server = server_of(Held(reader, let_go.clone()), Duration::from_secs(10)).await;
    let size = 20 * 1024;
    let large = post(&format!("Content-Length: {size}\r\n"), &"x".repeat(size));
    let answers = async {
        let all = futures_util::future::join_all(
            std::iter::repeat_with(|| exchange(&server, &large, "\r\n\r\n")).take(LARGE_BODIES_MAX + 1),
        );
        all.await
    };
    let refused_first = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let_go.add_permits(LARGE_BODIES_MAX);
    };
    let (answers, ()) = tokio::join!(answers, refused_first);
    let count = |status: &str| answers.iter().filter(|answer| answer.contains(status)).count();
    assert_eq!((count("HTTP/1.1 200"), count("HTTP/1.1 503")), (LARGE_BODIES_MAX, 1), "{answers:?}");
}

/// Callers who have nothing to do with each other.
struct OfMany(Echo);

impl Handler for OfMany {
    async fn handle(&self, request: Request<Incoming>, peer: IpAddr) -> Reply {
        self.0.handle(request, peer).await
    }

    fn is_shared(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn where_callers_of_several_workspaces_come_no_connection_is_kept_that_others_may_wait_for() {
    // One more stands ready for whoever comes next.
    for (connections_max, is_closed) in [(2, true), (3, false)] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = crate::stop::channel();
        let limit = Duration::from_secs(10);
        let handler = Arc::new(OfMany(Echo(Reader::within(limit))));
        let task = tokio::spawn(serve_at_once(connections_max, listener, handler, limit, stopping));
        let server = Server { address, stop, task };
        let answer = exchange(&server, &post("Content-Length: 2\r\n", "ab"), "2 bytes").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(answer.contains("connection: close"), is_closed, "{answer}");
        server.stop.order();
        server.task.await.unwrap();
    }
}

#[tokio::test]
async fn a_good_request_before_a_smuggling_one_is_still_answered() {
    let server = server().await;
    let mut bytes = post("Content-Length: 2\r\n", "ab");
    bytes.extend(post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"));
    let answer = exchange(&server, &bytes, "").await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("2 bytes") && answer.contains("HTTP/1.1 400"),
        "{answer}"
    );
}

#[tokio::test]
async fn differing_or_malformed_lengths_are_400() {
    let server = server().await;
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: -1\r\n",
        "Transfer-Encoding: gzip\r\n",
    ] {
        let answer = exchange(&server, &post(headers, "hello"), "").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{headers}: {answer}");
    }
}

#[tokio::test]
async fn a_body_past_the_limit_is_413_whether_its_length_is_said_or_not() {
    let server = server().await;
    let said = post(&format!("Content-Length: {}\r\n", BODY_BYTES_MAX + 1), "");
    assert!(exchange(&server, &said, "body-too-large").await.starts_with("HTTP/1.1 413"));
    let chunk = format!("{:x}\r\n{}\r\n", BODY_BYTES_MAX / 2, "x".repeat(BODY_BYTES_MAX / 2));
    let streamed = post("Transfer-Encoding: chunked\r\n", &chunk.repeat(3));
    assert!(exchange(&server, &streamed, "body-too-large").await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn a_body_at_the_limit_is_taken() {
    let server = server().await;
    let body = "x".repeat(BODY_BYTES_MAX);
    let answer =
        exchange(&server, &post(&format!("Content-Length: {BODY_BYTES_MAX}\r\n"), &body), "bytes").await;
    assert!(answer.ends_with("1048576 bytes"), "{answer}");
    let chunked = post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n");
    assert!(exchange(&server, &chunked, "").await.ends_with("3 bytes"));
}

#[tokio::test]
async fn too_many_headers_or_a_head_too_long_is_431() {
    let server = server().await;
    let many: String = (0..=HEADERS_MAX).map(|number| format!("x-{number}: y\r\n")).collect();
    assert!(exchange(&server, &post(&many, ""), "").await.starts_with("HTTP/1.1 431"));
    let long = format!("x-long: {}\r\n", "y".repeat(HEAD_BYTES_MAX));
    assert!(exchange(&server, &post(&long, ""), "").await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_head_or_body_that_does_not_come_frees_its_connection() {
    let server = server_within(Duration::from_millis(50)).await;
    let head = exchange(&server, b"POST /hooks/x HTTP/1.1\r\nHost:", "").await;
    assert!(!head.starts_with("HTTP/1.1 200"), "{head}");
    let body = exchange(&server, &post("Content-Length: 5\r\n", "ab"), "").await;
    assert!(body.starts_with("HTTP/1.1 408"), "{body}");
}

#[tokio::test]
async fn a_stop_finishes_the_request_in_flight_and_takes_no_other() {
    let server = server().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&post("Content-Length: 4\r\nExpect: 100-continue\r\n", "")).await.unwrap();
    let mut first = [0; 25];
    stream.read_exact(&mut first).await.unwrap();
    assert!(first.starts_with(b"HTTP/1.1 100"));
    server.stop.order();
    stream.write_all(b"body").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("4 bytes"), "{answer}");
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_request_on_its_way_at_a_stop_is_answered_and_is_the_last_of_its_connection() {
    let server = server().await;
    let request = post("Content-Length: 2\r\n", "ab");
    let (mut fresh, mut kept) = (connected(&server).await, connected(&server).await);
    kept.write_all(&request).await.unwrap();
    let mut answer = [0; 15];
    kept.read_exact(&mut answer).await.unwrap();
    server.stop.order();
    for stream in [&mut fresh, &mut kept] {
        stream.write_all(&request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("connection: close") && answer.ends_with("2 bytes"), "{answer}");
    }
    server.task.await.unwrap();
}

#[tokio::test]
async fn a_connection_that_the_system_had_made_before_a_stop_is_served() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stop, stopping) = crate::stop::channel();
    stop.order();
    let handler = Arc::new(Echo(Reader::within(Duration::from_secs(10))));
    let serving = tokio::spawn(serve(listener, handler, Duration::from_secs(10), stopping));
    stream.write_all(&post("Content-Length: 2\r\n", "ab")).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("2 bytes"), "{answer}");
    serving.await.unwrap();
}

#[tokio::test]
async fn a_stop_waits_for_no_connection_that_says_nothing() {
    let server = server().await;
    let mut silent = connected(&server).await;
    server.stop.order();
    server.task.await.unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
}

async fn connected(server: &Server) -> TcpStream {
    TcpStream::connect(server.address).await.unwrap()
}
