//! `/metrics`: what a router counts, gathered from the control plane and all workers at one moment
//! (`reference/router/config-and-management.md` §4; `docs/metrics.md` has every name).

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::adaptors::tcp::TcpService;
use crate::control::table::{AddressId, Direction};
use crate::forwarding::stats::{AddressCounts, LATENCY_BOUNDS, WorkerCounts};
use crate::management::{Exposition, Metric};
use crate::runtime::manage::Manager;

/// A router's totals, as management and metrics show them.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) counts: WorkerCounts,
    pub(crate) amqp_connections: usize,
    pub(crate) tcp_connections: usize,
    pub(crate) links: usize,
    pub(crate) addresses: usize,
    /// Routers of the network besides this one.
    pub(crate) routers: usize,
    /// Deliveries that have been here for longer than ten seconds.
    pub(crate) stuck: u64,
    /// Outgoing links that have something to send and no credit.
    pub(crate) blocked: usize,
    /// Deliveries that wait in outgoing links.
    pub(crate) undelivered: u64,
    /// Deliveries that senders wait to hear of.
    pub(crate) unsettled: u64,
}

/// Octets of memory of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) virtual_size: u64,
    pub(crate) resident: u64,
}

impl Memory {
    /// Where the system tells.
    pub(crate) fn now() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/self/statm").ok()?;
        let mut pages = text.split(' ').map(str::parse::<u64>);
        let mut octets = || Some(pages.next()?.ok()? * PAGE);
        Some(Self {
            virtual_size: octets()?,
            resident: octets()?,
        })
    }
}

