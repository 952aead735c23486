//! TCP connections: clients of listeners, and services that streams are for.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{ConnectionId, Worker, WorkerEvent};
use crate::adaptors::connections::Peer;
use crate::adaptors::tcp::{SINK, SOURCE, Seat, Side, Stage, TcpConnection, TcpService, TcpTls};
use crate::codec::{DeliveryState, Error, RouterAnnotations, StreamHead};
use crate::control::table::ConnectorId;
use crate::forwarding::Arrival;
use crate::forwarding::links::{IncomingTraits, OutgoingTraits, Target};
use crate::forwarding::wire::Terminal;
use crate::vanflow::RecordId;

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

/// A stream that was rejected, as it is not what TCP services exchange.
#[derive(Debug)]
pub(crate) struct BadStream {
    pub(crate) to: BadStreamTo,
    /// The routers that it has passed, if they are known.
    pub(crate) trace: Option<String>,
    pub(crate) reason: String,
}

/// Who got such a stream.
#[derive(Debug)]
pub(crate) enum BadStreamTo {
    Listener(Arc<TcpService>),
    Connector(ConnectorId),
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
    fn dial(&mut self, connection: ConnectionId, now: Instant) {
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

    /// Starts the delivery of what a socket sends, or starts it anew.
    fn start_stream(&mut self, number: u32, now: Instant) {
        let Some(tcp) = self.connections.tcp(number) else {
            return;
        };
        let incoming = tcp.incoming.unwrap_or_else(|| {
            let traits = IncomingTraits {
                capacity: 1,
                flags: RouterAnnotations::STREAMING | RouterAnnotations::DISABLE_Q2,
                tries_again: matches!(tcp.side, Side::Client { .. }),
                ..IncomingTraits::default()
            };
            let slot = self.forwarder.add_incoming(at(number, SOURCE), traits);
            self.forwarder.open_incoming(slot, Target::Anonymous, None);
            slot
        });
        tcp.incoming = Some(incoming);
        tcp.start_over(now);
        let correlation_id = match &tcp.flow {
            Some(flow) => self.flows.identity(flow),
            None => None,
        };
        let head = match &tcp.side {
            Side::Client { address, alpn, .. } => StreamHead {
                to: Some(address.clone()),
                reply_to: tcp.outgoing.map(|link| self.forwarder.reply_address(link)),
                alpn: alpn.clone(),
                correlation_id,
                is_stream: true,
            },
            Side::Server { reply_to, .. } => StreamHead {
                to: reply_to.clone(),
                is_stream: true,
                ..StreamHead::default()
            },
        };
        let arrival = Arrival {
            link: incoming.index,
            number: tcp.source.attempts,
            first: Some(0),
            settled: false,
            state: None,
            payload: head.encode(),
            more: true,
            aborted: false,
        };
        self.connections.touch(number);
        self.forwarder.transfer(&mut self.connections, now, arrival);
        if self.forwarder.is_prompt(incoming.index) {
            let tcp = self.connections.tcp(number);
            let kept = tcp.map_or_else(Vec::new, |tcp| tcp.be_prompt(now));
            for octets in kept {
                self.continue_stream(number, octets, true, false, now);
            }
        }
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

    /// The service has answered: sends it what the client has sent meanwhile.
    fn send_kept(&mut self, number: u32, now: Instant) {
        let Some(tcp) = self.connections.tcp(number) else {
            return;
        };
        let ended = tcp.source.ended;
        for octets in tcp.take_kept(now) {
            self.continue_stream(number, octets, true, false, now);
        }
        if ended {
            self.continue_stream(number, Bytes::new(), false, false, now);
        }
    }

    fn continue_stream(
        &mut self,
        number: u32,
        payload: Bytes,
        more: bool,
        aborted: bool,
        now: Instant,
    ) {
        let tcp = self.connections.tcp(number);
        let Some((link, attempts)) = tcp.and_then(|tcp| Some((tcp.incoming?, tcp.source.attempts)))
        else {
            return;
        };
        let arrival = Arrival {
            link: link.index,
            number: attempts,
            first: None,
            settled: false,
            state: None,
            payload,
            more,
            aborted,
        };
        self.connections.touch(number);
        self.forwarder.transfer(&mut self.connections, now, arrival);
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

    fn settle_stream(&mut self, number: u32, state: DeliveryState, now: Instant) {
        let tcp = self.connections.tcp(number);
        if let Some(token) = tcp.and_then(|tcp| tcp.sink.token.take()) {
            self.forwarder
                .receiver_update(&mut self.connections, now, token, Some(state), true);
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

    /// The sections ahead of a stream have arrived.
    fn stream_started(
        &mut self,
        connection: ConnectionId,
        news: Result<StreamHead, Error>,
        now: Instant,
    ) {
        let Some(tcp) = self.connections.tcp(connection.0) else {
            return;
        };
        let bad = match (news, &mut tcp.side) {
            (Err(error), _) => error,
            (Ok(head), Side::Client { answered, .. }) if head.is_stream => {
                *answered = true;
                tcp.review_reading();
                return self.send_kept(connection.0, now);
            }
            (Ok(_), Side::Client { .. }) => not_a_stream(),
            // Not for this service; another receiver may make sense of it.
            (Ok(head), Side::Server { .. }) if !head.is_stream => {
                self.settle_stream(connection.0, DeliveryState::Released, now);
                return self.end_tcp(connection.0, true);
            }
            (
                Ok(head),
                Side::Server {
                    reply_to,
                    alpn,
                    trace,
                    ..
                },
            ) => match &head.reply_to {
                Some(to) => {
                    *reply_to = Some(to.clone());
                    alpn.clone_from(&head.alpn);
                    let trace = trace.take();
                    self.join_flow(connection.0, &head, trace, now);
                    return self.dial(connection, now);
                }
                None => Error::new("amqp:invalid-field", "a TCP stream needs a reply-to"),
            },
        };
        self.reject_stream(connection, bad, now);
    }

    /// A peer has sent something else than TCP services exchange.
    fn reject_stream(&mut self, connection: ConnectionId, error: Error, now: Instant) {
        let Some(tcp) = self.connections.tcp(connection.0) else {
            return;
        };
        let reason = error.to_string();
        let (to, trace) = match &mut tcp.side {
            Side::Server {
                connector, trace, ..
            } => (Some(BadStreamTo::Connector(*connector)), trace.take()),
            Side::Client { .. } => (tcp.service.clone().map(BadStreamTo::Listener), None),
        };
        let told = to.map(|to| BadStream { to, trace, reason });
        let told = told.map(|bad| WorkerEvent::BadStream(Box::new(bad)));
        self.events.extend(told);
        self.settle_stream(connection.0, DeliveryState::rejected(error), now);
        self.end_tcp(connection.0, true);
    }

    /// Does what the outcome of what a socket sends asks for. True if that gave forwarding
    /// something to do.
    fn follow_outcome(&mut self, number: u32, now: Instant) -> bool {
        let Some(tcp) = self.connections.tcp(number) else {
            return false;
        };
        let outcome = match &tcp.source.outcome {
            Some(Some(outcome)) if !tcp.is_over() => outcome,
            _ => return false,
        };
        if matches!(outcome, DeliveryState::Accepted) {
            return false;
        }
        let rejected = matches!(outcome, DeliveryState::Rejected(_));
        let released = matches!(outcome, DeliveryState::Released);
        let unanswered = tcp.is_unanswered();
        // A service may have got what the client has sent, and no other must get it then.
        let spent = rejected || !released && tcp.has_ventured();
        if unanswered && matches!(outcome, DeliveryState::Modified(_)) {
            let doubt = tcp.source.doubt(now);
            let believe_at = *tcp.source.believe_at.get_or_insert_with(|| {
                self.timers.push(Reverse((now + doubt, number)));
                now + doubt
            });
            if now < believe_at {
                return false;
            }
        }
        tcp.source.outcome = None;
        tcp.source.believe_at = None;
        if let (true, false, Some(link)) = (unanswered, spent, tcp.incoming)
            && self.forwarder.attempts(link.index) >= tcp.source.attempts as usize
            && tcp.opened.is_none_or(|opened| now < opened + TRY_FOR)
        {
            self.forwarder.last_attempt_failed(link.index, now);
            self.continue_stream(number, Bytes::new(), false, true, now);
            self.start_stream(number, now);
            return true;
        }
        let soon = tcp.opened.is_none_or(|opened| now < opened + ROUNDS_FOR);
        if unanswered && !spent && tcp.source.rounds < ROUNDS && soon {
            let again_at = *tcp.source.again_at.get_or_insert(now + PAUSE);
            self.timers.push(Reverse((again_at, number)));
            return false;
        }
        if let Some(service) = tcp.service.as_ref().filter(|_| unanswered) {
            service.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        if unanswered {
            tcp.end(true);
            self.flow_failed(number, "delivery-failed (destination unreachable)", now);
            return false;
        }
        // The other direction may have more to say, and be on its way still.
        tcp.source.ended = true;
        tcp.linger_until = Some(now + LINGER);
        self.continue_stream(number, Bytes::new(), false, true, now);
        true
    }

    /// Believes an outcome that an answer might have been behind, or tries everything anew for a
    /// client whose stream nobody has taken a moment ago, if that is due.
    pub(super) fn look_again(&mut self, number: u32, now: Instant) {
        let Some(tcp) = self.connections.tcp(number) else {
            return;
        };
        if tcp.source.believe_at.is_some_and(|at| at <= now) {
            self.connections.touch(number);
            return;
        }
        let due = tcp.source.again_at.is_some_and(|at| at <= now);
        if !due || !tcp.is_unanswered() || tcp.is_over() {
            return;
        }
        tcp.source.again_at = None;
        tcp.source.rounds += 1;
        tcp.source.attempts = 0;
        if let Some(link) = tcp.incoming {
            self.forwarder.forget_attempts(link.index);
        }
        self.continue_stream(number, Bytes::new(), false, true, now);
        self.start_stream(number, now);
    }

    /// Ends connections one of whose directions has failed, and whose other one has not ended
    /// since; and those of clients that have waited for an answer for too long.
    pub(super) fn end_lingering(&mut self, now: Instant) {
        let lingering = self.connections.iter().filter(|(_, peer)| match peer {
            Peer::Tcp(tcp) => {
                let deadline = match tcp.is_unanswered() {
                    true => tcp.opened.map(|opened| opened + ANSWER_TIME_OUT),
                    false => None,
                };
                let due = [tcp.linger_until, deadline].into_iter().flatten().min();
                due.is_some_and(|due| due <= now)
            }
            _ => false,
        });
        for number in lingering.map(|(number, _)| number).collect::<Vec<_>>() {
            self.end_tcp(number, true);
        }
    }
}

/// How long a service is tried that is not the only one: time for a third packet, and its answer,
/// where the first two were lost.
const HURRY: Duration = Duration::from_secs(4);
/// How often everything is tried anew for a stream that nobody has taken. (Routers on the way learn
/// from each attempt who fails, but not from one alone.)
const ROUNDS: u8 = 2;

/// How long after it has connected a client's stream is tried again.
const TRY_FOR: Duration = Duration::from_secs(20);
/// How long after a client has connected everything may be tried anew: who has failed more slowly
/// than this has not failed for want of knowledge, and would as slowly again.
const ROUNDS_FOR: Duration = Duration::from_secs(5);
/// How long after everything has failed it is tried once more.
const PAUSE: Duration = Duration::from_millis(300);
/// How long a client waits for the service's answer.
const ANSWER_TIME_OUT: Duration = Duration::from_secs(60);
/// How long one direction may go on when the other has failed.
const LINGER: Duration = Duration::from_secs(10);

fn not_a_stream() -> Error {
    let text = "the answer to a TCP stream must be a TCP stream";
    Error::new("amqp:precondition-failed", text)
}

fn at(connection: u32, link: u32) -> Terminal {
    Terminal {
        connection,
        session: 0,
        link,
    }
}
