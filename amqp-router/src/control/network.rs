//! This router in its network: neighbours, what they tell each other, and what follows for the
//! forwarding table.
//!
//! The routing protocol itself is [`mesh`](crate::mesh), which knows neither links nor frames.
//! Here its messages find their way (`reference/router/inter-router-protocol.md` §4, §5), and what
//! it learns becomes addresses and a [`Topology`].

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::codec::{
    Attach, Error, MessageView, Progress, Role, RouterAnnotations, Source, Symbol, Target,
    TargetNode,
};
use crate::control::address::{AddressKey, Identity};
use crate::control::guard::NeighbourDenial;
use crate::control::links::{Accepted, AttachRequest, Command, Control, LinkKind, Recipient};
use crate::control::recent::Recent;
use crate::control::role::{Role as ConnectionRole, control_capability, data_capability};
use crate::control::table::{
    AddressEntry, Direction, LinkLoad, LinkRef, Remote, Side, TableUpdate, Treatment, WorkerId,
};
use crate::control::topology::{
    Hop, Ingress, NeighbourIndex, NeighbourRow, RouterIndex, RouterRow, RouterSet, Topology,
};
use crate::control::trunk::{Purpose, RouterLink, Ticket, Trunk};
use crate::control::trunks::{Change, Group, TrunkNotice, Trunks};
use crate::mesh::{
    LocalAddress, Mesh, NeighbourId, Notice, Output, RemoteAddress, RouterStatus, Routes, To,
};
use crate::policy::Grant;

/// A connection that has just been opened.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct Opened {
    pub(crate) connection: u64,
    pub(crate) worker: WorkerId,
    pub(crate) role: ConnectionRole,
    pub(crate) cost: u32,
    /// What the peer calls itself.
    pub(crate) container: String,
    /// Who the peer has shown to be.
    pub(crate) user: Option<String>,
    /// The connector that has made it.
    pub(crate) connector: Option<String>,
    /// The listener that has accepted it.
    pub(crate) listener: Option<String>,
    /// What it has in common with other connections to a neighbour.
    pub(crate) group: Option<Group>,
    /// The peer takes messages that take long by connections of their own.
    pub(crate) trunking: bool,
    /// Of the certificate that secures it.
    pub(crate) ordinal: u64,
    /// The peer is no router of this make: it may know fewer others than this one does.
    pub(crate) foreign: bool,
    /// What policy lets the peer do; `None` is everything.
    pub(crate) grant: Option<Arc<Grant>>,
}

/// The network, seen from this router.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) identity: Arc<Identity>,
    /// `0/<id>`.
    me: Arc<str>,
    mesh: Mesh,
    trunks: Trunks,
    topology: Arc<Topology>,
    /// What goes ahead of this router's own messages.
    heading: Bytes,
    routes: Arc<Routes>,
    /// Routers that messages can be sent to by name.
    reachable: BTreeSet<(Arc<str>, RouterIndex)>,
    recent: Recent,
    effects: VecDeque<Effect>,
    notices: VecDeque<Notice>,
    trunk_notices: VecDeque<TrunkNotice>,
    denials: VecDeque<NeighbourDenial>,
}

/// What the network asks of the control plane around it.
#[derive(Debug)]
enum Effect {
    Tell {
        link: LinkRef,
        message: Bytes,
    },
    Detach(LinkRef),
    GiveBack(LinkRef),
    Close(WorkerId, u64, Error),
    Topology(Arc<Topology>),
    Remote(RouterIndex, AddressKey, Option<RemoteAddress>),
    /// A router can be reached, or no longer.
    Router(AddressKey, RouterIndex, bool),
}

