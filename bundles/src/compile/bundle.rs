//! A bundle's file into a [`Plan`]'s parts.

use std::sync::Arc;

use chrono_tz::Tz;

use super::{
    Workspace, condition,
    connection::or_hint,
    hook::event_names,
    input::Inputs,
    lane,
    lost::{self, Lost},
    names::{Names, StepNames},
    request::Request,
    retry, verdicts,
};
use crate::{
    bundle::{self, Bundle, named},
    catalog::Catalog,
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt, suggest::suggest},
    duration,
    filter::Filter,
    hook::{Hook, Trigger},
    judge::Judge,
    lane::Rule,
    manifest::action::Action,
    mapping::Mapping,
    path::Path,
    plan::{Chosen, OnFailure, Probe, Step},
    retry::Schedule,
    shape::check::check,
    words::Words,
    workspace::qualified,
    yaml::{Node, Span},
};

use super::connection::Compiled;

/// A bundle that passed every check.
pub struct Parts {
    /// Its name outside its workspace.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Whether it takes events.
    pub active: bool,
    /// Where its events come in.
    pub hook: Arc<Hook>,
    /// The trigger's name.
    pub trigger: String,
    /// What was chosen under `on`.
    pub chosen: Vec<Chosen>,
    /// How long to wait.
    pub delay_ms: i64,
    /// How its runs wait for each other.
    pub lane: Option<Rule>,
    /// Which events it takes.
    pub filter: Option<Filter>,
    /// Parameters the filter reads that the vendor always sends.
    pub expected: Vec<Path>,
    /// What it does: its own steps, then those that these run instead of themselves.
    pub steps: Vec<Step>,
    /// How many steps are its own.
    pub main: usize,
}

/// What a bundle is triggered by, as far as it was found.
struct On<'w> {
    connection: Option<&'w Compiled>,
    hook: Option<&'w Arc<Hook>>,
    trigger: Option<&'w Trigger>,
    chosen: Vec<Chosen>,
    delay_ms: i64,
}

/// Compiles one file. Everything that is wrong with it is in `out`, however much that is; then there are no parts.
pub fn compile(node: &Node, workspace: &Workspace<'_>, out: &mut Diagnostics) -> Option<Parts> {
    let mut found = Diagnostics::default();
    check(&bundle::shape(), node, &mut found);
    let bundle = bundle::read(node);
    let on = read_on(&bundle, workspace, &mut found);
    let trigger = on.trigger;
    let plain = names(&on, workspace.zone, Vec::new());
    let filter = bundle.filter.and_then(|filter| condition::compile(filter, &plain, &mut found));
    let lane = lane::compile(&bundle, &plain, &mut found);
    let names = Names {
        nothing_is_empty: bundle.filter.is_some() && filter.is_none(),
        ..names(&on, workspace.zone, proven(filter.as_ref(), trigger, &on.chosen))
    };
    let steps = compile_steps(&bundle, workspace, names, &mut found);
    let sound = !found.has_errors();
    out.append(found);
    let hook = on.hook.filter(|_| sound)?;
    Some(Parts {
        name: qualified(workspace.key, bundle.name.0),
        title: bundle.title.to_owned(),
        active: bundle.active,
        hook: Arc::clone(hook),
        trigger: trigger?.name.clone(),
        chosen: on.chosen,
        delay_ms: lane.as_ref().map_or(on.delay_ms, |(_, quiet_ms)| on.delay_ms.max(*quiet_ms)),
        lane: lane.map(|(rule, _)| rule),
        expected: expected(filter.as_ref(), hook),
        filter,
        steps: steps?,
        main: bundle.steps.len(),
    })
}

/// The names of the filter and of every step's templates.
fn names<'a>(on: &'a On<'a>, zone: Tz, proven: Vec<Path>) -> Names<'a> {
    match (on.connection, on.hook) {
        (Some(connection), Some(hook)) => {
            let (name, kinds) = on.trigger.map_or(("", &[][..]), |trigger| (&trigger.name, &trigger.kinds));
            Names { time_zone: Some(zone), proven, ..event_names(hook, name, kinds, connection) }
        }
        _ => Names { anything: true, time_zone: Some(zone), proven, ..Names::default() },
    }
}

