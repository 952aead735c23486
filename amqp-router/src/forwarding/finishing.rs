//! Links that are given up when what is on its way by them has arrived.
//!
//! A link that another takes the place of, while neither sender nor receiver has changed, is not
//! simply detached: that would give its unsettled deliveries an outcome that nobody has decided on
//! (AMQP 2.6.13). An incoming one lets its sender send all that waits there and spend what credit
//! is left (2.6.7); then both kinds wait until everything is settled.

use std::time::{Duration, Instant};

use crate::control::table::{Direction, Slot};
use crate::forwarding::Forwarder;
use crate::forwarding::wire::{Terminal, Wire};

/// A link that is to go.
#[derive(Debug)]
pub(super) struct Finishing {
    direction: Direction,
    slot: Slot,
    /// When it goes whatever is on its way.
    until: Instant,
}

impl Forwarder {
    /// Has a link go as soon as nothing is on its way by it. Nobody must be sending by it any more.
    pub(crate) fn finish<W: Wire>(
        &mut self,
        wire: &mut W,
        direction: Direction,
        slot: Slot,
        now: Instant,
    ) {
        if direction == Direction::Incoming
            && let Some(incoming) = self.incoming.get_mut(slot)
        {
            incoming.ending = Some(false);
            // More than can wait for it at a router of this capacity.
            let all = incoming.capacity.saturating_mul(4);
            wire.set_credit(incoming.terminal, all);
            wire.drain(incoming.terminal);
        }
        self.finishing.push(Finishing {
            direction,
            slot,
            until: now + FINISH_MAX,
        });
    }

    /// Closes those links by which nothing is on its way any more.
    pub(super) fn close_finished<W: Wire>(&mut self, wire: &mut W, now: Instant) {
        let mut finishing = std::mem::take(&mut self.finishing);
        finishing.retain(|link| {
            let Some((terminal, idle)) = self.progress(link) else {
                return false;
            };
            let over = idle || link.until <= now;
            if over {
                wire.close(terminal);
            }
            !over
        });
        self.finishing = finishing;
    }

    /// Where a link ends, if it is still there, and whether anything is on its way by it.
    fn progress(&self, link: &Finishing) -> Option<(Terminal, bool)> {
        match link.direction {
            Direction::Incoming => {
                let incoming = self.incoming.get(link.slot)?;
                let idle = incoming.ending == Some(true)
                    && incoming.held == 0
                    && incoming.current.is_none()
                    && incoming.deliveries.is_empty();
                Some((incoming.terminal, idle))
            }
            Direction::Outgoing => {
                let outgoing = self.outgoing.get(link.slot)?;
                let idle = outgoing.unsettled == 0
                    && outgoing.queue.is_empty()
                    && outgoing.held.is_empty();
                Some((outgoing.terminal, idle))
            }
        }
    }
}

/// How long a link is waited for.
const FINISH_MAX: Duration = Duration::from_secs(60);
