//! Ceilings: the least a server can do that takes a webhook and passes it on, measured beside the product.
//! They use what the product uses (axum, reqwest, its databases), so a ratio shows what the product adds.
//!
//! (a) answers at once and keeps nothing. (b) answers after a group-committed, fsynced append of the raw body, and flags
//! what was delivered in batches, in the same single writer's transactions. On PostgreSQL, where nodes share what there is to
//! do, it keeps a queue of what was not delivered instead of the flags.

pub mod postgres;
pub mod process;
pub mod sqlite;
pub mod store;

use std::{net::Ipv4Addr, path::Path, sync::Arc};

use anyhow::Context;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    routing::{get, post},
    serve::ListenerExt,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
};

use store::Store;

/// Where a ceiling takes webhooks.
pub const PATH: &str = "/hook";
/// Requests under way to the receiver at once.
const DELIVERIES_MAX: usize = 64;
/// Events taken and not yet under way; past it the answers wait.
const BACKLOG_MAX: usize = 4096;

/// What a ceiling does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ceiling {
    /// (a).
    NoStorage,
    /// (b), with its database: a file, or the URL of a PostgreSQL with its tables.
    Durable(String),
}

#[derive(Clone)]
struct Shared {
    store: Option<Store>,
    backlog: mpsc::Sender<(i64, i64)>,
}

/// Serves until killed; calls `ready` with the address once it listens.
pub async fn run(
    ceiling: Ceiling,
    receiver: String,
    ready: impl FnOnce(std::net::SocketAddr),
) -> anyhow::Result<()> {
    let store = match ceiling {
        Ceiling::NoStorage => None,
        Ceiling::Durable(url) if url.starts_with("postgres://") => Some(postgres::open(&url).await?),
        Ceiling::Durable(file) => Some(sqlite::open(Path::new(&file)).await?),
    };
    let (backlog, taken) = mpsc::channel(BACKLOG_MAX);
    tokio::spawn(deliver_all(taken, receiver, store.clone()));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
    ready(listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        // Without it only latency suffers.
        let _ = stream.set_nodelay(true);
    });
    let app = Router::new()
        .route(PATH, post(take))
        .route("/metrics", get(metrics))
        .with_state(Shared { store, backlog });
    axum::serve(listener, app).await.context("the listener broke")
}

async fn take(State(shared): State<Shared>, body: Bytes) -> StatusCode {
    let Some(call) = call_id(&body) else { return StatusCode::BAD_REQUEST };
    let row = match &shared.store {
        None => 0,
        Some(store) => match store.append(body).await {
            Some(row) => row,
            None => return StatusCode::SERVICE_UNAVAILABLE,
        },
    };
    match shared.backlog.send((row, call)).await {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn metrics(State(shared): State<Shared>) -> String {
    let Some(store) = shared.store else { return String::new() };
    store.counted().map(|(name, count)| format!("ceiling_{name}_total {count}\n")).concat()
}

/// The number after `&id=`: all that the least server has to know of a webhook.
fn call_id(body: &[u8]) -> Option<i64> {
    let key = b"&id=";
    let at = body.windows(key.len()).position(|it| it == key)? + key.len();
    let digits = body[at..].split(|byte| *byte == b'&').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

async fn deliver_all(mut taken: mpsc::Receiver<(i64, i64)>, receiver: String, store: Option<Store>) {
    // Fails only where one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client =
        reqwest::Client::builder().no_proxy().build().expect("the client has no settings that can fail");
    let slots = Arc::new(Semaphore::new(DELIVERIES_MAX));
    let url: Arc<str> =
        format!("{receiver}/v3/operations/async?endpointId=shop-site&operation=CallTouch").into();
    while let Some((row, call)) = taken.recv().await {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
        let (client, url, store) = (client.clone(), Arc::clone(&url), store.clone());
        tokio::spawn(async move {
            if deliver(&client, &url, call).await.is_ok()
                && let Some(store) = store
            {
                store.done(row).await;
            }
            drop(slot);
        });
    }
}

async fn deliver(client: &reqwest::Client, url: &str, call: i64) -> reqwest::Result<()> {
    let body = format!(
        r#"{{"customer":{{"mobilePhone":"79990000001"}},"customerAction":{{"customFields":{{"callId":"{call}","utmCampaign":"spring","utmMedium":"cpc","utmSource":"yandex"}}}},"executionDateTimeUtc":"2026-03-05T07:15:30Z"}}"#
    );
    let request = client
        .post(url)
        .header("Content-Type", "application/json; charset=utf-8")
        .header("Authorization", "Mindbox secretKey=\"test-key\"")
        .body(body);
    request.send().await?.error_for_status()?.bytes().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::call_id;

    #[test]
    fn the_id_is_found_between_the_other_parameters() {
        assert_eq!(call_id(b"leadtype=call&callphase=x&id=17&requestId=5"), Some(17));
        assert_eq!(call_id(b"leadtype=call&id="), None);
    }
}
