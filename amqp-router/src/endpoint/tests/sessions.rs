//! Sessions, windows and echoes (AMQP 2.5; C-42 to C-52).

use bytes::BytesMut;

use super::pair::{Pair, client_config, server_config};
use super::raw::{Raw, begin, credit, delivery, open, some_error};
use crate::codec::{Begin, End, Flow, LinkFlow, Performative, Role, condition};
use crate::endpoint::{Config, Event, FRAME_OVERHEAD, LimitReached, Limits, SessionId};

fn flow(next_incoming_id: u32, incoming_window: u32) -> Performative {
    Performative::Flow(Flow {
        next_incoming_id: Some(next_incoming_id),
        incoming_window,
        ..Flow::default()
    })
}

fn echo(link: Option<LinkFlow>) -> Performative {
    Performative::Flow(Flow {
        incoming_window: 100,
        echo: true,
        link,
        ..Flow::default()
    })
}

fn end(error: bool) -> Performative {
    Performative::End(End {
        error: error.then(some_error),
    })
}

#[test]
fn begin_is_answered_on_any_free_channel() {
    let mut raw = Raw::opened();
    for (ours, channel) in [255, 0, 77].into_iter().enumerate() {
        raw.send(channel, begin());
        let frames = raw.frames();
        assert_eq!(usize::from(frames[0].channel), ours);
        let Some(Performative::Begin(begin)) = &frames[0].performative else {
            panic!()
        };
        assert_eq!(begin.remote_channel, Some(channel));
    }
}

#[test]
fn a_channel_can_be_used_again_after_end() {
    let mut raw = Raw::opened();
    for _ in 0..1000 {
        raw.begin(3);
        raw.send(3, end(false));
        let frames = raw.frames();
        assert_eq!((frames.len(), frames[0].channel), (1, 0));
        raw.server.events.clear();
    }
}

#[test]
fn sessions_can_begin_at_both_ends() {
    let mut pair = Pair::opened();
    let client = pair.client.connection.begin().expect("there is room");
    let server = pair.server.connection.begin().expect("there is room");
    pair.drive();
    assert_eq!((client, server), (SessionId(0), SessionId(0)));
    assert_eq!(pair.client.events.len(), 2);
    pair.clear_events();
    pair.client.connection.end(client, Some(some_error()));
    pair.drive();
    assert!(matches!(
        pair.client.events[..],
        [Event::Ended { error: None, .. }]
    ));
    assert!(matches!(
        pair.server.events[..],
        [Event::Ended { error: Some(_), .. }]
    ));
}

#[test]
fn a_session_can_end_before_it_has_begun() {
    let mut pair = Pair::opened();
    for _ in 0..3 {
        let session = pair.client.connection.begin().expect("there is room");
        assert_eq!(session, SessionId(0));
        pair.client.connection.end(session, None);
        pair.drive();
        assert!(matches!(
            pair.client.events[..],
            [Event::Ended { error: None, .. }]
        ));
        pair.clear_events();
    }
}

#[test]
fn ends_may_cross() {
    let mut pair = Pair::opened();
    let session = pair.begin();
    pair.clear_events();
    pair.client.connection.end(session, None);
    pair.server.connection.end(SessionId(0), None);
    pair.drive();
    assert!(matches!(pair.client.events[..], [Event::Ended { .. }]));
    assert!(matches!(pair.server.events[..], [Event::Ended { .. }]));
    assert_eq!(pair.begin(), session);
}

#[test]
fn the_peers_channel_max_is_kept() {
    let server = Config {
        channel_max: 1,
        ..server_config()
    };
    let mut pair = Pair::opened_with(client_config(), server);
    pair.begin();
    pair.begin();
    assert_eq!(pair.client.connection.begin(), Err(LimitReached::Channels));
}

#[test]
fn frames_belong_on_channels_that_began() {
    let frames = [
        end(false),
        flow(0, 1),
        super::raw::attach(0, Role::Sender, "link"),
    ];
    for frame in frames {
        let mut raw = Raw::opened();
        raw.send(0, frame);
        raw.expect_close(&[condition::NOT_ALLOWED, condition::ILLEGAL_STATE]);
    }
    let mut raw = Raw::begun();
    raw.send(0, begin());
    raw.expect_close(&[condition::NOT_ALLOWED, condition::ILLEGAL_STATE]);
    let mut raw = Raw::opened();
    raw.transfer(delivery(0), b"");
    raw.expect_close(&[condition::NOT_ALLOWED, condition::ILLEGAL_STATE]);
}

