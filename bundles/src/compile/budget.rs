//! `budgets:` of a connector and of a connection into [`Budget`]s.

use chrono::NaiveTime;
use chrono_tz::Tz;

use super::{connection::Compiled, connection::or_hint, constant, names::Names, verdicts::answer_names};
use crate::{
    budget::{BUDGETS_MAX, Budget, Charge, Truth, WINDOW_MS_MAX, WINDOW_MS_MIN, Window},
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt, suggest::suggest},
    duration,
    manifest::Manifest,
    template::Template,
    words::Words,
    yaml::{Entry, Node, Span},
};

/// Reports what is wrong with the budgets of a manifest on their own, and with what its actions cost.
pub fn check_manifest(manifest: &Manifest, answers: &Names<'_>, out: &mut Diagnostics) {
    let entries = manifest.budgets.as_ref().and_then(Node::as_map).unwrap_or_default();
    if let Some(further) = entries.get(BUDGETS_MAX) {
        out.push(too_many(further));
    }
    for entry in entries {
        let budget = budget(entry, chrono_tz::UTC, out);
        templates(&entry.value).for_each(|node| constant::check(node, answers, out));
        for action in &manifest.actions {
            too_dear(&budget, action.cost, action.span, out);
        }
    }
}

/// The budgets of a connection: its connector's with the amounts that it says, and its own.
pub fn compile(manifest: &Manifest, own: Option<&Node>, zone: Tz, out: &mut Diagnostics) -> Vec<Budget> {
    let own = own.and_then(Node::as_map).unwrap_or_default();
    let given = manifest.budgets.as_ref().and_then(Node::as_map).unwrap_or_default();
    // What is wrong with them was reported where they stand.
    let mut budgets: Vec<Budget> =
        given.iter().map(|entry| budget(entry, zone, &mut Diagnostics::default())).collect();
    for entry in own {
        let known = budgets.iter_mut().find(|budget| budget.name == entry.key);
        match (entry.value.as_integer(), known) {
            (Some(amount), Some(known)) => known.amount = amount,
            (Some(_), None) => out.push(unknown(entry, given)),
            (None, Some(known)) => *known = budget(entry, zone, out),
            (None, None) => budgets.push(budget(entry, zone, out)),
        }
        if let Some(budget) = budgets.iter().find(|budget| budget.name == entry.key) {
            for action in &manifest.actions {
                too_dear(budget, action.cost, entry.value.span, out);
            }
        }
    }
    if let Some(last) = own.last().filter(|_| budgets.len() > BUDGETS_MAX) {
        out.push(too_many(last));
    }
    budgets
}

/// Where answers say what is left.
pub fn truths(compiled: &Compiled, own: Option<&Node>, out: &mut Diagnostics) -> Vec<Truth> {
    let given = compiled.connector.manifest.budgets.as_ref();
    let names = answer_names(compiled);
    let mut found = Vec::new();
    for Budget { name, .. } in compiled.connection.budgets.iter().filter(|budget| budget.told) {
        let entry = |node: Option<&Node>| node?.get(name).filter(|node| node.as_map().is_some()).cloned();
        let Some(truth) = entry(own).or_else(|| entry(given)).and_then(|node| node.get("truth").cloned())
        else {
            continue;
        };
        let mut template = |key: &str| {
            let node = truth.get(key)?;
            let mut template = Template::parse(node, out)?;
            template.check(&names, node.span, false, out)?;
            Some(template)
        };
        let Some(remaining) = template("remaining") else { continue };
        found.push(Truth { budget: name.clone(), remaining, reset: template("reset") });
    }
    found
}

fn templates(budget: &Node) -> impl Iterator<Item = &Node> {
    let truth = budget.get("truth");
    ["remaining", "reset"].into_iter().filter_map(move |key| truth?.get(key))
}

/// One budget; its shape was checked.
fn budget(entry: &Entry, zone: Tz, out: &mut Diagnostics) -> Budget {
    let node = &entry.value;
    let number = |key| node.get(key).and_then(Node::as_integer);
    Budget {
        name: entry.key.clone(),
        amount: number("amount").unwrap_or(1),
        window: window(node, zone, out),
        charge: match node.get("charge").and_then(Node::as_text) {
            Some("on_success") => Charge::OnSuccess,
            _ => Charge::Always,
        },
        reserve_percent: number("reserve").unwrap_or(0),
        told: node.get("truth").is_some(),
    }
}

