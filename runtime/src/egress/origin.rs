//! Origins: comparing the one that was checked at publish with the one at hand, and the operator's overrides.

use std::{fmt, str::FromStr};

use reqwest::Url;

/// An operator's redirection of one exact origin to another, for stand-ins and demonstrations:
/// `https://api.mindbox.ru=http://127.0.0.1:9001`. It is applied after every check of the request has passed, so it
/// widens nothing: the request must have been good for the real origin.
#[derive(Clone, PartialEq, Eq)]
pub struct Override {
    /// The origin in the request, normalised (`https://api.mindbox.ru`).
    pub from: String,
    /// The address that is connected to instead; only scheme, host and port are used.
    pub to: Url,
}

impl fmt::Debug for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.from, of(&self.to))
    }
}

/// The text is not `ORIGIN=ORIGIN`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected two origins like https://api.mindbox.ru=http://127.0.0.1:9001, got {0:?}")]
pub struct OverrideError(String);

impl FromStr for Override {
    type Err = OverrideError;

    fn from_str(text: &str) -> Result<Self, OverrideError> {
        let error = || OverrideError(text.to_owned());
        let (from, to) = text.split_once('=').ok_or_else(error)?;
        let from = bare(from).ok_or_else(error)?;
        let to = bare(to).ok_or_else(error)?;
        Ok(Override { from: of(&from), to })
    }
}

/// A URL that is an origin and nothing more.
fn bare(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.host().is_some()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && !has_user(&url);
    plain.then_some(url)
}

/// The URL's origin, normalised: `https://host`, with the port when it is not the scheme's own.
pub fn of(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Whether the URL is of this origin, which may be written in another way (`HTTPS://Host:443/`).
pub fn is(url: &Url, origin: &str) -> bool {
    // Nearly always it is written as the URL is, and nothing has to be parsed.
    let as_written = url.as_str().strip_prefix(origin).is_some_and(|rest| rest.starts_with('/'));
    as_written || Url::parse(origin).is_ok_and(|expected| expected.origin() == url.origin())
}

/// Whether the URL carries a user name or password.
pub fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// What `Host` says for this URL.
pub fn host(url: &Url) -> Option<String> {
    Some(match (url.host_str()?, url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_is_of_a_normalised_origin_and_host_says_the_port_only_when_it_is_not_the_usual() {
        let rule: Override = "https://api.mindbox.ru:443/=http://127.0.0.1:9001".parse().unwrap();
        assert_eq!(rule.from, "https://api.mindbox.ru");
        assert_eq!(of(&rule.to), "http://127.0.0.1:9001");
        let host = |url| host(&Url::parse(url).unwrap());
        assert_eq!(host("https://api.mindbox.ru:443/v3").as_deref(), Some("api.mindbox.ru"));
        assert_eq!(host("https://api.mindbox.ru:444/v3").as_deref(), Some("api.mindbox.ru:444"));
    }

    #[test]
    fn a_url_is_of_its_origin_however_that_is_written_and_of_no_other() {
        let url = Url::parse("https://api.mindbox.ru/v3?x=1").unwrap();
        for own in ["https://api.mindbox.ru", "HTTPS://API.mindbox.ru:443/"] {
            assert!(is(&url, own), "{own}");
        }
        for other in
            ["https://api.mindbox.r", "http://api.mindbox.ru", "https://api.mindbox.ru:444", "https://api"]
        {
            assert!(!is(&url, other), "{other}");
        }
    }

    #[test]
    fn an_override_that_is_more_than_an_origin_is_refused() {
        for wrong in [
            "https://a.example",
            "https://a.example/x=http://127.0.0.1",
            "ftp://a=http://b",
            "https://u@a=http://b",
            "=",
            "",
        ] {
            assert!(wrong.parse::<Override>().is_err(), "{wrong}");
        }
    }
}
