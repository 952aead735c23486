//! Links of a worker: how they come to be and go, between a connection, forwarding and the control
//! plane.

use std::sync::Arc;
use std::time::Instant;

use crate::adaptors::amqp::AmqpConnection;
use crate::adaptors::connections::{NO_LINK, Peer};
use crate::adaptors::local::{LocalEvent, LocalLinkId};
use crate::codec::{
    Attach, Error, ReceiverSettleMode, Role, RouterAnnotations, SenderSettleMode, Target,
};
use crate::control::links::{AttachRequest, LeadsTo, Loss, Termini};
use crate::control::role::Role as ConnectionRole;
use crate::control::table::{Direction, LinkLoad, LinkRef, Side, Slot};
use crate::control::uplink::TRACKING;
use crate::endpoint::{AttachReply, LinkId};
use crate::forwarding::limits::Limits;
use crate::forwarding::links::{IncomingTraits, OutgoingTraits, Target as Destination};
use crate::forwarding::stats::Party;
use crate::forwarding::wire::Terminal;
use crate::worker::{ConnectionId, Worker, WorkerEvent};

impl Worker {
    /// Makes the forwarding half of a link that a peer wants to attach.
    pub(super) fn attach_request(
        &mut self,
        terminal: Terminal,
        connection: u64,
        role: ConnectionRole,
        attach: Box<Attach>,
        capacity: u32,
    ) -> (LinkRef, Box<AttachRequest>) {
        let direction = match attach.role {
            Role::Sender => Direction::Incoming,
            Role::Receiver => Direction::Outgoing,
        };
        let (link, load) = self.add_link(terminal, direction, role, connection, &attach, capacity);
        let request = AttachRequest {
            link,
            connection,
            role,
            attach,
            capacity,
            load,
        };
        (link, Box::new(request))
    }

    /// Makes the forwarding half of a link; an outgoing one has a load.
    pub(super) fn add_link(
        &mut self,
        terminal: Terminal,
        direction: Direction,
        role: ConnectionRole,
        connection: u64,
        attach: &Attach,
        capacity: u32,
    ) -> (LinkRef, Option<Arc<LinkLoad>>) {
        let amqp = self.connections.amqp(terminal.connection);
        let annotated = amqp.as_ref().map(|amqp| amqp.annotated());
        let annotated = annotated.unwrap_or_default();
        let diverts = amqp.as_ref().is_some_and(|amqp| amqp.takes_streams());
        let is_foreign = amqp.is_some_and(|amqp| amqp.is_foreign());
        let (slot, load) = match direction {
            Direction::Incoming => {
                let traits = IncomingTraits {
                    annotated: annotated.incoming,
                    capacity,
                    confirms: attach.rcv_settle_mode == ReceiverSettleMode::Second,
                    from_router: role.is_neighbour(),
                    settles_whole: role.is_annotated() && is_foreign,
                    side: Side::of(role, connection, self.forwarder.is_edge()),
                    flags: flags_of(attach),
                    tries_again: false,
                    party: party(role, connection),
                };
                (self.forwarder.add_incoming(terminal, traits), None)
            }
            Direction::Outgoing => {
                let traits = OutgoingTraits {
                    annotated: annotated.outgoing,
                    capacity: match is_tracking(attach) {
                        // What an edge router is to know must not be dropped.
                        true => u32::MAX,
                        false => capacity,
                    },
                    presettle: attach.snd_settle_mode == SenderSettleMode::Settled,
                    to_router: role.is_neighbour(),
                    diverts,
                    is_stream: false,
                    party: party(role, connection),
                };
                let (slot, load) = self.forwarder.add_outgoing(terminal, traits);
                (slot, Some(load))
            }
        };
        let link = LinkRef {
            worker: self.id,
            direction,
            slot,
        };
        (link, load)
    }

    pub(super) fn accept(&mut self, link: LinkRef, termini: Box<Termini>, leads_to: LeadsTo) {
        let Some(terminal) = self.terminal(link) else {
            return;
        };
        let address = match &termini.target {
            Some(Target::Node(node)) => node.address.clone(),
            _ => None,
        };
        match self.connections.get(terminal.connection) {
            Some(Peer::Amqp(_)) => {
                if let Some(amqp) = self.connections.amqp(terminal.connection) {
                    let max_message_size = amqp.max_message_size();
                    let limits = Limits {
                        max_message_size,
                        grant: amqp.peer.grant.clone(),
                    };
                    if link.direction == Direction::Incoming {
                        self.forwarder.limit_incoming(link.slot, limits);
                    }
                    let Termini { source, target } = *termini;
                    let reply = AttachReply {
                        source,
                        target,
                        max_message_size,
                        ..Default::default()
                    };
                    amqp.endpoint.accept_attach(LinkId(terminal.link), reply);
                }
            }
            _ => {
                if let Some(local) = self.connections.local(terminal.connection) {
                    let link = LocalLinkId(terminal.link);
                    local.notify(LocalEvent::Attached { link, termini });
                }
            }
        }
        self.connections.touch(terminal.connection);
        if let Some(target) = target_of(leads_to) {
            self.forwarder
                .open_incoming(link.slot, target, address.as_deref());
        }
    }

