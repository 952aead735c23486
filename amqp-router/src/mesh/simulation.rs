//! Whole networks of protocol engines, in virtual time.
//!
//! A seed decides the shape of the network and what happens to it: ways are cut and mended, routers
//! vanish and come back as others, somebody takes a router's name for a while, addresses come and
//! go, messages are late and, for a while, get lost. A way may cost more in one direction than in the
//! other. When it has been quiet for long enough every router must know what is true: who can be
//! reached, at what cost, who has which address; and what enters anywhere must get everywhere by
//! the routers' own next hops, each of them finding that its way is valid.
//!
//! ```sh
//! SIM_SEED=17 cargo test -p amqp-router mesh::simulation -- --nocapture
//! ```

mod scale;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{LocalAddress, Mesh, NeighbourId, Output, RouterIndex, Routes, Settings, To};
use crate::codec::Message;
use crate::control::address::AddressKey;
use crate::control::recent::Recent;
use crate::control::table::Treatment;

/// A network.
struct Net {
    rng: StdRng,
    start: Instant,
    at: Duration,
    routers: Vec<Router>,
    ways: Vec<Way>,
    /// Messages on their way, by when they arrive.
    flying: BTreeMap<(Duration, u64), Flight>,
    sent: u64,
    /// When the last message arrives that was sent over a way to a router.
    last: BTreeMap<(usize, usize), Duration>,
    /// Of the messages sent.
    octets: u64,
    /// What engines have used of a processor.
    busy: Duration,
    /// Messages that get lost, in a hundred.
    loss: u32,
    delay: Duration,
    /// Somebody has had another's name.
    disputed: bool,
}

struct Router {
    id: String,
    instance: i64,
    /// None while it is down.
    mesh: Option<Mesh>,
    routes: Arc<Routes>,
    /// What it has learnt.
    remote: BTreeSet<(RouterIndex, AddressKey)>,
    local: BTreeSet<AddressKey>,
    recent: Recent,
}

/// A connection between two routers; its number is the neighbour's at both ends.
struct Way {
    ends: [usize; 2],
    /// From either end to the other.
    costs: [u32; 2],
    up: bool,
}

struct Flight {
    to: usize,
    way: usize,
    trace: Vec<usize>,
    aim: Aim,
    message: Bytes,
}

#[derive(Clone)]
enum Aim {
    Here,
    Everyone,
    Router(String),
}

impl Net {
    #[allow(clippy::disallowed_methods)] // where its time starts makes no difference
    fn new(routers: usize, ways: &[(usize, usize, [u32; 2])], rng: StdRng) -> Self {
        let mut net = Self {
            rng,
            start: Instant::now(),
            at: Duration::ZERO,
            routers: Vec::new(),
            ways: Vec::new(),
            flying: BTreeMap::new(),
            sent: 0,
            octets: 0,
            busy: Duration::ZERO,
            last: BTreeMap::new(),
            loss: 0,
            delay: Duration::from_millis(5),
            disputed: false,
        };
        for number in 0..routers {
            net.add(format!("R{number}"), 0);
        }
        for &(a, b, costs) in ways {
            net.join([a, b], costs);
        }
        net
    }

    /// Starts another router, which nobody is connected to.
    fn add(&mut self, id: String, instance: i64) -> usize {
        self.routers.push(Router {
            id,
            instance,
            mesh: None,
            routes: Arc::default(),
            remote: BTreeSet::new(),
            local: BTreeSet::new(),
            recent: Recent::default(),
        });
        let number = self.routers.len() - 1;
        self.boot(number);
        number
    }

    fn join(&mut self, ends: [usize; 2], costs: [u32; 2]) {
        let up = false;
        self.ways.push(Way { ends, costs, up });
        self.mend(self.ways.len() - 1);
    }

    fn now(&self) -> Instant {
        self.start + self.at
    }

