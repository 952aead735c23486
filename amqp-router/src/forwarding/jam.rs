//! Sessions that would wait for themselves for ever.
//!
//! A delivery that is being sent while it still arrives keeps its outgoing link to itself
//! (AMQP 2.6.14). What arrived in the same session meanwhile and waits behind it holds places in
//! the session's incoming window; when it holds all of them the rest of the first delivery cannot
//! come in, and nothing ever moves. The way out is to give back what waits, which a router may do
//! at any time.

use std::collections::HashSet;
use std::time::Instant;

use crate::codec::DeliveryState;
use crate::forwarding::Forwarder;
use crate::forwarding::delivery::Origin;
use crate::forwarding::wire::Wire;

impl Forwarder {
    /// Gives back deliveries of sessions whose window has been shut for a whole tick while one of
    /// their deliveries, already on its way out, waits for its next frame. The youngest go, until
    /// half of what holds the window is free; multicasts stay, slow as their slowest receiver.
    pub(super) fn clear_jams<W: Wire>(&mut self, wire: &mut W, now: Instant) {
        let starving: Vec<u32> = self
            .incoming
            .iter()
            .filter(|(_, incoming)| incoming.current.is_some_and(|of| self.is_starving(of)))
            .filter(|(_, incoming)| wire.window_left(incoming.terminal) == 0)
            .map(|(link, _)| link)
            .collect();
        let before = std::mem::take(&mut self.starving);
        let jammed: HashSet<(u32, u16)> = starving
            .iter()
            .filter(|link| before.contains(link))
            .map(|link| {
                let terminal = self.incoming[*link].terminal;
                (terminal.connection, terminal.session)
            })
            .collect();
        self.starving = starving;
        for session in jammed {
            self.clear_jam(wire, now, session);
        }
    }

    /// Whether a delivery has begun to leave and has nothing more to send until more arrives.
    fn is_starving(&self, delivery: u32) -> bool {
        self.inbound[delivery].copies.iter().any(|copied| {
            copied
                .outbound
                .and_then(|outbound| self.outbound.get(outbound))
                .is_some_and(|outbound| outbound.number.is_some() && outbound.body.is_empty())
        })
    }

    fn clear_jam<W: Wire>(&mut self, wire: &mut W, now: Instant, session: (u32, u16)) {
        // Presettled deliveries that are whole have no incoming half: they are found by their link.
        let mut waiting: Vec<(Instant, u32, u32)> = Vec::new();
        let mut held = 0;
        for (delivery, outbound) in self.outbound.iter() {
            let link = match outbound.origin {
                Origin::Link(link) => Some(link.index),
                // One copy of a multicast is not given back: the outcome of the others would hide it.
                Origin::Branch(branch) => self
                    .inbound
                    .get(branch.delivery)
                    .filter(|inbound| inbound.multicast.is_none())
                    .map(|inbound| inbound.link),
                Origin::Gone => None,
            };
            let Some(terminal) = link
                .filter(|link| self.incoming.contains(*link))
                .map(|link| self.incoming[link].terminal)
            else {
                continue;
            };
            if (terminal.connection, terminal.session) == session {
                held += outbound.body.chunks();
                if outbound.number.is_none() && !outbound.aborted && !outbound.held {
                    waiting.push((outbound.envelope.arrived, delivery, outbound.body.chunks()));
                }
            }
        }
        waiting.sort_unstable_by(|a, b| b.cmp(a));
        let mut free = 0;
        for (_, delivery, frames) in waiting {
            if free * 2 >= held {
                return;
            }
            free += frames;
            self.unqueue(delivery);
            self.give_up(wire, now, delivery, DeliveryState::Released);
        }
    }

    /// Takes a delivery that has not begun to leave out of its link's queue.
    pub(super) fn unqueue(&mut self, delivery: u32) {
        let queue = &mut self.outgoing[self.outbound[delivery].link].queue;
        if let Some(at) = queue.iter().rposition(|&queued| queued == delivery) {
            queue.remove(at);
        }
        let link = self.outbound[delivery].link;
        self.free_stream(link);
    }
}
