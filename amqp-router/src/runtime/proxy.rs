//! Connections through a proxy: HTTP's `CONNECT` (RFC 9110 9.3.6), or SOCKS 5 (RFC 1928).

use std::io;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_socks::TargetAddr;
use tokio_socks::tcp::Socks5Stream;
use zeroize::Zeroizing;

use super::reconnect::Server;
use super::secret::Secret;

/// A proxyProfile made ready to work.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    /// The name of the entity.
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    /// Sent as Basic credentials (RFC 7617), or as SOCKS has it (RFC 1929), when there is a user.
    pub(crate) login: Option<(String, Secret)>,
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Socks5,
}

impl Proxy {
    /// Connects to `host` and `port` from where the proxy stands, which also looks the name up.
    /// The caller limits the time.
    ///
    /// # Errors
    /// The proxy is not to be reached, refuses, or does not speak its protocol.
    pub(crate) async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let fault =
            |text: String| io::Error::other(format!("proxyProfile '{}': {text}", self.name));
        let stream = TcpStream::connect((&*self.host, self.port))
            .await
            .map_err(|error| fault(format!("{}:{}: {error}", self.host, self.port)))?;
        match self.protocol {
            Protocol::Http => self.tunnel(stream, host, port).await,
            Protocol::Socks5 => self.relay(stream, host, port).await,
        }
        .map_err(fault)
    }

    async fn relay(&self, stream: TcpStream, host: &str, port: u16) -> Result<TcpStream, String> {
        let target = match host.parse::<IpAddr>() {
            Ok(address) => TargetAddr::Ip((address, port).into()),
            Err(_) => TargetAddr::Domain(host.into(), port),
        };
        let connected = match &self.login {
            None => Socks5Stream::connect_with_socket(stream, target).await,
            Some((user, password)) => {
                let password = password.as_str();
                Socks5Stream::connect_with_password_and_socket(stream, target, user, password).await
            }
        };
        connected.map(Socks5Stream::into_inner).map_err(|error| {
            use tokio_socks::Error::{
                AuthorizationRequired, NoAcceptableAuthMethods, PasswordAuthFailure,
            };
            let advice = match error {
                AuthorizationRequired | NoAcceptableAuthMethods | PasswordAuthFailure(_) => {
                    "; check 'username' and 'password'"
                }
                _ => "",
            };
            format!("SOCKS 5: {error}{advice}")
        })
    }

    async fn tunnel(
        &self,
        mut stream: TcpStream,
        host: &str,
        port: u16,
    ) -> Result<TcpStream, String> {
        stream
            .write_all(self.request(host, port).as_bytes())
            .await
            .map_err(|error| error.to_string())?;
        let head = read_head(&mut stream)
            .await
            .map_err(|error| error.to_string())?;
        match status(&head) {
            Some(200..=299) => Ok(stream),
            Some(407) => Err(
                "the proxy asks for other credentials (407); check 'username' and 'password'"
                    .into(),
            ),
            Some(code) => Err(format!("the proxy refuses with status {code}")),
            None => Err("the proxy does not answer in HTTP/1".into()),
        }
    }

    fn request(&self, host: &str, port: u16) -> Zeroizing<String> {
        let target = Server::new(host, port.to_string());
        let mut request =
            Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"));
        if let Some((user, password)) = &self.login {
            let login = Zeroizing::new(format!("{user}:{}", password.as_str()));
            let login = Zeroizing::new(STANDARD.encode(&*login));
            request.push_str("Proxy-Authorization: Basic ");
            request.push_str(&login);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        request
    }
}

/// Reads the head of an answer and not one byte of what follows it.
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(io::Error::other("the proxy's answer has no end"));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    words.next()?.parse().ok()
}

