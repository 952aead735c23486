//! Clients that take what is not complete by links of their own.

use super::*;
use crate::codec::RouterAnnotations;

/// A scene whose address 7 has a receiver, as the link 1, that takes such links.
fn scene(credit: u32, presettle: bool) -> (Scene, Slot) {
    let mut scene = Scene::new(Treatment::Balanced);
    let traits = OutgoingTraits {
        capacity: 250,
        presettle,
        diverts: true,
        ..OutgoingTraits::default()
    };
    let receiver = scene.consumer_of(7, credit, traits);
    (scene, receiver)
}

/// A link to the address that streams come by.
fn streaming(scene: &mut Scene) -> Slot {
    let terminal = scene.terminal();
    let traits = IncomingTraits {
        capacity: 250,
        flags: RouterAnnotations::STREAMING,
        ..IncomingTraits::default()
    };
    let slot = scene.forwarder.add_incoming(terminal, traits);
    let target = Target::Address(AddressId(7));
    scene.forwarder.open_incoming(slot, target, None);
    scene.turn();
    slot
}

/// The link that the peer knows by this number.
fn numbered(scene: &Scene, link: u32) -> Slot {
    let mut outgoing = scene.forwarder.outgoing.iter();
    let at = outgoing.find(|(_, outgoing)| outgoing.terminal.link == link);
    let (index, _) = at.expect("it is there");
    scene.forwarder.outgoing.slot(index)
}

/// The peer gives a link credit.
fn grant(scene: &mut Scene, link: u32, credit: u32) {
    scene.script.credit.insert(link, credit);
    let index = numbered(scene, link).index;
    let (script, now) = (&mut scene.script, scene.now);
    scene.forwarder.credit_changed(script, now, index);
}

/// What was sent to receivers.
fn sent(scene: &mut Scene) -> Vec<String> {
    let mut said = scene.turn();
    said.retain(|line| line.contains("start") || line.contains("go on") || line.contains("open"));
    said
}

#[test]
fn a_receiver_has_streams_of_several_senders_at_once() {
    let (mut scene, _) = scene(10, false);
    let senders = [streaming(&mut scene), streaming(&mut scene)];
    scene.frame(senders[0], 1, true, "a", true, false);
    scene.frame(senders[1], 2, true, "b", true, false);
    assert_eq!(sent(&mut scene), ["101: open", "102: open"]);
    grant(&mut scene, 101, 1);
    grant(&mut scene, 102, 1);
    assert_eq!(sent(&mut scene), ["101: start a…", "102: start b…"]);
    scene.frame(senders[1], 2, false, "d", true, false);
    scene.frame(senders[0], 1, false, "c", true, false);
    let mut said = sent(&mut scene);
    said.sort();
    assert_eq!(said, ["101: go on c…", "102: go on d…"]);
    // The link of the receiver itself is free for what is complete.
    let third = streaming(&mut scene);
    scene.send(third, 3, "x");
    assert_eq!(sent(&mut scene), ["1: start x"]);
}

#[test]
fn a_stream_counts_as_the_receivers_that_it_is_for() {
    let (mut scene, receiver) = scene(10, false);
    let sender = streaming(&mut scene);
    let load = scene.forwarder.load(receiver).expect("it is there");
    scene.frame(sender, 1, true, "a", true, false);
    scene.turn();
    assert_eq!(load.get(), 1);
    grant(&mut scene, 101, 1);
    scene.turn();
    scene.frame(sender, 1, false, "b", false, false);
    scene.turn();
    scene.outcome(0, DeliveryState::Accepted);
    let said = scene.turn();
    assert!(said.contains(&"2: 1 accepted settled".into()), "{said:?}");
    assert_eq!(load.get(), 0);
    assert!(scene.is_at_rest());
}

#[test]
fn a_receiver_of_settled_messages_gets_no_others_by_such_a_link() {
    let (mut scene, _) = scene(10, true);
    let traits = OutgoingTraits {
        capacity: 250,
        diverts: true,
        ..OutgoingTraits::default()
    };
    let sender = streaming(&mut scene);
    scene.frame(sender, 1, true, "a", true, false);
    assert_eq!(sent(&mut scene), ["101: open settled"]);
    grant(&mut scene, 101, 10);
    assert_eq!(sent(&mut scene), ["101: start a… settled"]);
    scene.frame(sender, 1, false, "b", false, false);
    let said = scene.turn();
    assert!(said.contains(&"2: 1 accepted settled".into()), "{said:?}");
    // The link is free now, but not for the other receiver of the connection.
    scene.consumers.clear();
    scene.consumer_of(7, 10, traits);
    scene.frame(sender, 2, true, "c", true, false);
    assert_eq!(sent(&mut scene), ["102: open"]);
}

#[test]
fn who_refuses_such_a_link_gets_the_stream_by_its_own() {
    let (mut scene, _) = scene(10, false);
    let sender = streaming(&mut scene);
    scene.frame(sender, 1, true, "a", true, false);
    assert_eq!(sent(&mut scene), ["101: open"]);
    let stream = numbered(&scene, 101);
    let (script, now) = (&mut scene.script, scene.now);
    scene.forwarder.remove_outgoing(script, now, stream);
    assert_eq!(sent(&mut scene), ["1: start a…"]);
    scene.script.refuses_streams = true;
    scene.frame(sender, 1, false, "b", false, false);
    scene.frame(sender, 2, true, "c", true, false);
    assert_eq!(sent(&mut scene), ["1: go on b", "1: start c…"]);
    scene.frame(sender, 2, false, "d", false, false);
    scene.turn();
    scene.outcome(0, DeliveryState::Accepted);
    scene.outcome(1, DeliveryState::Accepted);
    scene.turn();
    assert!(scene.is_at_rest());
}

#[test]
fn a_stream_goes_on_when_its_receivers_own_link_is_gone() {
    let (mut scene, receiver) = scene(10, false);
    let sender = streaming(&mut scene);
    scene.frame(sender, 1, true, "a", true, false);
    scene.turn();
    grant(&mut scene, 101, 1);
    scene.turn();
    let (script, now) = (&mut scene.script, scene.now);
    scene.forwarder.remove_outgoing(script, now, receiver);
    scene.frame(sender, 1, false, "b", false, false);
    assert_eq!(sent(&mut scene), ["101: go on b"]);
    scene.outcome(0, DeliveryState::Accepted);
    let said = scene.turn();
    assert!(said.contains(&"2: 1 accepted settled".into()), "{said:?}");
    assert!(scene.is_at_rest());
}

#[test]
fn every_receiver_of_a_multicast_has_it_in_its_way() {
    let mut scene = Scene::new(Treatment::Multicast);
    scene.consumer(7, 10);
    let traits = OutgoingTraits {
        capacity: 250,
        diverts: true,
        ..OutgoingTraits::default()
    };
    scene.consumer_of(7, 10, traits);
    let sender = streaming(&mut scene);
    scene.frame(sender, 1, true, "a", true, false);
    assert_eq!(sent(&mut scene), ["101: open", "1: start a…"]);
    grant(&mut scene, 101, 1);
    scene.frame(sender, 1, false, "b", false, false);
    let mut said = sent(&mut scene);
    said.sort();
    assert_eq!(said, ["101: go on b", "101: start a…", "1: go on b"]);
}
