//! From entities to what works: certificates read, patterns filed, limits computed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::{info, warn};

use crate::adaptors::amqp::{Annotated, ConnectionSettings};
use crate::adaptors::components::{self, Components};
use crate::codec::{Fields, Symbol, Value};
use crate::control::address::Identity;
use crate::control::auto_links::{AutoLinkRule, Peer};
use crate::control::links::{AddressRule, anonymous_relay};
use crate::control::role::{PRODUCT, Role, trunking};
use crate::control::table::{DEFAULT_LINK_CAPACITY, Direction, Treatment};
use crate::control::trunks::Group;
use crate::control::uplink::inter_edge_capability;
use crate::endpoint::{self, ClientSasl, Opening, SaslPolicy};
use crate::management::config::discriminator;
use crate::management::config::hosts::{Substitute, substitutes};
use crate::management::{Config, Entity, Invalid, closest};
use crate::mesh;
use crate::runtime::connect::ConnectorPlan;
use crate::runtime::files::Files;
use crate::runtime::listen::ListenerTls;
use crate::runtime::listener::{AddressFamily, BindAddress, port_number};
use crate::runtime::log::{Levels, Module, Settings, TimeFormat};
use crate::runtime::policies::{Governance, load_policy_dir};
use crate::runtime::proxy::{Protocol, Proxy};
use crate::runtime::reconnect::Server;
use crate::runtime::router::StartError;
use crate::runtime::sasl::{Authenticator, Logins, SaslSettings, SharedLogins, client_choices};
use crate::runtime::scram::client::Credentials;
use crate::runtime::secret;
use crate::runtime::service::ListenerPlan;
use crate::runtime::tls::live::{Derived, LiveProfile, Profiles, Source};
use crate::runtime::tls::{ClientCertificate, ProfileSettings, TlsProfile};

/// Turns entities into plans, with what they refer to in other entities.
pub(crate) struct Planner<'a> {
    config: &'a Config,
    profiles: Profiles,
    logins: SharedLogins,
}

/// A listener entity that speaks HTTP, made ready to work.
pub(crate) struct HttpPlan {
    pub(crate) name: String,
    pub(crate) bind: BindAddress,
    pub(crate) tls: Option<ListenerTls>,
    pub(crate) healthz: bool,
    pub(crate) metrics: bool,
    pub(crate) files: Option<Arc<Files>>,
    /// What AMQP connections over WebSocket are made with; `None` where `websockets` is off.
    pub(crate) amqp: Option<(ConnectionSettings, Authenticator)>,
}

/// What a listener entity is to become.
pub(crate) enum Listening {
    Amqp(Box<ListenerPlan>),
    Http(Box<HttpPlan>),
}

impl<'a> Planner<'a> {
    pub(crate) fn new(config: &'a Config, profiles: &Profiles, logins: &SharedLogins) -> Self {
        Self {
            config,
            profiles: profiles.clone(),
            logins: logins.clone(),
        }
    }

    /// The users that listeners know, whose file is opened when they are first asked for.
    ///
    /// # Errors
    /// The file that the router entity leads to cannot be read.
    pub(crate) fn users(&self) -> Result<Option<Arc<Logins>>, Invalid> {
        let router = self.config.singleton("router");
        let directory = router.word("saslConfigDir").map(PathBuf::from);
        let name = router.word("saslConfigName").unwrap_or("skrouterd");
        let opened = self.logins.get_or_open(directory.as_deref(), name);
        opened.map_err(|error| wrong(router, format!("the attribute 'saslConfigDir': {error}")))
    }

    pub(crate) fn identity(&self) -> Identity {
        let router = self.config.singleton("router");
        let network = self.config.singleton("network");
        Identity {
            id: router.word("id").unwrap_or_default().to_owned(),
            edge: router.text("mode") == Some("edge"),
            network: network.word("networkId").map(str::to_owned),
            tenant: self.tenant().map(str::to_owned),
        }
    }

    /// `vanId` of the router is what `tenantId` of the network was called once.
    fn tenant(&self) -> Option<&str> {
        let tenant = self.config.singleton("network").word("tenantId");
        tenant.or_else(|| self.config.singleton("router").word("vanId"))
    }

