//! A link in its session: state, terminus roles and the delivery under way (AMQP 2.6).

use std::collections::HashSet;
use std::sync::Arc;

use super::credit::{ReceiverCredit, SenderCredit};
use super::event::LinkId;
use crate::codec::{
    DeliveryState, DeliveryTag, ReceiverSettleMode, Role, SenderSettleMode, Source,
};

#[derive(Debug)]
pub(super) struct Link {
    /// The index of its session.
    pub(super) session: u16,
    pub(super) handle: u32,
    /// The peer's handle; none before its attach has come.
    pub(super) remote_handle: Option<u32>,
    /// The owner's name for it.
    pub(super) token: u32,
    /// Its unsettled deliveries.
    pub(super) unsettled: u32,
    pub(super) state: LinkState,
    /// It is in its session's list of flows.
    pub(super) flow_due: bool,
    pub(super) snd_settle_mode: SenderSettleMode,
    pub(super) rcv_settle_mode: ReceiverSettleMode,
    pub(super) end: LinkEnd,
    pub(super) name: Arc<str>,
}

/// ```text
///  attach ──> AttachSent ──(attach)──> Attached ──(detach)──> gone
///  (attach) ─> AttachReceived ─accept──^   │
///                    └─refuse─> DetachSent <── detach/error
///                                   └──(detach)──> gone
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LinkState {
    AttachSent,
    AttachReceived,
    Attached,
    /// Whatever comes before the peer's detach is ignored.
    DetachSent {
        /// The owner still waits for `Detached`.
        notify: bool,
        /// We gave an error: what comes after the peer's detach is errant.
        failed: bool,
    },
}

/// Our end of a link.
#[derive(Debug)]
pub(super) enum LinkEnd {
    Sender(Sender),
    Receiver(Receiver),
}

#[derive(Debug)]
pub(super) struct Sender {
    pub(super) credit: SenderCredit,
    /// The delivery that has started and not ended.
    pub(super) delivery: Option<u32>,
    /// It ends with an empty frame as soon as the window opens.
    pub(super) last_frame: Option<LastFrame>,
    pub(super) default_outcome: Option<Box<DefaultOutcome>>,
}

/// What becomes of deliveries that the receiver settles without having said, as their source has it
/// (`default-outcome`, AMQP 3.5.3).
#[derive(Debug)]
pub(super) struct DefaultOutcome {
    outcome: DeliveryState,
    /// Unsettled deliveries of which it has said.
    decided: HashSet<u32>,
}

/// How a delivery ends whose payload is all sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LastFrame {
    Complete,
    Abort,
}

#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) credit: ReceiverCredit,
    /// The delivery of which more is to come.
    pub(super) delivery: Option<Incoming>,
    /// Bytes; 0 is no limit.
    pub(super) max_message_size: u64,
    /// Its source says which outcomes it knows (`outcomes`, AMQP 3.5.3), of which RELEASED is one and
    /// MODIFIED is none.
    pub(super) knows_no_modified: bool,
}

/// A delivery that is arriving.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming {
    pub(super) id: u32,
    pub(super) tag: DeliveryTag,
    /// Bytes so far.
    pub(super) size: u64,
    pub(super) settled: bool,
    /// The peer resumes what we do not know.
    pub(super) ignored: bool,
}

impl Link {
    /// One of its deliveries is settled.
    pub(super) fn settled(&mut self, delivery: u32) {
        self.unsettled -= 1;
        if let Some(default) = self.default_outcome() {
            default.decided.remove(&delivery);
        }
    }

    pub(super) fn default_outcome(&mut self) -> Option<&mut DefaultOutcome> {
        self.sender_mut()?.default_outcome.as_deref_mut()
    }

    pub(super) fn role(&self) -> Role {
        match self.end {
            LinkEnd::Sender(_) => Role::Sender,
            LinkEnd::Receiver(_) => Role::Receiver,
        }
    }

    pub(super) fn is_attached(&self) -> bool {
        self.state == LinkState::Attached
    }

    pub(super) fn sender(&self) -> Option<&Sender> {
        match &self.end {
            LinkEnd::Sender(sender) => Some(sender),
            LinkEnd::Receiver(_) => None,
        }
    }

    pub(super) fn sender_mut(&mut self) -> Option<&mut Sender> {
        match &mut self.end {
            LinkEnd::Sender(sender) => Some(sender),
            LinkEnd::Receiver(_) => None,
        }
    }

    pub(super) fn receiver(&self) -> Option<&Receiver> {
        match &self.end {
            LinkEnd::Receiver(receiver) => Some(receiver),
            LinkEnd::Sender(_) => None,
        }
    }

    pub(super) fn receiver_mut(&mut self) -> Option<&mut Receiver> {
        match &mut self.end {
            LinkEnd::Receiver(receiver) => Some(receiver),
            LinkEnd::Sender(_) => None,
        }
    }
}

impl DefaultOutcome {
    /// Of a source as our attach has it. What is no outcome is none.
    pub(super) fn of(source: &Source) -> Option<Box<Self>> {
        let outcome = source.default_outcome.clone()?;
        outcome.is_terminal().then(|| {
            Box::new(Self {
                outcome,
                decided: HashSet::new(),
            })
        })
    }

