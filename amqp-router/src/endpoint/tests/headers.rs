//! Protocol headers, SASL and open (AMQP 2.2, 5.3; C-01 to C-15, C-22 to C-24).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::pair::{Pair, client_config, server_config};
use super::raw::{Raw, begin, open, parse};
use crate::codec::{
    Fields, FrameHeader, Performative, ProtocolHeader, Reader, Role, SaslChallenge, SaslCode,
    SaslFrame, SaslInit, SaslMechanisms, SaslOutcome, SaslResponse, Symbol, Value, condition,
};
use crate::endpoint::{
    ClientChoice, ClientSasl, Config, Connection, ConnectionError, Event, Opening, SaslPolicy,
};

fn sasl(frame: &SaslFrame) -> BytesMut {
    let mut bytes = BytesMut::new();
    frame.encode_frame(&mut bytes);
    bytes
}

fn init(mechanism: &str) -> BytesMut {
    sasl(&SaslFrame::Init(SaslInit {
        mechanism: mechanism.into(),
        ..SaslInit::default()
    }))
}

/// Sends a SASL header; the mechanisms have been offered.
fn sasl_started() -> Raw {
    let mut raw = Raw::new(server_config());
    raw.bytes(&ProtocolHeader::SASL.encode());
    let output = raw.output();
    let (header, frame) = output.split_at(ProtocolHeader::LEN);
    assert_eq!(header, ProtocolHeader::SASL.encode());
    let [SaslFrame::Mechanisms(offer)] = &sasl_frames(frame)[..] else {
        panic!("no mechanisms")
    };
    assert_eq!(offer.mechanisms, [Symbol::from("ANONYMOUS")]);
    raw
}

fn sasl_frames(mut bytes: &[u8]) -> Vec<SaslFrame> {
    let mut frames = Vec::new();
    while let Some(header) = FrameHeader::decode(bytes).expect("our frames are sound") {
        let (frame, rest) = bytes.split_at(header.size as usize);
        frames.push(SaslFrame::decode(&mut Reader::new(&frame[8..])).expect("ours are sound"));
        bytes = rest;
    }
    frames
}

fn expect_dropped(raw: &mut Raw) {
    assert!(raw.server.connection.is_finished());
    assert!(matches!(
        raw.server.events.last(),
        Some(Event::Closed { local: Some(_), .. })
    ));
    assert_eq!(raw.server.connection.poll_timeout(), None);
}

#[test]
fn two_ends_authenticate_and_open() {
    for byte_by_byte in [false, true] {
        let mut pair = Pair::new(client_config(), server_config());
        pair.byte_by_byte = byte_by_byte;
        pair.drive();
        assert!(matches!(pair.client.events[..], [Event::Opened]));
        assert!(matches!(
            pair.server.events[..],
            [Event::SaslInit { .. }, Event::Opened]
        ));
        assert_eq!(
            pair.server
                .connection
                .remote()
                .expect("is open")
                .container_id,
            "client"
        );
        assert_eq!(
            pair.client
                .connection
                .remote()
                .expect("is open")
                .container_id,
            "server"
        );
    }
}

#[test]
fn opens_tell_what_either_end_calls_the_connection() {
    let with_properties = |config: Config| {
        let mut properties = Fields::new();
        for key in ["product", "version", "mine"] {
            properties.insert(key, key);
        }
        Arc::new(Config {
            properties,
            ..config
        })
    };
    for sasl in [client_config().sasl, SaslPolicy::Client(None)] {
        let client = Config {
            sasl,
            ..client_config()
        };
        let mut pair = Pair::new(client.clone(), server_config());
        let (client, server) = (with_properties(client), with_properties(server_config()));
        pair.client.connection = Connection::client_as(7, client, pair.now);
        pair.server.connection = Connection::server_as(u64::MAX, server, pair.now);
        pair.drive();
        for (end, id) in [(&pair.server, 7), (&pair.client, i32::MAX)] {
            let open = end.connection.remote().expect("is open");
            let keys = open.properties.iter().map(|(key, _)| key.as_str());
            let expected = ["product", "version", "qd.conn-id", "mine"];
            assert_eq!(keys.collect::<Vec<_>>(), expected);
            assert_eq!(open.properties.get("qd.conn-id"), Some(&Value::Int(id)));
        }
    }
}

