//! Performatives to bytes and back.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::{
    Attach, Begin, Close, Coordinator, Detach, Disposition, End, Error, ExpiryPolicy, Flow,
    LinkFlow, Open, Performative, ReceiverSettleMode, Role, SenderSettleMode, Source, Target,
    TargetNode, TerminusDurability, Transfer,
};
use crate::codec::read::{Composite, Reader};
use crate::codec::write::{
    ListWriter, put_binary, put_bool, put_string, put_symbol, put_uint, put_ulong,
};
use crate::codec::{DecodeError, DeliveryState, DeliveryTag, Fields, Symbol, Value};

type Result<T> = std::result::Result<T, DecodeError>;

/// The number of a descriptor that was given as a symbol; 0, which none has, if it is not known.
pub(crate) fn descriptor_of(symbol: &str) -> u64 {
    let Some(name) = symbol.strip_prefix("amqp:") else {
        return 0;
    };
    let Some((name, _)) = name.rsplit_once(':') else {
        return 0;
    };
    NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(0, |&(_, code)| code)
}

const ATTACH: u64 = 0x12;
const SOURCE: u64 = 0x28;
const TARGET: u64 = 0x29;
const COORDINATOR: u64 = 0x30;
const NAMES: &[(&str, u64)] = &[
    ("open", 0x10),
    ("begin", 0x11),
    ("attach", 0x12),
    ("flow", 0x13),
    ("transfer", 0x14),
    ("disposition", 0x15),
    ("detach", 0x16),
    ("end", 0x17),
    ("close", 0x18),
    ("error", 0x1d),
    ("received", 0x23),
    ("accepted", 0x24),
    ("rejected", 0x25),
    ("released", 0x26),
    ("modified", 0x27),
    ("source", 0x28),
    ("target", 0x29),
    ("coordinator", 0x30),
    ("sasl-mechanisms", 0x40),
    ("sasl-init", 0x41),
    ("sasl-challenge", 0x42),
    ("sasl-response", 0x43),
    ("sasl-outcome", 0x44),
    ("header", 0x70),
    ("delivery-annotations", 0x71),
    ("message-annotations", 0x72),
    ("properties", 0x73),
    ("application-properties", 0x74),
    ("data", 0x75),
    ("amqp-sequence", 0x76),
    ("amqp-value", 0x77),
    ("footer", 0x78),
];

impl Performative {
    /// Reads the performative at the start of a frame's body and leaves the reader at the payload.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let code = reader.descriptor()?;
        Ok(match code {
            0x14 => Self::Transfer(Transfer::decode(reader)?),
            0x13 => Self::Flow(Flow::decode(reader)?),
            0x15 => Self::Disposition(Disposition::decode(reader)?),
            0x10 => Self::Open(Box::new(Open::decode(reader)?)),
            0x11 => Self::Begin(Box::new(Begin::decode(reader)?)),
            ATTACH => Self::Attach(Box::new(Attach::decode(reader)?)),
            0x16 => Self::Detach(Detach::decode(reader)?),
            0x17 => Self::End(End {
                error: decode_error_only(reader)?,
            }),
            0x18 => Self::Close(Close {
                error: decode_error_only(reader)?,
            }),
            _ => return Err(DecodeError::UnknownPerformative),
        })
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Open(open) => open.encode(out),
            Self::Begin(begin) => begin.encode(out),
            Self::Attach(attach) => attach.encode(out),
            Self::Flow(flow) => flow.encode(out),
            Self::Transfer(transfer) => transfer.encode(out),
            Self::Disposition(disposition) => disposition.encode(out),
            Self::Detach(detach) => detach.encode(out),
            Self::End(end) => encode_error_only(out, 0x17, end.error.as_ref()),
            Self::Close(close) => encode_error_only(out, 0x18, close.error.as_ref()),
        }
    }

    /// Writes a whole frame without payload.
    pub(crate) fn encode_frame(&self, channel: u16, out: &mut BytesMut) {
        frame(channel, 0, out, |out| self.encode(out));
    }
}

