//! Messages and their sections (AMQP 3.2).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::read::{Composite, Reader};
use super::write::{
    ListWriter, put_binary, put_bool, put_list, put_map, put_string, put_symbol, put_uint,
    put_ulong,
};
use super::{DecodeError, Fields, Symbol, Value, view};

/// A whole message, owned and decoded: for what a router says itself, never for what it forwards.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub header: Option<Header>,
    pub delivery_annotations: Fields,
    pub message_annotations: Fields,
    pub properties: Option<Properties>,
    pub application_properties: Vec<(String, Value)>,
    pub body: Body,
    pub footer: Fields,
}

/// The body of a message: data sections, sequence sections or one value (AMQP 3.2.6–3.2.8).
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Data(Vec<Bytes>),
    Sequence(Vec<Vec<Value>>),
    Value(Value),
}

/// Transfer headers (AMQP 3.2.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    pub durable: bool,
    pub priority: u8,
    pub ttl: Option<Duration>,
    pub first_acquirer: bool,
    pub delivery_count: u32,
}

/// The immutable properties of a message (AMQP 3.2.4).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    pub message_id: Option<MessageId>,
    pub user_id: Option<Bytes>,
    pub to: Option<String>,
    pub subject: Option<String>,
    pub reply_to: Option<String>,
    pub correlation_id: Option<MessageId>,
    pub content_type: Option<Symbol>,
    pub content_encoding: Option<Symbol>,
    /// Milliseconds since 1970 UTC.
    pub absolute_expiry_time: Option<i64>,
    /// Milliseconds since 1970 UTC.
    pub creation_time: Option<i64>,
    pub group_id: Option<String>,
    pub group_sequence: Option<u32>,
    pub reply_to_group_id: Option<String>,
}

/// The four forms of message-id and correlation-id (AMQP 3.2.11–3.2.14).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum MessageId {
    Ulong(u64),
    Uuid([u8; 16]),
    Binary(Bytes),
    String(String),
}

impl Default for Body {
    fn default() -> Self {
        Self::Value(Value::Null)
    }
}

impl Default for Header {
    fn default() -> Self {
        Self {
            durable: false,
            priority: 4,
            ttl: None,
            first_acquirer: false,
            delivery_count: 0,
        }
    }
}

impl Message {
    /// A message whose body is one value.
    pub fn of_value(value: impl Into<Value>) -> Self {
        Self {
            body: Body::Value(value.into()),
            ..Self::default()
        }
    }

    /// A message whose body is octets.
    pub fn of_data(data: impl Into<Bytes>) -> Self {
        Self {
            body: Body::Data(vec![data.into()]),
            ..Self::default()
        }
    }

    /// The value of an application property.
    pub fn application_property(&self, key: &str) -> Option<&Value> {
        self.application_properties
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value)
    }

    /// The octets of the message (AMQP 3.2).
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        if let Some(header) = &self.header {
            header.encode(&mut out);
        }
        put_annotations(
            &mut out,
            view::DELIVERY_ANNOTATIONS,
            &self.delivery_annotations,
        );
        put_annotations(
            &mut out,
            view::MESSAGE_ANNOTATIONS,
            &self.message_annotations,
        );
        if let Some(properties) = &self.properties {
            properties.encode(&mut out);
        }
        if !self.application_properties.is_empty() {
            put_section(&mut out, view::APPLICATION_PROPERTIES);
            put_map(&mut out, self.application_properties.len(), |out| {
                for (key, value) in &self.application_properties {
                    put_string(out, key);
                    value.encode(out);
                }
            });
        }
        self.body.encode(&mut out);
        put_annotations(&mut out, view::FOOTER, &self.footer);
        out.freeze()
    }

    /// Reads a whole message.
    ///
    /// # Errors
    /// If its sections are not those of AMQP 3.2, in that order, or one is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match Self::decode_sections(bytes)? {
            (message, true) => Ok(message),
            (_, false) => Err(DecodeError::NoBody),
        }
    }

    /// The same, where a body that is not there is as good as null: some clients leave it out if
    /// they have nothing to say, though AMQP 3.2 wants one.
    pub(crate) fn decode_bodiless(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self::decode_sections(bytes)?.0)
    }

    /// Reads a message, and whether it has a body.
    fn decode_sections(bytes: &[u8]) -> Result<(Self, bool), DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut message = Self::default();
        let mut body: Option<Body> = None;
        let mut last = 0;
        while !reader.is_empty() {
            let at_start = reader.position() == 0;
            let code = view::section(&mut reader)?;
            if code == view::ROUTER_ANNOTATIONS && at_start {
                reader.skip()?;
                continue;
            }
            let repeats = matches!(code, view::DATA | view::SEQUENCE) && code == last;
            if !(view::HEADER..=view::FOOTER).contains(&code) || (code <= last && !repeats) {
                return Err(DecodeError::UnexpectedSection);
            }
            last = code;
            match code {
                view::HEADER => message.header = Some(Header::decode(&mut reader)?),
                view::DELIVERY_ANNOTATIONS => {
                    message.delivery_annotations = view::annotations(&mut reader)?;
                }
                view::MESSAGE_ANNOTATIONS => {
                    message.message_annotations = view::annotations(&mut reader)?;
                }
                view::PROPERTIES => message.properties = Some(Properties::decode(&mut reader)?),
                view::APPLICATION_PROPERTIES => {
                    message.application_properties = decode_application_properties(&mut reader)?;
                }
                view::FOOTER => message.footer = view::annotations(&mut reader)?,
                _ => body = Some(Body::decode(&mut reader, code, body)?),
            }
        }
        let has_body = body.is_some();
        message.body = body.unwrap_or(Body::Value(Value::Null));
        Ok((message, has_body))
    }
}

