//! What a connection brings, event by event.

use std::time::Instant;

use crate::adaptors::connections::{link_of, token_of};
use crate::codec::Role;
use crate::control::table::Direction;
use crate::control::trunk::Purpose;
use crate::endpoint::{ConnectionError, Event, TransferEvent};
use crate::forwarding::Arrival;
use crate::forwarding::wire::Terminal;
use crate::worker::login::LoginStep;
use crate::worker::trouble::{Denial, Fault};
use crate::worker::{ConnectionId, Worker, WorkerEvent};

impl Worker {
    /// Handles everything that a connection's endpoint has to say.
    pub(super) fn process(&mut self, connection: ConnectionId, now: Instant) {
        self.connections.touch(connection.0);
        loop {
            let Some(amqp) = self.connections.amqp(connection.0) else {
                return;
            };
            let Some(event) = amqp.endpoint.poll_event(now) else {
                return;
            };
            match event {
                Event::Transfer(transfer) => self.transfer(transfer, now),
                Event::Updated {
                    role,
                    token,
                    state,
                    settled,
                    ..
                } => match role {
                    Role::Receiver => self.forwarder.receiver_update(
                        &mut self.connections,
                        now,
                        token,
                        state,
                        settled,
                    ),
                    Role::Sender => {
                        self.forwarder
                            .sender_update(&mut self.connections, token, state, settled);
                    }
                },
                Event::Flow { token, .. } => match link_of(token) {
                    Some((Direction::Outgoing, index)) => {
                        self.forwarder
                            .credit_changed(&mut self.connections, now, index);
                    }
                    Some((Direction::Incoming, index)) => self.forwarder.credit_returned(index),
                    None => {}
                },
                Event::Window => {
                    self.forwarder.room_changed(connection.0);
                }
                other => self.lifecycle(connection, other, now),
            }
        }
    }

    pub(super) fn transfer(&mut self, transfer: TransferEvent, now: Instant) {
        let Some((Direction::Incoming, link)) = link_of(transfer.token) else {
            return;
        };
        let arrival = Arrival {
            link,
            number: transfer.delivery.id,
            first: transfer.first.map(|first| first.format),
            settled: transfer.settled,
            state: transfer.state,
            payload: transfer.payload,
            more: transfer.more,
            aborted: transfer.aborted,
        };
        self.forwarder.transfer(&mut self.connections, now, arrival);
    }

    /// Handles what happens rarely.
    pub(super) fn lifecycle(&mut self, connection: ConnectionId, event: Event, now: Instant) {
        let Some(amqp) = self.connections.amqp(connection.0) else {
            return;
        };
        match event {
            Event::SaslInit {
                mechanism,
                response,
                ..
            } => self.authenticate(
                connection,
                LoginStep::Init {
                    mechanism,
                    response,
                },
            ),
            Event::SaslResponse(response) => {
                self.authenticate(connection, LoginStep::Response(response));
            }
            Event::SaslChosen(mechanism) => {
                self.authenticate(connection, LoginStep::Chosen(mechanism));
            }
            Event::SaslChallenge(challenge) => {
                self.authenticate(connection, LoginStep::Challenge(challenge));
            }
            Event::SaslSuccess(proof) => self.authenticate(connection, LoginStep::Success(proof)),
            Event::Opened if amqp.settings.governed && amqp.peer.grant.is_none() => {
                let open = amqp.endpoint.remote();
                self.events.push_back(WorkerEvent::Opening {
                    id: amqp.id,
                    hostname: open.and_then(|open| open.hostname.clone()),
                    container: open
                        .map(|open| open.container_id.clone())
                        .unwrap_or_default(),
                    user: amqp.peer.user.clone(),
                });
            }
            Event::Opened => self.opened(connection, now),
            Event::Begun(session) => self.attach_trunk_links(connection, session),
            Event::Attached {
                link,
                token,
                attach,
            } => self.attached(connection, link, token, &attach),
            Event::Attach {
                link,
                session,
                attach,
            } => {
                let terminal = Terminal {
                    connection: connection.0,
                    session: session.0,
                    link: link.0,
                };
                let capacity = amqp.settings.link_capacity;
                let (id, role) = (amqp.id, amqp.role);
                let (reference, request) =
                    self.attach_request(terminal, id, role, attach, capacity);
                let token = token_of(reference.direction, reference.slot.index);
                if let Some(amqp) = self.connections.amqp(connection.0) {
                    amqp.endpoint.set_token(link, token);
                    amqp.add_link(reference.direction, reference.slot);
                }
                self.events.push_back(WorkerEvent::Attach(request));
            }
            Event::Refused { attach, error } => {
                let id = amqp.id;
                self.events
                    .push_back(WorkerEvent::LinkRefused { id, attach, error });
            }
            Event::Detached {
                link,
                token,
                closed,
                error,
            } => {
                let asked = amqp.trunk.as_mut().and_then(|trunk| trunk.attached(link));
                match (asked, &mut amqp.trunk) {
                    (Some(Purpose::Proxy(ticket)), _) => {
                        let error = error.clone();
                        self.events
                            .push_back(WorkerEvent::NotAttached { ticket, error });
                    }
                    (Some(Purpose::Stream), Some(trunk)) if !amqp.role.is_neighbour() => {
                        trunk.end_streams();
                    }
                    _ => {}
                }
                let denial = error.as_ref().and_then(|why| Denial::of_size(amqp, why));
                self.events.extend(denial);
                if let Some((direction, index)) = link_of(token) {
                    self.detached(connection, (direction, index), closed, error, now);
                }
            }
            Event::Ended { session, error } => {
                if let Some(error) = &error {
                    self.events.push_back(WorkerEvent::SessionFailed {
                        id: amqp.id,
                        error: error.clone(),
                    });
                }
                let trunk = amqp.trunk.as_mut();
                let waiting = trunk.map(|trunk| trunk.ended(session)).unwrap_or_default();
                for (ticket, _) in waiting {
                    let error = error.clone();
                    self.events
                        .push_back(WorkerEvent::NotAttached { ticket, error });
                }
            }
            Event::Closed { error, local } => {
                let id = amqp.id;
                let octets = amqp.take_octets();
                let octets = octets.map(|octets| WorkerEvent::Octets { id, octets });
                self.events.extend(octets);
                let late = local == Some(ConnectionError::CloseTimeOut);
                if late && amqp.endpoint.is_resettable() {
                    // Proton's clients do not answer such a close, and read no more. When they
                    // write next, a reset tells them to connect again; an end would not yet.
                    amqp.is_cut_off = true;
                }
                let fault = local.as_ref().and_then(Fault::of);
                let denial = local
                    .as_ref()
                    .and_then(|local| Denial::of_session(amqp, local));
                self.events.extend(denial);
                let reason = match (error, local) {
                    (_, Some(local)) => Some(local.to_string()),
                    (Some(error), None) => Some(error.to_string()),
                    (None, None) => None,
                };
                self.drop_links(connection, now);
                self.events
                    .push_back(WorkerEvent::Closed { id, reason, fault });
            }
            // Sessions need nothing of the router.
            _ => {}
        }
    }

    /// Opens a connection whose peer has opened it.
    pub(super) fn opened(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(amqp) = self.connections.amqp(connection.0) {
            amqp.peer.opened_at = Some(now);
            amqp.endpoint.open();
            if let Some(open) = amqp.endpoint.remote() {
                amqp.role = amqp.role.demoted(&open.properties);
            }
            let status = Box::new(amqp.status());
            self.events.push_back(WorkerEvent::Opened(status));
            self.begin_trunk(connection, now);
        }
    }
}
