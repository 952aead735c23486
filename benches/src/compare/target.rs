//! The routers to compare: those that run already, and those to be started.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::clock;
use crate::error::Error;

/// A running router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name in the table.
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// Its process.
    pub pid: Option<u32>,
}

impl Target {
    /// Reads `name=host:port@pid` or `name=host:port`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, place) = text.split_once('=').ok_or("expected name=host:port@pid")?;
        let (address, pid) = match place.rsplit_once('@') {
            Some((address, pid)) => (
                address,
                Some(pid.parse().map_err(|_| "the pid is no number")?),
            ),
            None => (place, None),
        };
        if name.is_empty() || !address.contains(':') {
            return Err("expected name=host:port@pid".into());
        }
        Ok(Target {
            name: name.into(),
            address: address.into(),
            pid,
        })
    }
}

/// A router to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Its name in the table.
    pub name: String,
    /// A shell command in which `{port}` stands for the port to listen on.
    pub command: String,
}

impl Launch {
    /// Reads `name=command with {port}`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, command) = text
            .split_once('=')
            .ok_or("expected name=command with {port}")?;
        if name.is_empty() || !command.contains("{port}") {
            return Err("expected name=command with {port}".into());
        }
        Ok(Launch {
            name: name.into(),
            command: command.into(),
        })
    }

    /// Starts it on a free port and waits until it listens there, for `time_out` seconds at most.
    pub(super) fn start(&self, time_out: f64) -> Result<Launched, Error> {
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let command = self.shell_command(free.port());
        let child = Command::new("sh")
            .args(["-c", &command])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pid = Some(child.id());
        let target = Target {
            name: self.name.clone(),
            address: free.to_string(),
            pid,
        };
        let mut launched = Launched { target, child };
        let deadline = clock::now() + Duration::from_secs_f64(time_out);
        while TcpStream::connect_timeout(&free, CONNECT_TIME_OUT).is_err() {
            if let Some(status) = launched.child.try_wait()? {
                return Err(Error::Usage(format!(
                    "{} ended at once: {status}",
                    self.name
                )));
            }
            if clock::now() > deadline {
                return Err(Error::Usage(format!(
                    "{} does not listen on {free}",
                    self.name
                )));
            }
            std::thread::sleep(NAP);
        }
        Ok(launched)
    }

    /// A command of one part becomes the shell's own process.
    fn shell_command(&self, port: u16) -> String {
        let command = self.command.replace("{port}", &port.to_string());
        match command.contains([';', '&', '|', '\n']) {
            true => command,
            false => format!("exec {command}"),
        }
    }
}

/// A router that was started here; it is killed when dropped.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) target: Target,
    child: Child,
}

impl Drop for Launched {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const CONNECT_TIME_OUT: Duration = Duration::from_secs(1);
const NAP: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_may_tell_their_process() {
        let target = Target::parse("a=localhost:5672@42").unwrap();
        assert_eq!(
            target,
            Target {
                name: "a".into(),
                address: "localhost:5672".into(),
                pid: Some(42)
            }
        );
        assert_eq!(Target::parse("a=localhost:5672").unwrap().pid, None);
        for wrong in ["a", "=h:1", "a=h", "a=h:1@x"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn single_commands_replace_their_shell() {
        let launch = Launch::parse("r=router --port={port} -v").unwrap();
        assert_eq!(launch.shell_command(7), "exec router --port=7 -v");
        let script = Launch::parse("r=make-config {port} > f && exec router -c f").unwrap();
        assert_eq!(
            script.shell_command(7),
            "make-config 7 > f && exec router -c f"
        );
        assert!(Launch::parse("r=router").is_err());
    }

    #[test]
    fn a_router_that_ends_at_once_is_reported() {
        let error = Launch::parse("r=false {port}")
            .unwrap()
            .start(5.0)
            .unwrap_err();
        assert!(error.to_string().contains("ended at once"), "{error}");
    }
}
