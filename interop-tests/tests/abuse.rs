//! Hostile peers beside honest ones: the honest ones notice nothing, and the router stays small.
//!
//! Bounded in count and time, and on the loopback interface only.

use interop_tests::{Job, Peer, Router, RouterBuilder};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn traffic_passes_and_memory_stays_small_whatever_others_send() {
    if !Router::is_ours_to_configure() {
        return;
    }
    let router = RouterBuilder::new()
        .listener(
            "plain",
            json!({"idleTimeoutSeconds": 4, "initialHandshakeTimeoutSeconds": 2}),
        )
        .listener("web", json!({"http": true}))
        .start();
    let mut receiving =
        Peer::Fe2o3.start_at(&router, "plain", Job::receive("good").count(MESSAGES));
    receiving.expect("attached");
    let sending = Peer::Fe2o3.start_at(&router, "plain", Job::send("good").count(MESSAGES));

    let attacks = attacks();
    assert!(attacks.len() >= 50, "{}", attacks.len());
    let mut held = Vec::new();
    for (name, listener, bytes) in &attacks {
        for _ in 0..ROUNDS {
            held.extend(attack(&router, listener, bytes));
        }
        let memory = router.resident_memory().unwrap_or_default();
        assert!(memory < MOST_MEMORY, "{memory} bytes after '{name}'");
    }
    for _ in 0..500 {
        drop(TcpStream::connect(("127.0.0.1", router.port("plain"))));
    }

    let sent = sending.finish();
    assert_eq!(sent.named("outcome").len(), MESSAGES);
    assert_eq!(receiving.finish().named("message").len(), MESSAGES);
    drop(held);
    // Whoever comes after them is served as well.
    let mut receiving = Peer::Fe2o3.start_at(&router, "plain", Job::receive("after").count(1));
    receiving.expect("attached");
    Peer::Fe2o3
        .start_at(&router, "plain", Job::send("after").count(1))
        .finish();
    receiving.finish();
    let memory = router.resident_memory().unwrap_or_default();
    assert!(memory < MOST_MEMORY, "{memory} bytes at the end");
}

/// So that the attacks from within a session are what they claim to be.
#[test]
fn what_the_attackers_begin_with_is_well_formed() {
    if !Router::is_ours_to_configure() {
        return;
    }
    let router = RouterBuilder::new().listener("plain", json!({})).start();
    let mut stream = TcpStream::connect(("127.0.0.1", router.port("plain"))).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a limit");
    stream
        .write_all(&opened(&[&begin(0), &attach(1)]))
        .expect("the router reads");
    let mut answer = Vec::new();
    while !answer.windows(3).any(|bytes| bytes == [0, 0x53, 0x12]) {
        let mut buffer = [0; 512];
        let count = stream.read(&mut buffer).expect("an attach in answer");
        assert_ne!(count, 0, "{answer:?}");
        answer.extend_from_slice(&buffer[..count]);
    }
}

/// Sends what an attacker sends, as far as the router takes it, and keeps the connection.
fn attack(router: &Router, listener: &str, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", router.port(listener))).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    // An error is the router's good right.
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 512]);
    Some(stream)
}

