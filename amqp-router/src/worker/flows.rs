//! What is told of connections in telemetry.
//!
//! It is told in batches, [`DELAY`] after the first thing that is worth it. How many octets have
//! passed is told once a second, while somebody collects that. A connection of which there is no
//! record costs nothing here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{ConnectionId, Worker, WorkerEvent};
use crate::adaptors::connections::Peer;
use crate::adaptors::tcp::{Side, TcpConnection};
use crate::codec::StreamHead;
use crate::control::table::ConnectorId;
use crate::vanflow::{Attribute, Flow, FlowEvent, FlowKey, Identity, Origin, RecordId};

/// What somebody wants to know of TCP connections besides that they are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// How many octets pass.
    pub(crate) octets: bool,
    /// What requests pass, where that is HTTP.
    pub(crate) requests: bool,
}

/// What a worker has to tell.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// Where records get their numbers; none: nothing is told.
    pub(super) origin: Option<Arc<Origin>>,
    events: Vec<FlowEvent>,
    pub(super) due: Option<Instant>,
    /// Somebody wants to know how many octets pass.
    counts: bool,
    /// Somebody wants to know what requests pass.
    pub(super) requests: bool,
}

impl Flows {
    pub(super) fn tell(&mut self, event: FlowEvent, now: Instant) {
        self.due.get_or_insert(now + DELAY);
        self.events.push(event);
    }

    /// Octets may have passed in this turn.
    #[inline]
    pub(super) fn time(&mut self, tcp: &mut TcpConnection, now: Instant) {
        let passed = tcp.passed();
        if let Some(flow) = &mut tcp.flow
            && !flow.is_timed()
            && let Some(event) = flow.passed(passed, now)
        {
            self.tell(event, now);
        }
    }

    /// The rest of a service's answer will not come.
    pub(super) fn cut_off(&mut self, tcp: &TcpConnection, now: Instant) {
        if let (Some(flow), Side::Client { .. }) = (&tcp.flow, &tcp.side) {
            let error = "delivery-failed (the service's end of the connection was cut off)";
            self.tell(flow.failed(error), now);
        }
    }

    /// What names the record of a client's connection for the router of its service.
    pub(super) fn identity(&self, flow: &Flow) -> Option<String> {
        match (flow.key(), &self.origin) {
            (FlowKey::Own(record), Some(origin)) => Some(origin.identity(record).to_string()),
            _ => None,
        }
    }
}

impl Worker {
    /// Tells of connections from now on.
    pub(crate) fn tell_flows(&mut self, origin: Arc<Origin>) {
        self.flows.origin = Some(origin);
    }

    /// What somebody wants to know from now on.
    pub(crate) fn set_wanted(&mut self, wanted: Wanted) {
        self.flows.counts = wanted.octets;
        self.flows.requests = wanted.requests;
    }

    /// A client has connected to a listener.
    pub(super) fn begin_flow(
        &mut self,
        tcp: &mut TcpConnection,
        listener: Option<RecordId>,
        now: Instant,
    ) {
        let (Some(origin), Some(listener)) = (&self.flows.origin, listener) else {
            return;
        };
        if !origin.admit() {
            return;
        }
        let record = origin.next_id();
        let key = FlowKey::Own(record);
        let began = FlowEvent::Began {
            record,
            listener,
            at: now,
        };
        self.flows.tell(began, now);
        let flow = Flow::new(key);
        let host = split_host(&tcp.host);
        self.flows
            .tell(flow.says(Attribute::SourceHost, host.0), now);
        self.flows
            .tell(flow.says(Attribute::SourcePort, host.1), now);
        tcp.flow = Some(Box::new(flow));
    }

    /// A stream has come for a service of this router.
    pub(super) fn join_flow(
        &mut self,
        number: u32,
        head: &StreamHead,
        trace: Option<String>,
        now: Instant,
    ) {
        let identity = head.correlation_id.as_deref().and_then(Identity::parse);
        let (Some(origin), Some(identity)) = (&self.flows.origin, identity) else {
            return;
        };
        let Some(tcp) = self.connections.tcp(number) else {
            return;
        };
        if !origin.admit() {
            return;
        }
        let flow = Flow::new(FlowKey::Of(identity));
        let trace = trace.unwrap_or_else(|| "Local".to_owned());
        self.flows.tell(FlowEvent::Joined(identity), now);
        self.flows.tell(flow.says(Attribute::Trace, trace), now);
        tcp.flow = Some(Box::new(flow));
    }

    /// The service of a connector is connected to, from this address; or is not.
    pub(super) fn flow_connected(
        &mut self,
        number: u32,
        connector: Option<RecordId>,
        local: Option<SocketAddr>,
        now: Instant,
    ) {
        let tcp = self.connections.tcp(number);
        let (Some(flow), Some(origin)) =
            (tcp.and_then(|tcp| tcp.flow.as_ref()), &self.flows.origin)
        else {
            return;
        };
        let connector = connector.map(|connector| {
            let identity = origin.identity(connector).to_string();
            flow.says(Attribute::Connector, identity)
        });
        let local = local.map(|local| {
            let host = flow.says(Attribute::ProxyHost, local.ip().to_string());
            [
                host,
                flow.says(Attribute::ProxyPort, local.port().to_string()),
            ]
        });
        for event in connector.into_iter().chain(local.into_iter().flatten()) {
            self.flows.tell(event, now);
        }
    }

