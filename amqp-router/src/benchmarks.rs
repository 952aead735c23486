//! What micro-benchmarks drive: the codec, two connections joined in memory, the forwarding of one
//! worker between links that cost nothing. No sockets, no threads, no clock.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::codec::{
    Attach, Body, DeliveryState, DeliveryTag, FrameHeader, Message, MessageView, Performative,
    Properties, Reader, Role, SaslCode, Source, TargetNode, Transfer, Value,
};
use crate::control::address::{AddressKey, Identity};
use crate::control::table::{
    AddressEntry, AddressId, ConnectorId, Destination, Direction, Outlet, Side, Slot, TableUpdate,
    Treatment, WorkerId,
};
use crate::endpoint::{
    AttachReply, Config, Connection, Departure, Event, LinkId, OutBuf, SaslPolicy,
};
use crate::forwarding::links::{IncomingTraits, OutgoingTraits, Target};
use crate::forwarding::replies::Replies;
use crate::forwarding::window::Places;
use crate::forwarding::wire::{Allowance, Head, Terminal, Wire};
use crate::forwarding::{Arrival, Forwarder, Settings};

/// A frame with the transfer of a delivery, without its payload.
pub fn transfer_frame() -> Vec<u8> {
    let mut out = BytesMut::new();
    encode_transfer(7, &mut out);
    out.to_vec()
}

/// A frame with an attach as clients send it.
pub fn attach_frame() -> Vec<u8> {
    let mut out = BytesMut::new();
    Performative::Attach(Box::new(attach("a link"))).encode_frame(0, &mut out);
    out.to_vec()
}

/// Writes the frame of a transfer.
pub fn encode_transfer(delivery: u32, out: &mut BytesMut) {
    let transfer = Transfer {
        handle: 3,
        delivery_id: Some(delivery),
        delivery_tag: Some(DeliveryTag::from(u64::from(delivery))),
        message_format: Some(0),
        settled: Some(false),
        ..Transfer::default()
    };
    transfer.encode_frame_head(1, 0, out);
}

/// Reads a frame; false if it is none.
pub fn decode_frame(frame: &[u8]) -> bool {
    let Ok(Some(header)) = FrameHeader::decode(frame) else {
        return false;
    };
    let body = &frame[header.body_start()..];
    Performative::decode(&mut Reader::new(body)).is_ok()
}

/// A message with properties, of this many octets of body.
pub fn message(octets: usize) -> Bytes {
    let message = Message {
        properties: Some(Properties {
            to: Some("an/address".into()),
            subject: Some("a subject".into()),
            ..Properties::default()
        }),
        body: Body::Value(Value::Binary(vec![b'x'; octets].into())),
        ..Message::default()
    };
    message.encode()
}

/// What forwarding looks for in a message of the anonymous relay; false if it is not there.
pub fn find_to(message: &[u8]) -> bool {
    match MessageView::parse_annotations(message) {
        crate::codec::Progress::Complete(view) => {
            matches!(view.to(), crate::codec::Progress::Complete(Some(_)))
        }
        _ => false,
    }
}

/// Decodes all of a message; false if it is none.
pub fn decode_message(message: &[u8]) -> bool {
    Message::decode(message).is_ok()
}

/// A sender's connection and its receiver's, joined by memory.
#[derive(Debug)]
pub struct Pair {
    sender: Connection,
    receiver: Connection,
    outgoing: Option<LinkId>,
    incoming: Option<LinkId>,
    now: Instant,
    body: Bytes,
    settled: u64,
}

impl Pair {
    /// Open, with one link, for messages of this many octets.
    ///
    /// # Panics
    ///
    /// Never: they agree.
    #[allow(clippy::disallowed_methods)] // any instant will do
    pub fn new(octets: usize) -> Self {
        let now = Instant::now();
        let client = Config {
            container_id: "sender".into(),
            sasl: SaslPolicy::Client(None),
            idle_time_out: None,
            ..Config::default()
        };
        let server = Config {
            container_id: "receiver".into(),
            idle_time_out: None,
            sasl: SaslPolicy::Server {
                required: false,
                mechanisms: Vec::new(),
            },
            ..Config::default()
        };
        let mut pair = Self {
            sender: Connection::client(Arc::new(client), now),
            receiver: Connection::server(Arc::new(server), now),
            outgoing: None,
            incoming: None,
            now,
            body: message(octets),
            settled: 0,
        };
        pair.exchange();
        let session = pair.sender.begin().expect("there is room");
        pair.exchange();
        pair.outgoing = pair.sender.attach(session, attach("a link")).ok();
        pair.exchange();
        pair
    }

