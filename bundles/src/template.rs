//! Text with `{{ expressions }}`. Handlebars is the grammar of what stands between the braces and nothing else:
//! what it parses is lowered to [`Expression`], and only that is evaluated.
//!
//! A template that is exactly one expression is its value, type and all; any other is text.

pub(crate) mod parse;

use std::borrow::Cow;

use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code},
    expression::{
        Env, Expression, Scope, TEXT_BYTES_MAX, Typed,
        error::{EvalError, EvalErrorKind},
        text_of,
    },
    function::text::{TEXT_LIMIT, percent},
    json,
    path::{Path, Root},
    request::{Encoding, Piece, Pieces},
    types::Type,
    value::Value,
    words::Words,
    yaml::{Node, Span},
};

/// Longest template, bytes.
pub const TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// Most expressions in one template.
pub const EXPRESSIONS_MAX: usize = 256;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Literals and expressions, in order; literals are never empty nor next to each other.
    pub parts: Vec<Part>,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text as it is.
    Text(String),
    /// Something to compute.
    Expression(Expression),
}

impl Template {
    /// Reads the template in a text node. None after an error, which is in `out`.
    pub fn parse(node: &Node, out: &mut Diagnostics) -> Option<Template> {
        parse::template(node, node.as_text()?, out)
    }

    /// Whether a text holds any expression.
    pub fn is_template(text: &str) -> bool {
        text.contains("{{")
    }

    /// The only expression, when the template is exactly that.
    pub fn single(&self) -> Option<&Expression> {
        match self.parts.as_slice() {
            [Part::Expression(expression)] => Some(expression),
            _ => None,
        }
    }

    /// The text, when nothing has to be computed.
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Checks every expression and tells the type of the whole. An expression that can be empty inside a text is an error:
    /// it needs a `default`. `secrets` allows references to secrets; such a template is evaluated by [`Template::pieces`] only.
    pub fn check(
        &mut self,
        scope: &dyn Scope,
        span: Span,
        secrets: bool,
        out: &mut Diagnostics,
    ) -> Option<Typed> {
        if let Some(text) = self.literal() {
            return Some(Typed::constant(&Value::from(text)));
        }
        let alone = self.parts.len() == 1;
        let mut found = Vec::new();
        for part in &mut self.parts {
            let Part::Expression(expression) = part else { continue };
            if secrets && matches!(expression, Expression::Secret { .. }) {
                continue;
            }
            let place = place(expression, span);
            let typed = expression.check(scope, span, out);
            found.push(typed.filter(|typed| alone || inside_text(expression, typed, place, out)));
        }
        let found: Vec<Typed> = found.into_iter().collect::<Option<_>>()?;
        if alone && !found.is_empty() {
            return found.into_iter().next();
        }
        let private = self.has_secret() || found.iter().any(|typed| typed.private);
        Some(Typed { ty: Type::Text, can_be_empty: false, private, constant: None, no_value: Vec::new() })
    }

    /// The value: typed for a single expression, text otherwise.
    pub fn eval<'a>(&'a self, env: &'a dyn Env) -> Result<Cow<'a, Value>, EvalError> {
        match self.single() {
            Some(expression) => expression.eval(env),
            None => Ok(Cow::Owned(Value::text(self.text(env)?))),
        }
    }

