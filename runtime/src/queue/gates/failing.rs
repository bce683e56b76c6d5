//! Bundles that keep failing. Pure.
//!
//! A vendor that is ill is its connection's matter. A bundle whose runs are set aside one after the other, though their
//! vendors are well, is broken itself: it is paused, so that its events wait instead of being set aside as well.

use std::collections::{BTreeSet, HashMap};

use sheaf_bundles::id::VersionId;

/// Runs of a bundle version that are set aside in a row, none delivered between them, until its bundle is paused.
pub const PARKED_MAX: u32 = 50;

/// What this process saw of each version. Of several nodes each counts for itself.
#[derive(Debug, Default)]
pub struct Failing {
    /// Runs in a row that were set aside.
    parked: HashMap<VersionId, u32>,
    /// Versions whose bundles are to be paused.
    found: BTreeSet<VersionId>,
}

impl Failing {
    /// A run was set aside, and no vendor is to blame.
    pub fn parked(&mut self, version: VersionId) {
        let parked = self.parked.entry(version).or_default();
        *parked += 1;
        if *parked >= PARKED_MAX {
            self.found.insert(version);
        }
    }

    /// A run was delivered. Costs nothing as long as none is set aside.
    pub fn delivered(&mut self, version: VersionId) {
        if !self.parked.is_empty() {
            self.anew(version);
        }
    }

    /// It was stored that these are paused, or a person let them go on: the count starts anew.
    pub fn anew(&mut self, version: VersionId) {
        self.parked.remove(&version);
        self.found.remove(&version);
    }

    /// Versions whose bundles are to be paused.
    pub fn found(&self) -> Vec<VersionId> {
        self.found.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKEN: VersionId = VersionId(1);
    const SOUND: VersionId = VersionId(2);

    #[test]
    fn a_bundle_is_found_after_so_many_in_a_row_and_one_that_delivers_now_and_then_is_not() {
        let mut failing = Failing::default();
        for _ in 1..PARKED_MAX {
            failing.parked(BROKEN);
            failing.parked(SOUND);
        }
        failing.delivered(SOUND);
        assert_eq!(failing.found(), []);
        failing.parked(BROKEN);
        failing.parked(SOUND);
        assert_eq!(failing.found(), [BROKEN]);
        failing.anew(BROKEN);
        failing.parked(BROKEN);
        assert_eq!(failing.found(), [], "the count starts anew");
    }

    #[test]
    fn a_delivery_before_the_pause_is_stored_calls_it_off() {
        let mut failing = Failing::default();
        (0..PARKED_MAX).for_each(|_| failing.parked(BROKEN));
        failing.delivered(BROKEN);
        assert_eq!(failing.found(), []);
    }
}
