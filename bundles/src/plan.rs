//! A compiled bundle version: decides, builds requests, judges answers. Performs nothing itself.

use std::{ops::Range, sync::Arc};

use crate::{
    artefact::{Artefact, ArtefactError, Texts},
    catalog::Catalog,
    compile::{self, bundle::Parts},
    connection::Connection,
    diagnostic::Diagnostics,
    environment::Environment,
    event::Event,
    filter::Filter,
    hook::{Hook, Trigger},
    judge::{Judge, Presence},
    lane::{Lane, Rule},
    outgoing::Outgoing,
    path::{Path, lookup},
    request::{Exchange, Request},
    retry::Schedule,
    run::{RunState, StepResult, delivery_key},
    value::{Map, Text, Value},
    verdict::{Class, Disposition, Judgement},
    words::Words,
    workspace,
};

/// One bundle version, ready to run.
#[derive(Debug)]
pub struct Plan {
    /// The bundle's name outside its workspace (see [`workspace::qualified`]): unique.
    pub bundle: String,
    /// What people call it; the name when none was given.
    pub title: String,
    /// False when its author switched it off: it takes no new events, runs under way finish.
    pub active: bool,
    /// The connection whose events it takes.
    pub connection: Arc<Connection>,
    /// The trigger's name.
    pub trigger: String,
    /// How long a run waits after the event was received, be it for a newer one, in milliseconds.
    pub delay_ms: i64,
    hook: Arc<Hook>,
    /// Index of the trigger in the hook.
    trigger_index: usize,
    chosen: Vec<Chosen>,
    lane: Option<Rule>,
    filter: Option<Filter>,
    expected: Vec<Path>,
    /// Those of the bundle, then those that its steps run instead of themselves.
    steps: Vec<Step>,
    /// How many of them are the bundle's own.
    main: usize,
    artefact: Artefact,
}

/// A choice made under `on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// Index of the option in the trigger.
    pub option: usize,
    /// Index of the value in the option.
    pub value: usize,
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
    /// The answer to a request was lost. Authorise and send this, which asks the vendor whether it has what was sent, then
    /// [`Plan::judge_probe`] and [`Plan::record_probe`].
    Ask {
        /// Index of the step.
        step: usize,
        /// The request, secrets as placeholders.
        request: Request,
    },
    /// There is no further step.
    Done,
    /// The request cannot be built from this event: tell [`Plan::fail`].
    Fail {
        /// Index of the step.
        step: usize,
        /// Why, for people.
        reason: Words,
    },
}

/// What follows from a delivery, or from a request that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// Ask [`Plan::next`].
    Go,
    /// Store the state, and go on with it later.
    Again {
        /// Not before this, unix milliseconds.
        due_ms: i64,
    },
    /// Store the state, and set the run aside for a person.
    Park {
        /// Why, for people.
        reason: Words,
    },
}

/// What follows when a step has failed: its schedule is over, or a repeat cannot help.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The run is set aside for a person.
    #[default]
    Park,
    /// The next step is run, and finds no answer of this one.
    Continue,
    /// These steps are run, and then the run is over.
    Steps(Range<usize>),
}

/// One action step, compiled.
#[derive(Debug)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// The connection it sends through.
    pub connection: Arc<Connection>,
    /// What its request takes from each budget of the connection.
    pub cost: i64,
    /// How its request is built.
    pub outgoing: Outgoing,
    /// How its answer is judged.
    pub judge: Judge,
    /// When it is tried again.
    pub retry: Schedule,
    /// What follows when it has failed.
    pub on_failure: OnFailure,
    /// How the vendor is asked when the answer was lost; none to park the run then.
    pub probe: Option<Probe>,
}

/// A question to a vendor: does it have what was sent?
#[derive(Debug)]
pub struct Probe {
    /// How the question is built.
    pub outgoing: Outgoing,
    /// How its answer is read.
    pub presence: Presence,
}

impl Plan {
    /// Joins what the compiler made.
    pub(crate) fn new(parts: Parts, artefact: Artefact) -> Plan {
        let trigger_index = parts.hook.triggers.iter().position(|trigger| trigger.name == parts.trigger);
        Plan {
            bundle: parts.name,
            title: parts.title,
            active: parts.active,
            connection: Arc::clone(&parts.hook.connection),
            trigger_index: trigger_index.expect("the compiler found the trigger in this hook"),
            trigger: parts.trigger,
            delay_ms: parts.delay_ms,
            hook: parts.hook,
            chosen: parts.chosen,
            lane: parts.lane,
            filter: parts.filter,
            expected: parts.expected,
            steps: parts.steps,
            main: parts.main,
            artefact,
        }
    }

