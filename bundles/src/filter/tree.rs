//! The tree of a filter: `all`, `any`, `not`, and leaves `{field, op, value}`. A value `{of: name}` is another field.

use super::{DEPTH_MAX, Operand, Operator, Test, Written, text};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt, suggest::suggest},
    expression::{Expression, Place},
    words::Words,
    yaml::{Entry, Kind, Node, Span},
};

const KEYS: [&str; 6] = ["all", "any", "not", "field", "op", "value"];

pub(super) fn parse(node: &Node, depth: usize, out: &mut Diagnostics) -> Option<Written> {
    let Some(entries) = node.as_map() else {
        return fail(
            node.span,
            "expected `all`, `any`, `not` or a condition",
            "нужно `all`, `any`, `not` или условие",
            out,
        );
    };
    if depth > DEPTH_MAX {
        return fail(node.span, "the filter is nested too deep", "фильтр вложен слишком глубоко", out);
    }
    if let Some(entry) = entries.iter().find(|entry| !KEYS.contains(&entry.key.as_str())) {
        return unknown_key(entry, out);
    }
    match entries {
        [entry] if entry.key == "all" => group(&entry.value, depth, out).map(Written::all),
        [entry] if entry.key == "any" => group(&entry.value, depth, out).map(Written::any),
        [entry] if entry.key == "not" => {
            parse(&entry.value, depth + 1, out).map(|inner| Written::Not(Box::new(inner)))
        }
        _ if node.entry("field").is_some() => leaf(node, out),
        _ => fail(
            node.span,
            "a filter is one of `all`, `any`, `not`, or a condition with `field` and `op`",
            "фильтр — это одно из `all`, `any`, `not` или условие с `field` и `op`",
            out,
        ),
    }
}

fn fail<T>(span: Span, en: &str, ru: &str, out: &mut Diagnostics) -> Option<T> {
    out.push(Diagnostic::error(Code::BadFilter, span, Words::new(en, ru)));
    None
}

fn unknown_key(entry: &Entry, out: &mut Diagnostics) -> Option<Written> {
    let words = Words::new(
        format!("a filter has no key `{}`", excerpt(&entry.key)),
        format!("в фильтре нет ключа `{}`", excerpt(&entry.key)),
    );
    let near = suggest(&entry.key, KEYS);
    out.push(Diagnostic::error(Code::UnknownKey, entry.key_span, words).with_suggestion(near));
    None
}

fn group(node: &Node, depth: usize, out: &mut Diagnostics) -> Option<Vec<Written>> {
    let Some(items) = node.as_list() else {
        return fail(node.span, "expected a list of conditions", "нужен список условий", out);
    };
    let filters: Vec<_> = items.iter().map(|item| parse(item, depth + 1, out)).collect();
    filters.into_iter().collect()
}

fn leaf(node: &Node, out: &mut Diagnostics) -> Option<Written> {
    let subject = field(node.get("field"), node.span, out);
    let operator = operator(node.get("op"), node.span, out);
    let operand = operator.and_then(|operator| operand(operator, node, out));
    Some(Written::Test(Test {
        subject: subject?,
        operator: operator?,
        operand: operand?,
        place: Place(node.span),
    }))
}

fn field(node: Option<&Node>, span: Span, out: &mut Diagnostics) -> Option<Expression> {
    match node.and_then(|node| Some((node, node.as_text()?))) {
        Some((node, name)) => text::subject(node, name, out),
        None => fail(
            node.map_or(span, |node| node.span),
            "`field` must be a field's name",
            "в `field` должно быть имя поля",
            out,
        ),
    }
}

fn operator(node: Option<&Node>, span: Span, out: &mut Diagnostics) -> Option<Operator> {
    let words = Operator::ALL.map(Operator::word);
    let Some((node, written)) = node.and_then(|node| Some((node, node.as_text()?))) else {
        return fail(span, "a condition needs `op`, an operator", "в условии нужен `op`, оператор", out);
    };
    let found = Operator::ALL.into_iter().find(|operator| operator.word() == written.trim());
    if found.is_none() {
        let message = Words::new(
            format!("there is no operator `{}`; there are {}", excerpt(written), words.join(", ")),
            format!("нет оператора `{}`; есть {}", excerpt(written), words.join(", ")),
        );
        out.push(
            Diagnostic::error(Code::BadFilter, node.span, message).with_suggestion(suggest(written, words)),
        );
    }
    found
}

fn operand(operator: Operator, leaf: &Node, out: &mut Diagnostics) -> Option<Operand> {
    let value = leaf.entry("value").map(|entry| &entry.value);
    match (operator, value) {
        (Operator::IsEmpty | Operator::IsNotEmpty, None) => Some(Operand::Nothing),
        (Operator::IsEmpty | Operator::IsNotEmpty, Some(value)) => {
            fail(value.span, "this operator takes no `value`", "этому оператору не нужен `value`", out)
        }
        (_, None) => fail(leaf.span, "this operator needs `value`", "этому оператору нужен `value`", out),
        (Operator::In, Some(value)) => match value.as_list() {
            Some(items) => {
                let items: Vec<_> = items.iter().map(|item| constant_or_field(item, out)).collect();
                items.into_iter().collect::<Option<_>>().map(Operand::Many)
            }
            None => fail(value.span, "`in` takes a list", "`in` принимает список", out),
        },
        (Operator::Matches, Some(value)) => match value.as_text() {
            Some(pattern) => Some(Operand::Pattern(pattern.to_owned())),
            None => fail(
                value.span,
                "`matches` takes a regular expression",
                "`matches` принимает регулярное выражение",
                out,
            ),
        },
        (
            Operator::Equal
            | Operator::NotEqual
            | Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual
            | Operator::Contains
            | Operator::StartsWith
            | Operator::EndsWith,
            Some(value),
        ) => constant_or_field(value, out).map(Operand::One),
    }
}

fn constant_or_field(node: &Node, out: &mut Diagnostics) -> Option<Expression> {
    match &node.kind {
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. } => {
            Some(Expression::Literal(node.to_value()))
        }
        Kind::Map(entries) => match entries.as_slice() {
            [entry] if entry.key == "of" => field(Some(&entry.value), node.span, out),
            _ => fail(
                node.span,
                "a value is a constant, or `{of: field}`",
                "значение — константа или `{of: поле}`",
                out,
            ),
        },
        Kind::List(_) => {
            fail(node.span, "a list stands only after `in`", "список бывает только после `in`", out)
        }
    }
}
