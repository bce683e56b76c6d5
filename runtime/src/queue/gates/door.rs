//! What happens at the gates during one turn: where each run goes, and who comes out. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sheaf_bundles::id::VersionId;

use super::{
    Gates,
    circle::{Circle, deal},
    workspaces::{self, Wanting, Workspaces, share},
};
use crate::queue::{
    breaker::Passage,
    gate::{GateId, Stand},
    types::Decision,
};

/// Gates that are looked behind in one turn.
const OPENINGS_MAX: usize = 256;
/// Of these, such that something is asked or written for each.
const APART_MAX: usize = 16;
/// How often a turn looks behind gates while slots are left: who has nothing more leaves its own to the others.
pub const ROUNDS_MAX: usize = 4;
/// Runs taken from behind a bundle's gate in one turn at most; they pass their connection's gate next.
const BUNDLE_CHUNK: usize = 256;

/// A run that is due, as far as gates look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The gate of the connection that its next step sends through.
    pub through: GateId,
    /// The gate of its bundle.
    pub bundle: GateId,
    /// Its bundle version.
    pub version: VersionId,
    /// It repeats what was done before.
    pub replayed: bool,
}

/// Where a run goes that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It has a slot.
    Slot,
    /// It may run, and there is no slot.
    Ready,
    /// It waits.
    Behind(Stand),
}

