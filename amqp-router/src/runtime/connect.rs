//! Connectors at work: connect, secure, hand over, and start again when the connection is lost.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, info, warn};

use crate::adaptors::amqp::ConnectionSettings;
use crate::codec::{Fields, Value};
use crate::management::config::hosts::unfit;
use crate::runtime::listen::Placement;
use crate::runtime::listener::{AddressFamily, port_number};
use crate::runtime::proxy::Proxy;
use crate::runtime::reconnect::{Reconnect, Server, Status};
use crate::runtime::scram::client::Credentials;
use crate::runtime::stream::Stream;
use crate::runtime::tls::live::LiveConnector;
use crate::runtime::tls::{TlsInfo, explained};
use crate::runtime::workers::Workers;

/// A connector entity made ready to work.
pub(crate) struct ConnectorPlan {
    pub(crate) name: String,
    pub(crate) server: Server,
    pub(crate) settings: Arc<ConnectionSettings>,
    pub(crate) tls: Option<Arc<LiveConnector>>,
    pub(crate) proxy: Option<Arc<Proxy>>,
    /// `socketAddressFamily`; absent: either. A proxy finds the server's address by itself.
    pub(crate) family: Option<AddressFamily>,
    /// For SCRAM.
    pub(crate) credentials: Option<Arc<Credentials>>,
    /// How many connections it makes besides, for messages that take long.
    pub(crate) data_connections: usize,
}

/// A connection that a connector has made.
pub(crate) struct Connected {
    pub(crate) worker: usize,
    pub(crate) stream: Stream,
    /// `host:port` as configured.
    pub(crate) host: String,
    pub(crate) tls: Option<TlsInfo>,
    pub(crate) settings: Arc<ConnectionSettings>,
    pub(crate) state: Arc<ConnectorState>,
    pub(crate) credentials: Option<Arc<Credentials>>,
}

/// How a connector is doing: shared by its task, which connects, and the control plane, which
/// learns how connections fare.
#[derive(Debug)]
pub(crate) struct ConnectorState {
    name: String,
    for_routers: bool,
    /// 0 for the connection by which the peers speak; others are for messages that take long.
    number: usize,
    reconnect: Mutex<Reconnect>,
    proxy: Mutex<Option<Arc<Proxy>>>,
    changed: Notify,
    /// The connections for messages that take long, of one by which the peers speak: they are made
    /// while it is open.
    followers: Vec<Arc<Self>>,
}

impl ConnectorState {
    /// The state of the connection by which the peers speak, and those of the others that the
    /// connector makes.
    pub(crate) fn group(plan: &ConnectorPlan, proxy: Option<&Arc<Proxy>>) -> Vec<Arc<Self>> {
        let followers = 1..=plan.data_connections;
        let followers: Vec<_> = followers
            .map(|number| Arc::new(Self::new(plan, proxy, number)))
            .collect();
        let leader = Self {
            followers: followers.clone(),
            ..Self::new(plan, proxy, 0)
        };
        [Arc::new(leader)].into_iter().chain(followers).collect()
    }

