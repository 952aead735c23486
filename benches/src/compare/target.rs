//! The routers to compare: those that run already, and those to be started.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::clock;
use crate::error::Error;

/// A running router, or a network of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name in the table.
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// The `host:port` of the router that receivers attach to, if it is another one.
    pub receivers: Option<String>,
    /// Its processes.
    pub pids: Vec<u32>,
}

impl Target {
    /// Reads `name=host:port@pid`, `name=host:port` or `name=host:port>host:port@pid,pid`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = "expected name=host:port@pid";
        let (name, place) = text.split_once('=').ok_or(wrong)?;
        let (addresses, pids) = place.rsplit_once('@').unwrap_or((place, ""));
        let pids = pids.split(',').filter(|pid| !pid.is_empty());
        let pids: Result<Vec<u32>, _> = pids.map(str::parse).collect();
        let (address, receivers) = match addresses.split_once('>') {
            Some((address, receivers)) => (address, Some(receivers)),
            None => (addresses, None),
        };
        if name.is_empty() || !address.contains(':') || receivers.is_some_and(|r| !r.contains(':'))
        {
            return Err(wrong.into());
        }
        Ok(Target {
            name: name.into(),
            address: address.into(),
            receivers: receivers.map(Into::into),
            pids: pids.map_err(|_| "a pid is no number")?,
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
        let free = free_address()?;
        let mut command = Command::new("sh");
        command.args(["-c", &self.shell_command(free.port())]);
        let mut process = Process::start(&mut command)?;
        process.listens(&self.name, free, time_out)?;
        let target = Target {
            name: self.name.clone(),
            address: free.to_string(),
            receivers: None,
            pids: vec![process.id()],
        };
        Ok(Launched {
            target,
            _processes: vec![process],
        })
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

/// What was started here; it is killed when dropped.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) target: Target,
    pub(super) _processes: Vec<Process>,
}

/// A process that is killed when dropped.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    pub(super) fn start(command: &mut Command) -> Result<Self, Error> {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self(command.spawn()?))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until it listens, for `time_out` seconds at most.
    pub(super) fn listens(
        &mut self,
        name: &str,
        address: SocketAddr,
        time_out: f64,
    ) -> Result<(), Error> {
        let deadline = clock::now() + Duration::from_secs_f64(time_out);
        while TcpStream::connect_timeout(&address, CONNECT_TIME_OUT).is_err() {
            if let Some(status) = self.0.try_wait()? {
                return Err(Error::Usage(format!("{name} ended at once: {status}")));
            }
            if clock::now() > deadline {
                return Err(Error::Usage(format!("{name} does not listen on {address}")));
            }
            std::thread::sleep(NAP);
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One that nobody listens on now.
pub(super) fn free_address() -> Result<SocketAddr, Error> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
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
                receivers: None,
                pids: vec![42]
            }
        );
        assert!(Target::parse("a=localhost:5672").unwrap().pids.is_empty());
        let network = Target::parse("a=h:1>i:2@42,43").unwrap();
        assert_eq!(network.receivers.as_deref(), Some("i:2"));
        assert_eq!(network.pids, [42, 43]);
        for wrong in ["a", "=h:1", "a=h", "a=h:1@x", "a=h:1>i", "a=h:1@4,x"] {
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
