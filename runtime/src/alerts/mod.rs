//! Telling people: decides by the pure rules of `bundles`, remembers what was told, and sends it.
//!
//! A message is remembered before it is sent, so each arrives at least once whatever happens in between; the same
//! message has the same id at every attempt. Sending is apart from the way of events, and never in its way.

mod capped;
pub mod channel;
mod email;
pub mod memory;
pub mod teller;
mod webhook;

use std::{collections::BTreeMap, sync::Arc};

use sheaf_bundles::{
    alerts::{
        Alerts, Channel, REPEAT_MS, WAITING_MAX_MS,
        audience::Audience,
        message::{Finding, Message},
    },
    compile::Integration,
    workspace,
};

use self::channel::Sender;

/// Whom to tell, as the files say now: a part for each workspace, by its key. The directory's own has the empty one, and is
/// there also where the directory is no workspace and has a file.
#[derive(Debug, Clone, Default)]
pub struct Told(Arc<BTreeMap<String, Part>>);

/// Whom one workspace tells.
#[derive(Debug, Clone)]
pub struct Part {
    /// The workspace's name; empty where the directory is none.
    pub title: String,
    /// Its file.
    pub alerts: Arc<Alerts>,
}

impl Told {
    /// As the files of these workspaces say.
    pub fn of<'i>(integrations: impl IntoIterator<Item = &'i Integration>) -> Told {
        let part = |it: &Integration| {
            (it.key.clone(), Part { title: it.workspace.clone(), alerts: it.alerts.clone() })
        };
        Told(Arc::new(integrations.into_iter().map(part).collect()))
    }

    /// Every channel: what it is called outside its workspace, and whose it is.
    pub fn channels(&self) -> impl Iterator<Item = (String, &Part, &Channel)> {
        self.0.iter().flat_map(|(key, part)| {
            let called = |channel: &Channel| workspace::qualified(key, &channel.name);
            part.alerts.channels.iter().map(move |channel| (called(channel), part, channel))
        })
    }

    /// The channel that is called so, and whose it is.
    pub fn channel(&self, called: &str) -> Option<(&Part, &Channel)> {
        let key = workspace::of(called);
        let part = self.0.get(key)?;
        let named = |channel: &&Channel| workspace::qualified(key, &channel.name) == called;
        part.alerts.channels.iter().find(named).map(|channel| (part, channel))
    }

    /// The name of the workspace that a finding of this subject is about.
    pub fn title<'t>(&'t self, subject: &'t str) -> &'t str {
        let key = workspace::of(subject);
        self.0.get(key).map_or(key, |part| &part.title)
    }

    /// How soon people are told of this again, milliseconds.
    pub fn repeat_ms(&self, audience: &Audience, finding: &Finding) -> i64 {
        ms(self.alerts(audience.pacer(finding)).map_or(REPEAT_MS, |alerts| alerts.repeat_ms))
    }

    /// How long runs of this connection may wait until people are told, milliseconds.
    pub fn waiting_max_ms(&self, audience: &Audience, connection: &str) -> i64 {
        let teller = audience.teller(workspace::of(connection));
        ms(self.alerts(teller).map_or(WAITING_MAX_MS, |alerts| alerts.waiting_max_ms))
    }

    fn alerts(&self, key: &str) -> Option<&Alerts> {
        self.0.get(key).map(|part| &*part.alerts)
    }
}

fn ms(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// Sends a test to every channel, one after another; what happened at each, by name.
pub async fn test(sender: &Sender, told: &Told) -> Vec<(String, Result<(), String>)> {
    let now_ms = sender.clock.now_ms();
    let message = Message::test(format!("msg_{now_ms:x}_test"), now_ms);
    let mut results = Vec::new();
    for (called, part, channel) in told.channels() {
        let sent = sender.send(channel, &message, &part.title, part.alerts.language).await;
        results.push((called, sent));
    }
    results
}
