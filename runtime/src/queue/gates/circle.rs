//! Who waits at one gate, and in which order they are served: one after the other, each after all the others. Pure.
//!
//! A bundle that begins to wait stands at the end; one that was served goes there. So between two times that one is
//! served each of the others is served once, however much any of them has.

use std::collections::{BTreeMap, HashMap};

use crate::queue::gate::GateId;

/// Rows of the queue that wait at one gate, apart for each bundle.
#[derive(Debug, Default)]
pub struct Circle {
    order: BTreeMap<u64, GateId>,
    waiting: HashMap<GateId, Waiting>,
    last: u64,
    looked: u64,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    place: u64,
    /// When to look there, unix milliseconds.
    at_ms: i64,
}

impl Circle {
    /// Of a gate where nobody waited until so many times runs were looked for behind any.
    pub fn begun(looked: u64) -> Circle {
        Circle { looked, ..Circle::default() }
    }

    /// When runs were looked for here last, or somebody began to wait; counted in such times.
    pub fn looked(&self) -> u64 {
        self.looked
    }

    /// Runs were put there. Who waits already keeps its place.
    pub fn enter(&mut self, row: GateId, at_ms: i64) {
        match self.waiting.get_mut(&row) {
            Some(waiting) => waiting.at_ms = waiting.at_ms.min(at_ms),
            None => self.append(row, at_ms),
        }
    }

    /// Runs were looked for there, for the `looked`th time behind any gate: when to look again; `None` when none are left.
    pub fn served(&mut self, row: GateId, again_ms: Option<i64>, looked: u64) {
        self.looked = looked;
        if let Some(waiting) = self.waiting.remove(&row) {
            self.order.remove(&waiting.place);
        }
        if let Some(at_ms) = again_ms {
            self.append(row, at_ms);
        }
    }

    /// These wait, and nobody else does; whoever is known keeps its place.
    pub fn read_anew(&mut self, rows: &HashMap<GateId, i64>) {
        self.waiting.retain(|row, waiting| {
            let stays = rows.contains_key(row);
            if !stays {
                self.order.remove(&waiting.place);
            }
            stays
        });
        for (row, at_ms) in rows {
            match self.waiting.get_mut(row) {
                Some(waiting) => waiting.at_ms = *at_ms,
                None => self.append(*row, *at_ms),
            }
        }
    }

    /// When the soonest of them is to be looked for: now when one is; `i64::MAX` when nobody waits.
    pub fn wake_ms(&self, now_ms: i64) -> i64 {
        if self.due(now_ms).next().is_some() {
            return now_ms;
        }
        self.waiting.values().map(|waiting| waiting.at_ms).min().unwrap_or(i64::MAX)
    }

    /// Those that are due, in the order in which they are served.
    pub fn due(&self, now_ms: i64) -> impl Iterator<Item = GateId> {
        self.order.values().filter(move |row| self.waiting[row].at_ms <= now_ms).copied()
    }

    /// Whether this one waits here.
    pub fn has(&self, row: GateId) -> bool {
        self.waiting.contains_key(&row)
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.waiting.len()
    }

    fn append(&mut self, row: GateId, at_ms: i64) {
        self.last += 1;
        self.order.insert(self.last, row);
        self.waiting.insert(row, Waiting { place: self.last, at_ms });
    }
}