fn proven(filter: Option<&Filter>, trigger: Option<&Trigger>, chosen: &[Chosen]) -> Vec<Path> {
    let mut proven = condition::proven(filter);
    if let Some(trigger) = trigger {
        proven.extend(condition::proven(trigger.when.as_ref()));
        proven.extend(chosen.iter().flat_map(|chosen| {
            condition::proven(Some(&trigger.options[chosen.option].values[chosen.value].when))
        }));
    }
    proven
}

/// Paths of the filter whose parameters come with every event of the vendor.
fn expected(filter: Option<&Filter>, hook: &Hook) -> Vec<Path> {
    let mut expected = Vec::new();
    if let Some(filter) = filter {
        filter.references(&mut |path, _| {
            let sent = |field: &crate::hook::HookField| {
                field.sent_always
                    && field.kinds.is_empty()
                    && path.segments.first().is_some_and(|first| field.field.name == *first.key)
            };
            if path.root == crate::path::Root::Event
                && hook.fields.iter().any(sent)
                && !expected.contains(path)
            {
                expected.push(path.clone());
            }
        });
    }
    expected
}

fn read_on<'w>(bundle: &Bundle<'_>, workspace: &'w Workspace<'_>, out: &mut Diagnostics) -> On<'w> {
    let mut on = On { connection: None, hook: None, trigger: None, chosen: Vec::new(), delay_ms: 0 };
    let Some(node) = bundle.on else { return on };
    let delay = node.get("delay").and_then(Node::as_text).and_then(|text| duration::parse(text).ok());
    on.delay_ms = delay.and_then(|ms| i64::try_from(ms).ok()).unwrap_or(0);
    on.connection = named(node, "connection").and_then(|(name, span)| workspace.connection(name, span, out));
    let Some(connection) = on.connection else { return on };
    on.hook = workspace.hook(connection.connection.own_name());
    let Some((name, span)) = named(node, "trigger") else { return on };
    let Some(hook) = on.hook else {
        out.push(no_triggers(&connection.connector.manifest.name, span));
        return on;
    };
    on.trigger = hook.trigger(name);
    match on.trigger {
        Some(trigger) => on.chosen = read_options(node, trigger, out),
        None => out.push(unknown_trigger(name, hook, span)),
    }
    on
}

fn no_triggers(connector: &str, span: Span) -> Diagnostic {
    let message = Words::new(
        format!("the connector `{connector}` has no triggers"),
        format!("у коннектора `{connector}` нет триггеров"),
    );
    let hint =
        Words::new("use a connection that receives events", "укажите подключение, которое принимает события");
    Diagnostic::error(Code::UnknownTrigger, span, message).with_hint(hint)
}

fn unknown_trigger(name: &str, hook: &Hook, span: Span) -> Diagnostic {
    let connector = &hook.connection.connector;
    let known = || hook.triggers.iter().map(|trigger| trigger.name.as_str());
    let message = Words::new(
        format!("the connector `{connector}` has no trigger `{}`", excerpt(name)),
        format!("у коннектора `{connector}` нет триггера `{}`", excerpt(name)),
    );
    let all = known().collect::<Vec<_>>().join(", ");
    let diagnostic =
        Diagnostic::error(Code::UnknownTrigger, span, message).with_suggestion(suggest(name, known()));
    or_hint(diagnostic, Words::new(format!("there are: {all}"), format!("есть: {all}")))
}

/// Keys of `on` that every trigger has.
const COMMON_KEYS: [&str; 5] = ["connection", "trigger", "via", "delay", "settle"];

