//! What is written is read again, and what is not AMQP is refused without harm.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u8>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e30f32..1e30).prop_map(Value::from),
        (-1e300f64..1e300).prop_map(Value::from),
        any::<[u8; 16]>().prop_map(Value::Decimal128),
        any::<char>().prop_map(Value::from),
        any::<i64>().prop_map(Value::Timestamp),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        vec(any::<u8>(), 0..300).prop_map(|octets| Value::from(Bytes::from(octets))),
        ".{0,80}".prop_map(Value::from),
        "[ -~]{0,80}".prop_map(|text| Value::from(Symbol::from(text))),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::List),
            vec((inner.clone(), inner.clone()), 0..5).prop_map(Value::Map),
            (inner.clone(), 1usize..5).prop_map(|(item, n)| {
                Value::Array(Array::new(vec![item; n]).unwrap_or_default())
            }),
            (any::<u64>(), inner).prop_map(|(code, value)| Value::described(code, value)),
        ]
    })
}

fn fields() -> impl Strategy<Value = Fields> {
    vec(("[a-z.-]{1,12}", value()), 0..4).prop_map(|pairs| pairs.into_iter().collect())
}

fn symbols() -> impl Strategy<Value = Vec<Symbol>> {
    vec("[a-zA-Z:-]{1,30}".prop_map(Symbol::from), 0..5)
}

fn error() -> impl Strategy<Value = Error> {
    ("[a-z:-]{1,30}", proptest::option::of(".{0,300}"), fields()).prop_map(
        |(condition, description, info)| Error {
            condition: condition.into(),
            description,
            info,
        },
    )
}

fn state() -> impl Strategy<Value = DeliveryState> {
    prop_oneof![
        (any::<u32>(), any::<u64>()).prop_map(|(section_number, section_offset)| {
            DeliveryState::Received {
                section_number,
                section_offset,
            }
        }),
        Just(DeliveryState::Accepted),
        proptest::option::of(error())
            .prop_map(|error| DeliveryState::Rejected(error.map(Box::new))),
        Just(DeliveryState::Released),
        (any::<bool>(), any::<bool>(), fields()).prop_map(
            |(delivery_failed, undeliverable_here, message_annotations)| {
                DeliveryState::Modified(Box::new(Modified {
                    delivery_failed,
                    undeliverable_here,
                    message_annotations,
                }))
            }
        ),
        value().prop_map(|value| DeliveryState::Other(Box::new(Value::described(0x34, value)))),
    ]
}

fn tag() -> impl Strategy<Value = DeliveryTag> {
    vec(any::<u8>(), 0..=32).prop_map(|tag| DeliveryTag::new(&tag).expect("not too long"))
}

fn transfer() -> impl Strategy<Value = Transfer> {
    use proptest::option::of;
    (
        any::<u32>(),
        of(any::<u32>()),
        of(tag()),
        of(any::<u32>()),
        of(any::<bool>()),
        any::<[bool; 4]>(),
        of(state()),
    )
        .prop_map(
            |(handle, delivery_id, delivery_tag, message_format, settled, flags, state)| Transfer {
                handle,
                delivery_id,
                delivery_tag,
                message_format,
                settled,
                more: flags[0],
                rcv_settle_mode: flags[0].then_some(ReceiverSettleMode::Second),
                state,
                resume: flags[1],
                aborted: flags[2],
                batchable: flags[3],
            },
        )
}

fn flow() -> impl Strategy<Value = Flow> {
    use proptest::option::of;
    let link = (
        any::<u32>(),
        of(any::<u32>()),
        of(any::<u32>()),
        of(any::<u32>()),
        any::<bool>(),
    );
    (
        of(any::<u32>()),
        any::<[u32; 3]>(),
        of(link),
        any::<bool>(),
        fields(),
    )
        .prop_map(|(next_incoming_id, windows, link, echo, properties)| Flow {
            next_incoming_id,
            incoming_window: windows[0],
            next_outgoing_id: windows[1],
            outgoing_window: windows[2],
            link: link.map(
                |(handle, delivery_count, link_credit, available, drain)| LinkFlow {
                    handle,
                    delivery_count,
                    link_credit,
                    available,
                    drain,
                },
            ),
            echo,
            properties,
        })
}

