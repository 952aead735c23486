//! Attach and detach: which link serves which address.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use slab::Slab;

use crate::codec::{
    Attach, Error, ExpiryPolicy, Fields, Role, Source, Symbol, Target, TerminusDurability,
};
use crate::control::address::{AddressKey, Identity, MAX_ADDRESS_LEN, UPLINK};
use crate::control::auto_links::AutoLinks;
use crate::control::edges::{Edges, says_prompt};
use crate::control::network::Network;
use crate::control::pattern::{PatternTree, prefix_pattern};
use crate::control::role::Role as ConnectionRole;
use crate::control::services::Services;
use crate::control::table::{
    AddressEntry, AddressId, Destination, Direction, LinkLoad, LinkRef, Outlet, Side, TableUpdate,
    Treatment, WorkerId,
};
use crate::control::trunk::{Purpose, RouterLink, Ticket};
use crate::control::uplink::Uplink;

/// The one owner of links and addresses.
///
/// Events of workers go in, [`Command`]s come out; the same events in the same order always give
/// the same commands.
#[derive(Debug)]
pub(crate) struct Control {
    pub(super) identity: Arc<Identity>,
    configured: PatternTree<AddressRule>,
    default_treatment: Treatment,
    pub(super) addresses: Slab<Address>,
    pub(super) by_key: HashMap<AddressKey, AddressId>,
    pub(super) links: BTreeMap<u64, Link>,
    link_ids: HashMap<LinkRef, u64>,
    /// In order, for who asks for a link by its name, which many may have.
    link_names: BTreeSet<(Arc<str>, u64)>,
    next_link: u64,
    pub(super) random: StdRng,
    pub(super) commands: VecDeque<(Recipient, Command)>,
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
}

/// How addresses that match a pattern are treated: one `address` entity.
#[derive(Clone, Debug)]
pub(crate) struct AddressRule {
    pub(crate) treatment: Treatment,
    pub(crate) priority: Option<u8>,
}

/// A pattern as an `address` entity writes it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'a> {
    Prefix(&'a str),
    Pattern(&'a str),
}

/// What a worker says of a link that a peer wants to attach.
#[derive(Debug)]
pub(crate) struct AttachRequest {
    pub(crate) link: LinkRef,
    /// The identity of its connection.
    pub(crate) connection: u64,
    pub(crate) role: ConnectionRole,
    pub(crate) attach: Box<Attach>,
    pub(crate) capacity: u32,
    /// The load record of an outgoing link.
    pub(crate) load: Option<Arc<LinkLoad>>,
}

/// How a link was lost.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Loss {
    /// With its connection.
    Connection,
    /// The peer has detached it, or has been detached; with the reason that was given.
    Detached(Option<Error>),
}

/// Whom a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipient {
    Worker(WorkerId),
    Everyone,
}

/// What the control plane tells workers.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Replace a row of the forwarding table.
    Table(TableUpdate),
    /// What the router must know of itself has changed.
    Identity(Arc<Identity>),
    /// Addresses of this pattern are treated so from now on, or as all others.
    Rule {
        pattern: Box<str>,
        treatment: Option<Treatment>,
    },
    /// The link may be: answer its attach with these termini.
    Accept {
        link: LinkRef,
        termini: Box<Termini>,
        leads_to: LeadsTo,
    },
    /// The link may not be.
    Refuse { link: LinkRef, error: Error },
    /// Attach a link to an interior router or a container, by the connection of this identity.
    Attach {
        connection: u64,
        ticket: Ticket,
        attach: Box<Attach>,
    },
    /// An incoming link that this router has attached leads somewhere from now on.
    Open {
        link: LinkRef,
        leads_to: LeadsTo,
        /// The address that its messages are for, if they do not say it themselves.
        address: Option<String>,
    },
    /// Detach a link that this router has attached.
    Detach { link: LinkRef },
    /// Close a link that this router attached, when what is on its way by it has arrived.
    Finish { link: LinkRef },
    /// Do not wait any longer for what has left by a link, or is to.
    GiveBack { link: LinkRef },
    /// Send a neighbour a message on its control link.
    Tell { link: LinkRef, message: Bytes },
    /// The same, and say when it has been taken note of there.
    Announce { link: LinkRef, message: Bytes },
    /// Close the connection of this identity.
    Close { connection: u64, error: Error },
}

