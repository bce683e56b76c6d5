//! Filters: what plans and hooks need of them. The language's own parser takes this file's place.

use crate::{
    diagnostic::Diagnostics,
    expression::{Env, Scope},
    path::Path,
    words::Words,
    yaml::{Node, Span},
};

/// A checked filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter;

impl Filter {
    /// Reads a text or a tree and checks it; none after an error, which is in `out`.
    pub fn compile(node: &Node, scope: &dyn Scope, out: &mut Diagnostics) -> Option<Filter> {
        let _ = (node, scope, out);
        Some(Filter)
    }

    /// Whether it holds.
    pub fn eval(&self, env: &dyn Env) -> bool {
        let _ = env;
        true
    }

    /// The smallest condition that does not hold; none when it holds.
    pub fn explain(&self, env: &dyn Env) -> Option<Words> {
        let _ = env;
        None
    }

    /// References that cannot be empty when the filter holds.
    pub fn not_empty(&self) -> Vec<Path> {
        Vec::new()
    }

    /// Calls `visit` with every reference in it.
    pub fn references<'a>(&'a self, visit: &mut dyn FnMut(&'a Path, Span)) {
        let _ = visit;
    }
}
