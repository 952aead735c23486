//! What the connections of a listener or connector are set to.

use std::sync::Arc;
use std::time::Duration;

use crate::adaptors::amqp::{Annotated, ConnectionSettings};
use crate::adaptors::components::{self, Components};
use crate::codec::{Fields, Symbol, Value};
use crate::control::links::anonymous_relay;
use crate::control::role::{PRODUCT, Role, streaming_links, trunking};
use crate::control::table::DEFAULT_LINK_CAPACITY;
use crate::control::uplink::inter_edge_capability;
use crate::endpoint::{self, SaslPolicy};
use crate::management::config::hosts::{Substitute, substitutes};
use crate::management::{Entity, Invalid, closest};
use crate::runtime::listener::AddressFamily;
use crate::runtime::plan::{Planner, wrong};

impl Planner<'_> {
    /// # Errors
    /// An attribute has no meaning.
    pub(crate) fn settings(
        &self,
        entity: &Entity,
        sasl: SaslPolicy,
    ) -> Result<ConnectionSettings, Invalid> {
        let positive = |attribute: &str| entity.integer(attribute).filter(|n| *n > 0);
        let number = |attribute: &str| positive(attribute).and_then(|n| u32::try_from(n).ok());
        let max_frame_size = number("maxFrameSize").unwrap_or(16_384);
        let normal = entity.text("role") == Some("normal");
        let window_octets = if normal { NORMAL_WINDOW } else { ROUTER_WINDOW };
        let sessions = number("maxSessions")
            .unwrap_or(SESSIONS_MAX)
            .min(SESSIONS_MAX);
        let idle = entity
            .integer("idleTimeoutSeconds")
            .and_then(|n| u64::try_from(n).ok());
        let mut properties = Fields::new();
        properties.insert("product", PRODUCT);
        properties.insert("version", env!("CARGO_PKG_VERSION"));
        for (key, value) in entity.get("openProperties").as_map().unwrap_or_default() {
            if let Some(key) = key.as_str() {
                properties.insert(key, value.clone());
            }
        }
        if let Some(list) = entity.word("failoverUrls") {
            properties.insert("failover-server-list", failover_servers(list));
        }
        let role = Role::of(entity.text("role"));
        let cost = number("cost").unwrap_or(1);
        let mut capabilities = vec![anonymous_relay(), streaming_links()];
        if role.is_neighbour() {
            capabilities.push(trunking());
            if role == Role::InterEdge {
                capabilities.push(inter_edge_capability());
            }
            if cost > 1 {
                properties.insert(
                    "qd.inter-router-cost",
                    i32::try_from(cost).unwrap_or(i32::MAX),
                );
            }
            properties.insert("qd.annotations-version", 2);
        }
        let defaults = endpoint::Config::default();
        let usual_window = (window_octets / max_frame_size).max(2);
        let incoming_window = number("maxSessionFrames").unwrap_or(usual_window);
        let held = |frames: u32| u64::from(frames) * endpoint::held_by_frame(max_frame_size);
        let limits = endpoint::Limits {
            max_held_octets: held(incoming_window).max(SESSIONS_HELD * held(usual_window)),
            max_sessions: match sessions {
                // Nobody asked for so many.
                SESSIONS_MAX => defaults.limits.max_sessions,
                asked => u16::try_from(asked).unwrap_or(u16::MAX),
            },
            ..defaults.limits.clone()
        };
        let endpoint = endpoint::Config {
            container_id: self.identity().id,
            hostname: (entity.schema().name == "connector")
                .then(|| entity.word("host").unwrap_or_default().to_owned()),
            max_frame_size,
            channel_max: u16::try_from(sessions - 1).unwrap_or(32_767),
            idle_time_out: idle.filter(|n| *n > 0).map(Duration::from_secs),
            handshake_time_out: handshake_time_out(entity),
            incoming_window,
            sasl,
            offered_capabilities: capabilities.clone(),
            desired_capabilities: capabilities,
            properties,
            limits,
            ..defaults
        };
        Ok(ConnectionSettings {
            // What policy makes of it is known when there is a connection.
            governed: false,
            policy_vhost: entity.word("policyVhost").map(str::to_owned),
            max_message_size: None,
            group: None,
            messages: message_components(entity)?,
            annotated: annotated(entity),
            name: entity.name().to_owned(),
            role,
            cost,
            link_capacity: number("linkCapacity").unwrap_or(DEFAULT_LINK_CAPACITY),
            endpoint: Arc::new(endpoint),
        })
    }
}

/// In which directions messages keep what routers tell each other.
pub(super) fn annotated(entity: &Entity) -> Annotated {
    let stripped = entity.text("stripAnnotations");
    Annotated {
        incoming: matches!(stripped, Some("out" | "no")),
        outgoing: matches!(stripped, Some("in" | "no")),
    }
}

/// What the log is to show of the messages of connections.
pub(super) fn message_components(entity: &Entity) -> Result<Components, Invalid> {
    let text = entity.word("messageLoggingComponents").unwrap_or("none");
    Components::parse(text).map_err(|unknown| {
        let hint = match closest(unknown, components::NAMES.into_iter()) {
            Some(close) => format!("; did you mean '{close}'?"),
            None => String::new(),
        };
        let known = components::NAMES.join(", ");
        let problem = format!(
            "the attribute 'messageLoggingComponents' is '{text}', but must be all, none, or some \
             of {known}, with commas between them: '{unknown}' is none of them{hint}"
        );
        wrong(entity, problem)
    })
}

/// How long a peer may take until it has opened its connection.
pub(super) fn handshake_time_out(entity: &Entity) -> Duration {
    let seconds = entity.integer("initialHandshakeTimeoutSeconds");
    let seconds = seconds.and_then(|n| u64::try_from(n).ok());
    match seconds.filter(|seconds| *seconds > 0) {
        Some(seconds) => Duration::from_secs(seconds),
        None => endpoint::Config::default().handshake_time_out,
    }
}

pub(super) fn family(entity: &Entity) -> Option<AddressFamily> {
    match entity.text("socketAddressFamily") {
        Some("IPv4") => Some(AddressFamily::V4),
        Some("IPv6") => Some(AddressFamily::V6),
        _ => None,
    }
}

/// `amqp://host:port, …` as a connection's property
/// (`reference/router/inter-router-protocol.md` §1).
pub(super) fn failover_servers(list: &str) -> Value {
    let server = |Substitute { scheme, host, port }: Substitute<'_>| {
        let port = port.unwrap_or("5672");
        let pair = |key: &str, value: &str| (Value::from(Symbol::from(key)), Value::from(value));
        let mut map = vec![pair("network-host", host), pair("port", port)];
        if scheme != "amqp" {
            map.push(pair("scheme", scheme));
        }
        Value::Map(map)
    };
    Value::List(substitutes(list).map(server).collect())
}

/// The windows of so many sessions are what all sessions of a connection may fill.
const SESSIONS_HELD: u64 = 8;
/// Octets that a session of a client may have on their way through the router.
const NORMAL_WINDOW: u32 = 8 * 1024 * 1024;
/// The same between routers.
const ROUTER_WINDOW: u32 = 128 * 1024 * 1024;
/// What channel numbers have room for in skrouterd, and so what `maxSessions` may be.
const SESSIONS_MAX: u32 = 32_768;
