//! Where the connections of a TCP listener lead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::control::address::AddressKey;
use crate::vanflow::RecordId;

/// The addresses of one listener, and how one is chosen for each connection
/// (`reference/router/tcp-adaptor.md` §6).
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    strategy: Strategy,
    /// The highest values first; of equal ones the newest.
    targets: Vec<Target>,
    /// The name of the one that is taken by priority. It stays so while it can be reached and none
    /// of a higher value can: one of an equal value does not take its place.
    best: Option<String>,
}

/// `multiAddressStrategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// One address.
    None,
    /// The reachable one of the highest value.
    Priority,
    /// One of the reachable ones by chance, in proportion to their values.
    Weighted,
}

/// One address of a listener.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The name of its `listenerAddress`; empty for the listener's own.
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) key: AddressKey,
    pub(crate) value: u32,
    pub(crate) reachable: bool,
    /// Connections that were sent there.
    pub(crate) opened: Arc<AtomicU64>,
    /// Its record in telemetry.
    pub(crate) record: RecordId,
}

impl Strategy {
    pub(crate) fn of(word: Option<&str>) -> Self {
        match word {
            Some("priority") => Self::Priority,
            Some("weighted") => Self::Weighted,
            _ => Self::None,
        }
    }
}

impl Targets {
    pub(crate) fn new(strategy: Strategy) -> Self {
        Self {
            strategy,
            targets: Vec::new(),
            best: None,
        }
    }

    /// Adds an address.
    pub(crate) fn add(&mut self, target: Target) {
        let before = |other: &Target| other.value > target.value;
        let at = self.targets.partition_point(before);
        self.targets.insert(at, target);
        self.review();
    }

    /// Takes an address away, the older one if another has its name.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Target> {
        let at = self
            .targets
            .iter()
            .rposition(|target| target.name == name)?;
        let removed = self.targets.remove(at);
        self.review();
        Some(removed)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Target> {
        self.targets.iter_mut()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name == name)
    }

    /// Whether any of them can be reached.
    pub(crate) fn is_reachable(&self) -> bool {
        self.targets.iter().any(|target| target.reachable)
    }

    /// Notes whether an address can be reached; true if that is one of these.
    pub(crate) fn set_reachable(&mut self, key: &AddressKey, reachable: bool) -> bool {
        let mut of_these = false;
        for target in self.targets.iter_mut().filter(|target| target.key == *key) {
            target.reachable = reachable;
            of_these = true;
        }
        self.review();
        of_these
    }

    /// Has another one be the best if the one that was is so no longer.
    fn review(&mut self) {
        let first = self.targets.iter().find(|target| target.reachable);
        let stays = self.best().zip(first);
        if stays.is_none_or(|(best, first)| best.value < first.value) {
            self.best = first.map(|target| target.name.clone());
        }
    }

    /// The best one, while it can be reached.
    fn best(&self) -> Option<&Target> {
        let best = self.find(self.best.as_deref()?);
        best.filter(|target| target.reachable)
    }

    /// The address of the next connection; `chance` is any number.
    pub(crate) fn choose(&self, chance: u64) -> Option<&Target> {
        let reachable = || self.targets.iter().filter(|target| target.reachable);
        let chosen = match self.strategy {
            Strategy::None | Strategy::Priority => self.best(),
            Strategy::Weighted => {
                let total: u64 = reachable().map(|target| u64::from(target.value)).sum();
                let mut left = chance % total.max(1);
                let mut weighted = reachable();
                weighted.find(|target| {
                    let weight = u64::from(target.value);
                    let here = left < weight;
                    left = left.saturating_sub(weight);
                    here
                })
            }
        };
        let chosen = chosen.or_else(|| self.targets.first())?;
        chosen.opened.fetch_add(1, Ordering::Relaxed);
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(strategy: Strategy, values: &[u32]) -> Targets {
        let mut targets = Targets::new(strategy);
        for (number, &value) in values.iter().enumerate() {
            targets.add(Target {
                name: format!("t{number}"),
                address: format!("a{number}"),
                key: AddressKey::mobile(&format!("a{number}")),
                value,
                reachable: true,
                opened: Arc::default(),
                record: RecordId(number as u64),
            });
        }
        targets
    }

    fn chosen(targets: &Targets, chance: u64) -> &str {
        &targets.choose(chance).unwrap().address
    }

    #[test]
    fn the_highest_value_that_can_be_reached_comes_first() {
        let mut targets = targets(Strategy::Priority, &[1, 9, 5]);
        assert_eq!(chosen(&targets, 0), "a1");
        assert!(targets.set_reachable(&AddressKey::mobile("a1"), false));
        assert_eq!(chosen(&targets, 7), "a2");
        for name in ["a0", "a2"] {
            targets.set_reachable(&AddressKey::mobile(name), false);
        }
        assert!(!targets.is_reachable());
        assert_eq!(chosen(&targets, 0), "a1", "whatever becomes of it");
        assert!(!targets.set_reachable(&AddressKey::mobile("b"), true));
    }

    #[test]
    fn of_equal_values_one_stays_until_it_is_gone_and_the_newest_follows() {
        let mut targets = targets(Strategy::Priority, &[5, 5, 5, 1]);
        let set = |targets: &mut Targets, name, reachable| {
            targets.set_reachable(&AddressKey::mobile(name), reachable);
        };
        assert_eq!(chosen(&targets, 0), "a0", "it was there first");
        set(&mut targets, "a0", false);
        assert_eq!(chosen(&targets, 0), "a2", "the newest");
        set(&mut targets, "a0", true);
        assert_eq!(chosen(&targets, 0), "a2");
        targets.remove("t2");
        assert_eq!(chosen(&targets, 0), "a1");
        for name in ["a0", "a1", "a3"] {
            set(&mut targets, name, false);
        }
        assert_eq!(chosen(&targets, 0), "a1", "whatever becomes of it");
        set(&mut targets, "a0", true);
        assert_eq!(chosen(&targets, 0), "a0");
    }

    #[test]
    fn weights_are_proportions_among_those_that_can_be_reached() {
        let mut targets = targets(Strategy::Weighted, &[1, 3]);
        let of = |targets: &Targets| (0..8).filter(|c| chosen(targets, *c) == "a1").count();
        assert_eq!(of(&targets), 6);
        targets.set_reachable(&AddressKey::mobile("a0"), false);
        assert_eq!(of(&targets), 8);
        assert_eq!(
            targets.find("t1").unwrap().opened.load(Ordering::Relaxed),
            14
        );
    }
}
