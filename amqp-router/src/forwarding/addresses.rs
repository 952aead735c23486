//! A worker's copy of the forwarding table.

use std::collections::HashMap;
use std::sync::Arc;

use crate::control::address::{AddressKey, UPLINK};
use crate::control::table::{
    AddressEntry, AddressId, ConnectorId, Destination, LinkLoad, Outlet, Remote, Slot, TableUpdate,
    Treatment, WorkerId,
};
use crate::control::topology::{NeighbourRow, RouterIndex};
use crate::forwarding::stats::{AddressCounts, Party};
use crate::forwarding::treatment::{self, Chosen, Journey};

/// The table, and what this worker alone keeps about each address.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    by_key: HashMap<AddressKey, AddressId>,
    rows: Vec<Option<Row>>,
    /// How many streams have left for neighbours.
    streams: usize,
}

/// By which of a neighbour's links a delivery may leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    pub(super) priority: u8,
    /// The worker that has it, if it goes on for as long as it likes.
    pub(super) stream: Option<WorkerId>,
}

#[derive(Debug)]
struct Row {
    entry: Arc<AddressEntry>,
    /// Whose turn it is among equals.
    turn: usize,
    counts: AddressCounts,
    /// This worker's incoming links to the address.
    producers: Vec<u32>,
}

/// Where a delivery goes.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) outlet: Outlet,
    /// Where the delivery is counted, if not on the link.
    pub(super) load: Option<Arc<LinkLoad>>,
    pub(super) prompt: Prompt,
    /// Its messages have router annotations.
    pub(super) annotated: bool,
}

/// How prompt streams, whose octets do not wait for an answer, leave by a link to a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    /// They do not: whoever is there may not take them.
    Never,
    /// As others.
    AsOthers,
    /// To an address of that router alone.
    To(RouterIndex),
}

impl Choice {
    fn local(destination: &Destination, remember: bool) -> Self {
        destination.load.add();
        // A delivery to a router may leave by another link than this one.
        let (moves, to_router) = match destination.outlet {
            Outlet::Link { to_router, .. } => (to_router, to_router),
            Outlet::Connector(_) => (true, false),
        };
        let remember = remember || moves;
        Self {
            outlet: destination.outlet,
            load: remember.then(|| Arc::clone(&destination.load)),
            prompt: match destination.outlet {
                Outlet::Link { .. } if destination.prompt => Prompt::AsOthers,
                _ => Prompt::Never,
            },
            annotated: to_router || destination.load.is_annotated(),
        }
    }

    fn neighbour(
        row: &NeighbourRow,
        lane: Lane,
        streams: &mut usize,
        remote: Option<&Remote>,
    ) -> Self {
        let load = remote.map(|remote| &remote.load);
        if let Some(load) = load {
            load.add();
        }
        let prompt = remote.filter(|remote| remote.prompt);
        let (worker, link) = lane.of(row, streams);
        Self {
            outlet: Outlet::Link {
                worker,
                link,
                to_router: true,
            },
            load: load.cloned(),
            prompt: prompt.map_or(Prompt::Never, |remote| Prompt::To(remote.router)),
            annotated: true,
        }
    }

    /// The link that a delivery was sent to by name.
    pub(super) fn direct(worker: WorkerId, link: Slot, load: &Arc<LinkLoad>) -> Self {
        load.add();
        Self {
            outlet: Outlet::Link {
                worker,
                link,
                to_router: false,
            },
            load: Some(Arc::clone(load)),
            prompt: Prompt::Never,
            annotated: false,
        }
    }
}

impl Lane {
    /// The link to a neighbour that a delivery leaves by. Streams have connections of their own,
    /// if there are any, in turn; but what can stay on its worker does.
    fn of(self, row: &NeighbourRow, streams: &mut usize) -> (WorkerId, Slot) {
        let shared = (row.worker, row.links[usize::from(self.priority)]);
        let Some(here) = self.stream.filter(|_| !row.streams.is_empty()) else {
            return shared;
        };
        let ways = || row.streams.iter().filter(|(worker, _)| *worker == here);
        *streams = streams.wrapping_add(1);
        match ways().count() {
            0 if row.worker == here => shared,
            0 => row.streams[*streams % row.streams.len()],
            count => ways().nth(*streams % count).copied().unwrap_or(shared),
        }
    }
}

