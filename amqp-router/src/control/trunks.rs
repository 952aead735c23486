//! The connections to neighbours, and which of several to one neighbour are in use
//! (`reference/router/inter-router-protocol.md` §2).
//!
//! A connector makes one connection by which routers speak and send, and further ones for messages
//! that take long. All of them carry the connector's correlator, and the ordinal of the
//! certificate that they were made with. A connection with the correlator of an older one *succeeds*
//! it once its links are there: the neighbour stays the same, so no path changes. What is on its way
//! by the older one goes on there; nothing new does.
//!
//! ```text
//!   opens             its control links are attached              a newer one has succeeded it
//!     │  ┌───────────┐                        ┌────────┐                        ┌─────────┐
//!     ├─▶│ successor │───────────────────────▶│ active │───────────────────────▶│ retired │
//!     │  └───────────┘                        └────────┘                        └─────────┘
//!     └──────────────────────────────────────────▲ there is no other
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use crate::codec::{Fields, Value};
use crate::control::network::Opened;
use crate::control::table::{Direction, LinkRef, Slot, WorkerId};
use crate::control::topology::{NeighbourIndex, NeighbourRow};
use crate::control::trunk::{Purpose, RouterLink, Ticket, Trunk};

/// What the connections of one connector have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// The connector's, for as long as there is one.
    pub(crate) correlator: Arc<str>,
    /// Of the certificate that the connection was made with: a higher one succeeds a lower one.
    pub(crate) ordinal: u64,
}

impl Group {
    /// What the peer of a connection says of it, which has connected.
    pub(crate) fn of_peer(properties: &Fields) -> Option<Self> {
        let correlator = properties.get("qd.group-correlator")?.as_str()?;
        let ordinal = match properties.get("qd.group-ordinal") {
            Some(Value::Ulong(ordinal)) => *ordinal,
            _ => 0,
        };
        let sensible = !correlator.is_empty() && correlator.len() <= CORRELATOR_MAX;
        sensible.then(|| Self {
            correlator: correlator.into(),
            ordinal,
        })
    }
}

/// The connections to neighbours.
#[derive(Debug, Default)]
pub(super) struct Trunks {
    by_connection: BTreeMap<u64, Trunk>,
    neighbours: Vec<Neighbour>,
    data: BTreeMap<u64, DataConnection>,
    changes: VecDeque<Change>,
}

/// Which connections to a neighbour matter.
#[derive(Clone, Copy, Debug, Default)]
struct Neighbour {
    /// The one in use.
    active: Option<u64>,
    /// Takes its place when it has its links.
    successor: Option<u64>,
}

/// A connection for messages that take long.
#[derive(Debug)]
struct DataConnection {
    worker: WorkerId,
    group: Group,
    party: Party,
    /// The first link, which the others are attached beside.
    ticket: Ticket,
    home: Option<Slot>,
}

/// Who a peer is: what claims to belong together must come from one router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Party {
    pub(super) container: String,
    pub(super) user: Option<String>,
}

/// What follows from what has happened to connections.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// A neighbour can be spoken to.
    Up(NeighbourIndex, u32),
    Down(NeighbourIndex),
    /// Messages go other ways from now on.
    Ways,
    Detach(LinkRef),
    Close(WorkerId, u64, &'static str),
    Notice(TrunkNotice),
}

/// What an operator wants to know of the connections to neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TrunkNotice {
    /// One connection takes the place of another.
    Succeeded { old: u64, new: u64 },
    /// There is a connection with a higher ordinal, or one that is about to be.
    Outdated { connection: u64, by: u64 },
    /// The connections of one connector lead to different routers.
    Split {
        connection: u64,
        container: String,
        other: u64,
        others: String,
    },
    /// There are more routers than the neighbour of a connection can know.
    Crowded {
        connection: u64,
        container: String,
        routers: usize,
    },
}

impl TrunkNotice {
    /// Whether something is wrong.
    pub(crate) fn is_trouble(&self) -> bool {
        matches!(self, Self::Split { .. } | Self::Crowded { .. })
    }
}

