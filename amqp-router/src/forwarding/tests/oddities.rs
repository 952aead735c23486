//! Messages that are not quite the standard's, and that others forward as well.

use super::*;

const HEADER: [u8; 3] = [0x00, 0x53, 0x70];
const VALUE: [u8; 4] = [0x00, 0x53, 0x77, 0x40];

/// Sends a message in one frame and in two; both times it arrives as it was.
fn passes(sections: &[u8]) {
    let text = String::from_utf8_lossy(sections).into_owned();
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    scene.consumer(7, 10);
    scene.turn();
    scene.message(producer, 1, sections.to_vec());
    assert_eq!(
        scene.turn(),
        [format!("2: start {text}"), "1: release 1".into()],
        "{sections:02x?}"
    );
    scene.outcome(0, DeliveryState::Accepted);
    scene.turn();

    // All of it, and then word that this was all.
    for (first, payload, more) in [(Some(0), sections, true), (None, &[], false)] {
        let arrival = Arrival {
            link: producer.index,
            number: 2,
            first,
            settled: false,
            state: None,
            payload: Bytes::copy_from_slice(payload),
            more,
            aborted: false,
        };
        scene
            .forwarder
            .transfer(&mut scene.script, scene.now, arrival);
    }
    let said = scene.turn().concat();
    assert!(said.contains(&format!("2: start {text}")), "{said}");
    scene.outcome(0, DeliveryState::Accepted);
    scene.turn();
    assert!(scene.is_at_rest());
}

#[test]
fn a_message_may_be_no_more_than_a_header() {
    passes(&[&HEADER[..], &[0x45]].concat());
}

#[test]
fn numbers_of_other_widths_go_on_as_they_are() {
    let long = [0x40, 0x40, 0x80, 0, 0, 0, 0, 0, 0, 0x13, 0x88];
    let longest = [
        0x40, 0x40, 0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 9,
    ];
    let (durable, priority) = ([0x50, 1], [0x40, 0x52, 7]);
    for (count, fields) in [(1, &durable[..]), (2, &priority), (3, &long), (3, &longest)] {
        let size = u8::try_from(fields.len() + 1).expect("they are short");
        passes(&[&HEADER[..], &[0xc0, size, count], fields, &VALUE].concat());
    }
}

#[test]
fn sections_that_are_not_known_go_on() {
    passes(&[&[0x00, 0x53, 0x79, 0x45], &VALUE[..]].concat());
}

#[test]
fn what_is_cut_short_or_not_there_does_not() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    scene.consumer(7, 10);
    scene.turn();
    let cut = [&HEADER[..], &[0xc0, 9, 1, 0x41]].concat();
    let annotations = vec![0x00, 0x53, 0x71, 0xc1, 1, 0];
    let unfit = [cut, annotations, Vec::new()];
    for (number, sections) in unfit.into_iter().enumerate() {
        scene.message(producer, number as u32, sections);
        let rejected = format!("1: {number} rejected settled");
        assert!(scene.turn().contains(&rejected));
    }
    assert!(scene.is_at_rest());
}

/// A header with this time to live, in milliseconds below 256, and a body.
fn living(ttl: u8) -> Vec<u8> {
    let list = [0xc0, 0x05, 0x03, 0x40, 0x40, 0x52, ttl];
    [&HEADER[..], &list, &VALUE].concat()
}

/// What is sent of a message that has waited for credit.
fn after(wait: Duration, sections: Vec<u8>) -> String {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    let consumer = scene.consumer(7, 0);
    scene.turn();
    scene.message(producer, 1, sections);
    scene.turn();
    scene.now += wait;
    scene.script.credit.insert(2, 1);
    scene
        .forwarder
        .credit_changed(&mut scene.script, scene.now, consumer.index);
    scene.turn().concat()
}

#[test]
fn no_time_to_live_is_no_limit() {
    let text = String::from_utf8_lossy(&living(0)).into_owned();
    let said = after(Duration::from_secs(100), living(0));
    assert!(said.contains(&format!("2: start {text}")), "{said}");
}

/// Else the next router would let it live for ever.
#[test]
fn what_is_left_of_a_time_to_live_is_never_none() {
    let said = after(Duration::from_micros(99_500), living(100));
    let left = String::from_utf8_lossy(&living(1)).into_owned();
    assert!(said.contains(&format!("2: start {left}")), "{said}");
}

#[test]
fn a_long_number_limits_the_time_to_live_too() {
    let list = [0xc0, 12, 3, 0x40, 0x40, 0x80, 0, 0, 0, 0, 0, 0, 0, 100];
    let sections = [&HEADER[..], &list, &VALUE].concat();
    let said = after(Duration::from_millis(101), sections);
    assert!(said.contains("1: 1 released settled"), "{said}");
}
