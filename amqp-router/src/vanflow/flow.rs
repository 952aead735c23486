//! What workers tell of TCP connections, and of requests in them.
//!
//! A worker tells when a connection begins, when something is known of it that was not before, and
//! when it ends; never when octets pass. How many have passed it says once a second, and only while
//! there is a collector for them.

use std::time::{Duration, Instant};

use super::attribute::{Attribute, Datum};
use super::identity::{Identity, RecordId};

/// Something to be told of a TCP connection.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FlowEvent {
    /// A client has connected to a listener.
    Began {
        record: RecordId,
        /// The record of the listener's way to the address.
        listener: RecordId,
        at: Instant,
    },
    /// A request has been sent in a client's connection.
    Asked {
        record: RecordId,
        /// The record of the connection.
        connection: RecordId,
        at: Instant,
    },
    /// A stream has come for a service of this router, and has a record.
    Joined(Identity),
    Says(FlowKey, Attribute, Datum),
    Ended(FlowKey, Instant),
}

/// The record of a TCP connection, seen from one of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlowKey {
    /// The client's end: the record is this router's own.
    Own(RecordId),
    /// The service's end.
    Of(Identity),
}

/// What one end of a TCP connection keeps for its record.
#[derive(Debug)]
pub(crate) struct Flow {
    key: FlowKey,
    /// When the first octet for the service passed.
    asked: Option<Instant>,
    /// Whether the first octet of the answer was seen.
    answered: bool,
    /// Octets of both directions as they were told last.
    told: [u64; 2],
}

impl Flow {
    pub(crate) fn new(key: FlowKey) -> Self {
        Self {
            key,
            asked: None,
            answered: false,
            told: [0, 0],
        }
    }

    pub(crate) fn key(&self) -> FlowKey {
        self.key
    }

    /// Whether [`passed`](Self::passed) has nothing more to learn.
    #[inline]
    pub(crate) fn is_timed(&self) -> bool {
        self.answered
    }

    /// Takes how many octets have passed, to the service and back; tells how long the answer took
    /// once it has begun. An answer that nobody asked for took no time worth telling.
    pub(crate) fn passed(&mut self, octets: [u64; 2], now: Instant) -> Option<FlowEvent> {
        if octets[1] > 0 && !self.answered {
            self.answered = true;
            let took = now.saturating_duration_since(self.asked?);
            let attribute = match self.key {
                FlowKey::Own(_) => Attribute::Latency,
                FlowKey::Of(_) => Attribute::ProcessLatency,
            };
            return Some(self.says(attribute, micros(took)));
        }
        if octets[0] > 0 {
            self.asked.get_or_insert(now);
        }
        None
    }

    /// How many octets have passed, if that is news. Only the client's end says so.
    pub(crate) fn count(&mut self, octets: [u64; 2]) -> impl Iterator<Item = FlowEvent> + use<> {
        let counted = match self.key {
            FlowKey::Own(_) => octets,
            FlowKey::Of(_) => self.told,
        };
        let before = std::mem::replace(&mut self.told, counted);
        let key = self.key;
        let attributes = [Attribute::Octets, Attribute::OctetsReverse];
        let counts = attributes.into_iter().zip(before.into_iter().zip(counted));
        counts
            .filter(|(_, (before, counted))| before != counted)
            .map(move |(attribute, (_, counted))| FlowEvent::Says(key, attribute, counted.into()))
    }

    /// Why the connection failed at this end.
    pub(crate) fn failed(&self, error: &str) -> FlowEvent {
        let attribute = match self.key {
            FlowKey::Own(_) => Attribute::ErrorListenerSide,
            FlowKey::Of(_) => Attribute::ErrorConnectorSide,
        };
        self.says(attribute, error)
    }

    pub(crate) fn says(&self, attribute: Attribute, datum: impl Into<Datum>) -> FlowEvent {
        FlowEvent::Says(self.key, attribute, datum.into())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Flow {
        Flow::new(FlowKey::Own(RecordId(3)))
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // where its time starts makes no difference
    fn the_latency_is_from_the_first_octet_asked_to_the_first_answered() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut flow = own();
        assert_eq!(flow.passed([0, 0], at(0)), None);
        assert_eq!(flow.passed([10, 0], at(5)), None);
        assert_eq!(flow.passed([20, 0], at(7)), None);
        let latency = flow.says(Attribute::Latency, 4000);
        assert_eq!(flow.passed([20, 1], at(9)), Some(latency));
        assert!(flow.is_timed());
        assert_eq!(flow.passed([30, 9], at(20)), None, "it is told once");

        let mut greeted = own();
        assert_eq!(greeted.passed([0, 5], at(1)), None, "nobody had asked");
        assert!(greeted.is_timed());
    }

    #[test]
    fn octets_are_told_when_they_have_changed() {
        let mut flow = own();
        assert_eq!(flow.count([0, 0]).count(), 0);
        let sent = flow.says(Attribute::Octets, 5);
        assert_eq!(flow.count([5, 0]).collect::<Vec<_>>(), [sent]);
        assert_eq!(flow.count([6, 7]).count(), 2);
        let mut other = Flow::new(FlowKey::Of(Identity::parse("abcde:1").unwrap()));
        assert_eq!(other.count([6, 7]).count(), 0);
    }
}
