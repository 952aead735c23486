//! What the router may hold and must know, at every moment and in the end.

use crate::codec::Role;
use crate::control::links::Command;
use crate::control::table::{Direction, TableUpdate};

use super::lane::Lane;
use super::ledger::{AddressNo, LinkNo};
use super::world::{ToWorker, World};

impl World {
    /// Notes for the ledger what the router knows of its receivers at this moment.
    pub(super) fn observe(&mut self) {
        let moment = self.ledger.moment;
        let being_told = self.addresses_being_told();
        for index in 0..self.ledger.addresses.len() {
            let name = self.ledger.addresses[index].name;
            let address = AddressNo(index);
            let known = self
                .control
                .addresses()
                .find(|known| known.entry.key.text() == name);
            let deserted = known.is_none_or(|known| known.consumers() == 0);
            let in_doubt = being_told.iter().any(|told| told == name);
            if deserted || in_doubt || self.ledger.is_mourning(address) {
                self.ledger.addresses[index].unstable = moment;
            }
        }
        if being_told.is_empty() {
            for number in self.mourning.drain(..) {
                self.ledger.mourned(LinkNo(number));
            }
            for number in self.introduced.drain(..) {
                self.ledger.links[number].known_since = Some(moment);
            }
        }
    }

    /// Addresses of which not all workers have heard the latest.
    fn addresses_being_told(&self) -> Vec<String> {
        let commands = self.hubs.iter().flat_map(|hub| hub.commands.iter());
        let name = |message: &ToWorker| match message {
            ToWorker::Command(command) => match &**command {
                Command::Table(TableUpdate::Set(entry)) => Some(entry.key.text().to_owned()),
                // The control plane does not know it any more, so it is deserted.
                Command::Table(TableUpdate::Remove(_)) => Some(String::new()),
                _ => None,
            },
            ToWorker::Authenticated { .. } => None,
        };
        commands.filter_map(name).collect()
    }

    /// What the router holds stays within what it has allowed.
    pub(super) fn check_bounds(&self) {
        let links = self.control.links().count() + 1;
        let mut held = 0;
        for hub in &self.hubs {
            let status = hub.worker.status(self.now());
            held += status.in_flight;
            for (link, status) in status.links {
                if link.direction == Direction::Incoming {
                    let most = self.settings.link_capacity;
                    assert!(
                        status.unsettled + status.credit <= most,
                        "{link:?} holds {} and has credit {}",
                        status.unsettled,
                        status.credit
                    );
                }
            }
        }
        let most = self.granted * (links + 1);
        assert!(
            held <= most,
            "{held} deliveries are in flight, {most} were allowed"
        );
    }

    /// Nothing is on its way, and no delivery waits for anything.
    pub(super) fn check_rest(&self) {
        for (number, hub) in self.hubs.iter().enumerate() {
            let status = hub.worker.status(self.now());
            assert_eq!(status.in_flight, 0, "worker {number} holds deliveries");
            for (link, status) in status.links {
                assert_eq!(status.unsettled, 0, "{link:?} holds deliveries");
                assert_eq!(status.undelivered, 0, "{link:?} has a queue");
            }
        }
        for address in self.control.addresses() {
            for destination in &address.entry.destinations {
                let (key, load) = (&address.entry.key, destination.load.get());
                assert_eq!(
                    load, 0,
                    "a consumer of {key} has a load that nothing explains"
                );
            }
        }
        self.check_senders();
    }

    /// Senders whose deliveries are all settled have their credit and window back.
    fn check_senders(&self) {
        for client in self.lines.iter().filter_map(|line| line.client.as_ref()) {
            for token in client.attached_links(Role::Sender) {
                let link = &client.links[token];
                let reachable = self.ledger.links[link.number.0]
                    .address
                    .is_none_or(|address| {
                        let name = self.ledger.addresses[address.0].name;
                        let known = self
                            .control
                            .addresses()
                            .find(|a| a.entry.key.text() == name);
                        known.is_some_and(|known| known.consumers() > 0)
                    });
                let sendable = client.endpoint.sendable(link.id);
                let enough = self.settings.link_capacity.div_ceil(2);
                assert!(
                    !reachable || sendable.credit >= enough,
                    "{:?} did not get its credit back: {sendable:?}",
                    link.number
                );
                let enough = self.settings.endpoint.incoming_window.div_ceil(2);
                assert!(
                    sendable.window >= enough,
                    "{:?} did not get its window back: {sendable:?}",
                    link.number
                );
            }
        }
    }

    /// Nothing is left of anybody.
    pub(super) fn check_empty(&self) {
        for (number, hub) in self.hubs.iter().enumerate() {
            let status = hub.worker.status(self.now());
            assert_eq!(
                hub.worker.connection_count(),
                0,
                "worker {number} has connections"
            );
            assert_eq!(status.in_flight, 0, "worker {number} holds deliveries");
            assert!(
                status.links.is_empty(),
                "worker {number} has links: {:?}",
                status.links
            );
            assert!(hub.commands.is_empty() && hub.mail.iter().all(Lane::is_empty));
        }
        assert_eq!(self.control.links().count(), 0, "links are left");
        assert_eq!(self.control.addresses().count(), 0, "addresses are left");
    }
}