impl Network {
    fn new(identity: Arc<Identity>, mesh: Mesh) -> Self {
        let me: Arc<str> = format!("0/{}", identity.id).into();
        let mut heading = bytes::BytesMut::new();
        let own = RouterAnnotations {
            ingress: Some(&me),
            ..RouterAnnotations::default()
        };
        own.encode(Some(&me), &mut heading);
        let mut network = Self {
            identity,
            me,
            mesh,
            trunks: Trunks::default(),
            topology: Arc::default(),
            heading: heading.freeze(),
            routes: Arc::default(),
            reachable: BTreeSet::new(),
            recent: Recent::default(),
            effects: VecDeque::new(),
            notices: VecDeque::new(),
            trunk_notices: VecDeque::new(),
            denials: VecDeque::new(),
        };
        network.publish();
        network
    }

    /// Carries out what follows from what has happened to connections.
    fn follow_trunks(&mut self, now: Instant) {
        let mut publishes = false;
        while let Some(change) = self.trunks.poll_change() {
            match change {
                Change::Up(neighbour, cost) => self.mesh.neighbour_up(of(neighbour), cost, now),
                Change::Down(neighbour) => self.mesh.neighbour_down(of(neighbour), now),
                Change::Ways => publishes = true,
                Change::Detach(link) => self.effects.push_back(Effect::Detach(link)),
                Change::Close(worker, connection, text) => {
                    let error = Error::new("amqp:connection:forced", text);
                    let effect = Effect::Close(worker, connection, error);
                    self.effects.push_back(effect);
                }
                Change::Notice(notice) => self.trunk_notices.push_back(notice),
            }
        }
        self.changed(now);
        if publishes {
            self.publish();
        }
    }

    /// A link that serves no address is gone.
    pub(super) fn link_lost(&mut self, connection: u64, link: LinkRef, now: Instant) {
        self.trunks.link_lost(connection, link);
        self.follow_trunks(now);
    }

    /// A neighbour says something.
    fn heard(&mut self, connection: u64, message: &Bytes, now: Instant) {
        let Some(trunk) = self.trunks.get(connection) else {
            return;
        };
        let from = trunk.neighbour;
        let Progress::Complete(length) = RouterAnnotations::measure(message) else {
            return self.mesh.malformed(of(from), "router annotations");
        };
        let annotations = match length {
            0 => Ok(RouterAnnotations::default()),
            _ => RouterAnnotations::decode(&message[..length]),
        };
        let Ok(annotations) = annotations else {
            return self.mesh.malformed(of(from), "router annotations");
        };
        let bare = message.slice(length..);
        let Some(to) = destination(&annotations, &bare) else {
            return self.mesh.malformed(of(from), "an address");
        };
        let key = self.identity.key(&to);
        let Some(bare) = self.screen(connection, bare, &to) else {
            return;
        };
        let letter = Letter {
            from,
            annotations,
            bare,
        };
        match key.as_str() {
            "Lqdhello" | "Lqdrouter" | "Lqdrouter.ma" => self.read(&letter, now),
            "Tqdrouter" | "Tqdrouter.ma" => {
                // A copy that has come too far to go on must not keep another from going on.
                if !self.circles(&letter.annotations) && self.recent.is_new(&letter.bare, now) {
                    self.flood(&letter, key.as_str() == "Tqdrouter");
                }
                self.read(&letter, now);
            }
            _ => self.send_on(&letter, &key),
        }
    }

    /// Takes a message that is for this router.
    fn read(&mut self, letter: &Letter<'_>, now: Instant) {
        self.mesh.receive(of(letter.from), &letter.bare, now);
        self.changed(now);
    }

    /// What policy leaves of a neighbour's message.
    fn screen(&mut self, connection: u64, bare: Bytes, to: &str) -> Option<Bytes> {
        let trunk = self.trunks.get_mut(connection);
        let Some(guard) = trunk.and_then(|trunk| trunk.guard.as_mut()) else {
            return Some(bare);
        };
        let (left, denials) = guard.screen(connection, &bare, to);
        self.denials.extend(denials);
        left
    }

