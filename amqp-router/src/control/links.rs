//! The owner of links and addresses: which link serves which address.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use slab::Slab;

use crate::codec::{Error, Symbol};
use crate::control::address::{AddressKey, Identity};
pub(super) use crate::control::attaches::Accepted;
use crate::control::auto_links::AutoLinks;
pub(crate) use crate::control::commands::{
    AttachRequest, Command, LeadsTo, Loss, Recipient, Termini,
};
use crate::control::edges::Edges;
use crate::control::fence::Fence;
use crate::control::network::Network;
use crate::control::pattern::PatternTree;
use crate::control::role::Role as ConnectionRole;
pub(super) use crate::control::rules::USUAL_PRIORITY;
pub(crate) use crate::control::rules::{AddressRule, Scope};
use crate::control::services::Services;
use crate::control::table::{
    AddressEntry, AddressId, Destination, Direction, LinkLoad, LinkRef, Outlet, Side, TableUpdate,
    Treatment,
};
use crate::control::trunk::{Purpose, RouterLink, Ticket};
use crate::control::uplink::{TRACKING, Uplink};

/// The one owner of links and addresses.
///
/// Events of workers go in, [`Command`]s come out; the same events in the same order always give
/// the same commands.
#[derive(Debug)]
pub(crate) struct Control {
    pub(super) identity: Arc<Identity>,
    pub(super) configured: PatternTree<AddressRule>,
    pub(super) default_treatment: Treatment,
    pub(super) addresses: Slab<Address>,
    pub(super) by_key: HashMap<AddressKey, AddressId>,
    pub(super) links: BTreeMap<u64, Link>,
    link_ids: HashMap<LinkRef, u64>,
    /// In order, for who asks for a link by its name, which many may have.
    link_names: BTreeSet<(Arc<str>, u64)>,
    next_link: u64,
    pub(super) random: StdRng,
    pub(super) commands: VecDeque<(Recipient, Command)>,
    /// Commands that wait until every worker knows what came before them.
    pub(super) fence: Fence,
    /// The network that this router is in, unless it stands alone.
    pub(super) network: Option<Box<Network>>,
    pub(super) services: Services,
    /// Edge routers that are connected.
    pub(super) edges: Edges,
    /// The way into the network, if this is an edge router.
    pub(super) uplink: Option<Box<Uplink>>,
    pub(super) auto_links: AutoLinks,
    next_ticket: u32,
    /// It knows nothing of prompt streams, like a skrouterd.
    #[cfg(test)]
    pub(crate) is_foreign: bool,
    /// When to forget what the network was called before.
    pub(super) former_until: Option<Instant>,
}

/// A link, as management shows it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) reference: LinkRef,
    pub(crate) connection: u64,
    pub(crate) address: Option<AddressId>,
    pub(crate) capacity: u32,
    pub(crate) priority: u8,
    pub(crate) kind: LinkKind,
}

/// What a link is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LinkKind {
    #[default]
    Endpoint,
    /// Between routers, for what they tell each other.
    RouterControl,
    /// Between routers, for everybody's messages.
    RouterData,
    /// To an edge router, for what is addressed to it.
    EdgeDownlink,
    /// Between edge routers, for what is addressed to one of them.
    InterEdge,
    /// For what a router has to tell this one, at this node.
    Notices(&'static str),
    /// To an edge router, for which addresses there are.
    Tracking,
}

impl LinkKind {
    /// The word that management uses.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint | Self::Notices(_) | Self::Tracking => "endpoint",
            Self::RouterControl => "router-control",
            Self::RouterData => "inter-router",
            Self::EdgeDownlink => "edge-downlink",
            Self::InterEdge => "inter-edge",
        }
    }

    /// The node of this router that it leads to, if that is no address for messages.
    pub(crate) fn node(self) -> Option<&'static str> {
        match self {
            Self::Notices(node) => Some(node),
            Self::Tracking => Some(TRACKING),
            _ => None,
        }
    }
}

/// An address with at least one link.
#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) entry: Arc<AddressEntry>,
    /// For each destination of the entry, the link it is.
    pub(super) consumers: Vec<u64>,
    pub(crate) producers: usize,
}

impl Control {
    /// `seed` is where unguessable names of dynamic nodes come from.
    pub(crate) fn new(identity: Arc<Identity>, default: Treatment, seed: [u8; 32]) -> Self {
        Self {
            identity,
            configured: PatternTree::default(),
            default_treatment: default,
            addresses: Slab::new(),
            by_key: HashMap::new(),
            links: BTreeMap::new(),
            link_ids: HashMap::new(),
            link_names: BTreeSet::new(),
            next_link: 1,
            random: StdRng::from_seed(seed),
            commands: VecDeque::new(),
            fence: Fence::default(),
            network: None,
            services: Services::default(),
            edges: Edges::default(),
            uplink: None,
            auto_links: AutoLinks::default(),
            next_ticket: 0,
            #[cfg(test)]
            is_foreign: false,
            former_until: None,
        }
    }

