//! The forwarding table that the control plane publishes: immutable entries, replaced whole.
//!
//! Every worker keeps its own copy of the table, indexed by [`AddressId`], and learns of a change
//! as a new `Arc<AddressEntry>`; so a transfer reads it without a lock. The only thing that
//! workers share and write is the [`LinkLoad`] of each outgoing link.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::control::address::AddressKey;
use crate::control::edge_mesh::MeshId;
use crate::control::role::Role;
use crate::control::topology::{RouterIndex, Topology};

/// Deliveries that an outgoing link takes before it is no longer preferred, and the credit that an
/// incoming link is granted, unless `linkCapacity` says otherwise.
pub(crate) const DEFAULT_LINK_CAPACITY: u32 = 250;

/// The worker that owns a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WorkerId(pub(crate) u16);

impl WorkerId {
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// An address in the forwarding table. Small and dense, so that tables are vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AddressId(pub(crate) u32);

impl AddressId {
    /// Stands where a delivery goes to a link that was named directly.
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A slot in one of a worker's tables together with the serial number of its tenant, so that a
/// reference that crosses workers can never mean a later tenant of the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) index: u32,
    pub(crate) serial: u32,
}

/// A link as the control plane knows it: where it lives, and its slot there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LinkRef {
    pub(crate) worker: WorkerId,
    pub(crate) direction: Direction,
    pub(crate) slot: Slot,
}

/// Which way deliveries flow on a link, seen from the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// The peer is the sender.
    Incoming,
    /// The peer is the receiver.
    Outgoing,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Incoming => "in",
            Self::Outgoing => "out",
        })
    }
}

/// Which of an address's destinations get a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) enum Treatment {
    /// Every destination gets a copy.
    Multicast,
    /// The nearest one, in turn among equals.
    Closest,
    /// The least loaded one.
    #[default]
    Balanced,
    /// None: links to the address are refused.
    Unavailable,
}

impl Treatment {
    /// The word that configuration and management use.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Multicast => "multicast",
            Self::Closest => "closest",
            Self::Balanced => "balanced",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What every worker may know of a destination's backlog: deliveries queued for it or sent and
/// not settled.
#[derive(Debug, Default)]
pub(crate) struct LinkLoad {
    outstanding: AtomicU32,
    failures: AtomicU32,
    /// Whoever sends there has to say what routers tell each other, though no router is there.
    annotated: bool,
    /// How often a service could not be connected to since it last was.
    strikes: AtomicU32,
    /// What links have in common that took each other's place; 0 is none.
    line: AtomicU64,
}

impl LinkLoad {
    /// Of a destination whose messages have router annotations, or have none.
    pub(crate) fn new(annotated: bool) -> Self {
        Self {
            annotated,
            ..Self::default()
        }
    }

    pub(crate) fn is_annotated(&self) -> bool {
        self.annotated
    }

    pub(crate) fn get(&self) -> u32 {
        self.outstanding.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self) {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self) {
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
    }

    /// Makes the link look too busy to be chosen, for the moment until the table no longer names
    /// it.
    pub(crate) fn retire(&self) {
        self.outstanding.fetch_add(u32::MAX / 2, Ordering::Relaxed);
    }

    /// Whether it is a link that is gone.
    pub(crate) fn is_retired(&self) -> bool {
        self.get() >= u32::MAX / 2
    }

    /// The link takes the place of another, whose number is given: who is behind it is the same.
    pub(crate) fn succeed(&self, old: &Self, number: u64) {
        let line = match old.line.load(Ordering::Relaxed) {
            0 => number,
            line => line,
        };
        old.line.store(line, Ordering::Relaxed);
        self.line.store(line, Ordering::Relaxed);
    }

    /// Whether one of two links has taken the other's place, at once or by way of others.
    pub(crate) fn is_in_line_with(&self, other: &Self) -> bool {
        let line = self.line.load(Ordering::Relaxed);
        line != 0 && line == other.line.load(Ordering::Relaxed)
    }

    /// Whether others are preferred to it, as it has failed lately.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures() > 0
    }

    /// How often it has failed since it was last well.
    pub(crate) fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// It has failed once more. True if it was well until now.
    pub(crate) fn note_failure(&self) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// A service could not be connected to. Gives how often that is, one after the other.
    pub(crate) fn note_strike(&self) -> u32 {
        self.strikes
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1)
    }

    /// It has proved to be well.
    pub(crate) fn note_success(&self) {
        self.note_recovery();
        self.strikes.store(0, Ordering::Relaxed);
    }

    /// It is well, as far as is known.
    pub(crate) fn note_recovery(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }
}

/// A TCP service that this router connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectorId(pub(crate) u32);

