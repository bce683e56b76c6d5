//! Conditions on an event or an answer. One tree, two texts: `sessionId is not empty and status = successful`, and the YAML
//! tree `{all: [{field: sessionId, op: is not empty}, …]}`; each reads back what the other writes.
//!
//! Rules: `and` binds tighter than `or`, `not` tightest. Text stands in quotes; a bare word on the right is another field, or one of
//! the values of an enum on the left. A comparison with something empty does not hold, so `!=`, its opposite, does. A value that
//! cannot be computed counts as empty.

mod check;
pub mod number;
pub mod predicate;
mod print;
mod text;
mod tree;

use self::predicate::Predicate;
use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code},
    expression::{Env, Expression, Place, Scope},
    path::Path,
    value::Value,
    words::Words,
    yaml::{Kind, Node, Span},
};

/// Longest text of a filter, bytes.
pub const FILTER_BYTES_MAX: usize = 16 * 1024;
/// Most conditions in one filter.
pub const TESTS_MAX: usize = 500;
/// Deepest nesting.
pub const DEPTH_MAX: usize = 32;

/// A filter, checked: evaluated on every event.
#[derive(Debug, Clone)]
pub struct Filter {
    written: Written,
    predicate: Predicate,
}

impl Filter {
    /// Reads a text or a tree and checks it; none after an error, which is in `out`.
    pub fn compile(node: &Node, scope: &dyn Scope, out: &mut Diagnostics) -> Option<Filter> {
        let written = Written::parse(node, out)?;
        let predicate = written.check(scope, out)?;
        Some(Filter { written, predicate })
    }

    /// As it was written.
    pub fn written(&self) -> &Written {
        &self.written
    }

    /// Whether it holds.
    pub fn eval(&self, env: &dyn Env) -> bool {
        self.predicate.eval(env)
    }

    /// The smallest condition that does not hold; none when it holds.
    pub fn explain(&self, env: &dyn Env) -> Option<Words> {
        self.predicate.explain(env)
    }

    /// References that cannot be empty when the filter holds.
    pub fn not_empty(&self) -> Vec<Path> {
        self.written.proves_not_empty().into_iter().cloned().collect()
    }

    /// Calls `visit` with every reference in it.
    pub fn references<'a>(&'a self, visit: &mut dyn FnMut(&'a Path, Span)) {
        self.written.references(visit);
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Filter) -> bool {
        self.written == other.written
    }
}

/// A filter as it was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// Every one holds; with none, it always holds (`true`).
    All(Vec<Written>),
    /// At least one holds; with none, it never does (`false`).
    Any(Vec<Written>),
    /// The inner one does not hold.
    Not(Box<Written>),
    /// One condition.
    Test(Test),
}

/// One condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// What is looked at: a reference, or a helper called on one.
    pub subject: Expression,
    /// How.
    pub operator: Operator,
    /// Against what.
    pub operand: Operand,
    /// Where the condition stands.
    pub place: Place,
}

/// The right side of a condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// Nothing: `is empty`.
    Nothing,
    /// One value.
    One(Expression),
    /// `in [a, b]`.
    Many(Vec<Expression>),
    /// `matches /…/`.
    Pattern(String),
}

/// Every operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `is empty`
    IsEmpty,
    /// `is not empty`
    IsNotEmpty,
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `in`
    In,
    /// `contains`
    Contains,
    /// `starts with`
    StartsWith,
    /// `ends with`
    EndsWith,
    /// `matches`
    Matches,
}

impl Operator {
    /// Every operator, in the order an editor shows them.
    pub const ALL: [Operator; 13] = [
        Operator::IsEmpty,
        Operator::IsNotEmpty,
        Operator::Equal,
        Operator::NotEqual,
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Greater,
        Operator::GreaterOrEqual,
        Operator::In,
        Operator::Contains,
        Operator::StartsWith,
        Operator::EndsWith,
        Operator::Matches,
    ];

    /// As it is written in both texts.
    pub fn word(self) -> &'static str {
        match self {
            Operator::IsEmpty => "is empty",
            Operator::IsNotEmpty => "is not empty",
            Operator::Equal => "=",
            Operator::NotEqual => "!=",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
            Operator::In => "in",
            Operator::Contains => "contains",
            Operator::StartsWith => "starts with",
            Operator::EndsWith => "ends with",
            Operator::Matches => "matches",
        }
    }
}

