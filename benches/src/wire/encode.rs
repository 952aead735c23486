//! Frames to bytes. Every function appends one whole frame on channel 0: the tools here use one
//! session per connection.

use super::{FRAME_HEADER, code};

/// Which layer a frame belongs to (AMQP 2.3.1, 5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Type 0.
    Amqp = 0,
    /// Type 1.
    Sasl = 1,
}

/// What we say in `open` (AMQP 2.7.1).
#[derive(Debug, Clone)]
pub struct Open<'a> {
    /// Our container-id.
    pub container_id: &'a str,
    /// The virtual host asked for.
    pub hostname: Option<&'a str>,
    /// The largest frame we take, in octets; at least 512.
    pub max_frame_size: u32,
}

/// Appends `open`, on channel-max 0.
pub fn open(out: &mut Vec<u8>, open: &Open<'_>) {
    frame(out, FrameKind::Amqp, code::OPEN, |fields| {
        fields.string(open.container_id);
        match open.hostname {
            Some(hostname) => fields.string(hostname),
            None => fields.null(),
        }
        fields.uint(open.max_frame_size);
        fields.ushort(0);
    });
}

/// What we say in `begin` (AMQP 2.7.2). Our transfer-ids start at 0.
#[derive(Debug, Clone, Copy)]
pub struct Begin {
    /// The peer's channel, when this answers its begin.
    pub remote_channel: Option<u16>,
    /// Transfer frames we take before we say more.
    pub incoming_window: u32,
}

/// Appends `begin`.
pub fn begin(out: &mut Vec<u8>, begin: Begin) {
    frame(out, FrameKind::Amqp, code::BEGIN, |fields| {
        match begin.remote_channel {
            Some(channel) => fields.ushort(channel),
            None => fields.null(),
        }
        fields.uint(0);
        fields.uint(begin.incoming_window);
        fields.uint(OUTGOING_WINDOW);
        fields.uint(HANDLE_MAX);
    });
}

/// Whether the issuer of a frame sends or receives on the link (AMQP 2.8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `false` on the wire.
    Sender,
    /// `true` on the wire.
    Receiver,
}

/// An end of a link: made from an address, or the peer's echoed back as it came.
#[derive(Debug, Clone, Copy)]
pub enum Terminus<'a> {
    /// A node by its address; `None` for no address.
    Address(Option<&'a str>),
    /// The encoded terminus of the peer's attach.
    Echo(Option<&'a [u8]>),
}

/// What we say in `attach` (AMQP 2.7.3). The initial delivery-count is 0.
#[derive(Debug, Clone, Copy)]
pub struct Attach<'a> {
    /// The link's name.
    pub name: &'a [u8],
    /// Our handle.
    pub handle: u32,
    /// Our role.
    pub role: Role,
    /// 0 unsettled, 1 settled, 2 mixed.
    pub snd_settle_mode: u8,
    /// The source.
    pub source: Terminus<'a>,
    /// The target.
    pub target: Terminus<'a>,
}

/// Appends `attach`, with receiver-settle-mode first.
pub fn attach(out: &mut Vec<u8>, attach: &Attach<'_>) {
    frame(out, FrameKind::Amqp, code::ATTACH, |fields| {
        fields.variable(0xa1, 0xb1, attach.name);
        fields.uint(attach.handle);
        fields.boolean(attach.role == Role::Receiver);
        fields.ubyte(attach.snd_settle_mode);
        fields.ubyte(0);
        fields.terminus(code::SOURCE, attach.source);
        fields.terminus(code::TARGET, attach.target);
        if attach.role == Role::Sender {
            fields.null();
            fields.null();
            fields.uint(0);
        }
    });
}

/// The session's half of a flow (AMQP 2.7.4).
#[derive(Debug, Clone, Copy)]
pub struct SessionFlow {
    /// The next transfer-id expected of the peer.
    pub next_incoming_id: u32,
    /// Transfer frames the peer may send from there.
    pub incoming_window: u32,
    /// The transfer-id of our next frame.
    pub next_outgoing_id: u32,
}

/// The link's half of a flow (AMQP 2.7.4).
#[derive(Debug, Clone, Copy)]
pub struct LinkFlow {
    /// Our handle of the link.
    pub handle: u32,
    /// The delivery-count as we know it.
    pub delivery_count: u32,
    /// Deliveries the sender may start from there.
    pub link_credit: u32,
}

