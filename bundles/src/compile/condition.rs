//! Filters in manifests and bundles.

use super::names::Names;
use crate::{diagnostic::Diagnostics, expression::Env, filter::Filter, path::Path, yaml::Node};

/// Reads and checks a filter; none after an error, which is in `out`.
pub fn compile(node: &Node, names: &Names<'_>, out: &mut Diagnostics) -> Option<Filter> {
    Filter::compile(node, names, out)
}

/// Whether a manifest's filter holds; the manifest's own check has reported what is wrong with it.
pub fn holds(node: &Node, names: &Names<'_>, env: &dyn Env) -> bool {
    compile(node, names, &mut Diagnostics::default()).is_some_and(|filter| filter.eval(env))
}

/// The references that cannot be empty when the filter holds.
pub fn proven(filter: Option<&Filter>) -> Vec<Path> {
    filter.map(Filter::not_empty).unwrap_or_default()
}
