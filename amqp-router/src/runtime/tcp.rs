//! TCP services: listeners that lead to addresses, connectors that serve them
//! (`reference/router/tcp-adaptor.md`).

mod accept;
mod dial;
mod entities;
mod names;
mod targets;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tracing::{info, warn};

pub(crate) use self::accept::{ALPN, ServerTls, Terms};
pub(crate) use self::dial::{DELETED, TcpConnector, TcpConnectorPlan};
pub(crate) use self::entities::show_connection;
pub(crate) use self::targets::{Strategy, Target, Targets};

use self::accept::{Acceptor, HOME};
use crate::adaptors::tcp::{TcpCounts, TcpService, TcpTls};
use crate::control::address::AddressKey;
use crate::control::links::Control;
use crate::control::table::ConnectorId;
use crate::observers::Watch;
use crate::runtime::driver::ToWorker;
use crate::runtime::listener::BindAddress;
use crate::runtime::sources::Sources;
use crate::runtime::tls::TlsInfo;
use crate::runtime::told::Told;
use crate::runtime::vanflow::{TcpEntity, Telemetry};
use crate::runtime::workers::Workers;
use crate::vanflow::RecordId;
use crate::worker::tcp::{BadStream, BadStreamTo};

/// A `tcpListener` made ready to work.
pub(crate) struct TcpListenerPlan {
    pub(crate) name: String,
    pub(crate) bind: BindAddress,
    pub(crate) strategy: Strategy,
    /// Its own address, where it has no others.
    pub(crate) address: Option<String>,
    pub(crate) terms: Terms,
    pub(crate) watch: Watch,
}

/// What TCP services work with.
pub(crate) struct Around<'a> {
    pub(crate) control: &'a mut Control,
    pub(crate) workers: &'a Workers,
    pub(crate) telemetry: &'a mut Telemetry,
    pub(crate) sources: &'a Arc<Mutex<Sources>>,
}

/// One address of a listener that has several: a `listenerAddress`.
pub(crate) struct TargetPlan {
    pub(crate) name: String,
    pub(crate) listener: String,
    pub(crate) address: String,
    pub(crate) value: u32,
}

/// The TCP services of a router.
#[derive(Default)]
pub(crate) struct TcpServices {
    listeners: BTreeMap<String, Listening>,
    /// The listeners that have an address.
    by_address: HashMap<AddressKey, BTreeSet<String>>,
    connectors: BTreeMap<String, Arc<TcpConnector>>,
    /// The log has told of streams that were not TCP's.
    told: Told,
}

/// A listener at work. It listens only while one of its addresses can be reached.
struct Listening {
    bind: BindAddress,
    acceptor: Arc<Acceptor>,
    sockets: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
    /// Why it does not listen though it should.
    trouble: Option<String>,
}

/// What management shows of a listener.
pub(crate) struct ListenerStatus<'a> {
    pub(crate) service: &'a TcpService,
    pub(crate) up: bool,
    pub(crate) message: Option<String>,
}

impl TcpServices {
    /// Starts a listener.
    pub(crate) fn listen(&mut self, plan: TcpListenerPlan, around: &mut Around<'_>) {
        let service = TcpService {
            name: plan.name.clone(),
            ..TcpService::default()
        };
        service.set_watch(plan.watch);
        let acceptor = Acceptor {
            service: Arc::new(service),
            targets: Arc::new(Mutex::new(Targets::new(plan.strategy))),
            terms: Mutex::new(plan.terms),
            refusals: Mutex::default(),
            sources: Arc::clone(around.sources),
            workers: around.workers.clone(),
            is_deleted: AtomicBool::new(false),
        };
        let listening = Listening {
            bind: plan.bind,
            acceptor: Arc::new(acceptor),
            sockets: Vec::new(),
            addresses: Vec::new(),
            trouble: None,
        };
        self.listeners.insert(plan.name.clone(), listening);
        if let Some(address) = plan.address {
            let target = TargetPlan {
                name: String::new(),
                listener: plan.name,
                address,
                value: 0,
            };
            self.add_target(target, around);
        }
    }

    /// Has a listener be what it is planned to be now; its connections stay as they are.
    pub(crate) fn update_listener(&mut self, plan: TcpListenerPlan, around: &mut Around<'_>) {
        let Some(listening) = self.listeners.get_mut(&plan.name) else {
            return;
        };
        let acceptor = &listening.acceptor;
        acceptor.service.set_watch(plan.watch);
        *lock(&acceptor.terms) = plan.terms;
        let moves = listening.bind != plan.bind;
        if moves {
            listening.bind = plan.bind;
            listening.renew_records(around);
        }
        let own = listening.targets().find("").map(|one| one.address.clone());
        if let Some(address) = plan.address.filter(|new| own.as_ref() != Some(new)) {
            self.readdress(&plan.name, address, around);
        }
        if let Some(listening) = self.listeners.get_mut(&plan.name).filter(|_| moves) {
            listening.close();
            listening.review();
        }
    }

