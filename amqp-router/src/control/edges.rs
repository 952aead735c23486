//! Edge routers that are connected to this one, and what they want to know
//! (`reference/router/inter-router-protocol.md` §7).

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::codec::{
    Attach, Body, Error, Header, Message, Progress, RouterAnnotations, Source, Target, Value,
};
use crate::control::address::AddressKey;
use crate::control::edge_mesh::{DISCOVERY, MeshId, NEGOTIATION};
use crate::control::links::{
    Accepted, Address, AttachRequest, Command, Control, Link, LinkKind, Recipient, USUAL_PRIORITY,
};
use crate::control::network::Opened;
use crate::control::role::Role;
use crate::control::table::{
    AddressEntry, AddressId, Destination, Direction, LinkLoad, LinkRef, Side, Treatment,
};
use crate::control::trunks::Party;
use crate::control::uplink::{TRACKING, UplinkNotice, downlink_capability, inter_edge_capability};

/// What is kept of edge routers.
#[derive(Debug, Default)]
pub(super) struct Edges {
    /// The link by which each connection is told of addresses.
    tracking: HashMap<u64, LinkRef>,
    /// Links by which edge routers send to an address.
    senders: HashMap<AddressId, Vec<Sender>>,
    /// The mesh that the edge router of a connection says it is in.
    meshes: HashMap<u64, Announced>,
    /// Who the edge router of a connection is.
    parties: HashMap<u64, Party>,
    /// By number, links by which nothing is sent to edge routers that have newer ones.
    left: BTreeMap<u64, Left>,
    pub(super) notices: VecDeque<UplinkNotice>,
}

/// What an edge router says of its mesh.
#[derive(Debug)]
struct Announced {
    mesh: MeshId,
    /// How often it has said something else, and since when that is counted.
    changes: u32,
    since: Instant,
    /// It has been told of.
    unsteady: bool,
}

impl Announced {
    fn new(mesh: MeshId, now: Instant) -> Self {
        Self {
            mesh,
            changes: 0,
            since: now,
            unsteady: false,
        }
    }

    /// Whether a change is one of many within a short time. Each makes work for everybody who sends
    /// to what the edge router receives.
    fn is_too_much(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= CHANGES_WITHIN {
            (self.changes, self.since) = (0, now);
        }
        self.changes = self.changes.saturating_add(1);
        self.changes > CHANGES_MAX
    }
}

#[derive(Debug)]
struct Sender {
    link: LinkRef,
    connection: u64,
    /// What the edge router has been told of who receives from the address.
    told: Tracked,
}

/// A link by which nothing is sent to another edge router while it has a newer one.
#[derive(Debug)]
struct Left {
    connection: u64,
    address: AddressId,
    destination: Destination,
}

/// What an edge router is told of an address that it sends to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tracked {
    /// Somebody receives from it.
    pub(super) reachable: bool,
    /// All who do take TCP streams whose octets do not wait for an answer.
    pub(super) prompt: bool,
}

impl Edges {
    /// Whether there are links of an address by which nothing is sent.
    pub(super) fn have_left(&self, id: AddressId) -> bool {
        self.left.values().any(|left| left.address == id)
    }

    /// The mesh of the edge router of a connection.
    pub(super) fn mesh_of(&self, connection: u64) -> Option<MeshId> {
        Some(self.meshes.get(&connection)?.mesh)
    }

    /// The mesh that what came from it must not go back into, to an address there. What is for one
    /// edge router alone may, as it goes nowhere else: another of the mesh that sends it by way of the
    /// network has not known better.
    pub(super) fn mesh_within(&self, key: &AddressKey, connection: u64) -> Option<MeshId> {
        let mesh = self.mesh_of(connection);
        mesh.filter(|_| key.class() != 'H')
    }
}

