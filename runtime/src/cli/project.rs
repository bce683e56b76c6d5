//! The directory a command is about, and what its server left beside it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use sheaf_bundles::{compile::Integration, connection::Connection, hook::Hook};

use super::output::Failure;
use crate::{
    addresses::Addresses,
    clock::Clock,
    config::{self, Environment, HOOKS_ADDRESS, MANAGEMENT_ADDRESS, MASTER_KEY_VARIABLE},
    directory::{self, Compiled},
    queue::QueueError,
    storage::{database::Database, postgres::url::DatabaseUrl, store::Store},
    token::{KeyError, MasterKey, Token},
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
            let path = path.display();
            return Err(Failure::error(
                format!(
                    "{path} is not there: has `sheaf serve` run here? (--dir, --data and --database say where to look)"
                ),
                format!(
                    "{path} не найден: запускался ли здесь `sheaf serve`? (где искать, говорят --dir, --data и --database)"
                ),
            ));
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

    /// The token of a connection's hook. Only a server makes a master key: one made here would give a URL that nobody serves.
    pub fn token(&self, connection: &Connection) -> anyhow::Result<Token> {
        let given = Environment::of_process().get(MASTER_KEY_VARIABLE);
        let key = match MasterKey::existing(given, &self.data_directory()) {
            Ok(key) => key,
            Err(KeyError::Absent(path)) => {
                let path = path.display();
                return Err(Failure::error(
                    format!(
                        "there is no {path}: has `sheaf serve` run here? (--dir and --data say where to look, {MASTER_KEY_VARIABLE} gives the key itself)"
                    ),
                    format!(
                        "{path} не найден: запускался ли здесь `sheaf serve`? (где искать, говорят --dir и --data, сам ключ задаёт {MASTER_KEY_VARIABLE})"
                    ),
                ));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(key.token(&connection.name, connection.hook_generation))
    }

    /// The hook of a connection, as the files of now say.
    pub fn hook(&self, connection: &str) -> anyhow::Result<Arc<Hook>> {
        let compiled = self.compile()?;
        let hooks = &integration(&self.directory, &compiled)?.hooks;
        hooks.iter().find(|hook| hook.connection.name == connection).cloned().ok_or_else(|| {
            let names: Vec<&str> = hooks.iter().map(|hook| hook.connection.name.as_str()).collect();
            let names = names.join(", ");
            Failure::error(
                format!("no connection {connection:?} with a hook here; there are: {names}"),
                format!("здесь нет подключения {connection:?} с хуком; есть: {names}"),
            )
        })
    }

    /// What the files of now compile to, with all that is wrong in them.
    pub fn compile(&self) -> anyhow::Result<Compiled> {
        Ok(directory::compile(&directory::read(&self.directory)?))
    }

    /// A file as given, or below the project's directory.
    pub fn file(&self, path: &Path) -> PathBuf {
        if path.exists() { path.to_owned() } else { self.directory.join(path) }
    }
}

/// What can run of a directory, also when some of its files are wrong.
///
/// # Errors
/// Nothing can.
pub fn integration<'c>(directory: &Path, compiled: &'c Compiled) -> anyhow::Result<&'c Integration> {
    compiled.integration.as_ref().ok_or_else(|| does_not_compile(directory))
}

/// The files of a directory are wrong.
pub fn does_not_compile(directory: &Path) -> anyhow::Error {
    let directory = directory.display();
    Failure::error(
        format!("{directory} does not compile; `sheaf check` says why"),
        format!("{directory} не компилируется; почему, скажет `sheaf check`"),
    )
}
