//! Octets that go from one TCP socket to another without passing through the worker.
//!
//! Where the client's connection and the service's are both of one worker, and nobody looks at what
//! they exchange, forwarding has nothing to do for octets in the middle of a stream. The driver may
//! then move them by itself, in whatever way is cheapest, and say how many there were.

use std::time::Instant;

use super::{ConnectionId, Worker};

/// A way from socket to socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Direct {
    pub(crate) to: ConnectionId,
    /// Octets that may go it next.
    pub(crate) most: u64,
}

impl Worker {
    /// The connection whose socket may be given what this one's sends, instead of its being
    /// [given to the worker](Self::input). To be asked anew each time.
    pub(crate) fn direct(&mut self, from: ConnectionId) -> Option<Direct> {
        let most = self.connections.tcp(from.0)?.may_send_directly();
        let to = self.leads_to(from).filter(|_| most > 0)?;
        let most = most.min(self.connections.tcp(to.0)?.may_take_directly());
        (most > 0).then_some(Direct { to, most })
    }

    fn leads_to(&mut self, from: ConnectionId) -> Option<ConnectionId> {
        let link = self.connections.tcp(from.0)?.incoming?;
        let terminal = self.forwarder.direct(link)?;
        Some(ConnectionId(terminal.connection))
    }

    /// The socket of `to` has been given `octets` that the one of `from` sent, ahead of everything
    /// that waits for it here. True if something can go on that waited for that.
    pub(crate) fn moved(
        &mut self,
        from: ConnectionId,
        to: ConnectionId,
        octets: u64,
        now: Instant,
    ) -> bool {
        // The sender may be gone by now, and its number another's.
        if self.leads_to(from) == Some(to)
            && let Some(tcp) = self.connections.tcp(from.0)
        {
            tcp.sent_directly(octets, now);
            if tcp.wants_time() {
                self.connections.touch(from.0);
            }
        }
        if let Some(tcp) = self.connections.tcp(to.0) {
            tcp.took_directly(octets, now);
            if tcp.wants_time() {
                self.connections.touch(to.0);
            }
        }
        self.tcp_written(to.0, now)
    }
}
