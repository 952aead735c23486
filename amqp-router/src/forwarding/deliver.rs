//! From an outgoing link's queue to its receiver.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::codec::{DeliveryState, DeliveryTag};
use crate::control::table::{AddressId, Slot};
use crate::forwarding::Forwarder;
use crate::forwarding::delivery::{Origin, Outbound};
use crate::forwarding::inspect;
use crate::forwarding::mailbox::Envelope;
use crate::forwarding::stats::Party;
use crate::forwarding::stream::Body;
use crate::forwarding::wire::{Allowance, Head, Wire};

/// Why a link was left with something to send.
enum Pause {
    /// Nothing is left, or what is left is still arriving.
    Idle,
    /// The receiver has granted no credit.
    NoCredit,
    /// The session's window or the connection's buffer is full.
    NoRoom,
    /// Other links want their turn.
    Enough,
}

impl Forwarder {
    /// Queues a delivery on a link of this worker. If the link is gone its origin is told so.
    pub(super) fn enqueue<W: Wire>(
        &mut self,
        wire: &mut W,
        link: Slot,
        origin: Origin,
        envelope: Envelope,
        payload: Bytes,
        more: bool,
    ) -> Option<Slot> {
        let mut body = Body::default();
        body.push(payload, more);
        let mut outbound = Outbound {
            link: link.index,
            origin,
            envelope,
            body,
            number: None,
            aborted: false,
            home: None,
            held: false,
            sent: false,
            outcome: None,
        };
        let Some(outgoing) = self.outgoing.get(link) else {
            if let Some(load) = outbound.envelope.load.take() {
                load.remove();
            }
            self.notify_lost(wire, &mut outbound, DeliveryState::Released);
            return None;
        };
        if more && outgoing.diverts {
            return Some(self.enqueue_unfinished(wire, link.index, outbound));
        }
        let stalled = outgoing.stalled;
        if outbound.envelope.settled && outgoing.queue.len() >= outgoing.capacity as usize {
            self.drop_presettled(wire, outbound.envelope.arrived, link.index);
        }
        let slot = self.outbound.insert(outbound);
        self.queue(link.index, slot.index);
        if stalled {
            self.stop_one_waiting(wire, slot.index);
        }
        Some(slot)
    }

    /// Puts a delivery at the end of a link's queue.
    pub(super) fn queue(&mut self, link: u32, delivery: u32) {
        let outbound = &mut self.outbound[delivery];
        outbound.link = link;
        let priority = outbound.envelope.priority;
        self.outgoing[link].queue.push_back(delivery);
        self.mark_ready(link, priority);
    }

    /// Adds a frame to a delivery that is queued on a link.
    pub(super) fn append<W: Wire>(
        &mut self,
        wire: &mut W,
        delivery: u32,
        payload: Bytes,
        more: bool,
    ) {
        let outbound = &mut self.outbound[delivery];
        if outbound.aborted {
            let origin = outbound.origin;
            return self.chunk_through(wire, origin, payload.len());
        }
        outbound.body.push(payload, more);
        if outbound.held {
            return self.review_held(wire, delivery);
        }
        if !more && outbound.number.is_none() && outbound.home.is_some() {
            self.bring_home(delivery);
            return;
        }
        let (link, priority) = (outbound.link, outbound.envelope.priority);
        self.mark_ready(link, priority);
    }

    /// Has a link served before the turn ends.
    pub(super) fn mark_ready(&mut self, link: u32, priority: u8) {
        let outgoing = &mut self.outgoing[link];
        if !outgoing.ready && !outgoing.blocked {
            outgoing.ready = true;
            self.ready[usize::from(priority)].push(link);
        }
    }

    /// The receiver has changed its link's credit.
    pub(crate) fn credit_changed<W: Wire>(&mut self, wire: &mut W, now: Instant, link: u32) {
        self.serve_link(wire, now, link);
    }

    /// A connection is gone, and all its links before it.
    pub(crate) fn connection_closed(&mut self, connection: u32) {
        self.blocked.remove(&connection);
        self.streams.close(connection);
    }

    /// A connection's session window or output buffer has room again; true if a link waited for
    /// that.
    pub(crate) fn room_changed(&mut self, connection: u32) -> bool {
        let Some(links) = self.blocked.remove(&connection) else {
            return false;
        };
        for link in links {
            if self.outgoing.contains(link) && self.outgoing[link].blocked {
                let outgoing = &mut self.outgoing[link];
                outgoing.blocked = false;
                let next = outgoing.queue.front().copied();
                let priority = next.map_or(0, |next| self.outbound[next].envelope.priority);
                self.mark_ready(link, priority);
            }
        }
        true
    }

    /// Serves every link that is ready, the highest priority first, until none can go on.
    pub(super) fn serve<W: Wire>(&mut self, wire: &mut W, now: Instant) {
        while let Some(highest) = self.ready.iter().rposition(|links| !links.is_empty()) {
            let mut links = std::mem::take(&mut self.ready[highest]);
            for link in links.drain(..) {
                if self.outgoing.contains(link) && self.outgoing[link].ready {
                    self.outgoing[link].ready = false;
                    self.serve_link(wire, now, link);
                }
            }
            if self.ready[highest].is_empty() {
                self.ready[highest] = links;
            }
        }
    }

