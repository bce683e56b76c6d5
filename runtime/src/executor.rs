//! One attempt at a run: drives the plan, sends what it says, and tells how it ended. Decides nothing itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use blake3::Hasher;
use sheaf_bundles::{
    budget::Sent,
    plan::{After, Next, Plan},
    request::{Encoding, Exchange, Piece, Pieces, Request, TransportError, TransportErrorKind},
    retry,
    run::RunState,
    verdict::{Class, Disposition, Judgement},
};
use sheaf_connectors::{
    auth::{AuthorizeError, authorize},
    charset,
};

use crate::{
    clock::Clock,
    egress::{Egress, Outgoing},
    queue::{
        breaker::Answered,
        claim::Pass,
        delivery::{Answer, BodyText, DeliveryRecord, SentRequest},
        gate::GateId,
        types::{Contact, Contacts, Outcome, Settle},
    },
    secrets::Secrets,
};

/// How much of an answer history keeps, bytes.
pub const ANSWER_BYTES_KEPT_MAX: usize = 4 * 1024;

/// The same of an answer that later steps read: their requests can be rendered again with it.
pub const READ_BYTES_KEPT_MAX: usize = 64 * 1024;

/// An exchange ends this long before the lease of its run, milliseconds: nothing may be under way when another may take it.
pub const LEASE_MARGIN_MS: i64 = 500;
/// How long a run whose lease is over before its request is sent waits for the queue to extend it.
const LEASE_WAIT: Duration = Duration::from_secs(2);
/// How often it looks.
const LEASE_LOOK: Duration = Duration::from_millis(50);

/// How long a vendor that is busy and does not say for how long is left alone, milliseconds.
const BUSY_MS: i64 = 5_000;

/// What an attempt needs from outside.
#[derive(Clone)]
pub struct Executor {
    /// The way out.
    pub egress: Arc<Egress>,
    /// The secrets of every connection.
    pub secrets: Arc<Secrets>,
    /// The time.
    pub clock: Clock,
}

/// What a request is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To do what the step says.
    Act,
    /// To ask whether that was done.
    Ask,
}

/// What an attempt needs from its claim.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// Spreads retries: different for every run.
    pub seed: u64,
    /// When the run's lease ends, unix milliseconds, as of now: the queue extends it while the run is held.
    pub lease_end_ms: &'a (dyn Fn() -> i64 + Sync),
    /// What it may send.
    pub pass: &'a Pass,
}

impl Executor {
    /// Runs the steps that are not done, until all are, the plan says that the run waits, or it has to pass another gate first.
    pub async fn attempt(&self, plan: &Plan, mut state: RunState, attempt: Attempt<'_>) -> Settle {
        let started_ms = self.clock.now_ms();
        let mut deliveries = Vec::new();
        let mut contacts = Contacts::default();
        let mut sent = None;
        let outcome = loop {
            let next = plan.next(&state);
            if let Next::Send { step, .. } | Next::Ask { step, .. } = &next {
                let through = GateId::of_step(plan, *step);
                if !attempt.pass.covers(through, sent.is_some()) {
                    break Outcome::Onward { through, state: state.to_bytes() };
                }
            }
            let after = match next {
                Next::Done => break delivered(plan, &state),
                Next::Fail { reason, .. } => plan.fail(&mut state, reason),
                Next::Send { step, request } => {
                    if !self.lease_holds(attempt).await {
                        break self.given_back(&state, &deliveries);
                    }
                    let (judgement, delivery) =
                        self.deliver(plan, (step, Purpose::Act), (&request, state.generation), attempt).await;
                    sent = sent.or_else(|| paid_for(plan, step, attempt.pass, &judgement, &delivery));
                    deliveries.push(delivery);
                    contacts.note(self.contact(plan, (step, Purpose::Act), &judgement));
                    plan.record(&mut state, request, &judgement, self.clock.now_ms(), attempt.seed)
                }
                Next::Ask { step, request } => {
                    if !self.lease_holds(attempt).await {
                        break self.given_back(&state, &deliveries);
                    }
                    let (judgement, delivery) =
                        self.deliver(plan, (step, Purpose::Ask), (&request, state.generation), attempt).await;
                    sent = sent.or_else(|| paid_for(plan, step, attempt.pass, &judgement, &delivery));
                    deliveries.push(delivery);
                    contacts.note(self.contact(plan, (step, Purpose::Ask), &judgement));
                    plan.record_probe(&mut state, &judgement, self.clock.now_ms(), attempt.seed)
                }
            };
            match after {
                After::Go => {}
                After::Again { due_ms } => break Outcome::Retry { due_ms, state: state.to_bytes() },
                After::Park { reason } => {
                    break Outcome::Parked { reason: reason.en, state: state.to_bytes() };
                }
            }
        };
        Settle { outcome, started_ms, deliveries, contacts, sent }
    }

