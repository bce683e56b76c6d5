//! The directory a command is about, and what its server left beside it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use sheaf_bundles::{connection::Connection, hook::Hook, words::Words, workspace};

use super::output::Failure;
use crate::{
    addresses::Addresses,
    clock::Clock,
    config::{self, Environment, HOOKS_ADDRESS, MANAGEMENT_ADDRESS, MASTER_KEY_VARIABLE},
    directory::{self, Compiled},
    queue::{QueueError, gate::GateKind},
    storage::{database::Database, postgres::url::DatabaseUrl, store::Store},
    token::{KeyError, MasterKey, Token},
};

/// Which directory of integrations, and where its data lie.
#[derive(Debug, Clone, clap::Args)]
pub struct Project {
    /// Directory with sheaf.yaml, connections/ and bundles/, or with several such below workspaces/.
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
        let hooks = || compiled.integrations().flat_map(|integration| &integration.hooks);
        if hooks().next().is_none() && !compiled.is_sound() {
            return Err(does_not_compile(&self.directory));
        }
        hooks().find(|hook| hook.connection.name == connection).cloned().ok_or_else(|| {
            let names: Vec<String> = hooks().map(|hook| hook.connection.name.clone()).collect();
            let hint = hint(connection, &names);
            Failure::error(
                format!("no connection {connection:?} with a hook here; {}", hint.en),
                format!("здесь нет подключения {connection:?} с хуком; {}", hint.ru),
            )
        })
    }

    /// What the files of now name, as far as they can be read.
    pub fn named(&self, kind: GateKind) -> Vec<String> {
        let Ok(compiled) = self.compile() else { return Vec::new() };
        let names = compiled.integrations().flat_map(|integration| match kind {
            GateKind::Bundle => integration.plans.iter().map(|plan| plan.bundle.clone()).collect(),
            GateKind::Connection | GateKind::Source => {
                let names = integration.connections.iter().map(|connection| connection.name.clone());
                names.collect::<Vec<_>>()
            }
        });
        names.collect()
    }

    /// Nothing was found of this name.
    ///
    /// # Errors
    /// It stands for a name of one workspace, without the workspace.
    pub fn refuse_bare(&self, kind: GateKind, name: Option<&str>) -> anyhow::Result<()> {
        let Some(name) = name else { return Ok(()) };
        let named = self.named(kind);
        match meant(name, &named) {
            Some(meant) if meant != name => Err(unknown(kind, name, &named)),
            Some(_) | None => Ok(()),
        }
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

/// "There is no such bundle."
pub fn unknown(kind: GateKind, name: &str, named: &[String]) -> anyhow::Error {
    let (kind, hint) = (kind.name(), hint(name, named));
    Failure::error(
        format!("no {kind} {name:?} here; {}", hint.en),
        format!("здесь нет {kind} {name:?}; {}", hint.ru),
    )
}

/// What there is instead.
fn hint(name: &str, named: &[String]) -> Words {
    match meant(name, named) {
        Some(meant) => Words::new(format!("did you mean {meant:?}?"), format!("может быть, {meant:?}?")),
        None => {
            let all = named.join(", ");
            Words::new(format!("there are: {all}"), format!("есть: {all}"))
        }
    }
}

/// The one that a name without its workspace means; none when several may be meant.
fn meant<'n>(name: &str, named: &'n [String]) -> Option<&'n str> {
    let mut like = named.iter().filter(|own| workspace::bare(own) == name);
    like.next().filter(|_| like.next().is_none()).map(String::as_str)
}

/// The files of a directory are wrong.
pub fn does_not_compile(directory: &Path) -> anyhow::Error {
    let directory = directory.display();
    Failure::error(
        format!("{directory} does not compile; `sheaf check` says why"),
        format!("{directory} не компилируется; почему, скажет `sheaf check`"),
    )
}
