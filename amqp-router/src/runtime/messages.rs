//! The messages that go over a connection, in the log: which, by what link, and what they are
//! about.
//!
//! Like the protocol trace (`runtime::trace`) this looks at the octets that the socket has, beside
//! all else: connections whose messages nobody wants to see do not pass here.

use std::collections::HashMap;
use std::ops::Range;

use tracing::{Level, debug, enabled};

use crate::adaptors::components::Components;
use crate::codec::{Attach, Performative, Reader, Role, Transfer};
use crate::endpoint::trace::{HEAD, Splitter, shown_of, size_of};
use crate::policy::shown;

mod text;

use text::Known;

/// Both directions of one connection.
#[derive(Debug)]
pub(crate) struct MessageLog {
    components: Components,
    received: Way,
    sent: Way,
}

/// What is sent by one end.
#[derive(Debug, Default)]
struct Way {
    frames: Splitter,
    /// Its sending links, by channel and handle.
    links: HashMap<(u16, u32), SendingLink>,
    /// Octets that the links keep.
    kept: usize,
}

#[derive(Debug)]
struct SendingLink {
    /// What a line says of it, after its name.
    name: String,
    source: String,
    target: String,
    /// The delivery whose frames go by.
    delivery: Option<u32>,
    /// The start of its message, while there is more to know.
    start: Vec<u8>,
    /// There is no more to say of it.
    told: bool,
}

/// A frame of a delivery, or the first octets of one.
struct Piece<'a> {
    transfer: &'a Transfer,
    payload: &'a [u8],
    /// The message may go on after these octets.
    may_go_on: bool,
    /// Octets that may be kept to wait for more.
    room: usize,
}

impl MessageLog {
    /// For a connection whose messages somebody wants to see.
    pub(crate) fn new(components: Components) -> Option<Self> {
        (!components.is_empty()).then(|| Self {
            components,
            received: Way::default(),
            sent: Way::default(),
        })
    }

    /// Octets have been read by the connection `id`.
    pub(crate) fn received(&mut self, id: u64, octets: &[u8]) {
        let say = &mut |text: &str| debug!(target: "MESSAGE", conn = id, ": Received {text}");
        self.received.take(octets, self.components, wanted(), say);
    }

    /// Octets have been written.
    pub(crate) fn sent(&mut self, id: u64, octets: &[u8]) {
        let say = &mut |text: &str| debug!(target: "MESSAGE", conn = id, ": Sent {text}");
        self.sent.take(octets, self.components, wanted(), say);
    }
}

/// Whether the level of the log asks for messages now.
fn wanted() -> bool {
    enabled!(target: "MESSAGE", Level::DEBUG)
}

impl Way {
    /// Links are followed always, messages only while they are `wanted`.
    fn take(
        &mut self,
        octets: &[u8],
        components: Components,
        wanted: bool,
        say: &mut dyn FnMut(&str),
    ) {
        let Self {
            frames,
            links,
            kept,
        } = self;
        let looked_at = |frame: &[u8]| match wanted {
            true => shown_of(frame),
            false => shown_of(frame).min(unwanted(frame)),
        };
        frames.take(octets, looked_at, &mut |frame| {
            let Some((channel, performative, payload)) = parse(frame) else {
                return;
            };
            match performative {
                Performative::Attach(attach)
                    if attach.role == Role::Sender && links.len() < MOST_LINKS =>
                {
                    let link = links.insert((channel, attach.handle), SendingLink::new(&attach));
                    *kept -= link.map_or(0, |link| link.start.len());
                }
                Performative::Detach(detach) => {
                    let link = links.remove(&(channel, detach.handle));
                    *kept -= link.map_or(0, |link| link.start.len());
                }
                Performative::End(_) => {
                    links.retain(|(of, _), _| *of != channel);
                    *kept = links.values().map(|link| link.start.len()).sum();
                }
                Performative::Transfer(transfer) if wanted => {
                    if let Some(link) = links.get_mut(&(channel, transfer.handle)) {
                        *kept -= link.start.len();
                        let piece = Piece {
                            transfer: &transfer,
                            payload: &frame[payload],
                            // What is not here cannot be waited for.
                            may_go_on: transfer.more && size_of(frame) == frame.len(),
                            room: MOST_KEPT - *kept,
                        };
                        link.take(&piece, components, say);
                        *kept += link.start.len();
                    }
                }
                _ => {}
            }
        });
    }
}

