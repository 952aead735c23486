//! Policy at work: asked where peers open connections and attach links, told what becomes of them.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tracing::{debug, info, warn};

use crate::adaptors::amqp::{ConnectionSettings, ConnectionStatus};
use crate::codec::{Error, Role, Value, condition};
use crate::control::guard::NeighbourDenial;
use crate::control::links::AttachRequest;
use crate::control::table::{Direction, LinkRef, WorkerId};
use crate::management::{Config, Entity, Invalid, Schema, read_json};
use crate::policy::{Grant, Opening, Policies, PolicySettings, Vhost};
use crate::runtime::driver::ToWorker;
use crate::runtime::service::{ConnectionRow, Service};
use crate::runtime::sources::SourceLimits;
use crate::runtime::told::Few;
use crate::worker::Denial;

/// Policies, and what has been granted.
#[derive(Debug)]
pub(crate) struct Governance {
    pub(crate) policies: Policies,
    /// `enableVhostPolicy`.
    enabled: bool,
    grants: HashMap<u64, Granted>,
    /// Links that count against a grant, by the number of their connection.
    links: HashMap<LinkRef, u64>,
}

#[derive(Debug)]
struct Granted {
    grant: Arc<Grant>,
    /// Why the connection may not be, which its peer is told once it has opened.
    refusal: Option<String>,
    senders: u32,
    receivers: u32,
    /// The log tells of what was denied.
    told: Few,
}

impl Governance {
    /// # Errors
    /// A vhost cannot stand beside another.
    pub(crate) fn new(config: &Config) -> Result<Self, Invalid> {
        let policy = config.singleton("policy");
        let mut governance = Self {
            policies: Policies::new(settings(policy)),
            enabled: policy.flag("enableVhostPolicy"),
            grants: HashMap::new(),
            links: HashMap::new(),
        };
        for entity in config.of("vhost") {
            governance.file(entity)?;
        }
        Ok(governance)
    }

    /// Tells the log of settings that have no effect, and of vhosts that are named and not there.
    pub(crate) fn warn_of_what_is_odd(&self, config: &Config) {
        self.policies.rules().for_each(warn_of_unknown_settings);
        let entities = config.of("listener").chain(config.of("connector"));
        for missing in entities.filter_map(|entity| self.missing(entity)) {
            warn!(target: "POLICY", "{missing}");
        }
    }

    /// That the vhost a listener or connector names is not there.
    fn missing(&self, entity: &Entity) -> Option<Invalid> {
        let name = entity.word("policyVhost").filter(|_| self.enabled)?;
        if self.policies.find(name).is_some() {
            return None;
        }
        let effect = match self.policies.resolve(name) {
            Some(default) => format!("the rules of the default one, '{default}', hold"),
            None => "its connections are turned away until there is one".into(),
        };
        let name = name.escape_debug();
        let problem = format!("the attribute 'policyVhost' names no vhost: '{name}'; {effect}");
        Some(entity.invalid(problem))
    }

    /// Goes by what the policy entity says now, of connections to come.
    fn follow(&mut self, policy: &Entity) {
        self.enabled = policy.flag("enableVhostPolicy");
        self.policies.follow(settings(policy));
    }

    /// What policy makes of a listener's or connector's settings, for its next connection.
    pub(crate) fn govern(
        &self,
        settings: &Arc<ConnectionSettings>,
        listens: bool,
    ) -> Arc<ConnectionSettings> {
        let is_neighbour = settings.role.is_neighbour();
        let vhost = settings.policy_vhost.clone().filter(|_| self.enabled);
        let size = self.policies.largest_message().filter(|_| !is_neighbour);
        // Neighbours are governed where their listener says by which vhost.
        let governed = self.enabled && listens && (!is_neighbour || vhost.is_some());
        let unchanged = (governed, &vhost, size)
            == (
                settings.governed,
                &settings.policy_vhost,
                settings.max_message_size,
            );
        match unchanged {
            true => Arc::clone(settings),
            false => Arc::new(ConnectionSettings {
                governed,
                policy_vhost: vhost,
                max_message_size: size,
                ..(**settings).clone()
            }),
        }
    }

    /// Files the rules of a vhost entity, and tells the log of what has no effect.
    ///
    /// # Errors
    /// They are wrong by themselves, or beside those of others.
    pub(crate) fn set(&mut self, entity: &Entity) -> Result<(), Invalid> {
        self.file(entity)?;
        let hostname = entity.text("hostname").unwrap_or_default();
        let mut rules = self.policies.rules();
        if let Some(vhost) = rules.find(|vhost| vhost.hostname == hostname) {
            warn_of_unknown_settings(vhost);
        }
        Ok(())
    }

