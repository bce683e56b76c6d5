//! The workspace file, `sheaf.yaml`, and how names of several workspaces are told apart: what belongs to one is called
//! `workspace/name` everywhere outside its own files. The workspace of a whole directory has no such prefix.

use chrono_tz::Tz;

use crate::{
    diagnostic::Diagnostics,
    shape::{Key, Shape, check::check},
    yaml::{Node, Span},
};

/// What `sheaf.yaml` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Its name.
    pub name: String,
    /// The zone of local times that have no other.
    pub time_zone: Tz,
    /// Where the file's contents stand.
    pub span: Span,
}

/// The file's shape.
pub fn shape() -> Shape {
    Shape::object([
        Key::required("kind", Shape::Const("workspace".to_owned())),
        Key::required("name", Shape::Name).help("The name of the workspace.", "Имя рабочего пространства."),
        Key::required("time_zone", Shape::TimeZone)
            .help(
                "The zone of local times, as in Europe/Moscow.",
                "Часовой пояс местного времени, например Europe/Moscow.",
            )
            .sample("Europe/Moscow"),
    ])
}

/// Reads the file; none after an error, which is in `out`.
pub fn read(node: &Node, out: &mut Diagnostics) -> Option<Workspace> {
    if !check(&shape(), node, out) {
        return None;
    }
    Some(Workspace {
        name: node.get("name")?.as_text()?.to_owned(),
        time_zone: node.get("time_zone")?.as_text()?.parse().ok()?,
        span: node.span,
    })
}

/// Stands between the workspace and the name in it; no name holds it.
pub const SEPARATOR: char = '/';

/// The workspace that a connection or bundle of this name belongs to; empty for the directory's own.
pub fn of(name: &str) -> &str {
    name.split_once(SEPARATOR).map_or("", |(workspace, _)| workspace)
}

/// What a connection or bundle is called outside its workspace.
pub fn qualified(workspace: &str, name: &str) -> String {
    if workspace.is_empty() { name.to_owned() } else { format!("{workspace}{SEPARATOR}{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_it_is() {
        for (workspace, name, called) in [("", "crm", "crm"), ("shop", "crm", "shop/crm")] {
            assert_eq!(qualified(workspace, name), called);
            assert_eq!(of(called), workspace);
        }
    }
}
