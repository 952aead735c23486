//! Edge routers that are connected to this one, and what they want to know
//! (`reference/router/inter-router-protocol.md` §7).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::BytesMut;

use crate::codec::{Body, Error, Header, Message, RouterAnnotations, Source, Target, Value};
use crate::control::address::AddressKey;
use crate::control::edge_mesh::{DISCOVERY, MeshId, NEGOTIATION};
use crate::control::links::{
    Accepted, Address, AttachRequest, Command, Control, Link, LinkKind, Recipient, USUAL_PRIORITY,
};
use crate::control::network::Opened;
use crate::control::role::Role;
use crate::control::table::{AddressEntry, AddressId, Direction, LinkRef, Side, Treatment};
use crate::control::trunks::Party;
use crate::control::uplink::{TRACKING, downlink_capability, inter_edge_capability};

/// What is kept of edge routers.
#[derive(Debug, Default)]
pub(super) struct Edges {
    /// The link by which each connection is told of addresses.
    tracking: HashMap<u64, LinkRef>,
    /// Links by which edge routers send to an address.
    senders: HashMap<AddressId, Vec<Sender>>,
    /// The mesh that the edge router of a connection says it is in.
    meshes: HashMap<u64, MeshId>,
    /// Who the edge router of a connection is.
    parties: HashMap<u64, Party>,
}

#[derive(Debug)]
struct Sender {
    link: LinkRef,
    connection: u64,
    /// The edge router has been told that somebody receives from the address.
    told: bool,
}

impl Edges {
    /// The mesh of the edge router of a connection.
    pub(super) fn mesh_of(&self, connection: u64) -> Option<MeshId> {
        self.meshes.get(&connection).copied()
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
            return Some(Ok(accepted(request, None, LinkKind::Endpoint)));
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
        let role = match target.address.as_deref()? {
            DISCOVERY if self.uplink.is_none() => Role::Edge,
            NEGOTIATION if self.uplink.is_some() => Role::InterEdge,
            _ => return None,
        };
        if request.role != role {
            let text = format!("this node is for connections of the role {role}");
            return Some(Err(Error::new("qd:connection-role", text)));
        }
        Some(Ok(accepted(request, None, LinkKind::Notices)))
    }

    /// An edge router says which mesh it is in.
    pub(super) fn mesh_announced(&mut self, connection: u64, message: &[u8]) {
        let Some(mesh) = MeshId::of_announcement(message) else {
            return;
        };
        if self.edges.meshes.insert(connection, mesh) == Some(mesh) {
            return;
        }
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
            let mesh = link.and_then(|link| self.edges.meshes.get(&link.connection));
            let side = address.entry.destinations[at].side;
            if side.within(mesh.copied()) != side {
                let entry = Arc::make_mut(&mut address.entry);
                entry.destinations[at].side = side.within(mesh.copied());
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
        if opened.role == Role::Edge && self.uplink.is_none() {
            let party = Party::of(opened);
            self.edges.parties.insert(opened.connection, party);
        }
    }

    /// An edge router is gone.
    pub(super) fn edge_closed(&mut self, connection: u64) {
        self.edges.meshes.remove(&connection);
        self.edges.parties.remove(&connection);
    }

    /// An edge router receives from an address: nothing new is sent to it by older connections of
    /// its own, which it is about to leave. So it gets nothing twice, and nothing waits for a link
    /// that goes.
    pub(super) fn leave_older(&mut self, request: &AttachRequest, id: AddressId) {
        let parties = &self.edges.parties;
        let receives = request.link.direction == Direction::Outgoing;
        let Some(party) = parties.get(&request.connection).filter(|_| receives) else {
            return;
        };
        let is_older = |link: &Link| {
            link.connection < request.connection && parties.get(&link.connection) == Some(party)
        };
        let address = &mut self.addresses[id.index()];
        let links = &self.links;
        let older = |consumer: &u64| links.get(consumer).is_some_and(is_older);
        let Some(at) = address.consumers.iter().position(older) else {
            return;
        };
        address.consumers.remove(at);
        Arc::make_mut(&mut address.entry).destinations.remove(at);
        self.publish(id);
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
            told: false,
        });
        self.tell_edges(id);
    }

    /// A link is gone, which may have been an edge router's.
    pub(super) fn edge_link_lost(&mut self, link: LinkRef, address: Option<AddressId>) {
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
            let from = Side::of(Role::Edge, sender.connection, false).within(mesh.copied());
            let reachable = leads_on(&address.entry, from);
            let link = self.edges.tracking.get(&sender.connection);
            if let Some(&link) = link.filter(|_| sender.told != reachable) {
                sender.told = reachable;
                let message = tracking(address.entry.key.as_str(), reachable);
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

/// Says whether somebody receives from an address.
fn tracking(key: &str, reachable: bool) -> bytes::Bytes {
    let mut message = BytesMut::new();
    RouterAnnotations::default().encode(None, &mut message);
    let body = vec![Value::from(key), Value::Bool(reachable)];
    let content = Message {
        header: Some(Header::default()),
        body: Body::Value(Value::List(body)),
        ..Message::default()
    };
    message.extend_from_slice(&content.encode());
    message.freeze()
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
