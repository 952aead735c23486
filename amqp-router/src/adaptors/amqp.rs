//! A connection that speaks AMQP: its endpoint, and what the router knows of its peer.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::adaptors::components::Components;
use crate::adaptors::reading::Reading;
use crate::adaptors::trunk::Trunk;
use crate::codec::{Fields, Value};
use crate::control::network::Opened;
use crate::control::role::{PRODUCT, ROUTERS, Role, peer_cost, streaming_links, trunking};
use crate::control::table::{Direction, Slot, WorkerId};
use crate::control::trunks::Group;
use crate::endpoint::{self, Connection, Departure, LinkId};
use crate::forwarding::wire::{Allowance, Head};
use crate::policy::Grant;

/// One AMQP connection.
#[derive(Debug)]
pub(crate) struct AmqpConnection {
    /// The router-wide number that management shows.
    pub(crate) id: u64,
    pub(crate) endpoint: Connection,
    pub(crate) settings: Arc<ConnectionSettings>,
    pub(crate) peer: Box<PeerInfo>,
    /// What its two ends agree that it is for.
    pub(crate) role: Role,
    /// What a connection between routers has besides.
    pub(crate) trunk: Option<Box<Trunk>>,
    /// The deadline that the worker has noted for it.
    pub(crate) timer: Option<Instant>,
    /// The forwarding halves of its links.
    links: Vec<(Direction, Slot)>,
    /// Transfers that had come and gone when it was last looked.
    moved: u64,
    /// When it was first noticed that a delivery had come or gone, the last time.
    delivered: Option<Instant>,
    /// Octets that its socket has read.
    pub(crate) octets_read: u64,
    /// Octets written and read as they were told last.
    told: [u64; 2],
    reading: Reading,
    /// What waits for the peer is not to be written any more.
    pub(crate) is_cut_off: bool,
}

/// What the listener or connector that a connection came from says of it.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionSettings {
    /// The name of the listener or connector.
    pub(crate) name: String,
    pub(crate) role: Role,
    /// What the way over this connection costs a message between routers.
    pub(crate) cost: u32,
    /// Credit for every incoming link; deliveries that an outgoing link takes before others are
    /// preferred.
    pub(crate) link_capacity: u32,
    /// Bytes, the largest message that incoming links take; `None` is any.
    pub(crate) max_message_size: Option<u64>,
    /// Whether policy decides on each connection before it opens.
    pub(crate) governed: bool,
    /// The vhost that decides in place of the one that the peer names.
    pub(crate) policy_vhost: Option<String>,
    /// What a connector's connections to a neighbour have in common.
    pub(crate) group: Option<Group>,
    /// In which directions what routers tell each other of messages is not for routers alone.
    pub(crate) annotated: Annotated,
    /// What the log shows of its messages.
    pub(crate) messages: Components,
    pub(crate) endpoint: Arc<crate::endpoint::Config>,
}

/// In which directions messages keep their router annotations (`stripAnnotations`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Annotated {
    /// From the peer to this router.
    pub(crate) incoming: bool,
    pub(crate) outgoing: bool,
}

/// What is known of the peer besides what it says in AMQP.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerInfo {
    /// `host:port` of the peer.
    pub(crate) host: String,
    pub(crate) incoming: bool,
    pub(crate) opened_at: Option<Instant>,
    pub(crate) user: Option<String>,
    /// The SASL mechanism in use.
    pub(crate) sasl: Option<String>,
    /// It has been through SASL, be it as nobody.
    pub(crate) authenticated: bool,
    pub(crate) tls: Option<TlsInfo>,
    /// What policy lets it do; `None` is everything.
    pub(crate) grant: Option<Arc<Grant>>,
}

/// What a TLS session agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsInfo {
    /// `TLSv1.3`, say.
    pub(crate) protocol: String,
    pub(crate) cipher: String,
    /// Bits of the cipher's key.
    pub(crate) strength: u32,
    /// The peer's certificate as a name, if it showed one.
    pub(crate) subject: Option<String>,
}