impl fmt::Display for TrunkNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded { old, new } => write!(f, "Upgrading connection [C{old}] to [C{new}]"),
            Self::Outdated { connection, by } => {
                write!(
                    f,
                    "Existing connection [C{by}] takes precedence, closing [C{connection}]"
                )
            }
            Self::Split {
                connection,
                container,
                other,
                others,
            } => write!(
                f,
                "Connection group failure: connections split across routers: \
                 {container} ([C{connection}]) and {others} ([C{other}])"
            ),
            Self::Crowded {
                connection,
                container,
                routers,
            } => write!(
                f,
                "There are {routers} other routers, of which the neighbour {container} \
                 ([C{connection}]) knows {SKROUTERD_MAX} at most: it will not reach all of them"
            ),
        }
    }
}

impl Trunks {
    /// What is to be done, in order.
    pub(super) fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    pub(super) fn get(&self, connection: u64) -> Option<&Trunk> {
        self.by_connection.get(&connection)
    }

    pub(super) fn get_mut(&mut self, connection: u64) -> Option<&mut Trunk> {
        self.by_connection.get_mut(&connection)
    }

    /// The link to tell a neighbour things by.
    pub(super) fn control_out(&self, neighbour: NeighbourIndex) -> Option<LinkRef> {
        self.active(neighbour)?.control_out()
    }

    /// Every neighbour as workers see it, by its number.
    pub(super) fn rows(&self) -> impl Iterator<Item = Option<NeighbourRow>> {
        (0..self.neighbours.len() as u32).map(|index| {
            let trunk = self.active(NeighbourIndex(index))?;
            let mut row = trunk.row()?;
            if let Some(group) = &trunk.group {
                let data = self.data.values();
                let data = data.filter(|one| one.group == *group && one.party == trunk.party);
                row.streams = data
                    .filter_map(|one| Some((one.worker, one.home?)))
                    .collect();
            }
            Some(row)
        })
    }

    /// What to tell an operator now that there are so many other routers: of each neighbour that
    /// cannot know all of them, once.
    pub(super) fn crowded(&mut self, routers: usize) -> Vec<TrunkNotice> {
        if routers <= SKROUTERD_MAX {
            return Vec::new();
        }
        let trunks = self.by_connection.values_mut();
        let unaware = trunks.filter(|trunk| trunk.may_be_crowded);
        let notices = unaware.map(|trunk| {
            trunk.may_be_crowded = false;
            TrunkNotice::Crowded {
                connection: trunk.connection,
                container: trunk.party.container.clone(),
                routers,
            }
        });
        notices.collect()
    }

    /// A connection has been opened by which routers speak.
    pub(super) fn open(&mut self, opened: &Opened) {
        let neighbour = self.kin(opened).unwrap_or_else(|| self.vacant());
        let at = &mut self.neighbours[neighbour.0 as usize];
        let trunk = Trunk::new(neighbour, opened);
        let mut others = [at.successor, at.active].into_iter().flatten();
        let newer = others.find(|other| {
            let other = self.by_connection.get(other);
            other.is_some_and(|other| other.ordinal() > trunk.ordinal())
        });
        if let Some(by) = newer {
            let connection = opened.connection;
            let notice = TrunkNotice::Outdated { connection, by };
            self.changes.push_back(Change::Notice(notice));
            let text = "Existing connection takes precedence";
            return self.close(opened.worker, connection, text);
        }
        if at.active.is_none() {
            at.active = Some(opened.connection);
        } else if let Some(old) = at.successor.replace(opened.connection)
            && let Some(old) = self.by_connection.get(&old)
        {
            let (worker, old) = (old.worker, old.connection);
            self.close(worker, old, "New inter-router connection takes precedence");
        }
        self.by_connection.insert(opened.connection, trunk);
    }

