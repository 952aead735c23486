//! Outcomes, settlement and loss, from either end to the other.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::codec::DeliveryState;
use crate::control::table::Slot;
use crate::forwarding::Forwarder;
use crate::forwarding::delivery::{Copied, Origin, Outbound, significance};
use crate::forwarding::forward::PIECE_OVERHEAD;
use crate::forwarding::mailbox::{Branch, Mail};
use crate::forwarding::resend::is_given_back;
use crate::forwarding::stats::Ages;
use crate::forwarding::wire::{Places, Wire};

impl Forwarder {
    /// A receiver says what has become of a delivery, named by the token it was sent with.
    pub(crate) fn receiver_update<W: Wire>(
        &mut self,
        wire: &mut W,
        now: Instant,
        delivery: u32,
        state: Option<DeliveryState>,
        settled: bool,
    ) {
        self.latest = Some(now);
        self.note_answer(delivery, state.as_ref());
        let outbound = &mut self.outbound[delivery];
        let origin = outbound.origin;
        let link = outbound.link;
        if settled {
            self.count_settled(delivery, state.as_ref(), now);
            self.outgoing[link].moved = true;
            if matches!(state, Some(DeliveryState::Released)) {
                self.stream_released(delivery, now);
            }
            self.receiver_settled(wire, delivery, state.as_ref());
        } else if let (Origin::Gone, Some(state)) = (origin, &state)
            && state.is_terminal()
        {
            // The sender went away: nobody else will settle this.
            let terminal = self.outgoing[link].terminal;
            if let Some(number) = outbound.number {
                wire.update_sent(terminal, number, Some(state), true);
            }
            self.receiver_settled(wire, delivery, None);
            return;
        } else if let Some(state) = state.as_ref().filter(|state| state.is_terminal()) {
            outbound.outcome = Some(Box::new(state.clone()));
        }
        self.tell_sender(wire, origin, state, settled);
    }

    /// Counts an outgoing half that is settled with an outcome.
    #[inline]
    fn count_settled(&mut self, delivery: u32, outcome: Option<&DeliveryState>, now: Instant) {
        let outbound = &self.outbound[delivery];
        let arrived = outbound.envelope.counted_from();
        let age = arrived.map(|arrived| self.ages.between(arrived, now));
        let counted = age.unwrap_or_default();
        let outgoing = &mut self.outgoing[outbound.link];
        outgoing.counts.settled(outcome, counted);
        outgoing.note_entered(outbound.envelope.ingress);
        self.counts.outcomes.settled(outcome, counted);
        if let Some(age) = age {
            self.counts.latency.note(age);
        }
    }

    /// Does what a settlement means for the outgoing half.
    fn receiver_settled<W: Wire>(
        &mut self,
        wire: &mut W,
        delivery: u32,
        state: Option<&DeliveryState>,
    ) {
        let outbound = &mut self.outbound[delivery];
        if outbound.sent {
            self.remove_outbound(delivery);
            return;
        }
        // Settled before all of it was sent. Who accepts gets the rest; who does not is spared it.
        outbound.envelope.settled = true;
        if matches!(state, Some(DeliveryState::Accepted) | None) {
            return;
        }
        outbound.aborted = true;
        let (link, priority) = (outbound.link, outbound.envelope.priority);
        self.discard_body(wire, delivery);
        self.mark_ready(link, priority);
    }

    /// A sender settles a delivery, or changes its state; named by the token it is watched with.
    pub(crate) fn sender_update<W: Wire>(
        &mut self,
        wire: &mut W,
        delivery: u32,
        state: Option<DeliveryState>,
        settled: bool,
    ) {
        if settled {
            self.sender_settled(wire, delivery, state);
            self.finish_if_done(wire, delivery);
        } else {
            self.tell_receivers(wire, delivery, state, false);
        }
    }

    pub(super) fn sender_settled<W: Wire>(
        &mut self,
        wire: &mut W,
        delivery: u32,
        state: Option<DeliveryState>,
    ) {
        let inbound = &mut self.inbound[delivery];
        if !inbound.settled {
            inbound.settled = true;
            if let Some(outcome) = inbound.outcome.take() {
                let age = age_of(&mut self.ages, inbound.arrived, self.latest);
                let counts = &mut self.incoming[inbound.link].counts;
                counts.settled(Some(&outcome), age);
            }
            self.tell_receivers(wire, delivery, state, true);
        }
    }

