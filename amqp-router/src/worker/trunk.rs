//! Connections to other routers, and to containers and clients that this router attaches links to.

use std::time::Instant;

use super::{ConnectionId, Worker, WorkerEvent};
use crate::adaptors::connections::token_of;
use crate::adaptors::trunk::Trunk;
use crate::codec::{Attach, Error, Role};
use crate::control::links::LeadsTo;
use crate::control::role::Role as ConnectionRole;
use crate::control::table::{Direction, LinkRef};
use crate::control::trunk::{Purpose, RouterLink, Ticket};
use crate::endpoint::{LimitReached, LinkId, SessionId};
use crate::forwarding::links::Target;
use crate::forwarding::wire::Terminal;

impl Worker {
    /// Makes a connection that has just been opened what it is to be, where this router attaches
    /// links.
    pub(super) fn begin_trunk(&mut self, connection: ConnectionId, now: Instant) {
        let Some(amqp) = self.connections.amqp(connection.0) else {
            return;
        };
        let connector = !amqp.peer.incoming;
        let begun = match amqp.role {
            ConnectionRole::InterRouter => Trunk::begin(&mut amqp.endpoint, connector),
            ConnectionRole::InterRouterData => Trunk::begin_data(&mut amqp.endpoint),
            ConnectionRole::Edge => Trunk::begin_edge(&mut amqp.endpoint, connector),
            ConnectionRole::InterEdge => Trunk::begin_edge(&mut amqp.endpoint, true),
            role => {
                let is_container = role.is_container();
                let takes_streams = amqp.takes_streams();
                if !is_container && !takes_streams {
                    return;
                }
                let endpoint = &mut amqp.endpoint;
                Ok(Trunk::to_client(endpoint, takes_streams, is_container))
            }
        };
        match begun {
            Ok(trunk) => amqp.trunk = Some(Box::new(trunk)),
            Err(limit) => {
                let text = format!("a router needs more sessions: {limit}");
                let error = Error::new("amqp:not-allowed", text);
                self.close(connection, Some(error), now);
            }
        }
    }

    /// Attaches the links of a session that has begun.
    pub(super) fn attach_trunk_links(&mut self, connection: ConnectionId, session: SessionId) {
        let Some(amqp) = self.connections.amqp(connection.0) else {
            return;
        };
        let Some(trunk) = &mut amqp.trunk else { return };
        if let Some(purpose) = trunk.begun(session) {
            for role in [Role::Receiver, Role::Sender] {
                self.attach_trunk_link(connection, session, role, purpose);
            }
            return;
        }
        for (ticket, attach) in trunk.take_waiting(session) {
            self.attach_own_link(connection, session, attach, Purpose::Proxy(ticket));
        }
    }

    /// Attaches a link into the network that the control plane wants, now or when the session for
    /// it has begun.
    pub(super) fn attach_proxy(&mut self, id: u64, ticket: Ticket, attach: Attach) {
        let Some(connection) = self.by_id(id) else {
            return;
        };
        let Some(amqp) = self.connections.amqp(connection.0) else {
            return;
        };
        let Some(trunk) = &mut amqp.trunk else { return };
        match trunk.ready(&mut amqp.endpoint, ticket, attach) {
            Ok(Some((session, attach))) => {
                self.attach_own_link(connection, session, attach, Purpose::Proxy(ticket));
            }
            Ok(None) => {}
            Err(limit) => self.not_attached(ticket, &limit),
        }
        self.connections.touch(connection.0);
    }

    /// Detaches a link into the network.
    pub(super) fn detach_proxy(&mut self, link: LinkRef) {
        let Some(terminal) = self.terminal(link) else {
            return;
        };
        if link.direction == Direction::Incoming {
            self.forwarder.shut_incoming(link.slot);
        }
        self.connections.touch(terminal.connection);
        if let Some(amqp) = self.connections.amqp(terminal.connection) {
            amqp.endpoint.detach(LinkId(terminal.link), true, None);
        }
    }

    /// Detaches a link into the network when what is on its way by it has arrived.
    pub(super) fn finish_link(&mut self, link: LinkRef) {
        if let Some(terminal) = self.terminal(link) {
            let connections = &mut self.connections;
            self.forwarder
                .finish(connections, link.direction, link.slot);
            self.connections.touch(terminal.connection);
        }
    }

