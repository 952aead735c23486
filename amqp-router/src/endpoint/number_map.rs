use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Maps the peer's channels or handles to indices of ours.
///
/// Peers mostly count from 0, so most numbers index a vector; what is far beyond the others goes
/// to a tree, so that memory is proportional to the number of entries whatever numbers are used.
#[derive(Debug, Default)]
pub(super) struct NumberMap {
    dense: Vec<u32>,
    sparse: BTreeMap<u32, u32>,
}

impl NumberMap {
    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<u32> {
        match self.dense.get(number as usize) {
            Some(&NONE) | None => self.get_sparse(number),
            found => found.copied(),
        }
    }

    fn get_sparse(&self, number: u32) -> Option<u32> {
        if self.sparse.is_empty() {
            return None;
        }
        self.sparse.get(&number).copied()
    }

    /// Adds a number that is not there yet; `index` is below `u32::MAX`.
    pub(super) fn insert(&mut self, number: u32, index: u32) {
        debug_assert!(self.get(number).is_none() && index != NONE);
        let at = number as usize;
        if at >= self.dense.len() + GAP {
            self.sparse.insert(number, index);
            return;
        }
        if at >= self.dense.len() {
            self.dense.resize(at + 1, NONE);
        }
        self.dense[at] = index;
    }

    pub(super) fn remove(&mut self, number: u32) {
        self.sparse.remove(&number);
        if let Some(entry) = self.dense.get_mut(number as usize) {
            *entry = NONE;
            while self.dense.last() == Some(&NONE) {
                self.dense.pop();
            }
        }
        if self.dense.is_empty() {
            self.dense = Vec::new();
        }
    }
}

/// Our own channels or handles: the lowest free number is the next one used.
#[derive(Debug, Default)]
pub(super) struct FreeNumbers {
    /// Below it every number is used or in `free`.
    next: u32,
    free: BinaryHeap<Reverse<u32>>,
}

impl FreeNumbers {
    /// The lowest free number, if it is at most `max`.
    pub(super) fn take(&mut self, max: u32) -> Option<u32> {
        if let Some(&Reverse(lowest)) = self.free.peek() {
            if lowest > max {
                return None;
            }
            self.free.pop();
            return Some(lowest);
        }
        if self.next > max || self.next == u32::MAX {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    pub(super) fn release(&mut self, number: u32) {
        self.free.push(Reverse(number));
        if self.free.len() == self.next as usize {
            *self = Self::default();
        }
    }
}

const NONE: u32 = u32::MAX;
/// How far beyond the end of the vector a number may be and still extend it.
const GAP: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_can_be_mapped_in_little_memory() {
        let mut map = NumberMap::default();
        let numbers = [0, 1, 5, 15, 1000, u32::MAX];
        for (index, number) in numbers.into_iter().enumerate() {
            assert_eq!(map.get(number), None);
            map.insert(number, index as u32);
        }
        for (index, number) in numbers.into_iter().enumerate() {
            assert_eq!(map.get(number), Some(index as u32));
        }
        assert!(map.dense.len() <= 16);
        for number in numbers {
            map.remove(number);
            assert_eq!(map.get(number), None);
        }
        assert_eq!(map.dense.capacity(), 0);
    }

    #[test]
    fn a_number_in_the_tree_is_found_once_the_vector_reaches_it() {
        let mut map = NumberMap::default();
        map.insert(20, 1);
        map.insert(15, 2);
        map.insert(25, 3);
        assert_eq!(
            (map.get(20), map.get(15), map.get(25)),
            (Some(1), Some(2), Some(3))
        );
        map.remove(20);
        assert_eq!((map.get(20), map.get(25)), (None, Some(3)));
    }

    #[test]
    fn the_lowest_free_number_comes_first() {
        let mut numbers = FreeNumbers::default();
        assert_eq!(
            [0, 1, 2].map(|_| numbers.take(2)),
            [Some(0), Some(1), Some(2)]
        );
        assert_eq!(numbers.take(2), None);
        numbers.release(2);
        numbers.release(0);
        assert_eq!([0, 1, 2].map(|_| numbers.take(2)), [Some(0), Some(2), None]);
    }
}
