//! TCP connections as forwarding sees them (`reference/router/tcp-adaptor.md`).
//!
//! Each direction of a TCP connection is one delivery that goes on until that direction ends: what
//! the socket sends leaves by the connection's incoming link, what it is to be sent arrives by its
//! outgoing link. A client's connection starts a stream to the service's address and says where the
//! answer is to go; a stream that arrives for a TCP service makes a connection to it and starts the
//! other direction. The octets themselves are never copied into frames here: where both connections
//! are of one worker, what one socket has read is what the other is written.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::adaptors::observed::Observed;
use crate::codec::{DeliveryState, Error, Progress, StreamHead};
use crate::control::table::{ConnectorId, Direction, LinkLoad, Slot};
use crate::endpoint::OutBuf;
use crate::forwarding::wire::{Allowance, Head};
use crate::observers::{Protocol, Speaker, Watch};
use crate::vanflow::{Flow, RecordId};

/// What the connections of one `tcpListener` or `tcpConnector` have in common.
#[derive(Debug, Default)]
pub(crate) struct TcpService {
    /// The entity's name.
    pub(crate) name: String,
    /// The address that a connector serves; a listener's connections each have theirs.
    pub(crate) address: String,
    /// Shared with what the entity was before it was updated.
    pub(crate) counts: Arc<TcpCounts>,
    /// A connector's record in telemetry.
    pub(crate) record: Option<RecordId>,
    /// What a listener looks for in the connections that come.
    pub(crate) watch: AtomicU8,
}

impl TcpService {
    pub(crate) fn watch(&self) -> Watch {
        Watch::of_number(self.watch.load(Ordering::Relaxed))
    }

    /// Whether both are of one entity, which may have been updated in between.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.counts, &other.counts)
    }

    /// Connections that come from now on are looked at so.
    pub(crate) fn set_watch(&self, watch: Watch) {
        self.watch.store(watch as u8, Ordering::Relaxed);
    }
}

/// What has been counted of a service's connections.
#[derive(Debug, Default)]
pub(crate) struct TcpCounts {
    pub(crate) opened: AtomicU64,
    pub(crate) closed: AtomicU64,
    /// Octets read from its sockets, and written to them; without TLS's own.
    pub(crate) octets_in: AtomicU64,
    pub(crate) octets_out: AtomicU64,
    /// Connections that could not be made, or whose stream found nobody to take it.
    pub(crate) failed: AtomicU64,
    /// Clients that a listener did not let in.
    pub(crate) refused: AtomicU64,
    /// Streams that were not TCP's.
    pub(crate) malformed: AtomicU64,
    /// Clients that are connected, or securing their connection.
    seated: AtomicU64,
    /// Answers of HTTP services, by the first digit of the status: the first is of 1.
    pub(crate) responses: [AtomicU64; 5],
}

/// A client's place among those that a listener may have.
#[derive(Debug)]
pub(crate) struct Seat(Arc<TcpCounts>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seated.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What TLS has agreed on for a TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TcpTls {
    pub(crate) protocol: &'static str,
    pub(crate) cipher: &'static str,
    /// Bits of the cipher's key.
    pub(crate) strength: u32,
    /// Who the other end is, by its certificate.
    pub(crate) user: Option<String>,
    /// The ordinal of the sslProfile.
    pub(crate) ordinal: u64,
}

impl TcpCounts {
    /// Takes a place for a client. None: there are `most` already; 0 is without limit.
    pub(crate) fn seat(self: &Arc<Self>, most: u64) -> Option<Seat> {
        let before = self.seated.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(self));
        (most == 0 || before < most).then_some(seat)
    }

    /// A service has answered a request.
    pub(crate) fn responded(&self, status: u16) {
        let class = usize::from(status / 100).checked_sub(1);
        if let Some(count) = class.and_then(|class| self.responses.get(class)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How many TCP connections are open, by what they have turned out to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) http1: usize,
    pub(crate) http2: usize,
    pub(crate) other: usize,
}

impl Census {
    pub(crate) fn count(&mut self, protocol: Option<Protocol>) {
        *match protocol {
            Some(Protocol::Http1) => &mut self.http1,
            Some(Protocol::Http2) => &mut self.http2,
            None => &mut self.other,
        } += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.http1 += other.http1;
        self.http2 += other.http2;
        self.other += other.other;
    }

    pub(crate) fn all(self) -> usize {
        self.http1 + self.http2 + self.other
    }
}

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
        /// The stream from the service has started. What the client sends before is kept here: a
        /// skrouterd at the other end may lose octets that arrive while it connects, and another
        /// service may have to be tried.
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
#[derive(Debug, Default)]
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
    /// When everything is tried anew, as the network may know better then.
    pub(crate) again_at: Option<Instant>,
    /// How often that has been done.
    pub(crate) rounds: u8,
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
    /// Octets leave for the far end.
    fn send(&mut self, octets: usize, now: Instant) {
        if let Some(acknowledged) = self.acknowledged {
            self.window.sent(self.octets, acknowledged, now);
        }
        self.waiting += octets;
        self.pieces.push_back(octets as u32);
    }
}

