//! What names mean in each part of a file: the event, earlier steps, the connection, an action's input.

use chrono_tz::Tz;

use super::connection::Compiled;
use crate::{
    expression::{Known, Resolution, Scope},
    hook::HookField,
    path::{Path, Root, Segment, join, lookup},
    types::{Field, Type},
    value::{Map, Value},
    words::Words,
};

/// The names that exist in one place. A root that is `None` does not exist there.
#[derive(Default)]
pub struct Names<'a> {
    /// The trigger's event.
    pub event: Option<EventNames<'a>>,
    /// Earlier steps.
    pub steps: Option<Vec<StepNames>>,
    /// The connection's settings.
    pub settings: Option<&'a [Field]>,
    /// The settings' values, when the connection is known.
    pub values: Option<&'a Map>,
    /// The action's input.
    pub input: Option<&'a [Field]>,
    /// `delivery.key`.
    pub delivery: bool,
    /// `response.…`.
    pub response: bool,
    /// The workspace's zone.
    pub time_zone: Option<Tz>,
    /// Settings count as given: a rule that reads one holds only when it is.
    pub settings_are_given: bool,
    /// The trigger is not known, so any field of its event may exist; the mistake is reported once, where it was made.
    pub anything: bool,
    /// The filter has an error, so what it demands is not known: nothing is said about values that can be empty.
    pub nothing_is_empty: bool,
    /// References that cannot be empty here, because a filter demands it.
    pub proven: Vec<Path>,
}

/// The fields of an event.
#[derive(Clone)]
pub struct EventNames<'a> {
    /// All fields of the hook.
    pub fields: &'a [HookField],
    /// Bare names of dotted ones.
    pub aliases: &'a [(String, Path)],
    /// An object field of which only the declared keys may be used.
    pub closed: Option<&'a str>,
    /// The trigger, for messages.
    pub trigger: &'a str,
    /// The kinds of event the trigger fires on; empty for all.
    pub kinds: &'a [String],
    /// The zone of local times.
    pub zone: Option<Tz>,
}

/// An earlier step.
#[derive(Clone)]
pub struct StepNames {
    /// Its name.
    pub name: String,
    /// What its action declares of the answer; anything when that is nothing.
    pub output: Vec<Field>,
    /// Whether there is an answer: none when it failed and the run went on, or when it was lost.
    pub always: bool,
}

impl Scope for Names<'_> {
    fn resolve(&self, path: &Path) -> Resolution {
        let resolution = match path.root {
            Root::Event if self.anything => Some(known(Type::Any, false)),
            Root::Event => self.event.as_ref().map(|event| event.resolve(&path.segments)),
            Root::Steps => self.steps.as_ref().map(|steps| resolve_step(steps, &path.segments)),
            Root::Connection => self.settings.map(|settings| self.resolve_setting(settings, &path.segments)),
            Root::Input => self.input.map(|input| Resolution::of_fields(input, false, &path.segments, None)),
            Root::Delivery => self.delivery.then(|| resolve_delivery(&path.segments)),
            Root::Response => self.response.then(|| resolve_response(&path.segments)),
            Root::Item | Root::Workspace => None,
        };
        match resolution {
            None => Resolution::Unknown { at: path.segments.len(), candidates: self.roots() },
            Some(Resolution::Known(known)) if self.is_proven(path) => {
                Resolution::Known(Known { can_be_empty: false, ..known })
            }
            Some(resolution) => resolution,
        }
    }

    fn time_zone(&self) -> Option<Tz> {
        self.time_zone
    }
}

impl<'a> Names<'a> {
    /// The same for a step's templates, in which `connection` is the step's own.
    pub fn for_connection<'b>(&'b self, compiled: Option<&'b Compiled>) -> Names<'b> {
        Names {
            event: self.event.clone(),
            steps: self.steps.clone(),
            settings: compiled.map(|compiled| compiled.fields.as_slice()),
            values: compiled.map(|compiled| &compiled.connection.settings),
            time_zone: self.time_zone,
            anything: self.anything,
            nothing_is_empty: self.nothing_is_empty,
            proven: self.proven.clone(),
            ..Names::default()
        }
    }
}

impl Names<'_> {
    fn is_proven(&self, path: &Path) -> bool {
        if self.nothing_is_empty {
            return true;
        }
        let meant = |path| self.event.as_ref().map_or(path, |event| event.meant(path));
        self.proven.iter().any(|proven| meant(proven) == meant(path))
    }

    fn roots(&self) -> Vec<String> {
        let roots = [
            (self.event.is_some(), Root::Event),
            (self.steps.is_some(), Root::Steps),
            (self.settings.is_some(), Root::Connection),
            (self.input.is_some(), Root::Input),
            (self.delivery, Root::Delivery),
            (self.response, Root::Response),
        ];
        roots.into_iter().filter(|(there, _)| *there).map(|(_, root)| root.word().to_owned()).collect()
    }

    /// `connection.settings.…`; a value that is known says whether it is empty.
    fn resolve_setting(&self, settings: &[Field], segments: &[Segment]) -> Resolution {
        let Some((group, rest)) = segments.split_first() else { return unknown(0, ["settings"]) };
        if &*group.key != "settings" || rest.is_empty() {
            return unknown(0, ["settings", "secrets"]);
        }
        match Resolution::of_fields(settings, false, rest, None) {
            Resolution::Unknown { at, candidates } => Resolution::Unknown { at: at + 1, candidates },
            Resolution::Known(known) => {
                let can_be_empty = match self.values {
                    _ if self.settings_are_given => false,
                    Some(values) => lookup(values, rest).is_none_or(Value::is_empty),
                    None => rest.len() > 1 || !is_sure(settings, &rest[0]),
                };
                Resolution::Known(Known { can_be_empty, ..known })
            }
            Resolution::Unavailable(words) => Resolution::Unavailable(words),
        }
    }
}

