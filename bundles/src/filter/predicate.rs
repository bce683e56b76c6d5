//! A checked filter: evaluated on every event, explained when somebody asks.

use std::{borrow::Cow, cmp::Ordering};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use regex::Regex;

use super::number::compare;
use crate::{
    diagnostic::excerpt::excerpt,
    expression::{Env, Expression, text_of},
    function::{phone, text::to_number, time},
    json,
    types::Type,
    value::{Number, Value},
    words::Words,
};

/// Most alternatives an explanation lists.
const ALTERNATIVES_MAX: usize = 3;

/// A checked filter.
#[derive(Debug, Clone)]
pub enum Predicate {
    /// Every one holds.
    All(Vec<Predicate>),
    /// At least one holds.
    Any(Vec<Predicate>),
    /// The inner one does not.
    Not(Box<Predicate>),
    /// One condition.
    Leaf(Box<Leaf>),
}

/// One condition, ready to be tried.
#[derive(Debug, Clone)]
pub struct Leaf {
    pub(super) subject: Expression,
    pub(super) rule: Rule,
    pub(super) sense: Sense,
    /// The condition as text.
    pub(super) text: String,
    /// Its value is personal or sensitive: not shown.
    pub(super) private: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Rule {
    Empty,
    NotEmpty,
    Equal(Right),
    NotEqual(Right),
    Ordered(&'static [Ordering], Right),
    In(Vec<Right>),
    Contains(Right),
    StartsWith(Right),
    EndsWith(Right),
    Matches(Regex),
}

/// The right side: made comparable once when it is constant.
#[derive(Debug, Clone)]
pub(super) enum Right {
    Constant(Key<'static>),
    Computed { expression: Expression, sense: Sense },
}

/// How values of a type are compared.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sense {
    Text,
    /// By digits, so that every way of writing a number is the same.
    Phone,
    Number,
    Boolean,
    Time {
        ty: Type,
        zone: Option<Tz>,
    },
    /// As the value itself says.
    Any,
}

/// A value made comparable.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Key<'v> {
    Text(Cow<'v, str>),
    Number(Number),
    Boolean(bool),
    Time(DateTime<Utc>),
}

impl Sense {
    pub(super) fn of(ty: &Type, zone: Option<Tz>) -> Sense {
        match ty {
            Type::Text | Type::Email | Type::Url | Type::Enum(_) | Type::Filter => Sense::Text,
            Type::Phone => Sense::Phone,
            Type::Integer | Type::Decimal | Type::Duration(_) => Sense::Number,
            Type::Boolean => Sense::Boolean,
            Type::Instant(_) | Type::LocalTime(_) => Sense::Time { ty: ty.clone(), zone },
            Type::Any | Type::List(_) | Type::Map(_) | Type::Object { .. } => Sense::Any,
        }
    }

    /// The value made comparable; none when it is empty or not of that kind.
    pub(super) fn key<'v>(&self, value: &'v Value) -> Option<Key<'v>> {
        if value.is_empty() {
            return None;
        }
        match self {
            Sense::Text => text_of(value).ok()?.map(Key::Text),
            Sense::Phone => Some(Key::Text(Cow::Owned(phone::comparable(&text_of(value).ok()??)))),
            Sense::Number => match value {
                Value::Number(number) => Some(Key::Number(number.clone())),
                Value::Text(text) => to_number(text).map(Key::Number),
                Value::Null | Value::Bool(_) | Value::List(_) | Value::Object(_) => None,
            },
            Sense::Boolean => match value {
                Value::Bool(bool) => Some(Key::Boolean(*bool)),
                Value::Text(text) => crate::types::read::boolean(text).map(Key::Boolean),
                Value::Null | Value::Number(_) | Value::List(_) | Value::Object(_) => None,
            },
            Sense::Time { ty, zone } => time::instant(value, ty, own_zone(ty).or(*zone)).map(Key::Time),
            Sense::Any => match value {
                Value::Number(number) => Some(Key::Number(number.clone())),
                Value::Bool(bool) => Some(Key::Boolean(*bool)),
                Value::Text(text) => Some(Key::Text(Cow::Borrowed(text))),
                Value::Null | Value::List(_) | Value::Object(_) => None,
            },
        }
    }
}

fn own_zone(ty: &Type) -> Option<Tz> {
    if let Type::LocalTime(zone) = ty { *zone } else { None }
}

impl Key<'_> {
    pub(super) fn into_owned(self) -> Key<'static> {
        match self {
            Key::Text(text) => Key::Text(Cow::Owned(text.into_owned())),
            Key::Number(number) => Key::Number(number),
            Key::Boolean(bool) => Key::Boolean(bool),
            Key::Time(time) => Key::Time(time),
        }
    }

    /// None when the two cannot be compared. A number in text is a number beside a number, and so is `true` beside a boolean.
    fn order(&self, other: &Key<'_>) -> Option<Ordering> {
        match (self, other) {
            (Key::Text(left), Key::Text(right)) => Some(left.cmp(right)),
            (Key::Number(left), Key::Number(right)) => Some(compare(left, right)),
            (Key::Boolean(left), Key::Boolean(right)) => Some(left.cmp(right)),
            (Key::Time(left), Key::Time(right)) => Some(left.cmp(right)),
            (Key::Number(left), Key::Text(right)) => Some(compare(left, &to_number(right)?)),
            (Key::Text(left), Key::Number(right)) => Some(compare(&to_number(left)?, right)),
            (Key::Boolean(bool), Key::Text(text)) | (Key::Text(text), Key::Boolean(bool)) => {
                (crate::types::read::boolean(text)? == *bool).then_some(Ordering::Equal)
            }
            (Key::Time(_), _) | (_, Key::Time(_)) | (Key::Boolean(_), _) | (_, Key::Boolean(_)) => None,
        }
    }
}