    /// Gives a listener another address of its own, without a moment in which it has none.
    fn readdress(&mut self, listener: &str, address: String, around: &mut Around<'_>) {
        let reachable = around.control.reaches(&address);
        let target = TargetPlan {
            name: String::new(),
            listener: listener.to_owned(),
            address,
            value: 0,
        };
        self.add_target(target, around);
        if let Some(listening) = self.listeners.get(listener) {
            let mut targets = listening.targets();
            // The one before has the same name, and stands last.
            let newest = targets.iter_mut().next();
            newest.into_iter().for_each(|one| one.reachable = reachable);
        }
        self.remove_target(listener, "", around);
    }

    /// Adds an address to a listener.
    pub(crate) fn add_target(&mut self, plan: TargetPlan, around: &mut Around<'_>) {
        if let Some(listening) = self.listeners.get_mut(&plan.listener) {
            let record = around.telemetry.begin_listener(&TcpEntity {
                name: &plan.listener,
                host: &listening.bind.host,
                port: &listening.bind.port,
                address: &plan.address,
            });
            // Whether it can be reached is told when workers know how.
            let key = around.control.watch(&plan.address);
            let listeners = self.by_address.entry(key.clone()).or_default();
            listeners.insert(plan.listener);
            listening.targets().add(Target {
                name: plan.name,
                address: plan.address,
                key,
                value: plan.value,
                reachable: false,
                opened: Arc::default(),
                record,
            });
        }
    }

    /// Takes an address from a listener. Connections that go there live on.
    pub(crate) fn remove_target(&mut self, listener: &str, name: &str, around: &mut Around<'_>) {
        if let Some(listening) = self.listeners.get_mut(listener) {
            let removed = listening.targets().remove(name);
            listening.review();
            if let Some(target) = removed {
                let others = listening.targets().iter().any(|one| one.key == target.key);
                if !others {
                    self.forget_address(&target.key, listener);
                }
                around.control.unwatch(&target.key);
                around.telemetry.end(Some(target.record));
            }
        }
    }

    /// A listener no longer has an address.
    fn forget_address(&mut self, key: &AddressKey, listener: &str) {
        if let Some(listeners) = self.by_address.get_mut(key) {
            listeners.remove(listener);
            if listeners.is_empty() {
                self.by_address.remove(key);
            }
        }
    }

    /// Ends a listener.
    pub(crate) fn stop_listening(
        &mut self,
        name: &str,
        drop_connections: bool,
        around: &mut Around<'_>,
    ) {
        if let Some(mut listening) = self.listeners.remove(name) {
            listening.close();
            let is_deleted = &listening.acceptor.is_deleted;
            is_deleted.store(true, Ordering::Relaxed);
            for target in listening.targets().iter() {
                self.forget_address(&target.key, name);
                around.control.unwatch(&target.key);
                around.telemetry.end(Some(target.record));
            }
            if drop_connections {
                drop_all(&listening.acceptor.service, around.workers);
            }
            info!(target: "TCP_ADAPTOR", "tcpListener '{name}' deleted");
        }
    }

    /// Starts a connector: streams for its address come here from now on.
    pub(crate) fn connect(&mut self, plan: TcpConnectorPlan, around: &mut Around<'_>) {
        let id = around.control.next_connector();
        let address = plan.address.clone();
        self.make_connector(id, plan, Arc::default(), around);
        around.control.add_connector(id, &address);
    }

    /// Has a connector be what it is planned to be now; its connections stay as they are.
    pub(crate) fn update_connector(&mut self, plan: TcpConnectorPlan, around: &mut Around<'_>) {
        let Some(old) = self.connectors.get(&plan.name).cloned() else {
            return;
        };
        let counts = Arc::clone(&old.service.counts);
        around.telemetry.end(old.service.record);
        if plan.address == old.service.address {
            return self.make_connector(old.id, plan, counts, around);
        }
        let id = around.control.next_connector();
        let address = plan.address.clone();
        self.make_connector(id, plan, counts, around);
        around.control.add_connector(id, &address);
        around.control.remove_connector(old.id);
        tell_connector(old.id, None, around.workers);
        old.delete();
    }

