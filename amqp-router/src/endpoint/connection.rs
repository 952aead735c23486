use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::config::{Config, SaslPolicy};
use super::deliveries::Walk;
use super::error::{ConnectionError, Fault, SessionError};
use super::event::{Event, LinkId};
use super::input::Input;
use super::link::LinkTable;
use super::output::OutBuf;
use super::sasl::{HeaderDue, Sasl};
use super::sessions::{Ending, SessionTable};
use super::timer::{Timer, TimerTable};
use super::trace::Trace;
use crate::codec::{
    DecodeError, FrameHeader, FrameKind, Open, Performative, Reader, Role, Symbol, condition,
};

/// One AMQP connection, of either side.
#[derive(Debug)]
pub(crate) struct Connection {
    /// What our open tells the peer that we call it.
    pub(super) id: Option<u64>,
    pub(super) config: Arc<Config>,
    pub(super) state: State,
    pub(super) open_sent: bool,
    /// The owner has been told that it is over.
    pub(super) told_closed: bool,
    /// The connection may be reset if the peer does not answer our close.
    pub(super) resettable: bool,
    input: Input,
    pub(super) out: OutBuf,
    pub(super) timers: TimerTable,
    last_received: Instant,
    pub(super) last_sent: Instant,
    /// How often the peer wants to hear from us.
    pub(super) heartbeat: Option<Duration>,
    remote: Option<Box<Open>>,
    pub(super) remote_max_frame_size: usize,
    pub(super) sessions: SessionTable,
    pub(super) links: LinkTable,
    /// Links that a peer's attach can mean, by our role and name.
    pub(super) names: [HashMap<Arc<str>, u32>; 2],
    pub(super) walk: Option<Walk>,
    /// What is to be told before the next frame is decoded; rarely more than one.
    pub(super) pending: VecDeque<Told>,
    /// The SASL mechanism that we, the client, have chosen.
    pub(super) chosen_mechanism: Option<Symbol>,
}

/// ```text
///  Header ──> Sasl ──> Header ──> OpenDue ──(open)──> Opened ──(close)──> Finished
///     └──────────────────────────────^ └─────close─────┴──> Closing ──(close)──^
/// ```
#[derive(Debug)]
pub(super) enum State {
    /// The peer's protocol header is due.
    Header(HeaderDue),
    Sasl(Sasl),
    /// Headers have been exchanged; the peer's open is due.
    OpenDue,
    Opened,
    /// Our close is sent. Whatever comes before the peer's close is ignored.
    Closing,
    Finished,
}

/// What is still to be told to the owner.
#[derive(Debug)]
pub(super) enum Told {
    Event(Event),
    /// All about the links of a session, and then about its end.
    Ending(Ending),
}

/// What handling the next piece of input came to.
#[derive(Debug)]
pub(super) enum Step {
    Event(Event),
    /// Nothing to tell; there may be more input.
    Again,
    /// More input is needed, or the owner's decision.
    Starved,
}

impl Connection {
    /// The end of a connection that a peer has made. `now` is when it was made: what the peer may
    /// take until it has opened counts from there.
    pub(crate) fn server(config: Arc<Config>, now: Instant) -> Self {
        Self::new(config, State::Header(HeaderDue::First), now)
    }

    /// The same, whose open tells the peer what we call the connection.
    pub(crate) fn server_as(id: u64, config: Arc<Config>, now: Instant) -> Self {
        Self {
            id: Some(id),
            ..Self::server(config, now)
        }
    }

    /// The end of a connection that we have made; it starts and opens on its own.
    #[cfg(any(test, feature = "benchmarks"))]
    pub(crate) fn client(config: Arc<Config>, now: Instant) -> Self {
        Self::client_of(None, config, now)
    }

    /// The same, whose open tells the peer what we call the connection.
    pub(crate) fn client_as(id: u64, config: Arc<Config>, now: Instant) -> Self {
        Self::client_of(Some(id), config, now)
    }

    fn client_of(id: Option<u64>, config: Arc<Config>, now: Instant) -> Self {
        let due = match config.sasl {
            SaslPolicy::Client(Some(_)) => HeaderDue::FromSaslServer,
            _ => HeaderDue::FromServer,
        };
        let mut connection = Self::new(config, State::Header(due), now);
        connection.id = id;
        connection.start_client(due);
        connection
    }

    fn new(config: Arc<Config>, state: State, now: Instant) -> Self {
        let mut timers = TimerTable::default();
        timers.set(Timer::Handshake, now + config.handshake_time_out);
        Self {
            id: None,
            config,
            state,
            open_sent: false,
            told_closed: false,
            resettable: false,
            input: Input::default(),
            out: OutBuf::default(),
            timers,
            last_received: now,
            last_sent: now,
            heartbeat: None,
            remote: None,
            remote_max_frame_size: usize::MAX,
            sessions: SessionTable::default(),
            links: LinkTable::default(),
            names: Default::default(),
            walk: None,
            pending: VecDeque::new(),
            chosen_mechanism: None,
        }
    }

