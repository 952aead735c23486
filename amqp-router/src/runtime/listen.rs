//! Listeners at work: accept, find out what the peer speaks, secure it, and pass it on.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use crate::runtime::sources::{HandshakeFailure, Place, Sources};
use crate::runtime::stream::Stream;
use crate::runtime::tls::live::{LiveAcceptor, Ready};
use crate::runtime::tls::{TlsInfo, begins_handshake, explained};

/// How a listener secures what it accepts.
#[derive(Clone)]
pub(crate) struct ListenerTls {
    pub(crate) live: Arc<LiveAcceptor>,
    /// Peers that do not start with TLS are refused.
    pub(crate) required: bool,
    /// How long the handshake may take. What is left of it is for the peer to open.
    pub(crate) time_out: Duration,
}

impl ListenerTls {
    /// Whether a connection begins with TLS. Where it need not, the peer's first octet tells.
    pub(crate) async fn is_due(&self, stream: &TcpStream) -> io::Result<bool> {
        if self.required {
            return Ok(true);
        }
        let mut first = [0; 1];
        Ok(stream.peek(&mut first).await? > 0 && begins_handshake(&first))
    }
}

/// A connection that a listener has accepted and secured.
pub(crate) struct Accepted {
    pub(crate) listener: Arc<str>,
    pub(crate) stream: Stream,
    pub(crate) peer: SocketAddr,
    /// When the peer was there, which is what it has to be ready in time after.
    pub(crate) since: Instant,
    pub(crate) tls: Option<TlsInfo>,
    /// Of a WebSocket, which has been somebody's at the listener for HTTP, it is still to be taken.
    pub(crate) place: Option<Place>,
}

/// Where accepted connections go, and whose runtime is to drive each.
pub(crate) trait Placement: Send + Sync + 'static {
    /// The worker for the next connection, and its runtime.
    fn place(&self) -> (usize, Handle);
}

/// Accepts on one socket until it is aborted.
pub(crate) fn accept(
    name: Arc<str>,
    socket: std::net::TcpListener,
    tls: Option<ListenerTls>,
    sources: Arc<Mutex<Sources>>,
    placement: Arc<dyn Placement>,
    accepted: UnboundedSender<(usize, Accepted)>,
) -> io::Result<JoinHandle<()>> {
    let socket = TcpListener::from_std(socket)?;
    Ok(tokio::spawn(async move {
        let mut trouble = 0;
        loop {
            match socket.accept().await {
                Ok((stream, peer)) => {
                    trouble = 0;
                    let since = Instant::now();
                    let place = match Place::take(&sources, peer.ip(), since) {
                        Ok(place) => place,
                        Err(refused) => {
                            if refused.is_news {
                                warn!(target: "SERVER", "Listener '{name}': connections from {} are closed: {}", peer.ip(), refused.reason);
                            }
                            continue;
                        }
                    };
                    let (worker, runtime) = placement.place();
                    let name = Arc::clone(&name);
                    let tls = tls
                        .as_ref()
                        .map(|tls| (tls.live.current(since), tls.clone()));
                    let accepted = accepted.clone();
                    let Ok(stream) = stream.into_std() else {
                        continue;
                    };
                    let sources = Arc::clone(&sources);
                    runtime.spawn(async move {
                        match secure(stream, tls.as_ref()).await {
                            Ok((stream, tls)) => {
                                let place = Some(place);
                                let new = Accepted { listener: name, stream, peer, since, tls, place };
                                // Nobody there: the router is stopping.
                                let _ = accepted.send((worker, new));
                            }
                            Err(reason) => {
                                let failure = sources
                                    .lock()
                                    .unwrap_or_else(PoisonError::into_inner)
                                    .handshake_failed(reason.kind(), Instant::now());
                                if let HandshakeFailure::Told(end) = failure {
                                    info!(target: "SERVER", "Listener '{name}': connection from {peer} failed: {reason}{end}");
                                } else {
                                    debug!(target: "SERVER", "Listener '{name}': connection from {peer} failed: {reason}");
                                }
                            }
                        }
                    });
                }
                // A peer that is gone before it is accepted is none of our business; a lack of
                // file descriptors passes when connections end.
                Err(error) => {
                    if trouble == 0 {
                        warn!(target: "SERVER", "Listener '{name}': accept failed: {error}; trying again with growing pauses");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE * 2u32.pow(trouble.min(4))).await;
                    trouble += 1;
                }
            }
        }
    }))
}

async fn secure(
    stream: std::net::TcpStream,
    tls: Option<&(Ready<TlsAcceptor>, ListenerTls)>,
) -> io::Result<(Stream, Option<TlsInfo>)> {
    let stream = TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    let Some((ready, listener)) = tls else {
        return Ok((Stream::Tcp(stream), None));
    };
    let handshake = async {
        if !listener.is_due(&stream).await? {
            return Ok((Stream::Tcp(stream), None));
        }
        let stream = ready.tls.accept(stream).await.map_err(explained)?;
        let info = TlsInfo::of(stream.get_ref().1, ready);
        Ok((Stream::TlsServer(Box::new(stream)), Some(info)))
    };
    tokio::time::timeout(listener.time_out, handshake)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// How long accepting rests when it fails.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
