use crate::codec::{DeliveryState, Role};

/// State and settlement of a range of deliveries (AMQP 2.7.6).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disposition {
    /// Which end of the links issued this.
    pub role: Role,
    pub first: u32,
    /// Equal to `first` when the frame does not say.
    pub last: u32,
    pub settled: bool,
    pub state: Option<DeliveryState>,
    pub batchable: bool,
}
