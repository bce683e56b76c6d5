//! Load: Calltouch webhooks with unique ids over keep-alive connections, as fast as answers come or at a fixed rate.
//!
//! A call's id is the time it was due, in nanoseconds since 1970: whoever sees the id knows the latency.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{
    calltouch::{Method, Model, Moment, Payload, Spaces, Webhook},
    clock::unix_ns,
    latencies::Latencies,
    wire::Client,
};

/// Parameters in a generated body, brackets counted one by one.
pub const BODY_PARAMETERS: usize = 66;
/// The id that stands in a template; real ids are as long for centuries.
const PLACE: u64 = 1_000_000_000_000_000_000;
/// How late a timer may wake a sender before the lateness counts as the product's.
const TIMER_SLACK_NS: i64 = 2_000_000;

/// The requests to send, ready but for the id.
#[derive(Debug)]
pub struct Template {
    before: Vec<u8>,
    after: Vec<u8>,
    /// Bytes of the body alone.
    pub body_bytes: usize,
}

impl Template {
    /// A call that ended, from a visitor who is known by a session and a cookie, or is not known at all.
    pub fn call(address: SocketAddr, path: &str, known: bool) -> Template {
        let mut payload = Payload::call(Moment::CallEnded, PLACE)
            .without("comment[1]")
            .without("text[1]")
            .set(
                "userAgent",
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0 Safari/537.36",
            )
            .set(
                "reclink",
                &format!("https://calls.example/rec?token={}", "eyJhbGciOiJIUzI1NiJ9.".repeat(8)),
            );
        if !known {
            payload = payload.set("sessionId", "").set("attrs", "");
        }
        Template::of(&payload, address, path)
    }

    /// A call of a known visitor who came by that campaign.
    pub fn call_of_campaign(address: SocketAddr, path: &str, campaign: &str) -> Template {
        let payload = Payload::call(Moment::CallEnded, PLACE).set("utm_campaign", campaign);
        Template::of(&payload, address, path)
    }

    fn of(payload: &Payload, address: SocketAddr, path: &str) -> Template {
        let method = Method::Post;
        let webhook =
            Webhook { address, path: path.to_owned(), method, model: Model::Simple, spaces: Spaces::Percent };
        let request = webhook.request(payload);
        let body_bytes = payload.encode(Spaces::Percent).len();
        let place = PLACE.to_string();
        let at = request.windows(place.len()).position(|it| it == place.as_bytes()).unwrap_or(request.len());
        let after = request.get(at + place.len()..).unwrap_or_default().to_vec();
        Template { before: request[..at].to_vec(), after, body_bytes }
    }

    /// Writes the request with that id into the buffer.
    pub fn fill(&self, id: i64, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(&self.before);
        buffer.extend_from_slice(id.to_string().as_bytes());
        buffer.extend_from_slice(&self.after);
    }
}

/// When the next request goes out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As soon as the connection's last answer is there.
    Closed,
    /// At this rate, whatever the answers do; a request that waits for a free connection is late from its due time on, and
    /// is not sent any more once the time is over.
    Open {
        /// Requests a second.
        per_second: f64,
    },
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where the handler listens.
    pub address: SocketAddr,
    /// What is sent, in turns.
    pub templates: Arc<[Template]>,
    /// Connections, so requests in flight at most.
    pub connections: usize,
    /// When they go out.
    pub pace: Pace,
    /// For how long.
    pub duration: Duration,
}

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    /// Ids answered 200.
    pub acknowledged: Vec<i64>,
    /// When each of them was answered, nanoseconds since 1970.
    pub answered_ns: Vec<i64>,
    /// Requests with another answer.
    pub refused: u64,
    /// Requests without an answer.
    pub unanswered: u64,
    /// From due to answered, of the acknowledged.
    pub latencies: Latencies,
    /// Bytes of all bodies sent.
    pub body_bytes: u64,
}

struct Shared {
    load: Load,
    started_ns: i64,
    next: AtomicU64,
    last_id: AtomicI64,
}

