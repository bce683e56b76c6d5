//! How a catalogue goes live: this node's own files at its start and when they change, and what another node made active.
//!
//! Nodes on one database have one catalogue. The newest activation wins, whoever made it, and every other node serves it
//! from the stored artefacts. A node whose files are as they were when it last activated them has nothing to say: so in a
//! rolling update a node that still has the old files, and restarts, does not put them back in force.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sheaf_bundles::{
    compile::Integration,
    connection::Connection,
    hook::Hook,
    id::VersionId,
    plan::Plan,
    words::{Language, Words},
};
use tokio::{sync::watch, task::JoinError, time::Instant};
use tracing::{error, info, warn};

use super::AppError;
use crate::{
    alerts::Told,
    config::WATCH_MS,
    directory,
    live::{Catalogue, Live},
    queue::{
        Queue, QueueError,
        gate::{GateId, GateKind, Limit},
        types::NewVersion,
    },
    secrets::Secrets,
    stop::Stop,
    token::MasterKey,
    watch::Watch,
};

/// How long to wait before what another node made active is tried again: everything in it is compiled each time.
const FOLLOW_PAUSE: Duration = Duration::from_secs(10);

/// What a change of catalogue needs.
pub struct Switch {
    pub directory: PathBuf,
    pub queue: Queue,
    pub catalogue: Arc<Catalogue>,
    pub secrets: Arc<Secrets>,
    pub key: Arc<MasterKey>,
    pub told: watch::Sender<Told>,
}

/// Reads and compiles on a thread of its own: a large directory takes a while, and requests are waiting.
pub async fn compiled(directory: &Path) -> Result<Integration, AppError> {
    let owned = directory.to_owned();
    let read = tokio::task::spawn_blocking(move || Ok(directory::compile(&directory::read(&owned)?))).await;
    // A compiler that panicked says so in the log; the files are as good as wrong.
    let panicked = |error: JoinError| AppError::Invalid(Words::new(error.to_string(), error.to_string()));
    let compiled = read.unwrap_or_else(|error| Err(panicked(error)))?;
    let text = |language| compiled.text(language, false);
    let wrong = compiled.diagnostics.has_errors().then(|| Words::new(text(Language::En), text(Language::Ru)));
    match (wrong, compiled.integration) {
        (None, Some(integration)) => Ok(integration),
        (wrong, _) => Err(AppError::Invalid(wrong.unwrap_or_default())),
    }
}

/// What a starting node serves, and whom it tells. With files that are wrong that is what is in force: a vendor that does
/// not repeat would otherwise lose events for as long as a person takes to repair them. The error itself when nothing is.
pub async fn first(
    queue: &Queue,
    key: &MasterKey,
    secrets: &Secrets,
    directory: &Path,
    found: Result<Integration, AppError>,
) -> Result<(Live, Told), AppError> {
    let wrong = match found {
        Ok(integration) => {
            warn_of_missing(secrets, &integration);
            let live = activate(queue, &integration, key).await?;
            return Ok((live, Told::of([&integration])));
        }
        Err(wrong) => wrong,
    };
    let in_force = InForce::read(queue).await?;
    if in_force.plans.is_empty() {
        return Err(wrong);
    }
    let live = in_force.live(queue, &[], HashMap::new(), key).await?;
    error!(error = %wrong, "the files are not taken; what was live last is served");
    Ok((live, told_in_spite(directory)))
}

/// Whom to tell when the files as a whole are wrong: the part about alerts may be sound, and now is when it is needed.
fn told_in_spite(directory: &Path) -> Told {
    let compiled = directory::read(directory).ok().map(|files| directory::compile(&files));
    Told::of(compiled.and_then(|compiled| compiled.integration).as_ref())
}

