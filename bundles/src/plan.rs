//! A compiled bundle version: decides, builds requests, judges answers. Performs nothing itself.

use std::sync::Arc;

use crate::{
    artefact::Artefact,
    connection::Connection,
    event::Event,
    request::{Exchange, Request},
    run::{RunState, StepResult},
    verdict::{Disposition, Judgement},
    words::Words,
};

/// One bundle version, ready to run.
#[derive(Debug)]
pub struct Plan {
    /// The bundle's name, unique in the workspace.
    pub bundle: String,
    /// What people call it; the name when none was given.
    pub title: String,
    /// False when its author switched it off: it takes no new events, runs under way finish.
    pub active: bool,
    /// The connection whose events it takes.
    pub connection: Arc<Connection>,
    /// The trigger's name.
    pub trigger: String,
    /// How long a run waits after the event was received, in milliseconds.
    pub delay_ms: i64,
    steps: Vec<Step>,
    artefact: Artefact,
}

/// What a plan says about an event. One for each event and active plan of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Make a run, due this long after the event was received.
    Take {
        /// Milliseconds.
        delay_ms: i64,
    },
    /// The trigger fired, the filter said no.
    Filtered,
    /// The trigger (or the option chosen under `on:`) is about other events.
    NotFired,
}

/// What a run does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Authorise and send this, then judge and record the answer.
    Send {
        /// Index of the step.
        step: usize,
        /// The request, secrets as placeholders.
        request: Request,
    },
    /// Every step is done.
    Done,
    /// The request cannot be built from this event; park the run with this reason.
    Fail {
        /// Index of the step.
        step: usize,
        /// Why, for people.
        reason: Words,
    },
}

/// One action step, compiled.
#[derive(Debug)]
struct Step {
    name: String,
    connection: Arc<Connection>,
}

impl Plan {
    /// Whether the event is for this plan. Cheap; called for every event and plan before anything is stored.
    pub fn decide(&self, event: &Event) -> Verdict {
        let _ = event;
        Verdict::Take { delay_ms: self.delay_ms }
    }

    /// Why [`Plan::decide`] said what it said: the smallest failing condition.
    pub fn explain(&self, event: &Event) -> Words {
        match self.decide(event) {
            Verdict::Take { .. } => Words::new("taken", "взято"),
            Verdict::Filtered => Words::new("filtered", "отфильтровано"),
            Verdict::NotFired => Words::new("the trigger did not fire", "триггер не сработал"),
        }
    }

    /// Parameters the filter reads that the vendor sends with every such event, yet this one came without:
    /// somebody turned them off at the vendor, and "is empty" would hold for every event.
    pub fn missing_parameters(&self, event: &Event) -> Vec<&str> {
        let _ = event;
        Vec::new()
    }

    /// The next thing to do.
    pub fn next(&self, state: &RunState) -> Next {
        let step = state.done.len();
        match (self.steps.get(step), &state.pending) {
            (None, _) => Next::Done,
            (Some(_), Some(request)) => Next::Send { step, request: request.clone() },
            (Some(_), None) => Next::Fail { step, reason: Words::new("not built yet", "ещё не собрано") },
        }
    }

    /// What an exchange of a step means, by the rules of its connector.
    pub fn judge(&self, step: usize, exchange: &Exchange) -> Judgement {
        let _ = (step, exchange);
        crate::verdict::Judgement {
            class: crate::verdict::Class::Ok,
            message: Words::default(),
            status: None,
            retry_after_ms: None,
            body: None,
        }
    }

    /// Writes the judgement of a step into the state: done, or to be sent again byte for byte.
    pub fn record(&self, state: &mut RunState, request: Request, judgement: &Judgement) {
        match judgement.class.disposition() {
            Disposition::Delivered => {
                state.done.push(StepResult { status: judgement.status.unwrap_or(0), body: judgement.body.clone() });
                state.pending = None;
            }
            Disposition::Repeat | Disposition::Park => state.pending = Some(request),
        }
    }

    /// The names of the steps, in order.
    pub fn step_names(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| step.name.as_str())
    }

    /// The connection a step uses.
    pub fn step_connection(&self, step: usize) -> Option<&Arc<Connection>> {
        self.steps.get(step).map(|step| &step.connection)
    }

    /// The version this plan is: its texts and their hash.
    pub fn artefact(&self) -> &Artefact {
        &self.artefact
    }
}
