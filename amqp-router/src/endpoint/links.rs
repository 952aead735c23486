//! The links of a connection: attach and detach (AMQP 2.6).

use super::connection::{Connection, Told};
use super::error::{ConnectionError, Fault, LimitReached, LinkError, SessionError};
use super::event::{Event, LinkId, SessionId};
use super::link::{DefaultOutcome, Link, LinkEnd, LinkState};
use crate::codec::{
    Attach, Detach, Error, Fields, Performative, ReceiverSettleMode, Role, SenderSettleMode,
    Source, Symbol, Target,
};

/// How the owner answers a peer's attach.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttachReply {
    pub(crate) source: Option<Source>,
    pub(crate) target: Option<Target>,
    /// Bytes; none is no limit. The endpoint holds the peer to it.
    pub(crate) max_message_size: Option<u64>,
    /// None is what the peer asked for; but a sender says `mixed` to a receiver that asks for
    /// `unsettled`, as whoever wrote a message may have settled it (AMQP 2.6.9, 2.7.3).
    pub(crate) snd_settle_mode: Option<SenderSettleMode>,
    /// None is what the peer asked for.
    pub(crate) rcv_settle_mode: Option<ReceiverSettleMode>,
    /// Where a sender counts from; none is 0.
    pub(crate) initial_delivery_count: Option<u32>,
    pub(crate) offered_capabilities: Vec<Symbol>,
    pub(crate) desired_capabilities: Vec<Symbol>,
    pub(crate) properties: Fields,
}

impl Connection {
    /// Attaches a link. The handle is filled in, and a sender's delivery-count unless it is given.
    ///
    /// `Event::Attached` follows when the peer has answered.
    ///
    /// # Errors
    /// When the session is gone, the name is taken in this direction, or the peer or our limits
    /// allow no more links.
    pub(crate) fn attach(
        &mut self,
        session: SessionId,
        mut attach: Attach,
    ) -> Result<LinkId, LimitReached> {
        let index = session.0;
        if !self.sessions.is_mapped(index) {
            return Err(LimitReached::NoSession);
        }
        if self.links.len() >= self.config.limits.max_links as usize {
            return Err(LimitReached::Links);
        }
        if self.names(attach.role).contains_key(attach.name.as_str()) {
            return Err(LimitReached::NameInUse);
        }
        if attach.role == Role::Sender {
            attach.initial_delivery_count.get_or_insert(0);
        }
        let link = self
            .new_link(index, attach.role, &attach, LinkState::AttachSent)
            .ok_or(LimitReached::Handles)?;
        attach.handle = self.links.get(link).map_or(0, |link| link.handle);
        if !self.write(index, &Performative::Attach(Box::new(attach))) {
            self.remove_link(link);
            return Err(LimitReached::FrameSize);
        }
        Ok(self.links.id(link))
    }

    /// Accepts a link that the peer attached.
    pub(crate) fn accept_attach(&mut self, link: LinkId, reply: AttachReply) {
        let Some(index) = self.received_attach(link) else {
            return;
        };
        let Some(link) = self.links.get_mut(index) else {
            return;
        };
        link.state = LinkState::Attached;
        let asked = match (link.role(), link.snd_settle_mode) {
            (Role::Sender, SenderSettleMode::Unsettled) => SenderSettleMode::Mixed,
            (_, asked) => asked,
        };
        link.snd_settle_mode = reply.snd_settle_mode.unwrap_or(asked);
        link.rcv_settle_mode = reply.rcv_settle_mode.unwrap_or(link.rcv_settle_mode);
        let initial = reply.initial_delivery_count.unwrap_or(0);
        let (mut told, mut owed) = (false, false);
        match &mut link.end {
            LinkEnd::Sender(sender) => {
                sender.credit.set_initial(initial);
                sender.default_outcome = reply.source.as_ref().and_then(DefaultOutcome::of);
                told = sender.credit.link_credit() > 0;
            }
            LinkEnd::Receiver(receiver) => {
                receiver.max_message_size = reply.max_message_size.unwrap_or(0);
                owed = receiver.credit.link_credit() > 0;
            }
        }
        let session = link.session;
        let attach = link.attach(reply, initial);
        if !self.write(session, &Performative::Attach(Box::new(attach))) {
            let error = SessionError::FrameSizeTooSmall("our attach");
            self.fail_session(session, (&error).into());
            return;
        }
        if owed {
            self.flow_is_due(index);
        }
        if told {
            self.tell_flow(index);
        }
    }

