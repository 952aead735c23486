//! An edge router's way into the network (`reference/router/inter-router-protocol.md` §7).
//!
//! An edge router takes no part in what interior routers tell each other. It has a connection to
//! one of them, and there it is a client of a kind: it attaches a receiver for every address that
//! somebody here receives from, and a sender for every address that somebody here sends to. Which
//! of the latter lead anywhere the interior router says; only then they are destinations. What is
//! addressed one by one goes by one sender for all, and what is for this router alone comes by a
//! receiver of its own.
//!
//! One connection is used at a time. Others that are open take over when it is lost.
//!
//! Whoever attaches a sender to a multicast address is answered when the network has said whether
//! it receives too: what is sent then reaches everyone from the first message on.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::codec::{
    Attach, Body, Message, Progress, Role, RouterAnnotations, Source, Symbol, Target, TargetNode,
    Value,
};
use crate::control::address::{AddressKey, UPLINK};
use crate::control::links::{Command, Control, LeadsTo, Recipient};
use crate::control::network::Opened;
use crate::control::role::Role as ConnectionRole;
use crate::control::table::{
    AddressId, Destination, Direction, LinkRef, Outlet, Side, TableUpdate, Treatment, WorkerId,
};
use crate::control::topology::Topology;
use crate::control::trunk::{Purpose, RouterLink, Ticket};

/// The connections of an edge router into the network.
#[derive(Debug, Default)]
pub(super) struct Uplink {
    /// Those that are open, the oldest first.
    open: Vec<(u64, WorkerId)>,
    active: Option<Active>,
    notices: VecDeque<UplinkNotice>,
    held: Vec<Held>,
    /// What was held and is no longer; it comes after what else there is to do, since the answer
    /// that it waited for comes in the company of what is to be known.
    ready: VecDeque<(Recipient, Command)>,
}

/// An answer to somebody who wants to send to a multicast address.
#[derive(Debug)]
struct Held {
    address: AddressId,
    until: Instant,
    answer: (Recipient, Command),
}

/// The connection in use.
#[derive(Debug)]
struct Active {
    connection: u64,
    worker: WorkerId,
    /// The links that it is to have.
    links: HashMap<Ticket, Proxy>,
    by_link: HashMap<LinkRef, Ticket>,
    addresses: HashMap<AddressId, Proxies>,
}

#[derive(Debug)]
struct Proxy {
    purpose: Kind,
    /// The link, once the peer has accepted it.
    link: Option<RouterLink>,
    /// The number under which it is among its address's consumers.
    consumer: Option<u64>,
}

/// What a link into the network is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// For messages that are addressed one by one.
    Uplink,
    /// For messages to this router.
    Downlink,
    /// To learn which addresses somebody receives from.
    Tracking,
    /// From an address that somebody here receives from.
    Receiver(AddressId),
    /// To an address that somebody here sends to.
    Sender(AddressId),
}

/// The links of one address.
#[derive(Debug, Default)]
struct Proxies {
    receiver: Option<Ticket>,
    sender: Option<Ticket>,
    /// Somebody in the network receives from it.
    reachable: bool,
}

/// What an operator wants to know of an edge router's way into the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UplinkNotice {
    Established(u64),
    Lost(u64),
}

impl fmt::Display for UplinkNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Established(id) => {
                write!(f, "Edge connection (id={id}) to interior established")
            }
            Self::Lost(id) => write!(f, "Edge connection (id={id}) to interior lost"),
        }
    }
}

impl Uplink {
    pub(super) fn poll_ready(&mut self) -> Option<(Recipient, Command)> {
        self.ready.pop_front()
    }

    /// When the first answer is late that has been held.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.held.iter().map(|held| held.until).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.release(|held| held.until <= now);
    }

    fn release(&mut self, which: impl Fn(&Held) -> bool) {
        let released = self.held.extract_if(.., |held| which(held));
        self.ready.extend(released.map(|held| held.answer));
    }
}

