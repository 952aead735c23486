//! The protocol trace of a connection, in the log.

use std::io::IoSlice;

use tracing::{Level, debug, enabled, info};

use crate::endpoint::Trace;

/// Writes what goes over one connection to the log's module `PROTOCOL`.
#[derive(Debug)]
pub(crate) struct SocketTrace {
    /// As management knows the connection.
    id: u64,
    trace: Trace,
    /// Somebody wants to see this very connection, so the level info will do; else it is debug.
    wanted: bool,
}

impl SocketTrace {
    /// For a new connection, if the module's level asks for it.
    pub(crate) fn of_new(id: u64) -> Option<Box<Self>> {
        enabled!(target: "PROTOCOL", Level::DEBUG).then(|| {
            Box::new(Self {
                id,
                trace: Trace::default(),
                wanted: false,
            })
        })
    }

    /// For a connection that somebody wants to see from now on.
    pub(crate) fn of_wanted(id: u64, trace: Trace) -> Box<Self> {
        Box::new(Self {
            id,
            trace,
            wanted: true,
        })
    }

    pub(crate) fn received(&mut self, octets: &[u8]) {
        let (id, wanted) = (self.id, self.wanted);
        self.trace
            .received(octets, &mut |line| say(id, wanted, line));
    }

    /// The first `count` octets of `slices` have been written.
    pub(crate) fn sent(&mut self, slices: &[IoSlice<'_>], mut count: usize) {
        let (id, wanted) = (self.id, self.wanted);
        for slice in slices {
            let octets = &slice[..count.min(slice.len())];
            count -= octets.len();
            self.trace.sent(octets, &mut |line| say(id, wanted, line));
        }
    }

    /// The peer sends nothing more.
    pub(crate) fn peer_ended(&self) {
        say(self.id, self.wanted, "  <- EOS");
    }

    /// Nothing more is sent.
    pub(crate) fn ended(&self) {
        say(self.id, self.wanted, "  -> EOS");
    }
}

fn say(id: u64, wanted: bool, line: &str) {
    match wanted {
        true => info!(target: "PROTOCOL", conn = id, ":FRAME: {line}"),
        false => debug!(target: "PROTOCOL", conn = id, ":FRAME: {line}"),
    }
}
