//! What the driver threads count and the main thread reads, and how it tells them what to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

/// One connection's counters. Its thread alone writes them, once per turn.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Tally {
    /// Links attached.
    pub(crate) attached: AtomicU64,
    /// Links that were granted credit at least once.
    pub(crate) credited: AtomicU64,
    /// Messages handed to the socket buffer.
    pub(crate) sent: AtomicU64,
    /// Messages received whole.
    pub(crate) received: AtomicU64,
    /// Deliveries aborted on their way.
    pub(crate) aborted: AtomicU64,
    /// Messages skipped, as the stamps tell.
    pub(crate) missing: AtomicU64,
    /// Outcomes.
    pub(crate) accepted: AtomicU64,
    /// Outcomes.
    pub(crate) rejected: AtomicU64,
    /// Outcomes.
    pub(crate) released: AtomicU64,
    /// Outcomes.
    pub(crate) modified: AtomicU64,
}

/// Adds to a counter that only the caller writes, so no locked instruction is needed.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed) + count, Relaxed);
}

/// A sum of tallies at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) attached: u64,
    pub(crate) credited: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) aborted: u64,
    pub(crate) missing: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    pub(crate) released: u64,
    pub(crate) modified: u64,
}

impl Totals {
    pub(crate) fn of(tallies: &[Arc<Tally>]) -> Self {
        let sum = |field: fn(&Tally) -> &AtomicU64| {
            tallies.iter().map(|tally| field(tally).load(Relaxed)).sum()
        };
        Totals {
            attached: sum(|tally| &tally.attached),
            credited: sum(|tally| &tally.credited),
            sent: sum(|tally| &tally.sent),
            received: sum(|tally| &tally.received),
            aborted: sum(|tally| &tally.aborted),
            missing: sum(|tally| &tally.missing),
            accepted: sum(|tally| &tally.accepted),
            rejected: sum(|tally| &tally.rejected),
            released: sum(|tally| &tally.released),
            modified: sum(|tally| &tally.modified),
        }
    }

    /// Deliveries that have their outcome.
    pub(crate) fn settled(&self) -> u64 {
        self.accepted + self.rejected + self.released + self.modified
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Totals {
            attached,
            credited,
            sent,
            received,
            ..
        } = self;
        let settled = self.settled();
        write!(
            f,
            "{attached} links attached, {credited} with credit, {sent} messages sent, \
             {received} received, {settled} settled"
        )
    }
}

/// What the driver threads are to do. Phases only move forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Attach links, send nothing.
    Attach,
    /// Send, but record nothing yet.
    WarmUp,
    /// Send and record.
    Measure,
    /// Send nothing new; let what is under way arrive.
    Settle,
    /// Close connections and return.
    Close,
}

/// Set by the main thread, read by all.
#[derive(Debug)]
pub(crate) struct Stage {
    phase: AtomicU8,
    failed: AtomicBool,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Stage {
            phase: AtomicU8::new(Phase::Attach as u8),
            failed: AtomicBool::new(false),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Attach,
            1 => Phase::WarmUp,
            2 => Phase::Measure,
            3 => Phase::Settle,
            _ => Phase::Close,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    /// A driver thread has an error to return.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Relaxed);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }
}
