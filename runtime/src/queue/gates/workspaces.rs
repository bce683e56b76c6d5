//! How slots are shared between workspaces: the connections of one together take no more than they leave free. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::queue::gate::{GateId, Limit};

/// Stands for the workspace of whatever is no connection: a bundle's gate, runs that go through none.
const NOBODY: usize = 0;
/// Stands for the workspace of connections of which nothing is said any more.
const UNKNOWN: usize = 1;
/// The directory's own workspace; after it come the others.
const OWN: usize = 2;

/// The workspaces that slots are shared between, where active bundles of more than one are in use.
#[derive(Debug)]
pub struct Workspaces {
    /// Of connections: the place of their workspace.
    of: HashMap<GateId, usize>,
    shares: Vec<Share>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Share {
    /// Slots that its connections hold.
    held: usize,
    /// Connections of it that active bundles send through.
    used: usize,
    /// When runs were looked for behind a gate of it last, counted in such times.
    looked: u64,
}

impl Workspaces {
    /// Those of the connections in force, of which so many slots are held; `None` while one has all there is.
    pub fn told_apart(limits: &HashMap<GateId, Limit>, held: &HashMap<GateId, usize>) -> Option<Workspaces> {
        let used = limits.values().filter(|limit| limit.is_used()).map(Limit::workspace);
        if used.collect::<BTreeSet<_>>().len() <= 1 {
            return None;
        }
        // The directory's own has no name and so comes first.
        let names: BTreeSet<&str> = limits.values().map(Limit::workspace).chain([""]).collect();
        let places: BTreeMap<&str, usize> = names.into_iter().zip(OWN..).collect();
        let of = limits.iter().map(|(gate, limit)| (*gate, places[limit.workspace()])).collect();
        let mut workspaces = Workspaces { of, shares: vec![Share::default(); places.len() + OWN] };
        for (gate, limit) in limits {
            let place = workspaces.of(*gate);
            workspaces.shares[place].used += usize::from(limit.is_used());
        }
        for (gate, held) in held {
            let place = workspaces.of(*gate);
            workspaces.shares[place].held += held;
        }
        Some(workspaces)
    }

    /// The workspace of a gate, as a place among all.
    pub fn of(&self, gate: GateId) -> usize {
        let gate = gate.itself();
        match self.of.get(&gate) {
            Some(place) => *place,
            None if gate == GateId::NONE || !gate.is_connection() => NOBODY,
            None => UNKNOWN,
        }
    }

    /// A run takes a slot.
    pub fn took(&mut self, through: GateId) {
        let place = self.of(through);
        self.shares[place].held += 1;
    }

    /// It gives it back.
    pub fn gave(&mut self, through: GateId) {
        let place = self.of(through);
        self.shares[place].held -= 1;
    }

    /// Runs were looked for behind a gate, for the `looked`th time behind any.
    pub fn looked_behind(&mut self, gate: GateId, looked: u64) {
        let place = self.of(gate);
        self.shares[place].looked = looked;
    }

    /// Slots that one holds. Whatever is nobody's takes from nobody's share.
    pub fn held(&self, place: usize) -> usize {
        if place == NOBODY { 0 } else { self.shares[place].held }
    }

    /// Whether more than one of its connections may need slots: of one that no bundle uses, runs may still wait.
    pub fn has_several(&self, place: usize) -> bool {
        place == UNKNOWN || self.shares[place].used > 1
    }

    /// When runs were looked for behind a gate of it last.
    pub fn looked(&self, place: usize) -> u64 {
        self.shares[place].looked
    }

    /// The most slots that one of them holds.
    pub fn most(&self) -> usize {
        self.shares.iter().skip(UNKNOWN).map(|share| share.held).max().unwrap_or(0)
    }
}

/// How many more slots whoever holds so many may take: no more than it leaves free.
pub fn share(held: usize, free: usize) -> usize {
    free.saturating_sub(held).div_ceil(2)
}

/// How many slots each of some workspaces is dealt: who holds the fewest gets the next one, of these who was looked at
/// longest ago, as long as it leaves as many free.
pub fn deal(wanting: impl IntoIterator<Item = Wanting>, mut free: usize) -> BTreeMap<usize, usize> {
    let mut order: BTreeSet<Wanting> = wanting.into_iter().collect();
    let mut dealt = BTreeMap::new();
    while let Some(next) = order.pop_first()
        && share(next.held, free) > 0
    {
        *dealt.entry(next.place).or_default() += 1;
        free -= 1;
        if next.wanted > 1 {
            order.insert(Wanting { held: next.held + 1, wanted: next.wanted - 1, ..next });
        }
    }
    dealt
}

/// A workspace whose runs wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanting {
    /// Slots that it holds.
    pub held: usize,
    /// See [`Workspaces::looked`].
    pub looked: u64,
    /// See [`Workspaces::of`].
    pub place: usize,
    /// Slots that it could use at most.
    pub wanted: usize,
}
