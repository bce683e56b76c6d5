//! A running server with one of the examples, and everything around it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use sheaf_runtime::{
    app::{self, Running},
    clock::{Clock, SetClock},
    config::{Config, Environment},
    oversight::LOOK_MS,
    queue::history::{LedgerLine, RunDetail, RunFilter},
    token::MasterKey,
};
use sheaf_tests::{
    calltouch::{Calltouch, Method, Model, Spaces, Webhook},
    mindbox::{Mindbox, Project, Record},
    wire::{self, Client},
};
use tempfile::TempDir;

/// The connection that takes the webhooks, unless it is said otherwise.
pub const HOOK: &str = "calltouch-main";
/// When these tests happen: the day of the samples, unix milliseconds.
const NOW_MS: i64 = 1_772_695_100_000;
/// Nothing here takes as long unless it is broken.
pub const BROKEN_AFTER: Duration = Duration::from_secs(20);

/// See above.
pub struct World {
    /// The far end.
    pub mindbox: Mindbox,
    running: Running,
    clock: SetClock,
    hook: String,
    config: Config,
    environment: Environment,
    time: Clock,
    _folder: TempDir,
}

impl World {
    /// An example as it is.
    pub async fn start(example: &str) -> World {
        World::start_with(example, &[]).await
    }

    /// An example with some files written anew.
    pub async fn start_with(example: &str, files: &[(&str, &str)]) -> World {
        World::start_set(example, files, &[], |_| {}).await
    }

