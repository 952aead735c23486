//! How much memory the process may have, and what it does as it comes near that.
//!
//! In this order: from [`REFUSE`] on nobody may connect; from [`SHED`] on every worker cuts off,
//! once a second, the peer that the most octets wait for. What is open otherwise goes on: credit
//! and windows bound it.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::runtime::driver::ToWorker;
use crate::runtime::metrics::Memory;
use crate::runtime::service::Service;

/// The budget of a process, and how it stands.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Octets; `None` is without limit.
    limit: Option<u64>,
    stage: Stage,
    due: Option<Instant>,
}

/// What is done for memory's sake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Nothing,
    /// Nobody may connect.
    Refuse,
    /// Besides, those who do not read are cut off.
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

    /// Takes how many octets the process has. True if the stage is another now.
    fn look(&mut self, resident: u64) -> bool {
        let share = match self.limit {
            Some(limit) => resident.saturating_mul(100) / limit.max(1),
            None => 0,
        };
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
}

impl Service {
    /// Looks at the memory of the process, once a second while there is a limit.
    pub(crate) fn watch_memory(&mut self, now: Instant) {
        if self.memory.due.is_none_or(|due| now < due) {
            return;
        }
        self.memory.due = self.memory.limit.map(|_| now + INTERVAL);
        let resident = Memory::now().map_or(0, |memory| memory.resident);
        if self.memory.look(resident) {
            self.tell_stage(resident);
            let short = self.memory.stage >= Stage::Refuse;
            self.lock_sources().set_short_of_memory(short);
        }
        if self.memory.stage == Stage::Shed {
            for worker in self.workers.iter() {
                // A worker that is gone holds nothing.
                let _ = worker.inbox.send(ToWorker::Shed);
            }
        }
    }

    fn tell_stage(&self, resident: u64) {
        let limit = self.memory.limit.unwrap_or_default() / MEGABYTE;
        let resident = resident / MEGABYTE;
        let does = match self.memory.stage {
            Stage::Nothing => "connections are taken again",
            Stage::Refuse => "new connections are closed",
            Stage::Shed => "new connections are closed, and peers that do not read are cut off",
        };
        warn!(target: "SERVER", "Memory: {resident} MB of {limit} MB are in use; {does}");
    }
}

/// Octets in what `maxMemoryMegabytes` counts.
pub(crate) const MEGABYTE: u64 = 1_000_000;
/// Hundredths of the limit from which on nobody may connect.
const REFUSE: u64 = 85;
/// Hundredths of the limit from which on those who do not read are cut off.
const SHED: u64 = 95;
/// Hundredths of the limit by which memory must fall for that to end.
const RELIEF: u64 = 5;
const INTERVAL: Duration = Duration::from_secs(1);

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
    fn without_a_limit_nothing_is_done() {
        let mut budget = Budget::default();
        assert!(!budget.look(u64::MAX));
        assert_eq!(budget.stage, Stage::Nothing);
        assert_eq!(budget.poll_timeout(), None);
    }
}
