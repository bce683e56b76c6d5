//! A writer on a thread of its own, for a database that is asked over a socket. A turn is a handful of questions, one after
//! the other; among the tasks of all requests the writer would be woken late after each answer, and turns took twice as long.
//! (SQLite answers within microseconds: there the change of threads costs more than it saves.)

use std::{io, sync::Arc, thread::Builder};

use tokio::{runtime, sync::oneshot};

use super::QueueError;

/// The thread's end that is held by whoever started it.
pub struct Apart<Ends> {
    is_open: oneshot::Receiver<Result<(), QueueError>>,
    ends: oneshot::Sender<Ends>,
}

/// The backend is open.
pub struct Opened<Ends>(oneshot::Sender<Ends>);

impl<Ends: Send + 'static> Apart<Ends> {
    /// Opens a backend there: its connections belong to the runtime that makes them.
    pub fn start<B>(
        open: impl AsyncFnOnce() -> Result<B, QueueError> + Send + 'static,
        write: impl AsyncFnOnce(B, Ends) + Send + 'static,
    ) -> Result<Apart<Ends>, QueueError> {
        let (opened, is_open) = oneshot::channel();
        let (ends_sender, ends) = oneshot::channel();
        let run = async move || match open().await {
            Err(error) => drop(opened.send(Err(error))),
            Ok(backend) => {
                // Whoever asked may be gone; then no ends come either.
                let _ = opened.send(Ok(()));
                if let Ok(ends) = ends.await {
                    write(backend, ends).await;
                }
            }
        };
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(refused)?;
        let writer = Builder::new().name("writer".to_owned()).spawn(move || runtime.block_on(run()));
        writer.map_err(refused)?;
        Ok(Apart { is_open, ends: ends_sender })
    }

    /// Waits until the backend is open.
    pub async fn opened(self) -> Result<Opened<Ends>, QueueError> {
        self.is_open.await.map_err(|_| QueueError::Stopping)??;
        Ok(Opened(self.ends))
    }
}

impl<Ends> Opened<Ends> {
    /// Gives it what it serves.
    pub fn run(self, ends: Ends) {
        // A thread that is gone drops them, and its handles say that the queue is stopping.
        let _ = self.0.send(ends);
    }
}

fn refused(error: io::Error) -> QueueError {
    QueueError::Storage(Arc::from(error.to_string()))
}
