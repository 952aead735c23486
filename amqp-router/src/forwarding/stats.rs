//! Counters, counted where things happen and read when someone asks.

use std::time::Duration;

use crate::codec::DeliveryState;

/// What became of deliveries, on a link or on a whole worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeliveryCounts {
    /// Deliveries started.
    pub(crate) deliveries: u64,
    pub(crate) presettled: u64,
    /// Presettled deliveries given up because the receiver was too slow.
    pub(crate) dropped_presettled: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    pub(crate) released: u64,
    pub(crate) modified: u64,
    /// Settled later than one second, and not later than ten, after they came in.
    pub(crate) delayed_1s: u64,
    /// Settled later than ten seconds after they came in.
    pub(crate) delayed_10s: u64,
}

impl DeliveryCounts {
    /// Counts a delivery that was settled with `state`, `age` after it came in.
    pub(crate) fn settled(&mut self, state: Option<&DeliveryState>, age: Duration) {
        match state {
            Some(DeliveryState::Accepted) => self.accepted += 1,
            Some(DeliveryState::Rejected(_)) => self.rejected += 1,
            Some(DeliveryState::Released) => self.released += 1,
            Some(DeliveryState::Modified(_)) => self.modified += 1,
            _ => {}
        }
        if age > Duration::from_secs(10) {
            self.delayed_10s += 1;
        } else if age > Duration::from_secs(1) {
            self.delayed_1s += 1;
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.deliveries += other.deliveries;
        self.presettled += other.presettled;
        self.dropped_presettled += other.dropped_presettled;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.released += other.released;
        self.modified += other.modified;
        self.delayed_1s += other.delayed_1s;
        self.delayed_10s += other.delayed_10s;
    }

    /// Deliveries that are done with.
    pub(crate) fn finished(&self) -> u64 {
        self.presettled + self.accepted + self.rejected + self.released + self.modified
    }
}

/// Deliveries to one address through one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AddressCounts {
    /// Came in from clients of this router.
    pub(crate) ingress: u64,
    /// Went out to clients of this router.
    pub(crate) egress: u64,
    /// Went on to other routers.
    pub(crate) transit: u64,
}

/// One worker's totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkerCounts {
    pub(crate) outcomes: DeliveryCounts,
    pub(crate) ingress: u64,
    pub(crate) egress: u64,
    pub(crate) transit: u64,
}

/// Events per second, over the last five.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    at: usize,
    last: u64,
    seconds: [u32; 5],
}

impl Rate {
    /// Takes the total as it is now; to be called once a second.
    pub(crate) fn tick(&mut self, total: u64) {
        self.seconds[self.at] = u32::try_from(total - self.last).unwrap_or(u32::MAX);
        self.at = (self.at + 1) % self.seconds.len();
        self.last = total;
    }

    pub(crate) fn per_second(&self) -> u32 {
        let sum: u64 = self.seconds.iter().copied().map(u64::from).sum();
        u32::try_from(sum / self.seconds.len() as u64).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_mean_of_the_last_five_seconds() {
        let mut rate = Rate::default();
        for total in [100, 200, 300, 400, 500, 500, 500] {
            rate.tick(total);
        }
        assert_eq!(rate.per_second(), 60);
    }

    #[test]
    fn a_late_settlement_is_counted_once() {
        let mut counts = DeliveryCounts::default();
        counts.settled(Some(&DeliveryState::Accepted), Duration::from_secs(11));
        counts.settled(Some(&DeliveryState::Released), Duration::from_secs(2));
        counts.settled(None, Duration::ZERO);
        assert_eq!((counts.accepted, counts.released), (1, 1));
        assert_eq!((counts.delayed_1s, counts.delayed_10s), (1, 1));
    }
}
