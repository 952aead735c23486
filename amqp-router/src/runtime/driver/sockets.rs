//! The sockets of a worker: reading, writing, and letting go.

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use super::Driver;
use crate::runtime::splice::Pipe;
use crate::runtime::stream::Stream;
use crate::runtime::trace::SocketTrace;
use crate::worker::ConnectionId;
use crate::worker::direct::Direct;

/// Sockets by small numbers.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    slots: Vec<Option<Socket>>,
    pub(super) count: usize,
}

impl Sockets {
    pub(super) fn insert(&mut self, number: u32, socket: Socket) {
        let index = number as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        self.slots[index] = Some(socket);
        self.count += 1;
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Socket> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    fn remove(&mut self, number: u32) -> Option<Socket> {
        let socket = self.slots.get_mut(number as usize)?.take()?;
        self.count -= 1;
        Some(socket)
    }
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stream: Stream,
    /// Notes the connection's number when the socket is ready.
    pub(super) waker: Waker,
    /// Nothing more will be read.
    pub(super) read_closed: bool,
    /// Its peer has been told that nothing more will be written.
    pub(super) write_closed: bool,
    /// Whether its peer is still there is for the system to find out, which has to be told so. Most
    /// connections end before that matters.
    pub(super) unguarded: bool,
    /// How often what it sent last needed the control plane.
    pub(super) asks: usize,
    /// So much waits for it that it is not read.
    pub(super) full: bool,
    /// TLS holds output that the socket did not take.
    pub(super) unflushed: bool,
    /// It has sent much at once, so more is likely to follow.
    pub(super) streams: bool,
    /// What it sent last may wait in the pipe of this connection.
    pub(super) fills: Option<ConnectionId>,
    /// What is to be written ahead of all that the worker has for it.
    pub(super) pipe: Option<Held>,
    pub(super) trace: Option<Box<SocketTrace>>,
}

/// A pipe in which something waits.
#[derive(Debug)]
pub(super) struct Held {
    pipe: Pipe,
    /// Who sent it; that socket is not read before it is gone.
    from: ConnectionId,
    /// The socket did not take it at once.
    waited: bool,
}

impl Driver {
    /// Reads what a socket has, within a share; true if it may have more.
    pub(super) fn read(&mut self, connection: ConnectionId, now: Instant) -> bool {
        for _ in 0..READS_PER_TURN {
            if !self.may_read(connection)
                || !self.worker.wants_input(connection)
                || self.is_held_back(connection)
            {
                return false;
            }
            let octets = match self.direct_way(connection) {
                Some(way) => self.poll_move(connection, way, now),
                None => self.poll_read(connection, now),
            };
            let failed = match octets {
                Poll::Pending => return false,
                Poll::Ready(Ok(1..)) => continue,
                Poll::Ready(Ok(0)) => None,
                Poll::Ready(Err(error)) => Some(error),
            };
            if let Some(socket) = self.sockets.get_mut(connection.0) {
                socket.read_closed = true;
                if let Some(trace) = &socket.trace {
                    trace.peer_ended();
                }
            }
            match failed {
                None => self.worker.eof(connection, false, now),
                Some(error) => self.worker.socket_failed(connection, &error, now),
            }
            return false;
        }
        if let Some(socket) = self.sockets.get_mut(connection.0) {
            socket.waker.wake_by_ref();
        }
        true
    }

    /// Whether more of what a socket sends can be taken before it ends, or what came before is
    /// through.
    fn may_read(&mut self, connection: ConnectionId) -> bool {
        let Some(socket) = self.sockets.get_mut(connection.0) else {
            return false;
        };
        if socket.read_closed {
            return false;
        }
        let Some(to) = socket.fills.take() else {
            return true;
        };
        let pipe = self.sockets.get_mut(to.0).and_then(|to| to.pipe.as_ref());
        let waits = pipe.is_some_and(|held| held.from == connection);
        if waits && let Some(socket) = self.sockets.get_mut(connection.0) {
            // It is woken when the pipe is empty.
            socket.fills = Some(to);
        }
        !waits
    }

