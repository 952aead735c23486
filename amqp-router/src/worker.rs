//! One worker: the connections it owns, and the forwarding between their links.
//!
//! A worker is a state machine like everything below it. Its driver gives it what sockets read,
//! what other workers and the control plane sent, and the time; then ends the turn, writes what
//! connections have to write, and sleeps until the next deadline.

pub(crate) mod direct;
mod event;
pub(crate) mod flows;
mod lifecycle;
mod links;
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

use bytes::BytesMut;

use crate::adaptors::amqp::{AmqpConnection, ConnectionSettings, PeerInfo};
use crate::adaptors::connections::{Connections, Peer, link_of};
use crate::adaptors::tcp::WindowPool;
use crate::codec::Error;
use crate::control::links::Command;
use crate::control::table::{Direction, LinkRef, WorkerId};
use crate::endpoint::{Connection, OutBuf, Trace};
use crate::forwarding::mailbox::Mail;
use crate::forwarding::stats::Waits;
use crate::forwarding::{Forwarder, Settings};
use crate::policy::Grant;
use crate::worker::flows::Flows;
pub(crate) use event::WorkerEvent;
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
    /// It says of a stream whose service refuses that it is modified, like a skrouterd.
    #[cfg(test)]
    modifies_refused: bool,
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
            #[cfg(test)]
            modifies_refused: false,
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
            Command::Fence => self.forwarder.fence(),
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
            Command::Finish { link } => self.finish_link(link),
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
        if self.forwarder.poll_fenced() {
            let workers = self.forwarder.workers();
            self.events.push_back(WorkerEvent::Fenced { workers });
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
                self.look_again(number, now);
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
            self.count_octets(now);
        }
        self.hand_over_flows(now);
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

/// How often rates are taken and stalled receivers are looked for.
const TICK: Duration = Duration::from_secs(1);
