//! What waits, and for how long.

use super::*;
use crate::forwarding::stats::Backlog;

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
        stuck: 5,
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
