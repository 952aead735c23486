//! Links of programs in this process: an embedder's, and the router's own management agent.
//!
//! They follow the same rules of credit and settlement as a remote peer's, without frames.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;

use crate::codec::{DeliveryState, Error};
use crate::control::links::Termini;
use crate::control::table::{Direction, Slot};
use crate::forwarding::wire::{Allowance, Head};
use crate::policy::Grant;

/// The links of one program, which share its fate as those of a connection do.
#[derive(Debug, Default)]
pub(crate) struct LocalConnection {
    links: Slab<LocalLink>,
    events: Vec<LocalEvent>,
}

/// A link as the program that attached it knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LocalLinkId(pub(crate) u32);

#[derive(Debug)]
struct LocalLink {
    direction: Direction,
    slot: Slot,
    /// Deliveries that may be started, in the direction of the link.
    credit: u32,
    drain: bool,
    next_delivery: u32,
    /// The delivery that is being received, while its frames come.
    receiving: u32,
    /// Forwarding's name for each delivery that awaits a settlement.
    unsettled: HashMap<u32, u32>,
}

/// What a local program is told of its links.
#[derive(Debug)]
#[expect(
    dead_code,
    reason = "every program has one link: it need not look which it is"
)]
pub(crate) enum LocalEvent {
    Attached {
        link: LocalLinkId,
        termini: Box<Termini>,
    },
    Refused {
        link: LocalLinkId,
        error: Error,
    },
    /// A sender may start this many deliveries in all from now on.
    Credit {
        link: LocalLinkId,
        credit: u32,
    },
    /// A sender's delivery got a state.
    Outcome {
        link: LocalLinkId,
        delivery: u32,
        state: Option<DeliveryState>,
        settled: bool,
    },
    /// A frame for a receiver.
    Transfer {
        link: LocalLinkId,
        delivery: u32,
        settled: bool,
        payload: Bytes,
        more: bool,
        /// On the first frame: see [`Head::barred`].
        barred: Option<Arc<Grant>>,
    },
    /// The delivery that a receiver was getting will not be completed.
    Aborted {
        link: LocalLinkId,
        delivery: u32,
    },
    /// A receiver that asked to be drained has nothing more to expect.
    Drained {
        link: LocalLinkId,
    },
    Detached {
        link: LocalLinkId,
        error: Option<Error>,
    },
}

impl LocalConnection {
    pub(crate) fn next_link(&self) -> LocalLinkId {
        LocalLinkId(self.links.vacant_key() as u32)
    }

    /// Makes a link, under the number that [`next_link`](Self::next_link) gave.
    pub(crate) fn add_link(&mut self, direction: Direction, slot: Slot) -> LocalLinkId {
        let key = self.links.insert(LocalLink {
            direction,
            slot,
            credit: 0,
            drain: false,
            next_delivery: 0,
            receiving: 0,
            unsettled: HashMap::new(),
        });
        LocalLinkId(key as u32)
    }

    pub(crate) fn remove_link(&mut self, link: LocalLinkId) -> Option<(Direction, Slot)> {
        let link = self.links.try_remove(link.0 as usize)?;
        Some((link.direction, link.slot))
    }

    /// The forwarding half of a link.
    pub(crate) fn slot(&self, link: LocalLinkId) -> Option<(Direction, Slot)> {
        self.links
            .get(link.0 as usize)
            .map(|link| (link.direction, link.slot))
    }

    pub(crate) fn slots(&self) -> Vec<(Direction, Slot)> {
        self.links
            .iter()
            .map(|(_, link)| (link.direction, link.slot))
            .collect()
    }

    pub(crate) fn take_events(&mut self) -> Vec<LocalEvent> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn notify(&mut self, event: LocalEvent) {
        self.events.push(event);
    }

    /// Uses up a sender's credit for one delivery and numbers it; `None` without credit.
    pub(crate) fn start_sending(&mut self, link: LocalLinkId) -> Option<(Slot, u32)> {
        let link = self.links.get_mut(link.0 as usize)?;
        link.credit = link.credit.checked_sub(1)?;
        let delivery = link.next_delivery;
        link.next_delivery = delivery.wrapping_add(1);
        Some((link.slot, delivery))
    }

