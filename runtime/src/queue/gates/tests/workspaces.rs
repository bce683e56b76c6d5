//! Slots between workspaces: nobody starves another, nobody waits for ever, and with one workspace nothing is different.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sheaf_bundles::workspace;

use super::*;
use crate::queue::gates::door::ROUNDS_MAX;

/// Connections of one workspace.
fn of(workspace: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{workspace}/{number}")).collect()
}

fn gates_of(slots: usize, connections: &[Vec<String>]) -> Gates {
    let connections: Vec<_> = connections.iter().flatten().map(|name| (name.as_str(), None)).collect();
    gates(slots, &connections)
}

fn take_all(gates: &mut Gates, names: &[String]) -> Vec<usize> {
    names.iter().map(|name| take(gates, name, 1_000)).collect()
}

#[test]
fn a_workspace_leaves_half_to_the_others_however_many_connections_it_has() {
    let (noisy, second, quiet) = (of("noisy", 50), of("second", 50), of("quiet", 1));
    let mut gates = gates_of(256, &[noisy.clone(), second.clone(), quiet.clone()]);
    assert_eq!(take_all(&mut gates, &noisy).iter().sum::<usize>(), 128);
    assert_eq!(take_all(&mut gates, &second).iter().sum::<usize>(), 64, "half of the rest");
    assert_eq!(take_all(&mut gates, &quiet), [32]);
    assert_eq!(take(&mut gates, &noisy[0], 1), 0);
    (0..64).for_each(|_| gates.gave(gate(&noisy[0])));
    assert_eq!(take_all(&mut gates, &quiet), [32], "what is given back is shared anew");
}

#[test]
fn inside_a_workspace_a_connection_leaves_to_the_others_as_much_as_it_takes() {
    let (noisy, quiet) = (of("noisy", 3), of("quiet", 1));
    let mut gates = gates_of(256, &[noisy.clone(), quiet]);
    assert_eq!(take_all(&mut gates, &noisy), [64, 32, 16]);
}

#[test]
fn what_the_files_say_anew_counts_what_is_held_already() {
    let (first, second) = (of("first", 1), of("second", 1));
    let mut gates = gates_of(16, std::slice::from_ref(&first));
    assert_eq!(take_all(&mut gates, &first), [16], "it was alone");
    let both = first.iter().chain(&second).map(|name| (gate(name), Limit::none(name))).collect();
    gates.limit(both);
    (0..6).for_each(|_| gates.gave(gate(&first[0])));
    assert_eq!((take_all(&mut gates, &first), take_all(&mut gates, &second)), (vec![0], vec![3]));
    gates.limit(first.iter().map(|name| (gate(name), Limit::none(name))).collect());
    assert_eq!(take_all(&mut gates, &first), [3], "it is alone again");
}

#[test]
fn a_workspace_without_room_is_not_asked_about_before_a_slot_comes_back() {
    let (noisy, quiet) = (of("noisy", 3), of("quiet", 1));
    let mut gates = gates_of(8, &[noisy.clone(), quiet]);
    assert_eq!(take_all(&mut gates, &noisy), [2, 1, 1]);
    let mut door = Door::new(&gates, 4, NOW_MS);
    assert_eq!(door.place(&run(&noisy[0])), behind(&noisy[0]));
    noisy.iter().for_each(|name| gates.put(Stand::at(gate(name)), NOW_MS));
    assert_eq!(gates.wake_ms(NOW_MS), i64::MAX, "or the writer would look again and again");
    assert_eq!(Door::new(&gates, 4, NOW_MS).openings(), []);
    gates.gave(gate(&noisy[1]));
    assert_eq!(gates.wake_ms(NOW_MS), NOW_MS);
    assert_eq!(Door::new(&gates, 5, NOW_MS).openings().len(), 1);
}

#[test]
fn what_has_no_slot_waits_behind_its_gate_so_that_workspaces_take_turns() {
    let (noisy, quiet) = (of("noisy", 1), of("quiet", 1));
    let mut gates = gates_of(8, &[noisy.clone(), quiet.clone()]);
    let mut door = Door::new(&gates, 0, NOW_MS);
    assert_eq!(door.place(&run(&quiet[0])), behind(&quiet[0]));
    assert!(door.is_overflown(), "another node may have a slot for it");
    assert_eq!(door.place(&Due { through: GateId::NONE, ..run("") }), Place::Ready);
    assert!(gates.has_shares());
    gates.claimed(Some(true));
    let mut door = Door::new(&gates, 8, NOW_MS);
    assert!(!door.is_plain(1), "more is ready than there are slots");
    assert_eq!(door.place(&run(&noisy[0])), behind(&noisy[0]));
}

