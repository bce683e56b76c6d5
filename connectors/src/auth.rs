//! Fills a request's placeholders with secrets, right before it is sent.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sheaf_bundles::{
    request::{Encoding, Piece, Request},
    value::Text,
};

/// Everything but RFC 3986's unreserved characters, so a secret stays inside its place in a URL or a form.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request with its secrets in place. It cannot be shown, compared or stored: it goes to egress and nowhere else.
pub struct Authorized {
    /// `POST`, …
    pub method: Text,
    /// The whole URL; its origin is the one the bundle was compiled with.
    pub url: String,
    /// Headers; values hold neither CR, LF nor NUL.
    pub headers: Vec<(Text, Text)>,
    /// The body.
    pub body: Vec<u8>,
    /// The longest the whole exchange may take.
    pub timeout_ms: u32,
}

/// Why a request could not be authorised. Nothing was sent. Holds names only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizeError {
    /// The connection has no such secret, or its place (environment, file) is empty.
    #[error("secret {0:?} is not there")]
    Missing(String),
    /// The secret's value cannot stand where the request needs it.
    #[error("secret {0:?} has a line break or a NUL and cannot stand in a header")]
    Unfit(String),
    /// The URL leads elsewhere than where it was checked for.
    #[error("the URL leaves the origin it was checked for")]
    Origin,
}

/// Fills in the placeholders; `secret` looks a secret of the request's connection up by name.
pub fn authorize<'s>(
    request: &Request,
    secret: &dyn Fn(&str) -> Option<&'s str>,
) -> Result<Authorized, AuthorizeError> {
    let url = filled(&request.url, secret)?;
    let inside = url
        .strip_prefix(request.origin.as_str())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    if !inside {
        return Err(AuthorizeError::Origin);
    }
    let headers = request.headers.iter().map(|(name, value)| Ok((name.clone(), header(value, secret)?)));
    Ok(Authorized {
        method: request.method.clone(),
        headers: headers.collect::<Result<_, _>>()?,
        body: filled(&request.body, secret)?.into_bytes(),
        url,
        timeout_ms: request.timeout_ms,
    })
}

fn header<'s>(pieces: &[Piece], secret: &dyn Fn(&str) -> Option<&'s str>) -> Result<Text, AuthorizeError> {
    for piece in pieces {
        if let Piece::Secret { name, encoding: Encoding::Plain | Encoding::Percent | Encoding::Json } = piece
            && secret(name).is_some_and(|value| value.contains(['\r', '\n', '\0']))
        {
            return Err(AuthorizeError::Unfit(name.to_string()));
        }
    }
    if let [Piece::Text(literal)] = pieces {
        return Ok(literal.clone());
    }
    Ok(filled(pieces, secret)?.into())
}

fn filled<'s>(pieces: &[Piece], secret: &dyn Fn(&str) -> Option<&'s str>) -> Result<String, AuthorizeError> {
    let mut text = String::new();
    let mut literal_start = 0;
    for piece in pieces {
        match piece {
            Piece::Text(literal) => {
                literal_start = text.len();
                text.push_str(literal);
            }
            Piece::Secret { name, encoding } => {
                let value = secret(name).ok_or_else(|| AuthorizeError::Missing(name.to_string()))?;
                write(&mut text, literal_start, value, *encoding);
                literal_start = text.len();
            }
        }
    }
    Ok(text)
}

/// Appends a secret; `literal_start` is where the literal right before it begins, which Basic takes as `user:`.
fn write(text: &mut String, literal_start: usize, value: &str, encoding: Encoding) {
    match encoding {
        Encoding::Plain => text.push_str(value),
        Encoding::Percent => text.extend(utf8_percent_encode(value, RESERVED)),
        Encoding::Json => write_json(text, value),
        Encoding::Basic => {
            let scheme = if text[literal_start..].starts_with("Basic ") { "Basic ".len() } else { 0 };
            let user = text.split_off(literal_start + scheme);
            STANDARD.encode_string(format!("{user}{value}"), text);
        }
    }
}

/// What to look for where a request of ours may be repeated ([`crate::echo`] knows the escapes of each): the secret, and its
/// base64. Behind `user:` in Basic it begins anywhere in a group: there it is the letters that do not depend on what stands
/// around.
pub fn spellings(secret: &str) -> Vec<String> {
    let in_base64 = (0..3).map(|before: usize| {
        let bytes = [&[0; 3][..before], secret.as_bytes()].concat();
        STANDARD.encode(&bytes)[(before * 8).div_ceil(6)..bytes.len() * 8 / 6].to_owned()
    });
    std::iter::once(secret.to_owned()).chain(in_base64).collect()
}

