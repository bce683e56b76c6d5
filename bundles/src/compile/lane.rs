//! `order_by: callerphone`, and under `on:` `settle: {by: id, quiet: 10m}`.

use super::names::Names;
use crate::{
    bundle::{Bundle, named},
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt},
    duration,
    expression::Expression,
    lane::{Keeps, QUIET_MAX_MS, QUIET_MIN_MS, Rule},
    path::{Path, Root},
    types::Type,
    words::Words,
    yaml::{Node, Span},
};

/// How a bundle's runs wait for each other, and how long each waits for a newer one, milliseconds.
pub fn compile(bundle: &Bundle<'_>, names: &Names<'_>, out: &mut Diagnostics) -> Option<(Rule, i64)> {
    let order = bundle.order_by.and_then(|(text, span)| {
        let rule = rule(text, span, Keeps::Every, names, out)?;
        Some((rule, span))
    });
    let Some(settle) = bundle.on.and_then(|on| on.get("settle")) else {
        return order.map(|(rule, _)| (rule, 0));
    };
    let quiet_ms = quiet_ms(settle, out);
    refuse_delay(bundle, settle, out);
    let latest = named(settle, "by").and_then(|(text, span)| rule(text, span, Keeps::Latest, names, out));
    if let (Some((order, span)), Some(latest)) = (order, &latest)
        && order.path != latest.path
    {
        out.push(two_keys(&order.path, &latest.path, span));
    }
    Some((latest?, quiet_ms?))
}

fn rule(text: &str, span: Span, keeps: Keeps, names: &Names<'_>, out: &mut Diagnostics) -> Option<Rule> {
    let Some(path) = Path::parse(text).ok().filter(|_| !text.contains("{{")) else {
        out.push(no_field(text, span));
        return None;
    };
    let mut expression = Expression::from_path(path.clone(), span);
    let typed = expression.check(names, span, out)?;
    if path.root != Root::Event || path.segments.is_empty() {
        out.push(no_field(text, span));
        return None;
    }
    if matches!(typed.ty, Type::List(_) | Type::Map(_) | Type::Object { .. } | Type::Filter) {
        let words = typed.ty.words();
        let message = Words::new(
            format!("`{path}` is {}, and a key is one value", words.en),
            format!("`{path}` — это {}, а ключ — одно значение", words.ru),
        );
        let hint = Words::new(
            "use a field with an id or a phone number",
            "возьмите поле с идентификатором или телефоном",
        );
        out.push(Diagnostic::error(Code::WrongType, span, message).with_hint(hint));
        return None;
    }
    Some(Rule { path, phone: typed.ty == Type::Phone, keeps })
}

fn no_field(text: &str, span: Span) -> Diagnostic {
    let text = excerpt(text);
    let message =
        Words::new(format!("`{text}` is not a field of the event"), format!("`{text}` — не поле события"));
    let hint = Words::new("write the name of a field, without `{{ }}`", "напишите имя поля, без `{{ }}`");
    Diagnostic::error(Code::UnknownField, span, message).with_hint(hint)
}

fn quiet_ms(settle: &Node, out: &mut Diagnostics) -> Option<i64> {
    let (text, span) = named(settle, "quiet")?;
    let ms = i64::try_from(duration::parse(text).ok()?).ok()?;
    if (QUIET_MIN_MS..=QUIET_MAX_MS).contains(&ms) {
        return Some(ms);
    }
    let (least, most) = (QUIET_MIN_MS / 1_000, QUIET_MAX_MS / 86_400_000);
    let message = Words::new(
        format!("`quiet` is between {least} s and {most} days"),
        format!("`quiet` — от {least} с до {most} дней"),
    );
    let hint = Words::new("write a time such as `10m`", "укажите время, например `10m`");
    out.push(Diagnostic::error(Code::BadValue, span, message).with_hint(hint));
    None
}

/// A run of an event that settles waits for `quiet`, and two waits would be one too many to understand.
fn refuse_delay(bundle: &Bundle<'_>, settle: &Node, out: &mut Diagnostics) {
    let Some((text, span)) = bundle.on.and_then(|on| named(on, "delay")) else { return };
    if duration::parse(text).is_ok_and(|ms| ms == 0) {
        return;
    }
    let message = Words::new(
        "`delay` and `settle` cannot stand together: `quiet` is the delay",
        "`delay` и `settle` вместе не пишут: `quiet` и есть задержка",
    );
    let hint = Words::new("remove `delay`", "уберите `delay`");
    let related = Words::new("the other one", "второе");
    out.push(
        Diagnostic::error(Code::BadValue, span, message).with_hint(hint).with_related(settle.span, related),
    );
}

fn two_keys(order: &Path, latest: &Path, span: Span) -> Diagnostic {
    let message = Words::new(
        format!("a run cannot wait for its `{order}` and its `{latest}`: it has one key"),
        format!("запуск не может ждать и `{order}`, и `{latest}`: ключ у него один"),
    );
    let hint = Words::new(
        "remove `order_by`: `settle` already gives one run of a key at a time",
        "уберите `order_by`: при `settle` и так идёт один запуск на ключ",
    );
    Diagnostic::error(Code::BadValue, span, message).with_hint(hint)
}
