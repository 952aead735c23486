//! What peers do wrong, and the error conditions that tell them (AMQP 2.8.15–2.8.18).

use std::fmt;

use crate::codec::{DecodeError, Error, FrameError, ProtocolHeader, SaslCode, condition};

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
    #[error("memory is short, and {0} bytes of what the peer has sent wait for receivers")]
    HoldsMemory(usize),
    #[error("the peer went away")]
    Eof,
    /// What carries it is of no more use: an alert of TLS.
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the peer began with {0}")]
    ProtocolHeader(Beginning),
    #[error("the peer began without TLS, which requireEncryption or requireSsl demands here")]
    Unencrypted,
    #[error("SASL: {0}")]
    Sasl(&'static str),
    #[error("authentication failed{}", reason_of(*.0))]
    Authentication(SaslCode),
    #[error("SASL: the peer offers '{}', and we have '{ours}'", .offered.escape_debug())]
    NoMechanism { offered: String, ours: String },
    #[error("authentication by '{}' failed: the mechanism is not offered", .0.escape_debug())]
    Mechanism(String),
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
            Self::HandshakeTimeOut
            | Self::IdleTimeOut
            | Self::SlowReader(_)
            | Self::HoldsMemory(_)
            | Self::Limit(_) => condition::RESOURCE_LIMIT_EXCEEDED,
            Self::CloseTimeOut | Self::Eof | Self::Broken(_) => condition::CONNECTION_FORCED,
            Self::ProtocolHeader(_)
            | Self::Unencrypted
            | Self::Sasl(_)
            | Self::NoMechanism { .. }
            | Self::Frame(_)
            | Self::FrameTooLarge { .. }
            | Self::UnexpectedSasl
            | Self::ChannelTooHigh(_)
            | Self::HandleTooHigh(_) => condition::FRAMING_ERROR,
            Self::Authentication(_) | Self::Mechanism(_) => condition::UNAUTHORIZED_ACCESS,
            Self::Decode(error) => error.condition(),
            Self::NotAllowed(_) => condition::NOT_ALLOWED,
            Self::InvalidField(_) => condition::INVALID_FIELD,
        }
    }
}

/// What an outcome adds to that the login has failed.
fn reason_of(code: SaslCode) -> &'static str {
    match code {
        SaslCode::Ok | SaslCode::Auth => ": the name or the secret is not accepted",
        SaslCode::Sys => ", as something is wrong with the server",
        SaslCode::SysPerm => ", as something is wrong with the server that does not pass",
        SaslCode::SysTemp => ", as something is wrong with the server that may pass",
    }
}

/// What a peer sent where a protocol header was due that we offer (AMQP 2.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Beginning {
    octets: [u8; ProtocolHeader::LEN],
    len: usize,
}

impl Beginning {
    /// Of at most as many octets as a header has.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut octets = [0; ProtocolHeader::LEN];
        let len = bytes.len().min(octets.len());
        octets[..len].copy_from_slice(&bytes[..len]);
        Self { octets, len }
    }

    /// Whether it would do on a connection with other rules: AMQP itself, or SASL.
    pub(super) fn is_amqp(&self) -> bool {
        let known = [ProtocolHeader::AMQP, ProtocolHeader::SASL];
        known.iter().any(|header| header.encode() == self.octets)
    }
}

/// What an operator can make something of.
impl fmt::Display for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = &self.octets[..self.len];
        let is_http = |method: &&[u8]| seen.starts_with(method);
        match *seen {
            [22, 3, ..] => f.write_str("a TLS handshake, where none is expected (no sslProfile)"),
            [21, 3, ..] => f.write_str("an alert of TLS: it speaks TLS (no sslProfile here)"),
            _ if HTTP_METHODS.iter().any(is_http) => {
                f.write_str("an HTTP request, where AMQP is expected (no 'http: true')")
            }
            [b'A', b'M', b'Q', b'P', 0, 1, 0, 0] => f.write_str("AMQP without SASL"),
            [b'A', b'M', b'Q', b'P', 3, 1, 0, 0] => f.write_str("SASL, which is not offered here"),
            [b'A', b'M', b'Q', b'P', 2, 1, 0, 0] => {
                f.write_str("AMQP's own TLS header, which is not offered")
            }
            // 0-9-1 has its version behind a zero, and so had 0-9.
            [b'A', b'M', b'Q', b'P', 0, 0, minor, revision] => {
                write!(f, "AMQP 0-{minor}-{revision}, and not 1.0")
            }
            [b'A', b'M', b'Q', b'P', _, major, minor, _] => {
                write!(f, "AMQP {major}-{minor}, and not 1.0")
            }
            _ => {
                f.write_str("what is no AMQP header: 0x")?;
                seen.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }
    }
}

const HTTP_METHODS: [&[u8]; 7] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"OPTIONS",
    b"CONNECT ",
    b"PRI * HT",
];

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
    /// What is wrong with its source or target.
    #[error("{0}")]
    Terminus(DecodeError),
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
            Self::Terminus(error) => error.condition(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_instead_of_a_header_is_named() {
        for (octets, named) in [
            (&b"\x16\x03\x01\x02\x00\x01\x00\x01"[..], "a TLS handshake"),
            (b"\x16\x03", "a TLS handshake"),
            (b"GET / HT", "an HTTP request"),
            (b"OPTIONS ", "an HTTP request"),
            (b"PRI * HT", "an HTTP request"),
            (b"AMQP\0\x01\0\0", "AMQP without SASL"),
            (b"AMQP\x03\x01\0\0", "SASL, which is not offered"),
            (b"AMQP\x02\x01\0\0", "AMQP's own TLS header"),
            (b"AMQP\0\0\x09\x01", "AMQP 0-9-1, and not 1.0"),
            (b"AMQP\x01\x01\x09\x01", "AMQP 1-9, and not 1.0"),
            (b"SSH-2.0-", "what is no AMQP header: 0x5353482d322e302d"),
            (b"\r\n", "what is no AMQP header: 0x0d0a"),
        ] {
            let text = Beginning::of(octets).to_string();
            assert!(text.starts_with(named), "{octets:?}: {text}");
        }
    }
}
