//! TCP connections: clients of listeners, and services that streams are for.

mod dialling;
mod outcomes;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use super::{ConnectionId, Worker};
use crate::adaptors::connections::Peer;
use crate::adaptors::tcp::{SINK, Seat, Side, Stage, TcpConnection, TcpService, TcpTls};
use crate::codec::DeliveryState;
use crate::forwarding::links::OutgoingTraits;
use crate::forwarding::wire::Terminal;
use crate::vanflow::RecordId;

pub(crate) use dialling::{Dial, Dialled, NotDialled};
pub(crate) use streams::{BadStream, BadStreamTo};

/// A TCP connection that a client has made to a listener.
#[derive(Debug)]
pub(crate) struct TcpClient {
    pub(crate) service: Arc<TcpService>,
    /// Where it is to lead.
    pub(crate) address: String,
    /// The client, as `host:port`.
    pub(crate) host: String,
    /// This end of the connection.
    pub(crate) local: Option<SocketAddr>,
    /// The protocol that TLS has agreed on.
    pub(crate) alpn: Option<String>,
    pub(crate) tls: Option<Arc<TcpTls>>,
    /// The record, in telemetry, of the listener's way to the address.
    pub(crate) record: Option<RecordId>,
    /// Its place among the listener's connections.
    pub(crate) seat: Option<Seat>,
}

impl Worker {
    /// Adopts a client's connection and starts its stream.
    pub(crate) fn add_tcp_client(&mut self, client: TcpClient, now: Instant) -> ConnectionId {
        let id = self.connections.next_id();
        client.service.counts.opened.fetch_add(1, Ordering::Relaxed);
        let TcpClient {
            service,
            address,
            host,
            local,
            alpn,
            tls,
            record,
            seat,
        } = client;
        let mut tcp = TcpConnection::client(id, service, address, host, alpn, now);
        tcp.local = local;
        tcp.tls = tls;
        tcp.seat = seat;
        self.begin_flow(&mut tcp, record, now);
        let number = self.connections.insert(Peer::Tcp(Box::new(tcp)));
        let traits = OutgoingTraits {
            capacity: 1,
            ..OutgoingTraits::default()
        };
        let (outgoing, _) = self.forwarder.add_outgoing(at(number, SINK), traits);
        if let Some(tcp) = self.connections.tcp(number) {
            tcp.outgoing = Some(outgoing);
        }
        self.start_stream(number, now);
        ConnectionId(number)
    }

    /// Takes what a TCP socket has read.
    pub(super) fn tcp_input(&mut self, number: u32, payload: Bytes, now: Instant) {
        let Some(tcp) = self.connections.tcp(number) else {
            return;
        };
        if let Some(payload) = tcp.took(payload, now) {
            self.continue_stream(number, payload, true, false, now);
        }
    }

    /// A TCP socket has ended, or failed.
    pub(super) fn tcp_eof(&mut self, number: u32, failed: bool, now: Instant) {
        let Some(tcp) = self.connections.tcp(number) else {
            return;
        };
        if failed {
            return self.end_tcp(number, true);
        }
        // A client may have said all, and wait for the answer.
        if !std::mem::replace(&mut tcp.source.ended, true) && !tcp.is_unanswered() {
            self.continue_stream(number, Bytes::new(), false, false, now);
        }
    }

    /// A TCP socket has taken output. True if something can go on that waited for that.
    pub(super) fn tcp_written(&mut self, number: u32, now: Instant) -> bool {
        let Some(tcp) = self.connections.tcp(number) else {
            return false;
        };
        let room = tcp.has_room();
        let told = tcp.take_acknowledgement();
        if let Some((token, octets)) = told {
            let state = DeliveryState::Received {
                section_number: 0,
                section_offset: octets,
            };
            self.forwarder
                .receiver_update(&mut self.connections, now, token, Some(state), false);
        }
        room && self.forwarder.room_changed(number) || told.is_some()
    }

    /// Whether a socket is to be read. One that is not is named by
    /// [`poll_resumed`](Self::poll_resumed) when it is to be read again.
    pub(crate) fn wants_input(&mut self, connection: ConnectionId) -> bool {
        self.connections
            .tcp(connection.0)
            .is_none_or(TcpConnection::wants_input)
    }

    /// Whether a socket is not read at present, whatever it has: it may fail unnoticed.
    pub(crate) fn is_stopped(&mut self, connection: ConnectionId) -> bool {
        let tcp = self.connections.tcp(connection.0);
        tcp.is_some_and(|tcp| tcp.is_stopped())
    }

    /// A connection that is to be read again.
    pub(crate) fn poll_resumed(&mut self) -> Option<ConnectionId> {
        self.resumed.pop().map(ConnectionId)
    }

