//! What waits on a worker's links, counted when somebody asks: nothing is kept for it on the way of
//! a delivery.

use std::collections::HashMap;
use std::time::Instant;

use crate::control::table::{Direction, LinkRef};
use crate::forwarding::Forwarder;
use crate::forwarding::links::{Incoming, Outgoing};
use crate::forwarding::stats::{Backlog, Trouble};
use crate::forwarding::wire::{Terminal, Wire};

/// How many deliveries of each link are stuck, by direction.
#[derive(Debug, Default)]
pub(super) struct Stuck {
    pub(super) incoming: HashMap<u32, u32>,
    pub(super) outgoing: HashMap<u32, u32>,
}

impl Forwarder {
    /// What waits on the links of connections that `counts` holds for.
    pub(crate) fn backlog(&self, now: Instant, counts: impl Fn(u32) -> bool) -> Backlog {
        let mut backlog = Backlog::default();
        let counted = |at: Terminal| counts(at.connection);
        let stuck = self.stuck(now);
        let of = |stuck: &HashMap<u32, u32>, link| stuck.get(&link).copied().map_or(0, u64::from);
        for (link, incoming) in self.incoming.iter() {
            if counted(incoming.terminal) {
                let is_blocked = self.blocked_in(incoming, now).is_some();
                backlog.unsettled += u64::from(incoming.held);
                backlog.blocked_in += u64::from(is_blocked);
                backlog.stuck += of(&stuck.incoming, link);
            }
        }
        for (link, outgoing) in self.outgoing.iter() {
            if counted(outgoing.terminal) {
                let is_blocked = self.blocked_out(outgoing).is_some();
                backlog.undelivered += outgoing.queue.len() as u64;
                backlog.blocked_out += u64::from(is_blocked);
                backlog.stuck += of(&stuck.outgoing, link);
            }
        }
        backlog
    }

    /// How many deliveries of each link have been here for too long. Streams take the time they
    /// take.
    pub(super) fn stuck(&self, now: Instant) -> Stuck {
        let mut stuck = Stuck::default();
        let limit = self.settings.patience.limit;
        for (_, inbound) in self.inbound.iter() {
            let arrived = inbound.arrived.filter(|_| !inbound.settled);
            if arrived.is_some_and(|arrived| arrived + limit <= now) {
                *stuck.incoming.entry(inbound.link).or_default() += 1;
            }
        }
        for (_, outbound) in self.outbound.iter() {
            let envelope = &outbound.envelope;
            if !envelope.is_stream && envelope.arrived + limit <= now {
                *stuck.outgoing.entry(outbound.link).or_default() += 1;
            }
        }
        stuck
    }

    /// How many deliveries that were for a link go by one of their own.
    pub(super) fn elsewhere(&self) -> HashMap<u32, u32> {
        let mut elsewhere = HashMap::new();
        for (_, outbound) in self.outbound.iter() {
            let home = outbound.home.filter(|home| home.index != outbound.link);
            if let Some(home) = home.filter(|home| self.outgoing.get(*home).is_some()) {
                *elsewhere.entry(home.index).or_default() += 1;
            }
        }
        elsewhere
    }

    /// Seconds for which an incoming link's sender has had no credit, if they are too many.
    fn blocked_in(&self, incoming: &Incoming, now: Instant) -> Option<u64> {
        let dry = now.duration_since(incoming.dry_since?);
        (dry >= self.settings.patience.limit).then_some(dry.as_secs())
    }

    /// Seconds for which an outgoing link's receiver has given no credit, if they are too many.
    fn blocked_out(&self, outgoing: &Outgoing) -> Option<u64> {
        let dry = u64::from(outgoing.dry_ticks);
        (dry >= self.settings.patience.limit.as_secs()).then_some(dry)
    }

    /// Looks for links that something is wrong with, to tell of those where it is news.
    pub(super) fn look_for_trouble(&mut self, now: Instant) {
        let late = self.settings.patience.limit.as_secs();
        let stuck = self.stuck(now);
        let is_late = |stuck: &HashMap<u32, u32>, link| stuck.contains_key(&link).then_some(late);
        let links: Vec<_> = (self.incoming.iter())
            .map(|(link, incoming)| {
                let blocked = self.blocked_in(incoming, now);
                (
                    Direction::Incoming,
                    link,
                    is_late(&stuck.incoming, link),
                    blocked,
                )
            })
            .chain(self.outgoing.iter().map(|(link, outgoing)| {
                let blocked = self.blocked_out(outgoing);
                (
                    Direction::Outgoing,
                    link,
                    is_late(&stuck.outgoing, link),
                    blocked,
                )
            }))
            .collect();
        for (direction, link, stuck, blocked) in links {
            let told_of = match direction {
                Direction::Incoming => &mut self.incoming[link].told_of,
                Direction::Outgoing => &mut self.outgoing[link].told_of,
            };
            let news = told_of.follow(stuck, blocked);
            let link = LinkRef {
                worker: self.settings.worker,
                direction,
                slot: self.slot(direction, link),
            };
            let news = news.into_iter().flatten();
            self.troubles.extend(news.map(|trouble| (link, trouble)));
        }
    }

    /// A link that something is wrong with, and has been for a while.
    pub(crate) fn poll_trouble(&mut self) -> Option<(LinkRef, Trouble)> {
        self.troubles.pop_front()
    }
}

impl Outgoing {
    /// To be called once a second: whether its receiver has given credit by now.
    pub(super) fn follow_credit<W: Wire>(&mut self, wire: &W) {
        self.dry_ticks = match wire.allowance(self.terminal).credit {
            0 => self.dry_ticks.saturating_add(1),
            _ => 0,
        };
    }
}
