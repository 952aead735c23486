//! Routers that run, and the command that asks them.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// A router that runs until it is dropped.
pub(crate) struct Router {
    pub(crate) process: Child,
    pub(crate) port: u16,
    pub(crate) inter_router: u16,
    pub(crate) directory: TempDir,
}

impl Router {
    pub(crate) fn standalone() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(more: impl FnOnce(&mut Vec<Json>)) -> Self {
        let port = free_port();
        let mut entities = vec![
            json!(["router", {"mode": "standalone", "id": "Solo"}]),
            json!(["listener", {"name": "normal", "host": "127.0.0.1", "port": port.to_string()}]),
        ];
        more(&mut entities);
        Self::run(&entities, port, 0)
    }

    /// What the configuration file said at the start.
    pub(crate) fn entities(&self) -> Vec<Json> {
        let text = fs::read_to_string(self.directory.path().join("started.json"));
        serde_json::from_str(&text.expect("the file")).expect("JSON")
    }

    /// A router of a network, and the port and cost of its neighbour.
    pub(crate) fn interior(id: &str, neighbour: Option<(u16, u32)>) -> Self {
        let (port, inter_router) = (free_port(), free_port());
        let mut entities = vec![
            json!(["router", {"mode": "interior", "id": id}]),
            json!(["listener", {"name": "normal", "host": "127.0.0.1", "port": port.to_string()}]),
            json!(["listener", {
                "name": "routers", "host": "127.0.0.1", "port": inter_router.to_string(),
                "role": "inter-router", "saslMechanisms": "ANONYMOUS",
            }]),
        ];
        if let Some((port, cost)) = neighbour {
            entities.push(json!(["connector", {
                "name": "neighbour", "host": "127.0.0.1", "port": port.to_string(),
                "role": "inter-router", "cost": cost,
            }]));
        }
        Self::run(&entities, port, inter_router)
    }

    pub(crate) fn run(entities: &[Json], port: u16, inter_router: u16) -> Self {
        Self::run_with(entities, port, inter_router, |command, file| {
            command.arg("-c").arg(file);
        })
    }

    /// As in a container of skupper-router, whose host has this name.
    pub(crate) fn in_container(host: &str, entities: &[Json], port: u16) -> Self {
        Self::run_with(entities, port, 0, |command, file| {
            command.env("QDROUTERD_CONF", file).env("HOSTNAME", host);
        })
    }

    fn run_with(
        entities: &[Json],
        port: u16,
        inter_router: u16,
        configure: impl FnOnce(&mut Command, &Path),
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("router.json");
        fs::write(&file, Json::from(entities).to_string()).expect("a file");
        let kept = directory.path().join("started.json");
        fs::copy(&file, kept).expect("a copy");
        let mut command = Command::new(env!("CARGO_BIN_EXE_router-daemon"));
        configure(&mut command, &file);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("the daemon starts");
        let router = Self {
            process,
            port,
            inter_router,
            directory,
        };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the router does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        router
    }

    /// Writes the configuration file anew; the router does not know of it yet.
    pub(crate) fn configure(&self, entities: &[Json]) {
        let file = self.directory.path().join("router.json");
        fs::write(file, Json::from(entities).to_string()).expect("a file");
    }

    pub(crate) fn bus(&self) -> String {
        format!("amqp://127.0.0.1:{}", self.port)
    }

    pub(crate) fn try_it(&self, arguments: &[&str]) -> Output {
        let bus = self.bus();
        routerctl(&[&["--bus", bus.as_str()], arguments].concat(), "")
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        let bus = self.bus();
        command(&[&["--bus", bus.as_str()], arguments].concat())
            .spawn()
            .expect("routerctl starts")
    }

    /// What a command prints that succeeds.
    #[track_caller]
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.try_it(arguments);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
        text(&output.stdout)
    }

    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Json {
        let output = self.done(&[arguments, &["--json"]].concat());
        serde_json::from_str(&output).expect("a document")
    }

    /// What a command says that fails, which has to have a code and a hint.
    #[track_caller]
    pub(crate) fn fails(&self, arguments: &[&str], code: i32, hint: &str) -> String {
        let output = self.try_it(arguments);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(hint), "{arguments:?}: {errors}");
        errors
    }

    /// Repeats a command until it succeeds.
    #[track_caller]
    pub(crate) fn until(&self, arguments: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.try_it(arguments);
            if output.status.success() {
                return;
            }
            let errors = text(&output.stderr);
            assert!(Instant::now() < deadline, "{arguments:?}: {errors}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn routerctl(arguments: &[&str], input: &str) -> Output {
    let mut child = command(arguments).spawn().expect("routerctl starts");
    // A command that reads nothing may be gone already.
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_routerctl"));
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub(crate) fn add_user(file: &str, name: &str, password: &str) {
    add_user_of(&[], file, name, password);
}

pub(crate) fn add_user_of(more: &[&str], file: &str, name: &str, password: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_router-daemon"));
    command
        .args(["user", "add", "--file", file, name])
        .args(more)
        .stdin(Stdio::piped());
    let mut process = command.spawn().expect("the daemon starts");
    let mut stdin = process.stdin.take().expect("stdin is piped");
    stdin.write_all(password.as_bytes()).expect("it reads");
    drop(stdin);
    assert!(process.wait().expect("it ends").success());
}

pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Not of those that connections are given: somebody's would have it before it is listened on.
    let from = std::process::id() as u16 % SPAN;
    for _ in 0..SPAN {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + from.wrapping_add(next) % SPAN;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The ports that tests listen on.
const FIRST: u16 = 12_000;
const SPAN: u16 = 20_000;
