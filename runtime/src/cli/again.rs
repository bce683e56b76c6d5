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

#[cfg(test)]
mod tests {
    use sheaf_bundles::{id::EventId, verdict::Class};

    use super::*;
    use crate::queue::{delivery::SentRequest, history::AttemptOutcome};

    /// The second step is run although the first failed.
    const FILES: [(&str, &str); 4] = [
        ("sheaf.yaml", "kind: workspace\nname: shop\ntime_zone: Europe/Moscow\n"),
        ("connections/site.yaml", "kind: connection\nname: site\nconnector: webhook\n"),
        (
            "connections/crm.yaml",
            "kind: connection\nname: crm\nconnector: http\nsettings: {base_url: 'https://crm.example', parameters: [step]}\n",
        ),
        (
            "bundles/lead.yaml",
            "kind: bundle\nname: lead\non: {connection: site, trigger: received}\nsteps:\n\
             - {name: lead, action: http.request, connection: crm, on_failure: continue, with: {parameters: {step: lead}}}\n\
             - {name: task, action: http.request, connection: crm, with: {parameters: {step: task}}}\n",
        ),
    ];

    #[test]
    fn a_step_that_failed_or_sent_nothing_does_not_hide_what_the_next_one_sent() {
        let (integration, _, found) = sheaf_connectors::compile(&FILES);
        assert!(found.is_empty(), "{found:?}");
        let plan = &integration.expect("sound files").plans[0];
        let delivery = |step: &str, class| DeliveryRecord {
            step: step.to_owned(),
            generation: 0,
            probe: false,
            started_ms: 0,
            took_ms: 0,
            request: SentRequest::Hash(String::new()),
            answer: Answer::Response { status: 200, body: None },
            class,
            message: None,
        };
        let (refused, done) = (delivery("lead", Class::BadRequest), delivery("task", Class::Ok));
        for deliveries in [vec![refused, done.clone()], vec![done]] {
            let sent = deliveries.len();
            let attempt = AttemptRecord {
                fence: 1,
                outcome: AttemptOutcome::Delivered,
                started_ms: 0,
                finished_ms: 0,
                reason: None,
                deliveries,
            };
            let event =
                Event { id: EventId(1), connection: "site".into(), received_ms: 0, fields: Map::default() };
            let requests = requests(plan, event, &[attempt]);
            let last = requests[0].last().and_then(Option::as_ref).expect("rendered again");
            assert_eq!(requests[0].iter().flatten().count(), sent);
            assert_eq!(last.body, [sheaf_bundles::request::Piece::Text(r#"{"step":"task"}"#.into())]);
        }
    }
}
