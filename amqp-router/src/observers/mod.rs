//! What passes in the TCP connections of a listener, where that is HTTP: requests, their answers
//! and how long those take (`observer` of a `tcpListener`, `reference/router/tcp-adaptor.md` §8).
//!
//! An [`Observer`] sees the octets of both directions as they pass, and changes nothing. Whatever it
//! cannot follow (another protocol, or too much to remember) ends it, never the connection. What it
//! keeps is bounded: 32 KiB of a head or 64 KiB of a header block for each direction, a table of
//! fields whose values are mostly left out, 100 requests or 1000 streams.

mod exchange;
mod hpack;
mod http1;
mod http2;
mod huffman;
#[cfg(test)]
mod tests;

use std::time::Instant;

pub(crate) use self::exchange::{Event, Request};

use self::exchange::Exchanges;
use self::http1::Http1;
use self::http2::{Http2, PREFACE};

/// What a listener looks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Watch {
    Nothing = 0,
    /// Whatever the first octets of the client are.
    #[default]
    Auto = 1,
    Http1 = 2,
    Http2 = 3,
}

impl Watch {
    /// As a configuration says it.
    pub(crate) fn of(text: Option<&str>) -> Self {
        match text {
            Some("none") => Self::Nothing,
            Some("http1") => Self::Http1,
            Some("http2") => Self::Http2,
            _ => Self::Auto,
        }
    }

    pub(crate) fn of_number(number: u8) -> Self {
        let all = [Self::Nothing, Self::Auto, Self::Http1, Self::Http2];
        all.get(usize::from(number)).copied().unwrap_or_default()
    }
}

/// A direction, by who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    Client = 0,
    Service = 1,
}

/// What a connection turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Nothing more can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Over;

/// What sees the octets of one connection.
#[derive(Debug)]
pub(crate) struct Observer {
    exchanges: Exchanges,
    state: State,
}

#[derive(Debug)]
enum State {
    /// So many octets of what clients of HTTP/2 begin with have come, and these from the service.
    Undecided(usize, Vec<u8>),
    Http1(Box<Http1>),
    Http2(Box<Http2>),
    Over,
}

impl Observer {
    /// For a connection that is to be looked at.
    pub(crate) fn new(watch: Watch) -> Option<Self> {
        let state = match watch {
            Watch::Nothing => return None,
            Watch::Auto => State::Undecided(0, Vec::new()),
            Watch::Http1 => State::Http1(Box::default()),
            Watch::Http2 => State::Http2(Box::default()),
        };
        Some(Self {
            exchanges: Exchanges::default(),
            state,
        })
    }

    /// Whether somebody wants to know what requests are, from the next one on.
    pub(crate) fn set_telling(&mut self, telling: bool) {
        self.exchanges.telling = telling;
    }

    /// Octets pass.
    pub(crate) fn observe(&mut self, from: Speaker, octets: &[u8], now: Instant) {
        let exchanges = &mut self.exchanges;
        let taken = match &mut self.state {
            State::Undecided(..) => self.decide(from, octets, now),
            State::Http1(http) => http.take(from, octets, exchanges, now),
            State::Http2(http) => http.take(from, octets, exchanges, now),
            State::Over => Ok(()),
        };
        if taken.is_err() {
            self.finish(now);
        }
    }

    /// How many octets may pass next without being observed, if they are [told of](Self::skip).
    pub(crate) fn unseen(&self, from: Speaker) -> u64 {
        match &self.state {
            State::Undecided(..) | State::Http2(_) => 0,
            State::Http1(http) => http.unseen(from),
            State::Over => u64::MAX,
        }
    }

    /// Octets pass without being observed, no more than there [may](Self::unseen).
    pub(crate) fn skip(&mut self, from: Speaker, octets: u64, now: Instant) {
        let skipped = match &mut self.state {
            State::Undecided(..) | State::Http2(_) => Err(Over),
            State::Http1(http) => http.skip(from, octets, &mut self.exchanges),
            State::Over => Ok(()),
        };
        if skipped.is_err() {
            self.finish(now);
        }
    }

    /// One direction has ended.
    pub(crate) fn ended(&mut self, from: Speaker, now: Instant) {
        if let State::Http1(http) = &mut self.state {
            http.ended(from, &mut self.exchanges, now);
        }
    }

    /// Nothing more will pass.
    pub(crate) fn finish(&mut self, now: Instant) {
        self.state = State::Over;
        self.exchanges.end_all(now);
    }

    /// Whether there is nothing more to see.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// What the connection is known to be, as there has been a request.
    pub(crate) fn protocol(&self) -> Option<Protocol> {
        match self.state {
            _ if !self.exchanges.any => None,
            State::Http1(_) => Some(Protocol::Http1),
            State::Http2(_) => Some(Protocol::Http2),
            State::Undecided(..) | State::Over => None,
        }
    }

    /// What has been seen since.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.exchanges.events)
    }

    /// Decides what the connection is by what the client begins with.
    fn decide(&mut self, from: Speaker, octets: &[u8], now: Instant) -> Result<(), Over> {
        let State::Undecided(greeted, held) = &mut self.state else {
            return Ok(());
        };
        if from == Speaker::Service {
            // Of HTTP/2, the service may speak first.
            held.extend_from_slice(octets.get(..HELD_MOST - held.len()).unwrap_or(octets));
            return if held.len() < HELD_MOST {
                Ok(())
            } else {
                Err(Over)
            };
        }
        let rest = &PREFACE[*greeted..];
        let alike = rest.iter().zip(octets).take_while(|(a, b)| a == b).count();
        if alike == octets.len() && alike < rest.len() {
            *greeted += alike;
            return Ok(());
        }
        let (before, held) = (*greeted, std::mem::take(held));
        self.state = match alike == rest.len() {
            true => State::Http2(Box::default()),
            false => State::Http1(Box::default()),
        };
        self.observe(Speaker::Client, &PREFACE[..before], now);
        self.observe(Speaker::Client, octets, now);
        self.observe(Speaker::Service, &held, now);
        Ok(())
    }
}

/// Octets of the service that are held until the client has said what it is about.
const HELD_MOST: usize = 16 * 1024;

/// Both directions of a connection, in pieces: each begins with an octet that says who speaks and
/// how much. Every exchange that begins ends, once.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(mut bytes: &[u8]) {
    let Some((&watch, rest)) = bytes.split_first() else {
        return;
    };
    bytes = rest;
    let Some(mut observer) = Observer::new(Watch::of_number(watch % 4)) else {
        return;
    };
    observer.set_telling(true);
    #[allow(clippy::disallowed_methods)] // where its time starts makes no difference
    let now = Instant::now();
    let mut open = std::collections::HashSet::new();
    let mut check = |events: Vec<Event>| {
        for event in events {
            match event {
                Event::Began { exchange, .. } => assert!(open.insert(exchange)),
                Event::Ended { exchange, .. } => assert!(open.remove(&exchange)),
                Event::Answered { exchange, .. } | Event::Result { exchange, .. } => {
                    assert!(open.contains(&exchange));
                }
            }
        }
        open.len()
    };
    while let Some((&head, rest)) = bytes.split_first() {
        let speaker = match head & 1 {
            0 => Speaker::Client,
            _ => Speaker::Service,
        };
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(head >> 1) + 1));
        bytes = rest;
        observer.observe(speaker, piece, now);
        assert!(check(observer.take_events()) <= 1000);
    }
    observer.finish(now);
    assert_eq!(check(observer.take_events()), 0);
}
