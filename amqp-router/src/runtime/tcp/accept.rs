//! Sockets of TCP listeners: accept, secure, and pass on.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;
use tracing::{debug, info, warn};

use super::targets::Targets;
use super::{lock, secured_by};
use crate::adaptors::tcp::{Seat, TcpService, TcpTls};
use crate::runtime::driver::{NewTcp, Socketed, ToWorker};
use crate::runtime::listen::Placement;
use crate::runtime::sources::{HandshakeFailure, Sources};
use crate::runtime::stream::Stream;
use crate::runtime::tls::live::LiveAcceptor;
use crate::runtime::tls::{TlsInfo, explained};
use crate::runtime::told::Told;
use crate::runtime::workers::Workers;
use crate::worker::tcp::TcpClient;

/// What the sockets of one listener share.
pub(crate) struct Acceptor {
    pub(crate) service: Arc<TcpService>,
    pub(crate) targets: Arc<Mutex<Targets>>,
    /// What holds for connections that come from now on.
    pub(crate) terms: Mutex<Terms>,
    pub(crate) refusals: Mutex<Refusals>,
    pub(crate) sources: Arc<Mutex<Sources>>,
    pub(crate) workers: Workers,
    /// Who is still being let in comes too late.
    pub(super) is_deleted: AtomicBool,
}

/// What a listener asks of its connections.
#[derive(Clone, Default)]
pub(crate) struct Terms {
    pub(crate) tls: Option<Arc<ServerTls>>,
    /// As many as there may be; 0 is without limit.
    pub(crate) max_connections: u64,
}

/// What there is to say of clients that were not let in.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    told: Told,
    last: Option<(Instant, String)>,
}

impl Refusals {
    /// Takes a refusal; true if it is worth a log line.
    fn note(&mut self, why: &str, now: Instant) -> bool {
        self.last = Some((now, why.to_owned()));
        self.told.is_news(now)
    }

    /// What to say while clients are refused.
    pub(crate) fn message(&self, now: Instant) -> Option<String> {
        let (at, why) = self.last.as_ref()?;
        let recent = now.duration_since(*at) < RECENTLY;
        recent.then(|| format!("connections are refused: {why}"))
    }
}

/// How a listener secures its connections.
pub(crate) struct ServerTls {
    /// For clients that offer a protocol which the listener knows.
    pub(crate) with_alpn: LiveAcceptor,
    /// For those that offer none or others: the service may know them.
    pub(crate) without: LiveAcceptor,
}

/// The protocols that listeners agree on in TLS.
pub(crate) const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

impl Acceptor {
    /// Accepts on one socket until it is aborted. To run where `home`, the first worker, does.
    pub(crate) async fn run(self: Arc<Self>, socket: TcpListener) {
        let mut trouble = 0;
        loop {
            match socket.accept().await {
                Ok((stream, peer)) => {
                    trouble = 0;
                    self.adopt(stream, peer);
                }
                // A peer that is gone before it is accepted is none of our business; a lack of
                // file descriptors passes when connections end.
                Err(error) => {
                    if trouble == 0 {
                        let name = &self.service.name;
                        warn!(target: "TCP_ADAPTOR", "tcpListener '{name}': accept failed: {error}; trying again with growing pauses");
                    }
                    tokio::time::sleep(PAUSE * 2u32.pow(trouble.min(4))).await;
                    trouble += 1;
                }
            }
        }
    }

    /// # Errors
    /// A client is not to be let in now, and why.
    fn admit(&self, most: u64) -> Result<Seat, String> {
        if !lock(&self.sources).admits() {
            return Err("the router has too little memory left".to_owned());
        }
        let seat = self.service.counts.seat(most);
        seat.ok_or_else(|| format!("there are {most}, as many as maxConnections lets in"))
    }

    /// Has a client see that it was not let in.
    fn refuse(&self, stream: TcpStream, peer: SocketAddr, why: &str) {
        let TcpService { name, counts, .. } = &*self.service;
        counts.refused.fetch_add(1, Ordering::Relaxed);
        if lock(&self.refusals).note(why, Instant::now()) {
            warn!(target: "TCP_ADAPTOR", "tcpListener '{name}': connections are refused, now from {peer}: {why}");
        }
        Stream::Tcp(stream).reset_on_close();
    }

