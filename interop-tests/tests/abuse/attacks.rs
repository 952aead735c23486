//! What hostile peers send.

use interop_tests::raw::{
    AMQP, END, SASL, attach, attach_receiver, attach_sender, begin, frame, message, open, opened,
    sasl, sasl_init, transfer, transfer_of,
};

/// Something hostile.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) listener: &'static str,
    /// What is sent, one after the other; after each, the attacker waits for some answer.
    pub(crate) parts: Vec<Vec<u8>>,
}

pub(crate) fn attacks() -> Vec<Attack> {
    let mut attacks = Vec::new();
    let mut on = |listener, of: Vec<Kind>| {
        attacks.extend(of.into_iter().map(|(name, parts)| Attack {
            name,
            listener,
            parts,
        }));
    };
    on("plain", of_amqp());
    on("strict", of_policy());
    on("secure", of_tls());
    on("web", of_http());
    attacks
}

type Kind = (&'static str, Vec<Vec<u8>>);

fn of_amqp() -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    let mut add = |name, bytes| kinds.push((name, vec![bytes]));

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
    let init = sasl_init("NONE", b"");
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
    kinds
}

/// Of clients that may use `allowed`, with two sessions and messages of 1000 octets, and no more.
fn of_policy() -> Vec<Kind> {
    let denied: Vec<u8> = (0..2000)
        .flat_map(|n| attach_receiver(n, "secret"))
        .collect();
    let begun = |more: &[u8]| opened(&[&begin(0), more]);
    let sends = |id: u8, to: &str| transfer_of(0, id, true, false, &message(None, Some(to), 9));
    let elsewhere: Vec<u8> = (0..250).flat_map(|id| sends(id, "secret")).collect();
    let of_others: Vec<u8> = (0..250)
        .flat_map(|id| {
            transfer_of(
                0,
                id,
                true,
                false,
                &message(Some("root"), Some("allowed"), 9),
            )
        })
        .collect();
    let large = transfer_of(0, 0, true, true, &message(None, Some("allowed"), 250)).repeat(50);
    let anonymous = begun(&attach_sender(0, None));
    vec![
        ("denied attaches for ever", vec![begun(&denied)]),
        ("denied attaches in turn", vec![begun(&[]), denied]),
        (
            "denied messages for ever",
            vec![anonymous.clone(), elsewhere],
        ),
        (
            "messages of another user",
            vec![anonymous.clone(), of_others],
        ),
        ("messages too large", vec![anonymous, large]),
        (
            "more sessions than are granted",
            vec![opened(&[&(0..100).flat_map(begin).collect::<Vec<_>>()])],
        ),
    ]
}

fn of_tls() -> Vec<Kind> {
    let hello = hello(b"localhost");
    let record = |kind: u8, body: &[u8]| record(kind, body);
    let mut kinds: Vec<Kind> = Vec::new();
    let mut add = |name, parts| kinds.push((name, parts));
    add("no TLS where TLS is due", vec![AMQP.to_vec()]);
    add("half a hello", vec![hello[..hello.len() / 2].to_vec()]);
    add("a hello, and nothing", vec![hello.clone()]);
    add(
        "a hello, and garbage",
        vec![hello.clone(), vec![0xa5; 20_000]],
    );
    add("a hello, and plain AMQP", vec![hello.clone(), opened(&[])]);
    add("hellos for ever", vec![hello.repeat(200)]);
    // A second hello where the handshake goes on is what a renegotiation looks like.
    add(
        "a second handshake in the first",
        vec![hello.clone(), hello.clone()],
    );
    add(
        "changes of cipher for ever",
        vec![hello.clone(), record(20, &[1]).repeat(5000)],
    );
    add(
        "alerts for ever",
        vec![hello.clone(), record(21, &[1, 90]).repeat(5000)],
    );
    add(
        "data before there are keys",
        vec![hello.clone(), record(23, &[7; 1000]).repeat(20)],
    );
    add(
        "a heartbeat that asks for more than it has",
        vec![hello.clone(), record(24, &[1, 0xff, 0xff])],
    );
    let octets = hello[5..].iter().flat_map(|octet| record(22, &[*octet]));
    add("a hello in records of one octet", vec![octets.collect()]);
    add(
        "empty records for ever",
        vec![record(22, &[]).repeat(20_000)],
    );
    add(
        "a record of 64 KiB",
        vec![[&[22, 3, 1, 255, 255][..], &[0; 65_535]].concat()],
    );
    let endless = [&[1, 255, 255, 255][..], &[0; 16_000]].concat();
    add("a hello of 16 MiB", vec![record(22, &endless).repeat(20)]);
    add("a name of 15 KiB", vec![self::hello(&[b'a'; 15_000])]);
    add("a name that is none", vec![self::hello(b"\0\xff/../")]);
    kinds
}

fn of_http() -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    let mut add = |name, bytes| kinds.push((name, vec![bytes]));

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
    let text = [&upgrade[..], &[0x81, 0x84, 0, 0, 0, 0], b"AMQP"].concat();
    add("a message of text", text);
    add(
        "reserved bits",
        [&upgrade[..], &[0xf2, 0x84, 0, 0, 0, 0], b"AMQP"].concat(),
    );
    add(
        "a ping that is too long",
        [&upgrade[..], &[0x89, 0xfe, 0x01, 0, 0, 0, 0, 0], &[0; 256]].concat(),
    );
    let bytes = [
        &[0x82, 0xff, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0][..],
        &[0; 100_000],
    ]
    .concat();
    add("8 MiB in one message", [&upgrade[..], &bytes].concat());
    add(
        "a body without end",
        [
            &b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"[..],
            &b"1000\r\n".repeat(5000),
        ]
        .concat(),
    );
    add(
        "two lengths",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 9\r\n\r\n".to_vec(),
    );
    add(
        "requests that nobody reads the answers of",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50),
    );
    kinds.push((
        "a request octet by octet",
        b"GET /healthz".iter().map(|octet| vec![*octet]).collect(),
    ));
    kinds
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let size = u16::try_from(body.len()).expect("records here are small");
    [&[kind, 3, 3][..], &size.to_be_bytes(), body].concat()
}

/// A ClientHello of TLS 1.2 for the server of this name.
fn hello(name: &[u8]) -> Vec<u8> {
    let sized = |octets: &[u8]| {
        let size = u16::try_from(octets.len()).expect("hellos here are small");
        [&size.to_be_bytes()[..], octets].concat()
    };
    let extension = |number: u16, body: &[u8]| [&number.to_be_bytes()[..], &sized(body)].concat();
    let name = sized(&[&[0][..], &sized(name)].concat());
    let extensions = [
        extension(0, &name),
        extension(10, &sized(&[0, 29, 0, 23])),
        extension(11, &[1, 0]),
        extension(13, &sized(&[4, 3, 8, 4])),
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &sized(&[0xc0, 0x2b, 0xc0, 0x2f]),
        &[1, 0],
        &sized(&extensions),
    ]
    .concat();
    let size = u32::try_from(body.len()).expect("hellos here are small");
    record(22, &[&[1][..], &size.to_be_bytes()[1..], &body].concat())
}

const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: amqp\r\n\r\n";
