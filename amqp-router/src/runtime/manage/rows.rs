//! The router at work as entities show it: connections, links, routers, addresses, totals.

use std::ops::ControlFlow;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::{Manager, VERSION, of_type};
use crate::adaptors::amqp::ConnectionStatus;
use crate::adaptors::tcp::TcpStatus;
use crate::codec::{Fields, Value};
use crate::control::links::{Address, Link};
use crate::control::table::{Direction, Treatment};
use crate::forwarding::stats::{DeliveryCounts, Pool};
use crate::management::agent::{See, Subject, see_each};
use crate::management::{Entity, Width};
use crate::mesh::RouterStatus;
use crate::runtime::metrics::Memory;
use crate::runtime::service::ConnectionRow;
use crate::runtime::tcp::show_connection;

impl Manager<'_> {
    /// The connections of AMQP peers, then those of TCP clients and services.
    pub(super) fn connections(&self, see: &mut See<'_>) -> ControlFlow<()> {
        see_each(&self.service.connections, see, |(id, row)| {
            self.connection(**id, row)
        })?;
        see_each(self.reports.tcp_numbers(), see, |id| {
            tcp_connection(*id, self.reports.tcp(*id))
        })
    }

    /// Those that have the identity or the name.
    pub(super) fn connections_meant(&self, subject: &Subject) -> Vec<Entity> {
        let rows = &self.service.connections;
        let identity = subject.identity.as_deref();
        let number = identity.and_then(|identity| identity.parse().ok());
        let mut meant: Vec<Entity> = Vec::new();
        if let Some(id) = number {
            match rows.get(&id) {
                Some(row) => meant.push(self.connection(id, row)),
                None => meant.extend(
                    self.reports
                        .tcp(id)
                        .map(|tcp| tcp_connection(id, Some(tcp))),
                ),
            }
        }
        let name = subject.name.as_deref();
        let Some(host) = name.and_then(|name| name.strip_prefix(CONNECTION)) else {
            return meant;
        };
        let is_other = |id: &u64| Some(*id) != number;
        let named = rows.iter();
        let named = named.filter(|(id, row)| is_other(id) && row.host == host);
        meant.extend(named.map(|(id, row)| self.connection(*id, row)));
        let tcp = self.reports.tcp_at(host);
        let tcp = tcp.filter(|status| is_other(&status.id));
        meant.extend(tcp.map(|status| tcp_connection(status.id, Some(status))));
        meant
    }

    fn connection(&self, id: u64, row: &ConnectionRow) -> Entity {
        let mut entity = connection(id, row, self.reports.connection(id));
        self.set_way(&mut entity, id);
        entity
    }

    /// But for the router's own, which are no business of its clients, as in skrouterd.
    pub(super) fn links(&self, see: &mut See<'_>) -> ControlFlow<()> {
        let links = self.service.control.links();
        let links = links.filter(|link| link.connection != 0);
        see_each(links, see, |link| self.link(link))
    }

    /// Those that have the identity or the name.
    pub(super) fn links_meant(&self, subject: &Subject) -> Vec<Entity> {
        let identity = subject.identity.as_deref();
        let number: Option<u64> = identity.and_then(|identity| identity.parse().ok());
        let control = &self.service.control;
        let identified = number.and_then(|number| control.numbered(number));
        let named = subject.name.iter().flat_map(|name| control.named(name));
        let named = named.filter(|link| number != Some(link.id));
        let links = identified.into_iter().chain(named);
        let links = links.filter(|link| link.connection != 0);
        links.map(|link| self.link(link)).collect()
    }

    fn link(&self, link: &Link) -> Entity {
        let status = self.reports.link(link.reference);
        let address = link.address.and_then(|id| self.service.control.address(id));
        let mut entity = of_type("router.link");
        entity.set("name", &*link.name);
        entity.set("identity", link.id.to_string());
        entity.set("operStatus", "up");
        entity.set("linkName", &*link.name);
        entity.set("linkType", link.kind.as_str());
        let direction = match link.reference.direction {
            Direction::Incoming => "in",
            Direction::Outgoing => "out",
        };
        entity.set("linkDir", direction);
        let node = link.kind.node().map(|node| format!("M{node}"));
        let address = address.map(|address| address.entry.key.to_string());
        entity.set("owningAddr", address.or(node));
        entity.set("capacity", i64::from(link.capacity));
        entity.set("connectionId", link.connection.to_string());
        entity.set("priority", i64::from(link.priority));
        entity.set("undeliveredCount", i64::from(status.undelivered));
        entity.set("unsettledCount", i64::from(status.unsettled));
        entity.set("creditAvailable", i64::from(status.credit));
        entity.set("zeroCreditSeconds", i64::from(status.zero_credit_seconds));
        entity.set("settleRate", i64::from(status.settle_rate));
        set_link_counts(&mut entity, &status.counts);
        entity.set("deliveriesStuck", i64::from(status.stuck));
        entity.set("openMovedStreams", i64::from(status.elsewhere));
        let entered = status.entered.as_ref();
        let entered = entered.map(|entered| {
            let counts = entered.counts().iter().copied();
            Value::List(counts.map(Value::Ulong).collect())
        });
        entity.set("ingressHistogram", entered);
        entity
    }

    /// The routers of the network, this one first; none if it stands alone.
    pub(super) fn routers(&self) -> Vec<Entity> {
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
            } else {
                entity.set("lastTopoChange", 0i64);
            }
            entity
        };
        control.routers().into_iter().map(node).collect()
    }

    pub(super) fn addresses(&self, see: &mut See<'_>) -> ControlFlow<()> {
        let addresses = self.service.control.addresses();
        see_each(addresses, see, |address| self.address(address))
    }

    /// That which has the identity, and that which has the name, which both are the key.
    pub(super) fn addresses_meant(&self, subject: &Subject) -> Vec<Entity> {
        let keys = [&subject.identity, &subject.name].into_iter().flatten();
        let addresses = keys.filter_map(|key| self.service.control.address_of(key));
        let mut addresses: Vec<&Address> = addresses.collect();
        addresses.dedup_by_key(|address| address.entry.id);
        addresses
            .into_iter()
            .map(|address| self.address(address))
            .collect()
    }

    fn address(&self, address: &Address) -> Entity {
        let entry = &address.entry;
        let counts = self.reports.address(entry.id);
        let mut entity = of_type("router.address");
        for attribute in ["name", "identity", "key"] {
            entity.set(attribute, entry.key.as_str());
        }
        entity.set("distribution", entry.treatment.as_str());
        let text = entry.key.text();
        let own = text == "$management" || self.service.telemetry.receives_from(text);
        let own = usize::from(own).min(address.consumers());
        entity.set("inProcess", own as i64);
        entity.set("subscriberCount", (address.consumers() - own) as i64);
        entity.set("priority", entry.priority.map_or(-1, i64::from));
        // What programs send and receive is counted apart.
        let (programs, containers) = (counts.programs, counts.containers);
        let networks = counts.networks;
        let (ingress, egress) = (counts.ingress, counts.egress);
        for (attribute, count) in [
            ("deliveriesIngress", ingress - programs.ingress),
            ("deliveriesEgress", egress - programs.egress),
            ("deliveriesFromContainer", programs.ingress),
            ("deliveriesToContainer", programs.egress),
            ("deliveriesIngressRouteContainer", containers.ingress),
            ("deliveriesEgressRouteContainer", containers.egress),
            ("deliveriesIngressInterNetwork", networks.ingress),
            ("deliveriesEgressInterNetwork", networks.egress),
        ] {
            entity.set(attribute, integer(count));
        }
        entity.set("deliveriesTransit", integer(counts.transit));
        let watched = self.service.control.is_watched(&entry.key);
        entity.set("watch", watched);
        let remotes = entry.remotes.iter();
        let remotes = remotes.filter_map(|remote| self.service.control.router(remote.router));
        let remotes: Vec<Value> = remotes.map(Value::from).collect();
        entity.set("remoteCount", remotes.len() as i64);
        entity.set("remoteHostRouters", Value::List(remotes));
        entity.set("containerCount", 0i64);
        let outstanding = match entry.treatment {
            Treatment::Balanced => self.service.control.outstanding(entry),
            _ => Vec::new(),
        };
        entity.set("trackedDeliveries", integer(outstanding.iter().sum()));
        if !outstanding.is_empty() {
            let outstanding = outstanding.iter().map(|count| Value::Long(integer(*count)));
            entity.set("transitOutstanding", Value::List(outstanding.collect()));
        }
        entity
    }

    /// The memory of what there are many of, all workers together. It is kept for those to come:
    /// none goes back while the router runs.
    pub(super) fn pools(&self) -> Vec<Entity> {
        let mut pools: Vec<Pool> = Vec::new();
        for worker in self.reports.totals() {
            Pool::add_all(&mut pools, &worker.pools);
        }
        let entity = |pool: Pool| {
            let mut entity = of_type("allocator");
            entity.set("typeName", pool.kind);
            entity.identify(0);
            for (attribute, count) in [
                ("typeSize", pool.size),
                ("totalAllocFromHeap", pool.slots),
                ("heldByThreads", pool.used),
                ("transferBatchSize", 0),
                ("localFreeListMax", 0),
                ("globalFreeListMax", 0),
                ("totalFreeToHeap", 0),
                ("batchesRebalancedToThreads", 0),
                ("batchesRebalancedToGlobal", 0),
            ] {
                entity.set(attribute, count as i64);
            }
            entity
        };
        pools.into_iter().map(entity).collect()
    }

    pub(super) fn metrics(&self) -> Entity {
        let totals = self.totals();
        let counts = &totals.counts;
        let router = self.config.singleton("router");
        let mut entity = of_type("routerMetrics");
        entity.set("name", "1");
        entity.set("identity", "1");
        entity.set("id", router.get("id").clone());
        entity.set("version", VERSION);
        let (amqp, tcp) = (totals.amqp_connections, totals.tcp);
        for (attribute, count) in [
            ("addrCount", totals.addresses),
            ("linkCount", totals.links),
            ("nodeCount", totals.routers),
            ("autoLinkCount", self.service.control.auto_link_count()),
            ("connectionCount", amqp + tcp.all()),
        ] {
            entity.set(attribute, count as i64);
        }
        let connections = [
            ("tcp", tcp.other),
            ("amqp", amqp),
            ("http1", tcp.http1),
            ("http2", tcp.http2),
        ];
        let connections =
            connections.map(|(kind, count)| (kind.into(), Value::Ulong(count as u64)));
        entity.set("connectionCounters", Value::Map(connections.into()));
        entity.set(
            "uptimeSeconds",
            seconds(Instant::now(), self.service.started),
        );
        // What programs in this process send and receive is not the network's, as for addresses.
        let (ingress, egress) = (counts.ingress, counts.egress);
        entity.set(
            "deliveriesIngress",
            integer(ingress - counts.programs.ingress),
        );
        entity.set("deliveriesEgress", integer(egress - counts.programs.egress));
        entity.set("deliveriesTransit", integer(counts.transit));
        for (attribute, count) in [
            ("deliveriesIngressRouteContainer", counts.containers.ingress),
            ("deliveriesEgressRouteContainer", counts.containers.egress),
            ("deliveriesIngressInterNetwork", counts.networks.ingress),
            ("deliveriesEgressInterNetwork", counts.networks.egress),
        ] {
            entity.set(attribute, integer(count));
        }
        let backlog = &totals.backlog;
        entity.set("deliveriesStuck", integer(backlog.stuck));
        entity.set(
            "linksBlocked",
            integer(backlog.blocked_in + backlog.blocked_out),
        );
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
        if let Some(memory) = Memory::now() {
            entity.set("memoryUsage", integer(memory.virtual_size));
            entity.set("residentMemoryUsage", integer(memory.resident));
        }
        entity
    }
}

