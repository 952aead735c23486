//! What a connection is for.

use std::fmt;

use crate::codec::{Fields, Symbol, Value};

/// The role of a connection, as its listener or connector has it
/// (`reference/router/inter-router-protocol.md` §1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) enum Role {
    /// A client.
    #[default]
    Normal,
    /// A broker, or another container with addresses of its own.
    RouteContainer,
    /// A neighbour in the network.
    InterRouter,
    /// Another connection to a neighbour, for messages that take long.
    InterRouterData,
    /// Between an edge router and the network.
    Edge,
    /// Between edge routers.
    InterEdge,
    /// Between networks.
    InterNetwork,
}

impl Role {
    /// The word that configuration and management use.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::RouteContainer => "route-container",
            Self::InterRouter => "inter-router",
            Self::InterRouterData => "inter-router-data",
            Self::Edge => "edge",
            Self::InterEdge => "inter-edge",
            Self::InterNetwork => "inter-network",
        }
    }

    pub(crate) fn of(word: Option<&str>) -> Self {
        match word {
            Some("route-container") => Self::RouteContainer,
            Some("inter-router") => Self::InterRouter,
            Some("inter-router-data") => Self::InterRouterData,
            Some("edge") => Self::Edge,
            Some("inter-edge") => Self::InterEdge,
            Some("inter-network") => Self::InterNetwork,
            _ => Self::Normal,
        }
    }

    /// Whether the peer is a router of the same network.
    pub(crate) fn is_neighbour(self) -> bool {
        self != Self::Normal && !self.is_container()
    }

    /// Whether messages carry router annotations.
    pub(crate) fn is_annotated(self) -> bool {
        self.is_neighbour() || self == Self::InterNetwork
    }

    /// Whether the peer is one that auto links are attached to: a container with addresses of its own,
    /// or a router of another network.
    pub(crate) fn is_container(self) -> bool {
        matches!(self, Self::RouteContainer | Self::InterNetwork)
    }

    /// What the role becomes once the peer has said what the connection is to it.
    pub(crate) fn demoted(self, properties: &Fields) -> Self {
        let data = properties.get("qd.inter-router-role") == Some(&Value::Int(4));
        match self {
            Self::InterRouter if data => Self::InterRouterData,
            other => other,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The cost that the peer of a connection gives it; 1 if it says nothing sensible.
pub(crate) fn peer_cost(properties: &Fields) -> u32 {
    match properties.get("qd.inter-router-cost") {
        Some(Value::Int(cost)) => u32::try_from(*cost).unwrap_or(1).max(1),
        _ => 1,
    }
}

/// What routers of this make call themselves, as the property `product` of their `open`.
pub(crate) const PRODUCT: &str = "amqp-router";

/// What routers of all makes call themselves.
pub(crate) const ROUTERS: [&str; 3] = [PRODUCT, "skupper-router", "qpid-dispatch-router"];

/// The capability under which a router or a client takes messages that are not complete by links of
/// their own.
pub(crate) fn streaming_links() -> Symbol {
    Symbol::from_static("qd.streaming-links")
}

/// The capability under which a router takes messages that take long by connections of their own.
pub(crate) fn trunking() -> Symbol {
    Symbol::from_static("qd.connection_trunking")
}

/// The capability of the links that routers speak to each other by.
pub(crate) fn control_capability() -> Symbol {
    Symbol::from_static("qd.router")
}

/// The capability of the links that carry messages between routers.
pub(crate) fn data_capability() -> Symbol {
    Symbol::from_static("qd.router-data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_its_word() {
        for role in [
            Role::Normal,
            Role::RouteContainer,
            Role::InterRouter,
            Role::InterRouterData,
            Role::Edge,
            Role::InterEdge,
            Role::InterNetwork,
        ] {
            assert_eq!(Role::of(Some(role.as_str())), role);
        }
    }

    #[test]
    fn a_peer_demotes_and_prices_its_connection() {
        let mut properties = Fields::new();
        assert_eq!(Role::InterRouter.demoted(&properties), Role::InterRouter);
        assert_eq!(peer_cost(&properties), 1);
        properties.insert("qd.inter-router-role", 4);
        properties.insert("qd.inter-router-cost", 7);
        let data = Role::InterRouter.demoted(&properties);
        assert_eq!((data, peer_cost(&properties)), (Role::InterRouterData, 7));
        assert_eq!(Role::Normal.demoted(&properties), Role::Normal);
        properties.insert("qd.inter-router-cost", -7);
        assert_eq!(peer_cost(&properties), 1);
    }
}