/// Appends `flow`, never asking for an echo.
pub fn flow(out: &mut Vec<u8>, session: SessionFlow, link: Option<LinkFlow>) {
    frame(out, FrameKind::Amqp, code::FLOW, |fields| {
        fields.uint(session.next_incoming_id);
        fields.uint(session.incoming_window);
        fields.uint(session.next_outgoing_id);
        fields.uint(OUTGOING_WINDOW);
        if let Some(link) = link {
            fields.uint(link.handle);
            fields.uint(link.delivery_count);
            fields.uint(link.link_credit);
        }
    });
}

/// Appends the head of a transfer frame that `payload` octets are to follow (AMQP 2.7.5).
pub fn transfer_head(out: &mut Vec<u8>, head: &TransferHead<'_>, payload: usize) {
    let start = out.len();
    frame(out, FrameKind::Amqp, code::TRANSFER, |fields| {
        fields.uint(head.handle);
        fields.uint(head.delivery_id);
        fields.variable(0xa0, 0xb0, head.delivery_tag);
        fields.uint(head.message_format);
        fields.boolean(head.settled);
        fields.boolean(head.more);
        if head.aborted {
            fields.null();
            fields.null();
            fields.null();
            fields.boolean(true);
        }
    });
    let size = out.len() - start + payload;
    out[start..start + 4].copy_from_slice(&frame_size(size));
}

/// The fields of a transfer that the relay writes.
#[derive(Debug, Clone, Copy)]
pub struct TransferHead<'a> {
    /// Our handle of the link.
    pub handle: u32,
    /// The delivery's number in our session.
    pub delivery_id: u32,
    /// Its tag; repeated on every frame of the delivery.
    pub delivery_tag: &'a [u8],
    /// Its format, 0 for AMQP messages.
    pub message_format: u32,
    /// Sent settled.
    pub settled: bool,
    /// More frames of this delivery follow.
    pub more: bool,
    /// The delivery ends here and is void.
    pub aborted: bool,
}

/// Appends a settled `disposition` over `first..=last` (AMQP 2.7.6). `state` is the encoded delivery
/// state; see [`ACCEPTED`].
pub fn disposition(out: &mut Vec<u8>, role: Role, first: u32, last: u32, state: Option<&[u8]>) {
    frame(out, FrameKind::Amqp, code::DISPOSITION, |fields| {
        fields.boolean(role == Role::Receiver);
        fields.uint(first);
        fields.uint(last);
        fields.boolean(true);
        if let Some(state) = state {
            fields.raw(state);
        }
    });
}

/// The encoded `accepted` outcome (AMQP 3.4.2).
pub const ACCEPTED: &[u8] = &[0x00, 0x53, code::ACCEPTED, 0x45];

/// Appends `detach`, closed, without error (AMQP 2.7.7).
pub fn detach(out: &mut Vec<u8>, handle: u32) {
    frame(out, FrameKind::Amqp, code::DETACH, |fields| {
        fields.uint(handle);
        fields.boolean(true);
    });
}

/// Appends `end` (AMQP 2.7.8).
pub fn end(out: &mut Vec<u8>) {
    frame(out, FrameKind::Amqp, code::END, |_| {});
}

/// Appends `close`, with an error when there is one (AMQP 2.7.9).
pub fn close(out: &mut Vec<u8>, error: Option<(&str, &str)>) {
    frame(out, FrameKind::Amqp, code::CLOSE, |fields| {
        if let Some((condition, description)) = error {
            fields.described_list(code::ERROR, |error| {
                error.symbol(condition);
                error.string(description);
            });
        }
    });
}

/// Appends an empty frame, the heartbeat (AMQP 2.4.5).
pub fn heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0, 0, 8, 2, 0, 0, 0]);
}

/// Appends `sasl-mechanisms` that offers ANONYMOUS alone (AMQP 5.3.3.1).
pub fn sasl_mechanisms(out: &mut Vec<u8>) {
    frame(out, FrameKind::Sasl, code::SASL_MECHANISMS, |fields| {
        fields.symbol("ANONYMOUS")
    });
}

/// Appends `sasl-init` for ANONYMOUS (AMQP 5.3.3.2).
pub fn sasl_init(out: &mut Vec<u8>, hostname: &str) {
    frame(out, FrameKind::Sasl, code::SASL_INIT, |fields| {
        fields.symbol("ANONYMOUS");
        fields.variable(0xa0, 0xb0, b"router-bench");
        fields.string(hostname);
    });
}

