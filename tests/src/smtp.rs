//! A mail server's stand-in: enough of SMTP (RFC 5321) with STARTTLS (3207), TLS from the first byte (8314) and AUTH
//! PLAIN (4954) to take a mail, to keep it, and to refuse it where it is told to.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    sync::Notify,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// The authority that signed its certificate, for those who should trust it.
pub const AUTHORITY: &str = include_str!("smtp/authority.pem");
const CERTIFICATE: &str = include_str!("smtp/localhost.pem");
const KEY: &str = include_str!("smtp/localhost.key");
/// Longest line it reads.
const LINE_BYTES_MAX: usize = 4 * 1024;
/// Longest mail it takes.
const MAIL_BYTES_MAX: usize = 1024 * 1024;

/// How it meets a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// No TLS at all; STARTTLS is not offered.
    Plain,
    /// A greeting in the clear, then TLS; nothing is taken before.
    StartTls,
    /// TLS from the first byte.
    Tls,
}

/// Where it says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refuses {
    /// Nowhere.
    Nothing,
    /// The login, repeating what it got, as no server should.
    Login,
    /// The login, repeating the line it came in.
    LoginLine,
    /// Every receiver.
    Receiver,
    /// The mail itself, for now.
    Data,
    /// The end of a line: its greeting goes on and on.
    End,
}

/// What it expects and does.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How it meets a client.
    pub protection: Protection,
    /// The user and password without which it takes nothing.
    pub login: Option<(String, String)>,
    /// Where it says no.
    pub refuses: Refuses,
}

/// A mail it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Who sent it, by the envelope.
    pub from: String,
    /// For whom, by the envelope.
    pub to: Vec<String>,
    /// Headers and body as sent.
    pub text: String,
    /// Whether it came inside TLS.
    pub encrypted: bool,
}

