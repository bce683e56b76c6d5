//! Requests that come while the shared database cannot commit: kept in the spool, answered, and published when it is back.
//!
//! A request may be in both places: nobody knows what became of a commit whose answer is missing. So each has an identity
//! before it is first published, and is one event however often it comes.

use std::{collections::HashMap, io, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::{Intake, Refusal};
use crate::{
    queue::{
        Health,
        types::{Content, Publish},
    },
    spool::{self, Spool, Spooled},
    stop::Stop,
};

/// How long a request waits for the database before it goes to the spool, milliseconds.
const SPOOL_AFTER_MS: u64 = 2_000;
/// Requests published at once from the spool: enough for full turns, and others still get through.
const DRAIN_MAX: usize = 256;
/// How long to wait before trying the database again.
const DRAIN_PAUSE: Duration = Duration::from_millis(500);
/// How long to wait before reading a file again that could not be read.
const DISK_PAUSE: Duration = Duration::from_secs(10);

/// Why the spool was not emptied: what is left stays in it.
enum NotDrained {
    /// The database did not take a request.
    Refused,
    /// A file cannot be read or removed.
    Disk(io::Error),
}

impl From<io::Error> for NotDrained {
    fn from(error: io::Error) -> NotDrained {
        NotDrained::Disk(error)
    }
}

impl Intake {
    /// Commits a request, or keeps it here when that takes longer than a moment.
    pub(super) async fn publish_or_spool(&self, spool: &Spool, mut publish: Publish) -> Result<(), Refusal> {
        let identity = *publish.content.dedupe_mut().get_or_insert_with(random);
        let connection = publish.connection.to_string();
        let spooled = Spooled { identity, connection, received: publish.received.clone() };
        if *self.queue.health().borrow() == Health::Ready {
            let in_time = timeout(Duration::from_millis(SPOOL_AFTER_MS), self.publish(publish)).await;
            if let Ok(Ok(())) = in_time {
                return Ok(());
            }
        }
        match spool.keep(&spooled).await {
            Ok(()) => {
                self.metrics.spooled(spool.bytes());
                Ok(())
            }
            Err(error) => {
                warn!(%error, "an event could neither be committed nor kept in the spool");
                Err(Refusal::Unavailable)
            }
        }
    }

    /// Publishes what waits in the spool whenever the database can commit.
    pub async fn drain(self, spool: Spool, mut stop: Stop) {
        let draining = async {
            loop {
                spool.appended().await;
                self.empty(&spool).await;
            }
        };
        tokio::select! {
            () = draining => {}
            () = stop.ordered() => {}
        }
    }

    async fn empty(&self, spool: &Spool) {
        // How much of each file is published already: after a refusal it goes on from there.
        let mut done: HashMap<PathBuf, usize> = HashMap::new();
        let mut health = self.queue.health();
        loop {
            if health.wait_for(|health| *health == Health::Ready).await.is_err() {
                return;
            }
            match self.publish_files(spool, &mut done).await {
                Ok(()) => return self.metrics.drained(spool.bytes()),
                Err(NotDrained::Refused) => tokio::time::sleep(DRAIN_PAUSE).await,
                Err(NotDrained::Disk(error)) => {
                    error!(%error, "the spool cannot be read");
                    tokio::time::sleep(DISK_PAUSE).await;
                }
            }
        }
    }

    async fn publish_files(
        &self,
        spool: &Spool,
        done: &mut HashMap<PathBuf, usize>,
    ) -> Result<(), NotDrained> {
        for file in spool.files().await? {
            let reading = tokio::task::spawn_blocking({
                let file = file.clone();
                move || spool::read(&file)
            });
            let (requests, all) = reading.await.map_err(io::Error::other)??;
            let count = requests.len();
            let done = done.entry(file.clone()).or_default();
            let mut left = requests.into_iter().skip(*done).peekable();
            while left.peek().is_some() {
                let some: Vec<Spooled> = left.by_ref().take(DRAIN_MAX).collect();
                let size = some.len();
                let published = join_all(some.into_iter().map(|spooled| self.publish_spooled(spooled))).await;
                if published.into_iter().any(|published| published.is_err()) {
                    return Err(NotDrained::Refused);
                }
                *done += size;
            }
            if all {
                spool.delete(&file)?;
            } else {
                // Half a record at the end was never answered; anything more than that is a damaged disk.
                warn!(file = %file.display(), "a file of the spool has more in it than can be read: put aside");
                spool.put_aside(&file)?;
            }
            info!(count, "requests that came while the database was away are in it now");
        }
        Ok(())
    }

    /// Decided now, as any request that comes now; under the identity it had when it came.
    async fn publish_spooled(&self, spooled: Spooled) -> Result<(), Refusal> {
        let Spooled { identity, connection, received } = spooled;
        let content = match self.catalogue.live().hook_of(&connection) {
            Some(hook) => self.content_again(hook, &received, Some(identity)),
            None => Content::Quarantine {
                reason: format!("the connection {connection} was taken away while the event waited"),
                dedupe: Some(identity),
            },
        };
        self.publish(Publish { connection: Arc::from(connection), received, content }).await
    }
}

/// An identity that nothing else has.
fn random() -> [u64; 2] {
    let mut bytes = [0; 16];
    // The system gives random bytes or the process could not have made its master key either.
    let _ = getrandom::fill(&mut bytes);
    let number = u128::from_be_bytes(bytes);
    [(number >> 64) as u64, number as u64]
}
