//! A stand-in for Calltouch: sends webhooks as the vendor does. Source of every fact: the vendor's article on webhooks.

mod parameters;

use std::{
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub use parameters::{Leads, PARAMETERS, Parameter, Shape, parameter};

use crate::wire;

/// Everything but `A-Z a-z 0-9 - _ .` is encoded, in names and in values.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// The attribute that the Mindbox recipe ties a visitor by.
pub const DEVICE_ATTRIBUTE: &str = "mindboxDeviceUUID";
/// Its value in the samples.
pub const DEVICE: &str = "0b0c0000-0000-4000-8000-000000000001";

/// The HTTP method a user picks for a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The default: a form in the body.
    Post,
    /// The same names in the query.
    Get,
}

/// The sending model a user picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// Three moments, each after an optional delay.
    Simple,
    /// All ten, at once.
    Events,
}

impl Model {
    /// What a webhook of this model can be subscribed to.
    pub fn moments(self) -> &'static [Moment] {
        match self {
            Model::Simple => &Moment::ALL[..3],
            Model::Events => &Moment::ALL,
        }
    }
}

/// What happened to a lead. The vendor sends no name of it: it is told by `leadtype`, `callphase` and `changedFields`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A call starts.
    CallStarted,
    /// A call ends.
    CallEnded,
    /// A request is made.
    RequestCreated,
    /// A call's status changes.
    StatusChanged,
    /// A call's spam mark changes.
    SpamChanged,
    /// A call has its transcript.
    Transcribed,
    /// Tags change.
    TagsChanged,
    /// Comments change.
    CommentsChanged,
    /// The manager changes.
    ManagerChanged,
    /// The rating changes.
    RatingChanged,
}

impl Moment {
    /// All ten, the simple model's three first.
    pub const ALL: [Moment; 10] = [
        Moment::CallStarted,
        Moment::CallEnded,
        Moment::RequestCreated,
        Moment::StatusChanged,
        Moment::SpamChanged,
        Moment::Transcribed,
        Moment::TagsChanged,
        Moment::CommentsChanged,
        Moment::ManagerChanged,
        Moment::RatingChanged,
    ];

    /// What `changedFields` lists when this is not the lead's first send.
    pub fn changed_fields(self) -> &'static str {
        match self {
            Moment::CallStarted | Moment::RequestCreated => "null",
            Moment::CallEnded => {
                "callphase,redirectNumber,duration,waiting_time,status,targetcall,uniqtargetcall"
            }
            Moment::StatusChanged => "status",
            Moment::SpamChanged => "spam",
            Moment::Transcribed => "text",
            Moment::TagsChanged => "tags_manual",
            Moment::CommentsChanged => "comment",
            Moment::ManagerChanged => "manager",
            Moment::RatingChanged => "rating",
        }
    }
}

/// How `attrs` is written; the vendor's article prints the third.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributesForm {
    /// `attrs={"name":"value"}`.
    Json,
    /// `attrs[name]=value`.
    Brackets,
    /// `attrs={"name" "value","name2""value2"`: no colons, no closing brace.
    Broken,
}

impl AttributesForm {
    /// All of them.
    pub const ALL: [AttributesForm; 3] =
        [AttributesForm::Json, AttributesForm::Brackets, AttributesForm::Broken];
}

/// How a space is written; "URL Encode" may mean either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spaces {
    /// `%20`.
    Percent,
    /// `+`.
    Plus,
}

/// The parameters of one send, in order, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    pairs: Vec<(String, String)>,
}

impl Payload {
    /// A call's webhook with every parameter a call has at this moment. First of its lead where the moment can be.
    pub fn call(moment: Moment, id: u64) -> Payload {
        assert!(moment != Moment::RequestCreated, "a call cannot be a created request");
        let started = moment == Moment::CallStarted;
        let payload = Payload::sample(Leads::Requests, started)
            .set("id", &id.to_string())
            .set("callphase", if started { "callconnected" } else { "calldisconnected" });
        match moment {
            Moment::CallStarted => payload.set("redirectNumber", "undefined"),
            Moment::CallEnded => payload,
            _ => payload.set("changedFields", moment.changed_fields()),
        }
    }

    /// A request's webhook with every parameter a request has.
    pub fn request(moment: Moment, id: u64) -> Payload {
        let of_calls = [Moment::CallStarted, Moment::CallEnded, Moment::StatusChanged, Moment::SpamChanged];
        assert!(
            !of_calls.contains(&moment) && moment != Moment::Transcribed,
            "{moment:?} happens to calls only"
        );
        Payload::sample(Leads::Calls, false)
            .set("leadtype", "request")
            .set("requestId", &id.to_string())
            .set("changedFields", moment.changed_fields())
    }