impl Body {
    /// Reads a body section that may follow others of its kind.
    fn decode(
        reader: &mut Reader<'_>,
        code: u64,
        before: Option<Self>,
    ) -> Result<Self, DecodeError> {
        match (code, before) {
            (view::DATA, before) => {
                let data = Bytes::copy_from_slice(reader.binary()?);
                match before {
                    None => Ok(Self::Data(vec![data])),
                    Some(Self::Data(mut sections)) => {
                        sections.push(data);
                        Ok(Self::Data(sections))
                    }
                    Some(_) => Err(DecodeError::UnexpectedSection),
                }
            }
            (view::SEQUENCE, before) => {
                let Value::List(values) = view::value(reader)? else {
                    return Err(DecodeError::WrongType("amqp-sequence"));
                };
                match before {
                    None => Ok(Self::Sequence(vec![values])),
                    Some(Self::Sequence(mut sections)) => {
                        sections.push(values);
                        Ok(Self::Sequence(sections))
                    }
                    Some(_) => Err(DecodeError::UnexpectedSection),
                }
            }
            (_, None) => Ok(Self::Value(view::value(reader)?)),
            (_, Some(_)) => Err(DecodeError::UnexpectedSection),
        }
    }

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Data(sections) => {
                for data in sections {
                    put_section(out, view::DATA);
                    put_binary(out, data);
                }
            }
            Self::Sequence(sections) => {
                for values in sections {
                    put_section(out, view::SEQUENCE);
                    put_list(out, values.len(), |out| {
                        values.iter().for_each(|value| value.encode(out));
                    });
                }
            }
            Self::Value(value) => {
                put_section(out, view::VALUE);
                value.encode(out);
            }
        }
    }
}

impl Header {
    /// Reads the list of a header section.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut fields = Composite::new(reader)?;
        let default = Self::default();
        let header = Self {
            durable: fields.field(Reader::bool)?.unwrap_or(default.durable),
            priority: fields.field(Reader::ubyte)?.unwrap_or(default.priority),
            ttl: fields
                .field(Reader::uint)?
                .map(|ms| Duration::from_millis(ms.into())),
            first_acquirer: fields
                .field(Reader::bool)?
                .unwrap_or(default.first_acquirer),
            delivery_count: fields
                .field(Reader::uint)?
                .unwrap_or(default.delivery_count),
        };
        fields.finish()?;
        Ok(header)
    }

    /// Reads what forwarding goes by, in a list whose fields have other types than the standard's:
    /// numbers of any width. Whatever else is there says nothing.
    pub(super) fn decode_loosely(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut fields = Composite::new(reader)?;
        let mut next = || fields.field(Value::decode).map(Option::unwrap_or_default);
        let _durable = next()?;
        let (priority, ttl) = (next()?.as_u64(), next()?.as_u64());
        fields.finish()?;
        let default = Self::default();
        Ok(Self {
            priority: priority.map_or(default.priority, |n| u8::try_from(n).unwrap_or(u8::MAX)),
            ttl: ttl.map(|ms| Duration::from_millis(ms.min(u32::MAX.into()))),
            ..default
        })
    }

    /// Writes the whole section.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let ttl = self
            .ttl
            .map(|ttl| u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX));
        ListWriter::new(out, view::HEADER as u8)
            .opt(self.durable.then_some(true), put_bool)
            .opt(
                (self.priority != 4).then_some(self.priority),
                |out, priority| {
                    out.put_slice(&[0x50, priority]);
                },
            )
            .opt(ttl, put_uint)
            .opt(self.first_acquirer.then_some(true), put_bool)
            .opt(
                (self.delivery_count > 0).then_some(self.delivery_count),
                put_uint,
            )
            .finish();
    }
}

