//! The HTTP side of a listener with `http: true`: `/healthz`, `/readyz`, `/metrics`, and files.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::files::{Content, Files};
use super::shutdown::Shutdown;
use super::tls::TlsInfo;
use super::tls::live::LiveAcceptor;
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
    pub(crate) tls: Option<Arc<LiveAcceptor>>,
    pub(crate) pages: Arc<dyn Pages>,
    /// `None` where `websockets` is off.
    pub(crate) upgrades: Option<Arc<Upgrades>>,
    /// What answers all other paths; `None` without `httpRootDir`.
    pub(crate) files: Option<Arc<Files>>,
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
            permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
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
    pub(super) tls: Option<Arc<LiveAcceptor>>,
    pub(super) pages: Arc<dyn Pages>,
    pub(super) upgrades: Option<Arc<Upgrades>>,
    pub(super) files: Option<Arc<Files>>,
    pub(super) permits: Arc<Semaphore>,
}

async fn accept(socket: TcpListener, listener: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = listener.permits.clone().acquire_owned().await else {
            return;
        };
        match socket.accept().await {
            Ok((stream, peer)) => {
                let listener = listener.clone();
                connections.spawn(async move {
                    let _permit = permit;
                    if let Err(error) = connection(stream, peer, &listener).await {
                        debug!(target: "HTTP", "Listener '{}': {error}", listener.name);
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

async fn connection(stream: TcpStream, peer: SocketAddr, listener: &Shared) -> io::Result<()> {
    match &listener.tls {
        None => exchange(stream, peer, None, listener).await,
        Some(tls) => {
            let ready = tls.current(Instant::now());
            let stream = timeout(HANDSHAKE_TIME_OUT, ready.tls.accept(stream)).await??;
            let info = TlsInfo::of(stream.get_ref().1, &ready);
            exchange(stream, peer, Some(info), listener).await
        }
    }
}

/// Answers the requests of one connection.
pub(super) async fn exchange<S>(
    stream: S,
    peer: SocketAddr,
    tls: Option<TlsInfo>,
    listener: &Shared,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tls = &tls;
    let service = service_fn(|mut request: Request<Incoming>| async move {
        let upgrades = listener.upgrades.as_ref();
        let upgraded = upgrades.and_then(|to| to.answer(&mut request, peer, tls.clone()));
        Ok::<_, Infallible>(match upgraded {
            Some(response) => response,
            None => answer(&request, listener).await,
        })
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

const MAX_CONNECTIONS: usize = 256;
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

    use super::super::shutdown::Stop;
    use super::*;

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

    fn ask(healthy: bool, request: &str) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = socket.local_addr().unwrap();
            let (stop, shutdown) = Stop::new();
            let listener = HttpListener {
                name: "http".into(),
                sockets: vec![socket],
                tls: None,
                pages: Arc::new(Router { healthy }),
                upgrades: None,
                files: None,
            };
            tokio::spawn(listener.serve(shutdown));
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            stop.stop();
            stop.all_stopped().await;
            answer
        })
    }
}