    /// Tells the log of what is odd, but no mistake.
    pub(crate) fn warn_of_what_is_odd(&self) {
        for oddity in self.config.oddities() {
            warn!(target: "ROUTER", "{oddity}");
        }
    }

    /// # Errors
    /// A file that the profile names cannot be used.
    pub(crate) fn listener(&self, entity: &Entity) -> Result<Listening, Invalid> {
        let name = entity.name().to_owned();
        let bind = BindAddress {
            entity: entity.label(),
            host: entity.text("host").unwrap_or_default().to_owned(),
            port: entity.text("port").unwrap_or("amqp").to_owned(),
            family: family(entity),
            backlog: 0,
        };
        let require_encryption = entity.flag("requireEncryption") || entity.flag("requireSsl");
        let authenticator = Authenticator::new(SaslSettings {
            listener: name.clone(),
            mechanisms: entity.word("saslMechanisms").map(str::to_owned),
            authenticate_peer: entity.flag("authenticatePeer"),
            require_encryption,
            can_encrypt: entity.word("sslProfile").is_some(),
            users: self.users()?,
        });
        let root = entity.word("httpRootDir");
        // Files to serve imply HTTP.
        let is_http = entity.flag("http") || root.is_some();
        let tls = match entity.word("sslProfile") {
            None if entity.flag("requireSsl") => {
                return Err(wrong(
                    entity,
                    "the attribute 'requireSsl' needs an 'sslProfile'".into(),
                ));
            }
            None => None,
            Some(profile) => {
                let profile = self.profile(entity, profile)?;
                let listed = entity.word("saslMechanisms").is_some();
                let wanted = ClientCertificate::wanted(
                    entity.flag("authenticatePeer"),
                    authenticator.mechanisms(),
                );
                let proves_http = is_http && entity.flag("authenticatePeer");
                let acceptor = Derived::new(profile, Instant::now(), move |profile| {
                    // Without a list a certificate is welcome where it can be checked; of whoever
                    // speaks HTTP nothing else proves anything.
                    let wanted = match profile.can_check_peers() {
                        true if proves_http => ClientCertificate::Required,
                        false if !listed => ClientCertificate::NotAsked,
                        _ => wanted,
                    };
                    profile.acceptor(wanted, &[])
                });
                let acceptor = acceptor.map_err(|error| wrong(entity, error.to_string()))?;
                Some(ListenerTls {
                    live: Arc::new(acceptor),
                    required: entity.flag("requireSsl"),
                    time_out: handshake_time_out(entity),
                })
            }
        };
        if is_http {
            let root = root.filter(|root| *root != NO_FILES);
            let files = root.map(|root| Files::new(root.as_ref())).transpose();
            let files = files.map_err(|error| {
                let problem = format!(
                    "the attribute 'httpRootDir' ('{}'): {error}",
                    root.unwrap_or_default()
                );
                wrong(entity, problem)
            })?;
            // Requests in clear are answered without SASL, which would see to encryption.
            let tls = tls.map(|tls| ListenerTls {
                required: require_encryption,
                ..tls
            });
            let healthz = entity.flag("healthz");
            let metrics = entity.flag("metrics");
            let settings = self.settings(entity, SaslPolicy::default())?;
            let websockets = entity.flag("websockets");
            if websockets {
                authenticator.warn_if_shut();
            }
            return Ok(Listening::Http(Box::new(HttpPlan {
                amqp: websockets.then_some((settings, authenticator)),
                name,
                bind,
                tls,
                healthz,
                metrics,
                files: files.map(Arc::new),
            })));
        }
        authenticator.warn_if_shut();
        Ok(Listening::Amqp(Box::new(ListenerPlan {
            name,
            bind,
            settings: self.settings(entity, SaslPolicy::default())?,
            tls,
            authenticator,
        })))
    }

