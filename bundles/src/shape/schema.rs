//! A shape as JSON Schema. English stands where editors look (`title`, `description`), Russian beside it (`x-title-ru`, `x-description-ru`).

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::{Choice, Key, KeyRule, NAME_CHARS_MAX, Object, Shape, check::computed_shape};
use crate::words::Words;

/// The dialect that is written.
pub const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

const DURATION_PATTERN: &str = "^(0|([0-9]+(ms|s|m|h|d|w))+)$";
const TEMPLATE_PATTERN: &str = r"\{\{";

/// The JSON Schema (draft 2020-12) of a shape, with titles and descriptions in both languages; the same shape gives the same bytes.
pub fn json_schema(shape: &Shape) -> Json {
    let mut writer = Writer::default();
    let root = writer.schema(shape);
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), DIALECT.into());
    match root {
        Json::Object(keys) => schema.extend(keys),
        other => {
            schema.insert("allOf".to_owned(), json!([other]));
        }
    }
    if !writer.definitions.is_empty() {
        schema.insert("$defs".to_owned(), Json::Object(writer.definitions.into_iter().collect()));
    }
    Json::Object(schema)
}

/// Collects the shapes that have names, each written once.
#[derive(Default)]
struct Writer {
    definitions: BTreeMap<String, Json>,
}

impl Writer {
    fn schema(&mut self, shape: &Shape) -> Json {
        match shape {
            Shape::Any => json!({}),
            Shape::Text => json!({"type": "string"}),
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Integer { min, max } => integer(*min, *max),
            Shape::Number => json!({"type": "number"}),
            Shape::Duration => json!({"type": "string", "pattern": DURATION_PATTERN, "examples": ["15m"]}),
            Shape::Name => json!({"type": "string", "pattern": name_pattern()}),
            Shape::Url => json!({"type": "string", "format": "uri", "pattern": "^https?://"}),
            Shape::TimeZone => json!({"type": "string", "examples": ["Europe/Moscow"]}),
            Shape::Choice(choices) => choice(choices),
            Shape::Const(word) => json!({"const": word}),
            Shape::List(items) => json!({"type": "array", "items": self.schema(items)}),
            Shape::Map { keys, values } => self.map(*keys, values),
            Shape::Object(object) => self.object(object),
            Shape::OneOf(shapes) => {
                json!({"anyOf": shapes.iter().map(|shape| self.schema(shape)).collect::<Vec<_>>()})
            }
            Shape::Filter => self.named("filter", filter),
            Shape::Template(inner) => self.template(inner),
            Shape::Mapping(keys) => self.mapping(keys),
            Shape::Secret => self.named("secret", |_| secret()),
            Shape::Named { name, shape } => self.named(name, |writer| writer.schema(&shape())),
        }
    }

    /// A reference to a definition, which is written when it is first asked for.
    fn named(&mut self, name: &str, write: impl FnOnce(&mut Writer) -> Json) -> Json {
        if !self.definitions.contains_key(name) {
            // holds the name while the definition is written: it may contain itself
            self.definitions.insert(name.to_owned(), Json::Null);
            let definition = write(self);
            self.definitions.insert(name.to_owned(), definition);
        }
        json!({"$ref": format!("#/$defs/{name}")})
    }

    fn map(&mut self, keys: KeyRule, values: &Shape) -> Json {
        let values = self.schema(values);
        match keys {
            KeyRule::Any => json!({"type": "object", "additionalProperties": values}),
            KeyRule::Name => {
                json!({"type": "object", "propertyNames": {"pattern": name_pattern()}, "additionalProperties": values})
            }
        }
    }

    fn object(&mut self, object: &Object) -> Json {
        let properties: Map<String, Json> =
            object.keys.iter().map(|key| (key.name.clone(), self.property(key))).collect();
        let required: Vec<&str> =
            object.keys.iter().filter(|key| key.required).map(|key| key.name.as_str()).collect();
        let other = match &object.open {
            None => json!(false),
            Some(open) => self.schema(open),
        };
        let mut schema = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema["additionalProperties"] = other;
        schema
    }

    /// The same as for its shape, with the key's own words, default and sample.
    fn property(&mut self, key: &Key) -> Json {
        let mut schema = self.schema(&key.shape);
        annotate(&mut schema, "title", &key.title);
        annotate(&mut schema, "description", &key.help);
        if let Some(default) = &key.default {
            schema["default"] = json!(default);
        }
        if let Some(sample) = &key.sample {
            schema["examples"] = json!([sample]);
        }
        schema
    }

    fn template(&mut self, inner: &Shape) -> Json {
        let computed = self.named("computed", |writer| {
            let mut schema = writer.schema(&computed_shape());
            schema["anyOf"] = json!([{"required": ["value"]}, {"required": ["path"]}]);
            schema
        });
        let inner = match inner {
            // a number or a boolean becomes text by itself
            Shape::Text => {
                return json!({"anyOf": [{"type": ["string", "number", "boolean", "null"]}, computed]});
            }
            other => self.schema(other),
        };
        json!({"anyOf": [inner, {"type": "string", "pattern": TEMPLATE_PATTERN}, computed]})
    }

    fn mapping(&mut self, keys: &[Key]) -> Json {
        let properties: Map<String, Json> =
            keys.iter().map(|key| (key.name.clone(), self.property(key))).collect();
        json!({"type": ["object", "string"], "properties": properties})
    }
}

