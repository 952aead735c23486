//! The connections between routers: made by connectors, cut by chance, and made again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

use super::router::{Router, name};
use super::tap::{Sighting, Tap};
use super::wire::{Manner, Wire};
use crate::adaptors::amqp::{Annotated, ConnectionSettings, PeerInfo};
use crate::adaptors::components::Components;
use crate::codec::Symbol;
use crate::control::role::{Role, trunking};
use crate::control::trunks::Group;
use crate::endpoint::{Config, Connection, SaslPolicy};
use crate::worker::ConnectionId;

#[derive(Debug, Default)]
pub(super) struct Trunks {
    ways: Vec<Way>,
    trunks: Vec<Trunk>,
    /// Those that have an end yet.
    open: Vec<usize>,
    made: u64,
    /// Messages are looked at as they pass.
    pub(super) watched: bool,
    pub(super) sightings: Vec<Sighting>,
    /// Ends of connections that are over.
    pub(super) lost: u64,
}

/// What a connector of one router makes to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) manner: Manner,
    /// What the connector and the listener each say that it costs: the dearer counts.
    pub(super) costs: [u32; 2],
    /// Connections besides the first, for messages that take long.
    pub(super) data: usize,
}

#[derive(Debug)]
struct Way {
    plan: Plan,
    ordinal: u64,
    /// Those of the present ordinal, and older ones.
    trunks: Vec<usize>,
    older: Vec<usize>,
    /// What is lost is made again.
    persists: bool,
    /// When it is tried again.
    again: Option<Duration>,
}

#[derive(Debug)]
struct Trunk {
    ends: [End; 2],
    wires: [Wire; 2],
    /// Along each wire, where it comes out.
    taps: [Tap; 2],
}

#[derive(Debug)]
struct End {
    router: usize,
    worker: usize,
    connection: ConnectionId,
    /// What management calls the connection.
    id: u64,
    /// It is still there; its number may be another's later.
    open: bool,
    /// It has more to write than there was room for.
    waits: bool,
}

impl Plan {
    /// A connection like any other.
    pub(super) fn new(from: usize, to: usize, manner: Manner) -> Self {
        Self {
            from,
            to,
            manner,
            costs: [1, 1],
            data: 0,
        }
    }
}

impl Trunks {
    /// A connector starts to work; gives its number.
    pub(super) fn join(&mut self, routers: &mut [Router], plan: Plan, now: Instant) -> usize {
        self.ways.push(Way {
            plan,
            ordinal: 0,
            trunks: Vec::new(),
            older: Vec::new(),
            persists: false,
            again: None,
        });
        let way = self.ways.len() - 1;
        self.connect(routers, way, now);
        way
    }

    /// How many connectors there are.
    pub(super) fn ways(&self) -> usize {
        self.ways.len()
    }

    /// What it costs to go by it, if it leads from interior router to interior router.
    pub(super) fn cost(&self, way: usize) -> u32 {
        let [connector, listener] = self.ways[way].plan.costs;
        connector.max(listener)
    }

    pub(super) fn plan(&self, way: usize) -> &Plan {
        &self.ways[way].plan
    }

    /// From now on what is lost is made again.
    pub(super) fn persist(&mut self, way: usize, persists: bool) {
        self.ways[way].persists = persists;
    }

    /// The connector makes its connections anew, with a higher ordinal.
    pub(super) fn renew(&mut self, routers: &mut [Router], way: usize, now: Instant) {
        let of = &mut self.ways[way];
        of.ordinal += 1;
        of.older.append(&mut of.trunks);
        self.connect(routers, way, now);
    }

    /// Closes the connections that have been succeeded.
    pub(super) fn retire(&mut self, way: usize, rng: &mut StdRng) {
        for trunk in std::mem::take(&mut self.ways[way].older) {
            self.cut_trunk(trunk, rng);
        }
    }

    /// Cuts all that a connector has made.
    pub(super) fn cut(&mut self, way: usize, rng: &mut StdRng) {
        self.retire(way, rng);
        for trunk in std::mem::take(&mut self.ways[way].trunks) {
            self.cut_trunk(trunk, rng);
        }
    }

    fn cut_trunk(&mut self, trunk: usize, rng: &mut StdRng) {
        for wire in &mut self.trunks[trunk].wires {
            wire.cut(rng);
        }
    }

    /// Nothing comes through until then, and nobody is told.
    pub(super) fn stall(&mut self, way: usize, until: Duration) {
        for &trunk in &self.ways[way].trunks {
            for wire in &mut self.trunks[trunk].wires {
                wire.stall(until);
            }
        }
    }

    pub(super) fn resume(&mut self) {
        let wires = self.trunks.iter_mut().flat_map(|trunk| &mut trunk.wires);
        wires.for_each(Wire::resume);
    }