    /// Finds sockets that have failed while they are not read, and has those that last be guarded.
    /// To be called now and then.
    pub(super) fn look_for_failures(&mut self, now: Instant) {
        for number in 0..self.sockets.slots.len() as u32 {
            let connection = ConnectionId(number);
            let Some(socket) = self.sockets.get_mut(number) else {
                continue;
            };
            if std::mem::take(&mut socket.unguarded) {
                socket.stream.keep_alive();
            }
            let waits = socket.fills.is_some() || self.worker.is_stopped(connection);
            if socket.read_closed || !waits {
                continue;
            }
            if let Some(error) = socket.stream.take_error() {
                socket.read_closed = true;
                self.worker.socket_failed(connection, &error, now);
                self.write(connection, now);
            }
        }
    }

    fn poll_read(&mut self, connection: ConnectionId, now: Instant) -> Poll<io::Result<usize>> {
        let Some(socket) = self.sockets.get_mut(connection.0) else {
            return Poll::Pending;
        };
        if self.read_buffer.capacity() - self.read_buffer.len() < READ_MINIMUM {
            self.read_buffer.reserve(READ_BUFFER);
        }
        let mut cx = Context::from_waker(&socket.waker);
        let octets = ready!(socket.stream.poll_read(&mut cx, &mut self.read_buffer))?;
        if octets > 0 {
            let input = self.read_buffer.split();
            if let Some(trace) = &mut socket.trace {
                trace.received(&input);
            }
            socket.streams = octets >= STREAM_MIN;
            let before = self.worker.requests();
            self.worker.input(connection, input, now);
            let asks = match self.worker.requests().saturating_sub(before) {
                asks if asks > 0 && self.worker.is_amqp(connection) => asks,
                _ => 0,
            };
            if let Some(socket) = self.sockets.get_mut(connection.0) {
                socket.asks = asks;
            }
        }
        Poll::Ready(Ok(octets))
    }

    /// The way that the system can move by itself what a socket sends, if it is much.
    fn direct_way(&mut self, connection: ConnectionId) -> Option<Direct> {
        let socket = self.sockets.get_mut(connection.0)?;
        if !socket.streams || !matches!(socket.stream, Stream::Tcp(_)) {
            return None;
        }
        let way = self.worker.direct(connection)?;
        let taker = self.sockets.get_mut(way.to.0)?;
        let can = matches!(taker.stream, Stream::Tcp(_)) && taker.pipe.is_none();
        (can && way.most >= STREAM_MIN as u64).then_some(way)
    }

    /// Moves what a socket has received to another.
    fn poll_move(
        &mut self,
        from: ConnectionId,
        Direct { to, most }: Direct,
        now: Instant,
    ) -> Poll<io::Result<usize>> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let Some(mut pipe) = self.pipes.take() else {
            return self.poll_read(from, now);
        };
        let octets = match self.sockets.get_mut(from.0) {
            Some(Socket {
                stream: Stream::Tcp(stream),
                waker,
                ..
            }) => pipe.poll_fill(stream, most, &mut Context::from_waker(waker)),
            _ => Poll::Pending,
        };
        if pipe.is_empty() {
            self.pipes.put_back(pipe);
            return octets;
        }
        if let Some(taker) = self.sockets.get_mut(to.0) {
            taker.pipe = Some(Held {
                pipe,
                from,
                waited: false,
            });
        }
        self.write(to, now);
        if let Some(socket) = self.sockets.get_mut(from.0) {
            socket.fills = Some(to);
            socket.streams = matches!(octets, Poll::Ready(Ok(STREAM_MIN..)));
        }
        octets
    }

    /// Gives a socket what waits for it in a pipe. False: some of that is left.
    fn empty_pipe(
        &mut self,
        connection: ConnectionId,
        room: &mut bool,
        now: Instant,
    ) -> io::Result<bool> {
        let Some(socket) = self.sockets.get_mut(connection.0) else {
            return Ok(true);
        };
        let (Stream::Tcp(stream), Some(held)) = (&socket.stream, &mut socket.pipe) else {
            return Ok(true);
        };
        let mut cx = Context::from_waker(&socket.waker);
        while !held.pipe.is_empty() {
            match held.pipe.poll_empty(stream, &mut cx)? {
                Poll::Ready(octets) => {
                    let octets = octets as u64;
                    *room |= self.worker.moved(held.from, connection, octets, now);
                }
                Poll::Pending => {
                    held.waited = true;
                    return Ok(false);
                }
            }
        }
        if let Some(held) = socket.pipe.take() {
            self.pipes.put_back(held.pipe);
            if held.waited {
                self.ready.wake(held.from.0);
            }
        }
        Ok(true)
    }

