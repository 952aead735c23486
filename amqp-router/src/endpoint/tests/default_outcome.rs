//! What becomes of deliveries that are settled without a word (AMQP 3.5.3, default-outcome).

use bytes::Bytes;

use super::pair::departure;
use super::raw::{Raw, credit};
use crate::codec::{Attach, DeliveryState, Disposition, Performative, Role, Source};
use crate::endpoint::LinkId;

/// A raw peer that receives from a source with this default outcome, and has credit.
fn receiving(default_outcome: Option<DeliveryState>) -> (Raw, LinkId) {
    let mut raw = Raw::begun();
    let attach = Attach {
        source: Some(Source {
            default_outcome: default_outcome.clone(),
            ..Source::default()
        }),
        ..super::pair::attach(Role::Receiver, "link")
    };
    raw.send(0, Performative::Attach(Box::new(attach)));
    let [Performative::Attach(answer)] = &raw.performatives()[..] else {
        panic!("it is refused");
    };
    let source = answer.source.as_ref().expect("a source");
    assert_eq!(source.default_outcome, default_outcome);
    let link = raw.server.events.iter().find_map(|event| match event {
        crate::endpoint::Event::Attach { link, .. } => Some(*link),
        _ => None,
    });
    raw.send(0, credit(1000));
    raw.server.events.clear();
    (raw, link.expect("it is asked"))
}

fn send(raw: &mut Raw, link: LinkId, count: u32) {
    for _ in 0..count {
        let mut payload = Bytes::from_static(b"x");
        let departure = departure(1, false);
        let sent = raw
            .server
            .connection
            .start_delivery(link, departure, &mut payload, false);
        sent.expect("there is credit");
    }
    raw.output();
}

/// What the owner is told when the receiver says this of a range.
fn told(
    raw: &mut Raw,
    (first, last): (u32, u32),
    state: Option<DeliveryState>,
    settled: bool,
) -> Vec<(u32, Option<DeliveryState>, bool)> {
    let disposition = Disposition {
        role: Role::Receiver,
        first,
        last,
        settled,
        state,
        batchable: false,
    };
    raw.server.events.clear();
    raw.send(0, Performative::Disposition(disposition));
    raw.server.updates()
}

#[test]
fn it_is_the_outcome_of_what_is_settled_without_one() {
    let default = DeliveryState::modified(true, false);
    let (mut raw, link) = receiving(Some(default.clone()));
    send(&mut raw, link, 5);
    let received = DeliveryState::Received {
        section_number: 0,
        section_offset: 1,
    };
    let accepted = DeliveryState::Accepted;
    let settled = |id| (id, Some(default.clone()), true);
    assert_eq!(told(&mut raw, (0, 1), None, true), [settled(0), settled(1)]);
    assert_eq!(
        told(&mut raw, (2, 2), Some(received.clone()), true),
        [settled(2)],
        "that is no outcome"
    );
    let one = told(&mut raw, (3, 3), Some(accepted.clone()), true);
    assert_eq!(one, [(3, Some(accepted), true)]);
    let one = told(&mut raw, (4, 4), Some(received.clone()), false);
    assert_eq!(one, [(4, Some(received), false)]);
    assert_eq!(told(&mut raw, (4, 4), None, true), [settled(4)]);
}

#[test]
fn an_outcome_stays_when_the_delivery_is_settled_later() {
    let (mut raw, link) = receiving(Some(DeliveryState::Released));
    send(&mut raw, link, 3);
    let accepted = Some(DeliveryState::Accepted);
    let both = told(&mut raw, (0, 1), accepted.clone(), false);
    assert_eq!(both, [(0, accepted.clone(), false), (1, accepted, false)]);
    assert_eq!(told(&mut raw, (0, 0), None, true), [(0, None, true)]);
    // What this end settles is forgotten.
    let connection = &mut raw.server.connection;
    connection.update_sent(crate::endpoint::SessionId(0), 1, None, true);
    raw.output();
    assert!(told(&mut raw, (1, 1), None, true).is_empty());
    let released = Some(DeliveryState::Released);
    assert_eq!(told(&mut raw, (2, 2), None, true), [(2, released, true)]);
}

#[test]
fn without_one_there_is_none() {
    let received = DeliveryState::Received {
        section_number: 0,
        section_offset: 0,
    };
    for default in [None, Some(received)] {
        let (mut raw, link) = receiving(default);
        send(&mut raw, link, 1);
        assert_eq!(told(&mut raw, (0, 0), None, true), [(0, None, true)]);
    }
}