    /// Has the connection open with another configuration, as what is known of the peer by now
    /// asks for. Once our open is sent it is too late, and nothing changes.
    pub(crate) fn reconfigure(&mut self, config: Arc<Config>) {
        if !self.open_sent {
            self.config = config;
        }
    }

    pub(crate) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Takes what was read from the socket; `poll_event` decodes it.
    ///
    /// Frames are decoded where they lie, and payloads refer to `input`.
    pub(crate) fn handle_input(&mut self, input: BytesMut, _now: Instant) {
        if self.is_finished() {
            return;
        }
        self.input.push(input.freeze());
        if self.is_waiting_for_owner() && self.input.len() > EARLY_INPUT_MAX {
            self.drop_peer(ConnectionError::Limit("what was sent ahead of our answer"));
        }
    }

    /// The peer will send nothing more, whether it said so or the network did.
    pub(crate) fn handle_eof(&mut self) {
        self.finish(None, Some(ConnectionError::Eof));
    }

    /// The same where it is known why, as of an alert of TLS.
    pub(crate) fn handle_broken(&mut self, why: String) {
        self.finish(None, Some(ConnectionError::Broken(why)));
    }

    /// The next event, decoding no further than the frame that it comes from.
    ///
    /// To be called until there is none after input, end of input, a time-out, and after the
    /// decisions that a handshake waits for.
    #[inline]
    pub(crate) fn poll_event(&mut self, now: Instant) -> Option<Event> {
        loop {
            if let Some(walk) = self.walk.take()
                && let Some(event) = self.walk_on(walk)
            {
                return Some(event);
            }
            if !self.pending.is_empty()
                && let Some(event) = self.next_told()
            {
                return Some(event);
            }
            match self.advance(now) {
                Ok(Step::Event(event)) => return Some(event),
                Ok(Step::Again) => {}
                Ok(Step::Starved) => {
                    self.input.keep();
                    return None;
                }
                Err(fault) => self.on_fault(fault, now),
            }
        }
    }

    /// What is to be written to the socket.
    pub(crate) fn out(&mut self) -> &mut OutBuf {
        &mut self.out
    }

    /// Bytes that have ever been written.
    pub(crate) fn octets_written(&self) -> u64 {
        self.out.written()
    }

    /// Transfer frames that have come and gone, over sessions that are still there.
    pub(crate) fn transfers(&self) -> u64 {
        self.sessions.moved()
    }

    /// The SASL mechanism by which we, the client, have shown who we are.
    pub(crate) fn chosen_mechanism(&self) -> Option<&str> {
        self.chosen_mechanism.as_ref().map(Symbol::as_str)
    }

    /// A trace of what comes and goes from now on.
    pub(crate) fn trace(&self) -> Trace {
        Trace::midway(&self.input.waiting(), self.out.len())
    }

    /// Bytes that wait to be written.
    pub(crate) fn backlog(&self) -> usize {
        self.out.len()
    }

    /// Nothing more will be read: once `out` has been written, the socket can be dropped.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// Whether a reset would tell the peer, if it does not answer our close, that it may connect
    /// again, and would take nothing from it: this end has closed by force, as when the router
    /// stops, and nothing is on its way.
    pub(crate) fn is_resettable(&self) -> bool {
        self.resettable
    }