/// Calls of visitors who are known and of others, in turns.
pub fn calls(address: SocketAddr, path: &str) -> Arc<[Template]> {
    [true, false].map(|known| Template::call(address, path, known)).into()
}

impl Load {
    /// Sends until the time is over and every answer is there.
    pub async fn run(self) -> Outcome {
        let connections = self.connections;
        let (next, last_id) = (AtomicU64::new(0), AtomicI64::new(0));
        let shared = Arc::new(Shared { load: self, started_ns: unix_ns(), next, last_id });
        let senders: JoinSet<Outcome> = (0..connections).map(|_| send(Arc::clone(&shared))).collect();
        senders.join_all().await.into_iter().fold(Outcome::default(), Outcome::and)
    }
}

impl Outcome {
    fn and(mut self, other: Outcome) -> Outcome {
        self.acknowledged.extend(other.acknowledged);
        self.answered_ns.extend(other.answered_ns);
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.body_bytes += other.body_bytes;
        self.latencies.merge(&other.latencies);
        self
    }
}

impl Shared {
    /// The due time of the next request, once it has come; `None` when the time is over.
    async fn due(&self, number: u64) -> Option<i64> {
        let end_ns = self.started_ns + i64::try_from(self.load.duration.as_nanos()).unwrap_or(i64::MAX / 2);
        let due_ns = match self.load.pace {
            Pace::Closed => unix_ns(),
            Pace::Open { per_second } => {
                let due_ns = self.started_ns + (number as f64 / per_second * 1e9) as i64;
                let wait_ns = u64::try_from(due_ns - unix_ns()).unwrap_or(0);
                if unix_ns() >= end_ns {
                    return None;
                }
                if wait_ns > 0 && due_ns < end_ns {
                    tokio::time::sleep(Duration::from_nanos(wait_ns)).await;
                    unix_ns().min(due_ns + TIMER_SLACK_NS)
                } else {
                    due_ns
                }
            }
        };
        (due_ns < end_ns).then_some(due_ns)
    }

    /// The due time, moved by nanoseconds where it would not be unique.
    fn id(&self, due_ns: i64) -> i64 {
        let last = self
            .last_id
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(due_ns.max(last + 1)));
        due_ns.max(last.unwrap_or(0) + 1)
    }
}

async fn send(shared: Arc<Shared>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut client = None;
    let mut buffer = Vec::new();
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(due_ns) = shared.due(number).await else { return outcome };
        let templates = &shared.load.templates;
        let template = &templates[(number % templates.len() as u64) as usize];
        let id = shared.id(due_ns);
        template.fill(id, &mut buffer);
        outcome.body_bytes += template.body_bytes as u64;
        match exchange(&mut client, shared.load.address, &buffer).await {
            Ok(200) => {
                let now_ns = unix_ns();
                outcome.acknowledged.push(id);
                outcome.answered_ns.push(now_ns);
                outcome.latencies.record_ns(now_ns - id);
            }
            Ok(_) => outcome.refused += 1,
            Err(_) => {
                outcome.unanswered += 1;
                client = None;
            }
        }
    }
}

async fn exchange(client: &mut Option<Client>, address: SocketAddr, request: &[u8]) -> io::Result<u16> {
    let client = match client {
        Some(client) => client,
        None => client.insert(Client::connect(address).await?),
    };
    Ok(client.exchange(request).await?.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_66_parameters_and_about_2_3_kilobytes_and_carries_its_id() {
        let template = Template::call(([127, 0, 0, 1], 80).into(), "/hook", true);
        let mut buffer = Vec::new();
        template.fill(1_772_694_930_123_456_789, &mut buffer);
        let text = String::from_utf8(buffer).expect("ASCII");
        let body = text.split("\r\n\r\n").nth(1).expect("a body");
        assert_eq!(body.split('&').count(), BODY_PARAMETERS);
        assert!(
            (2200..2400).contains(&template.body_bytes) && body.len() == template.body_bytes,
            "{}",
            body.len()
        );
        assert!(body.contains("&id=1772694930123456789&"));
    }
}
