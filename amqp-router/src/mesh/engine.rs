//! The protocol's state machine.

mod impostors;
mod neighbours;
mod remotes;
mod ways;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::control::address::AddressKey;

use super::addresses::{Addresses, LocalAddress, RemoteAddress};
use super::message::{Message, Unreadable};
use super::nodes::{ANSWER_INTERVAL, Node};
use super::notice::Notice;
use super::paths::Routes;
use super::{NeighbourId, RouterIndex};
use impostors::Rebuttal;
use neighbours::Neighbour;

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
    /// A neighbour is not heard by this connection any more, though that is still there.
    Silent(NeighbourId),
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
    /// They are to be as soon as can be.
    urgent: bool,
    /// How long the last computation may have taken.
    effort: Duration,
    told: Option<Instant>,
    /// When a question is to be answered that came too soon after another.
    answers_due: Option<Instant>,
    rebuttal: Rebuttal,
    /// Neighbours that have fallen silent since paths were last computed.
    silent: Vec<NeighbourId>,
    outputs: VecDeque<Output>,
    /// Troubles that have been noticed.
    noticed: HashSet<(u32, &'static str)>,
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
            urgent: false,
            effort: Duration::ZERO,
            told: Some(now),
            answers_due: None,
            rebuttal: Rebuttal::default(),
            silent: Vec::new(),
            outputs: VecDeque::new(),
            noticed: HashSet::new(),
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
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
            due = due.min(self.computed.map_or(due, |at| at + self.pause()));
        }
        if self.addresses.has_changed() {
            due = due.min(self.told.map_or(due, |at| at + TELL_INTERVAL));
        }
        due = due.min(self.answers_due.unwrap_or(due));
        due = due.min(self.rebuttal.due().unwrap_or(due));
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
            message if message.id() == self.settings.id => self.on_own_name(from, message, now),
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
                if node.has_restarted(instance, now) {
                    self.on_restart(&id, now);
                }
                self.on_advertisement(&id, link_state_sequence, address_sequence, now);
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

    /// A router says how new what it has to say is.
    fn on_advertisement(&mut self, id: &str, link_state: u64, addresses: u64, now: Instant) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        node.link_state.advertised(link_state, now);
        node.addresses.advertised(addresses, now);
        self.has_no_addresses(id);
    }

    /// Nobody answers for having no addresses: it is enough that a router says so when there is
    /// nothing else to believe.
    fn has_no_addresses(&mut self, id: &str) {
        let known = self.nodes.get(id).map(|node| &node.addresses);
        if known.is_some_and(|known| known.is_missing() && known.are_none()) {
            self.forget_addresses(id);
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
        if !self.has_room_for(id, &peers, now) {
            return;
        }
        let Some(node) = self.learn(id, now) else {
            return;
        };
        let is_of_another =
            instance.is_some() && node.instance.is_some_and(|is| Some(is) != instance);
        if node.has_restarted(instance, now) {
            self.on_restart(id, now);
        } else if is_of_another {
            return;
        }
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
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
        self.urgent = true;
        self.topology_changed(now);
        self.last_ra = None;
    }

    /// Does what can be done now after anything has happened.
    fn work(&mut self, now: Instant) {
        let due = |at: Option<Instant>, interval| at.is_none_or(|at| now >= at + interval);
        if self.stale && due(self.computed, self.pause()) {
            (self.stale, self.urgent) = (false, false);
            self.computed = Some(now);
            self.compute(now);
        }
        if self.addresses.has_changed() && due(self.told, TELL_INTERVAL) {
            self.tell_addresses(now);
        }
        self.rebut(now);
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
        let mut doubtful = Vec::new();
        for node in self.nodes.values_mut() {
            node.link_state.is_doubtful(now);
            if node.addresses.is_doubtful(now) {
                doubtful.push(Arc::clone(&node.id));
            }
            if let Some(by) = node.neighbour
                && let Some(neighbour) = self.neighbours.get(&by)
                && !neighbour.is_confirmed(now, settings.hello_max_age)
            {
                lost.push(Arc::clone(&node.id));
                self.silent.push(by);
            }
            if silent(node.heard_of, settings.remote_ls_max_age) && !node.peers.is_empty() {
                node.peers.clear();
                node.link_state.forget();
                aged = true;
            }
            if node.is_to_be_verified(now) {
                node.link_state.want();
                node.addresses.want();
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
        for id in doubtful {
            self.has_no_addresses(&id);
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
/// Time between two updates of addresses, for the same reason.
const TELL_INTERVAL: Duration = Duration::from_millis(100);
