//! What comes before the performatives: protocol headers and frame headers (AMQP 2.2, 2.3).

/// `AMQP` id major minor revision, 8 bytes (AMQP 2.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProtocolHeader {
    pub id: ProtocolId,
    pub major: u8,
    pub minor: u8,
    pub revision: u8,
}

/// The layer that a protocol header opens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProtocolId {
    Amqp,
    Tls,
    Sasl,
    /// An id the standard does not know.
    Other(u8),
}

/// The fixed part of a frame, 8 bytes (AMQP 2.3.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameHeader {
    /// The whole frame in bytes, this header included.
    pub size: u32,
    /// Where the body starts, in units of 4 bytes, at least 2.
    pub doff: u8,
    pub kind: FrameKind,
    /// Meaningless in SASL frames.
    pub channel: u16,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameKind {
    Amqp,
    Sasl,
}

/// What is wrong with a frame, told by its header alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameError {
    #[error("bytes are not an AMQP protocol header")]
    NotAmqp,
    #[error("a frame of {0} bytes is smaller than its header")]
    TooSmall(u32),
    #[error("data offset {doff} does not fit a frame of {size} bytes")]
    BadDataOffset { doff: u8, size: u32 },
    #[error("unknown frame type 0x{0:02x}")]
    UnknownType(u8),
}
