//! Which outcomes a source knows (AMQP 3.5.3, outcomes).

use super::raw::Raw;
use crate::codec::{Attach, DeliveryState, Modified, Performative, Role, Source, Symbol};

#[test]
fn who_does_not_know_modified_is_told_of_a_release() {
    let modified = DeliveryState::Modified(Box::new(Modified {
        delivery_failed: true,
        ..Modified::default()
    }));
    let names = |outcomes: &[&str]| -> Vec<Symbol> {
        let named = outcomes.iter();
        named
            .map(|name| Symbol::from(format!("amqp:{name}:list")))
            .collect()
    };
    for (outcomes, told) in [
        (&[][..], &modified),
        (
            &["accepted", "rejected", "released"],
            &DeliveryState::Released,
        ),
        (&["accepted", "released", "modified"], &modified),
        // Then there is nothing better.
        (&["accepted", "rejected"], &modified),
    ] {
        let mut raw = Raw::begun();
        let attach = Attach {
            initial_delivery_count: Some(0),
            source: Some(Source {
                outcomes: names(outcomes),
                ..Source::default()
            }),
            ..super::pair::attach(Role::Sender, "link")
        };
        raw.send(0, Performative::Attach(Box::new(attach)));
        let link = raw.server.events.iter().find_map(|event| match event {
            crate::endpoint::Event::Attach { link, .. } => Some(*link),
            _ => None,
        });
        let link = link.expect("it is asked");
        let connection = &raw.server.connection;
        let says = |state| connection.known_to_source(link, state);
        assert_eq!(says(Some(&modified)), Some(told), "{outcomes:?}");
        let accepted = Some(&DeliveryState::Accepted);
        assert_eq!((says(accepted), says(None)), (accepted, None));
    }
}
