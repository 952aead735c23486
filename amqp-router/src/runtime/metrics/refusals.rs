//! Whom the router has refused or cut off.

use super::Figures;
use crate::management::{Exposition, Metric};

impl Figures {
    pub(super) fn expose_refusals(&self, out: &mut Exposition) {
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
}
