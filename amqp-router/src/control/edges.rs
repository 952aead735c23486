//! Edge routers that are connected to this one, and what they want to know
//! (`reference/router/inter-router-protocol.md` §7).

use std::collections::HashMap;

use bytes::BytesMut;

use crate::codec::{Body, Error, Header, Message, RouterAnnotations, Source, Value};
use crate::control::address::AddressKey;
use crate::control::links::{Accepted, AttachRequest, Command, Control, LinkKind, Recipient};
use crate::control::role::Role;
use crate::control::table::{AddressEntry, AddressId, Direction, LinkRef, Side, Treatment};
use crate::control::uplink::{TRACKING, downlink_capability};

/// What is kept of edge routers.
#[derive(Debug, Default)]
pub(super) struct Edges {
    /// The link by which each connection is told of addresses.
    tracking: HashMap<u64, LinkRef>,
    /// Links by which edge routers send to an address.
    senders: HashMap<AddressId, Vec<Sender>>,
}

#[derive(Debug)]
struct Sender {
    link: LinkRef,
    connection: u64,
    /// The edge router has been told that somebody receives from the address.
    told: bool,
}

impl Control {
    /// Decides about a link of the kind that only edge routers have; `None` if it is not of this
    /// kind.
    pub(super) fn attach_edge_link(
        &mut self,
        request: &AttachRequest,
    ) -> Option<Result<Accepted, Error>> {
        let source = request.attach.source.as_ref()?;
        if request.link.direction != Direction::Outgoing {
            return None;
        }
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
            let reachable = leads_on(&address.entry, sender.connection);
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

/// Whether what an edge router's connection brings to an address leads to anybody else.
fn leads_on(entry: &AddressEntry, connection: u64) -> bool {
    let from = Side::of(Role::Edge, connection, false);
    let mut here = entry.destinations.iter();
    !entry.remotes.is_empty() || here.any(|one| one.side.takes(from))
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
    }
}
