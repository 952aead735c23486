//! Routers and their clients, in a time of their own.
//!
//! A world owns the routers and what would be sockets: [`Wire`]s. [`World::pass`] lets time pass;
//! whatever is due at one instant is pumped until nothing moves any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::adaptors::amqp::{Annotated, ConnectionSettings, PeerInfo};
use crate::adaptors::components::Components;
use crate::codec::Symbol;
use crate::control::links::{AddressRule, Scope as Named};
use crate::control::role::Role;
use crate::control::table::{Direction, Treatment, WorkerId};
use crate::endpoint::{ClientChoice, ClientSasl, Config, Connection, Opening, SaslPolicy};
use crate::worker::{ConnectionId, LoginStep, WorkerEvent};

use super::client::{Client, ClientPhase, Scope};
use super::ledger::{Gone, Ledger};
use super::router::{Build, Place, Router};
use super::trunks::Trunks;
use super::wire::{Manner, Wire};

#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: StdRng,
    pub(super) ledger: Ledger,
    pub(super) lines: Vec<Line>,
    /// What its listener says.
    pub(super) settings: Arc<ConnectionSettings>,
    pub(super) routers: Vec<Router>,
    pub(super) trunks: Trunks,
    /// What is the matter in the network, if the routers are in one.
    pub(super) weather: Option<Weather>,
    climate: Climate,
    origin: Instant,
    pub(super) at: Duration,
    next_connection: u64,
    /// Receivers whose leaving the control plane has heard of, but not all workers.
    pub(super) mourning: Vec<usize>,
    /// Receivers that the control plane knows, but not all workers.
    pub(super) introduced: Vec<usize>,
    /// The capacities of all incoming links there ever were.
    pub(super) granted: usize,
}

/// Whether what routers know of each other is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    Calm,
    /// Connections and routers come and go, and what is known of addresses is late.
    Rough,
}

/// A connection between a client and a worker.
#[derive(Debug)]
pub(super) struct Line {
    /// None once the client is gone.
    pub(super) client: Option<Client>,
    pub(super) router: usize,
    hub: usize,
    /// The router's end, while it has one.
    pub(super) connection: Option<ConnectionId>,
    /// From the client to the router.
    pub(super) up: Wire,
    /// From the router to the client.
    pub(super) down: Wire,
    /// The client does not read; what it is sent stays on the wire.
    broken: bool,
    abrupt: bool,
}

/// What kind of world it is to be.
#[derive(Clone, Debug)]
pub(super) struct Climate {
    pub(super) workers: usize,
    /// Between the tasks of the router.
    pub(super) delay: Duration,
    pub(super) link_capacity: u32,
    pub(super) endpoint: Config,
}

impl Climate {
    /// One worker, no delays and the usual limits.
    pub(super) fn calm() -> Self {
        let endpoint = Config {
            idle_time_out: Some(IDLE_TIME_OUT),
            ..Config::default()
        };
        Self {
            workers: 1,
            delay: Duration::ZERO,
            link_capacity: 250,
            endpoint,
        }
    }

    pub(super) fn random(rng: &mut StdRng) -> Self {
        let endpoint = Config {
            max_frame_size: [512, 700, 4096, 16_384][rng.random_range(0..4)],
            incoming_window: [2, 3, 8, 2048, 2048][rng.random_range(0..5)],
            initial_id: u32::MAX
                .wrapping_add(rng.random_range(0..20))
                .wrapping_sub(10),
            ..Self::calm().endpoint
        };
        Self {
            workers: rng.random_range(1..=3),
            delay: Duration::from_millis([0, 0, 3][rng.random_range(0..3)]),
            link_capacity: [1, 2, 5, 50, 250][rng.random_range(0..5)],
            endpoint,
        }
    }
}

impl World {
    /// Of one router.
    pub(super) fn new(climate: &Climate, rng: StdRng) -> Self {
        Self::of(&[Place::Alone], climate, rng)
    }