    /// Compiles the very plan an artefact was sealed from.
    ///
    /// # Errors
    /// It is no artefact, or this engine does not understand its texts any more.
    pub fn from_artefact(artefact: Artefact) -> Result<Plan, ArtefactError> {
        let texts = artefact.open()?;
        let manifests = texts.manifests.iter().map(|(path, shared)| (path, shared.text.as_bytes()));
        let (catalog, _, manifests) = Catalog::load(&manifests.collect::<Vec<_>>());
        let (mut sources, mut found) = Default::default();
        let key = workspace::of(&texts.bundle);
        let integration = compile::compile_workspace(key, &texts.files, &catalog, &mut sources, &mut found);
        let plans = integration.map(|integration| integration.plans).unwrap_or_default();
        let plan = plans.into_iter().find(|plan| plan.bundle == texts.bundle);
        let fails = || does_not_compile(&texts, &manifests, &found);
        let plan = plan.and_then(Arc::into_inner).ok_or_else(fails)?;
        Ok(Plan { artefact, ..plan })
    }

    /// Whether the event is for this plan. Cheap; called for every event and plan before anything is stored.
    pub fn decide(&self, event: &Event) -> Verdict {
        let environment = self.hook.environment(&event.fields);
        if !self.fires(&environment) {
            return Verdict::NotFired;
        }
        if self.filter.as_ref().is_none_or(|filter| filter.eval(&environment)) {
            Verdict::Take { delay_ms: self.delay_ms }
        } else {
            Verdict::Filtered
        }
    }

    /// The lane of an event that it takes; none when its run waits for no other.
    pub fn lane(&self, event: &Event) -> Option<Lane> {
        let environment = || self.hook.environment(&event.fields);
        self.lane.as_ref()?.lane(&self.bundle, &environment())
    }

    /// Why [`Plan::decide`] said what it said: the smallest failing condition.
    pub fn explain(&self, event: &Event) -> Words {
        let environment = self.hook.environment(&event.fields);
        match self.decide(event) {
            Verdict::Take { .. } => {
                Words::new("the trigger fired and the filter holds", "триггер сработал, условие выполнено")
            }
            Verdict::Filtered => {
                let reason = self.filter.as_ref().and_then(|filter| filter.explain(&environment));
                because(Words::new("the filter does not hold", "условие не выполнено"), reason)
            }
            Verdict::NotFired => {
                let reason =
                    self.failing_filter(&environment).and_then(|filter| filter.explain(&environment));
                let trigger = &self.trigger;
                let lead = Words::new(
                    format!("the trigger `{trigger}` did not fire"),
                    format!("триггер `{trigger}` не сработал"),
                );
                because(lead, reason)
            }
        }
    }

    /// Parameters the filter reads that the vendor sends with every event, yet this one came without: somebody turned them
    /// off at the vendor, and "is empty" would hold for every event.
    pub fn missing_parameters(&self, event: &Event) -> Vec<String> {
        let missing = self.expected.iter().filter(|path| lookup(&event.fields, &path.segments).is_none());
        missing.map(ToString::to_string).collect()
    }

    /// The next thing to do. Pure: the same state gives the same request, byte for byte.
    pub fn next(&self, state: &RunState) -> Next {
        let (_, Some(step)) = self.walk(state) else { return Next::Done };
        let own = &self.steps[step];
        if let Some(probe) = own.probe.as_ref().filter(|_| state.lost) {
            return match self.build(own, &probe.outgoing, state) {
                Ok(request) => Next::Ask { step, request },
                Err(reason) => Next::Fail { step, reason },
            };
        }
        match state.pending.clone().map_or_else(|| self.build(own, &own.outgoing, state), Ok) {
            Ok(request) => Next::Send { step, request },
            Err(reason) => Next::Fail { step, reason },
        }
    }

    /// What an exchange of a step means, by the rules of its connector.
    ///
    /// # Panics
    /// There is no such step; use the index that [`Plan::next`] gave.
    pub fn judge(&self, step: usize, exchange: &Exchange) -> Judgement {
        let step = &self.steps[step];
        step.judge.judge(exchange, &step.connection.settings)
    }

    /// What the answer to a question means; see [`Judge::judge_probe`].
    ///
    /// # Panics
    /// There is no such step, or it has no question; use the index that [`Next::Ask`] gave.
    pub fn judge_probe(&self, step: usize, exchange: &Exchange) -> Judgement {
        let step = &self.steps[step];
        let probe = step.probe.as_ref().expect("a step that asked has a question");
        step.judge.judge_probe(&probe.presence, exchange, &step.connection.settings)
    }

