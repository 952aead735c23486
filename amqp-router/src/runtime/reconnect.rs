//! When and where a connector connects: at once, again after a while, elsewhere in between.
//!
//! ```text
//!            poll_attempt            opened
//!  Waiting ───────────────▶ Connecting ──────▶ Open
//!     ▲                         │ lost           │ lost
//!     └─────────────────────────┴────────────────┘
//!       half a second after a connection that was open, twice as long after each that was lost
//!       within seconds; after failures a quarter of a second, twice as long after each; up to 5 s,
//!       at most 1 s when there are other servers to try; up to a quarter less by chance
//! ```
//!
//! A connection that *follows* another one, of the same connector, is attempted only while that is
//! open.

use std::fmt;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The connection attempts of one connector.
#[derive(Debug)]
pub(crate) struct Reconnect {
    /// The configured server, then those the peer has named to fail over to.
    servers: Vec<Server>,
    current: usize,
    /// Attempts at the current server since it last was connected.
    tries: u32,
    /// Attempts in a row that failed.
    failures: u32,
    /// Connections in a row that were open for a moment only.
    flickers: u32,
    state: State,
    /// It follows another connection, which is not open.
    held: bool,
    /// So that many who lost the same peer do not come back all at once.
    chance: StdRng,
    /// This connection is the last.
    retired: bool,
    message: String,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    Connecting,
    Open { since: Instant },
    Over,
}

impl Reconnect {
    /// The first attempt is due at once.
    pub(crate) fn new(server: Server, seed: u64, now: Instant) -> Self {
        Self {
            servers: vec![server],
            current: 0,
            tries: 0,
            failures: 0,
            flickers: 0,
            state: State::Waiting { until: now },
            held: false,
            chance: StdRng::seed_from_u64(seed),
            retired: false,
            message: String::new(),
        }
    }

    /// The server to connect to, once an attempt is due.
    pub(crate) fn poll_attempt(&mut self, now: Instant) -> Option<&Server> {
        match self.state {
            State::Waiting { until } if until <= now && !self.held => {
                self.state = State::Connecting;
                self.tries += 1;
                Some(self.server())
            }
            _ => None,
        }
    }

    /// When the next attempt is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } if !self.held => Some(until),
            _ => None,
        }
    }

    /// It follows another connection, which is not open: no attempt is made.
    pub(crate) fn hold(&mut self) {
        self.held = true;
    }

    /// Whether attempts have failed since it was open.
    pub(crate) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// The connection that it follows is open. It may be closed again at once, by a peer that does
    /// not want it.
    pub(crate) fn follow(&mut self, now: Instant) {
        self.held = false;
        if let State::Waiting { until, .. } = &mut self.state {
            *until = (*until).max(now + BEFORE_FOLLOWING);
        }
    }

    /// The connection is open: both ends have sent `open`. `failover` are the servers that the
    /// peer's `open` names; they replace those named before.
    pub(crate) fn opened(
        &mut self,
        message: impl Into<String>,
        failover: Vec<Server>,
        now: Instant,
    ) {
        let here = self.server().clone();
        self.servers.truncate(1);
        for server in failover.into_iter().take(MAX_FAILOVER) {
            if !self.servers.iter().any(|known| known.is(&server)) {
                self.servers.push(server);
            }
        }
        match self.servers.iter().position(|server| server.is(&here)) {
            Some(index) => self.current = index,
            // The peer does not name itself: what it names comes next.
            None => {
                self.servers.insert(1, here);
                self.current = 1;
            }
        }
        self.tries = 0;
        self.failures = 0;
        self.state = State::Open { since: now };
        self.message = message.into();
    }

    /// The attempt failed or the connection is gone. True if this is news worth a log line: the
    /// reason is another than the last one.
    pub(crate) fn lost(&mut self, reason: impl Into<String>, now: Instant) -> bool {
        let longest = match self.servers.len() {
            1 => LONGEST,
            _ => AFTER_ONE_OF_MANY,
        };
        let reason = match self.state {
            State::Open { .. } => reason.into(),
            _ => format!("Connection to {} failed: {}", self.server(), reason.into()),
        };
        let (first, times) = match self.state {
            State::Open { since } => {
                self.flickers = match now.saturating_duration_since(since) < STEADY {
                    true => self.flickers + 1,
                    false => 0,
                };
                (AFTER_OPEN, self.flickers.saturating_sub(1))
            }
            _ => {
                self.failures += 1;
                (AFTER_FAILURE, self.failures - 1)
            }
        };
        let delay = (first * (1 << times.min(5))).min(longest);
        let delay = delay.mul_f64(self.chance.random_range(0.75..=1.0));
        if self.tries >= TRIES_PER_SERVER {
            self.current = (self.current + 1) % self.servers.len();
            self.tries = 0;
        }
        self.state = match self.retired {
            true => State::Over,
            false => State::Waiting { until: now + delay },
        };
        let is_news = self.message != reason;
        self.message = reason;
        is_news
    }

    /// No attempt is made any more. True if there is no connection, so that all is over.
    pub(crate) fn retire(&mut self) -> bool {
        self.retired = true;
        if !matches!(self.state, State::Open { .. }) {
            self.state = State::Over;
        }
        self.is_over()
    }

    /// Whether there is no connection, and will be none.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// The server that is, or will be, connected to.
    pub(crate) fn server(&self) -> &Server {
        &self.servers[self.current]
    }

    /// The `connectionStatus` attribute. What is tried again is connecting, as skrouterd has it,
    /// and its message says why the last attempt failed.
    pub(crate) fn status(&self) -> Status {
        match self.state {
            State::Open { .. } => Status::Success,
            State::Waiting { .. } | State::Connecting => Status::Connecting,
            State::Over => Status::Failed,
        }
    }

    /// The `connectionMsg` attribute.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The `failoverUrls` attribute: every server, in the order in which they are tried from now
    /// on. As with skrouterd, what is configured is `amqp` whether there is TLS or not, and what a
    /// peer has named is what it says.
    pub(crate) fn failover_urls(&self) -> String {
        let (before, from_here) = self.servers.split_at(self.current);
        let servers = from_here.iter().chain(before);
        let urls: Vec<_> = servers
            .map(|server| format!("{}://{server}", server.scheme))
            .collect();
        urls.join(", ")
    }
}

