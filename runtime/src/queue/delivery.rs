//! The record of one HTTP request of one action in one attempt.

use serde::{Deserialize, Serialize};
use sheaf_bundles::{
    request::{Request, TransportErrorKind},
    verdict::Class,
};

/// One delivery as history keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRecord {
    /// The step's path in the bundle.
    pub step: String,
    /// How often its run had been replayed as new: its idempotency key hangs on it.
    #[serde(default, skip_serializing_if = "is_first")]
    pub generation: u32,
    /// Whether it asked the vendor about an earlier one whose answer was lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub probe: bool,
    /// When it was sent, unix milliseconds.
    pub started_ms: i64,
    /// How long the exchange took, milliseconds.
    pub took_ms: u32,
    /// What was sent, before authorisation.
    pub request: SentRequest,
    /// What came back.
    pub answer: Answer,
    /// The verdict's class.
    pub class: Class,
    /// What the vendor said, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

fn is_first(generation: &u32) -> bool {
    *generation == 0
}

/// A request in history: a delivered one can be rendered again, so only its hash is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SentRequest {
    /// BLAKE3 of the unauthorised request, as 64 hexadecimal digits.
    Hash(String),
    /// The unauthorised request itself: secrets are placeholders.
    Stored(Box<Request>),
}

/// An answer in history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The vendor answered.
    Response {
        /// HTTP status.
        status: u16,
        /// The body where a later step or a person needs it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<BodyText>,
    },
    /// There was no answer.
    Error {
        /// The kind of failure.
        kind: TransportErrorKind,
        /// Detail for the operator.
        detail: String,
    },
}

/// A body as history shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyText {
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Whether the text is shorter than what came.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}
