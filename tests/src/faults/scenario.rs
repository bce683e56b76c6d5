//! The scenarios by name, and how many cycles of each make a short run and a long one.

use std::time::Instant;

use anyhow::Context;

use super::{
    calls, certificates, clocks, dead_vendor, duplicates, errors, kills,
    lab::Lab,
    migrations, nodes, old, overload, poison, postgres, power,
    report::{Finding, Outcome},
    rig::Plan,
    standby, stop, switch, two, vendor, zombie,
};

/// A kind of fault, or a broken build that must be caught by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// The fault, and what is promised under it.
    pub about: &'static str,
    /// Cycles of a short run; 0 leaves it out.
    pub short: usize,
    /// Cycles of a long run.
    pub long: usize,
    /// What is wrong with the build under test, if it is one of the faulty ones.
    pub fault: Option<&'static str>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kills,
    Calls,
    Power,
    Errors,
    Two,
    Vendor,
    Certificates,
    Overload,
    DeadVendor,
    Poison,
    Zombie,
    PostgresKills,
    PostgresAway,
    PostgresStandby,
    PostgresZombie,
    Nodes,
    Switch,
    Clocks,
    Duplicates,
    Stop,
    Rolling,
    OldAndNew,
    Migrations,
}

/// All of them, in the order they are run.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kills",
        about: "F1 kill -9 under load and during recovery: nothing acknowledged is lost, repeats are bounded",
        short: 15,
        long: 1_000,
        fault: None,
        kind: Kind::Kills,
    },
    Scenario {
        name: "calls",
        about: "F2 a script of 50 events, killed at every write, fsync and send: the same",
        short: 15,
        long: usize::MAX,
        fault: None,
        kind: Kind::Calls,
    },
    Scenario {
        name: "answer-before-commit",
        about: "a build that answers before it commits must be caught by kills",
        short: 4,
        long: 20,
        fault: Some("answer-before-commit"),
        kind: Kind::Kills,
    },
    Scenario {
        name: "power",
        about: "F3 the power of the disk is cut under load: nothing acknowledged is lost, the database is whole",
        short: 5,
        long: 100,
        fault: None,
        kind: Kind::Power,
    },
    Scenario {
        name: "synchronous-normal",
        about: "a build whose commits do not wait for the disk must be caught by power cuts",
        short: 5,
        long: 30,
        fault: Some("synchronous-normal"),
        kind: Kind::Power,
    },
    Scenario {
        name: "errors",
        about: "F4 fsync and write errors, a full disk, a read-only one: 503, not ready, well again by itself, nothing lost",
        short: 6,
        long: 60,
        fault: None,
        kind: Kind::Errors,
    },
    Scenario {
        name: "two",
        about: "F5 a second server on the same data: it refuses and says why, the first goes on",
        short: 2,
        long: 20,
        fault: None,
        kind: Kind::Two,
    },
    Scenario {
        name: "zombie",
        about: "F7 a server is stopped past its lease, another takes its runs, it wakes up: no stale settle counts",
        short: 3,
        long: 200,
        fault: None,
        kind: Kind::Zombie,
    },
    Scenario {
        name: "no-fence",
        about: "a build that takes any settle must be caught by zombies",
        short: 1,
        long: 3,
        fault: Some("no-fence"),
        kind: Kind::Zombie,
    },
    Scenario {
        name: "postgres-kills",
        about: "F6 PostgreSQL and all its processes are killed -9 under load: every call is answered ok and arrives, once",
        short: 2,
        long: 50,
        fault: None,
        kind: Kind::PostgresKills,
    },
    Scenario {
        name: "postgres-away",
        about: "F6 PostgreSQL stands still, has no connection left, is away for long: the same",
        short: 3,
        long: 15,
        fault: None,
        kind: Kind::PostgresAway,
    },
    Scenario {
        name: "postgres-standby",
        about: "F6 PostgreSQL is killed -9 under load and its synchronous standby takes over: the same",
        short: 1,
        long: 20,
        fault: None,
        kind: Kind::PostgresStandby,
    },
    Scenario {
        name: "nodes",
        about: "F7 one of two nodes is killed, or cut from the database: the other takes its runs, nothing acknowledged is lost",
        short: 2,
        long: 40,
        fault: None,
        kind: Kind::Nodes,
    },
    Scenario {
        name: "postgres-zombie",
        about: "F7 a node is stopped past its lease, another takes its runs, it wakes up: no stale settle counts",
        short: 1,
        long: 200,
        fault: None,
        kind: Kind::PostgresZombie,
    },
    Scenario {
        name: "postgres-no-fence",
        about: "a build that takes any settle must be caught by such zombies",
        short: 1,
        long: 3,
        fault: Some("no-fence"),
        kind: Kind::PostgresZombie,
    },
    Scenario {
        name: "switch",
        about: "bundles are published anew under load: no event is run on a superseded version",
        short: 15,
        long: 500,
        fault: None,
        kind: Kind::Switch,
    },
    Scenario {
        name: "stale-epoch",
        about: "a build that stores decisions of a superseded catalogue must be caught by such switches",
        short: 15,
        long: 50,
        fault: Some("stale-epoch"),
        kind: Kind::Switch,
    },
    Scenario {
        name: "vendor",
        about: "F8 a vendor answers badly in every way: repeats on the schedule, other vendors do not notice",
        short: 1,
        long: 10,
        fault: None,
        kind: Kind::Vendor,
    },
    Scenario {
        name: "certificates",
        about: "F8 a vendor's certificate is signed by itself, of another name, expired: nothing is sent, said why, repeated",
        short: 1,
        long: 5,
        fault: None,
        kind: Kind::Certificates,
    },
    Scenario {
        name: "clocks",
        about: "F9 the clock jumps forward and back: nothing is sent before its time, and nothing twice",
        short: 4,
        long: 40,
        fault: None,
        kind: Kind::Clocks,
    },
    Scenario {
        name: "duplicates",
        about: "F10 the same call at once, again, after a restart, an hour later: it is one event",
        short: 10,
        long: 500,
        fault: None,
        kind: Kind::Duplicates,
    },
    Scenario {
        name: "overload",
        about: "F11 ten times the load: slow answers, then refusals, memory flat, soon as fast as before",
        short: 1,
        long: 10,
        fault: None,
        kind: Kind::Overload,
    },
    Scenario {
        name: "dead-vendor",
        about: "F12 a vendor answers nothing and has a heap of runs behind it: a hundred others do not notice, it gets all later",
        short: 3,
        long: 500,
        fault: None,
        kind: Kind::DeadVendor,
    },
    Scenario {
        name: "poison",
        about: "F13 events whose execution panics: parked after three attempts, the others are delivered",
        short: 3,
        long: 30,
        fault: Some("poison"),
        kind: Kind::Poison,
    },
    Scenario {
        name: "stop",
        about: "F15 SIGTERM under load: what was taken is answered and delivered, once",
        short: 5,
        long: 100,
        fault: None,
        kind: Kind::Stop,
    },
    Scenario {
        name: "rolling",
        about: "F15 two nodes are restarted one after the other under load: no call finds nobody, the same",
        short: 4,
        long: 100,
        fault: None,
        kind: Kind::Rolling,
    },
    Scenario {
        name: "migrations",
        about: "F14 a server is killed while it brings an older database up to date: the next finishes it, nothing is lost",
        short: 3,
        long: 60,
        fault: None,
        kind: Kind::Migrations,
    },
    Scenario {
        name: "old-and-new",
        about: "F14 servers of a former commit are replaced by these on the same database: nothing acknowledged is lost",
        short: 0,
        long: 10,
        fault: None,
        kind: Kind::OldAndNew,
    },
];

