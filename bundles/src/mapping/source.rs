//! Where one value of a mapping comes from, and what happens when it is empty.

use std::borrow::Cow;

use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code, suggest::suggest},
    expression::{
        Env, Expression, Scope, Typed,
        error::{EvalError, EvalErrorKind},
        query::Query,
    },
    shape::check::is_computed,
    template::{Part, Template},
    types::{Field, Type, assign},
    value::Value,
    words::Words,
    yaml::{Kind, Node},
};

/// A value's source.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    value: Template,
    /// A literal is written as it stands, empty or not.
    literal: Option<Value>,
    default: Option<Template>,
    when_empty: WhenEmpty,
    /// What it is converted to; none when it fits as it is.
    convert: Option<Type>,
    /// What a default is converted to.
    target: Type,
    label: String,
}

/// What happens when a source is empty and has no default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenEmpty {
    Omit,
    Null,
    Error,
}

/// The target of a value.
pub struct Target<'a> {
    /// As it is written.
    pub label: String,
    /// Its last name.
    pub name: &'a str,
    /// Its type.
    pub ty: &'a Type,
    /// It must have a value.
    pub required: bool,
}

impl<'a> Target<'a> {
    /// The target that a field is.
    pub fn of_field(label: String, field: &'a Field) -> Target<'a> {
        let name = field.name.rsplit('.').next().unwrap_or(&field.name);
        Target { label, name, ty: &field.ty, required: field.required }
    }
}

impl Source {
    /// Compiles a literal, a template, `{path: …}` or the long form.
    pub fn compile(
        node: &Node,
        target: &Target<'_>,
        scope: &dyn Scope,
        out: &mut Diagnostics,
    ) -> Option<Source> {
        let part = |key: &str| is_computed(node).then(|| node.get(key)).flatten();
        let value_node = part("value").unwrap_or(node);
        let when_empty = match part("when_empty").and_then(Node::as_text) {
            Some("null") => WhenEmpty::Null,
            Some("error") => WhenEmpty::Error,
            Some(_) | None => WhenEmpty::Omit,
        };
        let asked = part("as").map(|node| type_of_word(node, out));
        let mut value = match part("path") {
            Some(path) => query(path, out)?,
            None => template(value_node, out)?,
        };
        let typed = value.check(scope, value_node.span, false, out)?;
        let default = match part("default") {
            Some(node) => Some(checked_default(node, target, scope, out)?),
            None => None,
        };
        let source = Source {
            literal: literal(value_node, part("path").is_some()),
            default,
            when_empty,
            convert: None,
            target: target.ty.clone(),
            label: target.label.clone(),
            value,
        };
        let typed = match asked {
            Some(asked) => Typed { ty: asked?, ..typed },
            None => typed,
        };
        source.fitting(typed, part("as").is_some(), target, value_node, out)
    }

    /// Checks the type against the target's, and that a required target always gets a value.
    fn fitting(
        mut self,
        typed: Typed,
        asked: bool,
        target: &Target<'_>,
        node: &Node,
        out: &mut Diagnostics,
    ) -> Option<Source> {
        let fit = assign::fit(&typed.ty, target.ty, target.name);
        self.convert = match fit {
            assign::Fit::Same => asked.then(|| typed.ty.clone()),
            assign::Fit::Convert => Some(target.ty.clone()),
            assign::Fit::Never(_) if constant_fits(self.literal.as_ref(), target.ty) => {
                Some(target.ty.clone())
            }
            assign::Fit::Never(hint) => {
                out.push(wrong_type(&typed.ty, target, node, hint));
                return None;
            }
        };
        if let (Some(literal), Some(ty)) = (&self.literal, &self.convert)
            && assign::convert(Cow::Borrowed(literal), ty).is_err()
        {
            out.push(wrong_value(target, node));
            return None;
        }
        let guarded = self.default.is_some() || self.when_empty == WhenEmpty::Error;
        if target.required && typed.can_be_empty && !guarded {
            out.push(can_be_empty(&self.value.label(), target, node));
            return None;
        }
        Some(self)
    }

    /// None when it is left out.
    pub fn eval(&self, env: &dyn Env) -> Result<Option<Value>, EvalError> {
        if let Some(literal) = &self.literal {
            return self.converted(Cow::Borrowed(literal)).map(Some);
        }
        let value = self.value.eval(env)?;
        if !value.is_empty() {
            return self.converted(value).map(Some);
        }
        if let Some(default) = &self.default {
            let value = default.eval(env)?;
            if !value.is_empty() {
                // Its own way to the target's type: the value beside it may fit as it is.
                let converted = assign::convert(value, &self.target);
                return converted.map(|value| Some(value.into_owned())).map_err(|kind| self.error(kind));
            }
        }
        match self.when_empty {
            WhenEmpty::Omit => Ok(None),
            WhenEmpty::Null => Ok(Some(Value::Null)),
            WhenEmpty::Error => Err(self.error(EvalErrorKind::Empty)),
        }
    }

    fn converted(&self, value: Cow<'_, Value>) -> Result<Value, EvalError> {
        match &self.convert {
            None => Ok(value.into_owned()),
            Some(ty) => assign::convert(value, ty).map(Cow::into_owned).map_err(|kind| self.error(kind)),
        }
    }

