//! A URL whose origin is fixed and whose path segments and query values are encoded for their place.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::BuildError;
use crate::{
    expression::{Env, error::EvalError, text_of},
    template::{Part, Template},
    words::Words,
};

/// Everything but RFC 3986's unreserved characters: a value stays inside its place.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What may not stand in a URL as written; reserved characters in literal text mean what they say.
const LITERAL: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A compiled URL.
#[derive(Debug, Clone, PartialEq)]
pub struct Url {
    /// `https://host` or `https://host:port`, lower case, without the scheme's own port.
    pub origin: String,
    /// Path segments in order, each after a `/`.
    pub path: Vec<Segment>,
    /// Query parameters in order; no value for a name without `=`.
    pub query: Vec<(String, Option<Template>)>,
}

/// A path segment.
#[derive(Debug, Clone, PartialEq)]
pub enum Segment {
    /// Encoded already.
    Literal(String),
    /// To be computed.
    Computed(Template),
}

/// Why a text is no URL we send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlError {
    /// Neither `http://` nor `https://`.
    Scheme,
    /// The host is missing, or has a character that no host has.
    Host,
    /// The port is no port.
    Port,
    /// `user:password@`.
    UserInfo,
    /// Part of scheme, host or port is computed from an event.
    OriginNotConstant,
    /// A query parameter's name is computed.
    NameNotConstant,
    /// `#…` is never sent.
    Fragment,
}

impl UrlError {
    /// For people.
    pub fn words(self) -> Words {
        match self {
            UrlError::Scheme => Words::new(
                "a URL starts with `https://` or `http://`",
                "URL начинается с `https://` или `http://`",
            ),
            UrlError::Host => Words::new("this URL has no valid host", "в этом URL нет правильного хоста"),
            UrlError::Port => Words::new("this URL has no valid port", "в этом URL неправильный порт"),
            UrlError::UserInfo => Words::new(
                "a URL may not hold a user or a password",
                "в URL не может быть имени пользователя и пароля",
            ),
            UrlError::OriginNotConstant => Words::new(
                "scheme, host and port of a URL must be constant",
                "схема, хост и порт в URL должны быть постоянными",
            ),
            UrlError::NameNotConstant => Words::new(
                "the name of a query parameter must be constant",
                "имя параметра в URL должно быть постоянным",
            ),
            UrlError::Fragment => Words::new(
                "the part of a URL after `#` is never sent",
                "часть URL после `#` никогда не отправляется",
            ),
        }
    }
}

/// Percent-encodes a value for any place of a URL or a form.
pub fn percent(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, VALUE).into()
}

/// Scheme, host and port of a URL, as they are compared; and where they end in the text.
pub fn origin(text: &str) -> Result<(String, usize), UrlError> {
    let (scheme, own_port) = if starts_with(text, "https://") {
        ("https://", "443")
    } else if starts_with(text, "http://") {
        ("http://", "80")
    } else {
        return Err(UrlError::Scheme);
    };
    let rest = &text[scheme.len()..];
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let authority = &rest[..end];
    if authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    let (host, port) = split_port(authority)?;
    check_host(host)?;
    let port = port.filter(|port| *port != own_port).map(|port| format!(":{port}")).unwrap_or_default();
    Ok((format!("{scheme}{}{port}", host.to_ascii_lowercase()), scheme.len() + end))
}

fn starts_with(text: &str, scheme: &str) -> bool {
    text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), UrlError> {
    let after_host = if authority.starts_with('[') { authority.find(']').map_or(0, |at| at + 1) } else { 0 };
    let Some(colon) = authority[after_host..].find(':').map(|at| at + after_host) else {
        return Ok((authority, None));
    };
    let port = &authority[colon + 1..];
    let number = port
        .parse::<u16>()
        .ok()
        .filter(|number| *number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()));
    number.map(|_| (&authority[..colon], Some(port))).ok_or(UrlError::Port)
}

fn check_host(host: &str) -> Result<(), UrlError> {
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let sound = match literal {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        }
    };
    if sound { Ok(()) } else { Err(UrlError::Host) }
}

impl Url {
    /// Takes a template apart. Constants (settings) have been written into its literals already.
    pub fn of(template: &Template) -> Result<Url, UrlError> {
        let first = match template.parts.first() {
            Some(Part::Text(text)) => text.as_str(),
            Some(Part::Expression(_)) => return Err(UrlError::OriginNotConstant),
            None => return Err(UrlError::Scheme),
        };
        let authority = first.find("://").map_or("", |at| &first[at + 3..]);
        if template.parts.len() > 1 && !authority.contains(['/', '?', '#', '\\']) {
            return Err(UrlError::OriginNotConstant);
        }
        let (origin, end) = origin(first)?;
        let mut splitter = Splitter { path: Vec::new(), query: Vec::new(), in_query: false };
        splitter.literal(&first[end..])?;
        for part in &template.parts[1..] {
            match part {
                Part::Text(text) => splitter.literal(text)?,
                Part::Expression(_) => splitter.expression(part),
            }
        }
        splitter.finish(origin)
    }