/// Name, listener, and what is sent.
fn attacks() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let mut attacks: Vec<(&str, &str, Vec<u8>)> = Vec::new();
    let mut add = |name, bytes| attacks.push((name, "plain", bytes));

    add("nothing", vec![]);
    add("half a header", b"AMQP".to_vec());
    add("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec());
    add("a TLS hello", vec![22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]);
    add(
        "noise",
        (0..20_000u32).map(|i| ((i * 7919) >> 3) as u8).collect(),
    );
    add("an unknown protocol id", b"AMQP\x09\x01\x00\x00".to_vec());
    add("an unknown version", b"AMQP\x00\x02\x00\x00".to_vec());
    add("headers for ever", AMQP.repeat(5000));
    add("no open", AMQP.to_vec());
    add(
        "heartbeats before open",
        [AMQP, &frame(0, &[]).repeat(5000)].concat(),
    );

    add("a frame of 4 GiB", [AMQP, &[0xff; 8]].concat());
    add(
        "a frame of 0 bytes",
        [AMQP, &[0, 0, 0, 0, 2, 0, 0, 0]].concat(),
    );
    add(
        "a header beyond its frame",
        [AMQP, &[0, 0, 0, 8, 0xff, 0, 0, 0]].concat(),
    );
    add(
        "a header of 0 words",
        [AMQP, &[0, 0, 0, 8, 0, 0, 0, 0]].concat(),
    );
    add(
        "an unknown frame type",
        [AMQP, &[0, 0, 0, 8, 2, 7, 0, 0]].concat(),
    );
    add(
        "half an open",
        [AMQP, &[0, 0, 1, 0, 2, 0, 0, 0, 0, 0x53, 0x10]].concat(),
    );

    for (name, body) in [
        (
            "a string of 4 GiB",
            &[0, 0x53, 0x10, 0xc0, 8, 1, 0xb1, 255, 255, 255, 255][..],
        ),
        (
            "a list of 4 G fields",
            &[0, 0x53, 0x10, 0xd0, 0, 0, 0, 4, 255, 255, 255, 255],
        ),
        (
            "an array of 4 G nulls",
            &[0, 0x53, 0x10, 0xf0, 0, 0, 0, 5, 255, 255, 255, 255, 0x40],
        ),
        (
            "a map with an odd count",
            &[0, 0x53, 0x10, 0xc1, 2, 1, 0x40],
        ),
        ("an unknown descriptor", &[0, 0x53, 0xee, 0x45]),
        ("no descriptor", &[0x45]),
        ("an open without an id", &[0, 0x53, 0x10, 0x45]),
        (
            "text that is not UTF-8",
            &[0, 0x53, 0x10, 0xc0, 4, 1, 0xa1, 1, 0xff],
        ),
    ] {
        add(name, [AMQP, &frame(0, body)].concat());
    }
    add(
        "descriptors of descriptors",
        [AMQP, &frame(0, &[0; 10_000])].concat(),
    );
    let nested: Vec<u8> = [0xd0u8, 0, 0, 0, 9, 0, 0, 0, 1].repeat(1000);
    add("lists in lists", [AMQP, &frame(0, &nested)].concat());
    add("a begin before open", [AMQP, &begin(0)].concat());

    add("a second open", opened(&[&open()]));
    add("an unknown channel", opened(&[&frame(999, END)]));
    add(
        "every channel",
        opened(&[&(0..5000).flat_map(begin).collect::<Vec<_>>()]),
    );
    add("the highest channel", opened(&[&begin(65_535)]));
    add(
        "one channel again and again",
        opened(&[&begin(0).repeat(1000)]),
    );
    add(
        "heartbeats for ever",
        opened(&[&frame(0, &[]).repeat(20_000)]),
    );
    add(
        "sessions come and go",
        opened(&[&[begin(0), frame(0, END)].concat().repeat(2000)]),
    );
    add(
        "close, and more",
        opened(&[&frame(0, &[0, 0x53, 0x18, 0x45]), &begin(0).repeat(100)]),
    );
    let flood: Vec<u8> = (0..5000).flat_map(attach).collect();
    add("attach for ever", opened(&[&begin(0), &flood]));
    add(
        "one handle again and again",
        opened(&[&begin(0), &attach(1).repeat(1000)]),
    );
    add(
        "a detach of nothing",
        opened(&[&begin(0), &frame(0, &[0, 0x53, 0x16, 0xc0, 3, 1, 0x52, 7])]),
    );
    add(
        "a transfer on no link",
        opened(&[&begin(0), &transfer(9, false)]),
    );
    add(
        "transfers without credit",
        opened(&[&begin(0), &attach(1), &transfer(1, false).repeat(5000)]),
    );
    add(
        "a message without end",
        opened(&[&begin(0), &attach(1), &transfer(1, true).repeat(5000)]),
    );
    add(
        "a disposition of everything",
        opened(&[
            &begin(0),
            &frame(
                0,
                &[
                    0, 0x53, 0x15, 0xc0, 9, 3, 0x41, 0x43, 0x70, 255, 255, 255, 255,
                ],
            ),
        ]),
    );
    add(
        "a flow with nonsense",
        opened(&[&begin(0), &frame(0, &[0, 0x53, 0x13, 0xc0, 2, 1, 0xa1])]),
    );
    add("an end of nothing", opened(&[&frame(3, END)]));

    add("SASL, and nothing", SASL.to_vec());
    add("SASL with an AMQP frame", [SASL, &open()].concat());
    let init = sasl(&[0, 0x53, 0x41, 0xc0, 7, 1, 0xa3, 4, b'N', b'O', b'N', b'E']);
    add("an unknown mechanism", [SASL, &init].concat());
    add("mechanisms for ever", [SASL, &init.repeat(2000)].concat());
    add(
        "a server's outcome",
        [SASL, &sasl(&[0, 0x53, 0x44, 0xc0, 3, 1, 0x50, 0])].concat(),
    );
    add(
        "a SASL frame of 64 KiB",
        [SASL, &sasl(&[0; 65_536])].concat(),
    );

    let mut add = |name, bytes| attacks.push((name, "web", bytes));
    add("half a request", b"GET / HT".to_vec());
    add(
        "a head without end",
        [b"GET / HTTP/1.1\r\nX: ", &[b'x'; 200_000][..]].concat(),
    );
    add(
        "headers without end",
        [&b"GET / HTTP/1.1\r\n"[..], &b"A: b\r\n".repeat(20_000)].concat(),
    );
    add(
        "a path out",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
    );
    add("an upgrade without a key", UPGRADE.to_vec());
    let key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let upgrade = [&UPGRADE[..UPGRADE.len() - 2], key, b"\r\n"].concat();
    add("a WebSocket, and nothing", upgrade.clone());
    let huge = [
        0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4,
    ];
    add("a message of 8 EiB", [&upgrade[..], &huge].concat());
    add(
        "an unmasked message",
        [&upgrade[..], &[0x82, 4], b"AMQP"].concat(),
    );
    let ping = [0x89, 0x80, 1, 2, 3, 4].repeat(20_000);
    add("pings for ever", [&upgrade[..], &ping].concat());
    let fragment = [0x00, 0x80, 1, 2, 3, 4].repeat(20_000);
    add(
        "a message in pieces without end",
        [&upgrade[..], &[0x02, 0x80, 1, 2, 3, 4], &fragment].concat(),
    );
    attacks
}

