//! The HTTP side of a listener with `http: true`: `/healthz`, `/readyz`, `/metrics`, and files.

mod crowd;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::{fmt, io};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use self::crowd::Crowd;
use super::files::{Content, Files};
use super::listen::ListenerTls;
use super::shutdown::Shutdown;
use super::sources::{HandshakeFailure, Sources};
use super::tls::{TlsInfo, explained};
use super::unstalled::Unstalled;
use super::websocket::Upgrades;

/// What the router tells over HTTP. Methods that return `None` leave their path out.
pub(crate) trait Pages: Send + Sync {
    /// For `/healthz`: whether the control plane and all workers answer.
    fn healthy(&self) -> Option<Answer<'_, bool>>;

    /// For `/readyz`: what is missing for the router to do what it is configured to, a sentence
    /// each; none if it cannot be asked.
    fn missing(&self) -> Option<Answer<'_, Option<Vec<String>>>>;

    /// For `/metrics`: counters and gauges as Prometheus reads them; none if nobody can be asked.
    fn metrics(&self) -> Option<Answer<'_, Option<Arc<str>>>>;
}

pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One listener with `http: true`.
pub(crate) struct HttpListener {
    /// For log lines.
    pub(crate) name: String,
    pub(crate) sockets: Vec<TcpListener>,
    pub(crate) tls: Option<ListenerTls>,
    pub(crate) pages: Arc<dyn Pages>,
    /// `None` where `websockets` is off.
    pub(crate) upgrades: Option<Arc<Upgrades>>,
    /// What answers all other paths; `None` without `httpRootDir`.
    pub(crate) files: Option<Arc<Files>>,
    pub(crate) sources: Arc<Mutex<Sources>>,
}

impl HttpListener {
    /// Accepts and answers until the router stops; then ends what is under way.
    pub(crate) async fn serve(self, mut shutdown: Shutdown) {
        let listener = Arc::new(Shared {
            name: self.name,
            tls: self.tls,
            pages: self.pages,
            upgrades: self.upgrades,
            files: self.files,
            sources: self.sources,
            crowd: Mutex::default(),
        });
        let mut accepting = JoinSet::new();
        for socket in self.sockets {
            accepting.spawn(accept(socket, listener.clone()));
        }
        shutdown.requested().await;
        // Dropping the set ends its tasks, and theirs.
    }
}

impl fmt::Debug for HttpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpListener")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What the connections of a listener share.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) tls: Option<ListenerTls>,
    pub(super) pages: Arc<dyn Pages>,
    pub(super) upgrades: Option<Arc<Upgrades>>,
    pub(super) files: Option<Arc<Files>>,
    pub(super) sources: Arc<Mutex<Sources>>,
    /// A connection whose sender here is dropped ends.
    pub(super) crowd: Mutex<Crowd<oneshot::Sender<()>>>,
}

impl Shared {
    /// Lets somebody in; the receiver fails when the connection has to end.
    pub(super) fn enter(self: &Arc<Self>, peer: SocketAddr) -> (Guest, oneshot::Receiver<()>) {
        let (stay, displaced) = oneshot::channel();
        let (number, gone) = lock(&self.crowd).enter(peer.ip(), stay, Instant::now());
        if let Some(gone) = gone {
            lock(&self.sources).displaced();
            if gone.is_news {
                warn!(
                    target: "HTTP",
                    "Listener '{}': there are more than {} connections; of those from {}, which has the most, idle ones are closed",
                    self.name, crowd::MOST, gone.source,
                );
            }
        }
        let listener = Arc::clone(self);
        let guest = Guest {
            listener,
            peer,
            number,
        };
        (guest, displaced)
    }
}

/// A connection that was let in.
pub(super) struct Guest {
    listener: Arc<Shared>,
    peer: SocketAddr,
    number: u64,
}

impl Guest {
    /// Its TLS handshake has failed.
    fn not_secured(&self, error: &io::Error) {
        let (name, peer) = (&self.listener.name, self.peer);
        let failure = lock(&self.listener.sources).handshake_failed(error.kind(), Instant::now());
        if let HandshakeFailure::Told(end) = failure {
            info!(target: "HTTP", "Listener '{name}': connection from {peer} failed: {error}{end}");
        }
    }

