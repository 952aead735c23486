//! What links tell of deliveries from and to other routers.

use super::*;
use crate::control::table::LinkRef;
use crate::forwarding::links::LinkStatus;

fn status(net: &Net, slot: Slot) -> LinkStatus {
    let link = LinkRef {
        worker: WORKER,
        direction: Direction::Outgoing,
        slot,
    };
    let Scene {
        forwarder,
        script,
        now,
        ..
    } = &net.scene;
    let mut statuses = forwarder.link_statuses(script, WORKER, &[link].into(), *now);
    statuses.pop().expect("it is there").1
}

#[test]
fn a_consumers_link_tells_where_its_deliveries_entered_the_network() {
    let mut net = Net::new(10);
    let (trunk, producer) = (net.trunk(), net.producer());
    let consumer = net.scene.consumer(7, 10);
    net.scene.turn();
    for (number, ingress) in [(1, "0/B"), (2, "0/C"), (3, "0/C"), (4, "0/unknown")] {
        let ahead = annotated("7", ingress, &[ingress], 0);
        net.arrive(trunk, number, &ahead, "x", false);
    }
    net.scene.send(producer, 1, "x");
    net.scene.send_settled(producer, 2, "x");
    net.scene.turn();
    let entered = |net: &Net| {
        let entered = status(net, consumer).entered;
        entered.expect("it leads to no router").counts().to_vec()
    };
    assert_eq!(entered(&net), [1], "only what is done with counts");
    for delivery in 0..5 {
        net.scene.outcome(delivery, DeliveryState::Accepted);
    }
    // Here, and at the routers 0 and 1.
    assert_eq!(entered(&net), [2, 1, 2]);
    assert_eq!(status(&net, net.out).entered, None);
}

#[test]
fn a_link_to_a_router_tells_what_went_elsewhere_since_it_takes_long() {
    let mut net = Net::new(10);
    let producer = net.producer();
    net.scene.turn();
    let elsewhere = |net: &Net| status(net, net.out).elsewhere;
    net.scene.frame(producer, 1, true, "a", true, false);
    net.scene.turn();
    assert_eq!(elsewhere(&net), 0, "it may be complete in a moment");
    net.scene.script.credit.insert(101, 10);
    let long = "b".repeat(300 * 1024);
    net.scene.frame(producer, 1, false, &long, true, false);
    net.scene.turn();
    assert_eq!(elsewhere(&net), 1);
    net.scene.frame(producer, 1, false, "c", false, false);
    net.scene.turn();
    net.scene.outcome(0, DeliveryState::Accepted);
    assert_eq!(elsewhere(&net), 0);
}
