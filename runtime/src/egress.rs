//! The only way out: every outgoing request of the product is sent here, past the address guard and inside limits.
//!
//! http and https only, no user-info, no redirects, no proxy; a literal address and every address a name resolves to are
//! classified, and the connection goes to a classified address; the answer is capped while it streams.

pub mod address;
mod destination;
mod dial;
mod failure;
pub mod origin;
pub mod resolver;

use std::{collections::HashMap, sync::Arc, time::Duration};

use reqwest::{
    Client, Method,
    header::{HOST, HeaderMap, HeaderName, HeaderValue},
};
use sheaf_bundles::{
    compile::header,
    request::{Exchange, Response, TransportError, TransportErrorKind},
    value::Text,
};

use self::{
    address::Allowed,
    destination::Destinations,
    origin::Override,
    resolver::{CheckedNames, Names, SystemNames},
};

/// The longest answer body that is read, in bytes, after decompression.
pub const RESPONSE_BYTES_MAX: usize = 1024 * 1024;
/// The most headers an answer may have. It is the client's own default, and setting it costs an allocation for each answer;
/// a test holds it.
pub const RESPONSE_HEADERS_MAX: usize = 100;
/// The longest that making a connection may take, TLS included, in milliseconds.
pub const CONNECT_TIMEOUT_MS: u64 = 10_000;
/// How long an unused connection is kept, in milliseconds. Short of what servers commonly keep (60 s and more), so that
/// a request rarely meets a connection that the other side is closing: its fate would be unknown.
pub const IDLE_CONNECTION_MS: u64 = 20_000;
/// The most unused connections kept for one host.
pub const IDLE_CONNECTIONS_MAX: usize = 256;

/// A request with its secrets filled in. Has no `Debug` on purpose.
pub struct Outgoing {
    /// `POST`, …
    pub method: Text,
    /// The origin that was checked when the bundle was compiled.
    pub origin: Text,
    /// The whole URL; must be of that origin.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(Text, Text)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
    /// The longest the whole exchange may take, in milliseconds.
    pub timeout_ms: u32,
}

/// What an operator sets.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Networks that may be reached although they are not public.
    pub allowed: Vec<Allowed>,
    /// Origins that are sent elsewhere.
    pub overrides: Vec<Override>,
}

/// The client could not be built (no TLS roots, for one).
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be built: {0}")]
pub struct EgressError(#[from] reqwest::Error);

/// The outgoing client. Cheap to share; keeps connections open between requests.
pub struct Egress {
    guarded: Client,
    /// Clients whose resolver lets the operator's networks through, by port: see [`CheckedNames`].
    by_port: HashMap<u16, Client>,
    /// Goes to override addresses only, so its names are not checked.
    unguarded: Option<Client>,
    names: Arc<dyn Names>,
    rules: Rules,
    destinations: Destinations,
}

impl Egress {
    /// A client that resolves names by the operating system.
    pub fn new(rules: Rules) -> Result<Self, EgressError> {
        Self::with_names(rules, Arc::new(SystemNames))
    }

    /// A client that resolves names by `names`.
    pub fn with_names(rules: Rules, names: Arc<dyn Names>) -> Result<Self, EgressError> {
        install_tls();
        let guarded = guarded(CheckedNames::new(names.clone(), Vec::new(), 0))?;
        let mut by_port = HashMap::new();
        for port in rules.allowed.iter().map(|allowed| allowed.port) {
            by_port.insert(port, guarded_with(&rules, names.clone(), port)?);
        }
        let unguarded = if rules.overrides.is_empty() { None } else { Some(client().build()?) };
        Ok(Egress { guarded, by_port, unguarded, names, rules, destinations: Destinations::default() })
    }

    /// Sends a request and reads the answer, both inside `timeout_ms`.
    pub async fn send(&self, outgoing: Outgoing) -> Exchange {
        let timeout = Duration::from_millis(u64::from(outgoing.timeout_ms));
        let (client, request) = self.prepare(outgoing)?;
        match tokio::time::timeout(timeout, exchange(client, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(failure::timeout(timeout)),
        }
    }

    /// Every check that needs no network, then the override.
    fn prepare(&self, outgoing: Outgoing) -> Result<(&Client, reqwest::Request), TransportError> {
        let destination = self.destinations.of(&outgoing.origin, &self.rules)?;
        let url = destination.url(&outgoing.url, &outgoing.origin)?;
        let mut headers = headers(&outgoing.headers)?;
        let client = match (&destination.overridden, &self.unguarded) {
            (Some(host), Some(client)) => {
                headers.insert(HOST, host.clone());
                client
            }
            (None, _) | (Some(_), None) => self.by_port.get(&destination.port).unwrap_or(&self.guarded),
        };
        let method =
            Method::from_bytes(outgoing.method.as_bytes()).map_err(|_| blocked("the method is not one"))?;
        let mut request = reqwest::Request::new(method, url);
        *request.headers_mut() = headers;
        if !outgoing.body.is_empty() {
            *request.body_mut() = Some(outgoing.body.into());
        }
        Ok((client, request))
    }
}

/// Chooses the TLS implementation of this process; the first call wins, later ones change nothing.
pub fn install_tls() {
    // An error means that one is installed already, which is what we want.
    drop(rustls::crypto::ring::default_provider().install_default());
}

fn guarded_with(rules: &Rules, names: Arc<dyn Names>, port: u16) -> Result<Client, EgressError> {
    let allowed = rules.allowed.iter().copied().filter(|allowed| allowed.port == port).collect();
    guarded(CheckedNames::new(names, allowed, port))
}

fn guarded(names: CheckedNames) -> Result<Client, EgressError> {
    Ok(client().dns_resolver(names).build()?)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that makes clients")]
fn client() -> reqwest::ClientBuilder {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .user_agent(concat!("sheaf/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
        .pool_idle_timeout(Duration::from_millis(IDLE_CONNECTION_MS))
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
}

fn headers(pairs: &[(Text, Text)]) -> Result<HeaderMap, TransportError> {
    let mut headers = HeaderMap::with_capacity(pairs.len() + 4);
    for (name, value) in pairs {
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| blocked("a header name is not one"))?;
        if header::is_reserved(name.as_str()) {
            return Err(blocked(format!("the header {name} is not the request's to set")));
        }
        let value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| blocked(format!("the value of the header {name} holds control characters")))?;
        headers.append(name, value);
    }
    Ok(headers)
}

async fn exchange(client: &Client, request: reqwest::Request) -> Exchange {
    let mut response = client.execute(request).await.map_err(|error| failure::of(&error))?;
    let status = response.status().as_u16();
    let headers = readable(response.headers());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure::of(&error))? {
        if body.len() + chunk.len() > RESPONSE_BYTES_MAX {
            return Err(failure::too_large(RESPONSE_BYTES_MAX));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response { status, headers, body })
}

fn readable(headers: &HeaderMap) -> Vec<(Text, Text)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().into(), Text::from_utf8_lossy(value.as_bytes())))
        .collect()
}

fn blocked(detail: impl Into<String>) -> TransportError {
    TransportError { kind: TransportErrorKind::Blocked, detail: detail.into() }
}

#[cfg(test)]
mod tests;
