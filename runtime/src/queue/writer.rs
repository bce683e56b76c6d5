//! The single writer: gathers what arrived while the last commit was syncing, commits it as one turn, hands out the results.

mod flight;
pub(super) mod gathered;
#[cfg(test)]
mod tests;
mod wait;

use std::{collections::HashMap, sync::Arc, time::Duration};

use sheaf_bundles::id::RunId;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};

use self::{
    flight::InFlight,
    gathered::{Command, Gathered, answer_all, answer_refused, refuse_publishes},
};
use super::{
    Health, QueueError, Settings,
    backend::{Backend, BackendError, Batch, BillRow, CLAIM_MAX, Committed, Failure, GateNote, SettleRow},
    claim::{Claim, Ended},
    gates::Gates,
    stats::Stats,
};
use crate::clock::Clock;

/// Another process may have made something due; the database is asked this often, milliseconds.
const POLL_MS: i64 = 1_000;
/// Places where runs wait that are read anew at each such look, on average: it takes some microseconds for each, and what
/// this process did itself it knows.
const STANDS_A_POLL: usize = 1_000;
/// How long settles wait after a refused commit before they are tried again.
const REFUSED_PAUSE: Duration = Duration::from_millis(250);
/// How long the writer stays with a batch whose commit was not answered. After that its publishers hear that it failed,
/// which may not be true: whoever publishes again does so under the same identity.
const UNKNOWN_MAX: Duration = Duration::from_secs(10);
/// How long a writer that was told to stop tries to store how runs ended: what it cannot store is due again. A database
/// that restarts together with this node is back within seconds.
const LAST_SETTLES_MAX: Duration = Duration::from_secs(10);

/// The writer's ends of the channels.
#[derive(Debug)]
pub(super) struct Ends {
    pub commands: mpsc::Receiver<Command>,
    pub ended: mpsc::UnboundedReceiver<Ended>,
    pub ended_sender: mpsc::UnboundedSender<Ended>,
    pub claims: mpsc::Sender<Claim>,
    pub health: watch::Sender<Health>,
    pub epoch: watch::Sender<u64>,
    pub stats: Arc<Stats>,
    /// The writer was told to stop, or nobody is left to tell it.
    pub stopping: bool,
    #[cfg(test)]
    pub kill: Arc<Notify>,
}

impl Drop for Ends {
    /// A writer that was not told to stop has panicked: nothing is stored and no run is handed out any more.
    fn drop(&mut self) {
        if !self.stopping {
            let why = Arc::from("the queue's writer has ended");
            worsen(&self.health, Health::Broken(why));
        }
    }
}

/// The writer.
#[derive(Debug)]
pub(super) struct Writer<B> {
    backend: B,
    /// Another process may have made something due.
    hint: Arc<Notify>,
    batches: u64,
    ends: Ends,
    clock: Clock,
    slots: usize,
    lease_ms: i64,
    held: HashMap<RunId, InFlight>,
    gates: Gates,
    /// When what is stored about gates is read again, unix milliseconds.
    gates_ms: i64,
    /// When it is read anew where runs wait, unix milliseconds.
    stands_ms: i64,
    /// It was read at least once.
    gates_known: bool,
    /// It was said what the files say of connections: a run handed out before would pass their limits.
    limits_known: bool,
    settles: Vec<SettleRow>,
    bills: Vec<BillRow>,
    settles_since: Option<Instant>,
    /// Another run may wait for the end of one of them.
    settles_awaited: bool,
    refused_until: Option<Instant>,
    soonest_due_ms: i64,
    poll_ms: i64,
    extend_ms: i64,
}

