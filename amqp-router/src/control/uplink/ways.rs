//! The links that an edge router attaches to other routers, connection by connection.

use std::collections::HashMap;

use super::{TRACKING, downlink_capability, inter_edge_capability};
use crate::codec::{Attach, Role, Source, Target, TargetNode};
use crate::control::address::{AddressKey, UPLINK};
use crate::control::edge_mesh::{DISCOVERY, NEGOTIATION};
use crate::control::edges::{Tracked, say_prompt};
use crate::control::links::{Command, Control, LeadsTo, Recipient};
use crate::control::table::{
    AddressId, Destination, Direction, LinkRef, Outlet, Side, Treatment, WorkerId,
};
use crate::control::trunk::{Purpose, RouterLink, Ticket};
use std::sync::Arc;
use std::time::Instant;

/// A connection, and the links by it.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) worker: WorkerId,
    /// The edge router that it leads to; else it is an interior one.
    peer: Option<String>,
    /// The links that it is to have.
    links: HashMap<Ticket, Proxy>,
    by_link: HashMap<LinkRef, Ticket>,
    addresses: HashMap<AddressId, Proxies>,
    /// What links are from, or for, that were given up before the peer has accepted them.
    late: HashMap<Ticket, (Kind, Option<AddressKey>)>,
    /// Until the network knows which mesh this router is in, or until then at most, addresses have
    /// no links.
    pub(super) waits: Option<Instant>,
    /// Another has taken its place; it keeps no link beyond this.
    pub(super) until: Option<Instant>,
}

#[derive(Debug)]
struct Proxy {
    kind: Kind,
    /// The link, once the peer has accepted it.
    link: Option<RouterLink>,
    /// The number under which it is among its address's consumers.
    consumer: Option<u64>,
}

/// What a link to another router is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// For messages that are addressed one by one.
    Uplink,
    /// For messages to this router.
    Downlink,
    /// To learn which addresses somebody receives from.
    Tracking,
    /// To tell the network of this router's mesh.
    Discovery,
    /// For messages to another edge router.
    Summary,
    /// To agree with another edge router on the name of their mesh.
    Bids,
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
    /// Who in the network receives from it.
    tracked: Tracked,
}

impl Way {
    pub(super) fn to_interior(worker: WorkerId, waits: Option<Instant>) -> Self {
        Self {
            worker,
            peer: None,
            links: HashMap::new(),
            by_link: HashMap::new(),
            addresses: HashMap::new(),
            late: HashMap::new(),
            waits,
            until: None,
        }
    }

    pub(super) fn to_peer(worker: WorkerId, name: String) -> Self {
        Self {
            peer: Some(name),
            ..Self::to_interior(worker, None)
        }
    }

    pub(super) fn is_interior(&self) -> bool {
        self.peer.is_none()
    }

    pub(super) fn tickets(&self) -> Vec<Ticket> {
        self.links.keys().copied().collect()
    }

    /// Whether both lead to the same edge router, or both into the network.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.peer == other.peer
    }

    /// Whether the peer has yet to accept a link, or all of them.
    pub(super) fn awaits_links(&self) -> bool {
        self.waits.is_some() || self.links.values().any(|proxy| proxy.link.is_none())
    }

    /// Whether the peer may yet accept a link that has been given up.
    pub(super) fn awaits_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// What a link is for.
    pub(super) fn kind_of(&self, link: LinkRef) -> Option<Kind> {
        let ticket = self.by_link.get(&link)?;
        self.links.get(ticket).map(|proxy| proxy.kind)
    }

    /// The link of a kind that a connection has one of, once it is attached.
    pub(super) fn link(&self, kind: Kind) -> Option<LinkRef> {
        let mut links = self.links.values();
        let proxy = links.find(|proxy| proxy.kind == kind)?;
        proxy.link.as_ref().map(|link| link.link)
    }

    /// The links of an address: from it, and to it.
    pub(super) fn of_address(&self, id: AddressId) -> (Option<Ticket>, Option<Ticket>) {
        let proxies = self.addresses.get(&id);
        proxies.map_or((None, None), |proxies| (proxies.receiver, proxies.sender))
    }

    pub(super) fn set_address(
        &mut self,
        id: AddressId,
        receiver: Option<Ticket>,
        sender: Option<Ticket>,
    ) {
        if receiver.or(sender).is_none() {
            self.addresses.remove(&id);
            return;
        }
        let proxies = self.addresses.entry(id).or_default();
        (proxies.receiver, proxies.sender) = (receiver, sender);
        if sender.is_none() {
            proxies.tracked = Tracked::default();
        }
    }

    /// Takes note of who receives from an address; gives the link to it.
    pub(super) fn set_tracked(&mut self, id: AddressId, tracked: Tracked) -> Option<Ticket> {
        let proxies = self.addresses.get_mut(&id)?;
        let sender = proxies.sender?;
        proxies.tracked = tracked;
        Some(sender)
    }

    /// Whether a link to an address has been asked for that the peer has not accepted yet, or will
    /// be.
    pub(super) fn asks_to_send(&self, id: AddressId) -> bool {
        if self.waits.is_some() {
            return true;
        }
        let (_, sender) = self.of_address(id);
        let sender = sender.and_then(|ticket| self.links.get(&ticket));
        sender.is_some_and(|proxy| proxy.link.is_none())
    }

    fn tracked(&self, id: AddressId) -> Tracked {
        let proxies = self.addresses.get(&id);
        proxies.map_or_else(Tracked::default, |proxies| proxies.tracked)
    }

    /// Forgets a link.
    fn take(&mut self, ticket: Ticket) -> Option<Proxy> {
        let proxy = self.links.remove(&ticket)?;
        if let Some(link) = &proxy.link {
            self.by_link.remove(&link.link);
        }
        if let Kind::Receiver(id) | Kind::Sender(id) = proxy.kind
            && let Some(proxies) = self.addresses.get_mut(&id)
        {
            proxies.receiver.take_if(|one| *one == ticket);
            proxies.sender.take_if(|one| *one == ticket);
        }
        Some(proxy)
    }
}