fn read_options(on: &Node, trigger: &Trigger, out: &mut Diagnostics) -> Vec<Chosen> {
    let names = || trigger.options.iter().map(|option| option.name.as_str());
    for entry in on.as_map().unwrap_or_default() {
        if !COMMON_KEYS.into_iter().chain(names()).any(|name| name == entry.key) {
            let message = Words::new(
                format!("the trigger `{}` has no option `{}`", trigger.name, excerpt(&entry.key)),
                format!("у триггера `{}` нет параметра `{}`", trigger.name, excerpt(&entry.key)),
            );
            let near = suggest(&entry.key, COMMON_KEYS.into_iter().chain(names()));
            let hint = Words::new("remove it", "уберите его");
            out.push(or_hint(
                Diagnostic::error(Code::UnknownKey, entry.key_span, message).with_suggestion(near),
                hint,
            ));
        }
    }
    let choices = trigger.options.iter().enumerate().filter_map(|(at, option)| {
        let given = named(on, &option.name);
        let wanted = given.map(|(value, _)| value).or(option.default.as_deref())?;
        let value = option.values.iter().position(|choice| choice.value == wanted);
        if let (None, Some((_, span))) = (value, given) {
            let known = || option.values.iter().map(|choice| choice.value.as_str());
            let all = known().collect::<Vec<_>>().join(", ");
            let message = Words::new(
                format!("`{}` has no value `{}`", option.name, excerpt(wanted)),
                format!("у `{}` нет значения `{}`", option.name, excerpt(wanted)),
            );
            let diagnostic =
                Diagnostic::error(Code::BadValue, span, message).with_suggestion(suggest(wanted, known()));
            out.push(or_hint(diagnostic, Words::new(format!("there are: {all}"), format!("есть: {all}"))));
        }
        Some(Chosen { option: at, value: value? })
    });
    choices.collect()
}

/// One step of a bundle, in the order of [`Plan::step_names`](crate::plan::Plan::step_names).
struct Listed<'s, 'n> {
    step: &'s bundle::Step<'n>,
    /// The steps that are behind whenever it is run and have not failed unless their `on_failure` is to continue.
    earlier: Vec<usize>,
    on_failure: OnFailure,
}

/// The bundle's own steps, then those that stand under `on_failure`.
fn listed<'s, 'n>(steps: &'s [bundle::Step<'n>]) -> Vec<Listed<'s, 'n>> {
    let mut listed = Vec::new();
    let mut free = steps.len();
    for (at, step) in steps.iter().enumerate() {
        let on_failure = match &step.on_failure {
            bundle::OnFailure::Park => OnFailure::Park,
            bundle::OnFailure::Continue => OnFailure::Continue,
            bundle::OnFailure::Steps { steps, .. } => {
                let first = free;
                free += steps.len();
                OnFailure::Steps(first..free)
            }
        };
        listed.push(Listed { step, earlier: (0..at).collect(), on_failure });
    }
    for (at, step) in steps.iter().enumerate() {
        let bundle::OnFailure::Steps { steps, .. } = &step.on_failure else { continue };
        let first = listed.len();
        for (nth, step) in steps.iter().enumerate() {
            let on_failure = match step.on_failure {
                bundle::OnFailure::Continue => OnFailure::Continue,
                // Further steps are an error of the shape, which was reported.
                bundle::OnFailure::Park | bundle::OnFailure::Steps { .. } => OnFailure::Park,
            };
            let earlier = (0..at).chain(first..first + nth).collect();
            listed.push(Listed { step, earlier, on_failure });
        }
    }
    listed
}

