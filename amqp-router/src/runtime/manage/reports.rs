//! What workers know, as far as a request needs it.
//!
//! A request is looked at before it is carried out: what it needs of workers and has not got is
//! noted, they are asked for just that, and it is looked at again. So a page of links costs the
//! workers a page of links, however many there are.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::adaptors::amqp::ConnectionStatus;
use crate::adaptors::tcp::TcpStatus;
use crate::control::table::{AddressId, LinkRef};
use crate::forwarding::links::LinkStatus;
use crate::forwarding::stats::AddressCounts;
use crate::worker::{Question, WorkerStatus, WorkerTotals};

/// What workers have told for one request.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    connections: HashMap<u64, ConnectionStatus>,
    tcp: BTreeMap<u64, TcpStatus>,
    tcp_numbers: Vec<u64>,
    links: HashMap<LinkRef, LinkStatus>,
    addresses: HashMap<AddressId, AddressCounts>,
    totals: Vec<WorkerTotals>,
    /// What they have been asked.
    asked: Asked,
    /// What has been looked for and not been asked.
    lacking: RefCell<Question>,
    rounds: u32,
}

/// What need not be asked again, whether or not anybody knew it.
#[derive(Debug, Default)]
struct Asked {
    connections: HashSet<u64>,
    tcp_hosts: HashSet<String>,
    tcp_numbers: bool,
    links: HashSet<LinkRef>,
    addresses: HashSet<AddressId>,
    totals: bool,
}

impl Reports {
    /// What workers are to be asked now; nothing if all is known that has been looked for, or
    /// things change so fast that it will not be.
    pub(crate) fn question(&mut self) -> Option<Question> {
        let question = self.lacking.take();
        self.rounds += 1;
        (self.rounds <= MOST_ROUNDS && !question.is_empty()).then_some(question)
    }

    /// Takes the answers of all workers.
    pub(crate) fn learn(&mut self, question: &Question, statuses: Vec<WorkerStatus>) {
        for status in statuses {
            let connections = status.connections.into_iter();
            self.connections
                .extend(connections.map(|status| (status.id, status)));
            let tcp = status.tcp.into_iter();
            self.tcp.extend(tcp.map(|status| (status.id, status)));
            self.tcp_numbers.extend(status.tcp_numbers);
            self.links.extend(status.links);
            for (id, counts) in status.addresses {
                self.addresses.entry(id).or_default().add(&counts);
            }
            self.totals.extend(status.totals);
        }
        self.tcp_numbers.sort_unstable();
        let asked = &mut self.asked;
        asked.connections.extend(&question.connections);
        asked.tcp_hosts.extend(question.tcp_hosts.iter().cloned());
        asked.tcp_numbers |= question.tcp_numbers;
        asked.links.extend(&question.links);
        asked.addresses.extend(&question.addresses);
        asked.totals |= question.totals;
    }

    /// What its worker says of an AMQP connection.
    pub(super) fn connection(&self, id: u64) -> Option<&ConnectionStatus> {
        if !self.asked.connections.contains(&id) {
            self.lacking.borrow_mut().connections.insert(id);
        }
        self.connections.get(&id)
    }

    /// The TCP connections that are open, in an order that stays.
    pub(super) fn tcp_numbers(&self) -> impl Iterator<Item = u64> {
        self.lacking.borrow_mut().tcp_numbers |= !self.asked.tcp_numbers;
        // Some may have ended since.
        let is_over = |id| self.asked.connections.contains(id) && !self.tcp.contains_key(id);
        let open = self.tcp_numbers.iter();
        open.filter(move |id| !is_over(*id)).copied()
    }

    pub(super) fn tcp(&self, id: u64) -> Option<&TcpStatus> {
        if !self.asked.connections.contains(&id) {
            self.lacking.borrow_mut().connections.insert(id);
        }
        self.tcp.get(&id)
    }

    /// The TCP connections whose peer is at this host.
    pub(super) fn tcp_at<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a TcpStatus> {
        if !self.asked.tcp_hosts.contains(host) {
            self.lacking.borrow_mut().tcp_hosts.insert(host.to_owned());
        }
        self.tcp.values().filter(move |status| status.host == host)
    }

    pub(super) fn link(&self, link: LinkRef) -> LinkStatus {
        if !self.asked.links.contains(&link) {
            self.lacking.borrow_mut().links.insert(link);
        }
        self.links.get(&link).cloned().unwrap_or_default()
    }

    /// Of all workers together.
    pub(super) fn address(&self, id: AddressId) -> AddressCounts {
        if !self.asked.addresses.contains(&id) {
            self.lacking.borrow_mut().addresses.insert(id);
        }
        self.addresses.get(&id).copied().unwrap_or_default()
    }

    /// Of each worker.
    pub(crate) fn totals(&self) -> &[WorkerTotals] {
        self.lacking.borrow_mut().totals |= !self.asked.totals;
        &self.totals
    }
}

/// What is new in each of so many looks at a request does not come to an end.
const MOST_ROUNDS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::table::{Direction, Slot, WorkerId};

    fn link(index: u32) -> LinkRef {
        LinkRef {
            worker: WorkerId(0),
            direction: Direction::Incoming,
            slot: Slot { index, serial: 0 },
        }
    }

    #[test]
    fn workers_are_asked_for_what_is_looked_for_and_once() {
        let mut reports = Reports::default();
        assert_eq!(reports.question(), None);
        for index in [3, 4] {
            reports.link(link(index));
        }
        let question = reports.question().expect("it lacks two links");
        assert_eq!(question.links, HashSet::from([link(3), link(4)]));
        assert_eq!(
            question,
            Question {
                links: question.links.clone(),
                ..Question::default()
            }
        );
        let status = LinkStatus {
            unsettled: 7,
            ..LinkStatus::default()
        };
        let told = WorkerStatus {
            links: vec![(link(3), status)],
            ..WorkerStatus::default()
        };
        reports.learn(&question, vec![told]);
        assert_eq!(reports.link(link(3)).unsettled, 7);
        assert_eq!(reports.link(link(4)).unsettled, 0);
        assert_eq!(reports.question(), None);
    }

    #[test]
    fn what_changes_all_the_time_is_not_asked_for_ever() {
        let mut reports = Reports::default();
        let mut asked = 0;
        for index in 0..100 {
            reports.link(link(index));
            let Some(question) = reports.question() else {
                break;
            };
            reports.learn(&question, Vec::new());
            asked += 1;
        }
        assert_eq!(asked, MOST_ROUNDS);
    }
}
