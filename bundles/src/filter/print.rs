//! Both texts of a filter.

use super::{Operand, Test, Written, text::KEYWORDS};
use crate::{
    expression::Expression,
    json,
    path::{Path, is_plain_name},
    value::Value,
};

pub(super) fn text(filter: &Written) -> String {
    let mut out = String::new();
    write(filter, &mut out);
    out
}

fn write(filter: &Written, out: &mut String) {
    match filter {
        Written::All(filters) if filters.is_empty() => out.push_str("true"),
        Written::Any(filters) if filters.is_empty() => out.push_str("false"),
        Written::All(filters) => group(filters, " and ", out),
        Written::Any(filters) => group(filters, " or ", out),
        Written::Not(inner) => {
            out.push_str("not ");
            member(inner, out);
        }
        Written::Test(test) => out.push_str(&condition(test)),
    }
}

fn group(filters: &[Written], between: &str, out: &mut String) {
    for (position, filter) in filters.iter().enumerate() {
        if position > 0 {
            out.push_str(between);
        }
        member(filter, out);
    }
}

/// A member of a group: groups inside it stand in parentheses, so that they stay groups.
fn member(filter: &Written, out: &mut String) {
    match filter {
        Written::All(inner) | Written::Any(inner) if !inner.is_empty() => {
            out.push('(');
            write(filter, out);
            out.push(')');
        }
        Written::All(_) | Written::Any(_) | Written::Not(_) | Written::Test(_) => write(filter, out),
    }
}

/// One condition as text.
pub(super) fn condition(test: &Test) -> String {
    let left = format!("{} {}", expression(&test.subject), test.operator.word());
    match &test.operand {
        Operand::Nothing => left,
        Operand::One(operand) => format!("{left} {}", expression(operand)),
        Operand::Many(operands) => {
            format!("{left} [{}]", operands.iter().map(expression).collect::<Vec<_>>().join(", "))
        }
        Operand::Pattern(pattern) => format!("{left} {}", quoted_pattern(pattern)),
    }
}

/// Between slashes where that reads back the same, else as a text.
fn quoted_pattern(pattern: &str) -> String {
    let slashes = !pattern.contains(['/', '\\', '\n', '\r']);
    if slashes { format!("/{pattern}/") } else { json::to_text(&Value::from(pattern)) }
}

pub(super) fn expression(expression_: &Expression) -> String {
    match expression_ {
        Expression::Literal(value) => json::to_text(value),
        Expression::Reference { path, .. } => path_text(path),
        Expression::Secret { name, .. } => format!("connection.secrets.{name}"),
        Expression::Query(query) => query.text().to_owned(),
        Expression::Call(call) => {
            let arguments = call.arguments.iter().map(expression).collect::<Vec<_>>().join(", ");
            format!("{}({arguments})", call.function.name)
        }
    }
}

/// A path, with a first name in brackets where the bare one would be read as something else.
fn path_text(path: &Path) -> String {
    let text = path.to_string();
    let first: String = text.chars().take_while(|c| is_plain_name(&c.to_string())).collect();
    let misread = KEYWORDS.contains(&first.as_str())
        || first == "null"
        || first.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    if misread { format!("[{first}]{}", &text[first.len()..]) } else { text }
}

pub(super) fn tree(filter: &Written) -> Value {
    let group = |word: &str, filters: &[Written]| {
        Value::object([(word, Value::List(filters.iter().map(tree).collect()))])
    };
    match filter {
        Written::All(filters) => group("all", filters),
        Written::Any(filters) => group("any", filters),
        Written::Not(inner) => Value::object([("not", tree(inner))]),
        Written::Test(test) => leaf(test),
    }
}

fn leaf(test: &Test) -> Value {
    let value = match &test.operand {
        Operand::Nothing => None,
        Operand::One(operand) => Some(tree_value(operand)),
        Operand::Many(operands) => Some(Value::List(operands.iter().map(tree_value).collect())),
        Operand::Pattern(pattern) => Some(Value::from(pattern.as_str())),
    };
    let leaf = [("field", Value::from(expression(&test.subject))), ("op", Value::from(test.operator.word()))];
    Value::object(leaf.into_iter().chain(value.map(|value| ("value", value))))
}

/// A constant as itself; anything to compute as `{of: …}`, so that no text of a user is ever taken for a reference.
fn tree_value(operand: &Expression) -> Value {
    match operand {
        Expression::Literal(value) => value.clone(),
        Expression::Reference { .. }
        | Expression::Secret { .. }
        | Expression::Query(_)
        | Expression::Call(_) => Value::object([("of", Value::from(expression(operand)))]),
    }
}
