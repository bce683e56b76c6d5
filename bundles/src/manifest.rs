//! What a `connector.yaml` says. A connector is a folder of data; adding one touches nothing else.
//!
//! ```yaml
//! kind: connector
//! name: acme
//! title: {en: Acme, ru: Акме}
//! about: {en: …, ru: …}                  # optional
//! settings: {<name>: <field>}            # typed; a connection fills them in
//! secrets: {<name>: {required, title}}   # a connection says where each is kept
//! open_secrets: false                    # true: a connection may name further secrets
//! secret_hosts: [<template>]             # the only origins that may receive a secret
//! authentication: […]                    # the first rule that holds is put into every request
//! webhook: {…}                           # how events come in
//! triggers: {<name>: {…}}                # which events a bundle can ask for
//! actions: {<name>: {…}}                 # which requests a bundle can make
//! verdicts: […]                          # the first rule that holds says what an answer means
//! budgets: {<name>: {…}}                 # how much the vendor lets a connection send
//! ```
//!
//! **Templates over the connection.** Wherever a manifest says `<constant>` below, a literal may stand, or a template that
//! reads `connection.settings` only (`"{{ connection.settings.addresses }}"`); it is computed once, when a connection is compiled.
//!
//! **A field** (settings, event fields, inputs, outputs):
//!
//! ```yaml
//! callerphone:
//!   type: phone        # any text integer decimal boolean phone email url instant local_time duration enum list map object
//!                      # settings also: filter, time_zone, fields (a mapping of names to such fields)
//!   title: {en: …, ru: …}
//!   help: {en: …, ru: …}
//!   required: true     # must be given (settings, inputs)
//!   default: …         # the value when none is given (settings, inputs)
//!   format: unix_s     # of an instant: unix_s | unix_ms | rfc3339
//!   unit: s            # of a duration: ms s m h d w
//!   values: {call: {en: Call, ru: Звонок}}   # of an enum: as it stands in the data -> for people
//!   items: {type: text}                      # of a list or a map
//!   fields: {<name>: <field>}                # of an object; names may be dotted: customer.mobilePhone
//!   open: true                               # of an object: other keys are welcome
//!   no_value: ["null", "<не указано>"]       # words the vendor writes for "no value"
//!   always: true                             # the vendor always sends a real value (default: it may be empty)
//!   personal: true                           # says something about a person
//!   sensitive: true                          # must not be shown
//!   sample: "79990000001"
//!   # event fields only:
//!   kinds: [call_end, request]  # the kinds of event that have it (default: all)
//!   sent: sometimes             # always | sometimes: may the vendor leave the whole parameter out? (default: always)
//!   embedded: json              # its text is itself JSON
//!   # inputs only:
//!   keys: <constant list>       # the only keys that may be given, when the list is not empty
//!   secrets: true               # a secret's placeholder may stand in it
//! ```
//!
//! **The webhook**, all keys optional but `content`:
//!
//! ```yaml
//! webhook:
//!   methods: [POST, GET]                        # <constant>; default POST
//!   content: [form, query, json]                # <constant>; where parameters may stand
//!   time_zone: "{{ connection.settings.time_zone }}"   # <constant>; of local times; default: the workspace's
//!   kinds: {call_start: {en: …, ru: …}, call_end: {en: …, ru: …}, request: {en: …, ru: …}}
//!   fields: {<name>: <field>}
//!   declared: "{{ connection.settings.fields }}"       # <constant>: further fields, from a setting of type `fields`
//!   extra:                                      # one more field for each name in a list
//!     names: "{{ connection.settings.attributes }}"    # <constant>
//!     under: attrs                              # inside this object field: attrs.<name>
//!     bare: true                                # also reachable by the bare name, unless a field has it
//!     field: {type: text, no_value: [undefined]}
//!   renames: "{{ connection.settings.renames }}"       # <constant>: field name -> the parameter's name at the vendor
//!   unticked: "{{ connection.settings.unticked }}"     # <constant>: field names the user turned off at the vendor
//!   checks:                                     # every rule whose `when` holds must pass
//!     - {addresses: "{{ connection.settings.addresses }}"}         # <constant>: networks; an empty list checks nothing
//!     - {when: <filter>, header: {name: X-Token, prefix: "Bearer ", secret: token}}
//!     - {when: <filter>, basic: {user: <constant>, secret: password}}
//!     - {when: <filter>, hmac: {style: github, header: X-Hub-Signature-256, secret: signing_key, tolerance: 5m}}
//!       # style: standard_webhooks | github | timestamped (`t=…,v1=…`)
//!   dedupe:                                     # without it every request is an event of its own
//!     all_except: [reclink, sendingTimestamp]   # <constant>; or `only: [id]`
//!     window: 35d                               # how long a repeat is known; at most this, and this when left out
//!     on_resend: "{{ connection.settings.on_resend }}"  # <constant>: ignore | reprocess (only what is the same in all fields and comes within a minute is a repeat)
//!   answer: {status: 200, content_type: text/plain, body: ok}      # each <constant>
//!   probe: id is empty and requestId is empty   # a filter: answered as success, and no event
//! ```
//!
//! **Triggers**:
//!
//! ```yaml
//! triggers:
//!   call_ended:
//!     title: {en: …, ru: …}
//!     help: {en: …, ru: …}
//!     kinds: [call_end]                         # the kinds it can fire on (default: all); fields of other kinds do not exist for it
//!     when: callphase = "calldisconnected" and changedFields is empty
//!     options:                                  # choices a bundle makes under `on:`
//!       attribution:
//!         title: {en: …, ru: …}
//!         default: last_non_direct              # without a default, events of every value are taken
//!         values:
//!           last_non_direct: {title: {en: …, ru: …}, when: 'attribution = "1"'}
//!           last_interaction: {title: {en: …, ru: …}, when: 'attribution = "0"'}
//!     sample: {id: "700101", callphase: calldisconnected}   # parameters as the vendor sends them
//! ```
//!
//! **Budgets**, several at once; a connection may say other amounts, and budgets of its own:
//!
//! ```yaml
//! budgets:
//!   second: {amount: 7, per: 1s}                # 7 in any second
//!   day:
//!     amount: 3000
//!     per: 1d
//!     resets: {at: "00:00", time_zone: Europe/Moscow}   # else what was spent comes back a day later; the zone: the connection's
//!     charge: on_success                        # always (default): each request that was sent
//!     reserve: 20                               # percent that replays leave to new events
//!     truth:                                    # what the vendor's answers say; templates
//!       remaining: "{{ response.headers.[x-ratelimit-remaining] }}"
//!       reset: "{{ response.headers.[x-ratelimit-reset] }}"   # when it is whole again: as `until` of a verdict
//! ```
//!
//! **Actions and verdicts**: see `connectors/catalog/mindbox` and `http`.

