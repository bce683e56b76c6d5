//! Every setting of the server, and the only reader of the process's environment and flags.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;
use sheaf_bundles::words::Language;
use validator::Validate;

use crate::{
    egress::{Rules, address::Allowed, origin::Override},
    storage::{database::Database, postgres::url::DatabaseUrl},
};

/// Runs that one process executes at once when nothing else is set. Of several connections one never holds more than half:
/// with 256, a busy one among others passed its half, and every run past it was read back from the database, a third slower.
pub const SLOTS: usize = 512;
/// The lease of a run when nothing else is set, milliseconds.
pub const LEASE_MS: u64 = 20_000;
/// How long a stop waits for what is in flight when nothing else is set, milliseconds.
pub const STOP_GRACE_MS: u64 = 25_000;
/// How often the directory is looked at when nothing else is set, milliseconds.
pub const WATCH_MS: u64 = 1_000;
/// Where hooks are served when nothing else is set.
pub const HOOKS_ADDRESS: &str = "127.0.0.1:8080";
/// Where health, readiness and metrics are served when nothing else is set.
pub const MANAGEMENT_ADDRESS: &str = "127.0.0.1:8081";

/// The settings of `sheaf serve`. Each is a flag and an environment variable; the flag wins.
#[derive(Debug, Clone, clap::Args, Validate)]
pub struct Config {
    /// Directory with sheaf.yaml, connections/ and bundles/, or with several such below workspaces/.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    /// Where the database and the master key live; `.sheaf` inside DIR when not set.
    #[arg(long = "data", env = "SHEAF_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// The PostgreSQL that several nodes share, instead of the SQLite file in the data directory:
    /// postgres://USER:PASSWORD@HOST:PORT/DATABASE. Flags are seen by every user of a machine: give a password by the
    /// variable. Nodes need the same master key, and a data directory each.
    #[arg(long, env = "SHEAF_DATABASE", value_name = "URL", hide_env_values = true)]
    pub database: Option<DatabaseUrl>,

    /// Address of the public listener for vendors' hooks.
    #[arg(long, env = "SHEAF_HOOKS_ADDRESS", value_name = "IP:PORT", default_value = HOOKS_ADDRESS)]
    pub hooks_address: SocketAddr,

    /// Address of /healthz, /readyz and /metrics; keep it private.
    #[arg(long, env = "SHEAF_MANAGEMENT_ADDRESS", value_name = "IP:PORT", default_value = MANAGEMENT_ADDRESS)]
    pub management_address: SocketAddr,

    /// What hook URLs start with when a proxy stands in front, for example https://hooks.shop.example.
    #[arg(long, env = "SHEAF_PUBLIC_URL", value_name = "URL")]
    #[validate(url)]
    pub public_url: Option<String>,

    /// Networks of proxies whose X-Forwarded-For is believed.
    #[arg(long = "trusted-proxy", env = "SHEAF_TRUSTED_PROXIES", value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxies: Vec<IpNet>,

    /// Networks that requests may go to although they are not public.
    #[arg(
        long = "egress-allow",
        env = "SHEAF_EGRESS_ALLOW",
        value_name = "CIDR:PORT",
        value_delimiter = ','
    )]
    pub egress_allow: Vec<Allowed>,

    /// Origins that are sent elsewhere, for stand-ins: https://api.mindbox.ru=http://127.0.0.1:9001.
    #[arg(
        long = "egress-override",
        env = "SHEAF_EGRESS_OVERRIDE",
        value_name = "ORIGIN=ORIGIN",
        value_delimiter = ','
    )]
    pub egress_override: Vec<Override>,

    /// How many runs are executed at once.
    #[arg(long, env = "SHEAF_SLOTS", value_name = "COUNT", default_value_t = SLOTS)]
    #[validate(range(min = 1, max = 10_000))]
    pub slots: usize,

    /// How long a run belongs to this process before another may take it, milliseconds.
    #[arg(long, env = "SHEAF_LEASE_MS", value_name = "MS", default_value_t = LEASE_MS)]
    #[validate(range(min = 1_000, max = 600_000))]
    pub lease_ms: u64,

    /// How long a stop waits for requests and runs in flight, milliseconds.
    #[arg(long, env = "SHEAF_STOP_GRACE_MS", value_name = "MS", default_value_t = STOP_GRACE_MS)]
    #[validate(range(max = 600_000))]
    pub stop_grace_ms: u64,

    /// How often DIR is checked for changes, milliseconds; 0 for never.
    #[arg(long, env = "SHEAF_WATCH_MS", value_name = "MS", default_value_t = WATCH_MS)]
    #[validate(range(max = 3_600_000))]
    pub watch_ms: u64,

    /// What log lines look like.
    #[arg(long, env = "SHEAF_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,

    /// Which log lines are written, for example info or sheaf_runtime=debug.
    #[arg(long, env = "SHEAF_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// What log lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Variable that holds the master key, as 64 hexadecimal digits. There is no flag: flags are seen by every user of a machine.