    fn boot(&mut self, number: usize) {
        let now = self.now();
        let router = &mut self.routers[number];
        router.instance += 1;
        let mut mesh = Mesh::new(settings(&router.id, router.instance), now);
        for key in &router.local {
            mesh.set_local_address(key.clone(), BALANCED);
        }
        router.mesh = Some(mesh);
        router.recent = Recent::default();
        router.remote.clear();
        router.routes = Arc::default();
    }

    /// Somebody else has a router's name from now on, and two connections into the network.
    fn usurp(&mut self, of: usize, routers: usize) {
        self.disputed = true;
        // Before all others of that name, or after them.
        let instance = [-10, self.rng.random_range(50..100)][self.rng.random_range(0..2)];
        let number = self.add(self.routers[of].id.clone(), instance);
        self.serve(number, "a0");
        self.serve(number, "usurped");
        for _ in 0..2 {
            let to = self.rng.random_range(0..routers);
            self.join([number, to], [1, 1]);
        }
    }

    fn kill(&mut self, number: usize) {
        self.routers[number].mesh = None;
        for way in 0..self.ways.len() {
            if self.ways[way].ends.contains(&number) {
                self.cut(way);
            }
        }
    }

    fn mend(&mut self, way: usize) {
        let Way { ends, costs, up } = self.ways[way];
        if up || ends.iter().any(|&end| self.routers[end].mesh.is_none()) {
            return;
        }
        self.ways[way].up = true;
        for (end, cost) in ends.into_iter().zip(costs) {
            let now = self.now();
            if let Some(mesh) = &mut self.routers[end].mesh {
                mesh.neighbour_up(NeighbourId(way as u32), cost, now);
            }
            self.follow(end);
        }
    }

    fn cut(&mut self, way: usize) {
        if !std::mem::replace(&mut self.ways[way].up, false) {
            return;
        }
        self.flying.retain(|_, flight| flight.way != way);
        for end in self.ways[way].ends {
            let now = self.now();
            if let Some(mesh) = &mut self.routers[end].mesh {
                mesh.neighbour_down(NeighbourId(way as u32), now);
            }
            self.follow(end);
        }
    }