    /// The value as text. An empty expression is an error.
    pub fn text(&self, env: &dyn Env) -> Result<String, EvalError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Expression(expression) => append(expression, env, Encoding::Plain, &mut text)?,
            }
            if text.len() > TEXT_BYTES_MAX {
                return Err(EvalError::at(self.label(), EvalErrorKind::TooLong(TEXT_LIMIT)));
            }
        }
        Ok(text)
    }

    /// The text with secrets as placeholders. Values are written for their place by `encoding`; literal text stands as it is,
    /// and so does what comes from the connection's settings, for its owner wrote it for that place.
    pub fn pieces(&self, env: &dyn Env, encoding: Encoding) -> Result<Pieces, EvalError> {
        let mut pieces = Pieces::new();
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Expression(Expression::Secret { name, .. }) => {
                    if !text.is_empty() {
                        pieces.push(Piece::Text(text.as_str().into()));
                        text.clear();
                    }
                    pieces.push(Piece::Secret { name: name.as_str().into(), encoding });
                }
                Part::Expression(expression) => append(expression, env, encoding, &mut text)?,
            }
            if text.len() > TEXT_BYTES_MAX {
                return Err(EvalError::at(self.label(), EvalErrorKind::TooLong(TEXT_LIMIT)));
            }
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.into()));
        }
        Ok(pieces)
    }

    /// Calls `visit` with every reference in it.
    pub fn references<'a>(&'a self, visit: &mut dyn FnMut(&'a Path, Span)) {
        for part in &self.parts {
            if let Part::Expression(expression) = part {
                expression.references(visit);
            }
        }
    }

    /// Whether it names a secret.
    pub fn has_secret(&self) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Text(_) => false,
            Part::Expression(expression) => expression.has_secret(),
        })
    }

    /// How an error message calls it.
    pub fn label(&self) -> String {
        let first = self.parts.iter().find_map(|part| match part {
            Part::Text(_) => None,
            Part::Expression(expression) => Some(expression.label()),
        });
        first.unwrap_or_else(|| "text".to_owned())
    }
}

fn append(
    expression: &Expression,
    env: &dyn Env,
    encoding: Encoding,
    out: &mut String,
) -> Result<(), EvalError> {
    let value = expression.eval(env)?;
    let text = text_of(&value)
        .map_err(|kind| EvalError::at(expression.label(), kind))?
        .ok_or_else(|| EvalError::at(expression.label(), EvalErrorKind::Empty))?;
    let verbatim = matches!(expression, Expression::Reference { path, .. } if path.root == Root::Connection);
    match encoding {
        Encoding::Percent if !verbatim => out.push_str(&percent(&text)),
        Encoding::Json => {
            let mut bytes = Vec::with_capacity(text.len());
            json::write_text_inside(&text, &mut bytes);
            out.push_str(&String::from_utf8(bytes).expect("escaping keeps UTF-8"));
        }
        Encoding::Plain | Encoding::Percent | Encoding::Basic => out.push_str(&text),
    }
    Ok(())
}

fn place(expression: &Expression, span: Span) -> Span {
    match expression {
        Expression::Reference { place, .. } | Expression::Secret { place, .. } => place.0,
        Expression::Call(call) => call.place.0,
        Expression::Literal(_) | Expression::Query(_) => span,
    }
}

/// Reports what cannot stand inside a text; true when it can.
fn inside_text(expression: &Expression, typed: &Typed, span: Span, out: &mut Diagnostics) -> bool {
    let label = expression.label();
    if matches!(typed.ty, Type::List(_) | Type::Map(_) | Type::Object { .. }) {
        let message = Words::new(
            format!("`{label}` is a list or an object and cannot be put into text"),
            format!("`{label}` — список или объект, в текст его не вставить"),
        );
        let hint = Words::new("`join` or `json` makes text of it", "текст из него сделает `join` или `json`");
        out.push(Diagnostic::error(Code::WrongType, span, message).with_hint(hint));
        return false;
    }
    if typed.can_be_empty {
        let message = Words::new(
            format!("`{label}` can be empty, and the text around it needs a value"),
            format!("`{label}` может быть пустым, а тексту вокруг нужно значение"),
        );
        let hint = Words::new(
            format!(
                "write `{{{{ default {label} \"…\" }}}}`, or let the filter demand `{label} is not empty`"
            ),
            format!(
                "напишите `{{{{ default {label} \"…\" }}}}` или потребуйте в фильтре `{label} is not empty`"
            ),
        );
        out.push(Diagnostic::error(Code::CanBeEmpty, span, message).with_hint(hint));
        return false;
    }
    true
}

#[cfg(test)]
mod tests;
