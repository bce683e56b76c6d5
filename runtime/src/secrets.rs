//! From a reference to a secret's value. One function does it, at send time; values are in memory only and never shown.

use std::{
    collections::HashMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::SystemTime,
};

use secrecy::{ExposeSecret as _, SecretString};
use sheaf_bundles::{
    connection::{Connection, SecretReference, SecretSource},
    request::Response,
    value::Text,
};
use sheaf_connectors::{auth, echo};

use crate::config::Environment;

/// The largest file that is read as a secret, bytes.
pub const SECRET_BYTES_MAX: u64 = 64 * 1024;
/// A secret shorter than this is not looked for in answers: it would be found in any text.
const SCRUBBED_BYTES_MIN: usize = 6;
/// What stands in an answer where the vendor repeated our secret.
const SCRUBBED: &str = "[secret]";

/// The secrets of all connections. Values are read when first needed, or at start, and again when their file changes.
#[derive(Debug)]
pub struct Secrets {
    environment: Environment,
    directory: PathBuf,
    known: RwLock<HashMap<SecretSource, Known>>,
}

/// A value and the state of the file it came from.
#[derive(Debug, Clone)]
struct Known {
    value: Arc<Secret>,
    stamp: Option<Stamp>,
}

/// A value, and how an answer that repeats a request of ours would spell it.
#[derive(Debug)]
struct Secret {
    value: SecretString,
    spellings: Vec<SecretString>,
}

impl Secret {
    fn new(value: String) -> Arc<Secret> {
        let spellings = auth::spellings(&value).into_iter();
        let spellings = spellings.filter(|spelling| spelling.len() >= SCRUBBED_BYTES_MIN);
        Arc::new(Secret { spellings: spellings.map(SecretString::from).collect(), value: value.into() })
    }
}

/// Tells one content of a file from the next, as far as the file system says.
type Stamp = (SystemTime, u64);

/// A reference that leads nowhere. Holds names only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The connection.
    pub connection: String,
    /// The secret's name in it.
    pub name: String,
    /// Where it should be: `env NAME` or `file PATH`.
    pub place: String,
}

/// The secrets of one connection at one moment. `Debug` shows names only.
#[derive(Debug, Clone, Default)]
pub struct Held(Vec<(String, Arc<Secret>)>);

impl Secrets {
    /// Nothing is read yet. Relative files are looked for in `directory`.
    pub fn new(environment: Environment, directory: impl Into<PathBuf>) -> Secrets {
        Secrets { environment, directory: directory.into(), known: RwLock::default() }
    }