/// Appends `sasl-outcome` ok (AMQP 5.3.3.6).
pub fn sasl_outcome(out: &mut Vec<u8>) {
    frame(out, FrameKind::Sasl, code::SASL_OUTCOME, |fields| {
        fields.ubyte(0)
    });
}

/// The fields of a list being written.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    out: &'a mut Vec<u8>,
    count: u32,
}

impl Fields<'_> {
    pub(crate) fn null(&mut self) {
        self.raw(&[0x40]);
    }

    pub(crate) fn boolean(&mut self, value: bool) {
        self.raw(&[if value { 0x41 } else { 0x42 }]);
    }

    pub(crate) fn ubyte(&mut self, value: u8) {
        self.raw(&[0x50, value]);
    }

    pub(crate) fn ushort(&mut self, value: u16) {
        let [high, low] = value.to_be_bytes();
        self.raw(&[0x60, high, low]);
    }

    pub(crate) fn uint(&mut self, value: u32) {
        match value {
            0 => self.raw(&[0x43]),
            1..=255 => self.raw(&[0x52, value as u8]),
            _ => {
                let [a, b, c, d] = value.to_be_bytes();
                self.raw(&[0x70, a, b, c, d]);
            }
        }
    }

    pub(crate) fn string(&mut self, value: &str) {
        self.variable(0xa1, 0xb1, value.as_bytes());
    }

    pub(crate) fn symbol(&mut self, value: &str) {
        self.variable(0xa3, 0xb3, value.as_bytes());
    }

    pub(crate) fn variable(&mut self, short: u8, long: u8, value: &[u8]) {
        match u8::try_from(value.len()) {
            Ok(len) => self.out.extend_from_slice(&[short, len]),
            Err(_) => {
                self.out.push(long);
                self.out.extend_from_slice(&frame_size(value.len()));
            }
        }
        self.out.extend_from_slice(value);
        self.count += 1;
    }

    /// One value that is encoded already.
    pub(crate) fn raw(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
        self.count += 1;
    }

    fn described_list(&mut self, descriptor: u8, write: impl FnOnce(&mut Fields<'_>)) {
        self.out.extend_from_slice(&[0x00, 0x53, descriptor]);
        list(self.out, write);
        self.count += 1;
    }

    fn terminus(&mut self, descriptor: u8, terminus: Terminus<'_>) {
        match terminus {
            Terminus::Echo(None) => self.null(),
            Terminus::Echo(Some(encoded)) => self.raw(encoded),
            Terminus::Address(address) => self.described_list(descriptor, |fields| {
                if let Some(address) = address {
                    fields.string(address);
                }
            }),
        }
    }
}

/// Appends a frame of one performative, with its size.
fn frame(out: &mut Vec<u8>, kind: FrameKind, descriptor: u8, write: impl FnOnce(&mut Fields<'_>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, 2, kind as u8, 0, 0]);
    debug_assert_eq!(out.len() - start, FRAME_HEADER);
    out.extend_from_slice(&[0x00, 0x53, descriptor]);
    list(out, write);
    let size = out.len() - start;
    out[start..start + 4].copy_from_slice(&frame_size(size));
}

/// Appends a list in the short form, or in the long one when it outgrew the short.
fn list(out: &mut Vec<u8>, write: impl FnOnce(&mut Fields<'_>)) {
    let start = out.len();
    out.extend_from_slice(&[0xc0, 0, 0]);
    let mut fields = Fields { out, count: 0 };
    write(&mut fields);
    let count = fields.count;
    let content = out.len() - start - 3;
    match (u8::try_from(content + 1), u8::try_from(count)) {
        (Ok(size), Ok(count)) => out[start + 1..start + 3].copy_from_slice(&[size, count]),
        _ => {
            let mut head = vec![0xd0];
            head.extend_from_slice(&frame_size(content + 4));
            head.extend_from_slice(&count.to_be_bytes());
            out.splice(start..start + 3, head);
        }
    }
}

/// A length in the four octets of the wire; nothing here is ever near 4 GiB.
fn frame_size(len: usize) -> [u8; 4] {
    u32::try_from(len)
        .expect("frames and values here are far below 4 GiB")
        .to_be_bytes()
}

const OUTGOING_WINDOW: u32 = i32::MAX as u32;
/// Handles above this are refused, so that a table by handle stays small.
pub(crate) const HANDLE_MAX: u32 = 65_535;
