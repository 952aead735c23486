//! Connecting to TCP services.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::names::Names;
use super::{lock, secured_by};
use crate::adaptors::tcp::{TcpCounts, TcpService};
use crate::control::table::ConnectorId;
use crate::runtime::stream::Stream;
use crate::runtime::tls::live::LiveConnector;
use crate::runtime::tls::{TlsInfo, explained};
use crate::vanflow::RecordId;
use crate::worker::tcp::Dialled;

/// A `tcpConnector` made ready to work.
pub(crate) struct TcpConnectorPlan {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What the service is to whoever looks at telemetry.
    pub(crate) process: Option<String>,
    pub(crate) tls: Option<LiveConnector>,
}

/// A `tcpConnector` at work, as every worker that connects sees it.
pub(crate) struct TcpConnector {
    pub(crate) id: ConnectorId,
    pub(crate) service: Arc<TcpService>,
    plan: TcpConnectorPlan,
    names: Arc<Names>,
    /// It has been deleted: what is still being connected comes to nothing.
    deleted: CancellationToken,
    trouble: Mutex<Option<Trouble>>,
}

/// Why the last attempt failed.
struct Trouble {
    text: String,
    /// When that was, if it showed only after the connection had been made. Further connections
    /// that are made prove nothing then.
    late: Option<Instant>,
}

impl Trouble {
    fn is_over(&self) -> bool {
        self.late.is_some_and(|at| at.elapsed() > LATE_FOR)
    }
}

impl std::fmt::Debug for TcpConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpConnector")
            .field("name", &self.plan.name)
            .finish_non_exhaustive()
    }
}

impl TcpConnector {
    /// `counts` are those of what it was before it was updated.
    pub(crate) fn new(
        id: ConnectorId,
        plan: TcpConnectorPlan,
        record: RecordId,
        counts: Arc<TcpCounts>,
    ) -> Self {
        let service = TcpService {
            name: plan.name.clone(),
            address: plan.address.clone(),
            record: Some(record),
            counts,
            ..TcpService::default()
        };
        Self {
            id,
            service: Arc::new(service),
            plan,
            names: Arc::default(),
            deleted: CancellationToken::new(),
            trouble: Mutex::default(),
        }
    }

    /// Connects, within [`TIME_OUT`] or what there is of `patience`, and secures the connection if
    /// it is to be.
    ///
    /// # Errors
    /// What went wrong, as a sentence; it has been logged if it is news.
    pub(crate) async fn dial(
        &self,
        alpn: Option<String>,
        patience: Option<Duration>,
    ) -> Result<(Stream, Dialled), String> {
        let dialled = tokio::select! {
            biased;
            () = self.deleted.cancelled() => return Err(DELETED.to_owned()),
            dialled = self.connect(alpn, patience.unwrap_or(TIME_OUT)) => dialled,
        };
        match dialled {
            Ok(dialled) => {
                let mut trouble = lock(&self.trouble);
                if trouble.take_if(|trouble| trouble.late.is_none()).is_some() {
                    info!(target: "TCP_ADAPTOR", "tcpConnector '{}': connected again to {}", self.plan.name, self.host());
                }
                Ok(dialled)
            }
            Err(error) => {
                self.names.doubt(|| self.look_up());
                Err(self.failed(&error.to_string(), None))
            }
        }
    }

    /// Has everything end that is being connected, as this is no more.
    pub(crate) fn delete(&self) {
        self.deleted.cancel();
    }

    /// The service has cut off a connection that had just been secured, without a word: in TLS 1.3
    /// that is how it refuses this router's certificate.
    pub(crate) fn cut_off(&self, why: &str) {
        self.failed(why, Some(Instant::now()));
    }

    fn failed(&self, why: &str, late: Option<Instant>) -> String {
        let counts = &self.service.counts;
        counts.failed.fetch_add(1, Ordering::Relaxed);
        let text = format!("Connection to {} failed: {why}", self.host());
        let mut trouble = lock(&self.trouble);
        let told = trouble.as_ref().filter(|last| !last.is_over());
        if told.is_none_or(|last| last.text != text) {
            warn!(target: "TCP_ADAPTOR", "tcpConnector '{}': {text}", self.plan.name);
        }
        *trouble = Some(Trouble {
            text: text.clone(),
            late,
        });
        text
    }

    /// Why the last attempt to connect failed, if it did.
    pub(crate) fn trouble(&self) -> Option<String> {
        let trouble = lock(&self.trouble);
        let lasts = trouble.as_ref().filter(|trouble| !trouble.is_over());
        lasts.map(|trouble| trouble.text.clone())
    }