impl Control {
    /// Whether somebody who wants to send must wait for what the network says of the address.
    pub(super) fn must_wait(&self, link: LinkRef, id: AddressId) -> bool {
        let address = self.address(id);
        let multicast = address.is_some_and(|one| one.entry.treatment == Treatment::Multicast);
        if !multicast || link.direction != Direction::Incoming {
            return false;
        }
        let asked = self.active().and_then(|active| {
            let ticket = active.addresses.get(&id)?.sender?;
            active.links.get(&ticket)
        });
        asked.is_some_and(|proxy| proxy.link.is_none())
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

    /// Makes this an edge router.
    pub(crate) fn become_edge(&mut self) {
        self.uplink = Some(Box::default());
        // It knows of no other router, so it cannot tell how far is too far.
        let topology = Topology {
            radius: u32::MAX - 1,
            ..Topology::default()
        };
        let update = Command::Table(TableUpdate::Topology(Arc::new(topology)));
        self.commands.push_back((Recipient::Everyone, update));
    }

    /// Something about the way into the network that an operator wants to read.
    pub(crate) fn poll_uplink_notice(&mut self) -> Option<UplinkNotice> {
        self.uplink.as_mut()?.notices.pop_front()
    }

    /// The connection by which an edge router is in the network.
    #[cfg(test)]
    pub(crate) fn active_uplink(&self) -> Option<u64> {
        Some(self.uplink.as_ref()?.active.as_ref()?.connection)
    }

    /// A connection has been opened, which may lead into the network.
    pub(super) fn uplink_opened(&mut self, opened: &Opened) {
        let Some(uplink) = &mut self.uplink else {
            return;
        };
        if opened.role != ConnectionRole::Edge {
            return;
        }
        uplink.open.push((opened.connection, opened.worker));
        if uplink.active.is_none() {
            self.enter();
        }
    }

    /// A connection is gone, and all its links before it.
    pub(super) fn uplink_closed(&mut self, connection: u64) {
        let Some(uplink) = &mut self.uplink else {
            return;
        };
        uplink.open.retain(|(open, _)| *open != connection);
        if uplink
            .active
            .take_if(|active| active.connection == connection)
            .is_some()
        {
            uplink.release(|_| true);
            uplink.notices.push_back(UplinkNotice::Lost(connection));
            self.enter();
        }
    }

    /// Makes the oldest open connection the way into the network.
    fn enter(&mut self) {
        let Some(uplink) = &mut self.uplink else {
            return;
        };
        let Some(&(connection, worker)) = uplink.open.first() else {
            return;
        };
        let notice = UplinkNotice::Established(connection);
        uplink.notices.push_back(notice);
        uplink.active = Some(Active {
            connection,
            worker,
            links: HashMap::new(),
            by_link: HashMap::new(),
            addresses: HashMap::new(),
        });
        for kind in [Kind::Uplink, Kind::Downlink, Kind::Tracking] {
            self.ask(kind);
        }
        for id in self.addresses().map(|one| one.entry.id).collect::<Vec<_>>() {
            self.review_proxies(id);
        }
    }

    /// Has the worker of the way into the network attach a link there.
    fn ask(&mut self, kind: Kind) -> Option<Ticket> {
        let attach = self.attach_for(kind);
        let ticket = self.take_ticket();
        let active = self.active_mut()?;
        let proxy = Proxy {
            purpose: kind,
            link: None,
            consumer: None,
        };
        active.links.insert(ticket, proxy);
        let command = Command::Attach {
            connection: active.connection,
            ticket,
            attach: Box::new(attach),
        };
        let recipient = Recipient::Worker(active.worker);
        self.commands.push_back((recipient, command));
        Some(ticket)
    }

    fn attach_for(&self, kind: Kind) -> Attach {
        let text = |id: AddressId| {
            let address = self.address(id);
            address.map(|address| address.entry.key.text().to_owned())
        };
        let downlink = || vec![downlink_capability()];
        let (mut source, mut target) = (Source::default(), TargetNode::default());
        match kind {
            Kind::Uplink => {}
            Kind::Downlink => {
                source.address = Some(self.identity.id.clone());
                source.capabilities = downlink();
                target.capabilities = downlink();
            }
            Kind::Tracking => source.address = Some(TRACKING.to_owned()),
            Kind::Receiver(id) => source.address = text(id),
            Kind::Sender(id) => target.address = text(id),
        }
        Attach {
            role: match kind {
                Kind::Uplink | Kind::Sender(_) => Role::Sender,
                Kind::Downlink | Kind::Tracking | Kind::Receiver(_) => Role::Receiver,
            },
            source: Some(source),
            target: Some(Target::Node(target)),
            ..Attach::default()
        }
    }

    /// Sees to it that an address has the links into the network that it needs.
    pub(super) fn review_proxies(&mut self, id: AddressId) {
        let (Some(active), Some(address)) = (self.active(), self.addresses.get(id.index())) else {
            return;
        };
        let key = &address.entry.key;
        if key.class() != 'M' || key.text() == "$management" {
            return;
        }
        let consumed = (address.entry.destinations.iter()).any(|one| one.side != Side::NETWORK);
        let produced = address.producers > 0 || self.is_watched(key);
        let (receiver, had) = match active.addresses.get(&id) {
            Some(proxies) => (proxies.receiver, proxies.sender),
            None => (None, None),
        };
        let receiver = self.wanted(receiver, consumed, Kind::Receiver(id));
        let sender = self.wanted(had, produced, Kind::Sender(id));
        if sender.is_none() {
            self.release_attaches(id);
        }
        let Some(active) = self.active_mut() else {
            return;
        };
        if receiver.or(sender).is_none() {
            active.addresses.remove(&id);
            return;
        }
        let proxies = active.addresses.entry(id).or_default();
        (proxies.receiver, proxies.sender) = (receiver, sender);
        proxies.reachable &= sender.is_some();
    }

    fn release_attaches(&mut self, id: AddressId) {
        if let Some(uplink) = &mut self.uplink {
            uplink.release(|held| held.address == id);
        }
    }

    /// Asks for a link, or gives it up.
    fn wanted(&mut self, have: Option<Ticket>, want: bool, kind: Kind) -> Option<Ticket> {
        match (have, want) {
            (None, true) => self.ask(kind),
            (Some(ticket), false) => {
                self.give_back(ticket);
                None
            }
            _ => have,
        }
    }

    /// Detaches a link, or will when the peer has accepted it.
    fn give_back(&mut self, ticket: Ticket) {
        self.unbind(ticket);
        let Some(active) = self.active_mut() else {
            return;
        };
        let link = active.links.remove(&ticket).and_then(|proxy| proxy.link);
        if let Some(link) = link {
            active.by_link.remove(&link.link);
            self.detach_own(link.link);
        }
    }

    /// Detaches a link that this router has attached.
    pub(super) fn detach_own(&mut self, link: LinkRef) {
        let recipient = Recipient::Worker(link.worker);
        let command = Command::Detach { link };
        self.commands.push_back((recipient, command));
    }

    /// The peer has accepted a link.
    pub(super) fn proxy_attached(&mut self, ticket: Ticket, link: &RouterLink) {
        let reference = link.link;
        let asked = self.active_mut().and_then(|active| {
            let proxy = active.links.get_mut(&ticket)?;
            proxy.link = Some(link.clone());
            active.by_link.insert(reference, ticket);
            Some(proxy.purpose)
        });
        let leads_to = match asked {
            None => return self.detach_own(reference),
            Some(Kind::Uplink) => return self.bind(ticket),
            Some(Kind::Sender(id)) => {
                self.release_attaches(id);
                let proxies = self.active().and_then(|active| active.addresses.get(&id));
                if proxies.is_some_and(|proxies| proxies.reachable) {
                    self.bind(ticket);
                }
                return;
            }
            Some(Kind::Downlink) => LeadsTo::EachMessage,
            Some(Kind::Tracking) => LeadsTo::Control,
            Some(Kind::Receiver(id)) => LeadsTo::Address(id),
        };
        let command = Command::Open {
            link: reference,
            leads_to,
            address: None,
        };
        let recipient = Recipient::Worker(reference.worker);
        self.commands.push_back((recipient, command));
    }

    /// A link into the network is gone. True if it was one.
    pub(super) fn proxy_lost(&mut self, link: LinkRef) -> bool {
        let Some(active) = self.active_mut() else {
            return false;
        };
        let Some(ticket) = active.by_link.remove(&link) else {
            return false;
        };
        self.unbind(ticket);
        let Some(active) = self.active_mut() else {
            return true;
        };
        let purpose = active.links.remove(&ticket).map(|proxy| proxy.purpose);
        if let Some(Kind::Receiver(id) | Kind::Sender(id)) = purpose
            && let Some(proxies) = active.addresses.get_mut(&id)
        {
            proxies.receiver.take_if(|one| *one == ticket);
            proxies.sender.take_if(|one| *one == ticket);
        }
        if let Some(Kind::Sender(id)) = purpose {
            self.release_attaches(id);
        }
        true
    }

    /// The network tells whether somebody receives from an address.
    pub(super) fn tracked(&mut self, link: LinkRef, message: &Bytes) {
        let tracking = self.active().is_some_and(|active| {
            let ticket = active.by_link.get(&link);
            let proxy = ticket.and_then(|ticket| active.links.get(ticket));
            proxy.is_some_and(|proxy| proxy.purpose == Kind::Tracking)
        });
        let Some((key, reachable)) = read_tracking(message).filter(|_| tracking) else {
            return;
        };
        let Some(&id) = self.by_key.get(&*key) else {
            return;
        };
        let sender = self.active_mut().and_then(|active| {
            let proxies = active.addresses.get_mut(&id)?;
            proxies.reachable = reachable && proxies.sender.is_some();
            proxies.sender
        });
        match (sender, reachable) {
            (Some(sender), true) => self.bind(sender),
            (Some(sender), false) => self.unbind(sender),
            (None, _) => {}
        }
    }

    /// Makes a link one of its address's destinations.
    fn bind(&mut self, ticket: Ticket) {
        let proxy = (self.active()).and_then(|active| active.links.get(&ticket));
        let Some(Proxy {
            purpose,
            link: Some(link),
            consumer: None,
        }) = proxy
        else {
            return;
        };
        let Some(load) = link.load.clone() else {
            return;
        };
        let (purpose, capacity, reference) = (*purpose, link.capacity, link.link);
        let id = match purpose {
            Kind::Sender(id) => id,
            _ => self.find_or_make(AddressKey::local(&UPLINK[1..]), Treatment::Closest),
        };
        let consumer = self.take_link_number();
        let destination = Destination {
            outlet: Outlet::Link {
                worker: reference.worker,
                link: reference.slot,
                to_router: true,
            },
            side: Side::NETWORK,
            capacity,
            load,
        };
        let address = &mut self.addresses[id.index()];
        address.consumers.push(consumer);
        Arc::make_mut(&mut address.entry)
            .destinations
            .push(destination);
        if let Some(active) = self.active_mut()
            && let Some(proxy) = active.links.get_mut(&ticket)
        {
            proxy.consumer = Some(consumer);
        }
        self.publish(id);
    }

    /// A link is no longer one of its address's destinations.
    fn unbind(&mut self, ticket: Ticket) {
        let active = self.active_mut();
        let proxy = active.and_then(|active| active.links.get_mut(&ticket));
        let Some(proxy) = proxy else { return };
        let Some(consumer) = proxy.consumer.take() else {
            return;
        };
        let id = match proxy.purpose {
            Kind::Sender(id) => Some(id),
            _ => self.by_key.get(UPLINK).copied(),
        };
        let address = id.and_then(|id| self.addresses.get_mut(id.index()));
        let Some(address) = address else { return };
        let mut consumers = address.consumers.iter();
        if let Some(at) = consumers.position(|other| *other == consumer) {
            address.consumers.remove(at);
            let entry = Arc::make_mut(&mut address.entry);
            entry.destinations.remove(at);
            let id = entry.id;
            self.publish(id);
            self.remove_if_unused(id);
        }
    }

    fn active(&self) -> Option<&Active> {
        self.uplink.as_ref()?.active.as_ref()
    }

    fn active_mut(&mut self) -> Option<&mut Active> {
        self.uplink.as_mut()?.active.as_mut()
    }
}

impl RouterLink {
    /// The ticket of a link into the network.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self.purpose {
            Purpose::Proxy(ticket) => Some(ticket),
            _ => None,
        }
    }
}

/// Reads which address has, or no longer has, somebody who receives from it.
fn read_tracking(message: &Bytes) -> Option<(String, bool)> {
    let Progress::Complete(length) = RouterAnnotations::measure(message) else {
        return None;
    };
    let message = Message::decode(&message[length..]).ok()?;
    let Body::Value(Value::List(fields)) = message.body else {
        return None;
    };
    match &fields[..] {
        [Value::String(key), Value::Bool(reachable)] => Some((key.to_string(), *reachable)),
        _ => None,
    }
}

/// The capability of the link by which an interior router sends what is for an edge router.
pub(crate) fn downlink_capability() -> Symbol {
    Symbol::from_static("qd.router-edge-downlink")
}

/// How long a sender waits for what the network has to say.
const PATIENCE: Duration = Duration::from_secs(1);

/// The node where an edge router learns which addresses somebody receives from.
pub(crate) const TRACKING: &str = "_$qd.edge_addr_tracking";

#[cfg(test)]
mod tests;
