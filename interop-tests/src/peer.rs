//! The clients, by the library they are built on.

use crate::{
    fe2o3,
    install::{self, Installed},
    job::{BROKER, COLLECT, Job},
    router::{Router, skip},
    running::{Event, Running, Worker},
};
use serde_json::json;
use std::{
    fmt,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{ChildStdout, Command, Stdio},
    sync::mpsc::{self, Sender},
    thread,
    time::Instant,
};

/// An AMQP client that is not ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// Qpid Proton for Python, 0.40.
    Proton,
    /// rhea, 3.0.
    Rhea,
    /// fe2o3-amqp, 0.18.4, in this process.
    Fe2o3,
}

pub const PEERS: [Peer; 3] = [Peer::Proton, Peer::Rhea, Peer::Fe2o3];

impl Peer {
    /// Starts the client against the router's first listener, unless the job names a port.
    pub fn start(self, router: &Router, mut job: Job) -> Running {
        let listener = router.listener();
        if job.tls.is_none() {
            job.host.clone_from(&listener.host);
        }
        job.port = listener.port;
        self.run(job)
    }

    /// Starts the client against one of the router's listeners.
    pub fn start_at(self, router: &Router, listener: &str, mut job: Job) -> Running {
        job.port = router.port(listener);
        self.run(job)
    }

    fn run(self, job: Job) -> Running {
        let deadline = Instant::now() + job.time_limit;
        let title = format!(
            "{self} ({} {})",
            job.operation,
            job.address.as_deref().unwrap_or("-")
        );
        let (report, events) = mpsc::channel();
        let worker = match self {
            Self::Fe2o3 => fe2o3::spawn(job, report),
            Self::Proton | Self::Rhea => spawn_process(self.command(&job), &job, report),
        };
        Running {
            title,
            events,
            seen: Vec::new(),
            deadline,
            worker,
        }
    }

    fn command(self, job: &Job) -> Command {
        let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
        match install::installed(self) {
            Installed::Python { python } => {
                let script = match job.operation {
                    COLLECT => "python/collector.py",
                    BROKER => "python/broker.py",
                    _ => "python/client.py",
                };
                let mut command = Command::new(python);
                command.arg(clients.join(script));
                command
            }
            Installed::Node { modules } => {
                let mut command = Command::new("node");
                command
                    .arg(clients.join("node/client.js"))
                    .env("NODE_PATH", modules);
                command
            }
            Installed::InProcess => unreachable!("fe2o3 needs no command"),
            Installed::Missing(why) => panic!("{self} is not available: {why}"),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Whether all these peers can run here. If not, says so loudly, or panics when
/// `INTEROP_REQUIRE_ALL` is set.
#[track_caller]
pub fn available(peers: &[Peer]) -> bool {
    peers.iter().all(|peer| match install::installed(*peer) {
        Installed::Missing(why) => {
            skip(&format!("{peer} is not available: {why}"));
            false
        }
        _ => true,
    })
}

fn spawn_process(mut command: Command, job: &Job, report: Sender<Event>) -> Worker {
    let argument = serde_json::to_string(job).expect("a job is plain data");
    command
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let complaints = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    thread::spawn(move || {
        forward_lines(stdout, &report);
        let text = complaints.join().unwrap_or_default();
        if !text.trim().is_empty() {
            let _ = report.send(json!({"event": "stderr", "text": text}));
        }
    });
    Worker::Process(child)
}

fn forward_lines(stdout: ChildStdout, report: &Sender<Event>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let event =
            serde_json::from_str(&line).unwrap_or_else(|_| json!({"event": "noise", "text": line}));
        if report.send(event).is_err() {
            return;
        }
    }
}
