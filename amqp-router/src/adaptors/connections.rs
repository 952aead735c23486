//! A worker's connections, as forwarding sends to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use slab::Slab;

use crate::adaptors::amqp::AmqpConnection;
use crate::adaptors::local::LocalConnection;
use crate::adaptors::tcp::{SINK, TcpConnection};
use crate::codec::{DeliveryState, Error};
use crate::control::table::{ConnectorId, Direction, Slot};
use crate::endpoint::{DeliveryRef, OutBuf};
use crate::forwarding::stats::Pool;
use crate::forwarding::window::Places;
use crate::forwarding::wire::{Allowance, Head, Terminal, Wire};

/// Every connection of one worker, by the number that [`Terminal::connection`] holds.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Slab<Entry>,
    /// Those that have been given something to write or to tell this turn.
    dirty: Vec<u32>,
    /// Numbers for management, shared with whoever else makes connections.
    ids: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Entry {
    peer: Peer,
    dirty: bool,
}

#[derive(Debug)]
pub(crate) enum Peer {
    Amqp(Box<AmqpConnection>),
    Local(LocalConnection),
    Tcp(Box<TcpConnection>),
}

impl Connections {
    pub(crate) fn pool(&self) -> Pool {
        Pool::of("connection", &self.slots)
    }

    pub(crate) fn new(ids: Arc<AtomicU64>) -> Self {
        Self {
            ids,
            ..Self::default()
        }
    }

    /// A number for management.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// What the socket of a connection is to be written.
    pub(crate) fn output(&mut self, connection: u32) -> Option<&mut OutBuf> {
        match &mut self.slots.get_mut(connection as usize)?.peer {
            Peer::Amqp(amqp) => Some(amqp.endpoint.out()),
            Peer::Tcp(tcp) => Some(&mut tcp.out),
            Peer::Local(_) => None,
        }
    }

    /// To be called now and then: what has been waiting for a socket stops keeping alive what it
    /// was read with, and deliveries are noticed.
    pub(crate) fn tick(&mut self, now: Instant) {
        for (_, entry) in &mut self.slots {
            match &mut entry.peer {
                Peer::Tcp(tcp) => tcp.own(),
                Peer::Amqp(amqp) => amqp.tick(now),
                Peer::Local(_) => {}
            }
        }
    }

    /// AMQP connections whose peers have not read for too long, and are not cut off yet.
    pub(crate) fn slow_readers(&mut self, now: Instant) -> Vec<u32> {
        let entries = self.slots.iter_mut();
        let slow = entries.filter_map(|(number, entry)| match &mut entry.peer {
            Peer::Amqp(amqp) => (!amqp.is_cut_off && amqp.is_slow_reader(now)).then_some(number),
            Peer::Local(_) | Peer::Tcp(_) => None,
        });
        slow.filter_map(|number| u32::try_from(number).ok())
            .collect()
    }

    /// The TCP connection of this number, if there is one.
    pub(crate) fn tcp(&mut self, connection: u32) -> Option<&mut TcpConnection> {
        match self
            .slots
            .get_mut(connection as usize)
            .map(|entry| &mut entry.peer)
        {
            Some(Peer::Tcp(connection)) => Some(connection),
            _ => None,
        }
    }

    pub(crate) fn insert(&mut self, peer: Peer) -> u32 {
        self.slots.insert(Entry { peer, dirty: false }) as u32
    }

    pub(crate) fn remove(&mut self, connection: u32) -> Option<Peer> {
        self.slots
            .try_remove(connection as usize)
            .map(|entry| entry.peer)
    }

    pub(crate) fn get(&self, connection: u32) -> Option<&Peer> {
        self.slots.get(connection as usize).map(|entry| &entry.peer)
    }

    /// The AMQP connection of this number, if there is one.
    pub(crate) fn amqp(&mut self, connection: u32) -> Option<&mut AmqpConnection> {
        match self
            .slots
            .get_mut(connection as usize)
            .map(|entry| &mut entry.peer)
        {
            Some(Peer::Amqp(connection)) => Some(connection),
            _ => None,
        }
    }

