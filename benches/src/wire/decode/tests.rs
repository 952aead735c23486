use super::*;
use crate::wire::encode;
use proptest::prelude::*;

#[test]
fn heartbeats_are_empty_frames() {
    assert_eq!(frame(&[0, 0, 0, 8, 2, 0, 0, 0]), Ok((0, Frame::Empty)));
}

#[test]
fn extended_headers_are_skipped() {
    assert_eq!(
        frame(&[0, 0, 0, 12, 3, 0, 0, 5, 1, 2, 3, 4]),
        Ok((5, Frame::Empty))
    );
}

#[test]
fn malformed_frame_headers_are_refused() {
    assert_eq!(frame_size(&[0, 0, 0, 7], 512), Err(DecodeError::Frame));
    assert_eq!(
        frame_size(&[0, 0, 2, 1], 512),
        Err(DecodeError::TooLarge(513))
    );
    assert_eq!(frame_size(&[0, 0, 0], 512), Ok(None));
    assert_eq!(frame(&[0, 0, 0, 8, 1, 0, 0, 0]), Err(DecodeError::Frame));
    assert_eq!(frame(&[0, 0, 0, 8, 3, 0, 0, 0]), Err(DecodeError::Frame));
}

#[test]
fn open_defaults_to_no_limits() {
    let bare = [
        0, 0, 0, 17, 2, 0, 0, 0, 0, 0x53, 0x10, 0xc0, 4, 1, 0xa1, 1, b'x',
    ];
    let expected = Open {
        max_frame_size: u32::MAX,
        idle_time_out: 0,
    };
    assert_eq!(frame(&bare), Ok((0, Frame::Open(expected))));
}

#[test]
fn an_attach_is_read_back_with_its_termini() {
    let mut out = Vec::new();
    encode::attach(
        &mut out,
        &encode::Attach {
            name: &[b'n'; 300],
            handle: 300,
            role: Role::Receiver,
            snd_settle_mode: 1,
            source: encode::Terminus::Address(Some("queue")),
            target: encode::Terminus::Echo(None),
        },
    );
    let (_, Frame::Attach(attach)) = frame(&out).unwrap() else {
        panic!("not an attach")
    };
    assert_eq!(
        (attach.name.len(), attach.handle, attach.role),
        (300, 300, Role::Receiver)
    );
    assert_eq!(attach.address(), Ok(Some(&b"queue"[..])));
    assert_eq!((attach.snd_settle_mode, attach.target), (1, None));
}

#[test]
fn a_refused_attach_has_no_address() {
    let mut out = Vec::new();
    encode::attach(
        &mut out,
        &encode::Attach {
            name: b"link",
            handle: 0,
            role: Role::Sender,
            snd_settle_mode: 2,
            source: encode::Terminus::Address(Some("queue")),
            target: encode::Terminus::Echo(None),
        },
    );
    let (_, Frame::Attach(attach)) = frame(&out).unwrap() else {
        panic!("not an attach")
    };
    assert_eq!(attach.address(), Ok(None));
}

#[test]
fn a_close_tells_its_error() {
    let mut out = Vec::new();
    encode::close(&mut out, Some(("amqp:not-allowed", "no")));
    let fault = Fault {
        condition: "amqp:not-allowed".into(),
        description: "no".into(),
    };
    assert_eq!(frame(&out), Ok((0, Frame::Close(Some(fault)))));
}

#[test]
fn flows_are_told_apart_by_their_handle() {
    let session = encode::SessionFlow {
        next_incoming_id: 1,
        incoming_window: 2,
        next_outgoing_id: 3,
    };
    let mut out = Vec::new();
    encode::flow(&mut out, session, None);
    let bare = Flow {
        next_incoming_id: Some(1),
        incoming_window: 2,
        link: None,
        echo: false,
    };
    assert_eq!(frame(&out), Ok((0, Frame::Flow(bare))));

    let mut out = Vec::new();
    let link = encode::LinkFlow {
        handle: 0,
        delivery_count: 70_000,
        link_credit: 250,
    };
    encode::flow(&mut out, session, Some(link));
    let (_, Frame::Flow(flow)) = frame(&out).unwrap() else {
        panic!("not a flow")
    };
    let expected = LinkFlow {
        handle: 0,
        delivery_count: Some(70_000),
        link_credit: 250,
        drain: false,
    };
    assert_eq!(flow.link, Some(expected));
}

