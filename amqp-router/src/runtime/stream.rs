//! TCP connections with or without TLS, accepted or made.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::listener::{AddressFamily, port_number};
use super::reconnect::Server;
use super::tls::{TlsInfo, TlsProfile, begins_handshake};

/// A connection that bytes can be exchanged on.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A new connection.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    pub(crate) tls: Option<TlsInfo>,
    /// What the peer has sent already; to be read before the stream.
    pub(crate) first: Vec<u8>,
}

/// How a listener secures what it accepts.
#[derive(Clone)]
pub(crate) struct Security {
    pub(crate) profile: TlsProfile,
    pub(crate) acceptor: TlsAcceptor,
    /// `requireSsl`: a peer that does not begin with TLS is refused.
    pub(crate) required: bool,
}

/// Takes over an accepted connection: finds out whether the peer speaks TLS, at once or after
/// AMQP's TLS header (AMQP 5.2.1), and does the handshake. `None`: the peer has gone without a
/// word, which is how tools probe a listener.
///
/// # Errors
///
/// TLS is required and not used, the handshake fails, or takes longer than `limit`.
pub(crate) async fn accept(
    stream: TcpStream,
    security: Option<&Security>,
    limit: Duration,
) -> Result<Option<Opened>, String> {
    let outcome = timeout(limit, secure(stream, security)).await;
    outcome.unwrap_or_else(|_| Err(format!("TLS handshake not complete within {limit:?}")))
}

/// How a connector secures what it connects to.
#[derive(Clone)]
pub(crate) struct ClientSecurity {
    pub(crate) profile: TlsProfile,
    pub(crate) connector: TlsConnector,
}

/// Connects to a server, trying its addresses in order, and does the TLS handshake.
///
/// # Errors
///
/// The host is unknown, nobody accepts, the server's certificate is not good, or it takes longer
/// than `limit`.
pub(crate) async fn connect(
    server: &Server,
    family: Option<AddressFamily>,
    security: Option<&ClientSecurity>,
    limit: Duration,
) -> Result<Opened, String> {
    let outcome = timeout(limit, dial(server, family, security)).await;
    outcome.unwrap_or_else(|_| Err(format!("no connection within {limit:?}")))
}

async fn secure(
    mut stream: TcpStream,
    security: Option<&Security>,
) -> Result<Option<Opened>, String> {
    let text = |error: io::Error| error.to_string();
    stream.set_nodelay(true).map_err(text)?;
    let Some(security) = security else {
        return Ok(Some(Opened {
            stream: Stream::Plain(stream),
            tls: None,
            first: Vec::new(),
        }));
    };
    let mut first = [0; TLS_HEADER.len()];
    let peeked = stream.peek(&mut first[..1]).await.map_err(text)?;
    if peeked == 0 {
        return Ok(None);
    }
    if !begins_handshake(&first[..1]) {
        let read = read_up_to(&mut stream, &mut first).await.map_err(text)?;
        let first = &first[..read];
        if first == TLS_HEADER {
            stream.write_all(&TLS_HEADER).await.map_err(text)?;
        } else if security.required {
            return Err("the peer does not use TLS, which requireSsl demands".into());
        } else {
            let (stream, first) = (Stream::Plain(stream), first.to_vec());
            return Ok(Some(Opened {
                stream,
                tls: None,
                first,
            }));
        }
    }
    let stream = security
        .acceptor
        .accept(stream)
        .await
        .map_err(handshake_failed)?;
    let tls = Some(security.profile.info(stream.get_ref().1));
    let stream = Stream::Tls(Box::new(stream.into()));
    Ok(Some(Opened {
        stream,
        tls,
        first: Vec::new(),
    }))
}

async fn dial(
    server: &Server,
    family: Option<AddressFamily>,
    security: Option<&ClientSecurity>,
) -> Result<Opened, String> {
    let port = port_number(&server.port).map_err(|error| error.to_string())?;
    let addresses = lookup_host((server.host.as_str(), port))
        .await
        .map_err(|e| e.to_string())?;
    let mut failure = "the host has no address of this family".to_owned();
    for address in addresses.filter(|address| family.is_none_or(|family| family.has(address))) {
        match TcpStream::connect(address).await {
            Ok(stream) => return secure_client(stream, server, security).await,
            Err(error) => failure = error.to_string(),
        }
    }
    Err(failure)
}

async fn secure_client(
    stream: TcpStream,
    server: &Server,
    security: Option<&ClientSecurity>,
) -> Result<Opened, String> {
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let Some(security) = security else {
        return Ok(Opened {
            stream: Stream::Plain(stream),
            tls: None,
            first: Vec::new(),
        });
    };
    let name = ServerName::try_from(server.host.clone())
        .map_err(|_| format!("'{}' cannot be the name of a TLS server", server.host))?;
    let stream = security
        .connector
        .connect(name, stream)
        .await
        .map_err(handshake_failed)?;
    let tls = Some(security.profile.info(stream.get_ref().1));
    Ok(Opened {
        stream: Stream::Tls(Box::new(stream.into())),
        tls,
        first: Vec::new(),
    })
}

/// Fills the buffer as far as the peer's bytes go.
async fn read_up_to(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]).await? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

