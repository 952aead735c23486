//! TCP connections as forwarding sees them (`reference/router/tcp-adaptor.md`).
//!
//! Each direction of a TCP connection is one delivery that goes on until that direction ends: what
//! the socket sends leaves by the connection's incoming link, what it is to be sent arrives by its
//! outgoing link. A client's connection starts a stream to the service's address and says where the
//! answer is to go; a stream that arrives for a TCP service makes a connection to it and starts the
//! other direction. The octets themselves are never copied into frames here: where both connections
//! are of one worker, what one socket has read is what the other is written.

mod service;
mod window;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::adaptors::observed::Observed;
use crate::codec::{DeliveryState, Error, Progress, StreamHead};
use crate::control::table::{ConnectorId, Direction, LinkLoad, Slot};
use crate::endpoint::OutBuf;
use crate::forwarding::wire::{Allowance, Head};
use crate::observers::{Protocol, Speaker};
use crate::vanflow::Flow;

pub(crate) use service::{Census, Seat, TcpCounts, TcpService, TcpTls};
pub(crate) use window::WindowPool;

use window::Window;

/// One TCP connection, or the making of one.
#[derive(Debug)]
pub(crate) struct TcpConnection {
    /// Its number for management.
    pub(crate) id: u64,
    pub(crate) service: Option<Arc<TcpService>>,
    /// Given back when the connection is gone.
    pub(crate) seat: Option<Seat>,
    pub(crate) side: Side,
    /// The other end, as `host:port`.
    pub(crate) host: String,
    /// This end.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) tls: Option<Arc<TcpTls>>,
    pub(crate) opened: Option<Instant>,
    /// Since when a client has waited for its service's first octet, or this router for a service to
    /// take the connection.
    pub(crate) since: Option<Instant>,
    pub(crate) stage: Stage,
    /// One direction has failed, and the other has until then to end.
    pub(crate) linger_until: Option<Instant>,
    /// What is told of it in telemetry, unless there is too much to tell.
    pub(crate) flow: Option<Box<Flow>>,
    /// What looks for requests in what passes, while there is something to see.
    pub(crate) observed: Option<Box<Observed>>,
    /// The link by which goes what the socket sends.
    pub(crate) incoming: Option<Slot>,
    /// The link by which comes what it is to be sent.
    pub(crate) outgoing: Option<Slot>,
    pub(crate) source: Source,
    pub(crate) sink: Sink,
    pub(crate) out: OutBuf,
}

/// Who made the TCP connection.
#[derive(Debug)]
pub(crate) enum Side {
    /// A client, to a listener of ours.
    Client {
        address: String,
        alpn: Option<String>,
        /// The stream from the service has started. What the client sends before is kept here, as
        /// another service may have to be tried; and it waits here, unless the stream is prompt.
        answered: bool,
    },
    /// This router, to a service.
    Server {
        connector: ConnectorId,
        reply_to: Option<String>,
        alpn: Option<String>,
        /// The routers that the stream has passed.
        trace: Option<String>,
        /// Services that were tried in vain.
        tried: Vec<Arc<LinkLoad>>,
    },
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// There is a stream for a service; what it is has not been said yet.
    Waiting,
    /// The service's host is being connected to.
    Dialling,
    Open,
    /// Nothing more is to come of it.
    Over {
        /// The other end is to see that it was cut off, not that it ended.
        reset: bool,
    },
}

/// What the socket sends.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its delivery has been started, this many times.
    pub(crate) attempts: u32,
    /// The socket will send nothing more.
    pub(crate) ended: bool,
    /// The delivery has its outcome, if the receiver gave one.
    pub(crate) outcome: Option<Option<DeliveryState>>,
    /// When an outcome is to be believed that may have overtaken the answer: a skrouterd modifies
    /// the stream of a client whose service has answered and closed.
    pub(crate) believe_at: Option<Instant>,
    /// When its delivery was started last.
    started: Option<Instant>,
    /// When everything is tried anew, as the network may know better then.
    pub(crate) again_at: Option<Instant>,
    /// How often that has been done.
    pub(crate) rounds: u8,
    /// What the client sends leaves before the service has answered. (A skrouterd at the other end
    /// may lose what arrives while it connects.)
    is_prompt: bool,
    /// What a client has sent before its service has answered.
    kept: Vec<Bytes>,
    kept_octets: usize,
    /// Of those pieces, the ones that keep nothing else alive.
    owned: usize,
    /// Octets read.
    pub(crate) octets: u64,
    /// Of them, those that the far end has passed on to its socket; `None` if that no longer
    /// counts.
    acknowledged: Option<u64>,
    /// Octets that may be on their way without having been acknowledged.
    window: Window,
    /// Sizes of the pieces that wait in this router.
    pieces: VecDeque<u32>,
    waiting: usize,
    /// Reading was stopped, and may go on.
    resume: bool,
    stopped: bool,
}

