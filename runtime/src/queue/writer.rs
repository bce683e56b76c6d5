//! The single writer: gathers what arrived while the last commit was syncing, commits it as one turn, hands out the results.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use sheaf_bundles::{budget::Bill, event::Event, id::RunId};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    Health, QueueError, Settings,
    backend::{
        Backend, BackendError, Batch, BillRow, CLAIM_MAX, CRASH_PAUSE_MS, CRASHES_MAX, ClaimedRow, Committed,
        Failure, LOST_MAX, PUBLISH_MAX, PublishedRow, QueueRow, Seen, SettleRow, SettleStep,
    },
    claim::{Claim, End, Ended, Paid},
    gate::{GateId, Limit},
    gates::Gates,
    stats::Stats,
    types::{Activated, ClaimedEvent, Contact, Content, NewVersion, Outcome, Publish, Published, Settle},
};
use crate::clock::Clock;

/// How long a settle may wait for company.
const LINGER: Duration = Duration::from_millis(5);
/// Settles that are committed without waiting for more.
const SETTLES_ENOUGH: usize = 256;
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

/// Where an answer goes.
type Answer<T> = oneshot::Sender<Result<T, QueueError>>;

/// What a handle asks of the writer.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every command is the large one; a box would be an allocation per event"
)]
pub(super) enum Command {
    Publish(Publish, Answer<Published>),
    Activate(Vec<NewVersion>, Answer<Activated>),
    Limit(HashMap<GateId, Limit>, oneshot::Sender<()>),
    Flush(Answer<()>),
    Stop(oneshot::Sender<()>),
}

/// A run in flight here.
#[derive(Debug)]
struct Held {
    row: QueueRow,
    lease: Arc<AtomicI64>,
    extend_ms: i64,
    /// The gate of a broken connection that it finds out about.
    probe: Option<GateId>,
    /// What was paid for its request from its connection's budgets, and when in unix milliseconds.
    paid: Option<(i64, i64)>,
}

/// What the next turn will carry, and who waits for it.
#[derive(Debug, Default)]
struct Gathered {
    publishes: Vec<Publish>,
    publish_answers: Vec<Answer<Published>>,
    activations: Vec<(Vec<NewVersion>, Answer<Activated>)>,
    limits: Option<(HashMap<GateId, Limit>, oneshot::Sender<()>)>,
    flushes: Vec<Answer<()>>,
    stop: Option<oneshot::Sender<()>>,
}

impl Gathered {
    fn take(&mut self, command: Command) {
        match command {
            Command::Publish(publish, answer) => {
                self.publishes.push(publish);
                self.publish_answers.push(answer);
            }
            Command::Activate(versions, answer) => self.activations.push((versions, answer)),
            Command::Limit(limits, answer) => self.limits = Some((limits, answer)),
            Command::Flush(answer) => self.flushes.push(answer),
            Command::Stop(answer) => self.stop = Some(answer),
        }
    }

