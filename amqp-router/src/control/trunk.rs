//! The links of one connection to a neighbour, as the control plane knows them
//! (`reference/router/inter-router-protocol.md` §2).

use std::sync::Arc;

use crate::control::guard::Guard;
use crate::control::links::USUAL_PRIORITY;
use crate::control::network::Opened;
use crate::control::table::{Direction, LinkLoad, LinkRef, Slot, WorkerId};
use crate::control::topology::{NeighbourIndex, NeighbourRow, PRIORITIES};
use crate::control::trunks::{Group, Party};

/// What a link between routers is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// For what routers tell each other.
    Control,
    /// For messages of one priority.
    Data(u8),
    /// For messages that are not complete, one at a time.
    Stream,
    /// Of an edge router, or an auto link, for what its ticket says.
    Proxy(Ticket),
}

impl Purpose {
    /// How urgent is what goes by such a link.
    pub(super) fn priority(self) -> u8 {
        match self {
            Self::Control => HIGHEST_PRIORITY,
            Self::Data(priority) => priority,
            Self::Stream | Self::Proxy(_) => USUAL_PRIORITY,
        }
    }
}

/// Names a link that a worker is to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket(pub(super) u32);

/// A link that this router attached to a neighbour.
#[derive(Clone, Debug)]
pub(crate) struct RouterLink {
    pub(crate) link: LinkRef,
    /// The identity of its connection.
    pub(crate) connection: u64,
    pub(crate) name: String,
    pub(crate) purpose: Purpose,
    pub(crate) capacity: u32,
    /// The load record of an outgoing link.
    pub(crate) load: Option<Arc<LinkLoad>>,
}

/// A connection between routers.
#[derive(Debug)]
pub(super) struct Trunk {
    pub(super) connection: u64,
    pub(super) neighbour: NeighbourIndex,
    /// The connector's that has made it, here or there.
    pub(super) group: Option<Group>,
    pub(super) party: Party,
    /// This router has connected.
    pub(super) is_ours: bool,
    /// The neighbour may know fewer routers than there are, and nobody has been told so.
    pub(super) may_be_crowded: bool,
    pub(super) worker: WorkerId,
    pub(super) cost: u32,
    control: [Option<LinkRef>; 2],
    /// By priority, to the neighbour.
    data: [Option<Slot>; PRIORITIES],
    /// Links of a priority that the peer has attached, by direction.
    attached: [u8; 2],
    capacity: u32,
    /// Both control links are there.
    pub(super) up: bool,
    /// What policy lets the neighbour say; `None` is everything.
    pub(super) guard: Option<Guard>,
}

impl Trunk {
    pub(super) fn new(neighbour: NeighbourIndex, opened: &Opened) -> Self {
        Self {
            connection: opened.connection,
            neighbour,
            group: opened.group.clone(),
            party: Party::of(opened),
            is_ours: opened.connector.is_some(),
            may_be_crowded: opened.foreign,
            worker: opened.worker,
            cost: opened.cost,
            control: [None; 2],
            data: [None; PRIORITIES],
            attached: [0; 2],
            capacity: 0,
            up: false,
            guard: (opened.grant.as_ref())
                .map(|grant| Guard::new(Arc::clone(grant), &opened.container)),
        }
    }

    /// Of a link that the peer attaches for messages, what it is for: the first ten in each
    /// direction are for the priorities, in order.
    pub(super) fn next_data(&mut self, direction: Direction) -> Purpose {
        let attached = &mut self.attached[usize::from(direction == Direction::Outgoing)];
        if usize::from(*attached) >= PRIORITIES {
            return Purpose::Stream;
        }
        *attached += 1;
        Purpose::Data(*attached - 1)
    }

    pub(super) fn has_control(&self) -> bool {
        self.control.iter().any(Option::is_some)
    }

    /// Of the certificate that it was made with.
    pub(super) fn ordinal(&self) -> u64 {
        self.group.as_ref().map_or(0, |group| group.ordinal)
    }

