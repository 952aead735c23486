//! The forwarding half of links, and how they come and go.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use crate::codec::{DeliveryState, Modified};
use crate::control::address::AddressKey;
use crate::control::table::{
    AddressId, Direction, LinkLoad, LinkRef, Side, Slot, TableUpdate, WorkerId,
};
use crate::control::topology::Ingress;
use crate::forwarding::Forwarder;
use crate::forwarding::limits::Limited;
use crate::forwarding::passage::{Course, Passage};
use crate::forwarding::stats::{DeliveryCounts, Entered, Party, Rate, ToldOf};
use crate::forwarding::table::Chain;
use crate::forwarding::window::Places;
use crate::forwarding::wire::{Terminal, Wire};

/// A link that deliveries arrive by.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(super) terminal: Terminal,
    pub(super) target: Target,
    /// The target's address, as the peer wrote it.
    pub(super) address: Option<Box<str>>,
    pub(super) party: Party,
    /// Its peer is a router: messages may have annotations, and credit does not wait for
    /// settlement, which is for whoever let them into the network to wait for.
    pub(super) from_router: bool,
    /// That router does not forget what is settled before it has sent all of it.
    pub(super) settles_whole: bool,
    /// What its messages say to routers counts.
    pub(super) annotated: bool,
    /// Where it leads, so that nothing goes back there.
    pub(super) side: Side,
    /// What messages that enter the network by this link ask of routers: flags of the router
    /// annotations.
    pub(super) flags: u32,
    /// What has failed its current delivery, on a link whose sender tries again.
    pub(super) tried: Option<Vec<Arc<LinkLoad>>>,
    /// What its current delivery has gone to takes octets before it has answered.
    pub(super) is_prompt: bool,
    pub(super) capacity: u32,
    /// Its sender settles after the receiver: the link's rcv-settle-mode is second.
    pub(super) confirms: bool,
    /// Deliveries that take up credit: unsettled ones, and presettled ones that have not left yet.
    pub(super) held: u32,
    /// Frames that hold a place in the session's window.
    pub(super) unreleased: Places,
    /// Octets of deliveries that hold no such place though they could wait.
    pub(super) early: usize,
    /// Octets that are kept to be sent again.
    pub(super) kept: usize,
    /// Its deliveries that have an incoming half.
    pub(super) deliveries: Chain,
    /// The message for the control plane whose frames are arriving.
    pub(super) hearing: BytesMut,
    /// The delivery whose frames are arriving.
    pub(super) current: Option<u32>,
    /// Whether credit is to be looked at when the turn ends.
    pub(super) dirty: bool,
    /// It is to go; whether its sender has given back its credit.
    pub(super) ending: Option<bool>,
    /// Where the last message on an anonymous link went.
    pub(super) last_to: Option<LastTo>,
    /// What the last annotations meant.
    pub(super) course: Option<Box<Course>>,
    /// What goes ahead of messages that enter the network by this link.
    pub(super) passage: Option<Arc<Passage>>,
    pub(super) limited: Limited,
    pub(super) counts: DeliveryCounts,
    pub(super) rate: Rate,
    /// Since when the peer has had no credit.
    pub(super) dry_since: Option<Instant>,
    pub(super) told_of: ToldOf,
}

/// The address that the last message on an anonymous link named, so that the next need not look
/// it up again.
#[derive(Debug)]
pub(super) struct LastTo {
    pub(super) to: Box<str>,
    pub(super) id: AddressId,
    /// Tells a later address with the same id from the one that was meant.
    pub(super) key: AddressKey,
    /// What goes ahead of it to another router.
    pub(super) passage: Option<Arc<Passage>>,
    /// It goes into the network, as nobody here wanted it; `id` is the way there.
    pub(super) goes_up: bool,
}

/// Where an incoming link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The control plane has not said yet.
    Undecided,
    Address(AddressId),
    /// Wherever each message's `to` says.
    Anonymous,
    /// To this router's control plane.
    Control,
}

