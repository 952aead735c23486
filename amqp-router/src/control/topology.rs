//! The network as workers see it: which neighbour leads to which router.
//!
//! Published whole, as part of the forwarding table, whenever a path changes.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::control::edge_mesh::MeshId;
use crate::control::table::{AddressEntry, Slot, WorkerId};

/// Another router of the network, by a small number of this router's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RouterIndex(pub(crate) u32);

/// A router that this one has a connection to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NeighbourIndex(pub(crate) u32);

/// Links to one neighbour, one for each priority.
pub(crate) const PRIORITIES: usize = 10;

/// The network at one moment.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    /// This router as others write it in messages: `0/<id>`. Empty for an edge router, and one
    /// that stands alone.
    pub(crate) me: Arc<str>,
    /// By [`RouterIndex`].
    pub(crate) routers: Vec<Option<RouterRow>>,
    /// The routers by `0/<id>`.
    pub(crate) by_name: HashMap<Arc<str>, RouterIndex>,
    /// By [`NeighbourIndex`].
    pub(crate) neighbours: Vec<Option<NeighbourRow>>,
    /// How many hops away the farthest router is.
    pub(crate) radius: u32,
    /// The mesh of edge routers that this one is in, which is told of what enters the network here.
    pub(crate) mesh: Option<MeshId>,
}

/// How to reach one router.
#[derive(Clone, Debug)]
pub(crate) struct RouterRow {
    /// What others call it: `0/<id>`.
    pub(crate) name: Arc<str>,
    /// None while it cannot be reached.
    pub(crate) hop: Option<Hop>,
    /// Whose shortest paths to this router pass through here. What enters the network here is
    /// always welcome.
    pub(crate) valid_origins: Arc<RouterSet>,
}

/// The first step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) neighbour: NeighbourIndex,
    /// Of the whole path.
    pub(crate) cost: u32,
}

/// A neighbour's links.
#[derive(Clone, Debug)]
pub(crate) struct NeighbourRow {
    /// Which router it is; it is connected before that is known.
    pub(crate) router: Option<RouterIndex>,
    /// Where the connection lives.
    pub(crate) worker: WorkerId,
    /// The links for messages of each priority.
    pub(crate) links: [Slot; PRIORITIES],
    pub(crate) capacity: u32,
    /// Of each further connection, for messages that take long, the link that others are attached
    /// beside.
    pub(crate) streams: Arc<[(WorkerId, Slot)]>,
}

/// Where a message entered the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ingress {
    Here,
    Router(RouterIndex),
    /// At a router that is not known here.
    Unknown,
}

/// Neighbours that a message need not be sent to because it has been there.
pub(crate) type Passed = SmallVec<[NeighbourIndex; 4]>;

impl Topology {
    /// The first step towards a router, for a message that entered at `ingress`.
    pub(crate) fn hop(&self, router: RouterIndex, ingress: Ingress) -> Option<Hop> {
        let row = self.routers.get(router.0 as usize)?.as_ref()?;
        let valid = match ingress {
            Ingress::Router(origin) => row.valid_origins.contains(origin),
            Ingress::Here | Ingress::Unknown => true,
        };
        row.hop.filter(|_| valid)
    }

    /// Deliveries to an address that are on their way to other routers, by the number of the
    /// neighbour that they go by.
    pub(crate) fn outstanding(&self, entry: &AddressEntry) -> Vec<u64> {
        let mut outstanding = Vec::new();
        for remote in &entry.remotes {
            let Some(hop) = self.hop(remote.router, Ingress::Here) else {
                continue;
            };
            let neighbour = hop.neighbour.0 as usize;
            if outstanding.len() <= neighbour {
                outstanding.resize(neighbour + 1, 0);
            }
            outstanding[neighbour] += u64::from(remote.load.get());
        }
        outstanding
    }

    pub(crate) fn neighbour(&self, index: NeighbourIndex) -> Option<&NeighbourRow> {
        self.neighbours.get(index.0 as usize)?.as_ref()
    }

