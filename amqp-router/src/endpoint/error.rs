//! What peers do wrong, and the error conditions that tell them (AMQP 2.8.15–2.8.18).

use crate::codec::{DecodeError, Error, FrameError, SaslCode, condition};

/// Why a connection ended from our side.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("the peer did not open in time")]
    HandshakeTimeOut,
    #[error("the peer fell silent")]
    IdleTimeOut,
    #[error("the peer did not answer our close")]
    CloseTimeOut,
    #[error("the peer does not read: {0} bytes wait for it")]
    SlowReader(usize),
    #[error("the peer went away")]
    Eof,
    #[error("the peer's protocol header is not one we offer")]
    ProtocolHeader,
    #[error("SASL: {0}")]
    Sasl(&'static str),
    #[error("authentication failed: {0:?}")]
    Authentication(SaslCode),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("a frame of {size} bytes is larger than {max}")]
    FrameTooLarge { size: u32, max: u32 },
    #[error("a SASL frame where an AMQP frame was due")]
    UnexpectedSasl,
    #[error("channel {0} is higher than channel-max")]
    ChannelTooHigh(u16),
    #[error("handle {0} is higher than handle-max")]
    HandleTooHigh(u32),
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("{0}")]
    NotAllowed(&'static str),
    #[error("{0}")]
    InvalidField(&'static str),
    #[error("{0} exceeds our limit")]
    Limit(&'static str),
}

impl ConnectionError {
    fn condition(&self) -> &'static str {
        match self {
            Self::HandshakeTimeOut | Self::IdleTimeOut | Self::SlowReader(_) | Self::Limit(_) => {
                condition::RESOURCE_LIMIT_EXCEEDED
            }
            Self::CloseTimeOut | Self::Eof => condition::CONNECTION_FORCED,
            Self::ProtocolHeader
            | Self::Sasl(_)
            | Self::Frame(_)
            | Self::FrameTooLarge { .. }
            | Self::UnexpectedSasl
            | Self::ChannelTooHigh(_)
            | Self::HandleTooHigh(_) => condition::FRAMING_ERROR,
            Self::Authentication(_) => condition::UNAUTHORIZED_ACCESS,
            Self::Decode(error) => error.condition(),
            Self::NotAllowed(_) => condition::NOT_ALLOWED,
            Self::InvalidField(_) => condition::INVALID_FIELD,
        }
    }
}

/// Why a session was ended from our side.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum SessionError {
    #[error("a transfer arrived while the incoming window was shut")]
    WindowViolation,
    #[error("handle {0} is in use")]
    HandleInUse(u32),
    #[error("no link is attached to handle {0}")]
    UnattachedHandle(u32),
    #[error("the link on handle {0} was detached with an error")]
    ErrantLink(u32),
    #[error("{0}")]
    InvalidField(&'static str),
    #[error("{0} exceeds our limit")]
    Limit(&'static str),
    #[error("{0} does not fit the peer's max-frame-size")]
    FrameSizeTooSmall(&'static str),
}

impl SessionError {
    fn condition(&self) -> &'static str {
        match self {
            Self::WindowViolation => condition::WINDOW_VIOLATION,
            Self::HandleInUse(_) => condition::HANDLE_IN_USE,
            Self::UnattachedHandle(_) => condition::UNATTACHED_HANDLE,
            Self::ErrantLink(_) => condition::ERRANT_LINK,
            Self::InvalidField(_) => condition::INVALID_FIELD,
            Self::Limit(_) => condition::RESOURCE_LIMIT_EXCEEDED,
            Self::FrameSizeTooSmall(_) => condition::FRAME_SIZE_TOO_SMALL,
        }
    }
}

/// Why a link was detached from our side.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum LinkError {
    #[error("a delivery arrived without credit for it")]
    TransferLimitExceeded,
    #[error("the message is larger than {0} bytes")]
    MessageSizeExceeded(u64),
    #[error("another link with this name was attached")]
    Stolen,
    #[error("{0}")]
    NotAllowed(&'static str),
    #[error("{0}")]
    InvalidField(&'static str),
    #[error("{0} exceeds our limit")]
    Limit(&'static str),
}

impl LinkError {
    fn condition(&self) -> &'static str {
        match self {
            Self::TransferLimitExceeded => condition::TRANSFER_LIMIT_EXCEEDED,
            Self::MessageSizeExceeded(_) => condition::MESSAGE_SIZE_EXCEEDED,
            Self::Stolen => condition::STOLEN,
            Self::NotAllowed(_) => condition::NOT_ALLOWED,
            Self::InvalidField(_) => condition::INVALID_FIELD,
            Self::Limit(_) => condition::RESOURCE_LIMIT_EXCEEDED,
        }
    }
}

macro_rules! error_for_the_peer {
    ($($type:ty),*) => {
        $(impl From<&$type> for Error {
            fn from(error: &$type) -> Self {
                Self::new(error.condition(), error.to_string())
            }
        })*
    };
}

error_for_the_peer!(ConnectionError, SessionError, LinkError);

/// A broken rule and how much of the connection it costs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    Connection(ConnectionError),
    /// The session at this index.
    Session(u16, SessionError),
    /// The link at this index.
    Link(u32, LinkError),
}

impl<E: Into<ConnectionError>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Connection(error.into())
    }
}

/// Why a session or link could not be started.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum LimitReached {
    #[error("the peer has not opened the connection")]
    NotOpen,
    #[error("there are no more channels")]
    Channels,
    #[error("the session is not there any more")]
    NoSession,
    #[error("there are no more handles")]
    Handles,
    #[error("there are too many links")]
    Links,
    #[error("a link with this name and direction exists")]
    NameInUse,
    #[error("the attach does not fit the peer's max-frame-size")]
    FrameSize,
}

/// Why a delivery could not start: no credit, no window, or no link.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the link cannot start a delivery")]
pub(crate) struct NoCredit;