    fn new(plan: &ConnectorPlan, proxy: Option<&Arc<Proxy>>, number: usize) -> Self {
        let server = plan.server.clone();
        let mut reconnect = Reconnect::new(server, rand::random(), Instant::now());
        if number > 0 {
            reconnect.hold();
        }
        Self {
            name: plan.name.clone(),
            for_routers: plan.settings.role.is_neighbour(),
            number,
            reconnect: Mutex::new(reconnect),
            proxy: Mutex::new(proxy.cloned()),
            changed: Notify::new(),
            followers: Vec::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is for messages that take long.
    pub(crate) fn is_data(&self) -> bool {
        self.number > 0
    }

    /// Has it connect no more, once the connection is lost that there is. True if there is none.
    pub(crate) fn retire(&self) -> bool {
        self.with(Reconnect::retire)
    }

    /// Whether there is no connection, and will be none.
    pub(crate) fn is_over(&self) -> bool {
        self.with(|reconnect| reconnect.is_over())
    }

    /// Whether it is to be a connection of the network.
    pub(crate) fn is_for_routers(&self) -> bool {
        self.for_routers
    }

    /// The connection is open, and its peer has these properties; `message` says more of it.
    pub(crate) fn opened(&self, message: String, properties: &Fields) {
        let failover = failover_list(properties);
        let now = Instant::now();
        self.with(|reconnect| reconnect.opened(message, failover, now));
        for follower in &self.followers {
            follower.with(|reconnect| reconnect.follow(now));
            follower.changed.notify_one();
        }
    }

    /// The connection is lost, or the attempt has failed.
    pub(crate) fn lost(&self, reason: &str) {
        let (is_news, reason) = self.with(|reconnect| {
            let is_news = reconnect.lost(reason, Instant::now());
            (is_news, reconnect.message().to_owned())
        });
        for follower in &self.followers {
            follower.with(Reconnect::hold);
        }
        if is_news && self.is_data() {
            debug!(target: "SERVER", "Connector '{}', data connection {}: {reason}", self.name, self.number);
        } else if is_news {
            warn!(target: "SERVER", "Connector '{}': {reason}", self.name);
        }
        self.changed.notify_one();
    }

    pub(crate) fn status(&self) -> Status {
        self.with(|reconnect| reconnect.status())
    }

    /// Why the last attempts have failed, if they have.
    pub(crate) fn failure(&self) -> Option<String> {
        self.with(|reconnect| {
            let failed = reconnect.has_failed();
            failed.then(|| reconnect.message().to_owned())
        })
    }

    pub(crate) fn message(&self) -> String {
        self.with(|reconnect| reconnect.message().to_owned())
    }

    pub(crate) fn failover_urls(&self) -> String {
        self.with(|reconnect| reconnect.failover_urls())
    }

    /// Has the next attempts use another proxy, if it has the name of the one in use.
    pub(crate) fn update_proxy(&self, updated: &Arc<Proxy>) {
        let mut proxy = self.proxy.lock().unwrap_or_else(PoisonError::into_inner);
        if proxy
            .as_ref()
            .is_some_and(|proxy| proxy.name == updated.name)
        {
            *proxy = Some(Arc::clone(updated));
        }
    }

    fn proxy(&self) -> Option<Arc<Proxy>> {
        self.proxy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Reconnect) -> T) -> T {
        act(&mut self
            .reconnect
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }
}

/// Connects whenever an attempt is due, until there is to be none any more.
pub(crate) async fn run_connector(
    plan: Arc<ConnectorPlan>,
    settings: Arc<ConnectionSettings>,
    state: Arc<ConnectorState>,
    workers: Workers,
    connected: UnboundedSender<Connected>,
) {
    while !state.is_over() {
        let now = Instant::now();
        let attempt = state.with(|reconnect| reconnect.poll_attempt(now).cloned());
        let Some(server) = attempt else {
            let due = state.with(|reconnect| reconnect.poll_timeout());
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => state.changed.notified().await,
            }
            continue;
        };
        let (worker, runtime) = match state.number {
            0 => workers.place(),
            // Each on another, so that every worker has one of its own if there are enough.
            number => workers.nth(number),
        };
        let (tls, proxy, family) = (plan.tls.clone(), state.proxy(), plan.family);
        let host = format!("{}:{}", server.host, server.port);
        // The socket belongs to the runtime of the worker that will drive it.
        let dialled = runtime.spawn(async move {
            tokio::time::timeout(
                CONNECT_TIME_OUT,
                dial(&server, tls.as_deref(), proxy.as_deref(), family),
            )
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "timed out")))
        });
        match dialled
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
        {
            Ok((stream, tls)) => {
                match state.number {
                    // The log has been told what becomes of it.
                    0 if state.with(|reconnect| reconnect.has_failed()) => {
                        debug!(target: "SERVER", "Connector '{}' connected to {host} again", plan.name);
                    }
                    0 => info!(target: "SERVER", "Connector '{}' connected to {host}", plan.name),
                    number => {
                        debug!(target: "SERVER", "Connector '{}' connected to {host}, data connection {number}", plan.name);
                    }
                }
                let settings = labelled(&settings, tls.as_ref());
                let new = Connected {
                    worker,
                    stream,
                    host,
                    tls,
                    settings,
                    state: Arc::clone(&state),
                    credentials: plan.credentials.clone(),
                };
                if connected.send(new).is_err() {
                    return;
                }
            }
            Err(error) => state.lost(&error.to_string()),
        }
    }
}

/// What a connection of a group is made with: it says by which of a profile's certificates.
fn labelled(settings: &Arc<ConnectionSettings>, tls: Option<&TlsInfo>) -> Arc<ConnectionSettings> {
    let (Some(_), Some(tls)) = (&settings.group, tls) else {
        return Arc::clone(settings);
    };
    let mut settings = ConnectionSettings::clone(settings);
    if let Some(group) = &mut settings.group {
        group.ordinal = tls.ordinal;
    }
    let endpoint = Arc::make_mut(&mut settings.endpoint);
    endpoint.properties.insert("qd.group-ordinal", tls.ordinal);
    Arc::new(settings)
}

