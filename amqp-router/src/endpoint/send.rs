//! Deliveries that leave (AMQP 2.6.12, 2.6.14).

use bytes::Bytes;

use super::connection::Connection;
use super::error::NoCredit;
use super::event::LinkId;
use super::link::{LastFrame, Link};
use super::output::OutBuf;
use super::session::Session;
use super::unsettled::Entry;
use crate::codec::{DeliveryState, DeliveryTag, Transfer};

/// What a sending link may send.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Sendable {
    /// Deliveries.
    pub(crate) credit: u32,
    /// The receiver wants the credit used up: send what there is, then call `drained`.
    pub(crate) drain: bool,
    /// Transfer frames, for all links of the session together.
    pub(crate) window: u32,
    /// The peer lets its session window run down: better few large frames than many small ones.
    pub(crate) scarce: bool,
}

/// How a delivery starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure<'a> {
    /// Comes back in `Event::Updated` unless the delivery is settled.
    pub(crate) token: u32,
    pub(crate) tag: DeliveryTag,
    /// The message-format.
    pub(crate) format: u32,
    pub(crate) settled: bool,
    pub(crate) state: Option<&'a DeliveryState>,
    /// Octets to be sent before the payload: sections of ours.
    pub(crate) prefix: &'a [u8],
}

impl Connection {
    /// What a sending link may send now. Nothing unless it is attached.
    #[inline]
    pub(crate) fn sendable(&self, link: LinkId) -> Sendable {
        let Some(link) = self.links.find(link).filter(|link| link.is_attached()) else {
            return Sendable::default();
        };
        let (Some(sender), Some(session)) = (link.sender(), self.sessions.get(link.session)) else {
            return Sendable::default();
        };
        if !session.is_mapped() {
            return Sendable::default();
        }
        Sendable {
            credit: sender.credit.link_credit(),
            drain: sender.credit.drain(),
            window: session.window.sendable(),
            scarce: session.window.is_scarce(),
        }
    }

    /// Starts a delivery, and ends it unless there is `more` or the window shuts; returns its
    /// delivery-number.
    ///
    /// What could not leave yet stays in `payload` and goes with `continue_delivery`.
    ///
    /// # Errors
    /// Nothing happens without link-credit or session window, or while the link's last delivery
    /// has not ended.
    #[inline]
    pub(crate) fn start_delivery(
        &mut self,
        link: LinkId,
        departure: Departure<'_>,
        payload: &mut Bytes,
        more: bool,
    ) -> Result<u32, NoCredit> {
        let Departure { token, settled, .. } = departure;
        let link_index = self.links.index(link).ok_or(NoCredit)?;
        let link = self.links.get_mut(link_index).ok_or(NoCredit)?;
        let session = self.sessions.get_mut(link.session).ok_or(NoCredit)?;
        let ready = link.is_attached() && session.is_mapped() && session.window.sendable() > 0;
        let handle = link.handle;
        let sender = link.sender_mut().ok_or(NoCredit)?;
        if !ready || sender.delivery.is_some() || !sender.credit.spend() {
            return Err(NoCredit);
        }
        let id = session.take_delivery_id();
        sender.delivery = Some(id);
        if !settled {
            session.outgoing.insert(
                id,
                Entry {
                    link: link_index,
                    token,
                },
            );
            link.unsettled += 1;
        }
        let first = Transfer {
            handle,
            delivery_id: Some(id),
            delivery_tag: Some(departure.tag),
            message_format: Some(departure.format),
            settled: Some(settled),
            state: departure.state.cloned(),
            ..Transfer::default()
        };
        let channel = link.session;
        let mut frames = Frames {
            out: &mut self.out,
            session,
            channel,
            max: self.remote_max_frame_size,
        };
        frames.send(link, first, departure.prefix, payload, more);
        Ok(id)
    }

    /// Goes on with the delivery that the link has started; nothing happens if there is none.
    #[inline]
    pub(crate) fn continue_delivery(&mut self, link: LinkId, payload: &mut Bytes, more: bool) {
        let Some(index) = self.links.index(link) else {
            return;
        };
        let Some(link) = self.links.get_mut(index) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(link.session) else {
            return;
        };
        let ready = link.is_attached() && session.is_mapped();
        let handle = link.handle;
        let Some(sender) = link.sender_mut() else {
            return;
        };
        if !ready || sender.delivery.is_none() || sender.last_frame.is_some() {
            return;
        }
        if payload.is_empty() && !more {
            sender.last_frame = Some(LastFrame::Complete);
            session.endings.push(index);
            let session = link.session;
            return self.send_endings(session);
        }
        if payload.is_empty() || session.window.sendable() == 0 {
            return;
        }
        let next = Transfer {
            handle,
            ..Transfer::default()
        };
        let channel = link.session;
        let mut frames = Frames {
            out: &mut self.out,
            session,
            channel,
            max: self.remote_max_frame_size,
        };
        frames.send(link, next, &[], payload, more);
    }

    /// The octets of a delivery that fit a frame which is not its first.
    pub(crate) fn frame_capacity(&self) -> usize {
        self.remote_max_frame_size.saturating_sub(HEAD_MAX)
    }

