//! What an incoming link's messages may be: how large, from whom, and where to.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{DeliveryState, Error, MessageView, Progress, condition};
use crate::control::table::Slot;
use crate::forwarding::forward::Forwarder;
use crate::forwarding::wire::Wire;
use crate::policy::Grant;

/// The limits of one incoming link.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// Bytes; `None` is any.
    pub(crate) max_message_size: Option<u64>,
    /// What policy lets the connection do; `None` is everything.
    pub(crate) grant: Option<Arc<Grant>>,
}

/// Limits at work.
#[derive(Debug, Default)]
pub(super) struct Limited {
    limits: Limits,
    /// Bytes that have come of the message that is arriving.
    size: u64,
}

impl Forwarder {
    /// Sets what the messages of an incoming link may be.
    pub(crate) fn limit_incoming(&mut self, slot: Slot, limits: Limits) {
        if let Some(incoming) = self.incoming.get_mut(slot) {
            incoming.limited.limits = limits;
        }
    }

    /// Counts the bytes of a frame. True: the message is larger than it may be, and the link is
    /// detached (AMQP 2.7.3, max-message-size).
    pub(super) fn is_oversized<W: Wire>(
        &mut self,
        wire: &mut W,
        link: u32,
        first: bool,
        payload: &Bytes,
    ) -> bool {
        let incoming = &mut self.incoming[link];
        let Some(most) = incoming.limited.limits.max_message_size else {
            return false;
        };
        let size = &mut incoming.limited.size;
        if first {
            *size = 0;
        }
        let before = *size;
        *size = size.saturating_add(payload.len() as u64);
        if *size <= most {
            return false;
        }
        if before <= most {
            if let Some(grant) = &incoming.limited.limits.grant {
                grant.count_message_size();
            }
            let text = format!("the message is larger than {most} bytes");
            let error = Error::new(condition::MESSAGE_SIZE_EXCEEDED, text);
            wire.detach(incoming.terminal, error);
        }
        true
    }

    /// Whether messages of a link are looked at for their user-id.
    pub(super) fn checks_user_id(&self, link: u32) -> bool {
        let grant = &self.incoming[link].limited.limits.grant;
        grant.as_ref().is_some_and(|grant| grant.checks_user_id())
    }

    /// What to tell the sender of a message that says it is of another user; `Complete(None)` if
    /// it does not.
    pub(super) fn foreign_user(
        &self,
        link: u32,
        payload: &[u8],
    ) -> Progress<Option<DeliveryState>> {
        let Some(grant) = &self.incoming[link].limited.limits.grant else {
            return Progress::Complete(None);
        };
        let view = match MessageView::parse_annotations(payload) {
            Progress::Complete(view) => view,
            Progress::NeedMore => return Progress::NeedMore,
            Progress::Malformed => return Progress::Malformed,
        };
        match view.user_id() {
            Progress::Complete(Some(user)) if !user.is_empty() && user != grant.user.as_bytes() => {
                Progress::Complete(Some(unauthorized("user_id proxy violation")))
            }
            Progress::Complete(_) => Progress::Complete(None),
            Progress::NeedMore => Progress::NeedMore,
            Progress::Malformed => Progress::Malformed,
        }
    }

    /// Whether policy lets the messages of an anonymous link go to an address.
    pub(super) fn may_send_to(&self, link: u32, address: &str) -> Result<(), DeliveryState> {
        match &self.incoming[link].limited.limits.grant {
            Some(grant) if !grant.may_send_to(address) => Err(disallowed_address()),
            _ => Ok(()),
        }
    }

    /// Whether policy lets a message go on to the address that a router has written ahead of it.
    pub(super) fn may_pass_to(&self, link: u32, address: &str) -> Result<(), DeliveryState> {
        match &self.incoming[link].limited.limits.grant {
            Some(grant) if !grant.may_pass_to(address) => Err(disallowed_address()),
            _ => Ok(()),
        }
    }
}

fn disallowed_address() -> DeliveryState {
    unauthorized("address disallowed by local policy")
}

fn unauthorized(text: &str) -> DeliveryState {
    let error = Error::new(condition::UNAUTHORIZED_ACCESS, text);
    DeliveryState::Rejected(Some(Box::new(error)))
}
