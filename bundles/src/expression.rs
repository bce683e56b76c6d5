//! Expressions: what stands between `{{` and `}}`, and on both sides of a filter's operator. Typed once, evaluated many times.

mod check;
pub mod error;
pub mod query;

use std::borrow::{Borrow, Cow};

use chrono_tz::Tz;

use crate::{
    function::{Context, Function},
    path::{self, Path, Segment},
    types::{self, Field, Found, Type},
    value::{Map, Value},
    words::Words,
    yaml::Span,
};
use error::{EvalError, EvalErrorKind};
use query::Query;

/// Most bytes one text may have when evaluated.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// What names mean while a bundle is compiled.
pub trait Scope {
    /// What a reference stands for.
    fn resolve(&self, path: &Path) -> Resolution;

    /// The zone that `local` and `date` write in when none is given: the workspace's.
    fn time_zone(&self) -> Option<Tz> {
        None
    }
}

/// What a reference stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolution {
    /// A value.
    Known(Known),
    /// There is such a field, and this trigger never has it; the words say why.
    Unavailable(Words),
    /// No such name at segment `at`; the root itself when the path has no such segment.
    Unknown {
        /// Which segment.
        at: usize,
        /// The names that would have been right there.
        candidates: Vec<String>,
    },
}

/// A value that a reference leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// What it is.
    pub ty: Type,
    /// It can be absent, null, "", [] or {}.
    pub can_be_empty: bool,
    /// Words that the vendor writes for "no value"; decoding has made them null already.
    pub no_value: Vec<String>,
    /// Personal or sensitive: not shown in explanations.
    pub private: bool,
}

/// Where values come from at run time. Values are typed and no-value words are null already.
pub trait Env {
    /// The value a reference leads to; none when there is nothing there.
    fn get(&self, path: &Path) -> Option<&Value>;

    /// What `$` is in a JSONPath query: the event's fields.
    fn fields(&self) -> &Map;
}

/// An event's fields alone.
impl Env for Map {
    fn get(&self, path: &Path) -> Option<&Value> {
        match path.root {
            path::Root::Event => path::lookup(self, &path.segments),
            path::Root::Steps
            | path::Root::Connection
            | path::Root::Item
            | path::Root::Input
            | path::Root::Delivery
            | path::Root::Response
            | path::Root::Workspace => None,
        }
    }

    fn fields(&self) -> &Map {
        self
    }
}

impl Resolution {
    /// Resolves a path among declared fields. `zone` becomes the zone of local times among them.
    pub fn of_fields<F: Borrow<Field>>(
        fields: &[F],
        open: bool,
        segments: &[Segment],
        zone: Option<Tz>,
    ) -> Resolution {
        if segments.is_empty() {
            let fields: Vec<Field> = fields.iter().map(|field| field.borrow().clone()).collect();
            let ty = Type::Object { fields, open };
            let private = ty.holds_marked();
            return Resolution::Known(Known { ty, can_be_empty: false, no_value: Vec::new(), private });
        }
        let is_marked = |length| match types::find(fields, open, &segments[..length]) {
            Found::Field(field) => field.is_marked(),
            Found::Inside { .. } | Found::Unknown { .. } => false,
        };
        let on_the_way = (1..=segments.len()).any(is_marked);
        match types::find(fields, open, segments) {
            Found::Field(field) => Resolution::Known(Known {
                ty: field.ty.clone().in_zone(zone),
                can_be_empty: !field.always || segments.len() > 1,
                no_value: field.no_value.clone(),
                private: on_the_way || field.ty.holds_marked(),
            }),
            Found::Inside { field, ty } => Resolution::Known(Known {
                ty: ty.clone().in_zone(zone),
                can_be_empty: true,
                no_value: field.map(|field| field.no_value.clone()).unwrap_or_default(),
                private: on_the_way || ty.holds_marked(),
            }),
            Found::Unknown { at, known } => {
                Resolution::Unknown { at, candidates: known.into_iter().map(str::to_owned).collect() }
            }
        }
    }
}

impl Type {
    /// The same with local times in this zone.
    pub fn in_zone(self, zone: Option<Tz>) -> Type {
        match self {
            Type::LocalTime(None) => Type::LocalTime(zone),
            Type::List(items) => Type::List(Box::new(items.in_zone(zone))),
            Type::Map(items) => Type::Map(Box::new(items.in_zone(zone))),
            other @ (Type::Any
            | Type::Text
            | Type::Integer
            | Type::Decimal
            | Type::Boolean
            | Type::Phone
            | Type::Email
            | Type::Url
            | Type::Instant(_)
            | Type::LocalTime(Some(_))
            | Type::Duration(_)
            | Type::Enum(_)
            | Type::Object { .. }
            | Type::Filter) => other,
        }
    }
}

/// A place in a file that does not count when two trees are compared.
#[derive(Debug, Clone, Copy)]
pub struct Place(pub Span);

