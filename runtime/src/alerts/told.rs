//! Whom to tell, as the files say now: each workspace has its own part, and so has a directory that is none and has a file.

use std::{collections::BTreeMap, sync::Arc};

use sheaf_bundles::{
    alerts::{Alerts, Channel, REPEAT_MS, WAITING_MAX_MS, audience::Audience, message::Finding},
    compile::Integration,
    workspace,
};

/// The parts by the keys of their workspaces; the directory's own has the empty one.
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
