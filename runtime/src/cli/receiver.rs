//! A receiver on loopback that prints what it gets and answers as Mindbox does: the far end of `sheaf demo`.

use std::net::SocketAddr;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::IntoResponse,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

/// What the receiver got.
#[derive(Debug)]
pub struct Got {
    /// `POST https://host/path?query` as the bundle meant it.
    pub line: String,
    /// The headers worth showing, secrets masked.
    pub headers: Vec<(String, String)>,
    /// The body, JSON indented.
    pub body: String,
}

/// Starts it on a free port.
///
/// # Errors
/// Loopback cannot be bound.
pub async fn start() -> std::io::Result<(SocketAddr, mpsc::UnboundedReceiver<Got>, JoinHandle<()>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let (sender, receiver) = mpsc::unbounded_channel();
    let router = Router::new().fallback(receive).with_state(sender);
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the demo's receiver stopped");
        }
    });
    Ok((address, receiver, task))
}

async fn receive(
    State(sender): State<mpsc::UnboundedSender<Got>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    // The demo may be over while a last request is under way; nobody is left to read it then.
    let _ =
        sender.send(Got { line: format!("{method} {uri}"), headers: shown(&headers), body: indented(&body) });
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], r#"{"status":"Success"}"#)
}

fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    [header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT]
        .iter()
        .filter_map(|name| Some((name, headers.get(name)?)))
        .map(|(name, value)| {
            let text =
                if name == header::AUTHORIZATION { "••••" } else { value.to_str().unwrap_or("") };
            (name.to_string(), text.to_owned())
        })
        .collect()
}

fn indented(body: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(body)
        .and_then(|json| serde_json::to_string_pretty(&json))
        .unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned())
}
