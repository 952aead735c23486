//! What a router must not touch: the bare message and the footer (AMQP 3.2), and the
//! annotations that are not its own.

use interop_tests::{Job, Peer, Router, available, fields, hex, pairings};
use serde_json::{Map, Value, json};

pairings!(messages_arrive_as_they_were_sent);
pairings!(ttl_never_grows);

fn messages_arrive_as_they_were_sent(sender: Peer, receiver: Peer) {
    let mut messages = catalogue();
    if sender == Peer::Rhea {
        // It writes footer keys as strings, which is no footer (AMQP 3.2.9).
        messages
            .iter_mut()
            .filter_map(Value::as_object_mut)
            .for_each(|message| drop(message.remove("footer")));
    }
    let job = Job::send(&format!("fidelity.{sender}.{receiver}")).messages(messages.clone());
    let received = pass(sender, receiver, job);
    assert_eq!(received.len(), messages.len());
    for (arrived, sent) in received.iter().zip(&messages) {
        assert_eq!(
            comparable(&arrived["message"]),
            comparable(sent),
            "{sender} to {receiver}"
        );
    }
}

fn ttl_never_grows(sender: Peer, receiver: Peer) {
    let message = json!({"data": "", "properties": {}, "header": {"ttl": 60_000}});
    let job = Job::send(&format!("ttl.{sender}.{receiver}")).messages(vec![message]);
    let received = pass(sender, receiver, job);
    let ttl = received[0]["header"]["ttl"].as_u64();
    assert!(
        ttl.is_some_and(|ttl| 0 < ttl && ttl <= 60_000),
        "{received:?}"
    );
}

mod the_bare_message_and_the_footer_keep_their_bytes {
    use super::*;
    use Peer::{Proton, Rhea};

    #[test]
    fn proton_to_proton() {
        story(Proton, Proton);
    }

    #[test]
    fn proton_to_rhea() {
        story(Proton, Rhea);
    }

    #[test]
    fn rhea_to_proton() {
        story(Rhea, Proton);
    }

    /// fe2o3-amqp neither sends nor shows encoded messages.
    fn story(sender: Peer, receiver: Peer) {
        if !available(&[sender, receiver]) {
            return;
        }
        let bare = unusual_bare_message();
        let header = section(0x70, &compound32(LIST32, &[b"\x41", b"\x50\x09"]));
        let whole = [header, bare.clone()].concat();
        let job = Job::send(&format!("bytes.{sender}.{receiver}"))
            .count(1)
            .raw(&whole);
        let received = pass(sender, receiver, job);
        let raw = received[0]["raw"].as_str().expect("an encoded message");
        assert!(
            raw.ends_with(&hex(&bare)),
            "{raw}\n does not end with\n{}",
            hex(&bare)
        );
    }
}

/// Sends by `job` to a receiver that describes what it gets.
fn pass(sender: Peer, receiver: Peer, job: Job) -> Vec<Value> {
    let router = Router::shared();
    let receive = Job::receive(job.address_name())
        .count(job.deliveries())
        .describe();
    let mut receiving = receiver.start(&router, receive);
    receiving.expect("attached");
    sender.start(&router, job).finish();
    receiving
        .finish()
        .named("message")
        .into_iter()
        .cloned()
        .collect()
}

/// Messages with something of everything, in the clients' common form.
fn catalogue() -> Vec<Value> {
    let uuid = "00112233445566778899aabbccddeeff";
    let ids = [
        json!(["ulong", "4294967296"]),
        json!(["string", "an id"]),
        json!(["uuid", uuid]),
    ];
    let with_ids =
        ids.map(|id| json!({"data": "", "properties": {"message_id": id, "correlation_id": id}}));
    let with_priorities =
        [0, 4, 9].map(|p| json!({"data": "", "properties": {}, "header": {"priority": p}}));
    let mut messages = vec![
        json!({"data": "00ff", "properties": properties()}),
        json!({"value": ["string", "x"], "properties": {}, "application_properties": simple_values()}),
        json!({"value": nested(), "properties": {}}),
        json!({"sequence": [["int", 1], ["string", "two"], ["double", 3.5]], "properties": {}}),
        json!({"data": "0102", "properties": {}, "header": {"durable": true}}),
        json!({
            "data": "0102",
            "properties": {},
            "message_annotations": {"x-opt-text": ["string", "kept"], "x-opt-number": ["ulong", "9"]},
            "footer": {"x-opt-checksum": ["binary", "cafe"]},
        }),
    ];
    messages.extend(with_ids);
    messages.extend(with_priorities);
    messages
}

