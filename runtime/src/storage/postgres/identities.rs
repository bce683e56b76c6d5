//! Which events are known: their identities are taken in the transaction that stores them.

use std::collections::{BTreeMap, HashMap};

use sheaf_bundles::id::{EventId, compose};
use sqlx::{PgConnection, Row as _};

use crate::storage::identity::{Key, WINDOW_MS};

/// Takes the identities of new events; those of an event that is newer than the last argument are left alone and not counted,
/// and nobody else takes them before this transaction ends. Another node that brings the same identity at this moment is
/// waited for.
const TAKE_KEYS: &str = "
INSERT INTO dedupe (h1, h2, event) SELECT unnest($1::bigint[]), unnest($2::bigint[]), unnest($3::bigint[])
ON CONFLICT (h1, h2) DO UPDATE SET event = excluded.event WHERE dedupe.event < $4";

/// Those that were not taken. With a limit of one each is looked up by its key, whatever the server believes about the
/// table: a plan from when it was small read all of it. With when each was received: it may have waited in a spool.
const KNOWN: &str = "
SELECT k.candidate, d.event, e.received_ms FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) k (h1, h2, candidate)
CROSS JOIN LATERAL (SELECT event FROM dedupe WHERE h1 = k.h1 AND h2 = k.h2 LIMIT 1) d
LEFT JOIN LATERAL (SELECT received_ms FROM event WHERE id = d.event LIMIT 1) e ON true
WHERE d.event <> k.candidate";

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

/// What an identity is taken for.
#[derive(Debug, Clone, Copy)]
pub struct New {
    /// The event.
    pub event: i64,
    /// An event of this identity that was received later than this is the same one, milliseconds since 1970.
    pub after_ms: i64,
}

/// The identities of publishes. In the order of their hashes: two who bring the same ones lock them in the same order.
#[derive(Default)]
pub struct Identities(BTreeMap<Key, New>);

/// The event that is known, by the id its candidate has.
pub type Known = HashMap<i64, i64>;

impl Identities {
    /// Puts one in; the event of that identity, which is another one if it was in already. Of the two the later says since
    /// when it is known: an earlier one that is known for longer must not take the later with it.
    pub fn add(&mut self, key: Key, new: New) -> i64 {
        let one = self.0.entry(key).or_insert(new);
        one.after_ms = one.after_ms.max(new.after_ms);
        one.event
    }

    /// Takes them carefully.
    pub async fn take(mut self, connection: &mut PgConnection, now_ms: i64) -> Result<Known, sqlx::Error> {
        if self.0.is_empty() {
            return Ok(Known::new());
        }
        let remembered = compose(now_ms - WINDOW_MS, 0, 0);
        if self.take_from(connection, remembered).await? == self.0.len() as u64 {
            return Ok(Known::new());
        }
        let (h1, h2, events) = self.columns();
        let rows = sqlx::query(KNOWN).bind(h1).bind(h2).bind(events).fetch_all(&mut *connection).await?;
        let (mut known, mut received) = (Known::new(), HashMap::new());
        for row in rows {
            let (candidate, of) = (row.try_get(0)?, row.try_get(1)?);
            let received_ms: Option<i64> = row.try_get(2)?;
            known.insert(candidate, of);
            received.insert(candidate, EventId(of).time_ms().min(received_ms.unwrap_or(i64::MAX)));
        }
        // Those that are remembered longer than their own window, which few are.
        self.0.retain(|_, new| {
            received.get(&new.event).is_some_and(|received_ms| *received_ms <= new.after_ms)
        });
        if !self.0.is_empty() {
            self.take_from(connection, i64::MAX).await?;
            self.0.values().for_each(|new| _ = known.remove(&new.event));
        }
        Ok(known)
    }

    /// Takes those whose event is older than `newest`; how many they are.
    async fn take_from(&self, connection: &mut PgConnection, newest: i64) -> Result<u64, sqlx::Error> {
        let (h1, h2, events) = self.columns();
        let take = sqlx::query(TAKE_KEYS).bind(h1).bind(h2).bind(events).bind(newest);
        Ok(take.execute(connection).await?.rows_affected())
    }

    /// As they are bound.
    pub fn columns(&self) -> Columns {
        let mut columns = Columns::default();
        for ([h1, h2], new) in &self.0 {
            columns.0.push(*h1);
            columns.1.push(*h2);
            columns.2.push(new.event);
        }
        columns
    }
}

/// Both words of the identities, and their events.
pub type Columns = (Vec<i64>, Vec<i64>, Vec<i64>);
