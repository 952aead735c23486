//! Deliveries that go to somebody else when they are given back
//! (`reference/router/inter-router-protocol.md` §6, resend-released).
//!
//! Whoever attaches to a target with the capability `qd.resend-released` asks for it, and routers
//! tell each other with a flag of the router annotations. Each router that a message passes tries
//! all its ways before it gives the message back itself, the best first, so the sender hears of
//! RELEASED when nobody is left. What was sent is kept until its receiver says anything else.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{DeliveryState, RouterAnnotations};
use crate::control::address::AddressKey;
use crate::control::edge_mesh::MeshId;
use crate::control::table::{AddressId, LinkLoad, Treatment};
use crate::control::topology::Ingress;
use crate::forwarding::Forwarder;
use crate::forwarding::addresses::{Choice, Lane};
use crate::forwarding::delivery::{Copied, Origin};
use crate::forwarding::links::{Incoming, Target};
use crate::forwarding::mailbox::{Branch, Envelope, Mail};
use crate::forwarding::passage::{Course, Passage};
use crate::forwarding::treatment::{Journey, Tried};
use crate::forwarding::wire::Wire;

/// What it takes to send a delivery to another destination.
#[derive(Debug)]
pub(super) struct Resend {
    /// Without what depends on where it goes.
    envelope: Envelope,
    /// Tells a later address with the same id from the one that was meant.
    key: AddressKey,
    /// The annotations that it came with.
    section: Option<Bytes>,
    /// The address that its annotations are to name, if others than those it came with.
    to: Option<Box<str>>,
    /// Its frames so far.
    frames: Vec<Bytes>,
    /// What they count.
    octets: usize,
    /// Where it has been.
    tried: Vec<Arc<LinkLoad>>,
    /// Who has given it back, and was not lost with it.
    refusals: Vec<Arc<LinkLoad>>,
    /// It stays where it is, and counts for what waits there a second time.
    stays: bool,
}

impl Incoming {
    /// Whether the sender of a link's current delivery wants it to be tried elsewhere.
    #[inline]
    pub(super) fn resends(&self) -> bool {
        let flagged = match &self.course {
            Some(course) => course.resends && !course.prompt,
            None => false,
        };
        flagged || self.flags & RouterAnnotations::RESEND_RELEASED != 0
    }
}

impl Forwarder {
    /// What it takes to send a link's current delivery again, if its address has one destination
    /// for each delivery.
    #[cold]
    pub(super) fn resend_of(&self, link: u32, envelope: &Envelope) -> Option<Box<Resend>> {
        let address = envelope.address;
        let treatment = self.addresses.treatment(address)?;
        if envelope.settled || treatment == Treatment::Multicast {
            return None;
        }
        let incoming = &self.incoming[link];
        let to = match incoming.target {
            _ if incoming.from_router => None,
            Target::Anonymous => incoming.last_to.as_ref().map(|last| last.to.clone()),
            _ => incoming.address.clone(),
        };
        let mut envelope = envelope.clone();
        envelope.passage = None;
        let load = envelope.load.take();
        let course = incoming.course.as_ref();
        Some(Box::new(Resend {
            key: self.addresses.key(address)?.clone(),
            envelope,
            section: course.map(|course| course.section().clone()),
            to,
            frames: Vec::new(),
            octets: 0,
            tried: load.into_iter().collect(),
            refusals: Vec::new(),
            stays: false,
        }))
    }

    /// Keeps a frame for another attempt, if there is to be one. Beyond a bound for each link, and
    /// one for all of the worker, nothing is: its delivery goes on as others do.
    pub(super) fn keep(&mut self, delivery: u32, payload: &Bytes) {
        let inbound = &mut self.inbound[delivery];
        let Some(resend) = inbound.resend.as_mut().filter(|resend| !resend.stays) else {
            return;
        };
        let octets = payload.len() + FRAME_OVERHEAD;
        let incoming = &mut self.incoming[inbound.link];
        if incoming.kept + octets > KEPT_OF_LINK || self.kept + octets > KEPT_MAX {
            return self.forget_resend(delivery);
        }
        incoming.kept += octets;
        self.kept += octets;
        resend.octets += octets;
        // A copy, so that it does not keep what was read with it.
        resend.frames.push(Bytes::copy_from_slice(payload));
    }

    /// A delivery stays where it is. What waits there without a place in the session's window goes
    /// on counting as kept.
    #[cold]
    pub(super) fn forget_resend(&mut self, delivery: u32) {
        let inbound = &mut self.inbound[delivery];
        if let (Some(resend), Some(last)) = (&mut inbound.resend, inbound.copies.last())
            && last.again > 0
        {
            resend.frames = Vec::new();
            resend.stays = true;
            return;
        }
        if let Some(resend) = inbound.resend.take() {
            let link = inbound.link;
            self.keep_no_more(link, &resend);
        }
    }

    /// What was kept for a delivery is not any more.
    pub(super) fn keep_no_more(&mut self, link: u32, resend: &Resend) {
        self.incoming[link].kept -= resend.octets;
        self.kept -= resend.octets;
    }

