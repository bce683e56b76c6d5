//! The deep check of the ledger: its counters against the rows themselves, a chunk at a look, so that a database of any
//! size is recounted without a long snapshot (which would hold the log back) and without a burst.
//!
//! It rests on what [`Counters`] says: rows up to an id never come or go. Moves between pending, delivered, parked and
//! discarded are not seen by that, so pending and parked runs, when few, are compared at the end in one snapshot.

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::{
    queue::{
        QueueError,
        history::LedgerMismatch,
        observe::{Chunk, Counters, Rows},
    },
    storage::store::Store,
};

/// Events counted at one look, with their runs: 45 ms of one reader, measured with two runs for each.
pub const CHUNK_EVENTS: u32 = 10_000;
/// How long after one recount the next begins, milliseconds.
pub const PAUSE_MS: i64 = 3_600_000;
/// More pending, or more parked, runs than this are left to `sheaf ledger --verify`.
pub const FEW_ROWS_MAX: u32 = 100_000;
/// How many chunks may be counted again after a restart: the progress is kept this often.
const KEEP_CHUNKS: u32 = 20;
/// The name of the note.
const NOTE: &str = "recount";

/// How far a recount is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    counters: Counters,
    /// The last id counted.
    after_id: i64,
    counted: Vec<Rows>,
}

/// One recount after another.
#[derive(Debug, Default)]
pub struct Recount {
    progress: Option<Progress>,
    /// When the last one ended, unix milliseconds.
    ended_ms: Option<i64>,
    revision: i64,
    unkept: u32,
}

impl Recount {
    /// Goes on where the last process stopped; from the beginning when that cannot be read.
    pub async fn load(store: &Store) -> Recount {
        let note = store.note(NOTE).await.unwrap_or_default();
        let progress = serde_json::from_str(&note.text).unwrap_or_default();
        Recount { progress, ended_ms: None, revision: note.revision, unkept: 0 }
    }

    /// Counts one more chunk, when it is time. The differences once all is counted; empty when there are none.
    ///
    /// # Errors
    /// The store cannot be read; the same chunk is counted at the next look.
    pub async fn step(
        &mut self,
        store: &Store,
        now_ms: i64,
    ) -> Result<Option<Vec<LedgerMismatch>>, QueueError> {
        let mut progress = match self.progress.take() {
            Some(progress) => progress,
            None if self.ended_ms.is_some_and(|ended_ms| (0..PAUSE_MS).contains(&(now_ms - ended_ms))) => {
                return Ok(None);
            }
            None => Progress { counters: store.counters().await?, ..Progress::default() },
        };
        let counted = self.count(store, &mut progress).await;
        if counted.is_err() || progress.after_id < progress.counters.until_id {
            self.progress = Some(progress);
            self.keep(store).await;
            return counted.map(|()| None);
        }
        let mut found = differences(&progress.counters.said, &progress.counted);
        match store.few_mismatches(FEW_ROWS_MAX).await {
            Ok(few) => found.extend(few),
            Err(error) => {
                self.progress = Some(progress);
                return Err(error);
            }
        }
        self.ended_ms = Some(now_ms);
        self.unkept = KEEP_CHUNKS;
        self.keep(store).await;
        Ok(Some(found))
    }

    async fn count(&self, store: &Store, progress: &mut Progress) -> Result<(), QueueError> {
        if progress.after_id < progress.counters.until_id {
            let until = progress.counters.until_id;
            let chunk = store.count_chunk(progress.after_id, until, CHUNK_EVENTS).await?;
            progress.add(chunk);
        }
        Ok(())
    }

    /// A lost note costs a recount from the beginning, so a failure is only noted.
    async fn keep(&mut self, store: &Store) {
        self.unkept += 1;
        // What fits into a few looks is not worth a write.
        let short = self.progress.is_none() && self.revision == 0;
        if self.unkept < KEEP_CHUNKS || short {
            return;
        }
        self.unkept = 0;
        let text = serde_json::to_string(&self.progress).expect("names and numbers are always JSON");
        match store.keep_note(NOTE, &text, self.revision).await {
            Ok(true) => self.revision += 1,
            // Another node recounts too: each its own, from its own place.
            Ok(false) => self.revision = store.note(NOTE).await.map_or(self.revision, |note| note.revision),
            Err(error) => warn!(%error, "how far the recount is could not be kept"),
        }
    }
}

impl Progress {
    fn add(&mut self, chunk: Chunk) {
        self.after_id = chunk.until_id;
        for rows in chunk.rows {
            match self.counted.iter_mut().find(|own| own.connection == rows.connection) {
                Some(own) => {
                    own.accepted += rows.accepted;
                    own.quarantined += rows.quarantined;
                    own.filtered += rows.filtered;
                    own.runs += rows.runs;
                }
                None => self.counted.push(rows),
            }
        }
    }
}

/// Where the two do not say the same; a connection that only one of them knows has nothing in the other.
fn differences(counters: &[Rows], all_rows: &[Rows]) -> Vec<LedgerMismatch> {
    let nothing = Rows::default();
    let in_rows = |name: &str| all_rows.iter().find(|rows| rows.connection == name);
    let known = |name: &str| counters.iter().any(|rows| rows.connection == name);
    let pairs = counters.iter().map(|said| (said, in_rows(&said.connection).unwrap_or(&nothing)));
    let strangers = all_rows.iter().filter(|rows| !known(&rows.connection));
    let mut found = Vec::new();
    for (said, rows) in pairs.chain(strangers.map(|rows| (&nothing, rows))) {
        let connection = if said.connection.is_empty() { &rows.connection } else { &said.connection };
        for (counter, counted, rows) in [
            ("accepted", said.accepted, rows.accepted),
            ("quarantined", said.quarantined, rows.quarantined),
            ("filtered", said.filtered, rows.filtered),
            ("runs", said.runs, rows.runs),
        ] {
            if counted != rows {
                found.push(LedgerMismatch {
                    connection: connection.clone(),
                    counter: counter.to_owned(),
                    counted,
                    rows,
                });
            }
        }
    }
    found
}
