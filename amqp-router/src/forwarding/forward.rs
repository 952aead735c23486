//! From an incoming link to the address's outgoing links.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::codec::{DeliveryState, Progress, RouterAnnotations};
use crate::control::address::Identity;
use crate::control::pattern::PatternTree;
use crate::control::table::{
    AddressId, Direction, LinkLoad, LinkRef, Outlet, Slot, Treatment, WorkerId,
};
use crate::control::topology::{Ingress, Topology};
use crate::forwarding::addresses::{Addresses, Choice, Lane};
use crate::forwarding::aim::{Aim, rejected};
use crate::forwarding::delivery::{Copied, Inbound, Multicast, Origin, Outbound, Undecided};
use crate::forwarding::finishing::Finishing;
use crate::forwarding::inspect::{self, Inspected};
use crate::forwarding::limits::{Denied, Malformed};
use crate::forwarding::links::{Incoming, Outgoing, OutgoingTraits, Target};
use crate::forwarding::mailbox::{Branch, Envelope, Mail};
use crate::forwarding::replies::Replies;
use crate::forwarding::resend::Resend;
use crate::forwarding::stats::{AddressCounts, Ages, Patience, Pool, Trouble, WorkerCounts};
use crate::forwarding::streams::Streams;
use crate::forwarding::table::Table;
use crate::forwarding::treatment::{Journey, Tried};
use crate::forwarding::wire::{Places, Wire};

/// The data plane of one worker.
///
/// Its owner hands it what arrives (transfers, dispositions, credit, mail), then ends the turn;
/// everything it wants done it asks of [`Wire`] meanwhile, except what is for other workers, which
/// [`poll_mail`](Self::poll_mail) hands out.
#[derive(Debug)]
pub(crate) struct Forwarder {
    pub(super) settings: Settings,
    pub(super) addresses: Addresses,
    pub(super) topology: Arc<Topology>,
    pub(super) incoming: Table<Incoming>,
    pub(super) outgoing: Table<Outgoing>,
    pub(super) inbound: Table<Inbound>,
    pub(super) outbound: Table<Outbound>,
    /// Outgoing halves whose incoming half is on another worker.
    pub(super) foreign: HashMap<Branch, u32>,
    /// Outgoing links to be served this turn, by the priority of what they wait with.
    pub(super) ready: [Vec<u32>; PRIORITIES],
    /// Outgoing links that wait for room, by connection.
    pub(super) blocked: HashMap<u32, Vec<u32>>,
    /// Links to routers that wait for messages which are not complete.
    pub(super) streams: Streams,
    /// Incoming links whose credit is to be looked at.
    pub(super) dirty: Vec<u32>,
    /// Incoming links that at the last tick were waited for with their window shut.
    pub(super) starving: Vec<u32>,
    pub(super) counts: WorkerCounts,
    pub(super) ticks: u32,
    /// Messages of neighbours for the control plane.
    pub(super) heard: VecDeque<(Slot, Bytes)>,
    /// Links by which the control plane's messages have been answered.
    pub(super) answered: VecDeque<Slot>,
    pub(super) denied: VecDeque<Denied>,
    pub(super) malformed: Vec<Malformed>,
    /// How addresses are treated that nobody has attached to.
    pub(super) rules: PatternTree<Treatment>,
    pub(super) troubles: VecDeque<(LinkRef, Trouble)>,
    /// The latest time that is known: what is counted by seconds asks for no more.
    pub(super) latest: Option<Instant>,
    pub(super) ages: Ages,
    mail: VecDeque<(WorkerId, Mail)>,
    /// Room to choose links in.
    chosen: Vec<Choice>,
    /// What counts deliveries that were sent to one link by name.
    direct: Arc<LinkLoad>,
    /// Destinations that others are preferred to, and until when.
    pub(super) failing: Vec<(Instant, Arc<LinkLoad>)>,
    /// Octets that are kept to be sent again.
    pub(super) kept: usize,
    /// Links that are to go.
    pub(super) finishing: Vec<Finishing>,
    /// It knows nothing of prompt streams, like a skrouterd.
    #[cfg(test)]
    pub(crate) is_foreign: bool,
}

