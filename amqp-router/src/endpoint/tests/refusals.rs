//! Links that are refused (AMQP 2.6.3; C-25, C-28, C-54).

use bytes::BytesMut;

use super::pair::{Pair, server_config};
use super::raw::{Raw, open, some_error};
use crate::codec::{Detach, Open, Performative, Role, Value, condition};
use crate::endpoint::{Config, Event, Limits};

/// A peer whose frames are too small for an attach of a link with this name.
fn small(limits: Limits) -> (Raw, String) {
    let open = Open {
        max_frame_size: 512,
        ..open()
    };
    let config = Config {
        limits,
        ..server_config()
    };
    let mut raw = Raw::opened_with(config, open);
    raw.begin(0);
    (raw, "n".repeat(600))
}

#[test]
fn a_refusal_that_does_not_fit_ends_the_session() {
    let (mut raw, name) = small(Limits::default());
    raw.server.undecided = true;
    raw.send(0, super::raw::attach(0, Role::Sender, &name));
    let Some(Event::Attach { link, .. }) = raw.server.events.pop() else {
        panic!()
    };
    raw.server.connection.refuse_attach(link, some_error());
    raw.turn();
    expect_end_alone(&mut raw);
}

#[test]
fn so_does_one_for_our_limits() {
    let (mut raw, name) = small(Limits {
        max_link_name: 500,
        ..Limits::default()
    });
    raw.send(0, super::raw::attach(0, Role::Sender, &name));
    let told = raw.server.events.remove(0);
    assert!(matches!(told, Event::Refused { .. }), "{told:?}");
    expect_end_alone(&mut raw);
}

/// The owner waits for the end of a link that it detaches before it has answered.
#[test]
fn so_does_a_link_that_is_given_up_undecided() {
    let (mut raw, name) = small(Limits::default());
    raw.server.undecided = true;
    raw.send(0, super::raw::attach(0, Role::Sender, &name));
    let Some(Event::Attach { link, .. }) = raw.server.events.pop() else {
        panic!()
    };
    raw.server.connection.detach(link, true, None);
    raw.turn();
    let told = raw.server.events.remove(0);
    assert!(matches!(told, Event::Detached { .. }), "{told:?}");
    expect_end_alone(&mut raw);

    raw.server.events.clear();
    raw.server.undecided = true;
    raw.send(0, super::raw::attach(0, Role::Sender, &name));
    raw.server.events.clear();
    raw.send(0, closing(0));
    let told = raw.server.events.remove(0);
    assert!(matches!(told, Event::Detached { .. }), "{told:?}");
    expect_end_alone(&mut raw);
}

/// The name that a new link takes over cannot be told of, and the new one cannot either.
#[test]
fn so_does_a_link_whose_name_is_taken_over_undecided() {
    let (mut raw, name) = small(Limits::default());
    raw.server.undecided = true;
    raw.send(0, super::raw::attach(0, Role::Sender, &name));
    raw.server.events.clear();
    raw.send(0, super::raw::attach(1, Role::Sender, &name));
    let told = raw.server.events.remove(0);
    assert!(matches!(told, Event::Detached { .. }), "{told:?}");
    expect_end_alone(&mut raw);
}

/// The session has ended, and nothing was said of the link; the connection goes on.
fn expect_end_alone(raw: &mut Raw) {
    assert!(
        matches!(raw.server.events[..], [Event::Ended { .. }]),
        "{:?}",
        raw.server.events
    );
    raw.expect_end(condition::FRAME_SIZE_TOO_SMALL);
}

/// An attach by which we send, with anything at all for termini, and one more field.
fn attach_frame(source: Value, target: Value, unsettled: Value) -> BytesMut {
    let fields = vec![
        Value::from("link"),
        Value::Uint(0),
        Value::Bool(false),
        Value::Null,
        Value::Null,
        source,
        target,
        unsettled,
        Value::Null,
        Value::Uint(0),
    ];
    let mut frame = BytesMut::from(&[0, 0, 0, 0, 2, 0, 0, 0][..]);
    Value::described(0x12, fields).encode(&mut frame);
    let size = u32::try_from(frame.len()).expect("it is short");
    frame[..4].copy_from_slice(&size.to_be_bytes());
    frame
}

fn terminus(code: u64, fields: impl IntoIterator<Item = Value>) -> Value {
    Value::described(code, fields.into_iter().collect::<Vec<_>>())
}