impl Written {
    /// Reads a filter, text or tree. None after an error, which is in `out`.
    pub fn parse(node: &Node, out: &mut Diagnostics) -> Option<Written> {
        let filter = match &node.kind {
            Kind::Text { text, .. } => text::parse(node, text, out),
            Kind::Map(_) => tree::parse(node, 0, out),
            Kind::Bool(true) => Some(Written::All(Vec::new())),
            Kind::Bool(false) => Some(Written::Any(Vec::new())),
            Kind::Null | Kind::Number(_) | Kind::List(_) => {
                let found = node.kind_words();
                let words = Words::new(
                    format!("expected a filter, got {}", found.en),
                    format!("нужен фильтр, а здесь {}", found.ru),
                );
                out.push(Diagnostic::error(Code::BadFilter, node.span, words));
                None
            }
        }?;
        if filter.count() <= TESTS_MAX {
            return Some(filter);
        }
        let words = Words::new(
            format!("a filter may have {TESTS_MAX} conditions at most"),
            format!("в фильтре может быть не больше {TESTS_MAX} условий"),
        );
        out.push(Diagnostic::error(Code::BadFilter, node.span, words));
        None
    }

    /// As text; [`Written::parse`] reads the same filter back.
    pub fn to_text(&self) -> String {
        print::text(self)
    }

    /// As a tree; [`Written::parse`] reads the same filter back from it as YAML or JSON.
    pub fn to_tree(&self) -> Value {
        print::tree(self)
    }

    /// Calls `visit` with every reference in it.
    pub fn references<'a>(&'a self, visit: &mut dyn FnMut(&'a Path, Span)) {
        match self {
            Written::All(filters) | Written::Any(filters) => {
                filters.iter().for_each(|filter| filter.references(visit))
            }
            Written::Not(filter) => filter.references(visit),
            Written::Test(test) => {
                test.subject.references(visit);
                match &test.operand {
                    Operand::One(operand) => operand.references(visit),
                    Operand::Many(operands) => operands.iter().for_each(|operand| operand.references(visit)),
                    Operand::Nothing | Operand::Pattern(_) => {}
                }
            }
        }
    }

    /// References that are not empty whenever the filter holds.
    pub fn proves_not_empty(&self) -> Vec<&Path> {
        match self {
            Written::All(filters) => filters.iter().flat_map(Written::proves_not_empty).collect(),
            Written::Any(filters) => {
                let mut each = filters.iter().map(Written::proves_not_empty);
                let first = each.next().unwrap_or_default();
                each.fold(first, |kept, other| kept.into_iter().filter(|path| other.contains(path)).collect())
            }
            Written::Not(inner) => match &**inner {
                Written::Test(test) if test.operator == Operator::IsEmpty => {
                    test.path().into_iter().collect()
                }
                Written::Not(inner) => inner.proves_not_empty(),
                Written::All(_) | Written::Any(_) | Written::Test(_) => Vec::new(),
            },
            Written::Test(test) => match test.operator {
                Operator::IsEmpty | Operator::NotEqual => Vec::new(),
                Operator::IsNotEmpty
                | Operator::Equal
                | Operator::Less
                | Operator::LessOrEqual
                | Operator::Greater
                | Operator::GreaterOrEqual
                | Operator::In
                | Operator::Contains
                | Operator::StartsWith
                | Operator::EndsWith
                | Operator::Matches => test.path().into_iter().collect(),
            },
        }
    }

    fn count(&self) -> usize {
        match self {
            Written::All(filters) | Written::Any(filters) => filters.iter().map(Written::count).sum(),
            Written::Not(filter) => filter.count(),
            Written::Test(_) => 1,
        }
    }

    /// A group of one is that one.
    fn all(mut filters: Vec<Written>) -> Written {
        if filters.len() == 1 { filters.remove(0) } else { Written::All(filters) }
    }

    fn any(mut filters: Vec<Written>) -> Written {
        if filters.len() == 1 { filters.remove(0) } else { Written::Any(filters) }
    }
}

impl Test {
    fn path(&self) -> Option<&Path> {
        match &self.subject {
            Expression::Reference { path, .. } => Some(path),
            // A helper gives nothing when its first argument is empty, but for those made to.
            Expression::Call(call) if !call.function.first_of => match call.arguments.first() {
                Some(Expression::Reference { path, .. }) => Some(path),
                Some(
                    Expression::Literal(_)
                    | Expression::Secret { .. }
                    | Expression::Query(_)
                    | Expression::Call(_),
                )
                | None => None,
            },
            Expression::Call(_)
            | Expression::Literal(_)
            | Expression::Secret { .. }
            | Expression::Query(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
