//! Transfers encoded once and patched before every write.

use super::code;
use super::encode::{TransferHead, transfer_head};

/// A run of messages in wire form, one behind the other, split into frames already. Only handle,
/// delivery-id, delivery-tag and the stamp in the body change from use to use.
#[derive(Debug)]
pub struct TransferBatch {
    bytes: Vec<u8>,
    messages: usize,
    message_len: usize,
    /// Where each frame of a message begins within it.
    frames: Vec<usize>,
    /// Where the stamp stands within a message.
    stamp: usize,
}

/// What tells one message from every other: it opens the body, so that a receiver can check order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The sending link, unique within a run.
    pub sender: u64,
    /// Counts that link's messages from 0.
    pub sequence: u64,
}

impl TransferBatch {
    /// Prepares up to `messages` messages with `size` octets of body (at least [`Stamp::LEN`]) in
    /// frames of at most `max_frame_size` octets (at least 512).
    pub fn new(size: usize, settled: bool, max_frame_size: usize, messages: usize) -> Self {
        assert!(size >= Stamp::LEN, "the body holds a stamp");
        let payload = message(size);
        let stamp_in_payload = payload.len() - size;
        let mut message = Vec::new();
        let mut frames = Vec::new();
        let mut rest = &payload[..];
        while !rest.is_empty() {
            let taken = rest.len().min(max_frame_size - HEAD_LEN);
            let (part, after) = rest.split_at(taken);
            frames.push(message.len());
            template_head(&mut message, settled, !after.is_empty(), taken);
            message.extend_from_slice(part);
            rest = after;
        }
        TransferBatch {
            bytes: message.repeat(messages),
            messages,
            message_len: message.len(),
            frames,
            stamp: HEAD_LEN + stamp_in_payload,
        }
    }

    /// Messages it has room for.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Transfer frames of one message.
    pub fn frames_per_message(&self) -> usize {
        self.frames.len()
    }

    /// Where frame `index` of the batch begins; for the index after the last, where it ends.
    pub fn offset(&self, index: usize) -> usize {
        let (message, frame) = (index / self.frames.len(), index % self.frames.len());
        message * self.message_len + self.frames[frame]
    }

    /// The encoded batch.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Makes message `index` of the batch the next delivery of a link. The tag is the stamp's
    /// sequence, unique on the link.
    pub fn patch(&mut self, index: usize, handle: u32, delivery_id: u32, stamp: Stamp) {
        let start = index * self.message_len;
        let message = &mut self.bytes[start..start + self.message_len];
        for &frame in &self.frames {
            let head = &mut message[frame..frame + HEAD_LEN];
            head[HANDLE..HANDLE + 4].copy_from_slice(&handle.to_be_bytes());
            head[DELIVERY_ID..DELIVERY_ID + 4].copy_from_slice(&delivery_id.to_be_bytes());
            head[TAG..TAG + 8].copy_from_slice(&stamp.sequence.to_be_bytes());
        }
        stamp.write(&mut message[self.stamp..]);
    }
}

impl Stamp {
    /// Octets of the body it takes.
    pub const LEN: usize = 16;

    fn write(self, body: &mut [u8]) {
        body[..8].copy_from_slice(&self.sender.to_be_bytes());
        body[8..16].copy_from_slice(&self.sequence.to_be_bytes());
    }

    /// The stamp of a body, and the filling after it.
    pub fn read(body: &[u8]) -> Option<(Stamp, &[u8])> {
        let (sender, rest) = body.split_first_chunk()?;
        let (sequence, filling) = rest.split_first_chunk()?;
        let stamp = Stamp {
            sender: u64::from_be_bytes(*sender),
            sequence: u64::from_be_bytes(*sequence),
        };
        Some((stamp, filling))
    }
}

/// The octets after the stamp in a body of `size` octets: a pattern whose period is prime, so that
/// a frame lost, doubled or misplaced shows.
pub fn filling(size: usize) -> impl Iterator<Item = u8> {
    (Stamp::LEN..size).map(|index| (index % 251) as u8)
}