    /// The links by which routers speak.
    pub(super) fn control(&self) -> impl Iterator<Item = LinkRef> + use<> {
        self.control.into_iter().flatten()
    }

    /// The link to tell the neighbour things by.
    pub(super) fn control_out(&self) -> Option<LinkRef> {
        self.control[1]
    }

    pub(super) fn add(&mut self, link: LinkRef, purpose: Purpose, capacity: u32) {
        let out = link.direction == Direction::Outgoing;
        match purpose {
            Purpose::Control => self.control[usize::from(out)] = Some(link),
            Purpose::Data(priority) if out => {
                self.data[usize::from(priority)] = Some(link.slot);
                self.capacity = capacity;
            }
            Purpose::Data(_) | Purpose::Stream | Purpose::Proxy(_) => {}
        }
        self.up = self.control.iter().all(Option::is_some);
    }

    /// A link is gone. True if it was one of those that the connection is to have.
    pub(super) fn remove(&mut self, link: LinkRef) -> bool {
        let mut known = false;
        for control in &mut self.control {
            known |= control.take_if(|control| *control == link).is_some();
        }
        if link.direction == Direction::Outgoing {
            for data in &mut self.data {
                known |= data.take_if(|slot| *slot == link.slot).is_some();
            }
        }
        self.up = self.control.iter().all(Option::is_some);
        known
    }

    /// The trunk as workers see it, once messages can be sent by it. A priority without a link
    /// uses the next lower one's.
    pub(super) fn row(&self) -> Option<NeighbourRow> {
        let mut lower = self.data.iter().flatten().next().copied()?;
        let mut links = [lower; PRIORITIES];
        for (link, own) in links.iter_mut().zip(&self.data) {
            lower = own.unwrap_or(lower);
            *link = lower;
        }
        Some(NeighbourRow {
            router: None,
            worker: self.worker,
            links,
            capacity: self.capacity,
            streams: Arc::default(),
        })
    }
}

/// The highest of the ten priorities.
const HIGHEST_PRIORITY: u8 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    fn link(direction: Direction, index: u32) -> LinkRef {
        LinkRef {
            worker: WorkerId(0),
            direction,
            slot: Slot { index, serial: 0 },
        }
    }

    fn trunk() -> Trunk {
        Trunk::new(NeighbourIndex(0), &Opened::default())
    }

    #[test]
    fn the_first_ten_links_each_way_are_the_priorities() {
        let mut trunk = trunk();
        for priority in 0..10 {
            for direction in [Direction::Incoming, Direction::Outgoing] {
                assert_eq!(trunk.next_data(direction), Purpose::Data(priority));
            }
        }
        assert_eq!(trunk.next_data(Direction::Incoming), Purpose::Stream);
    }

    #[test]
    fn a_trunk_is_up_while_both_control_links_are_there() {
        let mut trunk = trunk();
        trunk.add(link(Direction::Incoming, 1), Purpose::Control, 250);
        assert!(!trunk.up && trunk.has_control());
        trunk.add(link(Direction::Outgoing, 2), Purpose::Control, 250);
        assert!(trunk.up);
        trunk.remove(link(Direction::Incoming, 1));
        assert!(!trunk.up);
    }

    #[test]
    fn a_priority_without_a_link_uses_the_next_lower() {
        let mut trunk = trunk();
        assert!(trunk.row().is_none());
        for (priority, index) in [(2, 12), (5, 15)] {
            let link = link(Direction::Outgoing, index);
            trunk.add(link, Purpose::Data(priority), 100);
        }
        let row = trunk.row().unwrap();
        let indices: Vec<u32> = row.links.iter().map(|slot| slot.index).collect();
        assert_eq!(indices, [12, 12, 12, 12, 12, 15, 15, 15, 15, 15]);
        assert_eq!(row.capacity, 100);
    }
}
