//! The workers of a router, and which of them is to have a connection.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;

use crate::runtime::driver::{Load, ToWorker};
use crate::runtime::listen::Placement;

/// One worker, seen from outside its thread.
#[derive(Clone, Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) inbox: UnboundedSender<ToWorker>,
    pub(crate) load: Arc<Load>,
    pub(crate) runtime: Handle,
}

/// The workers of a router, and which of them is to have the next connection.
#[derive(Clone, Debug)]
pub(crate) struct Workers(Arc<[WorkerHandle]>);

impl Workers {
    pub(crate) fn new(workers: Vec<WorkerHandle>) -> Self {
        Self(workers.into())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &WorkerHandle> {
        self.0.iter()
    }

    /// A worker by any number.
    pub(crate) fn nth(&self, number: usize) -> (usize, Handle) {
        let worker = number % self.0.len();
        (worker, self.0[worker].runtime.clone())
    }

    pub(crate) fn get(&self, worker: usize) -> &WorkerHandle {
        &self.0[worker]
    }
}

impl Placement for Workers {
    fn place(&self) -> (usize, Handle) {
        let loads = self.0.iter().map(|worker| Busyness {
            permille: worker.load.busy_permille(),
            connections: worker.load.connections(),
        });
        let worker = choose(loads);
        (worker, self.0[worker].runtime.clone())
    }
}

/// How busy a worker is.
#[derive(Clone, Copy, Debug)]
struct Busyness {
    /// Thousandths of its time that it works.
    permille: u32,
    connections: u32,
}

/// The first worker that has time to spare and not very many connections more than others, so that
/// what is forwarded stays on one thread while one thread is enough. When none has time, the one
/// with the fewest connections.
fn choose(loads: impl Iterator<Item = Busyness> + Clone) -> usize {
    let all = loads.enumerate();
    let idle = all.clone().filter(|(_, load)| load.permille < BUSY);
    let fewest = idle.clone().map(|(_, load)| load.connections).min();
    let most = fewest.map_or(0, |fewest| fewest.saturating_add(SURPLUS));
    let mut spare = idle.filter(|(_, load)| load.connections <= most);
    let least = all.min_by_key(|(_, load)| load.connections);
    let chosen = spare.next().or(least);
    chosen.map_or(0, |(worker, _)| worker)
}

/// Thousandths of its time that a worker may be working and still be given connections that
/// others could have.
const BUSY: u32 = 700;
/// How many connections more than an idle worker another may have: they may all have something to
/// do one day, and do not move.
const SURPLUS: u32 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(loads: &[(u32, u32)]) -> usize {
        choose(loads.iter().map(|&(permille, connections)| Busyness {
            permille,
            connections,
        }))
    }

    #[test]
    fn few_connections_share_a_worker() {
        assert_eq!(chosen(&[(0, 0), (0, 0)]), 0);
        assert_eq!(chosen(&[(699, 200), (0, 0), (0, 0)]), 0);
    }

    #[test]
    fn who_is_busy_gets_no_more() {
        assert_eq!(chosen(&[(700, 2), (300, 5), (0, 0)]), 1);
        assert_eq!(chosen(&[(900, 9), (1000, 7), (800, 8)]), 1);
    }

    #[test]
    fn many_connections_are_spread() {
        assert_eq!(chosen(&[(0, 201), (0, 0), (0, 0)]), 1);
        assert_eq!(chosen(&[(0, 201), (0, 201), (0, 0)]), 2);
        assert_eq!(chosen(&[(0, 201), (0, 201), (0, 1)]), 0);
        assert_eq!(
            chosen(&[(0, 300), (999, 0), (0, 100)]),
            0,
            "the busy do not count"
        );
        let mut loads = [(0, 0); 4];
        for _ in 0..4000 {
            loads[chosen(&loads)].1 += 1;
        }
        assert!(
            loads.iter().all(|load| (800..=1200).contains(&load.1)),
            "{loads:?}"
        );
    }
}
