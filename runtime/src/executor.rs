//! One attempt at a run: drives the plan, sends what it says, and tells how it ended. Decides nothing itself.

use std::{fmt::Write as _, sync::Arc, time::Instant};

use sha2::{Digest, Sha256};
use sheaf_bundles::{
    plan::{Next, Plan},
    request::{Exchange, Request, TransportError, TransportErrorKind},
    retry,
    run::RunState,
    verdict::{Class, Disposition, Judgement},
    words::Words,
};
use sheaf_connectors::auth::authorize;

use crate::{
    clock::Clock,
    egress::{Egress, Outgoing},
    queue::{
        delivery::{Answer, BodyText, DeliveryRecord, SentRequest},
        types::{Outcome, Settle},
    },
    secrets::Secrets,
};

/// How much of an answer history keeps, bytes.
pub const ANSWER_BYTES_KEPT_MAX: usize = 4 * 1024;

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

/// Which attempt this is.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// The first is 1.
    pub number: u32,
    /// Spreads retries: different for every run.
    pub seed: u64,
}

impl Executor {
    /// Runs the steps that are not done, until all are or one does not succeed.
    pub async fn attempt(&self, plan: &Plan, mut state: RunState, attempt: Attempt) -> Settle {
        let started_ms = self.clock.now_ms();
        let mut deliveries = Vec::new();
        let outcome = loop {
            match plan.next(&state) {
                Next::Done => break Outcome::Delivered,
                Next::Fail { reason, .. } => break parked(&state, &reason),
                Next::Send { step, request } => {
                    let (judgement, delivery) = self.deliver(plan, step, &request).await;
                    deliveries.push(delivery);
                    plan.record(&mut state, request, &judgement);
                    if let Some(outcome) = self.ended(&state, &judgement, attempt) {
                        break outcome;
                    }
                }
            }
        };
        Settle { outcome, started_ms, deliveries }
    }

    /// One delivery: authorise, send, judge.
    async fn deliver(&self, plan: &Plan, step: usize, request: &Request) -> (Judgement, DeliveryRecord) {
        let started_ms = self.clock.now_ms();
        let began = Instant::now();
        let exchange = self.exchange(plan, step, request).await;
        let took_ms = u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX);
        let judgement = plan.judge(step, &exchange);
        let done = matches!(judgement.class.disposition(), Disposition::Delivered);
        let record = DeliveryRecord {
            step: plan.step_names().nth(step).unwrap_or_default().to_owned(),
            started_ms,
            took_ms,
            request: if done { SentRequest::Hash(hash(request)) } else { SentRequest::Stored(Box::new(request.clone())) },
            answer: answer(&exchange, done),
            class: judgement.class,
            message: Some(judgement.message.en.clone()).filter(|message| !message.is_empty()),
        };
        (judgement, record)
    }

    async fn exchange(&self, plan: &Plan, step: usize, request: &Request) -> Exchange {
        let secrets = plan.step_connection(step).map(|connection| self.secrets.of(connection)).unwrap_or_default();
        let authorized = authorize(request, &|name| secrets.expose(name))
            .map_err(|error| TransportError { kind: TransportErrorKind::Secret, detail: error.to_string() })?;
        let outgoing = Outgoing {
            method: authorized.method,
            origin: request.origin.clone(),
            url: authorized.url,
            headers: authorized.headers,
            body: authorized.body,
            timeout_ms: authorized.timeout_ms,
        };
        let mut response = self.egress.send(outgoing).await?;
        secrets.scrub(&mut response);
        Ok(response)
    }

    fn ended(&self, state: &RunState, judgement: &Judgement, attempt: Attempt) -> Option<Outcome> {
        match judgement.class.disposition() {
            Disposition::Delivered => None,
            Disposition::Park => Some(parked(state, &judgement.message)),
            Disposition::Repeat => Some(self.again(state, judgement, attempt)),
        }
    }

    fn again(&self, state: &RunState, judgement: &Judgement, attempt: Attempt) -> Outcome {
        let (class, wait_ms) = (judgement.class, judgement.retry_after_ms);
        match retry::next(attempt.number, class, wait_ms, self.clock.now_ms(), attempt.seed) {
            retry::Next::Retry { due_ms } => Outcome::Retry { due_ms, state: state.to_bytes() },
            retry::Next::GiveUp => parked(state, &given_up(class, &judgement.message)),
        }
    }
}

fn parked(state: &RunState, reason: &Words) -> Outcome {
    Outcome::Parked { reason: reason.en.clone(), state: state.to_bytes() }
}

fn given_up(class: Class, message: &Words) -> Words {
    let name = class.name();
    Words::new(
        format!("given up after {} retries ({name}): {}", retry::SCHEDULE_MS.len(), message.en),
        format!("попыток больше нет, было {} ({name}): {}", retry::SCHEDULE_MS.len(), message.ru),
    )
}

/// SHA-256 of the request before authorisation, in hexadecimal.
pub fn hash(request: &Request) -> String {
    let bytes = serde_json::to_vec(request).expect("text and numbers always serialise");
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What history keeps of an answer: the body of a delivery that went well says nothing a person needs.
fn answer(exchange: &Exchange, done: bool) -> Answer {
    match exchange {
        Ok(response) => Answer::Response {
            status: response.status,
            body: (!done).then(|| {
                let kept = &response.body[..response.body.len().min(ANSWER_BYTES_KEPT_MAX)];
                BodyText { text: String::from_utf8_lossy(kept).into_owned(), cut: kept.len() < response.body.len() }
            }),
        },
        Err(error) => Answer::Error { kind: error.kind, detail: error.detail.clone() },
    }
}
