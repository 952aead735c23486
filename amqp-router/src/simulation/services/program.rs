//! The programs at both ends of simulated TCP connections.

use std::time::Duration;

use bytes::BytesMut;
use rand::Rng;
use rand::rngs::StdRng;

use crate::endpoint::OutBuf;
use crate::simulation::wire::{Manner, Wire};

/// What one program does with its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habit {
    /// Octets that it sends before it says that nothing follows.
    pub(super) sends: usize,
    /// Octets that it sends at a time.
    pub(super) piece: usize,
    /// How long it pauses between pieces.
    pub(super) pause: Duration,
    /// It sends nothing before it has got everything.
    pub(super) waits: bool,
    /// How long it does not read at first.
    pub(super) dozes: Duration,
    /// Octets after which it cuts the connection off.
    pub(super) resets_after: Option<usize>,
}

/// One end of a TCP connection, the wires to the router's socket and back included.
#[derive(Debug)]
pub(super) struct Program {
    /// Which session it plays in.
    pub(super) session: usize,
    /// It is the client of that session.
    pub(super) is_client: bool,
    pub(super) habit: Habit,
    /// To the router.
    pub(super) up: Wire,
    /// From the router.
    pub(super) down: Wire,
    waiting: OutBuf,
    pub(super) sent: usize,
    pub(super) got: usize,
    next: Duration,
    awake: Duration,
    /// It has said that nothing follows.
    pub(super) ended: bool,
    /// It has learnt that nothing follows.
    pub(super) heard_end: bool,
    /// It was cut off, or has cut off.
    pub(super) reset: bool,
}

impl Habit {
    pub(super) fn calm(sends: usize) -> Self {
        Self {
            sends,
            piece: 100_000,
            pause: Duration::ZERO,
            waits: false,
            dozes: Duration::ZERO,
            resets_after: None,
        }
    }

    pub(super) fn random(rng: &mut StdRng) -> Self {
        let most = [0, 10, 5000, 300_000, 3_000_000][rng.random_range(0..5)];
        let sends = rng.random_range(0..=most);
        Self {
            sends,
            piece: [700, 30_000, 300_000][rng.random_range(0..3)],
            pause: Duration::from_millis([0, 0, 1, 5][rng.random_range(0..4)]),
            waits: rng.random_bool(0.2),
            dozes: Duration::from_millis([0, 0, 0, 2000][rng.random_range(0..4)]),
            resets_after: rng.random_bool(0.06).then(|| rng.random_range(0..=sends)),
        }
    }
}

impl Program {
    pub(super) fn new(
        session: usize,
        is_client: bool,
        habit: Habit,
        manner: Manner,
        at: Duration,
    ) -> Self {
        Self {
            session,
            is_client,
            habit,
            up: Wire::new(manner),
            down: Wire::new(manner),
            waiting: OutBuf::default(),
            sent: 0,
            got: 0,
            next: at,
            awake: at + habit.dozes,
            ended: false,
            heard_end: false,
            reset: false,
        }
    }

    /// When it does something of its own accord.
    pub(super) fn next_due(&self) -> Option<Duration> {
        if self.is_over() {
            return None;
        }
        let sends = !self.ended && (!self.habit.waits || self.heard_end);
        let read = self.down.next_due().map(|due| due.max(self.awake));
        let end = (self.down.is_at_end() && !self.heard_end).then_some(self.awake);
        let send = (sends && self.waiting.is_empty()).then_some(self.next);
        [read, end, send].into_iter().flatten().min()
    }

    pub(super) fn is_over(&self) -> bool {
        self.reset || (self.ended && self.heard_end && self.waiting.is_empty())
    }

    /// Reads and writes what it can. True if it did.
    pub(super) fn pump(&mut self, at: Duration, rng: &mut StdRng) -> bool {
        if self.reset {
            return false;
        }
        let mut moved = self.up.carry(&mut self.waiting, at, rng);
        if at >= self.awake {
            while let Some(octets) = self.down.take(at, rng) {
                self.check(&octets);
                moved = true;
            }
            if self.down.is_at_end() && !self.heard_end {
                self.heard_end = true;
                moved = true;
            }
        }
        if let Some(after) = self.habit.resets_after
            && self.sent >= after
            && at >= self.awake
        {
            self.reset = true;
            self.up.cut(rng);
            return true;
        }
        let may_send = !self.habit.waits || self.heard_end;
        if may_send && !self.ended && self.waiting.is_empty() && at >= self.next {
            moved = true;
            let size = self.habit.piece.min(self.habit.sends - self.sent);
            if size == 0 {
                self.ended = true;
                self.up.finish();
                return true;
            }
            let start = self.sent;
            let octets: BytesMut = (start..start + size)
                .map(|n| octet(self.session, self.is_client, n))
                .collect();
            self.sent += size;
            self.waiting.push_payload(octets.freeze());
            self.up.carry(&mut self.waiting, at, rng);
            self.next = at + self.habit.pause;
        }
        moved
    }

    /// What arrives is what the other end has sent.
    fn check(&mut self, octets: &[u8]) {
        for (place, &value) in (self.got..).zip(octets) {
            let expected = octet(self.session, !self.is_client, place);
            assert_eq!(
                value, expected,
                "octet {place} of session {} has changed",
                self.session
            );
        }
        self.got += octets.len();
    }
}

/// The octet at one place of what one end of a session sends.
fn octet(session: usize, of_client: bool, place: usize) -> u8 {
    let mixed = (place as u32 ^ (session as u32) << 7 ^ u32::from(of_client) << 19)
        .wrapping_mul(0x9E37_79B1);
    (mixed >> 24) as u8
}
