//! TCP connections as forwarding sees them (`reference/router/tcp-adaptor.md`).
//!
//! Each direction of a TCP connection is one delivery that goes on until that direction ends: what
//! the socket sends leaves by the connection's incoming link, what it is to be sent arrives by its
//! outgoing link. A client's connection starts a stream to the service's address and says where the
//! answer is to go; a stream that arrives for a TCP service makes a connection to it and starts the
//! other direction. The octets themselves are never copied into frames here: where both connections
//! are of one worker, what one socket has read is what the other is written.

mod direct;
mod service;
mod sink;
mod source;
mod window;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::adaptors::observed::Observed;
use crate::control::table::{ConnectorId, Direction, LinkLoad, Slot};
use crate::endpoint::OutBuf;
use crate::observers::Protocol;
use crate::vanflow::Flow;

pub(crate) use service::{Census, Seat, TcpCounts, TcpService, TcpTls};
#[cfg(test)]
pub(crate) use source::{KEPT_MAX, WAITING_MAX};
pub(crate) use window::WindowPool;

use sink::Sink;
use source::Source;

/// One TCP connection, or the making of one.
#[derive(Debug)]
pub(crate) struct TcpConnection {
    /// Its number for management.
    pub(crate) id: u64,
    pub(crate) service: Option<Arc<TcpService>>,
    /// Given back when the connection is gone.
    pub(crate) seat: Option<Seat>,
    pub(crate) side: Side,
    /// The other end, as `host:port`.
    pub(crate) host: String,
    /// This end.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) tls: Option<Arc<TcpTls>>,
    pub(crate) opened: Option<Instant>,
    /// Since when a client has waited for its service's first octet, or this router for a service to
    /// take the connection.
    pub(crate) since: Option<Instant>,
    pub(crate) stage: Stage,
    /// One direction has failed, and the other has until then to end.
    pub(crate) linger_until: Option<Instant>,
    /// What is told of it in telemetry, unless there is too much to tell.
    pub(crate) flow: Option<Box<Flow>>,
    /// What looks for requests in what passes, while there is something to see.
    pub(crate) observed: Option<Box<Observed>>,
    /// The link by which goes what the socket sends.
    pub(crate) incoming: Option<Slot>,
    /// The link by which comes what it is to be sent.
    pub(crate) outgoing: Option<Slot>,
    pub(crate) source: Source,
    pub(crate) sink: Sink,
    pub(crate) out: OutBuf,
}

/// Who made the TCP connection.
#[derive(Debug)]
pub(crate) enum Side {
    /// A client, to a listener of ours.
    Client {
        address: String,
        alpn: Option<String>,
        /// The stream from the service has started. What the client sends before is kept here, as
        /// another service may have to be tried; and it waits here, unless the stream is prompt.
        answered: bool,
    },
    /// This router, to a service.
    Server {
        connector: ConnectorId,
        reply_to: Option<String>,
        alpn: Option<String>,
        /// The routers that the stream has passed.
        trace: Option<String>,
        /// Services that were tried in vain.
        tried: Vec<Arc<LinkLoad>>,
    },
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// There is a stream for a service; what it is has not been said yet.
    Waiting,
    /// The service's host is being connected to.
    Dialling,
    Open,
    /// Nothing more is to come of it.
    Over {
        /// The other end is to see that it was cut off, not that it ended.
        reset: bool,
    },
}

/// What management shows of a TCP connection.
#[derive(Clone, Debug)]
pub(crate) struct TcpStatus {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) address: String,
    pub(crate) incoming: bool,
    pub(crate) tls: Option<Arc<TcpTls>>,
    pub(crate) opened: Option<Instant>,
    pub(crate) octets_in: u64,
    pub(crate) octets_out: u64,
    /// It is over, but what it has to write has not been taken.
    pub(crate) closing: bool,
}

impl TcpConnection {
    /// A connection that a client has made to a listener.
    pub(crate) fn client(
        id: u64,
        service: Arc<TcpService>,
        address: String,
        host: String,
        alpn: Option<String>,
        now: Instant,
    ) -> Self {
        let side = Side::Client {
            address,
            alpn,
            answered: false,
        };
        let mut connection = Self::new(id, side, Stage::Open);
        connection.observed = Observed::new(service.watch());
        connection.service = Some(service);
        connection.host = host;
        connection.opened = Some(now);
        connection.since = Some(now);
        connection
    }

    /// A connection to be made to a service.
    pub(crate) fn server(id: u64, connector: ConnectorId, trace: Option<String>) -> Self {
        let side = Side::Server {
            connector,
            reply_to: None,
            alpn: None,
            trace,
            tried: Vec::new(),
        };
        Self::new(id, side, Stage::Waiting)
    }

    fn new(id: u64, side: Side, stage: Stage) -> Self {
        Self {
            id,
            service: None,
            seat: None,
            side,
            host: String::new(),
            local: None,
            tls: None,
            opened: None,
            since: None,
            stage,
            linger_until: None,
            flow: None,
            observed: None,
            incoming: None,
            outgoing: None,
            source: Source::new(),
            sink: Sink::new(),
            out: OutBuf::default(),
        }
    }

    /// Octets that have passed, to the service and back.
    pub(crate) fn passed(&self) -> [u64; 2] {
        let (read, written) = (self.source.octets, self.sink.octets);
        match self.side {
            Side::Client { .. } => [read, written],
            Side::Server { .. } => [written, read],
        }
    }

    /// The connection is over.
    pub(crate) fn end(&mut self, reset: bool) {
        if !self.is_over() {
            self.stage = Stage::Over { reset };
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over { .. })
    }

    /// Whether it is to be told in telemetry when octets first pass.
    pub(crate) fn wants_time(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| !flow.is_timed())
    }

    /// Whether both directions have ended.
    pub(crate) fn is_done(&self) -> bool {
        self.sink.shut && self.source.ended
    }

    pub(crate) fn slots(&self) -> Vec<(Direction, Slot)> {
        let incoming = self.incoming.map(|slot| (Direction::Incoming, slot));
        let outgoing = self.outgoing.map(|slot| (Direction::Outgoing, slot));
        incoming.into_iter().chain(outgoing).collect()
    }

    /// What the connection has turned out to be, besides TCP.
    pub(crate) fn protocol(&self) -> Option<Protocol> {
        self.observed
            .as_ref()
            .and_then(|observed| observed.protocol())
    }

    pub(crate) fn status(&self) -> TcpStatus {
        let service = self.service.as_ref();
        TcpStatus {
            id: self.id,
            name: service.map_or_else(String::new, |service| service.name.clone()),
            host: self.host.clone(),
            local: self.local,
            address: match &self.side {
                Side::Client { address, .. } => address.clone(),
                Side::Server { .. } => service.map_or_else(String::new, |s| s.address.clone()),
            },
            incoming: matches!(self.side, Side::Client { .. }),
            tls: self.tls.clone(),
            opened: self.opened,
            octets_in: self.source.octets,
            octets_out: self.written(),
            closing: self.is_over(),
        }
    }
}

/// The link of a TCP connection that its own octets go by, as a [`Terminal`] numbers it.
///
/// [`Terminal`]: crate::forwarding::wire::Terminal
pub(crate) const SOURCE: u32 = 0;
/// The link that octets for it come by.
pub(crate) const SINK: u32 = 1;