    #[allow(clippy::disallowed_methods)] // where its time starts makes no difference
    pub(super) fn of(places: &[Place], climate: &Climate, rng: StdRng) -> Self {
        let origin = Instant::now();
        let settings = ConnectionSettings {
            name: "listener".into(),
            role: Role::Normal,
            cost: 1,
            link_capacity: climate.link_capacity,
            governed: false,
            policy_vhost: None,
            annotated: Annotated::default(),
            messages: Components::default(),
            group: None,
            max_message_size: None,
            endpoint: Arc::new(climate.endpoint.clone()),
        };
        let mut world = Self {
            rng,
            ledger: Ledger::default(),
            lines: Vec::new(),
            settings: Arc::new(settings),
            routers: Vec::new(),
            trunks: Trunks::default(),
            weather: None,
            climate: climate.clone(),
            origin,
            at: Duration::ZERO,
            next_connection: 1,
            mourning: Vec::new(),
            introduced: Vec::new(),
            granted: 0,
        };
        for (number, &place) in places.iter().enumerate() {
            let router = world.make_router(number, place);
            world.routers.push(router);
        }
        for (name, treatment) in ADDRESSES {
            world.ledger.address(name.to_owned(), treatment);
        }
        world
    }

    /// A calm world, for stories.
    pub(super) fn calm(workers: usize) -> Self {
        Self::new(
            &Climate {
                workers,
                ..Climate::calm()
            },
            StdRng::seed_from_u64(0),
        )
    }

    /// A router as it starts.
    pub(super) fn make_router(&self, number: usize, place: Place) -> Router {
        let build = Build {
            number,
            place,
            workers: self.climate.workers,
            delay: self.climate.delay,
        };
        let mut router = Router::new(&build, self.now());
        for (name, treatment) in ADDRESSES {
            let rule = AddressRule {
                treatment,
                priority: None,
            };
            router.control.configure(Named::Pattern(name), rule);
        }
        router
    }

    pub(super) fn now(&self) -> Instant {
        self.origin + self.at
    }

    /// Connects a client to a router's worker; gives the number of its line.
    pub(super) fn connect(
        &mut self,
        router: usize,
        hub: usize,
        config: Config,
        manners: [Manner; 2],
        sessions: u16,
    ) -> usize {
        let now = self.now();
        let id = self.next_connection;
        self.next_connection += 1;
        let server = Connection::server(Arc::clone(&self.settings.endpoint), now);
        let settings = Arc::clone(&self.settings);
        let worker = self.routers[router].worker(hub);
        let connection = worker.add_connection(id, server, settings, PeerInfo::default());
        let client = Client::new(Arc::new(config), sessions, now);
        let [up, down] = manners.map(Wire::new);
        self.ledger.tally.connections += 1;
        self.ledger
            .say(|| format!("client {} connects to R{router}, {hub}", self.lines.len()));
        self.lines.push(Line {
            client: Some(client),
            router,
            hub,
            connection: Some(connection),
            up,
            down,
            broken: false,
            abrupt: false,
        });
        self.lines.len() - 1
    }

    /// Connects a client that does nothing unusual.
    pub(super) fn connect_calmly(&mut self, hub: usize) -> usize {
        self.connect_calmly_to(0, hub)
    }

    pub(super) fn connect_calmly_to(&mut self, router: usize, hub: usize) -> usize {
        let config = client_config(self.settings.endpoint.as_ref().clone(), true);
        let line = self.connect(router, hub, config, [Manner::CALM; 2], 1);
        self.pass(Duration::ZERO);
        line
    }

    /// A client vanishes.
    pub(super) fn disconnect(&mut self, line: usize) {
        self.ledger.say(|| format!("client {line} vanishes"));
        self.ledger.tally.disconnects += 1;
        let (now, at) = (self.now(), self.at);
        let line = &mut self.lines[line];
        let Some(mut client) = line.client.take() else {
            return;
        };
        let mut scope = Scope {
            now,
            ledger: &mut self.ledger,
            rng: &mut self.rng,
        };
        client.leave(&mut scope, Gone::Abruptly);
        line.up.carry(client.endpoint.out(), at, &mut self.rng);
        line.up.cut(&mut self.rng);
        line.broken = true;
        line.abrupt = true;
    }