/// What a person asks for, as `NAME` or `NAME=COUNT`; all there are when nothing.
pub fn asked_for<S: Copy>(
    texts: &[String],
    all: &[S],
    name: impl Fn(&S) -> &'static str,
) -> anyhow::Result<Vec<(S, Option<usize>)>> {
    if texts.is_empty() {
        return Ok(all.iter().map(|it| (*it, None)).collect());
    }
    let one = |text: &String| {
        let (asked, count) =
            text.split_once('=').map_or((text.as_str(), None), |(name, it)| (name, Some(it)));
        let names = || all.iter().map(&name).collect::<Vec<_>>().join(", ");
        let found = all.iter().find(|it| name(it) == asked);
        let found = found.with_context(|| format!("no scenario {asked}; there are {}", names()))?;
        let count = count.map(str::parse).transpose().with_context(|| text.clone())?;
        Ok((*found, count))
    };
    texts.iter().map(one).collect()
}

impl Scenario {
    /// Whether the build under test must be caught. One with poisonous events keeps its promises.
    fn breaks_a_promise(self) -> bool {
        self.fault.is_some() && self.kind != Kind::Poison
    }

    /// Runs so many cycles. A product that does not start, breaks an equation or does not finish has broken its promise.
    pub async fn run(self, lab: &Lab, cycles: usize) -> Finding {
        let begun = Instant::now();
        let outcome = self.outcome(lab, cycles).await;
        let outcome = outcome.unwrap_or_else(|error| Outcome::failed(&error, self.breaks_a_promise()));
        Finding {
            scenario: self.name.to_owned(),
            about: self.about.to_owned(),
            verdict: outcome.verdict(self.breaks_a_promise()),
            outcome,
            took_s: begun.elapsed().as_secs_f64(),
        }
    }

