//! What leaves first where not everything can leave at once.

use super::*;

/// Producers and consumers, on links of one connection, of an address each.
fn scene(addresses: &[(u32, Option<u8>)]) -> (Scene, Vec<Slot>) {
    let mut scene = Scene::new(Treatment::Balanced);
    let mut producers = Vec::new();
    for &(address, priority) in addresses {
        scene.priority = priority;
        producers.push(scene.producer(address));
        scene.consumer(address, 10);
    }
    scene.turn();
    (scene, producers)
}

/// A message whose header has a priority.
fn send(scene: &mut Scene, link: Slot, number: u32, priority: u8, text: &str) {
    let header = [0x00, 0x53, 0x70, 0xc0, 0x04, 0x02, 0x42, 0x50, priority];
    let payload = [&header[..], BODY, text.as_bytes()].concat();
    scene.message(link, number, payload);
}

/// The links that something has left by, in order.
fn started(scene: &mut Scene) -> Vec<String> {
    let said = scene.turn().into_iter();
    said.filter_map(|line| Some(line.split_once(": start")?.0.to_owned()))
        .collect()
}

#[test]
fn a_higher_priority_leaves_first() {
    let (mut scene, producers) = scene(&[(7, None), (8, None), (9, None)]);
    send(&mut scene, producers[0], 0, 0, "low");
    scene.send(producers[1], 0, "ordinary");
    send(&mut scene, producers[2], 0, 9, "high");
    assert_eq!(started(&mut scene), ["6", "4", "2"]);
}

#[test]
fn a_higher_priority_leaves_first_when_a_connection_has_room_again() {
    let (mut scene, producers) = scene(&[(7, None), (8, None), (9, None)]);
    scene.script.room = false;
    for (producer, priority) in producers.iter().zip([0, 4, 9]) {
        send(&mut scene, *producer, 0, priority, "x");
        assert!(started(&mut scene).is_empty());
    }
    scene.script.room = true;
    assert!(scene.forwarder.room_changed(0));
    assert_eq!(started(&mut scene), ["6", "4", "2"]);
}

#[test]
fn what_is_configured_for_an_address_counts_for_more_than_the_header() {
    let (mut scene, producers) = scene(&[(7, Some(1)), (8, Some(8)), (9, None)]);
    send(&mut scene, producers[0], 0, 9, "x");
    send(&mut scene, producers[1], 0, 0, "x");
    send(&mut scene, producers[2], 0, 5, "x");
    assert_eq!(started(&mut scene), ["4", "6", "2"]);
}

/// Who sends by one link is received from in the order of sending, as in skrouterd.
#[test]
fn a_queue_keeps_its_order_whatever_the_priorities() {
    let (mut scene, producers) = scene(&[(7, None)]);
    scene.script.credit.insert(2, 0);
    for (number, priority) in [(0, 0), (1, 9)] {
        send(
            &mut scene,
            producers[0],
            number,
            priority,
            ["first", "second"][number as usize],
        );
    }
    assert!(started(&mut scene).is_empty());
    scene.script.credit.insert(2, 2);
    scene
        .forwarder
        .credit_changed(&mut scene.script, scene.now, 0);
    let said: Vec<_> = scene
        .turn()
        .into_iter()
        .filter(|line| line.contains("start"))
        .collect();
    let [first, second] = &said[..] else {
        panic!("{said:?}");
    };
    assert!(
        first.ends_with("first") && second.ends_with("second"),
        "{said:?}"
    );
}
