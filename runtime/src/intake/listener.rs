//! The public listener: HTTP/1.1 with limits on everything a stranger can send.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{Request, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tracing::warn;

use super::{
    BODY_BYTES_MAX, Intake, head_refusal, received,
    reply::{Refusal, Reply},
};
use crate::stop::Stop;

/// The longest a whole request may take to arrive, milliseconds.
pub const REQUEST_MS: u64 = 30_000;
/// The most headers of a request.
pub const HEADERS_MAX: usize = 100;
/// The most bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 128 * 1024;
/// The most connections at once; further ones wait to be accepted.
pub const CONNECTIONS_MAX: usize = 10_000;
/// How long after a failed accept the next is tried, milliseconds: what fails is the lack of file descriptors.
const ACCEPT_PAUSE_MS: u64 = 50;

/// The public listener.
pub struct Listener {
    /// What requests are for.
    pub intake: Intake,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Listener {
    /// Serves until `stop` is true, then lets the requests in hand finish.
    pub async fn serve(self, listener: TcpListener, mut stop: Stop) {
        let shared = Arc::new(self);
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { break };
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let connection = shared.clone().connection(stream, peer, stop.clone());
                        connections.spawn(async move {
                            connection.await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                    }
                },
                () = stop.ordered() => break,
            }
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, mut stop: Stop) {
        // Answers are one small write each; without this they wait for the peer's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let service = service_fn(|request| {
            let listener = self.clone();
            async move { Ok::<_, Infallible>(listener.answer(request, peer).await) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(REQUEST_MS))
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        // A connection that ends badly is the peer's affair; whatever was committed has been committed.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = stop.ordered() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Reply {
        let (parts, body) = request.into_parts();
        let hook = match self.intake.hook(&parts) {
            Ok(hook) => hook,
            Err(refusal) => return refusal.reply(),
        };
        let taken = match head_refusal(&parts, &hook.decoder.hook().methods) {
            Some(refusal) => Err(refusal),
            None => match read(body).await {
                Ok(body) => {
                    let source = self.source(&parts, peer.ip());
                    let now_ms = self.intake.clock.now_ms();
                    self.intake.receive(&hook, received(&parts, body, Some(source), now_ms)).await
                }
                Err(refusal) => Err(refusal),
            },
        };
        let reply = taken.unwrap_or_else(|refusal| refusal.reply());
        self.intake.metrics.answered(&hook.connection, reply.status().as_u16());
        reply
    }

    /// Who sent it: the last address that our own proxies did not write themselves.
    fn source(&self, parts: &Parts, peer: IpAddr) -> IpAddr {
        let trusted = |address: &IpAddr| self.trusted_proxies.iter().any(|network| network.contains(address));
        let peer = peer.to_canonical();
        if !trusted(&peer) {
            return peer;
        }
        let forwarded = parts.headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = forwarded.flat_map(|value| value.split(',')).collect();
        let mut source = peer;
        for hop in hops.into_iter().rev() {
            let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
            source = address.to_canonical();
            if !trusted(&source) {
                break;
            }
        }
        source
    }
}

async fn read(body: Incoming) -> Result<Vec<u8>, Refusal> {
    let whole = timeout(Duration::from_millis(REQUEST_MS), Limited::new(body, BODY_BYTES_MAX).collect()).await;
    match whole {
        Ok(Ok(collected)) => Ok(collected.to_bytes().into()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Refusal::TooLarge),
        Ok(Err(_)) => Err(Refusal::Broken),
        Err(_) => Err(Refusal::TooSlow),
    }
}
