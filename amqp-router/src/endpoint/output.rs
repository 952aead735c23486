use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Bytes on their way to the socket: frame heads and small payloads copied together, large
/// payloads by reference.
///
/// It holds no memory once it has been drained.
#[derive(Debug, Default)]
pub(crate) struct OutBuf {
    /// Complete pieces that leave before `inline`.
    segments: VecDeque<Bytes>,
    /// Bytes in `segments`.
    queued: usize,
    /// The piece that is still growing.
    inline: BytesMut,
    /// Of the segments, the first so many keep nothing else alive.
    owned: usize,
    /// How much was inline when the buffer was last drained: the room to start with next time.
    usual: usize,
    /// Bytes that have ever reached the socket.
    written: u64,
}

impl OutBuf {
    /// Payloads up to this many bytes are copied, as that is cheaper than one more `iovec`.
    pub(super) const COPY_MAX: usize = 4096;

    /// Bytes that wait to be written.
    pub(crate) fn len(&self) -> usize {
        self.queued + self.inline.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `iovecs` with what is to be written next; returns how many were filled.
    pub(crate) fn iovecs<'a>(&'a self, iovecs: &mut [IoSlice<'a>]) -> usize {
        let inline = Some(&self.inline[..]).filter(|inline| !inline.is_empty());
        let pieces = self.segments.iter().map(|segment| &segment[..]);
        let mut filled = 0;
        for (iovec, piece) in iovecs.iter_mut().zip(pieces.chain(inline)) {
            *iovec = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// Forgets the first `written` bytes, which have reached the socket.
    ///
    /// # Panics
    /// When that is more than there is.
    pub(crate) fn advance(&mut self, mut written: usize) {
        assert!(written <= self.len(), "more written than was queued");
        self.written += written as u64;
        while let Some(segment) = self.segments.front_mut() {
            if written < segment.len() {
                segment.advance(written);
                self.queued -= written;
                return;
            }
            written -= segment.len();
            self.queued -= segment.len();
            self.segments.pop_front();
            self.owned = self.owned.saturating_sub(1);
        }
        self.usual = self.usual.max(self.inline.len());
        self.inline.advance(written);
        if self.inline.is_empty() {
            self.inline = BytesMut::new();
            self.segments = VecDeque::new();
        }
    }

    /// Copies what refers to larger buffers, so that it does not keep them alive; what has been
    /// copied is not copied again.
    pub(crate) fn own(&mut self) {
        for segment in self.segments.iter_mut().skip(self.owned) {
            if segment.len() <= Self::OWN_MAX {
                *segment = Bytes::copy_from_slice(segment);
            }
        }
        self.owned = self.segments.len();
    }

    /// Forgets everything that was not written yet.
    pub(super) fn clear(&mut self) {
        *self = Self {
            written: self.written,
            ..Self::default()
        };
    }

    /// Bytes that have ever reached the socket.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Where the next frame head is to be written.
    #[inline]
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        if self.inline.capacity() == 0 {
            self.start_inline();
        }
        &mut self.inline
    }

    /// Appends the payload of the frame whose head was written last.
    #[inline]
    pub(crate) fn push_payload(&mut self, payload: Bytes) {
        if payload.len() <= Self::COPY_MAX {
            self.tail().extend_from_slice(&payload);
        } else {
            self.push_segment(payload);
        }
    }

    fn push_segment(&mut self, payload: Bytes) {
        if !self.inline.is_empty() {
            let head = self.inline.split().freeze();
            self.queued += head.len();
            self.segments.push_back(head);
        }
        self.queued += payload.len();
        self.segments.push_back(payload);
    }

    fn start_inline(&mut self) {
        let room = self.usual.clamp(Self::INLINE_MIN, Self::INLINE_MAX);
        self.usual /= 2;
        self.inline.reserve(room);
    }

    /// Larger pieces are not a small part of anything.
    const OWN_MAX: usize = 64 * 1024;
    const INLINE_MIN: usize = 256;
    const INLINE_MAX: usize = 64 * 1024;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything in `out`, written `step` bytes at a time.
    fn drain(out: &mut OutBuf, step: usize) -> Vec<u8> {
        let mut written = Vec::new();
        while !out.is_empty() {
            let mut iovecs = [IoSlice::new(&[]); 2];
            let filled = out.iovecs(&mut iovecs);
            let bytes: Vec<u8> = iovecs[..filled].iter().flat_map(|v| v.to_vec()).collect();
            let count = step.min(bytes.len());
            written.extend_from_slice(&bytes[..count]);
            out.advance(count);
        }
        written
    }

    #[test]
    fn heads_and_payloads_leave_in_order() {
        for step in [1, 7, 1000, usize::MAX] {
            let (mut out, mut expected) = (OutBuf::default(), Vec::new());
            for size in [0, 10, 4096, 4097, 5000, 3] {
                let payload = vec![b'p'; size];
                out.tail().extend_from_slice(b"head");
                out.push_payload(payload.clone().into());
                expected.extend_from_slice(b"head");
                expected.extend_from_slice(&payload);
            }
            assert_eq!(out.len(), expected.len());
            assert_eq!(drain(&mut out, step), expected);
        }
    }

    #[test]
    fn large_payloads_are_not_copied() {
        let payload = Bytes::from(vec![1; 8192]);
        let mut out = OutBuf::default();
        out.tail().extend_from_slice(b"head");
        out.push_payload(payload.clone());
        assert_eq!(out.segments[1].as_ptr(), payload.as_ptr());
    }

    #[test]
    fn what_waits_is_copied_once() {
        let mut out = OutBuf::default();
        let read = Bytes::from(vec![7; 20_000]);
        out.push_payload(read.slice(..5000));
        out.own();
        let copied = out.segments[0].as_ptr();
        assert_ne!(copied, read.as_ptr());
        out.push_payload(read.slice(5000..10_000));
        out.own();
        assert_eq!(out.segments[0].as_ptr(), copied);
        out.advance(5000);
        out.push_payload(read.slice(10_000..));
        out.own();
        assert!(
            out.segments
                .iter()
                .all(|s| !read.as_ptr_range().contains(&s.as_ptr()))
        );
        assert_eq!(drain(&mut out, 999), vec![7; 15_000]);
    }

    #[test]
    fn a_drained_buffer_holds_no_memory() {
        let mut out = OutBuf::default();
        out.tail().extend_from_slice(&[0; 9000]);
        out.push_payload(vec![0; 9000].into());
        out.tail().extend_from_slice(&[0; 9000]);
        out.advance(27_000);
        assert_eq!((out.inline.capacity(), out.segments.capacity()), (0, 0));
    }
}
