//! Watches the heads of requests as they come in, for the one thing the HTTP library hides: a request with both
//! `Content-Length` and `Transfer-Encoding`. The library drops the length, as RFC 9112 allows; a proxy before us may have
//! believed it, and then the rest of the body is somebody's next request. So such a request must be refused.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A line longer than this is not followed further: the library refuses such a head by itself.
const LINE_BYTES_MAX: usize = super::HEAD_BYTES_MAX;

/// The first request of a connection, counted from 1, whose head says two things about its length.
#[derive(Debug, Clone, Default)]
pub struct Conflict(Arc<AtomicU64>);

impl Conflict {
    /// Whether this request, counted from 1, is it, or comes after it.
    pub fn reached(&self, request: u64) -> bool {
        matches!(self.0.load(Ordering::Acquire), first if first != 0 && request >= first)
    }
}

/// A connection whose incoming bytes are watched.
pub struct Watched<S> {
    stream: S,
    watch: Watch,
}

impl<S> Watched<S> {
    /// Watches a connection; the verdict is in the second value.
    pub fn new(stream: S) -> (Watched<S>, Conflict) {
        let conflict = Conflict::default();
        (Watched { stream, watch: Watch::new(conflict.clone()) }, conflict)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let ready = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.watch.feed(&buffer.filled()[before..]);
        ready
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Follows heads and skips bodies.
struct Watch {
    place: Place,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    heads: u64,
    head: Head,
    conflict: Conflict,
}

/// Where in the stream we are.
#[derive(Clone, Copy)]
enum Place {
    /// In a head.
    Head,
    /// In a body of known length, so many bytes before its end.
    Body(u64),
    /// In or after a chunked body, or past a limit. Nothing more is looked at: the connection closes after a chunked
    /// request, and the library refuses what is past a limit.
    Blind,
}

/// What one head has said so far.
#[derive(Default)]
struct Head {
    begun: bool,
    length: Option<u64>,
    transfer_encoding: bool,
}

impl Watch {
    fn new(conflict: Conflict) -> Watch {
        Watch { place: Place::Head, partial: Vec::new(), heads: 0, head: Head::default(), conflict }
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.place {
                Place::Blind => return,
                Place::Body(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[here..];
                    let left = left - here as u64;
                    self.place = if left == 0 { Place::Head } else { Place::Body(left) };
                }
                Place::Head => bytes = self.line(bytes),
            }
        }
    }

    /// Takes one line, or the part of it that has come. Like the library, a bare LF ends a line.
    fn line<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.partial.extend_from_slice(bytes);
            if self.partial.len() > LINE_BYTES_MAX {
                self.place = Place::Blind;
            }
            return &[];
        };
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        if self.partial.is_empty() {
            self.header(line);
        } else {
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(line);
            self.header(&whole);
        }
        rest
    }

    fn header(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (line.is_empty(), self.head.begun) {
            // Empty lines before a request are skipped by the library too.
            (true, false) => {}
            (true, true) => self.end_of_head(),
            (false, false) => self.head.begun = true,
            (false, true) => self.head.read(line),
        }
    }

    fn end_of_head(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.heads += 1;
        self.place = match (head.transfer_encoding, head.length) {
            (true, length) => {
                if length.is_some() {
                    self.conflict.0.store(self.heads, Ordering::Release);
                }
                Place::Blind
            }
            (false, None | Some(0)) => Place::Head,
            (false, Some(length)) => Place::Body(length),
        };
    }
}

impl Head {
    fn read(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.transfer_encoding = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            // What is no number is refused by the library.
            let length = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
            self.length = Some(length.unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request that is refused, when the stream comes in pieces of `size`.
    fn refused(stream: &str, size: usize) -> u64 {
        let mut watch = Watch::new(Conflict::default());
        stream.as_bytes().chunks(size).for_each(|piece| watch.feed(piece));
        watch.conflict.0.load(Ordering::Acquire)
    }

    #[test]
    fn both_lengths_are_found_wherever_the_stream_is_cut() {
        let first = "POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\na\r\n\r\n";
        for second in [
            "POST /b HTTP/1.1\r\ncontent-LENGTH: 5\r\nX: y\r\nTransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /b HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
            "\r\nPOST /b HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length: 0\n\n0\r\n\r\n",
        ] {
            for size in 1..80 {
                assert_eq!(refused(&format!("{first}{second}"), size), 2, "{size}: {second}");
            }
        }
    }

    #[test]
    fn a_body_that_looks_like_a_head_is_not_read_as_one() {
        let body = "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        let stream =
            format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}GET / HTTP/1.1\r\n\r\n", body.len());
        assert_eq!(refused(&stream, 7), 0);
        assert_eq!(
            refused(&format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{body}"), 7),
            0
        );
    }
}
