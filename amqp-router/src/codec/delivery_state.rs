use super::{Error, Fields, Value};

/// The state of a delivery at one end (AMQP 3.4).
///
/// 16 bytes; only the rare states own memory.
#[derive(Clone, Debug, PartialEq)]
pub enum DeliveryState {
    /// How much of a message has arrived; not an outcome.
    Received {
        section_number: u32,
        section_offset: u64,
    },
    Accepted,
    Rejected(Option<Box<Error>>),
    Released,
    Modified(Box<Modified>),
    /// Any other described value, such as the transactional states, passed on as it came.
    Other(Box<Value>),
}

impl DeliveryState {
    /// Whether this is one of the four outcomes, which never change again (AMQP 3.4).
    ///
    /// `declared` (AMQP 4.5.5) is an outcome too and the only one among the others.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Accepted | Self::Rejected(_) | Self::Released | Self::Modified(_) => true,
            Self::Received { .. } => false,
            Self::Other(state) => state.descriptor_code() == Some(DECLARED),
        }
    }

    /// `rejected` for the given reason.
    pub fn rejected(error: Error) -> Self {
        Self::Rejected(Some(Box::new(error)))
    }

    /// `modified` with no annotations.
    pub fn modified(delivery_failed: bool, undeliverable_here: bool) -> Self {
        Self::Modified(Box::new(Modified {
            delivery_failed,
            undeliverable_here,
            message_annotations: Fields::default(),
        }))
    }
}

/// The outcome that asks for another attempt (AMQP 3.4.5).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Modified {
    pub delivery_failed: bool,
    pub undeliverable_here: bool,
    pub message_annotations: Fields,
}

const DECLARED: u64 = 0x33;
const _: () = assert!(size_of::<DeliveryState>() <= 24);
