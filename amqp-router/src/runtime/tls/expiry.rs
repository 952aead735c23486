//! When certificates end, and when that is worth saying.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::identity::{hex, subject};

/// One certificate of a profile and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// The attribute of the profile that leads to it: `certFile` or `caCertFile`.
    pub(crate) attribute: &'static str,
    /// As RFC 2253 writes it.
    pub(crate) subject: String,
    /// SHA-256, hexadecimal.
    pub(crate) fingerprint: String,
    pub(crate) not_after: SystemTime,
}

/// How near the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Horizon {
    Over,
    Day,
    Week,
    Month,
}

impl Expiry {
    /// `None` for what cannot be read: it is refused elsewhere.
    pub(super) fn of(attribute: &'static str, der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        Some(Self {
            attribute,
            subject: subject(certificate.subject()),
            fingerprint: hex(&digest::SHA256, der),
            not_after: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?,
        })
    }

    /// `None` when the end is far.
    pub(crate) fn horizon(&self, now: SystemTime) -> Option<Horizon> {
        let Ok(left) = self.not_after.duration_since(now) else {
            return Some(Horizon::Over);
        };
        [(1, Horizon::Day), (7, Horizon::Week), (30, Horizon::Month)]
            .into_iter()
            .find(|(days, _)| left <= Duration::from_secs(days * DAY))
            .map(|(_, horizon)| horizon)
    }

    /// The log line.
    pub(crate) fn announcement(&self, now: SystemTime) -> String {
        let certificate = format!(
            "{}: the certificate of '{}' (SHA-256 {:.16}...)",
            self.attribute, self.subject, self.fingerprint
        );
        match self.not_after.duration_since(now) {
            Ok(left) => format!(
                "{certificate} expires in {} hours; renew the file, no restart is needed",
                left.as_secs() / 3600
            ),
            Err(_) => format!("{certificate} has expired; peers will refuse it"),
        }
    }
}

const DAY: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_the_end_the_nearer_the_horizon() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 * DAY);
        let ends_in = |hours: u64| Expiry {
            attribute: "certFile",
            subject: "CN=x".into(),
            fingerprint: "00112233445566778899".into(),
            not_after: now + Duration::from_secs(hours * 3600),
        };
        assert_eq!(ends_in(24 * 31).horizon(now), None);
        assert_eq!(ends_in(24 * 30).horizon(now), Some(Horizon::Month));
        assert_eq!(ends_in(24 * 7).horizon(now), Some(Horizon::Week));
        assert_eq!(ends_in(24).horizon(now), Some(Horizon::Day));
        let later = now + Duration::from_secs(2 * 3600);
        assert_eq!(ends_in(1).horizon(later), Some(Horizon::Over));
        assert!(ends_in(1).announcement(later).contains("has expired"));
        assert!(ends_in(5).announcement(now).contains("expires in 5 hours"));
        assert!(ends_in(5).announcement(now).starts_with("certFile: "));
    }
}
