//! How connections end (AMQP 2.4.3, 2.4.6; C-38 to C-41).

use std::time::Duration;

use super::pair::Pair;
use super::raw::{Raw, begin, some_error};
use crate::codec::{Close, Error, Performative, Role, condition};
use crate::endpoint::{ConnectionError, Event};

#[test]
fn close_is_answered_with_close() {
    let mut raw = Raw::begun();
    let error = Some(some_error());
    raw.send(
        5,
        Performative::Close(Close {
            error: error.clone(),
        }),
    );
    assert_eq!(raw.performatives(), [Performative::Close(Close::default())]);
    assert!(raw.server.connection.is_finished());
    let [
        Event::Closed {
            error: given,
            local: None,
        },
    ] = &raw.server.events[..]
    else {
        panic!("{:?}", raw.server.events);
    };
    assert_eq!(*given, error);
}

#[test]
fn what_follows_the_peers_close_is_ignored() {
    let mut raw = Raw::begun();
    raw.send(0, Performative::Close(Close::default()));
    raw.output();
    raw.send(0, begin());
    raw.bytes(b"nonsense, all of it");
    raw.server.connection.handle_eof();
    raw.turn();
    assert_eq!(raw.output(), b"");
    assert_eq!(raw.server.events.len(), 1);
}

#[test]
fn what_precedes_the_answer_to_our_close_is_ignored() {
    let mut raw = Raw::begun();
    raw.server.connection.close(Some(some_error()), raw.now);
    assert!(matches!(raw.performatives()[..], [Performative::Close(_)]));
    raw.send(0, begin());
    raw.send(0, super::raw::attach(0, Role::Sender, "link"));
    raw.bytes(&[0, 0, 0, 12, 2, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!(raw.output(), b"");
    assert!(raw.server.events.is_empty());
    raw.send(0, Performative::Close(Close::default()));
    assert!(matches!(
        raw.server.events[..],
        [Event::Closed {
            error: None,
            local: None
        }]
    ));
    assert!(raw.server.connection.is_finished());
}

#[test]
fn a_peer_that_does_not_answer_our_close_is_dropped_after_five_seconds() {
    let mut raw = Raw::begun();
    raw.bytes(&[0, 0, 0, 0, 0, 0, 0, 0]);
    let deadline = raw
        .server
        .connection
        .poll_timeout()
        .expect("there is a deadline");
    assert_eq!(deadline, raw.now + Duration::from_secs(5));
    assert!(!raw.server.connection.is_finished());
    raw.server.connection.handle_timeout(deadline);
    raw.turn();
    assert!(raw.server.connection.is_finished());
    assert_eq!(raw.server.events.len(), 1, "the owner is told once");
}

#[test]
fn closes_may_cross() {
    let mut pair = Pair::opened();
    pair.client.connection.close(None, pair.now);
    pair.server.connection.close(Some(some_error()), pair.now);
    pair.drive();
    assert!(pair.client.connection.is_finished() && pair.server.connection.is_finished());
    assert!(matches!(
        pair.client.events[..],
        [Event::Closed {
            error: Some(_),
            local: None
        }]
    ));
    assert!(matches!(
        pair.server.events[..],
        [Event::Closed {
            error: None,
            local: None
        }]
    ));
}

#[test]
fn a_server_that_refuses_a_client_opens_before_it_closes() {
    let mut raw = Raw::connected();
    raw.server.connection.close(Some(some_error()), raw.now);
    let answer = raw.performatives();
    assert!(
        matches!(answer[..], [Performative::Open(_), Performative::Close(_)]),
        "{answer:?}"
    );
}

#[test]
fn a_close_before_amqp_was_agreed_on_is_silent() {
    let mut raw = Raw::new(super::pair::server_config());
    raw.server.connection.close(Some(some_error()), raw.now);
    raw.turn();
    assert_eq!(raw.output(), b"");
    assert!(raw.server.connection.is_finished());
}

#[test]
fn the_end_of_input_ends_everything() {
    let (mut raw, link) = Raw::attached(Role::Receiver);
    raw.bytes(&[0, 0, 0, 99, 2]); // half a frame
    raw.server.connection.handle_eof();
    raw.turn();
    assert!(matches!(
        raw.server.events[..],
        [Event::Closed {
            error: None,
            local: Some(ConnectionError::Eof)
        }]
    ));
    assert!(raw.server.connection.is_finished());
    assert_eq!(raw.server.connection.poll_timeout(), None);
    assert_eq!(raw.server.connection.credit(link), 0);
}

#[test]
fn outcomes_leave_before_close() {
    let (mut pair, link) = Pair::attached(Role::Sender);
    pair.server.connection.set_credit(link.server, 1);
    pair.drive();
    pair.client
        .send(link.client, false, "message")
        .expect("there is credit");
    pair.drive();
    let delivery = pair.server.deliveries()[0];
    pair.server.connection.update(delivery, None, true);
    pair.server.connection.close(
        Some(Error::new(condition::CONNECTION_FORCED, "bye")),
        pair.now,
    );
    pair.drive();
    assert_eq!(pair.client.updates().len(), 1);
}
