//! Two connections joined by a wire in memory, and the clock they share.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::codec::{
    Attach, DeliveryState, DeliveryTag, Role, SaslCode, Source, Symbol, TargetNode,
};
use crate::endpoint::{
    AttachReply, ClientChoice, ClientSasl, Config, Connection, DeliveryRef, Departure, Event,
    LinkId, NoCredit, Opening, OutBuf, SaslPolicy, SessionId, TransferEvent,
};

pub(super) struct Pair {
    pub(super) client: End,
    pub(super) server: End,
    pub(super) now: Instant,
    /// Bytes carry one segment each.
    pub(super) byte_by_byte: bool,
}

/// One end, with an owner that answers what must be answered and notes all events.
pub(super) struct End {
    pub(super) connection: Connection,
    pub(super) events: Vec<Event>,
    /// Leaves attaches for the test to answer.
    pub(super) undecided: bool,
    /// Returns the window of a transfer as soon as it is told.
    pub(super) releases: bool,
}

/// A link that is attached at both ends.
#[derive(Clone, Copy)]
pub(super) struct Attached {
    pub(super) session: SessionId,
    pub(super) client: LinkId,
    pub(super) server: LinkId,
}

pub(super) fn client_config() -> Config {
    let anonymous = ClientSasl {
        choices: vec![ClientChoice {
            mechanism: Symbol::from_static("ANONYMOUS"),
            opening: Opening::Response(Bytes::new()),
        }],
        hostname: None,
    };
    Config {
        container_id: "client".into(),
        sasl: SaslPolicy::Client(Some(anonymous)),
        idle_time_out: None,
        ..Config::default()
    }
}

pub(super) fn server_config() -> Config {
    Config {
        container_id: "server".into(),
        idle_time_out: None,
        ..Config::default()
    }
}

impl Pair {
    pub(super) fn new(client: Config, server: Config) -> Self {
        let now = Instant::now();
        Self {
            client: End::new(Connection::client(Arc::new(client), now)),
            server: End::new(Connection::server(Arc::new(server), now)),
            now,
            byte_by_byte: false,
        }
    }

    /// Open at both ends.
    pub(super) fn opened() -> Self {
        Self::opened_with(client_config(), server_config())
    }

    pub(super) fn opened_with(client: Config, server: Config) -> Self {
        let mut pair = Self::new(client, server);
        pair.drive();
        assert!(pair.client.connection.remote().is_some());
        assert!(pair.server.connection.remote().is_some());
        pair.clear_events();
        pair
    }

    /// With one link on which the client has this role.
    pub(super) fn attached(role: Role) -> (Self, Attached) {
        let mut pair = Self::opened();
        let session = pair.begin();
        let link = pair.attach(session, role, "link");
        (pair, link)
    }

    /// Moves bytes until both ends have nothing more to say.
    pub(super) fn drive(&mut self) {
        loop {
            self.client.turn(self.now);
            self.server.turn(self.now);
            let there = take(self.client.connection.out());
            let back = take(self.server.connection.out());
            if there.is_empty() && back.is_empty() {
                return;
            }
            self.carry(there, true);
            self.carry(back, false);
        }
    }

    fn carry(&mut self, bytes: Vec<u8>, to_server: bool) {
        let end = if to_server {
            &mut self.server
        } else {
            &mut self.client
        };
        let step = if self.byte_by_byte {
            1
        } else {
            bytes.len().max(1)
        };
        for segment in bytes.chunks(step) {
            end.connection
                .handle_input(BytesMut::from(segment), self.now);
            end.turn(self.now);
        }
    }

    /// Lets time pass, with everything that happens on the way.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.drive();
            let ends = [&self.client.connection, &self.server.connection];
            let next = ends.into_iter().filter_map(Connection::poll_timeout).min();
            match next {
                Some(next) if next <= end => {
                    assert!(next >= self.now || next <= self.now, "time is an order");
                    self.now = next.max(self.now);
                    self.client.connection.handle_timeout(self.now);
                    self.server.connection.handle_timeout(self.now);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// Begins a session from the client.
    pub(super) fn begin(&mut self) -> SessionId {
        let session = self.client.connection.begin().expect("there is room");
        self.drive();
        session
    }

    /// Attaches a link from the client, which the server accepts.
    pub(super) fn attach(&mut self, session: SessionId, role: Role, name: &str) -> Attached {
        let client = self.client.attach(session, role, name);
        self.server.events.clear();
        self.drive();
        let server = self.server.events.iter().find_map(|event| match event {
            Event::Attach { link, .. } => Some(*link),
            _ => None,
        });
        self.clear_events();
        Attached {
            session,
            client,
            server: server.expect("the attach has arrived"),
        }
    }

    pub(super) fn clear_events(&mut self) {
        self.client.events.clear();
        self.server.events.clear();
    }
}

impl End {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            events: Vec::new(),
            undecided: false,
            releases: true,
        }
    }

