//! A link of the relay and the deliveries that pass through it.

use std::collections::VecDeque;

use crate::wire::encode::Role;

/// A link, on the connection that attached it. Our handle is the peer's.
#[derive(Debug)]
pub(super) struct Link {
    /// The peer's role.
    pub(super) role: Role,
    pub(super) address: Vec<u8>,
    /// The link at the other end of the relay.
    pub(super) other: Option<LinkRef>,
    /// Credit held by whoever sends on this link.
    pub(super) credit: u32,
    pub(super) delivery_count: u32,
    /// The delivery of an incoming link whose last frame has not come yet.
    pub(super) delivery: Option<Delivery>,
}

/// Where a link is. Connections are never numbered twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkRef {
    pub(super) connection: usize,
    pub(super) handle: u32,
}

/// A delivery on its way through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery {
    /// Its delivery-id on the way out; `None` when it is lost on purpose.
    pub(super) id: Option<u32>,
    pub(super) tag: Tag,
    pub(super) message_format: u32,
}

/// A delivery-tag, 32 octets at most (AMQP 2.8.7).
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag {
    octets: [u8; 32],
    len: u8,
}

impl Tag {
    pub(super) fn new(tag: &[u8]) -> Option<Self> {
        let mut octets = [0; 32];
        octets.get_mut(..tag.len())?.copy_from_slice(tag);
        Some(Tag {
            octets,
            len: tag.len() as u8,
        })
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }
}

/// Which delivery of which connection each outgoing delivery is, from the oldest unsettled on.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    oldest: u32,
    origins: VecDeque<Option<Origin>>,
}

/// A delivery as its sender numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) connection: usize,
    pub(super) id: u32,
}

impl Deliveries {
    /// Gives the next delivery-id; `origin` waits for its outcome, unless sent settled.
    pub(super) fn start(&mut self, origin: Option<Origin>) -> u32 {
        let id = self.oldest.wrapping_add(self.origins.len() as u32);
        self.origins.push_back(origin);
        self.trim();
        id
    }

    /// Takes out those of `first..=last` that wait, in order. The cost is bounded by the
    /// deliveries that do, whatever the range.
    pub(super) fn settle(&mut self, first: u32, last: u32, mut settled: impl FnMut(Origin)) {
        let from = first.wrapping_sub(self.oldest) as usize;
        let to = last.wrapping_sub(self.oldest) as usize;
        let end = to.saturating_add(1).min(self.origins.len());
        for index in from..end {
            if let Some(origin) = self.origins[index].take() {
                settled(origin);
            }
        }
        self.trim();
    }

    fn trim(&mut self) {
        while self.origins.front() == Some(&None) {
            self.origins.pop_front();
            self.oldest = self.oldest.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(id: u32) -> Origin {
        Origin { connection: 1, id }
    }

    fn settle(deliveries: &mut Deliveries, first: u32, last: u32) -> Vec<u32> {
        let mut ids = Vec::new();
        deliveries.settle(first, last, |origin| ids.push(origin.id));
        ids
    }

    #[test]
    fn each_origin_hears_once() {
        let mut deliveries = Deliveries {
            oldest: u32::MAX,
            ..Deliveries::default()
        };
        let ids: Vec<u32> = (10..14)
            .map(|id| deliveries.start(Some(origin(id))))
            .collect();
        assert_eq!(ids, [u32::MAX, 0, 1, 2]);
        assert_eq!(settle(&mut deliveries, 0, 1), [11, 12]);
        assert_eq!(settle(&mut deliveries, u32::MAX, 2), [10, 13]);
        assert_eq!(settle(&mut deliveries, u32::MAX, 2), []);
        assert!(deliveries.origins.is_empty());
    }

    #[test]
    fn settled_deliveries_take_an_id_and_nothing_else() {
        let mut deliveries = Deliveries::default();
        for expected in 0..5 {
            assert_eq!(deliveries.start(None), expected);
        }
        assert!(deliveries.origins.is_empty());
        assert_eq!(settle(&mut deliveries, 0, u32::MAX), []);
    }
}