    fn make_connector(
        &mut self,
        id: ConnectorId,
        plan: TcpConnectorPlan,
        counts: Arc<TcpCounts>,
        around: &mut Around<'_>,
    ) {
        let name = plan.name.clone();
        let entity = TcpEntity {
            name: &plan.name,
            host: &plan.host,
            port: &plan.port.to_string(),
            address: &plan.address,
        };
        let process = plan.process.as_deref();
        let record = around.telemetry.begin_connector(&entity, process);
        let connector = Arc::new(TcpConnector::new(id, plan, record, counts));
        tell_connector(id, Some(&connector), around.workers);
        self.connectors.insert(name, connector);
    }

    /// Ends a connector.
    pub(crate) fn stop_connecting(
        &mut self,
        name: &str,
        drop_connections: bool,
        around: &mut Around<'_>,
    ) {
        if let Some(connector) = self.connectors.remove(name) {
            around.control.remove_connector(connector.id);
            around.telemetry.end(connector.service.record);
            tell_connector(connector.id, None, around.workers);
            connector.delete();
            if drop_connections {
                drop_all(&connector.service, around.workers);
            }
            info!(target: "TCP_ADAPTOR", "tcpConnector '{name}' deleted");
        }
    }

    /// An address has become reachable or is no longer.
    pub(crate) fn reachability(&mut self, key: &AddressKey, reachable: bool) {
        let Some(listeners) = self.by_address.get(key) else {
            return;
        };
        for name in listeners {
            let Some(listening) = self.listeners.get_mut(name) else {
                continue;
            };
            let concerned = listening.targets().set_reachable(key, reachable);
            if concerned {
                listening.review();
            }
        }
    }

    /// Tries again what could not be listened on. To be called now and then.
    pub(crate) fn retry(&mut self) {
        for listening in self.listeners.values_mut() {
            if listening.trouble.is_some() {
                listening.review();
            }
        }
    }

    /// Stops listening; connections stay.
    pub(crate) fn shut_down(&mut self) {
        for listening in self.listeners.values_mut() {
            listening.close();
        }
        self.listeners.clear();
    }

    pub(crate) fn listener(&self, name: &str) -> Option<ListenerStatus<'_>> {
        let listening = self.listeners.get(name)?;
        Some(ListenerStatus {
            service: &listening.acceptor.service,
            up: !listening.sockets.is_empty(),
            message: listening.message(Instant::now()),
        })
    }

    /// Connections that went to one address of a listener.
    pub(crate) fn opened_to(&self, listener: &str, target: &str) -> Option<u64> {
        let targets = self.listeners.get(listener)?.targets();
        let opened = &targets.find(target)?.opened;
        Some(opened.load(Ordering::Relaxed))
    }

    /// How many connections each record of a listener or connector has had.
    pub(crate) fn flow_counts(&self) -> Vec<(RecordId, u64)> {
        let mut counts = Vec::new();
        for listening in self.listeners.values() {
            let targets = listening.targets();
            let count = |target: &Target| (target.record, target.opened.load(Ordering::Relaxed));
            counts.extend(targets.iter().map(count));
        }
        for connector in self.connectors.values() {
            let opened = connector.service.counts.opened.load(Ordering::Relaxed);
            counts.extend(connector.service.record.map(|record| (record, opened)));
        }
        counts
    }

    /// What listeners and connectors have counted, each with its kind.
    pub(crate) fn services(&self) -> impl Iterator<Item = (&'static str, &Arc<TcpService>)> {
        let listeners = self.listeners.values();
        let listeners = listeners.map(|one| ("listener", &one.acceptor.service));
        let connectors = self.connectors.values();
        listeners.chain(connectors.map(|one| ("connector", &one.service)))
    }

    /// The listeners that should listen and cannot, and why.
    pub(crate) fn troubles(&self) -> impl Iterator<Item = (&str, &str)> {
        let listeners = self.listeners.iter();
        listeners.filter_map(|(name, one)| Some((&**name, one.trouble.as_deref()?)))
    }

    pub(crate) fn connector(&self, name: &str) -> Option<&TcpConnector> {
        self.connectors.get(name).map(|connector| &**connector)
    }

    /// A service has cut off a connection at once.
    pub(crate) fn note_cut_off(&self, id: ConnectorId, why: &str) {
        let connector = self.connectors.values().find(|one| one.id == id);
        connector.into_iter().for_each(|one| one.cut_off(why));
    }

    /// A stream was rejected that was no TCP stream.
    pub(crate) fn note_bad_stream(&mut self, bad: &BadStream, now: Instant) {
        let (kind, service) = match &bad.to {
            BadStreamTo::Listener(service) => ("tcpListener", service),
            BadStreamTo::Connector(id) => {
                let mut connectors = self.connectors.values();
                let Some(connector) = connectors.find(|one| one.id == *id) else {
                    return; // it is gone meanwhile
                };
                ("tcpConnector", &connector.service)
            }
        };
        service.counts.malformed.fetch_add(1, Ordering::Relaxed);
        if self.told.is_news(now) {
            let (name, reason) = (&service.name, &bad.reason);
            let trace = bad.trace.as_deref().unwrap_or("none that is known");
            warn!(target: "TCP_ADAPTOR", "{kind} '{name}': a stream was rejected: {reason} (routers on its way: {trace})");
        }
    }
}

