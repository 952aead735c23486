//! What is told of requests in the connections of TCP clients, where those are HTTP.
//!
//! How long answers take and what their status is, is counted for metrics; each request becomes a
//! record of its own, below that of its connection, while somebody collects those or the log has a
//! line of each.

use std::time::{Duration, Instant};

use super::flows::Flows;
use crate::adaptors::observed::Observed;
use crate::adaptors::tcp::{TcpConnection, TcpService};
use crate::forwarding::stats::Waits;
use crate::observers::{Event, Request};
use crate::vanflow::{Attribute, Datum, FlowEvent, FlowKey, RecordId};

impl Flows {
    /// Looks at what has passed in this turn.
    #[inline]
    pub(super) fn observe(&mut self, tcp: &mut TcpConnection, waits: &mut Waits, now: Instant) {
        if let Some(observed) = &tcp.observed
            && (!observed.is_idle() || tcp.sink.complete)
        {
            self.look(tcp, waits, now);
        }
    }

    fn look(&mut self, tcp: &mut TcpConnection, waits: &mut Waits, now: Instant) {
        let connection = self.connection(tcp);
        let Some(observed) = &mut tcp.observed else {
            return;
        };
        observed.look(
            self.requests && connection.is_some(),
            tcp.sink.complete,
            now,
        );
        self.tell_requests(observed, connection, tcp.service.as_deref(), waits, now);
        if observed.is_over() {
            tcp.observed = None;
        }
    }

    /// The connection is gone.
    pub(super) fn finish_observing(
        &mut self,
        tcp: &mut TcpConnection,
        waits: &mut Waits,
        now: Instant,
    ) {
        let connection = self.connection(tcp);
        if let Some(mut observed) = tcp.observed.take() {
            observed.look(false, tcp.sink.complete, now);
            observed.finish(now);
            self.tell_requests(
                &mut observed,
                connection,
                tcp.service.as_deref(),
                waits,
                now,
            );
        }
    }

    /// The record of a client's connection.
    fn connection(&self, tcp: &TcpConnection) -> Option<RecordId> {
        match tcp.flow.as_ref()?.key() {
            FlowKey::Own(record) => Some(record),
            FlowKey::Of(_) => None,
        }
    }

    fn tell_requests(
        &mut self,
        observed: &mut Observed,
        connection: Option<RecordId>,
        service: Option<&TcpService>,
        waits: &mut Waits,
        now: Instant,
    ) {
        for event in observed.take_events() {
            match event {
                Event::Began {
                    exchange,
                    at,
                    request,
                } => {
                    let record = connection.and_then(|of| self.begin_request(of, request, at, now));
                    observed
                        .records
                        .extend(record.map(|record| (exchange, record)));
                }
                Event::Answered { exchange, latency } => {
                    waits.http_answer.note(latency);
                    if let Some(record) = observed.records.get(&exchange) {
                        self.says(*record, Attribute::Latency, micros(latency), now);
                    }
                }
                Event::Result {
                    exchange,
                    status,
                    reason,
                } => {
                    if let Some(service) = service {
                        service.counts.responded(status);
                    }
                    if let Some(record) = observed.records.get(&exchange) {
                        self.says(*record, Attribute::Result, status.to_string(), now);
                        if let Some(reason) = reason {
                            self.says(*record, Attribute::Reason, reason, now);
                        }
                    }
                }
                Event::Ended {
                    exchange,
                    at,
                    octets,
                } => {
                    if let Some(record) = observed.records.remove(&exchange) {
                        self.says(record, Attribute::Octets, octets[0], now);
                        self.says(record, Attribute::OctetsReverse, octets[1], now);
                        self.tell(FlowEvent::Ended(FlowKey::Own(record), at), now);
                    }
                }
            }
        }
    }

    /// Begins the record of a request, if there may be one.
    fn begin_request(
        &mut self,
        connection: RecordId,
        request: Request,
        at: Instant,
        now: Instant,
    ) -> Option<RecordId> {
        let origin = self.origin.as_ref()?;
        let record = origin.admit_request().then(|| origin.next_id())?;
        self.tell(
            FlowEvent::Asked {
                record,
                connection,
                at,
            },
            now,
        );
        self.says(record, Attribute::Protocol, request.protocol, now);
        self.says(record, Attribute::Method, request.method, now);
        if let Some(stream) = request.stream {
            self.says(record, Attribute::StreamId, u64::from(stream), now);
        }
        if let Some(client) = request.client {
            self.says(record, Attribute::SourceHost, client, now);
        }
        Some(record)
    }

    fn says(
        &mut self,
        record: RecordId,
        attribute: Attribute,
        datum: impl Into<Datum>,
        now: Instant,
    ) {
        let says = FlowEvent::Says(FlowKey::Own(record), attribute, datum.into());
        self.tell(says, now);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
