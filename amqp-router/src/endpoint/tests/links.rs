//! Links and their credit (AMQP 2.6; C-53 to C-67).

use super::pair::{Pair, server_config};
use super::raw::{Raw, credit, delivery, open, some_error};
use crate::codec::{
    Attach, Detach, Fields, Flow, LinkFlow, Open, Performative, ReceiverSettleMode, Role,
    SenderSettleMode, Source, Symbol, Target, TargetNode, condition,
};
use crate::endpoint::{AttachReply, Config, Event, LimitReached, Limits, SessionId};

fn detach(handle: u32, closed: bool) -> Performative {
    Performative::Detach(Detach {
        handle,
        closed,
        error: None,
    })
}

fn link_flow(delivery_count: u32, link_credit: u32) -> LinkFlow {
    LinkFlow {
        delivery_count: Some(delivery_count),
        link_credit: Some(link_credit),
        ..LinkFlow::default()
    }
}

fn flow(link: LinkFlow) -> Performative {
    Performative::Flow(Flow {
        next_incoming_id: Some(0),
        incoming_window: 100,
        link: Some(link),
        ..Flow::default()
    })
}

#[test]
fn an_attach_is_answered_with_the_owners_termini() {
    let mut raw = Raw::begun();
    raw.server.undecided = true;
    let asked = Attach {
        name: "link".into(),
        handle: 5,
        role: Role::Sender,
        snd_settle_mode: SenderSettleMode::Settled,
        rcv_settle_mode: ReceiverSettleMode::Second,
        initial_delivery_count: Some(0),
        ..Attach::default()
    };
    raw.send(0, Performative::Attach(Box::new(asked)));
    let [
        Event::Attach {
            link,
            session: SessionId(0),
            ..
        },
    ] = raw.server.events[..]
    else {
        panic!("{:?}", raw.server.events);
    };
    assert_eq!(raw.output(), b"", "the owner has time to decide");
    let node = TargetNode {
        address: Some("node".into()),
        ..TargetNode::default()
    };
    let reply = AttachReply {
        target: Some(node.clone().into()),
        source: Some(Source::default()),
        max_message_size: Some(1000),
        ..AttachReply::default()
    };
    raw.server.connection.accept_attach(link, reply);
    let expected = Attach {
        name: "link".into(),
        role: Role::Receiver,
        snd_settle_mode: SenderSettleMode::Settled,
        rcv_settle_mode: ReceiverSettleMode::Second,
        source: Some(Source::default()),
        target: Some(Target::Node(node)),
        max_message_size: Some(1000),
        ..Attach::default()
    };
    assert_eq!(
        raw.performatives(),
        [Performative::Attach(Box::new(expected))]
    );
}

/// Whoever wrote a message may have settled it: nobody is promised the contrary.
#[test]
fn a_receiver_that_wants_nothing_settled_is_told_that_some_may_be() {
    let mut raw = Raw::begun();
    for (handle, asked, answered) in [
        (0, SenderSettleMode::Unsettled, SenderSettleMode::Mixed),
        (1, SenderSettleMode::Settled, SenderSettleMode::Settled),
        (2, SenderSettleMode::Mixed, SenderSettleMode::Mixed),
    ] {
        let attach = Attach {
            handle,
            snd_settle_mode: asked,
            ..super::pair::attach(Role::Receiver, &handle.to_string())
        };
        raw.send(0, Performative::Attach(Box::new(attach)));
        let answer = raw.performatives();
        let [Performative::Attach(attach)] = &answer[..] else {
            panic!("{answer:?}");
        };
        assert_eq!(attach.snd_settle_mode, answered);
    }
    // What a sender says of itself is a fact.
    let attach = Attach {
        handle: 3,
        snd_settle_mode: SenderSettleMode::Unsettled,
        initial_delivery_count: Some(0),
        ..super::pair::attach(Role::Sender, "3")
    };
    raw.send(0, Performative::Attach(Box::new(attach)));
    let answer = raw.performatives();
    assert!(
        matches!(&answer[0], Performative::Attach(attach)
            if attach.snd_settle_mode == SenderSettleMode::Unsettled),
        "{answer:?}"
    );
}