    /// Writes the judgement of the step that is next into the state, and says what follows: every class of answer is acted
    /// on here. `seed` spreads retries.
    pub fn record(
        &self,
        state: &mut RunState,
        request: Request,
        judgement: &Judgement,
        now_ms: i64,
        seed: u64,
    ) -> After {
        let (_, Some(step)) = self.walk(state) else { return After::Go };
        match judgement.class.disposition() {
            Disposition::Delivered => {
                let (status, body) = (judgement.status.unwrap_or(0), judgement.body.clone());
                put_behind(state, StepResult { status, body, failed: None })
            }
            Disposition::Repeat => {
                state.lost |= judgement.lost && !only_reads(&request);
                state.pending = Some(request);
                let schedule = &self.steps[step].retry;
                match later(state, schedule, judgement, now_ms, seed) {
                    Some(again) => again,
                    None => self.fail(state, given_up(schedule, judgement)),
                }
            }
            Disposition::Fail => {
                state.pending = Some(request);
                self.fail(state, judgement.message.clone())
            }
            // It may have worked, so neither a repeat nor other steps are sure to do no harm.
            Disposition::Unknown => {
                let asks = self.steps[step].probe.is_some();
                state.lost |= asks || !only_reads(&request);
                state.pending = Some(request);
                if asks {
                    self.ask_later(state, step, judgement, now_ms, seed)
                } else {
                    park(state, judgement.message.clone())
                }
            }
        }
    }

    /// Writes what the vendor answered to a question into the state: it has what was sent, so the step is done; it does not
    /// have it, so it is sent again at once; or it does not say, so it is asked again on the schedule.
    pub fn record_probe(&self, state: &mut RunState, judgement: &Judgement, now_ms: i64, seed: u64) -> After {
        let (_, Some(step)) = self.walk(state) else { return After::Go };
        match judgement.class {
            Class::DuplicateOk => put_behind(state, StepResult { status: 0, body: None, failed: None }),
            Class::NotFound => {
                state.lost = false;
                After::Go
            }
            _ => self.ask_later(state, step, judgement, now_ms, seed),
        }
    }

    /// As long as nobody knows, no other step is run; a replay asks first.
    fn ask_later(
        &self,
        state: &mut RunState,
        step: usize,
        judgement: &Judgement,
        now_ms: i64,
        seed: u64,
    ) -> After {
        let schedule = &self.steps[step].retry;
        match later(state, schedule, judgement, now_ms, seed) {
            Some(again) => again,
            None => park(state, given_up(schedule, judgement)),
        }
    }

    /// The step that is next has failed for this reason.
    pub fn fail(&self, state: &mut RunState, reason: Words) -> After {
        let (_, Some(step)) = self.walk(state) else { return After::Go };
        match self.steps[step].on_failure {
            // Another step could do it a second time.
            _ if state.lost => park(state, may_have_worked(reason)),
            OnFailure::Park => park(state, reason),
            OnFailure::Continue | OnFailure::Steps(_) => {
                put_behind(state, StepResult { status: 0, body: None, failed: Some(reason.en) })
            }
        }
    }

