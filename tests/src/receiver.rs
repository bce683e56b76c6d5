//! A receiver that takes anything, writes it down, and answers by script, badly if told so.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::wire::{Message, Reply, Server};

/// One scripted behaviour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// An answer with this status and JSON body.
    Status(u16, String),
    /// An answer with this status, these headers and this body.
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// 302 to this address.
    Redirect(String),
    /// The behaviour after a wait.
    After(Duration, Box<Behaviour>),
    /// Bytes that are not HTTP.
    Garbage,
    /// Half of a well-formed answer, then the connection is closed.
    HalfAnswer,
    /// The connection is closed without a byte.
    Cut,
    /// No answer at all until the receiver stops.
    Silence,
}

impl Behaviour {
    /// 200 with `{"status":"Success"}`, which Mindbox's and most success rules take.
    pub fn success() -> Behaviour {
        Behaviour::Status(200, r#"{"status":"Success"}"#.to_owned())
    }

    async fn perform(self) -> Reply {
        match self {
            Behaviour::Status(status, body) => {
                Reply::answer(status, &[("Content-Type", "application/json")], body.as_bytes())
            }
            Behaviour::Answer(status, headers, body) => {
                let headers: Vec<_> =
                    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                Reply::answer(status, &headers, &body)
            }
            Behaviour::Redirect(to) => Reply::answer(302, &[("Location", &to)], b""),
            Behaviour::After(wait, then) => {
                tokio::time::sleep(wait).await;
                Box::pin(then.perform()).await
            }
            Behaviour::Garbage => {
                Reply::BytesThenClose(b"\x00\xff\x13 this is not HTTP\r\n\r\n\r\n".to_vec())
            }
            Behaviour::HalfAnswer => {
                let half = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"status\":";
                Reply::BytesThenClose(half.to_vec())
            }
            Behaviour::Cut => Reply::BytesThenClose(Vec::new()),
            Behaviour::Silence => std::future::pending().await,
        }
    }
}

struct State {
    script: VecDeque<Behaviour>,
    otherwise: Behaviour,
    messages: Vec<Message>,
}

/// The receiver, running.
pub struct Receiver {
    server: Server,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl Receiver {
    /// Starts it on a free port; it answers [`Behaviour::success`] unless told otherwise.
    pub async fn start() -> io::Result<Receiver> {
        let state = State { script: VecDeque::new(), otherwise: Behaviour::success(), messages: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let changed = Arc::new(Notify::new());
        let (recording, telling) = (Arc::clone(&state), Arc::clone(&changed));
        let server = Server::start(move |message| {
            let behaviour = record(&recording, message);
            telling.notify_waiters();
            behaviour.perform()
        })
        .await?;
        Ok(Receiver { server, state, changed })
    }

    /// `http://127.0.0.1:port`.
    pub fn origin(&self) -> String {
        self.server.origin()
    }

    /// The next requests meet these behaviours, one each.
    pub fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        lock(&self.state).script.extend(behaviours);
    }

    /// What requests meet when the script is over.
    pub fn otherwise(&self, behaviour: Behaviour) {
        lock(&self.state).otherwise = behaviour;
    }

    /// What it got so far, whatever it answered.
    pub fn messages(&self) -> Vec<Message> {
        lock(&self.state).messages.clone()
    }

    /// Waits until it has got at least that many requests. Callers bound the wait.
    pub async fn at_least(&self, count: usize) -> Vec<Message> {
        loop {
            let changed = self.changed.notified();
            let messages = self.messages();
            if messages.len() >= count {
                return messages;
            }
            changed.await;
        }
    }
}

fn record(state: &Mutex<State>, message: Message) -> Behaviour {
    let mut state = lock(state);
    state.messages.push(message);
    state.script.pop_front().unwrap_or_else(|| state.otherwise.clone())
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
