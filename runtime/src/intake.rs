//! Hooks: a request comes in, is committed, and only then gets the vendor's own "ok".

pub mod body;
mod head;
pub mod listener;
mod reply;
mod sender;
pub mod share;
mod spooled;

use std::{
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, Method, Request, header, request::Parts};
use hyper::body::Incoming;
use ipnet::IpNet;
use sheaf_bundles::{
    event::{Event, Received},
    hook::{DEDUPE_WINDOW_MS_MAX, SourceCheck},
    id::EventId,
    plan,
    value::Text,
};
use sheaf_connectors::{
    decode::{DecodeError, Decoded, Note},
    signature,
};
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::{
    clock::Clock,
    live::{Catalogue, LiveHook},
    metrics::Metrics,
    queue::{
        Queue,
        gate::{GateId, GateKind},
        types::{Accepted, Content, Decision, Publish, Published, Verdict},
    },
    secrets::Secrets,
    spool::Spool,
    token::Token,
};
use body::BODY_BYTES_MAX;
use listener::Handler;
use reply::{Refusal, Reply, ReplyExt as _};
use share::Share;

/// The most bytes of a request's head: the longest query, and room for the headers.
pub const HEAD_BYTES_MAX: usize = QUERY_BYTES_MAX + 16 * 1024;
/// The longest a head may take to come, or a connection to be idle between requests, milliseconds.
pub const HEAD_MS_MAX: u64 = 10_000;
/// The longest a sender is kept waiting for our commit, milliseconds. Waiting beats refusing: most vendors never repeat.
pub const COMMIT_MS_MAX: u64 = 30_000;
/// The longest query string, bytes.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;
/// How often a request is decided again because the catalogue changed under it. Each time means that somebody
/// published a bundle in the very millisecond; more often than this it is not that.
const EPOCHS_MAX: usize = 16;
/// Why a request is quarantined over which our own code panicked.
const PANICKED: &str = "reading it failed by a mistake in sheaf itself";
/// Where hooks are.
const PATH: &str = "/hooks/";
/// Headers that are kept with an event. None of them carries a credential.
const KEPT_HEADERS: [&str; 9] = [
    "content-type",
    "user-agent",
    "x-request-id",
    "traceparent",
    "webhook-id",
    "webhook-timestamp",
    "x-github-event",
    "x-github-delivery",
    "idempotency-key",
];

/// Everything a hook needs.
#[derive(Clone)]
pub struct Intake {
    /// The hooks and plans in force.
    pub catalogue: Arc<Catalogue>,
    /// Where events go.
    pub queue: Queue,
    /// For signatures.
    pub secrets: Arc<Secrets>,
    /// The time.
    pub clock: Clock,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Reads bodies.
    pub bodies: body::Reader,
    /// Where requests wait while the database is away; none when the database is a file beside it.
    pub spool: Option<Spool>,
}

impl Handler for Intake {
    async fn handle(&self, request: Request<Incoming>, peer: IpAddr) -> Reply {
        let (parts, body) = request.into_parts();
        let (hook, share) = match self.hook(&parts) {
            Ok(found) => found,
            Err(refusal) => return refusal.reply(),
        };
        let taken = self.take(&hook, share.as_ref(), parts, body, peer).await;
        let reply = taken.unwrap_or_else(|refusal| refusal.reply());
        self.metrics.answered(&hook.connection, reply.status().as_u16());
        reply
    }

    fn is_shared(&self) -> bool {
        self.catalogue.live().is_shared()
    }
}

impl Intake {
    /// The hook a request is for, and the share of its workspace where there are others. Whatever is not one of our hooks
    /// gets the same answer.
    fn hook(&self, parts: &Parts) -> Result<(Arc<LiveHook>, Option<Arc<Share>>), Refusal> {
        let token = parts.uri.path().strip_prefix(PATH).and_then(|text| Token::parse(text.as_bytes()));
        let live = self.catalogue.live();
        let hook = token.and_then(|token| live.hook(&token)).ok_or(Refusal::NotFound)?;
        Ok((hook.clone(), live.share(hook).cloned()))
    }

    async fn take(
        &self,
        hook: &LiveHook,
        share: Option<&Arc<Share>>,
        parts: Parts,
        body: Incoming,
        peer: IpAddr,
    ) -> Result<Reply, Refusal> {
        let _in_hand = share.map(|share| share.take().ok_or(Refusal::Share)).transpose()?;
        if let Some(refusal) = head_refusal(&parts, &hook.decoder.hook().methods) {
            return Err(refusal);
        }
        let (body, _room) = self.bodies.read(body, share.map(|share| &**share)).await?;
        let source = sender::address(peer, &parts.headers, &self.trusted_proxies);
        self.receive(hook, received(hook, parts, body, source, self.clock.now_ms())).await
    }