/// What management shows of a connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionStatus {
    pub(crate) id: u64,
    pub(crate) role: Role,
    /// The higher of the two costs that its ends give it.
    pub(crate) cost: u32,
    pub(crate) container: String,
    pub(crate) properties: Fields,
    pub(crate) peer: PeerInfo,
    /// When there was a delivery, to a second.
    pub(crate) delivered: Option<Instant>,
    /// This end has closed it, and the peer has not yet.
    pub(crate) closing: bool,
    /// What it has in common with other connections to a neighbour.
    pub(crate) group: Option<Group>,
    /// The peer takes messages that take long by connections of their own.
    pub(crate) trunking: bool,
}

impl ConnectionStatus {
    /// What the control plane is told of a connection that has just been opened, as far as its
    /// worker can tell.
    pub(crate) fn opened(&self, worker: WorkerId) -> Opened {
        let product = self.properties.get("product").and_then(Value::as_str);
        Opened {
            connection: self.id,
            worker,
            role: self.role,
            cost: self.cost,
            container: self.container.clone(),
            user: self.peer.user.clone(),
            connector: None,
            listener: None,
            group: self.group.clone(),
            trunking: self.trunking,
            ordinal: 0,
            foreign: product != Some(PRODUCT),
            grant: self.peer.grant.clone(),
        }
    }
}

impl AmqpConnection {
    pub(crate) fn new(
        id: u64,
        endpoint: Connection,
        settings: Arc<ConnectionSettings>,
        peer: PeerInfo,
    ) -> Self {
        Self {
            id,
            endpoint,
            role: settings.role,
            trunk: None,
            settings,
            peer: Box::new(peer),
            timer: None,
            links: Vec::new(),
            moved: 0,
            delivered: None,
            octets_read: 0,
            told: [0, 0],
            reading: Reading::default(),
            is_cut_off: false,
        }
    }

    /// Octets that its socket has been written and has read, if this router has connected to
    /// another and they have not been told yet.
    pub(crate) fn take_octets(&mut self) -> Option<[u64; 2]> {
        let octets = [self.endpoint.octets_written(), self.octets_read];
        let counts = self.settings.role.is_neighbour() && !self.peer.incoming;
        (counts && std::mem::replace(&mut self.told, octets) != octets).then_some(octets)
    }

    /// To be called now and then: notices whether there have been deliveries.
    pub(super) fn tick(&mut self, now: Instant) {
        let moved = self.endpoint.transfers();
        // Less than before: a session has ended.
        if moved > self.moved {
            self.delivered = Some(now);
        }
        self.moved = moved;
    }

    /// To be called now and then: whether the peer has not read for too long.
    pub(super) fn is_slow_reader(&mut self, now: Instant) -> bool {
        let endpoint = &self.endpoint;
        self.reading.look(
            endpoint.backlog(),
            endpoint.octets_written(),
            endpoint.is_finished(),
            now,
        )
    }

    pub(crate) fn add_link(&mut self, direction: Direction, slot: Slot) {
        self.links.push((direction, slot));
    }

    pub(crate) fn remove_link(&mut self, direction: Direction, slot: Slot) {
        if let Some(at) = self
            .links
            .iter()
            .rposition(|&link| link == (direction, slot))
        {
            self.links.swap_remove(at);
        }
    }

    pub(crate) fn take_links(&mut self) -> Vec<(Direction, Slot)> {
        std::mem::take(&mut self.links)
    }

    pub(crate) fn status(&self) -> ConnectionStatus {
        let open = self.endpoint.remote();
        ConnectionStatus {
            id: self.id,
            role: self.role,
            cost: open.map_or(1, |open| {
                self.settings.cost.max(peer_cost(&open.properties))
            }),
            container: open
                .map(|open| open.container_id.clone())
                .unwrap_or_default(),
            properties: open.map(|open| open.properties.clone()).unwrap_or_default(),
            peer: self.peer_now(),
            delivered: self.delivered,
            closing: self.endpoint.is_closing(),
            group: match self.role {
                Role::InterRouter | Role::InterRouterData if self.peer.incoming => {
                    open.and_then(|open| Group::of_peer(&open.properties))
                }
                _ => self.settings.group.clone(),
            },
            trunking: open.is_some_and(|open| open.offered_capabilities.contains(&trunking())),
        }
    }

