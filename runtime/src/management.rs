//! The private listener: is the process alive, may it get traffic, what has it counted.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    metrics::Metrics,
    oversight::Seen,
    queue::{Health, Queue},
    stop::Stop,
};

/// What the pages show.
#[derive(Clone)]
pub struct Management {
    /// Counts in memory.
    pub metrics: Arc<Metrics>,
    /// Counts in the database, and whether it can commit.
    pub queue: Queue,
    /// True once the process is stopping: no new traffic, please.
    pub stopping: Stop,
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
    match management.queue.health().borrow().clone() {
        Health::Ready => (StatusCode::OK, "ready\n").into_response(),
        Health::Failing(why) | Health::Broken(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("the database cannot commit: {why}\n")).into_response()
        }
    }
}

async fn metrics(State(management): State<Management>) -> Response {
    let seen = management.seen.borrow().clone();
    match management.queue.store().ledger().await {
        Ok(ledger) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], management.metrics.page(&management.queue, &ledger, &seen))
                .into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}