/// A link that deliveries leave by.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(super) terminal: Terminal,
    pub(super) capacity: u32,
    /// Its peer is a router.
    pub(super) to_router: bool,
    /// Its messages leave with router annotations.
    pub(super) annotated: bool,
    pub(super) party: Party,
    /// What is not complete goes by a link of its own.
    pub(super) diverts: bool,
    /// It is one of those links.
    pub(super) is_stream: bool,
    /// It is one of the free ones of those.
    pub(super) is_free: bool,
    /// Deliveries that are to be queued when they are complete.
    pub(super) held: Vec<u32>,
    /// The receiver asked for everything presettled: deliveries count as accepted once sent.
    pub(super) presettle: bool,
    pub(super) load: Arc<LinkLoad>,
    /// Deliveries that have not been sent entirely.
    pub(super) queue: VecDeque<u32>,
    /// Deliveries that have been sent and await an outcome.
    pub(super) sent: Chain,
    pub(super) unsettled: u32,
    /// Whether it is on the list of links to be served this turn.
    pub(super) ready: bool,
    /// Whether it is on its connection's list of links that wait for room.
    pub(super) blocked: bool,
    pub(super) next_tag: u64,
    /// Has sent something since the last tick.
    pub(super) moved: bool,
    /// What waits for more of its delivery is to wait no longer.
    pub(super) hastened: bool,
    /// Has sent nothing for a whole tick although something waits.
    pub(super) stalled: bool,
    /// Ticks for which it has had no credit.
    pub(super) dry_ticks: u32,
    pub(super) told_of: ToldOf,
    pub(super) counts: DeliveryCounts,
    /// If it leads to no router.
    pub(super) entered: Entered,
    pub(super) rate: Rate,
}

/// What is known of an incoming link when it is made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IncomingTraits {
    pub(crate) capacity: u32,
    pub(crate) confirms: bool,
    pub(crate) from_router: bool,
    /// That router does not forget what is settled before it has sent all of it.
    pub(crate) settles_whole: bool,
    /// What its messages say to routers counts, as if its peer were one.
    pub(crate) annotated: bool,
    pub(crate) side: Side,
    /// Flags of the router annotations of messages that enter the network by it.
    pub(crate) flags: u32,
    /// Its sender tries again when a destination fails.
    pub(crate) tries_again: bool,
    pub(crate) party: Party,
}

/// What is known of an outgoing link when it is made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OutgoingTraits {
    pub(crate) capacity: u32,
    pub(crate) presettle: bool,
    pub(crate) to_router: bool,
    /// Its peer sees what routers tell each other, as if it were one.
    pub(crate) annotated: bool,
    /// Its peer takes what is not complete by links of its own, as routers do.
    pub(crate) diverts: bool,
    pub(crate) is_stream: bool,
    pub(crate) party: Party,
}

/// What management shows of a link's traffic.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkStatus {
    pub(crate) counts: DeliveryCounts,
    pub(crate) undelivered: u32,
    pub(crate) unsettled: u32,
    pub(crate) credit: u32,
    pub(crate) settle_rate: u32,
    pub(crate) zero_credit_seconds: u32,
    /// Deliveries that have been here for long; streams take the time they take.
    pub(crate) stuck: u32,
    /// Deliveries that were for this link and go by one of their own, as they take long.
    pub(crate) elsewhere: u32,
    /// Of an outgoing link that leads to no router.
    pub(crate) entered: Option<Entered>,
}

impl Incoming {
    fn status<W: Wire>(&self, wire: &W, now: Instant, stuck: u32) -> LinkStatus {
        let dry = self
            .dry_since
            .map_or(0, |since| now.duration_since(since).as_secs());
        LinkStatus {
            counts: self.counts,
            undelivered: 0,
            unsettled: self.held,
            credit: wire.credit(self.terminal),
            settle_rate: self.rate.per_second(),
            zero_credit_seconds: u32::try_from(dry).unwrap_or(u32::MAX),
            stuck,
            elsewhere: 0,
            entered: None,
        }
    }
}

impl Outgoing {
    #[inline]
    pub(super) fn note_entered(&mut self, ingress: Ingress) {
        if !self.to_router {
            self.entered.note(ingress);
        }
    }

