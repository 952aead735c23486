//! Which destination gets a delivery (`reference/router/inter-router-protocol.md` §6).

use crate::control::table::{AddressEntry, Destination};

/// How many destinations one choice compares. More than anyone attaches to one address, and a
/// bound on what a delivery can cost when somebody does.
const COMPARED: usize = 64;

/// The next destination in turn.
pub(super) fn closest(entry: &AddressEntry, turn: &mut usize) -> Option<usize> {
    let count = entry.destinations.len();
    if count == 0 {
        return None;
    }
    let chosen = *turn % count;
    *turn = chosen + 1;
    Some(chosen)
}

/// The least loaded destination, in turn among equals.
///
/// A destination with no load at all is taken at once. One whose load has reached its capacity is
/// taken only when all have.
pub(super) fn balanced(entry: &AddressEntry, turn: &mut usize) -> Option<usize> {
    let count = entry.destinations.len();
    if count == 0 {
        return None;
    }
    let start = *turn % count;
    let mut best: Option<((bool, u32), usize)> = None;
    for index in (start..count).chain(0..start).take(COMPARED) {
        let load = entry.destinations[index].load.get();
        if load == 0 {
            best = Some(((false, 0), index));
            break;
        }
        let rank = (is_full(&entry.destinations[index], load), load);
        if best.is_none_or(|(lowest, _)| rank < lowest) {
            best = Some((rank, index));
        }
    }
    let (_, chosen) = best?;
    *turn = chosen + 1;
    Some(chosen)
}

fn is_full(destination: &Destination, load: u32) -> bool {
    load >= destination.capacity
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control::address::AddressKey;
    use crate::control::table::{AddressId, LinkLoad, Slot, Treatment, WorkerId};

    fn entry(loads: &[(u32, u32)]) -> AddressEntry {
        let destinations = loads
            .iter()
            .map(|&(load, capacity)| {
                let shared = Arc::new(LinkLoad::default());
                (0..load).for_each(|_| shared.add());
                let link = Slot {
                    index: 0,
                    serial: 0,
                };
                Destination {
                    worker: WorkerId(0),
                    link,
                    capacity,
                    load: shared,
                }
            })
            .collect();
        AddressEntry {
            id: AddressId(0),
            key: AddressKey::mobile("a"),
            treatment: Treatment::Balanced,
            priority: None,
            destinations,
        }
    }

    #[test]
    fn nobody_means_nobody() {
        let mut turn = 7;
        assert_eq!(closest(&entry(&[]), &mut turn), None);
        assert_eq!(balanced(&entry(&[]), &mut turn), None);
    }

    #[test]
    fn closest_takes_turns() {
        let (entry, mut turn) = (entry(&[(9, 250), (0, 250), (5, 250)]), 0);
        let chosen: Vec<_> = (0..5).filter_map(|_| closest(&entry, &mut turn)).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1]);
    }

    #[test]
    fn balanced_takes_the_least_loaded() {
        let (entry, mut turn) = (entry(&[(4, 250), (2, 250), (3, 250)]), 0);
        assert_eq!(balanced(&entry, &mut turn), Some(1));
        entry.destinations[1].load.add();
        entry.destinations[1].load.add();
        assert_eq!(balanced(&entry, &mut turn), Some(2));
    }

    #[test]
    fn idle_destinations_take_turns() {
        let (entry, mut turn) = (entry(&[(0, 250), (0, 250)]), 0);
        let chosen: Vec<_> = (0..4).filter_map(|_| balanced(&entry, &mut turn)).collect();
        assert_eq!(chosen, [0, 1, 0, 1]);
    }

    #[test]
    fn a_full_destination_waits_until_all_are_full() {
        let mut turn = 0;
        assert_eq!(balanced(&entry(&[(5, 5), (90, 250)]), &mut turn), Some(1));
        assert_eq!(balanced(&entry(&[(5, 5), (251, 250)]), &mut turn), Some(0));
    }
}
