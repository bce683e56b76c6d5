//! Checks of a manifest on its own: every filter and template in it, before any connection uses it.

use super::{
    budget, condition, constant, header,
    input::sure,
    names::{EventNames, Names},
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt, suggest::suggest},
    duration,
    hook::{DEDUPE_WINDOW_MS_MAX, HookField},
    manifest::{
        Manifest,
        action::{Action, VerdictRule, VerdictWhen, alternatives},
        webhook::{DedupeSpec, TriggerSpec, Webhook},
    },
    template::Template,
    types::Field,
    verdict::Disposition,
    words::Words,
    yaml::{Kind, Node, Span},
};

/// Reports all that is wrong with the manifest's filters, templates and references.
pub fn check(manifest: &Manifest, out: &mut Diagnostics) {
    let settings: Vec<Field> = manifest.settings.iter().map(|setting| setting.field.clone()).collect();
    let names = Names { settings: Some(&settings), ..Names::default() };
    manifest.secret_hosts.iter().for_each(|host| constant::check(host, &names, out));
    for rule in &manifest.authentication {
        if let Some(when) = &rule.when {
            condition::compile(when, &names, out);
        }
        let places = [&rule.headers, &rule.query, &rule.basic].into_iter().flatten();
        places.for_each(|node| check_secrets(node, manifest, &names, out));
        rule.headers.iter().for_each(|node| check_header_names(node, out));
    }
    if let Some(webhook) = &manifest.webhook {
        check_webhook(webhook, manifest, &settings, out);
    }
    manifest.actions.iter().for_each(|action| check_action(action, &settings, out));
    let answers = Names { settings: Some(&settings), response: true, ..Names::default() };
    manifest.verdicts.iter().for_each(|rule| check_verdict(rule, manifest, &answers, out));
    budget::check_manifest(manifest, &answers, out);
}

/// Templates in which secrets may stand, and the secrets they name.
fn check_secrets(node: &Node, manifest: &Manifest, names: &Names<'_>, out: &mut Diagnostics) {
    match &node.kind {
        Kind::Map(entries) => {
            entries.iter().for_each(|entry| check_secrets(&entry.value, manifest, names, out))
        }
        Kind::Text { text, .. } if Template::is_template(text) => {
            let Some(mut template) = Template::parse(node, out) else { return };
            template.check(&relaxed(names), node.span, true, out);
            for (name, span) in super::secret::names(&template) {
                if !manifest.open_secrets && manifest.secrets.iter().all(|secret| secret.name != name) {
                    let known = manifest.secrets.iter().map(|secret| secret.name.as_str());
                    out.push(unknown(Code::UnknownSecret, ("secret", "секрета"), name, known, span));
                }
            }
        }
        Kind::Text { .. } | Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::List(_) => {}
    }
}

/// A setting that one rule needs is there when the rule holds; the connection's own check says when it is not.
fn relaxed<'a>(names: &Names<'a>) -> Names<'a> {
    Names { settings: names.settings, settings_are_given: true, ..Names::default() }
}

fn check_webhook(webhook: &Webhook, manifest: &Manifest, settings: &[Field], out: &mut Diagnostics) {
    let names = Names { settings: Some(settings), ..Names::default() };
    let constants = [
        &webhook.methods,
        &webhook.content,
        &webhook.time_zone,
        &webhook.declared,
        &webhook.renames,
        &webhook.unticked,
        &webhook.answer.status,
        &webhook.answer.content_type,
        &webhook.answer.body,
    ];
    constants.into_iter().flatten().for_each(|node| constant::check(node, &names, out));
    if let Some(extra) = &webhook.extra {
        constant::check(&extra.names, &names, out);
    }
    for check in &webhook.checks {
        if let Some(when) = &check.when {
            condition::compile(when, &names, out);
        }
        let parts = [&check.addresses, &check.header, &check.basic, &check.hmac].into_iter().flatten();
        parts.for_each(|node| constant::check(node, &names, out));
    }
    if let Some(dedupe) = &webhook.dedupe {
        let parts = [&dedupe.all_except, &dedupe.only, &dedupe.on_resend].into_iter().flatten();
        parts.for_each(|node| constant::check(node, &names, out));
        check_window(dedupe, out);
    }
    check_kinds(webhook, manifest, out);
    let fields = plain_fields(webhook);
    let event = |trigger: &'_ str| event_names(&fields, trigger, settings);
    if let Some(probe) = &webhook.probe {
        condition::compile(probe, &event(""), out);
    }
    manifest.triggers.iter().for_each(|trigger| check_trigger(trigger, &event(&trigger.name), out));
}

fn check_window(dedupe: &DedupeSpec, out: &mut Diagnostics) {
    let Some(node) = &dedupe.window else { return };
    let ms = node.as_text().and_then(|text| duration::parse(text).ok());
    if ms.is_some_and(|ms| i64::try_from(ms).map_or(true, |ms| !(1..=DEDUPE_WINDOW_MS_MAX).contains(&ms))) {
        let message = Words::new(
            "repeats are known for some time, 35 days at most",
            "повторы узнаются какое-то время, не дольше 35 дней",
        );
        let hint = Words::new("write `35d`, or leave it out", "укажите `35d` или уберите");
        out.push(Diagnostic::error(Code::BadValue, node.span, message).with_hint(hint));
    }
}

