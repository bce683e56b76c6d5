//! One account's use of a connector, compiled: settings with their defaults, where its secrets come from, how it authenticates.

use crate::{budget::Budget, request::Pieces, value::Map, workspace};

/// A connection that passed every check.
#[derive(Debug, Clone, PartialEq)]
pub struct Connection {
    /// Its name outside its workspace (see [`workspace::qualified`]): unique.
    pub name: String,
    /// What people call it; the name when none was given.
    pub title: String,
    /// The connector it uses.
    pub connector: String,
    /// Settings typed by the manifest, defaults filled in.
    pub settings: Map,
    /// Its secrets and where each comes from.
    pub secrets: Vec<SecretReference>,
    /// Origins (`https://host:port`) that may receive its secrets.
    pub secret_origins: Vec<String>,
    /// What is put into every request of it.
    pub authentication: Vec<Placement>,
    /// The zone of its local times (IANA name): its own, else the workspace's.
    pub time_zone: String,
    /// Generation of its hook's token; raised to rotate the URL.
    pub hook_generation: u32,
    /// Requests at once through it, over all nodes; `None` when the vendor does not mind.
    pub concurrency: Option<u32>,
    /// What the vendor lets us send through it, over all nodes.
    pub budgets: Vec<Budget>,
}

/// Where a secret's value is kept. The value itself is never in a file of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretReference {
    /// Its name in the connection.
    pub name: String,
    /// Where the value is.
    pub source: SecretSource,
}

/// Where a secret's value is read from when it is needed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file, relative to the directory that is served unless absolute.
    File(String),
}

/// A credential put into a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// A header.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: Pieces,
    },
    /// A parameter of the URL's query.
    Query {
        /// Its name.
        name: String,
        /// Its value.
        value: Pieces,
    },
}

impl Connection {
    /// Its name in its workspace's files.
    pub fn own_name(&self) -> &str {
        workspace::bare(&self.name)
    }

    /// Where that secret is kept.
    pub fn secret(&self, name: &str) -> Option<&SecretSource> {
        self.secrets.iter().find(|secret| secret.name == name).map(|secret| &secret.source)
    }
}