pub mod action;
pub mod field;
pub mod shape;
pub mod webhook;

use crate::{
    diagnostic::Diagnostics,
    words::Words,
    yaml::{Node, Span},
};
use action::{Action, AuthenticationRule, VerdictRule};
use field::FieldSpec;
use webhook::{TriggerSpec, Webhook};

/// A connector's manifest. Templates and filters in it are still nodes: what they mean depends on the connection.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The name connections and bundles use.
    pub name: String,
    /// Where the name stands.
    pub name_span: Span,
    /// For people.
    pub title: Words,
    /// A sentence for people; may be empty.
    pub about: Words,
    /// What a connection fills in.
    pub settings: Vec<FieldSpec>,
    /// The secrets a connection can have.
    pub secrets: Vec<SecretSpec>,
    /// Whether a connection may name further secrets.
    pub open_secrets: bool,
    /// Templates of the origins that may receive a secret.
    pub secret_hosts: Vec<Node>,
    /// Tried in order.
    pub authentication: Vec<AuthenticationRule>,
    /// How events come in.
    pub webhook: Option<Webhook>,
    /// What a bundle can be triggered by.
    pub triggers: Vec<TriggerSpec>,
    /// What a bundle can do.
    pub actions: Vec<Action>,
    /// Tried in order.
    pub verdicts: Vec<VerdictRule>,
    /// A mapping of names to budgets.
    pub budgets: Option<Node>,
}

