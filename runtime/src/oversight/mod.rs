//! Looks at the queue every few seconds, apart from the way of events: what waits, what is set aside, whether the ledger
//! balances. The metrics, `/healthz` and those who must be told get what it saw.

mod findings;
pub mod lanes;
pub mod recount;
mod show;

use std::sync::Arc;

use sheaf_bundles::alerts::message::Kind;
use tokio::sync::watch;
use tracing::{error, warn};

use self::{lanes::Lanes, recount::Recount};
use crate::{
    alerts::teller::Teller,
    clock::Clock,
    queue::{
        Health, Queue, QueueError,
        gate::{BudgetLeft, ClosedGate},
        history::{LedgerLine, LedgerMismatch},
        observe::{Horizon, PARKED_VERSIONS_MAX, Parked, ParkedExample, WAITING_ROWS_MAX, Waiting},
    },
    spool::Spool,
    stop::Stop,
};

/// How often it looks, milliseconds.
pub const LOOK_MS: i64 = 5_000;
/// Examples read of each group of parked runs.
const EXAMPLES_MAX: u32 = 3;

/// What is read by itself at a look, and may fail by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The ledger.
    Ledger,
    /// Who waits.
    Waiting,
    /// Closed gates.
    Gates,
    /// What is left of budgets.
    Budgets,
    /// Parked runs.
    Parked,
    /// The oldest open snapshot.
    Snapshot,
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 6] =
        [Part::Ledger, Part::Waiting, Part::Gates, Part::Budgets, Part::Parked, Part::Snapshot];

    /// What can only be found with it.
    fn kinds(self) -> &'static [Kind] {
        match self {
            Part::Ledger => &[Kind::LedgerBroken],
            Part::Waiting => &[Kind::WaitingLong],
            Part::Gates => {
                &[Kind::AuthorisationBroken, Kind::ConnectionClosed, Kind::QuotaExhausted, Kind::BundlePaused]
            }
            Part::Budgets => &[Kind::QuotaExhausted],
            Part::Parked => &[Kind::RunParked, Kind::AuthorisationBroken],
            Part::Snapshot => &[Kind::SnapshotOld],
        }
    }
}

/// The oldest transaction or snapshot that is open in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Which, and whose.
    pub horizon: Horizon,
    /// When it was first seen, unix milliseconds: the database tells its age to few roles.
    pub since_ms: i64,
}

impl Snapshot {
    /// As it was seen now, after it was `known`.
    fn seen(known: Option<Snapshot>, horizon: Horizon, now_ms: i64) -> Snapshot {
        let same = known.filter(|known| known.horizon.xid == horizon.xid);
        Snapshot { horizon, since_ms: same.map_or(now_ms, |known| known.since_ms) }
    }
}

/// What it saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// When, unix milliseconds.
    pub at_ms: i64,
    /// Why something could not be read, when it could not.
    pub blind: Option<String>,
    /// What could not be read; it is here as an earlier look saw it.
    pub unread: Vec<Part>,
    /// The ledger and whether its equations hold.
    pub ledger: Vec<LedgerLine>,
    /// Pending runs by connection and what they wait for.
    pub waiting: Vec<Waiting>,
    /// Gates that hold runs back.
    pub gates: Vec<ClosedGate>,
    /// What is left of budgets that something is spent of.
    pub budgets: Vec<BudgetLeft>,
    /// Parked runs by version and class.
    pub parked: Vec<(Parked, Vec<ParkedExample>)>,
    /// There are more groups of parked runs than were looked at.
    pub parked_more: bool,
    /// The oldest open snapshot; `None` where there is none, as in a file.
    pub snapshot: Option<Snapshot>,
    /// What the last whole recount found.
    pub mismatches: Vec<LedgerMismatch>,
    /// When the last whole recount ended, unix milliseconds.
    pub recounted_ms: Option<i64>,
    /// The queue cannot commit.
    pub failing: bool,
    /// What is kept in this node's own files, bytes: while the queue fails, and until all of it is in the database.
    /// `None` where requests are not kept: they are refused.
    pub spooled_bytes: Option<u64>,
    /// What is told of right now, by kind.
    pub open: Vec<(Kind, usize)>,
    /// Messages being sent right now.
    pub sending: usize,
    /// Channels with messages that did not arrive at the first attempt, and how many.
    pub late: Vec<(String, usize)>,
}

