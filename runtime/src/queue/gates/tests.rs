mod workspaces;

use super::{
    door::{Door, Opening, Place},
    *,
};
use crate::queue::breaker::{FAILURES_MAX, OPEN_MS_FIRST};

const NOW_MS: i64 = 1_000_000;
const VERSION: VersionId = VersionId(7);

fn gate(name: &str) -> GateId {
    GateId::of(GateKind::Connection, name)
}

/// A run of a bundle that sends through a connection.
fn run_of(bundle: &str, through: &str) -> Due {
    let bundle = GateId::of(GateKind::Bundle, bundle);
    Due { through: gate(through), bundle, version: VERSION, replayed: false }
}

fn run(through: &str) -> Due {
    run_of("leads", through)
}

fn behind(name: &str) -> Place {
    Place::Behind(Stand::at(gate(name)))
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
    let taken = (0..runs).filter(|_| door.place(&run(name)) == Place::Slot).count();
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
    assert_eq!(door.place(&run("a")), behind("a"));
    assert!(!door.is_plain(1));
    gates.put(Stand::at(gate("a")), NOW_MS);
    gates.put(Stand::at(gate("b")), NOW_MS);
    assert_eq!(gates.wake_ms(NOW_MS), NOW_MS, "b may");
    gates.gave(gate("a"));
    let openings = Door::new(&gates, 5, NOW_MS).openings();
    let said: Vec<_> = openings.iter().map(|opening| (opening.gate, opening.runs_max)).collect();
    assert_eq!(said, [(gate("b"), 3), (gate("a"), 1)]);
    let mut door = Door::new(&gates, 5, NOW_MS);
    assert_eq!(door.place(&run("b")), behind("b"), "who waits comes first");
    assert_eq!(door.place_from(&openings[0], openings[0].rows[0], &run("b")), Place::Slot);
}

#[test]
fn once_all_that_waited_came_out_a_new_run_takes_a_slot_at_once() {
    let mut gates = gates(8, &[("a", None), ("b", None)]);
    gates.put(Stand::at(gate("a")), NOW_MS);
    let mut door = Door::new(&gates, 8, NOW_MS);
    assert_eq!(door.place(&run("a")), behind("a"));
    let mut door = Door::new(&gates, 8, NOW_MS);
    door.drained(Stand::at(gate("a")));
    let places: Vec<Place> = (0..6).map(|_| door.place(&run("a"))).collect();
    let mut expected = vec![Place::Slot; 4];
    expected.extend([behind("a"); 2]);
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
    assert_eq!(Door::new(&gates, 8, NOW_MS).place(&run("a")), behind("a"));
    assert_eq!(Door::new(&gates, 8, NOW_MS).place(&run("b")), Place::Slot);
    gates.put(Stand::at(gate("a")), NOW_MS);
    let then_ms = NOW_MS + OPEN_MS_FIRST;
    assert_eq!(gates.wake_ms(NOW_MS), then_ms);
    assert_eq!(Door::new(&gates, 8, NOW_MS).openings(), []);
    let mut door = Door::new(&gates, 8, then_ms);
    let [opening] = door.openings().try_into().expect("one");
    assert_eq!((opening.runs_max, opening.probe), (1, true));
    assert_eq!(door.place_from(&opening, opening.rows[0], &run("a")), Place::Slot);
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
    gates.put(Stand::at(gate("a")), NOW_MS);
    let then_ms = NOW_MS + OPEN_MS_FIRST;
    assert_eq!(Door::new(&gates, 4, then_ms).openings(), []);
    assert_eq!(gates.wake_ms(then_ms), i64::MAX, "or the writer would look again and again");
    (0..4).for_each(|_| gates.gave(gate("a")));
    assert!(gates.wake_ms(then_ms) <= then_ms);
    let [opening] = Door::new(&gates, 8, then_ms).openings().try_into().expect("one");
    assert!(opening.probe && opening.runs_max == 1, "{opening:?}");
}

