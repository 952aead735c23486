//! What one source of connections may ask of the router: how fast it may connect, how many
//! connections it may have, and how long it waits after it has failed to authenticate.
//!
//! What is remembered is bounded, whatever comes: a source is an IPv4 address or an IPv6 /64.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::told::{Few, Told};
use crate::worker::Fault;

/// Everything that is remembered of sources.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    sources: HashMap<IpAddr, Source>,
    /// PLAIN logins in progress.
    logins: HashMap<IpAddr, u32>,
    /// Connections that there are.
    present: HashMap<IpAddr, Present>,
    limits: SourceLimits,
    counts: SourceCounts,
    /// When a refusal was last worth a log line.
    told: Told,
    /// The same of logins.
    logins_told: Told,
    /// Of handshakes that failed.
    handshakes_told: Few,
    /// Of sources that have as many connections as they may.
    crowds_told: Told,
    /// Nobody may connect: the router has too little memory left.
    short_of_memory: bool,
}

/// For metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourceCounts {
    /// Connections that came too fast.
    pub(crate) connections_refused: u64,
    /// Connections that came while there was too little memory.
    pub(crate) refused_for_memory: u64,
    /// Connections whose source had too many that were not open yet.
    pub(crate) refused_strangers: u64,
    /// Connections whose source had as many as it may.
    pub(crate) refused_for_source: u64,
    /// Authentications that failed.
    pub(crate) logins_failed: u64,
    /// Authentications refused unheard: their source had too many in progress.
    pub(crate) logins_refused: u64,
    /// TLS handshakes that did.
    pub(crate) handshakes_failed: u64,
    /// Connections whose peers were not ready in time, with TLS or with AMQP.
    pub(crate) timed_out: u64,
    /// Peers that began with what is no AMQP header.
    pub(crate) bad_headers: u64,
    /// Peers that broke the rules of AMQP before they had opened their connection.
    pub(crate) bad_openings: u64,
    /// Connections of HTTP listeners that made room for others.
    pub(crate) displaced: u64,
}

#[derive(Debug)]
struct Source {
    /// Connections that it may make at once, as of `seen`.
    allowance: f64,
    failures: u32,
    seen: Instant,
}

/// How many connections a source may have at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceLimits {
    /// Of those that have not opened, and so may not have authenticated.
    pub(crate) strangers: u32,
    /// In all; `None` is without limit.
    pub(crate) all: Option<u32>,
}

impl Default for SourceLimits {
    /// No source has more than half of the process's open files for nothing.
    fn default() -> Self {
        let files = open_files().map_or(MOST_STRANGERS, |files| files / 2);
        Self {
            strangers: files.clamp(1, MOST_STRANGERS),
            all: None,
        }
    }
}

/// As many files as this process may have open, where the system tells.
fn open_files() -> Option<u32> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?.parse::<u64>().ok()?;
    Some(u32::try_from(soft).unwrap_or(u32::MAX))
}

/// The connections of a source.
#[derive(Clone, Copy, Debug, Default)]
struct Present {
    all: u32,
    strangers: u32,
}

/// A connection's place among those of its source, which it has until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    sources: Arc<Mutex<Sources>>,
    source: IpAddr,
    stranger: bool,
}

impl Place {
    /// Of somebody who has connected.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub(crate) fn take(
        sources: &Arc<Mutex<Sources>>,
        from: IpAddr,
        now: Instant,
    ) -> Result<Self, Refused> {
        lock(sources).connected(from, now)?;
        Self::beside_others(sources, from, now)
    }

    /// Of somebody whose WebSocket is a connection now.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub(crate) fn of_web(
        sources: &Arc<Mutex<Sources>>,
        from: IpAddr,
        now: Instant,
    ) -> Result<Self, Refused> {
        lock(sources).has_memory()?;
        Self::beside_others(sources, from, now)
    }

    fn beside_others(
        sources: &Arc<Mutex<Sources>>,
        from: IpAddr,
        now: Instant,
    ) -> Result<Self, Refused> {
        lock(sources).arrived(from, now)?;
        Ok(Self {
            sources: Arc::clone(sources),
            source: from,
            stranger: true,
        })
    }

    /// It is open: whoever it is of is no stranger any more.
    pub(crate) fn opened(&mut self) {
        if std::mem::take(&mut self.stranger) {
            lock(&self.sources).opened(self.source);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.opened();
        lock(&self.sources).left(self.source);
    }
}

fn lock(sources: &Mutex<Sources>) -> MutexGuard<'_, Sources> {
    sources.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that is not to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: &'static str,
    /// Whether it is to be logged: one line in a while says it for all.
    pub(crate) is_news: bool,
}