impl SendingLink {
    fn new(attach: &Attach) -> Self {
        let source = attach.source.as_ref();
        let source = source.and_then(|source| source.address.as_deref());
        let target = attach.target.as_ref().and_then(|target| target.address());
        Self {
            name: shown(&attach.name),
            source: source.map(shown).unwrap_or_default(),
            target: target.map(shown).unwrap_or_default(),
            delivery: None,
            start: Vec::new(),
            told: false,
        }
    }

    /// Tells of the message once enough of it is here.
    fn take(&mut self, piece: &Piece<'_>, components: Components, say: &mut dyn FnMut(&str)) {
        let transfer = piece.transfer;
        if transfer.delivery_id.is_some() && transfer.delivery_id != self.delivery {
            self.delivery = transfer.delivery_id;
            self.told = false;
            self.start = Vec::new();
        }
        // What began before anybody wanted to see it is let by.
        if self.delivery.is_none() {
            return;
        }
        if !self.told
            && let Some(text) = self.text(piece, components)
        {
            self.told = true;
            let (name, source, target) = (&self.name, &self.source, &self.target);
            say(&format!("{text} on link '{name}' ({source} -> {target})"));
        }
        let over = !transfer.more || transfer.aborted;
        if over {
            self.delivery = None;
        }
        if over || self.told {
            self.start = Vec::new();
        }
    }

    /// What there is to say of the message; `None` where more of it is to come, and where it is no
    /// message.
    fn text(&mut self, piece: &Piece<'_>, components: Components) -> Option<String> {
        if piece.transfer.aborted {
            return Some("aborted message".to_owned());
        }
        let single = self.start.is_empty() && !piece.may_go_on;
        if !single {
            self.start.extend_from_slice(piece.payload);
        }
        let start = if single { piece.payload } else { &self.start };
        let enough = !piece.may_go_on || start.len() >= MOST_START.min(piece.room);
        match text::message(start, components) {
            Known::All(text) => Some(text),
            Known::Part(text) if enough => Some(text),
            Known::Part(_) => None,
            Known::Nothing => {
                self.told = true;
                None
            }
        }
    }
}

/// The channel and the performative of a frame, and where its payload is.
fn parse(frame: &[u8]) -> Option<(u16, Performative, Range<usize>)> {
    if frame.starts_with(b"AMQP") || frame[5] != 0 {
        return None;
    }
    let channel = u16::from_be_bytes([frame[6], frame[7]]);
    let body = frame.get(usize::from(frame[4]) * 4..)?;
    let mut reader = Reader::new(body);
    // What is wrong is not ours to judge: the connection will be closed for it.
    let performative = Performative::decode(&mut reader).ok()?;
    let payload = frame.len() - reader.rest().len()..frame.len();
    Some((channel, performative, payload))
}

/// How much of a frame there must be while no message is wanted: no more of a transfer than tells
/// that it is one.
fn unwanted(frame: &[u8]) -> usize {
    let body = usize::from(frame[4]) * 4;
    match frame.get(body..body + TRANSFER.len()) {
        None if !frame.starts_with(b"AMQP") => body.max(HEAD) + TRANSFER.len(),
        Some(TRANSFER) => HEAD,
        _ => usize::MAX,
    }
}

/// The descriptor of a transfer as everybody writes it.
const TRANSFER: &[u8] = &[0x00, 0x53, 0x14];
/// Octets of a message in several frames that are kept to find its properties.
const MOST_START: usize = 64 * 1024;
/// The same of all links of one end.
const MOST_KEPT: usize = 1024 * 1024;
/// Links of one end that are followed: more than it may have at a time.
const MOST_LINKS: usize = 1 << 17;

#[cfg(test)]
mod tests;
