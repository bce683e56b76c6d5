//! An HTTP request and its answer as plain data. Secrets stand in a request as placeholders only.

use crate::value::Text;

/// Part of a text that will be sent: literal, or a secret that is filled in at send time.
///
/// A placeholder is structure, never text, so event data that looks like one stays data.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    /// Bytes that are sent as they are (UTF-8 wherever we made them).
    Text(Text),
    /// The name of a secret of the request's connection, and how its value is written into this place.
    Secret {
        /// Name of the secret in the connection.
        name: Text,
        /// How its value is encoded for its place.
        encoding: Encoding,
    },
}

/// How a secret's value is written into its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// As it is (header values, raw bodies).
    Plain,
    /// Percent-encoded (URL, form).
    Percent,
    /// As the inside of a JSON string.
    Json,
    /// Base64 of `user:value` (HTTP Basic); the literal before it holds `user:`.
    Basic,
}

/// A text with placeholders.
pub type Pieces = Vec<Piece>;

/// One HTTP request before authorisation: pure data, comparable, storable.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Request {
    /// Name of the connection whose secrets may be filled in.
    pub connection: Text,
    /// `POST`, …
    pub method: Text,
    /// `https://host:port`, fixed when the bundle was compiled; `url` starts with it.
    pub origin: Text,
    /// The whole URL.
    pub url: Pieces,
    /// Header names as declared, values without CR, LF or NUL.
    pub headers: Vec<(Text, Pieces)>,
    /// The body; empty for none.
    pub body: Pieces,
    /// The longest the whole exchange may take.
    pub timeout_ms: u32,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(Text, Text)>,
    /// The body, capped by egress; text is in UTF-8 whatever the vendor wrote it in.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TransportError {
    /// What went wrong.
    pub kind: TransportErrorKind,
    /// Detail for the operator; holds neither secrets nor bodies.
    pub detail: String,
}

/// Kinds of failure before an answer was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportErrorKind {
    /// The address guard refused the destination; nothing was sent.
    Blocked,
    /// The name did not resolve; nothing was sent.
    Dns,
    /// The connection was refused or not made in time; nothing was sent.
    Connect,
    /// TLS failed; nothing was sent.
    Tls,
    /// No answer in time; the vendor may have acted.
    Timeout,
    /// The connection broke after the request was under way; the vendor may have acted.
    Cut,
    /// The answer passed a limit; the vendor has acted.
    TooLarge,
    /// A secret the request needs is not there; nothing was sent.
    Secret,
}

/// What came of sending a request.
pub type Exchange = Result<Response, TransportError>;