    fn is_empty(&self) -> bool {
        self.publishes.is_empty()
            && self.activations.is_empty()
            && self.limits.is_none()
            && self.flushes.is_empty()
            && self.stop.is_none()
    }
}

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
    held: HashMap<RunId, Held>,
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
    pub async fn run(mut self) {
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

    /// Waits until a turn is worth its commit. `false` when no handle is left.
    async fn gather(&mut self, gathered: &mut Gathered) -> bool {
        loop {
            let open = self.drain(gathered);
            if !open || !gathered.is_empty() || self.due() {
                return open;
            }
            self.wait(gathered).await;
        }
    }

    /// Takes everything that has arrived, settles last: those sent before a flush belong to it.
    fn drain(&mut self, gathered: &mut Gathered) -> bool {
        let mut open = true;
        while gathered.publishes.len() < PUBLISH_MAX && gathered.stop.is_none() {
            match self.ends.commands.try_recv() {
                Ok(command) => gathered.take(command),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    open = false;
                    break;
                }
            }
        }
        self.drain_ended();
        open
    }

    fn drain_ended(&mut self) {
        while let Ok(ended) = self.ends.ended.try_recv() {
            self.take_ended(ended);
        }
    }

    async fn wait(&mut self, gathered: &mut Gathered) {
        let linger = self.ripe_at();
        let wake_ms = if self.refused_until.is_some() { i64::MAX } else { self.wake_ms() };
        tokio::select! {
            command = self.ends.commands.recv() => if let Some(command) = command { gathered.take(command) },
            Some(ended) = self.ends.ended.recv() => self.take_ended(ended),
            () = self.clock.sleep_until_ms(wake_ms) => {}
            () = self.hint.notified() => self.look_everywhere(),
            () = async { match linger {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            } } => {}
        }
    }

    /// What another process made due may be ready, or wait with the runs of its bundle.
    fn look_everywhere(&mut self) {
        self.soonest_due_ms = i64::MIN;
        if self.gates.has_shares() && self.gates.stands() < STANDS_A_POLL {
            (self.gates_ms, self.stands_ms) = (i64::MIN, i64::MIN);
        }
    }

    /// When a turn is due by the machine's own time: settles that waited long enough, or a retry after a refusal.
    fn ripe_at(&self) -> Option<Instant> {
        match (self.refused_until, self.settles_ripen_at()) {
            (Some(until), _) => Some(until),
            (None, ripe) => ripe,
        }
    }

    /// Settles wait for company up to [`LINGER`], but not when nothing else is in flight that could join them, nor when the
    /// next of a key may wait for one of them: its runs would be so much apart.
    fn settles_ripen_at(&self) -> Option<Instant> {
        let since = self.settles_since?;
        let alone = self.held.is_empty() || self.settles.len() >= SETTLES_ENOUGH;
        Some(if alone || self.settles_awaited { since } else { since + LINGER })
    }

    fn due(&self) -> bool {
        let ripe = self.ripe_at().is_some_and(|at| at <= Instant::now());
        ripe || (self.refused_until.is_none() && self.wake_ms() <= self.clock.now_ms())
    }

    /// When the database is to be asked again: something is due and there is room for it, or it is time to look.
    fn wake_ms(&self) -> i64 {
        let due_ms = if self.free_slots() > 0 { self.ready_ms().min(self.poll_ms) } else { i64::MAX };
        due_ms.min(self.extend_ms)
    }

    /// When a run is due, behind a gate or not.
    fn ready_ms(&self) -> i64 {
        self.soonest_due_ms.min(self.gates.wake_ms(self.clock.now_ms()))
    }

    fn free_slots(&self) -> usize {
        let hands_out = self.limits_known && !self.ends.stopping && !self.ends.claims.is_closed();
        if hands_out { self.slots.saturating_sub(self.held.len()) } else { 0 }
    }

    fn take_ended(&mut self, Ended { run, fence, how }: Ended) {
        let Some(held) = self.held.remove(&run) else { return };
        if held.row.fence != fence {
            self.held.insert(run, held);
            self.ends.stats.stale(1);
            return;
        }
        let contact = match &how {
            End::Settled(settle) => settle.contact.map(|contact| (contact, settle.started_ms)),
            End::Panicked => None,
        };
        self.freed(&held, contact);
        if let End::Settled(settle) = &how {
            self.bill(&held, settle);
        }
        let settle = match how {
            End::Settled(settle) => settle_row(held.row, settle),
            End::Panicked => crashed_row(held.row, self.clock.now_ms()),
        };
        self.push_settle(settle);
    }

    /// A slot is free, and what its run learned about the vendor is known to the gates.
    fn freed(&mut self, held: &Held, contact: Option<(Contact, i64)>) {
        self.gates.gave(held.row.through);
        let now_ms = self.clock.now_ms();
        if let Some((Contact { through, answered }, started_ms)) = contact {
            let probe = held.probe == Some(through);
            self.gates.answered(through, answered, started_ms, probe, now_ms);
        }
        if let Some(gate) = held.probe {
            self.gates.probing(gate, 0);
        }
    }

    /// Notes what became of a request that was paid for, if that changes anything.
    fn bill(&mut self, held: &Held, settle: &Settle) {
        let Some((paid, paid_ms)) = held.paid else { return };
        let through = held.row.through;
        let bill = Bill { paid, paid_ms, sent: settle.sent.clone() };
        if self.gates.budgets(through).is_some_and(|limit| bill.counts(&limit.budgets)) {
            self.gates.look_into(through);
            self.bills.push(BillRow { run: held.row.run, fence: held.row.fence, gate: through, bill });
        }
    }

    fn push_settle(&mut self, settle: SettleRow) {
        // Settles are written before the claim of the same turn, which may then take the run again.
        let now_ms = self.clock.now_ms();
        let next_ms = settle.step.next_due_ms(now_ms);
        self.settles_awaited |= next_ms.is_none() && settle.row.lane.is_some();
        // The next of its lane comes in its place.
        if let Some(due_ms) = next_ms.or_else(|| settle.row.lane.map(|_| now_ms)) {
            self.soonest_due_ms = self.soonest_due_ms.min(due_ms);
        }
        self.settles_since.get_or_insert_with(Instant::now);
        self.settles.push(settle);
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
        let breakers = self.gates.changes();
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
            publishes: &gathered.publishes,
            probe: self.refused_until.is_some(),
        };
        let idle = !batch.probe
            && batch.extended.is_empty()
            && batch.settles.is_empty()
            && batch.publishes.is_empty()
            && batch.breakers.is_empty()
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

    /// Claims whose lease has run a third; they are extended in this turn.
    fn take_extensions(&mut self, now_ms: i64) -> Vec<(RunId, u32)> {
        if now_ms < self.extend_ms {
            return Vec::new();
        }
        let old = self.held.iter().filter(|(_, held)| held.extend_ms <= now_ms);
        old.map(|(run, held)| (*run, held.row.fence)).collect()
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
        self.refused_until = committed.full.as_ref().map(|_| Instant::now() + REFUSED_PAUSE);
        let health = match committed.full.take().map(Arc::from) {
            None => Health::Ready,
            Some(why) => {
                refuse_publishes(gathered, &why);
                Health::Failing(why)
            }
        };
        self.ends.health.send_if_modified(|now| std::mem::replace(now, health.clone()) != health);
        let moved = self
            .ends
            .epoch
            .send_if_modified(|epoch| std::mem::replace(epoch, committed.epoch) != committed.epoch);
        if moved {
            // A pause holds the new versions too.
            (self.gates_ms, self.stands_ms) = (i64::MIN, i64::MIN);
        }
        self.ends.stats.stale(committed.stale.len());

        let soonest_ms = committed.soonest_due_ms.unwrap_or(i64::MAX);
        if claim_max == 0 {
            self.soonest_due_ms = self.soonest_due_ms.min(soonest_ms);
        } else {
            self.soonest_due_ms = soonest_ms;
            self.poll_ms = now_ms + POLL_MS;
        }
        for (run, fence) in committed.stale {
            if self.held.get(&run).is_some_and(|held| held.row.fence == fence)
                && let Some(held) = self.held.remove(&run)
            {
                self.freed(&held, None);
            }
        }
        self.renew(now_ms, lease_end_ms);
        for seen in committed.behind {
            match seen {
                Seen::Put(stand) => self.gates.put(stand, now_ms),
                Seen::Looked { stand, again_ms } => self.gates.looked(stand, again_ms),
                Seen::Elsewhere { gate, again_ms } => self.gates.elsewhere(gate, again_ms, now_ms),
            }
        }
        if claim_max > 0 {
            self.gates.claimed(committed.crowded);
        }
        for (gate, accounts) in committed.accounts {
            self.gates.spent(gate, accounts, now_ms);
        }
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

    /// Notes the extended leases and finds the next one to extend.
    fn renew(&mut self, now_ms: i64, lease_end_ms: i64) {
        if now_ms < self.extend_ms {
            return;
        }
        self.extend_ms = i64::MAX;
        for held in self.held.values_mut() {
            if held.extend_ms <= now_ms {
                held.lease.store(lease_end_ms, Ordering::Relaxed);
                if let Some(gate) = held.probe {
                    self.gates.probing(gate, lease_end_ms);
                }
                held.extend_ms = now_ms + self.lease_ms / 3;
            }
            self.extend_ms = self.extend_ms.min(held.extend_ms);
        }
    }

    fn published(
        &mut self,
        publish: Publish,
        row: PublishedRow,
        now_ms: i64,
        lease_end_ms: i64,
    ) -> Published {
        match row {
            PublishedRow::Accepted { event, runs, handed } => {
                if let Content::Event(accepted) = publish.content
                    && !handed.is_empty()
                {
                    let shared = Arc::new(Event { id: event, ..accepted.event });
                    for row in handed {
                        self.give(
                            row,
                            ClaimedEvent::Decoded(shared.clone()),
                            None,
                            None,
                            now_ms,
                            lease_end_ms,
                        );
                    }
                }
                Published::Accepted { event, runs }
            }
            PublishedRow::Duplicate { of } => Published::Duplicate { of },
            PublishedRow::Quarantined { event } => Published::Quarantined { event },
            PublishedRow::StaleEpoch { epoch } => Published::StaleEpoch { epoch, publish: Box::new(publish) },
        }
    }

    fn hand_out(&mut self, claimed: ClaimedRow, probes: &[(RunId, GateId)], now_ms: i64, lease_end_ms: i64) {
        let ClaimedRow { row, event, state } = claimed;
        let probe = probes.iter().find(|(run, _)| *run == row.run).map(|(_, gate)| *gate);
        if row.lost >= LOST_MAX {
            let reason = format!(
                "its lease was lost {} times: the process died or stood still while it ran",
                row.lost
            );
            let step = SettleStep::Parked { reason, state: None };
            let through = row.through;
            self.push_settle(SettleRow { row, step, through, started_ms: now_ms, deliveries: Vec::new() });
            if let Some(gate) = probe {
                self.gates.probe_noted(gate, lease_end_ms);
                self.gates.probing(gate, 0);
            }
            return;
        }
        self.give(row, event, state, probe, now_ms, lease_end_ms);
    }

    fn give(
        &mut self,
        row: QueueRow,
        event: ClaimedEvent,
        state: Option<Vec<u8>>,
        probe: Option<GateId>,
        now_ms: i64,
        lease_end_ms: i64,
    ) {
        self.gates.took(row.through);
        if let Some(gate) = probe {
            self.gates.probe_noted(gate, lease_end_ms);
        }
        let lease = Arc::new(AtomicI64::new(lease_end_ms));
        let extend_ms = now_ms + self.lease_ms / 3;
        self.extend_ms = self.extend_ms.min(extend_ms);
        // Such a run came out from behind its connection's gate, and so was paid for.
        let paid = self.gates.budgets(row.through).map(|limit| (limit.cost, now_ms));
        let budgeted = self.gates.budgeted().clone();
        self.held.insert(row.run, Held { row, lease: lease.clone(), extend_ms, probe, paid });
        let claim = Claim {
            run: row.run,
            version: row.version,
            event,
            attempt: row.attempt,
            generation: row.generation,
            state,
            paid: Paid { through: paid.map(|_| row.through), budgeted },
            fence: row.fence,
            lease,
            ended: Some(self.ends.ended_sender.clone()),
        };
        // There is room for every slot. Nobody listens while the node stops: the claim is dropped and so released.
        let _ = self.ends.claims.try_send(claim);
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
        for (versions, answer) in gathered.activations.drain(..) {
            if let Some(message) = self.broken() {
                let _ = answer.send(Err(QueueError::Storage(message)));
                continue;
            }
            let result = self.backend.activate(&versions, self.clock.now_ms()).await;
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

fn answer_refused(gathered: &mut Gathered, message: &Arc<str>) {
    refuse_publishes(gathered, message);
    answer_all(&mut gathered.flushes, || Err(QueueError::Storage(message.clone())));
}

fn refuse_publishes(gathered: &mut Gathered, message: &Arc<str>) {
    gathered.publishes.clear();
    answer_all(&mut gathered.publish_answers, || Err(QueueError::Storage(message.clone())));
}

fn answer_all<T>(answers: &mut Vec<Answer<T>>, answer: impl Fn() -> Result<T, QueueError>) {
    for waiting in answers.drain(..) {
        let _ = waiting.send(answer());
    }
}

fn settle_row(row: QueueRow, Settle { outcome, started_ms, deliveries, contact, .. }: Settle) -> SettleRow {
    let through = match (&outcome, contact) {
        (Outcome::Onward { through, .. }, _) => *through,
        (_, Some(contact)) => contact.through,
        (_, None) => row.through,
    };
    let step = match outcome {
        Outcome::Delivered => SettleStep::Delivered { reason: None },
        Outcome::DeliveredInPart { reason } => SettleStep::Delivered { reason: Some(reason) },
        Outcome::Parked { reason, state } => SettleStep::Parked { reason, state: Some(state) },
        Outcome::Retry { due_ms, state } => SettleStep::Retry { due_ms, state },
        Outcome::Onward { state, .. } => SettleStep::Onward { state },
        Outcome::Released { due_ms } => SettleStep::Released { due_ms },
    };
    SettleRow { row, step, through, started_ms, deliveries }
}

fn crashed_row(row: QueueRow, now_ms: i64) -> SettleRow {
    let step = if row.crashes + 1 >= CRASHES_MAX {
        let reason = format!("it panicked {CRASHES_MAX} times");
        SettleStep::Parked { reason, state: None }
    } else {
        SettleStep::Crashed { due_ms: now_ms + CRASH_PAUSE_MS }
    };
    SettleRow { row, step, through: row.through, started_ms: 0, deliveries: Vec::new() }
}

#[cfg(test)]
mod tests;
