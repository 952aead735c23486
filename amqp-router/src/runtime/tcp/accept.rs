//! Sockets of TCP listeners: accept, secure, and pass on.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;
use tracing::{debug, warn};

use super::prepare;
use super::targets::Targets;
use crate::adaptors::tcp::TcpService;
use crate::runtime::driver::{NewTcp, Socketed, ToWorker};
use crate::runtime::listen::Placement;
use crate::runtime::service::Workers;
use crate::runtime::stream::Stream;
use crate::runtime::tls::explained;
use crate::runtime::tls::live::LiveAcceptor;
use crate::worker::tcp::TcpClient;

/// What the sockets of one listener share.
pub(crate) struct Acceptor {
    pub(crate) service: Arc<TcpService>,
    pub(crate) targets: Arc<Mutex<Targets>>,
    pub(crate) tls: Option<Arc<ServerTls>>,
    pub(crate) workers: Workers,
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

    fn adopt(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        if prepare(&stream).is_err() {
            return; // it is gone already
        }
        let (worker, runtime) = self.workers.place();
        if self.tls.is_some() {
            let Ok(stream) = stream.into_std() else {
                return;
            };
            let this = Arc::clone(self);
            runtime.spawn(async move {
                match this.secure(stream).await {
                    Ok((stream, alpn)) => this.pass_on(worker, Socketed::Here(stream), peer, alpn),
                    Err(error) => {
                        let TcpService { name, counts, .. } = &*this.service;
                        // Whoever only looks whether somebody listens has not failed.
                        if error.kind() != io::ErrorKind::UnexpectedEof {
                            counts.failed.fetch_add(1, Ordering::Relaxed);
                        }
                        debug!(target: "TCP_ADAPTOR", "tcpListener '{name}': TLS with {peer} failed: {error}");
                    }
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
        self.pass_on(worker, socket, peer, None);
    }

    fn pass_on(&self, worker: usize, socket: Socketed, peer: SocketAddr, alpn: Option<String>) {
        let chosen = {
            let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
            targets
                .choose(rand::random())
                .map(|target| (target.address.clone(), target.record))
        };
        let Some((address, record)) = chosen else {
            return; // its last address has just been deleted
        };
        let tls = match &socket {
            Socketed::Here(Stream::TlsServer(stream)) => super::protocol(stream.get_ref().1),
            _ => None,
        };
        let new = NewTcp {
            socket,
            client: TcpClient {
                service: Arc::clone(&self.service),
                address,
                host: peer.to_string(),
                alpn,
                tls,
                record: Some(record),
            },
        };
        // A worker that is gone takes its listeners with it.
        let _ = self
            .workers
            .get(worker)
            .inbox
            .send(ToWorker::Tcp(Box::new(new)));
    }

    async fn secure(&self, stream: std::net::TcpStream) -> io::Result<(Stream, Option<String>)> {
        let stream = TcpStream::from_std(stream)?;
        let Some(tls) = &self.tls else {
            return Ok((Stream::Tcp(stream), None));
        };
        let handshake = async {
            let start = LazyConfigAcceptor::new(Default::default(), stream).await?;
            let offered = start.client_hello().alpn();
            let known = offered.is_some_and(|mut offered| offered.any(|one| ALPN.contains(&one)));
            let acceptor = if known { &tls.with_alpn } else { &tls.without };
            let config = Arc::clone(acceptor.current(Instant::now()).tls.config());
            let stream = start.into_stream(config).await?;
            let alpn = stream.get_ref().1.alpn_protocol();
            let alpn = alpn.map(|alpn| String::from_utf8_lossy(alpn).into_owned());
            Ok((Stream::TlsServer(Box::new(stream)), alpn))
        };
        tokio::time::timeout(HANDSHAKE_TIME_OUT, handshake)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(explained)
    }
}

/// The worker whose runtime listeners accept in.
pub(crate) const HOME: usize = 0;

/// How long accepting rests when it fails.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a client's TLS handshake may take.
const HANDSHAKE_TIME_OUT: Duration = Duration::from_secs(10);
