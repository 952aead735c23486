//! How much memory the process may have, and what it does as it comes near that.
//!
//! In this order: from [`REFUSE`] on nobody may connect; from [`SHED`] on every worker cuts off the
//! peers that have filled the most, by what waits for them or by what they have sent, until there
//! is room again. What is open otherwise goes on: credit and windows bound it.
//!
//! What counts is what is in use. The C library's malloc keeps much of what was freed, and takes
//! from that first; it may keep it for ever, and nobody would ever connect again.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::runtime::driver::ToWorker;
use crate::runtime::metrics::Memory;
use crate::runtime::service::Service;
use crate::worker::Shortage;

/// The budget of a process, and how it stands.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Octets; `None` is without limit.
    limit: Option<u64>,
    stage: Stage,
    /// How often in a row peers have been cut off.
    rounds: u32,
    due: Option<Instant>,
}

/// What is done for memory's sake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Nothing,
    /// Nobody may connect.
    Refuse,
    /// Besides, those who have filled the most are cut off.
    Shed,
}

impl Budget {
    /// `limit` in octets; looks at once.
    pub(crate) fn set_limit(&mut self, limit: Option<u64>, now: Instant) {
        self.limit = limit;
        self.due = Some(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Hundredths of the limit that so many octets are.
    fn share(&self, octets: u64) -> u64 {
        match self.limit {
            Some(limit) => octets.saturating_mul(100) / limit.max(1),
            None => 0,
        }
    }

    /// How many octets are in use of so many that the process has. To find out costs something,
    /// so it is only done where it matters.
    fn used(&self, resident: u64, unused: impl FnOnce() -> u64) -> u64 {
        match self.share(resident) >= REFUSE - RELIEF {
            true => resident.saturating_sub(unused()),
            false => resident,
        }
    }

    /// Takes how many octets are in use. True if the stage is another now.
    fn look(&mut self, used: u64) -> bool {
        let share = self.share(used);
        // What has begun goes on until there is some room again.
        let reached = |stage: Stage, from: u64| {
            let from = if self.stage >= stage {
                from - RELIEF
            } else {
                from
            };
            share >= from
        };
        let stage = match () {
            () if reached(Stage::Shed, SHED) => Stage::Shed,
            () if reached(Stage::Refuse, REFUSE) => Stage::Refuse,
            () => Stage::Nothing,
        };
        std::mem::replace(&mut self.stage, stage) != stage
    }

    /// What workers are to give up, where so many octets are in use. Those who hold all that is
    /// too much go first, on whichever worker they are; the longer that does not help, the less it
    /// takes.
    fn shortage(&mut self, used: u64, now: Instant) -> Option<Shortage> {
        if self.stage != Stage::Shed {
            self.rounds = 0;
            return None;
        }
        let room = self.limit.unwrap_or_default().saturating_mul(SHED - RELIEF) / 100;
        let octets = usize::try_from(used.saturating_sub(room)).unwrap_or(usize::MAX);
        let least = octets.checked_shr(self.rounds).unwrap_or(0);
        self.rounds += 1;
        Some(Shortage {
            octets,
            least,
            noticed: now,
        })
    }

    /// When to look again: before a fast sender, of an octet a nanosecond, can have filled it.
    fn interval(&self, resident: u64) -> Duration {
        let room = self.limit.unwrap_or_default().saturating_sub(resident);
        Duration::from_nanos(room).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
    }
}

impl Service {
    /// Looks at the memory of the process, now and then while there is a limit.
    pub(crate) fn watch_memory(&mut self, now: Instant) {
        if self.memory.due.is_none_or(|due| now < due) {
            return;
        }
        let resident = Memory::now().map_or(0, |memory| memory.resident);
        let interval = self.memory.interval(resident);
        self.memory.due = self.memory.limit.map(|_| now + interval);
        let used = self.memory.used(resident, Memory::unused);
        if self.memory.look(used) {
            self.tell_stage(used);
            let short = self.memory.stage >= Stage::Refuse;
            self.lock_sources().set_short_of_memory(short);
        }
        if let Some(shortage) = self.memory.shortage(used, now) {
            for worker in self.workers.iter() {
                // A worker that is gone holds nothing.
                let _ = worker.inbox.send(ToWorker::Shed(shortage));
            }
        }
    }

    fn tell_stage(&self, used: u64) {
        let limit = self.memory.limit.unwrap_or_default() / MEGABYTE;
        let used = used / MEGABYTE;
        let does = match self.memory.stage {
            Stage::Nothing => "connections are taken again",
            Stage::Refuse => "new connections are closed",
            Stage::Shed => {
                "new connections are closed, and peers that have filled the most are cut off"
            }
        };
        warn!(target: "SERVER", "Memory: {used} MB of {limit} MB are in use; {does}");
    }
}

/// Octets in what `maxMemoryMegabytes` counts.
pub(crate) const MEGABYTE: u64 = 1_000_000;
/// Hundredths of the limit from which on nobody may connect.
const REFUSE: u64 = 85;
/// Hundredths of the limit from which on those who have filled the most are cut off.
const SHED: u64 = 95;
/// Hundredths of the limit by which memory must fall for that to end.
const RELIEF: u64 = 5;
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_is_left_the_more_is_done_and_it_ends_when_there_is_room_again() {
        let mut budget = Budget {
            limit: Some(1000),
            ..Budget::default()
        };
        let mut at = |resident| {
            budget.look(resident);
            budget.stage
        };
        assert_eq!(at(849), Stage::Nothing);
        assert_eq!(at(850), Stage::Refuse);
        assert_eq!(at(800), Stage::Refuse, "not enough room yet");
        assert_eq!(at(950), Stage::Shed);
        assert_eq!(at(900), Stage::Shed);
        assert_eq!(at(899), Stage::Refuse);
        assert_eq!(at(799), Stage::Nothing);
        assert_eq!(at(2000), Stage::Shed);
    }

    #[test]
    fn what_is_freed_and_kept_does_not_count() {
        let budget = Budget {
            limit: Some(1000),
            ..Budget::default()
        };
        assert_eq!(budget.used(3000, || 2900), 100);
        assert_eq!(budget.used(700, || panic!("there is enough")), 700);
    }

    #[test]
    fn who_holds_all_that_is_too_much_goes_first_and_then_those_who_hold_less() {
        let mut budget = Budget {
            limit: Some(1000),
            ..Budget::default()
        };
        let mut at = |used| {
            budget.look(used);
            let shortage = budget.shortage(used, Instant::now());
            shortage.map(|shortage| (shortage.octets, shortage.least))
        };
        let shortage = |octets, least| Some((octets, least));
        assert_eq!(at(940), None);
        assert_eq!(at(1060), shortage(160, 160));
        assert_eq!(at(1060), shortage(160, 80));
        assert_eq!(at(940), shortage(40, 10));
        assert_eq!(at(890), None);
        assert_eq!(at(980), shortage(80, 80), "another time");
    }

    #[test]
    fn it_is_looked_again_before_a_fast_sender_can_have_filled_it() {
        let budget = Budget {
            limit: Some(2000 * MEGABYTE),
            ..Budget::default()
        };
        let at = |megabytes| budget.interval(megabytes * MEGABYTE);
        assert_eq!(at(100), LONGEST_INTERVAL);
        assert_eq!(at(1500), Duration::from_millis(500));
        assert_eq!(at(1990), SHORTEST_INTERVAL);
        assert_eq!(at(3000), SHORTEST_INTERVAL);
    }

    #[test]
    fn without_a_limit_nothing_is_done() {
        let mut budget = Budget::default();
        assert!(!budget.look(u64::MAX));
        assert_eq!(budget.stage, Stage::Nothing);
        assert_eq!(budget.poll_timeout(), None);
    }
}