    fn tell_receivers<W: Wire>(
        &mut self,
        wire: &mut W,
        delivery: u32,
        state: Option<DeliveryState>,
        settled: bool,
    ) {
        let slot = self.inbound.slot(delivery);
        for copy in 0..self.inbound[delivery].copies.len() {
            let Copied {
                worker,
                outbound,
                done,
                ..
            } = self.inbound[delivery].copies[copy];
            if let Some(outbound) = outbound {
                self.settle_copy(wire, outbound, state.as_ref(), settled);
            } else if worker != self.settings.worker && !done {
                let branch = Branch {
                    worker: self.settings.worker,
                    delivery: slot,
                    copy: copy as u16,
                };
                self.post(
                    worker,
                    Mail::FromSender {
                        branch,
                        state: state.clone(),
                        settled,
                    },
                );
            }
        }
    }

    /// Tells one receiver what the sender said.
    fn settle_copy<W: Wire>(
        &mut self,
        wire: &mut W,
        outbound: Slot,
        state: Option<&DeliveryState>,
        settled: bool,
    ) {
        let delivery = outbound.index;
        let Some(outbound) = self.outbound.get_mut(outbound) else {
            return;
        };
        let terminal = self.outgoing[outbound.link].terminal;
        if let Some(number) = outbound.number
            && !outbound.envelope.settled
        {
            wire.update_sent(terminal, number, state, settled);
        }
        if settled {
            outbound.envelope.settled = true;
            if outbound.sent {
                let now = self.latest.unwrap_or(outbound.envelope.arrived);
                match outbound.outcome.take() {
                    Some(outcome) => self.count_settled(delivery, Some(&outcome), now),
                    None => {
                        let outgoing = &mut self.outgoing[outbound.link];
                        outgoing.counts.settled(state, Duration::ZERO);
                        outgoing.note_entered(outbound.envelope.ingress);
                    }
                }
                self.remove_outbound(delivery);
            }
        }
    }

    /// Passes what a receiver said to whoever waits for it.
    pub(super) fn tell_sender<W: Wire>(
        &mut self,
        wire: &mut W,
        origin: Origin,
        state: Option<DeliveryState>,
        settled: bool,
    ) {
        match origin {
            Origin::Branch(branch) if branch.worker == self.settings.worker => {
                self.branch_update(wire, branch, state, settled);
            }
            Origin::Branch(branch) => {
                self.post(
                    branch.worker,
                    Mail::FromReceiver {
                        branch,
                        state,
                        settled,
                    },
                );
            }
            Origin::Link(_) => self.origin_done(wire, origin),
            Origin::Gone => {}
        }
    }

    /// One copy of a delivery got a state.
    fn branch_update<W: Wire>(
        &mut self,
        wire: &mut W,
        branch: Branch,
        state: Option<DeliveryState>,
        settled: bool,
    ) {
        let Some(inbound) = self.inbound.get_mut(branch.delivery) else {
            return;
        };
        if !inbound.has(branch.copy) {
            return;
        }
        if inbound.resend.is_some() {
            let untouched = is_given_back(state.as_ref()) && !inbound.settled;
            if untouched && self.resend(wire, branch, settled) {
                return;
            }
            self.forget_resend(branch.delivery.index);
        }
        let inbound = &mut self.inbound[branch.delivery.index];
        let copied = &mut inbound.copies[usize::from(branch.copy)];
        copied.done |= settled;
        copied.closed |= settled && !matches!(state, Some(DeliveryState::Accepted) | None);
        let terminal = settled || state.as_ref().is_some_and(DeliveryState::is_terminal);
        copied.terminal |= terminal;
        let (state, settled) = match &mut inbound.multicast {
            None => (state, settled),
            Some(multicast) => {
                if let Some(state) = state.filter(DeliveryState::is_terminal)
                    && multicast
                        .outcome
                        .as_ref()
                        .is_none_or(|best| significance(best) < significance(&state))
                {
                    multicast.outcome = Some(state);
                }
                if !terminal || !inbound.copies.iter().all(|copied| copied.terminal) {
                    return;
                }
                let all_done = inbound.copies.iter().all(|copied| copied.done);
                let Some(multicast) = &inbound.multicast else {
                    return;
                };
                (multicast.outcome.clone(), all_done)
            }
        };
        let mut confirm = None;
        if !inbound.settled {
            let incoming = &mut self.incoming[inbound.link];
            if settled && incoming.settles_whole && inbound.is_unfinished() && state.is_some() {
                wire.update(incoming.terminal, inbound.number, state.as_ref(), false);
                inbound.outcome = state.map(Box::new);
                return;
            }
            // A sender that does not take part in the second step (AMQP 2.6.12) gets its outcome
            // settled, and the router that it sends to takes the step for it: other routers wait
            // for that.
            let outcome = state.as_ref().filter(|state| state.is_terminal());
            if let Some(outcome) = outcome.filter(|_| !settled) {
                match incoming.confirms || incoming.from_router {
                    true => inbound.outcome = Some(Box::new(outcome.clone())),
                    false => confirm = Some(outcome.clone()),
                }
            }
            let settled = settled || confirm.is_some();
            wire.update(incoming.terminal, inbound.number, state.as_ref(), settled);
            if settled {
                inbound.settled = true;
                let age = age_of(&mut self.ages, inbound.arrived, self.latest);
                incoming.counts.settled(state.as_ref(), age);
            }
        }
        let delivery = branch.delivery.index;
        if confirm.is_some() {
            self.tell_receivers(wire, delivery, confirm, true);
        }
        self.finish_if_done(wire, delivery);
    }

