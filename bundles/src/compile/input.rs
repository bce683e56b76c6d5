//! What a bundle writes under `with`, sorted by where it goes: into the mapping, or straight into URL, headers and raw body.

use super::{
    connection::{Compiled, or_hint},
    constant,
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt, suggest::suggest},
    manifest::{action::Action, field::FieldSpec},
    types::{Field, Type},
    value::{Map, Text, Value},
    words::Words,
    yaml::{Entry, Kind, Node, Span},
};

/// The inputs of one step.
pub struct Inputs<'a> {
    /// The inputs as types see them, those that are placed by themselves included.
    pub fields: Vec<Field>,
    specs: &'a [FieldSpec],
    keys: Vec<Vec<String>>,
    entries: &'a [Entry],
}

/// Where an input that was given goes.
pub enum Placed<'a> {
    /// It is the request's URL.
    Url(&'a Entry),
    /// It may hold secrets, so it is never a value.
    Secret {
        /// What was written.
        entry: &'a Entry,
        /// The only keys it may have, when there are any.
        keys: &'a [String],
    },
    /// It is part of the input's value.
    Mapped,
}

impl<'a> Inputs<'a> {
    /// Sorts what stands under `with`; `compiled` narrows the keys that a setting lists.
    pub fn new(action: &'a Action, with: Option<&'a Entry>, compiled: Option<&Compiled>) -> Inputs<'a> {
        let keys: Vec<Vec<String>> = action.input.iter().map(|spec| keys_of(spec, compiled)).collect();
        let fields =
            action.input.iter().zip(&keys).map(|(spec, keys)| sure(&narrowed(&spec.field, keys))).collect();
        let entries = with.and_then(|entry| entry.value.as_map()).unwrap_or_default();
        Inputs { fields, specs: &action.input, keys, entries }
    }

    /// Reports keys that are no input, and required inputs that stand by themselves and are missing.
    pub fn check(&self, span: Span, out: &mut Diagnostics) {
        let known = || self.specs.iter().map(|spec| spec.field.name.as_str());
        for entry in self.entries {
            let head = head(&entry.key);
            if !known().any(|name| name == head) {
                let all = known().collect::<Vec<_>>().join(", ");
                let message = Words::new(
                    format!("the action takes no `{}`", excerpt(&entry.key)),
                    format!("действие не принимает `{}`", excerpt(&entry.key)),
                );
                let hint = Words::new(format!("it takes: {all}"), format!("оно принимает: {all}"));
                let diagnostic = Diagnostic::error(Code::UnknownTarget, entry.key_span, message)
                    .with_suggestion(suggest(head, known()));
                out.push(or_hint(diagnostic, hint));
            }
        }
        for spec in self.specs.iter().filter(|spec| stands_alone(spec) && spec.field.required) {
            if self.entry(&spec.field.name).is_none() {
                let name = &spec.field.name;
                let message = Words::new(format!("`{name}` is missing"), format!("нет `{name}`"));
                let hint = Words::new(
                    format!("add `{name}: …` under `with`"),
                    format!("добавьте в `with` строку `{name}: …`"),
                );
                out.push(Diagnostic::error(Code::MissingTarget, span, message).with_hint(hint));
            }
        }
    }

    /// The part that becomes the input's value, and the fields it may fill.
    pub fn mapped(&self, span: Span) -> (Node, Vec<Field>) {
        let of_value = |field: &&Field| {
            self.specs.iter().any(|spec| spec.field.name == field.name && !stands_alone(spec))
        };
        let fields: Vec<Field> = self.fields.iter().filter(of_value).map(relaxed).collect();
        let is_mapped = |entry: &&Entry| fields.iter().any(|field| field.name == head(&entry.key));
        let entries = self.entries.iter().filter(is_mapped).cloned().collect();
        (Node { span, kind: Kind::Map(entries) }, fields)
    }

    /// What is used for inputs that have no value.
    pub fn defaults(&self) -> Map {
        let defaults =
            self.fields.iter().filter_map(|field| Some((Text::from(&field.name), field.default.clone()?)));
        defaults.filter(|(_, value)| *value != Value::Null).collect()
    }

    /// Where an input goes; none when it was not given.
    pub fn find(&self, name: &str) -> Option<Placed<'_>> {
        let at = self.specs.iter().position(|spec| spec.field.name == name)?;
        let given = self.entries.iter().find(|entry| head(&entry.key) == name);
        if self.specs[at].field.secrets {
            return self.entry(name).map(|entry| Placed::Secret { entry, keys: &self.keys[at] });
        }
        if stands_alone(&self.specs[at]) {
            return self.entry(name).map(Placed::Url);
        }
        (given.is_some() || self.specs[at].field.default.is_some()).then_some(Placed::Mapped)
    }

    /// The URL that was given under this name.
    pub fn placed(&self, name: &str) -> Option<&Entry> {
        match self.find(name)? {
            Placed::Url(entry) => Some(entry),
            Placed::Secret { .. } | Placed::Mapped => None,
        }
    }

    /// Where an input was written.
    pub fn span(&self, name: &str) -> Option<Span> {
        self.entries.iter().find(|entry| head(&entry.key) == name).map(|entry| entry.key_span)
    }

    fn entry(&self, name: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == name && !entry.value.is_null())
    }
}

/// The input a dotted key begins with.
fn head(key: &str) -> &str {
    key.split(['.', '[']).next().unwrap_or(key)
}

/// URLs, and what may hold secrets, are no part of the input's value.
fn stands_alone(spec: &FieldSpec) -> bool {
    spec.field.secrets || spec.field.ty == Type::Url
}

fn keys_of(spec: &FieldSpec, compiled: Option<&Compiled>) -> Vec<String> {
    match (&spec.keys, compiled) {
        (Some(node), Some(compiled)) => constant::texts(Some(node), &compiled.connection.settings),
        (Some(_), None) | (None, _) => Vec::new(),
    }
}

/// An object or map that only some keys may be given to.
fn narrowed(field: &Field, keys: &[String]) -> Field {
    if keys.is_empty() {
        return field.clone();
    }
    let of = |name: &String| match &field.ty {
        Type::Object { fields, .. } => fields
            .iter()
            .find(|known| known.name == *name)
            .cloned()
            .unwrap_or_else(|| Field::new(name, Type::Any)),
        Type::Map(items) => Field::new(name, Type::clone(items)),
        _ => Field::new(name, Type::Any),
    };
    Field { ty: Type::Object { fields: keys.iter().map(of).collect(), open: false }, ..field.clone() }
}

/// A required input, or one with a default, always has a value in the manifest's templates.
pub fn sure(field: &Field) -> Field {
    Field { always: field.required || field.default.is_some(), ..field.clone() }
}

/// An input with a default need not be given.
fn relaxed(field: &Field) -> Field {
    Field { required: field.required && field.default.is_none(), ..field.clone() }
}