/// Stores the active versions, which gives the epoch, and puts the catalogue together; or the catalogue that another node
/// made active since these very files were.
async fn activate(queue: &Queue, integration: &Integration, key: &MasterKey) -> Result<Live, AppError> {
    let Integration { hooks, plans, .. } = integration;
    let plans: Vec<Arc<Plan>> = plans.iter().filter(|plan| plan.active).cloned().collect();
    let versions = plans.iter().map(|plan| new_version(plan)).collect();
    let activated = queue.activate(versions).await?;
    if !activated.in_force {
        info!("another node has activated other files since these were; they are served here too");
        return InForce::read(queue).await?.live(queue, hooks, limits_apart(integration), key).await;
    }
    queue.limit(limits(plans.iter(), limits_apart(integration))).await?;
    let plans = activated.versions.into_iter().zip(plans).collect();
    Ok(Live::new(activated.epoch, hooks, plans, key))
}

/// The catalogue in force, as it is stored.
struct InForce {
    epoch: u64,
    plans: Vec<(VersionId, Arc<Plan>)>,
}

impl InForce {
    async fn read(queue: &Queue) -> Result<InForce, AppError> {
        let (epoch, versions) = queue.store().versions_in_force().await?;
        let mut plans = Vec::with_capacity(versions.len());
        for version in versions {
            plans.push((version.id, Arc::new(sheaf_connectors::plan_of_artefact(version.artefact)?)));
        }
        Ok(InForce { epoch, plans })
    }

    /// Runs are handed out from here on. A hook of ours that nothing in force listens to stays: what comes through it is an
    /// event that no bundle takes, and not a 404 that a vendor does not repeat.
    async fn live(
        self,
        queue: &Queue,
        hooks: &[Arc<Hook>],
        limits_apart: HashMap<GateId, Limit>,
        key: &MasterKey,
    ) -> Result<Live, AppError> {
        let InForce { epoch, plans } = self;
        let theirs = plans.iter().map(|(_, plan)| plan.hook().clone());
        let mut all: Vec<Arc<Hook>> = theirs.chain(hooks.iter().cloned()).collect();
        // The sort is stable: of one name, the hook of a plan in force comes first, and stays.
        all.sort_by(|a, b| a.connection.name.cmp(&b.connection.name));
        all.dedup_by(|a, b| a.connection.name == b.connection.name);
        queue.limit(limits(plans.iter().map(|(_, plan)| plan), limits_apart)).await?;
        Ok(Live::new(epoch, &all, plans, key))
    }
}

/// What is said of the connections that plans in force send through, and of others (see [`limits_apart`]).
fn limits<'p>(
    plans: impl Iterator<Item = &'p Arc<Plan>>,
    apart: HashMap<GateId, Limit>,
) -> HashMap<GateId, Limit> {
    let mut limits = limits_of(plans);
    for (gate, other) in apart {
        let cost = other.cost;
        let limit = limits.entry(gate).or_insert(other);
        limit.cost = limit.cost.max(cost);
    }
    limits
}

/// What the files say of every connection, whether an active bundle sends there or not: runs of one that was switched off
/// may still wait.
fn limits_apart(integration: &Integration) -> HashMap<GateId, Limit> {
    let mut limits = limits_of(integration.plans.iter());
    for connection in &integration.connections {
        let gate = GateId::of(GateKind::Connection, &connection.name);
        limits.entry(gate).or_insert_with(|| limit_of(connection)).bundles = 0;
    }
    limits
}

fn limit_of(connection: &Connection) -> Limit {
    Limit {
        concurrency: connection.concurrency.map(|runs| runs as usize),
        budgets: connection.budgets.clone(),
        ..Limit::none(connection.name.as_str())
    }
}

/// Every connection that plans send through. A bundle has one plan in force.
fn limits_of<'p>(plans: impl Iterator<Item = &'p Arc<Plan>>) -> HashMap<GateId, Limit> {
    let mut limits: HashMap<GateId, Limit> = HashMap::new();
    for plan in plans {
        let mut seen = HashSet::new();
        for (connection, cost) in plan.step_connections() {
            let gate = GateId::of(GateKind::Connection, &connection.name);
            let limit = limits.entry(gate).or_insert_with(|| Limit { bundles: 0, ..limit_of(connection) });
            limit.cost = limit.cost.max(cost);
            limit.bundles += usize::from(seen.insert(gate));
        }
    }
    limits
}

