//! Bytes to the few fields of a frame that the tools here act on. Everything else is skipped by
//! its length, so unknown fields and every valid encoding are taken.

use super::encode::{HANDLE_MAX, Role};
use super::{FRAME_HEADER, code};

/// What is wrong with bytes from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A size below 8, or a data offset outside the frame (AMQP 2.3.1).
    #[error("malformed frame header")]
    Frame,
    /// The frame is larger than we announced.
    #[error("frame of {0} octets exceeds our max-frame-size")]
    TooLarge(usize),
    /// The bytes end within a value.
    #[error("value is cut short")]
    Truncated,
    /// A value has another type than its field.
    #[error("unexpected constructor 0x{0:02x}")]
    Constructor(u8),
    /// A mandatory field is missing.
    #[error("field {0} is missing")]
    Missing(&'static str),
    /// A performative we do not know.
    #[error("unknown performative 0x{0:02x}")]
    Performative(u64),
    /// A handle above the handle-max we announced.
    #[error("handle {0} exceeds our handle-max")]
    Handle(u32),
}

/// A frame, as far as we read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// No body: a heartbeat.
    Empty,
    /// Limits of the peer.
    Open(Open),
    /// The peer's session.
    Begin(Begin),
    /// A link, or the answer to ours.
    Attach(Attach<'a>),
    /// Windows and credit.
    Flow(Flow),
    /// One frame of a delivery.
    Transfer(Transfer<'a>),
    /// Outcomes.
    Disposition(Disposition<'a>),
    /// The end of a link.
    Detach(u32, Option<Fault>),
    /// The end of the session.
    End(Option<Fault>),
    /// The end of the connection.
    Close(Option<Fault>),
    /// Whether ANONYMOUS is among the mechanisms offered.
    SaslMechanisms(bool),
    /// The client's choice; the relay takes any.
    SaslInit,
    /// 0 is success.
    SaslOutcome(u8),
}

/// From `open`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The largest frame the peer takes, in octets.
    pub max_frame_size: u32,
    /// Milliseconds of silence the peer bears; 0 for any.
    pub idle_time_out: u32,
}

/// From `begin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// The transfer-id of the peer's first frame.
    pub next_outgoing_id: u32,
    /// Transfer frames the peer takes.
    pub incoming_window: u32,
}

/// From `attach`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach<'a> {
    /// The link's name.
    pub name: &'a [u8],
    /// The peer's handle.
    pub handle: u32,
    /// The peer's role.
    pub role: Role,
    /// 0 unsettled, 1 settled, 2 mixed.
    pub snd_settle_mode: u8,
    /// The encoded source.
    pub source: Option<&'a [u8]>,
    /// The encoded target.
    pub target: Option<&'a [u8]>,
    /// Where the sender's delivery-count starts.
    pub initial_delivery_count: u32,
}

impl<'a> Attach<'a> {
    /// The address at the node's end: the target of the peer's sender, the source of its receiver.
    pub fn address(&self) -> Result<Option<&'a [u8]>, DecodeError> {
        let terminus = match self.role {
            Role::Sender => self.target,
            Role::Receiver => self.source,
        };
        match terminus {
            None => Ok(None),
            Some(encoded) => described_list(&mut { encoded })?.1.bytes(),
        }
    }
}

/// From `flow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Null until the peer has seen our begin.
    pub next_incoming_id: Option<u32>,
    /// Transfer frames the peer takes from there.
    pub incoming_window: u32,
    /// The link, unless the flow is the session's alone.
    pub link: Option<LinkFlow>,
    /// The peer asks for a flow in return.
    pub echo: bool,
}

/// The link's fields of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkFlow {
    /// The peer's handle.
    pub handle: u32,
    /// Null until the peer has seen our attach.
    pub delivery_count: Option<u32>,
    /// Deliveries permitted from there.
    pub link_credit: u32,
    /// Unused credit is to be spent.
    pub drain: bool,
}

