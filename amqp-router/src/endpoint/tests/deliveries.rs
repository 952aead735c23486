//! Transfers and their outcomes (AMQP 2.6.12, 2.7.5, 2.7.6; C-68 to C-80).

use bytes::Bytes;

use super::pair::{Attached, Pair, client_config, departure, server_config};
use super::raw::{Raw, credit, delivery, open};
use crate::codec::{
    Attach, DeliveryState, DeliveryTag, Disposition, Error, Fields, Modified, Performative,
    ReceiverSettleMode, Role, Transfer, condition,
};
use crate::endpoint::{AttachReply, Config, DeliveryRef, Departure, Event, LinkId, SessionId};

/// A link on which the client sends, with credit.
fn sending(credit: u32) -> (Pair, Attached) {
    let (mut pair, link) = Pair::attached(Role::Sender);
    pair.server.connection.set_credit(link.server, credit);
    pair.drive();
    pair.clear_events();
    (pair, link)
}

/// A raw peer that sends on handle 0, with credit.
fn receiving() -> (Raw, LinkId) {
    let (mut raw, link) = Raw::attached(Role::Receiver);
    raw.server.connection.set_credit(link, 1000);
    raw.output();
    (raw, link)
}

fn start(pair: &mut Pair, link: LinkId, payload: &mut Bytes, more: bool) -> u32 {
    pair.client
        .connection
        .start_delivery(link, departure(1, false), payload, more)
        .expect("there is credit")
}

fn disposition(first: u32, last: u32, settled: bool, state: Option<DeliveryState>) -> Performative {
    Performative::Disposition(Disposition {
        role: Role::Receiver,
        first,
        last,
        settled,
        state,
        batchable: false,
    })
}

#[test]
fn a_message_is_sent_and_accepted() {
    for byte_by_byte in [false, true] {
        let (mut pair, link) = sending(10);
        pair.byte_by_byte = byte_by_byte;
        let sent = pair
            .client
            .send(link.client, false, "hello")
            .expect("there is credit");
        pair.drive();
        assert_eq!(pair.server.bodies(), ["hello"]);
        let delivery = pair.server.deliveries()[0];
        pair.server
            .connection
            .update(delivery, Some(&DeliveryState::Accepted), true);
        pair.drive();
        assert_eq!(
            pair.client.updates(),
            [(sent, Some(DeliveryState::Accepted), true)]
        );
        pair.client.connection.detach(link.client, true, None);
        pair.client.connection.end(link.session, None);
        pair.client.connection.close(None, pair.now);
        pair.drive();
        assert!(pair.client.connection.is_finished() && pair.server.connection.is_finished());
    }
}

#[test]
fn every_outcome_reaches_the_sender_with_its_fields() {
    let modified = Modified {
        delivery_failed: true,
        undeliverable_here: true,
        message_annotations: Fields::from([("x-opt-why", "because")]),
    };
    let states = [
        DeliveryState::Accepted,
        DeliveryState::Released,
        DeliveryState::Rejected(None),
        DeliveryState::rejected(Error::new(condition::NOT_FOUND, "nobody")),
        DeliveryState::Modified(Box::new(modified)),
    ];
    let (mut pair, link) = sending(10);
    for state in &states {
        pair.client
            .send(link.client, false, "message")
            .expect("there is credit");
        pair.drive();
        let delivery = *pair.server.deliveries().last().expect("it has arrived");
        pair.server.connection.update(delivery, Some(state), true);
        pair.drive();
    }
    let told = pair.client.updates().into_iter().map(|(_, state, _)| state);
    assert!(told.eq(states.into_iter().map(Some)));
}

