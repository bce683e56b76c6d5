//! An event's fields as those see them who may not see everything.

use serde_json::{Map as Json, Value as Shown, json};
use sheaf_bundles::{
    hook::Hook,
    types::Field,
    value::{Map, Value},
};

/// What stands for a value that only those with the permission may see.
const MASK: &str = "••••";

/// The fields as they are.
pub fn clear(fields: &Map) -> Shown {
    Shown::Object(fields.iter().map(|(name, value)| (name.to_string(), json!(value))).collect())
}

/// The fields; masked are those that the hook marks as personal or sensitive, wherever they are nested, and those that it does
/// not declare: nobody said what is in them.
pub fn masked(hook: &Hook, fields: &Map) -> Shown {
    let shown = fields.iter().map(|(name, value)| (name.to_string(), at(hook, name, value)));
    Shown::Object(shown.collect())
}

fn at(hook: &Hook, path: &str, value: &Value) -> Shown {
    let declared = field(hook, path);
    let marked = declared.is_some_and(|field| field.personal || field.sensitive);
    match value {
        value if value.is_empty() => json!(value),
        _ if marked => json!(MASK),
        Value::Object(inner) if declared.is_some() || leads_on(hook, path) => {
            let shown = inner.iter().map(|(name, value)| {
                let path = format!("{path}.{name}");
                let own = declared.is_some() && field(hook, &path).is_none() && !leads_on(hook, &path);
                (name.to_string(), if own { json!(value) } else { at(hook, &path, value) })
            });
            Shown::Object(shown.collect::<Json<_, _>>())
        }
        value if declared.is_some() => json!(value),
        _ => json!(MASK),
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

    #[test]
    fn personal_fields_are_masked_also_inside_others_and_so_is_what_nobody_declared() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/webhook-to-http");
        let compiled = directory::compile(&directory::read(&example).unwrap());
        let integration = compiled.integration.unwrap();
        let hook = &integration.hooks[0];
        let body = r#"{"order":{"number":"17"},"customer":{"phone":"79990000001","name":"Анна","inn":"7707"},
            "note":"allergic","items":[]}"#;
        let received = Received {
            method: "POST".into(),
            query: "".into(),
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.as_bytes().to_vec(),
            source: None,
            received_ms: 0,
        };
        let shown = masked(hook, &decode(hook, &received).unwrap().fields);
        let customer = json!({"phone": MASK, "name": MASK, "inn": MASK});
        assert_eq!(
            shown,
            json!({"order": {"number": "17"}, "customer": customer, "note": MASK, "items": []})
        );
    }
}