/// The two ends of a link, as its attach is answered.
#[derive(Clone, Debug)]
pub(crate) struct Termini {
    pub(crate) source: Option<Source>,
    pub(crate) target: Option<Target>,
}

/// Where an accepted incoming link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeadsTo {
    Address(AddressId),
    /// Wherever each message says.
    EachMessage,
    /// To the control plane itself.
    Control,
    /// It is an outgoing link.
    ItsReceiver,
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
    /// For what a router has to tell this one.
    Notices,
}

impl LinkKind {
    /// The word that management uses.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint | Self::Notices => "endpoint",
            Self::RouterControl => "router-control",
            Self::RouterData => "inter-router",
            Self::EdgeDownlink => "edge-downlink",
            Self::InterEdge => "inter-edge",
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
            network: None,
            services: Services::default(),
            edges: Edges::default(),
            uplink: None,
            auto_links: AutoLinks::default(),
            next_ticket: 0,
            #[cfg(test)]
            is_foreign: false,
        }
    }

    /// The network that this router belongs to has this name from now on.
    pub(crate) fn name_network(&mut self, name: Option<String>) {
        let identity = Arc::make_mut(&mut self.identity);
        identity.network = name;
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

    /// Configures how addresses of `scope` are treated from now on. Addresses that exist keep
    /// their treatment.
    pub(crate) fn configure(&mut self, scope: Scope<'_>, rule: AddressRule) {
        self.tell_rule(scope.pattern().into(), Some(rule.treatment));
        self.configured.insert(&scope.pattern(), rule);
    }

    /// The same, unless that scope is configured already.
    pub(crate) fn prefer(&mut self, scope: Scope<'_>, rule: AddressRule) {
        let pattern = scope.pattern();
        let treatment = Some(rule.treatment);
        if let Some(configured) = self.configured.insert(&pattern, rule) {
            self.configured.insert(&pattern, configured);
        } else {
            self.tell_rule(pattern.into(), treatment);
        }
    }

    /// Workers decide on messages to addresses that are none yet.
    fn tell_rule(&mut self, pattern: Box<str>, treatment: Option<Treatment>) {
        let command = Command::Rule { pattern, treatment };
        self.commands.push_back((Recipient::Everyone, command));
    }

    /// Takes back what [`configure`](Self::configure) said of `scope`.
    pub(crate) fn unconfigure(&mut self, scope: Scope<'_>) {
        self.tell_rule(scope.pattern().into(), None);
        self.configured.remove(&scope.pattern());
    }

    /// How an address would be treated if it were made now.
    pub(crate) fn rule(&self, key: &AddressKey) -> AddressRule {
        let default = AddressRule {
            treatment: self.default_treatment,
            priority: None,
        };
        match key.class() {
            // Every router has an agent of its own, whatever becomes of others' addresses.
            'M' if key.text() == "$management" => AddressRule {
                treatment: Treatment::Closest,
                priority: None,
            },
            'M' => self.configured.get(key.text()).cloned().unwrap_or(default),
            'T' => AddressRule {
                treatment: Treatment::Multicast,
                priority: None,
            },
            // Only the router itself makes local addresses: its own services and dynamic nodes.
            _ => AddressRule {
                treatment: Treatment::Balanced,
                priority: None,
            },
        }
    }

    /// How an address is to be treated that this router learns of from another one: as it is
    /// configured here, if it is; else as the other treats it.
    pub(super) fn learnt_treatment(
        &self,
        key: &AddressKey,
        theirs: Option<Treatment>,
    ) -> Treatment {
        let configured = match key.class() {
            'M' => self.configured.get(key.text()).map(|rule| rule.treatment),
            _ => None,
        };
        configured
            .or(theirs)
            .unwrap_or_else(|| self.rule(key).treatment)
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

    /// A peer wants to attach a link. If it may not, why.
    pub(crate) fn attach(&mut self, request: &AttachRequest, now: Instant) -> Option<Error> {
        let link = request.link;
        let special = self.attach_router_link(request, now);
        let special = special.or_else(|| self.attach_edge_link(request));
        let decision = match (special, link.direction) {
            (Some(decision), _) => decision,
            (None, Direction::Incoming) => self.attach_sender(request),
            (None, Direction::Outgoing) => self.attach_receiver(request),
        };
        let refusal = decision.as_ref().err().cloned();
        let mut follow = None;
        let command = match decision {
            Ok(accepted) => {
                self.add_link(request, &accepted);
                follow = accepted.address;
                Command::Accept {
                    link,
                    termini: Box::new(Termini {
                        source: accepted.source,
                        target: accepted.target,
                    }),
                    leads_to: match (link.direction, accepted.address, accepted.kind) {
                        (Direction::Outgoing, _, _) => LeadsTo::ItsReceiver,
                        (_, _, LinkKind::RouterControl | LinkKind::Notices) => LeadsTo::Control,
                        (_, Some(id), _) => LeadsTo::Address(id),
                        (_, None, _) => LeadsTo::EachMessage,
                    },
                }
            }
            Err(error) => Command::Refuse { link, error },
        };
        let command = (Recipient::Worker(link.worker), command);
        match follow.filter(|id| self.must_wait(link, *id)) {
            Some(id) => self.hold_attach(id, command, now),
            None => self.commands.push_back(command),
        }
        if let Some(id) = follow {
            self.follow_sender(request, id);
        }
        self.follow_network();
        refusal
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

    /// The peer sends: its target says where to.
    fn attach_sender(&mut self, request: &AttachRequest) -> Result<Accepted, Error> {
        debug_assert_eq!(request.attach.role, Role::Sender);
        let source = request.attach.source.clone();
        let mut node = match &request.attach.target {
            Some(Target::Node(node)) => node.clone(),
            Some(Target::Coordinator { .. }) => {
                return Err(Error::new(
                    "amqp:not-implemented",
                    "transactions are not supported",
                ));
            }
            None => return Err(Error::new("amqp:invalid-field", "the link has no target")),
        };
        goes_with_its_link(
            &mut node.durable,
            &mut node.expiry_policy,
            &mut node.timeout,
        );
        let address = if node.dynamic {
            let discriminator = self.discriminator();
            let name = self.identity.dynamic_target(&discriminator);
            let key = self.identity.key(&name);
            node.address = Some(name);
            Some(self.find_or_make(key, Treatment::Balanced))
        } else {
            match node.address.as_deref() {
                Some(name) if !name.is_empty() => Some(self.reach(name)?),
                _ => None,
            }
        };
        Ok(Accepted {
            source,
            target: Some(Target::Node(node)),
            address,
            kind: LinkKind::Endpoint,
            priority: USUAL_PRIORITY,
        })
    }

    /// The peer receives: its source says from where.
    fn attach_receiver(&mut self, request: &AttachRequest) -> Result<Accepted, Error> {
        debug_assert_eq!(request.attach.role, Role::Receiver);
        let target = request.attach.target.clone();
        let Some(mut source) = request.attach.source.clone() else {
            // This is how a client looks for what it has left here: nothing is.
            return Err(Error::new("amqp:not-found", "the link has no source"));
        };
        let address = if source.dynamic {
            let discriminator = self.discriminator();
            let name = self.identity.dynamic_source(&discriminator);
            let key = self.identity.key(&name);
            source.address = Some(name);
            self.find_or_make(key, Treatment::Balanced)
        } else {
            match source.address.as_deref() {
                Some(name) if !name.is_empty() => {
                    self.may_receive(name)?;
                    self.reach(name)?
                }
                _ => {
                    let text = "the source has no address and is not dynamic";
                    return Err(Error::new("qd:no-route-to-dest", text));
                }
            }
        };
        goes_with_its_link(
            &mut source.durable,
            &mut source.expiry_policy,
            &mut source.timeout,
        );
        // Filters are the sender's to confirm (AMQP 3.5.3): this router applies none.
        source.filter = Fields::default();
        Ok(Accepted {
            source: Some(source),
            target,
            address: Some(address),
            kind: LinkKind::Endpoint,
            priority: USUAL_PRIORITY,
        })
    }

    /// Whether messages to an address can be received here: those to another router cannot.
    pub(super) fn may_receive(&self, name: &str) -> Result<(), Error> {
        let key = self.identity.key(name);
        let elsewhere = matches!(key.class(), 'R' | 'A') || key.as_str() == UPLINK;
        if elsewhere || (self.uplink.is_some() && key.class() == 'H') {
            let text = "messages to another router are received there";
            return Err(Error::new("qd:no-route-to-dest", text));
        }
        Ok(())
    }

    /// The address that a terminus names, made if need be.
    fn reach(&mut self, name: &str) -> Result<AddressId, Error> {
        if name.len() > MAX_ADDRESS_LEN {
            let text = format!("the address is longer than {MAX_ADDRESS_LEN} bytes");
            return Err(Error::new("amqp:resource-limit-exceeded", text));
        }
        let mut key = self.identity.key(name);
        if self.uplink.is_some() && key.class() == 'H' && !self.by_key.contains_key(&key) {
            // No edge router that is connected to this one.
            key = AddressKey::uplink();
        }
        if let Some(&id) = self.by_key.get(&key) {
            return match self.addresses[id.index()].entry.treatment {
                Treatment::Unavailable => Err(unavailable()),
                _ => Ok(id),
            };
        }
        match self.rule(&key).treatment {
            Treatment::Unavailable => Err(unavailable()),
            treatment => Ok(self.find_or_make(key, treatment)),
        }
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

    fn add_link(&mut self, request: &AttachRequest, accepted: &Accepted) {
        self.file(Filed {
            link: request.link,
            connection: request.connection,
            role: request.role,
            name: request.attach.name.clone(),
            capacity: request.capacity,
            load: request.load.clone(),
            address: accepted.address,
            kind: accepted.kind,
            priority: accepted.priority,
            prompt: request.role.is_annotated()
                && self.knows_prompt()
                && says_prompt(&request.attach),
        });
    }

    /// Files a link, as a sender or a receiver of its address.
    pub(super) fn file(&mut self, filed: Filed) {
        let id = self.take_link_number();
        let mut priority = filed.priority;
        if let Some(address_id) = filed.address {
            let address = &mut self.addresses[address_id.index()];
            priority = address.entry.priority.unwrap_or(priority);
            match filed.load {
                None => address.producers += 1,
                Some(load) => {
                    self.leave_older(filed.connection, address_id);
                    let address = &mut self.addresses[address_id.index()];
                    address.consumers.push(id);
                    Arc::make_mut(&mut address.entry)
                        .destinations
                        .push(Destination {
                            outlet: Outlet::Link {
                                worker: filed.link.worker,
                                link: filed.link.slot,
                                to_router: filed.role.is_annotated(),
                            },
                            side: Side::of(filed.role, filed.connection, self.uplink.is_some())
                                .within(self.edges.mesh_of(filed.connection)),
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

    fn discriminator(&mut self) -> String {
        (0..DISCRIMINATOR_LEN)
            .map(|_| char::from(ALPHABET[self.random.random_range(0..ALPHABET.len())]))
            .collect()
    }
}

impl Address {
    /// Links that deliveries to this address leave by.
    pub(crate) fn consumers(&self) -> usize {
        self.consumers.len()
    }
}

impl Scope<'_> {
    fn pattern(self) -> String {
        match self {
            Self::Prefix(prefix) => prefix_pattern(prefix),
            Self::Pattern(pattern) => pattern.to_owned(),
        }
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

/// The termini that an attach is answered with.
pub(super) struct Accepted {
    pub(super) source: Option<Source>,
    pub(super) target: Option<Target>,
    pub(super) address: Option<AddressId>,
    pub(super) kind: LinkKind,
    pub(super) priority: u8,
}

/// A terminus of this router is gone when its link is, and its peer is told so where it wants
/// another (AMQP 3.5.3 to 3.5.6).
fn goes_with_its_link(
    durable: &mut TerminusDurability,
    expiry_policy: &mut ExpiryPolicy,
    timeout: &mut Duration,
) {
    let wants_more = *durable != TerminusDurability::None || !timeout.is_zero();
    if wants_more || *expiry_policy != ExpiryPolicy::default() {
        *durable = TerminusDurability::None;
        *expiry_policy = ExpiryPolicy::LinkDetach;
        *timeout = Duration::ZERO;
    }
}

fn unavailable() -> Error {
    Error::new("amqp:not-found", "Node not found")
}

/// The priority of what has no other.
pub(super) const USUAL_PRIORITY: u8 = 4;
const DISCRIMINATOR_LEN: usize = 15;
const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+_";

/// The capability under which a container offers to route each message by its own address.
pub(crate) fn anonymous_relay() -> Symbol {
    Symbol::from("ANONYMOUS-RELAY")
}

#[cfg(test)]
mod tests;
