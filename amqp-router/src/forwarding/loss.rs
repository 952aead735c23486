//! What becomes of deliveries whose sender or receiver is gone.

use std::time::Instant;

use crate::codec::DeliveryState;
use crate::control::table::Slot;
use crate::forwarding::Forwarder;
use crate::forwarding::delivery::{Origin, Outbound};
use crate::forwarding::mailbox::{Branch, Mail};
use crate::forwarding::wire::Wire;

impl Forwarder {
    /// The sender of a delivery gave it up, or is gone. What is complete goes on without it.
    pub(super) fn orphan<W: Wire>(&mut self, wire: &mut W, delivery: u32) {
        let slot = self.inbound.slot(delivery);
        let inbound = &mut self.inbound[delivery];
        let copies = std::mem::take(&mut inbound.copies);
        for (copy, copied) in copies.iter().enumerate() {
            if let Some(outbound) = copied.outbound {
                self.orphan_copy(wire, outbound);
            } else if copied.worker != self.settings.worker && !copied.closed {
                let branch = Branch {
                    worker: self.settings.worker,
                    delivery: slot,
                    copy: copy as u16,
                };
                self.post(copied.worker, Mail::Orphaned { branch });
            }
        }
        let inbound = &self.inbound[delivery];
        let (link, number, settled) = (inbound.link, inbound.number, inbound.settled);
        if inbound.presettled && inbound.complete {
            self.counts.outcomes.presettled += 1;
        }
        if !settled {
            wire.forget(self.incoming[link].terminal, number);
        }
        self.remove_inbound(wire, delivery, true);
    }

    pub(super) fn orphan_copy<W: Wire>(&mut self, wire: &mut W, slot: Slot) {
        let Some(outbound) = self.outbound.get_mut(slot) else {
            return;
        };
        if outbound.body.is_complete() {
            outbound.origin = Origin::Gone;
            if let Some(outcome) = outbound.outcome.as_deref().cloned() {
                // Its receiver waits for it to be settled, which nobody else will do.
                return self.settle_copy(wire, slot, Some(&outcome), true);
            }
            let (link, started) = (outbound.link, outbound.number.is_some());
            // Nobody waits for it; it goes on as long as there is room for it.
            if !started && !self.has_room_for_orphan(link, slot.index) {
                self.unqueue(slot.index);
                self.remove_outbound(slot.index);
            }
            return;
        }
        self.abort_copy(wire, slot);
    }

    /// Aborts a delivery that is being sent, or drops it if it waits to be complete.
    pub(super) fn abort_copy<W: Wire>(&mut self, wire: &mut W, slot: Slot) {
        let outbound = &mut self.outbound[slot.index];
        outbound.aborted = true;
        outbound.envelope.settled = true;
        let (link, priority) = (outbound.link, outbound.envelope.priority);
        let unheard = outbound.envelope.is_stream && outbound.number.is_none();
        let start = outbound.body.first().filter(|_| unheard).cloned();
        self.discard_body(wire, slot.index);
        if let Some(start) = start {
            self.outbound[slot.index].body.push(start, true);
        }
        if self.outbound[slot.index].held {
            self.let_go(slot.index);
            self.remove_outbound(slot.index);
            return;
        }
        let origin = &mut self.outbound[slot.index].origin;
        if let Origin::Branch(branch) = std::mem::replace(origin, Origin::Gone) {
            self.foreign.remove(&branch);
        }
        self.mark_ready(link, priority);
    }

    /// Whether a link's queue has room for a delivery that nobody waits for: it holds no place in
    /// any window, and its sender may come again with more of them.
    fn has_room_for_orphan(&self, link: u32, delivery: u32) -> bool {
        let queue = &self.outgoing[link].queue;
        let orphans = queue.iter().map(|queued| &self.outbound[*queued]);
        let orphans = orphans.filter(|queued| matches!(queued.origin, Origin::Gone));
        let waiting: usize = orphans.map(|queued| queued.body.octets()).sum();
        let own = self.outbound[delivery].body.octets();
        queue.len() < self.outgoing[link].capacity as usize
            && (waiting == own || waiting <= ORPHANED_MAX)
    }

    /// Drops what a delivery has yet to send.
    pub(super) fn discard_body<W: Wire>(&mut self, wire: &mut W, delivery: u32) {
        loop {
            let outbound = &mut self.outbound[delivery];
            let origin = outbound.origin;
            let Some((_, octets)) = outbound.body.pop_counted() else {
                return;
            };
            self.chunk_through(wire, origin, octets);
        }
    }

    /// Ends an outgoing half that will never be sent, or whose receiver is gone.
    pub(super) fn give_up<W: Wire>(
        &mut self,
        wire: &mut W,
        now: Instant,
        delivery: u32,
        outcome: DeliveryState,
    ) {
        self.unlink_outbound(delivery);
        let mut outbound = self.outbound.remove(delivery);
        if !outbound.envelope.settled {
            let arrived = outbound.envelope.counted_from();
            let age = arrived.map(|arrived| self.ages.between(arrived, now));
            let counted = age.unwrap_or_default();
            self.counts.outcomes.settled(Some(&outcome), counted);
            if let Some(age) = age {
                self.counts.latency.note(age);
            }
        }
        self.notify_lost(wire, &mut outbound, outcome);
    }

    /// Tells the origin of an outgoing half that it is no more.
    pub(super) fn notify_lost<W: Wire>(
        &mut self,
        wire: &mut W,
        outbound: &mut Outbound,
        outcome: DeliveryState,
    ) {
        while let Some((_, octets)) = outbound.body.pop_counted() {
            self.chunk_through(wire, outbound.origin, octets);
        }
        if outbound.envelope.settled {
            self.origin_done(wire, outbound.origin);
        } else {
            self.tell_sender(wire, outbound.origin, Some(outcome), true);
        }
    }

    /// Ends an outgoing half, which is no longer in its link's queue, without a word to anybody.
    pub(super) fn remove_outbound(&mut self, delivery: u32) {
        self.unlink_outbound(delivery);
        self.outbound.discard(delivery);
    }

    /// Takes an outgoing half, which is no longer in its link's queue, out of all but its slot.
    #[inline]
    fn unlink_outbound(&mut self, delivery: u32) {
        let outbound = &self.outbound[delivery];
        let (link, sent, origin) = (outbound.link, outbound.sent, outbound.origin);
        let outgoing = &mut self.outgoing[link];
        match &outbound.envelope.load {
            Some(load) => load.remove(),
            None => outgoing.load.remove(),
        }
        if sent {
            outgoing.unsettled -= 1;
            self.outbound.unchain(&mut outgoing.sent, delivery);
        }
        if outgoing.is_stream {
            self.free_stream(link);
        }
        if let Origin::Branch(branch) = origin
            && branch.worker != self.settings.worker
        {
            self.foreign.remove(&branch);
        }
    }
}

/// Octets of messages that wait in one link's queue and have lost their senders.
const ORPHANED_MAX: usize = 8 * 1024 * 1024;
