//! What a worker tells of itself when it is asked: what the question names, and no more, since it
//! forwards nothing meanwhile.

use std::collections::HashSet;
use std::time::Instant;

use super::Worker;
use crate::adaptors::amqp::ConnectionStatus;
use crate::adaptors::connections::Peer;
use crate::adaptors::tcp::{Census, TcpConnection, TcpStatus};
use crate::control::table::{AddressId, LinkRef};
use crate::forwarding::links::LinkStatus;
use crate::forwarding::stats::{AddressCounts, Backlog, Pool, WorkerCounts};

/// What somebody wants to know of a router's workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Question {
    /// Connections by the numbers that management knows them by.
    pub(crate) connections: HashSet<u64>,
    /// TCP connections by the hosts of their peers.
    pub(crate) tcp_hosts: HashSet<String>,
    /// Which TCP connections are open.
    pub(crate) tcp_numbers: bool,
    pub(crate) links: HashSet<LinkRef>,
    pub(crate) addresses: HashSet<AddressId>,
    pub(crate) totals: bool,
}

/// What a worker has to say to a [`Question`].
#[derive(Debug, Default)]
pub(crate) struct WorkerStatus {
    pub(crate) connections: Vec<ConnectionStatus>,
    pub(crate) tcp: Vec<TcpStatus>,
    pub(crate) tcp_numbers: Vec<u64>,
    pub(crate) links: Vec<(LinkRef, LinkStatus)>,
    pub(crate) addresses: Vec<(AddressId, AddressCounts)>,
    pub(crate) totals: Option<WorkerTotals>,
    #[cfg(test)]
    pub(crate) in_flight: usize,
}

/// A worker's totals: little, however many links and connections it has.
#[derive(Debug, Default)]
pub(crate) struct WorkerTotals {
    pub(crate) counts: WorkerCounts,
    pub(crate) backlog: Backlog,
    /// TCP connections that are open.
    pub(crate) tcp: Census,
    /// AMQP peers that were cut off because they did not read.
    pub(crate) cut_off: u64,
    /// AMQP peers that were cut off because of what they had sent, for memory's sake.
    pub(crate) senders_cut_off: u64,
    pub(crate) pools: Vec<Pool>,
}

/// What a worker tells for metrics.
#[derive(Debug, Default)]
pub(crate) struct WorkerFigures {
    pub(crate) addresses: Vec<(AddressId, AddressCounts)>,
    pub(crate) totals: WorkerTotals,
}

impl Question {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn is_of_connections(&self) -> bool {
        self.tcp_numbers || !self.connections.is_empty() || !self.tcp_hosts.is_empty()
    }

    fn means(&self, tcp: &TcpConnection) -> bool {
        self.connections.contains(&tcp.id) || self.tcp_hosts.contains(&tcp.host)
    }
}

impl Worker {
    pub(crate) fn status(&self, question: &Question, now: Instant) -> WorkerStatus {
        let mut status = WorkerStatus {
            links: (self.forwarder).link_statuses(&self.connections, self.id, &question.links, now),
            addresses: self.forwarder.counts_of(&question.addresses),
            totals: question.totals.then(|| self.totals(now)),
            ..WorkerStatus::default()
        };
        if question.is_of_connections() {
            self.tell_connections(question, &mut status);
        }
        status
    }

    fn tell_connections(&self, question: &Question, status: &mut WorkerStatus) {
        for (_, peer) in self.connections.iter() {
            match peer {
                Peer::Amqp(amqp) if question.connections.contains(&amqp.id) => {
                    status.connections.push(amqp.status());
                }
                Peer::Tcp(tcp) if tcp.opened.is_some() => {
                    if question.tcp_numbers {
                        status.tcp_numbers.push(tcp.id);
                    }
                    if question.means(tcp) {
                        status.tcp.push(tcp.status());
                    }
                }
                Peer::Amqp(_) | Peer::Local(_) | Peer::Tcp(_) => {}
            }
        }
    }

    pub(crate) fn figures(&self, now: Instant) -> WorkerFigures {
        WorkerFigures {
            addresses: self.forwarder.address_counts().collect(),
            totals: self.totals(now),
        }
    }

    fn totals(&self, now: Instant) -> WorkerTotals {
        let mut open = Census::default();
        for (_, peer) in self.connections.iter() {
            if let Peer::Tcp(tcp) = peer
                && tcp.opened.is_some()
            {
                open.count(tcp.protocol());
            }
        }
        let connections = [self.connections.pool()];
        let counts = WorkerCounts {
            waits: self.waits,
            ..self.forwarder.counts()
        };
        WorkerTotals {
            counts,
            backlog: self.backlog(now),
            tcp: open,
            cut_off: self.cut_off,
            senders_cut_off: self.senders_cut_off,
            pools: connections
                .into_iter()
                .chain(self.forwarder.pools())
                .collect(),
        }
    }

    /// What waits on links, but for TCP connections': theirs wait by their nature.
    fn backlog(&self, now: Instant) -> Backlog {
        let is_tcp = |number| matches!(self.connections.get(number), Some(Peer::Tcp(_)));
        self.forwarder.backlog(now, |number| !is_tcp(number))
    }

    /// All that there is.
    #[cfg(test)]
    pub(crate) fn whole_status(&self, now: Instant) -> WorkerStatus {
        let numbers = self.connections.iter().filter_map(|(_, peer)| match peer {
            Peer::Amqp(amqp) => Some(amqp.id),
            Peer::Tcp(tcp) => Some(tcp.id),
            Peer::Local(_) => None,
        });
        let question = Question {
            connections: numbers.collect(),
            tcp_numbers: true,
            links: self.forwarder.links(self.id),
            totals: true,
            ..Question::default()
        };
        WorkerStatus {
            in_flight: self.forwarder.in_flight(),
            ..self.status(&question, now)
        }
    }
}