#[test]
fn tokens_come_back() {
    let (mut pair, link) = sending(10);
    for token in [11, 22] {
        pair.client
            .connection
            .start_delivery(
                link.client,
                departure(token, false),
                &mut Bytes::new(),
                false,
            )
            .expect("there is credit");
    }
    pair.drive();
    for (delivery, token) in pair.server.deliveries().into_iter().zip([33, 44]) {
        pair.server.connection.set_delivery_token(delivery, token);
        pair.server
            .connection
            .update(delivery, Some(&DeliveryState::Accepted), false);
    }
    pair.drive();
    let tokens = |events: &[Event]| -> Vec<(Role, u32)> {
        let token = |event: &Event| match event {
            Event::Updated { role, token, .. } => Some((*role, *token)),
            _ => None,
        };
        events.iter().filter_map(token).collect()
    };
    assert_eq!(
        tokens(&pair.client.events),
        [(Role::Receiver, 11), (Role::Receiver, 22)]
    );
    for id in [0, 1] {
        pair.client
            .connection
            .update_sent(link.session, id, None, true);
    }
    pair.drive();
    assert_eq!(
        tokens(&pair.server.events),
        [(Role::Sender, 33), (Role::Sender, 44)]
    );
}

#[test]
fn what_is_sent_settled_needs_no_disposition() {
    let (mut pair, link) = sending(10);
    pair.client
        .send(link.client, true, "message")
        .expect("there is credit");
    pair.drive();
    let delivery = pair.server.deliveries()[0];
    pair.server
        .connection
        .update(delivery, Some(&DeliveryState::Accepted), true);
    pair.server.connection.flush(pair.now);
    assert_eq!(pair.server.connection.backlog(), 0);
}

#[test]
fn equal_outcomes_of_neighbours_share_a_disposition() {
    let (mut pair, link) = sending(100);
    for _ in 0..10 {
        pair.client
            .send(link.client, false, "message")
            .expect("there is credit");
    }
    pair.drive();
    let deliveries = pair.server.deliveries();
    for at in [0, 1, 2, 5, 4, 3] {
        pair.server
            .connection
            .update(deliveries[at], Some(&DeliveryState::Accepted), true);
    }
    for at in [6, 7] {
        pair.server
            .connection
            .update(deliveries[at], Some(&DeliveryState::Released), true);
    }
    pair.server
        .connection
        .update(deliveries[9], Some(&DeliveryState::Released), true);
    pair.server.connection.flush(pair.now);
    let frames = super::raw::parse(&super::pair::take(pair.server.connection.out()));
    let ranges: Vec<_> = frames
        .into_iter()
        .map(|frame| match frame.performative {
            Some(Performative::Disposition(range)) => (range.first, range.last, range.state),
            other => panic!("{other:?}"),
        })
        .collect();
    let (accepted, released) = (Some(DeliveryState::Accepted), Some(DeliveryState::Released));
    assert_eq!(
        ranges,
        [
            (0, 2, accepted.clone()),
            (3, 5, accepted),
            (6, 7, released.clone()),
            (9, 9, released)
        ]
    );
}

#[test]
fn a_disposition_for_everything_costs_what_is_unsettled() {
    let (mut raw, link) = Raw::attached(Role::Sender);
    raw.send(0, credit(1000));
    for _ in 0..50 {
        raw.server
            .send(link, false, "message")
            .expect("there is credit");
    }
    raw.output();
    raw.send(0, disposition(3, 5, true, Some(DeliveryState::Released)));
    raw.send(
        0,
        disposition(0, (1 << 31) - 1, true, Some(DeliveryState::Accepted)),
    );
    let updates = raw.server.updates();
    assert_eq!(updates.len(), 50);
    assert_eq!(
        updates[..3]
            .iter()
            .map(|update| update.0)
            .collect::<Vec<_>>(),
        [3, 4, 5]
    );
    raw.server.events.clear();
    for _ in 0..10_000 {
        raw.send(
            0,
            disposition(0, (1 << 31) - 1, true, Some(DeliveryState::Accepted)),
        );
    }
    assert!(raw.server.events.is_empty() && raw.output().is_empty());
}

