//! One worker: the connections it owns, and the forwarding between their links.
//!
//! A worker is a state machine like everything below it. Its driver gives it what sockets read,
//! what other workers and the control plane sent, and the time; then ends the turn, writes what
//! connections have to write, and sleeps until the next deadline.

pub(crate) mod direct;
pub(crate) mod flows;
mod local;
mod login;
mod readers;
mod requests;
mod shortage;
mod status;
pub(crate) mod tcp;
mod trouble;
mod trunk;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::adaptors::amqp::{AmqpConnection, ConnectionSettings, ConnectionStatus, PeerInfo};
use crate::adaptors::connections::{Connections, NO_LINK, Peer, link_of, token_of};
use crate::adaptors::local::{LocalEvent, LocalLinkId};
use crate::adaptors::tcp::WindowPool;
use crate::codec::{
    Attach, Error, ReceiverSettleMode, Role, RouterAnnotations, SenderSettleMode, Target,
};
use crate::control::links::{AttachRequest, Command, LeadsTo, Loss, Termini};
use crate::control::role::Role as ConnectionRole;
use crate::control::table::{ConnectorId, Direction, LinkLoad, LinkRef, Side, Slot, WorkerId};
use crate::control::trunk::{Purpose, RouterLink, Ticket};
use crate::control::uplink::TRACKING;
use crate::endpoint::{AttachReply, Connection, Event, LinkId, OutBuf, Trace, TransferEvent};
use crate::forwarding::limits::Limits;
use crate::forwarding::links::{IncomingTraits, OutgoingTraits, Target as Destination};
use crate::forwarding::mailbox::Mail;
use crate::forwarding::stats::{Party, Trouble, Waits};
use crate::forwarding::wire::Terminal;
use crate::forwarding::{Arrival, Forwarder, Settings};
use crate::policy::Grant;
use crate::vanflow::FlowEvent;
use crate::worker::flows::Flows;
use crate::worker::tcp::{BadStream, Dial};
pub(crate) use login::{Authentication, LoginStep};
pub(crate) use shortage::Shortage;
pub(crate) use status::{Question, WorkerFigures, WorkerStatus, WorkerTotals};
pub(crate) use trouble::{Denial, Fault};

/// A connection's number in its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId(pub(crate) u32);

/// One worker of a router.
#[derive(Debug)]
pub(crate) struct Worker {
    id: WorkerId,
    connections: Connections,
    forwarder: Forwarder,
    events: VecDeque<WorkerEvent>,
    /// Connections that have something to write or are finished.
    writable: VecDeque<ConnectionId>,
    /// When connections' timers are due. A connection's latest entry is the one that counts.
    timers: BinaryHeap<Reverse<(Instant, u32)>>,
    /// TCP connections that are to be read again.
    resumed: Vec<u32>,
    next_tick: Instant,
    /// What is told in telemetry.
    flows: Flows,
    waits: Waits,
    /// What windows of TCP connections may have beyond the least.
    windows: Arc<WindowPool>,
    /// Peers that were cut off because they did not read.
    cut_off: u64,
    /// Peers that were cut off because of what they had sent.
    senders_cut_off: u64,
    /// When somebody was cut off for memory's sake, the last time.
    shed: Option<Instant>,
}

