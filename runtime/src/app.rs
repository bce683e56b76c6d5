//! Everything put together: a running server, its start, its changes of catalogue, its stop.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sheaf_bundles::{artefact::ArtefactError, compile::Integration, hook::Hook, plan::Plan, words::Language};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};
use tracing::{error, info, warn};
use validator::Validate;

use crate::{
    addresses::Addresses,
    alerts::{Teller, Told, channel::Sender},
    clock::Clock,
    config::{Config, Environment, MASTER_KEY_VARIABLE},
    directory::{self, DirectoryError},
    egress::{Egress, EgressError},
    executor::Executor,
    intake::{self, Intake, body, listener},
    live::{Catalogue, Live},
    management::{self, Management},
    metrics::Metrics,
    oversight::{Oversight, Seen},
    queue::{Health, Queue, QueueError, Settings, types::NewVersion},
    secrets::Secrets,
    stop::{self, Stop, Stopper},
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
    #[error("the files have errors:\n{0}")]
    Invalid(String),
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
    /// A version that was active last does not compile with this engine.
    #[error(transparent)]
    Artefact(#[from] ArtefactError),
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
    stop_work: Stopper,
    listener: JoinHandle<()>,
    worker: JoinHandle<()>,
    watcher: JoinHandle<()>,
    oversight: JoinHandle<()>,
    seen: watch::Receiver<Arc<Seen>>,
    management: JoinHandle<()>,
    grace: Duration,
}

/// What a change of catalogue needs.
struct Switch {
    directory: PathBuf,
    queue: Queue,
    catalogue: Arc<Catalogue>,
    secrets: Arc<Secrets>,
    key: Arc<MasterKey>,
    told: watch::Sender<Told>,
}

/// Starts a server. It listens when this returns.
///
/// # Errors
/// See [`AppError`]; nothing is left running.
pub async fn serve(config: Config, environment: Environment, clock: Clock) -> Result<Running, AppError> {
    config.validate()?;
    let found = compiled(&config.directory).await;
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
    let (live, told) = match found {
        Ok(integration) => {
            warn_of_missing(&secrets, &integration);
            let live = activate(&queue, &integration.hooks, &integration.plans, &key).await?;
            (live, Told::of(&integration))
        }
        Err(error) => (restored(&queue, &key, error).await?, told_in_spite(&config.directory)),
    };
    let catalogue = Arc::new(Catalogue::new(live));
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
    let (stop_intake, intake_stopping) = stop::channel();
    let (stop_work, work_stopping) = stop::channel();
    let intake = Intake {
        catalogue: catalogue.clone(),
        queue: queue.clone(),
        secrets: secrets.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        bodies: body::Reader::default(),
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
    let (told, told_now) = watch::channel(told);
    let (show, seen) = watch::channel(Arc::new(Seen::default()));
    let oversight = Oversight {
        queue: queue.clone(),
        clock: clock.clone(),
        teller: Teller::new(told_now, sender, metrics.clone(), clock.clone()),
        seen: show,
    };
    let pages = Management {
        metrics: metrics.clone(),
        queue: queue.clone(),
        stopping: intake_stopping.clone(),
        seen: seen.clone(),
    };
    let switch = Switch {
        directory: config.directory.clone(),
        queue: queue.clone(),
        catalogue: catalogue.clone(),
        secrets,
        key,
        told,
    };
    Ok(Running {
        addresses,
        queue,
        catalogue,
        stop_intake,
        listener: tokio::spawn(listener::serve(hooks, Arc::new(intake), head_limit, intake_stopping)),
        worker: tokio::spawn(worker.run(claims, work_stopping.clone())),
        oversight: tokio::spawn(oversight.run(work_stopping.clone())),
        seen,
        watcher: tokio::spawn(watch_directory(switch, config.watch_ms, work_stopping)),
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

    /// Returns when an fsync failed: what the disk holds is unknown, the process must exit and recover at its next start.
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

    /// Stops: no new requests, those in hand are answered, runs in hand are finished and settled. What takes longer than
    /// the grace is due again at the next start.
    pub async fn stop(self) {
        let Running {
            queue,
            stop_intake,
            stop_work,
            listener,
            worker,
            watcher,
            oversight,
            management,
            grace,
            ..
        } = self;
        let in_order = async {
            stop_intake.order();
            // A task that panicked is stopped as well.
            let _ = listener.await;
            stop_work.order();
            let _ = worker.await;
            let _ = watcher.await;
            let _ = oversight.await;
        };
        if timeout(grace, in_order).await.is_err() {
            warn!("the stop took longer than its grace; what was in flight is due again at the next start");
        }
        management.abort();
        queue.stop().await;
    }
}

/// Reads and compiles on a thread of its own: a large directory takes a while, and requests are waiting.
async fn compiled(directory: &Path) -> Result<Integration, AppError> {
    let owned = directory.to_owned();
    let read = tokio::task::spawn_blocking(move || Ok(directory::compile(&directory::read(&owned)?))).await;
    // A compiler that panicked says so in the log; the files are as good as wrong.
    let compiled = read.unwrap_or_else(|panicked| Err(AppError::Invalid(panicked.to_string())))?;
    let text = compiled.diagnostics.has_errors().then(|| compiled.text(Language::En, false));
    match (text, compiled.integration) {
        (None, Some(integration)) => Ok(integration),
        (text, _) => Err(AppError::Invalid(text.unwrap_or_default())),
    }
}

/// Whom to tell when the files as a whole are wrong: the part about alerts may be sound, and now is when it is needed.
fn told_in_spite(directory: &Path) -> Told {
    let compiled = directory::read(directory).ok().map(|files| directory::compile(&files));
    compiled.and_then(|compiled| compiled.integration).as_ref().map_or_else(Told::nobody, Told::of)
}

/// What was live last, for a start with files that are wrong: a vendor that does not repeat would otherwise lose events
/// for as long as a person takes to repair them. The error itself when nothing was live.
async fn restored(queue: &Queue, key: &MasterKey, wrong: AppError) -> Result<Live, AppError> {
    let mut plans = Vec::new();
    for version in queue.store().versions_needed().await?.into_iter().filter(|version| version.active) {
        plans.push(Arc::new(sheaf_connectors::plan_of_artefact(version.artefact)?));
    }
    if plans.is_empty() {
        return Err(wrong);
    }
    let mut hooks: Vec<Arc<Hook>> = plans.iter().map(|plan| plan.hook().clone()).collect();
    hooks.sort_by(|a, b| a.connection.name.cmp(&b.connection.name));
    hooks.dedup_by(|a, b| a.connection.name == b.connection.name);
    error!(error = %wrong, "the files are not taken; what was live last is served");
    Ok(activate(queue, &hooks, &plans, key).await?)
}

/// Stores the active versions, which gives the epoch, and puts the catalogue together.
async fn activate(
    queue: &Queue,
    hooks: &[Arc<Hook>],
    plans: &[Arc<Plan>],
    key: &MasterKey,
) -> Result<Live, QueueError> {
    let plans: Vec<Arc<Plan>> = plans.iter().filter(|plan| plan.active).cloned().collect();
    let versions = plans.iter().map(|plan| new_version(plan)).collect();
    let activated = queue.activate(versions).await?;
    let plans = activated.versions.into_iter().zip(plans).collect();
    Ok(Live::new(activated.epoch, hooks, plans, key))
}

fn new_version(plan: &Plan) -> NewVersion {
    NewVersion {
        bundle: plan.bundle.clone(),
        connection: plan.connection.name.clone(),
        artefact: plan.artefact().clone(),
    }
}

fn warn_of_missing(secrets: &Secrets, integration: &Integration) {
    for missing in secrets.missing(integration.connections.iter().map(|connection| &**connection)) {
        let (connection, secret, place) = (missing.connection, missing.name, missing.place);
        warn!(connection, secret, place, "a secret is not there; what needs it cannot be sent");
    }
    for channel in &integration.alerts.channels {
        for secret in channel
            .secrets
            .iter()
            .filter(|secret| secrets.held(&channel.secrets).expose(&secret.name).is_none())
        {
            warn!(
                channel = channel.name,
                secret = secret.name,
                "a secret is not there; nobody can be told through it"
            );
        }
    }
}

/// Looks at the directory now and then; a valid change goes live whole, an invalid one is reported and changes nothing.
async fn watch_directory(switch: Switch, every_ms: u64, mut stop: Stop) {
    let mut watch = Watch::new(&switch.directory);
    if every_ms == 0 {
        return;
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(every_ms)) => {}
            () = stop.ordered() => return,
        }
        switch.secrets.refresh();
        if watch.changed() {
            switch.apply().await;
        }
    }
}

impl Switch {
    async fn apply(&self) {
        let integration = match compiled(&self.directory).await {
            Ok(integration) => integration,
            Err(error) => {
                warn!(%error, "the changed files are not taken; what was running goes on");
                return;
            }
        };
        match activate(&self.queue, &integration.hooks, &integration.plans, &self.key).await {
            Ok(live) => {
                self.told.send_replace(Told::of(&integration));
                info!(epoch = live.epoch, bundles = live.plans().count(), "changed files are live");
                self.catalogue.switch(live);
                warn_of_missing(&self.secrets, &integration);
            }
            Err(error) => warn!(%error, "the changed files could not be stored; what was running goes on"),
        }
    }
}

async fn listen(address: std::net::SocketAddr) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).await.map_err(|error| AppError::Listen { address, error })
}

fn local(listener: &TcpListener, address: std::net::SocketAddr) -> Result<std::net::SocketAddr, AppError> {
    listener.local_addr().map_err(|error| AppError::Listen { address, error })
}

/// Makes the data directory readable by its owner only: it holds events and the master key.
fn make_private(path: &Path) -> Result<(), AppError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| AppError::Data { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests;