    /// Passes this many messages on and settles each; returns how many were settled in all.
    ///
    /// # Panics
    ///
    /// If the link stands still.
    pub fn pass(&mut self, messages: u32) -> u64 {
        let outgoing = self.outgoing.expect("it is attached");
        let incoming = self.incoming.expect("it is attached");
        self.receiver.set_credit(incoming, messages);
        self.exchange();
        let goal = self.settled + u64::from(messages);
        for _ in 0..messages {
            let departure = Departure {
                token: 1,
                tag: DeliveryTag::from(1),
                format: 0,
                settled: false,
                state: None,
                prefix: &[],
            };
            let mut body = self.body.clone();
            self.sender
                .start_delivery(outgoing, departure, &mut body, false)
                .expect("there is credit");
        }
        self.exchange();
        assert_eq!(self.settled, goal, "all is settled");
        self.settled
    }

    fn exchange(&mut self) {
        loop {
            self.turn();
            let there = take(self.sender.out());
            let back = take(self.receiver.out());
            if there.is_empty() && back.is_empty() {
                return;
            }
            self.receiver.handle_input(there, self.now);
            self.sender.handle_input(back, self.now);
        }
    }

    fn turn(&mut self) {
        while let Some(event) = self.receiver.poll_event(self.now) {
            match event {
                Event::SaslInit { .. } => self.receiver.sasl_outcome(SaslCode::Ok, None),
                Event::Opened => self.receiver.open(),
                Event::Attach { link, attach, .. } => {
                    self.incoming = Some(link);
                    let reply = AttachReply {
                        source: attach.source,
                        target: attach.target,
                        ..AttachReply::default()
                    };
                    self.receiver.accept_attach(link, reply);
                }
                Event::Transfer(transfer) => {
                    let accepted = Some(&DeliveryState::Accepted);
                    self.receiver.update(transfer.delivery, accepted, true);
                    let octets = transfer.payload.len() as u32;
                    self.receiver
                        .release_window(transfer.delivery.session, 1, octets);
                }
                _ => {}
            }
        }
        while let Some(event) = self.sender.poll_event(self.now) {
            if let Event::Updated { settled: true, .. } = event {
                self.settled += 1;
            }
        }
        self.receiver.flush(self.now);
        self.sender.flush(self.now);
    }
}

/// One worker's forwarding, with a sender and a receiver for each of some addresses.
#[derive(Debug)]
pub struct Forwarding {
    forwarder: Forwarder,
    wire: Nowhere,
    senders: Vec<Slot>,
    next: usize,
    payload: Bytes,
    now: Instant,
}

impl Forwarding {
    /// `links` senders and as many receivers, on `addresses` addresses in turn.
    #[allow(clippy::disallowed_methods)] // any instant will do
    pub fn new(links: u32, addresses: u32) -> Self {
        let identity = Identity {
            id: "R".into(),
            edge: false,
            ..Identity::default()
        };
        let forwarder = Forwarder::new(Settings {
            worker: WORKER,
            workers: 1,
            identity: Arc::new(identity),
            default_treatment: Treatment::Balanced,
            replies: Replies::new([0; 16]),
            patience: Default::default(),
        });
        let mut scene = Self {
            forwarder,
            wire: Nowhere::default(),
            senders: Vec::new(),
            next: 0,
            payload: message(100),
            now: Instant::now(),
        };
        let mut receivers: Vec<Vec<Destination>> = vec![Vec::new(); addresses as usize];
        for link in 0..links {
            receivers[(link % addresses) as usize].push(scene.receiver(link));
        }
        for (number, destinations) in (0..).zip(receivers) {
            let entry = AddressEntry {
                id: AddressId(number),
                key: AddressKey::mobile(&number.to_string()),
                treatment: Treatment::Balanced,
                priority: None,
                destinations,
                remotes: Vec::new(),
            };
            let update = TableUpdate::Set(Arc::new(entry));
            scene.forwarder.update_table(update);
        }
        for link in 0..links {
            let traits = IncomingTraits {
                capacity: 250,
                ..IncomingTraits::default()
            };
            let slot = scene.forwarder.add_incoming(terminal(links + link), traits);
            let target = Target::Address(AddressId(link % addresses));
            scene.forwarder.open_incoming(slot, target, None);
            scene.senders.push(slot);
        }
        scene.forwarder.end_turn(&mut scene.wire, scene.now);
        scene
    }

