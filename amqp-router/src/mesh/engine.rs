//! The protocol's state machine.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::control::address::AddressKey;
use crate::control::edge_mesh::MeshId;

use super::addresses::{Addresses, LocalAddress, RemoteAddress, treatment_of};
use super::message::{AddressChange, AddressRecord, Message, Unreadable};
use super::nodes::{ANSWER_INTERVAL, Node};
use super::notice::Notice;
use super::paths::{NextHop, Route, Routes, shortest};
use super::{NeighbourId, RouterIndex};

/// How the protocol is to go. Times are those of the `router` entity.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) id: String,
    /// When this router was started, in seconds since 1970: tells it from its predecessors.
    pub(crate) instance: i64,
    pub(crate) hello_interval: Duration,
    /// How long a neighbour may be silent.
    pub(crate) hello_max_age: Duration,
    pub(crate) ra_interval: Duration,
    /// The same while the network is changing.
    pub(crate) ra_interval_flux: Duration,
    /// How long a router's link state is believed without a word from it.
    pub(crate) remote_ls_max_age: Duration,
    /// How long the addresses of a router outlive the last way to it.
    pub(crate) unreachable_holdoff: Duration,
    /// Other routers that are taken note of.
    pub(crate) max_routers: usize,
}

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Neighbour(NeighbourId),
    /// Everyone, each neighbour passing it on.
    AllRouters,
    /// One router; if no way to it is known yet, by way of the neighbour that has just spoken for
    /// it.
    Router(RouterIndex, Option<NeighbourId>),
}

/// What the protocol wants done.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// Send a message, which is complete but for router annotations.
    Send {
        to: To,
        message: Bytes,
    },
    /// The ways to other routers are these now.
    Routes(Arc<Routes>),
    /// A router has consumers of an address, or has them no longer.
    RemoteAddress {
        router: RouterIndex,
        key: AddressKey,
        info: Option<RemoteAddress>,
    },
    Notice(Notice),
}

/// What management shows of a router of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouterStatus {
    pub(crate) id: String,
    /// 0 is this router.
    pub(crate) index: u32,
    pub(crate) instance: i64,
    /// The router that the way to it leads to first; none if it is a neighbour.
    pub(crate) next_hop: Option<String>,
    pub(crate) is_self: bool,
    pub(crate) cost: Option<u32>,
    pub(crate) link_state: Vec<String>,
    pub(crate) valid_origins: Vec<String>,
    /// Its connection, if it is a neighbour.
    pub(crate) neighbour: Option<NeighbourId>,
    /// When the shape of the network last changed, as far as this router knows.
    pub(crate) last_change: Option<Instant>,
}

/// One router's part in the protocol.
#[derive(Debug)]
pub(crate) struct Mesh {
    settings: Settings,
    neighbours: BTreeMap<NeighbourId, Neighbour>,
    nodes: BTreeMap<Arc<str>, Node>,
    /// Which indices are taken.
    indices: Vec<Option<Arc<str>>>,
    /// This router's own link state.
    peers: BTreeMap<String, u32>,
    sequence: u64,
    addresses: Addresses,
    routes: Arc<Routes>,
    next_tick: Instant,
    last_hello: Option<Instant>,
    last_ra: Option<Instant>,
    last_change: Option<Instant>,
    route_changes: u64,
    /// Paths are to be computed anew.
    stale: bool,
    computed: Option<Instant>,
    told: Option<Instant>,
    /// When a question is to be answered that came too soon after another.
    answers_due: Option<Instant>,
    outputs: VecDeque<Output>,
    /// Troubles that have been noticed.
    noticed: HashSet<(u32, &'static str)>,
}

/// A connection to another router, whose id is learnt from what it says.
#[derive(Debug)]
struct Neighbour {
    cost: u32,
    /// Who is at the other end, and when it was last heard.
    heard: Option<(String, Instant)>,
    /// When it last said that it hears this router.
    confirmed: Option<Instant>,
}

impl Neighbour {
    /// Whether each end has heard the other lately.
    fn is_confirmed(&self, now: Instant, max_age: Duration) -> bool {
        self.confirmed
            .is_some_and(|at| now.duration_since(at) <= max_age)
    }
}

impl Mesh {
    pub(crate) fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            neighbours: BTreeMap::new(),
            nodes: BTreeMap::new(),
            indices: Vec::new(),
            peers: BTreeMap::new(),
            sequence: 0,
            addresses: Addresses::default(),
            routes: Arc::default(),
            next_tick: now + TICK,
            last_hello: None,
            last_ra: None,
            last_change: None,
            route_changes: 0,
            stale: false,
            computed: None,
            told: Some(now),
            answers_due: None,
            outputs: VecDeque::new(),
            noticed: HashSet::new(),
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// A connection to another router can carry messages.
    pub(crate) fn neighbour_up(&mut self, id: NeighbourId, cost: u32, now: Instant) {
        let cost = cost.clamp(1, super::message::MAX_COST);
        let neighbour = Neighbour {
            cost,
            heard: None,
            confirmed: None,
        };
        self.neighbours.insert(id, neighbour);
        self.say_hello(id, now);
    }

