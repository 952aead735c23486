//! The beginning and the end of AMQP on a connection: our open, close from either side, and
//! sudden ends (AMQP 2.4).

use std::time::{Duration, Instant};

use super::connection::{Connection, State, Step, Told};
use super::error::ConnectionError;
use super::event::Event;
use super::timer::Timer;
use crate::codec::{
    Close, Error, Fields, FrameKind, Open, Performative, Reader, Symbol, Value, condition,
};

impl Connection {
    /// Opens our side. A server does this in answer to `Event::Opened`; until then nothing that
    /// follows the peer's open is handled. A client has opened on its own.
    pub(crate) fn open(&mut self) {
        if matches!(self.state, State::OpenDue | State::Opened) && !self.open_sent {
            self.write_open();
            if matches!(self.state, State::Opened) {
                self.timers.stop(Timer::Handshake);
            }
        }
    }

    /// Closes the connection. `Event::Closed` follows when the peer has answered, or after 5 s.
    ///
    /// Sessions and links are gone at once. Before AMQP has been agreed on there is no closing,
    /// and the connection just ends.
    pub(crate) fn close(&mut self, error: Option<Error>, now: Instant) {
        match self.state {
            State::OpenDue | State::Opened => {
                self.flush(now);
                self.send_close(error, now);
            }
            State::Header(_) | State::Sasl(_) => self.finish(None, None),
            State::Closing | State::Finished => {}
        }
    }

    /// Closes the connection because of what the peer did.
    pub(super) fn fail(&mut self, error: ConnectionError, now: Instant) {
        match self.state {
            State::OpenDue | State::Opened => {
                self.send_close(Some((&error).into()), now);
                self.tell_closed(None, Some(error));
            }
            _ => self.drop_peer(error),
        }
    }

    /// Ends the connection without a close, as AMQP has not been agreed on or has broken down.
    pub(super) fn drop_peer(&mut self, error: ConnectionError) {
        self.finish(None, Some(error));
    }

    /// Ends the connection because the peer does not read: what was not written never will be.
    pub(crate) fn give_up_on_reader(&mut self) {
        self.finish(None, Some(ConnectionError::SlowReader(self.backlog())));
        self.out.clear();
    }

    /// Closes the connection because so many octets wait here that the peer has sent.
    pub(crate) fn give_up_on_sender(&mut self, octets: usize, now: Instant) {
        self.flush(now);
        self.fail(ConnectionError::HoldsMemory(octets), now);
    }

    /// The peer closes: it is answered and all is over.
    pub(super) fn on_close(&mut self, error: Option<Error>) {
        self.write_close(None);
        self.finish(error, None);
    }

    /// While closing, looks for nothing but the peer's close.
    pub(super) fn await_close(&mut self) -> Step {
        let header = match self.peek_frame(FrameKind::Amqp, self.config.max_frame_size) {
            Ok(Some(header)) => header,
            Ok(None) => return Step::Starved,
            Err(_) => {
                // Where the next frame starts is lost. A close in what is read later may be
                // found, or else the deadline ends this.
                self.input().clear();
                return Step::Starved;
            }
        };
        let (size, start) = (header.size as usize, header.body_start());
        let body = &self.input().peek(size).unwrap_or_default()[start..];
        let close = decode_close(body);
        self.input().skip(size);
        if let Some(close) = close {
            self.finish(close.error, None);
        }
        Step::Again
    }

    /// Ends everything and tells the owner, unless it knows.
    pub(super) fn finish(&mut self, error: Option<Error>, local: Option<ConnectionError>) {
        if self.is_finished() {
            return;
        }
        self.state = State::Finished;
        self.timers.stop_all();
        self.input().clear();
        self.forget_all();
        self.tell_closed(error, local);
    }

    pub(super) fn write_open(&mut self) {
        let config = &self.config;
        let open = Open {
            container_id: config.container_id.clone(),
            hostname: config.hostname.clone(),
            max_frame_size: config.max_frame_size,
            channel_max: config.announced_channel_max(),
            idle_time_out: config.idle_time_out.map(|threshold| threshold / 2),
            offered_capabilities: config.offered_capabilities.clone(),
            desired_capabilities: config.desired_capabilities.clone(),
            properties: self.open_properties(),
            ..Open::default()
        };
        self.open_sent = true;
        let open = Performative::Open(Box::new(open));
        if !self.write(0, &open) {
            // A peer that takes only small frames does without what is not essential.
            if let Performative::Open(mut open) = open {
                open.properties = Default::default();
                open.offered_capabilities.clear();
                open.desired_capabilities.clear();
                self.write(0, &Performative::Open(open));
            }
        }
    }

    /// The configured properties, and what we call the connection, before what operators have
    /// added: who shows them may stop at what it does not know.
    fn open_properties(&self) -> Fields {
        let configured = &self.config.properties;
        let Some(id) = self.id else {
            return configured.clone();
        };
        let id = Value::Int(i32::try_from(id).unwrap_or(i32::MAX));
        let mut properties = Fields::new();
        let own = |key: &Symbol| matches!(key.as_str(), "product" | "version");
        for (key, value) in configured.iter().filter(|(key, _)| own(key)) {
            properties.insert(key.clone(), value.clone());
        }
        properties.insert("qd.conn-id", id);
        for (key, value) in configured.iter().filter(|(key, _)| !own(key)) {
            properties.insert(key.clone(), value.clone());
        }
        properties
    }

    fn send_close(&mut self, error: Option<Error>, now: Instant) {
        let forced = |error: &Error| error.condition == condition::CONNECTION_FORCED;
        let limit = match error.as_ref().is_some_and(forced) {
            true => {
                let quiet = now.saturating_duration_since(self.last_sent) >= QUIET;
                self.resettable = quiet && self.out.is_empty();
                FORCED_TIME_OUT
            }
            false => CLOSE_TIME_OUT,
        };
        self.write_close(error);
        self.state = State::Closing;
        self.timers.stop_all();
        self.timers.set(Timer::Close, now + limit);
        self.forget_all();
    }

    fn write_close(&mut self, error: Option<Error>) {
        if !self.open_sent {
            self.write_open();
        }
        self.write_with_error(0, error, |error| Performative::Close(Close { error }));
    }

    fn tell_closed(&mut self, error: Option<Error>, local: Option<ConnectionError>) {
        if !std::mem::replace(&mut self.told_closed, true) {
            self.pending
                .push_back(Told::Event(Event::Closed { error, local }));
        }
    }

    /// Frees what sessions and links hold.
    fn forget_all(&mut self) {
        self.sessions = Default::default();
        self.links = Default::default();
        self.names = Default::default();
        self.walk = None;
        self.pending.clear();
    }
}

fn decode_close(body: &[u8]) -> Option<Close> {
    if Reader::new(body).descriptor().ok()? != CLOSE {
        return None;
    }
    match Performative::decode(&mut Reader::new(body)) {
        Ok(Performative::Close(close)) => Some(close),
        _ => Some(Close::default()),
    }
}

/// The descriptor of close.
const CLOSE: u64 = 0x18;
/// How long the peer may take to answer our close.
const CLOSE_TIME_OUT: Duration = Duration::from_secs(5);
/// The same where it is no fault of the peer's: who wants to come back should not have to wait.
const FORCED_TIME_OUT: Duration = Duration::from_secs(1);
/// Who has been sent nothing for so long has got what it was sent before.
const QUIET: Duration = Duration::from_secs(1);
