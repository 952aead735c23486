use std::collections::{BTreeMap, VecDeque};

use crate::codec::Serial;

/// Deliveries of one direction of a session by delivery-number, until both ends settle them
/// (AMQP 2.6.12).
///
/// Numbers come in sequence and are mostly settled in sequence, so recent ones sit in a ring
/// that starts at `base`. When few of a long ring are left these move to a tree: memory stays
/// proportional to what is unsettled, and finding one costs no search in the usual case.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    base: Serial,
    ring: VecDeque<Option<Entry>>,
    /// Entries in `ring`.
    in_ring: usize,
    /// Older than all in `ring`.
    stragglers: BTreeMap<u32, Entry>,
}

/// An unsettled delivery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    /// The index of its link.
    pub(super) link: u32,
    /// The owner's name for it.
    pub(super) token: u32,
}

impl Unsettled {
    pub(super) fn len(&self) -> usize {
        self.in_ring + self.stragglers.len()
    }

    /// Adds a delivery-number later than all before.
    #[inline]
    pub(super) fn insert(&mut self, id: u32, entry: Entry) {
        if self.ring.is_empty() {
            self.base = Serial(id);
        }
        let gap = self.offset(id).saturating_sub(self.ring.len());
        if gap > 0 {
            self.skip(id, gap);
        }
        self.ring.push_back(Some(entry));
        self.in_ring += 1;
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Entry> {
        let offset = self.offset(id);
        if offset < self.ring.len() {
            return self.ring[offset].as_mut();
        }
        if self.stragglers.is_empty() {
            return None;
        }
        self.stragglers.get_mut(&id)
    }

    pub(super) fn get(&self, id: u32) -> Option<Entry> {
        match self.ring.get(self.offset(id)) {
            Some(entry) => *entry,
            None => self.stragglers.get(&id).copied(),
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, id: u32) -> Option<Entry> {
        let offset = self.offset(id);
        let Some(slot) = self.ring.get_mut(offset) else {
            return self.remove_straggler(id);
        };
        let entry = slot.take()?;
        self.in_ring -= 1;
        self.tidy();
        Some(entry)
    }

    /// The first unsettled number in `from..=last`.
    ///
    /// A range that is walked with this costs no more than what is unsettled, however wide it is.
    pub(super) fn next_in(&self, from: u32, last: u32) -> Option<u32> {
        let old = self.straggler_in(from, last);
        if old.is_some() {
            return old;
        }
        let (first, last) = (Serial(from), Serial(last));
        let start = if self.base.is_within(first, last) {
            self.base
        } else {
            first
        };
        let width = last.0.wrapping_sub(start.0) as usize;
        let begin = self.offset(start.0);
        let end = begin
            .saturating_add(width)
            .min(self.ring.len().wrapping_sub(1));
        (begin..=end)
            .take_while(|&offset| offset < self.ring.len())
            .find(|&offset| self.ring[offset].is_some())
            .map(|offset| self.base.plus(offset as u32).0)
    }

    /// Forgets all deliveries of a link.
    pub(super) fn remove_link(&mut self, link: u32) {
        self.stragglers.retain(|_, entry| entry.link != link);
        for slot in &mut self.ring {
            if slot.is_some_and(|entry| entry.link == link) {
                *slot = None;
                self.in_ring -= 1;
            }
        }
        self.tidy();
    }

    /// Gives back memory that is not used.
    pub(super) fn trim(&mut self) {
        if self.ring.is_empty() {
            self.ring = VecDeque::new();
        }
    }

    #[inline]
    fn offset(&self, id: u32) -> usize {
        id.wrapping_sub(self.base.0) as usize
    }

    fn remove_straggler(&mut self, id: u32) -> Option<Entry> {
        if self.stragglers.is_empty() {
            return None;
        }
        self.stragglers.remove(&id)
    }

    fn straggler_in(&self, from: u32, last: u32) -> Option<u32> {
        if self.stragglers.is_empty() {
            return None;
        }
        let first = |range: std::ops::RangeInclusive<u32>| {
            self.stragglers.range(range).next().map(|(id, _)| *id)
        };
        if from <= last {
            first(from..=last)
        } else {
            first(from..=u32::MAX).or_else(|| first(0..=last))
        }
    }

    /// Makes the ring end right before `id`, `gap` numbers further on than now.
    fn skip(&mut self, id: u32, gap: usize) {
        if self.ring.len() + gap > sparse_at(self.in_ring) {
            self.move_to_stragglers();
            self.base = Serial(id);
        } else {
            self.ring.resize(self.ring.len() + gap, None);
        }
    }

    /// Keeps the ring short after something was removed from it.
    #[inline]
    fn tidy(&mut self) {
        if self.in_ring == 0 {
            self.clear_ring();
            return;
        }
        while let Some(None) = self.ring.front() {
            self.ring.pop_front();
            self.base = self.base.plus(1);
        }
        if self.ring.len() > sparse_at(self.in_ring) {
            self.move_to_stragglers();
        }
    }

    fn clear_ring(&mut self) {
        self.ring.clear();
        if self.ring.capacity() > KEPT_CAPACITY {
            self.ring = VecDeque::new();
        }
    }

    #[cold]
    fn move_to_stragglers(&mut self) {
        for (offset, slot) in self.ring.drain(..).enumerate() {
            if let Some(entry) = slot {
                self.stragglers
                    .insert(self.base.plus(offset as u32).0, entry);
            }
        }
        self.in_ring = 0;
        self.clear_ring();
    }
}

/// The length at which a ring with so many entries is too sparse.
fn sparse_at(entries: usize) -> usize {
    64 + 8 * entries
}

/// Slots of an empty ring that are kept for the next deliveries.
const KEPT_CAPACITY: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(token: u32) -> Entry {
        Entry {
            link: token % 3,
            token,
        }
    }

    fn walk(unsettled: &Unsettled, first: u32, last: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let mut from = first;
        while let Some(id) = unsettled.next_in(from, last) {
            found.push(id);
            if id == last {
                break;
            }
            from = id.wrapping_add(1);
        }
        found
    }

    #[test]
    fn a_range_across_the_wrap_is_walked_in_order() {
        let mut unsettled = Unsettled::default();
        for id in [u32::MAX - 1, u32::MAX, 0, 2] {
            unsettled.insert(id, entry(id));
        }
        assert_eq!(walk(&unsettled, u32::MAX, 1), [u32::MAX, 0]);
        assert_eq!(walk(&unsettled, 5, 4), [u32::MAX - 1, u32::MAX, 0, 2]);
        assert!(walk(&unsettled, 3, 9).is_empty());
    }

    #[test]
    fn one_old_delivery_does_not_hold_memory_for_the_later_ones() {
        let mut unsettled = Unsettled::default();
        unsettled.insert(0, entry(0));
        for id in 1..100_000 {
            unsettled.insert(id, entry(id));
            assert_eq!(unsettled.remove(id), Some(entry(id)));
        }
        assert!(unsettled.ring.capacity() < 1024);
        assert_eq!(walk(&unsettled, 0, u32::MAX), [0]);
    }

    proptest! {
        /// Whatever is inserted and removed, the contents are those of a plain map.
        #[test]
        fn behaves_as_a_map(
            start in any::<u32>(),
            steps in prop::collection::vec((0u32..90, any::<prop::sample::Index>(), any::<bool>()), 1..300),
        ) {
            let (mut unsettled, mut model) = (Unsettled::default(), VecDeque::new());
            let mut next = start;
            for (gap, pick, remove) in steps {
                if remove && !model.is_empty() {
                    let id: u32 = model.remove(pick.index(model.len())).expect("index is within");
                    prop_assert_eq!(unsettled.remove(id), Some(entry(id)));
                    prop_assert_eq!(unsettled.remove(id), None);
                } else {
                    next = next.wrapping_add(if gap > 80 { gap * 1000 } else { gap % 3 });
                    unsettled.insert(next, entry(next));
                    model.push_back(next);
                    next = next.wrapping_add(1);
                }
                prop_assert_eq!(unsettled.len(), model.len());
                prop_assert!(unsettled.ring.len() <= sparse_at(unsettled.in_ring) + 1);
                let (first, last) = (start, next.wrapping_sub(1));
                prop_assert_eq!(walk(&unsettled, first, last), Vec::from_iter(model.iter().copied()));
                prop_assert!(model.iter().all(|&id| unsettled.get(id) == Some(entry(id))));
            }
            unsettled.remove_link(1);
            model.retain(|&id| entry(id).link != 1);
            prop_assert_eq!(unsettled.len(), model.len());
        }
    }
}