    fn adopt(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let Terms {
            tls,
            max_connections,
        } = lock(&self.terms).clone();
        let seat = match self.admit(max_connections) {
            Ok(seat) => seat,
            Err(why) => return self.refuse(stream, peer, &why),
        };
        if stream.set_nodelay(true).is_err() {
            return; // it is gone already
        }
        let local = stream.local_addr().ok();
        let (worker, runtime) = self.workers.place();
        if let Some(tls) = tls {
            let Ok(stream) = stream.into_std() else {
                return;
            };
            let this = Arc::clone(self);
            runtime.spawn(async move {
                match tls.secure(stream).await {
                    Ok(secured) => {
                        let Secured { stream, alpn, tls } = secured;
                        let new = this.client(peer, local, seat);
                        let secured = new.map(|new| TcpClient { alpn, tls, ..new });
                        this.pass_on(worker, Socketed::Here(stream), secured);
                    }
                    Err(error) => this.failed(peer, &error),
                }
            });
            return;
        }
        let socket = match worker {
            HOME => Socketed::Here(Stream::Tcp(stream)),
            _ => match stream.into_std() {
                Ok(stream) => Socketed::Elsewhere(stream),
                Err(_) => return,
            },
        };
        self.pass_on(worker, socket, self.client(peer, local, seat));
    }

    /// A client could not be secured.
    fn failed(&self, peer: SocketAddr, error: &io::Error) {
        let TcpService { name, counts, .. } = &*self.service;
        let failure = lock(&self.sources).handshake_failed(error.kind(), Instant::now());
        if failure != HandshakeFailure::None {
            counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        match failure {
            HandshakeFailure::Told(end) => {
                info!(target: "TCP_ADAPTOR", "tcpListener '{name}': connection from {peer} failed: {error}{end}");
            }
            HandshakeFailure::None | HandshakeFailure::Counted => {
                debug!(target: "TCP_ADAPTOR", "tcpListener '{name}': connection from {peer} failed: {error}");
            }
        }
    }

    /// A client that has been let in, and where it is to lead. None: the listener or its last address
    /// has just been deleted.
    fn client(&self, peer: SocketAddr, local: Option<SocketAddr>, seat: Seat) -> Option<TcpClient> {
        if self.is_deleted.load(Ordering::Relaxed) {
            return None;
        }
        let targets = lock(&self.targets);
        let target = targets.choose(rand::random())?;
        Some(TcpClient {
            service: Arc::clone(&self.service),
            address: target.address.clone(),
            host: peer.to_string(),
            local,
            alpn: None,
            tls: None,
            record: Some(target.record),
            seat: Some(seat),
        })
    }

    fn pass_on(&self, worker: usize, socket: Socketed, client: Option<TcpClient>) {
        let Some(client) = client else {
            return;
        };
        let new = NewTcp { socket, client };
        // A worker that is gone takes its listeners with it.
        let _ = self
            .workers
            .get(worker)
            .inbox
            .send(ToWorker::Tcp(Box::new(new)));
    }
}

/// A client's connection that TLS has secured.
struct Secured {
    stream: Stream,
    alpn: Option<String>,
    tls: Option<Arc<TcpTls>>,
}

impl ServerTls {
    async fn secure(&self, stream: std::net::TcpStream) -> io::Result<Secured> {
        let stream = TcpStream::from_std(stream)?;
        let handshake = async {
            let start = LazyConfigAcceptor::new(Default::default(), stream).await?;
            let offered = start.client_hello().alpn();
            let known = offered.is_some_and(|mut offered| offered.any(|one| ALPN.contains(&one)));
            let acceptor = if known {
                &self.with_alpn
            } else {
                &self.without
            };
            let ready = acceptor.current(Instant::now());
            let stream = start.into_stream(Arc::clone(ready.tls.config())).await?;
            let alpn = stream.get_ref().1.alpn_protocol();
            let alpn = alpn.map(|alpn| String::from_utf8_lossy(alpn).into_owned());
            let tls = secured_by(TlsInfo::of(stream.get_ref().1, &ready));
            Ok(Secured {
                stream: Stream::TlsServer(Box::new(stream)),
                alpn,
                tls: Some(tls),
            })
        };
        tokio::time::timeout(HANDSHAKE_TIME_OUT, handshake)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(explained)
    }
}

/// The worker whose runtime listeners accept in.
pub(crate) const HOME: usize = 0;

/// For how long after the last one management says that clients are refused.
const RECENTLY: Duration = Duration::from_secs(10);
/// How long accepting rests when it fails.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a client's TLS handshake may take.
const HANDSHAKE_TIME_OUT: Duration = Duration::from_secs(10);