/// Writes a frame header, what `body` writes, and a size that covers both and `payload` octets to
/// follow.
#[inline]
pub(crate) fn frame(
    channel: u16,
    payload: usize,
    out: &mut BytesMut,
    body: impl FnOnce(&mut BytesMut),
) {
    let start = out.len();
    let [high, low] = channel.to_be_bytes();
    out.put_slice(&[0, 0, 0, 0, 2, 0, high, low]);
    body(out);
    let size = (out.len() - start + payload) as u32;
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

impl Open {
    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut fields = Composite::new(reader)?;
        let open = Self {
            container_id: fields.required("container-id", Reader::string)?.to_owned(),
            hostname: fields.field(Reader::string)?.map(str::to_owned),
            max_frame_size: fields.field(Reader::uint)?.unwrap_or(u32::MAX),
            channel_max: fields.field(Reader::ushort)?.unwrap_or(u16::MAX),
            idle_time_out: fields
                .field(Reader::uint)?
                .filter(|&milliseconds| milliseconds > 0)
                .map(|milliseconds| Duration::from_millis(milliseconds.into())),
            outgoing_locales: fields.field(Reader::symbols)?.unwrap_or_default(),
            incoming_locales: fields.field(Reader::symbols)?.unwrap_or_default(),
            offered_capabilities: fields.field(Reader::symbols)?.unwrap_or_default(),
            desired_capabilities: fields.field(Reader::symbols)?.unwrap_or_default(),
            properties: fields.field(Fields::decode)?.unwrap_or_default(),
        };
        fields.finish()?;
        Ok(open)
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let idle = self.idle_time_out.map(milliseconds);
        ListWriter::new(out, 0x10)
            .put(|out| put_string(out, &self.container_id))
            .opt(self.hostname.as_deref(), put_string)
            .opt(
                (self.max_frame_size != u32::MAX).then_some(self.max_frame_size),
                put_uint,
            )
            .opt(
                (self.channel_max != u16::MAX).then_some(self.channel_max),
                put_ushort,
            )
            .opt(idle, put_uint)
            .symbols(&self.outgoing_locales)
            .symbols(&self.incoming_locales)
            .symbols(&self.offered_capabilities)
            .symbols(&self.desired_capabilities)
            .fields(&self.properties)
            .finish();
    }
}

impl Begin {
    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut fields = Composite::new(reader)?;
        let begin = Self {
            remote_channel: fields.field(Reader::ushort)?,
            next_outgoing_id: fields.required("next-outgoing-id", Reader::uint)?,
            incoming_window: fields.required("incoming-window", Reader::uint)?,
            outgoing_window: fields.required("outgoing-window", Reader::uint)?,
            handle_max: fields.field(Reader::uint)?.unwrap_or(u32::MAX),
            offered_capabilities: fields.field(Reader::symbols)?.unwrap_or_default(),
            desired_capabilities: fields.field(Reader::symbols)?.unwrap_or_default(),
            properties: fields.field(Fields::decode)?.unwrap_or_default(),
        };
        fields.finish()?;
        Ok(begin)
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        ListWriter::new(out, 0x11)
            .opt(self.remote_channel, put_ushort)
            .put(|out| put_uint(out, self.next_outgoing_id))
            .put(|out| put_uint(out, self.incoming_window))
            .put(|out| put_uint(out, self.outgoing_window))
            .opt(
                (self.handle_max != u32::MAX).then_some(self.handle_max),
                put_uint,
            )
            .symbols(&self.offered_capabilities)
            .symbols(&self.desired_capabilities)
            .fields(&self.properties)
            .finish();
    }
}