/// What a worker tells the control plane and its driver.
#[derive(Debug)]
pub(crate) enum WorkerEvent {
    /// A peer goes on authenticating: answer with [`Worker::authenticated`].
    Authenticate {
        connection: ConnectionId,
        id: u64,
        step: LoginStep,
    },
    /// The peer has opened its connection, and policy is to decide on it: answer with
    /// [`Worker::admit`] or [`Worker::close_by_id`].
    Opening {
        id: u64,
        hostname: Option<String>,
        container: String,
        user: Option<String>,
    },
    /// The peer has opened its connection, and so has the router.
    Opened(Box<ConnectionStatus>),
    /// A connection is over.
    Closed {
        id: u64,
        /// Why, if not because the peer wanted it.
        reason: Option<String>,
        /// The peer broke the rules, in a way that nobody has been told of.
        fault: Option<Fault>,
    },
    /// A peer wants to attach a link.
    Attach(Box<AttachRequest>),
    /// A link is gone.
    Detached {
        link: LinkRef,
        loss: Loss,
        /// False where it may come back, or goes with its session or connection.
        closed: bool,
    },
    /// A session of the connection `id` has ended, and not because all is done.
    SessionFailed { id: u64, error: Error },
    /// The connection `id` has sent a message that cannot be read, the first by its link.
    Malformed { id: u64, what: &'static str },
    /// A link that a peer of the connection `id` wanted was not even asked about.
    LinkRefused {
        id: u64,
        attach: Box<Attach>,
        error: Error,
    },
    /// A link that the control plane wanted is not to be had.
    NotAttached {
        ticket: Ticket,
        error: Option<Error>,
    },
    /// A neighbour has accepted a link that this router attached.
    Attached(Box<RouterLink>),
    /// A neighbour tells the control plane something.
    Heard { link: LinkRef, message: Bytes },
    /// What was announced by a link has been taken note of.
    Answered { link: LinkRef },
    /// A TCP service is to be connected to.
    Dial(Dial),
    /// A stream was rejected that was no TCP stream.
    BadStream(Box<BadStream>),
    /// A TCP service has cut off a secured connection before it has said anything.
    CutOff { connector: ConnectorId, why: String },
    /// What there is to tell of TCP connections in telemetry.
    Flows(Vec<FlowEvent>),
    /// A link of the connection `id` does not get on.
    Trouble {
        id: u64,
        link: LinkRef,
        trouble: Trouble,
    },
    /// Policy kept a connection from something that the control plane was not asked about.
    Denied(Box<Denial>),
    /// How many octets the connection to another router has written and read.
    Octets { id: u64, octets: [u64; 2] },
    /// Something for a local program.
    Local {
        connection: ConnectionId,
        event: LocalEvent,
    },
}

impl Worker {
    /// `ids` numbers connections for management, across all workers.
    pub(crate) fn new(settings: Settings, ids: Arc<AtomicU64>, now: Instant) -> Self {
        Self {
            id: settings.worker,
            connections: Connections::new(ids),
            resumed: Vec::new(),
            forwarder: Forwarder::new(settings),
            events: VecDeque::new(),
            writable: VecDeque::new(),
            timers: BinaryHeap::new(),
            next_tick: now + TICK,
            flows: Flows::default(),
            waits: Waits::default(),
            windows: Arc::default(),
            cut_off: 0,
            senders_cut_off: 0,
            shed: None,
        }
    }

    /// Windows of TCP connections are drawn from what others draw from, too.
    pub(crate) fn share_windows(&mut self, pool: Arc<WindowPool>) {
        self.windows = pool;
    }

    /// Adopts a connection that a listener has accepted or a connector has made.
    pub(crate) fn add_connection(
        &mut self,
        id: u64,
        endpoint: Connection,
        settings: Arc<ConnectionSettings>,
        peer: PeerInfo,
    ) -> ConnectionId {
        let connection = AmqpConnection::new(id, endpoint, settings, peer);
        let number = self.connections.insert(Peer::Amqp(Box::new(connection)));
        self.connections.touch(number);
        ConnectionId(number)
    }

    /// What a connection's socket is to be written.
    pub(crate) fn output(&mut self, connection: ConnectionId) -> Option<&mut OutBuf> {
        self.connections.output(connection.0)
    }

    /// Takes what a connection's socket has read.
    pub(crate) fn input(&mut self, connection: ConnectionId, input: BytesMut, now: Instant) {
        if let Some(amqp) = self.connections.amqp(connection.0) {
            amqp.octets_read += input.len() as u64;
            amqp.endpoint.handle_input(input, now);
            self.process(connection, now);
        } else {
            self.tcp_input(connection.0, input.freeze(), now);
        }
    }

    /// A connection's socket has ended, or failed.
    pub(crate) fn eof(&mut self, connection: ConnectionId, failed: bool, now: Instant) {
        if let Some(amqp) = self.connections.amqp(connection.0) {
            amqp.endpoint.handle_eof();
            self.process(connection, now);
        } else {
            self.tcp_eof(connection.0, failed, now);
        }
    }

