//! What a worker gives up when memory is short: the connections that have filled the most.
//!
//! A connection fills memory from either end: by what waits for a peer that does not read, and by
//! what a peer has sent that nobody takes. The first is not told why, as it would not read that
//! either; the second is.

use std::cmp::Reverse;
use std::time::Instant;

use super::{ConnectionId, Worker};
use crate::adaptors::connections::Peer;
use crate::adaptors::reading::LEAST_WAITING;

/// How much too much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// Octets that are to be given up.
    pub(crate) octets: usize,
    /// Octets that a connection has to hold to be cut off, if they are worth it at all.
    pub(crate) least: usize,
    pub(crate) noticed: Instant,
}

/// A connection that could be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    number: u32,
    /// Its peer is a router, and what it holds is others'.
    is_router: bool,
    /// Octets that wait for the peer to read them.
    unread: usize,
    /// Octets that the peer has sent and nobody has taken.
    sent: usize,
}

impl Worker {
    /// Cuts off AMQP connections until as much is given up as there is too much.
    ///
    /// A worker that is busy hears late, and of several shortages at once: what was noticed before
    /// somebody was cut off says nothing of what is short since.
    pub(crate) fn shed(&mut self, shortage: Shortage, now: Instant) {
        if self.shed.is_some_and(|shed| shortage.noticed < shed) {
            return;
        }
        let held = self.forwarder.held();
        let holders = self.connections.iter().filter_map(|(number, peer)| {
            let Peer::Amqp(amqp) = peer else {
                return None;
            };
            (!amqp.is_cut_off).then(|| Holder {
                number,
                is_router: amqp.role.is_annotated(),
                unread: amqp.endpoint.backlog(),
                sent: held.get(&number).copied().unwrap_or(0),
            })
        });
        for holder in choose(holders.collect(), shortage) {
            self.shed = Some(now);
            match holder.sent > holder.unread {
                true => self.cut_off_sender(holder, now),
                false => self.cut_off(holder.number, now),
            }
        }
    }

    fn cut_off_sender(&mut self, holder: Holder, now: Instant) {
        self.forwarder
            .discard_of(&mut self.connections, now, holder.number);
        if let Some(amqp) = self.connections.amqp(holder.number) {
            amqp.endpoint.give_up_on_sender(holder.sent, now);
            self.senders_cut_off += 1;
            self.process(ConnectionId(holder.number), now);
        }
    }
}

/// Who is cut off: those who hold the most, and routers only where no client holds enough.
fn choose(mut holders: Vec<Holder>, shortage: Shortage) -> Vec<Holder> {
    let least = shortage.least.max(LEAST_WAITING);
    holders.retain(|holder| holder.octets() >= least);
    if holders.iter().any(|holder| !holder.is_router) {
        holders.retain(|holder| !holder.is_router);
    }
    holders.sort_unstable_by_key(|holder| Reverse(holder.octets()));
    let mut octets = 0;
    holders.retain(|holder| {
        let goes = octets < shortage.octets;
        octets += holder.octets();
        goes
    });
    holders
}

impl Holder {
    fn octets(&self) -> usize {
        self.unread.max(self.sent)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any instant will do
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn client(number: u32, unread: usize, sent: usize) -> Holder {
        Holder {
            number,
            is_router: false,
            unread,
            sent,
        }
    }

    fn router(number: u32, unread: usize, sent: usize) -> Holder {
        Holder {
            is_router: true,
            ..client(number, unread, sent)
        }
    }

    fn chosen(holders: &[Holder], octets: usize, least: usize) -> Vec<u32> {
        let shortage = Shortage {
            octets,
            least,
            noticed: Instant::now(),
        };
        let chosen = choose(holders.to_vec(), shortage);
        chosen.iter().map(|holder| holder.number).collect()
    }

    #[test]
    fn who_holds_the_most_goes_by_whichever_end() {
        let holders = [
            client(1, MIB, 0),
            client(2, 0, 3 * MIB),
            client(3, 2 * MIB, MIB),
        ];
        assert_eq!(chosen(&holders, 1, 0), [2]);
        assert_eq!(chosen(&holders[..1], 1, 0), [1]);
    }

    #[test]
    fn no_more_go_than_it_takes() {
        let holders = [
            client(1, 0, MIB),
            client(2, 0, 3 * MIB),
            client(3, 0, 2 * MIB),
        ];
        assert_eq!(chosen(&holders, 3 * MIB, 0), [2]);
        assert_eq!(chosen(&holders, 3 * MIB + 1, 0), [2, 3]);
        assert_eq!(chosen(&holders, 100 * MIB, 0), [2, 3, 1]);
        assert_eq!(chosen(&holders, 100 * MIB, 2 * MIB), [2, 3]);
    }

    #[test]
    fn nobody_goes_for_a_little() {
        let holders = [client(1, LEAST_WAITING - 1, 0), client(2, 0, LEAST_WAITING)];
        assert_eq!(chosen(&holders, MIB, 0), [2]);
        assert!(chosen(&holders[..1], MIB, 0).is_empty());
    }

    #[test]
    fn routers_go_only_where_no_client_does() {
        let holders = [
            router(1, 0, 3 * MIB),
            client(2, 0, MIB),
            router(3, 0, 2 * MIB),
        ];
        assert_eq!(chosen(&holders, 3 * MIB, 0), [2]);
        let none = chosen(&holders, MIB, 2 * MIB);
        assert_eq!(none, [1], "the client holds too little");
    }
}
