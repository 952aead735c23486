//! The two streams of a TCP connection: what its socket sends, and what it is to be sent.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::at;
use crate::adaptors::tcp::{SOURCE, Side, TcpService};
use crate::codec::{DeliveryState, Error, RouterAnnotations, StreamHead};
use crate::control::table::ConnectorId;
use crate::forwarding::Arrival;
use crate::forwarding::links::{IncomingTraits, Target};
use crate::worker::{ConnectionId, Worker, WorkerEvent};

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

impl Worker {
    /// Starts the delivery of what a socket sends, or starts it anew.
    pub(super) fn start_stream(&mut self, number: u32, now: Instant) {
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
    /// The service has answered: sends it what the client has sent meanwhile.
    pub(super) fn send_kept(&mut self, number: u32, now: Instant) {
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

    pub(super) fn continue_stream(
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

    pub(super) fn settle_stream(&mut self, number: u32, state: DeliveryState, now: Instant) {
        let tcp = self.connections.tcp(number);
        if let Some(token) = tcp.and_then(|tcp| tcp.sink.token.take()) {
            self.forwarder
                .receiver_update(&mut self.connections, now, token, Some(state), true);
        }
    }

    /// The sections ahead of a stream have arrived.
    pub(super) fn stream_started(
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
}

fn not_a_stream() -> Error {
    let text = "the answer to a TCP stream must be a TCP stream";
    Error::new("amqp:precondition-failed", text)
}
