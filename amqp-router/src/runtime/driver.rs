//! What drives a worker: sockets, the clock, and the channels to the others.
//!
//! One turn reads all that is ready, forwards it, and writes once to every connection that was
//! given something to write; so system calls, wake-ups and dispositions are paid for by the batch.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant as TokioInstant, Sleep};

use crate::adaptors::local::LocalEvent;
use crate::control::table::{ConnectorId, WorkerId};
use crate::endpoint::Connection;
use crate::forwarding::mailbox::Mail;
use crate::runtime::ready::ReadyList;
use crate::runtime::splice::Pipes;
use crate::runtime::stream::Stream;
use crate::runtime::tcp::TcpConnector;
use crate::runtime::trace::SocketTrace;
use crate::worker::{ConnectionId, Worker, WorkerEvent};

mod dials;
mod floods;
mod message;
mod sockets;

use self::dials::Dials;
use self::sockets::{Socket, Sockets};
pub(crate) use message::{LocalRequest, NewConnection, NewTcp, Socketed, ToWorker};

/// How busy a worker is, for whoever places connections.
#[derive(Debug, Default)]
pub(crate) struct Load {
    connections: AtomicU32,
    /// Thousandths of the last second that it worked.
    busy: AtomicU32,
    /// Microseconds that it has worked, as of the last second's end.
    worked: AtomicU64,
    /// Requests that the control plane has not done yet.
    asked: AtomicUsize,
}

impl Load {
    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn busy_permille(&self) -> u32 {
        self.busy.load(Ordering::Relaxed)
    }

    /// For how long it has worked.
    pub(crate) fn worked(&self) -> Duration {
        Duration::from_micros(self.worked.load(Ordering::Relaxed))
    }
}

/// The task that runs one worker. It ends when it has been told to and all connections are closed.
#[derive(Debug)]
pub(crate) struct Driver {
    worker: Worker,
    /// By the numbers of connections.
    sockets: Sockets,
    connectors: HashMap<ConnectorId, Arc<TcpConnector>>,
    dials: Dials,
    locals: HashMap<ConnectionId, UnboundedSender<LocalEvent>>,
    ready: ReadyList,
    inbox: UnboundedReceiver<ToWorker>,
    /// The inboxes of all workers, in order of their ids.
    workers: Vec<UnboundedSender<ToWorker>>,
    /// To the control plane.
    events: UnboundedSender<(WorkerId, Vec<WorkerEvent>)>,
    id: WorkerId,
    load: Arc<Load>,
    /// Connections that wait until the control plane has less to do.
    held_back: Vec<ConnectionId>,
    read_buffer: BytesMut,
    pipes: Pipes,
    sleep: Pin<Box<Sleep>>,
    woken: Vec<u32>,
    shutting_down: Option<Instant>,
    busy: Duration,
    busy_since: Instant,
    /// When to look for sockets that have failed unnoticed. The worker's own timer sees to it that
    /// there is a turn.
    next_look: Instant,
}

/// How a turn ended.
enum Turn {
    /// Nothing to do until something happens.
    Idle,
    /// There is more to do at once.
    More,
    /// Nobody is left to work for.
    Closed,
}

