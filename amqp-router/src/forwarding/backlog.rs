//! What waits on a worker's links, counted when somebody asks: nothing is kept for it on the way of
//! a delivery.

use std::collections::HashMap;
use std::time::Instant;

use crate::forwarding::Forwarder;
use crate::forwarding::links::Outgoing;
use crate::forwarding::stats::{Backlog, STUCK_AFTER};
use crate::forwarding::wire::{Terminal, Wire};

impl Forwarder {
    /// What waits on the links of connections that `counts` holds for.
    pub(crate) fn backlog(&self, now: Instant, counts: impl Fn(u32) -> bool) -> Backlog {
        let mut backlog = Backlog::default();
        let counted = |at: Terminal| counts(at.connection);
        for (_, incoming) in self.incoming.iter() {
            if counted(incoming.terminal) {
                let dry = incoming.dry_since;
                let is_blocked = dry.is_some_and(|since| since + STUCK_AFTER <= now);
                backlog.unsettled += u64::from(incoming.held);
                backlog.blocked_in += u64::from(is_blocked);
            }
        }
        let stuck = self.stuck(now);
        for (link, outgoing) in self.outgoing.iter() {
            if counted(outgoing.terminal) {
                let is_blocked = u64::from(outgoing.dry_ticks) >= STUCK_AFTER.as_secs();
                backlog.undelivered += outgoing.queue.len() as u64;
                backlog.blocked_out += u64::from(is_blocked);
                backlog.stuck += stuck.get(&link).copied().map_or(0, u64::from);
            }
        }
        backlog
    }

    /// How many deliveries of each outgoing link have been here for [`STUCK_AFTER`]. Streams take
    /// the time they take.
    pub(super) fn stuck(&self, now: Instant) -> HashMap<u32, u32> {
        let mut stuck = HashMap::new();
        for (_, outbound) in self.outbound.iter() {
            let envelope = &outbound.envelope;
            if !envelope.is_stream && envelope.arrived + STUCK_AFTER <= now {
                *stuck.entry(outbound.link).or_default() += 1;
            }
        }
        stuck
    }
}

impl Outgoing {
    /// To be called once a second: whether its receiver has given credit by now.
    pub(super) fn follow_credit<W: Wire>(&mut self, wire: &W) {
        self.dry_ticks = match wire.allowance(self.terminal).credit {
            0 => self.dry_ticks.saturating_add(1),
            _ => 0,
        };
    }
}
