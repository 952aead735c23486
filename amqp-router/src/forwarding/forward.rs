//! The state of one worker's data plane, and its turns.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::control::address::Identity;
use crate::control::pattern::PatternTree;
use crate::control::table::{AddressId, LinkLoad, LinkRef, Slot, Treatment, WorkerId};
use crate::control::topology::Topology;
use crate::forwarding::addresses::{Addresses, Choice};
use crate::forwarding::delivery::{Inbound, Outbound};
use crate::forwarding::finishing::Finishing;
use crate::forwarding::limits::{Denied, Malformed};
use crate::forwarding::links::{Incoming, Outgoing};
use crate::forwarding::mailbox::{Branch, Mail};
use crate::forwarding::replies::Replies;
use crate::forwarding::stats::{AddressCounts, Ages, Patience, Pool, Trouble, WorkerCounts};
use crate::forwarding::streams::Streams;
use crate::forwarding::table::Table;
use crate::forwarding::wire::Wire;

/// The data plane of one worker.
///
/// Its owner hands it what arrives (transfers, dispositions, credit, mail), then ends the turn;
/// everything it wants done it asks of [`Wire`] meanwhile, except what is for other workers, which
/// [`poll_mail`](Self::poll_mail) hands out.
#[derive(Debug)]
pub(crate) struct Forwarder {
    pub(super) settings: Settings,
    pub(super) addresses: Addresses,
    pub(super) topology: Arc<Topology>,
    pub(super) incoming: Table<Incoming>,
    pub(super) outgoing: Table<Outgoing>,
    pub(super) inbound: Table<Inbound>,
    pub(super) outbound: Table<Outbound>,
    /// Outgoing halves whose incoming half is on another worker.
    pub(super) foreign: HashMap<Branch, u32>,
    /// Outgoing links to be served this turn, by the priority of what they wait with.
    pub(super) ready: [Vec<u32>; PRIORITIES],
    /// Outgoing links that wait for room, by connection.
    pub(super) blocked: HashMap<u32, Vec<u32>>,
    /// Links to routers that wait for messages which are not complete.
    pub(super) streams: Streams,
    /// Incoming links whose credit is to be looked at.
    pub(super) dirty: Vec<u32>,
    /// Incoming links that at the last tick were waited for with their window shut.
    pub(super) starving: Vec<u32>,
    pub(super) counts: WorkerCounts,
    pub(super) ticks: u32,
    /// Messages of neighbours for the control plane.
    pub(super) heard: VecDeque<(Slot, Bytes)>,
    /// Links by which the control plane's messages have been answered.
    pub(super) answered: VecDeque<Slot>,
    pub(super) denied: VecDeque<Denied>,
    pub(super) malformed: Vec<Malformed>,
    /// How addresses are treated that nobody has attached to.
    pub(super) rules: PatternTree<Treatment>,
    pub(super) troubles: VecDeque<(LinkRef, Trouble)>,
    /// The latest time that is known: what is counted by seconds asks for no more.
    pub(super) latest: Option<Instant>,
    pub(super) ages: Ages,
    pub(super) mail: VecDeque<(WorkerId, Mail)>,
    /// Room to choose links in.
    pub(super) chosen: Vec<Choice>,
    /// What counts deliveries that were sent to one link by name.
    pub(super) direct: Arc<LinkLoad>,
    /// Destinations that others are preferred to, and until when.
    pub(super) failing: Vec<(Instant, Arc<LinkLoad>)>,
    /// Octets that are kept to be sent again.
    pub(super) kept: usize,
    /// Links that are to go.
    pub(super) finishing: Vec<Finishing>,
    /// Workers that have put up the fence that is going up, with this one.
    pub(super) fenced: u16,
    /// It knows nothing of prompt streams, like a skrouterd.
    #[cfg(test)]
    pub(crate) is_foreign: bool,
}

/// What a forwarder must know of its router.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) worker: WorkerId,
    /// How many there are.
    pub(crate) workers: u16,
    pub(crate) identity: Arc<Identity>,
    /// How addresses that nobody has attached to are treated.
    pub(crate) default_treatment: Treatment,
    pub(crate) replies: Replies,
    pub(crate) patience: Patience,
}

impl Forwarder {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            addresses: Addresses::default(),
            topology: Arc::default(),
            streams: Streams::default(),
            incoming: Table::default(),
            outgoing: Table::default(),
            inbound: Table::default(),
            outbound: Table::default(),
            foreign: HashMap::new(),
            ready: Default::default(),
            blocked: HashMap::new(),
            dirty: Vec::new(),
            starving: Vec::new(),
            counts: WorkerCounts::default(),
            ticks: 0,
            heard: VecDeque::new(),
            answered: VecDeque::new(),
            denied: VecDeque::new(),
            malformed: Vec::new(),
            rules: PatternTree::default(),
            troubles: VecDeque::new(),
            latest: None,
            ages: Ages::default(),
            mail: VecDeque::new(),
            chosen: Vec::new(),
            direct: Arc::default(),
            failing: Vec::new(),
            kept: 0,
            finishing: Vec::new(),
            fenced: 0,
            #[cfg(test)]
            is_foreign: false,
        }
    }

    /// What the router must know of itself has changed, and with it what addresses mean.
    pub(crate) fn set_identity(&mut self, identity: Arc<Identity>) {
        self.settings.identity = identity;
        for (_, incoming) in self.incoming.iter_mut() {
            incoming.last_to = None;
            if let Some(course) = &mut incoming.course {
                course.address = None;
            }
        }
    }

    /// Whether this is an edge router.
    pub(crate) fn is_edge(&self) -> bool {
        self.settings.identity.edge
    }

    /// The memory that links and deliveries have.
    pub(crate) fn pools(&self) -> [Pool; 4] {
        [
            self.incoming.pool("incoming_link"),
            self.outgoing.pool("outgoing_link"),
            self.inbound.pool("incoming_delivery"),
            self.outbound.pool("outgoing_delivery"),
        ]
    }

    pub(crate) fn counts(&self) -> WorkerCounts {
        self.counts
    }

    pub(crate) fn address_counts(&self) -> impl Iterator<Item = (AddressId, AddressCounts)> {
        self.addresses.counts()
    }

    pub(crate) fn counts_of(
        &self,
        addresses: &HashSet<AddressId>,
    ) -> Vec<(AddressId, AddressCounts)> {
        let counts = |id: &AddressId| Some((*id, self.addresses.counts_of(*id)?));
        addresses.iter().filter_map(counts).collect()
    }

    /// Deliveries on their way through this worker.
    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.inbound.len() + self.outbound.len()
    }

    /// Both halves of all deliveries that are here.
    #[cfg(test)]
    pub(crate) fn describe(&self) -> String {
        let inbound: Vec<_> = self.inbound.iter().map(|(_, one)| one).collect();
        let outbound: Vec<_> = self.outbound.iter().map(|(_, one)| one).collect();
        format!("{inbound:?}, {outbound:?}")
    }

    /// Serves the links that have something to send and tops up credit. Nothing is left undone
    /// that could be done now.
    pub(crate) fn end_turn<W: Wire>(&mut self, wire: &mut W, now: Instant) {
        self.latest = Some(now);
        self.serve(wire, now);
        self.grant_credit(wire, now);
    }
}

pub(super) const PRIORITIES: usize = 10;
