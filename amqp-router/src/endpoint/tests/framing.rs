//! Frames that are wrong, and right ones in unusual dress (AMQP 2.3; C-15 to C-33).

use bytes::BytesMut;

use super::pair::server_config;
use super::raw::{Raw, begin, open};
use crate::codec::{Error, Fields, Open, Performative, Role, condition};
use crate::endpoint::{Config, Event};

fn encoded(channel: u16, performative: &Performative) -> BytesMut {
    let mut bytes = BytesMut::new();
    performative.encode_frame(channel, &mut bytes);
    bytes
}

/// A frame on channel 0 with this body.
fn frame(body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).expect("bodies are short");
    [&size.to_be_bytes()[..], &[2, 0, 0, 0], body].concat()
}

#[test]
fn impossible_frame_headers_close_the_connection() {
    let headers: [[u8; 8]; 6] = [
        [0, 0, 0, 7, 2, 0, 0, 0],
        [0, 0, 0, 0, 2, 0, 0, 0],
        [0, 0, 0, 16, 1, 0, 0, 0],
        [0, 0, 0, 16, 5, 0, 0, 0],
        [0, 0, 0, 16, 2, 2, 0, 0],
        [0, 0, 0, 16, 2, 1, 0, 0], // a SASL frame
    ];
    for header in headers {
        let mut raw = Raw::opened();
        raw.bytes(&header);
        raw.expect_close(&[condition::FRAMING_ERROR]);
    }
}

#[test]
fn a_frame_that_is_too_large_is_told_by_its_header() {
    let mut raw = Raw::opened_with(
        Config {
            max_frame_size: 512,
            ..server_config()
        },
        open(),
    );
    raw.bytes(&[0, 0, 2, 0, 2, 0, 0]);
    raw.bytes(&[0]);
    assert!(raw.frames().is_empty()); // 512 bytes may come
    let mut raw = Raw::opened_with(
        Config {
            max_frame_size: 512,
            ..server_config()
        },
        open(),
    );
    raw.bytes(&[0, 0, 2, 1, 2, 0, 0, 0]);
    raw.expect_close(&[condition::FRAMING_ERROR]);
}

#[test]
fn an_extended_header_is_skipped() {
    let mut raw = Raw::opened();
    let plain = encoded(0, &begin());
    let size = u32::try_from(plain.len() + 4).expect("it is short");
    let extended = [&size.to_be_bytes()[..], &[3, 0, 0, 0], b"more", &plain[8..]].concat();
    raw.bytes(&extended);
    assert!(matches!(raw.performatives()[..], [Performative::Begin(_)]));
}

#[test]
fn empty_frames_are_taken_in_silence() {
    let mut raw = Raw::opened();
    for _ in 0..1000 {
        raw.bytes(&[0, 0, 0, 8, 2, 0, 0, 77]);
    }
    assert_eq!(raw.output(), b"");
    assert!(raw.server.events.is_empty());
}

#[test]
fn bodies_that_cannot_be_decoded_close_the_connection() {
    let decode = &[condition::DECODE_ERROR, condition::INVALID_FIELD][..];
    let unknown = &[condition::NOT_IMPLEMENTED, condition::DECODE_ERROR][..];
    let malformed = &[condition::DECODE_ERROR][..];
    // A begin whose properties have a number for a key.
    let number_key = [
        0x00, 0x53, 0x11, 0xc0, 14, 8, 0x40, 0x43, 0x43, 0x43, 0x40, 0x40, 0x40, 0xc1, 4, 2, 0x52,
        7, 0x40,
    ];
    let bodies: [(&[u8], &[&str]); 11] = [
        (&number_key, malformed),
        (&[0x00, 0x53, 0x7f, 0x45], unknown),
        (&[0x00, 0x53, 0x17], decode),                      // truncated
        (&[0x00, 0x53, 0x17, 0x99, 0x00], malformed),       // no such constructor
        (&[0x00, 0x53, 0x13, 0xc0, 2, 1, 0x99], malformed), // the same in a field
        (&[0x40], decode),                                  // null
        (&[0x00, 0x53, 0x17, 0xc0, 0xff, 0x01], decode),    // past the end
        (&[0x00, 0x53, 0x11, 0x45], decode),                // nothing mandatory
        (&[0x00, 0x53, 0x17, 0xc0, 2, 1, 0x43], decode),    // an error that is a number
        (&[0x00, 0x53, 0x16, 0xc0, 4, 2, 0x43, 0x56, 2], decode), // neither true nor false
        (&[0x00, 0x53, 0x17, 0x45, 0x40], decode),          // something after the end
    ];
    for (body, conditions) in bodies {
        let mut raw = Raw::begun();
        raw.bytes(&frame(body));
        raw.expect_close(conditions);
    }
}

