//! An edge router's ways to others (`reference/router/inter-router-protocol.md` §7).
//!
//! An edge router takes no part in what interior routers tell each other. It has a connection to
//! one of them, and there it is a client of a kind: it attaches a receiver for every address that
//! somebody here receives from, and a sender for every address that somebody here sends to. Which
//! of the latter lead anywhere the interior router says; only then they are destinations. What is
//! addressed one by one goes by one sender for all, and what is for this router alone comes by a
//! receiver of its own.
//!
//! One connection to an interior router is used at a time. Others that are open take over when it
//! is lost; one to the same router that was made with newer credentials (a higher ordinal) takes over
//! at once, link by link, and what is on its way by the old ones still arrives. One to another router
//! does so only when that has been waited for in vain.
//!
//! A connection carries nothing of an address before the interior router knows which mesh of edge
//! routers this one is in.
//!
//! Other edge routers of the same site may be connected, too ([`peers`]). From them this router
//! attaches receivers in the same way. Nothing that comes by any of these ways goes out by another.
//!
//! Whoever attaches a sender to a multicast address is answered when the network has said whether
//! it receives too: what is sent then reaches everyone from the first message on.

mod peers;
mod ways;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::peers::Peers;
use self::ways::{Kind, Way};
use crate::codec::Symbol;
use crate::control::edge_mesh::MeshId;
use crate::control::edges::Tracked;
use crate::control::links::{Command, Control, Recipient};
use crate::control::network::Opened;
use crate::control::role::Role as ConnectionRole;
use crate::control::table::{AddressId, Direction, LinkRef, TableUpdate, Treatment, WorkerId};
use crate::control::topology::Topology;

/// The connections of an edge router to other routers.
#[derive(Debug)]
pub(super) struct Uplink {
    /// Connections to interior routers that are open, the oldest first.
    open: Vec<Interior>,
    /// Of these, the one in use.
    active: Option<u64>,
    /// When newer credentials are followed to another interior router, as the one in use has none.
    moves: Option<Instant>,
    /// Connections by which this router has attached links: the one in use, those that it has
    /// succeeded, and those to other edge routers.
    ways: BTreeMap<u64, Way>,
    peers: Peers,
    notices: VecDeque<UplinkNotice>,
    held: Vec<Held>,
    /// What was held and is no longer; it comes after what else there is to do, since the answer
    /// that it waited for comes in the company of what is to be known.
    ready: VecDeque<(Recipient, Command)>,
}

/// A connection to an interior router.
#[derive(Clone, Debug)]
struct Interior {
    connection: u64,
    worker: WorkerId,
    /// Of the credentials that it was made with.
    ordinal: u64,
    /// Which router it is to.
    container: String,
}

/// An answer to somebody who wants to send to a multicast address.
#[derive(Debug)]
struct Held {
    address: AddressId,
    until: Instant,
    answer: (Recipient, Command),
}

/// What an operator wants to know of an edge router's ways to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UplinkNotice {
    Established(u64),
    /// A connection with newer credentials takes the place of another.
    Succeeded {
        old: u64,
        new: u64,
    },
    Lost(u64),
    /// Another edge router of the same site is connected.
    Peer(String),
    PeerLost(String),
    /// The edge routers of this site have agreed on a name, and the network knows it.
    Mesh(MeshId),
    /// An edge router says again and again that its mesh is another.
    Unsteady(u64),
}

impl UplinkNotice {
    /// Whether something is wrong.
    pub(crate) fn is_trouble(&self) -> bool {
        matches!(self, Self::Unsteady(_))
    }
}

impl fmt::Display for UplinkNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Established(id) => {
                write!(f, "Edge connection (id={id}) to interior established")
            }
            Self::Succeeded { old, new } => write!(
                f,
                "Upgrading Edge connection [C{old}] to [C{new}] due to certificate rotation"
            ),
            Self::Lost(id) => write!(f, "Edge connection (id={id}) to interior lost"),
            Self::Peer(name) => write!(f, "Edge peer detected: {name}"),
            Self::PeerLost(name) => write!(f, "Edge peer lost: {name}"),
            Self::Mesh(id) => {
                write!(f, "EDGE_MESH - Mesh identifier sent to Interior: {id}")
            }
            Self::Unsteady(id) => write!(
                f,
                "EDGE_MESH - The edge router of [C{id}] changes its mesh too often: \
                 what more it says of it is ignored"
            ),
        }
    }
}

impl Uplink {
    pub(super) fn poll_ready(&mut self) -> Option<(Recipient, Command)> {
        self.ready.pop_front()
    }