    /// # Errors
    /// A file that the profile names cannot be used, or a mechanism lacks what it needs.
    pub(crate) fn connector(&self, entity: &Entity) -> Result<ConnectorPlan, Invalid> {
        let host = entity.word("host").unwrap_or("127.0.0.1").to_owned();
        let tls = match entity.word("sslProfile") {
            None => None,
            Some(profile) => {
                let profile = self.profile(entity, profile)?;
                let verify_hostname = entity.flag("verifyHostname");
                let connector = Derived::new(profile, Instant::now(), move |profile| {
                    profile.connector(verify_hostname, &[])
                });
                let connector = connector.map_err(|error| wrong(entity, error.to_string()))?;
                Some(Arc::new(connector))
            }
        };
        warn_if_bare(entity, "saslPassword", false);
        let password = entity
            .word("saslPassword")
            .map(|text| secret::resolve(text, false))
            .transpose()
            .map_err(|error| wrong(entity, format!("the attribute 'saslPassword': {error}")))?;
        let user = entity.word("saslUsername").zip(password.as_ref());
        let certified = tls.is_some() && self.has_certificate(entity);
        let mechanisms = entity.word("saslMechanisms");
        let choices = client_choices(mechanisms, certified, user);
        if choices.is_empty() {
            let text = "no mechanism of 'saslMechanisms' has what it needs: PLAIN and SCRAM \
                        'saslUsername' and 'saslPassword', EXTERNAL an 'sslProfile' with a \
                        certificate";
            return Err(wrong(entity, text.into()));
        }
        let by_exchange = choices
            .iter()
            .any(|choice| choice.opening == Opening::Exchange);
        let credentials = match user.filter(|_| by_exchange) {
            None => None,
            Some((name, password)) => {
                let credentials = Credentials::new(name, password).ok_or_else(|| {
                    let text = "'saslUsername' or 'saslPassword' is empty, too long or has \
                                characters that SASLprep prohibits";
                    wrong(entity, text.into())
                })?;
                Some(Arc::new(credentials))
            }
        };
        let sasl = Some(ClientSasl {
            choices,
            hostname: Some(host.clone()),
        });
        let mut settings = self.settings(entity, SaslPolicy::Client(sasl))?;
        let routers = settings.role == Role::InterRouter;
        if routers {
            let correlator = discriminator();
            let properties = &mut Arc::make_mut(&mut settings.endpoint).properties;
            properties.insert("qd.group-correlator", correlator.as_str());
            settings.group = Some(Group {
                correlator: correlator.into(),
                ordinal: 0,
            });
        }
        Ok(ConnectorPlan {
            name: entity.name().to_owned(),
            server: Server {
                host,
                port: entity.text("port").unwrap_or("amqp").to_owned(),
            },
            settings: Arc::new(settings),
            data_connections: if routers { self.data_connections() } else { 0 },
            proxy: self.proxy(entity)?,
            family: family(entity),
            tls,
            credentials,
        })
    }

    /// How many connections a connector makes to an interior router for messages that take long:
    /// for every other worker one, unless the router entity says otherwise.
    fn data_connections(&self) -> usize {
        let by_threads = || usize::from(self.config.worker_threads()).div_ceil(2);
        self.chosen_data_connections().unwrap_or_else(by_threads)
    }

    fn chosen_data_connections(&self) -> Option<usize> {
        let count = self.config.singleton("router").word("dataConnectionCount");
        count.and_then(|count| count.parse().ok())
    }

    /// Tells the log how many connections for messages that take long go to each router.
    pub(crate) fn announce_data_connections(&self) {
        let (how, count) = match self.chosen_data_connections() {
            Some(count) => ("set to", count),
            None => ("calculated at", self.data_connections()),
        };
        info!(target: "ROUTER", "Inter-router data connections {how} {count}");
    }