    /// Lets a client do something.
    pub(super) fn with<T>(
        &mut self,
        line: usize,
        what: impl FnOnce(&mut Client, &mut Scope<'_>) -> T,
    ) -> T {
        let now = self.now();
        let mut scope = Scope {
            now,
            ledger: &mut self.ledger,
            rng: &mut self.rng,
        };
        let client = self.lines[line]
            .client
            .as_mut()
            .expect("the client is there");
        what(client, &mut scope)
    }

    /// Lets time pass, and everything happen that is due meanwhile.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.at + time;
        self.pump();
        while let Some(due) = self.next_due().filter(|due| *due <= end) {
            self.at = self.at.max(due);
            self.pump();
        }
        self.at = end;
        self.pump();
        self.check_bounds();
    }

    /// When something happens next.
    fn next_due(&self) -> Option<Duration> {
        let since = |due: Instant| due.saturating_duration_since(self.origin);
        let mut dues = vec![self.trunks.next_due()];
        for line in &self.lines {
            if let Some(client) = &line.client {
                dues.push(line.down.next_due());
                dues.push(client.endpoint.poll_timeout().map(since));
            }
            dues.push(line.up.next_due().filter(|_| line.connection.is_some()));
        }
        for router in &self.routers {
            dues.push(router.next_due());
        }
        dues.into_iter().flatten().min()
    }

    /// Has everything happen that is due at this instant.
    fn pump(&mut self) {
        for round in 0.. {
            assert!(round < 1_000_000, "the router does not come to rest");
            self.ledger.moment += 1;
            let mut moved = false;
            for line in 0..self.lines.len() {
                moved |= self.pump_client(line);
            }
            for line in 0..self.lines.len() {
                moved |= self.read(line) | self.write(line);
            }
            moved |= self.pump_trunks();
            for router in 0..self.routers.len() {
                moved |= self.pump_router(router);
            }
            self.observe();
            if !moved {
                return;
            }
        }
    }

    fn pump_client(&mut self, number: usize) -> bool {
        let (now, at) = (self.now(), self.at);
        let line = &mut self.lines[number];
        let Some(client) = &mut line.client else {
            return false;
        };
        let mut scope = Scope {
            now,
            ledger: &mut self.ledger,
            rng: &mut self.rng,
        };
        let mut moved = false;
        client.timers(&mut scope);
        if let Some(bytes) = line.down.take(at, scope.rng) {
            client.input(&mut scope, bytes);
            moved = true;
        }
        client.endpoint.flush(now);
        moved |= line.up.carry(client.endpoint.out(), at, scope.rng);
        if line.down.is_at_end() && client.phase != ClientPhase::Closed {
            client.eof(&mut scope);
        }
        if client.endpoint.is_finished() && client.endpoint.out().is_empty() {
            line.up.finish();
            line.broken = true;
            line.client = None;
            moved = true;
        }
        moved
    }

    /// Has a worker read from a connection.
    fn read(&mut self, index: usize) -> bool {
        let (now, at) = (self.now(), self.at);
        let line = &mut self.lines[index];
        let Some(connection) = line.connection else {
            return false;
        };
        let router = &mut self.routers[line.router];
        if let Some(bytes) = line.up.take(at, &mut self.rng) {
            router.worker(line.hub).input(connection, bytes, now);
            return true;
        }
        if line.up.is_at_end() {
            router.worker(line.hub).eof(connection, false, now);
        }
        false
    }

    /// Writes what a connection has to write, and lets go of it when it is finished.
    fn write(&mut self, index: usize) -> bool {
        let (now, at) = (self.now(), self.at);
        let line = &mut self.lines[index];
        let Some(connection) = line.connection else {
            return false;
        };
        let router = &mut self.routers[line.router];
        let Some(out) = router.hubs[line.hub].worker.output(connection) else {
            return false;
        };
        assert!(
            out.len() <= MAX_BACKLOG,
            "{} bytes wait to be written",
            out.len()
        );
        let failed = line.broken && !out.is_empty();
        let moved = !failed && line.down.carry(out, at, &mut self.rng);
        let empty = out.is_empty();
        let is_over = router.hubs[line.hub].worker.is_finished(connection);
        if !(failed || moved || empty && is_over) {
            return false;
        }
        let worker = router.worker(line.hub);
        if failed {
            worker.eof(connection, false, now);
        } else if moved {
            worker.written(connection, now);
        }
        if failed || (empty && is_over) {
            worker.remove(connection, now);
            line.down.finish();
            line.connection = None;
            return true;
        }
        moved
    }