    /// What it means that the receiver says this of a delivery.
    pub(super) fn apply(
        &mut self,
        delivery: u32,
        state: Option<DeliveryState>,
        settled: bool,
    ) -> Option<DeliveryState> {
        let terminal = state.as_ref().is_some_and(DeliveryState::is_terminal);
        if !settled {
            if terminal {
                self.decided.insert(delivery);
            }
            return state;
        }
        match terminal || self.decided.contains(&delivery) {
            true => state,
            false => Some(self.outcome.clone()),
        }
    }
}

impl LinkEnd {
    pub(super) fn new(role: Role, initial_delivery_count: u32, max_message_size: u64) -> Self {
        match role {
            Role::Sender => Self::Sender(Sender {
                credit: SenderCredit::new(initial_delivery_count),
                delivery: None,
                last_frame: None,
                default_outcome: None,
            }),
            Role::Receiver => Self::Receiver(Receiver {
                credit: ReceiverCredit::new(initial_delivery_count),
                delivery: None,
                max_message_size,
                knows_no_modified: false,
            }),
        }
    }
}

impl Receiver {
    /// The peer's attach says what its source is.
    pub(super) fn set_source(&mut self, source: Option<&Source>) {
        let outcomes = source.map_or(&[][..], |source| &source.outcomes);
        let knows = |outcome: &str| outcomes.iter().any(|known| known.as_str() == outcome);
        self.knows_no_modified = knows("amqp:released:list") && !knows("amqp:modified:list");
    }
}

/// The links of a connection by index; an index is given out again with another generation.
#[derive(Debug, Default)]
pub(super) struct LinkTable {
    slots: Vec<Slot>,
    /// The first of the vacant slots, each of which names the next.
    vacant: Option<u32>,
    len: usize,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Link(Box<Link>),
    Vacant { next: Option<u32> },
}

impl LinkTable {
    /// Indices are below this.
    const INDEX_BITS: u32 = 20;
    const INDEX_MASK: u32 = (1 << Self::INDEX_BITS) - 1;

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The name that the owner knows a link by.
    #[inline]
    pub(super) fn id(&self, index: u32) -> LinkId {
        let generation = self.slots[index as usize].generation;
        LinkId(generation << Self::INDEX_BITS | index)
    }

    /// The index behind the owner's name, if that link is still there.
    #[inline]
    pub(super) fn index(&self, id: LinkId) -> Option<u32> {
        let index = id.0 & Self::INDEX_MASK;
        let slot = self.slots.get(index as usize)?;
        let same = slot.generation == id.0 >> Self::INDEX_BITS;
        (same && matches!(slot.content, Content::Link(_))).then_some(index)
    }

    #[inline]
    pub(super) fn find(&self, id: LinkId) -> Option<&Link> {
        self.get(self.index(id)?)
    }

    #[inline]
    pub(super) fn find_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        let index = self.index(id)?;
        self.get_mut(index)
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&Link> {
        match &self.slots.get(index as usize)?.content {
            Content::Link(link) => Some(link),
            Content::Vacant { .. } => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Link> {
        match &mut self.slots.get_mut(index as usize)?.content {
            Content::Link(link) => Some(link),
            Content::Vacant { .. } => None,
        }
    }

    /// The index that the next `insert` will use, if there is one left.
    pub(super) fn next_index(&self) -> Option<u32> {
        let index = self.vacant.unwrap_or(self.slots.len() as u32);
        (index <= Self::INDEX_MASK).then_some(index)
    }

    /// Adds a link at `next_index`, which is not none.
    pub(super) fn insert(&mut self, link: Link) -> u32 {
        let content = Content::Link(Box::new(link));
        self.len += 1;
        let Some(index) = self.vacant else {
            let generation = 0;
            self.slots.push(Slot {
                generation,
                content,
            });
            return self.slots.len() as u32 - 1;
        };
        let slot = &mut self.slots[index as usize];
        if let Content::Vacant { next } = slot.content {
            self.vacant = next;
        }
        slot.content = content;
        index
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<Link> {
        let slot = self.slots.get_mut(index as usize)?;
        if matches!(slot.content, Content::Vacant { .. }) {
            return None;
        }
        let vacant = Content::Vacant { next: self.vacant };
        let Content::Link(link) = std::mem::replace(&mut slot.content, vacant) else {
            return None;
        };
        slot.generation = slot.generation.wrapping_add(1) & (u32::MAX >> Self::INDEX_BITS);
        self.vacant = Some(index);
        self.len -= 1;
        Some(*link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link {
            session: 0,
            handle: 0,
            remote_handle: None,
            token: 0,
            unsettled: 0,
            state: LinkState::Attached,
            flow_due: false,
            snd_settle_mode: SenderSettleMode::Mixed,
            rcv_settle_mode: ReceiverSettleMode::First,
            end: LinkEnd::new(Role::Sender, 0, 0),
            name: "link".into(),
        }
    }

    #[test]
    fn a_link_that_is_gone_is_not_mistaken_for_the_next() {
        let mut links = LinkTable::default();
        let first = links.insert(link());
        let id = links.id(first);
        links.remove(first);
        assert!(links.find(id).is_none());
        let second = links.insert(link());
        assert_eq!(second, first);
        assert!(links.find(id).is_none());
        assert!(links.find(links.id(second)).is_some());
        assert_eq!(links.len(), 1);
    }
}
