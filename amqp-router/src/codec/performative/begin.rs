use crate::codec::{Fields, Symbol};

/// Maps a session to a channel (AMQP 2.7.2).
#[derive(Clone, Debug, PartialEq)]
pub struct Begin {
    /// In an answer, the channel on which the peer began.
    pub remote_channel: Option<u16>,
    pub next_outgoing_id: u32,
    /// Transfer frames the issuer can take now.
    pub incoming_window: u32,
    pub outgoing_window: u32,
    /// The highest handle the issuer takes.
    pub handle_max: u32,
    pub offered_capabilities: Vec<Symbol>,
    pub desired_capabilities: Vec<Symbol>,
    pub properties: Fields,
}

impl Default for Begin {
    fn default() -> Self {
        Self {
            remote_channel: None,
            next_outgoing_id: 0,
            incoming_window: 0,
            outgoing_window: 0,
            handle_max: u32::MAX,
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: Fields::new(),
        }
    }
}
