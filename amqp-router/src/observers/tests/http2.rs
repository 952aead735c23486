//! Conversations of HTTP/2.

use super::*;
use crate::observers::http2::PREFACE;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x01;
const END_HEADERS: u8 = 0x04;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A block of fields that nobody is to remember.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn get(stream: u32) -> Vec<u8> {
    frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        stream,
        &[0x82, 0x86, 0x84],
    )
}

fn ok(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &[0x88])
}

fn begun() -> Watched {
    let mut watched = Watched::new(Watch::Auto);
    watched.say(Client, PREFACE);
    watched
}

#[test]
fn streams_are_seen() {
    let post = block(&[
        (":method", "POST"),
        (":path", "/a"),
        ("x-forwarded-for", "10.1.1.1,10.0.0.1"),
    ]);
    let asked = [
        PREFACE.as_slice(),
        &frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
        &get(1),
        &frame(HEADERS, END_HEADERS, 3, &post),
        &frame(DATA, 0, 3, b"abc"),
        &frame(DATA, END_STREAM, 3, b"de"),
    ]
    .concat();
    let answered = [
        frame(SETTINGS, 0, 0, &[]),
        ok(3),
        frame(DATA, 0, 3, b"hello"),
        // Trailers end it.
        frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            3,
            &block(&[("grpc-status", "0")]),
        ),
        frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            1,
            &block(&[(":status", "404")]),
        ),
    ]
    .concat();
    let said: Conversation<'_> = &[(Client, &asked), (Service, &answered)];
    let expected = [
        "0 GET HTTP/2 on 1",
        "1 POST HTTP/2 on 3 for 10.1.1.1",
        "1 answered",
        "1 200",
        "1 ended 5/5",
        "0 answered",
        "0 404",
        "0 ended 0/0",
        "end",
    ];
    assert_eq!(timeless(seen(Watch::Auto, said)), expected);
    assert_eq!(timeless(seen(Watch::Http2, said)), expected);
    assert_cuts_do_not_matter(said);
}

#[test]
fn blocks_may_be_padded_and_go_on_in_other_frames() {
    let fields = block(&[(":method", "PATCH"), ("x-forwarded-for", "10.2.2.2")]);
    let (first, rest) = fields.split_at(9);
    let padded = [&[3, 0, 0, 0, 0, 7], first, b"\0\0\0"].concat();
    let asked = [
        PREFACE.as_slice(),
        &frame(HEADERS, PADDED | PRIORITY, 1, &padded),
        &frame(CONTINUATION, 0, 1, &rest[..4]),
        &frame(CONTINUATION, END_HEADERS, 1, &rest[4..]),
        &frame(DATA, PADDED | END_STREAM, 1, b"\x02abc\0\0"),
    ]
    .concat();
    let answered = [
        frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "103")])),
        // What it promises is nobody's request, but its block is read all the same.
        frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82, 0x84]),
        ok(1),
        frame(DATA, END_STREAM, 1, b"hello"),
    ]
    .concat();
    let said: Conversation<'_> = &[(Client, &asked), (Service, &answered)];
    let expected = [
        "0 PATCH HTTP/2 on 1 for 10.2.2.2",
        "0 answered",
        "0 200",
        "0 ended 3/5",
        "end",
    ];
    assert_eq!(timeless(seen(Watch::Auto, said)), expected);
    assert_cuts_do_not_matter(said);
}

/// Which octets a field is remembered by says the one who sends it, in each direction.
#[test]
fn fields_are_remembered_from_one_stream_to_the_next() {
    let mut watched = begun();
    let mut first = vec![0x82, 0x40, 15];
    first.extend_from_slice(b"x-forwarded-for\x0810.3.3.3");
    watched.say(Client, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &first));
    // The second remembered field is that of the other direction's only entry.
    watched.say(Service, &frame(HEADERS, END_HEADERS, 1, b"\x48\x03503"));
    watched.say(
        Client,
        &frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0x83, 0xbe]),
    );
    watched.say(
        Service,
        &frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0xbe]),
    );
    let expected = [
        "0 GET HTTP/2 on 1 for 10.3.3.3",
        "0 answered after 1",
        "0 503",
        "1 POST HTTP/2 on 3 for 10.3.3.3",
        "1 answered after 1",
        "1 503",
        "1 ended 0/0",
    ];
    assert_eq!(watched.seen, expected);
}

#[test]
fn either_side_may_give_a_stream_up() {
    let mut watched = begun();
    for stream in [1, 3] {
        watched.say(Client, &get(stream));
    }
    watched.say(Service, &frame(RST_STREAM, 0, 1, &[0, 0, 0, 7]));
    watched.say(Client, &frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]));
    // What was on its way for them is nobody's.
    watched.say(Service, &[ok(1), frame(DATA, END_STREAM, 3, b"x")].concat());
    let expected = [
        "0 GET HTTP/2 on 1",
        "1 GET HTTP/2 on 3",
        "0 ended 0/0",
        "1 ended 0/0",
    ];
    assert_eq!(watched.seen, expected);
    assert!(!watched.observer.is_over());
}

#[test]
fn no_more_streams_are_followed_than_can_be_remembered() {
    let mut watched = begun();
    for stream in 0..1200 {
        watched.say(Client, &get(2 * stream + 1));
    }
    assert_eq!(watched.seen.len(), 1000);
    watched.say(
        Service,
        &frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x88]),
    );
    watched.say(Client, &get(2401));
    assert_eq!(watched.seen.last().unwrap(), "0 GET HTTP/2 on 2401");
}

#[test]
fn what_cannot_be_followed_is_given_up() {
    let large = frame(HEADERS, END_HEADERS, 1, &vec![0; 65_537]);
    let endless = [
        frame(HEADERS, 0, 1, &vec![0x82; 40_000]),
        frame(CONTINUATION, 0, 1, &vec![0x82; 40_000]),
    ];
    for octets in [
        frame(CONTINUATION, END_HEADERS, 1, &[0x82]),
        [frame(HEADERS, 0, 1, &[0x82]), get(3)].concat(),
        [
            frame(HEADERS, 0, 1, &[0x82]),
            frame(CONTINUATION, END_HEADERS, 3, &[0x82]),
        ]
        .concat(),
        frame(HEADERS, END_HEADERS, 1, &[0xff]),
        frame(HEADERS, END_HEADERS | PADDED, 1, &[4, 0x82]),
        frame(HEADERS, END_HEADERS | PRIORITY, 1, &[0x82]),
        frame(DATA, PADDED, 1, &[]),
        frame(DATA, PADDED, 1, &[3, 0]),
        large,
        endless.concat(),
    ] {
        let mut watched = begun();
        watched.say(Client, &octets);
        assert!(
            watched.observer.is_over(),
            "{:?}",
            &octets[..octets.len().min(20)]
        );
    }
}