#[test]
fn an_answer_to_no_begin_is_refused() {
    for (ours, channel) in [(0, 0), (0, 1), (9, 1)] {
        let mut raw = Raw::begun();
        raw.send(0, end(false));
        raw.output();
        raw.begin(5); // our channel 0 answers it
        let answer = Begin {
            remote_channel: Some(ours),
            ..Begin::default()
        };
        raw.send(channel, Performative::Begin(Box::new(answer)));
        raw.expect_close(&[condition::INVALID_FIELD]);
    }
}

#[test]
fn a_peer_that_overruns_our_window_loses_its_session() {
    let config = Config {
        incoming_window: 4,
        ..server_config()
    };
    let mut raw = Raw::opened_with(config, open());
    raw.begin(0);
    let link = raw.attach(0, Role::Receiver, "link");
    raw.server.releases = false;
    raw.server.connection.set_credit(link, 100);
    raw.output();
    for id in 0..4 {
        raw.transfer(delivery(id), b"message");
    }
    assert!(raw.frames().is_empty());
    raw.transfer(delivery(4), b"message");
    assert_eq!(raw.server.bodies().len(), 4);
    raw.expect_end(condition::WINDOW_VIOLATION);
}

/// The windows of all sessions together are more than any connection should fill.
#[test]
fn sessions_that_hold_too_much_together_are_ended() {
    let config = Config {
        limits: Limits {
            max_held_octets: 20 + 2 * FRAME_OVERHEAD,
            ..Limits::default()
        },
        ..server_config()
    };
    let mut raw = Raw::opened_with(config, open());
    raw.server.releases = false;
    raw.begin(0);
    let link = raw.attach(0, Role::Receiver, "link");
    raw.server.connection.set_credit(link, 100);
    raw.output();
    for id in 0..2 {
        raw.transfer(delivery(id), b"0123456789");
    }
    assert!(raw.frames().is_empty());
    raw.transfer(delivery(2), b"0");
    assert_eq!(raw.server.bodies().len(), 2);
    raw.expect_end(condition::RESOURCE_LIMIT_EXCEEDED);
    // What it held counts no more in the session that began meanwhile.
    let link = raw.attach(0, Role::Receiver, "link");
    raw.server.connection.set_credit(link, 100);
    raw.output();
    for id in 0..2 {
        raw.transfer(delivery(id), b"0123456789");
    }
    assert!(raw.frames().is_empty());
}

#[test]
fn the_window_opens_again_at_half_and_on_a_link() {
    let config = Config {
        incoming_window: 4,
        ..server_config()
    };
    let mut raw = Raw::opened_with(config, open());
    raw.begin(0);
    let link = raw.attach(0, Role::Receiver, "link");
    raw.server.connection.set_credit(link, 100);
    raw.output();
    raw.transfer(delivery(0), b"message");
    assert!(raw.frames().is_empty());
    raw.transfer(delivery(1), b"message");
    let answer = raw.performatives();
    let [Performative::Flow(flow)] = &answer[..] else {
        panic!("{answer:?}")
    };
    assert_eq!((flow.next_incoming_id, flow.incoming_window), (Some(2), 4));
    let link = flow
        .link
        .expect("some peers go on only after a flow for a link");
    assert_eq!((link.delivery_count, link.link_credit), (Some(2), Some(98)));
}

#[test]
fn we_keep_to_the_peers_window() {
    let (mut raw, link) = Raw::attached(Role::Sender);
    raw.send(0, credit(100));
    raw.send(0, flow(0, 2));
    for _ in 0..2 {
        raw.server
            .send(link, true, "message")
            .expect("the window is open");
    }
    assert_eq!(raw.server.connection.sendable(link).window, 0);
    assert!(raw.server.send(link, true, "message").is_err());
    assert_eq!(raw.frames().len(), 2);
    raw.server.events.clear();
    raw.send(0, flow(1, 2));
    assert!(matches!(raw.server.events[..], [Event::Window]));
    assert_eq!(raw.server.connection.sendable(link).window, 1);
    raw.send(0, flow(1, u32::MAX));
    assert_eq!(raw.server.connection.sendable(link).window, u32::MAX - 1);
}

