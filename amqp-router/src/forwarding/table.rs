//! Tables of links and deliveries: slots indexed by small numbers, chained where one owner has
//! many.

use std::ops::{Index, IndexMut};

use slab::Slab;

use crate::control::table::Slot;
use crate::forwarding::stats::Pool;

/// A slab whose slots carry a serial number.
///
/// Inside one worker a plain index is enough, because whoever holds it is told before the slot is
/// emptied. A reference that travels to another worker is a [`Slot`], which outlives its tenant
/// harmlessly.
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: Slab<Tenant<T>>,
    next_serial: u32,
}

#[derive(Debug)]
struct Tenant<T> {
    serial: u32,
    neighbours: Neighbours,
    value: T,
}

/// The doubly linked list through the slots of one owner.
#[derive(Clone, Copy, Debug, Default)]
struct Neighbours {
    previous: Option<Place>,
    next: Option<Place>,
}

/// An index, one above its value so that `Option` costs nothing.
type Place = std::num::NonZeroU32;

/// The first of an owner's slots.
#[derive(Debug, Default)]
pub(super) struct Chain(Option<Place>);

impl Chain {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            slots: Slab::new(),
            next_serial: 0,
        }
    }
}

impl<T> Table<T> {
    pub(super) fn pool(&self, kind: &'static str) -> Pool {
        Pool::of(kind, &self.slots)
    }

    pub(super) fn insert(&mut self, value: T) -> Slot {
        let serial = self.next_serial;
        self.next_serial = serial.wrapping_add(1);
        let index = self.slots.insert(Tenant {
            serial,
            neighbours: Neighbours::default(),
            value,
        });
        Slot {
            index: index as u32,
            serial,
        }
    }

    /// The slot's value, if its tenant is still the one meant.
    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let tenant = self.slots.get_mut(slot.index as usize)?;
        (tenant.serial == slot.serial).then_some(&mut tenant.value)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&T> {
        let tenant = self.slots.get(slot.index as usize)?;
        (tenant.serial == slot.serial).then_some(&tenant.value)
    }

    /// The full reference to the tenant of `index`.
    pub(super) fn slot(&self, index: u32) -> Slot {
        Slot {
            index,
            serial: self.slots[index as usize].serial,
        }
    }

    pub(super) fn contains(&self, index: u32) -> bool {
        self.slots.contains(index as usize)
    }

    /// Empties a slot that is in no chain.
    pub(super) fn remove(&mut self, index: u32) -> T {
        self.slots.remove(index as usize).value
    }

    /// The same, where nobody needs what was there.
    pub(super) fn discard(&mut self, index: u32) {
        drop(self.slots.remove(index as usize));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.slots
            .iter_mut()
            .map(|(index, tenant)| (index as u32, &mut tenant.value))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots
            .iter()
            .map(|(index, tenant)| (index as u32, &tenant.value))
    }

    /// Puts a slot at the front of its owner's chain.
    pub(super) fn chain(&mut self, chain: &mut Chain, index: u32) {
        let next = chain.0.replace(place(index));
        if let Some(next) = next {
            self.neighbours(next).previous = Some(place(index));
        }
        self.slots[index as usize].neighbours = Neighbours {
            previous: None,
            next,
        };
    }

    /// Takes a slot out of its owner's chain.
    pub(super) fn unchain(&mut self, chain: &mut Chain, index: u32) {
        let Neighbours { previous, next } =
            std::mem::take(&mut self.slots[index as usize].neighbours);
        match previous {
            Some(previous) => self.neighbours(previous).next = next,
            None => chain.0 = next,
        }
        if let Some(next) = next {
            self.neighbours(next).previous = previous;
        }
    }

    /// Every slot of a chain, for an owner that goes away.
    pub(super) fn chained(&self, chain: &Chain) -> Vec<u32> {
        let mut at = chain.0;
        std::iter::from_fn(|| {
            let index = at?.get() - 1;
            at = self.slots[index as usize].neighbours.next;
            Some(index)
        })
        .collect()
    }

    fn neighbours(&mut self, place: Place) -> &mut Neighbours {
        &mut self.slots[place.get() as usize - 1].neighbours
    }
}

impl<T> Index<u32> for Table<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        &self.slots[index as usize].value
    }
}

impl<T> IndexMut<u32> for Table<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.slots[index as usize].value
    }
}

fn place(index: u32) -> Place {
    Place::new(index.wrapping_add(1)).expect("a table has fewer than 2^32 - 1 slots")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_does_not_outlive_its_tenant() {
        let mut table = Table::default();
        let first = table.insert("first");
        table.remove(first.index);
        let second = table.insert("second");
        assert_eq!(second.index, first.index);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.get_mut(second), Some(&mut "second"));
    }

    #[test]
    fn a_chain_forgets_what_leaves_it() {
        let mut table = Table::default();
        let mut chain = Chain::default();
        let slots: Vec<u32> = (0..4).map(|n| table.insert(n).index).collect();
        for &slot in &slots {
            table.chain(&mut chain, slot);
        }
        for leaving in [slots[1], slots[3], slots[0]] {
            table.unchain(&mut chain, leaving);
        }
        assert_eq!(table.chained(&chain), [slots[2]]);
        table.unchain(&mut chain, slots[2]);
        assert!(table.chained(&chain).is_empty());
    }
}