#[test]
fn mechanisms_may_be_one_symbol_or_an_array() {
    let mut one = Vec::new();
    encode::sasl_mechanisms(&mut one);
    assert_eq!(frame(&one), Ok((0, Frame::SaslMechanisms(true))));

    let array = b"\x00\x53\x40\xc0\x15\x01\xe0\x12\x02\xa3\x05PLAIN\x09ANONYMOUS";
    let mut many = vec![0, 0, 0, 8 + array.len() as u8, 2, 1, 0, 0];
    many.extend_from_slice(array);
    assert_eq!(frame(&many), Ok((0, Frame::SaslMechanisms(true))));
}

#[test]
fn every_outcome_is_told_apart() {
    for (code, outcome) in [
        (0x24, Some(Outcome::Accepted)),
        (0x25, Some(Outcome::Rejected)),
        (0x26, Some(Outcome::Released)),
        (0x27, Some(Outcome::Modified)),
        (0x23, None),
        (0x34, Some(Outcome::Other)),
    ] {
        let mut out = Vec::new();
        encode::disposition(&mut out, Role::Receiver, 5, 9, Some(&[0, 0x53, code, 0x45]));
        let (_, Frame::Disposition(disposition)) = frame(&out).unwrap() else {
            panic!("not one")
        };
        assert_eq!((disposition.first, disposition.last), (5, 9));
        assert!(disposition.settled);
        assert_eq!(disposition.outcome(), Ok(outcome));
    }
}

#[test]
fn sections_before_the_data_are_skipped() {
    let message = [
        &b"\x00\x53\x70\x45"[..],
        b"\x00\x53\x72\xc1\x08\x02\xa3\x03x-a\x54\x01",
        b"\x00\x80\x00\x00\x00\x00\x00\x00\x00\x75\xa0\x02hi",
    ]
    .concat();
    assert_eq!(data_section(&message), Ok(&b"hi"[..]));
    assert_eq!(
        data_section(&message[..4]),
        Err(DecodeError::Missing("data section"))
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = frame(&bytes);
        let _ = data_section(&bytes);
        for descriptor in 0x10..=0x18 {
            let mut performative = vec![0, 0, 0, 0, 2, 0, 0, 0, 0, 0x53, descriptor];
            performative.extend_from_slice(&bytes);
            if let Ok((_, Frame::Attach(attach))) = frame(&performative) {
                let _ = attach.address();
            }
        }
    }

    #[test]
    fn transfer_heads_are_read_back(
        handle in 0u32..=encode::HANDLE_MAX,
        delivery_id: u32,
        delivery_tag in proptest::collection::vec(any::<u8>(), 0..=32),
        message_format: u32,
        settled: bool,
        more: bool,
        aborted: bool,
        payload in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut out = Vec::new();
        let head = encode::TransferHead {
            handle, delivery_id, delivery_tag: &delivery_tag, message_format, settled, more, aborted,
        };
        encode::transfer_head(&mut out, &head, payload.len());
        out.extend_from_slice(&payload);
        prop_assert_eq!(frame_size(&out, usize::MAX), Ok(Some(out.len())));
        let expected = Transfer {
            handle,
            delivery_id: Some(delivery_id),
            delivery_tag: Some(&delivery_tag),
            message_format: Some(message_format),
            settled,
            more,
            aborted,
            payload: &payload,
        };
        prop_assert_eq!(frame(&out), Ok((0, Frame::Transfer(expected))));
    }
}