    fn file(&mut self, entity: &Entity) -> Result<(), Invalid> {
        Vhost::read(|name| entity.get(name))
            .and_then(|vhost| self.policies.set(vhost))
            .map_err(|problem| entity.invalid(problem))
    }

    fn grant(&mut self, connection: u64, grant: Arc<Grant>) {
        let granted = Granted {
            grant,
            refusal: None,
            senders: 0,
            receivers: 0,
            told: Few::default(),
        };
        self.grants.insert(connection, granted);
    }

    /// Counts a link that was accepted.
    fn count(&mut self, request: LinkRef, connection: u64) {
        if let Some(granted) = self.grants.get_mut(&connection) {
            *granted.links(request.direction) += 1;
            self.links.insert(request, connection);
        }
    }

    /// A link is gone.
    pub(crate) fn detached(&mut self, link: LinkRef) {
        let connection = self.links.remove(&link);
        if let Some(granted) = connection.and_then(|id| self.grants.get_mut(&id)) {
            *granted.links(link.direction) -= 1;
        }
    }

    /// A connection is over; says so if it was because policy had nothing for it.
    pub(crate) fn closed(&mut self, connection: u64, accepted: bool) -> Option<String> {
        if accepted {
            self.policies.socket_closed();
        }
        let granted = self.grants.remove(&connection)?;
        self.links.retain(|_, of| *of != connection);
        self.policies.closed(connection);
        granted.refusal
    }
}

impl Granted {
    fn links(&mut self, direction: Direction) -> &mut u32 {
        match direction {
            Direction::Incoming => &mut self.senders,
            Direction::Outgoing => &mut self.receivers,
        }
    }
}

fn warn_of_unknown_settings(vhost: &Vhost) {
    for (group, setting) in vhost.unknown_settings() {
        warn!(
            target: "POLICY",
            "vhost '{}': '{}' of group '{}' has no effect: groups have no such attribute",
            vhost.hostname.escape_debug(),
            setting.escape_debug(),
            group.escape_debug(),
        );
    }
}

/// What a policy entity says of all vhosts.
fn settings(policy: &Entity) -> PolicySettings {
    let number = |attribute: &str| {
        let number = policy.integer(attribute).filter(|n| *n >= 0)?;
        u64::try_from(number).ok()
    };
    PolicySettings {
        max_connections: number("maxConnections").unwrap_or(65_535) as usize,
        max_message_size: number("maxMessageSize").filter(|size| *size > 0),
        enable_vhost_name_patterns: policy.flag("enableVhostNamePatterns"),
        default_vhost: policy.text("defaultVhost").unwrap_or_default().to_owned(),
    }
}

impl Service {
    /// Goes by what the policy entity says now. Connections that are open stay as they are, unless
    /// they are revoked.
    pub(crate) fn follow_policy(&mut self, policy: &Entity) {
        self.governance.follow(policy);
        self.limit_sources(policy);
        self.enforce_revocations();
    }

    /// Limits the connections of each source as the policy entity says.
    pub(crate) fn limit_sources(&mut self, policy: &Entity) {
        let most = policy.integer("maxConnectionsPerHost");
        let most = most.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        self.lock_sources().set_limits(SourceLimits {
            all: most,
            ..SourceLimits::default()
        });
    }

    /// Decides on a connection whose peer has opened it.
    pub(crate) fn opening(
        &mut self,
        worker: WorkerId,
        id: u64,
        hostname: Option<String>,
        container: &str,
        user: Option<String>,
    ) {
        let Some(row) = self.connections.get(&id) else {
            return;
        };
        let user = user.unwrap_or_else(|| "anonymous".into());
        let vhost = row.policy_vhost.clone().or(hostname).unwrap_or_default();
        let certificate = row.names();
        let opening = Opening {
            connection: id,
            user: &user,
            host: row.remote_host(),
            vhost: &vhost,
            certificate: &certificate,
            neighbor: row.is_router.then_some(container),
        };
        let (shown_user, shown_vhost) = (user.escape_debug(), vhost.escape_debug());
        match self.governance.policies.open(&opening) {
            Ok(grant) => {
                debug!(target: "POLICY", conn = id, "ALLOW AMQP Open for user '{shown_user}', rhost '{}', vhost '{shown_vhost}'", opening.host);
                self.governance.grant(id, Arc::clone(&grant));
                self.to_worker(worker.index(), ToWorker::Admit { id, grant });
            }
            Err(denial) => {
                info!(
                    target: "POLICY",
                    conn = id, "DENY AMQP Open for user '{shown_user}', rhost '{}', vhost '{shown_vhost}': {}",
                    opening.host,
                    denial.0,
                );
                self.close_connection(id, Some(disallowed()));
            }
        }
    }

