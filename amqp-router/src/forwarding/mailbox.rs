//! What workers send each other, in batches.
//!
//! A delivery that crosses from one worker to another leaves its incoming half where it arrived
//! and gets an outgoing half where its link lives. The two know each other by [`Branch`]: the slot
//! of the incoming half, and which of its copies this is.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::codec::DeliveryState;
use crate::control::table::{AddressId, LinkLoad, Slot, WorkerId};
use crate::control::topology::Ingress;
use crate::forwarding::passage::Passage;
use crate::policy::Grant;

/// One copy of an incoming delivery, named so that both its halves can speak of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Branch {
    /// The worker that has the incoming half.
    pub(crate) worker: WorkerId,
    /// The incoming half.
    pub(crate) delivery: Slot,
    /// Its number among the copies of a multicast.
    pub(crate) copy: u16,
}

/// What an outgoing half must know besides the body.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) address: AddressId,
    pub(crate) message_format: u32,
    pub(crate) settled: bool,
    pub(crate) priority: u8,
    /// It goes on for as long as its sender likes, and its receiver waits for it: it is told of its
    /// end also where none of it has been sent.
    pub(crate) is_stream: bool,
    pub(crate) arrived: Instant,
    /// When the message's time to live runs out, if it has one.
    pub(crate) expires: Option<Instant>,
    /// The state that the sender gave with the transfer.
    pub(crate) state: Option<DeliveryState>,
    /// What is to be written ahead of it, if it goes to a router.
    pub(crate) passage: Option<Arc<Passage>>,
    /// Where it entered the network.
    pub(crate) ingress: Ingress,
    /// What counts it until it is settled, if not its outgoing link.
    pub(crate) load: Option<Arc<LinkLoad>>,
    /// Of a sender that policy does not let close connections by management.
    pub(crate) barred: Option<Arc<Grant>>,
}

impl Envelope {
    /// When the delivery came in, unless it is a stream, which takes the time it takes.
    pub(super) fn counted_from(&self) -> Option<Instant> {
        (!self.is_stream).then_some(self.arrived)
    }
}

/// A message from one worker to another.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A delivery for a link of yours.
    Start {
        link: Slot,
        branch: Branch,
        envelope: Box<Envelope>,
        payload: Bytes,
        more: bool,
    },
    /// More of its body.
    Continue {
        branch: Branch,
        payload: Bytes,
        more: bool,
    },
    /// Its sender is gone: give it up, unless all of it is there.
    Orphaned { branch: Branch },
    /// Its sender is cut off: give it up, even if all of it is there.
    Discarded { branch: Branch },
    /// Its sender settled it or changed its state.
    FromSender {
        branch: Branch,
        state: Option<DeliveryState>,
        settled: bool,
    },
    /// Its receiver settled it or changed its state.
    FromReceiver {
        branch: Branch,
        state: Option<DeliveryState>,
        settled: bool,
    },
    /// A frame of it, of so many octets, has left or will never leave.
    Through { branch: Branch, octets: usize },
    /// All of a presettled delivery has left, or will never leave.
    Done { branch: Branch },
}
