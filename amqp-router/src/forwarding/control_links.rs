//! Links by which neighbours speak to this router's control plane, and it to them
//! (`reference/router/inter-router-protocol.md` §2, §5).
//!
//! Messages are small, few and presettled, but for one kind; they are put together here and handed
//! to the control plane, which reads them.

use std::time::Instant;

use bytes::Bytes;

use crate::codec::DeliveryState;
use crate::control::table::{AddressId, Slot};
use crate::control::topology::Ingress;
use crate::forwarding::delivery::Origin;
use crate::forwarding::mailbox::Envelope;
use crate::forwarding::window::Places;
use crate::forwarding::wire::Wire;
use crate::forwarding::{Arrival, Forwarder};

impl Forwarder {
    /// The next message of a neighbour, and the link that it came by.
    pub(crate) fn poll_heard(&mut self) -> Option<(Slot, Bytes)> {
        self.heard.pop_front()
    }

    /// Takes a frame of what a neighbour tells the control plane.
    pub(super) fn hear<W: Wire>(&mut self, wire: &mut W, arrival: Arrival) {
        let slot = self.incoming.slot(arrival.link);
        let incoming = &mut self.incoming[arrival.link];
        if arrival.first.is_some() {
            incoming.counts.deliveries += 1;
            incoming.hearing.clear();
        }
        let too_long = incoming.hearing.len() + arrival.payload.len() > HEARD_MAX;
        if arrival.aborted || too_long {
            incoming.hearing = Default::default();
        } else if arrival.more || !incoming.hearing.is_empty() {
            incoming.hearing.extend_from_slice(&arrival.payload);
        }
        if !arrival.more && !arrival.aborted && !too_long {
            let message = match incoming.hearing.is_empty() {
                // A copy, so that it does not keep what was read with it.
                true => Bytes::copy_from_slice(&arrival.payload),
                false => std::mem::take(&mut incoming.hearing).freeze(),
            };
            self.heard.push_back((slot, message));
        }
        let incoming = &mut self.incoming[arrival.link];
        if !arrival.more {
            if arrival.settled {
                incoming.counts.presettled += 1;
            } else if !arrival.aborted {
                let accepted = DeliveryState::Accepted;
                wire.update(incoming.terminal, arrival.number, Some(&accepted), true);
                incoming.counts.accepted += 1;
            }
        }
        self.release(wire, arrival.link, Places::frame(arrival.payload.len()));
        self.touch(arrival.link);
    }

    /// The next link by which the peer has answered what it was told.
    pub(crate) fn poll_answered(&mut self) -> Option<Slot> {
        self.answered.pop_front()
    }

    /// Takes note of an answer to a message of the control plane, which nobody has sent here.
    #[inline]
    pub(super) fn note_answer(&mut self, delivery: u32, state: Option<&DeliveryState>) {
        let outbound = &self.outbound[delivery];
        let is_ours =
            matches!(outbound.origin, Origin::Gone) && outbound.envelope.address == NO_ADDRESS;
        if is_ours && state.is_none_or(DeliveryState::is_terminal) {
            let link = self.outgoing.slot(outbound.link);
            self.answered.push_back(link);
        }
    }

    /// Sends a neighbour a message of the control plane, annotations and all; `settled` unless it
    /// is to be answered.
    pub(crate) fn tell<W: Wire>(
        &mut self,
        wire: &mut W,
        now: Instant,
        link: Slot,
        message: Bytes,
        settled: bool,
    ) {
        let envelope = Envelope {
            is_stream: false,
            address: NO_ADDRESS,
            message_format: 0,
            settled,
            priority: CONTROL_PRIORITY,
            arrived: now,
            expires: None,
            state: None,
            passage: None,
            ingress: Ingress::Here,
            load: None,
            barred: None,
        };
        if let Some(outgoing) = self.outgoing.get_mut(link) {
            outgoing.load.add();
            self.enqueue(wire, link, Origin::Gone, envelope, message, false);
        }
    }
}

/// Messages of the control plane are to no address of the table.
const NO_ADDRESS: AddressId = AddressId(u32::MAX);

/// Before anything else.
const CONTROL_PRIORITY: u8 = 9;

/// Octets of the longest message that a neighbour may send: room for several hundred thousand
/// addresses.
const HEARD_MAX: usize = 64 * 1024 * 1024;
