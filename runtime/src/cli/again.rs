//! Renders a delivered run's requests again from its stored version and event: history keeps their hashes only.

use std::sync::Arc;

use sheaf_bundles::{
    event::Event,
    plan::Plan,
    request::Request,
    run::{RunState, StepResult},
};
use sheaf_connectors::decode::decode;

use super::project::Project;
use crate::queue::history::{EventDetail, RunSummary};

/// The requests of a run, by step.
pub struct Again(Vec<(String, Request)>);

impl Again {
    /// `None` when version or event cannot be read or compiled any more.
    pub fn of(project: &Project, run: &RunSummary) -> Option<Again> {
        let read = project
            .read(async |store| Ok((store.version(run.version).await?, store.event(run.event).await?)));
        let (version, event) = read.ok()?;
        let plan = sheaf_connectors::plan_of_artefact(version?.artefact).ok()?;
        Some(Again(requests(&plan, &event?, run.generation)?))
    }

    /// The request of a step.
    pub fn request(&self, step: &str) -> Option<&Request> {
        self.0.iter().find(|(name, _)| name == step).map(|(_, request)| request)
    }
}

/// Walks the plan with empty answers: steps that read earlier answers then differ from what was sent, which the hash shows.
fn requests(plan: &Plan, event: &EventDetail, generation: u32) -> Option<Vec<(String, Request)>> {
    let decoded = decode(plan.hook(), &event.received).ok()?;
    let event = Event {
        id: event.summary.id,
        connection: event.summary.connection.as_str().into(),
        received_ms: event.summary.received_ms,
        fields: decoded.fields,
    };
    let mut state = RunState::new(Arc::new(event), generation);
    let mut requests = Vec::new();
    for (step, name) in plan.step_names().enumerate() {
        requests.extend(plan.request(step, &state).map(|request| (name.to_owned(), request)));
        state.done.push(StepResult { status: 200, body: None, failed: None });
    }
    Some(requests)
}
