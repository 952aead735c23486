//! What arrives: from the first frame of a delivery on an incoming link to the last.

use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::codec::{DeliveryState, Progress, RouterAnnotations};
use crate::control::table::{AddressId, Slot};
use crate::control::topology::Ingress;
use crate::forwarding::Forwarder;
use crate::forwarding::aim::{Aim, rejected};
use crate::forwarding::delivery::{Copied, Inbound, Multicast, Undecided};
use crate::forwarding::inspect::{self, Inspected};
use crate::forwarding::links::Target;
use crate::forwarding::mailbox::Envelope;
use crate::forwarding::window::Places;
use crate::forwarding::wire::Wire;

/// A transfer frame, as an incoming link hands it over.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The incoming link.
    pub(crate) link: u32,
    /// The delivery's number in its session.
    pub(crate) number: u32,
    /// The message-format, on the first frame of a delivery.
    pub(crate) first: Option<u32>,
    pub(crate) settled: bool,
    pub(crate) state: Option<DeliveryState>,
    pub(crate) payload: Bytes,
    pub(crate) more: bool,
    pub(crate) aborted: bool,
}

/// A delivery whose first frame, or enough of it, is here.
pub(super) struct Fresh {
    pub(super) link: u32,
    pub(super) number: u32,
    pub(super) message_format: u32,
    pub(super) settled: bool,
    pub(super) state: Option<DeliveryState>,
    /// Octets that have come of it, as its place in the session's window counts them.
    pub(super) octets: u32,
    /// What is left of them to be sent.
    pub(super) payload: Bytes,
    pub(super) more: bool,
}

impl Forwarder {
    /// Takes a transfer frame in.
    pub(crate) fn transfer<W: Wire>(&mut self, wire: &mut W, now: Instant, mut arrival: Arrival) {
        let first = arrival.first.is_some();
        if self.is_oversized(wire, arrival.link, first, &arrival.payload) {
            arrival.aborted = true;
        }
        let place = Places::frame(arrival.payload.len());
        let incoming = &mut self.incoming[arrival.link];
        incoming.unreleased.add(place);
        if incoming.target == Target::Control {
            return self.hear(wire, arrival);
        }
        match arrival.first {
            Some(message_format) => {
                incoming.current = None;
                incoming.counts.deliveries += 1;
                if !incoming.from_router {
                    self.counts.came(incoming.party);
                }
                if arrival.aborted {
                    self.release(wire, arrival.link, place);
                    self.touch(arrival.link);
                    return;
                }
                incoming.held += 1;
                if incoming.from_router {
                    self.touch(arrival.link);
                }
                let fresh = Fresh {
                    link: arrival.link,
                    number: arrival.number,
                    message_format,
                    settled: arrival.settled,
                    state: arrival.state,
                    octets: place.octets,
                    payload: arrival.payload,
                    more: arrival.more,
                };
                self.begin(wire, now, fresh);
            }
            None => self.proceed(wire, now, arrival),
        }
    }

    /// Looks at the start of a message and forwards it, or waits for more of it.
    fn begin<W: Wire>(&mut self, wire: &mut W, now: Instant, mut fresh: Fresh) {
        let whole = fresh.payload.clone();
        if self.incoming[fresh.link].annotated {
            match self.read_course(fresh.link, &fresh.payload) {
                Progress::Complete(Ok(length)) => fresh.payload.advance(length),
                Progress::Complete(Err(_)) => {
                    let text = "malformed router annotations";
                    return self.refuse_malformed(wire, &fresh, "amqp:invalid-field", text);
                }
                Progress::NeedMore if fresh.may_wait() => {
                    return self.wait_for_sections(wire, fresh);
                }
                Progress::NeedMore | Progress::Malformed => {
                    let text = "malformed router annotations: they are not a list";
                    return self.refuse_malformed(wire, &fresh, "amqp:decode-error", text);
                }
            }
        }
        let aim = match self.aim(fresh.link) {
            Ok(aim) => aim,
            Err(outcome) => return self.refuse(wire, &fresh, outcome),
        };
        let checks_user = fresh.message_format == 0 && self.checks_user_id(fresh.link);
        let plain = !checks_user && inspect::is_plain(&fresh.payload);
        if let (Some(address), true) = (aim, plain) {
            let envelope = self.envelope(now, address, &mut fresh, None, None);
            return self.dispatch(wire, fresh, address, envelope);
        }
        let foreign = match checks_user {
            true => self.foreign_user(fresh.link, &fresh.payload, fresh.more),
            false => Progress::Complete(None),
        };
        let inspected = if let Progress::NeedMore = foreign {
            Inspected::NeedMore
        } else if let Progress::Malformed = foreign {
            Inspected::Malformed
        } else if fresh.message_format == 0 {
            inspect::inspect(&fresh.payload, fresh.more, aim.is_none())
        } else {
            Inspected::opaque()
        };
        match inspected {
            Inspected::Decided {
                strip,
                priority,
                time_to_live,
                to,
            } => {
                if let Progress::Complete(Some(user)) = foreign {
                    let outcome = self.deny_user(fresh.link, &user);
                    return self.refuse(wire, &fresh, outcome);
                }
                let address = match aim {
                    Some(address) => Ok(address),
                    None => self.resolve(fresh.link, to.as_deref()),
                };
                if let Some(strip) = strip {
                    fresh.payload = strip.apply(&fresh.payload);
                }
                match address {
                    Ok(address) => {
                        let envelope =
                            self.envelope(now, address, &mut fresh, priority, time_to_live);
                        self.dispatch(wire, fresh, address, envelope);
                    }
                    Err(outcome) => self.refuse(wire, &fresh, outcome),
                }
            }
            Inspected::NeedMore if fresh.may_wait() => {
                fresh.payload = whole;
                self.wait_for_sections(wire, fresh);
            }
            Inspected::NeedMore | Inspected::Malformed => {
                let text = "the message's sections are malformed";
                self.refuse_malformed(wire, &fresh, "amqp:decode-error", text);
            }
        }
    }

