//! The other routers, as far as they are known.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::control::address::AddressKey;

use super::addresses::RemoteAddress;
use super::paths::NextHop;
use super::{NeighbourId, RouterIndex};

/// Another router.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) index: RouterIndex,
    pub(super) id: Arc<str>,
    /// When it was started, as it says; tells a router from its successor.
    pub(super) instance: Option<i64>,
    /// The connection that it is a neighbour by.
    pub(super) neighbour: Option<NeighbourId>,
    /// When its link state was last heard of.
    pub(super) heard_of: Instant,
    pub(super) link_state: Known,
    pub(super) peers: BTreeMap<String, u32>,
    pub(super) next_hop: Option<NextHop>,
    /// Since when there has been no way to it.
    pub(super) unreachable_since: Option<Instant>,
    pub(super) addresses: Known,
    pub(super) keys: HashMap<AddressKey, RemoteAddress>,
    /// Ticks since anybody has said anything about it.
    pub(super) forgotten: u32,
    /// What it asks of this router.
    pub(super) asks_link_state: Question,
    pub(super) asks_addresses: Question,
    /// When it was last found to be another, and when that was last told.
    restarted: Option<Instant>,
    /// When all that is known of it is to be asked for anew, as two have been of its name.
    verify_at: Option<Instant>,
    restart_told: Option<Instant>,
}

/// A question that a router puts: answered at once, but not again and again.
#[derive(Debug, Default)]
pub(super) struct Question {
    /// The neighbour that it came by, until it is answered.
    from: Option<NeighbourId>,
    answered: Option<Instant>,
}

impl Question {
    pub(super) fn put(&mut self, from: NeighbourId) {
        self.from = Some(from);
    }

    /// The neighbour that it came by, if it is to be answered now.
    pub(super) fn answer(&mut self, now: Instant) -> Option<NeighbourId> {
        let due = (self.answered).is_none_or(|at| now.duration_since(at) >= ANSWER_INTERVAL);
        let from = self.from.take_if(|_| due)?;
        self.answered = Some(now);
        Some(from)
    }

    pub(super) fn is_open(&self) -> bool {
        self.from.is_some()
    }
}

/// Something of a router that is numbered each time it changes.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The number that is known here.
    pub(super) sequence: u64,
    /// The highest that the router has named.
    newest: u64,
    /// Nothing is known of it, and there may be something.
    missing: bool,
    /// When it was last asked for.
    asked: Option<Instant>,
    /// Since when the router has been naming an older number than the one that is known.
    doubted: Option<Instant>,
}

impl Known {
    /// What the router says that the newest number is. An older one than is known may have been
    /// overtaken; if no newer one follows, what is known was not said by the router that says so:
    /// see [`is_doubtful`](Self::is_doubtful).
    pub(super) fn advertised(&mut self, sequence: u64, now: Instant) {
        match sequence >= self.sequence {
            true => self.doubted = None,
            false => _ = self.doubted.get_or_insert(now),
        }
        self.newest = sequence;
    }

    /// Whether what is known is not what the router says now; then it has to be asked.
    pub(super) fn is_doubtful(&mut self, now: Instant) -> bool {
        let overdue = |at: Instant| now.duration_since(at) > DOUBT;
        let doubtful = self.doubted.is_some_and(overdue);
        if doubtful {
            let newest = self.newest;
            self.want();
            self.newest = newest;
        }
        doubtful
    }

    /// Whether an answer is awaited. Others need not be true, and are not needed.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// There is one of this number.
    pub(super) fn exists(&mut self, sequence: u64) {
        self.newest = self.newest.max(sequence);
    }

    /// Whether nothing is known that changes could be to.
    pub(super) fn is_missing(&self) -> bool {
        self.missing
    }

    /// Whether the router says that there is nothing to know.
    pub(super) fn are_none(&self) -> bool {
        self.newest == 0
    }

    /// One has come.
    pub(super) fn received(&mut self, sequence: u64) {
        self.sequence = sequence;
        self.newest = self.newest.max(sequence);
        self.missing = false;
        self.asked = None;
        self.doubted = None;
    }

    /// What is known holds no longer.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The same, and it is to be asked for.
    pub(super) fn want(&mut self) {
        *self = Self {
            missing: true,
            ..Self::default()
        };
    }

