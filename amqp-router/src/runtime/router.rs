//! A running router, and what its owner can do with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Builder;
use tokio::sync::mpsc::{
    UnboundedReceiver, UnboundedSender, WeakUnboundedSender, unbounded_channel,
};
use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::adaptors::tcp::WindowPool;
use crate::codec::Message;
use crate::control::links::Control;
use crate::control::table::AddressId;
use crate::forwarding::stats::Patience;
use crate::management::agent;
use crate::management::{self, Config, Invalid};
use crate::mesh::Mesh;
use crate::runtime::budget::MEGABYTE;
use crate::runtime::driver::ToWorker;
use crate::runtime::listener::BindError;
use crate::runtime::local::{LinkError, Receiver, Sender};
use crate::runtime::log::Log;
use crate::runtime::manage::{self, Asked, Manager, Reports, scope};
use crate::runtime::metrics::Figures;
use crate::runtime::plan::{
    self, Planner, address_rule, auto_link, log_settings, time_format, treatment,
};
use crate::runtime::policies::{Governance, load_policy_dir};
use crate::runtime::reload::{self, Reloaded};
use crate::runtime::sasl::SharedLogins;
use crate::runtime::scrapes::Overview;
use crate::runtime::service::{Inputs, Service};
use crate::runtime::threads::{Failures, Shared, start_workers, watched};
use crate::runtime::tls::live::Profiles;
use crate::runtime::vanflow::Telemetry;
use crate::runtime::workers::Workers;
use crate::worker::{Question, WorkerStatus};

/// Why a router did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The system refuses a thread, or what its event loop needs.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The configuration asks for what cannot be, such as a file that cannot be used: which, and
    /// why. It is told under the name that skrouterd's Python gives such faults.
    #[error("ValidationError: {0}")]
    Invalid(String),
    /// A listener cannot listen: which, where, and why.
    #[error("{0}")]
    Listen(String),
    /// The router has stopped, or is about to.
    #[error("{0}")]
    Stopped(String),
}

impl From<Invalid> for StartError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid.to_string())
    }
}

impl From<BindError> for StartError {
    fn from(error: BindError) -> Self {
        Self::Listen(error.to_string())
    }
}

/// What is asked of a control plane.
#[derive(Debug)]
pub(crate) enum Request {
    Stop(oneshot::Sender<()>),
    /// The management agent is attached.
    Manageable,
    /// It is not, and why.
    Unmanageable(LinkError),
    /// Say that you live.
    Ping(oneshot::Sender<()>),
    /// What keeps you from doing what you should, a sentence each?
    Missing(oneshot::Sender<Vec<String>>),
    /// For metrics: what you know yourself, and the workers' answers to come.
    Overview(oneshot::Sender<Overview>),
    /// For metrics: the keys of addresses.
    Keys {
        ids: Vec<AddressId>,
        reply: oneshot::Sender<Vec<Option<String>>>,
    },
    /// A client's request.
    Manage {
        asked: Box<Asked>,
        reply: oneshot::Sender<Message>,
    },
    /// The same, with what workers have reported for it.
    Answer {
        asked: Box<Asked>,
        reports: Box<Reports>,
        reply: oneshot::Sender<Message>,
    },
    /// Become what a configuration says that has been checked.
    Apply {
        config: Box<Config>,
        reply: oneshot::Sender<Reloaded>,
    },
}

/// A router that is running, on threads of its own.
///
/// Dropping it stops it without waiting; [`stop`](Self::stop) waits until every connection is
/// closed.
#[derive(Debug)]
pub struct Router {
    requests: UnboundedSender<Request>,
    workers: Workers,
    addresses: Vec<(String, Vec<SocketAddr>)>,
    threads: Vec<JoinHandle<()>>,
    failures: Failures,
}

