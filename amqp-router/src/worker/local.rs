//! Links of programs in this process.

use std::time::Instant;

use bytes::Bytes;

use super::{ConnectionId, Worker, WorkerEvent};
use crate::adaptors::connections::Peer;
use crate::adaptors::local::{LocalConnection, LocalLinkId};
use crate::codec::{Attach, DeliveryState};
use crate::control::role::Role;
use crate::control::table::Direction;
use crate::forwarding::Arrival;
use crate::forwarding::wire::Terminal;

impl Worker {
    /// Makes room for a local program's links.
    pub(crate) fn add_local(&mut self) -> ConnectionId {
        ConnectionId(
            self.connections
                .insert(Peer::Local(LocalConnection::default())),
        )
    }

    /// Attaches a link for a local program, as whatever `attach` says its role is.
    pub(crate) fn local_attach(
        &mut self,
        connection: ConnectionId,
        attach: Attach,
        capacity: u32,
    ) -> Option<LocalLinkId> {
        let number = self.connections.local(connection.0)?.next_link();
        let terminal = Terminal {
            connection: connection.0,
            session: 0,
            link: number.0,
        };
        let (link, request) =
            self.attach_request(terminal, 0, Role::Normal, Box::new(attach), capacity);
        let local = self.connections.local(connection.0)?;
        let number = local.add_link(link.direction, link.slot);
        self.events.push_back(WorkerEvent::Attach(request));
        Some(number)
    }

    /// Sends a whole message; gives its number, or the message back if there is no credit.
    pub(crate) fn local_send(
        &mut self,
        connection: ConnectionId,
        link: LocalLinkId,
        payload: Bytes,
        settled: bool,
        now: Instant,
    ) -> Result<u32, Bytes> {
        let started = self
            .connections
            .local(connection.0)
            .and_then(|local| local.start_sending(link));
        let Some((slot, number)) = started else {
            return Err(payload);
        };
        let arrival = Arrival {
            link: slot.index,
            number,
            first: Some(0),
            settled,
            state: None,
            payload,
            more: false,
            aborted: false,
        };
        self.forwarder.transfer(&mut self.connections, now, arrival);
        Ok(number)
    }

    /// Lets a local receiver get more deliveries.
    pub(crate) fn local_credit(
        &mut self,
        connection: ConnectionId,
        link: LocalLinkId,
        credit: u32,
        drain: bool,
        now: Instant,
    ) {
        let Some(local) = self.connections.local(connection.0) else {
            return;
        };
        if local.add_credit(link, credit, drain)
            && let Some((Direction::Outgoing, slot)) = local.slot(link)
        {
            self.forwarder
                .credit_changed(&mut self.connections, now, slot.index);
        }
    }

    /// Settles a delivery that a local receiver got.
    pub(crate) fn local_settle(
        &mut self,
        connection: ConnectionId,
        link: LocalLinkId,
        delivery: u32,
        state: DeliveryState,
        now: Instant,
    ) {
        let Some(local) = self.connections.local(connection.0) else {
            return;
        };
        if let Some(token) = local.settle(link, delivery) {
            self.forwarder
                .receiver_update(&mut self.connections, now, token, Some(state), true);
        }
    }
}
