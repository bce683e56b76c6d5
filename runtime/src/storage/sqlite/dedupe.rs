//! Which events are known: one identity per event, for a window, without a random page write per event.
//!
//! An index over hashes dirties a page for each event. So recent identities are kept in memory and, in the order they
//! came, in `dedupe_log`; when enough of them are there, they are sorted and merged into a table in slices, neighbours
//! together. A restart reads the log back. What is in the tables is asked of filters first (see [`super::filter`]).

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, Value};

use super::{
    filter::Filter,
    shape::{Rows, Shape, Shapes, fixed},
};
use crate::storage::identity::{Key, WINDOW_MS};

/// Identities in memory before they are merged; just under the point where the hash table doubles (about 3.5 MB).
const RECENT_MAX: usize = 114_000;
/// Identities merged in one commit.
const SLICE: usize = 1024;
/// Filters, each of about as many identities as [`RECENT_MAX`] and asked for every new event: 15 MB, seven million
/// identities. Past it they would say "perhaps" of every tenth and cost more than looking up.
const FILTERS_MAX: usize = 64;
/// Bytes of one identity in the log: two halves of the hash and the event's id.
const KEY_BYTES: usize = 24;

/// What is known.
#[derive(Debug, Default)]
pub struct Dedupe {
    recent_max: usize,
    recent: HashMap<Key, i64>,
    frozen: Vec<(Key, i64)>,
    merged: usize,
    /// The last row of the log that `frozen` covers.
    frozen_until: i64,
    /// The last row of the log.
    logged_until: i64,
    /// What the tables hold, with the number of the last window that each was written in.
    filters: Vec<(i64, Filter)>,
    /// The last window in which something was written without a filter: by an older sheaf, or past [`FILTERS_MAX`].
    unfiltered: Option<i64>,
    /// The number of the window whose table is written.
    bucket: i64,
}

/// A slice on its way into a table; applied to memory once its transaction is committed.
#[derive(Debug)]
pub struct Slice {
    until: usize,
    bucket: i64,
    /// With the last slice of a merge: the filter of the whole, if there is room for it.
    last: Option<Option<Filter>>,
}

impl Dedupe {
    /// Reads back what the last process knew.
    pub async fn load(connection: &DatabaseConnection) -> Result<Dedupe, DbErr> {
        let mut dedupe = Dedupe {
            recent_max: RECENT_MAX,
            bucket: number(connection, "dedupe_bucket").await?.unwrap_or(i64::MIN),
            unfiltered: number(connection, "dedupe_unfiltered").await?,
            ..Dedupe::default()
        };
        for row in connection.query_all_raw(fixed("SELECT id, keys FROM dedupe_log ORDER BY id", [])).await? {
            dedupe.logged_until = row.try_get_by_index(0)?;
            let keys: Vec<u8> = row.try_get_by_index(1)?;
            dedupe.recent.extend(read_log(&keys));
        }
        for row in connection.query_all_raw(fixed("SELECT bucket, bits FROM dedupe_filter", [])).await? {
            let (bucket, bits): (i64, Vec<u8>) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            match Filter::from_bytes(&bits) {
                Some(filter) => dedupe.filters.push((bucket, filter)),
                None => dedupe.unfiltered = dedupe.unfiltered.max(Some(bucket)),
            }
        }
        Ok(dedupe)
    }

    /// The event of that identity, if memory knows one.
    pub fn in_memory(&self, key: &Key) -> Option<i64> {
        let frozen =
            || self.frozen.binary_search_by(|(known, _)| known.cmp(key)).ok().map(|at| self.frozen[at].1);
        self.recent.get(key).copied().or_else(frozen)
    }

    /// The events of those identities that the tables know, by the number given with each.
    pub async fn in_tables(
        &self,
        tx: &DatabaseTransaction,
        shapes: &mut Shapes,
        keys: &[(usize, Key)],
    ) -> Result<HashMap<usize, i64>, DbErr> {
        let mut found = HashMap::new();
        let mut rows = Rows::default();
        for (number, [h1, h2]) in keys.iter().filter(|(_, key)| self.may_be_stored(key)) {
            rows.push([i64::try_from(*number).unwrap_or(i64::MAX).into(), (*h1).into(), (*h2).into()]);
        }
        for row in shapes.query(tx, &LOOK_UP, rows).await? {
            let number: i64 = row.try_get_by_index(0)?;
            let event: i64 = row.try_get_by_index(1)?;
            let entry = found.entry(usize::try_from(number).unwrap_or(usize::MAX)).or_insert(event);
            *entry = event.max(*entry);
        }
        Ok(found)
    }