    /// The network that this router belongs to has this name from now on, and its last one for a
    /// while.
    pub(crate) fn name_network(&mut self, name: Option<String>, now: Instant) {
        let identity = Arc::make_mut(&mut self.identity);
        identity.former = std::mem::replace(&mut identity.network, name);
        self.former_until = identity.former.is_some().then(|| now + FORMER_FOR);
        self.tell_identity();
    }

    /// To be called when it is time: forgets what the network was called before.
    pub(super) fn forget_former_name(&mut self, now: Instant) {
        if self.former_until.take_if(|until| *until <= now).is_some() {
            Arc::make_mut(&mut self.identity).former = None;
            self.tell_identity();
        }
    }

    fn tell_identity(&mut self) {
        if let Some(network) = &mut self.network {
            network.identity = Arc::clone(&self.identity);
        }
        let command = Command::Identity(Arc::clone(&self.identity));
        self.commands.push_back((Recipient::Everyone, command));
    }

    /// The next command, and whom it is for.
    pub(crate) fn poll_command(&mut self) -> Option<(Recipient, Command)> {
        match self.commands.pop_front() {
            None => self.uplink.as_mut()?.poll_ready(),
            command => command,
        }
    }

    /// A link that was accepted.
    pub(crate) fn filed(&self, link: LinkRef) -> Option<&Link> {
        self.links.get(self.link_ids.get(&link)?)
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// The link that management knows by this number.
    pub(crate) fn numbered(&self, id: u64) -> Option<&Link> {
        self.links.get(&id)
    }

    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = &Link> {
        let name: Arc<str> = name.into();
        let named = self
            .link_names
            .range((Arc::clone(&name), 0)..=(name, u64::MAX));
        named.filter_map(|(_, id)| self.links.get(id))
    }

    fn keep(&mut self, link: Link) {
        self.link_ids.insert(link.reference, link.id);
        self.link_names.insert((Arc::clone(&link.name), link.id));
        self.links.insert(link.id, link);
    }

    pub(crate) fn link_count(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn address_count(&self) -> usize {
        self.addresses.len()
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.addresses.iter().map(|(_, address)| address)
    }

    pub(crate) fn address(&self, id: AddressId) -> Option<&Address> {
        self.addresses.get(id.index())
    }

    /// The address of a key.
    pub(crate) fn address_of(&self, key: &str) -> Option<&Address> {
        self.address(*self.by_key.get(key)?)
    }

    /// Whether a link was accepted and is still attached.
    pub(crate) fn has_link(&self, link: &LinkRef) -> bool {
        self.link_ids.contains_key(link)
    }

    /// Refuses a link that may not be, whatever its address.
    pub(crate) fn refuse(&mut self, link: LinkRef, error: Error) {
        let command = Command::Refuse { link, error };
        self.commands
            .push_back((Recipient::Worker(link.worker), command));
    }

    /// A link is gone, or never came to be.
    pub(crate) fn detached(&mut self, reference: LinkRef, loss: &Loss, now: Instant) {
        self.auto_link_lost(reference, loss, now);
        self.forget_link(reference, now);
        self.follow_network();
    }

    fn forget_link(&mut self, reference: LinkRef, now: Instant) {
        let Some(id) = self.link_ids.remove(&reference) else {
            return;
        };
        let Some(link) = self.links.remove(&id) else {
            return;
        };
        self.link_names.remove(&(Arc::clone(&link.name), id));
        if self.proxy_lost(reference) {
            return;
        }
        self.edge_link_lost(id, reference, link.address);
        let Some(address_id) = link.address else {
            if let Some(network) = &mut self.network {
                network.link_lost(link.connection, reference, now);
            }
            return;
        };
        let address = &mut self.addresses[address_id.index()];
        match reference.direction {
            Direction::Incoming => address.producers -= 1,
            Direction::Outgoing => {
                let Some(at) = address
                    .consumers
                    .iter()
                    .position(|&consumer| consumer == id)
                else {
                    return self.remove_if_unused(address_id);
                };
                address.consumers.remove(at);
                Arc::make_mut(&mut address.entry).destinations.remove(at);
                self.publish(address_id);
            }
        }
        self.advertise(address_id);
        self.remove_if_unused(address_id);
    }

    pub(super) fn find_or_make(&mut self, key: AddressKey, treatment: Treatment) -> AddressId {
        if let Some(&id) = self.by_key.get(&key) {
            return id;
        }
        let priority = self.rule(&key).priority;
        let vacant = self.addresses.vacant_entry();
        let id = AddressId(vacant.key() as u32);
        let entry = AddressEntry {
            id,
            key: key.clone(),
            treatment,
            priority,
            destinations: Vec::new(),
            remotes: Vec::new(),
        };
        vacant.insert(Address {
            entry: Arc::new(entry),
            consumers: Vec::new(),
            producers: 0,
        });
        self.by_key.insert(key, id);
        self.publish(id);
        id
    }

    /// Files a link, as a sender or a receiver of its address. True if it is a receiver in place of
    /// an older one.
    pub(super) fn file(&mut self, filed: Filed) -> bool {
        let id = self.take_link_number();
        let mut succeeds = false;
        let mut priority = filed.priority;
        if let Some(address_id) = filed.address {
            let address = &mut self.addresses[address_id.index()];
            priority = address.entry.priority.unwrap_or(priority);
            let mesh = (self.edges).mesh_within(&address.entry.key, filed.connection);
            match filed.load {
                None => address.producers += 1,
                Some(load) => {
                    succeeds = self.leave_older(filed.connection, address_id, &load);
                    let address = &mut self.addresses[address_id.index()];
                    address.consumers.push(id);
                    Arc::make_mut(&mut address.entry)
                        .destinations
                        .push(Destination {
                            outlet: Outlet::Link {
                                worker: filed.link.worker,
                                link: filed.link.slot,
                                to_router: filed.role.is_neighbour(),
                            },
                            side: Side::of(filed.role, filed.connection, self.uplink.is_some())
                                .within(mesh),
                            prompt: filed.prompt,
                            capacity: filed.capacity,
                            load,
                        });
                    self.publish(address_id);
                }
            }
        }
        self.keep(Link {
            id,
            name: filed.name.into(),
            reference: filed.link,
            connection: filed.connection,
            address: filed.address,
            capacity: filed.capacity,
            priority,
            kind: filed.kind,
        });
        if let Some(address) = filed.address {
            // What is told of it looks at all its links.
            self.advertise(address);
        }
        succeeds
    }

    /// Files a link that this router has attached to a neighbour.
    pub(super) fn add_router_link(&mut self, link: &RouterLink) {
        let id = self.next_link;
        self.next_link += 1;
        let kind = match link.purpose {
            Purpose::Control => LinkKind::RouterControl,
            Purpose::Data(_) => LinkKind::RouterData,
            Purpose::Stream if self.is_trunk(link.connection) => LinkKind::RouterData,
            Purpose::Stream | Purpose::Proxy(_) => LinkKind::Endpoint,
        };
        let priority = link.purpose.priority();
        self.keep(Link {
            id,
            name: link.name.as_str().into(),
            reference: link.link,
            connection: link.connection,
            address: None,
            capacity: link.capacity,
            priority,
            kind,
        });
    }

    pub(super) fn remove_if_unused(&mut self, id: AddressId) {
        let Some(address) = self.addresses.get(id.index()) else {
            return;
        };
        let remote = !address.entry.remotes.is_empty();
        let watched = self.uplink.is_some() && self.is_watched(&address.entry.key);
        let used = !address.consumers.is_empty() || address.producers > 0;
        if !used && !remote && !watched && !self.edges.have_left(id) {
            let address = self.addresses.remove(id.index());
            self.by_key.remove(&address.entry.key);
            let update = Command::Table(TableUpdate::Remove(id));
            self.commands.push_back((Recipient::Everyone, update));
            self.note_reachability(&address.entry.key);
        }
    }

    /// Tells every worker of an address as it is now.
    pub(super) fn publish(&mut self, id: AddressId) {
        let entry = Arc::clone(&self.addresses[id.index()].entry);
        let key = entry.key.clone();
        self.commands
            .push_back((Recipient::Everyone, Command::Table(TableUpdate::Set(entry))));
        self.note_reachability(&key);
        self.tell_edges(id);
    }

    /// The number that management knows a link by.
    pub(super) fn link_number(&self, link: &LinkRef) -> Option<u64> {
        self.link_ids.get(link).copied()
    }

    pub(super) fn take_ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket = self.next_ticket.wrapping_add(1);
        ticket
    }

    pub(super) fn take_link_number(&mut self) -> u64 {
        let number = self.next_link;
        self.next_link += 1;
        number
    }

    /// Whether this router knows of TCP streams whose octets do not wait for an answer.
    pub(super) fn knows_prompt(&self) -> bool {
        #[cfg(test)]
        if self.is_foreign {
            return false;
        }
        true
    }
}

impl Address {
    /// Links that deliveries to this address leave by.
    pub(crate) fn consumers(&self) -> usize {
        self.consumers.len()
    }
}

/// A link that is to be known.
pub(super) struct Filed {
    pub(super) link: LinkRef,
    pub(super) connection: u64,
    /// Of the connection.
    pub(super) role: ConnectionRole,
    pub(super) name: String,
    pub(super) capacity: u32,
    /// The load record of an outgoing link.
    pub(super) load: Option<Arc<LinkLoad>>,
    pub(super) address: Option<AddressId>,
    pub(super) kind: LinkKind,
    /// Unless its address has one.
    pub(super) priority: u8,
    /// Its receiver takes TCP streams whose octets do not wait for an answer.
    pub(super) prompt: bool,
}

/// The capability under which a container offers to route each message by its own address.
pub(crate) fn anonymous_relay() -> Symbol {
    Symbol::from("ANONYMOUS-RELAY")
}

/// How long the name that a network had before is known: skrouterd takes up the new one as late as a
/// second after it was told.
const FORMER_FOR: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