fn compile_steps(
    bundle: &Bundle<'_>,
    workspace: &Workspace<'_>,
    mut names: Names<'_>,
    out: &mut Diagnostics,
) -> Option<Vec<Step>> {
    check_not_empty(bundle, out);
    let usual = retry::compile(bundle.retry, out).unwrap_or_default();
    let listed = listed(&bundle.steps);
    let mut named: Vec<Option<StepNames>> = Vec::new();
    let mut steps = Vec::new();
    for (at, Listed { step, earlier, on_failure }) in listed.iter().enumerate() {
        check_step_name(step, listed[..at].iter().map(|before| before.step), out);
        names.steps = Some(earlier.iter().filter_map(|at| named[*at].clone()).collect());
        let keeps_body =
            step.name.is_some_and(|(name, _)| listed.iter().any(|other| reads_step(other.step, name)));
        let compiled = compile_step(step, workspace, &names, keeps_body, out);
        let retry = retry::compile(step.retry, out).unwrap_or_else(|| usual.clone());
        // A vendor that says it has it does not say what it answered.
        let asks = compiled.as_ref().is_some_and(|step| step.probe.is_some());
        let always = *on_failure != OnFailure::Continue && !asks;
        named.push(step.name.map(|(name, _)| step_names(name, step, always, workspace.catalog)));
        steps.push(compiled.map(|step| Step { retry, on_failure: on_failure.clone(), ..step }));
    }
    steps.into_iter().collect()
}

/// What later steps may say of this one.
fn step_names(name: &str, step: &bundle::Step<'_>, always: bool, catalog: &Catalog) -> StepNames {
    let action = step.action.and_then(|(action, _)| find_action(action, catalog));
    let output = action.map(|action| action.output.iter().map(|spec| spec.field.clone()).collect());
    StepNames { name: name.to_owned(), output: output.unwrap_or_default(), always }
}

fn check_not_empty(bundle: &Bundle<'_>, out: &mut Diagnostics) {
    let instead = bundle.steps.iter().filter_map(|step| match &step.on_failure {
        bundle::OnFailure::Steps { span, steps } => Some((*span, steps)),
        bundle::OnFailure::Park | bundle::OnFailure::Continue => None,
    });
    for (span, _) in
        std::iter::once((bundle.name.1, &bundle.steps)).chain(instead).filter(|(_, steps)| steps.is_empty())
    {
        let message = Words::new("there must be a step", "нужен хотя бы один шаг");
        let hint = Words::new("add one under `steps`", "добавьте его в `steps`");
        out.push(Diagnostic::error(Code::MissingKey, span, message).with_hint(hint));
    }
}

fn check_step_name<'s, 'n: 's>(
    step: &bundle::Step<'_>,
    before: impl Iterator<Item = &'s bundle::Step<'n>>,
    out: &mut Diagnostics,
) {
    let Some((name, span)) = step.name else { return };
    let first = before.filter_map(|other| other.name).find(|(other, _)| *other == name);
    if let Some((_, first)) = first {
        let message =
            Words::new(format!("there is a step `{name}` already"), format!("шаг `{name}` уже есть"));
        let hint = Words::new("give it another name", "дайте ему другое имя");
        let related = Words::new("the first one", "первый");
        out.push(
            Diagnostic::error(Code::DuplicateName, span, message)
                .with_hint(hint)
                .with_related(first, related),
        );
    }
}

/// Whether a step's templates may read that earlier step; too often rather than too seldom.
fn reads_step(step: &bundle::Step<'_>, name: &str) -> bool {
    fn mentions(node: &Node, text: &str) -> bool {
        match (node.as_text(), node.as_list(), node.as_map()) {
            (Some(own), _, _) => own.contains(text),
            (_, Some(items), _) => items.iter().any(|item| mentions(item, text)),
            (_, _, Some(entries)) => entries.iter().any(|entry| mentions(&entry.value, text)),
            (None, None, None) => false,
        }
    }
    step.with.is_some_and(|with| {
        mentions(&with.value, &format!("steps.{name}")) || mentions(&with.value, "steps.[")
    })
}

/// The action of `connector.action`, when there is one.
fn find_action<'c>(text: &str, catalog: &'c Catalog) -> Option<&'c Action> {
    let (connector, action) = text.split_once('.')?;
    catalog.get(connector)?.manifest.action(action)
}