    /// When the first answer is late that has been held, a connection has been succeeded for long
    /// enough, or the network has not taken note in time of this router's mesh.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let held = self.held.iter().map(|held| held.until);
        let ways = self.ways.values();
        held.chain(ways.flat_map(|way| [way.until, way.waits]).flatten())
            .chain(self.moves)
            .min()
    }

    /// The connection to an interior router that is in use.
    fn active(&self) -> Option<&Way> {
        self.ways.get(&self.active?)
    }

    fn release(&mut self, which: impl Fn(&Held) -> bool) {
        let released = self.held.extract_if(.., |held| which(held));
        self.ready.extend(released.map(|held| held.answer));
    }

    /// The connection that is to be in use when there is none: of those with the newest credentials
    /// the oldest.
    fn foremost(&self) -> Option<&Interior> {
        self.foremost_of(|_| true)
    }

    fn foremost_of(&self, which: impl Fn(&Interior) -> bool) -> Option<&Interior> {
        let newest_last = self.open.iter().rev().filter(|one| which(one));
        newest_last.max_by_key(|one| one.ordinal)
    }

    /// The connection in use, as it was opened.
    fn in_use(&self) -> Option<&Interior> {
        let active = self.active?;
        self.open.iter().find(|one| one.connection == active)
    }

    /// A connection to the router of the one in use, made with newer credentials.
    fn successor(&self) -> Option<&Interior> {
        let old = self.in_use()?;
        self.foremost_of(|one| one.container == old.container && one.ordinal > old.ordinal)
    }

    /// A connection to whatever router, made with newer credentials than the one in use.
    fn newer(&self) -> Option<&Interior> {
        let old = self.in_use()?;
        self.foremost().filter(|one| one.ordinal > old.ordinal)
    }
}

impl Control {
    /// Makes this an edge router, which was `started` so many microseconds after the Unix epoch.
    pub(crate) fn become_edge(&mut self, started: i64) {
        self.uplink = Some(Box::new(Uplink {
            open: Vec::new(),
            active: None,
            moves: None,
            ways: BTreeMap::new(),
            peers: Peers::new(started, &mut self.random),
            notices: VecDeque::new(),
            held: Vec::new(),
            ready: VecDeque::new(),
        }));
        self.publish_mesh();
    }

    /// Tells workers what is to be known of an edge router's network.
    fn publish_mesh(&mut self) {
        let mesh = self.uplink.as_ref().map(|uplink| uplink.peers.mesh());
        // It knows of no other router, so it cannot tell how far is too far.
        let topology = Topology {
            radius: u32::MAX - 1,
            mesh,
            ..Topology::default()
        };
        let update = Command::Table(TableUpdate::Topology(Arc::new(topology)));
        self.commands.push_back((Recipient::Everyone, update));
    }

    /// Whether somebody who wants to send must wait for what the network says of the address.
    pub(super) fn must_wait(&self, link: LinkRef, id: AddressId) -> bool {
        let address = self.address(id);
        let multicast = address.is_some_and(|one| one.entry.treatment == Treatment::Multicast);
        if !multicast || link.direction != Direction::Incoming {
            return false;
        }
        let active = self.uplink.as_ref().and_then(|uplink| uplink.active());
        active.is_some_and(|active| active.asks_to_send(id))
    }

    pub(super) fn hold_attach(
        &mut self,
        address: AddressId,
        answer: (Recipient, Command),
        now: Instant,
    ) {
        if let Some(uplink) = &mut self.uplink {
            uplink.held.push(Held {
                address,
                until: now + PATIENCE,
                answer,
            });
        }
    }

    fn release_attaches(&mut self, id: AddressId) {
        if let Some(uplink) = &mut self.uplink {
            uplink.release(|held| held.address == id);
        }
    }

    /// Something about the ways to others that an operator wants to read.
    pub(crate) fn poll_uplink_notice(&mut self) -> Option<UplinkNotice> {
        match &mut self.uplink {
            Some(uplink) => uplink.notices.pop_front(),
            None => self.edges.notices.pop_front(),
        }
    }

    fn notify(&mut self, notice: UplinkNotice) {
        if let Some(uplink) = &mut self.uplink {
            uplink.notices.push_back(notice);
        }
    }

    /// Whether this is an edge router.
    pub(crate) fn is_edge(&self) -> bool {
        self.uplink.is_some()
    }

    /// The connection by which an edge router is in the network.
    pub(crate) fn active_uplink(&self) -> Option<u64> {
        self.uplink.as_ref()?.active
    }

