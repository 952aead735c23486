//! Connectors, and the connections that each of them makes.
//!
//! To an interior router it makes one by which the routers speak, and while that is open further ones
//! for messages that take long (`dataConnectionCount`); to others one. When the certificate is another and says so by
//! a higher `ordinal`, a connector to a router makes all of them again, and leaves the older ones to
//! what they carry: they stay until somebody closes them, and are not made again
//! (`reference/router/inter-router-protocol.md` §2, "connection upgrade").

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinHandle;
use tracing::info;

use crate::adaptors::amqp::ConnectionSettings;
use crate::codec::Error;
use crate::control::role::Role;
use crate::runtime::connect::{Connected, ConnectorPlan, ConnectorState, run_connector};
use crate::runtime::proxy::Proxy;
use crate::runtime::reconnect::Status;
use crate::runtime::service::{ConnectionRow, Service, forced};
use crate::vanflow::RecordId;

/// A connector at work.
pub(super) struct Connector {
    plan: Arc<ConnectorPlan>,
    /// The newest last.
    members: Vec<Member>,
    proxy: Option<Arc<Proxy>>,
    /// What it is in telemetry.
    record: Option<RecordId>,
    /// Why attempts fail, as telemetry has been told.
    told: Option<String>,
}

/// One connection, or the attempts at it.
struct Member {
    state: Arc<ConnectorState>,
    task: JoinHandle<()>,
    /// Of the sslProfile when it was first to be made.
    ordinal: u64,
}

impl Connector {
    /// The connection that tells how the connector is doing: one by which the routers speak, and of
    /// those one that is open, the newest.
    fn foremost(&self) -> Option<&Arc<ConnectorState>> {
        let states = || self.members.iter().rev().map(|member| &member.state);
        let mut speaking = states().filter(|state| !state.is_data());
        let open = speaking.clone().find(|state| is_up(state));
        open.or_else(|| speaking.next())
    }

    /// The ordinal that new connections are made with.
    fn ordinal(&self) -> u64 {
        let tls = self.plan.tls.as_ref();
        tls.map_or(0, |tls| tls.current(Instant::now()).ordinal)
    }

    fn uses(&self, profile: &str) -> bool {
        let tls = self.plan.tls.as_ref();
        tls.is_some_and(|tls| tls.profile() == profile)
    }
}

impl Service {
    /// Starts to connect, and to connect again when a connection is lost.
    pub(crate) fn connect(&mut self, plan: ConnectorPlan) {
        let record = self.telemetry.begin_link(&plan);
        let name = plan.name.clone();
        let mut connector = Connector {
            proxy: plan.proxy.clone(),
            plan: Arc::new(plan),
            members: Vec::new(),
            record,
            told: None,
        };
        self.make_members(&mut connector);
        self.connectors.insert(name, connector);
    }

    /// Starts to make the connections of a connector.
    fn make_members(&self, connector: &mut Connector) {
        let plan = &connector.plan;
        let ordinal = connector.ordinal();
        for state in ConnectorState::group(plan, connector.proxy.as_ref()) {
            let settings = match state.is_data() {
                false => Arc::clone(&plan.settings),
                true => Arc::new(data_settings(&plan.settings)),
            };
            let task = tokio::spawn(run_connector(
                Arc::clone(plan),
                settings,
                Arc::clone(&state),
                self.workers.clone(),
                self.connected.clone(),
            ));
            connector.members.push(Member {
                state,
                task,
                ordinal,
            });
        }
    }

    /// Stops connecting and closes the connections.
    pub(crate) fn stop_connecting(&mut self, name: &str) {
        let Some(connector) = self.connectors.remove(name) else {
            return;
        };
        self.telemetry.end(connector.record);
        for member in &connector.members {
            self.stop_member(member, &forced("the connector was deleted"));
        }
    }

