//! Renders a run's delivered requests again from its stored version, its event and the answers that were kept: history
//! keeps their hashes only.

use std::sync::Arc;

use sheaf_bundles::{
    environment::ResponseEnvironment,
    event::Event,
    plan::{Next, Plan},
    request::{Request, Response},
    run::{RunState, StepResult},
    value::{Map, Value},
    verdict::Disposition,
};
use sheaf_connectors::decode::decode;

use super::project::Project;
use crate::queue::{
    delivery::{Answer, DeliveryRecord},
    history::{AttemptRecord, EventDetail, RunDetail},
};

/// The requests of a run, by attempt and delivery.
pub struct Again(Vec<Vec<Option<Request>>>);

impl Again {
    /// `None` when version or event cannot be read or compiled any more.
    pub fn of(project: &Project, run: &RunDetail) -> Option<Again> {
        let (version, event) = (run.summary.version, run.summary.event);
        let read = project.read(async |store| Ok((store.version(version).await?, store.event(event).await?)));
        let (version, event) = read.ok()?;
        let plan = sheaf_connectors::plan_of_artefact(version?.artefact).ok()?;
        Some(Again(requests(&plan, decoded(&plan, &event?)?, &run.attempts)))
    }

    /// The request of a delivery, by their numbers in history.
    pub fn request(&self, attempt: usize, delivery: usize) -> Option<&Request> {
        self.0.get(attempt)?.get(delivery)?.as_ref()
    }
}

fn decoded(plan: &Plan, event: &EventDetail) -> Option<Event> {
    Some(Event {
        id: event.summary.id,
        connection: event.summary.connection.as_str().into(),
        received_ms: event.summary.received_ms,
        fields: decode(plan.hook(), &event.received).ok()?.fields,
    })
}

/// Goes the way of the run once more. A run that was replayed as new began again, under the next generation.
fn requests(plan: &Plan, event: Event, attempts: &[AttemptRecord]) -> Vec<Vec<Option<Request>>> {
    let mut state = RunState::new(Arc::new(event), 0);
    let mut of = |delivery: &DeliveryRecord| {
        if delivery.generation != state.generation {
            state = RunState::new(Arc::clone(&state.event), delivery.generation);
        }
        follow(plan, &mut state, delivery)
    };
    attempts.iter().map(|attempt| attempt.deliveries.iter().map(&mut of).collect()).collect()
}

/// What that delivery sent; the state is then as it was behind it. Steps before it that left no good answer have failed.
fn follow(plan: &Plan, state: &mut RunState, delivery: &DeliveryRecord) -> Option<Request> {
    let is_its = |step: usize| plan.step_names().nth(step) == Some(delivery.step.as_str());
    let request = loop {
        match plan.next(state) {
            Next::Send { step, request } if is_its(step) => break Some(request),
            Next::Fail { step, .. } if is_its(step) => break None,
            Next::Send { .. } | Next::Fail { .. } => {
                state.done.push(StepResult { status: 0, body: None, failed: Some(String::new()) });
            }
            Next::Ask { .. } | Next::Done => return None,
        }
    };
    if delivery.class.disposition() == Disposition::Delivered {
        state.done.push(result(delivery));
    }
    request
}

/// What the step left for later ones.
fn result(delivery: &DeliveryRecord) -> StepResult {
    let (status, body) = match &delivery.answer {
        // Of a question only that the vendor has it is kept.
        Answer::Response { status, body } if !delivery.probe => (*status, body.as_ref()),
        Answer::Response { .. } | Answer::Error { .. } => (0, None),
    };
    let body = body.filter(|body| !body.cut).map(|body| parsed(status, &body.text));
    StepResult { status, body, failed: None }
}

fn parsed(status: u16, text: &str) -> Value {
    let response = Response { status, headers: Vec::new(), body: text.as_bytes().to_vec() };
    ResponseEnvironment::new(&response, &Map::default()).into_body()
}