    /// A connection's socket has taken some output. True if that lets links go on that waited for
    /// it.
    pub(crate) fn written(&mut self, connection: ConnectionId, now: Instant) -> bool {
        match self.connections.amqp(connection.0) {
            Some(amqp) => amqp.has_room() && self.forwarder.room_changed(connection.0),
            None => self.tcp_written(connection.0, now),
        }
    }

    /// Whether nothing more will come of a connection: once its output is written, or cannot be,
    /// [`remove`](Self::remove) it.
    pub(crate) fn is_finished(&mut self, connection: ConnectionId) -> bool {
        match self.connections.get(connection.0) {
            Some(Peer::Amqp(amqp)) => amqp.endpoint.is_finished(),
            Some(Peer::Tcp(tcp)) => tcp.is_over(),
            Some(Peer::Local(_)) | None => true,
        }
    }

    /// Forgets a connection.
    pub(crate) fn remove(&mut self, connection: ConnectionId, now: Instant) {
        self.drop_links(connection, now);
        match self.connections.remove(connection.0) {
            Some(Peer::Amqp(mut amqp)) if !amqp.endpoint.is_finished() => {
                let id = amqp.id;
                let octets = amqp.take_octets();
                let octets = octets.map(|octets| WorkerEvent::Octets { id, octets });
                self.events.extend(octets);
                self.events.push_back(WorkerEvent::Closed {
                    id,
                    reason: None,
                    fault: None,
                });
            }
            Some(Peer::Tcp(mut tcp)) => {
                if let Some(service) = &tcp.service {
                    service.counts.closed.fetch_add(1, Ordering::Relaxed);
                }
                self.flows.finish_observing(&mut tcp, &mut self.waits, now);
                self.end_flow(&mut tcp, now);
            }
            _ => {}
        }
        self.forwarder.connection_closed(connection.0);
    }

    /// Closes a connection, with an error if there is one to tell.
    pub(crate) fn close(&mut self, connection: ConnectionId, error: Option<Error>, now: Instant) {
        if let Some(amqp) = self.connections.amqp(connection.0) {
            amqp.endpoint.close(error, now);
            self.process(connection, now);
        } else {
            self.end_tcp(connection.0, true);
        }
    }

    /// Closes the connection that management knows as `id`, if it is on this worker.
    pub(crate) fn close_by_id(&mut self, id: u64, error: Option<Error>, now: Instant) {
        if let Some(connection) = self.by_id(id) {
            self.close(connection, error, now);
        }
    }

    /// The AMQP connection that management knows as `id`, and a trace of it from now on.
    pub(crate) fn trace(&mut self, id: u64) -> Option<(ConnectionId, Trace)> {
        let connection = self.by_id(id)?;
        let amqp = self.connections.amqp(connection.0)?;
        Some((connection, amqp.endpoint.trace()))
    }

    fn by_id(&self, id: u64) -> Option<ConnectionId> {
        self.connections
            .iter()
            .find_map(|(number, peer)| match peer {
                Peer::Amqp(amqp) if amqp.id == id => Some(ConnectionId(number)),
                Peer::Tcp(tcp) if tcp.id == id => Some(ConnectionId(number)),
                _ => None,
            })
    }

    /// Answers [`WorkerEvent::Opening`]: the peer may connect, and do what the grant says.
    pub(crate) fn admit(&mut self, id: u64, grant: Arc<Grant>, now: Instant) {
        if let Some(connection) = self.by_id(id)
            && let Some(amqp) = self.connections.amqp(connection.0)
        {
            amqp.set_grant(grant);
            self.opened(connection, now);
            self.process(connection, now);
        }
    }

    /// Closes every connection, as a router that stops does.
    pub(crate) fn close_all(&mut self, error: Option<Error>, now: Instant) {
        for number in self.connections.numbers() {
            self.close(ConnectionId(number), error.clone(), now);
        }
    }

