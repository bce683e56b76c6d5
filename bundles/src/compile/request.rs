//! An action's request for one step: the manifest's templates, the connection's settings and what the bundle gives.

use super::{
    connection::{Compiled, folded},
    constant, header,
    input::{Inputs, Placed},
    names::Names,
    secret, url,
};
use crate::{
    connection::Placement,
    diagnostic::{Diagnostic, Diagnostics, code::Code},
    duration,
    manifest::action::{RequestSpec, alternatives},
    mapping::Mapping,
    outgoing::{
        Body, Headers, Outgoing, Parameters, Source, TIMEOUT_MS,
        url::{Url, percent},
    },
    path::Root,
    template::{Part, Template},
    types::Type,
    value::Map,
    words::Words,
    yaml::{Entry, Kind, Node, Span},
};

/// What an action's request is compiled from.
pub struct Request<'a> {
    /// What the action says of it.
    pub spec: &'a RequestSpec,
    /// The connection it goes through.
    pub compiled: &'a Compiled,
    /// What the bundle gives, sorted by where it goes.
    pub inputs: &'a Inputs<'a>,
    /// The names of the bundle's templates.
    pub names: &'a Names<'a>,
    /// Where to point for what is missing.
    pub span: Span,
}

/// The encodings of a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyEncoding {
    Json,
    Form,
    Raw,
    None,
}

