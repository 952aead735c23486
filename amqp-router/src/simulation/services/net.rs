//! Routers, the connections between them, and the sockets at their edges.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::program::{Habit, Program};
use super::telemetry::Told;
use crate::adaptors::amqp::{ConnectionSettings, PeerInfo};
use crate::adaptors::tcp::{KEPT_MAX, TcpService, WAITING_MAX};
use crate::codec::Symbol;
use crate::control::address::Identity;
use crate::control::links::{Control, Recipient};
use crate::control::network::Opened;
use crate::control::role::{Role, trunking};
use crate::control::table::{ConnectorId, Treatment, WorkerId};
use crate::control::trunks::Group;
use crate::endpoint::{Config, Connection, SaslPolicy};
use crate::forwarding::Settings;
use crate::forwarding::mailbox::Mail;
use crate::forwarding::replies::Replies;
use crate::mesh::{self, Mesh};
use crate::observers::Watch;
use crate::simulation::wire::{Manner, Wire};
use crate::vanflow::RecordId;
use crate::worker::flows::Wanted;
use crate::worker::tcp::{Dial, Dialled, TcpClient};
use crate::worker::{ConnectionId, Worker, WorkerEvent};

/// A network of routers, and the programs that use it.
pub(super) struct Net {
    pub(super) rng: StdRng,
    origin: Instant,
    pub(super) at: Duration,
    pub(super) routers: Vec<Router>,
    ways: Vec<Way>,
    trunks: Vec<Trunk>,
    pub(super) sockets: Vec<Socket>,
    pub(super) services: Vec<Service>,
    /// What each session's client and service do, and whether a service was found.
    pub(super) sessions: Vec<Session>,
    dials: VecDeque<(Duration, usize, usize, Dial)>,
    next_id: u64,
    pub(super) tracing: bool,
}

pub(super) struct Router {
    pub(super) control: Control,
    pub(super) workers: Vec<Worker>,
    mail: VecDeque<(WorkerId, Mail)>,
    is_edge: bool,
    /// It loses what a client says before its service has been connected to.
    is_foreign: bool,
    pub(super) told: Told,
}

/// What a connector of one router makes to another.
struct Way {
    from: usize,
    to: usize,
    manner: Manner,
    /// Connections besides the first, for messages that take long.
    data: usize,
    ordinal: u64,
    /// Those of the present ordinal, and older ones.
    trunks: Vec<usize>,
    older: Vec<usize>,
}

/// A connection between two routers.
struct Trunk {
    ends: [End; 2],
    wires: [Wire; 2],
}

struct End {
    router: usize,
    worker: usize,
    connection: ConnectionId,
    /// It is still there; its number may be another's later.
    open: bool,
}

/// A TCP connection between a program and a router.
pub(super) struct Socket {
    router: usize,
    worker: usize,
    /// The router's end, while it has one.
    pub(super) connection: Option<ConnectionId>,
    pub(super) program: Program,
    /// The router reads no more.
    read_closed: bool,
}

/// A service that routers connect to.
pub(super) struct Service {
    router: usize,
    connector: ConnectorId,
    service: Arc<TcpService>,
    pub(super) refuses: bool,
    /// The longest that it takes to be connected to.
    pub(super) dial_takes: Duration,
    /// How often that has been tried.
    pub(super) dialled: usize,
}

pub(super) struct Session {
    pub(super) client: usize,
    pub(super) server: Option<usize>,
    server_habit: Habit,
}

impl Net {
    #[allow(clippy::disallowed_methods)] // where its time starts makes no difference
    /// Interior routers, and edge routers that come after them.
    pub(super) fn new(routers: usize, edges: usize, workers: usize, seed: u64) -> Self {
        let origin = Instant::now();
        Self {
            rng: StdRng::seed_from_u64(seed),
            origin,
            at: Duration::ZERO,
            routers: (0..routers + edges)
                .map(|number| Router::new(number, number >= routers, workers, origin))
                .collect(),
            ways: Vec::new(),
            trunks: Vec::new(),
            sockets: Vec::new(),
            services: Vec::new(),
            sessions: Vec::new(),
            dials: VecDeque::new(),
            next_id: 1_000_000,
            tracing: false,
        }
    }