#[test]
fn sasl_can_be_left_out() {
    let client = Config {
        sasl: SaslPolicy::Client(None),
        ..client_config()
    };
    Pair::opened_with(client, server_config());
}

#[test]
fn everything_may_arrive_in_one_write() {
    let mut bytes = BytesMut::from(&ProtocolHeader::SASL.encode()[..]);
    bytes.extend_from_slice(&init("ANONYMOUS"));
    bytes.extend_from_slice(&ProtocolHeader::AMQP.encode());
    Performative::Open(Box::new(open())).encode_frame(0, &mut bytes);
    begin().encode_frame(0, &mut bytes);
    super::raw::attach(0, Role::Receiver, "link").encode_frame(0, &mut bytes);
    let mut whole = Raw::new(server_config());
    whole.bytes(&bytes);
    let output = whole.output();
    let mut single = Raw::new(server_config());
    bytes.iter().for_each(|byte| single.bytes(&[*byte]));
    assert_eq!(single.output(), output);
    let start = output
        .windows(8)
        .rposition(|w| w == ProtocolHeader::AMQP.encode());
    let frames = parse(&output[start.expect("there is a header") + 8..]);
    let kinds: Vec<_> = frames
        .into_iter()
        .filter_map(|frame| frame.performative)
        .collect();
    assert!(matches!(
        kinds[..],
        [
            Performative::Open(_),
            Performative::Begin(_),
            Performative::Attach(_)
        ]
    ));
}

#[test]
fn a_header_that_does_not_suit_is_answered_with_one_that_does() {
    let tls = [b'A', b'M', b'Q', b'P', 2, 1, 0, 0];
    let version = [b'A', b'M', b'Q', b'P', 0, 1, 1, 0];
    let old = *b"AMQP\x01\x01\x00\x09";
    for header in [tls, version, old, *b"GET / HT", *b"AMQQ\0\x01\0\0"] {
        let mut raw = Raw::new(server_config());
        raw.bytes(&header);
        assert_eq!(raw.output(), ProtocolHeader::AMQP.encode());
        expect_dropped(&mut raw);
    }
}

#[test]
fn garbage_is_refused_at_its_first_byte() {
    let mut raw = Raw::new(server_config());
    raw.bytes(b"G");
    assert_eq!(raw.output(), ProtocolHeader::AMQP.encode());
    expect_dropped(&mut raw);
}

#[test]
fn a_server_can_insist_on_sasl() {
    let required = SaslPolicy::Server {
        required: true,
        mechanisms: vec!["PLAIN".into()],
    };
    let mut raw = Raw::new(Config {
        sasl: required,
        ..server_config()
    });
    raw.bytes(&ProtocolHeader::AMQP.encode());
    assert_eq!(raw.output(), ProtocolHeader::SASL.encode());
    expect_dropped(&mut raw);
}

#[test]
fn in_clear_nobody_is_let_in_where_tls_is_demanded() {
    for (first, told) in [
        (ProtocolHeader::AMQP.encode(), "requireEncryption"),
        (ProtocolHeader::SASL.encode(), "requireEncryption"),
        (*b"GET / HT", "an HTTP request"),
    ] {
        let mut raw = Raw::new(Config {
            sasl: SaslPolicy::Unencrypted,
            ..server_config()
        });
        raw.bytes(&first);
        assert_eq!(raw.output(), ProtocolHeader::SASL.encode());
        let [
            Event::Closed {
                local: Some(reason),
                ..
            },
        ] = &raw.server.events[..]
        else {
            panic!("{:?}", raw.server.events);
        };
        assert!(reason.to_string().contains(told), "{reason}");
    }
}

#[test]
fn a_mechanism_that_is_not_offered_fails() {
    let mut raw = sasl_started();
    raw.bytes(&init("PLAIN"));
    let frames = sasl_frames(&raw.output());
    assert!(matches!(
        frames[..],
        [SaslFrame::Outcome(SaslOutcome {
            code: SaslCode::Auth,
            ..
        })]
    ));
    assert!(matches!(
        raw.server.events.last(),
        Some(Event::Closed { local: Some(ConnectionError::Mechanism(name)), .. }) if name == "PLAIN"
    ));
    expect_dropped(&mut raw);
}

