//! Which floods have passed already.
//!
//! Each router passes a flood on to every neighbour that it has not been to. In a network with many
//! ways that is one copy for every path, so a copy of what has just been passed on goes no further.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// What was seen in the last moments.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    keys: RandomState,
    seen: VecDeque<(Instant, u64)>,
    known: std::collections::HashSet<u64>,
}

impl Recent {
    /// Takes note of a message; true if it has not been seen lately.
    pub(crate) fn is_new(&mut self, message: &[u8], now: Instant) -> bool {
        while let Some((at, key)) = self.seen.front()
            && (now.duration_since(*at) > WINDOW || self.seen.len() >= MOST)
        {
            self.known.remove(key);
            self.seen.pop_front();
        }
        let key = self.keys.hash_one(message);
        let new = self.known.insert(key);
        if new {
            self.seen.push_back((now, key));
        }
        new
    }
}

/// Shorter than the time after which a router says the same thing again.
const WINDOW: Duration = Duration::from_millis(800);
/// Messages that are remembered at a time.
const MOST: usize = 16_384;

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // tests start their clock somewhere
mod tests {
    use super::*;

    #[test]
    fn the_same_is_new_again_after_a_while() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        assert!(recent.is_new(b"a", now));
        assert!(!recent.is_new(b"a", now + WINDOW / 2));
        assert!(recent.is_new(b"b", now + WINDOW / 2));
        assert!(recent.is_new(b"a", now + WINDOW * 2));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        for n in 0..2 * MOST as u32 {
            recent.is_new(&n.to_be_bytes(), now);
        }
        assert!(recent.seen.len() <= MOST && recent.known.len() <= MOST);
    }
}
