//! Entities that come, change and go while the router works.

use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use super::Manager;
use super::rows::show_closing;
use crate::codec::{Error, Value};
use crate::control::links::Scope;
use crate::management::Entity;
use crate::management::agent::Refusal;
use crate::runtime::log::Log;
use crate::runtime::plan::{
    Listening, address_rule, auto_link, log_settings, profile_source, proxy,
};

impl Manager<'_> {
    /// Puts a new entity to work; returns it with its identity.
    ///
    /// # Errors
    /// It may not be, or cannot work; then nothing has changed.
    pub(super) fn add(&mut self, mut entity: Entity) -> Result<Entity, Refusal> {
        self.config.admits(&entity)?;
        self.config.accepts(&entity)?;
        entity.identify(self.config.next_serial(entity.schema().name));
        self.start(&entity)?;
        self.config.add(entity.clone());
        Ok(entity)
    }

    /// Makes an entity what it is to be.
    ///
    /// # Errors
    /// It cannot be so; then nothing has changed.
    pub(super) fn change(
        &mut self,
        entity: &Entity,
        attributes: &[(String, Value)],
    ) -> Result<Entity, Refusal> {
        let mut updated = entity.clone();
        updated.update(attributes)?;
        self.put(updated)
    }

    /// Has the entity with the identity of this one be this one.
    ///
    /// # Errors
    /// It cannot be so; then nothing has changed.
    pub(super) fn put(&mut self, mut updated: Entity) -> Result<Entity, Refusal> {
        self.config.accepts(&updated)?;
        match updated.schema().name {
            "connection" => {
                let id = updated.identity().parse().unwrap_or_default();
                let is_closed = updated.text("adminStatus") == Some("deleted");
                if is_closed && (self.is_barred(id) || self.service.leads_to_router(id)) {
                    return Err(Refusal::forbidden(
                        "You are not allowed to perform this operation.",
                    ));
                }
                let traced = updated.flag("enableProtocolTrace");
                if !self.service.trace_connection(id, traced) && traced {
                    return Err(Refusal::bad_request(
                        "the attribute 'enableProtocolTrace' is for AMQP connections, and this is another",
                    ));
                }
                if is_closed {
                    let error =
                        Error::new("amqp:connection:forced", "closed by a management request");
                    self.service.close_connection(id, Some(error));
                    show_closing(&mut updated, true);
                }
            }
            "log" => {
                let Some(log) = self.log else {
                    return Err(Refusal::forbidden(
                        "the log belongs to the embedding program",
                    ));
                };
                set_log(log, &updated)?;
                self.service.review_telemetry();
            }
            "sslProfile" => {
                let source = profile_source(&updated);
                let profiles = &self.service.profiles;
                profiles.update(updated.name(), source, Instant::now())?;
                self.config.replace(updated.clone());
                self.service.renew_connectors(updated.name());
                let oldest = updated.integer("oldestValidOrdinal").unwrap_or(0);
                let oldest = u64::try_from(oldest).unwrap_or(0);
                self.service.retire_ordinals(updated.name(), oldest);
            }
            "tcpListener" | "tcpConnector" => {
                let planner = self.service.planner(self.config);
                self.service.update_tcp(&planner, &updated)?;
                self.config.replace(updated.clone());
            }
            "network" => {
                let name = updated.word("networkId").map(str::to_owned);
                self.service.control.name_network(name, Instant::now());
                self.config.replace(updated.clone());
            }
            "policy" => {
                self.service.follow_policy(&updated);
                self.config.replace(updated.clone());
            }
            "proxyProfile" => {
                let proxy = Arc::new(proxy(&updated)?);
                self.service.update_proxy(&proxy);
                self.config.replace(updated.clone());
            }
            "vhost" => {
                self.service.governance.set(&updated)?;
                self.config.replace(updated.clone());
                self.service.enforce_revocations();
            }
            _ => self.config.replace(updated.clone()),
        }
        Ok(updated)
    }

    /// Whether policy keeps whoever asks from closing a connection, which the log is told.
    fn is_barred(&self, connection: u64) -> bool {
        let Some(grant) = &self.barred else {
            return false;
        };
        info!(
            target: "POLICY",
            "DENY closing of connection {connection} by management for user '{}', rhost '{}', vhost '{}' based on allowAdminStatusUpdate",
            grant.user.escape_debug(),
            grant.remote_host,
            grant.vhost.escape_debug(),
        );
        true
    }

    /// Takes an entity out of work.
    ///
    /// # Errors
    /// It is in use.
    pub(super) fn drop_entity(&mut self, entity: &Entity) -> Result<(), Refusal> {
        match entity.schema().name {
            "listener" => self.service.stop_listening(entity.name()),
            "connector" => self.service.stop_connecting(entity.name()),
            "tcpListener" | "tcpConnector" | "listenerAddress" => {
                if entity.schema().name == "tcpListener" {
                    self.is_unused("listener", entity)
                        .map_err(Refusal::bad_request)?;
                }
                let router = self.config.singleton("router");
                let drop_connections = router.flag("dropTcpConnections");
                self.service.stop_tcp(entity, drop_connections);
            }
            "vhost" => {
                let hostname = entity.text("hostname").unwrap_or_default();
                self.service.governance.policies.remove(hostname);
            }
            kind @ ("sslProfile" | "proxyProfile") => {
                self.is_unused(kind, entity).map_err(Refusal::forbidden)?;
                if kind == "sslProfile" {
                    self.service.profiles.remove(entity.name());
                }
            }
            "router.config.address" => {
                if let Some(scope) = scope(entity) {
                    self.service.control.unconfigure(scope);
                }
            }
            "router.config.autoLink" => self.service.control.remove_auto_link(entity.name()),
            _ => {}
        }
        self.config.remove(entity);
        Ok(())
    }

    /// # Errors
    /// An entity names this one with `attribute`: which one.
    fn is_unused(&self, attribute: &'static str, entity: &Entity) -> Result<(), String> {
        let mut users = self.config.entities.referring(attribute, entity.name());
        match users.next() {
            Some(user) => Err(format!("{} is in use by {}", entity.label(), user.label())),
            None => Ok(()),
        }
    }

    /// Puts a new entity to work.
    fn start(&mut self, entity: &Entity) -> Result<(), Refusal> {
        let planner = self.service.planner(self.config);
        match entity.schema().name {
            "listener" => match planner.listener(entity)? {
                Listening::Amqp(plan) => {
                    let listening = self.service.listen(*plan);
                    listening.map_err(|error| Refusal::bad_request(error.to_string()))?;
                }
                Listening::Http(plan) => {
                    let listening = self.service.serve_http(*plan, self.myself);
                    listening.map_err(|error| Refusal::bad_request(error.to_string()))?;
                }
            },
            "connector" => self.service.connect(planner.connector(entity)?),
            "tcpListener" | "tcpConnector" | "listenerAddress" => {
                self.service.start_tcp(&planner, entity)?;
            }
            "sslProfile" => {
                let source = profile_source(entity);
                let profiles = &self.service.profiles;
                profiles.update(entity.name(), source, Instant::now())?;
            }
            "vhost" => {
                self.service.governance.set(entity)?;
                self.service.enforce_revocations();
            }
            "router.config.address" => {
                if let Some(scope) = scope(entity) {
                    self.service.control.configure(scope, address_rule(entity));
                }
            }
            "router.config.autoLink" => self.service.control.add_auto_link(auto_link(entity)),
            _ => {}
        }
        Ok(())
    }
}

/// Has a module log as its entity says.
pub(super) fn set_log(log: &Log, entity: &Entity) -> Result<(), Refusal> {
    let (module, settings) = log_settings(entity)?;
    let configured = log.configure(module, settings);
    configured.map_err(|error| Refusal::bad_request(error.to_string()))
}

/// The prefix or pattern of an address entity.
pub(crate) fn scope(entity: &Entity) -> Option<Scope<'_>> {
    match (entity.word("prefix"), entity.word("pattern")) {
        (Some(prefix), _) => Some(Scope::Prefix(prefix)),
        (None, Some(pattern)) => Some(Scope::Pattern(pattern)),
        (None, None) => None,
    }
}