    /// Writes the URL.
    pub fn write(&self, env: &dyn Env, out: &mut String) -> Result<(), BuildError> {
        out.push_str(&self.origin);
        for segment in &self.path {
            out.push('/');
            match segment {
                Segment::Literal(text) => out.push_str(text),
                Segment::Computed(template) => write_segment(template, env, out)?,
            }
        }
        let mut separator = '?';
        for (name, value) in &self.query {
            let before = out.len();
            out.push(separator);
            out.push_str(name);
            let written = value.as_ref().map_or(Ok(true), |value| write_value(value, env, out))?;
            if written {
                separator = '&';
            } else {
                out.truncate(before);
            }
        }
        Ok(())
    }
}

/// A computed segment must not be one that a URL parser takes away.
fn write_segment(template: &Template, env: &dyn Env, out: &mut String) -> Result<(), BuildError> {
    let start = out.len();
    write_parts(template, env, out)?;
    if matches!(&out[start..], "." | "..") {
        return Err(BuildError(Words::new(
            format!("`{}` would change the URL's path", template.label()),
            format!("`{}` изменит путь в URL", template.label()),
        )));
    }
    Ok(())
}

/// Writes `=value`; false when the value is one expression and empty.
fn write_value(template: &Template, env: &dyn Env, out: &mut String) -> Result<bool, BuildError> {
    if let Some(expression) = template.single() {
        let value = expression.eval(env)?;
        let text = text_of(&value).map_err(|kind| EvalError::at(expression.label(), kind))?;
        let Some(text) = text else { return Ok(false) };
        out.push('=');
        out.push_str(&percent(&text));
        return Ok(true);
    }
    out.push('=');
    write_parts(template, env, out)?;
    Ok(true)
}

fn write_parts(template: &Template, env: &dyn Env, out: &mut String) -> Result<(), BuildError> {
    for part in &template.parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Expression(expression) => {
                let value = expression.eval(env)?;
                let text = text_of(&value).map_err(|kind| EvalError::at(expression.label(), kind))?;
                let text = text.ok_or_else(|| {
                    EvalError::at(expression.label(), crate::expression::error::EvalErrorKind::Empty)
                })?;
                out.push_str(&percent(&text));
            }
        }
    }
    Ok(())
}

/// Collects segments and parameters while walking a template's parts.
struct Splitter {
    path: Vec<Template>,
    /// Name parts and, after `=`, value parts.
    query: Vec<(Template, Option<Template>)>,
    in_query: bool,
}

impl Splitter {
    fn literal(&mut self, text: &str) -> Result<(), UrlError> {
        for (at, character) in text.char_indices() {
            let letter = &text[at..at + character.len_utf8()];
            match (character, self.in_query) {
                ('#', _) => return Err(UrlError::Fragment),
                ('/' | '\\', false) => self.path.push(Template { parts: Vec::new() }),
                ('?', false) => {
                    self.in_query = true;
                    self.query.push((Template { parts: Vec::new() }, None));
                }
                ('&', true) => self.query.push((Template { parts: Vec::new() }, None)),
                ('=', true) if self.query.last().is_some_and(|(_, value)| value.is_none()) => {
                    if let Some((_, value)) = self.query.last_mut() {
                        *value = Some(Template { parts: Vec::new() });
                    }
                }
                _ => push_text(self.current(), letter, &text[at..]),
            }
        }
        Ok(())
    }

    fn expression(&mut self, part: &Part) {
        self.current().push(part.clone());
    }

    fn current(&mut self) -> &mut Vec<Part> {
        if self.in_query {
            if self.query.is_empty() {
                self.query.push((Template { parts: Vec::new() }, None));
            }
            let (name, value) = self.query.last_mut().expect("one was pushed");
            return &mut value.as_mut().unwrap_or(name).parts;
        }
        if self.path.is_empty() {
            self.path.push(Template { parts: Vec::new() });
        }
        &mut self.path.last_mut().expect("one was pushed").parts
    }

    fn finish(self, origin: String) -> Result<Url, UrlError> {
        let segment = |template: Template| match template.literal() {
            Some(text) => Segment::Literal(text.to_owned()),
            None => Segment::Computed(template),
        };
        let mut query = Vec::new();
        for (name, value) in self.query {
            let name = name.literal().ok_or(UrlError::NameNotConstant)?.to_owned();
            if name.is_empty() && value.is_none() {
                continue;
            }
            query.push((name, value));
        }
        Ok(Url { origin, path: self.path.into_iter().map(segment).collect(), query })
    }
}

/// Appends a literal character, encoded when it cannot stand in a URL; `%41` stays, a lone `%` does not.
fn push_text(parts: &mut Vec<Part>, letter: &str, rest: &str) {
    let encoded = match letter {
        "%" if !is_escape(rest) => Cow::Borrowed("%25"),
        _ => utf8_percent_encode(letter, LITERAL).into(),
    };
    match parts.last_mut() {
        Some(Part::Text(text)) => text.push_str(&encoded),
        Some(Part::Expression(_)) | None => parts.push(Part::Text(encoded.into_owned())),
    }
}