    /// Gives a message for every router to those neighbours that it has not been to. `everywhere`
    /// is for those who must hear of a change before paths are known that follow from it.
    fn flood(&mut self, letter: &Letter<'_>, everywhere: bool) {
        let trace = letter.annotations.trace;
        let passed = self.topology.passed(trace.iter());
        let to = match everywhere {
            true => self.neighbours(),
            false => self.branches(self.topology.ingress(letter.annotations.ingress)),
        };
        for neighbour in to {
            if neighbour != letter.from && !passed.contains(&neighbour) {
                self.pass(letter, neighbour);
            }
        }
    }

    /// All neighbours, also those that no path leads by as far as this router knows: they may be
    /// the ones who learn of a change by no other way.
    fn neighbours(&self) -> BTreeSet<NeighbourIndex> {
        let rows = self.topology.neighbours.iter().zip(0..);
        let known = rows.filter(|(row, _)| row.as_ref().is_some_and(|row| row.router.is_some()));
        known.map(|(_, index)| NeighbourIndex(index)).collect()
    }

    /// The neighbours that lead anywhere.
    fn branches(&self, ingress: Ingress) -> BTreeSet<NeighbourIndex> {
        let routers = (0..self.topology.routers.len() as u32).map(RouterIndex);
        routers
            .filter_map(|router| self.topology.hop(router, ingress))
            .map(|hop| hop.neighbour)
            .collect()
    }

    /// Passes a message for another router on. Whoever asks for the state of a router's links may
    /// know more than this router, and take another path than it would: origins do not matter.
    fn send_on(&mut self, letter: &Letter<'_>, key: &AddressKey) {
        if key.class() != 'R' || self.circles(&letter.annotations) {
            return;
        }
        let name = format!("0/{}", key.text());
        let router = self.topology.by_name.get(&*name);
        let hop = router.and_then(|router| self.topology.hop(*router, Ingress::Here));
        if let Some(hop) = hop {
            self.pass(letter, hop.neighbour);
        }
    }

    fn circles(&self, annotations: &RouterAnnotations<'_>) -> bool {
        let trace = annotations.trace;
        trace.len() > self.topology.radius + 1 || trace.iter().any(|hop| *hop == *self.me)
    }

    fn pass(&mut self, letter: &Letter<'_>, to: NeighbourIndex) {
        let mut message = bytes::BytesMut::with_capacity(letter.bare.len() + 128);
        letter.annotations.encode(Some(&self.me), &mut message);
        message.extend_from_slice(&letter.bare);
        self.tell(to, message.freeze());
    }

    fn tell(&mut self, neighbour: NeighbourIndex, message: Bytes) {
        if let Some(link) = self.trunks.control_out(neighbour) {
            self.effects.push_back(Effect::Tell { link, message });
        }
    }

    /// Takes what the protocol has to say after something has happened.
    fn changed(&mut self, _now: Instant) {
        while let Some(output) = self.mesh.poll_output() {
            match output {
                Output::Send { to, message } => self.send(&to, &message),
                Output::Routes(routes) => {
                    self.routes = routes;
                    self.publish();
                }
                Output::RemoteAddress { router, key, info } => {
                    let router = RouterIndex(router.0);
                    self.effects.push_back(Effect::Remote(router, key, info));
                }
                Output::Silent(neighbour) => self.give_back(NeighbourIndex(neighbour.0)),
                Output::Notice(notice) => self.notices.push_back(notice),
            }
        }
    }

    /// What is on its way to a neighbour that has fallen silent is not waited for.
    fn give_back(&mut self, neighbour: NeighbourIndex) {
        let row = self.trunks.active(neighbour).and_then(|trunk| trunk.row());
        let Some(NeighbourRow { worker, links, .. }) = row else {
            return;
        };
        let mut slots = links.to_vec();
        slots.dedup();
        let links = slots.into_iter().map(|slot| LinkRef {
            worker,
            direction: Direction::Outgoing,
            slot,
        });
        self.effects.extend(links.map(Effect::GiveBack));
    }

