//! The inbound side of one connection, compiled: everything intake, decoding and signature checks need.

use std::{net::IpAddr, sync::Arc};

use crate::{connection::Connection, types::Field, value::Value, words::Words};

/// A connection's hook. Made by the compiler, immutable.
#[derive(Debug)]
pub struct Hook {
    /// The connection it belongs to: name, settings, time zone, names of its secrets.
    pub connection: Arc<Connection>,
    /// Methods that are accepted, upper case; any other is 405.
    pub methods: Vec<String>,
    /// Where parameters may stand.
    pub content: Vec<Content>,
    /// The fields an event of this hook can have, in manifest order, with those the connection's settings add.
    pub fields: Vec<HookField>,
    /// A parameter's name on the wire -> the field's own name, for parameters the user renamed at the vendor.
    pub renames: Vec<(String, String)>,
    /// Bare name -> dotted path, so that `mindboxDeviceUUID` means `attrs.mindboxDeviceUUID`.
    pub aliases: Vec<(String, String)>,
    /// All of them must pass; none means the token in the URL is all there is.
    pub checks: Vec<SourceCheck>,
    /// How events are told apart; none means that every request is an event of its own.
    pub dedupe: Option<Dedupe>,
    /// What the vendor takes for success, sent after the commit.
    pub answer: Answer,
    /// The triggers an event can fire, in manifest order.
    pub triggers: Vec<Trigger>,
}

/// Where a hook's parameters may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// `application/x-www-form-urlencoded` in the body, nested by brackets.
    Form,
    /// The same in the URL's query.
    Query,
    /// A JSON object in the body.
    Json,
}

/// One field of a hook's events.
#[derive(Debug, Clone)]
pub struct HookField {
    /// Name, type, no-value words, marks, sample.
    pub field: Field,
    /// The kinds of event that can have it; empty for every kind.
    pub kinds: Vec<String>,
    /// False when the vendor may leave the whole parameter out although the kind has it.
    pub sent_always: bool,
    /// True when the parameter's text is itself JSON (also in the broken form some vendors print), or the same spelt by brackets.
    pub embedded_json: bool,
    /// The user turned this parameter off at the vendor.
    pub unticked: bool,
}

/// A condition on the sender, checked before anything is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceCheck {
    /// The sender's address is in one of these networks.
    Addresses(Vec<Network>),
    /// A header equals a secret.
    Header {
        /// Header name, lower case.
        name: String,
        /// Literal text before the secret (`Bearer `), possibly empty.
        prefix: String,
        /// Name of the secret.
        secret: String,
    },
    /// HTTP Basic.
    Basic {
        /// The expected user.
        user: String,
        /// Name of the secret that holds the password.
        secret: String,
    },
    /// A keyed hash over the body.
    Hmac {
        /// How the vendor writes it.
        style: HmacStyle,
        /// Name of the secret that holds the key.
        secret: String,
        /// How far the signed time may be from ours, in milliseconds.
        tolerance_ms: i64,
    },
}

/// How a signature is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HmacStyle {
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,<base64>` over `id.timestamp.body`.
    StandardWebhooks,
    /// `sha256=<hex>` over the body in this header (lower case), as GitHub does it (`x-hub-signature-256`).
    Github {
        /// Header name, lower case.
        header: String,
    },
    /// `t=<unix s>,v1=<hex>` over `t.body` in this header (lower case).
    Timestamped {
        /// Header name, lower case.
        header: String,
    },
}

/// An address range: the first `prefix` bits of `address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Any address of the range.
    pub address: IpAddr,
    /// 0..=32 or 0..=128.
    pub prefix: u8,
}

/// How two requests are found to be the same event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedupe {
    /// Which fields make the key.
    pub fields: DedupeFields,
    /// How long a key is remembered, in milliseconds.
    pub window_ms: i64,
}

/// Which decoded fields make the key, in their order of arrival made canonical by the decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DedupeFields {
    /// All that arrived but these.
    AllExcept(Vec<String>),
    /// Only these.
    Only(Vec<String>),
}

/// The answer that tells the vendor "received".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its `Content-Type`; empty for none.
    pub content_type: String,
    /// The body.
    pub body: String,
}

/// One trigger, ready to test.
#[derive(Debug)]
pub struct Trigger {
    /// Name in bundles (`call_ended`).
    pub name: String,
    /// For people.
    pub title: Words,
    /// The kinds of event it can fire on; empty for all.
    pub kinds: Vec<String>,
    /// An example event's parameters as the vendor sends them, for `send` and tests.
    pub sample: Vec<(String, Value)>,
}

impl Hook {
    /// The trigger of that name.
    pub fn trigger(&self, name: &str) -> Option<&Trigger> {
        self.triggers.iter().find(|trigger| trigger.name == name)
    }
}
