use bytes::{Buf, Bytes, BytesMut};

/// Bytes that were read and not decoded yet.
///
/// The usual chunk is decoded where it lies. Only the part of a frame that a chunk ends with is
/// copied, once, into a buffer that lives until the frame is whole.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// Comes before `chunk`; empty unless a chunk ended within a frame.
    kept: BytesMut,
    chunk: Bytes,
}

impl Input {
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.keep();
        self.chunk = chunk;
    }

    /// Lets go of the owner's buffer: what is left of it is copied.
    pub(super) fn keep(&mut self) {
        if !self.chunk.is_empty() {
            self.kept.extend_from_slice(&self.chunk);
        }
        self.chunk = Bytes::new();
    }

    /// What has come and was not decoded yet.
    pub(super) fn waiting(&self) -> Vec<u8> {
        [&self.kept[..], &self.chunk[..]].concat()
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len() + self.chunk.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next `count` bytes, if that many are here.
    #[inline]
    pub(super) fn peek(&mut self, count: usize) -> Option<&[u8]> {
        if self.kept.is_empty() {
            return self.chunk.get(..count);
        }
        self.complete(count);
        self.kept.get(..count)
    }

    /// Whatever there is of the next `count` bytes.
    pub(super) fn peek_some(&mut self, count: usize) -> &[u8] {
        let available = count.min(self.len());
        self.peek(available).unwrap_or_default()
    }

    /// Skips `count` bytes that were seen with `peek`.
    #[inline]
    pub(super) fn skip(&mut self, count: usize) {
        if self.kept.is_empty() {
            self.chunk.advance(count);
        } else {
            self.kept.advance(count);
            self.free_when_empty();
        }
    }

    /// Splits off `count` bytes that were seen with `peek`, without copying.
    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Bytes {
        if self.kept.is_empty() {
            return self.chunk.split_to(count);
        }
        let bytes = self.kept.split_to(count).freeze();
        self.free_when_empty();
        bytes
    }

    /// Moves from the chunk what `kept` lacks of `count` bytes.
    fn complete(&mut self, count: usize) {
        let missing = count.saturating_sub(self.kept.len());
        let part = self.chunk.split_to(missing.min(self.chunk.len()));
        self.kept.extend_from_slice(&part);
    }

    fn free_when_empty(&mut self) {
        if self.kept.is_empty() {
            self.kept = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_split_without_copying() {
        let chunk = Bytes::from_static(b"0123456789");
        let mut input = Input::default();
        input.push(chunk.clone());
        assert_eq!(input.peek(4), Some(&b"0123"[..]));
        assert_eq!(input.take(4).as_ptr(), chunk.as_ptr());
        assert_eq!(input.peek(7), None);
        input.skip(6);
        assert_eq!(input.peek_some(3), b"");
    }

    #[test]
    fn a_frame_over_many_chunks_is_joined() {
        let mut input = Input::default();
        for byte in b"abcdef" {
            assert_eq!(input.peek(6), None);
            input.push(Bytes::copy_from_slice(&[*byte]));
        }
        input.push(Bytes::from_static(b"ghi"));
        assert_eq!(input.peek_some(99), b"abcdefghi");
        assert_eq!(input.take(7), b"abcdefg"[..]);
        assert_eq!(input.peek(2), Some(&b"hi"[..]));
        input.skip(2);
        assert_eq!(input.kept.capacity(), 0);
    }
}
