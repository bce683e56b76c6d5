//! From a step's compiled parts to the bytes of one HTTP request, secrets as placeholders.

pub mod form;
pub mod url;

use crate::{
    environment::Environment,
    expression::{Env, error::EvalError, text_of},
    json,
    mapping::Mapping,
    request::{Encoding, Piece, Pieces, Request},
    template::Template,
    value::{Map, Text, Value},
    words::Words,
};
use url::Url;

/// The longest an exchange may take when the manifest says nothing, milliseconds.
pub const TIMEOUT_MS: u32 = 30_000;
/// The longest URL that is sent, bytes.
pub const URL_BYTES_MAX: usize = 16 * 1024;
/// The largest body that is sent, bytes.
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// A request that cannot be built from this event; the reason is for people.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildError(pub Words);

impl From<EvalError> for BuildError {
    fn from(error: EvalError) -> BuildError {
        BuildError(error.words())
    }
}

/// The compiled request of one step.
#[derive(Debug)]
pub struct Outgoing {
    /// What the bundle gives the action, without what stands in the request by itself (URL, secrets).
    pub input: Mapping,
    /// Values of inputs that get none.
    pub defaults: Map,
    /// The method.
    pub method: Template,
    /// The URL.
    pub url: Url,
    /// Query parameters after those of the URL.
    pub query: Vec<Parameters>,
    /// Headers in order; the first of a name wins.
    pub headers: Vec<Headers>,
    /// The body.
    pub body: Body,
    /// `Content-Type` of a body, unless a header says it.
    pub content_type: String,
    /// What the connection puts into every request: headers.
    pub authentication_headers: Vec<(String, Pieces)>,
    /// What the connection puts into every request: query parameters.
    pub authentication_query: Vec<(String, Pieces)>,
    /// The longest the whole exchange may take.
    pub timeout_ms: u32,
}

/// Query parameters.
#[derive(Debug)]
pub enum Parameters {
    /// Percent-encoded name and value; an empty value leaves the parameter out.
    Listed(Vec<(String, Template)>),
    /// An input that is a map.
    Input(String),
}

/// Headers.
#[derive(Debug)]
pub enum Headers {
    /// Name and value; an empty value leaves the header out.
    Listed(Vec<(String, Template)>),
    /// An input that is a map without secrets.
    Input(String),
}

/// The body.
#[derive(Debug)]
pub enum Body {
    /// None.
    None,
    /// A value as JSON.
    Json(Source),
    /// A value as a form, nested by brackets.
    Form(Source),
    /// Text as it is.
    Raw(Template),
}

/// Where a body's value comes from.
#[derive(Debug)]
pub enum Source {
    /// The first of these inputs that was given.
    Inputs(Vec<String>),
    /// What the manifest says.
    Mapping(Mapping),
}

impl Outgoing {
    /// Builds the request. Pure; the same state gives the same bytes.
    pub fn build(&self, environment: Environment<'_>, connection: &str) -> Result<Request, BuildError> {
        let input = self.input(&environment)?;
        let environment = Environment { input: &input, ..environment };
        let body = self.body(&environment)?;
        Ok(Request {
            connection: connection.into(),
            method: method(&self.method, &environment)?,
            origin: self.url.origin.as_str().into(),
            url: self.url(&environment)?,
            headers: self.headers(&environment, !body.is_empty())?,
            body,
            timeout_ms: self.timeout_ms,
        })
    }

