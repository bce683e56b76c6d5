//! Lanes: the events of one key of a bundle, whose runs go one after another.

use sha2::{Digest, Sha256};

/// A lane's number: made from the bundle's name and the key's value alone, so that every version of the bundle and every
/// process knows it. Stored, so it never changes. 63 bits; two keys that meet would merely wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub i64);

/// Where a run goes that is not alone with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// Its number.
    pub id: LaneId,
    /// Which runs of the key are kept.
    pub keeps: Keeps,
}

/// Which runs of a key are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// Each, one after another.
    Every,
    /// The latest: it takes over from those that were not begun.
    Latest,
}

impl LaneId {
    /// Before every lane.
    pub const FIRST: LaneId = LaneId(-1);

    /// The lane of a key. The two texts are told apart by the first one's length.
    pub fn of(bundle: &str, key: &str) -> LaneId {
        let mut hash = Sha256::new();
        hash.update(u64::try_from(bundle.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(bundle);
        hash.update(key);
        let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = hash.finalize().into();
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
        LaneId(number.cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_older_databases_hold() {
        assert_eq!(LaneId::of("calls", "79990000001"), LaneId(3_728_215_690_799_180_811));
    }

    #[test]
    fn each_key_of_each_bundle_has_its_own() {
        let of =
            [("a", "bc"), ("ab", "c"), ("a", ""), ("b", "bc")].map(|(bundle, key)| LaneId::of(bundle, key));
        let different: std::collections::HashSet<LaneId> = of.into_iter().collect();
        assert_eq!(different.len(), of.len());
        assert!(of.iter().all(|lane| lane.0 >= 0));
    }
}
