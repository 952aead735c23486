//! What happens to a network by chance.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::codec::Role;
use crate::mesh::simulation::shape;
use crate::simulation::actions::{act_as_receiver, act_as_sender, pick};
use crate::simulation::client::Client;
use crate::simulation::ledger::Tally;
use crate::simulation::router::Place;
use crate::simulation::seeds::play_seeds;
use crate::simulation::trunks::Plan;
use crate::simulation::wire::{Grain, Manner};
use crate::simulation::world::{Climate, Weather, World};

#[test]
fn messages_across_networks_break_no_law() {
    let tally = play_seeds("messages_across_networks", SEEDS, play);
    if let Some(tally) = tally {
        check_tally(&tally);
    }
}

/// Plays one seed from the first connection to the last; panics when a law is broken.
fn play(seed: u64, tracing: bool) -> Tally {
    let mut rng = StdRng::seed_from_u64(seed);
    let climate = Climate {
        workers: rng.random_range(1..=2),
        ..Climate::random(&mut rng)
    };
    let mut world = random_network(&climate, rng, tracing);
    world.find_peace();
    world.be_rough();
    world.find_peace();
    for _ in 0..CALM_STEPS {
        world.act_calmly();
        world.pass_some();
    }
    world.come_to_rest();
    world.renew_calmly();
    world.weather = Some(Weather::Rough);
    world.leave();
    world.check_forgotten();
    // Takes a minute until routers give up what they know.
    if world.rng.random_bool(0.1) {
        world.part();
    }
    world.ledger.tally
}

/// Some routers, connected somehow.
fn random_network(climate: &Climate, mut rng: StdRng, tracing: bool) -> World {
    let kind = rng.random_range(0..4);
    let most = match rng.random_range(0..5) {
        _ if kind == 2 => 5,
        0 => 12,
        _ => 5,
    };
    let interiors = rng.random_range(3..=most);
    let edges = [0, 0, 1, 2, 3][rng.random_range(0..5)];
    let ways = shape(kind, interiors, &mut rng);
    let mut world = World::network(interiors, edges, climate, rng);
    world.ledger.tracing = tracing;
    world.ledger.say(|| format!("{climate:?}, {ways:?}"));
    for (from, to, cost) in ways {
        let listener_cost = match world.rng.random_range(0..4) {
            0 => world.rng.random_range(1..=5),
            _ => cost,
        };
        let plan = Plan {
            costs: [cost, listener_cost],
            data: [0, 0, 0, 2][world.rng.random_range(0..4)],
            ..Plan::new(from, to, random_manner(&mut world.rng))
        };
        world.join(plan);
    }
    for edge in interiors..interiors + edges {
        for _ in 0..world.rng.random_range(1..=2) {
            let to = world.rng.random_range(0..interiors);
            let manner = random_manner(&mut world.rng);
            world.join(Plan::new(edge, to, manner));
        }
    }
    // All of a mesh are connected to each other, or what enters it would not reach all.
    if world.rng.random_bool(0.5) {
        for edge in interiors..interiors + edges {
            for other in interiors..edge {
                let manner = random_manner(&mut world.rng);
                world.join(Plan::new(edge, other, manner));
            }
        }
    }
    world
}

/// How a connection between routers treats what is written to it: all messages share it, so not
/// byte by byte.
fn random_manner(rng: &mut StdRng) -> Manner {
    Manner {
        capacity: 1 << 20,
        grain: Grain::Whole,
        ..Manner::random(rng)
    }
}

impl World {
    /// Interior routers, and edge routers that come after them.
    pub(super) fn network(interiors: usize, edges: usize, climate: &Climate, rng: StdRng) -> Self {
        let interior = Place::Interior { instance: 1 };
        let edge = |number: usize| Place::Edge {
            started: 1_000_000 * number as i64,
        };
        let places = std::iter::repeat_n(interior, interiors);
        let places: Vec<_> = places.chain((1..=edges).map(edge)).collect();
        let mut world = Self::of(&places, climate, rng);
        world.weather = Some(Weather::Rough);
        world.ledger.turmoil = Some(0);
        world.trunks.watched = true;
        world
    }

    /// A connector starts to work, and does not give up.
    pub(super) fn join(&mut self, plan: Plan) -> usize {
        let now = self.now();
        let way = self.trunks.join(&mut self.routers, plan, now);
        self.trunks.persist(way, true);
        way
    }

    fn pass_some(&mut self) {
        let time = match self.rng.random_range(0..40) {
            0 => self.rng.random_range(100..1500),
            1..25 => 0,
            _ => self.rng.random_range(0..10),
        };
        self.pass(Duration::from_millis(time));
    }

    /// Clients do what they like, and so do connections and routers.
    fn be_rough(&mut self) {
        self.weather = Some(Weather::Rough);
        self.ledger.say(|| "rough weather".to_owned());
        for _ in 0..ROUGH_STEPS {
            match self.rng.random_range(0..40) {
                0 => self.disturb(),
                _ => self.act(),
            }
            self.pass_some();
        }
    }

    fn disturb(&mut self) {
        if self.trunks.ways() == 0 {
            return;
        }
        let way = self.rng.random_range(0..self.trunks.ways());
        match self.rng.random_range(0..8) {
            0 | 1 => self.cut(way),
            2 => {
                // For longer than a connector takes: there is no way around it, perhaps.
                self.trunks.persist(way, false);
                self.cut(way);
            }
            3 | 4 => {
                let until = self.at + Duration::from_millis(self.rng.random_range(10..30_000));
                self.freeze(way, until);
            }
            5 => self.renew_all(way),
            6 => self.trunks.retire(way, &mut self.rng),
            _ => {
                let router = self.rng.random_range(0..self.routers.len());
                self.restart(router);
            }
        }
    }