    /// Reads the files of every sslProfile.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub(crate) fn load_profiles(&self) -> Result<(), Invalid> {
        for entity in self.config.of("sslProfile") {
            self.profile(entity, entity.name())?;
        }
        Ok(())
    }

    fn proxy(&self, connector: &Entity) -> Result<Option<Arc<Proxy>>, Invalid> {
        let Some(name) = connector.word("proxyProfile") else {
            return Ok(None);
        };
        match self.config.named("proxyProfile", name) {
            Some(entity) => proxy(entity).map(Arc::new).map(Some),
            None => Err(wrong(
                connector,
                format!("the attribute 'proxyProfile' names '{name}', which is not defined"),
            )),
        }
    }

    fn has_certificate(&self, entity: &Entity) -> bool {
        let name = entity.word("sslProfile").unwrap_or_default();
        self.config
            .named("sslProfile", name)
            .is_some_and(|profile| profile.word("certFile").is_some())
    }

    pub(crate) fn profile(&self, user: &Entity, name: &str) -> Result<Arc<LiveProfile>, Invalid> {
        let Some(entity) = self.config.named("sslProfile", name) else {
            return Err(wrong(
                user,
                format!("the attribute 'sslProfile' names '{name}', which is not defined"),
            ));
        };
        self.profiles
            .get_or_load(name, profile_source(entity), Instant::now())
            .map_err(|error| match user.schema().name {
                "sslProfile" => error,
                _ => wrong(user, error.to_string()),
            })
    }

    /// # Errors
    /// An attribute has no meaning.
    pub(crate) fn settings(
        &self,
        entity: &Entity,
        sasl: SaslPolicy,
    ) -> Result<ConnectionSettings, Invalid> {
        let positive = |attribute: &str| entity.integer(attribute).filter(|n| *n > 0);
        let number = |attribute: &str| positive(attribute).and_then(|n| u32::try_from(n).ok());
        let max_frame_size = number("maxFrameSize").unwrap_or(16_384);
        let normal = entity.text("role") == Some("normal");
        let window_octets = if normal { NORMAL_WINDOW } else { ROUTER_WINDOW };
        let sessions = number("maxSessions")
            .unwrap_or(SESSIONS_MAX)
            .min(SESSIONS_MAX);
        let idle = entity
            .integer("idleTimeoutSeconds")
            .and_then(|n| u64::try_from(n).ok());
        let mut properties = Fields::new();
        properties.insert("product", PRODUCT);
        properties.insert("version", env!("CARGO_PKG_VERSION"));
        for (key, value) in entity.get("openProperties").as_map().unwrap_or_default() {
            if let Some(key) = key.as_str() {
                properties.insert(key, value.clone());
            }
        }
        if let Some(list) = entity.word("failoverUrls") {
            properties.insert("failover-server-list", failover_servers(list));
        }
        let role = Role::of(entity.text("role"));
        let cost = number("cost").unwrap_or(1);
        let streaming = Symbol::from_static("qd.streaming-links");
        let mut capabilities = vec![anonymous_relay(), streaming];
        if role.is_annotated() {
            capabilities.push(trunking());
            if role == Role::InterEdge {
                capabilities.push(inter_edge_capability());
            }
            if cost > 1 {
                properties.insert(
                    "qd.inter-router-cost",
                    i32::try_from(cost).unwrap_or(i32::MAX),
                );
            }
            properties.insert("qd.annotations-version", 2);
        }
        let defaults = endpoint::Config::default();
        let usual_window = (window_octets / max_frame_size).max(2);
        let incoming_window = number("maxSessionFrames").unwrap_or(usual_window);
        let held = |frames: u32| u64::from(frames) * endpoint::held_by_frame(max_frame_size);
        let limits = endpoint::Limits {
            max_held_octets: held(incoming_window).max(SESSIONS_HELD * held(usual_window)),
            max_sessions: match sessions {
                // Nobody asked for so many.
                SESSIONS_MAX => defaults.limits.max_sessions,
                asked => u16::try_from(asked).unwrap_or(u16::MAX),
            },
            ..defaults.limits.clone()
        };
        let endpoint = endpoint::Config {
            container_id: self.identity().id,
            hostname: (entity.schema().name == "connector")
                .then(|| entity.word("host").unwrap_or_default().to_owned()),
            max_frame_size,
            channel_max: u16::try_from(sessions - 1).unwrap_or(32_767),
            idle_time_out: idle.filter(|n| *n > 0).map(Duration::from_secs),
            handshake_time_out: handshake_time_out(entity),
            incoming_window,
            sasl,
            offered_capabilities: capabilities.clone(),
            desired_capabilities: capabilities,
            properties,
            limits,
            ..defaults
        };
        Ok(ConnectionSettings {
            // What policy makes of it is known when there is a connection.
            governed: false,
            policy_vhost: entity.word("policyVhost").map(str::to_owned),
            max_message_size: None,
            group: None,
            messages: message_components(entity)?,
            annotated: annotated(entity),
            name: entity.name().to_owned(),
            role,
            cost,
            link_capacity: number("linkCapacity").unwrap_or(DEFAULT_LINK_CAPACITY),
            endpoint: Arc::new(endpoint),
        })
    }
}