    fn serve(&mut self, number: usize, name: &str) {
        let key = AddressKey::mobile(name);
        let router = &mut self.routers[number];
        if let Some(mesh) = &mut router.mesh {
            if router.local.remove(&key) {
                mesh.remove_local_address(&key);
            } else {
                mesh.set_local_address(key.clone(), BALANCED);
                router.local.insert(key);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.at + time;
        while let Some(due) = self.next_due().filter(|due| *due <= end) {
            self.at = self.at.max(due);
            self.step();
        }
        self.at = end;
    }

    fn next_due(&self) -> Option<Duration> {
        let flights = self.flying.keys().next().map(|(at, _)| *at);
        let timers = self.routers.iter().filter_map(|router| {
            let due = router.mesh.as_ref()?.poll_timeout()?;
            Some(due.saturating_duration_since(self.start))
        });
        timers.chain(flights).min()
    }

    fn step(&mut self) {
        while let Some(entry) = self.flying.first_entry() {
            if entry.key().0 > self.at {
                break;
            }
            let flight = entry.remove();
            self.arrive(flight);
        }
        let now = self.now();
        for number in 0..self.routers.len() {
            if let Some(mesh) = &mut self.routers[number].mesh
                && mesh.poll_timeout().is_some_and(|due| due <= now)
            {
                let stopwatch = stopwatch();
                mesh.handle_timeout(now);
                self.busy += stopwatch.elapsed();
                let next = mesh.poll_timeout();
                assert!(next.is_none_or(|next| next > now), "a timer stands still");
                self.follow(number);
            }
        }
    }

    fn arrive(&mut self, flight: Flight) {
        let now = self.now();
        let here = flight.to;
        if flight.trace.contains(&here) {
            return;
        }
        let mine = match &flight.aim {
            Aim::Here | Aim::Everyone => true,
            Aim::Router(id) => *id == self.routers[here].id,
        };
        if mine && let Some(mesh) = &mut self.routers[here].mesh {
            let stopwatch = stopwatch();
            mesh.receive(NeighbourId(flight.way as u32), &flight.message, now);
            self.busy += stopwatch.elapsed();
        }
        let mut trace = flight.trace;
        trace.push(here);
        match &flight.aim {
            Aim::Everyone if !self.routers[here].recent.is_new(&flight.message, now) => {}
            Aim::Everyone => {
                for way in self.branches(here) {
                    if !trace.contains(&self.other_end(way, here)) {
                        self.fly(way, here, &trace, Aim::Everyone, &flight.message);
                    }
                }
            }
            Aim::Router(id) if !mine => {
                if let Some(way) = self.way_to(here, id) {
                    self.fly(way, here, &trace, flight.aim.clone(), &flight.message);
                }
            }
            _ => {}
        }
        self.follow(here);
    }

    /// Does what a router's engine wants done.
    fn follow(&mut self, number: usize) {
        while let Some(output) = self.next_output(number) {
            let router = &mut self.routers[number];
            match output {
                Output::Routes(routes) => router.routes = routes,
                Output::RemoteAddress {
                    router: of,
                    key,
                    info,
                } => {
                    let news = match info {
                        Some(_) => router.remote.insert((of, key)),
                        None => router.remote.remove(&(of, key)),
                    };
                    assert!(news, "an address is told of twice");
                }
                Output::Notice(notice) => {
                    assert!(self.disputed || !notice.is_trouble(), "{notice}");
                }
                Output::Send { to, message } => self.send(number, to, &message),
                Output::Silent(_) => {}
            }
        }
    }

    fn next_output(&mut self, number: usize) -> Option<Output> {
        let stopwatch = stopwatch();
        let output = self.routers[number].mesh.as_mut()?.poll_output();
        self.busy += stopwatch.elapsed();
        output
    }

    fn send(&mut self, from: usize, to: To, message: &Bytes) {
        match to {
            To::Neighbour(way) => {
                let aim = match addressee(message).as_str() {
                    "all" => Aim::Everyone,
                    _ => Aim::Here,
                };
                self.fly(way.0 as usize, from, &[from], aim, message);
            }
            To::AllRouters => {
                for way in self.branches(from) {
                    self.fly(way, from, &[from], Aim::Everyone, message);
                }
            }
            To::Router(router, otherwise) => {
                let route = self.routers[from].routes.get(router);
                let hop = route.and_then(|route| route.next_hop);
                let way = hop.map(|hop| hop.neighbour).or(otherwise);
                if let Some(way) = way {
                    let aim = Aim::Router(addressee(message));
                    self.fly(way.0 as usize, from, &[from], aim, message);
                }
            }
        }
    }

    fn fly(&mut self, way: usize, from: usize, trace: &[usize], aim: Aim, message: &Bytes) {
        if !self.ways[way].up || self.rng.random_range(0..100) < self.loss {
            return;
        }
        let late = self.delay.as_micros() as u64;
        let late = Duration::from_micros(self.rng.random_range(late / 2..=late));
        self.sent += 1;
        self.octets += message.len() as u64;
        // What goes one way stays in order.
        let to = self.other_end(way, from);
        let last = self.last.entry((way, to)).or_default();
        let arrives = (self.at + late).max(*last);
        *last = arrives;
        self.flying.insert(
            (arrives, self.sent),
            Flight {
                to,
                way,
                trace: trace.to_vec(),
                aim,
                message: message.clone(),
            },
        );
    }

    fn other_end(&self, way: usize, from: usize) -> usize {
        let [a, b] = self.ways[way].ends;
        if a == from { b } else { a }
    }

    fn branches(&self, router: usize) -> BTreeSet<usize> {
        let routes = self.routers[router].routes.iter();
        routes
            .filter_map(|(_, route)| route.next_hop)
            .map(|hop| hop.neighbour.0 as usize)
            .collect()
    }

    fn way_to(&self, from: usize, id: &str) -> Option<usize> {
        let mut routes = self.routers[from].routes.iter();
        let (_, route) = routes.find(|(_, route)| *route.id == *id)?;
        route.next_hop.map(|hop| hop.neighbour.0 as usize)
    }

    fn number(&self, id: &str) -> usize {
        id[1..].parse().expect("ids are R and a number")
    }

    /// The true costs between all routers, worked out in another way than routers do it.
    fn true_costs(&self) -> Vec<Vec<Option<u32>>> {
        let count = self.routers.len();
        let mut costs = vec![vec![None; count]; count];
        for way in self.ways.iter().filter(|way| way.up) {
            let [a, b] = way.ends;
            for ((a, b), cost) in [(a, b), (b, a)].into_iter().zip(way.costs) {
                let known: &mut Option<u32> = &mut costs[a][b];
                *known = Some(known.map_or(cost, |known| known.min(cost)));
            }
        }
        for middle in 0..count {
            for a in 0..count {
                for b in 0..count {
                    if let (Some(x), Some(y)) = (costs[a][middle], costs[middle][b])
                        && a != b
                        && costs[a][b].is_none_or(|known| x + y < known)
                    {
                        costs[a][b] = Some(x + y);
                    }
                }
            }
        }
        costs
    }

    /// What is wrong, if anything, with what routers know.
    fn fault(&self) -> Option<String> {
        let costs = self.true_costs();
        let alive = |n: &usize| self.routers[*n].mesh.is_some();
        for from in (0..self.routers.len()).filter(alive) {
            let router = &self.routers[from];
            let mut known = vec![None; self.routers.len()];
            for (_, route) in router.routes.iter() {
                known[self.number(&route.id)] = route.next_hop.map(|hop| hop.cost);
            }
            if known != costs[from] {
                return Some(format!(
                    "R{from} knows costs {known:?} of {:?}",
                    costs[from]
                ));
            }
            let mut remote: BTreeSet<(usize, AddressKey)> = BTreeSet::new();
            for (index, key) in &router.remote {
                let route = router.routes.get(*index)?;
                remote.insert((self.number(&route.id), key.clone()));
            }
            let reachable = (0..self.routers.len()).filter(|&to| costs[from][to].is_some());
            let truth: BTreeSet<(usize, AddressKey)> = reachable
                .flat_map(|to| {
                    self.routers[to]
                        .local
                        .iter()
                        .map(move |key| (to, key.clone()))
                })
                .collect();
            if remote != truth {
                return Some(format!("R{from} knows addresses {remote:?} of {truth:?}"));
            }
            for to in (0..self.routers.len()).filter(|&to| costs[from][to].is_some()) {
                if let Some(fault) = self.walk(from, to) {
                    return Some(fault);
                }
            }
        }
        None
    }

    /// Follows next hops from one router to another; each on the way must find it a valid one.
    fn walk(&self, from: usize, to: usize) -> Option<String> {
        let (mut here, target) = (from, &self.routers[to].id);
        for _ in 0..self.routers.len() {
            if here == to {
                return None;
            }
            let routes = &self.routers[here].routes;
            let (_, route) = routes.iter().find(|(_, route)| *route.id == **target)?;
            let origins = route.valid_origins.iter();
            let mut origins = origins.filter_map(|origin| routes.get(*origin));
            if here != from && !origins.any(|origin| *origin.id == *self.routers[from].id) {
                return Some(format!("R{from} to R{to} is not valid at R{here}"));
            }
            let Some(hop) = route.next_hop else {
                return Some(format!("R{from} to R{to} ends at R{here}"));
            };
            here = self.other_end(hop.neighbour.0 as usize, here);
        }
        Some(format!("R{from} to R{to} goes in circles"))
    }

    /// Lets time pass until everything is right; how long that took.
    fn settle(&mut self, most: Duration) -> Duration {
        let from = self.at;
        while self.at - from < most {
            let step = match self.at - from {
                soon if soon < Duration::from_millis(500) => Duration::from_millis(10),
                _ => Duration::from_millis(250),
            };
            if self.fault().is_none() {
                return self.at - from;
            }
            self.pass(step);
        }
        panic!("after {most:?}: {}", self.fault().unwrap_or_default());
    }
}

#[allow(clippy::disallowed_methods)] // nothing is decided by what it shows
fn stopwatch() -> Instant {
    Instant::now()
}

/// The router that a message is addressed to.
fn addressee(message: &[u8]) -> String {
    let message = Message::decode(message).expect("it is well formed");
    let to = message.properties.and_then(|properties| properties.to);
    let to = to.expect("it is addressed");
    to.split('/').nth(3).unwrap_or_default().to_owned()
}

fn settings(id: &str, instance: i64) -> Settings {
    Settings {
        id: id.to_owned(),
        instance,
        hello_interval: Duration::from_secs(1),
        hello_max_age: Duration::from_secs(3),
        ra_interval: Duration::from_secs(30),
        ra_interval_flux: Duration::from_secs(4),
        remote_ls_max_age: Duration::from_secs(60),
        unreachable_holdoff: Duration::from_secs(1),
        max_routers: 4096,
    }
}

const BALANCED: LocalAddress = LocalAddress {
    treatment: Treatment::Balanced,
    in_links: 0,
    mesh: None,
    prompt: false,
};

/// Ways that cost as much in either direction.
fn level(ways: Vec<(usize, usize, u32)>) -> Vec<(usize, usize, [u32; 2])> {
    ways.into_iter().map(|(a, b, c)| (a, b, [c, c])).collect()
}

pub(crate) fn shape(kind: usize, count: usize, rng: &mut StdRng) -> Vec<(usize, usize, u32)> {
    let mut pairs = Vec::new();
    match kind {
        0 => pairs.extend((1..count).map(|n| (n - 1, n))),
        1 => pairs.extend((0..count).map(|n| (n, (n + 1) % count))),
        2 => pairs.extend((0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)))),
        _ => {
            pairs.extend((1..count).map(|n| (rng.random_range(0..n), n)));
            for _ in 0..rng.random_range(0..count) {
                let (a, b) = (rng.random_range(0..count), rng.random_range(0..count));
                if a != b {
                    pairs.push((a, b));
                }
            }
        }
    }
    let equal = rng.random_bool(0.4);
    let cost = |rng: &mut StdRng| if equal { 1 } else { rng.random_range(1..=5) };
    pairs.into_iter().map(|(a, b)| (a, b, cost(rng))).collect()
}