#[test]
fn a_refusal_is_an_attach_without_terminus_and_a_detach() {
    let mut raw = Raw::begun();
    raw.server.undecided = true;
    raw.send(0, super::raw::attach(0, Role::Receiver, "link"));
    let Some(Event::Attach { link, .. }) = raw.server.events.pop() else {
        panic!()
    };
    raw.server.connection.refuse_attach(link, some_error());
    let answer = raw.performatives();
    let [Performative::Attach(attach), Performative::Detach(refusal)] = &answer[..] else {
        panic!("{answer:?}");
    };
    assert_eq!((&attach.target, refusal.closed), (&None, true));
    assert_eq!(refusal.error, Some(some_error()));
    raw.send(0, detach(0, true));
    assert_eq!(raw.output(), b"");
    assert!(raw.server.events.is_empty(), "the owner knows");
    raw.server.undecided = false;
    raw.attach(0, Role::Receiver, "link");
}

#[test]
fn a_peer_can_give_up_before_it_is_answered() {
    let mut raw = Raw::begun();
    raw.server.undecided = true;
    raw.send(0, super::raw::attach(0, Role::Sender, "link"));
    let Some(Event::Attach { link, .. }) = raw.server.events.pop() else {
        panic!()
    };
    raw.send(0, detach(0, true));
    let answer = raw.performatives();
    assert!(matches!(
        answer[..],
        [Performative::Attach(_), Performative::Detach(_)]
    ));
    assert!(matches!(
        raw.server.events[..],
        [Event::Detached { closed: true, .. }]
    ));
    raw.server
        .connection
        .accept_attach(link, AttachReply::default());
    assert_eq!(raw.output(), b"");
}

#[test]
fn a_refused_client_hears_attached_and_then_detached() {
    let mut pair = Pair::opened();
    let session = pair.begin();
    pair.server.undecided = true;
    pair.clear_events();
    let link = pair.client.attach(session, Role::Receiver, "link");
    pair.client.connection.set_token(link, 42);
    pair.drive();
    let Some(Event::Attach { link, .. }) = pair.server.events.pop() else {
        panic!()
    };
    pair.server.connection.refuse_attach(link, some_error());
    pair.drive();
    let [
        Event::Attached {
            token: 42, attach, ..
        },
        Event::Detached {
            token: 42,
            closed: true,
            error: Some(_),
            ..
        },
    ] = &pair.client.events[..]
    else {
        panic!("{:?}", pair.client.events);
    };
    assert_eq!(attach.source, None);
}

#[test]
fn detach_is_answered_in_kind_and_frees_the_handle() {
    let mut raw = Raw::begun();
    for closed in [true, false, true] {
        let link = raw.attach(0, Role::Sender, "link");
        raw.server.connection.set_token(link, 7);
        raw.send(0, detach(0, closed));
        assert_eq!(raw.performatives(), [detach(0, closed)]);
        let [
            Event::Detached {
                token: 7,
                closed: told,
                error: None,
                ..
            },
        ] = raw.server.events[..]
        else {
            panic!("{:?}", raw.server.events);
        };
        assert_eq!(told, closed);
        raw.server.events.clear();
    }
}

#[test]
fn an_owners_detach_is_told_when_it_is_answered() {
    let (mut pair, link) = Pair::attached(Role::Sender);
    pair.client
        .connection
        .detach(link.client, true, Some(some_error()));
    pair.client.turn(pair.now);
    assert!(pair.client.events.is_empty());
    pair.drive();
    assert!(matches!(
        pair.client.events[..],
        [Event::Detached { error: None, .. }]
    ));
    assert!(matches!(
        pair.server.events[..],
        [Event::Detached { error: Some(_), .. }]
    ));
    pair.clear_events();
    let again = pair.attach(link.session, Role::Sender, "link");
    assert_ne!(again.client, link.client);
}

