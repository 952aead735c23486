//! A RabbitMQ of its own for a test: a broker that we did not write.

use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::router::skip;
use crate::services::free_port;

/// A broker whose user `guest` has the password `guest`; `/queue/NAME` is a queue, which is made when
/// somebody attaches to it. Dropping it stops it.
#[derive(Debug)]
pub struct RabbitMq {
    pub port: u16,
    /// The broker, and the process that Erlang's nodes find each other by.
    processes: [Child; 2],
    _directory: TempDir,
}

impl RabbitMq {
    /// Starts it with its plugin for AMQP 1.0, if it is installed; if not, says so loudly, or panics
    /// when `INTEROP_REQUIRE_ALL` is set.
    ///
    /// # Panics
    ///
    /// When it does not start, with the end of what it says.
    #[track_caller]
    pub fn start() -> Option<Self> {
        if !Path::new(SERVER).exists() {
            skip("RabbitMQ (rabbitmq-server) is not installed");
            return None;
        }
        let directory = TempDir::new().expect("a temporary directory");
        let at = |name: &str| directory.path().join(name);
        let [port, between, names] = [free_port(), free_port(), free_port()];
        fs::write(at("plugins"), "[rabbitmq_amqp1_0].").expect("a temporary file");
        let configuration = format!("listeners.tcp.default = 127.0.0.1:{port}\n");
        fs::write(at("rabbit.conf"), configuration).expect("a temporary file");
        let output = fs::File::create(at("output")).expect("a temporary file");
        let epmd = Command::new("epmd")
            .args(["-address", "127.0.0.1", "-port", &names.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it comes with Erlang");
        let broker = Command::new(SERVER)
            .env("HOME", directory.path())
            .env("ERL_EPMD_PORT", names.to_string())
            .env("RABBITMQ_NODENAME", format!("interop{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", between.to_string())
            .env("RABBITMQ_MNESIA_BASE", at("mnesia"))
            .env("RABBITMQ_LOG_BASE", at("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
            .env("RABBITMQ_CONFIG_FILE", at("rabbit"))
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file handle"))
            .stderr(output)
            .process_group(0)
            .spawn()
            .expect("it is installed");
        let output = at("output");
        let mut started = Self {
            port,
            processes: [broker, epmd],
            _directory: directory,
        };
        let deadline = Instant::now() + LIMIT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = started.processes[0].try_wait().expect("it was started");
            if ended.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(&output).unwrap_or_default();
                panic!("RabbitMQ does not start ({ended:?}):\n{said}");
            }
            thread::sleep(Duration::from_millis(100));
        }
        Some(started)
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        // The server is a script, and Erlang below it.
        let group = format!("-{}", self.processes[0].id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// As Debian installs it. (What is in the path changes to a user of its own first.)
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// It takes some seconds.
const LIMIT: Duration = Duration::from_secs(60);
