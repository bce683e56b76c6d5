//! The judgement over both ledgers: nothing acknowledged is missing, and whatever came twice is explained by a kill.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::{ledger::Entry, report::Outcome};

/// How long before a kill an answer may have come whose settling the kill undid.
pub const SETTLE_NS_MAX: i64 = 2_000_000_000;

/// What the ledgers come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// Calls answered 200.
    pub acknowledged: usize,
    /// Calls whose answer was lost; they may arrive or not.
    pub unknown: usize,
    /// Of these, how many arrived.
    pub unknown_arrived: usize,
    /// Calls answered 200 after the power was cut, which a machine without power does not do; they may arrive or not.
    pub after_cut: usize,
    /// Calls refused.
    pub refused: usize,
    /// Different calls that arrived.
    pub delivered: usize,
    /// Acknowledged and never arrived.
    pub missing: Vec<i64>,
    /// The same by the first fault after they were sent; later than any when there was none.
    pub missing_by_kill: BTreeMap<usize, usize>,
    /// Arrived, though refused or never sent.
    pub unexpected: Vec<i64>,
    /// Repeats by the kill that explains them.
    pub repeats_by_kill: BTreeMap<usize, usize>,
    /// Repeats that no kill explains.
    pub unexplained: Vec<i64>,
    /// Kills with more repeats than runs may be under way at once.
    pub beyond_concurrency: Vec<usize>,
}

/// What is allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// Runs the product has under way at most, so repeats at one fault.
    pub concurrency: usize,
    /// A call answered 503 may arrive: when an fsync failed, nobody knows what the disk holds.
    pub refused_may_arrive: bool,
}

impl Judgement {
    /// Judges both ledgers.
    pub fn of(sender: &[Entry], receiver: &[Entry], rules: Rules) -> Judgement {
        let mut judgement = Judgement::default();
        let mut kills = Vec::new();
        let dark = dark(sender);
        let mut unknown = Vec::new();
        let (mut acknowledged, mut possible) = (HashSet::new(), HashSet::new());
        for entry in sender {
            match *entry {
                Entry::Acknowledged(id, at_ns) => {
                    possible.insert(id);
                    if is_dark(&dark, at_ns) {
                        judgement.after_cut += 1;
                    } else {
                        acknowledged.insert(id);
                    }
                }
                Entry::Unknown(id) => {
                    unknown.push(id);
                    possible.insert(id);
                }
                Entry::Refused(id, _) => {
                    judgement.refused += 1;
                    possible.extend(rules.refused_may_arrive.then_some(id));
                }
                Entry::Killed(round, at_ns) => kills.push((round, at_ns)),
                Entry::Sent(_) | Entry::Delivered(..) | Entry::Cut(..) => {}
            }
        }
        let arrivals = arrivals(receiver);
        judgement.unknown = unknown.len();
        judgement.unknown_arrived = unknown.iter().filter(|id| arrivals.contains_key(id)).count();
        judgement.acknowledged = acknowledged.len();
        judgement.delivered = arrivals.len();
        judgement.missing = sorted(acknowledged.iter().filter(|id| !arrivals.contains_key(id)));
        for id in &judgement.missing {
            let round = kills.iter().find(|(_, at_ns)| at_ns >= id).map_or(usize::MAX, |(round, _)| *round);
            *judgement.missing_by_kill.entry(round).or_default() += 1;
        }
        judgement.unexpected = sorted(arrivals.keys().filter(|id| !possible.contains(id)));
        for (id, times) in &arrivals {
            for pair in times.windows(2).filter(|pair| !is_dark(&dark, pair[0])) {
                match explaining(&kills, pair[0], pair[1]) {
                    Some(round) => *judgement.repeats_by_kill.entry(round).or_default() += 1,
                    None => judgement.unexplained.push(*id),
                }
            }
        }
        judgement.unexplained.sort_unstable();
        let beyond = judgement.repeats_by_kill.iter().filter(|(_, repeats)| **repeats > rules.concurrency);
        judgement.beyond_concurrency = beyond.map(|(round, _)| *round).collect();
        judgement
    }

    /// Adds what it found to a scenario's.
    pub fn tell(&self, outcome: &mut Outcome) {
        for (name, count) in [
            ("acknowledged", self.acknowledged),
            ("answer lost", self.unknown),
            ("answered while the power was gone", self.after_cut),
            ("refused", self.refused),
            ("delivered", self.delivered),
            ("repeats explained by a fault", self.repeats_by_kill.values().sum()),
            ("acknowledged and missing", self.missing.len()),
        ] {
            if count > 0 || ["acknowledged", "acknowledged and missing"].contains(&name) {
                outcome.count(name, count);
            }
        }
        if self.acknowledged == 0 {
            outcome.invalid.push("nothing was acknowledged".to_owned());
        }
        let (missing, unexpected) = (self.missing.len(), self.unexpected.len());
        outcome.expect(missing == 0, || {
            format!("{missing} acknowledged are missing: {:?}", first(&self.missing))
        });
        outcome.expect(unexpected == 0, || {
            format!("{unexpected} came though refused or never sent: {:?}", first(&self.unexpected))
        });
        outcome.expect(self.unexplained.is_empty(), || {
            format!("{} repeats without a fault: {:?}", self.unexplained.len(), first(&self.unexplained))
        });
        outcome.expect(self.beyond_concurrency.is_empty(), || {
            format!("more repeats than runs under way at the faults {:?}", self.beyond_concurrency)
        });
    }

    /// True when every promise held.
    pub fn holds(&self) -> bool {
        self.missing.is_empty()
            && self.unexpected.is_empty()
            && self.unexplained.is_empty()
            && self.beyond_concurrency.is_empty()
    }
}

