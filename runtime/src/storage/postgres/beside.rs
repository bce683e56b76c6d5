//! The second connection, for the second halves of turns. It is a turn's only together with the writer's, and lives no
//! longer: a turn does without when it cannot be had at once.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use super::{connect, url::DatabaseUrl};

/// How long a turn waits for it to be made; in tests for as long as a busy machine takes.
const MAKING_MAX: Duration = Duration::from_millis(if cfg!(test) { 30_000 } else { 500 });
/// It is made anew after it was not used for so long: a firewall may have dropped it by then without a word, and a turn
/// would wait for a server that hears nothing.
pub const UNUSED_MAX: Duration = Duration::from_secs(30);
/// How long the writer has to do alone when it could not be made.
pub const PAUSE: Duration = Duration::from_secs(10);

/// It, while it is there.
#[derive(Debug, Default)]
pub struct Beside {
    /// With when it was used.
    kept: Option<(PgConnection, Instant)>,
    /// When it is tried again after it could not be made.
    not_before: Option<Instant>,
}

impl Beside {
    /// Gives it out, made anew where there is none that was used a moment ago. It is connected to the server that the writer
    /// is connected to: after one server took over from another, halves of one turn would go to both.
    pub async fn take(
        &mut self,
        url: &DatabaseUrl,
        writer: &mut PgConnection,
        now: Instant,
    ) -> Option<PgConnection> {
        if let Some((connection, used)) = self.kept.take()
            && now.saturating_duration_since(used) <= UNUSED_MAX
        {
            return Some(connection);
        }
        if self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        match make(url, writer).await {
            Ok(connection) => return Some(connection),
            Err(error) => tracing::debug!(%error, "turns have one connection only"),
        }
        self.not_before = Some(now + PAUSE);
        None
    }

    /// Takes it back after it was used.
    pub fn keep(&mut self, connection: PgConnection, now: Instant) {
        self.kept = Some((connection, now));
    }

    /// The writer's connection is gone, and so is what made this one fit for it.
    pub fn drop(&mut self) {
        self.kept = None;
    }

    /// Ends it.
    pub async fn close(self) {
        if let Some((connection, _)) = self.kept {
            // Nothing is at stake: whatever was answered is committed.
            let _ = connection.close().await;
        }
    }
}

async fn make(url: &DatabaseUrl, writer: &mut PgConnection) -> Result<PgConnection, sqlx::Error> {
    let making = async {
        let mut connection = connect::writer(url).await?;
        let server = server_of(&mut connection).await?;
        Ok::<_, sqlx::Error>((connection, server))
    };
    let (connection, server) = timeout(MAKING_MAX, making).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
    // Not under the timeout: the writer's connection is in the middle of nothing when it goes on.
    if server_of(writer).await? == server {
        return Ok(connection);
    }
    Err(sqlx::Error::Configuration("it leads to another server than the writer's".into()))
}

/// Tells servers apart, also those that took over from one another.
async fn server_of(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    const SERVER: &str = "SELECT concat_ws(' ', extract(epoch FROM pg_postmaster_start_time()), \
                          inet_server_addr(), inet_server_port())";
    sqlx::query_scalar(SERVER).fetch_one(connection).await
}
