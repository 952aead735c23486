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
use crate::forwarding::Forwarder;
use crate::forwarding::delivery::Origin;
use crate::forwarding::passage::Passage;
use crate::forwarding::wire::Wire;
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
    /// Nothing more comes of an older table than the control plane's last.
    Fence,
}

impl Forwarder {
    /// Hands a delivery to a link of another worker.
    pub(super) fn post_start(
        &mut self,
        worker: WorkerId,
        link: Slot,
        branch: Branch,
        envelope: Envelope,
        payload: Bytes,
        more: bool,
    ) {
        let envelope = Box::new(envelope);
        self.post(
            worker,
            Mail::Start {
                link,
                branch,
                envelope,
                payload,
                more,
            },
        );
    }

    pub(super) fn post(&mut self, worker: WorkerId, mail: Mail) {
        self.mail.push_back((worker, mail));
    }

    /// Tells all other workers that they have been given all that is on its way by an older table
    /// than this worker has now.
    pub(crate) fn fence(&mut self) {
        self.fenced += 1;
        let me = self.settings.worker;
        for other in (0..self.settings.workers).map(WorkerId) {
            if other != me {
                self.post(other, Mail::Fence);
            }
        }
    }

    /// Whether all workers have told each other so, this one among them: once for each time.
    pub(crate) fn poll_fenced(&mut self) -> bool {
        let all = self.fenced >= self.settings.workers && self.fenced > 0;
        if all {
            self.fenced = 0;
        }
        all
    }

    /// How many workers the router has.
    pub(crate) fn workers(&self) -> u16 {
        self.settings.workers
    }

    /// The next message for another worker.
    pub(crate) fn poll_mail(&mut self) -> Option<(WorkerId, Mail)> {
        self.mail.pop_front()
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
                // One that has been sent stays: it is still to hear that its sender is gone.
                if let Some(&delivery) = self.foreign.get(&branch) {
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
            Mail::Fence => self.fenced += 1,
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
