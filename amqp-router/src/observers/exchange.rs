//! Requests and what becomes of them, whatever the protocol.

use std::time::{Duration, Instant};

use slab::Slab;

use super::Speaker;

/// Something that was seen of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A request has begun: the first event of an exchange. There is one only while somebody
    /// [wants](super::Observer::set_telling) to know, and so of [`Ended`](Self::Ended).
    Began {
        exchange: u32,
        at: Instant,
        request: Request,
    },
    /// The answer has begun, so long after the request.
    Answered { exchange: u32, latency: Duration },
    /// How the answer is. The reason is there if somebody wants to know.
    Result {
        exchange: u32,
        status: u16,
        reason: Option<Box<str>>,
    },
    /// Both are complete, or will not be any more: the exchange's number is another's from now on.
    Ended {
        exchange: u32,
        at: Instant,
        /// Of the bodies, from the client and from the service.
        octets: [u64; 2],
    },
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// As in `HTTP/1.1`.
    pub(crate) protocol: &'static str,
    pub(crate) method: Box<str>,
    /// The stream of an HTTP/2 connection.
    pub(crate) stream: Option<u32>,
    /// The client, if a proxy says who that is.
    pub(crate) client: Option<Box<str>>,
}

/// The exchanges of a connection that have not ended.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    open: Slab<Exchange>,
    pub(super) events: Vec<Event>,
    pub(super) telling: bool,
    /// There has been one.
    pub(super) any: bool,
}

#[derive(Debug)]
struct Exchange {
    began: Instant,
    told: bool,
    answered: bool,
    octets: [u64; 2],
}

impl Exchanges {
    /// A request has begun; `request` is asked what it is, if that matters.
    pub(super) fn begin(&mut self, now: Instant, request: impl FnOnce() -> Request) -> u32 {
        self.any = true;
        let exchange = self.open.insert(Exchange {
            began: now,
            told: self.telling,
            answered: false,
            octets: [0, 0],
        }) as u32;
        if self.telling {
            self.events.push(Event::Began {
                exchange,
                at: now,
                request: request(),
            });
        }
        exchange
    }

    /// Octets of a body have passed.
    pub(super) fn passed(&mut self, exchange: u32, from: Speaker, octets: u64) {
        if let Some(exchange) = self.open.get_mut(exchange as usize) {
            exchange.octets[from as usize] += octets;
        }
    }

    /// An answer's head has passed, which may not be the last one.
    pub(super) fn answered(&mut self, exchange: u32, status: u16, reason: &str, now: Instant) {
        let Some(open) = self.open.get_mut(exchange as usize) else {
            return;
        };
        if !std::mem::replace(&mut open.answered, true) {
            let latency = now.saturating_duration_since(open.began);
            self.events.push(Event::Answered { exchange, latency });
        }
        if is_final(status) {
            let reason = (open.told && !reason.is_empty()).then(|| reason.into());
            self.events.push(Event::Result {
                exchange,
                status,
                reason,
            });
        }
    }

    pub(super) fn end(&mut self, exchange: u32, now: Instant) {
        if let Some(open) = self.open.try_remove(exchange as usize)
            && open.told
        {
            self.events.push(Event::Ended {
                exchange,
                at: now,
                octets: open.octets,
            });
        }
    }

    /// Nothing more is seen of any.
    pub(super) fn end_all(&mut self, now: Instant) {
        let open: Vec<u32> = self.open.iter().map(|(number, _)| number as u32).collect();
        for exchange in open {
            self.end(exchange, now);
        }
    }
}

/// Whether no other answer follows: 101 ends HTTP.
pub(super) fn is_final(status: u16) -> bool {
    status / 100 != 1 || status == 101
}

/// Whom a proxy has named as the client: the first of those that the field names.
pub(super) fn forwarded_for(value: &[u8]) -> Option<Box<str>> {
    let first = value.split(|octet| *octet == b',').next()?;
    let text = std::str::from_utf8(first).ok()?.trim();
    (!text.is_empty()).then(|| text.into())
}
