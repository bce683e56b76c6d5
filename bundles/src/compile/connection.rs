//! A connection's file into a [`Connection`].

use std::sync::Arc;

use chrono_tz::Tz;

use super::{budget, condition, constant, header, names::Names, secret::check_names, shapes, verdicts};
use crate::{
    budget::Truth,
    bundle::named,
    catalog::{Catalog, Connector},
    connection::{Connection, Placement, SecretReference, SecretSource},
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt, suggest::suggest},
    environment::SettingsEnvironment,
    judge::Rule,
    manifest::{
        Manifest,
        action::{Action, AuthenticationRule, alternatives},
    },
    outgoing::url,
    request::{Encoding, Piece, Pieces},
    shape::check::check,
    template::Template,
    types::Field,
    value::{Map, Text, Value},
    words::Words,
    workspace,
    yaml::{Node, Span},
};

/// A connection and what compiling bundles needs of it.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The connection.
    pub connection: Arc<Connection>,
    /// Its connector.
    pub connector: Arc<Connector>,
    /// The settings as declared.
    pub fields: Arc<Vec<Field>>,
    /// The settings as written, for filters inside and for places.
    pub settings: Option<Node>,
    /// What its answers mean.
    pub rules: Arc<[Rule]>,
    /// Where they say what is left of its budgets.
    pub truths: Arc<[Truth]>,
    /// Where its name stands.
    pub name_span: Span,
}

/// Reads and compiles one file of the workspace of that key; none after an error, which is in `out`.
pub fn compile(
    node: &Node,
    key: &str,
    catalog: &Catalog,
    workspace_zone: Tz,
    out: &mut Diagnostics,
) -> Option<Compiled> {
    let connector = find_connector(node, catalog, out);
    let sound = check(&shapes::connection(connector.map(|connector| &connector.manifest)), node, out);
    let connector = connector.filter(|_| sound)?;
    let manifest = &connector.manifest;
    let (name, name_span) = named(node, "name")?;
    let settings = read_settings(manifest, node.get("settings"));
    let time_zone = zone_name(manifest, &settings, workspace_zone);
    let zone = time_zone.parse().unwrap_or(workspace_zone);
    let budgets = budget::compile(manifest, node.get("budgets"), zone, out);
    let compiled = Compiled {
        connection: Arc::new(Connection {
            name: workspace::qualified(key, name),
            title: named(node, "title").map_or(name, |(title, _)| title).to_owned(),
            connector: manifest.name.clone(),
            secrets: read_secrets(node.get("secrets"), key),
            secret_origins: secret_origins(manifest, &settings, name_span, out),
            authentication: Vec::new(),
            time_zone,
            hook_generation: node
                .get("hook_generation")
                .and_then(Node::as_integer)
                .map_or(1, |number| number as u32),
            concurrency: node
                .get("concurrency")
                .and_then(Node::as_integer)
                .and_then(|number| u32::try_from(number).ok()),
            budgets,
            settings,
        }),
        connector: Arc::clone(connector),
        fields: Arc::new(manifest.settings.iter().map(|setting| setting.field.clone()).collect()),
        settings: node.get("settings").cloned(),
        rules: Arc::new([]),
        truths: Arc::new([]),
        name_span,
    };
    let compiled = with_authentication(compiled, out);
    check_requests(&compiled, out);
    let truths = budget::truths(&compiled, node.get("budgets"), out).into();
    Some(Compiled { rules: verdicts::compile(&compiled), truths, ..compiled })
}

fn find_connector<'c>(
    node: &Node,
    catalog: &'c Catalog,
    out: &mut Diagnostics,
) -> Option<&'c Arc<Connector>> {
    let (name, span) = named(node, "connector")?;
    let found = catalog.get(name);
    if found.is_none() {
        let message = Words::new(
            format!("there is no connector `{}`", excerpt(name)),
            format!("коннектора `{}` нет", excerpt(name)),
        );
        let all = catalog.names().collect::<Vec<_>>().join(", ");
        let diagnostic = Diagnostic::error(Code::UnknownConnector, span, message)
            .with_suggestion(suggest(name, catalog.names()));
        out.push(or_hint(diagnostic, Words::new(format!("there are: {all}"), format!("есть: {all}"))));
    }
    found
}