/// What becomes of a TLS handshake that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeFailure {
    /// It is no failure: whoever only looks whether somebody listens goes away again.
    None,
    /// It is counted, and there is to be a line in the log that ends with this.
    Told(&'static str),
    /// There are too many for a line each.
    Counted,
}

impl Sources {
    /// A source has connected.
    ///
    /// # Errors
    /// Too fast, or at a bad time: the connection is to be closed.
    pub(crate) fn connected(&mut self, from: IpAddr, now: Instant) -> Result<(), Refused> {
        self.has_memory()?;
        self.keeps_rate(from, now)
    }

    fn has_memory(&mut self) -> Result<(), Refused> {
        match self.admits() {
            true => Ok(()),
            // That it is so has been told.
            false => Err(Refused {
                reason: SHORT_OF_MEMORY,
                is_news: false,
            }),
        }
    }

    /// How many connections each source may have from now on.
    pub(crate) fn set_limits(&mut self, limits: SourceLimits) {
        self.limits = limits;
    }

    fn arrived(&mut self, from: IpAddr, now: Instant) -> Result<(), Refused> {
        let present = self.present.entry(network(from)).or_default();
        let (count, reason) = if present.strangers >= self.limits.strangers {
            (&mut self.counts.refused_strangers, TOO_MANY_STRANGERS)
        } else if self.limits.all.is_some_and(|most| present.all >= most) {
            (&mut self.counts.refused_for_source, TOO_MANY)
        } else {
            present.all += 1;
            present.strangers += 1;
            return Ok(());
        };
        *count += 1;
        Err(Refused {
            reason,
            is_news: self.crowds_told.is_news(now),
        })
    }

    fn opened(&mut self, from: IpAddr) {
        if let Some(present) = self.present.get_mut(&network(from)) {
            present.strangers -= 1;
        }
    }

    fn left(&mut self, from: IpAddr) {
        let from = network(from);
        if let Some(present) = self.present.get_mut(&from) {
            present.all -= 1;
            if present.all == 0 {
                self.present.remove(&from);
            }
        }
    }

    /// Whether a source that has connected has not come too fast. For those who are to be answered
    /// also when memory is short.
    ///
    /// # Errors
    /// It has: the connection is to be closed.
    pub(crate) fn keeps_rate(&mut self, from: IpAddr, now: Instant) -> Result<(), Refused> {
        let source = self.source(from, now);
        if source.allowance >= 1.0 {
            source.allowance -= 1.0;
            return Ok(());
        }
        self.counts.connections_refused += 1;
        Err(Refused {
            reason: TOO_FAST,
            is_news: self.told.is_news(now),
        })
    }

    /// Whether nobody may connect from now on, as the router has too little memory left.
    pub(crate) fn set_short_of_memory(&mut self, short: bool) {
        self.short_of_memory = short;
    }

    /// A connection came by another way than [`connected`](Self::connected). False: it is to be
    /// closed.
    pub(crate) fn admits(&mut self) -> bool {
        self.counts.refused_for_memory += u64::from(self.short_of_memory);
        !self.short_of_memory
    }

    /// A source has failed to authenticate. It hears of it after this long.
    pub(crate) fn failed(&mut self, from: IpAddr, now: Instant) -> Duration {
        self.counts.logins_failed += 1;
        let source = self.source(from, now);
        source.failures = source.failures.saturating_add(1);
        let doublings = (source.failures - 1).min(16);
        (FIRST_DELAY * 2u32.pow(doublings)).min(LONGEST_DELAY)
    }

    /// A source begins a login that takes long to judge; [`login_ended`](Self::login_ended) is to
    /// follow.
    ///
    /// # Errors
    /// It has too many in progress.
    pub(crate) fn login_began(&mut self, from: IpAddr, now: Instant) -> Result<(), Refused> {
        let logins = self.logins.entry(network(from)).or_default();
        if *logins < MAX_LOGINS {
            *logins += 1;
            return Ok(());
        }
        self.counts.logins_refused += 1;
        Err(Refused {
            reason: TOO_MANY_LOGINS,
            is_news: self.logins_told.is_news(now),
        })
    }

    pub(crate) fn login_ended(&mut self, from: IpAddr) {
        let from = network(from);
        if let Some(logins) = self.logins.get_mut(&from) {
            *logins -= 1;
            if *logins == 0 {
                self.logins.remove(&from);
            }
        }
    }

