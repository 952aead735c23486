//! Counters, counted where things happen and read when someone asks.

use std::time::{Duration, Instant};

use crate::codec::DeliveryState;
use crate::control::topology::Ingress;

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

/// Where the deliveries that are done with on a link entered the network: here first, then at each
/// other router by its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entered(Vec<u64>);

impl Entered {
    #[inline]
    pub(crate) fn note(&mut self, ingress: Ingress) {
        let router = match ingress {
            Ingress::Here => 0,
            Ingress::Router(router) => router.0 as usize + 1,
            Ingress::Unknown => return,
        };
        if self.0.len() <= router {
            self.0.resize(router + 1, 0);
        }
        self.0[router] += 1;
    }

    pub(crate) fn counts(&self) -> &[u64] {
        &self.0
    }
}

/// Slots of one kind that a worker has made, and those that are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) kind: &'static str,
    /// Octets of one slot.
    pub(crate) size: usize,
    pub(crate) slots: usize,
    pub(crate) used: usize,
}

impl Pool {
    /// The slots of a slab.
    pub(crate) fn of<T>(kind: &'static str, slab: &slab::Slab<T>) -> Self {
        Self {
            kind,
            size: size_of::<T>(),
            slots: slab.capacity(),
            used: slab.len(),
        }
    }

    /// Adds pools to others, kind by kind.
    pub(crate) fn add_all<'a>(pools: &mut Vec<Self>, more: impl IntoIterator<Item = &'a Self>) {
        for pool in more {
            match pools.iter_mut().find(|known| known.kind == pool.kind) {
                Some(known) => {
                    known.slots += pool.slots;
                    known.used += pool.used;
                }
                None => pools.push(*pool),
            }
        }
    }
}

/// Who is at the other end of a link, where counters tell them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Party {
    /// A client, or another router.
    #[default]
    Any,
    /// A broker or another container with addresses of its own: a route container.
    Container,
    /// A router of another network.
    Network,
    /// A program in this process.
    Program,
}

/// Deliveries of one [`Party`], of those that have been counted already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartyCounts {
    pub(crate) ingress: u64,
    pub(crate) egress: u64,
}

impl PartyCounts {
    fn add(&mut self, other: &Self) {
        self.ingress += other.ingress;
        self.egress += other.egress;
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
    pub(crate) containers: PartyCounts,
    pub(crate) networks: PartyCounts,
    pub(crate) programs: PartyCounts,
}

impl AddressCounts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.ingress += other.ingress;
        self.egress += other.egress;
        self.transit += other.transit;
        self.containers.add(&other.containers);
        self.networks.add(&other.networks);
        self.programs.add(&other.programs);
    }

    #[inline]
    pub(super) fn came(&mut self, from: Party) {
        self.ingress += 1;
        if let Some(counts) = self.of(from) {
            counts.ingress += 1;
        }
    }

    #[inline]
    pub(super) fn went(&mut self, to: Party) {
        self.egress += 1;
        if let Some(counts) = self.of(to) {
            counts.egress += 1;
        }
    }

    fn of(&mut self, party: Party) -> Option<&mut PartyCounts> {
        match party {
            Party::Any => None,
            Party::Container => Some(&mut self.containers),
            Party::Network => Some(&mut self.networks),
            Party::Program => Some(&mut self.programs),
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.ingress + self.egress + self.transit
    }
}

/// How long ago deliveries came in. Many come at one time and are settled at another: what was found
/// last is remembered.
#[derive(Debug, Default)]
pub(super) struct Ages(Option<(Instant, Instant, Duration)>);

impl Ages {
    #[inline]
    pub(super) fn between(&mut self, arrived: Instant, now: Instant) -> Duration {
        match self.0 {
            Some((from, to, age)) if from == arrived && to == now => age,
            _ => {
                let age = now.duration_since(arrived);
                self.0 = Some((arrived, now, age));
                age
            }
        }
    }
}

/// How long deliveries were here until they were settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Latency {
    /// At most each of [`LATENCY_BOUNDS`] and more than those before it; the last: more than all.
    pub(crate) counts: [u64; 7],
    microseconds: u64,
}

/// Seconds.
pub(crate) const LATENCY_BOUNDS: [&str; 6] = ["0.0001", "0.001", "0.01", "0.1", "1", "10"];

impl Latency {
    #[inline]
    pub(crate) fn note(&mut self, age: Duration) {
        let microseconds = age.as_micros() as u64;
        let (mut bucket, mut bound) = (0, 100);
        while microseconds > bound && bucket < LATENCY_BOUNDS.len() {
            (bucket, bound) = (bucket + 1, bound * 10);
        }
        self.counts[bucket] += 1;
        self.microseconds += microseconds;
    }

    /// All of them added up.
    pub(crate) fn seconds(&self) -> f64 {
        self.microseconds as f64 / 1e6
    }

    fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.microseconds += other.microseconds;
    }
}

/// One worker's totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkerCounts {
    pub(crate) latency: Latency,
    pub(crate) outcomes: DeliveryCounts,
    pub(crate) ingress: u64,
    pub(crate) egress: u64,
    pub(crate) transit: u64,
    /// Deliveries that came back from a destination and went to another one.
    pub(crate) resent: u64,
    pub(crate) containers: PartyCounts,
    pub(crate) networks: PartyCounts,
    pub(crate) programs: PartyCounts,
    pub(crate) waits: Waits,
}

impl WorkerCounts {
    #[inline]
    pub(super) fn came(&mut self, from: Party) {
        self.ingress += 1;
        match from {
            Party::Any => {}
            Party::Container => self.containers.ingress += 1,
            Party::Network => self.networks.ingress += 1,
            Party::Program => self.programs.ingress += 1,
        }
    }

    #[inline]
    pub(super) fn went(&mut self, to: Party) {
        self.egress += 1;
        match to {
            Party::Any => {}
            Party::Container => self.containers.egress += 1,
            Party::Network => self.networks.egress += 1,
            Party::Program => self.programs.egress += 1,
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.outcomes.add(&other.outcomes);
        self.ingress += other.ingress;
        self.egress += other.egress;
        self.transit += other.transit;
        self.resent += other.resent;
        self.containers.add(&other.containers);
        self.networks.add(&other.networks);
        self.programs.add(&other.programs);
        self.waits.connect.add(&other.waits.connect);
        self.waits.first_octet.add(&other.waits.first_octet);
        self.waits.http_answer.add(&other.waits.http_answer);
    }
}

/// How long TCP connections, and requests in them, waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waits {
    /// For a service to take the connection.
    pub(crate) connect: Latency,
    /// A client, from when it was accepted, for its service's first octet.
    pub(crate) first_octet: Latency,
    /// A request of HTTP, for the beginning of its answer.
    pub(crate) http_answer: Latency,
}

/// What one worker's links to AMQP peers and local programs have before them at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Deliveries queued on outgoing links: not, or not entirely, sent.
    pub(crate) undelivered: u64,
    /// Deliveries whose outcome their senders wait for.
    pub(crate) unsettled: u64,
    /// Deliveries that have been on their link, of either direction, for [`Patience::limit`].
    pub(crate) stuck: u64,
    /// Incoming links whose sender has had no credit for as long.
    pub(crate) blocked_in: u64,
    /// Outgoing links whose receiver has given no credit for as long.
    pub(crate) blocked_out: u64,
}

impl Backlog {
    pub(crate) fn add(&mut self, other: &Self) {
        self.undelivered += other.undelivered;
        self.unsettled += other.unsettled;
        self.stuck += other.stuck;
        self.blocked_in += other.blocked_in;
        self.blocked_out += other.blocked_out;
    }
}

/// What is too long, and how often it is looked for to be told of; as in skrouterd.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How old a delivery is when it counts as stuck, and how long a link is without credit when
    /// it counts as blocked.
    pub(crate) limit: Duration,
    /// Ticks between looks.
    pub(crate) interval: u32,
}

impl Patience {
    /// For tests of what comes of it.
    pub(crate) const SHORT: Self = Self {
        limit: Duration::from_secs(3),
        interval: 5,
    };
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            limit: Duration::from_secs(10),
            interval: 30,
        }
    }
}

/// What is wrong with a link, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It has deliveries that are older than so many seconds.
    Stuck(u64),
    /// For so many seconds nothing has been allowed to go by it.
    Blocked(u64),
}

/// What a link's troubles have been told of, while they last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ToldOf {
    stuck: bool,
    blocked: bool,
}

impl ToldOf {
    /// What is news.
    pub(super) fn follow(
        &mut self,
        stuck: Option<u64>,
        blocked: Option<u64>,
    ) -> [Option<Trouble>; 2] {
        let news = [
            stuck.filter(|_| !self.stuck).map(Trouble::Stuck),
            blocked.filter(|_| !self.blocked).map(Trouble::Blocked),
        ];
        (self.stuck, self.blocked) = (stuck.is_some(), blocked.is_some());
        news
    }
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
    fn latencies_fall_into_their_buckets() {
        let mut latency = Latency::default();
        for microseconds in [
            0,
            100,
            101,
            1000,
            9_000_000,
            10_000_000,
            10_000_001,
            1 << 40,
        ] {
            latency.note(Duration::from_micros(microseconds));
        }
        assert_eq!(latency.counts, [2, 2, 0, 0, 0, 2, 2]);
        let mut both = latency;
        both.add(&latency);
        assert_eq!(both.counts, [4, 4, 0, 0, 0, 4, 4]);
        assert!((both.seconds() - 2.0 * latency.seconds()).abs() < 1e-6);
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
