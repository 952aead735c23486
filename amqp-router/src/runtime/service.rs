//! The task that owns the control plane, and what surrounds it: workers, listeners, connectors and
//! the management agent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use tokio::sync::mpsc::{
    Receiver, UnboundedReceiver, UnboundedSender, WeakUnboundedSender, unbounded_channel,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::adaptors::amqp::{self, ConnectionSettings, ConnectionStatus, PeerInfo};
use crate::codec::{Error, Symbol};
use crate::control::links::{Command, Control, Recipient};
use crate::control::network::Opened;
use crate::control::role::Role;
use crate::control::table::WorkerId;
use crate::endpoint::SaslPolicy;
use crate::management::{Config, Entity};
use crate::mesh::Notice;
use crate::runtime::budget::Budget;
use crate::runtime::connect::{Connected, ConnectorState};
use crate::runtime::connectors::Connector;
use crate::runtime::driver::{NewConnection, ToWorker};
use crate::runtime::http::HttpListener;
use crate::runtime::listen::{Accepted, ListenerTls, accept};
use crate::runtime::listener::{BindAddress, BindError};
use crate::runtime::login::Login;
use crate::runtime::manage::Profile;
use crate::runtime::pages::RouterPages;
use crate::runtime::plan::{HttpPlan, Planner};
use crate::runtime::policies::Governance;
use crate::runtime::reconnect::Status as ConnectorStatus;
use crate::runtime::router::Request;
use crate::runtime::sasl::{Authenticator, Mechanism, SharedLogins};
use crate::runtime::scrapes::Scrapes;
use crate::runtime::shutdown::Stop;
use crate::runtime::sources::{Place, SourceCounts, Sources};
use crate::runtime::tcp::TcpServices;
use crate::runtime::tls::TlsInfo;
use crate::runtime::tls::live::Profiles;
use crate::runtime::told::Few;
use crate::runtime::vanflow::{Heard, Telemetry};
use crate::runtime::websocket::Upgrades;
use crate::runtime::workers::Workers;
use crate::vanflow::RecordId;
use crate::worker::{Fault, WorkerEvent, WorkerStatus};

/// A listener entity made ready to work.
pub(crate) struct ListenerPlan {
    pub(crate) name: String,
    pub(crate) bind: BindAddress,
    /// What its connections have in common; the SASL policy is filled in for each.
    pub(crate) settings: ConnectionSettings,
    pub(crate) tls: Option<ListenerTls>,
    pub(crate) authenticator: Authenticator,
}

/// A listener at work.
struct Listener {
    /// What AMQP connections of it are made with.
    settings: Option<(ConnectionSettings, Arc<Authenticator>)>,
    /// The settings with the SASL policy of each way to connect: few, whatever clients do.
    variants: Vec<(Vec<Mechanism>, Arc<ConnectionSettings>)>,
    addresses: Vec<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
    /// It answers HTTP requests, also while the router stops.
    is_http: bool,
    /// What it is in telemetry.
    record: Option<RecordId>,
}

