//! The sessions of a connection: begin and end (AMQP 2.5).

use super::connection::{Connection, State, Told};
use super::error::{ConnectionError, LimitReached};
use super::event::{Event, SessionId};
use super::number_map::{FreeNumbers, NumberMap};
use super::session::{Session, SessionState};
use crate::codec::{Begin, End, Error, Performative};

/// Sessions by the channel on which we send.
#[derive(Debug, Default)]
pub(super) struct SessionTable {
    slots: Vec<Option<Box<Session>>>,
    free: FreeNumbers,
    /// Sessions by the channel on which the peer sends.
    channels: NumberMap,
    /// Those that `flush` must look at.
    dirty: Vec<u16>,
    /// Octets of messages that have come in by them and that the owner holds.
    pub(super) held_octets: u64,
}

/// The end of a session, told link by link.
#[derive(Debug)]
pub(super) struct Ending {
    session: u16,
    error: Option<Error>,
    /// The peer's end has not come yet.
    keep: bool,
}

impl SessionTable {
    #[inline]
    pub(super) fn get(&self, index: u16) -> Option<&Session> {
        self.slots.get(usize::from(index))?.as_deref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u16) -> Option<&mut Session> {
        self.slots.get_mut(usize::from(index))?.as_deref_mut()
    }

    #[inline]
    pub(super) fn is_mapped(&self, index: u16) -> bool {
        self.get(index).is_some_and(Session::is_mapped)
    }

    #[inline]
    pub(super) fn on_channel(&self, remote: u16) -> Option<u16> {
        self.channels.get(remote.into()).map(|index| index as u16)
    }

    /// Transfer frames that went either way over sessions that are there.
    pub(super) fn moved(&self) -> u64 {
        let sessions = self.slots.iter().flatten();
        sessions
            .map(|session| u64::from(session.window.moved()))
            .sum()
    }

    #[inline]
    pub(super) fn mark_dirty(&mut self, index: u16) {
        if let Some(Some(session)) = self.slots.get_mut(usize::from(index))
            && !session.dirty
        {
            session.dirty = true;
            self.dirty.push(index);
        }
    }

    pub(super) fn take_dirty(&mut self) -> Option<u16> {
        loop {
            let index = self.dirty.pop()?;
            if let Some(session) = self.get_mut(index) {
                session.dirty = false;
                return Some(index);
            }
        }
    }

    /// Gives back memory that nothing uses.
    pub(super) fn trim(&mut self) {
        for session in self.slots.iter_mut().flatten() {
            session.incoming.trim();
            session.outgoing.trim();
        }
    }

    fn insert(&mut self, session: Session, channel_max: u16) -> Option<u16> {
        let index = self.free.take(channel_max.into())?;
        let at = index as usize;
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, || None);
        }
        self.slots[at] = Some(Box::new(session));
        Some(index as u16)
    }

    fn remove(&mut self, index: u16) {
        if let Some(session) = self.slots[usize::from(index)].take() {
            self.held_octets -= session.window.held_octets();
            self.free.release(index.into());
        }
    }
}

impl Connection {
    /// Whether both ends have begun a session.
    pub(crate) fn is_mapped(&self, session: SessionId) -> bool {
        self.sessions.is_mapped(session.0)
    }

    /// Begins a session; `Event::Begun` follows when the peer has answered.
    ///
    /// # Errors
    /// When the connection is not open at both ends, or the peer takes no more sessions.
    pub(crate) fn begin(&mut self) -> Result<SessionId, LimitReached> {
        let Some(remote) = self.remote() else {
            return Err(LimitReached::NotOpen);
        };
        if !self.open_sent || !matches!(self.state, State::Opened) {
            return Err(LimitReached::NotOpen);
        }
        let max = remote
            .channel_max
            .min(self.config.limits.max_sessions.saturating_sub(1));
        let session = self.new_session(SessionState::BeginSent);
        let index = self
            .sessions
            .insert(session, max)
            .ok_or(LimitReached::Channels)?;
        self.write_begin(index, None);
        Ok(SessionId(index))
    }

    /// Ends a session; `Event::Ended` follows when the peer has answered.
    #[cfg(test)]
    pub(crate) fn end(&mut self, session: SessionId, error: Option<Error>) {
        self.send_end(session.0, error, true);
    }

    /// Ends a session because of what the peer did.
    #[cold]
    pub(super) fn fail_session(&mut self, index: u16, error: Error) {
        if self.send_end(index, Some(error.clone()), false) {
            let ending = Ending {
                session: index,
                error: Some(error),
                keep: true,
            };
            self.pending.push_back(Told::Ending(ending));
        }
    }

    fn send_end(&mut self, index: u16, error: Option<Error>, notify: bool) -> bool {
        let remote = match self.sessions.get(index).map(|session| session.state) {
            Some(SessionState::BeginSent) => None,
            Some(SessionState::Mapped { remote }) => Some(remote),
            _ => return false,
        };
        self.flush_dispositions(index);
        self.write_with_error(index, error, |error| Performative::End(End { error }));
        if let Some(session) = self.sessions.get_mut(index) {
            session.state = SessionState::EndSent { remote, notify };
        }
        true
    }

