//! Which runs may run now, as this process knows it: what is paused, broken, full, and who holds the slots. Pure.
//!
//! The writer keeps one [`Gates`] and shows it to the backend with every turn; the backend asks a [`door::Door`] about each
//! run.

pub mod circle;
pub mod door;
pub mod failing;
#[cfg(test)]
mod tests;
mod workspaces;

use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use sheaf_bundles::{budget::Accounts, id::VersionId};

use super::{
    breaker::{Answered, Breaker, Open, Passage},
    gate::{GateId, GateKind, GateRow, Limit, PausedVersion, Stand},
};
use circle::Circle;
use door::Due;
use failing::Failing;
use workspaces::{Workspaces, share};

/// What this process knows of every gate.
#[derive(Debug)]
pub struct Gates {
    slots: usize,
    limits: HashMap<GateId, Limit>,
    /// Those that are open, and those that count failures.
    breakers: HashMap<GateId, Breaker>,
    open: usize,
    paused: BTreeSet<GateId>,
    paused_versions: HashMap<VersionId, GateId>,
    failing: Failing,
    limited: usize,
    /// Connections that active bundles send through.
    used: usize,
    /// Some connection is shared by bundles.
    shares: bool,
    /// Where active bundles of more than one workspace are in use.
    workspaces: Option<Workspaces>,
    /// See [`Gates::gated`]; `None` when something has changed since.
    gated: Option<Arc<HashSet<GateId>>>,
    /// Gates whose budgets are spent, and until when, unix milliseconds.
    spent: HashMap<GateId, i64>,
    /// Gates with runs behind them, and whose.
    behind: HashMap<GateId, Circle>,
    /// Gates whose runs come out on another node for now, and until when, unix milliseconds.
    elsewhere: HashMap<GateId, i64>,
    /// How often runs were looked for behind gates.
    lookings: u64,
    /// How often it was looked for what is ready.
    claims: u64,
    /// More was ready than there were slots for.
    crowded: bool,
    held: HashMap<GateId, usize>,
    /// Breakers to be stored.
    changed: BTreeSet<GateId>,
}

/// What is stored about gates, read anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Every gate that is not plainly open.
    pub rows: Vec<GateRow>,
    /// Versions that a pause holds.
    pub versions: Vec<PausedVersion>,
    /// Where runs wait, and the soonest due time of these; `None` when that was not read.
    pub behind: Option<Vec<(Stand, i64)>>,
    /// What is spent of the budgets of connections.
    pub accounts: Vec<(GateId, Accounts)>,
}

/// A breaker to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerChange {
    /// The connection's gate.
    pub gate: GateId,
    /// The connection's name.
    pub name: String,
    /// `None` when it closed.
    pub open: Option<Open>,
}

impl Gates {
    /// All open.
    pub fn new(slots: usize) -> Gates {
        Gates {
            slots,
            limits: HashMap::new(),
            used: 0,
            breakers: HashMap::new(),
            open: 0,
            paused: BTreeSet::new(),
            paused_versions: HashMap::new(),
            failing: Failing::default(),
            limited: 0,
            shares: false,
            workspaces: None,
            gated: None,
            spent: HashMap::new(),
            behind: HashMap::new(),
            elsewhere: HashMap::new(),
            lookings: 0,
            claims: 0,
            crowded: false,
            held: HashMap::new(),
            changed: BTreeSet::new(),
        }
    }

    /// What the files in force say. Slots are shared where there is more than one connection, and between workspaces. Runs of a bundle that is gone
    /// may still wait: they take their turns apart, and keep to what was said of a connection that is gone.
    pub fn limit(&mut self, mut limits: HashMap<GateId, Limit>) {
        for (gate, before) in self.limits.drain() {
            match limits.entry(gate) {
                Entry::Occupied(mut now) if now.get().is_used() => {
                    now.get_mut().bundles = now.get().bundles.max(before.bundles);
                }
                Entry::Vacant(gone) if before.holds_places() => {
                    gone.insert(Limit { bundles: 0, ..before });
                }
                Entry::Occupied(_) | Entry::Vacant(_) => {}
            }
        }
        self.limited = limits.values().filter(|limit| limit.holds_places()).count();
        self.gated = None;
        self.spent.clear();
        self.shares = limits.values().any(Limit::is_shared);
        self.used = limits.values().filter(|limit| limit.is_used()).count();
        self.workspaces = Workspaces::told_apart(&limits, &self.held);
        self.limits = limits;
    }

