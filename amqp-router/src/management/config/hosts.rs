//! Hosts as attributes name them, and what cannot be one.

use std::net::Ipv6Addr;

/// What keeps a text from being the name or the address of any host, in words that fit behind
/// `must be a host name or an IP address:`.
pub(crate) fn unfit(host: &str) -> Option<String> {
    if host.contains(':') {
        let address = host.split('%').next().unwrap_or_default();
        let text = "':' is in IPv6 addresses only, without brackets, and the port has an \
                    attribute of its own";
        return address
            .parse::<Ipv6Addr>()
            .is_err()
            .then(|| text.to_owned());
    }
    let fits = |c: &char| c.is_alphanumeric() || "-_.".contains(*c);
    let wrong = host.chars().find(|c| !fits(c))?;
    Some(format!("'{}' can be in neither", wrong.escape_debug()))
}

/// One of the servers in `failoverUrls`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Substitute<'a> {
    pub(crate) scheme: &'a str,
    pub(crate) host: &'a str,
    pub(crate) port: Option<&'a str>,
}

/// The servers of a list like `amqp://host:port, …`.
pub(crate) fn substitutes(list: &str) -> impl Iterator<Item = Substitute<'_>> {
    let urls = list.split([',', ' ']).filter(|url| !url.is_empty());
    urls.map(|url| {
        let (scheme, rest) = url.split_once("://").unwrap_or(("amqp", url));
        let (host, port) = host_and_port(rest);
        Substitute { scheme, host, port }
    })
}

/// Splits `host:port`; the brackets of an IPv6 host go.
fn host_and_port(text: &str) -> (&str, Option<&str>) {
    let bracketed = text.strip_prefix('[');
    match bracketed.and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            // More than one colon: an IPv6 address by itself.
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (text, None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_ipv6_loses_its_brackets() {
        assert_eq!(host_and_port("[::1]:5671"), ("::1", Some("5671")));
        assert_eq!(host_and_port("[::1]"), ("::1", None));
        assert_eq!(host_and_port("fe80::1"), ("fe80::1", None));
        assert_eq!(host_and_port("a.b:1"), ("a.b", Some("1")));
        assert_eq!(host_and_port("a.b"), ("a.b", None));
    }

    #[test]
    fn hosts_have_names_or_addresses() {
        for host in [
            "localhost",
            "a-b.example.",
            "my_service",
            "127.0.0.1",
            "::1",
            "fe80::1%eth0",
            "bücher.example",
        ] {
            assert_eq!(unfit(host), None, "{host}");
        }
        for (host, why) in [
            ("not a host", "' ' can be in neither"),
            ("amqp/host", "'/' can be in neither"),
            ("\"localhost\"", "'\\\"' can be in neither"),
            ("a\u{7}", "'\\u{7}' can be in neither"),
            ("127.0.0.1:5672", "the port has an attribute of its own"),
            ("[::1]", "without brackets"),
        ] {
            let reason = unfit(host).expect(host);
            assert!(reason.contains(why), "{host}: {reason}");
        }
    }
}