impl Control {
    /// Decides about a link of the kind that only edge routers have; `None` if it is not of this
    /// kind.
    pub(super) fn attach_edge_link(
        &mut self,
        request: &AttachRequest,
    ) -> Option<Result<Accepted, Error>> {
        if request.link.direction == Direction::Incoming {
            return self.attach_notices(request);
        }
        let source = request.attach.source.as_ref()?;
        let from_edge = request.role == Role::Edge && self.uplink.is_none();
        if source.address.as_deref() == Some(TRACKING) {
            if !from_edge {
                let text = "Connection does not support address tracking";
                return Some(Err(Error::new("qd:connection-role", text)));
            }
            self.edges.tracking.insert(request.connection, request.link);
            return Some(Ok(accepted(request, None, LinkKind::Tracking)));
        }
        if !source.capabilities.contains(&downlink_capability()) {
            return None;
        }
        Some(match edge_id(source) {
            Some(id) if from_edge => {
                let key = AddressKey::edge(id);
                let address = self.find_or_make(key, Treatment::Closest);
                Ok(accepted(request, Some(address), LinkKind::EdgeDownlink))
            }
            _ => {
                let text = "links of edge routers are for connections of the role edge";
                Err(Error::new("qd:forbidden", text))
            }
        })
    }

    /// Decides about a link by which an edge router sends to this one, or tells of its mesh.
    fn attach_notices(&self, request: &AttachRequest) -> Option<Result<Accepted, Error>> {
        let Some(Target::Node(target)) = &request.attach.target else {
            return None;
        };
        let inter_edge = request.role == Role::InterEdge && self.uplink.is_some();
        if target.capabilities.contains(&inter_edge_capability()) {
            let error = || {
                let text = "links between edge routers are for connections of the role inter-edge";
                Error::new("qd:forbidden", text)
            };
            let accepted = accepted(request, None, LinkKind::InterEdge);
            return Some(inter_edge.then_some(accepted).ok_or_else(error));
        }
        let (node, role) = match target.address.as_deref()? {
            DISCOVERY if self.uplink.is_none() => (DISCOVERY, Role::Edge),
            NEGOTIATION if self.uplink.is_some() => (NEGOTIATION, Role::InterEdge),
            _ => return None,
        };
        if request.role != role {
            let text = format!("this node is for connections of the role {role}");
            return Some(Err(Error::new("qd:connection-role", text)));
        }
        Some(Ok(accepted(request, None, LinkKind::Notices(node))))
    }

    /// An edge router says which mesh it is in.
    pub(super) fn mesh_announced(&mut self, connection: u64, message: &[u8], now: Instant) {
        let Some(mesh) = MeshId::of_announcement(message) else {
            return;
        };
        let known = match self.edges.meshes.entry(connection) {
            Entry::Vacant(vacant) => vacant.insert(Announced::new(mesh, now)),
            Entry::Occupied(known) if known.get().mesh == mesh => return,
            Entry::Occupied(known) => known.into_mut(),
        };
        if known.mesh != mesh && known.is_too_much(now) {
            if !std::mem::replace(&mut known.unsteady, true) {
                let notice = UplinkNotice::Unsteady(connection);
                self.edges.notices.push_back(notice);
            }
            return;
        }
        known.mesh = mesh;
        let links = self.links.values();
        let links = links.filter(|link| link.connection == connection);
        let changed: BTreeSet<_> = links.filter_map(|link| link.address).collect();
        for id in changed {
            self.regroup(id);
        }
    }

    /// Looks again at where the destinations of an address lead.
    fn regroup(&mut self, id: AddressId) {
        let address = &mut self.addresses[id.index()];
        let mut news = false;
        for (consumer, at) in address.consumers.iter().zip(0..) {
            let link = self.links.get(consumer);
            let key = &address.entry.key;
            let mesh = link.and_then(|link| self.edges.mesh_within(key, link.connection));
            let side = address.entry.destinations[at].side;
            if side.within(mesh) != side {
                let entry = Arc::make_mut(&mut address.entry);
                entry.destinations[at].side = side.within(mesh);
                news = true;
            }
        }
        match news {
            true => self.publish(id),
            // The edge router may have sent to it.
            false => self.tell_edges(id),
        }
        self.advertise(id);
    }

    /// The mesh of the edge router of a connection.
    pub(crate) fn mesh_of(&self, connection: u64) -> Option<MeshId> {
        self.edges.mesh_of(connection)
    }

    /// The mesh that all consumers of an address are in.
    pub(super) fn sole_mesh(&self, address: &Address) -> Option<MeshId> {
        let mut meshes = address.consumers.iter().map(|consumer| {
            let link = self.links.get(consumer);
            link.and_then(|link| self.mesh_of(link.connection))
        });
        let first = meshes.next()??;
        meshes.all(|mesh| mesh == Some(first)).then_some(first)
    }

