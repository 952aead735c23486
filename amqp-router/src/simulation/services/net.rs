//! Routers, the connections between them, and the sockets at their edges.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::program::{Habit, Program};
use super::telemetry::Told;
use crate::adaptors::tcp::{KEPT_MAX, TcpService, WAITING_MAX};
use crate::control::table::{ConnectorId, WorkerId};
use crate::endpoint::OutBuf;
use crate::observers::Watch;
use crate::simulation::router::{Build, Place, Router};
use crate::simulation::trunks::{OUT_MAX, Plan, Trunks};
use crate::simulation::wire::Manner;
use crate::vanflow::RecordId;
use crate::worker::Worker;
use crate::worker::direct::Direct;
use crate::worker::flows::Wanted;
use crate::worker::tcp::{Dial, Dialled, NotDialled, TcpClient};
use crate::worker::{ConnectionId, WorkerEvent};

/// A network of routers, and the programs that use it.
pub(super) struct Net {
    pub(super) rng: StdRng,
    origin: Instant,
    pub(super) at: Duration,
    pub(super) routers: Vec<Router>,
    /// What each router has told in telemetry.
    pub(super) told: Vec<Told>,
    trunks: Trunks,
    pub(super) sockets: Vec<Socket>,
    pub(super) services: Vec<Service>,
    /// What each session's client and service do, and whether a service was found.
    pub(super) sessions: Vec<Session>,
    dials: VecDeque<Dialling>,
    pub(super) tracing: bool,
    /// Octets that have gone from socket to socket without a worker.
    pub(super) direct: usize,
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
    /// What another program's socket has been read, and this one has not taken yet.
    piped: OutBuf,
    /// The socket whose octets may still be in another's pipe.
    fills: Option<usize>,
}

