//! A manifest's webhook and a connection's settings into a [`Hook`].

use std::{net::IpAddr, sync::Arc};

use super::{
    condition,
    connection::Compiled,
    constant,
    names::{EventNames, Names},
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt, suggest::suggest},
    duration,
    environment::SettingsEnvironment,
    expression::text_of,
    hook::{
        Answer, Content, DEDUPE_WINDOW_MS_MAX, Dedupe, DedupeFields, HmacStyle, Hook, HookField, Network,
        SourceCheck, Trigger, TriggerChoice, TriggerOption,
    },
    manifest::{
        field::{self, FieldSpec},
        webhook::{CheckSpec, DedupeSpec, OptionSpec, TriggerSpec, Webhook},
    },
    path::{Path, Root, Segment},
    value::{Map, Value},
    words::Words,
    yaml::{Node, Span},
};

/// With `on_resend: reprocess`, how long a request that is the same in all its fields is still a client's own repeat of the
/// one before, milliseconds. Later it was sent again on purpose: there need be nothing volatile in it.
const REPEAT_MS: i64 = 60_000;
/// How far a signed time may be from ours when the manifest says nothing: 5 minutes.
const TOLERANCE_MS: i64 = 300_000;
/// The status that says "received" when the manifest says nothing.
const ANSWER_STATUS: u16 = 200;

/// The hook of a connection; none when its connector has no webhook. What is wrong with the settings is in `out`.
pub fn compile(compiled: &Compiled, out: &mut Diagnostics) -> Option<Hook> {
    let manifest = &compiled.connector.manifest;
    let webhook = manifest.webhook.as_ref()?;
    let settings = &compiled.connection.settings;
    let aliases = aliases(webhook, settings);
    let mut hook = Hook {
        connection: Arc::clone(&compiled.connection),
        methods: methods(webhook, settings),
        content: content(webhook, settings),
        fields: fields(webhook, compiled, out),
        renames: Vec::new(),
        aliases,
        closed: webhook.extra.as_ref().map(|extra| extra.under.clone()),
        checks: webhook.checks.iter().filter_map(|check| source_check(check, compiled, out)).collect(),
        dedupe: webhook.dedupe.as_ref().and_then(|dedupe| dedupe_of(dedupe, settings)),
        answer: answer(webhook, settings),
        probe: None,
        triggers: Vec::new(),
    };
    check_query(&hook, webhook, compiled, out);
    hook.renames = renames(webhook, &hook.fields, compiled, out);
    untick(webhook, compiled, &mut hook.fields, out);
    if let Some(dedupe) = &hook.dedupe {
        check_dedupe(dedupe, webhook, &hook.fields, compiled, out);
    }
    let names = event_names(&hook, "", &[], compiled);
    let probe = webhook
        .probe
        .as_ref()
        .and_then(|probe| condition::compile(probe, &names, &mut Diagnostics::default()));
    let triggers =
        manifest.triggers.iter().map(|trigger| compile_trigger(trigger, &hook, compiled)).collect();
    drop(names);
    hook.probe = probe;
    hook.triggers = triggers;
    Some(hook)
}

/// The names that exist in filters and templates over this hook's events.
pub fn event_names<'a>(
    hook: &'a Hook,
    trigger: &'a str,
    kinds: &'a [String],
    compiled: &'a Compiled,
) -> Names<'a> {
    let zone = hook.connection.time_zone.parse().ok();
    Names {
        event: Some(EventNames {
            fields: &hook.fields,
            aliases: &hook.aliases,
            closed: hook.closed.as_deref(),
            trigger,
            kinds,
            zone,
        }),
        settings: Some(&compiled.fields),
        values: Some(&compiled.connection.settings),
        time_zone: zone,
        ..Names::default()
    }
}

fn methods(webhook: &Webhook, settings: &Map) -> Vec<String> {
    let methods = constant::texts(webhook.methods.as_ref(), settings);
    if methods.is_empty() {
        vec!["POST".to_owned()]
    } else {
        methods.iter().map(|method| method.to_ascii_uppercase()).collect()
    }
}