impl Addresses {
    /// Applies a change. Names the address if it has just got its first destination.
    pub(super) fn apply(&mut self, update: TableUpdate) -> Option<AddressId> {
        match update {
            TableUpdate::Set(entry) => self.set(entry),
            TableUpdate::Remove(id) => {
                if let Some(row) = self.rows.get_mut(id.index()).and_then(Option::take) {
                    self.by_key.remove(&row.entry.key);
                }
                None
            }
            TableUpdate::Topology(_) => None,
        }
    }

    fn set(&mut self, entry: Arc<AddressEntry>) -> Option<AddressId> {
        let id = entry.id;
        let reachable = is_reachable(&entry);
        if self.rows.len() <= id.index() {
            self.rows.resize_with(id.index() + 1, || None);
        }
        match &mut self.rows[id.index()] {
            Some(row) => {
                let was_reachable = is_reachable(&row.entry);
                row.entry = entry;
                (reachable && !was_reachable).then_some(id)
            }
            vacant => {
                self.by_key.insert(entry.key.clone(), id);
                *vacant = Some(Row {
                    entry,
                    turn: 0,
                    counts: AddressCounts::default(),
                    producers: Vec::new(),
                });
                reachable.then_some(id)
            }
        }
    }

    pub(super) fn find(&self, key: &str) -> Option<AddressId> {
        self.by_key.get(key).copied()
    }

    /// The address that has this id now.
    pub(super) fn key(&self, id: AddressId) -> Option<&AddressKey> {
        self.row(id).map(|row| &row.entry.key)
    }

    /// Whether it is one that applications use.
    pub(super) fn is_mobile(&self, id: AddressId) -> bool {
        self.key(id).is_some_and(|key| key.class() == 'M')
    }

    pub(super) fn is_reachable(&self, id: AddressId) -> bool {
        self.row(id).is_some_and(|row| is_reachable(&row.entry))
    }

    /// The way into the network, of an edge router that has one.
    pub(super) fn uplink(&self) -> Option<AddressId> {
        self.find(UPLINK)
    }

    pub(super) fn treatment(&self, id: AddressId) -> Option<Treatment> {
        self.row(id).map(|row| row.entry.treatment)
    }

    pub(super) fn priority(&self, id: AddressId) -> Option<u8> {
        self.row(id)?.entry.priority
    }

    /// Puts in `chosen` the links that the next delivery goes to and counts it on each of them.
    pub(super) fn choose(
        &mut self,
        id: AddressId,
        journey: &Journey<'_>,
        lane: Lane,
        chosen: &mut Vec<Choice>,
    ) {
        chosen.clear();
        let beside = match self.treatment(id) {
            Some(Treatment::Multicast) if journey.leads_up => self.uplink(),
            _ => None,
        };
        let beside = beside.and_then(|up| self.row(up));
        let beside = beside.map(|row| Arc::clone(&row.entry));
        let Some(row) = self.rows.get_mut(id.index()).and_then(Option::as_mut) else {
            return;
        };
        let entry = &*row.entry;
        let one = match entry.treatment {
            Treatment::Closest => treatment::only(entry, journey)
                .or_else(|| treatment::closest(entry, &mut row.turn, journey)),
            Treatment::Balanced => treatment::only(entry, journey)
                .or_else(|| treatment::balanced(entry, &mut row.turn, journey)),
            Treatment::Unavailable => None,
            Treatment::Multicast => {
                let destinations = entry.destinations.iter();
                let leads_up = destinations.clone().any(|one| one.side.is_up());
                let beside = beside.iter().filter(|_| !leads_up);
                let destinations = destinations.chain(beside.flat_map(|up| &up.destinations));
                let destinations = destinations.filter(|one| !journey.excludes(one));
                chosen.extend(destinations.map(|one| Choice::local(one, false)));
                let branches = treatment::branches(entry, journey).into_iter();
                let branches = branches.filter_map(|to| journey.topology.neighbour(to));
                let streams = &mut self.streams;
                chosen.extend(branches.map(|row| Choice::neighbour(row, lane, streams, None)));
                None
            }
        };
        match one {
            Some(Chosen::Local(destination)) => {
                chosen.push(Choice::local(destination, journey.tried.is_some()));
            }
            Some(Chosen::Neighbour(neighbour, remote)) => {
                let row = journey.topology.neighbour(neighbour);
                let streams = &mut self.streams;
                chosen.extend(row.map(|row| Choice::neighbour(row, lane, streams, Some(remote))));
            }
            None => {}
        }
    }