    /// Whether the tables may hold that identity; `false` is certain.
    fn may_be_stored(&self, key: &Key) -> bool {
        // The table of a window is emptied when the second one after it begins.
        self.unfiltered.is_some_and(|last| self.bucket < last + 2)
            || self.filters.iter().any(|(_, filter)| filter.may_hold(key))
    }

    /// Writes the next slice of a merge, if one is under way.
    pub async fn merge(
        &self,
        tx: &DatabaseTransaction,
        shapes: &mut Shapes,
        now_ms: i64,
    ) -> Result<Option<Slice>, DbErr> {
        if self.frozen.is_empty() {
            return Ok(None);
        }
        let bucket = self.window(now_ms);
        let table = if bucket.rem_euclid(2) == 0 { &EVEN } else { &ODD };
        if bucket > self.bucket {
            tx.execute_unprepared(table.empty).await?;
            let note = "INSERT INTO meta VALUES ('dedupe_bucket', ?) ON CONFLICT DO UPDATE SET value = excluded.value";
            tx.execute_raw(fixed(note, [bucket.into()])).await?;
            let gone = fixed("DELETE FROM dedupe_filter WHERE bucket <= ?", [(bucket - 2).into()]);
            tx.execute_raw(gone).await?;
        }
        let until = self.frozen.len().min(self.merged + SLICE);
        let mut rows = Rows::with_capacity(SLICE * 3);
        for ([h1, h2], event) in &self.frozen[self.merged..until] {
            rows.push([(*h1).into(), (*h2).into(), (*event).into()]);
        }
        shapes.execute(tx, &table.merge, rows).await?;
        let mut last = None;
        if until == self.frozen.len() {
            let clear = fixed("DELETE FROM dedupe_log WHERE id <= ?", [self.frozen_until.into()]);
            tx.execute_raw(clear).await?;
            let whole = self.has_room(bucket).then(|| Filter::of(self.frozen.iter().map(|(key, _)| key)));
            tx.execute_raw(match &whole {
                Some(filter) => fixed(
                    "INSERT INTO dedupe_filter (bucket, bits) VALUES (?, ?)",
                    [bucket.into(), filter.to_bytes().into()],
                ),
                None => fixed(
                    "INSERT INTO meta VALUES ('dedupe_unfiltered', ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                    [bucket.into()],
                ),
            })
            .await?;
            last = Some(whole);
        }
        Ok(Some(Slice { until, bucket, last }))
    }

    /// Whether one more filter may be kept, in that window.
    fn has_room(&self, bucket: i64) -> bool {
        self.filters.iter().filter(|(written, _)| *written > bucket - 2).count() < FILTERS_MAX
    }

    /// The number of the window whose table is written now. It never goes back, and forward by one with a merge: what a
    /// clock that is wrong for a moment could empty is the older table alone.
    fn window(&self, now_ms: i64) -> i64 {
        let now = now_ms.div_euclid(WINDOW_MS);
        match (self.bucket, self.merged) {
            (i64::MIN, _) => now,
            (bucket, 0) => now.clamp(bucket, bucket + 1),
            (bucket, _) => bucket,
        }
    }

    /// Takes note of a committed slice.
    pub fn merged(&mut self, slice: Slice) {
        let Slice { until, bucket, last } = slice;
        if bucket > self.bucket {
            self.filters.retain(|(written, _)| *written > bucket - 2);
        }
        (self.merged, self.bucket) = (until, bucket);
        if let Some(filter) = last {
            match filter {
                Some(filter) => self.filters.push((bucket, filter)),
                None => self.unfiltered = Some(bucket),
            }
            (self.frozen, self.merged) = (Vec::new(), 0);
        }
    }

