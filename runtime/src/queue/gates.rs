//! Which runs may run now, as this process knows it: what is paused, broken, full, and who holds the slots. Pure.
//!
//! The writer keeps one [`Gates`] and shows it to the backend with every turn; the backend asks a [`Door`] about each run.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use sheaf_bundles::{budget::Accounts, id::VersionId};

use super::{
    breaker::{Answered, Breaker, Open, Passage},
    gate::{GateId, GateKind, GateRow, Limit, PausedVersion},
};

/// Gates that are looked behind in one turn.
const OPENINGS_MAX: usize = 16;
/// Runs taken from behind a bundle's gate in one turn at most; they pass their connection's gate next.
const BUNDLE_CHUNK: usize = 256;

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
    limited: usize,
    /// Connections with budgets.
    budgeted: Arc<HashSet<GateId>>,
    /// Gates whose budgets are spent, and until when, unix milliseconds.
    spent: HashMap<GateId, i64>,
    /// Gates with runs behind them, and when to look there, unix milliseconds.
    behind: HashMap<GateId, i64>,
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
    /// Gates with runs behind them, and the soonest due time of these.
    pub behind: Vec<(GateId, i64)>,
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

/// Where a run goes that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It has a slot.
    Slot,
    /// It may run, and there is no slot.
    Ready,
    /// Behind this gate.
    Behind(GateId),
}

/// A gate that lets runs out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// The gate.
    pub gate: GateId,
    /// At most so many.
    pub runs_max: usize,
    /// One, to find out whether the vendor is well.
    pub probe: bool,
    /// Runs of it at once over all nodes.
    pub concurrency: Option<usize>,
    /// What comes out is paid for from the connection's budgets.
    pub budgeted: bool,
}

impl Opening {
    /// Whether a run that comes out goes through the connection of this very gate.
    pub fn is_of(&self, through: GateId) -> bool {
        self.gate.itself() == through
    }

    /// Whether such a run holds a place.
    pub fn gives_places(&self) -> bool {
        self.concurrency.is_some() || self.budgeted
    }
}

impl Gates {
    /// All open.
    pub fn new(slots: usize) -> Gates {
        Gates {
            slots,
            limits: HashMap::new(),
            breakers: HashMap::new(),
            open: 0,
            paused: BTreeSet::new(),
            paused_versions: HashMap::new(),
            limited: 0,
            budgeted: Arc::default(),
            spent: HashMap::new(),
            behind: HashMap::new(),
            held: HashMap::new(),
            changed: BTreeSet::new(),
        }
    }

    /// What the files in force say. Slots are shared where there is more than one connection.
    pub fn limit(&mut self, limits: HashMap<GateId, Limit>) {
        self.limited = limits.values().filter(|limit| limit.holds_places()).count();
        let budgeted = limits.iter().filter(|(_, limit)| !limit.budgets.is_empty()).map(|(gate, _)| *gate);
        self.budgeted = Arc::new(budgeted.collect());
        self.spent.clear();
        self.limits = limits;
    }

    /// What is said of the connection of a gate, when it has budgets.
    pub fn budgets(&self, gate: GateId) -> Option<&Limit> {
        self.limits.get(&gate.itself()).filter(|limit| !limit.budgets.is_empty())
    }

    /// The gates of connections with budgets.
    pub fn budgeted(&self) -> &Arc<HashSet<GateId>> {
        &self.budgeted
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
        self.paused.clear();
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
        self.paused_versions = stored.versions.iter().map(|paused| (paused.version, paused.gate)).collect();
        self.behind = stored.behind.into_iter().collect();
        for (gate, accounts) in stored.accounts {
            self.spent(gate, accounts, now_ms);
        }
    }

    /// A run takes a slot.
    pub fn took(&mut self, through: GateId) {
        *self.held.entry(through).or_default() += 1;
    }

    /// It gives it back.
    pub fn gave(&mut self, through: GateId) {
        if let Some(held) = self.held.get_mut(&through) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&through);
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

