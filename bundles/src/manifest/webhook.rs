//! The inbound half of a manifest: the webhook and the triggers.

use crate::{
    diagnostic::Diagnostics,
    value::Value,
    words::Words,
    yaml::{Node, Span},
};

use super::{
    entries,
    field::{self, FieldSpec},
    flag, items, text, words,
};

/// How events come in. Nodes are constants: literals or templates over the connection's settings.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Where it stands.
    pub span: Span,
    /// List of methods.
    pub methods: Option<Node>,
    /// List of `form`, `query`, `json`.
    pub content: Option<Node>,
    /// Zone of local times.
    pub time_zone: Option<Node>,
    /// Kinds of event: name and title.
    pub kinds: Vec<(String, Words)>,
    /// The fields.
    pub fields: Vec<FieldSpec>,
    /// Further fields, from a setting.
    pub declared: Option<Node>,
    /// One more field for each name of a list.
    pub extra: Option<Extra>,
    /// Field name -> parameter name.
    pub renames: Option<Node>,
    /// Field names that are turned off.
    pub unticked: Option<Node>,
    /// What the sender must satisfy.
    pub checks: Vec<CheckSpec>,
    /// How repeats are recognised.
    pub dedupe: Option<DedupeSpec>,
    /// The answer's status, content type and body.
    pub answer: AnswerSpec,
    /// A filter.
    pub probe: Option<Node>,
}

/// Fields named by a setting.
#[derive(Debug, Clone)]
pub struct Extra {
    /// List of names.
    pub names: Node,
    /// The object field they are in.
    pub under: String,
    /// Whether the bare name works too.
    pub bare: bool,
    /// What each of them is; its name is replaced.
    pub field: FieldSpec,
}

/// One source check.
#[derive(Debug, Clone)]
pub struct CheckSpec {
    /// Where it stands.
    pub span: Span,
    /// Filter over the connection: whether it applies.
    pub when: Option<Node>,
    /// List of networks.
    pub addresses: Option<Node>,
    /// `{name, prefix, secret}`.
    pub header: Option<Node>,
    /// `{user, secret}`.
    pub basic: Option<Node>,
    /// `{style, header, secret, tolerance}`.
    pub hmac: Option<Node>,
}

/// How repeats are recognised.
#[derive(Debug, Clone)]
pub struct DedupeSpec {
    /// Where it stands.
    pub span: Span,
    /// List of fields that do not count.
    pub all_except: Option<Node>,
    /// List of the fields that count.
    pub only: Option<Node>,
    /// A duration.
    pub window: Option<Node>,
    /// `ignore` or `reprocess`.
    pub on_resend: Option<Node>,
}

/// What the vendor is told.
#[derive(Debug, Clone, Default)]
pub struct AnswerSpec {
    /// HTTP status.
    pub status: Option<Node>,
    /// Content type.
    pub content_type: Option<Node>,
    /// Body.
    pub body: Option<Node>,
}

/// A trigger.
#[derive(Debug, Clone)]
pub struct TriggerSpec {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub span: Span,
    /// For people.
    pub title: Words,
    /// Longer, for people; may be empty.
    pub help: Words,
    /// The kinds it can fire on; empty for all.
    pub kinds: Vec<String>,
    /// A filter over the event.
    pub when: Option<Node>,
    /// Choices under `on:`.
    pub options: Vec<OptionSpec>,
    /// Parameters as the vendor sends them.
    pub sample: Vec<(String, Value)>,
}

/// A choice under `on:`.
#[derive(Debug, Clone)]
pub struct OptionSpec {
    /// Its key.
    pub name: String,
    /// For people.
    pub title: Words,
    /// The value when a bundle gives none.
    pub default: Option<String>,
    /// Value, title, filter over the event.
    pub values: Vec<(String, Words, Node)>,
}

/// Reads the webhook section; its shape was checked.
pub fn read(node: &Node, out: &mut Diagnostics) -> Webhook {
    let answer = node.get("answer");
    let part = |key| answer.and_then(|answer| answer.get(key)).cloned();
    Webhook {
        span: node.span,
        methods: node.get("methods").cloned(),
        content: node.get("content").cloned(),
        time_zone: node.get("time_zone").cloned(),
        kinds: entries(node, "kinds").map(|(name, _)| (name.to_owned(), kind_title(node, name))).collect(),
        fields: field::read_all(node.get("fields"), out),
        declared: node.get("declared").cloned(),
        extra: node.get("extra").and_then(|extra| read_extra(extra, out)),
        renames: node.get("renames").cloned(),
        unticked: node.get("unticked").cloned(),
        checks: items(node, "checks").iter().map(read_check).collect(),
        dedupe: node.get("dedupe").map(read_dedupe),
        answer: AnswerSpec { status: part("status"), content_type: part("content_type"), body: part("body") },
        probe: node.get("probe").cloned(),
    }
}

/// Reads one trigger; its shape was checked.
pub fn read_trigger(name: &str, node: &Node) -> TriggerSpec {
    TriggerSpec {
        name: name.to_owned(),
        span: node.span,
        title: words(node, "title"),
        help: words(node, "help"),
        kinds: items(node, "kinds").iter().filter_map(Node::as_text).map(str::to_owned).collect(),
        when: node.get("when").cloned(),
        options: entries(node, "options").map(|(name, option)| read_option(name, option)).collect(),
        sample: entries(node, "sample").map(|(name, value)| (name.to_owned(), value.to_value())).collect(),
    }
}

fn kind_title(node: &Node, name: &str) -> Words {
    node.get("kinds").map(|kinds| words(kinds, name)).unwrap_or_default()
}

fn read_extra(node: &Node, out: &mut Diagnostics) -> Option<Extra> {
    Some(Extra {
        names: node.get("names")?.clone(),
        under: text(node, "under"),
        bare: flag(node, "bare"),
        field: field::read("", node.get("field")?, out),
    })
}

fn read_check(node: &Node) -> CheckSpec {
    CheckSpec {
        span: node.span,
        when: node.get("when").cloned(),
        addresses: node.get("addresses").cloned(),
        header: node.get("header").cloned(),
        basic: node.get("basic").cloned(),
        hmac: node.get("hmac").cloned(),
    }
}

fn read_dedupe(node: &Node) -> DedupeSpec {
    DedupeSpec {
        span: node.span,
        all_except: node.get("all_except").cloned(),
        only: node.get("only").cloned(),
        window: node.get("window").cloned(),
        on_resend: node.get("on_resend").cloned(),
    }
}

fn read_option(name: &str, node: &Node) -> OptionSpec {
    let values = entries(node, "values").filter_map(|(value, choice)| {
        Some((value.to_owned(), words(choice, "title"), choice.get("when")?.clone()))
    });
    OptionSpec {
        name: name.to_owned(),
        title: words(node, "title"),
        default: node.get("default").and_then(Node::as_text).map(str::to_owned),
        values: values.collect(),
    }
}