    /// What policy lets a connection do that the router has made. Where its connector's
    /// `policyVhost` has nothing for it, that is nothing, and it is closed once it is open.
    pub(crate) fn grant_connector(&mut self, id: u64, vhost: &str) -> Arc<Grant> {
        let (grant, refusal) = match self.governance.policies.connector(vhost) {
            Ok(grant) => (grant, None),
            Err(denial) => {
                warn!(target: "POLICY", conn = id, "The connection will be closed: {}", denial.0);
                (Arc::new(Grant::of_nothing(vhost)), Some(denial.0))
            }
        };
        self.governance.grant(id, Arc::clone(&grant));
        if let Some(granted) = self.governance.grants.get_mut(&id) {
            granted.refusal = refusal;
        }
        grant
    }

    /// Attaches a link, if policy has nothing against it.
    pub(crate) fn attach(&mut self, request: AttachRequest, now: Instant) {
        let (link, connection) = (request.link, request.connection);
        if let Some(granted) = self.governance.grants.get_mut(&connection) {
            let Granted {
                grant,
                senders,
                receivers,
                told,
                ..
            } = granted;
            if let Err(denial) = grant.attach(&request.attach, request.role, *senders, *receivers) {
                let role = match denial.role {
                    Role::Sender => "sender",
                    Role::Receiver => "receiver",
                };
                if let Some(end) = told.tell(now) {
                    info!(
                        target: "POLICY",
                        conn = connection, "DENY AMQP Attach {role} for user '{}', rhost '{}', vhost '{}' based on {denial}{end}",
                        grant.user.escape_debug(),
                        grant.remote_host,
                        grant.vhost.escape_debug(),
                    );
                }
                self.governance.policies.count_link_denied();
                return self.control.refuse(link, denial.error());
            }
        }
        if let Some(error) = self.control.attach(&request, now) {
            self.log_refused(connection, &request.attach, &error, now);
        }
        if self.control.has_link(&link) {
            self.governance.count(link, connection);
            self.log_attached(link);
        }
    }

    /// Tells of what a worker has denied a connection.
    pub(crate) fn log_denial(&mut self, denial: &Denial, now: Instant) {
        let Denial {
            id,
            what,
            grant,
            reason,
        } = denial;
        // Of a connection that is gone, this may be the last that is heard.
        let granted = self.governance.grants.get_mut(id);
        let end = granted.map_or(Some(""), |granted| granted.told.tell(now));
        if let Some(end) = end {
            info!(
                target: "POLICY",
                conn = *id, "DENY {what} for user '{}', rhost '{}', vhost '{}' based on {reason}{end}",
                grant.user.escape_debug(),
                self.connections
                    .get(id)
                    .map_or(Ipv4Addr::UNSPECIFIED.into(), ConnectionRow::remote_host),
                grant.vhost.escape_debug(),
            );
        }
    }

    /// Tells of what a neighbour has said and may not say.
    pub(crate) fn log_neighbour_denial(&self, denial: &NeighbourDenial) {
        let conn = denial.connection;
        let row = self.connections.get(&conn);
        let host = row.map_or(Ipv4Addr::UNSPECIFIED.into(), ConnectionRow::remote_host);
        let granted = self.governance.grants.get(&conn);
        let (user, vhost) = granted.map_or(("", ""), |granted| {
            (&*granted.grant.user, &*granted.grant.vhost)
        });
        info!(
            target: "POLICY",
            conn, "DENY announcement of router '{}' for user '{}', rhost '{host}', vhost '{}' based on {}",
            denial.neighbour,
            user.escape_debug(),
            vhost.escape_debug(),
            denial.reason,
        );
    }

    /// Closes the connections of those who have been revoked.
    pub(crate) fn enforce_revocations(&mut self) {
        let revoked: Vec<_> = self
            .connections
            .iter()
            .filter_map(|(&id, row)| Some((id, self.revocation(id, row, row.status.as_deref())?)))
            .collect();
        for (id, name) in revoked {
            info!(target: "POLICY", conn = id, "Closing: '{}' is revoked", name.escape_debug());
            self.close_connection(id, Some(disallowed()));
        }
    }