#[test]
fn a_range_that_runs_backwards_ends_the_session() {
    let (mut raw, _) = Raw::attached(Role::Sender);
    raw.send(0, disposition(5, 4, true, None));
    raw.expect_end(condition::INVALID_FIELD);
}

#[test]
fn a_receiver_that_settles_second_waits_for_the_sender() {
    let mut pair = Pair::opened();
    let session = pair.begin();
    let attach = Attach {
        rcv_settle_mode: ReceiverSettleMode::Second,
        ..super::pair::attach(Role::Sender, "link")
    };
    pair.clear_events();
    let client = pair
        .client
        .connection
        .attach(session, attach)
        .expect("there is room");
    pair.drive();
    let [Event::Attach { link: server, .. }] = pair.server.events[..] else {
        panic!()
    };
    pair.server.connection.set_credit(server, 10);
    pair.drive();
    let sent = pair
        .client
        .send(client, false, "message")
        .expect("there is credit");
    pair.drive();
    let delivery = pair.server.deliveries()[0];
    pair.server
        .connection
        .update(delivery, Some(&DeliveryState::Accepted), false);
    pair.drive();
    assert_eq!(
        pair.client.updates(),
        [(sent, Some(DeliveryState::Accepted), false)]
    );
    pair.client
        .connection
        .update_sent(session, sent, Some(&DeliveryState::Accepted), true);
    pair.drive();
    assert_eq!(
        pair.server.updates(),
        [(sent, Some(DeliveryState::Accepted), true)]
    );
    pair.server.connection.update(delivery, None, true);
    pair.server.connection.flush(pair.now);
    assert_eq!(pair.server.connection.backlog(), 0, "it is forgotten");
}

#[test]
fn a_large_message_is_split_to_the_peers_frame_size() {
    let server = Config {
        max_frame_size: 512,
        ..server_config()
    };
    let mut pair = Pair::opened_with(client_config(), server);
    let session = pair.begin();
    let link = pair.attach(session, Role::Sender, "link");
    pair.server.connection.set_credit(link.server, 10);
    pair.drive();
    let message: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
    let mut payload = Bytes::from(message.clone());
    start(&mut pair, link.client, &mut payload, false);
    assert!(payload.is_empty());
    pair.drive();
    let transfers: Vec<_> = pair.server.transfers().collect();
    assert!(transfers.len() > 19);
    assert!(transfers[0].first.is_some() && transfers[1..].iter().all(|t| t.first.is_none()));
    let (last, others) = transfers.split_last().expect("there are frames");
    assert!(!last.more && others.iter().all(|transfer| transfer.more));
    let received: Vec<u8> = transfers.iter().flat_map(|t| t.payload.to_vec()).collect();
    assert_eq!(received, message);
}

#[test]
fn a_message_stops_where_the_window_shuts_and_goes_on_later() {
    let server = Config {
        max_frame_size: 512,
        incoming_window: 4,
        ..server_config()
    };
    let mut pair = Pair::opened_with(client_config(), server);
    let session = pair.begin();
    let link = pair.attach(session, Role::Sender, "link");
    pair.server.releases = false;
    pair.server.connection.set_credit(link.server, 10);
    pair.drive();
    let mut payload = Bytes::from(vec![1; 3000]);
    start(&mut pair, link.client, &mut payload, false);
    assert!(!payload.is_empty());
    pair.client
        .connection
        .continue_delivery(link.client, &mut payload, false);
    pair.drive();
    assert_eq!(pair.server.transfers().count(), 4);
    let left = payload.len();
    let octets = (3000 - left) as u32;
    pair.server
        .connection
        .release_window(SessionId(0), 4, octets);
    pair.drive();
    assert!(matches!(pair.client.events.last(), Some(Event::Window)));
    pair.client
        .connection
        .continue_delivery(link.client, &mut payload, false);
    assert!(payload.is_empty() && left > 0);
    assert!(!pair.client.connection.is_sending(link.client));
    pair.drive();
    let received: usize = pair.server.transfers().map(|t| t.payload.len()).sum();
    assert_eq!(received, 3000);
}