/// A message of one data section (AMQP 3.2.6), its stamp still blank.
fn message(size: usize) -> Vec<u8> {
    let mut message = vec![0x00, 0x53, code::DATA];
    match u8::try_from(size) {
        Ok(len) => message.extend_from_slice(&[0xa0, len]),
        Err(_) => {
            let len = u32::try_from(size).expect("a body is shorter than 4 GiB");
            message.push(0xb0);
            message.extend_from_slice(&len.to_be_bytes());
        }
    }
    message.extend_from_slice(&[0; Stamp::LEN]);
    message.extend(filling(size));
    message
}

/// A head whose numbers take four octets each, whatever is patched into them.
fn template_head(out: &mut Vec<u8>, settled: bool, more: bool, payload: usize) {
    let start = out.len();
    let head = TransferHead {
        handle: u32::MAX,
        delivery_id: u32::MAX,
        delivery_tag: &[0; 8],
        message_format: 0,
        settled,
        more,
        aborted: false,
    };
    transfer_head(out, &head, payload);
    debug_assert_eq!(out.len() - start, HEAD_LEN);
}

/// Frame header 8, descriptor 3, list head 3, then handle 5, delivery-id 5, delivery-tag 10,
/// message-format, settled and more 1 each.
const HEAD_LEN: usize = 37;
const HANDLE: usize = 15;
const DELIVERY_ID: usize = 20;
const TAG: usize = 26;

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::wire::decode::{self, Frame};

    fn frames(batch: &TransferBatch, indices: Range<usize>) -> Vec<decode::Transfer<'_>> {
        indices
            .map(|index| {
                let bytes = &batch.bytes()[batch.offset(index)..batch.offset(index + 1)];
                assert_eq!(decode::frame_size(bytes, usize::MAX), Ok(Some(bytes.len())));
                match decode::frame(bytes) {
                    Ok((0, Frame::Transfer(transfer))) => transfer,
                    other => panic!("not a transfer: {other:?}"),
                }
            })
            .collect()
    }

    #[test]
    fn patched_messages_decode_as_what_was_patched_in() {
        let mut batch = TransferBatch::new(100, false, 512, 3);
        let stamp = Stamp {
            sender: 7,
            sequence: u64::MAX - 1,
        };
        batch.patch(1, 9, 0xfffffffe, stamp);
        let transfer = frames(&batch, 1..2)[0];
        assert_eq!(
            (transfer.handle, transfer.delivery_id),
            (9, Some(0xfffffffe))
        );
        assert_eq!(
            transfer.delivery_tag,
            Some(&(u64::MAX - 1).to_be_bytes()[..])
        );
        assert!(!transfer.settled && !transfer.more);
        let body = decode::data_section(transfer.payload).unwrap();
        assert_eq!(body.len(), 100);
        let (read, rest) = Stamp::read(body).unwrap();
        assert_eq!(read, stamp);
        assert!(rest.iter().copied().eq(filling(100)));
    }

    #[test]
    fn a_message_larger_than_a_frame_is_split() {
        let mut batch = TransferBatch::new(2_000, true, 512, 2);
        assert_eq!(batch.frames_per_message(), 5);
        batch.patch(
            1,
            1,
            2,
            Stamp {
                sender: 3,
                sequence: 4,
            },
        );
        let second = frames(&batch, 5..10);
        assert_eq!(
            second.iter().map(|t| t.more).collect::<Vec<_>>(),
            [true, true, true, true, false]
        );
        assert!(second.iter().all(|t| t.settled && t.delivery_id == Some(2)));
        let payload: Vec<u8> = second.iter().flat_map(|t| t.payload).copied().collect();
        let (stamp, rest) = Stamp::read(decode::data_section(&payload).unwrap()).unwrap();
        assert_eq!(
            stamp,
            Stamp {
                sender: 3,
                sequence: 4
            }
        );
        assert!(rest.iter().copied().eq(filling(2_000)));
    }

    #[test]
    fn no_frame_exceeds_the_limit() {
        for size in [16, 255, 256, 467, 468, 470, 475, 476, 5_000, 100_000] {
            for limit in [512, 1_000, 16_384] {
                let batch = TransferBatch::new(size, true, limit, 1);
                for frame in 0..batch.frames_per_message() {
                    let len = batch.offset(frame + 1) - batch.offset(frame);
                    assert!(len <= limit, "{size} in {limit}: frame of {len}");
                }
            }
        }
    }
}