impl Manager<'_> {
    pub(crate) fn totals(&self) -> Totals {
        let control = &self.service.control;
        let mut totals = Totals {
            amqp_connections: self.service.connections.len(),
            links: control.links().count(),
            addresses: control.addresses().count(),
            routers: control.routers().iter().filter(|r| !r.is_self).count(),
            ..Totals::default()
        };
        for status in &self.statuses {
            totals.counts.add(&status.counts);
            totals.tcp_connections += status.tcp.len();
            for (link, status) in &status.links {
                totals.stuck += u64::from(status.stuck);
                totals.undelivered += u64::from(status.undelivered);
                match link.direction {
                    Direction::Incoming => totals.unsettled += u64::from(status.unsettled),
                    Direction::Outgoing if status.undelivered > 0 && status.credit == 0 => {
                        totals.blocked += 1;
                    }
                    Direction::Outgoing => {}
                }
            }
        }
        totals
    }

    /// The text of `/metrics`.
    pub(crate) fn exposition(&self) -> String {
        let mut out = Exposition::default();
        self.expose_router(&mut out);
        self.expose_own(&mut out);
        self.expose_refusals(&mut out);
        self.expose_addresses(&mut out);
        self.expose_services(&mut out);
        out.into_text()
    }

    /// The metrics of skupper-router.
    fn expose_router(&self, out: &mut Exposition) {
        let totals = self.totals();
        let outcomes = &totals.counts.outcomes;
        let connections = totals.amqp_connections + totals.tcp_connections;
        let changed = self.service.control.last_change();
        let changed = changed.map_or(0, |at| unix(at).as_secs());
        let memory = Memory::now().unwrap_or_default();
        out.gauge("qdr_connections_total", "Connections.", connections);
        out.gauge("qdr_links_total", "Links.", totals.links);
        out.gauge("qdr_addresses_total", "Addresses.", totals.addresses);
        out.gauge(
            "qdr_routers_total",
            "Other routers of the network.",
            totals.routers,
        );
        out.gauge(
            "qdr_deliveries_stuck_total",
            "Deliveries that have been in this router for more than 10 s.",
            totals.stuck,
        );
        out.gauge(
            "qdr_links_blocked_total",
            "Links with deliveries to send and no credit.",
            totals.blocked,
        );
        out.gauge(
            "qdr_last_topology_change_timestamp",
            "When the network last changed, in seconds since 1970; 0 if it never did.",
            changed,
        );
        for (name, help, count) in [
            (
                "qdr_presettled_deliveries_total",
                "Deliveries that came settled.",
                outcomes.presettled,
            ),
            (
                "qdr_dropped_presettled_deliveries_total",
                "Settled deliveries dropped since their receiver was too slow.",
                outcomes.dropped_presettled,
            ),
            (
                "qdr_accepted_deliveries_total",
                "Deliveries accepted.",
                outcomes.accepted,
            ),
            (
                "qdr_released_deliveries_total",
                "Deliveries released.",
                outcomes.released,
            ),
            (
                "qdr_rejected_deliveries_total",
                "Deliveries rejected.",
                outcomes.rejected,
            ),
            (
                "qdr_modified_deliveries_total",
                "Deliveries modified.",
                outcomes.modified,
            ),
            (
                "qdr_deliveries_ingress_total",
                "Deliveries that came in from clients.",
                totals.counts.ingress,
            ),
            (
                "qdr_deliveries_egress_total",
                "Deliveries that went out to clients.",
                totals.counts.egress,
            ),
            (
                "qdr_deliveries_transit_total",
                "Deliveries that went on to other routers.",
                totals.counts.transit,
            ),
            (
                "qdr_deliveries_delayed_1sec_total",
                "Deliveries settled after more than 1 s, up to 10 s.",
                outcomes.delayed_1s,
            ),
            (
                "qdr_deliveries_delayed_10sec_total",
                "Deliveries settled after more than 10 s.",
                outcomes.delayed_10s,
            ),
        ] {
            out.counter(name, help, count);
        }
        for (name, help, count) in [
            (
                "qdr_tcp_service_connections",
                "Connections of TCP clients and services.",
                totals.tcp_connections,
            ),
            (
                "qdr_amqp_service_connections",
                "Connections that speak AMQP.",
                totals.amqp_connections,
            ),
            (
                "qdr_http1_service_connections",
                "Connections of an HTTP adaptor, which this router does not have.",
                0,
            ),
            (
                "qdr_http2_service_connections",
                "Connections of an HTTP adaptor, which this router does not have.",
                0,
            ),
        ] {
            out.gauge(name, help, count);
        }
        out.gauge(
            "qdr_router_vmsize_bytes",
            "Octets of address space of the process.",
            memory.virtual_size,
        );
        out.gauge(
            "qdr_router_rss_bytes",
            "Octets of memory of the process.",
            memory.resident,
        );
        out.gauge(
            "amqp_router_deliveries_undelivered",
            "Deliveries that wait for credit or room to leave.",
            totals.undelivered,
        );
        out.gauge(
            "amqp_router_deliveries_unsettled",
            "Deliveries whose outcome their senders wait for.",
            totals.unsettled,
        );
        let latency = &totals.counts.latency;
        out.family(
            Metric::Histogram,
            "amqp_router_delivery_seconds",
            "From the arrival of an unsettled delivery until its receiver settled it.",
        )
        .histogram(&LATENCY_BOUNDS, &latency.counts, latency.seconds());
    }

    fn expose_own(&self, out: &mut Exposition) {
        let version = env!("CARGO_PKG_VERSION");
        let id = self.config.router_id();
        let mode = self.config.singleton("router").text("mode");
        let labels = [
            ("version", version),
            ("router", id),
            ("mode", mode.unwrap_or_default()),
        ];
        out.family(
            Metric::Gauge,
            "amqp_router_build_info",
            "Which router this is.",
        )
        .sample(&labels, 1);
        out.gauge(
            "amqp_router_start_time_seconds",
            "When the router started, in seconds since 1970.",
            unix(self.service.started).as_secs(),
        );
        let mut busy = out.family(
            Metric::Gauge,
            "amqp_router_worker_busy_ratio",
            "The share of the last seconds that a worker has worked.",
        );
        for (number, worker) in self.service.workers.iter().enumerate() {
            let share = f64::from(worker.load.busy_permille()) / 1000.0;
            busy.sample(&[("worker", &number.to_string())], share);
        }
    }

    fn expose_refusals(&self, out: &mut Exposition) {
        let policy = self.service.governance.policies.counts();
        let sources = self.service.source_counts();
        let mut refused = out.family(
            Metric::Counter,
            "amqp_router_connections_refused_total",
            "Connections refused: too many a second from one source, a TLS handshake that failed, \
             an authentication that failed, or policy.",
        );
        for (reason, count) in [
            ("rate", sources.connections_refused),
            ("tls", sources.handshakes_failed),
            ("login", sources.logins_failed),
            ("policy", policy.denied),
        ] {
            refused.sample(&[("reason", reason)], count);
        }
        out.counter(
            "amqp_router_links_refused_total",
            "Links that policy refused.",
            policy.links_denied,
        );
        out.counter(
            "amqp_router_messages_too_large_total",
            "Messages larger than policy allows.",
            policy.message_sizes_denied,
        );
    }

    /// The busiest addresses one by one, all others together.
    fn expose_addresses(&self, out: &mut Exposition) {
        let mut counted: HashMap<AddressId, AddressCounts> = HashMap::new();
        for (id, counts) in self.statuses.iter().flat_map(|status| &status.addresses) {
            counted.entry(*id).or_default().add(counts);
        }
        let control = &self.service.control;
        let named = counted.into_iter().filter_map(|(id, counts)| {
            let address = control.address(id)?;
            Some((address.entry.key.as_str(), counts))
        });
        let mut rows: Vec<(&str, AddressCounts)> = named.collect();
        rows.sort_unstable_by_key(|(key, counts)| (std::cmp::Reverse(counts.total()), *key));
        let rest = rows.split_off(rows.len().min(MOST_ADDRESSES));
        let mut others = AddressCounts::default();
        for (_, counts) in rest {
            others.add(&counts);
        }
        rows.push(("", others));
        let mut family = out.family(
            Metric::Counter,
            "amqp_router_address_deliveries_total",
            "Deliveries by address, the busiest ones; those of all others have no address.",
        );
        for (address, counts) in rows {
            for (direction, count) in [
                ("ingress", counts.ingress),
                ("egress", counts.egress),
                ("transit", counts.transit),
            ] {
                family.sample(&[("address", address), ("direction", direction)], count);
            }
        }
    }

    /// TCP listeners and connectors that have had connections.
    fn expose_services(&self, out: &mut Exposition) {
        let services = self.service.tcp.services();
        let mut services: Vec<(&str, &TcpService, u64)> = services
            .map(|(kind, service)| {
                let counts = &service.counts;
                let tried =
                    counts.opened.load(Ordering::Relaxed) + counts.failed.load(Ordering::Relaxed);
                (kind, service, tried)
            })
            .filter(|(.., tried)| *tried > 0)
            .collect();
        services.sort_by_key(|(.., tried)| std::cmp::Reverse(*tried));
        services.truncate(MOST_SERVICES);
        let mut connections = out.family(
            Metric::Counter,
            "amqp_router_tcp_connections_total",
            "Connections of TCP listeners and connectors: opened, closed, or not made.",
        );
        for (kind, service, _) in &services {
            let counts = &service.counts;
            for (event, count) in [
                ("opened", &counts.opened),
                ("closed", &counts.closed),
                ("failed", &counts.failed),
            ] {
                let labels = [("kind", *kind), ("name", &service.name), ("event", event)];
                connections.sample(&labels, count.load(Ordering::Relaxed));
            }
        }
        let mut octets = out.family(
            Metric::Counter,
            "amqp_router_tcp_octets_total",
            "Octets read from (in) and written to (out) the sockets of TCP listeners and connectors.",
        );
        for (kind, service, _) in &services {
            let counts = &service.counts;
            for (direction, count) in [("in", &counts.octets_in), ("out", &counts.octets_out)] {
                let labels = [
                    ("kind", *kind),
                    ("name", &service.name),
                    ("direction", direction),
                ];
                octets.sample(&labels, count.load(Ordering::Relaxed));
            }
        }
    }
}

/// A moment as time since 1970.
fn unix(at: Instant) -> Duration {
    let at = SystemTime::now().checked_sub(at.elapsed());
    let since = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    since.unwrap_or_default()
}

/// Addresses that have figures of their own.
const MOST_ADDRESSES: usize = 100;
/// TCP listeners and connectors that do.
const MOST_SERVICES: usize = 1000;
/// Octets of a page of memory, on the systems that have `/proc`.
const PAGE: u64 = 4096;