fn seed(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let kind = rng.random_range(0..4);
    let most = if kind == 2 { 8 } else { 24 };
    let count = rng.random_range(3..=most);
    let mut ways = level(shape(kind, count, &mut rng));
    if rng.random_bool(0.3) {
        for (_, _, costs) in &mut ways {
            costs[1] = rng.random_range(1..=5);
        }
    }
    let mut net = Net::new(count, &ways, rng);
    net.delay = Duration::from_millis([1, 5, 40][net.rng.random_range(0..3)]);
    net.settle(Duration::from_secs(20));
    net.loss = [0, 0, 10, 30][net.rng.random_range(0..4)];
    for _ in 0..net.rng.random_range(1..12) {
        let (way, router) = (
            net.rng.random_range(0..net.ways.len()),
            net.rng.random_range(0..count),
        );
        match net.rng.random_range(0..7) {
            0 => net.cut(way),
            1 => net.mend(way),
            2 => net.kill(router),
            3 => {
                if net.routers[router].mesh.is_none() {
                    net.boot(router);
                    for way in 0..net.ways.len() {
                        if net.ways[way].ends.contains(&router) {
                            net.mend(way);
                        }
                    }
                }
            }
            4 => net.usurp(router, count),
            _ => {
                let name = format!("a{}", net.rng.random_range(0..6));
                net.serve(router, &name);
            }
        }
        let pause = net.rng.random_range(0..3000);
        net.pass(Duration::from_millis(pause));
    }
    net.loss = 0;
    for number in count..net.routers.len() {
        net.kill(number);
    }
    // Long enough for the oldest link state to be given up.
    net.settle(Duration::from_secs(100));
    // And it stays so.
    net.pass(Duration::from_secs(65));
    assert_eq!(net.fault(), None, "seed {seed}");
}

