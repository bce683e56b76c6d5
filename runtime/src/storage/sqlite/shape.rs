//! Multi-row statements in a few fixed shapes, so that SQLite's compiled statements are used again.
//!
//! The number of rows is padded to a power of two, or one and a half of one, with NULL rows that the statement skips:
//! twenty shapes per statement instead of five hundred, one crossing to the connection's thread instead of one per row.
//! `OR ROLLBACK` in an insert spares SQLite a journal of its own for the statement: an error ends the transaction anyway.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, QueryResult, Statement, Value};

/// A statement around a `VALUES` list.
#[derive(Debug)]
pub struct Shape {
    /// What stands before `VALUES`.
    pub before: &'static str,
    /// Columns of a row.
    pub columns: usize,
    /// What stands after the list; it must skip rows whose `column1` is NULL.
    pub after: &'static str,
}

/// The texts of the shapes used so far.
#[derive(Debug, Default)]
pub struct Shapes {
    texts: HashMap<(&'static str, usize), String>,
}

/// Rows on their way into a shape.
#[derive(Debug, Default)]
pub struct Rows(Vec<Value>);

impl Rows {
    /// Room for so many values.
    pub fn with_capacity(values: usize) -> Rows {
        Rows(Vec::with_capacity(values))
    }

    /// Adds one row.
    pub fn push<const N: usize>(&mut self, row: [Value; N]) {
        self.0.extend(row);
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Shapes {
    /// Runs a statement over the rows; the number of rows it changed.
    pub async fn execute(
        &mut self,
        tx: &DatabaseTransaction,
        shape: &Shape,
        rows: Rows,
    ) -> Result<u64, DbErr> {
        if rows.is_empty() {
            return Ok(0);
        }
        Ok(tx.execute_raw(self.statement(shape, rows)).await?.rows_affected())
    }

    /// Runs a query over the rows.
    pub async fn query(
        &mut self,
        tx: &DatabaseTransaction,
        shape: &Shape,
        rows: Rows,
    ) -> Result<Vec<QueryResult>, DbErr> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        tx.query_all_raw(self.statement(shape, rows)).await
    }

    fn statement(&mut self, shape: &Shape, Rows(mut values): Rows) -> Statement {
        let rows = padded(values.len() / shape.columns);
        values.resize(rows * shape.columns, Value::BigInt(None));
        let text = self.texts.entry((shape.before, rows)).or_insert_with(|| text(shape, rows));
        Statement::from_sql_and_values(DbBackend::Sqlite, text.as_str(), values)
    }
}

/// The rows of the shape that so many fit into.
fn padded(rows: usize) -> usize {
    let power = rows.next_power_of_two();
    let between = power / 4 * 3;
    if rows <= between { between } else { power }
}

fn text(shape: &Shape, rows: usize) -> String {
    let row = format!("({})", vec!["?"; shape.columns].join(","));
    let after = shape.after;
    #[cfg(feature = "faulty")]
    let after = match crate::faulty::has(crate::faulty::Fault::NoFence) {
        true => crate::faulty::without_fence(after),
        false => after.to_owned(),
    };
    format!("{}VALUES {}{after}", shape.before, vec![row.as_str(); rows].join(","))
}

/// A fixed statement with its values.
pub fn fixed<const N: usize>(sql: &str, values: [Value; N]) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_the_next_power_of_two_or_half_way_to_it() {
        let shapes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 33, 48, 49, 512].map(padded);
        assert_eq!(shapes, [1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 16, 48, 48, 64, 512]);
    }
}
