//! Frames of a session that arrive: flow and transfer (AMQP 2.5.6, 2.6.7, 2.6.12).

use bytes::Bytes;

use super::connection::{Connection, Step, Told};
use super::error::{ConnectionError, Fault, LinkError, SessionError};
use super::event::{DeliveryRef, Event, First, LinkId, SessionId, TransferEvent};
use super::link::{Incoming, LinkEnd, LinkState, Receiver};
use super::session::{FRAME_OVERHEAD, Session};
use super::unsettled::Entry;
use crate::codec::{DeliveryState, Disposition, Flow, ReceiverSettleMode, Serial, Transfer};

impl Connection {
    /// Grants credit on a receiving link: the link-credit from now on. The sender is told with
    /// the next `flush`.
    ///
    /// Deliveries that are on their way when credit is reduced are still taken.
    #[inline]
    pub(crate) fn set_credit(&mut self, link: LinkId, credit: u32) {
        let Some(index) = self.links.index(link) else {
            return;
        };
        let receiver = self
            .links
            .get_mut(index)
            .and_then(|link| link.receiver_mut());
        if receiver.is_some_and(|receiver| receiver.credit.grant(credit)) {
            self.flow_is_due(index);
        }
    }

    /// Puts up with so many deliveries beyond the credit granted, from a sender that is known to
    /// count its credit late.
    pub(crate) fn allow_overdraft(&mut self, link: LinkId, deliveries: u32) {
        let link = self.links.index(link).and_then(|at| self.links.get_mut(at));
        if let Some(receiver) = link.and_then(|link| link.receiver_mut()) {
            receiver.credit.allow_overdraft(deliveries);
        }
    }

    /// The link-credit that is left on a receiving link.
    #[inline]
    pub(crate) fn credit(&self, link: LinkId) -> u32 {
        let link = self.links.find(link);
        let receiver = link.and_then(|link| link.receiver());
        receiver.map_or(0, |receiver| receiver.credit.link_credit())
    }

