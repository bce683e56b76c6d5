//! The system's own PostgreSQL, started for tests on a free loopback port as an unprivileged user.
//!
//! All test processes of a user share one server, each test has a database of its own. A process holds a shared lock for
//! as long as it lives; a watchdog that finds nobody holding it ends the server and removes its files.

use std::{
    fs::{self, File},
    io,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Where Debian and its kin keep the server's programs, one folder for each major version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The user and group `nobody`: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;
/// The database's superuser, and its password: no answer of ours may show it.
const USER: &str = "sheaf";
/// See above; the server asks for none.
pub const PASSWORD: &str = "canary-database-password";
/// Connections that the shared server takes: many tests use it at once.
const SHARED_CONNECTIONS_MAX: u16 = 200;
/// Connections that a server of one test takes: few, for some tests use them up.
const PRIVATE_CONNECTIONS_MAX: u16 = 40;
/// What a server keeps of its files in memory where many share the machine, MiB.
const TEST_BUFFERS_MIB: u32 = 64;
/// The same where speed is measured: the server's manual advises a quarter of the machine, this is one of 4 GiB.
const MEASURED_BUFFERS_MIB: u32 = 1024;
/// How long a fresh standby may take to have all that its server has, and how often that is looked at.
const IN_SYNC_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Ends a shared server once no test process is left. `$1` is the folder.
const WATCHDOG: &str = r#"
exec 9>>"$1/users.lock"
while sleep 3; do
    if flock -n -x 9; then
        pid=$(head -n 1 "$1/data/postmaster.pid")
        kill -QUIT "$pid"
        while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
        rm -rf "$1/data" "$1/port"
        exit 0
    fi
done
"#;

/// See [`TestDatabase::take_back`].
const TAKE_BACK: &str = "
DO $$ DECLARE name text; columns text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'sheaf_schema' LOOP
        SELECT string_agg(quote_ident(column_name), ', ') INTO columns FROM (
            SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = name
            INTERSECT
            SELECT column_name FROM information_schema.columns WHERE table_schema = 'present' AND table_name = name
        ) shared;
        EXECUTE format('INSERT INTO public.%I (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM present.%I',
            name, columns, columns, name);
    END LOOP;
END $$;
SELECT setval('public.node_epoch', nextval('present.node_epoch'));
SELECT setval(pg_get_serial_sequence('public.connection', 'id'), (SELECT max(id) FROM public.connection));
DROP SCHEMA present CASCADE;";

/// A running server.
#[derive(Debug)]
pub struct Server {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    connections_max: u16,
    buffers_mib: u32,
    /// Ends with this value; a shared server is ended by its watchdog.
    private: Option<tempfile::TempDir>,
}

/// A database of one test's own, gone when this is dropped.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    server: Server,
}

/// Whether the server's programs are there. When they are not, that is said, and in CI it is a failure.
pub fn is_installed() -> bool {
    let installed = missing().is_none();
    if !installed {
        assert!(
            std::env::var_os("CI").is_none(),
            "PostgreSQL is not installed, and CI must not skip its tests"
        );
        eprintln!("skipped: PostgreSQL is not installed (`make test` installs it)");
    }
    installed
}

/// What is missing to start one.
pub fn missing() -> Option<String> {
    programs().is_none().then(|| "PostgreSQL".to_owned())
}

/// What would be started: `PostgreSQL 17.2 (Debian …)`.
pub fn version() -> Option<String> {
    let output = run(Command::new(programs()?.join("postgres")).arg("--version")).ok()?;
    let said = String::from_utf8_lossy(&output.stdout);
    Some(said.trim().replace("postgres (PostgreSQL)", "PostgreSQL"))
}

impl TestDatabase {
    /// A fresh database on the shared server.
    pub fn new() -> TestDatabase {
        TestDatabase::on(Server::shared().expect("PostgreSQL starts"))
    }

    /// A fresh database on a server of its own, that a test may end and start again.
    pub fn alone() -> TestDatabase {
        TestDatabase::on(Server::private().expect("PostgreSQL starts"))
    }

    /// A fresh database on a server of its own with the memory of one that serves in earnest, and its files in that folder.
    pub fn measured(root: &Path) -> TestDatabase {
        let server = Server::own(root, PRIVATE_CONNECTIONS_MAX, MEASURED_BUFFERS_MIB);
        TestDatabase::on(server.expect("PostgreSQL starts"))
    }

