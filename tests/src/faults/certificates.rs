//! F8: a vendor shows a certificate that nobody should believe: signed by itself, of another name, expired. Nothing is sent over
//! such a connection, history says why, and the call is repeated on the schedule: then the vendor shows a good one.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::{
    equations,
    report::Outcome,
    rig::Plan,
    vendor::{self, LATE_MS_MAX, WAIT_MS},
};
use crate::{
    clock::unix_ns,
    load::Template,
    product::{Product, Setup},
    sink::call_id,
    wire::Client,
};

/// The authority that the product is told to trust, and what it signed for this machine; one key for all. They are valid
/// for a century, but for the one that ended in January 2020.
const AUTHORITY: &str = include_str!("certificates/authority.pem");
const GOOD: &str = include_str!("certificates/good.pem");
const KEY: &str = include_str!("certificates/vendor.key");
/// What the vendors show at first: a name, the certificate, what history has to say of it.
const BAD: [(&str, &str, &str); 3] = [
    ("self-signed", include_str!("certificates/self-signed.pem"), "UnknownIssuer"),
    ("other-name", include_str!("certificates/other-name.pem"), "not valid for name"),
    ("expired", include_str!("certificates/expired.pem"), "expired"),
];
/// The answer of a vendor who is well again.
const WELL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
/// Longest time until everything is delivered.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a vendor saw.
#[derive(Debug, Default, Clone)]
struct Seen {
    /// When somebody connected, nanoseconds since 1970.
    connected: Vec<i64>,
    /// Connections that were refused for their certificate.
    refused: usize,
    /// Calls that arrived over a good one.
    calls: Vec<i64>,
}

/// A vendor whose first connection shows a bad certificate; gone when dropped.
struct Vendor {
    name: &'static str,
    says: &'static str,
    port: u16,
    seen: Arc<Mutex<Seen>>,
    accepting: JoinHandle<()>,
}

/// Each kind so often, with a fresh server.
pub async fn run(plan: Plan, rounds: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    for _ in 0..rounds {
        round(&plan, &mut outcome).await?;
    }
    Ok(outcome)
}

async fn round(plan: &Plan, outcome: &mut Outcome) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("certificates-").tempdir_in(&plan.data_root)?;
    let mut vendors = Vec::new();
    for bad in BAD {
        vendors.push(Vendor::start(bad).await?);
    }
    let origin = |vendor: &Vendor| format!("https://{}.example", vendor.name);
    let overrides = vendors.iter().map(|it| format!("{}=https://localhost:{}", origin(it), it.port));
    let overrides = overrides.collect::<Vec<_>>().join(",");
    let authority = folder.path().join("authority.pem");
    fs::write(&authority, AUTHORITY)?;
    let plan = plan.clone().with("SHEAF_EGRESS_OVERRIDE", overrides);
    let setup = plan.with("SSL_CERT_FILE", authority.display()).setup(folder.path(), String::new())?;
    let connections =
        vendors.iter().map(|it| (it.name.to_owned(), format!("settings: {{base_url: '{}'}}", origin(it))));
    vendor::write_files(&setup.directory, connections)?;
    let product = setup.start().await?;
    let calls = called(&product, &setup, &vendors).await?;
    outcome.count("acknowledged", calls.len());
    equations::drained(&setup, PATIENCE).await?;
    let history = history(&setup)?;
    for (vendor, call) in vendors.iter().zip(calls) {
        judge(vendor, call, &history, outcome);
    }
    drop(product);
    Ok(())
}

/// One call for each.
async fn called(product: &Product, setup: &Setup, vendors: &[Vendor]) -> anyhow::Result<Vec<i64>> {
    let (path, mut client) = (setup.hook_path()?, Client::connect(product.hooks).await?);
    let (mut buffer, mut calls) = (Vec::new(), Vec::new());
    for vendor in vendors {
        let id = unix_ns();
        Template::call_of_campaign(product.hooks, &path, vendor.name).fill(id, &mut buffer);
        let status = client.exchange(&buffer).await?.status();
        ensure!(status == 200, "a call was answered {status}");
        calls.push(id);
    }
    let begun = Instant::now();
    while vendors.iter().any(|vendor| vendor.seen().calls.is_empty()) && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(calls)
}

/// Every run as `sheaf runs show` prints it.
fn history(setup: &Setup) -> anyhow::Result<Vec<String>> {
    let runs = setup.printed(&["runs"])?;
    let ids = runs.as_array().context("a list of runs")?.iter().filter_map(|run| run["id"].as_str());
    ids.map(|id| Ok(setup.printed(&["runs", "show", id])?.to_string())).collect()
}

fn judge(vendor: &Vendor, call: i64, history: &[String], outcome: &mut Outcome) {
    let Seen { connected, refused, calls } = vendor.seen();
    let name = vendor.name;
    outcome.cycle(format!("{name}: {} connections", connected.len()), !connected.is_empty());
    outcome.expect(refused == 1, || format!("{name}: the connection was not refused"));
    outcome.expect(calls == [call], || format!("{name}: {calls:?} arrived instead of {call}"));
    let gap_ms = connected.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000_000).next();
    let most_ms = WAIT_MS + WAIT_MS / 10 + LATE_MS_MAX;
    let in_time = gap_ms.is_some_and(|gap_ms| (WAIT_MS..=most_ms).contains(&gap_ms));
    outcome.expect(in_time, || format!("{name}: repeated after {gap_ms:?} ms"));
    let said =
        history.iter().any(|run| run.contains("invalid peer certificate") && run.contains(vendor.says));
    outcome.expect(said, || format!("{name}: history does not say {:?}", vendor.says));
}

impl Vendor {
    async fn start((name, bad, says): (&'static str, &str, &'static str)) -> anyhow::Result<Vendor> {
        let (bad, good) = (acceptor(bad)?, acceptor(GOOD)?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (port, seen) = (listener.local_addr()?.port(), Arc::new(Mutex::new(Seen::default())));
        let seeing = Arc::clone(&seen);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let first = {
                    let mut seen = seeing.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.connected.push(unix_ns());
                    seen.connected.len() == 1
                };
                // A client that goes away is what is waited for.
                let call = exchange(if first { &bad } else { &good }, stream).await.ok();
                let mut seen = seeing.lock().unwrap_or_else(PoisonError::into_inner);
                seen.refused += usize::from(call.is_none());
                seen.calls.extend(call);
            }
        });
        Ok(Vendor { name, says, port, seen, accepting })
    }

    fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The call that came; 0 for anything else that was sent.
async fn exchange(acceptor: &TlsAcceptor, stream: TcpStream) -> anyhow::Result<i64> {
    let mut stream = acceptor.accept(stream).await?;
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(0);
        }
    }
    stream.write_all(WELL).await?;
    stream.shutdown().await?;
    Ok(call_id(&request).unwrap_or(0))
}

fn acceptor(certificate: &str) -> anyhow::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key)?)))
}
