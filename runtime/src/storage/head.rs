//! A received request without its body, as one narrow text.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sheaf_bundles::{event::Received, id::EventId, value::Text};

use crate::queue::types::ClaimedEvent;

/// The short names keep the row narrow; there is one for each event.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    #[serde(rename = "m")]
    method: std::borrow::Cow<'a, str>,
    #[serde(rename = "q", default, skip_serializing_if = "str::is_empty")]
    query: std::borrow::Cow<'a, str>,
    #[serde(rename = "h", default)]
    headers: std::borrow::Cow<'a, [(Text, Text)]>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
}

/// The stored text.
pub fn write(received: &Received) -> String {
    let head = Head {
        method: received.method.as_str().into(),
        query: received.query.as_str().into(),
        headers: std::borrow::Cow::Borrowed(&received.headers),
        source: received.source,
    };
    serde_json::to_string(&head).expect("texts and an address are always JSON")
}

/// The request again.
pub fn read(head: &str, body: Vec<u8>, received_ms: i64) -> Result<Received, serde_json::Error> {
    let head: Head<'_> = serde_json::from_str(head)?;
    Ok(Received {
        method: head.method.into(),
        query: head.query.into(),
        headers: head.headers.into_owned(),
        body,
        source: head.source,
        received_ms,
    })
}

/// A stored event as it is joined to a run; `None` where there is no row of it.
pub struct Stored {
    /// The name of its connection.
    pub connection: Option<String>,
    /// When it was received, unix milliseconds.
    pub received_ms: Option<i64>,
    /// See [`write`].
    pub head: Option<String>,
    /// The request's body.
    pub body: Option<Vec<u8>>,
}

impl Stored {
    /// The event of a claim. One that cannot be read is no reason to refuse the turn that found it.
    pub fn claimed(self, id: EventId) -> ClaimedEvent {
        let Stored {
            connection: Some(connection),
            received_ms: Some(received_ms),
            head: Some(head),
            body: Some(body),
        } = self
        else {
            return ClaimedEvent::Unreadable { id, why: format!("event {id} is not in the database") };
        };
        match read(&head, body, received_ms) {
            Ok(received) => ClaimedEvent::Stored { id, connection: connection.into(), received },
            Err(error) => ClaimedEvent::Unreadable {
                id,
                why: format!("the stored head of event {id} cannot be read: {error}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_back_as_it_came() {
        let received = Received {
            method: "POST".into(),
            query: "a=%D0%B0&\"b\"".into(),
            headers: vec![("content-type".into(), "text/plain".into())],
            body: vec![0, 255, 10],
            source: "2001:db8::1".parse().ok(),
            received_ms: 7,
        };
        assert_eq!(read(&write(&received), received.body.clone(), 7).ok(), Some(received));
    }
}