/// From `transfer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer<'a> {
    /// The peer's handle.
    pub handle: u32,
    /// Set on the first frame of a delivery.
    pub delivery_id: Option<u32>,
    /// Set on the first frame of a delivery.
    pub delivery_tag: Option<&'a [u8]>,
    /// Set on the first frame of a delivery.
    pub message_format: Option<u32>,
    /// Sent settled.
    pub settled: bool,
    /// More frames of this delivery follow.
    pub more: bool,
    /// The delivery ends here and is void.
    pub aborted: bool,
    /// The message, or this frame's part of it.
    pub payload: &'a [u8],
}

/// From `disposition`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disposition<'a> {
    /// The issuer's role.
    pub role: Role,
    /// First delivery of the range.
    pub first: u32,
    /// Last delivery of the range.
    pub last: u32,
    /// The issuer has settled.
    pub settled: bool,
    /// The encoded state.
    pub state: Option<&'a [u8]>,
}

impl Disposition<'_> {
    /// The state by its kind, without its fields.
    pub fn outcome(&self) -> Result<Option<Outcome>, DecodeError> {
        let Some(mut state) = self.state else {
            return Ok(None);
        };
        Ok(Some(match u8::try_from(descriptor(&mut state)?) {
            Ok(code::ACCEPTED) => Outcome::Accepted,
            Ok(code::REJECTED) => Outcome::Rejected,
            Ok(code::RELEASED) => Outcome::Released,
            Ok(code::MODIFIED) => Outcome::Modified,
            Ok(code::RECEIVED) => return Ok(None),
            _ => Outcome::Other,
        }))
    }
}

/// A terminal delivery state (AMQP 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 0x24
    Accepted,
    /// 0x25
    Rejected,
    /// 0x26
    Released,
    /// 0x27
    Modified,
    /// Any other, such as a transaction's.
    Other,
}

/// The error of a detach, end or close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Such as `amqp:not-found`.
    pub condition: String,
    /// Text for people.
    pub description: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.condition, self.description)
    }
}

/// The size of the frame at the start of `bytes`: `None` until its first four octets are there.
pub fn frame_size(bytes: &[u8], max_frame_size: usize) -> Result<Option<usize>, DecodeError> {
    let Some(size) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let size = u32::from_be_bytes(*size) as usize;
    if size < FRAME_HEADER {
        return Err(DecodeError::Frame);
    }
    if size > max_frame_size {
        return Err(DecodeError::TooLarge(size));
    }
    Ok(Some(size))
}

/// Reads one whole frame and the channel it came on.
pub fn frame(bytes: &[u8]) -> Result<(u16, Frame<'_>), DecodeError> {
    let &[_, _, _, _, doff, kind, high, low] = bytes.first_chunk().ok_or(DecodeError::Truncated)?;
    let offset = usize::from(doff) * 4;
    if offset < FRAME_HEADER || kind > 1 {
        return Err(DecodeError::Frame);
    }
    let mut body = bytes.get(offset..).ok_or(DecodeError::Frame)?;
    let channel = u16::from_be_bytes([high, low]);
    if body.is_empty() {
        return Ok((channel, Frame::Empty));
    }
    let (descriptor, fields) = described_list(&mut body)?;
    let performative =
        u8::try_from(descriptor).map_err(|_| DecodeError::Performative(descriptor))?;
    Ok((channel, performative_fields(performative, fields, body)?))
}

fn performative_fields<'a>(
    performative: u8,
    fields: Fields<'a>,
    payload: &'a [u8],
) -> Result<Frame<'a>, DecodeError> {
    Ok(match performative {
        code::TRANSFER => Frame::Transfer(transfer(fields, payload)?),
        code::DISPOSITION => Frame::Disposition(disposition(fields)?),
        code::FLOW => Frame::Flow(flow(fields)?),
        code::OPEN => Frame::Open(open(fields)?),
        code::BEGIN => Frame::Begin(begin(fields)?),
        code::ATTACH => Frame::Attach(attach(fields)?),
        code::DETACH => detach(fields)?,
        code::END => Frame::End(fault(fields)?),
        code::CLOSE => Frame::Close(fault(fields)?),
        code::SASL_MECHANISMS => Frame::SaslMechanisms(offers_anonymous(fields)?),
        code::SASL_INIT => Frame::SaslInit,
        code::SASL_OUTCOME => Frame::SaslOutcome(sasl_code(fields)?),
        unknown => return Err(DecodeError::Performative(u64::from(unknown))),
    })
}

