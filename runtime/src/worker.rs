//! Takes claimed runs and executes them, each in a task of its own; the queue hands out no more than there are slots.

use std::{sync::Arc, time::Duration};

use sheaf_bundles::{
    event::Event,
    id::{EventId, RunId, VersionId},
    plan::Plan,
    run::RunState,
    verdict::{Class, Disposition},
};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::{
    executor::{Attempt, Executor},
    live::{Catalogue, VersionError},
    metrics::Metrics,
    queue::{
        Claims,
        claim::Claim,
        types::{ClaimedEvent, Outcome, Settle},
    },
    stop::Stop,
    storage::store::Store,
};

/// How long a run is held when the store cannot be read, milliseconds.
const STORE_PAUSE_MS: u64 = 1_000;

/// How long a run is left to the nodes that can compile its version, milliseconds.
const ELSEWHERE_PAUSE_MS: i64 = 30_000;
/// A version that this sheaf does not compile is taken for one of a newer sheaf, to which the other nodes have been brought,
/// until it is this old, milliseconds: one hour. After that its runs are parked.
const UPDATE_MS_MAX: i64 = 3_600_000;

/// What a worker needs.
pub struct Worker {
    /// The plans.
    pub catalogue: Arc<Catalogue>,
    /// Where plans of earlier versions are.
    pub store: Store,
    /// Executes one attempt.
    pub executor: Executor,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Worker {
    /// Until `stop` fires: takes claims. Then waits for those in hand.
    pub async fn run(self, mut claims: Claims, mut stop: Stop) {
        let worker = Arc::new(self);
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.ordered() => break,
                // A task that panicked has told the queue so by dropping its claim.
                Some(_) = running.join_next(), if !running.is_empty() => {}
                claim = claims.recv() => {
                    let Some(claim) = claim else { break };
                    let worker = worker.clone();
                    // In a box: the task of an attempt is four kilobytes, and would be copied from place to place.
                    running.spawn(Box::pin(async move { worker.execute(claim).await }));
                }
            }
        }
        // Claims still in the channel go back: they are dropped, and due again.
        drop(claims);
        while running.join_next().await.is_some() {}
    }

    async fn execute(&self, claim: Claim) {
        let settle = match self.prepare(&claim).await {
            Ok((plan, state)) => {
                let attempt = Attempt {
                    seed: claim.run.0.unsigned_abs() ^ u64::from(claim.attempt),
                    lease_end_ms: &|| claim.lease_end_ms(),
                    pass: &claim.pass,
                };
                let settle = self.executor.attempt(&plan, state, attempt).await;
                self.tell(&claim, &plan, &settle);
                settle
            }
            Err(NotRunnable::Later(error)) => {
                warn!(run = %claim.run, %error, "the run waits");
                // Given back, it is due at once; a store that cannot be read would be asked without end.
                tokio::time::sleep(Duration::from_millis(STORE_PAUSE_MS)).await;
                return;
            }
            Err(NotRunnable::Elsewhere(reason)) => {
                info!(run = %claim.run, reason, "the run is left to a node of a newer sheaf");
                let due_ms = self.executor.clock.now_ms() + ELSEWHERE_PAUSE_MS;
                let outcome = Outcome::Released { due_ms };
                Settle::unsent(outcome)
            }
            Err(NotRunnable::Never(reason)) => {
                warn!(run = %claim.run, reason, "run parked");
                let state = claim.state.clone().unwrap_or_default();
                let outcome = Outcome::Parked { reason, state };
                Settle::unsent(outcome)
            }
        };
        self.metrics.settled(&settle);
        claim.settle(settle);
    }

    async fn prepare(&self, claim: &Claim) -> Result<(Arc<Plan>, RunState), NotRunnable> {
        let plan = self.plan(claim.version).await?;
        let event = event(claim, &plan, self.executor.clock.now_ms())?;
        #[cfg(feature = "faulty")]
        crate::faulty::panic_if_poisonous(&event);
        Ok((plan, state(event, claim.state.as_deref(), claim.generation)?))
    }

    async fn plan(&self, version: VersionId) -> Result<Arc<Plan>, NotRunnable> {
        let now_ms = self.executor.clock.now_ms();
        self.catalogue.plan(version, &self.store).await.map_err(|error| not_runnable(error, now_ms))
    }

    fn tell(&self, claim: &Claim, plan: &Plan, settle: &Settle) {
        log(claim.run, &plan.bundle, claim.attempt + 1, settle);
        for delivery in &settle.deliveries {
            self.metrics.delivered(&plan.bundle, delivery);
        }
    }
}

/// Tells the log how an attempt ended. A vendor's own words are for history: they quote phone numbers.
fn log(run: RunId, bundle: &str, attempt: u32, settle: &Settle) {
    let refusal = settle.deliveries.last().map(|delivery| delivery.class);
    let refusal = refusal.filter(|class| class.disposition() != Disposition::Delivered).map(Class::name);
    match (&settle.outcome, refusal) {
        (Outcome::Delivered | Outcome::Onward { .. } | Outcome::Released { .. }, _) => {}
        (Outcome::DeliveredInPart { .. }, _) => {
            warn!(%run, bundle, attempt, "run delivered although a step failed")
        }
        (Outcome::Retry { due_ms, .. }, class) => {
            info!(%run, bundle, attempt, due_ms, class, "run will be tried again")
        }
        (Outcome::Parked { .. }, Some(class)) => warn!(%run, bundle, attempt, class, "run parked"),
        (Outcome::Parked { reason, .. }, None) => warn!(%run, bundle, attempt, reason, "run parked"),
    }
}

