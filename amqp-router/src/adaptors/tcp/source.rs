//! What a socket sends: kept until a service has answered, and read no faster than it goes on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::window::{Window, WindowPool};
use super::{Side, Stage, TcpConnection};
use crate::codec::DeliveryState;
use crate::observers::Speaker;

/// What the socket sends.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its delivery has been started, this many times.
    pub(crate) attempts: u32,
    /// The socket will send nothing more.
    pub(crate) ended: bool,
    /// The delivery has its outcome, if the receiver gave one.
    pub(crate) outcome: Option<Option<DeliveryState>>,
    /// When an outcome is to be believed that may have overtaken the answer: a skrouterd modifies
    /// the stream of a client whose service has answered and closed.
    pub(crate) believe_at: Option<Instant>,
    /// When its delivery was started last.
    started: Option<Instant>,
    /// When everything is tried anew, as the network may know better then.
    pub(crate) again_at: Option<Instant>,
    /// How often that has been done.
    pub(crate) rounds: u8,
    /// What the client sends leaves before the service has answered. (A skrouterd at the other end
    /// may lose what arrives while it connects.)
    is_prompt: bool,
    /// What a client has sent before its service has answered.
    kept: Vec<Bytes>,
    kept_octets: usize,
    /// Of those pieces, the ones that keep nothing else alive.
    owned: usize,
    /// Octets read.
    pub(crate) octets: u64,
    /// Of them, those that the far end has passed on to its socket; `None` if that no longer
    /// counts.
    pub(super) acknowledged: Option<u64>,
    /// Octets that may be on their way without having been acknowledged.
    pub(super) window: Window,
    /// Sizes of the pieces that wait in this router.
    pieces: VecDeque<u32>,
    pub(super) waiting: usize,
    /// Reading was stopped, and may go on.
    resume: bool,
    stopped: bool,
}

impl Source {
    pub(super) fn new() -> Self {
        Self {
            attempts: 0,
            ended: false,
            outcome: None,
            believe_at: None,
            started: None,
            again_at: None,
            rounds: 0,
            is_prompt: false,
            kept: Vec::new(),
            kept_octets: 0,
            owned: 0,
            octets: 0,
            acknowledged: Some(0),
            window: Window::new(),
            pieces: VecDeque::new(),
            waiting: 0,
            resume: false,
            stopped: false,
        }
    }

    /// How long the answer may be behind an outcome that has just come. It takes the same way: a few
    /// times as long as the outcome has taken, within bounds.
    pub(crate) fn doubt(&self, now: Instant) -> Duration {
        let taken = self
            .started
            .map_or(DOUBT_MAX, |started| now.saturating_duration_since(started));
        (4 * taken.min(DOUBT_MAX)).clamp(DOUBT_MIN, DOUBT_MAX)
    }

    /// Octets leave for the far end.
    fn send(&mut self, octets: usize, now: Instant) {
        if let Some(acknowledged) = self.acknowledged {
            self.window.sent(self.octets, acknowledged, now);
        }
        self.waiting += octets;
        self.pieces.push_back(octets as u32);
    }
}

impl TcpConnection {
    /// The socket sent something: takes it to account. What comes back is to be sent on now.
    pub(crate) fn took(&mut self, octets: Bytes, now: Instant) -> Option<Bytes> {
        self.source.octets += octets.len() as u64;
        if let Some(observed) = &mut self.observed {
            observed.pass(Speaker::Client, &octets);
        }
        if let Some(service) = &self.service {
            let counted = &service.counts.octets_in;
            counted.fetch_add(octets.len() as u64, Ordering::Relaxed);
        }
        if self.is_unanswered() {
            self.source.kept_octets += octets.len();
            self.source.kept.push(octets.clone());
            if !self.source.is_prompt {
                return None;
            }
        }
        self.source.send(octets.len(), now);
        Some(octets)
    }

    /// The service has answered: gives what has been kept, and is to be sent on now.
    pub(crate) fn take_kept(&mut self, now: Instant) -> Vec<Bytes> {
        let source = &mut self.source;
        let kept = std::mem::take(&mut source.kept);
        (source.kept_octets, source.owned) = (0, 0);
        if std::mem::take(&mut source.is_prompt) {
            return Vec::new();
        }
        for octets in &kept {
            source.send(octets.len(), now);
        }
        kept
    }