    fn envelope(
        &self,
        now: Instant,
        aim: Aim,
        fresh: &mut Fresh,
        priority: Option<u8>,
        time_to_live: Option<std::time::Duration>,
    ) -> Envelope {
        let address = match aim {
            Aim::Address(address) => address,
            Aim::Link { .. } => AddressId::NONE,
        };
        let configured = self.addresses.priority(address);
        let incoming = &self.incoming[fresh.link];
        Envelope {
            is_stream: self.is_stream(fresh.link),
            address,
            message_format: fresh.message_format,
            settled: fresh.settled,
            priority: configured
                .or(priority)
                .unwrap_or(DEFAULT_PRIORITY)
                .min(MAX_PRIORITY),
            arrived: now,
            expires: time_to_live.and_then(|ttl| now.checked_add(ttl)),
            state: fresh.state.take(),
            passage: None,
            ingress: Ingress::Here,
            load: None,
            barred: incoming.limited.barred(),
        }
    }

    /// Whether what begins on a link goes on for as long as its sender likes.
    pub(super) fn is_stream(&self, link: u32) -> bool {
        let incoming = &self.incoming[link];
        match &incoming.course {
            Some(course) => course.passage.is_streaming(),
            None => incoming.flags & RouterAnnotations::STREAMING != 0,
        }
    }

    /// Keeps the start of a message until the sections that say where it goes are complete.
    fn wait_for_sections<W: Wire>(&mut self, wire: &mut W, mut fresh: Fresh) {
        let undecided = Undecided {
            received: BytesMut::from(&fresh.payload[..]),
            message_format: fresh.message_format,
            state: fresh.state.take(),
        };
        let delivery = self.add_inbound(wire, &fresh, None, SmallVec::new(), None);
        let inbound = &mut self.inbound[delivery.index];
        inbound.undecided = Some(Box::new(undecided));
    }

    /// Looks again at a message whose first sections were incomplete.
    fn decide<W: Wire>(&mut self, wire: &mut W, now: Instant, delivery: u32, arrival: Arrival) {
        let link = arrival.link;
        let inbound = &mut self.inbound[delivery];
        let Some(mut undecided) = inbound.undecided.take() else {
            return;
        };
        undecided.received.extend_from_slice(&arrival.payload);
        let (number, settled) = (inbound.number, inbound.settled);
        // The message starts over as if all of it had come in one frame, which keeps one place in
        // the window; the places of the others are let go.
        let Places { frames, octets } = std::mem::take(&mut inbound.unreleased);
        let surplus = Places {
            frames: frames.saturating_sub(1),
            octets: 0,
        };
        self.remove_inbound(wire, delivery, false);
        self.incoming[link].current = None;
        self.release(wire, link, surplus);
        let fresh = Fresh {
            link,
            number,
            message_format: undecided.message_format,
            settled,
            state: undecided.state,
            octets,
            payload: undecided.received.freeze(),
            more: arrival.more,
        };
        self.begin(wire, now, fresh);
    }

