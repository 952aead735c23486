//! What a router as a whole does.

use super::Figures;
use super::memory::Memory;
use crate::forwarding::stats::{LATENCY_BOUNDS, Pool};
use crate::management::{Exposition, Metric};
use crate::runtime::manage::VERSION;

impl Figures {
    /// The metrics of skupper-router.
    pub(super) fn expose_router(&self, out: &mut Exposition) {
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
    pub(super) fn expose_pools(&self, out: &mut Exposition) {
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

    pub(super) fn expose_own(&self, out: &mut Exposition) {
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
}