fn source() -> impl Strategy<Value = Source> {
    use proptest::option::of;
    (
        of(".{0,40}"),
        any::<u32>(),
        any::<bool>(),
        fields(),
        fields(),
        of(state()),
        symbols(),
    )
        .prop_map(
            |(address, timeout, dynamic, properties, filter, default_outcome, symbols)| Source {
                address,
                durable: TerminusDurability::UnsettledState,
                expiry_policy: ExpiryPolicy::Never,
                timeout: Duration::from_secs(timeout.into()),
                dynamic,
                dynamic_node_properties: properties,
                distribution_mode: symbols.first().cloned(),
                filter,
                default_outcome,
                outcomes: symbols.clone(),
                capabilities: symbols,
            },
        )
}

fn attach() -> impl Strategy<Value = Attach> {
    use proptest::option::of;
    let unsettled = vec((tag(), of(state())), 0..3);
    (
        ".{0,40}",
        any::<u32>(),
        of(source()),
        unsettled,
        of(any::<u32>()),
        symbols(),
        fields(),
    )
        .prop_map(
            |(name, handle, source, unsettled, count, symbols, properties)| Attach {
                name,
                handle,
                role: Role::Receiver,
                snd_settle_mode: SenderSettleMode::Settled,
                rcv_settle_mode: ReceiverSettleMode::Second,
                target: source.as_ref().map(|source| {
                    Target::Node(TargetNode {
                        address: source.address.clone(),
                        dynamic: source.dynamic,
                        capabilities: source.capabilities.clone(),
                        ..TargetNode::default()
                    })
                }),
                source,
                unsettled,
                incomplete_unsettled: true,
                initial_delivery_count: count,
                max_message_size: count.map(u64::from),
                offered_capabilities: symbols.clone(),
                desired_capabilities: symbols,
                properties,
            },
        )
}

fn performative() -> impl Strategy<Value = Performative> {
    use proptest::option::of;
    let open = (
        ".{0,40}",
        of(".{0,40}"),
        any::<u32>(),
        any::<u16>(),
        1u32..,
        symbols(),
        fields(),
    )
        .prop_map(
            |(container_id, hostname, max_frame_size, channel_max, idle, symbols, fields)| {
                Performative::Open(Box::new(Open {
                    container_id,
                    hostname,
                    max_frame_size,
                    channel_max,
                    idle_time_out: Some(Duration::from_millis(idle.into())),
                    outgoing_locales: symbols.clone(),
                    incoming_locales: Vec::new(),
                    offered_capabilities: symbols.clone(),
                    desired_capabilities: symbols,
                    properties: fields,
                }))
            },
        );
    let begin = (of(any::<u16>()), any::<[u32; 4]>(), symbols(), fields()).prop_map(
        |(remote_channel, numbers, symbols, properties)| {
            Performative::Begin(Box::new(Begin {
                remote_channel,
                next_outgoing_id: numbers[0],
                incoming_window: numbers[1],
                outgoing_window: numbers[2],
                handle_max: numbers[3],
                offered_capabilities: symbols,
                desired_capabilities: Vec::new(),
                properties,
            }))
        },
    );
    let disposition = (any::<[u32; 2]>(), any::<[bool; 3]>(), of(state())).prop_map(
        |([first, last], [role, settled, batchable], state)| {
            let role = Role::from(role);
            Performative::Disposition(Disposition {
                role,
                first,
                last,
                settled,
                state,
                batchable,
            })
        },
    );
    prop_oneof![
        open,
        begin,
        attach().prop_map(|attach| Performative::Attach(Box::new(attach))),
        flow().prop_map(Performative::Flow),
        transfer().prop_map(Performative::Transfer),
        disposition,
        (any::<u32>(), any::<bool>(), of(error())).prop_map(|(handle, closed, error)| {
            Performative::Detach(Detach {
                handle,
                closed,
                error,
            })
        }),
        of(error()).prop_map(|error| Performative::End(End { error })),
        of(error()).prop_map(|error| Performative::Close(Close { error })),
    ]
}

