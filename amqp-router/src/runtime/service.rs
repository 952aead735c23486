//! The task that owns the control plane, and what surrounds it: workers, listeners, connectors and
//! the management agent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::codec::Error;
use crate::control::links::{Command, Control, Recipient};
use crate::control::table::WorkerId;
use crate::management::{Config, Entity};
use crate::mesh::Notice;
use crate::runtime::budget::Budget;
use crate::runtime::connect::{Connected, ConnectorState};
use crate::runtime::connectors::Connector;
use crate::runtime::driver::ToWorker;
use crate::runtime::listen::Accepted;
use crate::runtime::manage::Profile;
use crate::runtime::plan::Planner;
use crate::runtime::policies::Governance;
use crate::runtime::reconnect::Status as ConnectorStatus;
use crate::runtime::sasl::SharedLogins;
use crate::runtime::scrapes::Scrapes;
use crate::runtime::sources::{SourceCounts, Sources};
use crate::runtime::tcp::TcpServices;
use crate::runtime::tls::live::Profiles;
use crate::runtime::vanflow::{Heard, Telemetry};
use crate::runtime::workers::Workers;
use crate::worker::{Question, WorkerEvent, WorkerStatus};

mod connections;
mod listening;

pub(crate) use connections::ConnectionRow;
use listening::Listener;
pub(crate) use listening::ListenerPlan;

/// The control plane of a running router, and the hands it works with.
pub(crate) struct Service {
    pub(crate) control: Control,
    pub(crate) workers: Workers,
    pub(crate) connections: BTreeMap<u64, ConnectionRow>,
    next_connection: Arc<AtomicU64>,
    pub(crate) tcp: TcpServices,
    listeners: BTreeMap<String, Listener>,
    pub(super) connectors: BTreeMap<String, Connector>,
    accepted: UnboundedSender<(usize, Accepted)>,
    pub(super) connected: UnboundedSender<Connected>,
    pub(crate) started: Instant,
    /// The same moment by the calendar.
    pub(crate) started_at: SystemTime,
    /// Set when the router begins to stop.
    stopping: Arc<AtomicBool>,
    /// Shared by the listeners that have `/metrics`.
    scrapes: Option<Arc<Scrapes>>,
    pub(crate) profiles: Profiles,
    pub(crate) logins: SharedLogins,
    /// What PROFILE has started.
    pub(crate) profile: Option<Profile>,
    pub(crate) governance: Governance,
    /// Shared with the listeners and with authentications that are on their way.
    pub(crate) sources: Arc<Mutex<Sources>>,
    pub(crate) telemetry: Telemetry,
    pub(crate) memory: Budget,
}

/// What a service waits for, besides requests.
pub(crate) struct Inputs {
    pub(crate) events: UnboundedReceiver<(WorkerId, Vec<WorkerEvent>)>,
    pub(crate) accepted: UnboundedReceiver<(usize, Accepted)>,
    pub(crate) connected: UnboundedReceiver<Connected>,
    pub(crate) heard: Receiver<Heard>,
}

impl Service {
    pub(crate) fn new(
        control: Control,
        workers: Workers,
        events: UnboundedReceiver<(WorkerId, Vec<WorkerEvent>)>,
        governance: Governance,
        next_connection: Arc<AtomicU64>,
        (telemetry, heard): (Telemetry, Receiver<Heard>),
    ) -> (Self, Inputs) {
        let (accepted, accepted_inbox) = unbounded_channel();
        let (connected, connected_inbox) = unbounded_channel();
        let service = Self {
            control,
            workers,
            connections: BTreeMap::new(),
            next_connection,
            tcp: TcpServices::default(),
            listeners: BTreeMap::new(),
            connectors: BTreeMap::new(),
            accepted,
            connected,
            started: Instant::now(),
            started_at: SystemTime::now(),
            stopping: Arc::default(),
            scrapes: None,
            profiles: Profiles::default(),
            logins: SharedLogins::default(),
            profile: None,
            governance,
            sources: Arc::default(),
            telemetry,
            memory: Budget::default(),
        };
        (
            service,
            Inputs {
                events,
                accepted: accepted_inbox,
                connected: connected_inbox,
                heard,
            },
        )
    }

