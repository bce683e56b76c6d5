//! A tree against its shape: every unknown key, missing key and wrong value, in one go.

use super::{Key, KeyRule, Object, Shape, describe, secret, word};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt, suggest::suggest},
    words::Words,
    yaml::{Entry, Kind, Node, Span},
};

/// How many known keys a hint lists.
const LISTED_KEYS_MAX: usize = 12;

/// The keys of a computed value's long form.
pub const COMPUTED_KEYS: [&str; 5] = ["value", "path", "default", "when_empty", "as"];
/// The keys a filter written as a tree may have.
pub const FILTER_KEYS: [&str; 6] = ["all", "any", "not", "field", "op", "value"];

/// Reports all that is wrong with the node; `true` when nothing is, and code that reads the node may then assume the shape.
/// A key that holds nothing (null) counts as not given, as in [`Node::get`].
pub fn check(shape: &Shape, node: &Node, out: &mut Diagnostics) -> bool {
    under(shape, node, None, out)
}

/// `owner` is the key the node stands under: where to point at when something is missing inside.
fn under(shape: &Shape, node: &Node, owner: Option<Span>, out: &mut Diagnostics) -> bool {
    match shape {
        Shape::Any => true,
        Shape::Text
        | Shape::Bool
        | Shape::Integer { .. }
        | Shape::Number
        | Shape::Duration
        | Shape::Name
        | Shape::Url
        | Shape::TimeZone
        | Shape::Choice(_)
        | Shape::Const(_) => word::check(shape, node, out),
        Shape::List(items) => list(shape, items, node, out),
        Shape::Map { keys, values } => map(shape, *keys, values, node, out),
        Shape::Object(keys) => object(shape, keys, node, owner, out),
        Shape::OneOf(shapes) => one_of(shape, shapes, node, owner, out),
        Shape::Filter => filter(shape, node, out),
        Shape::Template(inner) => template(inner, node, owner, out),
        Shape::Mapping(_) => mapping(shape, node, out),
        Shape::Secret => secret::check(node, out),
        Shape::Named { shape, .. } => under(&shape(), node, owner, out),
    }
}

fn list(shape: &Shape, items: &Shape, node: &Node, out: &mut Diagnostics) -> bool {
    let Some(nodes) = node.as_list() else { return wrong_kind(shape, node, out) };
    let mut fine = true;
    for node in nodes {
        fine &= under(items, node, None, out);
    }
    fine
}

fn map(shape: &Shape, keys: KeyRule, values: &Shape, node: &Node, out: &mut Diagnostics) -> bool {
    let Some(entries) = node.as_map() else { return node.is_null() || wrong_kind(shape, node, out) };
    let mut fine = true;
    for entry in entries {
        fine &= keys == KeyRule::Any || word::name(&entry.key, entry.key_span, out);
        let left_out = entry.value.is_null() && nothing_will_do(values);
        fine &= left_out || under(values, &entry.value, Some(entry.key_span), out);
    }
    fine
}

/// May the value be left out, as in `secrets: {token: }`?
fn nothing_will_do(shape: &Shape) -> bool {
    match shape {
        Shape::Any | Shape::Map { .. } | Shape::Template(_) | Shape::Mapping(_) => true,
        Shape::Object(object) => !object.keys.iter().any(|key| key.required),
        Shape::OneOf(shapes) => shapes.iter().any(nothing_will_do),
        Shape::Named { shape, .. } => nothing_will_do(&shape()),
        Shape::Text
        | Shape::Bool
        | Shape::Integer { .. }
        | Shape::Number
        | Shape::Duration
        | Shape::Name
        | Shape::Url
        | Shape::TimeZone
        | Shape::Choice(_)
        | Shape::Const(_)
        | Shape::List(_)
        | Shape::Filter
        | Shape::Secret => false,
    }
}

fn object(shape: &Shape, object: &Object, node: &Node, owner: Option<Span>, out: &mut Diagnostics) -> bool {
    let entries = match &node.kind {
        Kind::Map(entries) => entries.as_slice(),
        Kind::Null => &[],
        Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. } | Kind::List(_) => {
            return wrong_kind(shape, node, out);
        }
    };
    let mut fine = true;
    for entry in entries {
        fine &= match object.keys.iter().find(|key| key.name == entry.key) {
            Some(key) if entry.value.is_null() => !key.required || missing(key, entry.key_span, out),
            Some(key) => under(&key.shape, &entry.value, Some(entry.key_span), out),
            None => match &object.open {
                Some(open) => under(open, &entry.value, Some(entry.key_span), out),
                None => unknown_key(&object.keys, entries, entry, out),
            },
        };
    }
    let place = owner
        .or(entries.first().map(|entry| entry.key_span))
        .unwrap_or(Span { end: node.span.start, ..node.span });
    for key in object.keys.iter().filter(|key| key.required) {
        let given = entries.iter().any(|entry| entry.key == key.name);
        fine &= given || missing(key, place, out);
    }
    fine
}

fn unknown_key(keys: &[Key], entries: &[Entry], entry: &Entry, out: &mut Diagnostics) -> bool {
    let shown = excerpt(&entry.key);
    let words = Words::new(format!("unknown key `{shown}`"), format!("неизвестный ключ `{shown}`"));
    let free = || {
        keys.iter().map(|key| key.name.as_str()).filter(|name| entries.iter().all(|other| other.key != *name))
    };
    let diagnostic = Diagnostic::error(Code::UnknownKey, entry.key_span, words)
        .with_suggestion(suggest(&entry.key, free()));
    let mut known: Vec<String> = free().take(LISTED_KEYS_MAX).map(|name| format!("`{name}`")).collect();
    if free().nth(LISTED_KEYS_MAX).is_some() {
        known.push("…".to_owned());
    }
    let listed = known.join(", ");
    out.push(match diagnostic.hint {
        Some(_) => diagnostic,
        // `{title: one, two}` is a key `two` with nothing under it
        None if entry.value.is_null() && entry.value.span == entry.key_span => {
            diagnostic.with_hint(Words::new(
                "nothing stands under it; a text with a comma inside `{…}` goes in quotes",
                "под ним ничего нет; текст с запятой внутри `{…}` берут в кавычки",
            ))
        }
        None if known.is_empty() => diagnostic.with_hint(Words::new("take it out", "уберите его")),
        None => diagnostic.with_hint(Words::new(
            format!("what else may stand here: {listed}"),
            format!("что ещё здесь бывает: {listed}"),
        )),
    });
    false
}

