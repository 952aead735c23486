//! Who is connected to an HTTP listener, and who goes when there are too many.
//!
//! Whoever comes is let in. When that is one too many, the source with the most connections loses
//! one: an idle one first, else the one that has been answered for longest. So those who hold
//! connections and ask for nothing cannot keep a probe, a scrape or a WebSocket out.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use crate::runtime::sources::network;
use crate::runtime::told::Told;

/// The connections of one listener. Dropping a guest's `S` has its connection end.
#[derive(Debug)]
pub(crate) struct Crowd<S> {
    guests: BTreeMap<u64, Guest<S>>,
    next: u64,
    /// When the log last said that there are too many.
    told: Told,
}

#[derive(Debug)]
struct Guest<S> {
    source: IpAddr,
    answering: bool,
    /// It is idle, or is being answered, since then.
    since: Instant,
    _stay: S,
}

/// Somebody had to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Displaced {
    pub(super) source: IpAddr,
    /// Whether it is to be logged: one line in a while says it for all.
    pub(super) is_news: bool,
}

impl<S> Default for Crowd<S> {
    fn default() -> Self {
        Self {
            guests: BTreeMap::new(),
            next: 0,
            told: Told::default(),
        }
    }
}

impl<S> Crowd<S> {
    /// Somebody has connected, and has a number from now on.
    pub(super) fn enter(
        &mut self,
        from: IpAddr,
        stay: S,
        now: Instant,
    ) -> (u64, Option<Displaced>) {
        let number = self.next;
        self.next += 1;
        let guest = Guest {
            source: network(from),
            answering: false,
            since: now,
            _stay: stay,
        };
        self.guests.insert(number, guest);
        let displaced = (self.guests.len() > MOST).then(|| self.displace(number, now));
        (number, displaced.flatten())
    }

    /// A guest's request is being answered, or no longer.
    pub(super) fn set_answering(&mut self, number: u64, answering: bool, now: Instant) {
        if let Some(guest) = self.guests.get_mut(&number) {
            guest.answering = answering;
            guest.since = now;
        }
    }

    /// A connection is over.
    pub(super) fn leave(&mut self, number: u64) {
        self.guests.remove(&number);
    }

    fn displace(&mut self, newest: u64, now: Instant) -> Option<Displaced> {
        let mut by_source: HashMap<IpAddr, usize> = HashMap::new();
        for guest in self.guests.values() {
            *by_source.entry(guest.source).or_default() += 1;
        }
        let most = by_source.values().copied().max()?;
        let others = self.guests.iter().filter(|(number, guest)| {
            **number != newest && by_source.get(&guest.source) == Some(&most)
        });
        let (&victim, _) = others.min_by_key(|(_, guest)| (guest.answering, guest.since))?;
        let source = self.guests.remove(&victim)?.source;
        let is_news = self.told.is_news(now);
        Some(Displaced { source, is_news })
    }
}

/// Connections of a listener at a time, besides WebSockets, which are connections like others.
pub(super) const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_holds_the_most_connections_loses_the_one_that_is_idle_for_longest() {
        let (mut crowd, start) = (Crowd::default(), Instant::now());
        let at = |second: usize| start + Duration::from_secs(second as u64);
        let numbers: Vec<_> = (0..MOST - 1)
            .map(|n| crowd.enter(ip(1), (), at(n)).0)
            .collect();
        crowd.set_answering(numbers[0], true, at(0));
        crowd.set_answering(numbers[1], true, at(0));
        crowd.set_answering(numbers[1], false, at(MOST));
        let (other, nobody) = crowd.enter(ip(2), (), at(0));
        assert_eq!(nobody, None);
        let (newest, displaced) = crowd.enter(ip(3), (), at(MOST));
        let gone = |is_news| {
            Some(Displaced {
                source: ip(1),
                is_news,
            })
        };
        assert_eq!(displaced, gone(true));
        assert!(!crowd.guests.contains_key(&numbers[2]), "idle for longest");
        let (_, displaced) = crowd.enter(ip(1), (), at(MOST));
        assert_eq!(displaced, gone(false));
        let (_, displaced) = crowd.enter(ip(1), (), at(MOST + 10));
        assert_eq!(displaced, gone(true));
        for kept in [numbers[0], numbers[1], other, newest] {
            assert!(crowd.guests.contains_key(&kept), "{kept}");
        }
        assert_eq!(crowd.guests.len(), MOST);
        crowd.leave(other);
        assert_eq!(crowd.enter(ip(4), (), at(MOST)).1, None);
    }

    #[test]
    fn when_all_are_answered_the_longest_goes_and_never_the_newcomer() {
        let (mut crowd, start) = (Crowd::default(), Instant::now());
        for n in 0..MOST {
            let (number, _) = crowd.enter(ip(n as u16), (), start);
            let since = start + Duration::from_secs(n as u64);
            crowd.set_answering(number, true, since);
        }
        let (newest, displaced) = crowd.enter(ip(9999), (), start);
        assert_eq!(displaced.map(|gone| gone.source), Some(ip(0)));
        assert!(crowd.guests.contains_key(&newest));
    }

    fn ip(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        std::net::Ipv4Addr::new(10, 0, high, low).into()
    }
}