    /// The end of a call whose start was sent before by the same webhook.
    pub fn call_end_after_start(id: u64) -> Payload {
        Payload::call(Moment::CallEnded, id).set("changedFields", Moment::CallEnded.changed_fields())
    }

    /// Any pairs.
    pub fn of(pairs: &[(&str, &str)]) -> Payload {
        Payload {
            pairs: pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    fn sample(without: Leads, at_start: bool) -> Payload {
        let mut payload = Payload { pairs: Vec::new() };
        for parameter in PARAMETERS.iter().filter(|it| it.leads != without && (it.at_start || !at_start)) {
            match parameter.shape {
                Shape::Text(sample) => payload.pairs.push((parameter.name.to_owned(), sample.to_owned())),
                Shape::List(items) => payload.push_list(parameter.name, items),
                Shape::Attributes => {
                    payload = payload.attributes(AttributesForm::Json, &[(DEVICE_ATTRIBUTE, DEVICE)])
                }
            }
        }
        payload
    }

    fn push_list(&mut self, name: &str, items: &[[(&str, &str); 2]]) {
        for (index, item) in items.iter().enumerate() {
            for (key, value) in item {
                self.pairs.push((format!("{name}[{index}][{key}]"), (*value).to_owned()));
            }
        }
    }

    /// The same with a parameter's value; added at the end when it was not there.
    pub fn set(mut self, name: &str, value: &str) -> Payload {
        match self.pairs.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.pairs.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// The same without a parameter, all of its `name[…]` included: the user unticked it.
    pub fn without(mut self, name: &str) -> Payload {
        self.pairs.retain(|(key, _)| {
            key != name && !key.strip_prefix(name).is_some_and(|rest| rest.starts_with('['))
        });
        self
    }

    /// The same with a parameter under the name the user gave it.
    pub fn renamed(mut self, from: &str, to: &str) -> Payload {
        for (key, _) in &mut self.pairs {
            if let Some(rest) = key.strip_prefix(from).filter(|rest| rest.is_empty() || rest.starts_with('['))
            {
                *key = format!("{to}{rest}");
            }
        }
        self
    }

    /// The same with these site attributes, written in that form.
    pub fn attributes(self, form: AttributesForm, attributes: &[(&str, &str)]) -> Payload {
        let mut payload = self.without("attrs");
        match form {
            AttributesForm::Json => {
                let object: serde_json::Map<_, _> =
                    attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
                payload.pairs.push(("attrs".to_owned(), serde_json::Value::Object(object).to_string()));
            }
            AttributesForm::Brackets => {
                let pair = |(name, value): &(&str, &str)| (format!("attrs[{name}]"), (*value).to_owned());
                payload.pairs.extend(attributes.iter().map(pair));
            }
            AttributesForm::Broken => payload.pairs.push(("attrs".to_owned(), broken(attributes))),
        }
        payload
    }

    /// What a manual re-send makes of it: a fresh record link (its token is new at each send) and a fresh sending time.
    pub fn sent_again(&self, nonce: u64) -> Payload {
        let seconds: u64 = self.get("sendingTimestamp").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut again = self.clone();
        if again.get("reclink").is_some() {
            again = again.set("reclink", &format!("https://calls.example/rec?token=jwt-{nonce}"));
        }
        again.set("sendingTimestamp", &(seconds + nonce).to_string())
    }

    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The pairs, decoded.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// The form body, or the query: ASCII only, names (their brackets too) and values percent-encoded.
    pub fn encode(&self, spaces: Spaces) -> String {
        let mut text = String::new();
        for (name, value) in &self.pairs {
            if !text.is_empty() {
                text.push('&');
            }
            text.extend(utf8_percent_encode(name, ENCODED));
            text.push('=');
            text.extend(utf8_percent_encode(value, ENCODED));
        }
        match spaces {
            Spaces::Percent => text,
            Spaces::Plus => text.replace("%20", "+"),
        }
    }
}

/// As the article prints it: a space instead of the first colon, nothing instead of the others, no closing brace.
fn broken(attributes: &[(&str, &str)]) -> String {
    let mut text = "{".to_owned();
    for (index, (name, value)) in attributes.iter().enumerate() {
        let between = if index == 0 { " " } else { "" };
        let comma = if index == 0 { "" } else { "," };
        text.push_str(&format!("{comma}\"{name}\"{between}\"{value}\""));
    }
    text
}

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