    /// Takes a further frame of the delivery that is arriving on a link.
    fn proceed<W: Wire>(&mut self, wire: &mut W, now: Instant, arrival: Arrival) {
        let place = Places::frame(arrival.payload.len());
        let Some(delivery) = self.incoming[arrival.link].current else {
            // Already refused: the rest is let by.
            return self.release(wire, arrival.link, place);
        };
        if !arrival.more || arrival.aborted {
            self.incoming[arrival.link].current = None;
        }
        let inbound = &mut self.inbound[delivery];
        inbound.unreleased.add(place);
        if arrival.aborted {
            return self.orphan(wire, delivery);
        }
        if arrival.settled && !inbound.settled {
            self.sender_settled(wire, delivery, None);
        }
        let inbound = &mut self.inbound[delivery];
        inbound.complete = !arrival.more;
        if inbound.undecided.is_some() {
            return self.decide(wire, now, delivery, arrival);
        }
        if inbound.copies.is_empty() {
            // It has been refused, and only its end is waited for.
            inbound.unreleased.remove(place);
            self.release(wire, arrival.link, place);
        } else {
            self.keep(delivery, &arrival.payload);
            self.release_piece_early(wire, delivery, arrival.payload.len());
            self.pass_on(wire, delivery, arrival.payload, arrival.more);
        }
        self.finish_if_done(wire, delivery);
    }

    /// Makes the incoming half of a delivery that goes where `copies` say.
    pub(super) fn add_inbound<W: Wire>(
        &mut self,
        wire: &mut W,
        fresh: &Fresh,
        arrived: Option<Instant>,
        copies: SmallVec<[Copied; 1]>,
        multicast: Option<Box<Multicast>>,
    ) -> Slot {
        let inbound = Inbound {
            link: fresh.link,
            number: fresh.number,
            settled: fresh.settled,
            complete: !fresh.more,
            unreleased: fresh.place(),
            early: 0,
            early_pieces: 0,
            presettled: fresh.settled,
            copies,
            multicast,
            outcome: None,
            arrived,
            undecided: None,
            resend: None,
        };
        let delivery = self.inbound.insert(inbound);
        let incoming = &mut self.incoming[fresh.link];
        self.inbound.chain(&mut incoming.deliveries, delivery.index);
        if !fresh.settled {
            wire.watch(incoming.terminal, fresh.number, delivery.index);
        }
        if fresh.more {
            incoming.current = Some(delivery.index);
        } else {
            self.release_early(wire, delivery.index, fresh.payload.len());
        }
        delivery
    }

    /// Gives a delivery back to its sender; frames still to come are let by.
    pub(super) fn refuse<W: Wire>(&mut self, wire: &mut W, fresh: &Fresh, outcome: DeliveryState) {
        let incoming = &self.incoming[fresh.link];
        let unfinished = fresh.more && !fresh.settled && !self.is_stream(fresh.link);
        if unfinished && incoming.settles_whole {
            return self.refuse_early(wire, fresh, outcome);
        }
        let incoming = &mut self.incoming[fresh.link];
        incoming.held -= 1;
        if fresh.settled {
            incoming.counts.presettled += 1;
            incoming.counts.dropped_presettled += 1;
            self.counts.outcomes.presettled += 1;
            self.counts.outcomes.dropped_presettled += 1;
        } else {
            incoming
                .counts
                .settled(Some(&outcome), std::time::Duration::ZERO);
            self.counts
                .outcomes
                .settled(Some(&outcome), std::time::Duration::ZERO);
            wire.update(incoming.terminal, fresh.number, Some(&outcome), true);
        }
        self.release(wire, fresh.link, fresh.place());
        self.touch(fresh.link);
    }

    /// The same where it is settled only when all of it is here.
    #[cold]
    fn refuse_early<W: Wire>(&mut self, wire: &mut W, fresh: &Fresh, outcome: DeliveryState) {
        let terminal = self.incoming[fresh.link].terminal;
        wire.update(terminal, fresh.number, Some(&outcome), false);
        let outcomes = &mut self.counts.outcomes;
        outcomes.settled(Some(&outcome), std::time::Duration::ZERO);
        let delivery = self.add_inbound(wire, fresh, None, SmallVec::new(), None);
        let inbound = &mut self.inbound[delivery.index];
        inbound.outcome = Some(Box::new(outcome));
        let place = std::mem::take(&mut inbound.unreleased);
        self.release(wire, fresh.link, place);
    }

    /// The same for one that cannot be read, which the log tells of.
    fn refuse_malformed<W: Wire>(
        &mut self,
        wire: &mut W,
        fresh: &Fresh,
        condition: &'static str,
        text: &'static str,
    ) {
        self.note_malformed(fresh.link, text);
        self.refuse(wire, fresh, rejected(condition, text));
    }
}

impl Fresh {
    /// What it holds of the session's window.
    pub(super) fn place(&self) -> Places {
        Places {
            frames: 1,
            octets: self.octets,
        }
    }

    /// Whether what is missing of its first sections may still come.
    fn may_wait(&self) -> bool {
        self.more && self.payload.len() < inspect::MAX_SECTIONS
    }
}

/// Of a message whose header says nothing and whose address has none.
const DEFAULT_PRIORITY: u8 = 4;
const MAX_PRIORITY: u8 = 9;
