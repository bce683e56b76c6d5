//! An event: what a trigger received, as received, and what it says once decoded.

use std::{net::IpAddr, sync::Arc};

use crate::{
    id::EventId,
    value::{Map, Text},
};

/// A request at a hook exactly as it came in. This is what is stored; decoding is repeated from it at will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// `POST`, `GET`, …
    pub method: Text,
    /// The query string without `?`, still percent-encoded; empty when there was none.
    pub query: Text,
    /// The headers worth keeping, names in lower case, in the order they came.
    pub headers: Vec<(Text, Text)>,
    /// The body's bytes, whatever they are.
    pub body: Vec<u8>,
    /// Who sent it, after trusted proxies.
    pub source: Option<IpAddr>,
    /// Unix milliseconds of our clock.
    pub received_ms: i64,
}

impl Received {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A decoded event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its id; time-sorted.
    pub id: EventId,
    /// Name of the connection it came through.
    pub connection: Arc<str>,
    /// When we received it, unix milliseconds.
    pub received_ms: i64,
    /// The fields by their declared names, typed by the manifest. A value the manifest calls "no value" is `Null`;
    /// a parameter that did not arrive has no key.
    pub fields: Map,
}