impl Router {
    /// Starts a router; when this returns, it listens and can be managed.
    ///
    /// It logs through `tracing`.
    ///
    /// # Errors
    /// A listener cannot listen, or a file that the configuration names cannot be used.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with_log(config, None)
    }

    /// The same, where `log` is the process's own: `log` entities then apply to it.
    ///
    /// # Errors
    /// As for [`start`](Self::start), or a log cannot be written where it should.
    pub fn start_with_log(config: Config, log: Option<Log>) -> Result<Self, StartError> {
        if let Some(log) = &log {
            for entity in config.of("log") {
                let (module, settings) = log_settings(entity)?;
                let configured = log.configure(module, settings);
                configured.map_err(|error| StartError::Invalid(error.to_string()))?;
            }
            log.set_time_format(time_format(config.singleton("router"))?);
        }
        let mut config = config;
        load_policy_dir(&mut config)?;
        let governance = Governance::new(&config)?;
        let router = config.singleton("router");
        let workers = router
            .integer("workerThreads")
            .and_then(|n| u16::try_from(n).ok());
        let default = treatment(router.text("defaultDistribution"));
        let identity = Arc::new(
            Planner::new(&config, &Profiles::default(), &SharedLogins::default()).identity(),
        );
        let ids = Arc::new(AtomicU64::new(1));
        let (telemetry, heard) = Telemetry::new(&config);
        let failures = Failures::new(watch::Sender::new(None));
        let limit = config.singleton("router").integer("maxMemoryMegabytes");
        let limit = limit.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        let memory = limit.map(|n| n.saturating_mul(MEGABYTE));
        let windows = Arc::<WindowPool>::default();
        windows.set_memory(memory);
        let shared = Shared {
            ids: Arc::clone(&ids),
            origin: telemetry.origin(),
            windows,
            patience: match config.hurried {
                true => Patience::SHORT,
                false => Patience::default(),
            },
        };
        let (workers, events, mut threads) =
            start_workers(workers.unwrap_or(1), &identity, default, &shared, &failures)?;
        let edge = identity.edge;
        let mut control = Control::new(identity, default, rand::random());
        if let Some(settings) = plan::mesh_settings(&config) {
            control.join(Mesh::new(settings, Instant::now()));
        }
        if edge {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            control.become_edge(i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
        }
        let (requests, inbox) = unbounded_channel();
        let (ready, started) = std::sync::mpsc::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handles, myself) = (workers.clone(), requests.downgrade());
        let thread = std::thread::Builder::new().name("control".into());
        let work = move || {
            let _entered = runtime.enter();
            let (mut service, inputs) = Service::new(
                control,
                handles,
                events,
                governance,
                ids,
                (telemetry, heard),
            );
            service.memory.set_limit(memory, Instant::now());
            service.limit_sources(config.singleton("policy"));
            let plane = ControlPlane {
                service,
                said: config.clone(),
                config,
                log,
                myself,
                ready: Some(ready),
            };
            runtime.block_on(plane.run(inputs, inbox));
        };
        threads.push(thread.spawn(watched("control".into(), failures.clone(), work))?);
        let addresses = match started.recv() {
            Ok(started) => started?,
            Err(_) => return Err(StartError::Stopped("the control plane has ended".into())),
        };
        Ok(Self {
            requests,
            workers,
            addresses,
            threads,
            failures,
        })
    }

    /// The addresses on which each listener listens, by its name.
    pub fn listening(&self) -> &[(String, Vec<SocketAddr>)] {
        &self.addresses
    }

    /// Opens a sender to an address.
    ///
    /// # Errors
    /// The router refuses it, because the address is unavailable for example, or has stopped.
    pub async fn sender(&self, address: &str) -> Result<Sender, LinkError> {
        Sender::attach(self.worker(), Some(address)).await
    }

    /// Opens a sender whose messages each say in their `to` where they go.
    ///
    /// # Errors
    /// The router has stopped.
    pub async fn anonymous_sender(&self) -> Result<Sender, LinkError> {
        Sender::attach(self.worker(), None).await
    }

    /// Opens a receiver from an address, with credit for `credit` deliveries at a time.
    ///
    /// # Errors
    /// The router refuses it, because the address is unavailable for example, or has stopped.
    pub async fn receiver(&self, address: &str, credit: u32) -> Result<Receiver, LinkError> {
        Receiver::attach(self.worker(), Some(address), credit).await
    }

    /// Opens a receiver from a new address that is its own: see [`Receiver::address`].
    ///
    /// # Errors
    /// The router has stopped.
    pub async fn dynamic_receiver(&self, credit: u32) -> Result<Receiver, LinkError> {
        Receiver::attach(self.worker(), None, credit).await
    }

    /// Has the router become what a new configuration says, while it works: entities that are new,
    /// changed or gone since the configuration that it has last been given. What management
    /// requests have created or deleted in between stays as it is.
    ///
    /// The files that it names are read first; what then cannot be done (a port is in use, an
    /// attribute takes effect at the next start only) is in the report, and everything else is done.
    /// Connections that listeners have accepted stay; those of a connector that has changed are
    /// made again. TCP connections end with the `tcpListener` or `tcpConnector` that goes, or
    /// changes in what cannot be updated, unless `dropTcpConnections` of `router` is off.
    ///
    /// # Errors
    /// A file cannot be used, and nothing has changed; or the router has stopped.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn reload(&self, config: Config) -> Result<Reloaded, StartError> {
        let config = reload::checked(config).await?;
        let applied = reload::apply(config, &self.requests).await;
        applied.ok_or_else(|| StartError::Stopped("the router has stopped".into()))
    }

    /// Returns when a thread of the router has panicked, with the thread's name: a bug, after which
    /// the router does not work any more. Its owner had better end the process, or start another.
    pub async fn failed(&self) -> String {
        let mut failures = self.failures.subscribe();
        match failures.wait_for(Option::is_some).await {
            Ok(name) => name.clone().unwrap_or_default(),
            // This router holds the other end.
            Err(_) => std::future::pending().await,
        }
    }

    /// Closes every connection and stops; returns when that is done, after some seconds at the
    /// most.
    pub async fn stop(mut self) {
        let (reply, stopped) = oneshot::channel();
        if self.requests.send(Request::Stop(reply)).is_ok() {
            // An error means that it has stopped already.
            let _ = stopped.await;
        }
        for thread in std::mem::take(&mut self.threads) {
            // Its last words are said; a panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }

    fn worker(&self) -> UnboundedSender<ToWorker> {
        self.workers.get(0).inbox.clone()
    }
}

/// Where each listener listens.
type Listening = Vec<(String, Vec<SocketAddr>)>;

/// The control plane and what it is configured with.
struct ControlPlane {
    service: Service,
    config: Config,
    /// What its owner has last said, as far as it was done.
    said: Config,
    log: Option<Log>,
    /// To itself, for what others work out for it.
    myself: WeakUnboundedSender<Request>,
    /// To whoever started the router, until it is up.
    ready: Option<std::sync::mpsc::Sender<Result<Listening, StartError>>>,
}

impl ControlPlane {
    async fn run(mut self, mut inputs: Inputs, mut requests: UnboundedReceiver<Request>) {
        if let Err(error) = self.set_up() {
            self.service.shut_down();
            self.report(Err(error));
            return;
        }
        let worker = self.service.workers.get(0).inbox.clone();
        self.service.start_telemetry(self.log.clone());
        if let Some(myself) = self.myself.upgrade() {
            // It holds on to the workers' events, so that it must not outlive the shutdown.
            tokio::spawn(manage::serve(worker, myself.downgrade()));
        }
        let stopped = self.work(&mut inputs, &mut requests).await;
        self.service.begin_to_stop();
        // Whoever has asked for something just before hears that nobody answers any more.
        requests.close();
        while requests.try_recv().is_ok() {}
        self.service.telemetry.finish().await;
        self.service.shut_down();
        // Workers end when their connections are closed, and then drop their end of this channel.
        while let Some((worker, events)) = inputs.events.recv().await {
            self.service.handle_events(worker, events);
        }
        info!(target: "ROUTER", "All connections closed");
        self.leave_dump();
        if let Some(reply) = stopped {
            // Nobody waits any more: as good as told.
            let _ = reply.send(());
        }
    }

    /// Whoever runs skrouterd reads in this file, after its end, what has leaked. Here everything
    /// is freed by its owner: an empty one says so.
    fn leave_dump(&self) {
        let Some(file) = self.config.singleton("router").word("debugDumpFile") else {
            return;
        };
        if let Err(error) = std::fs::File::create(file) {
            warn!(target: "ROUTER", "router: the attribute 'debugDumpFile': '{file}': {error}");
        }
    }

    /// Puts the configured entities to work.
    fn set_up(&mut self) -> Result<(), StartError> {
        for entity in self.config.of("router.config.address") {
            if let Some(scope) = scope(entity) {
                self.service.control.configure(scope, address_rule(entity));
            }
        }
        for entity in self.config.of("router.config.autoLink") {
            self.service.control.add_auto_link(auto_link(entity));
        }
        let planner = self.service.planner(&self.config);
        planner.users()?;
        planner.load_profiles()?;
        planner.warn_of_what_is_odd();
        self.service.governance.warn_of_what_is_odd(&self.config);
        planner.announce_data_connections();
        for entity in self.config.of("connector") {
            self.service.connect(planner.connector(entity)?);
        }
        for entity in self.config.of("listener") {
            match planner.listener(entity)? {
                plan::Listening::Amqp(plan) => self.service.listen(*plan)?,
                plan::Listening::Http(plan) => self.service.serve_http(*plan, &self.myself)?,
            };
        }
        for kind in ["tcpListener", "tcpConnector", "listenerAddress"] {
            for entity in self.config.of(kind) {
                self.service.start_tcp(&planner, entity)?;
            }
        }
        self.service.send_commands();
        Ok(())
    }

    /// Tells whoever started the router how that went.
    fn report(&mut self, outcome: Result<(), StartError>) {
        if let Some(ready) = self.ready.take() {
            let listening = self.service.listening();
            let listening =
                listening.map(|(name, addresses)| (name.to_owned(), addresses.to_vec()));
            let _ = ready.send(outcome.map(|()| listening.collect()));
        }
    }

    /// Works until the owner wants it to stop.
    async fn work(
        &mut self,
        inputs: &mut Inputs,
        requests: &mut UnboundedReceiver<Request>,
    ) -> Option<oneshot::Sender<()>> {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = tokio::time::interval(RETRY_INTERVAL);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.service.poll_timeout();
            tokio::select! {
                () = until(due) => self.service.handle_timeout(),
                _ = sweep.tick() => {
                    self.service.profiles.sweep(Instant::now(), SystemTime::now());
                }
                _ = retry.tick() => self.service.tcp.retry(),
                Some((worker, events)) = inputs.events.recv() => {
                    self.service.handle_events(worker, events);
                }
                Some((worker, accepted)) = inputs.accepted.recv() => {
                    self.service.adopt_accepted(worker, accepted);
                }
                Some(connected) = inputs.connected.recv() => {
                    self.service.adopt_connected(connected);
                }
                Some(heard) = inputs.heard.recv() => self.service.heard_telemetry(heard),
                request = requests.recv() => match request {
                    Some(Request::Stop(reply)) => return Some(reply),
                    Some(Request::Apply { config, reply }) => {
                        // Whoever asked may have gone; it is done all the same.
                        let _ = reply.send(self.apply(&config).await);
                    }
                    Some(request) => self.handle(request),
                    None => return None,
                },
            }
        }
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Manageable => self.report(Ok(())),
            Request::Unmanageable(error) => {
                let text = format!("the management agent cannot attach: {error}");
                self.report(Err(StartError::Stopped(text)));
            }
            Request::Ping(reply) => {
                let _ = reply.send(());
            }
            Request::Manage { asked, reply } if asked.request.is_reload() => {
                if let Some(myself) = self.myself.upgrade() {
                    let source = self.config.source.clone();
                    tokio::spawn(reload::on_request(asked.request, source, myself, reply));
                }
            }
            Request::Manage { asked, reply } => match asked.request.needs_figures() {
                true => self.consider(asked, Box::default(), reply),
                false => self.manage(*asked, Reports::default(), reply),
            },
            Request::Missing(reply) => {
                let mut missing = self.service.missing(self.config.of("listener"));
                if self.ready.is_some() {
                    missing.push("the management agent is not attached".into());
                }
                // Whoever asked has gone.
                let _ = reply.send(missing);
            }
            Request::Overview(reply) => {
                let _ = reply.send(Overview {
                    figures: Box::new(Figures::of(&self.service, &self.config)),
                    workers: self.service.ask_for_figures(),
                });
            }
            Request::Keys { ids, reply } => {
                let _ = reply.send(self.service.address_keys(&ids));
            }
            Request::Answer {
                asked,
                reports,
                reply,
            } => self.consider(asked, reports, reply),
            Request::Stop(_) | Request::Apply { .. } => {
                unreachable!("the loop above takes them")
            }
        }
    }

    /// Carries a request out once workers have told what it takes.
    fn consider(
        &mut self,
        asked: Box<Asked>,
        mut reports: Box<Reports>,
        reply: oneshot::Sender<Message>,
    ) {
        let mut manager = self.manager(std::mem::take(&mut *reports));
        agent::look(&asked.request, &mut manager);
        *reports = manager.reports;
        let Some(question) = reports.question() else {
            return self.manage(*asked, *reports, reply);
        };
        self.ask(question, |question, statuses| {
            reports.learn(question, statuses);
            Request::Answer {
                asked,
                reports,
                reply,
            }
        });
    }

    /// Asks all workers, and itself again with what they say.
    fn ask(
        &self,
        question: Question,
        request: impl FnOnce(&Question, Vec<WorkerStatus>) -> Request + Send + 'static,
    ) {
        let question = Arc::new(question);
        let answers = self.service.ask_workers(&question);
        let Some(myself) = self.myself.upgrade() else {
            return;
        };
        tokio::spawn(async move {
            let mut statuses = Vec::new();
            for answer in answers {
                // A worker that has ended has nothing to report.
                statuses.extend(answer.await);
            }
            // An error means that the router is stopping.
            let _ = myself.send(request(&question, statuses));
        });
    }

    /// Becomes what a configuration says, as far as that is possible now.
    async fn apply(&mut self, config: &Config) -> Reloaded {
        let plan = management::reload::plan(&self.said, config, &self.config);
        let (reloaded, failed) = self.manager(Reports::default()).apply(&plan).await;
        self.service.send_commands();
        reloaded.report();
        self.said = plan.reached(&self.said, &failed);
        if config.source.is_some() {
            self.config.source.clone_from(&config.source);
        }
        reloaded
    }

    fn manager(&mut self, reports: Reports) -> Manager<'_> {
        Manager {
            service: &mut self.service,
            config: &mut self.config,
            log: self.log.as_ref(),
            reports,
            myself: &self.myself,
            barred: None,
        }
    }

    fn manage(&mut self, asked: Asked, reports: Reports, reply: oneshot::Sender<Message>) {
        let mut manager = self.manager(reports);
        manager.barred = asked.barred;
        let answer = manager.answer(asked.request);
        // An error means that the agent has ended: the router is stopping.
        let _ = reply.send(answer);
        self.service.send_commands();
    }
}

/// Waits until a deadline; without one, for ever.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
/// How often files are looked at, and the ends of certificates.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// How often what could not be listened on is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
