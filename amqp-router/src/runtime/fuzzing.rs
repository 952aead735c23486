//! HTTP and WebSocket connections to be fed anything at all.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Component;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc::unbounded_channel;

use super::files::relative;
use super::http::{Answer, Pages, Shared, exchange};
use super::listen::Placement;
use super::websocket::{Upgrades, relay};

/// Requests, one after the other: the connection must end with the input, and no path may lead out
/// of the directory that is served.
pub(crate) fn http(bytes: &[u8]) {
    if let Ok(path) = std::str::from_utf8(bytes)
        && let Some(found) = relative(path)
    {
        for part in found.components() {
            assert!(matches!(part, Component::Normal(_)), "{found:?}");
        }
    }
    let runtime = runtime();
    let (accepted, _connections) = unbounded_channel();
    let upgrades = Upgrades {
        listener: "web".into(),
        placement: Arc::new(Here(runtime.handle().clone())),
        accepted,
    };
    let listener = Arc::new(Shared {
        name: "web".into(),
        tls: None,
        pages: Arc::new(Nothing),
        upgrades: Some(Arc::new(upgrades)),
        files: None,
        sources: Arc::default(),
        crowd: Mutex::default(),
    });
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    runtime.block_on(async {
        let stream = said(bytes).await;
        // How it ends is the peer's business.
        let (guest, _stay) = listener.enter(peer);
        let _ = exchange(stream, None, &guest).await;
    });
}

/// Frames: no more comes out than went in.
pub(crate) fn websocket(bytes: &[u8]) {
    runtime().block_on(async {
        let stream = said(bytes).await;
        let (near, mut far) = tokio::io::duplex(bytes.len() + 1);
        let _ = relay(stream, near).await;
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.expect("a pipe in memory");
        assert!(heard.len() <= bytes.len());
    });
}

/// The other end of a socket on which somebody has said all this and will say no more.
async fn said(bytes: &[u8]) -> DuplexStream {
    let (mut client, server) = tokio::io::duplex(bytes.len() + 1);
    client.write_all(bytes).await.expect("there is room");
    client.shutdown().await.expect("a pipe in memory");
    tokio::spawn(async move {
        let mut ignored = Vec::new();
        let _ = client.read_to_end(&mut ignored).await;
    });
    server
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
}

struct Here(Handle);

impl Placement for Here {
    fn place(&self) -> (usize, Handle) {
        (0, self.0.clone())
    }
}

struct Nothing;

impl Pages for Nothing {
    fn healthy(&self) -> Option<Answer<'_, bool>> {
        None
    }

    fn missing(&self) -> Option<Answer<'_, Option<Vec<String>>>> {
        None
    }

    fn metrics(&self) -> Option<Answer<'_, Option<Arc<str>>>> {
        None
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_fed_is_handled() {
        for request in [
            &b""[..],
            b"/a/../b",
            b"GET / HTTP/1.1\r\n\r\nGET /x HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: amqp\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        ] {
            super::http(request);
        }
        for frames in [
            &b""[..],
            b"\x82\x83\0\0\0\0abc\x88\x80\0\0\0\0",
            b"\x82\x7f",
        ] {
            super::websocket(frames);
        }
    }
}