    /// Forgets an incoming half that is settled and complete; one that came settled, when all of
    /// it has left.
    pub(super) fn finish_if_done<W: Wire>(&mut self, wire: &mut W, delivery: u32) {
        if !self.inbound.contains(delivery) {
            return;
        }
        let inbound = &self.inbound[delivery];
        if !inbound.complete || inbound.undecided.is_some() {
            return;
        }
        if !inbound.settled && !self.settle_late(wire, delivery) {
            return;
        }
        let inbound = &self.inbound[delivery];
        if inbound.presettled {
            if !inbound.copies.iter().all(|copied| copied.done) {
                return;
            }
            self.incoming[inbound.link].counts.presettled += 1;
            self.counts.outcomes.presettled += 1;
        }
        self.remove_inbound(wire, delivery, true);
    }

    /// Settles a complete delivery whose outcome has been told before. False: there is none yet, or
    /// who said it is to say more.
    #[cold]
    fn settle_late<W: Wire>(&mut self, wire: &mut W, delivery: u32) -> bool {
        let inbound = &mut self.inbound[delivery];
        if !inbound.copies.iter().all(|copied| copied.done) {
            return false;
        }
        let Some(outcome) = inbound.outcome.take() else {
            return false;
        };
        inbound.settled = true;
        let age = age_of(&mut self.ages, inbound.arrived, self.latest);
        let incoming = &mut self.incoming[inbound.link];
        incoming.counts.settled(Some(&outcome), age);
        wire.update(incoming.terminal, inbound.number, Some(&outcome), true);
        true
    }

