//! Sends webhooks, and takes the answer as the vendor takes it.

use std::{
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use super::{Method, Model, Moment, Payload, Spaces};
use crate::wire;

/// A webhook as a user sets it up in the cabinet.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Where the handler listens.
    pub address: SocketAddr,
    /// Its path, with a query or without.
    pub path: String,
    /// How it is sent.
    pub method: Method,
    /// What it can be subscribed to.
    pub model: Model,
    /// How spaces are written.
    pub spaces: Spaces,
}

/// What Calltouch made of the handler's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The handler's status.
    pub status: u16,
    /// Its body.
    pub body: String,
}

impl Sent {
    /// Exactly 200; the vendor takes anything else, 201 and 204 too, for a failure, and does not try again.
    pub fn succeeded(&self) -> bool {
        self.status == 200
    }
}

/// The sender: one webhook and every attempt it made, for re-sends.
pub struct Calltouch {
    webhook: Webhook,
    attempts: Mutex<Vec<Payload>>,
}

impl Calltouch {
    /// A webhook that was just saved.
    pub fn new(webhook: Webhook) -> Calltouch {
        Calltouch { webhook, attempts: Mutex::default() }
    }

    /// What turning the webhook on sends: a request without parameters. Anything but 200 gives the user a warning.
    pub async fn activate(&self) -> io::Result<Sent> {
        self.exchange(&Payload::of(&[])).await
    }

    /// Something happened to a lead: one attempt, never repeated by itself.
    pub async fn happens(&self, moment: Moment, payload: &Payload) -> io::Result<Sent> {
        assert!(self.webhook.model.moments().contains(&moment), "{:?} has no {moment:?}", self.webhook.model);
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).push(payload.clone());
        self.exchange(payload).await
    }

    /// The user asks for a re-send: every attempt again, whatever came of it.
    pub async fn resend(&self) -> io::Result<Vec<Sent>> {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut answers = Vec::new();
        for (nonce, payload) in (1..).zip(&attempts) {
            answers.push(self.exchange(&payload.sent_again(nonce)).await?);
        }
        Ok(answers)
    }

    async fn exchange(&self, payload: &Payload) -> io::Result<Sent> {
        let request = self.webhook.request(payload);
        let answer = wire::Client::connect(self.webhook.address).await?.exchange(&request).await?;
        Ok(Sent { status: answer.status(), body: String::from_utf8_lossy(&answer.body).into_owned() })
    }
}

impl Webhook {
    /// The bytes of the HTTP request.
    pub fn request(&self, payload: &Payload) -> Vec<u8> {
        let encoded = payload.encode(self.spaces);
        match self.method {
            Method::Post => {
                let form = [("Content-Type", "application/x-www-form-urlencoded")];
                wire::request("POST", &self.path, &form, encoded.as_bytes())
            }
            Method::Get => {
                let joint = if self.path.contains('?') { '&' } else { '?' };
                wire::request("GET", &format!("{}{joint}{encoded}", self.path), &[], b"")
            }
        }
    }
}
