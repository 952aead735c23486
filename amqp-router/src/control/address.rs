//! Addresses: what clients write, and the key under which the router files them.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest address that a link or a message may name, in bytes.
pub(crate) const MAX_ADDRESS_LEN: usize = 2048;

/// Octets of the longest id that a router may have.
pub(crate) const MAX_ROUTER_ID_LEN: usize = 255;

/// The area that every router is in; the protocol has room for more, the network has one.
const AREA: &str = "0";

/// What a router puts ahead of its addresses where it takes streams for them whose octets do not
/// wait for an answer. Nobody else serves such an address, so such octets come to nobody else.
const PROMPT: &str = "tcp.prompt";

/// The key of the way into the network, of an edge router.
pub(crate) const UPLINK: &str = "L_edge";

/// An address as the table files it: one letter for its class, then its text.
///
/// The classes are those of the inter-router protocol (`reference/router/inter-router-protocol.md`
/// §4): `L` this router only, `T` every router, `R` a router, `H` an edge router, `N` a network,
/// `A` an area, and `M` for mobile addresses, which is what applications use.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AddressKey(Arc<str>);

impl AddressKey {
    /// The key of a mobile address.
    pub(crate) fn mobile(text: &str) -> Self {
        Self::of_class('M', text)
    }

    /// The key of an address that never leaves this router.
    pub(crate) fn local(text: &str) -> Self {
        Self::of_class('L', text)
    }

    /// The key of whatever is at another router.
    pub(crate) fn router(id: &str) -> Self {
        Self::of_class('R', id)
    }

    /// The key of everything behind an edge router.
    pub(crate) fn edge(id: &str) -> Self {
        Self::of_class('H', id)
    }

    /// A key as routers write it to each other; none if it is not of a class that they share.
    pub(crate) fn parse(key: &str) -> Option<Self> {
        let shared = key.starts_with(['M', 'N', 'H']) && key.len() <= MAX_ADDRESS_LEN + 1;
        shared.then(|| Self(key.into()))
    }

    fn of_class(class: char, text: &str) -> Self {
        let mut key = String::with_capacity(text.len() + 1);
        key.push(class);
        key.push_str(text);
        Self(key.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Of whatever is beyond an edge router.
    pub(crate) fn uplink() -> Self {
        Self::local(&UPLINK[1..])
    }

    /// The letter of the class.
    pub(crate) fn class(&self) -> char {
        self.0.chars().next().unwrap_or('M')
    }

    /// The address without its class.
    pub(crate) fn text(&self) -> &str {
        self.0.get(1..).unwrap_or_default()
    }
}

impl fmt::Debug for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for AddressKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What a router must know of itself to tell its own addresses from others'.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) id: String,
    pub(crate) edge: bool,
    pub(crate) network: Option<String>,
    /// What the network was called until a moment ago: what is on its way has addresses of that name.
    pub(crate) former: Option<String>,
    pub(crate) tenant: Option<String>,
}

impl Identity {
    /// Files an address as a client wrote it.
    ///
    /// A scheme and host are dropped (`amqp:/x`, `ws://host/x` and `x` are the same address) and so
    /// is one trailing `.` or `/`.
    pub(crate) fn key(&self, address: &str) -> AddressKey {
        let text = canonical(address);
        let mut parts = text.split('/');
        match parts.next() {
            Some("_local") => AddressKey::local(rest(text, 1)),
            Some("_topo") => self.topological(parts.next(), parts.next(), rest(text, 3)),
            Some("_edge") => self.edge(parts.next(), rest(text, 2)),
            Some("_xtopo") => match parts.next() {
                Some(network) if self.is_foreign(network) => self.foreign(network),
                _ => self.topological(parts.next(), parts.next(), rest(text, 4)),
            },
            Some("_xedge") => match parts.next() {
                Some(network) if self.is_foreign(network) => self.foreign(network),
                _ => self.edge(parts.next(), rest(text, 3)),
            },
            _ => AddressKey::mobile(text),
        }
    }

    /// A new address that only this router serves, for a receiver that asked for a dynamic source;
    /// `discriminator` makes it unique.
    pub(crate) fn dynamic_source(&self, discriminator: &str) -> String {
        let tenant = self
            .tenant
            .as_deref()
            .map(|t| format!("{t}/"))
            .unwrap_or_default();
        let id = &self.id;
        match (self.edge, &self.network) {
            (false, None) => format!("amqp:/_topo/{AREA}/{id}/{tenant}temp.{discriminator}"),
            (true, None) => format!("amqp:/_edge/{id}/{tenant}temp.{discriminator}"),
            (false, Some(net)) => {
                format!("amqp:/_xtopo/{net}/{AREA}/{id}/{tenant}temp.{discriminator}")
            }
            (true, Some(net)) => format!("amqp:/_xedge/{net}/{id}/{tenant}temp.{discriminator}"),
        }
    }