/// A connection, as the control plane keeps it.
#[derive(Debug)]
pub(crate) struct ConnectionRow {
    pub(crate) worker: usize,
    pub(crate) host: String,
    pub(crate) opened: Instant,
    pub(crate) status: Option<Box<ConnectionStatus>>,
    pub(crate) login: Login,
    pub(crate) tls: Option<TlsInfo>,
    /// The vhost that its listener says policy is to go by.
    pub(crate) policy_vhost: Option<String>,
    /// Its role says that the peer is a router.
    pub(crate) is_router: bool,
    /// Whether its frames are in the log, if somebody has said so; else the log's levels decide.
    traced: Option<bool>,
    /// Told when it opens and when it ends.
    connector: Option<Arc<ConnectorState>>,
    /// The name of the listener that has accepted it.
    listener: Option<Arc<str>>,
    /// Of a connection that a listener has accepted.
    place: Option<Place>,
    /// What its listener or connector is in telemetry.
    pub(crate) record: Option<RecordId>,
    /// Octets written and read, as far as they have been told there.
    pub(crate) octets: [u64; 2],
    /// The log tells of its sessions and links that fail.
    pub(super) faults_told: Few,
}

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

    /// Starts to listen.
    ///
    /// # Errors
    /// The address cannot be had.
    pub(crate) fn listen(&mut self, mut plan: ListenerPlan) -> Result<Vec<SocketAddr>, BindError> {
        let sockets = plan.bind.bind()?;
        let record = self.telemetry.begin_access(&mut plan.settings);
        let name: Arc<str> = plan.name.as_str().into();
        let mut listener = Listener {
            settings: Some((plan.settings, Arc::new(plan.authenticator))),
            variants: Vec::new(),
            addresses: Vec::new(),
            tasks: Vec::new(),
            is_http: false,
            record,
        };
        for socket in sockets {
            listener.addresses.extend(socket.local_addr());
            let placement = Arc::new(self.workers.clone());
            let accepted = self.accepted.clone();
            let task = accept(
                Arc::clone(&name),
                socket,
                plan.tls.clone(),
                Arc::clone(&self.sources),
                placement,
                accepted,
            );
            let task = task.map_err(|error| {
                self.telemetry.end(record);
                plan.bind.fault(&error)
            })?;
            listener.tasks.push(task);
        }
        for address in &listener.addresses {
            info!(target: "SERVER", "Listening on {address} ({name})");
        }
        let addresses = listener.addresses.clone();
        self.listeners.insert(plan.name, listener);
        Ok(addresses)
    }

    /// Starts to answer HTTP requests.
    ///
    /// # Errors
    /// The address cannot be had.
    pub(crate) fn serve_http(
        &mut self,
        mut plan: HttpPlan,
        control: &WeakUnboundedSender<Request>,
    ) -> Result<Vec<SocketAddr>, BindError> {
        let mut sockets = Vec::new();
        let mut addresses = Vec::new();
        for socket in plan.bind.bind()? {
            addresses.extend(socket.local_addr());
            let socket = tokio::net::TcpListener::from_std(socket);
            sockets.push(socket.map_err(|error| plan.bind.fault(&error))?);
        }
        for address in &addresses {
            info!(target: "SERVER", "Listening for HTTP on {address} ({})", plan.name);
        }
        let scrapes = self
            .scrapes
            .get_or_insert_with(|| Arc::new(Scrapes::new(control.clone())));
        let pages = Arc::new(RouterPages::new(
            &plan,
            control.clone(),
            self.workers.clone(),
            scrapes,
            Arc::clone(&self.stopping),
        ));
        let http = HttpListener {
            name: plan.name.clone(),
            sockets,
            tls: plan.tls,
            pages,
            files: plan.files,
            sources: Arc::clone(&self.sources),
            upgrades: plan.amqp.as_ref().map(|_| {
                Arc::new(Upgrades {
                    listener: plan.name.as_str().into(),
                    placement: Arc::new(self.workers.clone()),
                    accepted: self.accepted.clone(),
                })
            }),
        };
        let settings = plan.amqp.as_mut().map(|(settings, _)| settings);
        let record = settings.and_then(|settings| self.telemetry.begin_access(settings));
        let (stop, shutdown) = Stop::new();
        let task = tokio::spawn(async move {
            let _stop = stop;
            http.serve(shutdown).await;
        });
        let listener = Listener {
            settings: plan
                .amqp
                .map(|(settings, authenticator)| (settings, Arc::new(authenticator))),
            variants: Vec::new(),
            addresses: addresses.clone(),
            tasks: vec![task],
            is_http: true,
            record,
        };
        self.listeners.insert(plan.name, listener);
        Ok(addresses)
    }

    /// Stops listening; connections that were accepted stay.
    pub(crate) fn stop_listening(&mut self, name: &str) {
        if let Some(listener) = self.listeners.remove(name) {
            for task in listener.tasks {
                task.abort();
            }
            self.telemetry.end(listener.record);
            info!(target: "SERVER", "Listener '{name}' closed");
        }
    }

    /// Where each listener listens.
    pub(crate) fn listening(&self) -> impl Iterator<Item = (&str, &[SocketAddr])> {
        self.listeners
            .iter()
            .map(|(name, listener)| (&**name, &*listener.addresses))
    }

    /// Takes a connection that a listener has accepted.
    pub(crate) fn adopt_accepted(&mut self, worker: usize, new: Accepted) {
        let Some(listener) = self.listeners.get_mut(&*new.listener) else {
            return;
        };
        let id = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let record = listener.record;
        let Some((settings, authenticator)) = listener.settings_for(new.tls.as_ref()) else {
            return;
        };
        let settings = self.governance.govern(&settings, true);
        let place = match new.place {
            Some(place) => Ok(place),
            None => Place::of_web(&self.sources, new.peer.ip(), Instant::now()),
        };
        let place = match place {
            Ok(place) => place,
            Err(refused) => {
                if refused.is_news {
                    let (name, from) = (&new.listener, new.peer.ip());
                    warn!(target: "SERVER", "Listener '{name}': connections from {from} are closed: {}", refused.reason);
                }
                return;
            }
        };
        if !self.governance.policies.socket_opened() {
            info!(target: "POLICY", "DENY Connection '{}' based on global connection count", new.peer);
            return;
        }
        debug!(target: "SERVER", conn = id, "Accepted connection to {} from {}", new.listener, new.peer);
        let host = new.peer.to_string();
        let row = ConnectionRow {
            worker,
            host: host.clone(),
            opened: Instant::now(),
            status: None,
            login: Login::of_client(authenticator),
            tls: new.tls.clone(),
            policy_vhost: settings.policy_vhost.clone(),
            is_router: settings.role.is_annotated(),
            traced: None,
            connector: None,
            listener: Some(new.listener),
            place: Some(place),
            record,
            octets: [0, 0],
            faults_told: Few::default(),
        };
        self.connections.insert(id, row);
        let peer = peer_info(host, true, new.tls.as_ref());
        let connection = NewConnection {
            id,
            stream: new.stream,
            since: new.since,
            server: true,
            settings,
            peer,
        };
        self.to_worker(worker, ToWorker::Connection(Box::new(connection)));
    }

    /// Takes a connection that a connector has made.
    pub(crate) fn adopt_connected(&mut self, new: Connected) {
        let Some(record) = self.record_of(&new) else {
            return;
        };
        let id = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let row = ConnectionRow {
            worker: new.worker,
            host: new.host.clone(),
            opened: Instant::now(),
            status: None,
            login: Login::of_server(new.credentials),
            tls: new.tls.clone(),
            policy_vhost: None,
            is_router: new.settings.role.is_annotated(),
            traced: None,
            connector: Some(new.state),
            listener: None,
            place: None,
            record,
            octets: [0, 0],
            faults_told: Few::default(),
        };
        self.connections.insert(id, row);
        let mut peer = peer_info(new.host, false, new.tls.as_ref());
        let settings = self.governance.govern(&new.settings, false);
        if let Some(vhost) = &settings.policy_vhost {
            match self.grant_connector(id, vhost) {
                Ok(grant) => peer.grant = Some(grant),
                Err(denial) => {
                    warn!(target: "POLICY", conn = id, "The connection is dropped: {}", denial.0);
                    return self.closed(id, Some(denial.0), None);
                }
            }
        }
        let connection = NewConnection {
            id,
            stream: new.stream,
            since: Instant::now(),
            server: false,
            settings,
            peer,
        };
        self.to_worker(new.worker, ToWorker::Connection(Box::new(connection)));
    }

    /// Takes what a worker has to tell.
    pub(crate) fn handle_events(&mut self, worker: WorkerId, events: Vec<WorkerEvent>) {
        let now = Instant::now();
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

    /// Closes a connection that management knows by this number.
    pub(crate) fn close_connection(&mut self, id: u64, error: Option<Error>) {
        match self.connections.get(&id) {
            Some(row) => self.to_worker(row.worker, ToWorker::Close { id, error }),
            // A TCP connection, then: only its worker knows it.
            None => {
                for worker in 0..self.workers.iter().count() {
                    let error = error.clone();
                    self.to_worker(worker, ToWorker::Close { id, error });
                }
            }
        }
    }

    /// Has the log show the frames of an AMQP connection from now on, or no longer. False if there
    /// is none of this number.
    pub(crate) fn trace_connection(&mut self, id: u64, on: bool) -> bool {
        let Some(row) = self.connections.get_mut(&id) else {
            return false;
        };
        if row.is_traced() != on {
            row.traced = Some(on);
            let worker = row.worker;
            self.to_worker(worker, ToWorker::Trace { id, on });
        }
        true
    }

    /// Whether a connection is one between routers, which management does not close.
    pub(crate) fn leads_to_router(&self, id: u64) -> bool {
        self.connections.get(&id).is_some_and(|row| row.is_router)
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

    /// Asks every worker to report itself; whoever awaits the answers need not be this task.
    pub(crate) fn ask_workers(&self) -> Vec<oneshot::Receiver<WorkerStatus>> {
        self.workers
            .iter()
            .map(|worker| {
                let (reply, status) = oneshot::channel();
                // A worker that is gone drops the question, which is an answer.
                let _ = worker.inbox.send(ToWorker::Status(reply));
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

    fn opened(&mut self, worker: WorkerId, status: Box<ConnectionStatus>) {
        if self.turn_away(&status) {
            return;
        }
        let row = self.connections.get(&status.id);
        let connector = row.and_then(|row| row.connector.as_ref());
        let connector = connector.map(|connector| connector.name().to_owned());
        let listener = row.and_then(|row| row.listener.as_deref());
        let listener = listener.map(str::to_owned);
        let tls = row.and_then(|row| row.tls.as_ref());
        let opened = Opened {
            connector,
            listener,
            ordinal: tls.map_or(0, |tls| tls.ordinal),
            ..status.opened(worker)
        };
        self.control.opened(&opened, Instant::now());
        let Some(row) = self.connections.get_mut(&status.id) else {
            return;
        };
        let news = news_of(&status);
        info!(target: "ROUTER_CORE", conn = status.id, "{news}");
        if let Some(place) = &mut row.place {
            place.opened();
        }
        if let Some(connector) = &row.connector {
            connector.opened(format!("[C{}] {news}", status.id), &status.properties);
        }
        self.telemetry.opened(row, &status);
        row.status = Some(status);
    }

    /// A connection is over; because of a fault if the log says so even where it never was open.
    fn closed(&mut self, id: u64, reason: Option<String>, fault: Option<Fault>) {
        let Some(row) = self.connections.remove(&id) else {
            return;
        };
        self.governance.closed(id, row.connector.is_none());
        let text = reason.as_deref().unwrap_or("closed by the peer");
        let mut others = self.connections.values();
        let others = others.any(|other| other.record == row.record && other.carries_record());
        self.telemetry.closed(&row, others, text);
        if row.status.is_some() {
            info!(target: "ROUTER_CORE", conn = id, "Connection Closed: {} ({text})", row.host);
        } else if let Some(fault) = fault
            && row.connector.is_none()
        {
            self.lock_sources().opening_failed(fault);
            info!(target: "SERVER", conn = id, "Connection from {} failed: {text}", row.host);
        } else {
            debug!(target: "SERVER", conn = id, "Connection from {} ended before it was open: {text}", row.host);
        }
        if let Some(connector) = row.connector {
            connector.lost(text);
            if connector.is_over() {
                self.forget_members(&connector);
            }
        }
    }
}

impl ConnectionRow {
    /// Whether a connector's attempts have made this connection.
    pub(super) fn is_of(&self, state: &Arc<ConnectorState>) -> bool {
        let own = self.connector.as_ref();
        own.is_some_and(|own| Arc::ptr_eq(own, state))
    }

    pub(crate) fn is_traced(&self) -> bool {
        let by_level = || tracing::enabled!(target: "PROTOCOL", tracing::Level::DEBUG);
        self.traced.unwrap_or_else(by_level)
    }

    /// Whether its listener or connector is up by this connection.
    pub(crate) fn carries_record(&self) -> bool {
        let status = self.status.as_ref();
        status.is_some_and(|status| status.role != Role::InterRouterData)
    }
}

impl Listener {
    /// What a new connection is told, and whether it must authenticate, which depends on what TLS
    /// has shown of it.
    fn settings_for(
        &mut self,
        tls: Option<&TlsInfo>,
    ) -> Option<(Arc<ConnectionSettings>, Arc<Authenticator>)> {
        let (settings, authenticator) = self.settings.as_ref()?;
        let mechanisms = authenticator.offered(tls);
        if let Some((_, settings)) = self.variants.iter().find(|(known, _)| *known == mechanisms) {
            return Some((Arc::clone(settings), Arc::clone(authenticator)));
        }
        let mut settings = settings.clone();
        let mut endpoint = (*settings.endpoint).clone();
        endpoint.sasl = SaslPolicy::Server {
            // Nothing on offer means that this peer is not welcome, with or without SASL.
            required: authenticator.is_required() || mechanisms.is_empty(),
            mechanisms: mechanisms
                .iter()
                .map(|m| Symbol::from(m.as_str()))
                .collect(),
        };
        settings.endpoint = Arc::new(endpoint);
        let settings = Arc::new(settings);
        self.variants.push((mechanisms, Arc::clone(&settings)));
        Some((settings, Arc::clone(authenticator)))
    }
}

fn peer_info(host: String, incoming: bool, tls: Option<&TlsInfo>) -> PeerInfo {
    let tls = tls.map(|tls| amqp::TlsInfo {
        protocol: tls.protocol.to_owned(),
        cipher: tls.cipher.to_owned(),
        strength: tls.strength,
        subject: tls.user.clone(),
    });
    PeerInfo {
        host,
        incoming,
        tls,
        ..PeerInfo::default()
    }
}

/// What an operator wants to read of a connection that has just been opened.
fn news_of(status: &ConnectionStatus) -> String {
    let peer = &status.peer;
    format!(
        "Connection Opened: dir={} host={} encrypted={} auth={} user={} container_id={}",
        if peer.incoming { "in" } else { "out" },
        peer.host,
        peer.tls.as_ref().map_or("no", |tls| tls.protocol.as_str()),
        peer.sasl.as_deref().unwrap_or("no"),
        peer.user.as_deref().unwrap_or("(null)"),
        status.container,
    )
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