impl Attach {
    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        Self::decode_with(
            reader,
            |source| Source::decode(source).map(Some),
            |target| Target::decode(target).map(Some),
        )
    }

    /// The attach that a frame's body is but for its termini, which may be any values and are left
    /// out; none if it is no attach.
    pub(crate) fn decode_without_termini(body: &[u8]) -> Result<Option<Box<Self>>> {
        let mut reader = Reader::new(body);
        if reader.descriptor()? != ATTACH {
            return Ok(None);
        }
        let attach = Self::decode_with(
            &mut reader,
            |source| Value::decode(source).map(|_| None),
            |target| Value::decode(target).map(|_| None),
        )?;
        reader.end()?;
        Ok(Some(Box::new(attach)))
    }

    /// Kept apart from what decodes transfers, which is the hot path.
    #[inline(never)]
    fn decode_with<'a>(
        reader: &mut Reader<'a>,
        source: impl FnOnce(&mut Reader<'a>) -> Result<Option<Source>>,
        target: impl FnOnce(&mut Reader<'a>) -> Result<Option<Target>>,
    ) -> Result<Self> {
        let mut fields = Composite::new(reader)?;
        let attach = Self {
            name: fields.required("name", Reader::string)?.to_owned(),
            handle: fields.required("handle", Reader::uint)?,
            role: Role::from(fields.required("role", Reader::bool)?),
            snd_settle_mode: fields
                .field(|reader| match reader.ubyte()? {
                    0 => Ok(SenderSettleMode::Unsettled),
                    1 => Ok(SenderSettleMode::Settled),
                    2 => Ok(SenderSettleMode::Mixed),
                    _ => Err(DecodeError::InvalidField("snd-settle-mode")),
                })?
                .unwrap_or_default(),
            rcv_settle_mode: fields
                .field(ReceiverSettleMode::decode)?
                .unwrap_or_default(),
            source: fields.field(source)?.flatten(),
            target: fields.field(target)?.flatten(),
            unsettled: fields.field(decode_unsettled)?.unwrap_or_default(),
            incomplete_unsettled: fields.field(Reader::bool)?.unwrap_or(false),
            initial_delivery_count: fields.field(Reader::uint)?,
            max_message_size: fields.field(Reader::ulong)?,
            offered_capabilities: fields.field(Reader::symbols)?.unwrap_or_default(),
            desired_capabilities: fields.field(Reader::symbols)?.unwrap_or_default(),
            properties: fields.field(Fields::decode)?.unwrap_or_default(),
        };
        fields.finish()?;
        Ok(attach)
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        ListWriter::new(out, 0x12)
            .put(|out| put_string(out, &self.name))
            .put(|out| put_uint(out, self.handle))
            .put(|out| put_bool(out, self.role == Role::Receiver))
            .opt(
                (self.snd_settle_mode != SenderSettleMode::Mixed).then_some(self.snd_settle_mode),
                |out, mode| put_ubyte(out, mode as u8),
            )
            .opt(
                (self.rcv_settle_mode != ReceiverSettleMode::First).then_some(self.rcv_settle_mode),
                |out, mode| put_ubyte(out, mode as u8),
            )
            .opt(self.source.as_ref(), |out, source| source.encode(out))
            .opt(self.target.as_ref(), |out, target| target.encode(out))
            .opt(
                (!self.unsettled.is_empty()).then_some(&self.unsettled),
                |out, unsettled| {
                    encode_unsettled(out, unsettled);
                },
            )
            .opt(self.incomplete_unsettled.then_some(true), put_bool)
            .opt(self.initial_delivery_count, put_uint)
            .opt(self.max_message_size, put_ulong)
            .symbols(&self.offered_capabilities)
            .symbols(&self.desired_capabilities)
            .fields(&self.properties)
            .finish();
    }
}

fn decode_unsettled(reader: &mut Reader<'_>) -> Result<Vec<(DeliveryTag, Option<DeliveryState>)>> {
    let (mut body, pairs) = reader.map()?;
    let mut unsettled = Vec::new();
    for _ in 0..pairs {
        let tag = DeliveryTag::new(body.binary()?)?;
        let state = if body.null() {
            None
        } else {
            Some(DeliveryState::decode(&mut body)?)
        };
        unsettled.push((tag, state));
    }
    body.end()?;
    Ok(unsettled)
}

fn encode_unsettled(out: &mut BytesMut, unsettled: &[(DeliveryTag, Option<DeliveryState>)]) {
    crate::codec::write::put_map(out, unsettled.len(), |out| {
        for (tag, state) in unsettled {
            put_binary(out, tag.as_slice());
            match state {
                Some(state) => state.encode(out),
                None => out.put_u8(0x40),
            }
        }
    });
}

impl From<bool> for Role {
    fn from(receiver: bool) -> Self {
        if receiver {
            Self::Receiver
        } else {
            Self::Sender
        }
    }
}