    /// A new address for a sender that asked for a dynamic target.
    pub(crate) fn dynamic_target(&self, discriminator: &str) -> String {
        format!("amqp:/_$temp.{discriminator}")
    }

    fn topological(&self, area: Option<&str>, router: Option<&str>, text: &str) -> AddressKey {
        let all = router == Some("all");
        match area {
            Some("all") if all => AddressKey::of_class('T', text),
            Some(AREA) if all => AddressKey::of_class('T', text),
            Some(AREA) if router == Some(&self.id) => match after_prompt(text) {
                Some(address) => AddressKey::mobile(address),
                None => AddressKey::local(text),
            },
            _ if self.edge => AddressKey::uplink(),
            Some(AREA) => AddressKey::of_class('R', router.unwrap_or_default()),
            other => AddressKey::of_class('A', other.unwrap_or_default()),
        }
    }

    fn edge(&self, router: Option<&str>, text: &str) -> AddressKey {
        match router {
            Some(id) if id == self.id => AddressKey::local(text),
            other => AddressKey::of_class('H', other.unwrap_or_default()),
        }
    }

    fn is_foreign(&self, network: &str) -> bool {
        network != "0"
            && self.network.as_deref().is_some_and(|mine| mine != network)
            && self.former.as_deref() != Some(network)
    }

