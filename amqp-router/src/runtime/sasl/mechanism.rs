//! The SASL mechanisms we speak, and how attributes name them.

use std::fmt;

use crate::runtime::scram::ScramHash;

/// The mechanisms we speak, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// The peer is who its TLS certificate says (RFC 4422 appendix A).
    External,
    /// A password that is proved and not told (RFC 5802).
    Scram(ScramHash),
    /// Name and password (RFC 4616).
    Plain,
    /// Nobody in particular (RFC 4505).
    Anonymous,
}

impl Mechanism {
    const ALL: [Self; 6] = [
        Self::External,
        Self::Scram(ScramHash::Sha512),
        Self::Scram(ScramHash::Sha256),
        Self::Scram(ScramHash::Sha1),
        Self::Plain,
        Self::Anonymous,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::External => "EXTERNAL",
            Self::Scram(hash) => hash.mechanism(),
            Self::Plain => "PLAIN",
            Self::Anonymous => "ANONYMOUS",
        }
    }

    /// SASL names are upper case on the wire; configurations are read with more patience.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.as_str().eq_ignore_ascii_case(name))
    }

    /// What a `saslMechanisms` attribute names and we do not speak.
    pub(super) fn unknown(names: Option<&str>) -> Vec<&str> {
        let names = names.unwrap_or_default().split([' ', ',', '\t']);
        names
            .filter(|name| !name.is_empty() && Self::from_name(name).is_none())
            .collect()
    }

    pub(super) fn needs_users(self) -> bool {
        matches!(self, Self::Plain | Self::Scram(_))
    }

    /// The mechanisms that a `saslMechanisms` attribute allows; without a list, all of them.
    /// Those that only other implementations have are left out.
    pub(crate) fn list(names: Option<&str>) -> Vec<Self> {
        let Some(names) = names.filter(|names| !names.trim().is_empty()) else {
            return Self::ALL.to_vec();
        };
        let names: Vec<_> = names
            .split([' ', ',', '\t'])
            .filter_map(Self::from_name)
            .collect();
        Self::ALL
            .into_iter()
            .filter(|mechanism| names.contains(mechanism))
            .collect()
    }
}

impl AsRef<str> for Mechanism {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_knows_the_same_mechanisms() {
        let known = crate::management::config::check::SASL_MECHANISMS;
        assert_eq!(known, Mechanism::ALL.map(Mechanism::as_str));
        assert_eq!(Mechanism::unknown(Some("PLAIN, plane")), ["plane"]);
    }
}
