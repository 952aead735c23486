use crate::codec::Fields;

/// Session windows, and the credit of one link (AMQP 2.7.4).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flow {
    /// None only while the peer's begin has not been seen.
    pub next_incoming_id: Option<u32>,
    pub incoming_window: u32,
    pub next_outgoing_id: u32,
    pub outgoing_window: u32,
    /// None when the flow speaks of the session alone.
    pub link: Option<LinkFlow>,
    /// Asks for a flow in answer.
    pub echo: bool,
    pub properties: Fields,
}

/// The part of a flow that concerns one link.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LinkFlow {
    pub handle: u32,
    pub delivery_count: Option<u32>,
    pub link_credit: Option<u32>,
    pub available: Option<u32>,
    pub drain: bool,
}