    /// A connection has been opened for messages that take long; `ticket` is of its first link.
    /// False if it is of no use.
    pub(super) fn open_data(&mut self, opened: &Opened, ticket: Ticket) -> bool {
        let Some(group) = opened.group.clone().filter(|_| opened.trunking) else {
            return false;
        };
        let party = Party::of(opened);
        let mut trunks = self.by_connection.values();
        let other = trunks.find(|trunk| trunk.group.as_ref() == Some(&group));
        if let Some(other) = other.filter(|trunk| trunk.party.container != party.container) {
            let notice = TrunkNotice::Split {
                connection: opened.connection,
                container: party.container.clone(),
                other: other.connection,
                others: other.party.container.clone(),
            };
            self.changes.push_back(Change::Notice(notice));
        }
        let data = DataConnection {
            worker: opened.worker,
            group,
            party,
            ticket,
            home: None,
        };
        self.data.insert(opened.connection, data);
        true
    }

    /// The peer has accepted a link that was asked for with a ticket. True if it was one of these.
    pub(super) fn data_attached(&mut self, ticket: Ticket, link: &RouterLink) -> bool {
        let data = self.data.get_mut(&link.connection);
        let Some(data) = data.filter(|data| data.ticket == ticket) else {
            return false;
        };
        data.home = Some(link.link.slot);
        self.changes.push_back(Change::Ways);
        true
    }

    /// A connection is gone.
    pub(super) fn closed(&mut self, connection: u64) {
        if let Some(data) = self.data.remove(&connection) {
            if data.home.is_some() {
                self.changes.push_back(Change::Ways);
            }
            return;
        }
        let Some(trunk) = self.by_connection.remove(&connection) else {
            return;
        };
        let neighbour = trunk.neighbour;
        let at = &mut self.neighbours[neighbour.0 as usize];
        at.successor.take_if(|one| *one == connection);
        if at.active.take_if(|one| *one == connection).is_none() {
            return;
        }
        let next = at.successor.take().or_else(|| self.usable(neighbour));
        self.neighbours[neighbour.0 as usize].active = next;
        self.active_changed(neighbour, trunk.up.then_some(trunk.cost));
    }

    /// A link to a neighbour is there.
    pub(super) fn add_link(
        &mut self,
        connection: u64,
        link: LinkRef,
        purpose: Purpose,
        capacity: u32,
    ) {
        let Some(trunk) = self.by_connection.get_mut(&connection) else {
            return;
        };
        let was_up = trunk.up;
        trunk.add(link, purpose, capacity);
        let (neighbour, cost) = (trunk.neighbour, trunk.cost);
        let (up, sends) = (trunk.up, trunk.row().is_some());
        let at = self.neighbours[neighbour.0 as usize];
        if at.active == Some(connection) {
            if up && !was_up {
                self.changes.push_back(Change::Up(neighbour, cost));
            }
            if matches!(purpose, Purpose::Data(_)) && link.direction == Direction::Outgoing {
                self.changes.push_back(Change::Ways);
            }
        } else if at.successor == Some(connection) && up && sends {
            let active = self.active(neighbour).filter(|active| active.up);
            self.succeed(neighbour, active.map(|active| active.cost));
        }
    }

    /// A link that serves no address is gone.
    pub(super) fn link_lost(&mut self, connection: u64, link: LinkRef) {
        if let Some(data) = self.data.get_mut(&connection) {
            let home = data
                .home
                .take_if(|home| link.direction == Direction::Outgoing && *home == link.slot);
            if home.is_some() {
                self.changes.push_back(Change::Ways);
            }
            return;
        }
        let Some(trunk) = self.by_connection.get_mut(&connection) else {
            return;
        };
        let was_up = trunk.up;
        if !trunk.remove(link) {
            return;
        }
        let (neighbour, up, cost) = (trunk.neighbour, trunk.up, trunk.cost);
        let at = self.neighbours[neighbour.0 as usize];
        if at.active != Some(connection) {
            return;
        }
        let successor = at.successor.and_then(|one| self.get(one));
        if was_up && !up && successor.is_some_and(|successor| successor.up) {
            // The neighbour has seen it succeed before this router has.
            return self.succeed(neighbour, Some(cost));
        }
        if was_up && !up {
            self.changes.push_back(Change::Down(neighbour));
        }
        self.changes.push_back(Change::Ways);
    }