    fn serve_link<W: Wire>(&mut self, wire: &mut W, now: Instant, link: u32) {
        match self.send_queued(wire, now, link) {
            Pause::Idle | Pause::NoCredit => {}
            Pause::NoRoom => {
                let outgoing = &mut self.outgoing[link];
                if !outgoing.blocked {
                    outgoing.blocked = true;
                    self.blocked
                        .entry(outgoing.terminal.connection)
                        .or_default()
                        .push(link);
                }
            }
            Pause::Enough => self.mark_ready(link, 0),
        }
    }

    fn send_queued<W: Wire>(&mut self, wire: &mut W, now: Instant, link: u32) -> Pause {
        let mut octets = 0;
        for _ in 0..BURST {
            if octets >= BURST_OCTETS {
                break;
            }
            let outgoing = &self.outgoing[link];
            let terminal = outgoing.terminal;
            let allowance = wire.allowance(terminal);
            let Some(&delivery) = outgoing.queue.front() else {
                // What is held goes by it when it is complete.
                if allowance.drain && outgoing.held.is_empty() {
                    wire.drained(terminal);
                }
                return Pause::Idle;
            };
            match self.send_frame(wire, now, link, delivery, allowance) {
                Ok(sent) => octets += sent,
                Err(Pause::NoCredit) => {
                    if allowance.drain {
                        wire.drained(terminal);
                    }
                    return Pause::NoCredit;
                }
                Err(pause) => return pause,
            }
        }
        Pause::Enough
    }

    /// Sends one frame of the delivery at the head of a link's queue; says how large it was.
    fn send_frame<W: Wire>(
        &mut self,
        wire: &mut W,
        now: Instant,
        link: u32,
        delivery: u32,
        allowance: Allowance,
    ) -> Result<usize, Pause> {
        let outbound = &mut self.outbound[delivery];
        let started = outbound.number.is_some();
        if outbound.aborted {
            if let Some(mut start) = outbound.body.first().cloned() {
                if allowance.credit == 0 {
                    return Err(Pause::NoCredit);
                }
                if !allowance.room {
                    return Err(Pause::NoRoom);
                }
                self.start(wire, now, link, delivery, &mut start, true);
            }
            if self.outbound[delivery].number.is_some() {
                wire.abort(self.outgoing[link].terminal);
            }
            self.pop_queue(link);
            self.remove_outbound(delivery);
            return Ok(0);
        }
        if !started && allowance.credit == 0 {
            return Err(Pause::NoCredit);
        }
        if !allowance.room {
            return Err(Pause::NoRoom);
        }
        if !started
            && outbound
                .envelope
                .expires
                .is_some_and(|expires| expires <= now)
        {
            self.pop_queue(link);
            self.give_up(wire, now, delivery, DeliveryState::Released);
            return Ok(0);
        }
        if allowance.join > 0 && started && !outbound.envelope.is_stream {
            let hastened = std::mem::take(&mut self.outgoing[link].hastened);
            if !hastened && outbound.body.is_short_of(allowance.join) {
                return Err(Pause::Idle);
            }
            if let Some((chunk, sizes)) = outbound.body.join(allowance.join) {
                return Ok(self.send_joined(wire, link, delivery, chunk, &sizes));
            }
        }
        let Some((mut chunk, octets)) = outbound.body.pop_counted() else {
            return Err(Pause::Idle);
        };
        let more = !(outbound.body.is_complete() && outbound.body.is_empty());
        self.outgoing[link].moved = true;
        if started {
            wire.proceed(self.outgoing[link].terminal, &mut chunk, more);
        } else {
            self.start(wire, now, link, delivery, &mut chunk, more);
        }
        let outbound = &mut self.outbound[delivery];
        if !chunk.is_empty() {
            outbound.body.unread(chunk, octets);
            return Err(Pause::NoRoom);
        }
        let origin = outbound.origin;
        if more {
            self.chunk_through(wire, origin, octets);
        } else {
            self.pop_queue(link);
            self.sent(wire, link, delivery, octets);
        }
        Ok(octets)
    }

    /// Sends as one frame what came as several of these sizes.
    #[cold]
    fn send_joined<W: Wire>(
        &mut self,
        wire: &mut W,
        link: u32,
        delivery: u32,
        mut joined: Bytes,
        sizes: &[usize],
    ) -> usize {
        let length = joined.len();
        let outgoing = &mut self.outgoing[link];
        let outbound = &self.outbound[delivery];
        let origin = outbound.origin;
        let more = !(outbound.body.is_complete() && outbound.body.is_empty());
        outgoing.moved = true;
        wire.proceed(outgoing.terminal, &mut joined, more);
        debug_assert!(
            joined.is_empty(),
            "it fits a frame, for which there is room"
        );
        let through = if more { sizes.len() } else { sizes.len() - 1 };
        for &octets in &sizes[..through] {
            self.chunk_through(wire, origin, octets);
        }
        if let Some(&octets) = sizes.get(through) {
            self.pop_queue(link);
            self.sent(wire, link, delivery, octets);
        }
        length
    }