    fn receiver(&mut self, link: u32) -> Destination {
        let traits = OutgoingTraits {
            capacity: 250,
            ..OutgoingTraits::default()
        };
        let (slot, load) = self.forwarder.add_outgoing(terminal(link), traits);
        Destination {
            outlet: Outlet::Link {
                worker: WORKER,
                link: slot,
                to_router: false,
            },
            side: Side::NONE,
            prompt: false,
            capacity: 250,
            load,
        }
    }

    /// A turn of 32 messages of different links, whose receivers accept them in the next; returns
    /// how many have left in all.
    pub fn turn(&mut self, settled: bool) -> u64 {
        for number in 0..32 {
            let link = self.senders[self.next];
            self.next = (self.next + 1) % self.senders.len();
            let arrival = Arrival {
                link: link.index,
                number,
                first: Some(0),
                settled,
                state: None,
                payload: self.payload.clone(),
                more: false,
                aborted: false,
            };
            self.forwarder.transfer(&mut self.wire, self.now, arrival);
        }
        self.forwarder.end_turn(&mut self.wire, self.now);
        let started = std::mem::take(&mut self.wire.unsettled);
        for &delivery in &started {
            let accepted = Some(DeliveryState::Accepted);
            self.forwarder
                .receiver_update(&mut self.wire, self.now, delivery, accepted, true);
        }
        self.wire.unsettled = started;
        self.wire.unsettled.clear();
        self.forwarder.end_turn(&mut self.wire, self.now);
        self.wire.started
    }
}

/// Links that take everything and write nothing.
#[derive(Debug, Default)]
struct Nowhere {
    started: u64,
    /// Tokens of deliveries that await their outcome.
    unsettled: Vec<u32>,
}

impl Wire for Nowhere {
    fn update(&mut self, _: Terminal, _: u32, _: Option<&DeliveryState>, _: bool) {}
    fn watch(&mut self, _: Terminal, _: u32, _: u32) {}
    fn forget(&mut self, _: Terminal, _: u32) {}
    fn release_window(&mut self, _: Terminal, _: Places) {}
    fn window_left(&self, _: Terminal) -> u32 {
        1000
    }
    fn credit(&self, _: Terminal) -> u32 {
        250
    }
    fn set_credit(&mut self, _: Terminal, _: u32) {}
    fn drain(&mut self, _: Terminal) {}
    fn detach(&mut self, _: Terminal, _: crate::codec::Error) {}
    fn allowance(&self, _: Terminal) -> Allowance {
        Allowance {
            credit: 250,
            room: true,
            drain: false,
            join: 0,
        }
    }
    fn start(&mut self, _: Terminal, head: Head<'_>, payload: &mut Bytes, _: bool) -> u32 {
        payload.clear();
        self.started += 1;
        if !head.settled {
            self.unsettled.push(head.token);
        }
        self.started as u32
    }
    fn proceed(&mut self, _: Terminal, payload: &mut Bytes, _: bool) {
        payload.clear();
    }
    fn abort(&mut self, _: Terminal) {}
    fn update_sent(&mut self, _: Terminal, _: u32, _: Option<&DeliveryState>, _: bool) {}
    fn forget_sent(&mut self, _: Terminal, _: u32) {}
    fn open_stream(&mut self, _: Terminal, _: bool) -> Option<Terminal> {
        None
    }
    fn dial(&mut self, _: ConnectorId, _: Option<String>) -> Terminal {
        terminal(0)
    }
    fn close(&mut self, _: Terminal) {}
    fn bind(&mut self, _: Terminal, _: Direction, _: Slot) {}
    fn drained(&mut self, _: Terminal) {}
}

const WORKER: WorkerId = WorkerId(0);

fn terminal(link: u32) -> Terminal {
    Terminal {
        connection: 0,
        session: 0,
        link,
    }
}

fn attach(name: &str) -> Attach {
    let node = TargetNode {
        address: Some("an/address".into()),
        ..TargetNode::default()
    };
    Attach {
        name: name.into(),
        role: Role::Sender,
        source: Some(Source::default()),
        target: Some(node.into()),
        ..Attach::default()
    }
}

fn take(out: &mut OutBuf) -> BytesMut {
    let mut taken = BytesMut::with_capacity(out.len());
    while !out.is_empty() {
        let mut iovecs = [IoSlice::new(&[]); 64];
        let filled = out.iovecs(&mut iovecs);
        let before = taken.len();
        for iovec in &iovecs[..filled] {
            taken.extend_from_slice(iovec);
        }
        let count = taken.len() - before;
        out.advance(count);
    }
    taken
}