    fn status<W: Wire>(&self, wire: &W, stuck: u32, elsewhere: u32) -> LinkStatus {
        LinkStatus {
            counts: self.counts,
            undelivered: self.queue.len() as u32,
            unsettled: self.unsettled,
            credit: wire.allowance(self.terminal).credit,
            settle_rate: self.rate.per_second(),
            zero_credit_seconds: self.dry_ticks,
            stuck,
            elsewhere,
            entered: (!self.to_router).then(|| self.entered.clone()),
        }
    }
}

impl Forwarder {
    /// Makes an incoming link. It leads nowhere and has no credit until it is
    /// [opened](Self::open_incoming).
    pub(crate) fn add_incoming(&mut self, terminal: Terminal, traits: IncomingTraits) -> Slot {
        self.incoming.insert(Incoming {
            terminal,
            target: Target::Undecided,
            address: None,
            from_router: traits.from_router,
            settles_whole: traits.settles_whole,
            annotated: traits.annotated || traits.from_router,
            party: traits.party,
            side: traits.side,
            flags: traits.flags,
            tried: traits.tries_again.then(Vec::new),
            is_prompt: false,
            capacity: traits.capacity,
            confirms: traits.confirms,
            held: 0,
            unreleased: Places::default(),
            early: 0,
            kept: 0,
            deliveries: Chain::default(),
            hearing: BytesMut::new(),
            current: None,
            dirty: false,
            ending: None,
            last_to: None,
            course: None,
            passage: None,
            limited: Limited::default(),
            counts: DeliveryCounts::default(),
            rate: Rate::default(),
            dry_since: None,
            told_of: ToldOf::default(),
        })
    }

    /// The control plane has decided where an incoming link leads, which its peer calls `address`.
    pub(crate) fn open_incoming(&mut self, slot: Slot, target: Target, address: Option<&str>) {
        let Some(incoming) = self.incoming.get_mut(slot) else {
            return;
        };
        incoming.target = target;
        incoming.address = address.map(Box::from);
        if let Target::Address(id) = target {
            self.addresses.add_producer(id, slot.index);
        }
        self.touch(slot.index);
    }

    /// An incoming link leads nowhere any more; it is being detached.
    pub(crate) fn shut_incoming(&mut self, slot: Slot) {
        let Some(incoming) = self.incoming.get_mut(slot) else {
            return;
        };
        if let Target::Address(id) = std::mem::replace(&mut incoming.target, Target::Undecided) {
            self.addresses.remove_producer(id, slot.index);
        }
    }

    /// The load record of an outgoing link.
    pub(crate) fn load(&self, slot: Slot) -> Option<Arc<LinkLoad>> {
        Some(Arc::clone(&self.outgoing.get(slot)?.load))
    }

    /// Where an incoming link ends, if it still exists.
    pub(crate) fn incoming_terminal(&self, slot: Slot) -> Option<Terminal> {
        self.incoming.get(slot).map(|incoming| incoming.terminal)
    }

    /// Where an outgoing link ends, if it still exists.
    pub(crate) fn outgoing_terminal(&self, slot: Slot) -> Option<Terminal> {
        self.outgoing.get(slot).map(|outgoing| outgoing.terminal)
    }

    /// Makes an outgoing link. The control plane will publish it as a destination.
    pub(crate) fn add_outgoing(
        &mut self,
        terminal: Terminal,
        traits: OutgoingTraits,
    ) -> (Slot, Arc<LinkLoad>) {
        let load = Arc::new(LinkLoad::new(traits.annotated));
        let slot = self.outgoing.insert(Outgoing {
            terminal,
            capacity: traits.capacity,
            to_router: traits.to_router,
            annotated: traits.annotated || traits.to_router,
            party: traits.party,
            diverts: traits.diverts || traits.to_router,
            is_stream: traits.is_stream,
            is_free: false,
            held: Vec::new(),
            presettle: traits.presettle,
            load: Arc::clone(&load),
            queue: VecDeque::new(),
            sent: Chain::default(),
            unsettled: 0,
            ready: false,
            blocked: false,
            next_tag: 0,
            moved: false,
            hastened: false,
            stalled: false,
            dry_ticks: 0,
            told_of: ToldOf::default(),
            counts: DeliveryCounts::default(),
            entered: Entered::default(),
            rate: Rate::default(),
        });
        (slot, load)
    }