    /// What an answer says about the connection of its step.
    fn contact(&self, plan: &Plan, (step, purpose): (usize, Purpose), judgement: &Judgement) -> Contact {
        let answered = answered(judgement, purpose, self.clock.now_ms());
        Contact { through: GateId::of_step(plan, step), answered }
    }

    /// Whether a request may be sent now. A claim that took longer to commit than its lease lasts comes with a lease that
    /// is over: the queue extends it in its next turn, or another process has the run.
    async fn lease_holds(&self, attempt: Attempt<'_>) -> bool {
        let holds = async {
            while self.lease_left_ms(attempt) <= 0 {
                tokio::time::sleep(LEASE_LOOK).await;
            }
        };
        tokio::time::timeout(LEASE_WAIT, holds).await.is_ok()
    }

    /// Milliseconds that an exchange still has.
    fn lease_left_ms(&self, attempt: Attempt<'_>) -> i64 {
        (attempt.lease_end_ms)() - LEASE_MARGIN_MS - self.clock.now_ms()
    }

    /// Nothing of the next step was sent; what the steps before it did is kept.
    fn given_back(&self, state: &RunState, deliveries: &[DeliveryRecord]) -> Outcome {
        if deliveries.is_empty() {
            return Outcome::Released { due_ms: 0 };
        }
        Outcome::Retry { due_ms: self.clock.now_ms(), state: state.to_bytes() }
    }

    /// One delivery: authorise, send, judge.
    async fn deliver(
        &self,
        plan: &Plan,
        (step, purpose): (usize, Purpose),
        (request, generation): (&Request, u32),
        attempt: Attempt<'_>,
    ) -> (Judgement, DeliveryRecord) {
        let started_ms = self.clock.now_ms();
        let began = Instant::now();
        let exchange = self.exchange(plan, step, request, attempt).await;
        let took_ms = u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX);
        let judgement = match purpose {
            Purpose::Act => plan.judge(step, &exchange),
            Purpose::Ask => plan.judge_probe(step, &exchange),
        };
        if judgement.class == Class::AuthRefresh {
            self.secrets.refresh();
        }
        // A question is kept as it was sent: it is not what the step sends.
        let done = purpose == Purpose::Act && judgement.class.disposition() == Disposition::Delivered;
        let record = DeliveryRecord {
            step: plan.step_names().nth(step).unwrap_or_default().to_owned(),
            generation,
            probe: purpose == Purpose::Ask,
            started_ms,
            took_ms,
            request: if done {
                SentRequest::Hash(hash(request))
            } else {
                SentRequest::Stored(Box::new(request.clone()))
            },
            answer: answer(&exchange, kept_max(done, &judgement)),
            class: judgement.class,
            message: Some(judgement.message.en.clone()).filter(|message| !message.is_empty()),
        };
        (judgement, record)
    }

    async fn exchange(&self, plan: &Plan, step: usize, request: &Request, attempt: Attempt<'_>) -> Exchange {
        let secrets =
            plan.step_connection(step).map(|connection| self.secrets.of(connection)).unwrap_or_default();
        let authorized = authorize(request, &|name| secrets.expose(name)).map_err(not_authorized)?;
        let outgoing = Outgoing {
            method: authorized.method,
            origin: request.origin.clone(),
            url: authorized.url,
            headers: authorized.headers,
            body: authorized.body,
            timeout_ms: authorized.timeout_ms,
        };
        let mut response = self.within_lease(attempt, self.egress.send(outgoing)).await?;
        // First, for a secret is looked for in UTF-8.
        charset::to_utf8(&mut response);
        secrets.scrub(&mut response);
        Ok(response)
    }

    /// Gives up when the lease is about to end. The queue extends it all the while, so that happens only when the queue
    /// cannot commit, and then another process may take the run.
    async fn within_lease(&self, attempt: Attempt<'_>, exchange: impl Future<Output = Exchange>) -> Exchange {
        let mut exchange = std::pin::pin!(exchange);
        loop {
            let left_ms = self.lease_left_ms(attempt);
            if left_ms <= 0 {
                let detail = "the lease of the run ended before the answer came".to_owned();
                return Err(TransportError { kind: TransportErrorKind::Timeout, detail });
            }
            if let Ok(done) =
                tokio::time::timeout(Duration::from_millis(left_ms.unsigned_abs()), &mut exchange).await
            {
                return done;
            }
        }
    }
}

