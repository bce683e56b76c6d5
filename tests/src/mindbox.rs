//! A strict stand-in for Mindbox: API v3 operations, `async` and `sync`. It refuses what Mindbox refuses, and answers
//! every status of the vendor's table on demand. Sources: the vendor's SDKs for PHP and Android and its operation pages.

use std::{
    collections::{HashSet, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::wire::{Message, Reply, Server};

/// The only content type it takes.
pub const CONTENT_TYPE: &str = "application/json; charset=utf-8";
/// Groups of a GUID, in characters.
const GUID_GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
/// Digits of a phone number, with its country.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 10..=15;

/// A project of Mindbox: who may call what.
#[derive(Debug, Clone)]
pub struct Project {
    /// The secret key, the same in both spellings of the header.
    pub secret_key: String,
    /// The integration points.
    pub endpoints: Vec<String>,
    /// The operations somebody registered; their names are the project's own.
    pub operations: Vec<String>,
}

impl Default for Project {
    /// The project of the Calltouch recipe.
    fn default() -> Project {
        Project {
            secret_key: "test-key".to_owned(),
            endpoints: vec!["shop-site".to_owned()],
            operations: vec!["CallTouch".to_owned(), "CallTouchStatic".to_owned()],
        }
    }
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 200, the data was taken.
    Success,
    /// **200**, the data was not taken.
    ValidationError {
        /// What is wrong.
        message: String,
        /// Where, as a JSON pointer.
        location: String,
    },
    /// The transaction was taken before; with this HTTP status (200, but an error code has been seen).
    AlreadyProcessed(u16),
    /// 400, 401, 403, 404, 409 or 429.
    ProtocolError {
        /// The HTTP status.
        status: u16,
        /// `errorMessage`.
        message: String,
    },
    /// 500 or 503.
    InternalServerError(u16),
    /// This status without a body.
    Empty(u16),
    /// The data was taken and the connection broke before the answer.
    Lost,
}

impl Answer {
    fn protocol(status: u16, message: impl Into<String>) -> Answer {
        Answer::ProtocolError { status, message: message.into() }
    }

    fn invalid(message: &str, location: &str) -> Answer {
        Answer::ValidationError { message: message.to_owned(), location: location.to_owned() }
    }

    /// Whether the transaction counts as done.
    fn processed(&self) -> bool {
        match self {
            Answer::Success | Answer::Lost => true,
            Answer::ValidationError { .. }
            | Answer::AlreadyProcessed(_)
            | Answer::ProtocolError { .. }
            | Answer::InternalServerError(_)
            | Answer::Empty(_) => false,
        }
    }

    fn reply(&self) -> Reply {
        match self {
            Answer::Success => Reply::json(200, &json!({"status": "Success"})),
            Answer::ValidationError { message, location } => {
                let messages = json!([{"message": message, "location": location}]);
                Reply::json(200, &json!({"status": "ValidationError", "validationMessages": messages}))
            }
            Answer::AlreadyProcessed(status) => {
                Reply::json(*status, &json!({"status": "TransactionAlreadyProcessed"}))
            }
            Answer::ProtocolError { status, message } => {
                Reply::json(*status, &problem("ProtocolError", message, *status))
            }
            Answer::InternalServerError(status) => {
                Reply::json(*status, &problem("InternalServerError", "Internal error", *status))
            }
            Answer::Empty(status) => Reply::answer(*status, &[], b""),
            Answer::Lost => Reply::BytesThenClose(Vec::new()),
        }
    }
}

fn problem(kind: &str, message: &str, status: u16) -> Value {
    let id = "11111111-0000-4000-8000-000000000000";
    json!({"status": kind, "errorMessage": message, "errorId": id, "httpStatusCode": status})
}

/// One request it got, and what it said.
#[derive(Debug, Clone)]
pub struct Record {
    /// `/v3/operations/async` or `/v3/operations/sync`, or whatever was asked for.
    pub path: String,
    /// The decoded query.
    pub query: Vec<(String, String)>,
    /// The headers as sent.
    pub headers: Vec<(String, String)>,
    /// The body; `Null` when it is not JSON.
    pub body: Value,
    /// What it answered.
    pub answer: Answer,
}

impl Record {
    /// The first value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct State {
    processed: HashSet<String>,
    script: VecDeque<Answer>,
    records: Vec<Record>,
}

/// The stand-in, running.
pub struct Mindbox {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    project: Project,
    state: Mutex<State>,
    changed: Notify,
}

impl Mindbox {
    /// Starts it on a free port.
    pub async fn start(project: Project) -> io::Result<Mindbox> {
        let shared = Arc::new(Shared { project, state: Mutex::default(), changed: Notify::new() });
        let handling = Arc::clone(&shared);
        let server = Server::start(move |message| {
            let reply = handling.handle(&message);
            async move { reply }
        })
        .await?;
        Ok(Mindbox { server, shared })
    }

    /// `http://127.0.0.1:port`.
    pub fn origin(&self) -> String {
        self.server.origin()
    }

    /// The next well-formed requests get these answers; after them it answers by itself again.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.state().script.extend(answers);
    }

    /// What it got so far.
    pub fn records(&self) -> Vec<Record> {
        self.shared.state().records.clone()
    }

    /// Waits until it has got at least that many requests. Callers bound the wait.
    pub async fn at_least(&self, count: usize) -> Vec<Record> {
        loop {
            let changed = self.shared.changed.notified();
            let records = self.records();
            if records.len() >= count {
                return records;
            }
            changed.await;
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, message: &Message) -> Reply {
        let query = message.query();
        let body = serde_json::from_slice(&message.body).ok();
        let mut state = self.state();
        let transaction = first(&query, "transactionId").map(str::to_owned);
        let answer = match check(&self.project, message, &query, body.as_ref()) {
            Err(refusal) => refusal,
            Ok(()) if transaction.as_ref().is_some_and(|it| state.processed.contains(it)) => {
                Answer::AlreadyProcessed(200)
            }
            Ok(()) => {
                state.script.pop_front().or_else(|| validate(body.as_ref()).err()).unwrap_or(Answer::Success)
            }
        };
        if answer.processed() {
            state.processed.extend(transaction);
        }
        let reply = answer.reply();
        state.records.push(Record {
            path: message.path().to_owned(),
            query,
            headers: message.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body: body.unwrap_or_default(),
            answer,
        });
        drop(state);
        self.changed.notify_waiters();
        reply
    }
}

/// The protocol: what makes a request not well-formed.
fn check(
    project: &Project,
    message: &Message,
    query: &[(String, String)],
    body: Option<&Value>,
) -> Result<(), Answer> {
    if message.method() != "POST"
        || !["/v3/operations/async", "/v3/operations/sync"].contains(&message.path())
    {
        return Err(Answer::protocol(404, "Not found"));
    }
    let keys = [
        format!("Mindbox secretKey=\"{}\"", project.secret_key),
        format!("SecretKey {}", project.secret_key),
    ];
    match message.header("authorization") {
        None => return Err(Answer::protocol(401, "Authorization is missing")),
        Some(sent) if !keys.iter().any(|key| key == sent) => {
            return Err(Answer::protocol(403, "Wrong authorization"));
        }
        Some(_) => {}
    }
    check_query(project, query)?;
    if message.header("content-type") != Some(CONTENT_TYPE) {
        return Err(Answer::protocol(400, "Wrong content type"));
    }
    if body.is_some_and(Value::is_object) {
        Ok(())
    } else {
        Err(Answer::protocol(400, "The body is not a JSON object"))
    }
}

fn check_query(project: &Project, query: &[(String, String)]) -> Result<(), Answer> {
    let mut names = HashSet::new();
    if let Some((name, _)) = query.iter().find(|(name, _)| !names.insert(name)) {
        return Err(Answer::protocol(400, format!("{name} is given twice")));
    }
    match first(query, "endpointId") {
        None | Some("") => return Err(Answer::protocol(400, "endpointId is missing")),
        Some(id) if !project.endpoints.iter().any(|known| known == id) => {
            return Err(Answer::protocol(403, "Endpoint not found"));
        }
        Some(_) => {}
    }
    if !project.operations.iter().any(|known| first(query, "operation") == Some(known)) {
        return Err(Answer::protocol(400, "Operation not found"));
    }
    for name in ["deviceUUID", "transactionId"] {
        if first(query, name).is_some_and(|value| !is_guid(value)) {
            return Err(Answer::protocol(400, format!("{name} is not a GUID")));
        }
    }
    Ok(())
}

/// The data: what the operation would not take. Only the phone is looked at.
fn validate(body: Option<&Value>) -> Result<(), Answer> {
    let is_phone = |text: &str| {
        let digits = text.strip_prefix('+').unwrap_or(text);
        PHONE_DIGITS.contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    match body.and_then(|body| body.pointer("/customer/mobilePhone")) {
        None => Ok(()),
        Some(phone) if phone.as_str().is_some_and(is_phone) => Ok(()),
        Some(_) => Err(Answer::invalid("Некорректный номер", "/customer/mobilePhone")),
    }
}

fn first<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn is_guid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.len() == GUID_GROUPS.len()
        && groups.iter().zip(GUID_GROUPS).all(|(group, length)| {
            group.len() == length && group.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}