impl Control {
    pub(super) fn way_mut(&mut self, connection: u64) -> Option<&mut Way> {
        self.uplink.as_mut()?.ways.get_mut(&connection)
    }

    /// The connection that a link is to be attached by, or is.
    fn way_of(&mut self, ticket: Ticket) -> Option<(u64, &mut Way)> {
        let ways = self.uplink.as_mut()?.ways.iter_mut();
        let mut ways = ways.map(|(connection, way)| (*connection, way));
        ways.find(|(_, way)| way.links.contains_key(&ticket))
    }

    fn proxy_mut(&mut self, ticket: Ticket) -> Option<&mut Proxy> {
        self.way_of(ticket)?.1.links.get_mut(&ticket)
    }

    /// Has the worker of a connection attach a link there.
    pub(super) fn ask(&mut self, connection: u64, kind: Kind) -> Option<Ticket> {
        let attach = self.attach_for(kind);
        let ticket = self.take_ticket();
        let way = self.way_mut(connection)?;
        let proxy = Proxy {
            kind,
            link: None,
            consumer: None,
        };
        way.links.insert(ticket, proxy);
        let recipient = Recipient::Worker(way.worker);
        let command = Command::Attach {
            connection,
            ticket,
            attach: Box::new(attach),
        };
        self.commands.push_back((recipient, command));
        Some(ticket)
    }

    fn attach_for(&self, kind: Kind) -> Attach {
        let text = |id: AddressId| {
            let address = self.address(id);
            address.map(|address| address.entry.key.text().to_owned())
        };
        let (mut source, mut target) = (Source::default(), TargetNode::default());
        let mut capable = |capability| {
            source.capabilities = vec![capability];
            target.capabilities.clone_from(&source.capabilities);
        };
        match kind {
            Kind::Uplink => {}
            Kind::Downlink => {
                capable(downlink_capability());
                source.address = Some(self.identity.id.clone());
            }
            Kind::Summary => capable(inter_edge_capability()),
            Kind::Tracking => source.address = Some(TRACKING.to_owned()),
            Kind::Discovery => target.address = Some(DISCOVERY.to_owned()),
            Kind::Bids => target.address = Some(NEGOTIATION.to_owned()),
            Kind::Receiver(id) => source.address = text(id),
            Kind::Sender(id) => target.address = text(id),
        }
        let mut attach = Attach {
            role: match kind {
                Kind::Downlink | Kind::Tracking | Kind::Receiver(_) => Role::Receiver,
                _ => Role::Sender,
            },
            source: Some(source),
            target: Some(Target::Node(target)),
            ..Attach::default()
        };
        if let Kind::Receiver(id) = kind
            && self.address(id).is_some_and(|one| one.entry.is_prompt())
        {
            say_prompt(&mut attach);
        }
        attach
    }

    /// Asks for a link, or gives it up.
    pub(super) fn wanted(
        &mut self,
        connection: u64,
        have: Option<Ticket>,
        want: bool,
        kind: Kind,
    ) -> Option<Ticket> {
        match (have, want) {
            (None, true) => self.ask(connection, kind),
            (Some(ticket), false) => {
                self.give_back(ticket);
                None
            }
            _ => have,
        }
    }

