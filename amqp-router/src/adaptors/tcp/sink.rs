//! What a socket is sent.

use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use super::{Stage, TcpConnection};
use crate::codec::{Error, Progress, StreamHead};
use crate::forwarding::wire::{Allowance, Head};
use crate::observers::Speaker;

/// What the socket is sent.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    /// Forwarding's name for the delivery, while it has to be settled.
    pub(crate) token: Option<u32>,
    /// The delivery has begun to arrive.
    started: bool,
    /// What has arrived of the sections ahead of the octets, until they are complete.
    head: Option<BytesMut>,
    /// The sections, until somebody has looked at them.
    pub(crate) news: Option<Result<StreamHead, Error>>,
    /// Octets that have arrived for the socket.
    pub(crate) octets: u64,
    /// Octets that had been written when the far end was last told.
    told: u64,
    /// All of it has arrived.
    pub(crate) complete: bool,
    /// The far end was cut off.
    pub(crate) aborted: bool,
    /// The socket has been told that nothing follows.
    pub(crate) shut: bool,
}

impl Sink {
    pub(super) fn new() -> Self {
        Self {
            head: Some(BytesMut::new()),
            ..Self::default()
        }
    }
}

impl TcpConnection {
    /// Octets that have been written to the socket.
    pub(crate) fn written(&self) -> u64 {
        self.sink.octets - self.out.len() as u64
    }

    /// How many octets have been written, if it is time to tell the far end.
    pub(crate) fn take_acknowledgement(&mut self) -> Option<(u32, u64)> {
        let written = self.written();
        let token = self.sink.token?;
        if written - self.sink.told < TELL_EVERY || self.sink.complete {
            return None;
        }
        self.sink.told = written;
        Some((token, written))
    }

    /// Whether all that will ever be written has been, and the socket is to be told so.
    pub(crate) fn wants_shutdown(&self) -> bool {
        self.stage == Stage::Open && self.sink.complete && !self.sink.shut && self.out.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.out.len() <= ROOM / 2
    }

    pub(in crate::adaptors) fn allowance(&self) -> Allowance {
        Allowance {
            // One delivery is all that a socket is ever sent.
            credit: u32::from(!self.sink.started),
            room: self.out.len() < ROOM && !self.is_over(),
            drain: false,
            join: 0,
        }
    }

    pub(in crate::adaptors) fn start(
        &mut self,
        head: &Head<'_>,
        payload: Bytes,
        more: bool,
    ) -> u32 {
        self.sink.started = true;
        self.sink.token = (!head.settled).then_some(head.token);
        self.receive(payload, more);
        0
    }

    /// Octets arrive for the socket.
    pub(in crate::adaptors) fn receive(&mut self, mut payload: Bytes, more: bool) {
        if let Some(head) = &mut self.sink.head {
            if !head.is_empty() {
                head.extend_from_slice(&payload);
                payload = head.split().freeze();
            }
            match StreamHead::decode(&payload) {
                Progress::Complete((news, length)) => {
                    self.sink.news = Some(Ok(news));
                    self.sink.head = None;
                    payload = payload.split_off(length);
                }
                Progress::NeedMore if more && payload.len() < HEAD_MAX => {
                    head.extend_from_slice(&payload);
                    return;
                }
                Progress::NeedMore | Progress::Malformed => {
                    let text = "the sections ahead of a TCP stream are malformed";
                    self.sink.news = Some(Err(Error::new("amqp:decode-error", text)));
                    return;
                }
            }
        }
        self.sink.octets += payload.len() as u64;
        if let Some(service) = &self.service {
            let counted = &service.counts.octets_out;
            counted.fetch_add(payload.len() as u64, Ordering::Relaxed);
        }
        if !payload.is_empty() {
            if let Some(observed) = &mut self.observed {
                observed.pass(Speaker::Service, &payload);
            }
            self.out.push_payload(payload);
        }
        self.sink.complete |= !more;
    }

    /// The rest of what the socket was to be sent will not come.
    pub(in crate::adaptors) fn cut_off(&mut self) {
        self.sink.token = None;
        self.sink.aborted = true;
    }

    /// The far end says something of what it sends.
    pub(in crate::adaptors) fn sender_update(&mut self, settled: bool) {
        if settled {
            self.sink.token = None;
        }
    }

    pub(in crate::adaptors) fn forget(&mut self) {
        self.sink.token = None;
    }
}

/// Octets after whose writing the far end is told.
const TELL_EVERY: u64 = 131_072;
/// Octets that may wait for the socket to take them.
const ROOM: usize = 512 * 1024;
/// Octets that the sections ahead of a stream may take.
const HEAD_MAX: usize = 16 * 1024;