impl PartialEq for Place {
    fn eq(&self, _: &Place) -> bool {
        true
    }
}

/// One expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// A constant.
    Literal(Value),
    /// A reference.
    Reference {
        /// To what.
        path: Path,
        /// Where it stands.
        place: Place,
    },
    /// `connection.secrets.<name>`; becomes a placeholder, never text.
    Secret {
        /// The secret's name.
        name: String,
        /// Where it stands.
        place: Place,
    },
    /// A JSONPath query over the event's fields.
    Query(Query),
    /// A call of a helper.
    Call(Call),
}

/// A call of a helper.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Which one.
    pub function: &'static Function,
    /// Its arguments, in the order of its parameters; an optional one that was left out is null.
    pub arguments: Vec<Expression>,
    /// What the check found out for it.
    pub context: Context,
    /// Where the call stands.
    pub place: Place,
}

/// What an expression is, once checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Typed {
    /// Its type.
    pub ty: Type,
    /// It can be empty at run time.
    pub can_be_empty: bool,
    /// It is or holds something personal or sensitive.
    pub private: bool,
    /// Its value, when that is known at compile time.
    pub constant: Option<Value>,
    /// No-value words of the field it is.
    pub no_value: Vec<String>,
}

impl Expression {
    /// Makes a reference, or a secret when the path is one.
    pub fn from_path(path: Path, span: Span) -> Expression {
        let place = Place(span);
        match path.secret() {
            Some(name) => Expression::Secret { name: name.to_owned(), place },
            None => Expression::Reference { path, place },
        }
    }

    /// The value. Borrows from the environment wherever nothing has to be computed.
    pub fn eval<'a>(&'a self, env: &'a dyn Env) -> Result<Cow<'a, Value>, EvalError> {
        match self {
            Expression::Literal(value) => Ok(Cow::Borrowed(value)),
            Expression::Reference { path, .. } => Ok(Cow::Borrowed(env.get(path).unwrap_or(&Value::Null))),
            Expression::Secret { name, .. } => {
                Err(EvalError::at(format!("connection.secrets.{name}"), EvalErrorKind::Secret))
            }
            Expression::Query(query) => query.eval(env.fields()),
            Expression::Call(call) => call.eval(env),
        }
    }

    /// Calls `visit` with every reference in it.
    pub fn references<'a>(&'a self, visit: &mut dyn FnMut(&'a Path, Span)) {
        match self {
            Expression::Reference { path, place } => visit(path, place.0),
            Expression::Call(call) => call.arguments.iter().for_each(|argument| argument.references(visit)),
            Expression::Literal(_) | Expression::Secret { .. } | Expression::Query(_) => {}
        }
    }

    /// Whether it names a secret anywhere.
    pub fn has_secret(&self) -> bool {
        match self {
            Expression::Secret { .. } => true,
            Expression::Call(call) => call.arguments.iter().any(Expression::has_secret),
            Expression::Literal(_) | Expression::Reference { .. } | Expression::Query(_) => false,
        }
    }

    /// How an error message calls it: the first reference inside.
    pub fn label(&self) -> String {
        match self {
            Expression::Literal(_) => "value".to_owned(),
            Expression::Reference { path, .. } => path.to_string(),
            Expression::Secret { name, .. } => format!("connection.secrets.{name}"),
            Expression::Query(query) => query.text().to_owned(),
            Expression::Call(call) => {
                call.arguments.first().map_or_else(|| call.function.name.to_owned(), Expression::label)
            }
        }
    }
}

impl Call {
    fn eval<'a>(&'a self, env: &'a dyn Env) -> Result<Cow<'a, Value>, EvalError> {
        let mut values = Vec::with_capacity(self.arguments.len());
        for argument in &self.arguments {
            let value = argument.eval(env)?;
            let found = self.function.first_of && !value.is_empty();
            values.push(value);
            // What comes after is not needed, and it may be what cannot be computed.
            if found {
                break;
            }
        }
        // Nothing in, nothing out: only helpers made for it look at an empty first argument.
        if !self.function.first_of && values.first().is_some_and(|value| value.is_empty()) {
            return Ok(Cow::Owned(Value::Null));
        }
        (self.function.run)(&self.context, values)
            .map_err(|kind| EvalError::at(self.arguments[0].label(), kind))
    }
}

/// The text of a value that can stand inside a text; empty values are none.
pub fn text_of(value: &Value) -> Result<Option<Cow<'_, str>>, EvalErrorKind> {
    match value {
        Value::Null => Ok(None),
        Value::Text(text) if text.is_empty() => Ok(None),
        Value::Text(text) => Ok(Some(Cow::Borrowed(text))),
        Value::Number(number) => Ok(Some(Cow::Owned(number.to_string()))),
        Value::Bool(bool) => Ok(Some(Cow::Borrowed(if *bool { "true" } else { "false" }))),
        Value::List(_) | Value::Object(_) => Err(EvalErrorKind::NotText),
    }
}

#[cfg(test)]
pub mod testing;
