//! Peers that do not read: what waits for them is given up, and the connection with it.
//!
//! A receiver may take its time by credit; a peer that does not even empty its socket, while it
//! goes on sending so as not to fall silent, only holds memory.

use std::time::Instant;

use super::{ConnectionId, Worker};
use crate::adaptors::connections::Peer;
use crate::adaptors::reading::LEAST_WAITING;

impl Worker {
    /// Cuts off AMQP peers that have not read for too long.
    pub(super) fn cut_off_slow_readers(&mut self, now: Instant) {
        let slow = self.connections.slow_readers(now);
        for number in slow {
            self.cut_off(number, now);
        }
    }

    /// Cuts off the AMQP peer that the most octets wait for, if there is one that anything worth
    /// it waits for.
    pub(crate) fn shed(&mut self, now: Instant) {
        let waiting = self
            .connections
            .iter()
            .filter_map(|(number, peer)| match peer {
                Peer::Amqp(amqp) if !amqp.is_cut_off => Some((amqp.endpoint.backlog(), number)),
                _ => None,
            });
        let most = waiting
            .max()
            .filter(|(waiting, _)| *waiting >= LEAST_WAITING);
        if let Some((_, number)) = most {
            self.cut_off(number, now);
        }
    }

    fn cut_off(&mut self, number: u32, now: Instant) {
        if let Some(amqp) = self.connections.amqp(number) {
            amqp.is_cut_off = true;
            amqp.endpoint.give_up_on_reader();
            self.cut_off += 1;
            self.process(ConnectionId(number), now);
        }
    }
}