fn compile_step(
    step: &bundle::Step<'_>,
    workspace: &Workspace<'_>,
    names: &Names<'_>,
    keeps_body: bool,
    out: &mut Diagnostics,
) -> Option<Step> {
    let action = step.action.and_then(|(text, span)| resolve_action(text, span, workspace.catalog, out));
    let compiled = step.connection.and_then(|(name, span)| workspace.connection(name, span, out));
    let matching = match (step.action, compiled, step.connection) {
        (Some((text, _)), Some(compiled), Some((_, span))) => belongs(text, compiled, span, out),
        _ => false,
    };
    let action = action?;
    let compiled = compiled.filter(|_| matching);
    let names = names.for_connection(compiled);
    let inputs = Inputs::new(action, step.with, compiled);
    let span = step.with.map_or(step.span, |with| with.key_span);
    inputs.check(span, out);
    let (mapped, fields) = inputs.mapped(span);
    let mapping = Mapping::compile(&mapped, &fields, false, &names, out);
    let compiled = compiled?;
    let request = Request { spec: &action.request, compiled, inputs: &inputs, names: &names, span };
    let outgoing = request.compile(mapping, out)?;
    let lost = lost::policy(step, action, &outgoing, out);
    let probe = action.probe.as_ref().filter(|_| lost == Lost::Ask).and_then(|probe| {
        // What is wrong with the inputs was reported for the action's own request.
        let mapping = Mapping::compile(&mapped, &fields, false, &names, &mut Diagnostics::default());
        let question = Request { spec: &probe.request, ..request };
        Some(Probe {
            outgoing: question.compile(mapping, out)?,
            presence: verdicts::presence(compiled, probe)?,
        })
    });
    Some(Step {
        name: step.name?.0.to_owned(),
        connection: Arc::clone(&compiled.connection),
        outgoing,
        cost: action.cost,
        judge: Judge {
            rules: Arc::clone(&compiled.rules),
            truths: Arc::clone(&compiled.truths),
            repeats: lost == Lost::Repeat,
            keeps_body,
        },
        retry: Schedule::default(),
        on_failure: OnFailure::Park,
        probe,
    })
}

fn resolve_action<'c>(
    text: &str,
    span: Span,
    catalog: &'c Catalog,
    out: &mut Diagnostics,
) -> Option<&'c Action> {
    let found = find_action(text, catalog);
    if found.is_none() {
        let all = || {
            catalog.iter().flat_map(|connector| {
                let name = &connector.manifest.name;
                connector.manifest.actions.iter().map(move |action| format!("{name}.{}", action.name))
            })
        };
        let message = Words::new(
            format!("there is no action `{}`", excerpt(text)),
            format!("действия `{}` нет", excerpt(text)),
        );
        let names: Vec<String> = all().collect();
        let listed = names.join(", ");
        let near = suggest(text, names.iter().map(String::as_str));
        let diagnostic = Diagnostic::error(Code::UnknownAction, span, message).with_suggestion(near);
        out.push(or_hint(diagnostic, Words::new(format!("there are: {listed}"), format!("есть: {listed}"))));
    }
    found
}

/// The connection is one of the action's connector.
fn belongs(action: &str, compiled: &Compiled, span: Span, out: &mut Diagnostics) -> bool {
    let connector = &compiled.connection.connector;
    let wanted = action.split('.').next().unwrap_or(action);
    if wanted == connector {
        return true;
    }
    let name = compiled.connection.own_name();
    let message = Words::new(
        format!(
            "`{}` needs a connection of `{}`, and `{name}` is one of `{connector}`",
            excerpt(action),
            excerpt(wanted)
        ),
        format!(
            "для `{}` нужно подключение `{}`, а `{name}` — это `{connector}`",
            excerpt(action),
            excerpt(wanted)
        ),
    );
    let hint = Words::new(
        format!("name a connection with `connector: {}`", excerpt(wanted)),
        format!("укажите подключение с `connector: {}`", excerpt(wanted)),
    );
    out.push(Diagnostic::error(Code::UnknownConnection, span, message).with_hint(hint));
    false
}
