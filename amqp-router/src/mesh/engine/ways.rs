//! The ways to other routers, worked out from what all say of their neighbours.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Mesh, Output};
use crate::mesh::notice::Notice;
use crate::mesh::paths::{NextHop, Route, Routes, shortest};

impl Mesh {
    /// Whether the paths could still be worked out in time if a router had these neighbours. If not,
    /// who claims the most of all is not believed.
    pub(super) fn has_room_for(
        &mut self,
        id: &str,
        peers: &BTreeMap<String, u32>,
        now: Instant,
    ) -> bool {
        let is_new = |id: &&String| !self.nodes.contains_key(&***id);
        let routers = self.nodes.len() + peers.keys().filter(is_new).count();
        let others = self.nodes.values().filter(|node| *node.id != *id);
        let mut connections = peers.len() + others.map(|node| node.peers.len()).sum::<usize>();
        while steps(routers, connections) > STEPS_MAX {
            let others = self.nodes.values_mut().filter(|node| *node.id != *id);
            let largest = others.max_by_key(|node| node.peers.len());
            let larger = largest.filter(|node| node.peers.len() > peers.len());
            let Some(node) = larger else {
                self.notice_too_many_peers(id);
                return false;
            };
            connections -= node.peers.len();
            // It is asked again, and believed when there is room.
            node.peers.clear();
            node.link_state.want();
            let id = Arc::clone(&node.id);
            self.notice_too_many_peers(&id);
            self.topology_changed(now);
        }
        true
    }

    fn notice_too_many_peers(&mut self, id: &str) {
        if self.noticed.insert((u32::MAX, "peers")) {
            let id = id.to_owned();
            self.notice(Notice::TooManyPeers { id });
        }
    }

    /// How long to wait from one computation of paths to the next, so that a burst of changes costs
    /// one, and those of a large network leave time for other things.
    pub(super) fn pause(&self) -> Duration {
        let rest = self.effort * REST;
        if self.urgent {
            rest
        } else {
            rest.max(INTERVAL)
        }
    }

    /// What is known of the network is not what it was.
    pub(super) fn topology_changed(&mut self, now: Instant) {
        self.stale = true;
        self.last_change = Some(now);
    }

    /// Finds the shortest paths.
    pub(super) fn compute(&mut self, now: Instant) {
        let mut states: BTreeMap<&str, &BTreeMap<String, u32>> = self
            .nodes
            .values()
            .map(|node| (&*node.id, &node.peers))
            .collect();
        states.insert(&self.settings.id, &self.peers);
        let (paths, radius) = shortest(&self.settings.id, &states);
        let connections = states.values().map(|peers| peers.len()).sum();
        let steps = steps(paths.len(), connections);
        self.effort = STEP * u32::try_from(steps).unwrap_or(u32::MAX);
        let index = |id: &str| self.nodes.get(id).map(|node| node.index);
        let mut routes = Routes {
            routes: vec![None; self.indices.len()],
            direct: Vec::new(),
            radius,
        };
        for node in self.nodes.values() {
            let path = paths.get(&*node.id);
            let next_hop = path.and_then(|path| {
                let first = self.nodes.get(path.first)?;
                Some(NextHop {
                    neighbour: first.neighbour?,
                    router: first.index,
                    cost: path.cost,
                })
            });
            let origins = path.map_or(&[][..], |path| &path.valid_origins);
            routes.routes[node.index.0 as usize] = Some(Route {
                id: Arc::clone(&node.id),
                next_hop,
                valid_origins: origins.iter().filter_map(|id| index(id)).collect(),
            });
            if let Some(neighbour) = node.neighbour {
                routes.direct.push((neighbour, node.index));
            }
        }
        for node in self.nodes.values_mut() {
            node.next_hop = routes.get(node.index).and_then(|route| route.next_hop);
            node.unreachable_since = match node.next_hop {
                Some(_) => None,
                None => node.unreachable_since.or(Some(now)),
            };
        }
        if *self.routes != routes {
            self.route_changes += 1;
            self.routes = Arc::new(routes);
            let routes = Arc::clone(&self.routes);
            self.outputs.push_back(Output::Routes(routes));
        }
        let silent = self.silent.drain(..).map(Output::Silent);
        self.outputs.extend(silent);
    }
}

/// What it takes to work out the paths from every router: each looks at each connection.
fn steps(routers: usize, connections: usize) -> usize {
    routers.saturating_mul(connections)
}

/// About how long one such step takes.
const STEP: Duration = Duration::from_nanos(30);
/// Steps that the paths may take: half a second, so that neighbours do not miss this router even where
/// that is four times as slow. Nineteen hundred routers that have four neighbours each are fewer.
const STEPS_MAX: usize = 15_000_000;
/// How many times as long as a computation took there is none.
const REST: u32 = 3;
/// Time between two computations of paths.
const INTERVAL: Duration = Duration::from_millis(50);
