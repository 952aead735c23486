//! Idle time-outs and heartbeats (AMQP 2.4.5; C-35 to C-37).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pair::{Pair, client_config, server_config};
use super::raw::{Raw, open};
use crate::codec::{Open, Performative, condition};
use crate::endpoint::{Config, Connection, ConnectionError, Event};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn half_the_threshold_is_announced() {
    let config = Config {
        idle_time_out: Some(10 * SECOND),
        ..server_config()
    };
    let mut raw = Raw::connected_with(config);
    raw.send(0, Performative::Open(Box::new(open())));
    let answer = raw.performatives();
    let [Performative::Open(open)] = &answer[..] else {
        panic!("{answer:?}")
    };
    assert_eq!(open.idle_time_out, Some(5 * SECOND));
}

#[test]
fn what_went_before_is_part_of_the_time_to_open() {
    let config = Config {
        handshake_time_out: 10 * SECOND,
        ..server_config()
    };
    let accepted = Instant::now();
    let mut server = Connection::server(Arc::new(config), accepted);
    assert_eq!(server.poll_timeout(), Some(accepted + 10 * SECOND));
    // TLS has taken as long.
    server.handle_timeout(accepted + 10 * SECOND);
    let told = server.poll_event(accepted + 10 * SECOND);
    let expected = Some(ConnectionError::HandshakeTimeOut);
    assert!(
        matches!(&told, Some(Event::Closed { local, .. }) if *local == expected),
        "{told:?}"
    );
}

#[test]
fn an_idle_connection_lives_on_heartbeats() {
    let idle = |config| Config {
        idle_time_out: Some(8 * SECOND),
        ..config
    };
    let mut pair = Pair::opened_with(idle(client_config()), idle(server_config()));
    pair.pass(600 * SECOND);
    assert!(pair.client.events.is_empty() && pair.server.events.is_empty());
    assert!(!pair.client.connection.is_finished());
}

#[test]
fn a_frame_leaves_every_half_of_the_peers_time_out() {
    let time_outs = [50, 200, 4000, 60_000].map(Duration::from_millis);
    for time_out in time_outs {
        let demanding = Open {
            idle_time_out: Some(time_out),
            ..open()
        };
        let mut raw = Raw::opened_with(server_config(), demanding);
        for _ in 0..10 {
            let deadline = raw
                .server
                .connection
                .poll_timeout()
                .expect("a heartbeat is due");
            // There is room for a timer that fires some milliseconds late.
            assert!(deadline + Duration::from_millis(5) <= raw.now + time_out / 2);
            assert!(deadline >= raw.now + time_out / 3, "there is no hurry");
            raw.now = deadline;
            raw.server.connection.handle_timeout(raw.now);
            let frames = raw.frames();
            assert!(frames.len() == 1 && frames[0].performative.is_none());
        }
    }
}

#[test]
fn heartbeats_do_not_pile_up_for_a_peer_that_does_not_read() {
    let demanding = Open {
        idle_time_out: Some(4 * SECOND),
        ..open()
    };
    let mut raw = Raw::opened_with(server_config(), demanding);
    for _ in 0..1000 {
        raw.now += 2 * SECOND;
        raw.server.connection.handle_timeout(raw.now);
        raw.turn();
    }
    assert_eq!(raw.server.connection.backlog(), 8);
}

#[test]
fn what_is_sent_anyway_saves_a_heartbeat() {
    let demanding = Open {
        idle_time_out: Some(4 * SECOND),
        ..open()
    };
    let mut raw = Raw::opened_with(server_config(), demanding);
    raw.now += SECOND;
    raw.begin(0);
    raw.now += SECOND;
    raw.server.connection.handle_timeout(raw.now);
    assert!(raw.frames().is_empty());
    let due = raw.server.connection.poll_timeout();
    assert!(due.is_some_and(|due| due > raw.now + SECOND / 2 && due <= raw.now + SECOND));
}

#[test]
fn a_silent_peer_is_closed_and_then_dropped() {
    let config = Config {
        idle_time_out: Some(10 * SECOND),
        ..server_config()
    };
    let mut raw = Raw::opened_with(config, open());
    raw.now += 6 * SECOND;
    raw.bytes(&[0, 0, 0, 8, 2, 0, 0, 0]);
    raw.now += 9 * SECOND;
    raw.server.connection.handle_timeout(raw.now);
    raw.bytes(&[0, 0]); // not a frame
    assert!(raw.frames().is_empty());
    raw.now += SECOND;
    raw.server.connection.handle_timeout(raw.now);
    raw.turn();
    let [
        Event::Closed {
            local: Some(ConnectionError::IdleTimeOut),
            ..
        },
    ] = raw.server.events[..]
    else {
        panic!("{:?}", raw.server.events);
    };
    let answer = raw.performatives();
    let [Performative::Close(close)] = &answer[..] else {
        panic!("{answer:?}")
    };
    let error = close.error.as_ref().expect("there is a reason");
    assert_eq!(error.condition, condition::RESOURCE_LIMIT_EXCEEDED);
    raw.now += 5 * SECOND;
    raw.server.connection.handle_timeout(raw.now);
    assert!(raw.server.connection.is_finished());
}
