//! Connections to other routers.

use std::time::Instant;

use super::{ConnectionId, Worker, WorkerEvent};
use crate::adaptors::connections::token_of;
use crate::adaptors::trunk::Trunk;
use crate::codec::{Attach, Error, Role};
use crate::control::role::Role as ConnectionRole;
use crate::control::table::{Direction, LinkRef};
use crate::control::trunk::{Purpose, RouterLink};
use crate::endpoint::{LinkId, SessionId};
use crate::forwarding::links::Target;
use crate::forwarding::wire::Terminal;

impl Worker {
    /// Makes a connection between routers that has just been opened what it is to be.
    pub(super) fn begin_trunk(&mut self, connection: ConnectionId, now: Instant) {
        let Some(amqp) = self.connections.amqp(connection.0) else {
            return;
        };
        if amqp.role != ConnectionRole::InterRouter {
            return;
        }
        match Trunk::begin(&mut amqp.endpoint, !amqp.peer.incoming) {
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
        let purpose = amqp.trunk.as_mut().and_then(|trunk| trunk.begun(session));
        if let Some(purpose) = purpose {
            for role in [Role::Receiver, Role::Sender] {
                self.attach_trunk_link(connection, session, role, purpose);
            }
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
        let Some(amqp) = self.connections.amqp(connection.0) else {
            return;
        };
        let (kind, capacity) = (amqp.role, amqp.settings.link_capacity);
        let Some(trunk) = &mut amqp.trunk else { return };
        let attach = trunk.attach(role, purpose);
        let Ok(id) = amqp.endpoint.attach(session, attach.clone()) else {
            return;
        };
        trunk.attaching(id, purpose);
        let terminal = Terminal {
            connection: connection.0,
            session: session.0,
            link: id.0,
        };
        let direction = match role {
            Role::Receiver => Direction::Incoming,
            Role::Sender => Direction::Outgoing,
        };
        let (link, _) = self.add_link(terminal, direction, kind, &attach, capacity);
        if let Some(amqp) = self.connections.amqp(connection.0) {
            amqp.endpoint
                .set_token(id, token_of(direction, link.slot.index));
            amqp.add_link(direction, link.slot);
        }
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
        let purpose = amqp.trunk.as_mut().and_then(|trunk| trunk.attached(id));
        let refused = attach.source.is_none() || attach.target.is_none();
        let (Some(purpose), false) = (purpose, refused) else {
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
                Purpose::Control => Target::Control,
                Purpose::Data(_) | Purpose::Stream => Target::Anonymous,
            };
            self.forwarder.open_incoming(link.slot, target, None);
        }
        let router_link = RouterLink {
            link,
            connection: number,
            name: attach.name.clone(),
            purpose,
            capacity,
        };
        self.events
            .push_back(WorkerEvent::Attached(Box::new(router_link)));
    }
}
