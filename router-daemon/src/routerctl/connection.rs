//! From the options to a connection with one session.

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use fe2o3_amqp::connection::{Connection, ConnectionHandle, OpenError};
use fe2o3_amqp::session::{Session, SessionHandle};
use fe2o3_amqp::transport;
use fe2o3_amqp::types::sasl::SaslCode;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::ended::{Ended, describe};
use crate::failure::{Failure, Outcome};
use crate::files::first_line;
use crate::sasl::{Greeted, Mechanism, User};
use crate::tls::{self, TlsOptions};

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionOptions {
    /// The router to connect to: HOST, HOST:PORT, amqp://HOST:PORT or, by TLS, amqps://HOST:PORT
    #[arg(
        short,
        long,
        value_name = "URL",
        default_value = "127.0.0.1:5672",
        global = true
    )]
    pub(crate) bus: Bus,

    #[command(flatten)]
    pub(crate) tls: TlsOptions,

    /// Authenticate as this user (SASL SCRAM or PLAIN)
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) sasl_username: Option<String>,

    /// A file whose first line is the password of that user; `-` is standard input
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) sasl_password_file: Option<PathBuf>,

    /// Authenticate by one of these only, such as SCRAM-SHA-512,SCRAM-SHA-256
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = str::parse::<Mechanism>,
        global = true
    )]
    pub(crate) sasl_mechanisms: Vec<Mechanism>,

    /// Seconds to wait for the connection, and for each answer or message
    #[arg(
        short,
        long,
        value_name = "SECONDS",
        default_value = "5",
        global = true
    )]
    #[arg(value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) timeout: Duration,
}

/// Where a router listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bus {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

/// An open connection and its session.
pub(crate) struct Connected {
    connection: ConnectionHandle<()>,
    pub(crate) session: SessionHandle<()>,
}

/// What we are known by, out of the files that the options name.
pub(crate) struct Credentials {
    user: Option<User>,
    tls: Option<TlsConnector>,
}

impl ConnectionOptions {
    /// Reads the files that have passwords, keys and certificates. To be done before anything else
    /// is read of standard input.
    pub(crate) fn credentials(&self) -> Outcome<Credentials> {
        let user = self.user()?;
        let tls = match self.uses_tls() {
            true => Some(self.tls.connector()?),
            false => None,
        };
        Ok(Credentials { user, tls })
    }

