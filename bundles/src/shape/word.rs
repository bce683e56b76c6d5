//! Shapes of a single word: text, numbers, names, choices.

use super::{Choice, NAME_CHARS_MAX, Shape, check::wrong_kind, describe};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt, suggest::suggest},
    duration,
    words::Words,
    yaml::{Node, Span},
};

pub(super) fn check(shape: &Shape, node: &Node, out: &mut Diagnostics) -> bool {
    if !describe::fits(shape, node) {
        return wrong_kind(shape, node, out);
    }
    let text = node.as_text().unwrap_or_default();
    let problem = match shape {
        Shape::Integer { min, max } => outside(shape, *min, *max, node),
        Shape::Duration => duration::parse(text).is_err().then(|| not_a_duration(text, node.span)),
        Shape::Name => return name(text, node.span, out),
        Shape::Url => (!is_url(text)).then(|| not_what(shape, text, node.span)),
        Shape::TimeZone => unknown_zone(shape, text, node.span),
        Shape::Choice(choices) => not_a_choice(shape, choices, text, node.span),
        Shape::Const(word) => (text != word).then(|| not_what(shape, text, node.span)),
        Shape::Any
        | Shape::Text
        | Shape::Bool
        | Shape::Number
        | Shape::List(_)
        | Shape::Map { .. }
        | Shape::Object(_)
        | Shape::OneOf(_)
        | Shape::Filter
        | Shape::Template(_)
        | Shape::Mapping(_)
        | Shape::Secret
        | Shape::Named { .. } => None,
    };
    let fine = problem.is_none();
    problem.into_iter().for_each(|problem| out.push(problem));
    fine
}

/// Is it a name? Says so when not.
pub(super) fn name(text: &str, span: Span, out: &mut Diagnostics) -> bool {
    let fine = is_name(text);
    if !fine {
        let shown = excerpt(text);
        let words = Words::new(format!("`{shown}` is not a name"), format!("`{shown}` — не имя"));
        let rule = Words::new(
            format!(
                "lower-case Latin letters, digits, `-` and `_`, up to {NAME_CHARS_MAX}, the first a letter or a digit"
            ),
            format!(
                "строчные латинские буквы, цифры, `-` и `_`, не больше {NAME_CHARS_MAX}, первой — буква или цифра"
            ),
        );
        let lower = text.trim().to_lowercase().replace(' ', "-");
        let nearest = is_name(&lower).then_some(lower);
        let diagnostic = Diagnostic::error(Code::BadName, span, words).with_suggestion(nearest);
        out.push(if diagnostic.hint.is_some() { diagnostic } else { diagnostic.with_hint(rule) });
    }
    fine
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= NAME_CHARS_MAX
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|byte| plain(byte) || matches!(byte, b'-' | b'_'))
}

/// Scheme, host, nothing that is not seen. What the address leads to is checked when it is used.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_alphanumeric() || c == '['))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn outside(shape: &Shape, min: Option<i64>, max: Option<i64>, node: &Node) -> Option<Diagnostic> {
    let value = node.as_integer()?;
    let inside = min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max);
    (!inside).then(|| not_what(shape, &value.to_string(), node.span))
}

fn not_a_duration(text: &str, span: Span) -> Diagnostic {
    let shown = excerpt(text);
    let words = Words::new(format!("`{shown}` is not a duration"), format!("`{shown}` — не длительность"));
    let hint = Words::new(
        "a number and a unit: `500ms`, `30s`, `15m`, `1h30m`, `2d`, `1w`",
        "число и единица: `500ms`, `30s`, `15m`, `1h30m`, `2d`, `1w`",
    );
    Diagnostic::error(Code::BadDuration, span, words).with_hint(hint)
}

fn unknown_zone(shape: &Shape, text: &str, span: Span) -> Option<Diagnostic> {
    if text.parse::<chrono_tz::Tz>().is_ok() {
        return None;
    }
    let known = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
    let city = |name: &'static str| name.rsplit('/').next().unwrap_or(name);
    let same_city = known().find(|name| city(name).eq_ignore_ascii_case(text)).map(str::to_owned);
    Some(not_what(shape, text, span).with_suggestion(same_city.or_else(|| suggest(text, known()))))
}

fn not_a_choice(shape: &Shape, choices: &[Choice], text: &str, span: Span) -> Option<Diagnostic> {
    let words = || choices.iter().map(|choice| choice.value.as_str());
    let known = words().any(|word| word == text);
    (!known).then(|| not_what(shape, text, span).with_suggestion(suggest(text, words())))
}

/// "expected …, found `…`".
fn not_what(shape: &Shape, text: &str, span: Span) -> Diagnostic {
    let (expected, shown) = (describe::expected(shape), excerpt(text));
    let words = Words::new(
        format!("expected {}, found `{shown}`", expected.en),
        format!("ожидается {}, а здесь `{shown}`", expected.ru),
    );
    Diagnostic::error(Code::BadValue, span, words)
}