/// A secret a connection can have.
#[derive(Debug, Clone)]
pub struct SecretSpec {
    /// Its name.
    pub name: String,
    /// Whether a connection must have it.
    pub required: bool,
    /// For people.
    pub title: Words,
    /// Longer, for people; may be empty.
    pub help: Words,
}

impl Manifest {
    /// Reads a manifest. `None` when it does not have the shape of one; everything that is wrong is in `out`.
    pub fn read(node: &Node, out: &mut Diagnostics) -> Option<Manifest> {
        if !crate::shape::check::check(&shape::manifest(), node, out) {
            return None;
        }
        let name = node.get("name")?;
        Some(Manifest {
            name: text(node, "name"),
            name_span: name.span,
            title: words(node, "title"),
            about: words(node, "about"),
            settings: field::read_all(node.get("settings"), out),
            secrets: entries(node, "secrets").map(|(name, secret)| read_secret(name, secret)).collect(),
            open_secrets: flag(node, "open_secrets"),
            secret_hosts: items(node, "secret_hosts").to_vec(),
            authentication: items(node, "authentication").iter().map(action::read_authentication).collect(),
            webhook: node.get("webhook").map(|webhook| webhook::read(webhook, out)),
            triggers: entries(node, "triggers")
                .map(|(name, trigger)| webhook::read_trigger(name, trigger))
                .collect(),
            actions: entries(node, "actions").map(|(name, action)| action::read(name, action, out)).collect(),
            verdicts: items(node, "verdicts").iter().map(action::read_verdict).collect(),
            budgets: node.get("budgets").cloned(),
        })
    }

    /// The action of that name.
    pub fn action(&self, name: &str) -> Option<&Action> {
        self.actions.iter().find(|action| action.name == name)
    }

    /// The setting of that name.
    pub fn setting(&self, name: &str) -> Option<&FieldSpec> {
        self.settings.iter().find(|setting| setting.field.name == name)
    }
}

fn read_secret(name: &str, node: &Node) -> SecretSpec {
    SecretSpec {
        name: name.to_owned(),
        required: flag(node, "required"),
        title: words(node, "title"),
        help: words(node, "help"),
    }
}

/// The text under a key; empty when there is none.
pub(crate) fn text(node: &Node, key: &str) -> String {
    node.get(key).and_then(Node::as_text).unwrap_or_default().to_owned()
}

/// True when the key holds `true`.
pub(crate) fn flag(node: &Node, key: &str) -> bool {
    node.get(key).and_then(Node::as_bool).unwrap_or(false)
}

/// The items under a key; none when there is no list.
pub(crate) fn items<'n>(node: &'n Node, key: &str) -> &'n [Node] {
    node.get(key).and_then(Node::as_list).unwrap_or_default()
}

/// The entries under a key; none when there is no mapping.
pub(crate) fn entries<'n>(node: &'n Node, key: &str) -> impl Iterator<Item = (&'n str, &'n Node)> {
    let entries = node.get(key).and_then(Node::as_map).unwrap_or_default();
    entries.iter().map(|entry| (entry.key.as_str(), &entry.value))
}

/// `{en, ru}` under a key; empty when there is none.
pub(crate) fn words(node: &Node, key: &str) -> Words {
    node.get(key).map(|node| Words::new(text(node, "en"), text(node, "ru"))).unwrap_or_default()
}
