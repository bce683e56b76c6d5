//! One message through one channel, with its secrets filled in at that moment.

use std::{path::PathBuf, sync::Arc, time::Duration};

use sheaf_bundles::{
    alerts::{Channel, Destination, message::Message},
    words::Language,
};

use super::{email, webhook};
use crate::{clock::Clock, egress::Egress, secrets::Secrets};

/// The longest that one message may take, milliseconds; below the time after which it is sent again by itself.
pub const SEND_MS_MAX: u32 = 30_000;

/// Sends messages.
pub struct Sender {
    /// The way out, with its address guard.
    pub egress: Arc<Egress>,
    /// The secrets of the channels.
    pub secrets: Arc<Secrets>,
    /// The time that is signed.
    pub clock: Clock,
    /// Where files of channels lie.
    pub directory: PathBuf,
}

impl Sender {
    /// Sends one message about a workspace, which may have no name.
    ///
    /// # Errors
    /// Why it did not arrive, for the operator; without secrets.
    pub async fn send(
        &self,
        channel: &Channel,
        message: &Message,
        workspace: &str,
        language: Language,
    ) -> Result<(), String> {
        let secrets = self.secrets.held(&channel.secrets);
        match &channel.to {
            Destination::Webhook { url, origin } => {
                let body = message.to_json(workspace, language).to_string().into_bytes();
                let signed = webhook::signed(&secrets, &message.id, self.clock.now_ms(), body)?;
                webhook::send(&self.egress, url, origin, signed).await
            }
            Destination::Email(email) => {
                let limit = Duration::from_millis(u64::from(SEND_MS_MAX));
                let letter = email::letter(email, message, workspace, language)?;
                let sending = email::send(&self.egress, &self.directory, email, &secrets, &letter);
                tokio::time::timeout(limit, sending).await.unwrap_or_else(|_| {
                    Err(format!("the mail server did not take it within {SEND_MS_MAX} ms"))
                })
            }
        }
    }
}