    /// A TLS handshake has failed.
    pub(crate) fn handshake_failed(
        &mut self,
        why: io::ErrorKind,
        now: Instant,
    ) -> HandshakeFailure {
        match why {
            io::ErrorKind::UnexpectedEof => return HandshakeFailure::None,
            io::ErrorKind::TimedOut => self.counts.timed_out += 1,
            _ => self.counts.handshakes_failed += 1,
        }
        match self.handshakes_told.tell(now) {
            Some(end) => HandshakeFailure::Told(end),
            None => HandshakeFailure::Counted,
        }
    }

    /// A peer broke the rules before it had opened its connection.
    pub(crate) fn opening_failed(&mut self, fault: Fault) {
        let count = match fault {
            Fault::Header => &mut self.counts.bad_headers,
            Fault::TimedOut => &mut self.counts.timed_out,
            Fault::Mechanism => &mut self.counts.logins_failed,
            Fault::Other => &mut self.counts.bad_openings,
        };
        *count += 1;
    }

    /// A connection of an HTTP listener has made room for another.
    pub(crate) fn displaced(&mut self) {
        self.counts.displaced += 1;
    }

    pub(crate) fn counts(&self) -> SourceCounts {
        self.counts
    }

    fn source(&mut self, from: IpAddr, now: Instant) -> &mut Source {
        let from = network(from);
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&from) {
            self.forget(now);
        }
        let source = self.sources.entry(from).or_insert(Source {
            allowance: BURST,
            failures: 0,
            seen: now,
        });
        let idle = now.saturating_duration_since(source.seen);
        source.allowance = (source.allowance + idle.as_secs_f64() * PER_SECOND).min(BURST);
        if idle >= FORGIVEN_AFTER {
            source.failures = 0;
        }
        source.seen = now;
        source
    }

    /// Makes room: those who have been quiet go; if nobody has, everyone starts over.
    fn forget(&mut self, now: Instant) {
        self.sources
            .retain(|_, source| now.saturating_duration_since(source.seen) < FORGIVEN_AFTER);
        if self.sources.len() >= MAX_SOURCES {
            self.sources.clear();
        }
    }
}

