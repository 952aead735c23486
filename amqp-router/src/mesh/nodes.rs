//! The other routers, as far as they are known.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::control::address::AddressKey;

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
    /// Since when it has been advertising an older link state than is known of it.
    doubted: Option<Instant>,
    /// When its link state was last heard of.
    pub(super) heard_of: Instant,
    pub(super) link_state: Known,
    pub(super) peers: BTreeMap<String, u32>,
    pub(super) next_hop: Option<NextHop>,
    /// Since when there has been no way to it.
    pub(super) unreachable_since: Option<Instant>,
    pub(super) addresses: Known,
    pub(super) keys: HashSet<AddressKey>,
    /// Ticks since anybody has said anything about it.
    pub(super) forgotten: u32,
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
}

impl Known {
    /// What the router says that the newest number is.
    pub(super) fn advertised(&mut self, sequence: u64) {
        self.newest = sequence;
    }

    /// One has come.
    pub(super) fn received(&mut self, sequence: u64) {
        self.sequence = sequence;
        self.newest = self.newest.max(sequence);
        self.missing = false;
        self.asked = None;
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
            doubted: None,
            heard_of: now,
            link_state: Known {
                missing: true,
                ..Known::default()
            },
            peers: BTreeMap::new(),
            next_hop: None,
            unreachable_since: Some(now),
            addresses: Known::default(),
            keys: HashSet::new(),
            forgotten: 0,
        }
    }

    /// Compares what is known of its link state with what it says itself. An older number may have
    /// been overtaken; if it stays, what is known was never its own.
    pub(super) fn check(&mut self, sequence: u64, now: Instant) {
        if sequence >= self.link_state.sequence {
            self.doubted = None;
        } else if now.duration_since(*self.doubted.get_or_insert(now)) > DOUBT {
            self.doubted = None;
            self.link_state.want();
        }
    }

    pub(super) fn is_reachable(&self) -> bool {
        self.next_hop.is_some()
    }

    /// Takes note of when the router says that it was started. True if it is not the one it was.
    pub(super) fn has_restarted(&mut self, instance: Option<i64>) -> bool {
        let Some(instance) = instance else {
            return false;
        };
        let before = self.instance.replace(instance);
        before.is_some_and(|before| before != instance)
    }
}

/// How long an older number may be that of a message which was overtaken.
const DOUBT: Duration = Duration::from_secs(10);
/// How long an answer may take before the question is put again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