#[test]
fn nonsense_within_sasl_is_dropped() {
    let mechanisms = vec![Symbol::from("ANONYMOUS")];
    let turns = [
        SaslFrame::Mechanisms(SaslMechanisms { mechanisms }),
        SaslFrame::Challenge(SaslChallenge::default()),
        SaslFrame::Response(SaslResponse::default()),
        SaslFrame::Outcome(SaslOutcome {
            code: SaslCode::Ok,
            additional_data: None,
        }),
    ];
    let mut inputs: Vec<_> = turns.iter().map(sasl).collect();
    inputs.push(BytesMut::from(&[0, 0, 0, 8, 2, 1, 0, 0][..])); // empty
    inputs.push(BytesMut::from(&[0, 0, 2, 1, 2, 1, 0, 0][..])); // 513 bytes to come
    inputs.push(BytesMut::from(&b"nonsense, all of it"[..]));
    let mut amqp = BytesMut::new();
    Performative::Open(Box::new(open())).encode_frame(0, &mut amqp);
    inputs.push(amqp);
    for input in inputs {
        let mut raw = sasl_started();
        raw.bytes(&input);
        assert_eq!(raw.output(), b"");
        expect_dropped(&mut raw);
    }
}

#[test]
fn a_challenge_is_answered() {
    let mut raw = sasl_started();
    raw.server
        .connection
        .handle_input(init("ANONYMOUS"), raw.now);
    assert!(matches!(
        raw.server.connection.poll_event(raw.now),
        Some(Event::SaslInit { .. })
    ));
    raw.server
        .connection
        .sasl_challenge(Bytes::from_static(b"who?"));
    assert!(matches!(
        sasl_frames(&raw.output())[..],
        [SaslFrame::Challenge(_)]
    ));
    let response = SaslResponse {
        response: Bytes::from_static(b"me"),
    };
    raw.bytes(&sasl(&SaslFrame::Response(response)));
    assert!(matches!(&raw.server.events[..], [Event::SaslResponse(answer)] if answer == "me"));
    raw.server.connection.sasl_outcome(SaslCode::Ok, None);
    raw.bytes(&ProtocolHeader::AMQP.encode());
    raw.send(0, Performative::Open(Box::new(open())));
    assert!(matches!(raw.server.events.last(), Some(Event::Opened)));
}

#[test]
fn a_client_that_is_refused_is_told() {
    let plain = SaslPolicy::Server {
        required: true,
        mechanisms: vec!["PLAIN".into()],
    };
    let mut pair = Pair::new(
        client_config(),
        Config {
            sasl: plain,
            ..server_config()
        },
    );
    pair.drive();
    assert!(matches!(
        pair.client.events[..],
        [Event::Closed { local: Some(_), .. }]
    ));
}

#[test]
fn a_handshake_has_ten_seconds_in_all() {
    for sent in 0..4 {
        let mut raw = Raw::new(server_config());
        let deadline = raw
            .server
            .connection
            .poll_timeout()
            .expect("there is a deadline");
        assert_eq!(deadline, raw.now + Duration::from_secs(10));
        raw.now += Duration::from_secs(9);
        if sent > 0 {
            raw.bytes(&ProtocolHeader::SASL.encode());
        }
        if sent > 1 {
            raw.bytes(&init("ANONYMOUS"));
        }
        if sent > 2 {
            raw.bytes(&ProtocolHeader::AMQP.encode());
        }
        assert_eq!(raw.server.connection.poll_timeout(), Some(deadline));
        raw.server.connection.handle_timeout(deadline);
        raw.turn();
        expect_dropped(&mut raw);
    }
}

#[test]
fn the_first_frame_must_be_open() {
    for frame in [begin(), Performative::Close(Default::default())] {
        let mut raw = Raw::connected();
        raw.send(0, frame);
        raw.expect_close(&[condition::NOT_ALLOWED]);
    }
    let mut raw = Raw::connected();
    raw.bytes(&[0, 0, 0, 8, 2, 0, 0, 0]);
    raw.expect_close(&[condition::NOT_ALLOWED]);
}