    /// What is to be said of a delivery whose source does not know MODIFIED: that it is released.
    pub(crate) fn known_to_source<'a>(
        &self,
        link: LinkId,
        state: Option<&'a DeliveryState>,
    ) -> Option<&'a DeliveryState> {
        if !matches!(state, Some(DeliveryState::Modified(_))) {
            return state;
        }
        let receiver = self.links.find(link).and_then(|link| link.receiver());
        match receiver.is_some_and(|receiver| receiver.knows_no_modified) {
            true => Some(&DeliveryState::Released),
            false => state,
        }
    }

    /// What the sender of a receiving link last said it has waiting.
    #[cfg(test)]
    pub(crate) fn available(&self, link: LinkId) -> u32 {
        let link = self.links.find(link);
        let receiver = link.and_then(|link| link.receiver());
        receiver.map_or(0, |receiver| receiver.credit.available)
    }

    /// Asks the sender to use up its credit. `Event::Flow` comes when none is left.
    pub(crate) fn drain(&mut self, link: LinkId) {
        let Some(index) = self.links.index(link) else {
            return;
        };
        let receiver = self
            .links
            .get_mut(index)
            .and_then(|link| link.receiver_mut());
        if receiver.is_some_and(|receiver| receiver.credit.start_drain()) {
            self.flow_is_due(index);
        }
    }

    /// The owner has moved on that many transfer frames of a session: every `Event::Transfer`
    /// has taken one place in its incoming window, and its payload counted as long.
    #[inline]
    pub(crate) fn release_window(&mut self, session: SessionId, frames: u32, octets: u32) {
        if let Some(entry) = self.sessions.get_mut(session.0) {
            let octets = entry.window.release(frames, octets);
            let due = entry.window.is_due();
            self.sessions.held_octets -= octets;
            if due {
                self.sessions.mark_dirty(session.0);
            }
        }
    }

    /// Transfer frames that the peer may still send in a session before it has to wait.
    pub(crate) fn window_left(&self, session: SessionId) -> u32 {
        self.sessions
            .get(session.0)
            .map_or(0, |entry| entry.window.incoming_window())
    }

    /// The session on a channel, ended or not, for a transfer.
    #[inline]
    pub(super) fn session_on(&self, channel: u16) -> Result<u16, ConnectionError> {
        if self.remote().is_none() {
            return Err(ConnectionError::NotAllowed("the first frame must be open"));
        }
        self.any_session_on(channel)
    }

    pub(super) fn check_range(&self, session: u16, disposition: &Disposition) -> Result<(), Fault> {
        if Serial(disposition.last).is_before(Serial(disposition.first)) {
            let error = SessionError::InvalidField("last is before first");
            return Err(Fault::Session(session, error));
        }
        Ok(())
    }

    pub(super) fn on_flow(&mut self, index: u16, flow: &Flow) -> Result<Option<Event>, Fault> {
        let Some(session) = self.sessions.get_mut(index) else {
            return Ok(None);
        };
        let opened = session.window.on_flow(flow);
        let mut event = None;
        if let Some(link_flow) = &flow.link {
            let link_index = self.attached_on(index, link_flow.handle)?;
            let id = self.links.id(link_index);
            let Some(link) = self.links.get_mut(link_index) else {
                return Ok(None);
            };
            let changed = match &mut link.end {
                _ if matches!(link.state, LinkState::DetachSent { .. }) => false,
                LinkEnd::Sender(sender) => sender.credit.on_flow(link_flow),
                LinkEnd::Receiver(receiver) => receiver.credit.on_flow(link_flow),
            };
            if changed && link.is_attached() {
                event = Some(Event::Flow {
                    link: id,
                    token: link.token,
                });
            }
            if flow.echo {
                self.flow_is_due(link_index);
            }
        } else if flow.echo {
            if let Some(session) = self.sessions.get_mut(index) {
                session.echo = true;
            }
            self.sessions.mark_dirty(index);
        }
        if opened {
            self.send_endings(index);
            let later = event.replace(Event::Window);
            self.pending.extend(later.map(Told::Event));
        }
        Ok(event)
    }

    /// Takes in a frame of a delivery.
    #[inline]
    pub(super) fn on_transfer(
        &mut self,
        index: u16,
        transfer: &mut Transfer,
        payload: Bytes,
    ) -> Result<Step, Fault> {
        let Some(session) = self.sessions.get_mut(index) else {
            return Ok(Step::Again);
        };
        if !session.is_mapped() {
            return Ok(Step::Again); // its end is on the way
        }
        let octets = payload.len();
        if !session.window.receive(octets) {
            return Err(Fault::Session(index, SessionError::WindowViolation));
        }
        self.sessions.held_octets += octets as u64 + FRAME_OVERHEAD;
        if self.sessions.held_octets > self.config.limits.max_held_octets {
            let error = SessionError::Limit("what the connection's sessions send and nobody takes");
            return Err(Fault::Session(index, error));
        }
        let event = self.deliver(index, transfer, payload);
        if !matches!(event, Ok(Some(_))) {
            // The owner does not see this frame and so cannot return its place.
            let octets = u32::try_from(octets).unwrap_or(u32::MAX);
            self.release_window(SessionId(index), 1, octets);
        }
        Ok(event?.map_or(Step::Again, Step::Event))
    }

    #[inline]
    fn deliver(
        &mut self,
        index: u16,
        transfer: &mut Transfer,
        payload: Bytes,
    ) -> Result<Option<Event>, Fault> {
        let link_index = self.attached_on(index, transfer.handle)?;
        let link_id = self.links.id(link_index);
        let (Some(session), Some(link)) =
            (self.sessions.get_mut(index), self.links.get_mut(link_index))
        else {
            return Ok(None);
        };
        let discarding = matches!(link.state, LinkState::DetachSent { .. });
        let LinkEnd::Receiver(receiver) = &mut link.end else {
            if discarding {
                return Ok(None);
            }
            let error = LinkError::NotAllowed("a receiver does not send transfers");
            return Err(Fault::Link(link_index, error));
        };
        let is_first = receiver.delivery.is_none();
        let (id, mut size, mut settled, ignored) = match &receiver.delivery {
            Some(delivery) => match continues(delivery, transfer) {
                Ok(()) => (
                    delivery.id,
                    delivery.size,
                    delivery.settled,
                    delivery.ignored,
                ),
                Err(error) => return Err(Fault::Session(index, error)),
            },
            None => match session.start_incoming(transfer) {
                Ok(id) => (id, 0, false, is_over(transfer)),
                Err(error) => return Err(Fault::Session(index, error)),
            },
        };
        if is_first && !discarding && !receiver.credit.receive() {
            return Err(Fault::Link(link_index, LinkError::TransferLimitExceeded));
        }
        size += payload.len() as u64;
        settled |= transfer.settled == Some(true) || transfer.aborted;
        let more = transfer.more && !transfer.aborted;
        receiver.note(id, transfer, size, settled, more);
        if discarding || ignored && more {
            return Ok(None);
        }
        if ignored {
            // It took up credit, which its end gives back.
            return Ok(Some(Event::Transfer(TransferEvent {
                link: link_id,
                token: link.token,
                delivery: DeliveryRef {
                    session: SessionId(index),
                    id,
                },
                first: Some(First { format: 0 }),
                settled: true,
                state: None,
                payload,
                more: false,
                aborted: true,
            })));
        }
        let max = receiver.max_message_size;
        if max > 0 && size > max && !transfer.aborted {
            return Err(Fault::Link(link_index, LinkError::MessageSizeExceeded(max)));
        }
        let second = transfer.rcv_settle_mode == Some(ReceiverSettleMode::Second);
        if second && !settled && link.rcv_settle_mode == ReceiverSettleMode::First {
            let error = LinkError::InvalidField("rcv-settle-mode second on a link that is first");
            return Err(Fault::Link(link_index, error));
        }
        if is_first && !settled {
            if session.incoming.len() >= self.config.limits.max_unsettled {
                let error = LinkError::Limit("the number of unsettled deliveries");
                return Err(Fault::Link(link_index, error));
            }
            let entry = Entry {
                link: link_index,
                token: 0,
            };
            session.incoming.insert(id, entry);
            link.unsettled += 1;
        } else if !is_first && settled && session.incoming.remove(id).is_some() {
            link.unsettled -= 1;
        }
        session.last_receiver = Some(link_index);
        Ok(Some(Event::Transfer(TransferEvent {
            link: link_id,
            token: link.token,
            delivery: DeliveryRef {
                session: SessionId(index),
                id,
            },
            first: match transfer.delivery_tag {
                Some(_) if is_first => Some(First {
                    format: transfer.message_format.unwrap_or(0),
                }),
                _ => None,
            },
            settled,
            state: transfer.state.take(),
            payload,
            more,
            aborted: transfer.aborted,
        })))
    }
}

