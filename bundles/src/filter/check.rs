//! From a filter as written to a predicate: names known, operators fit for types, constants made comparable, patterns compiled.

use std::cmp::Ordering;

use regex::{Regex, RegexBuilder};

use super::{
    Operand, Operator, Test, Written,
    predicate::{Leaf, Predicate, Right, Rule, Sense},
    print,
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt, suggest::suggest},
    duration,
    expression::{Expression, Resolution, Scope, Typed},
    path::{Path, Root},
    types::Type,
    value::{Number, Value},
    words::Words,
    yaml::Span,
};

/// Longest pattern, bytes.
const PATTERN_BYTES_MAX: usize = 1024;
/// Largest compiled pattern, bytes.
const PATTERN_SIZE_MAX: usize = 1 << 20;
/// Deepest nesting of a pattern.
const PATTERN_DEPTH_MAX: u32 = 50;

impl Written {
    /// Checks it against the names in scope. None after an error; all errors are in `out`.
    pub fn check(&self, scope: &dyn Scope, out: &mut Diagnostics) -> Option<Predicate> {
        let each = |filters: &[Written], out: &mut Diagnostics| -> Option<Vec<Predicate>> {
            let checked: Vec<_> = filters.iter().map(|filter| filter.check(scope, out)).collect();
            checked.into_iter().collect()
        };
        match self {
            Written::All(filters) => each(filters, out).map(Predicate::All),
            Written::Any(filters) => each(filters, out).map(Predicate::Any),
            Written::Not(inner) => inner.check(scope, out).map(|inner| Predicate::Not(Box::new(inner))),
            Written::Test(test) => Check { test, scope, span: test.place.0 }
                .leaf(out)
                .map(|leaf| Predicate::Leaf(Box::new(leaf))),
        }
    }
}

struct Check<'a> {
    test: &'a Test,
    scope: &'a dyn Scope,
    span: Span,
}

