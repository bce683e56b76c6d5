//! A bundle's file as its author wrote it.

use crate::{
    shape::{Key, KeyRule, Shape},
    yaml::{Entry, Node, Span},
};

/// What a bundle's file says; nodes are read by the compiler.
#[derive(Debug, Clone)]
pub struct Bundle<'n> {
    /// Its name, and where it stands.
    pub name: (&'n str, Span),
    /// For people; the name when there is none.
    pub title: &'n str,
    /// Whether it takes events.
    pub active: bool,
    /// What it is triggered by.
    pub on: Option<&'n Node>,
    /// Which events it takes.
    pub filter: Option<&'n Node>,
    /// What it does.
    pub steps: Vec<Step<'n>>,
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step<'n> {
    /// Where it stands.
    pub span: Span,
    /// Its name.
    pub name: Option<(&'n str, Span)>,
    /// `connector.action`.
    pub action: Option<(&'n str, Span)>,
    /// Name of a connection.
    pub connection: Option<(&'n str, Span)>,
    /// What the action is given.
    pub with: Option<&'n Entry>,
}

/// The file's shape. What stands under `with` depends on the action, further keys of `on` on the trigger.
pub fn shape() -> Shape {
    let on = Shape::open_object(
        [
            Key::required("connection", Shape::Name).help(
                "The connection the events come through.",
                "Подключение, через которое приходят события.",
            ),
            Key::required("trigger", Shape::Name)
                .help("A trigger of its connector.", "Триггер его коннектора."),
            Key::optional("via", Shape::choice(["webhook"])).default("webhook"),
            Key::optional("delay", Shape::Duration)
                .help("How long to wait before the first step.", "Сколько ждать перед первым шагом.")
                .default("0m"),
        ],
        Shape::Text,
    );
    let step = Shape::object([
        Key::required("name", Shape::Name)
            .help("Unique in the bundle and stable.", "Уникальное и постоянное имя в связке."),
        Key::required("action", Shape::Text)
            .help("Connector and action.", "Коннектор и действие.")
            .sample("mindbox.operation_async"),
        Key::required("connection", Shape::Name)
            .help("The connection the request is sent through.", "Подключение, через которое уходит запрос."),
        Key::optional("with", Shape::Map { keys: KeyRule::Any, values: Box::new(Shape::Any) })
            .help("What the action is given.", "Что передать действию."),
    ]);
    Shape::object([
        Key::required("kind", Shape::Const("bundle".to_owned())),
        Key::required("name", Shape::Name)
            .help("Unique in the workspace.", "Уникальное имя в рабочем пространстве."),
        Key::optional("title", Shape::Text).help("What people call it.", "Как её называют люди."),
        Key::optional("active", Shape::Bool)
            .help("Whether it takes events.", "Обрабатывает ли она события.")
            .default(true),
        Key::required("on", on).help("What it is triggered by.", "Что её запускает."),
        Key::optional("filter", Shape::Filter).help("Which events it takes.", "Какие события она берёт."),
        Key::required("steps", Shape::list(step))
            .help("What it does, in order.", "Что она делает, по порядку."),
    ])
}

/// Reads what is there, whatever else is wrong with the file, so that every mistake can be shown at once.
pub fn read(node: &Node) -> Bundle<'_> {
    let name = named(node, "name").unwrap_or(("", node.span));
    Bundle {
        name,
        title: node.get("title").and_then(Node::as_text).unwrap_or(name.0),
        active: node.get("active").and_then(Node::as_bool).unwrap_or(true),
        on: node.get("on"),
        filter: node.get("filter"),
        steps: node.get("steps").and_then(Node::as_list).unwrap_or_default().iter().map(read_step).collect(),
    }
}

fn read_step(node: &Node) -> Step<'_> {
    Step {
        span: node.span,
        name: named(node, "name"),
        action: named(node, "action"),
        connection: named(node, "connection"),
        with: node.entry("with").filter(|entry| entry.value.as_map().is_some()),
    }
}

/// The text under a key and where it stands.
pub fn named<'n>(node: &'n Node, key: &str) -> Option<(&'n str, Span)> {
    let value = node.get(key)?;
    Some((value.as_text()?, value.span))
}
