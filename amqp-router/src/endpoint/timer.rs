use std::time::Instant;

/// What a connection can be waiting for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Timer {
    /// The peer must have opened by then.
    Handshake,
    /// The peer must have sent another frame by then.
    Idle,
    /// We must have sent another frame by then.
    Heartbeat,
    /// The peer must have answered our close by then.
    Close,
}

impl Timer {
    pub(super) const ALL: [Self; 4] = [Self::Handshake, Self::Idle, Self::Heartbeat, Self::Close];
}

/// The deadline of each timer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TimerTable {
    deadlines: [Option<Instant>; Timer::ALL.len()],
}

impl TimerTable {
    pub(super) fn set(&mut self, timer: Timer, deadline: Instant) {
        self.deadlines[timer as usize] = Some(deadline);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = None;
    }

    pub(super) fn stop_all(&mut self) {
        *self = Self::default();
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// Stops and returns a timer whose deadline has come.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<Timer> {
        let expired = |timer: &Timer| self.deadlines[*timer as usize].is_some_and(|at| at <= now);
        let timer = Timer::ALL.into_iter().find(expired)?;
        self.stop(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn timers_expire_once_and_only_when_due() {
        let start = Instant::now();
        let mut timers = TimerTable::default();
        timers.set(Timer::Idle, start + Duration::from_secs(2));
        timers.set(Timer::Close, start + Duration::from_secs(1));
        assert_eq!(timers.next(), Some(start + Duration::from_secs(1)));
        assert_eq!(timers.pop_expired(start), None);
        let later = start + Duration::from_secs(1);
        assert_eq!(timers.pop_expired(later), Some(Timer::Close));
        assert_eq!(timers.pop_expired(later), None);
        timers.stop(Timer::Idle);
        assert_eq!(timers.next(), None);
    }
}