fn content(webhook: &Webhook, settings: &Map) -> Vec<Content> {
    let words = constant::texts(webhook.content.as_ref(), settings);
    let content = words.iter().filter_map(|word| match word.as_str() {
        "form" => Some(Content::Form),
        "query" => Some(Content::Query),
        "json" => Some(Content::Json),
        _ => None,
    });
    content.collect()
}

/// Warnings only: some vendors try the address by a bare GET and send events by POST, and some say in the URL what is no secret
/// and sign the rest.
fn check_query(hook: &Hook, webhook: &Webhook, compiled: &Compiled, out: &mut Diagnostics) {
    let is_signed = hook.checks.iter().any(|check| matches!(check, SourceCheck::Hmac { .. }));
    if is_signed && hook.content.contains(&Content::Query) {
        let span = webhook.content.as_ref().map_or(compiled.name_span, |node| compiled.place_of(node));
        let message = Words::new(
            "the signature covers the body alone: whoever has seen one request can send it again with other parameters in the query",
            "подпись защищает только тело: кто видел один запрос, отправит его снова с другими параметрами в URL",
        );
        let hint = Words::new("take `query` out of `content`", "уберите `query` из `content`");
        out.push(Diagnostic::warning(Code::UnsignedQuery, span, message).with_hint(hint));
    }
    if hook.content.contains(&Content::Query) || hook.methods.iter().all(|method| method != "GET") {
        return;
    }
    let span = webhook.methods.as_ref().map_or(compiled.name_span, |node| compiled.place_of(node));
    let message = Words::new(
        "GET brings its parameters in the query of the URL, and the query is not read",
        "GET передаёт параметры в строке запроса URL, а она не читается",
    );
    let hint = Words::new("add `query` to `content`", "добавьте `query` в `content`");
    out.push(Diagnostic::warning(Code::QueryNotRead, span, message).with_hint(hint));
}

/// The manifest's own fields, those a setting declares, and one for each name of `extra`.
fn fields(webhook: &Webhook, compiled: &Compiled, out: &mut Diagnostics) -> Vec<HookField> {
    let mut fields: Vec<HookField> = webhook.fields.iter().map(hook_field).collect();
    let declared = webhook.declared.as_ref().and_then(|node| {
        let name = constant::setting_name(node)?;
        compiled.settings.as_ref()?.get(&name)
    });
    fields.extend(field::read_all(declared, out).iter().map(hook_field));
    if let Some(extra) = &webhook.extra {
        for name in constant::texts(Some(&extra.names), &compiled.connection.settings) {
            let mut field = hook_field(&extra.field);
            field.field.name = format!("{}.{name}", extra.under);
            if field.field.title.en.is_empty() {
                field.field.title = Words::new(&name, &name);
            }
            fields.push(field);
        }
    }
    fields
}

fn hook_field(spec: &FieldSpec) -> HookField {
    HookField {
        field: spec.field.clone(),
        kinds: spec.kinds.clone(),
        sent_always: spec.sent_always,
        embedded_json: spec.embedded_json,
        unticked: false,
    }
}

/// Bare names of extra fields; a declared field of that name keeps it.
fn aliases(webhook: &Webhook, settings: &Map) -> Vec<(String, Path)> {
    let Some(extra) = webhook.extra.as_ref().filter(|extra| extra.bare) else { return Vec::new() };
    let names = constant::texts(Some(&extra.names), settings).into_iter();
    names
        .filter(|name| webhook.fields.iter().all(|field| field.field.name != *name))
        .map(|name| {
            // The place may be in an object in an object; the name is one, dots and all.
            let mut segments: Vec<Segment> = extra.under.split('.').map(Segment::new).collect();
            segments.push(Segment::new(&name));
            (name, Path { root: Root::Event, segments })
        })
        .collect()
}