/// The inside of a JSON string (RFC 8259 §7).
fn write_json(text: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            control if control < ' ' => {
                write!(text, "\\u{:04x}", u32::from(control)).expect("a String takes any text")
            }
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo;

    #[test]
    fn whatever_is_written_of_a_secret_is_found_by_its_spellings() {
        for secret in ["ab+c/d==", "с \"кавычкой\"\\", "plain-secret-1"] {
            let known = spellings(secret);
            let found = |text: &str| {
                known.iter().any(|spelling| echo::without(text.as_bytes(), spelling, "").is_some())
            };
            for encoding in [Encoding::Plain, Encoding::Percent, Encoding::Json] {
                let mut text = "before ".to_owned();
                write(&mut text, 0, secret, encoding);
                assert!(found(&text), "{text}");
            }
            for user in ["", "u", "us", "use", "user:"] {
                let mut text = format!("Basic {user}");
                write(&mut text, 0, secret, Encoding::Basic);
                assert!(found(&text), "{text}");
            }
        }
    }

    fn request(headers: Vec<(Text, Vec<Piece>)>, url: Vec<Piece>, body: Vec<Piece>) -> Request {
        Request {
            connection: "mindbox-main".into(),
            method: "POST".into(),
            origin: "https://api.example.org".into(),
            url,
            headers,
            body,
            timeout_ms: 30_000,
        }
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.into())
    }

    fn key(encoding: Encoding) -> Piece {
        Piece::Secret { name: "key".into(), encoding }
    }

    fn with(secret: &'static str, request: &Request) -> Result<Authorized, AuthorizeError> {
        authorize(request, &|name| (name == "key").then_some(secret))
    }

    #[test]
    fn each_place_gets_the_secret_in_its_own_encoding() {
        let request = request(
            vec![
                (
                    "Authorization".into(),
                    vec![text("Mindbox secretKey=\""), key(Encoding::Plain), text("\"")],
                ),
                ("Proxy".into(), vec![text("Basic "), text("user:"), key(Encoding::Basic)]),
                ("Joined".into(), vec![text("Basic user:"), key(Encoding::Basic)]),
            ],
            vec![text("https://api.example.org/v3?token="), key(Encoding::Percent), text("&x=1")],
            vec![text("{\"k\":\""), key(Encoding::Json), text("\"}")],
        );
        let sent = with("a\"b&c", &request).expect("complete");
        assert_eq!(sent.url, "https://api.example.org/v3?token=a%22b%26c&x=1");
        assert_eq!(sent.headers[0].1, "Mindbox secretKey=\"a\"b&c\"");
        assert_eq!(sent.headers[1].1, "Basic dXNlcjphImImYw==");
        assert_eq!(sent.headers[2].1, "Basic dXNlcjphImImYw==");
        assert_eq!(sent.body, b"{\"k\":\"a\\\"b&c\"}");
    }

    #[test]
    fn event_data_that_looks_like_a_placeholder_stays_data() {
        let request = request(
            vec![],
            vec![text("https://api.example.org/")],
            vec![text("{{ connection.secrets.key }}")],
        );
        assert_eq!(with("s3cret", &request).expect("complete").body, b"{{ connection.secrets.key }}");
    }

    #[test]
    fn a_missing_secret_is_named() {
        let request = request(
            vec![("A".into(), vec![key(Encoding::Plain)])],
            vec![text("https://api.example.org/")],
            vec![],
        );
        let error = authorize(&request, &|_| None).err();
        assert_eq!(error, Some(AuthorizeError::Missing("key".into())));
    }

    #[test]
    fn a_secret_with_a_line_break_never_becomes_a_header() {
        let request = request(
            vec![("A".into(), vec![key(Encoding::Plain)])],
            vec![text("https://api.example.org/")],
            vec![],
        );
        assert_eq!(with("a\r\nb: c", &request).err(), Some(AuthorizeError::Unfit("key".into())));
    }

    #[test]
    fn a_url_outside_its_origin_is_refused() {
        for url in [
            "https://api.example.org.evil.example/",
            "https://api.example.org@evil.example/",
            "http://api.example.org/",
        ] {
            let request = request(vec![], vec![text(url)], vec![]);
            assert_eq!(with("s", &request).err(), Some(AuthorizeError::Origin), "{url}");
        }
    }
}