    /// The same with more secrets and other settings.
    pub async fn start_set(
        example: &str,
        files: &[(&str, &str)],
        secrets: &[(&'static str, &'static str)],
        set: impl FnOnce(&mut Config),
    ) -> World {
        let folder = tempfile::tempdir().expect("a directory");
        let (directory, data) = (folder.path().join("integration"), folder.path().join("data"));
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(example), &directory);
        for (name, text) in files {
            let file = directory.join(name);
            fs::create_dir_all(file.parent().expect("a folder")).expect("a directory");
            fs::write(file, text).expect("a file");
        }
        let mindbox = Mindbox::start(Project::default()).await.expect("a stand-in");
        let mut config = Config::new(directory);
        config.data = Some(data.clone());
        config.hooks_address = ([127, 0, 0, 1], 0).into();
        config.management_address = ([127, 0, 0, 1], 0).into();
        let redirected = format!("https://api.mindbox.ru={}", mindbox.origin());
        config.egress_override = vec![redirected.parse().expect("an override")];
        set(&mut config);
        let mindbox_key = [("MINDBOX_SECRET_KEY", "test-key")];
        let environment = Environment::with(mindbox_key.iter().chain(secrets).copied());
        let (clock, set_clock) = Clock::stopped_at(NOW_MS);
        let running = serve(&config, &environment, &clock).await;
        World {
            mindbox,
            running,
            clock: set_clock,
            hook: HOOK.to_owned(),
            config,
            environment,
            time: clock,
            _folder: folder,
        }
    }

    /// Stops the server and starts it again on the same data, at the same time.
    pub async fn restart(self) -> World {
        self.restart_after(|| {}).await
    }

    /// The same, with something done while it is down.
    pub async fn restart_after(self, meanwhile: impl FnOnce()) -> World {
        let World { mindbox, running, clock, hook, config, environment, time, _folder } = self;
        running.stop().await;
        meanwhile();
        let running = serve(&config, &environment, &time).await;
        World { mindbox, running, clock, hook, config, environment, time, _folder }
    }

    /// Starts one more node on the same database with the same key, its own data in `data` and its files in `directory`.
    pub async fn one_more(&self, directory: &Path, data: &Path) -> Running {
        fs::create_dir_all(data).expect("a directory");
        let key = self.config.data_directory().join("master.key");
        fs::copy(key, data.join("master.key")).expect("the key it made");
        let config = Config { directory: directory.into(), data: Some(data.into()), ..self.config.clone() };
        serve(&config, &self.environment, &self.time).await
    }

    /// The server.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Its directory and its data.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The time.
    pub fn now_ms(&self) -> i64 {
        self.time.now_ms()
    }

    /// Lets time pass, look by look; what there was to tell by then is on its way when this returns.
    pub async fn look_for(&self, time: Duration) {
        let mut seen = self.running.seen();
        let end_ms = self.now_ms() + i64::try_from(time.as_millis()).expect("a short time");
        while self.now_ms() < end_ms {
            let now_ms = end_ms.min(self.now_ms() + LOOK_MS);
            self.clock.set_ms(now_ms);
            let looked = seen.wait_for(|seen| seen.at_ms + LOOK_MS > now_ms);
            let looked = tokio::time::timeout(BROKEN_AFTER, looked).await.expect("somebody looks");
            drop(looked.expect("the server runs"));
        }
    }

    /// From now on its hook is that of this connection.
    pub fn through(&mut self, connection: &str) {
        connection.clone_into(&mut self.hook);
    }

    /// Calltouch with a webhook to the hook.
    pub fn calltouch(&self, method: Method) -> Calltouch {
        self.calltouch_to(&self.running, method)
    }

    /// Calltouch with a webhook to the hook at another node.
    pub fn calltouch_to(&self, node: &Running, method: Method) -> Calltouch {
        let (address, path) = (node.addresses().hooks, self.hook_path());
        Calltouch::new(Webhook { address, path, method, model: Model::Events, spaces: Spaces::Percent })
    }

    /// Sends anything to the hook; the status of its answer.
    pub async fn post(&self, content_type: &str, body: &str) -> u16 {
        let headers = [("content-type", content_type)];
        let request = wire::request("POST", &self.hook_path(), &headers, body.as_bytes());
        let mut client = Client::connect(self.running.addresses().hooks).await.expect("a connection");
        client.exchange(&request).await.expect("an answer").status()
    }

    fn hook_path(&self) -> String {
        let key = MasterKey::load(None, &self.config.data_directory()).expect("the key it made");
        format!("/hooks/{}", key.token(&self.hook, 1).expose())
    }

    /// What the ledger says about the hook's connection, with both equations checked against every row.
    pub async fn ledger(&self) -> LedgerLine {
        self.line().await.expect("the connection's line")
    }

    /// `None` before the first request was received.
    async fn line(&self) -> Option<LedgerLine> {
        let store = self.running.queue().store();
        assert_eq!(store.verify_ledger().await.expect("a ledger"), []);
        let lines = store.ledger().await.expect("a ledger");
        let line = lines.into_iter().find(|line| line.connection == self.hook)?;
        assert!(line.events_balance && line.decisions_balance, "{line:?}");
        Some(line)
    }

    /// Waits until every run that is due has ended one way or the other, and tells the ledger.
    pub async fn until(&self, reached: impl Fn(&LedgerLine) -> bool) -> LedgerLine {
        let waiting = async {
            loop {
                self.running.queue().flush().await.expect("the queue works");
                if let Some(line) = self.line().await.filter(&reached) {
                    return line;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(BROKEN_AFTER, waiting).await.expect("it comes to that")
    }

    /// Waits until the newest run has ended so many attempts, and returns it.
    pub async fn attempted(&self, attempts: usize) -> RunDetail {
        let store = self.running.queue().store();
        let waiting = async {
            loop {
                self.running.queue().flush().await.expect("the queue works");
                let newest = RunFilter { limit: 1, ..RunFilter::default() };
                let runs = store.runs(&newest).await.expect("runs");
                let run = runs.first().expect("one run");
                let detail = store.run(run.id).await.expect("its history").expect("it is there");
                if detail.attempts.len() >= attempts {
                    return detail;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(BROKEN_AFTER, waiting).await.expect("so many attempts end")
    }

    /// Waits until Mindbox has got so many requests, and returns them.
    pub async fn requests(&self, count: usize) -> Vec<Record> {
        let arriving = self.mindbox.at_least(count);
        tokio::time::timeout(BROKEN_AFTER, arriving).await.expect("so many requests come")
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.clock.advance_ms(i64::try_from(time.as_millis()).expect("a short time"));
    }
}

/// Starts a server and waits until it was looked at once: the next look is then after the time has moved.
async fn serve(config: &Config, environment: &Environment, clock: &Clock) -> Running {
    let running = app::serve(config.clone(), environment.clone(), clock.clone()).await.expect("it starts");
    let mut seen = running.seen();
    let looked = seen.wait_for(|seen| seen.at_ms == clock.now_ms());
    drop(tokio::time::timeout(BROKEN_AFTER, looked).await.expect("somebody looks").expect("the server runs"));
    running
}

/// Copies a directory.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("an example") {
        let source: PathBuf = entry.expect("an entry").path();
        let target = to.join(source.file_name().expect("a name"));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            fs::copy(&source, &target).expect("a copy");
        }
    }
}