    pub(super) fn handle_uplink_timeout(&mut self, now: Instant) {
        let Some(uplink) = &mut self.uplink else {
            return;
        };
        uplink.release(|held| held.until <= now);
        let ways = uplink.ways.iter();
        let over = ways.filter(|(_, way)| way.until.is_some_and(|until| until <= now));
        let over: Vec<_> = over.map(|(&id, _)| id).collect();
        let ways = uplink.ways.iter();
        let late = ways.filter(|(_, way)| way.waits.is_some_and(|until| until <= now));
        let late: Vec<_> = late.map(|(&id, _)| id).collect();
        let moves = uplink.moves.take_if(|due| *due <= now);
        let next = moves.and_then(|_| uplink.newer().cloned());
        for connection in over {
            self.leave_in_time(connection, now);
        }
        self.enter(next, now);
        for connection in late {
            self.attach_addresses(connection);
        }
    }

    /// A connection has been opened, which may lead to another router.
    pub(super) fn uplink_opened(&mut self, opened: &Opened, now: Instant) {
        let Some(uplink) = &mut self.uplink else {
            return;
        };
        match opened.role {
            ConnectionRole::InterEdge => return self.peer_opened(opened, now),
            ConnectionRole::Edge => {}
            _ => return,
        }
        uplink.open.push(Interior {
            connection: opened.connection,
            worker: opened.worker,
            ordinal: opened.ordinal,
            container: opened.container.clone(),
        });
        let next = match uplink.active {
            None => uplink.foremost(),
            Some(_) => uplink.successor(),
        };
        let next = next.cloned();
        self.enter(next, now);
        self.plan_move(now);
    }

    /// Newer credentials that only another interior router has been shown are followed there if the
    /// one in use is not shown them soon: the older may be cut off, and then the way there is lost.
    fn plan_move(&mut self, now: Instant) {
        if let Some(uplink) = &mut self.uplink {
            let due = uplink.moves.unwrap_or(now + STAY);
            uplink.moves = uplink.newer().map(|_| due);
        }
    }

    /// A connection is gone, and all its links before it.
    pub(super) fn uplink_closed(&mut self, connection: u64, now: Instant) {
        let Some(uplink) = &mut self.uplink else {
            return;
        };
        uplink.open.retain(|open| open.connection != connection);
        uplink.ways.remove(&connection);
        if uplink.active.take_if(|one| *one == connection).is_some() {
            uplink.release(|_| true);
            uplink.notices.push_back(UplinkNotice::Lost(connection));
            let next = uplink.foremost().cloned();
            self.enter(next, now);
        }
        self.plan_move(now);
        self.peer_closed(connection);
    }

    /// Makes a connection the way into the network, in place of the one in use.
    fn enter(&mut self, next: Option<Interior>, now: Instant) {
        let Some(next) = next else { return };
        let new = next.connection;
        // It may have been succeeded by one that is lost now.
        self.leave(new);
        let Some(uplink) = &mut self.uplink else {
            return;
        };
        let mut patience = PATIENCE;
        let notice = match uplink.active.replace(new) {
            None => UplinkNotice::Established(new),
            Some(old) => {
                // The old one serves meanwhile.
                patience = HANDOVER / 2;
                if let Some(way) = uplink.ways.get_mut(&old) {
                    way.until = Some(now + HANDOVER);
                }
                uplink.release(|_| true);
                UplinkNotice::Succeeded { old, new }
            }
        };
        uplink.notices.push_back(notice);
        let way = Way::to_interior(next.worker, Some(now + patience));
        uplink.ways.insert(new, way);
        for kind in [
            Kind::Uplink,
            Kind::Downlink,
            Kind::Tracking,
            Kind::Discovery,
        ] {
            self.ask(new, kind);
        }
    }

    /// Attaches the links of addresses to an interior router that knows this one's mesh by now:
    /// before, it would take this router's receivers for somebody whom others of the mesh have not
    /// reached.
    fn attach_addresses(&mut self, connection: u64) {
        let way = self.way_mut(connection);
        if way.and_then(|way| way.waits.take()).is_some() {
            self.review_all(connection);
        }
    }

    /// An interior router has taken note of what this one has told of its mesh.
    pub(crate) fn announced(&mut self, link: LinkRef) {
        let ways = self.uplink.iter().flat_map(|uplink| &uplink.ways);
        let mut ways = ways.filter(|(_, way)| way.kind_of(link) == Some(Kind::Discovery));
        if let Some(connection) = ways.next().map(|(&connection, _)| connection) {
            self.attach_addresses(connection);
        }
    }

    /// Gives up all links of a connection that stays open.
    fn leave(&mut self, connection: u64) {
        let uplink = self.uplink.as_ref();
        let way = uplink.and_then(|uplink| uplink.ways.get(&connection));
        for ticket in way.map(Way::tickets).unwrap_or_default() {
            self.give_back(ticket);
        }
        if let Some(uplink) = &mut self.uplink {
            uplink.ways.remove(&connection);
        }
    }