/// Why an attempt could not begin.
enum NotRunnable {
    /// The store cannot be read now: the claim goes back.
    Later(String),
    /// A node of a newer sheaf can.
    Elsewhere(String),
    /// It never will: the run is parked with this reason.
    Never(String),
}

fn not_runnable(error: VersionError, now_ms: i64) -> NotRunnable {
    let text = error.to_string();
    match error {
        VersionError::Queue(_) => NotRunnable::Later(text),
        VersionError::Artefact { version, .. } if now_ms - version.time_ms() < UPDATE_MS_MAX => {
            NotRunnable::Elsewhere(text)
        }
        VersionError::Artefact { .. } | VersionError::Unknown(_) => NotRunnable::Never(text),
    }
}

/// A young event that this sheaf does not read is taken for one that a newer sheaf stored, as its versions are.
fn unreadable(event: EventId, why: &str, now_ms: i64) -> NotRunnable {
    match now_ms - event.time_ms() < UPDATE_MS_MAX {
        true => NotRunnable::Elsewhere(why.to_owned()),
        false => NotRunnable::Never(why.to_owned()),
    }
}

/// What the last attempt left. A run that was parked before its first attempt could begin left nothing: it begins.
fn state(event: Arc<Event>, stored: Option<&[u8]>, generation: u32) -> Result<RunState, NotRunnable> {
    match stored.filter(|bytes| !bytes.is_empty()) {
        Some(bytes) => {
            RunState::from_bytes(event, bytes).map_err(|error| NotRunnable::Never(error.to_string()))
        }
        None => Ok(RunState::new(event, generation)),
    }
}

/// The event, decoded again by the manifest of the run's own version when it was not handed over in memory.
fn event(claim: &Claim, plan: &Plan, now_ms: i64) -> Result<Arc<Event>, NotRunnable> {
    match &claim.event {
        ClaimedEvent::Decoded(event) => Ok(event.clone()),
        ClaimedEvent::Unreadable { id, why } => Err(unreadable(*id, why, now_ms)),
        ClaimedEvent::Stored { id, connection, received } => {
            let decoded = sheaf_connectors::decode::decode(plan.hook(), received).map_err(|error| {
                NotRunnable::Never(format!("the stored event cannot be decoded: {error}"))
            })?;
            Ok(Arc::new(Event {
                id: *id,
                connection: connection.clone(),
                received_ms: received.received_ms,
                fields: decoded.fields,
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        queue::delivery::{Answer, DeliveryRecord, SentRequest},
        telemetry::testing::logged,
    };

    #[test]
    fn a_version_that_does_not_compile_is_left_to_newer_nodes_for_the_time_of_an_update() {
        let version = VersionId(sheaf_bundles::id::compose(1_000_000, 1, 0));
        let error = || VersionError::Artefact { version, why: "an operator it does not know".to_owned() };
        assert!(matches!(not_runnable(error(), 1_000_000 + UPDATE_MS_MAX - 1), NotRunnable::Elsewhere(_)));
        assert!(matches!(not_runnable(error(), 1_000_000 + UPDATE_MS_MAX), NotRunnable::Never(_)));
        assert!(matches!(not_runnable(VersionError::Unknown(version), 1_000_000), NotRunnable::Never(_)));
    }

    #[test]
    fn an_event_that_cannot_be_read_is_left_to_newer_nodes_for_the_time_of_an_update() {
        let event = EventId(sheaf_bundles::id::compose(1_000_000, 1, 0));
        let of = |now_ms| unreadable(event, "it has another form", now_ms);
        assert!(matches!(of(1_000_000 + UPDATE_MS_MAX - 1), NotRunnable::Elsewhere(_)));
        assert!(
            matches!(of(1_000_000 + UPDATE_MS_MAX), NotRunnable::Never(why) if why == "it has another form")
        );
    }

    #[test]
    fn a_run_parked_before_its_first_attempt_begins_when_it_is_replayed() {
        let event = || {
            let fields = Default::default();
            Arc::new(Event { id: EventId(1), connection: Arc::from("calls"), received_ms: 0, fields })
        };
        for stored in [None, Some(&[][..])] {
            assert!(
                state(event(), stored, 2).is_ok_and(|state| state.generation == 2 && state.done.is_empty())
            );
        }
        assert!(matches!(state(event(), Some(b"{"), 0), Err(NotRunnable::Never(_))));
    }

    #[test]
    fn what_a_vendor_said_is_not_in_the_log_and_what_we_say_is() {
        let said = "Invalid phone 79990000001";
        let delivery = DeliveryRecord {
            step: "send".to_owned(),
            generation: 0,
            probe: false,
            started_ms: 0,
            took_ms: 1,
            request: SentRequest::Hash(String::new()),
            answer: Answer::Response { status: 200, body: None },
            class: Class::BadRequest,
            message: Some(said.to_owned()),
        };
        let parked = |reason: &str, deliveries| {
            let outcome = Outcome::Parked { reason: reason.to_owned(), state: Vec::new() };
            let settle = Settle { deliveries, ..Settle::unsent(outcome) };
            logged(false, || log(RunId(7), "calls", 1, &settle))
        };
        let refused = parked(said, vec![delivery]);
        assert!(refused.contains("bad_request") && !refused.contains("7999"), "{refused}");
        let ours = parked("`orderId` is empty", Vec::new());
        assert!(ours.contains("`orderId` is empty"), "{ours}");
    }
}