impl Manager<'_> {
    /// What the control plane knows of a connection.
    fn set_way(&self, entity: &mut Entity, id: u64) {
        let control = &self.service.control;
        if let Some(mesh) = control.mesh_of(id) {
            entity.set("meshId", mesh.as_str());
        }
        let waits = control.is_edge() && entity.text("role") == Some("edge");
        let active = !waits || control.active_uplink() == Some(id);
        entity.set("active", active);
    }
}

/// `status` is what its worker says of it now.
fn connection(id: u64, row: &ConnectionRow, status: Option<&ConnectionStatus>) -> Entity {
    let now = Instant::now();
    let status = status.or(row.status.as_deref());
    let mut entity = of_type("connection");
    entity.set("name", format!("{CONNECTION}{}", row.host));
    entity.set("identity", id.to_string());
    show_closing(&mut entity, status.is_some_and(|status| status.closing));
    entity.set("protocol", "amqp");
    entity.set("host", row.host.as_str());
    entity.set("opened", row.status.is_some());
    entity.set("uptimeSeconds", seconds(now, row.opened));
    let ordinal = row.tls.as_ref().map(|tls| integer(tls.ordinal));
    entity.set("tlsOrdinal", ordinal);
    let Some(status) = status else { return entity };
    if let Some(group) = &status.group {
        entity.set("groupCorrelationId", &*group.correlator);
        entity.set("groupOrdinal", group.ordinal);
    }
    let peer = &status.peer;
    let delivered = status.delivered.map(|at| seconds(now, at));
    entity.set("lastDlvSeconds", delivered);
    entity.set("container", status.container.as_str());
    entity.set("role", status.role.as_str());
    entity.set("dir", if peer.incoming { "in" } else { "out" });
    entity.set("isAuthenticated", peer.authenticated);
    entity.set("isEncrypted", peer.tls.is_some());
    entity.set("enableProtocolTrace", row.is_traced());
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
    entity.set("properties", plain(&status.properties));
    entity
}

