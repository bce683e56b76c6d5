//! Which connections had events of late that could not be read: what grew of the ledger's totals from look to look. A hook
//! answers such an event "ok", so nobody but us will ever say that, for one, a vendor sends JSON instead of a form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::message::{Finding, Kind};

/// Events that could not be read are told of until none came for this long, milliseconds: 36 hours, so that what comes every
/// night is one thing.
pub const LATELY_MS: i64 = 36 * 3_600_000;

/// The totals of every connection that has any, as they were at the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Before the first look nothing is known to be new.
    looked: bool,
    connections: BTreeMap<String, Grown>,
}

/// One connection's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Grown {
    total: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lately: Option<Lately>,
}

/// Since when it grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lately {
    /// The total before that.
    before: u64,
    since_ms: i64,
    newest_ms: i64,
}

impl Quarantine {
    /// Whether nobody has looked yet.
    pub fn is_unlooked(&self) -> bool {
        !self.looked
    }

    /// Takes the totals of a look in.
    pub fn look(&mut self, totals: &[(String, u64)], now_ms: i64) {
        for (connection, total) in totals {
            let unknown = Grown { total: if self.looked { 0 } else { *total }, lately: None };
            self.connections.entry(connection.clone()).or_insert(unknown).look(*total, now_ms);
        }
        self.looked = true;
        for grown in self.connections.values_mut() {
            grown.lately = grown.lately.take().filter(|it| now_ms - it.newest_ms < LATELY_MS);
        }
    }

    /// What came of late.
    pub fn findings(&self) -> impl Iterator<Item = Finding> {
        self.connections.iter().filter_map(|(connection, grown)| {
            let Lately { before, since_ms, newest_ms } = grown.lately.as_ref()?;
            let count = grown.total.saturating_sub(*before);
            Some(Finding::new(Kind::EventsQuarantined, connection, count, *since_ms, *newest_ms))
        })
    }
}

impl Grown {
    /// A total that is less is older than this: another node has looked in between.
    fn look(&mut self, total: u64, now_ms: i64) {
        if total > self.total {
            let first = Lately { before: self.total, since_ms: now_ms, newest_ms: now_ms };
            self.lately.get_or_insert(first).newest_ms = now_ms;
            self.total = total;
        }
        // A clock that was put back must not keep it open for years.
        if let Some(lately) = &mut self.lately {
            lately.newest_ms = lately.newest_ms.min(now_ms);
        }
    }
}
