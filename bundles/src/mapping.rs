//! Dotted targets to nested values: `customer.mobilePhone: "{{ callerphone }}"`.
//!
//! What is empty is left out, and so is an object or a list in which everything was left out; a literal is written as it stands.

mod build;
mod source;
mod target;

use crate::{
    diagnostic::Diagnostics,
    expression::{Env, Scope, error::EvalError},
    types::Field,
    value::{Map, Text, Value},
    yaml::Node,
};
use source::Source;

/// Deepest nesting of targets.
pub const TARGET_DEPTH_MAX: usize = 32;
/// Longest list that indexes of targets may make, items.
pub const TARGET_ITEMS_MAX: usize = 1_000;

/// A compiled mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    entries: Vec<(Text, Place)>,
}

/// What stands at one place of the result.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    /// A value.
    Value(Source),
    /// An object, in the order its keys were first written.
    Object(Vec<(Text, Place)>),
    /// A list.
    List(Vec<Place>),
}

impl Mapping {
    /// Compiles a mapping node against the fields it may fill; `open` welcomes other keys too.
    /// None after an error, which is in `out`.
    pub fn compile(
        node: &Node,
        fields: &[Field],
        open: bool,
        scope: &dyn Scope,
        out: &mut Diagnostics,
    ) -> Option<Mapping> {
        build::mapping(node, fields, open, scope, out).map(|entries| Mapping { entries })
    }

    /// The object. An error names the target or reference it is about, never the event's data.
    pub fn eval(&self, env: &dyn Env) -> Result<Value, EvalError> {
        Ok(object(&self.entries, env)?.into())
    }
}

impl Place {
    /// None when it is left out.
    fn eval(&self, env: &dyn Env) -> Result<Option<Value>, EvalError> {
        match self {
            Place::Value(source) => source.eval(env),
            Place::Object(entries) => {
                let object = object(entries, env)?;
                Ok((!object.is_empty() || entries.is_empty()).then(|| object.into()))
            }
            Place::List(places) => {
                let mut items = Vec::with_capacity(places.len());
                for place in places {
                    items.extend(place.eval(env)?);
                }
                Ok((!items.is_empty() || places.is_empty()).then_some(Value::List(items)))
            }
        }
    }
}

fn object(entries: &[(Text, Place)], env: &dyn Env) -> Result<Map, EvalError> {
    let mut object = Map::with_capacity_and_hasher(entries.len(), Default::default());
    for (key, place) in entries {
        if let Some(value) = place.eval(env)? {
            object.insert(key.clone(), value);
        }
    }
    Ok(object)
}

#[cfg(test)]
mod tests;
