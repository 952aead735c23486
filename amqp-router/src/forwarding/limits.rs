//! What an incoming link's messages may be: how large, from whom, and where to.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{DeliveryState, Error, MessageView, Progress, condition};
use crate::control::table::Slot;
use crate::forwarding::forward::Forwarder;
use crate::forwarding::links::Incoming;
use crate::forwarding::wire::Wire;
use crate::policy::{Grant, shown};

/// The limits of one incoming link.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// Bytes; `None` is any.
    pub(crate) max_message_size: Option<u64>,
    /// What policy lets the connection do; `None` is everything.
    pub(crate) grant: Option<Arc<Grant>>,
}

/// A message that policy did not let pass, for the log.
#[derive(Debug)]
pub(crate) struct Denied {
    pub(crate) connection: u32,
    pub(crate) grant: Arc<Grant>,
    pub(crate) reason: String,
}

/// A message that could not be read, for the log.
#[derive(Debug)]
pub(crate) struct Malformed {
    pub(crate) connection: u32,
    pub(crate) what: &'static str,
}

/// What a message is denied for. Each is told once of a link: others are only counted.
#[derive(Clone, Copy, Debug)]
enum Ground {
    Size,
    User,
    Target,
}

/// Limits at work.
#[derive(Debug, Default)]
pub(super) struct Limited {
    limits: Limits,
    /// By [`Ground`]: it has been told.
    told: [bool; 3],
    /// It has been told that messages cannot be read.
    malformed_told: bool,
    /// Bytes that have come of the message that is arriving.
    size: u64,
}

impl Limited {
    /// What policy has granted the sender, if that is not to close connections by management.
    pub(super) fn barred(&self) -> Option<Arc<Grant>> {
        let grant = self.limits.grant.as_ref();
        grant
            .filter(|grant| !grant.may_close_connections())
            .cloned()
    }
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
                let reason = || format!("maxMessageSize, it is larger than {most} bytes");
                self.denied(link, Ground::Size, reason);
            }
            let terminal = self.incoming[link].terminal;
            let text = format!("the message is larger than {most} bytes");
            let error = Error::new(condition::MESSAGE_SIZE_EXCEEDED, text);
            wire.detach(terminal, error);
        }
        true
    }

    /// Whether messages of a link are looked at for their user-id.
    pub(super) fn checks_user_id(&self, link: u32) -> bool {
        let grant = &self.incoming[link].limited.limits.grant;
        grant.as_ref().is_some_and(|grant| grant.checks_user_id())
    }

    /// The user that a message says it is of, if that is another than its connection's.
    pub(super) fn foreign_user(
        &self,
        link: u32,
        payload: &[u8],
        more: bool,
    ) -> Progress<Option<String>> {
        let Some(grant) = &self.incoming[link].limited.limits.grant else {
            return Progress::Complete(None);
        };
        let view = match MessageView::parse_part(payload, !more) {
            Progress::Complete(view) => view,
            Progress::NeedMore => return Progress::NeedMore,
            Progress::Malformed => return Progress::Malformed,
        };
        match view.user_id() {
            Progress::Complete(Some(user)) if !user.is_empty() && user != grant.user.as_bytes() => {
                let user = String::from_utf8_lossy(user).into_owned();
                Progress::Complete(Some(user))
            }
            Progress::Complete(_) => Progress::Complete(None),
            Progress::NeedMore => Progress::NeedMore,
            Progress::Malformed => Progress::Malformed,
        }
    }

    /// What to tell the sender of a message that says it is of another user.
    pub(super) fn deny_user(&mut self, link: u32, user: &str) -> DeliveryState {
        if let Some(grant) = &self.incoming[link].limited.limits.grant {
            grant.count_message_user();
            let reason = || format!("allowUserIdProxy, its user-id is '{}'", shown(user));
            self.denied(link, Ground::User, reason);
        }
        unauthorized("user_id proxy violation")
    }

    /// Whether policy lets the messages of an anonymous link go to an address.
    pub(super) fn may_send_to(&mut self, link: u32, address: &str) -> Result<(), DeliveryState> {
        match &self.incoming[link].limited.limits.grant {
            Some(grant) if !grant.may_send_to(address) => Err(self.deny_target(link, address)),
            _ => Ok(()),
        }
    }

    /// Whether policy lets a message go on to the address that a router has written ahead of it.
    pub(super) fn may_pass_to(&self, link: u32, address: &str) -> bool {
        let grant = self.incoming[link].limited.limits.grant.as_ref();
        grant.is_none_or(|grant| grant.may_pass_to(address))
    }

    /// A message that was denied and that the log is to tell of.
    pub(crate) fn poll_denied(&mut self) -> Option<Denied> {
        self.denied.pop_front()
    }

    /// A message cannot be read: the first of each link is told of.
    pub(super) fn note_malformed(&mut self, link: u32, what: &'static str) {
        let Incoming {
            limited, terminal, ..
        } = &mut self.incoming[link];
        if !std::mem::replace(&mut limited.malformed_told, true) {
            let connection = terminal.connection;
            self.malformed.push(Malformed { connection, what });
        }
    }

    /// A message that could not be read and that the log is to tell of.
    pub(crate) fn poll_malformed(&mut self) -> Option<Malformed> {
        self.malformed.pop()
    }

    /// What to tell the sender of a message to an address that policy does not let it send to.
    pub(super) fn deny_target(&mut self, link: u32, address: &str) -> DeliveryState {
        if let Some(grant) = &self.incoming[link].limited.limits.grant {
            grant.count_message_target();
            self.denied(link, Ground::Target, || {
                format!("target '{}'", shown(address))
            });
        }
        unauthorized("address disallowed by local policy")
    }

    fn denied(&mut self, link: u32, ground: Ground, reason: impl FnOnce() -> String) {
        let Incoming {
            limited, terminal, ..
        } = &mut self.incoming[link];
        if let Some(grant) = &limited.limits.grant
            && !std::mem::replace(&mut limited.told[ground as usize], true)
        {
            self.denied.push_back(Denied {
                connection: terminal.connection,
                grant: Arc::clone(grant),
                reason: reason(),
            });
        }
    }
}

fn unauthorized(text: &str) -> DeliveryState {
    let error = Error::new(condition::UNAUTHORIZED_ACCESS, text);
    DeliveryState::Rejected(Some(Box::new(error)))
}
