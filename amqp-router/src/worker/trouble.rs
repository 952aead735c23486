//! What the log is to tell of peers that do what they may not.

use std::sync::Arc;

use super::{Worker, WorkerEvent};
use crate::adaptors::amqp::AmqpConnection;
use crate::codec::{Error, condition};
use crate::endpoint::ConnectionError;
use crate::policy::Grant;

/// What policy kept a connection from, for the log.
#[derive(Debug)]
pub(crate) struct Denial {
    pub(crate) id: u64,
    pub(crate) what: &'static str,
    pub(crate) grant: Arc<Grant>,
    pub(crate) reason: String,
}

/// How a peer broke the rules of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It began with what is no header that is offered.
    Header,
    /// It did not open in time.
    TimedOut,
    /// It wanted to authenticate in a way that is not offered.
    Mechanism,
    Other,
}

impl Fault {
    /// None: it went away, or what is wrong has been told where it was found out.
    pub(super) fn of(error: &ConnectionError) -> Option<Self> {
        match error {
            ConnectionError::Eof
            | ConnectionError::Broken(_)
            | ConnectionError::CloseTimeOut
            | ConnectionError::Authentication(_) => None,
            ConnectionError::ProtocolHeader(_) | ConnectionError::Unencrypted => Some(Self::Header),
            ConnectionError::Mechanism(_) => Some(Self::Mechanism),
            ConnectionError::HandshakeTimeOut => Some(Self::TimedOut),
            _ => Some(Self::Other),
        }
    }
}

impl Denial {
    /// Of a peer whose connection is over since it began more sessions than policy lets it: it has
    /// been told how many (channel-max), and ended with what it used of the higher channels.
    pub(super) fn of_session(
        amqp: &AmqpConnection,
        error: &ConnectionError,
    ) -> Option<WorkerEvent> {
        let grant = amqp.peer.grant.as_ref()?;
        let most = grant.group.max_sessions?;
        if !matches!(error, ConnectionError::ChannelTooHigh(channel) if *channel >= most) {
            return None;
        }
        grant.count_session();
        Some(WorkerEvent::Denied(Box::new(Self {
            id: amqp.id,
            what: "AMQP Begin",
            grant: Arc::clone(grant),
            reason: format!("maxSessions limit {most}"),
        })))
    }
}

impl Denial {
    /// Of a peer whose link is detached since its message was larger than policy lets it be.
    pub(super) fn of_size(amqp: &AmqpConnection, why: &Error) -> Option<WorkerEvent> {
        let grant = amqp.peer.grant.as_ref()?;
        let most = grant.max_message_size?;
        if why.condition != condition::MESSAGE_SIZE_EXCEEDED {
            return None;
        }
        grant.count_message_size();
        Some(WorkerEvent::Denied(Box::new(Self {
            id: amqp.id,
            what: "message",
            grant: Arc::clone(grant),
            reason: format!("maxMessageSize, it is larger than {most} bytes"),
        })))
    }
}

impl Worker {
    /// Tells of AMQP peers' links that do not get on: those of others wait by their nature.
    pub(super) fn tell_troubles(&mut self) {
        while let Some((link, trouble)) = self.forwarder.poll_trouble() {
            if let Some(terminal) = self.terminal(link)
                && let Some(amqp) = self.connections.amqp(terminal.connection)
            {
                let id = amqp.id;
                self.events
                    .push_back(WorkerEvent::Trouble { id, link, trouble });
            }
        }
    }

    /// Tells of the messages that policy did not let pass this turn, and of those that could not be
    /// read.
    pub(super) fn tell_refused(&mut self) {
        while let Some(malformed) = self.forwarder.poll_malformed() {
            if let Some(amqp) = self.connections.amqp(malformed.connection) {
                self.events.push_back(WorkerEvent::Malformed {
                    id: amqp.id,
                    what: malformed.what,
                });
            }
        }
        while let Some(denied) = self.forwarder.poll_denied() {
            if let Some(amqp) = self.connections.amqp(denied.connection) {
                self.events.push_back(WorkerEvent::Denied(Box::new(Denial {
                    id: amqp.id,
                    what: "message",
                    grant: denied.grant,
                    reason: denied.reason,
                })));
            }
        }
    }
}
