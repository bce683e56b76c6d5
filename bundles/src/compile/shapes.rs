//! The shapes of what a connector declares: settings of its connections, inputs of its actions.

use crate::{
    manifest::{
        Manifest,
        field::{FieldSpec, Special},
        shape::{amount, budget, fields},
    },
    shape::{Choice, Key, Object, Shape},
    types::{Field, Type},
};

/// The most that `concurrency` may say: more than all slots of many nodes is no limit.
const CONCURRENCY_MAX: i64 = 10_000;

/// A connection's file; `connector` fixes the connector and with it the settings and secrets.
pub fn connection(connector: Option<&Manifest>) -> Shape {
    let name = connector.map_or(Shape::Name, |manifest| Shape::Const(manifest.name.clone()));
    let settings = connector.map_or(Shape::map(Shape::Any), settings);
    let secrets = connector.map_or(Shape::named_map(Shape::Secret), secrets);
    let key = |name: &str, shape, needed: bool| {
        if needed { Key::required(name, shape) } else { Key::optional(name, shape) }
    };
    let needs_settings =
        connector.is_some_and(|manifest| manifest.settings.iter().any(|setting| setting.field.required));
    let needs_secrets =
        connector.is_some_and(|manifest| manifest.secrets.iter().any(|secret| secret.required));
    Shape::object([
        Key::required("kind", Shape::Const("connection".to_owned())),
        Key::required("name", Shape::Name)
            .help("Unique in the workspace.", "Уникальное имя в рабочем пространстве."),
        Key::optional("title", Shape::Text).help("What people call it.", "Как его называют люди."),
        Key::required("connector", name).help("The connector it uses.", "Коннектор, который оно использует."),
        key("settings", settings, needs_settings),
        key("secrets", secrets, needs_secrets).help(
            "Where each secret is kept, never the secret.",
            "Где лежит каждый секрет, но не сам секрет.",
        ),
        Key::optional("hook_generation", Shape::Integer { min: Some(1), max: Some(i64::from(u32::MAX)) })
            .help("Raise it to change the hook's URL.", "Увеличьте, чтобы сменить адрес вебхука.")
            .default(1),
        Key::optional("concurrency", Shape::Integer { min: Some(1), max: Some(CONCURRENCY_MAX) }).help(
            "Runs that may send through it at once, on all nodes together; no limit when it is not there.",
            "Сколько запусков могут слать через него одновременно, на всех узлах вместе; без ограничения, если не указано.",
        ),
        Key::optional("budgets", Shape::named_map(Shape::OneOf(vec![amount(), budget()]))).help(
            "Other amounts for its connector's budgets, and budgets of its own.",
            "Другие размеры бюджетов коннектора и собственные бюджеты.",
        ),
    ])
}

/// The settings of a connector.
pub fn settings(manifest: &Manifest) -> Shape {
    Shape::object(manifest.settings.iter().map(setting_key))
}

/// What a bundle writes under `with` for an action.
pub fn input(inputs: &[FieldSpec]) -> Shape {
    Shape::object(inputs.iter().map(|input| {
        let shape = match &input.field.ty {
            Type::Object { fields, .. } => Shape::Mapping(
                fields.iter().map(|field| key(field, Shape::template(of_type(&field.ty)))).collect(),
            ),
            other => Shape::template(of_type(other)),
        };
        key(&input.field, shape)
    }))
}

fn secrets(manifest: &Manifest) -> Shape {
    let keys = manifest.secrets.iter().map(|secret| Key {
        required: secret.required,
        title: secret.title.clone(),
        help: secret.help.clone(),
        ..Key::optional(&secret.name, Shape::Secret)
    });
    let open = manifest.open_secrets.then(|| Box::new(Shape::Secret));
    Shape::Object(Object { keys: keys.collect(), open })
}

fn setting_key(setting: &FieldSpec) -> Key {
    let shape = match setting.special {
        Special::TimeZone => Shape::TimeZone,
        Special::Fields => fields(),
        Special::None => of_type(&setting.field.ty),
    };
    key(&setting.field, shape)
}

fn key(field: &Field, shape: Shape) -> Key {
    Key {
        name: field.name.clone(),
        shape,
        required: field.required && field.default.is_none(),
        title: field.title.clone(),
        help: field.help.clone(),
        default: field.default.clone(),
        sample: field.sample.clone(),
    }
}

/// What may be written for a value of a type.
pub fn of_type(ty: &Type) -> Shape {
    match ty {
        Type::Any => Shape::Any,
        Type::Text | Type::Phone | Type::Email | Type::LocalTime(_) => Shape::Text,
        Type::Integer => Shape::integer(),
        Type::Decimal | Type::Duration(_) => Shape::Number,
        Type::Boolean => Shape::Bool,
        Type::Url => Shape::Url,
        Type::Instant(_) => Shape::Any,
        Type::Enum(choices) => Shape::Choice(
            choices
                .iter()
                .map(|choice| Choice { value: choice.value.clone(), title: choice.title.clone() })
                .collect(),
        ),
        Type::List(items) => Shape::list(of_type(items)),
        Type::Map(items) => Shape::map(of_type(items)),
        Type::Object { fields, open } => Shape::Object(Object {
            keys: fields.iter().map(|field| key(field, of_type(&field.ty))).collect(),
            open: open.then(|| Box::new(Shape::Any)),
        }),
        Type::Filter => Shape::Filter,
    }
}
