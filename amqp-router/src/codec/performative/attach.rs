use crate::codec::{DeliveryState, DeliveryTag, Fields, Source, Symbol, Target};

/// Attaches a link to a session (AMQP 2.7.3).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attach {
    pub name: String,
    pub handle: u32,
    pub role: Role,
    pub snd_settle_mode: SenderSettleMode,
    pub rcv_settle_mode: ReceiverSettleMode,
    pub source: Option<Source>,
    pub target: Option<Target>,
    /// What the issuer holds unsettled from an earlier attachment; empty goes out as null.
    pub unsettled: Vec<(DeliveryTag, Option<DeliveryState>)>,
    pub incomplete_unsettled: bool,
    /// Mandatory from a sender, meaningless from a receiver.
    pub initial_delivery_count: Option<u32>,
    /// In bytes; none and 0 both mean no limit.
    pub max_message_size: Option<u64>,
    pub offered_capabilities: Vec<Symbol>,
    pub desired_capabilities: Vec<Symbol>,
    pub properties: Fields,
}

/// Which end of a link the issuer is (AMQP 2.8.1).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Role {
    #[default]
    Sender,
    Receiver,
}

/// Whether the sender settles before sending (AMQP 2.8.2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SenderSettleMode {
    Unsettled,
    Settled,
    #[default]
    Mixed,
}

/// Whether the receiver settles on its own (`first`) or after the sender (`second`) (AMQP 2.8.3).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ReceiverSettleMode {
    #[default]
    First,
    Second,
}

impl Role {
    /// The other end.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }
}