fn annotate(schema: &mut Json, keyword: &str, words: &Words) {
    if !words.en.is_empty() {
        schema[keyword] = json!(words.en);
    }
    if !words.ru.is_empty() {
        schema[format!("x-{keyword}-ru")] = json!(words.ru);
    }
}

fn integer(min: Option<i64>, max: Option<i64>) -> Json {
    let mut schema = json!({"type": "integer"});
    if let Some(min) = min {
        schema["minimum"] = json!(min);
    }
    if let Some(max) = max {
        schema["maximum"] = json!(max);
    }
    schema
}

fn choice(choices: &[Choice]) -> Json {
    if choices.iter().all(|choice| choice.title == Words::default()) {
        return json!({"enum": choices.iter().map(|choice| choice.value.as_str()).collect::<Vec<_>>()});
    }
    let titled = choices.iter().map(|choice| {
        let mut schema = json!({"const": choice.value});
        annotate(&mut schema, "title", &choice.title);
        schema
    });
    json!({"oneOf": titled.collect::<Vec<_>>()})
}

fn name_pattern() -> String {
    format!("^[a-z0-9][a-z0-9_-]{{0,{}}}$", NAME_CHARS_MAX - 1)
}

fn filter(_: &mut Writer) -> Json {
    let nested = json!({"$ref": "#/$defs/filter"});
    let all = json!({"type": "array", "items": nested});
    let tree = json!({
        "type": "object",
        "properties": {"all": all, "any": all, "not": nested, "field": {"type": "string"}, "op": {"type": "string"}, "value": {}},
        "additionalProperties": false,
    });
    json!({
        "anyOf": [{"type": "string"}, tree],
        "description": "A condition: text such as `sessionId is not empty and direction = \"in\"`, or a tree of `all`, `any`, `not`.",
        "x-description-ru": "Условие: текст вроде `sessionId is not empty and direction = \"in\"` или дерево из `all`, `any`, `not`.",
    })
}

fn secret() -> Json {
    let from = |key: &str, value: Json| json!({"type": "object", "properties": {key: value}, "required": [key], "additionalProperties": false});
    json!({
        "oneOf": [from("env", json!({"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"})), from("file", json!({"type": "string", "minLength": 1}))],
        "description": "Where the secret is kept; never the secret itself.",
        "x-description-ru": "Где хранится секрет; никогда не сам секрет.",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> Shape {
        Shape::object([
            Key::required("name", Shape::Name),
            Key::optional("with", Shape::template(Shape::integer())),
            Key::optional("steps", Shape::list(Shape::Named { name: "step", shape: step })),
        ])
    }

    #[test]
    fn a_key_carries_its_words_in_both_languages_its_default_and_its_sample() {
        let key = Key::required("delay", Shape::Duration)
            .title("Delay", "Задержка")
            .help("How long to wait.", "Сколько ждать.")
            .default("0m")
            .sample("15m");
        let schema = json_schema(&Shape::object([key]));
        let expected = json!({
            "$schema": DIALECT,
            "type": "object",
            "properties": {"delay": {
                "type": "string",
                "pattern": DURATION_PATTERN,
                "examples": ["15m"],
                "title": "Delay",
                "x-title-ru": "Задержка",
                "description": "How long to wait.",
                "x-description-ru": "Сколько ждать.",
                "default": "0m",
            }},
            "required": ["delay"],
            "additionalProperties": false,
        });
        assert_eq!(schema, expected);
    }

    #[test]
    fn a_shape_that_contains_itself_is_written_once_and_referred_to() {
        let schema = json_schema(&Shape::list(Shape::Named { name: "step", shape: step }));
        assert_eq!(schema["items"], json!({"$ref": "#/$defs/step"}));
        assert_eq!(schema["$defs"]["step"]["properties"]["steps"]["items"], json!({"$ref": "#/$defs/step"}));
        assert_eq!(schema["$defs"]["computed"]["additionalProperties"], json!(false));
    }

    #[test]
    fn a_template_may_be_a_value_a_text_with_braces_or_computed() {
        let schema = json_schema(&Shape::object([Key::optional("count", Shape::template(Shape::integer()))]));
        let expected = json!([
            {"type": "integer"},
            {"type": "string", "pattern": TEMPLATE_PATTERN},
            {"$ref": "#/$defs/computed"},
        ]);
        assert_eq!(schema["properties"]["count"]["anyOf"], expected);
    }

    #[test]
    fn the_same_shape_gives_the_same_bytes() {
        let written = || {
            json_schema(&Shape::named_map(Shape::OneOf(vec![Shape::Filter, step(), Shape::Secret])))
                .to_string()
        };
        assert_eq!(written(), written());
    }

    #[test]
    fn titled_words_keep_their_titles_and_plain_ones_stay_short() {
        let titled = Shape::Choice(vec![Choice::titled("in", "Incoming", "Входящие")]);
        assert_eq!(
            json_schema(&titled)["oneOf"][0],
            json!({"const": "in", "title": "Incoming", "x-title-ru": "Входящие"})
        );
        assert_eq!(json_schema(&Shape::choice(["a", "b"]))["enum"], json!(["a", "b"]));
    }
}
