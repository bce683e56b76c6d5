//! The private listener: is the process alive, may it get traffic, what has it counted.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::watch, time::timeout};

use crate::{
    live::Catalogue,
    metrics::Metrics,
    oversight::Seen,
    queue::{Health, Queue},
    spool::Spool,
    stop::Stop,
};

/// The longest the metrics wait for the ledger, milliseconds; then they show it as it was last seen.
const LEDGER_MS_MAX: u64 = 1_000;

/// What the pages show.
#[derive(Clone)]
pub struct Management {
    /// Counts in memory.
    pub metrics: Arc<Metrics>,
    /// Counts in the database, and whether it can commit.
    pub queue: Queue,
    /// What is in force here, and whether it is what is in force.
    pub catalogue: Arc<Catalogue>,
    /// True once the process is stopping: no new traffic, please.
    pub stopping: Stop,
    /// Where requests wait while the database is away.
    pub spool: Option<Spool>,
    /// What the last look at the queue saw.
    pub seen: watch::Receiver<Arc<Seen>>,
}

/// Serves until the process ends; a stop does not close it, so the last counts can be read.
pub async fn serve(listener: TcpListener, management: Management) {
    let router = Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(management);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the management listener stopped");
    }
}

/// Alive is alive: whoever restarts processes by this status would repair no ledger and would lose requests meanwhile, so
/// it stays 200, and the text tells what is wrong. `/readyz` stays ready for the same reason.
async fn health(State(management): State<Management>) -> String {
    let wrong = management.seen.borrow().wrong();
    if wrong.is_empty() { "ok\n".to_owned() } else { wrong.join("\n") + "\n" }
}

async fn ready(State(management): State<Management>) -> Response {
    if management.stopping.is_ordered() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    if let Some(why) = management.catalogue.refused().borrow().as_ref() {
        let text = format!("what another node made active cannot be served here: {why}\n");
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    let kept = management.spool.is_some_and(|spool| spool.takes());
    match management.queue.health().borrow().clone() {
        Health::Ready => (StatusCode::OK, "ready\n").into_response(),
        // Hooks are answered: whoever takes this node out of traffic would have the vendor's requests lost.
        Health::Failing(_) if kept => (StatusCode::OK, "ready; the database is away\n").into_response(),
        Health::Failing(why) | Health::Broken(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("the database cannot commit: {why}\n")).into_response()
        }
    }
}

/// Served while the database is away as well.
async fn metrics(State(management): State<Management>) -> Response {
    let seen = management.seen.borrow().clone();
    let reading = timeout(Duration::from_millis(LEDGER_MS_MAX), management.queue.store().ledger());
    let ledger = match reading.await {
        Ok(Ok(ledger)) => ledger,
        Ok(Err(_)) | Err(_) => seen.ledger.clone(),
    };
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let page = management.metrics.page(&management.queue, &ledger, &seen);
    ([(header::CONTENT_TYPE, kind)], page).into_response()
}
