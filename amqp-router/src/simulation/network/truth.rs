//! What routers must know of each other, of addresses, and at last of nobody.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::codec::Role;
use crate::simulation::client::LinkPhase;
use crate::simulation::ledger::{AddressNo, LinkNo};
use crate::simulation::router::{Router, name};
use crate::simulation::world::{Weather, World};

impl World {
    /// Lets everything work again, and time pass until every router knows the truth.
    pub(super) fn find_peace(&mut self) {
        self.ledger.say(|| "the weather clears up".to_owned());
        for line in &mut self.lines {
            line.up.resume();
            line.down.resume();
        }
        for way in 0..self.trunks.ways() {
            self.trunks.persist(way, true);
            self.trunks.retire(way, &mut self.rng);
        }
        self.trunks.resume();
        let end = self.at + PATIENCE;
        // Whoever was not heard while a line was frozen may be missed only after it has been mended.
        // And what edge routers are told has no proof.
        let mut quiet = Duration::ZERO;
        while quiet < QUIET {
            quiet += STEP;
            if let Some(fault) = self.fault() {
                assert!(self.at < end, "after {PATIENCE:?}: {fault}");
                quiet = Duration::ZERO;
            }
            self.pass(STEP);
        }
        assert_eq!(self.fault(), None);
        self.calm_down();
    }

    /// From here on the strict laws are kept.
    fn calm_down(&mut self) {
        self.ledger.say(|| "the weather is calm".to_owned());
        self.weather = Some(Weather::Calm);
        self.ledger.moment += 1;
        let moment = self.ledger.moment;
        for number in self.mourning.drain(..) {
            self.ledger.mourned(LinkNo(number));
        }
        for number in self.introduced.drain(..) {
            self.ledger.links[number].known_since = Some(moment);
        }
        for index in 0..self.ledger.addresses.len() {
            let deserted = self.receivers_of(AddressNo(index)).is_empty();
            self.ledger.addresses[index].deserted = deserted;
        }
        self.ledger.moment += 1;
    }

    /// What is not as it will be.
    fn fault(&self) -> Option<String> {
        if !self.trunks.are_whole() {
            return Some("connections are missing".to_owned());
        }
        let clients = self.lines.iter().filter_map(|line| line.client.as_ref());
        let mut links = clients.flat_map(|client| &client.links);
        if links.any(|link| link.phase == LinkPhase::Attaching) {
            return Some("a client has yet to hear that its link is attached".to_owned());
        }
        let costs = self.true_costs();
        for (number, router) in self.routers.iter().enumerate() {
            if router.is_edge() {
                if router.control.active_uplink().is_none() {
                    return Some(format!("R{number} is not in the network"));
                }
                continue;
            }
            for status in router.control.routers() {
                let other = (0..self.routers.len()).find(|&other| name(other) == status.id);
                let true_cost = other.and_then(|other| costs[number][other]);
                if !status.is_self && status.cost != true_cost {
                    let knows = status.cost;
                    return Some(format!(
                        "R{number} is {knows:?} from {}, and thinks {true_cost:?}",
                        status.id
                    ));
                }
            }
            let known = router.control.routers().len();
            let all = self.routers.iter().filter(|one| !one.is_edge()).count();
            if known != all {
                return Some(format!("R{number} knows {known} routers of {all}"));
            }
            let addresses = 0..self.ledger.addresses.len();
            let fault = { addresses }.find_map(|at| self.address_fault(number, AddressNo(at)));
            if fault.is_some() {
                return fault;
            }
        }
        None
    }

