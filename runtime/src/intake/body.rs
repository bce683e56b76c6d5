//! Reads a body into memory: capped, in time, and within what all bodies together may take.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::reply::Refusal;

/// The longest body, bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// The longest a body may take to come after its head, milliseconds. With [`super::HEAD_MS_MAX`] it makes 30 seconds.
pub const BODY_MS_MAX: u64 = 20_000;
/// Bodies up to this many bytes are read without asking for room.
const SMALL_BYTES_MAX: usize = 16 * 1024;
/// How many bodies above that are read at once; the others wait. 32 MiB in all.
const LARGE_BODIES_MAX: usize = 32;

/// Reads bodies.
#[derive(Debug, Clone)]
pub struct Reader {
    large: Arc<Semaphore>,
    limit: Duration,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader::within(Duration::from_millis(BODY_MS_MAX))
    }
}

impl Reader {
    /// Bodies must come within this time.
    pub fn within(limit: Duration) -> Reader {
        Reader { large: Arc::new(Semaphore::new(LARGE_BODIES_MAX)), limit }
    }

    /// The whole body.
    pub async fn read(&self, body: Incoming) -> Result<Vec<u8>, Refusal> {
        if body.is_end_stream() {
            return Ok(Vec::new());
        }
        if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
            return Err(Refusal::TooLarge);
        }
        tokio::time::timeout(self.limit, self.collect(body)).await.unwrap_or(Err(Refusal::TooSlow))
    }

    async fn collect(&self, mut body: Incoming) -> Result<Vec<u8>, Refusal> {
        let mut room: Option<SemaphorePermit<'_>> = None;
        let expected = usize::try_from(body.size_hint().lower()).unwrap_or(0).min(SMALL_BYTES_MAX);
        let mut bytes = Vec::with_capacity(expected);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::Broken)?;
            // Trailers say nothing that a hook reads.
            let Some(data) = frame.data_ref() else { continue };
            let size = bytes.len() + data.len();
            if size > BODY_BYTES_MAX {
                return Err(Refusal::TooLarge);
            }
            if size > SMALL_BYTES_MAX && room.is_none() {
                room = self.large.acquire().await.ok();
            }
            bytes.extend_from_slice(data);
        }
        Ok(bytes)
    }
}
