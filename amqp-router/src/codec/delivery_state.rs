use bytes::{BufMut, BytesMut};

use super::read::{Composite, Reader};
use super::write::{ListWriter, put_bool, put_uint, put_ulong};
use super::{DecodeError, Error, Fields, Value};

/// The state of a delivery at one end (AMQP 3.4).
///
/// 16 bytes; only the rare states own memory.
#[derive(Clone, Debug, PartialEq)]
pub enum DeliveryState {
    /// How much of a message has arrived; not an outcome.
    Received {
        section_number: u32,
        section_offset: u64,
    },
    Accepted,
    Rejected(Option<Box<Error>>),
    Released,
    Modified(Box<Modified>),
    /// Any other described value, such as the transactional states, passed on as it came.
    Other(Box<Value>),
}

impl DeliveryState {
    /// Whether this is one of the four outcomes, which never change again (AMQP 3.4).
    ///
    /// `declared` (AMQP 4.5.5) is an outcome too and the only one among the others.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Accepted | Self::Rejected(_) | Self::Released | Self::Modified(_) => true,
            Self::Received { .. } => false,
            Self::Other(state) => state.descriptor_code() == Some(DECLARED),
        }
    }

    /// `rejected` for the given reason.
    pub fn rejected(error: Error) -> Self {
        Self::Rejected(Some(Box::new(error)))
    }

    /// `modified` with no annotations.
    pub fn modified(delivery_failed: bool, undeliverable_here: bool) -> Self {
        Self::Modified(Box::new(Modified {
            delivery_failed,
            undeliverable_here,
            message_annotations: Fields::default(),
        }))
    }
}

/// The outcome that asks for another attempt (AMQP 3.4.5).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Modified {
    pub delivery_failed: bool,
    pub undeliverable_here: bool,
    pub message_annotations: Fields,
}

const DECLARED: u64 = 0x33;
const _: () = assert!(size_of::<DeliveryState>() <= 24);

impl DeliveryState {
    /// Reads a state: a described list of one of the standard's descriptors, or any other
    /// described value, which is kept as it is.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut ahead = *reader;
        let Ok(code) = ahead.descriptor() else {
            return Self::decode_other(reader);
        };
        if !(RECEIVED..=MODIFIED).contains(&code) {
            return Self::decode_other(reader);
        }
        let mut fields = Composite::new(&mut ahead)?;
        let state = match code {
            RECEIVED => Self::Received {
                section_number: fields.required("section-number", Reader::uint)?,
                section_offset: fields.required("section-offset", Reader::ulong)?,
            },
            ACCEPTED => Self::Accepted,
            REJECTED => Self::Rejected(fields.field(Error::decode)?.map(Box::new)),
            RELEASED => Self::Released,
            _ => Self::Modified(Box::new(Modified {
                delivery_failed: fields.field(Reader::bool)?.unwrap_or(false),
                undeliverable_here: fields.field(Reader::bool)?.unwrap_or(false),
                message_annotations: fields.field(Fields::decode)?.unwrap_or_default(),
            })),
        };
        fields.finish()?;
        *reader = ahead;
        Ok(state)
    }

    fn decode_other(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Value::decode(reader)? {
            value @ Value::Described(_) => Ok(Self::Other(Box::new(value))),
            _ => Err(DecodeError::WrongType("delivery-state")),
        }
    }

    #[inline]
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Accepted => out.put_slice(&[0x00, 0x53, ACCEPTED as u8, 0x45]),
            Self::Released => out.put_slice(&[0x00, 0x53, RELEASED as u8, 0x45]),
            Self::Received {
                section_number,
                section_offset,
            } => {
                ListWriter::new(out, RECEIVED as u8)
                    .put(|out| put_uint(out, *section_number))
                    .put(|out| put_ulong(out, *section_offset))
                    .finish();
            }
            Self::Rejected(error) => ListWriter::new(out, REJECTED as u8)
                .opt(error.as_ref(), |out, error| error.encode(out))
                .finish(),
            Self::Modified(modified) => ListWriter::new(out, MODIFIED as u8)
                .opt(modified.delivery_failed.then_some(true), put_bool)
                .opt(modified.undeliverable_here.then_some(true), put_bool)
                .fields(&modified.message_annotations)
                .finish(),
            Self::Other(value) => value.encode(out),
        }
    }
}

const RECEIVED: u64 = 0x23;
const ACCEPTED: u64 = 0x24;
const REJECTED: u64 = 0x25;
const RELEASED: u64 = 0x26;
const MODIFIED: u64 = 0x27;