/// What a forwarder must know of its router.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) worker: WorkerId,
    pub(crate) identity: Arc<Identity>,
    /// How addresses that nobody has attached to are treated.
    pub(crate) default_treatment: Treatment,
    pub(crate) replies: Replies,
    pub(crate) patience: Patience,
}

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
struct Fresh {
    link: u32,
    number: u32,
    message_format: u32,
    settled: bool,
    state: Option<DeliveryState>,
    /// Octets that have come of it, as its place in the session's window counts them.
    octets: u32,
    /// What is left of them to be sent.
    payload: Bytes,
    more: bool,
}

impl Forwarder {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            addresses: Addresses::default(),
            topology: Arc::default(),
            streams: Streams::default(),
            incoming: Table::default(),
            outgoing: Table::default(),
            inbound: Table::default(),
            outbound: Table::default(),
            foreign: HashMap::new(),
            ready: Default::default(),
            blocked: HashMap::new(),
            dirty: Vec::new(),
            starving: Vec::new(),
            counts: WorkerCounts::default(),
            ticks: 0,
            heard: VecDeque::new(),
            answered: VecDeque::new(),
            denied: VecDeque::new(),
            malformed: Vec::new(),
            rules: PatternTree::default(),
            troubles: VecDeque::new(),
            latest: None,
            ages: Ages::default(),
            mail: VecDeque::new(),
            chosen: Vec::new(),
            direct: Arc::default(),
            failing: Vec::new(),
            kept: 0,
            finishing: Vec::new(),
            #[cfg(test)]
            is_foreign: false,
        }
    }

    /// The next message for another worker.
    pub(crate) fn poll_mail(&mut self) -> Option<(WorkerId, Mail)> {
        self.mail.pop_front()
    }

    /// What the router must know of itself has changed, and with it what addresses mean.
    pub(crate) fn set_identity(&mut self, identity: Arc<Identity>) {
        self.settings.identity = identity;
        for (_, incoming) in self.incoming.iter_mut() {
            incoming.last_to = None;
            if let Some(course) = &mut incoming.course {
                course.address = None;
            }
        }
    }

    /// Whether this is an edge router.
    pub(crate) fn is_edge(&self) -> bool {
        self.settings.identity.edge
    }

    /// The memory that links and deliveries have.
    pub(crate) fn pools(&self) -> [Pool; 4] {
        [
            self.incoming.pool("incoming_link"),
            self.outgoing.pool("outgoing_link"),
            self.inbound.pool("incoming_delivery"),
            self.outbound.pool("outgoing_delivery"),
        ]
    }

    pub(crate) fn counts(&self) -> WorkerCounts {
        self.counts
    }

    pub(crate) fn address_counts(&self) -> impl Iterator<Item = (AddressId, AddressCounts)> {
        self.addresses.counts()
    }

    pub(crate) fn counts_of(
        &self,
        addresses: &HashSet<AddressId>,
    ) -> Vec<(AddressId, AddressCounts)> {
        let counts = |id: &AddressId| Some((*id, self.addresses.counts_of(*id)?));
        addresses.iter().filter_map(counts).collect()
    }

    /// Deliveries on their way through this worker.
    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.inbound.len() + self.outbound.len()
    }

    /// Both halves of all deliveries that are here.
    #[cfg(test)]
    pub(crate) fn describe(&self) -> String {
        let inbound: Vec<_> = self.inbound.iter().map(|(_, one)| one).collect();
        let outbound: Vec<_> = self.outbound.iter().map(|(_, one)| one).collect();
        format!("{inbound:?}, {outbound:?}")
    }

    /// Serves the links that have something to send and tops up credit. Nothing is left undone
    /// that could be done now.
    pub(crate) fn end_turn<W: Wire>(&mut self, wire: &mut W, now: Instant) {
        self.latest = Some(now);
        self.serve(wire, now);
        self.grant_credit(wire, now);
        if !self.finishing.is_empty() {
            self.close_finished(wire, now);
        }
    }

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
                Progress::Complete(length) => fresh.payload.advance(length),
                Progress::NeedMore if fresh.may_wait() => {
                    return self.wait_for_sections(wire, fresh);
                }
                Progress::NeedMore | Progress::Malformed => {
                    let text = "malformed router annotations";
                    return self.refuse_malformed(wire, &fresh, "amqp:invalid-field", text);
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
            true => self.foreign_user(fresh.link, &fresh.payload),
            false => Progress::Complete(None),
        };
        let inspected = if let Progress::NeedMore = foreign {
            Inspected::NeedMore
        } else if let Progress::Malformed = foreign {
            Inspected::Malformed
        } else if fresh.message_format == 0 {
            inspect::inspect(&fresh.payload, aim.is_none())
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
    fn is_stream(&self, link: u32) -> bool {
        let incoming = &self.incoming[link];
        match &incoming.course {
            Some(course) => course.passage.is_streaming(),
            None => incoming.flags & RouterAnnotations::STREAMING != 0,
        }
    }

    /// Hands a delivery to the links that its address's treatment chooses.
    fn dispatch<W: Wire>(&mut self, wire: &mut W, fresh: Fresh, aim: Aim, mut envelope: Envelope) {
        let mut chosen = std::mem::take(&mut self.chosen);
        let incoming = &self.incoming[fresh.link];
        let from_router = incoming.from_router;
        let course = incoming.course.as_deref();
        let prompt = from_router && course.is_some_and(|course| course.prompt);
        #[cfg(test)]
        let prompt = prompt && !self.is_foreign;
        let resends = incoming.resends();
        let journey = Journey {
            topology: &self.topology,
            ingress: course.map_or(Ingress::Here, |course| course.ingress),
            passed: course.map_or(&[], |course| &course.passed),
            tried: match resends {
                true => Some(Tried {
                    loads: &[],
                    thorough: true,
                }),
                false => incoming.tried.as_deref().map(|loads| Tried {
                    loads,
                    thorough: false,
                }),
            },
            side: incoming.side.within(course.and_then(|course| course.mesh)),
            leads_up: self.leads_up(incoming),
            // On its way to a router that takes it, anybody may pass it on.
            prompt: prompt && self.addresses.is_mobile(envelope.address),
        };
        envelope.ingress = journey.ingress;
        let address = envelope.address;
        let lane = Lane {
            priority: envelope.priority,
            stream: envelope.is_stream.then_some(self.settings.worker),
        };
        match aim {
            Aim::Link { worker, link } => {
                chosen.clear();
                chosen.push(Choice::direct(worker, link, &self.direct));
            }
            Aim::Address(address) => {
                self.addresses.choose(address, &journey, lane, &mut chosen);
            }
        }
        if !from_router {
            let party = self.incoming[fresh.link].party;
            self.addresses.count_ingress(address, party);
        }
        let incoming = &mut self.incoming[fresh.link];
        incoming.is_prompt = false;
        if let Some(tried) = &mut incoming.tried {
            tried.extend(chosen.iter().filter_map(|choice| choice.load.clone()));
        }
        if chosen.iter().any(|choice| choice.annotated) {
            envelope.passage = Some(match &chosen[..] {
                [one] => self.passage_by(fresh.link, address, one.prompt),
                _ => self.passage(fresh.link),
            });
        }
        match &mut *chosen {
            [] => {
                let incoming = &self.incoming[fresh.link];
                if incoming.target != Target::Anonymous && !from_router {
                    wire.drain(incoming.terminal);
                }
                self.refuse(wire, &fresh, DeliveryState::Released);
            }
            [choice] => {
                envelope.load = choice.load.take();
                let outlet = choice.outlet;
                let resend = match resends {
                    true => self.resend_of(fresh.link, &envelope),
                    false => None,
                };
                self.forward_to(wire, fresh, envelope, outlet, resend);
            }
            _ => self.fan_out(wire, fresh, envelope, &mut chosen),
        }
        self.chosen = chosen;
    }

    /// Hands a delivery to the only link that gets it.
    fn forward_to<W: Wire>(
        &mut self,
        wire: &mut W,
        fresh: Fresh,
        envelope: Envelope,
        outlet: Outlet,
        resend: Option<Box<Resend>>,
    ) {
        let here = self.settings.worker;
        let (worker, link) = self.way_out(wire, outlet, |this| this.trace(fresh.link));
        if fresh.settled && !fresh.more && worker == here {
            let origin = self.presettled_origin(wire, &fresh);
            self.enqueue(wire, link, origin, envelope, fresh.payload, false);
            return;
        }
        let copies = SmallVec::from_buf([Copied::new(worker)]);
        let delivery = self.add_inbound(wire, &fresh, envelope.counted_from(), copies, None);
        let branch = Branch {
            worker: here,
            delivery,
            copy: 0,
        };
        if resend.is_some() {
            self.inbound[delivery.index].resend = resend;
            self.keep(delivery.index, &fresh.payload);
        }
        let (payload, more) = (fresh.payload, fresh.more);
        if worker != here {
            return self.post_start(worker, link, branch, envelope, payload, more);
        }
        let outbound = self.enqueue(wire, link, Origin::Branch(branch), envelope, payload, more);
        if let Some(inbound) = self.inbound.get_mut(delivery) {
            inbound.copies[0].outbound = outbound;
        }
    }

    /// The link that a delivery to a destination leaves by, made for it if it needs its own.
    pub(super) fn way_out<W: Wire>(
        &mut self,
        wire: &mut W,
        outlet: Outlet,
        trace: impl FnOnce(&Self) -> Option<String>,
    ) -> (WorkerId, Slot) {
        match outlet {
            Outlet::Link { worker, link, .. } => (worker, link),
            Outlet::Connector(connector) => {
                let terminal = wire.dial(connector, trace(self));
                let traits = OutgoingTraits {
                    capacity: 1,
                    ..OutgoingTraits::default()
                };
                let (slot, _) = self.add_outgoing(terminal, traits);
                wire.bind(terminal, Direction::Outgoing, slot);
                (self.settings.worker, slot)
            }
        }
    }

    /// Who waits for a presettled delivery that is complete. A router does not: it has others'
    /// to send, too.
    fn presettled_origin<W: Wire>(&mut self, wire: &mut W, fresh: &Fresh) -> Origin {
        let slot = self.incoming.slot(fresh.link);
        let incoming = &mut self.incoming[fresh.link];
        if !incoming.from_router {
            // Only what goes on is counted as it leaves.
            let gone = fresh.octets.saturating_sub(fresh.payload.len() as u32);
            if gone > 0 {
                self.release(
                    wire,
                    fresh.link,
                    Places {
                        frames: 0,
                        octets: gone,
                    },
                );
            }
            return Origin::Link(slot);
        }
        self.origin_done(wire, Origin::Link(slot));
        self.release(wire, fresh.link, fresh.place());
        Origin::Gone
    }

    /// Makes the incoming half and a copy for every chosen link.
    fn fan_out<W: Wire>(
        &mut self,
        wire: &mut W,
        fresh: Fresh,
        envelope: Envelope,
        chosen: &mut [Choice],
    ) {
        let links = u16::try_from(chosen.len()).unwrap_or(u16::MAX);
        let chosen = &mut chosen[..usize::from(links)];
        let ways = chosen
            .iter()
            .map(|one| self.way_out(wire, one.outlet, |this| this.trace(fresh.link)));
        let ways: SmallVec<[(WorkerId, Slot); 8]> = ways.collect();
        let mut held = Box::<Multicast>::default();
        held.progress.hold(links, fresh.payload.len());
        let copies = ways.iter().map(|way| Copied::new(way.0)).collect();
        let delivery = self.add_inbound(wire, &fresh, envelope.counted_from(), copies, Some(held));
        for ((copy, choice), (worker, link)) in (0..links).zip(chosen).zip(ways) {
            let branch = Branch {
                worker: self.settings.worker,
                delivery,
                copy,
            };
            let (payload, more) = (fresh.payload.clone(), fresh.more);
            let envelope = Envelope {
                load: choice.load.take(),
                ..envelope.clone()
            };
            if worker == self.settings.worker {
                let origin = Origin::Branch(branch);
                let outbound = self.enqueue(wire, link, origin, envelope, payload, more);
                if let Some(inbound) = self.inbound.get_mut(delivery) {
                    inbound.copies[usize::from(copy)].outbound = outbound;
                }
            } else {
                self.post_start(worker, link, branch, envelope, payload, more);
            }
        }
    }

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

    /// Lets a complete delivery's place in the window go although it waits, if it came from a
    /// router: its session is shared, and one slow consumer must not stop it for all. Up to a
    /// bound, for each link.
    fn release_early<W: Wire>(&mut self, wire: &mut W, delivery: u32, octets: usize) {
        let inbound = &mut self.inbound[delivery];
        let incoming = &mut self.incoming[inbound.link];
        let octets = octets + EARLY_OVERHEAD;
        if incoming.from_router && incoming.early + octets <= EARLY_MAX {
            incoming.early += octets;
            inbound.early = octets;
            let (link, places) = (inbound.link, std::mem::take(&mut inbound.unreleased));
            self.release(wire, link, places);
        }
    }

    /// The same for a frame of a delivery that goes on for as long as its sender likes, and whose
    /// ends bound what is on its way.
    fn release_piece_early<W: Wire>(&mut self, wire: &mut W, delivery: u32, octets: usize) {
        let inbound = &mut self.inbound[delivery];
        let incoming = &mut self.incoming[inbound.link];
        let place = Places::frame(octets);
        let octets = octets + PIECE_OVERHEAD;
        let single = inbound.multicast.is_none();
        if incoming.from_router && single && incoming.early + octets <= EARLY_STREAM_MAX {
            incoming.early += octets;
            inbound.early += octets;
            inbound.early_pieces += 1;
            inbound.unreleased.remove(place);
            let link = inbound.link;
            self.release(wire, link, place);
        }
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

    /// Gives a further frame to every copy.
    fn pass_on<W: Wire>(&mut self, wire: &mut W, delivery: u32, payload: Bytes, more: bool) {
        let slot = self.inbound.slot(delivery);
        let inbound = &mut self.inbound[delivery];
        let copies = inbound.copies.len() as u16;
        let first = match &mut inbound.multicast {
            Some(multicast) => {
                multicast.progress.hold(copies, payload.len());
                0
            }
            None => copies - 1,
        };
        for copy in first..copies {
            let branch = Branch {
                worker: self.settings.worker,
                delivery: slot,
                copy,
            };
            self.pass_to(wire, branch, payload.clone(), more);
        }
    }

    /// Gives a further frame to one copy.
    pub(super) fn pass_to<W: Wire>(
        &mut self,
        wire: &mut W,
        branch: Branch,
        payload: Bytes,
        more: bool,
    ) {
        let Some(inbound) = self.inbound.get_mut(branch.delivery) else {
            return;
        };
        let Copied {
            worker,
            outbound,
            closed,
            ..
        } = inbound.copies[usize::from(branch.copy)];
        if worker != self.settings.worker && !closed {
            let mail = Mail::Continue {
                branch,
                payload,
                more,
            };
            return self.post(worker, mail);
        }
        match outbound.filter(|&outbound| self.outbound.get(outbound).is_some()) {
            Some(outbound) => self.append(wire, outbound.index, payload, more),
            None => self.frame_through(wire, branch, payload.len()),
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

    /// Makes the incoming half of a delivery that goes where `copies` say.
    fn add_inbound<W: Wire>(
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
    fn refuse<W: Wire>(&mut self, wire: &mut W, fresh: &Fresh, outcome: DeliveryState) {
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

    /// Lets frames of an incoming link go: its session's window may advance.
    pub(super) fn release<W: Wire>(&mut self, wire: &mut W, link: u32, places: Places) {
        if places != Places::default() {
            let incoming = &mut self.incoming[link];
            incoming.unreleased.remove(places);
            wire.release_window(incoming.terminal, places);
        }
    }

    pub(super) fn post(&mut self, worker: WorkerId, mail: Mail) {
        self.mail.push_back((worker, mail));
    }
}

impl Fresh {
    /// What it holds of the session's window.
    fn place(&self) -> Places {
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
pub(super) const PRIORITIES: usize = 10;

/// Octets of unsettled deliveries from one link of a router that hold no place in its session's
/// window.
const EARLY_MAX: usize = 64 * 1024 * 1024;
/// What each of them counts beside its message.
const EARLY_OVERHEAD: usize = 256;

/// The same where a delivery is not complete: more than the ends of a TCP connection leave
/// unacknowledged (`reference/router/tcp-adaptor.md` §3).
const EARLY_STREAM_MAX: usize = 2 * 1024 * 1024;
pub(super) const PIECE_OVERHEAD: usize = 64;
