//! The hosts that a group's users may come from: `remoteHosts`.

use std::net::{IpAddr, ToSocketAddrs};

/// One entry of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    Any,
    /// From the first to the last address, both of one family.
    Range(IpAddr, IpAddr),
}

impl Hosts {
    /// Reads `*`, an address or a host's name, or two with `-` between them. A name is looked up,
    /// which may block.
    ///
    /// # Errors
    /// A name without an address or with several; a range that mixes families or runs backwards.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Ok(host) = address(text) {
            return Ok(Self::Range(host, host));
        }
        let Some((first, last)) = text.split_once('-') else {
            let host = address(text)?;
            return Ok(Self::Range(host, host));
        };
        let (first, last) = (address(first.trim())?, address(last.trim())?);
        if first.is_ipv4() != last.is_ipv4() {
            return Err(format!("'{text}' mixes IPv4 and IPv6"));
        }
        if first > last {
            return Err(format!("'{text}' must have the lower address first"));
        }
        Ok(Self::Range(first, last))
    }

    pub(crate) fn contain(&self, host: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Range(first, last) => {
                let host = host.to_canonical();
                first.is_ipv4() == host.is_ipv4() && (*first..=*last).contains(&host)
            }
        }
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let found = (text, 0)
        .to_socket_addrs()
        .map_err(|error| format!("'{text}' is no address and no known host: {error}"))?;
    let mut found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    found.dedup();
    match found[..] {
        [only] => Ok(only),
        _ => Err(format!("'{text}' has {} addresses, not one", found.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_is_between_its_ends() {
        for (hosts, host, expected) in [
            ("*", "10.0.0.1", true),
            ("*", "::1", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.0-10.0.0.255", "10.0.0.77", true),
            ("10.0.0.0-10.0.0.255", "10.0.1.0", false),
            ("::1-::ff", "::7f", true),
            ("::-ffff::", "10.0.0.1", false),
        ] {
            let hosts_read = Hosts::parse(hosts).unwrap();
            let contains = hosts_read.contain(host.parse().unwrap());
            assert_eq!(contains, expected, "{hosts} {host}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["10.0.0.9-10.0.0.1", "10.0.0.1-::1", "", "300.1.1.1-1.1.1.1"] {
            assert!(Hosts::parse(text).is_err(), "{text}");
        }
    }
}
