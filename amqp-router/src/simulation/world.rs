//! One router and its clients, in a time of their own.
//!
//! A world owns the control plane, the workers, and what would be sockets and channels between
//! them: [`Wire`]s and [`Lane`]s. [`World::pass`] lets time pass; whatever is due at one instant is
//! pumped until nothing moves any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::adaptors::amqp::{ConnectionSettings, PeerInfo};
use crate::codec::Symbol;
use crate::control::address::Identity;
use crate::control::links::{AddressRule, Command, Control, Recipient, Scope as Named};
use crate::control::role::Role;
use crate::control::table::{Direction, Treatment, WorkerId};
use crate::endpoint::{ClientChoice, ClientSasl, Config, Connection, Opening, SaslPolicy};
use crate::forwarding::Settings;
use crate::forwarding::mailbox::Mail;
use crate::forwarding::replies::Replies;
use crate::worker::{Authentication, ConnectionId, LoginStep, Worker, WorkerEvent};

use super::client::{Client, ClientPhase, Scope};
use super::lane::Lane;
use super::ledger::{Gone, Ledger};
use super::wire::{Manner, Wire};

#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: StdRng,
    pub(super) ledger: Ledger,
    pub(super) lines: Vec<Line>,
    /// What its listener says.
    pub(super) settings: Arc<ConnectionSettings>,
    pub(super) control: Control,
    pub(super) hubs: Vec<Hub>,
    /// From workers to the control plane.
    events: Lane<(WorkerId, WorkerEvent)>,
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

/// A worker and what is on its way to it.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) worker: Worker,
    pub(super) commands: Lane<ToWorker>,
    /// By the worker that it comes from.
    pub(super) mail: Vec<Lane<Mail>>,
}

#[derive(Debug)]
pub(super) enum ToWorker {
    Command(Box<Command>),
    Authenticated { connection: ConnectionId, id: u64 },
}

