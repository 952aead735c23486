//! A neighbour that says what it likes, octet by octet.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use interop_tests::raw::{AMQP, begin, frame};

use crate::wire::{described, int, list, map, null, numbers, symbol, text, uint};

/// One connection to a router's listener for routers, with the links that a connector attaches.
pub(crate) struct Liar {
    id: String,
    stream: TcpStream,
    /// What has been read and is no whole frame yet.
    unread: Vec<u8>,
    /// Our channels, by the router's.
    channels: HashMap<u16, u16>,
    /// By our channel.
    links: HashMap<u16, Sending>,
    ended: bool,
}

/// The link of a session that we send by.
#[derive(Default)]
struct Sending {
    /// The router's handle.
    handle: Option<u64>,
    sent: u64,
    /// How many deliveries the router takes altogether.
    limit: u64,
}

impl Liar {
    /// Connects as the router `id`, with further properties.
    pub(crate) fn connect(port: u16, id: &str, properties: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        let limit = Some(Duration::from_millis(10));
        stream.set_read_timeout(limit).expect("a limit");
        stream.set_write_timeout(Some(PATIENCE)).expect("a limit");
        let mut liar = Self {
            id: id.to_owned(),
            stream,
            unread: Vec::new(),
            channels: HashMap::new(),
            links: HashMap::new(),
            ended: false,
        };
        let mut fields = vec![text(id)];
        fields.resize(9, null());
        fields.push(map(properties));
        let open = frame(0, &described(0x10, list(&fields)));
        liar.write(&[AMQP, &open].concat());
        liar
    }

    /// Attaches a pair of links for control, and one for each priority.
    pub(crate) fn attach(&mut self) {
        for channel in 0..=10 {
            let capability = match channel {
                CONTROL => "qd.router",
                _ => "qd.router-data",
            };
            let frames = [
                begin(channel),
                attach(channel, 0, true, capability),
                attach(channel, 1, false, capability),
            ];
            self.links.insert(channel, Sending::default());
            self.write(&frames.concat());
        }
    }

    /// Lets the router send this much by the link for control.
    pub(crate) fn grant(&mut self, credit: u32) {
        let [next, window, credit] = [0, 1_000_000, credit].map(uint);
        let fields = [
            next.clone(),
            window.clone(),
            next.clone(),
            window,
            next.clone(),
            next,
            credit,
        ];
        let flow = frame(CONTROL, &described(0x13, list(&fields)));
        self.write(&flow);
    }

    /// Says hello, as somebody who has heard of these.
    pub(crate) fn hello(&mut self, seen: &[&str]) {
        let seen: Vec<_> = seen.iter().map(|id| text(id)).collect();
        let more = [("instance", int(7)), ("seen", list(&seen))];
        let id = self.id.clone();
        self.say("HELLO", "amqp:/_local/qdhello", &id, &more);
    }

    /// Sends a control message of the router `id`.
    pub(crate) fn say(&mut self, opcode: &str, to: &str, id: &str, more: &[(&str, Vec<u8>)]) {
        let version = if opcode.starts_with("MA") { 2 } else { 1 };
        let head = [("id", text(id)), ("pv", int(version)), ("area", text("0"))];
        let fields = head.iter().chain(more);
        let fields: Vec<_> = fields
            .map(|(key, value)| (text(key), value.clone()))
            .collect();
        self.say_raw(opcode, to, map(&fields));
    }

    /// The same with any body.
    pub(crate) fn say_raw(&mut self, opcode: &str, to: &str, body: Vec<u8>) {
        let opcode = map(&[(text("opcode"), text(opcode))]);
        let message = [
            annotations(to, &self.id),
            described(0x73, list(&[null(), null(), text(to)])),
            described(0x74, opcode),
            described(0x77, body),
        ];
        self.send(CONTROL, &message.concat(), true);
    }