    /// It no longer can.
    pub(crate) fn neighbour_down(&mut self, id: NeighbourId, now: Instant) {
        self.neighbours.remove(&id);
        let lost = self.nodes.values().find(|node| node.neighbour == Some(id));
        if let Some(lost) = lost.map(|node| Arc::clone(&node.id)) {
            self.lose_neighbour(&lost, now);
        }
        self.noticed.retain(|(neighbour, _)| *neighbour != id.0);
        self.work(now);
    }

    pub(crate) fn set_local_address(&mut self, key: AddressKey, address: LocalAddress) {
        self.addresses.set(key, address);
    }

    pub(crate) fn remove_local_address(&mut self, key: &AddressKey) {
        self.addresses.remove(key);
    }

    /// Something came that is no message.
    pub(crate) fn malformed(&mut self, neighbour: NeighbourId, what: &'static str) {
        if self.noticed.insert((neighbour.0, what)) {
            self.notice(Notice::Malformed { neighbour, what });
        }
    }

    /// Takes a message, without its router annotations, that came by way of a neighbour.
    pub(crate) fn receive(&mut self, from: NeighbourId, message: &[u8], now: Instant) {
        if !self.neighbours.contains_key(&from) {
            return;
        }
        match Message::decode(message) {
            Ok(message) => self.handle(from, message, now),
            Err(Unreadable::Malformed(what)) => self.malformed(from, what),
            Err(Unreadable::Version { id, version }) => {
                if self.noticed.insert((from.0, "pv")) {
                    self.notice(Notice::NewerVersion { id, version });
                }
            }
        }
        self.work(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let mut due = self.next_tick;
        if self.stale {
            due = due.min(self.computed.map_or(due, |at| at + COMPUTE_INTERVAL));
        }
        if self.addresses.has_changed() {
            due = due.min(self.told.map_or(due, |at| at + TELL_INTERVAL));
        }
        due = due.min(self.answers_due.unwrap_or(due));
        Some(due)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.tick(now);
        }
        self.work(now);
    }

    /// When a router or a link between routers last came or went.
    pub(crate) fn last_change(&self) -> Option<Instant> {
        self.last_change
    }

    /// How often the ways to other routers have become others.
    pub(crate) fn route_changes(&self) -> u64 {
        self.route_changes
    }

    /// This router and all others that are known.
    pub(crate) fn routers(&self) -> impl Iterator<Item = RouterStatus> + '_ {
        let myself = RouterStatus {
            id: self.settings.id.clone(),
            index: 0,
            instance: self.settings.instance,
            next_hop: None,
            is_self: true,
            cost: None,
            link_state: self.peers.keys().cloned().collect(),
            valid_origins: Vec::new(),
            neighbour: None,
            last_change: self.last_change,
        };
        let others = self.nodes.values().map(|node| {
            let route = self.routes.get(node.index);
            let name = |router: RouterIndex| self.name(router);
            RouterStatus {
                id: node.id.to_string(),
                index: node.index.0 + 1,
                instance: node.instance.unwrap_or(0),
                next_hop: node
                    .next_hop
                    .filter(|hop| hop.router != node.index)
                    .and_then(|hop| name(hop.router)),
                is_self: false,
                cost: node.next_hop.map(|hop| hop.cost),
                link_state: node.peers.keys().cloned().collect(),
                valid_origins: route.map_or_else(Vec::new, |route| {
                    let origins = route.valid_origins.iter();
                    origins.filter_map(|origin| name(*origin)).collect()
                }),
                neighbour: node.neighbour,
                last_change: None,
            }
        });
        std::iter::once(myself).chain(others)
    }