impl ReceiverSettleMode {
    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        match reader.ubyte()? {
            0 => Ok(Self::First),
            1 => Ok(Self::Second),
            _ => Err(DecodeError::InvalidField("rcv-settle-mode")),
        }
    }
}

impl Flow {
    #[inline]
    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut fields = Composite::new(reader)?;
        let next_incoming_id = fields.field(Reader::uint)?;
        let incoming_window = fields.required("incoming-window", Reader::uint)?;
        let next_outgoing_id = fields.required("next-outgoing-id", Reader::uint)?;
        let outgoing_window = fields.required("outgoing-window", Reader::uint)?;
        let handle = fields.field(Reader::uint)?;
        let delivery_count = fields.field(Reader::uint)?;
        let link_credit = fields.field(Reader::uint)?;
        let available = fields.field(Reader::uint)?;
        let drain = fields.field(Reader::bool)?.unwrap_or(false);
        let echo = fields.field(Reader::bool)?.unwrap_or(false);
        let properties = fields.field(Fields::decode)?.unwrap_or_default();
        fields.finish()?;
        let link = handle.map(|handle| LinkFlow {
            handle,
            delivery_count,
            link_credit,
            available,
            drain,
        });
        Ok(Self {
            next_incoming_id,
            incoming_window,
            next_outgoing_id,
            outgoing_window,
            link,
            echo,
            properties,
        })
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let link = self.link.as_ref();
        ListWriter::new(out, 0x13)
            .opt(self.next_incoming_id, put_uint)
            .put(|out| put_uint(out, self.incoming_window))
            .put(|out| put_uint(out, self.next_outgoing_id))
            .put(|out| put_uint(out, self.outgoing_window))
            .opt(link.map(|link| link.handle), put_uint)
            .opt(link.and_then(|link| link.delivery_count), put_uint)
            .opt(link.and_then(|link| link.link_credit), put_uint)
            .opt(link.and_then(|link| link.available), put_uint)
            .opt(link.filter(|link| link.drain).map(|_| true), put_bool)
            .opt(self.echo.then_some(true), put_bool)
            .fields(&self.properties)
            .finish();
    }
}

impl Transfer {
    #[inline]
    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut fields = Composite::new(reader)?;
        let transfer = Self {
            handle: fields.required("handle", Reader::uint)?,
            delivery_id: fields.field(Reader::uint)?,
            delivery_tag: fields.field(|reader| DeliveryTag::new(reader.binary()?))?,
            message_format: fields.field(Reader::uint)?,
            settled: fields.field(Reader::bool)?,
            more: fields.field(Reader::bool)?.unwrap_or(false),
            rcv_settle_mode: fields.field(ReceiverSettleMode::decode)?,
            state: fields.field(DeliveryState::decode)?,
            resume: fields.field(Reader::bool)?.unwrap_or(false),
            aborted: fields.field(Reader::bool)?.unwrap_or(false),
            batchable: fields.field(Reader::bool)?.unwrap_or(false),
        };
        fields.finish()?;
        Ok(transfer)
    }

    #[inline]
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        ListWriter::new(out, 0x14)
            .put(|out| put_uint(out, self.handle))
            .opt(self.delivery_id, put_uint)
            .opt(self.delivery_tag.as_ref(), |out, tag| {
                put_binary(out, tag.as_slice())
            })
            .opt(self.message_format, put_uint)
            .opt(self.settled, put_bool)
            .opt(self.more.then_some(true), put_bool)
            .opt(self.rcv_settle_mode, |out, mode| put_ubyte(out, mode as u8))
            .opt(self.state.as_ref(), |out, state| state.encode(out))
            .opt(self.resume.then_some(true), put_bool)
            .opt(self.aborted.then_some(true), put_bool)
            .opt(self.batchable.then_some(true), put_bool)
            .finish();
    }

    /// Writes the frame up to its payload of `payload` octets.
    #[inline]
    pub(crate) fn encode_frame_head(&self, channel: u16, payload: usize, out: &mut BytesMut) {
        frame(channel, payload, out, |out| self.encode(out));
    }
}