/// Bytes of the head of a proxy's answer.
const MAX_HEAD: usize = 8192;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::runtime::secret;

    #[test]
    fn the_request_names_the_target_and_shows_the_login() {
        let (request, result) = ask(
            "broker.example",
            b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nAMQP",
            true,
        );
        let expected = "CONNECT broker.example:5671 HTTP/1.1\r\nHost: broker.example:5671\r\n\
                        Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n\r\n";
        assert_eq!(request, expected);
        assert_eq!(
            result.unwrap(),
            b"AMQP",
            "what follows the head is the stream's"
        );
    }

    #[test]
    fn an_ipv6_target_stands_in_brackets() {
        let (request, _) = ask("::1", b"HTTP/1.0 200 Connection established\r\n\r\n", false);
        assert_eq!(
            request,
            "CONNECT [::1]:5671 HTTP/1.1\r\nHost: [::1]:5671\r\n\r\n"
        );
    }

    #[test]
    fn a_refusal_names_the_profile_and_the_reason() {
        for (answer, reason) in [
            (
                &b"HTTP/1.1 407 Who?\r\n\r\n"[..],
                "check 'username' and 'password'",
            ),
            (b"HTTP/1.1 503 No\r\n\r\n", "status 503"),
            (b"SSH-2.0-x\r\n\r\n", "does not answer in HTTP/1"),
            (b"HTTP/1.1 200", "early eof"),
            (&[b'x'; 9000], "has no end"),
        ] {
            let error = ask("h", answer, true).1.unwrap_err().to_string();
            assert!(error.starts_with("proxyProfile 'p': "), "{error}");
            assert!(
                error.contains(reason) || error.contains("unexpected end"),
                "{error}"
            );
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_socks_proxy_is_told_where_to_and_who_asks() {
        let name = [&[5, 1, 0, 3, 14][..], b"broker.example", &[0x16, 0x27]].concat();
        let v6 = [&[5, 1, 0, 4][..], &[0; 15], &[1, 0x16, 0x27]].concat();
        for (host, request) in [("broker.example", &name), ("::1", &v6)] {
            let login = [&[1, 5][..], b"alice", &[6], b"secret"].concat();
            let bound = [5, 0, 0, 1, 127, 0, 0, 1, 0, 80];
            let script: [(&[u8], &[u8]); 3] = [
                (&[5, 2, 0, 2], &[5, 2]),
                (&login, &[1, 0]),
                (request, &[&bound[..], b"AMQP"].concat()),
            ];
            assert_eq!(ask_socks(host, &script, true).unwrap(), b"AMQP");
            let script: [(&[u8], &[u8]); 2] = [(&[5, 1, 0], &[5, 0]), (request, &bound)];
            assert_eq!(ask_socks(host, &script, false).unwrap(), b"");
        }
    }

    #[test]
    fn a_refusal_of_a_socks_proxy_names_the_profile_and_the_reason() {
        let methods = &[5, 2, 0, 2][..];
        for (script, reason) in [
            (
                &[(methods, &[5, 0xff][..])][..],
                "check 'username' and 'password'",
            ),
            (
                &[(methods, &[5, 2][..]), (&[0; 14], &[1, 1])],
                "check 'username' and 'password'",
            ),
            (
                &[
                    (methods, &[5, 0]),
                    (&[0; 8], &[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]),
                ],
                "refused",
            ),
            (&[(methods, b"HTTP/1.1 400")], "SOCKS 5: "),
            (&[(methods, b"")], "SOCKS 5: "),
        ] {
            let error = ask_socks("h", script, true).unwrap_err().to_string();
            assert!(error.starts_with("proxyProfile 'p': SOCKS 5: "), "{error}");
            assert!(
                error.to_lowercase().contains(&reason.to_lowercase()),
                "{error}"
            );
            assert!(!error.contains("secret"), "{error}");
        }
    }

    /// Plays a proxy that is asked so much and answers so, in turn; what its client gets then.
    /// Questions of zeroes are not compared.
    fn ask_socks(host: &str, script: &[(&[u8], &[u8])], login: bool) -> io::Result<Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let password = secret::resolve("pass:secret", true).unwrap();
            let proxy = Proxy {
                name: "p".into(),
                host: "127.0.0.1".into(),
                port: listener.local_addr().unwrap().port(),
                protocol: Protocol::Socks5,
                login: login.then(|| ("alice".into(), password)),
            };
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                for (expected, answer) in script {
                    let mut asked = vec![0; expected.len()];
                    stream.read_exact(&mut asked).await.unwrap();
                    if expected.iter().any(|octet| *octet != 0) {
                        assert_eq!(&asked, expected);
                    }
                    stream.write_all(answer).await.unwrap();
                }
            };
            let connect = async {
                let mut rest = Vec::new();
                let mut stream = proxy.connect(host, 5671).await?;
                stream.read_to_end(&mut rest).await?;
                Ok(rest)
            };
            let ((), result) = tokio::join!(serve, connect);
            result
        })
    }

    /// What the proxy was asked, and what its answer came to: the bytes after its head.
    fn ask(host: &str, answer: &[u8], login: bool) -> (String, io::Result<Vec<u8>>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let password = secret::resolve("pass:secret", true).unwrap();
            let proxy = Proxy {
                name: "p".into(),
                host: "127.0.0.1".into(),
                port: listener.local_addr().unwrap().port(),
                protocol: Protocol::Http,
                login: login.then(|| ("alice".into(), password)),
            };
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_head(&mut stream).await.unwrap();
                stream.write_all(answer).await.unwrap();
                String::from_utf8(request).unwrap()
            };
            let connect = async {
                let mut rest = Vec::new();
                let mut stream = proxy.connect(host, 5671).await?;
                stream.read_to_end(&mut rest).await?;
                Ok(rest)
            };
            tokio::join!(serve, connect)
        })
    }
}
