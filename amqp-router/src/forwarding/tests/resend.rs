//! Deliveries that are given back and go to somebody else.

use super::*;
use crate::codec::{Modified, RouterAnnotations};

impl Scene {
    /// A producer whose deliveries are to be tried elsewhere when they are released.
    fn insistent(&mut self, address: u32) -> Slot {
        let terminal = self.terminal();
        let traits = IncomingTraits {
            capacity: 250,
            flags: RouterAnnotations::RESEND_RELEASED,
            ..IncomingTraits::default()
        };
        let slot = self.forwarder.add_incoming(terminal, traits);
        self.publish(AddressId(address));
        let target = Target::Address(AddressId(address));
        self.forwarder.open_incoming(slot, target, Some("7"));
        slot
    }

    /// What was said of deliveries, not of credit and windows.
    fn said(&mut self) -> Vec<String> {
        let said = self.turn().into_iter();
        said.filter(|said| !said.contains("credit") && !said.contains("release "))
            .collect()
    }

    fn kept(&self, link: Slot) -> usize {
        self.forwarder.incoming[link.index].kept
    }

    /// A receiver's link goes, whatever the table says.
    fn lose(&mut self, gone: &Destination) {
        let Outlet::Link { link, .. } = gone.outlet else {
            unreachable!("it is a link");
        };
        let (wire, now) = (&mut self.script, self.now);
        self.forwarder.remove_outgoing(wire, now, link);
    }

    /// One consumer's link takes the place of another's.
    fn succeed(&self, old: usize, newer: usize) {
        let load = |at: usize| &self.consumers[at].1.load;
        load(newer).succeed(load(old), 1);
    }

    /// A state that is not the last word.
    fn state(&mut self, delivery: u32, state: DeliveryState) {
        let (wire, now) = (&mut self.script, self.now);
        let forwarder = &mut self.forwarder;
        forwarder.receiver_update(wire, now, delivery, Some(state), false);
    }
}

/// A scene with a producer, link 1, and consumers from link 2 on.
fn scene(treatment: Treatment, consumers: usize) -> (Scene, Slot) {
    let mut scene = Scene::new(treatment);
    let producer = scene.insistent(7);
    for _ in 0..consumers {
        scene.consumer(7, 10);
    }
    scene.turn();
    (scene, producer)
}

#[test]
fn what_is_released_goes_to_each_destination_once() {
    for treatment in [Treatment::Balanced, Treatment::Closest] {
        let (mut scene, producer) = scene(treatment, 3);
        scene.send(producer, 40, "x");
        let mut said = scene.said();
        for link in ["2", "3", "4"] {
            assert_eq!(said, [format!("{link}: start x")], "{treatment:?}");
            scene.outcome(0, DeliveryState::Released);
            said = scene.said();
        }
        assert_eq!(said, ["1: 40 released settled"], "{treatment:?}");
        assert!(scene.is_at_rest());
        assert_eq!(scene.kept(producer), 0);
        assert_eq!(scene.forwarder.counts().resent, 2);
    }
}

/// A neighbour that has connected anew is not asked again for what it has given back.
#[test]
fn a_link_that_takes_anothers_place_is_not_tried_after_it() {
    let (mut scene, producer) = scene(Treatment::Balanced, 2);
    scene.send(producer, 40, "x");
    assert_eq!(scene.said(), ["2: start x"]);
    scene.succeed(0, 1);
    scene.outcome(0, DeliveryState::Released);
    assert_eq!(scene.said(), ["1: 40 released settled"]);
    assert!(scene.is_at_rest());
}

/// What was lost with its connection has not been given back by anybody.
#[test]
fn a_link_that_takes_anothers_place_gets_what_that_could_not_send() {
    let (mut scene, producer) = scene(Treatment::Balanced, 2);
    scene.script.credit.insert(2, 0);
    scene.send(producer, 40, "x");
    assert!(scene.said().is_empty());
    scene.succeed(0, 1);
    let gone = scene.consumers.remove(0);
    scene.publish(AddressId(7));
    scene.lose(&gone.1);
    assert_eq!(scene.said(), ["3: start x"]);
    scene.outcome(0, DeliveryState::Accepted);
    assert_eq!(scene.said(), ["1: 40 accepted settled"]);
    assert!(scene.is_at_rest());
}

#[test]
fn who_accepts_ends_the_search() {
    let (mut scene, producer) = scene(Treatment::Balanced, 3);
    scene.send(producer, 40, "x");
    scene.said();
    scene.outcome(0, DeliveryState::Released);
    assert_eq!(scene.said(), ["3: start x"]);
    scene.outcome(0, DeliveryState::Accepted);
    assert_eq!(scene.said(), ["1: 40 accepted settled"]);
    assert!(scene.is_at_rest());
}