    /// Takes all events and flushes.
    pub(super) fn turn(&mut self, now: Instant) {
        while let Some(event) = self.connection.poll_event(now) {
            self.answer(&event);
            self.events.push(event);
        }
        self.connection.flush(now);
    }

    fn answer(&mut self, event: &Event) {
        match event {
            Event::SaslInit { .. } => self.connection.sasl_outcome(SaslCode::Ok, None),
            Event::Opened => self.connection.open(),
            Event::Attach { link, attach, .. } if !self.undecided => {
                let reply = AttachReply {
                    source: attach.source.clone(),
                    target: attach.target.clone(),
                    ..AttachReply::default()
                };
                self.connection.accept_attach(*link, reply);
            }
            Event::Transfer(transfer) if self.releases => {
                let octets = transfer.payload.len() as u32;
                (self.connection).release_window(transfer.delivery.session, 1, octets);
            }
            _ => {}
        }
    }

    pub(super) fn attach(&mut self, session: SessionId, role: Role, name: &str) -> LinkId {
        let link = self.connection.attach(session, attach(role, name));
        link.expect("there is room")
    }

    /// Starts and ends a delivery.
    pub(super) fn send(
        &mut self,
        link: LinkId,
        settled: bool,
        body: &str,
    ) -> Result<u32, NoCredit> {
        let mut payload = Bytes::copy_from_slice(body.as_bytes());
        let token = u32::try_from(body.len()).expect("bodies are short");
        let departure = departure(token, settled);
        let sent = self
            .connection
            .start_delivery(link, departure, &mut payload, false);
        assert!(payload.is_empty() || sent.is_err());
        sent
    }

    pub(super) fn transfers(&self) -> impl Iterator<Item = &TransferEvent> {
        self.events.iter().filter_map(|event| match event {
            Event::Transfer(transfer) => Some(transfer),
            _ => None,
        })
    }

    /// The payloads of all frames that arrived.
    pub(super) fn bodies(&self) -> Vec<String> {
        let text = |transfer: &TransferEvent| String::from_utf8_lossy(&transfer.payload).into();
        self.transfers().map(text).collect()
    }

    pub(super) fn deliveries(&self) -> Vec<DeliveryRef> {
        self.transfers().map(|transfer| transfer.delivery).collect()
    }

    /// Delivery-number, state and settled of all updates.
    pub(super) fn updates(&self) -> Vec<(u32, Option<DeliveryState>, bool)> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Updated {
                    id, state, settled, ..
                } => Some((*id, state.clone(), *settled)),
                _ => None,
            })
            .collect()
    }
}

pub(super) fn attach(role: Role, name: &str) -> Attach {
    let node = TargetNode {
        address: Some("address".into()),
        ..TargetNode::default()
    };
    Attach {
        name: name.into(),
        role,
        source: Some(Source {
            address: Some("address".into()),
            ..Source::default()
        }),
        target: Some(node.into()),
        ..Attach::default()
    }
}

/// Everything that waits to be written.
pub(super) fn take(out: &mut OutBuf) -> Vec<u8> {
    let mut taken = Vec::with_capacity(out.len());
    while !out.is_empty() {
        let mut iovecs = [IoSlice::new(&[]); 8];
        let filled = out.iovecs(&mut iovecs);
        let before = taken.len();
        iovecs[..filled]
            .iter()
            .for_each(|iovec| taken.extend_from_slice(iovec));
        out.advance(taken.len() - before);
    }
    taken
}

/// How a delivery with nothing special about it starts.
pub(super) fn departure(token: u32, settled: bool) -> Departure<'static> {
    Departure {
        token,
        tag: DeliveryTag::from(1),
        format: 0,
        settled,
        state: None,
        prefix: &[],
    }
}
