use crate::codec::{DeliveryState, DeliveryTag, ReceiverSettleMode};

/// A piece of a delivery; the payload follows it in the frame (AMQP 2.7.5).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transfer {
    pub handle: u32,
    /// With the tag and the format, mandatory in the first frame of a delivery.
    pub delivery_id: Option<u32>,
    pub delivery_tag: Option<DeliveryTag>,
    pub message_format: Option<u32>,
    /// Unset in the first frame means false, in later ones unchanged.
    pub settled: Option<bool>,
    pub more: bool,
    pub rcv_settle_mode: Option<ReceiverSettleMode>,
    pub state: Option<DeliveryState>,
    pub resume: bool,
    pub aborted: bool,
    pub batchable: bool,
}
