//! A socket with its buffers: whole frames come out, bytes go in, no call blocks.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::error::Error;
use crate::handshake::Established;
use crate::session::Session;
use crate::wire::{decode, encode};

/// One established connection and its session.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// May have bytes to read, as far as we know.
    pub(crate) readable: bool,
    /// May take bytes, as far as we know.
    pub(crate) writable: bool,
    pub(crate) input: Input,
    /// Frames to send. Everything but the sender's transfers goes through here.
    pub(crate) out: Vec<u8>,
    written: usize,
    pub(crate) session: Session,
    /// The largest frame the peer takes, in octets.
    pub(crate) remote_max_frame_size: usize,
    heartbeat: Heartbeat,
}

impl Connection {
    pub(crate) fn new(established: Established, now: Instant) -> Result<Self, Error> {
        let Established {
            stream,
            surplus,
            remote_open,
            remote_begin,
            ..
        } = established;
        stream.set_nonblocking(true)?;
        let max_frame_size = established.max_frame_size as usize;
        Ok(Connection {
            stream: TcpStream::from_std(stream),
            readable: true,
            writable: true,
            input: Input::new(surplus, max_frame_size),
            out: Vec::new(),
            written: 0,
            session: Session::new(established.incoming_window, remote_begin),
            remote_max_frame_size: remote_open.max_frame_size as usize,
            heartbeat: Heartbeat::new(remote_open.idle_time_out, now),
        })
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> Result<(), Error> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(registry.register(&mut self.stream, token, interest)?)
    }