impl Config {
    /// Reads every file that the configuration names and makes everything ready that it needs,
    /// short of listening and connecting.
    ///
    /// # Errors
    /// The first that cannot be used: which entity and attribute, and why.
    pub fn check(&self) -> Result<(), StartError> {
        let complete = self.examine()?;
        Governance::new(&complete)?.warn_of_what_is_odd(self);
        Planner::new(self, &Profiles::default(), &SharedLogins::default()).warn_of_what_is_odd();
        Ok(())
    }

    /// The same, without a word to the log of what is only odd. Gives the configuration with the
    /// vhosts of `policyDir`.
    pub(crate) fn examine(&self) -> Result<Self, StartError> {
        let mut complete = self.clone();
        load_policy_dir(&mut complete)?;
        Governance::new(&complete)?;
        time_format(self.singleton("router"))?;
        for log in self.of("log") {
            log_settings(log)?;
        }
        let planner = Planner::new(self, &Profiles::default(), &SharedLogins::default());
        planner.users()?;
        planner.load_profiles()?;
        for listener in self.of("listener") {
            planner.listener(listener)?;
        }
        for connector in self.of("connector") {
            planner.connector(connector)?;
        }
        for listener in self.of("tcpListener") {
            planner.tcp_listener(listener)?;
        }
        for connector in self.of("tcpConnector") {
            planner.tcp_connector(connector)?;
        }
        Ok(complete)
    }
}

/// How an sslProfile is read, now and whenever its files change.
pub(crate) fn profile_source(entity: &Entity) -> Source {
    let files = [
        "certFile",
        "privateKeyFile",
        "caCertFile",
        "uidNameMappingFile",
    ];
    let password = entity
        .word("password")
        .and_then(|text| text.strip_prefix("file:"));
    let ordinal = entity.integer("ordinal").unwrap_or(0);
    Source {
        files: files
            .into_iter()
            .filter_map(|attribute| entity.word(attribute))
            .chain(password)
            .map(PathBuf::from)
            .collect(),
        ordinal: u64::try_from(ordinal).unwrap_or(0),
        load: {
            let entity = entity.clone();
            Arc::new(move || load_profile(&entity))
        },
    }
}

/// Reads the files of an sslProfile.
pub(crate) fn load_profile(entity: &Entity) -> Result<TlsProfile, Invalid> {
    let path = |attribute: &str| entity.word(attribute).map(PathBuf::from);
    let text = |attribute: &str| entity.word(attribute).map(str::to_owned);
    warn_if_bare(entity, "password", true);
    let password = entity
        .word("password")
        .map(|text| secret::resolve(text, true))
        .transpose()
        .map_err(|error| wrong(entity, format!("the attribute 'password': {error}")))?;
    TlsProfile::load(&ProfileSettings {
        name: entity.name().to_owned(),
        cert_file: path("certFile"),
        private_key_file: path("privateKeyFile"),
        password,
        ca_cert_file: path("caCertFile"),
        protocols: text("protocols"),
        ciphers: text("ciphers"),
        uid_format: text("uidFormat"),
        uid_name_mapping_file: path("uidNameMappingFile"),
    })
    .map_err(|error| wrong(entity, error.problem()))
}

/// A password that everyone who reads the configuration can read deserves a word.
fn warn_if_bare(entity: &Entity, attribute: &str, literal_allowed: bool) {
    if let Some(text) = entity.word(attribute)
        && secret::is_bare(text, literal_allowed)
    {
        warn!(
            target: "SERVER",
            "{}: the attribute '{attribute}' is a password in clear; use 'env:NAME', 'file:PATH' \
             or, if it must be, 'pass:TEXT'",
            entity.label(),
        );
    }
}