impl Check<'_> {
    fn leaf(&self, out: &mut Diagnostics) -> Option<Leaf> {
        let mut subject = self.test.subject.clone();
        let typed = subject.check(self.scope, self.span, out)?;
        self.operator_fits(&typed, out)?;
        let element = if let (Operator::Contains, Type::List(items)) = (self.test.operator, &typed.ty) {
            items
        } else {
            &typed.ty
        };
        let sense = match self.test.operator {
            Operator::Contains if matches!(typed.ty, Type::List(_)) => {
                Sense::of(element, self.scope.time_zone())
            }
            Operator::Contains | Operator::StartsWith | Operator::EndsWith => Sense::Text,
            Operator::IsEmpty
            | Operator::IsNotEmpty
            | Operator::Equal
            | Operator::NotEqual
            | Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual
            | Operator::In
            | Operator::Matches => Sense::of(&typed.ty, self.scope.time_zone()),
        };
        let rule = self.rule(&typed, element, &sense, out)?;
        Some(Leaf { subject, rule, sense, text: print::condition(self.test), private: typed.private })
    }

    fn rule(&self, typed: &Typed, element: &Type, sense: &Sense, out: &mut Diagnostics) -> Option<Rule> {
        let one = |out: &mut Diagnostics| match &self.test.operand {
            Operand::One(operand) => self.right(operand, typed, element, sense, out),
            Operand::Nothing | Operand::Many(_) | Operand::Pattern(_) => None,
        };
        match self.test.operator {
            Operator::IsEmpty => Some(Rule::Empty),
            Operator::IsNotEmpty => Some(Rule::NotEmpty),
            Operator::Equal => one(out).map(Rule::Equal),
            Operator::NotEqual => one(out).map(Rule::NotEqual),
            Operator::Less => one(out).map(|right| Rule::Ordered(&[Ordering::Less], right)),
            Operator::LessOrEqual => {
                one(out).map(|right| Rule::Ordered(&[Ordering::Less, Ordering::Equal], right))
            }
            Operator::Greater => one(out).map(|right| Rule::Ordered(&[Ordering::Greater], right)),
            Operator::GreaterOrEqual => {
                one(out).map(|right| Rule::Ordered(&[Ordering::Greater, Ordering::Equal], right))
            }
            Operator::Contains => one(out).map(Rule::Contains),
            Operator::StartsWith => one(out).map(Rule::StartsWith),
            Operator::EndsWith => one(out).map(Rule::EndsWith),
            Operator::In => match &self.test.operand {
                Operand::Many(operands) => {
                    let rights: Vec<_> = operands
                        .iter()
                        .map(|operand| self.right(operand, typed, element, sense, out))
                        .collect();
                    rights.into_iter().collect::<Option<_>>().map(Rule::In)
                }
                Operand::Nothing | Operand::One(_) | Operand::Pattern(_) => None,
            },
            Operator::Matches => match &self.test.operand {
                Operand::Pattern(pattern) => self.pattern(pattern, out).map(Rule::Matches),
                Operand::Nothing | Operand::One(_) | Operand::Many(_) => None,
            },
        }
    }

    fn operator_fits(&self, typed: &Typed, out: &mut Diagnostics) -> Option<()> {
        let composite = matches!(typed.ty, Type::Map(_) | Type::Object { .. });
        let list = matches!(typed.ty, Type::List(_));
        let ordered = matches!(
            typed.ty,
            Type::Any
                | Type::Integer
                | Type::Decimal
                | Type::Duration(_)
                | Type::Instant(_)
                | Type::LocalTime(_)
        );
        let fits = match self.test.operator {
            Operator::IsEmpty | Operator::IsNotEmpty => true,
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => ordered,
            Operator::Contains => !composite,
            Operator::Equal
            | Operator::NotEqual
            | Operator::In
            | Operator::StartsWith
            | Operator::EndsWith
            | Operator::Matches => !composite && !list,
        };
        if fits {
            return Some(());
        }
        let (name, ty, word) = (self.test.subject.label(), typed.ty.words(), self.test.operator.word());
        let message = Words::new(
            format!("`{word}` does not work on `{name}`, which is {}", ty.en),
            format!("`{word}` не применить к `{name}`: это {}", ty.ru),
        );
        let diagnostic = Diagnostic::error(Code::WrongType, self.span, message);
        out.push(if list {
            diagnostic.with_hint(Words::new("for a list there is `contains`", "для списка есть `contains`"))
        } else {
            diagnostic
        });
        None
    }

    fn right(
        &self,
        operand: &Expression,
        typed: &Typed,
        element: &Type,
        sense: &Sense,
        out: &mut Diagnostics,
    ) -> Option<Right> {
        match operand {
            Expression::Literal(value) => self.constant(value, typed, element, sense, out),
            Expression::Reference { path, .. } => match self.bare_choice(path, element) {
                Some(word) => self.constant(&Value::text(word), typed, element, sense, out),
                None => self.computed(operand, element, sense, out),
            },
            Expression::Secret { .. } | Expression::Query(_) | Expression::Call(_) => {
                self.computed(operand, element, sense, out)
            }
        }
    }

    /// A bare word that is a value of the enum on the left.
    fn bare_choice(&self, path: &Path, element: &Type) -> Option<String> {
        let Type::Enum(choices) = element else { return None };
        let word = path.to_string();
        (path.root == Root::Event && choices.iter().any(|choice| choice.value == word)).then_some(word)
    }

    fn computed(
        &self,
        operand: &Expression,
        element: &Type,
        sense: &Sense,
        out: &mut Diagnostics,
    ) -> Option<Right> {
        if let (Expression::Reference { path, place }, Resolution::Unknown { .. }) =
            (operand, self.resolve(operand))
        {
            self.unknown_word(path, element, place.0, out);
            return None;
        }
        let mut expression = operand.clone();
        let typed = expression.check(self.scope, self.span, out)?;
        let own = Sense::of(&typed.ty, self.scope.time_zone());
        // Both sides are read in the left side's sense, but each time by its own type.
        let sense = if matches!(own, Sense::Time { .. }) { own } else { sense.clone() };
        Some(Right::Computed { expression, sense })
    }

    fn resolve(&self, operand: &Expression) -> Resolution {
        match operand {
            Expression::Reference { path, .. } => self.scope.resolve(path),
            Expression::Literal(_)
            | Expression::Secret { .. }
            | Expression::Query(_)
            | Expression::Call(_) => Resolution::Unavailable(Words::default()),
        }
    }

    /// A bare word that is no field: most likely text without quotes, or a misspelt value.
    fn unknown_word(&self, path: &Path, element: &Type, span: Span, out: &mut Diagnostics) {
        let word = path.to_string();
        if let Type::Enum(choices) = element {
            let near = suggest(&word, choices.iter().map(|choice| choice.value.as_str()));
            out.push(not_a_choice(&word, element, span).with_suggestion(near));
            return;
        }
        let message = Words::new(
            format!("there is no field `{}` to compare with", excerpt(&word)),
            format!("нет поля `{}`, с которым можно сравнить", excerpt(&word)),
        );
        let hint = Words::new(
            format!("text stands in quotes: \"{word}\""),
            format!("текст пишут в кавычках: \"{word}\""),
        );
        out.push(Diagnostic::error(Code::UnknownField, span, message).with_hint(hint));
    }

    fn constant(
        &self,
        value: &Value,
        typed: &Typed,
        element: &Type,
        sense: &Sense,
        out: &mut Diagnostics,
    ) -> Option<Right> {
        if self.means_empty(value, typed, out) {
            return None;
        }
        let value = &normalised(value, element);
        if let Type::Enum(choices) = element
            && matches!(self.test.operator, Operator::Equal | Operator::NotEqual | Operator::In)
            && !choices.iter().any(|choice| Some(choice.value.as_str()) == value.as_text())
        {
            let word = value.as_text().map_or_else(|| crate::json::to_text(value), str::to_owned);
            let near = suggest(&word, choices.iter().map(|choice| choice.value.as_str()));
            out.push(not_a_choice(&word, element, self.span).with_suggestion(near));
            return None;
        }
        let sense = match sense {
            // A constant beside a time is a time however it is written; without a zone of its own, in the field's.
            Sense::Time { ty, zone } => {
                let own = if let Type::LocalTime(own) = ty { *own } else { None };
                &Sense::Time { ty: constant_time(value, ty), zone: own.or(*zone) }
            }
            Sense::Text | Sense::Phone | Sense::Number | Sense::Boolean | Sense::Any => sense,
        };
        match sense.key(value) {
            Some(key) => Some(Right::Constant(key.into_owned())),
            None => {
                let (name, ty) = (self.test.subject.label(), element.words());
                let message = Words::new(
                    format!(
                        "`{name}` is {} and cannot be compared with {}",
                        ty.en,
                        excerpt(&crate::json::to_text(value))
                    ),
                    format!(
                        "`{name}` — это {}, с {} не сравнить",
                        ty.ru,
                        excerpt(&crate::json::to_text(value))
                    ),
                );
                out.push(Diagnostic::error(Code::WrongType, self.span, message));
                None
            }
        }
    }

    /// Reports a comparison with "", null or a word that the vendor writes for "no value".
    fn means_empty(&self, value: &Value, typed: &Typed, out: &mut Diagnostics) -> bool {
        let word = value.as_text().is_some_and(|text| typed.no_value.iter().any(|word| word == text));
        if !word && !value.is_empty() {
            return false;
        }
        let name = self.test.subject.label();
        let shown = excerpt(&crate::json::to_text(value));
        let message = if word {
            Words::new(
                format!("{shown} is how the vendor writes \"no value\"; `{name}` never holds it"),
                format!("{shown} — так сервис пишет «нет значения»; в `{name}` этого не бывает"),
            )
        } else {
            Words::new(format!("nothing equals {shown}"), format!("ничто не равно {shown}"))
        };
        let test = if self.test.operator == Operator::NotEqual { "is not empty" } else { "is empty" };
        let hint = Words::new(format!("write `{name} {test}`"), format!("напишите `{name} {test}`"));
        let code = if word { Code::NoValueWord } else { Code::BadFilter };
        out.push(Diagnostic::error(code, self.span, message).with_hint(hint));
        true
    }

    fn pattern(&self, pattern: &str, out: &mut Diagnostics) -> Option<Regex> {
        let compiled = if pattern.len() > PATTERN_BYTES_MAX {
            Err(format!("longer than {PATTERN_BYTES_MAX} bytes"))
        } else {
            RegexBuilder::new(pattern)
                .size_limit(PATTERN_SIZE_MAX)
                .dfa_size_limit(PATTERN_SIZE_MAX)
                .nest_limit(PATTERN_DEPTH_MAX)
                .build()
                .map_err(|error| error.to_string().lines().last().unwrap_or_default().to_owned())
        };
        match compiled {
            Ok(regex) => Some(regex),
            Err(why) => {
                let message = Words::new(
                    format!("the regular expression cannot be used: {why}"),
                    format!("регулярное выражение не подходит: {why}"),
                );
                out.push(Diagnostic::error(Code::BadPattern, self.span, message));
                None
            }
        }
    }
}

