//! Who hears of what. A workspace with channels of its own hears of its own things; those of a workspace without any are
//! told through the directory's own channels. Nobody else hears of them: neither a name nor how many there are.

use std::collections::BTreeSet;

use super::message::{Finding, Kind};
use crate::workspace;

/// The key of the directory's own workspace.
const OWN: &str = "";

/// The workspaces that have channels, by their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audience(BTreeSet<String>);

impl Audience {
    /// Of channels, as they are called outside their workspaces.
    pub fn of<'n>(channels: impl IntoIterator<Item = &'n String>) -> Audience {
        Audience(channels.into_iter().map(|name| workspace::of(name).to_owned()).collect())
    }

    /// The workspace whose channels tell of the things of this one. Where there are none its own: only the log is told.
    pub fn teller<'k>(&self, workspace: &'k str) -> &'k str {
        let silent = !self.0.contains(workspace);
        if silent && self.0.contains(OWN) { OWN } else { workspace }
    }

    /// The workspace whose file says how soon this is told again. A thing of two is told at the pace of the directory.
    pub fn pacer<'f>(&self, finding: &'f Finding) -> &'f str {
        let both = is_of_both(finding.kind) && self.0.contains(OWN);
        if both { OWN } else { self.teller(workspace::of(&finding.subject)) }
    }

    /// Whether this channel is told of this.
    pub fn hears(&self, channel: &str, finding: &Finding) -> bool {
        let (hearer, owner) = (workspace::of(channel), workspace::of(&finding.subject));
        if finding.kind.is_of_server() {
            return hearer == owner;
        }
        hearer == self.teller(owner) || (hearer == OWN && is_of_both(finding.kind))
    }

    /// The findings, with those of the whole server once for each who is told of them: the directory, or where it has no
    /// channels every workspace that has. The subject says whom.
    pub fn addressed(&self, findings: Vec<Finding>) -> Vec<Finding> {
        let directory = self.0.is_empty() || self.0.contains(OWN);
        let (of_server, mut all): (Vec<Finding>, Vec<Finding>) =
            findings.into_iter().partition(|finding| finding.kind.is_of_server() && !directory);
        for finding in &of_server {
            let told = |key: &String| Finding {
                subject: workspace::qualified(key, &finding.subject),
                ..finding.clone()
            };
            all.extend(self.0.iter().map(told));
        }
        all
    }
}

/// Whether this channel may be told of this, whoever has channels. A node of an older sheaf on the same database knows of no
/// workspaces, and addresses its letters to every channel.
pub fn may_hear(channel: &str, finding: &Finding) -> bool {
    let hearer = workspace::of(channel);
    hearer == workspace::of(&finding.subject) || (hearer == OWN && !finding.kind.is_of_server())
}

/// What is lost is the business of its owner and of whoever runs the server.
fn is_of_both(kind: Kind) -> bool {
    match kind {
        Kind::LedgerBroken => true,
        Kind::RunParked
        | Kind::AuthorisationBroken
        | Kind::ConnectionClosed
        | Kind::QuotaExhausted
        | Kind::BundlePaused
        | Kind::EventsQuarantined
        | Kind::WaitingLong
        | Kind::SnapshotOld
        | Kind::QueueFailing => false,
    }
}

#[cfg(test)]
mod tests;
