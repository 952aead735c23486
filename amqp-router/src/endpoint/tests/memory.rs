//! What a connection costs in memory, idle and under abuse (C-88 to C-90).

use bytes::BytesMut;

use super::pair::Pair;
use super::raw::{Raw, begin};
use crate::codec::{DeliveryState, Detach, End, Performative, Role};
use crate::endpoint::connection::Connection;
use crate::endpoint::link::Link;
use crate::endpoint::session::Session;

#[test]
fn the_structures_of_an_idle_connection_are_small() {
    let sizes = size_of::<Connection>() + size_of::<Session>() + size_of::<Link>();
    assert!(sizes < 2048, "{sizes}");
}

#[test]
fn output_holds_nothing_when_drained() {
    let (mut pair, link) = Pair::attached(Role::Sender);
    pair.server.connection.set_credit(link.server, 100);
    pair.drive();
    for _ in 0..100 {
        pair.client
            .send(link.client, false, "message")
            .expect("there is credit");
    }
    pair.drive();
    for delivery in pair.server.deliveries() {
        pair.server
            .connection
            .update(delivery, Some(&DeliveryState::Accepted), true);
    }
    pair.drive();
    assert_eq!(pair.client.updates().len(), 100);
    assert_eq!(pair.client.connection.backlog(), 0);
}

#[test]
fn floods_leave_nothing_behind() {
    let mut raw = Raw::opened();
    let mut flood = BytesMut::new();
    for _ in 0..10_000 {
        begin().encode_frame(1, &mut flood);
        super::raw::attach(7, Role::Sender, "link").encode_frame(1, &mut flood);
        let detach = Detach {
            handle: 7,
            closed: true,
            error: None,
        };
        Performative::Detach(detach).encode_frame(1, &mut flood);
        Performative::End(End::default()).encode_frame(1, &mut flood);
        raw.bytes(&flood);
        flood.clear();
        assert_eq!(raw.frames().len(), 4);
        raw.server.events.clear();
    }
    assert_eq!(raw.server.connection.links.len(), 0);
    assert!(
        raw.server
            .connection
            .names
            .iter()
            .all(|names| names.is_empty())
    );
}

#[test]
fn what_is_sent_ahead_of_the_owners_decision_is_limited() {
    let mut raw = Raw::connected();
    let mut bytes = BytesMut::new();
    Performative::Open(Box::new(super::raw::open())).encode_frame(0, &mut bytes);
    raw.server.connection.handle_input(bytes, raw.now);
    assert!(raw.server.connection.poll_event(raw.now).is_some());
    for _ in 0..1000 {
        let heartbeats = BytesMut::from(&[0, 0, 0, 8, 2, 0, 0, 0].repeat(128)[..]);
        raw.server.connection.handle_input(heartbeats, raw.now);
    }
    assert!(raw.server.connection.is_finished());
}