    /// The local program of this number, if there is one.
    pub(crate) fn local(&mut self, connection: u32) -> Option<&mut LocalConnection> {
        match self
            .slots
            .get_mut(connection as usize)
            .map(|entry| &mut entry.peer)
        {
            Some(Peer::Local(connection)) => Some(connection),
            _ => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.slots.iter().map(|(number, _)| number as u32).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Peer)> {
        self.slots
            .iter()
            .map(|(number, entry)| (number as u32, &entry.peer))
    }

    pub(crate) fn peers(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.slots.iter_mut().map(|(_, entry)| &mut entry.peer)
    }

    /// Has a connection looked at when the turn ends.
    pub(crate) fn touch(&mut self, connection: u32) {
        if let Some(entry) = self.slots.get_mut(connection as usize)
            && !entry.dirty
        {
            entry.dirty = true;
            self.dirty.push(connection);
        }
    }

    /// A connection that was touched since it was last taken from here.
    pub(crate) fn take_dirty(&mut self) -> Option<u32> {
        loop {
            let connection = self.dirty.pop()?;
            if let Some(entry) = self.slots.get_mut(connection as usize) {
                entry.dirty = false;
                return Some(connection);
            }
        }
    }

    /// The peer at the other end of a link. Forwarding drops its links before their connection.
    fn peer(&mut self, at: Terminal) -> &mut Peer {
        let entry = &mut self.slots[at.connection as usize];
        if !entry.dirty {
            entry.dirty = true;
            self.dirty.push(at.connection);
        }
        &mut entry.peer
    }
}

impl Wire for Connections {
    fn update(
        &mut self,
        at: Terminal,
        delivery: u32,
        state: Option<&DeliveryState>,
        settled: bool,
    ) {
        match self.peer(at) {
            Peer::Amqp(amqp) => {
                let state = amqp.endpoint.known_to_source(link(at), state);
                amqp.endpoint.update(incoming(at, delivery), state, settled);
            }
            Peer::Local(local) => local.update(at.link, delivery, state, settled),
            Peer::Tcp(tcp) => tcp.update(state, settled),
        }
    }

    fn watch(&mut self, at: Terminal, delivery: u32, token: u32) {
        match self.peer(at) {
            Peer::Amqp(amqp) => amqp
                .endpoint
                .set_delivery_token(incoming(at, delivery), token),
            Peer::Local(local) => local.watch(at.link, delivery, token),
            // It never says anything of what it sends but that it is over.
            Peer::Tcp(_) => {}
        }
    }

    fn forget(&mut self, at: Terminal, delivery: u32) {
        match self.peer(at) {
            Peer::Amqp(amqp) => amqp.endpoint.forget(incoming(at, delivery)),
            Peer::Local(local) => local.forget(at.link, delivery),
            Peer::Tcp(_) => {}
        }
    }

    fn release_window(&mut self, at: Terminal, places: Places) {
        match self.peer(at) {
            Peer::Amqp(amqp) => {
                amqp.endpoint
                    .release_window(session(at), places.frames, places.octets)
            }
            Peer::Tcp(tcp) => tcp.release(places.frames),
            Peer::Local(_) => {}
        }
    }

    fn window_left(&self, at: Terminal) -> u32 {
        match &self.slots[at.connection as usize].peer {
            Peer::Amqp(amqp) => amqp.endpoint.window_left(session(at)),
            Peer::Local(_) | Peer::Tcp(_) => u32::MAX,
        }
    }

    fn credit(&self, at: Terminal) -> u32 {
        match &self.slots[at.connection as usize].peer {
            Peer::Amqp(amqp) => amqp.endpoint.credit(link(at)),
            Peer::Local(local) => local.credit(at.link),
            Peer::Tcp(_) => u32::MAX,
        }
    }

    fn set_credit(&mut self, at: Terminal, credit: u32) {
        match self.peer(at) {
            Peer::Amqp(amqp) => amqp.endpoint.set_credit(link(at), credit),
            Peer::Local(local) => local.set_credit(at.link, credit),
            Peer::Tcp(_) => {}
        }
    }

    fn drain(&mut self, at: Terminal) {
        match self.peer(at) {
            Peer::Amqp(amqp) => amqp.endpoint.drain(link(at)),
            Peer::Local(local) => local.set_credit(at.link, 0),
            Peer::Tcp(_) => {}
        }
    }

    fn detach(&mut self, at: Terminal, error: Error) {
        match self.peer(at) {
            Peer::Amqp(amqp) => amqp.endpoint.detach(link(at), true, Some(error)),
            Peer::Local(local) => local.detached(at.link, error),
            Peer::Tcp(tcp) => tcp.end(true),
        }
    }

    fn allowance(&self, at: Terminal) -> Allowance {
        match &self.slots[at.connection as usize].peer {
            Peer::Amqp(amqp) => amqp.allowance(link(at)),
            Peer::Local(local) => local.allowance(at.link),
            Peer::Tcp(tcp) => tcp.allowance(),
        }
    }