fn new_version(plan: &Plan) -> NewVersion {
    NewVersion {
        bundle: plan.bundle.clone(),
        connection: plan.connection.name.clone(),
        through: GateId::of_first_step(plan),
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

impl Switch {
    /// Looks at the directory now and then; a valid change goes live whole, an invalid one is reported and changes nothing.
    /// Follows what other nodes make active.
    pub async fn run(self, mut watch: Option<Watch>, every_ms: u64, mut stop: Stop) {
        let every = Duration::from_millis(if every_ms > 0 { every_ms } else { WATCH_MS });
        let mut epoch = self.queue.epoch();
        let mut unapplied = false;
        let mut moved = false;
        let mut follow_at = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {
                    if let Some(watch) = &mut watch {
                        self.secrets.refresh();
                        if watch.changed() || unapplied {
                            unapplied = self.apply().await.is_err();
                        }
                    }
                }
                // Something new to try, however the last one ended.
                Ok(()) = epoch.changed() => (moved, follow_at) = (true, Instant::now()),
                () = stop.ordered() => return,
            }
            // Behind what is live means, unless it was just heard, that no turn has seen our own activation yet; once it is
            // heard, the database has lost the latest ones.
            let (theirs, ours) = (*epoch.borrow_and_update(), self.catalogue.live().epoch);
            moved = theirs > ours || (moved && theirs != ours);
            if !moved {
                self.catalogue.refuse(None);
            } else if follow_at <= Instant::now() {
                moved = !self.follow().await;
                if self.catalogue.refused().borrow().is_some() {
                    follow_at = Instant::now() + FOLLOW_PAUSE;
                }
            }
        }
    }

    /// An error when the database could not be asked: to be tried again.
    async fn apply(&self) -> Result<(), QueueError> {
        let integration = match compiled(&self.directory).await {
            Ok(integration) => integration,
            Err(error) => {
                warn!(%error, "the changed files are not taken; what was running goes on");
                return Ok(());
            }
        };
        match activate(&self.queue, &integration, &self.key).await {
            Ok(live) => {
                self.told.send_replace(Told::of([&integration]));
                info!(epoch = live.epoch, bundles = live.plans().count(), "the catalogue is switched");
                self.catalogue.switch(live);
                warn_of_missing(&self.secrets, &integration);
            }
            Err(AppError::Queue(error)) => {
                warn!(%error, "the changed files could not be stored yet; what was running goes on");
                return Err(error);
            }
            Err(error) => warn!(%error, "what is in force cannot be served here; what was running goes on"),
        }
        Ok(())
    }

    async fn live_in_force(&self, hooks: &[Arc<Hook>]) -> Result<Live, AppError> {
        InForce::read(&self.queue).await?.live(&self.queue, hooks, HashMap::new(), &self.key).await
    }

    /// Another node moved the epoch, or a restore did. Until this one has followed, it publishes nothing. Whether it has.
    async fn follow(&self) -> bool {
        let live = self.catalogue.live();
        let hooks: Vec<Arc<Hook>> = live.hooks().map(|hook| hook.decoder.hook().clone()).collect();
        match self.live_in_force(&hooks).await {
            Ok(live) => {
                info!(epoch = live.epoch, bundles = live.plans().count(), "another node's files are live");
                self.catalogue.switch(live);
                self.catalogue.refuse(None);
                true
            }
            Err(AppError::Queue(error)) => {
                warn!(%error, "what another node made active could not be read yet");
                false
            }
            Err(error) => {
                error!(%error, "what another node made active cannot be served here");
                self.catalogue.refuse(Some(error.to_string()));
                false
            }
        }
    }
}