/// The setting says field -> parameter; decoding needs it the other way round.
fn renames(
    webhook: &Webhook,
    fields: &[HookField],
    compiled: &Compiled,
    out: &mut Diagnostics,
) -> Vec<(String, String)> {
    let Some(node) = &webhook.renames else { return Vec::new() };
    let Value::Object(map) = constant::value(node, &compiled.connection.settings) else { return Vec::new() };
    let mut renames = Vec::new();
    for (field, parameter) in *map {
        check_field(&field, fields, compiled.place_of(node), out);
        if let Value::Text(parameter) = parameter {
            renames.push((parameter.into(), field.into()));
        }
    }
    renames
}

fn untick(webhook: &Webhook, compiled: &Compiled, fields: &mut [HookField], out: &mut Diagnostics) {
    let Some(node) = &webhook.unticked else { return };
    for name in constant::texts(Some(node), &compiled.connection.settings) {
        check_field(&name, fields, compiled.place_of(node), out);
        fields.iter_mut().filter(|field| field.field.name == name).for_each(|field| field.unticked = true);
    }
}

fn check_field(name: &str, fields: &[HookField], span: Span, out: &mut Diagnostics) {
    let known = || fields.iter().map(|field| field.field.name.as_str());
    if known().any(|field| field == name) {
        return;
    }
    let message =
        Words::new(format!("there is no field `{}`", excerpt(name)), format!("поля `{}` нет", excerpt(name)));
    let hint = Words::new("use a field's own name", "укажите имя самого поля");
    let diagnostic =
        Diagnostic::error(Code::UnknownField, span, message).with_suggestion(suggest(name, known()));
    out.push(super::connection::or_hint(diagnostic, hint));
}

fn check_dedupe(
    dedupe: &Dedupe,
    webhook: &Webhook,
    fields: &[HookField],
    compiled: &Compiled,
    out: &mut Diagnostics,
) {
    let (DedupeFields::AllExcept(names) | DedupeFields::Only(names)) = &dedupe.fields;
    let node = webhook.dedupe.as_ref().and_then(|spec| spec.only.as_ref().or(spec.all_except.as_ref()));
    let span = node.map_or(compiled.name_span, |node| compiled.place_of(node));
    names.iter().for_each(|name| check_field(name, fields, span, out));
}

fn dedupe_of(spec: &DedupeSpec, settings: &Map) -> Option<Dedupe> {
    let only = constant::texts(spec.only.as_ref(), settings);
    let reprocess = constant::text(spec.on_resend.as_ref(), settings).as_deref() == Some("reprocess");
    let fields = match (&spec.all_except, spec.only.is_some()) {
        // Every request is an event of its own, also one that is repeated as it was.
        (_, true) if only.is_empty() => return None,
        _ if reprocess => DedupeFields::AllExcept(Vec::new()),
        (_, true) => DedupeFields::Only(only),
        (except, false) => DedupeFields::AllExcept(constant::texts(except.as_ref(), settings)),
    };
    let window_ms = duration_ms(spec.window.as_ref(), DEDUPE_WINDOW_MS_MAX);
    Some(Dedupe { fields, window_ms: if reprocess { window_ms.min(REPEAT_MS) } else { window_ms } })
}

fn duration_ms(node: Option<&Node>, otherwise_ms: i64) -> i64 {
    let parsed = node.and_then(Node::as_text).and_then(|text| duration::parse(text).ok());
    parsed.and_then(|ms| i64::try_from(ms).ok()).unwrap_or(otherwise_ms)
}

fn answer(webhook: &Webhook, settings: &Map) -> Answer {
    let part = |node: &Option<Node>| constant::text(node.as_ref(), settings).unwrap_or_default();
    Answer {
        status: part(&webhook.answer.status).parse().unwrap_or(ANSWER_STATUS),
        content_type: part(&webhook.answer.content_type),
        body: part(&webhook.answer.body),
    }
}