#[test]
fn a_probe_is_not_given_away_once_another_has_the_slot_that_its_connection_could_take() {
    let mut gates = gates(4, &[("a", None), ("b", Some(2))]);
    assert_eq!(take(&mut gates, "a", 1), 1);
    for _ in 0..FAILURES_MAX {
        gates.answered(gate("a"), Answered::Failing, NOW_MS, false, NOW_MS);
    }
    ["a", "b"].into_iter().for_each(|name| gates.put(Stand::at(gate(name)), NOW_MS));
    let mut door = Door::new(&gates, 2, NOW_MS + OPEN_MS_FIRST);
    let [other, probe] = door.openings_apart().try_into().expect("two");
    assert!(probe.probe && door.has_room(&probe) && door.has_room(&other));
    assert_eq!(door.place_from(&other, gate("b"), &run("b")), Place::Slot);
    assert!(door.free() > 0 && !door.has_room(&probe), "it would be noted as sent, and was not");
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
        failing: false,
        breaker: Breaker::Open(open),
    };
    let broken = Stored { rows: vec![row.clone()], ..Stored::default() };
    gates.stored(broken, NOW_MS);
    assert_eq!(Door::new(&gates, 8, NOW_MS).place(&run("a")), behind("a"));
    gates.stored(Stored::default(), NOW_MS);
    assert_eq!(Door::new(&gates, 8, NOW_MS).place(&run("a")), Place::Slot);
    let paused = GateRow { paused_ms: Some(NOW_MS), breaker: Breaker::default(), ..row };
    let versions = vec![PausedVersion { version: VERSION, gate: GateId::of(GateKind::Source, "a") }];
    gates.stored(Stored { rows: vec![paused], versions, ..Stored::default() }, NOW_MS);
    let source = GateId::of(GateKind::Source, "a");
    let mut door = Door::new(&gates, 8, NOW_MS);
    assert_eq!(door.place(&run("b")), Place::Behind(Stand::at(source)), "its events wait");
    assert_eq!(
        door.place(&Due { version: VersionId(8), ..run("a") }),
        behind("a"),
        "what goes through it waits"
    );
    assert_eq!(door.place(&Due { version: VersionId(8), ..run("b") }), Place::Slot);
    gates.put(Stand::at(source), NOW_MS);
    assert_eq!(gates.wake_ms(NOW_MS), i64::MAX);
}

#[test]
fn a_limited_connection_gives_its_places_from_behind_its_gate() {
    let mut gates = gates(8, &[("a", Some(2))]);
    let mut door = Door::new(&gates, 8, NOW_MS);
    assert_eq!(door.place(&run("a")), behind("a"));
    gates.put(Stand::at(gate("a")), NOW_MS);
    let [opening] = Door::new(&gates, 8, NOW_MS).openings().try_into().expect("one");
    assert_eq!((opening.runs_max, opening.concurrency), (2, Some(2)));
    gates.took(gate("a"));
    gates.took(gate("a"));
    assert_eq!(Door::new(&gates, 6, NOW_MS).openings(), []);
    assert_eq!(gates.wake_ms(NOW_MS), i64::MAX);
}

#[test]
fn a_gate_that_gives_places_is_looked_behind_once_in_a_turn_and_leaves_what_it_did_not_give() {
    let mut gates = gates(1, &[("a", Some(1))]);
    ["a", "b"].into_iter().for_each(|name| gates.put(Stand::at(gate(name)), NOW_MS));
    gates.looked(Stand::at(gate("b")), Some(NOW_MS));
    let mut door = Door::new(&gates, 1, NOW_MS);
    assert_eq!(door.more_openings(), [], "it is the other's turn");
    let [apart] = door.openings_apart().try_into().expect("one");
    assert_eq!((apart.gate, apart.runs_max), (gate("a"), 1));
    assert_eq!(door.openings_apart(), []);
    let [other] = door.more_openings().try_into().expect("one");
    assert_eq!((other.gate, other.runs_max), (gate("b"), 1));
}

#[test]
fn those_that_wait_come_first_at_every_other_claim() {
    let mut gates = gates(8, &[("a", Some(2))]);
    let mut first = Vec::new();
    for _ in 0..4 {
        gates.put(Stand::at(gate("a")), NOW_MS);
        first.push(Door::new(&gates, 8, NOW_MS).is_turn_of_waiting());
        gates.claimed(None);
    }
    assert_eq!(first, [true, false, true, false]);
}

fn shared(slots: usize, concurrency: Option<usize>) -> Gates {
    let mut gates = Gates::new(slots);
    let limit = Limit { bundles: 2, concurrency, ..Limit::none("a") };
    gates.limit([(gate("a"), limit)].into());
    gates
}

fn stand_of(bundle: &str) -> Stand {
    Stand::of_bundle(gate("a"), GateId::of(GateKind::Bundle, bundle))
}