    /// The steps that failed while the run went on, and why.
    pub fn failed<'a>(&'a self, state: &'a RunState) -> impl Iterator<Item = (&'a str, &'a str)> {
        let (behind, _) = self.walk(state);
        let failed = behind.into_iter().zip(&state.done);
        failed.filter_map(|(step, result)| Some((self.steps[step].name.as_str(), result.failed.as_deref()?)))
    }

    /// The request a step would send in this state, when it can be built.
    pub fn request(&self, step: usize, state: &RunState) -> Option<Request> {
        let step = self.steps.get(step)?;
        self.build(step, &step.outgoing, state).ok()
    }

    /// The steps that are behind, in the order they were run, and the one that is next.
    fn walk(&self, state: &RunState) -> (Vec<usize>, Option<usize>) {
        let (mut at, mut end) = (0, self.main);
        let mut behind = Vec::with_capacity(state.done.len());
        for result in &state.done {
            if at == end {
                break;
            }
            behind.push(at);
            match &self.steps[at].on_failure {
                OnFailure::Steps(steps) if result.failed.is_some() => (at, end) = (steps.start, steps.end),
                OnFailure::Steps(_) | OnFailure::Park | OnFailure::Continue => at += 1,
            }
        }
        (behind, (at < end).then_some(at))
    }

    /// The names of the steps, in order: those of the bundle, then those that its steps run instead of themselves.
    pub fn step_names(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| step.name.as_str())
    }

    /// The connection a step uses.
    pub fn step_connection(&self, step: usize) -> Option<&Arc<Connection>> {
        self.steps.get(step).map(|step| &step.connection)
    }

    /// What a step's request takes from each budget of its connection.
    pub fn step_cost(&self, step: usize) -> i64 {
        self.steps.get(step).map_or(1, |step| step.cost)
    }

    /// The connections its steps use, in order, and what each takes from the connection's budgets; one may come up again.
    pub fn step_connections(&self) -> impl Iterator<Item = (&Arc<Connection>, i64)> {
        self.steps.iter().map(|step| (&step.connection, step.cost))
    }

    /// The hook its events come through.
    pub fn hook(&self) -> &Arc<Hook> {
        &self.hook
    }

    /// The version this plan is: its texts and their hash.
    pub fn artefact(&self) -> &Artefact {
        &self.artefact
    }

    fn trigger(&self) -> &Trigger {
        &self.hook.triggers[self.trigger_index]
    }

    fn fires(&self, environment: &Environment<'_>) -> bool {
        self.failing_filter(environment).is_none()
    }

    /// The trigger's filter or the chosen option's, whichever does not hold.
    fn failing_filter(&self, environment: &Environment<'_>) -> Option<&Filter> {
        let trigger = self.trigger();
        let options =
            self.chosen.iter().map(|chosen| &trigger.options[chosen.option].values[chosen.value].when);
        trigger.when.iter().chain(options).find(|filter| !filter.eval(environment))
    }

    fn build(&self, step: &Step, outgoing: &Outgoing, state: &RunState) -> Result<Request, Words> {
        let key =
            Value::text(delivery_key(state.event.id, &self.artefact.hash, &step.name, state.generation));
        let steps = self.answers(state);
        let environment = Environment {
            steps: &steps,
            settings: &step.connection.settings,
            key: &key,
            ..self.hook.environment(&state.event.fields)
        };
        outgoing.build(environment, &step.connection.name).map_err(|error| error.0)
    }

    /// What later steps see of the earlier ones.
    fn answers(&self, state: &RunState) -> Map {
        let (behind, _) = self.walk(state);
        let answered = behind.into_iter().zip(&state.done).filter(|(_, result)| result.failed.is_none());
        let answers = answered.map(|(step, result)| {
            let status =
                (result.status > 0).then(|| ("status".into(), Value::from(i64::from(result.status))));
            let body = result.body.clone().map(|body| ("body".into(), body));
            (Text::from(&self.steps[step].name), Map::from_iter(status.into_iter().chain(body)).into())
        });
        answers.collect()
    }
}

/// The step that is next is behind now.
fn put_behind(state: &mut RunState, result: StepResult) -> After {
    state.done.push(result);
    state.pending = None;
    state.failures = 0;
    state.lost = false;
    After::Go
}

/// One more failure; none when the schedule is over.
fn later(
    state: &mut RunState,
    schedule: &Schedule,
    judgement: &Judgement,
    now_ms: i64,
    seed: u64,
) -> Option<After> {
    state.failures += 1;
    let due_ms = schedule.next(state.failures, judgement.retry_after_ms, now_ms, seed)?;
    Some(After::Again { due_ms })
}

/// Whoever makes the run due again gives its step a new schedule.
fn park(state: &mut RunState, reason: Words) -> After {
    state.failures = 0;
    After::Park { reason }
}

/// Nothing is done by such a request, so nothing is unknown when its answer is lost.
fn only_reads(request: &Request) -> bool {
    matches!(request.method.as_str(), "GET" | "HEAD")
}

fn may_have_worked(reason: Words) -> Words {
    Words::new(
        format!("it may have worked: {}", reason.en),
        format!("возможно, всё же получилось: {}", reason.ru),
    )
}

fn given_up(schedule: &Schedule, judgement: &Judgement) -> Words {
    let (Judgement { class, message, .. }, retries) = (judgement, schedule.waits_ms.len());
    let name = Class::name(*class);
    if retries == 0 {
        return Words::new(
            format!("not to be repeated ({name}): {}", message.en),
            format!("повторять не велено ({name}): {}", message.ru),
        );
    }
    Words::new(
        format!("given up after {retries} retries ({name}): {}", message.en),
        format!("попыток больше нет, повторов было {retries} ({name}): {}", message.ru),
    )
}

fn because(lead: Words, reason: Option<Words>) -> Words {
    match reason {
        Some(reason) => {
            Words::new(format!("{}: {}", lead.en, reason.en), format!("{}: {}", lead.ru, reason.ru))
        }
        None => lead,
    }
}

fn does_not_compile(texts: &Texts, manifests: &Diagnostics, found: &Diagnostics) -> ArtefactError {
    let first = manifests.iter().chain(found.iter()).next();
    ArtefactError::DoesNotCompile {
        bundle: texts.bundle.clone(),
        engine: texts.engine,
        first: first.map(|diagnostic| diagnostic.message.en.clone()).unwrap_or_default(),
    }
}