    /// Sends a message of this router.
    fn send(&mut self, to: &To, message: &[u8]) {
        let message = Bytes::from([&self.heading, message].concat());
        match to {
            To::Neighbour(neighbour) => self.tell(NeighbourIndex(neighbour.0), message),
            To::AllRouters => {
                for neighbour in self.branches(Ingress::Here) {
                    self.tell(neighbour, message.clone());
                }
            }
            To::Router(router, otherwise) => {
                let hop = self.topology.hop(RouterIndex(router.0), Ingress::Here);
                let otherwise = otherwise.map(|neighbour| NeighbourIndex(neighbour.0));
                if let Some(neighbour) = hop.map(|hop| hop.neighbour).or(otherwise) {
                    self.tell(neighbour, message);
                }
            }
        }
    }

    /// Works the topology out anew.
    fn publish(&mut self) {
        let routes = Arc::clone(&self.routes);
        let mut topology = Topology {
            me: Arc::clone(&self.me),
            radius: routes.radius,
            neighbours: self.trunks.rows().collect(),
            ..Topology::default()
        };
        let mut reachable = BTreeSet::new();
        for (index, route) in routes.iter() {
            let index = RouterIndex(index.0);
            let at = index.0 as usize;
            if topology.routers.len() <= at {
                topology.routers.resize(at + 1, None);
            }
            let hop = route.next_hop.map(|next| Hop {
                neighbour: NeighbourIndex(next.neighbour.0),
                cost: next.cost,
            });
            if hop.is_some() {
                reachable.insert((Arc::from(&*route.id), index));
            }
            let origins: RouterSet = route
                .valid_origins
                .iter()
                .map(|o| RouterIndex(o.0))
                .collect();
            let name: Arc<str> = format!("0/{}", route.id).into();
            topology.routers[at] = Some(RouterRow {
                name: Arc::clone(&name),
                hop,
                valid_origins: Arc::new(origins),
            });
            topology.by_name.insert(name, index);
        }
        for (neighbour, router) in routes.direct() {
            let row = topology.neighbours.get_mut(neighbour.0 as usize);
            if let Some(Some(row)) = row {
                row.router = Some(RouterIndex(router.0));
            }
        }
        self.topology = Arc::new(topology);
        let topology = Arc::clone(&self.topology);
        self.effects.push_back(Effect::Topology(topology));
        for (id, index) in self.reachable.difference(&reachable) {
            let key = AddressKey::router(id);
            self.effects.push_back(Effect::Router(key, *index, false));
        }
        for (id, index) in reachable.difference(&self.reachable) {
            let key = AddressKey::router(id);
            self.effects.push_back(Effect::Router(key, *index, true));
        }
        let crowded = self.trunks.crowded(reachable.len());
        self.trunk_notices.extend(crowded);
        self.reachable = reachable;
    }
}

/// A message between control planes.
struct Letter<'a> {
    from: NeighbourIndex,
    annotations: RouterAnnotations<'a>,
    /// The message without its annotations.
    bare: Bytes,
}

/// What the control plane does about the network.
impl Control {
    /// Joins a network.
    pub(crate) fn join(&mut self, mesh: Mesh) {
        self.network = Some(Box::new(Network::new(Arc::clone(&self.identity), mesh)));
        self.follow_network();
    }

    /// A connection has been opened.
    pub(crate) fn opened(&mut self, opened: &Opened, now: Instant) {
        match opened.role {
            ConnectionRole::InterRouter => self.trunk_opened(opened, now),
            ConnectionRole::InterRouterData => self.data_opened(opened),
            _ => {
                self.uplink_opened(opened, now);
                self.edge_opened(opened);
                self.container_opened(opened);
            }
        }
    }

    fn trunk_opened(&mut self, opened: &Opened, now: Instant) {
        if let Some(network) = &mut self.network {
            network.trunks.open(opened);
            network.follow_trunks(now);
        }
        self.follow_network();
    }