    /// Whether it is to be asked for now; then it will not be for a while.
    pub(super) fn ask(&mut self, now: Instant) -> bool {
        let due = self
            .asked
            .is_none_or(|asked| now.duration_since(asked) >= ASK_AGAIN);
        let ask = (self.missing || self.newest > self.sequence) && due;
        if ask {
            self.asked = Some(now);
        }
        ask
    }
}

impl Node {
    pub(super) fn new(index: RouterIndex, id: &str, now: Instant) -> Self {
        Self {
            index,
            id: id.into(),
            instance: None,
            neighbour: None,
            heard_of: now,
            link_state: Known {
                missing: true,
                ..Known::default()
            },
            peers: BTreeMap::new(),
            next_hop: None,
            unreachable_since: Some(now),
            addresses: Known::default(),
            keys: HashMap::new(),
            forgotten: 0,
            asks_link_state: Question::default(),
            asks_addresses: Question::default(),
            restarted: None,
            verify_at: None,
            restart_told: None,
        }
    }

    pub(super) fn is_reachable(&self) -> bool {
        self.next_hop.is_some()
    }

    /// Takes note of when the router says that it was started. True if it is not the one it was,
    /// which is believed no more often than there are seconds, as instances count them.
    pub(super) fn has_restarted(&mut self, instance: Option<i64>, now: Instant) -> bool {
        let Some(instance) = instance else {
            return false;
        };
        let another = self.instance.is_some_and(|before| before != instance);
        let within = |time| {
            let restarted = self.restarted.filter(|_| another);
            restarted.is_some_and(|at| now.duration_since(at) < time)
        };
        // Who starts again does so later than it has before.
        if within(DISPUTE) || another && self.instance > Some(instance) {
            self.verify_at = Some(now + CALM);
        }
        if within(RESTART_INTERVAL) {
            return false;
        }
        if another {
            self.restarted = Some(now);
        }
        self.instance = Some(instance);
        another
    }

    /// Whether two have been of its name, and one of them has not been heard for a while: what the
    /// other has told of itself may be under the same numbers.
    pub(super) fn is_to_be_verified(&mut self, now: Instant) -> bool {
        self.verify_at.take_if(|at| *at <= now).is_some()
    }

    /// Whether a restart is worth a line of the log: not when one follows the other.
    pub(super) fn is_restart_news(&mut self, now: Instant) -> bool {
        let lately = |at: Instant| now.duration_since(at) < RESTART_SILENCE;
        if self.restart_told.is_some_and(lately) {
            return false;
        }
        self.restart_told = Some(now);
        true
    }
}

/// How long an older number may be that of a message which was overtaken.
const DOUBT: Duration = Duration::from_secs(3);
/// How long an answer may take before the question is put again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How soon after an answer the same router is answered again.
pub(super) const ANSWER_INTERVAL: Duration = Duration::from_millis(250);
/// How soon a router can have been started again.
const RESTART_INTERVAL: Duration = Duration::from_secs(1);
/// Restarts that follow each other within this time may be those of two routers of one name.
const DISPUTE: Duration = Duration::from_secs(60);
/// How long only one of them is heard before it is believed that the other is gone.
const CALM: Duration = Duration::from_secs(5);
/// How long nothing more is said of a router that restarts again and again.
const RESTART_SILENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any instant will do
mod tests {
    use super::*;

    #[test]
    fn what_is_newer_is_asked_for_and_not_again_at_once() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.advertised(3, now);
        assert!(known.ask(now) && !known.ask(now));
        known.received(3);
        assert!(!known.ask(now + ASK_AGAIN));
    }

    /// A router that was started twice within what its instance can tell apart.
    #[test]
    fn an_older_number_that_stays_means_that_nothing_is_known() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.received(7);
        known.advertised(2, now);
        assert!(!known.ask(now), "it may have been overtaken");
        known.advertised(7, now + DOUBT);
        known.advertised(2, now + DOUBT);
        assert!(!known.is_doubtful(now + DOUBT * 2), "for too short a time");
        let later = now + DOUBT * 2 + Duration::from_millis(1);
        assert!(known.is_doubtful(later) && known.ask(later));
        assert_eq!(known.sequence, 0);
        known.received(2);
        assert!(!known.is_missing() && !known.ask(later + ASK_AGAIN));
    }
}
