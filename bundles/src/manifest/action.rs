//! The outbound half of a manifest: authentication, actions, verdicts.

use crate::{
    diagnostic::Diagnostics,
    verdict::Class,
    words::Words,
    yaml::{Node, Span},
};

use super::{
    field::{self, FieldSpec},
    text, words,
};

/// What is put into every request of a connection, when its `when` holds.
#[derive(Debug, Clone)]
pub struct AuthenticationRule {
    /// Where it stands.
    pub span: Span,
    /// A filter over the connection; none always holds.
    pub when: Option<Node>,
    /// Mapping of header names to values; both templates, values may hold secrets.
    pub headers: Option<Node>,
    /// Mapping of query parameters to values.
    pub query: Option<Node>,
    /// `{user, password}`.
    pub basic: Option<Node>,
}

/// One operation a connector offers.
#[derive(Debug, Clone)]
pub struct Action {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub span: Span,
    /// For people.
    pub title: Words,
    /// Longer, for people; may be empty.
    pub help: Words,
    /// What a repeat after a lost answer does.
    pub unknown: Repeat,
    /// What a request of it takes from each budget of its connection.
    pub cost: i64,
    /// What a bundle gives it.
    pub input: Vec<FieldSpec>,
    /// The HTTP request.
    pub request: RequestSpec,
    /// What later steps see as `steps.<name>.body`; anything when it says nothing.
    pub output: Vec<FieldSpec>,
    /// How to ask the vendor whether a request worked whose answer was lost.
    pub probe: Option<ProbeSpec>,
}

impl Action {
    /// Its request, and the question about it.
    pub fn requests(&self) -> impl Iterator<Item = &RequestSpec> {
        std::iter::once(&self.request).chain(self.probe.as_ref().map(|probe| &probe.request))
    }
}

/// A question to the vendor about a request whose answer was lost.
#[derive(Debug, Clone)]
pub struct ProbeSpec {
    /// The question; it changes nothing at the vendor.
    pub request: RequestSpec,
    /// A filter over its answer: the vendor has what was sent.
    pub found: Node,
    /// A filter over its answer: the vendor does not have it.
    pub absent: Node,
}

/// What a repeat does when it is not known whether the first request worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Nothing more: the operation is idempotent by itself.
    Idempotent,
    /// Nothing more: the vendor knows it by the idempotency key.
    Keyed,
    /// Perhaps the same thing twice; a person decides.
    None,
}

/// An action's request; every node is a template, or a list or mapping of them.
#[derive(Debug, Clone)]
pub struct RequestSpec {
    /// Where it stands.
    pub span: Span,
    /// The method.
    pub method: Option<Node>,
    /// One URL, or a list of which the first that was given counts.
    pub url: Option<Node>,
    /// A mapping, a template of one, or a list of these.
    pub query: Option<Node>,
    /// The same.
    pub headers: Option<Node>,
    /// `json`, `form`, `raw` or `none`.
    pub encoding: Option<Node>,
    /// `Content-Type`, when it is not the usual one of the encoding.
    pub content_type: Option<Node>,
    /// A template, or a list of which the first that was given counts.
    pub body: Option<Node>,
    /// A duration.
    pub timeout: Option<Node>,
}

/// One rule about answers.
#[derive(Debug, Clone)]
pub struct VerdictRule {
    /// Where it stands.
    pub span: Span,
    /// When it holds.
    pub when: VerdictWhen,
    /// What it says.
    pub class: Class,
    /// For people; empty for the usual words of the class.
    pub message: Words,
    /// A template over the answer: what the vendor said.
    pub detail: Option<Node>,
    /// A template over the answer: when to try again, in seconds or as a moment.
    pub until: Option<Node>,
}

/// When a rule about answers holds.
#[derive(Debug, Clone)]
pub enum VerdictWhen {
    /// A filter over the answer.
    Filter(Node),
    /// The filter in this setting; never, when it was not given.
    Setting(String),
    /// Whether this setting was given.
    SettingGiven(String),
}

/// Reads one authentication rule; its shape was checked.
pub fn read_authentication(node: &Node) -> AuthenticationRule {
    AuthenticationRule {
        span: node.span,
        when: node.get("when").cloned(),
        headers: node.get("headers").cloned(),
        query: node.get("query").cloned(),
        basic: node.get("basic").cloned(),
    }
}

/// Reads one action; its shape was checked.
pub fn read(name: &str, node: &Node, out: &mut Diagnostics) -> Action {
    Action {
        name: name.to_owned(),
        span: node.span,
        title: words(node, "title"),
        help: words(node, "help"),
        unknown: match text(node, "unknown").as_str() {
            "idempotent" => Repeat::Idempotent,
            "keyed" => Repeat::Keyed,
            _ => Repeat::None,
        },
        cost: node.get("cost").and_then(Node::as_integer).unwrap_or(1),
        input: field::read_all(node.get("input"), out),
        request: read_request(node.get("request").unwrap_or(node)),
        output: field::read_all(node.get("output"), out),
        probe: node.get("probe").and_then(read_probe),
    }
}

fn read_probe(node: &Node) -> Option<ProbeSpec> {
    let mut request = read_request(node.get("request")?);
    request.method.get_or_insert_with(|| Node::text("GET", node.span));
    Some(ProbeSpec { request, found: node.get("found")?.clone(), absent: node.get("absent")?.clone() })
}

fn read_request(node: &Node) -> RequestSpec {
    RequestSpec {
        span: node.span,
        method: node.get("method").cloned(),
        url: node.get("url").cloned(),
        query: node.get("query").cloned(),
        headers: node.get("headers").cloned(),
        encoding: node.get("encoding").cloned(),
        content_type: node.get("content_type").cloned(),
        body: node.get("body").cloned(),
        timeout: node.get("timeout").cloned(),
    }
}

/// Reads one rule about answers; its shape was checked.
pub fn read_verdict(node: &Node) -> VerdictRule {
    VerdictRule {
        span: node.span,
        when: read_verdict_when(node),
        class: Class::from_name(&text(node, "verdict")).unwrap_or(Class::Retry),
        message: words(node, "message"),
        detail: node.get("detail").cloned(),
        until: node.get("until").cloned(),
    }
}

fn read_verdict_when(node: &Node) -> VerdictWhen {
    let when = node.get("when").unwrap_or(node);
    match (when.get("setting"), when.get("setting_given")) {
        (Some(_), _) => VerdictWhen::Setting(text(when, "setting")),
        (None, Some(_)) => VerdictWhen::SettingGiven(text(when, "setting_given")),
        (None, None) => VerdictWhen::Filter(when.clone()),
    }
}

/// Alternatives: the items of a list, or the one node.
pub fn alternatives(node: Option<&Node>) -> Vec<&Node> {
    match node {
        None => Vec::new(),
        Some(node) => node.as_list().map_or_else(|| vec![node], |items| items.iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::FileId;

    #[test]
    fn a_rule_can_read_a_setting_of_the_connection() {
        let mut out = Diagnostics::default();
        let text = "{when: {setting: success}, verdict: ok}";
        let node = crate::yaml::parse(FileId(0), text, &mut out).expect("yaml");
        let rule = read_verdict(&node);
        assert!(matches!(rule.when, VerdictWhen::Setting(name) if name == "success"));
        assert_eq!(rule.class, Class::Ok);
    }
}