fn window(node: &Node, zone: Tz, out: &mut Diagnostics) -> Window {
    let per = node.get("per");
    let read = per.and_then(Node::as_text).and_then(|text| duration::parse(text).ok());
    let ms = read.and_then(|ms| i64::try_from(ms).ok()).unwrap_or(WINDOW_MS_MIN);
    let span = per.map_or(node.span, |per| per.span);
    if !(WINDOW_MS_MIN..=WINDOW_MS_MAX).contains(&ms) {
        let message = Words::new("a budget is for 1 s to 31 d", "бюджет — на время от 1 с до 31 дня");
        let hint = Words::new("write `1s`, `1m`, `1h` or `1d`", "укажите `1s`, `1m`, `1h` или `1d`");
        out.push(Diagnostic::error(Code::BadValue, span, message).with_hint(hint));
    }
    let Some(resets) = node.get("resets") else { return Window::Rolling { ms } };
    if ms != crate::budget::DAY_MS {
        let message = Words::new(
            "what begins anew at a time of day is for a day",
            "что начинается заново в час суток, считается за сутки",
        );
        let hint =
            Words::new("write `per: 1d`, or take `resets` out", "укажите `per: 1d` или уберите `resets`");
        out.push(Diagnostic::error(Code::BadValue, span, message).with_hint(hint));
    }
    let own = resets.get("time_zone").and_then(Node::as_text).and_then(|zone| zone.parse().ok());
    Window::Daily { at: time_of_day(resets, out), zone: own.unwrap_or(zone) }
}

fn time_of_day(resets: &Node, out: &mut Diagnostics) -> NaiveTime {
    let Some(at) = resets.get("at") else { return NaiveTime::MIN };
    let text = at.as_text().unwrap_or_default();
    NaiveTime::parse_from_str(text, "%H:%M").unwrap_or_else(|_| {
        let message = Words::new(
            format!("`{}` is not a time of day", excerpt(text)),
            format!("`{}` — не время суток", excerpt(text)),
        );
        let hint = Words::new("write it as `\"00:00\"`", "пишите так: `\"00:00\"`");
        out.push(Diagnostic::error(Code::BadValue, at.span, message).with_hint(hint));
        NaiveTime::MIN
    })
}

/// An action that costs more than there ever is.
fn too_dear(budget: &Budget, cost: i64, span: Span, out: &mut Diagnostics) {
    if cost > budget.amount {
        let (name, amount) = (&budget.name, budget.amount);
        let message = Words::new(
            format!("an action costs {cost}, and the budget `{name}` holds {amount}"),
            format!("действие стоит {cost}, а в бюджете `{name}` всего {amount}"),
        );
        let hint =
            Words::new("raise the amount, or lower the `cost`", "увеличьте бюджет или уменьшите `cost`");
        out.push(Diagnostic::error(Code::BadValue, span, message).with_hint(hint));
    }
}

fn too_many(further: &Entry) -> Diagnostic {
    let message = Words::new(
        format!("there are more than {BUDGETS_MAX} budgets"),
        format!("бюджетов больше {BUDGETS_MAX}"),
    );
    let hint = Words::new("leave the tightest", "оставьте самые тесные");
    Diagnostic::error(Code::BadValue, further.key_span, message).with_hint(hint)
}

fn unknown(entry: &Entry, given: &[Entry]) -> Diagnostic {
    let name = excerpt(&entry.key);
    let message = Words::new(
        format!("the connector has no budget `{name}`, so an amount says too little"),
        format!("у коннектора нет бюджета `{name}`, одного числа мало"),
    );
    let hint = Words::new(
        format!("write `{name}: {{amount: 7, per: 1s}}`"),
        format!("напишите `{name}: {{amount: 7, per: 1s}}`"),
    );
    let known = given.iter().map(|entry| entry.key.as_str());
    let unknown = Diagnostic::error(Code::BadValue, entry.key_span, message);
    or_hint(unknown.with_suggestion(suggest(&entry.key, known)), hint)
}
