//! Links for messages that are not complete, to routers and to clients that take such links.
//!
//! A message keeps its link to itself until all of it has been sent (AMQP 2.6.14), so between
//! routers, where a link serves everybody, one that is still arriving must not use it. It gets a
//! link of its own, from those that are free or a new one
//! (`reference/router/inter-router-protocol.md` §2). What is likely to be complete in a moment
//! waits for that first, so that messages are not overtaken by their successors while a new link
//! has no credit.
//!
//! A client that offers `qd.streaming-links` gets the same: a receiver has streams of several
//! senders at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::codec::DeliveryState;
use crate::control::table::{Direction, Slot};
use crate::forwarding::Forwarder;
use crate::forwarding::delivery::Outbound;
use crate::forwarding::links::OutgoingTraits;
use crate::forwarding::wire::Wire;

/// The links of each connection that have nothing to do.
#[derive(Debug, Default)]
pub(super) struct Streams(HashMap<u32, Vec<u32>>);

impl Streams {
    pub(super) fn free(&mut self, connection: u32, link: u32) {
        self.0.entry(connection).or_default().push(link);
    }

    /// A link is gone.
    pub(super) fn forget(&mut self, connection: u32, link: u32) {
        if let Some(free) = self.0.get_mut(&connection) {
            free.retain(|&other| other != link);
        }
    }

    pub(super) fn close(&mut self, connection: u32) {
        self.0.remove(&connection);
    }

    /// Takes the free link that `wanted` is true of, the most recently used first.
    fn take(&mut self, connection: u32, wanted: impl Fn(u32) -> bool) -> Option<u32> {
        let free = self.0.get_mut(&connection)?;
        let at = free.iter().rposition(|&link| wanted(link))?;
        Some(free.remove(at))
    }

    /// Takes some of the free links that have been of no use for longest, where there are many.
    fn take_surplus(&mut self) -> Vec<u32> {
        let surplus = |free: &mut Vec<u32>| {
            let surplus = free.len().saturating_sub(FREE_MAX).min(CLOSED_AT_ONCE);
            free.drain(..surplus).collect::<Vec<_>>()
        };
        self.0.values_mut().flat_map(surplus).collect()
    }

    fn has(&self, connection: u32, wanted: impl Fn(u32) -> bool) -> bool {
        let free = self.0.get(&connection);
        free.is_some_and(|free| free.iter().any(|&link| wanted(link)))
    }
}

impl Forwarder {
    /// Takes a delivery for a router that is not complete, and that was to go by `link`.
    pub(super) fn enqueue_unfinished<W: Wire>(
        &mut self,
        wire: &mut W,
        link: u32,
        mut outbound: Outbound,
    ) -> Slot {
        let streaming = outbound.envelope.is_stream;
        let home = self.outgoing.slot(link);
        let outgoing = &self.outgoing[link];
        outbound.home = Some(home);
        // It counts where it is for, whichever link it leaves by.
        let load = &mut outbound.envelope.load;
        load.get_or_insert_with(|| Arc::clone(&outgoing.load));
        let slot = self.outbound.insert(outbound);
        let (connection, presettle) = (outgoing.terminal.connection, outgoing.presettle);
        // What waits for the link that it is for must not be overtaken.
        let is_next = outgoing.queue.is_empty() && outgoing.held.is_empty();
        let ready = (is_next || streaming).then(|| {
            self.streams.take(connection, |link| {
                let stream = &self.outgoing[link];
                stream.presettle == presettle && wire.allowance(stream.terminal).credit > 0
            })
        });
        match ready.flatten() {
            Some(stream) => {
                self.outgoing[stream].is_free = false;
                self.queue(stream, slot.index);
            }
            None if streaming => self.stream(wire, link, slot.index),
            None => {
                let fits = |link| self.outgoing[link].presettle == presettle;
                if !self.streams.has(connection, fits)
                    && let Some(stream) = self.open_stream(wire, link)
                {
                    self.free_stream(stream);
                }
                self.outbound[slot.index].held = true;
                self.outgoing[link].held.push(slot.index);
            }
        }
        slot
    }

    /// Makes a link available to another delivery if it has nothing to do: its last one is sent and
    /// settled. (A peer that is still at work on the last one may overlook the next: skrouterd does
    /// at times.)
    pub(super) fn free_stream(&mut self, link: u32) {
        let outgoing = &mut self.outgoing[link];
        let idle = outgoing.queue.is_empty() && outgoing.unsettled == 0;
        if outgoing.is_stream && !outgoing.is_free && idle {
            outgoing.is_free = true;
            self.streams.free(outgoing.terminal.connection, link);
        }
    }

