//! The product's own ledger, and the two equations it promises for every connection at any moment.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::product::Setup;

/// How often a drain is looked at.
const DRAIN_EVERY: Duration = Duration::from_millis(200);

/// One connection's counters, as `sheaf ledger --json` prints them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Counters {
    /// Whose.
    pub connection: String,
    /// All that came.
    pub received: u64,
    /// Became events.
    pub accepted: u64,
    /// Were there already.
    pub duplicate: u64,
    /// Could not be decoded.
    pub quarantined: u64,
    /// One for each accepted event and subscribed bundle.
    pub decisions: u64,
    /// Done.
    pub delivered: u64,
    /// The bundle said no.
    pub filtered: u64,
    /// Waiting for a person.
    pub parked: u64,
    /// To be done.
    pub pending: u64,
    /// Dropped by a person.
    pub discarded: u64,
}

/// The whole.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Printed {
    /// Every connection.
    pub connections: Vec<Counters>,
    /// Counters that differ from the rows they count, where rows were counted.
    pub mismatches: Vec<Value>,
}

/// Reads what was printed.
pub fn read(printed: &Value) -> anyhow::Result<Printed> {
    Printed::deserialize(printed).with_context(|| format!("`sheaf ledger --json` printed {printed}"))
}

/// An error when an equation does not hold. The product's own verdict is not asked.
pub fn check(printed: &Printed) -> anyhow::Result<()> {
    ensure!(printed.mismatches.is_empty(), "counters differ from rows: {:?}", printed.mismatches);
    for it in &printed.connections {
        let came = it.accepted + it.duplicate + it.quarantined;
        ensure!(it.received == came, "received {} but accounted for {came}: {it:?}", it.received);
        let decided = it.delivered + it.filtered + it.parked + it.pending + it.discarded;
        ensure!(it.decisions == decided, "{} decisions but accounted for {decided}: {it:?}", it.decisions);
    }
    Ok(())
}

/// Waits until nothing is pending; both equations must hold all the while. Then every row is counted as well.
pub async fn drained(setup: &Setup, most: Duration) -> anyhow::Result<Printed> {
    let begun = Instant::now();
    loop {
        let ledger = read(&setup.ledger(false)?)?;
        check(&ledger)?;
        let pending: u64 = ledger.connections.iter().map(|it| it.pending).sum();
        if pending == 0 {
            let counted = read(&setup.ledger(true)?)?;
            return check(&counted).map(|()| counted);
        }
        ensure!(begun.elapsed() < most, "{pending} decisions stay pending; see {}", setup.log().display());
        tokio::time::sleep(DRAIN_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(delivered: u64) -> Value {
        json!({"balanced": true, "mismatches": [], "connections": [{
            "connection": "calltouch-main", "received": 12, "accepted": 10, "duplicate": 1, "quarantined": 1, "unrouted": 0,
            "decisions": 20, "delivered": delivered, "filtered": 10, "parked": 1, "pending": 1, "discarded": 0,
        }]})
    }

    #[test]
    fn both_equations_are_checked() {
        check(&read(&printed(8)).expect("counters")).expect("they hold");
        let error = check(&read(&printed(7)).expect("counters")).expect_err("one decision is nowhere");
        assert!(error.to_string().contains("20 decisions but accounted for 19"));
    }
}