    /// Detaches a link, and destroys it when `closed`. `Event::Detached` follows when the peer
    /// has answered; unsettled deliveries of the link are forgotten at once.
    pub(crate) fn detach(&mut self, link: LinkId, closed: bool, error: Option<Error>) {
        let Some(index) = self.links.index(link) else {
            return;
        };
        self.send_detach(index, closed, error, true);
    }

    /// Detaches a link because of what the peer did, and tells the owner.
    #[cold]
    pub(super) fn fail_link(&mut self, index: u32, error: Error) {
        let Some(link) = self.links.get(index) else {
            return;
        };
        if matches!(link.state, LinkState::DetachSent { .. }) {
            return; // it is gone for the owner, or will be told of when the peer answers
        }
        let event = self.detached_event(index, link, true, Some(error.clone()));
        self.pending.push_back(Told::Event(event)); // before the end of the session, if that follows
        self.send_detach(index, true, Some(error), false);
    }

    /// The peer attaches a link, or answers our attach. With a fault its termini are left out, and
    /// it cannot be had.
    pub(super) fn on_attach(
        &mut self,
        session: u16,
        attach: Box<Attach>,
        fault: Option<LinkError>,
    ) -> Result<Option<Event>, Fault> {
        if attach.handle > self.config.handle_max {
            return Err(ConnectionError::HandleTooHigh(attach.handle).into());
        }
        if self.link_on(session, attach.handle).is_some() {
            return Err(Fault::Session(
                session,
                SessionError::HandleInUse(attach.handle),
            ));
        }
        if attach.role == Role::Sender && attach.initial_delivery_count.is_none() {
            let error = SessionError::InvalidField("a sender must give initial-delivery-count");
            return Err(Fault::Session(session, error));
        }
        let ours = attach.role.opposite();
        if let Some(index) = self.names(ours).get(attach.name.as_str()).copied() {
            if self.awaits_attach(index, session) {
                let event = self.on_attach_answer(session, index, attach);
                if let Some(fault) = fault {
                    self.fail_link(index, (&fault).into());
                }
                return Ok(event);
            }
            self.fail_link(index, (&LinkError::Stolen).into());
            if !self.sessions.is_mapped(session) {
                return Ok(None);
            }
            let event = self.on_new_attach(session, attach, fault)?;
            self.pending.extend(event.map(Told::Event)); // after the end of the old link
            return Ok(None);
        }
        self.on_new_attach(session, attach, fault)
    }

    fn awaits_attach(&self, index: u32, session: u16) -> bool {
        self.links.get(index).is_some_and(|link| {
            link.session == session
                && link.remote_handle.is_none()
                && matches!(
                    link.state,
                    LinkState::AttachSent | LinkState::DetachSent { .. }
                )
        })
    }

    fn on_attach_answer(&mut self, session: u16, index: u32, attach: Box<Attach>) -> Option<Event> {
        self.map_handle(session, index, attach.handle);
        let id = self.links.id(index);
        let link = self.links.get_mut(index)?;
        if link.state != LinkState::AttachSent {
            let name = link.name.clone();
            self.names(attach.role.opposite()).remove(&name);
            return None; // its detach is on the way
        }
        link.state = LinkState::Attached;
        match attach.role {
            Role::Sender => link.snd_settle_mode = attach.snd_settle_mode,
            Role::Receiver => link.rcv_settle_mode = attach.rcv_settle_mode,
        }
        let token = link.token;
        let mut owed = false;
        if let Some(receiver) = link.receiver_mut() {
            receiver
                .credit
                .set_initial(attach.initial_delivery_count.unwrap_or(0));
            receiver.set_source(attach.source.as_ref());
            owed = receiver.credit.link_credit() > 0;
        }
        if owed {
            self.flow_is_due(index);
        }
        Some(Event::Attached {
            link: id,
            token,
            attach,
        })
    }

