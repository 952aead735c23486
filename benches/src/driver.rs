//! One thread, one poll, any number of connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};

use crate::clock;
use crate::connection::{Connection, Received, TICK};
use crate::error::Error;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::tally::{Phase, Stage};
use crate::wire::decode::{self, Frame};
use crate::wire::encode;

/// A connection of either kind.
#[derive(Debug)]
pub(crate) enum Peer {
    Sender(Box<Sender>),
    Receiver(Box<Receiver>),
}

impl Peer {
    fn connection(&mut self) -> &mut Connection {
        match self {
            Peer::Sender(sender) => &mut sender.connection,
            Peer::Receiver(receiver) => &mut receiver.connection,
        }
    }

    fn turn(&mut self, phase: Phase) -> Result<bool, Error> {
        match self {
            Peer::Sender(sender) => sender.turn(phase, clock::now),
            Peer::Receiver(receiver) => receiver.turn(),
        }
    }
}

/// Drives its peers until the stage says close.
#[derive(Debug)]
pub(crate) struct Driver {
    poll: Poll,
    peers: Vec<Peer>,
    stage: Arc<Stage>,
    /// What one peer does may let another proceed, so all have their turn together.
    coupled: bool,
    /// Peers due for a turn, each once.
    due: Vec<usize>,
    is_due: Vec<bool>,
}

impl Driver {
    /// The waker makes the driver look at the stage at once.
    pub(crate) fn new(
        mut peers: Vec<Peer>,
        stage: Arc<Stage>,
        coupled: bool,
    ) -> Result<(Self, Waker), Error> {
        let poll = Poll::new()?;
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.connection().register(poll.registry(), Token(index))?;
        }
        let waker = Waker::new(poll.registry(), WAKER)?;
        let is_due = vec![false; peers.len()];
        Ok((
            Driver {
                poll,
                peers,
                stage,
                coupled,
                due: Vec::new(),
                is_due,
            },
            waker,
        ))
    }

    /// Runs to the end and gives the peers back; on an error the main thread is told too.
    pub(crate) fn run(mut self) -> Result<Vec<Peer>, Error> {
        let result = self.drive();
        if result.is_err() {
            self.stage.fail();
        } else {
            self.close();
        }
        result.map(|()| self.peers)
    }

    fn drive(&mut self) -> Result<(), Error> {
        let mut events = Events::with_capacity(1024);
        let mut next_tick = clock::now();
        let mut previous = Phase::Attach;
        loop {
            let phase = self.stage.phase();
            if phase == Phase::Close {
                return Ok(());
            }
            let now = clock::now();
            if now >= next_tick {
                next_tick = now + TICK;
                self.tick(now);
            }
            if phase != previous {
                previous = phase;
                self.schedule_all();
            }
            self.turn(phase)?;
            let patience = next_tick.saturating_duration_since(now);
            let time_out = if self.due.is_empty() {
                patience
            } else {
                Duration::ZERO
            };
            self.poll(&mut events, time_out)?;
        }
    }

    /// Heartbeats; their connections are flushed in the turn they are scheduled for.
    fn tick(&mut self, now: Instant) {
        for peer in &mut self.peers {
            peer.connection().beat(now);
        }
        self.schedule_all();
    }

    fn turn(&mut self, phase: Phase) -> Result<(), Error> {
        for index in std::mem::take(&mut self.due) {
            self.is_due[index] = false;
            let mut turns = 0;
            let mut more = true;
            while more && turns < TURNS {
                more = self.peers[index].turn(phase)?;
                turns += 1;
            }
            if more {
                self.schedule(index);
            }
            if self.coupled && turns > 1 {
                self.schedule_all();
            }
        }
        Ok(())
    }

    fn poll(&mut self, events: &mut Events, time_out: Duration) -> Result<(), Error> {
        match self.poll.poll(events, Some(time_out)) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                return Err(error.into());
            }
            _ => {}
        }
        for event in events.iter().filter(|event| event.token() != WAKER) {
            let index = event.token().0;
            let connection = self.peers[index].connection();
            connection.readable |=
                event.is_readable() || event.is_read_closed() || event.is_error();
            connection.writable |= event.is_writable();
            self.schedule(index);
        }
        Ok(())
    }

    fn schedule(&mut self, index: usize) {
        if !std::mem::replace(&mut self.is_due[index], true) {
            self.due.push(index);
        }
    }

    fn schedule_all(&mut self) {
        for index in 0..self.peers.len() {
            self.schedule(index);
        }
    }

    /// Says close on every connection and waits a little for the answers. Nothing is measured any
    /// more, so errors do not matter.
    fn close(&mut self) {
        let deadline = clock::now() + CLOSE_TIME_OUT;
        let mut open = vec![true; self.peers.len()];
        for peer in &mut self.peers {
            encode::close(&mut peer.connection().out, None);
        }
        let mut events = Events::with_capacity(1024);
        while open.contains(&true) {
            for (peer, open) in self
                .peers
                .iter_mut()
                .zip(&mut open)
                .filter(|(_, open)| **open)
            {
                *open = !farewell(peer.connection()).unwrap_or(true);
            }
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                return;
            }
            if open.contains(&true) && self.poll(&mut events, left).is_err() {
                return;
            }
        }
    }
}

/// Whether the peer's close has been seen, or its end of the stream.
fn farewell(connection: &mut Connection) -> Result<bool, Error> {
    connection.flush()?;
    loop {
        match connection.read()? {
            Received::Eof => return Ok(true),
            Received::Nothing => return Ok(false),
            Received::Bytes => {
                while let Some(frame) = connection.input.next_frame()? {
                    if matches!(decode::frame(frame)?.1, Frame::Close(_)) {
                        return Ok(true);
                    }
                }
            }
        }
    }
}

const WAKER: Token = Token(usize::MAX);
/// Turns of one peer before the others are looked at again.
const TURNS: usize = 16;
const CLOSE_TIME_OUT: Duration = Duration::from_secs(1);