#[test]
fn claims_that_ask_about_no_run_leave_every_workspace_its_share() {
    let (noisy, quiet) = (of("noisy", 2), of("quiet", 1));
    let mut gates = gates_of(1_024, &[noisy.clone(), quiet]);
    assert!(Door::new(&gates, 1_024, NOW_MS).is_plain(256));
    assert!(
        !Door::new(&gates, 1_024, NOW_MS).is_plain(257),
        "a connection could have more than half of its half"
    );
    (0..256).for_each(|_| gates.took(gate(&noisy[0])));
    assert!(!Door::new(&gates, 768, NOW_MS).is_plain(256));
}

fn opened(gates: &Gates, free: usize) -> Vec<(GateId, usize)> {
    let openings = Door::new(gates, free, NOW_MS).openings();
    openings.iter().map(|opening| (opening.gate, opening.runs_max)).collect()
}

#[test]
fn the_workspace_that_holds_the_fewest_comes_first_and_inside_the_connection_that_does() {
    let (noisy, quiet) = (of("noisy", 4), of("quiet", 2));
    let mut gates = gates_of(16, &[noisy.clone(), quiet.clone()]);
    for name in [&noisy[0], &noisy[0], &noisy[1], &quiet[0]] {
        gates.took(gate(name));
    }
    for name in noisy[..2].iter().chain(&quiet) {
        gates.put(Stand::at(gate(name)), NOW_MS);
    }
    assert_eq!(opened(&gates, 1), [], "each holds as many as it would leave");
    assert_eq!(opened(&gates, 2), [(gate(&quiet[1]), 1)]);
    let first: Vec<GateId> = opened(&gates, 12).into_iter().map(|(gate, _)| gate).collect();
    let expected = [&quiet[1], &noisy[1], &quiet[0], &noisy[0]];
    assert_eq!(first, expected.map(|name| gate(name)));
}

#[test]
fn a_workspace_with_one_connection_has_as_many_turns_as_one_with_hundreds() {
    let (many, one) = (of("many", 200), of("one", 1));
    let mut gates = gates_of(4, &[many.clone(), one.clone()]);
    many.iter().chain(&one).for_each(|name| gates.put(Stand::at(gate(name)), NOW_MS));
    let (mut of_one, mut all) = (0, 0);
    for _ in 0..100 {
        // Their runs end at once, so nobody holds anything when the next turn comes.
        for (opened, runs) in opened(&gates, 4) {
            gates.looked(Stand::at(opened), Some(NOW_MS));
            all += runs;
            of_one += if opened == gate(&one[0]) { runs } else { 0 };
        }
    }
    assert!(of_one * 3 >= all, "{of_one} of {all}");
}

#[test]
fn of_more_workspaces_than_slots_each_has_its_turn() {
    let names: Vec<Vec<String>> = (0..40).map(|number| of(&format!("w{number}"), 1 + number % 7)).collect();
    let mut gates = gates_of(4, &names);
    names.iter().flatten().for_each(|name| gates.put(Stand::at(gate(name)), NOW_MS));
    let mut served: HashMap<GateId, usize> = HashMap::new();
    for _ in 0..40 {
        for (opened, runs) in opened(&gates, 4) {
            gates.looked(Stand::at(opened), Some(NOW_MS));
            *served.entry(opened).or_default() += runs;
        }
    }
    for connections in names {
        let runs: usize = connections.iter().map(|name| served.get(&gate(name)).copied().unwrap_or(0)).sum();
        assert!((3..=5).contains(&runs), "{runs} of {}", connections[0]);
    }
}

#[test]
fn what_waited_for_a_bundle_comes_out_though_no_workspace_is_known_of_it() {
    let (noisy, quiet) = (of("noisy", 1), of("quiet", 1));
    let mut gates = gates_of(8, &[noisy.clone(), quiet]);
    assert_eq!(take_all(&mut gates, &noisy), [4]);
    let paused = Stand::at(GateId::of(GateKind::Bundle, "noisy/leads"));
    gates.put(paused, NOW_MS);
    assert_eq!(gates.wake_ms(NOW_MS), NOW_MS);
    let mut door = Door::new(&gates, 4, NOW_MS);
    let [opening] = door.openings().try_into().expect("one");
    let place = door.place_from(&opening, opening.rows[0], &run(&noisy[0]));
    assert_eq!(place, behind(&noisy[0]), "and waits for its connection next");
}