    /// Gives up a link, or will when the peer has accepted it. Nothing new goes by it; what has
    /// been sent is settled first if its connection has been succeeded, as nothing but the
    /// connection has changed for anybody.
    pub(super) fn give_back(&mut self, ticket: Ticket) {
        self.unbind(ticket);
        let Some((connection, way)) = self.way_of(ticket) else {
            return;
        };
        let gently = way.until.is_some();
        let Some(proxy) = way.take(ticket) else {
            return;
        };
        let Some(link) = proxy.link.map(|link| link.link) else {
            if gently {
                self.give_back_later(connection, ticket, proxy.kind);
            }
            return;
        };
        let recipient = Recipient::Worker(link.worker);
        match (gently, link.direction) {
            // A worker may be about to give it something.
            (true, Direction::Outgoing) => self.when_all_know(recipient, Command::Finish { link }),
            (true, _) => self
                .commands
                .push_back((recipient, Command::Finish { link })),
            (false, _) => self
                .commands
                .push_back((recipient, Command::Detach { link })),
        }
    }

    /// Has a link given up when the peer has accepted it.
    fn give_back_later(&mut self, connection: u64, ticket: Ticket, kind: Kind) {
        let key = match kind {
            Kind::Receiver(id) => self.address(id).map(|one| one.entry.key.clone()),
            _ => None,
        };
        if let Some(way) = self.way_mut(connection) {
            way.late.insert(ticket, (kind, key));
        }
    }

    /// Detaches a link that this router has attached.
    pub(in crate::control) fn detach_own(&mut self, link: LinkRef) {
        let recipient = Recipient::Worker(link.worker);
        let command = Command::Detach { link };
        self.commands.push_back((recipient, command));
    }

    /// The peer has accepted a link.
    pub(in crate::control) fn proxy_attached(&mut self, ticket: Ticket, link: &RouterLink) {
        let reference = link.link;
        let Some((connection, way)) = self.way_of(ticket) else {
            return self.proxy_late(ticket, link);
        };
        let Some(proxy) = way.links.get_mut(&ticket) else {
            return;
        };
        proxy.link = Some(link.clone());
        let kind = proxy.kind;
        way.by_link.insert(reference, ticket);
        let leads_to = match kind {
            Kind::Uplink | Kind::Summary => return self.bind(ticket),
            Kind::Sender(id) => {
                let tracked = way.tracked(id);
                self.release_attaches(id);
                if tracked.reachable {
                    self.bind(ticket);
                }
                return;
            }
            Kind::Discovery => {
                self.announce_mesh();
                return self.supersede(connection, kind);
            }
            Kind::Bids => {
                self.send_bid(connection);
                return self.supersede(connection, kind);
            }
            Kind::Downlink => LeadsTo::EachMessage,
            Kind::Tracking => LeadsTo::Control,
            Kind::Receiver(id) => LeadsTo::Address(id),
        };
        let command = Command::Open {
            link: reference,
            leads_to,
            address: None,
        };
        let recipient = Recipient::Worker(reference.worker);
        self.commands.push_back((recipient, command));
        self.supersede(connection, kind);
    }

    /// The peer has accepted a link that is not wanted any more. It may have sent by it already.
    fn proxy_late(&mut self, ticket: Ticket, link: &RouterLink) {
        let late = self.way_mut(link.connection);
        let (kind, key) = match late.and_then(|way| way.late.remove(&ticket)) {
            Some(late) => late,
            None => return self.detach_own(link.link),
        };
        let leads_to = match (kind, key) {
            (Kind::Downlink, _) => LeadsTo::EachMessage,
            (Kind::Receiver(id), Some(key)) if self.by_key.get(&key) == Some(&id) => {
                LeadsTo::Address(id)
            }
            _ => return self.detach_own(link.link),
        };
        let link = link.link;
        let open = Command::Open {
            link,
            leads_to,
            address: None,
        };
        for command in [open, Command::Finish { link }] {
            let recipient = Recipient::Worker(link.worker);
            self.commands.push_back((recipient, command));
        }
    }

    /// A link is there in place of one by a connection that this one has succeeded.
    fn supersede(&mut self, connection: u64, kind: Kind) {
        for ticket in self.superseded(connection, kind) {
            self.give_back(ticket);
        }
    }

    /// The links whose place one of a connection takes.
    fn superseded(&self, connection: u64, kind: Kind) -> Vec<Ticket> {
        let ways = self.uplink.as_ref().map(|uplink| &uplink.ways);
        let Some((ways, this)) = ways.and_then(|ways| Some((ways, ways.get(&connection)?))) else {
            return Vec::new();
        };
        let older = ways
            .iter()
            .filter(|(id, way)| **id != connection && way.until.is_some() && way.peer == this.peer);
        let old = older.flat_map(|(_, way)| &way.links);
        let old = old.filter(|(_, proxy)| proxy.kind == kind);
        old.map(|(&ticket, _)| ticket).collect()
    }

