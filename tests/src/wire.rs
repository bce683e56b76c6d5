//! HTTP/1.1 by hand, both ends. A stand-in must be able to answer garbage, half an answer or nothing, and the load
//! generator and the sink share the cores with what they measure, so they cannot afford a framework.

use std::{
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use percent_encoding::percent_decode_str;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
    time::timeout,
};

/// Longest head of a message.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest body of a message.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often [`Server::quiet`] looks.
const QUIET_EVERY: Duration = Duration::from_millis(2);
/// How often in a row it must have seen no connection: one may stand in the system's queue.
const QUIET_LOOKS: usize = 3;
/// What one read asks the socket for.
const READ_BYTES: usize = 16 * 1024;
/// Longest time until a connection on this machine is made.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Longest time until an answer is whole. The product answers sooner whatever ails it: this tells what a hang waited for.
const ANSWER_MAX: Duration = Duration::from_secs(90);

/// A request or an answer, whole.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// Start line and headers, without the empty line.
    pub head: String,
    /// The body, already without chunks.
    pub body: Vec<u8>,
}

impl Message {
    /// The first header of that name, any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All headers, names as sent.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.head
            .split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key, value.trim()))
    }

    /// Method of a request.
    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    /// Path of a request.
    pub fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or_default()
    }

    /// Decoded query of a request, in order, repeated names kept.
    pub fn query(&self) -> Vec<(String, String)> {
        self.target().split_once('?').map(|(_, query)| decode_pairs(query)).unwrap_or_default()
    }

    /// Status of an answer; 0 when there is none.
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

/// `a=1&b=%20` as decoded pairs. `+` stays a plus: who wants the form rule decodes by it.
pub fn decode_pairs(text: &str) -> Vec<(String, String)> {
    let decode = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// Reads messages from one connection.
pub struct Reader {
    stream: OwnedReadHalf,
    buffer: Vec<u8>,
}

impl Reader {
    /// The next message; `None` when the other side closed between two.
    pub async fn next(&mut self) -> io::Result<Option<Message>> {
        let Some(head_bytes) = self.find_head().await? else {
            return Ok(None);
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_bytes]).into_owned();
        self.buffer.drain(..head_bytes + 4);
        let mut message = Message { head, body: Vec::new() };
        message.body =
            if message.header("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked")) {
                self.chunks().await?
            } else {
                let length = message.header("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
                self.take(length).await?
            };
        Ok(Some(message))
    }

    async fn find_head(&mut self) -> io::Result<Option<usize>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].windows(4).position(|it| it == b"\r\n\r\n") {
                return Ok(Some(searched + at));
            }
            searched = self.buffer.len().saturating_sub(3);
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the head is too long"));
            }
            if !self.fill().await? {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    async fn take(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        if bytes > BODY_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the body is too long"));
        }
        while self.buffer.len() < bytes {
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let rest = self.buffer.split_off(bytes);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let bytes = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if body.len() + bytes > BODY_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the body is too long"));
            }
            body.extend(self.take(bytes).await?);
            self.line().await?;
            if bytes == 0 {
                return Ok(body);
            }
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|it| it == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..at]).into_owned();
                self.buffer.drain(..at + 2);
                return Ok(line);
            }
            if self.buffer.len() > HEAD_BYTES_MAX || !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// False at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.reserve(READ_BYTES);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

/// A keep-alive connection to a server.
pub struct Client {
    address: SocketAddr,
    reader: Reader,
    writer: OwnedWriteHalf,
}

impl Client {
    /// Connects. An error here means that nothing was sent.
    pub async fn connect(address: SocketAddr) -> io::Result<Client> {
        let connecting = timeout(CONNECT_MAX, TcpStream::connect(address)).await;
        let connected = connecting.map_err(|_| too_long("connection", address, CONNECT_MAX))?;
        let (reader, writer) = split(connected?)?;
        Ok(Client { address, reader, writer })
    }

    /// Whether the server has not closed it so far: as any client looks before it uses a connection again.
    pub fn is_open(&self) -> bool {
        let looked = self.reader.stream.try_read(&mut [0]);
        looked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends the bytes of one whole request and reads the answer. After an error nobody knows whose answer comes next, so the
    /// connection is of no more use.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Message> {
        self.exchange_within(ANSWER_MAX, request).await
    }

    async fn exchange_within(&mut self, most: Duration, request: &[u8]) -> io::Result<Message> {
        let exchange = async {
            self.writer.write_all(request).await?;
            self.reader.next().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        };
        match timeout(most, exchange).await {
            Ok(done) => done,
            Err(_) => Err(too_long(&format!("answer to {}", first_line(request)), self.address, most)),
        }
    }
}

