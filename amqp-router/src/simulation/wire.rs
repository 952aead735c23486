//! One direction of a byte stream: late, in pieces, and cut off when its writer dies.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::Rng;
use rand::rngs::StdRng;

use crate::endpoint::OutBuf;

#[derive(Debug)]
pub(super) struct Wire {
    carried: VecDeque<(Duration, Bytes)>,
    /// Bytes in `carried`.
    len: usize,
    manner: Manner,
    stalled_until: Duration,
    /// Its writer writes no more.
    finished: bool,
}

/// How a wire treats what is written to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// The longest that a piece is on its way.
    pub(super) latency: Duration,
    /// Bytes that may be on their way before the writer has to wait.
    pub(super) capacity: usize,
    pub(super) grain: Grain,
}

/// The sizes of the pieces that come out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Grain {
    /// Single bytes, while little is on its way.
    Byte,
    /// A few bytes to a few hundred.
    Fine,
    /// Whatever was written at once.
    Whole,
}

impl Manner {
    /// At once and whole.
    pub(super) const CALM: Self = Self {
        latency: Duration::ZERO,
        capacity: 1 << 20,
        grain: Grain::Whole,
    };

    pub(super) fn random(rng: &mut StdRng) -> Self {
        let grain = match rng.random_range(0..10) {
            0 => Grain::Byte,
            1..5 => Grain::Fine,
            _ => Grain::Whole,
        };
        let latency = Duration::from_millis([0, 0, 1, 10][rng.random_range(0..4)]);
        let capacity = [700, 4000, 60_000, 1 << 20][rng.random_range(0..4)];
        Self {
            latency,
            capacity,
            grain,
        }
    }
}

impl Wire {
    pub(super) fn new(manner: Manner) -> Self {
        Self {
            carried: VecDeque::new(),
            len: 0,
            manner,
            stalled_until: Duration::ZERO,
            finished: false,
        }
    }

    /// Takes from `out` what there is room for; true if that is anything.
    pub(super) fn carry(&mut self, out: &mut OutBuf, now: Duration, rng: &mut StdRng) -> bool {
        let mut moved = false;
        while !out.is_empty() && self.len < self.manner.capacity && !self.finished {
            let mut slices = [IoSlice::new(&[]); 4];
            let count = out.iovecs(&mut slices);
            let slices: Vec<&[u8]> = slices[..count].iter().map(|slice| &slice[..]).collect();
            let mut piece = slices.concat();
            piece.truncate(self.manner.capacity - self.len);
            out.advance(piece.len());
            self.push(piece.into(), now, rng);
            moved = true;
        }
        moved
    }

    fn push(&mut self, piece: Bytes, now: Duration, rng: &mut StdRng) {
        let latency = late(self.manner.latency, rng);
        let after = self.carried.back().map_or(Duration::ZERO, |(due, _)| *due);
        self.len += piece.len();
        self.carried.push_back((after.max(now + latency), piece));
    }

    /// The next piece that has arrived.
    pub(super) fn take(&mut self, now: Duration, rng: &mut StdRng) -> Option<BytesMut> {
        if self.next_due()? > now {
            return None;
        }
        let most = match self.manner.grain {
            Grain::Byte if self.len < 200 => 1,
            Grain::Byte => 50,
            Grain::Fine => {
                let most = rng.random_range(1..=600);
                rng.random_range(1..=most)
            }
            Grain::Whole => usize::MAX,
        };
        let (_, bytes) = self.carried.front_mut()?;
        let piece = bytes.split_to(most.min(bytes.len()));
        if bytes.is_empty() {
            self.carried.pop_front();
        }
        self.len -= piece.len();
        Some(BytesMut::from(&piece[..]))
    }

    /// When the next piece arrives.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let (due, _) = self.carried.front()?;
        Some((*due).max(self.stalled_until))
    }

    /// Delivers nothing until then.
    pub(super) fn stall(&mut self, until: Duration) {
        self.stalled_until = self.stalled_until.max(until);
    }

    pub(super) fn resume(&mut self) {
        self.stalled_until = Duration::ZERO;
    }

    /// The writer is done; what is on its way arrives.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// The writer is gone, and some of what was on its way with it.
    pub(super) fn cut(&mut self, rng: &mut StdRng) {
        self.finished = true;
        let pieces = rng.random_range(0..=self.carried.len());
        self.carried.truncate(pieces);
        self.len = self.carried.iter().map(|(_, piece)| piece.len()).sum();
    }

    /// Whether the reader has got all it will ever get.
    pub(super) fn is_at_end(&self) -> bool {
        self.finished && self.carried.is_empty()
    }
}

/// How late something is that may be late by so much.
pub(super) fn late(most: Duration, rng: &mut StdRng) -> Duration {
    if most.is_zero() {
        most
    } else {
        rng.random_range(Duration::ZERO..=most)
    }
}