#[test]
fn detaches_may_cross() {
    let (mut pair, link) = Pair::attached(Role::Sender);
    pair.client.connection.detach(link.client, true, None);
    pair.server.connection.detach(link.server, false, None);
    pair.drive();
    assert!(matches!(
        pair.client.events[..],
        [Event::Detached { closed: false, .. }]
    ));
    assert!(matches!(
        pair.server.events[..],
        [Event::Detached { closed: true, .. }]
    ));
    pair.attach(link.session, Role::Sender, "link");
}

#[test]
fn a_link_can_be_detached_before_it_is_attached() {
    let mut pair = Pair::opened();
    let session = pair.begin();
    for _ in 0..3 {
        pair.clear_events();
        let link = pair.client.attach(session, Role::Sender, "link");
        pair.client.connection.detach(link, true, None);
        pair.drive();
        assert!(matches!(pair.client.events[..], [Event::Detached { .. }]));
    }
}

#[test]
fn handles_stay_within_handle_max() {
    let config = Config {
        handle_max: 3,
        ..server_config()
    };
    let frames = [super::raw::attach(4, Role::Sender, "link"), detach(4, true)];
    for frame in frames {
        let mut raw = Raw::opened_with(config.clone(), open());
        raw.begin(0);
        raw.attach(3, Role::Sender, "highest");
        raw.send(0, frame);
        raw.expect_close(&[condition::FRAMING_ERROR]);
    }
}

#[test]
fn a_handle_in_use_ends_the_session() {
    let (mut raw, _) = Raw::attached(Role::Sender);
    raw.send(0, super::raw::attach(0, Role::Sender, "other"));
    raw.expect_end(condition::HANDLE_IN_USE);
}

#[test]
fn a_handle_that_is_not_in_use_ends_the_session() {
    for frame in [
        detach(1, true),
        flow(LinkFlow {
            handle: 1,
            ..link_flow(0, 1)
        }),
    ] {
        let (mut raw, _) = Raw::attached(Role::Sender);
        raw.send(0, frame);
        raw.expect_end(condition::UNATTACHED_HANDLE);
    }
    let mut raw = Raw::begun();
    raw.transfer(delivery(0), b"message");
    raw.expect_end(condition::UNATTACHED_HANDLE);
}

#[test]
fn what_follows_a_detach_with_error_is_ignored_until_it_is_answered() {
    let (mut raw, link) = Raw::attached(Role::Receiver);
    raw.server.connection.set_credit(link, 10);
    raw.output();
    raw.server.connection.detach(link, true, Some(some_error()));
    assert!(matches!(raw.performatives()[..], [Performative::Detach(_)]));
    for id in 0..3 {
        raw.transfer(delivery(id), b"message");
    }
    raw.send(0, flow(link_flow(0, 0)));
    assert_eq!(raw.output(), b"");
    assert!(raw.server.events.is_empty());
    raw.send(0, detach(0, true));
    assert!(matches!(raw.server.events[..], [Event::Detached { .. }]));
    raw.server.events.clear();
    raw.transfer(delivery(3), b"message");
    raw.expect_end(condition::ERRANT_LINK);
}

#[test]
fn deliveries_that_were_ignored_still_count() {
    let (mut raw, link) = Raw::attached(Role::Receiver);
    let other = raw.attach(1, Role::Receiver, "other");
    for link in [link, other] {
        raw.server.connection.set_credit(link, 10);
    }
    raw.output();
    raw.server.connection.detach(link, true, None);
    raw.transfer(delivery(0), b"ignored");
    raw.transfer(
        crate::codec::Transfer {
            handle: 1,
            ..delivery(1)
        },
        b"taken",
    );
    assert_eq!(raw.server.bodies(), ["taken"]);
}

