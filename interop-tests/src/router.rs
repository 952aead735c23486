//! The router under test: our daemon in a process of its own, or one that runs already.

use crate::install::target_directory;
use crate::services::free_port;
use serde_json::{Value, json};
use std::{
    env,
    ffi::OsString,
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A router that runs. Dropping it stops the daemon; a test that fails prints its log.
#[derive(Debug)]
pub struct Router {
    listeners: Vec<Listener>,
    daemon: Option<Daemon>,
}

/// Where clients connect to.
#[derive(Clone, Debug)]
pub struct Listener {
    pub name: String,
    pub host: String,
    pub port: u16,
}

/// A configuration in the making: a list of entities as in a `.json` file of skrouterd.
#[derive(Debug)]
pub struct RouterBuilder {
    entities: Vec<Value>,
    listeners: Vec<Listener>,
    impatient: bool,
}

#[derive(Debug)]
struct Daemon {
    process: Child,
    directory: TempDir,
}

impl Router {
    /// The router that the tests of this process share: one listener without security, and
    /// addresses below `multicast`, `closest`, `balanced` and `unavailable` treated as named.
    ///
    /// It lives as long as any test holds it. `ROUTER_URL` names one that runs already.
    pub fn shared() -> Arc<Self> {
        static SHARED: Shared<Router> =
            Shared::new(|| running_already().unwrap_or_else(|| RouterBuilder::plain().start()));
        SHARED.get()
    }

    /// Whether tests may configure routers of their own. If not, because `ROUTER_URL` names one
    /// that runs already, says so loudly.
    #[track_caller]
    pub fn is_ours_to_configure() -> bool {
        let ours = running_already().is_none();
        if !ours {
            skip("this test configures a router of its own; ROUTER_URL names one that runs");
        }
        ours
    }

    /// The first listener.
    pub fn listener(&self) -> &Listener {
        &self.listeners[0]
    }

    /// # Panics
    ///
    /// When no listener has that name.
    #[track_caller]
    pub fn port(&self, listener: &str) -> u16 {
        let found = self.listeners.iter().find(|l| l.name == listener);
        found
            .unwrap_or_else(|| panic!("no listener '{listener}'"))
            .port
    }

    /// Bytes of memory that the daemon holds, where the system tells.
    pub fn resident_memory(&self) -> Option<u64> {
        let id = self.daemon.as_ref()?.process.id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kilobytes * 1024)
    }

    /// Sockets that the daemon has, where the system tells.
    pub fn sockets(&self) -> Option<usize> {
        let id = self.daemon.as_ref()?.process.id();
        let files = fs::read_dir(format!("/proc/{id}/fd")).ok()?.flatten();
        let targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        let is_socket = |target: &PathBuf| target.to_string_lossy().starts_with("socket:");
        Some(targets.filter(is_socket).count())
    }

    /// The last lines of the daemon's log; nothing for a router that ran already.
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }

    /// Asks it to stop, as service managers do, and waits until it has; says how it ended.
    ///
    /// # Panics
    ///
    /// When it runs elsewhere, or does not stop.
    pub fn stop(&mut self) -> ExitStatus {
        let daemon = self.daemon.as_mut().expect("it is ours");
        let process = daemon.process.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &process]).status();
        assert!(
            asked.is_ok_and(|status| status.success()),
            "it can be asked"
        );
        let deadline = Instant::now() + STOP_LIMIT;
        loop {
            if let Some(status) = daemon.process.try_wait().expect("it is a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "the router does not stop");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl RouterBuilder {
    pub fn new() -> Self {
        let router = json!(["router", {"mode": "standalone", "id": "interop"}]);
        Self {
            entities: vec![router],
            listeners: Vec::new(),
            impatient: false,
        }
    }

    /// What waits is found to be stuck after 3 seconds instead of 10, and told of sooner (`-T`).
    pub fn impatient(self) -> Self {
        Self {
            impatient: true,
            ..self
        }
    }

    /// What [`Router::shared`] runs.
    pub fn plain() -> Self {
        let mut builder = Self::new().listener("normal", json!({}));
        for distribution in ["multicast", "closest", "balanced", "unavailable"] {
            let treatment = json!({"prefix": distribution, "distribution": distribution});
            builder = builder.entity("address", treatment);
        }
        builder
    }

    /// Two such routers that are neighbours, `near` and `far`, both interior.
    pub fn pair() -> [Router; 2] {
        let interior = |id: &str| Self::plain().router(json!({"mode": "interior", "id": id}));
        let listener = json!({"role": "inter-router", "saslMechanisms": "ANONYMOUS"});
        let far = interior("far").listener("routers", listener).start();
        let connector = json!({
            "name": "far",
            "host": "127.0.0.1",
            "port": far.port("routers").to_string(),
            "role": "inter-router",
        });
        let near = interior("near").entity("connector", connector).start();
        [near, far]
    }

    /// Sets attributes of the router entity.
    pub fn router(mut self, attributes: Value) -> Self {
        for (name, value) in attributes.as_object().into_iter().flatten() {
            self.entities[0][1][name] = value.clone();
        }
        self
    }

    pub fn entity(mut self, kind: &str, attributes: Value) -> Self {
        self.entities.push(json!([kind, attributes]));
        self
    }

    /// Adds a listener on a free port of the loopback interface.
    pub fn listener(mut self, name: &str, mut attributes: Value) -> Self {
        let port = free_port();
        attributes["name"] = json!(name);
        attributes["host"] = json!("127.0.0.1");
        attributes["port"] = json!(port.to_string());
        self.listeners.push(Listener {
            name: name.into(),
            host: "127.0.0.1".into(),
            port,
        });
        self.entity("listener", attributes)
    }

    /// Starts the daemon and waits until it listens.
    ///
    /// # Panics
    ///
    /// With the daemon's log, when it does not listen in time.
    #[track_caller]
    pub fn start(self) -> Router {
        let directory = TempDir::new().expect("a temporary directory");
        let configuration = directory.path().join("router.json");
        let text = serde_json::to_string_pretty(&self.entities).expect("entities are plain data");
        fs::write(&configuration, text).expect("a temporary file");
        let log = fs::File::create(directory.path().join("log")).expect("a temporary file");
        let mut command = Command::new(daemon_binary());
        command.arg("-c").arg(&configuration).stdin(Stdio::null());
        if self.impatient {
            command.arg("-T");
        }
        command
            .stdout(log.try_clone().expect("a file handle"))
            .stderr(log);
        let process = command
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let mut daemon = Daemon { process, directory };
        for listener in &self.listeners {
            daemon.wait_for(listener);
        }
        Router {
            listeners: self.listeners,
            daemon: Some(daemon),
        }
    }
}

/// Something that the tests of a process share while any of them runs, made by the first.
/// (A plain static would never be dropped, and the daemon would outlive its tests.)
#[derive(Debug)]
pub struct Shared<T> {
    current: Mutex<Weak<T>>,
    make: fn() -> T,
}

impl<T> Shared<T> {
    pub const fn new(make: fn() -> T) -> Self {
        Self {
            current: Mutex::new(Weak::new()),
            make,
        }
    }

    /// What another test holds, or a new one.
    pub fn get(&self) -> Arc<T> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.upgrade().unwrap_or_else(|| {
            let made = Arc::new((self.make)());
            *current = Arc::downgrade(&made);
            made
        })
    }
}