    fn host(&self) -> String {
        format!("{}:{}", self.plan.host, self.plan.port)
    }

    async fn connect(
        &self,
        alpn: Option<String>,
        patience: Duration,
    ) -> io::Result<(Stream, Dialled)> {
        // What the name stands for is worth knowing for the next client, however long it takes.
        let addresses = self.names.addresses(|| self.look_up()).await?;
        let stream = within(patience, reach(addresses)).await?;
        stream.set_nodelay(true)?;
        let mut dialled = Dialled {
            service: Arc::clone(&self.service),
            host: self.host(),
            tls: None,
            local: stream.local_addr().ok(),
        };
        let Some(tls) = &self.plan.tls else {
            return Ok((Stream::Tcp(stream), dialled));
        };
        let name = ServerName::try_from(self.plan.host.clone()).map_err(io::Error::other)?;
        let ready = tls.current(Instant::now());
        let alpn = alpn.into_iter().map(String::into_bytes).collect();
        let secured = ready.tls.clone().with_alpn(alpn).connect(name, stream);
        let stream = within(TIME_OUT, secured).await.map_err(explained)?;
        dialled.tls = Some(secured_by(TlsInfo::of(stream.get_ref().1, &ready)));
        Ok((Stream::TlsClient(Box::new(stream)), dialled))
    }

    /// Asks for the host's addresses.
    fn look_up(&self) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + use<> {
        let (host, port) = (self.plan.host.clone(), self.plan.port);
        within(TIME_OUT, async move {
            let found = tokio::net::lookup_host((&*host, port)).await?;
            Ok(found.collect())
        })
    }
}

/// Connects to the first of a host's addresses that answers. The next one is tried when the one
/// before has failed, or has not answered for a while (RFC 8305 §5).
async fn reach(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the host has no address");
    let mut addresses = addresses.into_iter().peekable();
    let mut attempts = FuturesUnordered::new();
    loop {
        if let Some(address) = addresses.next() {
            attempts.push(TcpStream::connect(address));
        }
        let next = async {
            match addresses.peek() {
                Some(_) => tokio::time::sleep(STAGGER).await,
                None => pending().await,
            }
        };
        tokio::select! {
            attempt = attempts.next() => match attempt {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => last = error,
                None => return Err(last),
            },
            () = next => {}
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Why nothing is connected any more.
pub(crate) const DELETED: &str = "the connector was deleted";
/// How long each step may take: to look the host up, to connect, and to secure the connection.
const TIME_OUT: Duration = Duration::from_secs(10);
/// How long what shows late is told of.
const LATE_FOR: Duration = Duration::from_secs(60);
/// How long an address of several is waited for alone.
const STAGGER: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::pin::pin;

    use futures_util::FutureExt;
    use socket2::{Domain, Socket, Type};

    use super::*;

    #[tokio::test]
    async fn an_address_that_does_not_answer_does_not_hide_the_next() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (hole, _queue) = full();
        let good = TcpListener::bind(any).unwrap();
        let refusing = {
            let closed = TcpListener::bind(any).unwrap();
            closed.local_addr().unwrap()
        };
        let good = (good.local_addr().unwrap(), good);
        let stream = reach(vec![hole, refusing, good.0]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good.0);
        let refused = reach(vec![refusing]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(reach(Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn a_connector_that_is_deleted_gives_up_what_it_is_connecting() {
        let (hole, _queue) = full();
        let plan = TcpConnectorPlan {
            name: "gone".to_owned(),
            address: "svc".to_owned(),
            host: hole.ip().to_string(),
            port: hole.port(),
            process: None,
            tls: None,
        };
        let connector = TcpConnector::new(ConnectorId(1), plan, RecordId(1), Arc::default());
        let mut dial = pin!(connector.dial(None, None));
        assert!(dial.as_mut().now_or_never().is_none());
        connector.delete();
        // At once, with the socket.
        let given_up = dial.now_or_never().expect("it waits no longer");
        assert_eq!(given_up.unwrap_err(), DELETED);
        assert!(connector.trouble().is_none(), "the service is not at fault");
        let later = connector.dial(None, None).await;
        assert_eq!(later.unwrap_err(), DELETED);
    }

    /// An address where nobody takes a connection, and those who fill its queue.
    fn full() -> (SocketAddr, Vec<Socket>) {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        silent.bind(&any.into()).unwrap();
        silent.listen(0).unwrap();
        let hole = silent.local_addr().unwrap().as_socket().unwrap();
        let waiting = (0..3).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&hole.into());
            socket
        });
        let waiting: Vec<_> = waiting.collect();
        (hole, waiting.into_iter().chain([silent]).collect())
    }
}