    /// Takes an incoming half out of its link. With `give_back` its credit becomes free again.
    pub(super) fn remove_inbound<W: Wire>(&mut self, wire: &mut W, delivery: u32, give_back: bool) {
        let link = self.inbound[delivery].link;
        let incoming = &mut self.incoming[link];
        self.inbound.unchain(&mut incoming.deliveries, delivery);
        let inbound = self.inbound.remove(delivery);
        incoming.early -= inbound.early;
        if incoming.current == Some(delivery) {
            incoming.current = None;
        }
        if give_back {
            incoming.held -= 1;
            self.touch(link);
        }
        if let Some(resend) = &inbound.resend {
            self.keep_no_more(link, resend);
        }
        self.release(wire, link, inbound.unreleased);
    }

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
        self.outbound[slot.index].origin = Origin::Gone;
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
    fn discard_body<W: Wire>(&mut self, wire: &mut W, delivery: u32) {
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

    /// A frame of an outgoing half has left or been dropped.
    pub(super) fn chunk_through<W: Wire>(&mut self, wire: &mut W, origin: Origin, octets: usize) {
        match origin {
            Origin::Link(link) => {
                if self.incoming.get(link).is_some() {
                    self.release(wire, link.index, Places::frame(octets));
                }
            }
            Origin::Branch(branch) if branch.worker == self.settings.worker => {
                self.frame_through(wire, branch, octets);
            }
            Origin::Branch(branch) => {
                self.post(branch.worker, Mail::Through { branch, octets });
            }
            Origin::Gone => {}
        }
    }

    /// One copy is through with one more frame of a delivery.
    pub(super) fn frame_through<W: Wire>(&mut self, wire: &mut W, branch: Branch, octets: usize) {
        let Some(inbound) = self.inbound.get_mut(branch.delivery) else {
            return;
        };
        if !inbound.has(branch.copy) {
            return;
        }
        let copied = &mut inbound.copies[usize::from(branch.copy)];
        let frame = copied.through;
        copied.through = frame.wrapping_add(1);
        if copied.again > 0 {
            copied.again -= 1;
            return;
        }
        if inbound.early_pieces > 0 {
            // Frames leave in the order in which they came, so it is one of those that hold no
            // place any more.
            let octets = (octets + PIECE_OVERHEAD).min(inbound.early);
            inbound.early_pieces -= 1;
            inbound.early -= octets;
            self.incoming[inbound.link].early -= octets;
            return;
        }
        let places = match &mut inbound.multicast {
            None => Places::frame(octets),
            Some(multicast) => multicast.progress.through(frame),
        };
        let places = inbound.unreleased.take(places);
        let link = inbound.link;
        self.release(wire, link, places);
    }

    /// A presettled outgoing half has been sent or dropped.
    pub(super) fn origin_done<W: Wire>(&mut self, wire: &mut W, origin: Origin) {
        match origin {
            Origin::Link(link) => {
                // It counts also if its link has gone meanwhile.
                self.counts.outcomes.presettled += 1;
                if let Some(incoming) = self.incoming.get_mut(link) {
                    incoming.held -= 1;
                    incoming.counts.presettled += 1;
                    self.touch(link.index);
                }
            }
            Origin::Branch(branch) if branch.worker == self.settings.worker => {
                self.branch_done(wire, branch);
            }
            Origin::Branch(branch) => self.post(branch.worker, Mail::Done { branch }),
            Origin::Gone => {}
        }
    }

    fn branch_done<W: Wire>(&mut self, wire: &mut W, branch: Branch) {
        let Some(inbound) = self.inbound.get_mut(branch.delivery) else {
            return;
        };
        if !inbound.has(branch.copy) {
            return;
        }
        let copied = &mut inbound.copies[usize::from(branch.copy)];
        copied.done = true;
        copied.closed = true;
        copied.terminal = true;
        self.finish_if_done(wire, branch.delivery.index);
    }

    /// Takes a message from another worker.
    pub(crate) fn receive<W: Wire>(&mut self, wire: &mut W, mail: Mail) {
        match mail {
            Mail::Start {
                link,
                branch,
                envelope,
                payload,
                more,
            } => {
                let origin = Origin::Branch(branch);
                let outbound = self.enqueue(wire, link, origin, *envelope, payload, more);
                if let Some(outbound) = outbound {
                    self.foreign.insert(branch, outbound.index);
                }
            }
            Mail::Continue {
                branch,
                payload,
                more,
            } => {
                self.foreign_chunk(wire, branch, payload, more);
            }
            Mail::Orphaned { branch } => {
                if let Some(delivery) = self.foreign.remove(&branch) {
                    let slot = self.outbound.slot(delivery);
                    self.orphan_copy(wire, slot);
                }
            }
            Mail::Discarded { branch } => {
                if let Some(delivery) = self.foreign.remove(&branch) {
                    let slot = self.outbound.slot(delivery);
                    let arrived = self.outbound[delivery].envelope.arrived;
                    let now = self.latest.unwrap_or(arrived);
                    self.discard_copy(wire, now, slot);
                }
            }
            Mail::FromSender {
                branch,
                state,
                settled,
            } => {
                if let Some(&delivery) = self.foreign.get(&branch) {
                    let slot = self.outbound.slot(delivery);
                    self.settle_copy(wire, slot, state.as_ref(), settled);
                }
            }
            Mail::FromReceiver {
                branch,
                state,
                settled,
            } => {
                self.branch_update(wire, branch, state, settled);
            }
            Mail::Through { branch, octets } => self.frame_through(wire, branch, octets),
            Mail::Done { branch } => self.branch_done(wire, branch),
        }
    }

    fn foreign_chunk<W: Wire>(&mut self, wire: &mut W, branch: Branch, payload: Bytes, more: bool) {
        match self.foreign.get(&branch) {
            Some(&delivery) => self.append(wire, delivery, payload, more),
            // Its link is gone, which the incoming half has not heard yet.
            None => {
                let octets = payload.len();
                self.post(branch.worker, Mail::Through { branch, octets });
            }
        }
    }
}

/// Octets of messages that wait in one link's queue and have lost their senders.
const ORPHANED_MAX: usize = 8 * 1024 * 1024;

/// How long what `arrived` then has been here, if that counts.
#[inline]
fn age_of(ages: &mut Ages, arrived: Option<Instant>, now: Option<Instant>) -> Duration {
    let counts = arrived.zip(now);
    counts.map_or(Duration::ZERO, |(arrived, now)| ages.between(arrived, now))
}
