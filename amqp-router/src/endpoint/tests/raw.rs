//! A peer that sends what it likes to a server connection, and reads the answers frame by frame.

use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, BytesMut};

use super::pair::{End, server_config, take};
use crate::codec::{
    Attach, Begin, Error, Fields, Flow, FrameHeader, LinkFlow, Open, Performative, ProtocolHeader,
    Reader, Role, Transfer, condition,
};
use crate::endpoint::{Config, Connection, Event, LinkId};

pub(super) struct Raw {
    pub(super) server: End,
    pub(super) now: Instant,
}

/// A frame that the server sent; heartbeats have no performative.
#[derive(Debug, PartialEq)]
pub(super) struct Frame {
    pub(super) channel: u16,
    pub(super) performative: Option<Performative>,
    pub(super) payload: Vec<u8>,
}

impl Raw {
    pub(super) fn new(config: Config) -> Self {
        let now = Instant::now();
        let server = End::new(Connection::server(Arc::new(config), now));
        Self { server, now }
    }

    /// Headers are exchanged.
    pub(super) fn connected() -> Self {
        Self::connected_with(server_config())
    }

    pub(super) fn connected_with(config: Config) -> Self {
        let mut raw = Self::new(config);
        raw.bytes(&ProtocolHeader::AMQP.encode());
        assert_eq!(raw.output(), ProtocolHeader::AMQP.encode());
        raw
    }

    /// Open at both ends.
    pub(super) fn opened() -> Self {
        Self::opened_with(server_config(), open())
    }

    pub(super) fn opened_with(config: Config, open: Open) -> Self {
        let mut raw = Self::connected_with(config);
        raw.send(0, Performative::Open(Box::new(open)));
        let frames = raw.frames();
        assert!(matches!(
            frames[..],
            [Frame {
                performative: Some(Performative::Open(_)),
                ..
            }]
        ));
        raw.server.events.clear();
        raw
    }

    /// With a session on channel 0.
    pub(super) fn begun() -> Self {
        let mut raw = Self::opened();
        raw.begin(0);
        raw
    }

    /// With a link on handle 0 of channel 0, of which we are the end with this role.
    pub(super) fn attached(role: Role) -> (Self, LinkId) {
        let mut raw = Self::begun();
        let link = raw.attach(0, role, "link");
        (raw, link)
    }

    pub(super) fn begin(&mut self, channel: u16) {
        self.send(channel, begin());
        let answer = self.performatives();
        assert!(matches!(answer[..], [Performative::Begin(_)]), "{answer:?}");
        self.server.events.clear();
    }

    pub(super) fn attach(&mut self, handle: u32, role: Role, name: &str) -> LinkId {
        self.send(0, attach(handle, role, name));
        let answer = self.performatives();
        assert!(
            matches!(answer[..], [Performative::Attach(_)]),
            "{answer:?}"
        );
        let [Event::Attach { link, .. }] = self.server.events[..] else {
            panic!("{:?}", self.server.events);
        };
        self.server.events.clear();
        link
    }