#[test]
fn a_live_name_is_stolen_from_its_link() {
    let (mut raw, link) = Raw::attached(Role::Sender);
    raw.server.connection.set_token(link, 7);
    raw.send(0, super::raw::attach(1, Role::Sender, "link"));
    let answer = raw.performatives();
    let [Performative::Detach(stolen), Performative::Attach(attach)] = &answer[..] else {
        panic!("{answer:?}");
    };
    assert_eq!((stolen.handle, attach.handle), (0, 1));
    assert_eq!(
        stolen.error.as_ref().expect("there is a reason").condition,
        condition::STOLEN
    );
    let [
        Event::Detached { token: 7, .. },
        Event::Attach { link: new, .. },
    ] = raw.server.events[..]
    else {
        panic!("{:?}", raw.server.events);
    };
    raw.send(0, detach(0, true));
    assert_eq!(raw.output(), b"");
    assert_eq!(raw.server.events.len(), 2);

    // The other direction is another link, and other sessions are no other place.
    raw.server.events.clear();
    raw.attach(2, Role::Receiver, "link");
    raw.begin(1);
    raw.send(1, super::raw::attach(0, Role::Sender, "link"));
    let [Event::Detached { link, .. }, Event::Attach { .. }] = raw.server.events[..] else {
        panic!("{:?}", raw.server.events);
    };
    assert_eq!(link, new);
}

#[test]
fn a_name_of_ours_is_used_once_in_each_direction() {
    let (mut pair, link) = Pair::attached(Role::Sender);
    let attach = super::pair::attach(Role::Sender, "link");
    let again = pair.client.connection.attach(link.session, attach);
    assert_eq!(again, Err(LimitReached::NameInUse));
    pair.attach(link.session, Role::Receiver, "link");
}

#[test]
fn a_sender_must_say_where_it_counts_from() {
    let mut raw = Raw::begun();
    let attach = super::pair::attach(Role::Sender, "link");
    raw.send(0, Performative::Attach(Box::new(attach)));
    raw.expect_end(condition::INVALID_FIELD);
}

#[test]
fn limits_refuse_links_one_by_one() {
    let limits = Limits {
        max_links: 2,
        max_name: 20,
        max_link_name: 10,
        max_address: 10,
        max_entries: 3,
        ..Limits::default()
    };
    let mut raw = Raw::opened_with(
        Config {
            limits,
            ..server_config()
        },
        open(),
    );
    raw.begin(0);
    raw.attach(0, Role::Sender, "a");
    let long_address = Attach {
        handle: 1,
        source: Some(Source {
            address: Some("x".repeat(11)),
            ..Source::default()
        }),
        ..super::pair::attach(Role::Receiver, "b")
    };
    let receiver = |source| Attach {
        handle: 1,
        source: Some(source),
        ..super::pair::attach(Role::Receiver, "b")
    };
    let symbols = |count| vec![Symbol::from("s"); count];
    let properties = || {
        let numbers = (0..4).map(|number: u32| number.to_string());
        let mut fields = Fields::new();
        for number in numbers {
            fields.insert(number, 0);
        }
        fields
    };
    let long_symbol = receiver(Source {
        capabilities: vec![Symbol::from("s".repeat(21))],
        ..Source::default()
    });
    let long_mode = receiver(Source {
        distribution_mode: Some(Symbol::from("s".repeat(21))),
        ..Source::default()
    });
    let many_outcomes = receiver(Source {
        outcomes: symbols(4),
        ..Source::default()
    });
    let many_of_source = receiver(Source {
        dynamic_node_properties: properties(),
        ..Source::default()
    });
    let to_node = |node: TargetNode| Attach {
        target: Some(node.into()),
        ..receiver(Source::default())
    };
    let many_of_target = to_node(TargetNode {
        dynamic_node_properties: properties(),
        ..TargetNode::default()
    });
    let many_capabilities = to_node(TargetNode {
        capabilities: symbols(4),
        ..TargetNode::default()
    });
    let attaches = [
        long_address,
        long_symbol,
        long_mode,
        many_outcomes,
        many_of_source,
        many_of_target,
        many_capabilities,
    ];
    let attaches = attaches.map(|attach| Performative::Attach(Box::new(attach)));
    let long_name = super::raw::attach(1, Role::Sender, &"n".repeat(11));
    let refused = [long_name].into_iter().chain(attaches);
    for attach in refused {
        raw.send(0, attach);
        expect_refusal(&mut raw);
    }
    raw.attach(1, Role::Sender, "b");
    raw.send(0, super::raw::attach(2, Role::Sender, "c"));
    expect_refusal(&mut raw);
    for handle in 10..1000 {
        raw.send(
            0,
            super::raw::attach(handle, Role::Sender, &handle.to_string()),
        );
    }
    let last = raw.performatives().pop();
    assert!(
        matches!(last, Some(Performative::End(_))),
        "it does not take note: {last:?}"
    );
}