    /// The last copy of a delivery has come back: sends it to another destination. False if there
    /// is none.
    #[cold]
    pub(super) fn resend<W: Wire>(&mut self, wire: &mut W, branch: Branch, settled: bool) -> bool {
        let delivery = branch.delivery.index;
        let Some(mut resend) = self.inbound[delivery].resend.take() else {
            return false;
        };
        let refusal = resend.tried.last().filter(|load| !load.is_retired());
        resend.refusals.extend(refusal.cloned());
        let link = self.inbound[delivery].link;
        let course = resend.section.clone();
        let course = course.and_then(|section| Course::read(section, &self.topology).ok());
        let choice = match resend.may_go_on(self.latest) {
            true => self.choose_again(link, &resend, course.as_ref()),
            false => None,
        };
        let Some(mut choice) = choice else {
            self.keep_no_more(link, &resend);
            return false;
        };
        self.counts.resent += 1;
        self.leave(wire, branch, settled);
        let mut envelope = resend.envelope.clone();
        envelope.load = choice.load.take();
        resend.tried.extend(envelope.load.clone());
        if choice.annotated {
            envelope.passage = Some(self.passage_again(link, &resend, course.as_ref()));
        }
        let trace = |_: &Self| course.as_ref().and_then(Course::trace);
        let (worker, to) = self.way_out(wire, choice.outlet, trace);
        let inbound = &mut self.inbound[delivery];
        let complete = inbound.complete;
        let frames = resend.frames.clone();
        let held = inbound.unreleased.frames + inbound.early_pieces;
        inbound.copies.push(Copied {
            again: (frames.len() as u32).saturating_sub(held),
            ..Copied::new(worker)
        });
        inbound.resend = Some(resend);
        let branch = Branch {
            copy: branch.copy + 1,
            ..branch
        };
        let last = frames.len().saturating_sub(1);
        for (at, frame) in frames.into_iter().enumerate() {
            let more = at < last || !complete;
            if at > 0 {
                self.pass_to(wire, branch, frame, more);
            } else if worker == self.settings.worker {
                let origin = Origin::Branch(branch);
                let outbound = self.enqueue(wire, to, origin, envelope.clone(), frame, more);
                // It may have come back at once.
                match self.inbound.get_mut(branch.delivery) {
                    Some(inbound) if inbound.has(branch.copy) => {
                        inbound.copies[usize::from(branch.copy)].outbound = outbound;
                    }
                    _ => return true,
                }
            } else {
                self.post_start(worker, to, branch, envelope.clone(), frame, more);
            }
        }
        true
    }

    /// The next destination of a delivery; it is counted there.
    fn choose_again(
        &mut self,
        link: u32,
        resend: &Resend,
        course: Option<&Course>,
    ) -> Option<Choice> {
        let address: AddressId = resend.envelope.address;
        if self.addresses.key(address) != Some(&resend.key)
            || self.addresses.treatment(address) == Some(Treatment::Multicast)
        {
            return None;
        }
        let mesh: Option<MeshId> = course.and_then(|course| course.mesh);
        let journey = Journey {
            topology: &self.topology,
            ingress: course.map_or(Ingress::Here, |course| course.ingress),
            passed: &[],
            side: self.incoming[link].side.within(mesh),
            leads_up: false,
            prompt: false,
            tried: Some(Tried {
                loads: &resend.tried,
                refusals: &resend.refusals,
                thorough: true,
            }),
        };
        let lane = Lane {
            priority: resend.envelope.priority,
            stream: resend.envelope.is_stream.then_some(self.settings.worker),
        };
        let mut chosen = Vec::new();
        self.addresses.choose(address, &journey, lane, &mut chosen);
        chosen.pop()
    }

    /// What goes ahead of it to a router.
    fn passage_again(&self, link: u32, resend: &Resend, course: Option<&Course>) -> Arc<Passage> {
        match (course, &resend.to) {
            (Some(course), Some(to)) => course.passage_to(to),
            (Some(course), None) => Arc::clone(&course.passage),
            (None, to) => {
                let flags = self.incoming[link].flags;
                Passage::entering(to.as_deref(), &self.topology, flags)
            }
        }
    }

    /// Ends the copy that has come back.
    fn leave<W: Wire>(&mut self, wire: &mut W, branch: Branch, settled: bool) {
        let inbound = &mut self.inbound[branch.delivery.index];
        let copied = &mut inbound.copies[usize::from(branch.copy)];
        (copied.terminal, copied.done, copied.closed) = (true, true, true);
        let (worker, outbound) = (copied.worker, copied.outbound);
        match outbound {
            // Its receiver has settled it, and nobody needs to say more.
            _ if settled => {}
            Some(outbound) => self.orphan_copy(wire, outbound),
            None if worker != self.settings.worker => self.post(worker, Mail::Orphaned { branch }),
            None => {}
        }
    }
}

impl Resend {
    /// Whether it may be tried once more.
    fn may_go_on(&self, now: Option<std::time::Instant>) -> bool {
        let expired = self.envelope.expires.zip(now);
        !self.stays
            && self.tried.len() < ATTEMPTS_MAX
            && expired.is_none_or(|(expires, now)| now < expires)
    }
}

/// Whether a state says that a delivery has been given back untouched.
pub(super) fn is_given_back(state: Option<&DeliveryState>) -> bool {
    matches!(state, Some(DeliveryState::Released))
}

/// Destinations that get one delivery one after the other: a bound on what it can cost.
const ATTEMPTS_MAX: usize = 256;
/// Octets that a worker keeps to be sent again.
const KEPT_MAX: usize = 64 * 1024 * 1024;
/// Of them, those of one link's deliveries.
const KEPT_OF_LINK: usize = 16 * 1024 * 1024;
/// What each frame counts beside its octets.
const FRAME_OVERHEAD: usize = 64;
