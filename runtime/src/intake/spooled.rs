//! Requests that come while the shared database cannot commit: kept in the spool, answered, and published when it is back.
//!
//! A request may be in both places: nobody knows what became of a commit whose answer is missing. So each has an identity
//! before it is first published, and is one event however often it comes.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::{Intake, Refusal};
use crate::{
    queue::{
        Health,
        types::{Content, Publish},
    },
    spool::{self, Spool, SpoolError, Spooled},
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
    /// Commits a request, or keeps it here when that takes longer than a moment, or when others of its order may be here.
    pub(super) async fn publish_or_spool(&self, spool: &Spool, mut publish: Publish) -> Result<(), Refusal> {
        let identity = *publish.content.dedupe_mut().get_or_insert_with(random);
        let connection = publish.connection.to_string();
        let spooled = Spooled { identity, connection, received: publish.received.clone() };
        // What waits there came before it, and must not count as newer. Better out of order than refused: where there is no
        // room it goes ahead.
        if publish.content.is_in_order() && spool.bytes() > 0 && self.keep(spool, &spooled).await.is_ok() {
            return Ok(());
        }
        if *self.queue.health().borrow() == Health::Ready {
            let in_time = timeout(Duration::from_millis(SPOOL_AFTER_MS), self.publish(publish)).await;
            if let Ok(Ok(())) = in_time {
                return Ok(());
            }
        }
        self.keep(spool, &spooled).await.map_err(|error| {
            warn!(%error, "an event could neither be committed nor kept in the spool");
            Refusal::Unavailable
        })
    }

    async fn keep(&self, spool: &Spool, spooled: &Spooled) -> Result<(), SpoolError> {
        spool.keep(spooled).await?;
        self.metrics.spooled(spool.bytes());
        Ok(())
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
        // Under a steady load of ordered events there may be some at any moment; they need not wait for the next start.
        if *self.queue.health().borrow() == Health::Ready && spool.bytes() > 0 {
            let _ = self.publish_files(&spool, &mut HashMap::new()).await;
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
        let mut unread = Ok(());
        for file in spool.files().await? {
            // One that cannot be read or taken away holds up no other.
            match self.publish_file(spool, &file, done).await {
                Err(NotDrained::Disk(error)) => unread = Err(NotDrained::Disk(error)),
                published => published?,
            }
        }
        unread
    }

    async fn publish_file(
        &self,
        spool: &Spool,
        file: &Path,
        done: &mut HashMap<PathBuf, usize>,
    ) -> Result<(), NotDrained> {
        let reading = tokio::task::spawn_blocking({
            let file = file.to_owned();
            move || spool::read(&file)
        });
        let (requests, all) = reading.await.map_err(io::Error::other)??;
        let count = requests.len();
        let done = done.entry(file.to_owned()).or_default();
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
            spool.delete(file)?;
        } else {
            // Half a record at the end was never answered; anything more than that is a damaged disk.
            warn!(file = %file.display(), "a file of the spool has more in it than can be read: put aside");
            spool.put_aside(file)?;
        }
        info!(count, "requests that came while the database was away are in it now");
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

#[cfg(test)]
mod tests {
    use std::{fs, net::Ipv4Addr};

    use sheaf_bundles::event::Received;

    use super::*;
    use crate::{
        app::{self, Running},
        clock::Clock,
        config::{Config, Environment},
        intake::body,
        metrics::Metrics,
        queue::history::EventFilter,
        secrets::Secrets,
        spool::SPOOL_BYTES_MAX,
    };

    const NOW_MS: i64 = 1_800_000_000_000;
    const FILES: [(&str, &str); 4] = [
        ("sheaf.yaml", "kind: workspace\nname: test\ntime_zone: Europe/Moscow\n"),
        (
            "connections/crm.yaml",
            "kind: connection\nname: crm\nconnector: http\nsettings: {base_url: \"https://crm.example/\", parameters: [number]}\n",
        ),
        (
            "connections/shop.yaml",
            "kind: connection\nname: shop\nconnector: webhook\nsettings: {fields: {number: {type: text, title: {en: Number, ru: Номер}}}}\n",
        ),
        (
            "bundles/order.yaml",
            "kind: bundle\nname: order\nactive: true\non: {connection: shop, trigger: received, delay: 5m}\nfilter: number is not empty\norder_by: number\nsteps:\n  - name: send\n    action: http.request\n    connection: crm\n    with: {method: POST, parameters: {number: \"{{ number }}\"}}\n",
        ),
    ];

    /// A server, and an intake of the same queue that has a spool which nobody empties by itself.
    async fn intake(folder: &std::path::Path) -> (Running, Intake) {
        for (path, text) in FILES {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut config = Config::new(folder);
        config.hooks_address = (Ipv4Addr::LOCALHOST, 0).into();
        config.management_address = (Ipv4Addr::LOCALHOST, 0).into();
        let (clock, _) = Clock::stopped_at(NOW_MS);
        let running = app::serve(config, Environment::of([]), clock.clone()).await.unwrap();
        let intake = Intake {
            catalogue: running.catalogue().clone(),
            queue: running.queue().clone(),
            secrets: Arc::new(Secrets::new(Environment::of([]), folder)),
            clock,
            metrics: Arc::new(Metrics::new()),
            trusted_proxies: Vec::new(),
            bodies: body::Reader::default(),
            spool: None,
        };
        (running, intake)
    }

    fn received(body: &str, received_ms: i64) -> Received {
        Received {
            method: "POST".into(),
            query: "".into(),
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.as_bytes().to_vec(),
            source: None,
            received_ms,
        }
    }

    async fn stored(intake: &Intake) -> Vec<i64> {
        let filter = EventFilter { limit: 10, ..EventFilter::default() };
        let mut events = intake.queue.store().events(&filter).await.unwrap();
        events.sort_unstable_by_key(|event| event.id);
        events.into_iter().map(|event| event.received_ms - NOW_MS).collect()
    }

    #[tokio::test]
    async fn an_event_in_an_order_does_not_overtake_what_waits_in_the_spool() {
        let folder = tempfile::tempdir().unwrap();
        let (running, intake) = intake(folder.path()).await;
        let waiting = Spooled {
            identity: random(),
            connection: "shop".to_owned(),
            received: received(r#"{"number": "A-1"}"#, NOW_MS),
        };
        let spool = Spool::open(&folder.path().join("spool"), SPOOL_BYTES_MAX).unwrap();
        spool.keep(&waiting).await.unwrap();
        let intake = Intake { spool: Some(spool.clone()), ..intake };
        let hook = intake.catalogue.live().hook_of("shop").unwrap().clone();
        for (at_ms, body) in [(1, r#"{"number": "A-1"}"#), (2, r#"{"number": ""}"#)] {
            intake.receive(&hook, received(body, NOW_MS + at_ms)).await.unwrap();
        }
        assert_eq!(stored(&intake).await, [2], "what is in no order waits for nothing");
        intake.empty(&spool).await;
        intake.receive(&hook, received(r#"{"number": "A-1"}"#, NOW_MS + 3)).await.unwrap();
        assert_eq!((stored(&intake).await, spool.bytes()), (vec![2, 0, 1, 3], 0));
        running.stop().await;
    }

    #[tokio::test]
    async fn a_stop_leaves_nothing_in_the_spool_that_the_database_can_take() {
        let folder = tempfile::tempdir().unwrap();
        let (running, intake) = intake(folder.path()).await;
        let spool = Spool::open(&folder.path().join("spool"), SPOOL_BYTES_MAX).unwrap();
        // Many times, for it is chance whether draining has begun when the order comes.
        for number in 0..10 {
            let received = received(r#"{"number": "A-1"}"#, NOW_MS + number);
            spool
                .keep(&Spooled { identity: random(), connection: "shop".to_owned(), received })
                .await
                .unwrap();
            let (stopper, stop) = crate::stop::channel();
            stopper.order();
            intake.clone().drain(spool.clone(), stop).await;
            assert_eq!(spool.bytes(), 0);
        }
        assert_eq!(stored(&intake).await.len(), 10);
        running.stop().await;
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_holds_up_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (running, intake) = intake(folder.path()).await;
        let of_spool = folder.path().join("spool");
        let spool = Spool::open(&of_spool, SPOOL_BYTES_MAX).unwrap();
        let received = received(r#"{"number": "A-1"}"#, NOW_MS);
        spool.keep(&Spooled { identity: random(), connection: "shop".to_owned(), received }).await.unwrap();
        let [file] = spool.files().await.unwrap().try_into().unwrap();
        fs::create_dir(of_spool.join("0").with_extension(file.extension().unwrap())).unwrap();
        assert!(spool.files().await.unwrap()[0] != file, "it comes first");
        let read = intake.publish_files(&spool, &mut HashMap::new()).await;
        assert!(matches!(read, Err(NotDrained::Disk(_))));
        assert_eq!(stored(&intake).await, [0]);
        running.stop().await;
    }

    #[tokio::test]
    async fn an_event_in_an_order_goes_ahead_when_the_spool_has_no_room_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let (running, intake) = intake(folder.path()).await;
        let received = |at_ms| received(r#"{"number": "A-1"}"#, NOW_MS + at_ms);
        let waiting = Spooled { identity: random(), connection: "shop".to_owned(), received: received(0) };
        let spool = Spool::open(&folder.path().join("spool"), SPOOL_BYTES_MAX).unwrap();
        spool.keep(&waiting).await.unwrap();
        let full = Spool::open(&folder.path().join("spool"), spool.bytes()).unwrap();
        let intake = Intake { spool: Some(full), ..intake };
        let hook = intake.catalogue.live().hook_of("shop").unwrap().clone();
        intake.receive(&hook, received(1)).await.unwrap();
        assert_eq!(stored(&intake).await, [1]);
        running.stop().await;
    }
}