fn open(mut fields: Fields<'_>) -> Result<Open, DecodeError> {
    fields.skip(2)?;
    let max_frame_size = fields.uint()?.unwrap_or(u32::MAX);
    fields.skip(1)?;
    let idle_time_out = fields.uint()?.unwrap_or(0);
    Ok(Open {
        max_frame_size,
        idle_time_out,
    })
}

fn begin(mut fields: Fields<'_>) -> Result<Begin, DecodeError> {
    fields.skip(1)?;
    Ok(Begin {
        next_outgoing_id: fields
            .uint()?
            .ok_or(DecodeError::Missing("next-outgoing-id"))?,
        incoming_window: fields
            .uint()?
            .ok_or(DecodeError::Missing("incoming-window"))?,
    })
}

fn attach(mut fields: Fields<'_>) -> Result<Attach<'_>, DecodeError> {
    let name = fields.bytes()?.ok_or(DecodeError::Missing("name"))?;
    let handle = fields.handle()?.ok_or(DecodeError::Missing("handle"))?;
    let role = fields.role()?;
    let snd_settle_mode = fields.ubyte()?.unwrap_or(2);
    fields.skip(1)?;
    let source = fields.value()?;
    let target = fields.value()?;
    fields.skip(2)?;
    let initial_delivery_count = fields.uint()?.unwrap_or(0);
    Ok(Attach {
        name,
        handle,
        role,
        snd_settle_mode,
        source,
        target,
        initial_delivery_count,
    })
}

fn flow(mut fields: Fields<'_>) -> Result<Flow, DecodeError> {
    let next_incoming_id = fields.uint()?;
    let incoming_window = fields
        .uint()?
        .ok_or(DecodeError::Missing("incoming-window"))?;
    fields.skip(2)?;
    let handle = fields.handle()?;
    let delivery_count = fields.uint()?;
    let link_credit = fields.uint()?.unwrap_or(0);
    fields.skip(1)?;
    let drain = fields.boolean()?.unwrap_or(false);
    let echo = fields.boolean()?.unwrap_or(false);
    let link = handle.map(|handle| LinkFlow {
        handle,
        delivery_count,
        link_credit,
        drain,
    });
    Ok(Flow {
        next_incoming_id,
        incoming_window,
        link,
        echo,
    })
}

fn transfer<'a>(mut fields: Fields<'a>, payload: &'a [u8]) -> Result<Transfer<'a>, DecodeError> {
    let handle = fields.handle()?.ok_or(DecodeError::Missing("handle"))?;
    let delivery_id = fields.uint()?;
    let delivery_tag = fields.bytes()?;
    let message_format = fields.uint()?;
    let settled = fields.boolean()?.unwrap_or(false);
    let more = fields.boolean()?.unwrap_or(false);
    fields.skip(3)?;
    let aborted = fields.boolean()?.unwrap_or(false);
    Ok(Transfer {
        handle,
        delivery_id,
        delivery_tag,
        message_format,
        settled,
        more,
        aborted,
        payload,
    })
}

fn disposition(mut fields: Fields<'_>) -> Result<Disposition<'_>, DecodeError> {
    let role = fields.role()?;
    let first = fields.uint()?.ok_or(DecodeError::Missing("first"))?;
    let last = fields.uint()?.unwrap_or(first);
    let settled = fields.boolean()?.unwrap_or(false);
    let state = fields.value()?;
    Ok(Disposition {
        role,
        first,
        last,
        settled,
        state,
    })
}

fn detach(mut fields: Fields<'_>) -> Result<Frame<'_>, DecodeError> {
    let handle = fields.handle()?.ok_or(DecodeError::Missing("handle"))?;
    fields.skip(1)?;
    Ok(Frame::Detach(handle, fault(fields)?))
}

fn fault(mut fields: Fields<'_>) -> Result<Option<Fault>, DecodeError> {
    let Some(mut encoded) = fields.value()? else {
        return Ok(None);
    };
    let (_, mut error) = described_list(&mut encoded)?;
    let condition = error.bytes()?.ok_or(DecodeError::Missing("condition"))?;
    let description = error.bytes()?.unwrap_or_default();
    Ok(Some(Fault {
        condition: String::from_utf8_lossy(condition).into_owned(),
        description: String::from_utf8_lossy(description).into_owned(),
    }))
}

/// The mechanisms come as one symbol or an array of them; either way the name stands in the bytes.
fn offers_anonymous(mut fields: Fields<'_>) -> Result<bool, DecodeError> {
    const NAME: &[u8] = b"ANONYMOUS";
    let value = fields
        .value()?
        .ok_or(DecodeError::Missing("sasl-server-mechanisms"))?;
    Ok(value.windows(NAME.len()).any(|name| name == NAME))
}

fn sasl_code(mut fields: Fields<'_>) -> Result<u8, DecodeError> {
    fields.ubyte()?.ok_or(DecodeError::Missing("code"))
}

/// The fields of a list, read in order. A missing one reads as null (AMQP 1.4).
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    rest: &'a [u8],
    count: u32,
}

impl<'a> Fields<'a> {
    /// A uint, in any of its three encodings.
    pub fn uint(&mut self) -> Result<Option<u32>, DecodeError> {
        if !self.advance() {
            return Ok(None);
        }
        Ok(match take::<1>(&mut self.rest)? {
            [0x40] => None,
            [0x43] => Some(0),
            [0x52] => Some(u32::from(take::<1>(&mut self.rest)?[0])),
            [0x70] => Some(u32::from_be_bytes(take(&mut self.rest)?)),
            [other] => return Err(DecodeError::Constructor(other)),
        })
    }

    fn handle(&mut self) -> Result<Option<u32>, DecodeError> {
        match self.uint()? {
            Some(handle) if handle > HANDLE_MAX => Err(DecodeError::Handle(handle)),
            handle => Ok(handle),
        }
    }

    fn boolean(&mut self) -> Result<Option<bool>, DecodeError> {
        if !self.advance() {
            return Ok(None);
        }
        Ok(match take::<1>(&mut self.rest)? {
            [0x40] => None,
            [0x41] => Some(true),
            [0x42] => Some(false),
            [0x56] => Some(take::<1>(&mut self.rest)?[0] != 0),
            [other] => return Err(DecodeError::Constructor(other)),
        })
    }

    fn role(&mut self) -> Result<Role, DecodeError> {
        let receiver = self.boolean()?.ok_or(DecodeError::Missing("role"))?;
        Ok(if receiver {
            Role::Receiver
        } else {
            Role::Sender
        })
    }

    fn ubyte(&mut self) -> Result<Option<u8>, DecodeError> {
        if !self.advance() {
            return Ok(None);
        }
        Ok(match take::<1>(&mut self.rest)? {
            [0x40] => None,
            [0x50] => Some(take::<1>(&mut self.rest)?[0]),
            [other] => return Err(DecodeError::Constructor(other)),
        })
    }

    /// The octets of a binary, string or symbol.
    pub fn bytes(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        if !self.advance() {
            return Ok(None);
        }
        let len = match take::<1>(&mut self.rest)? {
            [0x40] => return Ok(None),
            [0xa0 | 0xa1 | 0xa3] => usize::from(take::<1>(&mut self.rest)?[0]),
            [0xb0 | 0xb1 | 0xb3] => u32::from_be_bytes(take(&mut self.rest)?) as usize,
            [other] => return Err(DecodeError::Constructor(other)),
        };
        split(&mut self.rest, len).map(Some)
    }

    /// One value as it is encoded; `None` for null.
    fn value(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        if !self.advance() {
            return Ok(None);
        }
        let value = split_value(&mut self.rest)?;
        Ok((value != [0x40]).then_some(value))
    }

    fn skip(&mut self, fields: usize) -> Result<(), DecodeError> {
        for _ in 0..fields {
            if self.advance() {
                split_value(&mut self.rest)?;
            }
        }
        Ok(())
    }

    fn advance(&mut self) -> bool {
        let present = self.count > 0;
        self.count = self.count.saturating_sub(1);
        present
    }
}

/// The body of the message in `payload`: the content of its first data section (AMQP 3.2.6).
/// Sections before it are skipped.
pub fn data_section(mut payload: &[u8]) -> Result<&[u8], DecodeError> {
    while !payload.is_empty() {
        if descriptor(&mut payload)? == u64::from(code::DATA) {
            let data = split_value(&mut payload)?;
            return Fields {
                rest: data,
                count: 1,
            }
            .bytes()?
            .ok_or(DecodeError::Missing("data"));
        }
        split_value(&mut payload)?;
    }
    Err(DecodeError::Missing("data section"))
}

/// Takes a descriptor and the list it describes off the front of `bytes`.
fn described_list<'a>(bytes: &mut &'a [u8]) -> Result<(u64, Fields<'a>), DecodeError> {
    let descriptor = descriptor(bytes)?;
    let (rest, count) = match take::<1>(bytes)? {
        [0x45] => (&bytes[..0], 0),
        [0xc0] => {
            let size = usize::from(take::<1>(bytes)?[0]);
            let mut list = split(bytes, size)?;
            let [count] = take(&mut list)?;
            (list, u32::from(count))
        }
        [0xd0] => {
            let size = u32::from_be_bytes(take(bytes)?) as usize;
            let mut list = split(bytes, size)?;
            let count = u32::from_be_bytes(take(&mut list)?);
            (list, count)
        }
        [other] => return Err(DecodeError::Constructor(other)),
    };
    Ok((descriptor, Fields { rest, count }))
}

/// A numeric descriptor. Symbolic ones are valid AMQP too, but no router sends them.
fn descriptor(bytes: &mut &[u8]) -> Result<u64, DecodeError> {
    match take::<2>(bytes)? {
        [0x00, 0x53] => Ok(u64::from(take::<1>(bytes)?[0])),
        [0x00, 0x80] => Ok(u64::from_be_bytes(take(bytes)?)),
        [0x00, other] | [other, _] => Err(DecodeError::Constructor(other)),
    }
}

/// Takes one value of any type off the front of `bytes`. A described value is two values; nested
/// ones are covered by their size, so the depth of a value costs nothing.
fn split_value<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let whole = *bytes;
    let mut values = 1u32;
    while values > 0 {
        let [constructor] = take(bytes)?;
        if constructor == 0x00 {
            values += 1;
            continue;
        }
        let len = match constructor >> 4 {
            0x4 => 0,
            0x5 => 1,
            0x6 => 2,
            0x7 => 4,
            0x8 => 8,
            0x9 => 16,
            0xa | 0xc | 0xe => usize::from(take::<1>(bytes)?[0]),
            0xb | 0xd | 0xf => u32::from_be_bytes(take(bytes)?) as usize,
            _ => return Err(DecodeError::Constructor(constructor)),
        };
        split(bytes, len)?;
        values -= 1;
    }
    Ok(&whole[..whole.len() - bytes.len()])
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(DecodeError::Truncated)?;
    *bytes = rest;
    Ok(*taken)
}

fn split<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], DecodeError> {
    let (taken, rest) = bytes.split_at_checked(len).ok_or(DecodeError::Truncated)?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests;
