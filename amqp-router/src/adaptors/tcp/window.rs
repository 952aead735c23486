//! How much of one direction of a TCP connection may be on its way through the network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How much of a direction may be on its way: as much as keeps the path busy, as far as the
/// process has that to lend.
#[derive(Debug)]
pub(super) struct Window {
    /// What it has of the pool, beyond the least.
    loan: Option<Loan>,
    /// The far end acknowledges in small steps: it is no skrouterd, which needs much before it
    /// says anything, and must not be given more.
    fine: bool,
    /// Octets read and acknowledged at a moment, whose acknowledgement tells how long the way is.
    mark: Option<(u64, u64, Instant)>,
    shortest: Option<Duration>,
}

/// What all windows of a process together may have beyond what each always has.
#[derive(Debug)]
pub(crate) struct WindowPool {
    most: AtomicU64,
    lent: AtomicU64,
}

#[derive(Debug)]
struct Loan {
    pool: Arc<WindowPool>,
    octets: u64,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            loan: None,
            fine: false,
            mark: None,
            shortest: None,
        }
    }

    /// Octets that may be on their way without having been acknowledged.
    pub(super) fn octets(&self) -> u64 {
        MIN + self.loan.as_ref().map_or(0, |loan| loan.octets)
    }

    /// Octets leave, after so many others.
    pub(super) fn sent(&mut self, octets: u64, acknowledged: u64, now: Instant) {
        self.mark.get_or_insert((octets, acknowledged, now));
    }

    /// Sets the window to twice what the path takes in its shortest round trip at the rate of the
    /// last one: more if the window was what held it up, less if the far end is.
    pub(super) fn acknowledged(&mut self, acknowledged: u64, now: Instant, pool: &Arc<WindowPool>) {
        self.fine |= acknowledged > 0 && acknowledged < COARSE;
        let Some((octets, before, at)) = self.mark else {
            return;
        };
        if acknowledged < octets || !self.fine {
            return;
        }
        self.mark = None;
        let took = now.duration_since(at).max(Duration::from_micros(1));
        let shortest = self.shortest.map_or(took, |shortest| shortest.min(took));
        self.shortest = Some(shortest);
        let busy = (acknowledged - before) as f64 * shortest.as_secs_f64() / took.as_secs_f64();
        let wanted = ((2.0 * busy) as u64).clamp(MIN, MAX);
        self.borrow(wanted - MIN, pool);
    }

    /// Has as much of the pool as is wanted, or as can be had.
    fn borrow(&mut self, wanted: u64, pool: &Arc<WindowPool>) {
        if wanted == 0 {
            self.loan = None;
            return;
        }
        let loan = self.loan.get_or_insert_with(|| Loan {
            pool: Arc::clone(pool),
            octets: 0,
        });
        match wanted.checked_sub(loan.octets) {
            Some(more) => loan.octets += loan.pool.lend(more),
            None => {
                loan.pool.take_back(loan.octets - wanted);
                loan.octets = wanted;
            }
        }
    }
}

impl WindowPool {
    /// How much there is to lend in a process that may have so many octets of memory. What has been
    /// lent already stays so.
    pub(crate) fn set_memory(&self, limit: Option<u64>) {
        let most = limit.map_or(POOL, |limit| (limit / POOL_SHARE).min(POOL));
        self.most.store(most, Ordering::Relaxed);
    }

    fn lend(&self, wanted: u64) -> u64 {
        let most = self.most.load(Ordering::Relaxed);
        let before = self.lent.fetch_add(wanted, Ordering::Relaxed);
        let got = most.saturating_sub(before).min(wanted);
        self.take_back(wanted - got);
        got
    }

    fn take_back(&self, octets: u64) {
        self.lent.fetch_sub(octets, Ordering::Relaxed);
    }
}

impl Default for WindowPool {
    fn default() -> Self {
        Self {
            most: AtomicU64::new(POOL),
            lent: AtomicU64::new(0),
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.pool.take_back(self.octets);
    }
}

/// Octets that one direction may always be ahead of what the far end has written to its socket. A
/// skrouterd acknowledges every 521,216 octets, and closes the connection to its neighbour when a
/// few streams together are 4 MiB ahead of their sockets.
const MIN: u64 = 524_288;
/// Octets that it may be ahead where the way is long and the far end quick.
const MAX: u64 = 16 * 1024 * 1024;
/// Octets after which a skrouterd acknowledges.
const COARSE: u64 = 521_216;
/// Octets to lend, at most: half of what a session between routers has room for, so that readers
/// that stop do not hold up the others.
const POOL: u64 = 64 * 1024 * 1024;
/// The part of the memory's limit that is to lend.
const POOL_SHARE: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // where its time starts makes no difference
    fn the_window_grows_on_a_long_way_and_not_for_a_slow_reader() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let pool = Arc::default();
        let mut window = Window::new();
        window.sent(524_288, 0, at(0));
        window.acknowledged(131_072, at(50), &pool);
        assert_eq!(window.octets(), MIN);
        window.acknowledged(524_288, at(50), &pool);
        assert_eq!(window.octets(), 2 * 524_288);
        // A reader that has become slow: a whole window takes seconds.
        window.sent(1_572_864, 524_288, at(100));
        window.acknowledged(1_572_864, at(3000), &pool);
        assert_eq!(window.octets(), MIN);
        assert_eq!(pool.lent.load(Ordering::Relaxed), 0);
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn who_acknowledges_in_large_steps_gets_no_more_than_it_can_take() {
        let start = Instant::now();
        let mut window = Window::new();
        window.sent(524_288, 0, start);
        window.acknowledged(524_288, start + Duration::from_millis(1), &Arc::default());
        assert_eq!(window.octets(), MIN);
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn all_windows_together_have_no_more_than_there_is() {
        let start = Instant::now();
        let pool = Arc::<WindowPool>::default();
        pool.set_memory(Some(80_000_000));
        let grown = |octets: u64| {
            let mut window = Window::new();
            window.sent(octets, 0, start);
            window.acknowledged(1, start, &pool);
            window.acknowledged(octets, start + Duration::from_millis(100), &pool);
            window
        };
        let first = grown(4_000_000);
        assert_eq!(first.octets(), 8_000_000);
        let second = grown(4_000_000);
        let left = 10_000_000 - (first.octets() - MIN);
        assert_eq!(second.octets(), MIN + left);
        assert_eq!(grown(4_000_000).octets(), MIN);
        drop(first);
        assert_eq!(grown(4_000_000).octets(), 8_000_000);
        assert_eq!(grown(1_000_000_000).octets(), MIN + 10_000_000 - left);
        drop(second);
        assert_eq!(pool.lent.load(Ordering::Relaxed), 0);
    }
}