    /// The sender's link is gone: what it had not finished is aborted, what it had finished goes on
    /// without it.
    pub(crate) fn remove_incoming<W: Wire>(&mut self, wire: &mut W, slot: Slot) {
        let Some(incoming) = self.incoming.get(slot) else {
            return;
        };
        for delivery in self.inbound.chained(&incoming.deliveries) {
            self.orphan(wire, delivery);
        }
        let incoming = self.incoming.remove(slot.index);
        wire.release_window(incoming.terminal, incoming.unreleased);
        if let Target::Address(id) = incoming.target {
            self.addresses.remove_producer(id, slot.index);
        }
    }

    /// The receiver's link is gone: what had not left as a whole is released, what had is modified
    /// with delivery-failed. A stream may have had its effect though it has no end yet.
    pub(crate) fn remove_outgoing<W: Wire>(&mut self, wire: &mut W, now: Instant, slot: Slot) {
        let Some(outgoing) = self.outgoing.get_mut(slot) else {
            return;
        };
        let mut queue = std::mem::take(&mut outgoing.queue);
        let held = std::mem::take(&mut outgoing.held);
        let (terminal, to_router) = (outgoing.terminal, outgoing.to_router);
        outgoing.load.retire();
        if std::mem::take(&mut outgoing.is_stream) {
            self.streams.forget(terminal.connection, slot.index);
            if !to_router {
                queue.retain(|delivery| !self.leaves_from_home(*delivery));
            }
        }
        for delivery in queue
            .into_iter()
            .chain(held)
            .chain(self.outbound.chained(&self.outgoing[slot.index].sent))
        {
            let number = self.outbound[delivery].number;
            if let Some(number) = number {
                wire.forget_sent(self.outgoing[slot.index].terminal, number);
            }
            let outbound = &self.outbound[delivery];
            let may_matter = outbound.envelope.is_stream && number.is_some();
            let outcome = match outbound.sent || may_matter {
                true => failed(),
                false => DeliveryState::Released,
            };
            self.give_up(wire, now, delivery, outcome);
        }
        drop(self.outgoing.remove(slot.index));
    }

    /// The router at the other end of a link is not heard any more, and may not come back: what was
    /// sent to it has failed, and what waits is released, before the connection is given up. Streams
    /// stay: they cannot go elsewhere, and their ends wait as long as the connection lasts. So does
    /// what nobody waits for.
    pub(crate) fn give_back<W: Wire>(&mut self, wire: &mut W, now: Instant, slot: Slot) {
        let Some(outgoing) = self.outgoing.get_mut(slot) else {
            return;
        };
        let terminal = outgoing.terminal;
        let queue = std::mem::take(&mut outgoing.queue);
        let outbound = &self.outbound;
        let stays = |delivery: &u32| {
            let outbound = &outbound[*delivery];
            outbound.envelope.is_stream || outbound.envelope.settled || outbound.number.is_some()
        };
        let (staying, waiting): (Vec<u32>, Vec<u32>) = queue.into_iter().partition(stays);
        let sent = outbound.chained(&self.outgoing[slot.index].sent);
        let sent = sent
            .into_iter()
            .filter(|delivery| !outbound[*delivery].envelope.is_stream);
        let sent: Vec<u32> = sent.collect();
        self.outgoing[slot.index].queue = staying.into();
        for delivery in waiting {
            self.give_up(wire, now, delivery, DeliveryState::Released);
        }
        for delivery in sent {
            if let Some(number) = self.outbound[delivery].number {
                wire.forget_sent(terminal, number);
            }
            self.give_up(wire, now, delivery, failed());
        }
    }

