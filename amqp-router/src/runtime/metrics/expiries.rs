//! When certificates end.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Figures, MOST_SERVICES, since_1970};
use crate::management::{Exposition, Metric};
use crate::runtime::tls::expiry::Expiry;

impl Figures {
    pub(super) fn expose_expiries(&self, out: &mut Exposition) {
        let mut expiry = out.family(
            Metric::Gauge,
            "amqp_router_certificate_expiry_timestamp_seconds",
            "When the first certificate in a file of an sslProfile expires, seconds since 1970.",
        );
        for ((profile, attribute), seconds) in &self.expiries {
            expiry.sample(&[("profile", profile), ("attribute", attribute)], seconds);
        }
    }
}

/// The first end of the certificates that each attribute of a profile leads to.
pub(super) fn first_expiries(
    expiries: Vec<(Arc<str>, Expiry)>,
) -> BTreeMap<(Arc<str>, &'static str), u64> {
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

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
