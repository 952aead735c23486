//! What connections have sent and nobody has taken yet: how much memory it holds, and how it is
//! given up.

use std::collections::HashMap;
use std::time::Instant;

use crate::codec::DeliveryState;
use crate::control::table::Slot;
use crate::forwarding::Forwarder;
use crate::forwarding::delivery::Origin;
use crate::forwarding::mailbox::{Branch, Mail};
use crate::forwarding::wire::Wire;

impl Forwarder {
    /// How many octets are held, here or on other workers, that have arrived by each connection.
    /// Copies of one delivery share theirs.
    pub(crate) fn held(&self) -> HashMap<u32, usize> {
        let mut held = HashMap::new();
        for (_, incoming) in self.incoming.iter() {
            let octets = incoming.unreleased.memory() + incoming.early + incoming.kept;
            *held.entry(incoming.terminal.connection).or_default() += octets;
        }
        held
    }

    /// Gives up what a connection has sent and what has not left as a whole: it is about to be cut
    /// off, and nobody is to hold memory for what is left of it. What has not begun to leave is
    /// released, so that its sender can send it again.
    pub(crate) fn discard_of<W: Wire>(&mut self, wire: &mut W, now: Instant, connection: u32) {
        let is_of = |link: u32| self.incoming[link].terminal.connection == connection;
        let deliveries = self.inbound.iter();
        let deliveries = deliveries.filter(|(_, inbound)| is_of(inbound.link));
        let deliveries: Vec<u32> = deliveries.map(|(delivery, _)| delivery).collect();
        let copies = self.outbound.iter().filter(|(_, outbound)| {
            let link = match outbound.origin {
                Origin::Link(link) => self.incoming.get(link).map(|_| link.index),
                Origin::Branch(branch) if branch.worker == self.settings.worker => {
                    (self.inbound.get(branch.delivery)).map(|inbound| inbound.link)
                }
                Origin::Branch(_) | Origin::Gone => None,
            };
            link.is_some_and(is_of)
        });
        let copies: Vec<Slot> = copies.map(|(copy, _)| self.outbound.slot(copy)).collect();
        for delivery in deliveries {
            // It goes nowhere else.
            self.forget_resend(delivery);
            self.discard_elsewhere(delivery);
        }
        for copy in copies {
            self.discard_copy(wire, now, copy);
        }
    }

    /// Has other workers give up their copies of a delivery.
    fn discard_elsewhere(&mut self, delivery: u32) {
        let here = self.settings.worker;
        let slot = self.inbound.slot(delivery);
        let copies = self.inbound[delivery].copies.iter().enumerate();
        let elsewhere = copies.filter(|(_, copied)| copied.worker != here && !copied.closed);
        let elsewhere: Vec<_> = elsewhere
            .map(|(copy, copied)| (copy as u16, copied.worker))
            .collect();
        for (copy, worker) in elsewhere {
            let branch = Branch {
                worker: here,
                delivery: slot,
                copy,
            };
            self.post(worker, Mail::Discarded { branch });
        }
    }

    /// Gives up one copy. One that has been sent waits for nothing but its outcome.
    pub(super) fn discard_copy<W: Wire>(&mut self, wire: &mut W, now: Instant, slot: Slot) {
        let Some(outbound) = self.outbound.get(slot) else {
            return;
        };
        if outbound.sent || outbound.aborted {
            return;
        }
        if outbound.number.is_some() || outbound.held {
            return self.abort_copy(wire, slot);
        }
        self.unqueue(slot.index);
        self.give_up(wire, now, slot.index, DeliveryState::Released);
    }
}