    /// Another TCP service of an address than those that were tried: the least loaded of those
    /// that do not fail. The delivery is counted on it.
    pub(super) fn other_connector(
        &self,
        id: AddressId,
        tried: &[Arc<LinkLoad>],
    ) -> Option<(ConnectorId, Arc<LinkLoad>)> {
        let others = self.other_connectors(id, tried);
        let (id, load) = others.min_by_key(|(_, load)| load.get())?;
        load.add();
        Some((id, Arc::clone(load)))
    }

    /// Whether an address has other destinations than those that were tried, here or elsewhere.
    pub(super) fn has_others(&self, id: AddressId, tried: &[Arc<LinkLoad>]) -> bool {
        let is_elsewhere = |row: &Row| {
            let entry = &row.entry;
            let is_link = |one: &Destination| matches!(one.outlet, Outlet::Link { .. });
            !entry.remotes.is_empty() || entry.destinations.iter().any(is_link)
        };
        self.other_connectors(id, tried).next().is_some() || self.row(id).is_some_and(is_elsewhere)
    }

    fn other_connectors<'a>(
        &'a self,
        id: AddressId,
        tried: &'a [Arc<LinkLoad>],
    ) -> impl Iterator<Item = (ConnectorId, &'a Arc<LinkLoad>)> {
        let rows = self.row(id).into_iter();
        let destinations = rows.flat_map(|row| &row.entry.destinations);
        let connectors = destinations.filter_map(|one| match one.outlet {
            Outlet::Connector(id) => Some((id, &one.load)),
            Outlet::Link { .. } => None,
        });
        let is_tried = |load| tried.iter().any(|one| Arc::ptr_eq(one, load));
        connectors.filter(move |(_, load)| !load.is_failing() && !is_tried(load))
    }

    pub(super) fn count_ingress(&mut self, id: AddressId, from: Party) {
        if let Some(row) = self.rows.get_mut(id.index()).and_then(Option::as_mut) {
            row.counts.came(from);
        }
    }

    pub(super) fn count_transit(&mut self, id: AddressId) {
        if let Some(row) = self.rows.get_mut(id.index()).and_then(Option::as_mut) {
            row.counts.transit += 1;
        }
    }

    pub(super) fn count_egress(&mut self, id: AddressId, to: Party) {
        if let Some(row) = self.rows.get_mut(id.index()).and_then(Option::as_mut) {
            row.counts.went(to);
        }
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (AddressId, AddressCounts)> {
        self.rows
            .iter()
            .flatten()
            .map(|row| (row.entry.id, row.counts))
    }

    pub(super) fn counts_of(&self, id: AddressId) -> Option<AddressCounts> {
        self.row(id).map(|row| row.counts)
    }

    pub(super) fn add_producer(&mut self, id: AddressId, link: u32) {
        if let Some(row) = self.rows.get_mut(id.index()).and_then(Option::as_mut) {
            row.producers.push(link);
        }
    }

    pub(super) fn remove_producer(&mut self, id: AddressId, link: u32) {
        if let Some(row) = self.rows.get_mut(id.index()).and_then(Option::as_mut)
            && let Some(at) = row.producers.iter().position(|&producer| producer == link)
        {
            row.producers.swap_remove(at);
        }
    }

    pub(super) fn producers(&self, id: AddressId) -> &[u32] {
        self.row(id).map_or(&[], |row| &row.producers)
    }

    fn row(&self, id: AddressId) -> Option<&Row> {
        self.rows.get(id.index())?.as_ref()
    }
}

fn is_reachable(entry: &AddressEntry) -> bool {
    let somewhere = !entry.destinations.is_empty() || !entry.remotes.is_empty();
    somewhere && entry.treatment != Treatment::Unavailable
}
