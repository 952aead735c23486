//! Shortest paths through the network, as every router computes them
//! (`reference/router/inter-router-protocol.md` §5).
//!
//! All routers must agree, or messages go in circles: ties are broken by id, and never by what
//! came first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use super::{NeighbourId, RouterIndex};

/// How to reach every known router, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routes {
    /// By [`RouterIndex`].
    pub(super) routes: Vec<Option<Route>>,
    /// Which router each neighbour is.
    pub(super) direct: Vec<(NeighbourId, RouterIndex)>,
    /// How many hops away the farthest router is.
    pub(crate) radius: u32,
}

/// How to reach one router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) id: Arc<str>,
    /// None while it cannot be reached.
    pub(crate) next_hop: Option<NextHop>,
    /// Routers whose shortest path to it leads through this one.
    pub(crate) valid_origins: Vec<RouterIndex>,
}

/// The first step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NextHop {
    pub(crate) neighbour: NeighbourId,
    /// The neighbour as a router.
    pub(crate) router: RouterIndex,
    /// Of the whole path.
    pub(crate) cost: u32,
}

impl Routes {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RouterIndex, &Route)> {
        let routes = (0..).map(RouterIndex).zip(&self.routes);
        routes.filter_map(|(index, route)| Some((index, route.as_ref()?)))
    }

    pub(crate) fn get(&self, router: RouterIndex) -> Option<&Route> {
        self.routes.get(router.0 as usize)?.as_ref()
    }

    pub(crate) fn direct(&self) -> impl Iterator<Item = (NeighbourId, RouterIndex)> + '_ {
        self.direct.iter().copied()
    }
}

/// What routers say of their neighbours: for each router, the cost of the way to each of its own.
pub(super) type LinkStates<'a> = BTreeMap<&'a str, &'a BTreeMap<String, u32>>;

/// A path from this router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path<'a> {
    /// The first router on it, which may be the last.
    pub(super) first: &'a str,
    pub(super) cost: u32,
    /// Routers whose own path to the same end leads through this one.
    pub(super) valid_origins: Vec<&'a str>,
}

/// The shortest path from `me` to every router that can be reached, and how many hops the longest
/// has.
pub(super) fn shortest<'a>(
    me: &'a str,
    states: &LinkStates<'a>,
) -> (BTreeMap<&'a str, Path<'a>>, u32) {
    let graph = Graph::new(states);
    let Some(root) = graph.place(me) else {
        return Default::default();
    };
    let mine = graph.tree(root);
    let mut origins = vec![Vec::new(); graph.ids.len()];
    for &origin in mine.order.iter().skip(1) {
        let tree = graph.tree(origin);
        for through in tree.through(root) {
            origins[through].push(graph.ids[origin]);
        }
    }
    let mut first = vec![root; graph.ids.len()];
    let mut paths = BTreeMap::new();
    let mut radius = 0;
    for &at in mine.order.iter().skip(1) {
        let Some(before) = mine.before[at] else {
            continue;
        };
        first[at] = if before == root { at } else { first[before] };
        radius = radius.max(mine.hops[at]);
        let path = Path {
            first: graph.ids[first[at]],
            cost: mine.cost[at],
            valid_origins: std::mem::take(&mut origins[at]),
        };
        paths.insert(graph.ids[at], path);
    }
    (paths, radius)
}

/// Link states with places for ids, in the ids' order.
struct Graph<'a> {
    ids: Vec<&'a str>,
    edges: Vec<Vec<(usize, u32)>>,
}

/// The shortest paths from one router.
struct Tree {
    /// The routers that can be reached, nearest first.
    order: Vec<usize>,
    before: Vec<Option<usize>>,
    cost: Vec<u32>,
    hops: Vec<u32>,
}

impl<'a> Graph<'a> {
    fn new(states: &LinkStates<'a>) -> Self {
        let mut ids: Vec<&str> = states.keys().copied().collect();
        let claimed = states.values().flat_map(|peers| peers.keys());
        ids.extend(claimed.map(String::as_str));
        ids.sort_unstable();
        ids.dedup();
        let mut graph = Self {
            edges: vec![Vec::new(); ids.len()],
            ids,
        };
        for (from, peers) in states {
            let Some(from) = graph.place(from) else {
                continue;
            };
            for (to, cost) in *peers {
                let Some(at) = graph.place(to) else { continue };
                graph.edges[from].push((at, *cost));
                // Who has not said anything yet is as near to its neighbour as can be, so that it
                // can be asked.
                if !states.contains_key(to.as_str()) {
                    graph.edges[at].push((from, 1));
                }
            }
        }
        graph
    }