#[test]
fn a_message_needs_a_body_unless_that_is_as_good_as_null() {
    let message = Message {
        properties: Some(Properties {
            to: Some("a".into()),
            ..Properties::default()
        }),
        ..Message::of_value(Value::Null)
    };
    let mut encoded = message.encode().to_vec();
    assert_eq!(Message::decode(&encoded), Ok(message.clone()));
    // A descriptor of three octets, and null.
    encoded.truncate(encoded.len() - 4);
    assert_eq!(Message::decode(&encoded), Err(DecodeError::NoBody));
    assert_eq!(Message::decode_bodiless(&encoded), Ok(message));
}

proptest! {
    #[test]
    fn a_value_is_read_as_it_was_written(value in value()) {
        let mut out = BytesMut::new();
        value.encode(&mut out);
        let mut reader = Reader::new(&out);
        prop_assert_eq!(Value::decode(&mut reader), Ok(value));
        prop_assert!(reader.is_empty());
        let mut skipper = Reader::new(&out);
        prop_assert_eq!(skipper.skip(), Ok(()));
        prop_assert!(skipper.is_empty());
    }

    #[test]
    fn a_performative_is_read_as_it_was_written(performative in performative()) {
        let mut out = BytesMut::new();
        performative.encode_frame(7, &mut out);
        let header = FrameHeader::decode(&out).expect("a frame").expect("whole");
        prop_assert_eq!((header.size as usize, header.channel), (out.len(), 7));
        let mut reader = Reader::new(&out[header.body_start()..]);
        prop_assert_eq!(Performative::decode(&mut reader), Ok(performative));
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn a_performative_that_is_cut_short_is_an_error(performative in performative()) {
        let mut out = BytesMut::new();
        performative.encode(&mut out);
        for end in 0..out.len() {
            prop_assert!(Performative::decode(&mut Reader::new(&out[..end])).is_err());
        }
    }

    #[test]
    fn an_attach_is_read_without_its_termini(attach in attach()) {
        let mut out = BytesMut::new();
        attach.encode(&mut out);
        let bare = Attach { source: None, target: None, ..attach };
        prop_assert_eq!(Attach::decode_without_termini(&out), Ok(Some(Box::new(bare))));
        for end in 0..out.len() {
            prop_assert!(Attach::decode_without_termini(&out[..end]).is_err());
        }
        out.extend_from_slice(&[0x40]);
        prop_assert!(Attach::decode_without_termini(&out).is_err());
    }

    #[test]
    fn any_octets_are_survived(octets in vec(any::<u8>(), 0..200)) {
        let _ = Value::decode(&mut Reader::new(&octets));
        let _ = Performative::decode(&mut Reader::new(&octets));
        let _ = Attach::decode_without_termini(&octets);
        let _ = SaslFrame::decode(&mut Reader::new(&octets));
        let _ = Message::decode(&octets);
        let _ = MessageView::parse_annotations(&octets);
        let _ = MessageView::parse_whole(&octets);
    }

    /// Whatever its fields are, what follows a header is found, and the header is not misread.
    #[test]
    fn any_header_can_be_passed_on(fields in vec(value(), 0..6), to in "[a-z]{1,9}") {
        let message = Message {
            properties: Some(Properties { to: Some(to.clone()), ..Properties::default() }),
            ..Message::default()
        };
        let mut out = BytesMut::from(&[0x00, 0x53, 0x70][..]);
        Value::List(fields.clone()).encode(&mut out);
        let is_standard = Header::decode(&mut Reader::new(&out[3..])).ok();
        out.extend_from_slice(&message.encode());
        let Progress::Complete(view) = MessageView::parse_annotations(&out) else {
            panic!("the header is a list");
        };
        prop_assert_eq!(view.to(), Progress::Complete(Some(to.as_str())));
        let header = *view.header().expect("it is there");
        prop_assert_eq!(view.header_range().is_some(), is_standard.is_some());
        match is_standard {
            Some(standard) => prop_assert_eq!(header, standard),
            None => {
                let said = |at: usize| fields.get(at).and_then(Value::as_u64);
                let priority = said(1).map_or(4, |n| u8::try_from(n).unwrap_or(u8::MAX));
                prop_assert_eq!(header.priority, priority);
                prop_assert_eq!(header.ttl.is_some(), said(2).is_some());
            }
        }
    }

    #[test]
    fn a_message_is_read_as_it_was_written(
        to in proptest::option::of(".{0,60}"),
        annotations in fields(),
        properties in vec(("[a-z]{1,9}", value()), 0..4),
        body in value(),
    ) {
        let message = Message {
            header: Some(Header { priority: 7, ..Header::default() }),
            message_annotations: annotations,
            properties: Some(Properties { to, correlation_id: Some(9u64.into()), ..Properties::default() }),
            application_properties: properties,
            body: Body::Value(body),
            ..Message::default()
        };
        let encoded = message.encode();
        prop_assert_eq!(Message::decode(&encoded), Ok(message.clone()));
        let Progress::Complete(view) = MessageView::parse_annotations(&encoded) else {
            panic!("a whole message");
        };
        let to = message.properties.as_ref().and_then(|properties| properties.to.as_deref());
        prop_assert_eq!(view.to(), Progress::Complete(to));
    }
}

fn decode(octets: &[u8]) -> Result<Value, DecodeError> {
    let mut reader = Reader::new(octets);
    let value = Value::decode(&mut reader)?;
    reader.end()?;
    Ok(value)
}

#[test]
fn every_width_of_a_number_is_the_same_number() {
    for octets in [&[0x43][..], &[0x52, 0], &[0x70, 0, 0, 0, 0]] {
        assert_eq!(decode(octets), Ok(Value::Uint(0)));
    }
    for octets in [&[0x53, 9][..], &[0x80, 0, 0, 0, 0, 0, 0, 0, 9]] {
        assert_eq!(decode(octets), Ok(Value::Ulong(9)));
    }
}

#[test]
fn what_is_not_a_value_is_refused_by_name() {
    let cases: &[(&[u8], DecodeError)] = &[
        (&[0x3f], DecodeError::UnknownConstructor(0x3f)),
        (&[0x70, 0, 0], DecodeError::Truncated),
        (&[0x56, 2], DecodeError::InvalidBoolean(2)),
        (&[0xa1, 1, 0xff], DecodeError::InvalidUtf8),
        (&[0xa3, 1, 0xc3], DecodeError::NonAsciiSymbol),
        (&[0xb1, 0xff, 0xff, 0xff, 0xff], DecodeError::Truncated),
        (&[0x73, 0, 0x11, 0, 0], DecodeError::InvalidChar(0x11_0000)),
        (&[0xc1, 2, 1, 0x40], DecodeError::OddMapCount),
        (&[0xc0, 2, 9, 0x40], DecodeError::CountBeyondSize),
        (&[0xc0, 3, 1, 0x40, 0x40], DecodeError::TrailingBytes),
        (&[0xc0, 0], DecodeError::SizeBeyondEnd),
    ];
    for (octets, error) in cases {
        assert_eq!(decode(octets), Err(error.clone()), "{octets:02x?}");
    }
}

#[test]
fn an_array_of_nothing_costs_nothing() {
    let bomb = [0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40];
    assert_eq!(decode(&bomb), Err(DecodeError::CountBeyondSize));
    let three = [0xe0, 2, 3, 0x41];
    let trues = Array::new(vec![Value::Bool(true); 3]).expect("of one type");
    assert_eq!(decode(&three), Ok(Value::Array(trues)));
}

#[test]
fn nesting_has_an_end() {
    let nested = |depth: usize| {
        let mut value = Value::Null;
        for _ in 0..depth {
            value = Value::List(vec![value]);
        }
        let mut out = BytesMut::new();
        value.encode(&mut out);
        decode(&out)
    };
    assert!(nested(32).is_ok());
    assert_eq!(nested(33), Err(DecodeError::TooDeep));
    let described: Vec<u8> = std::iter::repeat_n(0x00, 10_000).collect();
    assert_eq!(decode(&described), Err(DecodeError::TooDeep));
}

#[test]
fn descriptors_may_be_symbols() {
    let mut octets = vec![0x00, 0xa3, 15];
    octets.extend_from_slice(b"amqp:close:list");
    octets.push(0x45);
    let close = Performative::Close(Close { error: None });
    assert_eq!(Performative::decode(&mut Reader::new(&octets)), Ok(close));
}

#[test]
fn a_field_of_many_may_be_one() {
    let one = [0xa3, 1, b'x'];
    let array = [0xe0, 4, 1, 0xa3, 1, b'x'];
    for octets in [&one[..], &array] {
        assert_eq!(Reader::new(octets).symbols(), Ok(vec![Symbol::from("x")]));
    }
    assert_eq!(Reader::new(&[0x40]).symbols(), Ok(Vec::new()));
}

#[test]
fn a_mandatory_field_must_be_there() {
    let open = [0x00, 0x53, 0x10, 0xc0, 2, 1, 0x40];
    let error = Performative::decode(&mut Reader::new(&open));
    assert_eq!(error, Err(DecodeError::MissingField("container-id")));
    let unknown = [0x00, 0x53, 0x2a, 0x45];
    let error = Performative::decode(&mut Reader::new(&unknown));
    assert_eq!(error, Err(DecodeError::UnknownPerformative));
}

#[test]
fn a_key_may_stand_in_fields_once() {
    let twice = [0xc1, 9, 4, 0xa3, 1, b'k', 0x40, 0xa3, 1, b'k', 0x40];
    assert_eq!(
        Fields::decode(&mut Reader::new(&twice)),
        Err(DecodeError::DuplicateKey)
    );
    // Not by one as a symbol and another as a string, either.
    let twice = [0xc1, 9, 4, 0xa3, 1, b'k', 0x40, 0xa1, 1, b'k', 0x40];
    assert_eq!(
        Fields::decode(&mut Reader::new(&twice)),
        Err(DecodeError::DuplicateKey)
    );
    let number = [0xc1, 4, 2, 0x52, 7, 0x40];
    assert_eq!(
        Fields::decode(&mut Reader::new(&number)),
        Err(DecodeError::WrongKeyType)
    );
}

/// As go-amqp writes them in the `info` of an error.
#[test]
fn fields_whose_keys_are_strings_are_understood() {
    let string = [0xc1, 5, 2, 0xa1, 1, b'k', 0x40];
    let fields = Fields::decode(&mut Reader::new(&string)).expect("it is one field");
    assert_eq!(fields.get("k"), Some(&Value::Null));
    let foreign = [0xc1, 6, 2, 0xa1, 2, 0xc3, 0xa4, 0x40];
    assert_eq!(
        Fields::decode(&mut Reader::new(&foreign)),
        Err(DecodeError::NonAsciiSymbol)
    );
}

#[test]
fn a_sasl_frame_round_trips() {
    let frames = [
        SaslFrame::Mechanisms(SaslMechanisms {
            mechanisms: vec!["ANONYMOUS".into(), "PLAIN".into()],
        }),
        SaslFrame::Init(SaslInit {
            mechanism: "PLAIN".into(),
            initial_response: Some(Bytes::from_static(b"\0user\0word")),
            hostname: None,
        }),
        SaslFrame::Outcome(SaslOutcome {
            code: SaslCode::Auth,
            additional_data: None,
        }),
    ];
    for frame in frames {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        assert_eq!(SaslFrame::decode(&mut Reader::new(&out)), Ok(frame));
    }
    let none = [0x00, 0x53, 0x40, 0xc0, 4, 1, 0xe0, 2, 0, 0xa3];
    assert!(SaslFrame::decode(&mut Reader::new(&none)).is_err());
}
