//! Checks what a receiving link gets: content whole, order kept, nothing twice.

use std::collections::HashMap;

use crate::wire::decode::{DecodeError, data_section};
use crate::wire::template::{Stamp, filling};

/// The messages of one receiving link.
#[derive(Debug)]
pub struct Verifier {
    filling: Vec<u8>,
    /// The sequence expected next, by sending link.
    next: HashMap<u64, u64>,
    missing: u64,
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// It is no AMQP message with a data section.
    #[error("no readable body: {0}")]
    Message(#[from] DecodeError),
    /// Its body is not what was sent.
    #[error("message {sequence} of sender {sender} has a damaged body of {len} octets")]
    Body {
        /// The sending link.
        sender: u64,
        /// Its message.
        sequence: u64,
        /// The length it came with.
        len: usize,
    },
    /// It is too short for a stamp.
    #[error("a body of {0} octets holds no stamp")]
    Short(usize),
    /// It came twice, or after a later one.
    #[error("message {sequence} of sender {sender} came when {expected} was next")]
    Order {
        /// The sending link.
        sender: u64,
        /// Its message.
        sequence: u64,
        /// What was due.
        expected: u64,
    },
}

impl Verifier {
    /// For messages with `size` octets of body.
    pub fn new(size: usize) -> Self {
        Verifier {
            filling: filling(size).collect(),
            next: HashMap::new(),
            missing: 0,
        }
    }

    /// Messages skipped so far: dropped on the way, or gone to another receiver.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Checks one whole message.
    pub fn check(&mut self, message: &[u8]) -> Result<(), VerifyError> {
        let body = data_section(message)?;
        let (stamp, rest) = Stamp::read(body).ok_or(VerifyError::Short(body.len()))?;
        let Stamp { sender, sequence } = stamp;
        if rest != self.filling {
            return Err(VerifyError::Body {
                sender,
                sequence,
                len: body.len(),
            });
        }
        let next = self.next.entry(sender).or_insert(0);
        if sequence < *next {
            return Err(VerifyError::Order {
                sender,
                sequence,
                expected: *next,
            });
        }
        self.missing += sequence - *next;
        *next = sequence + 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::decode::{Frame, frame};
    use crate::wire::template::TransferBatch;

    fn message(size: usize, sequence: u64) -> Vec<u8> {
        let mut batch = TransferBatch::new(size, true, 65_536, 1);
        batch.patch(
            0,
            0,
            0,
            Stamp {
                sender: 1,
                sequence,
            },
        );
        let Ok((_, Frame::Transfer(transfer))) = frame(batch.bytes()) else {
            panic!("one frame")
        };
        transfer.payload.to_vec()
    }

    #[test]
    fn messages_in_order_are_fine_and_gaps_are_counted() {
        let mut verifier = Verifier::new(100);
        for sequence in [0, 1, 2, 5] {
            verifier.check(&message(100, sequence)).unwrap();
        }
        assert_eq!(verifier.missing(), 2);
    }

    #[test]
    fn a_message_twice_is_an_error() {
        let mut verifier = Verifier::new(100);
        verifier.check(&message(100, 3)).unwrap();
        let error = verifier.check(&message(100, 3));
        assert_eq!(
            error,
            Err(VerifyError::Order {
                sender: 1,
                sequence: 3,
                expected: 4
            })
        );
    }

    #[test]
    fn a_damaged_message_is_an_error() {
        let mut damaged = message(100, 0);
        *damaged.last_mut().unwrap() ^= 1;
        let error = Verifier::new(100).check(&damaged);
        assert_eq!(
            error,
            Err(VerifyError::Body {
                sender: 1,
                sequence: 0,
                len: 100
            })
        );
        assert!(Verifier::new(200).check(&message(100, 0)).is_err());
    }
}
