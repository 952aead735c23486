//! Connections that ask for more than can be done, or do not take the answers, are not read for a
//! while.
//!
//! What a link, a session or a connection needs of the control plane waits in one line with what
//! all others need. Who fills that line waits until it is short again; who has asked for little goes on
//! meanwhile, as long as the line is not very long: anybody may ask for much next.

use std::sync::atomic::Ordering;

use super::{Driver, Load};
use crate::worker::ConnectionId;

impl Load {
    /// So many requests of the worker have been handed to the control plane.
    pub(super) fn asked(&self, requests: usize) {
        self.asked.fetch_add(requests, Ordering::Relaxed);
    }

    /// So many of them have been done.
    pub(crate) fn answered(&self, requests: usize) {
        self.asked.fetch_sub(requests, Ordering::Relaxed);
    }
}

impl Driver {
    /// Requests that the control plane has not done yet.
    fn requests(&self) -> usize {
        self.load.asked.load(Ordering::Relaxed) + self.worker.requests()
    }

    /// Whether a connection is not to be read now, however much it sends. It will be woken.
    #[inline]
    pub(super) fn is_held_back(&mut self, connection: ConnectionId) -> bool {
        let full = self.worker.is_full(connection);
        let Some(socket) = self.sockets.get_mut(connection.0) else {
            return false;
        };
        socket.full = full;
        let most = match socket.asks {
            // Such as a connection that opens and attaches a few links, or is about to.
            0..=FEW => LINE_MAX,
            _ => REQUESTS_MAX,
        };
        let asks_too_much = self.requests() >= most && self.worker.is_amqp(connection);
        if asks_too_much && !self.held_back.contains(&connection) {
            self.held_back.push(connection);
        }
        asks_too_much || full
    }

    /// Has those read again that waited for the control plane. True if some still wait.
    pub(super) fn let_in(&mut self) -> bool {
        if self.requests() < REQUESTS_MAX / 2 {
            for connection in self.held_back.drain(..) {
                self.ready.wake(connection.0);
            }
        }
        !self.held_back.is_empty()
    }

    /// Has a connection read again that has taken enough of what waited for it.
    #[inline]
    pub(super) fn review_full(&mut self, connection: ConnectionId) {
        if let Some(socket) = self.sockets.get_mut(connection.0)
            && socket.full
            && !self.worker.is_full(connection)
        {
            socket.full = false;
            self.ready.wake(connection.0);
        }
    }
}

/// Requests that wait for the control plane before those who have just made many are not read: it
/// does so many in milliseconds.
const REQUESTS_MAX: usize = 1024;
/// The same for all AMQP peers, those included who have made few or none: whoever makes many must
/// not keep them out, but nothing may grow without bound either.
const LINE_MAX: usize = 64 * 1024;
/// Requests of one reading that are not many.
const FEW: usize = 16;
