//! The state of one run: what is done, and the request that must be sent again byte for byte.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::{event::Event, id::EventId, json, request::Request, value::Value};

/// How far one run of a plan has come. Grows only by [`crate::plan::Plan::record`].
#[derive(Debug, Clone, PartialEq)]
pub struct RunState {
    /// The event it processes.
    pub event: Arc<Event>,
    /// 0 for the first run and its retries; a replay as new has the next number, and so new idempotency keys.
    pub generation: u32,
    /// One entry for each step that is behind, in the order they were run.
    pub done: Vec<StepResult>,
    /// The request of the step that is next, once it was sent without success.
    pub pending: Option<Request>,
    /// How often that step has failed since the run was made due by its event or by a person.
    pub failures: u32,
    /// An answer to the pending request was lost and nobody has said since whether it worked: the vendor is asked before it
    /// is sent again where it can be, and whatever comes of a repeat, the step has not failed.
    pub lost: bool,
}

/// What a step that is behind leaves for later ones.
#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    /// The HTTP status it got; 0 when there was no answer.
    pub status: u16,
    /// The parsed answer, when a later step reads it.
    pub body: Option<Value>,
    /// Why it failed, for the operator, when it did and the run went on.
    pub failed: Option<String>,
}

/// The stored state of a run is not readable.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Not the form we write.
    #[error("the stored state of the run cannot be read: {0}")]
    Form(#[from] serde_json::Error),
    /// An answer in it is not JSON.
    #[error("a stored answer cannot be read: {0}")]
    Answer(#[from] json::JsonError),
}

/// What is stored beside the event.
#[derive(serde::Serialize, serde::Deserialize)]
struct Stored {
    generation: u32,
    /// Status and the answer's JSON, exact numbers and all.
    done: Vec<(u16, Option<String>)>,
    pending: Option<Request>,
    /// Which of `done` failed, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failed: Vec<(usize, String)>,
    #[serde(default)]
    failures: u32,
    /// The name it had when only steps that ask had it: the nodes of the version before still read it.
    #[serde(default, rename = "asking")]
    lost: bool,
}

impl RunState {
    /// A run that has not begun.
    pub fn new(event: Arc<Event>, generation: u32) -> RunState {
        RunState { event, generation, done: Vec::new(), pending: None, failures: 0, lost: false }
    }

    /// True when nothing has happened yet, so nothing needs to be stored.
    pub fn is_fresh(&self) -> bool {
        self.generation == 0 && self.done.is_empty() && self.pending.is_none()
    }

    /// The bytes to store; the event is stored by its own id.
    pub fn to_bytes(&self) -> Vec<u8> {
        let done = self.done.iter().map(|step| (step.status, step.body.as_ref().map(json::to_text)));
        let failed = self.done.iter().enumerate();
        let failed = failed.filter_map(|(at, step)| Some((at, step.failed.clone()?)));
        let stored = Stored {
            generation: self.generation,
            done: done.collect(),
            pending: self.pending.clone(),
            failed: failed.collect(),
            failures: self.failures,
            lost: self.lost,
        };
        serde_json::to_vec(&stored).expect("maps with text keys, numbers and text always serialise")
    }

    /// Reads back what [`RunState::to_bytes`] wrote.
    ///
    /// # Errors
    /// The bytes are not a stored state.
    pub fn from_bytes(event: Arc<Event>, bytes: &[u8]) -> Result<RunState, StateError> {
        let Stored { generation, done, pending, failed, failures, lost } = serde_json::from_slice(bytes)?;
        let read = |(status, body): (u16, Option<String>)| {
            let body = body.map(|body| json::parse(body.as_bytes(), json::Limits::default())).transpose()?;
            Ok::<_, StateError>(StepResult { status, body, failed: None })
        };
        let mut done = done.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        for (at, reason) in failed {
            if let Some(step) = done.get_mut(at) {
                step.failed = Some(reason);
            }
        }
        Ok(RunState { event, generation, done, pending, failures, lost })
    }
}

/// The idempotency key of one delivery, in the form of a UUID (version 8): the same over every attempt and every
/// replay as retry, different for every event, bundle version, step and replay as new.
pub fn delivery_key(event: EventId, version: &[u8; 32], step: &str, generation: u32) -> String {
    let mut hash = Sha256::new();
    hash.update(event.0.to_be_bytes());
    hash.update(version);
    hash.update(generation.to_be_bytes());
    hash.update(step.as_bytes());
    let digest = hash.finalize();
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    hyphenated(&bytes)
}

/// `8-4-4-4-12` lower-case hex.
fn hyphenated(bytes: &[u8; 16]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::value::Map;

    #[test]
    fn a_state_from_before_failures_were_counted_is_read() {
        let event = Event { id: EventId(7), connection: "c".into(), received_ms: 0, fields: Map::default() };
        let old = br#"{"generation":1,"done":[[200,null]],"pending":null}"#;
        let state = RunState::from_bytes(Arc::new(event), old).expect("a state");
        assert_eq!((state.generation, state.failures, state.lost), (1, 0, false));
        assert_eq!(state.done, [StepResult { status: 200, body: None, failed: None }]);
    }

    #[test]
    fn a_lost_answer_is_stored_as_the_version_before_reads_it() {
        let event = Event { id: EventId(7), connection: "c".into(), received_ms: 0, fields: Map::default() };
        let state = RunState { lost: true, ..RunState::new(Arc::new(event), 0) };
        let bytes = state.to_bytes();
        assert!(String::from_utf8_lossy(&bytes).contains(r#""asking":true"#));
        assert_eq!(RunState::from_bytes(Arc::clone(&state.event), &bytes).expect("a state"), state);
    }

    #[test]
    fn a_delivery_key_looks_like_a_uuid_and_is_the_same_every_time() {
        let key = delivery_key(EventId(7), &[1; 32], "send", 0);
        assert_eq!(key, delivery_key(EventId(7), &[1; 32], "send", 0));
        assert_eq!(key.len(), 36);
        assert_eq!(key.as_bytes()[14], b'8');
        assert!(matches!(key.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }

    #[test]
    fn another_event_version_step_or_generation_has_another_key() {
        let keys = BTreeSet::from([
            delivery_key(EventId(7), &[1; 32], "send", 0),
            delivery_key(EventId(8), &[1; 32], "send", 0),
            delivery_key(EventId(7), &[2; 32], "send", 0),
            delivery_key(EventId(7), &[1; 32], "sent", 0),
            delivery_key(EventId(7), &[1; 32], "send", 1),
        ]);
        assert_eq!(keys.len(), 5);
    }
}