    /// Takes a whole request. Returns the vendor's own "ok" only after the commit.
    async fn receive(&self, hook: &LiveHook, received: Received) -> Result<Reply, Refusal> {
        let mut received = received;
        self.verify(hook, &received)?;
        received.headers.retain(|(name, _)| is_kept(name) && !is_secret(hook, name));
        let answer = || Reply::answer(&hook.decoder.hook().answer);
        let content = kept_though_it_panics(|| match hook.decoder.decode(&received) {
            // A request that says nothing is somebody trying the address, whatever the connector.
            Ok(decoded) if decoded.fields.is_empty() || hook.decoder.hook().is_probe(&decoded.fields) => None,
            decoded => Some(self.content(hook, decoded, received.received_ms)),
        });
        let Some(content) = content else { return Ok(answer()) };
        let publish = Publish { connection: hook.connection.clone(), received, content };
        match &self.spool {
            Some(spool) => self.publish_or_spool(spool, publish).await?,
            None => {
                let publish = timeout(Duration::from_millis(COMMIT_MS_MAX), self.publish(publish));
                publish.await.unwrap_or(Err(Refusal::Unavailable))?;
            }
        }
        Ok(answer())
    }

    /// What decoding and the bundles' filters make of a request.
    fn content(&self, hook: &LiveHook, decoded: Result<Decoded, DecodeError>, received_ms: i64) -> Content {
        match decoded {
            Ok(decoded) => {
                self.tell(hook, &decoded.notes);
                Content::Event(self.decide(hook, decoded, received_ms))
            }
            Err(error) => Content::Quarantine { reason: error.to_string(), dedupe: None },
        }
    }

    /// The same of a request that was taken before, maybe as another hook of its connection said: it keeps the identity it
    /// got then, and is an event whatever is left of its fields.
    fn content_again(&self, hook: &LiveHook, received: &Received, dedupe: Option<[u64; 2]>) -> Content {
        let read = || self.content(hook, hook.decoder.decode(received), received.received_ms);
        let mut content = kept_though_it_panics(read);
        *content.dedupe_mut() = dedupe;
        content
    }

    fn verify(&self, hook: &LiveHook, received: &Received) -> Result<(), Refusal> {
        let checks = &hook.decoder.hook().checks;
        if checks.is_empty() {
            return Ok(());
        }
        let secrets = self.secrets.of(&hook.decoder.hook().connection);
        signature::verify(checks, received, &|name| secrets.expose(name), received.received_ms).map_err(
            |refused| {
                warn!(connection = %hook.connection, reason = %refused, "a request at a hook was not let in");
                Refusal::of_signature(&refused)
            },
        )
    }

    fn decide(&self, hook: &LiveHook, decoded: Decoded, received_ms: i64) -> Accepted {
        let event = Event {
            id: EventId(0),
            connection: hook.connection.clone(),
            received_ms,
            fields: decoded.fields,
        };
        let decisions = self.decisions(hook, &event);
        let rule = hook.decoder.hook().dedupe.as_ref();
        let window_ms = rule.map_or(DEDUPE_WINDOW_MS_MAX, |rule| rule.window_ms);
        Accepted { epoch: hook.epoch, dedupe: decoded.dedupe, window_ms, event, decisions }
    }

    fn decisions(&self, hook: &LiveHook, event: &Event) -> Vec<Decision> {
        let mut decisions = Vec::with_capacity(hook.plans.len());
        for (version, plan) in &hook.plans {
            let (verdict, lane) = match plan.decide(event) {
                plan::Verdict::NotFired => continue,
                plan::Verdict::Filtered => (Verdict::Filtered, None),
                plan::Verdict::Take { delay_ms } => {
                    let due_ms = event.received_ms.saturating_add(delay_ms);
                    (Verdict::Take { due_ms }, plan.lane(event))
                }
            };
            decisions.push(Decision {
                version: *version,
                bundle: GateId::of(GateKind::Bundle, &plan.bundle),
                through: GateId::of_first_step(plan),
                lane,
                verdict,
            });
            for parameter in plan.missing_parameters(event) {
                self.absent(&hook.connection, &plan.bundle, &parameter);
            }
        }
        decisions
    }

    /// What decoding noticed, once for each connection and parameter. One that is absent matters when a filter reads it.
    fn tell(&self, hook: &LiveHook, notes: &[Note]) {
        for note in notes {
            match note {
                Note::Absent { .. } => {}
                Note::Unreadable { field, expected } => {
                    if self.metrics.unreadable(&hook.connection, field) {
                        warn!(connection = %hook.connection, parameter = %field, expected, "a parameter is not of its type");
                    }
                }
            }
        }
    }