impl Taken {
    /// The body, its transfer encoding undone.
    pub fn body(&self) -> String {
        let (head, body) = self.text.split_once("\r\n\r\n").unwrap_or((&self.text, ""));
        let encoding = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Transfer-Encoding: "))
            .unwrap_or_default();
        match encoding {
            "base64" => {
                let bytes = STANDARD.decode(body.replace(['\r', '\n'], "")).unwrap_or_default();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            "quoted-printable" => quoted_printable(body),
            _ => body.to_owned(),
        }
    }
}

fn quoted_printable(text: &str) -> String {
    let text = text.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('=') {
        bytes.extend(before.as_bytes());
        let (code, after) = after.split_at(after.len().min(2));
        bytes.extend(u8::from_str_radix(code, 16));
        rest = after;
    }
    bytes.extend(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Shared {
    rules: Mutex<Rules>,
    taken: Mutex<Vec<Taken>>,
    changed: Notify,
    connections: AtomicUsize,
    tls: TlsAcceptor,
}

/// The stand-in, running.
pub struct Smtp {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

impl Drop for Smtp {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Smtp {
    /// Starts it on a free port of loopback.
    pub async fn start(rules: Rules) -> io::Result<Smtp> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let tls = TlsAcceptor::from(Arc::new(tls().map_err(io::Error::other)?));
        let shared = Arc::new(Shared {
            rules: Mutex::new(rules),
            taken: Mutex::default(),
            changed: Notify::new(),
            connections: AtomicUsize::new(0),
            tls,
        });
        let serving = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                shared.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    // A client that goes away is no failure of the server.
                    let _ = shared.serve(stream).await;
                });
            }
        });
        Ok(Smtp { address, shared, listening })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes where it says no.
    pub fn refuse(&self, refuses: Refuses) {
        lock(&self.shared.rules).refuses = refuses;
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// What it took so far.
    pub fn taken(&self) -> Vec<Taken> {
        lock(&self.shared.taken).clone()
    }

    /// Waits until it took that many. Callers bound the wait.
    pub async fn at_least(&self, count: usize) -> Vec<Taken> {
        loop {
            let changed = self.shared.changed.notified();
            let taken = self.taken();
            if taken.len() >= count {
                return taken;
            }
            changed.await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tls() -> Result<rustls::ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
    let chain = CertificateDer::pem_slice_iter(CERTIFICATE.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_no_client_auth().with_single_cert(chain, key)?)
}

/// How a conversation ended.
enum End {
    Closed,
    /// The client asked for TLS and was told to go ahead.
    GoAhead,
}

impl Shared {
    async fn serve(&self, stream: tokio::net::TcpStream) -> io::Result<()> {
        let protection = lock(&self.rules).protection;
        if protection == Protection::Tls {
            let stream = self.tls.accept(stream).await?;
            Talk::new(self, stream, true).run(true).await?;
            return Ok(());
        }
        let mut talk = Talk::new(self, stream, false);
        if let End::GoAhead = talk.run(true).await? {
            let stream = self.tls.accept(talk.stream.into_inner()).await?;
            Talk::new(self, stream, true).run(false).await?;
        }
        Ok(())
    }
}

/// One conversation.
struct Talk<'s, S> {
    shared: &'s Shared,
    stream: BufReader<S>,
    encrypted: bool,
    logged_in: bool,
    from: String,
    to: Vec<String>,
}

impl<'s, S: AsyncRead + AsyncWrite + Unpin> Talk<'s, S> {
    fn new(shared: &'s Shared, stream: S, encrypted: bool) -> Self {
        let stream = BufReader::new(stream);
        Talk { shared, stream, encrypted, logged_in: false, from: String::new(), to: Vec::new() }
    }

    async fn run(&mut self, greet: bool) -> io::Result<End> {
        if greet && lock(&self.shared.rules).refuses == Refuses::End {
            self.stream.get_mut().write_all(b"220 ").await?;
            loop {
                self.stream.get_mut().write_all(&[b'x'; LINE_BYTES_MAX]).await?;
            }
        }
        if greet {
            self.say("220 stand-in ESMTP").await?;
        }
        loop {
            let Some(line) = self.line(LINE_BYTES_MAX).await? else { return Ok(End::Closed) };
            let rules = lock(&self.shared.rules).clone();
            let upper = line.to_ascii_uppercase();
            let word = upper.split(' ').next().unwrap_or_default();
            let sheltered = self.encrypted || rules.protection == Protection::Plain;
            let allowed = sheltered && (self.logged_in || rules.login.is_none());
            match word {
                "EHLO" | "HELO" => self.hello(&rules).await?,
                "STARTTLS" if rules.protection == Protection::StartTls && !self.encrypted => {
                    self.say("220 go ahead").await?;
                    return Ok(End::GoAhead);
                }
                "AUTH" => self.login(&line, &rules, sheltered).await?,
                "MAIL" if !allowed => self.say("530 not before TLS and a login").await?,
                "MAIL" => {
                    self.from = address(&line);
                    self.to.clear();
                    self.say("250 ok").await?;
                }
                "RCPT" if rules.refuses == Refuses::Receiver => {
                    self.say("550 nobody here by that name").await?
                }
                "RCPT" => {
                    self.to.push(address(&line));
                    self.say("250 ok").await?;
                }
                "DATA" if self.to.is_empty() => self.say("503 for whom?").await?,
                "DATA" => self.data(&rules).await?,
                "QUIT" => {
                    self.say("221 bye").await?;
                    return Ok(End::Closed);
                }
                _ => self.say("502 not here").await?,
            }
        }
    }

    async fn hello(&mut self, rules: &Rules) -> io::Result<()> {
        let mut offers = vec!["stand-in", "8BITMIME"];
        offers.extend((rules.protection == Protection::StartTls && !self.encrypted).then_some("STARTTLS"));
        let sheltered = self.encrypted || rules.protection == Protection::Plain;
        offers.extend((rules.login.is_some() && sheltered).then_some("AUTH PLAIN"));
        let last = offers.len() - 1;
        for (at, offer) in offers.into_iter().enumerate() {
            self.say(&format!("250{}{offer}", if at == last { ' ' } else { '-' })).await?;
        }
        Ok(())
    }

    async fn login(&mut self, line: &str, rules: &Rules, sheltered: bool) -> io::Result<()> {
        let given = line.split(' ').nth(2).and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
        let given = String::from_utf8_lossy(&given).into_owned();
        if rules.refuses == Refuses::Login {
            let password = given.rsplit('\0').next().unwrap_or_default();
            return self.say(&format!("535 {password} is not your password")).await;
        }
        if rules.refuses == Refuses::LoginLine {
            return self.say(&format!("535 what is {line}?")).await;
        }
        let expected = rules.login.as_ref().map(|(user, password)| format!("\0{user}\0{password}"));
        self.logged_in = sheltered && expected.is_some_and(|expected| expected == given);
        self.say(if self.logged_in { "235 welcome" } else { "535 no" }).await
    }

    async fn data(&mut self, rules: &Rules) -> io::Result<()> {
        self.say("354 go on").await?;
        let mut text = String::new();
        while let Some(line) = self.line(MAIL_BYTES_MAX).await? {
            if line == "." {
                break;
            }
            text.push_str(line.strip_prefix('.').unwrap_or(&line));
            text.push_str("\r\n");
            if text.len() > MAIL_BYTES_MAX {
                return self.say("552 too long").await;
            }
        }
        if rules.refuses == Refuses::Data {
            return self.say("451 later, please").await;
        }
        let taken = Taken { from: self.from.clone(), to: self.to.clone(), text, encrypted: self.encrypted };
        lock(&self.shared.taken).push(taken);
        self.shared.changed.notify_waiters();
        self.say("250 taken").await
    }

    /// The next line without its end; `None` when the client closed.
    async fn line(&mut self, bytes_max: usize) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line).await?;
        if read > bytes_max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
        }
        let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        Ok((read > 0).then_some(text))
    }

    async fn say(&mut self, line: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).await?;
        self.stream.get_mut().flush().await
    }
}

fn address(line: &str) -> String {
    let inner = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map(|(address, _)| address.to_owned()).unwrap_or_default()
}
