//! A question to the writer and its answer.

use tokio::sync::{mpsc, oneshot};

use super::QueueError;

/// Asks, and waits for the answer; `Stopping` when the writer is gone.
pub async fn ask<C, T>(
    commands: &mpsc::Sender<C>,
    command: impl FnOnce(oneshot::Sender<T>) -> C,
) -> Result<T, QueueError> {
    let (answer, mut answered) = oneshot::channel();
    commands.send(command(answer)).await.map_err(|_| QueueError::Stopping)?;
    if commands.is_closed() {
        // The writer went in between. It answers all that it takes before it goes; what it did not take may lie in the
        // channel for ever, for whoever has begun to send may do so after the channel was emptied.
        return answered.try_recv().map_err(|_| QueueError::Stopping);
    }
    answered.await.map_err(|_| QueueError::Stopping)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Enough to hit the moment in between some times a run.
    const ROUNDS: usize = 40_000;
    /// Nothing here takes as long unless it hangs.
    const HANGS: Duration = Duration::from_secs(20);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_asks_while_the_writer_goes_is_told_so() {
        let (writers, mut gone) = mpsc::channel::<mpsc::Receiver<oneshot::Sender<()>>>(1);
        let goer = std::thread::spawn(move || while gone.blocking_recv().is_some() {});
        for round in 0..ROUNDS {
            let (commands, writer) = mpsc::channel(4);
            writers.send(writer).await.expect("the thread takes it");
            for _ in 0..round % 50 {
                std::hint::spin_loop();
            }
            let asked = tokio::time::timeout(HANGS, ask(&commands, |answer| answer)).await;
            assert!(matches!(asked, Ok(Err(QueueError::Stopping))), "round {round}: {asked:?}");
        }
        drop(writers);
        goer.join().expect("it ends");
    }
}
