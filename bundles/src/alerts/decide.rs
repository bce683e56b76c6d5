//! What to tell: old state, what is seen, and the time give the new state and the messages. Nothing else goes in.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use super::{
    message::{Finding, Kind, MANY, Message, Phase},
    quarantine::Quarantine,
};
use crate::workspace;

/// A thing must be gone for this long before it is called over, milliseconds: what comes and goes is one thing.
pub const OVER_AFTER_MS: i64 = 60_000;
/// What was called over and is there again is told when it stays for this long, milliseconds, or when it is time to tell
/// again: whichever comes first. What is gone before is not told, so what comes and goes does not send two messages each time.
pub const BACK_AFTER_MS: i64 = 5 * 60_000;
/// What only waits for a person and does not grow is told again this often at most, milliseconds.
pub const REMIND_MS: i64 = 24 * 3_600_000;
/// More subjects of one kind than this in a workspace are told as one: an outage must not send a thousand mails.
pub const SUBJECTS_MAX: usize = 10;

/// What was seen at one look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
    /// How many events of each connection could never be read, of those that have any; `None` when that could not be looked at.
    pub quarantined: Option<Vec<(String, u64)>>,
    /// Kinds that could not be looked at, or not to the end: nothing of them is called over.
    pub unseen: Vec<Kind>,
}

/// What was told already. It outlives the process, so it is kept as text; unknown to all but this module and [`super::letters`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    #[serde(deserialize_with = "known_of")]
    groups: Vec<Group>,
    #[serde(deserialize_with = "known_of")]
    pub(super) letters: Vec<super::letters::Letter>,
    /// The channels that any node has named lately.
    #[serde(default)]
    pub(super) known: Vec<super::letters::Known>,
    /// What could not be read.
    #[serde(default, skip_serializing_if = "Quarantine::is_unlooked")]
    quarantine: Quarantine,
    /// Numbers messages of one millisecond.
    sequence: u64,
}

/// Of a node of a newer sheaf on the same database some may be of a kind that is unknown here: the rest is remembered.
fn known_of<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let all = Vec::<serde_json::Value>::deserialize(from)?;
    Ok(all.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect())
}

/// What is told as one: a kind and a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Group {
    /// As it was when last told, or when it came back.
    told: Finding,
    /// When a person was last told that it is wrong, unix milliseconds.
    told_ms: i64,
    /// When it was first seen to be gone, unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone_ms: Option<i64>,
    /// It was called over. Kept until the time to tell again, so that what comes and goes is not told each time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    over: bool,
    /// Since when it is there again after that, unix milliseconds; people are not told yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    back_ms: Option<i64>,
}

/// Decides. `repeat_ms` says how soon a thing that lasts may be told again.
pub fn decide(
    mut state: State,
    observed: &Observed,
    repeat_ms: impl Fn(&Finding) -> i64,
    now_ms: i64,
) -> (State, Vec<Message>) {
    let mut said = Vec::new();
    if let Some(totals) = &observed.quarantined {
        state.quarantine.look(totals, now_ms);
    }
    let all: Vec<Finding> = observed.findings.iter().cloned().chain(state.quarantine.findings()).collect();
    let findings = folded(&state, &all);
    for finding in &findings {
        said.extend(state.seen(finding, repeat_ms(finding), now_ms));
    }
    let gone = |told: &Finding| {
        !observed.unseen.contains(&told.kind)
            && !findings.iter().any(|it| {
                // Who is told of the server may change while it lasts; nobody is told that it is over.
                it.kind == told.kind && (it.subject == told.subject || told.kind.is_of_server())
            })
    };
    for group in state.groups.iter_mut().filter(|group| gone(&group.told)) {
        said.extend(group.gone(now_ms));
    }
    state.groups.retain(|group| group.is_open() || now_ms - group.told_ms < repeat_ms(&group.told));
    let messages = said.into_iter().map(|(phase, finding)| state.message(phase, finding, now_ms)).collect();
    (state, messages)
}

impl State {
    /// What is open now, for people who ask; that of the whole server once, without a subject.
    pub fn open(&self) -> impl Iterator<Item = Finding> {
        let mut of_server = BTreeSet::new();
        self.open_for_each().filter_map(move |open| {
            let kind = open.kind;
            let once = Finding { subject: String::new(), ..open.clone() };
            if kind.is_of_server() { of_server.insert(kind).then_some(once) } else { Some(open.clone()) }
        })
    }

    /// What is open, that of the whole server for each who is told of it.
    pub(super) fn open_for_each(&self) -> impl Iterator<Item = &Finding> {
        self.groups.iter().filter(|group| group.is_open()).map(|group| &group.told)
    }

    fn is_open(&self, finding: &Finding) -> bool {
        self.open_for_each().any(|open| open.kind == finding.kind && open.subject == finding.subject)
    }

