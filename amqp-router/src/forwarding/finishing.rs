//! Links that are given up when what is on its way by them has arrived.
//!
//! A link that another takes the place of, while neither sender nor receiver has changed, is not
//! simply detached: that would give its unsettled deliveries an outcome that nobody has decided on
//! (AMQP 2.6.13). An incoming one lets its sender send all that waits there and spend what credit
//! is left (2.6.7); then both kinds wait until everything is settled, as long as their connection
//! lasts.

use crate::control::table::{Direction, Slot};
use crate::forwarding::Forwarder;
use crate::forwarding::wire::{Terminal, Wire};

/// A link that is to go.
#[derive(Debug)]
pub(super) struct Finishing {
    direction: Direction,
    slot: Slot,
}

impl Forwarder {
    /// Has a link go when nothing is on its way by it. Nobody may give it anything any more.
    pub(crate) fn finish<W: Wire>(&mut self, wire: &mut W, direction: Direction, slot: Slot) {
        if direction == Direction::Incoming
            && let Some(incoming) = self.incoming.get_mut(slot)
        {
            incoming.ending = Some(false);
            wire.set_credit(incoming.terminal, ALL);
            wire.drain(incoming.terminal);
        }
        self.finishing.push(Finishing { direction, slot });
    }

    /// Closes those links by which nothing is on its way any more. To be called now and then.
    pub(super) fn close_finished<W: Wire>(&mut self, wire: &mut W) {
        let mut finishing = std::mem::take(&mut self.finishing);
        finishing.retain(|link| {
            let Some((terminal, idle)) = self.progress(link) else {
                return false;
            };
            if idle {
                wire.close(terminal);
            }
            !idle
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

/// Credit for all that can wait for a link at another router.
const ALL: u32 = 1 << 20;
