//! What becomes of the writer when its database does worse than refuse.

use super::*;
use crate::{
    queue::{
        LEASE_MS, Queue,
        conformance::{publish, version},
        gates::Stored,
        types::{Activated, Activation},
    },
    storage::{database::Database, sqlite::backend::SqliteBackend},
};

/// A database that stores nothing.
struct Fails {
    commit: fn() -> Result<Committed, BackendError>,
}

impl Backend for Fails {
    const LOOK_AWAY: Duration = Duration::ZERO;

    async fn commit(&mut self, _: &Batch<'_>) -> Result<Committed, BackendError> {
        (self.commit)()
    }

    async fn activate(&mut self, _: &Activation, _: i64) -> Result<Activated, BackendError> {
        Err(BackendError { failure: Failure::Broken, message: "the disk failed".to_owned() })
    }

    async fn gates(&mut self, _: bool) -> Result<Stored, BackendError> {
        Ok(Stored::default())
    }

    fn hint(&self) -> Arc<Notify> {
        Arc::default()
    }

    async fn close(self) {}
}

/// A queue over it; its file is there for the store only.
async fn queue(folder: &tempfile::TempDir, commit: fn() -> Result<Committed, BackendError>) -> Queue {
    let path = folder.path().join("sheaf.db");
    let (clock, _set) = Clock::stopped_at(0);
    let settings = Settings { database: Database::File(path.clone()), slots: 1, lease_ms: LEASE_MS, clock };
    SqliteBackend::open(&path, &settings).await.unwrap().close().await;
    let (queue, ends, _claims) = Queue::over(&settings).await.unwrap();
    tokio::spawn(Writer::new(Fails { commit }, &settings, ends).run());
    queue
}

#[tokio::test]
async fn a_writer_that_panicked_is_as_broken_as_its_disk() {
    let folder = tempfile::tempdir().unwrap();
    let queue = queue(&folder, || panic!("a mistake in the writer")).await;
    let refused = queue.publish(publish(0, None, Vec::new())).await;
    assert!(matches!(refused, Err(QueueError::Stopping)), "{refused:?}");
    let mut health = queue.health();
    while health.changed().await.is_ok() {}
    assert!(matches!(&*health.borrow(), Health::Broken(why) if why.contains("writer")), "{health:?}");
}

#[tokio::test]
async fn a_writer_that_was_told_to_stop_is_not_broken() {
    let folder = tempfile::tempdir().unwrap();
    let queue = queue(&folder, || Ok(Committed::default())).await;
    let health = queue.health();
    queue.stop().await;
    assert_eq!(*health.borrow(), Health::Ready);
}

#[tokio::test]
async fn a_disk_that_fails_while_versions_are_activated_takes_no_event_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let queue = queue(&folder, || Ok(Committed::default())).await;
    assert!(queue.activate(vec![version("one", 1)]).await.is_err());
    assert!(matches!(&*queue.health().borrow(), Health::Broken(why) if why.contains("disk")));
    let refused = queue.publish(publish(0, None, Vec::new())).await;
    assert!(matches!(refused, Err(QueueError::Storage(_))), "{refused:?}");
}

/// Says how many publishes each commit has, and ends when it is told to.
struct Counts {
    sizes: std::sync::mpsc::Sender<usize>,
    go_on: std::sync::mpsc::Receiver<()>,
}

impl Backend for Counts {
    /// Longer than a busy machine takes to send some publishes.
    const LOOK_AWAY: Duration = Duration::from_secs(1);

    async fn commit(&mut self, batch: &Batch<'_>) -> Result<Committed, BackendError> {
        if !batch.publishes.is_empty() {
            let _ = self.sizes.send(batch.publishes.len());
            let _ = self.go_on.recv();
        }
        Ok(Committed::default())
    }

    async fn activate(&mut self, _: &Activation, _: i64) -> Result<Activated, BackendError> {
        Err(BackendError { failure: Failure::Broken, message: "there is nothing to activate".to_owned() })
    }

    async fn gates(&mut self, _: bool) -> Result<Stored, BackendError> {
        Ok(Stored::default())
    }

    fn hint(&self) -> Arc<Notify> {
        Arc::default()
    }

    async fn close(self) {}
}

/// Sends publishes; they are with the writer when this returns.
async fn send(queue: &Queue, publishes: usize) {
    for _ in 0..publishes {
        let queue = queue.clone();
        tokio::spawn(async move { queue.publish(publish(0, None, Vec::new())).await });
    }
    tokio::task::yield_now().await;
}

#[tokio::test]
async fn a_turn_of_many_waits_until_it_has_enough_or_nobody_comes_and_one_of_few_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sheaf.db");
    let (clock, _set) = Clock::stopped_at(0);
    let settings = Settings { database: Database::File(path.clone()), slots: 1, lease_ms: LEASE_MS, clock };
    SqliteBackend::open(&path, &settings).await.unwrap().close().await;
    let (queue, ends, _claims) = Queue::over(&settings).await.unwrap();
    let ((sizes, committed), (go_on, told)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let writer = Writer::new(Counts { sizes, go_on: told }, &settings, ends);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || runtime.block_on(writer.run()));

    send(&queue, 1).await;
    assert_eq!(committed.recv().unwrap(), 1);
    send(&queue, wait::MANY - 1).await;
    go_on.send(()).unwrap();
    assert_eq!(committed.recv().unwrap(), wait::MANY - 1);
    send(&queue, wait::MANY).await;
    go_on.send(()).unwrap();
    send(&queue, wait::ENOUGH - wait::MANY).await;
    assert_eq!(committed.recv().unwrap(), wait::ENOUGH);
    send(&queue, wait::MANY).await;
    go_on.send(()).unwrap();
    assert_eq!(committed.recv().unwrap(), wait::MANY, "nobody else calls");
    go_on.send(()).unwrap();
}