    async fn outcome(self, lab: &Lab, cycles: usize) -> anyhow::Result<Outcome> {
        let plan = Plan {
            binary: if self.fault.is_some() { lab.faulty.clone() } else { lab.sheaf.clone() },
            fault: self.fault,
            data_root: lab.data_root.clone(),
            data: None,
            settings: Vec::new(),
            senders: 0,
            seed: lab.seed,
        };
        match self.kind {
            Kind::Kills => kills::run(lab, plan, cycles).await,
            Kind::Calls => calls::run(lab, plan, cycles).await,
            Kind::Power => power::run(lab, plan, cycles).await,
            Kind::Errors => errors::run(lab, plan, cycles).await,
            Kind::Vendor => vendor::run(plan, cycles).await,
            Kind::Certificates => certificates::run(plan, cycles).await,
            Kind::Overload => overload::run(plan, cycles).await,
            Kind::DeadVendor => dead_vendor::run(plan, cycles).await,
            Kind::Poison => poison::run(plan, cycles).await,
            Kind::Two => two::run(plan, cycles).await,
            Kind::Clocks => clocks::run(lab, plan, cycles).await,
            Kind::Duplicates => duplicates::run(plan, cycles).await,
            Kind::Stop => stop::run(lab, plan, cycles).await,
            Kind::Migrations => migrations::run(lab, plan, cycles).await,
            Kind::OldAndNew => old::run(lab, plan, cycles).await,
            Kind::Rolling => stop::rolling(lab, plan, cycles).await,
            Kind::Zombie => zombie::run(plan.with("SHEAF_LEASE_MS", zombie::LEASE.as_millis()), cycles).await,
            Kind::PostgresZombie => {
                zombie::on_postgres(plan.with("SHEAF_LEASE_MS", zombie::LEASE.as_millis()), cycles).await
            }
            Kind::PostgresKills => postgres::kills(lab, plan, cycles).await,
            Kind::PostgresAway => postgres::away(lab, plan, cycles).await,
            Kind::PostgresStandby => standby::run(lab, plan, cycles).await,
            Kind::Nodes => {
                nodes::run(lab, plan.with("SHEAF_LEASE_MS", nodes::LEASE.as_millis()), cycles).await
            }
            Kind::Switch => switch::run(lab, plan.with("SHEAF_WATCH_MS", switch::WATCH_MS), cycles).await,
        }
    }
}