    /// Where a message says that it entered the network.
    pub(crate) fn ingress(&self, name: Option<&str>) -> Ingress {
        match name {
            None => Ingress::Here,
            Some(name) if *name == *self.me => Ingress::Here,
            Some(name) => match self.by_name.get(name) {
                Some(&router) => Ingress::Router(router),
                None => Ingress::Unknown,
            },
        }
    }

    /// The neighbours that are among `names`, or lead to one of them directly.
    pub(crate) fn passed<'a>(&self, names: impl Iterator<Item = &'a str>) -> Passed {
        let mut passed = Passed::new();
        for name in names {
            let Some(router) = self.by_name.get(name) else {
                continue;
            };
            for (index, row) in self.neighbours.iter().enumerate() {
                if row.as_ref().is_some_and(|row| row.router == Some(*router)) {
                    passed.push(NeighbourIndex(index as u32));
                }
            }
        }
        passed
    }
}

/// A set of routers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouterSet(Vec<u64>);

impl RouterSet {
    pub(crate) fn insert(&mut self, router: RouterIndex) {
        let (word, bit) = place(router);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= bit;
    }

    pub(crate) fn contains(&self, router: RouterIndex) -> bool {
        let (word, bit) = place(router);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }
}

impl FromIterator<RouterIndex> for RouterSet {
    fn from_iter<I: IntoIterator<Item = RouterIndex>>(routers: I) -> Self {
        let mut set = Self::default();
        routers.into_iter().for_each(|router| set.insert(router));
        set
    }
}

fn place(router: RouterIndex) -> (usize, u64) {
    (router.0 as usize / 64, 1 << (router.0 % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::address::AddressKey;
    use crate::control::table::{AddressId, LinkLoad, Remote, Side, Treatment};

    fn row(origins: &[u32]) -> Option<RouterRow> {
        Some(RouterRow {
            name: "0/X".into(),
            hop: Some(Hop {
                neighbour: NeighbourIndex(0),
                cost: 3,
            }),
            valid_origins: Arc::new(origins.iter().map(|&n| RouterIndex(n)).collect()),
        })
    }

    #[test]
    fn only_valid_origins_are_sent_on() {
        let topology = Topology {
            me: "0/A".into(),
            routers: vec![row(&[1]), row(&[70])],
            by_name: [
                ("0/B".into(), RouterIndex(0)),
                ("0/C".into(), RouterIndex(1)),
            ]
            .into(),
            ..Topology::default()
        };
        let (b, c) = (RouterIndex(0), RouterIndex(1));
        assert!(topology.hop(b, topology.ingress(None)).is_some());
        assert!(topology.hop(b, topology.ingress(Some("0/A"))).is_some());
        assert!(topology.hop(b, topology.ingress(Some("0/C"))).is_some());
        assert!(topology.hop(c, topology.ingress(Some("0/B"))).is_none());
        assert!(topology.hop(c, Ingress::Router(RouterIndex(70))).is_some());
    }

    #[test]
    fn what_is_under_way_to_an_address_is_told_by_neighbour() {
        let way = |neighbour| {
            let mut row = row(&[])?;
            row.hop = Some(Hop {
                neighbour: NeighbourIndex(neighbour?),
                cost: 1,
            });
            Some(row)
        };
        let topology = Topology {
            routers: vec![way(Some(2)), way(Some(0)), way(Some(2)), way(None)],
            ..Topology::default()
        };
        let remote = |router, deliveries| {
            let load = Arc::new(LinkLoad::default());
            (0..deliveries).for_each(|_| load.add());
            Remote {
                router: RouterIndex(router),
                side: Side::NONE,
                prompt: false,
                load,
            }
        };
        let entry = AddressEntry {
            id: AddressId(0),
            key: AddressKey::mobile("a"),
            treatment: Treatment::Balanced,
            priority: None,
            destinations: Vec::new(),
            remotes: vec![remote(0, 3), remote(1, 1), remote(2, 4), remote(3, 5)],
        };
        assert_eq!(topology.outstanding(&entry), [1, 0, 7]);
    }
}