/// Of a TCP connection that its worker does not know any more, there is little to say.
fn tcp_connection(id: u64, status: Option<&TcpStatus>) -> Entity {
    let mut entity = of_type("connection");
    match status {
        Some(status) => show_connection(&mut entity, status, Instant::now()),
        None => {
            entity.set("name", format!("{CONNECTION}{id}"));
            entity.set("identity", id.to_string());
        }
    }
    entity
}

/// What skrouterd shows of a connection that is being closed.
pub(crate) fn show_closing(entity: &mut Entity, closing: bool) {
    let (admin, oper) = match closing {
        true => ("deleted", "closing"),
        false => ("enabled", "up"),
    };
    entity.set("adminStatus", admin);
    entity.set("operStatus", oper);
}

/// Texts and integers under texts: clients of management print them, and expect no others. As in
/// skrouterd, the first property of another kind ends them.
pub(crate) fn plain(properties: &Fields) -> Value {
    let plain = properties.iter().map_while(|(key, value)| {
        let value = match value {
            Value::String(_) | Value::Symbol(_) => Value::from(value.as_str()?),
            Value::Int(_) | Value::Long(_) => Width::Int.of(value),
            _ => return None,
        };
        Some((Value::from(key.as_str()), value))
    });
    Value::Map(plain.collect())
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

/// What the names of connections begin with.
const CONNECTION: &str = "connection/";

fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn seconds(now: Instant, since: Instant) -> i64 {
    integer(now.duration_since(since).as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Symbol;

    #[test]
    fn properties_are_shown_up_to_the_first_that_is_no_text_or_integer() {
        for other in [Value::from(true), Value::List(vec![]), Value::Ulong(7)] {
            let mut properties = Fields::new();
            properties.insert("product", "a broker");
            properties.insert("kind", Value::Symbol(Symbol::from("x")));
            properties.insert("small", Value::Int(7));
            properties.insert("large", 5_000_000_000i64);
            properties.insert("other", other);
            properties.insert("last", "unseen");
            let shown = plain(&properties);
            let expected: [(&str, Value); 4] = [
                ("product", "a broker".into()),
                ("kind", "x".into()),
                ("small", Value::Int(7)),
                ("large", Value::Long(5_000_000_000)),
            ];
            let expected = expected.map(|(key, value)| (Value::from(key), value));
            assert_eq!(shown, Value::Map(expected.into()));
        }
    }

    #[test]
    fn what_is_closing_is_deleted() {
        let mut entity = of_type("connection");
        show_closing(&mut entity, false);
        assert_eq!(entity.text("adminStatus"), Some("enabled"));
        show_closing(&mut entity, true);
        assert_eq!(entity.text("adminStatus"), Some("deleted"));
        assert_eq!(entity.text("operStatus"), Some("closing"));
    }
}