impl Request<'_> {
    /// Compiles; none after an error, which is in `out`.
    pub fn compile(&self, input: Option<Mapping>, out: &mut Diagnostics) -> Option<Outgoing> {
        let spec = self.spec;
        let url = self.url(out);
        let headers = self.headers(out);
        let body = self.body(out);
        let encoding = self.encoding();
        let (url, url_span) = url?;
        self.check_secrets(&url, url_span, &headers, body.as_ref(), out);
        let content_type = constant::text(spec.content_type.as_ref(), self.settings());
        let outgoing = Outgoing {
            input: input?,
            defaults: self.inputs.defaults(),
            method: self.template(spec.method.as_ref().unwrap_or(&Node::text("POST", spec.span)))?,
            url,
            query: self.query(),
            headers,
            body: body?,
            content_type: content_type.unwrap_or_else(|| usual_type(encoding).to_owned()),
            authentication_headers: self.placements(true),
            authentication_query: self.placements(false),
            timeout_ms: timeout_ms(spec.timeout.as_ref()),
        };
        Some(outgoing)
    }

    /// Whether the idempotency key is in the request, so that the vendor can tell a repeat.
    pub fn carries_key(outgoing: &Outgoing) -> bool {
        let reads = |template: &Template| {
            let mut reads = false;
            template.references(&mut |path, _| reads |= path.root == Root::Delivery);
            reads
        };
        let in_headers = outgoing.headers.iter().any(|part| match part {
            Headers::Listed(listed) => listed.iter().any(|(_, value)| reads(value)),
            Headers::Input(_) => false,
        });
        let in_query = outgoing.query.iter().any(|part| match part {
            Parameters::Listed(listed) => listed.iter().any(|(_, value)| reads(value)),
            Parameters::Input(_) => false,
        });
        in_headers || in_query
    }

    fn settings(&self) -> &Map {
        &self.compiled.connection.settings
    }

    /// The names of the manifest's own templates.
    fn own_names(&self) -> Names<'_> {
        Names {
            settings: Some(&self.compiled.fields),
            values: Some(self.settings()),
            input: Some(&self.inputs.fields),
            delivery: true,
            time_zone: self.names.time_zone,
            ..Names::default()
        }
    }

    /// A template of the manifest; its own check has reported what is wrong with it.
    fn template(&self, node: &Node) -> Option<Template> {
        let mut ignored = Diagnostics::default();
        let mut template = literal_or_template(node, &mut ignored)?;
        template.check(&self.own_names(), node.span, false, &mut ignored);
        Some(template)
    }

    fn url(&self, out: &mut Diagnostics) -> Option<(Url, Span)> {
        for node in alternatives(self.spec.url.as_ref()) {
            match input_name(node) {
                Some(name) => {
                    if let Some(entry) = self.inputs.placed(&name) {
                        let template = Template::parse(&entry.value, out)?;
                        return Some((
                            url::compile(template, &entry.value, self.names, self.settings(), out)?,
                            entry.value.span,
                        ));
                    }
                }
                None => {
                    let template = Template::parse(node, &mut Diagnostics::default())?;
                    let at = Node::text("", self.compiled.name_span);
                    return Some((
                        url::compile(template, &at, &self.own_names(), self.settings(), out)?,
                        self.span,
                    ));
                }
            }
        }
        let message = Words::new("there is no URL to send to", "некуда отправлять: нет URL");
        let hint = Words::new("give the step a `url`", "укажите в шаге `url`");
        out.push(Diagnostic::error(Code::MissingTarget, self.span, message).with_hint(hint));
        None
    }

    fn query(&self) -> Vec<Parameters> {
        let alternatives = alternatives(self.spec.query.as_ref()).into_iter();
        let read = |node: &Node| match input_name(node) {
            Some(name) => Parameters::Input(name),
            None => Parameters::Listed(
                self.listed(node)
                    .into_iter()
                    .map(|(name, value)| (percent(&name).into_owned(), value))
                    .collect(),
            ),
        };
        alternatives.map(read).collect()
    }

    /// A manifest's mapping of names to templates; a name that is empty for this connection is left out.
    fn listed(&self, node: &Node) -> Vec<(String, Template)> {
        let entries = node.as_map().unwrap_or_default().iter();
        let named = entries.map(|entry| (folded(&entry.key, self.settings()), &entry.value));
        named
            .filter(|(name, _)| !name.is_empty())
            .filter_map(|(name, value)| Some((name, self.template(value)?)))
            .collect()
    }

    fn headers(&self, out: &mut Diagnostics) -> Vec<Headers> {
        let mut headers = Vec::new();
        for node in alternatives(self.spec.headers.as_ref()) {
            match input_name(node) {
                None => headers.push(Headers::Listed(self.listed(node))),
                Some(name) => match self.inputs.find(&name) {
                    Some(Placed::Secret { entry, keys }) => {
                        headers.push(Headers::Listed(self.given_headers(entry, keys, out)));
                    }
                    Some(Placed::Url(_) | Placed::Mapped) => headers.push(Headers::Input(name)),
                    None => {}
                },
            }
        }
        headers
    }

    fn given_headers(
        &self,
        entry: &Entry,
        keys: &[String],
        out: &mut Diagnostics,
    ) -> Vec<(String, Template)> {
        let Some(entries) = entry.value.as_map() else {
            out.push(not_a_mapping(&entry.value));
            return Vec::new();
        };
        let mut headers = Vec::new();
        for header in entries {
            header::check_name(header, keys, self.compiled.connection.own_name(), out);
            if let Some(template) = self.secret_template(&header.value, out) {
                if header::is_credential(&header.key)
                    && template.literal().is_some_and(|text| !text.is_empty())
                {
                    out.push(secret::written_out(&header.key, header.value.span));
                }
                header::check_value(
                    &header.key,
                    template.literal().unwrap_or_default(),
                    header.value.span,
                    out,
                );
                headers.push((header.key.clone(), template));
            }
        }
        headers
    }

    /// A bundle's template in a place where secrets may stand.
    fn secret_template(&self, node: &Node, out: &mut Diagnostics) -> Option<Template> {
        let mut template = literal_or_template(node, out)?;
        let typed = template.check(self.names, node.span, true, out);
        for (name, span) in secret::names(&template) {
            if self.compiled.connection.secret(name).is_none() {
                out.push(secret::unknown(name, &self.compiled.connection, span));
            }
        }
        let whole = typed.map(|typed| typed.ty);
        if matches!(whole, Some(Type::List(_) | Type::Map(_) | Type::Object { .. })) {
            out.push(needs_text(node));
            return None;
        }
        Some(template)
    }

    fn encoding(&self) -> BodyEncoding {
        let spec = self.spec;
        match constant::text(spec.encoding.as_ref(), self.settings()).as_deref() {
            Some("form") => BodyEncoding::Form,
            Some("raw") => BodyEncoding::Raw,
            Some("none") => BodyEncoding::None,
            Some(_) => BodyEncoding::Json,
            None if spec.body.is_none() => BodyEncoding::None,
            None => BodyEncoding::Json,
        }
    }

    fn body(&self, out: &mut Diagnostics) -> Option<Body> {
        let encoding = self.encoding();
        let mut names = Vec::new();
        for node in alternatives(self.spec.body.as_ref()) {
            match input_name(node) {
                None if node.as_map().is_some() => {
                    let mapping =
                        Mapping::compile(node, &[], true, &self.own_names(), &mut Diagnostics::default())?;
                    return Some(of_encoding(encoding, Source::Mapping(mapping)));
                }
                None => return self.template(node).map(Body::Raw),
                Some(name) => match self.inputs.find(&name) {
                    Some(Placed::Secret { entry, .. }) => return self.raw_body(entry, encoding, out),
                    Some(Placed::Mapped) if encoding == BodyEncoding::Raw => {
                        out.push(raw_needs_text(self.inputs.span(&name).unwrap_or(self.span), &name));
                        return None;
                    }
                    Some(Placed::Mapped) => names.push(name),
                    Some(Placed::Url(_)) | None => {}
                },
            }
        }
        if names.is_empty() {
            return Some(Body::None);
        }
        Some(of_encoding(encoding, Source::Inputs(names)))
    }

    /// A text as the whole body: only where the body is not built from typed values.
    fn raw_body(&self, entry: &Entry, encoding: BodyEncoding, out: &mut Diagnostics) -> Option<Body> {
        let template = self.secret_template(&entry.value, out);
        if encoding != BodyEncoding::Raw {
            let message = Words::new(
                format!("`{}` is text as it is, and this connection sends typed values", entry.key),
                format!(
                    "`{}` — текст как есть, а это подключение отправляет типизированные значения",
                    entry.key
                ),
            );
            let hint = Words::new(
                "set the connection's `content_type` to `raw`, or use `parameters`",
                "поставьте в подключении `content_type: raw` или используйте `parameters`",
            );
            out.push(Diagnostic::error(Code::BadValue, entry.key_span, message).with_hint(hint));
        }
        template.map(Body::Raw)
    }

    fn placements(&self, headers: bool) -> Vec<(String, crate::request::Pieces)> {
        let placements = self.compiled.connection.authentication.iter();
        let wanted = placements.filter_map(|placement| match placement {
            Placement::Header { name, value } if headers => Some((name.clone(), value.clone())),
            Placement::Query { name, value } if !headers => Some((percent(name).into_owned(), value.clone())),
            Placement::Header { .. } | Placement::Query { .. } => None,
        });
        wanted.collect()
    }

    /// Every secret of the request goes to an origin that may have it.
    fn check_secrets(
        &self,
        url: &Url,
        url_span: Span,
        headers: &[Headers],
        body: Option<&Body>,
        out: &mut Diagnostics,
    ) {
        let connection = &self.compiled.connection;
        if !connection.authentication.is_empty() {
            secret::check_origin(&url.origin, connection, url_span, out);
        }
        let in_headers = headers.iter().flat_map(|part| match part {
            Headers::Listed(listed) => listed.as_slice(),
            Headers::Input(_) => &[],
        });
        let mut templates: Vec<&Template> = in_headers.map(|(_, value)| value).collect();
        if let Some(Body::Raw(template)) = body {
            templates.push(template);
        }
        for (_, span) in templates.into_iter().flat_map(secret::names) {
            secret::check_origin(&url.origin, connection, span, out);
        }
    }
}