/// The same with the hint, unless it has one.
pub fn or_hint(diagnostic: Diagnostic, hint: Words) -> Diagnostic {
    if diagnostic.hint.is_some() { diagnostic } else { diagnostic.with_hint(hint) }
}

/// Settings as given, defaults filled in; one that has neither has no key.
fn read_settings(manifest: &Manifest, node: Option<&Node>) -> Map {
    let given = |name: &str| node.and_then(|node| node.get(name)).map(Node::to_value);
    let settings = manifest.settings.iter().filter_map(|setting| {
        let value = given(&setting.field.name).or_else(|| setting.field.default.clone())?;
        Some((Text::from(&setting.field.name), value))
    });
    settings.collect()
}

fn read_secrets(node: Option<&Node>, key: &str) -> Vec<SecretReference> {
    let entries = node.and_then(Node::as_map).unwrap_or_default();
    let read = |node: &Node| match (named(node, "env"), named(node, "file")) {
        (Some((name, _)), _) => Some(SecretSource::Env(name.to_owned())),
        (None, Some((path, _))) => Some(SecretSource::File(workspace::path(key, path))),
        (None, None) => None,
    };
    entries
        .iter()
        .filter_map(|entry| Some(SecretReference { name: entry.key.clone(), source: read(&entry.value)? }))
        .collect()
}

fn secret_origins(manifest: &Manifest, settings: &Map, span: Span, out: &mut Diagnostics) -> Vec<String> {
    let mut origins = Vec::new();
    for host in manifest.secret_hosts.iter().filter_map(|node| constant::text(Some(node), settings)) {
        match url::origin(&host) {
            Ok((origin, _)) => origins.push(origin),
            Err(error) => out.push(Diagnostic::error(Code::BadUrl, span, error.words()).with_hint(
                Words::new(format!("check `{}`", excerpt(&host)), format!("проверьте `{}`", excerpt(&host))),
            )),
        }
    }
    origins
}

fn zone_name(manifest: &Manifest, settings: &Map, workspace_zone: Tz) -> String {
    let own =
        manifest.webhook.as_ref().and_then(|webhook| constant::text(webhook.time_zone.as_ref(), settings));
    own.filter(|zone| zone.parse::<Tz>().is_ok()).unwrap_or_else(|| workspace_zone.name().to_owned())
}

/// Finds the rule that holds and prepares what it puts into requests.
fn with_authentication(compiled: Compiled, out: &mut Diagnostics) -> Compiled {
    let connection = &compiled.connection;
    let names =
        Names { settings: Some(&compiled.fields), values: Some(&connection.settings), ..Names::default() };
    let rule = compiled.connector.manifest.authentication.iter().find(|rule| {
        rule.when
            .as_ref()
            .is_none_or(|when| condition::holds(when, &names, &SettingsEnvironment(&connection.settings)))
    });
    let placements = rule.map(|rule| placements(rule, &compiled, &names, out)).unwrap_or_default();
    let connection = Connection { authentication: placements, ..Connection::clone(connection) };
    Compiled { connection: Arc::new(connection), ..compiled }
}

