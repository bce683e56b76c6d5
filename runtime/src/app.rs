//! Everything put together: a running server, its start, its changes of catalogue, its stop.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sheaf_bundles::{artefact::ArtefactError, words::Words};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};
use tracing::warn;
use validator::Validate;

use crate::{
    addresses::Addresses,
    alerts::{channel::Sender, teller::Teller},
    clock::Clock,
    config::{Config, Environment, MASTER_KEY_VARIABLE},
    directory::DirectoryError,
    egress::{Egress, EgressError},
    executor::Executor,
    intake::{self, Intake, body, listener},
    live::Catalogue,
    management::{self, Management},
    metrics::Metrics,
    oversight::{Oversight, Seen},
    queue::{Health, Queue, QueueError, Settings},
    secrets::Secrets,
    spool::{self, SPOOL_BYTES_MAX, Spool},
    stop::{self, Stopper},
    storage::database::Database,
    token::{KeyError, MasterKey},
    watch::Watch,
    worker::Worker,
};

/// How long a process that must exit waits for people to be told, milliseconds.
const LAST_WORDS_MS: u64 = 5_000;

/// Why a server does not start, or does not take a change.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A setting is outside its range.
    #[error("settings: {0}")]
    Settings(#[from] validator::ValidationErrors),
    /// The directory cannot be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The files do not compile; holds the diagnostics as text.
    #[error("the files have errors:\n{}", .0.en)]
    Invalid(Words),
    /// The data directory cannot be made or written.
    #[error("data directory {path}: {error}", path = .path.display())]
    Data {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A version in force does not compile with this sheaf.
    #[error(
        "bundle {bundle}: its version in force does not compile with this sheaf ({error}); start the one that made it active, or repair the bundle's files"
    )]
    Artefact {
        /// Whose.
        bundle: String,
        /// Why.
        error: ArtefactError,
    },
    /// The master key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A part of the server could not be started.
    #[error("cannot start: {0}")]
    Start(io::Error),
    /// The HTTP client.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The database.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// A running server.
#[derive(Debug)]
pub struct Running {
    addresses: Addresses,
    queue: Queue,
    catalogue: Arc<Catalogue>,
    stop_intake: Stopper,
    stop_runs: Stopper,
    stop_work: Stopper,
    listener: JoinHandle<()>,
    worker: JoinHandle<()>,
    watcher: JoinHandle<()>,
    drainer: Option<JoinHandle<()>>,
    oversight: JoinHandle<()>,
    seen: watch::Receiver<Arc<Seen>>,
    management: JoinHandle<()>,
    grace: Duration,
}

/// Starts a server. It listens when this returns.
///
/// # Errors
/// See [`AppError`]; nothing is left running.
pub async fn serve(config: Config, environment: Environment, clock: Clock) -> Result<Running, AppError> {
    config.validate()?;
    // Before the files are read: what changes from now on is taken once the server runs.
    let watch = (config.watch_ms > 0).then(|| Watch::new(&config.directory));
    let found = switch::compiled(&config.directory).await;
    let data = config.data_directory();
    make_private(&data)?;
    let key = Arc::new(MasterKey::load(environment.get(MASTER_KEY_VARIABLE), &data)?);
    let secrets = Arc::new(Secrets::new(environment, &config.directory));
    // Reads the system's certificates, which takes as long as all the rest.
    let rules = config.egress_rules();
    let egress = tokio::task::spawn_blocking(move || Egress::new(rules));
    let (hooks, management) = (listen(config.hooks_address).await?, listen(config.management_address).await?);
    let settings = Settings {
        database: config.database(),
        slots: config.slots,
        lease_ms: i64::try_from(config.lease_ms).unwrap_or(i64::MAX),
        clock: clock.clone(),
    };
    let (queue, claims) = Queue::serve(settings).await?;
    let addresses = Addresses {
        hooks: local(&hooks, config.hooks_address)?,
        management: local(&management, config.management_address)?,
        public_url: config.public_url.clone(),
    };
    addresses.write(&data).map_err(|error| AppError::Data { path: data.clone(), error })?;

    let egress = Arc::new(
        egress
            .await
            .map_err(|panicked| io::Error::other(panicked.to_string()))
            .map_err(AppError::Start)??,
    );
    let metrics = Arc::new(Metrics::new());
    let spool = match config.database() {
        Database::File(_) => None,
        Database::Postgres { .. } => {
            let spool = Spool::open(&data.join(spool::FOLDER), SPOOL_BYTES_MAX)
                .map_err(|error| AppError::Data { path: data.clone(), error })?;
            metrics.drained(spool.bytes());
            Some(spool)
        }
    };
    // The last that can fail: from here on runs are handed out.
    let (live, said) = switch::first(&queue, &key, &secrets, &config.directory, found).await?;
    let catalogue = Arc::new(Catalogue::new(live));
    let (stop_intake, intake_stopping) = stop::channel();
    let (stop_runs, runs_stopping) = stop::channel();
    let (stop_work, work_stopping) = stop::channel();
    let intake = Intake {
        catalogue: catalogue.clone(),
        queue: queue.clone(),
        secrets: secrets.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        bodies: body::Reader::default(),
        spool: spool.clone(),
    };
    let head_limit = Duration::from_millis(intake::HEAD_MS_MAX);
    let executor = Executor { egress: egress.clone(), secrets: secrets.clone(), clock: clock.clone() };
    let worker = Worker {
        catalogue: catalogue.clone(),
        store: queue.store().clone(),
        executor,
        metrics: metrics.clone(),
    };
    let sender = Sender {
        egress: egress.clone(),
        secrets: secrets.clone(),
        clock: clock.clone(),
        directory: config.directory.clone(),
    };
    let (told, told_now) = watch::channel(said.told());
    let (show, seen) = watch::channel(Arc::new(Seen::default()));
    let oversight = Oversight {
        queue: queue.clone(),
        clock: clock.clone(),
        teller: Teller::new(told_now, sender, metrics.clone(), clock.clone()),
        spool: spool.clone(),
        seen: show,
    };
    let pages = Management {
        metrics: metrics.clone(),
        queue: queue.clone(),
        catalogue: catalogue.clone(),
        stopping: intake_stopping.clone(),
        spool: spool.clone(),
        seen: seen.clone(),
    };
    let switch = switch::Switch {
        directory: config.directory.clone(),
        queue: queue.clone(),
        catalogue: catalogue.clone(),
        secrets,
        key,
        said,
        told,
    };
    let drainer = spool.map(|spool| tokio::spawn(intake.clone().drain(spool, work_stopping.clone())));
    Ok(Running {
        addresses,
        queue,
        catalogue,
        stop_intake,
        stop_runs,
        listener: tokio::spawn(listener::serve(hooks, Arc::new(intake), head_limit, intake_stopping)),
        worker: tokio::spawn(worker.run(claims, runs_stopping)),
        drainer,
        oversight: tokio::spawn(oversight.run(work_stopping.clone())),
        seen,
        watcher: tokio::spawn(switch.run(watch, config.watch_ms, work_stopping)),
        stop_work,
        management: tokio::spawn(management::serve(management, pages)),
        grace: Duration::from_millis(config.stop_grace_ms),
    })
}

