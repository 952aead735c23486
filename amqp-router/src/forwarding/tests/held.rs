//! What connections hold that their peers have sent, and what becomes of it when they are cut off.

use super::*;
use crate::endpoint::FRAME_OVERHEAD;
use crate::forwarding::mailbox::{Branch, Mail};

/// What each frame counts beside its octets.
const FRAME: usize = FRAME_OVERHEAD as usize;
const OTHER: WorkerId = WorkerId(1);

fn held(scene: &Scene) -> Vec<(u32, usize)> {
    let held = scene.forwarder.held();
    let mut held: Vec<_> = held.into_iter().filter(|(_, octets)| *octets > 0).collect();
    held.sort_unstable();
    held
}

/// A sender on a connection of its own.
fn producer_on(scene: &mut Scene, connection: u32) -> Slot {
    let terminal = Terminal {
        connection,
        ..scene.terminal()
    };
    let traits = IncomingTraits {
        capacity: 250,
        ..IncomingTraits::default()
    };
    let slot = scene.forwarder.add_incoming(terminal, traits);
    let target = Target::Address(AddressId(7));
    scene.forwarder.open_incoming(slot, target, None);
    slot
}

fn discard(scene: &mut Scene, connection: u32) -> Vec<String> {
    scene
        .forwarder
        .discard_of(&mut scene.script, scene.now, connection);
    scene.turn()
}

#[test]
fn what_waits_counts_for_the_connection_that_it_came_by() {
    let mut scene = Scene::new(Treatment::Balanced);
    scene.consumer(7, 1);
    let one = producer_on(&mut scene, 1);
    let two = producer_on(&mut scene, 2);
    scene.turn();
    scene.send(one, 0, "gone");
    scene.turn();
    assert_eq!(held(&scene), [], "its receiver has it, if no outcome yet");
    scene.send(one, 1, "waits");
    scene.send_settled(two, 0, "presettled");
    scene.frame(two, 1, true, "begin", true, false);
    scene.frame(two, 1, false, "more", true, false);
    scene.turn();
    let body = BODY.len();
    assert_eq!(
        held(&scene),
        [
            (1, FRAME + body + 5),
            (2, 3 * FRAME + body + 10 + body + 5 + 4)
        ]
    );
}

#[test]
fn copies_of_a_delivery_count_once() {
    let mut scene = Scene::new(Treatment::Multicast);
    scene.consumer(7, 0);
    scene.consumer(7, 0);
    let one = producer_on(&mut scene, 1);
    scene.turn();
    scene.send(one, 0, "x");
    assert_eq!(held(&scene), [(1, FRAME + BODY.len() + 1)]);
}

#[test]
fn who_is_cut_off_gets_back_what_has_not_begun_to_leave_and_holds_nothing() {
    let mut scene = Scene::new(Treatment::Balanced);
    scene.consumer(7, 1);
    let one = producer_on(&mut scene, 1);
    let two = producer_on(&mut scene, 2);
    scene.turn();
    scene.frame(one, 0, true, "begun", true, false);
    scene.send(one, 1, "waits");
    scene.send_settled(one, 2, "presettled");
    scene.send(two, 0, "another's");
    let window = scene.script.window_left;
    scene.turn();
    let said = discard(&mut scene, 1);
    assert!(said.contains(&"2: 1 released settled".into()), "{said:?}");
    assert!(said.contains(&"1: abort".into()), "{said:?}");
    assert_eq!(held(&scene), [(2, FRAME + BODY.len() + 9)]);
    assert_eq!(scene.script.window_left - window, 3, "all but another's");
    scene.forwarder.remove_incoming(&mut scene.script, one);
    scene.script.credit.insert(1, 1);
    scene
        .forwarder
        .credit_changed(&mut scene.script, scene.now, 0);
    let said = scene.turn();
    assert!(said.contains(&"1: start another's".into()), "{said:?}");
}

#[test]
fn what_another_worker_has_counts_until_it_has_left_and_is_given_up_there() {
    let mut scene = Scene::new(Treatment::Balanced);
    scene.consumer(7, 0);
    scene.consumers[0].1.outlet = Outlet::Link {
        worker: OTHER,
        link: Slot {
            index: 0,
            serial: 0,
        },
        to_router: false,
    };
    scene.publish(AddressId(7));
    let one = producer_on(&mut scene, 1);
    scene.turn();
    scene.frame(one, 0, true, "0123456", true, false);
    scene.frame(one, 0, false, "0123456789", false, false);
    assert_eq!(held(&scene), [(1, 2 * FRAME + 20)]);
    let branch = match scene.forwarder.poll_mail() {
        Some((OTHER, Mail::Start { branch, .. })) => branch,
        other => panic!("{other:?}"),
    };
    while scene.forwarder.poll_mail().is_some() {}
    let through = Mail::Through { branch, octets: 10 };
    scene.forwarder.receive(&mut scene.script, through);
    assert_eq!(held(&scene), [(1, FRAME + 10)]);
    discard(&mut scene, 1);
    let mail = scene.forwarder.poll_mail();
    assert!(
        matches!(mail, Some((OTHER, Mail::Discarded { branch: of })) if of == branch),
        "{mail:?}"
    );
}

/// A worker with a copy of a delivery, by a link with so much credit, that another worker has sent it
/// word of.
fn copy_from_elsewhere(credit: u32) -> (Scene, Branch) {
    let mut scene = Scene::new(Treatment::Balanced);
    let link = scene.consumer(7, credit);
    scene.turn();
    // What the other worker sends is the same as what this one would.
    scene.consumers[0].1.outlet = Outlet::Link {
        worker: OTHER,
        link,
        to_router: false,
    };
    scene.publish(AddressId(7));
    let one = producer_on(&mut scene, 1);
    scene.send(one, 0, "x");
    let Some((OTHER, mut start)) = scene.forwarder.poll_mail() else {
        panic!("nothing for the other worker");
    };
    let Mail::Start { branch, .. } = &mut start else {
        panic!("{start:?}");
    };
    branch.worker = OTHER;
    let branch = *branch;
    scene.forwarder.receive(&mut scene.script, start);
    (scene, branch)
}

#[test]
fn a_copy_for_another_worker_is_given_up_though_it_is_whole() {
    let (mut scene, branch) = copy_from_elsewhere(0);
    let copies = |scene: &Scene| scene.forwarder.in_flight() - 1;
    assert_eq!(copies(&scene), 1);
    let discarded = Mail::Discarded { branch };
    scene.forwarder.receive(&mut scene.script, discarded);
    assert_eq!(copies(&scene), 0);
}

/// Its receiver may wait to hear that it is settled, which nobody else will say.
#[test]
fn a_copy_that_another_worker_has_sent_is_settled_when_its_sender_is_gone() {
    let (mut scene, branch) = copy_from_elsewhere(1);
    assert!(scene.turn().contains(&"1: start x".to_owned()));
    let accepted = Some(DeliveryState::Accepted);
    let (script, now) = (&mut scene.script, scene.now);
    let forwarder = &mut scene.forwarder;
    forwarder.receiver_update(script, now, 0, accepted, false);
    forwarder.receive(script, Mail::Discarded { branch });
    forwarder.receive(script, Mail::Orphaned { branch });
    let said = scene.turn();
    assert!(
        said.contains(&"1: sent 0 accepted settled".to_owned()),
        "{said:?}"
    );
    assert_eq!(scene.forwarder.in_flight(), 1, "the half that came in");
}