    /// A fresh database on a server of its own that several nodes may use.
    pub fn of_nodes() -> TestDatabase {
        TestDatabase::on(
            Server::own(&std::env::temp_dir(), SHARED_CONNECTIONS_MAX, TEST_BUFFERS_MIB)
                .expect("PostgreSQL starts"),
        )
    }

    /// A fresh database on the same server, which must not be dropped before.
    pub fn beside(&self) -> TestDatabase {
        let Server { programs, folder, port, connections_max, buffers_mib, private: _ } = &self.server;
        TestDatabase::on(Server {
            programs: programs.clone(),
            folder: folder.clone(),
            port: *port,
            connections_max: *connections_max,
            buffers_mib: *buffers_mib,
            private: None,
        })
    }

    fn on(server: Server) -> TestDatabase {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        server.sql("postgres", &format!("CREATE DATABASE {name}")).expect("a database");
        TestDatabase { name, server }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{}", self.server.port, self.name)
    }

    /// Runs statements as a person would, apart from any connection of the product; the answer's rows as text.
    pub fn sql(&self, sql: &str) -> String {
        self.server.sql(&self.name, sql).expect("it runs")
    }

    /// Sets aside the tables and all that they hold: an older sheaf may make its own.
    pub fn set_aside(&self) {
        self.sql("ALTER SCHEMA public RENAME TO present; CREATE SCHEMA public;");
    }

    /// Takes back the rows that were set aside, by the columns that the tables have now.
    pub fn take_back(&self) {
        self.sql(TAKE_BACK);
    }

    /// The same on a standby of its server, in sync: from then on no commit is answered that the standby has not on its disk.
    pub fn standby(&self) -> io::Result<TestDatabase> {
        Ok(TestDatabase { name: self.name.clone(), server: self.server.standby()? })
    }

    /// Its server.
    pub fn server(&self) -> &Server {
        &self.server
    }
}