    /// Marks that a request is being answered, until what is returned is dropped.
    fn answering(&self) -> Answering {
        let listener = Arc::clone(&self.listener);
        lock(&listener.crowd).set_answering(self.number, true, Instant::now());
        Answering {
            listener,
            number: self.number,
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        lock(&self.listener.crowd).leave(self.number);
    }
}

/// A request that is being answered.
struct Answering {
    listener: Arc<Shared>,
    number: u64,
}

impl Drop for Answering {
    fn drop(&mut self) {
        lock(&self.listener.crowd).set_answering(self.number, false, Instant::now());
    }
}

async fn accept(socket: TcpListener, listener: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                let admitted = lock(&listener.sources).keeps_rate(peer.ip(), Instant::now());
                if let Err(refused) = admitted {
                    if refused.is_news {
                        let (name, from) = (&listener.name, peer.ip());
                        warn!(target: "HTTP", "Listener '{name}': connections from {from} are closed: {}", refused.reason);
                    }
                    continue;
                }
                let (guest, displaced) = listener.enter(peer);
                connections.spawn(async move {
                    let result = tokio::select! {
                        result = connection(stream, &guest) => result,
                        _ = displaced => return,
                    };
                    if let Err(error) = result {
                        debug!(target: "HTTP", "Listener '{}': {error}", guest.listener.name);
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, mostly: others will be closed in a while.
                warn!(target: "HTTP", "Listener '{}': accept failed: {error}", listener.name);
                sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, guest: &Guest) -> io::Result<()> {
    let Some(tls) = &guest.listener.tls else {
        return exchange(stream, None, guest).await;
    };
    if !in_time(tls.is_due(&stream)).await? {
        return exchange(stream, None, guest).await;
    }
    let ready = tls.live.current(Instant::now());
    let stream = in_time(ready.tls.accept(stream))
        .await
        .map_err(explained)
        .inspect_err(|error| guest.not_secured(error))?;
    let info = TlsInfo::of(stream.get_ref().1, &ready);
    exchange(stream, Some(info), guest).await
}

async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(HANDSHAKE_TIME_OUT, step)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Answers the requests of one connection.
pub(super) async fn exchange<S>(stream: S, tls: Option<TlsInfo>, guest: &Guest) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (tls, listener) = (&tls, &*guest.listener);
    let service = service_fn(|mut request: Request<Incoming>| async move {
        let answering = guest.answering();
        let upgrades = listener.upgrades.as_ref();
        let upgraded = upgrades.and_then(|to| to.answer(&mut request, guest.peer, tls.clone()));
        let response = match upgraded {
            Some(response) => response,
            None => answer(&request, listener).await,
        };
        Ok::<_, Infallible>(response.map(|content| Given {
            content,
            _answering: answering,
        }))
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIME_OUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Unstalled::new(stream)), service)
        .with_upgrades()
        .await
        .map_err(io::Error::other)
}

/// An answer on its way, which is over when the last of it is.
struct Given {
    content: Content,
    _answering: Answering,
}

impl Body for Given {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Pin::new(&mut self.content).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

async fn answer<B>(request: &Request<B>, listener: &Shared) -> Response<Content> {
    let (method, pages) = (request.method(), &*listener.pages);
    if *method != Method::GET && *method != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/healthz" => match pages.healthy() {
            None => not_found(),
            Some(healthy) => match timeout(HEALTH_TIME_OUT, healthy).await {
                Ok(true) => text(StatusCode::OK, "OK\n"),
                Ok(false) | Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "not healthy\n"),
            },
        },
        "/readyz" => match pages.missing() {
            None => not_found(),
            Some(missing) => match timeout(HEALTH_TIME_OUT, missing).await {
                Ok(Some(missing)) if missing.is_empty() => text(StatusCode::OK, "OK\n"),
                Ok(Some(missing)) => {
                    let lines = missing.join("\n") + "\n";
                    text(StatusCode::SERVICE_UNAVAILABLE, lines)
                }
                Ok(None) | Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "not healthy\n"),
            },
        },
        "/metrics" => match pages.metrics() {
            None => not_found(),
            Some(metrics) => match timeout(METRICS_TIME_OUT, metrics).await {
                Ok(Some(metrics)) => {
                    let mut response = text(StatusCode::OK, metrics.to_string());
                    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
                    response.headers_mut().insert(CONTENT_TYPE, kind);
                    response
                }
                Ok(None) | Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "not healthy\n"),
            },
        },
        path => match &listener.files {
            None => not_found(),
            Some(files) => files.answer(method, path, request.headers()).await,
        },
    }
}