/// Whether what a sender resumes (AMQP 2.6.13) has its outcome already, so that there is nothing to
/// deliver. Everything else that it resumes starts over: no receiver of ours remembers any of it.
fn is_over(transfer: &Transfer) -> bool {
    let state = transfer.state.as_ref();
    transfer.resume && state.is_some_and(DeliveryState::is_terminal)
}

impl Receiver {
    /// Remembers a delivery of which more is to come, and forgets it at its end.
    #[inline]
    fn note(&mut self, id: u32, transfer: &Transfer, size: u64, settled: bool, more: bool) {
        let ignored = is_over(transfer);
        match &mut self.delivery {
            Some(delivery) if more => {
                delivery.size = size;
                delivery.settled = settled;
            }
            None if more => {
                self.delivery = Some(Incoming {
                    id,
                    tag: transfer.delivery_tag.unwrap_or_default(),
                    size,
                    settled,
                    ignored,
                });
            }
            Some(_) => self.delivery = None,
            None => {}
        }
    }
}

impl Session {
    /// Checks the first frame of a delivery; its number.
    #[inline]
    fn start_incoming(&mut self, transfer: &Transfer) -> Result<u32, SessionError> {
        let (Some(id), Some(_)) = (transfer.delivery_id, &transfer.delivery_tag) else {
            return Err(SessionError::InvalidField(
                "the first transfer of a delivery needs delivery-id and delivery-tag",
            ));
        };
        if self
            .expected_delivery_id
            .is_some_and(|expected| expected != id)
        {
            return Err(SessionError::InvalidField("delivery-id is out of sequence"));
        }
        self.expected_delivery_id = Some(id.wrapping_add(1));
        Ok(id)
    }
}

/// Checks a later frame of a delivery.
fn continues(delivery: &Incoming, transfer: &Transfer) -> Result<(), SessionError> {
    if transfer.delivery_id.is_some_and(|id| id != delivery.id) {
        return Err(SessionError::InvalidField(
            "delivery-id changed within a delivery",
        ));
    }
    if transfer.delivery_tag.is_some_and(|tag| tag != delivery.tag) {
        return Err(SessionError::InvalidField(
            "delivery-tag changed within a delivery",
        ));
    }
    Ok(())
}