#[test]
fn a_terminus_that_makes_no_sense_costs_the_link_only() {
    let none = || terminus(0x29, []);
    let durable = || [Value::Null, Value::Uint(7)];
    let outcome = || [vec![Value::Null; 8], vec![terminus(0x23, [])]].concat();
    for (source, target, why) in [
        (terminus(0x99, []), none(), condition::NOT_IMPLEMENTED),
        (Value::Null, terminus(0x99, []), condition::NOT_IMPLEMENTED),
        (terminus(0x29, []), none(), condition::INVALID_FIELD),
        (Value::from("node"), none(), condition::INVALID_FIELD),
        (Value::Null, Value::Uint(1), condition::INVALID_FIELD),
        (
            Value::Null,
            terminus(0x29, [Value::Uint(1)]),
            condition::INVALID_FIELD,
        ),
        (terminus(0x28, durable()), none(), condition::INVALID_FIELD),
        (terminus(0x28, outcome()), none(), condition::INVALID_FIELD),
    ] {
        let mut raw = Raw::begun();
        raw.bytes(&attach_frame(source, target, Value::Null));
        let answer = raw.performatives();
        let [Performative::Attach(attach), Performative::Detach(detach)] = &answer[..] else {
            panic!("{answer:?}");
        };
        assert_eq!((&attach.source, &attach.target), (&None, &None));
        assert_eq!(
            (attach.name.as_str(), attach.role),
            ("link", Role::Receiver)
        );
        let error = detach.error.as_ref().expect("there is a reason");
        assert_eq!((error.condition.as_str(), detach.closed), (why, true));
        assert!(matches!(raw.server.events[..], [Event::Refused { .. }]));
        raw.server.events.clear();
        raw.send(0, closing(0));
        raw.attach(0, Role::Receiver, "link");
    }
}

#[test]
fn a_terminus_that_is_no_value_costs_the_connection() {
    for broken in [&[0x99][..], &[0x56, 2]] {
        let mut raw = Raw::begun();
        let address = Value::from("#".repeat(broken.len() - 1));
        // An address of another type comes first, and does not hide what follows it.
        let fields = [
            Value::Uint(1),
            Value::Null,
            Value::Null,
            Value::Null,
            address,
        ];
        let mut frame = attach_frame(Value::Null, terminus(0x29, fields), Value::Null);
        let at = frame
            .windows(2)
            .rposition(|octets| octets[0] == 0xa1)
            .expect("the last text");
        frame[at..at + broken.len()].copy_from_slice(broken);
        raw.bytes(&frame);
        raw.expect_close(&[condition::DECODE_ERROR]);
    }
}

#[test]
fn what_else_is_wrong_with_an_attach_costs_what_it_did() {
    let mut raw = Raw::begun();
    let broken = || terminus(0x99, []);
    raw.bytes(&attach_frame(broken(), Value::Null, Value::Uint(1)));
    raw.expect_close(&[condition::NOT_IMPLEMENTED, condition::INVALID_FIELD]);

    let mut raw = Raw::begun();
    raw.attach(0, Role::Receiver, "other");
    raw.bytes(&attach_frame(broken(), Value::Null, Value::Null));
    raw.expect_end(condition::HANDLE_IN_USE);

    let mut raw = Raw::connected();
    raw.bytes(&attach_frame(broken(), Value::Null, Value::Null));
    let answer = raw.performatives();
    assert!(
        matches!(answer[..], [Performative::Open(_), Performative::Close(_)]),
        "{answer:?}"
    );
}

/// It has the link, and is told that it cannot keep it.
#[test]
fn an_answer_that_makes_no_sense_is_a_refusal() {
    let mut pair = Pair::opened();
    let session = pair.begin();
    pair.clear_events();
    pair.client.attach(session, Role::Receiver, "link");
    pair.client.connection.flush(pair.now);
    super::pair::take(pair.client.connection.out());
    let answer = attach_frame(terminus(0x99, []), Value::Null, Value::Null);
    pair.client.connection.handle_input(answer, pair.now);
    pair.client.turn(pair.now);
    let [
        Event::Attached { attach, .. },
        Event::Detached { error: Some(_), .. },
    ] = &pair.client.events[..]
    else {
        panic!("{:?}", pair.client.events);
    };
    assert_eq!(attach.source, None);
    let frames = super::raw::parse(&super::pair::take(pair.client.connection.out()));
    let [frame] = &frames[..] else {
        panic!("{frames:?}");
    };
    assert!(matches!(
        &frame.performative,
        Some(Performative::Detach(detach)) if detach.closed && detach.error.is_some()
    ));
}

fn closing(handle: u32) -> Performative {
    Performative::Detach(Detach {
        handle,
        closed: true,
        ..Detach::default()
    })
}
