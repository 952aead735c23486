//! A connection that sends as fast as credit and windows allow.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crate::connection::{Connection, Received};
use crate::error::Error;
use crate::latency::Latency;
use crate::outcomes::Outcomes;
use crate::tally::{Phase, Tally, add};
use crate::wire::decode::{self, Attach, Disposition, Flow, Frame, LinkFlow, Outcome};
use crate::wire::encode::{self, Role, Terminus};
use crate::wire::template::{Stamp, TransferBatch};

/// What a sender sends.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Octets of body.
    pub(crate) size: usize,
    /// Sent settled.
    pub(crate) settled: bool,
    /// Messages per link; `None` for no end.
    pub(crate) count: Option<u64>,
    /// Messages per write, at most.
    pub(crate) batch: usize,
}

/// One sending connection.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) connection: Connection,
    pub(crate) tally: Arc<Tally>,
    load: Load,
    batch: TransferBatch,
    position: Position,
    links: Vec<Link>,
    /// Our link by the peer's handle.
    by_handle: Vec<Option<usize>>,
    /// The link whose turn it is.
    turn: usize,
    /// Sum of all links' credit, so that a look tells whether anything may go.
    credit: u64,
    next_delivery_id: u32,
    outcomes: Outcomes,
    latency: Option<Latency>,
}

#[derive(Debug)]
struct Link {
    sender: u64,
    sequence: u64,
    left: u64,
    credit: u32,
    attached: bool,
    credited: bool,
}

/// How far the batch has gone, in frames for the session's window and in octets for the socket.
#[derive(Debug, Default)]
struct Position {
    /// Frames patched.
    frames: usize,
    /// Frames the window has let pass.
    cleared: usize,
    /// Octets written.
    written: usize,
}

impl Sender {
    /// Queues an attach for each address. `first_link` numbers the links through the whole run.
    pub(crate) fn new(
        mut connection: Connection,
        addresses: &[String],
        first_link: u64,
        load: Load,
        latency: Option<Latency>,
    ) -> Self {
        let max_frame_size = connection.remote_max_frame_size.min(LARGEST_FRAME);
        let mut links = Vec::new();
        for (handle, address) in addresses.iter().enumerate() {
            let sender = first_link + handle as u64;
            encode::attach(
                &mut connection.out,
                &encode::Attach {
                    name: format!("bench-sender-{sender}").as_bytes(),
                    handle: handle as u32,
                    role: Role::Sender,
                    snd_settle_mode: u8::from(load.settled),
                    source: Terminus::Address(Some(address)),
                    target: Terminus::Address(Some(address)),
                },
            );
            links.push(Link {
                sender,
                sequence: 0,
                left: load.count.unwrap_or(u64::MAX),
                credit: 0,
                attached: false,
                credited: false,
            });
        }
        Sender {
            batch: TransferBatch::new(load.size, load.settled, max_frame_size, load.batch),
            connection,
            tally: Arc::default(),
            load,
            position: Position::default(),
            links,
            by_handle: Vec::new(),
            turn: 0,
            credit: 0,
            next_delivery_id: 0,
            outcomes: Outcomes::default(),
            latency,
        }
    }

    /// Reads once, then writes what may go. Says whether there is more to do at once.
    pub(crate) fn turn(&mut self, phase: Phase, now: impl Fn() -> Instant) -> Result<bool, Error> {
        let received = self.connection.read()?;
        match received {
            Received::Bytes => self.take_frames()?,
            Received::Eof => return Err(eof()),
            Received::Nothing => {}
        }
        self.observe(phase, &now);
        let wrote = self.pump(phase, &now)?;
        Ok(received == Received::Bytes || wrote)
    }

    /// The recorded latencies, at the end.
    pub(crate) fn into_latency(self) -> Option<Latency> {
        self.latency
    }