    /// Turns away a router that is revoked and that no vhost had to let in, and whom policy has
    /// nothing for. True if it is.
    pub(crate) fn turn_away(&mut self, status: &ConnectionStatus) -> bool {
        let id = status.id;
        let granted = self.governance.grants.get(&id);
        if granted.is_some_and(|granted| granted.refusal.is_some()) {
            self.close_connection(id, Some(disallowed()));
            return true;
        }
        let row = self.connections.get(&id);
        let Some(name) = row.and_then(|row| self.revocation(id, row, Some(status))) else {
            return false;
        };
        info!(target: "POLICY", conn = id, "DENY AMQP Open: '{}' is revoked", name.escape_debug());
        self.governance.policies.count_turned_away();
        self.close_connection(id, Some(disallowed()));
        true
    }

    /// The name by which a connection is revoked.
    fn revocation(
        &self,
        id: u64,
        row: &ConnectionRow,
        status: Option<&ConnectionStatus>,
    ) -> Option<String> {
        if !self.governance.enabled {
            return None;
        }
        let granted = self.governance.grants.get(&id);
        let user = granted.map(|granted| granted.grant.user.as_str());
        let user = user.or_else(|| status?.peer.user.as_deref());
        let certificate = row.names();
        self.governance.policies.revoked(&Opening {
            connection: id,
            user: user.unwrap_or("anonymous"),
            host: row.remote_host(),
            vhost: granted.map_or("", |granted| &granted.grant.vhost),
            certificate: &certificate,
            neighbor: row
                .is_router
                .then(|| status.map_or("", |status| &status.container)),
        })
    }

    /// The statistics of the `policy` entity.
    pub(crate) fn fill_policy(&self, entity: &mut Entity) {
        let counts = self.governance.policies.counts();
        for (attribute, count) in [
            ("connectionsProcessed", counts.processed),
            ("connectionsDenied", counts.denied),
            ("connectionsCurrent", counts.current),
            ("linksDenied", counts.links_denied),
            ("maxMessageSizeDenied", counts.message_sizes_denied),
            ("totalDenials", counts.total_denials),
        ] {
            entity.set(attribute, integer(count));
        }
    }

    /// The `vhostStats` entities.
    pub(crate) fn vhost_stats(&self) -> Vec<Entity> {
        let schema = Schema::find("vhostStats").expect("the table has it");
        let stats = self.governance.policies.stats().enumerate();
        stats
            .map(|(number, stats)| {
                let mut entity = Entity::new(schema);
                let identity = format!("vhostStats/{number}");
                entity.set("name", identity.as_str());
                entity.set("identity", identity);
                entity.set("hostname", stats.hostname);
                entity.set("connectionsApproved", integer(stats.approved));
                entity.set("connectionsDenied", integer(stats.denied));
                entity.set("connectionsCurrent", integer(stats.current as u64));
                entity.set("perUserState", self.state(stats.per_user));
                entity.set("perHostState", self.state(stats.per_host));
                let counts = &stats.counts;
                for (attribute, count) in [
                    ("sessionDenied", &counts.sessions),
                    ("senderDenied", &counts.senders),
                    ("receiverDenied", &counts.receivers),
                    ("maxMessageSizeDenied", &counts.message_sizes),
                ] {
                    entity.set(attribute, integer(count.load(Ordering::Relaxed)));
                }
                entity
            })
            .collect()
    }

    /// Who is connected from where.
    fn state(&self, of: BTreeMap<String, Vec<u64>>) -> Value {
        let host = |id: &u64| self.connections.get(id).map(|row| row.host.as_str());
        let list =
            |ids: &[u64]| Value::List(ids.iter().filter_map(host).map(Value::from).collect());
        let pairs = of.iter().map(|(key, ids)| (key.as_str().into(), list(ids)));
        Value::Map(pairs.collect())
    }
}

impl ConnectionRow {
    /// The subject and alternative names of the peer's certificate.
    fn names(&self) -> Vec<String> {
        let certificate = self.tls.as_ref().map(|tls| &tls.certificate);
        let names = certificate
            .into_iter()
            .flat_map(|certificate| certificate.subject.iter().chain(&certificate.alternatives));
        names.cloned().collect()
    }

    pub(crate) fn remote_host(&self) -> IpAddr {
        let address = self.host.parse::<SocketAddr>();
        address.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| {
            address.ip().to_canonical()
        })
    }
}

