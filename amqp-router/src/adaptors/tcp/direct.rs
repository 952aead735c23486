//! Octets that go from socket to socket without having been here.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Stage, TcpConnection};
use crate::observers::Speaker;

impl TcpConnection {
    /// How many octets of what the socket sends next may leave without having been here: nobody
    /// looks at them, and none that came before waits.
    pub(crate) fn may_send_directly(&self) -> u64 {
        let flows = !self.is_unanswered() && self.source.waiting == 0 && self.stage == Stage::Open;
        match &self.observed {
            _ if !flows => 0,
            Some(observed) => observed.unseen(Speaker::Client),
            None => u64::MAX,
        }
    }

    /// How many octets the socket may be given next that have not been here.
    pub(crate) fn may_take_directly(&self) -> u64 {
        let sink = &self.sink;
        let begun = sink.octets > 0 && self.since.is_none();
        let ends = sink.complete || sink.aborted || sink.shut;
        let flows = begun && !ends && self.out.is_empty() && self.stage == Stage::Open;
        match &self.observed {
            _ if !flows => 0,
            Some(observed) => observed.unseen(Speaker::Service),
            None => u64::MAX,
        }
    }

    /// Octets have left the socket for another one without having been here.
    pub(crate) fn sent_directly(&mut self, octets: u64, now: Instant) {
        if let Some(observed) = &mut self.observed {
            observed.skip(Speaker::Client, octets, now);
        }
        let source = &mut self.source;
        source.octets += octets;
        if let Some(acknowledged) = source.acknowledged {
            source.window.sent(source.octets, acknowledged, now);
        }
        if let Some(service) = &self.service {
            let counted = &service.counts.octets_in;
            counted.fetch_add(octets, Ordering::Relaxed);
        }
    }

    /// The socket has been given octets that have not been here.
    pub(crate) fn took_directly(&mut self, octets: u64, now: Instant) {
        if let Some(observed) = &mut self.observed {
            observed.skip(Speaker::Service, octets, now);
        }
        self.sink.octets += octets;
        if let Some(service) = &self.service {
            let counted = &service.counts.octets_out;
            counted.fetch_add(octets, Ordering::Relaxed);
        }
    }
}