fn handshake_failed(error: io::Error) -> String {
    format!("TLS handshake failed: {error}")
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// The protocol header that asks for TLS (AMQP 5.2.1).
const TLS_HEADER: [u8; 8] = *b"AMQP\x02\x01\x00\x00";

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::runtime::Builder;

    use super::super::tls::ClientCertificate;
    use super::super::tls::pki::Pki;
    use super::*;

    #[test]
    fn both_ends_come_to_speak_tls() {
        let pki = Pki::new();
        let (client, server) = meet(client(&pki).as_ref(), security(&pki, true).as_ref(), &[]);
        assert_eq!(client.unwrap().tls.unwrap().protocol, "TLSv1.3");
        assert_eq!(server.unwrap().unwrap().tls.unwrap().user, None);
    }

    #[test]
    fn a_peer_in_clear_passes_where_tls_is_not_required() {
        let pki = Pki::new();
        let (_, server) = meet(
            None,
            security(&pki, false).as_ref(),
            b"AMQP\x00\x01\x00\x00rest",
        );
        let server = server.unwrap().unwrap();
        assert_eq!(server.first, b"AMQP\x00\x01\x00\x00");
        assert!(server.tls.is_none());

        let (_, server) = meet(None, security(&pki, true).as_ref(), b"AMQP\x00\x01\x00\x00");
        assert!(server.unwrap_err().contains("requireSsl"));
    }

    #[test]
    fn a_short_greeting_is_handed_on_whole() {
        let (_, server) = meet(None, security(&Pki::new(), false).as_ref(), b"AM");
        assert_eq!(server.unwrap().unwrap().first, b"AM");
    }

    #[test]
    fn a_probe_that_says_nothing_is_no_error() {
        let (_, server) = meet(None, security(&Pki::new(), true).as_ref(), &[]);
        assert!(server.unwrap().is_none());
    }

    #[test]
    fn a_peer_that_stays_silent_is_given_up() {
        let security = security(&Pki::new(), true);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let (listener, server) = listen().await;
            let _peer = dial(&server, None, None).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            accept(stream, security.as_ref(), Duration::from_millis(20)).await
        });
        assert!(outcome.unwrap_err().contains("not complete within 20ms"));
    }

    #[test]
    fn the_tls_header_of_amqp_leads_to_tls() {
        let pki = Pki::new();
        let (listening, connecting) = (security(&pki, true).unwrap(), client(&pki).unwrap());
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (listener, server) = listen().await;
            let peer = async {
                let mut stream = dial(&server, None, None).await.unwrap().stream;
                stream.write_all(&TLS_HEADER).await.unwrap();
                let mut answer = [0; 8];
                stream.read_exact(&mut answer).await.unwrap();
                assert_eq!(answer, TLS_HEADER);
                let Stream::Plain(stream) = stream else {
                    unreachable!("dialled without TLS")
                };
                secure_client(stream, &server, Some(&connecting))
                    .await
                    .unwrap();
            };
            let (stream, ()) = tokio::join!(
                async {
                    let (stream, _) = listener.accept().await.unwrap();
                    accept(stream, Some(&listening), PATIENCE).await
                },
                peer
            );
            assert!(stream.unwrap().unwrap().tls.is_some());
        });
    }

    #[test]
    fn a_failed_connection_says_why() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let attempt = |host: &str, port: &str, family| {
            let server = Server {
                host: host.into(),
                port: port.into(),
            };
            runtime
                .block_on(connect(&server, family, None, PATIENCE))
                .unwrap_err()
        };
        assert!(attempt("127.0.0.1", "1", None).contains("Connection refused"));
        assert!(attempt("127.0.0.1", "1", Some(AddressFamily::V6)).contains("of this family"));
        assert!(attempt("127.0.0.1", "x", None).contains("port 'x' is not valid"));
    }

    /// A client connects, says `greeting` if it does not use TLS, and closes.
    fn meet(
        client: Option<&ClientSecurity>,
        security: Option<&Security>,
        greeting: &[u8],
    ) -> (Result<Opened, String>, Result<Option<Opened>, String>) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (listener, server) = listen().await;
            let connect = async {
                let mut opened = connect(&server, None, client, PATIENCE).await?;
                if opened.tls.is_none() {
                    opened
                        .stream
                        .write_all(greeting)
                        .await
                        .map_err(|e| e.to_string())?;
                    opened.stream.shutdown().await.map_err(|e| e.to_string())?;
                }
                Ok(opened)
            };
            let accept = async {
                let (stream, _) = listener.accept().await.unwrap();
                accept(stream, security, PATIENCE).await
            };
            tokio::join!(connect, accept)
        })
    }

    async fn listen() -> (TcpListener, Server) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        (
            listener,
            Server {
                host: "127.0.0.1".into(),
                port,
            },
        )
    }

    fn security(pki: &Pki, required: bool) -> Option<Security> {
        let profile = TlsProfile::load(&pki.profile("server", &[])).unwrap();
        let acceptor = profile.acceptor(ClientCertificate::NotAsked, &[]).unwrap();
        Some(Security {
            profile,
            acceptor,
            required,
        })
    }

    fn client(pki: &Pki) -> Option<ClientSecurity> {
        let profile = TlsProfile::load(&pki.profile("client", &[])).unwrap();
        let connector = profile.connector(false, &[]).unwrap();
        Some(ClientSecurity { profile, connector })
    }

    const PATIENCE: Duration = Duration::from_secs(20);
}
