//! HTTP/2 in passing (RFC 9113).

use std::collections::HashMap;
use std::time::Instant;

use super::exchange::{Exchanges, Request, forwarded_for, is_final};
use super::hpack::{self, Name};
use super::{Over, Speaker};

/// A connection of HTTP/2.
#[derive(Debug, Default)]
pub(super) struct Http2 {
    /// Octets of [`PREFACE`] that have come.
    greeted: usize,
    /// What the client sends, and the service.
    halves: [Half; 2],
    /// The exchange of each stream that is followed.
    streams: HashMap<u32, u32>,
    /// The highest number of a stream so far.
    last: u32,
}

#[derive(Debug, Default)]
struct Half {
    fields: hpack::Decoder,
    part: Part,
    /// What has come of the frame, if it is of those that are read whole.
    gathered: Vec<u8>,
    /// A header block that goes on in the next frame.
    block: Option<Block>,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// A frame's head, of which so many octets have come.
    Head([u8; HEAD], usize),
    /// So many octets of a frame.
    Payload(Frame, usize),
}

impl Default for Part {
    fn default() -> Self {
        Self::Head([0; HEAD], 0)
    }
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    length: usize,
}

#[derive(Debug)]
struct Block {
    stream: u32,
    /// Nothing follows on the stream in this direction.
    last: bool,
    /// The service promises a request, rather than to say something of the stream's own.
    promise: bool,
    octets: Vec<u8>,
}

