//! What every scenario works with.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::{
    load::{Load, Pace, Template},
    sink::Sink,
};

/// The product, and how much is done to it.
#[derive(Debug, Clone)]
pub struct Lab {
    /// The product's binary.
    pub sheaf: PathBuf,
    /// Where data are made; a real disk.
    pub data_root: PathBuf,
    /// Rounds, where two things are compared.
    pub pairs: usize,
    /// How long each load of a round runs.
    pub duration: Duration,
    /// Connections of the generator.
    pub connections: usize,
    /// Where vendors live: a thread apart from the generator's.
    pub far_end: Handle,
}

impl Lab {
    /// A folder that is gone when it is dropped.
    pub fn folder(&self) -> anyhow::Result<TempDir> {
        Ok(tempfile::Builder::new().prefix("scale-").tempdir_in(&self.data_root)?)
    }

    /// A vendor that counts, and answers after a while.
    pub async fn sink(&self, answers_after: Duration) -> anyhow::Result<Arc<Sink>> {
        let starting = self.far_end.spawn(Sink::answering_after(answers_after));
        Ok(Arc::new(starting.await?.context("a sink")?))
    }

    /// As fast as answers come, for one round.
    pub fn load(&self, address: SocketAddr, templates: Arc<[Template]>) -> Load {
        let (connections, duration) = (self.connections, self.duration);
        Load { address, templates, connections, pace: Pace::Closed, duration }
    }
}

/// What a person who waits reads.
pub fn tell(text: &str) {
    eprintln!("  {text}");
}
