//! The management agent at work: requests that arrive at `$management`, and the router that they
//! are about.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::{UnboundedSender, WeakUnboundedSender};
use tokio::sync::oneshot;
use tracing::debug;

use crate::adaptors::amqp::ConnectionStatus;
use crate::codec::{Error, Message, Value};
use crate::control::links::Scope;
use crate::control::table::{Direction, LinkRef};
use crate::forwarding::links::LinkStatus;
use crate::forwarding::stats::{AddressCounts, DeliveryCounts, WorkerCounts};
use crate::management::agent::{self, Backend, Refusal};
use crate::management::{Config, Entity, Schema, unsupported};
use crate::mesh::RouterStatus;
use crate::runtime::driver::ToWorker;
use crate::runtime::local::{LinkError, Receiver, Sender};
use crate::runtime::log::{Levels, Log, Module, Settings};
use crate::runtime::plan::{Listening, Planner, address_rule, profile_source, proxy};
use crate::runtime::router::Request;
use crate::runtime::service::{ConnectionRow, Service};
use crate::runtime::tcp::show_connection;
use crate::worker::WorkerStatus;

/// Receives requests, one after another, until the router stops.
pub(crate) async fn serve(
    worker: UnboundedSender<ToWorker>,
    requests: WeakUnboundedSender<Request>,
) {
    // An error means that the router is stopping.
    let _ = receive(worker, &requests).await;
}

async fn receive(
    worker: UnboundedSender<ToWorker>,
    requests: &WeakUnboundedSender<Request>,
) -> Result<(), LinkError> {
    let mut mobile = Receiver::attach(worker.clone(), Some("$management"), CREDIT).await?;
    let mut local = Receiver::attach(worker.clone(), Some("_local/$management"), CREDIT).await?;
    let mut replies = Sender::attach(worker, None).await?;
    ask(requests, Request::Manageable)?;
    loop {
        let delivery = tokio::select! {
            delivery = mobile.recv() => delivery?,
            delivery = local.recv() => delivery?,
        };
        let message = match delivery.message() {
            Ok(message) => message,
            Err(error) => {
                debug!(target: "AGENT", "A request is not a message: {error}");
                delivery.reject(Error::new("amqp:decode-error", error.to_string()));
                continue;
            }
        };
        delivery.accept();
        let answer = match agent::parse(&message) {
            Ok(None) => continue,
            Err(answer) => *answer,
            Ok(Some(request)) => {
                let (reply, answer) = oneshot::channel();
                let request = Request::Manage {
                    request: Box::new(request),
                    reply,
                };
                ask(requests, request)?;
                answer.await.map_err(|_| LinkError::Stopped)?
            }
        };
        replies.send_settled(&answer).await?;
    }
}

fn ask(requests: &WeakUnboundedSender<Request>, request: Request) -> Result<(), LinkError> {
    let requests = requests.upgrade().ok_or(LinkError::Stopped)?;
    requests.send(request).map_err(|_| LinkError::Stopped)
}

/// The router at one moment, for one request.
pub(crate) struct Manager<'a> {
    pub(crate) service: &'a mut Service,
    pub(crate) config: &'a mut Config,
    pub(crate) log: Option<&'a Log>,
    pub(crate) statuses: Vec<WorkerStatus>,
    pub(crate) myself: &'a WeakUnboundedSender<Request>,
}

