//! Writing frames: what a turn of the owner has gathered, and heartbeats.

use std::time::Instant;

use super::connection::{Connection, State};
use super::link::{Link, LinkEnd, LinkState};
use super::timer::Timer;
use crate::codec::{
    DeliveryState, Disposition, Error, Flow, LinkFlow, Performative, Role, encode_frame,
};

impl Connection {
    /// Writes the dispositions and flows of a turn: to be called before `out` is written.
    pub(crate) fn flush(&mut self, now: Instant) {
        while let Some(session) = self.sessions.take_dirty() {
            self.flush_session(session);
        }
        if !self.out.is_empty() {
            self.last_sent = now;
        }
    }

    fn flush_session(&mut self, index: u16) {
        if !self.sessions.is_mapped(index) {
            return;
        }
        self.flush_dispositions(index);
        let Some(session) = self.sessions.get_mut(index) else {
            return;
        };
        let mut flows = std::mem::take(&mut session.flows);
        for link in flows.drain(..) {
            self.write_link_flow(index, link);
        }
        let Some(session) = self.sessions.get_mut(index) else {
            return;
        };
        session.flows = flows; // keeps its memory for the next turn
        if session.window.is_due() {
            self.open_window(index);
        }
        let Some(session) = self.sessions.get_mut(index) else {
            return;
        };
        if session.echo {
            let flow = session.window.flow();
            session.echo = false;
            self.write_flow(index, &flow);
        }
    }

    /// Writes the gathered dispositions of a session, before something that must follow them.
    pub(super) fn flush_dispositions(&mut self, index: u16) {
        let Some(session) = self.sessions.get_mut(index) else {
            return;
        };
        let incoming = session.pending_incoming.take();
        let outgoing = session.pending_outgoing.take();
        if let Some(pending) = incoming {
            self.write_disposition(index, pending.into_disposition(Role::Receiver));
        }
        if let Some(pending) = outgoing {
            self.write_disposition(index, pending.into_disposition(Role::Sender));
        }
    }

    /// Opens the incoming window of a session. Some peers go on sending only after a flow for one
    /// of their links, so it goes to the link that was busy last.
    fn open_window(&mut self, index: u16) {
        let Some(session) = self.sessions.get_mut(index) else {
            return;
        };
        let is_ours = |link: &Link| link.session == index && link.is_attached();
        match session.last_receiver {
            Some(link) if self.links.get(link).is_some_and(is_ours) => {
                self.write_link_flow(index, link);
            }
            _ => {
                let flow = session.window.flow();
                session.echo = false;
                self.write_flow(index, &flow);
            }
        }
    }

    fn write_link_flow(&mut self, index: u16, link_index: u32) {
        let Some(link) = self.links.get_mut(link_index) else {
            return;
        };
        link.flow_due = false;
        if link.session != index || !link.is_attached() {
            return;
        }
        let link_flow = link.flow();
        let Some(session) = self.sessions.get_mut(index) else {
            return;
        };
        session.echo = false;
        let flow = Flow {
            link: Some(link_flow),
            ..session.window.flow()
        };
        self.write_flow(index, &flow);
    }

    fn write_flow(&mut self, channel: u16, flow: &Flow) {
        encode_frame(channel, 0, self.out.tail(), |out| flow.encode(out));
    }

    pub(super) fn write_disposition(&mut self, channel: u16, mut disposition: Disposition) {
        if self.try_disposition(channel, &disposition) {
            return;
        }
        disposition.state = disposition.state.map(without_details);
        self.try_disposition(channel, &disposition);
    }

    fn try_disposition(&mut self, channel: u16, disposition: &Disposition) -> bool {
        let (max, tail) = (self.remote_max_frame_size, self.out.tail());
        let start = tail.len();
        encode_frame(channel, 0, tail, |out| disposition.encode(out));
        let fits = tail.len() - start <= max;
        if !fits {
            tail.truncate(start);
        }
        fits
    }

    /// Has a flow for this link written at the next `flush`.
    pub(super) fn flow_is_due(&mut self, index: u32) {
        let Some(link) = self.links.get_mut(index) else {
            return;
        };
        if link.flow_due || link.state != LinkState::Attached {
            return;
        }
        link.flow_due = true;
        let session_index = link.session;
        if let Some(session) = self.sessions.get_mut(session_index) {
            session.flows.push(index);
            self.sessions.mark_dirty(session_index);
        }
    }

    /// Writes a whole frame; false, and nothing is written, if the peer would not take it.
    pub(super) fn write(&mut self, channel: u16, performative: &Performative) -> bool {
        let (max, tail) = (self.remote_max_frame_size, self.out.tail());
        let start = tail.len();
        performative.encode_frame(channel, tail);
        let fits = tail.len() - start <= max;
        if !fits {
            tail.truncate(start);
        }
        fits
    }

    /// Writes a detach, end or close with as much of the error as the peer takes.
    pub(super) fn write_with_error(
        &mut self,
        channel: u16,
        error: Option<Error>,
        performative: impl Fn(Option<Error>) -> Performative,
    ) {
        let condition = error.as_ref().map(|error| error.condition.clone());
        if self.write(channel, &performative(error)) {
            return;
        }
        let bare = condition.map(|condition| Error {
            condition,
            ..Error::default()
        });
        if !self.write(channel, &performative(bare)) {
            self.write(channel, &performative(None));
        }
    }

    /// Sends an empty frame if the peer has not heard from us for long enough (AMQP 2.4.5).
    pub(super) fn check_heartbeat(&mut self, now: Instant) {
        let (Some(interval), State::Opened) = (self.heartbeat, &self.state) else {
            return;
        };
        let mut next = self.last_sent + interval;
        if next <= now {
            // What still waits to be written will do as well.
            if self.out.is_empty() && self.open_sent {
                encode_frame(0, 0, self.out.tail(), |_| {});
            }
            self.last_sent = now;
            next = now + interval;
        }
        self.timers.set(Timer::Heartbeat, next);
    }
}

impl Link {
    /// What a flow says of our end of this link.
    fn flow(&self) -> LinkFlow {
        match &self.end {
            LinkEnd::Sender(sender) => LinkFlow {
                handle: self.handle,
                delivery_count: Some(sender.credit.delivery_count()),
                link_credit: Some(sender.credit.link_credit()),
                available: Some(sender.credit.available),
                drain: sender.credit.drain(),
            },
            LinkEnd::Receiver(receiver) => LinkFlow {
                handle: self.handle,
                delivery_count: Some(receiver.credit.delivery_count()),
                link_credit: Some(receiver.credit.link_credit()),
                available: None,
                drain: receiver.credit.drain(),
            },
        }
    }
}

/// The same outcome without what makes it large.
fn without_details(state: DeliveryState) -> DeliveryState {
    match state {
        DeliveryState::Rejected(error) => {
            let condition = error.map(|error| error.condition).unwrap_or_default();
            let bare = Error {
                condition,
                ..Error::default()
            };
            DeliveryState::Rejected((bare.condition.as_str().len() < 256).then(|| Box::new(bare)))
        }
        DeliveryState::Modified(modified) => {
            DeliveryState::modified(modified.delivery_failed, modified.undeliverable_here)
        }
        DeliveryState::Other(_) => DeliveryState::Released,
        state => state,
    }
}