    /// What goes on between routers, and whom messages meet on their way.
    fn pump_trunks(&mut self) -> bool {
        let (now, at) = (self.now(), self.at);
        let (routers, rng) = (&mut self.routers, &mut self.rng);
        let moved = self.trunks.pump(routers, at, now, rng);
        for sighting in self.trunks.sightings.drain(..) {
            self.ledger.passes(&sighting);
        }
        moved
    }

    fn pump_router(&mut self, number: usize) -> bool {
        let (now, at) = (self.now(), self.at);
        if !self.routers[number].is_awake(at) {
            self.routers[number].wrote = false;
            return false;
        }
        let mut moved = self.routers[number].turn(at, now, &mut self.rng);
        while let Some((worker, event)) = self.routers[number].poll_event(at) {
            moved = true;
            self.tell_control(number, worker, event);
        }
        let router = &mut self.routers[number];
        self.ledger.tally.crossed += std::mem::take(&mut router.crossed);
        moved |= router.issue(at, &mut self.rng);
        router.rest(self.origin);
        moved
    }

    fn tell_control(&mut self, number: usize, worker: WorkerId, event: WorkerEvent) {
        match &event {
            WorkerEvent::Authenticate {
                connection,
                id,
                step,
            } => {
                let is_anonymous = |mechanism: &Symbol| mechanism.as_str() == "ANONYMOUS";
                assert!(
                    matches!(step, LoginStep::Init { mechanism, .. } if is_anonymous(mechanism))
                );
                let router = &mut self.routers[number];
                let answer = (*connection, *id);
                return router.authenticate(worker, answer, self.at, &mut self.rng);
            }
            WorkerEvent::Attach(request) if request.role == Role::Normal => {
                match request.link.direction {
                    Direction::Incoming => self.granted += request.capacity as usize,
                    Direction::Outgoing => {
                        let name = &request.attach.name;
                        let number = name.parse().expect("links are named by number");
                        self.introduced.push(number);
                    }
                }
            }
            WorkerEvent::Detached { link, .. } => {
                let mut links = self.routers[number].control.links();
                let link = links.find(|known| known.reference == *link);
                if let Some(number) = link.and_then(|link| link.name.parse().ok()) {
                    self.mourning.push(number);
                }
            }
            WorkerEvent::Closed { id, reason, .. } => {
                self.ledger
                    .say(|| format!("R{number} closes connection {id}: {reason:?}"));
                let eof = reason
                    .as_deref()
                    .is_none_or(|reason| reason == "the peer went away");
                let is_client = *id < self.next_connection;
                assert!(eof || !is_client, "a router closed a client's: {reason:?}");
            }
            _ => {}
        }
        let now = self.now();
        match self.routers[number].hear(worker, event, now) {
            None
            | Some(WorkerEvent::Flows(_) | WorkerEvent::Octets { .. } | WorkerEvent::Denied(_)) => {
            }
            Some(other) => unreachable!("nobody here is governed, local or TCP: {other:?}"),
        }
    }

    /// Deliveries that are on their way through routers.
    pub(super) fn in_flight(&self) -> usize {
        let now = self.now();
        let routers = self.routers.iter();
        routers.map(|router| router.in_flight(now)).sum()
    }
}

/// A client's side of a router's configuration.
pub(super) fn client_config(like: Config, sasl: bool) -> Config {
    let anonymous = ClientSasl {
        choices: vec![ClientChoice {
            mechanism: Symbol::from_static("ANONYMOUS"),
            opening: Opening::Response(Default::default()),
        }],
        hostname: None,
    };
    Config {
        container_id: "client".into(),
        sasl: SaslPolicy::Client(sasl.then_some(anonymous)),
        ..like
    }
}

pub(super) const ADDRESSES: [(&str, Treatment); 5] = [
    ("balanced/a", Treatment::Balanced),
    ("balanced/b", Treatment::Balanced),
    ("closest", Treatment::Closest),
    ("multicast", Treatment::Multicast),
    ("unavailable", Treatment::Unavailable),
];

/// Longer than anything stalls.
const IDLE_TIME_OUT: Duration = Duration::from_secs(60);
/// Bytes that may wait for one connection: what it stops at, and a burst.
const MAX_BACKLOG: usize = 512 * 1024 + 64 * 1024;