impl Source {
    fn new() -> Self {
        Self {
            attempts: 0,
            ended: false,
            outcome: None,
            believe_at: None,
            started: None,
            again_at: None,
            rounds: 0,
            is_prompt: false,
            kept: Vec::new(),
            kept_octets: 0,
            owned: 0,
            octets: 0,
            acknowledged: Some(0),
            window: Window::new(),
            pieces: VecDeque::new(),
            waiting: 0,
            resume: false,
            stopped: false,
        }
    }

    /// How long the answer may be behind an outcome that has just come. It takes the same way: a few
    /// times as long as the outcome has taken, within bounds.
    pub(crate) fn doubt(&self, now: Instant) -> Duration {
        let taken = self
            .started
            .map_or(DOUBT_MAX, |started| now.saturating_duration_since(started));
        (4 * taken.min(DOUBT_MAX)).clamp(DOUBT_MIN, DOUBT_MAX)
    }

    /// Octets leave for the far end.
    fn send(&mut self, octets: usize, now: Instant) {
        if let Some(acknowledged) = self.acknowledged {
            self.window.sent(self.octets, acknowledged, now);
        }
        self.waiting += octets;
        self.pieces.push_back(octets as u32);
    }
}

/// What the socket is sent.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    /// Forwarding's name for the delivery, while it has to be settled.
    pub(crate) token: Option<u32>,
    /// The delivery has begun to arrive.
    started: bool,
    /// What has arrived of the sections ahead of the octets, until they are complete.
    head: Option<BytesMut>,
    /// The sections, until somebody has looked at them.
    pub(crate) news: Option<Result<StreamHead, Error>>,
    /// Octets that have arrived for the socket.
    pub(crate) octets: u64,
    /// Octets that had been written when the far end was last told.
    told: u64,
    /// All of it has arrived.
    pub(crate) complete: bool,
    /// The far end was cut off.
    pub(crate) aborted: bool,
    /// The socket has been told that nothing follows.
    pub(crate) shut: bool,
}

/// What management shows of a TCP connection.
#[derive(Clone, Debug)]
pub(crate) struct TcpStatus {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) address: String,
    pub(crate) incoming: bool,
    pub(crate) tls: Option<Arc<TcpTls>>,
    pub(crate) opened: Option<Instant>,
    pub(crate) octets_in: u64,
    pub(crate) octets_out: u64,
    /// It is over, but what it has to write has not been taken.
    pub(crate) closing: bool,
}

impl TcpConnection {
    /// A connection that a client has made to a listener.
    pub(crate) fn client(
        id: u64,
        service: Arc<TcpService>,
        address: String,
        host: String,
        alpn: Option<String>,
        now: Instant,
    ) -> Self {
        let side = Side::Client {
            address,
            alpn,
            answered: false,
        };
        let mut connection = Self::new(id, side, Stage::Open);
        connection.observed = Observed::new(service.watch());
        connection.service = Some(service);
        connection.host = host;
        connection.opened = Some(now);
        connection.since = Some(now);
        connection
    }

    /// A connection to be made to a service.
    pub(crate) fn server(id: u64, connector: ConnectorId, trace: Option<String>) -> Self {
        let side = Side::Server {
            connector,
            reply_to: None,
            alpn: None,
            trace,
            tried: Vec::new(),
        };
        Self::new(id, side, Stage::Waiting)
    }

    fn new(id: u64, side: Side, stage: Stage) -> Self {
        Self {
            id,
            service: None,
            seat: None,
            side,
            host: String::new(),
            local: None,
            tls: None,
            opened: None,
            since: None,
            stage,
            linger_until: None,
            flow: None,
            observed: None,
            incoming: None,
            outgoing: None,
            source: Source::new(),
            sink: Sink {
                head: Some(BytesMut::new()),
                ..Sink::default()
            },
            out: OutBuf::default(),
        }
    }