fn opened(frames: &[&[u8]]) -> Vec<u8> {
    [AMQP.to_vec(), open(), frames.concat()].concat()
}

fn frame(channel: u16, body: &[u8]) -> Vec<u8> {
    framed(0, channel, body)
}

fn sasl(body: &[u8]) -> Vec<u8> {
    framed(1, 0, body)
}

fn framed(kind: u8, channel: u16, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).expect("frames here are small");
    [
        &size.to_be_bytes()[..],
        &[2, kind],
        &channel.to_be_bytes(),
        body,
    ]
    .concat()
}

fn open() -> Vec<u8> {
    frame(0, &[0, 0x53, 0x10, 0xc0, 4, 1, 0xa1, 1, b'x'])
}

fn begin(channel: u16) -> Vec<u8> {
    frame(
        channel,
        &[0, 0x53, 0x11, 0xc0, 7, 4, 0x40, 0x43, 0x52, 255, 0x52, 255],
    )
}

/// A sender with this handle, and a name and a target of its own.
fn attach(handle: u16) -> Vec<u8> {
    let [high, low] = handle.to_be_bytes();
    let name = [
        0xa1,
        4,
        b'a' + (high >> 4),
        b'a' + (high & 15),
        b'a' + (low >> 4),
        b'a' + (low & 15),
    ];
    let target = [&[0, 0x53, 0x29, 0xc0, 7, 1][..], &name].concat();
    let fields = [
        &name[..],
        &[0x70, 0, 0, high, low, 0x42, 0x40, 0x40, 0, 0x53, 0x28, 0x45],
        &target,
        &[0x40, 0x40, 0x43],
    ]
    .concat();
    let length = u8::try_from(fields.len() + 1).expect("an attach here is small");
    frame(
        0,
        &[&[0, 0x53, 0x12, 0xc0, length, 10][..], &fields].concat(),
    )
}

fn transfer(handle: u8, more: bool) -> Vec<u8> {
    let more = if more { 0x41 } else { 0x42 };
    let head = [
        0, 0x53, 0x14, 0xc0, 10, 6, 0x52, handle, 0x43, 0xa0, 1, b't', 0x43, 0x42, more,
    ];
    frame(
        0,
        &[&head[..], &[0, 0x53, 0x75, 0xa0, 200], &[0; 200]].concat(),
    )
}

const AMQP: &[u8] = b"AMQP\x00\x01\x00\x00";
const SASL: &[u8] = b"AMQP\x03\x01\x00\x00";
const END: &[u8] = &[0, 0x53, 0x17, 0x45];
const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: amqp\r\n\r\n";

/// Honest messages.
const MESSAGES: usize = 2000;
/// How often each attack is made.
const ROUNDS: usize = 3;
/// How long an attacker waits for the router to take or to say something.
const PATIENCE: Duration = Duration::from_millis(30);
/// Bytes that the router may hold meanwhile.
const MOST_MEMORY: u64 = 300 * 1024 * 1024;