fn properties() -> Map<String, Value> {
    fields([
        ("message_id", json!(["string", "m-1"])),
        ("user_id", json!(["binary", "75736572"])),
        ("to", json!(["string", "elsewhere"])),
        ("subject", json!(["string", "grüße"])),
        ("reply_to", json!(["string", "back"])),
        ("correlation_id", json!(["string", "c-1"])),
        (
            "content_type",
            json!(["symbol", "application/octet-stream"]),
        ),
        ("content_encoding", json!(["symbol", "identity"])),
        (
            "absolute_expiry_time",
            json!(["timestamp", 4_102_444_800_000_i64]),
        ),
        ("creation_time", json!(["timestamp", 1_700_000_000_123_i64])),
        ("group_id", json!(["string", "g"])),
        ("group_sequence", json!(["uint", 77])),
        ("reply_to_group_id", json!(["string", "rg"])),
    ])
}

fn simple_values() -> Map<String, Value> {
    fields([
        ("boolean", json!(["boolean", true])),
        ("ubyte", json!(["ubyte", 255])),
        ("ushort", json!(["ushort", 65_535])),
        ("uint", json!(["uint", 4_294_967_295_u32])),
        ("ulong", json!(["ulong", u64::MAX.to_string()])),
        ("byte", json!(["byte", -128])),
        ("short", json!(["short", -32_768])),
        ("int", json!(["int", i32::MIN])),
        ("long", json!(["long", i64::MIN.to_string()])),
        ("float", json!(["float", 1.5])),
        ("double", json!(["double", -2.25])),
        ("decimal32", json!(["decimal32", "30800001"])),
        ("decimal64", json!(["decimal64", "31c0000000000001"])),
        (
            "decimal128",
            json!(["decimal128", "30400000000000000000000000000001"]),
        ),
        ("char", json!(["char", 0x1f600])),
        ("timestamp", json!(["timestamp", 1_700_000_000_123_i64])),
        ("uuid", json!(["uuid", "00112233445566778899aabbccddeeff"])),
        ("binary", json!(["binary", "00ff"])),
        ("string", json!(["string", "zażółć"])),
        ("symbol", json!(["symbol", "a-symbol"])),
    ])
}

fn nested() -> Value {
    json!([
        "map",
        [
            [
                ["string", "list"],
                [
                    "list",
                    [["int", -1], ["null"], ["boolean", true], ["list", []]]
                ]
            ],
            [
                ["symbol", "array"],
                ["array", [["symbol", "a"], ["symbol", "b"]]]
            ],
            [
                ["uint", 7],
                [
                    "list",
                    [["described", ["ulong", "66"], ["string", "inside"]]]
                ]
            ]
        ]
    ])
}

/// Encodings that a router would not choose itself, so that re-encoding shows.
fn unusual_bare_message() -> Vec<u8> {
    let null: &[u8] = b"\x40";
    let wide_id = b"\x80\0\0\0\0\0\0\0\x01";
    let wide_subject = b"\xb1\0\0\0\x03abc";
    let properties = compound32(
        LIST32,
        &[wide_id, null, null, wide_subject, null, null, null],
    );
    let application_properties = compound32(MAP32, &[b"\xa1\x01a", b"\x71\0\0\0\x01"]);
    let wide_descriptor = b"\x00\x80\0\0\0\0\0\0\0\x74".to_vec();
    let footer = compound32(MAP32, &[b"\xa3\x05x-opt", b"\x54\x07"]);
    [
        section(0x73, &properties),
        [wide_descriptor, application_properties].concat(),
        section(0x75, b"\xa0\x00"),
        section(0x75, b"\xa0\x02\x01\x02"),
        section(0x75, b"\xb0\0\0\0\x01\x03"),
        section(0x78, &footer),
    ]
    .concat()
}

fn section(code: u8, content: &[u8]) -> Vec<u8> {
    [b"\x00\x53".as_slice(), &[code], content].concat()
}

fn compound32(constructor: u8, items: &[&[u8]]) -> Vec<u8> {
    let content = items.concat();
    let size = (content.len() as u32 + 4).to_be_bytes();
    let count = (items.len() as u32).to_be_bytes();
    [&[constructor], size.as_slice(), &count, &content].concat()
}

const LIST32: u8 = 0xd0;
const MAP32: u8 = 0xd1;

/// Every header field, with its default where the message leaves it out (AMQP 3.2.1).
fn comparable(message: &Value) -> Value {
    let header = &message["header"];
    let field = |name: &str, default: Value| match &header[name] {
        Value::Null => default,
        value => value.clone(),
    };
    let mut message = message.clone();
    message["header"] = json!({
        "durable": field("durable", json!(false)),
        "priority": field("priority", json!(4)),
        "ttl": field("ttl", Value::Null),
        "first_acquirer": field("first_acquirer", json!(false)),
        "delivery_count": field("delivery_count", json!(0)),
    });
    message
}