    /// Applies a change of the forwarding table; producers of an address that has just become
    /// reachable get their credit.
    pub(crate) fn update_table(&mut self, update: TableUpdate) {
        if let TableUpdate::Topology(topology) = update {
            let renamed = self.topology.mesh != topology.mesh;
            self.topology = topology;
            if renamed {
                self.forget_passages();
            }
            return;
        }
        if let Some(id) = self.addresses.apply(update) {
            for index in 0..self.addresses.producers(id).len() {
                let link = self.addresses.producers(id)[index];
                self.touch(link);
            }
        }
    }

    /// What goes ahead of messages that enter the network here is not what it was.
    fn forget_passages(&mut self) {
        for (_, incoming) in self.incoming.iter_mut() {
            incoming.passage = None;
            incoming.last_to = None;
        }
    }

    /// A sender has given back its credit, as it was asked to when there was no destination. By
    /// now there may be one.
    pub(crate) fn credit_returned(&mut self, link: u32) {
        if let Some(returned) = &mut self.incoming[link].ending {
            *returned = true;
        }
        self.touch(link);
    }

    /// Has an incoming link's credit looked at when the turn ends.
    pub(super) fn touch(&mut self, link: u32) {
        let incoming = &mut self.incoming[link];
        if !incoming.dirty {
            incoming.dirty = true;
            self.dirty.push(link);
        }
    }

    /// Tops up the credit of every link that has had something settled or moved on this turn.
    pub(super) fn grant_credit<W: Wire>(&mut self, wire: &mut W, now: Instant) {
        while let Some(link) = self.dirty.pop() {
            if !self.incoming.contains(link) {
                continue;
            }
            let incoming = &mut self.incoming[link];
            incoming.dirty = false;
            let open = incoming.ending.is_none()
                && match incoming.target {
                    Target::Undecided => false,
                    Target::Anonymous | Target::Control => true,
                    Target::Address(id) => self.addresses.is_reachable(id),
                };
            let have = wire.credit(incoming.terminal);
            let taken = if incoming.from_router {
                // So many that only a router that lies can have them outstanding.
                (incoming.held / ROUTER_HELD).saturating_mul(incoming.capacity)
            } else {
                incoming.held
            };
            let want = if open {
                incoming.capacity.saturating_sub(taken)
            } else {
                0
            };
            let worth = match incoming.party {
                Party::Container => worth_granting_a_broker(have, want, incoming.capacity),
                _ => worth_granting(have, want, incoming.capacity),
            };
            if worth {
                wire.set_credit(incoming.terminal, want);
            }
            let dry = wire.credit(incoming.terminal) == 0;
            incoming.dry_since = dry.then(|| incoming.dry_since.unwrap_or(now));
        }
    }

    /// The full reference to a link that exists.
    pub(crate) fn slot(&self, direction: Direction, index: u32) -> Slot {
        match direction {
            Direction::Incoming => self.incoming.slot(index),
            Direction::Outgoing => self.outgoing.slot(index),
        }
    }

    /// What some links of this worker have done and have yet to do.
    pub(crate) fn link_statuses<W: Wire>(
        &self,
        wire: &W,
        worker: WorkerId,
        links: &HashSet<LinkRef>,
        now: Instant,
    ) -> Vec<(LinkRef, LinkStatus)> {
        let mut own = links.iter().filter(|link| link.worker == worker).peekable();
        if own.peek().is_none() {
            return Vec::new();
        }
        let stuck = self.stuck(now);
        let elsewhere = self.elsewhere();
        let status = |link: &LinkRef| {
            let of = |counts: &HashMap<u32, u32>| counts.get(&link.slot.index).copied();
            match link.direction {
                Direction::Incoming => {
                    let late = of(&stuck.incoming).unwrap_or(0);
                    Some(self.incoming.get(link.slot)?.status(wire, now, late))
                }
                Direction::Outgoing => {
                    let late = of(&stuck.outgoing).unwrap_or(0);
                    let elsewhere = of(&elsewhere).unwrap_or(0);
                    Some(self.outgoing.get(link.slot)?.status(wire, late, elsewhere))
                }
            }
        };
        own.filter_map(|link| Some((*link, status(link)?)))
            .collect()
    }