/// The request that was paid for, once it was sent.
fn paid_for(
    plan: &Plan,
    step: usize,
    pass: &Pass,
    judgement: &Judgement,
    delivery: &DeliveryRecord,
) -> Option<Sent> {
    (pass.paid && pass.through == GateId::of_step(plan, step)).then(|| Sent {
        cost: plan.step_cost(step),
        // A question that is answered with no has been answered.
        well: judgement.class.disposition() == Disposition::Delivered
            || (delivery.probe && judgement.class == Class::NotFound),
        at_ms: delivery.started_ms,
        readings: judgement.readings.clone(),
    })
}

fn delivered(plan: &Plan, state: &RunState) -> Outcome {
    let failed: Vec<String> =
        plan.failed(state).map(|(step, reason)| format!("the step `{step}` failed: {reason}")).collect();
    match failed.as_slice() {
        [] => Outcome::Delivered,
        failed => Outcome::DeliveredInPart { reason: failed.join("; ") },
    }
}

/// What a class says about the vendor, whatever becomes of the run.
fn answered(judgement: &Judgement, purpose: Purpose, now_ms: i64) -> Answered {
    match judgement.class {
        Class::Ok
        | Class::Empty
        | Class::DuplicateOk
        | Class::PlanDenied
        | Class::BadRequest
        | Class::NotFound => Answered::Well,
        // The answer to a question that does not say yes or no is an answer all the same.
        Class::Unknown if purpose == Purpose::Ask && judgement.status.is_some_and(|status| status < 500) => {
            Answered::Well
        }
        Class::Retry | Class::AuthRefresh | Class::Unknown => Answered::Failing,
        Class::AuthBroken => Answered::Refused,
        Class::RateLimited | Class::QuotaExhausted => {
            let wait_ms =
                judgement.retry_after_ms.unwrap_or(BUSY_MS).clamp(retry::WAIT_MIN_MS, retry::WAIT_MAX_MS);
            let until_ms = now_ms + wait_ms;
            let spent = judgement.class == Class::QuotaExhausted;
            if spent { Answered::Spent { until_ms } } else { Answered::Busy { until_ms } }
        }
    }
}

fn not_authorized(error: AuthorizeError) -> TransportError {
    let kind = match error {
        AuthorizeError::Missing(_) | AuthorizeError::Unfit(_) => TransportErrorKind::Secret,
        AuthorizeError::Origin => TransportErrorKind::Blocked,
    };
    TransportError { kind, detail: error.to_string() }
}

/// BLAKE3 of a request before authorisation, as 64 hexadecimal digits. Every part is preceded by its length, and a
/// placeholder by its encoding and name, so two requests that differ anywhere have two hashes.
pub fn hash(request: &Request) -> String {
    let mut hash = Hasher::new();
    hash_text(&mut hash, &request.connection);
    hash_text(&mut hash, &request.method);
    hash_pieces(&mut hash, &request.url);
    hash.update(&(request.headers.len() as u64).to_be_bytes());
    for (name, value) in &request.headers {
        hash_text(&mut hash, name);
        hash_pieces(&mut hash, value);
    }
    hash_pieces(&mut hash, &request.body);
    hash.finalize().to_hex().as_str().to_owned()
}