#[test]
fn an_open_beyond_limits_closes_the_connection() {
    let of = |change: &dyn Fn(&mut Open)| {
        let mut open = open();
        change(&mut open);
        open
    };
    let long = || "x".repeat(21);
    let opens = [
        of(&|open| open.container_id = long()),
        of(&|open| open.hostname = Some(long())),
        of(&|open| open.offered_capabilities = vec![Symbol::from("s"); 4]),
        of(&|open| open.desired_capabilities = vec![Symbol::from(long())]),
        of(&|open| open.incoming_locales = vec![Symbol::from(long())]),
    ];
    for open in opens {
        let limits = Limits {
            max_name: 20,
            max_entries: 3,
            ..Limits::default()
        };
        let mut raw = Raw::connected_with(Config {
            limits,
            ..server_config()
        });
        raw.send(0, Performative::Open(Box::new(open)));
        raw.expect_close(&[condition::RESOURCE_LIMIT_EXCEEDED]);
    }
}

fn expect_refusal(raw: &mut Raw) {
    let answer = raw.performatives();
    let [Performative::Attach(attach), Performative::Detach(refusal)] = &answer[..] else {
        panic!("{answer:?}");
    };
    let error = refusal.error.as_ref().expect("there is a reason");
    assert_eq!(error.condition, condition::RESOURCE_LIMIT_EXCEEDED);
    assert_eq!((&attach.source, &attach.target), (&None, &None));
    let told = std::mem::take(&mut raw.server.events);
    let [Event::Refused { error: why, .. }] = &told[..] else {
        panic!("the owner is told of it, and need not answer: {told:?}");
    };
    assert_eq!(why, error);
    let handle = if attach.handle == 1 { 1 } else { 2 };
    raw.send(0, detach(handle, true));
    assert_eq!(raw.output(), b"");
}

#[test]
fn credit_is_granted_once_per_flush() {
    let (mut pair, link) = Pair::attached(Role::Sender);
    for credit in 1..=10 {
        pair.server.connection.set_credit(link.server, credit);
    }
    pair.server.connection.flush(pair.now);
    let flows = super::raw::parse(&super::pair::take(pair.server.connection.out()));
    assert_eq!(flows.len(), 1);
    pair.server.connection.set_credit(link.server, 10);
    pair.server.connection.flush(pair.now);
    assert_eq!(pair.server.connection.backlog(), 0, "the sender knows");
}

#[test]
fn a_delivery_beyond_credit_detaches_the_link() {
    let (mut raw, link) = Raw::attached(Role::Receiver);
    raw.server.connection.set_credit(link, 1);
    raw.output();
    raw.transfer(delivery(0), b"within");
    assert_eq!(raw.server.connection.credit(link), 0);
    raw.transfer(delivery(1), b"beyond");
    assert_eq!(raw.server.bodies(), ["within"]);
    raw.expect_detach(condition::TRANSFER_LIMIT_EXCEEDED);
}

#[test]
fn a_sender_waits_for_credit() {
    let (mut pair, link) = Pair::attached(Role::Sender);
    assert!(pair.client.send(link.client, true, "first").is_err());
    pair.server.connection.set_credit(link.server, 1);
    pair.drive();
    assert!(matches!(pair.client.events[..], [Event::Flow { .. }]));
    pair.client
        .send(link.client, true, "first")
        .expect("there is credit");
    assert!(pair.client.send(link.client, true, "second").is_err());
    pair.drive();
    assert_eq!(pair.server.bodies(), ["first"]);
}

