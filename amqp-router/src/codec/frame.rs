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

impl ProtocolHeader {
    /// The header of AMQP itself, version 1.0.0.
    pub const AMQP: Self = Self::of(ProtocolId::Amqp);
    /// The header of the SASL layer.
    pub const SASL: Self = Self::of(ProtocolId::Sasl);
    /// Octets of a header.
    pub const LEN: usize = 8;

    const fn of(id: ProtocolId) -> Self {
        Self {
            id,
            major: 1,
            minor: 0,
            revision: 0,
        }
    }

    /// Reads a header from eight octets.
    ///
    /// # Errors
    /// [`FrameError::NotAmqp`] if they do not start with `AMQP`.
    pub fn decode(octets: &[u8; Self::LEN]) -> Result<Self, FrameError> {
        let [b'A', b'M', b'Q', b'P', id, major, minor, revision] = *octets else {
            return Err(FrameError::NotAmqp);
        };
        let id = match id {
            0 => ProtocolId::Amqp,
            2 => ProtocolId::Tls,
            3 => ProtocolId::Sasl,
            other => ProtocolId::Other(other),
        };
        Ok(Self {
            id,
            major,
            minor,
            revision,
        })
    }

    /// The eight octets of the header.
    pub fn encode(self) -> [u8; Self::LEN] {
        let id = match self.id {
            ProtocolId::Amqp => 0,
            ProtocolId::Tls => 2,
            ProtocolId::Sasl => 3,
            ProtocolId::Other(id) => id,
        };
        [
            b'A',
            b'M',
            b'Q',
            b'P',
            id,
            self.major,
            self.minor,
            self.revision,
        ]
    }
}

impl FrameHeader {
    /// Octets of a frame header without extension.
    pub const LEN: usize = 8;

    /// Reads the header at the start of `bytes`; `None` if it is not there entirely.
    ///
    /// # Errors
    /// Whatever can be told to be wrong with the frame before its body is there.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some(&[s0, s1, s2, s3, doff, kind, c0, c1]) = bytes.first_chunk() else {
            return Ok(None);
        };
        let size = u32::from_be_bytes([s0, s1, s2, s3]);
        if size < 8 {
            return Err(FrameError::TooSmall(size));
        }
        if doff < 2 || u32::from(doff) * 4 > size {
            return Err(FrameError::BadDataOffset { doff, size });
        }
        let kind = match kind {
            0 => FrameKind::Amqp,
            1 => FrameKind::Sasl,
            other => return Err(FrameError::UnknownType(other)),
        };
        Ok(Some(Self {
            size,
            doff,
            kind,
            channel: u16::from_be_bytes([c0, c1]),
        }))
    }

    /// Where the body starts, in octets from the start of the frame.
    #[inline]
    pub fn body_start(&self) -> usize {
        usize::from(self.doff) * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_is_not_whole_yet_is_no_error() {
        assert_eq!(FrameHeader::decode(&[0, 0, 0, 8, 2, 0, 0]), Ok(None));
    }

    #[test]
    fn impossible_sizes_are_told_by_the_header_alone() {
        for size in 0..8 {
            let bytes = [0, 0, 0, size, 2, 0, 0, 0];
            assert_eq!(
                FrameHeader::decode(&bytes),
                Err(FrameError::TooSmall(size.into()))
            );
        }
        for (size, doff) in [(8, 0), (8, 1), (8, 3), (200, 51)] {
            let bytes = [0, 0, 0, size, doff, 0, 0, 0];
            let error = FrameError::BadDataOffset {
                doff,
                size: size.into(),
            };
            assert_eq!(FrameHeader::decode(&bytes), Err(error));
        }
        assert_eq!(
            FrameHeader::decode(&[0, 0, 0, 8, 2, 7, 0, 0]),
            Err(FrameError::UnknownType(7))
        );
    }

    #[test]
    fn a_protocol_header_round_trips() {
        for header in [ProtocolHeader::AMQP, ProtocolHeader::SASL] {
            assert_eq!(ProtocolHeader::decode(&header.encode()), Ok(header));
        }
        assert_eq!(
            ProtocolHeader::decode(b"GET / HT"),
            Err(FrameError::NotAmqp)
        );
    }
}
