//! Answers of a hook: the vendor's own "ok", or a status with a reason that a machine can read.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use sheaf_bundles::hook::Answer;
use sheaf_connectors::signature::Refused;

/// When a vendor may try again after a 503, seconds.
const RETRY_AFTER_S: &str = "5";

/// An HTTP answer.
pub type Reply = Response<Full<Bytes>>;

/// Makes answers.
pub trait ReplyExt {
    /// What the vendor takes for success.
    fn answer(answer: &Answer) -> Reply;
}

impl ReplyExt for Reply {
    fn answer(answer: &Answer) -> Reply {
        let mut reply = Response::new(Full::new(Bytes::from(answer.body.clone())));
        *reply.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
        if let Ok(kind) = HeaderValue::from_str(&answer.content_type)
            && !answer.content_type.is_empty()
        {
            reply.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        reply
    }
}

/// Why a request was not taken. Nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Not one of our hooks, or not any more.
    NotFound,
    /// The hook does not take this method.
    Method {
        /// Those it takes.
        allowed: String,
    },
    /// `Content-Length` together with `Transfer-Encoding`.
    Framing,
    /// A compressed body.
    Encoding,
    /// The body passes its limit.
    TooLarge,
    /// The query passes its limit.
    QueryTooLong,
    /// The whole request did not come in time.
    TooSlow,
    /// The body broke off.
    Broken,
    /// The sender did not prove who it is.
    Unauthorized(&'static str),
    /// The sender is not allowed here.
    Forbidden,
    /// As many of its workspace wait as the others have left.
    Share,
    /// It could not be committed.
    Unavailable,
}

impl Refusal {
    /// The refusal that a failed source check is.
    pub fn of_signature(refused: &Refused) -> Refusal {
        match refused {
            Refused::Address => Refusal::Forbidden,
            Refused::Malformed(_) => Refusal::Unauthorized("signature-missing"),
            Refused::Mismatch => Refusal::Unauthorized("signature-mismatch"),
            Refused::Expired => Refusal::Unauthorized("signature-expired"),
            Refused::Secret(_) => Refusal::Unavailable,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Refusal::NotFound => StatusCode::NOT_FOUND,
            Refusal::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Framing | Refusal::Broken => StatusCode::BAD_REQUEST,
            Refusal::Encoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::QueryTooLong => StatusCode::URI_TOO_LONG,
            Refusal::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Refusal::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Refusal::Forbidden => StatusCode::FORBIDDEN,
            Refusal::Share | Refusal::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Refusal::NotFound => "not-found",
            Refusal::Method { .. } => "method-not-allowed",
            Refusal::Framing => "length-and-transfer-encoding",
            Refusal::Broken => "body-broke-off",
            Refusal::Encoding => "compressed-body",
            Refusal::TooLarge => "body-too-large",
            Refusal::QueryTooLong => "query-too-long",
            Refusal::TooSlow => "request-too-slow",
            Refusal::Unauthorized(reason) => reason,
            Refusal::Forbidden => "address-not-allowed",
            Refusal::Share => "too-many-at-once",
            Refusal::Unavailable => "not-committed",
        }
    }

    /// The answer. Says nothing about us beyond the reason.
    pub fn reply(&self) -> Reply {
        let mut reply =
            Response::new(Full::new(Bytes::from(format!("{{\"reason\":\"{}\"}}\n", self.reason()))));
        *reply.status_mut() = self.status();
        let headers = reply.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            Refusal::Unavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
            }
            Refusal::Share => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
                // Others may wait for a connection.
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Refusal::Method { allowed } => {
                if let Ok(allowed) = HeaderValue::from_str(allowed) {
                    headers.insert(header::ALLOW, allowed);
                }
            }
            Refusal::TooLarge | Refusal::TooSlow | Refusal::Framing | Refusal::Broken => {
                // What is left of the request is not read.
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Refusal::NotFound
            | Refusal::Encoding
            | Refusal::QueryTooLong
            | Refusal::Unauthorized(_)
            | Refusal::Forbidden => {}
        }
        reply
    }
}
