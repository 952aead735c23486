//! The two halves of a delivery.

use std::time::Instant;

use bytes::BytesMut;
use smallvec::SmallVec;

use crate::codec::DeliveryState;
use crate::control::table::{Slot, WorkerId};
use crate::forwarding::mailbox::{Branch, Envelope};
use crate::forwarding::resend::Resend;
use crate::forwarding::stream::{Body, Progress};
use crate::forwarding::window::Places;

/// The half of a delivery where it arrived.
///
/// A delivery that came presettled, in one frame, and goes to one link of the same worker has none:
/// nobody will ask for it again.
#[derive(Debug)]
pub(super) struct Inbound {
    /// The incoming link.
    pub(super) link: u32,
    /// Its delivery-id in the session that it came through.
    pub(super) number: u32,
    /// The sender has settled it, or has been told that it is settled.
    pub(super) settled: bool,
    /// Its last frame has arrived.
    pub(super) complete: bool,
    /// What its frames hold of the session's window.
    pub(super) unreleased: Places,
    /// Octets that are counted on its link instead of such a place.
    pub(super) early: usize,
    /// Of them, frames that came before the last one and have not left.
    pub(super) early_pieces: u32,
    /// It came settled, so its copies' departure is all there is to wait for.
    pub(super) presettled: bool,
    pub(super) copies: SmallVec<[Copied; 1]>,
    /// What only a multicast needs.
    pub(super) multicast: Option<Box<Multicast>>,
    /// What the sender has been told became of it, and is to settle.
    pub(super) outcome: Option<Box<DeliveryState>>,
    /// When it came in; unknown of a stream, which takes the time it takes, and while it is not
    /// known where the message goes.
    pub(super) arrived: Option<Instant>,
    /// Where the message goes is not known yet: the sections that say so are still arriving.
    pub(super) undecided: Option<Box<Undecided>>,
    /// What it takes to send it to somebody else. The last copy counts then.
    pub(super) resend: Option<Box<Resend>>,
}

/// Where one copy went and what has become of it.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) worker: WorkerId,
    /// The outgoing half, if it is on this worker.
    pub(super) outbound: Option<Slot>,
    /// Frames that it is through with.
    pub(super) through: u32,
    /// Frames that have yet to leave and hold no place: another had them before.
    pub(super) again: u32,
    /// Its receiver has said its last word.
    pub(super) terminal: bool,
    /// Nothing more will be heard of it.
    pub(super) done: bool,
    /// It takes no more frames. A receiver that has accepted early still gets the rest.
    pub(super) closed: bool,
}

impl Inbound {
    /// More of it is to come, and not for as long as its sender likes.
    pub(super) fn is_unfinished(&self) -> bool {
        !self.complete && self.arrived.is_some()
    }

    /// Whether what is said of a copy is said of the delivery: of all copies of a multicast, and of
    /// the last of those that were sent one after the other.
    #[inline]
    pub(super) fn has(&self, copy: u16) -> bool {
        let copy = usize::from(copy);
        copy + 1 == self.copies.len() || self.multicast.is_some() && copy < self.copies.len()
    }
}

impl Copied {
    pub(super) fn new(worker: WorkerId) -> Self {
        Self {
            worker,
            outbound: None,
            through: 0,
            again: 0,
            terminal: false,
            done: false,
            closed: false,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Multicast {
    pub(super) progress: Progress,
    /// The most significant outcome so far.
    pub(super) outcome: Option<DeliveryState>,
}

#[derive(Debug)]
pub(super) struct Undecided {
    pub(super) received: BytesMut,
    pub(super) message_format: u32,
    pub(super) state: Option<DeliveryState>,
}

/// The half of a delivery on a link that it leaves by.
#[derive(Debug)]
pub(super) struct Outbound {
    /// The outgoing link.
    pub(super) link: u32,
    pub(super) origin: Origin,
    pub(super) envelope: Envelope,
    pub(super) body: Body,
    /// Its delivery-id in the session that it leaves through, once it has started to.
    pub(super) number: Option<u32>,
    /// Its sender gave it up, or its receiver does not want the rest.
    pub(super) aborted: bool,
    /// The link that it is for, if it was given another because it was not complete.
    pub(super) home: Option<Slot>,
    /// It waits to be complete before it is queued, so that it need not keep a link to itself.
    pub(super) held: bool,
    /// All of it has been sent, and it waits in the link's chain for its outcome.
    pub(super) sent: bool,
    /// What became of it, of which the receiver waits to hear that it is settled.
    pub(super) outcome: Option<Box<DeliveryState>>,
}

impl Outbound {
    /// Part of it has been sent, and more of it may wait for yet more.
    pub(super) fn is_between_frames(&self) -> bool {
        self.number.is_some() && !self.body.is_empty()
    }
}

/// Who waits to hear of an outgoing half.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// An incoming link of this worker, which sent it presettled and in one frame.
    Link(Slot),
    /// An incoming half.
    Branch(Branch),
    /// Nobody.
    Gone,
}

/// How much one copy's outcome counts against another's (`reference/router/inter-router-protocol.md`
/// §6): rejected, accepted, modified, released.
pub(super) fn significance(state: &DeliveryState) -> u8 {
    match state {
        DeliveryState::Rejected(_) => 4,
        DeliveryState::Accepted => 3,
        DeliveryState::Modified(_) => 2,
        DeliveryState::Released => 1,
        _ => 0,
    }
}