/// A service is being connected to.
struct Dialling {
    due: Duration,
    router: usize,
    worker: WorkerId,
    dial: Dial,
    /// It takes too long.
    gives_up: bool,
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
        let mut net = Self {
            rng: StdRng::seed_from_u64(seed),
            origin,
            at: Duration::ZERO,
            routers: Vec::new(),
            told: Vec::new(),
            trunks: Trunks::default(),
            sockets: Vec::new(),
            services: Vec::new(),
            sessions: Vec::new(),
            dials: VecDeque::new(),
            tracing: false,
            direct: 0,
        };
        for number in 0..routers + edges {
            let place = match number < routers {
                true => Place::Interior { instance: 1 },
                false => Place::Edge {
                    started: 1_000_000 * number as i64,
                },
            };
            net.add_router(number, place, workers);
        }
        net
    }

    fn add_router(&mut self, number: usize, place: Place, workers: usize) {
        let build = Build {
            number,
            place,
            workers,
            delay: Duration::ZERO,
        };
        let mut router = Router::new(&build, self.origin);
        // As a listener does.
        router.control.watch("svc");
        let told = Told::new(number);
        for hub in &mut router.hubs {
            hub.worker.tell_flows(Arc::clone(&told.origin));
            hub.worker.set_wanted(Wanted {
                octets: true,
                requests: true,
            });
        }
        self.routers.push(router);
        self.told.push(told);
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
        let plan = Plan {
            data,
            ..Plan::new(from, to, manner)
        };
        let now = self.now();
        self.trunks.join(&mut self.routers, plan, now)
    }

    /// How many connectors there are.
    pub(super) fn ways(&self) -> usize {
        self.trunks.ways()
    }

    /// The connector makes its connections anew, with a higher ordinal.
    pub(super) fn renew(&mut self, way: usize) {
        let now = self.now();
        self.trunks.renew(&mut self.routers, way, now);
    }

    /// Closes the connections that have been succeeded.
    pub(super) fn retire(&mut self, way: usize) {
        self.trunks.retire(way, &mut self.rng);
    }

    /// Cuts all that a connector has made.
    pub(super) fn cut(&mut self, way: usize) {
        self.trunks.cut(way, &mut self.rng);
    }

    /// Makes a router one that knows nothing of streams whose octets do not wait for an answer.
    pub(super) fn make_foreign(&mut self, router: usize) {
        let router = &mut self.routers[router];
        router.control.is_foreign = true;
        for hub in &mut router.hubs {
            hub.worker.be_foreign();
        }
    }

    /// Makes a router one that says of a stream whose service refuses that it is modified.
    pub(super) fn modify_refused(&mut self, router: usize) {
        for hub in &mut self.routers[router].hubs {
            hub.worker.modify_refused();
        }
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
        let hubs = self.routers[router].hubs.iter();
        let workers = hubs.map(|hub| &hub.worker);
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
        let worker = self.rng.random_range(0..self.routers[router].hubs.len());
        let service = TcpService::default();
        service.set_watch(Watch::Auto);
        let service = Arc::new(service);
        let client = TcpClient {
            service,
            address: address.into(),
            host: format!("client:{session}"),
            local: None,
            // Comes out again where the service is: so it is known whose connection that is.
            alpn: Some(session.to_string()),
            tls: None,
            record: Some(RecordId(0)),
            seat: None,
        };
        let connection = self.routers[router]
            .worker(worker)
            .add_tcp_client(client, now);
        self.sockets.push(Socket {
            router,
            worker,
            connection: Some(connection),
            program: Program::new(session, true, habits[0], manner, self.at),
            read_closed: false,
            piped: OutBuf::default(),
            fills: None,
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
        let routers = self.routers.iter();
        let routers = routers.filter_map(Router::next_due);
        let programs = self.sockets.iter().flat_map(|socket| {
            let heard = socket.program.up.next_due();
            let heard = heard.filter(|_| socket.connection.is_some() && !socket.read_closed);
            [socket.program.next_due(), heard]
        });
        routers
            .chain(self.trunks.next_due())
            .chain(programs.flatten())
            .chain(self.dials.iter().map(|one| one.due))
            .filter(|due| *due > self.at)
            .min()
    }

    fn pump(&mut self) {
        for round in 0.. {
            assert!(round < 5_000_000, "the network does not come to rest");
            let mut moved = self.answer_dials();
            let now = self.now();
            let (routers, rng) = (&mut self.routers, &mut self.rng);
            moved |= self.trunks.pump(routers, self.at, now, rng);
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

    /// What a program does, and what its router's socket does.
    fn pump_socket(&mut self, number: usize) -> bool {
        let (now, at) = (self.now(), self.at);
        let socket = &mut self.sockets[number];
        let mut moved = socket.program.pump(at, &mut self.rng);
        let Some(connection) = socket.connection else {
            return moved;
        };
        if socket.program.reset {
            let worker = self.routers[socket.router].worker(socket.worker);
            worker.eof(connection, true, now);
        }
        while self.read_socket(number, connection) {
            moved = true;
        }
        moved |= self.empty_pipe(number);
        let socket = &mut self.sockets[number];
        let worker = self.routers[socket.router].worker(socket.worker);
        let program = &mut socket.program;
        let held = worker.held(connection);
        let most = [KEPT_MAX, WAITING_MAX].map(|most| most + READING_MAX);
        assert!(held[0] <= most[0] && held[1] <= most[1], "{held:?} wait");
        if let Some(out) = worker.output(connection) {
            assert!(
                out.len() <= OUT_MAX,
                "{} octets wait for a socket",
                out.len()
            );
            let piped = !socket.piped.is_empty();
            if !out.is_empty() && !piped && program.down.carry(out, at, &mut self.rng) {
                moved = true;
            }
            let empty = out.is_empty() && !piped;
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

    /// Reads what a socket has; true if it may have more.
    fn read_socket(&mut self, number: usize, connection: ConnectionId) -> bool {
        let (now, at) = (self.now(), self.at);
        let fills = self.sockets[number].fills;
        if fills.is_some_and(|other| !self.sockets[other].piped.is_empty()) {
            return false;
        }
        let socket = &mut self.sockets[number];
        let worker = self.routers[socket.router].worker(socket.worker);
        if socket.read_closed || !worker.wants_input(connection) {
            return false;
        }
        let Some(octets) = socket.program.up.take(at, &mut self.rng) else {
            if socket.program.up.is_at_end() {
                socket.read_closed = true;
                worker.eof(connection, false, now);
            }
            return socket.read_closed;
        };
        // A driver may as well give octets to the worker.
        let way = worker.direct(connection).filter(|_| self.rng.random());
        let Some(Direct { to, .. }) = way.filter(|way| way.most >= octets.len() as u64) else {
            worker.input(connection, octets, now);
            return true;
        };
        self.direct += octets.len();
        let (router, hub) = (socket.router, socket.worker);
        let is_taker = |other: &Socket| {
            (other.router, other.worker, other.connection) == (router, hub, Some(to))
        };
        let taker = self.sockets.iter().position(is_taker);
        let taker = taker.expect("a connection that octets go to has a socket");
        assert!(
            self.sockets[taker].piped.is_empty(),
            "a pipe has one writer"
        );
        self.sockets[taker].piped.push_payload(octets.freeze());
        self.sockets[number].fills = Some(taker);
        self.empty_pipe(taker);
        true
    }

    /// Gives a program what has gone by its router's worker.
    fn empty_pipe(&mut self, number: usize) -> bool {
        let (now, at) = (self.now(), self.at);
        let from = self.sockets.iter().find(|one| one.fills == Some(number));
        let from = from.and_then(|one| one.connection);
        let socket = &mut self.sockets[number];
        let Some(to) = socket.connection else {
            socket.piped = OutBuf::default();
            return false;
        };
        let before = socket.piped.len();
        let down = &mut socket.program.down;
        if before == 0 || !down.carry(&mut socket.piped, at, &mut self.rng) {
            return false;
        }
        let octets = (before - socket.piped.len()) as u64;
        let worker = self.routers[socket.router].worker(socket.worker);
        // Whoever sent them may be gone.
        worker.moved(from.unwrap_or(to), to, octets, now);
        true
    }

    fn pump_router(&mut self, number: usize) -> bool {
        let (now, at) = (self.now(), self.at);
        let mut moved = self.routers[number].turn(at, now, &mut self.rng);
        while let Some((worker, event)) = self.routers[number].poll_event(at) {
            moved = true;
            match self.routers[number].hear(worker, event, now) {
                Some(WorkerEvent::Dial(dial)) => {
                    let mut services = self.services.iter_mut();
                    let service = services.find(|s| s.is_at(number, dial.connector));
                    let takes = service.map_or(Duration::ZERO, |service| {
                        service.dialled += 1;
                        service.dial_takes
                    });
                    let takes = takes.mul_f64(self.rng.random());
                    let patience = dial.patience.unwrap_or(Duration::MAX);
                    let due = at + takes.min(patience);
                    let gives_up = takes > patience;
                    self.dials.push_back(Dialling {
                        due,
                        router: number,
                        worker,
                        dial,
                        gives_up,
                    });
                }
                Some(WorkerEvent::Flows(events)) => self.told[number].hear(events),
                _ => {}
            }
        }
        let router = &mut self.routers[number];
        if router.control.is_foreign {
            let workers = router.hubs.iter().map(|hub| &hub.worker);
            let lost: u64 = workers.map(Worker::octets_before_services).sum();
            assert_eq!(lost, 0, "router {number} loses octets");
        }
        moved |= router.issue(at, &mut self.rng);
        self.routers[number].rest(self.origin);
        moved
    }

    fn answer_dials(&mut self) -> bool {
        let (now, at) = (self.now(), self.at);
        let due: Vec<_> = {
            let (due, later) = self.dials.drain(..).partition(|one| one.due <= at);
            self.dials = later;
            let due: VecDeque<_> = due;
            due.into_iter().collect()
        };
        let moved = !due.is_empty();
        for Dialling {
            router,
            worker,
            dial,
            gives_up,
            ..
        } in due
        {
            let mut services = self.services.iter();
            let service = services.find(|s| s.is_at(router, dial.connector));
            let service = service.filter(|service| !service.refuses && !gives_up);
            let result = service.map(|service| Dialled {
                service: Arc::clone(&service.service),
                host: "service".into(),
                tls: None,
                local: None,
            });
            let result = result.ok_or_else(|| NotDialled {
                reason: "refused".into(),
                record: Some(RecordId(1)),
            });
            if self.tracing {
                let word = if result.is_ok() { "serves" } else { "refuses" };
                println!("{at:?} router {router} {word} {dial:?}");
            }
            let worker = worker.index();
            let worker_of = self.routers[router].worker(worker);
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
                    piped: OutBuf::default(),
                    fills: None,
                });
                self.sessions[session].server = Some(self.sockets.len() - 1);
            }
        }
        moved
    }

    /// Nothing is left anywhere once all programs are done.
    pub(super) fn check_empty(&self) {
        for (number, router) in self.routers.iter().enumerate() {
            for hub in &router.hubs {
                let status = hub.worker.whole_status(self.now());
                assert!(status.tcp.is_empty(), "{number} has {:?}", status.tcp);
                assert_eq!(status.in_flight, 0, "router {number} holds deliveries");
            }
            self.told[number].check_empty();
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
        let worker = &net.routers[self.router].hubs[self.worker].worker;
        self.connection.map_or([0, 0], |one| worker.held(one))
    }
}

impl Service {
    fn is_at(&self, router: usize, connector: ConnectorId) -> bool {
        self.router == router && self.connector == connector
    }
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

/// What one reading of a socket may bring: as much as programs write at a time.
const READING_MAX: usize = 300_000;
