//! Types with meaning: what a field is, how it is read from the wire, and what may be put into what.

pub mod assign;
pub mod read;

use std::borrow::Borrow;

use chrono_tz::Tz;

use crate::{
    duration::Unit,
    path::{Segment, join},
    value::Value,
    words::Words,
};

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    /// Anything.
    Any,
    /// Text.
    Text,
    /// A whole number of any size.
    Integer,
    /// A number, exact.
    Decimal,
    /// True or false.
    Boolean,
    /// A telephone number, kept as received.
    Phone,
    /// An e-mail address.
    Email,
    /// A URL.
    Url,
    /// A point in time.
    Instant(InstantFormat),
    /// Date and time on a wall clock, `2026-03-05 10:15:30`; the zone is the connection's, known once a bundle is compiled.
    LocalTime(Option<Tz>),
    /// A length of time, a number in this unit.
    Duration(Unit),
    /// One of some texts.
    Enum(Vec<Choice>),
    /// A list.
    List(Box<Type>),
    /// An object with any keys.
    Map(Box<Type>),
    /// An object with these keys.
    Object {
        /// The keys that are known.
        fields: Vec<Field>,
        /// Whether other keys are welcome.
        open: bool,
    },
    /// A filter's text or tree (settings only).
    Filter,
}

/// How a point in time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstantFormat {
    /// Seconds since 1970, a number.
    UnixSeconds,
    /// Milliseconds since 1970, a number.
    UnixMilliseconds,
    /// `2026-03-05T07:15:30Z`.
    Rfc3339,
}

/// One value of an enum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// As it stands in the data.
    pub value: String,
    /// For people.
    pub title: Words,
}

/// A named value of a trigger, an action's input, settings or an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its name in the language, dots included where the vendor's name has them.
    pub name: String,
    /// For people.
    pub title: Words,
    /// Longer, for people; may be empty.
    pub help: Words,
    /// What it is.
    pub ty: Type,
    /// A target that must be given a value.
    pub required: bool,
    /// The value when none is given.
    pub default: Option<Value>,
    /// Words the vendor writes for "no value"; decoding makes them null.
    pub no_value: Vec<String>,
    /// A source that always carries a real value.
    pub always: bool,
    /// Says something about a person.
    pub personal: bool,
    /// Must not be shown (carries a token).
    pub sensitive: bool,
    /// A target that may hold a secret's placeholder.
    pub secrets: bool,
    /// An example.
    pub sample: Option<Value>,
}

impl Field {
    /// A field that says nothing but its name and type.
    pub fn new(name: impl Into<String>, ty: Type) -> Field {
        Field {
            name: name.into(),
            title: Words::default(),
            help: Words::default(),
            ty,
            required: false,
            default: None,
            no_value: Vec::new(),
            always: false,
            personal: false,
            sensitive: false,
            secrets: false,
            sample: None,
        }
    }

    /// Whether it is personal or sensitive.
    pub fn is_marked(&self) -> bool {
        self.personal || self.sensitive
    }
}

/// Where a walk through types ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Found<'t> {
    /// A declared field, and whether everything on the way is always there.
    Field(&'t Field),
    /// Something inside a field that declares no more: an item of a list, a key of a map or of an open object.
    Inside {
        /// The last declared field on the way, if any.
        field: Option<&'t Field>,
        /// Its type.
        ty: &'t Type,
    },
    /// No such name; `at` is the segment, `known` the names that would have been right.
    Unknown {
        /// Which segment.
        at: usize,
        /// The names that exist there.
        known: Vec<&'t str>,
    },
}

/// Follows a path through declared fields. A field whose name has dots is found by its whole name too.
pub fn find<'t, F: Borrow<Field>>(fields: &'t [F], open: bool, segments: &[Segment]) -> Found<'t> {
    find_from(fields, open, segments, 0)
}

fn find_from<'t, F: Borrow<Field>>(
    fields: &'t [F],
    open: bool,
    segments: &[Segment],
    at: usize,
) -> Found<'t> {
    let all = || fields.iter().map(Borrow::borrow);
    for length in (1..=segments.len() - at).rev() {
        let name = join(&segments[at..at + length]);
        if let Some(field) = all().find(|field: &&Field| field.name == name) {
            return if at + length == segments.len() {
                Found::Field(field)
            } else {
                inside(field, segments, at + length)
            };
        }
    }
    if open {
        return Found::Inside { field: None, ty: &Type::Any };
    }
    Found::Unknown { at, known: all().map(|field| field.name.as_str()).collect() }
}