impl<B: Backend> Writer<B> {
    pub fn new(backend: B, settings: &Settings, ends: Ends) -> Writer<B> {
        Writer {
            hint: backend.hint(),
            backend,
            batches: 0,
            ends,
            clock: settings.clock.clone(),
            slots: settings.slots,
            lease_ms: settings.lease_ms,
            held: HashMap::new(),
            gates: Gates::new(settings.slots),
            gates_ms: i64::MIN,
            stands_ms: i64::MIN,
            gates_known: false,
            limits_known: false,
            settles: Vec::new(),
            bills: Vec::new(),
            settles_since: None,
            settles_awaited: false,
            refused_until: None,
            soonest_due_ms: i64::MIN,
            poll_ms: i64::MIN,
            extend_ms: i64::MAX,
        }
    }

    /// Runs until it is told to stop or every handle is gone.
    pub async fn run(self) {
        #[cfg(test)]
        let killed = self.ends.kill.clone();
        let served = self.serve();
        #[cfg(test)]
        let served = async {
            tokio::select! { () = killed.notified() => {}, () = served => {} }
        };
        served.await;
    }

    async fn serve(mut self) {
        loop {
            let mut gathered = Gathered::default();
            let open = self.gather(&mut gathered).await;
            self.ends.stopping = !open || gathered.stop.is_some();
            if let Some((limits, answer)) = gathered.limits.take() {
                self.gates.limit(limits);
                self.limits_known = true;
                let _ = answer.send(());
            }
            self.turn(&mut gathered).await;
            self.activate(&mut gathered).await;
            if self.ends.stopping {
                self.store_last_settles().await;
                self.backend.close().await;
                if let Some(answer) = gathered.stop {
                    let _ = answer.send(());
                }
                return;
            }
        }
    }

    /// Tries again what the last turn could not store, with what has ended meanwhile.
    async fn store_last_settles(&mut self) {
        let until = Instant::now() + LAST_SETTLES_MAX;
        while !self.settles.is_empty() && self.broken().is_none() && Instant::now() < until {
            tokio::time::sleep(REFUSED_PAUSE).await;
            self.drain_ended();
            self.turn(&mut Gathered::default()).await;
        }
        if !self.settles.is_empty() {
            let runs = self.settles.len();
            tracing::error!(runs, "how these runs ended could not be stored: they are due again");
        }
    }

    async fn turn(&mut self, gathered: &mut Gathered) {
        if let Some(message) = self.broken() {
            self.refused_until = Some(Instant::now() + REFUSED_PAUSE);
            return answer_refused(gathered, &message);
        }
        let now_ms = self.clock.now_ms();
        if let Err(error) = self.read_gates(now_ms).await {
            return self.refused(gathered, &error);
        }
        let extended = self.take_extensions(now_ms);
        let slots = self.free_slots();
        let look = now_ms >= self.soonest_due_ms.min(self.poll_ms);
        let out = slots > 0 && now_ms >= self.gates.wake_ms(now_ms);
        let (breakers, failing) = (self.gates.changes(), self.gates.failing());
        let lease_end_ms = now_ms + self.lease_ms;
        self.batches += 1;
        let batch = Batch {
            number: self.batches,
            now_ms,
            lease_end_ms,
            extended: &extended,
            settles: &self.settles,
            bills: &self.bills,
            claim_max: if look { slots.min(CLAIM_MAX) } else { 0 },
            slots,
            gates: &self.gates,
            breakers: &breakers,
            failing: &failing,
            publishes: &gathered.publishes,
            probe: self.refused_until.is_some(),
        };
        let idle = !batch.probe
            && batch.extended.is_empty()
            && batch.settles.is_empty()
            && batch.publishes.is_empty()
            && batch.breakers.is_empty()
            && batch.failing.is_empty()
            && batch.claim_max == 0
            && !out;
        if idle {
            // Whoever held the lease that was to be extended may have settled long ago.
            self.renew(now_ms, lease_end_ms);
            answer_all(&mut gathered.flushes, || Ok(()));
            return;
        }
        let claim_max = batch.claim_max;
        let begun = Instant::now();
        match commit(&mut self.backend, &batch, &self.ends.health).await {
            Ok(committed) => {
                let sizes = (gathered.publishes.len(), self.settles.len(), committed.claimed.len());
                self.ends.stats.committed(sizes, begun.elapsed());
                self.gates.kept(&breakers);
                if !failing.is_empty() {
                    self.gates.paused(&failing);
                    self.gates_ms = i64::MIN;
                }
                self.committed(gathered, committed, claim_max, now_ms, lease_end_ms);
            }
            Err(error) => self.refused(gathered, &error),
        }
    }