    /// Whether a socket is to be told that nothing follows; say so with
    /// [`was_shut_down`](Self::was_shut_down).
    pub(crate) fn wants_shutdown(&mut self, connection: ConnectionId) -> bool {
        self.connections
            .tcp(connection.0)
            .is_some_and(|tcp| tcp.wants_shutdown())
    }

    /// A socket has been told that nothing follows: the far end learns that all has arrived.
    pub(crate) fn was_shut_down(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(tcp) = self.connections.tcp(connection.0) {
            tcp.sink.shut = true;
            self.settle_stream(connection.0, DeliveryState::Accepted, now);
            self.connections.touch(connection.0);
        }
    }

    /// Whether a connection is to end so that its peer sees that it was cut off.
    pub(crate) fn is_reset(&mut self, connection: ConnectionId) -> bool {
        match self.connections.get(connection.0) {
            Some(Peer::Amqp(amqp)) => amqp.is_cut_off,
            Some(Peer::Tcp(tcp)) => tcp.stage == Stage::Over { reset: true },
            Some(Peer::Local(_)) | None => false,
        }
    }

    /// Has this router know nothing of prompt streams, like a skrouterd.
    #[cfg(test)]
    pub(crate) fn be_foreign(&mut self) {
        self.forwarder.is_foreign = true;
    }

    /// Has this router say of a stream whose service refuses that it is modified, like a skrouterd.
    #[cfg(test)]
    pub(crate) fn modify_refused(&mut self) {
        self.modifies_refused = true;
    }

    /// Octets that have come for services which are still being connected to.
    #[cfg(test)]
    pub(crate) fn octets_before_services(&self) -> u64 {
        let octets = self.connections.iter().map(|(_, peer)| match peer {
            Peer::Tcp(tcp) if tcp.stage == Stage::Dialling => tcp.sink.octets,
            _ => 0,
        });
        octets.sum()
    }

    #[cfg(test)]
    pub(crate) fn held(&self, connection: ConnectionId) -> [usize; 2] {
        match self.connections.get(connection.0) {
            Some(Peer::Tcp(tcp)) => tcp.held(),
            _ => [0, 0],
        }
    }

    pub(super) fn end_tcp(&mut self, number: u32, reset: bool) {
        if let Some(tcp) = self.connections.tcp(number) {
            tcp.end(reset);
            self.connections.touch(number);
        }
    }

    /// Cuts off every connection of a listener or connector.
    pub(crate) fn drop_service(&mut self, service: &Arc<TcpService>) {
        let of_it = |peer: &Peer| match peer {
            Peer::Tcp(tcp) => tcp.service.as_ref().is_some_and(|s| s.is_of(service)),
            _ => false,
        };
        let numbers = self.connections.iter().filter(|(_, peer)| of_it(peer));
        for number in numbers.map(|(number, _)| number).collect::<Vec<_>>() {
            self.end_tcp(number, true);
        }
    }

    /// Does what has become due for a TCP connection in this turn. True if that gave forwarding
    /// something to do.
    pub(super) fn tcp_turn(&mut self, connection: ConnectionId, now: Instant) -> bool {
        let number = connection.0;
        let Some(tcp) = self.connections.tcp(number) else {
            return false;
        };
        let mut worked = false;
        if tcp.sink.octets > 0
            && let (Some(since), Side::Client { .. }) = (tcp.since, &tcp.side)
        {
            self.waits.first_octet.note(now.duration_since(since));
            tcp.since = None;
        }
        if tcp.sink.aborted && !tcp.is_over() {
            tcp.end(true);
            self.flows.cut_off(tcp, now);
        }
        self.flows.time(tcp, now);
        self.flows.observe(tcp, &mut self.waits, now);
        // It may be over before it has begun: nothing is to be done for it then.
        if let Some(news) = tcp.sink.news.take().filter(|_| !tcp.is_over()) {
            self.stream_started(connection, news, now);
            worked = true;
        }
        if let Some(tcp) = self.connections.tcp(number) {
            tcp.follow_acknowledgements(now, &self.windows);
        }
        worked |= self.follow_outcome(number, now);
        let Some(tcp) = self.connections.tcp(number) else {
            return worked;
        };
        if tcp.stage == Stage::Open && tcp.is_done() {
            tcp.end(false);
        }
        if tcp.is_over() && tcp.opened.is_none() {
            self.remove(connection, now);
            return true;
        }
        if tcp.take_resumed() {
            self.resumed.push(number);
        }
        if tcp.is_over() || !tcp.out.is_empty() || tcp.wants_shutdown() {
            self.writable.push_back(connection);
        }
        worked
    }
}

fn at(connection: u32, link: u32) -> Terminal {
    Terminal {
        connection,
        session: 0,
        link,
    }
}