    /// AMQP connections and local programs.
    #[cfg(test)]
    pub(crate) fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// The deliveries that are here.
    #[cfg(test)]
    pub(crate) fn describe_deliveries(&self) -> String {
        self.forwarder.describe()
    }

    /// Takes a message from another worker.
    pub(crate) fn mail(&mut self, mail: Mail) {
        self.forwarder.receive(&mut self.connections, mail);
    }

    /// A message for another worker.
    pub(crate) fn poll_mail(&mut self) -> Option<(WorkerId, Mail)> {
        self.forwarder.poll_mail()
    }

    /// How many events wait to be polled.
    pub(crate) fn requests(&self) -> usize {
        self.events.len()
    }

    /// The next thing that the control plane or the driver must know.
    pub(crate) fn poll_event(&mut self) -> Option<WorkerEvent> {
        self.events.pop_front()
    }

    /// A connection whose output is to be written, or which is finished.
    pub(crate) fn poll_writable(&mut self) -> Option<ConnectionId> {
        self.writable.pop_front()
    }

    /// Carries out what the control plane has decided.
    pub(crate) fn command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Table(update) => self.forwarder.update_table(update),
            Command::Identity(identity) => self.forwarder.set_identity(identity),
            Command::Rule { pattern, treatment } => self.forwarder.set_rule(&pattern, treatment),
            Command::Accept {
                link,
                termini,
                leads_to,
            } => self.accept(link, termini, leads_to),
            Command::Refuse { link, error } => self.refuse(link, error, now),
            Command::Attach {
                connection,
                ticket,
                attach,
            } => self.attach_proxy(connection, ticket, *attach),
            Command::Open {
                link,
                leads_to,
                address,
            } => self.open_proxy(link, leads_to, address.as_deref()),
            Command::Detach { link } => self.detach_proxy(link),
            Command::Finish { link } => self.finish_link(link, now),
            Command::GiveBack { link } => {
                self.forwarder
                    .give_back(&mut self.connections, now, link.slot);
            }
            Command::Close { connection, error } => {
                self.close_by_id(connection, Some(error), now);
            }
            Command::Tell { link, message } => {
                self.forwarder
                    .tell(&mut self.connections, now, link.slot, message, true);
            }
            Command::Announce { link, message } => {
                self.forwarder
                    .tell(&mut self.connections, now, link.slot, message, false);
            }
        }
    }

    /// Ends the turn: sends what can be sent, tops up credit, and has every connection that was
    /// touched put its frames together.
    pub(crate) fn end_turn(&mut self, now: Instant) {
        while self.end_round(now) {}
    }

    /// True if the end of the turn has given forwarding more to do.
    fn end_round(&mut self, now: Instant) -> bool {
        self.forwarder.end_turn(&mut self.connections, now);
        while let Some((slot, message)) = self.forwarder.poll_heard() {
            let link = LinkRef {
                worker: self.id,
                direction: Direction::Incoming,
                slot,
            };
            self.events.push_back(WorkerEvent::Heard { link, message });
        }
        while let Some(slot) = self.forwarder.poll_answered() {
            let link = LinkRef {
                worker: self.id,
                direction: Direction::Outgoing,
                slot,
            };
            self.events.push_back(WorkerEvent::Answered { link });
        }
        self.tell_refused();
        let mut more = false;
        while let Some(number) = self.connections.take_dirty() {
            more |= self.finish_turn(ConnectionId(number), now);
        }
        more
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let ticks = self.connections.len() > 0 || self.forwarder.prefers_others();
        let tick = ticks.then_some(self.next_tick);
        let timer = self.timers.peek().filter(|_| ticks);
        let timer = timer.map(|Reverse((due, _))| *due);
        [tick, timer, self.flows.due].into_iter().flatten().min()
    }

    /// Does what is due: connections' timers and, once a second, the rates of links.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&Reverse((due, number))) = self.timers.peek()
            && due <= now
        {
            self.timers.pop();
            let Some(amqp) = self.connections.amqp(number) else {
                continue;
            };
            if amqp.timer == Some(due) {
                amqp.timer = None;
                amqp.endpoint.handle_timeout(now);
                self.process(ConnectionId(number), now);
            }
        }
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.forwarder.tick(&mut self.connections, now);
            self.tell_troubles();
            self.connections.tick(now);
            self.cut_off_slow_readers(now);
            self.end_lingering(now);
            self.try_again(now);
            self.count_octets(now);
        }
        self.hand_over_flows(now);
    }

    /// Handles everything that a connection's endpoint has to say.
    fn process(&mut self, connection: ConnectionId, now: Instant) {
        self.connections.touch(connection.0);
        loop {
            let Some(amqp) = self.connections.amqp(connection.0) else {
                return;
            };
            let Some(event) = amqp.endpoint.poll_event(now) else {
                return;
            };
            match event {
                Event::Transfer(transfer) => self.transfer(transfer, now),
                Event::Updated {
                    role,
                    token,
                    state,
                    settled,
                    ..
                } => match role {
                    Role::Receiver => self.forwarder.receiver_update(
                        &mut self.connections,
                        now,
                        token,
                        state,
                        settled,
                    ),
                    Role::Sender => {
                        self.forwarder
                            .sender_update(&mut self.connections, token, state, settled);
                    }
                },
                Event::Flow { token, .. } => match link_of(token) {
                    Some((Direction::Outgoing, index)) => {
                        self.forwarder
                            .credit_changed(&mut self.connections, now, index);
                    }
                    Some((Direction::Incoming, index)) => self.forwarder.credit_returned(index),
                    None => {}
                },
                Event::Window => {
                    self.forwarder.room_changed(connection.0);
                }
                other => self.lifecycle(connection, other, now),
            }
        }
    }

    fn transfer(&mut self, transfer: TransferEvent, now: Instant) {
        let Some((Direction::Incoming, link)) = link_of(transfer.token) else {
            return;
        };
        let arrival = Arrival {
            link,
            number: transfer.delivery.id,
            first: transfer.first.map(|first| first.format),
            settled: transfer.settled,
            state: transfer.state,
            payload: transfer.payload,
            more: transfer.more,
            aborted: transfer.aborted,
        };
        self.forwarder.transfer(&mut self.connections, now, arrival);
    }

    /// Handles what happens rarely.
    fn lifecycle(&mut self, connection: ConnectionId, event: Event, now: Instant) {
        let Some(amqp) = self.connections.amqp(connection.0) else {
            return;
        };
        match event {
            Event::SaslInit {
                mechanism,
                response,
                ..
            } => self.authenticate(
                connection,
                LoginStep::Init {
                    mechanism,
                    response,
                },
            ),
            Event::SaslResponse(response) => {
                self.authenticate(connection, LoginStep::Response(response));
            }
            Event::SaslChosen(mechanism) => {
                self.authenticate(connection, LoginStep::Chosen(mechanism));
            }
            Event::SaslChallenge(challenge) => {
                self.authenticate(connection, LoginStep::Challenge(challenge));
            }
            Event::SaslSuccess(proof) => self.authenticate(connection, LoginStep::Success(proof)),
            Event::Opened if amqp.settings.governed && amqp.peer.grant.is_none() => {
                let open = amqp.endpoint.remote();
                self.events.push_back(WorkerEvent::Opening {
                    id: amqp.id,
                    hostname: open.and_then(|open| open.hostname.clone()),
                    container: open
                        .map(|open| open.container_id.clone())
                        .unwrap_or_default(),
                    user: amqp.peer.user.clone(),
                });
            }
            Event::Opened => self.opened(connection, now),
            Event::Begun(session) => self.attach_trunk_links(connection, session),
            Event::Attached {
                link,
                token,
                attach,
            } => self.attached(connection, link, token, &attach),
            Event::Attach {
                link,
                session,
                attach,
            } => {
                let terminal = Terminal {
                    connection: connection.0,
                    session: session.0,
                    link: link.0,
                };
                let capacity = amqp.settings.link_capacity;
                let (id, role) = (amqp.id, amqp.role);
                let (reference, request) =
                    self.attach_request(terminal, id, role, attach, capacity);
                let token = token_of(reference.direction, reference.slot.index);
                if let Some(amqp) = self.connections.amqp(connection.0) {
                    amqp.endpoint.set_token(link, token);
                    amqp.add_link(reference.direction, reference.slot);
                }
                self.events.push_back(WorkerEvent::Attach(request));
            }
            Event::Refused { attach, error } => {
                let id = amqp.id;
                self.events
                    .push_back(WorkerEvent::LinkRefused { id, attach, error });
            }
            Event::Detached {
                link,
                token,
                closed,
                error,
            } => {
                let asked = amqp.trunk.as_mut().and_then(|trunk| trunk.attached(link));
                if let Some(Purpose::Proxy(ticket)) = asked {
                    let error = error.clone();
                    self.events
                        .push_back(WorkerEvent::NotAttached { ticket, error });
                }
                let denial = error.as_ref().and_then(|why| Denial::of_size(amqp, why));
                self.events.extend(denial);
                if let Some((direction, index)) = link_of(token) {
                    self.detached(connection, (direction, index), closed, error, now);
                }
            }
            Event::Ended { session, error } => {
                if let Some(error) = &error {
                    self.events.push_back(WorkerEvent::SessionFailed {
                        id: amqp.id,
                        error: error.clone(),
                    });
                }
                let trunk = amqp.trunk.as_mut();
                let waiting = trunk.map(|trunk| trunk.ended(session)).unwrap_or_default();
                for (ticket, _) in waiting {
                    let error = error.clone();
                    self.events
                        .push_back(WorkerEvent::NotAttached { ticket, error });
                }
            }
            Event::Closed { error, local } => {
                let id = amqp.id;
                let octets = amqp.take_octets();
                let octets = octets.map(|octets| WorkerEvent::Octets { id, octets });
                self.events.extend(octets);
                let fault = local.as_ref().and_then(Fault::of);
                let denial = local
                    .as_ref()
                    .and_then(|local| Denial::of_session(amqp, local));
                self.events.extend(denial);
                let reason = match (error, local) {
                    (_, Some(local)) => Some(local.to_string()),
                    (Some(error), None) => Some(error.to_string()),
                    (None, None) => None,
                };
                self.drop_links(connection, now);
                self.events
                    .push_back(WorkerEvent::Closed { id, reason, fault });
            }
            // Sessions need nothing of the router.
            _ => {}
        }
    }

    /// Opens a connection whose peer has opened it.
    fn opened(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(amqp) = self.connections.amqp(connection.0) {
            amqp.peer.opened_at = Some(now);
            amqp.endpoint.open();
            if let Some(open) = amqp.endpoint.remote() {
                amqp.role = amqp.role.demoted(&open.properties);
            }
            let status = Box::new(amqp.status());
            self.events.push_back(WorkerEvent::Opened(status));
            self.begin_trunk(connection, now);
        }
    }

    /// Makes the forwarding half of a link that a peer wants to attach.
    fn attach_request(
        &mut self,
        terminal: Terminal,
        connection: u64,
        role: ConnectionRole,
        attach: Box<Attach>,
        capacity: u32,
    ) -> (LinkRef, Box<AttachRequest>) {
        let direction = match attach.role {
            Role::Sender => Direction::Incoming,
            Role::Receiver => Direction::Outgoing,
        };
        let (link, load) = self.add_link(terminal, direction, role, connection, &attach, capacity);
        let request = AttachRequest {
            link,
            connection,
            role,
            attach,
            capacity,
            load,
        };
        (link, Box::new(request))
    }

    /// Makes the forwarding half of a link; an outgoing one has a load.
    fn add_link(
        &mut self,
        terminal: Terminal,
        direction: Direction,
        role: ConnectionRole,
        connection: u64,
        attach: &Attach,
        capacity: u32,
    ) -> (LinkRef, Option<Arc<LinkLoad>>) {
        let amqp = self.connections.amqp(terminal.connection);
        let annotated = amqp.as_ref().map(|amqp| amqp.annotated());
        let annotated = annotated.unwrap_or_default();
        let is_foreign = amqp.is_some_and(|amqp| amqp.is_foreign());
        let (slot, load) = match direction {
            Direction::Incoming => {
                let traits = IncomingTraits {
                    annotated: annotated.incoming,
                    capacity,
                    confirms: attach.rcv_settle_mode == ReceiverSettleMode::Second,
                    from_router: role.is_annotated(),
                    settles_whole: role.is_annotated() && is_foreign,
                    side: Side::of(role, connection, self.forwarder.is_edge()),
                    flags: flags_of(attach),
                    tries_again: false,
                    party: party(role, connection),
                };
                (self.forwarder.add_incoming(terminal, traits), None)
            }
            Direction::Outgoing => {
                let traits = OutgoingTraits {
                    annotated: annotated.outgoing,
                    capacity: match is_tracking(attach) {
                        // What an edge router is to know must not be dropped.
                        true => u32::MAX,
                        false => capacity,
                    },
                    presettle: attach.snd_settle_mode == SenderSettleMode::Settled,
                    to_router: role.is_annotated(),
                    is_stream: false,
                    party: party(role, connection),
                };
                let (slot, load) = self.forwarder.add_outgoing(terminal, traits);
                (slot, Some(load))
            }
        };
        let link = LinkRef {
            worker: self.id,
            direction,
            slot,
        };
        (link, load)
    }

    fn accept(&mut self, link: LinkRef, termini: Box<Termini>, leads_to: LeadsTo) {
        let Some(terminal) = self.terminal(link) else {
            return;
        };
        let address = match &termini.target {
            Some(Target::Node(node)) => node.address.clone(),
            _ => None,
        };
        match self.connections.get(terminal.connection) {
            Some(Peer::Amqp(_)) => {
                if let Some(amqp) = self.connections.amqp(terminal.connection) {
                    let max_message_size = amqp.max_message_size();
                    let limits = Limits {
                        max_message_size,
                        grant: amqp.peer.grant.clone(),
                    };
                    if link.direction == Direction::Incoming {
                        self.forwarder.limit_incoming(link.slot, limits);
                    }
                    let Termini { source, target } = *termini;
                    let reply = AttachReply {
                        source,
                        target,
                        max_message_size,
                        ..Default::default()
                    };
                    amqp.endpoint.accept_attach(LinkId(terminal.link), reply);
                }
            }
            _ => {
                if let Some(local) = self.connections.local(terminal.connection) {
                    let link = LocalLinkId(terminal.link);
                    local.notify(LocalEvent::Attached { link, termini });
                }
            }
        }
        self.connections.touch(terminal.connection);
        if let Some(target) = target_of(leads_to) {
            self.forwarder
                .open_incoming(link.slot, target, address.as_deref());
        }
    }

    fn refuse(&mut self, link: LinkRef, error: Error, now: Instant) {
        let Some(terminal) = self.terminal(link) else {
            return;
        };
        self.connections.touch(terminal.connection);
        if let Some(amqp) = self.connections.amqp(terminal.connection) {
            amqp.endpoint.set_token(LinkId(terminal.link), NO_LINK);
            amqp.endpoint.refuse_attach(LinkId(terminal.link), error);
            amqp.remove_link(link.direction, link.slot);
        } else if let Some(local) = self.connections.local(terminal.connection) {
            let refused = LocalLinkId(terminal.link);
            local.remove_link(refused);
            local.notify(LocalEvent::Refused {
                link: refused,
                error,
            });
        }
        self.remove_link(link.direction, link.slot, now);
    }

    fn terminal(&self, link: LinkRef) -> Option<Terminal> {
        match link.direction {
            Direction::Incoming => self.forwarder.incoming_terminal(link.slot),
            Direction::Outgoing => self.forwarder.outgoing_terminal(link.slot),
        }
    }

    /// A peer has detached a link.
    fn detached(
        &mut self,
        at: ConnectionId,
        (direction, index): (Direction, u32),
        closed: bool,
        error: Option<Error>,
        now: Instant,
    ) {
        let slot = self.forwarder.slot(direction, index);
        if let Some(amqp) = self.connections.amqp(at.0) {
            amqp.remove_link(direction, slot);
        }
        self.remove_link(direction, slot, now);
        let link = LinkRef {
            worker: self.id,
            direction,
            slot,
        };
        let loss = Loss::Detached(error);
        self.events
            .push_back(WorkerEvent::Detached { link, loss, closed });
    }

    fn remove_link(&mut self, direction: Direction, slot: Slot, now: Instant) {
        match direction {
            Direction::Incoming => self.forwarder.remove_incoming(&mut self.connections, slot),
            Direction::Outgoing => self
                .forwarder
                .remove_outgoing(&mut self.connections, now, slot),
        }
    }

    /// Every link of a connection goes with it.
    fn drop_links(&mut self, connection: ConnectionId, now: Instant) {
        let links = match self.connections.get(connection.0) {
            Some(Peer::Amqp(_)) => self
                .connections
                .amqp(connection.0)
                .map(AmqpConnection::take_links),
            Some(Peer::Local(local)) => Some(local.slots()),
            Some(Peer::Tcp(tcp)) => {
                for (direction, slot) in tcp.slots() {
                    self.remove_link(direction, slot, now);
                }
                None
            }
            None => None,
        };
        for (direction, slot) in links.unwrap_or_default() {
            self.remove_link(direction, slot, now);
            let link = LinkRef {
                worker: self.id,
                direction,
                slot,
            };
            self.events.push_back(WorkerEvent::Detached {
                link,
                loss: Loss::Connection,
                closed: false,
            });
        }
    }

    /// Puts a connection's frames together, or takes a local program's events.
    /// True if that gave forwarding something to do.
    fn finish_turn(&mut self, connection: ConnectionId, now: Instant) -> bool {
        if let Some(amqp) = self.connections.amqp(connection.0) {
            amqp.endpoint.flush(now);
            if !amqp.endpoint.out().is_empty() || amqp.endpoint.is_finished() {
                self.writable.push_back(connection);
            }
            if let Some(due) = amqp.endpoint.poll_timeout()
                && amqp.timer.is_none_or(|timer| due < timer)
            {
                amqp.timer = Some(due);
                self.timers.push(Reverse((due, connection.0)));
            }
        } else if let Some(local) = self.connections.local(connection.0) {
            for event in local.take_events() {
                self.events
                    .push_back(WorkerEvent::Local { connection, event });
            }
        } else {
            return self.tcp_turn(connection, now);
        }
        false
    }
}