fn missing(key: &Key, place: Span, out: &mut Diagnostics) -> bool {
    let name = &key.name;
    let words = Words::new(format!("`{name}` is missing"), format!("не указано `{name}`"));
    let expected = describe::expected(&key.shape);
    let (title_en, title_ru) = (titled(&key.title.en), titled(&key.title.ru));
    let hint = Words::new(
        format!("add `{name}`{title_en}: {}", expected.en),
        format!("добавьте `{name}`{title_ru}: {}", expected.ru),
    );
    out.push(Diagnostic::error(Code::MissingKey, place, words).with_hint(hint));
    false
}

fn titled(title: &str) -> String {
    if title.is_empty() { String::new() } else { format!(" ({title})") }
}

fn one_of(shape: &Shape, shapes: &[Shape], node: &Node, owner: Option<Span>, out: &mut Diagnostics) -> bool {
    let mut nearest: Option<Diagnostics> = None;
    for shape in shapes.iter().filter(|shape| describe::fits(shape, node)) {
        let mut found = Diagnostics::default();
        if under(shape, node, owner, &mut found) {
            out.append(found);
            return true;
        }
        if nearest.as_ref().is_none_or(|kept| found.len() < kept.len()) {
            nearest = Some(found);
        }
    }
    match nearest {
        Some(found) => out.append(found),
        None => {
            wrong_kind(shape, node, out);
        }
    }
    false
}

fn filter(shape: &Shape, node: &Node, out: &mut Diagnostics) -> bool {
    match node.as_map() {
        None => node.as_text().is_some() || wrong_kind(shape, node, out),
        Some(entries) => {
            let strange = entries.iter().find(|entry| !FILTER_KEYS.contains(&entry.key.as_str()));
            let known: Vec<Key> = FILTER_KEYS.map(|name| Key::optional(name, Shape::Any)).into();
            strange.is_none_or(|entry| unknown_key(&known, entries, entry, out))
        }
    }
}

fn template(inner: &Shape, node: &Node, owner: Option<Span>, out: &mut Diagnostics) -> bool {
    if is_computed(node) {
        return computed(node, out);
    }
    match &node.kind {
        Kind::Null => true,
        Kind::Text { text, .. } if text.contains("{{") => true,
        // a literal becomes text by itself; whether it may is for the target's type to say
        Kind::Bool(_) | Kind::Number(_) if matches!(inner, Shape::Text) => true,
        Kind::Map(entries)
            if !describe::fits(inner, node) && entries.iter().any(|entry| is_computed_key(&entry.key)) =>
        {
            computed(node, out)
        }
        Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. } | Kind::List(_) | Kind::Map(_) => {
            under(inner, node, owner, out)
        }
    }
}

/// Is it `{path: …}` or the long form of a value, `{value: …, default: …}`, rather than a mapping of the user's own?
pub fn is_computed(node: &Node) -> bool {
    node.as_map().is_some_and(|entries| {
        entries.iter().any(|entry| matches!(entry.key.as_str(), "value" | "path"))
            && entries.iter().all(|entry| is_computed_key(&entry.key))
    })
}

fn is_computed_key(key: &str) -> bool {
    COMPUTED_KEYS.contains(&key)
}

fn computed(node: &Node, out: &mut Diagnostics) -> bool {
    under(&computed_shape(), node, None, out)
}

/// The long form of a value.
pub(super) fn computed_shape() -> Shape {
    Shape::object([
        Key::optional("value", Shape::Any).help("A value or a template.", "Значение или шаблон."),
        Key::optional("path", Shape::Text)
            .help("A JSONPath query (RFC 9535).", "Запрос JSONPath (RFC 9535)."),
        Key::optional("default", Shape::Any)
            .help("What to use when it is empty.", "Что подставить, если пусто."),
        Key::optional("when_empty", Shape::choice(["omit", "null", "error"])).help(
            "What to do when it is empty and there is no default.",
            "Что делать, если пусто и нет значения по умолчанию.",
        ),
        Key::optional("as", Shape::Text).help("The type it becomes.", "Тип, к которому приводится."),
    ])
}

fn mapping(shape: &Shape, node: &Node, out: &mut Diagnostics) -> bool {
    match &node.kind {
        Kind::Map(_) | Kind::Null => true,
        Kind::Text { text, .. } if text.contains("{{") => true,
        Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. } | Kind::List(_) => wrong_kind(shape, node, out),
    }
}

/// "expected …, found …"; always `false`, for callers to return.
pub(super) fn wrong_kind(shape: &Shape, node: &Node, out: &mut Diagnostics) -> bool {
    let (expected, found) = (describe::expected(shape), node.kind_words());
    let words = Words::new(
        format!("expected {}, found {}", expected.en, found.en),
        format!("ожидается {}, а здесь {}", expected.ru, found.ru),
    );
    let mut diagnostic = Diagnostic::error(Code::WrongKind, node.span, words);
    diagnostic.hint = describe::hint(shape, node);
    out.push(diagnostic);
    false
}