fn too_long(what: &str, address: SocketAddr, most: Duration) -> io::Error {
    let text = format!("no {what} from {address} within {} s", most.as_secs_f64());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// What a request asks for, without its query: hooks' addresses are long enough.
fn first_line(request: &[u8]) -> String {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(line.split(|byte| *byte == b'?').next().unwrap_or_default()).into_owned()
}

/// The bytes of a request with a body.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    message(format!("{method} {target} HTTP/1.1\r\nHost: stand-in\r\n"), headers, body)
}

fn message(mut head: String, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// What a server does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// These bytes; the connection stays open.
    Bytes(Vec<u8>),
    /// These bytes, then the connection is closed, whatever they promised.
    BytesThenClose(Vec<u8>),
    /// An answer that never ends.
    Endless {
        /// What it begins with.
        first: Vec<u8>,
        /// What follows, again and again.
        then: Vec<u8>,
        /// With this pause before each.
        every: Duration,
    },
}

impl Reply {
    /// A well-formed answer.
    pub fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        Reply::Bytes(message(format!("HTTP/1.1 {status} Stand-in\r\n"), headers, body))
    }

    /// A JSON answer.
    pub fn json(status: u16, body: &serde_json::Value) -> Reply {
        Reply::answer(
            status,
            &[("Content-Type", "application/json; charset=utf-8")],
            body.to_string().as_bytes(),
        )
    }
}

/// A server on a free loopback port; it stops when dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
    open: Arc<AtomicUsize>,
}

impl Server {
    /// Starts it; the handler is called for every request.
    pub async fn start<H, F>(handler: H) -> io::Result<Server>
    where
        H: Fn(Message) -> F + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        Server::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?, handler)
    }

    /// Starts it where somebody listens already.
    pub fn on<H, F>(listener: TcpListener, handler: H) -> io::Result<Server>
    where
        H: Fn(Message) -> F + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let address = listener.local_addr()?;
        let open = Arc::new(AtomicUsize::new(0));
        let accepting = tokio::spawn(accept(listener, Arc::new(handler), Arc::clone(&open)));
        Ok(Server { address, accepting, open })
    }

    /// Returns when every connection was read to its end and no new one comes: whoever was killed has nothing under way.
    pub async fn quiet(&self) {
        let mut still = 0;
        while still < QUIET_LOOKS {
            tokio::time::sleep(QUIET_EVERY).await;
            still = if self.open.load(Ordering::Relaxed) == 0 { still + 1 } else { 0 };
        }
    }

    /// `http://127.0.0.1:port`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept<H, F>(listener: TcpListener, handler: Arc<H>, open: Arc<AtomicUsize>)
where
    H: Fn(Message) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    // Connections live in the set, so they end with the server.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (handler, open) = (Arc::clone(&handler), Arc::clone(&open));
        open.fetch_add(1, Ordering::Relaxed);
        connections.spawn(async move {
            // A broken connection is the client's to notice.
            let _ = serve(stream, &*handler).await;
            open.fetch_sub(1, Ordering::Relaxed);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve<H, F>(stream: TcpStream, handler: &H) -> io::Result<()>
where
    H: Fn(Message) -> F,
    F: Future<Output = Reply>,
{
    let (mut reader, mut writer) = split(stream)?;
    while let Some(message) = reader.next().await? {
        match handler(message).await {
            Reply::Bytes(bytes) => writer.write_all(&bytes).await?,
            Reply::Endless { first, then, every } => {
                writer.write_all(&first).await?;
                loop {
                    tokio::time::sleep(every).await;
                    writer.write_all(&then).await?;
                }
            }
            Reply::BytesThenClose(bytes) => {
                writer.write_all(&bytes).await?;
                return writer.shutdown().await;
            }
        }
    }
    Ok(())
}

fn split(stream: TcpStream) -> io::Result<(Reader, OwnedWriteHalf)> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    Ok((Reader { stream: read, buffer: Vec::new() }, write))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_a_failure_that_says_what_was_waited_for() {
        let server = Server::start(|_| std::future::pending()).await.expect("a server");
        let mut client = Client::connect(server.address).await.expect("a connection");
        let asked = request("GET", "/metrics?all", &[], b"");
        let waited = client.exchange_within(Duration::from_millis(50), &asked).await;
        let error = waited.expect_err("nobody answers");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(
            error.to_string(),
            format!("no answer to GET /metrics from {} within 0.05 s", server.address)
        );
    }
}