    /// All links of this worker.
    #[cfg(test)]
    pub(crate) fn links(&self, worker: WorkerId) -> HashSet<LinkRef> {
        let of = move |direction, slot| LinkRef {
            worker,
            direction,
            slot,
        };
        let incoming = self.incoming.iter();
        let incoming = incoming.map(|(link, _)| of(Direction::Incoming, self.incoming.slot(link)));
        let outgoing = self.outgoing.iter();
        let outgoing = outgoing.map(|(link, _)| of(Direction::Outgoing, self.outgoing.slot(link)));
        incoming.chain(outgoing).collect()
    }

    /// To be called once a second: takes rates, and stops senders from waiting for a receiver that
    /// has taken nothing for a whole second.
    pub(crate) fn tick<W: Wire>(&mut self, wire: &mut W, now: Instant) {
        for (_, incoming) in self.incoming.iter_mut() {
            incoming.rate.tick(incoming.counts.finished());
        }
        let mut stalled = Vec::new();
        let mut joining = Vec::new();
        for (link, outgoing) in self.outgoing.iter_mut() {
            outgoing.rate.tick(outgoing.counts.finished());
            outgoing.follow_credit(wire);
            let waits = !outgoing.moved && !outgoing.queue.is_empty();
            for &delivery in &outgoing.queue {
                self.outbound[delivery].body.own();
            }
            outgoing.moved = false;
            let head = outgoing.queue.front().filter(|_| waits);
            if head.is_some_and(|&head| self.outbound[head].is_between_frames()) {
                joining.push(link);
            }
            if waits && !outgoing.stalled {
                outgoing.stalled = true;
                stalled.push(link);
            }
        }
        for link in joining {
            self.hasten(link);
        }
        for link in stalled {
            self.stop_waiting(wire, link);
        }
        self.clear_jams(wire, now);
        self.let_go_of_late(wire, now);
        self.close_finished(wire);
        self.failing.retain(|(until, load)| {
            let lasts = *until > now;
            if !lasts {
                load.note_recovery();
            }
            lasts
        });
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(self.settings.patience.interval) {
            self.look_for_trouble(now);
        }
        if self.ticks.is_multiple_of(CLOSE_STREAMS_EVERY) {
            self.close_surplus_streams(wire);
        }
        self.end_turn(wire, now);
    }
}

/// What a delivery has become when its receiver went away with it.
pub(super) fn failed() -> DeliveryState {
    DeliveryState::Modified(Box::new(Modified {
        delivery_failed: true,
        ..Modified::default()
    }))
}

/// Whether a flow is worth sending: always when the sender is running dry, else only for a good
/// part of the capacity at once.
fn worth_granting(have: u32, want: u32, capacity: u32) -> bool {
    want > have && (have < capacity / 2 || want - have >= capacity.div_ceil(4))
}

/// The same for a broker, which may not have counted yet what is on its way: RabbitMQ, to version 3,
/// then sends so much more for each flow.
fn worth_granting_a_broker(have: u32, want: u32, capacity: u32) -> bool {
    want > have && (have == 0 || want - have >= capacity.div_ceil(2))
}

/// Ticks between looks at links that are of no use any more.
const CLOSE_STREAMS_EVERY: u32 = 30;

/// Unsettled deliveries that one link from a router may have.
const ROUTER_HELD: u32 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_granted_in_good_parts_unless_the_sender_runs_dry() {
        assert!(worth_granting(0, 1, 250));
        assert!(worth_granting(0, 1, 1));
        assert!(worth_granting(124, 125, 250));
        assert!(!worth_granting(240, 250, 250));
        assert!(worth_granting(187, 250, 250));
        assert!(worth_granting_a_broker(0, 1, 250));
        assert!(worth_granting_a_broker(125, 250, 250));
        assert!(!worth_granting_a_broker(1, 120, 250));
        assert!(!worth_granting_a_broker(187, 250, 250));
        assert!(!worth_granting(250, 250, 250));
        assert!(!worth_granting(250, 10, 250));
    }
}