impl Running {
    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Its queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The catalogue in force.
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// What the last look at the queue saw.
    pub fn seen(&self) -> watch::Receiver<Arc<Seen>> {
        self.seen.clone()
    }

    /// Returns when an fsync failed or the queue's writer has ended: the process must exit and recover at its next start.
    /// People are told first, if that does not take long.
    pub async fn broken(&self) -> String {
        let mut health = self.queue.health();
        loop {
            let broken = match &*health.borrow_and_update() {
                Health::Broken(why) => Some(why.to_string()),
                Health::Ready | Health::Failing(_) => None,
            };
            if let Some(why) = broken {
                let mut seen = self.seen();
                let told = seen.wait_for(|seen| seen.failing && seen.sending == 0);
                // Told or not, it must exit.
                let _ = timeout(Duration::from_millis(LAST_WORDS_MS), told).await;
                return why;
            }
            if health.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Stops: no new requests and no new runs, requests in hand are answered, runs in hand are finished and settled. What
    /// takes longer than the grace is due again at the next start.
    pub async fn stop(self) {
        let Running {
            queue,
            stop_intake,
            stop_runs,
            stop_work,
            listener,
            worker,
            watcher,
            drainer,
            oversight,
            management,
            grace,
            ..
        } = self;
        stop_intake.order();
        // Not after the listener: a sender that takes its time must not have runs begun that nobody will finish.
        stop_runs.order();
        let in_order = async {
            // A task that panicked is stopped as well.
            let _ = tokio::join!(listener, worker);
            // Only now: without the watcher requests in hand would come with an epoch that is past.
            stop_work.order();
            let _ = watcher.await;
            if let Some(drainer) = drainer {
                let _ = drainer.await;
            }
            let _ = oversight.await;
        };
        if timeout(grace, in_order).await.is_err() {
            warn!("the stop took longer than its grace; what was in flight is due again at the next start");
        }
        stop_work.order();
        management.abort();
        queue.stop().await;
    }
}

async fn listen(address: std::net::SocketAddr) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).await.map_err(|error| AppError::Listen { address, error })
}

fn local(listener: &TcpListener, address: std::net::SocketAddr) -> Result<std::net::SocketAddr, AppError> {
    listener.local_addr().map_err(|error| AppError::Listen { address, error })
}

/// Makes the data directory, readable by its owner only. One that is there may be anybody's and keeps its rights: the files in
/// it that hold events or the master key are private by themselves.
fn make_private(path: &Path) -> Result<(), AppError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| AppError::Data { path: path.to_owned(), error })
}

mod said;
mod switch;
#[cfg(test)]
mod tests;