/// The source that an address belongs to.
pub(crate) fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// Connections that a source may make at once after it has been quiet.
const BURST: f64 = 5000.0;
/// Connections a second that it may make for ever.
const PER_SECOND: f64 = 1000.0;
/// Sources that are remembered: some 100 bytes each.
const MAX_SOURCES: usize = 16_384;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// How long a source must be quiet for its failures to count no more.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// Logins of one source that may wait for a processor or have one.
const MAX_LOGINS: u32 = 32;
const TOO_MANY_LOGINS: &str = "its source has too many logins in progress";
/// Connections of one source that are not open yet, of a process that may have enough files.
const MOST_STRANGERS: u32 = 2000;
const TOO_MANY_STRANGERS: &str = "too many of its connections are not open yet";
const TOO_MANY: &str = "it has as many connections as maxConnectionsPerHost of policy lets it";
const TOO_FAST: &str = "it connects too fast";
const SHORT_OF_MEMORY: &str = "the router is short of memory";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_connects_too_fast_is_refused_and_others_are_not() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        for _ in 0..BURST as usize {
            sources.connected(ip("10.0.0.1"), now).unwrap();
        }
        let refused = |sources: &mut Sources| sources.connected(ip("10.0.0.1"), now).err();
        let too_fast = |is_news| Refused {
            reason: TOO_FAST,
            is_news,
        };
        assert_eq!(refused(&mut sources), Some(too_fast(true)));
        assert_eq!(refused(&mut sources), Some(too_fast(false)));
        sources.connected(ip("10.0.0.2"), now).unwrap();
        let later = now + Duration::from_secs(1);
        sources.connected(ip("10.0.0.1"), later).unwrap();
        assert_eq!(sources.counts().connections_refused, 2);
    }

    #[test]
    fn a_source_has_only_so_many_logins_in_progress() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        for _ in 0..MAX_LOGINS {
            sources.login_began(ip("10.0.0.1"), now).unwrap();
        }
        let refused = sources.login_began(ip("10.0.0.1"), now).unwrap_err();
        assert!(refused.is_news);
        let refused = sources.login_began(ip("10.0.0.1"), now).unwrap_err();
        assert!(!refused.is_news);
        assert_eq!(sources.counts().logins_refused, 2);
        sources.login_began(ip("10.0.0.2"), now).unwrap();
        sources.login_ended(ip("10.0.0.1"));
        sources.login_began(ip("10.0.0.1"), now).unwrap();
        sources.login_ended(ip("10.0.0.2"));
        assert_eq!(sources.logins.len(), 1);
    }

    #[test]
    fn failed_handshakes_are_counted_by_their_reason_and_looking_is_no_failure() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        let looked = sources.handshake_failed(io::ErrorKind::UnexpectedEof, now);
        assert_eq!(looked, HandshakeFailure::None);
        let failed = sources.handshake_failed(io::ErrorKind::InvalidData, now);
        assert_eq!(failed, HandshakeFailure::Told(""));
        sources.handshake_failed(io::ErrorKind::TimedOut, now);
        for fault in [
            Fault::Header,
            Fault::TimedOut,
            Fault::Mechanism,
            Fault::Other,
            Fault::Other,
        ] {
            sources.opening_failed(fault);
        }
        let expected = SourceCounts {
            handshakes_failed: 1,
            timed_out: 2,
            bad_headers: 1,
            bad_openings: 2,
            logins_failed: 1,
            ..SourceCounts::default()
        };
        assert_eq!(sources.counts(), expected);
    }

    #[test]
    fn a_source_has_only_so_many_connections_that_are_not_open() {
        let (sources, now) = limited(2, None);
        let take = |host: &str| Place::take(&sources, ip(host), now);
        let mut first = take("10.0.0.1").unwrap();
        let _second = take("10.0.0.1").unwrap();
        let refused = take("10.0.0.1").unwrap_err();
        assert_eq!(
            (refused.reason, refused.is_news),
            (TOO_MANY_STRANGERS, true)
        );
        assert!(!take("10.0.0.1").unwrap_err().is_news);
        let _other = take("10.0.0.2").unwrap();
        first.opened();
        first.opened();
        let third = take("10.0.0.1").unwrap();
        take("10.0.0.1").unwrap_err();
        drop((first, third));
        let _fourth = Place::of_web(&sources, ip("10.0.0.1"), now).unwrap();
        Place::of_web(&sources, ip("10.0.0.1"), now).unwrap_err();
        assert_eq!(lock(&sources).counts().refused_strangers, 4);
    }

    #[test]
    fn a_source_has_as_many_connections_as_it_may() {
        let (sources, now) = limited(2, Some(3));
        let take = || Place::take(&sources, ip("2001:db8::1"), now);
        let mut places = Vec::new();
        for _ in 0..3 {
            let mut place = take().unwrap();
            place.opened();
            places.push(place);
        }
        assert_eq!(take().unwrap_err().reason, TOO_MANY);
        let neighbour = Place::take(&sources, ip("2001:db8::2"), now);
        assert_eq!(neighbour.unwrap_err().reason, TOO_MANY, "the same /64");
        places.pop();
        places.push(take().unwrap());
        assert_eq!(lock(&sources).counts().refused_for_source, 2);
        drop(places);
        assert!(lock(&sources).present.is_empty());
    }

    fn limited(strangers: u32, all: Option<u32>) -> (Arc<Mutex<Sources>>, Instant) {
        let sources = Arc::<Mutex<Sources>>::default();
        lock(&sources).set_limits(SourceLimits { strangers, all });
        (sources, Instant::now())
    }

    #[test]
    fn nobody_connects_while_memory_is_short() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        sources.set_short_of_memory(true);
        assert!(sources.connected(ip("10.0.0.1"), now).is_err() && !sources.admits());
        assert_eq!(sources.counts().refused_for_memory, 2);
        sources.set_short_of_memory(false);
        assert!(sources.connected(ip("10.0.0.1"), now).is_ok() && sources.admits());
    }

    #[test]
    fn every_failure_takes_longer_to_hear_of_until_the_source_is_quiet() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        let mut delay = |now| sources.failed(ip("10.0.0.1"), now).as_millis();
        let delays = [0; 8].map(|_| delay(now));
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(delay(now + FORGIVEN_AFTER), 100);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        sources.failed(ip("2001:db8::1"), now);
        assert_eq!(sources.failed(ip("2001:db8::2"), now).as_millis(), 200);
        assert_eq!(sources.failed(ip("2001:db8:0:1::2"), now).as_millis(), 100);
        assert_eq!(sources.failed(ip("::ffff:10.0.0.1"), now).as_millis(), 100);
        assert_eq!(sources.failed(ip("10.0.0.1"), now).as_millis(), 200);
    }

    #[test]
    fn no_more_sources_are_remembered_than_there_is_room_for() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        for number in 0..MAX_SOURCES as u32 * 2 {
            sources.failed(std::net::Ipv4Addr::from(number).into(), now);
        }
        assert!(sources.sources.len() <= MAX_SOURCES);
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}
