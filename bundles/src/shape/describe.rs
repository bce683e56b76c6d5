//! What a shape expects, in words, and how to turn what was found into it.

use super::{Choice, Shape};
use crate::{
    diagnostic::excerpt::excerpt,
    value::Number,
    words::Words,
    yaml::{Kind, Node},
};

/// How many words of a choice a message lists.
const LISTED_CHOICES_MAX: usize = 12;

/// "text", "a list", "`a`, `b` or `c`".
pub(super) fn expected(shape: &Shape) -> Words {
    match shape {
        Shape::Any => Words::new("a value", "значение"),
        Shape::Text => Words::new("text", "текст"),
        Shape::Bool => Words::new("`true` or `false`", "`true` или `false`"),
        Shape::Integer { min, max } => integer(*min, *max),
        Shape::Number => Words::new("a number", "число"),
        Shape::Duration => Words::new("a duration such as `15m`", "длительность, например `15m`"),
        Shape::Name => Words::new("a name", "имя"),
        Shape::Url => {
            Words::new("an address such as `https://example.com`", "адрес, например `https://example.com`")
        }
        Shape::TimeZone => {
            Words::new("a time zone such as `Europe/Moscow`", "часовой пояс, например `Europe/Moscow`")
        }
        Shape::Choice(choices) => choice(choices),
        Shape::Const(word) => Words::new(format!("`{word}`"), format!("`{word}`")),
        Shape::List(_) => Words::new("a list", "список"),
        Shape::Map { .. } | Shape::Object(_) | Shape::Mapping(_) => Words::new("a mapping", "набор ключей"),
        Shape::OneOf(shapes) => either(shapes.iter().map(expected).collect()),
        Shape::Filter => Words::new("a filter", "фильтр"),
        Shape::Template(inner) => {
            let inner = expected(inner);
            Words::new(format!("{} or a template", inner.en), format!("{} или шаблон", inner.ru))
        }
        Shape::Secret => Words::new(
            "a reference `{env: NAME}` or `{file: path}`",
            "ссылка `{env: ИМЯ}` или `{file: путь}`",
        ),
        Shape::Named { shape, .. } => expected(&shape()),
    }
}

fn integer(min: Option<i64>, max: Option<i64>) -> Words {
    match (min, max) {
        (None, None) => Words::new("a whole number", "целое число"),
        (Some(min), None) => {
            Words::new(format!("a whole number from {min}"), format!("целое число от {min}"))
        }
        (None, Some(max)) => {
            Words::new(format!("a whole number up to {max}"), format!("целое число до {max}"))
        }
        (Some(min), Some(max)) => Words::new(
            format!("a whole number from {min} to {max}"),
            format!("целое число от {min} до {max}"),
        ),
    }
}

fn choice(choices: &[Choice]) -> Words {
    let mut listed: Vec<Words> = choices
        .iter()
        .take(LISTED_CHOICES_MAX)
        .map(|choice| Words::new(format!("`{}`", choice.value), format!("`{}`", choice.value)))
        .collect();
    if choices.len() > LISTED_CHOICES_MAX {
        listed.push(Words::new("another known word", "другое известное слово"));
    }
    either(listed)
}

/// "a, b or c", each word once.
fn either(words: Vec<Words>) -> Words {
    let mut unique: Vec<Words> = Vec::new();
    for word in words {
        if !unique.contains(&word) {
            unique.push(word);
        }
    }
    let join = |texts: Vec<&str>, or: &str| match texts.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} {or} {last}", rest.join(", ")),
        Some((last, _)) => (*last).to_owned(),
        None => String::new(),
    };
    Words::new(
        join(unique.iter().map(|word| word.en.as_str()).collect(), "or"),
        join(unique.iter().map(|word| word.ru.as_str()).collect(), "или"),
    )
}

/// Could this kind of node be what the shape means? Looks no further than the node itself.
pub(super) fn fits(shape: &Shape, node: &Node) -> bool {
    match shape {
        Shape::Any => true,
        Shape::Text
        | Shape::Duration
        | Shape::Name
        | Shape::Url
        | Shape::TimeZone
        | Shape::Choice(_)
        | Shape::Const(_) => node.as_text().is_some(),
        Shape::Bool => node.as_bool().is_some(),
        Shape::Integer { .. } => node.as_integer().is_some(),
        Shape::Number => matches!(node.kind, Kind::Number(_)),
        Shape::List(_) => node.as_list().is_some(),
        Shape::Map { .. } | Shape::Object(_) | Shape::Mapping(_) => node.as_map().is_some() || node.is_null(),
        Shape::OneOf(shapes) => shapes.iter().any(|shape| fits(shape, node)),
        Shape::Filter => node.as_text().is_some() || node.as_map().is_some(),
        Shape::Template(inner) => {
            let scalar =
                matches!(node.kind, Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. });
            scalar || super::check::is_computed(node) || fits(inner, node)
        }
        Shape::Secret => true,
        Shape::Named { shape, .. } => fits(&shape(), node),
    }
}

/// How to turn what was found into what was expected, when that is plain to see.
pub(super) fn hint(shape: &Shape, node: &Node) -> Option<Words> {
    let both = |en: String, ru: String| Some(Words::new(en, ru));
    match (shape, &node.kind) {
        (Shape::Duration, Kind::Number(number)) => {
            let shown = number_text(number);
            both(
                format!("add a unit: `{shown}s`, `{shown}m`, `{shown}h`"),
                format!("добавьте единицу: `{shown}s`, `{shown}m`, `{shown}h`"),
            )
        }
        (Shape::Text | Shape::Name | Shape::Choice(_) | Shape::Const(_), Kind::Number(_) | Kind::Bool(_)) => {
            both("put it in quotes".to_owned(), "возьмите в кавычки".to_owned())
        }
        (Shape::Integer { .. } | Shape::Number, Kind::Text { text, .. }) if text.parse::<f64>().is_ok() => {
            both("write it without quotes".to_owned(), "запишите без кавычек".to_owned())
        }
        (Shape::Bool, Kind::Text { text, .. }) => match text.to_lowercase().as_str() {
            "yes" | "on" | "y" | "да" | "true" => {
                both("write `true`".to_owned(), "пишите `true`".to_owned())
            }
            "no" | "off" | "n" | "нет" | "false" => {
                both("write `false`".to_owned(), "пишите `false`".to_owned())
            }
            _ => None,
        },
        (Shape::List(_), Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. }) => {
            both("one item is written `[item]`".to_owned(), "один элемент пишется `[элемент]`".to_owned())
        }
        (Shape::List(_), Kind::Map(_)) => {
            both("each item starts with `- `".to_owned(), "каждый элемент начинается с `- `".to_owned())
        }
        (Shape::Object(_) | Shape::Map { .. }, Kind::List(_)) => {
            both("keys are written without `- `".to_owned(), "ключи пишутся без `- `".to_owned())
        }
        // a table of a few pairs, not a decision about every shape
        _ => None,
    }
}

fn number_text(number: &Number) -> String {
    match number {
        Number::Integer(value) => value.to_string(),
        Number::Exact(digits) => excerpt(digits),
    }
}