fn placements(
    rule: &AuthenticationRule,
    compiled: &Compiled,
    names: &Names<'_>,
    out: &mut Diagnostics,
) -> Vec<Placement> {
    let settings = &compiled.connection.settings;
    let mut found = Vec::new();
    for (name, value) in pairs(rule.headers.as_ref()) {
        if let Some(value) = secret_pieces(value, compiled, names, Encoding::Plain, out) {
            let span = compiled.place_of(&Node::text(name, compiled.name_span));
            let name = folded(name, settings);
            header::check_sendable(&name, span, out);
            found.push(Placement::Header { name, value });
        }
    }
    for (name, value) in pairs(rule.query.as_ref()) {
        if let Some(value) = secret_pieces(value, compiled, names, Encoding::Percent, out) {
            found.push(Placement::Query { name: folded(name, settings), value });
        }
    }
    if let Some(basic) = &rule.basic {
        let user = constant::text(basic.get("user"), settings).unwrap_or_default();
        let password =
            basic.get("password").and_then(|node| secret_pieces(node, compiled, names, Encoding::Basic, out));
        if let Some(password) = password {
            let mut value: Pieces = vec![Piece::Text(format!("Basic {user}:").into())];
            value.extend(password);
            found.push(Placement::Header { name: "Authorization".to_owned(), value });
        }
    }
    for placement in &found {
        check_value(placement, compiled.name_span, out);
    }
    found
}

fn pairs(node: Option<&Node>) -> impl Iterator<Item = (&str, &Node)> {
    let entries = node.and_then(Node::as_map).unwrap_or_default();
    entries.iter().map(|entry| (entry.key.as_str(), &entry.value))
}

/// A key with templates over the settings in it.
pub fn folded(key: &str, settings: &Map) -> String {
    if !Template::is_template(key) {
        return key.to_owned();
    }
    let mut out = Diagnostics::default();
    let node = Node::text(key, super::no_span());
    let template = Template::parse(&node, &mut out);
    template.and_then(|template| template.text(&SettingsEnvironment(settings)).ok()).unwrap_or_default()
}

/// A value with a secret inside, computed but for the secret.
fn secret_pieces(
    node: &Node,
    compiled: &Compiled,
    names: &Names<'_>,
    encoding: Encoding,
    out: &mut Diagnostics,
) -> Option<Pieces> {
    let mut ignored = Diagnostics::default();
    let mut template = Template::parse(node, &mut ignored)?;
    template.check(names, node.span, true, &mut ignored);
    check_names(&template, &compiled.connection, compiled.name_span, out);
    template.pieces(&SettingsEnvironment(&compiled.connection.settings), encoding).ok()
}

fn check_value(placement: &Placement, span: Span, out: &mut Diagnostics) {
    let Placement::Header { name, value } = placement else { return };
    for piece in value {
        match piece {
            Piece::Text(text) => header::check_value(name, text, span, out),
            Piece::Secret { .. } => {}
        }
    }
}

/// Reports settings that would stand in a request's headers and cannot.
fn check_requests(compiled: &Compiled, out: &mut Diagnostics) {
    let settings = &compiled.connection.settings;
    // Several actions may read one setting.
    let mut seen = Vec::new();
    let mut is_new = |node: &Node| {
        let setting = constant::setting_name(node);
        let new = setting.is_some() && !seen.contains(&setting);
        seen.push(setting);
        new
    };
    for request in compiled.connector.manifest.actions.iter().flat_map(Action::requests) {
        for (name, _) in alternatives(request.headers.as_ref()).into_iter().flat_map(|node| pairs(Some(node)))
        {
            let node = Node::text(name, compiled.name_span);
            let name = folded(name, settings);
            if is_new(&node) && !name.is_empty() {
                header::check_sendable(&name, compiled.place_of(&node), out);
            }
        }
        if let Some(node) = request.content_type.as_ref().filter(|node| is_new(node)) {
            let value = constant::text(Some(node), settings).unwrap_or_default();
            header::check_value("Content-Type", &value, compiled.place_of(node), out);
        }
    }
}

impl Compiled {
    /// Where the setting a manifest's node reads stands in the connection's file; the connection's name otherwise.
    pub fn place_of(&self, node: &Node) -> Span {
        let entry = constant::setting_name(node).and_then(|name| {
            self.settings.as_ref().and_then(|settings| settings.get(&name)).map(|value| value.span)
        });
        entry.unwrap_or(self.name_span)
    }

    /// Whether a setting was given and is not empty.
    pub fn is_given(&self, setting: &str) -> bool {
        self.connection.settings.get(setting).is_some_and(|value| !Value::is_empty(value))
    }
}
