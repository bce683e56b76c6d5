//! Tells people: looks at what was seen, remembers what is told, and has it sent.

use std::{collections::BTreeSet, sync::Arc};

use sheaf_bundles::alerts::{
    decide::decide,
    letters::{Fate, Letter},
    message::{Finding, Kind, Message, Phase},
};
use tokio::{sync::watch, task::JoinSet};
use tracing::{error, info, warn};

use super::{Told, channel::Sender, memory::Memory};
use crate::{clock::Clock, metrics::Metrics, oversight::Seen, storage::store::Store};

/// One letter and how its attempt ended.
pub type Sent = (Letter, Result<(), String>);

/// Tells people.
pub struct Teller {
    told: watch::Receiver<Told>,
    sender: Arc<Sender>,
    metrics: Arc<Metrics>,
    clock: Clock,
    memory: Memory,
    sending: JoinSet<Sent>,
}

impl Teller {
    /// Nothing is read or sent yet.
    pub fn new(told: watch::Receiver<Told>, sender: Sender, metrics: Arc<Metrics>, clock: Clock) -> Teller {
        let (memory, sending) = (Memory::default(), JoinSet::new());
        Teller { told, sender: Arc::new(sender), metrics, clock, memory, sending }
    }

    /// Decides what to tell of what was seen, and starts to send it. Notes in `seen` what is open and what did not arrive.
    pub async fn tell(&mut self, store: &Store, seen: &mut Seen) {
        let told = self.told.borrow().clone();
        let now_ms = self.clock.now_ms();
        self.memory.recall(store).await;
        let names: Vec<String> = told.channels().map(|(called, ..)| called).collect();
        let before = self.memory.state();
        let audience = before.audience(&names);
        let mut observed = seen.observed(|connection| told.waiting_max_ms(&audience, connection));
        observed.findings = audience.addressed(observed.findings);
        let repeat_ms = |finding: &Finding| told.repeat_ms(&audience, finding);
        let (mut state, messages) = decide(before.clone(), &observed, repeat_ms, now_ms);
        state.post(&messages, &names, now_ms);
        let letters = state.take(&names, now_ms);
        // Another node that decided at the same time tells instead.
        if self.memory.keep(store, state).await {
            logged(&messages).for_each(|message| log(message, &told));
            letters.into_iter().for_each(|letter| self.send(letter, &told));
        }
        seen.sending = self.sending();
        let state = self.memory.state();
        seen.open = Kind::ALL
            .map(|kind| (kind, state.open().filter(|open| open.kind == kind).count()))
            .into_iter()
            .collect();
        let late = |name: &String| {
            state.letters().iter().filter(|letter| letter.channel == *name && letter.failed).count()
        };
        seen.late =
            names.iter().map(|name| (name.clone(), late(name))).filter(|(_, late)| *late > 0).collect();
    }

    fn send(&mut self, letter: Letter, told: &Told) {
        let Some((part, channel)) = told.channel(&letter.channel) else { return };
        let (sender, channel, language) = (self.sender.clone(), channel.clone(), part.alerts.language);
        let title = told.title(&letter.message.finding.subject).to_owned();
        self.sending.spawn(async move {
            let sent = sender.send(&channel, &letter.message, &title, language).await;
            (letter, sent)
        });
    }

    /// The next letter whose attempt ended; `None` when none is under way.
    pub async fn sent(&mut self) -> Option<Sent> {
        loop {
            match self.sending.join_next().await? {
                Ok(sent) => return Some(sent),
                // The letter is due again by itself.
                Err(panicked) => error!(%panicked, "sending an alert ended badly"),
            }
        }
    }

    /// Attempts under way.
    pub fn sending(&self) -> usize {
        self.sending.len()
    }

    /// Notes how an attempt ended; a channel that fails is seen in the log and the metrics.
    pub async fn settle(&mut self, store: &Store, (letter, sent): Sent) {
        let now_ms = self.clock.now_ms();
        let (channel, id) = (letter.channel.as_str(), letter.message.id.as_str());
        let mut fate = Fate::Outdated;
        self.memory.change(store, |state| fate = state.attempted(&letter, sent.is_ok(), now_ms)).await;
        self.metrics.alerted(channel, fate);
        let why = sent.err().unwrap_or_default();
        match fate {
            Fate::Arrived => info!(channel, id, "alert sent"),
            Fate::Again => warn!(channel, id, why, "an alert did not arrive; it is tried again"),
            Fate::GivenUp => error!(channel, id, why, "AN ALERT IS GIVEN UP"),
            Fate::Outdated => info!(channel, id, why, "an alert is outdated"),
        }
    }
}

/// What the log is told: of the whole server once, however many workspaces are told of it.
fn logged(messages: &[Message]) -> impl Iterator<Item = &Message> {
    let mut of_server = BTreeSet::new();
    messages.iter().filter(move |message| {
        let kind = message.finding.kind;
        !kind.is_of_server() || of_server.insert(kind)
    })
}

/// The log is told as well, whether or not there is a channel.
fn log(message: &Message, told: &Told) {
    let of_server = message.finding.kind.is_of_server();
    let subject = if of_server { "" } else { message.finding.subject.as_str() };
    let (kind, count) = (message.finding.kind.name(), message.finding.count);
    let what = message.title(told.title(subject)).en;
    match (message.phase, message.finding.kind) {
        (Phase::Over | Phase::Test, _) => info!(kind, subject, "{what}"),
        (Phase::Opened | Phase::Lasting, Kind::LedgerBroken | Kind::QueueFailing) => {
            error!(kind, subject, count, facts = ?message.finding.facts, "{what}");
        }
        (
            Phase::Opened | Phase::Lasting,
            Kind::RunParked
            | Kind::AuthorisationBroken
            | Kind::ConnectionClosed
            | Kind::QuotaExhausted
            | Kind::BundlePaused
            | Kind::EventsQuarantined
            | Kind::WaitingLong
            | Kind::SnapshotOld,
        ) => {
            warn!(kind, subject, count, "{what}");
        }
    }
}
