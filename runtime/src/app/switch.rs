//! How a catalogue goes live: this node's own files at its start and when they change, and what another node made active.
//!
//! All workspaces whose files are sound go live together. One with errors has no part in that, and keeps what is in force of it.
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
    artefact::Artefact,
    compile::Integration,
    connection::Connection,
    hook::Hook,
    id::VersionId,
    plan::Plan,
    words::{Language, Words},
};
use tokio::{sync::watch, task::JoinError, time::Instant};
use tracing::{error, info, warn};

use super::{AppError, said::Said};
use crate::{
    alerts::Told,
    config::WATCH_MS,
    directory::{self, Compiled},
    live::{Catalogue, Live},
    queue::{
        Queue, QueueError,
        gate::{GateId, GateKind, Limit},
        types::{Activation, NewVersion},
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
    pub said: Said,
    pub told: watch::Sender<Told>,
}

/// Reads and compiles on a thread of its own: a large directory takes a while, and requests are waiting. An error when no
/// workspace is sound; of others that are not the log tells.
pub async fn compiled(directory: &Path) -> Result<Compiled, AppError> {
    let owned = directory.to_owned();
    let read = tokio::task::spawn_blocking(move || Ok(directory::compile(&directory::read(&owned)?))).await;
    // A compiler that panicked says so in the log; the files are as good as wrong.
    let panicked = |error: JoinError| AppError::Invalid(Words::new(error.to_string(), error.to_string()));
    let compiled = read.unwrap_or_else(|error| Err(panicked(error)))?;
    let (sound, wrong): (Vec<_>, Vec<_>) = compiled.workspaces.iter().partition(|own| own.sound().is_some());
    if sound.is_empty() {
        let text = |language| compiled.text(language, false);
        return Err(AppError::Invalid(Words::new(text(Language::En), text(Language::Ru))));
    }
    for own in wrong {
        let (workspace, error) = (&own.key, compiled.text_of(own, Language::En, false));
        warn!(workspace, error, "the files of a workspace are not taken; what is in force of it stays");
    }
    Ok(compiled)
}

/// What a starting node serves, and what its files say. When no workspace is sound that is what is in force: a vendor that does
/// not repeat would otherwise lose events for as long as a person takes to repair them. The error itself when nothing is.
pub async fn first(
    queue: &Queue,
    key: &MasterKey,
    secrets: &Secrets,
    directory: &Path,
    found: Result<Compiled, AppError>,
) -> Result<(Live, Said), AppError> {
    let wrong = match found {
        Ok(compiled) => {
            let said = Said::default().then(compiled);
            warn_of_missing(secrets, &said);
            return Ok((activate(queue, &said, key, None).await?, said));
        }
        Err(wrong) => wrong,
    };
    let in_force = InForce::read(queue, |_| None).await?;
    if in_force.plans.is_empty() {
        return Err(wrong);
    }
    let live = in_force.live(queue, &[], HashMap::new(), key).await?;
    error!(error = %wrong, "the files are not taken; what was live last is served");
    Ok((live, said_in_spite(directory)))
}

/// Whom to tell when all files are wrong is in them too.
fn said_in_spite(directory: &Path) -> Said {
    let read = directory::read(directory).unwrap_or_default();
    Said::default().then(directory::compile(&read))
}

/// Stores the active versions, which gives the epoch, and puts the catalogue together, with what is in force of workspaces
/// that are wrong; or the catalogue that another node made active since these very files were.
async fn activate(
    queue: &Queue,
    said: &Said,
    key: &MasterKey,
    live: Option<&Live>,
) -> Result<Live, AppError> {
    let plans = said.active();
    let versions = plans.iter().map(|plan| new_version(plan)).collect();
    let activated = queue.activate(Activation { versions, keeping: said.wrong.clone() }).await?;
    let (hooks, apart) = (said.hooks(), limits_apart(said));
    if activated.in_force && said.wrong.is_empty() {
        queue.limit(limits(plans.iter(), apart)).await?;
        let plans = activated.versions.into_iter().zip(plans).collect();
        return Ok(Live::new(activated.epoch, &hooks, plans, key));
    }
    if !activated.in_force {
        info!("another node has activated other files since these were; they are served here too");
    }
    let ours: HashMap<VersionId, Arc<Plan>> = activated.versions.into_iter().zip(plans).collect();
    let known = |id| ours.get(&id).or_else(|| live?.plan(id)).cloned();
    InForce::read(queue, known).await?.live(queue, &hooks, apart, key).await
}

fn compile(bundle: String, artefact: Artefact) -> Result<Arc<Plan>, AppError> {
    let plan = sheaf_connectors::plan_of_artefact(artefact);
    plan.map(Arc::new).map_err(|error| AppError::Artefact { bundle, error })
}

/// The catalogue in force, as it is stored.
struct InForce {
    epoch: u64,
    plans: Vec<(VersionId, Arc<Plan>)>,
}

impl InForce {
    /// `known`: plans that need not be compiled again if what is stored under their version still is what they are.
    async fn read(
        queue: &Queue,
        known: impl Fn(VersionId) -> Option<Arc<Plan>>,
    ) -> Result<InForce, AppError> {
        let (epoch, versions) = queue.store().versions_in_force().await?;
        let mut plans = Vec::with_capacity(versions.len());
        for version in versions {
            let same = |plan: &Arc<Plan>| plan.artefact().hash == version.artefact.hash;
            let plan = match known(version.id).filter(same) {
                Some(plan) => plan,
                None => compile(version.bundle, version.artefact)?,
            };
            plans.push((version.id, plan));
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
fn limits_apart(said: &Said) -> HashMap<GateId, Limit> {
    let mut limits = limits_of(said.workspaces().flat_map(|workspace| &workspace.plans));
    for connection in said.workspaces().flat_map(|workspace| &workspace.connections) {
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

fn warn_of_missing(secrets: &Secrets, said: &Said) {
    said.sound().for_each(|workspace| warn_of_missing_in(secrets, workspace));
}

fn warn_of_missing_in(secrets: &Secrets, integration: &Integration) {
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
                workspace = integration.key,
                channel = channel.name,
                secret = secret.name,
                "a secret is not there; nobody can be told through it"
            );
        }
    }
}

impl Switch {
    /// Looks at the directory now and then; a valid change of a workspace goes live whole, an invalid one is reported and changes
    /// nothing. Follows what other nodes make active.
    pub async fn run(mut self, mut watch: Option<Watch>, every_ms: u64, mut stop: Stop) {
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
    async fn apply(&mut self) -> Result<(), QueueError> {
        let said = match compiled(&self.directory).await {
            Ok(compiled) => self.said.then(compiled),
            Err(error) => {
                warn!(%error, "the changed files are not taken; what was running goes on");
                return Ok(());
            }
        };
        let before = self.catalogue.live();
        match activate(&self.queue, &said, &self.key, Some(&before)).await {
            Ok(live) => {
                self.told.send_replace(said.told());
                info!(epoch = live.epoch, bundles = live.plans().count(), "the catalogue is switched");
                self.catalogue.switch(live);
                warn_of_missing(&self.secrets, &said);
                self.said = said;
            }
            Err(AppError::Queue(error)) => {
                warn!(%error, "the changed files could not be stored yet; what was running goes on");
                return Err(error);
            }
            Err(error) => warn!(%error, "what is in force cannot be served here; what was running goes on"),
        }
        Ok(())
    }

    async fn live_in_force(&self, before: &Live) -> Result<Live, AppError> {
        let hooks: Vec<Arc<Hook>> = before.hooks().map(|hook| hook.decoder.hook().clone()).collect();
        let in_force = InForce::read(&self.queue, |id| before.plan(id).cloned()).await?;
        in_force.live(&self.queue, &hooks, HashMap::new(), &self.key).await
    }

    /// Another node moved the epoch, or a restore did. Until this one has followed, it publishes nothing. Whether it has.
    async fn follow(&self) -> bool {
        match self.live_in_force(&self.catalogue.live()).await {
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