    /// The close has been sent: whatever the peer says until it answers is thrown away.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing | State::Finished)
    }

    /// When `handle_timeout` is to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Does what is due by now. Events and output may follow.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop_expired(now) {
            match timer {
                Timer::Handshake => self.drop_peer(ConnectionError::HandshakeTimeOut),
                Timer::Close => self.finish(None, Some(ConnectionError::CloseTimeOut)),
                Timer::Idle => self.check_idle(now),
                Timer::Heartbeat => self.check_heartbeat(now),
            }
        }
        self.sessions.trim();
    }

    /// The peer's open, once it has come.
    pub(crate) fn remote(&self) -> Option<&Open> {
        self.remote.as_deref()
    }

    /// Gives a link a name, which comes back in every event about it.
    pub(crate) fn set_token(&mut self, link: LinkId, token: u32) {
        if let Some(link) = self.links.find_mut(link) {
            link.token = token;
        }
    }

    #[inline]
    fn advance(&mut self, now: Instant) -> Result<Step, Fault> {
        match self.state {
            _ if self.is_waiting_for_owner() => Ok(Step::Starved),
            State::Opened | State::OpenDue => self.next_frame(now),
            State::Header(due) => self.next_header(due),
            State::Sasl(_) => self.next_sasl_frame(),
            State::Closing => Ok(self.await_close()),
            State::Finished => {
                self.input.clear();
                Ok(Step::Starved)
            }
        }
    }

    /// What follows depends on a decision of the owner.
    #[inline]
    fn is_waiting_for_owner(&self) -> bool {
        match self.state {
            State::Opened => !self.open_sent,
            State::Sasl(sasl) => sasl.is_for_owner(),
            _ => false,
        }
    }

    /// Decodes and handles one frame.
    #[inline]
    fn next_frame(&mut self, now: Instant) -> Result<Step, Fault> {
        let Some(header) = self.peek_frame(FrameKind::Amqp, self.config.max_frame_size)? else {
            return Ok(Step::Starved);
        };
        self.last_received = now;
        let (size, start) = (header.size as usize, header.body_start());
        if start == size {
            self.input.skip(size);
            return self.on_empty_frame();
        }
        let mut reader = Reader::new(&self.input.peek(size).unwrap_or_default()[start..]);
        let mut performative = Performative::decode(&mut reader);
        let payload_start = start + reader.position();
        if let Ok(Performative::Transfer(transfer)) = &mut performative {
            let payload = self.take_payload(size, payload_start);
            let session = self.session_on(header.channel)?;
            return self.on_transfer(session, transfer, payload);
        }
        match performative {
            Ok(performative) if payload_start == size => {
                self.input.skip(size);
                self.on_performative(header.channel, performative, now)
            }
            Ok(_) => {
                self.input.skip(size);
                Err(DecodeError::TrailingBytes.into())
            }
            Err(error) => self.on_undecodable(&header, error),
        }
    }

    /// The header of the next frame, once all of the frame is here.
    #[inline]
    pub(super) fn peek_frame(
        &mut self,
        kind: FrameKind,
        max: u32,
    ) -> Result<Option<FrameHeader>, ConnectionError> {
        let Some(bytes) = self.input.peek(FrameHeader::LEN) else {
            return Ok(None);
        };
        let Some(header) = FrameHeader::decode(bytes)? else {
            return Ok(None);
        };
        if header.kind != kind {
            return Err(ConnectionError::UnexpectedSasl);
        }
        if header.size > max {
            let size = header.size;
            return Err(ConnectionError::FrameTooLarge { size, max });
        }
        let whole = self.input.peek(header.size as usize).is_some();
        Ok(whole.then_some(header))
    }

    pub(super) fn input(&mut self) -> &mut Input {
        &mut self.input
    }

    #[inline]
    fn take_payload(&mut self, size: usize, start: usize) -> Bytes {
        if size == start {
            self.input.skip(size);
            return Bytes::new();
        }
        let mut payload = self.input.take(size);
        payload.advance(start);
        payload
    }

    fn on_empty_frame(&mut self) -> Result<Step, Fault> {
        match self.state {
            State::OpenDue => Err(ConnectionError::NotAllowed(FIRST_FRAME).into()),
            _ => Ok(Step::Again),
        }
    }

    fn on_performative(
        &mut self,
        channel: u16,
        performative: Performative,
        now: Instant,
    ) -> Result<Step, Fault> {
        if matches!(self.state, State::OpenDue) {
            return match performative {
                Performative::Open(open) if channel == 0 => Ok(self.on_open(open, now)?),
                Performative::Open(_) => Err(ConnectionError::NotAllowed(OPEN_CHANNEL).into()),
                _ => Err(ConnectionError::NotAllowed(FIRST_FRAME).into()),
            };
        }
        let event = match performative {
            Performative::Open(_) => {
                return Err(ConnectionError::NotAllowed("a second open").into());
            }
            Performative::Close(close) => {
                self.on_close(close.error);
                None
            }
            Performative::Begin(begin) => self.on_begin(channel, &begin)?,
            Performative::End(end) => {
                let session = self.any_session_on(channel)?;
                self.on_end(session, end.error);
                None
            }
            performative => {
                let session = self.any_session_on(channel)?;
                if !self.sessions.is_mapped(session) {
                    return Ok(Step::Again); // its end is on the way
                }
                self.on_session_frame(session, performative)?
            }
        };
        Ok(event.map_or(Step::Again, Step::Event))
    }

    fn on_session_frame(
        &mut self,
        session: u16,
        performative: Performative,
    ) -> Result<Option<Event>, Fault> {
        match performative {
            Performative::Flow(flow) => self.on_flow(session, &flow),
            Performative::Disposition(disposition) => {
                self.check_range(session, &disposition)?;
                Ok(self.on_disposition(session, disposition))
            }
            Performative::Attach(attach) => self.on_attach(session, attach, None),
            Performative::Detach(detach) => self.on_detach(session, detach),
            other => unreachable!("{other:?} is handled before"),
        }
    }

    fn on_open(&mut self, open: Box<Open>, now: Instant) -> Result<Step, ConnectionError> {
        self.check_open(&open)?;
        if self.open_sent {
            self.timers.stop(Timer::Handshake);
        }
        self.remote_max_frame_size = open.max_frame_size as usize;
        self.heartbeat = open.idle_time_out.map(heartbeat_for);
        if let Some(idle) = self.config.idle_time_out {
            self.timers.set(Timer::Idle, now + idle);
        }
        if let Some(interval) = self.heartbeat {
            self.timers.set(Timer::Heartbeat, self.last_sent + interval);
        }
        self.remote = Some(open);
        self.state = State::Opened;
        Ok(Step::Event(Event::Opened))
    }

    fn check_open(&self, open: &Open) -> Result<(), ConnectionError> {
        let limits = &self.config.limits;
        let hostname = open.hostname.as_ref().map_or(0, String::len);
        if open.container_id.len() > limits.max_name || hostname > limits.max_name {
            return Err(ConnectionError::Limit("the name of the container or host"));
        }
        let lists = [
            open.offered_capabilities.len(),
            open.desired_capabilities.len(),
            open.outgoing_locales.len(),
            open.incoming_locales.len(),
            open.properties.len(),
        ];
        if lists.into_iter().any(|length| length > limits.max_entries) {
            return Err(ConnectionError::Limit("a list in open"));
        }
        let mut symbols = [
            &open.offered_capabilities,
            &open.desired_capabilities,
            &open.outgoing_locales,
            &open.incoming_locales,
        ]
        .into_iter()
        .flatten();
        if symbols.any(|symbol| symbol.as_str().len() > limits.max_name) {
            return Err(ConnectionError::Limit("a symbol in open"));
        }
        if open.max_frame_size < MIN_MAX_FRAME_SIZE {
            return Err(ConnectionError::InvalidField("max-frame-size is below 512"));
        }
        if open
            .idle_time_out
            .is_some_and(|time_out| time_out < limits.min_idle_time_out)
        {
            return Err(ConnectionError::InvalidField(
                "idle-time-out is too short for us",
            ));
        }
        Ok(())
    }

    /// The scope of a frame that cannot be decoded.
    pub(super) fn undecodable(&mut self, channel: u16, error: DecodeError) -> Fault {
        if error == DecodeError::DeliveryTagTooLong
            && let Ok(session) = self.session_on(channel)
        {
            let error = SessionError::InvalidField("delivery-tag is longer than 32 bytes");
            return Fault::Session(session, error);
        }
        error.into()
    }

    fn on_fault(&mut self, fault: Fault, now: Instant) {
        match fault {
            Fault::Connection(error) => self.fail(error, now),
            Fault::Session(session, error) => self.fail_session(session, (&error).into()),
            Fault::Link(link, error) => self.fail_link(link, (&error).into()),
        }
    }

    fn check_idle(&mut self, now: Instant) {
        let Some(idle) = self.config.idle_time_out else {
            return;
        };
        let deadline = self.last_received + idle;
        if deadline <= now {
            self.fail(ConnectionError::IdleTimeOut, now);
        } else {
            self.timers.set(Timer::Idle, deadline);
        }
    }

    fn next_told(&mut self) -> Option<Event> {
        while let Some(told) = self.pending.pop_front() {
            match told {
                Told::Event(event) => return Some(event),
                Told::Ending(ending) => {
                    if let Some(event) = self.end_on(ending) {
                        return Some(event);
                    }
                }
            }
        }
        self.pending = VecDeque::new();
        None
    }

    /// The links that a peer's attach can mean when our end has this role.
    pub(super) fn names(&mut self, ours: Role) -> &mut HashMap<Arc<str>, u32> {
        &mut self.names[ours as usize]
    }
}

/// How long we may be silent for a peer with this idle-time-out: less than half of it (AMQP 2.4.5),
/// as timers fire late and never early, and what is written takes its time.
fn heartbeat_for(time_out: Duration) -> Duration {
    time_out / 2 - (time_out / 8).min(LATENESS)
}

/// What a heartbeat may come late by.
const LATENESS: Duration = Duration::from_millis(100);
/// The least value that max-frame-size may have, in bytes (AMQP 2.8.19).
pub(super) const MIN_MAX_FRAME_SIZE: u32 = 512;
/// Bytes that a peer may send before the owner has decided on it.
const EARLY_INPUT_MAX: usize = 256 * 1024;
const FIRST_FRAME: &str = "the first frame must be open";
const OPEN_CHANNEL: &str = "open belongs on channel 0";

const _: () = assert!(size_of::<Connection>() <= 1024);
