//! The far end of a load run: answers like Mindbox at its best, counts unique calls and how long each was under way.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    clock::unix_ns,
    latencies::Latencies,
    wire::{Reply, Server},
};

/// Where the call's id stands in a body.
const ID_KEY: &[u8] = b"\"callId\":";

#[derive(Default)]
struct Counted {
    ids: HashSet<i64>,
    repeats: u64,
    unreadable: u64,
    latencies: Latencies,
    last_ns: i64,
    due_ns: i64,
    early: u64,
}

/// The sink, running.
pub struct Sink {
    server: Server,
    counted: Arc<Mutex<Counted>>,
}

impl Sink {
    /// Starts it on a free port.
    pub async fn start() -> io::Result<Sink> {
        Sink::answering_after(Duration::ZERO).await
    }

    /// The same with a vendor who takes his time.
    pub async fn answering_after(wait: Duration) -> io::Result<Sink> {
        let counted = Arc::new(Mutex::new(Counted::default()));
        let counting = Arc::clone(&counted);
        let reply = success();
        let server = Server::start(move |message| {
            lock(&counting).count(&message.body);
            let reply = reply.clone();
            async move {
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                reply
            }
        })
        .await?;
        Ok(Sink { server, counted })
    }

    /// `http://127.0.0.1:port`.
    pub fn origin(&self) -> String {
        self.server.origin()
    }

    /// Counts a request that another server got, and says how to answer it.
    pub fn take(&self, body: &[u8]) -> Reply {
        lock(&self.counted).count(body);
        success()
    }

    /// Forgets everything.
    pub fn reset(&self) {
        *lock(&self.counted) = Counted::default();
    }

    /// From now on nothing may come before this time, nanoseconds since 1970.
    pub fn expect_none_before(&self, due_ns: i64) {
        lock(&self.counted).due_ns = due_ns;
    }

    /// How many requests came before that time.
    pub fn early(&self) -> u64 {
        lock(&self.counted).early
    }

    /// How many different calls came.
    pub fn unique(&self) -> usize {
        lock(&self.counted).ids.len()
    }

    /// How many requests brought a call that had come before.
    pub fn repeats(&self) -> u64 {
        lock(&self.counted).repeats
    }

    /// How many requests had no call id.
    pub fn unreadable(&self) -> u64 {
        lock(&self.counted).unreadable
    }

    /// How many of these have not come.
    pub fn missing(&self, ids: &[i64]) -> usize {
        let counted = lock(&self.counted);
        ids.iter().filter(|id| !counted.ids.contains(id)).count()
    }

    /// From due to here, of first arrivals.
    pub fn latencies(&self) -> Latencies {
        lock(&self.counted).latencies.clone()
    }

    /// When the last new call came, nanoseconds since 1970.
    pub fn last_ns(&self) -> i64 {
        lock(&self.counted).last_ns
    }
}

impl Counted {
    fn count(&mut self, body: &[u8]) {
        self.count_at(unix_ns(), body);
    }

    fn count_at(&mut self, now_ns: i64, body: &[u8]) {
        self.early += u64::from(now_ns < self.due_ns);
        match call_id(body) {
            None => self.unreadable += 1,
            Some(id) if self.ids.insert(id) => {
                self.latencies.record_ns(now_ns - id);
                self.last_ns = now_ns;
            }
            Some(_) => self.repeats += 1,
        }
    }
}

/// The digits after `"callId":`, quoted or not.
pub fn call_id(body: &[u8]) -> Option<i64> {
    let at = body.windows(ID_KEY.len()).position(|it| it == ID_KEY)? + ID_KEY.len();
    let rest = &body[at..];
    let from = rest.iter().position(u8::is_ascii_digit)?;
    let digits = rest[from..].iter().take_while(|byte| byte.is_ascii_digit());
    digits
        .map(|digit| i64::from(digit - b'0'))
        .try_fold(0i64, |id, digit| id.checked_mul(10)?.checked_add(digit))
}

fn success() -> Reply {
    Reply::answer(200, &[("Content-Type", "application/json")], br#"{"status":"Success"}"#)
}

fn lock(counted: &Mutex<Counted>) -> MutexGuard<'_, Counted> {
    counted.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Counted, call_id};

    #[test]
    fn each_request_that_comes_before_its_time_is_counted() {
        let mut counted = Counted { due_ns: 100, ..Counted::default() };
        for (now_ns, body) in [(98, r#"{"callId":1}"#), (99, r#"{"callId":1}"#), (100, r#"{"callId":2}"#)] {
            counted.count_at(now_ns, body.as_bytes());
        }
        assert_eq!((counted.early, counted.ids.len(), counted.repeats), (2, 2, 1));
    }

    #[test]
    fn a_call_id_is_read_quoted_and_bare() {
        assert_eq!(
            call_id(br#"{"a":{"callId":"1772694930123456789","b":1}}"#),
            Some(1_772_694_930_123_456_789)
        );
        assert_eq!(call_id(br#"{"callId": 17}"#), Some(17));
        assert_eq!(call_id(br#"{"callId":null}"#), None);
        assert_eq!(call_id(b"{}"), None);
    }
}