    fn place(&self, id: &str) -> Option<usize> {
        self.ids.binary_search(&id).ok()
    }

    fn tree(&self, root: usize) -> Tree {
        let count = self.ids.len();
        let mut tree = Tree {
            order: Vec::with_capacity(count),
            before: vec![None; count],
            cost: vec![u32::MAX; count],
            hops: vec![0; count],
        };
        let mut done = vec![false; count];
        let mut open = BinaryHeap::from([Reverse((0_u32, root))]);
        tree.cost[root] = 0;
        while let Some(Reverse((cost, at))) = open.pop() {
            if std::mem::replace(&mut done[at], true) {
                continue;
            }
            tree.order.push(at);
            for &(next, step) in &self.edges[at] {
                let total = cost.saturating_add(step);
                if !done[next] && total < tree.cost[next] {
                    tree.cost[next] = total;
                    tree.before[next] = Some(at);
                    tree.hops[next] = tree.hops[at] + 1;
                    open.push(Reverse((total, next)));
                }
            }
        }
        tree
    }
}

impl Tree {
    /// The routers to which the way leads through `middle`.
    fn through(&self, middle: usize) -> impl Iterator<Item = usize> + '_ {
        let mut through = vec![false; self.before.len()];
        self.order.iter().copied().filter(move |&at| {
            let before = self.before[at];
            through[at] = before.is_some_and(|before| before == middle || through[before]);
            through[at]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(links: &[(&str, &str, u32)]) -> BTreeMap<String, BTreeMap<String, u32>> {
        let mut states: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
        for &(a, b, cost) in links {
            for (a, b) in [(a, b), (b, a)] {
                states.entry(a.into()).or_default().insert(b.into(), cost);
            }
        }
        states
    }

    /// First hop, cost and valid origins of the path to each router, in words.
    fn paths(me: &str, links: &[(&str, &str, u32)]) -> Vec<String> {
        let states = states(links);
        let borrowed = states
            .iter()
            .map(|(id, peers)| (id.as_str(), peers))
            .collect();
        let (paths, radius) = shortest(me, &borrowed);
        let mut words: Vec<String> = paths
            .iter()
            .map(|(to, path)| {
                let origins = path.valid_origins.join(",");
                format!("{to}: {} {} [{origins}]", path.first, path.cost)
            })
            .collect();
        words.push(format!("radius {radius}"));
        words
    }

    #[test]
    fn a_line_leads_one_way() {
        let line = [("A", "B", 1), ("B", "C", 1)];
        assert_eq!(paths("A", &line), ["B: B 1 []", "C: B 2 []", "radius 2"]);
        assert_eq!(paths("B", &line), ["A: A 1 [C]", "C: C 1 [A]", "radius 1"]);
    }

    #[test]
    fn the_cheaper_way_is_taken_even_if_it_is_longer() {
        let triangle = [("A", "B", 10), ("A", "C", 2), ("C", "B", 3)];
        assert_eq!(
            paths("A", &triangle),
            ["B: C 5 []", "C: C 2 []", "radius 2"]
        );
        assert_eq!(
            paths("C", &triangle),
            ["A: A 2 [B]", "B: B 3 [A]", "radius 1"]
        );
    }

    #[test]
    fn among_equal_ways_the_lower_id_wins_everywhere() {
        let square = [("A", "B", 1), ("A", "C", 1), ("B", "D", 1), ("C", "D", 1)];
        assert_eq!(paths("A", &square)[2], "D: B 2 []");
        assert_eq!(
            paths("B", &square),
            ["A: A 1 [D]", "C: A 2 []", "D: D 1 [A]", "radius 2"]
        );
        assert_eq!(paths("C", &square)[0], "A: A 1 []");
    }

    #[test]
    fn who_has_said_nothing_yet_can_be_reached() {
        let mut states = states(&[("A", "B", 4)]);
        states.remove("B");
        let borrowed = states
            .iter()
            .map(|(id, peers)| (id.as_str(), peers))
            .collect();
        let (paths, _) = shortest("A", &borrowed);
        assert_eq!(paths["B"].cost, 4);
    }

    #[test]
    fn a_way_that_only_one_end_claims_leads_one_way() {
        let mut states = states(&[("A", "B", 1), ("B", "C", 1)]);
        states.insert("C".into(), BTreeMap::new());
        let borrowed: LinkStates<'_> = states
            .iter()
            .map(|(id, peers)| (id.as_str(), peers))
            .collect();
        assert!(shortest("A", &borrowed).0.contains_key("C"));
        assert!(shortest("C", &borrowed).0.is_empty());
    }
}