    /// Writes what a connection has to write, as far as its socket takes it, and lets go of a
    /// connection that is finished. True if links that waited for room can go on.
    pub(super) fn write(&mut self, connection: ConnectionId, now: Instant) -> bool {
        let reset = self.worker.is_reset(connection);
        let mut told = false;
        let outcome = match reset {
            true => Ok(true),
            false => self.write_all(connection, &mut told, now),
        };
        let Some(socket) = self.sockets.get_mut(connection.0) else {
            return false;
        };
        let mut cx = Context::from_waker(&socket.waker);
        let over = match outcome {
            Ok(all) => {
                if all && self.worker.wants_shutdown(connection) {
                    match socket.stream.poll_shutdown(&mut cx) {
                        Poll::Ready(Ok(())) => {
                            socket.write_closed = true;
                            self.worker.was_shut_down(connection, now);
                            told = true;
                        }
                        Poll::Ready(Err(error)) => {
                            self.worker.socket_failed(connection, &error, now);
                        }
                        Poll::Pending => {}
                    }
                }
                let over = all && self.worker.is_finished(connection);
                if over && !reset && !socket.write_closed {
                    // Not waited for: the peer has said its last word, or will not hear ours.
                    let _ = socket.stream.poll_shutdown(&mut cx);
                }
                over
            }
            Err(error) => {
                self.worker.socket_failed(connection, &error, now);
                true
            }
        };
        if !over {
            self.review_full(connection);
            return self.worker.written(connection, now) || told;
        }
        if self.worker.is_reset(connection) {
            socket.stream.reset_on_close();
        }
        self.worker.remove(connection, now);
        if let Some(socket) = self.sockets.remove(connection.0) {
            if let Some(trace) = socket.trace {
                trace.ended();
            }
            if let Some(held) = socket.pipe {
                self.pipes.put_back(held.pipe);
                self.ready.wake(held.from.0);
            }
        }
        self.ready.remove(connection.0);
        self.load.connections.fetch_sub(1, Ordering::Relaxed);
        // What it leaves behind may be for others to end.
        true
    }

    /// Writes until nothing is left (`true`) or the socket takes no more.
    fn write_all(
        &mut self,
        connection: ConnectionId,
        room: &mut bool,
        now: Instant,
    ) -> io::Result<bool> {
        if !self.empty_pipe(connection, room, now)? {
            return Ok(false);
        }
        let socket = self.sockets.get_mut(connection.0);
        let (Some(socket), Some(out)) = (socket, self.worker.output(connection)) else {
            return Ok(true);
        };
        let mut cx = Context::from_waker(&socket.waker);
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = out.iovecs(&mut slices);
            match socket.stream.poll_write(&mut cx, &slices[..count]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    if let Some(trace) = &mut socket.trace {
                        trace.sent(&slices[..count], written);
                    }
                    out.advance(written);
                    socket.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(false),
            }
        }
        if socket.unflushed {
            match socket.stream.poll_flush(&mut cx) {
                Poll::Ready(Ok(())) => socket.unflushed = false,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// How often one socket is read in one turn: enough to be efficient, few enough to be fair.
const READS_PER_TURN: usize = 2;
/// Octets in one reading that make more of them likely: moving fewer by way of a pipe costs more
/// than copying them.
const STREAM_MIN: usize = 32 * 1024;
/// Bytes of buffer that sockets are read into, shared by all of them.
const READ_BUFFER: usize = 256 * 1024;
/// Bytes of room that a reading needs to be worth a system call.
const READ_MINIMUM: usize = 16 * 1024;
const MAX_SLICES: usize = 64;
