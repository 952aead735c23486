//! What real neighbours say, recorded (`recorded/README.md`), for the tests of whatever reads it.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::codec::{
    Attach, FrameHeader, FrameKind, Open, Performative, Progress, ProtocolHeader, Reader,
    RouterAnnotations, SaslFrame, Symbol, Target,
};

/// One direction of a connection.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) frames: Vec<Frame>,
    pub(crate) sasl: Vec<SaslFrame>,
}

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) channel: u16,
    pub(crate) performative: Performative,
    pub(crate) payload: Bytes,
}

/// A message that has arrived entirely, and the link that it came by.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) link: Attach,
    pub(crate) octets: Bytes,
}

/// Both directions of each connection: the connector's and the listener's.
pub(crate) fn trunk() -> [Recording; 2] {
    [
        read(include_str!("recorded/trunk.connector.hex")),
        read(include_str!("recorded/trunk.listener.hex")),
    ]
}

pub(crate) fn streams() -> [Recording; 2] {
    [
        read(include_str!("recorded/streams.connector.hex")),
        read(include_str!("recorded/streams.listener.hex")),
    ]
}

pub(crate) fn edge() -> [Recording; 2] {
    [
        read(include_str!("recorded/edge.connector.hex")),
        read(include_str!("recorded/edge.listener.hex")),
    ]
}

pub(crate) fn mesh() -> [Recording; 2] {
    [
        read(include_str!("recorded/mesh.connector.hex")),
        read(include_str!("recorded/mesh.listener.hex")),
    ]
}

impl Recording {
    pub(crate) fn open(&self) -> &Open {
        let open = self
            .frames
            .iter()
            .find_map(|frame| match &frame.performative {
                Performative::Open(open) => Some(&**open),
                _ => None,
            });
        open.expect("the connection was opened")
    }

    /// Every message that arrived entirely, in the order in which they ended.
    pub(crate) fn messages(&self) -> Vec<Arrived> {
        let (mut links, mut current) = (BTreeMap::new(), BTreeMap::<_, Vec<u8>>::new());
        let mut messages = Vec::new();
        for frame in &self.frames {
            match &frame.performative {
                Performative::Attach(attach) => {
                    links.insert((frame.channel, attach.handle), (**attach).clone());
                }
                Performative::Transfer(transfer) => {
                    let at = (frame.channel, transfer.handle);
                    let octets = current.entry(at).or_default();
                    octets.extend_from_slice(&frame.payload);
                    if !transfer.more {
                        let octets = Bytes::from(std::mem::take(octets));
                        let link: Attach = links[&at].clone();
                        messages.push(Arrived { link, octets });
                    }
                }
                _ => {}
            }
        }
        messages
    }
}

impl Arrived {
    /// Whether the link's target has a capability.
    pub(crate) fn is_for(&self, capability: &Symbol) -> bool {
        match &self.link.target {
            Some(Target::Node(node)) => node.capabilities.contains(capability),
            _ => false,
        }
    }

    /// What follows the router annotations.
    pub(crate) fn content(&self) -> Bytes {
        match RouterAnnotations::measure(&self.octets) {
            Progress::Complete(length) => self.octets.slice(length..),
            other => panic!("no annotations ({other:?}): {self:?}"),
        }
    }

    /// The link's target.
    pub(crate) fn target(&self) -> Option<&str> {
        match &self.link.target {
            Some(Target::Node(node)) => node.address.as_deref(),
            _ => None,
        }
    }
}

fn read(text: &str) -> Recording {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let octets = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).expect("it is ASCII");
        u8::from_str_radix(pair, 16).expect("it is hexadecimal")
    });
    let mut rest = Bytes::from(octets.collect::<Vec<u8>>());
    let mut recording = Recording {
        frames: Vec::new(),
        sasl: Vec::new(),
    };
    while !rest.is_empty() {
        if rest.starts_with(b"AMQP") {
            let header = rest.split_to(ProtocolHeader::LEN);
            let header = header[..].try_into().expect("eight octets");
            ProtocolHeader::decode(header).expect("a header");
            continue;
        }
        let header = FrameHeader::decode(&rest).expect("a frame");
        let header = header.expect("a whole frame");
        let frame = rest.split_to(header.size as usize);
        let body = frame.slice(header.body_start()..);
        match header.kind {
            // An empty frame says that the peer is there.
            FrameKind::Amqp if body.is_empty() => {}
            FrameKind::Amqp => recording.frames.push(amqp_frame(header.channel, body)),
            FrameKind::Sasl => {
                let frame = SaslFrame::decode(&mut Reader::new(&body));
                recording.sasl.push(frame.expect("a SASL frame"));
            }
        }
    }
    recording
}