fn not_found() -> Response<Content> {
    text(StatusCode::NOT_FOUND, "not found\n")
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Content> {
    let mut response = Response::new(Content::from(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const MAX_HEAD: usize = 16 * 1024;
const HANDSHAKE_TIME_OUT: Duration = Duration::from_secs(10);
/// For a request's head to arrive, also while a connection is kept alive between requests.
const IDLE_TIME_OUT: Duration = Duration::from_secs(60);
/// A control plane that is silent for so long is not healthy.
const HEALTH_TIME_OUT: Duration = Duration::from_secs(5);
/// Others may be asking for figures too, and are served first.
const METRICS_TIME_OUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use std::path::PathBuf;

    use super::super::plan::{Listening, Planner};
    use super::super::sasl::SharedLogins;
    use super::super::shutdown::Stop;
    use super::super::tls::live::Profiles;
    use super::super::tls::pki::Pki;
    use super::super::tls::{ProfileSettings, TlsProfile};
    use super::*;
    use crate::management::Config;

    struct Router {
        healthy: bool,
    }

    impl Pages for Router {
        fn healthy(&self) -> Option<Answer<'_, bool>> {
            Some(Box::pin(async { self.healthy }))
        }

        fn missing(&self) -> Option<Answer<'_, Option<Vec<String>>>> {
            let missing = match self.healthy {
                true => Vec::new(),
                false => vec!["the moon".into(), "the sun".into()],
            };
            Some(Box::pin(async { Some(missing) }))
        }

        fn metrics(&self) -> Option<Answer<'_, Option<Arc<str>>>> {
            self.healthy.then(|| -> Answer<'_, Option<Arc<str>>> {
                Box::pin(async { Some("up 1\n".into()) })
            })
        }
    }

    #[test]
    fn a_healthy_router_says_so() {
        let answer = ask(
            true,
            "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        );
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-type: text/plain\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nOK\n"), "{answer}");
    }

    #[test]
    fn an_unhealthy_router_says_so() {
        let answer = ask(false, "GET /healthz HTTP/1.0\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.0 503 "), "{answer}");
    }

    #[test]
    fn what_is_not_there_is_not_found_and_only_reading_is_allowed() {
        assert!(ask(true, "GET / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 404 "));
        assert!(ask(false, "GET /metrics HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 404 "));
        assert!(ask(true, "POST /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 405 "));
        assert!(ask(true, "AMQP\0\x01\0\0\r\n\r\n").starts_with("HTTP/1.1 400 "));
    }

    #[test]
    fn a_router_that_is_not_ready_says_what_is_missing() {
        let answer = ask(true, "GET /readyz HTTP/1.0\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        let answer = ask(false, "GET /readyz HTTP/1.0\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.0 503 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\nthe moon\nthe sun\n"), "{answer}");
    }

    #[test]
    fn metrics_say_which_format_they_have() {
        let answer = ask(true, "GET /metrics HTTP/1.0\r\n\r\n");
        assert!(
            answer.contains("content-type: text/plain; version=0.0.4\r\n"),
            "{answer}"
        );
        assert!(answer.ends_with("\r\n\r\nup 1\n"), "{answer}");
    }

    #[test]
    fn those_who_hold_connections_and_ask_nothing_do_not_keep_others_out() {
        runtime().block_on(async {
            let (address, sources, stop) = serve(true).await;
            let mut idle = Vec::new();
            for _ in 0..crowd::MOST + 10 {
                idle.push(TcpStream::connect(address).await.unwrap());
            }
            let answer = tell(address, "GET /healthz HTTP/1.0\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
            assert_eq!(idle[0].read(&mut [0]).await.unwrap(), 0, "it made room");
            assert_eq!(lock(&sources).counts().displaced, 11);
            // The youngest is still there.
            let mut last = idle.pop().unwrap();
            let request = b"GET /healthz HTTP/1.0\r\n\r\n";
            last.write_all(request).await.unwrap();
            let mut answer = String::new();
            last.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
            stop.stop();
            stop.all_stopped().await;
        });
    }

    #[test]
    fn tls_may_be_left_out_where_it_is_not_required() {
        let pki = Pki::new();
        let server = pki.profile("server", &["localhost"]);
        let client = TlsProfile::load(&pki.profile("client", &[])).unwrap();
        let connector = client.connector(true, &[]).unwrap();
        const REQUEST: &str = "GET /healthz HTTP/1.0\r\n\r\n";
        for (attributes, in_clear) in [
            ("requireSsl: no", true),
            ("requireSsl: yes", false),
            ("requireEncryption: yes", false),
        ] {
            runtime().block_on(async {
                let tls = planned(&server, attributes);
                let (address, _, stop) = serve_with(true, tls).await;
                let mut client = TcpStream::connect(address).await.unwrap();
                client.write_all(REQUEST.as_bytes()).await.unwrap();
                let mut answer = Vec::new();
                let _ = client.read_to_end(&mut answer).await;
                assert_eq!(
                    answer.starts_with(b"HTTP/1.0 200 "),
                    in_clear,
                    "{attributes}"
                );

                let client = TcpStream::connect(address).await.unwrap();
                let name = "localhost".try_into().unwrap();
                let mut client = connector.connect(name, client).await.unwrap();
                client.write_all(REQUEST.as_bytes()).await.unwrap();
                let mut answer = Vec::new();
                let _ = client.read_to_end(&mut answer).await;
                assert!(answer.starts_with(b"HTTP/1.0 200 "), "{attributes}");
                stop.stop();
                stop.all_stopped().await;
            });
        }
    }

    #[test]
    fn who_has_to_prove_itself_needs_a_certificate_whatever_sasl_may_offer() {
        let pki = Pki::new();
        let server = pki.profile("server", &["localhost"]);
        let certified = pki.profile("client", &[]);
        let nobody = ProfileSettings {
            cert_file: None,
            private_key_file: None,
            ..certified.clone()
        };
        for (client, answered) in [(certified, true), (nobody, false)] {
            let connector = TlsProfile::load(&client).unwrap();
            let connector = connector.connector(true, &[]).unwrap();
            runtime().block_on(async {
                let attributes = "authenticatePeer: yes\n saslMechanisms: ANONYMOUS";
                let (address, _, stop) = serve_with(true, planned(&server, attributes)).await;
                let answer = async {
                    let client = TcpStream::connect(address).await?;
                    let name = "localhost".try_into().unwrap();
                    let mut client = connector.connect(name, client).await?;
                    client.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
                    let mut answer = String::new();
                    client.read_to_string(&mut answer).await.map(|_| answer)
                };
                let answer: io::Result<String> = answer.await;
                assert_eq!(answer.is_ok_and(|text| text.contains("200 OK")), answered);
                stop.stop();
                stop.all_stopped().await;
            });
        }
    }

    /// The TLS of a listener with these attributes.
    fn planned(server: &ProfileSettings, attributes: &str) -> Option<ListenerTls> {
        let file = |file: &Option<PathBuf>| file.as_ref().unwrap().display().to_string();
        let text = format!(
            "sslProfile {{\n name: p\n certFile: {}\n privateKeyFile: {}\n \
             caCertFile: {}\n}}\nlistener {{\n port: 0\n http: yes\n sslProfile: p\n {attributes}\n}}\n",
            file(&server.cert_file),
            file(&server.private_key_file),
            file(&server.ca_cert_file),
        );
        let config = Config::from_text("router.conf", &text).unwrap();
        let planner = Planner::new(&config, &Profiles::default(), &SharedLogins::default());
        match planner.listener(config.of("listener").next().unwrap()) {
            Ok(Listening::Http(plan)) => plan.tls,
            _ => panic!("it is one for HTTP"),
        }
    }

    fn ask(healthy: bool, request: &str) -> String {
        runtime().block_on(async {
            let (address, _, stop) = serve(healthy).await;
            let answer = tell(address, request).await;
            stop.stop();
            stop.all_stopped().await;
            answer
        })
    }

    fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    }

    async fn serve(healthy: bool) -> (SocketAddr, Arc<Mutex<Sources>>, Stop) {
        serve_with(healthy, None).await
    }

    async fn serve_with(
        healthy: bool,
        tls: Option<ListenerTls>,
    ) -> (SocketAddr, Arc<Mutex<Sources>>, Stop) {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (stop, shutdown) = Stop::new();
        let sources = Arc::<Mutex<Sources>>::default();
        let listener = HttpListener {
            name: "http".into(),
            sockets: vec![socket],
            tls,
            pages: Arc::new(Router { healthy }),
            upgrades: None,
            files: None,
            sources: Arc::clone(&sources),
        };
        tokio::spawn(listener.serve(shutdown));
        (address, sources, stop)
    }

    async fn tell(address: SocketAddr, request: &str) -> String {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }
}
