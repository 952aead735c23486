//! What others tell a worker's driver.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::adaptors::amqp::{ConnectionSettings, PeerInfo};
use crate::adaptors::local::{LocalEvent, LocalLinkId};
use crate::adaptors::tcp::TcpService;
use crate::codec::{Attach, DeliveryState, Error};
use crate::control::links::Command;
use crate::control::table::ConnectorId;
use crate::forwarding::mailbox::Mail;
use crate::policy::Grant;
use crate::runtime::stream::Stream;
use crate::runtime::tcp::TcpConnector;
use crate::worker::flows::Wanted;
use crate::worker::tcp::TcpClient;
use crate::worker::{
    Authentication, ConnectionId, Question, Shortage, WorkerFigures, WorkerStatus,
};

/// What a worker is sent.
#[derive(Debug)]
pub(crate) enum ToWorker {
    /// A connection to adopt.
    Connection(Box<NewConnection>),
    Mail(Vec<Mail>),
    Commands(Vec<Command>),
    Authenticated {
        connection: ConnectionId,
        id: u64,
        result: Authentication,
    },
    /// Say that you live.
    Ping(oneshot::Sender<()>),
    /// Report this of yourself.
    Status(Arc<Question>, oneshot::Sender<WorkerStatus>),
    /// Report your totals.
    Figures(oneshot::Sender<WorkerFigures>),
    /// Tell this of TCP connections.
    Wanted(Wanted),
    /// Let in the connection that management knows as `id`.
    Admit {
        id: u64,
        grant: Arc<Grant>,
    },
    /// Close the connection that management knows as `id`.
    Close {
        id: u64,
        error: Option<Error>,
    },
    /// Trace the connection that management knows as `id`, or no longer.
    Trace {
        id: u64,
        on: bool,
    },
    /// A TCP connection that a listener has accepted.
    Tcp(Box<NewTcp>),
    /// How to connect to a TCP service; nothing: it is no more.
    Connector(ConnectorId, Option<Arc<TcpConnector>>),
    /// Cut off every TCP connection of a listener or connector.
    DropTcp(Arc<TcpService>),
    /// Memory is short: cut off the peers that have filled the most.
    Shed(Shortage),
    /// Close every connection and end.
    Shutdown {
        error: Option<Error>,
    },
    /// Make room for a local program, whose links' events go to `events`.
    AddLocal {
        events: UnboundedSender<LocalEvent>,
        reply: oneshot::Sender<ConnectionId>,
    },
    Local {
        connection: ConnectionId,
        request: LocalRequest,
    },
}

/// What a local program wants done.
#[derive(Debug)]
pub(crate) enum LocalRequest {
    Attach {
        attach: Box<Attach>,
        capacity: u32,
        reply: oneshot::Sender<LocalLinkId>,
    },
    Send {
        link: LocalLinkId,
        payload: Bytes,
        settled: bool,
        reply: oneshot::Sender<Option<u32>>,
    },
    Credit {
        link: LocalLinkId,
        credit: u32,
        drain: bool,
    },
    Settle {
        link: LocalLinkId,
        delivery: u32,
        state: DeliveryState,
    },
    Leave,
}

/// A TCP connection that a listener has accepted, and secured if it is to be.
#[derive(Debug)]
pub(crate) struct NewTcp {
    pub(crate) socket: Socketed,
    pub(crate) client: TcpClient,
}

/// A socket, by whose runtime it is.
#[derive(Debug)]
pub(crate) enum Socketed {
    /// The worker's own.
    Here(Stream),
    /// Nobody's yet.
    Elsewhere(std::net::TcpStream),
}

/// A connection whose socket, and TLS if it has that, are up.
#[derive(Debug)]
pub(crate) struct NewConnection {
    pub(crate) id: u64,
    pub(crate) stream: Stream,
    /// What its time to open counts from: TLS is part of it.
    pub(crate) since: Instant,
    pub(crate) server: bool,
    pub(crate) settings: Arc<ConnectionSettings>,
    pub(crate) peer: PeerInfo,
}