fn event_names<'a>(fields: &'a [HookField], _trigger: &str, settings: &'a [Field]) -> Names<'a> {
    Names {
        event: Some(EventNames {
            fields,
            aliases: &[],
            closed: None,
            trigger: "",
            kinds: &[],
            zone: Some(chrono_tz::UTC),
        }),
        settings: Some(settings),
        ..Names::default()
    }
}

fn plain_fields(webhook: &Webhook) -> Vec<HookField> {
    let fields = webhook.fields.iter().map(|spec| HookField {
        field: spec.field.clone(),
        kinds: spec.kinds.clone(),
        sent_always: spec.sent_always,
        embedded_json: spec.embedded_json,
        unticked: false,
    });
    fields.collect()
}

fn check_kinds(webhook: &Webhook, manifest: &Manifest, out: &mut Diagnostics) {
    let known = || webhook.kinds.iter().map(|(name, _)| name.as_str());
    let of_fields = webhook.fields.iter().map(|field| (&field.kinds, field.span));
    let of_triggers = manifest.triggers.iter().map(|trigger| (&trigger.kinds, trigger.span));
    for (kinds, span) in of_fields.chain(of_triggers) {
        for kind in kinds.iter().filter(|kind| !known().any(|name| name == kind.as_str())) {
            out.push(unknown(Code::BadValue, ("kind", "вида"), kind, known(), span));
        }
    }
}

fn check_trigger(trigger: &TriggerSpec, names: &Names<'_>, out: &mut Diagnostics) {
    if let Some(when) = &trigger.when {
        condition::compile(when, names, out);
    }
    for option in &trigger.options {
        option.values.iter().for_each(|(_, _, when)| {
            condition::compile(when, names, out);
        });
        let known = || option.values.iter().map(|(value, _, _)| value.as_str());
        if let Some(default) =
            option.default.as_ref().filter(|default| !known().any(|value| value == default.as_str()))
        {
            out.push(unknown(Code::BadValue, ("value", "значения"), default, known(), trigger.span));
        }
    }
}

fn check_action(action: &Action, settings: &[Field], out: &mut Diagnostics) {
    let input: Vec<Field> = action.input.iter().map(|spec| sure(&spec.field)).collect();
    let constants = Names { settings: Some(settings), ..Names::default() };
    let keys = action.input.iter().filter_map(|spec| spec.keys.as_ref());
    keys.for_each(|node| constant::check(node, &constants, out));
    let names = Names {
        settings: Some(settings),
        input: Some(&input),
        delivery: true,
        settings_are_given: true,
        ..Names::default()
    };
    for spec in action.requests() {
        alternatives(spec.headers.as_ref()).into_iter().for_each(|node| check_header_names(node, out));
        let parts = [
            &spec.method,
            &spec.url,
            &spec.query,
            &spec.headers,
            &spec.encoding,
            &spec.content_type,
            &spec.body,
        ];
        parts.into_iter().flatten().for_each(|node| constant::check(node, &names, out));
    }
    if let Some(probe) = &action.probe {
        let answers = Names { settings: Some(settings), response: true, ..Names::default() };
        condition::compile(&probe.found, &answers, out);
        condition::compile(&probe.absent, &answers, out);
    }
}

/// Names that are written out; those that stand in settings are the connection's to check.
fn check_header_names(headers: &Node, out: &mut Diagnostics) {
    for entry in headers.as_map().unwrap_or_default() {
        if !Template::is_template(&entry.key) {
            header::check_sendable(&entry.key, entry.key_span, out);
        }
    }
}

fn check_verdict(rule: &VerdictRule, manifest: &Manifest, names: &Names<'_>, out: &mut Diagnostics) {
    match &rule.when {
        VerdictWhen::Filter(node) => {
            condition::compile(node, names, out);
        }
        VerdictWhen::Setting(name) | VerdictWhen::SettingGiven(name) => {
            if manifest.setting(name).is_none() {
                let known = manifest.settings.iter().map(|setting| setting.field.name.as_str());
                out.push(unknown(Code::UnknownField, ("setting", "настройки"), name, known, rule.span));
            }
        }
    }
    [&rule.detail, &rule.until].into_iter().flatten().for_each(|node| constant::check(node, names, out));
    if let Some(until) = rule.until.as_ref().filter(|_| rule.class.disposition() != Disposition::Repeat) {
        let class = rule.class.name();
        let message = Words::new(
            format!("`{class}` is not tried again, so `until` says nothing"),
            format!("при `{class}` повтора нет, и `until` ничего не значит"),
        );
        let hint = Words::new(
            "take it out, or say `rate_limited`, `quota_exhausted` or `retry`",
            "уберите его или укажите `rate_limited`, `quota_exhausted` или `retry`",
        );
        out.push(Diagnostic::error(Code::BadValue, until.span, message).with_hint(hint));
    }
}

fn unknown<'a>(
    code: Code,
    what: (&str, &str),
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    span: Span,
) -> Diagnostic {
    let message = Words::new(
        format!("there is no {} `{}`", what.0, excerpt(name)),
        format!("нет {} `{}`", what.1, excerpt(name)),
    );
    let all = known.clone().collect::<Vec<_>>().join(", ");
    let hint = if all.is_empty() {
        Words::new("declare it first", "сначала объявите")
    } else {
        Words::new(format!("there are: {all}"), format!("есть: {all}"))
    };
    let diagnostic = Diagnostic::error(code, span, message).with_suggestion(suggest(name, known));
    super::connection::or_hint(diagnostic, hint)
}
