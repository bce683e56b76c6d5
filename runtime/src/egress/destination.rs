//! Where requests of one origin go: everything about it that needs no network is checked once, not once a request.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use reqwest::{Url, header::HeaderValue};
use sheaf_bundles::{request::TransportError, value::Text};

use super::{Rules, blocked, origin, resolver};

/// The most origins that are remembered; bundles name few.
const DESTINATIONS_MAX: usize = 10_000;

/// An origin that may be sent to. Has no `Debug` on purpose: a path may hold what a bundle fills in.
pub struct Destination {
    /// The origin that is connected to: the request's own, or the override's.
    origin: String,
    /// The port of the request's own origin.
    pub port: u16,
    /// What `Host` must say when the connection goes elsewhere.
    pub overridden: Option<HeaderValue>,
    /// The last path that came with a query, as it is written, with the URL of it that is connected to. Most requests differ
    /// in their query alone, and it is the host that takes the time to read. Never a query, which may hold a secret.
    last: Mutex<Option<(String, Url)>>,
}

/// The origins seen so far.
#[derive(Default)]
pub struct Destinations(RwLock<HashMap<Text, Arc<Destination>>>);

impl Destinations {
    /// The destination of an origin; a refusal when nothing may be sent there.
    pub fn of(&self, checked_origin: &Text, rules: &Rules) -> Result<Arc<Destination>, TransportError> {
        // A panic elsewhere cannot leave the map half-written: every change is one insert.
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(checked_origin).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let destination = Arc::new(Destination::check(checked_origin, rules)?);
        let mut seen = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < DESTINATIONS_MAX {
            seen.insert(checked_origin.clone(), destination.clone());
        }
        Ok(destination)
    }
}

impl Destination {
    /// Scheme, user-info and literal address; then the operator's override.
    fn check(checked_origin: &str, rules: &Rules) -> Result<Destination, TransportError> {
        let url = Url::parse(checked_origin).map_err(|_| blocked("the checked origin cannot be read"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(blocked("only http and https are allowed"));
        }
        if origin::has_user(&url) {
            return Err(blocked("a URL may not carry a user name or password"));
        }
        let port = url.port_or_known_default().ok_or_else(|| blocked("the URL has no port"))?;
        let why = literal(&url)
            .and_then(|address| Some((address, resolver::judge(address, port, &rules.allowed)?)));
        if let Some((address, why)) = why {
            return Err(blocked(format!("{address} is {}", why.as_str())));
        }
        let own = origin::of(&url);
        let Some(rule) = rules.overrides.iter().find(|rule| rule.from == own) else {
            return Ok(Destination { origin: own, port, overridden: None, last: Mutex::default() });
        };
        let host = origin::host(&url).and_then(|host| HeaderValue::try_from(host).ok());
        let overridden = Some(host.ok_or_else(|| blocked("the URL has no host"))?);
        Ok(Destination { origin: origin::of(&rule.to), port, overridden, last: Mutex::default() })
    }

    /// The URL to connect to; `url` must be of `checked_origin`, the one this destination was checked as.
    pub fn url(&self, url: &str, checked_origin: &str) -> Result<Url, TransportError> {
        let rest = url
            .strip_prefix(checked_origin)
            .filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
            .ok_or_else(|| blocked(format!("the URL left its origin {checked_origin}")))?;
        match rest.split_once('?') {
            Some((path, query)) if is_plain(path) && is_plain(query) => {
                let mut url = self.path(path, checked_origin)?;
                url.set_query(Some(query));
                Ok(url)
            }
            _ => self.read(rest, checked_origin),
        }
    }

    /// The URL of a path, read once as long as it stays the same.
    fn path(&self, path: &str, checked_origin: &str) -> Result<Url, TransportError> {
        if let Some((_, url)) = self.last().as_ref().filter(|(known, _)| known == path) {
            return Ok(url.clone());
        }
        let url = self.read(path, checked_origin)?;
        *self.last() = Some((path.to_owned(), url.clone()));
        Ok(url)
    }

    fn last(&self) -> MutexGuard<'_, Option<(String, Url)>> {
        // A panic elsewhere cannot leave it half-written: every change is one assignment.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, rest: &str, checked_origin: &str) -> Result<Url, TransportError> {
        let url =
            Url::parse(&format!("{}{rest}", self.origin)).map_err(|_| blocked("the URL cannot be read"))?;
        if origin::is(&url, &self.origin) {
            Ok(url)
        } else {
            Err(blocked(format!("the URL left its origin {checked_origin}")))
        }
    }
}

/// Whether a part of a URL means the same read by itself: no fragment, and nothing that a reader of URLs leaves out.
fn is_plain(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// The address in the URL, if its host is one. The URL parser has already read decimal, octal, hexadecimal and short
/// forms the way a connecting socket would.
fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    host.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORIGIN: &str = "https://api.mindbox.ru";
    const ELSEWHERE: &str = "http://127.0.0.1:9999";

    proptest! {
        #[test]
        fn a_url_is_the_same_read_whole_or_by_its_path_and_query(
            parts in prop::collection::vec(
                ("(/[ab]|/[a-z./%?#\\\\@: \t\u{e9}]{0,12})?", "[a-z0-9=&%+'\"<> ?#\t\n\u{44f}]{0,20}"),
                1..6,
            ),
            overridden: bool,
        ) {
            let overrides = vec![format!("{ORIGIN}={ELSEWHERE}").parse().expect("an override")];
            let rules = if overridden { Rules { overrides, ..Rules::default() } } else { Rules::default() };
            let destination = Destination::check(ORIGIN, &rules).expect("a destination");
            for (path, query) in parts {
                let rest = format!("{path}?{query}");
                let origin = if overridden { ELSEWHERE } else { ORIGIN };
                let whole = Url::parse(&format!("{origin}{rest}")).expect("a URL of an origin can always be read");
                let url = destination.url(&format!("{ORIGIN}{rest}"), ORIGIN).expect("of its origin");
                prop_assert_eq!(url, whole);
            }
        }
    }
}
