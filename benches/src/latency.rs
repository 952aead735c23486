//! One message at a time: from the write of its transfer until its outcome is back and the message
//! itself has arrived.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::tally::Tally;

/// Round trips of one sender and one receiver driven by the same thread.
#[derive(Debug)]
pub(crate) struct Latency {
    started: Option<Instant>,
    receiver: Arc<Tally>,
    /// In nanoseconds.
    pub(crate) histogram: Histogram<u64>,
}

impl Latency {
    /// For messages that `receiver` counts.
    pub(crate) fn new(receiver: Arc<Tally>) -> Self {
        let histogram =
            Histogram::new_with_bounds(1, MAX_NANOSECONDS, 3).expect("these bounds are valid");
        Latency {
            started: None,
            receiver,
            histogram,
        }
    }

    /// Messages received so far.
    pub(crate) fn received(&self) -> u64 {
        self.receiver.received.load(Relaxed)
    }

    /// Starts a round trip, unless one is under way.
    pub(crate) fn start(&mut self, now: &impl Fn() -> Instant) -> bool {
        let idle = self.started.is_none();
        if idle {
            self.started = Some(now());
        }
        idle
    }

    /// Nothing was sent after all.
    pub(crate) fn cancel(&mut self) {
        self.started = None;
    }

    /// Ends the round trip under way, if any.
    pub(crate) fn complete(&mut self, record: bool, now: &impl Fn() -> Instant) {
        if let Some(started) = self.started.take()
            && record
        {
            let nanoseconds = now().duration_since(started).as_nanos();
            self.histogram
                .saturating_record(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        }
    }
}

const MAX_NANOSECONDS: u64 = 60_000_000_000;