/// What a proxyProfile says.
///
/// # Errors
/// Where the proxy is does not stand in it, or its password cannot be had.
pub(crate) fn proxy(entity: &Entity) -> Result<Proxy, Invalid> {
    let required = |attribute: &str| {
        let problem = format!("the attribute '{attribute}' is required where a connector uses it");
        entity.word(attribute).ok_or_else(|| wrong(entity, problem))
    };
    let port = required("port")?;
    let port = port_number(port)
        .map_err(|error| wrong(entity, format!("the attribute 'port': {error}")))?;
    warn_if_bare(entity, "password", true);
    let password = entity.word("password").unwrap_or("pass:");
    let password = secret::resolve(password, true)
        .map_err(|error| wrong(entity, format!("the attribute 'password': {error}")))?;
    Ok(Proxy {
        name: entity.name().to_owned(),
        host: required("host")?.to_owned(),
        port,
        protocol: match entity.text("protocol") {
            Some("socks5") => Protocol::Socks5,
            _ => Protocol::Http,
        },
        login: entity
            .word("username")
            .map(|user| (user.to_owned(), password)),
    })
}

/// How a `log` entity has its module log.
pub(crate) fn log_settings(entity: &Entity) -> Result<(Module, Settings), Invalid> {
    let module = entity.word("module").and_then(Module::from_name);
    let module = module.ok_or_else(|| wrong(entity, "the attribute 'module' is unknown".into()))?;
    // An empty list is one: it lets nothing through.
    let levels = match entity.text("enable") {
        None | Some("default") => None,
        Some(levels) => Some(levels.parse::<Levels>().map_err(|error| {
            wrong(
                entity,
                format!("the attribute 'enable': {error}, or 'default'"),
            )
        })?),
    };
    let settings = Settings {
        enable: levels,
        include_timestamp: entity.get("includeTimestamp").as_bool(),
        include_source: entity.get("includeSource").as_bool(),
        output_file: entity.text("outputFile").map(str::to_owned),
    };
    Ok((module, settings))
}

/// How the log shows the time.
pub(crate) fn time_format(router: &Entity) -> Result<TimeFormat, Invalid> {
    let format = router.word("timestampFormat");
    TimeFormat::new(format, router.flag("timestampsInUTC"))
        .map_err(|error| wrong(router, error.to_string()))
}

/// The rule that an address entity makes.
pub(crate) fn address_rule(entity: &Entity) -> AddressRule {
    AddressRule {
        treatment: treatment(entity.text("distribution")),
        priority: entity
            .integer("priority")
            .and_then(|n| u8::try_from(n).ok()),
    }
}

/// How the routing protocol is to go, if the router is part of a network.
pub(crate) fn mesh_settings(config: &Config) -> Option<mesh::Settings> {
    let router = config.singleton("router");
    if router.text("mode") != Some("interior") {
        return None;
    }
    let started = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = |attribute: &str, usual: u64| {
        let given = router
            .integer(attribute)
            .and_then(|n| u64::try_from(n).ok());
        Duration::from_secs(given.unwrap_or(usual).max(1))
    };
    Some(mesh::Settings {
        id: router.word("id").unwrap_or_default().to_owned(),
        // skrouterd counts seconds; but a supervisor may start a router twice in one.
        instance: started.map_or(0, |started| started.as_millis() as i64),
        hello_interval: seconds("helloIntervalSeconds", 1),
        hello_max_age: seconds("helloMaxAgeSeconds", 3),
        ra_interval: seconds("raIntervalSeconds", 30),
        ra_interval_flux: seconds("raIntervalFluxSeconds", 4),
        remote_ls_max_age: seconds("remoteLsMaxAgeSeconds", 60),
        unreachable_holdoff: seconds("unreachableHoldoffSeconds", 1),
        max_routers: MAX_ROUTERS,
    })
}

pub(crate) fn treatment(word: Option<&str>) -> Treatment {
    match word {
        Some("multicast") => Treatment::Multicast,
        Some("closest") => Treatment::Closest,
        Some("unavailable") => Treatment::Unavailable,
        _ => Treatment::Balanced,
    }
}