    /// An incoming link into the network leads somewhere.
    pub(super) fn open_proxy(&mut self, link: LinkRef, leads_to: LeadsTo, address: Option<&str>) {
        if let Some(target) = super::links::target_of(leads_to) {
            self.forwarder.open_incoming(link.slot, target, address);
        }
        if let Some(terminal) = self.terminal(link) {
            self.connections.touch(terminal.connection);
        }
    }

    /// A refused link is missed when the neighbour is to be spoken to; it needs no error of its own.
    fn attach_trunk_link(
        &mut self,
        connection: ConnectionId,
        session: SessionId,
        role: Role,
        purpose: Purpose,
    ) {
        let trunk = self.connections.amqp(connection.0);
        let trunk = trunk.and_then(|amqp| amqp.trunk.as_mut());
        if let Some(attach) = trunk.map(|trunk| trunk.attach(role, purpose)) {
            self.attach_own_link(connection, session, attach, purpose);
        }
    }

    fn attach_own_link(
        &mut self,
        connection: ConnectionId,
        session: SessionId,
        attach: Attach,
        purpose: Purpose,
    ) {
        let Some(amqp) = self.connections.amqp(connection.0) else {
            return;
        };
        let (kind, number) = (amqp.role, amqp.id);
        let capacity = amqp.settings.link_capacity;
        let Some(trunk) = &mut amqp.trunk else { return };
        let role = attach.role;
        let id = match amqp.endpoint.attach(session, attach.clone()) {
            Ok(id) => id,
            Err(limit) => {
                if let Purpose::Proxy(ticket) = purpose {
                    self.not_attached(ticket, &limit);
                }
                return;
            }
        };
        trunk.attaching(id, purpose);
        if kind == ConnectionRole::RouteContainer && role == Role::Receiver {
            // RabbitMQ, to version 3, gives its queues what credit there is without what is on its way
            // from them.
            amqp.endpoint.allow_overdraft(id, capacity);
        }
        let terminal = Terminal {
            connection: connection.0,
            session: session.0,
            link: id.0,
        };
        let direction = match role {
            Role::Receiver => Direction::Incoming,
            Role::Sender => Direction::Outgoing,
        };
        let (link, _) = self.add_link(terminal, direction, kind, number, &attach, capacity);
        if let Some(amqp) = self.connections.amqp(connection.0) {
            amqp.endpoint
                .set_token(id, token_of(direction, link.slot.index));
            amqp.add_link(direction, link.slot);
        }
    }

    fn not_attached(&mut self, ticket: Ticket, limit: &LimitReached) {
        let error = Some(Error::new(
            "amqp:resource-limit-exceeded",
            limit.to_string(),
        ));
        self.events
            .push_back(WorkerEvent::NotAttached { ticket, error });
    }

    /// A peer has answered the attach of one of this router's links.
    pub(super) fn attached(
        &mut self,
        connection: ConnectionId,
        id: LinkId,
        token: u32,
        attach: &Attach,
    ) {
        let Some(amqp) = self.connections.amqp(connection.0) else {
            return;
        };
        let (number, capacity) = (amqp.id, amqp.settings.link_capacity);
        // It is the peer's own terminus that tells (AMQP 2.6.3).
        let refused = match attach.role {
            Role::Sender => attach.source.is_none(),
            Role::Receiver => attach.target.is_none(),
        };
        if refused {
            // The peer's detach, which follows, has the reason.
            return;
        }
        let Some(purpose) = amqp.trunk.as_mut().and_then(|trunk| trunk.attached(id)) else {
            return;
        };
        let Some((direction, index)) = super::link_of(token) else {
            return;
        };
        let link = LinkRef {
            worker: self.id,
            direction,
            slot: self.forwarder.slot(direction, index),
        };
        if direction == Direction::Incoming {
            let target = match purpose {
                Purpose::Control => Some(Target::Control),
                Purpose::Data(_) | Purpose::Stream => Some(Target::Anonymous),
                // The control plane has yet to say.
                Purpose::Proxy(_) => None,
            };
            if let Some(target) = target {
                self.forwarder.open_incoming(link.slot, target, None);
            }
        }
        let router_link = RouterLink {
            link,
            connection: number,
            name: attach.name.clone(),
            purpose,
            capacity,
            load: match direction {
                Direction::Incoming => None,
                Direction::Outgoing => self.forwarder.load(link.slot),
            },
        };
        self.events
            .push_back(WorkerEvent::Attached(Box::new(router_link)));
    }
}