    fn on_new_attach(
        &mut self,
        session: u16,
        attach: Box<Attach>,
        fault: Option<LinkError>,
    ) -> Result<Option<Event>, Fault> {
        let ours = attach.role.opposite();
        let full = self.links.len() >= self.config.limits.max_links as usize + REFUSED_AT_ONCE;
        let index = if full {
            None
        } else {
            self.new_link(session, ours, &attach, LinkState::AttachReceived)
        };
        let Some(index) = index else {
            return Err(Fault::Session(
                session,
                SessionError::Limit("the number of links"),
            ));
        };
        self.map_handle(session, index, attach.handle);
        if let Err(error) = fault.map_or_else(|| self.check_attach(&attach), Err) {
            let error = Error::from(&error);
            self.send_detach(index, true, Some(error.clone()), false);
            return Ok(Some(Event::Refused { attach, error }));
        }
        Ok(Some(Event::Attach {
            link: self.links.id(index),
            session: SessionId(session),
            attach,
        }))
    }

    pub(super) fn on_detach(
        &mut self,
        session: u16,
        detach: Detach,
    ) -> Result<Option<Event>, Fault> {
        let index = self.attached_on(session, detach.handle)?;
        let Some(link) = self.links.get(index) else {
            return Ok(None);
        };
        let Detach { closed, error, .. } = detach;
        let event = self.detached_event(index, link, closed, error);
        let notify = match link.state {
            LinkState::DetachSent { notify, failed } => {
                if failed && let Some(session) = self.sessions.get_mut(session) {
                    session.handles.errant = Some(detach.handle);
                }
                notify
            }
            LinkState::AttachReceived => {
                if self.write_refusal(index, true) {
                    self.write_detach(index, closed, None);
                }
                true
            }
            LinkState::Attached | LinkState::AttachSent => {
                self.flush_dispositions(session);
                self.write_detach(index, closed, None);
                true
            }
        };
        self.remove_link(index);
        Ok(notify.then_some(event))
    }

    /// Removes a link of a session that ends; the event that says so.
    pub(super) fn end_link(&mut self, index: u32, error: Option<Error>) -> Option<Event> {
        let link = self.links.get(index)?;
        let told = matches!(link.state, LinkState::DetachSent { notify: false, .. });
        let event = self.detached_event(index, link, false, error);
        self.remove_link(index);
        (!told).then_some(event)
    }

    /// The index of a link on the peer's handle.
    #[inline]
    pub(super) fn link_on(&self, session: u16, handle: u32) -> Option<u32> {
        self.sessions.get(session)?.handles.remote.get(handle)
    }

    /// The index of a link on the peer's handle, which must be in use.
    #[inline]
    pub(super) fn attached_on(&self, session: u16, handle: u32) -> Result<u32, Fault> {
        if let Some(index) = self.link_on(session, handle) {
            return Ok(index);
        }
        let errant = self
            .sessions
            .get(session)
            .and_then(|session| session.handles.errant);
        Err(if handle > self.config.handle_max {
            ConnectionError::HandleTooHigh(handle).into()
        } else if errant == Some(handle) {
            Fault::Session(session, SessionError::ErrantLink(handle))
        } else {
            Fault::Session(session, SessionError::UnattachedHandle(handle))
        })
    }

    /// Tells the owner that the credit of a link changed, after what it is being told now.
    pub(super) fn tell_flow(&mut self, index: u32) {
        if let Some(link) = self.links.get(index) {
            let (link, token) = (self.links.id(index), link.token);
            self.pending
                .push_back(Told::Event(Event::Flow { link, token }));
        }
    }

    pub(super) fn received_attach(&self, link: LinkId) -> Option<u32> {
        let index = self.links.index(link)?;
        let link = self.links.get(index)?;
        let open = link.state == LinkState::AttachReceived && self.sessions.is_mapped(link.session);
        open.then_some(index)
    }

    fn new_link(
        &mut self,
        session_index: u16,
        ours: Role,
        attach: &Attach,
        state: LinkState,
    ) -> Option<u32> {
        let index = self.links.next_index()?;
        let session = self.sessions.get_mut(session_index)?;
        let handle = session.handles.assign(index)?;
        let name: std::sync::Arc<str> = attach.name.as_str().into();
        let mut end = LinkEnd::new(
            ours,
            attach.initial_delivery_count.unwrap_or(0),
            attach.max_message_size.unwrap_or(0),
        );
        if let LinkEnd::Receiver(receiver) = &mut end {
            receiver.set_source(attach.source.as_ref());
        }
        self.names(ours).insert(name.clone(), index);
        self.links.insert(Link {
            session: session_index,
            handle,
            remote_handle: None,
            token: 0,
            unsettled: 0,
            state,
            flow_due: false,
            snd_settle_mode: attach.snd_settle_mode,
            rcv_settle_mode: attach.rcv_settle_mode,
            end,
            name,
        });
        Some(index)
    }