/// A gate that lets runs out now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The gate.
    pub gate: GateId,
    /// Whose runs come out, in the order in which they are served: the bundles' rows.
    pub rows: Vec<GateId>,
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

    /// Whether something is asked or written for it besides its runs.
    pub fn is_apart(&self) -> bool {
        self.probe || self.gives_places()
    }

    /// How many of each row come out when so many may.
    pub fn deal(&self, runs: usize) -> impl Iterator<Item = (Stand, usize)> {
        deal(&self.rows, runs).map(|(row, runs)| (Stand { gate: self.gate, row }, runs))
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
    /// The same by workspace, where slots are shared between several.
    taken_together: HashMap<usize, usize>,
    /// Where runs were put behind gates in this turn.
    fresh: BTreeMap<GateId, BTreeSet<GateId>>,
    /// Where nobody waits at a gate any more: all came out in this turn.
    drained: BTreeMap<GateId, BTreeSet<GateId>>,
    /// Gates that were looked behind in this turn and are not again: what they let out was counted when it was asked.
    done: BTreeSet<GateId>,
    /// Runs were put behind a gate for nothing but a slot.
    overflown: bool,
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
            taken_together: HashMap::new(),
            fresh: BTreeMap::new(),
            drained: BTreeMap::new(),
            done: BTreeSet::new(),
            overflown: false,
        }
    }

    /// Of these such that something is asked or written for, each once in a turn: of a probe or a budget it is known here
    /// only after the commit that it was given away.
    pub fn openings_apart(&mut self) -> Vec<Opening> {
        let apart: Vec<_> = self.openings().into_iter().filter(Opening::is_apart).collect();
        self.done.extend(apart.iter().map(|opening| opening.gate));
        apart
    }

    /// The others, where runs are left: they may be looked behind again and again.
    pub fn more_openings(&self) -> Vec<Opening> {
        self.openings().into_iter().filter(|opening| !opening.is_apart()).collect()
    }

    /// Whether those behind gates come before what is ready when this turn claims: every other time, so that neither takes
    /// every slot as long as there is some of both.
    pub fn is_turn_of_waiting(&self) -> bool {
        self.gates.claims.is_multiple_of(2) && !self.gates.behind.is_empty()
    }

    /// Slots that are left.
    pub fn free(&self) -> usize {
        self.free
    }

    /// Whether another node with free slots could run what was put behind a gate.
    pub fn is_overflown(&self) -> bool {
        self.overflown
    }

    /// Whether any `runs` that are due may be taken without asking about each: nothing holds one back, no connection or
    /// workspace could come to hold more than its share, and no bundle keeps others waiting.
    pub fn is_plain(&self, runs: usize) -> bool {
        let most = || self.gates.held.values().max().copied().unwrap_or(0) + runs;
        let free = || {
            let free = self.free.saturating_sub(runs);
            let workspaces = self.gates.workspaces.as_ref();
            workspaces.map_or(free, |workspaces| share(workspaces.most() + runs, free))
        };
        let crowded = self.gates.crowded && self.gates.has_shares();
        self.quiet && !crowded && (self.gates.used <= 1 || most() <= free())
    }

    /// Runs were taken without asking.
    pub fn took(&mut self, through: GateId) {
        self.free = self.free.saturating_sub(1);
        *self.taken.entry(through).or_default() += 1;
        if let Some(workspaces) = &self.gates.workspaces {
            *self.taken_together.entry(workspaces.of(through)).or_default() += 1;
        }
    }

    /// Where a run of a new event goes; one whose key has another already waits behind it.
    pub fn place_new(&mut self, decision: &Decision, due_ms: i64, is_behind_its_key: bool) -> Place {
        match due_ms <= self.now_ms {
            _ if is_behind_its_key => Place::Behind(Stand::at(GateId::LANE)),
            true => self.place(&decision.due()),
            false => Place::Ready,
        }
    }

    /// Where a run goes that is new or ready, and takes a slot for it if that is there.
    pub fn place(&mut self, due: &Due) -> Place {
        if !self.quiet
            && let Some(gate) = self.closed(due)
        {
            return self.behind(gate, due);
        }
        let gate = self.gates.queue_of(due.through, due.replayed);
        if self.gates.is_limited(due.through) {
            return self.behind(gate, due);
        }
        let full = self.free == 0 || self.gates.crowded;
        if self.waits(gate) || (full && self.gates.is_dealt(due.through)) {
            self.overflown |= self.gates.is_dealt(due.through);
            return self.behind(gate, due);
        }
        if self.free == 0 {
            return Place::Ready;
        }
        if self.room(due.through) == 0 {
            self.overflown |= self.gates.workspaces.is_some();
            return self.behind(due.through, due);
        }
        self.took(due.through);
        Place::Slot
    }

    /// Where a run goes that comes out of an opening: a slot, another gate, or back to where it was.
    pub fn place_from(&mut self, opening: &Opening, row: GateId, due: &Due) -> Place {
        let own = opening.is_of(due.through);
        let held_back = match self.gates.paused_versions.get(&due.version) {
            Some(gate) => Some(*gate),
            None if opening.probe && own => None,
            None => self.closed(due),
        };
        if let Some(gate) = held_back {
            return self.behind_from(opening, row, gate, due);
        }
        // What waits at another gate passes its own connection's as well.
        let queue = self.gates.queue_of(due.through, due.replayed);
        let other = if own {
            queue != due.through && queue != opening.gate
        } else {
            self.gates.is_limited(due.through) || self.waits(queue)
        };
        if other || self.room(due.through) == 0 {
            let gate = if own && !other { opening.gate } else { queue };
            return self.behind_from(opening, row, gate, due);
        }
        self.took(due.through);
        Place::Slot
    }

    /// Gates that let runs out now: those first whose connections hold the fewest slots, of these what is new before replays,
    /// and then the ones that were looked behind longest ago. Slots are dealt evenly among them; who would get none has its
    /// turn later. Of several workspaces each has one gate before any has another, and slots are dealt to the one that holds
    /// the fewest first.
    pub fn openings(&self) -> Vec<Opening> {
        if self.free == 0 {
            return Vec::new();
        }
        let known = self.gates.behind.keys();
        let fresh = self.fresh.keys().filter(|gate| !self.gates.behind.contains_key(gate));
        let due = known.chain(fresh).copied().filter(|gate| !self.done.contains(gate));
        let due = due.filter(|gate| self.rows(*gate).next().is_some());
        let mut openings: Vec<Opening> = due.filter_map(|gate| self.opening(gate)).collect();
        openings.sort_by_key(|opening| {
            let gate = opening.gate;
            (self.held(gate), gate.is_of_replays(), self.looked(gate), gate)
        });
        let workspaces = self.gates.workspaces.as_ref();
        if let Some(workspaces) = workspaces {
            openings = self.by_turns(workspaces, openings);
        }
        let mut apart = 0;
        openings.retain(|opening| {
            apart += usize::from(opening.is_apart());
            !opening.is_apart() || apart <= APART_MAX
        });
        openings.truncate(OPENINGS_MAX.min(self.free));
        match workspaces {
            None => deal_slots(openings.iter_mut().collect(), self.free),
            Some(workspaces) => self.deal_together(workspaces, &mut openings),
        }
        openings.retain(|opening| opening.runs_max > 0);
        for opening in &mut openings {
            opening.rows = self.rows(opening.gate).take(opening.runs_max).collect();
        }
        openings
    }

    /// One of each workspace, then the next of each, and so on.
    fn by_turns(&self, workspaces: &Workspaces, openings: Vec<Opening>) -> Vec<Opening> {
        let mut before: HashMap<usize, usize> = HashMap::new();
        let mut turns: Vec<_> = openings
            .into_iter()
            .map(|opening| {
                let place = workspaces.of(opening.gate);
                let turn = before.entry(place).or_default();
                *turn += 1;
                ((*turn, self.held_together(workspaces, place), workspaces.looked(place), place), opening)
            })
            .collect();
        turns.sort_by_key(|(turn, _)| *turn);
        turns.into_iter().map(|(_, opening)| opening).collect()
    }

    fn deal_together(&self, workspaces: &Workspaces, openings: &mut [Opening]) {
        let mut wanting: BTreeMap<usize, Wanting> = BTreeMap::new();
        for opening in openings.iter() {
            let place = workspaces.of(opening.gate);
            let (held, looked) = (self.held_together(workspaces, place), workspaces.looked(place));
            let wanting = wanting.entry(place).or_insert(Wanting { held, looked, place, wanted: 0 });
            wanting.wanted += opening.runs_max;
        }
        let dealt = workspaces::deal(wanting.into_values(), self.free);
        let mut by_place: BTreeMap<usize, Vec<&mut Opening>> = BTreeMap::new();
        for opening in openings {
            by_place.entry(workspaces.of(opening.gate)).or_default().push(opening);
        }
        for (place, openings) in by_place {
            deal_slots(openings, dealt.get(&place).copied().unwrap_or(0));
        }
    }

    /// Whether a run may still come out of an opening, after others did.
    pub fn has_room(&self, opening: &Opening) -> bool {
        let gate = opening.gate;
        self.free > 0 && (!gate.itself().is_connection() || self.room(gate) > 0)
    }

    fn opening(&self, gate: GateId) -> Option<Opening> {
        let limit = self.gates.limits.get(&gate.itself());
        let concurrency = limit.and_then(|limit| limit.concurrency);
        let budgeted = limit.is_some_and(|limit| !limit.budgets.is_empty());
        if self.gates.held_up_ms(gate).is_some_and(|until_ms| until_ms > self.now_ms) {
            return None;
        }
        let (runs_max, probe) = match self.gates.passage(gate, self.now_ms) {
            Passage::Nobody { .. } => (0, false),
            Passage::One => (self.room(gate).min(1), true),
            Passage::All if gate.itself().is_connection() => (self.room(gate), false),
            Passage::All => (self.free.min(BUNDLE_CHUNK), false),
        };
        let rows = Vec::new();
        (runs_max > 0).then_some(Opening { gate, rows, runs_max, probe, concurrency, budgeted })
    }

    /// Who waits at a gate, in the order in which they are served.
    fn rows(&self, gate: GateId) -> impl Iterator<Item = GateId> {
        let circle = self.gates.behind.get(&gate);
        let known = circle.into_iter().flat_map(|circle| circle.due(self.now_ms));
        let drained = self.drained.get(&gate);
        let known = known.filter(move |row| !drained.is_some_and(|drained| drained.contains(row)));
        let fresh = self.fresh.get(&gate).into_iter().flatten().copied();
        known.chain(fresh.filter(move |row| !circle.is_some_and(|circle| circle.has(*row))))
    }

    /// Nobody waits there any more: what is new needs not go behind others, and be read back from there.
    pub fn drained(&mut self, stand: Stand) {
        if self.gates.behind.get(&stand.gate).is_some_and(|circle| circle.has(stand.row)) {
            self.drained.entry(stand.gate).or_default().insert(stand.row);
        }
        if let Some(fresh) = self.fresh.get_mut(&stand.gate) {
            fresh.remove(&stand.row);
        }
    }

    /// The gate that is closed for a run.
    fn closed(&self, due: &Due) -> Option<GateId> {
        if let Some(gate) = self.gates.paused_versions.get(&due.version) {
            return Some(*gate);
        }
        let through = due.through;
        let all = through == GateId::NONE || self.gates.passage(through, self.now_ms) == Passage::All;
        (!all).then_some(through)
    }

    fn behind(&mut self, gate: GateId, due: &Due) -> Place {
        let stand = self.gates.stand(gate, due);
        self.fresh.entry(stand.gate).or_default().insert(stand.row);
        Place::Behind(stand)
    }

    /// The same for a run that stands behind an opening's gate already; at the same gate it stays where it is, for a node
    /// of another sheaf may have put it there.
    fn behind_from(&mut self, opening: &Opening, row: GateId, gate: GateId, due: &Due) -> Place {
        if gate == opening.gate { Place::Behind(Stand { gate, row }) } else { self.behind(gate, due) }
    }

    /// Others wait at this gate, and come first.
    fn waits(&self, gate: GateId) -> bool {
        let waited = self.gates.behind.get(&gate).map_or(0, Circle::count);
        let none = BTreeSet::new();
        let drained = self.drained.get(&gate).unwrap_or(&none);
        let fresh = self.fresh.get(&gate).unwrap_or(&none);
        waited > drained.len() || !fresh.is_empty()
    }

    fn looked(&self, gate: GateId) -> u64 {
        self.gates.behind.get(&gate).map_or(self.gates.lookings, Circle::looked)
    }

    fn held(&self, gate: GateId) -> usize {
        self.gates.held(gate) + self.taken.get(&gate.itself()).copied().unwrap_or(0)
    }

    /// What a workspace holds.
    fn held_together(&self, workspaces: &Workspaces, place: usize) -> usize {
        workspaces.held(place) + self.taken_together.get(&place).copied().unwrap_or(0)
    }

    fn room(&self, gate: GateId) -> usize {
        if gate == GateId::NONE {
            return self.free;
        }
        let of_workspace = |workspaces: &Workspaces| self.held_together(workspaces, workspaces.of(gate));
        let together = self.gates.workspaces.as_ref().map_or(0, of_workspace);
        self.gates.room(gate, self.held(gate), together, self.free)
    }
}

/// Deals slots evenly, the first ones first; who gets none lets nothing out.
fn deal_slots(openings: Vec<&mut Opening>, slots: usize) {
    let (each, more) = (slots / openings.len().max(1), slots % openings.len().max(1));
    for (number, opening) in openings.into_iter().enumerate() {
        opening.runs_max = opening.runs_max.min(each + usize::from(number < more));
    }
}
