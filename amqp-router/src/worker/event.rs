//! What a worker tells others.

use bytes::Bytes;

use crate::adaptors::amqp::ConnectionStatus;
use crate::adaptors::local::LocalEvent;
use crate::codec::{Attach, Error};
use crate::control::links::{AttachRequest, Loss};
use crate::control::table::{ConnectorId, LinkRef};
use crate::control::trunk::{RouterLink, Ticket};
use crate::forwarding::stats::Trouble;
use crate::vanflow::FlowEvent;
use crate::worker::ConnectionId;
use crate::worker::login::LoginStep;
use crate::worker::tcp::{BadStream, Dial};
use crate::worker::trouble::{Denial, Fault};

/// What a worker tells the control plane and its driver.
#[derive(Debug)]
pub(crate) enum WorkerEvent {
    /// A peer goes on authenticating: answer with [`Worker::authenticated`](crate::worker::Worker::authenticated).
    Authenticate {
        connection: ConnectionId,
        id: u64,
        step: LoginStep,
    },
    /// The peer has opened its connection, and policy is to decide on it: answer with
    /// [`Worker::admit`](crate::worker::Worker::admit) or [`Worker::close_by_id`](crate::worker::Worker::close_by_id).
    Opening {
        id: u64,
        hostname: Option<String>,
        container: String,
        user: Option<String>,
    },
    /// The peer has opened its connection, and so has the router.
    Opened(Box<ConnectionStatus>),
    /// A connection is over.
    Closed {
        id: u64,
        /// Why, if not because the peer wanted it.
        reason: Option<String>,
        /// The peer broke the rules, in a way that nobody has been told of.
        fault: Option<Fault>,
    },
    /// A peer wants to attach a link.
    Attach(Box<AttachRequest>),
    /// A link is gone.
    Detached {
        link: LinkRef,
        loss: Loss,
        /// False where it may come back, or goes with its session or connection.
        closed: bool,
    },
    /// A session of the connection `id` has ended, and not because all is done.
    SessionFailed { id: u64, error: Error },
    /// The connection `id` has sent a message that cannot be read, the first by its link.
    Malformed { id: u64, what: &'static str },
    /// A link that a peer of the connection `id` wanted was not even asked about.
    LinkRefused {
        id: u64,
        attach: Box<Attach>,
        error: Error,
    },
    /// A link that the control plane wanted is not to be had.
    NotAttached {
        ticket: Ticket,
        error: Option<Error>,
    },
    /// A neighbour has accepted a link that this router attached.
    Attached(Box<RouterLink>),
    /// A neighbour tells the control plane something.
    Heard { link: LinkRef, message: Bytes },
    /// What was announced by a link has been taken note of.
    Answered { link: LinkRef },
    /// Nothing comes from any of so many workers that knew an older table than this one does.
    Fenced { workers: u16 },
    /// A TCP service is to be connected to.
    Dial(Dial),
    /// A stream was rejected that was no TCP stream.
    BadStream(Box<BadStream>),
    /// A TCP service has cut off a secured connection before it has said anything.
    CutOff { connector: ConnectorId, why: String },
    /// What there is to tell of TCP connections in telemetry.
    Flows(Vec<FlowEvent>),
    /// A link of the connection `id` does not get on.
    Trouble {
        id: u64,
        link: LinkRef,
        trouble: Trouble,
    },
    /// Policy kept a connection from something that the control plane was not asked about.
    Denied(Box<Denial>),
    /// How many octets the connection to another router has written and read.
    Octets { id: u64, octets: [u64; 2] },
    /// Something for a local program.
    Local {
        connection: ConnectionId,
        event: LocalEvent,
    },
}