    /// A connection for messages that take long: it needs a first link.
    fn data_opened(&mut self, opened: &Opened) {
        let ticket = self.take_ticket();
        let network = self.network.as_mut();
        if network.is_some_and(|network| network.trunks.open_data(opened, ticket)) {
            let attach = Attach {
                role: Role::Sender,
                source: Some(Source::default()),
                target: Some(Target::Node(TargetNode::default())),
                ..Attach::default()
            };
            let command = Command::Attach {
                connection: opened.connection,
                ticket,
                attach: Box::new(attach),
            };
            self.commands
                .push_back((Recipient::Worker(opened.worker), command));
        }
    }

    /// Whether a link that a peer has accepted is the first of a connection for messages that take
    /// long.
    fn data_attached(&mut self, ticket: Ticket, link: &RouterLink, now: Instant) -> bool {
        let Some(network) = &mut self.network else {
            return false;
        };
        let known = network.trunks.data_attached(ticket, link);
        network.follow_trunks(now);
        known
    }

    /// A connection is gone, and all its links before it.
    pub(crate) fn closed(&mut self, connection: u64, now: Instant) {
        if let Some(network) = &mut self.network {
            network.trunks.closed(connection);
            network.follow_trunks(now);
        }
        self.uplink_closed(connection, now);
        self.edge_closed(connection);
        self.container_closed(connection);
        self.follow_network();
    }

    /// A neighbour has accepted a link.
    pub(crate) fn attached(&mut self, link: &RouterLink, now: Instant) {
        let ticket = link.ticket();
        if ticket.is_some_and(|ticket| self.auto_link_attached(ticket, link, now)) {
            return self.follow_network();
        }
        self.add_router_link(link);
        match ticket {
            None => {
                if let Some(network) = &mut self.network {
                    let trunks = &mut network.trunks;
                    trunks.add_link(link.connection, link.link, link.purpose, link.capacity);
                    network.follow_trunks(now);
                }
            }
            Some(ticket) if self.data_attached(ticket, link, now) => {}
            Some(ticket) => self.proxy_attached(ticket, link),
        }
        self.follow_network();
    }

    /// A neighbour says something on its control link.
    pub(crate) fn heard(&mut self, link: LinkRef, message: &Bytes, now: Instant) {
        let Some(filed) = self.filed(link) else {
            return;
        };
        let (connection, kind) = (filed.connection, filed.kind);
        match (kind, &mut self.network, &self.uplink) {
            (LinkKind::Notices(_), _, Some(_)) => self.bid_heard(connection, message),
            (LinkKind::Notices(_), ..) => self.mesh_announced(connection, message, now),
            (_, _, Some(_)) => self.tracked(link, message),
            (_, Some(network), None) => network.heard(connection, message, now),
            (_, None, None) => {}
        }
        self.follow_network();
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let network = match &self.uplink {
            Some(uplink) => uplink.poll_timeout(),
            None => (self.network.as_ref()).and_then(|network| network.mesh.poll_timeout()),
        };
        network
            .into_iter()
            .chain(self.auto_links.poll_timeout())
            .chain(self.former_until)
            .min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.retry_auto_links(now);
        self.forget_former_name(now);
        self.handle_uplink_timeout(now);
        if let Some(network) = &mut self.network {
            network.mesh.handle_timeout(now);
            network.changed(now);
        }
        self.follow_network();
    }

    /// Something about the network that an operator wants to read.
    pub(crate) fn poll_notice(&mut self) -> Option<Notice> {
        self.network.as_mut()?.notices.pop_front()
    }

    /// What policy has not let a neighbour say.
    pub(crate) fn poll_neighbour_denial(&mut self) -> Option<NeighbourDenial> {
        self.network.as_mut()?.denials.pop_front()
    }

    /// Something about the connections to neighbours that an operator wants to read.
    pub(crate) fn poll_trunk_notice(&mut self) -> Option<TrunkNotice> {
        self.network.as_mut()?.trunk_notices.pop_front()
    }

    /// When the network last changed, as this router knows it.
    pub(crate) fn last_change(&self) -> Option<Instant> {
        self.network.as_ref()?.mesh.last_change()
    }

