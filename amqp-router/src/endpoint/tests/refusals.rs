//! Links that are refused (AMQP 2.6.3; C-25, C-54).

use super::pair::server_config;
use super::raw::{Raw, open, some_error};
use crate::codec::{Detach, Open, Performative, Role, condition};
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
    let detach = Detach {
        closed: true,
        ..Detach::default()
    };
    raw.send(0, Performative::Detach(detach));
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