    /// Stops to make a connection, and closes it.
    fn stop_member(&mut self, member: &Member, error: &Error) {
        member.task.abort();
        let rows = self.connections.iter();
        let own = rows.filter(|(_, row)| row.is_of(&member.state));
        for id in own.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.close_connection(id, Some(error.clone()));
        }
    }

    /// How a connector is doing.
    pub(crate) fn connector(&self, name: &str) -> Option<&ConnectorState> {
        self.connectors.get(name)?.foremost().map(Arc::as_ref)
    }

    /// Every connector, and how it is doing.
    pub(super) fn connector_reports(&self) -> impl Iterator<Item = (&String, &ConnectorState)> {
        let connectors = self.connectors.iter();
        connectors.filter_map(|(name, one)| Some((name, &**one.foremost()?)))
    }

    /// Every connector's name, and whether its connection is open.
    pub(crate) fn connector_states(&self) -> impl Iterator<Item = (String, bool)> {
        self.connector_reports()
            .map(|(name, state)| (name.clone(), is_up(state)))
    }

    /// What a connection's connector is in telemetry; `None` if there is no such connector.
    pub(super) fn record_of(&self, new: &Connected) -> Option<Option<RecordId>> {
        let connector = self.connectors.get(&new.settings.name)?;
        let mut members = connector.members.iter();
        let known = members.any(|member| Arc::ptr_eq(&member.state, &new.state));
        known.then_some(connector.record)
    }

    /// Tells telemetry why connectors reach nobody.
    pub(super) fn tell_unreached(&mut self) {
        for connector in self.connectors.values_mut() {
            let Some((id, state)) = connector.record.zip(connector.foremost()) else {
                continue;
            };
            let why = state.failure();
            if why.is_some() && why != connector.told {
                self.telemetry
                    .unreached(id, why.as_deref().unwrap_or_default());
            }
            connector.told = why;
        }
    }

    /// Has connectors use a proxy as it is now, from their next attempt on.
    pub(crate) fn update_proxy(&mut self, proxy: &Arc<Proxy>) {
        for connector in self.connectors.values_mut() {
            for member in &connector.members {
                member.state.update_proxy(proxy);
            }
            let same = |one: &mut Arc<Proxy>| one.name == proxy.name;
            if connector.proxy.take_if(same).is_some() {
                connector.proxy = Some(Arc::clone(proxy));
            }
        }
    }

    /// Forgets the connections of a connector that have ended for good.
    pub(super) fn forget_members(&mut self, state: &ConnectorState) {
        if let Some(connector) = self.connectors.get_mut(state.name()) {
            connector.members.retain(|member| !member.state.is_over());
        }
    }

    /// An sslProfile is another: connectors to routers that use it connect anew if its ordinal is
    /// higher, and leave older connections to what they carry.
    pub(crate) fn renew_connectors(&mut self, profile: &str) {
        let mut connectors = std::mem::take(&mut self.connectors);
        for (name, connector) in &mut connectors {
            let role = connector.plan.settings.role;
            let renews = matches!(role, Role::InterRouter | Role::Edge | Role::InterEdge);
            if !renews || !connector.uses(profile) {
                continue;
            }
            let ordinal = connector.ordinal();
            let newest = connector.members.last();
            if newest.is_some_and(|newest| newest.ordinal >= ordinal) {
                continue;
            }
            info!(target: "SERVER", "Connector '{name}' connects anew with ordinal {ordinal} of sslProfile '{profile}'");
            let (kept, over): (Vec<_>, _) = connector
                .members
                .drain(..)
                .partition(|member| !member.state.retire());
            connector.members = kept;
            for member in &over {
                self.stop_member(member, &forced("newer TLS credentials take precedence"));
            }
            self.make_members(connector);
        }
        self.connectors = connectors;
    }

    /// Closes the connections that an sslProfile secured when its ordinal was below `oldest`.
    pub(crate) fn retire_ordinals(&mut self, profile: &str, oldest: u64) {
        let retired = |row: &ConnectionRow| {
            row.tls
                .as_ref()
                .is_some_and(|tls| *tls.profile == *profile && tls.ordinal < oldest)
        };
        let rows = self.connections.iter();
        let ids: Vec<u64> = rows
            .filter(|(_, row)| retired(row))
            .map(|(&id, _)| id)
            .collect();
        for id in ids {
            info!(target: "SERVER", conn = id, "Closing: sslProfile '{profile}' has retired ordinals below {oldest}");
            let text = format!("TLS credentials older than ordinal {oldest} are no longer valid");
            self.close_connection(id, Some(forced(&text)));
        }
    }
}

impl Connector {
    /// Makes no connection any more.
    pub(super) fn abort(&self) {
        for member in &self.members {
            member.task.abort();
        }
    }
}

fn is_up(state: &ConnectorState) -> bool {
    state.status() == Status::Success
}

/// What the connections for messages that take long are made with.
fn data_settings(settings: &ConnectionSettings) -> ConnectionSettings {
    let mut settings = settings.clone();
    settings.role = Role::InterRouterData;
    let endpoint = Arc::make_mut(&mut settings.endpoint);
    endpoint
        .properties
        .insert("qd.inter-router-role", INTER_ROUTER_DATA);
    settings
}

/// The number of the role in what routers tell each other.
const INTER_ROUTER_DATA: i32 = 4;