fn inside<'t>(field: &'t Field, segments: &[Segment], mut at: usize) -> Found<'t> {
    let mut ty = &field.ty;
    while let Some(segment) = segments.get(at) {
        ty = match ty {
            Type::Any => &Type::Any,
            Type::Object { fields, open } => return find_from(fields, *open, segments, at),
            Type::Map(items) => items,
            Type::List(items) if segment.index.is_some() => items,
            Type::List(_)
            | Type::Text
            | Type::Integer
            | Type::Decimal
            | Type::Boolean
            | Type::Phone
            | Type::Email
            | Type::Url
            | Type::Instant(_)
            | Type::LocalTime(_)
            | Type::Duration(_)
            | Type::Enum(_)
            | Type::Filter => return Found::Unknown { at, known: Vec::new() },
        };
        at += 1;
    }
    Found::Inside { field: Some(field), ty }
}

impl Type {
    /// Whether something in it is personal or sensitive.
    pub fn holds_marked(&self) -> bool {
        match self {
            Type::Object { fields, .. } => {
                fields.iter().any(|field| field.is_marked() || field.ty.holds_marked())
            }
            Type::List(items) | Type::Map(items) => items.holds_marked(),
            _ => false,
        }
    }

    /// The word a manifest writes for it.
    pub fn word(&self) -> &'static str {
        match self {
            Type::Any => "any",
            Type::Text => "text",
            Type::Integer => "integer",
            Type::Decimal => "decimal",
            Type::Boolean => "boolean",
            Type::Phone => "phone",
            Type::Email => "email",
            Type::Url => "url",
            Type::Instant(_) => "instant",
            Type::LocalTime(_) => "local_time",
            Type::Duration(_) => "duration",
            Type::Enum(_) => "enum",
            Type::List(_) => "list",
            Type::Map(_) => "map",
            Type::Object { .. } => "object",
            Type::Filter => "filter",
        }
    }

    /// What it is, for people, as in "expected …".
    pub fn words(&self) -> Words {
        match self {
            Type::Any => Words::new("any value", "любое значение"),
            Type::Text => Words::new("text", "текст"),
            Type::Integer => Words::new("a whole number", "целое число"),
            Type::Decimal => Words::new("a number", "число"),
            Type::Boolean => Words::new("true or false", "true или false"),
            Type::Phone => Words::new("a phone number", "номер телефона"),
            Type::Email => Words::new("an e-mail address", "адрес e-mail"),
            Type::Url => Words::new("a URL", "URL"),
            Type::Instant(InstantFormat::UnixSeconds) => {
                Words::new("an instant (Unix seconds)", "момент времени (секунды Unix)")
            }
            Type::Instant(InstantFormat::UnixMilliseconds) => {
                Words::new("an instant (Unix milliseconds)", "момент времени (миллисекунды Unix)")
            }
            Type::Instant(InstantFormat::Rfc3339) => {
                Words::new("an instant (RFC 3339)", "момент времени (RFC 3339)")
            }
            Type::LocalTime(_) => Words::new("a local time", "местное время"),
            Type::Duration(unit) => Words::new(
                format!("a duration in {}", unit.short()),
                format!("длительность в единицах {}", unit.short()),
            ),
            Type::Enum(choices) => {
                let values =
                    choices.iter().map(|choice| choice.value.as_str()).collect::<Vec<_>>().join(", ");
                Words::new(format!("one of {values}"), format!("одно из: {values}"))
            }
            Type::List(_) => Words::new("a list", "список"),
            Type::Map(_) | Type::Object { .. } => Words::new("an object", "объект"),
            Type::Filter => Words::new("a filter", "фильтр"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Path;

    fn fields() -> Vec<Field> {
        vec![
            Field::new("callerphone", Type::Phone),
            Field::new(
                "attrs",
                Type::Object { fields: vec![Field::new("mindboxDeviceUUID", Type::Text)], open: false },
            ),
            Field::new("comment", Type::List(Box::new(Type::Map(Box::new(Type::Text))))),
            Field::new("customer.birthDate", Type::Text),
        ]
    }

    fn found(path: &str) -> String {
        match find(&fields(), false, &Path::parse(path).unwrap().segments) {
            Found::Field(field) => field.name.clone(),
            Found::Inside { field, ty } => {
                format!("{} in {}", ty.word(), field.map_or("-", |field| &field.name))
            }
            Found::Unknown { at, known } => format!("unknown {at} of {}", known.len()),
        }
    }

    #[test]
    fn a_path_is_followed_through_declared_fields() {
        for (path, expected) in [
            ("callerphone", "callerphone"),
            ("attrs.mindboxDeviceUUID", "mindboxDeviceUUID"),
            ("attrs.mindbox", "unknown 1 of 1"),
            ("comment[0]", "map in comment"),
            ("comment[0].party", "text in comment"),
            ("comment.party", "unknown 1 of 0"),
            ("callerphone.x", "unknown 1 of 0"),
            ("customer.birthDate", "customer.birthDate"),
            ("[customer.birthDate]", "customer.birthDate"),
            ("calerphone", "unknown 0 of 4"),
        ] {
            assert_eq!(found(path), expected, "{path}");
        }
    }
}
