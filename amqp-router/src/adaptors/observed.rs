//! What is seen of the octets of a client's TCP connection, until somebody has told of it.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;

use crate::observers::{Event, Observer, Protocol, Speaker, Watch};
use crate::vanflow::RecordId;

/// What looks at one connection.
#[derive(Debug)]
pub(crate) struct Observed {
    observer: Observer,
    /// What has passed in this turn.
    unseen: Vec<(Speaker, Bytes)>,
    /// The records, in telemetry, of exchanges that have not ended.
    pub(crate) records: HashMap<u32, RecordId>,
}

impl Observed {
    /// For a connection that is to be looked at.
    pub(crate) fn new(watch: Watch) -> Option<Box<Self>> {
        let observer = Observer::new(watch)?;
        Some(Box::new(Self {
            observer,
            unseen: Vec::new(),
            records: HashMap::new(),
        }))
    }

    /// Octets pass; they are looked at when the turn ends.
    pub(super) fn pass(&mut self, speaker: Speaker, octets: &Bytes) {
        self.unseen.push((speaker, octets.clone()));
    }

    /// How many octets may pass next without being looked at.
    pub(super) fn unseen(&self, speaker: Speaker) -> u64 {
        match self.unseen.is_empty() {
            true => self.observer.unseen(speaker),
            false => 0,
        }
    }

    /// Octets pass without being looked at.
    pub(super) fn skip(&mut self, speaker: Speaker, octets: u64, now: Instant) {
        self.observer.skip(speaker, octets, now);
    }

    /// Looks at what has passed in this turn. `telling`: somebody wants to know what requests are.
    pub(crate) fn look(&mut self, telling: bool, service_ended: bool, now: Instant) {
        self.observer.set_telling(telling);
        for (speaker, octets) in self.unseen.drain(..) {
            self.observer.observe(speaker, &octets, now);
        }
        if service_ended {
            self.observer.ended(Speaker::Service, now);
        }
    }

    /// Nothing more will pass.
    pub(crate) fn finish(&mut self, now: Instant) {
        self.observer.finish(now);
    }

    /// Whether there is nothing to look at.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.unseen.is_empty()
    }

    /// What there is to tell.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        self.observer.take_events()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.observer.is_over()
    }

    /// What the connection has turned out to be.
    pub(crate) fn protocol(&self) -> Option<Protocol> {
        self.observer.protocol()
    }
}
