//! Outcomes and settlement, from either end to the other.

use std::time::{Duration, Instant};

use crate::codec::DeliveryState;
use crate::control::table::Slot;
use crate::forwarding::Forwarder;
use crate::forwarding::delivery::{Copied, Origin, significance};
use crate::forwarding::mailbox::{Branch, Mail};
use crate::forwarding::resend::is_given_back;
use crate::forwarding::stats::Ages;
use crate::forwarding::wire::Wire;

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
    pub(super) fn settle_copy<W: Wire>(
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
    pub(super) fn branch_update<W: Wire>(
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

    pub(super) fn branch_done<W: Wire>(&mut self, wire: &mut W, branch: Branch) {
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
}

/// How long what `arrived` then has been here, if that counts.
#[inline]
fn age_of(ages: &mut Ages, arrived: Option<Instant>, now: Option<Instant>) -> Duration {
    let counts = arrived.zip(now);
    counts.map_or(Duration::ZERO, |(arrived, now)| ages.between(arrived, now))
}
