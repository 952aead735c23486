use std::fmt;
use std::hash::{Hash, Hasher};

use super::DecodeError;

/// A delivery-tag: at most 32 bytes, kept inline (AMQP 2.8.6).
#[derive(Clone, Copy)]
pub struct DeliveryTag {
    len: u8,
    bytes: [u8; Self::MAX],
}

impl DeliveryTag {
    /// The longest tag the standard allows, in bytes.
    pub const MAX: usize = 32;

    /// # Errors
    /// [`DecodeError::DeliveryTagTooLong`] past 32 bytes.
    #[inline]
    pub fn new(tag: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = [0; Self::MAX];
        let Some(room) = bytes.get_mut(..tag.len()) else {
            return Err(DecodeError::DeliveryTagTooLong);
        };
        room.copy_from_slice(tag);
        Ok(Self {
            len: tag.len() as u8,
            bytes,
        })
    }

    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl From<u64> for DeliveryTag {
    /// The eight-byte tag that a counter gives.
    #[inline]
    fn from(counter: u64) -> Self {
        let mut bytes = [0; Self::MAX];
        bytes[..8].copy_from_slice(&counter.to_be_bytes());
        Self { len: 8, bytes }
    }
}

impl Default for DeliveryTag {
    fn default() -> Self {
        Self {
            len: 0,
            bytes: [0; Self::MAX],
        }
    }
}

impl AsRef<[u8]> for DeliveryTag {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for DeliveryTag {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for DeliveryTag {}

impl Hash for DeliveryTag {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl fmt::Debug for DeliveryTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeliveryTag(")?;
        self.as_slice()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}
