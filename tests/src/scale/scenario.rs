//! The scenarios by name, and their sizes.

use std::time::Instant;

use super::{dead_vendor, delayed, duplicates, filled, lab::Lab, many, nodes, order};
use crate::faults::report::{Finding, Outcome};

/// Something that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is promised.
    pub about: &'static str,
    /// What its size counts.
    pub unit: &'static str,
    /// Its size in a short run.
    pub short: usize,
    /// Its size in a full one.
    pub full: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Duplicates,
    Delayed,
    Filled,
    Many,
    DeadVendor,
    Nodes,
    Order,
}

/// All of them, in the order they are run.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "duplicates",
        about: "without faults everything acknowledged is delivered exactly once",
        unit: "deliveries",
        short: 5_000,
        full: 1_000_000,
        kind: Kind::Duplicates,
    },
    Scenario {
        name: "delayed",
        about: "beside delayed events at least 80 % of an empty queue's speed, a restart changes no due time, \
                all due at once drain at 2,000/s",
        unit: "delayed events",
        short: 5_000,
        full: 1_000_000,
        kind: Kind::Delayed,
    },
    Scenario {
        name: "filled",
        about: "a database full of finished runs is as fast as an empty one",
        unit: "finished runs",
        short: 5_000,
        full: 1_000_000,
        kind: Kind::Filled,
    },
    Scenario {
        name: "many",
        about: "with many bundles at least 85 % of the speed with few, ready within 3 s",
        unit: "active bundles",
        short: 200,
        full: 10_000,
        kind: Kind::Many,
    },
    Scenario {
        name: "dead-vendor",
        about: "beside vendors that refuse, fail and are silent the others' p99 is under twice its usual",
        unit: "runs behind the dead",
        short: 2_000,
        full: 100_000,
        kind: Kind::DeadVendor,
    },
    Scenario {
        name: "nodes",
        about: "four nodes do at least 3.5 times the work of one; a dead one's runs are done within 30 s",
        unit: "pairs of one node and four",
        short: 1,
        full: 3,
        kind: Kind::Nodes,
    },
    Scenario {
        name: "order",
        about: "`order_by:` with 10,000 keys, with 100, with one: the runs of a key one after another, in order",
        unit: "seconds of load for each number of keys",
        short: 1,
        full: 10,
        kind: Kind::Order,
    },
];

impl Scenario {
    /// Runs it at that size. A product that does not start or does not finish has broken its promise.
    pub async fn run(self, lab: &Lab, size: usize) -> Finding {
        let begun = Instant::now();
        let mut outcome = Outcome::default();
        let result = match self.kind {
            Kind::Duplicates => duplicates::run(lab, size, &mut outcome).await,
            Kind::Delayed => delayed::run(lab, size, &mut outcome).await,
            Kind::Filled => filled::run(lab, size, &mut outcome).await,
            Kind::Many => many::run(lab, size, &mut outcome).await,
            Kind::DeadVendor => dead_vendor::run(lab, size, &mut outcome).await,
            Kind::Nodes => nodes::run(lab, size, &mut outcome).await,
            Kind::Order => order::run(lab, size, &mut outcome).await,
        };
        if let Err(error) = result {
            // What was measured before it is kept.
            outcome.cycle("did not come to its end", true);
            outcome.expect(false, || format!("{error:#}"));
        }
        Finding {
            scenario: self.name.to_owned(),
            about: self.about.to_owned(),
            verdict: outcome.verdict(false),
            outcome,
            took_s: begun.elapsed().as_secs_f64(),
        }
    }
}
