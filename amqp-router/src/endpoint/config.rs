use std::time::Duration;

use bytes::Bytes;

use crate::codec::{Fields, Symbol};

/// What connections of one listener or connector have in common.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) container_id: String,
    pub(crate) hostname: Option<String>,
    /// The largest frame we take, in bytes, at least 512.
    pub(crate) max_frame_size: u32,
    /// The highest channel number we take; `limits.max_sessions` can lower it.
    pub(crate) channel_max: u16,
    /// The highest handle we take.
    pub(crate) handle_max: u32,
    /// How long the peer may be silent. It is told half of this (AMQP 2.4.5).
    pub(crate) idle_time_out: Option<Duration>,
    /// How long it may take until the peer has opened, SASL included.
    pub(crate) handshake_time_out: Duration,
    /// Transfer frames a session takes before the owner releases some, at least 1.
    pub(crate) incoming_window: u32,
    pub(crate) sasl: SaslPolicy,
    pub(crate) offered_capabilities: Vec<Symbol>,
    pub(crate) desired_capabilities: Vec<Symbol>,
    pub(crate) properties: Fields,
    pub(crate) limits: Limits,
    /// Where our transfer-ids and delivery-ids start; any number will do.
    pub(crate) initial_id: u32,
}

/// Whether and how a connection authenticates (AMQP 5.3).
#[derive(Clone, Debug)]
pub(crate) enum SaslPolicy {
    Server {
        /// Refuse clients that start with AMQP itself.
        required: bool,
        /// In order of preference; when empty, SASL is not offered.
        mechanisms: Vec<Symbol>,
    },
    /// Refuse every client: the listener wants TLS, and this connection has none.
    Unencrypted,
    /// `None` starts with AMQP itself.
    Client(Option<ClientSasl>),
}

/// What a client authenticates with.
#[derive(Clone, Debug)]
pub(crate) struct ClientSasl {
    /// The best first: the first that the server offers is taken.
    pub(crate) choices: Vec<ClientChoice>,
    pub(crate) hostname: Option<String>,
}

/// One way for a client to authenticate.
#[derive(Clone, Debug)]
pub(crate) struct ClientChoice {
    pub(crate) mechanism: Symbol,
    pub(crate) opening: Opening,
}

/// What a client says first.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Opening {
    /// This, and nothing else.
    Response(Bytes),
    /// What the owner says, who goes on until the server has proved itself.
    Exchange,
}

/// How much a peer may ask of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_sessions: u16,
    /// Links of all sessions together, at most 2^20 - 1.
    pub(crate) max_links: u32,
    /// Bytes in a container-id or hostname.
    pub(crate) max_name: usize,
    /// Bytes in the name of a link, which some clients make of a container-id and an address.
    pub(crate) max_link_name: usize,
    /// Bytes in the address of a terminus.
    pub(crate) max_address: usize,
    /// Entries in a list of capabilities, or in properties.
    pub(crate) max_entries: usize,
    /// Octets of messages that all sessions together hold, and some for each frame
    /// among them. A session that goes beyond is ended.
    pub(crate) max_held_octets: u64,
    /// Incoming deliveries that are unsettled at once in a session.
    pub(crate) max_unsettled: usize,
    /// The shortest idle-time-out of a peer that is honoured.
    pub(crate) min_idle_time_out: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            container_id: String::new(),
            hostname: None,
            max_frame_size: 16_384,
            channel_max: 32_767,
            handle_max: u32::MAX,
            idle_time_out: Some(Duration::from_secs(16)),
            handshake_time_out: Duration::from_secs(10),
            incoming_window: 2048,
            sasl: SaslPolicy::default(),
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: Fields::new(),
            limits: Limits::default(),
            initial_id: 0,
        }
    }
}

impl Default for SaslPolicy {
    /// A server that takes anyone.
    fn default() -> Self {
        Self::Server {
            required: false,
            mechanisms: vec![Symbol::from_static("ANONYMOUS")],
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_sessions: 1024,
            max_links: 65_536,
            max_name: 4096,
            max_link_name: 4096,
            max_address: 4096,
            max_entries: 256,
            max_held_octets: 1 << 30,
            max_unsettled: 1 << 20,
            min_idle_time_out: Duration::from_millis(50),
        }
    }
}

impl Config {
    /// The channel-max to announce.
    pub(super) fn announced_channel_max(&self) -> u16 {
        let sessions = self.limits.max_sessions.max(1);
        self.channel_max.min(sessions - 1)
    }
}

/// A response may hold a password.
impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Response(_) => "Response",
            Self::Exchange => "Exchange",
        })
    }
}