    /// Sends a message by the link of a channel, when it may.
    pub(crate) fn send(&mut self, channel: u16, message: &[u8], settled: bool) {
        let deadline = Instant::now() + PATIENCE;
        while self.links[&channel].sent >= self.links[&channel].limit {
            if self.ended {
                return;
            }
            assert!(Instant::now() < deadline, "no credit on channel {channel}");
            self.read();
        }
        let link = self.links.get_mut(&channel).expect("it is attached");
        let id = u32::try_from(link.sent).expect("there are few");
        link.sent += 1;
        let flag = vec![if settled { 0x41 } else { 0x42 }];
        let tag = [&[0xa0, 4][..], &id.to_be_bytes()].concat();
        let fields = [uint(1), uint(id), tag, uint(0), flag];
        let transfer = described(0x14, list(&fields));
        self.write(&frame(channel, &[&transfer, message].concat()));
    }

    /// Writes octets, as far as the router takes them.
    pub(crate) fn write(&mut self, octets: &[u8]) {
        // That it closes the connection is its good right.
        self.ended |= self.stream.write_all(octets).is_err();
    }

    /// Whether the router has ended the connection.
    pub(crate) fn is_over(&mut self) -> bool {
        self.read();
        self.ended
    }

    /// Takes note of what the router says.
    fn read(&mut self) {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.ended = true,
        }
        while let Some(frame) = self.frame() {
            self.note(&frame);
        }
    }

    fn frame(&mut self) -> Option<Vec<u8>> {
        if self.unread.starts_with(b"AMQP") {
            self.unread.drain(..8.min(self.unread.len()));
        }
        let size = u32::from_be_bytes(*self.unread.first_chunk()?) as usize;
        (self.unread.len() >= size).then(|| self.unread.drain(..size).collect())
    }

    fn note(&mut self, frame: &[u8]) {
        let channel = u16::from_be_bytes([frame[6], frame[7]]);
        let Some((code, fields)) = numbers(&frame[8..]) else {
            return;
        };
        let field = |number: usize| fields.get(number).copied().flatten();
        if let (0x11, Some(ours)) = (code, field(0)) {
            self.channels.insert(channel, ours as u16);
        }
        let link = self.channels.get(&channel);
        let link = link.and_then(|ours| self.links.get_mut(ours));
        match (code, link) {
            // In answer to the link that we send by, the router is the receiver.
            (0x12, Some(link)) if field(2) == Some(1) => link.handle = field(1),
            (0x13, Some(link)) if link.handle.is_some() && field(4) == link.handle => {
                let credit = field(6).unwrap_or(0);
                link.limit = field(5).unwrap_or(0) + credit;
            }
            (0x18, _) => self.ended = true,
            _ => {}
        }
    }
}

/// Router annotations of a message that has come from the liar.
pub(crate) fn annotations(to: &str, liar: &str) -> Vec<u8> {
    let here = format!("0/{liar}");
    annotations_of(&[uint(0), text(to), text(&here), list(&[text(&here)])])
}

/// Router annotations of these fields.
pub(crate) fn annotations_of(fields: &[Vec<u8>]) -> Vec<u8> {
    [b"\x00\x80SKPR--RA", &list(fields)[..]].concat()
}

fn attach(channel: u16, handle: u32, receiver: bool, capability: &str) -> Vec<u8> {
    let name = text(&format!("qdlink.{channel}.{handle}"));
    let role = vec![if receiver { 0x41 } else { 0x42 }];
    let terminus = |code, capability_at| {
        let mut fields = vec![null(); capability_at];
        fields.push(symbol(capability));
        described(code, list(&fields))
    };
    let fields = [
        name,
        uint(handle),
        role,
        null(),
        null(),
        terminus(0x28, 10),
        terminus(0x29, 6),
        null(),
        null(),
        uint(0),
    ];
    frame(channel, &described(0x12, list(&fields)))
}

/// The channel of the links for control; priorities follow.
pub(crate) const CONTROL: u16 = 0;
const PATIENCE: Duration = Duration::from_secs(10);