/// What forwarding calls the place that an incoming link leads to.
fn target_of(leads_to: LeadsTo) -> Option<Destination> {
    match leads_to {
        LeadsTo::Address(id) => Some(Destination::Address(id)),
        LeadsTo::EachMessage => Some(Destination::Anonymous),
        LeadsTo::Control => Some(Destination::Control),
        LeadsTo::ItsReceiver => None,
    }
}

/// Whether an edge router learns by a link which addresses somebody receives from.
fn is_tracking(attach: &Attach) -> bool {
    let source = attach.source.as_ref();
    source.and_then(|source| source.address.as_deref()) == Some(TRACKING)
}

/// What messages of an incoming link ask of routers: flags of the router annotations.
fn flags_of(attach: &Attach) -> u32 {
    let flag = |capability, flag| match target_has(attach, capability) {
        true => flag,
        false => 0,
    };
    flag("qd.streaming-deliveries", RouterAnnotations::STREAMING)
        | flag("qd.resend-released", RouterAnnotations::RESEND_RELEASED)
}

/// Whether the target of a link has a capability.
fn target_has(attach: &Attach, capability: &str) -> bool {
    match &attach.target {
        Some(Target::Node(node)) => node.capabilities.iter().any(|c| c.as_str() == capability),
        _ => false,
    }
}

/// How often rates are taken and stalled receivers are looked for.
const TICK: Duration = Duration::from_secs(1);

/// Who a link's peer is to counters. Programs have no connection.
fn party(role: ConnectionRole, connection: u64) -> Party {
    match role {
        ConnectionRole::RouteContainer => Party::Container,
        _ if connection == 0 => Party::Program,
        _ => Party::Any,
    }
}