    /// A router is gone without a word.
    pub(super) fn vanish(&mut self, router: usize, rng: &mut StdRng) {
        for Trunk { ends, wires, .. } in &mut self.trunks {
            for (end, wire) in ends.iter_mut().zip(wires) {
                if end.open && end.router == router {
                    end.open = false;
                    wire.cut(rng);
                    self.lost += 1;
                }
            }
        }
    }

    /// The router at the other end of the connection that a router knows as `id`.
    pub(super) fn other_end(&self, router: usize, id: u64) -> Option<usize> {
        let ends = self.trunks.iter().flat_map(|trunk| {
            let [a, b] = &trunk.ends;
            [(a, b), (b, a)]
        });
        let mut of_it = ends.filter(|(end, _)| end.router == router && end.id == id);
        of_it.next().map(|(_, other)| other.router)
    }

    /// Whether all connections are there that connectors are to make.
    pub(super) fn are_whole(&self) -> bool {
        let ways = self.ways.iter().filter(|way| way.persists);
        { ways }.all(|way| {
            let trunks = way.trunks.iter().map(|&trunk| &self.trunks[trunk]);
            way.trunks.len() == way.plan.data + 1 && { trunks }
                .all(|trunk| trunk.ends.iter().all(|end| end.open))
        })
    }

    fn connect(&mut self, routers: &mut [Router], way: usize, now: Instant) {
        for number in 0..=self.ways[way].plan.data {
            let trunk = self.make(routers, way, number, now);
            self.ways[way].trunks.push(trunk);
        }
    }

    fn make(&mut self, routers: &mut [Router], way: usize, number: usize, now: Instant) -> usize {
        let ends = [false, true].map(|server| self.end(routers, way, number, server, now));
        let manner = self.ways[way].plan.manner;
        self.trunks.push(Trunk {
            ends,
            wires: [Wire::new(manner), Wire::new(manner)],
            taps: Default::default(),
        });
        let trunk = self.trunks.len() - 1;
        self.open.push(trunk);
        trunk
    }

    /// One end of a connection between routers.
    fn end(
        &mut self,
        routers: &mut [Router],
        way: usize,
        number: usize,
        server: bool,
        now: Instant,
    ) -> End {
        let Way { plan, ordinal, .. } = &self.ways[way];
        let router = if server { plan.to } else { plan.from };
        let role = match [plan.from, plan.to].map(|router| routers[router].is_edge()) {
            [true, true] => Role::InterEdge,
            [true, false] => Role::Edge,
            _ if number > 0 && !server => Role::InterRouterData,
            _ => Role::InterRouter,
        };
        let mut endpoint = Config {
            container_id: name(router),
            max_frame_size: 16_384,
            sasl: match server {
                true => SaslPolicy::default(),
                false => SaslPolicy::Client(None),
            },
            offered_capabilities: capabilities(),
            desired_capabilities: capabilities(),
            ..Config::default()
        };
        let correlator = format!("way{way}");
        let cost = plan.costs[usize::from(server)];
        let properties = &mut endpoint.properties;
        if !routers[plan.from].is_edge() && cost > 1 {
            properties.insert("qd.inter-router-cost", cost as i32);
        }
        if !server && !routers[plan.from].is_edge() {
            properties.insert("qd.group-correlator", &*correlator);
            properties.insert("qd.group-ordinal", *ordinal);
            if number > 0 {
                properties.insert("qd.inter-router-role", 4);
            }
        }
        let group = (!server).then(|| Group {
            correlator: (&*correlator).into(),
            ordinal: *ordinal,
        });
        let endpoint = Arc::new(endpoint);
        let connection = match server {
            true => Connection::server(Arc::clone(&endpoint), now),
            false => Connection::client(Arc::clone(&endpoint), now),
        };
        let settings = ConnectionSettings {
            name: "trunk".into(),
            role,
            cost,
            link_capacity: 250,
            governed: false,
            policy_vhost: None,
            group,
            annotated: Annotated::default(),
            messages: Components::default(),
            max_message_size: None,
            endpoint,
        };
        let peer = PeerInfo {
            incoming: server,
            ..PeerInfo::default()
        };
        // Routers speak on the last worker; the others are spread, as sockets are.
        let workers = routers[router].hubs.len();
        let worker = (workers - 1 + number) % workers;
        self.made += 1;
        let id = FIRST_ID + self.made;
        let adopting = routers[router].worker(worker);
        End {
            router,
            worker,
            connection: adopting.add_connection(id, connection, Arc::new(settings), peer),
            id,
            open: true,
            waits: true,
        }
    }

