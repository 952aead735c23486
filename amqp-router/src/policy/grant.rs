//! What one connection may do.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::group::Group;
use super::names::Names;
use super::routers::{is_of_routers, is_reply_address};
use crate::codec::{Attach, Error, Role, Target, condition};
use crate::control::address::{behind_url, prompt_for};
use crate::control::role::Role as ConnectionRole;

/// What policy has granted a connection: its group's settings and who it is.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) user: String,
    /// The address of the peer, without its port.
    pub(crate) remote_host: String,
    /// The vhost as the peer named it.
    pub(crate) vhost: String,
    /// What the peer says its id is, if it is a router.
    pub(crate) neighbor: Option<String>,
    pub(crate) group: Arc<Group>,
    /// Bytes; `None` is any.
    pub(crate) max_message_size: Option<u64>,
    /// The vhost's.
    pub(crate) counts: Arc<DenialCounts>,
}

/// What a vhost has denied its connections, counted wherever it happens.
#[derive(Debug, Default)]
pub(crate) struct DenialCounts {
    pub(crate) sessions: AtomicU64,
    pub(crate) senders: AtomicU64,
    pub(crate) receivers: AtomicU64,
    pub(crate) message_sizes: AtomicU64,
    /// Messages to addresses that are not among the targets.
    pub(crate) message_targets: AtomicU64,
    /// Messages that said they were of another user.
    pub(crate) message_users: AtomicU64,
    /// What routers told the network and may not: messages of the routing protocol that were
    /// dropped, and addresses that were taken out of them.
    pub(crate) announcements: AtomicU64,
}

/// Why a link may not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkDenial {
    /// Of the peer: what it wanted to be.
    pub(crate) role: Role,
    /// For the log: what was looked at.
    pub(crate) reason: String,
    over_limit: bool,
}

impl Grant {
    /// For a connection that ends as soon as it has begun: it may do nothing.
    pub(crate) fn of_nothing(vhost: &str) -> Self {
        let group = Group {
            max_senders: Some(0),
            max_receivers: Some(0),
            ..Group::default()
        };
        Self {
            user: String::new(),
            remote_host: String::new(),
            vhost: vhost.to_owned(),
            neighbor: None,
            group: Arc::new(group),
            max_message_size: None,
            counts: Arc::default(),
        }
    }