    fn foreign(&self, network: &str) -> AddressKey {
        if self.edge {
            AddressKey::uplink()
        } else {
            AddressKey::of_class('N', network)
        }
    }
}

/// Where a router, which others call `0/<id>`, takes prompt streams for an address.
pub(crate) fn prompt_address(router: &str, address: &str) -> String {
    format!("amqp:/_topo/{router}/{PROMPT}/{address}")
}

/// The address that prompt streams are for, if they go where [`prompt_address`] says.
pub(crate) fn prompt_for(address: &str) -> Option<&str> {
    let path = canonical(address).strip_prefix("_topo/")?;
    after_prompt(path.splitn(3, '/').nth(2)?)
}

fn after_prompt(text: &str) -> Option<&str> {
    text.strip_prefix(PROMPT)?.strip_prefix('/')
}

/// The address without scheme, host, leading slash and one trailing separator.
pub(crate) fn canonical(address: &str) -> &str {
    let path = match address.strip_prefix('/').or_else(|| after_scheme(address)) {
        Some(rest) => after_host(rest),
        None => own_scheme(address).unwrap_or(address),
    };
    path.strip_suffix(['.', '/']).unwrap_or(path)
}

/// Where an address leads whose beginning says nothing of it: a URL of another scheme than AMQP's.
pub(crate) fn behind_url(address: &str) -> Option<&str> {
    let own = own_scheme(address).is_some_and(|rest| rest.starts_with('/'));
    let is_url = after_scheme(address).is_some() || address.starts_with("//");
    (is_url && !own).then(|| canonical(address))
}

/// What follows the first `:/`, whatever is before it, as skrouterd has it: all routers must file
/// an address under the same key. A colon at the start or right behind another is none.
fn after_scheme(address: &str) -> Option<&str> {
    let octets = address.as_bytes();
    let mut at = match address.starts_with('/') {
        true => return None,
        false => 1,
    };
    loop {
        at += 1 + octets.get(at..)?.iter().position(|&octet| octet == b':')?;
        if octets.get(at) == Some(&b'/') {
            return Some(&address[at + 1..]);
        }
        at += 1;
    }
}

/// The path of a URL behind its scheme and a first slash: a second one stands before a host.
fn after_host(rest: &str) -> &str {
    match rest.strip_prefix('/') {
        Some(authority) => authority.split_once('/').map_or("", |(_, path)| path),
        None => rest,
    }
}

fn own_scheme(address: &str) -> Option<&str> {
    let rest = address.strip_prefix("amqp:");
    rest.or_else(|| address.strip_prefix("amqps:"))
}

/// What follows the first `n` segments of `text`.
fn rest(text: &str, n: usize) -> &str {
    text.splitn(n + 1, '/').nth(n).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interior() -> Identity {
        Identity {
            id: "R1".into(),
            edge: false,
            ..Identity::default()
        }
    }

    fn keys(identity: &Identity, cases: &[(&str, &str)]) {
        for (wire, key) in cases {
            assert_eq!(identity.key(wire).as_str(), *key, "{wire}");
        }
    }

    #[test]
    fn every_way_to_write_a_mobile_address_is_one_key() {
        keys(
            &interior(),
            &[
                ("a/b", "Ma/b"),
                ("amqp:/a/b", "Ma/b"),
                ("amqp://host:5672/a/b", "Ma/b"),
                ("amqps://host/a/b/", "Ma/b"),
                ("/a/b.", "Ma/b"),
                ("a.b", "Ma.b"),
                ("", "M"),
            ],
        );
    }

    /// As skrouterd does it, case by case.
    #[test]
    fn a_url_of_any_scheme_is_its_path() {
        keys(
            &interior(),
            &[
                ("ws://host/q", "Mq"),
                ("ws:/q", "Mq"),
                ("http://host:1/a/q", "Ma/q"),
                ("foo+bar.1://host/q/", "Mq"),
                ("AMQP://host/q", "Mq"),
                ("ws:///q", "Mq"),
                ("ws:////q", "M/q"),
                ("ws://host//q", "M/q"),
                ("ws://host", "M"),
                ("ws://", "M"),
                ("ws:/", "M"),
                ("//host/q", "Mq"),
                ("///q", "Mq"),
                ("//host", "M"),
                ("a/b:/q", "Mq"),
                ("a/b://host/q", "Mq"),
                ("a:b://host/q", "Mq"),
                ("amqp:amqp:/q", "Mq"),
                ("amqp:ws://host/q", "Mq"),
                ("x/://host/q", "Mq"),
                ("ws://host/_topo/0/R2/x", "RR2"),
                // And these are none.
                ("ws:q", "Mws:q"),
                ("a:b", "Ma:b"),
                ("a:b/q", "Ma:b/q"),
                ("q:", "Mq:"),
                ("a::/q", "Ma::/q"),
                ("a:\u{e4}:/q", "Mq"),
                ("a:://host/q", "Ma:://host/q"),
                (":/q", "M:/q"),
                ("://host/q", "M://host/q"),
                ("/ws://host/q", "Mws://host/q"),
                ("a//host/q", "Ma//host/q"),
                ("ws://host/b://c/q", "Mb://c/q"),
            ],
        );
    }

    #[test]
    fn what_a_foreign_url_leads_to_is_told_from_what_begins_it() {
        for (address, path) in [
            ("queue.x:/secret", Some("secret")),
            ("queue/x://host/secret", Some("secret")),
            ("amqp:x:/secret", Some("secret")),
            ("//host/secret", Some("secret")),
            ("amqp:/q", None),
            ("amqps://host/x:/q", None),
            ("amqp:q", None),
            ("/x:/q", None),
            ("q", None),
            ("", None),
        ] {
            assert_eq!(behind_url(address), path, "{address}");
        }
    }

    #[test]
    fn topological_addresses_are_filed_by_who_they_name() {
        keys(
            &interior(),
            &[
                ("_local/x/y", "Lx/y"),
                ("_topo/0/R1/x", "Lx"),
                ("_topo/0/R2/x", "RR2"),
                ("_topo/0/all/x", "Tx"),
                ("_topo/all/all/x", "Tx"),
                ("_topo/9/R1/x", "A9"),
                ("_edge/E1/x", "HE1"),
                ("_edge/R1/x", "Lx"),
                ("_xtopo/other/0/R1/x", "Lx"),
            ],
        );
    }

    #[test]
    fn prompt_streams_find_the_address_at_one_router() {
        let address = prompt_address("0/R1", "a/b");
        assert_eq!(interior().key(&address).as_str(), "Ma/b");
        let other = Identity {
            id: "R2".into(),
            ..interior()
        };
        assert_eq!(other.key(&address).as_str(), "RR1");
        assert_eq!(prompt_for(&address), Some("a/b"));
        for other in ["a/b", "tcp.prompt/a", "amqp:/_topo/0/R1/temp.x", "_topo/0"] {
            assert_eq!(prompt_for(other), None);
        }
    }

    #[test]
    fn an_edge_router_sends_what_is_not_its_own_to_its_uplink() {
        let edge = Identity {
            edge: true,
            id: "E1".into(),
            ..interior()
        };
        keys(
            &edge,
            &[
                ("_edge/E1/x", "Lx"),
                ("_edge/E2/x", "HE2"),
                ("_topo/0/R1/x", "L_edge"),
            ],
        );
    }

    #[test]
    fn another_network_is_a_key_of_its_own() {
        let here = Identity {
            network: Some("here".into()),
            ..interior()
        };
        keys(
            &here,
            &[
                ("_xtopo/there/0/R1/x", "Nthere"),
                ("_xtopo/here/0/R1/x", "Lx"),
                ("_xedge/there/E/x", "Nthere"),
            ],
        );
    }

    #[test]
    fn a_dynamic_source_leads_back_to_this_router() {
        for identity in [
            interior(),
            Identity {
                edge: true,
                ..interior()
            },
            Identity {
                network: Some("n".into()),
                ..interior()
            },
            Identity {
                network: Some("n".into()),
                edge: true,
                ..interior()
            },
        ] {
            let key = identity.key(&identity.dynamic_source("abc"));
            assert_eq!(key.as_str(), "Ltemp.abc");
        }
    }
}