/// A node, driven as the writer does it.
struct Node {
    gates: Gates,
    slots: usize,
    names: Vec<String>,
    waiting: BTreeMap<usize, usize>,
    running: Vec<usize>,
}

impl Node {
    fn new(slots: usize, workspaces: &[usize]) -> Node {
        let names: Vec<Vec<String>> =
            workspaces.iter().enumerate().map(|(number, count)| of(&format!("w{number}"), *count)).collect();
        let gates = gates_of(slots, &names);
        Node { gates, slots, names: names.concat(), waiting: BTreeMap::new(), running: Vec::new() }
    }

    fn free(&self) -> usize {
        self.slots - self.running.len()
    }

    fn held(&self, workspace: &str) -> usize {
        let of = |name: &usize| workspace::of(&self.names[*name]) == workspace;
        self.running.iter().filter(|name| of(name)).count()
    }

    /// It has a slot from now on: as many as it leaves free, or one more where they are odd.
    fn runs(&mut self, name: usize) {
        self.running.push(name);
        self.gates.took(gate(&self.names[name]));
        let held = self.held(workspace::of(&self.names[name]));
        assert!(held <= self.free() + 1, "{} hold {held}, and {} are free", self.names[name], self.free());
    }

    fn publish(&mut self, name: usize) {
        let place = Door::new(&self.gates, self.free(), NOW_MS).place(&run(&self.names[name]));
        match place {
            Place::Slot => self.runs(name),
            Place::Ready => panic!("it has a connection"),
            Place::Behind(stand) => {
                *self.waiting.entry(name).or_default() += 1;
                self.gates.put(stand, NOW_MS);
            }
        }
    }

    fn end(&mut self, index: usize) {
        let name = self.running.swap_remove(index);
        self.gates.gave(gate(&self.names[name]));
    }

    fn turn(&mut self) {
        let by_gate: HashMap<GateId, usize> =
            self.names.iter().enumerate().map(|(number, name)| (gate(name), number)).collect();
        let (mut out, mut looked) = (Vec::new(), Vec::new());
        let mut door = Door::new(&self.gates, self.free(), NOW_MS);
        for _ in 0..ROUNDS_MAX {
            for opening in door.more_openings() {
                let name = by_gate[&opening.gate];
                let waiting = self.waiting.entry(name).or_default();
                for (stand, runs) in opening.deal(opening.runs_max) {
                    for _ in 0..runs.min(*waiting) {
                        if door.place_from(&opening, stand.row, &run(&self.names[name])) == Place::Slot {
                            *waiting -= 1;
                            out.push(name);
                        }
                    }
                    if *waiting == 0 {
                        door.drained(stand);
                    }
                    looked.push((stand, (*waiting > 0).then_some(NOW_MS)));
                }
            }
        }
        looked.into_iter().for_each(|(stand, again_ms)| self.gates.looked(stand, again_ms));
        out.into_iter().for_each(|name| self.runs(name));
    }