    /// Octets that have passed, to the service and back.
    pub(crate) fn passed(&self) -> [u64; 2] {
        let (read, written) = (self.source.octets, self.sink.octets);
        match self.side {
            Side::Client { .. } => [read, written],
            Side::Server { .. } => [written, read],
        }
    }

    /// The connection is over.
    pub(crate) fn end(&mut self, reset: bool) {
        if !self.is_over() {
            self.stage = Stage::Over { reset };
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over { .. })
    }

    /// The socket sent something: takes it to account. What comes back is to be sent on now.
    pub(crate) fn took(&mut self, octets: Bytes, now: Instant) -> Option<Bytes> {
        self.source.octets += octets.len() as u64;
        if let Some(observed) = &mut self.observed {
            observed.pass(Speaker::Client, &octets);
        }
        if let Some(service) = &self.service {
            let counted = &service.counts.octets_in;
            counted.fetch_add(octets.len() as u64, Ordering::Relaxed);
        }
        if self.is_unanswered() {
            self.source.kept_octets += octets.len();
            self.source.kept.push(octets.clone());
            if !self.source.is_prompt {
                return None;
            }
        }
        self.source.send(octets.len(), now);
        Some(octets)
    }

    /// The service has answered: gives what has been kept, and is to be sent on now.
    pub(crate) fn take_kept(&mut self, now: Instant) -> Vec<Bytes> {
        let source = &mut self.source;
        let kept = std::mem::take(&mut source.kept);
        (source.kept_octets, source.owned) = (0, 0);
        if std::mem::take(&mut source.is_prompt) {
            return Vec::new();
        }
        for octets in &kept {
            source.send(octets.len(), now);
        }
        kept
    }

    /// What the client sends need not wait for the answer: gives what has been kept, which stays
    /// here besides.
    pub(crate) fn be_prompt(&mut self, now: Instant) -> Vec<Bytes> {
        let source = &mut self.source;
        source.is_prompt = true;
        let kept = source.kept.clone();
        for octets in &kept {
            source.send(octets.len(), now);
        }
        kept
    }

    /// Whether a service may have got something of what the client sends.
    pub(crate) fn has_ventured(&self) -> bool {
        self.source.is_prompt && self.source.kept_octets > 0
    }

    /// What waits here stops keeping alive what it was read with. To be called now and then.
    pub(super) fn own(&mut self) {
        self.out.own();
        let source = &mut self.source;
        for octets in &mut source.kept[source.owned..] {
            *octets = Bytes::copy_from_slice(octets);
        }
        source.owned = source.kept.len();
    }

    /// Octets that wait here to leave for the far end: those that are kept for the service's
    /// answer, and others.
    #[cfg(test)]
    pub(crate) fn held(&self) -> [usize; 2] {
        [self.source.kept_octets, self.source.waiting]
    }

    /// The delivery starts, perhaps over again.
    pub(crate) fn start_over(&mut self, now: Instant) {
        self.source.attempts += 1;
        self.source.started = Some(now);
        self.source.outcome = None;
        self.source.is_prompt = false;
        self.source.pieces.clear();
        self.source.waiting = 0;
        self.source.acknowledged = Some(0);
    }

    /// Whether the socket is to be read. If not, it is [resumed](Self::take_resumed) later.
    pub(crate) fn wants_input(&mut self) -> bool {
        let may = self.may_read();
        self.source.stopped = !may;
        may
    }

    fn may_read(&self) -> bool {
        let source = &self.source;
        if self.stage != Stage::Open || source.ended || source.attempts == 0 {
            return false;
        }
        if self.is_unanswered() {
            return source.kept_octets < KEPT_MAX;
        }
        let window = match source.acknowledged {
            Some(acknowledged) => source.octets - acknowledged < source.window.octets(),
            None => true,
        };
        window && source.waiting < WAITING_MAX
    }

    /// How many octets of what the socket sends next may leave without having been here: nobody
    /// looks at them, and none that came before waits.
    pub(crate) fn may_send_directly(&self) -> u64 {
        let flows = !self.is_unanswered() && self.source.waiting == 0 && self.stage == Stage::Open;
        match &self.observed {
            _ if !flows => 0,
            Some(observed) => observed.unseen(Speaker::Client),
            None => u64::MAX,
        }
    }

