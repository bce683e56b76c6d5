//! One text of a statement for both databases.

use std::fmt::Write as _;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, RuntimeErr, Statement, Value};

/// A statement with its values, for the database that `on` is connected to. Placeholders are written `?`, or `?1`, `?2`, …
/// throughout, and no literal in these texts holds one.
pub fn statement(on: &impl ConnectionTrait, sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    match on.get_database_backend() {
        DbBackend::Postgres => Statement::from_sql_and_values(DbBackend::Postgres, numbered(sql), values),
        other => Statement::from_sql_and_values(other, sql, values),
    }
}

/// A query whose rows stay as they are until the transaction ends. SQLite's writers are one at a time anyway.
pub fn locked(on: &impl ConnectionTrait, sql: &str) -> String {
    match on.get_database_backend() {
        DbBackend::Postgres => format!("{sql} FOR UPDATE"),
        _ => sql.to_owned(),
    }
}

/// A whole number that is never negative and fits; PostgreSQL has no unsigned types.
pub fn count(row: &QueryResult, column: usize) -> Result<u32, DbErr> {
    let number: i64 = row.try_get_by_index(column)?;
    u32::try_from(number).map_err(|_| DbErr::Custom(format!("the stored number {number} is out of range")))
}

/// The database's own code of an error, if it is the database that refused.
pub fn database_code(error: &DbErr) -> Option<String> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(inner))
        | DbErr::Exec(RuntimeErr::SqlxError(inner))
        | DbErr::Query(RuntimeErr::SqlxError(inner)) => {
            inner.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
        }
        _ => None,
    }
}

/// `?` as `$1`, `$2`, …, and `?2` as `$2`.
fn numbered(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len() + 16);
    let mut pieces = sql.split('?');
    text.push_str(pieces.next().unwrap_or_default());
    for (number, piece) in pieces.enumerate() {
        let numbered = piece.starts_with(|first: char| first.is_ascii_digit());
        // Writing to a string cannot fail.
        let _ = if numbered { write!(text, "${piece}") } else { write!(text, "${}{piece}", number + 1) };
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn placeholders_are_numbered_in_their_order() {
        assert_eq!(super::numbered("a = ? AND b IN (?, ?)"), "a = $1 AND b IN ($2, $3)");
        assert_eq!(super::numbered("a = ?2 AND b = ?1"), "a = $2 AND b = $1");
        assert_eq!(super::numbered("SELECT 1"), "SELECT 1");
    }
}
