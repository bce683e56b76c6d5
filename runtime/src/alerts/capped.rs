//! A connection that gives so many bytes and no more: the client that speaks to mail servers gathers a line until it ends.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use crate::egress::CONNECT_TIMEOUT_MS;

/// The most that a mail server may say in one conversation, bytes, TLS included; they say some thousand.
pub const SAID_BYTES_MAX: usize = 1024 * 1024;

/// A connection to a mail server.
#[derive(Debug)]
pub struct Capped {
    stream: TcpStream,
    left: usize,
}

impl Capped {
    /// To the first of these addresses that answers.
    ///
    /// # Errors
    /// Why the last one did not.
    pub async fn connect(addresses: &[SocketAddr]) -> io::Result<Capped> {
        let limit = Duration::from_millis(CONNECT_TIMEOUT_MS);
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(Capped { stream, left: SAID_BYTES_MAX }),
                Ok(Err(error)) => failed = error,
                Err(_) => failed = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(failed)
    }
}

impl AsyncTokioStream for Capped {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for Capped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        if read > self.left {
            self.left = 0;
            let message = format!("the mail server said more than {SAID_BYTES_MAX} bytes");
            return Poll::Ready(Err(io::Error::other(message)));
        }
        self.left -= read;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Capped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