/// What an `autoLink` entity asks for.
pub(crate) fn auto_link(entity: &Entity) -> AutoLinkRule {
    let word = |attribute| entity.word(attribute).map(str::to_owned);
    let connection = word("connection").map(Peer::Connection);
    let container = || word("containerId").map(Peer::Container);
    AutoLinkRule {
        name: entity.name().to_owned(),
        direction: match entity.text("direction") {
            Some("out") => Direction::Outgoing,
            _ => Direction::Incoming,
        },
        address: word("address"),
        external: word("externalAddress"),
        peer: connection.or_else(container).unwrap_or(Peer::Nobody),
    }
}

/// In which directions messages keep what routers tell each other.
fn annotated(entity: &Entity) -> Annotated {
    let stripped = entity.text("stripAnnotations");
    Annotated {
        incoming: matches!(stripped, Some("out" | "no")),
        outgoing: matches!(stripped, Some("in" | "no")),
    }
}

/// What the log is to show of the messages of connections.
fn message_components(entity: &Entity) -> Result<Components, Invalid> {
    let text = entity.word("messageLoggingComponents").unwrap_or("none");
    Components::parse(text).map_err(|unknown| {
        let hint = match closest(unknown, components::NAMES.into_iter()) {
            Some(close) => format!("; did you mean '{close}'?"),
            None => String::new(),
        };
        let known = components::NAMES.join(", ");
        let problem = format!(
            "the attribute 'messageLoggingComponents' is '{text}', but must be all, none, or some \
             of {known}, with commas between them: '{unknown}' is none of them{hint}"
        );
        wrong(entity, problem)
    })
}

/// How long a peer may take until it has opened its connection.
fn handshake_time_out(entity: &Entity) -> Duration {
    let seconds = entity.integer("initialHandshakeTimeoutSeconds");
    let seconds = seconds.and_then(|n| u64::try_from(n).ok());
    match seconds.filter(|seconds| *seconds > 0) {
        Some(seconds) => Duration::from_secs(seconds),
        None => endpoint::Config::default().handshake_time_out,
    }
}

fn family(entity: &Entity) -> Option<AddressFamily> {
    match entity.text("socketAddressFamily") {
        Some("IPv4") => Some(AddressFamily::V4),
        Some("IPv6") => Some(AddressFamily::V6),
        _ => None,
    }
}

/// `amqp://host:port, …` as a connection's property
/// (`reference/router/inter-router-protocol.md` §1).
fn failover_servers(list: &str) -> Value {
    let server = |Substitute { scheme, host, port }: Substitute<'_>| {
        let port = port.unwrap_or("5672");
        let pair = |key: &str, value: &str| (Value::from(Symbol::from(key)), Value::from(value));
        let mut map = vec![pair("network-host", host), pair("port", port)];
        if scheme != "amqp" {
            map.push(pair("scheme", scheme));
        }
        Value::Map(map)
    };
    Value::List(substitutes(list).map(server).collect())
}

pub(crate) fn wrong(entity: &Entity, problem: String) -> Invalid {
    Invalid {
        entity: entity.label(),
        problem,
    }
}

