//! The nine performatives, in the standard's order (AMQP 2.7), and the types they carry.

mod attach;
mod begin;
mod detach;
mod disposition;
mod error;
mod flow;
mod open;
mod terminus;
mod transfer;
mod wire;

pub use attach::{Attach, ReceiverSettleMode, Role, SenderSettleMode};
pub use begin::Begin;
pub use detach::{Close, Detach, End};
pub use disposition::Disposition;
pub use error::{Error, condition};
pub use flow::{Flow, LinkFlow};
pub use open::Open;
pub use terminus::{Coordinator, ExpiryPolicy, Source, Target, TargetNode, TerminusDurability};
pub use transfer::Transfer;
pub(crate) use wire::{descriptor_of, frame};

/// The body of an AMQP frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Performative {
    Open(Box<Open>),
    Begin(Box<Begin>),
    Attach(Box<Attach>),
    Flow(Flow),
    Transfer(Transfer),
    Disposition(Disposition),
    Detach(Detach),
    End(End),
    Close(Close),
}