    /// Takes note of committed events: their identities, and the row of the log that holds them.
    pub fn remember(&mut self, log: i64, keys: impl IntoIterator<Item = (Key, i64)>) {
        self.recent.extend(keys);
        self.logged_until = log;
        if self.recent.len() >= self.recent_max && self.frozen.is_empty() {
            self.frozen = self.recent.drain().collect();
            self.frozen.sort_unstable();
            self.frozen_until = self.logged_until;
        }
    }
}

/// What `meta` says under that name.
async fn number(connection: &DatabaseConnection, name: &'static str) -> Result<Option<i64>, DbErr> {
    let read = fixed("SELECT value FROM meta WHERE key = ?", [name.into()]);
    let row = connection.query_one_raw(read).await?;
    row.map(|row| row.try_get_by_index(0)).transpose()
}

/// Identities as one row of the log.
pub fn write_log(keys: &[(Key, i64)]) -> Value {
    let mut bytes = Vec::with_capacity(keys.len() * KEY_BYTES);
    for ([h1, h2], event) in keys {
        for number in [h1, h2, event] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    bytes.into()
}

fn read_log(bytes: &[u8]) -> impl Iterator<Item = (Key, i64)> {
    let number = |chunk: &[u8], at: usize| {
        i64::from_le_bytes(chunk[at..at + 8].try_into().expect("a chunk holds three numbers of eight bytes"))
    };
    bytes.chunks_exact(KEY_BYTES).map(move |chunk| ([number(chunk, 0), number(chunk, 8)], number(chunk, 16)))
}

const LOOK_UP: Shape = Shape {
    before: "WITH v AS MATERIALIZED (",
    columns: 3,
    after: ") SELECT v.column1, d.event FROM v CROSS JOIN dedupe_even d ON d.h1 = v.column2 AND d.h2 = v.column3 \
            UNION ALL \
            SELECT v.column1, d.event FROM v CROSS JOIN dedupe_odd d ON d.h1 = v.column2 AND d.h2 = v.column3",
};

struct Table {
    empty: &'static str,
    merge: Shape,
}

const EVEN: Table = Table {
    empty: "DELETE FROM dedupe_even",
    merge: Shape {
        before: "INSERT INTO dedupe_even (h1, h2, event) SELECT * FROM (",
        columns: 3,
        after: ") WHERE column1 IS NOT NULL ON CONFLICT DO UPDATE SET event = max(event, excluded.event)",
    },
};

const ODD: Table = Table {
    empty: "DELETE FROM dedupe_odd",
    merge: Shape {
        before: "INSERT INTO dedupe_odd (h1, h2, event) SELECT * FROM (",
        columns: 3,
        after: ") WHERE column1 IS NOT NULL ON CONFLICT DO UPDATE SET event = max(event, excluded.event)",
    },
};

#[cfg(test)]
mod tests {
    use sea_orm::TransactionTrait;

    use super::*;
    use crate::storage::{
        identity::key,
        sqlite::{
            connect::{immediate, writer},
            schema::migrate,
        },
    };

    const DAY_MS: i64 = 24 * 60 * 60 * 1000;

    struct Disk {
        _folder: tempfile::TempDir,
        connection: DatabaseConnection,
        shapes: Shapes,
    }

    impl Disk {
        async fn new() -> Disk {
            let folder = tempfile::tempdir().unwrap();
            let connection = writer(&folder.path().join("dedupe.db"), true).await.unwrap();
            migrate(&connection).await.unwrap();
            Disk { _folder: folder, connection, shapes: Shapes::default() }
        }

        /// One commit that brings these identities, with whatever merging is under way.
        async fn commit(&mut self, dedupe: &mut Dedupe, now_ms: i64, events: std::ops::Range<i64>) {
            let keys: Vec<(Key, i64)> = events.map(|event| (spread(event), event)).collect();
            let tx = self.connection.begin_with_options(immediate()).await.unwrap();
            if let Some((_, log)) = keys.last() {
                let insert = "INSERT INTO dedupe_log (id, keys) VALUES (?, ?)";
                tx.execute_raw(fixed(insert, [(*log).into(), write_log(&keys)])).await.unwrap();
            }
            let slice = dedupe.merge(&tx, &mut self.shapes, now_ms).await.unwrap();
            tx.commit().await.unwrap();
            if let Some(slice) = slice {
                dedupe.merged(slice);
            }
            if let Some((_, log)) = keys.last().copied() {
                dedupe.remember(log, keys);
            }
        }

        async fn knows(&mut self, dedupe: &Dedupe, event: i64) -> bool {
            let tx = self.connection.begin().await.unwrap();
            let found = dedupe.in_tables(&tx, &mut self.shapes, &[(3, spread(event))]).await.unwrap();
            dedupe.in_memory(&spread(event)) == Some(event) || found.get(&3) == Some(&event)
        }

        async fn count(&self, table: &str) -> i64 {
            let sql = format!("SELECT count(*) FROM {table}");
            self.connection
                .query_one_raw(fixed(&sql, []))
                .await
                .unwrap()
                .unwrap()
                .try_get_by_index(0)
                .unwrap()
        }
    }

    fn spread(event: i64) -> Key {
        let hash = event.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        key(1, [hash, hash.wrapping_mul(hash | 1).rotate_left(32)])
    }

    #[tokio::test]
    async fn every_identity_is_known_before_during_and_after_its_merge_and_after_a_restart() {
        const EVENTS: i64 = 3_000;
        let mut disk = Disk::new().await;
        let mut dedupe = Dedupe { recent_max: 2_500, ..Dedupe::load(&disk.connection).await.unwrap() };
        for event in (0..EVENTS).step_by(100) {
            disk.commit(&mut dedupe, DAY_MS, event..event + 100).await;
            for known in (0..event + 100).step_by(97) {
                assert!(disk.knows(&dedupe, known).await, "{known} at {event}");
            }
            assert!(!disk.knows(&dedupe, EVENTS + event).await);
        }
        assert_eq!((disk.count("dedupe_even").await, disk.count("dedupe_log").await), (2_500, 5));

        let restarted = Dedupe::load(&disk.connection).await.unwrap();
        for known in 0..EVENTS {
            assert!(disk.knows(&restarted, known).await, "{known} after a restart");
        }
    }

    #[tokio::test]
    async fn what_is_in_the_tables_is_looked_up_and_what_is_new_hardly_ever() {
        let mut disk = Disk::new().await;
        let mut dedupe = Dedupe { recent_max: 100, ..Dedupe::load(&disk.connection).await.unwrap() };
        let asked = |dedupe: &Dedupe, events: std::ops::Range<i64>| {
            events.filter(|event| dedupe.may_be_stored(&spread(*event))).count()
        };
        assert_eq!(asked(&dedupe, 0..1_000), 0, "before anything is stored");
        for first in [0, 100, 200] {
            disk.commit(&mut dedupe, DAY_MS, first..first + 100).await;
            disk.commit(&mut dedupe, DAY_MS, 0..0).await;
        }
        let restarted = Dedupe::load(&disk.connection).await.unwrap();
        for dedupe in [&dedupe, &restarted] {
            assert_eq!((dedupe.filters.len(), asked(dedupe, 0..300)), (3, 300));
            assert!(asked(dedupe, 300..10_300) < 200, "{}", asked(dedupe, 300..10_300));
        }
        for (window, left) in [(1, 4), (2, 2)] {
            disk.commit(&mut dedupe, DAY_MS + window * WINDOW_MS, window * 1_000..window * 1_000 + 100).await;
            disk.commit(&mut dedupe, DAY_MS + window * WINDOW_MS, 0..0).await;
            let stored = usize::try_from(disk.count("dedupe_filter").await).unwrap();
            assert_eq!((dedupe.filters.len(), stored), (left, left), "filters go with their table");
        }
    }

    #[tokio::test]
    async fn what_an_older_sheaf_stored_has_no_filter_and_is_looked_up_until_its_tables_are_emptied() {
        let mut disk = Disk::new().await;
        let [h1, h2] = spread(1);
        for sql in [
            &format!("INSERT INTO dedupe_even VALUES ({h1}, {h2}, 1)"),
            "INSERT INTO meta VALUES ('dedupe_bucket', 0), ('dedupe_unfiltered', 0)",
        ] {
            disk.connection.execute_unprepared(sql).await.unwrap();
        }
        let mut dedupe = Dedupe { recent_max: 10, ..Dedupe::load(&disk.connection).await.unwrap() };
        for window in [0, 1] {
            disk.commit(&mut dedupe, DAY_MS + window * WINDOW_MS, 100 * window + 100..100 * window + 110)
                .await;
            disk.commit(&mut dedupe, DAY_MS + window * WINDOW_MS, 0..0).await;
            assert!(disk.knows(&dedupe, 1).await, "in window {window}");
        }
        disk.commit(&mut dedupe, DAY_MS + 2 * WINDOW_MS, 300..310).await;
        disk.commit(&mut dedupe, DAY_MS + 2 * WINDOW_MS, 0..0).await;
        assert!(!dedupe.may_be_stored(&spread(1)));
    }

    #[tokio::test]
    async fn a_clock_that_is_wrong_for_a_moment_makes_nothing_known_new() {
        for windows in 1..=4 {
            let mut disk = Disk::new().await;
            let mut dedupe = Dedupe { recent_max: 2_500, ..Dedupe::load(&disk.connection).await.unwrap() };
            for (now_ms, first) in [(DAY_MS, 0), (DAY_MS + windows * WINDOW_MS, 2_500), (DAY_MS, 5_000)] {
                disk.commit(&mut dedupe, now_ms, first..first + 2_500).await;
                for _slice in 0..3 {
                    disk.commit(&mut dedupe, now_ms, 0..0).await;
                }
            }
            assert_eq!(dedupe.filters.len(), 3);
            let restarted = Dedupe::load(&disk.connection).await.unwrap();
            for known in (0..7_500).step_by(125) {
                assert!(disk.knows(&dedupe, known).await, "{known}, {windows} ahead");
                assert!(disk.knows(&restarted, known).await, "{known}, {windows} ahead, after a restart");
            }
        }
    }

    #[tokio::test]
    async fn more_than_the_filters_hold_is_looked_up_until_the_tables_are_emptied() {
        let mut disk = Disk::new().await;
        let mut dedupe = Dedupe { recent_max: 2, ..Dedupe::load(&disk.connection).await.unwrap() };
        let merges = i64::try_from(FILTERS_MAX).unwrap() + 2;
        for first in (0..2 * merges).step_by(2) {
            disk.commit(&mut dedupe, DAY_MS, first..first + 2).await;
            disk.commit(&mut dedupe, DAY_MS, 0..0).await;
        }
        let restarted = Dedupe::load(&disk.connection).await.unwrap();
        for dedupe in [&dedupe, &restarted] {
            assert_eq!(dedupe.filters.len(), FILTERS_MAX);
            for known in 0..2 * merges {
                assert!(disk.knows(dedupe, known).await, "{known}");
            }
            assert!(dedupe.may_be_stored(&spread(1_000)), "nobody can say no for all of them");
        }
        for window in [1, 2, 3] {
            disk.commit(&mut dedupe, DAY_MS + window * WINDOW_MS, window * 1_000..window * 1_000 + 2).await;
            disk.commit(&mut dedupe, DAY_MS + window * WINDOW_MS, 0..0).await;
        }
        assert!(!dedupe.may_be_stored(&spread(9_000)) && dedupe.filters.len() == 2);
    }

    #[tokio::test]
    async fn a_table_is_emptied_when_its_turn_comes_again() {
        let mut disk = Disk::new().await;
        let mut dedupe = Dedupe { recent_max: 10, ..Dedupe::load(&disk.connection).await.unwrap() };
        for (turn, now_ms) in [DAY_MS, DAY_MS + WINDOW_MS, DAY_MS + 2 * WINDOW_MS].into_iter().enumerate() {
            let first = i64::try_from(turn).unwrap() * 10;
            disk.commit(&mut dedupe, now_ms, first..first + 10).await;
            disk.commit(&mut dedupe, now_ms, 0..0).await;
        }
        assert_eq!((disk.count("dedupe_even").await, disk.count("dedupe_odd").await), (10, 10));
        assert!(!disk.knows(&dedupe, 5).await);
        assert!(disk.knows(&dedupe, 15).await && disk.knows(&dedupe, 25).await);
    }
}
