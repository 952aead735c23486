//! Whether a peer reads what is written to it.

use std::time::{Duration, Instant};

/// How far a peer has read what was written to it.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Octets that its socket had taken when it was last looked, and since when no more.
    stuck: Option<(u64, Instant)>,
}

impl Reading {
    /// Octets that wait for the peer, and octets that its socket has taken in all. Whether it has
    /// taken nothing for too long.
    pub(crate) fn look(&mut self, waiting: usize, taken: u64, ended: bool, now: Instant) -> bool {
        let (least, patience) = match ended {
            true => (1, ENDED_PATIENCE),
            false => (LEAST_WAITING, PATIENCE),
        };
        if waiting < least {
            self.stuck = None;
            return false;
        }
        match self.stuck {
            Some((before, since)) if before == taken => now.duration_since(since) >= patience,
            _ => {
                self.stuck = Some((taken, now));
                false
            }
        }
    }
}

/// Octets that must wait for a peer for it to be found slow.
pub(crate) const LEAST_WAITING: usize = 64 * 1024;
/// How long a peer may read nothing while so much waits.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to read the last words of a connection that is over.
const ENDED_PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_nothing_for_a_minute_is_slow_and_who_reads_a_little_is_not() {
        let (mut reading, start) = (Reading::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!reading.look(1 << 20, 0, false, at(0)));
        assert!(!reading.look(1 << 20, 0, false, at(59)));
        assert!(!reading.look(1 << 20, 1, false, at(60)), "it has read");
        assert!(!reading.look(1 << 20, 1, false, at(119)));
        assert!(reading.look(1 << 20, 1, false, at(120)));
        assert!(
            !reading.look(LEAST_WAITING - 1, 1, false, at(300)),
            "little waits"
        );
        assert!(!reading.look(1 << 20, 1, false, at(301)), "from now on");
    }

    #[test]
    fn the_last_words_are_not_kept_for_long() {
        let (mut reading, start) = (Reading::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!reading.look(1, 7, true, at(0)));
        assert!(!reading.look(1, 7, true, at(9)));
        assert!(reading.look(1, 7, true, at(10)));
        assert!(!reading.look(0, 8, true, at(11)));
    }
}
