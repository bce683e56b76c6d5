//! A scope and an event for the tests of the language.

use super::{Known, Resolution, Scope};
use crate::{
    diagnostic::{Diagnostics, Sources},
    duration::Unit,
    json::{self, Limits},
    path::{Path, Root},
    types::{Choice, Field, InstantFormat, Type},
    value::{Map, Value},
    words::Words,
    yaml::{self, Node},
};

/// Calltouch-like fields in Moscow's zone; everything under other roots is of any type.
pub struct Calls;

/// The fields of the test event.
pub fn fields() -> Vec<Field> {
    let choice = |value: &str| Choice { value: value.to_owned(), title: Words::default() };
    let always = |field: Field| Field { always: true, ..field };
    let utm = Field {
        no_value: vec!["<не указано>".to_owned(), "<не заполнено>".to_owned()],
        ..Field::new("utm_source", Type::Text)
    };
    vec![
        always(Field::new("id", Type::Integer)),
        always(Field { personal: true, ..Field::new("callerphone", Type::Phone) }),
        always(Field::new("timestamp", Type::Instant(InstantFormat::UnixSeconds))),
        always(Field::new("calltime", Type::LocalTime(None))),
        always(Field::new("unique", Type::Boolean)),
        always(Field::new("status", Type::Enum(vec![choice("successful"), choice("unsuccessful")]))),
        always(Field::new("targetcall", Type::Enum(vec![choice("target"), choice("non-target")]))),
        always(Field::new("attribution", Type::Enum(vec![choice("0"), choice("1")]))),
        Field::new("duration", Type::Duration(Unit::Seconds)),
        Field::new("price", Type::Decimal),
        Field::new("sessionId", Type::Text),
        utm,
        Field::new("city", Type::Text),
        Field::new("email", Type::Email),
        Field::new("tags", Type::List(Box::new(Type::Text))),
        Field::new("comment", Type::List(Box::new(Type::Map(Box::new(Type::Text))))),
        Field::new(
            "attrs",
            Type::Object { fields: vec![Field::new("mindboxDeviceUUID", Type::Text)], open: false },
        ),
        Field::new("any", Type::Any),
    ]
}

impl Scope for Calls {
    fn resolve(&self, path: &Path) -> Resolution {
        match path.root {
            Root::Event if path.last() == "waiting_time" => {
                Resolution::Unavailable(Words::new("not there when a call begins", "нет в начале звонка"))
            }
            Root::Event => Resolution::of_fields(&fields(), false, &path.segments, self.time_zone()),
            Root::Connection
            | Root::Steps
            | Root::Item
            | Root::Input
            | Root::Delivery
            | Root::Workspace
            | Root::Response => Resolution::Known(Known {
                ty: Type::Any,
                can_be_empty: true,
                no_value: vec![],
                private: false,
            }),
        }
    }

    fn time_zone(&self) -> Option<chrono_tz::Tz> {
        Some(chrono_tz::Europe::Moscow)
    }
}

/// The fields of an event from JSON.
pub fn event(text: &str) -> Map {
    match json::parse(text.as_bytes(), Limits::default()).unwrap() {
        Value::Object(map) => *map,
        other => panic!("{other:?} is not an object"),
    }
}

/// A call from Moscow.
pub fn call() -> Map {
    event(
        r#"{"id":123456,"callerphone":"79990000001","timestamp":1772694930,"calltime":"2026-03-05 10:15:30","unique":true,
            "status":"successful","targetcall":"non-target","attribution":"1","duration":65,"price":10.50,"sessionId":"987",
            "utm_source":null,"city":"Нижний Новгород","email":"A@Б.рф","tags":["новый","vip"],
            "comment":[{"party":"Анна","comment":"перезвонить"}],"attrs":{"mindboxDeviceUUID":"d-1"},"any":5}"#,
    )
}

/// A node as if the whole file were this YAML.
pub fn node(text: &str) -> (Sources, Node) {
    let mut sources = Sources::default();
    let mut out = Diagnostics::default();
    let (_, node) = yaml::load("test.yaml", text.as_bytes(), &mut sources, &mut out);
    (sources, node.unwrap_or_else(|| panic!("{text} is not YAML: {out:?}")))
}

/// A text node, with the file that holds it in single quotes.
pub fn text_node(text: &str) -> (Sources, Node) {
    node(&format!("'{}'", text.replace('\'', "''")))
}

/// Codes with the source under them, by place: `unknown-field@calerphone`.
pub fn findings(sources: &Sources, out: &Diagnostics) -> Vec<String> {
    out.sorted()
        .iter()
        .map(|found| format!("{}@{}", found.code.as_str(), sources.slice(found.span)))
        .collect()
}
