//! `/metrics`: what a router counts, gathered from the control plane and all workers at one moment
//! (`reference/router/config-and-management.md` §4; `docs/metrics.md` has every name).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::adaptors::tcp::Census;
use crate::adaptors::tcp::TcpService;
use crate::forwarding::stats::{AddressCounts, Backlog, LATENCY_BOUNDS, Pool, WorkerCounts};
use crate::management::{Config, Exposition, Metric};
use crate::policy::PolicyCounts;
use crate::runtime::manage::{Manager, VERSION};
use crate::runtime::service::Service;
use crate::runtime::sources::SourceCounts;
use crate::runtime::tls::expiry::Expiry;
use crate::runtime::workers::WorkerHandle;

/// A router's totals, as management and metrics show them.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) counts: WorkerCounts,
    pub(crate) amqp_connections: usize,
    /// TCP connections that are open.
    pub(crate) tcp: Census,
    pub(crate) links: usize,
    pub(crate) addresses: usize,
    /// Routers of the network besides this one.
    pub(crate) routers: usize,
    pub(crate) backlog: Backlog,
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
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let octets = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
            Some(kibibytes * 1024)
        };
        Some(Self {
            virtual_size: octets("VmSize:")?,
            resident: octets("VmRSS:")?,
        })
    }

    /// Octets that the program has freed and its allocator keeps, where that can be asked.
    pub(crate) fn unused() -> u64 {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        if let Ok(malloc) = malloc_info::malloc_info() {
            use malloc_info::info::TotalType;
            let free = malloc.total.iter().filter_map(|total| match total.r#type {
                TotalType::Fast | TotalType::Rest => u64::try_from(total.size).ok(),
                TotalType::Mmap | TotalType::Other => None,
            });
            return free.sum();
        }
        0
    }
}

impl Totals {
    fn of(service: &Service) -> Self {
        Self {
            amqp_connections: service.connections.len(),
            links: service.control.link_count(),
            addresses: service.control.address_count(),
            routers: service.control.router_count(),
            ..Self::default()
        }
    }
}

impl Manager<'_> {
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::of(self.service);
        for worker in self.reports.totals() {
            totals.counts.add(&worker.counts);
            totals.backlog.add(&worker.backlog);
            totals.tcp.add(worker.tcp);
        }
        totals
    }
}