async fn dial(
    server: &Server,
    tls: Option<&LiveConnector>,
    proxy: Option<&Proxy>,
    family: Option<AddressFamily>,
) -> io::Result<(Stream, Option<TlsInfo>)> {
    let port = port_number(&server.port)?;
    let stream = match proxy {
        Some(proxy) => proxy.connect(&server.host, port).await?,
        None => connect(&server.host, port, family).await?,
    };
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok((Stream::Tcp(stream), None));
    };
    let name = ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
    let tls = tls.current(Instant::now());
    let stream = tls.tls.connect(name, stream).await.map_err(explained)?;
    let info = TlsInfo::of(stream.get_ref().1, &tls);
    Ok((Stream::TlsClient(Box::new(stream)), Some(info)))
}

/// Connects to the first address of a host, of those that may be used, that takes it.
async fn connect(host: &str, port: u16, family: Option<AddressFamily>) -> io::Result<TcpStream> {
    let Some(family) = family else {
        return TcpStream::connect((host, port)).await;
    };
    let mut failure = family.missing();
    for address in tokio::net::lookup_host((host, port)).await? {
        if family.has(&address) {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
    }
    Err(failure)
}

/// The servers that a peer names to fail over to
/// (`reference/router/inter-router-protocol.md` §1).
fn failover_list(properties: &Fields) -> Vec<Server> {
    let Some(Value::List(servers)) = properties.get("failover-server-list") else {
        return Vec::new();
    };
    servers
        .iter()
        .filter_map(|server| {
            let host = server.get("network-host")?.as_str()?;
            let bare = host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'));
            let host = bare.unwrap_or(host).to_owned();
            let port = match server.get("port") {
                None => "amqp".to_owned(),
                Some(port) => match port.as_str() {
                    Some(port) => port.to_owned(),
                    None => port.as_u64()?.to_string(),
                },
            };
            let fits = unfit(&host).is_none() && port_number(&port).is_ok();
            let scheme = server.get("scheme").and_then(Value::as_str);
            let scheme = scheme.filter(|scheme| *scheme == "amqps").unwrap_or("amqp");
            let scheme = scheme.to_owned();
            fits.then_some(Server { scheme, host, port })
        })
        .collect()
}

/// How long connecting may take, TLS included.
const CONNECT_TIME_OUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_s_failover_list_is_read_with_and_without_brackets_and_ports() {
        let server = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            Value::Map(pairs.map(|(k, v)| ((*k).into(), (*v).into())).collect())
        };
        let numbered = |port: u32| {
            let pairs = [
                ("network-host".into(), "c.example".into()),
                ("port".into(), Value::Uint(port)),
            ];
            Value::Map(pairs.into())
        };
        let list = vec![
            server(&[("network-host", "a.example"), ("port", "5671")]),
            server(&[
                ("network-host", "[2001:db8::1]"),
                ("port", "amqps"),
                ("scheme", "amqps"),
            ]),
            server(&[("network-host", "2001:db8::2")]),
            server(&[("network-host", "[2001:db8::3")]),
            server(&[("hostname", "nobody")]),
            server(&[("network-host", "no host"), ("port", "5671")]),
            server(&[("network-host", "b.example"), ("port", "99999")]),
            numbered(5673),
            numbered(70_000),
            "nothing".into(),
        ];
        let mut properties = Fields::new();
        assert!(failover_list(&properties).is_empty());
        properties.insert("failover-server-list", Value::List(list));
        let shown: Vec<_> = failover_list(&properties)
            .iter()
            .map(|server| format!("{}://{server}", server.scheme))
            .collect();
        let expected = [
            "amqp://a.example:5671",
            "amqps://[2001:db8::1]:amqps",
            "amqp://[2001:db8::2]:amqp",
            "amqp://c.example:5673",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_server_is_connected_to_by_the_family_that_is_asked_for() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let dial = |family| connect("127.0.0.1", port, family);
            dial(None).await.unwrap();
            dial(Some(AddressFamily::V4)).await.unwrap();
            let error = dial(Some(AddressFamily::V6)).await.unwrap_err();
            assert_eq!(error.to_string(), "has no IPv6 address");
        });
    }
}
