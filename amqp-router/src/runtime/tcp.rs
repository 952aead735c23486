//! TCP services: listeners that lead to addresses, connectors that serve them
//! (`reference/router/tcp-adaptor.md`).

mod accept;
mod dial;
mod entities;
mod targets;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tracing::{info, warn};

pub(crate) use self::accept::{ALPN, ServerTls};
pub(crate) use self::dial::{TcpConnector, TcpConnectorPlan};
pub(crate) use self::entities::show_connection;
pub(crate) use self::targets::{Strategy, Target, Targets};

use self::accept::{Acceptor, HOME};
use crate::adaptors::tcp::TcpService;
use crate::control::address::AddressKey;
use crate::control::links::Control;
use crate::observers::Watch;
use crate::runtime::driver::ToWorker;
use crate::runtime::listener::BindAddress;
use crate::runtime::service::Workers;
use crate::runtime::vanflow::{TcpEntity, Telemetry};
use crate::vanflow::RecordId;

/// A `tcpListener` made ready to work.
pub(crate) struct TcpListenerPlan {
    pub(crate) name: String,
    pub(crate) bind: BindAddress,
    pub(crate) strategy: Strategy,
    /// Its own address, where it has no others.
    pub(crate) address: Option<String>,
    pub(crate) tls: Option<Arc<ServerTls>>,
    pub(crate) watch: Watch,
}

/// What TCP services work with.
pub(crate) struct Around<'a> {
    pub(crate) control: &'a mut Control,
    pub(crate) workers: &'a Workers,
    pub(crate) telemetry: &'a mut Telemetry,
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
    pub(crate) message: Option<&'a str>,
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
            tls: plan.tls,
            workers: around.workers.clone(),
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

    /// Has a listener look for something else in the connections that come.
    pub(crate) fn set_watch(&self, listener: &str, watch: Watch) {
        if let Some(listening) = self.listeners.get(listener) {
            listening.acceptor.service.set_watch(watch);
        }
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
        let name = plan.name.clone();
        let address = plan.address.clone();
        let entity = TcpEntity {
            name: &plan.name,
            host: &plan.host,
            port: &plan.port.to_string(),
            address: &plan.address,
        };
        let process = plan.process.as_deref();
        let record = around.telemetry.begin_connector(&entity, process);
        let connector = Arc::new(TcpConnector::new(id, plan, record));
        for worker in around.workers.iter() {
            let known = ToWorker::Connector(id, Some(Arc::clone(&connector)));
            let _ = worker.inbox.send(known);
        }
        around.control.add_connector(id, &address);
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
            for worker in around.workers.iter() {
                let _ = worker.inbox.send(ToWorker::Connector(connector.id, None));
            }
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
            message: listening.trouble.as_deref(),
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

    pub(crate) fn connector(&self, name: &str) -> Option<&TcpService> {
        self.connectors
            .get(name)
            .map(|connector| &*connector.service)
    }
}

impl Listening {
    fn targets(&self) -> MutexGuard<'_, Targets> {
        let targets = &self.acceptor.targets;
        targets.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Sets what every TCP connection is to have.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// The TLS version of a connection.
fn protocol(tls: &rustls::CommonState) -> Option<Arc<str>> {
    let version = tls.protocol_version()?;
    Some(match version {
        rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3".into(),
        rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2".into(),
        other => format!("{other:?}").into(),
    })
}

/// How long a connection may be silent before its peer is asked whether it is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// How long it is given to answer, a few times over.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