#[test]
fn the_end_of_a_message_waits_for_the_window() {
    let server = Config {
        incoming_window: 1,
        ..server_config()
    };
    for abort in [false, true] {
        let mut pair = Pair::opened_with(client_config(), server.clone());
        let session = pair.begin();
        let link = pair.attach(session, Role::Sender, "link");
        pair.server.releases = false;
        pair.server.connection.set_credit(link.server, 10);
        pair.drive();
        start(
            &mut pair,
            link.client,
            &mut Bytes::from_static(b"all"),
            true,
        );
        if abort {
            pair.client.connection.abort_delivery(link.client);
        } else {
            pair.client
                .connection
                .continue_delivery(link.client, &mut Bytes::new(), false);
        }
        assert!(pair.client.send(link.client, false, "next").is_err());
        pair.drive();
        assert_eq!(pair.server.transfers().count(), 1);
        pair.server.connection.release_window(SessionId(0), 1, 3);
        pair.drive();
        let last = pair.server.transfers().last().expect("there are two");
        assert_eq!((last.more, last.aborted), (false, abort));
        assert!(!pair.client.connection.is_sending(link.client));
    }
}

#[test]
fn an_aborted_message_is_gone_and_the_link_goes_on() {
    let (mut pair, link) = sending(10);
    start(
        &mut pair,
        link.client,
        &mut Bytes::from_static(b"half"),
        true,
    );
    pair.drive();
    pair.client.connection.abort_delivery(link.client);
    pair.drive();
    let aborted = pair.server.transfers().last().expect("there is one");
    assert!(aborted.aborted && aborted.settled && !aborted.more && aborted.payload.is_empty());
    let delivery = aborted.delivery;
    pair.server
        .connection
        .update(delivery, Some(&DeliveryState::Accepted), true);
    pair.client
        .send(link.client, false, "next")
        .expect("there is credit");
    pair.drive();
    assert!(pair.client.updates().is_empty());
    assert_eq!(pair.server.connection.credit(link.server), 8);
    assert_eq!(
        pair.server.bodies().last().map(String::as_str),
        Some("next")
    );
}

#[test]
fn messages_of_several_links_may_interleave() {
    let (mut pair, a) = sending(10);
    let b = pair.attach(a.session, Role::Sender, "b");
    pair.server.connection.set_credit(b.server, 10);
    pair.drive();
    pair.clear_events();
    start(&mut pair, a.client, &mut Bytes::from_static(b"a1"), true);
    start(&mut pair, b.client, &mut Bytes::from_static(b"b1"), true);
    let client = &mut pair.client.connection;
    client.continue_delivery(a.client, &mut Bytes::from_static(b"a2"), true);
    client.continue_delivery(b.client, &mut Bytes::from_static(b"b2"), false);
    client.continue_delivery(a.client, &mut Bytes::from_static(b"a3"), false);
    pair.drive();
    let of = |link: LinkId| -> String {
        let parts = pair
            .server
            .transfers()
            .filter(|transfer| transfer.link == link);
        parts
            .map(|t| String::from_utf8_lossy(&t.payload).into_owned())
            .collect()
    };
    assert_eq!(
        (of(a.server), of(b.server)),
        ("a1a2a3".into(), "b1b2".into())
    );
}

#[test]
fn a_receiver_does_not_send_transfers() {
    let (mut raw, _) = Raw::attached(Role::Sender);
    raw.transfer(delivery(0), b"message");
    raw.expect_detach(condition::NOT_ALLOWED);
}

