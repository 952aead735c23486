//! What routers may hold and must know, at every moment and in the end.

use crate::codec::Role;
use crate::control::links::Command;
use crate::control::table::{Direction, TableUpdate};

use super::lane::Lane;
use super::ledger::{AddressNo, LinkNo};
use super::router::{Router, ToWorker};
use super::world::{Weather, World};

impl World {
    /// Notes for the ledger what routers know of receivers at this moment.
    pub(super) fn observe(&mut self) {
        let moment = self.ledger.moment;
        match self.weather {
            None => self.observe_router(),
            Some(Weather::Rough) => self.ledger.turmoil = Some(moment),
            Some(Weather::Calm) => {
                for address in &mut self.ledger.addresses {
                    if address.deserted {
                        address.unstable = moment;
                    }
                }
            }
        }
    }

    /// The same where there is one.
    fn observe_router(&mut self) {
        let moment = self.ledger.moment;
        let being_told = self.addresses_being_told();
        for index in 0..self.ledger.addresses.len() {
            let name = &self.ledger.addresses[index].name;
            let address = AddressNo(index);
            let deserted = self.routers[0].consumers(name) == 0;
            let in_doubt = being_told.contains(name);
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
        let commands = self.routers[0]
            .hubs
            .iter()
            .flat_map(|hub| hub.commands.iter());
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

    /// What a router holds that stands alone stays within what it has allowed.
    pub(super) fn check_bounds(&self) {
        let ([router], None) = (&self.routers[..], self.weather) else {
            return;
        };
        let links = router.control.links().count() + 1;
        let mut held = 0;
        for hub in &router.hubs {
            let status = hub.worker.whole_status(self.now());
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
        for (number, router) in self.routers.iter().enumerate() {
            for hub in &router.hubs {
                let status = hub.worker.whole_status(self.now());
                let held = || hub.worker.describe_deliveries();
                assert_eq!(status.in_flight, 0, "R{number} holds {}", held());
                for (link, status) in status.links {
                    assert_eq!(status.unsettled, 0, "R{number} {link:?} holds deliveries");
                    assert_eq!(status.undelivered, 0, "R{number} {link:?} has a queue");
                }
            }
            for address in router.control.addresses() {
                let key = &address.entry.key;
                let destinations = address.entry.destinations.iter().map(|one| &one.load);
                let remotes = address.entry.remotes.iter().map(|one| &one.load);
                for load in destinations.chain(remotes) {
                    let load = load.get();
                    assert_eq!(
                        load, 0,
                        "a consumer of {key} has a load at R{number} that nothing explains"
                    );
                }
            }
        }
        self.check_senders();
    }

    /// Senders whose deliveries are all settled have their credit and window back.
    fn check_senders(&self) {
        for line in &self.lines {
            let Some(client) = &line.client else { continue };
            for token in client.attached_links(Role::Sender) {
                let link = &client.links[token];
                let address = self.ledger.links[link.number.0].address;
                let reachable = address.is_none_or(|address| {
                    let address = &self.ledger.addresses[address.0];
                    match self.weather {
                        None => self.routers[0].consumers(&address.name) > 0,
                        Some(_) => !address.deserted,
                    }
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
        for (number, router) in self.routers.iter().enumerate() {
            for hub in &router.hubs {
                let status = hub.worker.whole_status(self.now());
                let connections = hub.worker.connection_count();
                assert_eq!(connections, 0, "R{number} has connections");
                assert_eq!(status.in_flight, 0, "R{number} holds deliveries");
                let links = status.links;
                assert!(links.is_empty(), "R{number} has links: {links:?}");
                assert!(hub.commands.is_empty() && hub.mail.iter().all(Lane::is_empty));
            }
            let control = &router.control;
            assert_eq!(control.links().count(), 0, "links of R{number} are left");
            let addresses: Vec<_> = control.addresses().map(|one| &one.entry.key).collect();
            assert!(addresses.is_empty(), "R{number} has {addresses:?}");
        }
    }
}

impl Router {
    /// How many consumers it knows of an address here.
    fn consumers(&self, name: &str) -> usize {
        let mut addresses = self.control.addresses();
        let known = addresses.find(|known| known.entry.key.text() == name);
        known.map_or(0, |known| known.consumers())
    }
}