    fn seen(&mut self, finding: &Finding, repeat_ms: i64, now_ms: i64) -> Option<(Phase, Finding)> {
        let same =
            |group: &&mut Group| group.told.kind == finding.kind && group.told.subject == finding.subject;
        let Some(group) = self.groups.iter_mut().find(same) else {
            self.groups.push(Group::new(finding.clone(), now_ms));
            return Some((Phase::Opened, finding.clone()));
        };
        group.gone_ms = None;
        if group.over {
            return group.back(finding, repeat_ms, now_ms);
        }
        let grew = finding.newest_ms > group.told.newest_ms;
        let soonest_ms = if grew || finding.kind.is_acute() { repeat_ms } else { repeat_ms.max(REMIND_MS) };
        if is_within(soonest_ms, group.told_ms, now_ms) {
            return None;
        }
        // It lasts since it began, whatever of it is left by now.
        let told = Finding { since_ms: finding.since_ms.min(group.told.since_ms), ..finding.clone() };
        *group = Group::new(told.clone(), now_ms);
        Some((Phase::Lasting, told))
    }

    pub(super) fn message(&mut self, phase: Phase, finding: Finding, now_ms: i64) -> Message {
        self.sequence += 1;
        Message { id: format!("msg_{now_ms:x}_{:x}", self.sequence), phase, at_ms: now_ms, finding }
    }
}

impl Group {
    fn new(told: Finding, told_ms: i64) -> Group {
        Group { told, told_ms, gone_ms: None, over: false, back_ms: None }
    }

    fn is_open(&self) -> bool {
        !self.over || self.back_ms.is_some()
    }

    /// It was called over, and is there again.
    fn back(&mut self, finding: &Finding, repeat_ms: i64, now_ms: i64) -> Option<(Phase, Finding)> {
        if self.back_ms.is_none() {
            (self.told, self.back_ms) = (finding.clone(), Some(now_ms));
        }
        let stays = self.back_ms.is_some_and(|back_ms| !is_within(BACK_AFTER_MS, back_ms, now_ms));
        if !stays && is_within(repeat_ms, self.told_ms, now_ms) {
            return None;
        }
        *self = Group::new(finding.clone(), now_ms);
        Some((Phase::Opened, finding.clone()))
    }

    fn gone(&mut self, now_ms: i64) -> Option<(Phase, Finding)> {
        let since_ms = *self.gone_ms.get_or_insert(now_ms);
        if is_within(OVER_AFTER_MS, since_ms, now_ms) {
            return None;
        }
        self.back_ms = None;
        if self.over {
            return None;
        }
        self.over = true;
        Some((Phase::Over, self.told.clone()))
    }
}

/// Whether less than so many milliseconds have passed since then, or are still to pass by a clock that is a little behind
/// another node's. One that went back by years must not silence a thing for years.
fn is_within(ms: i64, since_ms: i64, now_ms: i64) -> bool {
    (now_ms - since_ms).abs() < ms
}

/// The findings with those of a kind and a workspace that has too many subjects told as one; what is open already stays by
/// itself, so that nothing is called over for being one of many.
fn folded(state: &State, findings: &[Finding]) -> Vec<Finding> {
    let mut told = Vec::with_capacity(findings.len());
    for kind in Kind::ALL {
        let mut workspaces: Vec<(&str, Vec<&Finding>)> = Vec::new();
        for finding in findings.iter().filter(|finding| finding.kind == kind) {
            let key = workspace::of(&finding.subject);
            match workspaces.iter_mut().find(|(own, _)| *own == key) {
                Some((_, of_it)) => of_it.push(finding),
                None => workspaces.push((key, vec![finding])),
            }
        }
        for (key, of_it) in workspaces {
            let many = of_it.len() > SUBJECTS_MAX;
            let (alone, together): (Vec<&Finding>, Vec<&Finding>) =
                of_it.into_iter().partition(|finding| !many || state.is_open(finding));
            told.extend(alone.into_iter().cloned());
            told.extend(together.split_first().map(|(first, rest)| as_one(key, first, rest)));
        }
    }
    told
}

fn as_one(key: &str, first: &Finding, rest: &[&Finding]) -> Finding {
    let mut one = Finding { subject: workspace::qualified(key, MANY), ..first.clone() };
    rest.iter().for_each(|finding| one.absorb(finding));
    one.facts = std::iter::once(&first).chain(rest).take(SUBJECTS_MAX).map(|finding| fact(finding)).collect();
    let more = (1 + rest.len()).saturating_sub(SUBJECTS_MAX);
    one.facts.extend((more > 0).then(|| format!("… +{more}")));
    one
}

fn fact(finding: &Finding) -> String {
    format!("{}: {}{}", finding.subject, finding.count, if finding.at_least { "+" } else { "" })
}
