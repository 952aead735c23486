//! A vhost: its groups, its limits, and whom it turns away.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::group::{Group, words};
use super::policies::Opening;
use crate::codec::Value;

/// The rules of one `vhost` entity.
#[derive(Debug)]
pub(crate) struct Vhost {
    pub(crate) hostname: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_user: usize,
    pub(crate) max_connections_per_host: usize,
    pub(crate) allow_unknown_user: bool,
    /// Users, subjects and alternative names of certificates, and ids of neighbours (as
    /// `router:ID`) that may not connect whatever their group says.
    pub(crate) revoked: Vec<String>,
    pub(crate) groups: BTreeMap<String, Arc<Group>>,
    group_of_user: BTreeMap<String, String>,
}

impl Vhost {
    /// `attribute` gives an attribute of the entity.
    ///
    /// # Errors
    /// What is wrong, by attribute and group.
    pub(crate) fn read<'a>(attribute: impl Fn(&str) -> &'a Value) -> Result<Self, String> {
        let limit = |name: &str| match attribute(name).as_i64() {
            None => Ok(DEFAULT_LIMIT),
            Some(limit @ 0..=65_535) => Ok(limit as usize),
            Some(limit) => Err(format!(
                "the attribute '{name}' is {limit}, but must be 0 to 65535"
            )),
        };
        let list = |name: &str| match attribute(name) {
            Value::Null => Ok(Vec::new()),
            value => words(value).map_err(|problem| format!("the attribute '{name}' {problem}")),
        };
        let mut vhost = Self {
            hostname: attribute("hostname").as_str().unwrap_or_default().into(),
            aliases: list("aliases")?,
            max_connections: limit("maxConnections")?,
            max_connections_per_user: limit("maxConnectionsPerUser")?,
            max_connections_per_host: limit("maxConnectionsPerHost")?,
            allow_unknown_user: attribute("allowUnknownUser").as_bool() == Some(true),
            revoked: list("revoked")?,
            groups: BTreeMap::new(),
            group_of_user: BTreeMap::new(),
        };
        for (name, settings) in attribute("groups").as_map().unwrap_or_default() {
            let name = name.as_str().unwrap_or_default();
            vhost
                .add_group(name, settings)
                .map_err(|problem| format!("the attribute 'groups': group '{name}': {problem}"))?;
        }
        vhost.check()?;
        Ok(vhost)
    }

    fn add_group(&mut self, name: &str, settings: &Value) -> Result<(), String> {
        let settings = settings.as_map().ok_or("must be a map of attributes")?;
        let group = Group::read(settings)?;
        for user in &group.users {
            let other = self.group_of_user.insert(user.clone(), name.to_owned());
            if let Some(other) = other.filter(|other| other != name) {
                return Err(format!(
                    "the user '{user}' is in the group '{other}' already"
                ));
            }
        }
        self.groups.insert(name.to_owned(), Arc::new(group));
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if self.allow_unknown_user && !self.groups.contains_key(DEFAULT_GROUP) {
            return Err(format!(
                "the attribute 'allowUnknownUser' is yes, but 'groups' has no '{DEFAULT_GROUP}'"
            ));
        }
        for (at, alias) in self.aliases.iter().enumerate() {
            if *alias == self.hostname || self.aliases[..at].contains(alias) {
                return Err(format!("the attribute 'aliases' names '{alias}' twice"));
            }
        }
        Ok(())
    }

    /// Its hostname and its aliases.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let aliases = self.aliases.iter().map(String::as_str);
        [&*self.hostname].into_iter().chain(aliases)
    }

    /// Settings that no group has, by group.
    pub(crate) fn unknown_settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.groups.iter().flat_map(|(name, group)| {
            let settings = group.unknown.iter();
            settings.map(|setting| (name.as_str(), setting.as_str()))
        })
    }

    /// The group that speaks for a peer: by user, by certificate and neighbour, that of everyone
    /// (`*`), or the default one.
    pub(super) fn group(&self, peer: &Opening<'_>) -> Option<(&str, &Arc<Group>)> {
        let user = self.group_of_user.get(peer.user).map(String::as_str);
        let shown = || {
            let mut groups = self.groups.iter();
            groups.find(|(_, group)| matches_peer(group, peer))
        };
        let name = user
            .or_else(|| shown().map(|(name, _)| name.as_str()))
            .or_else(|| self.group_of_user.get("*").map(String::as_str))
            .or_else(|| self.allow_unknown_user.then_some(DEFAULT_GROUP))?;
        self.groups
            .get_key_value(name)
            .map(|(name, group)| (name.as_str(), group))
    }

    /// The name by which a peer is turned away.
    pub(super) fn revokes(&self, peer: &Opening<'_>) -> Option<&str> {
        let neighbor = peer.neighbor.map(|id| format!("router:{id}"));
        let is_peer = |name: &&String| {
            **name == *peer.user
                || Some(*name) == neighbor.as_ref()
                || peer.certificate.iter().any(|shown| shown == *name)
        };
        self.revoked.iter().find(is_peer).map(String::as_str)
    }

    /// The settings of outgoing connections.
    pub(super) fn connector_group(&self) -> Option<&Arc<Group>> {
        self.groups.get(CONNECTOR_GROUP)
    }
}

/// Whether a group names the peer by what it has shown. Where a group names certificates and
/// neighbours, both must fit: a neighbour's id alone is only what it says of itself.
fn matches_peer(group: &Group, peer: &Opening<'_>) -> bool {
    let certified = group.certificates.iter().any(|wanted| {
        peer.certificate
            .iter()
            .any(|shown| matches_name(wanted, shown))
    });
    let neighbor = peer
        .neighbor
        .is_some_and(|id| group.neighbors.iter().any(|wanted| wanted == id));
    match (group.certificates.is_empty(), group.neighbors.is_empty()) {
        (true, true) => false,
        (false, true) => certified,
        (true, false) => neighbor,
        (false, false) => certified && neighbor,
    }
}

fn matches_name(wanted: &str, shown: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(prefix) => shown.starts_with(prefix),
        None => shown == wanted,
    }
}

/// The group of users that no group names, where `allowUnknownUser` lets them in.
const DEFAULT_GROUP: &str = "$default";
/// The group of connections that a connector with this vhost as `policyVhost` makes.
const CONNECTOR_GROUP: &str = "$connector";
const DEFAULT_LIMIT: usize = 65_535;
