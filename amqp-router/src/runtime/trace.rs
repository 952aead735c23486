//! What goes over a connection, in the log: the protocol trace, and messages.

use std::io::IoSlice;

use tracing::{Level, debug, enabled, info};

use crate::adaptors::components::Components;
use crate::endpoint::Trace;
use crate::runtime::messages::MessageLog;

/// Writes what goes over one connection to the log. There is none for connections of which nobody
/// wants to see anything.
#[derive(Debug)]
pub(crate) struct SocketTrace {
    /// As management knows the connection.
    id: u64,
    frames: Option<FrameLog>,
    messages: Option<MessageLog>,
}

/// What the log's module `PROTOCOL` is told.
#[derive(Debug)]
struct FrameLog {
    trace: Trace,
    /// Somebody wants to see this very connection, so the level info will do; else it is debug.
    wanted: bool,
}

impl SocketTrace {
    /// For a new connection: its frames if the module's level asks for them, and its messages if
    /// these components of them are to be seen.
    pub(crate) fn of_new(id: u64, components: Components) -> Option<Box<Self>> {
        let frames = enabled!(target: "PROTOCOL", Level::DEBUG).then(|| FrameLog {
            trace: Trace::default(),
            wanted: false,
        });
        Self::of(id, frames, MessageLog::new(components))
    }

    /// Somebody wants to see the frames of the connection from now on, or no longer.
    pub(crate) fn change(traced: &mut Option<Box<Self>>, id: u64, trace: Option<Trace>) {
        let messages = traced.take().and_then(|traced| traced.messages);
        let frames = trace.map(|trace| FrameLog {
            trace,
            wanted: true,
        });
        *traced = Self::of(id, frames, messages);
    }

    fn of(id: u64, frames: Option<FrameLog>, messages: Option<MessageLog>) -> Option<Box<Self>> {
        let something = frames.is_some() || messages.is_some();
        something.then(|| {
            Box::new(Self {
                id,
                frames,
                messages,
            })
        })
    }

    pub(crate) fn received(&mut self, octets: &[u8]) {
        let id = self.id;
        if let Some(FrameLog { trace, wanted }) = &mut self.frames {
            trace.received(octets, &mut |line| say(id, *wanted, line));
        }
        if let Some(messages) = &mut self.messages {
            messages.received(id, octets);
        }
    }

    /// The first `count` octets of `slices` have been written.
    pub(crate) fn sent(&mut self, slices: &[IoSlice<'_>], mut count: usize) {
        let id = self.id;
        for slice in slices {
            let octets = &slice[..count.min(slice.len())];
            count -= octets.len();
            if let Some(FrameLog { trace, wanted }) = &mut self.frames {
                trace.sent(octets, &mut |line| say(id, *wanted, line));
            }
            if let Some(messages) = &mut self.messages {
                messages.sent(id, octets);
            }
        }
    }

    /// The peer sends nothing more.
    pub(crate) fn peer_ended(&self) {
        if let Some(frames) = &self.frames {
            say(self.id, frames.wanted, "  <- EOS");
        }
    }

    /// Nothing more is sent.
    pub(crate) fn ended(&self) {
        if let Some(frames) = &self.frames {
            say(self.id, frames.wanted, "  -> EOS");
        }
    }
}

fn say(id: u64, wanted: bool, line: &str) {
    match wanted {
        true => info!(target: "PROTOCOL", conn = id, ":FRAME: {line}"),
        false => debug!(target: "PROTOCOL", conn = id, ":FRAME: {line}"),
    }
}
