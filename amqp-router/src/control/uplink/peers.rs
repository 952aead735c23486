//! Other edge routers of the same site, which are connected to this one.
//!
//! Each attaches receivers to the other for what its own clients receive, so that what can stay in
//! the site does; nothing is passed on from one to a third. Together they agree on a name
//! ([`Election`]), by which interior routers know what must not come back.
//!
//! Of several connections to one peer, each end chooses the one where it attaches its links. One that
//! was made with newer credentials takes the place of another, link by link as with interior routers,
//! and so does one that the peer has made later: whoever is connected to is not told what credentials
//! it was made with.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use rand::Rng;

use super::ways::{Kind, Way};
use super::{HANDOVER, UplinkNotice};
use crate::control::edge_mesh::{Bid, Election, MeshId, Turn};
use crate::control::links::{Command, Control, Recipient};
use crate::control::network::Opened;
use crate::control::table::{LinkRef, WorkerId};

/// The edge routers that are connected.
#[derive(Debug)]
pub(super) struct Peers {
    election: Election,
    /// The connections to each, the one in use first.
    connections: BTreeMap<String, Vec<PeerConnection>>,
}

#[derive(Clone, Debug)]
struct PeerConnection {
    connection: u64,
    worker: WorkerId,
    /// The connector of this router that has made it, if the peer has not.
    connector: Option<String>,
    /// Of the credentials that this router's connector made it with.
    ordinal: u64,
    /// Who the peer has shown to be.
    user: Option<String>,
}

impl PeerConnection {
    fn new(opened: &Opened) -> Self {
        let connector = opened.connector.clone();
        Self {
            connection: opened.connection,
            worker: opened.worker,
            ordinal: connector.as_ref().map_or(0, |_| opened.ordinal),
            connector,
            user: opened.user.clone(),
        }
    }

    /// Whether it takes the place of one that was made before.
    fn succeeds(&self, old: &Self) -> bool {
        match &self.connector {
            Some(_) => self.connector == old.connector && self.ordinal > old.ordinal,
            None => old.connector.is_none() && self.user == old.user,
        }
    }
}

impl Peers {
    pub(super) fn new(started: i64, rng: &mut impl Rng) -> Self {
        Self {
            election: Election::new(started, rng),
            connections: BTreeMap::new(),
        }
    }

    /// The name of the mesh.
    pub(super) fn mesh(&self) -> MeshId {
        self.election.id()
    }
}

impl Control {
    /// A connection to another edge router has been opened.
    pub(super) fn peer_opened(&mut self, opened: &Opened, now: Instant) {
        let Some(uplink) = &mut self.uplink else {
            return;
        };
        let name = opened.container.clone();
        let new = PeerConnection::new(opened);
        let connections = uplink.peers.connections.entry(name.clone()).or_default();
        match connections.first().cloned() {
            None => uplink.notices.push_back(UplinkNotice::Peer(name.clone())),
            Some(old) if new.succeeds(&old) => {
                if let Some(way) = uplink.ways.get_mut(&old.connection) {
                    way.until = Some(now + HANDOVER);
                }
                if new.connector.is_some() {
                    let (old, new) = (old.connection, new.connection);
                    let notice = UplinkNotice::Succeeded { old, new };
                    uplink.notices.push_back(notice);
                }
            }
            Some(_) => return connections.push(new),
        }
        connections.insert(0, new);
        self.activate_peer(name, opened.connection, opened.worker);
    }

    /// Attaches links to another edge router.
    fn activate_peer(&mut self, name: String, connection: u64, worker: WorkerId) {
        // It may have been succeeded by one that is lost now.
        self.leave(connection);
        if let Some(uplink) = &mut self.uplink {
            uplink.ways.insert(connection, Way::to_peer(worker, name));
        }
        self.ask(connection, Kind::Summary);
        self.ask(connection, Kind::Bids);
        self.review_all(connection);
    }

    /// A connection is gone, which may have led to another edge router.
    pub(super) fn peer_closed(&mut self, connection: u64) {
        let Some(uplink) = &mut self.uplink else {
            return;
        };
        let peers = &mut uplink.peers.connections;
        let mut all = peers.iter_mut();
        let found = all.find_map(|(name, connections)| {
            let at = connections
                .iter()
                .position(|one| one.connection == connection)?;
            connections.remove(at);
            let newest = (0..connections.len()).max_by_key(|&one| {
                let one: &PeerConnection = &connections[one];
                (one.ordinal, one.connection)
            });
            if let Some(newest) = newest.filter(|_| at == 0) {
                connections.swap(0, newest);
            }
            Some((name.clone(), at, connections.first().cloned()))
        });
        let Some((name, at, next)) = found else {
            return;
        };
        if next.is_none() {
            peers.remove(&name);
            self.notify(UplinkNotice::PeerLost(name.clone()));
        }
        // The peer may have bid by another connection than this router does.
        if let Some(uplink) = &mut self.uplink {
            let turn = uplink.peers.election.lose(connection);
            self.take_turn(turn, connection);
        }
        if let Some(next) = next.filter(|_| at == 0) {
            self.activate_peer(name, next.connection, next.worker);
        }
    }

    /// Another edge router bids for the name of the mesh.
    pub(in crate::control) fn bid_heard(&mut self, connection: u64, message: &[u8]) {
        let (Some(uplink), Some(bid)) = (&mut self.uplink, Bid::decode(message)) else {
            return;
        };
        let turn = uplink
            .peers
            .election
            .hear(connection, bid, &mut self.random);
        self.take_turn(turn, connection);
    }

    fn take_turn(&mut self, turn: Turn, connection: u64) {
        if turn.ignores {
            self.notify(UplinkNotice::Unsteady(connection));
        }
        if turn.renamed {
            self.publish_mesh();
            self.announce_mesh();
        }
        let Some(uplink) = self.uplink.as_ref().filter(|_| turn.bids) else {
            return;
        };
        let peers = uplink.ways.iter().filter(|(_, way)| !way.is_interior());
        for connection in peers.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.send_bid(connection);
        }
    }

    /// Bids for the name of the mesh, once there is a link to do so.
    pub(super) fn send_bid(&mut self, connection: u64) {
        let Some(uplink) = &self.uplink else { return };
        let way = uplink.ways.get(&connection);
        if let Some(link) = way.and_then(|way| way.link(Kind::Bids)) {
            let bid = uplink.peers.election.bid().encode();
            self.tell(link, bid);
        }
    }

    /// Tells the network which mesh this router is in, once there is a link to do so.
    pub(super) fn announce_mesh(&mut self) {
        let Some(uplink) = &self.uplink else { return };
        let mesh = uplink.peers.mesh();
        if let Some(link) = uplink.active().and_then(|way| way.link(Kind::Discovery)) {
            let message = mesh.announcement();
            let command = Command::Announce { link, message };
            self.commands
                .push_back((Recipient::Worker(link.worker), command));
            self.notify(UplinkNotice::Mesh(mesh));
        }
    }

    fn tell(&mut self, link: LinkRef, message: Bytes) {
        let command = Command::Tell { link, message };
        self.commands
            .push_back((Recipient::Worker(link.worker), command));
    }
}