    /// A filter read a parameter that the vendor always sends and that did not come: "is empty" holds for every event then.
    fn absent(&self, connection: &str, bundle: &str, parameter: &str) {
        if self.metrics.absent(connection, parameter) {
            warn!(
                connection,
                bundle,
                parameter,
                "a filter reads a parameter that did not arrive; is it turned off in the vendor's settings?"
            );
        }
    }

    async fn publish(&self, mut publish: Publish) -> Result<(), Refusal> {
        for _ in 0..EPOCHS_MAX {
            match self.queue.publish(publish).await {
                Ok(Published::Accepted { .. } | Published::Duplicate { .. }) => return Ok(()),
                Ok(Published::Quarantined { event }) => {
                    info!(%event, "an event could not be decoded and is kept as received");
                    return Ok(());
                }
                Ok(Published::StaleEpoch { publish: stale, .. }) => {
                    publish = self.decide_again(*stale).await?
                }
                Err(error) => {
                    warn!(%error, "an event could not be committed");
                    return Err(Refusal::Unavailable);
                }
            }
        }
        Err(Refusal::Unavailable)
    }

    /// The catalogue changed between the decision and the commit: the same request under the epoch that is in force now,
    /// read anew, since its fields may be declared otherwise.
    async fn decide_again(&self, mut stale: Publish) -> Result<Publish, Refusal> {
        // What was not decided is never stale.
        let Content::Event(Accepted { epoch, dedupe, .. }) = stale.content else { return Ok(stale) };
        let live = self.catalogue.after(epoch).await.ok_or(Refusal::Unavailable)?;
        let hook = live.hook_of(&stale.connection).ok_or(Refusal::NotFound)?;
        stale.content = self.content_again(hook, &stale.received, dedupe);
        Ok(stale)
    }
}

/// What reading a request and deciding over it gives; a quarantine when that panics. It is our mistake, and must cost neither
/// this event nor those that come through the same connection after it.
fn kept_though_it_panics<T: From<Content>>(read: impl FnOnce() -> T) -> T {
    // The closure only reads; what it counts on the way is sound whenever it stops.
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        error!("reading a request panicked: it is kept as received; please report this");
        T::from(Content::Quarantine { reason: PANICKED.to_owned(), dedupe: None })
    })
}

/// The request as plain data; with every header when the sender has to prove something, which only `verify` looks at.
///
/// The head is given up here: its texts are slices of the connection's read buffer, which the HTTP library can use again
/// only when none of them is left.
fn received(hook: &LiveHook, parts: Parts, body: Vec<u8>, source: IpAddr, received_ms: i64) -> Received {
    let every = !hook.decoder.hook().checks.is_empty();
    Received {
        method: parts.method.as_str().into(),
        query: parts.uri.query().unwrap_or_default().into(),
        headers: headers(&parts.headers, |name| every || is_kept(name)),
        body,
        source: Some(source),
        received_ms,
    }
}

fn is_kept(header: &str) -> bool {
    KEPT_HEADERS.contains(&header)
}

/// Whether the sender proves itself by that header, whatever its name.
fn is_secret(hook: &LiveHook, header: &str) -> bool {
    let checks = &hook.decoder.hook().checks;
    checks.iter().any(|check| matches!(check, SourceCheck::Header { name, .. } if name == header))
}

fn headers(headers: &HeaderMap, wanted: impl Fn(&str) -> bool) -> Vec<(Text, Text)> {
    let wanted = headers.iter().filter(|(name, _)| wanted(name.as_str()));
    wanted.map(|(name, value)| (name.as_str().into(), Text::from_utf8_lossy(value.as_bytes()))).collect()
}

/// Everything that can be refused before the body is read, but two lengths: the listener sees to that.
fn head_refusal(parts: &Parts, methods: &[String]) -> Option<Refusal> {
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let declared = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if !methods.iter().any(|method| method == parts.method.as_str()) {
        return Some(Refusal::Method { allowed: methods.join(", ") });
    }
    if parts.headers.contains_key(header::CONTENT_ENCODING) && parts.method != Method::GET {
        return Some(Refusal::Encoding);
    }
    if parts.uri.query().is_some_and(|query| query.len() > QUERY_BYTES_MAX) {
        return Some(Refusal::QueryTooLong);
    }
    declared.filter(|declared| *declared > BODY_BYTES_MAX).map(|_| Refusal::TooLarge)
}

#[cfg(panic = "abort")]
compile_error!("a panic over one request or run must not end the server: build with `panic = \"unwind\"`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_over_which_reading_panics_is_kept_with_a_reason() {
        let content: Option<Content> = kept_though_it_panics(|| panic!("a helper that cannot"));
        assert!(
            matches!(content, Some(Content::Quarantine { reason, dedupe: None }) if reason.contains("mistake"))
        );
        assert!(kept_though_it_panics(|| None::<Content>).is_none());
    }
}