    /// Completes the round trip when outcome and message are both there.
    fn observe(&mut self, phase: Phase, now: &impl Fn() -> Instant) {
        let Some(latency) = &mut self.latency else {
            return;
        };
        let sent = self.tally.sent.load(Relaxed);
        if self.outcomes.outstanding() == 0 && latency.received() >= sent {
            latency.complete(phase == Phase::Measure, now);
        }
    }

    fn pump(&mut self, phase: Phase, now: &impl Fn() -> Instant) -> Result<bool, Error> {
        let sending = (Phase::WarmUp..=Phase::Measure).contains(&phase);
        let mut progress = false;
        loop {
            let end = self.batch.offset(self.position.cleared);
            if self.position.written < end {
                let written = self
                    .connection
                    .write(&self.batch.bytes()[self.position.written..end])?;
                if written == 0 {
                    return Ok(progress);
                }
                progress = true;
                self.position.written += written;
            } else if !self.connection.flush()? {
                // Other frames go between ours, never within one.
                return Ok(progress);
            } else if self.position.cleared < self.position.frames {
                if self.clear() == 0 {
                    return Ok(progress);
                }
            } else if !sending || self.fill(now) == 0 {
                return Ok(progress);
            } else {
                progress = true;
            }
        }
    }

    /// Lets as many patched frames pass as the session's window allows (AMQP 2.5.6).
    fn clear(&mut self) -> usize {
        let waiting = self.position.frames - self.position.cleared;
        let frames = waiting.min(self.connection.session.sendable() as usize);
        self.connection.session.sent(frames as u32);
        self.position.cleared += frames;
        frames
    }

    /// Patches a new batch over the links that have credit, and says how many messages it holds.
    fn fill(&mut self, now: &impl Fn() -> Instant) -> usize {
        if self.credit == 0 {
            return 0;
        }
        let mut room = self.batch.messages();
        if let Some(latency) = &mut self.latency {
            if !latency.start(now) {
                return 0;
            }
            room = 1;
        }
        let mut count = 0;
        for _ in 0..self.links.len() {
            count += self.fill_from(self.turn, count, room);
            self.turn = (self.turn + 1) % self.links.len();
            if count == room {
                break;
            }
        }
        if let Some(latency) = &mut self.latency
            && count == 0
        {
            latency.cancel();
        }
        if !self.load.settled {
            self.outcomes.sent(count as u32);
        }
        let frames = count * self.batch.frames_per_message();
        self.position = Position {
            frames,
            ..Position::default()
        };
        add(&self.tally.sent, count as u64);
        count
    }

    /// Patches the batch from message `from` up to `room` with one link's next messages.
    fn fill_from(&mut self, index: usize, from: usize, room: usize) -> usize {
        let link = &mut self.links[index];
        let count = (room - from)
            .min(link.credit as usize)
            .min(link.left.min(1 << 31) as usize);
        for message in from..from + count {
            let stamp = Stamp {
                sender: link.sender,
                sequence: link.sequence,
            };
            self.batch
                .patch(message, index as u32, self.next_delivery_id, stamp);
            link.sequence += 1;
            self.next_delivery_id = self.next_delivery_id.wrapping_add(1);
        }
        link.left -= count as u64;
        link.credit -= count as u32;
        self.credit -= count as u64;
        count
    }

    fn take_frames(&mut self) -> Result<(), Error> {
        let mut input = std::mem::take(&mut self.connection.input);
        while let Some(bytes) = input.next_frame()? {
            match decode::frame(bytes)?.1 {
                Frame::Disposition(disposition) => self.on_disposition(&disposition)?,
                Frame::Flow(flow) => self.on_flow(&flow)?,
                Frame::Attach(attach) => self.on_attach(&attach)?,
                Frame::Empty => {}
                other => return Err(unexpected(other)),
            }
        }
        self.connection.input = input;
        Ok(())
    }