impl Default for TestDatabase {
    fn default() -> TestDatabase {
        TestDatabase::new()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // What is left of it goes with the server.
        let _ = self.server.sql("postgres", &format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

impl Server {
    /// The server that the test processes of this user share; started when it does not run.
    pub fn shared() -> io::Result<Server> {
        /// Held until the process ends.
        static HELD: OnceLock<File> = OnceLock::new();
        let folder = std::env::temp_dir().join(format!("sheaf-test-postgres-{}", user()));
        fs::create_dir_all(&folder)?;
        if HELD.get().is_none() {
            let users = File::options().create(true).append(true).open(folder.join("users.lock"))?;
            users.lock_shared()?;
            let _ = HELD.set(users);
        }
        let starting = File::options().create(true).append(true).open(folder.join("start.lock"))?;
        starting.lock()?;
        let found = fs::read_to_string(folder.join("port")).ok().and_then(|port| port.trim().parse().ok());
        let mut server = Server {
            programs: required()?,
            folder,
            port: found.unwrap_or(0),
            connections_max: SHARED_CONNECTIONS_MAX,
            buffers_mib: TEST_BUFFERS_MIB,
            private: None,
        };
        if found.is_none() || server.sql("postgres", "SELECT 1").is_err() {
            server.start_shared()?;
        }
        Ok(server)
    }

    /// A server of one test's own.
    pub fn private() -> io::Result<Server> {
        Server::own(&std::env::temp_dir(), PRIVATE_CONNECTIONS_MAX, TEST_BUFFERS_MIB)
    }

    fn own(root: &Path, connections_max: u16, buffers_mib: u32) -> io::Result<Server> {
        let home = tempfile::Builder::new().prefix("sheaf-pg").tempdir_in(fs::canonicalize(root)?)?;
        let folder = home.path().to_owned();
        give(&folder)?;
        let server = Server {
            programs: required()?,
            folder,
            port: free_port()?,
            connections_max,
            buffers_mib,
            private: Some(home),
        };
        server.make()?;
        server.start()?;
        Ok(server)
    }

    fn start_shared(&mut self) -> io::Result<()> {
        // A server that was killed leaves its files behind.
        let _ = fs::remove_dir_all(self.data());
        give(&self.folder)?;
        self.port = free_port()?;
        self.make()?;
        self.start()?;
        fs::write(self.folder.join("port"), self.port.to_string())?;
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", WATCHDOG, "watchdog"]).arg(&self.folder).process_group(0);
        quiet(&mut watchdog).spawn().map(drop)
    }

    fn make(&self) -> io::Result<()> {
        let mut initdb = self.program("initdb");
        initdb.arg("-D").arg(self.data()).args([
            "-U",
            USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "-N",
        ]);
        run(&mut initdb).map(drop)
    }

    fn standby(&self) -> io::Result<Server> {
        let home = tempfile::Builder::new().prefix("sheaf-pg").tempdir()?;
        let folder = home.path().to_owned();
        give(&folder)?;
        let standby = Server {
            programs: self.programs.clone(),
            folder,
            port: free_port()?,
            connections_max: self.connections_max,
            buffers_mib: self.buffers_mib,
            private: Some(home),
        };
        let mut copy = standby.program("pg_basebackup");
        copy.args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
            "-U",
            USER,
            "-c",
            "fast",
            "-X",
            "stream",
        ]);
        run(copy.args(["-R", "-D"]).arg(standby.data()))?;
        standby.start()?;
        // Not before: the copy would wait for a standby of its own.
        self.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")?;
        self.sql("postgres", "SELECT pg_reload_conf()")?;
        let begun = Instant::now();
        while self.sql("postgres", "SELECT sync_state FROM pg_stat_replication")? != "sync" {
            if begun.elapsed() > IN_SYNC_WITHIN {
                return Err(io::Error::other("the standby is not in sync"));
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(standby)
    }

    /// Makes a standby the server, and waits until it takes writes.
    pub fn promote(&self) -> io::Result<()> {
        let mut promote = self.program("pg_ctl");
        run(promote.arg("-D").arg(self.data()).args(["-w", "promote"])).map(drop)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it, and waits until it takes connections.
    pub fn start(&self) -> io::Result<()> {
        let settings = format!(
            "-p {} -c unix_socket_directories='' -c listen_addresses=127.0.0.1 -c max_connections={} -c shared_buffers={}MB",
            self.port, self.connections_max, self.buffers_mib,
        );
        let mut start = self.program("pg_ctl");
        start.arg("-D").arg(self.data()).arg("-l").arg(self.folder.join("log"));
        start.args(["-w", "-o", &settings, "start"]);
        let status = quiet(&mut start).status()?;
        let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("pg_ctl start: {}", log()))) }
    }

    /// Ends it as a machine that loses its power would, but for what the kernel had: no goodbye, recovery at the next start.
    pub fn kill(&self) -> io::Result<()> {
        self.stop("immediate")
    }

    /// Ends it as an administrator would who does not wait for clients.
    pub fn stop_in_order(&self) -> io::Result<()> {
        self.stop("fast")
    }

    fn stop(&self, how: &str) -> io::Result<()> {
        let mut stop = self.program("pg_ctl");
        stop.arg("-D").arg(self.data()).args(["-w", "-m", how, "stop"]);
        run(&mut stop).map(drop)
    }

    fn sql(&self, database: &str, sql: &str) -> io::Result<String> {
        let mut psql = Command::new(self.programs.join("psql"));
        // What a test holds back on the server never holds the test itself back.
        psql.env("PGOPTIONS", "-c synchronous_commit=local");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", USER]);
        psql.args(["-p", &self.port.to_string(), "-d", database, "-c", sql]);
        let output = run(&mut psql)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Its files.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A program of the server, as the user that owns its files.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir("/");
        if user() == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.private.is_some() {
            // It may have been ended by its test.
            let _ = self.kill();
        }
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

fn run(command: &mut Command) -> io::Result<Output> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [output.stdout, output.stderr].concat();
    Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&said))))
}

fn user() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").map_or(0, |own| own.uid())
}

/// Gives a folder to the user that the server runs as.
fn give(folder: &Path) -> io::Result<()> {
    if user() == 0 { chown(folder, Some(NOBODY), Some(NOBODY)) } else { Ok(()) }
}

fn free_port() -> io::Result<u16> {
    TcpListener::bind("127.0.0.1:0")?.local_addr().map(|address| address.port())
}

fn required() -> io::Result<PathBuf> {
    programs().ok_or_else(|| io::Error::other("PostgreSQL is not installed"))
}

/// The folder of the newest server's programs.
fn programs() -> Option<PathBuf> {
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = versions.max_by_key(version).map(|path| path.join("bin"));
    let on_path = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
    newest.into_iter().chain(on_path).find(|folder| folder.join("initdb").is_file())
}
