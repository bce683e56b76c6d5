//! Reads a body into memory: capped, in time, and within what all bodies together may take.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::{reply::Refusal, share::Share};

/// The longest body, bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// The longest a body may take to come after its head, milliseconds. With [`super::HEAD_MS_MAX`] it makes 30 seconds.
pub const BODY_MS_MAX: u64 = 20_000;
/// Bodies up to this many bytes are read without asking for room.
const SMALL_BYTES_MAX: usize = 16 * 1024;
/// How many bodies above that are held at once, from their first bytes until they are answered; the others wait. 32 MiB in all.
pub const LARGE_BODIES_MAX: usize = 32;

/// Room for one large body; free again when it is dropped.
#[derive(Debug)]
pub struct Room(#[expect(dead_code, reason = "held for its drop")] [Option<OwnedSemaphorePermit>; 2]);

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

    /// The whole body, and the room it takes: to be kept as long as the body is. Where there are several workspaces, no more
    /// than its share.
    pub async fn read(
        &self,
        mut body: Incoming,
        share: Option<&Share>,
    ) -> Result<(Vec<u8>, Option<Room>), Refusal> {
        if body.is_end_stream() {
            return Ok((Vec::new(), None));
        }
        if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
            return Err(Refusal::TooLarge);
        }
        let end = Instant::now() + self.limit;
        let mut room = None;
        let expected = usize::try_from(body.size_hint().lower()).unwrap_or(0).min(SMALL_BYTES_MAX);
        let mut bytes = Vec::with_capacity(expected);
        while let Some(frame) = timeout_at(end, body.frame()).await.map_err(|_| Refusal::TooSlow)? {
            let frame = frame.map_err(|_| Refusal::Broken)?;
            // Trailers say nothing that a hook reads.
            let Some(data) = frame.data_ref() else { continue };
            let size = bytes.len() + data.len();
            if size > BODY_BYTES_MAX {
                return Err(Refusal::TooLarge);
            }
            if size > SMALL_BYTES_MAX && room.is_none() {
                let free = timeout_at(end, self.room(share)).await;
                room = Some(free.ok().flatten().ok_or(Refusal::Unavailable)?);
            }
            bytes.extend_from_slice(data);
        }
        Ok((bytes, room))
    }

    /// That of the share first: so only as many of one workspace stand in line with the others.
    async fn room(&self, share: Option<&Share>) -> Option<Room> {
        let own = match share {
            Some(share) => Some(share.large.clone().acquire_owned().await.ok()?),
            None => None,
        };
        let large = self.large.clone().acquire_owned().await.ok()?;
        Some(Room([own, Some(large)]))
    }
}