    fn start(&mut self, at: Terminal, head: Head<'_>, payload: &mut Bytes, more: bool) -> u32 {
        match self.peer(at) {
            Peer::Amqp(amqp) => amqp.start(link(at), head, payload, more),
            Peer::Local(local) => local.start(at.link, &head, std::mem::take(payload), more),
            Peer::Tcp(tcp) => tcp.start(&head, std::mem::take(payload), more),
        }
    }

    fn proceed(&mut self, at: Terminal, payload: &mut Bytes, more: bool) {
        match self.peer(at) {
            Peer::Amqp(amqp) => amqp.endpoint.continue_delivery(link(at), payload, more),
            Peer::Local(local) => local.proceed(at.link, std::mem::take(payload), more),
            Peer::Tcp(tcp) => tcp.receive(std::mem::take(payload), more),
        }
    }

    fn abort(&mut self, at: Terminal) {
        match self.peer(at) {
            Peer::Amqp(amqp) => amqp.endpoint.abort_delivery(link(at)),
            Peer::Local(local) => local.abort(at.link),
            Peer::Tcp(tcp) => tcp.cut_off(),
        }
    }

    fn update_sent(
        &mut self,
        at: Terminal,
        delivery: u32,
        state: Option<&DeliveryState>,
        settled: bool,
    ) {
        match self.peer(at) {
            Peer::Amqp(amqp) => {
                amqp.endpoint
                    .update_sent(session(at), delivery, state, settled);
            }
            Peer::Tcp(tcp) => tcp.sender_update(settled),
            Peer::Local(_) => {}
        }
    }

    fn forget_sent(&mut self, at: Terminal, delivery: u32) {
        match self.peer(at) {
            Peer::Amqp(amqp) => amqp.endpoint.forget_sent(session(at), delivery),
            Peer::Local(local) => local.forget(at.link, delivery),
            Peer::Tcp(tcp) => tcp.forget(),
        }
    }

    fn open_stream(&mut self, beside: Terminal, presettled: bool) -> Option<Terminal> {
        let Peer::Amqp(amqp) = self.peer(beside) else {
            return None;
        };
        let trunk = amqp.trunk.as_mut()?;
        let (session, link) = trunk.open_stream(&mut amqp.endpoint, presettled).ok()?;
        Some(Terminal {
            connection: beside.connection,
            session: session.0,
            link: link.0,
        })
    }

    fn bind(&mut self, at: Terminal, direction: Direction, slot: Slot) {
        match self.peer(at) {
            Peer::Amqp(amqp) => {
                amqp.endpoint
                    .set_token(link(at), token_of(direction, slot.index));
                amqp.add_link(direction, slot);
            }
            Peer::Tcp(tcp) => tcp.outgoing = Some(slot),
            Peer::Local(_) => {}
        }
    }

    fn dial(&mut self, connector: ConnectorId, trace: Option<String>) -> Terminal {
        let id = self.next_id();
        let tcp = Box::new(TcpConnection::server(id, connector, trace));
        Terminal {
            connection: self.insert(Peer::Tcp(tcp)),
            session: 0,
            link: SINK,
        }
    }

    fn close(&mut self, at: Terminal) {
        if let Peer::Amqp(amqp) = self.peer(at) {
            amqp.endpoint.detach(link(at), true, None);
        }
    }

    fn drained(&mut self, at: Terminal) {
        match self.peer(at) {
            Peer::Amqp(amqp) => amqp.endpoint.drained(link(at)),
            Peer::Local(local) => local.drained(at.link),
            Peer::Tcp(_) => {}
        }
    }
}

fn link(at: Terminal) -> crate::endpoint::LinkId {
    crate::endpoint::LinkId(at.link)
}

fn session(at: Terminal) -> crate::endpoint::SessionId {
    crate::endpoint::SessionId(at.session)
}

fn incoming(at: Terminal, delivery: u32) -> DeliveryRef {
    DeliveryRef {
        session: session(at),
        id: delivery,
    }
}

/// What an endpoint remembers with a link: direction and slot.
pub(crate) fn token_of(direction: Direction, index: u32) -> u32 {
    index << 1 | u32::from(direction == Direction::Outgoing)
}

/// The link that a token stands for.
pub(crate) fn link_of(token: u32) -> Option<(Direction, u32)> {
    if token == NO_LINK {
        return None;
    }
    let direction = if token & 1 == 1 {
        Direction::Outgoing
    } else {
        Direction::Incoming
    };
    Some((direction, token >> 1))
}

/// The token of a link that forwarding does not know.
pub(crate) const NO_LINK: u32 = u32::MAX;