fn amqp_frame(channel: u16, body: Bytes) -> Frame {
    let mut reader = Reader::new(&body);
    let performative = Performative::decode(&mut reader).expect("a performative");
    let left = reader.rest().len();
    Frame {
        channel,
        performative,
        payload: body.slice(body.len() - left..),
    }
}

mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::codec::{Body, Message, StreamHead, Value};
    use crate::control::role::{Role, peer_cost, trunking};
    use crate::control::trunks::Group;
    use crate::control::uplink::inter_edge_capability;

    fn all() -> [[Recording; 2]; 4] {
        [trunk(), streams(), edge(), mesh()]
    }

    #[test]
    fn performatives_are_written_as_they_were_read() {
        let mut count = 0;
        for frame in all().iter().flatten().flat_map(|one| &one.frames) {
            let mut octets = BytesMut::new();
            frame.performative.encode(&mut octets);
            let again = Performative::decode(&mut Reader::new(&octets));
            assert_eq!(again.as_ref(), Ok(&frame.performative));
            count += 1;
        }
        assert!(count > 200, "{count}");
    }

    #[test]
    fn sasl_was_anonymous() {
        for recording in all().iter().flatten() {
            assert!(!recording.sasl.is_empty());
        }
    }

    /// Theirs are written as ours would be, octet for octet.
    #[test]
    fn router_annotations_are_theirs_octet_for_octet() {
        let mut seen = 0;
        for recording in all().iter().flatten() {
            for message in recording.messages() {
                let Progress::Complete(length) = RouterAnnotations::measure(&message.octets) else {
                    panic!("no annotations: {message:?}");
                };
                let section = &message.octets[..length];
                let annotations = RouterAnnotations::decode(section).expect("they are sound");
                let mut ours = BytesMut::new();
                annotations.encode(None, &mut ours);
                assert_eq!(&ours[..], section, "{annotations:?}");
                seen += 1;
            }
        }
        assert!(seen > 40, "{seen}");
    }

    #[test]
    fn what_a_connection_is_for_is_understood() {
        let [connector, listener] = trunk();
        assert_eq!(peer_cost(&connector.open().properties), 3);
        let group = Group::of_peer(&connector.open().properties).expect("a group");
        assert_eq!((group.correlator.len(), group.ordinal), (15, 0));
        assert_eq!(Group::of_peer(&listener.open().properties), None);
        let [data, _] = streams();
        let role = Role::InterRouter.demoted(&data.open().properties);
        assert_eq!(role, Role::InterRouterData);
        assert_eq!(Group::of_peer(&data.open().properties), Some(group));
        for recording in all().iter().flatten() {
            let offered = &recording.open().offered_capabilities;
            assert!(offered.contains(&trunking()));
        }
        for recording in mesh() {
            let offered = &recording.open().offered_capabilities;
            assert!(offered.contains(&inter_edge_capability()));
        }
    }

    #[test]
    fn streams_have_heads_as_ours_do() {
        // The first was a client that left at once.
        let mut replies = Vec::new();
        for (recording, octets) in streams().iter().zip([[0, 1000], [0, 1000]]) {
            let mut lengths = Vec::new();
            for message in recording.messages() {
                let content = message.content();
                let Progress::Complete((head, length)) = StreamHead::decode(&content) else {
                    panic!("no head: {content:?}");
                };
                assert!(head.is_stream);
                lengths.push(content.len() - length);
                replies.extend(head.reply_to);
            }
            assert_eq!(lengths, octets);
        }
        assert_eq!(replies.len(), 2, "the client's ask for an answer");
    }

    #[test]
    fn messages_are_what_was_sent() {
        let [connector, _] = trunk();
        let messages = connector.messages().into_iter().filter(|message| {
            let annotations = RouterAnnotations::decode(&message.octets);
            annotations.is_ok_and(|annotations| annotations.to == Some("queue"))
        });
        let bodies = messages.map(|message| {
            let message = Message::decode(&message.content()).expect("a message");
            message.body
        });
        let expected = ["m0", "m1"].map(|text| Body::Value(Value::from(text)));
        assert_eq!(bodies.collect::<Vec<_>>(), expected);
    }
}
