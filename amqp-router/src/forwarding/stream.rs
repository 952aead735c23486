//! The body of a delivery on its way through: what has arrived and not yet gone out.
//!
//! A delivery is forwarded from its first frame on, so its body may still be arriving while it
//! leaves. Nothing here limits how much is held: every frame that arrived holds a place in the
//! incoming session window of the connection it came from until the last outgoing link is through
//! with it, and that window is what bounds memory.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::forwarding::window::Places;

/// What an outgoing link has yet to send of one delivery. Almost always that is one frame, so the
/// first needs no allocation.
#[derive(Debug, Default)]
pub(super) struct Body {
    first: Option<Bytes>,
    /// All else, once there is any.
    more: Option<Box<More>>,
    octets: usize,
    complete: bool,
}

/// What only a body that waits, or has several frames, has to know.
#[derive(Debug, Default)]
struct More {
    rest: VecDeque<Bytes>,
    /// Octets of the first chunk that have left already.
    begun: usize,
    /// Of the chunks that wait, those that keep nothing else alive.
    owned: usize,
}

impl Body {
    pub(super) fn push(&mut self, chunk: Bytes, more: bool) {
        debug_assert!(!self.complete, "nothing follows the last frame");
        self.octets += chunk.len();
        if self.first.is_none() {
            self.first = Some(chunk);
        } else {
            self.more().rest.push_back(chunk);
        }
        self.complete = !more;
    }

    /// Puts a chunk in front of the others: what a full session window left over of one of
    /// `octets` octets.
    pub(super) fn unread(&mut self, chunk: Bytes, octets: usize) {
        let begun = octets.saturating_sub(chunk.len());
        let second = self.first.replace(chunk);
        let more = self.more();
        more.begun = begun;
        if let Some(second) = second {
            more.rest.push_front(second);
        }
    }

    /// The chunk that is to leave next.
    pub(super) fn first(&self) -> Option<&Bytes> {
        self.first.as_ref()
    }

    /// The first chunk, or what is left of it, and how large it was when it came.
    pub(super) fn pop_counted(&mut self) -> Option<(Bytes, usize)> {
        let chunk = self.first.take()?;
        let mut octets = chunk.len();
        if let Some(more) = &mut self.more {
            self.first = more.rest.pop_front();
            more.owned = more.owned.saturating_sub(1);
            octets += std::mem::take(&mut more.begun);
        }
        Some((chunk, octets))
    }

    /// Whether what waits is to wait for more, so that `octets` leave at once.
    pub(super) fn is_short_of(&self, octets: usize) -> bool {
        !self.complete && self.chunks() < JOINED_MAX && self.waiting().sum::<usize>() < octets
    }

    /// Makes the first chunks one of up to `octets`. They are gone then; how large each was when
    /// it came is what is returned beside it. Nothing unless there are at least two.
    pub(super) fn join(&mut self, octets: usize) -> Option<(Bytes, Vec<usize>)> {
        let mut total = 0;
        let count = self
            .waiting()
            .take_while(|size| {
                total += size;
                total <= octets
            })
            .count();
        if count < 2 {
            return None;
        }
        let chunks: Vec<_> = (0..count).filter_map(|_| self.pop_counted()).collect();
        let joined: Vec<&[u8]> = chunks.iter().map(|(chunk, _)| &chunk[..]).collect();
        let joined = joined.concat().into();
        Some((joined, chunks.into_iter().map(|(_, of)| of).collect()))
    }

    /// The sizes of the chunks that wait, in octets.
    fn waiting(&self) -> impl Iterator<Item = usize> + '_ {
        let rest = self.more.iter().flat_map(|more| &more.rest);
        self.first.iter().chain(rest).map(Bytes::len)
    }

    /// Copies chunks that wait, so that they do not keep alive what they were read with. To be
    /// called now and then: what is copied already is not copied again.
    pub(super) fn own(&mut self) {
        let Some(first) = &mut self.first else {
            return;
        };
        let more = self.more.get_or_insert_default();
        let chunks = std::iter::once(first).chain(&mut more.rest);
        let mut count = 0;
        for chunk in chunks {
            if count >= more.owned && chunk.len() <= OWN_MAX {
                *chunk = Bytes::copy_from_slice(chunk);
            }
            count += 1;
        }
        more.owned = count;
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// All that has ever arrived, in octets.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    /// Whether a chunk waits.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Whether the last frame has arrived, though it may still wait here.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// How many chunks wait.
    pub(super) fn chunks(&self) -> u32 {
        let rest = self.more.as_ref().map_or(0, |more| more.rest.len());
        u32::from(self.first.is_some()) + rest as u32
    }
}

/// Larger chunks are not a small part of anything.
const OWN_MAX: usize = 64 * 1024;
/// Chunks that may wait for each other: few beside any session window.
const JOINED_MAX: u32 = 64;

/// Which frames of one incoming delivery all its outgoing links are through with.
///
/// With a single outgoing link that is a count; with several, a frame is let go when the slowest
/// of them has sent it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// For each frame that is still held, oldest first, by how many links, and its octets.
    holders: VecDeque<(u16, u32)>,
    /// Frames let go before those.
    released: u32,
}

impl Progress {
    /// A frame came in that `links` links must send.
    pub(super) fn hold(&mut self, links: u16, octets: usize) {
        let octets = u32::try_from(octets).unwrap_or(u32::MAX);
        self.holders.push_back((links, octets));
    }

    /// One link is through with frame number `frame`; says what can be let go.
    pub(super) fn through(&mut self, frame: u32) -> Places {
        let index = frame.wrapping_sub(self.released) as usize;
        if let Some((holders, _)) = self.holders.get_mut(index) {
            *holders = holders.saturating_sub(1);
        }
        let mut released = Places::default();
        while let Some(&(0, octets)) = self.holders.front() {
            self.holders.pop_front();
            released.add(Places { frames: 1, octets });
        }
        self.released = self.released.wrapping_add(released.frames);
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_leave_in_order() {
        let mut body = Body::default();
        body.push(Bytes::from_static(b"a"), true);
        body.push(Bytes::from_static(b"b"), true);
        body.push(Bytes::from_static(b"c"), false);
        assert_eq!(body.pop_counted(), Some((Bytes::from_static(b"a"), 1)));
        body.unread(Bytes::from_static(b"A"), 5);
        assert_eq!(body.chunks(), 3);
        let left: Vec<_> = std::iter::from_fn(|| body.pop_counted()).collect();
        let left: Vec<_> = left.iter().map(|(chunk, of)| (&chunk[..], *of)).collect();
        assert_eq!(left, [(&b"A"[..], 5), (b"b", 1), (b"c", 1)]);
        assert!(body.is_complete() && body.is_empty());
    }

    #[test]
    fn a_frame_is_held_for_the_slowest_link() {
        let mut progress = Progress::default();
        progress.hold(2, 10);
        progress.hold(2, 100);
        assert_eq!(progress.through(0), Places::default());
        assert_eq!(progress.through(1), Places::default());
        assert_eq!(progress.through(0), Places::frame(10));
        assert_eq!(progress.through(1), Places::frame(100));
    }

    #[test]
    fn a_frame_in_the_middle_does_not_overtake() {
        let mut progress = Progress::default();
        for octets in [1, 10, 100] {
            progress.hold(1, octets);
        }
        assert_eq!(progress.through(1), Places::default());
        let two = Places {
            frames: 2,
            octets: 11,
        };
        assert_eq!(progress.through(0), two);
        assert_eq!(progress.through(2), Places::frame(100));
    }
}