/// `{{ input.<name> }}` and nothing else. By hand: it is asked of every part of every step's request.
fn input_name(node: &Node) -> Option<String> {
    let inside = node.as_text()?.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let name = inside.strip_prefix("input.")?;
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (is_word && !name.is_empty()).then(|| name.to_owned())
}

/// A text's template; a number or a boolean is its text.
fn literal_or_template(node: &Node, out: &mut Diagnostics) -> Option<Template> {
    match &node.kind {
        Kind::Text { .. } => Template::parse(node, out),
        Kind::Bool(_) | Kind::Number(_) => {
            let text = crate::json::to_text(&node.to_value());
            Some(Template { parts: vec![Part::Text(text)] })
        }
        Kind::Null | Kind::List(_) | Kind::Map(_) => {
            out.push(needs_text(node));
            None
        }
    }
}

fn not_a_mapping(node: &Node) -> Diagnostic {
    let got = node.kind_words();
    let message = Words::new(
        format!("expected a mapping of headers, got {}", got.en),
        format!("нужен набор заголовков, а здесь {}", got.ru),
    );
    let hint = Words::new(
        "write `headers: {Accept: application/json}`",
        "пишите `headers: {Accept: application/json}`",
    );
    Diagnostic::error(Code::WrongKind, node.span, message).with_hint(hint)
}

fn needs_text(node: &Node) -> Diagnostic {
    let got = node.kind_words();
    let message =
        Words::new(format!("expected text, got {}", got.en), format!("нужен текст, а здесь {}", got.ru));
    let hint = Words::new("`join` or `json` makes text of it", "текст из него сделает `join` или `json`");
    Diagnostic::error(Code::WrongType, node.span, message).with_hint(hint)
}

fn raw_needs_text(span: Span, name: &str) -> Diagnostic {
    let message = Words::new(
        format!("this connection sends a raw body, and `{name}` is not text"),
        format!("это подключение отправляет тело как есть, а `{name}` — не текст"),
    );
    let hint = Words::new("use `body`", "используйте `body`");
    Diagnostic::error(Code::BadValue, span, message).with_hint(hint)
}

fn of_encoding(encoding: BodyEncoding, source: Source) -> Body {
    match encoding {
        BodyEncoding::Json | BodyEncoding::Raw => Body::Json(source),
        BodyEncoding::Form => Body::Form(source),
        BodyEncoding::None => Body::None,
    }
}

fn usual_type(encoding: BodyEncoding) -> &'static str {
    match encoding {
        BodyEncoding::Json => "application/json",
        BodyEncoding::Form => "application/x-www-form-urlencoded",
        BodyEncoding::Raw | BodyEncoding::None => "text/plain; charset=utf-8",
    }
}

fn timeout_ms(node: Option<&Node>) -> u32 {
    let parsed = node.and_then(Node::as_text).and_then(|text| duration::parse(text).ok());
    parsed.and_then(|ms| u32::try_from(ms).ok()).unwrap_or(TIMEOUT_MS)
}
