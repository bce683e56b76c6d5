//! A directory of one's own with the product's binary to work on it.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use regex::Regex;
use tempfile::TempDir;

/// The example of the README.
pub const CALLTOUCH: &str = "calltouch-mindbox";
/// The connection that takes its webhooks.
pub const HOOK: &str = "calltouch-main";
/// Nothing here takes as long unless it is broken.
const BROKEN_AFTER: Duration = Duration::from_secs(30);

/// See above; gone when dropped.
pub struct Shop {
    /// What a clone of the repository has in it, as far as it matters.
    pub root: TempDir,
    /// The integration's files.
    pub directory: PathBuf,
    settings: Vec<(&'static str, String)>,
}

/// What a command said, and how it ended.
pub struct Said {
    /// Both outputs, in the order they were written.
    pub text: String,
    /// Whether its exit code was 0.
    pub ok: bool,
}

/// A process that is killed when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("runtime/ lies in the root")
}

impl Shop {
    /// A copy of an example.
    pub fn with(example: &str) -> Shop {
        let root = tempfile::tempdir().expect("a directory");
        let below = Path::new("examples").join(example);
        let directory = root.path().join(&below);
        copy(&repository().join(below), &directory);
        Shop { root, directory, settings: vec![("MINDBOX_SECRET_KEY", "demo-key".to_owned())] }
    }

    /// An integration of these files.
    pub fn of(files: &[(&str, &str)]) -> Shop {
        let root = tempfile::tempdir().expect("a directory");
        let shop = Shop { directory: root.path().join("shop"), root, settings: Vec::new() };
        files.iter().for_each(|(name, text)| shop.write(name, text));
        shop
    }

    /// The README's example after its demo: one dynamic call, one static, one of neither.
    pub fn after_the_demo() -> Shop {
        let shop = Shop::with(CALLTOUCH);
        let demo = shop.sheaf(&["demo", "DIR", "--once"]);
        assert!(demo.ok, "{}", demo.text);
        shop
    }

    /// One more environment variable.
    pub fn set(mut self, name: &'static str, value: &str) -> Shop {
        self.settings.retain(|(own, _)| *own != name);
        self.settings.push((name, value.to_owned()));
        self
    }

    /// Writes a file of the integration.
    pub fn write(&self, name: &str, text: &str) {
        let file = self.directory.join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a directory");
        fs::write(file, text).expect("a file");
    }

    /// A command of the binary to its end; `DIR` stands for the directory.
    pub fn sheaf(&self, words: &[&str]) -> Said {
        self.said(self.command(words))
    }

    /// What such a command prints as JSON.
    pub fn json(&self, words: &[&str]) -> serde_json::Value {
        let output = self.command(words).arg("--json").output().expect("the binary");
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Any command to its end.
    pub fn said(&self, mut command: Command) -> Said {
        let path = self.root.path().join("said");
        let both = File::create(&path).expect("a file");
        let status =
            command.stdout(both.try_clone().expect("a handle")).stderr(both).status().expect("it starts");
        Said { text: fs::read_to_string(path).expect("text"), ok: status.success() }
    }

    /// Such a command that goes on; its standard output is read line by line.
    pub fn start(&self, words: &[&str]) -> Running {
        let mut command = self.command(words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("it starts");
        let (sender, lines) = mpsc::channel();
        let said = BufReader::new(child.stdout.take().expect("a pipe"));
        // A line that nobody waits for any more is not missed.
        thread::spawn(move || said.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Running { child, lines }
    }

    /// A server on free ports, ready.
    pub fn serve(&self, more: &[&str]) -> Running {
        let free = [
            "serve",
            "DIR",
            "--json",
            "--hooks-address",
            "127.0.0.1:0",
            "--management-address",
            "127.0.0.1:0",
        ];
        let mut running = self.start(&[&free, more].concat());
        running.until("{\"hooks\"");
        running
    }

    /// Asks again until that holds of what a command prints as JSON.
    pub fn until(&self, words: &[&str], reached: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let until = Instant::now() + BROKEN_AFTER;
        loop {
            let found = self.json(words);
            if reached(&found) {
                return found;
            }
            assert!(Instant::now() < until, "{words:?} never said so: {found}");
        }
    }

    /// A command of the binary.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sheaf"));
        let directory = self.directory.to_str().expect("a plain path");
        command.args(words.iter().map(|word| if *word == "DIR" { directory } else { word }));
        self.environment(&mut command);
        command
    }

    /// Nothing of the machine's, but the directory.
    pub fn environment(&self, command: &mut Command) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("USER", "alice").env("SHEAF_DIR", &self.directory);
        command.envs(self.settings.iter().map(|(name, value)| (name, value))).current_dir(self.root.path());
    }

    /// A text without what is different each time.
    pub fn redacted(&self, text: &str) -> String {
        let directory = text.replace(self.directory.to_str().expect("a plain path"), "DIR");
        let root = directory.replace(self.root.path().to_str().expect("a plain path"), "ROOT");
        let rules = [
            (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
            (r"/hooks/[a-z2-7]{32}", "/hooks/TOKEN"),
            (r"\b(evt|run|ver)_[0-9a-f]{16}\b", "${1}_0123456789abcdef"),
            (r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "KEY"),
            (r"\b\d{13}([123])\b", "CALL-${1}"),
            (r#"((started|finished|received|took|at)_ms": )\d+"#, "${1}MS"),
            (r"\b20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ", "2026-01-01 00:00:00Z"),
        ];
        rules.iter().fold(root, |text, (pattern, with)| {
            Regex::new(pattern).expect("a pattern").replace_all(&text, *with).into_owned()
        })
    }
}

impl Running {
    /// Its lines up to the first that begins so.
    pub fn until(&mut self, wanted: &str) -> String {
        let mut text = String::new();
        loop {
            let line = self.lines.recv_timeout(BROKEN_AFTER);
            let line = line.unwrap_or_else(|error| panic!("{error} before {wanted:?}: {text}"));
            text = text + &line + "\n";
            if line.starts_with(wanted) {
                return text;
            }
        }
    }

    /// Asks it to end; whether it ended well.
    pub fn stop(mut self) -> bool {
        let kill =
            Command::new("sh").args(["-c", &format!("kill {}", self.child.id())]).status().expect("a shell");
        kill.success() && self.child.wait().expect("an end").success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("an example") {
        let source = entry.expect("an entry").path();
        // What somebody's own demo left there.
        if source.file_name().is_some_and(|name| name == ".sheaf") {
            continue;
        }
        let target = to.join(source.file_name().expect("a name"));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            fs::copy(&source, &target).expect("a copy");
        }
    }
}