    /// Gives up the delivery that the link has started; nothing happens if there is none.
    pub(crate) fn abort_delivery(&mut self, link: LinkId) {
        let Some(index) = self.links.index(link) else {
            return;
        };
        let Some(link) = self.links.get_mut(index) else {
            return;
        };
        let session_index = link.session;
        let Some(sender) = link.sender_mut() else {
            return;
        };
        let Some(id) = sender.delivery else { return };
        let earlier = sender.last_frame.replace(LastFrame::Abort);
        let Some(session) = self.sessions.get_mut(session_index) else {
            return;
        };
        if session.outgoing.remove(id).is_some() {
            link.settled(id);
        }
        if earlier.is_none() {
            session.endings.push(index);
        }
        self.send_endings(session_index);
    }

    /// Whether a delivery has started on this link and not ended.
    #[cfg(test)]
    pub(crate) fn is_sending(&self, link: LinkId) -> bool {
        let link = self.links.find(link);
        link.and_then(|link| link.sender())
            .is_some_and(|sender| sender.delivery.is_some())
    }

    /// Spends the rest of the credit, as the receiver asked with drain (AMQP 2.6.7).
    pub(crate) fn drained(&mut self, link: LinkId) {
        let Some(index) = self.links.index(link) else {
            return;
        };
        let sender = self.links.get_mut(index).and_then(|link| link.sender_mut());
        if let Some(sender) = sender
            && sender.credit.drain()
            && sender.credit.drained()
        {
            self.flow_is_due(index);
        }
    }

    /// Says how many deliveries wait for credit, in the next flow of this link.
    #[cfg(test)]
    pub(crate) fn set_available(&mut self, link: LinkId, available: u32) {
        let Some(index) = self.links.index(link) else {
            return;
        };
        let sender = self.links.get_mut(index).and_then(|link| link.sender_mut());
        if let Some(sender) = sender {
            sender.credit.available = available;
        }
    }

    /// Writes the last frames that had to wait, as far as the window allows.
    pub(super) fn send_endings(&mut self, index: u16) {
        let Some(session) = self.sessions.get_mut(index) else {
            return;
        };
        while session.is_mapped() && session.window.sendable() > 0 {
            let Some(link) = session.endings.pop() else {
                return;
            };
            let Some(link) = self.links.get_mut(link).filter(|link| link.is_attached()) else {
                continue;
            };
            let handle = link.handle;
            let Some(sender) = link.sender_mut() else {
                continue;
            };
            let Some(last_frame) = sender.last_frame.take() else {
                continue;
            };
            sender.delivery = None;
            let aborted = last_frame == LastFrame::Abort;
            let last = Transfer {
                handle,
                aborted,
                ..Transfer::default()
            };
            session.window.send();
            last.encode_frame_head(index, 0, self.out.tail());
        }
    }
}

/// More than the frame header and the performative of a transfer that only goes on.
const HEAD_MAX: usize = 64;

/// Where transfer frames of a session go.
struct Frames<'a> {
    out: &'a mut OutBuf,
    session: &'a mut Session,
    channel: u16,
    /// The peer's max-frame-size.
    max: usize,
}

impl Frames<'_> {
    /// Writes as many frames as the payload needs and the window, which is open, allows.
    #[inline]
    fn send(
        &mut self,
        link: &mut Link,
        mut head: Transfer,
        prefix: &[u8],
        payload: &mut Bytes,
        more: bool,
    ) {
        let mut prefix = prefix;
        if prefix.len() > self.max / 2 {
            *payload = [prefix, &payload[..]].concat().into();
            prefix = &[];
        }
        loop {
            let whole = self.write(&mut head, prefix, payload, more);
            prefix = &[];
            if whole
                && !more
                && let Some(sender) = link.sender_mut()
            {
                sender.delivery = None;
            }
            if whole || self.session.window.sendable() == 0 {
                return;
            }
            head = Transfer {
                handle: head.handle,
                ..Transfer::default()
            };
        }
    }

    /// Writes one frame; true if it took all of the payload.
    #[inline]
    fn write(
        &mut self,
        head: &mut Transfer,
        prefix: &[u8],
        payload: &mut Bytes,
        more: bool,
    ) -> bool {
        self.session.window.send();
        head.more = more;
        let tail = self.out.tail();
        let start = tail.len();
        let size = prefix.len() + payload.len();
        head.encode_frame_head(self.channel, size, tail);
        if tail.len() - start + size <= self.max {
            tail.extend_from_slice(prefix);
            self.out.push_payload(std::mem::take(payload));
            return true;
        }
        self.write_part(start, head, prefix, payload);
        false
    }

    /// Writes, in place of what follows `start`, a frame with as much payload as it takes.
    #[cold]
    fn write_part(
        &mut self,
        start: usize,
        head: &mut Transfer,
        prefix: &[u8],
        payload: &mut Bytes,
    ) {
        head.more = true;
        let tail = self.out.tail();
        tail.truncate(start);
        head.encode_frame_head(self.channel, 0, tail);
        if tail.len() - start + prefix.len() >= self.max {
            head.state = None; // the one part of a head that has no bound
            tail.truncate(start);
            head.encode_frame_head(self.channel, 0, tail);
        }
        let room = self
            .max
            .saturating_sub(tail.len() - start + prefix.len())
            .min(payload.len());
        tail.truncate(start);
        head.encode_frame_head(self.channel, prefix.len() + room, tail);
        tail.extend_from_slice(prefix);
        self.out.push_payload(payload.split_to(room));
    }
}