    fn now(&self) -> Instant {
        self.origin + self.at
    }

    /// Connects a router to an interior router, or edge routers to each other.
    pub(super) fn join(&mut self, from: usize, to: usize, manner: Manner) -> usize {
        self.join_with(from, to, manner, 0)
    }

    /// Connects a router to an interior router, with further connections for messages that take
    /// long.
    pub(super) fn join_with(
        &mut self,
        from: usize,
        to: usize,
        manner: Manner,
        data: usize,
    ) -> usize {
        self.ways.push(Way {
            from,
            to,
            manner,
            data,
            ordinal: 0,
            trunks: Vec::new(),
            older: Vec::new(),
        });
        self.connect(self.ways.len() - 1);
        self.ways.len() - 1
    }

    /// How many connectors there are.
    pub(super) fn ways(&self) -> usize {
        self.ways.len()
    }

    /// The connector makes its connections anew, with a higher ordinal.
    pub(super) fn renew(&mut self, way: usize) {
        let of = &mut self.ways[way];
        of.ordinal += 1;
        of.older.append(&mut of.trunks);
        self.connect(way);
    }

    /// Closes the connections that have been succeeded.
    pub(super) fn retire(&mut self, way: usize) {
        for trunk in std::mem::take(&mut self.ways[way].older) {
            self.cut_trunk(trunk);
        }
    }

    /// Cuts all that a connector has made.
    pub(super) fn cut(&mut self, way: usize) {
        self.retire(way);
        for trunk in std::mem::take(&mut self.ways[way].trunks) {
            self.cut_trunk(trunk);
        }
    }

    fn cut_trunk(&mut self, trunk: usize) {
        for wire in &mut self.trunks[trunk].wires {
            wire.cut(&mut self.rng);
        }
    }

    fn connect(&mut self, way: usize) {
        for number in 0..=self.ways[way].data {
            let ends = [false, true].map(|server| self.end(way, number, server));
            let manner = self.ways[way].manner;
            self.trunks.push(Trunk {
                ends,
                wires: [Wire::new(manner), Wire::new(manner)],
            });
            self.ways[way].trunks.push(self.trunks.len() - 1);
        }
    }

