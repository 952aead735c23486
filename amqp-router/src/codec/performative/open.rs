use std::time::Duration;

use crate::codec::{Fields, Symbol};

/// The first frame of each side (AMQP 2.7.1).
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    pub container_id: String,
    pub hostname: Option<String>,
    /// The largest frame the issuer takes, in bytes.
    pub max_frame_size: u32,
    /// The highest channel number the issuer takes.
    pub channel_max: u16,
    /// How long the issuer bears silence; on the wire whole milliseconds, 0 meaning no limit.
    pub idle_time_out: Option<Duration>,
    pub outgoing_locales: Vec<Symbol>,
    pub incoming_locales: Vec<Symbol>,
    pub offered_capabilities: Vec<Symbol>,
    pub desired_capabilities: Vec<Symbol>,
    pub properties: Fields,
}

impl Default for Open {
    fn default() -> Self {
        Self {
            container_id: String::new(),
            hostname: None,
            max_frame_size: u32::MAX,
            channel_max: u16::MAX,
            idle_time_out: None,
            outgoing_locales: Vec::new(),
            incoming_locales: Vec::new(),
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: Fields::new(),
        }
    }
}