/// How much of a direction may be on its way: as much as keeps the path busy.
#[derive(Debug)]
struct Window {
    octets: u64,
    /// The far end acknowledges in small steps: it is no skrouterd, which needs much before it
    /// says anything, and must not be given more.
    fine: bool,
    /// Octets read and acknowledged at a moment, whose acknowledgement tells how long the way is.
    mark: Option<(u64, u64, Instant)>,
    shortest: Option<Duration>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            octets: WINDOW_MIN,
            fine: false,
            mark: None,
            shortest: None,
        }
    }
}

impl Window {
    fn sent(&mut self, octets: u64, acknowledged: u64, now: Instant) {
        self.mark.get_or_insert((octets, acknowledged, now));
    }

    /// Sets the window to twice what the path takes in its shortest round trip at the rate of the
    /// last one: more if the window was what held it up, less if the far end is.
    fn acknowledged(&mut self, acknowledged: u64, now: Instant) {
        self.fine |= acknowledged > 0 && acknowledged < COARSE;
        let Some((octets, before, at)) = self.mark else {
            return;
        };
        if acknowledged < octets || !self.fine {
            return;
        }
        self.mark = None;
        let took = now.duration_since(at).max(Duration::from_micros(1));
        let shortest = self.shortest.map_or(took, |shortest| shortest.min(took));
        self.shortest = Some(shortest);
        let busy = (acknowledged - before) as f64 * shortest.as_secs_f64() / took.as_secs_f64();
        self.octets = ((2.0 * busy) as u64).clamp(WINDOW_MIN, WINDOW_MAX);
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
    pub(crate) protocol: Option<Protocol>,
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
            source: Source {
                acknowledged: Some(0),
                ..Source::default()
            },
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
            self.source.kept.push(octets);
            return None;
        }
        self.source.send(octets.len(), now);
        Some(octets)
    }

    /// What has been kept, to be sent on now.
    pub(crate) fn take_kept(&mut self, now: Instant) -> Vec<Bytes> {
        let kept = std::mem::take(&mut self.source.kept);
        (self.source.kept_octets, self.source.owned) = (0, 0);
        for octets in &kept {
            self.source.send(octets.len(), now);
        }
        kept
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
    pub(crate) fn start_over(&mut self) {
        self.source.attempts += 1;
        self.source.outcome = None;
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
            Some(acknowledged) => source.octets - acknowledged < source.window.octets,
            None => true,
        };
        window && source.waiting < WAITING_MAX
    }

    /// Whether a client waits for the stream from the service.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self.side, Side::Client { answered, .. } if !answered)
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
    pub(crate) fn follow_acknowledgements(&mut self, now: Instant) {
        if let Some(acknowledged) = self.source.acknowledged {
            self.source.window.acknowledged(acknowledged, now);
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
            protocol: self.protocol(),
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

/// Octets that one direction may always be ahead of what the far end has written to its socket. A
/// skrouterd acknowledges every 521,216 octets, and closes the connection to its neighbour when a
/// few streams together are 4 MiB ahead of their sockets.
const WINDOW_MIN: u64 = 524_288;
/// Octets that it may be ahead where the way is long and the far end quick.
const WINDOW_MAX: u64 = 4 * 1024 * 1024;
/// Octets after which a skrouterd acknowledges.
const COARSE: u64 = 521_216;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let counts = Arc::<TcpCounts>::default();
        let first = counts.seat(2);
        let second = counts.seat(2);
        assert!(first.is_some() && second.is_some());
        assert!(counts.seat(2).is_none() && counts.seat(2).is_none());
        drop(first);
        assert!(counts.seat(2).is_some(), "and gone again");
        assert!(counts.seat(0).is_some());
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // where its time starts makes no difference
    fn the_window_grows_on_a_long_way_and_not_for_a_slow_reader() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut window = Window::default();
        window.sent(524_288, 0, at(0));
        window.acknowledged(131_072, at(50));
        assert_eq!(window.octets, WINDOW_MIN);
        window.acknowledged(524_288, at(50));
        assert_eq!(window.octets, 2 * 524_288);
        // A reader that has become slow: a whole window takes seconds.
        window.sent(1_572_864, 524_288, at(100));
        window.acknowledged(1_572_864, at(3000));
        assert_eq!(window.octets, WINDOW_MIN);
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn who_acknowledges_in_large_steps_gets_no_more_than_it_can_take() {
        let start = Instant::now();
        let mut window = Window::default();
        window.sent(524_288, 0, start);
        window.acknowledged(524_288, start + Duration::from_millis(1));
        assert_eq!(window.octets, WINDOW_MIN);
    }
}