/// Where a connector connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// What a peer has called it by; it makes no difference to us.
    pub(crate) scheme: String,
    pub(crate) host: String,
    /// A number or a symbolic name, see [`port_number`](super::listener::port_number).
    pub(crate) port: String,
}

impl Server {
    pub(crate) fn new(host: impl Into<String>, port: impl Into<String>) -> Self {
        Self {
            scheme: "amqp".into(),
            host: host.into(),
            port: port.into(),
        }
    }

    /// Whether it is the same one, by whatever scheme.
    fn is(&self, other: &Self) -> bool {
        (&self.host, &self.port) == (&other.host, &other.port)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// How a connector fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Connecting,
    Success,
    Failed,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "CONNECTING",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
        }
    }
}

const AFTER_FAILURE: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);
const AFTER_OPEN: Duration = Duration::from_millis(500);
const AFTER_ONE_OF_MANY: Duration = Duration::from_secs(1);
/// How long a connection is open that was not refused.
const STEADY: Duration = Duration::from_secs(10);
/// How long the connection must have been open that another follows.
const BEFORE_FOLLOWING: Duration = Duration::from_millis(250);
const TRIES_PER_SERVER: u32 = 2;
/// How many servers a peer can make us remember.
const MAX_FAILOVER: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_is_due_at_once_and_the_next_a_moment_after_it_failed() {
        let (mut connector, start) = connector();
        assert_eq!(connector.status().as_str(), "CONNECTING");
        assert_eq!(connector.poll_attempt(start), Some(&server("a")));
        assert_eq!(connector.poll_attempt(start), None);
        assert_eq!(connector.poll_timeout(), None);

        connector.lost("refused", start);
        assert_eq!(
            (connector.status(), connector.message()),
            (Status::Connecting, "Connection to a:5672 failed: refused")
        );
        let due = connector.poll_timeout().unwrap();
        assert!(is_about(due - start, 250), "{:?}", due - start);
        assert_eq!(connector.poll_attempt(due - Duration::from_millis(1)), None);
        assert!(connector.poll_attempt(due).is_some());
        assert_eq!(connector.status(), Status::Connecting);
    }

    #[test]
    fn failures_make_it_patient() {
        let (mut connector, mut now) = connector();
        let mut waits = Vec::new();
        for _ in 0..7 {
            connector.poll_attempt(now);
            connector.lost("refused", now);
            let due = connector.poll_timeout().unwrap();
            waits.push(due - now);
            now = due;
        }
        let expected = [250, 500, 1000, 2000, 4000, 5000, 5000];
        let close = waits
            .iter()
            .zip(expected)
            .all(|(wait, of)| is_about(*wait, of));
        assert!(close, "{waits:?}");
    }

    #[test]
    fn a_peer_that_opens_and_closes_at_once_is_asked_less_and_less() {
        let (mut connector, mut now) = connector();
        let mut waits = Vec::new();
        let mut flicker = |connector: &mut Reconnect, open: Duration| {
            connector.poll_attempt(now).expect("it is due");
            connector.opened("opened", vec![], now);
            now += open;
            connector.lost("revoked", now);
            let due = connector.poll_timeout().unwrap();
            let wait = due - now;
            now = due;
            wait
        };
        for _ in 0..7 {
            waits.push(flicker(&mut connector, Duration::from_millis(5)));
        }
        let expected = [500, 1000, 2000, 4000, 5000, 5000, 5000];
        let close = waits
            .iter()
            .zip(expected)
            .all(|(wait, of)| is_about(*wait, of));
        assert!(close, "{waits:?}");
        let steady = flicker(&mut connector, Duration::from_secs(60));
        assert!(is_about(steady, 500), "{steady:?}");
    }

    #[test]
    fn not_all_come_back_at_once() {
        let now = Instant::now();
        let due = |seed| {
            let mut connector = Reconnect::new(server("a"), seed, now);
            connector.poll_attempt(now);
            connector.lost("refused", now);
            connector.poll_timeout().unwrap()
        };
        let dues: std::collections::BTreeSet<_> = (0..20).map(due).collect();
        assert!(dues.len() > 15, "{dues:?}");
    }

    #[test]
    fn who_follows_a_connection_waits_for_it() {
        let (mut follower, mut now) = connector();
        follower.hold();
        now += Duration::from_secs(60);
        assert_eq!(
            (follower.poll_timeout(), follower.poll_attempt(now)),
            (None, None)
        );
        // The other connection opens, and is closed by a peer that does not want it.
        follower.follow(now);
        let due = follower.poll_timeout().unwrap();
        assert!(due > now && follower.poll_attempt(now).is_none());
        follower.hold();
        assert_eq!(
            (follower.poll_timeout(), follower.poll_attempt(due)),
            (None, None)
        );
        // It opens and stays.
        follower.follow(due);
        let due = follower.poll_timeout().unwrap();
        assert!(follower.poll_attempt(due).is_some());
        follower.opened("opened", vec![], due);
        // What is there stays, and is not made again before the other is.
        follower.hold();
        assert_eq!(follower.status(), Status::Success);
        follower.lost("closed", due);
        assert_eq!(follower.poll_timeout(), None);
    }

    #[test]
    fn a_connection_that_was_open_is_soon_tried_again() {
        let (mut connector, mut now) = connector();
        for _ in 0..3 {
            connector.poll_attempt(now);
            connector.lost("refused", now);
            now = connector.poll_timeout().unwrap();
        }
        connector.poll_attempt(now);
        connector.opened("opened", vec![], now);
        assert_eq!(
            (connector.status(), connector.message()),
            (Status::Success, "opened")
        );
        connector.lost("closed", now);
        assert_eq!(connector.message(), "closed");
        let due = connector.poll_timeout().unwrap();
        assert!(is_about(due - now, 500), "{:?}", due - now);
        connector.poll_attempt(due);
        connector.lost("refused", due);
        let next = connector.poll_timeout().unwrap();
        assert!(is_about(next - due, 250), "{:?}", next - due);
    }

    #[test]
    fn each_of_several_servers_is_tried_twice_a_second_apart() {
        let (mut connector, mut now) = connector();
        connector.poll_attempt(now);
        connector.opened("opened", vec![server("b"), server("c"), server("a")], now);
        assert_eq!(
            connector.failover_urls(),
            "amqp://a:5672, amqp://b:5672, amqp://c:5672"
        );
        let mut tried = String::new();
        for _ in 0..8 {
            connector.lost("refused", now);
            now += Duration::from_secs(1);
            tried += &connector.poll_attempt(now).unwrap().host;
        }
        assert_eq!(tried, "aabbccaa");
    }

    #[test]
    fn a_server_that_was_failed_over_to_stays_in_the_list() {
        let (mut connector, now) = connector();
        connector.poll_attempt(now);
        connector.opened("opened", vec![server("b")], now);
        for _ in 0..3 {
            connector.lost("refused", now);
            connector.poll_attempt(now + Duration::from_secs(1));
        }
        assert_eq!(connector.server(), &server("b"));
        let by_tls = |host| Server {
            scheme: "amqps".into(),
            ..server(host)
        };
        let named = vec![by_tls("d"), by_tls("a"), server("d")];
        connector.opened("opened", named, now);
        assert_eq!(connector.server(), &server("b"));
        assert_eq!(
            connector.failover_urls(),
            "amqp://b:5672, amqps://d:5672, amqp://a:5672"
        );
    }

    #[test]
    fn a_retired_connection_is_not_made_again() {
        let (mut connector, now) = connector();
        connector.poll_attempt(now);
        connector.opened("opened", vec![], now);
        assert!(!connector.retire(), "what it carries goes on");
        assert_eq!(connector.status(), Status::Success);
        connector.lost("closed", now);
        assert!(connector.is_over());
        assert_eq!(connector.poll_timeout(), None);
        let later = now + Duration::from_secs(60);
        assert_eq!(connector.poll_attempt(later), None);
    }

    #[test]
    fn who_is_not_connected_is_retired_at_once() {
        let (mut waiting, now) = connector();
        assert!(waiting.retire());
        assert_eq!(waiting.poll_attempt(now), None);
        let (mut connecting, now) = connector();
        connecting.poll_attempt(now);
        assert!(connecting.retire() && connecting.is_over());
    }

    #[test]
    fn a_reason_is_news_once() {
        let (mut connector, now) = connector();
        assert!(connector.lost("refused", now));
        assert!(!connector.lost("refused", now));
        assert!(connector.lost("unreachable", now));
        assert!(connector.lost("refused", now));
    }

    fn connector() -> (Reconnect, Instant) {
        let now = Instant::now();
        (Reconnect::new(server("a"), 7, now), now)
    }

    /// Whether a wait is what it is to be, or up to a quarter less.
    fn is_about(wait: Duration, milliseconds: u64) -> bool {
        let most = Duration::from_millis(milliseconds);
        (most.mul_f64(0.74)..=most).contains(&wait)
    }

    fn server(host: &str) -> Server {
        Server::new(host, "5672")
    }
}