    /// An edge router has connected.
    pub(super) fn edge_opened(&mut self, opened: &Opened) {
        let role = match self.uplink {
            None => Role::Edge,
            Some(_) => Role::InterEdge,
        };
        if opened.role == role {
            let party = Party::of(opened);
            self.edges.parties.insert(opened.connection, party);
        }
    }

    /// An edge router is gone.
    pub(super) fn edge_closed(&mut self, connection: u64) {
        self.edges.meshes.remove(&connection);
        if let Some(party) = self.edges.parties.remove(&connection) {
            self.return_to_older(&party);
        }
    }

    /// An edge router receives from an address: nothing new is sent to it by older links of its
    /// own, which it is about to leave. So it gets nothing twice, and nothing waits for a link that
    /// goes. The caller publishes the address, with the newer link. True if there was one.
    pub(super) fn leave_older(&mut self, connection: u64, id: AddressId, newer: &LinkLoad) -> bool {
        let parties = &self.edges.parties;
        let Some(party) = parties.get(&connection) else {
            return false;
        };
        let is_older = |link: &Link| {
            link.connection <= connection && parties.get(&link.connection) == Some(party)
        };
        let address = &mut self.addresses[id.index()];
        let links = &self.links;
        let older = |consumer: &u64| links.get(consumer).is_some_and(is_older);
        let Some(at) = address.consumers.iter().position(older) else {
            return false;
        };
        let link = address.consumers.remove(at);
        let entry = Arc::make_mut(&mut address.entry);
        let destination = entry.destinations.remove(at);
        newer.succeed(&destination.load, link);
        if let Some(connection) = links.get(&link).map(|link| link.connection) {
            let left = Left {
                connection,
                address: id,
                destination,
            };
            self.edges.left.insert(link, left);
        }
        true
    }

    /// A connection of an edge router is lost: what was sent by it is sent by an older one again, if
    /// that has not been given up. (An edge router may have fallen back to that before its last words
    /// by the other were heard.)
    fn return_to_older(&mut self, party: &Party) {
        let parties = &self.edges.parties;
        let is_of_it = |connection: &u64| parties.get(connection) == Some(party);
        let left = self.edges.left.iter();
        let left = left.filter(|(_, left)| is_of_it(&left.connection));
        let mut left: Vec<_> = left.map(|(&link, one)| (one.connection, link)).collect();
        left.sort_unstable();
        for (_, number) in left.into_iter().rev() {
            self.take_up_again(number, party);
        }
    }

    /// Sends to an edge router by an older link of its own again, if it has no newer one.
    fn take_up_again(&mut self, number: u64, party: &Party) {
        let Some(left) = self.edges.left.get(&number) else {
            return;
        };
        let (id, parties) = (left.address, &self.edges.parties);
        let address = &mut self.addresses[id.index()];
        let mut links = address
            .consumers
            .iter()
            .filter_map(|one| self.links.get(one));
        if links.any(|link| parties.get(&link.connection) == Some(party)) {
            return;
        }
        if let Some(left) = self.edges.left.remove(&number) {
            address.consumers.push(number);
            let entry = Arc::make_mut(&mut address.entry);
            entry.destinations.push(left.destination);
            self.publish(id);
            self.advertise(id);
        }
    }

    /// An edge router sends to an address: it is told whether anybody receives from it.
    pub(super) fn follow_sender(&mut self, request: &AttachRequest, id: AddressId) {
        let class = self.addresses[id.index()].entry.key.class();
        let sends = request.link.direction == Direction::Incoming;
        if request.role != Role::Edge || self.uplink.is_some() || class != 'M' || !sends {
            return;
        }
        self.edges.senders.entry(id).or_default().push(Sender {
            link: request.link,
            connection: request.connection,
            told: Tracked::default(),
        });
        self.tell_edges(id);
    }

    /// A link is gone, which may have been an edge router's.
    pub(super) fn edge_link_lost(
        &mut self,
        number: u64,
        link: LinkRef,
        address: Option<AddressId>,
    ) {
        self.edges.left.remove(&number);
        self.edges.tracking.retain(|_, tracking| *tracking != link);
        let Some(id) = address else { return };
        if let Some(senders) = self.edges.senders.get_mut(&id) {
            senders.retain(|sender| sender.link != link);
            if senders.is_empty() {
                self.edges.senders.remove(&id);
            }
        }
    }