    /// A link to another router is gone. True if it was one.
    pub(in crate::control) fn proxy_lost(&mut self, link: LinkRef) -> bool {
        let Some(uplink) = &self.uplink else {
            return false;
        };
        let mut ways = uplink.ways.values();
        let Some(&ticket) = ways.find_map(|way| way.by_link.get(&link)) else {
            return false;
        };
        self.unbind(ticket);
        let Some((_, way)) = self.way_of(ticket) else {
            return true;
        };
        if let Some(Kind::Sender(id)) = way.take(ticket).map(|proxy| proxy.kind) {
            self.release_attaches(id);
        }
        true
    }

    /// Makes a link one of its address's destinations, in place of those that it supersedes.
    pub(super) fn bind(&mut self, ticket: Ticket) {
        let Some((connection, way)) = self.way_of(ticket) else {
            return;
        };
        let peer = way.peer.clone();
        let Some(Proxy {
            kind,
            link: Some(link),
            consumer: None,
        }) = way.links.get(&ticket)
        else {
            return;
        };
        let Some(load) = link.load.clone() else {
            return;
        };
        let (kind, capacity, reference) = (*kind, link.capacity, link.link);
        let prompt = match kind {
            Kind::Sender(id) => way.tracked(id).prompt,
            _ => false,
        };
        let id = match (kind, &peer) {
            (Kind::Sender(id), _) => id,
            (_, Some(peer)) => self.find_or_make(AddressKey::edge(peer), Treatment::Closest),
            (_, None) => self.find_or_make(AddressKey::uplink(), Treatment::Closest),
        };
        let consumer = self.take_link_number();
        let destination = Destination {
            outlet: Outlet::Link {
                worker: reference.worker,
                link: reference.slot,
                to_router: true,
            },
            side: match peer {
                Some(_) => Side::PEERS,
                None => Side::UP,
            },
            prompt,
            capacity,
            load: Arc::clone(&load),
        };
        for old in self.superseded(connection, kind) {
            let old_link = self.proxy_mut(old).and_then(|proxy| proxy.link.as_ref());
            if let Some(old_load) = old_link.and_then(|link| link.load.as_ref()) {
                load.succeed(old_load, consumer);
            }
            self.take_destination(old);
        }
        let address = &mut self.addresses[id.index()];
        address.consumers.push(consumer);
        Arc::make_mut(&mut address.entry)
            .destinations
            .push(destination);
        if let Some(proxy) = self.proxy_mut(ticket) {
            proxy.consumer = Some(consumer);
        }
        self.publish(id);
        self.supersede(connection, kind);
    }

    /// A link that is one of its address's destinations leads to those who take prompt streams, or
    /// no longer to those alone.
    pub(super) fn follow_promptness(&mut self, ticket: Ticket, id: AddressId, prompt: bool) {
        let Some(consumer) = self.proxy_mut(ticket).and_then(|proxy| proxy.consumer) else {
            return;
        };
        let address = &mut self.addresses[id.index()];
        let Some(at) = address.consumers.iter().position(|one| *one == consumer) else {
            return;
        };
        if address.entry.destinations[at].prompt != prompt {
            Arc::make_mut(&mut address.entry).destinations[at].prompt = prompt;
            self.publish(id);
        }
    }

    /// A link is no longer one of its address's destinations.
    pub(super) fn unbind(&mut self, ticket: Ticket) {
        if let Some(id) = self.take_destination(ticket) {
            self.publish(id);
            self.remove_if_unused(id);
        }
    }

    /// The same, without telling anybody: the address that is another now.
    fn take_destination(&mut self, ticket: Ticket) -> Option<AddressId> {
        let (_, way) = self.way_of(ticket)?;
        let peer = way.peer.clone();
        let proxy = way.links.get_mut(&ticket);
        let (kind, consumer) = proxy.map(|one| (one.kind, one.consumer.take()))?;
        let consumer = consumer?;
        let id = match (kind, &peer) {
            (Kind::Sender(id), _) => Some(id),
            (_, Some(peer)) => self.by_key.get(&AddressKey::edge(peer)).copied(),
            (_, None) => self.by_key.get(UPLINK).copied(),
        };
        let address = self.addresses.get_mut(id?.index())?;
        let mut consumers = address.consumers.iter();
        let at = consumers.position(|other| *other == consumer)?;
        address.consumers.remove(at);
        Arc::make_mut(&mut address.entry).destinations.remove(at);
        id
    }
}

impl RouterLink {
    /// The ticket of a link to another router.
    pub(in crate::control) fn ticket(&self) -> Option<Ticket> {
        match self.purpose {
            Purpose::Proxy(ticket) => Some(ticket),
            _ => None,
        }
    }
}
