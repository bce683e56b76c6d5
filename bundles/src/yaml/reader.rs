//! Events of the YAML crate to nodes.

use super::{FileId, Node};
use crate::diagnostic::Diagnostics;

pub(super) fn read(file: FileId, text: &str, out: &mut Diagnostics) -> Option<Node> {
    let _ = (file, text, out);
    None
}