    /// Other routers that are known.
    pub(crate) fn router_count(&self) -> usize {
        self.nodes.len()
    }

    fn name(&self, router: RouterIndex) -> Option<String> {
        let id = self.indices.get(router.0 as usize)?.as_ref()?;
        Some(id.to_string())
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }

    fn handle(&mut self, from: NeighbourId, message: Message, now: Instant) {
        match message {
            Message::Hello { id, instance, seen } => {
                self.on_hello(from, id, instance, &seen, now);
            }
            Message::RouterAdvertisement {
                id,
                instance,
                link_state_sequence,
                address_sequence,
            } => {
                let Some(node) = self.learn(&id, now) else {
                    return;
                };
                node.heard_of = now;
                let restarted = node.has_restarted(instance, now);
                node.link_state.advertised(link_state_sequence, now);
                node.addresses.advertised(address_sequence, now);
                if restarted {
                    self.on_restart(&id, now);
                }
            }
            Message::LinkStateUpdate {
                id,
                instance,
                sequence,
                peers,
            } => self.on_link_state(&id, instance, sequence, peers, now),
            Message::LinkStateRequest { id } => {
                if let Some(node) = self.learn(&id, now) {
                    node.asks_link_state.put(from);
                    self.answers_due = Some(now);
                }
            }
            Message::AddressRequest { id, have } => {
                let news = have < self.addresses.sequence;
                if let Some(node) = self.learn(&id, now).filter(|_| news) {
                    node.asks_addresses.put(from);
                    self.answers_due = Some(now);
                }
            }
            Message::AddressUpdate {
                id,
                sequence,
                change,
            } => self.on_addresses(&id, sequence, change),
        }
    }

    fn on_hello(
        &mut self,
        from: NeighbourId,
        id: String,
        instance: Option<i64>,
        seen: &[String],
        now: Instant,
    ) {
        if id == self.settings.id {
            let another = instance != Some(self.settings.instance);
            if another && self.noticed.insert((from.0, "id")) {
                self.notice(Notice::DuplicateId { id });
            }
            return;
        }
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        let known = neighbour.heard.as_ref().is_some_and(|(of, _)| *of == id);
        neighbour.heard = Some((id.clone(), now));
        if !known {
            self.say_hello(from, now);
        }
        if seen.contains(&self.settings.id) {
            self.confirm_neighbour(from, &id, instance, now);
        }
    }