#[test]
fn open_comes_once_and_on_channel_0() {
    let mut raw = Raw::connected();
    raw.send(1, Performative::Open(Box::new(open())));
    raw.expect_close(&[condition::NOT_ALLOWED]);
    let mut raw = Raw::opened();
    raw.send(0, Performative::Open(Box::new(open())));
    raw.expect_close(&[condition::NOT_ALLOWED]);
}

#[test]
fn an_open_that_cannot_be_honoured_is_refused() {
    let small = crate::codec::Open {
        max_frame_size: 511,
        ..open()
    };
    let tiny = crate::codec::Open {
        idle_time_out: Some(Duration::from_millis(1)),
        ..open()
    };
    for open in [small, tiny] {
        let mut raw = Raw::connected();
        raw.send(0, Performative::Open(Box::new(open)));
        raw.expect_close(&[condition::INVALID_FIELD]);
    }
    // Some containers are called after addresses, which may be long.
    for (length, is_too_long) in [(2100, false), (5000, true)] {
        let mut raw = Raw::connected();
        let named = crate::codec::Open {
            container_id: "x".repeat(length),
            ..open()
        };
        raw.send(0, Performative::Open(Box::new(named)));
        match is_too_long {
            true => raw.expect_close(&[condition::RESOURCE_LIMIT_EXCEEDED]),
            false => assert!(matches!(raw.server.events[..], [Event::Opened])),
        }
    }
}

#[test]
fn what_follows_open_waits_until_the_owner_has_opened() {
    let mut raw = Raw::connected();
    let mut bytes = BytesMut::new();
    Performative::Open(Box::new(open())).encode_frame(0, &mut bytes);
    begin().encode_frame(0, &mut bytes);
    raw.server.connection.handle_input(bytes, raw.now);
    assert!(matches!(
        raw.server.connection.poll_event(raw.now),
        Some(Event::Opened)
    ));
    assert!(raw.server.connection.poll_event(raw.now).is_none());
    raw.server.connection.open();
    assert!(matches!(
        raw.server.connection.poll_event(raw.now),
        Some(Event::Begun(_))
    ));
}

#[test]
fn a_client_takes_the_best_that_is_offered_and_exchanges_with_the_owner() {
    let mut client = exchanging();
    client.hear(&offer(&["PLAIN", "SCRAM-SHA-1"]));
    assert!(
        matches!(&client.told()[..], [Event::SaslChosen(name)] if name.as_str() == "SCRAM-SHA-1")
    );
    client
        .connection
        .sasl_begin("SCRAM-SHA-1".into(), Bytes::from_static(b"first"));
    assert!(matches!(&client.said()[..], [SaslFrame::Init(init)]
        if init.initial_response.as_deref() == Some(b"first") && init.mechanism.as_str() == "SCRAM-SHA-1"));
    client.hear(&challenge());
    assert!(matches!(&client.told()[..], [Event::SaslChallenge(_)]));
    client.connection.sasl_respond(Bytes::from_static(b"last"));
    assert!(
        matches!(&client.said()[..], [SaslFrame::Response(answer)] if answer.response == "last")
    );
    let proof = Some(Bytes::from_static(b"proof"));
    client.hear(&outcome(SaslCode::Ok, proof.clone()));
    assert!(matches!(client.told()[..], [Event::SaslSuccess(ref told)] if *told == proof));
    assert_eq!(client.written(), b"", "the owner is to judge");
    client.connection.sasl_confirm();
    assert!(client.written().starts_with(&ProtocolHeader::AMQP.encode()));
}

#[test]
fn a_client_that_does_not_trust_the_server_opens_nothing() {
    let mut client = exchanging();
    client.hear(&offer(&["SCRAM-SHA-1"]));
    client.told();
    client
        .connection
        .sasl_begin("SCRAM-SHA-1".into(), Bytes::new());
    client.written();
    client.hear(&outcome(SaslCode::Ok, None));
    assert!(matches!(client.told()[..], [Event::SaslSuccess(None)]));
    client.connection.sasl_give_up("no proof");
    client.told();
    assert!(client.connection.is_finished());
    assert_eq!(client.written(), b"");
}