    /// Connects, authenticates and begins a session, all within the timeout.
    pub(crate) async fn connect(&self, credentials: Credentials) -> Outcome<Connected> {
        match timeout(self.timeout, self.open(credentials)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::TimedOut(format!(
                "no answer from {} within {} s; is an AMQP router listening there? \
                 (-b names another one, --timeout waits longer)",
                self.place(),
                self.timeout.as_secs_f64()
            ))),
        }
    }

    async fn open(&self, credentials: Credentials) -> Outcome<Connected> {
        let bus = &self.place();
        let Credentials { user, tls } = credentials;
        let candidates = self.candidates(user.is_some())?;
        let addresses = lookup_host((bus.host.as_str(), bus.port)).await;
        let addresses: Vec<_> = addresses
            .map_err(|error| {
                let host = &bus.host;
                Failure::Connection(format!(
                    "cannot find the host '{host}': {error} (-b names another one)"
                ))
            })?
            .collect();
        let stream = TcpStream::connect(&*addresses).await;
        let stream = stream.map_err(|error| {
            Failure::Connection(format!(
                "cannot connect to {bus}: {error}; is the router running? (-b names another one)"
            ))
        })?;
        // Requests are small and awaited; nothing is lost where the system refuses.
        let _ = stream.set_nodelay(true);
        let mut connection = match (tls, candidates.as_slice()) {
            (Some(connector), [external @ Mechanism::External, ..]) => {
                let builder = Connection::builder()
                    .container_id(container_id())
                    .hostname(bus.host.as_str())
                    .idle_time_out(IDLE_TIME_OUT)
                    .sasl_profile(external.profile(None))
                    .scheme("amqps")
                    .domain(bus.host.as_str())
                    .alt_tls_establishment(true)
                    .rustls_connector(connector);
                let opened = builder.open_with_stream(stream).await;
                opened.map_err(|error| self.explain(&error))?
            }
            (Some(connector), _) => {
                let name = ServerName::try_from(bus.host.clone());
                let name = name.map_err(|_| self.explain(&OpenError::InvalidDomain))?;
                let stream = connector.connect(name, stream).await;
                let stream = stream.map_err(|error| self.explain(&error.into()))?;
                self.open_on(stream, &candidates, user.as_ref()).await?
            }
            (None, _) => self.open_on(stream, &candidates, user.as_ref()).await?,
        };
        match Session::begin(&mut connection).await {
            Ok(session) => Ok(Connected {
                connection,
                session,
            }),
            Err(error) => Err(match Ended::from(error) {
                Ended::Broken => broken(&mut connection).await,
                ended => ended.failure(),
            }),
        }
    }

    /// Where we connect to, and how we really do.
    fn place(&self) -> Bus {
        Bus {
            tls: self.uses_tls(),
            ..self.bus.clone()
        }
    }

    fn uses_tls(&self) -> bool {
        self.bus.tls || self.tls.any()
    }

    /// Opens a connection with the first of the candidates that the router offers.
    async fn open_on<S>(
        &self,
        stream: S,
        candidates: &[Mechanism],
        user: Option<&User>,
    ) -> Outcome<ConnectionHandle<()>>
    where
        S: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static,
    {
        let greeted = Greeted::new(stream).await;
        let (stream, offered) = greeted.map_err(|error| self.explain(&error.into()))?;
        let among = |offered: &[String], one: &Mechanism| offered.iter().any(|o| o == one.name());
        let chosen = match &offered {
            Some(offered) => candidates.iter().find(|one| among(offered, one)),
            None => candidates.first(),
        };
        let Some(chosen) = chosen else {
            let ours: Vec<_> = candidates.iter().map(|one| one.name()).collect();
            return Err(Failure::Connection(format!(
                "{} does not offer {} but {}: give other --sasl-… or --ssl-… options",
                self.place(),
                ours.join(", "),
                offered.unwrap_or_default().join(", "),
            )));
        };
        let builder = Connection::builder()
            .container_id(container_id())
            .hostname(self.bus.host.as_str())
            .idle_time_out(IDLE_TIME_OUT)
            .sasl_profile(chosen.profile(user))
            .scheme("amqp");
        let opened = builder.open_with_stream(stream).await;
        opened.map_err(|error| self.explain(&error))
    }

    fn user(&self) -> Outcome<Option<User>> {
        match (&self.sasl_username, &self.sasl_password_file) {
            (Some(name), Some(file)) => Ok(Some(User {
                name: name.clone(),
                password: first_line(file)?,
            })),
            (None, None) => Ok(None),
            _ => {
                let text = "--sasl-username and --sasl-password-file belong together: give both";
                Err(Failure::Usage(text.into()))
            }
        }
    }

    fn candidates(&self, user: bool) -> Outcome<Vec<Mechanism>> {
        let certificate = self.tls.ssl_certificate.is_some();
        let candidates = Mechanism::candidates(&self.sasl_mechanisms, user, certificate);
        match candidates.is_empty() {
            false => Ok(candidates),
            true => Err(Failure::Usage(
                "no mechanism of --sasl-mechanisms has what it needs: SCRAM and PLAIN \
                 --sasl-username and --sasl-password-file, EXTERNAL --ssl-certificate and --ssl-key"
                    .into(),
            )),
        }
    }

    fn explain(&self, error: &OpenError) -> Failure {
        let bus = &self.place();
        Failure::Connection(match error {
            OpenError::SaslError { code, .. } if *code != SaslCode::Auth => format!(
                "{bus} cannot tell whether to let us in (SASL outcome {}): its log may say why",
                code.clone() as u8
            ),
            OpenError::SaslError { .. } => match &self.sasl_username {
                Some(user) => format!(
                    "{bus} does not let '{user}' in: check the name, and the password in the \
                     file of --sasl-password-file"
                ),
                None => format!(
                    "{bus} does not let us in without authentication: give --sasl-username and \
                     --sasl-password-file, or --ssl-certificate and --ssl-key"
                ),
            },
            OpenError::NotImplemented(_) => format!(
                "{bus} does not offer SASL EXTERNAL: give other --sasl-… or --ssl-… options"
            ),
            OpenError::ScramError(error) => format!(
                "{bus} does not know the password itself, or its answer makes no sense: {error}"
            ),
            OpenError::RemoteClosedWithError(error) => {
                format!("{bus} closed the connection: {}", describe(error))
            }
            OpenError::ProtocolHeaderMismatch(_) => format!(
                "{bus} does not speak AMQP as we do: its port may be for TLS (amqps://…), for \
                 HTTP, or want authentication"
            ),
            OpenError::Io(error) => self.explain_io(error),
            OpenError::RemoteClosed => self.cut_off(),
            OpenError::TransportError(transport::Error::Io(error)) => self.explain_io(error),
            OpenError::DecodeError(what)
            | OpenError::TransportError(transport::Error::DecodeError(what)) => {
                format!("{bus} does not speak AMQP as we do: it sent what cannot be read ({what})")
            }
            // Their texts are fit to be read.
            other => format!("cannot open a connection to {bus}: {other}"),
        })
    }

    fn explain_io(&self, error: &io::Error) -> String {
        let bus = &self.place();
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        match tls {
            Some(rustls::Error::InvalidCertificate(error)) => format!(
                "the certificate of {bus} is not trusted: {}",
                tls::distrust(error, &bus.host)
            ),
            Some(rustls::Error::AlertReceived(alert)) => {
                let alert = tls::alert(*alert);
                let hint = match self.tls.ssl_certificate {
                    Some(_) => "it may not trust the certificate of --ssl-certificate",
                    None => "it may want --ssl-certificate and --ssl-key",
                };
                format!("{bus} refused the TLS handshake ({alert}): {hint}")
            }
            Some(rustls::Error::InvalidMessage(_)) => format!(
                "TLS with {bus} failed: it answers with what is no TLS; the port may be one for \
                 amqp://, without --ssl-… options"
            ),
            Some(rustls::Error::PeerIncompatible(_)) => {
                format!("TLS with {bus} failed: it has no version or cipher of TLS that we have")
            }
            Some(error) => format!("TLS with {bus} failed: {error}"),
            None if error.kind() == io::ErrorKind::UnexpectedEof => self.cut_off(),
            None => format!("cannot open a connection to {bus}: {error}"),
        }
    }

    fn cut_off(&self) -> String {
        let hint = match self.uses_tls() {
            true => "the port may not speak TLS, or it wants a certificate (--ssl-certificate)",
            false => "the port may want TLS (amqps://…) or not speak AMQP",
        };
        format!("{} hung up: {hint}", self.place())
    }
}