    /// A router and this one hear each other.
    fn confirm_neighbour(
        &mut self,
        from: NeighbourId,
        id: &str,
        instance: Option<i64>,
        now: Instant,
    ) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        neighbour.confirmed = Some(now);
        let cost = neighbour.cost;
        let Some(node) = self.learn(id, now) else {
            return;
        };
        let restarted = node.has_restarted(instance, now);
        let (before, known) = (node.neighbour, node.is_reachable());
        let cheaper = before.is_some_and(|before| {
            let before = self.neighbours.get(&before);
            before.is_none_or(|before| cost < before.cost)
        });
        if (before.is_none() || cheaper)
            && let Some(node) = self.nodes.get_mut(id)
        {
            node.neighbour = Some(from);
            self.peers.insert(id.to_owned(), cost);
            self.link_state_changed(now);
        }
        if before.is_none() {
            if !known {
                self.introduce(from, id);
            }
            let id = id.to_owned();
            self.notice(Notice::NeighbourFound { id, cost });
        }
        if restarted {
            self.on_restart(id, now);
        }
    }

    /// Tells a neighbour, and whoever is behind it, what is known of others, so that they need not
    /// ask each of them.
    fn introduce(&mut self, to: NeighbourId, newcomer: &str) {
        for node in self.nodes.values().filter(|node| *node.id != *newcomer) {
            if node.link_state.sequence == 0 {
                continue;
            }
            let id = || node.id.to_string();
            let advertisement = Message::RouterAdvertisement {
                id: id(),
                instance: node.instance,
                link_state_sequence: node.link_state.sequence,
                address_sequence: node.addresses.sequence,
            };
            let update = Message::LinkStateUpdate {
                id: id(),
                instance: node.instance,
                sequence: node.link_state.sequence,
                peers: node.peers.clone(),
            };
            for message in [update, advertisement] {
                let message = message.encode(EVERYONE);
                let to = To::Neighbour(to);
                self.outputs.push_back(Output::Send { to, message });
            }
        }
    }

    /// A router is no longer a neighbour by the connection that it was one by.
    fn lose_neighbour(&mut self, id: &str, now: Instant) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        node.neighbour = None;
        self.peers.remove(id);
        let max_age = self.settings.hello_max_age;
        // There may be another connection to it.
        let others = self.neighbours.iter().filter(|(_, neighbour)| {
            let heard = neighbour.heard.as_ref();
            heard.is_some_and(|(of, _)| of == id) && neighbour.is_confirmed(now, max_age)
        });
        match others.min_by_key(|(_, neighbour)| neighbour.cost) {
            Some((&other, neighbour)) => {
                node.neighbour = Some(other);
                self.peers.insert(id.to_owned(), neighbour.cost);
            }
            None => self.notice(Notice::NeighbourLost { id: id.to_owned() }),
        }
        self.link_state_changed(now);
    }

    /// A router has another instance than it had: nothing that is known of it holds.
    fn on_restart(&mut self, id: &str, now: Instant) {
        let mut is_news = false;
        if let Some(node) = self.nodes.get_mut(id) {
            node.peers.clear();
            node.link_state.want();
            is_news = node.is_restart_news(now);
        }
        self.forget_addresses(id);
        self.topology_changed(now);
        if is_news {
            self.notice(Notice::Restarted { id: id.to_owned() });
        }
    }

    fn on_link_state(
        &mut self,
        id: &str,
        instance: Option<i64>,
        sequence: u64,
        peers: BTreeMap<String, u32>,
        now: Instant,
    ) {
        if self.has_too_many_peers(id, peers.len()) {
            return;
        }
        let Some(node) = self.learn(id, now) else {
            return;
        };
        if node.instance.is_none() {
            node.instance = instance;
        }
        if sequence <= node.link_state.sequence {
            return;
        }
        node.link_state.received(sequence);
        node.heard_of = now;
        let changed = node.peers != peers;
        let unknown: Vec<String> = peers.keys().cloned().collect();
        node.peers = peers;
        for peer in unknown {
            self.learn(&peer, now);
        }
        if changed {
            self.topology_changed(now);
        }
    }

    /// Whether there would be too many connections in the network, if one router had so many.
    fn has_too_many_peers(&mut self, id: &str, peers: usize) -> bool {
        let others = self.nodes.values().filter(|node| *node.id != *id);
        let others: usize = others.map(|node| node.peers.len()).sum();
        if others + peers <= MAX_PEERS {
            return false;
        }
        if self.noticed.insert((u32::MAX, "peers")) {
            let id = id.to_owned();
            self.notice(Notice::TooManyPeers { id });
        }
        true
    }

    fn on_addresses(&mut self, id: &str, sequence: u64, change: AddressChange) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        match change {
            AddressChange::Differential { added, removed } => {
                let known = node.addresses.sequence;
                if sequence != known + 1 || node.addresses.is_missing() {
                    if sequence > known {
                        node.addresses.exists(sequence);
                    }
                    return;
                }
                node.addresses.received(sequence);
                for key in removed {
                    if let Some(key) = AddressKey::parse(&key) {
                        self.remove_remote(id, &key);
                    }
                }
                self.add_remotes(id, added);
            }
            AddressChange::Absolute(all) => {
                node.addresses.received(sequence);
                let kept: HashSet<&str> = all.iter().map(|record| record.key.as_str()).collect();
                let gone = node.keys.keys().filter(|key| !kept.contains(key.as_str()));
                for key in gone.cloned().collect::<Vec<_>>() {
                    self.remove_remote(id, &key);
                }
                self.add_remotes(id, all);
            }
        }
    }

    fn add_remotes(&mut self, id: &str, records: Vec<AddressRecord>) {
        let of_all: usize = self.nodes.values().map(|node| node.keys.len()).sum();
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let of_others = of_all - node.keys.len();
        for record in records {
            let Some(key) = AddressKey::parse(&record.key) else {
                continue;
            };
            let count = node.keys.len();
            if count >= MAX_ADDRESSES || of_others + count >= MAX_ADDRESSES_OF_ALL {
                let id = id.to_owned();
                if self.noticed.insert((u32::MAX, "addresses")) {
                    self.notice(Notice::TooManyAddresses { id });
                }
                return;
            }
            let info = RemoteAddress {
                treatment: record.treatment.and_then(treatment_of),
                mesh: record.mesh.as_deref().and_then(MeshId::parse),
                prompt: record.prompt,
            };
            let known = node.keys.insert(key.clone(), info);
            // A treatment matters when an address is new, and no more.
            if known.map(|known| (known.mesh, known.prompt)) != Some((info.mesh, info.prompt)) {
                self.outputs.push_back(Output::RemoteAddress {
                    router: node.index,
                    key,
                    info: Some(info),
                });
            }
        }
    }

    fn remove_remote(&mut self, id: &str, key: &AddressKey) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        if node.keys.remove(key).is_some() {
            self.outputs.push_back(Output::RemoteAddress {
                router: node.index,
                key: key.clone(),
                info: None,
            });
        }
    }

    fn forget_addresses(&mut self, id: &str) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        node.addresses.forget();
        let router = node.index;
        for key in std::mem::take(&mut node.keys).into_keys() {
            self.outputs.push_back(Output::RemoteAddress {
                router,
                key,
                info: None,
            });
        }
    }

    /// Finds a router, or takes note of it; none for this one, and when there are too many.
    fn learn(&mut self, id: &str, now: Instant) -> Option<&mut Node> {
        if id == self.settings.id {
            return None;
        }
        if !self.nodes.contains_key(id) {
            if self.nodes.len() >= self.settings.max_routers {
                if self.noticed.insert((u32::MAX, "routers")) {
                    self.notice(Notice::TooManyRouters { id: id.to_owned() });
                }
                return None;
            }
            let free = self.indices.iter().position(Option::is_none);
            let at = free.unwrap_or(self.indices.len());
            if at == self.indices.len() {
                self.indices.push(None);
            }
            let node = Node::new(RouterIndex(at as u32), id, now);
            self.indices[at] = Some(Arc::clone(&node.id));
            self.nodes.insert(Arc::clone(&node.id), node);
        }
        self.nodes.get_mut(id)
    }

    fn say_hello(&mut self, to: NeighbourId, now: Instant) {
        let max_age = self.settings.hello_max_age;
        let heard = self.neighbours.values().filter_map(|n| n.heard.as_ref());
        let fresh = heard.filter(|(_, at)| now.duration_since(*at) <= max_age);
        let seen: BTreeSet<&String> = fresh.map(|(id, _)| id).collect();
        let hello = Message::Hello {
            id: self.settings.id.clone(),
            instance: Some(self.settings.instance),
            seen: seen.into_iter().cloned().collect(),
        };
        let message = hello.encode("amqp:/_local/qdhello");
        let to = To::Neighbour(to);
        self.outputs.push_back(Output::Send { to, message });
    }

    fn advertise(&mut self, now: Instant) {
        self.last_ra = Some(now);
        let advertisement = Message::RouterAdvertisement {
            id: self.settings.id.clone(),
            instance: Some(self.settings.instance),
            link_state_sequence: self.sequence,
            address_sequence: self.addresses.sequence,
        };
        let message = advertisement.encode(EVERYONE);
        let to = To::AllRouters;
        self.outputs.push_back(Output::Send { to, message });
    }

    /// This router's link state, for whomever it is sent to.
    fn link_state(&self) -> Message {
        Message::LinkStateUpdate {
            id: self.settings.id.clone(),
            instance: Some(self.settings.instance),
            sequence: self.sequence,
            peers: self.peers.clone(),
        }
    }

    fn link_state_changed(&mut self, now: Instant) {
        self.sequence += 1;
        // At once, so that the news travels by the ways that are left.
        self.computed = None;
        self.topology_changed(now);
        self.last_ra = None;
    }

    fn topology_changed(&mut self, now: Instant) {
        self.stale = true;
        self.last_change = Some(now);
    }

    /// Does what can be done now after anything has happened.
    fn work(&mut self, now: Instant) {
        let due = |at: Option<Instant>, interval| at.is_none_or(|at| now >= at + interval);
        if self.stale && due(self.computed, COMPUTE_INTERVAL) {
            self.stale = false;
            self.computed = Some(now);
            self.compute(now);
        }
        if self.addresses.has_changed() && due(self.told, TELL_INTERVAL) {
            self.tell_addresses(now);
        }
        if self.last_ra.is_none() && !self.stale {
            // The news itself, before the word that there is some: nobody need ask.
            let message = self.link_state().encode(EVERYONE);
            let to = To::AllRouters;
            self.outputs.push_back(Output::Send { to, message });
            self.advertise(now);
        }
        self.ask(now);
        if self.answers_due.is_some_and(|due| due <= now) {
            self.answer(now);
        }
    }

    /// Answers routers that have asked, each no more often than it makes sense to ask.
    fn answer(&mut self, now: Instant) {
        self.answers_due = None;
        let mut answers = Vec::new();
        for node in self.nodes.values_mut() {
            let id = &node.id;
            if let Some(from) = node.asks_link_state.answer(now) {
                let to = format!("amqp:/_topo/0/{id}/qdrouter");
                answers.push((node.index, from, to, false));
            }
            if let Some(from) = node.asks_addresses.answer(now) {
                let to = format!("amqp:/_topo/0/{id}/qdrouter.ma");
                answers.push((node.index, from, to, true));
            }
            if node.asks_link_state.is_open() || node.asks_addresses.is_open() {
                self.answers_due = Some(now + ANSWER_INTERVAL);
            }
        }
        for (index, from, address, of_addresses) in answers {
            let update = match of_addresses {
                false => self.link_state(),
                true => Message::AddressUpdate {
                    id: self.settings.id.clone(),
                    sequence: self.addresses.sequence,
                    change: self.addresses.all(),
                },
            };
            let message = update.encode(&address);
            let to = To::Router(index, Some(from));
            self.outputs.push_back(Output::Send { to, message });
        }
    }

    fn tell_addresses(&mut self, now: Instant) {
        let Some((sequence, change)) = self.addresses.tell() else {
            return;
        };
        self.told = Some(now);
        let update = Message::AddressUpdate {
            id: self.settings.id.clone(),
            sequence,
            change,
        };
        let message = update.encode("_topo/0/all/qdrouter.ma");
        let to = To::AllRouters;
        self.outputs.push_back(Output::Send { to, message });
        self.advertise(now);
    }

    /// Asks routers for what they have news of.
    fn ask(&mut self, now: Instant) {
        for node in self.nodes.values_mut().filter(|node| node.is_reachable()) {
            let (index, id) = (node.index, &node.id);
            let to = To::Router(index, None);
            if node.link_state.ask(now) {
                let request = Message::LinkStateRequest {
                    id: self.settings.id.clone(),
                };
                let message = request.encode(&format!("amqp:/_topo/0/{id}/qdrouter"));
                let to = to.clone();
                self.outputs.push_back(Output::Send { to, message });
            }
            if node.addresses.ask(now) {
                let request = Message::AddressRequest {
                    id: self.settings.id.clone(),
                    have: node.addresses.sequence,
                };
                let message = request.encode(&format!("amqp:/_topo/0/{id}/qdrouter.ma"));
                self.outputs.push_back(Output::Send { to, message });
            }
        }
    }

    /// Finds the shortest paths.
    fn compute(&mut self, now: Instant) {
        let mut states: BTreeMap<&str, &BTreeMap<String, u32>> = self
            .nodes
            .values()
            .map(|node| (&*node.id, &node.peers))
            .collect();
        states.insert(&self.settings.id, &self.peers);
        let (paths, radius) = shortest(&self.settings.id, &states);
        let index = |id: &str| self.nodes.get(id).map(|node| node.index);
        let mut routes = Routes {
            routes: vec![None; self.indices.len()],
            direct: Vec::new(),
            radius,
        };
        for node in self.nodes.values() {
            let path = paths.get(&*node.id);
            let next_hop = path.and_then(|path| {
                let first = self.nodes.get(path.first)?;
                Some(NextHop {
                    neighbour: first.neighbour?,
                    router: first.index,
                    cost: path.cost,
                })
            });
            let origins = path.map_or(&[][..], |path| &path.valid_origins);
            routes.routes[node.index.0 as usize] = Some(Route {
                id: Arc::clone(&node.id),
                next_hop,
                valid_origins: origins.iter().filter_map(|id| index(id)).collect(),
            });
            if let Some(neighbour) = node.neighbour {
                routes.direct.push((neighbour, node.index));
            }
        }
        for node in self.nodes.values_mut() {
            node.next_hop = routes.get(node.index).and_then(|route| route.next_hop);
            node.unreachable_since = match node.next_hop {
                Some(_) => None,
                None => node.unreachable_since.or(Some(now)),
            };
        }
        if *self.routes != routes {
            self.route_changes += 1;
            self.routes = Arc::new(routes);
            let routes = Arc::clone(&self.routes);
            self.outputs.push_back(Output::Routes(routes));
        }
    }

    /// Does what is due once a second.
    fn tick(&mut self, now: Instant) {
        self.expire(now);
        if self.is_due(self.last_hello, self.settings.hello_interval, now) {
            self.last_hello = Some(now);
            for neighbour in self.neighbours.keys().copied().collect::<Vec<_>>() {
                self.say_hello(neighbour, now);
            }
        }
        let flux = 2 * self.settings.ra_interval_flux;
        let changing = self
            .last_change
            .is_some_and(|at| now.duration_since(at) <= flux);
        let interval = match changing {
            true => self.settings.ra_interval_flux,
            false => self.settings.ra_interval,
        };
        if self.is_due(self.last_ra, interval, now) {
            self.advertise(now);
        }
    }

    /// Whether something is due that is done at ticks, and so a little early rather than late.
    fn is_due(&self, last: Option<Instant>, interval: Duration, now: Instant) -> bool {
        last.is_none_or(|last| now + TICK / 2 >= last + interval)
    }

    /// Gives up what has not been heard of for too long.
    fn expire(&mut self, now: Instant) {
        let settings = &self.settings;
        let silent = |at: Instant, max: Duration| now.duration_since(at) > max;
        let mut lost = Vec::new();
        let mut aged = false;
        let mut unreachable = Vec::new();
        for node in self.nodes.values_mut() {
            if let Some(neighbour) = node.neighbour.and_then(|id| self.neighbours.get(&id))
                && !neighbour.is_confirmed(now, settings.hello_max_age)
            {
                lost.push(Arc::clone(&node.id));
            }
            if silent(node.heard_of, settings.remote_ls_max_age) && !node.peers.is_empty() {
                node.peers.clear();
                node.link_state.forget();
                aged = true;
            }
            let gone = node
                .unreachable_since
                .is_some_and(|since| now.duration_since(since) >= settings.unreachable_holdoff);
            if gone && (!node.keys.is_empty() || node.addresses.sequence > 0) {
                unreachable.push(Arc::clone(&node.id));
            }
        }
        for id in lost {
            self.lose_neighbour(&id, now);
        }
        for id in unreachable {
            self.forget_addresses(&id);
        }
        if aged {
            self.topology_changed(now);
        }
        self.forget_routers(now);
    }

    /// Forgets routers that nobody speaks of any more.
    fn forget_routers(&mut self, now: Instant) {
        let spoken_of: HashSet<String> = self
            .nodes
            .values()
            .flat_map(|node| node.peers.keys().filter(|peer| **peer != *node.id))
            .cloned()
            .collect();
        let mut forgotten = Vec::new();
        for node in self.nodes.values_mut() {
            let alone =
                node.peers.is_empty() && node.neighbour.is_none() && !spoken_of.contains(&*node.id);
            node.forgotten = if alone { node.forgotten + 1 } else { 0 };
            if node.forgotten >= FORGET_AFTER {
                forgotten.push(Arc::clone(&node.id));
            }
        }
        for id in &forgotten {
            self.forget_addresses(id);
            if let Some(node) = self.nodes.remove(id) {
                self.indices[node.index.0 as usize] = None;
            }
        }
        if !forgotten.is_empty() {
            self.topology_changed(now);
        }
    }
}

/// The address of every router's engine.
const EVERYONE: &str = "amqp:/_topo/0/all/qdrouter";

/// How often what is periodic is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Ticks that a router is kept though nobody speaks of it.
const FORGET_AFTER: u32 = 3;
/// Time between two computations of paths, so that a burst of changes costs one.
const COMPUTE_INTERVAL: Duration = Duration::from_millis(50);
/// Time between two updates of addresses, for the same reason.
const TELL_INTERVAL: Duration = Duration::from_millis(100);
/// Addresses that one router may have, and all together.
const MAX_ADDRESSES: usize = 500_000;
const MAX_ADDRESSES_OF_ALL: usize = 2_000_000;
/// Neighbours that all routers together may have.
const MAX_PEERS: usize = 1 << 18;
