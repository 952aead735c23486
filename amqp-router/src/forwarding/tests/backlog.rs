//! What waits, and for how long.

use super::*;
use crate::forwarding::stats::{Backlog, Patience, Trouble};

#[test]
fn deliveries_are_stuck_and_links_blocked_after_ten_seconds() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    let consumer = scene.consumer(7, 2);
    scene.turn();
    for number in 0..5 {
        scene.send(producer, number, "x");
    }
    scene.turn();
    scene.script.credit.insert(2, 0);
    wait(&mut scene, 9);
    let young = Backlog {
        undelivered: 3,
        unsettled: 5,
        ..Backlog::default()
    };
    assert_eq!(backlog(&scene), young);
    wait(&mut scene, 1);
    let old = Backlog {
        stuck: 10, // five here, and the same five there
        blocked_out: 1,
        ..young
    };
    assert_eq!(backlog(&scene), old);

    scene
        .forwarder
        .remove_outgoing(&mut scene.script, scene.now, consumer);
    scene.turn();
    assert_eq!(backlog(&scene).stuck, 0);
}

/// Its sender waits as long as its receivers do.
#[test]
fn an_outcome_that_is_late_is_late_on_both_links() {
    for (seconds, expected) in [(0, [0, 0]), (1, [0, 0]), (5, [1, 0]), (11, [0, 1])] {
        let mut scene = Scene::new(Treatment::Balanced);
        let producer = scene.producer(7);
        scene.consumer(7, 1);
        scene.turn();
        scene.send(producer, 0, "x");
        scene.turn();
        wait(&mut scene, seconds);
        scene.outcome(0, DeliveryState::Accepted);
        scene.turn();
        let links = scene.forwarder.links(WORKER);
        assert_eq!(links.len(), 2);
        let statuses = (scene.forwarder).link_statuses(&scene.script, WORKER, &links, scene.now);
        for (link, status) in statuses {
            let late = [status.counts.delayed_1s, status.counts.delayed_10s];
            assert_eq!(late, expected, "after {seconds} s: {link:?}");
            let one = [link].into();
            let alone = (scene.forwarder).link_statuses(&scene.script, WORKER, &one, scene.now);
            assert_eq!(alone.len(), 1, "of the one that is asked for");
        }
    }
}

#[test]
fn a_link_that_does_not_get_on_is_told_of_once_while_that_lasts() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    scene.consumer(7, 0);
    scene.turn();
    scene.send(producer, 0, "x");
    scene.turn();
    let interval = Patience::default().interval;
    wait(&mut scene, interval - 1);
    assert_eq!(troubles(&mut scene), []);
    wait(&mut scene, 1);
    let expected = [
        (Direction::Incoming, Trouble::Stuck(10)),
        (Direction::Outgoing, Trouble::Stuck(10)),
        (Direction::Outgoing, Trouble::Blocked(u64::from(interval))),
    ];
    assert_eq!(troubles(&mut scene), expected);
    wait(&mut scene, interval);
    assert_eq!(troubles(&mut scene), []);

    // It gets on, and then does not again.
    scene.script.credit.insert(2, 1);
    scene
        .forwarder
        .credit_changed(&mut scene.script, scene.now, 0);
    scene.outcome(0, DeliveryState::Accepted);
    scene.turn();
    scene.script.credit.insert(2, 5);
    wait(&mut scene, interval);
    assert_eq!(troubles(&mut scene), []);
    scene.send(producer, 1, "x");
    scene.script.credit.insert(2, 0);
    wait(&mut scene, interval);
    assert_eq!(troubles(&mut scene), expected);
}

fn troubles(scene: &mut Scene) -> Vec<(Direction, Trouble)> {
    let polled = std::iter::from_fn(|| scene.forwarder.poll_trouble());
    polled
        .map(|(link, trouble)| (link.direction, trouble))
        .collect()
}

#[test]
fn connections_that_do_not_count_are_left_out() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    scene.consumer(7, 0);
    scene.send(producer, 0, "x");
    wait(&mut scene, 20);
    assert_ne!(backlog(&scene), Backlog::default());
    let others = scene.forwarder.backlog(scene.now, |_| false);
    assert_eq!(others, Backlog::default());
}

fn wait(scene: &mut Scene, seconds: u32) {
    for _ in 0..seconds {
        scene.now += Duration::from_secs(1);
        scene.forwarder.tick(&mut scene.script, scene.now);
    }
}

fn backlog(scene: &Scene) -> Backlog {
    scene.forwarder.backlog(scene.now, |_| true)
}
