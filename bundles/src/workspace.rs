//! The workspace file, `sheaf.yaml`.

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