impl Properties {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut fields = Composite::new(reader)?;
        let text = |text: &str| text.to_owned();
        let properties = Self {
            message_id: fields.field(MessageId::decode)?,
            user_id: fields.field(Reader::binary)?.map(Bytes::copy_from_slice),
            to: fields.field(Reader::string)?.map(text),
            subject: fields.field(Reader::string)?.map(text),
            reply_to: fields.field(Reader::string)?.map(text),
            correlation_id: fields.field(MessageId::decode)?,
            content_type: fields.field(Reader::symbol)?.map(Symbol::from),
            content_encoding: fields.field(Reader::symbol)?.map(Symbol::from),
            absolute_expiry_time: fields.field(Reader::timestamp)?,
            creation_time: fields.field(Reader::timestamp)?,
            group_id: fields.field(Reader::string)?.map(text),
            group_sequence: fields.field(Reader::uint)?,
            reply_to_group_id: fields.field(Reader::string)?.map(text),
        };
        fields.finish()?;
        Ok(properties)
    }

    fn encode(&self, out: &mut BytesMut) {
        ListWriter::new(out, view::PROPERTIES as u8)
            .opt(self.message_id.as_ref(), |out, id| id.encode(out))
            .opt(self.user_id.as_deref(), put_binary)
            .opt(self.to.as_deref(), put_string)
            .opt(self.subject.as_deref(), put_string)
            .opt(self.reply_to.as_deref(), put_string)
            .opt(self.correlation_id.as_ref(), |out, id| id.encode(out))
            .opt(self.content_type.as_ref(), |out, symbol| {
                put_symbol(out, symbol.as_str())
            })
            .opt(self.content_encoding.as_ref(), |out, symbol| {
                put_symbol(out, symbol.as_str())
            })
            .opt(self.absolute_expiry_time, put_timestamp)
            .opt(self.creation_time, put_timestamp)
            .opt(self.group_id.as_deref(), put_string)
            .opt(self.group_sequence, put_uint)
            .opt(self.reply_to_group_id.as_deref(), put_string)
            .finish();
    }
}

impl MessageId {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match view::value(reader)? {
            Value::Ulong(id) => Ok(Self::Ulong(id)),
            Value::Uuid(id) => Ok(Self::Uuid(id)),
            Value::Binary(id) => Ok(Self::Binary(id)),
            Value::String(id) => Ok(Self::String(id)),
            _ => Err(DecodeError::WrongType("message-id")),
        }
    }

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Ulong(id) => put_ulong(out, *id),
            Self::Uuid(id) => Value::Uuid(*id).encode(out),
            Self::Binary(id) => put_binary(out, id),
            Self::String(id) => put_string(out, id),
        }
    }
}

impl From<&str> for MessageId {
    fn from(id: &str) -> Self {
        Self::String(id.to_owned())
    }
}

impl From<u64> for MessageId {
    fn from(id: u64) -> Self {
        Self::Ulong(id)
    }
}

fn decode_application_properties(
    reader: &mut Reader<'_>,
) -> Result<Vec<(String, Value)>, DecodeError> {
    let (mut body, pairs) = reader.map()?;
    let mut properties = Vec::new();
    for _ in 0..pairs {
        // Peers are known to send symbols for keys, though the standard says strings (AMQP 3.2.5).
        let Some(key) = view::value(&mut body)?.as_str().map(str::to_owned) else {
            return Err(DecodeError::WrongKeyType);
        };
        properties.push((key, view::value(&mut body)?));
    }
    Ok(properties)
}

fn put_section(out: &mut BytesMut, code: u64) {
    out.put_slice(&[0x00, 0x53, code as u8]);
}

fn put_annotations(out: &mut BytesMut, code: u64, annotations: &Fields) {
    if !annotations.is_empty() {
        put_section(out, code);
        annotations.encode(out);
    }
}

fn put_timestamp(out: &mut BytesMut, milliseconds: i64) {
    Value::Timestamp(milliseconds).encode(out);
}