    fn on_attach(&mut self, attach: &Attach<'_>) -> Result<(), Error> {
        let link = link_number(attach.name)
            .and_then(|number| number.checked_sub(self.links.first()?.sender))
            .and_then(|index| usize::try_from(index).ok())
            .filter(|&index| index < self.links.len())
            .ok_or(Error::Protocol("an attach for a link that is not ours"))?;
        insert(&mut self.by_handle, attach.handle, link);
        // A null target announces a refusal; the detach to come says why.
        if attach.target.is_some() && !std::mem::replace(&mut self.links[link].attached, true) {
            add(&self.tally.attached, 1);
        }
        Ok(())
    }

    fn on_flow(&mut self, flow: &Flow) -> Result<(), Error> {
        self.connection.session.on_flow(flow);
        if let Some(link) = &flow.link {
            self.on_credit(link)?;
        }
        if flow.echo {
            encode::flow(
                &mut self.connection.out,
                self.connection.session.flow(),
                None,
            );
        }
        Ok(())
    }

    /// New credit counts from the delivery-count the receiver knew (AMQP 2.6.7).
    fn on_credit(&mut self, flow: &LinkFlow) -> Result<(), Error> {
        let index = lookup(&self.by_handle, flow.handle)?;
        let link = &mut self.links[index];
        let count = link.sequence as u32;
        let under_way = count.wrapping_sub(flow.delivery_count.unwrap_or(0));
        let credit = flow.link_credit.saturating_sub(under_way);
        self.credit = self.credit - u64::from(link.credit) + u64::from(credit);
        link.credit = credit;
        if credit > 0 && !std::mem::replace(&mut link.credited, true) {
            add(&self.tally.credited, 1);
        }
        if flow.drain {
            return Err(Error::Unsupported("a router that drains"));
        }
        Ok(())
    }

    fn on_disposition(&mut self, disposition: &Disposition<'_>) -> Result<(), Error> {
        if disposition.role != Role::Receiver {
            return Ok(());
        }
        let outcome = disposition.outcome()?;
        let Disposition {
            first,
            last,
            settled,
            ..
        } = *disposition;
        if outcome.is_none() && !settled {
            return Ok(());
        }
        let count = u64::from(self.outcomes.settle(first, last)?);
        let counter = match outcome {
            Some(Outcome::Accepted) => &self.tally.accepted,
            Some(Outcome::Rejected | Outcome::Other) => &self.tally.rejected,
            // Settled without a state: the default outcome of our source, which is none.
            Some(Outcome::Released) | None => &self.tally.released,
            Some(Outcome::Modified) => &self.tally.modified,
        };
        add(counter, count);
        if !settled {
            encode::disposition(
                &mut self.connection.out,
                Role::Sender,
                first,
                last,
                disposition.state,
            );
        }
        Ok(())
    }
}

/// The number at the end of our link names.
pub(crate) fn link_number(name: &[u8]) -> Option<u64> {
    let digits = name.rsplit(|&byte| byte == b'-').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Ties a peer's handle, bounded by our handle-max, to one of our links.
pub(crate) fn insert(by_handle: &mut Vec<Option<usize>>, handle: u32, link: usize) {
    let handle = handle as usize;
    if by_handle.len() <= handle {
        by_handle.resize(handle + 1, None);
    }
    by_handle[handle] = Some(link);
}

/// The link of a peer's handle.
pub(crate) fn lookup(by_handle: &[Option<usize>], handle: u32) -> Result<usize, Error> {
    by_handle
        .get(handle as usize)
        .copied()
        .flatten()
        .ok_or(Error::Protocol("a frame for a handle that is not attached"))
}

/// What a frame means that ends something, or has no business here.
pub(crate) fn unexpected(frame: Frame<'_>) -> Error {
    match frame {
        Frame::Detach(_, error) => Error::Ended {
            performative: "detach",
            error,
        },
        Frame::End(error) => Error::Ended {
            performative: "end",
            error,
        },
        Frame::Close(error) => Error::Ended {
            performative: "close",
            error,
        },
        _ => Error::Protocol("a frame that was not due"),
    }
}

pub(crate) fn eof() -> Error {
    std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()
}

/// Peers without a limit are sent frames of at most this many octets.
const LARGEST_FRAME: usize = 1 << 20;