impl Driver {
    pub(crate) fn new(
        id: WorkerId,
        worker: Worker,
        inbox: UnboundedReceiver<ToWorker>,
        workers: Vec<UnboundedSender<ToWorker>>,
        events: UnboundedSender<(WorkerId, Vec<WorkerEvent>)>,
        load: Arc<Load>,
    ) -> Self {
        let now = Instant::now();
        Self {
            worker,
            sockets: Sockets::default(),
            connectors: HashMap::new(),
            dials: Dials::default(),
            locals: HashMap::new(),
            ready: ReadyList::default(),
            inbox,
            workers,
            events,
            id,
            load,
            held_back: Vec::new(),
            read_buffer: BytesMut::new(),
            pipes: Pipes::default(),
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            woken: Vec::new(),
            shutting_down: None,
            busy: Duration::ZERO,
            busy_since: now,
            next_look: now + LOOK_EVERY,
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Turn {
        let started = Instant::now();
        if self.take_inbox(cx, started).is_ready() {
            return Turn::Closed;
        }
        let mut more = false;
        let mut woken = std::mem::take(&mut self.woken);
        self.ready.take(&mut woken);
        for connection in woken.drain(..) {
            more |= self.read(ConnectionId(connection), started);
            self.write(ConnectionId(connection), started);
        }
        self.woken = woken;
        self.poll_dials(cx, started);
        if self.worker.poll_timeout().is_some_and(|due| due <= started) {
            self.worker.handle_timeout(started);
        }
        if self.next_look <= started {
            self.next_look = started + LOOK_EVERY;
            self.look_for_failures(started);
        }
        loop {
            self.worker.end_turn(started);
            let mut room = false;
            while let Some(connection) = self.worker.poll_writable() {
                room |= self.write(connection, started);
            }
            // What was written may have made room for links that waited.
            if !room {
                break;
            }
        }
        while let Some(connection) = self.worker.poll_resumed() {
            self.ready.wake(connection.0);
        }
        self.send_mail();
        self.send_events();
        // What has just been begun; if it has been done, too, the worker has more to do.
        more |= self.poll_dials(cx, started);
        self.account(started);
        if more { Turn::More } else { Turn::Idle }
    }

    fn take_inbox(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        for _ in 0..INBOX_BATCH {
            match self.inbox.poll_recv(cx) {
                Poll::Ready(Some(message)) => self.handle(message, now),
                // Everyone who could send is gone.
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn handle(&mut self, message: ToWorker, now: Instant) {
        match message {
            ToWorker::Connection(connection) => self.adopt(*connection),
            ToWorker::Mail(mail) => {
                for mail in mail {
                    self.worker.mail(mail);
                }
            }
            ToWorker::Commands(commands) => {
                for command in commands {
                    self.worker.command(command, now);
                }
            }
            ToWorker::Authenticated {
                connection,
                id,
                result,
            } => {
                self.worker.authenticated(connection, id, result, now);
            }
            ToWorker::Ping(reply) => {
                let _ = reply.send(());
            }
            ToWorker::Status(question, reply) => {
                // Whoever asked may have given up meanwhile.
                let _ = reply.send(self.worker.status(&question, now));
            }
            ToWorker::Figures(reply) => {
                let _ = reply.send(self.worker.figures(now));
            }
            ToWorker::Wanted(wanted) => self.worker.set_wanted(wanted),
            ToWorker::Admit { id, grant } => self.worker.admit(id, grant, now),
            ToWorker::Close { id, error } => self.worker.close_by_id(id, error, now),
            ToWorker::Trace { id, on } => self.trace(id, on),
            ToWorker::Tcp(new) => self.adopt_tcp(*new, now),
            ToWorker::Connector(id, Some(connector)) => {
                self.connectors.insert(id, connector);
            }
            ToWorker::Connector(id, None) => {
                self.connectors.remove(&id);
            }
            ToWorker::Shed(shortage) => self.worker.shed(shortage, now),
            ToWorker::DropTcp(service) => self.worker.drop_service(&service),
            ToWorker::Shutdown { error } => {
                self.shutting_down = Some(now + SHUTDOWN_TIME_OUT);
                self.worker.close_all(error, now);
            }
            ToWorker::AddLocal { events, reply } => {
                let connection = self.worker.add_local();
                if reply.send(connection).is_ok() {
                    self.locals.insert(connection, events);
                } else {
                    self.worker.remove(connection, now);
                }
            }
            ToWorker::Local {
                connection,
                request,
            } => self.local(connection, request, now),
        }
    }

    fn local(&mut self, connection: ConnectionId, request: LocalRequest, now: Instant) {
        match request {
            LocalRequest::Attach {
                attach,
                capacity,
                reply,
            } => {
                if let Some(link) = self.worker.local_attach(connection, *attach, capacity) {
                    let _ = reply.send(link);
                }
            }
            LocalRequest::Send {
                link,
                payload,
                settled,
                reply,
            } => {
                let sent = self
                    .worker
                    .local_send(connection, link, payload, settled, now);
                let _ = reply.send(sent.ok());
            }
            LocalRequest::Credit {
                link,
                credit,
                drain,
            } => {
                self.worker
                    .local_credit(connection, link, credit, drain, now);
            }
            LocalRequest::Settle {
                link,
                delivery,
                state,
            } => {
                self.worker
                    .local_settle(connection, link, delivery, state, now);
            }
            LocalRequest::Leave => {
                self.locals.remove(&connection);
                self.worker.remove(connection, now);
            }
        }
    }

    fn adopt(&mut self, new: NewConnection) {
        let config = Arc::clone(&new.settings.endpoint);
        let endpoint = if new.server {
            Connection::server_as(new.id, config, new.since)
        } else {
            Connection::client_as(new.id, config, new.since)
        };
        let trace = SocketTrace::of_new(new.id, new.settings.messages);
        let id = self
            .worker
            .add_connection(new.id, endpoint, new.settings, new.peer);
        self.add_socket(id, new.stream, trace);
    }

    fn trace(&mut self, id: u64, on: bool) {
        if let Some((connection, trace)) = self.worker.trace(id)
            && let Some(socket) = self.sockets.get_mut(connection.0)
        {
            SocketTrace::change(&mut socket.trace, id, on.then_some(trace));
        }
    }

    fn add_socket(&mut self, id: ConnectionId, stream: Stream, trace: Option<Box<SocketTrace>>) {
        let waker = self.ready.waker(id.0);
        // Its socket's first reading registers its waker.
        waker.wake_by_ref();
        let socket = Socket {
            stream,
            waker,
            read_closed: false,
            write_closed: false,
            unguarded: false,
            asks: 0,
            full: false,
            unflushed: false,
            streams: false,
            fills: None,
            pipe: None,
            trace,
        };
        self.sockets.insert(id.0, socket);
        self.load.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds the socket of a TCP client or service.
    fn add_tcp_socket(&mut self, id: ConnectionId, stream: Stream) {
        self.add_socket(id, stream, None);
        if let Some(socket) = self.sockets.get_mut(id.0) {
            socket.unguarded = true;
        }
    }

    fn adopt_tcp(&mut self, new: NewTcp, now: Instant) {
        let stream = match new.socket {
            Socketed::Here(stream) => stream,
            Socketed::Elsewhere(stream) => match TcpStream::from_std(stream) {
                Ok(stream) => Stream::Tcp(stream),
                // Out of some resource: the client sees its connection closed.
                Err(_) => return,
            },
        };
        if self.shutting_down.is_some() {
            return;
        }
        let id = self.worker.add_tcp_client(new.client, now);
        self.add_tcp_socket(id, stream);
    }

    fn send_mail(&mut self) {
        let mut batches: Vec<Vec<Mail>> = Vec::new();
        while let Some((worker, mail)) = self.worker.poll_mail() {
            if batches.is_empty() {
                batches.resize_with(self.workers.len(), Vec::new);
            }
            batches[worker.index()].push(mail);
        }
        for (worker, mail) in batches.into_iter().enumerate() {
            if !mail.is_empty() {
                // A worker that is gone takes its links with it.
                let _ = self.workers[worker].send(ToWorker::Mail(mail));
            }
        }
    }

    fn send_events(&mut self) {
        let mut batch = Vec::new();
        while let Some(event) = self.worker.poll_event() {
            match event {
                WorkerEvent::Local { connection, event } => {
                    if let Some(local) = self.locals.get(&connection) {
                        // Nobody listening: the program is about to leave.
                        let _ = local.send(event);
                    }
                }
                WorkerEvent::Dial(dial) => self.dial(dial),
                event => batch.push(event),
            }
        }
        if !batch.is_empty() {
            self.load.asked(batch.len());
            let _ = self.events.send((self.id, batch));
        }
    }

    /// Keeps count of how much of the time is spent working.
    fn account(&mut self, started: Instant) {
        let now = Instant::now();
        self.busy += now - started;
        let period = now - self.busy_since;
        if period >= Duration::from_secs(1) {
            let permille = self.busy.as_micros() * 1000 / period.as_micros().max(1);
            self.load
                .busy
                .store(u32::try_from(permille).unwrap_or(1000), Ordering::Relaxed);
            let worked = self.busy.as_micros() as u64;
            self.load.worked.fetch_add(worked, Ordering::Relaxed);
            self.busy = Duration::ZERO;
            self.busy_since = now;
        }
    }

    fn is_done(&self) -> bool {
        self.shutting_down
            .is_some_and(|deadline| self.sockets.count == 0 || Instant::now() >= deadline)
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.ready.register(cx);
        let more = match this.turn(cx) {
            Turn::Closed => return Poll::Ready(()),
            Turn::More => true,
            Turn::Idle => false,
        };
        if this.is_done() {
            return Poll::Ready(());
        }
        if more {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // The control plane tells nobody that it has nothing left to do.
        let look_again = this.let_in().then(|| Instant::now() + HELD_BACK_FOR);
        let due = [this.worker.poll_timeout(), this.shutting_down, look_again]
            .into_iter()
            .flatten()
            .min();
        if let Some(due) = due {
            let due = TokioInstant::from_std(due);
            if this.sleep.deadline() != due {
                this.sleep.as_mut().reset(due);
            }
            if this.sleep.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }
}

/// How often to look for sockets that have failed while they are not read.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often to look whether connections that are held back can go on.
const HELD_BACK_FOR: Duration = Duration::from_millis(1);
/// Messages taken from the inbox in one turn.
const INBOX_BATCH: usize = 256;
/// How long peers are given to answer our close when the router stops.
const SHUTDOWN_TIME_OUT: Duration = Duration::from_secs(5);