pub const MASTER_KEY_VARIABLE: &str = "SHEAF_MASTER_KEY";
/// Folder for our data inside the integrations' directory, when no other is set.
const DATA_FOLDER: &str = ".sheaf";

impl Config {
    /// Everything at its default.
    pub fn new(directory: impl Into<PathBuf>) -> Config {
        Config {
            directory: directory.into(),
            data: None,
            database: None,
            hooks_address: HOOKS_ADDRESS.parse().expect("the default is an address"),
            management_address: MANAGEMENT_ADDRESS.parse().expect("the default is an address"),
            public_url: None,
            trusted_proxies: Vec::new(),
            egress_allow: Vec::new(),
            egress_override: Vec::new(),
            slots: SLOTS,
            lease_ms: LEASE_MS,
            stop_grace_ms: STOP_GRACE_MS,
            watch_ms: WATCH_MS,
            log_format: LogFormat::Json,
            log: "info".to_owned(),
        }
    }

    /// Where the database and the master key live.
    pub fn data_directory(&self) -> PathBuf {
        data_directory(&self.directory, self.data.as_deref())
    }

    /// The database.
    pub fn database(&self) -> Database {
        Database::of(self.database.as_ref(), self.data_directory())
    }

    /// The operator's rules for outgoing requests.
    pub fn egress_rules(&self) -> Rules {
        Rules { allowed: self.egress_allow.clone(), overrides: self.egress_override.clone() }
    }
}

/// Where the database and the master key of an integrations' directory live.
pub fn data_directory(directory: &Path, data: Option<&Path>) -> PathBuf {
    data.map_or_else(|| directory.join(DATA_FOLDER), Path::to_owned)
}

/// Named values from outside the process; a test brings its own.
#[derive(Clone)]
pub struct Environment(Arc<LookUp>);

/// The value of a name.
type LookUp = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Environment {
    /// The process's own environment. A value that is not UTF-8 counts as absent.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn of_process() -> Environment {
        Environment(Arc::new(|name| std::env::var(name).ok()))
    }

    /// Exactly these values.
    pub fn of<const N: usize>(pairs: [(&str, &str); N]) -> Environment {
        Environment::with(pairs)
    }

    /// Exactly these values, however many.
    pub fn with<'v>(pairs: impl IntoIterator<Item = (&'v str, &'v str)>) -> Environment {
        let pairs: HashMap<String, String> =
            pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Environment(Arc::new(move |name| pairs.get(name).cloned()))
    }

    /// The language of the terminal, by the usual variables.
    pub fn language(&self) -> Language {
        let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(|name| self.get(name));
        if locale.is_some_and(|locale| locale.starts_with("ru")) { Language::Ru } else { Language::En }
    }

    /// The value of a name, unless it is absent or empty.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn flags_that_are_not_given_have_the_documented_defaults() {
        let parsed = Line::parse_from(["sheaf", "dir"]).config;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Config::new("dir")));
        assert!(parsed.validate().is_ok());
        assert!(
            matches!(parsed.database(), Database::File(path) if path == Path::new("dir/.sheaf/sheaf.db"))
        );
    }

    #[test]
    fn values_outside_their_range_are_refused() {
        for wrong in [
            ["--slots", "0"],
            ["--lease-ms", "10"],
            ["--public-url", "hooks.example"],
            ["--stop-grace-ms", "99999999"],
        ] {
            let parsed = Line::parse_from(["sheaf", "dir"].into_iter().chain(wrong)).config;
            assert!(parsed.validate().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn several_networks_and_overrides_may_be_given() {
        let line = [
            "sheaf",
            "dir",
            "--egress-allow",
            "10.0.0.0/8:443,[fd00::]:80",
            "--egress-override",
            "https://a.example=http://127.0.0.1:1",
        ];
        let parsed = Line::parse_from(line).config;
        assert_eq!((parsed.egress_allow.len(), parsed.egress_override.len()), (2, 1));
    }
}
