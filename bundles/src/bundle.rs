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
    /// The field whose values' runs go one after another, and where that stands.
    pub order_by: Option<(&'n str, Span)>,
    /// When its steps are tried again, unless they say so themselves.
    pub retry: Option<&'n Node>,
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
    /// When it is tried again.
    pub retry: Option<&'n Node>,
    /// What follows when it has failed.
    pub on_failure: OnFailure<'n>,
    /// What to do when its answer was lost: `repeat`, `probe` or `park`.
    pub unknown: Option<(&'n str, Span)>,
}

/// What follows when a step has failed.
#[derive(Debug, Clone)]
pub enum OnFailure<'n> {
    /// A person looks at the run.
    Park,
    /// The next step.
    Continue,
    /// These steps, in the place of it and all that follow it.
    Steps {
        /// Where they stand.
        span: Span,
        /// The steps.
        steps: Vec<Step<'n>>,
    },
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
            Key::optional("settle", settle()).help(
                "Of several events of one key, run once on the latest.",
                "Из нескольких событий с одним ключом обработать одно, последнее.",
            ),
        ],
        Shape::Text,
    );
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
        Key::optional("order_by", Shape::Text)
            .help(
                "A field of the event: runs with the same value go one after another.",
                "Поле события: запуски с одинаковым значением идут по одному.",
            )
            .sample("callerphone"),
        Key::optional("retry", retry()).help(
            "When a step that failed is tried again; a step may say otherwise.",
            "Когда повторять неудавшийся шаг; шаг может указать своё.",
        ),
        Key::required("steps", Shape::list(step(true)))
            .help("What it does, in order.", "Что она делает, по порядку."),
    ])
}

/// A step; one that is run after a failure has no further steps for its own.
fn step(first: bool) -> Shape {
    let words = Shape::choice(["park", "continue"]);
    let instead = || Shape::object([Key::required("steps", Shape::list(step(false)))]);
    let on_failure = if first { Shape::OneOf(vec![words, instead()]) } else { words };
    Shape::object([
        Key::required("name", Shape::Name)
            .help("Unique in the bundle and stable.", "Уникальное и постоянное имя в связке."),
        Key::required("action", Shape::Text)
            .help("Connector and action.", "Коннектор и действие.")
            .sample("mindbox.operation_async"),
        Key::required("connection", Shape::Name)
            .help("The connection the request is sent through.", "Подключение, через которое уходит запрос."),
        Key::optional("with", Shape::Map { keys: KeyRule::Any, values: Box::new(Shape::Any) })
            .help("What the action is given.", "Что передать действию."),
        Key::optional("retry", retry()).help("When it is tried again.", "Когда его повторять."),
        Key::optional("on_failure", on_failure)
            .help(
                "What follows when it has failed: a person looks, the next step, or other steps.",
                "Что делать, если шаг не удался: отложить, продолжить или выполнить другие шаги.",
            )
            .default("park"),
        Key::optional("unknown", Shape::choice(["repeat", "probe", "park"])).help(
            "What to do when the answer was lost and a repeat may do the same twice.",
            "Что делать, если ответ потерян, а повтор может сделать то же дважды.",
        ),
    ])
}

fn settle() -> Shape {
    Shape::object([
        Key::required("by", Shape::Text)
            .help("The field of the event that is the key.", "Поле события, которое служит ключом.")
            .sample("id"),
        Key::required("quiet", Shape::Duration).help(
            "How long no newer event must come; each begins it anew.",
            "Сколько не должно быть новых событий; каждое начинает отсчёт заново.",
        ),
    ])
}

fn retry() -> Shape {
    let after = Key::required("after", Shape::list(Shape::Duration))
        .help("The waits before each further try.", "Паузы перед каждой следующей попыткой.");
    Shape::OneOf(vec![Shape::choice(["none"]), Shape::object([after])])
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
        order_by: named(node, "order_by"),
        retry: node.get("retry"),
        steps: read_steps(node),
    }
}

fn read_steps(node: &Node) -> Vec<Step<'_>> {
    node.get("steps").and_then(Node::as_list).unwrap_or_default().iter().map(read_step).collect()
}

fn read_step(node: &Node) -> Step<'_> {
    Step {
        span: node.span,
        name: named(node, "name"),
        action: named(node, "action"),
        connection: named(node, "connection"),
        with: node.entry("with").filter(|entry| entry.value.as_map().is_some()),
        retry: node.get("retry"),
        on_failure: read_on_failure(node),
        unknown: named(node, "unknown"),
    }
}

fn read_on_failure(node: &Node) -> OnFailure<'_> {
    match node.get("on_failure") {
        Some(instead) if instead.get("steps").is_some() => {
            OnFailure::Steps { span: instead.span, steps: read_steps(instead) }
        }
        Some(word) if word.as_text() == Some("continue") => OnFailure::Continue,
        Some(_) | None => OnFailure::Park,
    }
}

/// The text under a key and where it stands.
pub fn named<'n>(node: &'n Node, key: &str) -> Option<(&'n str, Span)> {
    let value = node.get(key)?;
    Some((value.as_text()?, value.span))
}