/// Has workers know a connector, or know it no longer.
fn tell_connector(id: ConnectorId, connector: Option<&Arc<TcpConnector>>, workers: &Workers) {
    for worker in workers.iter() {
        // A worker that is gone connects to nobody.
        let known = ToWorker::Connector(id, connector.cloned());
        let _ = worker.inbox.send(known);
    }
}

impl Listening {
    fn targets(&self) -> MutexGuard<'_, Targets> {
        lock(&self.acceptor.targets)
    }

    /// What there is to say of how it fares.
    fn message(&self, now: Instant) -> Option<String> {
        if let Some(trouble) = &self.trouble {
            return Some(trouble.clone());
        }
        if !self.sockets.is_empty() {
            return lock(&self.acceptor.refusals).message(now);
        }
        let targets = self.targets();
        let mut addresses: Vec<_> = targets.iter().map(|one| &*one.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Some(match &*addresses {
            [] => "it has no address".to_owned(),
            addresses => format!("nobody serves '{}'", addresses.join("' or '")),
        })
    }

    /// Tells collectors that it is at another port or host now.
    fn renew_records(&self, around: &mut Around<'_>) {
        for target in self.targets().iter_mut() {
            around.telemetry.end(Some(target.record));
            target.record = around.telemetry.begin_listener(&TcpEntity {
                name: &self.acceptor.service.name,
                host: &self.bind.host,
                port: &self.bind.port,
                address: &target.address,
            });
        }
    }

    /// Listens, or stops listening, as its addresses can be reached.
    fn review(&mut self) {
        let wanted = self.targets().is_reachable();
        match (wanted, self.sockets.is_empty()) {
            (true, true) => self.open(),
            (false, false) => {
                self.close();
                let name = &self.acceptor.service.name;
                info!(target: "TCP_ADAPTOR", "tcpListener '{name}': nobody serves its address; not listening");
            }
            (false, true) => self.trouble = None,
            (true, false) => {}
        }
    }

    fn open(&mut self) {
        let name = &self.acceptor.service.name;
        let bound = self.bind.bind().and_then(|sockets| {
            let home = self.acceptor.workers.get(HOME);
            let _entered = home.runtime.enter();
            let sockets = sockets.into_iter().map(TcpListener::from_std);
            let sockets = sockets.collect::<io::Result<Vec<_>>>();
            sockets.map_err(|error| self.bind.fault(&error))
        });
        match bound {
            Ok(sockets) => {
                self.addresses = sockets.iter().flat_map(TcpListener::local_addr).collect();
                for address in &self.addresses {
                    info!(target: "TCP_ADAPTOR", "tcpListener '{name}': listening on {address}");
                }
                let home = &self.acceptor.workers.get(HOME).runtime;
                let sockets = sockets.into_iter();
                let run = |socket| home.spawn(Arc::clone(&self.acceptor).run(socket));
                self.sockets = sockets.map(run).collect();
                self.trouble = None;
            }
            Err(error) => {
                let text = error.to_string();
                if self.trouble.as_ref() != Some(&text) {
                    warn!(target: "TCP_ADAPTOR", "{text}; trying again");
                }
                self.trouble = Some(text);
            }
        }
    }

    fn close(&mut self) {
        for socket in self.sockets.drain(..) {
            socket.abort();
        }
        self.addresses.clear();
    }
}

fn drop_all(service: &Arc<TcpService>, workers: &Workers) {
    for worker in workers.iter() {
        let _ = worker.inbox.send(ToWorker::DropTcp(Arc::clone(service)));
    }
}

/// What management shows of a connection that TLS secures.
fn secured_by(tls: TlsInfo) -> Arc<TcpTls> {
    Arc::new(TcpTls {
        protocol: tls.protocol,
        cipher: tls.cipher,
        strength: tls.strength,
        user: tls.user,
        ordinal: tls.ordinal,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
