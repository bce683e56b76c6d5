//! JSON Schemas for `ui-schema/`: the users' files, and every connector's connection, triggers and actions.

use serde_json::{Value as Json, json};

use crate::{
    alerts, bundle,
    catalog::{Catalog, Connector},
    compile::shapes,
    manifest::{self, action::Action, webhook::TriggerSpec},
    shape::schema::json_schema,
    types::{Field, InstantFormat, Type},
    workspace,
};

/// Every schema as (path below `ui-schema/`, text), ordered by path. The same catalog gives the same bytes.
pub fn documents(catalog: &Catalog) -> Vec<(String, String)> {
    let mut documents = vec![
        document("alerts.json", &json_schema(&alerts::file::shape())),
        document("bundle.json", &json_schema(&bundle::shape())),
        document("connection.json", &json_schema(&shapes::connection(None))),
        document("connector.json", &json_schema(&manifest::shape::manifest())),
        document("workspace.json", &json_schema(&workspace::shape())),
    ];
    documents.extend(catalog.iter().flat_map(|connector| of_connector(connector)));
    documents.sort();
    documents
}

fn of_connector(connector: &Connector) -> Vec<(String, String)> {
    let manifest = &connector.manifest;
    let folder = format!("connectors/{}", manifest.name);
    let mut documents = vec![document(
        &format!("{folder}/connection.json"),
        &json_schema(&shapes::connection(Some(manifest))),
    )];
    for trigger in &manifest.triggers {
        documents.push(document(
            &format!("{folder}/triggers/{}.json", trigger.name),
            &event_schema(connector, trigger),
        ));
    }
    for action in &manifest.actions {
        documents.push(document(&format!("{folder}/actions/{}.json", action.name), &action_schema(action)));
    }
    documents
}

fn document(path: &str, schema: &Json) -> (String, String) {
    let text = serde_json::to_string_pretty(schema).expect("a JSON value always serialises");
    (path.to_owned(), text + "\n")
}

/// What a bundle writes under `with`.
fn action_schema(action: &Action) -> Json {
    let mut schema = json_schema(&shapes::input(&action.input));
    describe(&mut schema, &action.title, &action.help);
    schema
}

/// The decoded event of a trigger: its fields, and what its options are.
fn event_schema(connector: &Connector, trigger: &TriggerSpec) -> Json {
    let specs =
        connector.manifest.webhook.as_ref().map(|webhook| webhook.fields.as_slice()).unwrap_or_default();
    let exists = |kinds: &[String]| {
        kinds.is_empty() || trigger.kinds.is_empty() || trigger.kinds.iter().any(|kind| kinds.contains(kind))
    };
    let fields = specs.iter().filter(|spec| exists(&spec.kinds)).map(|spec| &spec.field);
    let mut properties = serde_json::Map::new();
    for field in fields {
        properties.insert(field.name.clone(), field_schema(field));
    }
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "additionalProperties": true,
    });
    describe(&mut schema, &trigger.title, &trigger.help);
    if !trigger.options.is_empty() {
        schema["x-options"] = options(trigger);
    }
    schema
}

fn options(trigger: &TriggerSpec) -> Json {
    let options = trigger.options.iter().map(|option| {
        let values = option
            .values
            .iter()
            .map(|(value, title, _)| json!({"const": value, "title": title.en, "x-title-ru": title.ru}));
        let schema = json!({
            "title": option.title.en,
            "x-title-ru": option.title.ru,
            "default": option.default,
            "oneOf": values.collect::<Vec<_>>(),
        });
        (option.name.clone(), schema)
    });
    Json::Object(options.collect())
}

fn describe(schema: &mut Json, title: &crate::words::Words, help: &crate::words::Words) {
    schema["title"] = json!(title.en);
    schema["x-title-ru"] = json!(title.ru);
    if !help.en.is_empty() {
        schema["description"] = json!(help.en);
        schema["x-description-ru"] = json!(help.ru);
    }
}

/// A field of an event: its type, titles, marks and sample. Every field can be null but those that always have a value.
fn field_schema(field: &Field) -> Json {
    let mut schema = type_schema(&field.ty);
    if !field.always
        && let Some(name) = schema.get("type").and_then(Json::as_str).map(str::to_owned)
    {
        schema["type"] = json!([name, "null"]);
        if let Some(choices) = schema.get_mut("oneOf").and_then(Json::as_array_mut) {
            choices.push(json!({"const": null}));
        }
    }
    describe(&mut schema, &field.title, &field.help);
    schema["x-type"] = json!(field.ty.word());
    for (mark, set) in [("x-personal", field.personal), ("x-sensitive", field.sensitive)] {
        if set {
            schema[mark] = json!(true);
        }
    }
    if !field.no_value.is_empty() {
        schema["x-no-value"] = json!(field.no_value);
    }
    if let Some(sample) = &field.sample {
        schema["examples"] = json!([to_json(sample)]);
    }
    schema
}

fn type_schema(ty: &Type) -> Json {
    match ty {
        Type::Any | Type::Filter => json!({}),
        Type::Text | Type::Phone | Type::LocalTime(_) => json!({"type": "string"}),
        Type::Email => json!({"type": "string", "format": "email"}),
        Type::Url => json!({"type": "string", "format": "uri"}),
        Type::Integer => json!({"type": "integer"}),
        Type::Decimal => json!({"type": "number"}),
        Type::Boolean => json!({"type": "boolean"}),
        Type::Instant(InstantFormat::Rfc3339) => json!({"type": "string", "format": "date-time"}),
        Type::Instant(InstantFormat::UnixSeconds | InstantFormat::UnixMilliseconds) => {
            json!({"type": "integer"})
        }
        Type::Duration(unit) => json!({"type": "number", "x-unit": unit.short()}),
        Type::Enum(choices) => {
            let values = choices.iter().map(|choice| {
                json!({"const": choice.value, "title": choice.title.en, "x-title-ru": choice.title.ru})
            });
            json!({"type": "string", "oneOf": values.collect::<Vec<_>>()})
        }
        Type::List(items) => json!({"type": "array", "items": type_schema(items)}),
        Type::Map(items) => json!({"type": "object", "additionalProperties": type_schema(items)}),
        Type::Object { fields, open } => {
            let properties = fields.iter().map(|field| (field.name.clone(), field_schema(field)));
            json!({
                "type": "object",
                "properties": properties.collect::<serde_json::Map<_, _>>(),
                "additionalProperties": open,
            })
        }
    }
}

fn to_json(value: &crate::value::Value) -> Json {
    serde_json::from_str(&crate::json::to_text(value)).unwrap_or_default()
}