fn hash_pieces(hash: &mut Hasher, pieces: &Pieces) {
    hash.update(&(pieces.len() as u64).to_be_bytes());
    for piece in pieces {
        let (kind, text) = match piece {
            Piece::Text(text) => (0, text),
            Piece::Secret { name, encoding: Encoding::Plain } => (1, name),
            Piece::Secret { name, encoding: Encoding::Percent } => (2, name),
            Piece::Secret { name, encoding: Encoding::Json } => (3, name),
            Piece::Secret { name, encoding: Encoding::Basic } => (4, name),
        };
        hash.update(&[kind]);
        hash_text(hash, text);
    }
}

fn hash_text(hash: &mut Hasher, text: &str) {
    hash.update(&(text.len() as u64).to_be_bytes());
    hash.update(text.as_bytes());
}

/// How much of an answer's body history keeps: of a delivery that went well only what later steps read.
fn kept_max(done: bool, judgement: &Judgement) -> Option<usize> {
    match (done, &judgement.body) {
        (false, _) => Some(ANSWER_BYTES_KEPT_MAX),
        (true, Some(_)) => Some(READ_BYTES_KEPT_MAX),
        (true, None) => None,
    }
}

fn answer(exchange: &Exchange, kept_max: Option<usize>) -> Answer {
    match exchange {
        Ok(response) => Answer::Response {
            status: response.status,
            body: kept_max.map(|kept_max| {
                let kept = &response.body[..response.body.len().min(kept_max)];
                BodyText {
                    text: String::from_utf8_lossy(kept).into_owned(),
                    cut: kept.len() < response.body.len(),
                }
            }),
        },
        Err(error) => Answer::Error { kind: error.kind, detail: error.detail.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Environment, egress::Rules};

    fn executor(clock: Clock) -> Executor {
        Executor {
            egress: Arc::new(Egress::new(Rules::default()).unwrap()),
            secrets: Arc::new(Secrets::new(Environment::of([]), "/nowhere")),
            clock,
        }
    }

    #[tokio::test]
    async fn nothing_is_sent_under_a_lease_that_is_over_until_the_queue_extends_it() {
        let clock = Clock::system();
        let executor = executor(clock.clone());
        let pass = Pass::default();
        let over = Attempt { seed: 0, lease_end_ms: &|| 0, pass: &pass };
        assert!(!executor.lease_holds(over).await);
        let extended_at_ms = clock.now_ms() + 60;
        let extended = || if clock.now_ms() < extended_at_ms { 0 } else { i64::MAX };
        assert!(executor.lease_holds(Attempt { seed: 0, lease_end_ms: &extended, pass: &pass }).await);
    }

    #[tokio::test]
    async fn an_exchange_is_given_up_before_a_lease_that_nobody_extends() {
        let clock = Clock::system();
        let lease_end_ms = clock.now_ms() + LEASE_MARGIN_MS + 20;
        let executor = executor(clock.clone());
        let attempt = Attempt { seed: 0, lease_end_ms: &|| lease_end_ms, pass: &Pass::default() };
        let given_up = executor.within_lease(attempt, std::future::pending()).await.unwrap_err();
        assert_eq!(given_up.kind, TransportErrorKind::Timeout);
        assert!(clock.now_ms() < lease_end_ms);
    }

    #[test]
    fn the_hash_tells_a_placeholder_from_text_and_parts_from_each_other() {
        let secret = |encoding| Piece::Secret { name: "key".into(), encoding };
        let bodies = [
            vec![],
            vec![Piece::Text("key".into())],
            vec![Piece::Text("ke".into()), Piece::Text("y".into())],
            vec![secret(Encoding::Plain)],
            vec![secret(Encoding::Json)],
        ];
        let request = |body| Request {
            connection: "mindbox".into(),
            method: "POST".into(),
            origin: "https://api.mindbox.ru".into(),
            url: vec![Piece::Text("https://api.mindbox.ru/".into())],
            headers: vec![("Accept".into(), vec![Piece::Text("*/*".into())])],
            body,
            timeout_ms: 1_000,
        };
        let hashes: std::collections::BTreeSet<_> =
            bodies.into_iter().map(|body| hash(&request(body))).collect();
        assert_eq!(hashes.len(), 5);
        assert!(hashes.iter().all(|hash| hash.len() == 64));
    }
}