impl Connected {
    /// Closes the connection, and gives back what a command came to. Whether the peer answers
    /// matters no more.
    pub(crate) async fn close(self, outcome: Outcome) -> Outcome {
        match outcome {
            Ok(()) => {
                self.say_farewell().await;
                Ok(())
            }
            Err(failure) => Err(self.close_after(failure).await),
        }
    }

    /// Closes it after a failure, which learns why the connection broke if that was it.
    pub(crate) async fn close_after(mut self, failure: Failure) -> Failure {
        match failure {
            Failure::Broken => broken(&mut self.connection).await,
            failure => {
                self.say_farewell().await;
                failure
            }
        }
    }

    /// The session ends with the connection. Some skrouterds crash where a detach and the end of
    /// the session come in one go.
    async fn say_farewell(mut self) {
        let _ = timeout(FAREWELL, self.connection.close()).await;
    }
}

impl FromStr for Bus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tls, rest) = match text.split_once("://") {
            None => (false, text),
            Some(("amqp", rest)) => (false, rest),
            Some(("amqps", rest)) => (true, rest),
            Some((scheme, _)) => {
                return Err(format!("'{scheme}' is not a scheme: use amqp or amqps"));
            }
        };
        let rest = rest.trim_end_matches('/');
        if rest.contains('@') {
            return Err(
                "names and passwords do not belong here: use --sasl-username and \
                        --sasl-password-file"
                    .into(),
            );
        }
        if let Some((_, path)) = rest.split_once('/') {
            return Err(format!(
                "'/{path}' does not belong here: a router is HOST or HOST:PORT"
            ));
        }
        let (host, port) = host_and_port(rest)?;
        let port = match port {
            None if tls => 5671,
            None => 5672,
            Some("amqp") => 5672,
            Some("amqps") => 5671,
            Some(port) => port
                .parse()
                .map_err(|_| format!("'{port}' is not a port: 1 to 65535"))?,
        };
        if host.is_empty() {
            return Err("there is no host".into());
        }
        let host = host.to_owned();
        Ok(Self { host, port, tls })
    }
}

impl std::fmt::Display for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// Why a connection is no more.
async fn broken(connection: &mut ConnectionHandle<()>) -> Failure {
    match timeout(FAREWELL, connection.on_close()).await {
        Ok(Err(error)) => Ended::from(error).failure(),
        Ok(Ok(())) | Err(_) => Failure::Broken,
    }
}

fn container_id() -> String {
    format!("routerctl.{}", std::process::id())
}

/// A number of seconds, with or without a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        _ => Err("not a number of seconds from 0 to a year".into()),
    }
}

/// `host`, `host:port`, `[v6]:port` or a bare IPv6 address.
fn host_and_port(text: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("']' is missing")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(format!("'{rest}' after ']' is not :PORT")),
        };
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

/// A router that is not heard for so many milliseconds is gone.
const IDLE_TIME_OUT: u32 = 30_000;
const FAREWELL: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_is_written_in_many_ways() {
        for (text, host, port, tls) in [
            ("router", "router", 5672, false),
            ("router:7", "router", 7, false),
            ("amqp://router", "router", 5672, false),
            ("amqps://router/", "router", 5671, true),
            ("amqps://router:1234", "router", 1234, true),
            ("router:amqps", "router", 5671, false),
            ("[::1]:8", "::1", 8, false),
            ("::1", "::1", 5672, false),
        ] {
            let host = host.to_owned();
            assert_eq!(text.parse(), Ok(Bus { host, port, tls }), "{text}");
        }
    }

    #[test]
    fn a_bus_that_makes_no_sense_is_refused() {
        for (text, hint) in [
            ("http://router", "use amqp or amqps"),
            ("amqp://me:secret@router", "--sasl-password-file"),
            ("router:70000", "not a port"),
            (
                "amqp://router:5672/orders",
                "'/orders' does not belong here",
            ),
            ("[::1", "']' is missing"),
            (":5672", "no host"),
        ] {
            let error = text.parse::<Bus>().unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn seconds_are_finite_and_not_negative() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["-1", "NaN", "inf", "1e30", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