    /// Runs were put behind a gate, or looked for there: when to look again; `None` when there are none left.
    pub fn look_again(&mut self, gate: GateId, at_ms: Option<i64>) {
        match at_ms {
            Some(at_ms) => _ = self.behind.insert(gate, at_ms),
            None => _ = self.behind.remove(&gate),
        }
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
        let out = |(gate, at_ms): (&GateId, &i64)| {
            let at_ms = self.spent.get(gate).map_or(*at_ms, |spent_ms| *at_ms.max(spent_ms));
            match self.passage(*gate, now_ms) {
                Passage::Nobody { until_ms } => until_ms.max(at_ms),
                // Until a slot comes back.
                Passage::One | Passage::All if self.room(*gate, self.held(*gate), free) == 0 => i64::MAX,
                Passage::One | Passage::All => at_ms,
            }
        };
        if self.behind.is_empty() { i64::MAX } else { self.behind.iter().map(out).min().unwrap_or(i64::MAX) }
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
        self.open += usize::from(breaker.open().is_some());
        self.open -= usize::from(before.is_some_and(|before| before.open().is_some()));
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

    /// How many more runs of a connection may take a slot: never more than it leaves free, where others may need one,
    /// so that a vendor that holds on to its slots leaves as many to the rest.
    fn room(&self, gate: GateId, held: usize, free: usize) -> usize {
        let shared = self.limits.len() > 1;
        let room = if shared { free.saturating_sub(held).div_ceil(2) } else { free };
        match self.limits.get(&gate.itself()).and_then(|limit| limit.concurrency) {
            Some(concurrency) => room.min(concurrency.saturating_sub(held)),
            None => room,
        }
    }

    fn is_limited(&self, gate: GateId) -> bool {
        self.limited > 0 && self.limits.get(&gate).is_some_and(Limit::holds_places)
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

/// The gates during one turn.
#[derive(Debug)]
pub struct Door<'a> {
    gates: &'a Gates,
    now_ms: i64,
    free: usize,
    quiet: bool,
    taken: HashMap<GateId, usize>,
    /// Gates that runs were put behind in this turn.
    fresh: BTreeSet<GateId>,
    /// Gates that nobody waits at any more: all came out in this turn.
    drained: BTreeSet<GateId>,
}

impl<'a> Door<'a> {
    /// With so many free slots.
    pub fn new(gates: &'a Gates, free: usize, now_ms: i64) -> Door<'a> {
        let quiet = gates.is_quiet();
        Door {
            gates,
            now_ms,
            free,
            quiet,
            taken: HashMap::new(),
            fresh: BTreeSet::new(),
            drained: BTreeSet::new(),
        }
    }

    /// Slots that are left.
    pub fn free(&self) -> usize {
        self.free
    }

    /// Whether any `runs` that are due may be taken without asking about each: nothing holds one back, and no connection
    /// could come to hold more than its share.
    pub fn is_plain(&self, runs: usize) -> bool {
        let most = || self.gates.held.values().max().copied().unwrap_or(0) + runs;
        self.quiet && (self.gates.limits.len() <= 1 || most() <= self.free.saturating_sub(runs))
    }

    /// Runs were taken without asking.
    pub fn took(&mut self, through: GateId) {
        self.free = self.free.saturating_sub(1);
        *self.taken.entry(through).or_default() += 1;
    }

    /// Where a new run goes that is due, and takes a slot for it if that is there.
    pub fn place(&mut self, through: GateId, version: VersionId) -> Place {
        self.place_any(through, version, false)
    }

    /// The same for any run; `replayed` when it repeats what was done before.
    pub fn place_any(&mut self, through: GateId, version: VersionId, replayed: bool) -> Place {
        if !self.quiet
            && let Some(gate) = self.closed(through, version)
        {
            return self.behind(gate);
        }
        if self.gates.is_limited(through) || self.waits(through) {
            return self.behind(self.gates.queue_of(through, replayed));
        }
        if self.free == 0 {
            return Place::Ready;
        }
        if self.room(through) == 0 {
            return self.behind(through);
        }
        self.took(through);
        Place::Slot
    }

    /// Where a run goes that came out of an opening: a slot, another gate, or back to where it was.
    pub fn place_from(
        &mut self,
        opening: &Opening,
        through: GateId,
        version: VersionId,
        replayed: bool,
    ) -> Place {
        let own = opening.is_of(through);
        let probe = opening.probe && own;
        let held_back = match self.gates.paused_versions.get(&version) {
            Some(gate) => Some(*gate),
            None if probe => None,
            None => self.closed(through, version),
        };
        if let Some(gate) = held_back {
            return self.behind(gate);
        }
        // What waits at another gate passes its own connection's as well.
        let queue = self.gates.queue_of(through, replayed);
        let other = if own {
            queue != through && queue != opening.gate
        } else {
            self.gates.is_limited(through) || self.waits(queue)
        };
        if other || self.room(through) == 0 {
            return self.behind(if own && !other { opening.gate } else { queue });
        }
        self.took(through);
        Place::Slot
    }

    /// Gates that let runs out now, those first whose connections hold the fewest slots.
    pub fn openings(&self) -> Vec<Opening> {
        let due = self.gates.behind.iter().filter(|(_, at_ms)| **at_ms <= self.now_ms);
        let due = due.map(|(gate, _)| *gate);
        let fresh = self.fresh.iter().copied().filter(|gate| !self.gates.behind.contains_key(gate));
        let mut openings: Vec<Opening> = due.chain(fresh).filter_map(|gate| self.opening(gate)).collect();
        openings.sort_by_key(|opening| (self.held(opening.gate), opening.gate));
        openings.truncate(OPENINGS_MAX);
        openings
    }

    fn opening(&self, gate: GateId) -> Option<Opening> {
        let limit = self.gates.limits.get(&gate.itself());
        let concurrency = limit.and_then(|limit| limit.concurrency);
        let budgeted = limit.is_some_and(|limit| !limit.budgets.is_empty());
        if self.gates.spent.get(&gate).is_some_and(|until_ms| *until_ms > self.now_ms) {
            return None;
        }
        let (runs_max, probe) = match self.gates.passage(gate, self.now_ms) {
            Passage::Nobody { .. } => (0, false),
            Passage::One => (self.room(gate).min(1), true),
            Passage::All if gate.itself().is_connection() => (self.room(gate), false),
            Passage::All => (self.free.min(BUNDLE_CHUNK), false),
        };
        (runs_max > 0).then_some(Opening { gate, runs_max, probe, concurrency, budgeted })
    }

    /// Nobody waits at this gate any more: what is new needs not go behind others, and be read back from there.
    pub fn drained(&mut self, gate: GateId) {
        self.drained.insert(gate);
    }

    /// The gate that is closed for a run.
    fn closed(&self, through: GateId, version: VersionId) -> Option<GateId> {
        if let Some(gate) = self.gates.paused_versions.get(&version) {
            return Some(*gate);
        }
        let all = through == GateId::NONE || self.gates.passage(through, self.now_ms) == Passage::All;
        (!all).then_some(through)
    }

    fn behind(&mut self, gate: GateId) -> Place {
        self.fresh.insert(gate);
        Place::Behind(gate)
    }

    /// Others wait at this gate, and come first.
    fn waits(&self, gate: GateId) -> bool {
        let waited = self.gates.behind.contains_key(&gate) && !self.drained.contains(&gate);
        waited || self.fresh.contains(&gate)
    }

    fn held(&self, gate: GateId) -> usize {
        self.gates.held(gate) + self.taken.get(&gate.itself()).copied().unwrap_or(0)
    }

    fn room(&self, gate: GateId) -> usize {
        if gate == GateId::NONE { self.free } else { self.gates.room(gate, self.held(gate), self.free) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::breaker::{FAILURES_MAX, OPEN_MS_FIRST};

    const NOW_MS: i64 = 1_000_000;
    const VERSION: VersionId = VersionId(7);

    fn gate(name: &str) -> GateId {
        GateId::of(GateKind::Connection, name)
    }

    fn gates(slots: usize, connections: &[(&str, Option<usize>)]) -> Gates {
        let mut gates = Gates::new(slots);
        let limit = |(name, concurrency): &(&str, Option<usize>)| {
            (gate(name), Limit { concurrency: *concurrency, ..Limit::none(*name) })
        };
        gates.limit(connections.iter().map(limit).collect());
        gates
    }

    fn take(gates: &mut Gates, name: &str, runs: usize) -> usize {
        let free = gates.slots - gates.held.values().sum::<usize>();
        let mut door = Door::new(gates, free, NOW_MS);
        let taken = (0..runs).filter(|_| door.place(gate(name), VERSION) == Place::Slot).count();
        (0..taken).for_each(|_| gates.took(gate(name)));
        taken
    }

    #[test]
    fn one_connection_alone_has_every_slot_and_of_several_each_leaves_as_many_as_it_takes() {
        assert_eq!(take(&mut gates(16, &[("a", None)]), "a", 100), 16);
        let mut gates = gates(256, &[("a", None), ("b", None), ("c", None)]);
        assert_eq!(take(&mut gates, "a", 1_000), 128);
        assert_eq!(take(&mut gates, "b", 1_000), 64);
        assert_eq!(take(&mut gates, "c", 1_000), 32);
        assert_eq!(take(&mut gates, "a", 1), 0);
        (0..128).for_each(|_| gates.gave(gate("a")));
        assert_eq!(take(&mut gates, "c", 1_000), 64, "what is given back is shared anew");
    }

    #[test]
    fn one_slot_is_for_whoever_comes() {
        let mut gates = gates(1, &[("a", None), ("b", None)]);
        assert_eq!(take(&mut gates, "b", 3), 1);
    }

    #[test]
    fn runs_past_the_share_wait_behind_their_gate_and_come_out_before_those_that_hold_more() {
        let mut gates = gates(8, &[("a", None), ("b", None)]);
        assert_eq!(take(&mut gates, "a", 9), 4);
        let mut door = Door::new(&gates, 4, NOW_MS);
        assert_eq!(door.place(gate("a"), VERSION), Place::Behind(gate("a")));
        assert!(!door.is_plain(1));
        gates.look_again(gate("a"), Some(NOW_MS));
        gates.look_again(gate("b"), Some(NOW_MS));
        assert_eq!(gates.wake_ms(NOW_MS), NOW_MS, "b may");
        gates.gave(gate("a"));
        let openings = Door::new(&gates, 5, NOW_MS).openings();
        let said: Vec<_> = openings.iter().map(|opening| (opening.gate, opening.runs_max)).collect();
        assert_eq!(said, [(gate("b"), 3), (gate("a"), 1)]);
        let mut door = Door::new(&gates, 5, NOW_MS);
        assert_eq!(door.place(gate("b"), VERSION), Place::Behind(gate("b")), "who waits comes first");
        assert_eq!(door.place_from(&openings[0], gate("b"), VERSION, false), Place::Slot);
    }

    #[test]
    fn once_all_that_waited_came_out_a_new_run_takes_a_slot_at_once() {
        let mut gates = gates(8, &[("a", None), ("b", None)]);
        gates.look_again(gate("a"), Some(NOW_MS));
        let mut door = Door::new(&gates, 8, NOW_MS);
        assert_eq!(door.place(gate("a"), VERSION), Place::Behind(gate("a")));
        let mut door = Door::new(&gates, 8, NOW_MS);
        door.drained(gate("a"));
        let places: Vec<Place> = (0..6).map(|_| door.place(gate("a"), VERSION)).collect();
        let mut expected = vec![Place::Slot; 4];
        expected.extend([Place::Behind(gate("a")); 2]);
        assert_eq!(places, expected, "and who comes after one that waits waits too");
    }

    #[test]
    fn a_connection_that_broke_lets_one_out_when_its_time_has_come() {
        let mut gates = gates(8, &[("a", None)]);
        for _ in 0..FAILURES_MAX {
            gates.answered(gate("a"), Answered::Failing, NOW_MS, false, NOW_MS);
        }
        let changes = gates.changes();
        assert_eq!((changes.len(), changes[0].name.as_str()), (1, "a"));
        gates.kept(&changes);
        assert_eq!(gates.changes(), []);
        assert_eq!(Door::new(&gates, 8, NOW_MS).place(gate("a"), VERSION), Place::Behind(gate("a")));
        assert_eq!(Door::new(&gates, 8, NOW_MS).place(gate("b"), VERSION), Place::Slot);
        gates.look_again(gate("a"), Some(NOW_MS));
        let then_ms = NOW_MS + OPEN_MS_FIRST;
        assert_eq!(gates.wake_ms(NOW_MS), then_ms);
        assert_eq!(Door::new(&gates, 8, NOW_MS).openings(), []);
        let mut door = Door::new(&gates, 8, then_ms);
        let [opening] = door.openings().try_into().expect("one");
        assert_eq!((opening.runs_max, opening.probe), (1, true));
        assert_eq!(door.place_from(&opening, gate("a"), VERSION, false), Place::Slot);
        gates.probing(gate("a"), then_ms + 1_000);
        assert_eq!(Door::new(&gates, 8, then_ms).openings(), [], "one at a time");
        gates.answered(gate("a"), Answered::Well, then_ms, true, then_ms);
        let openings = Door::new(&gates, 8, then_ms).openings();
        assert_eq!(openings.iter().map(|opening| opening.runs_max).collect::<Vec<_>>(), [8]);
    }

    #[test]
    fn a_broken_connection_that_still_holds_its_share_is_not_asked_about_before_a_slot_comes_back() {
        let mut gates = gates(16, &[("a", None), ("b", None)]);
        assert_eq!((take(&mut gates, "a", 100), take(&mut gates, "b", 100)), (8, 4));
        for _ in 0..FAILURES_MAX {
            gates.answered(gate("a"), Answered::Failing, NOW_MS, false, NOW_MS);
        }
        gates.look_again(gate("a"), Some(NOW_MS));
        let then_ms = NOW_MS + OPEN_MS_FIRST;
        assert_eq!(Door::new(&gates, 4, then_ms).openings(), []);
        assert_eq!(gates.wake_ms(then_ms), i64::MAX, "or the writer would look again and again");
        (0..4).for_each(|_| gates.gave(gate("a")));
        assert!(gates.wake_ms(then_ms) <= then_ms);
        let [opening] = Door::new(&gates, 8, then_ms).openings().try_into().expect("one");
        assert!(opening.probe && opening.runs_max == 1, "{opening:?}");
    }

    #[test]
    fn what_another_process_stored_holds() {
        let mut gates = gates(8, &[("a", None)]);
        let open = Open {
            why: crate::queue::breaker::Why::Failing,
            since_ms: NOW_MS,
            until_ms: NOW_MS + 5,
            tries: 0,
            probe_until_ms: 0,
        };
        let row = GateRow {
            gate: gate("a"),
            kind: GateKind::Connection,
            name: "a".to_owned(),
            paused_ms: None,
            breaker: Breaker::Open(open),
        };
        let broken = Stored { rows: vec![row.clone()], ..Stored::default() };
        gates.stored(broken, NOW_MS);
        assert_eq!(Door::new(&gates, 8, NOW_MS).place(gate("a"), VERSION), Place::Behind(gate("a")));
        gates.stored(Stored::default(), NOW_MS);
        assert_eq!(Door::new(&gates, 8, NOW_MS).place(gate("a"), VERSION), Place::Slot);
        let paused = GateRow { paused_ms: Some(NOW_MS), breaker: Breaker::default(), ..row };
        let versions = vec![PausedVersion { version: VERSION, gate: GateId::of(GateKind::Source, "a") }];
        gates.stored(Stored { rows: vec![paused], versions, ..Stored::default() }, NOW_MS);
        let source = GateId::of(GateKind::Source, "a");
        let mut door = Door::new(&gates, 8, NOW_MS);
        assert_eq!(door.place(gate("b"), VERSION), Place::Behind(source), "its events wait");
        assert_eq!(
            door.place(gate("a"), VersionId(8)),
            Place::Behind(gate("a")),
            "what goes through it waits"
        );
        assert_eq!(door.place(gate("b"), VersionId(8)), Place::Slot);
        gates.look_again(source, Some(NOW_MS));
        assert_eq!(gates.wake_ms(NOW_MS), i64::MAX);
    }

    #[test]
    fn a_limited_connection_gives_its_places_from_behind_its_gate() {
        let mut gates = gates(8, &[("a", Some(2))]);
        let mut door = Door::new(&gates, 8, NOW_MS);
        assert_eq!(door.place(gate("a"), VERSION), Place::Behind(gate("a")));
        gates.look_again(gate("a"), Some(NOW_MS));
        let [opening] = Door::new(&gates, 8, NOW_MS).openings().try_into().expect("one");
        assert_eq!((opening.runs_max, opening.concurrency), (2, Some(2)));
        gates.took(gate("a"));
        gates.took(gate("a"));
        assert_eq!(Door::new(&gates, 6, NOW_MS).openings(), []);
        assert_eq!(gates.wake_ms(NOW_MS), i64::MAX);
    }
}