impl Right {
    fn with<T>(&self, env: &dyn Env, use_it: impl FnOnce(&Key<'_>) -> T) -> Option<T> {
        match self {
            Right::Constant(key) => Some(use_it(key)),
            Right::Computed { expression, sense } => {
                let value = expression.eval(env).ok()?;
                sense.key(&value).map(|key| use_it(&key))
            }
        }
    }
}

impl Predicate {
    /// Whether it holds.
    pub fn eval(&self, env: &dyn Env) -> bool {
        match self {
            Predicate::All(all) => all.iter().all(|one| one.eval(env)),
            Predicate::Any(any) => any.iter().any(|one| one.eval(env)),
            Predicate::Not(inner) => !inner.eval(env),
            Predicate::Leaf(leaf) => leaf.eval(env),
        }
    }

    /// Why it does not hold: the smallest condition that fails. None when it holds.
    pub fn explain(&self, env: &dyn Env) -> Option<Words> {
        match self {
            Predicate::All(all) => all.iter().find_map(|one| one.explain(env)),
            Predicate::Any(any) => {
                let whys: Option<Vec<Words>> = any.iter().map(|one| one.explain(env)).collect();
                Some(none_of(whys?))
            }
            Predicate::Not(inner) if inner.eval(env) => {
                let text = inner.text();
                Some(Words::new(
                    format!("`{text}` holds, and must not"),
                    format!("`{text}` верно, а должно быть неверно"),
                ))
            }
            Predicate::Not(_) => None,
            Predicate::Leaf(leaf) => (!leaf.eval(env)).then(|| leaf.why(env)),
        }
    }

    fn text(&self) -> String {
        let joined = |parts: &[Predicate], word: &str| {
            parts.iter().map(Predicate::text).collect::<Vec<_>>().join(word)
        };
        match self {
            Predicate::All(all) => joined(all, " and "),
            Predicate::Any(any) => joined(any, " or "),
            Predicate::Not(inner) => format!("not ({})", inner.text()),
            Predicate::Leaf(leaf) => leaf.text.clone(),
        }
    }
}

fn none_of(whys: Vec<Words>) -> Words {
    let more = whys.len().saturating_sub(ALTERNATIVES_MAX);
    let join = |side: fn(&Words) -> &str, rest: String| {
        let mut text = whys.iter().take(ALTERNATIVES_MAX).map(side).collect::<Vec<_>>().join("; ");
        if more > 0 {
            text.push_str(&rest);
        }
        text
    };
    Words::new(
        format!("no alternative holds: {}", join(|words| &words.en, format!("; and {more} more"))),
        format!("ни один вариант не выполнен: {}", join(|words| &words.ru, format!("; и ещё {more}"))),
    )
}

impl Leaf {
    fn eval(&self, env: &dyn Env) -> bool {
        // What cannot be computed counts as empty.
        let value = self.subject.eval(env).unwrap_or(Cow::Owned(Value::Null));
        match &self.rule {
            Rule::Empty => value.is_empty(),
            Rule::NotEmpty => !value.is_empty(),
            Rule::Equal(right) => self.order(&value, right, env) == Some(Ordering::Equal),
            Rule::NotEqual(right) => self.order(&value, right, env) != Some(Ordering::Equal),
            Rule::Ordered(wanted, right) => {
                self.order(&value, right, env).is_some_and(|order| wanted.contains(&order))
            }
            Rule::In(rights) => {
                rights.iter().any(|right| self.order(&value, right, env) == Some(Ordering::Equal))
            }
            Rule::Contains(right) => self.contains(&value, right, env),
            Rule::StartsWith(right) => text_test(&value, right, env, |text, part| text.starts_with(part)),
            Rule::EndsWith(right) => text_test(&value, right, env, |text, part| text.ends_with(part)),
            Rule::Matches(pattern) => matches!(text_of(&value), Ok(Some(text)) if pattern.is_match(&text)),
        }
    }

    fn order(&self, value: &Value, right: &Right, env: &dyn Env) -> Option<Ordering> {
        // The common case without making a key: text equal to a constant text.
        if let (Sense::Text, Value::Text(text), Right::Constant(Key::Text(constant))) =
            (&self.sense, value, right)
        {
            return (!text.is_empty()).then(|| text.as_str().cmp(constant));
        }
        let key = self.sense.key(value)?;
        right.with(env, |right| key.order(right))?
    }

    fn contains(&self, value: &Value, right: &Right, env: &dyn Env) -> bool {
        match value {
            Value::List(items) => {
                items.iter().any(|item| self.order(item, right, env) == Some(Ordering::Equal))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Object(_) => {
                text_test(value, right, env, |text, part| text.contains(part))
            }
        }
    }

    fn why(&self, env: &dyn Env) -> Words {
        let text = &self.text;
        let value = self.subject.eval(env).unwrap_or(Cow::Owned(Value::Null));
        if value.is_empty() {
            return Words::new(
                format!("`{text}` does not hold: the value is empty"),
                format!("`{text}` не выполнено: значение пусто"),
            );
        }
        if self.private {
            return Words::new(format!("`{text}` does not hold"), format!("`{text}` не выполнено"));
        }
        let shown = excerpt(&json::to_text(&value));
        Words::new(
            format!("`{text}` does not hold: the value is {shown}"),
            format!("`{text}` не выполнено: значение {shown}"),
        )
    }
}

fn text_test(value: &Value, right: &Right, env: &dyn Env, test: fn(&str, &str) -> bool) -> bool {
    let Ok(Some(text)) = text_of(value) else { return false };
    right.with(env, |part| matches!(part, Key::Text(part) if test(&text, part))).unwrap_or(false)
}