    /// How often the ways to other routers have become others.
    pub(crate) fn route_changes(&self) -> u64 {
        let network = self.network.as_ref();
        network.map_or(0, |network| network.mesh.route_changes())
    }

    /// How many other routers are known.
    pub(crate) fn router_count(&self) -> usize {
        let network = self.network.as_ref();
        network.map_or(0, |network| network.mesh.router_count())
    }

    /// Every other router that is known.
    pub(crate) fn routers(&self) -> Vec<RouterStatus> {
        let network = self.network.as_ref();
        network.map_or_else(Vec::new, |network| network.mesh.routers().collect())
    }

    /// Deliveries to an address that are on their way to other routers, by neighbour.
    pub(crate) fn outstanding(&self, entry: &AddressEntry) -> Vec<u64> {
        let network = self.network.as_ref();
        network.map_or_else(Vec::new, |network| network.topology.outstanding(entry))
    }

    /// The id of a router.
    pub(crate) fn router(&self, index: RouterIndex) -> Option<String> {
        let network = self.network.as_ref()?;
        let route = network.routes.get(crate::mesh::RouterIndex(index.0))?;
        Some(route.id.to_string())
    }

    /// Decides about a link of the kind that only routers have; `None` if it is not of this kind.
    pub(super) fn attach_router_link(
        &mut self,
        request: &AttachRequest,
        now: Instant,
    ) -> Option<Result<Accepted, Error>> {
        let control = has_capability(request, &control_capability());
        if !control && !has_capability(request, &data_capability()) {
            let premature = request.role == ConnectionRole::InterRouter
                && !self.network.as_ref().is_some_and(|network| {
                    let trunk = network.trunks.get(request.connection);
                    trunk.is_some_and(Trunk::has_control)
                });
            let error = || Error::new("qd:connection-role", "this connection is for routers");
            return premature.then(|| Err(error()));
        }
        let trunk = self
            .network
            .as_mut()
            .filter(|_| request.role == ConnectionRole::InterRouter)
            .and_then(|network| network.trunks.get_mut(request.connection));
        let Some(trunk) = trunk else {
            let text = "links of routers are for connections of the role inter-router";
            return Some(Err(Error::new("qd:forbidden", text)));
        };
        let purpose = match control {
            true => Purpose::Control,
            false => trunk.next_data(request.link.direction),
        };
        if let Some(network) = &mut self.network {
            let trunks = &mut network.trunks;
            trunks.add_link(request.connection, request.link, purpose, request.capacity);
            network.follow_trunks(now);
        }
        Some(Ok(Accepted {
            source: request.attach.source.clone(),
            target: request.attach.target.clone(),
            address: None,
            kind: match purpose {
                Purpose::Control => LinkKind::RouterControl,
                Purpose::Data(_) | Purpose::Stream | Purpose::Proxy(_) => LinkKind::RouterData,
            },
            priority: purpose.priority(),
        }))
    }

    /// Whether routers speak by a connection.
    pub(super) fn is_trunk(&self, connection: u64) -> bool {
        let network = self.network.as_ref();
        network.is_some_and(|network| network.trunks.get(connection).is_some())
    }

    /// Tells the network whether this router has consumers of an address.
    pub(super) fn advertise(&mut self, id: crate::control::table::AddressId) {
        self.review_proxies(id);
        let mesh = self.address(id).and_then(|address| self.sole_mesh(address));
        let (Some(network), Some(address)) = (&mut self.network, self.addresses.get(id.index()))
        else {
            return;
        };
        let entry = &address.entry;
        // Every router has a management agent of its own under this name.
        if !matches!(entry.key.class(), 'M' | 'N' | 'H') || entry.key.text() == "$management" {
            return;
        }
        if address.consumers() == 0 {
            network.mesh.remove_local_address(&entry.key);
        } else {
            let local = LocalAddress {
                treatment: entry.treatment,
                in_links: u32::try_from(address.producers).unwrap_or(u32::MAX),
                mesh,
                prompt: entry.is_prompt(),
            };
            network.mesh.set_local_address(entry.key.clone(), local);
        }
    }