#[test]
fn deliveries_that_do_not_follow_the_rules_end_the_session() {
    let more = |transfer| Transfer {
        more: true,
        ..transfer
    };
    let wrong: [&[Transfer]; 6] = [
        &[Transfer {
            delivery_id: None,
            ..delivery(0)
        }],
        &[Transfer {
            delivery_tag: None,
            ..delivery(0)
        }],
        &[delivery(0), delivery(2)],
        &[delivery(0), delivery(0)],
        &[more(delivery(0)), delivery(1)],
        &[
            more(delivery(0)),
            Transfer {
                delivery_tag: Some(9.into()),
                ..delivery(0)
            },
        ],
    ];
    for transfers in wrong {
        let (mut raw, _) = receiving();
        for transfer in transfers {
            raw.transfer(transfer.clone(), b"message");
        }
        raw.expect_end(condition::INVALID_FIELD);
    }
}

#[test]
fn a_tag_that_is_too_long_ends_the_session() {
    let (mut raw, _) = receiving();
    let mut body = vec![0x00, 0x53, 0x14, 0xc0, 39, 4, 0x43, 0x43, 0xa0, 33];
    body.extend_from_slice(&[7; 33]);
    body.push(0x43);
    let size = u32::try_from(body.len() + 8).expect("it is short");
    raw.bytes(&[&size.to_be_bytes()[..], &[2, 0, 0, 0], &body].concat());
    raw.expect_end(condition::INVALID_FIELD);
}

#[test]
fn a_message_that_is_too_large_detaches_the_link() {
    let mut raw = Raw::begun();
    raw.server.undecided = true;
    raw.send(0, super::raw::attach(0, Role::Receiver, "link"));
    let Some(Event::Attach { link, .. }) = raw.server.events.pop() else {
        panic!()
    };
    let reply = AttachReply {
        max_message_size: Some(10),
        ..AttachReply::default()
    };
    raw.server.connection.accept_attach(link, reply);
    raw.server.connection.set_credit(link, 10);
    raw.output();
    raw.transfer(delivery(0), b"0123456789");
    raw.transfer(
        Transfer {
            more: true,
            ..delivery(1)
        },
        b"012345678",
    );
    raw.transfer(
        Transfer {
            more: true,
            ..Transfer::default()
        },
        b"9",
    );
    assert!(raw.frames().is_empty());
    raw.transfer(
        Transfer {
            more: true,
            ..Transfer::default()
        },
        b"!",
    );
    raw.expect_detach(condition::MESSAGE_SIZE_EXCEEDED);
    assert_eq!(raw.server.transfers().count(), 3);
}

#[test]
fn settled_sticks() {
    let (mut raw, _) = receiving();
    raw.transfer(
        Transfer {
            more: true,
            ..delivery(0)
        },
        b"unsettled",
    );
    raw.transfer(
        Transfer {
            more: true,
            settled: Some(true),
            ..Transfer::default()
        },
        b"settled",
    );
    raw.transfer(
        Transfer {
            settled: Some(false),
            ..Transfer::default()
        },
        b"the end",
    );
    let settled: Vec<_> = raw
        .server
        .transfers()
        .map(|transfer| transfer.settled)
        .collect();
    assert_eq!(settled, [false, true, true]);
    let delivery = DeliveryRef {
        session: SessionId(0),
        id: 0,
    };
    raw.server
        .connection
        .update(delivery, Some(&DeliveryState::Accepted), true);
    assert_eq!(raw.output(), b"");
}

#[test]
fn settling_second_must_have_been_agreed_on() {
    let second = Some(ReceiverSettleMode::Second);
    let (mut raw, _) = receiving();
    let settled = Transfer {
        settled: Some(true),
        rcv_settle_mode: second,
        ..delivery(0)
    };
    raw.transfer(settled, b"no matter");
    assert!(raw.frames().is_empty());
    raw.transfer(
        Transfer {
            rcv_settle_mode: second,
            ..delivery(1)
        },
        b"message",
    );
    raw.expect_detach(condition::INVALID_FIELD);
}