    fn input(&self, environment: &Environment<'_>) -> Result<Map, BuildError> {
        let mut input = match self.input.eval(environment)? {
            Value::Object(input) => *input,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                Map::default()
            }
        };
        for (name, value) in &self.defaults {
            if input.get(name).is_none_or(Value::is_empty) {
                input.insert(name.clone(), value.clone());
            }
        }
        Ok(input)
    }

    fn url(&self, environment: &Environment<'_>) -> Result<Pieces, BuildError> {
        let mut text = String::with_capacity(256);
        self.url.write(environment, &mut text)?;
        for parameters in &self.query {
            match parameters {
                Parameters::Listed(listed) => {
                    for (name, value) in listed {
                        let value = value.eval(environment)?;
                        push_parameter(&mut text, name, &value)?;
                    }
                }
                Parameters::Input(name) => {
                    for (name, value) in map_of(environment.input, name) {
                        push_parameter(&mut text, &url::percent(name), value)?;
                    }
                }
            }
        }
        if text.len() > URL_BYTES_MAX {
            return Err(too_long("URL", URL_BYTES_MAX));
        }
        let mut pieces = vec![Piece::Text(text.into())];
        for (name, value) in &self.authentication_query {
            let question =
                pieces.iter().any(|piece| matches!(piece, Piece::Text(text) if text.contains('?')));
            pieces.push(Piece::Text(format!("{}{name}=", if question { '&' } else { '?' }).into()));
            pieces.extend(value.iter().cloned());
        }
        Ok(pieces)
    }

    fn headers(
        &self,
        environment: &Environment<'_>,
        has_body: bool,
    ) -> Result<Vec<(Text, Pieces)>, BuildError> {
        let mut headers = Vec::with_capacity(6);
        for part in &self.headers {
            match part {
                Headers::Listed(listed) => {
                    for (name, value) in listed {
                        let value = header_value(value, environment)?;
                        push_header(&mut headers, name, value)?;
                    }
                }
                Headers::Input(input) => {
                    for (name, value) in map_of(environment.input, input) {
                        let text = text_of(value).map_err(|kind| EvalError::at(name.as_str(), kind))?;
                        let value = text.map(|text| vec![Piece::Text(text.into())]).unwrap_or_default();
                        push_header(&mut headers, name, value)?;
                    }
                }
            }
        }
        if has_body {
            push_header(&mut headers, "Content-Type", vec![Piece::Text(self.content_type.as_str().into())])?;
        }
        for (name, value) in &self.authentication_headers {
            push_header(&mut headers, name, value.clone())?;
        }
        Ok(headers)
    }

    fn body(&self, environment: &Environment<'_>) -> Result<Pieces, BuildError> {
        let bytes = match &self.body {
            Body::None => Vec::new(),
            Body::Json(source) => source.with(environment, |value| {
                let mut bytes = Vec::with_capacity(512);
                json::write(value, &mut bytes);
                Ok(bytes)
            })?,
            Body::Form(source) => source.with(environment, form::write)?,
            Body::Raw(template) => return raw(template, environment),
        };
        if bytes.len() > BODY_BYTES_MAX {
            return Err(too_long("body", BODY_BYTES_MAX));
        }
        let text = String::from_utf8(bytes).expect("JSON and forms are written from texts");
        Ok(if text.is_empty() { Pieces::new() } else { vec![Piece::Text(text.into())] })
    }
}

impl Source {
    /// Writes the value, or nothing when there is none.
    fn with(
        &self,
        environment: &Environment<'_>,
        write: impl Fn(&Value) -> Result<Vec<u8>, BuildError>,
    ) -> Result<Vec<u8>, BuildError> {
        match self {
            Source::Inputs(names) => {
                let given = names.iter().find_map(|name| environment.input.get(name.as_str()));
                given.filter(|value| **value != Value::Null).map_or_else(|| Ok(Vec::new()), write)
            }
            Source::Mapping(mapping) => write(&mapping.eval(environment)?),
        }
    }
}

fn raw(template: &Template, environment: &Environment<'_>) -> Result<Pieces, BuildError> {
    if template.single().is_some_and(|expression| !expression.has_secret())
        && template.eval(environment)?.is_empty()
    {
        return Ok(Pieces::new());
    }
    Ok(template.pieces(environment, Encoding::Plain)?)
}

fn method(template: &Template, environment: &dyn Env) -> Result<Text, BuildError> {
    let method = Text::from(template.text(environment)?);
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(BuildError(Words::new("the method is not one HTTP has", "такого HTTP-метода нет")));
    }
    Ok(method)
}

/// The entries of an input that is a map.
fn map_of<'m>(input: &'m Map, name: &str) -> impl Iterator<Item = (&'m Text, &'m Value)> {
    let map = if let Some(Value::Object(map)) = input.get(name) { Some(map) } else { None };
    map.into_iter().flat_map(|map| map.iter())
}

/// Appends `name=value` to a URL; `name` is percent-encoded already. An empty value is left out.
fn push_parameter(url: &mut String, name: &str, value: &Value) -> Result<(), BuildError> {
    let Some(text) = text_of(value).map_err(|kind| EvalError::at(name, kind))? else { return Ok(()) };
    url.push(if url.contains('?') { '&' } else { '?' });
    url.push_str(name);
    url.push('=');
    url.push_str(&url::percent(&text));
    Ok(())
}

fn header_value(template: &Template, environment: &Environment<'_>) -> Result<Pieces, BuildError> {
    if let Some(expression) = template.single()
        && !expression.has_secret()
        && expression.eval(environment)?.is_empty()
    {
        return Ok(Pieces::new());
    }
    Ok(template.pieces(environment, Encoding::Plain)?)
}

/// Adds a header unless it is empty or there is one of that name.
fn push_header(headers: &mut Vec<(Text, Pieces)>, name: &str, value: Pieces) -> Result<(), BuildError> {
    if value.is_empty() || headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    if value.iter().any(|piece| matches!(piece, Piece::Text(text) if !is_header_text(text))) {
        return Err(BuildError(Words::new(
            format!("the value of the header `{name}` has a line break or a NUL"),
            format!("в значении заголовка `{name}` перевод строки или NUL"),
        )));
    }
    headers.push((name.into(), value));
    Ok(())
}

/// Whether a text may stand in a header: no CR, LF or NUL.
pub fn is_header_text(text: &str) -> bool {
    !text.contains(['\r', '\n', '\0'])
}

fn too_long(what: &str, bytes_max: usize) -> BuildError {
    BuildError(Words::new(
        format!("the {what} would be longer than {bytes_max} bytes"),
        format!("{what} получился бы длиннее {bytes_max} байт"),
    ))
}
