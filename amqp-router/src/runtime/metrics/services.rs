//! Addresses, and TCP listeners and connectors, one by one.

use std::cmp::Reverse;
use std::sync::atomic::Ordering;

use super::{Figures, MOST_SERVICES};
use crate::management::{Exposition, Metric};

impl Figures {
    /// The busiest addresses one by one, all others together.
    pub(super) fn expose_addresses(&self, out: &mut Exposition) {
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
    pub(super) fn expose_services(&self, out: &mut Exposition) {
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
