//! Routers that do not forget what is settled before they have sent all of it.

use super::*;

/// A message to a consumer here that has not all come from a router, and its link.
fn unfinished(foreign: bool) -> (Net, Slot, Slot) {
    let mut net = Net::new(10);
    let trunk = net.trunk_of(foreign);
    let consumer = net.scene.consumer(7, 10);
    net.scene.turn();
    let ahead = annotated("7", "0/C", &["0/C"], 0);
    net.arrive(trunk, 1, &ahead, "x", true);
    net.scene.turn();
    (net, trunk, consumer)
}

#[test]
fn the_outcome_is_told_at_once_and_settled_with_the_end() {
    let (mut net, trunk, _) = unfinished(true);
    net.scene.outcome(0, DeliveryState::Accepted);
    assert_eq!(net.scene.turn(), ["2: 1 accepted"]);
    net.scene.frame(trunk, 1, false, "y", true, false);
    net.scene.frame(trunk, 1, false, "z", false, false);
    let said = net.scene.turn();
    assert!(
        said.contains(&"2: 1 accepted settled".to_owned()),
        "{said:?}"
    );
    assert_eq!(said.last().map(String::as_str), Some("3: go on z"));
    assert!(net.scene.is_at_rest());
}

#[test]
fn routers_of_this_make_are_spared_the_rest() {
    let (mut net, trunk, _) = unfinished(false);
    net.scene.outcome(0, DeliveryState::Released);
    assert_eq!(net.scene.turn()[0], "2: 1 released settled");
    net.scene.frame(trunk, 1, false, "z", false, false);
    net.scene.turn();
    assert!(net.scene.is_at_rest());
}

#[test]
fn a_lost_receiver_is_told_of_in_the_same_way() {
    let (mut net, trunk, consumer) = unfinished(true);
    let Scene {
        forwarder,
        script,
        now,
        ..
    } = &mut net.scene;
    forwarder.remove_outgoing(script, *now, consumer);
    assert_eq!(net.scene.turn()[..1], ["2: 1 released"]);
    net.scene.frame(trunk, 1, false, "z", false, false);
    assert!(
        net.scene
            .turn()
            .contains(&"2: 1 released settled".to_owned())
    );
    assert!(net.scene.is_at_rest());
}

#[test]
fn what_leads_nowhere_is_refused_in_the_same_way() {
    let mut net = Net::new(10);
    let trunk = net.trunk_of(true);
    net.scene.turn();
    let ahead = annotated("8", "0/C", &["0/C"], 0);
    net.arrive(trunk, 1, &ahead, "x", true);
    assert_eq!(net.scene.turn(), ["2: 1 released", "2: release 1"]);
    net.scene.frame(trunk, 1, false, "y", true, false);
    assert_eq!(net.scene.turn(), ["2: release 1"]);
    net.scene.frame(trunk, 1, false, "z", false, false);
    let said = net.scene.turn();
    assert_eq!(said, ["2: release 1", "2: 1 released settled"]);
    assert!(net.scene.is_at_rest());
}

/// Its end is as good as a settlement.
#[test]
fn a_sender_that_aborts_or_is_lost_waits_for_nothing() {
    for lost in [false, true] {
        let (mut net, trunk, _) = unfinished(true);
        net.scene.outcome(0, DeliveryState::Released);
        net.scene.turn();
        if lost {
            let Scene {
                forwarder, script, ..
            } = &mut net.scene;
            forwarder.remove_incoming(script, trunk);
        } else {
            net.scene.abort(trunk, 1);
        }
        net.scene.turn();
        assert!(net.scene.is_at_rest(), "lost: {lost}");
    }
}
