//! Values of a manifest that are fixed once a connection is known: literals, and templates over its settings.

use super::names::Names;
use crate::{
    diagnostic::Diagnostics,
    environment::SettingsEnvironment,
    expression::text_of,
    path::Root,
    template::{Part, Template},
    value::{Map, Value},
    yaml::{Kind, Node},
};

/// Checks every template inside the node; used when there is no connection yet.
pub fn check(node: &Node, names: &Names<'_>, out: &mut Diagnostics) {
    match &node.kind {
        Kind::Text { text, .. } if Template::is_template(text) => {
            if let Some(mut template) = Template::parse(node, out) {
                template.check(names, node.span, false, out);
            }
        }
        Kind::List(items) => items.iter().for_each(|item| check(item, names, out)),
        Kind::Map(entries) => entries.iter().for_each(|entry| check(&entry.value, names, out)),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. } => {}
    }
}

/// The node's value for a connection with these settings. What cannot be computed is null; the manifest's own check has
/// said so.
pub fn value(node: &Node, settings: &Map) -> Value {
    match &node.kind {
        Kind::Text { text, .. } if Template::is_template(text) => {
            let template = Template::parse(node, &mut Diagnostics::default());
            let env = SettingsEnvironment(settings);
            template
                .and_then(|template| template.eval(&env).ok().map(|value| value.into_owned()))
                .unwrap_or_default()
        }
        Kind::List(items) => Value::List(items.iter().map(|item| value(item, settings)).collect()),
        Kind::Map(entries) => {
            Value::object(entries.iter().map(|entry| (&entry.key, value(&entry.value, settings))))
        }
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. } => node.to_value(),
    }
}

/// The value's text; none when it is empty or has none.
pub fn text(node: Option<&Node>, settings: &Map) -> Option<String> {
    let value = value(node?, settings);
    text_of(&value).ok().flatten().map(|text| text.into_owned())
}

/// The texts of a list.
pub fn texts(node: Option<&Node>, settings: &Map) -> Vec<String> {
    match node.map(|node| value(node, settings)) {
        Some(Value::List(items)) => {
            items.iter().filter_map(|item| text_of(item).ok()?.map(|text| text.into_owned())).collect()
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Object(_)) | None => {
            Vec::new()
        }
    }
}

/// The name of the setting a node is, when it is exactly `{{ connection.settings.<name> }}`.
pub fn setting_name(node: &Node) -> Option<String> {
    let template = Template::parse(node, &mut Diagnostics::default())?;
    match template.single()? {
        crate::expression::Expression::Reference { path, .. } if path.root == Root::Connection => {
            match path.segments.as_slice() {
                [group, name] if &*group.key == "settings" => Some(name.key.to_string()),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Writes what depends on settings alone into the template's literals; an empty setting becomes nothing.
pub fn fold(template: Template, settings: &Map) -> Template {
    let env = SettingsEnvironment(settings);
    let mut parts: Vec<Part> = Vec::with_capacity(template.parts.len());
    for part in template.parts {
        let constant = match &part {
            Part::Text(text) => Some(text.clone()),
            Part::Expression(expression) if is_constant(expression) => expression
                .eval(&env)
                .ok()
                .and_then(|value| text_of(&value).ok().map(|text| text.unwrap_or_default().into_owned())),
            Part::Expression(_) => None,
        };
        match (constant, parts.last_mut()) {
            (Some(text), Some(Part::Text(before))) => append(before, &text),
            (Some(text), _) if text.is_empty() => {}
            (Some(text), _) => parts.push(Part::Text(text)),
            (None, _) => parts.push(part),
        }
    }
    Template { parts }
}

/// `https://api.example/` and `/v3` have one slash between them.
fn append(before: &mut String, text: &str) {
    if before.ends_with('/') && text.starts_with('/') {
        before.pop();
    }
    before.push_str(text);
}

fn is_constant(expression: &crate::expression::Expression) -> bool {
    if expression.has_secret() || matches!(expression, crate::expression::Expression::Query(_)) {
        return false;
    }
    let mut constant = true;
    expression.references(&mut |path, _| constant &= path.root == Root::Connection);
    constant
}