/// Adds the vhosts of the `.json` files in `policyDir`; other entities in them count for nothing.
///
/// # Errors
/// The directory or a file cannot be read, or a vhost is wrong.
pub(crate) fn load_policy_dir(config: &mut Config) -> Result<(), Invalid> {
    let policy = config.singleton("policy").clone();
    let Some(directory) = policy.word("policyDir") else {
        return Ok(());
    };
    let fault = |path: &Path, problem: &str| {
        let path = path.display();
        policy.invalid(format!("the attribute 'policyDir': '{path}': {problem}"))
    };
    let directory = Path::new(directory);
    let entries =
        std::fs::read_dir(directory).map_err(|error| fault(directory, &error.to_string()))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    files.sort();
    for file in files {
        let text = Config::text_of(&file).map_err(|error| fault(&file, &error.to_string()))?;
        let sections = read_json(&text).map_err(|problem| fault(&file, &problem))?;
        for section in sections {
            let kind = &section.kind;
            let Some(schema) = Schema::find(kind).filter(|schema| schema.name == "vhost") else {
                warn!(target: "POLICY", "{}: '{kind}' is not a vhost and is ignored", file.display());
                continue;
            };
            let entity = Entity::create(schema, section.attributes)
                .map_err(|invalid| fault(&file, &invalid[0].to_string()))?;
            let admitted = config.admits(&entity);
            admitted.map_err(|invalid| fault(&file, &invalid.to_string()))?;
            config.add(entity);
        }
    }
    Ok(())
}

fn disallowed() -> Error {
    let text = "connection disallowed by local policy";
    Error::new(condition::RESOURCE_LIMIT_EXCEEDED, text)
}

fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::SaslPolicy;
    use crate::runtime::plan::Planner;
    use crate::runtime::sasl::SharedLogins;
    use crate::runtime::tls::live::Profiles;

    fn config(policy: &str) -> Config {
        let text = format!(
            "policy {{\n{policy}}}\nlistener {{\n name: l\n port: 0\n policyVhost: v\n}}\n\
             listener {{\n name: n\n port: 0\n role: route-container\n}}\n"
        );
        Config::from_text("router.conf", &text).unwrap()
    }

    #[test]
    fn connections_to_come_are_governed_as_the_policy_says_by_then() {
        let old = config("");
        let planner = Planner::new(&old, &Profiles::default(), &SharedLogins::default());
        let settings: Vec<_> = old
            .of("listener")
            .map(|entity| planner.settings(entity, SaslPolicy::default()))
            .map(|settings| Arc::new(settings.unwrap()))
            .collect();
        let mut governance = Governance::new(&old).unwrap();
        let governed = |governance: &Governance, number: usize, listens: bool| {
            let settings = governance.govern(&settings[number], listens);
            let vhost = settings.policy_vhost.clone();
            (settings.governed, vhost, settings.max_message_size)
        };
        assert_eq!(governed(&governance, 0, true), (false, None, None));
        let new = config(" enableVhostPolicy: yes\n maxMessageSize: 7\n");
        governance.follow(new.singleton("policy"));
        let vhost = Some("v".to_owned());
        assert_eq!(
            governed(&governance, 0, true),
            (true, vhost.clone(), Some(7))
        );
        assert_eq!(governed(&governance, 0, false), (false, vhost, Some(7)));
        assert_eq!(governed(&governance, 1, true), (true, None, Some(7)));
        governance.follow(old.singleton("policy"));
        assert_eq!(governed(&governance, 1, true), (false, None, None));
    }

    #[test]
    fn a_vhost_that_is_named_and_not_there_is_odd() {
        let odd = |policy: &str, vhost: &str| {
            let mut text = format!("policy {{\n{policy}}}\n");
            text += "listener {\n name: l\n port: 0\n policyVhost: v\n}\n";
            text += vhost;
            let config = Config::from_text("router.conf", &text).unwrap();
            let governance = Governance::new(&config).unwrap();
            let listener = config.of("listener").next().unwrap();
            governance.missing(listener).map(|odd| odd.to_string())
        };
        let on = " enableVhostPolicy: yes\n";
        let named = |name: &str| format!("vhost {{\n hostname: {name}\n}}\n");
        assert_eq!(odd("", ""), None);
        assert_eq!(odd(on, &named("v")), None);
        assert_eq!(odd(on, &named("w\n aliases: v")), None);
        let default = odd(on, &named("$default")).expect("it is odd");
        let start = "listener 'l': the attribute 'policyVhost' names no vhost: 'v'; ";
        assert!(
            default.starts_with(start) && default.contains("'$default'"),
            "{default}"
        );
        let none = odd(on, &named("w")).expect("it is odd");
        assert!(none.contains("turned away until there is one"), "{none}");
    }

    #[test]
    fn the_limit_on_connections_follows_the_policy() {
        let mut governance = Governance::new(&config(" maxConnections: 1\n")).unwrap();
        assert!(governance.policies.socket_opened());
        assert!(!governance.policies.socket_opened());
        governance.follow(config(" maxConnections: 2\n").singleton("policy"));
        assert!(governance.policies.socket_opened());
        assert!(!governance.policies.socket_opened());
    }
}
