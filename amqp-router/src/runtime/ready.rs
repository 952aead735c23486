//! Which of a worker's connections have something to do.
//!
//! A worker is one task that owns all its connections, so each socket gets a waker that notes the
//! connection's number before it wakes the task.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use atomic_waker::AtomicWaker;

/// The numbers of woken connections, and the task to wake for them.
#[derive(Debug, Default)]
pub(super) struct ReadyList {
    shared: Arc<Shared>,
    wakers: HashMap<u32, Arc<ConnectionWaker>>,
}

#[derive(Debug, Default)]
struct Shared {
    woken: Mutex<Vec<u32>>,
    task: AtomicWaker,
}

#[derive(Debug)]
struct ConnectionWaker {
    connection: u32,
    listed: AtomicBool,
    shared: Arc<Shared>,
}

impl ReadyList {
    /// Has the task of `cx` woken from now on.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.shared.task.register(cx.waker());
    }

    /// The waker of a connection, for its socket.
    pub(super) fn waker(&mut self, connection: u32) -> Waker {
        let waker = self.wakers.entry(connection).or_insert_with(|| {
            Arc::new(ConnectionWaker {
                connection,
                listed: AtomicBool::new(false),
                shared: Arc::clone(&self.shared),
            })
        });
        Waker::from(Arc::clone(waker))
    }

    /// Has a connection looked at, if it is still there.
    pub(super) fn wake(&self, connection: u32) {
        if let Some(waker) = self.wakers.get(&connection) {
            waker.wake_by_ref();
        }
    }

    /// Forgets a connection; a late wake-up of its socket will name a number that has no
    /// connection, or wake its successor in vain.
    pub(super) fn remove(&mut self, connection: u32) {
        self.wakers.remove(&connection);
    }

    /// Moves the woken connections to `into`, each once.
    pub(super) fn take(&self, into: &mut Vec<u32>) {
        {
            let mut woken = self
                .shared
                .woken
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut *woken, into);
        }
        for connection in into.iter() {
            if let Some(waker) = self.wakers.get(connection) {
                waker.listed.store(false, Ordering::Release);
            }
        }
    }
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.listed.swap(true, Ordering::AcqRel) {
            let mut woken = self
                .shared
                .woken
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            woken.push(self.connection);
            drop(woken);
            self.shared.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_listed_once_until_it_is_taken() {
        let mut list = ReadyList::default();
        let (first, second) = (list.waker(1), list.waker(2));
        first.wake_by_ref();
        second.wake_by_ref();
        first.wake_by_ref();
        let mut taken = Vec::new();
        list.take(&mut taken);
        assert_eq!(taken, [1, 2]);
        first.wake();
        let mut again = Vec::new();
        list.take(&mut again);
        assert_eq!(again, [1]);
    }
}
