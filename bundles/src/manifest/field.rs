//! A field as a manifest (or a connection's `fields` setting) declares it.

use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code},
    duration::Unit,
    types::{Choice, Field, InstantFormat, Type},
    words::Words,
    yaml::{Kind, Node, Span},
};

use super::{entries, flag, items, text, words};

/// A field, and what a manifest says of it that is no matter of types.
#[derive(Debug, Clone)]
pub struct FieldSpec {
    /// Name, type, marks.
    pub field: Field,
    /// Where its declaration stands.
    pub span: Span,
    /// What a setting may hold beyond its type.
    pub special: Special,
    /// The kinds of event that have it; empty for all.
    pub kinds: Vec<String>,
    /// False when the vendor may leave the whole parameter out.
    pub sent_always: bool,
    /// Its text is itself JSON.
    pub embedded_json: bool,
    /// A constant list: the only keys that may be given.
    pub keys: Option<Node>,
}

/// Types that only settings have; for the language they are `text` or `any`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// Nothing special.
    None,
    /// A time zone of the IANA database.
    TimeZone,
    /// A mapping of names to field declarations.
    Fields,
}

/// Words for `type`, in the order they are documented.
pub const TYPE_WORDS: [&str; 17] = [
    "any",
    "text",
    "integer",
    "decimal",
    "boolean",
    "phone",
    "email",
    "url",
    "instant",
    "local_time",
    "duration",
    "enum",
    "list",
    "map",
    "object",
    "filter",
    "time_zone",
];
/// The word for a setting that declares fields.
pub const FIELDS_WORD: &str = "fields";

/// Reads a mapping of names to declarations.
pub fn read_all(node: Option<&Node>, out: &mut Diagnostics) -> Vec<FieldSpec> {
    let entries = node.and_then(Node::as_map).unwrap_or_default();
    entries.iter().map(|entry| read(&entry.key, &entry.value, out)).collect()
}

/// Reads one declaration; its shape was checked.
pub fn read(name: &str, node: &Node, out: &mut Diagnostics) -> FieldSpec {
    let word = node.get("type").and_then(Node::as_text).unwrap_or("any");
    let field = Field {
        title: words(node, "title"),
        help: words(node, "help"),
        required: flag(node, "required"),
        default: node.get("default").map(Node::to_value),
        no_value: items(node, "no_value").iter().filter_map(Node::as_text).map(str::to_owned).collect(),
        always: flag(node, "always"),
        personal: flag(node, "personal"),
        sensitive: flag(node, "sensitive"),
        secrets: flag(node, "secrets"),
        sample: node.get("sample").map(Node::to_value),
        ..Field::new(name, read_type(word, node, out))
    };
    FieldSpec {
        field,
        span: node.span,
        special: match word {
            "time_zone" => Special::TimeZone,
            FIELDS_WORD => Special::Fields,
            _ => Special::None,
        },
        kinds: items(node, "kinds").iter().filter_map(Node::as_text).map(str::to_owned).collect(),
        sent_always: text(node, "sent") != "sometimes",
        embedded_json: text(node, "embedded") == "json",
        keys: node.get("keys").cloned(),
    }
}

fn read_type(word: &str, node: &Node, out: &mut Diagnostics) -> Type {
    match word {
        "text" | "time_zone" => Type::Text,
        "integer" => Type::Integer,
        "decimal" => Type::Decimal,
        "boolean" => Type::Boolean,
        "phone" => Type::Phone,
        "email" => Type::Email,
        "url" => Type::Url,
        "instant" => Type::Instant(read_format(node)),
        "local_time" => Type::LocalTime(None),
        "duration" => Type::Duration(read_unit(node)),
        "enum" => Type::Enum(read_choices(node, out)),
        "list" => Type::List(Box::new(read_items(node, out))),
        "map" => Type::Map(Box::new(read_items(node, out))),
        "object" => Type::Object { fields: read_fields(node, out), open: flag(node, "open") },
        "filter" => Type::Filter,
        _ => Type::Any,
    }
}

fn read_format(node: &Node) -> InstantFormat {
    match text(node, "format").as_str() {
        "unix_s" => InstantFormat::UnixSeconds,
        "unix_ms" => InstantFormat::UnixMilliseconds,
        _ => InstantFormat::Rfc3339,
    }
}

fn read_unit(node: &Node) -> Unit {
    let word = text(node, "unit");
    Unit::ALL.into_iter().find(|unit| unit.short() == word).unwrap_or(Unit::Seconds)
}

fn read_choices(node: &Node, out: &mut Diagnostics) -> Vec<Choice> {
    let choices: Vec<Choice> = entries(node, "values")
        .map(|(value, title)| Choice { value: value.to_owned(), title: choice_title(value, title) })
        .collect();
    if choices.is_empty() {
        let message = Words::new("an enum needs `values`", "у enum должны быть `values`");
        let hint = Words::new(
            "list them: `values: {one: {en: One, ru: Один}}`",
            "перечислите: `values: {one: {en: One, ru: Один}}`",
        );
        out.push(Diagnostic::error(Code::MissingKey, node.span, message).with_hint(hint));
    }
    choices
}

/// `{en, ru}`, or nothing: then the value speaks for itself.
fn choice_title(value: &str, title: &Node) -> Words {
    match &title.kind {
        Kind::Map(_) => Words::new(text(title, "en"), text(title, "ru")),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. } | Kind::List(_) => {
            Words::new(value, value)
        }
    }
}

fn read_items(node: &Node, out: &mut Diagnostics) -> Type {
    node.get("items").map_or(Type::Any, |items| {
        read_type(items.get("type").and_then(Node::as_text).unwrap_or("any"), items, out)
    })
}

fn read_fields(node: &Node, out: &mut Diagnostics) -> Vec<Field> {
    read_all(node.get("fields"), out).into_iter().map(|spec| spec.field).collect()
}