    /// Other processes pause and resume, and break and mend. What was read once holds while it cannot be read again: whether
    /// the database is there is the turn's to find out.
    async fn read_gates(&mut self, now_ms: i64) -> Result<(), BackendError> {
        if now_ms < self.gates_ms {
            return Ok(());
        }
        let stands = now_ms >= self.stands_ms;
        match self.backend.gates(stands).await {
            Ok(stored) => {
                self.gates.stored(stored, now_ms);
                self.gates_known = true;
                if stands {
                    let polls = 1 + self.gates.stands() / STANDS_A_POLL;
                    self.stands_ms = now_ms + POLL_MS * i64::try_from(polls).unwrap_or(i64::MAX / POLL_MS);
                }
            }
            Err(error) if self.gates_known => {
                tracing::debug!(error = %error.message, "the gates cannot be read now");
            }
            Err(error) => return Err(error),
        }
        self.gates_ms = now_ms + POLL_MS;
        Ok(())
    }

    fn committed(
        &mut self,
        gathered: &mut Gathered,
        mut committed: Committed,
        claim_max: usize,
        now_ms: i64,
        lease_end_ms: i64,
    ) {
        self.settles.clear();
        self.bills.clear();
        self.settles_since = None;
        self.settles_awaited = false;
        self.tell_health(gathered, committed.full.take());
        self.tell_epoch(committed.epoch);
        self.note_due(committed.soonest_due_ms, claim_max, now_ms);
        self.forget(std::mem::take(&mut committed.stale));
        self.renew(now_ms, lease_end_ms);
        self.note_behind(&mut committed, claim_max, now_ms);
        let probes = committed.probes;
        for row in committed.claimed {
            self.hand_out(row, &probes, now_ms, lease_end_ms);
        }
        let publishes = gathered.publishes.drain(..).zip(gathered.publish_answers.drain(..));
        for ((publish, answer), row) in publishes.zip(committed.published) {
            let published = self.published(publish, row, now_ms, lease_end_ms);
            // Whoever asked may have gone away; the event is stored all the same.
            let _ = answer.send(Ok(published));
        }
        answer_all(&mut gathered.flushes, || Ok(()));
    }

    /// On a full disk what was accepted is settled, and nothing new is taken.
    fn tell_health(&mut self, gathered: &mut Gathered, full: Option<String>) {
        self.refused_until = full.as_ref().map(|_| Instant::now() + REFUSED_PAUSE);
        let health = match full.map(Arc::from) {
            None => Health::Ready,
            Some(why) => {
                refuse_publishes(gathered, &why);
                Health::Failing(why)
            }
        };
        self.ends.health.send_if_modified(|now| std::mem::replace(now, health.clone()) != health);
    }

    fn tell_epoch(&mut self, epoch: u64) {
        if self.ends.epoch.send_if_modified(|now| std::mem::replace(now, epoch) != epoch) {
            // A pause holds the new versions too.
            (self.gates_ms, self.stands_ms) = (i64::MIN, i64::MIN);
        }
    }

    /// A turn that has looked for runs knows when the next is due; another only of those it has put there.
    fn note_due(&mut self, soonest_due_ms: Option<i64>, claim_max: usize, now_ms: i64) {
        let soonest_ms = soonest_due_ms.unwrap_or(i64::MAX);
        if claim_max == 0 {
            self.soonest_due_ms = self.soonest_due_ms.min(soonest_ms);
        } else {
            self.soonest_due_ms = soonest_ms;
            self.poll_ms = now_ms + POLL_MS;
        }
    }