    /// Gives up the links of a connection that has been succeeded for long enough, if the peer has
    /// answered for all that are to take their place, and for all of theirs.
    fn leave_in_time(&mut self, connection: u64, now: Instant) {
        let Some(uplink) = &mut self.uplink else {
            return;
        };
        let Some(old) = uplink.ways.get(&connection) else {
            return;
        };
        let ways = uplink.ways.values();
        let mut newer = ways.filter(|way| way.until.is_none() && way.is_beside(old));
        if !old.awaits_late() && !newer.any(Way::awaits_links) {
            return self.leave(connection);
        }
        if let Some(way) = self.way_mut(connection) {
            way.until = Some(now + HANDOVER);
        }
    }

    /// Sees to it that every address has the links by a connection that it needs.
    fn review_all(&mut self, connection: u64) {
        for id in self.addresses().map(|one| one.entry.id).collect::<Vec<_>>() {
            self.review_way(connection, id);
        }
    }

    /// Sees to it that an address has the links to other routers that it needs.
    pub(super) fn review_proxies(&mut self, id: AddressId) {
        let Some(uplink) = &self.uplink else { return };
        for connection in uplink.ways.keys().copied().collect::<Vec<_>>() {
            self.review_way(connection, id);
        }
    }

    fn review_way(&mut self, connection: u64, id: AddressId) {
        let uplink = self.uplink.as_ref();
        let way = uplink.and_then(|uplink| uplink.ways.get(&connection));
        let (Some(way), Some(address)) = (way, self.addresses.get(id.index())) else {
            return;
        };
        let key = &address.entry.key;
        if key.class() != 'M' || key.text() == "$management" || way.waits.is_some() {
            return;
        }
        let (receiver, sender) = way.of_address(id);
        let destinations = &address.entry.destinations;
        let consumed = destinations.iter().any(|one| !one.side.is_network());
        let produced = way.is_interior() && (address.producers > 0 || self.is_watched(key));
        // One that has been succeeded gets nothing new.
        let last = way.until.is_some();
        let consumed = consumed && (!last || receiver.is_some());
        let produced = produced && (!last || sender.is_some());
        let active = uplink.and_then(|uplink| uplink.active) == Some(connection);
        let receiver = self.wanted(connection, receiver, consumed, Kind::Receiver(id));
        let sender = self.wanted(connection, sender, produced, Kind::Sender(id));
        if sender.is_none() && active {
            self.release_attaches(id);
        }
        if let Some(way) = self.way_mut(connection) {
            way.set_address(id, receiver, sender);
        }
    }

    /// The network tells whether somebody receives from an address.
    pub(super) fn tracked(&mut self, link: LinkRef, message: &Bytes) {
        let knows_prompt = self.knows_prompt();
        let uplink = self.uplink.as_mut();
        let Some(way) = uplink.and_then(|uplink| {
            let mut ways = uplink.ways.values_mut();
            ways.find(|way| way.kind_of(link) == Some(Kind::Tracking))
        }) else {
            return;
        };
        let Some((key, mut tracked)) = Tracked::decode(message) else {
            return;
        };
        tracked.prompt &= knows_prompt;
        let Some(&id) = self.by_key.get(&*key) else {
            return;
        };
        match (way.set_tracked(id, tracked), tracked.reachable) {
            (Some(sender), true) => {
                self.bind(sender);
                self.follow_promptness(sender, id, tracked.prompt);
            }
            (Some(sender), false) => self.unbind(sender),
            (None, _) => {}
        }
    }
}

/// The capability of the link by which an interior router sends what is for an edge router.
pub(crate) fn downlink_capability() -> Symbol {
    Symbol::from_static("qd.router-edge-downlink")
}

/// The capability of connections between edge routers, and of the links by which they send what is
/// for each other.
pub(crate) fn inter_edge_capability() -> Symbol {
    Symbol::from_static("qd.router-inter-edge")
}

/// How long a sender, or a new connection, waits for what the network has to say.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long an edge router waits for a connection with newer credentials to the interior router that
/// it is connected to, while it has one to another: longer than a connector waits that has failed.
const STAY: Duration = Duration::from_secs(10);

/// How long a connection that has been succeeded keeps links that the new one has not got, at least.
const HANDOVER: Duration = Duration::from_secs(10);

/// The node where an edge router learns which addresses somebody receives from.
pub(crate) const TRACKING: &str = "_$qd.edge_addr_tracking";

#[cfg(test)]
mod tests;