    /// Plans for entities of a configuration, with what this router has opened for others.
    pub(crate) fn planner<'a>(&self, config: &'a Config) -> Planner<'a> {
        Planner::new(config, &self.profiles, &self.logins)
    }

    /// Takes what a worker has to tell.
    pub(crate) fn handle_events(&mut self, worker: WorkerId, events: Vec<WorkerEvent>) {
        let now = Instant::now();
        let requests = events.len();
        for event in events {
            match event {
                WorkerEvent::Attach(request) => self.attach(*request, now),
                WorkerEvent::Attached(link) => {
                    self.control.attached(&link, now);
                    self.log_attached(link.link);
                }
                WorkerEvent::NotAttached { ticket, error } => {
                    self.control.not_attached(ticket, error.as_ref(), now);
                }
                WorkerEvent::Heard { link, message } => self.control.heard(link, &message, now),
                WorkerEvent::Answered { link } => self.control.announced(link),
                WorkerEvent::Fenced { workers } => self.control.fenced(workers),
                WorkerEvent::Detached { link, loss, closed } => {
                    self.log_detached(link, &loss, closed, now);
                    self.governance.detached(link);
                    self.control.detached(link, &loss, now);
                }
                WorkerEvent::SessionFailed { id, error } => {
                    self.log_session_failed(id, &error, now);
                }
                WorkerEvent::Malformed { id, what } => self.log_malformed(id, what, now),
                WorkerEvent::LinkRefused { id, attach, error } => {
                    self.log_refused(id, &attach, &error, now);
                }
                WorkerEvent::Trouble { id, link, trouble } => {
                    self.log_trouble(id, link, trouble, now);
                }
                WorkerEvent::Opening {
                    id,
                    hostname,
                    container,
                    user,
                } => self.opening(worker, id, hostname, &container, user),
                WorkerEvent::Authenticate {
                    connection,
                    id,
                    step,
                } => self.authenticate(worker.index(), connection, id, step),
                WorkerEvent::Opened(status) => self.opened(worker, status),
                WorkerEvent::Closed { id, reason, fault } => {
                    self.control.closed(id, now);
                    self.closed(id, reason, fault);
                }
                WorkerEvent::BadStream(bad) => self.tcp.note_bad_stream(&bad, now),
                WorkerEvent::CutOff { connector, why } => self.tcp.note_cut_off(connector, &why),
                WorkerEvent::Denied(denial) => self.log_denial(&denial, now),
                WorkerEvent::Flows(events) => self.telemetry.flows(events),
                WorkerEvent::Octets { id, octets } => {
                    if let Some(row) = self.connections.get_mut(&id) {
                        self.telemetry.octets(row, octets);
                    }
                }
                // The driver does these itself.
                WorkerEvent::Local { .. } | WorkerEvent::Dial(_) => {}
            }
        }
        self.send_commands();
        self.workers.get(worker.index()).load.answered(requests);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = [
            self.control.poll_timeout(),
            self.telemetry.poll_timeout(),
            self.memory.poll_timeout(),
        ];
        due.into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self) {
        let now = Instant::now();
        self.control.handle_timeout(now);
        self.handle_telemetry(now);
        self.watch_memory(now);
        self.send_commands();
    }

    /// Sends every worker what the control plane has decided.
    pub(crate) fn send_commands(&mut self) {
        while let Some(notice) = self.control.poll_notice() {
            log_notice(&notice);
        }
        while let Some(notice) = self.control.poll_trunk_notice() {
            match notice.is_trouble() {
                true => warn!(target: "ROUTER_CORE", "{notice}"),
                false => info!(target: "ROUTER_CORE", "{notice}"),
            }
        }
        while let Some(denial) = self.control.poll_neighbour_denial() {
            self.log_neighbour_denial(&denial);
        }
        while let Some(notice) = self.control.poll_auto_link_notice() {
            info!(target: "ROUTER_CORE", "{notice}");
        }
        while let Some(notice) = self.control.poll_uplink_notice() {
            match notice.is_trouble() {
                true => warn!(target: "ROUTER_CORE", "{notice}"),
                false => info!(target: "ROUTER_CORE", "{notice}"),
            }
        }
        let mut batches: Vec<Vec<Command>> = self.workers.iter().map(|_| Vec::new()).collect();
        while let Some((recipient, command)) = self.control.poll_command() {
            match recipient {
                Recipient::Worker(worker) => batches[worker.index()].push(command),
                Recipient::Everyone => {
                    for batch in &mut batches {
                        batch.push(command.clone());
                    }
                }
            }
        }
        for (worker, batch) in batches.into_iter().enumerate() {
            if !batch.is_empty() {
                self.to_worker(worker, ToWorker::Commands(batch));
            }
        }
        // Now that workers know where an address leads, its listeners may let clients in.
        while let Some((key, reachable)) = self.control.poll_reachability() {
            self.tcp.reachability(&key, reachable);
            self.telemetry.reachability(&key, reachable, &self.workers);
        }
    }

    pub(crate) fn source_counts(&self) -> SourceCounts {
        self.lock_sources().counts()
    }

    pub(crate) fn lock_sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What keeps the router from doing what it is configured to, a sentence each: a listener that
    /// does not listen, or no way into the network though connectors are to make one.
    pub(crate) fn missing<'a>(&self, listeners: impl Iterator<Item = &'a Entity>) -> Vec<String> {
        let silent = listeners.filter(|entity| !self.listeners.contains_key(entity.name()));
        let mut missing: Vec<String> = silent
            .map(|entity| format!("listener '{}' does not listen", entity.name()))
            .collect();
        let troubles = self.tcp.troubles();
        missing.extend(
            troubles.map(|(name, why)| format!("tcpListener '{name}' does not listen: {why}")),
        );
        let ways = self.connector_reports();
        let ways: Vec<_> = ways.filter(|(_, state)| state.is_for_routers()).collect();
        let is_up = |state: &ConnectorState| state.status() == ConnectorStatus::Success;
        if !ways.iter().any(|(_, state)| is_up(state)) {
            missing.extend(ways.iter().map(|(name, state)| {
                format!("connector '{name}' is not connected: {}", state.message())
            }));
        }
        missing
    }

    /// Asks every worker something; whoever awaits the answers need not be this task.
    pub(crate) fn ask_workers(
        &self,
        question: &Arc<Question>,
    ) -> Vec<oneshot::Receiver<WorkerStatus>> {
        self.workers
            .iter()
            .map(|worker| {
                let (reply, status) = oneshot::channel();
                // A worker that is gone drops the question, which is an answer.
                let question = Arc::clone(question);
                let _ = worker.inbox.send(ToWorker::Status(question, reply));
                status
            })
            .collect()
    }

    /// From now on probes are told that the router stops.
    pub(crate) fn begin_to_stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Stops listening and connecting, and has every worker close its connections and end. Probes
    /// over HTTP are answered until then: that the router is not ready.
    pub(crate) fn shut_down(&mut self) {
        self.begin_to_stop();
        let listeners = self.listeners.iter();
        let others = listeners.filter(|(_, listener)| !listener.is_http);
        for name in others.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.stop_listening(&name);
        }
        self.tcp.shut_down();
        for connector in std::mem::take(&mut self.connectors).into_values() {
            connector.abort();
        }
        let error = forced("the router is stopping");
        for worker in self.workers.iter() {
            let _ = worker.inbox.send(ToWorker::Shutdown {
                error: Some(error.clone()),
            });
        }
    }

    pub(crate) fn to_worker(&self, worker: usize, message: ToWorker) {
        // A worker that is gone has no connections left to be told about.
        let _ = self.workers.get(worker).inbox.send(message);
    }
}

pub(super) fn forced(text: &str) -> Error {
    Error::new("amqp:connection:forced", text)
}

fn log_notice(notice: &Notice) {
    match notice.is_trouble() {
        true => warn!(target: "ROUTER", "{notice}"),
        false => info!(target: "ROUTER", "{notice}"),
    }
}
