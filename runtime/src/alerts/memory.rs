//! What was told already, kept in the database so that a restart neither repeats it nor forgets what is open, and so
//! that of several nodes only one tells: a change is kept only if nobody else made one in between.
//!
//! While the database cannot be written, which is itself a thing to tell, the process remembers by itself.

use sheaf_bundles::alerts::decide::State;
use tracing::warn;

use crate::storage::store::Store;

/// The name of the note.
pub const NOTE: &str = "alerts";

/// The state, and which one of the database it is based on.
#[derive(Debug, Default)]
pub struct Memory {
    state: State,
    revision: i64,
    /// The state is newer than what the database holds.
    unkept: bool,
}

impl Memory {
    /// The state as last recalled or kept.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes over what another node, or an earlier process, kept.
    pub async fn recall(&mut self, store: &Store) {
        // What cannot be read now is as it was.
        let Ok(note) = store.note(NOTE).await else { return };
        if note.revision == self.revision {
            return;
        }
        self.state = serde_json::from_str(&note.text).unwrap_or_else(|error| {
            warn!(%error, "what was told before cannot be read; it is told anew");
            State::default()
        });
        (self.revision, self.unkept) = (note.revision, false);
    }

    /// Keeps a state. `false` when another node kept one since the recall: that one holds, and this one is dropped.
    pub async fn keep(&mut self, store: &Store, state: State) -> bool {
        if state == self.state && !self.unkept {
            return true;
        }
        let text = serde_json::to_string(&state).expect("names, numbers and texts are always JSON");
        match store.keep_note(NOTE, &text, self.revision).await {
            Ok(true) => (self.revision, self.unkept) = (self.revision + 1, false),
            Ok(false) => {
                self.recall(store).await;
                return false;
            }
            Err(error) => {
                if !self.unkept {
                    warn!(%error, "what is told is remembered by this process only");
                }
                self.unkept = true;
            }
        }
        self.state = state;
        true
    }

    /// Changes the state, again on top of another node's when that came first.
    pub async fn change(&mut self, store: &Store, mut change: impl FnMut(&mut State)) {
        loop {
            let mut state = self.state.clone();
            change(&mut state);
            let revision = self.revision;
            if self.keep(store, state).await || self.revision == revision {
                return;
            }
        }
    }
}
