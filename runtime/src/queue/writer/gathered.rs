//! What handles ask of the writer, what of it a turn carries, and the answers.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::oneshot;

use crate::queue::{
    QueueError,
    gate::{GateId, Limit},
    types::{Activated, Activation, Publish, Published},
};

/// Where an answer goes.
pub type Answer<T> = oneshot::Sender<Result<T, QueueError>>;

/// What a handle asks of the writer.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every command is the large one; a box would be an allocation per event"
)]
pub enum Command {
    Publish(Publish, Answer<Published>),
    Activate(Activation, Answer<Activated>),
    Limit(HashMap<GateId, Limit>, oneshot::Sender<()>),
    Flush(Answer<()>),
    Stop(oneshot::Sender<()>),
}

/// What the next turn will carry, and who waits for it.
#[derive(Debug, Default)]
pub struct Gathered {
    pub publishes: Vec<Publish>,
    pub publish_answers: Vec<Answer<Published>>,
    pub activations: Vec<(Activation, Answer<Activated>)>,
    pub limits: Option<(HashMap<GateId, Limit>, oneshot::Sender<()>)>,
    pub flushes: Vec<Answer<()>>,
    pub stop: Option<oneshot::Sender<()>>,
}

impl Gathered {
    pub fn take(&mut self, command: Command) {
        match command {
            Command::Publish(publish, answer) => {
                self.publishes.push(publish);
                self.publish_answers.push(answer);
            }
            Command::Activate(activation, answer) => self.activations.push((activation, answer)),
            Command::Limit(limits, answer) => self.limits = Some((limits, answer)),
            Command::Flush(answer) => self.flushes.push(answer),
            Command::Stop(answer) => self.stop = Some(answer),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.publishes.is_empty()
            && self.activations.is_empty()
            && self.limits.is_none()
            && self.flushes.is_empty()
            && self.stop.is_none()
    }
}

pub fn answer_refused(gathered: &mut Gathered, message: &Arc<str>) {
    refuse_publishes(gathered, message);
    answer_all(&mut gathered.flushes, || Err(QueueError::Storage(message.clone())));
}

pub fn refuse_publishes(gathered: &mut Gathered, message: &Arc<str>) {
    gathered.publishes.clear();
    answer_all(&mut gathered.publish_answers, || Err(QueueError::Storage(message.clone())));
}

pub fn answer_all<T>(answers: &mut Vec<Answer<T>>, answer: impl Fn() -> Result<T, QueueError>) {
    for waiting in answers.drain(..) {
        let _ = waiting.send(answer());
    }
}