    /// The session that the peer uses a channel for.
    #[inline]
    pub(super) fn any_session_on(&self, channel: u16) -> Result<u16, ConnectionError> {
        match self.sessions.on_channel(channel) {
            Some(index) => Ok(index),
            None if channel > self.config.announced_channel_max() => {
                Err(ConnectionError::ChannelTooHigh(channel))
            }
            None => Err(ConnectionError::NotAllowed("no session on this channel")),
        }
    }

    pub(super) fn on_begin(
        &mut self,
        channel: u16,
        begin: &Begin,
    ) -> Result<Option<Event>, ConnectionError> {
        if channel > self.config.announced_channel_max() {
            return Err(ConnectionError::ChannelTooHigh(channel));
        }
        if self.sessions.on_channel(channel).is_some() {
            return Err(ConnectionError::NotAllowed("a session is on this channel"));
        }
        let lists = [
            begin.offered_capabilities.len(),
            begin.desired_capabilities.len(),
            begin.properties.len(),
        ];
        if lists
            .into_iter()
            .any(|length| length > self.config.limits.max_entries)
        {
            return Err(ConnectionError::Limit("a list in begin"));
        }
        match begin.remote_channel {
            None => self.accept_begin(channel, begin).map(Some),
            Some(ours) => self.on_begin_answer(channel, ours, begin),
        }
    }

    fn accept_begin(&mut self, channel: u16, begin: &Begin) -> Result<Event, ConnectionError> {
        let max = self.remote().map_or(0, |open| open.channel_max);
        let session = self.new_session(SessionState::Mapped { remote: channel });
        let index = self
            .sessions
            .insert(session, max)
            .ok_or(ConnectionError::NotAllowed(
                "more sessions than your channel-max",
            ))?;
        self.write_begin(index, Some(channel));
        self.map_channel(index, channel, begin);
        Ok(Event::Begun(SessionId(index)))
    }

    fn on_begin_answer(
        &mut self,
        channel: u16,
        ours: u16,
        begin: &Begin,
    ) -> Result<Option<Event>, ConnectionError> {
        let unknown = ConnectionError::InvalidField("remote-channel is not one we began on");
        let session = self.sessions.get_mut(ours).ok_or(unknown.clone())?;
        match &mut session.state {
            SessionState::BeginSent => {
                session.state = SessionState::Mapped { remote: channel };
                self.map_channel(ours, channel, begin);
                Ok(Some(Event::Begun(SessionId(ours))))
            }
            SessionState::EndSent {
                remote: remote @ None,
                ..
            } => {
                *remote = Some(channel);
                self.map_channel(ours, channel, begin);
                Ok(None)
            }
            _ => Err(unknown),
        }
    }

    fn map_channel(&mut self, index: u16, channel: u16, begin: &Begin) {
        self.sessions.channels.insert(channel.into(), index.into());
        if let Some(session) = self.sessions.get_mut(index) {
            session.on_begin(begin);
        }
    }

    /// The peer ends a session, or answers our end.
    pub(super) fn on_end(&mut self, index: u16, error: Option<Error>) {
        let Some(state) = self.sessions.get(index).map(|session| session.state) else {
            return;
        };
        let (remote, notify) = match state {
            SessionState::Mapped { remote } => {
                self.flush_dispositions(index);
                self.write_with_error(index, None, |error| Performative::End(End { error }));
                (remote, true)
            }
            SessionState::EndSent {
                remote: Some(remote),
                notify,
            } => (remote, notify),
            SessionState::BeginSent | SessionState::EndSent { .. } => return,
        };
        self.sessions.channels.remove(remote.into());
        if notify {
            if let Some(session) = self.sessions.get_mut(index) {
                session.state = SessionState::EndSent {
                    remote: None,
                    notify: false,
                };
            }
            let ending = Ending {
                session: index,
                error,
                keep: false,
            };
            self.pending.push_back(Told::Ending(ending));
        } else {
            self.sessions.remove(index);
        }
    }

    /// Tells the next thing about the end of a session.
    pub(super) fn end_on(&mut self, ending: Ending) -> Option<Event> {
        let session = self.sessions.get_mut(ending.session)?;
        if let Some(link) = session.handles.last() {
            let event = self.end_link(link, ending.error.clone());
            self.pending.push_front(Told::Ending(ending));
            return event;
        }
        if !ending.keep {
            self.sessions.remove(ending.session);
        } else {
            let octets = session.forget_deliveries();
            self.sessions.held_octets -= octets;
        }
        Some(Event::Ended {
            session: SessionId(ending.session),
            error: ending.error,
        })
    }

    fn new_session(&self, state: SessionState) -> Session {
        Session::new(state, self.config.incoming_window, self.config.initial_id)
    }

    fn write_begin(&mut self, index: u16, remote_channel: Option<u16>) {
        let handle_max = self.config.handle_max;
        let Some(session) = self.sessions.get(index) else {
            return;
        };
        let begin = session.window.begin(remote_channel, handle_max);
        self.write(index, &Performative::Begin(Box::new(begin)));
    }
}

impl Session {
    /// Frees what the session holds, as nothing of it matters any more. Says how many octets of
    /// messages were counted.
    fn forget_deliveries(&mut self) -> u64 {
        self.incoming = Default::default();
        self.outgoing = Default::default();
        self.flows = Vec::new();
        self.endings = Vec::new();
        self.window.release(u32::MAX, u32::MAX)
    }
}
