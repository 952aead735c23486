//! Link-credit, delivery-count and drain (AMQP 2.6.7); nothing else.

use crate::codec::{LinkFlow, Serial};

/// The credit of a sending link, as its receiver granted it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SenderCredit {
    initial: Serial,
    delivery_count: Serial,
    link_credit: u32,
    drain: bool,
    /// The receiver has been told that there is no more.
    answered: bool,
    /// Deliveries that wait for credit, for the receiver to know.
    pub(super) available: u32,
}

impl SenderCredit {
    pub(super) fn new(initial_delivery_count: u32) -> Self {
        Self {
            initial: Serial(initial_delivery_count),
            delivery_count: Serial(initial_delivery_count),
            link_credit: 0,
            drain: false,
            answered: false,
            available: 0,
        }
    }

    /// Sets where we count from, before the first delivery; credit granted already stays.
    pub(super) fn set_initial(&mut self, delivery_count: u32) {
        self.initial = Serial(delivery_count);
        self.delivery_count = self.initial;
    }

    pub(super) fn link_credit(&self) -> u32 {
        self.link_credit
    }

    pub(super) fn delivery_count(&self) -> u32 {
        self.delivery_count.0
    }

    /// Whether the receiver asked for the credit to be used up.
    pub(super) fn drain(&self) -> bool {
        self.drain
    }

    /// Takes in the receiver's flow; true when credit or drain changed, or it asks to be drained.
    ///
    /// The flow may be older than our last deliveries, so credit counts from the delivery-count
    /// in the flow: `delivery-count(rcv) + link-credit(rcv) - delivery-count(snd)`. A receiver
    /// that claims deliveries which we never sent is taken to have seen all of them.
    pub(super) fn on_flow(&mut self, flow: &LinkFlow) -> bool {
        let before = (self.link_credit, self.drain);
        if let Some(granted) = flow.link_credit {
            let seen = flow.delivery_count.map_or(self.initial, Serial);
            let in_flight = self.delivery_count.since(seen).max(0).cast_unsigned();
            self.link_credit = granted.saturating_sub(in_flight);
        }
        (self.drain, self.answered) = (flow.drain, false);
        flow.drain || before != (self.link_credit, self.drain)
    }

    /// Spends one credit on a new delivery; false, and nothing changes, when there is none.
    #[inline]
    pub(super) fn spend(&mut self) -> bool {
        if self.link_credit == 0 {
            return false;
        }
        self.link_credit -= 1;
        self.delivery_count = self.delivery_count.plus(1);
        true
    }

    /// Spends what credit is left without sending, as the receiver asked with `drain`.
    /// Advancing delivery-count is how both ends come to agree that it is gone. True when the
    /// receiver must be told: it may wait for the answer though it has had all its credit.
    pub(super) fn drained(&mut self) -> bool {
        self.delivery_count = self.delivery_count.plus(self.link_credit);
        let left = std::mem::take(&mut self.link_credit) > 0;
        self.drain && (!std::mem::replace(&mut self.answered, true) || left)
    }
}

/// The credit of a receiving link, as we granted it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiverCredit {
    delivery_count: Serial,
    link_credit: u32,
    /// Deliveries the sender may still start; more than `link_credit` after a reduction that
    /// it may not have seen yet.
    allowed: u32,
    /// Deliveries beyond all credit that are put up with until more is granted, and how many of them
    /// are left.
    overdraft: [u32; 2],
    drain: bool,
    /// What the sender said it has waiting.
    pub(super) available: u32,
}

impl ReceiverCredit {
    /// Without an initial delivery-count while the sender's attach has not been seen.
    pub(super) fn new(initial_delivery_count: u32) -> Self {
        Self {
            delivery_count: Serial(initial_delivery_count),
            link_credit: 0,
            allowed: 0,
            overdraft: [0, 0],
            drain: false,
            available: 0,
        }
    }

    /// Puts up with so many deliveries beyond the credit granted.
    pub(super) fn allow_overdraft(&mut self, deliveries: u32) {
        self.overdraft = [deliveries, deliveries];
    }

    pub(super) fn link_credit(&self) -> u32 {
        self.link_credit
    }

    pub(super) fn delivery_count(&self) -> u32 {
        self.delivery_count.0
    }

    pub(super) fn drain(&self) -> bool {
        self.drain
    }

    /// The sender's attach has told where it counts from.
    pub(super) fn set_initial(&mut self, delivery_count: u32) {
        self.delivery_count = Serial(delivery_count);
    }

    /// Grants `link_credit` from here on; true when the sender must be told.
    pub(super) fn grant(&mut self, link_credit: u32) -> bool {
        if link_credit == self.link_credit && !self.drain {
            return false;
        }
        self.link_credit = link_credit;
        self.allowed = self.allowed.max(link_credit);
        self.overdraft[1] = self.overdraft[0];
        self.drain = false;
        true
    }