/// A `saslConfigDir` in which the user `name` has `password`, written by the daemon's own
/// command; or the directory that `ROUTER_SASL_DIR` names, for routers of another make.
///
/// # Panics
///
/// When the daemon's command fails.
pub fn write_user(directory: &Path, name: &str, password: &str) -> PathBuf {
    if let Some(prepared) = env::var_os("ROUTER_SASL_DIR") {
        return prepared.into();
    }
    let mut command = Command::new(daemon_binary());
    command
        .args([
            "user",
            "add",
            "--mechanism",
            "SCRAM-SHA-1,SCRAM-SHA-256,SCRAM-SHA-512",
        ])
        .arg("--file")
        .arg(directory.join("skrouterd.users"))
        .arg(name);
    let mut process = command
        .stdin(Stdio::piped())
        .spawn()
        .expect("the daemon starts");
    let mut stdin = process.stdin.take().expect("stdin is piped");
    writeln!(stdin, "{password}").expect("the daemon reads the password");
    drop(stdin);
    let status = process.wait().expect("the daemon ends");
    assert!(status.success(), "{command:?} failed");
    directory.to_owned()
}

impl Default for RouterBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl Daemon {
    #[track_caller]
    fn wait_for(&mut self, listener: &Listener) {
        let deadline = Instant::now() + START_LIMIT;
        while !is_listening(listener) {
            let ended = self.process.try_wait().is_ok_and(|status| status.is_some());
            assert!(!ended, "the router ended at its start:\n{}", self.log());
            assert!(
                Instant::now() < deadline,
                "the router does not listen:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&self) -> String {
        let log = fs::read(self.directory.path().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let from = text.lines().count().saturating_sub(LOG_LINES);
        text.lines().skip(from).collect::<Vec<_>>().join("\n")
    }
}

/// Whether a connection is taken, which is gone for the router too before this returns: a test
/// that counts connections has only its own.
fn is_listening(listener: &Listener) -> bool {
    let Ok(mut stream) = TcpStream::connect((listener.host.as_str(), listener.port)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(START_LIMIT));
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
    true
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the router's log ends:\n{}\n---", self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How long a router may take to stop: more than it leaves its peers.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Says on the real stderr, which the test runner does not capture, that a test checks nothing.
///
/// # Panics
///
/// When `INTEROP_REQUIRE_ALL` is set: there, nothing may be skipped.
#[track_caller]
pub fn skip(why: &str) {
    assert!(env::var_os("INTEROP_REQUIRE_ALL").is_none(), "{why}");
    let test = thread::current().name().unwrap_or("test").to_owned();
    let line = format!("\nSKIPPED: {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn running_already() -> Option<Router> {
    let url = env::var("ROUTER_URL").ok()?;
    let (host, port) = url.rsplit_once(':').expect("ROUTER_URL is host:port");
    let port = port.parse().expect("ROUTER_URL is host:port");
    let listener = Listener {
        name: "normal".into(),
        host: host.into(),
        port,
    };
    Some(Router {
        listeners: vec![listener],
        daemon: None,
    })
}

/// `ROUTER_DAEMON`, or the workspace's daemon, which cargo brings up to date.
fn daemon_binary() -> &'static OsString {
    static BINARY: OnceLock<OsString> = OnceLock::new();
    BINARY.get_or_init(|| env::var_os("ROUTER_DAEMON").unwrap_or_else(build_daemon))
}

fn build_daemon() -> OsString {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args([
            "build",
            "--quiet",
            "--package",
            "router-daemon",
            "--target-dir",
        ])
        .arg(target_directory());
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let status = build.status().expect("cargo runs");
    assert!(status.success(), "{build:?} failed");
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let binary: PathBuf = target_directory().join(profile).join("router-daemon");
    binary.into_os_string()
}

const START_LIMIT: Duration = Duration::from_secs(10);
const LOG_LINES: usize = 60;
