//! The public listener: connections, their limits, and a stop that cuts nobody off.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Request, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{
    HEAD_BYTES_MAX,
    head::{Conflict, Watched},
    reply::{Refusal, Reply},
};
use crate::stop::Stop;

/// The most headers of a request. It is the library's own default, and setting it costs an allocation for each request;
/// a test holds it.
pub const HEADERS_MAX: usize = 100;
/// The most connections at once; further ones wait in the kernel's queue.
pub const CONNECTIONS_MAX: u32 = 4_096;
/// Room for what comes with the head's end in one read, bytes.
const READ_BYTES: usize = 16 * 1024;
/// How long to wait after the system refused a connection for want of descriptors or memory, milliseconds.
const ACCEPT_PAUSE_MS: u64 = 50;
/// How long after the order to stop a connection without a request is still listened to, milliseconds: a request may be on
/// its way, and whoever meets a closed connection with it may never repeat it.
const LAST_REQUEST_MS: u64 = 500;

/// Whoever makes an answer of a request.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request of this peer.
    fn handle(&self, request: Request<Incoming>, peer: IpAddr) -> impl Future<Output = Reply> + Send;

    /// Whether callers come who have nothing to do with each other: then none keeps a connection that others may wait for.
    fn is_shared(&self) -> bool {
        false
    }
}

/// Serves until asked to stop; then takes no more connections than the system has let in, answers what is on its way over the
/// open ones, each for the last time, and returns when all are closed. A head must come within `head_limit`.
pub async fn serve(listener: TcpListener, handler: Arc<impl Handler>, head_limit: Duration, stop: Stop) {
    serve_at_once(CONNECTIONS_MAX, listener, handler, head_limit, stop).await;
}

/// The same with so many connections at once.
async fn serve_at_once(
    connections_max: u32,
    listener: TcpListener,
    handler: Arc<impl Handler>,
    head_limit: Duration,
    mut stop: Stop,
) {
    let connections = Arc::new(Semaphore::new(connections_max as usize));
    loop {
        let permit = Arc::clone(&connections).acquire_owned();
        let accepted = async { (permit.await, listener.accept().await) };
        let (permit, accepted) = tokio::select! {
            biased;
            () = stop.ordered() => break,
            next = accepted => next,
        };
        match (permit, accepted) {
            (Ok(permit), Ok((stream, peer))) => {
                let connection =
                    Connection { stream, peer: peer.ip(), handler: Arc::clone(&handler), head_limit };
                tokio::spawn(connection.serve(stop.clone(), permit));
            }
            (Ok(_), Err(error)) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
            // The semaphore is never closed.
            (Err(_), _) => break,
        }
    }
    for (stream, peer) in let_in(listener) {
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { break };
        let connection = Connection { stream, peer: peer.ip(), handler: Arc::clone(&handler), head_limit };
        tokio::spawn(connection.serve(stop.clone(), permit));
    }
    // Every connection holds one permit until it ends.
    let _ = connections.acquire_many(connections_max).await;
}

/// Closes a listener; the connections that the system had made by then. They would be cut off, and for the sender each of them
/// was made.
fn let_in(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let accepted = std::iter::from_fn(|| listener.accept().ok());
    let usable = accepted.filter_map(|(stream, peer)| {
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    });
    usable.collect()
}

/// One sender's connection.
struct Connection<H> {
    stream: TcpStream,
    peer: IpAddr,
    handler: Arc<H>,
    head_limit: Duration,
}

impl<H: Handler> Connection<H> {
    async fn serve(self, mut stop: Stop, permit: OwnedSemaphorePermit) {
        // Answers are one packet; without this the kernel may hold them back.
        let _ = self.stream.set_nodelay(true);
        let (stream, conflict) = Watched::new(self.stream);
        let (requests, stopping) = (AtomicU64::new(0), stop.clone());
        let service = service_fn(|request| {
            let number = requests.fetch_add(1, Ordering::Relaxed) + 1;
            let last = || stopping.is_ordered() || (is_full(&permit) && self.handler.is_shared());
            answer(&*self.handler, request, self.peer, &conflict, number, last)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_limit)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(HEAD_BYTES_MAX + READ_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        // Errors are the sender's: a cut connection, a malformed head, a head that did not come in time.
        let _ = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.ordered() => {
                let last = Duration::from_millis(LAST_REQUEST_MS);
                match tokio::time::timeout(last, connection.as_mut()).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                }
            }
        };
    }
}

/// Whether every connection that there can be is there.
fn is_full(permit: &OwnedSemaphorePermit) -> bool {
    permit.semaphore().available_permits() == 0
}

async fn answer(
    handler: &impl Handler,
    request: Request<Incoming>,
    peer: IpAddr,
    conflict: &Conflict,
    number: u64,
    is_last: impl Fn() -> bool,
) -> Result<Reply, Infallible> {
    if conflict.reached(number) {
        return Ok(Refusal::Framing.reply());
    }
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut reply = handler.handle(request, peer).await;
    if chunked || is_last() {
        // Heads after a chunked body are not watched, so there are none.
        reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(reply)
}

#[cfg(test)]
mod tests;
