//! Dispositions, both ways (AMQP 2.7.6): ours are gathered into ranges, the peer's are taken
//! apart into deliveries.

use super::connection::Connection;
use super::event::{DeliveryRef, Event, SessionId};
use super::session::Session;
use super::unsettled::{Entry, Unsettled};
use crate::codec::{DeliveryState, Disposition, Role};

/// A disposition that waits for more of its kind.
#[derive(Debug)]
pub(super) struct Pending {
    first: u32,
    last: u32,
    settled: bool,
    state: Option<DeliveryState>,
}

/// A disposition of the peer of which some deliveries have not been told yet.
#[derive(Debug)]
pub(super) struct Walk {
    session: u16,
    /// The peer's role.
    role: Role,
    next: u32,
    last: u32,
    settled: bool,
    state: Option<DeliveryState>,
}

impl Pending {
    fn new(id: u32, state: Option<&DeliveryState>, settled: bool) -> Self {
        Self {
            first: id,
            last: id,
            settled,
            state: state.cloned(),
        }
    }

    /// Widens the range by one delivery if that says the same and is next to it.
    #[inline]
    fn merge(&mut self, id: u32, state: Option<&DeliveryState>, settled: bool) -> bool {
        if self.settled != settled || self.state.as_ref() != state {
            return false;
        }
        if id == self.last.wrapping_add(1) {
            self.last = id;
        } else if id == self.first.wrapping_sub(1) {
            self.first = id;
        } else {
            return false;
        }
        true
    }

    /// As the performative, from the end with this role.
    pub(super) fn into_disposition(self, role: Role) -> Disposition {
        Disposition {
            role,
            first: self.first,
            last: self.last,
            settled: self.settled,
            state: self.state,
            batchable: false,
        }
    }
}

impl Session {
    /// What is unsettled of the deliveries that the end with this role receives or sends.
    #[inline]
    fn unsettled(&mut self, ours: Role) -> &mut Unsettled {
        match ours {
            Role::Receiver => &mut self.incoming,
            Role::Sender => &mut self.outgoing,
        }
    }

    #[inline]
    fn pending(&mut self, ours: Role) -> &mut Option<Pending> {
        match ours {
            Role::Receiver => &mut self.pending_incoming,
            Role::Sender => &mut self.pending_outgoing,
        }
    }
}

impl Connection {
    /// Gives an incoming delivery a name, which comes back in `Event::Updated`.
    #[inline]
    pub(crate) fn set_delivery_token(&mut self, delivery: DeliveryRef, token: u32) {
        if let Some(session) = self.sessions.get_mut(delivery.session.0)
            && let Some(entry) = session.incoming.get_mut(delivery.id)
        {
            entry.token = token;
        }
    }

    /// Tells the sender the state of a delivery, at the latest with the next `flush`.
    ///
    /// A delivery that is settled is forgotten; one that is settled already is left alone.
    #[inline]
    pub(crate) fn update(
        &mut self,
        delivery: DeliveryRef,
        state: Option<&DeliveryState>,
        settled: bool,
    ) {
        self.dispose(
            Role::Receiver,
            delivery.session,
            delivery.id,
            state,
            settled,
        );
    }

    /// Drops an incoming delivery without a disposition.
    pub(crate) fn forget(&mut self, delivery: DeliveryRef) {
        self.forget_delivery(Role::Receiver, delivery.session, delivery.id);
    }

    /// Tells the receiver the state of a delivery that we sent, or settles it; the answer to an
    /// unsettled outcome where rcv-settle-mode is second.
    #[inline]
    pub(crate) fn update_sent(
        &mut self,
        session: SessionId,
        id: u32,
        state: Option<&DeliveryState>,
        settled: bool,
    ) {
        self.dispose(Role::Sender, session, id, state, settled);
    }

    /// Drops an outgoing delivery without a disposition.
    pub(crate) fn forget_sent(&mut self, session: SessionId, id: u32) {
        self.forget_delivery(Role::Sender, session, id);
    }

    #[inline]
    fn dispose(
        &mut self,
        ours: Role,
        id: SessionId,
        delivery: u32,
        state: Option<&DeliveryState>,
        settled: bool,
    ) {
        let Some(session) = self.sessions.get_mut(id.0) else {
            return;
        };
        if !session.is_mapped() {
            return;
        }
        let unsettled = session.unsettled(ours);
        if settled {
            let Some(entry) = unsettled.remove(delivery) else {
                return;
            };
            if let Some(link) = self.links.get_mut(entry.link) {
                link.settled(delivery);
            }
        } else if unsettled.get(delivery).is_none() {
            return;
        }
        let pending = session.pending(ours);
        let merged = pending
            .as_mut()
            .is_some_and(|pending| pending.merge(delivery, state, settled));
        if merged {
            return;
        }
        let earlier = pending.replace(Pending::new(delivery, state, settled));
        if let Some(earlier) = earlier {
            self.write_disposition(id.0, earlier.into_disposition(ours));
        }
        self.sessions.mark_dirty(id.0);
    }

    fn forget_delivery(&mut self, ours: Role, id: SessionId, delivery: u32) {
        let Some(session) = self.sessions.get_mut(id.0) else {
            return;
        };
        if let Some(entry) = session.unsettled(ours).remove(delivery)
            && let Some(link) = self.links.get_mut(entry.link)
        {
            link.settled(delivery);
        }
    }

    /// Takes in a disposition of the peer; the event of its first delivery.
    pub(super) fn on_disposition(&mut self, index: u16, disposition: Disposition) -> Option<Event> {
        if !disposition.settled && disposition.state.is_none() {
            return None;
        }
        let walk = Walk {
            session: index,
            role: disposition.role,
            next: disposition.first,
            last: disposition.last,
            settled: disposition.settled,
            state: disposition.state,
        };
        self.walk_on(walk)
    }

    /// The event of the next delivery in the range; what is left of it is kept in `self.walk`.
    pub(super) fn walk_on(&mut self, mut walk: Walk) -> Option<Event> {
        let session = self.sessions.get_mut(walk.session)?;
        let unsettled = session.unsettled(walk.role.opposite());
        let id = unsettled.next_in(walk.next, walk.last)?;
        let entry = if walk.settled {
            unsettled.remove(id)
        } else {
            unsettled.get(id)
        };
        let Entry { link, token } = entry.expect("next_in returns what is there");
        let (role, session, settled) = (walk.role, SessionId(walk.session), walk.settled);
        let mut state = if id == walk.last {
            walk.state.take()
        } else {
            let state = walk.state.clone();
            walk.next = id.wrapping_add(1);
            self.walk = Some(walk);
            state
        };
        if let Some(link) = self.links.get_mut(link) {
            if let Some(default) = link.default_outcome() {
                state = default.apply(id, state, settled);
            }
            if settled {
                link.settled(id);
            }
        }
        Some(Event::Updated {
            role,
            token,
            session,
            id,
            state,
            settled,
        })
    }
}