    fn error(&self, kind: EvalErrorKind) -> EvalError {
        EvalError::at(&*self.label, kind)
    }
}

fn template(node: &Node, out: &mut Diagnostics) -> Option<Template> {
    match &node.kind {
        Kind::Text { text, .. } if Template::is_template(text) => Template::parse(node, out),
        Kind::Text { .. } | Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::List(_) | Kind::Map(_) => {
            Some(of_expression(Expression::Literal(node.to_value())))
        }
    }
}

fn of_expression(expression: Expression) -> Template {
    Template { parts: vec![Part::Expression(expression)] }
}

/// The value, when nothing has to be computed. Nothing written is nothing to write.
fn literal(node: &Node, is_query: bool) -> Option<Value> {
    let computed = is_query || node.is_null() || node.as_text().is_some_and(Template::is_template);
    (!computed).then(|| node.to_value())
}

fn query(node: &Node, out: &mut Diagnostics) -> Option<Template> {
    match Query::parse(node.as_text().unwrap_or_default()) {
        Ok(query) => Some(of_expression(Expression::Query(query))),
        Err(error) => {
            let message = Words::new(
                format!("the JSONPath query cannot be read: {}", error.trim()),
                format!("запрос JSONPath не читается: {}", error.trim()),
            );
            let hint = Words::new("an example: `$.comment[*].comment`", "пример: `$.comment[*].comment`");
            out.push(Diagnostic::error(Code::BadQuery, node.span, message).with_hint(hint));
            None
        }
    }
}

fn checked_default(
    node: &Node,
    target: &Target<'_>,
    scope: &dyn Scope,
    out: &mut Diagnostics,
) -> Option<Template> {
    let mut default = template(node, out)?;
    let typed = default.check(scope, node.span, false, out)?;
    match assign::fit(&typed.ty, target.ty, target.name) {
        assign::Fit::Same | assign::Fit::Convert => Some(default),
        assign::Fit::Never(_) if constant_fits(typed.constant.as_ref(), target.ty) => Some(default),
        assign::Fit::Never(hint) => {
            out.push(wrong_type(&typed.ty, target, node, hint));
            None
        }
    }
}

/// A constant is looked at itself: a text that reads as a moment is one.
fn constant_fits(constant: Option<&Value>, ty: &Type) -> bool {
    constant.is_some_and(|value| assign::convert(Cow::Borrowed(value), ty).is_ok())
}

fn type_of_word(node: &Node, out: &mut Diagnostics) -> Option<Type> {
    let types =
        [Type::Text, Type::Integer, Type::Decimal, Type::Boolean, Type::Phone, Type::Email, Type::Url];
    let word = node.as_text().unwrap_or_default();
    let found = types.iter().find(|ty| ty.word() == word).cloned();
    if found.is_none() {
        let known: Vec<&str> = types.iter().map(Type::word).collect();
        let message = Words::new("there is no such type to convert to", "такого типа для приведения нет");
        let hint =
            Words::new(format!("one of: {}", known.join(", ")), format!("один из: {}", known.join(", ")));
        let near = suggest(word, known.iter().copied());
        let diagnostic = Diagnostic::error(Code::BadValue, node.span, message).with_suggestion(near);
        out.push(if diagnostic.hint.is_none() { diagnostic.with_hint(hint) } else { diagnostic });
    }
    found
}

fn wrong_type(source: &Type, target: &Target<'_>, node: &Node, hint: Option<Words>) -> Diagnostic {
    let (source_words, target_words, label) = (source.words(), target.ty.words(), &target.label);
    let is_local = matches!(source, Type::LocalTime(_));
    let (code, message) = if is_local && assign::names_utc(target.name) {
        let message = Words::new(
            format!("`{label}` takes a moment in UTC, this is a local time"),
            format!("`{label}` принимает момент в UTC, а это местное время"),
        );
        (Code::LocalTimeAsUtc, message)
    } else {
        let message = Words::new(
            format!("`{label}` takes {}, this is {}", target_words.en, source_words.en),
            format!("`{label}` принимает {}, а это {}", target_words.ru, source_words.ru),
        );
        (Code::WrongType, message)
    };
    let general =
        Words::new(format!("give it {}", target_words.en), format!("передайте {}", target_words.ru));
    Diagnostic::error(code, node.span, message).with_hint(hint.unwrap_or(general))
}

fn wrong_value(target: &Target<'_>, node: &Node) -> Diagnostic {
    let (words, label) = (target.ty.words(), &target.label);
    let message = Words::new(
        format!("`{label}` takes {}, and this value is none", words.en),
        format!("`{label}` принимает {}, это значение не подходит", words.ru),
    );
    let hint = Words::new(format!("give it {}", words.en), format!("передайте {}", words.ru));
    Diagnostic::error(Code::WrongType, node.span, message).with_hint(hint)
}

fn can_be_empty(source: &str, target: &Target<'_>, node: &Node) -> Diagnostic {
    let label = &target.label;
    let message = Words::new(
        format!("`{label}` is required, and `{source}` can be empty"),
        format!("`{label}` обязательно, а `{source}` может быть пустым"),
    );
    let hint = Words::new(
        format!(
            "add a default: `{{value: \"{{{{ {source} }}}}\", default: …}}`, or let the filter demand `{source} is not empty`"
        ),
        format!(
            "добавьте значение по умолчанию: `{{value: \"{{{{ {source} }}}}\", default: …}}`, или потребуйте в фильтре `{source} is not empty`"
        ),
    );
    Diagnostic::error(Code::CanBeEmpty, node.span, message).with_hint(hint)
}