#[test]
fn wide_and_symbolic_encodings_are_as_good() {
    let mut raw = Raw::opened();
    let mut body = vec![0x00, 0xb3, 0, 0, 0, 15];
    body.extend_from_slice(b"amqp:begin:list");
    let fields = [
        &[0x40, 0x70, 0, 0, 0, 5][..],   // next-outgoing-id
        &[0x70, 0, 0, 0, 9],             // incoming-window
        &[0x52, 9, 0x40, 0x40, 0x40],    // outgoing-window and nulls
        &[0xd1, 0, 0, 0, 4, 0, 0, 0, 0], // no properties
    ]
    .concat();
    let size = u8::try_from(fields.len() + 4).expect("they are short");
    body.extend_from_slice(&[0xd0, 0, 0, 0, size, 0, 0, 0, 8]);
    body.extend_from_slice(&fields);
    raw.bytes(&frame(&body));
    assert!(matches!(raw.performatives()[..], [Performative::Begin(_)]));
}

#[test]
fn channels_stay_within_channel_max() {
    let config = Config {
        channel_max: 3,
        ..server_config()
    };
    let mut raw = Raw::opened_with(config.clone(), open());
    raw.begin(3);
    raw.send(4, begin());
    raw.expect_close(&[condition::FRAMING_ERROR]);
    let mut raw = Raw::opened_with(config, open());
    raw.send(4, Performative::End(Default::default()));
    raw.expect_close(&[condition::FRAMING_ERROR]);
}

#[test]
fn no_frame_of_ours_is_larger_than_the_peer_takes() {
    let small = Open {
        max_frame_size: 512,
        ..open()
    };
    let mut raw = Raw::connected_with(Config {
        properties: Fields::from([("x", "y".repeat(1000))]),
        ..server_config()
    });
    raw.send(0, Performative::Open(Box::new(small)));
    assert!(raw.output().len() <= 512);
    raw.begin(0);

    // An attach that repeats a long name does not fit; the session cannot go on.
    raw.send(0, super::raw::attach(0, Role::Sender, &"n".repeat(600)));
    let answer = raw.performatives();
    let [Performative::End(end)] = &answer[..] else {
        panic!("{answer:?}")
    };
    let error = end.error.as_ref().expect("there is a reason");
    assert_eq!(error.condition, condition::FRAME_SIZE_TOO_SMALL);
    raw.server.events.clear();
    raw.send(0, Performative::End(Default::default()));
    raw.begin(0);

    // Errors lose what is not essential.
    let link = raw.attach(0, Role::Sender, "link");
    let error = Error::new(condition::NOT_FOUND, "d".repeat(600));
    raw.server.connection.detach(link, true, Some(error));
    let output = raw.output();
    assert!(output.len() <= 512);
    let answer = super::raw::parse(&output);
    let Some(Performative::Detach(detach)) = &answer[0].performative else {
        panic!("{answer:?}")
    };
    assert_eq!(
        detach.error,
        Some(Error {
            description: None,
            ..some(condition::NOT_FOUND)
        })
    );
}

fn some(condition: &'static str) -> Error {
    Error::new(condition, "")
}

#[test]
fn bytes_one_by_one_mean_the_same() {
    let mut bytes = BytesMut::new();
    for channel in 0..20 {
        begin().encode_frame(channel, &mut bytes);
    }
    let (mut whole, mut single) = (Raw::opened(), Raw::opened());
    whole.bytes(&bytes);
    bytes.iter().for_each(|byte| single.bytes(&[*byte]));
    assert_eq!(whole.output(), single.output());
    let begun = |event: &Event| matches!(event, Event::Begun(_));
    assert!(whole.server.events.len() == 20 && whole.server.events.iter().all(begun));
}
