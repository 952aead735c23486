//! One function per fuzz target. Each takes any bytes at all; a panic is a bug.

use std::time::Instant;

use bytes::BytesMut;

use crate::Config;
use crate::codec::{
    Attach, FrameHeader, Message, MessageView, Performative, Progress, ProtocolHeader, Reader,
    RouterAnnotations, SaslFrame, StreamHead, Value,
};

/// Any value: what can be decoded can be skipped, and encodes to the same value.
pub fn value(bytes: &[u8]) {
    let mut skipped = Reader::new(bytes);
    let skip = skipped.skip();
    let mut reader = Reader::new(bytes);
    let Ok(value) = Value::decode(&mut reader) else {
        return;
    };
    assert_eq!(skip, Ok(()));
    assert_eq!(reader.position(), skipped.position());
    let wire = encoded(|out| value.encode(out));
    let again = Value::decode(&mut Reader::new(&wire)).expect("we decode what we encode");
    assert_eq!(encoded(|out| again.encode(out)), wire);
}

/// A frame: its header, then the performative in its body.
pub fn performative(bytes: &[u8]) {
    if let Some(header) = bytes.first_chunk() {
        let _ = ProtocolHeader::decode(header);
    }
    let Ok(Some(header)) = FrameHeader::decode(bytes) else {
        return;
    };
    let Some(body) = bytes.get(header.body_start()..) else {
        return;
    };
    let mut reader = Reader::new(body);
    let without_termini = Attach::decode_without_termini(body);
    let Ok(performative) = Performative::decode(&mut reader) else {
        return;
    };
    if let (Performative::Attach(attach), true) = (&performative, reader.is_empty()) {
        let mut attach = attach.clone();
        (attach.source, attach.target) = (None, None);
        assert_eq!(without_termini, Ok(Some(attach)));
    }
    let wire = encoded(|out| performative.encode(out));
    let again = Performative::decode(&mut Reader::new(&wire)).expect("we decode what we encode");
    assert_eq!(encoded(|out| again.encode(out)), wire);
}

/// The body of a SASL frame.
pub fn sasl(bytes: &[u8]) {
    let Ok(frame) = SaslFrame::decode(&mut Reader::new(bytes)) else {
        return;
    };
    let wire = encoded(|out| frame.encode(out));
    assert_eq!(SaslFrame::decode(&mut Reader::new(&wire)), Ok(frame));
}

/// A message: whole, and its start alone, of which nothing may be said that the rest belies.
pub fn message(bytes: &[u8]) {
    let _ = MessageView::parse_whole(bytes);
    let whole = MessageView::parse_annotations(bytes);
    for end in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        agree(&MessageView::parse_annotations(&bytes[..end]), &whole);
    }
    let Ok(message) = Message::decode(bytes) else {
        return;
    };
    if let Progress::Complete(view) = whole {
        let to = message
            .properties
            .as_ref()
            .and_then(|properties| properties.to.as_deref());
        assert_eq!(view.to(), Progress::Complete(to));
        assert_eq!(view.header(), message.header.as_ref());
    } else {
        panic!("a message that decodes cannot be viewed: {whole:?}");
    }
    let wire = message.encode();
    let again = Message::decode(&wire).expect("we decode what we encode");
    assert_eq!(again.encode(), wire);
}

/// What other routers and collectors send to telemetry: what is read of it is bounded by it.
pub fn telemetry(bytes: &[u8]) {
    let subject = crate::vanflow::subject(bytes);
    let updates = crate::vanflow::updates(bytes);
    assert!(updates.is_empty() || subject == Some("RECORD"));
    let attributes: usize = updates.iter().map(|update| update.attributes.len()).sum();
    assert!(attributes <= bytes.len());
}

/// What routers write ahead of messages and streams between them, and what they tell each other.
pub fn router(bytes: &[u8]) {
    if let Ok(annotations) = RouterAnnotations::decode(bytes) {
        let wire = encoded(|out| annotations.encode(None, out));
        assert_eq!(
            RouterAnnotations::measure(&wire),
            Progress::Complete(wire.len())
        );
        assert_eq!(RouterAnnotations::decode(&wire), Ok(annotations));
    }
    if let Progress::Complete(length) = RouterAnnotations::measure(bytes) {
        assert!(length <= bytes.len());
    }
    if let Progress::Complete((head, length)) = StreamHead::decode(bytes) {
        assert!(length <= bytes.len());
        let wire = head.encode();
        let again = Progress::Complete((head, wire.len()));
        assert_eq!(StreamHead::decode(&wire), again);
    }
    crate::mesh::fuzz(bytes);
}

/// A connection of HTTP requests, or a path of one.
pub fn http(bytes: &[u8]) {
    crate::runtime::fuzzing::http(bytes);
}

/// A connection of WebSocket frames.
pub fn websocket(bytes: &[u8]) {
    crate::runtime::fuzzing::websocket(bytes);
}

/// What a client and a service say to each other: the first octet says how what follows is cut.
pub fn observer(bytes: &[u8]) {
    crate::observers::fuzz(bytes);
}

/// A configuration, in either of its forms.
pub fn conf(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for file in ["a.conf", "a.json"] {
        match Config::parse(file, text, || "id".to_owned()) {
            Ok(config) => drop(format!("{config:?}")),
            Err(errors) => assert!(!errors.to_string().is_empty()),
        }
    }
}

/// What a client says by SCRAM, and what a server does.
pub fn scram(bytes: &[u8]) {
    crate::runtime::scram::fuzz(bytes);
}

/// A server's end of a connection, whose owner agrees to whatever it is asked.
#[allow(clippy::disallowed_methods)] // any instant will do
pub fn connection(bytes: &[u8]) {
    crate::endpoint::fuzzing::connection(bytes, Instant::now());
}

fn agree(start: &Progress<MessageView<'_>>, whole: &Progress<MessageView<'_>>) {
    match (start, whole) {
        (Progress::Complete(start), Progress::Complete(whole)) => {
            assert_eq!(start.header(), whole.header());
            assert_eq!(start.delivery_annotations(), whole.delivery_annotations());
            match start.to() {
                Progress::NeedMore => {}
                known => assert_eq!(known, whole.to()),
            }
        }
        (Progress::Malformed, Progress::Malformed) | (Progress::NeedMore, _) => {}
        (start, whole) => panic!("the start is {start:?}, the whole {whole:?}"),
    }
}

fn encoded(encode: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    encode(&mut out);
    out
}
