//! The directory a command is about, and what its server left beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::{
    addresses::Addresses,
    clock::Clock,
    config::{self, Environment, HOOKS_ADDRESS, MANAGEMENT_ADDRESS, MASTER_KEY_VARIABLE},
    directory,
    queue::QueueError,
    storage::{database::Database, postgres::url::DatabaseUrl, store::Store},
    token::{MasterKey, Token},
};

/// Which directory of integrations, and where its data lie.
#[derive(Debug, Clone, clap::Args)]
pub struct Project {
    /// Directory with sheaf.yaml, connections/ and bundles/.
    #[arg(long = "dir", env = "SHEAF_DIR", value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
    /// Where the database and the master key live; `.sheaf` inside DIR when not set.
    #[arg(long = "data", env = "SHEAF_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The PostgreSQL that its nodes share, when there is one: postgres://USER:PASSWORD@HOST:PORT/DATABASE.
    #[arg(long, env = "SHEAF_DATABASE", value_name = "URL", hide_env_values = true)]
    pub database: Option<DatabaseUrl>,
}

impl Project {
    /// Where the database and the master key live.
    pub fn data_directory(&self) -> PathBuf {
        config::data_directory(&self.directory, self.data.as_deref())
    }

    /// Reads the database beside a server that may be running.
    pub fn read<T>(&self, read: impl AsyncFnOnce(&Store) -> Result<T, QueueError>) -> anyhow::Result<T> {
        let database = Database::of(self.database.as_ref(), self.data_directory());
        if let Database::File(path) = &database
            && !path.is_file()
        {
            bail!(
                "{} is not there: has `sheaf serve` run here? (--dir, --data and --database say where to look)",
                path.display()
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let store = Store::open(&database, Clock::system()).await?;
            let answer = read(&store).await;
            store.close().await;
            Ok(answer?)
        })
    }

    /// The running server's addresses, else the ones it would have.
    pub fn addresses(&self) -> Addresses {
        Addresses::read(&self.data_directory()).unwrap_or_else(|| Addresses {
            hooks: HOOKS_ADDRESS.parse().expect("the default is an address"),
            management: MANAGEMENT_ADDRESS.parse().expect("the default is an address"),
            public_url: None,
        })
    }

    /// The token of a connection's hook.
    pub fn token(&self, connection: &str) -> anyhow::Result<Token> {
        let generation = self.generation(connection)?;
        let given = Environment::of_process().get(MASTER_KEY_VARIABLE);
        let key = MasterKey::load(given, &self.data_directory())
            .context("the hook's token comes from the master key")?;
        Ok(key.token(connection, generation))
    }

    fn generation(&self, connection: &str) -> anyhow::Result<u32> {
        let compiled = directory::compile(&directory::read(&self.directory)?);
        let Some(integration) = &compiled.integration else {
            bail!("{} does not compile; `sheaf check` says why", self.directory.display());
        };
        let connections = || integration.hooks.iter().map(|hook| &hook.connection);
        match connections().find(|own| own.name == connection) {
            Some(own) => Ok(own.hook_generation),
            None => {
                let names: Vec<&str> = connections().map(|own| own.name.as_str()).collect();
                bail!("no connection {connection:?} with a hook here; there are: {}", names.join(", "))
            }
        }
    }

    /// A file as given, or below the project's directory.
    pub fn file(&self, path: &Path) -> PathBuf {
        if path.exists() { path.to_owned() } else { self.directory.join(path) }
    }
}
