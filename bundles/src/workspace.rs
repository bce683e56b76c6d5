//! The workspace file, `sheaf.yaml`, and how names of several workspaces are told apart: what belongs to one is called
//! `workspace/name` everywhere outside its own files. The workspace of a whole directory has no such prefix.

use chrono_tz::Tz;

use crate::{
    bundle::named,
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt},
    shape::{Key, Shape, check::check},
    words::Words,
    yaml::{Node, Span},
};

/// Holds the folders of a directory's workspaces, each called as its workspace.
pub const FOLDER: &str = "workspaces";

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

/// Reads the file of the workspace of that key; none after an error, which is in `out`.
pub fn read(node: &Node, key: &str, out: &mut Diagnostics) -> Option<Workspace> {
    if !check(&shape(), node, out) {
        return None;
    }
    let (name, span) = named(node, "name")?;
    if !key.is_empty() && name != key {
        out.push(other_name(name, key, span));
    }
    Some(Workspace {
        name: name.to_owned(),
        time_zone: node.get("time_zone")?.as_text()?.parse().ok()?,
        span: node.span,
    })
}

fn other_name(name: &str, key: &str, span: Span) -> Diagnostic {
    let key = excerpt(key);
    let message = Words::new(
        format!("the workspace is called `{name}`, and its folder `{key}`"),
        format!("рабочее пространство называется `{name}`, а его папка — `{key}`"),
    );
    let hint = Words::new("give both the same name", "назовите их одинаково");
    Diagnostic::error(Code::BadWorkspace, span, message).with_hint(hint)
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

/// What a connection or bundle is called in its workspace's own files.
pub fn bare(name: &str) -> &str {
    name.split_once(SEPARATOR).map_or(name, |(_, bare)| bare)
}

/// A path that a workspace's files name, from the directory that is served; an absolute one is what it is.
pub fn path(workspace: &str, path: &str) -> String {
    let below = !workspace.is_empty() && !path.starts_with('/');
    if below { format!("{FOLDER}/{workspace}/{path}") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_it_is() {
        for (workspace, name, called) in [("", "crm", "crm"), ("shop", "crm", "shop/crm")] {
            assert_eq!(qualified(workspace, name), called);
            assert_eq!((of(called), bare(called)), (workspace, name));
        }
    }

    #[test]
    fn a_path_is_below_the_folder_of_its_workspace() {
        assert_eq!(path("", "keys/crm"), "keys/crm");
        assert_eq!(path("shop", "keys/crm"), "workspaces/shop/keys/crm");
        assert_eq!(path("shop", "/run/keys/crm"), "/run/keys/crm");
    }
}
