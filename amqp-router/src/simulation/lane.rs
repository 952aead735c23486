//! A queue between two tasks of one router: in order, and perhaps late.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::StdRng;

use super::wire::late;

#[derive(Debug)]
pub(super) struct Lane<T> {
    items: VecDeque<(Duration, T)>,
    /// The longest that an item is on its way.
    delay: Duration,
}

impl<T> Lane<T> {
    pub(super) fn new(delay: Duration) -> Self {
        Self {
            items: VecDeque::new(),
            delay,
        }
    }

    pub(super) fn push(&mut self, item: T, now: Duration, rng: &mut StdRng) {
        let after = self.items.back().map_or(Duration::ZERO, |(due, _)| *due);
        let due = after.max(now + late(self.delay, rng));
        self.items.push_back((due, item));
    }

    pub(super) fn pop(&mut self, now: Duration) -> Option<T> {
        if self.items.front()?.0 > now {
            return None;
        }
        self.items.pop_front().map(|(_, item)| item)
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        self.items.front().map(|(due, _)| *due)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|(_, item)| item)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