fn is_escape(rest: &str) -> bool {
    rest.as_bytes().get(1..3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnostic::Diagnostics,
        value::{Map, Value},
        yaml::{FileId, Node, Span},
    };

    fn template(text: &str) -> Template {
        let node = Node::text(text, Span { file: FileId(0), start: 0, end: 0 });
        Template::parse(&node, &mut Diagnostics::default()).expect("a template")
    }

    fn written(url: &str, fields: &[(&str, &str)]) -> Result<String, BuildError> {
        let env: Map = fields.iter().map(|(name, value)| ((*name).into(), Value::from(*value))).collect();
        let mut out = String::new();
        Url::of(&template(url)).expect("a URL").write(&env, &mut out)?;
        Ok(out)
    }

    #[test]
    fn values_are_encoded_for_their_place_and_cannot_leave_it() {
        let fields = [("id", "a/b?c#d&e=f"), ("name", "Пётр"), ("empty", "")];
        for (url, expected) in [
            ("https://api.example/x/{{ id }}", "https://api.example/x/a%2Fb%3Fc%23d%26e%3Df"),
            ("https://api.example/?q={{ id }}&n=1", "https://api.example/?q=a%2Fb%3Fc%23d%26e%3Df&n=1"),
            ("https://api.example?n={{ name }}", "https://api.example?n=%D0%9F%D1%91%D1%82%D1%80"),
            ("https://api.example/v1/{{ id }}-x.json", "https://api.example/v1/a%2Fb%3Fc%23d%26e%3Df-x.json"),
            ("https://API.Example:443/A b/%41?%zz", "https://api.example/A%20b/%41?%25zz"),
            ("http://api.example:8080", "http://api.example:8080"),
        ] {
            assert_eq!(written(url, &fields).as_deref(), Ok(expected), "{url}");
        }
    }

    #[test]
    fn a_parameter_whose_value_is_empty_is_left_out_and_one_written_empty_stays() {
        let fields = [("a", "1"), ("empty", "")];
        for (query, expected) in [
            ("?x={{ empty }}&y={{ a }}", "?y=1"),
            ("?y={{ a }}&x={{ empty }}", "?y=1"),
            ("?x={{ empty }}", ""),
            ("?x={{ nothing }}&flag&e=", "?flag&e="),
        ] {
            let url = format!("https://api.example/{query}");
            assert_eq!(written(&url, &fields), Ok(format!("https://api.example/{expected}")), "{query}");
        }
    }

    #[test]
    fn a_value_cannot_climb_out_of_its_path() {
        assert!(written("https://api.example/a/{{ id }}/b", &[("id", "..")]).is_err());
        assert!(written("https://api.example/a/{{ id }}/b", &[("id", ".")]).is_err());
        assert!(written("https://api.example/a/{{ id }}/b", &[("id", "")]).is_err());
        assert!(written("https://api.example/a/x{{ id }}", &[("id", "..")]).is_ok());
    }

    #[test]
    fn what_is_not_a_url_with_a_constant_origin_is_refused() {
        for (url, error) in [
            ("ftp://api.example/", UrlError::Scheme),
            ("api.example/x", UrlError::Scheme),
            ("", UrlError::Scheme),
            ("https:///x", UrlError::Host),
            ("https://api example/", UrlError::Host),
            ("https://пример.рф/", UrlError::Host),
            ("https://api.example:0/", UrlError::Port),
            ("https://api.example:99999/", UrlError::Port),
            ("https://user:pass@api.example/", UrlError::UserInfo),
            ("{{ id }}", UrlError::OriginNotConstant),
            ("https://{{ id }}.example/", UrlError::OriginNotConstant),
            ("https://api.example{{ id }}", UrlError::OriginNotConstant),
            ("https://api.example:{{ id }}/", UrlError::OriginNotConstant),
            ("https://api.example/?{{ id }}=1", UrlError::NameNotConstant),
            ("https://api.example/#x", UrlError::Fragment),
        ] {
            assert_eq!(Url::of(&template(url)), Err(error), "{url}");
        }
    }

    #[test]
    fn an_address_literal_is_an_origin() {
        assert_eq!(origin("http://[::1]:8080/x"), Ok(("http://[::1]:8080".to_owned(), 17)));
        assert_eq!(origin("https://127.0.0.1"), Ok(("https://127.0.0.1".to_owned(), 17)));
        assert_eq!(origin("http://[::1"), Err(UrlError::Port));
    }

    proptest::proptest! {
        #[test]
        fn no_value_changes_anything_before_or_after_its_place(value in ".{1,40}") {
            let fields = [("id", value.as_str())];
            if let Ok(text) = written("https://api.example/a/x{{ id }}/b?q={{ id }}&z=1", &fields) {
                let (path, query) = text["https://api.example/".len()..].split_once('?').expect("one query");
                proptest::prop_assert_eq!(path.split('/').count(), 3);
                proptest::prop_assert_eq!(query.split('&').count(), 2);
                proptest::prop_assert!(text.is_ascii() && !text.contains(['#', ' ', '\\']));
            }
        }
    }
}
