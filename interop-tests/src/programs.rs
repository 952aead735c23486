//! Services that know nothing of AMQP, and their clients, in Node.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Peer;
use crate::install::{Installed, installed};

/// A program at work. Dropping it stops the program.
#[derive(Debug)]
pub struct Program(Child);

impl Program {
    /// Starts a service of a protocol that `clients/node/services.js` knows; gives its port, too.
    ///
    /// # Panics
    ///
    /// When it does not start. Ask whether [`Peer::Rhea`], who needs the same, is available.
    #[track_caller]
    pub fn serve(protocol: &str) -> (Self, u16) {
        let mut service = start(&["serve", protocol]);
        let stdout = service.0.stdout.take().expect("it is piped");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        read.expect("it says where it listens");
        let port = serde_json::from_str::<Value>(&line).ok();
        let port = port.and_then(|said| said["port"].as_u64());
        let port = port.and_then(|port| u16::try_from(port).ok());
        (service, port.expect("a port"))
    }

    /// Starts the client of a protocol.
    #[track_caller]
    pub fn ask(protocol: &str, port: u16, more: &[&str]) -> Self {
        let port = port.to_string();
        start(&[&["ask", protocol, &port], more].concat())
    }

    /// Waits until a client has seen that all is as it should be.
    ///
    /// # Panics
    ///
    /// When it is not, or takes too long.
    #[track_caller]
    pub fn succeed(mut self) {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.0.try_wait().expect("it was started") {
                assert!(status.success(), "the client says why, above: {status}");
                return;
            }
            assert!(Instant::now() < deadline, "the client takes too long");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn start(arguments: &[&str]) -> Program {
    let Installed::Node { modules } = installed(Peer::Rhea) else {
        panic!("Node is not available");
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/node/services.js");
    let program = Command::new("node")
        .arg(script)
        .args(arguments)
        .env("NODE_PATH", modules)
        .stdout(Stdio::piped())
        .spawn();
    Program(program.expect("Node starts"))
}

const LIMIT: Duration = Duration::from_secs(60);
