//! Telling people: what `alerts.yaml` says, and the decision what to tell. A file of its own and not a part of
//! `sheaf.yaml`, since that text belongs to every bundle version: a new address to tell would be a new version of them all.

pub mod audience;
pub mod decide;
pub mod file;
pub mod letters;
pub mod message;
mod quarantine;
#[cfg(test)]
mod tests;
mod words;

use crate::{connection::SecretReference, words::Language};

/// Name under which a webhook's signing key stands in [`Channel::secrets`].
pub const SIGNING_KEY: &str = "secret";
/// Name under which a mail server's password stands in [`Channel::secrets`].
pub const PASSWORD: &str = "password";
/// How often a thing that lasts is told again when the file does not say, milliseconds.
pub const REPEAT_MS: u64 = 30 * 60_000;
/// How long a run may wait before people are told when the file does not say, milliseconds.
pub const WAITING_MAX_MS: u64 = 60 * 60_000;

/// Whom to tell, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alerts {
    /// The language of the messages.
    pub language: Language,
    /// A thing that lasts is told again after this long at the soonest, milliseconds.
    pub repeat_ms: u64,
    /// Runs that wait longer than this are told of, milliseconds.
    pub waiting_max_ms: u64,
    /// Where messages go; each message goes to all.
    pub channels: Vec<Channel>,
}

/// One way to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its place in the file, `webhooks.duty` or `emails.owner`: unique in its workspace. Logs and metrics call it so, after its workspace.
    pub name: String,
    /// Where it leads.
    pub to: Destination,
    /// Where its secrets are kept.
    pub secrets: Vec<SecretReference>,
}

/// Where a channel leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A signed POST.
    Webhook {
        /// The whole URL.
        url: String,
        /// Its origin, checked.
        origin: String,
    },
    /// A mail.
    Email(Email),
}

/// A mail server and the people to reach through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    /// Name or address of the server.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub security: Security,
    /// The sender's address.
    pub from: String,
    /// The receivers' addresses, at least one.
    pub to: Vec<String>,
    /// Whom to log in as; the password is a secret of the channel.
    pub user: Option<String>,
    /// A PEM file with the authority that signed the server's certificate, beside the system's own; relative to the folder of `alerts.yaml`.
    pub authority: Option<String>,
}

/// How a connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Not at all.
    Plain,
    /// By TLS after a greeting in the clear; a server that does not offer it gets nothing.
    StartTls,
    /// By TLS from the first byte.
    Tls,
}

impl Default for Alerts {
    /// Without a file nobody is told, but the log and the metrics know.
    fn default() -> Alerts {
        Alerts {
            language: Language::En,
            repeat_ms: REPEAT_MS,
            waiting_max_ms: WAITING_MAX_MS,
            channels: Vec::new(),
        }
    }
}

impl Security {
    /// The port that mail servers use for it.
    pub fn port(self) -> u16 {
        match self {
            Security::Plain => 25,
            Security::StartTls => 587,
            Security::Tls => 465,
        }
    }
}