impl Disposition {
    #[inline]
    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut fields = Composite::new(reader)?;
        let role = Role::from(fields.required("role", Reader::bool)?);
        let first = fields.required("first", Reader::uint)?;
        let disposition = Self {
            role,
            first,
            last: fields.field(Reader::uint)?.unwrap_or(first),
            settled: fields.field(Reader::bool)?.unwrap_or(false),
            state: fields.field(DeliveryState::decode)?,
            batchable: fields.field(Reader::bool)?.unwrap_or(false),
        };
        fields.finish()?;
        Ok(disposition)
    }

    #[inline]
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        ListWriter::new(out, 0x15)
            .put(|out| put_bool(out, self.role == Role::Receiver))
            .put(|out| put_uint(out, self.first))
            .opt((self.last != self.first).then_some(self.last), put_uint)
            .opt(self.settled.then_some(true), put_bool)
            .opt(self.state.as_ref(), |out, state| state.encode(out))
            .opt(self.batchable.then_some(true), put_bool)
            .finish();
    }
}

impl Detach {
    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut fields = Composite::new(reader)?;
        let detach = Self {
            handle: fields.required("handle", Reader::uint)?,
            closed: fields.field(Reader::bool)?.unwrap_or(false),
            error: fields.field(Error::decode)?,
        };
        fields.finish()?;
        Ok(detach)
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        ListWriter::new(out, 0x16)
            .put(|out| put_uint(out, self.handle))
            .opt(self.closed.then_some(true), put_bool)
            .opt(self.error.as_ref(), |out, error| error.encode(out))
            .finish();
    }
}

/// The one field of end and close.
fn decode_error_only(reader: &mut Reader<'_>) -> Result<Option<Error>> {
    let mut fields = Composite::new(reader)?;
    let error = fields.field(Error::decode)?;
    fields.finish()?;
    Ok(error)
}

fn encode_error_only(out: &mut BytesMut, descriptor: u8, error: Option<&Error>) {
    ListWriter::new(out, descriptor)
        .opt(error, |out, error| error.encode(out))
        .finish();
}

impl Error {
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        expect(reader, 0x1d, "error")?;
        let mut fields = Composite::new(reader)?;
        let error = Self {
            condition: Symbol::from(fields.required("condition", Reader::symbol)?),
            description: fields.field(Reader::string)?.map(str::to_owned),
            info: fields.field(Fields::decode)?.unwrap_or_default(),
        };
        fields.finish()?;
        Ok(error)
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        ListWriter::new(out, 0x1d)
            .put(|out| put_symbol(out, self.condition.as_str()))
            .opt(self.description.as_deref(), put_string)
            .fields(&self.info)
            .finish();
    }
}

impl Source {
    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        match reader.descriptor()? {
            SOURCE => {}
            other => return Err(other_terminus(other, "source")),
        }
        let mut fields = Composite::new(reader)?;
        let source = Self {
            address: fields.field(Reader::string)?.map(str::to_owned),
            durable: fields
                .field(TerminusDurability::decode)?
                .unwrap_or_default(),
            expiry_policy: fields.field(ExpiryPolicy::decode)?.unwrap_or_default(),
            timeout: fields.field(Reader::uint)?.map(seconds).unwrap_or_default(),
            dynamic: fields.field(Reader::bool)?.unwrap_or(false),
            dynamic_node_properties: fields.field(Fields::decode)?.unwrap_or_default(),
            distribution_mode: fields.field(Reader::symbol)?.map(Symbol::from),
            filter: fields.field(Fields::decode)?.unwrap_or_default(),
            default_outcome: fields.field(DeliveryState::decode)?,
            outcomes: fields.field(Reader::symbols)?.unwrap_or_default(),
            capabilities: fields.field(Reader::symbols)?.unwrap_or_default(),
        };
        fields.finish()?;
        Ok(source)
    }

    fn encode(&self, out: &mut BytesMut) {
        ListWriter::new(out, 0x28)
            .opt(self.address.as_deref(), put_string)
            .opt(self.durable.wire(), put_uint)
            .opt(self.expiry_policy.wire(), put_symbol)
            .opt(wire_seconds(self.timeout), put_uint)
            .opt(self.dynamic.then_some(true), put_bool)
            .fields(&self.dynamic_node_properties)
            .opt(self.distribution_mode.as_ref(), |out, mode| {
                put_symbol(out, mode.as_str())
            })
            .fields(&self.filter)
            .opt(self.default_outcome.as_ref(), |out, state| {
                state.encode(out)
            })
            .symbols(&self.outcomes)
            .symbols(&self.capabilities)
            .finish();
    }
}