    /// Lets a receiver get `credit` more deliveries.
    pub(crate) fn add_credit(&mut self, link: LocalLinkId, credit: u32, drain: bool) -> bool {
        let Some(link) = self.links.get_mut(link.0 as usize) else {
            return false;
        };
        link.credit = link.credit.saturating_add(credit);
        link.drain = drain;
        true
    }

    /// Forwarding's name for an unsettled delivery, which is thereby settled.
    pub(crate) fn settle(&mut self, link: LocalLinkId, delivery: u32) -> Option<u32> {
        self.links
            .get_mut(link.0 as usize)?
            .unsettled
            .remove(&delivery)
    }

    fn link(&mut self, link: u32) -> &mut LocalLink {
        self.links
            .get_mut(link as usize)
            .expect("forwarding drops a link before it is removed")
    }

    pub(super) fn update(
        &mut self,
        link: u32,
        delivery: u32,
        state: Option<&DeliveryState>,
        settled: bool,
    ) {
        let state = state.cloned();
        self.link(link).unsettled.remove(&delivery);
        let link = LocalLinkId(link);
        self.events.push(LocalEvent::Outcome {
            link,
            delivery,
            state,
            settled,
        });
    }

    pub(super) fn watch(&mut self, link: u32, delivery: u32, token: u32) {
        self.link(link).unsettled.insert(delivery, token);
    }

    pub(super) fn forget(&mut self, link: u32, delivery: u32) {
        self.link(link).unsettled.remove(&delivery);
    }

    pub(super) fn credit(&self, link: u32) -> u32 {
        self.links.get(link as usize).map_or(0, |link| link.credit)
    }

    pub(super) fn set_credit(&mut self, link: u32, credit: u32) {
        let stored = self.link(link);
        if stored.credit != credit {
            stored.credit = credit;
            self.events.push(LocalEvent::Credit {
                link: LocalLinkId(link),
                credit,
            });
        }
    }

    pub(super) fn detached(&mut self, link: u32, error: Error) {
        self.events.push(LocalEvent::Detached {
            link: LocalLinkId(link),
            error: Some(error),
        });
    }

    pub(super) fn allowance(&self, link: u32) -> Allowance {
        let link = self.links.get(link as usize);
        Allowance {
            credit: link.map_or(0, |link| link.credit),
            room: true,
            drain: link.is_some_and(|link| link.drain),
            join: 0,
        }
    }

    pub(super) fn start(&mut self, at: u32, head: &Head<'_>, payload: Bytes, more: bool) -> u32 {
        let link = self.link(at);
        link.credit = link.credit.saturating_sub(1);
        let delivery = link.next_delivery;
        link.next_delivery = delivery.wrapping_add(1);
        link.receiving = delivery;
        if !head.settled {
            link.unsettled.insert(delivery, head.token);
        }
        let (link, settled) = (LocalLinkId(at), head.settled);
        self.events.push(LocalEvent::Transfer {
            link,
            delivery,
            settled,
            payload,
            more,
            barred: head.barred.cloned(),
        });
        delivery
    }

    pub(super) fn proceed(&mut self, at: u32, payload: Bytes, more: bool) {
        let delivery = self.link(at).receiving;
        let link = LocalLinkId(at);
        // A continuation repeats what the first frame said of settlement.
        let settled = !self.link(at).unsettled.contains_key(&delivery);
        self.events.push(LocalEvent::Transfer {
            link,
            delivery,
            settled,
            payload,
            more,
            barred: None,
        });
    }

    pub(super) fn abort(&mut self, at: u32) {
        let delivery = self.link(at).receiving;
        self.link(at).unsettled.remove(&delivery);
        self.events.push(LocalEvent::Aborted {
            link: LocalLinkId(at),
            delivery,
        });
    }

    pub(super) fn drained(&mut self, at: u32) {
        let link = self.link(at);
        link.credit = 0;
        link.drain = false;
        self.events.push(LocalEvent::Drained {
            link: LocalLinkId(at),
        });
    }
}
