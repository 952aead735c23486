use super::performative::condition;

/// Why bytes are not the AMQP they should be.
///
/// [`condition`](DecodeError::condition) says what to tell the peer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    #[error("the encoding ends in the middle of a value")]
    Truncated,
    #[error("unknown constructor 0x{0:02x}")]
    UnknownConstructor(u8),
    #[error("a size reaches past the end of what encloses it")]
    SizeBeyondEnd,
    #[error("a count is larger than its bytes can hold")]
    CountBeyondSize,
    #[error("bytes are left over inside a declared size")]
    TrailingBytes,
    #[error("values are nested more than 32 deep")]
    TooDeep,
    #[error("a map has a key without a value")]
    OddMapCount,
    #[error("a map holds the same key twice")]
    DuplicateKey,
    #[error("a map key has the wrong type")]
    WrongKeyType,
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    #[error("a symbol is not ASCII")]
    NonAsciiSymbol,
    #[error("0x{0:02x} is not a boolean")]
    InvalidBoolean(u8),
    #[error("0x{0:08x} is not a character")]
    InvalidChar(u32),
    #[error("mandatory field {0} is missing")]
    MissingField(&'static str),
    #[error("{0} has the wrong type")]
    WrongType(&'static str),
    #[error("{0} has a value that is not allowed")]
    InvalidField(&'static str),
    #[error("{0} is of an unknown type")]
    UnknownTerminus(&'static str),
    #[error("the delivery-tag is longer than 32 bytes")]
    DeliveryTagTooLong,
    #[error("the frame body is not a known performative")]
    UnknownPerformative,
    #[error("a message section is unknown, repeated or out of order")]
    UnexpectedSection,
    #[error("the message has no body")]
    NoBody,
}

impl DecodeError {
    /// The error condition to send to the peer (AMQP 2.8.15).
    pub fn condition(&self) -> &'static str {
        match self {
            Self::MissingField(_)
            | Self::WrongType(_)
            | Self::InvalidField(_)
            | Self::DeliveryTagTooLong => condition::INVALID_FIELD,
            Self::UnknownPerformative | Self::UnknownTerminus(_) => condition::NOT_IMPLEMENTED,
            _ => condition::DECODE_ERROR,
        }
    }
}