    /// One end of a connection between routers.
    fn end(&mut self, way: usize, number: usize, server: bool) -> End {
        let now = self.now();
        let of = &self.ways[way];
        let router = if server { of.to } else { of.from };
        let role = match [of.from, of.to].map(|router| self.routers[router].is_edge) {
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
        if !server && !self.routers[of.from].is_edge {
            let properties = &mut endpoint.properties;
            properties.insert("qd.group-correlator", &*correlator);
            properties.insert("qd.group-ordinal", of.ordinal);
            if number > 0 {
                properties.insert("qd.inter-router-role", 4);
            }
        }
        let group = (!server).then(|| Group {
            correlator: (&*correlator).into(),
            ordinal: of.ordinal,
        });
        let endpoint = Arc::new(endpoint);
        let connection = match server {
            true => Connection::server(Arc::clone(&endpoint), now),
            false => Connection::client(Arc::clone(&endpoint), now),
        };
        let settings = ConnectionSettings {
            name: "trunk".into(),
            role,
            cost: 1,
            link_capacity: 250,
            governed: false,
            policy_vhost: None,
            group,
            max_message_size: None,
            endpoint,
        };
        let peer = PeerInfo {
            incoming: server,
            ..PeerInfo::default()
        };
        // Routers speak on the last worker; the others are spread, as sockets are.
        let workers = &mut self.routers[router].workers;
        let worker = (workers.len() - 1 + number) % workers.len();
        self.next_id += 1;
        let settings = Arc::new(settings);
        let connection = workers[worker].add_connection(self.next_id, connection, settings, peer);
        End {
            router,
            worker,
            connection,
            open: true,
        }
    }

    /// Makes a router one that knows nothing of streams whose octets do not wait for an answer.
    pub(super) fn make_foreign(&mut self, router: usize) {
        let router = &mut self.routers[router];
        router.is_foreign = true;
        router.control.is_foreign = true;
        router.workers.iter_mut().for_each(Worker::be_foreign);
    }

    /// Has a router connect to a service for an address.
    pub(super) fn serve(&mut self, router: usize, address: &str, refuses: bool) -> usize {
        let control = &mut self.routers[router].control;
        let connector = control.next_connector();
        control.add_connector(connector, address);
        self.services.push(Service {
            router,
            connector,
            service: Arc::new(TcpService {
                record: Some(RecordId(1)),
                ..TcpService::default()
            }),
            refuses,
            dial_takes: Duration::from_millis(5),
            dialled: 0,
        });
        self.services.len() - 1
    }

    /// No stream is to come to a service any more.
    pub(super) fn end_service(&mut self, service: usize) {
        let Service {
            router, connector, ..
        } = self.services[service];
        self.routers[router].control.remove_connector(connector);
    }

    /// Octets that have come to a router for services which it is still connecting to.
    pub(super) fn octets_before_services(&self, router: usize) -> u64 {
        let workers = self.routers[router].workers.iter();
        workers.map(Worker::octets_before_services).sum()
    }

    /// A client connects to a listener of a router.
    pub(super) fn open(
        &mut self,
        router: usize,
        address: &str,
        habits: [Habit; 2],
        manner: Manner,
    ) -> usize {
        let (session, now) = (self.sessions.len(), self.now());
        if self.tracing {
            println!(
                "{:?} session {session} at router {router}: {habits:?}",
                self.at
            );
        }
        let worker = self.rng.random_range(0..self.routers[router].workers.len());
        let service = TcpService::default();
        service.set_watch(Watch::Auto);
        let service = Arc::new(service);
        let client = TcpClient {
            service,
            address: address.into(),
            host: format!("client:{session}"),
            // Comes out again where the service is: so it is known whose connection that is.
            alpn: Some(session.to_string()),
            tls: None,
            record: Some(RecordId(0)),
            seat: None,
        };
        let connection = self.routers[router].workers[worker].add_tcp_client(client, now);
        self.sockets.push(Socket {
            router,
            worker,
            connection: Some(connection),
            program: Program::new(session, true, habits[0], manner, self.at),
            read_closed: false,
        });
        self.sessions.push(Session {
            client: self.sockets.len() - 1,
            server: None,
            server_habit: habits[1],
        });
        session
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
    }

    fn next_due(&self) -> Option<Duration> {
        let since = |instant: Instant| instant.saturating_duration_since(self.origin);
        let workers = self.routers.iter().flat_map(|router| &router.workers);
        let timers = workers.filter_map(Worker::poll_timeout).map(since);
        let control = self.routers.iter();
        let control = control.filter_map(|router| router.control.poll_timeout());
        let wires = self.trunks.iter().flat_map(|trunk| &trunk.wires);
        let programs = self.sockets.iter().flat_map(|socket| {
            let heard = socket.program.up.next_due();
            let heard = heard.filter(|_| socket.connection.is_some() && !socket.read_closed);
            [socket.program.next_due(), heard]
        });
        timers
            .chain(control.map(since))
            .chain(wires.filter_map(Wire::next_due))
            .chain(programs.flatten())
            .chain(self.dials.iter().map(|(due, ..)| *due))
            .filter(|due| *due > self.at)
            .min()
    }

    fn pump(&mut self) {
        for round in 0.. {
            assert!(round < 5_000_000, "the network does not come to rest");
            let mut moved = self.answer_dials();
            for trunk in 0..self.trunks.len() {
                moved |= self.pump_trunk(trunk);
            }
            for socket in 0..self.sockets.len() {
                moved |= self.pump_socket(socket);
            }
            for router in 0..self.routers.len() {
                moved |= self.pump_router(router);
            }
            if !moved {
                return;
            }
        }
    }

    /// Bytes between routers.
    fn pump_trunk(&mut self, number: usize) -> bool {
        let (now, at) = (self.now(), self.at);
        let Trunk { ends, wires } = &mut self.trunks[number];
        let mut moved = false;
        for (side, end) in ends.iter_mut().enumerate().filter(|(_, end)| end.open) {
            let worker = &mut self.routers[end.router].workers[end.worker];
            let connection = end.connection;
            if let Some(octets) = wires[1 - side].take(at, &mut self.rng) {
                worker.input(connection, octets, now);
                moved = true;
            } else if wires[1 - side].is_at_end() {
                worker.eof(connection, false, now);
                worker.remove(connection, now);
                end.open = false;
                wires[side].finish();
                moved = true;
                continue;
            }
            if let Some(out) = worker.output(connection) {
                assert!(
                    out.len() <= OUT_MAX,
                    "{} octets wait for a trunk",
                    out.len()
                );
                if wires[side].carry(out, at, &mut self.rng) {
                    worker.written(connection, now);
                    moved = true;
                }
            }
        }
        moved
    }

    /// What a program does, and what its router's socket does.
    fn pump_socket(&mut self, number: usize) -> bool {
        let (now, at) = (self.now(), self.at);
        let socket = &mut self.sockets[number];
        let mut moved = socket.program.pump(at, &mut self.rng);
        let Some(connection) = socket.connection else {
            return moved;
        };
        let worker = &mut self.routers[socket.router].workers[socket.worker];
        let program = &mut socket.program;
        if program.reset {
            worker.eof(connection, true, now);
        }
        while !socket.read_closed && worker.wants_input(connection) {
            if let Some(octets) = program.up.take(at, &mut self.rng) {
                worker.input(connection, octets, now);
                moved = true;
            } else if program.up.is_at_end() {
                socket.read_closed = true;
                worker.eof(connection, false, now);
                moved = true;
            } else {
                break;
            }
        }
        let held = worker.held(connection);
        let most = [KEPT_MAX, WAITING_MAX].map(|most| most + READING_MAX);
        assert!(held[0] <= most[0] && held[1] <= most[1], "{held:?} wait");
        if let Some(out) = worker.output(connection) {
            assert!(
                out.len() <= OUT_MAX,
                "{} octets wait for a socket",
                out.len()
            );
            if !out.is_empty() && program.down.carry(out, at, &mut self.rng) {
                moved = true;
            }
            let empty = out.is_empty();
            worker.written(connection, now);
            if empty && worker.wants_shutdown(connection) {
                program.down.finish();
                worker.was_shut_down(connection, now);
                moved = true;
            }
        }
        if worker.is_finished(connection) {
            // What it would send to a socket that is closed comes back as a reset, too.
            if worker.is_reset(connection) || !program.ended {
                program.reset = true;
            }
            program.down.finish();
            worker.remove(connection, now);
            socket.connection = None;
            moved = true;
        }
        moved
    }

    fn pump_router(&mut self, number: usize) -> bool {
        let now = self.now();
        let router = &mut self.routers[number];
        let mut moved = false;
        if router.control.poll_timeout().is_some_and(|due| due <= now) {
            router.control.handle_timeout(now);
            moved = true;
        }
        while let Some((to, mail)) = router.mail.pop_front() {
            router.workers[to.index()].mail(mail);
            moved = true;
        }
        for worker in 0..router.workers.len() {
            let id = WorkerId(worker as u16);
            let worker = &mut router.workers[worker];
            if worker.poll_timeout().is_some_and(|due| due <= now) {
                worker.handle_timeout(now);
                moved = true;
            }
            worker.end_turn(now);
            // Sockets are looked at in every round anyway.
            while worker.poll_writable().is_some() || worker.poll_resumed().is_some() {}
            router
                .mail
                .extend(std::iter::from_fn(|| worker.poll_mail()));
            let events: Vec<_> = std::iter::from_fn(|| worker.poll_event()).collect();
            for event in events {
                moved = true;
                if let Some(dial) = router.hear(id, event, now) {
                    let mut services = self.services.iter_mut();
                    let service = services.find(|s| s.is_at(number, dial.connector));
                    let takes = service.map_or(Duration::ZERO, |service| {
                        service.dialled += 1;
                        service.dial_takes
                    });
                    let delay = takes.mul_f64(self.rng.random());
                    let due = self.at + delay;
                    self.dials.push_back((due, number, id.index(), dial));
                }
            }
        }
        if router.is_foreign {
            let workers = router.workers.iter();
            let lost: u64 = workers.map(Worker::octets_before_services).sum();
            assert_eq!(lost, 0, "router {number} loses octets");
        }
        moved |= !router.mail.is_empty();
        while let Some((recipient, command)) = router.control.poll_command() {
            moved = true;
            match recipient {
                Recipient::Worker(worker) => router.workers[worker.index()].command(command, now),
                Recipient::Everyone => {
                    for worker in &mut router.workers {
                        worker.command(command.clone(), now);
                    }
                }
            }
        }
        moved
    }

    fn answer_dials(&mut self) -> bool {
        let (now, at) = (self.now(), self.at);
        let due: Vec<_> = {
            let (due, later) = self.dials.drain(..).partition(|(due, ..)| *due <= at);
            self.dials = later;
            let due: VecDeque<_> = due;
            due.into_iter().collect()
        };
        let moved = !due.is_empty();
        for (_, router, worker, dial) in due {
            let mut services = self.services.iter();
            let service = services.find(|s| s.is_at(router, dial.connector));
            let service = service.filter(|service| !service.refuses);
            let result = service.map(|service| Dialled {
                service: Arc::clone(&service.service),
                host: "service".into(),
                tls: None,
                local: None,
            });
            let result = result.ok_or_else(|| "refused".to_owned());
            if self.tracing {
                let word = if result.is_ok() { "serves" } else { "refuses" };
                println!("{at:?} router {router} {word} {dial:?}");
            }
            let worker_of = &mut self.routers[router].workers[worker];
            if worker_of.dialled(dial.connection, dial.id, result, now) {
                let session = dial.alpn.as_deref().and_then(|alpn| alpn.parse().ok());
                let session: usize = session.expect("each stream says whose it is");
                let manner = Manner::random(&mut self.rng);
                let habit = self.sessions[session].server_habit;
                self.sockets.push(Socket {
                    router,
                    worker,
                    connection: Some(dial.connection),
                    program: Program::new(session, false, habit, manner, at),
                    read_closed: false,
                });
                self.sessions[session].server = Some(self.sockets.len() - 1);
            }
        }
        moved
    }

    /// Nothing is left anywhere once all programs are done.
    pub(super) fn check_empty(&self) {
        for (number, router) in self.routers.iter().enumerate() {
            for worker in &router.workers {
                let status = worker.status(self.now());
                assert!(status.tcp.is_empty(), "{number} has {:?}", status.tcp);
                assert_eq!(status.in_flight, 0, "router {number} holds deliveries");
            }
            router.told.check_empty();
            for address in router.control.addresses() {
                for destination in &address.entry.destinations {
                    assert_eq!(destination.load.get(), 0, "load of {}", address.entry.key);
                }
                for remote in &address.entry.remotes {
                    assert_eq!(remote.load.get(), 0, "load of {}", address.entry.key);
                }
            }
        }
    }
}

impl Socket {
    /// What the router holds of what the program has sent.
    pub(super) fn held(&self, net: &Net) -> [usize; 2] {
        let worker = &net.routers[self.router].workers[self.worker];
        self.connection.map_or([0, 0], |one| worker.held(one))
    }
}

impl Service {
    fn is_at(&self, router: usize, connector: ConnectorId) -> bool {
        self.router == router && self.connector == connector
    }
}

impl Router {
    fn new(number: usize, is_edge: bool, workers: usize, now: Instant) -> Self {
        let identity = Arc::new(Identity {
            id: name(number),
            edge: is_edge,
            network: None,
            tenant: None,
        });
        let mut control = Control::new(
            Arc::clone(&identity),
            Treatment::Balanced,
            [number as u8; 32],
        );
        let settings = mesh::Settings {
            id: name(number),
            instance: 1,
            hello_interval: Duration::from_secs(1),
            hello_max_age: Duration::from_secs(3),
            ra_interval: Duration::from_secs(30),
            ra_interval_flux: Duration::from_secs(4),
            remote_ls_max_age: Duration::from_secs(60),
            unreachable_holdoff: Duration::from_secs(1),
            max_routers: 100,
        };
        match is_edge {
            true => control.become_edge(1_000_000 * number as i64),
            false => control.join(Mesh::new(settings, now)),
        }
        // As a listener does.
        control.watch("svc");
        let ids = Arc::default();
        let told = Told::new(number);
        let worker = |worker: usize| {
            let settings = Settings {
                worker: WorkerId(worker as u16),
                identity: Arc::clone(&identity),
                default_treatment: Treatment::Balanced,
                replies: Replies::new([number as u8; 16]),
            };
            let mut worker = Worker::new(settings, Arc::clone(&ids), now);
            worker.tell_flows(Arc::clone(&told.origin));
            worker.set_wanted(Wanted {
                octets: true,
                requests: true,
            });
            worker
        };
        Self {
            control,
            workers: (0..workers).map(worker).collect(),
            mail: VecDeque::new(),
            is_edge,
            is_foreign: false,
            told,
        }
    }