impl Manager<'_> {
    pub(crate) fn answer(&mut self, request: agent::Request) -> Message {
        agent::answer(request, self)
    }

    fn connection(&self, id: u64, row: &ConnectionRow) -> Entity {
        let mut entity = of_type("connection");
        let now = Instant::now();
        let status: Option<&ConnectionStatus> = self
            .statuses
            .iter()
            .flat_map(|status| &status.connections)
            .find(|status| status.id == id)
            .or(row.status.as_deref());
        entity.set("name", format!("connection/{}", row.host));
        entity.set("identity", id.to_string());
        entity.set("adminStatus", "enabled");
        entity.set("operStatus", "up");
        entity.set("protocol", "amqp");
        entity.set("host", row.host.as_str());
        entity.set("opened", row.status.is_some());
        entity.set("uptimeSeconds", seconds(now, row.opened));
        let ordinal = row.tls.as_ref().map(|tls| integer(tls.ordinal));
        entity.set("tlsOrdinal", ordinal);
        let Some(status) = status else { return entity };
        let peer = &status.peer;
        entity.set("container", status.container.as_str());
        entity.set("role", status.role.as_str());
        entity.set("dir", if peer.incoming { "in" } else { "out" });
        entity.set("isAuthenticated", peer.authenticated);
        entity.set("isEncrypted", peer.tls.is_some());
        entity.set("enableProtocolTrace", false);
        entity.set("sasl", peer.sasl.clone());
        entity.set("user", peer.user.clone());
        entity.set("ssl", peer.tls.is_some());
        entity.set(
            "sslProto",
            peer.tls.as_ref().map(|tls| tls.protocol.clone()),
        );
        entity.set("sslCipher", peer.tls.as_ref().map(|tls| tls.cipher.clone()));
        entity.set(
            "sslSsf",
            peer.tls.as_ref().map_or(0, |tls| i64::from(tls.strength)),
        );
        entity.set("properties", status.properties.clone());
        entity
    }

    fn links(&self) -> Vec<Entity> {
        let status = |link: LinkRef| -> LinkStatus {
            let links = self.statuses.iter().flat_map(|status| &status.links);
            links
                .filter(|(of, _)| *of == link)
                .map(|(_, status)| *status)
                .next()
                .unwrap_or_default()
        };
        self.service
            .control
            .links()
            // The router's own links are no business of its clients, as in skrouterd.
            .filter(|link| link.connection != 0)
            .map(|link| {
                let status = status(link.reference);
                let address = link.address.and_then(|id| self.service.control.address(id));
                let mut entity = of_type("router.link");
                entity.set("name", link.id.to_string());
                entity.set("identity", link.id.to_string());
                entity.set("operStatus", "up");
                entity.set("linkName", link.name.as_str());
                entity.set("linkType", link.kind.as_str());
                let direction = match link.reference.direction {
                    Direction::Incoming => "in",
                    Direction::Outgoing => "out",
                };
                entity.set("linkDir", direction);
                entity.set(
                    "owningAddr",
                    address.map(|address| address.entry.key.to_string()),
                );
                entity.set("capacity", i64::from(link.capacity));
                entity.set("connectionId", integer(link.connection));
                entity.set("priority", i64::from(link.priority));
                entity.set("undeliveredCount", i64::from(status.undelivered));
                entity.set("unsettledCount", i64::from(status.unsettled));
                entity.set("creditAvailable", i64::from(status.credit));
                entity.set("zeroCreditSeconds", i64::from(status.zero_credit_seconds));
                entity.set("settleRate", i64::from(status.settle_rate));
                set_link_counts(&mut entity, &status.counts);
                entity.set("deliveriesStuck", 0i64);
                entity.set("openMovedStreams", 0i64);
                entity
            })
            .collect()
    }

    /// The routers of the network, this one first; none if it stands alone.
    fn routers(&self) -> Vec<Entity> {
        let control = &self.service.control;
        let texts = |texts: &[String]| {
            Value::List(
                texts
                    .iter()
                    .map(|text| Value::from(text.as_str()))
                    .collect(),
            )
        };
        let node = |router: RouterStatus| {
            let mut entity = of_type("router.node");
            let address = format!("amqp:/_topo/0/{}", router.id);
            entity.set("name", format!("router.node/{}", router.id));
            entity.set("identity", format!("router.node/{}", router.id));
            entity.set("id", router.id.as_str());
            entity.set("index", i64::from(router.index));
            entity.set("protocolVersion", 1i64);
            entity.set("instance", router.instance);
            entity.set("linkState", texts(&router.link_state));
            let next_hop = match router.is_self {
                true => Some("(self)".to_owned()),
                false => router.next_hop,
            };
            entity.set("nextHop", next_hop);
            entity.set("validOrigins", texts(&router.valid_origins));
            entity.set("address", address);
            let link = router.neighbour.map(|neighbour| neighbour.0.to_string());
            entity.set("routerLink", link);
            entity.set("cost", router.cost.map(i64::from));
            if let Some(at) = router.last_change {
                let at = SystemTime::now().checked_sub(at.elapsed());
                let seconds = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                entity.set("lastTopoChange", seconds.map_or(0, |s| s.as_secs() as i64));
            }
            entity
        };
        control.routers().into_iter().map(node).collect()
    }

    fn addresses(&self) -> Vec<Entity> {
        self.service
            .control
            .addresses()
            .map(|address| {
                let entry = &address.entry;
                let mut counts = AddressCounts::default();
                for (id, of_worker) in self.statuses.iter().flat_map(|status| &status.addresses) {
                    if *id == entry.id {
                        counts.ingress += of_worker.ingress;
                        counts.egress += of_worker.egress;
                        counts.transit += of_worker.transit;
                    }
                }
                let mut entity = of_type("router.address");
                for attribute in ["name", "identity", "key"] {
                    entity.set(attribute, entry.key.as_str());
                }
                entity.set("distribution", entry.treatment.as_str());
                let own = usize::from(matches!(entry.key.text(), "$management"));
                entity.set("inProcess", own as i64);
                entity.set("subscriberCount", (address.consumers() - own) as i64);
                entity.set("priority", entry.priority.map_or(-1, i64::from));
                entity.set("deliveriesIngress", integer(counts.ingress));
                entity.set("deliveriesEgress", integer(counts.egress));
                entity.set("deliveriesTransit", integer(counts.transit));
                let watched = self.service.control.is_watched(&entry.key);
                entity.set("watch", watched);
                let remotes = entry.remotes.iter();
                let remotes =
                    remotes.filter_map(|remote| self.service.control.router(remote.router));
                let remotes: Vec<Value> = remotes.map(Value::from).collect();
                entity.set("remoteCount", remotes.len() as i64);
                entity.set("remoteHostRouters", Value::List(remotes));
                for attribute in [
                    "containerCount",
                    "deliveriesToContainer",
                    "deliveriesFromContainer",
                    "deliveriesIngressRouteContainer",
                    "deliveriesEgressRouteContainer",
                    "deliveriesIngressInterNetwork",
                    "deliveriesEgressInterNetwork",
                    "trackedDeliveries",
                ] {
                    entity.set(attribute, 0i64);
                }
                entity
            })
            .collect()
    }

    fn metrics(&self) -> Entity {
        let mut counts = WorkerCounts::default();
        for status in &self.statuses {
            counts.ingress += status.counts.ingress;
            counts.egress += status.counts.egress;
            counts.outcomes.add(&status.counts.outcomes);
        }
        let control = &self.service.control;
        let router = self.config.singleton("router");
        let mut entity = of_type("routerMetrics");
        entity.set("name", "1");
        entity.set("identity", "1");
        entity.set("id", router.get("id").clone());
        entity.set("version", VERSION);
        entity.set("addrCount", control.addresses().count() as i64);
        entity.set("linkCount", control.links().count() as i64);
        let tcp = self.statuses.iter().map(|status| status.tcp.len());
        let connections = self.service.connections.len() + tcp.sum::<usize>();
        entity.set("connectionCount", connections as i64);
        entity.set(
            "uptimeSeconds",
            seconds(Instant::now(), self.service.started),
        );
        entity.set("deliveriesIngress", integer(counts.ingress));
        entity.set("deliveriesEgress", integer(counts.egress));
        entity.set("presettledDeliveries", integer(counts.outcomes.presettled));
        entity.set(
            "droppedPresettledDeliveries",
            integer(counts.outcomes.dropped_presettled),
        );
        entity.set("acceptedDeliveries", integer(counts.outcomes.accepted));
        entity.set("rejectedDeliveries", integer(counts.outcomes.rejected));
        entity.set("releasedDeliveries", integer(counts.outcomes.released));
        entity.set("modifiedDeliveries", integer(counts.outcomes.modified));
        entity.set("deliveriesDelayed1Sec", integer(counts.outcomes.delayed_1s));
        entity.set(
            "deliveriesDelayed10Sec",
            integer(counts.outcomes.delayed_10s),
        );
        if let Some(resident) = resident_memory() {
            entity.set("residentMemoryUsage", integer(resident));
        }
        for attribute in [
            "nodeCount",
            "autoLinkCount",
            "deliveriesTransit",
            "deliveriesIngressRouteContainer",
            "deliveriesEgressRouteContainer",
            "deliveriesIngressInterNetwork",
            "deliveriesEgressInterNetwork",
            "deliveriesStuck",
        ] {
            entity.set(attribute, 0i64);
        }
        entity
    }

    fn logs(&self) -> Vec<Entity> {
        let Some(log) = self.log else {
            return Vec::new();
        };
        Module::all()
            .map(|module| {
                let settings = log.settings(module);
                let mut entity = of_type("log");
                entity.set("module", module.as_str());
                entity.identify(0);
                entity.set("enable", settings.enable.map(|levels| levels.to_string()));
                entity.set("includeTimestamp", settings.include_timestamp);
                entity.set("includeSource", settings.include_source);
                entity.set("outputFile", settings.output_file);
                entity
            })
            .collect()
    }

    fn configured(&self, schema: &Schema) -> Vec<Entity> {
        let mut entities: Vec<Entity> = self.config.of(schema.name).cloned().collect();
        for entity in &mut entities {
            match schema.name {
                "router" => {
                    entity.set("version", VERSION);
                    entity.set("area", "0");
                    entity.set("hostName", hostname());
                }
                "connector" => {
                    if let Some(state) = self.service.connector(entity.name()) {
                        entity.set("connectionStatus", state.status().as_str());
                        entity.set("connectionMsg", state.message());
                        entity.set("failoverUrls", state.failover_urls());
                    }
                }
                "policy" => self.service.fill_policy(entity),
                "tcpListener" | "tcpConnector" | "listenerAddress" => self.service.show_tcp(entity),
                _ => {}
            }
        }
        entities
    }

    /// A `listenerAddress` of a TCP listener.
    fn address_of(&self, listener: &Entity) -> Option<&Entity> {
        let named = (listener.schema().name == "tcpListener").then(|| listener.name())?;
        let mut addresses = self.config.of("listenerAddress");
        addresses.find(|address| address.word("listener") == Some(named))
    }

    /// Puts a new entity to work.
    fn start(&mut self, entity: &Entity) -> Result<(), Refusal> {
        let planner = Planner::new(self.config, &self.service.profiles)?;
        match entity.schema().name {
            "listener" => match planner.listener(entity)? {
                Listening::Amqp(plan) => {
                    let listening = self.service.listen(*plan);
                    listening.map_err(|error| Refusal::bad_request(error.to_string()))?;
                }
                Listening::Http(plan) => {
                    let listening = self.service.serve_http(*plan, self.myself);
                    listening.map_err(|error| Refusal::bad_request(error.to_string()))?;
                }
            },
            "connector" => self.service.connect(planner.connector(entity)?),
            "tcpListener" | "tcpConnector" | "listenerAddress" => {
                self.service.start_tcp(&planner, entity)?;
            }
            "sslProfile" => {
                let source = profile_source(entity);
                let profiles = &self.service.profiles;
                profiles.update(entity.name(), source, Instant::now())?;
            }
            "vhost" => {
                self.service.governance.set(entity)?;
                self.service.enforce_revocations();
            }
            "router.config.address" => {
                if let Some(scope) = scope(entity) {
                    self.service.control.configure(scope, address_rule(entity));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Backend for Manager<'_> {
    fn entities(&mut self, schema: &'static Schema) -> Vec<Entity> {
        match schema.name {
            "connection" => {
                let rows = self.service.connections.iter();
                let rows = rows.map(|(id, row)| self.connection(*id, row));
                let tcp = self.statuses.iter().flat_map(|status| &status.tcp);
                let now = Instant::now();
                rows.chain(tcp.map(|status| {
                    let mut entity = of_type("connection");
                    show_connection(&mut entity, status, now);
                    entity
                }))
                .collect()
            }
            "router.link" => self.links(),
            "router.address" => self.addresses(),
            "router.node" => self.routers(),
            "routerMetrics" => vec![self.metrics()],
            "log" => self.logs(),
            "vhostStats" => self.service.vhost_stats(),
            _ => self.configured(schema),
        }
    }

    fn create(&mut self, mut entity: Entity) -> Result<Entity, Refusal> {
        if let Some(invalid) = unsupported(&entity) {
            return Err(invalid.into());
        }
        self.config.admits(&entity)?;
        self.config.accepts(&entity)?;
        entity.identify(self.config.next_serial(entity.schema().name));
        self.start(&entity)?;
        self.config.add(entity.clone());
        Ok(entity)
    }

    fn update(
        &mut self,
        entity: &Entity,
        attributes: &[(String, Value)],
    ) -> Result<Entity, Refusal> {
        let mut updated = entity.clone();
        updated.update(attributes)?;
        self.config.accepts(&updated)?;
        match entity.schema().name {
            "connection" => {
                if updated.text("adminStatus") == Some("deleted") {
                    let id = entity.identity().parse().unwrap_or_default();
                    let error =
                        Error::new("amqp:connection:forced", "closed by a management request");
                    self.service.close_connection(id, Some(error));
                }
            }
            "log" => {
                let Some(log) = self.log else {
                    return Err(Refusal::forbidden(
                        "the log belongs to the embedding program",
                    ));
                };
                configure_log(log, &updated)?;
            }
            "sslProfile" => {
                let source = profile_source(&updated);
                let profiles = &self.service.profiles;
                profiles.update(updated.name(), source, Instant::now())?;
                self.config.replace(updated.clone());
                let oldest = updated.integer("oldestValidOrdinal").unwrap_or(0);
                let oldest = u64::try_from(oldest).unwrap_or(0);
                self.service.retire_ordinals(updated.name(), oldest);
            }
            "proxyProfile" => {
                let proxy = Arc::new(proxy(&updated)?);
                self.service.update_proxy(&proxy);
                self.config.replace(updated.clone());
            }
            "vhost" => {
                self.service.governance.set(&updated)?;
                self.config.replace(updated.clone());
                self.service.enforce_revocations();
            }
            _ => self.config.replace(updated.clone()),
        }
        Ok(updated)
    }

    fn delete(&mut self, entity: &Entity) -> Result<(), Refusal> {
        match entity.schema().name {
            "listener" => self.service.stop_listening(entity.name()),
            "connector" => self.service.stop_connecting(entity.name()),
            "tcpListener" | "tcpConnector" | "listenerAddress" => {
                if let Some(address) = self.address_of(entity) {
                    let text = format!("{} is in use by {}", entity.label(), address.label());
                    return Err(Refusal::bad_request(text));
                }
                let router = self.config.singleton("router");
                let drop_connections = router.flag("dropTcpConnections");
                self.service.stop_tcp(entity, drop_connections);
            }
            "vhost" => {
                let hostname = entity.text("hostname").unwrap_or_default();
                self.service.governance.policies.remove(hostname);
            }
            kind @ ("sslProfile" | "proxyProfile") => {
                let user = self
                    .config
                    .entities
                    .iter()
                    .find(|other| other.word(kind) == Some(entity.name()));
                if let Some(user) = user {
                    let text = format!("{} is in use by {}", entity.label(), user.label());
                    return Err(Refusal::forbidden(text));
                }
                if kind == "sslProfile" {
                    self.service.profiles.remove(entity.name());
                }
            }
            "router.config.address" => {
                if let Some(scope) = scope(entity) {
                    self.service.control.unconfigure(scope);
                }
            }
            _ => {}
        }
        self.config.remove(entity);
        Ok(())
    }

    fn nodes(&mut self) -> Vec<String> {
        let id = self
            .config
            .singleton("router")
            .word("id")
            .unwrap_or_default();
        let others = self.service.control.routers().into_iter();
        let others = others
            .filter(|router| !router.is_self)
            .map(|router| router.id);
        std::iter::once(id.to_owned())
            .chain(others)
            .map(|id| format!("amqp:/_topo/0/{id}/$management"))
            .collect()
    }

    fn log(&mut self, limit: usize) -> Vec<Value> {
        let Some(log) = self.log else {
            return Vec::new();
        };
        log.recent(limit)
            .into_iter()
            .map(|entry| {
                Value::List(vec![
                    entry.module.as_str().into(),
                    entry.level.as_str().into(),
                    entry.text.into(),
                    entry.file.into(),
                    Value::Long(entry.line.into()),
                    Value::Long(entry.time.as_second()),
                ])
            })
            .collect()
    }
}

/// Sets how one module logs, as its entity says.
pub(crate) fn configure_log(log: &Log, entity: &Entity) -> Result<(), Refusal> {
    let Some(module) = entity.word("module").and_then(Module::from_name) else {
        return Err(Refusal::bad_request("the attribute 'module' is unknown"));
    };
    let enable = entity
        .word("enable")
        .map(|levels| levels.parse::<Levels>())
        .transpose()
        .map_err(|error| Refusal::bad_request(format!("{}: {error}", entity.label())))?;
    let settings = Settings {
        enable,
        include_timestamp: entity.get("includeTimestamp").as_bool(),
        include_source: entity.get("includeSource").as_bool(),
        output_file: entity.word("outputFile").map(str::to_owned),
    };
    log.configure(module, settings)
        .map_err(|error| Refusal::bad_request(error.to_string()))
}

/// The prefix or pattern of an address entity.
pub(crate) fn scope(entity: &Entity) -> Option<Scope<'_>> {
    match (entity.word("prefix"), entity.word("pattern")) {
        (Some(prefix), _) => Some(Scope::Prefix(prefix)),
        (None, Some(pattern)) => Some(Scope::Pattern(pattern)),
        (None, None) => None,
    }
}

fn of_type(name: &str) -> Entity {
    Entity::new(Schema::find(name).expect("the table has it"))
}

fn set_link_counts(entity: &mut Entity, counts: &DeliveryCounts) {
    entity.set("deliveryCount", integer(counts.deliveries));
    entity.set("presettledCount", integer(counts.presettled));
    entity.set("droppedPresettledCount", integer(counts.dropped_presettled));
    entity.set("acceptedCount", integer(counts.accepted));
    entity.set("rejectedCount", integer(counts.rejected));
    entity.set("releasedCount", integer(counts.released));
    entity.set("modifiedCount", integer(counts.modified));
    entity.set("deliveriesDelayed1Sec", integer(counts.delayed_1s));
    entity.set("deliveriesDelayed10Sec", integer(counts.delayed_10s));
}

fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn seconds(now: Instant, since: Instant) -> i64 {
    integer(now.duration_since(since).as_secs())
}

/// Octets of memory that the process holds, where the system tells.
fn resident_memory() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm")
        .ok()?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some(pages * 4096)
}

fn hostname() -> Option<String> {
    std::env::var("HOSTNAME").ok().or_else(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        Some(name.trim().to_owned())
    })
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Requests that may wait.
const CREDIT: u32 = 250;