    /// Settles and longer leases that came too late: the runs are somebody else's now.
    fn forget(&mut self, stale: Vec<(RunId, u32)>) {
        self.ends.stats.stale(stale.len());
        for (run, fence) in stale {
            if self.held.get(&run).is_some_and(|held| held.row.fence == fence)
                && let Some(held) = self.held.remove(&run)
            {
                self.freed(&held);
            }
        }
    }

    /// What the turn has put and found behind gates, whether more would have come out, and what is left of budgets.
    fn note_behind(&mut self, committed: &mut Committed, claim_max: usize, now_ms: i64) {
        for seen in committed.behind.drain(..) {
            match seen {
                GateNote::Put(stand) => self.gates.put(stand, now_ms),
                GateNote::Looked { stand, again_ms } => self.gates.looked(stand, again_ms),
                GateNote::Elsewhere { gate, again_ms } => self.gates.elsewhere(gate, again_ms, now_ms),
            }
        }
        if claim_max > 0 {
            self.gates.claimed(committed.crowded);
        }
        for (gate, accounts) in committed.accounts.drain(..) {
            self.gates.spent(gate, accounts, now_ms);
        }
    }

    /// Nothing was stored: publishers hear it at once, settles are kept and tried again.
    fn refused(&mut self, gathered: &mut Gathered, error: &BackendError) {
        let message: Arc<str> = Arc::from(error.message.as_str());
        tell(&self.ends.health, error);
        self.refused_until = Some(Instant::now() + REFUSED_PAUSE);
        answer_refused(gathered, &message);
    }

    /// Why nothing may be written any more.
    fn broken(&self) -> Option<Arc<str>> {
        match &*self.ends.health.borrow() {
            Health::Broken(message) => Some(message.clone()),
            Health::Ready | Health::Failing(_) => None,
        }
    }

    async fn activate(&mut self, gathered: &mut Gathered) {
        for (activation, answer) in gathered.activations.drain(..) {
            if let Some(message) = self.broken() {
                let _ = answer.send(Err(QueueError::Storage(message)));
                continue;
            }
            let result = self.backend.activate(&activation, self.clock.now_ms()).await;
            (self.gates_ms, self.stands_ms) = (i64::MIN, i64::MIN);
            if let Err(error) = &result
                && error.failure == Failure::Broken
            {
                tell(&self.ends.health, error);
            }
            let _ = answer.send(result.map_err(|error| QueueError::Storage(Arc::from(error.message))));
        }
    }
}

/// Commits a batch, staying with it while its answer is lost.
async fn commit<B: Backend>(
    backend: &mut B,
    batch: &Batch<'_>,
    health: &watch::Sender<Health>,
) -> Result<Committed, BackendError> {
    // Counted from the first lost answer: the commit itself may have taken longer.
    let mut until = None;
    loop {
        match backend.commit(batch).await {
            Err(error)
                if error.failure == Failure::Unknown
                    && Instant::now() < *until.get_or_insert_with(|| Instant::now() + UNKNOWN_MAX) =>
            {
                tell(health, &error);
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
            other => return other,
        }
    }
}

/// Says that the database does not commit.
fn tell(health: &watch::Sender<Health>, error: &BackendError) {
    let message: Arc<str> = Arc::from(error.message.as_str());
    tracing::error!(error = %error.message, failure = ?error.failure, "the database refused a commit");
    let health_now = match error.failure {
        Failure::Broken => Health::Broken(message),
        Failure::Refused | Failure::Unknown => Health::Failing(message),
    };
    worsen(health, health_now);
}

/// What is broken stays so.
fn worsen(health: &watch::Sender<Health>, to: Health) {
    health.send_modify(|now| {
        if !matches!(now, Health::Broken(_)) {
            *now = to;
        }
    });
}