    /// An address has changed: tells edge routers that send to it, if that matters to them.
    pub(super) fn tell_edges(&mut self, id: AddressId) {
        let (Some(senders), Some(address)) = (
            self.edges.senders.get_mut(&id),
            self.addresses.get(id.index()),
        ) else {
            return;
        };
        for sender in senders {
            let mesh = self.edges.meshes.get(&sender.connection);
            let mesh = mesh.map(|announced| announced.mesh);
            let from = Side::of(Role::Edge, sender.connection, false).within(mesh);
            let told = Tracked {
                reachable: leads_on(&address.entry, from),
                prompt: address.entry.leads_promptly(from),
            };
            let link = self.edges.tracking.get(&sender.connection);
            if let Some(&link) = link.filter(|_| sender.told != told) {
                sender.told = told;
                let message = told.encode(address.entry.key.as_str());
                let command = Command::Tell { link, message };
                let recipient = Recipient::Worker(link.worker);
                self.commands.push_back((recipient, command));
            }
        }
    }
}

/// Whether what comes from a side leads to anybody else.
fn leads_on(entry: &AddressEntry, from: Side) -> bool {
    let mut here = entry.destinations.iter();
    let mut elsewhere = entry.remotes.iter();
    elsewhere.any(|one| one.side.takes(from)) || here.any(|one| one.side.takes(from))
}

impl Tracked {
    /// Says so of an address.
    fn encode(self, key: &str) -> Bytes {
        let mut message = BytesMut::new();
        RouterAnnotations::default().encode(None, &mut message);
        let body = vec![Value::from(key), Value::Bool(self.reachable)];
        // Where skrouterd does not look: a body of another form it would not take.
        let prompt = self.prompt.then(|| (PROMPT.to_owned(), Value::Bool(true)));
        let content = Message {
            header: Some(Header::default()),
            application_properties: prompt.into_iter().collect(),
            body: Body::Value(Value::List(body)),
            ..Message::default()
        };
        message.extend_from_slice(&content.encode());
        message.freeze()
    }

    /// Reads which address that is said of, and what.
    pub(super) fn decode(message: &Bytes) -> Option<(String, Self)> {
        let Progress::Complete(length) = RouterAnnotations::measure(message) else {
            return None;
        };
        let message = Message::decode(&message[length..]).ok()?;
        let prompt = message.application_property(PROMPT) == Some(&Value::Bool(true));
        let Body::Value(Value::List(fields)) = message.body else {
            return None;
        };
        match fields[..] {
            [Value::String(ref key), Value::Bool(reachable)] => {
                Some((key.to_string(), Self { reachable, prompt }))
            }
            _ => None,
        }
    }
}

/// Makes an edge router's attach say that its receiver takes TCP streams whose octets do not wait
/// for an answer.
pub(super) fn say_prompt(attach: &mut Attach) {
    attach.properties.insert(PROMPT, true);
}

/// Whether it says so.
pub(super) fn says_prompt(attach: &Attach) -> bool {
    attach.properties.get(PROMPT) == Some(&Value::Bool(true))
}

fn edge_id(source: &Source) -> Option<&str> {
    source.address.as_deref().filter(|id| !id.is_empty())
}

fn accepted(request: &AttachRequest, address: Option<AddressId>, kind: LinkKind) -> Accepted {
    Accepted {
        source: request.attach.source.clone(),
        target: request.attach.target.clone(),
        address,
        kind,
        priority: USUAL_PRIORITY,
    }
}

/// How often an edge router may say that its mesh is another, and within what time.
const CHANGES_MAX: u32 = 16;
const CHANGES_WITHIN: Duration = Duration::from_secs(10);

/// What tells of addresses, and of links, that they are for prompt streams.
const PROMPT: &str = "tcp-prompt";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_router_is_told_what_is_so() {
        for (reachable, prompt) in [(false, false), (true, false), (true, true)] {
            let tracked = Tracked { reachable, prompt };
            let read = Tracked::decode(&tracked.encode("Ma"));
            assert_eq!(read, Some(("Ma".to_owned(), tracked)));
        }
    }
}