#[test]
fn what_has_no_slot_waits_apart_for_each_bundle_and_slots_are_dealt_among_them() {
    let mut gates = shared(8, None);
    let mut door = Door::new(&gates, 2, NOW_MS);
    let places: Vec<Place> = (0..4).map(|_| door.place(&run_of("noisy", "a"))).collect();
    let waits = |bundle| Place::Behind(stand_of(bundle));
    assert_eq!(places, [Place::Slot, Place::Slot, waits("noisy"), waits("noisy")]);
    assert_eq!(door.place(&run_of("quiet", "a")), waits("quiet"));
    assert!(door.is_overflown(), "another node may have a slot for it");

    ["noisy", "quiet"].into_iter().for_each(|bundle| gates.put(stand_of(bundle), NOW_MS));
    assert_eq!(gates.wake_ms(NOW_MS), NOW_MS);
    let mut door = Door::new(&gates, 5, NOW_MS);
    assert!(!door.is_plain(1));
    let [opening] = door.openings().try_into().expect("one connection");
    let dealt: Vec<_> = opening.deal(opening.runs_max).collect();
    assert_eq!(dealt, [(stand_of("quiet"), 2), (stand_of("noisy"), 3)]);
    for (stand, runs) in dealt {
        let bundle = if stand == stand_of("quiet") { "quiet" } else { "noisy" };
        for _ in 0..runs {
            assert_eq!(door.place_from(&opening, stand.row, &run_of(bundle, "a")), Place::Slot);
        }
    }
    assert_eq!(
        (door.free(), door.place_from(&opening, stand_of("noisy").row, &run_of("noisy", "a"))),
        (0, waits("noisy"))
    );
    gates.looked(stand_of("quiet"), None);
    let [opening] = Door::new(&gates, 5, NOW_MS).openings().try_into().expect("one connection");
    let dealt: Vec<_> = opening.deal(opening.runs_max).collect();
    assert_eq!(dealt, [(stand_of("noisy"), 5)], "one that waits alone has every slot");
}

#[test]
fn a_bundle_that_has_its_connection_to_itself_waits_among_all_that_is_ready() {
    let gates = gates(8, &[("a", None), ("b", None)]);
    assert_eq!(Door::new(&gates, 0, NOW_MS).place(&run("a")), Place::Ready);
}

#[test]
fn more_that_is_ready_than_there_are_slots_is_sorted_by_bundle() {
    let mut gates = shared(8, None);
    assert!(Door::new(&gates, 8, NOW_MS).is_plain(8));
    gates.claimed(Some(true));
    let mut door = Door::new(&gates, 8, NOW_MS);
    assert!(!door.is_plain(8));
    assert_eq!(door.place(&run_of("noisy", "a")), Place::Behind(stand_of("noisy")));
    assert_eq!(door.place(&run_of("quiet", "a")), Place::Behind(stand_of("quiet")));
    let rows: Vec<Opening> = door.openings();
    assert_eq!(rows.len(), 1, "and comes out in the same turn");
    assert_eq!(rows[0].rows.len(), 2);
}

#[test]
fn the_places_of_a_limited_connection_are_dealt_among_its_bundles() {
    let mut gates = shared(8, Some(4));
    ["noisy", "quiet", "third"].into_iter().for_each(|bundle| gates.put(stand_of(bundle), NOW_MS));
    let door = Door::new(&gates, 8, NOW_MS);
    let [opening] = door.openings().try_into().expect("one connection");
    let dealt: Vec<usize> = opening.deal(opening.runs_max).map(|(_, runs)| runs).collect();
    assert_eq!((opening.runs_max, dealt), (4, vec![1, 1, 2]));
}

#[test]
fn a_connection_that_was_shared_stays_so_for_the_runs_of_the_bundle_that_is_gone() {
    let mut gates = shared(8, None);
    gates.limit([(gate("a"), Limit::none("a"))].into());
    assert_eq!(Door::new(&gates, 0, NOW_MS).place(&run_of("left", "a")), Place::Behind(stand_of("left")));
}

#[test]
fn of_more_gates_than_slots_each_has_its_turn() {
    let names: Vec<String> = (0..40).map(|number| format!("crm-{number}")).collect();
    let connections: Vec<_> = names.iter().map(|name| (name.as_str(), Some(8))).collect();
    let mut gates = gates(16, &connections);
    names.iter().for_each(|name| gates.put(Stand::at(gate(name)), NOW_MS));
    let mut served = HashSet::new();
    for _ in 0..10 {
        // Their runs end at once, so nobody holds anything when the next turn comes.
        let openings = Door::new(&gates, 4, NOW_MS).openings();
        assert_eq!(openings.iter().map(|opening| opening.runs_max).collect::<Vec<_>>(), [1; 4]);
        for opening in openings {
            served.insert(opening.gate);
            gates.looked(Stand::at(opening.gate), Some(NOW_MS));
        }
    }
    assert_eq!(served.len(), 40);
}

#[test]
fn a_gate_whose_places_another_node_gives_is_left_alone_and_keeps_who_waits_in_order() {
    let mut gates = gates(16, &[("crm", Some(1))]);
    gates.put(Stand::at(gate("crm")), NOW_MS);
    gates.elsewhere(gate("crm"), NOW_MS + 100, NOW_MS);
    assert_eq!(gates.wake_ms(NOW_MS), NOW_MS + 100);
    assert_eq!(Door::new(&gates, 16, NOW_MS).openings(), []);
    assert_eq!(Door::new(&gates, 16, NOW_MS + 100).openings().len(), 1);
}
