//! Conversations, and what is seen of them.

mod http1;
mod http2;

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::exchange::Event;
use super::{Observer, Protocol, Speaker, Watch};

use Speaker::{Client, Service};

/// What is said, piece by piece: one piece each millisecond.
type Conversation<'a> = &'a [(Speaker, &'a [u8])];

/// One connection that is looked at.
struct Watched {
    observer: Observer,
    now: Instant,
    seen: Vec<String>,
}

impl Watched {
    #[allow(clippy::disallowed_methods)] // where its time starts makes no difference
    fn new(watch: Watch) -> Self {
        let mut observer = Observer::new(watch).expect("it is to be looked at");
        observer.set_telling(true);
        Self {
            observer,
            now: Instant::now(),
            seen: Vec::new(),
        }
    }

    fn say(&mut self, from: Speaker, octets: &[u8]) {
        self.observer.observe(from, octets, self.now);
        self.note();
        self.now += Duration::from_millis(1);
    }

    /// Says it without being seen, as far as that may be.
    fn say_unseen(&mut self, from: Speaker, octets: &[u8]) {
        let unseen = octets.len().min(self.observer.unseen(from) as usize);
        if unseen > 0 {
            self.observer.skip(from, unseen as u64, self.now);
        }
        self.say(from, &octets[unseen..]);
    }

    fn note(&mut self) {
        for event in self.observer.take_events() {
            self.seen.push(in_words(event));
        }
    }

    fn end(mut self) -> Vec<String> {
        self.observer.ended(Service, self.now);
        self.note();
        self.seen.push("end".to_owned());
        self.observer.finish(self.now);
        self.note();
        assert!(self.observer.is_over());
        self.seen
    }
}

fn in_words(event: Event) -> String {
    match event {
        Event::Began {
            exchange, request, ..
        } => {
            let mut words = format!("{exchange} {} {}", request.method, request.protocol);
            if let Some(stream) = request.stream {
                words += &format!(" on {stream}");
            }
            if let Some(client) = request.client {
                words += &format!(" for {client}");
            }
            words
        }
        Event::Answered { exchange, latency } => {
            format!("{exchange} answered after {}", latency.as_millis())
        }
        Event::Result {
            exchange,
            status,
            reason,
        } => match reason {
            Some(reason) => format!("{exchange} {status} {reason}"),
            None => format!("{exchange} {status}"),
        },
        Event::Ended {
            exchange, octets, ..
        } => format!("{exchange} ended {}/{}", octets[0], octets[1]),
    }
}

fn seen(watch: Watch, said: Conversation<'_>) -> Vec<String> {
    let mut watched = Watched::new(watch);
    for (from, octets) in said {
        watched.say(*from, octets);
    }
    watched.end()
}

/// What is seen of it without the times.
fn timeless(seen: Vec<String>) -> Vec<String> {
    let words = |line: String| line.split(" after ").next().unwrap_or_default().to_owned();
    seen.into_iter().map(words).collect()
}

/// The same is seen wherever pieces are cut: at each place, and at all of them.
fn assert_cuts_do_not_matter(said: Conversation<'_>) {
    let whole = timeless(seen(Watch::Auto, said));
    for (number, (from, octets)) in said.iter().enumerate() {
        for cut in 1..octets.len() {
            let mut pieces = said.to_vec();
            pieces[number].1 = &octets[..cut];
            pieces.insert(number + 1, (*from, &octets[cut..]));
            assert_eq!(
                timeless(seen(Watch::Auto, &pieces)),
                whole,
                "{number}: {cut}"
            );
        }
    }
    let octets = said.iter().flat_map(|(from, octets)| {
        let each = octets.chunks(1);
        each.map(|octet| (*from, octet))
    });
    let octets: Vec<_> = octets.collect();
    assert_eq!(timeless(seen(Watch::Auto, &octets)), whole);
    let mut watched = Watched::new(Watch::Auto);
    for (from, octets) in octets {
        watched.say_unseen(from, octets);
    }
    assert_eq!(timeless(watched.end()), whole, "unseen where that may be");
}

#[test]
fn nothing_is_looked_at_where_nobody_wants_it() {
    assert!(Observer::new(Watch::of(Some("none"))).is_none());
    for (word, watch) in [
        (Some("auto"), Watch::Auto),
        (None, Watch::Auto),
        (Some("http1"), Watch::Http1),
        (Some("http2"), Watch::Http2),
    ] {
        assert_eq!(Watch::of(word), watch);
        assert_eq!(Watch::of_number(watch as u8), watch);
    }
    assert_eq!(Watch::of_number(Watch::Nothing as u8), Watch::Nothing);
}

#[test]
fn what_a_connection_is_shows_when_the_client_has_said_enough() {
    let mut watched = Watched::new(Watch::Auto);
    assert_eq!(watched.observer.protocol(), None);
    watched.say(Client, b"PRI * HTTP/2.0\r\n\r\nSM");
    assert_eq!(watched.observer.protocol(), None);
    watched.say(Client, b"\r\n\r\n");
    assert_eq!(watched.observer.protocol(), None, "nothing has been asked");
    watched.say(Client, b"\0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84");
    assert_eq!(watched.observer.protocol(), Some(Protocol::Http2));

    let mut watched = Watched::new(Watch::Auto);
    watched.say(Client, b"P");
    assert_eq!(watched.observer.protocol(), None);
    watched.say(Client, b"OST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab");
    assert_eq!(watched.observer.protocol(), Some(Protocol::Http1));
    assert_eq!(watched.seen, ["0 POST HTTP/1.1"]);
}

#[test]
fn a_service_may_speak_first_but_not_for_ever() {
    let mut watched = Watched::new(Watch::Auto);
    for _ in 0..15 {
        watched.say(Service, &[b'x'; 1024]);
        assert!(!watched.observer.is_over());
    }
    watched.say(Service, &[b'x'; 2048]);
    assert!(watched.observer.is_over());
    watched.say(Client, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(watched.seen, [""; 0]);
}

#[test]
fn what_is_not_http_is_let_alone() {
    for octets in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], // TLS
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",                  // PostgreSQL
        b"*1\r\n$4\r\nPING\r\n",                              // Redis
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x10\x25\x00\x04MQTT\x04\xc2",
        b"AMQP\x03\x01\x00\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ] {
        let mut watched = Watched::new(Watch::Auto);
        watched.say(Client, octets);
        assert!(watched.observer.is_over(), "{octets:?}");
        watched.say(Service, b"HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(watched.seen, [""; 0]);
    }
    for (watch, octets) in [
        (Watch::Http2, &b"GET / HTTP/1.1\r\n\r\n"[..]),
        (Watch::Http1, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ] {
        let mut watched = Watched::new(watch);
        watched.say(Client, octets);
        assert!(watched.observer.is_over(), "{watch:?}");
    }
}

/// Nobody wants to know the requests: only how answers are is seen, until somebody does.
#[test]
fn only_what_is_wanted_is_told() {
    let mut watched = Watched::new(Watch::Auto);
    watched.observer.set_telling(false);
    watched.say(Client, b"GET / HTTP/1.1\r\n\r\n");
    watched.observer.set_telling(true);
    watched.say(
        Service,
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    );
    watched.say(Client, b"GET / HTTP/1.1\r\n\r\n");
    watched.observer.set_telling(false);
    watched.say(Service, b"HTTP/1.1 204 No Content\r\n\r\n");
    let expected = [
        "0 answered after 1",
        "0 404",
        "0 GET HTTP/1.1",
        "0 answered after 1",
        "0 204 No Content",
        "0 ended 0/0",
    ];
    assert_eq!(watched.seen, expected);
}

/// Octets that may well be HTTP, in any order.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let fragments = [
        &b"GET / HTTP/1.1\r\n"[..],
        b"HEAD / HTTP/1.0\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"X-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n",
        b"\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        super::http2::PREFACE,
        b"\0\0\x04\x01\x05\0\0\0\x01\x82\x86\x84\x88",
        b"\0\0\x03\x01\x00\0\0\0\x03\x82\x86\x84",
        b"\0\0\x01\x09\x04\0\0\0\x03\x88",
        b"\0\0\x05\x00\x09\0\0\0\x01\x01abc\0",
        b"\0\0\x04\x03\x00\0\0\0\x01\0\0\0\x08",
        b"\0\0\x06\x05\x04\0\0\0\x01\0\0\0\x02\x82\x84",
    ];
    prop_oneof![
        8 => prop::sample::select(fragments.to_vec()).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #[test]
    fn whatever_passes_exchanges_have_a_beginning_and_an_end(
        pieces in prop::collection::vec((any::<bool>(), piece()), 0..60),
        watch in 1u8..4,
    ) {
        let mut watched = Watched::new(Watch::of_number(watch));
        for (client, octets) in &pieces {
            watched.say(if *client { Client } else { Service }, octets);
        }
        let mut open = std::collections::BTreeSet::new();
        for line in watched.end() {
            let Some((exchange, what)) = line.split_once(' ') else { continue };
            let is_end = what.starts_with("ended");
            if what.contains("HTTP/") && !what.starts_with(char::is_numeric) {
                prop_assert!(open.insert(exchange.to_owned()), "{line}");
            } else if is_end {
                prop_assert!(open.remove(exchange), "{line}");
            } else {
                prop_assert!(open.contains(exchange), "{line}");
            }
        }
        prop_assert!(open.is_empty());
    }
}