    /// Asks the sender to use up its credit; true when it must be told.
    pub(super) fn start_drain(&mut self) -> bool {
        !std::mem::replace(&mut self.drain, true)
    }

    /// Counts a delivery that arrives; false when it is beyond all credit ever granted.
    #[inline]
    pub(super) fn receive(&mut self) -> bool {
        match (self.allowed, self.overdraft[1]) {
            (0, 0) => return false,
            (0, _) => self.overdraft[1] -= 1,
            _ => self.allowed -= 1,
        }
        self.link_credit = self.link_credit.saturating_sub(1);
        self.delivery_count = self.delivery_count.plus(1);
        true
    }

    /// Takes in the sender's flow; true when credit was used up without deliveries.
    ///
    /// Only an advanced delivery-count means something: the flow follows all deliveries that
    /// were sent before it.
    pub(super) fn on_flow(&mut self, flow: &LinkFlow) -> bool {
        self.available = flow.available.unwrap_or(self.available);
        let Some(count) = flow.delivery_count else {
            return false;
        };
        let skipped = Serial(count).since(self.delivery_count).max(0);
        let skipped = skipped.cast_unsigned().min(self.allowed);
        self.delivery_count = self.delivery_count.plus(skipped);
        self.allowed -= skipped;
        self.link_credit = self.link_credit.saturating_sub(skipped);
        let drained = self.drain && self.link_credit == 0;
        if drained {
            self.drain = false;
        }
        skipped > 0 || drained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(delivery_count: u32, link_credit: u32) -> LinkFlow {
        LinkFlow {
            delivery_count: Some(delivery_count),
            link_credit: Some(link_credit),
            ..LinkFlow::default()
        }
    }

    #[test]
    fn a_stale_flow_does_not_grant_credit_twice() {
        let mut credit = SenderCredit::new(u32::MAX);
        assert!(credit.on_flow(&flow(u32::MAX, 10)));
        for _ in 0..4 {
            assert!(credit.spend());
        }
        assert_eq!(credit.delivery_count(), 3);
        credit.on_flow(&flow(1, 10)); // has seen two of the four
        assert_eq!(credit.link_credit(), 8);
        credit.on_flow(&flow(1, 1));
        assert_eq!(credit.link_credit(), 0);
        assert!(!credit.spend());
    }

    #[test]
    fn the_largest_credit_counts() {
        let mut credit = SenderCredit::new(7);
        credit.on_flow(&flow(7, u32::MAX));
        assert_eq!(credit.link_credit(), u32::MAX);
        credit.spend();
        credit.drained();
        assert_eq!((credit.link_credit(), credit.delivery_count()), (0, 6));
    }

    #[test]
    fn a_flow_before_the_attach_was_seen_counts_from_the_start() {
        let mut credit = SenderCredit::new(100);
        let unseen = LinkFlow {
            delivery_count: None,
            ..flow(0, 5)
        };
        credit.on_flow(&unseen);
        credit.spend();
        credit.on_flow(&unseen);
        assert_eq!(credit.link_credit(), 4);
    }

    #[test]
    fn deliveries_in_flight_survive_a_reduction() {
        let mut credit = ReceiverCredit::new(u32::MAX);
        credit.grant(3);
        assert!(credit.grant(1));
        assert!(credit.receive() && credit.receive() && credit.receive());
        assert!(!credit.receive());
        assert_eq!((credit.link_credit(), credit.delivery_count()), (0, 2));
    }

    #[test]
    fn an_overdraft_ends_and_comes_back_with_credit() {
        let mut credit = ReceiverCredit::new(0);
        credit.allow_overdraft(2);
        credit.grant(1);
        assert!(credit.receive() && credit.receive() && credit.receive());
        assert!(!credit.receive());
        assert_eq!((credit.link_credit(), credit.delivery_count()), (0, 3));
        credit.grant(1);
        assert!(credit.receive() && credit.receive() && credit.receive());
        assert!(!credit.receive());
    }

    #[test]
    fn draining_ends_with_the_senders_flow() {
        let mut credit = ReceiverCredit::new(0);
        credit.grant(10);
        assert!(credit.start_drain());
        assert!(!credit.start_drain());
        assert!(credit.receive());
        assert!(credit.on_flow(&flow(10, 0)));
        assert_eq!((credit.link_credit(), credit.drain()), (0, false));
        assert!(!credit.receive());
    }

    #[test]
    fn a_sender_cannot_skip_past_its_credit() {
        let mut credit = ReceiverCredit::new(0);
        credit.grant(2);
        credit.on_flow(&flow(1 << 30, 0));
        assert_eq!(credit.delivery_count(), 2);
    }
}