    /// The successor of a neighbour's connection takes its place; `before` is what the way cost if
    /// it was there.
    fn succeed(&mut self, neighbour: NeighbourIndex, before: Option<u32>) {
        let at = &mut self.neighbours[neighbour.0 as usize];
        let Some(new) = at.successor.take() else {
            return;
        };
        let Some(old) = at.active.replace(new) else {
            return self.active_changed(neighbour, before);
        };
        let notice = TrunkNotice::Succeeded { old, new };
        self.changes.push_back(Change::Notice(notice));
        let ordinal = self.get(new).map(Trunk::ordinal);
        let Some(trunk) = self.get(old) else { return };
        let (worker, control) = (trunk.worker, trunk.control());
        if Some(trunk.ordinal()) == ordinal {
            // A connector has one of each ordinal: it has lost this one.
            self.close(worker, old, "New inter-router connection takes precedence");
        } else if trunk.is_ours {
            self.changes.extend(control.map(Change::Detach));
        }
        self.active_changed(neighbour, before);
    }

    /// Another connection to a neighbour is in use, or none.
    fn active_changed(&mut self, neighbour: NeighbourIndex, before: Option<u32>) {
        let now = self.active(neighbour).filter(|trunk| trunk.up);
        let now = now.map(|trunk| trunk.cost);
        if before != now {
            let down = before.map(|_| Change::Down(neighbour));
            let up = now.map(|cost| Change::Up(neighbour, cost));
            self.changes.extend(down.into_iter().chain(up));
        }
        self.changes.push_back(Change::Ways);
    }

    fn close(&mut self, worker: WorkerId, connection: u64, text: &'static str) {
        self.changes
            .push_back(Change::Close(worker, connection, text));
    }

    pub(super) fn active(&self, neighbour: NeighbourIndex) -> Option<&Trunk> {
        let connection = self.neighbours.get(neighbour.0 as usize)?.active?;
        self.get(connection)
    }

    /// The neighbour that a connection of the same connector leads to.
    fn kin(&self, opened: &Opened) -> Option<NeighbourIndex> {
        let correlator = &opened.group.as_ref()?.correlator;
        let party = Party::of(opened);
        let mut trunks = self.by_connection.values();
        let kin = trunks.find(|trunk| {
            let group = trunk.group.as_ref();
            group.is_some_and(|group| group.correlator == *correlator) && trunk.party == party
        });
        kin.map(|trunk| trunk.neighbour)
    }

    /// Of the older connections to a neighbour, one that can be used again.
    fn usable(&self, neighbour: NeighbourIndex) -> Option<u64> {
        let trunks = self.by_connection.values();
        let usable = trunks.filter(|trunk| trunk.neighbour == neighbour && trunk.up);
        usable
            .max_by_key(|trunk| trunk.ordinal())
            .map(|trunk| trunk.connection)
    }

    /// A number for a neighbour that no connection has.
    fn vacant(&mut self) -> NeighbourIndex {
        let taken = |index: u32| {
            let mut trunks = self.by_connection.values();
            trunks.any(|trunk| trunk.neighbour.0 == index)
        };
        let index = (0..).find(|index| !taken(*index)).unwrap_or_default();
        let needed = index as usize + 1;
        if self.neighbours.len() < needed {
            self.neighbours.resize(needed, Neighbour::default());
        }
        self.neighbours[index as usize] = Neighbour::default();
        NeighbourIndex(index)
    }
}

impl Party {
    pub(super) fn of(opened: &Opened) -> Self {
        Self {
            container: opened.container.clone(),
            user: opened.user.clone(),
        }
    }
}

/// How many other routers a skrouterd knows at most: it has 128 bits for all.
const SKROUTERD_MAX: usize = 127;

/// Bytes of the longest correlator that is taken: several times what routers make.
const CORRELATOR_MAX: usize = 64;

#[cfg(test)]
mod tests;