    /// What the client sends need not wait for the answer: gives what has been kept, which stays
    /// here besides.
    pub(crate) fn be_prompt(&mut self, now: Instant) -> Vec<Bytes> {
        let source = &mut self.source;
        source.is_prompt = true;
        let kept = source.kept.clone();
        for octets in &kept {
            source.send(octets.len(), now);
        }
        kept
    }

    /// Whether a service may have got something of what the client sends.
    pub(crate) fn has_ventured(&self) -> bool {
        self.source.is_prompt && self.source.kept_octets > 0
    }

    /// What waits here stops keeping alive what it was read with. To be called now and then.
    pub(in crate::adaptors) fn own(&mut self) {
        self.out.own();
        let source = &mut self.source;
        for octets in &mut source.kept[source.owned..] {
            *octets = Bytes::copy_from_slice(octets);
        }
        source.owned = source.kept.len();
    }

    /// Octets that wait here to leave for the far end: those that are kept for the service's
    /// answer, and others.
    #[cfg(test)]
    pub(crate) fn held(&self) -> [usize; 2] {
        [self.source.kept_octets, self.source.waiting]
    }

    /// The delivery starts, perhaps over again.
    pub(crate) fn start_over(&mut self, now: Instant) {
        self.source.attempts += 1;
        self.source.started = Some(now);
        self.source.outcome = None;
        self.source.is_prompt = false;
        self.source.pieces.clear();
        self.source.waiting = 0;
        self.source.acknowledged = Some(0);
    }

    /// Whether the socket is to be read. If not, it is [resumed](Self::take_resumed) later.
    pub(crate) fn wants_input(&mut self) -> bool {
        let may = self.may_read();
        self.source.stopped = !may;
        may
    }

    fn may_read(&self) -> bool {
        let source = &self.source;
        if self.stage != Stage::Open || source.ended || source.attempts == 0 {
            return false;
        }
        if self.is_unanswered() {
            return source.kept_octets < KEPT_MAX;
        }
        let window = match source.acknowledged {
            Some(acknowledged) => source.octets - acknowledged < source.window.octets(),
            None => true,
        };
        window && source.waiting < WAITING_MAX
    }

    /// How many octets of what the socket sends next may leave without having been here: nobody
    /// looks at them, and none that came before waits.
    /// Whether a client waits for the stream from the service.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self.side, Side::Client { answered, .. } if !answered)
    }

    /// Whether its socket waits to be read again.
    pub(crate) fn is_stopped(&self) -> bool {
        self.source.stopped
    }

    /// Something changed that may let reading go on.
    pub(crate) fn review_reading(&mut self) {
        let enough = self.source.waiting <= WAITING_MAX / 2;
        if self.source.stopped && enough && self.may_read() {
            self.source.stopped = false;
            self.source.resume = true;
        }
    }

    /// Takes to account what the far end has acknowledged.
    pub(crate) fn follow_acknowledgements(&mut self, now: Instant, pool: &Arc<WindowPool>) {
        if let Some(acknowledged) = self.source.acknowledged {
            self.source.window.acknowledged(acknowledged, now, pool);
            self.review_reading();
        }
    }

    /// Whether reading is to go on that had been stopped.
    pub(crate) fn take_resumed(&mut self) -> bool {
        std::mem::take(&mut self.source.resume)
    }

    /// The far end says something of what the socket sends.
    pub(in crate::adaptors) fn update(&mut self, state: Option<&DeliveryState>, settled: bool) {
        if let Some(DeliveryState::Received {
            section_offset: at, ..
        }) = state
            && let Some(acknowledged) = &mut self.source.acknowledged
        {
            *acknowledged = (*at).clamp(*acknowledged, self.source.octets);
        }
        if settled || state.is_some_and(DeliveryState::is_terminal) {
            self.source.outcome = Some(state.cloned());
            self.source.acknowledged = None;
        }
        self.review_reading();
    }

    /// Pieces of what the socket sends have left this router.
    pub(in crate::adaptors) fn release(&mut self, pieces: u32) {
        for _ in 0..pieces {
            if let Some(octets) = self.source.pieces.pop_front() {
                self.source.waiting -= octets as usize;
            }
        }
        self.review_reading();
    }
}

/// How long an answer may be behind an outcome.
const DOUBT_MIN: Duration = Duration::from_millis(200);
const DOUBT_MAX: Duration = Duration::from_millis(500);
/// Octets of one direction that may wait in this router for a way out.
pub(crate) const WAITING_MAX: usize = 512 * 1024;
/// Octets of a client that are kept until its service has answered, before its socket is no longer
/// read.
pub(crate) const KEPT_MAX: usize = 64 * 1024;
