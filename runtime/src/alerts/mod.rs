//! Telling people: decides by the pure rules of `bundles`, remembers what was told, and sends it.
//!
//! A message is remembered before it is sent, so each arrives at least once whatever happens in between; the same
//! message has the same id at every attempt. Sending is apart from the way of events, and never in its way.

mod capped;
pub mod channel;
mod email;
pub mod memory;
mod webhook;

use std::sync::Arc;

use sheaf_bundles::{
    alerts::{
        Alerts,
        decide::decide,
        letters::{Fate, Letter},
        message::{Kind, Message, Phase},
    },
    compile::Integration,
};
use tokio::{sync::watch, task::JoinSet};
use tracing::{error, info, warn};

use self::{channel::Sender, memory::Memory};
use crate::{clock::Clock, metrics::Metrics, oversight::Seen, storage::store::Store};

/// Whom to tell, as the files say now.
#[derive(Debug, Clone)]
pub struct Told {
    /// The workspace's name.
    pub workspace: String,
    /// The file.
    pub alerts: Arc<Alerts>,
}

impl Told {
    /// As the files say.
    pub fn of(integration: &Integration) -> Told {
        Told { workspace: integration.workspace.clone(), alerts: integration.alerts.clone() }
    }

    /// Only the log and the metrics.
    pub fn nobody() -> Told {
        Told { workspace: String::new(), alerts: Arc::default() }
    }
}

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
        let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let observed = seen.observed(ms(told.alerts.waiting_max_ms));
        let before = self.memory.state();
        let (mut state, messages) = decide(before.clone(), &observed, ms(told.alerts.repeat_ms), now_ms);
        let names: Vec<String> = told.alerts.channels.iter().map(|channel| channel.name.clone()).collect();
        state.post(&messages, &names, now_ms);
        let letters = state.take(&names, now_ms);
        // Another node that decided at the same time tells instead.
        if self.memory.keep(store, state).await {
            messages.iter().for_each(|message| log(message, &told.workspace));
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
        let Some(channel) =
            told.alerts.channels.iter().find(|channel| channel.name == letter.channel).cloned()
        else {
            return;
        };
        let (sender, told) = (self.sender.clone(), told.clone());
        self.sending.spawn(async move {
            let sent = sender.send(&channel, &letter.message, &told.workspace, told.alerts.language).await;
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

/// The log is told as well, whether or not there is a channel.
fn log(message: &Message, workspace: &str) {
    let (kind, subject) = (message.finding.kind.name(), message.finding.subject.as_str());
    let (count, what) = (message.finding.count, message.title(workspace).en);
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
            | Kind::WaitingLong
            | Kind::SnapshotOld,
        ) => {
            warn!(kind, subject, count, "{what}");
        }
    }
}

/// Sends a test to every channel, one after another; what happened at each, by name.
pub async fn test(sender: &Sender, told: &Told) -> Vec<(String, Result<(), String>)> {
    let now_ms = sender.clock.now_ms();
    let message = Message::test(format!("msg_{now_ms:x}_test"), now_ms);
    let mut results = Vec::new();
    for channel in &told.alerts.channels {
        let sent = sender.send(channel, &message, &told.workspace, told.alerts.language).await;
        results.push((channel.name.clone(), sent));
    }
    results
}