    /// Sends what waits for more of its delivery, on links where nothing has moved for a tick.
    pub(super) fn hasten(&mut self, link: u32) {
        self.outgoing[link].hastened = true;
        self.mark_ready(link, 0);
    }

    fn start<W: Wire>(
        &mut self,
        wire: &mut W,
        now: Instant,
        link: u32,
        delivery: u32,
        chunk: &mut Bytes,
        more: bool,
    ) {
        let outgoing = &mut self.outgoing[link];
        let outbound = &mut self.outbound[delivery];
        let envelope = &outbound.envelope;
        if envelope.expires.is_some() {
            let waited = now.duration_since(envelope.arrived);
            if waited >= Duration::from_millis(1) {
                *chunk = inspect::age(chunk, waited);
            }
        }
        let tag = outgoing.next_tag;
        outgoing.next_tag = tag.wrapping_add(1);
        outgoing.moved = true;
        outgoing.stalled = false;
        outgoing.counts.deliveries += 1;
        let head = Head {
            token: delivery,
            tag: DeliveryTag::from(tag),
            message_format: envelope.message_format,
            settled: envelope.settled || outgoing.presettle,
            state: envelope.state.as_ref(),
            prefix: match &envelope.passage {
                Some(passage) if outgoing.annotated => match outgoing.party {
                    Party::Network => passage.section_abroad(),
                    _ => passage.section(),
                },
                _ => &[],
            },
            barred: envelope.barred.as_ref(),
        };
        outbound.number = Some(wire.start(outgoing.terminal, head, chunk, more));
        if outgoing.to_router {
            self.addresses.count_transit(outbound.envelope.address);
            // What the control plane tells its neighbours is no delivery of anybody's.
            self.counts.transit += u64::from(outbound.envelope.address != AddressId::NONE);
        } else {
            let party = outgoing.party;
            let address = outbound.envelope.address;
            self.addresses.count_egress(address, party);
            self.counts.went(party);
        }
    }

    /// All of a delivery has left.
    fn sent<W: Wire>(&mut self, wire: &mut W, link: u32, delivery: u32, octets: usize) {
        let outgoing = &mut self.outgoing[link];
        let outbound = &mut self.outbound[delivery];
        let origin = outbound.origin;
        let settled_by_sender = outbound.envelope.settled;
        if settled_by_sender {
            outgoing.counts.presettled += 1;
        }
        if settled_by_sender || outgoing.presettle {
            outgoing.note_entered(outbound.envelope.ingress);
            self.remove_outbound(delivery);
            self.chunk_through(wire, origin, octets);
            if settled_by_sender {
                self.origin_done(wire, origin);
            } else {
                let accepted = Some(DeliveryState::Accepted);
                self.tell_sender(wire, origin, accepted, true);
            }
            return;
        }
        outbound.sent = true;
        outgoing.unsettled += 1;
        self.outbound.chain(&mut outgoing.sent, delivery);
        self.chunk_through(wire, origin, octets);
    }

    fn pop_queue(&mut self, link: u32) {
        self.outgoing[link].queue.pop_front();
    }

    /// Drops every presettled delivery that a link has queued except the one at its head
    /// (`reference/router/inter-router-protocol.md` §6).
    fn drop_presettled<W: Wire>(&mut self, wire: &mut W, now: Instant, link: u32) {
        let queue = std::mem::take(&mut self.outgoing[link].queue);
        let mut kept = std::collections::VecDeque::with_capacity(queue.len());
        for (position, delivery) in queue.into_iter().enumerate() {
            let outbound = &self.outbound[delivery];
            let droppable = outbound.envelope.settled && outbound.number.is_none();
            if position == 0 || !droppable {
                kept.push_back(delivery);
                continue;
            }
            self.outgoing[link].counts.dropped_presettled += 1;
            self.counts.outcomes.dropped_presettled += 1;
            self.give_up(wire, now, delivery, DeliveryState::Released);
        }
        self.outgoing[link].queue = kept;
    }

    /// Senders no longer wait for what is queued on a link that takes nothing.
    pub(super) fn stop_waiting<W: Wire>(&mut self, wire: &mut W, link: u32) {
        for position in 0..self.outgoing[link].queue.len() {
            let delivery = self.outgoing[link].queue[position];
            self.stop_one_waiting(wire, delivery);
        }
    }

    fn stop_one_waiting<W: Wire>(&mut self, wire: &mut W, delivery: u32) {
        let outbound = &mut self.outbound[delivery];
        if let Origin::Link(_) = outbound.origin {
            let origin = std::mem::replace(&mut outbound.origin, Origin::Gone);
            // It is whole, and came in one frame.
            let octets = outbound.body.octets();
            self.chunk_through(wire, origin, octets);
            self.origin_done(wire, origin);
        }
    }
}

/// Frames that one link may send before others get a turn.
const BURST: usize = 64;
/// Octets of them, after which it gets no more: a long message must not hold up short ones that
/// share its connection.
const BURST_OCTETS: usize = 128 * 1024;
