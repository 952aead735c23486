//! A running router, and what its owner can do with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tracing::info;

use crate::control::address::Identity;
use crate::control::links::{AddressRule, Control, Scope};
use crate::control::table::Treatment;
use crate::runtime::connect::ConnectorPlan;
use crate::runtime::driver::ToWorker;
use crate::runtime::listener::BindError;
use crate::runtime::local::{LinkError, Receiver, Sender};
use crate::runtime::service::{Inputs, ListenerPlan, Service, Workers};
use crate::runtime::threads::{Events, start_workers};

/// Everything that a router is to be when it starts.
pub(crate) struct Blueprint {
    pub(crate) identity: Identity,
    pub(crate) default_treatment: Treatment,
    pub(crate) workers: u16,
    pub(crate) prefixes: Vec<(String, AddressRule)>,
    pub(crate) patterns: Vec<(String, AddressRule)>,
    pub(crate) listeners: Vec<ListenerPlan>,
    pub(crate) connectors: Vec<ConnectorPlan>,
}

/// Why a router did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The system refuses a thread, or what its event loop needs.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// A listener cannot listen.
    #[error("{0}")]
    Listen(String),
}

/// What the owner of a router asks of its control plane.
enum Request {
    Stop(oneshot::Sender<()>),
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
}

impl Router {
    /// Temporary: one plain listener.
    pub fn plain(id: &str, host: &str, port: &str, workers: u16) -> Result<Self, StartError> {
        use crate::runtime::listener::BindAddress;
        use crate::runtime::sasl::{Authenticator, SaslSettings};
        let endpoint = crate::endpoint::Config {
            container_id: id.into(),
            offered_capabilities: vec![crate::control::links::anonymous_relay()],
            incoming_window: 512,
            ..Default::default()
        };
        let listener = ListenerPlan {
            name: "amqp".into(),
            bind: BindAddress {
                entity: "listener 'amqp'".into(),
                host: host.into(),
                port: port.into(),
                family: None,
                backlog: 0,
            },
            settings: crate::adaptors::amqp::ConnectionSettings {
                name: "amqp".into(),
                role: "normal",
                link_capacity: 250,
                max_message_size: None,
                endpoint: Arc::new(endpoint),
            },
            tls: None,
            authenticator: Authenticator::new(SaslSettings { listener: "amqp".into(), ..Default::default() }),
        };
        Self::start(Blueprint {
            identity: Identity { id: id.into(), edge: false, network: None, tenant: None },
            default_treatment: Treatment::Balanced,
            workers,
            prefixes: Vec::new(),
            patterns: Vec::new(),
            listeners: vec![listener],
            connectors: Vec::new(),
        })
    }

    pub(crate) fn start(blueprint: Blueprint) -> Result<Self, StartError> {
        let identity = Arc::new(blueprint.identity.clone());
        let (workers, events, mut threads) =
            start_workers(blueprint.workers, &identity, blueprint.default_treatment)?;
        let (requests, inbox) = unbounded_channel();
        let (ready, started) = std::sync::mpsc::channel();
        let handles = workers.clone();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let control = std::thread::Builder::new().name("control".into()).spawn(move || {
            runtime.block_on(control_plane(blueprint, identity, handles, events, inbox, ready));
        })?;
        threads.push(control);
        let addresses = match started.recv() {
            Ok(started) => started?,
            Err(_) => return Err(StartError::Listen("the control plane has ended".into())),
        };
        Ok(Self { requests, workers, addresses, threads })
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

async fn control_plane(
    blueprint: Blueprint,
    identity: Arc<Identity>,
    workers: Workers,
    events: Events,
    mut requests: UnboundedReceiver<Request>,
    ready: std::sync::mpsc::Sender<Result<Vec<(String, Vec<SocketAddr>)>, StartError>>,
) {
    let mut control = Control::new(identity, blueprint.default_treatment, rand::random());
    for (prefix, rule) in blueprint.prefixes {
        control.configure(Scope::Prefix(&prefix), rule);
    }
    for (pattern, rule) in blueprint.patterns {
        control.configure(Scope::Pattern(&pattern), rule);
    }
    let (mut service, mut inputs) = Service::new(control, workers, events);
    let listening = blueprint
        .listeners
        .into_iter()
        .map(|plan| {
            let name = plan.name.clone();
            service.listen(plan).map(|addresses| (name, addresses))
        })
        .collect::<Result<Vec<_>, BindError>>();
    let listening = match listening {
        Ok(listening) => listening,
        Err(error) => {
            service.shut_down();
            let _ = ready.send(Err(StartError::Listen(error.to_string())));
            return;
        }
    };
    for plan in blueprint.connectors {
        service.connect(plan);
    }
    let _ = ready.send(Ok(listening));
    let stopped = run(&mut service, &mut inputs, &mut requests).await;
    service.shut_down();
    // Workers end when their connections are closed, and drop their end of this channel.
    while let Some((worker, events)) = inputs.events.recv().await {
        service.handle_events(worker, events);
    }
    info!(target: "ROUTER", "All connections closed");
    if let Some(reply) = stopped {
        let _ = reply.send(());
    }
}

/// Works until the owner wants it to stop.
async fn run(
    service: &mut Service,
    inputs: &mut Inputs,
    requests: &mut UnboundedReceiver<Request>,
) -> Option<oneshot::Sender<()>> {
    loop {
        tokio::select! {
            Some((worker, events)) = inputs.events.recv() => {
                service.handle_events(worker, events);
            }
            Some((worker, accepted)) = inputs.accepted.recv() => {
                service.adopt_accepted(worker, accepted);
            }
            Some(connected) = inputs.connected.recv() => service.adopt_connected(connected),
            request = requests.recv() => match request {
                Some(Request::Stop(reply)) => return Some(reply),
                None => return None,
            },
        }
    }
}