/// The router remembers nothing of any link's deliveries, and says so when it attaches.
#[test]
fn resumed_deliveries_start_over() {
    let (mut raw, _) = receiving();
    raw.transfer(
        Transfer {
            resume: true,
            more: true,
            ..delivery(0)
        },
        b"old",
    );
    raw.transfer(Transfer::default(), b"er");
    raw.transfer(delivery(1), b"new");
    assert_eq!(raw.server.bodies(), ["old", "er", "new"]);
}

/// There is nothing to deliver, but it has taken up credit.
#[test]
fn resumed_deliveries_that_have_their_outcome_come_to_nothing() {
    let (mut raw, _) = receiving();
    let over = |id, more| Transfer {
        resume: true,
        state: Some(DeliveryState::Accepted),
        more,
        ..delivery(id)
    };
    raw.transfer(over(0, false), b"old");
    raw.transfer(over(1, true), b"old");
    raw.transfer(Transfer::default(), b"er");
    let ends: Vec<_> = raw
        .server
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Transfer(event) => Some((event.aborted, event.more, event.payload.len())),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [(true, false, 3), (true, false, 2)]);
    raw.transfer(delivery(2), b"new");
    assert_eq!(raw.server.bodies().last().map(String::as_str), Some("new"));
}

#[test]
fn unsettled_deliveries_are_limited() {
    let limits = crate::endpoint::Limits {
        max_unsettled: 2,
        ..Default::default()
    };
    let mut raw = Raw::opened_with(
        Config {
            limits,
            ..server_config()
        },
        open(),
    );
    raw.begin(0);
    let link = raw.attach(0, Role::Receiver, "link");
    raw.server.connection.set_credit(link, 10);
    raw.output();
    for id in 0..3 {
        raw.transfer(delivery(id), b"message");
    }
    raw.expect_detach(condition::RESOURCE_LIMIT_EXCEEDED);
}

#[test]
fn deliveries_of_a_link_that_is_gone_are_forgotten() {
    let (mut pair, link) = sending(10);
    let other = pair.attach(link.session, Role::Sender, "other");
    pair.server.connection.set_credit(other.server, 10);
    pair.drive();
    for link in [link, other] {
        pair.client
            .send(link.client, false, "message")
            .expect("there is credit");
    }
    pair.drive();
    let deliveries = pair.server.deliveries();
    pair.client.connection.detach(link.client, true, None);
    pair.drive();
    for delivery in deliveries {
        pair.server
            .connection
            .update(delivery, Some(&DeliveryState::Accepted), true);
    }
    pair.drive();
    assert_eq!(
        pair.client.updates(),
        [(1, Some(DeliveryState::Accepted), true)]
    );
}

#[test]
fn forgotten_deliveries_are_not_told_of() {
    let (mut pair, link) = sending(10);
    for _ in 0..2 {
        pair.client
            .send(link.client, false, "message")
            .expect("there is credit");
    }
    pair.drive();
    let deliveries = pair.server.deliveries();
    pair.client.connection.forget_sent(link.session, 0);
    pair.server.connection.forget(deliveries[1]);
    for delivery in deliveries {
        pair.server
            .connection
            .update(delivery, Some(&DeliveryState::Accepted), true);
    }
    pair.drive();
    assert!(pair.client.updates().is_empty());
}

#[test]
fn a_prefix_goes_before_the_payload_whatever_the_frames_are() {
    for (prefix, payload) in [(3, 4), (100, 10), (100, 2000), (600, 900)] {
        let (mut pair, link) = sending(10);
        pair.client.connection.remote_max_frame_size = 512;
        let (prefix, payload) = (vec![b'p'; prefix], vec![b'b'; payload]);
        let departure = Departure {
            prefix: &prefix,
            ..departure(1, false)
        };
        let mut rest = Bytes::from(payload.clone());
        pair.client
            .connection
            .start_delivery(link.client, departure, &mut rest, false)
            .expect("there is credit");
        assert!(rest.is_empty());
        pair.drive();
        let arrived = pair.server.bodies().concat();
        assert_eq!(arrived.as_bytes(), [prefix, payload].concat());
    }
}