/// A setting that every connection has.
fn is_sure(settings: &[Field], name: &Segment) -> bool {
    let field = settings.iter().find(|field| field.name == *name.key);
    field.is_some_and(|field| field.required || field.default.as_ref().is_some_and(|value| !value.is_empty()))
}

impl EventNames<'_> {
    /// The path a bare name stands for, or the path itself.
    fn meant<'p>(&'p self, path: &'p Path) -> &'p Path {
        if path.root == Root::Event { self.alias(&path.segments).unwrap_or(path) } else { path }
    }

    fn alias(&self, segments: &[Segment]) -> Option<&Path> {
        let [name] = segments else { return None };
        self.aliases.iter().find(|(alias, _)| **alias == *name.key).map(|(_, path)| path)
    }

    fn resolve(&self, segments: &[Segment]) -> Resolution {
        let segments = self.alias(segments).map_or(segments, |path| &path.segments);
        if let Some(resolution) = self.resolve_closed(segments) {
            return resolution;
        }
        match Resolution::of_fields(self.fields, false, segments, self.zone) {
            Resolution::Known(known) => self.available(known, segments),
            Resolution::Unknown { at: 0, mut candidates } => {
                candidates.extend(self.aliases.iter().map(|(alias, _)| alias.clone()));
                Resolution::Unknown { at: 0, candidates }
            }
            other @ (Resolution::Unknown { .. } | Resolution::Unavailable(_)) => other,
        }
    }

    /// A key of the closed object that nothing declares.
    fn resolve_closed(&self, segments: &[Segment]) -> Option<Resolution> {
        let (closed, [object, _, ..]) = (self.closed?, segments) else { return None };
        if *object.key != *closed {
            return None;
        }
        let inside =
            |field: &HookField| Some(field.field.name.strip_prefix(closed)?.strip_prefix('.')?.to_owned());
        let names: Vec<String> = self.fields.iter().filter_map(inside).collect();
        let rest = join(&segments[1..]);
        let leads = |name: &String| {
            rest == *name || rest.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('.'))
        };
        (!names.iter().any(leads)).then_some(Resolution::Unknown { at: 1, candidates: names })
    }

    /// Whether this trigger's events have the field.
    fn available(&self, known: Known, segments: &[Segment]) -> Resolution {
        let Some(field) = self.declared(segments) else { return Resolution::Known(known) };
        if field.unticked {
            return Resolution::Unavailable(Words::new(
                "the connection says this parameter is turned off at the vendor",
                "по настройкам подключения этот параметр отключён в сервисе",
            ));
        }
        let fits = |kind: &String| field.kinds.contains(kind);
        if field.kinds.is_empty() || (!self.kinds.is_empty() && self.kinds.iter().all(fits)) {
            return Resolution::Known(Known {
                can_be_empty: known.can_be_empty || !field.sent_always,
                ..known
            });
        }
        if self.kinds.is_empty() || self.kinds.iter().any(fits) {
            return Resolution::Known(Known { can_be_empty: true, ..known });
        }
        Resolution::Unavailable(Words::new(
            format!("events of the trigger `{}` do not have it", self.trigger),
            format!("в событиях триггера `{}` его нет", self.trigger),
        ))
    }

    /// The field a path leads to or into: the longest name that fits.
    fn declared(&self, segments: &[Segment]) -> Option<&HookField> {
        (1..=segments.len()).rev().find_map(|length| {
            let name = join(&segments[..length]);
            self.fields.iter().find(|field| field.field.name == name)
        })
    }
}

fn resolve_step(steps: &[StepNames], segments: &[Segment]) -> Resolution {
    let names = || steps.iter().map(|step| step.name.as_str());
    let Some((name, rest)) = segments.split_first() else { return unknown(0, names()) };
    let Some(step) = steps.iter().find(|step| step.name == *name.key) else { return unknown(0, names()) };
    let Some((part, rest)) = rest.split_first() else { return unknown(1, ["status", "body"]) };
    match &*part.key {
        "status" if rest.is_empty() => known(Type::Integer, !step.always),
        "body" if step.output.is_empty() => known(Type::Any, true),
        "body" => match Resolution::of_fields(&step.output, true, rest, None) {
            Resolution::Unknown { at, candidates } => Resolution::Unknown { at: at + 2, candidates },
            Resolution::Known(known) => {
                Resolution::Known(Known { can_be_empty: known.can_be_empty || !step.always, ..known })
            }
            other @ Resolution::Unavailable(_) => other,
        },
        _ => unknown(1, ["status", "body"]),
    }
}

fn resolve_delivery(segments: &[Segment]) -> Resolution {
    match segments {
        [key] if &*key.key == "key" => known(Type::Text, false),
        _ => unknown(0, ["key"]),
    }
}

fn resolve_response(segments: &[Segment]) -> Resolution {
    let parts = ["status", "body", "headers"];
    let Some((part, rest)) = segments.split_first() else { return unknown(0, parts) };
    match (&*part.key, rest.len()) {
        ("status", 0) => known(Type::Integer, false),
        ("body", _) => known(Type::Any, true),
        ("headers", 0) => known(Type::Map(Box::new(Type::Text)), true),
        ("headers", 1) => known(Type::Text, true),
        _ => unknown(0, parts),
    }
}

fn known(ty: Type, can_be_empty: bool) -> Resolution {
    Resolution::Known(Known { ty, can_be_empty, no_value: Vec::new(), private: false })
}

fn unknown<'a>(at: usize, candidates: impl IntoIterator<Item = &'a str>) -> Resolution {
    Resolution::Unknown { at, candidates: candidates.into_iter().map(str::to_owned).collect() }
}