fn not_a_choice(word: &str, ty: &Type, span: Span) -> Diagnostic {
    let choices = ty.words();
    let message = Words::new(
        format!("`{}` is not one of the values: expected {}", excerpt(word), choices.en),
        format!("значения `{}` не бывает: нужно {}", excerpt(word), choices.ru),
    );
    Diagnostic::error(Code::WrongType, span, message)
}

/// A duration as a number in the field's unit; a number or a boolean as the text of an enum's value.
fn normalised(value: &Value, ty: &Type) -> Value {
    match (ty, value) {
        (Type::Duration(unit), Value::Text(text)) => match duration::parse(text) {
            Ok(ms) => in_unit(ms, unit.ms()),
            Err(_) => value.clone(),
        },
        (Type::Enum(_), Value::Number(number)) => Value::text(number.to_string()),
        (Type::Enum(_), Value::Bool(bool)) => Value::text(bool.to_string()),
        (_, _) => value.clone(),
    }
}

fn in_unit(ms: u64, unit_ms: u64) -> Value {
    if ms.is_multiple_of(unit_ms) {
        return Value::from(i64::try_from(ms / unit_ms).unwrap_or(i64::MAX));
    }
    // Six decimals: a millisecond in days is more than that, yet nobody measures one in days.
    let micro = u128::from(ms) * 1_000_000 / u128::from(unit_ms);
    let text = format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000);
    Number::parse(&text).map_or(Value::Null, Value::Number)
}

/// How a constant beside a field of time is read: a number as the field's own, a text as whatever it says.
fn constant_time(value: &Value, ty: &Type) -> Type {
    if matches!(value, Value::Number(_)) { ty.clone() } else { Type::Text }
}