    /// Whether a link may be attached beside the `senders` and `receivers` that the connection
    /// has. The links that routers make for themselves need no `sources` or `targets`.
    ///
    /// # Errors
    /// It may not be. The denial is counted.
    pub(crate) fn attach(
        &self,
        attach: &Attach,
        role: ConnectionRole,
        senders: u32,
        receivers: u32,
    ) -> Result<(), LinkDenial> {
        let own = is_of_routers(role, attach, self.neighbor.as_deref());
        let denied = match attach.role {
            Role::Sender => self.attach_sender(attach, own, senders),
            Role::Receiver => self.attach_receiver(attach, own, receivers),
        };
        denied.inspect_err(|denial| {
            let count = match denial.role {
                Role::Sender => &self.counts.senders,
                Role::Receiver => &self.counts.receivers,
            };
            count.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn attach_sender(&self, attach: &Attach, own: bool, senders: u32) -> Result<(), LinkDenial> {
        if self.group.max_senders.is_some_and(|most| senders >= most) {
            return Err(LinkDenial::limit(Role::Sender, "maxSenders limit"));
        }
        if own {
            return Ok(());
        }
        match attach.target.as_ref().and_then(Target::address) {
            Some(name) if !name.is_empty() => match self.may_send_to(name) {
                true => Ok(()),
                false => Err(LinkDenial::name(Role::Sender, "target", name)),
            },
            _ if self.group.allow_anonymous_sender => Ok(()),
            _ => Err(LinkDenial::new(Role::Sender, "allowAnonymousSender")),
        }
    }

    fn attach_receiver(
        &self,
        attach: &Attach,
        own: bool,
        receivers: u32,
    ) -> Result<(), LinkDenial> {
        let most = self.group.max_receivers;
        if most.is_some_and(|most| receivers >= most) {
            return Err(LinkDenial::limit(Role::Receiver, "maxReceivers limit"));
        }
        if own {
            return Ok(());
        }
        let source = attach.source.as_ref();
        if source.is_some_and(|source| source.dynamic) {
            return match self.group.allow_dynamic_source {
                true => Ok(()),
                false => Err(LinkDenial::new(Role::Receiver, "allowDynamicSource")),
            };
        }
        let name = source.and_then(|source| source.address.as_deref());
        let name = name.unwrap_or_default();
        match self.may_receive_from(name) {
            true => Ok(()),
            false => Err(LinkDenial::name(Role::Receiver, "source", name)),
        }
    }

    pub(crate) fn may_send_to(&self, address: &str) -> bool {
        self.may_use(&self.group.targets, address)
    }

    /// Whether a message that a router has addressed may go on: answers may, to whom they are for.
    pub(crate) fn may_pass_to(&self, address: &str) -> bool {
        let meant = prompt_for(address).unwrap_or(address);
        is_reply_address(address) || self.may_send_to(meant)
    }

    pub(crate) fn may_receive_from(&self, address: &str) -> bool {
        self.may_use(&self.group.sources, address)
    }

    /// Whether a list allows an address, as it is written and, if it is a URL, as it is meant: a
    /// name that may have any end would let everything through else.
    fn may_use(&self, names: &Names, address: &str) -> bool {
        let allows = |address| names.allow(&self.user, address);
        allows(address) && behind_url(address).is_none_or(allows)
    }

    /// Whether a message's user-id must be this connection's user, if it is there at all.
    pub(crate) fn checks_user_id(&self) -> bool {
        !self.group.allow_user_id_proxy
    }

    /// Whether its requests to management may close connections.
    pub(crate) fn may_close_connections(&self) -> bool {
        self.group.allow_admin_status_update
    }

    /// A session was one too many.
    pub(crate) fn count_session(&self) {
        self.counts.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// A router has told the network what it may not.
    pub(crate) fn count_announcement(&self) {
        self.counts.announcements.fetch_add(1, Ordering::Relaxed);
    }

    /// A message was for an address that is not among the targets.
    pub(crate) fn count_message_target(&self) {
        self.counts.message_targets.fetch_add(1, Ordering::Relaxed);
    }

    /// A message said that it was of another user.
    pub(crate) fn count_message_user(&self) {
        self.counts.message_users.fetch_add(1, Ordering::Relaxed);
    }

    /// A message was larger than is allowed.
    pub(crate) fn count_message_size(&self) {
        self.counts.message_sizes.fetch_add(1, Ordering::Relaxed);
    }
}

impl LinkDenial {
    fn new(role: Role, reason: impl Into<String>) -> Self {
        Self {
            role,
            reason: reason.into(),
            over_limit: false,
        }
    }

    fn limit(role: Role, reason: &str) -> Self {
        Self {
            over_limit: true,
            ..Self::new(role, reason)
        }
    }

    fn name(role: Role, terminus: &str, name: &str) -> Self {
        Self::new(role, format!("link {terminus} name '{}'", shown(name)))
    }

    /// What the peer is told, which is not why.
    pub(crate) fn error(&self) -> Error {
        let condition = match self.over_limit {
            true => condition::RESOURCE_LIMIT_EXCEEDED,
            false => condition::UNAUTHORIZED_ACCESS,
        };
        Error::new(condition, "link disallowed by local policy")
    }
}

impl fmt::Display for LinkDenial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// What the log shows of a name that a peer gave.
pub(crate) fn shown(name: &str) -> String {
    let start: String = name.chars().take(MAX_SHOWN).collect();
    start.escape_debug().to_string()
}

/// Characters of a peer's name that the log shows.
const MAX_SHOWN: usize = 200;
