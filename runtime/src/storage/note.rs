//! Small texts that outlive a process. A change names the revision it is based on, so of two who decide at once one wins.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr};

use super::sql::statement;
use crate::queue::observe::Note;

const READ: &str = "SELECT revision, text FROM note WHERE name = ?";
const FIRST: &str = "INSERT INTO note (name, revision, text) VALUES (?, 1, ?) ON CONFLICT DO NOTHING";
const NEXT: &str = "UPDATE note SET text = ?, revision = revision + 1 WHERE name = ? AND revision = ?";

/// The note, or an empty one.
pub async fn read(connection: &DatabaseConnection, name: &str) -> Result<Note, DbErr> {
    match connection.query_one_raw(statement(connection, READ, [name.into()])).await? {
        Some(row) => Ok(Note { revision: row.try_get_by_index(0)?, text: row.try_get_by_index(1)? }),
        None => Ok(Note::default()),
    }
}

/// Writes it unless it changed since `seen_revision`.
pub async fn keep(
    connection: &DatabaseConnection,
    name: &str,
    text: &str,
    seen_revision: i64,
) -> Result<bool, DbErr> {
    let change = if seen_revision == 0 {
        statement(connection, FIRST, [name.into(), text.into()])
    } else {
        statement(connection, NEXT, [text.into(), name.into(), seen_revision.into()])
    };
    Ok(connection.execute_raw(change).await?.rows_affected() == 1)
}
