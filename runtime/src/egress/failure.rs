//! What went wrong on the way out, told without the URL, headers or body: any of them may hold a secret.

use std::{error::Error, time::Duration};

use sheaf_bundles::request::{TransportError, TransportErrorKind};

use super::resolver::{AllRefused, NotResolved};

/// A client's error as one of our kinds. The difference that matters is whether the vendor may have acted.
pub fn of(error: &reqwest::Error) -> TransportError {
    if let Some(refused) = cause::<AllRefused>(error) {
        return TransportError { kind: TransportErrorKind::Blocked, detail: refused.to_string() };
    }
    if let Some(missing) = cause::<NotResolved>(error) {
        return TransportError { kind: TransportErrorKind::Dns, detail: missing.to_string() };
    }
    let kind = if error.is_connect() {
        if is_tls(error) { TransportErrorKind::Tls } else { TransportErrorKind::Connect }
    } else if error.is_timeout() {
        TransportErrorKind::Timeout
    } else {
        TransportErrorKind::Cut
    };
    TransportError { kind, detail: root(error) }
}

/// No answer within the request's time.
pub fn timeout(limit: Duration) -> TransportError {
    TransportError {
        kind: TransportErrorKind::Timeout,
        detail: format!("no answer within {} ms", limit.as_millis()),
    }
}

/// The answer is longer than we read.
pub fn too_large(limit_bytes: usize) -> TransportError {
    TransportError {
        kind: TransportErrorKind::TooLarge,
        detail: format!("the answer is longer than {limit_bytes} bytes"),
    }
}

fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |error| next(*error))
}

/// The cause of an error. An `io::Error` hides what it wraps from `source`: it passes on the source of its content.
fn next<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner as &(dyn Error + 'static)),
        None => error.source(),
    }
}

fn cause<T: Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    chain(error).find_map(|error| error.downcast_ref::<T>())
}

fn is_tls(error: &reqwest::Error) -> bool {
    cause::<rustls::Error>(error).is_some()
}

/// The innermost cause: "Connection refused", "invalid peer certificate: …". The outer ones carry the URL.
fn root(error: &reqwest::Error) -> String {
    chain(error).last().map_or_else(|| "the exchange failed".to_owned(), ToString::to_string)
}