    /// A connection's socket has failed.
    pub(crate) fn socket_failed(
        &mut self,
        connection: ConnectionId,
        error: &std::io::Error,
        now: Instant,
    ) {
        let tcp = self.connections.tcp(connection.0);
        // Without the farewell of TLS. Many programs do without it, and wait for an answer; those
        // to whom it matters whether they have heard all have words for that.
        if tcp.is_some() && error.kind() == std::io::ErrorKind::UnexpectedEof {
            return self.eof(connection, false, now);
        }
        if let Some(tcp) = tcp.filter(|tcp| !tcp.is_over()) {
            if let Some(connector) = refused_by(tcp, error) {
                let why = error.to_string();
                self.events
                    .push_back(WorkerEvent::CutOff { connector, why });
            }
            if tcp.flow.is_some() {
                let error = format!("connection-lost ({error})");
                self.flow_failed(connection.0, &error, now);
            }
        }
        // Only TLS says what is wrong with what was read.
        if error.kind() == std::io::ErrorKind::InvalidData
            && let Some(amqp) = self.connections.amqp(connection.0)
        {
            amqp.endpoint.handle_broken(error.to_string());
        }
        self.eof(connection, true, now);
    }

    /// Why this end of a connection fails.
    pub(super) fn flow_failed(&mut self, number: u32, error: &str, now: Instant) {
        let tcp = self.connections.tcp(number);
        if let Some(flow) = tcp.and_then(|tcp| tcp.flow.as_ref()) {
            self.flows.tell(flow.failed(error), now);
        }
    }

    /// A connection is gone.
    pub(super) fn end_flow(&mut self, tcp: &mut TcpConnection, now: Instant) {
        let passed = tcp.passed();
        let Some(mut flow) = tcp.flow.take() else {
            return;
        };
        for event in flow.count(passed) {
            self.flows.tell(event, now);
        }
        self.flows.tell(FlowEvent::Ended(flow.key(), now), now);
    }

    /// Once a second: tells how many octets have passed, where that has changed.
    pub(super) fn count_octets(&mut self, now: Instant) {
        if !self.flows.counts {
            return;
        }
        for peer in self.connections.peers() {
            match peer {
                Peer::Tcp(tcp) => {
                    let passed = tcp.passed();
                    let flow = tcp.flow.as_mut();
                    for event in flow.into_iter().flat_map(|flow| flow.count(passed)) {
                        self.flows.tell(event, now);
                    }
                }
                Peer::Amqp(amqp) => {
                    let id = amqp.id;
                    let octets = amqp.take_octets();
                    let event = octets.map(|octets| WorkerEvent::Octets { id, octets });
                    self.events.extend(event);
                }
                Peer::Local(_) => {}
            }
        }
    }

    /// Hands over what there is to tell, if it is time.
    pub(super) fn hand_over_flows(&mut self, now: Instant) {
        if self.flows.due.is_some_and(|due| due <= now) {
            self.flows.due = None;
            let events = std::mem::take(&mut self.flows.events);
            self.events.push_back(WorkerEvent::Flows(events));
        }
    }
}

/// The connector whose certificate the service refuses, if it says so by this error.
fn refused_by(tcp: &TcpConnection, error: &std::io::Error) -> Option<ConnectorId> {
    // TLS itself says so; who merely goes may have been left first.
    let is_said = error.kind() == std::io::ErrorKind::InvalidData;
    match tcp.side {
        Side::Server { connector, .. }
            if is_said && tcp.tls.is_some() && tcp.source.octets == 0 =>
        {
            Some(connector)
        }
        _ => None,
    }
}

/// `host:port`, with brackets around the host if it has colons itself.
fn split_host(address: &str) -> (&str, &str) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    (bare.unwrap_or(host), port)
}

/// How long what there is to tell waits for more.
const DELAY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;
    use crate::adaptors::tcp::TcpTls;

    #[test]
    fn a_service_that_goes_without_a_word_has_not_refused_a_certificate() {
        let said = |kind| Error::new(kind, "it is over");
        let mut tcp = TcpConnection::server(1, ConnectorId(7), None);
        let refuses = |tcp: &TcpConnection, kind| refused_by(tcp, &said(kind)).is_some();
        assert!(!refuses(&tcp, ErrorKind::InvalidData), "nothing secures it");
        tcp.tls = Some(Arc::new(TcpTls {
            protocol: "TLSv1.3",
            cipher: "TLS_AES_256_GCM_SHA384",
            strength: 0,
            user: None,
            ordinal: 0,
        }));
        assert!(refuses(&tcp, ErrorKind::InvalidData), "an alert of TLS");
        // Without close_notify, or with what was not read any more.
        assert!(!refuses(&tcp, ErrorKind::UnexpectedEof));
        assert!(!refuses(&tcp, ErrorKind::ConnectionReset));
        tcp.source.octets = 1;
        assert!(!refuses(&tcp, ErrorKind::InvalidData), "it was let in");
    }

    #[test]
    fn a_host_has_a_port() {
        assert_eq!(split_host("127.0.0.1:80"), ("127.0.0.1", "80"));
        assert_eq!(split_host("[::1]:80"), ("::1", "80"));
        assert_eq!(split_host("client"), ("client", ""));
    }
}
