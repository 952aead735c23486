//! AMQP over WebSocket (RFC 6455; sub-protocol `amqp`, AMQP WebSocket binding 1.0) on listeners
//! with `http: true`.
//!
//! The upgrade is answered here, and then the messages' bytes go through a small pipe to a worker,
//! which takes its other end for a socket. So what a slow side does not take, the other cannot
//! send.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tracing::debug;

use super::files::Content;
use super::listen::{Accepted, Placement};
use super::stream::Stream;
use super::tls::TlsInfo;

/// Where a listener's WebSocket connections go.
pub(crate) struct Upgrades {
    pub(crate) listener: Arc<str>,
    pub(crate) placement: Arc<dyn Placement>,
    pub(crate) accepted: UnboundedSender<(usize, Accepted)>,
}

impl Upgrades {
    /// Answers a request that asks for a WebSocket; `None` for any other.
    pub(crate) fn answer(
        self: &Arc<Self>,
        request: &mut Request<Incoming>,
        peer: SocketAddr,
        tls: Option<TlsInfo>,
    ) -> Option<Response<Content>> {
        if !lists(request, UPGRADE, "websocket") {
            return None;
        }
        Some(match handshake(request) {
            Err(status) => refusal(status),
            Ok(response) => {
                let upgrade = hyper::upgrade::on(request);
                let upgrades = Arc::clone(self);
                tokio::spawn(async move {
                    match upgrade.await {
                        Ok(upgraded) => upgrades.run(TokioIo::new(upgraded), peer, tls).await,
                        Err(error) => {
                            debug!(target: "HTTP", "WebSocket from {peer}: {error}");
                        }
                    }
                });
                response
            }
        })
    }

    async fn run<S>(&self, socket: S, peer: SocketAddr, tls: Option<TlsInfo>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (near, far) = tokio::io::duplex(PIPE);
        let (worker, _) = self.placement.place();
        let new = Accepted {
            listener: Arc::clone(&self.listener),
            stream: Stream::Web(far),
            peer,
            since: Instant::now(),
            tls,
            place: None,
        };
        // Nobody there: the router is stopping.
        if self.accepted.send((worker, new)).is_ok()
            && let Err(error) = relay(socket, near).await
        {
            debug!(target: "HTTP", "WebSocket from {peer}: {error}");
        }
    }
}

/// Passes bytes between a WebSocket and a pipe until either ends. Masks, fragments, pings and the
/// order of closing are looked after by the WebSocket's own state machine.
pub(super) async fn relay<S>(socket: S, pipe: DuplexStream) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .max_write_buffer_size(2 * MAX_MESSAGE);
    let web = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
    let (mut sink, mut messages) = web.split();
    let (mut output, mut input) = tokio::io::split(pipe);
    let inward = async {
        while let Some(message) = messages.next().await {
            match message.map_err(io::Error::other)? {
                Message::Binary(bytes) => input.write_all(&bytes).await?,
                Message::Text(_) => {
                    return Err(io::Error::other(
                        "AMQP comes in binary messages, not in text",
                    ));
                }
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        input.shutdown().await
    };
    let outward = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = output.read(&mut buffer).await?;
            if count == 0 {
                return sink.close().await.map_err(io::Error::other);
            }
            let message = Message::binary(Bytes::copy_from_slice(&buffer[..count]));
            sink.send(message).await.map_err(io::Error::other)?;
        }
    };
    // When the peer has closed, what the router still has to say goes nowhere.
    tokio::select! {
        ended = inward => ended,
        ended = outward => ended,
    }
}

/// The answer that switches protocols (RFC 6455 4.2.2).
fn handshake(request: &Request<Incoming>) -> Result<Response<Content>, StatusCode> {
    let headers = request.headers();
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let is_upgrade = *request.method() == Method::GET && lists(request, CONNECTION, "upgrade");
    let (true, Some(key)) = (is_upgrade, key) else {
        return Err(StatusCode::BAD_REQUEST);
    };
    if headers.get(SEC_WEBSOCKET_VERSION) != Some(&HeaderValue::from_static("13")) {
        return Err(StatusCode::UPGRADE_REQUIRED);
    }
    let offered = PROTOCOLS
        .iter()
        .find(|protocol| lists(request, SEC_WEBSOCKET_PROTOCOL, protocol));
    let Some(protocol) = offered else {
        return Err(StatusCode::BAD_REQUEST);
    };
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    let accept = accept.map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut response = Response::new(Content::from(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    Ok(response)
}

fn refusal(status: StatusCode) -> Response<Content> {
    let text = "AMQP over WebSocket needs version 13 and the sub-protocol amqp\n";
    let mut response = Response::new(Content::from(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let version = HeaderValue::from_static("13");
    response
        .headers_mut()
        .insert(SEC_WEBSOCKET_VERSION, version);
    response
}

/// Whether a header of a request lists a word.
fn lists(request: &Request<Incoming>, header: HeaderName, word: &str) -> bool {
    request
        .headers()
        .get_all(header)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|listed| listed.trim().eq_ignore_ascii_case(word))
}

/// Sub-protocols, the better first; `binary` is what some gateways say.
const PROTOCOLS: [&str; 2] = ["amqp", "binary"];
/// Bytes of one message; AMQP frames may begin and end anywhere in it.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// Bytes that wait between a WebSocket and its worker, each way.
const PIPE: usize = 64 * 1024;
/// Bytes of a message that is sent.
const CHUNK: usize = 32 * 1024;
