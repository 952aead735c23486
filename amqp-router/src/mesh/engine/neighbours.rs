//! Neighbours: who is at the other end of each connection, and whether both ends hear each other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{EVERYONE, Mesh, Output, To};
use crate::mesh::NeighbourId;
use crate::mesh::message::{MAX_COST, Message};
use crate::mesh::notice::Notice;

/// A connection to another router, whose id is learnt from what it says.
#[derive(Debug)]
pub(super) struct Neighbour {
    pub(super) cost: u32,
    /// Who is at the other end, and when it was last heard.
    heard: Option<(String, Instant)>,
    /// When it last said that it hears this router.
    confirmed: Option<Instant>,
}

impl Neighbour {
    /// Whether each end has heard the other lately.
    pub(super) fn is_confirmed(&self, now: Instant, max_age: Duration) -> bool {
        self.confirmed
            .is_some_and(|at| now.duration_since(at) <= max_age)
    }
}

impl Mesh {
    /// A connection to another router can carry messages.
    pub(crate) fn neighbour_up(&mut self, id: NeighbourId, cost: u32, now: Instant) {
        let cost = cost.clamp(1, MAX_COST);
        let neighbour = Neighbour {
            cost,
            heard: None,
            confirmed: None,
        };
        self.neighbours.insert(id, neighbour);
        self.say_hello(id, now);
    }

    /// It no longer can.
    pub(crate) fn neighbour_down(&mut self, id: NeighbourId, now: Instant) {
        self.neighbours.remove(&id);
        self.lose_router_at(id, now);
        self.noticed.retain(|(neighbour, _)| *neighbour != id.0);
        self.work(now);
    }

    pub(super) fn on_hello(
        &mut self,
        from: NeighbourId,
        id: String,
        instance: Option<i64>,
        seen: &[String],
        now: Instant,
    ) {
        if id == self.settings.id {
            let another = instance != Some(self.settings.instance);
            if another && self.noticed.insert((from.0, "id")) {
                self.notice(Notice::DuplicateId { id });
            }
            return;
        }
        let max_age = self.settings.hello_max_age;
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        let before = neighbour.heard.as_ref().filter(|(of, _)| *of != id);
        let lately = before.is_some_and(|(_, at)| now.duration_since(*at) <= max_age);
        if lately {
            if self.noticed.insert((from.0, "another id")) {
                self.notice(Notice::AnotherId {
                    neighbour: from,
                    id,
                });
            }
            return;
        }
        let known = neighbour.heard.replace((id.clone(), now));
        if known.is_none_or(|(of, _)| of != id) {
            self.lose_router_at(from, now);
            self.say_hello(from, now);
        }
        if seen.contains(&self.settings.id) {
            self.confirm_neighbour(from, &id, instance, now);
        }
    }

    /// A router and this one hear each other.
    fn confirm_neighbour(
        &mut self,
        from: NeighbourId,
        id: &str,
        instance: Option<i64>,
        now: Instant,
    ) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        neighbour.confirmed = Some(now);
        let cost = neighbour.cost;
        let Some(node) = self.learn(id, now) else {
            return;
        };
        let restarted = node.has_restarted(instance, now);
        let (before, known) = (node.neighbour, node.is_reachable());
        let cheaper = before.is_some_and(|before| {
            let before = self.neighbours.get(&before);
            before.is_none_or(|before| cost < before.cost)
        });
        if (before.is_none() || cheaper)
            && let Some(node) = self.nodes.get_mut(id)
        {
            node.neighbour = Some(from);
            self.peers.insert(id.to_owned(), cost);
            self.link_state_changed(now);
        }
        if before.is_none() {
            if !known {
                self.introduce(from, id);
            }
            let id = id.to_owned();
            self.notice(Notice::NeighbourFound { id, cost });
        }
        if restarted {
            self.on_restart(id, now);
        }
    }

    /// Tells a neighbour, and whoever is behind it, what is known of others, so that they need not
    /// ask each of them.
    fn introduce(&mut self, to: NeighbourId, newcomer: &str) {
        for node in self.nodes.values().filter(|node| *node.id != *newcomer) {
            // What is known of others may be that of their predecessors.
            if node.link_state.sequence == 0 || !node.is_reachable() {
                continue;
            }
            let id = || node.id.to_string();
            let advertisement = Message::RouterAdvertisement {
                id: id(),
                instance: node.instance,
                link_state_sequence: node.link_state.sequence,
                address_sequence: node.addresses.sequence,
            };
            let update = Message::LinkStateUpdate {
                id: id(),
                instance: node.instance,
                sequence: node.link_state.sequence,
                peers: node.peers.clone(),
            };
            for message in [update, advertisement] {
                let message = message.encode(EVERYONE);
                let to = To::Neighbour(to);
                self.outputs.push_back(Output::Send { to, message });
            }
        }
    }

    /// Nobody, or somebody else, is at the other end of a connection.
    fn lose_router_at(&mut self, neighbour: NeighbourId, now: Instant) {
        let nodes = self.nodes.values();
        let mut lost = nodes.filter(|node| node.neighbour == Some(neighbour));
        if let Some(lost) = lost.next().map(|node| Arc::clone(&node.id)) {
            self.lose_neighbour(&lost, now);
        }
    }

    /// A router is no longer a neighbour by the connection that it was one by.
    pub(super) fn lose_neighbour(&mut self, id: &str, now: Instant) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        node.neighbour = None;
        self.peers.remove(id);
        let max_age = self.settings.hello_max_age;
        // There may be another connection to it.
        let others = self.neighbours.iter().filter(|(_, neighbour)| {
            let heard = neighbour.heard.as_ref();
            heard.is_some_and(|(of, _)| of == id) && neighbour.is_confirmed(now, max_age)
        });
        match others.min_by_key(|(_, neighbour)| neighbour.cost) {
            Some((&other, neighbour)) => {
                node.neighbour = Some(other);
                self.peers.insert(id.to_owned(), neighbour.cost);
            }
            None => self.notice(Notice::NeighbourLost { id: id.to_owned() }),
        }
        self.link_state_changed(now);
    }

    pub(super) fn say_hello(&mut self, to: NeighbourId, now: Instant) {
        let max_age = self.settings.hello_max_age;
        let heard = self.neighbours.values().filter_map(|n| n.heard.as_ref());
        let fresh = heard.filter(|(_, at)| now.duration_since(*at) <= max_age);
        let seen: BTreeSet<&String> = fresh.map(|(id, _)| id).collect();
        let hello = Message::Hello {
            id: self.settings.id.clone(),
            instance: Some(self.settings.instance),
            seen: seen.into_iter().cloned().collect(),
        };
        let message = hello.encode("amqp:/_local/qdhello");
        let to = To::Neighbour(to);
        self.outputs.push_back(Output::Send { to, message });
    }
}