    pub(super) fn refuse(&mut self, link: LinkRef, error: Error, now: Instant) {
        let Some(terminal) = self.terminal(link) else {
            return;
        };
        self.connections.touch(terminal.connection);
        if let Some(amqp) = self.connections.amqp(terminal.connection) {
            amqp.endpoint.set_token(LinkId(terminal.link), NO_LINK);
            amqp.endpoint.refuse_attach(LinkId(terminal.link), error);
            amqp.remove_link(link.direction, link.slot);
        } else if let Some(local) = self.connections.local(terminal.connection) {
            let refused = LocalLinkId(terminal.link);
            local.remove_link(refused);
            local.notify(LocalEvent::Refused {
                link: refused,
                error,
            });
        }
        self.remove_link(link.direction, link.slot, now);
    }

    pub(super) fn terminal(&self, link: LinkRef) -> Option<Terminal> {
        match link.direction {
            Direction::Incoming => self.forwarder.incoming_terminal(link.slot),
            Direction::Outgoing => self.forwarder.outgoing_terminal(link.slot),
        }
    }

    /// A peer has detached a link.
    pub(super) fn detached(
        &mut self,
        at: ConnectionId,
        (direction, index): (Direction, u32),
        closed: bool,
        error: Option<Error>,
        now: Instant,
    ) {
        let slot = self.forwarder.slot(direction, index);
        if let Some(amqp) = self.connections.amqp(at.0) {
            amqp.remove_link(direction, slot);
        }
        self.remove_link(direction, slot, now);
        let link = LinkRef {
            worker: self.id,
            direction,
            slot,
        };
        let loss = Loss::Detached(error);
        self.events
            .push_back(WorkerEvent::Detached { link, loss, closed });
    }

    pub(super) fn remove_link(&mut self, direction: Direction, slot: Slot, now: Instant) {
        match direction {
            Direction::Incoming => self.forwarder.remove_incoming(&mut self.connections, slot),
            Direction::Outgoing => self
                .forwarder
                .remove_outgoing(&mut self.connections, now, slot),
        }
    }

    /// Every link of a connection goes with it.
    pub(super) fn drop_links(&mut self, connection: ConnectionId, now: Instant) {
        let links = match self.connections.get(connection.0) {
            Some(Peer::Amqp(_)) => self
                .connections
                .amqp(connection.0)
                .map(AmqpConnection::take_links),
            Some(Peer::Local(local)) => Some(local.slots()),
            Some(Peer::Tcp(tcp)) => {
                for (direction, slot) in tcp.slots() {
                    self.remove_link(direction, slot, now);
                }
                None
            }
            None => None,
        };
        for (direction, slot) in links.unwrap_or_default() {
            self.remove_link(direction, slot, now);
            let link = LinkRef {
                worker: self.id,
                direction,
                slot,
            };
            self.events.push_back(WorkerEvent::Detached {
                link,
                loss: Loss::Connection,
                closed: false,
            });
        }
    }
}

/// What forwarding calls the place that an incoming link leads to.
pub(super) fn target_of(leads_to: LeadsTo) -> Option<Destination> {
    match leads_to {
        LeadsTo::Address(id) => Some(Destination::Address(id)),
        LeadsTo::EachMessage => Some(Destination::Anonymous),
        LeadsTo::Control => Some(Destination::Control),
        LeadsTo::ItsReceiver => None,
    }
}

/// Whether an edge router learns by a link which addresses somebody receives from.
fn is_tracking(attach: &Attach) -> bool {
    let source = attach.source.as_ref();
    source.and_then(|source| source.address.as_deref()) == Some(TRACKING)
}

/// What messages of an incoming link ask of routers: flags of the router annotations.
fn flags_of(attach: &Attach) -> u32 {
    let flag = |capability, flag| match target_has(attach, capability) {
        true => flag,
        false => 0,
    };
    flag("qd.streaming-deliveries", RouterAnnotations::STREAMING)
        | flag("qd.resend-released", RouterAnnotations::RESEND_RELEASED)
}

/// Whether the target of a link has a capability.
fn target_has(attach: &Attach, capability: &str) -> bool {
    match &attach.target {
        Some(Target::Node(node)) => node.capabilities.iter().any(|c| c.as_str() == capability),
        _ => false,
    }
}

/// Who a link's peer is to counters. Programs have no connection.
fn party(role: ConnectionRole, connection: u64) -> Party {
    match role {
        ConnectionRole::RouteContainer => Party::Container,
        ConnectionRole::InterNetwork => Party::Network,
        _ if connection == 0 => Party::Program,
        _ => Party::Any,
    }
}