    /// The writer sleeps while runs wait: only ever for one that ends.
    fn sleeps_soundly(&self) {
        if self.gates.wake_ms(NOW_MS) <= NOW_MS {
            return;
        }
        let waiting = self.waiting.iter().filter(|(_, runs)| **runs > 0);
        for (name, _) in waiting {
            let held = self.held(workspace::of(&self.names[*name]));
            assert!(self.free() == 0 || held > 0, "{} waits for nobody", self.names[*name]);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Does {
    Publish(usize),
    End(usize),
    Turn,
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        4 => any::<usize>().prop_map(Does::Publish),
        2 => any::<usize>().prop_map(Does::End),
        2 => Just(Does::Turn),
    ]
}

proptest! {
    #[test]
    fn no_workspace_holds_more_than_it_leaves_and_nobody_waits_for_ever(
        slots in 1_usize..24,
        workspaces in proptest::collection::vec(1_usize..5, 2..6),
        does in proptest::collection::vec(does(), 0..200),
    ) {
        let mut node = Node::new(slots, &workspaces);
        for does in does {
            match does {
                Does::Publish(name) => node.publish(name % node.names.len()),
                Does::End(index) if !node.running.is_empty() => node.end(index % node.running.len()),
                Does::End(_) | Does::Turn => node.turn(),
            }
            node.sleeps_soundly();
        }
        // The slowest end one at a time; each end or turn brings somebody on.
        for _ in 0..1_000 {
            let left: usize = node.waiting.values().sum();
            if left == 0 {
                break;
            }
            node.turn();
            if node.gates.wake_ms(NOW_MS) > NOW_MS {
                prop_assert!(!node.running.is_empty());
                node.end(0);
            }
        }
        prop_assert_eq!(node.waiting.values().sum::<usize>(), 0);
    }

    #[test]
    fn with_one_workspace_all_is_decided_as_before(
        workspace in prop_oneof![Just(""), Just("shop/")],
        slots in 1_usize..40,
        connections in proptest::collection::vec((proptest::option::of(1_usize..6), 0_usize..8, any::<bool>()), 1..24),
        more in proptest::collection::vec(any::<usize>(), 0..60),
    ) {
        let names: Vec<String> = (0..connections.len()).map(|number| format!("{workspace}{number}")).collect();
        let limits: Vec<_> =
            names.iter().zip(&connections).map(|(name, (places, ..))| (name.as_str(), *places)).collect();
        let mut gates = gates(slots, &limits);
        let mut free = slots;
        for (name, (_, held, waits)) in names.iter().zip(&connections) {
            (0..(*held).min(free)).for_each(|_| gates.took(gate(name)));
            free -= (*held).min(free);
            if *waits {
                gates.put(Stand::at(gate(name)), NOW_MS);
            }
        }
        prop_assert_eq!(opened(&gates, free), before::opened(&gates, free));
        let mut door = Door::new(&gates, free, NOW_MS);
        for runs in [1, free / 2, free] {
            prop_assert_eq!(door.is_plain(runs), before::is_plain(&gates, free, runs));
        }
        let mut taken = HashMap::new();
        for name in more {
            let through = gate(&names[name % names.len()]);
            let expected = before::place(&gates, &mut taken, slots, through);
            prop_assert_eq!(door.place(&Due { through, ..run("") }), expected);
        }
    }
}

/// How it was decided before workspaces were told apart, for a connection that no two bundles share.
mod before {
    use super::*;

    fn room(gates: &Gates, gate: GateId, held: usize, free: usize) -> usize {
        let room = if gates.used > 1 { free.saturating_sub(held).div_ceil(2) } else { free };
        let concurrency = gates.limits[&gate].concurrency;
        concurrency.map_or(room, |concurrency| room.min(concurrency.saturating_sub(held)))
    }

    fn held(gates: &Gates, gate: GateId) -> usize {
        gates.held.get(&gate).copied().unwrap_or(0)
    }

    pub fn opened(gates: &Gates, free: usize) -> Vec<(GateId, usize)> {
        let room = |gate: &GateId| (*gate, room(gates, *gate, held(gates, *gate), free));
        let mut opened: Vec<_> = gates.behind.keys().map(room).filter(|(_, runs)| *runs > 0).collect();
        opened.sort_by_key(|(gate, _)| (held(gates, *gate), gates.behind[gate].looked(), *gate));
        let mut apart = 0;
        opened.retain(|(gate, _)| {
            let is_apart = gates.limits[gate].concurrency.is_some();
            apart += usize::from(is_apart);
            !is_apart || apart <= 16
        });
        opened.truncate(free);
        let (each, more) = (free / opened.len().max(1), free % opened.len().max(1));
        let dealt = |(number, (gate, runs)): (usize, (GateId, usize))| {
            (gate, runs.min(each + usize::from(number < more)))
        };
        opened.into_iter().enumerate().map(dealt).collect()
    }

    pub fn is_plain(gates: &Gates, free: usize, runs: usize) -> bool {
        let quiet = gates.behind.is_empty() && gates.limits.values().all(|limit| limit.concurrency.is_none());
        let most = gates.held.values().max().copied().unwrap_or(0) + runs;
        quiet && (gates.used <= 1 || most <= free.saturating_sub(runs))
    }

    /// What is put behind a gate keeps those that come later there.
    pub fn place(
        gates: &Gates,
        taken: &mut HashMap<GateId, (usize, bool)>,
        slots: usize,
        through: GateId,
    ) -> Place {
        let in_turn: usize = taken.values().map(|(taken, _)| taken).sum();
        let free = slots - gates.held.values().sum::<usize>() - in_turn;
        let (taken, waits) = taken.entry(through).or_default();
        let limited = gates.limits[&through].concurrency.is_some();
        *waits |= gates.behind.contains_key(&through) || limited;
        if !*waits && free == 0 {
            return Place::Ready;
        }
        *waits |= room(gates, through, held(gates, through) + *taken, free) == 0;
        if *waits {
            return Place::Behind(Stand::at(through));
        }
        *taken += 1;
        Place::Slot
    }
}