    /// What is said of the connection of a gate, when it has budgets.
    pub fn budgets(&self, gate: GateId) -> Option<&Limit> {
        self.limits.get(&gate.itself()).filter(|limit| !limit.budgets.is_empty())
    }

    /// The connections through which no step sends without its run having passed their gates: those that are paused or
    /// broken, and those whose runs hold places.
    pub fn gated(&mut self) -> Arc<HashSet<GateId>> {
        let gather = || {
            let paused = self.paused.iter().filter(|gate| gate.is_connection());
            let broken = self.breakers.iter().filter(|(_, breaker)| breaker.open().is_some());
            let limited = self.limits.iter().filter(|(_, limit)| limit.holds_places());
            let limited = limited.map(|(gate, _)| gate);
            Arc::new(paused.chain(broken.map(|(gate, _)| gate)).chain(limited).copied().collect())
        };
        self.gated.get_or_insert_with(gather).clone()
    }

    /// There may be more left of a connection's budgets than was known.
    pub fn look_into(&mut self, gate: GateId) {
        self.spent.remove(&gate);
        self.spent.remove(&gate.of_replays());
    }

    /// What is spent of a connection's budgets: until when its runs wait.
    pub fn spent(&mut self, gate: GateId, accounts: Accounts, now_ms: i64) {
        let Some(Limit { budgets, cost, .. }) = self.limits.get(&gate) else { return };
        let accounts = accounts.of(budgets, now_ms);
        let free_ms = |replayed| accounts.free_ms(budgets, *cost, replayed, now_ms);
        for (gate, free_ms) in [(gate, free_ms(false)), (gate.of_replays(), free_ms(true))] {
            if free_ms > now_ms {
                self.spent.insert(gate, free_ms);
            } else {
                self.spent.remove(&gate);
            }
        }
    }

    /// What was stored, also by others, holds.
    pub fn stored(&mut self, stored: Stored, now_ms: i64) {
        let paused = std::mem::take(&mut self.paused);
        let mut open = HashMap::new();
        for row in stored.rows {
            // What is about to be stored here is newer.
            if self.changed.contains(&row.gate) {
                open.insert(row.gate, self.breaker(row.gate));
            }
            if row.paused_ms.is_some() {
                self.paused.insert(row.gate);
                if row.kind == GateKind::Connection {
                    self.paused.insert(GateId::of(GateKind::Source, &row.name));
                }
            }
            if row.breaker.open().is_some() {
                open.entry(row.gate).or_insert(row.breaker);
            }
        }
        if self.paused != paused {
            self.gated = None;
        }
        let known: Vec<GateId> = self.breakers.keys().copied().collect();
        for gate in known {
            let stays = open.contains_key(&gate) || self.changed.contains(&gate);
            if self.breaker(gate).open().is_some() && !stays {
                self.set(gate, Breaker::Closed { failures: 0, since_ms: now_ms });
            }
        }
        for (gate, breaker) in open {
            self.set(gate, breaker);
        }
        let versions = stored.versions.iter().map(|paused| (paused.version, paused.gate)).collect();
        for resumed in std::mem::replace(&mut self.paused_versions, versions).into_keys() {
            if !self.paused_versions.contains_key(&resumed) {
                self.failing.anew(resumed);
            }
        }
        if let Some(behind) = stored.behind {
            self.read_anew(&behind);
        }
        for (gate, accounts) in stored.accounts {
            self.spent(gate, accounts, now_ms);
        }
    }

    /// A run takes a slot.
    pub fn took(&mut self, through: GateId) {
        *self.held.entry(through).or_default() += 1;
        if let Some(workspaces) = &mut self.workspaces {
            workspaces.took(through);
        }
    }