#[test]
fn any_other_word_is_passed_on() {
    let modified = DeliveryState::Modified(Box::<Modified>::default());
    for (outcome, word) in [
        (DeliveryState::Rejected(None), "rejected"),
        (modified, "modified"),
    ] {
        let (mut scene, producer) = scene(Treatment::Balanced, 2);
        scene.send(producer, 40, "x");
        scene.said();
        scene.outcome(0, outcome);
        assert_eq!(scene.said(), [format!("1: 40 {word} settled")]);
        assert!(scene.is_at_rest());
    }
}

/// Whoever says RECEIVED has taken it: what is given back after that may have had its effect.
#[test]
fn what_has_been_received_stays() {
    let (mut scene, producer) = scene(Treatment::Balanced, 2);
    scene.send(producer, 40, "x");
    scene.said();
    assert!(scene.kept(producer) > 0);
    let received = DeliveryState::Received {
        section_number: 0,
        section_offset: 0,
    };
    scene.state(0, received);
    assert_eq!(scene.kept(producer), 0);
    scene.said();
    scene.outcome(0, DeliveryState::Released);
    assert_eq!(scene.said(), ["1: 40 released settled"]);
    assert!(scene.is_at_rest());
}

#[test]
fn nobody_asked_so_nobody_else_is_tried() {
    let mut plain = Scene::new(Treatment::Balanced);
    let producer = plain.producer(7);
    plain.consumer(7, 10);
    plain.consumer(7, 10);
    plain.turn();
    plain.send(producer, 40, "x");
    plain.said();
    plain.outcome(0, DeliveryState::Released);
    assert_eq!(plain.said(), ["1: 40 released settled"]);
    // One of a multicast's receivers is not somebody else's replacement.
    let (mut one, producer) = scene(Treatment::Multicast, 1);
    one.send(producer, 40, "x");
    one.said();
    one.consumer(7, 10);
    one.outcome(0, DeliveryState::Released);
    assert_eq!(one.said(), ["1: 40 released settled"]);
    // Nobody waits to hear of what is settled.
    let (mut settled, producer) = scene(Treatment::Balanced, 2);
    settled.send_settled(producer, 40, "x");
    assert_eq!(settled.said(), ["2: start x settled"]);
    assert!(settled.is_at_rest());
}

/// The receiver waits for the second step (AMQP 2.6.12), which the router takes.
#[test]
fn a_release_that_is_not_settled_is_settled() {
    let (mut scene, producer) = scene(Treatment::Balanced, 2);
    scene.send(producer, 40, "x");
    scene.said();
    scene.state(0, DeliveryState::Released);
    assert_eq!(scene.said(), ["2: sent 0 released settled", "3: start x"]);
    scene.outcome(0, DeliveryState::Accepted);
    assert_eq!(scene.said(), ["1: 40 accepted settled"]);
    assert!(scene.is_at_rest());
}

#[test]
fn a_message_that_is_still_arriving_starts_over_elsewhere() {
    let (mut scene, producer) = scene(Treatment::Balanced, 2);
    scene.frame(producer, 40, true, "a", true, false);
    scene.frame(producer, 40, false, "b", true, false);
    assert_eq!(scene.said(), ["2: start a…", "2: go on b…"]);
    scene.outcome(0, DeliveryState::Released);
    let said = scene.said();
    assert_eq!(said, ["2: abort", "3: start a…", "3: go on b…"]);
    scene.frame(producer, 40, false, "c", false, false);
    assert_eq!(scene.said(), ["3: go on c"]);
    scene.outcome(1, DeliveryState::Accepted);
    assert_eq!(scene.said(), ["1: 40 accepted settled"]);
    assert!(scene.is_at_rest());
}

/// Each frame's place in the session's window is let go once, however often it leaves.
#[test]
fn frames_give_their_places_back_once() {
    let (mut scene, producer) = scene(Treatment::Balanced, 3);
    scene.frame(producer, 40, true, "a", true, false);
    scene.turn();
    scene.outcome(0, DeliveryState::Released);
    scene.turn();
    scene.frame(producer, 40, false, "b", true, false);
    scene.turn();
    let received = DeliveryState::Received {
        section_number: 0,
        section_offset: 0,
    };
    scene.state(1, received);
    scene.frame(producer, 40, false, "c", false, false);
    scene.turn();
    assert_eq!(scene.script.window_left, 3);
    scene.outcome(1, DeliveryState::Accepted);
    scene.turn();
    assert!(scene.is_at_rest());
}

#[test]
fn what_waited_for_a_receiver_that_left_goes_to_another() {
    let (mut scene, producer) = scene(Treatment::Balanced, 1);
    scene.script.credit.insert(2, 0);
    scene.send(producer, 40, "x");
    assert!(scene.said().is_empty());
    scene.consumer(7, 10);
    let gone = scene.consumers.remove(0);
    scene.publish(AddressId(7));
    scene.lose(&gone.1);
    assert_eq!(scene.said(), ["3: start x"]);
    scene.outcome(0, DeliveryState::Accepted);
    assert_eq!(scene.said(), ["1: 40 accepted settled"]);
    assert!(scene.is_at_rest());
}