#[test]
fn every_network_learns_the_truth() {
    let chosen = std::env::var("SIM_SEED").ok().and_then(|n| n.parse().ok());
    match chosen {
        Some(chosen) => seed(chosen),
        None => {
            for number in 0..SEEDS {
                let result = std::panic::catch_unwind(|| seed(number));
                assert!(result.is_ok(), "replay with SIM_SEED={number}");
            }
        }
    }
}

fn ends_of_a_line(count: usize) -> Net {
    let ways: Vec<_> = (1..count).map(|n| (n - 1, n, [1, 1])).collect();
    let mut net = Net::new(count, &ways, StdRng::seed_from_u64(7));
    net.serve(0, "a");
    net.settle(Duration::from_secs(10));
    net.pass(Duration::from_secs(20));
    net
}

/// Its successor's addresses are heard of with its first word, though it has none by the old count.
#[test]
fn who_restarts_at_once_is_known_again_soon() {
    let mut net = ends_of_a_line(4);
    net.kill(0);
    net.boot(0);
    // They are told before anybody is connected.
    net.pass(Duration::from_millis(400));
    net.mend(0);
    let took = net.settle(Duration::from_secs(10));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// What one side of a network has last heard of a router on the other may be of its predecessor.
#[test]
fn when_a_parted_network_joins_again_nobody_loses_what_is_true() {
    let mut net = ends_of_a_line(4);
    net.cut(1);
    net.pass(Duration::from_secs(2));
    net.kill(0);
    net.boot(0);
    net.mend(0);
    net.pass(Duration::from_secs(5));
    net.mend(1);
    for _ in 0..1000 {
        net.pass(Duration::from_millis(10));
        assert_eq!(net.routers[1].remote.len(), 1, "at {:?}", net.at);
    }
    assert_eq!(net.fault(), None);
}

/// Nobody can tell which of them is meant; but they do no more harm than that.
#[test]
fn who_has_anothers_name_for_long_makes_little_noise() {
    let ways = level(shape(1, 6, &mut StdRng::seed_from_u64(3)));
    let mut net = Net::new(6, &ways, StdRng::seed_from_u64(3));
    net.serve(2, "b");
    net.settle(Duration::from_secs(10));
    net.pass(Duration::from_secs(60));
    let quiet = net.sent;
    net.pass(Duration::from_secs(60));
    let quiet = net.sent - quiet;
    net.usurp(2, 6);
    net.pass(Duration::from_secs(60));
    let before = net.sent;
    net.pass(Duration::from_secs(60));
    let noisy = net.sent - before;
    assert!(noisy <= 40 * quiet, "{noisy} messages, {quiet} in peace");
    net.kill(6);
    net.settle(Duration::from_secs(100));
}

/// How long networks take to find themselves, to go around a way that is cut, and to learn of an
/// address, in virtual time with five milliseconds from router to router.
#[test]
fn news_travels_fast() {
    println!("routers  shape  found  cut  address");
    for (kind, word) in [(0, "line"), (1, "ring"), (3, "tree+")] {
        for count in [3, 10, 30] {
            let mut rng = StdRng::seed_from_u64(count as u64);
            let ways = level(shape(kind, count, &mut rng));
            let mut net = Net::new(count, &ways, rng);
            let found = net.settle(Duration::from_secs(10));
            net.pass(Duration::from_secs(5));
            net.cut(0);
            let cut = net.settle(Duration::from_secs(10));
            net.mend(0);
            net.settle(Duration::from_secs(10));
            net.pass(Duration::from_secs(5));
            net.serve(0, "a");
            let address = net.settle(Duration::from_secs(10));
            println!("{count:7}  {word:5}  {found:?}  {cut:?}  {address:?}");
            let limit = Duration::from_secs(2);
            assert!(found < limit && cut < limit && address < limit);
        }
    }
}

const SEEDS: u64 = 100;