impl Seen {
    /// Connections whose ledger does not balance, by the equations or by the rows.
    pub fn unbalanced(&self) -> Vec<&str> {
        let equations = self.ledger.iter().filter(|line| !(line.events_balance && line.decisions_balance));
        let mut names: Vec<&str> = equations.map(|line| line.connection.as_str()).collect();
        names.extend(self.mismatches.iter().map(|mismatch| mismatch.connection.as_str()));
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Returns when the queue can store nothing any more.
async fn broke(health: &mut watch::Receiver<Health>) {
    if health.wait_for(|health| matches!(health, Health::Broken(_))).await.is_err() {
        // The queue is gone, and with it whoever could tell.
        std::future::pending().await
    }
}

/// Looks, and passes on.
pub struct Oversight {
    /// What is looked at.
    pub queue: Queue,
    /// The time.
    pub clock: Clock,
    /// Tells people.
    pub teller: Teller,
    /// Where requests wait while the database is away.
    pub spool: Option<Spool>,
    /// Where the last look is shown.
    pub seen: watch::Sender<Arc<Seen>>,
}

impl Oversight {
    /// Looks until it is told to stop.
    pub async fn run(mut self, mut stop: Stop) {
        let mut recount = Recount::load(self.queue.store()).await;
        let mut lanes = Lanes::default();
        let mut seen = Seen::default();
        let mut health = self.queue.health();
        let mut broken = false;
        loop {
            let next_ms = self.clock.now_ms() + LOOK_MS;
            self.look(&mut seen, &mut recount, &mut lanes).await;
            self.teller.tell(self.queue.store(), &mut seen).await;
            self.seen.send_replace(Arc::new(seen.clone()));
            let until = self.clock.sleep_until_ms(next_ms);
            tokio::pin!(until);
            loop {
                tokio::select! {
                    () = &mut until => break,
                    Some(sent) = self.teller.sent() => {
                        self.teller.settle(self.queue.store(), sent).await;
                        seen.sending = self.teller.sending();
                        self.seen.send_replace(Arc::new(seen.clone()));
                    }
                    // The process is about to exit: now or never.
                    () = broke(&mut health), if !broken => {
                        broken = true;
                        break;
                    }
                    () = stop.ordered() => return,
                }
            }
        }
    }

    async fn look(&self, seen: &mut Seen, recount: &mut Recount, lanes: &mut Lanes) {
        seen.at_ms = self.clock.now_ms();
        let health = self.queue.health().borrow().clone();
        seen.failing = health != Health::Ready;
        let spool = self.spool.as_ref().filter(|spool| spool.takes());
        seen.spooled_bytes = spool.filter(|_| !matches!(health, Health::Broken(_))).map(Spool::bytes);
        let (unread, blind) = self.read(seen, recount, lanes).await;
        if let Some(why) = blind.as_ref().filter(|_| seen.blind.is_none()) {
            warn!(
                why,
                ?unread,
                "not all of the queue can be looked at; some of what is shown is of an earlier look"
            );
        }
        (seen.unread, seen.blind) = (unread, blind);
    }

    /// What could not be read, and the first reason.
    async fn read(
        &self,
        seen: &mut Seen,
        recount: &mut Recount,
        lanes: &mut Lanes,
    ) -> (Vec<Part>, Option<String>) {
        let store = self.queue.store();
        // At once: when the database is away each takes its time to fail.
        let (ledger, waiting, gates, budgets, parked, horizon, recounted, lanes) = tokio::join!(
            store.ledger(),
            store.waiting(WAITING_ROWS_MAX),
            store.closed_gates(),
            store.budgets_left(),
            store.parked_groups(PARKED_VERSIONS_MAX, EXAMPLES_MAX),
            store.horizon(),
            recount.step(store, seen.at_ms),
            lanes.step(store),
        );
        let (mut unread, mut why) = (Vec::new(), None);
        // One that cannot be read hides none of the others.
        let mut note = |part: Option<Part>, read: Result<(), QueueError>| {
            if let Err(error) = read {
                unread.extend(part);
                why.get_or_insert(error.to_string());
            }
        };
        note(Some(Part::Ledger), ledger.map(|ledger| seen.ledger = ledger));
        note(Some(Part::Waiting), waiting.map(|waiting| seen.waiting = waiting));
        note(Some(Part::Gates), gates.map(|gates| seen.gates = gates));
        note(Some(Part::Budgets), budgets.map(|budgets| seen.budgets = budgets));
        let parked = parked.map(|(parked, all)| (seen.parked, seen.parked_more) = (parked, !all));
        note(Some(Part::Parked), parked);
        let snapshot = horizon.map(|horizon| {
            let known = seen.snapshot.take();
            seen.snapshot = horizon.map(|horizon| Snapshot::seen(known, horizon, seen.at_ms));
        });
        note(Some(Part::Snapshot), snapshot);
        let recounted = recounted.map(|mismatches| {
            let Some(mismatches) = mismatches else { return };
            for LedgerMismatch { connection, counter, counted, rows } in &mismatches {
                error!(connection, counter, counted, rows, "THE LEDGER DIFFERS FROM THE ROWS IT COUNTS");
            }
            (seen.mismatches, seen.recounted_ms) = (mismatches, Some(seen.at_ms));
        });
        // What the last recount found holds until the next one ends.
        note(None, recounted);
        note(None, lanes.map(|_| ()));
        (unread, why)
    }
}