#[test]
fn a_flow_from_the_future_is_held_to_the_present() {
    let (mut raw, link) = Raw::attached(Role::Sender);
    raw.send(0, flow(1 << 30, 7));
    assert_eq!(raw.server.connection.sendable(link).window, 7);
    raw.works();
}

#[test]
fn many_echoes_have_one_answer() {
    let (mut raw, _) = Raw::attached(Role::Receiver);
    let mut storm = BytesMut::new();
    for _ in 0..500 {
        echo(None).encode_frame(0, &mut storm);
        echo(Some(LinkFlow::default())).encode_frame(0, &mut storm);
    }
    raw.bytes(&storm);
    let answer = raw.performatives();
    let [Performative::Flow(flow)] = &answer[..] else {
        panic!("{answer:?}")
    };
    assert!(!flow.echo);
    raw.send(0, echo(None));
    let answer = raw.performatives();
    assert!(matches!(
        &answer[..],
        [Performative::Flow(Flow {
            link: None,
            echo: false,
            ..
        })]
    ));
}

#[test]
fn what_follows_our_end_is_ignored_until_the_peers() {
    let (mut raw, link) = Raw::attached(Role::Receiver);
    raw.transfer(delivery(0), b"no credit yet");
    raw.expect_detach(condition::TRANSFER_LIMIT_EXCEEDED);
    raw.send(0, super::raw::attach(0, Role::Receiver, "again")); // handle 0 is in use
    assert!(matches!(raw.performatives()[..], [Performative::End(_)]));
    raw.server.events.clear();
    raw.transfer(delivery(7), b"whatever");
    raw.send(0, super::raw::attach(0, Role::Receiver, "again"));
    raw.send(0, echo(Some(LinkFlow::default())));
    raw.server.connection.set_credit(link, 10);
    assert_eq!(raw.output(), b"");
    assert!(raw.server.events.is_empty());
    raw.send(0, end(false));
    raw.begin(0);
}

#[test]
fn ids_wrap() {
    let config = |config| Config {
        initial_id: u32::MAX - 3,
        incoming_window: 5,
        ..config
    };
    let mut pair = Pair::opened_with(config(client_config()), config(server_config()));
    let session = pair.begin();
    let link = pair.attach(session, Role::Sender, "link");
    for round in 0..10 {
        pair.server.connection.set_credit(link.server, 3);
        pair.drive();
        for _ in 0..3 {
            pair.client
                .send(link.client, false, "message")
                .expect("there is credit");
        }
        pair.drive();
        let deliveries = pair.server.deliveries();
        assert_eq!(deliveries.len(), 3, "round {round}");
        for delivery in deliveries {
            pair.server.connection.update(delivery, None, true);
        }
        pair.drive();
        assert_eq!(pair.client.updates().len(), 3);
        pair.clear_events();
    }
}

#[test]
fn the_end_of_a_session_is_the_end_of_its_links() {
    let mut pair = Pair::opened();
    let session = pair.begin();
    for name in ["a", "b", "c"] {
        pair.attach(session, Role::Sender, name);
    }
    pair.client.connection.end(session, None);
    pair.drive();
    for events in [&pair.client.events, &pair.server.events] {
        let (last, links) = events.split_last().expect("there are events");
        assert!(matches!(last, Event::Ended { .. }));
        let detached = |event: &Event| matches!(event, Event::Detached { closed: false, .. });
        assert!(links.len() == 3 && links.iter().all(detached));
    }
}

#[test]
fn a_transfer_on_a_session_that_ends_is_ignored() {
    let (mut pair, link) = Pair::attached(Role::Sender);
    pair.server.connection.set_credit(link.server, 10);
    pair.drive();
    pair.client
        .send(link.client, false, "message")
        .expect("there is credit");
    pair.server.connection.end(SessionId(0), None);
    pair.drive();
    assert!(pair.server.bodies().is_empty());
    assert!(pair.client.send(link.client, false, "message").is_err());
}
