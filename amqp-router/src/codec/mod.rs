//! Bytes to AMQP types and back: values, frames, performatives, SASL and messages.
//!
//! Decoders are strict, accept every valid encoding, never panic and never allocate more than a
//! small multiple of the bytes they were given. Encoders write the shortest forms and numeric
//! descriptors.

mod delivery_state;
mod delivery_tag;
mod error;
mod frame;
mod message;
mod performative;
mod read;
mod router_annotations;
mod sasl;
mod serial;
mod stream_head;
#[cfg(test)]
mod tests;
mod value;
pub(crate) mod view;
pub(crate) mod write;

pub use delivery_state::{DeliveryState, Modified};
pub use delivery_tag::DeliveryTag;
pub use error::DecodeError;
pub use frame::{FrameError, FrameHeader, FrameKind, ProtocolHeader, ProtocolId};
pub use message::{Body, Header, Message, MessageId, Properties};
pub use performative::{
    Attach, Begin, Close, Coordinator, Detach, Disposition, End, Error, ExpiryPolicy, Flow,
    LinkFlow, Open, Performative, ReceiverSettleMode, Role, SenderSettleMode, Source, Target,
    TargetNode, TerminusDurability, Transfer, condition,
};
pub(crate) use performative::{descriptor_of, frame as encode_frame};
pub(crate) use read::{Composite, Reader};
pub(crate) use router_annotations::RouterAnnotations;
pub use sasl::{
    SaslChallenge, SaslCode, SaslFrame, SaslInit, SaslMechanisms, SaslOutcome, SaslResponse,
};
pub use serial::Serial;
pub(crate) use stream_head::StreamHead;
pub use value::{Array, Described, Fields, Symbol, Value};
pub(crate) use view::{MessageView, Progress};