    /// Sends bytes; the server takes its turn.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.server
            .connection
            .handle_input(BytesMut::from(bytes), self.now);
        self.turn();
    }

    pub(super) fn turn(&mut self) {
        self.server.turn(self.now);
    }

    pub(super) fn send(&mut self, channel: u16, performative: Performative) {
        let mut frame = BytesMut::new();
        performative.encode_frame(channel, &mut frame);
        self.bytes(&frame);
    }

    pub(super) fn transfer(&mut self, transfer: Transfer, payload: &[u8]) {
        let mut frame = BytesMut::new();
        transfer.encode_frame_head(0, payload.len(), &mut frame);
        frame.put_slice(payload);
        self.bytes(&frame);
    }

    /// Everything the server wrote.
    pub(super) fn output(&mut self) -> Vec<u8> {
        self.server.connection.flush(self.now);
        take(self.server.connection.out())
    }

    pub(super) fn frames(&mut self) -> Vec<Frame> {
        parse(&self.output())
    }

    pub(super) fn performatives(&mut self) -> Vec<Performative> {
        self.frames()
            .into_iter()
            .filter_map(|frame| frame.performative)
            .collect()
    }

    /// The server has closed the connection for one of these reasons, and told its owner.
    pub(super) fn expect_close(&mut self, conditions: &[&str]) {
        let error = match self.performatives().pop() {
            Some(Performative::Close(close)) => close.error.expect("there is a reason"),
            other => panic!("no close but {other:?}"),
        };
        assert!(conditions.contains(&error.condition.as_str()), "{error}");
        let told = self.server.events.pop();
        assert!(
            matches!(told, Some(Event::Closed { local: Some(_), .. })),
            "{told:?}"
        );
        assert!(!self.server.connection.is_finished());
        self.send(0, Performative::Close(Default::default()));
        assert!(self.server.connection.is_finished());
        assert_eq!(self.output(), b"");
    }

    /// The server has ended the session on channel 0, and nothing else.
    pub(super) fn expect_end(&mut self, condition: &str) {
        let error = match &self.performatives()[..] {
            [Performative::End(end)] => end.error.clone().expect("there is a reason"),
            other => panic!("no end but {other:?}"),
        };
        assert_eq!(error.condition, condition, "{error}");
        assert!(matches!(
            self.server.events.last(),
            Some(Event::Ended { error: Some(_), .. })
        ));
        self.server.events.clear();
        self.works();
        self.send(0, Performative::End(Default::default()));
        assert!(self.performatives().is_empty());
        self.begin(0);
    }

    /// The server has detached the link on handle 0, and nothing else.
    pub(super) fn expect_detach(&mut self, condition: &str) {
        let error = match &self.performatives()[..] {
            [Performative::Detach(detach)] if detach.closed => detach.error.clone(),
            other => panic!("no detach but {other:?}"),
        };
        assert_eq!(error.expect("there is a reason").condition, condition);
        let told = self.server.events.pop();
        assert!(
            matches!(told, Some(Event::Detached { error: Some(_), .. })),
            "{told:?}"
        );
    }

    /// The connection goes on: another session can be begun and ended.
    pub(super) fn works(&mut self) {
        self.send(9, begin());
        self.send(9, Performative::End(Default::default()));
        let answers = self.performatives();
        assert!(
            matches!(answers[..], [Performative::Begin(_), Performative::End(_)]),
            "{answers:?}"
        );
        assert!(matches!(
            self.server.events[..],
            [Event::Begun(_), Event::Ended { .. }]
        ));
        self.server.events.clear();
    }
}

pub(super) fn open() -> Open {
    Open {
        container_id: "raw".into(),
        ..Open::default()
    }
}

pub(super) fn begin() -> Performative {
    Performative::Begin(Box::new(Begin {
        incoming_window: 100,
        outgoing_window: 100,
        ..Begin::default()
    }))
}

/// The attach that makes the server's end one with this role.
pub(super) fn attach(handle: u32, server: Role, name: &str) -> Performative {
    let attach = super::pair::attach(server.opposite(), name);
    Performative::Attach(Box::new(Attach {
        handle,
        initial_delivery_count: (server == Role::Receiver).then_some(0),
        ..attach
    }))
}

/// A flow that grants credit on handle 0, with an open window.
pub(super) fn credit(link_credit: u32) -> Performative {
    Performative::Flow(Flow {
        next_incoming_id: Some(0),
        incoming_window: 100,
        link: Some(LinkFlow {
            delivery_count: Some(0),
            link_credit: Some(link_credit),
            ..LinkFlow::default()
        }),
        properties: Fields::new(),
        ..Flow::default()
    })
}

/// The first and only frame of a delivery on handle 0.
pub(super) fn delivery(id: u32) -> Transfer {
    Transfer {
        delivery_id: Some(id),
        delivery_tag: Some(u64::from(id).into()),
        message_format: Some(0),
        ..Transfer::default()
    }
}

pub(super) fn some_error() -> Error {
    Error::new(condition::INTERNAL_ERROR, "some error")
}

pub(super) fn parse(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(header) = FrameHeader::decode(bytes).expect("our frames are sound") {
        let (frame, rest) = bytes.split_at(header.size as usize);
        bytes = rest;
        let body = &frame[header.body_start()..];
        let mut reader = Reader::new(body);
        let performative = (!body.is_empty())
            .then(|| Performative::decode(&mut reader).expect("our performatives are sound"));
        let payload = body[reader.position()..].to_vec();
        frames.push(Frame {
            channel: header.channel,
            performative,
            payload,
        });
    }
    assert_eq!(bytes, b"", "frames are whole");
    frames
}
