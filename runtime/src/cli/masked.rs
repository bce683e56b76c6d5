//! An event's fields as those see them who may not see everything.

use serde_json::{Map as Json, Value as Shown, json};
use sheaf_bundles::{
    hook::Hook,
    types::{Field, Type},
    value::{Map, Value},
};

/// What stands for a value that only those with the permission may see.
const MASK: &str = "••••";

/// The fields as they are.
pub fn clear(fields: &Map) -> Shown {
    Shown::Object(fields.iter().map(|(name, value)| (name.to_string(), json!(value))).collect())
}

/// What is said of a value.
#[derive(Clone, Copy)]
enum Said<'h> {
    /// What it is, and that all may see it.
    Open(&'h Type),
    /// That it is personal or sensitive.
    Hidden,
}

impl<'h> Said<'h> {
    fn of(field: &'h Field) -> Said<'h> {
        if field.is_marked() { Said::Hidden } else { Said::Open(&field.ty) }
    }

    /// Of what an object holds under that name.
    fn inside(self, name: &str) -> Option<Said<'h>> {
        match self {
            Said::Open(Type::Object { fields, .. }) if !fields.is_empty() => {
                fields.iter().find(|field| field.name == name).map(Said::of)
            }
            Said::Open(Type::Map(items)) => Some(Said::Open(items)),
            Said::Open(_) => Some(Said::Open(&Type::Any)),
            Said::Hidden => Some(Said::Hidden),
        }
    }
}

/// The fields; masked are those that the hook marks as personal or sensitive, wherever they are nested, and those that it does
/// not declare: nobody said what is in them.
pub fn masked(hook: &Hook, fields: &Map) -> Shown {
    let shown = fields.iter().map(|(name, value)| (name.to_string(), at(hook, Some(name), None, value)));
    Shown::Object(shown.collect())
}

/// `path`: the name it would be declared under; none for what is in a list.
fn at(hook: &Hook, path: Option<&str>, said: Option<Said<'_>>, value: &Value) -> Shown {
    let said = path.and_then(|path| field(hook, path)).map(Said::of).or(said);
    match (said, value) {
        (_, value) if value.is_empty() => json!(value),
        (Some(Said::Hidden), _) => json!(MASK),
        (said, Value::Object(inner)) if said.is_some() || path.is_some_and(|path| leads_on(hook, path)) => {
            let shown = inner.iter().map(|(name, value)| {
                let path = path.map(|path| format!("{path}.{name}"));
                let said = said.and_then(|said| said.inside(name));
                (name.to_string(), at(hook, path.as_deref(), said, value))
            });
            Shown::Object(shown.collect::<Json<_, _>>())
        }
        (Some(Said::Open(Type::List(items))), Value::List(values)) => {
            values.iter().map(|value| at(hook, None, Some(Said::Open(items)), value)).collect()
        }
        (Some(_), value) => json!(value),
        (None, _) => json!(MASK),
    }
}

fn field<'h>(hook: &'h Hook, path: &str) -> Option<&'h Field> {
    hook.fields.iter().map(|own| &own.field).find(|own| own.name == path)
}

/// Whether a field is declared inside that one.
fn leads_on(hook: &Hook, path: &str) -> bool {
    hook.fields.iter().any(|own| own.field.name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sheaf_bundles::event::Received;
    use sheaf_connectors::decode::decode;

    use super::*;
    use crate::directory;

    const NESTED: &str = "kind: connection
name: shop
connector: webhook
settings:
  fields:
    customer:
      type: object
      fields: {phone: {type: phone, personal: true}, city: {type: text}}
    guests: {type: list, items: {type: object, fields: {name: {type: text, personal: true}, age: {type: integer}}}}
    tags: {type: map, items: {type: text}}
    whole: {type: object, personal: true, fields: {city: {type: text}}}
";

    #[test]
    fn a_mark_inside_an_object_or_a_list_masks_what_it_stands_at() {
        let workspace = "kind: workspace\nname: shop\ntime_zone: Europe/Moscow\n";
        let files = [("sheaf.yaml", workspace), ("connections/shop.yaml", NESTED)];
        let (integration, ..) = sheaf_connectors::compile(&files);
        let hook = &integration.expect("sound files").hooks[0];
        let body = r#"{"customer":{"phone":"79990000001","city":"Уфа","inn":"7707"},"guests":[{"name":"Анна","age":7}],
            "tags":{"a":"b"},"whole":{"city":"Уфа"}}"#;
        let shown = masked(hook, &decode(hook, &json_body(body)).unwrap().fields);
        let customer = json!({"phone": MASK, "city": "Уфа", "inn": MASK});
        let guests = json!([{"name": MASK, "age": 7}]);
        assert_eq!(shown, json!({"customer": customer, "guests": guests, "tags": {"a": "b"}, "whole": MASK}));
    }

    fn json_body(body: &str) -> Received {
        Received {
            method: "POST".into(),
            query: "".into(),
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.as_bytes().to_vec(),
            source: None,
            received_ms: 0,
        }
    }

    #[test]
    fn personal_fields_are_masked_also_inside_others_and_so_is_what_nobody_declared() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/webhook-to-http");
        let compiled = directory::compile(&directory::read(&example).unwrap());
        let integration = compiled.integrations().next().unwrap();
        let hook = &integration.hooks[0];
        let body = r#"{"order":{"number":"17"},"customer":{"phone":"79990000001","name":"Анна","inn":"7707"},
            "note":"allergic","items":[]}"#;
        let shown = masked(hook, &decode(hook, &json_body(body)).unwrap().fields);
        let customer = json!({"phone": MASK, "name": MASK, "inn": MASK});
        assert_eq!(
            shown,
            json!({"order": {"number": "17"}, "customer": customer, "note": MASK, "items": []})
        );
    }
}