    /// More has arrived of a delivery that is held.
    pub(super) fn review_held<W: Wire>(&mut self, wire: &mut W, delivery: u32) {
        let body = &self.outbound[delivery].body;
        let (complete, octets) = (body.is_complete(), body.octets());
        if complete || octets > HOLD_MAX {
            let link = self.outbound[delivery].link;
            self.let_go(delivery);
            if complete {
                self.outbound[delivery].home = None;
                self.queue(link, delivery);
            } else {
                self.stream(wire, link, delivery);
            }
        }
    }

    /// Gives deliveries links of their own that were to be complete in a moment and are not: their
    /// senders may wait for the windows of sessions, in which they hold places.
    pub(super) fn let_go_of_late<W: Wire>(&mut self, wire: &mut W, now: Instant) {
        let held = self
            .outgoing
            .iter()
            .flat_map(|(_, outgoing)| &outgoing.held);
        let is_late = |delivery: &&u32| {
            let arrived = self.outbound[**delivery].envelope.arrived;
            now.duration_since(arrived) >= HOLD_TIME
        };
        let late: Vec<u32> = held.filter(is_late).copied().collect();
        for delivery in late {
            let link = self.outbound[delivery].link;
            self.let_go(delivery);
            self.stream(wire, link, delivery);
        }
    }

    /// A delivery has become complete before it could begin to leave by a link of its own: it
    /// goes by the one that it was for, ahead of what comes after it.
    pub(super) fn bring_home(&mut self, delivery: u32) {
        let home = self.outbound[delivery].home.take();
        match home.filter(|home| self.outgoing.get(*home).is_some()) {
            Some(home) => {
                self.unqueue(delivery);
                self.queue(home.index, delivery);
            }
            None => {
                let outbound = &self.outbound[delivery];
                self.mark_ready(outbound.link, outbound.envelope.priority);
            }
        }
    }

    /// A delivery loses the link of its own that it was to have: it goes by the one that it was for,
    /// if that is there. True if so.
    pub(super) fn leaves_from_home(&mut self, delivery: u32) -> bool {
        let outbound = &mut self.outbound[delivery];
        let waits = outbound.number.is_none();
        let home = outbound.home.take().filter(|_| waits);
        let home = home.filter(|home| self.outgoing.get(*home).is_some());
        if let Some(home) = home {
            self.queue(home.index, delivery);
        }
        home.is_some()
    }

    /// No longer holds a delivery.
    pub(super) fn let_go(&mut self, delivery: u32) {
        let outbound = &mut self.outbound[delivery];
        outbound.held = false;
        let (link, priority) = (outbound.link, outbound.envelope.priority);
        self.outgoing[link].held.retain(|&other| other != delivery);
        // Its peer may wait to hear that there is nothing more.
        self.mark_ready(link, priority);
    }

    /// Closes links that nothing has used for a while. To be called now and then.
    pub(super) fn close_surplus_streams<W: Wire>(&mut self, wire: &mut W) {
        for link in self.streams.take_surplus() {
            wire.close(self.outgoing[link].terminal);
        }
    }

    /// Sends a delivery on a link of its own if one can be had, else on the one that it was for; a
    /// stream, which would keep that from others for as long as it likes, is given back if there
    /// are others.
    fn stream<W: Wire>(&mut self, wire: &mut W, link: u32, delivery: u32) {
        let outgoing = &self.outgoing[link];
        let (connection, presettle) = (outgoing.terminal.connection, outgoing.presettle);
        let is_shared = outgoing.to_router;
        let fits = |link| self.outgoing[link].presettle == presettle;
        let stream = self.streams.take(connection, fits);
        let stream = stream.or_else(|| self.open_stream(wire, link));
        if let Some(stream) = stream {
            self.outgoing[stream].is_free = false;
        }
        let envelope = &self.outbound[delivery].envelope;
        if stream.is_none() && is_shared && envelope.is_stream {
            let arrived = envelope.arrived;
            return self.give_up(wire, arrived, delivery, DeliveryState::Released);
        }
        self.queue(stream.unwrap_or(link), delivery);
    }

    /// Attaches a link beside another.
    fn open_stream<W: Wire>(&mut self, wire: &mut W, beside: u32) -> Option<u32> {
        let outgoing = &self.outgoing[beside];
        let traits = OutgoingTraits {
            capacity: outgoing.capacity,
            presettle: outgoing.presettle,
            to_router: outgoing.to_router,
            annotated: outgoing.annotated,
            diverts: false,
            is_stream: true,
            party: outgoing.party,
        };
        let terminal = wire.open_stream(outgoing.terminal, traits.presettle)?;
        let (slot, _) = self.add_outgoing(terminal, traits);
        wire.bind(terminal, Direction::Outgoing, slot);
        Some(slot.index)
    }
}

/// Links with nothing to do that one connection keeps.
const FREE_MAX: usize = 128;
/// How many are closed at a time.
const CLOSED_AT_ONCE: usize = 10;

/// Octets of an incomplete message that are held before it gets a link of its own.
const HOLD_MAX: usize = 256 * 1024;
/// How long at least.
const HOLD_TIME: Duration = Duration::from_secs(1);
