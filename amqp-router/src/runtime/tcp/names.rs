//! The addresses that a service's host name stands for.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::lock;

/// What is known of one host name, so that not every connection waits for it to be looked up.
///
/// What has become old, or led nowhere, is looked up again, once for all who want to know. They
/// wait [`GRACE`] for that, and then make do with what was right before: a name may take seconds.
#[derive(Default)]
pub(super) struct Names {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: Option<Known>,
    /// Where the look-up on its way will tell what it has found.
    asked: Option<watch::Receiver<Option<Found>>>,
}

struct Known {
    addresses: Vec<SocketAddr>,
    since: Instant,
    /// None of them could be connected to.
    is_doubtful: bool,
}

/// An error is shared by all who wait.
type Found = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

/// What somebody does who wants to connect.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Use(Vec<SocketAddr>),
    /// Waits for a look-up: for a moment if there is something else to use.
    Wait(Option<Vec<SocketAddr>>),
}

impl Names {
    /// The host's addresses; `look_up` is made use of if they are to be asked for.
    pub(super) async fn addresses<F>(
        self: &Arc<Self>,
        look_up: impl FnOnce() -> F,
    ) -> io::Result<Vec<SocketAddr>>
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let step = lock(&self.state).step(Instant::now());
        let old = match step {
            Step::Use(addresses) => return Ok(addresses),
            Step::Wait(old) => old,
        };
        let mut asked = self.ask(look_up);
        let found = async {
            let found = asked.wait_for(Option::is_some).await;
            let found = found.ok().and_then(|found| found.clone());
            found.unwrap_or_else(|| Err((io::ErrorKind::Other, "the look-up was given up".into())))
        };
        let found = match old {
            None => found.await,
            Some(old) => match tokio::time::timeout(GRACE, found).await {
                Ok(Ok(addresses)) => Ok(addresses),
                Ok(Err(_)) | Err(_) => Ok(old),
            },
        };
        found.map_err(|(kind, text)| io::Error::new(kind, text))
    }

    /// None of the addresses could be connected to: has them looked up again, for the next.
    pub(super) fn doubt<F>(self: &Arc<Self>, look_up: impl FnOnce() -> F)
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        if lock(&self.state).doubt(Instant::now()) {
            self.ask(look_up);
        }
    }

    /// Starts a look-up, or joins the one that is on its way.
    fn ask<F>(self: &Arc<Self>, look_up: impl FnOnce() -> F) -> watch::Receiver<Option<Found>>
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let mut state = lock(&self.state);
        if let Some(asked) = state.asked.as_ref().filter(|one| one.has_changed().is_ok()) {
            return asked.clone();
        }
        let (told, asked) = watch::channel(None);
        state.asked = Some(asked.clone());
        let (names, look_up) = (Arc::clone(self), look_up());
        tokio::spawn(async move {
            let found = look_up.await;
            let found = found.map_err(|error| (error.kind(), error.to_string()));
            lock(&names.state).found(&found, Instant::now());
            // Nobody may be waiting any more.
            let _ = told.send(Some(found));
        });
        asked
    }
}

impl State {
    fn step(&self, now: Instant) -> Step {
        let Some(known) = &self.known else {
            return Step::Wait(None);
        };
        if known.age(now) < known.is_good_for() {
            return Step::Use(known.addresses.clone());
        }
        let is_usable = known.age(now) < USABLE_FOR;
        Step::Wait(is_usable.then(|| known.addresses.clone()))
    }

    /// Whether they are to be looked up at once.
    fn doubt(&mut self, now: Instant) -> bool {
        self.known.as_mut().is_some_and(|known| {
            known.is_doubtful = true;
            known.age(now) >= known.is_good_for()
        })
    }

    fn found(&mut self, found: &Found, now: Instant) {
        self.asked = None;
        if let Ok(addresses) = found {
            self.known = Some(Known {
                addresses: addresses.clone(),
                since: now,
                is_doubtful: false,
            });
        }
    }
}

impl Known {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    fn is_good_for(&self) -> Duration {
        if self.is_doubtful {
            DOUBTFUL_FOR
        } else {
            GOOD_FOR
        }
    }
}

/// How long a host's addresses are taken to be right.
const GOOD_FOR: Duration = Duration::from_secs(5);
/// How long, if none of them can be connected to.
const DOUBTFUL_FOR: Duration = Duration::from_secs(1);
/// How long they are used for want of others.
const USABLE_FOR: Duration = Duration::from_secs(60);
/// How long others are waited for.
const GRACE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering};

    use super::*;

    /// A name whose look-ups take a while and give another address each time.
    #[derive(Default)]
    struct Host {
        names: Arc<Names>,
        look_ups: Arc<AtomicU16>,
    }

    impl Host {
        fn look_up(
            &self,
            takes: Duration,
        ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + use<> {
            let number = self.look_ups.fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                tokio::time::sleep(takes).await;
                Ok(vec![SocketAddr::from(([127, 0, 0, 1], number))])
            }
        }

        /// The number of the look-up whose addresses are used, and how long that took to find out.
        async fn used(&self, takes: Duration) -> (u16, Duration) {
            let start = Instant::now();
            let found = self.names.addresses(|| self.look_up(takes)).await;
            (found.unwrap()[0].port(), start.elapsed())
        }
    }

    const SLOW: Duration = Duration::from_secs(3);
    const QUICK: Duration = Duration::from_millis(10);

    async fn later(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_look_up_is_for_all_who_wait() {
        let host = Host::default();
        let both = tokio::join!(host.used(SLOW), host.used(SLOW));
        assert_eq!((both.0.0, both.1.0), (1, 1));
        assert_eq!(host.used(SLOW).await, (1, Duration::ZERO));
        assert_eq!(host.look_ups.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_after_a_failure_does_not_wait_for_a_slow_look_up() {
        let host = Host::default();
        host.used(SLOW).await;
        later(2).await;
        for _ in 0..3 {
            host.names.doubt(|| host.look_up(SLOW));
            let (used, waited) = host.used(SLOW).await;
            assert_eq!(used, 1);
            assert!(waited < Duration::from_millis(200), "{waited:?}");
        }
        assert_eq!(host.look_ups.load(Ordering::Relaxed), 2, "one at a time");
        later(3).await;
        assert_eq!(host.used(SLOW).await, (2, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_looked_up_quickly_is_new_after_a_failure() {
        let host = Host::default();
        host.used(QUICK).await;
        host.names.doubt(|| host.look_up(QUICK));
        assert_eq!(host.used(QUICK).await.0, 1, "it was asked for just now");
        later(2).await;
        assert_eq!(host.used(QUICK).await.0, 2);
        later(30).await;
        assert_eq!(host.used(QUICK).await.0, 3, "it was old");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_is_not_used() {
        let host = Host::default();
        host.used(SLOW).await;
        later(61).await;
        assert_eq!(host.used(SLOW).await.0, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_up_that_fails_leaves_what_was_known() {
        let host = Host::default();
        let fails = || async { Err(io::Error::other("nobody knows it")) };
        let error = host.names.addresses(fails).await.unwrap_err();
        assert_eq!(error.to_string(), "nobody knows it");
        host.used(QUICK).await;
        later(10).await;
        let kept = host.names.addresses(fails).await.unwrap();
        assert_eq!(kept[0].port(), 1);
        later(60).await;
        assert!(host.names.addresses(fails).await.is_err());
    }
}
