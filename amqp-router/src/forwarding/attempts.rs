//! Destinations that fail, and deliveries that are tried elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::control::table::{ConnectorId, LinkLoad};
use crate::forwarding::Forwarder;

impl Forwarder {
    /// How many destinations a link's current delivery has been sent to.
    pub(crate) fn attempts(&self, link: u32) -> usize {
        let tried = &self.incoming[link].tried;
        tried.as_ref().map_or(0, Vec::len)
    }

    /// A link's next delivery may go to any destination again.
    pub(crate) fn forget_attempts(&mut self, link: u32) {
        if let Some(tried) = &mut self.incoming[link].tried {
            tried.clear();
        }
    }

    /// Whether what a link's current delivery has gone to takes octets before it has answered.
    pub(crate) fn is_prompt(&self, link: u32) -> bool {
        self.incoming[link].is_prompt
    }

    /// What a link's current delivery was last sent to has failed: for a while, others are
    /// preferred to it.
    pub(crate) fn last_attempt_failed(&mut self, link: u32, now: Instant) {
        let tried = &self.incoming[link].tried;
        if let Some(load) = tried.as_ref().and_then(|tried| tried.last()).cloned() {
            self.prefer_others(load, now);
        }
    }

    /// Whether somebody else could have the delivery than those that were tried: another service of
    /// this router, or somebody behind another one.
    pub(crate) fn has_other_destination(&self, delivery: u32, tried: &[Arc<LinkLoad>]) -> bool {
        let envelope = &self.outbound[delivery].envelope;
        let mut tried = tried.to_vec();
        tried.extend(envelope.load.clone());
        self.addresses.has_others(envelope.address, &tried)
    }

    /// The destination that an outgoing half is counted on has failed before anything was done:
    /// finds another TCP service of the address for it. `tried` are those that have failed it
    /// before, and gets this one.
    pub(crate) fn next_connector(
        &mut self,
        delivery: u32,
        tried: &mut Vec<Arc<LinkLoad>>,
        now: Instant,
    ) -> Option<ConnectorId> {
        let envelope = &mut self.outbound[delivery].envelope;
        let load = envelope.load.clone()?;
        tried.push(Arc::clone(&load));
        let other = self.addresses.other_connector(envelope.address, tried);
        let connector = other.map(|(connector, other)| {
            envelope.load = Some(other);
            load.remove();
            connector
        });
        let strikes = load.note_strike().clamp(1, STRIKES_MAX);
        self.prefer_others_for(FAILING_FOR * 2_u32.pow(strikes - 1), load, now);
        connector
    }

    /// The destination that an outgoing half is counted on has proved to be well.
    pub(crate) fn destination_is_well(&self, delivery: u32) {
        if let Some(load) = &self.outbound[delivery].envelope.load {
            load.note_success();
        }
    }

    /// The routers that a link's current delivery has passed, with `|` between them.
    #[cold]
    pub(super) fn trace(&self, link: u32) -> Option<String> {
        let incoming = &self.incoming[link];
        let course = incoming.course.as_ref().filter(|_| incoming.from_router);
        course.and_then(|course| course.trace())
    }

    /// A router has given a stream back: whoever sends it again had better get another one.
    pub(super) fn stream_released(&mut self, delivery: u32, now: Instant) {
        let envelope = &self.outbound[delivery].envelope;
        if let Some(load) = envelope.load.clone().filter(|_| envelope.is_stream) {
            self.prefer_others(load, now);
        }
    }

    /// Whether any destination comes last for a while, which [`tick`](Self::tick) ends.
    pub(crate) fn prefers_others(&self) -> bool {
        !self.failing.is_empty()
    }

    fn prefer_others(&mut self, load: Arc<LinkLoad>, now: Instant) {
        self.prefer_others_for(FAILING_FOR, load, now);
    }

    fn prefer_others_for(&mut self, time: Duration, load: Arc<LinkLoad>, now: Instant) {
        if load.note_failure() {
            self.failing.push((now + time, load));
        }
    }
}

/// How long others are preferred to a destination that has failed.
const FAILING_FOR: Duration = Duration::from_secs(2);
/// A service that fails again and again is left alone for twice as long each time, up to 32 s.
const STRIKES_MAX: u32 = 5;
