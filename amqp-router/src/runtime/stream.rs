//! A connection's byte stream: TCP, or TLS over it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncWrite, DuplexStream};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

/// What a worker reads from and writes to.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    TlsServer(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    TlsClient(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    /// The near end of a WebSocket.
    Web(DuplexStream),
}

impl Stream {
    /// Reads into the spare capacity of `buffer`; `Ok(0)` is the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => poll_read_buf(Pin::new(stream), cx, buffer),
            Self::TlsServer(stream) => poll_read_buf(Pin::new(&mut **stream), cx, buffer),
            Self::TlsClient(stream) => poll_read_buf(Pin::new(&mut **stream), cx, buffer),
            Self::Web(stream) => poll_read_buf(Pin::new(stream), cx, buffer),
        }
    }

    /// What has become of the connection though nobody reads: its peer has cut it off, or is gone.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        // A socket that cannot be asked is as good as lost.
        self.socket()
            .and_then(|socket| socket.take_error().unwrap_or_else(Some))
    }

    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::TlsServer(stream) => Some(stream.get_ref().0),
            Self::TlsClient(stream) => Some(stream.get_ref().0),
            Self::Web(_) => None,
        }
    }

    /// Has the system find out by itself when the peer is gone though nothing is sent.
    pub(crate) fn keep_alive(&self) {
        let Some(socket) = self.socket() else {
            return;
        };
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_INTERVAL);
        // It can fail where the connection has, which is noticed anyway.
        let _ = SockRef::from(socket).set_tcp_keepalive(&keepalive);
    }

    /// Has the connection end so that its peer sees that it was cut off: by a TCP reset.
    pub(crate) fn reset_on_close(&self) {
        let Some(socket) = self.socket() else {
            return;
        };
        // If it cannot be done, its peer sees an end, which is the next best thing.
        let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::TlsServer(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
            Self::TlsClient(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
            Self::Web(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Passes on what TLS has encrypted and not sent.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::TlsServer(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Self::TlsClient(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Self::Web(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Ends the writing side, with TLS's own farewell first.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::TlsServer(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::TlsClient(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::Web(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// How long a connection may be silent before its peer is asked whether it is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// How long it is given to answer, a few times over.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