    /// It gives it back.
    pub fn gave(&mut self, through: GateId) {
        if let Some(held) = self.held.get_mut(&through) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&through);
            }
            if let Some(workspaces) = &mut self.workspaces {
                workspaces.gave(through);
            }
        }
    }

    /// How an attempt ended that went through a connection.
    pub fn answered(
        &mut self,
        through: GateId,
        answered: Answered,
        started_ms: i64,
        probe: bool,
        now_ms: i64,
    ) {
        if through == GateId::NONE || (answered == Answered::Well && self.breakers.is_empty()) {
            return;
        }
        let before = self.breaker(through);
        let after = before.answered(answered, started_ms, probe, now_ms);
        self.change(through, before, after);
    }

    /// A probe is under way until then at least; 0 when it came back without having asked the vendor.
    pub fn probing(&mut self, gate: GateId, until_ms: i64) {
        let before = self.breaker(gate);
        self.change(gate, before, before.probing(until_ms));
    }

    /// A probe was noted in the database already.
    pub fn probe_noted(&mut self, gate: GateId, until_ms: i64) {
        self.set(gate, self.breaker(gate).probing(until_ms));
    }

    /// Runs were put behind a gate.
    pub fn put(&mut self, stand: Stand, now_ms: i64) {
        let begun = || Circle::begun(self.lookings);
        self.behind.entry(stand.gate).or_insert_with(begun).enter(stand.row, now_ms);
    }

    /// Runs were looked for behind a gate: when to look again; `None` when there are none left.
    pub fn looked(&mut self, stand: Stand, again_ms: Option<i64>) {
        self.lookings += 1;
        if let Some(workspaces) = &mut self.workspaces {
            workspaces.looked_behind(stand.gate, self.lookings);
        }
        let circle = self.behind.entry(stand.gate).or_default();
        circle.served(stand.row, again_ms, self.lookings);
        if circle.count() == 0 {
            self.behind.remove(&stand.gate);
        }
    }

    /// What comes out from behind a gate is another node's for now.
    pub fn elsewhere(&mut self, gate: GateId, again_ms: i64, now_ms: i64) {
        self.elsewhere.retain(|_, again_ms| *again_ms > now_ms);
        self.elsewhere.insert(gate, again_ms);
    }

    /// In how many places runs wait.
    pub fn stands(&self) -> usize {
        self.behind.values().map(Circle::count).sum()
    }

    /// Slots were given to what is ready or to those before it: whether more was ready than there were slots for; `None`
    /// when nobody saw.
    pub fn claimed(&mut self, crowded: Option<bool>) {
        self.claims += 1;
        self.crowded = crowded.unwrap_or(self.crowded);
    }

    /// Whether what waits for a slot waits apart for each bundle or workspace, where no claim reads.
    pub fn has_shares(&self) -> bool {
        self.shares || self.workspaces.is_some()
    }

    /// A run ended: was it delivered, or else set aside for what is no fault of a vendor's. Those under way when their bundle
    /// was paused say nothing new.
    pub fn finished(&mut self, version: VersionId, delivered: bool) {
        if delivered {
            self.failing.delivered(version);
        } else if !self.paused_versions.contains_key(&version) {
            self.failing.parked(version);
        }
    }

    /// Versions whose bundles keep failing, and are to be paused with the next turn.
    pub fn failing(&self) -> Vec<VersionId> {
        self.failing.found()
    }

    /// They are.
    pub fn paused(&mut self, failing: &[VersionId]) {
        failing.iter().for_each(|version| self.failing.anew(*version));
    }

    /// Breakers to be stored with the next turn.
    pub fn changes(&self) -> Vec<BreakerChange> {
        let change = |gate: &GateId| BreakerChange {
            gate: *gate,
            name: self.limits.get(gate).map_or_else(|| format!("{:x}", gate.0), |limit| limit.name.clone()),
            open: self.breaker(*gate).open(),
        };
        self.changed.iter().map(change).collect()
    }

    /// They are stored.
    pub fn kept(&mut self, changes: &[BreakerChange]) {
        for change in changes {
            if self.breaker(change.gate).open() == change.open {
                self.changed.remove(&change.gate);
            }
        }
    }

    /// When runs behind a gate may come out, unix milliseconds; `i64::MAX` when none can before something else happens.
    pub fn wake_ms(&self, now_ms: i64) -> i64 {
        let free = self.slots.saturating_sub(self.held.values().sum());
        let out = |(gate, circle): (&GateId, &Circle)| {
            let at_ms = circle.wake_ms(now_ms);
            let at_ms = self.held_up_ms(*gate).map_or(at_ms, |until_ms| at_ms.max(until_ms));
            match self.passage(*gate, now_ms) {
                Passage::Nobody { until_ms } => until_ms.max(at_ms),
                // Until a slot comes back.
                Passage::One | Passage::All if self.room_now(*gate, free) == 0 => i64::MAX,
                Passage::One | Passage::All => at_ms,
            }
        };
        let mut soonest_ms = i64::MAX;
        for at_ms in self.behind.iter().map(out) {
            soonest_ms = soonest_ms.min(at_ms);
            if soonest_ms <= now_ms {
                break;
            }
        }
        soonest_ms
    }

    /// Until when nothing comes out from behind a gate although it is open: its budgets are spent, or another node is at it.
    fn held_up_ms(&self, gate: GateId) -> Option<i64> {
        self.spent.get(&gate).copied().max(self.elsewhere.get(&gate).copied())
    }

    fn breaker(&self, gate: GateId) -> Breaker {
        self.breakers.get(&gate).copied().unwrap_or_default()
    }

    fn change(&mut self, gate: GateId, before: Breaker, after: Breaker) {
        if before.open() != after.open() {
            self.changed.insert(gate);
        }
        self.set(gate, after);
    }

    fn set(&mut self, gate: GateId, breaker: Breaker) {
        let before = match breaker {
            Breaker::Closed { failures: 0, since_ms: 0 } => self.breakers.remove(&gate),
            other => self.breakers.insert(gate, other),
        };
        let (was_open, is_open) =
            (before.is_some_and(|before| before.open().is_some()), breaker.open().is_some());
        if was_open != is_open {
            self.gated = None;
        }
        self.open = self.open + usize::from(is_open) - usize::from(was_open);
    }

    fn held(&self, gate: GateId) -> usize {
        self.held.get(&gate.itself()).copied().unwrap_or(0)
    }

    /// How many may come through a gate, places and slots aside.
    fn passage(&self, gate: GateId, now_ms: i64) -> Passage {
        let gate = gate.itself();
        if self.paused.contains(&gate) {
            return Passage::Nobody { until_ms: i64::MAX };
        }
        self.breaker(gate).passage(now_ms)
    }

    /// How many more runs of a connection may take a slot when it and its workspace hold so many: never more than it leaves
    /// free, where others may need one, so that a vendor that holds on to its slots leaves as many to the rest. What a
    /// workspace may take is shared among its connections in the same way.
    fn room(&self, gate: GateId, held: usize, together: usize, free: usize) -> usize {
        let (free, shared) = match &self.workspaces {
            None => (free, self.used > 1),
            Some(workspaces) => (share(together, free), workspaces.has_several(workspaces.of(gate))),
        };
        let room = if shared { share(held, free) } else { free };
        match self.limits.get(&gate.itself()).and_then(|limit| limit.concurrency) {
            Some(concurrency) => room.min(concurrency.saturating_sub(held)),
            None => room,
        }
    }

    /// The same of what is held before a turn.
    fn room_now(&self, gate: GateId, free: usize) -> usize {
        let of_workspace = |workspaces: &Workspaces| workspaces.held(workspaces.of(gate));
        let together = self.workspaces.as_ref().map_or(0, of_workspace);
        self.room(gate, self.held(gate), together, free)
    }

    fn is_limited(&self, gate: GateId) -> bool {
        self.limited > 0 && self.limits.get(&gate).is_some_and(Limit::holds_places)
    }

    fn read_anew(&mut self, behind: &[(Stand, i64)]) {
        let mut rows: HashMap<GateId, HashMap<GateId, i64>> = HashMap::new();
        for (stand, at_ms) in behind {
            rows.entry(stand.gate).or_default().insert(stand.row, *at_ms);
        }
        self.behind.retain(|gate, _| rows.contains_key(gate));
        for (gate, rows) in rows {
            let begun = || Circle::begun(self.lookings);
            self.behind.entry(gate).or_insert_with(begun).read_anew(&rows);
        }
    }

    /// Whether slots for the runs of a connection are dealt out, so that what has none waits behind its gate: among bundles,
    /// or among workspaces.
    fn is_dealt(&self, through: GateId) -> bool {
        (self.workspaces.is_some() && through != GateId::NONE) || self.is_shared(through)
    }

    /// Whether what waits for a connection waits apart for each bundle.
    fn is_shared(&self, through: GateId) -> bool {
        self.shares && self.limits.get(&through).is_some_and(Limit::is_shared)
    }

    /// Where a run stands that waits at a gate: one that waits for its connection with those of its bundle.
    fn stand(&self, gate: GateId, due: &Due) -> Stand {
        if gate.itself() == due.through && self.is_shared(due.through) {
            Stand::of_bundle(gate, due.bundle)
        } else {
            Stand::at(gate)
        }
    }

    /// Where a run waits for its connection.
    fn queue_of(&self, through: GateId, replayed: bool) -> GateId {
        let apart = replayed && self.limited > 0;
        let apart = apart && self.limits.get(&through).is_some_and(Limit::keeps_a_reserve);
        if apart { through.of_replays() } else { through }
    }

    /// Every run may run: nothing is paused, broken, limited or waiting.
    fn is_quiet(&self) -> bool {
        self.open == 0
            && self.limited == 0
            && self.paused_versions.is_empty()
            && self.paused.is_empty()
            && self.behind.is_empty()
    }
}
