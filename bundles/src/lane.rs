//! Lanes: the events of one key of a bundle, whose runs go one after another.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::{
    expression::{Env, text_of},
    function::phone,
    json,
    path::Path,
};

/// The shortest time that may be waited for a newer event, milliseconds.
pub const QUIET_MIN_MS: i64 = 1_000;
/// The longest, milliseconds: seven days.
pub const QUIET_MAX_MS: i64 = 7 * 86_400_000;

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

/// How a bundle's runs wait for each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The event's field that is the key.
    pub path: Path,
    /// It is a phone number: every way of writing it is the same key.
    pub phone: bool,
    /// Which runs of a key are kept.
    pub keeps: Keeps,
}

impl Rule {
    /// The lane of an event; none when the field is empty: it has no key, and waits for nobody.
    pub fn lane(&self, bundle: &str, event: &dyn Env) -> Option<Lane> {
        let value = event.get(&self.path).filter(|value| !value.is_empty())?;
        let text = text_of(value).unwrap_or_else(|_| Some(Cow::Owned(json::to_text(value))))?;
        let key = if self.phone { Cow::Owned(phone::comparable(&text)) } else { text };
        Some(Lane { id: LaneId::of(bundle, &key), keeps: self.keeps })
    }
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
