//! What references mean while a plan runs.

use std::cell::OnceCell;

use crate::{
    expression::Env,
    path::{Path, Root, lookup, lookup_in},
    request::Response,
    value::{Map, Text, Value},
};

/// An event, earlier answers, the connection, and inside a request what the bundle gave its action.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// The event's fields.
    pub fields: &'a Map,
    /// Bare names that stand for dotted ones.
    pub aliases: &'a [(String, Path)],
    /// Step name -> `{status, body}`.
    pub steps: &'a Map,
    /// The connection's settings.
    pub settings: &'a Map,
    /// The action's input.
    pub input: &'a Map,
    /// The delivery's idempotency key, as `delivery.key`.
    pub key: &'a Value,
}

impl Env for Environment<'_> {
    fn get(&self, path: &Path) -> Option<&Value> {
        match path.root {
            Root::Event => lookup(self.fields, &path.segments).or_else(|| self.aliased(path)),
            Root::Steps => lookup(self.steps, &path.segments),
            Root::Connection => settings_at(self.settings, path),
            Root::Input => lookup(self.input, &path.segments),
            Root::Delivery => Some(self.key),
            Root::Item | Root::Response | Root::Workspace => None,
        }
    }

    fn fields(&self) -> &Map {
        self.fields
    }
}

impl Environment<'_> {
    fn aliased(&self, path: &Path) -> Option<&Value> {
        let [name] = path.segments.as_slice() else { return None };
        let (_, target) = self.aliases.iter().find(|(alias, _)| **alias == *name.key)?;
        lookup(self.fields, &target.segments)
    }
}

/// The value of `connection.settings.…`.
fn settings_at<'m>(settings: &'m Map, path: &Path) -> Option<&'m Value> {
    let (group, rest) = path.segments.split_first()?;
    if &*group.key == "settings" { lookup(settings, rest) } else { None }
}

/// A connection's settings alone.
pub struct SettingsEnvironment<'a>(pub &'a Map);

impl Env for SettingsEnvironment<'_> {
    fn get(&self, path: &Path) -> Option<&Value> {
        if path.root == Root::Connection { settings_at(self.0, path) } else { None }
    }

    fn fields(&self) -> &Map {
        self.0
    }
}

/// Largest answer body that is parsed for verdicts and later steps, bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// An answer: `response.status`, `response.body`, `response.headers`, and the connection's settings.
pub struct ResponseEnvironment<'a> {
    response: &'a Response,
    settings: &'a Map,
    status: Value,
    body: OnceCell<Value>,
    headers: OnceCell<Value>,
}

impl<'a> ResponseEnvironment<'a> {
    /// Parses nothing until somebody asks.
    pub fn new(response: &'a Response, settings: &'a Map) -> Self {
        let status = Value::from(i64::from(response.status));
        ResponseEnvironment { response, settings, status, body: OnceCell::new(), headers: OnceCell::new() }
    }

    /// The body: JSON where it is JSON, else its text.
    pub fn body(&self) -> &Value {
        self.body.get_or_init(|| {
            let bytes = &self.response.body[..self.response.body.len().min(BODY_BYTES_MAX)];
            crate::json::parse(bytes, crate::json::Limits::default())
                .unwrap_or_else(|_| Value::Text(Text::from_utf8_lossy(bytes)))
        })
    }

    /// The body, taken out.
    pub fn into_body(self) -> Value {
        self.body();
        self.body.into_inner().unwrap_or_default()
    }

    fn headers(&self) -> &Value {
        self.headers.get_or_init(|| {
            let pairs = self.response.headers.iter();
            Value::object(pairs.map(|(name, value)| (name.clone(), Value::Text(value.clone()))))
        })
    }
}

impl Env for ResponseEnvironment<'_> {
    fn get(&self, path: &Path) -> Option<&Value> {
        if path.root == Root::Connection {
            return settings_at(self.settings, path);
        }
        if path.root != Root::Response {
            return None;
        }
        let (part, rest) = path.segments.split_first()?;
        match &*part.key {
            "status" => Some(&self.status),
            "body" => lookup_in(self.body(), rest),
            "headers" => lookup_in(self.headers(), rest),
            _ => None,
        }
    }

    fn fields(&self) -> &Map {
        self.settings
    }
}
