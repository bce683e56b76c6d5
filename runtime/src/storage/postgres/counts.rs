//! A node's own counters. What a turn counts is added by the statement that stores its events, when there is one.

use std::sync::{Arc, LazyLock};

use sqlx::{AssertSqlSafe, PgConnection, Postgres, postgres::PgArguments, query::Query};

use crate::storage::ledger::{COUNTS, Tally, adding};

/// Arguments of the statement: whose counters, the connections, the changes.
pub const ARGUMENTS: usize = 2 + COUNTS;

/// The statement that adds to counters, with the first of its arguments.
pub fn sql(first: usize) -> String {
    let columns = (first + 1..first + ARGUMENTS).map(|place| format!("unnest(${place}::bigint[])"));
    let columns = columns.collect::<Vec<_>>().join(", ");
    adding("ledger_of_node", "node, connection", &format!("SELECT ${first}::smallint, {columns}"))
}

/// Binds its arguments.
pub fn bind(
    query: Query<'_, Postgres, PgArguments>,
    ledger: i16,
    tally: Tally,
) -> Query<'_, Postgres, PgArguments> {
    let (connections, counts): (Vec<i64>, Vec<[i64; COUNTS]>) = tally.into_rows().unzip();
    let query = query.bind(ledger).bind(connections);
    let column = |counter: usize| counts.iter().map(|counts| counts[counter]).collect::<Vec<i64>>();
    (0..COUNTS).fold(query, |query, counter| query.bind(column(counter)))
}

/// Adds to counters by itself.
pub async fn add(connection: &mut PgConnection, ledger: i16, tally: Tally) -> Result<(), sqlx::Error> {
    static ADD: LazyLock<Arc<str>> = LazyLock::new(|| sql(1).into());
    if !tally.is_empty() {
        bind(sqlx::query(AssertSqlSafe(ADD.clone())), ledger, tally).execute(connection).await?;
    }
    Ok(())
}
