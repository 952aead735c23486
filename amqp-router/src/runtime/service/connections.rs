//! Connections of AMQP peers, from when their sockets are there until they are over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tracing::{debug, info, warn};

use super::Service;
use crate::adaptors::amqp::{self, ConnectionStatus, PeerInfo};
use crate::codec::Error;
use crate::control::network::Opened;
use crate::control::role::Role;
use crate::control::table::WorkerId;
use crate::runtime::connect::{Connected, ConnectorState};
use crate::runtime::driver::{NewConnection, ToWorker};
use crate::runtime::listen::Accepted;
use crate::runtime::login::Login;
use crate::runtime::sources::Place;
use crate::runtime::tls::TlsInfo;
use crate::runtime::told::Few;
use crate::vanflow::RecordId;
use crate::worker::Fault;

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
    pub(crate) faults_told: Few,
}

impl Service {
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
            peer.grant = Some(self.grant_connector(id, vhost));
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

    pub(super) fn opened(&mut self, worker: WorkerId, status: Box<ConnectionStatus>) {
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
    pub(super) fn closed(&mut self, id: u64, reason: Option<String>, fault: Option<Fault>) {
        let Some(row) = self.connections.remove(&id) else {
            return;
        };
        let refusal = self.governance.closed(id, row.connector.is_none());
        let reason = refusal.or(reason);
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
    pub(crate) fn is_of(&self, state: &Arc<ConnectorState>) -> bool {
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