/// From a cut of the power until the kill that follows it, nanoseconds since 1970. Linux may still answer an fsync of a
/// file system that is being shut down with success; a machine that really loses its power tells nobody.
fn dark(sender: &[Entry]) -> Vec<(i64, i64)> {
    let killed = |round| {
        let found = sender.iter().find_map(|entry| match *entry {
            Entry::Killed(killed, at_ns) if killed == round => Some(at_ns),
            _ => None,
        });
        found.unwrap_or(i64::MAX)
    };
    let cuts = sender.iter().filter_map(|entry| match *entry {
        Entry::Cut(round, at_ns) => Some((at_ns, killed(round))),
        _ => None,
    });
    cuts.collect()
}

fn is_dark(dark: &[(i64, i64)], at_ns: i64) -> bool {
    dark.iter().any(|(from_ns, to_ns)| (*from_ns..=*to_ns).contains(&at_ns))
}

fn arrivals(receiver: &[Entry]) -> HashMap<i64, Vec<i64>> {
    let mut arrivals: HashMap<i64, Vec<i64>> = HashMap::new();
    for entry in receiver {
        if let Entry::Delivered(id, at_ns) = *entry {
            arrivals.entry(id).or_default().push(at_ns);
        }
    }
    arrivals
}

/// The first kill after the first arrival, if it is near it and before the second.
fn explaining(kills: &[(usize, i64)], first_ns: i64, second_ns: i64) -> Option<usize> {
    let (round, at_ns) = kills.iter().copied().find(|(_, at_ns)| *at_ns >= first_ns)?;
    (at_ns <= second_ns && at_ns - first_ns <= SETTLE_NS_MAX).then_some(round)
}

/// Enough to find them in the logs.
fn first(ids: &[i64]) -> &[i64] {
    &ids[..ids.len().min(5)]
}

fn sorted<'a>(ids: impl Iterator<Item = &'a i64>) -> Vec<i64> {
    let mut ids: Vec<i64> = ids.copied().collect();
    ids.sort_unstable();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { concurrency: 8, refused_may_arrive: false };
    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn a_call_that_was_acknowledged_and_never_came_is_missing_and_an_unknown_one_is_not() {
        let sender =
            [Entry::Acknowledged(1, 0), Entry::Acknowledged(2, 0), Entry::Unknown(3), Entry::Unknown(4)];
        let judgement = Judgement::of(&sender, &[Entry::Delivered(1, 0), Entry::Delivered(3, 0)], RULES);
        assert_eq!((judgement.missing.clone(), judgement.holds()), (vec![2], false));
        assert!(judgement.unexpected.is_empty());
    }

    #[test]
    fn a_missing_call_is_counted_at_the_first_fault_after_it_was_sent() {
        let sender = [
            Entry::Killed(3, 10),
            Entry::Acknowledged(15, 0),
            Entry::Killed(4, 20),
            Entry::Acknowledged(25, 0),
        ];
        assert_eq!(
            Judgement::of(&sender, &[], RULES).missing_by_kill,
            BTreeMap::from([(4, 1), (usize::MAX, 1)])
        );
    }

    #[test]
    fn what_is_answered_between_a_power_cut_and_the_kill_proves_nothing() {
        let at = |at_ns| [Entry::Cut(0, 10), Entry::Acknowledged(1, at_ns), Entry::Killed(0, 20)];
        for (at_ns, missing) in [(9, 1), (10, 0), (20, 0), (21, 1)] {
            assert_eq!(Judgement::of(&at(at_ns), &[], RULES).missing.len(), missing, "{at_ns}");
        }
    }

    #[test]
    fn a_refused_call_that_comes_is_unexpected() {
        let judgement = Judgement::of(&[Entry::Refused(1, 503)], &[Entry::Delivered(1, 0)], RULES);
        assert_eq!((judgement.unexpected.clone(), judgement.holds()), (vec![1], false));
        let rules = Rules { refused_may_arrive: true, ..RULES };
        assert!(Judgement::of(&[Entry::Refused(1, 503)], &[Entry::Delivered(1, 0)], rules).holds());
    }

    #[test]
    fn a_repeat_is_explained_only_by_a_kill_soon_after_the_first_arrival() {
        let judge = |first_ns, killed_ns, second_ns| {
            let sender = [Entry::Acknowledged(1, 0), Entry::Killed(0, killed_ns)];
            Judgement::of(&sender, &[Entry::Delivered(1, first_ns), Entry::Delivered(1, second_ns)], RULES)
        };
        assert!(judge(0, SECOND, 2 * SECOND).holds());
        assert_eq!(judge(0, 2 * SECOND, SECOND).unexplained, [1], "no kill between the two");
        assert_eq!(judge(0, 9 * SECOND, 10 * SECOND).unexplained, [1], "the kill came much later");
        assert_eq!(judge(SECOND, 0, 2 * SECOND).unexplained, [1], "the kill came before both");
    }

    #[test]
    fn a_kill_explains_no_more_repeats_than_runs_were_under_way() {
        let mut sender = vec![Entry::Killed(7, 10)];
        sender.extend((0..9).map(|id| Entry::Acknowledged(id, 0)));
        let twice = (0..9).flat_map(|id| [Entry::Delivered(id, 0), Entry::Delivered(id, 20)]);
        let judgement = Judgement::of(&sender, &twice.collect::<Vec<_>>(), RULES);
        assert_eq!((judgement.beyond_concurrency.clone(), judgement.holds()), (vec![7], false));
        assert_eq!(judgement.repeats_by_kill, BTreeMap::from([(7, 9)]));
    }
}
