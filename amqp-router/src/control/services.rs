//! TCP services: those that this router connects to, and addresses that its listeners watch.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::control::address::AddressKey;
use crate::control::links::Control;
use crate::control::table::{
    AddressEntry, AddressId, ConnectorId, DEFAULT_LINK_CAPACITY, Destination, LinkLoad, Outlet,
    Side, Treatment,
};

/// What the control plane keeps of TCP services.
#[derive(Debug, Default)]
pub(super) struct Services {
    next: u32,
    connectors: HashMap<ConnectorId, Connected>,
    watched: HashMap<AddressKey, Watched>,
    changes: VecDeque<(AddressKey, bool)>,
}

#[derive(Debug)]
struct Connected {
    address: AddressId,
    /// Its number among the address's consumers.
    consumer: u64,
}

#[derive(Debug)]
struct Watched {
    watchers: u32,
    reachable: bool,
}

impl Control {
    /// A number for a TCP service that is to be connected to.
    pub(crate) fn next_connector(&mut self) -> ConnectorId {
        self.services.next += 1;
        ConnectorId(self.services.next)
    }

    /// Has streams for an address go to a TCP service. Workers must know how to connect to it
    /// already.
    pub(crate) fn add_connector(&mut self, connector: ConnectorId, address: &str) {
        let key = self.identity.key(address);
        let treatment = self.rule(&key).treatment;
        let id = self.find_or_make(key, treatment);
        let consumer = self.take_link_number();
        let destination = Destination {
            outlet: Outlet::Connector(connector),
            side: Side::NONE,
            prompt: self.knows_prompt(),
            capacity: DEFAULT_LINK_CAPACITY,
            load: Arc::new(LinkLoad::default()),
        };
        let address = &mut self.addresses[id.index()];
        address.consumers.push(consumer);
        let entry = Arc::make_mut(&mut address.entry);
        entry.destinations.push(destination);
        let connected = Connected {
            address: id,
            consumer,
        };
        self.services.connectors.insert(connector, connected);
        self.publish(id);
        self.advertise(id);
        self.follow_network();
    }

    /// No stream is to go to a TCP service any more.
    pub(crate) fn remove_connector(&mut self, connector: ConnectorId) {
        let Some(connected) = self.services.connectors.remove(&connector) else {
            return;
        };
        let id = connected.address;
        let address = &mut self.addresses[id.index()];
        let mut consumers = address.consumers.iter();
        let Some(at) = consumers.position(|&consumer| consumer == connected.consumer) else {
            return;
        };
        address.consumers.remove(at);
        let entry = Arc::make_mut(&mut address.entry);
        entry.destinations.remove(at);
        self.publish(id);
        self.advertise(id);
        self.remove_if_unused(id);
        self.follow_network();
    }

    /// Tells from now on, by [`poll_reachability`](Self::poll_reachability), whether an address
    /// has anybody to send to; first of all how it is now.
    pub(crate) fn watch(&mut self, address: &str) -> AddressKey {
        let key = self.identity.key(address);
        let reachable = self.is_reachable(&key);
        let watched = self.services.watched.entry(key.clone());
        let watched = watched.or_insert(Watched {
            watchers: 0,
            reachable,
        });
        watched.watchers += 1;
        if self.uplink.is_some() {
            let treatment = self.rule(&key).treatment;
            let id = self.find_or_make(key.clone(), treatment);
            self.advertise(id);
        }
        self.services.changes.push_back((key.clone(), reachable));
        key
    }

    /// Takes back one [`watch`](Self::watch).
    pub(crate) fn unwatch(&mut self, key: &AddressKey) {
        if let Some(watched) = self.services.watched.get_mut(key) {
            watched.watchers -= 1;
            if watched.watchers == 0 {
                self.services.watched.remove(key);
                if let Some(&id) = self.by_key.get(key) {
                    self.advertise(id);
                    self.remove_if_unused(id);
                }
            }
        }
    }

    /// An address that is watched, and whether there is anybody to send to now.
    pub(crate) fn poll_reachability(&mut self) -> Option<(AddressKey, bool)> {
        self.services.changes.pop_front()
    }

    /// Whether somebody watches an address.
    pub(crate) fn is_watched(&self, key: &AddressKey) -> bool {
        self.services.watched.contains_key(key)
    }

    /// Whether an address has anybody to send to.
    pub(crate) fn reaches(&self, address: &str) -> bool {
        self.is_reachable(&self.identity.key(address))
    }

    pub(crate) fn is_reachable(&self, key: &AddressKey) -> bool {
        let id = self.by_key.get(key);
        id.is_some_and(|id| reachable(&self.addresses[id.index()].entry))
    }

    /// An address is no longer as it was, or no longer there.
    pub(super) fn note_reachability(&mut self, key: &AddressKey) {
        if self.services.watched.is_empty() {
            return;
        }
        let now = self.is_reachable(key);
        if let Some(watched) = self.services.watched.get_mut(key)
            && watched.reachable != now
        {
            watched.reachable = now;
            self.services.changes.push_back((key.clone(), now));
        }
    }
}

fn reachable(entry: &AddressEntry) -> bool {
    let somewhere = !entry.destinations.is_empty() || !entry.remotes.is_empty();
    somewhere && entry.treatment != Treatment::Unavailable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::address::Identity;
    use crate::control::links::{Command, Recipient};
    use crate::control::table::TableUpdate;

    fn control() -> Control {
        let identity = Identity {
            id: "R".into(),
            edge: false,
            ..Identity::default()
        };
        Control::new(Arc::new(identity), Treatment::Balanced, [0; 32])
    }

    fn destinations(control: &mut Control) -> Option<Vec<Outlet>> {
        let mut last = None;
        while let Some((Recipient::Everyone, Command::Table(update))) = control.poll_command() {
            last = Some(match update {
                TableUpdate::Set(entry) => entry.destinations.iter().map(|d| d.outlet).collect(),
                _ => Vec::new(),
            });
        }
        last
    }

    #[test]
    fn a_service_is_a_destination_while_it_is_there() {
        let mut control = control();
        let (first, second) = (control.next_connector(), control.next_connector());
        control.add_connector(first, "a");
        control.add_connector(second, "a");
        let both = vec![Outlet::Connector(first), Outlet::Connector(second)];
        assert_eq!(destinations(&mut control), Some(both));
        control.remove_connector(first);
        let rest = vec![Outlet::Connector(second)];
        assert_eq!(destinations(&mut control), Some(rest));
        control.remove_connector(second);
        control.remove_connector(second);
        assert_eq!(destinations(&mut control), Some(vec![]));
        assert_eq!(control.addresses().count(), 0);
    }

    #[test]
    fn whoever_watches_an_address_hears_of_every_change_once() {
        let mut control = control();
        let key = control.watch("a");
        let changes = |control: &mut Control| -> Vec<bool> {
            std::iter::from_fn(|| control.poll_reachability())
                .map(|(_, reachable)| reachable)
                .collect()
        };
        assert_eq!(changes(&mut control), [false]);
        let connectors = [control.next_connector(), control.next_connector()];
        for connector in connectors {
            control.add_connector(connector, "a");
        }
        assert_eq!(changes(&mut control), [true]);
        control.watch("a");
        assert_eq!(changes(&mut control), [true]);
        control.unwatch(&key);
        for connector in connectors {
            control.remove_connector(connector);
        }
        assert_eq!(changes(&mut control), [false]);
        control.unwatch(&key);
        control.add_connector(connectors[0], "a");
        assert!(changes(&mut control).is_empty());
    }
}
