//! What is in force right now: hooks by their token, plans by their version. Switched whole, never edited.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sheaf_bundles::{hook::Hook, id::VersionId, plan::Plan, workspace};
use sheaf_connectors::decode::Decoder;
use tokio::{sync::watch, time::timeout};

use crate::{
    intake::share::Share,
    queue::QueueError,
    storage::store::Store,
    token::{MasterKey, Token},
};

/// How long a request waits for an epoch that is committed and about to be in force, milliseconds.
const SWITCH_MS: u64 = 5_000;

/// The generation of a hook that was never rotated.
const GENERATION_FIRST: u32 = 1;

/// One epoch of the catalogue.
#[derive(Debug)]
pub struct Live {
    /// Compared by publish, in its commit.
    pub epoch: u64,
    hooks: Vec<(Token, Arc<LiveHook>)>,
    /// Keyed hash of a token -> places in `hooks`: what a stranger can learn from its timing does not depend on our tokens.
    by_hash: HashMap<u64, Vec<usize>>,
    keyed: RandomState,
    plans: HashMap<VersionId, Arc<Plan>>,
    /// What each workspace may have of intake, once this epoch is in force.
    shares: HashMap<String, Arc<Share>>,
}

/// A hook and the active plans that listen to it.
#[derive(Debug)]
pub struct LiveHook {
    /// The epoch its plans belong to.
    pub epoch: u64,
    /// Reads its requests.
    pub decoder: Decoder,
    /// Name of its connection, shared by everything that is published.
    pub connection: Arc<str>,
    /// The active plans of its connection.
    pub plans: Vec<(VersionId, Arc<Plan>)>,
}

impl Live {
    /// Puts together what the queue has just activated.
    pub fn new(epoch: u64, hooks: &[Arc<Hook>], plans: Vec<(VersionId, Arc<Plan>)>, key: &MasterKey) -> Live {
        let keyed = RandomState::new();
        let mut by_hash: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut listeners: HashMap<&str, Vec<(VersionId, Arc<Plan>)>> = HashMap::new();
        for (version, plan) in &plans {
            listeners.entry(&plan.connection.name).or_default().push((*version, plan.clone()));
        }
        let mut live = |hook: &Arc<Hook>| {
            let plans = listeners.remove(hook.connection.name.as_str()).unwrap_or_default();
            live_hook(epoch, hook, plans, key)
        };
        let hooks: Vec<(Token, Arc<LiveHook>)> = hooks.iter().flat_map(&mut live).collect();
        drop(listeners);
        for (place, (token, _)) in hooks.iter().enumerate() {
            by_hash.entry(keyed.hash_one(token.bytes())).or_default().push(place);
        }
        Live { epoch, hooks, by_hash, keyed, plans: plans.into_iter().collect(), shares: HashMap::new() }
    }

    /// The hook of a token.
    pub fn hook(&self, token: &Token) -> Option<&Arc<LiveHook>> {
        let places = self.by_hash.get(&self.keyed.hash_one(token.bytes()))?;
        places.iter().map(|place| &self.hooks[*place]).find(|(own, _)| own.is(token)).map(|(_, hook)| hook)
    }

    /// What the workspace of a hook may have of intake, where callers of others come too.
    pub fn share(&self, hook: &LiveHook) -> Option<&Arc<Share>> {
        if !self.is_shared() {
            return None;
        }
        self.shares.get(workspace::of(&hook.connection))
    }

    /// Whether more than one workspace has hooks.
    pub fn is_shared(&self) -> bool {
        self.shares.len() > 1
    }

    /// After another epoch, or as the first.
    fn succeeding(mut self, before: &HashMap<String, Arc<Share>>) -> Arc<Live> {
        self.shares = Share::of(self.hooks().map(|hook| workspace::of(&hook.connection)), before);
        Arc::new(self)
    }

    /// Every hook, once for each of its tokens.
    pub fn hooks(&self) -> impl Iterator<Item = &Arc<LiveHook>> {
        self.hooks.iter().map(|(_, hook)| hook)
    }

    /// The hook of a connection.
    pub fn hook_of(&self, connection: &str) -> Option<&Arc<LiveHook>> {
        self.hooks().find(|hook| &*hook.connection == connection)
    }