/// The table is behind: of two destinations neither is there any more.
#[test]
fn links_that_are_gone_are_passed_over() {
    let (mut scene, producer) = scene(Treatment::Balanced, 3);
    for at in [0, 1] {
        let gone = scene.consumers[at].1.clone();
        scene.lose(&gone);
    }
    scene.frame(producer, 40, true, "a", true, false);
    scene.frame(producer, 40, false, "b", false, false);
    assert_eq!(scene.said(), ["4: start a…", "4: go on b"]);
    scene.outcome(0, DeliveryState::Accepted);
    assert_eq!(scene.said(), ["1: 40 accepted settled"]);
    assert!(scene.is_at_rest());
}

#[test]
fn what_lives_no_longer_is_not_tried_again() {
    let (mut scene, producer) = scene(Treatment::Balanced, 2);
    // A header with a time to live of 1 s, then the body.
    let header = [0, 0x53, 0x70, 0xc0, 8, 3, 0x40, 0x40, 0x70, 0, 0, 3, 0xe8];
    scene.message(producer, 40, [&header[..], BODY, b"x"].concat());
    assert_eq!(scene.said().len(), 1);
    scene.now += Duration::from_secs(2);
    scene.outcome(0, DeliveryState::Released);
    assert_eq!(scene.said(), ["1: 40 released settled"]);
    assert!(scene.is_at_rest());
}

#[test]
fn a_sender_that_leaves_takes_its_attempts_with_it() {
    let (mut scene, producer) = scene(Treatment::Balanced, 3);
    scene.send(producer, 40, "x");
    scene.said();
    scene.outcome(0, DeliveryState::Released);
    scene.said();
    scene.forwarder.remove_incoming(&mut scene.script, producer);
    scene.said();
    scene.outcome(0, DeliveryState::Released);
    assert!(scene.said().is_empty());
    assert!(scene.is_at_rest());
}

/// What does not fit is delivered as others are.
#[test]
fn what_is_kept_is_bounded() {
    let (mut scene, producer) = scene(Treatment::Balanced, 2);
    let text = "x".repeat(4 << 20);
    for number in 0..4 {
        scene.send(producer, number, &text);
    }
    assert!(scene.kept(producer) <= 16 << 20);
    scene.said();
    // Of the four that are on their way, three were kept.
    for token in 0..4 {
        scene.outcome(token, DeliveryState::Released);
    }
    let said = scene.said();
    let again = said.iter().filter(|said| said.contains("start")).count();
    assert_eq!(again, 3);
    assert!(said.contains(&"1: 3 released settled".to_owned()));
}

/// What is too long to be kept holds its places until it has left.
#[test]
fn what_is_not_kept_any_more_is_held_by_the_window() {
    let (mut scene, producer) = scene(Treatment::Balanced, 1);
    scene.script.credit.insert(2, 0);
    let text = "x".repeat(6 << 20);
    for number in 0..2 {
        scene.frame(producer, number, true, &text, true, false);
        for _ in 0..2 {
            scene.frame(producer, number, false, &text, true, false);
        }
        scene.frame(producer, number, false, "end", false, false);
    }
    assert_eq!(scene.kept(producer), 0);
    let held = scene.forwarder.incoming[producer.index].unreleased;
    let octets = 2 * (BODY.len() + 3 * text.len() + 3);
    assert_eq!((held.frames, held.octets as usize), (8, octets));
}

/// A second attempt waits without places in the window. What it waits with counts as kept even when
/// there is to be no third.
#[test]
fn what_waits_a_second_time_is_counted() {
    let (mut scene, producer) = scene(Treatment::Balanced, 2);
    let text = "x".repeat(6 << 20);
    scene.frame(producer, 40, true, &text, true, false);
    scene.frame(producer, 40, false, &text, true, false);
    scene.said();
    scene.script.credit.insert(3, 0);
    scene.outcome(0, DeliveryState::Released);
    let kept = scene.kept(producer);
    assert!(kept >= 2 * text.len());
    let window = scene.script.window_left;
    // One more than may be kept.
    scene.frame(producer, 40, false, &text, false, false);
    scene.said();
    assert_eq!(scene.kept(producer), kept);
    assert_eq!(scene.script.window_left, window, "this one has its place");
    scene.script.credit.insert(3, 1);
    let (script, now) = (&mut scene.script, scene.now);
    scene.forwarder.credit_changed(script, now, 1);
    scene.said();
    assert_eq!(scene.script.window_left, window + 1);
    scene.outcome(1, DeliveryState::Released);
    assert_eq!(scene.said(), ["1: 40 released settled"]);
    assert!(scene.is_at_rest());
}