/// Where deliveries to a destination leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlet {
    /// By a link of one worker.
    Link {
        worker: WorkerId,
        link: Slot,
        /// Its peer is a router, which wants annotations.
        to_router: bool,
    },
    /// By a TCP connection of their own, which whichever worker has the delivery makes.
    Connector(ConnectorId),
}

/// Where links lead that have more than one client behind them: to an edge router, or from one into
/// the network. What came from a side never goes back to it, nor into the mesh of edge routers that
/// it came from (`reference/router/inter-router-protocol.md` §6, edge echo).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Side {
    way: u64,
    mesh: Option<MeshId>,
    /// To an edge router's interior router, and so to all but its mesh.
    up: bool,
}

impl Side {
    /// Clients, services and neighbours.
    pub(crate) const NONE: Self = Self {
        way: 0,
        mesh: None,
        up: false,
    };
    /// The other edge routers of an edge router's mesh.
    pub(crate) const PEERS: Self = Self {
        way: u64::MAX,
        mesh: None,
        up: false,
    };
    /// What is beyond an edge router's interior router.
    pub(crate) const UP: Self = Self {
        up: true,
        ..Self::PEERS
    };

    /// The side that a connection of this identity leads to.
    pub(crate) fn of(role: Role, connection: u64, edge: bool) -> Self {
        match role {
            Role::Edge if edge => Self::UP,
            Role::InterEdge if edge => Self::PEERS,
            Role::Edge => Self {
                way: connection,
                ..Self::NONE
            },
            _ => Self::NONE,
        }
    }

    /// The same, in a mesh of edge routers.
    pub(crate) fn within(self, mesh: Option<MeshId>) -> Self {
        Self {
            mesh: mesh.or(self.mesh),
            ..self
        }
    }

    /// Whether it is beyond an edge router's own clients.
    pub(crate) fn is_network(self) -> bool {
        self.way == Self::PEERS.way
    }

    /// Whether it is beyond an edge router's interior router.
    pub(crate) fn is_up(self) -> bool {
        self.up
    }

    /// Whether what came from `other` may go here.
    pub(crate) fn takes(self, other: Self) -> bool {
        let elsewhere = self.way == 0 || self.way != other.way;
        elsewhere && (self.mesh.is_none() || self.mesh != other.mesh)
    }
}

/// One of this router's destinations of an address.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) outlet: Outlet,
    pub(crate) side: Side,
    /// It takes TCP streams whose octets do not wait for an answer.
    pub(crate) prompt: bool,
    pub(crate) capacity: u32,
    pub(crate) load: Arc<LinkLoad>,
}

/// Another router that has consumers of an address.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) router: RouterIndex,
    /// The mesh of edge routers that all its consumers are in, if they are.
    pub(crate) side: Side,
    /// They take TCP streams whose octets do not wait for an answer.
    pub(crate) prompt: bool,
    /// Deliveries to the address that were sent towards it and are not settled.
    pub(crate) load: Arc<LinkLoad>,
}

/// How deliveries to one address are to be forwarded, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct AddressEntry {
    pub(crate) id: AddressId,
    pub(crate) key: AddressKey,
    pub(crate) treatment: Treatment,
    /// Beats the priority in the message's header.
    pub(crate) priority: Option<u8>,
    /// Links and TCP services of this router.
    pub(crate) destinations: Vec<Destination>,
    /// Other routers.
    pub(crate) remotes: Vec<Remote>,
}

impl AddressEntry {
    /// Whether all of this router's own consumers take TCP streams whose octets do not wait for an
    /// answer.
    pub(crate) fn is_prompt(&self) -> bool {
        let own = |one: &&Destination| !one.side.is_network();
        let own = self.destinations.iter().filter(own);
        self.key.class() == 'M' && all(own.map(|one| one.prompt))
    }

    /// The same of everybody, here and elsewhere, whom that reaches which comes from a side.
    pub(crate) fn leads_promptly(&self, from: Side) -> bool {
        let here = self.destinations.iter().filter(|one| one.side.takes(from));
        let elsewhere = self.remotes.iter().filter(|one| one.side.takes(from));
        let prompt = here.map(|one| one.prompt);
        self.key.class() == 'M' && all(prompt.chain(elsewhere.map(|one| one.prompt)))
    }
}

/// Whether there are any, and all are.
fn all(which: impl Iterator<Item = bool>) -> bool {
    which.reduce(|all, one| all && one).unwrap_or(false)
}

/// One change to every worker's copy of the table.
#[derive(Clone, Debug)]
pub(crate) enum TableUpdate {
    Set(Arc<AddressEntry>),
    Remove(AddressId),
    /// The network has another shape.
    Topology(Arc<Topology>),
}