    /// The active plan of a version.
    pub fn plan(&self, version: VersionId) -> Option<&Arc<Plan>> {
        self.plans.get(&version)
    }

    /// The active plans.
    pub fn plans(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.plans.values()
    }
}

/// A hook under its tokens. The token of the generation before stays valid until the next is made: raising the generation
/// by one changes the URL with an overlap, raising it by two at once.
fn live_hook(
    epoch: u64,
    hook: &Arc<Hook>,
    plans: Vec<(VersionId, Arc<Plan>)>,
    key: &MasterKey,
) -> impl Iterator<Item = (Token, Arc<LiveHook>)> + use<> {
    let name = &hook.connection.name;
    let live =
        LiveHook { epoch, decoder: Decoder::new(hook.clone()), connection: Arc::from(name.as_str()), plans };
    let live = Arc::new(live);
    let generation = hook.connection.hook_generation;
    let tokens: Vec<Token> = (generation.saturating_sub(1).max(GENERATION_FIRST)..=generation)
        .map(|generation| key.token(name, generation))
        .collect();
    tokens.into_iter().map(move |token| (token, live.clone()))
}

/// The catalogue: the epoch in force, and plans of earlier versions that runs under way still need.
#[derive(Debug)]
pub struct Catalogue {
    live: watch::Sender<Arc<Live>>,
    /// Why what another node made active cannot be served here, while that is so.
    refused: watch::Sender<Option<String>>,
    earlier: Mutex<HashMap<VersionId, Arc<Plan>>>,
}

/// A run's version cannot be executed.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// Its artefact is not in the store.
    #[error("version {0} is not stored")]
    Unknown(VersionId),
    /// Its artefact does not compile with this engine.
    #[error("version {version} does not compile any more: {why}")]
    Artefact {
        /// Which.
        version: VersionId,
        /// Why.
        why: String,
    },
    /// The store cannot be read now.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Catalogue {
    /// Starts with one epoch in force.
    pub fn new(live: Live) -> Catalogue {
        Catalogue {
            live: watch::Sender::new(live.succeeding(&HashMap::new())),
            refused: watch::Sender::default(),
            earlier: Mutex::default(),
        }
    }

    /// The epoch in force.
    pub fn live(&self) -> Arc<Live> {
        self.live.borrow().clone()
    }

    /// The epoch in force once it is not this one any more, which was refused; `None` when that takes too long. Mostly a later
    /// one; an earlier one after a restore.
    pub async fn after(&self, refused: u64) -> Option<Arc<Live>> {
        let mut live = self.live.subscribe();
        let switched =
            timeout(Duration::from_millis(SWITCH_MS), live.wait_for(|live| live.epoch != refused)).await;
        Some(switched.ok()?.ok()?.clone())
    }

    /// Puts another epoch in force; runs under way keep the plans they began with.
    pub fn switch(&self, live: Live) {
        let live = live.succeeding(&self.live().shares);
        self.live.send_replace(live);
    }

    /// Notes why what another node made active cannot be served here, while that is so: this node publishes nothing then.
    pub fn refuse(&self, why: Option<String>) {
        self.refused.send_replace(why);
    }

    /// Why this node publishes nothing, while that is so.
    pub fn refused(&self) -> watch::Receiver<Option<String>> {
        self.refused.subscribe()
    }

    /// The plan of a version: active, seen before, or compiled again from its stored artefact.
    ///
    /// # Errors
    /// The version is unknown, does not compile, or the store cannot be read.
    pub async fn plan(&self, version: VersionId, store: &Store) -> Result<Arc<Plan>, VersionError> {
        if let Some(plan) = self.live().plan(version) {
            return Ok(plan.clone());
        }
        if let Some(plan) = self.earlier().get(&version) {
            return Ok(plan.clone());
        }
        let stored = store.version(version).await?.ok_or(VersionError::Unknown(version))?;
        let plan = sheaf_connectors::plan_of_artefact(stored.artefact)
            .map_err(|error| VersionError::Artefact { version, why: error.to_string() })?;
        let plan = Arc::new(plan);
        self.earlier().insert(version, plan.clone());
        Ok(plan)
    }

    fn earlier(&self) -> std::sync::MutexGuard<'_, HashMap<VersionId, Arc<Plan>>> {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
