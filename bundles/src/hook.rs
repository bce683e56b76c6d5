//! The inbound side of one connection, compiled: everything intake, decoding and signature checks need.

use std::{
    borrow::Borrow,
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use crate::{
    connection::Connection,
    environment::Environment,
    event::Event,
    filter::Filter,
    path::Path,
    types::Field,
    value::{Map, Value},
    words::Words,
};

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
    pub aliases: Vec<(String, Path)>,
    /// An object field of which bundles may use only the keys that are declared (`attrs`), so that a misspelt one is found.
    pub closed: Option<String>,
    /// All of them must pass; none means the token in the URL is all there is.
    pub checks: Vec<SourceCheck>,
    /// How events are told apart; none means that every request is an event of its own.
    pub dedupe: Option<Dedupe>,
    /// What the vendor takes for success, sent after the commit.
    pub answer: Answer,
    /// Requests that are answered as success and are no events (the vendor's activation probe).
    pub probe: Option<Filter>,
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

impl Borrow<Field> for HookField {
    fn borrow(&self) -> &Field {
        &self.field
    }
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

/// The longest a key is remembered, milliseconds: 35 days.
pub const DEDUPE_WINDOW_MS_MAX: i64 = 35 * 86_400_000;

/// How two requests are found to be the same event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedupe {
    /// Which fields make the key.
    pub fields: DedupeFields,
    /// How long a key is remembered, milliseconds; at most [`DEDUPE_WINDOW_MS_MAX`].
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
    /// Holds for the events that fire it; none fires on every event.
    pub when: Option<Filter>,
    /// Choices a bundle makes under `on:` (`attribution: last_non_direct`).
    pub options: Vec<TriggerOption>,
    /// An example event's parameters as the vendor sends them, for `send` and tests.
    pub sample: Vec<(String, Value)>,
}

/// A choice under `on:`.
#[derive(Debug)]
pub struct TriggerOption {
    /// Its key.
    pub name: String,
    /// For people.
    pub title: Words,
    /// The value used when the bundle says nothing; none takes events of every value.
    pub default: Option<String>,
    /// What may be chosen.
    pub values: Vec<TriggerChoice>,
}

/// One value of a [`TriggerOption`].
#[derive(Debug)]
pub struct TriggerChoice {
    /// As bundles write it.
    pub value: String,
    /// For people.
    pub title: Words,
    /// What the event must satisfy.
    pub when: Filter,
}

static NOTHING: LazyLock<Map> = LazyLock::new(Map::default);
static NO_KEY: Value = Value::Null;

impl Hook {
    /// The names of the triggers this event fires; several are possible.
    pub fn triggers(&self, event: &Event) -> Vec<&str> {
        let environment = self.environment(&event.fields);
        let fires = |trigger: &&Trigger| trigger.when.as_ref().is_none_or(|when| when.eval(&environment));
        self.triggers.iter().filter(fires).map(|trigger| trigger.name.as_str()).collect()
    }

    /// Whether decoded fields are no event but the vendor trying the address.
    pub fn is_probe(&self, fields: &Map) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.eval(&self.environment(fields)))
    }

    /// What references mean for an event of this hook.
    pub fn environment<'a>(&'a self, fields: &'a Map) -> Environment<'a> {
        Environment {
            fields,
            aliases: &self.aliases,
            steps: &NOTHING,
            settings: &self.connection.settings,
            input: &NOTHING,
            key: &NO_KEY,
        }
    }

    /// The trigger of that name.
    pub fn trigger(&self, name: &str) -> Option<&Trigger> {
        self.triggers.iter().find(|trigger| trigger.name == name)
    }
}
