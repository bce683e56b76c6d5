//! Which events are known: their identities are taken in the transaction that stores them.

use std::collections::{BTreeMap, HashMap};

use sqlx::{PgConnection, Row as _};

use crate::storage::identity::{Key, WINDOW_MS};

/// Takes the identities of new events; those of a known event, within the window, are left alone and not counted. Another
/// node that brings the same identity at this moment is waited for.
const TAKE_KEYS: &str = "
INSERT INTO dedupe (h1, h2, event) SELECT unnest($1::bigint[]), unnest($2::bigint[]), unnest($3::bigint[])
ON CONFLICT (h1, h2) DO UPDATE SET event = excluded.event WHERE dedupe.event < $4";

/// Those that were not taken. With a limit of one each is looked up by its key, whatever the server believes about the
/// table: a plan from when it was small read all of it.
const KNOWN: &str = "
SELECT k.candidate, d.event FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) k (h1, h2, candidate)
CROSS JOIN LATERAL (SELECT event FROM dedupe WHERE h1 = k.h1 AND h2 = k.h2 LIMIT 1) d WHERE d.event <> k.candidate";

/// How the identities of new events are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// As if none of them were known: the transaction fails when one is, see [`is_known`]. Half the work.
    Boldly,
    /// Each is looked up as it is taken.
    Carefully,
}

/// Whether a transaction failed because it took identities boldly and one of them is known, or another node brought it at
/// this moment.
pub fn is_known(error: &sqlx::Error) -> bool {
    let constraint = error.as_database_error().and_then(sqlx::error::DatabaseError::constraint);
    constraint == Some("dedupe_pkey")
}

/// The identities of publishes, with the event each would be. In the order of their hashes: two who bring the same
/// ones lock them in the same order.
#[derive(Default)]
pub struct Identities(BTreeMap<Key, i64>);

/// The event that is known, by the id its candidate has.
pub type Known = HashMap<i64, i64>;

impl Identities {
    /// Puts one in; the event of that identity, which is another one if it was in already.
    pub fn add(&mut self, key: Key, event: i64) -> i64 {
        *self.0.entry(key).or_insert(event)
    }

    /// Takes them carefully.
    pub async fn take(self, connection: &mut PgConnection, now_ms: i64) -> Result<Known, sqlx::Error> {
        if self.0.is_empty() {
            return Ok(Known::new());
        }
        let window = sheaf_bundles::id::compose(now_ms - WINDOW_MS, 0, 0);
        let (h1, h2, events) = self.columns();
        let take = sqlx::query(TAKE_KEYS).bind(&h1).bind(&h2).bind(&events).bind(window);
        let taken = take.execute(&mut *connection).await?.rows_affected();
        if taken == self.0.len() as u64 {
            return Ok(Known::new());
        }
        let known = sqlx::query(KNOWN).bind(h1).bind(h2).bind(events).fetch_all(connection).await?;
        known.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// As they are bound.
    pub fn columns(&self) -> Columns {
        let mut columns = Columns::default();
        for ([h1, h2], event) in &self.0 {
            columns.0.push(*h1);
            columns.1.push(*h2);
            columns.2.push(*event);
        }
        columns
    }
}

/// Both words of the identities, and their events.
pub type Columns = (Vec<i64>, Vec<i64>, Vec<i64>);