    /// Reads every secret of these connections and reports those that are not there.
    pub fn missing<'c>(&self, connections: impl IntoIterator<Item = &'c Connection>) -> Vec<Missing> {
        let mut missing = Vec::new();
        for connection in connections {
            for secret in connection.secrets.iter().filter(|secret| self.value(&secret.source).is_none()) {
                let place = match &secret.source {
                    SecretSource::Env(name) => format!("env {name}"),
                    SecretSource::File(path) => format!("file {path}"),
                };
                missing.push(Missing {
                    connection: connection.name.clone(),
                    name: secret.name.clone(),
                    place,
                });
            }
        }
        missing
    }

    /// What a request of this connection, or a check of its hook, may use. Those that are not there are left out.
    pub fn of(&self, connection: &Connection) -> Held {
        self.held(&connection.secrets)
    }

    /// The secrets of these references. Those that are not there are left out.
    pub fn held(&self, references: &[SecretReference]) -> Held {
        let value = |secret: &SecretReference| Some((secret.name.clone(), self.value(&secret.source)?));
        Held(references.iter().filter_map(value).collect())
    }

    /// Reads files that changed since they were read. One that is gone or unreadable keeps its last value, so a file
    /// being replaced never breaks what is running.
    pub fn refresh(&self) {
        let known: Vec<_> = self.read().iter().map(|(source, known)| (source.clone(), known.stamp)).collect();
        for (source, stamp) in known {
            if let SecretSource::File(path) = &source
                && stamp_of(&self.directory.join(path)).is_some_and(|now| Some(now) != stamp)
                && let Some(changed) = self.fetch(&source)
            {
                self.write().insert(source, changed);
            }
        }
    }

    /// The one place where a reference becomes a secret.
    fn value(&self, source: &SecretSource) -> Option<Arc<Secret>> {
        if let Some(known) = self.read().get(source) {
            return Some(known.value.clone());
        }
        let fetched = self.fetch(source)?;
        let value = fetched.value.clone();
        self.write().insert(source.clone(), fetched);
        Some(value)
    }

    fn fetch(&self, source: &SecretSource) -> Option<Known> {
        match source {
            SecretSource::Env(name) => {
                let value = self.environment.get(name)?;
                Some(Known { value: Secret::new(value), stamp: None })
            }
            SecretSource::File(path) => {
                let path = self.directory.join(path);
                let stamp = stamp_of(&path);
                Some(Known { value: Secret::new(text_of(&path)?), stamp })
            }
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<SecretSource, Known>> {
        // A panic elsewhere cannot leave the map half-written: every change is one insert.
        self.known.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<SecretSource, Known>> {
        self.known.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Held {
    /// The value of a secret, to be put into a request or compared with one, and nowhere else.
    pub fn expose(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(held, _)| held == name).map(|(_, secret)| secret.value.expose_secret())
    }

    /// Takes our secrets out of an answer that repeats them, before anything keeps or shows it.
    pub fn scrub(&self, response: &mut Response) {
        for secret in self.spellings() {
            for (_, value) in &mut response.headers {
                if let Some(left) = echo::without(value.as_bytes(), secret, SCRUBBED) {
                    *value = Text::from_utf8_lossy(&left);
                }
            }
            if let Some(left) = echo::without(&response.body, secret, SCRUBBED) {
                response.body = left;
            }
        }
    }

    /// A text that may repeat our secrets, without them.
    pub fn scrubbed(&self, text: &str) -> String {
        let without = |text: Vec<u8>, secret| echo::without(&text, secret, SCRUBBED).unwrap_or(text);
        let bytes = self.spellings().fold(text.as_bytes().to_vec(), without);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn spellings(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|(_, secret)| &secret.spellings).map(|spelling| spelling.expose_secret())
    }
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The file's text without the line end that editors add.
fn text_of(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(SECRET_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use sheaf_bundles::json;

    use super::*;

    fn connection(sources: Vec<(&str, SecretSource)>) -> Connection {
        let secrets =
            sources.into_iter().map(|(name, source)| SecretReference { name: name.into(), source }).collect();
        Connection {
            name: "main".into(),
            title: "main".into(),
            connector: "http".into(),
            settings: Default::default(),
            secrets,
            secret_origins: Vec::new(),
            authentication: Vec::new(),
            time_zone: "UTC".into(),
            hook_generation: 0,
            concurrency: None,
            budgets: Vec::new(),
        }
    }

    fn environment() -> Environment {
        Environment::of([("KEY", "canary-4711"), ("EMPTY", "")])
    }

    #[test]
    fn a_secret_is_read_from_the_environment_or_a_file_and_its_line_end_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("key"), "from file\r\n").unwrap();
        let secrets = Secrets::new(environment(), folder.path());
        let connection =
            connection(vec![("a", SecretSource::Env("KEY".into())), ("b", SecretSource::File("key".into()))]);
        let held = secrets.of(&connection);
        assert_eq!(
            (held.expose("a"), held.expose("b"), held.expose("c")),
            (Some("canary-4711"), Some("from file"), None)
        );
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_vanished_one_keeps_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "one").unwrap();
        let secrets = Secrets::new(environment(), folder.path());
        let connection = connection(vec![("a", SecretSource::File("key".into()))]);
        assert_eq!(secrets.of(&connection).expose("a"), Some("one"));
        fs::write(&path, "second").unwrap();
        secrets.refresh();
        assert_eq!(secrets.of(&connection).expose("a"), Some("second"));
        fs::remove_file(&path).unwrap();
        secrets.refresh();
        assert_eq!(secrets.of(&connection).expose("a"), Some("second"));
    }

    #[test]
    fn references_that_lead_nowhere_are_all_reported_by_name() {
        let secrets = Secrets::new(environment(), "/nowhere");
        let connection = connection(vec![
            ("a", SecretSource::Env("EMPTY".into())),
            ("b", SecretSource::File("key".into())),
            ("c", SecretSource::Env("KEY".into())),
        ]);
        let places: Vec<_> =
            secrets.missing([&connection]).into_iter().map(|missing| missing.place).collect();
        assert_eq!(places, ["env EMPTY", "file key"]);
    }

    #[test]
    fn a_secret_is_in_no_debug_output() {
        let secrets = Secrets::new(environment(), "/nowhere");
        let held = secrets.of(&connection(vec![("a", SecretSource::Env("KEY".into()))]));
        let shown = format!("{secrets:?} {held:?}");
        assert!(!shown.contains("4711"), "{shown}");
    }

    #[test]
    fn an_answer_that_repeats_our_secret_is_scrubbed() {
        let secrets = Secrets::new(environment(), "/nowhere");
        let held = secrets.of(&connection(vec![("a", SecretSource::Env("KEY".into()))]));
        let echo = "you sent canary-4711".to_owned();
        let mut response = Response {
            status: 401,
            headers: vec![("x-echo".into(), echo.as_str().into())],
            body: echo.into_bytes(),
        };
        held.scrub(&mut response);
        assert_eq!(response.headers[0].1, "you sent [secret]");
        assert_eq!(response.body, b"you sent [secret]");
    }

    #[test]
    fn a_secret_that_was_encoded_for_its_place_is_scrubbed_from_an_answer_too() {
        let environment = Environment::of([("KEY", "ab+c/d==\"1")]);
        let secrets = Secrets::new(environment, "/nowhere");
        let held = secrets.of(&connection(vec![("a", SecretSource::Env("KEY".into()))]));
        // As in a query, as in JSON, and as the password of `login` in Basic.
        for echo in ["ab%2Bc%2Fd%3D%3D%221", r#"ab+c/d==\"1"#, "bG9naW46YWIrYy9kPT0iMQ=="] {
            let mut response = Response { status: 404, headers: Vec::new(), body: echo.into() };
            held.scrub(&mut response);
            let left = String::from_utf8(response.body).unwrap();
            assert!(left.contains("[secret]") && left.len() < 20, "{left}");
        }
    }

    #[test]
    fn a_secret_that_the_vendor_escapes_in_its_answer_is_in_nothing_that_is_read_of_it() {
        let environment = Environment::of([("KEY", "ab+c/d==\"1 \\Ключ")]);
        let secrets = Secrets::new(environment, "/nowhere");
        let held = secrets.of(&connection(vec![("a", SecretSource::Env("KEY".into()))]));
        // As System.Text.Json, PHP and others write it, in a value and in a key; in JSON inside of JSON; its Basic form.
        for body in [
            r#"{"m":"ab\u002Bc/d==\u00221 \\\u041A\u043b\u044e\u0447"}"#,
            r#"{"m":"ab+c\/d==\"1 \u005CКлюч"}"#,
            r#"{"ab+c\/d==\"1 \\Ключ":"m"}"#,
            r#"{"m":"{\"m\":\"ab\\u002Bc\\/d==\\\"1 \\\\Ключ\"}"}"#,
            r#"{"m":"Basic dTphYitjL2Q9PSIxIFzQmtC70Y7Rhw\u003D="}"#,
            r#"{"m":"Basic Pz5\u002BOmFiK2MvZD09IjEgXNCa0LvRjtGH"}"#,
            r#"{"m":"Basic 0Ys6YWIrYy9kPT0iMSBc0JrQu9GO0Yc="}"#,
            r#"{"m":"ab%2bc%2fd%3d%3d%221+%5C%d0%9a%d0%bb%d1%8e%d1%87"}"#,
        ] {
            let mut response = Response { status: 400, headers: Vec::new(), body: body.into() };
            held.scrub(&mut response);
            let read = json::parse(&response.body, json::Limits::default()).expect("it is still JSON");
            let shown = json::to_text(&read);
            assert!(shown.contains("[secret]") && shown.len() < 40, "{body}: {shown}");
        }
    }
}
