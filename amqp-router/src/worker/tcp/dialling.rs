//! Connections to services, as streams for them arrive.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::adaptors::tcp::{Side, Stage, TcpService, TcpTls};
use crate::codec::DeliveryState;
use crate::control::table::ConnectorId;
use crate::vanflow::RecordId;
use crate::worker::{ConnectionId, Worker, WorkerEvent};

/// A service that is to be connected to: answer with [`Worker::dialled`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dial {
    pub(crate) connection: ConnectionId,
    /// Tells this connection from a later one of the same number.
    pub(crate) id: u64,
    pub(crate) connector: ConnectorId,
    /// The protocol to offer in TLS.
    pub(crate) alpn: Option<String>,
    /// How long to try: less than one might, as another service may take the connection.
    pub(crate) patience: Option<Duration>,
}

/// A connection to a service that has been made.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) service: Arc<TcpService>,
    /// The service, as `host:port`.
    pub(crate) host: String,
    pub(crate) tls: Option<Arc<TcpTls>>,
    /// This end of the connection.
    pub(crate) local: Option<SocketAddr>,
}

/// A connection to a service that could not be made.
#[derive(Debug)]
pub(crate) struct NotDialled {
    pub(crate) reason: String,
    /// What the connector is in telemetry.
    pub(crate) record: Option<RecordId>,
}

impl Worker {
    /// Says how the connecting went that [`WorkerEvent::Dial`] asked for. False: nobody waits for
    /// it any more, and the socket is to be dropped.
    pub(crate) fn dialled(
        &mut self,
        connection: ConnectionId,
        id: u64,
        result: Result<Dialled, NotDialled>,
        now: Instant,
    ) -> bool {
        let number = connection.0;
        let tcp = self.connections.tcp(number);
        let Some(tcp) = tcp.filter(|tcp| tcp.id == id && tcp.stage == Stage::Dialling) else {
            return false;
        };
        let dialled = match result {
            Ok(dialled) => dialled,
            Err(failed) => {
                self.dial_another(connection, &failed, now);
                return false;
            }
        };
        let counts = &dialled.service.counts;
        counts.opened.fetch_add(1, Ordering::Relaxed);
        counts
            .octets_out
            .fetch_add(tcp.sink.octets, Ordering::Relaxed);
        let record = dialled.service.record;
        tcp.service = Some(dialled.service);
        tcp.host = dialled.host;
        tcp.local = dialled.local;
        tcp.tls = dialled.tls;
        tcp.opened = Some(now);
        tcp.stage = Stage::Open;
        if let Some(since) = tcp.since.take() {
            self.waits.connect.note(now.duration_since(since));
        }
        if let Some(token) = tcp.sink.token {
            self.forwarder.destination_is_well(token);
        }
        self.flow_connected(number, record, dialled.local, now);
        self.start_stream(number, now);
        true
    }

    /// Has the service connected to that a stream is for.
    /// Has the service connected to that a stream is for.
    pub(super) fn dial(&mut self, connection: ConnectionId, now: Instant) {
        let Some(tcp) = self.connections.tcp(connection.0) else {
            return;
        };
        let Side::Server {
            connector,
            alpn,
            tried,
            ..
        } = &tcp.side
        else {
            return;
        };
        let token = tcp.sink.token;
        let others = token.is_some_and(|token| self.forwarder.has_other_destination(token, tried));
        let dial = Dial {
            connection,
            id: tcp.id,
            connector: *connector,
            alpn: alpn.clone(),
            patience: others.then_some(HURRY),
        };
        tcp.stage = Stage::Dialling;
        tcp.since = Some(now);
        self.events.push_back(WorkerEvent::Dial(dial));
    }

    /// A connection could not be made: tries another service of the address, or gives the stream
    /// back.
    fn dial_another(&mut self, connection: ConnectionId, failed: &NotDialled, now: Instant) {
        let Some(tcp) = self.connections.tcp(connection.0) else {
            return;
        };
        let token = tcp.sink.token;
        let Side::Server {
            connector, tried, ..
        } = &mut tcp.side
        else {
            return;
        };
        let next = token.and_then(|token| self.forwarder.next_connector(token, tried, now));
        match next {
            Some(next) => {
                *connector = next;
                self.dial(connection, now);
            }
            None => {
                self.flow_connected(connection.0, failed.record, None, now);
                let error = format!("connection-failed ({})", failed.reason);
                self.flow_failed(connection.0, &error, now);
                // Nothing of it has reached a service: it can be tried elsewhere.
                #[cfg(test)]
                if self.modifies_refused {
                    let modified = DeliveryState::Modified(Box::default());
                    self.settle_stream(connection.0, modified, now);
                    return self.end_tcp(connection.0, false);
                }
                self.settle_stream(connection.0, DeliveryState::Released, now);
                self.end_tcp(connection.0, false);
            }
        }
    }
}

/// How long a service is tried that is not the only one: time for a third packet, and its answer,
/// where the first two were lost.
const HURRY: Duration = Duration::from_secs(4);