#[test]
fn credit_may_arrive_before_the_owner_has_accepted() {
    let mut raw = Raw::begun();
    raw.server.undecided = true;
    raw.send(0, super::raw::attach(0, Role::Sender, "link"));
    let Some(Event::Attach { link, .. }) = raw.server.events.pop() else {
        panic!()
    };
    raw.send(
        0,
        flow(LinkFlow {
            delivery_count: None,
            ..link_flow(0, 5)
        }),
    );
    assert_eq!(raw.server.connection.sendable(link).credit, 0);
    let reply = AttachReply {
        initial_delivery_count: Some(9),
        ..AttachReply::default()
    };
    raw.server.connection.accept_attach(link, reply);
    raw.turn();
    assert!(matches!(raw.server.events[..], [Event::Flow { .. }]));
    assert_eq!(raw.server.connection.sendable(link).credit, 5);
}

#[test]
fn credit_may_be_granted_before_the_peer_has_answered() {
    let mut pair = Pair::opened();
    let session = pair.begin();
    let link = pair.client.attach(session, Role::Receiver, "link");
    pair.client.connection.set_credit(link, 5);
    pair.drive();
    let granted = pair.server.events.iter().find_map(|event| match event {
        Event::Flow { link, .. } => Some(pair.server.connection.sendable(*link).credit),
        _ => None,
    });
    assert_eq!(granted, Some(5));
}

#[test]
fn all_credit_there_is_counts() {
    let (mut raw, link) = Raw::attached(Role::Sender);
    raw.send(0, credit(u32::MAX));
    assert_eq!(raw.server.connection.sendable(link).credit, u32::MAX);
    for _ in 0..50 {
        raw.server
            .send(link, true, "message")
            .expect("there is credit");
    }
    raw.send(0, flow(link_flow(20, 40)));
    assert_eq!(raw.server.connection.sendable(link).credit, 10);
    raw.send(0, flow(link_flow(20, 0)));
    assert_eq!(raw.server.connection.sendable(link).credit, 0);
}

#[test]
fn draining_spends_the_credit() {
    let (mut pair, link) = Pair::attached(Role::Sender);
    pair.server.connection.set_credit(link.server, 10);
    pair.drive();
    pair.client
        .send(link.client, true, "message")
        .expect("there is credit");
    pair.server.connection.drain(link.server);
    pair.clear_events();
    pair.drive();
    assert!(pair.client.connection.sendable(link.client).drain);
    pair.client.connection.drained(link.client);
    pair.drive();
    assert_eq!(pair.client.connection.sendable(link.client).credit, 0);
    assert!(matches!(
        pair.server.events.last(),
        Some(Event::Flow { .. })
    ));
    assert_eq!(pair.server.connection.credit(link.server), 0);
    pair.server.connection.set_credit(link.server, 3);
    pair.drive();
    let sendable = pair.client.connection.sendable(link.client);
    assert_eq!((sendable.credit, sendable.drain), (3, false));
}

/// Whoever has no credit left, and asks whether that was all, waits for the answer.
#[test]
fn a_drain_without_credit_is_answered_and_once() {
    let (mut pair, link) = Pair::attached(Role::Sender);
    pair.server.connection.drain(link.server);
    pair.clear_events();
    pair.drive();
    for answers in [1, 1] {
        pair.client.connection.drained(link.client);
        pair.drive();
        let flows = pair.server.events.iter();
        let flows = flows.filter(|event| matches!(event, Event::Flow { .. }));
        assert_eq!(flows.count(), answers);
    }
}

#[test]
fn the_backlog_of_a_sender_is_told() {
    let (mut pair, link) = Pair::attached(Role::Sender);
    pair.client.connection.set_available(link.client, 17);
    pair.server.connection.set_credit(link.server, 1);
    pair.server.connection.drain(link.server);
    pair.drive();
    pair.client.connection.drained(link.client);
    pair.drive();
    assert_eq!(pair.server.connection.available(link.server), 17);
}