    /// When the next octets arrive, or a connector tries again.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let mut due = None;
        let mut note = |other: Option<Duration>| {
            if let Some(other) = other {
                due = Some(due.map_or(other, |due: Duration| due.min(other)));
            }
        };
        for &trunk in &self.open {
            let Trunk { ends, wires, .. } = &self.trunks[trunk];
            for side in 0..2 {
                if ends[side].open {
                    note(wires[1 - side].next_due());
                }
            }
        }
        for way in self.ways.iter().filter(|way| way.persists) {
            note(way.again);
        }
        due
    }

    /// Carries what there is between routers, and has connectors try again. True if that is
    /// anything.
    pub(super) fn pump(
        &mut self,
        routers: &mut [Router],
        at: Duration,
        now: Instant,
        rng: &mut StdRng,
    ) -> bool {
        let (mut moved, mut lost) = (false, false);
        for index in 0..self.open.len() {
            let trunk = self.open[index];
            for side in 0..2 {
                moved |= self.pump_end(routers, (trunk, side), at, now, rng);
            }
            let [a, b] = &self.trunks[trunk].ends;
            lost |= !a.open && !b.open;
        }
        if lost {
            let trunks = &self.trunks;
            self.open
                .retain(|&trunk| trunks[trunk].ends.iter().any(|end| end.open));
        }
        for way in 0..self.ways.len() {
            moved |= self.try_again(routers, way, at, now, rng);
        }
        moved
    }

    fn pump_end(
        &mut self,
        routers: &mut [Router],
        (trunk, side): (usize, usize),
        at: Duration,
        now: Instant,
        rng: &mut StdRng,
    ) -> bool {
        let Trunk { ends, wires, taps } = &mut self.trunks[trunk];
        let end = &mut ends[side];
        if !end.open {
            return false;
        }
        let (router, connection) = (&mut routers[end.router], end.connection);
        let heard = &wires[1 - side];
        let is_due = heard.next_due().is_some_and(|due| due <= at) || heard.is_at_end();
        if !is_due && !router.wrote && !end.waits {
            return false;
        }
        let mut moved = false;
        if let Some(octets) = wires[1 - side].take(at, rng) {
            if self.watched {
                taps[side].read(&octets, end.router, &mut self.sightings);
            }
            router.worker(end.worker).input(connection, octets, now);
            moved = true;
        } else if wires[1 - side].is_at_end() {
            let worker = router.worker(end.worker);
            worker.eof(connection, false, now);
            worker.remove(connection, now);
            end.open = false;
            wires[side].finish();
            self.lost += 1;
            return true;
        }
        let worker = &mut router.hubs[end.worker].worker;
        if let Some(out) = worker.output(connection) {
            assert!(
                out.len() <= OUT_MAX,
                "{} octets wait for a trunk",
                out.len()
            );
            let carried = wires[side].carry(out, at, rng);
            let is_empty = out.is_empty();
            end.waits = !is_empty;
            if carried {
                router.worker(end.worker).written(connection, now);
                moved = true;
            }
            let worker = &mut router.hubs[end.worker].worker;
            if is_empty && worker.is_finished(connection) {
                router.worker(end.worker).remove(connection, now);
                end.open = false;
                wires[side].finish();
                self.lost += 1;
                return true;
            }
        }
        moved
    }

    /// Makes again what a connector has lost, after a while.
    fn try_again(
        &mut self,
        routers: &mut [Router],
        way: usize,
        at: Duration,
        now: Instant,
        rng: &mut StdRng,
    ) -> bool {
        let of = &mut self.ways[way];
        if !of.persists {
            return false;
        }
        let wanted = of.plan.data + 1;
        let trunks = &self.trunks;
        if of.trunks.len() == wanted && !of.trunks.iter().any(|&trunk| is_lost(trunks, trunk)) {
            of.again = None;
            return false;
        }
        let due = *of.again.get_or_insert_with(|| {
            let while_ = Duration::from_millis(rng.random_range(100..2000));
            at + while_
        });
        if due > at {
            return false;
        }
        of.again = None;
        of.trunks.resize(wanted, usize::MAX);
        for number in 0..wanted {
            let trunk = self.ways[way].trunks[number];
            if is_lost(&self.trunks, trunk) {
                self.ways[way].trunks[number] = self.make(routers, way, number, now);
            }
        }
        true
    }
}

/// Whether a connection is not there any more for its connector, or has never been.
fn is_lost(trunks: &[Trunk], trunk: usize) -> bool {
    trunks.get(trunk).is_none_or(|trunk| !trunk.ends[0].open)
}

fn capabilities() -> Vec<Symbol> {
    vec![
        Symbol::from("ANONYMOUS-RELAY"),
        Symbol::from("qd.streaming-links"),
        trunking(),
    ]
}

/// Where the numbers of connections between routers start.
const FIRST_ID: u64 = 1_000_000;
/// More than may ever wait to be written to one connection.
pub(super) const OUT_MAX: usize = 1536 * 1024;