    /// What is wrong with what an interior router knows of an address.
    fn address_fault(&self, number: usize, address: AddressNo) -> Option<String> {
        let router = &self.routers[number];
        let name_of = &self.ledger.addresses[address.0].name;
        if name_of.contains("temp.") {
            return None;
        }
        let mut here = 0;
        let mut elsewhere = BTreeSet::new();
        let mut edges = BTreeSet::new();
        for at in self.receivers_of(address) {
            match self.interior_of(at) {
                Some(interior) if interior == number => {
                    // Many receivers behind an edge router are one here.
                    here += usize::from(at == number || edges.insert(at));
                }
                Some(interior) => {
                    elsewhere.insert(name(interior));
                }
                None => return Some(format!("R{at} is not in the network")),
            }
        }
        let known = router
            .control
            .addresses()
            .find(|one| one.entry.key.text() == name_of);
        let destinations = known.map_or(0, |known| known.consumers());
        let remotes = known.map(|known| known.entry.remotes.iter());
        let remotes = remotes.into_iter().flatten();
        let remotes: BTreeSet<String> = remotes
            .filter_map(|remote| router.control.router(remote.router))
            .collect();
        let right = (destinations, &remotes) == (here, &elsewhere);
        (!right).then(|| {
            format!(
                "R{number} has {destinations} receivers of {name_of}, and knows some at \
                 {remotes:?}; there are {here}, and some at {elsewhere:?}"
            )
        })
    }

    /// The router of each receiver that an address has.
    fn receivers_of(&self, address: AddressNo) -> Vec<usize> {
        let mut routers = Vec::new();
        for line in &self.lines {
            let Some(client) = &line.client else { continue };
            let receivers = client.attached_links(Role::Receiver).into_iter();
            let of_it = receivers.filter(|&token| {
                let number = client.links[token].number;
                self.ledger.links[number.0].address == Some(address)
            });
            routers.extend(of_it.map(|_| line.router));
        }
        routers
    }

    /// Where in the network a router is: an edge router is where it is connected to.
    fn interior_of(&self, router: usize) -> Option<usize> {
        let control = &self.routers[router].control;
        match control.is_edge() {
            true => self.trunks.other_end(router, control.active_uplink()?),
            false => Some(router),
        }
    }

    /// The costs of the shortest paths, worked out in another way than routers do it.
    fn true_costs(&self) -> Vec<Vec<Option<u32>>> {
        let count = self.routers.len();
        let mut costs = vec![vec![None; count]; count];
        for way in 0..self.trunks.ways() {
            let plan = self.trunks.plan(way);
            if self.routers[plan.from].is_edge() {
                continue;
            }
            let cost = self.trunks.cost(way);
            for (a, b) in [(plan.from, plan.to), (plan.to, plan.from)] {
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

    /// No router remembers clients that have all left.
    pub(super) fn check_forgotten(&mut self) {
        self.pass(Duration::from_secs(5));
        let now = self.now();
        for (number, router) in self.routers.iter().enumerate() {
            router.check_forgotten(number);
            let mut links = 0;
            for hub in &router.hubs {
                let status = hub.worker.whole_status(now);
                assert_eq!(status.in_flight, 0, "R{number} holds deliveries");
                for (link, status) in &status.links {
                    let held = (status.unsettled, status.undelivered);
                    assert_eq!(held, (0, 0), "R{number} holds deliveries of {link:?}");
                }
                links += status.links.len();
            }
            let known = router.control.links().count();
            assert_eq!(links, known, "R{number} has links that it does not know");
        }
    }

    /// The connections between routers are cut, and nobody remembers anybody.
    pub(super) fn part(&mut self) {
        for way in 0..self.trunks.ways() {
            self.trunks.persist(way, false);
            self.cut(way);
        }
        self.pass(Duration::from_secs(70));
        self.check_empty();
        for (number, router) in self.routers.iter().enumerate() {
            let mut others = router.control.routers();
            others.retain(|other| !other.is_self);
            assert!(others.is_empty(), "R{number} remembers {others:?}");
        }
    }
}

impl Router {
    fn check_forgotten(&self, number: usize) {
        for address in self.control.addresses() {
            let entry = &address.entry;
            assert_ne!(entry.key.class(), 'M', "R{number} remembers {}", entry.key);
        }
        for link in self.control.links() {
            let address = link.address.and_then(|id| self.control.address(id));
            let mobile = address.is_some_and(|one| one.entry.key.class() == 'M');
            assert!(!mobile, "R{number} has {link:?}");
        }
    }
}

/// Longer than it takes until what a router has said of itself is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long nothing may be wrong: a router that has not been heard is missed after three seconds, which
/// are counted from when the last one has been that was sent before.
const QUIET: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(200);