    pub(super) fn cut(&mut self, way: usize) {
        self.ledger.say(|| format!("way {way} is cut"));
        self.ledger.tally.cuts += 1;
        self.trunks.cut(way, &mut self.rng);
    }

    pub(super) fn freeze(&mut self, way: usize, until: Duration) {
        self.ledger.say(|| format!("way {way} freezes"));
        self.ledger.tally.freezes += 1;
        self.trunks.stall(way, until);
    }

    pub(super) fn renew(&mut self, way: usize) {
        self.ledger.say(|| format!("way {way} is made anew"));
        self.ledger.tally.renewals += 1;
        let now = self.now();
        self.trunks.renew(&mut self.routers, way, now);
    }

    /// The same, and those connectors of an edge router to interior routers that have the same
    /// credentials do so at about the same time.
    fn renew_all(&mut self, first: usize) {
        self.renew(first);
        let leads_up = |world: &Self, way: usize| {
            let Plan { from, to, .. } = *world.trunks.plan(way);
            let is_edge = |router: usize| world.routers[router].is_edge();
            (is_edge(from) && !is_edge(to)).then_some(from)
        };
        let edge = leads_up(self, first);
        for way in 0..self.trunks.ways() {
            if edge.is_some() && way != first && leads_up(self, way) == edge {
                let later = self.rng.random_range(0..100);
                self.pass(Duration::from_millis(later));
                self.renew(way);
            }
        }
    }

    /// Edge routers connect anew with newer credentials, and at last what is older is cut off. But
    /// for the order of messages, the laws are those of calm weather: nothing is lost, given back,
    /// or comes twice, not even what is arriving meanwhile in several pieces.
    fn renew_calmly(&mut self) {
        let ways = 0..self.trunks.ways();
        let is_edges = |&way: &usize| self.routers[self.trunks.plan(way).from].is_edge();
        let of_edges: Vec<usize> = ways.filter(is_edges).collect();
        if of_edges.is_empty() {
            return;
        }
        self.find_peace();
        self.ledger.say(|| "credentials are renewed".to_owned());
        self.ledger.renewing = true;
        for retired in [false, true] {
            for step in 0..CALM_STEPS {
                let way = pick(&mut self.rng, &of_edges);
                if let Some(way) = way.filter(|_| !retired && step % 20 == 0) {
                    self.renew_all(way);
                }
                self.act_calmly();
                self.pass_some();
            }
            self.come_to_rest();
            for &way in &of_edges {
                self.trunks.retire(way, &mut self.rng);
            }
        }
    }

    /// A router stops without a word and starts again, with nobody connected.
    pub(super) fn restart(&mut self, number: usize) {
        self.ledger.say(|| format!("R{number} restarts"));
        self.ledger.tally.restarts += 1;
        for line in 0..self.lines.len() {
            if self.lines[line].router != number {
                continue;
            }
            if self.lines[line].client.is_some() {
                self.disconnect(line);
            }
            self.lines[line].connection = None;
        }
        self.trunks.vanish(number, &mut self.rng);
        let place = match self.routers[number].place {
            Place::Interior { instance } => Place::Interior {
                instance: instance + 1,
            },
            Place::Edge { started } => Place::Edge {
                started: started + 500,
            },
            Place::Alone => Place::Alone,
        };
        self.routers[number] = self.make_router(number, place);
    }

    /// A client sends, receives or settles; or one wire is slow for a while.
    fn act_calmly(&mut self) {
        let is_living = |client: &Client| client.is_open();
        let living: Vec<usize> = (0..self.lines.len())
            .filter(|&line| self.lines[line].client.as_ref().is_some_and(is_living))
            .collect();
        let Some(line) = pick(&mut self.rng, &living) else {
            return;
        };
        match self.rng.random_range(0..100) {
            0 => {
                let until = self.at + Duration::from_millis(self.rng.random_range(1..3000));
                self.lines[line].down.stall(until);
            }
            1 if self.trunks.ways() > 0 => {
                // Shorter than any neighbour is missed.
                let until = self.at + Duration::from_millis(self.rng.random_range(1..800));
                let way = self.rng.random_range(0..self.trunks.ways());
                self.trunks.stall(way, until);
            }
            _ => self.with(line, |client, scope| {
                let senders = client.attached_links(Role::Sender);
                let receivers = client.attached_links(Role::Receiver);
                client.release();
                match (pick(scope.rng, &senders), pick(scope.rng, &receivers)) {
                    (Some(sender), None) => act_as_sender(client, scope, sender),
                    (Some(sender), Some(_)) if scope.rng.random() => {
                        act_as_sender(client, scope, sender);
                    }
                    (_, Some(receiver)) => act_as_receiver(client, scope, receiver),
                    (None, None) => {}
                }
            }),
        }
    }
}

/// Everything has happened often enough to have been tried.
fn check_tally(tally: &Tally) {
    let often = [
        tally.streamed,
        tally.multicast_copies,
        tally.presettled_copies,
        tally.resent,
        tally.accepted,
        tally.rejected,
        tally.released,
        tally.modified,
        tally.lost,
        tally.disconnects,
        tally.cuts,
    ];
    let seldom = [
        tally.aborted,
        tally.cut_short,
        tally.freezes,
        tally.renewals,
        tally.restarts,
    ];
    assert!(
        often.iter().all(|&count| count >= 50) && seldom.iter().all(|&count| count >= 10),
        "too little happens: {tally:?}"
    );
    assert!(
        tally.messages >= 4000 && tally.hops >= 3000,
        "too little happens: {tally:?}"
    );
}

const SEEDS: u64 = 150;
const ROUGH_STEPS: usize = 100;
const CALM_STEPS: usize = 100;