impl Http2 {
    /// Octets pass.
    ///
    /// # Errors
    /// This is not HTTP/2, or too much to follow.
    pub(super) fn take(
        &mut self,
        from: Speaker,
        mut octets: &[u8],
        exchanges: &mut Exchanges,
        now: Instant,
    ) -> Result<(), Over> {
        if from == Speaker::Client && self.greeted < PREFACE.len() {
            let rest = &PREFACE[self.greeted..];
            let here = rest.len().min(octets.len());
            if octets[..here] != rest[..here] {
                return Err(Over);
            }
            self.greeted += here;
            octets = &octets[here..];
        }
        while !octets.is_empty() {
            let half = &mut self.halves[from as usize];
            match &mut half.part {
                Part::Head(head, have) => {
                    let here = (HEAD - *have).min(octets.len());
                    head[*have..*have + here].copy_from_slice(&octets[..here]);
                    *have += here;
                    octets = &octets[here..];
                    if *have == HEAD {
                        let frame = Frame::read(head);
                        half.begin_frame(frame)?;
                        half.part = Part::Payload(frame, frame.length);
                        if frame.length == 0 {
                            self.frame_ends(from, frame, &[], exchanges, now)?;
                        }
                    }
                }
                Part::Payload(frame, left) => {
                    let here = (*left).min(octets.len());
                    let (payload, rest) = octets.split_at(here);
                    octets = rest;
                    *left -= here;
                    let (frame, is_all) = (*frame, *left == 0);
                    if is_all && here == frame.length {
                        self.frame_ends(from, frame, payload, exchanges, now)?;
                        continue;
                    }
                    // Of data, the length of the padding is all that is read.
                    let wanted = match frame.kind {
                        kind::DATA => 1,
                        _ if frame.is_of_block() => frame.length,
                        _ => 0,
                    };
                    let room = wanted.saturating_sub(half.gathered.len()).min(here);
                    half.gathered.extend_from_slice(&payload[..room]);
                    if is_all {
                        let gathered = std::mem::take(&mut half.gathered);
                        self.frame_ends(from, frame, &gathered, exchanges, now)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A frame has passed; `payload` is as much of it as is read.
    fn frame_ends(
        &mut self,
        from: Speaker,
        frame: Frame,
        payload: &[u8],
        exchanges: &mut Exchanges,
        now: Instant,
    ) -> Result<(), Over> {
        self.halves[from as usize].part = Part::default();
        match frame.kind {
            kind::DATA => {
                let padding = match frame.has(flag::PADDED) {
                    true => 1 + usize::from(*payload.first().ok_or(Over)?),
                    false => 0,
                };
                let length = frame.length.checked_sub(padding).ok_or(Over)?;
                if let Some(exchange) = self.streams.get(&frame.stream) {
                    exchanges.passed(*exchange, from, length as u64);
                }
                if frame.has(flag::END_STREAM) {
                    self.stream_ends(from, frame.stream, exchanges, now);
                }
            }
            kind::RST_STREAM => self.forget(frame.stream, exchanges, now),
            kind::HEADERS | kind::PUSH_PROMISE => {
                let block = Block {
                    stream: frame.stream,
                    last: frame.kind == kind::HEADERS && frame.has(flag::END_STREAM),
                    promise: frame.kind == kind::PUSH_PROMISE,
                    octets: Vec::new(),
                };
                let fragment = frame.fragment(payload).ok_or(Over)?;
                self.continue_block(from, block, frame, fragment, exchanges, now)?;
            }
            kind::CONTINUATION => {
                let block = self.halves[from as usize].block.take().ok_or(Over)?;
                self.continue_block(from, block, frame, payload, exchanges, now)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn continue_block(
        &mut self,
        from: Speaker,
        mut block: Block,
        frame: Frame,
        fragment: &[u8],
        exchanges: &mut Exchanges,
        now: Instant,
    ) -> Result<(), Over> {
        if frame.has(flag::END_HEADERS) && block.octets.is_empty() {
            return self.block_ends(from, &block, fragment, exchanges, now);
        }
        if block.octets.len() + fragment.len() > BLOCK_MOST {
            return Err(Over);
        }
        block.octets.extend_from_slice(fragment);
        if frame.has(flag::END_HEADERS) {
            let octets = std::mem::take(&mut block.octets);
            return self.block_ends(from, &block, &octets, exchanges, now);
        }
        self.halves[from as usize].block = Some(block);
        Ok(())
    }

    /// A header block is complete. Whatever it is of, it changes what later ones mean.
    fn block_ends(
        &mut self,
        from: Speaker,
        block: &Block,
        octets: &[u8],
        exchanges: &mut Exchanges,
        now: Instant,
    ) -> Result<(), Over> {
        let (mut method, mut client) = (Box::default(), None);
        let mut status = None;
        let telling = exchanges.telling;
        let fields = &mut self.halves[from as usize].fields;
        let read = fields.decode(octets, |name, value| match name {
            Name::Status => {
                let text = std::str::from_utf8(value).unwrap_or_default();
                status = status.or_else(|| text.parse::<u16>().ok());
            }
            Name::Method if telling => method = String::from_utf8_lossy(value).into(),
            Name::ForwardedFor if telling && client.is_none() => client = forwarded_for(value),
            Name::Method | Name::ForwardedFor | Name::Other => {}
        });
        read.ok_or(Over)?;
        if block.promise {
            return Ok(());
        }
        match from {
            Speaker::Client => self.begin(block.stream, exchanges, now, method, client),
            Speaker::Service => {
                let exchange = self.streams.get(&block.stream);
                if let (Some(exchange), Some(status)) = (exchange, status) {
                    // There is no way out of this protocol.
                    let status = if status == 101 { 100 } else { status };
                    exchanges.answered(*exchange, status, "", now);
                    debug_assert!(status / 100 == 1 || is_final(status));
                }
            }
        }
        if block.last {
            self.stream_ends(from, block.stream, exchanges, now);
        }
        Ok(())
    }

    /// A client sends the head of a request, or what follows its body.
    fn begin(
        &mut self,
        stream: u32,
        exchanges: &mut Exchanges,
        now: Instant,
        method: Box<str>,
        client: Option<Box<str>>,
    ) {
        if stream <= self.last {
            return;
        }
        self.last = stream;
        if self.streams.len() < STREAMS_MOST {
            let exchange = exchanges.begin(now, || Request {
                protocol: "HTTP/2",
                method,
                stream: Some(stream),
                client,
            });
            self.streams.insert(stream, exchange);
        }
    }

    /// Nothing follows on a stream in one direction. When the service has said all, nobody needs
    /// the rest of the request (§8.1).
    fn stream_ends(&mut self, from: Speaker, stream: u32, exchanges: &mut Exchanges, now: Instant) {
        if from == Speaker::Service {
            self.forget(stream, exchanges, now);
        }
    }

    fn forget(&mut self, stream: u32, exchanges: &mut Exchanges, now: Instant) {
        if let Some(exchange) = self.streams.remove(&stream) {
            exchanges.end(exchange, now);
        }
    }
}

impl Half {
    /// A frame begins: is it one that may come now, and not too large to be read?
    fn begin_frame(&mut self, frame: Frame) -> Result<(), Over> {
        let continues = frame.kind == kind::CONTINUATION;
        let stream = self.block.as_ref().map(|block| block.stream);
        // A header block has the connection to itself (§6.10).
        if continues != stream.is_some() || stream.is_some_and(|stream| stream != frame.stream) {
            return Err(Over);
        }
        if frame.is_of_block() && frame.length > BLOCK_MOST {
            return Err(Over);
        }
        Ok(())
    }
}

impl Frame {
    fn read(head: &[u8; HEAD]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *head;
        Self {
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
            length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
        }
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether it has a piece of a header block, which has to be read.
    fn is_of_block(self) -> bool {
        matches!(
            self.kind,
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION
        )
    }

    /// The piece of a header block that a frame has besides other things (§6.2, §6.6).
    fn fragment(self, mut payload: &[u8]) -> Option<&[u8]> {
        if self.has(flag::PADDED) {
            let (&padding, rest) = payload.split_first()?;
            payload = &rest[..rest.len().checked_sub(padding.into())?];
        }
        let ahead = match self.kind {
            kind::PUSH_PROMISE => 4,
            _ if self.has(flag::PRIORITY) => 5,
            _ => 0,
        };
        payload.get(ahead..)
    }
}

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const CONTINUATION: u8 = 9;
}

mod flag {
    pub(super) const END_STREAM: u8 = 0x01;
    pub(super) const END_HEADERS: u8 = 0x04;
    pub(super) const PADDED: u8 = 0x08;
    pub(super) const PRIORITY: u8 = 0x20;
}

/// What a client begins with (§3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Octets of a frame's head.
const HEAD: usize = 9;
/// Octets that a header block may have.
const BLOCK_MOST: usize = 64 * 1024;
/// Streams of one connection that are followed at the same time.
const STREAMS_MOST: usize = 1000;