    /// Takes what a worker tells; gives a service that is to be connected to.
    fn hear(&mut self, worker: WorkerId, event: WorkerEvent, now: Instant) -> Option<Dial> {
        match event {
            WorkerEvent::Dial(dial) => return Some(dial),
            WorkerEvent::Flows(events) => self.told.hear(events),
            WorkerEvent::Opened(status) => {
                let connector = (!status.peer.incoming).then(|| "trunk".to_owned());
                let opened = Opened {
                    connector,
                    ordinal: status.group.as_ref().map_or(0, |group| group.ordinal),
                    ..status.opened(worker)
                };
                self.control.opened(&opened, now);
            }
            WorkerEvent::Closed { id, .. } => self.control.closed(id, now),
            WorkerEvent::Attach(request) => self.control.attach(*request, now),
            WorkerEvent::Attached(link) => self.control.attached(&link, now),
            WorkerEvent::Detached { link, loss } => self.control.detached(link, &loss, now),
            WorkerEvent::Heard { link, message } => self.control.heard(link, &message, now),
            _ => {}
        }
        None
    }
}

fn name(router: usize) -> String {
    format!("R{router}")
}

fn capabilities() -> Vec<Symbol> {
    vec![
        Symbol::from("ANONYMOUS-RELAY"),
        Symbol::from("qd.streaming-links"),
        trunking(),
    ]
}

/// What each router shows of a session in a failed test.
pub(super) fn describe(net: &Net) -> BTreeMap<usize, String> {
    let sockets = net.sockets.iter().enumerate();
    sockets
        .filter(|(_, socket)| !socket.program.is_over())
        .map(|(number, socket)| {
            let program = &socket.program;
            let text = format!(
                "session {} client {} sent {}/{} got {} ended {} heard {} open {}",
                program.session,
                program.is_client,
                program.sent,
                program.habit.sends,
                program.got,
                program.ended,
                program.heard_end,
                socket.connection.is_some(),
            );
            (number, text)
        })
        .collect()
}

/// More than may ever wait to be written to one connection.
const OUT_MAX: usize = 1536 * 1024;
/// What one reading of a socket may bring: as much as programs write at a time.
const READING_MAX: usize = 300_000;
