//! Messages and their sections (AMQP 3.2).

use std::time::Duration;

use bytes::Bytes;

use super::{Fields, Symbol, Value};

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