/// A connection between a client and a worker.
#[derive(Debug)]
pub(super) struct Line {
    /// None once the client is gone.
    pub(super) client: Option<Client>,
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
    #[allow(clippy::disallowed_methods)] // where its time starts makes no difference
    pub(super) fn new(climate: &Climate, rng: StdRng) -> Self {
        let origin = Instant::now();
        let identity = Arc::new(Identity {
            id: "R".into(),
            edge: false,
            network: None,
            tenant: None,
        });
        let control = Control::new(Arc::clone(&identity), Treatment::Balanced, [7; 32]);
        let hub = |number: usize| {
            let settings = Settings {
                worker: WorkerId(number as u16),
                identity: Arc::clone(&identity),
                default_treatment: Treatment::Balanced,
                replies: Replies::new([7; 16]),
            };
            Hub {
                worker: Worker::new(settings, Arc::default(), origin),
                commands: Lane::new(climate.delay),
                mail: (0..climate.workers)
                    .map(|_| Lane::new(climate.delay))
                    .collect(),
            }
        };
        let settings = ConnectionSettings {
            name: "listener".into(),
            role: Role::Normal,
            cost: 1,
            link_capacity: climate.link_capacity,
            governed: false,
            policy_vhost: None,
            group: None,
            max_message_size: None,
            endpoint: Arc::new(climate.endpoint.clone()),
        };
        let mut world = Self {
            rng,
            ledger: Ledger::default(),
            lines: Vec::new(),
            settings: Arc::new(settings),
            control,
            hubs: (0..climate.workers).map(hub).collect(),
            events: Lane::new(climate.delay),
            origin,
            at: Duration::ZERO,
            next_connection: 1,
            mourning: Vec::new(),
            introduced: Vec::new(),
            granted: 0,
        };
        world.make_addresses();
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

    fn make_addresses(&mut self) {
        for (name, treatment) in ADDRESSES {
            self.ledger.address(name, treatment);
            let rule = AddressRule {
                treatment,
                priority: None,
            };
            self.control.configure(Named::Pattern(name), rule);
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.origin + self.at
    }

    pub(super) fn worker_count(&self) -> usize {
        self.hubs.len()
    }

    /// Connects a client to a worker; gives the number of its line.
    pub(super) fn connect(
        &mut self,
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
        let worker = &mut self.hubs[hub].worker;
        let connection = worker.add_connection(id, server, settings, PeerInfo::default());
        let client = Client::new(Arc::new(config), sessions, now);
        let [up, down] = manners.map(Wire::new);
        self.ledger.tally.connections += 1;
        self.ledger
            .say(|| format!("client {} connects to worker {hub}", self.lines.len()));
        self.lines.push(Line {
            client: Some(client),
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
        let config = client_config(self.settings.endpoint.as_ref().clone(), true);
        let line = self.connect(hub, config, [Manner::CALM; 2], 1);
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
        let mut dues = vec![self.events.next_due()];
        for line in &self.lines {
            if let Some(client) = &line.client {
                dues.push(line.down.next_due());
                dues.push(client.endpoint.poll_timeout().map(|due| due - self.origin));
            }
            dues.push(line.up.next_due().filter(|_| line.connection.is_some()));
        }
        for hub in &self.hubs {
            dues.push(hub.commands.next_due());
            dues.extend(hub.mail.iter().map(Lane::next_due));
            dues.push(hub.worker.poll_timeout().map(|due| due - self.origin));
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
            for hub in 0..self.hubs.len() {
                moved |= self.pump_hub(hub);
            }
            moved |= self.pump_control();
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

    fn pump_hub(&mut self, number: usize) -> bool {
        let (now, at) = (self.now(), self.at);
        let hub = &mut self.hubs[number];
        let mut moved = false;
        if hub.worker.poll_timeout().is_some_and(|due| due <= now) {
            hub.worker.handle_timeout(now);
            let next = hub.worker.poll_timeout();
            assert!(
                next.is_none_or(|next| next > now),
                "a worker's timer does not advance"
            );
            moved = true;
        }
        while let Some(message) = hub.commands.pop(at) {
            moved = true;
            match message {
                ToWorker::Command(command) => hub.worker.command(*command, now),
                ToWorker::Authenticated { connection, id } => {
                    let mechanism = "ANONYMOUS".to_owned();
                    let accepted = Authentication::Accepted {
                        user: None,
                        mechanism,
                        proof: None,
                    };
                    hub.worker.authenticated(connection, id, accepted, now);
                }
            }
        }
        for lane in &mut hub.mail {
            while let Some(mail) = lane.pop(at) {
                moved = true;
                hub.worker.mail(mail);
            }
        }
        moved |= self.read(number);
        self.hubs[number].worker.end_turn(now);
        while let Some(connection) = self.hubs[number].worker.poll_writable() {
            let line = self.line_of(number, connection);
            if let Some(line) = line {
                moved |= self.write(line);
            }
        }
        moved | self.send_out(number)
    }

    /// Has a worker read from its connections, and write to those that had no room before.
    fn read(&mut self, number: usize) -> bool {
        let (now, at) = (self.now(), self.at);
        let mut moved = false;
        for index in 0..self.lines.len() {
            let line = &mut self.lines[index];
            let (true, Some(connection)) = (line.hub == number, line.connection) else {
                continue;
            };
            let worker = &mut self.hubs[number].worker;
            if let Some(bytes) = line.up.take(at, &mut self.rng) {
                worker.input(connection, bytes, now);
                moved = true;
            } else if line.up.is_at_end() {
                worker.eof(connection, false, now);
            }
            moved |= self.write(index);
        }
        moved
    }

    /// Writes what a connection has to write, and lets go of it when it is finished.
    fn write(&mut self, index: usize) -> bool {
        let (now, at) = (self.now(), self.at);
        let line = &mut self.lines[index];
        let Some(connection) = line.connection else {
            return false;
        };
        let worker = &mut self.hubs[line.hub].worker;
        let Some(out) = worker.output(connection) else {
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
        if failed {
            worker.eof(connection, false, now);
        } else if moved {
            worker.written(connection, now);
        }
        if failed || (empty && worker.is_finished(connection)) {
            worker.remove(connection, now);
            line.down.finish();
            line.connection = None;
            return true;
        }
        moved
    }

    fn line_of(&self, hub: usize, connection: ConnectionId) -> Option<usize> {
        let is_it = |line: &Line| line.hub == hub && line.connection == Some(connection);
        self.lines.iter().position(is_it)
    }

    /// Takes from a worker what it has for others.
    fn send_out(&mut self, number: usize) -> bool {
        let (at, mut moved) = (self.at, false);
        while let Some((to, mail)) = self.hubs[number].worker.poll_mail() {
            assert_ne!(to.index(), number, "a worker writes to itself");
            self.ledger.tally.crossed += u64::from(matches!(mail, Mail::Start { .. }));
            self.hubs[to.index()].mail[number].push(mail, at, &mut self.rng);
            moved = true;
        }
        while let Some(event) = self.hubs[number].worker.poll_event() {
            self.events
                .push((WorkerId(number as u16), event), at, &mut self.rng);
            moved = true;
        }
        moved
    }

    fn pump_control(&mut self) -> bool {
        let mut moved = false;
        while let Some((worker, event)) = self.events.pop(self.at) {
            moved = true;
            self.tell_control(worker, event);
        }
        while let Some((recipient, command)) = self.control.poll_command() {
            moved = true;
            for (number, hub) in self.hubs.iter_mut().enumerate() {
                let is_for_it = match recipient {
                    Recipient::Everyone => true,
                    Recipient::Worker(worker) => worker.index() == number,
                };
                if is_for_it {
                    hub.commands.push(
                        ToWorker::Command(Box::new(command.clone())),
                        self.at,
                        &mut self.rng,
                    );
                }
            }
        }
        moved
    }

    fn tell_control(&mut self, worker: WorkerId, event: WorkerEvent) {
        match event {
            WorkerEvent::Opening { .. } => unreachable!("no connection here is governed"),
            WorkerEvent::Dial(_) | WorkerEvent::BadStream(_) => {
                unreachable!("no address here is of a TCP service")
            }
            WorkerEvent::Authenticate {
                connection,
                id,
                step,
            } => {
                let is_anonymous = |mechanism: &Symbol| mechanism.as_str() == "ANONYMOUS";
                assert!(
                    matches!(step, LoginStep::Init { mechanism, .. } if is_anonymous(&mechanism))
                );
                let answer = ToWorker::Authenticated { connection, id };
                self.hubs[worker.index()]
                    .commands
                    .push(answer, self.at, &mut self.rng);
            }
            WorkerEvent::Attach(request) => {
                let number = request
                    .attach
                    .name
                    .parse()
                    .expect("links are named by number");
                match request.link.direction {
                    Direction::Incoming => self.granted += request.capacity as usize,
                    Direction::Outgoing => self.introduced.push(number),
                }
                let now = self.now();
                self.control.attach(*request, now);
            }
            WorkerEvent::Detached {
                link: reference,
                loss,
            } => {
                let link = self
                    .control
                    .links()
                    .find(|link| link.reference == reference);
                if let Some(number) = link.and_then(|link| link.name.parse().ok()) {
                    self.mourning.push(number);
                }
                let now = self.now();
                self.control.detached(reference, &loss, now);
            }
            WorkerEvent::Closed { id, reason, .. } => {
                self.ledger
                    .say(|| format!("connection {id} is closed: {reason:?}"));
                let eof = reason
                    .as_deref()
                    .is_none_or(|reason| reason == "the peer went away");
                assert!(eof, "the router closed a connection: {reason:?}");
            }
            WorkerEvent::Opened(_) => {}
            WorkerEvent::Attached(_)
            | WorkerEvent::NotAttached { .. }
            | WorkerEvent::Heard { .. } => {
                panic!("there are no other routers")
            }
            WorkerEvent::Local { .. } => panic!("there are no local programs"),
            WorkerEvent::Flows(_) | WorkerEvent::Octets { .. } | WorkerEvent::Denied(_) => {}
        }
    }

    /// What the router knows of one of its links: queued, unsettled and credit.
    pub(super) fn in_flight(&self) -> usize {
        self.hubs
            .iter()
            .map(|hub| hub.worker.status(self.now()).in_flight)
            .sum()
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