    /// How many octets the socket may be given next that have not been here.
    pub(crate) fn may_take_directly(&self) -> u64 {
        let sink = &self.sink;
        let begun = sink.octets > 0 && self.since.is_none();
        let ends = sink.complete || sink.aborted || sink.shut;
        let flows = begun && !ends && self.out.is_empty() && self.stage == Stage::Open;
        match &self.observed {
            _ if !flows => 0,
            Some(observed) => observed.unseen(Speaker::Service),
            None => u64::MAX,
        }
    }

    /// Octets have left the socket for another one without having been here.
    pub(crate) fn sent_directly(&mut self, octets: u64, now: Instant) {
        if let Some(observed) = &mut self.observed {
            observed.skip(Speaker::Client, octets, now);
        }
        let source = &mut self.source;
        source.octets += octets;
        if let Some(acknowledged) = source.acknowledged {
            source.window.sent(source.octets, acknowledged, now);
        }
        if let Some(service) = &self.service {
            let counted = &service.counts.octets_in;
            counted.fetch_add(octets, Ordering::Relaxed);
        }
    }

    /// The socket has been given octets that have not been here.
    pub(crate) fn took_directly(&mut self, octets: u64, now: Instant) {
        if let Some(observed) = &mut self.observed {
            observed.skip(Speaker::Service, octets, now);
        }
        self.sink.octets += octets;
        if let Some(service) = &self.service {
            let counted = &service.counts.octets_out;
            counted.fetch_add(octets, Ordering::Relaxed);
        }
    }