    fn map_handle(&mut self, session: u16, index: u32, handle: u32) {
        if let Some(session) = self.sessions.get_mut(session) {
            session.handles.remote.insert(handle, index);
            if session.handles.errant == Some(handle) {
                session.handles.errant = None;
            }
        }
        if let Some(link) = self.links.get_mut(index) {
            link.remote_handle = Some(handle);
        }
    }

    pub(super) fn send_detach(
        &mut self,
        index: u32,
        closed: bool,
        error: Option<Error>,
        notify: bool,
    ) {
        let Some(link) = self.links.get(index) else {
            return;
        };
        let (session, state) = (link.session, link.state);
        match state {
            LinkState::DetachSent { .. } => return,
            _ if !self.sessions.is_mapped(session) => return,
            LinkState::AttachReceived if !self.write_refusal(index, notify) => return,
            LinkState::AttachReceived => {}
            LinkState::Attached | LinkState::AttachSent => self.flush_dispositions(session),
        }
        let failed = error.is_some();
        self.write_detach(index, closed, error);
        self.forget_unsettled(index);
        let Some(link) = self.links.get_mut(index) else {
            return;
        };
        link.state = LinkState::DetachSent { notify, failed };
        if link.remote_handle.is_some() {
            self.forget_name(index);
        }
    }

    fn write_detach(&mut self, index: u32, closed: bool, error: Option<Error>) {
        let Some(link) = self.links.get(index) else {
            return;
        };
        let (session, handle) = (link.session, link.handle);
        self.write_with_error(session, error, |error| {
            Performative::Detach(Detach {
                handle,
                closed,
                error,
            })
        });
    }

    fn remove_link(&mut self, index: u32) {
        self.forget_unsettled(index);
        self.forget_name(index);
        let Some(link) = self.links.remove(index) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(link.session) else {
            return;
        };
        session.handles.release(link.handle);
        if let Some(remote) = link.remote_handle {
            session.handles.remote.remove(remote);
        }
        if link.flow_due {
            session.flows.retain(|&flow| flow != index);
        }
        if session.last_receiver == Some(index) {
            session.last_receiver = None;
        }
        session.endings.retain(|&ending| ending != index);
    }

    fn forget_name(&mut self, index: u32) {
        let Some(link) = self.links.get(index) else {
            return;
        };
        let (ours, name) = (link.role(), link.name.clone());
        let names = self.names(ours);
        if names.get(&name) == Some(&index) {
            names.remove(&name);
        }
    }

    fn forget_unsettled(&mut self, index: u32) {
        let Some(link) = self.links.get_mut(index) else {
            return;
        };
        if link.unsettled == 0 {
            return;
        }
        link.unsettled = 0;
        let Some(session) = self.sessions.get_mut(link.session) else {
            return;
        };
        match link.role() {
            Role::Receiver => session.incoming.remove_link(index),
            Role::Sender => session.outgoing.remove_link(index),
        }
    }

    fn detached_event(&self, index: u32, link: &Link, closed: bool, error: Option<Error>) -> Event {
        let (link, token) = (self.links.id(index), link.token);
        Event::Detached {
            link,
            token,
            closed,
            error,
        }
    }
}

impl Link {
    /// Our attach in answer to the peer's.
    pub(super) fn attach(&self, reply: AttachReply, initial_delivery_count: u32) -> Attach {
        let role = self.role();
        Attach {
            name: self.name.as_ref().to_owned(),
            handle: self.handle,
            role,
            snd_settle_mode: self.snd_settle_mode,
            rcv_settle_mode: self.rcv_settle_mode,
            source: reply.source,
            target: reply.target,
            initial_delivery_count: (role == Role::Sender).then_some(initial_delivery_count),
            max_message_size: reply.max_message_size,
            offered_capabilities: reply.offered_capabilities,
            desired_capabilities: reply.desired_capabilities,
            properties: reply.properties,
            ..Attach::default()
        }
    }
}

/// Links beyond the limit that may wait for the peer to take note that they are refused.
const REFUSED_AT_ONCE: usize = 16;
