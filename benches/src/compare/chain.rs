//! Routers in a line: senders at one end, receivers at the other, all traffic across every one.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use super::target::{Launched, Process, Target, free_address};
use crate::error::Error;

/// Interior routers to be started, each connected to the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name in the table.
    pub name: String,
    /// How many routers.
    pub length: usize,
    /// Their program, which takes `-c FILE`.
    pub daemon: String,
}

impl Chain {
    /// Reads `name=length*daemon`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = "expected name=length*daemon";
        let (name, rest) = text.split_once('=').ok_or(wrong)?;
        let (length, daemon) = rest.split_once('*').ok_or(wrong)?;
        let length = length.parse().map_err(|_| wrong)?;
        if name.is_empty() || daemon.is_empty() {
            return Err(wrong.into());
        }
        if !(1..=MAX_LENGTH).contains(&length) {
            return Err(format!("a chain has 1 to {MAX_LENGTH} routers"));
        }
        Ok(Chain {
            name: name.into(),
            length,
            daemon: daemon.into(),
        })
    }

    /// Starts it and waits until each router listens, for `time_out` seconds at most. That they know
    /// of each other is not waited for: senders have no credit before.
    pub(super) fn start(&self, time_out: f64) -> Result<Launched, Error> {
        let directory = tempfile::tempdir()?;
        let (mut ends, mut processes) = (Vec::new(), Vec::new());
        let mut before = None;
        for index in 0..self.length {
            let (clients, routers) = (free_address()?, free_address()?);
            let file = directory.path().join(format!("{index}.conf"));
            fs::write(&file, configuration(index, clients, routers, before))?;
            let mut process = Process::start(Command::new(&self.daemon).arg("-c").arg(&file))?;
            process.listens(&self.name, clients, time_out)?;
            process.listens(&self.name, routers, time_out)?;
            processes.push(process);
            ends.push(clients);
            before = Some(routers);
        }
        let target = Target {
            name: self.name.clone(),
            address: ends[0].to_string(),
            receivers: ends.last().map(SocketAddr::to_string),
            pids: processes.iter().map(Process::id).collect(),
        };
        Ok(Launched {
            target,
            _processes: processes,
        })
    }
}

fn configuration(
    index: usize,
    clients: SocketAddr,
    routers: SocketAddr,
    before: Option<SocketAddr>,
) -> String {
    let entity = |kind: &str, attributes: &str, at: SocketAddr| {
        let (host, port) = (at.ip(), at.port());
        format!(
            "{kind} {{\n host: {host}\n port: {port}\n saslMechanisms: ANONYMOUS\n{attributes}}}\n"
        )
    };
    let mut text = format!("router {{\n mode: interior\n id: chain-{index}\n}}\n");
    text += &entity("listener", " authenticatePeer: no\n", clients);
    text += &entity("listener", " role: inter-router\n", routers);
    if let Some(before) = before {
        text += &entity("connector", " role: inter-router\n", before);
    }
    text
}

const MAX_LENGTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_have_a_length_and_a_daemon() {
        let chain = Chain::parse("far=3*some/daemon").unwrap();
        assert_eq!((chain.length, chain.daemon.as_str()), (3, "some/daemon"));
        for wrong in [
            "far", "far=3", "=3*d", "far=3*", "far=x*d", "far=0*d", "far=17*d",
        ] {
            assert!(Chain::parse(wrong).is_err(), "{wrong}");
        }
    }
}