    /// Reads once, if there may be something. A short read has emptied the socket, so the next
    /// event will tell of more.
    pub(crate) fn read(&mut self) -> Result<Received, Error> {
        if !self.readable {
            return Ok(Received::Nothing);
        }
        let space = self.input.space();
        let room = space.len();
        match self.stream.read(space) {
            Ok(0) => {
                self.readable = false;
                Ok(Received::Eof)
            }
            Ok(n) => {
                self.readable = n == room;
                self.input.filled(n);
                Ok(Received::Bytes)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(Received::Nothing)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Received::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what is in `out`, and says whether all of it is gone.
    pub(crate) fn flush(&mut self) -> Result<bool, Error> {
        while self.written < self.out.len() {
            if !self.writable {
                return Ok(false);
            }
            let written = self.written;
            self.written += write(&mut self.stream, &mut self.writable, &self.out[written..])?;
            self.heartbeat.wrote = true;
        }
        self.out.clear();
        self.written = 0;
        Ok(true)
    }

    /// Writes `bytes` past `out`, which must be empty, and says how many went.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        debug_assert!(self.out.is_empty());
        if !self.writable {
            return Ok(0);
        }
        self.heartbeat.wrote = true;
        write(&mut self.stream, &mut self.writable, bytes)
    }

    /// Writes a frame given in two parts. What does not go at once is kept in `out`.
    pub(crate) fn write_frame(&mut self, head: &[u8], payload: &[u8]) -> Result<(), Error> {
        let mut gone = 0;
        if self.flush()? && self.writable {
            self.heartbeat.wrote = true;
            match self
                .stream
                .write_vectored(&[IoSlice::new(head), IoSlice::new(payload)])
            {
                Ok(n) => {
                    gone = n;
                    self.writable = n == head.len() + payload.len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.out.extend_from_slice(&head[gone.min(head.len())..]);
        self.out
            .extend_from_slice(&payload[gone.saturating_sub(head.len())..]);
        Ok(())
    }

    /// Bytes in `out` that the socket has not taken.
    pub(crate) fn backlog(&self) -> usize {
        self.out.len() - self.written
    }

    /// Queues an empty frame when the peer has heard nothing for half the silence it bears
    /// (AMQP 2.4.5).
    pub(crate) fn beat(&mut self, now: Instant) {
        if self.heartbeat.is_due(now) {
            encode::heartbeat(&mut self.out);
        }
    }
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// Nothing more for now.
    Nothing,
    /// Some bytes.
    Bytes,
    /// The peer has finished writing.
    Eof,
}

fn write(stream: &mut TcpStream, writable: &mut bool, bytes: &[u8]) -> Result<usize, Error> {
    match stream.write(bytes) {
        Ok(n) => {
            *writable = n == bytes.len();
            Ok(n)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            *writable = false;
            Ok(0)
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Bytes read, of which whole frames are taken.
#[derive(Debug, Default)]
pub(crate) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    max_frame_size: usize,
}

impl Input {
    fn new(mut surplus: Vec<u8>, max_frame_size: usize) -> Self {
        let end = surplus.len();
        surplus.resize(end.max(INITIAL_INPUT), 0);
        Input {
            buffer: surplus,
            start: 0,
            end,
            max_frame_size,
        }
    }

    /// The next whole frame, without its size being checked again.
    pub(crate) fn next_frame(&mut self) -> Result<Option<&[u8]>, Error> {
        let pending = &self.buffer[self.start..self.end];
        let Some(size) = decode::frame_size(pending, self.max_frame_size)? else {
            return Ok(None);
        };
        if pending.len() < size {
            return Ok(None);
        }
        let start = self.start;
        self.start += size;
        Ok(Some(&self.buffer[start..start + size]))
    }

    /// Gives the frame of `size` octets just taken back, to be taken again later.
    pub(crate) fn put_back(&mut self, size: usize) {
        self.start -= size;
    }

    /// Room to read into. The buffer begins small, so that idle connections cost little, and grows
    /// when a read fills it.
    fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let full = self.end == self.buffer.len();
        if full && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let limit = INPUT.max(2 * self.max_frame_size);
        if self.buffer.len() - self.end < self.buffer.len() / 2 && self.buffer.len() < limit {
            self.buffer.resize((self.buffer.len() * 4).min(limit), 0);
        }
        &mut self.buffer[self.end..]
    }

    fn filled(&mut self, count: usize) {
        self.end += count;
    }
}

/// When the peer's idle-time-out wants a frame.
#[derive(Debug)]
struct Heartbeat {
    interval: Option<Duration>,
    wrote: bool,
    last: Instant,
}

impl Heartbeat {
    fn new(idle_time_out: u32, now: Instant) -> Self {
        let half = Duration::from_millis(u64::from(idle_time_out / 2));
        Heartbeat {
            interval: (idle_time_out > 0).then_some(half),
            wrote: false,
            last: now,
        }
    }

    /// Called every [`TICK`], so a beat that would fall between two calls is due at the first.
    fn is_due(&mut self, now: Instant) -> bool {
        let Some(interval) = self.interval else {
            return false;
        };
        if std::mem::take(&mut self.wrote) {
            self.last = now;
        }
        now.duration_since(self.last) + TICK >= interval
    }
}

/// How often [`Connection::beat`] is to be called.
pub(crate) const TICK: Duration = Duration::from_millis(100);
const INITIAL_INPUT: usize = 4 * 1024;
/// Large enough that a busy connection reads many frames at once, small enough for the cache.
const INPUT: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_however_they_come_in() {
        let mut wire = Vec::new();
        for size in 8u32..200 {
            wire.extend_from_slice(&size.to_be_bytes());
            wire.resize(wire.len() + size as usize - 4, 0);
        }
        let mut input = Input::new(Vec::new(), 512);
        let mut sizes = Vec::new();
        for chunk in wire.chunks(37) {
            input.space()[..chunk.len()].copy_from_slice(chunk);
            input.filled(chunk.len());
            while let Some(frame) = input.next_frame().unwrap() {
                sizes.push(frame.len());
            }
        }
        assert!(sizes.into_iter().eq(8..200));
    }

    #[test]
    fn a_frame_put_back_is_taken_again() {
        let mut input = Input::new(vec![0, 0, 0, 8, 2, 0, 0, 0], 512);
        assert_eq!(input.next_frame().unwrap().unwrap().len(), 8);
        input.put_back(8);
        assert_eq!(input.next_frame().unwrap().unwrap().len(), 8);
        assert!(input.next_frame().unwrap().is_none());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn silence_is_broken_at_half_the_idle_time_out() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut heartbeat = Heartbeat::new(1_000, start);
        assert!(!heartbeat.is_due(at(300)));
        assert!(heartbeat.is_due(at(400)));
        heartbeat.wrote = true;
        assert!(!heartbeat.is_due(at(500)));
        assert!(!Heartbeat::new(0, start).is_due(at(1_000_000)));
    }
}