    /// What is known of the peer, and by which mechanism we are known to it.
    fn peer_now(&self) -> PeerInfo {
        let mut peer = (*self.peer).clone();
        if let Some(mechanism) = self.endpoint.chosen_mechanism() {
            peer.sasl = Some(mechanism.to_owned());
            peer.authenticated = true;
        }
        peer
    }

    /// What policy grants: from now on the connection has the limits of its group.
    pub(crate) fn set_grant(&mut self, grant: Arc<Grant>) {
        let group = &grant.group;
        let mut config = (**self.endpoint.config()).clone();
        if let Some(size) = group.max_frame_size {
            config.max_frame_size = size;
        }
        if let Some(sessions) = group.max_sessions {
            config.channel_max = config.channel_max.min(sessions - 1);
        }
        if let Some(window) = group.max_session_window {
            config.incoming_window = (window / config.max_frame_size).max(2);
            let limit = &mut config.limits.max_held_octets;
            let one = endpoint::held_by_frame(config.max_frame_size);
            *limit = (u64::from(config.incoming_window) * one).max(*limit);
        }
        self.endpoint.reconfigure(Arc::new(config));
        self.peer.grant = Some(grant);
    }

    /// Bytes, the largest message that its incoming links take; `None` is any.
    pub(crate) fn max_message_size(&self) -> Option<u64> {
        match &self.peer.grant {
            Some(grant) => grant.max_message_size,
            None => self.settings.max_message_size,
        }
    }

    /// Whether its peer is of another make than this router.
    pub(crate) fn is_foreign(&self) -> bool {
        let open = self.endpoint.remote();
        let product = open.and_then(|open| open.properties.get("product"));
        product.and_then(Value::as_str) != Some(PRODUCT)
    }

    /// Whether it takes links for messages that are not complete. A router that is a client cannot
    /// tell where these go if annotations do not say.
    pub(crate) fn takes_streams(&self) -> bool {
        let Some(open) = self.endpoint.remote() else {
            return false;
        };
        let product = open.properties.get("product").and_then(Value::as_str);
        let is_router = product.is_some_and(|product| ROUTERS.contains(&product));
        (self.annotated().outgoing || !is_router)
            && open.offered_capabilities.contains(&streaming_links())
    }

    /// In which directions its messages have router annotations: in both if it has a router at
    /// either end.
    pub(crate) fn annotated(&self) -> Annotated {
        match self.role.is_annotated() {
            true => Annotated {
                incoming: true,
                outgoing: true,
            },
            false => self.settings.annotated,
        }
    }

    pub(super) fn allowance(&self, link: LinkId) -> Allowance {
        let sendable = self.endpoint.sendable(link);
        Allowance {
            credit: sendable.credit,
            room: sendable.window > 0 && self.endpoint.backlog() < OUTPUT_HIGH_WATER,
            drain: sendable.drain,
            join: if sendable.scarce {
                self.endpoint.frame_capacity().min(JOIN)
            } else {
                0
            },
        }
    }

    /// Whether enough has been written for more to be accepted.
    pub(crate) fn has_room(&self) -> bool {
        self.endpoint.backlog() < OUTPUT_LOW_WATER
    }

    pub(super) fn start(
        &mut self,
        link: LinkId,
        head: Head<'_>,
        payload: &mut Bytes,
        more: bool,
    ) -> u32 {
        let departure = Departure {
            token: head.token,
            tag: head.tag,
            format: head.message_format,
            settled: head.settled,
            state: head.state,
            prefix: head.prefix,
        };
        self.endpoint
            .start_delivery(link, departure, payload, more)
            .expect("forwarding has asked for the allowance before")
    }
}

/// Bytes that may wait to be written to one connection before its links have to wait.
const OUTPUT_HIGH_WATER: usize = 512 * 1024;
/// Bytes left to write at which they may go on.
const OUTPUT_LOW_WATER: usize = 256 * 1024;
/// Octets of one frame towards a peer that lets its session window run down.
const JOIN: usize = 256 * 1024;