fn source_check(spec: &CheckSpec, compiled: &Compiled, out: &mut Diagnostics) -> Option<SourceCheck> {
    let settings = &compiled.connection.settings;
    let names = Names { settings: Some(&compiled.fields), values: Some(settings), ..Names::default() };
    if spec.when.as_ref().is_some_and(|when| !condition::holds(when, &names, &SettingsEnvironment(settings)))
    {
        return None;
    }
    if let Some(node) = &spec.addresses {
        let networks = networks(node, compiled, out);
        return (!networks.is_empty()).then_some(SourceCheck::Addresses(networks));
    }
    let part = spec.header.as_ref().or(spec.basic.as_ref()).or(spec.hmac.as_ref())?;
    let text = |key| constant::text(part.get(key), settings).unwrap_or_default();
    let secret = text("secret");
    if compiled.connection.secret(&secret).is_none() {
        out.push(super::secret::unknown(&secret, &compiled.connection, compiled.name_span));
    }
    Some(if spec.header.is_some() {
        SourceCheck::Header { name: text("name").to_ascii_lowercase(), prefix: text("prefix"), secret }
    } else if spec.basic.is_some() {
        SourceCheck::Basic { user: text("user"), secret }
    } else {
        let header = text("header").to_ascii_lowercase();
        let style = match text("style").as_str() {
            "github" => HmacStyle::Github { header },
            "timestamped" => HmacStyle::Timestamped { header },
            _ => HmacStyle::StandardWebhooks,
        };
        SourceCheck::Hmac { style, secret, tolerance_ms: duration_ms(part.get("tolerance"), TOLERANCE_MS) }
    })
}

fn networks(node: &Node, compiled: &Compiled, out: &mut Diagnostics) -> Vec<Network> {
    let mut networks = Vec::new();
    let given = match constant::value(node, &compiled.connection.settings) {
        Value::Null => Vec::new(),
        Value::List(items) => items,
        one => vec![one],
    };
    for item in given {
        // A blank in the list is one too: without a network there is no check, and anybody is let in.
        let text = text_of(&item).ok().flatten().unwrap_or_default();
        match network(&text) {
            Some(network) => networks.push(network),
            None => {
                let message = Words::new(
                    format!("`{}` is not a network", excerpt(&text)),
                    format!("`{}` — не сеть", excerpt(&text)),
                );
                let hint = Words::new("write it as 203.0.113.0/24", "запишите так: 203.0.113.0/24");
                out.push(Diagnostic::error(Code::BadValue, compiled.place_of(node), message).with_hint(hint));
            }
        }
    }
    networks
}

/// `203.0.113.0/24`, or one address.
fn network(text: &str) -> Option<Network> {
    let (address, prefix) =
        text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.trim().parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Some(bits), |prefix| prefix.trim().parse().ok())?;
    (prefix <= bits).then_some(Network { address, prefix })
}

fn compile_trigger(spec: &TriggerSpec, hook: &Hook, compiled: &Compiled) -> Trigger {
    // A trigger's own filters may read any field: they tell the kinds apart.
    let names = event_names(hook, &spec.name, &[], compiled);
    let filter = |node: &Node| condition::compile(node, &names, &mut Diagnostics::default());
    Trigger {
        name: spec.name.clone(),
        title: spec.title.clone(),
        kinds: spec.kinds.clone(),
        when: spec.when.as_ref().and_then(filter),
        options: spec.options.iter().map(|option| compile_option(option, &filter)).collect(),
        sample: spec.sample.clone(),
    }
}

fn compile_option(
    spec: &OptionSpec,
    filter: &dyn Fn(&Node) -> Option<crate::filter::Filter>,
) -> TriggerOption {
    let values = spec.values.iter().filter_map(|(value, title, when)| {
        Some(TriggerChoice { value: value.clone(), title: title.clone(), when: filter(when)? })
    });
    TriggerOption {
        name: spec.name.clone(),
        title: spec.title.clone(),
        default: spec.default.clone(),
        values: values.collect(),
    }
}
