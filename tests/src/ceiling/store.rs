//! A ceiling's storage: one writer, natural batches, one transaction each for what came and what is done. No identities,
//! no claims, no history, no ledger.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::body::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Most of appends and completions in one transaction; the product's own limit of publishes.
const BATCH_MAX: usize = 512;
/// Work that waits for the writer; past it callers wait.
const WAITING_MAX: usize = 4096;

/// Where batches are committed.
pub trait Commit: Send + 'static {
    /// Appends rows with their bodies and marks others as done, in one transaction.
    fn commit(
        &mut self,
        rows: &[(i64, Bytes)],
        done: &[i64],
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

enum Work {
    Append(Bytes, oneshot::Sender<i64>),
    Done(i64),
}

/// A handle to the writer.
#[derive(Clone)]
pub struct Store {
    work: mpsc::Sender<Work>,
    committed: Arc<Committed>,
}

#[derive(Default)]
struct Committed {
    commits: AtomicU64,
    appended: AtomicU64,
    done: AtomicU64,
}

impl Store {
    /// Starts the writer; the first row gets that number.
    pub fn over(database: impl Commit, first_row: i64) -> Store {
        let (work, waiting) = mpsc::channel(WAITING_MAX);
        let committed = Arc::new(Committed::default());
        tokio::spawn(write_all(database, first_row, waiting, Arc::clone(&committed)));
        Store { work, committed }
    }

    /// The row's number once it is on disk; `None` when it could not be stored.
    pub async fn append(&self, body: Bytes) -> Option<i64> {
        let (stored, row) = oneshot::channel();
        self.work.send(Work::Append(body, stored)).await.ok()?;
        row.await.ok()
    }

    /// Marks a row as delivered with some later commit.
    pub async fn done(&self, row: i64) {
        // The writer ends only with the process.
        let _ = self.work.send(Work::Done(row)).await;
    }

    /// Commits, and rows in them.
    pub fn counted(&self) -> [(&'static str, u64); 3] {
        let Committed { commits, appended, done } = &*self.committed;
        [("commits", commits), ("appended", appended), ("done", done)]
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

async fn write_all(
    mut database: impl Commit,
    mut next_row: i64,
    mut waiting: mpsc::Receiver<Work>,
    committed: Arc<Committed>,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let (mut rows, mut answers, mut done) = (Vec::new(), Vec::new(), Vec::new());
        for work in batch.drain(..) {
            match work {
                Work::Append(body, answer) => {
                    rows.push((next_row, body));
                    answers.push((next_row, answer));
                    next_row += 1;
                }
                Work::Done(row) => done.push(row),
            }
        }
        match database.commit(&rows, &done).await {
            Ok(()) => {
                committed.appended.fetch_add(rows.len() as u64, Ordering::Relaxed);
                committed.done.fetch_add(done.len() as u64, Ordering::Relaxed);
                committed.commits.fetch_add(1, Ordering::Relaxed);
                for (row, answer) in answers {
                    // Whoever asked may be gone; the row stays.
                    let _ = answer.send(row);
                }
            }
            Err(error) => eprintln!("a batch was not stored: {error:#}"),
        }
    }
}
