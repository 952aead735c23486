//! Listeners at work.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc::WeakUnboundedSender;
use tokio::task::JoinHandle;
use tracing::info;

use super::Service;
use crate::adaptors::amqp::ConnectionSettings;
use crate::codec::Symbol;
use crate::endpoint::SaslPolicy;
use crate::runtime::http::HttpListener;
use crate::runtime::listen::{ListenerTls, accept};
use crate::runtime::listener::{BindAddress, BindError};
use crate::runtime::pages::RouterPages;
use crate::runtime::plan::HttpPlan;
use crate::runtime::router::Request;
use crate::runtime::sasl::{Authenticator, Mechanism};
use crate::runtime::scrapes::Scrapes;
use crate::runtime::shutdown::Stop;
use crate::runtime::tls::TlsInfo;
use crate::runtime::websocket::Upgrades;
use crate::vanflow::RecordId;

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
pub(super) struct Listener {
    /// What AMQP connections of it are made with.
    settings: Option<(ConnectionSettings, Arc<Authenticator>)>,
    /// The settings with the SASL policy of each way to connect, by what is on offer: few,
    /// whatever clients do. `None` is in clear where that is not allowed.
    variants: Vec<(Option<Vec<Mechanism>>, Arc<ConnectionSettings>)>,
    pub(super) addresses: Vec<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
    /// It answers HTTP requests, also while the router stops.
    pub(super) is_http: bool,
    /// What it is in telemetry.
    pub(super) record: Option<RecordId>,
}

impl Service {
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
}

impl Listener {
    /// What a new connection is told, and whether it must authenticate, which depends on what TLS
    /// has shown of it.
    pub(super) fn settings_for(
        &mut self,
        tls: Option<&TlsInfo>,
    ) -> Option<(Arc<ConnectionSettings>, Arc<Authenticator>)> {
        let (settings, authenticator) = self.settings.as_ref()?;
        let offer = (!authenticator.wants_encryption(tls)).then(|| authenticator.offered(tls));
        if let Some((_, settings)) = self.variants.iter().find(|(known, _)| *known == offer) {
            return Some((Arc::clone(settings), Arc::clone(authenticator)));
        }
        let mut settings = settings.clone();
        let mut endpoint = (*settings.endpoint).clone();
        endpoint.sasl = match &offer {
            None => SaslPolicy::Unencrypted,
            Some(mechanisms) => SaslPolicy::Server {
                // Nothing on offer means that this peer is not welcome, with or without SASL.
                required: authenticator.is_required() || mechanisms.is_empty(),
                mechanisms: mechanisms
                    .iter()
                    .map(|m| Symbol::from(m.as_str()))
                    .collect(),
            },
        };
        settings.endpoint = Arc::new(endpoint);
        let settings = Arc::new(settings);
        self.variants.push((offer, Arc::clone(&settings)));
        Some((settings, Arc::clone(authenticator)))
    }
}