/// The `httpRootDir` of who wants none: Skupper has it in the configuration of every site.
const NO_FILES: &str = "disabled";
/// The windows of so many sessions are what all sessions of a connection may fill.
const SESSIONS_HELD: u64 = 8;
/// Octets that a session of a client may have on their way through the router.
const NORMAL_WINDOW: u32 = 8 * 1024 * 1024;
/// The same between routers.
const ROUTER_WINDOW: u32 = 128 * 1024 * 1024;
/// What channel numbers have room for in skrouterd, and so what `maxSessions` may be.
const SESSIONS_MAX: u32 = 32_768;
/// Other routers that one router knows at most.
const MAX_ROUTERS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::from_text("router.conf", text).unwrap()
    }

    fn planner(config: &Config) -> Planner<'_> {
        Planner::new(config, &Profiles::default(), &SharedLogins::default())
    }

    #[test]
    fn a_tenant_has_a_former_name() {
        let tenant = |former: &str, name: &str| {
            let text = format!("router {{\n{former}}}\nnetwork {{\n{name}}}\n");
            planner(&config(&text)).identity().tenant
        };
        assert_eq!(tenant("", ""), None);
        assert_eq!(tenant(" vanId: blue\n", "").as_deref(), Some("blue"));
        let beside = tenant(" vanId: blue\n", " tenantId: red\n");
        assert_eq!(beside.as_deref(), Some("red"));
    }

    #[test]
    fn listeners_share_the_users_whenever_they_come() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("skrouterd.users");
        let path = directory.path().display();
        let config = config(&format!("router {{\n saslConfigDir: {path}\n}}\n"));
        let logins = SharedLogins::default();
        let users = || Planner::new(&config, &Profiles::default(), &logins).users();
        assert!(users().unwrap().is_none(), "there is no file yet");
        std::fs::write(&file, "nonsense\n").unwrap();
        assert!(users().is_err());
        std::fs::write(&file, "# amqp-router users 1\n").unwrap();
        let first = users().unwrap().expect("a file");
        std::fs::write(&file, "nonsense\n").unwrap();
        let later = users().unwrap().expect("it is open");
        assert!(Arc::ptr_eq(&first, &later));
    }

    #[test]
    fn a_log_follows_the_default_or_is_silent() {
        let settings = |enable: &str| {
            let config = config(&format!("log {{\n module: SERVER\n{enable}}}\n"));
            let entity = config.of("log").next().unwrap();
            log_settings(entity).unwrap().1.enable
        };
        assert_eq!(settings(""), None);
        assert_eq!(settings(" enable: default\n"), None);
        assert_eq!(settings(" enable: \n"), Some("none".parse().unwrap()));
        assert_eq!(
            settings(" enable: error+\n"),
            Some("error+".parse().unwrap())
        );
    }

    #[test]
    fn components_of_messages_are_known_ones() {
        for entity in ["listener", "connector"] {
            let check = |components: &str| {
                let attribute = format!(" messageLoggingComponents: {components}");
                config(&format!(
                    "{entity} {{\n name: x\n port: 1\n{attribute}\n}}\n"
                ))
                .check()
            };
            check("to, message-id").unwrap();
            let error = check("to,mesage-id").unwrap_err().to_string();
            let parts = [
                &format!("{entity} 'x'"),
                "'messageLoggingComponents' is 'to,mesage-id'",
                "'mesage-id' is none of them; did you mean 'message-id'?",
            ];
            for part in parts {
                assert!(error.contains(part), "{part} in {error}");
            }
        }
    }

    #[test]
    fn annotations_stay_where_they_are_not_stripped() {
        let annotated = |attribute: &str| {
            let config = config(&format!("listener {{\n port: 1\n{attribute}}}\n"));
            let listener = config.of("listener").next().unwrap();
            let settings = planner(&config).settings(listener, SaslPolicy::default());
            let annotated = settings.unwrap().annotated;
            (annotated.incoming, annotated.outgoing)
        };
        assert_eq!(annotated(""), (false, false));
        for (stripped, expected) in [
            ("both", (false, false)),
            ("in", (false, true)),
            ("out", (true, false)),
            ("no", (true, true)),
        ] {
            let attribute = format!(" stripAnnotations: {stripped}\n");
            assert_eq!(annotated(&attribute), expected, "{stripped}");
        }
    }

    #[test]
    fn sessions_are_as_many_as_a_listener_says() {
        let limits = |attribute: &str| {
            let config = config(&format!("listener {{\n name: l\n port: 0\n{attribute}}}\n"));
            let planner = planner(&config);
            let listener = config.of("listener").next().unwrap();
            let endpoint = planner.settings(listener, SaslPolicy::default());
            let endpoint = endpoint.unwrap().endpoint;
            (endpoint.channel_max, endpoint.limits.max_sessions)
        };
        assert_eq!(limits(""), (32_767, 1024));
        assert_eq!(limits(" maxSessions: 0\n"), (32_767, 1024));
        assert_eq!(limits(" maxSessions: 5\n"), (4, 5));
        assert_eq!(limits(" maxSessions: 1000\n"), (999, 1000));
    }
}