/// Everything that a scrape shows, at one moment.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) totals: Totals,
    router: String,
    mode: String,
    started: Duration,
    /// Zero if the network has never changed.
    changed: Duration,
    route_changes: u64,
    policy: PolicyCounts,
    /// AMQP peers that were cut off because they did not read.
    pub(crate) cut_off: u64,
    pub(crate) senders_cut_off: u64,
    pub(crate) pools: Vec<Pool>,
    sources: SourceCounts,
    workers: Vec<WorkerLoad>,
    /// Connectors by name, and whether their connection is open.
    connectors: Vec<(String, bool)>,
    /// When the first certificate of a profile's attribute ends, seconds since 1970.
    expiries: BTreeMap<(Arc<str>, &'static str), u64>,
    /// The busiest addresses by their keys.
    pub(crate) addresses: Vec<(String, AddressCounts)>,
    pub(crate) other_addresses: AddressCounts,
    pub(crate) services: Vec<(&'static str, Arc<TcpService>)>,
}

#[derive(Debug)]
struct WorkerLoad {
    worked: Duration,
    busy_permille: u32,
}

impl Figures {
    /// What the control plane knows of it.
    pub(crate) fn of(service: &Service, config: &Config) -> Self {
        let router = config.singleton("router");
        let changed = service.control.last_change();
        let load = |worker: &WorkerHandle| WorkerLoad {
            worked: worker.load.worked(),
            busy_permille: worker.load.busy_permille(),
        };
        let services = service.tcp.services();
        Self {
            totals: Totals::of(service),
            router: config.router_id().to_owned(),
            mode: router.text("mode").unwrap_or_default().to_owned(),
            started: since_1970(service.started_at),
            // From one reading of the calendar, so that it is the same in every scrape.
            changed: changed.map_or(Duration::ZERO, |changed| {
                since_1970(service.started_at + changed.duration_since(service.started))
            }),
            route_changes: service.control.route_changes(),
            policy: service.governance.policies.counts(),
            sources: service.source_counts(),
            workers: service.workers.iter().map(load).collect(),
            expiries: first_expiries(service.profiles.expiries()),
            connectors: service.connector_states().take(MOST_SERVICES).collect(),
            services: services
                .map(|(kind, one)| (kind, Arc::clone(one)))
                .collect(),
            ..Self::default()
        }
    }

    /// The text of `/metrics`.
    pub(crate) fn text(&self) -> String {
        let mut out = Exposition::default();
        self.expose_router(&mut out);
        self.expose_own(&mut out);
        self.expose_expiries(&mut out);
        self.expose_refusals(&mut out);
        self.expose_addresses(&mut out);
        self.expose_services(&mut out);
        out.into_text()
    }

    /// The metrics of skupper-router.
    fn expose_router(&self, out: &mut Exposition) {
        let totals = &self.totals;
        let outcomes = &totals.counts.outcomes;
        let connections = totals.amqp_connections + totals.tcp.all();
        let backlog = &totals.backlog;
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
            backlog.stuck,
        );
        out.gauge(
            "qdr_links_blocked_total",
            "Links that have been without credit for 10 s.",
            backlog.blocked_in + backlog.blocked_out,
        );
        out.gauge(
            "qdr_last_topology_change_timestamp",
            "When the network last changed, in seconds since 1970; 0 if it never did.",
            self.changed.as_secs(),
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
                "Connections of TCP clients and services, but for those of HTTP.",
                totals.tcp.other,
            ),
            (
                "qdr_amqp_service_connections",
                "Connections that speak AMQP.",
                totals.amqp_connections,
            ),
            (
                "qdr_http1_service_connections",
                "Connections of TCP clients that have sent requests of HTTP/1.",
                totals.tcp.http1,
            ),
            (
                "qdr_http2_service_connections",
                "Connections of TCP clients that have sent requests of HTTP/2.",
                totals.tcp.http2,
            ),
        ] {
            out.gauge(name, help, count);
        }
        if let Some(memory) = Memory::now() {
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
        }
        out.counter(
            "amqp_router_deliveries_resent_total",
            "Deliveries that a destination gave back and that went to another one.",
            totals.counts.resent,
        );
        out.gauge(
            "amqp_router_deliveries_undelivered",
            "Deliveries that wait for credit or room to leave.",
            backlog.undelivered,
        );
        out.gauge(
            "amqp_router_deliveries_unsettled",
            "Deliveries whose outcome their senders wait for.",
            backlog.unsettled,
        );
        let mut blocked = out.family(
            Metric::Gauge,
            "amqp_router_links_blocked",
            "Links that have been without credit for 10 s: senders (in) and receivers (out).",
        );
        blocked.sample(&[("direction", "in")], backlog.blocked_in);
        blocked.sample(&[("direction", "out")], backlog.blocked_out);
        let latency = &totals.counts.latency;
        out.family(
            Metric::Histogram,
            "amqp_router_delivery_seconds",
            "From the arrival of an unsettled delivery until its receiver settled it.",
        )
        .histogram(&LATENCY_BOUNDS, &latency.counts, latency.seconds());
        let waits = &totals.counts.waits;
        for (name, help, wait) in [
            (
                "amqp_router_tcp_connect_seconds",
                "For services to take the connections of TCP connectors, TLS included.",
                &waits.connect,
            ),
            (
                "amqp_router_tcp_first_octet_seconds",
                "From when a TCP listener took a client's connection until its service's first octet.",
                &waits.first_octet,
            ),
            (
                "amqp_router_http_answer_seconds",
                "From a request in a connection of a TCP listener, where that is HTTP, until its answer began.",
                &waits.http_answer,
            ),
        ] {
            out.family(Metric::Histogram, name, help).histogram(
                &LATENCY_BOUNDS,
                &wait.counts,
                wait.seconds(),
            );
        }
    }

    /// The memory of what there are many of.
    fn expose_pools(&self, out: &mut Exposition) {
        let octets = |pool: &Pool| pool.size * pool.slots;
        out.gauge(
            "qdr_alloc_pool_bytes",
            "Octets of all pools of objects.",
            self.pools.iter().map(octets).sum::<usize>(),
        );
        let mut slots = out.family(
            Metric::Gauge,
            "amqp_router_pool_objects",
            "Objects that a pool has room for, and those in use.",
        );
        for pool in &self.pools {
            for (state, count) in [("allocated", pool.slots), ("in_use", pool.used)] {
                slots.sample(&[("type", pool.kind), ("state", state)], count);
            }
        }
        let mut bytes = out.family(
            Metric::Gauge,
            "amqp_router_pool_bytes",
            "Octets of a pool of objects.",
        );
        for pool in &self.pools {
            bytes.sample(&[("type", pool.kind)], octets(pool));
        }
    }

    fn expose_own(&self, out: &mut Exposition) {
        out.counter(
            "amqp_router_route_changes_total",
            "How often the ways to other routers have become others.",
            self.route_changes,
        );
        self.expose_pools(out);
        let labels = [
            ("version", VERSION),
            ("router", &*self.router),
            ("mode", &*self.mode),
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
            self.started.as_secs_f64(),
        );
        let mut busy = out.family(
            Metric::Gauge,
            "amqp_router_worker_busy_ratio",
            "The share of the last seconds that a worker has worked.",
        );
        for (number, worker) in self.workers.iter().enumerate() {
            let share = f64::from(worker.busy_permille) / 1000.0;
            busy.sample(&[("worker", &number.to_string())], share);
        }
        let mut worked = out.family(
            Metric::Counter,
            "amqp_router_worker_busy_seconds_total",
            "Seconds that a worker has worked.",
        );
        for (number, worker) in self.workers.iter().enumerate() {
            let seconds = worker.worked.as_secs_f64();
            worked.sample(&[("worker", &number.to_string())], seconds);
        }
        let mut up = out.family(
            Metric::Gauge,
            "amqp_router_connector_up",
            "Whether the connection of a connector is open.",
        );
        for (name, is_up) in &self.connectors {
            up.sample(&[("connector", name)], u8::from(*is_up));
        }
    }

    fn expose_expiries(&self, out: &mut Exposition) {
        let mut expiry = out.family(
            Metric::Gauge,
            "amqp_router_certificate_expiry_timestamp_seconds",
            "When the first certificate in a file of an sslProfile expires, seconds since 1970.",
        );
        for ((profile, attribute), seconds) in &self.expiries {
            expiry.sample(&[("profile", profile), ("attribute", attribute)], seconds);
        }
    }

    fn expose_refusals(&self, out: &mut Exposition) {
        let (policy, sources) = (&self.policy, &self.sources);
        let mut refused = out.family(
            Metric::Counter,
            "amqp_router_connections_refused_total",
            "Connections refused: too many a second from one source, too many of one source that were not open or at all, too little memory, a TLS handshake that failed, \
             no AMQP header, no handshake in time, AMQP that broke the rules before it was open, an authentication that failed, too many logins at once from one source, more than maxConnections, or policy.",
        );
        for (reason, count) in [
            ("rate", sources.connections_refused),
            ("unopened", sources.refused_strangers),
            ("source", sources.refused_for_source),
            ("memory", sources.refused_for_memory),
            ("tls", sources.handshakes_failed),
            ("header", sources.bad_headers),
            ("timeout", sources.timed_out),
            ("opening", sources.bad_openings),
            ("login", sources.logins_failed),
            ("logins", sources.logins_refused),
            ("limit", policy.over_limit),
            ("policy", policy.opens_denied),
        ] {
            refused.sample(&[("reason", reason)], count);
        }
        out.counter(
            "amqp_router_slow_readers_total",
            "AMQP connections that were cut off because their peers did not read.",
            self.cut_off,
        );
        out.counter(
            "amqp_router_senders_cut_off_total",
            "AMQP connections that were closed as memory was short and much of theirs waited.",
            self.senders_cut_off,
        );
        out.counter(
            "amqp_router_http_connections_displaced_total",
            "Connections of HTTP listeners that were closed to let others in.",
            sources.displaced,
        );
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
        let mut refused = out.family(
            Metric::Counter,
            "amqp_router_messages_refused_total",
            "Messages that policy refused: for their target, their user-id, or what a router announced by them.",
        );
        for (reason, count) in [
            ("target", policy.message_targets_denied),
            ("user", policy.message_users_denied),
            ("announcement", policy.announcements_denied),
        ] {
            refused.sample(&[("reason", reason)], count);
        }
    }

    /// The busiest addresses one by one, all others together.
    fn expose_addresses(&self, out: &mut Exposition) {
        let busiest = self.addresses.iter().map(|(key, counts)| (&**key, counts));
        let rows = busiest.chain([("", &self.other_addresses)]);
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
        let services = self.services.iter().map(|(kind, service)| {
            let counts = &service.counts;
            let tried = [
                &counts.opened,
                &counts.failed,
                &counts.refused,
                &counts.malformed,
            ];
            let tried: u64 = tried
                .map(|count| count.load(Ordering::Relaxed))
                .iter()
                .sum();
            (*kind, &**service, tried)
        });
        let mut services: Vec<_> = services.filter(|(.., tried)| *tried > 0).collect();
        services.sort_by_key(|(.., tried)| Reverse(*tried));
        services.truncate(MOST_SERVICES);
        let mut connections = out.family(
            Metric::Counter,
            "amqp_router_tcp_connections_total",
            "Connections of TCP listeners and connectors: opened, closed, not made or refused; and streams that were not TCP's.",
        );
        for (kind, service, _) in &services {
            let counts = &service.counts;
            for (event, count) in [
                ("opened", &counts.opened),
                ("closed", &counts.closed),
                ("failed", &counts.failed),
                ("refused", &counts.refused),
                ("malformed", &counts.malformed),
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
        let mut responses = out.family(
            Metric::Counter,
            "amqp_router_http_responses_total",
            "Answers in connections of TCP listeners, where those are HTTP, by the class of their status.",
        );
        for (kind, service, _) in &services {
            let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
            let counts = service.counts.responses.each_ref();
            let counts = counts.map(|count| count.load(Ordering::Relaxed));
            // Most services are not HTTP.
            if counts.iter().any(|count| *count > 0) {
                for (class, count) in classes.into_iter().zip(counts) {
                    let labels = [("kind", *kind), ("name", &service.name), ("class", class)];
                    responses.sample(&labels, count);
                }
            }
        }
    }
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// TCP listeners and connectors, and connectors, that have figures of their own.
/// The first end of the certificates that each attribute of a profile leads to.
fn first_expiries(expiries: Vec<(Arc<str>, Expiry)>) -> BTreeMap<(Arc<str>, &'static str), u64> {
    let mut first = BTreeMap::new();
    for (profile, expiry) in expiries {
        let seconds = since_1970(expiry.not_after).as_secs();
        let key = (profile, expiry.attribute);
        if first.len() < 2 * MOST_SERVICES || first.contains_key(&key) {
            let known = first.entry(key).or_insert(seconds);
            *known = seconds.min(*known);
        }
    }
    first
}

const MOST_SERVICES: usize = 1000;

#[cfg(test)]
mod expiry_tests {
    use super::*;

    #[test]
    fn the_certificate_of_a_file_that_ends_first_is_told() {
        let end = |attribute, seconds| {
            let expiry = Expiry {
                attribute,
                subject: "CN=a".into(),
                fingerprint: "00".into(),
                not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            };
            ("server".into(), expiry)
        };
        let ends = vec![
            end("caCertFile", 9),
            end("caCertFile", 7),
            end("certFile", 8),
        ];
        let figures = Figures {
            expiries: first_expiries(ends),
            ..Figures::default()
        };
        let text = figures.text();
        for line in [
            "{profile=\"server\",attribute=\"caCertFile\"} 7\n",
            "{profile=\"server\",attribute=\"certFile\"} 8\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
