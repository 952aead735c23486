use std::time::Duration;

use crate::codec::{DeliveryState, Fields, Symbol};

/// Where a link takes messages from (AMQP 3.5.3).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    pub address: Option<String>,
    pub durable: TerminusDurability,
    pub expiry_policy: ExpiryPolicy,
    /// How long the terminus outlives its expiry event; on the wire whole seconds.
    pub timeout: Duration,
    pub dynamic: bool,
    pub dynamic_node_properties: Fields,
    pub distribution_mode: Option<Symbol>,
    pub filter: Fields,
    pub default_outcome: Option<DeliveryState>,
    pub outcomes: Vec<Symbol>,
    pub capabilities: Vec<Symbol>,
}

/// Where a link puts messages: a node, or a transaction coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    Node(TargetNode),
    Coordinator(Coordinator),
}

/// A node that takes messages (`target`, AMQP 3.5.4).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetNode {
    pub address: Option<String>,
    pub durable: TerminusDurability,
    pub expiry_policy: ExpiryPolicy,
    /// How long the terminus outlives its expiry event; on the wire whole seconds.
    pub timeout: Duration,
    pub dynamic: bool,
    pub dynamic_node_properties: Fields,
    pub capabilities: Vec<Symbol>,
}

/// The target of a transaction controller (AMQP 4.5.1).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coordinator {
    pub capabilities: Vec<Symbol>,
}

/// What of a terminus survives (AMQP 3.5.5).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TerminusDurability {
    #[default]
    None,
    Configuration,
    UnsettledState,
}

/// When the timeout of a terminus starts to run (AMQP 3.5.6).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ExpiryPolicy {
    LinkDetach,
    #[default]
    SessionEnd,
    ConnectionClose,
    Never,
}

impl Target {
    /// The node; none for a coordinator.
    pub fn node(&self) -> Option<&TargetNode> {
        match self {
            Self::Node(node) => Some(node),
            Self::Coordinator(_) => None,
        }
    }

    /// The address of a node; none for a coordinator.
    pub fn address(&self) -> Option<&str> {
        match self {
            Self::Node(node) => node.address.as_deref(),
            Self::Coordinator(_) => None,
        }
    }
}

impl From<TargetNode> for Target {
    fn from(node: TargetNode) -> Self {
        Self::Node(node)
    }
}