/// How many of so many runs each of those who wait may let out: as many as the others, or one more. Who has one more comes
/// last: served in this order, they stand at the end of the circle.
pub fn deal(rows: &[GateId], runs: usize) -> impl Iterator<Item = (GateId, usize)> {
    let rows = &rows[..rows.len().min(runs)];
    let (each, more) = (runs / rows.len().max(1), runs % rows.len().max(1));
    let (first, others) = rows.split_at(more.min(rows.len()));
    let dealt = move |more: usize| move |row: &GateId| (*row, each + more);
    others.iter().map(dealt(0)).chain(first.iter().map(dealt(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What waits there and how often it was served, driven as the writer does it.
    struct Waiters {
        circle: Circle,
        runs: HashMap<GateId, usize>,
    }

    impl Waiters {
        fn new(runs: &[(i64, usize)]) -> Waiters {
            let mut circle = Circle::default();
            runs.iter().for_each(|(row, _)| circle.enter(GateId(*row), 0));
            Waiters { circle, runs: runs.iter().map(|(row, runs)| (GateId(*row), *runs)).collect() }
        }

        /// Lets so many out; of whom they are.
        fn turn(&mut self, free: usize) -> Vec<GateId> {
            let rows: Vec<GateId> = self.circle.due(0).take(free).collect();
            let mut out = Vec::new();
            for (row, most) in deal(&rows, free) {
                let runs = self.runs.get_mut(&row).expect("it waits");
                let taken = most.min(*runs);
                *runs -= taken;
                out.extend(std::iter::repeat_n(row, taken));
                self.circle.served(row, (*runs > 0).then_some(0), 0);
            }
            out
        }
    }

    #[test]
    fn one_that_waits_alone_has_every_slot() {
        let mut waiters = Waiters::new(&[(1, 1_000)]);
        assert_eq!(waiters.turn(256), [GateId(1); 256]);
    }

    #[test]
    fn slots_are_dealt_evenly_and_what_is_over_goes_to_those_who_come_first() {
        let rows = [GateId(1), GateId(2), GateId(3)];
        let dealt = |runs| deal(&rows, runs).map(|(row, runs)| (row.0, runs)).collect::<Vec<_>>();
        assert_eq!(dealt(8), [(3, 2), (1, 3), (2, 3)]);
        assert_eq!(dealt(2), [(1, 1), (2, 1)]);
        assert_eq!(dealt(0), []);
        assert_eq!(deal(&[], 8).count(), 0);
    }

    #[test]
    fn whoever_comes_late_is_served_within_one_round_however_much_the_others_have() {
        const OTHERS: i64 = 1_000;
        let runs: Vec<(i64, usize)> = (0..OTHERS).map(|row| (row, 10_000)).collect();
        let mut waiters = Waiters::new(&runs);
        waiters.turn(16);
        waiters.circle.enter(GateId(OTHERS), 0);
        waiters.runs.insert(GateId(OTHERS), 1);
        let mut before = 0;
        loop {
            let out = waiters.turn(16);
            match out.iter().position(|row| *row == GateId(OTHERS)) {
                Some(at) => break before += at,
                None => before += out.len(),
            }
            // The others get more all the time, and keep their places.
            (0..OTHERS).for_each(|row| waiters.circle.enter(GateId(row), 0));
        }
        assert!(before <= OTHERS as usize, "{before} before it");
    }

    #[test]
    fn over_any_time_each_that_waits_is_served_as_often_as_the_others() {
        let mut waiters = Waiters::new(&[(1, 1_000_000), (2, 1_000_000), (3, 1_000_000)]);
        let mut served: HashMap<GateId, usize> = HashMap::new();
        for turn in 0..1_000 {
            waiters.turn(1 + turn % 7).into_iter().for_each(|row| *served.entry(row).or_default() += 1);
        }
        let (least, most) = (served.values().min(), served.values().max());
        assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{served:?}");
        let mut one_by_one = Waiters::new(&[(1, 10), (2, 10), (3, 10)]);
        let out: Vec<i64> = (0..6).flat_map(|_| one_by_one.turn(1)).map(|row| row.0).collect();
        assert_eq!(out, [1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn what_is_read_anew_keeps_the_places_of_those_who_are_known() {
        let mut circle = Circle::default();
        [3, 1, 2].into_iter().for_each(|row| circle.enter(GateId(row), 0));
        circle.served(GateId(3), Some(0), 0);
        circle.read_anew(&[(GateId(2), 0), (GateId(3), 0), (GateId(9), 5)].into());
        assert_eq!(circle.due(0).collect::<Vec<_>>(), [GateId(2), GateId(3)]);
        assert_eq!((circle.count(), circle.has(GateId(1)), circle.has(GateId(9))), (3, false, true));
        assert_eq!(circle.wake_ms(1), 1);
        [2, 3].into_iter().for_each(|row| circle.served(GateId(row), None, 0));
        assert_eq!(circle.wake_ms(1), 5);
        circle.served(GateId(9), None, 0);
        assert_eq!(circle.wake_ms(1), i64::MAX);
    }
}