    /// Whether it is to be told in telemetry when octets first pass.
    pub(crate) fn wants_time(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| !flow.is_timed())
    }

    /// Whether a client waits for the stream from the service.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self.side, Side::Client { answered, .. } if !answered)
    }

    /// Whether its socket waits to be read again.
    pub(crate) fn is_stopped(&self) -> bool {
        self.source.stopped
    }

    /// Something changed that may let reading go on.
    pub(crate) fn review_reading(&mut self) {
        let enough = self.source.waiting <= WAITING_MAX / 2;
        if self.source.stopped && enough && self.may_read() {
            self.source.stopped = false;
            self.source.resume = true;
        }
    }

    /// Takes to account what the far end has acknowledged.
    pub(crate) fn follow_acknowledgements(&mut self, now: Instant, pool: &Arc<WindowPool>) {
        if let Some(acknowledged) = self.source.acknowledged {
            self.source.window.acknowledged(acknowledged, now, pool);
            self.review_reading();
        }
    }

    /// Whether reading is to go on that had been stopped.
    pub(crate) fn take_resumed(&mut self) -> bool {
        std::mem::take(&mut self.source.resume)
    }

    /// Octets that have been written to the socket.
    pub(crate) fn written(&self) -> u64 {
        self.sink.octets - self.out.len() as u64
    }

    /// How many octets have been written, if it is time to tell the far end.
    pub(crate) fn take_acknowledgement(&mut self) -> Option<(u32, u64)> {
        let written = self.written();
        let token = self.sink.token?;
        if written - self.sink.told < TELL_EVERY || self.sink.complete {
            return None;
        }
        self.sink.told = written;
        Some((token, written))
    }

    /// Whether all that will ever be written has been, and the socket is to be told so.
    pub(crate) fn wants_shutdown(&self) -> bool {
        self.stage == Stage::Open && self.sink.complete && !self.sink.shut && self.out.is_empty()
    }

    /// Whether both directions have ended.
    pub(crate) fn is_done(&self) -> bool {
        self.sink.shut && self.source.ended
    }

    pub(crate) fn has_room(&self) -> bool {
        self.out.len() <= ROOM / 2
    }

    pub(crate) fn slots(&self) -> Vec<(Direction, Slot)> {
        let incoming = self.incoming.map(|slot| (Direction::Incoming, slot));
        let outgoing = self.outgoing.map(|slot| (Direction::Outgoing, slot));
        incoming.into_iter().chain(outgoing).collect()
    }

    /// What the connection has turned out to be, besides TCP.
    pub(crate) fn protocol(&self) -> Option<Protocol> {
        self.observed
            .as_ref()
            .and_then(|observed| observed.protocol())
    }

    pub(crate) fn status(&self) -> TcpStatus {
        let service = self.service.as_ref();
        TcpStatus {
            id: self.id,
            name: service.map_or_else(String::new, |service| service.name.clone()),
            host: self.host.clone(),
            local: self.local,
            address: match &self.side {
                Side::Client { address, .. } => address.clone(),
                Side::Server { .. } => service.map_or_else(String::new, |s| s.address.clone()),
            },
            incoming: matches!(self.side, Side::Client { .. }),
            tls: self.tls.clone(),
            opened: self.opened,
            octets_in: self.source.octets,
            octets_out: self.written(),
            closing: self.is_over(),
        }
    }

    /// The far end says something of what the socket sends.
    pub(super) fn update(&mut self, state: Option<&DeliveryState>, settled: bool) {
        if let Some(DeliveryState::Received {
            section_offset: at, ..
        }) = state
            && let Some(acknowledged) = &mut self.source.acknowledged
        {
            *acknowledged = (*at).clamp(*acknowledged, self.source.octets);
        }
        if settled || state.is_some_and(DeliveryState::is_terminal) {
            self.source.outcome = Some(state.cloned());
            self.source.acknowledged = None;
        }
        self.review_reading();
    }

    /// Pieces of what the socket sends have left this router.
    pub(super) fn release(&mut self, pieces: u32) {
        for _ in 0..pieces {
            if let Some(octets) = self.source.pieces.pop_front() {
                self.source.waiting -= octets as usize;
            }
        }
        self.review_reading();
    }

    pub(super) fn allowance(&self) -> Allowance {
        Allowance {
            // One delivery is all that a socket is ever sent.
            credit: u32::from(!self.sink.started),
            room: self.out.len() < ROOM && !self.is_over(),
            drain: false,
            join: 0,
        }
    }

    pub(super) fn start(&mut self, head: &Head<'_>, payload: Bytes, more: bool) -> u32 {
        self.sink.started = true;
        self.sink.token = (!head.settled).then_some(head.token);
        self.receive(payload, more);
        0
    }

    /// Octets arrive for the socket.
    pub(super) fn receive(&mut self, mut payload: Bytes, more: bool) {
        if let Some(head) = &mut self.sink.head {
            if !head.is_empty() {
                head.extend_from_slice(&payload);
                payload = head.split().freeze();
            }
            match StreamHead::decode(&payload) {
                Progress::Complete((news, length)) => {
                    self.sink.news = Some(Ok(news));
                    self.sink.head = None;
                    payload = payload.split_off(length);
                }
                Progress::NeedMore if more && payload.len() < HEAD_MAX => {
                    head.extend_from_slice(&payload);
                    return;
                }
                Progress::NeedMore | Progress::Malformed => {
                    let text = "the sections ahead of a TCP stream are malformed";
                    self.sink.news = Some(Err(Error::new("amqp:decode-error", text)));
                    return;
                }
            }
        }
        self.sink.octets += payload.len() as u64;
        if let Some(service) = &self.service {
            let counted = &service.counts.octets_out;
            counted.fetch_add(payload.len() as u64, Ordering::Relaxed);
        }
        if !payload.is_empty() {
            if let Some(observed) = &mut self.observed {
                observed.pass(Speaker::Service, &payload);
            }
            self.out.push_payload(payload);
        }
        self.sink.complete |= !more;
    }

    /// The rest of what the socket was to be sent will not come.
    pub(super) fn cut_off(&mut self) {
        self.sink.token = None;
        self.sink.aborted = true;
    }

    /// The far end says something of what it sends.
    pub(super) fn sender_update(&mut self, settled: bool) {
        if settled {
            self.sink.token = None;
        }
    }

    pub(super) fn forget(&mut self) {
        self.sink.token = None;
    }
}

/// The link of a TCP connection that its own octets go by, as a [`Terminal`] numbers it.
///
/// [`Terminal`]: crate::forwarding::wire::Terminal
pub(crate) const SOURCE: u32 = 0;
/// The link that octets for it come by.
pub(crate) const SINK: u32 = 1;

/// How long an answer may be behind an outcome.
const DOUBT_MIN: Duration = Duration::from_millis(200);
const DOUBT_MAX: Duration = Duration::from_millis(500);
/// Octets after whose writing the far end is told.
const TELL_EVERY: u64 = 131_072;
/// Octets of one direction that may wait in this router for a way out.
pub(crate) const WAITING_MAX: usize = 512 * 1024;
/// Octets of a client that are kept until its service has answered, before its socket is no longer
/// read.
pub(crate) const KEPT_MAX: usize = 64 * 1024;
/// Octets that may wait for the socket to take them.
const ROOM: usize = 512 * 1024;
/// Octets that the sections ahead of a stream may take.
const HEAD_MAX: usize = 16 * 1024;