    /// Carries out what the network asks for.
    pub(super) fn follow_network(&mut self) {
        while let Some(effect) = self
            .network
            .as_mut()
            .and_then(|network| network.effects.pop_front())
        {
            match effect {
                Effect::Tell { link, message } => {
                    let command = Command::Tell { link, message };
                    self.commands
                        .push_back((Recipient::Worker(link.worker), command));
                }
                Effect::Detach(link) => self.detach_own(link),
                Effect::GiveBack(link) => {
                    let command = Command::GiveBack { link };
                    self.commands
                        .push_back((Recipient::Worker(link.worker), command));
                }
                Effect::Close(worker, connection, error) => {
                    let command = Command::Close { connection, error };
                    self.commands
                        .push_back((Recipient::Worker(worker), command));
                }
                Effect::Topology(topology) => {
                    let update = Command::Table(TableUpdate::Topology(topology));
                    self.commands.push_back((Recipient::Everyone, update));
                }
                Effect::Remote(router, key, info) => {
                    self.set_remote(router, key, info);
                }
                Effect::Router(key, router, reachable) => {
                    let info = reachable.then_some(RemoteAddress {
                        treatment: Some(Treatment::Closest),
                        mesh: None,
                        prompt: false,
                    });
                    self.set_remote(router, key, info);
                }
            }
        }
    }

    /// A router has consumers of an address, of which it says this; or it no longer has any.
    fn set_remote(&mut self, router: RouterIndex, key: AddressKey, info: Option<RemoteAddress>) {
        let id = match (info, self.by_key.get(&key)) {
            (_, Some(&id)) => id,
            (Some(info), None) => {
                let treatment = self.learnt_treatment(&key, info.treatment);
                self.find_or_make(key, treatment)
            }
            (None, None) => return,
        };
        let knows_prompt = self.knows_prompt();
        let address = &mut self.addresses[id.index()];
        let known = address
            .entry
            .remotes
            .iter()
            .position(|remote| remote.router == router);
        let is_of_one = address.entry.key.class() == 'H';
        let side = |mesh: Option<_>| Side::NONE.within(mesh.filter(|_| !is_of_one));
        match (info, known) {
            (Some(info), None) => {
                let remote = Remote {
                    router,
                    side: side(info.mesh),
                    prompt: info.prompt && knows_prompt,
                    load: Arc::new(LinkLoad::default()),
                };
                Arc::make_mut(&mut address.entry).remotes.push(remote);
            }
            (Some(info), Some(at)) => {
                let remote = &mut Arc::make_mut(&mut address.entry).remotes[at];
                remote.side = side(info.mesh);
                remote.prompt = info.prompt && knows_prompt;
            }
            (None, Some(at)) => {
                Arc::make_mut(&mut address.entry).remotes.remove(at);
            }
            _ => return,
        }
        self.publish(id);
        self.remove_if_unused(id);
    }
}

fn of(neighbour: NeighbourIndex) -> NeighbourId {
    NeighbourId(neighbour.0)
}

/// Where a message goes.
fn destination(annotations: &RouterAnnotations<'_>, bare: &[u8]) -> Option<String> {
    if let Some(to) = annotations.to {
        return Some(to.to_owned());
    }
    let Progress::Complete(view) = MessageView::parse_annotations(bare) else {
        return None;
    };
    match view.to() {
        Progress::Complete(to) => to.map(str::to_owned),
        _ => None,
    }
}

fn has_capability(request: &AttachRequest, wanted: &Symbol) -> bool {
    let source = |source: &Source| source.capabilities.contains(wanted);
    let target = |target: &Target| match target {
        Target::Node(node) => node.capabilities.contains(wanted),
        Target::Coordinator { .. } => false,
    };
    request.attach.source.as_ref().is_some_and(source)
        || request.attach.target.as_ref().is_some_and(target)
}