impl Target {
    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        match reader.descriptor()? {
            TARGET => TargetNode::decode(reader).map(Self::Node),
            COORDINATOR => {
                let mut fields = Composite::new(reader)?;
                let capabilities = fields.field(Reader::symbols)?.unwrap_or_default();
                fields.finish()?;
                Ok(Self::Coordinator(Coordinator { capabilities }))
            }
            other => Err(other_terminus(other, "target")),
        }
    }

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Node(node) => node.encode(out),
            Self::Coordinator(coordinator) => {
                ListWriter::new(out, 0x30)
                    .symbols(&coordinator.capabilities)
                    .finish();
            }
        }
    }
}

impl TargetNode {
    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut fields = Composite::new(reader)?;
        let target = Self {
            address: fields.field(Reader::string)?.map(str::to_owned),
            durable: fields
                .field(TerminusDurability::decode)?
                .unwrap_or_default(),
            expiry_policy: fields.field(ExpiryPolicy::decode)?.unwrap_or_default(),
            timeout: fields.field(Reader::uint)?.map(seconds).unwrap_or_default(),
            dynamic: fields.field(Reader::bool)?.unwrap_or(false),
            dynamic_node_properties: fields.field(Fields::decode)?.unwrap_or_default(),
            capabilities: fields.field(Reader::symbols)?.unwrap_or_default(),
        };
        fields.finish()?;
        Ok(target)
    }

    fn encode(&self, out: &mut BytesMut) {
        ListWriter::new(out, 0x29)
            .opt(self.address.as_deref(), put_string)
            .opt(self.durable.wire(), put_uint)
            .opt(self.expiry_policy.wire(), put_symbol)
            .opt(wire_seconds(self.timeout), put_uint)
            .opt(self.dynamic.then_some(true), put_bool)
            .fields(&self.dynamic_node_properties)
            .symbols(&self.capabilities)
            .finish();
    }
}

impl TerminusDurability {
    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        match reader.uint()? {
            0 => Ok(Self::None),
            1 => Ok(Self::Configuration),
            2 => Ok(Self::UnsettledState),
            _ => Err(DecodeError::InvalidField("durable")),
        }
    }

    fn wire(self) -> Option<u32> {
        match self {
            Self::None => None,
            Self::Configuration => Some(1),
            Self::UnsettledState => Some(2),
        }
    }
}

impl ExpiryPolicy {
    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        match reader.symbol()? {
            "link-detach" => Ok(Self::LinkDetach),
            "session-end" => Ok(Self::SessionEnd),
            "connection-close" => Ok(Self::ConnectionClose),
            "never" => Ok(Self::Never),
            _ => Err(DecodeError::InvalidField("expiry-policy")),
        }
    }

    fn wire(self) -> Option<&'static str> {
        match self {
            Self::LinkDetach => Some("link-detach"),
            Self::SessionEnd => None,
            Self::ConnectionClose => Some("connection-close"),
            Self::Never => Some("never"),
        }
    }
}

/// What is wrong with a terminus of another type than that of its field.
fn other_terminus(descriptor: u64, field: &'static str) -> DecodeError {
    match descriptor {
        SOURCE | TARGET | COORDINATOR => DecodeError::WrongType(field),
        _ => DecodeError::UnknownTerminus(field),
    }
}

/// Takes the descriptor that a field's type must have.
fn expect(reader: &mut Reader<'_>, code: u64, name: &'static str) -> Result<()> {
    if reader.descriptor()? == code {
        Ok(())
    } else {
        Err(DecodeError::WrongType(name))
    }
}

fn seconds(wire: u32) -> Duration {
    Duration::from_secs(wire.into())
}

fn wire_seconds(timeout: Duration) -> Option<u32> {
    let seconds = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
    (seconds > 0).then_some(seconds)
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn put_ubyte(out: &mut BytesMut, n: u8) {
    out.put_slice(&[0x50, n]);
}

fn put_ushort(out: &mut BytesMut, n: u16) {
    out.put_u8(0x60);
    out.put_u16(n);
}