#[test]
fn a_server_does_not_challenge_without_end() {
    let mut client = exchanging();
    client.hear(&offer(&["SCRAM-SHA-1"]));
    client.told();
    client
        .connection
        .sasl_begin("SCRAM-SHA-1".into(), Bytes::new());
    for _ in 0..2 {
        client.hear(&challenge());
        assert!(matches!(client.told()[..], [Event::SaslChallenge(_)]));
        client.connection.sasl_respond(Bytes::new());
    }
    client.hear(&challenge());
    assert!(matches!(client.told()[..], [Event::Closed { .. }]));
    assert!(client.connection.is_finished());
}

#[test]
fn a_client_without_an_offer_that_suits_it_goes() {
    let mut client = exchanging();
    client.hear(&offer(&["PLAIN", "DIGEST-MD5"]));
    let told = client.why();
    let expected = "SASL: the peer offers 'PLAIN DIGEST-MD5', and we have 'SCRAM-SHA-1 EXTERNAL'";
    assert_eq!(told, expected);
    assert_eq!(client.written(), b"");
}

#[test]
fn a_client_hears_what_an_outcome_means() {
    let mut client = exchanging();
    client.hear(&offer(&["EXTERNAL"]));
    client.hear(&outcome(SaslCode::Auth, None));
    let expected = "authentication failed: the name or the secret is not accepted";
    assert_eq!(client.why(), expected);
}

/// What a TLS server answers to a client that speaks AMQP.
#[test]
fn a_client_hears_that_its_server_speaks_tls() {
    let now = Instant::now();
    let config = Config {
        sasl: SaslPolicy::Client(None),
        ..Config::default()
    };
    let connection = Connection::client(Arc::new(config), now);
    let mut client = Exchanging { connection, now };
    client.hear(b"\x15\x03\x03\x00\x02\x02\x32\x00");
    assert!(client.why().contains("it speaks TLS"));
}

/// A client that has heard the server's SASL header, and could use SCRAM-SHA-1 or EXTERNAL.
struct Exchanging {
    connection: Connection,
    now: Instant,
}

fn exchanging() -> Exchanging {
    let now = Instant::now();
    let choice = |mechanism: &str, opening| ClientChoice {
        mechanism: mechanism.into(),
        opening,
    };
    let sasl = ClientSasl {
        choices: vec![
            choice("SCRAM-SHA-1", Opening::Exchange),
            choice("EXTERNAL", Opening::Response(Bytes::new())),
        ],
        hostname: None,
    };
    let config = Config {
        sasl: SaslPolicy::Client(Some(sasl)),
        ..Config::default()
    };
    let connection = Connection::client(Arc::new(config), now);
    let mut client = Exchanging { connection, now };
    assert_eq!(client.written(), ProtocolHeader::SASL.encode());
    client.hear(&ProtocolHeader::SASL.encode());
    client
}

impl Exchanging {
    fn hear(&mut self, bytes: &[u8]) {
        self.connection.handle_input(bytes.into(), self.now);
    }

    fn told(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.connection.poll_event(self.now)).collect()
    }

    /// Why the connection is over.
    fn why(&mut self) -> String {
        match &self.told()[..] {
            [
                Event::Closed {
                    local: Some(error), ..
                },
            ] => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn written(&mut self) -> Vec<u8> {
        let out = self.connection.out();
        let mut written = Vec::new();
        while !out.is_empty() {
            let mut iovecs = [std::io::IoSlice::new(&[]); 1];
            out.iovecs(&mut iovecs);
            let count = iovecs[0].len();
            written.extend_from_slice(&iovecs[0]);
            out.advance(count);
        }
        written
    }

    fn said(&mut self) -> Vec<SaslFrame> {
        sasl_frames(&self.written())
    }
}

fn offer(mechanisms: &[&str]) -> BytesMut {
    let mechanisms = mechanisms.iter().map(|name| Symbol::from(*name)).collect();
    sasl(&SaslFrame::Mechanisms(SaslMechanisms { mechanisms }))
}

fn challenge() -> BytesMut {
    sasl(&SaslFrame::Challenge(SaslChallenge::default()))
}

fn outcome(code: SaslCode, additional_data: Option<Bytes>) -> BytesMut {
    sasl(&SaslFrame::Outcome(SaslOutcome {
        code,
        additional_data,
    }))
}
